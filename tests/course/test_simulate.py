"""Making a regimen ready, running it in chunks, and what cannot be simulated."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.cards.population_cards import load_population
from pkpd.course.simulate import prepare
from pkpd.errors import PkpdError
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.schedule import daily
from pkpd.subjects import sample_population

POPULATION = load_population("mds_post_hma")
SAMPLE = sample_population(POPULATION, 4, 2)
LENALIDOMIDE = daily("lenalidomide", "10 mg", days="1-7", route="oral")
ALEMTUZUMAB = daily("alemtuzumab", "30 mg", days="1,3,5", route="iv", duration="2 h")


def ready(regimen, days=21, **options):
    model = load_model(drugs=regimen.drugs)
    return model, prepare(model, regimen, SAMPLE, days, **options)


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


def test_a_growth_factor_of_the_schedule_has_its_own_hour():
    model = load_model(drugs=["clofarabine"], replace={"neutrophils": "quartino2014_docetaxel"})
    given = daily("filgrastim", "5 ug/kg", days="8-14", route="sc", hour=9.0)
    first = daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    simulator = prepare(model, first.together(given), SAMPLE, 21)
    assert 9.0 in simulator.anatomy.edges


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
    simulator = prepare(model, LENALIDOMIDE, sample, 7)
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


def test_saturable_kinetics_that_cannot_be_solved_are_told():
    model, simulator = ready(ALEMTUZUMAB, 7)
    values = typical(model, POPULATION)
    # the drug ends within less than the shortest step; a longer one leaps to amounts below zero
    for km in (1e-8, 1e-12, 1e-20):
        values["alemtuzumab.Km"] = np.array([km])
        with pytest.raises(PkpdError, match=r"drug alemtuzumab, patient 1: its kinetics could not"):
            simulator.run(values, np.arange(1))


@pytest.mark.parametrize("name", ["alemtuzumab.V1", "neutrophils.MTT"])
def test_parameters_that_are_no_numbers_are_told(name):
    model, simulator = ready(ALEMTUZUMAB, 7)
    values = typical(model, POPULATION)
    values[name] = np.array([np.nan])
    with pytest.raises(PkpdError, match=rf"patients: {name} is nan in lane 1"):
        simulator.run(values, np.arange(1))


def test_without_a_curve_the_mornings_are_the_same():
    model, simulator = ready(LENALIDOMIDE)
    _, mornings = ready(LENALIDOMIDE, curve=False)
    values = draw_parameters(model, POPULATION, 2, 1)
    a, b = simulator.run(values, np.arange(2)), mornings.run(values, np.arange(2))
    assert b.curve is None
    for line in ("neutrophils", "platelets"):
        np.testing.assert_array_equal(a.mornings[line], b.mornings[line])
        per_day = (simulator.time_h.size - 1) // 21
        np.testing.assert_allclose(
            np.exp(a.curve.log_count[line][:, :-1:per_day]), a.mornings[line], rtol=1e-14
        )


def test_what_cannot_be_simulated_is_refused():
    model = load_model(drugs=["lenalidomide"])
    with pytest.raises(PkpdError, match="has no drug 'clofarabine'"):
        prepare(model, daily("clofarabine", "5 mg", days="1", route="iv"), SAMPLE, 7)
    with pytest.raises(PkpdError, match="rule 'loewe'; allowed: additive, bliss"):
        ready(LENALIDOMIDE, combination="loewe")
    with pytest.raises(PkpdError, match="horizon_days"):
        ready(LENALIDOMIDE, 0)
