"""Making a regimen ready, running it in chunks, and what cannot be simulated."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.cards.population_cards import load_population
from pkpd.course import simulate as module
from pkpd.course.simulate import prepare
from pkpd.errors import PkpdError
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.model.parameters import draw_parameters
from pkpd.schedule import Criterion, Gate, daily
from pkpd.subjects import sample_population

POPULATION = load_population("mds_post_hma")
SAMPLE = sample_population(POPULATION, 4, 2)
LENALIDOMIDE = daily("lenalidomide", "10 mg", days="1-7", route="oral")
ALEMTUZUMAB = daily("alemtuzumab", "30 mg", days="1,3,5", route="iv", duration="2 h")


def ready(regimen, days=21, **options):
    model = load_model(drugs=regimen.drugs)
    return model, prepare(model, regimen, SAMPLE, days, population=POPULATION, **options)


def test_lanes_are_draw_major_and_nodes_are_days_from_the_first():
    model, simulator = ready(LENALIDOMIDE)
    values = draw_parameters(model, POPULATION, 3, 1)
    got = simulator.run(values, np.array([2, 0]))
    individual = individual_parameters(model, values, SAMPLE)
    for j, draw in enumerate((2, 0)):
        lanes = slice(j * SAMPLE.n, (j + 1) * SAMPLE.n)
        for line in ("neutrophils", "platelets"):
            np.testing.assert_allclose(
                got.curve.log_count[line][lanes, 0], np.log(individual[f"{line}.baseline"][draw])
            )
            np.testing.assert_allclose(
                got.set_point[line][lanes], individual[f"{line}.set_point"][draw]
            )
    assert got.curve.time_h[0] == 0.0
    assert got.curve.time_h[-1] == 21 * 24.0
    assert set(np.arange(0.0, 21 * 24.0, 6.0)) <= set(got.curve.time_h)
    assert (np.diff(got.curve.time_h) <= 6.0 + 1e-9).all()
    assert got.transfused.shape == got.platelets_with_transfused.shape == (8, 21)
    assert got.amount.shape == (8, 21, 1)
    np.testing.assert_array_equal(got.amount[:, :, 0].sum(axis=1), 70.0)
    np.testing.assert_array_equal(got.first_day, 1)


def test_slopes_are_the_derivatives_of_the_curves():
    model, simulator = ready(LENALIDOMIDE)
    got = simulator.run(draw_parameters(model, POPULATION, 2, 1), np.arange(2))
    for line in ("neutrophils", "platelets"):
        y, t = got.curve.log_count[line], got.curve.time_h
        central = (y[:, 2:] - y[:, :-2]) / (t[2:] - t[:-2])
        # a central difference over 12 h of a curve that changes within days
        np.testing.assert_allclose(got.curve.slope[line][:, 1:-1], central, atol=2e-4)


@pytest.mark.parametrize("patients", [1, 3, 7])
@pytest.mark.parametrize("draws", [1, 10, 13, 200])
@pytest.mark.parametrize("lanes", [1, 10, 2000])
def test_chunks_hold_every_draw_once_and_fit(patients, draws, lanes):
    sample = sample_population(POPULATION, patients, 2)
    model = load_model(drugs=["lenalidomide"])
    simulator = prepare(model, LENALIDOMIDE, sample, 7, population=POPULATION)
    chunks = list(simulator.chunks({"x": np.zeros(draws)}, lanes))
    np.testing.assert_array_equal(np.concatenate(chunks), np.arange(draws))
    assert all(chunk.size * patients <= max(lanes, patients) for chunk in chunks)
    assert len({chunk.size for chunk in chunks[:-1]}) <= 1


def test_occasions_count_the_dosing_days_of_drugs_that_vary():
    first = daily("clofarabine", "5 mg/m^2", days="1", route="iv", duration="2 h")
    later = daily("clofarabine", "5 mg/m^2", days="2-5", route="iv", duration="1 h")
    regimen = first.together(later).repeat(2, 28).then(LENALIDOMIDE)
    _, simulator = ready(regimen, 63)
    # five days in each of two cycles, though no single slot has more than four
    assert {v.shape for v in simulator.occasion.values()} == {(10, SAMPLE.n)}
    _, none = ready(LENALIDOMIDE)
    assert none.occasion == {}


def test_a_drug_added_leaves_the_patients_and_draws_of_others_alone():
    alone = load_model(drugs=["lenalidomide"])
    both = load_model(drugs=["clofarabine", "lenalidomide"])
    a, b = (draw_parameters(m, POPULATION, 5, 9) for m in (alone, both))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    first, second = (individual_parameters(m, v, SAMPLE) for m, v in ((alone, a), (both, b)))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_the_infusion_of_saturable_drugs_is_the_individual_dose(monkeypatch):
    seen = {}
    solve = module.michaelis_menten_iv

    def spy(p, doses, grid, **options):
        seen["doses"] = doses
        return solve(p, doses, grid, **options)

    monkeypatch.setattr(module, "michaelis_menten_iv", spy)
    regimen = daily(
        "alemtuzumab",
        "0.5 mg/kg",
        days="1,2",
        route="iv",
        duration="2 h",
        cap_mg=35.0,
        strengths_mg=(5.0,),
    )
    ready(regimen, 7)
    times, amounts, durations = seen["doses"]
    np.testing.assert_array_equal(times, [0.0, 24.0])
    np.testing.assert_array_equal(durations, [2.0, 2.0])
    expected = 5.0 * np.floor(np.minimum(0.5 * SAMPLE["weight"], 35.0) / 5.0 + 0.5)
    np.testing.assert_allclose(amounts, np.stack([expected, expected]))


def test_a_failed_solution_is_told(monkeypatch):
    solve = module.michaelis_menten_iv
    monkeypatch.setattr(
        module, "michaelis_menten_iv", lambda *a, **k: solve(*a, **{**k, "max_steps": 1})
    )
    with pytest.raises(PkpdError, match=r"drug alemtuzumab, patient 1: the step limit"):
        ready(ALEMTUZUMAB, 7)


def test_what_cannot_be_simulated_is_refused():
    model = load_model(drugs=["lenalidomide"])
    with pytest.raises(PkpdError, match="has no drug 'clofarabine'"):
        prepare(
            model, daily("clofarabine", "5 mg", days="1", route="iv"), SAMPLE, 7,
            population=POPULATION,
        )  # fmt: skip
    with pytest.raises(PkpdError, match="Bliss independence with a drug of saturable"):
        ready(ALEMTUZUMAB, combination="bliss")
    gate = Gate((Criterion("neutrophils", 0.5),))
    gated = ALEMTUZUMAB.repeat(2, 14).with_between(gate)
    with pytest.raises(PkpdError, match="saturable elimination in a regimen with gates"):
        ready(gated, 28)
    with pytest.raises(PkpdError, match="horizon_days"):
        ready(LENALIDOMIDE, 0)
