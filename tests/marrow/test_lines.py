"""Marrow lines by name, and published structures as cards: simulated as any other card is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkpd.cards.files import card_folder
from pkpd.cards.model_cards import load_model_card
from pkpd.cards.population_cards import load_population
from pkpd.course.simulate import prepare
from pkpd.errors import CardError, PkpdError
from pkpd.marrow.friberg import Friberg, PlateletChain, relaxation_rate
from pkpd.marrow.gcsf import GcsfMarrow
from pkpd.marrow.lines import line_of_card, marrow_line
from pkpd.marrow.stem_cell import StemCellMarrow
from pkpd.model.individuals import individual_parameters
from pkpd.model.joint import load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.schedule import daily, on_off
from pkpd.subjects import sample_population

GCSF, STEM = "quartino2014_docetaxel", "henrich2017_stem_cells"
CARDS = {GCSF: GcsfMarrow(), STEM: StemCellMarrow(circulation="own")}
DRAWN = sample_population(load_population("mds_post_hma"), 8, 3)
ANC = np.linspace(1.0, 6.0, DRAWN.n)
SAMPLE = replace(DRAWN, covariates={**DRAWN.covariates, "anc": ANC, "plt": 40.0 * ANC})
KILL = daily("cyclophosphamide", "300 mg/m^2", days="1-3", route="iv", duration="1 h")
EFFECT = daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")


def simulated(card, regimen, days, values=None, **options):
    """Times, neutrophils ``[patients, nodes]``, set points; marrows return to where they start."""
    model = load_model(drugs=regimen.drugs, replace={"neutrophils": str(card)})
    values = typical(model) if values is None else values
    got = prepare(model, regimen, SAMPLE, days, transfusion=None, **options).run(
        values, np.arange(1)
    )
    return (
        got.curve.time_h,
        np.exp(got.curve.log_count["neutrophils"]),
        got.set_point["neutrophils"],
    )


def test_lines_by_name_and_refusals():
    assert marrow_line("friberg", transits=1, circulation="own") == Friberg(1, "own")
    assert marrow_line("platelet_chain").parameters[-1] == "ks"
    assert marrow_line("stem_cell", saturation=0.1) == StemCellMarrow(saturation=0.1)
    assert marrow_line("gcsf", g_csf="state") == GcsfMarrow(g_csf="state")
    names = "friberg, platelet_chain, stem_cell, gcsf"
    with pytest.raises(PkpdError, match=rf"unknown name 'henrich'.*{names}"):
        marrow_line("henrich")
    for name in ("friberg", "platelet_chain", "stem_cell", "gcsf"):
        with pytest.raises(PkpdError, match=rf"'{name}': unknown option 'n'.*transits"):
            marrow_line(name, n=3)
    with pytest.raises(PkpdError, match=r"unknown option 'saturation'"):
        marrow_line("gcsf", saturation=0.1)


def test_a_card_describes_its_line():
    settings = {"transits": 3, "saturation": 0.001}
    friberg = load_model_card("marrow", "friberg_leukaemia")
    assert line_of_card(friberg, "off") == Friberg(
        **settings, circulation="own", feedback_rule="off"
    )
    platelets = load_model_card("marrow", "perezruixo2016_platelets")
    assert line_of_card(platelets) == PlateletChain(saturation=0.1)
    for name, line in CARDS.items():
        assert line_of_card(load_model_card("marrow", name)) == line


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_a_card_gives_all_that_its_line_reads_and_a_marrow_that_settles(name):
    model = load_model(drugs=[], replace={"neutrophils": name})
    values = individual_parameters(model, typical(model), SAMPLE)
    line = line_of_card(model.line("neutrophils"))
    p = {key: values[f"neutrophils.{key}"][0] for key in line.parameters}
    assert (relaxation_rate(line, p) < 0.0).all()


def test_the_values_are_those_that_were_transcribed():
    model = load_model(drugs=[], replace={"neutrophils": GCSF})
    values = typical(model)
    got = individual_parameters(model, values, replace(SAMPLE, typical=True))
    for name, value in (
        ("baseline", 3.53),
        ("set_point", 3.53),
        ("MTT", 133.0),
        ("gamma", 0.444),
        ("beta", 0.234),
        ("k_circ", np.log(2) / 7.0),
        ("ke", 0.592),
        ("k_anc", 5.64),
        ("g0", 24.3e-6),
    ):
        np.testing.assert_allclose(got[f"neutrophils.{name}"], value, rtol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_no_drug_leaves_the_neutrophils_alone_for_a_year(name):
    regimen = on_off("dexamethasone", "40 mg", on=4, off=24, cycles=13)  # no effect on counts
    _, count, set_point = simulated(name, regimen, 365)
    if name == STEM:
        np.testing.assert_allclose(set_point, ANC, rtol=1e-12)
    np.testing.assert_allclose(count, set_point[:, None] + 0.0 * count, rtol=1e-6)


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize(
    "course",
    [pytest.param(KILL, marks=pytest.mark.slow), pytest.param(EFFECT, marks=pytest.mark.long)],
    ids=lambda course: course.drugs[0],
)
def test_neutrophils_fall_and_recover_after_a_course(name, course):
    time_h, count, set_point = simulated(name, course, 150)
    relative = count / set_point[:, None]
    nadir = time_h[relative.argmin(axis=1)] / 24.0
    assert (relative.min(axis=1) < 0.8).all()
    assert (nadir > 7.0).all()
    assert (nadir < 20.0).all()
    # within rounding with G-CSF; stem cells come back over months
    np.testing.assert_allclose(relative[:, -1], 1.0, rtol=1e-3 if name == GCSF else 0.08)


def in_counts(name, p, kill, days):
    """Neutrophils each morning by DOP853 on the published equations; ``kill`` per hour by day."""
    stem = name == STEM
    ktr = (4.0 if stem else 5.0) / p["MTT"]
    loss = p["k_circ"]
    ftr = p["ftr"] if stem else 1.0

    def rates(t, y, removed):
        blood = y[-1]
        transit, d = y[1:-1], np.empty_like(y)
        if stem:
            growth, speed = (p["set_point"] / blood) ** p["gamma"], 1.0
            d[0] = (1.0 - ftr) * ktr * y[0] * (growth - 1.0) - removed * y[0]
            d[1] = (
                ftr * ktr * y[1] * growth + (1.0 - ftr) * ktr * y[0] - ktr * y[1] - removed * y[1]
            )
        else:
            normal = p["ke"] + p["k_anc"] * p["set_point"]
            level = normal / (p["ke"] + p["k_anc"] * blood)
            speed = level ** p["beta"]
            d[1] = ktr * y[1] * (level ** p["gamma"] - speed) - removed * y[1]
            d[0] = 0.0
        d[2:-1] = ktr * speed * (transit[:-1] - transit[1:])
        d[-1] = ktr * speed * y[-2] - loss * blood
        return d

    y = np.full((3 if stem else 4) + 3, p["baseline"] * loss / ktr)
    y[-1] = p["baseline"]
    counts = []
    for day in range(days):
        counts.append(y[-1])
        y = solve_ivp(rates, (0.0, 24.0), y, method="DOP853", rtol=1e-11, atol=1e-13,
                      args=(kill[day],)).y[:, -1]  # fmt: skip
    return np.array(counts)


@pytest.mark.parametrize("name", CARDS)
def test_counts_follow_the_published_equations(name):
    days = 40
    model = load_model(drugs=KILL.drugs, replace={"neutrophils": name})
    values = individual_parameters(model, typical(model), SAMPLE)
    drug = model.drug("cyclophosphamide")
    per_day = 300.0 / drug.kill_reference_mg_m2 * values[f"{drug.name}.effect.ln_kill_neutrophils"]
    time_h, count, _ = simulated(name, KILL, days)
    mornings = count[:, np.isin(time_h, 24.0 * np.arange(days))]
    for i in range(SAMPLE.n):
        line = line_of_card(model.line("neutrophils"))
        p = {key: float(values[f"neutrophils.{key}"][0, i]) for key in line.parameters}
        assert getattr(line, "saturation", 0.0) == 0.0
        kill = [float(per_day[0, i]) / 24.0] * 3 + [0.0] * (days - 3)
        expected = in_counts(name, p, kill, days)
        # measured at cells of 6 h: 9e-5 with G-CSF, 1e-5 with stem cells
        np.testing.assert_allclose(mornings[i], expected, rtol=2e-4)


@pytest.mark.parametrize("name", CARDS)
def test_the_usual_step_is_as_good_as_for_fribergs_chain(name):
    time_h, count, _ = simulated(name, KILL, 30)
    fine_h, fine, _ = simulated(name, KILL, 30, max_step_h=1.5)
    np.testing.assert_allclose(count, fine[:, np.searchsorted(fine_h, time_h)], rtol=2e-4)


def test_without_a_share_of_stem_cells_the_card_is_that_of_friberg():
    """The cards differ by the share alone; ``ftr`` is set to 1 in the draw."""
    model = load_model(drugs=KILL.drugs, replace={"neutrophils": STEM})
    alone = typical(model) | {"neutrophils.ftr": np.array([1.0])}
    _, got, _ = simulated(STEM, KILL, 60, alone, max_step_h=1.5)
    _, expected, _ = simulated("friberg_solid", KILL, 60, max_step_h=1.5)
    # one scheme on two scales of the dividing cells, at steps of 1.5 h
    np.testing.assert_allclose(got, expected, rtol=2e-6)
    _, with_stem_cells, _ = simulated(STEM, KILL, 60, max_step_h=1.5)
    assert np.abs(with_stem_cells / expected - 1.0).max() > 0.1


def test_prior_draws_of_the_share_stay_inside_its_limits():
    model = load_model(drugs=[], replace={"neutrophils": STEM})
    share = draw_parameters(model, None, 200, 1)["neutrophils.ftr"]
    assert share.min() > 0.0
    assert share.max() < 1.0
    np.testing.assert_allclose(np.quantile(share, [0.025, 0.5, 0.975]), [0.5, 0.7, 0.9], atol=0.02)


@pytest.mark.parametrize(("name", "missing"), [(STEM, "ftr"), (GCSF, "k_anc")])
def test_a_card_without_a_parameter_of_its_line_is_refused(name, missing, tmp_path):
    text = (Path(str(card_folder("marrow"))) / f"{name}.toml").read_text()
    start = text.index(f"[parameters.{missing}]")
    own = tmp_path / f"{name}.toml"
    own.write_text(text[:start] + text[text.index("\n[", start) :])
    with pytest.raises(CardError, match=f"needs '{missing}', which is not given"):
        load_model(drugs=[], replace={"neutrophils": str(own)})
