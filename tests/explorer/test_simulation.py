"""The explorer's figures are those of `pkpd.compare` of the same file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest

import pkpd
from pkpd.course.joined import joined, of_draws
from pkpd.errors import DataError
from pkpd.evidence.criticism import trial_predictions
from pkpd.explorer import simulation
from pkpd.explorer.script import command_line, script
from pkpd.explorer.simulation import explore
from pkpd.explorer.state import read_state
from pkpd.explorer.toml import write_toml
from pkpd.explorer.words import csv_of, page_content
from pkpd.leukaemia.simulate import PreparedArm


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    from tests.explorer.conftest import DATA, SIZE

    folder = tmp_path_factory.mktemp("work")
    state = read_state({"data": DATA, **SIZE}, folder)
    return explore(state)


@pytest.fixture(scope="module")
def compared(found):
    state = found.state
    path = state.folder / "explored.toml"
    path.write_text(write_toml(state.data))
    return pkpd.compare(path, patients=state.patients, draws=state.draws, jobs=1)


def test_rows_are_those_of_a_comparison(found, compared):
    _rows_are_those_of_a_comparison(found, compared)


def _rows_are_those_of_a_comparison(found, compared):
    (trial,) = compared.trials
    theirs = {(r.cohort, r.endpoint, r.line, r.rule): r for r in trial.rows}
    assert len(found.result.rows) > 20
    for row in found.result.rows:
        other = theirs[row.cohort, row.endpoint, row.line, row.rule]
        for name in ("estimate", "lower", "upper", "mc_error", "evaluable", "published"):
            ours, its = getattr(row, name), getattr(other, name)
            assert ours == pytest.approx(its, nan_ok=True, rel=1e-12), (row.endpoint, name)


def test_pairs_and_curves_are_those_of_a_comparison(found, compared):
    (trial,) = compared.trials
    ours = [pair for pair in found.differences if pair.rule == found.rule.name]
    assert ours == list(trial.pairs)
    for name in ("counts", "split", "dose_given"):
        mine, other = found.result.curves[name], trial.curves[name]
        np.testing.assert_allclose(mine.values, other.values, rtol=1e-12)
    curves = found.result.curves.dataset()
    for criterion in map(str, curves["criterion"].values):
        mine = curves["recovered_interval"].sel(criterion=criterion)
        line, _, at = criterion.partition(" >= ")
        name = f"{line} >= {float(at):.1f}" if float(at) < 10 else criterion
        other = trial.curves["recovered_interval"].sel(criterion=name)
        np.testing.assert_allclose(mine.values, other.values, rtol=1e-12)


def test_shares_that_differ_are_counted_in_the_same_patients(found):
    """The difference of two shares is that of the split on the rule's day, by hand."""
    at = found.result.curves.dataset()["split"].sel(day=43)
    for pair in found.differences:
        if pair.rule != "died by day 42":
            continue
        low, high = (float(at.sel(cohort=c, state="died")) for c in (pair.first, pair.second))
        assert pair.difference == pytest.approx(low - high, abs=1e-12)
    assert {p.rule for p in found.differences} >= {"died by day 42", "not recovered by day 42"}


def test_only_the_schedule_that_changed_is_simulated_again(document, folder, data, monkeypatch):
    simulated = []
    look = simulation._look
    monkeypatch.setattr(
        simulation, "_look", lambda item, n, *rest: simulated.append(n) or look(item, n, *rest)
    )
    data["title"] = "another title than that of other tests"
    first = explore(read_state(document, folder))
    assert sorted(simulated) == [0, 1]  # side by side
    data["cohort"][1]["change"]["clofarabine"]["amount"] = "30 mg/m^2"
    second = explore(read_state(document, folder))
    assert simulated[2:] == [1]
    counts = [one.result.curves["counts"].values for one in (first, second)]
    np.testing.assert_array_equal(counts[0][0], counts[1][0])
    assert (counts[0][1] != counts[1][1]).any()


def test_another_rule_judges_the_courses_that_are_there(document, folder, data, monkeypatch):
    data["title"] = "a title of this test alone"
    first = explore(read_state(document, folder))
    data["rule_change"] = {"by_day": 33, "recovered": {"neutrophils": 0.7, "platelets": 30}}
    together, simulated = simulation.joined, []
    monkeypatch.setattr(
        simulation, "joined", lambda courses: simulated.append(1) or together(courses)
    )
    changed = explore(read_state(document, folder))
    assert not simulated
    simulation._COURSES.clear()
    simulation._LOOKS.clear()
    again = explore(read_state(document, folder))
    assert page_content(changed) == page_content(again) != page_content(first)
    assert len(simulated) == 2
    data["patients"] = {"median_age_years": 45}
    explore(read_state(document, folder))
    assert len(simulated) == 4


def test_courses_that_are_kept_are_bounded(document, folder, data, monkeypatch):
    simulation._COURSES.clear()
    explore(read_state(document, folder))
    of_one = simulation._COURSES.total / 2
    monkeypatch.setattr(simulation._COURSES, "most", 3 * of_one)
    for age in (50, 51, 52):
        data["patients"] = {"median_age_years": age}
        explore(read_state(document, folder))
        assert 0 < simulation._COURSES.total <= 3 * of_one


MOVES = {
    "dose": lambda data: data["dose"]["clofarabine"].update(amount="17 mg/m^2"),
    "dose of one": lambda data: data["cohort"][1]["change"]["clofarabine"].update(
        amount="33 mg/m^2"
    ),
    "days": lambda data: data["dose"]["clofarabine"].update(days="1-4"),
    "cap": lambda data: data["dose"]["clofarabine"].update(cap_mg=30),
    "infusion": lambda data: data["dose"]["clofarabine"].update(duration="2 h"),
    "horizon": lambda data: data.update(horizon_days=70),
    "age": lambda data: data.update(patients={"median_age_years": 44}),
    "kidneys": lambda data: data.update(patients={"median_creatinine_clearance_mL_min": 40}),
    "growth factor": lambda data: data.update(
        growth_factor={"drug": "filgrastim", "below": 0.5, "from_day": 8}
    ),
    "another drug": lambda data: (
        data["dose"].update(
            etoposide={"amount": "100 mg/m^2", "days": "1-3", "route": "iv", "duration": "1 h"}
        ),
        data["course"]["induction"]["doses"].append("etoposide"),
    ),
}


def _forget():
    for kept in (simulation._COURSES, simulation._LOOKS, trial_predictions._LANES):
        kept.clear()


@pytest.mark.parametrize("move", MOVES)
def test_what_is_kept_of_patients_answers_as_fresh_ones_do(document, folder, data, move):
    data["title"] = f"a title of {move} alone"
    before = page_content(explore(read_state(document, folder)))
    MOVES[move](data)
    kept = json.dumps(page_content(explore(read_state(document, folder))), default=str)
    _forget()
    fresh = json.dumps(page_content(explore(read_state(document, folder))), default=str)
    assert kept == fresh != json.dumps(before, default=str)


@pytest.mark.parametrize("size", [{}, {"seed": 2}, {"draws": 4}, {"patients": 9}])
def test_only_what_the_dose_changes_is_worked_out_again(document, folder, data, monkeypatch, size):
    made, make = [], PreparedArm.lanes
    monkeypatch.setattr(PreparedArm, "lanes", lambda *given: made.append(1) or make(*given))
    _forget()
    explore(read_state(document, folder))
    first = len(made)
    MOVES["dose"](data)
    moved = {**document, **size}
    explore(read_state(moved, folder))
    assert first > 0
    assert (len(made) > first) == bool(size)


def test_patients_that_are_kept_are_bounded(document, folder, data, monkeypatch):
    _forget()
    explore(read_state(document, folder))
    lanes = trial_predictions._LANES
    of_one = lanes.total
    assert of_one == document["patients"] * document["draws"]  # both schedules have the same
    monkeypatch.setattr(lanes, "most", 2 * of_one)
    for age in (50, 51, 52):
        data["patients"] = {"median_age_years": age}
        explore(read_state(document, folder))
        assert 0 < lanes.total <= 2 * of_one


def test_a_sketch_has_the_curves_of_some_draws(document, folder, data):
    data["title"] = "a title of sketches alone"
    state = read_state({**document, "draws": 2 * simulation.SKETCH_DRAWS + 1}, folder)
    sketch = explore(state, sketch=True)
    assert sketch.draws == simulation.SKETCH_DRAWS
    assert (sketch.result.rows, sketch.differences, sketch.dlt) == ((), (), {})
    whole = explore(state)
    some = [draw * state.patients + n for draw in (1, 3, 5, 7, 9) for n in range(state.patients)]
    for number, cohort in enumerate(state.trial.cohorts):
        treated = simulation.ready(state).treated(cohort)
        course = joined([treated.course(draws) for draws in treated.chunks()])
        for name, lanes in (("sketch", some), ("whole", slice(None))):
            drawn = {"sketch": sketch, "whole": whole}[name].result.curves["counts"].values
            for line, values in enumerate(course.laboratory(n)[lanes] for n in course.mornings):
                expected = np.quantile(values, simulation.QUANTILES, axis=0)
                np.testing.assert_allclose(drawn[number, line], expected, rtol=1e-12)
    _forget()
    assert page_content(explore(state)) == page_content(whole)


def test_a_sketch_is_whole_where_no_more_than_judging_is_left(document, folder, data):
    data["title"] = "another title of sketches"
    document["draws"] = 2 * simulation.SKETCH_DRAWS
    explore(read_state(document, folder))
    data["rule_change"] = {"by_day": 33}
    assert explore(read_state(document, folder), sketch=True).result.rows
    MOVES["dose of one"](data)
    moved = explore(read_state(document, folder), sketch=True)
    assert (moved.draws, moved.result.rows) == (simulation.SKETCH_DRAWS, ())
    data["cohort"].reverse()  # the schedule that did not move has the same draws, of its course
    _forget()
    anew = explore(read_state(document, folder), sketch=True)
    for name in ("counts", "split", "recovered_interval"):
        drawn = [found.result.curves[name].values for found in (moved, anew)]
        np.testing.assert_array_equal(drawn[0], drawn[1][::-1])
    document["draws"] -= 1
    assert explore(read_state(document, folder), sketch=True).draws == document["draws"]


@pytest.mark.slow
def test_the_first_picture_waits_for_no_library_that_it_does_without(tmp_path):
    code = (
        "import sys, pkpd.explorer.words\n"
        "from pkpd.comparison.published import clopper_pearson\n"
        "from pkpd.comparison import learned_trial\n"
        "from pkpd.cards.population_cards import load_population\n"
        "from pkpd.subjects import sample_population\n"
        "clopper_pearson(1, 6), sample_population(load_population('rr_aml'), 4, 1)\n"
        "slow = {'scipy.stats', 'scipy.optimize', 'pkpd.fitting', 'pkpd.solve.events'}\n"
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    # the first time quasi-random points are made, with scipy.stats, and kept
    own = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], text=True, capture_output=True, check=False, env=own
        )
    assert done.returncode == 0, done.stderr


def test_moved_patients_and_rule_change_the_figures(document, folder, data):
    data["patients"] = {"median_creatinine_clearance_mL_min": 35}
    data["rule_change"] = {"by_day": 30, "recovered": {"neutrophils": 0.75, "platelets": 40}}
    found = explore(read_state(document, folder))
    assert "clearance 35 mL/min" in found.simulated
    assert (found.rule.by_day, found.rule.name) == (30, "leukemia_d42_generic, changed")
    assert list(found.result.curves["criterion"].values) == [
        "neutrophils >= 0.75",
        "platelets >= 40",
    ]
    path = folder / "explored.toml"
    path.write_text(write_toml(found.state.data))
    size = {"patients": found.state.patients, "draws": found.state.draws}
    _rows_are_those_of_a_comparison(found, pkpd.compare(path, **size, jobs=1))


def test_the_other_marrow_runs(document, folder):
    found = explore(read_state({**document, "ensemble": "cards"}, folder))
    content = page_content(found)
    assert content["states"] == ["recovered", "low"]
    assert "--marrow friberg" in content["command"]


def test_content_has_a_sentence_and_a_table_for_each_picture(found):
    content = page_content(found)
    for name, part in content["sections"].items():
        assert part["sentence"], name
        assert part["table"]["rows"], name
        heads = len(part["table"]["heads"])
        assert all(len(row) == heads for row in part["table"]["rows"]), name
    shares = np.array(content["schedules"][0]["split"])
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-3)
    assert content["schedules"][1]["published"]["text"].startswith("2/6 = 33 %")
    assert content["schedules"][1]["published"]["interval"] == "95 % Clopper-Pearson"
    assert content["schedules"][0]["published"] is None
    assert csv_of(found).startswith("trial,cohort,label,endpoint")


def test_of_many_schedules_the_picture_has_the_differences_from_the_first(document, folder, data):
    data["cohort"].append({"id": "third", "change": {"clofarabine": {"days": "1-3"}}})
    content = page_content(explore(read_state(document, folder)))
    pairs = {(d["first"], d["second"]) for d in content["differences"]}
    assert pairs == {("20 mg/m2", "40 mg/m2"), ("20 mg/m2", "third")}
    told = {row[0] for row in content["sections"]["differences"]["table"]["rows"]}
    assert "40 mg/m2 minus third" in told


def test_differences_under_another_rule_than_the_first_are_of_the_risk_too(document, folder, data):
    data["cohort"][1]["rule"] = "len_mec_2018"
    data["cohort"].append({"id": "third", "rule": "len_mec_2018"})
    content = page_content(explore(read_state({**document, "patients": 24}, folder)))
    told = [row[1] for row in content["sections"]["differences"]["table"]["rows"]]
    assert "risk of a dose-limiting toxicity" in told
    assert "len_mec_2018" not in told


def test_recovery_of_each_schedule_is_at_the_counts_of_its_own_rule(document, folder, data):
    """The curves of all had the names of the last one's."""
    alone = explore(read_state(document, folder)).result.curves.dataset()["recovered_interval"]
    data["cohort"][1]["rule"] = "clara_dnx_2018"
    data["cohort"].append({"id": "third", "rule": "neutropenia_7_days"})
    found = explore(read_state(document, folder))
    curves = found.result.curves.dataset()["recovered_interval"]
    of = {
        cohort: {str(c) for c in curves["criterion"].values if np.isfinite(curves.sel(
            cohort=cohort, criterion=c, bound="mean")).all()}
        for cohort in ("low", "high", "third")
    }  # fmt: skip
    own = {"neutrophils >= 0.5", "platelets >= 20"}
    assert of == {
        "low": own,
        "high": {"neutrophils >= 1", "platelets >= 50"},
        "third": own,
    }
    assert set(map(str, alone["criterion"].values)) == own
    np.testing.assert_array_equal(
        curves.sel(cohort="low", criterion=sorted(own)),
        alone.sel(cohort="low", criterion=sorted(own)),
    )
    content = page_content(found)
    assert [s.get("at") for s in content["schedules"]] == [
        None,
        {"neutrophils": 1.0, "platelets": 50},
        {"neutrophils": 0.5},
    ]
    shares = {row.rule: row for row in found.differences if row.second == "third"}
    assert found.rules["low"].by_day == 42
    assert found.rules["third"].by_day == 28
    assert "not recovered to the rule's counts by the rule's day" in shares
    died = found.result.curves.dataset()["split"].sel(state="died")
    apart = float(died.sel(cohort="low", day=43) - died.sel(cohort="third", day=29))
    assert shares["died by the rule's day"].difference == pytest.approx(apart, abs=1e-12)
    told = content["sections"]["recovery"]["sentence"]
    assert re.search(r"20 mg/m2: neutrophils >= 0.5 in [^;]*, platelets >= 20 in", told)
    assert re.search(r"40 mg/m2: neutrophils >= 1 in [^;]*, platelets >= 50 in", told)


def test_shares_are_by_the_last_day_where_the_rule_counts_from_a_later_course(
    document, folder, data
):
    data["course"]["second"] = data["course"]["induction"]
    data |= {"clocks": ["second"], "horizon_days": 80}
    found = explore(read_state(document, folder))
    told = {row.rule for row in found.differences}
    assert "not recovered by the last day" in told
    last = found.result.curves["split"].values[..., -1]
    died = [last[:, i] for i, state in enumerate(found.states) if state.startswith("died")]
    gone = np.diff(np.sum(died, axis=0)[::-1])[0]
    row = next(row for row in found.differences if row.rule == "died by the last day")
    assert row.difference == pytest.approx(gone)


def test_the_day_of_the_rule_is_told_in_the_protocols_days(document, folder, data):
    """A rule of day 42 after a first dose on day 3 looks on day 44."""
    for dose in data["dose"].values():
        dose["days"] = "3-7"
    found = explore(read_state(document, folder))
    assert found.rule.by_day == 42
    assert page_content(found)["rule"]["by_day"] == 44
    assert "died by day 44" in {row.rule for row in found.differences}
    told = page_content(found)["sections"]["counts"]["sentence"]
    since = next(r for r in found.result.rows if r.endpoint == "nadir_day").estimate
    first = next(r for r in found.result.rows if r.endpoint == "nadir_day").line
    # two days of the plan lie before the first dose
    assert re.search(rf"20 mg/m2: {first} \S+[^;]*? on day {since + 3:.0f}\b", told)
    # of which the second begins two days later
    data["dose"]["clofarabine"]["days"] = "1-5"
    data["cohort"][1]["change"]["clofarabine"]["days"] = "3-7"
    found = explore(read_state(document, folder))
    assert page_content(found)["rule"]["by_day"] is None
    assert "died by the rule's day" in {row.rule for row in found.differences}


def test_the_python_of_a_state_gives_its_figures(found, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(script(found.state), "explored.py", "exec"), {})
    printed = capsys.readouterr().out
    row = next(r for r in found.result.rows if r.endpoint == "nadir" and r.line == "platelets")
    assert f"{row.estimate:.6f}" in printed


def test_the_python_of_a_fit_takes_the_one_that_a_script_has_made(
    document, folder, tmp_path, monkeypatch
):
    fit, asked = object(), {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pkpd.explorer.state._drugs_of", lambda fits: ())
    monkeypatch.setattr("pkpd.compare", lambda *_, **given: asked.update(given) or MagicMock())
    state = read_state({**document, "ensemble": "my fit"}, folder, {"my fit": fit})
    exec(compile(script(state), "explored.py", "exec"), {"fit": fit})
    assert asked["posterior"] is fit
    assert command_line(state) == "no command has this fit; the Python has"


@pytest.mark.parametrize("title", ['three """ quotes', "'''", "back\\slash\\", "a\nnew line"])
def test_no_title_breaks_the_python(found, document, folder, data, title):
    data["title"] = title
    compile(script(read_state(document, folder)), "explored.py", "exec")


def test_joined_courses_are_one_after_the_other(found):
    item = simulation.ready(found.state)
    treated = item.ensemble.treated(item.trial.cohorts[0].regimen, 30)
    courses = [treated.course(draws) for draws in treated.chunks()]
    whole = joined(courses)
    n = courses[0].lanes
    for k, course in enumerate(courses):
        for name in ("neutrophils", "platelets", "transfused", "death_day", "first_day"):
            np.testing.assert_array_equal(
                getattr(whole, name)[k * n : (k + 1) * n], getattr(course, name)
            )
    shorter = item.ensemble.treated(item.trial.cohorts[0].regimen, 20)
    with pytest.raises(DataError, match="differ in days"):
        joined([courses[0], shorter.course(next(iter(shorter.chunks())))])
    with pytest.raises(DataError, match="there is none"):
        joined([])
    draws = np.array([2, 0])
    taken, alone = of_draws(whole, draws), treated.course(draws)
    for field in dataclasses.fields(whole):
        mine, its = getattr(taken, field.name), getattr(alone, field.name)
        if field.name in ("mornings", "set_point"):
            assert mine.keys() == its.keys()
            for name in mine:
                np.testing.assert_array_equal(mine[name], its[name])
        elif field.name != "curve":
            np.testing.assert_array_equal(mine, its)


def test_numbers_without_value_are_none():
    from pkpd.explorer.words import _plain

    assert _plain([0.0, 1.23456, 123456.0, math.nan, math.inf]) == [0, 1.235, 123456, None, None]
