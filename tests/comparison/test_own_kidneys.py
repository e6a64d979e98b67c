"""Cohorts with kidneys of their own: the patients of a file whose kidneys are moved, paired."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.cards.trial_cards import load_trial, patients_of_cohort, population_of
from pkpd.comparison.run import compare
from pkpd.comparison.simulated import kidneys_in_words
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.errors import CardError
from pkpd.explorer.simulation import explore
from pkpd.explorer.state import read_state
from pkpd.forecasting.command import source_of_cohort
from pkpd.search import search_schedules
from pkpd.subjects import sample_population

SIZE = {"patients": 40, "draws": 6}
LOW = "median_creatinine_clearance_mL_min = 25"
FILE = """
title = "Lenalidomide"
population = "mds_post_hma"
rule = "leukemia_d42_generic"
rule_is_protocols = false
horizon_days = 60
{top}

[dose.lenalidomide]
amount = "25 mg"
days = "1-21"
route = "oral"

[course.treatment]
doses = ["lenalidomide"]
cycle_days = 28
{cohorts}
"""
BOTH = f"""
[[cohort]]
id = "usual"
[[cohort]]
id = "low"
patients = {{ {LOW} }}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file with two cohorts, and one for each: the same by what was there before."""
    folder = tmp_path_factory.mktemp("kidneys")
    texts = {
        "both": FILE.format(top="", cohorts=BOTH),
        "usual": FILE.format(top="", cohorts='[[cohort]]\nid = "usual"'),
        "low": FILE.format(top=f"[patients]\n{LOW}", cohorts='[[cohort]]\nid = "low"'),
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_a_cohort_is_the_file_with_such_kidneys_and_the_difference_is_paired(
    files, marrow, posterior
):
    how = {**SIZE, "marrow": marrow, "posterior": posterior if marrow == "leukaemia" else None}
    both, usual, low = (compare(files / f"{n}.toml", **how) for n in ("both", "usual", "low"))
    for name, alone in (("usual", usual), ("low", low)):
        rows = [_numbers(row) for row in both.trials[0].rows if row.cohort == name]
        assert rows == [_numbers(row) for row in alone.trials[0].rows]
        levels = [_level(row) for row in both.trials[0].exposures if row.cohort == name]
        assert levels == [_level(row) for row in alone.trials[0].exposures]
    nadirs = {r.cohort: r.estimate for r in both.trials[0].rows if r.endpoint == "nadir"}
    assert nadirs["low"] < nadirs["usual"]  # a drug of the kidneys: so that the test can fail
    risks = {r.cohort: r.estimate for r in both.trials[0].rows if r.endpoint == "dlt"}
    pair = both.trials[0].pairs[0]
    assert (pair.first, pair.second) == ("usual", "low")
    if marrow == "friberg":  # where everybody is judged, the difference is that of the risks
        assert pair.difference == pytest.approx(risks["usual"] - risks["low"])
    areas = next(r for r in both.trials[0].exposure_ratios if r.measure == "auc")
    assert areas.patients_upper < 1.0  # low kidneys get more in every patient


def _numbers(row):
    """Numbers of a row as text, so that unknown ones are equal."""
    numbers = (row.estimate, row.lower, row.upper, row.mc_error, row.evaluable)
    return row.endpoint, row.line, row.rule, *map(repr, numbers)


def _level(row):
    """Exposure of a row as text, so that unknown ones are equal."""
    numbers = (row.estimate, row.patients_lower, row.patients_upper, row.lanes)
    return row.drug, row.measure, row.when, *map(repr, numbers)


def test_search_explorer_and_forecast_simulate_the_same(files, posterior):
    how = {**SIZE, "marrow": "friberg"}
    rows = compare(files / "both.toml", **how).trials[0].rows
    expected = {r.cohort: r.estimate for r in rows if r.endpoint == "dlt"}
    answer = search_schedules(
        files / "both.toml", **how, repeat=False, limits=(), objectives=["dlt"]
    ).answers["without leukaemia"]
    assert {n: f["dlt"].mean for n, f in answer.figures.items()} == pytest.approx(expected)
    text = (files / "both.toml").read_text()
    state = read_state({"toml": text, **SIZE, "ensemble": "cards"}, files)
    shown = explore(state).result.rows
    assert {r.cohort: r.estimate for r in shown if r.endpoint == "dlt"} == pytest.approx(expected)
    trial = load_trial(files / "both.toml")
    for cohort in trial.cohorts:
        made = source_of_cohort(trial, cohort, "friberg", None, 2, 1)
        assert isinstance(made, CardsEnsemble)
        moved = patients_of_cohort(cohort, population_of(trial))
        np.testing.assert_array_equal(made.sample["crcl"], sample_population(moved, 1, 1)["crcl"])


def test_only_the_kidneys_differ(files):
    trial = load_trial(files / "both.toml")
    usual, low = (
        sample_population(patients_of_cohort(c, population_of(trial)), 500, 3)
        for c in trial.cohorts
    )
    same = set(usual.covariates) - {"crcl", "scr", "scr_umol_L"}
    for name in same:
        np.testing.assert_array_equal(usual[name], low[name])
    # Cockcroft and Gault: clearance is inverse in creatinine
    np.testing.assert_allclose(usual["crcl"] * usual["scr"], low["crcl"] * low["scr"])
    assert np.median(low["crcl"]) == pytest.approx(25.0, rel=0.05)


def test_the_label_is_told_where_kidneys_are_set(files):
    trial = load_trial(files / "both.toml")
    told = kidneys_in_words(trial, population_of(trial))
    assert told[0].startswith("low: median age")
    crcl = sample_population(patients_of_cohort(trial.cohort("low"), population_of(trial)), 512, 1)[
        "crcl"
    ]
    share = 100.0 * np.mean(crcl < 30.0)
    assert f"below 30 mL/min ({share:.0f} % of low)" in told[1]
    assert "US label" in told[1]
    assert told[1].endswith("not applied")
    cohorts = '[[cohort]]\nid = "a"\n[[cohort]]\nid = "b"'
    (files / "alike.toml").write_text(FILE.format(top=f"[patients]\n{LOW}", cohorts=cohorts))
    alike = load_trial(files / "alike.toml")
    (label,) = kidneys_in_words(alike, population_of(alike))
    assert f"below 30 mL/min ({share:.0f} % of patients)" in label
    plain = load_trial(files / "usual.toml")
    assert kidneys_in_words(plain, population_of(plain)) == []


def test_a_card_without_a_word_of_kidneys_says_so(files):
    path = files / "cytarabine.toml"
    text = FILE.format(top=f"[patients]\n{LOW}", cohorts="").replace("lenalidomide", "cytarabine")
    path.write_text(text.replace("25 mg", "100 mg/m^2").replace("oral", "iv"))
    trial = load_trial(path)
    told = kidneys_in_words(trial, population_of(trial))
    assert told == ["the card of cytarabine says nothing of its label's doses by kidney function"]


def test_an_unknown_median_is_refused(files):
    path = files / "wrong.toml"
    path.write_text(FILE.format(top="", cohorts=BOTH.replace("median_creat", "creat")))
    with pytest.raises(CardError, match=r"wrong.toml.*cohort.*creatinine_clearance_mL_min"):
        load_trial(path)


def test_a_menu_keeps_cohorts_that_differ_in_kidneys_alone(files):
    from pkpd.search import load_menu

    path = files / "menu.toml"
    grid = '\n[grid.lenalidomide]\namount = ["10 mg", "25 mg"]\n'
    path.write_text(FILE.format(top='kind = "menu"', cohorts=BOTH) + grid)
    assert len(load_menu(path).members) == 4
