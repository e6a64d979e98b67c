"""Which doses start and end a clock, and that later cycles and placebo move no recovery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import pkpd
from pkpd.cards import load_rule, load_trial
from pkpd.cli import app
from pkpd.course.course import Course
from pkpd.endpoints.clock import clock_days, clock_of, has_further_cycle, treatment_runs
from pkpd.endpoints.recovery import recovery_after, recovery_days
from pkpd.errors import PkpdError
from pkpd.schedule import plan
from pkpd.solve.compiled.decisions import NEVER

DAYS = 84
FEW = {"marrow": "leukaemia", "patients": 48, "draws": 2, "until_day": DAYS, "seed": 3}
SCHEDULE = """
title = "clofarabine, then lenalidomide"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 84
[dose.clofarabine]
amount = "10 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"
[dose.lenalidomide]
amount = "10 mg"
days = "15-28"
route = "oral"
[dose.other]
drug = "{drug}"
amount = "{amount}"
days = "7-34"
route = "{route}"
[course.treatment]
doses = [{doses}]
cycle_days = 35
cycles = {cycles}
[[cohort]]
id = "all"
"""
MINE = """
kind = "drug"
name = "mine"
title = "An antiemetic"
routes = ["oral"]
dose_unit = "mg"
supportive = true
[leukaemia]
acts_by = "nothing"
"""


def regimen(folder, drug="placebo", amount="1 mg", route="oral", cycles=1, without=False):
    """Regimen of the schedule file with some drug on days 7 to 34."""
    names = ["clofarabine", "lenalidomide", *([] if without else ["other"])]
    doses = ", ".join(f'"{name}"' for name in names)
    text = SCHEDULE.format(drug=drug, amount=amount, route=route, cycles=cycles, doses=doses)
    if without:
        text = text[: text.index("[dose.other]")] + text[text.index("[course.treatment]") :]
    (folder / "mine.toml").write_text(MINE)
    file = folder / f"s{cycles}.toml"
    file.write_text(text)
    return load_trial(str(file)).cohorts[0].regimen


@pytest.mark.parametrize(
    ("drug", "amount", "route"),
    [
        ("placebo", "1 mg", "oral"),
        ("filgrastim", "5 ug/kg", "sc"),
        ("mine.toml", "8 mg", "oral"),
    ],
)
def test_supportive_drugs_do_not_move_the_clock(tmp_path, drug, amount, route):
    clock = clock_of(plan(regimen(tmp_path, drug, amount, route), DAYS), "first_dose")
    assert (clock.first_dose_day, clock.last_dose_day) == (0, 27)
    treatment = regimen(tmp_path, "azacitidine", "75 mg/m^2", "sc")
    assert clock_of(plan(treatment, DAYS), "first_dose").last_dose_day == 33


def test_supportive_doses_are_no_treatment_that_runs():
    rule = replace(load_rule("leukemia_d42_generic"), clock="first_dose")
    support = pkpd.daily("filgrastim", "5 ug/kg", days="7-40", route="sc")
    chemo = pkpd.daily("clofarabine", "10 mg/m^2", days="1-5", route="iv", duration="1 h")
    assert treatment_runs(plan(chemo.then(support, start_day=6), DAYS), rule) == ""
    runs = treatment_runs(plan(chemo.then(chemo, start_day=29), DAYS), rule)
    assert runs == f"{chemo.then(chemo, start_day=29).courses[1].name} runs since day 29"


def test_a_course_of_supportive_doses_ends_no_cycle():
    support = pkpd.daily("filgrastim", "5 ug/kg", days="1-10", route="sc")
    chemo = pkpd.daily(
        "clofarabine", "10 mg/m^2", days="1-5", route="iv", duration="1 h", cycle_days=10
    )
    alone = plan(chemo.then(support), DAYS)
    assert not has_further_cycle(alone, clock_of(alone, "first_dose"))
    made = plan(chemo.then(support).then(chemo, start_day=36), DAYS)
    clock = clock_of(made, "first_dose")
    assert has_further_cycle(made, clock)
    course = Course(
        mornings={"neutrophils": np.ones((2, DAYS))},
        platelets_with_transfused=None,
        transfused=np.zeros((2, DAYS), dtype=bool),
        first_day=np.array([[1, 11, 36], [1, 11, 0]]),
        next_cycle_day=np.array([[11, 36, NEVER], [11, NEVER, NEVER]]),
    )
    assert clock_days(course, clock).until.tolist() == [35.0, np.inf]


def test_a_next_cycle_whose_doses_are_held_does_not_end_the_search():
    """The second cycle begins on the time 28; neutrophils are low from the time 10 to 32."""
    chemo = pkpd.daily("clofarabine", "10 mg/m^2", days="1-5", route="iv", duration="1 h")
    clock = clock_of(plan(chemo.repeat(2, cycle_days=28), DAYS), "first_dose")
    dosed = np.zeros((4, DAYS), dtype=np.int64)
    dosed[:, 0:5] = 1  # clofarabine is bit 0
    dosed[0, 28:33] = 1  # given as planned
    dosed[1, 30:33] = 1  # held for two days
    dosed[3, 28:33] = 2  # clofarabine is held, filgrastim given
    counts = np.full((4, DAYS), 2.0)
    counts[:, 10:32] = 0.1
    course = Course(
        mornings={"neutrophils": counts},
        platelets_with_transfused=None,
        transfused=np.zeros((4, DAYS), dtype=bool),
        first_day=np.ones((4, 1), dtype=np.int64),
        drugs=("clofarabine", "filgrastim"),
        next_cycle_day=np.full((4, 1), 29),
        dosed=dosed,
    )
    days = clock_days(course, clock)
    assert days.until.tolist() == [28.0, 30.0, np.inf, np.inf]
    seen = recovery_after(
        course, "neutrophils", 0.5, start=days.start, search=days.search, until=days.until
    )
    assert recovery_days(seen.recovery)[0].tolist() == [np.inf, np.inf, 32.0, 32.0]
    # a course that does not tell what was given is taken as planned
    assert clock_days(replace(course, dosed=None), clock).until.tolist() == [28.0] * 4


def test_a_rule_that_looks_after_the_next_cycle_began_is_answered(tmp_path):
    regimen(tmp_path, without=True, cycles=2)
    text = (tmp_path / "s2.toml").read_text()
    late = text.replace("= 84\n", "= 84\nrule_change = { by_day = 49 }\n")
    (tmp_path / "late.toml").write_text(late)
    words = ["compare", str(tmp_path / "late.toml"), "--patients", "8", "--draws", "2"]
    done = CliRunner().invoke(app, [*words, "--marrow", "friberg", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = "on day 49 cycle 2 runs since day 36"
    assert (
        f"{told}: the verdict is of counts under treatment"
        in (tmp_path / "out" / "results.csv").read_text()
    )
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"On{told[2:]} in" in report
    rule = replace(load_rule("leukemia_d42_generic"), by_day=49)
    counts = {"DAY": [1, 8, 17], "ANC": [2.0, 0.6, 0.2]}
    source = pkpd.source("rr_aml", marrow="friberg", patients=1, draws=4)
    twice = regimen(tmp_path, without=True, cycles=2)
    found = pkpd.forecast(source, counts, twice, 60, bank=4000, engine="importance", rule=rule)
    assert f"; {told}: the verdict is of counts under treatment" in found.summary()


def test_a_schedule_of_supportive_doses_alone_has_no_clock(tmp_path):
    only = pkpd.daily("placebo", "1 mg", days="1-5", route="oral")
    with pytest.raises(PkpdError, match="no dose that a clock counts: placebo only; give a dose"):
        clock_of(plan(only, DAYS), "first_dose")
    found = pkpd.simulate(only, "rr_aml", marrow="leukaemia", patients=4, until_day=10)
    assert found["recovery_day"].shape[-1] > 0
    regimen(tmp_path)
    text = (tmp_path / "s1.toml").read_text()
    (tmp_path / "only.toml").write_text(
        text.replace('["clofarabine", "lenalidomide", "other"]'.strip("[]"), '"other"')
    )
    told = "trial only, cohort all, course treatment: no dose that a clock counts: placebo only"
    words = ["compare", str(tmp_path / "only.toml"), "--patients", "8", "--draws", "2"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, ["check", str(tmp_path / "only.toml")])
    assert done.exit_code != 0
    assert told in " ".join((done.stdout + done.stderr).split())


def test_a_placebo_changes_no_number(tmp_path):
    without = pkpd.simulate(regimen(tmp_path, without=True), "rr_aml", **FEW)
    given = pkpd.simulate(regimen(tmp_path), "rr_aml", **FEW)
    for name in ("count", "recovery_day", "nadir", "death_day"):
        np.testing.assert_array_equal(given[name].values, without[name].values)
    assert np.isfinite(given["recovery_day"].values).any()


def test_the_second_cycle_moves_no_recovery_of_the_first(tmp_path):
    one = pkpd.simulate(regimen(tmp_path, without=True), "rr_aml", **FEW)["recovery_day"].values
    two = regimen(tmp_path, without=True, cycles=2)
    two = pkpd.simulate(two, "rr_aml", **FEW)["recovery_day"].values
    last, following = 27, 35
    # back between the cycles, or low until the second began: the same in both
    back = (one > last) & (one <= following)
    assert back.sum() > 20
    np.testing.assert_array_equal(two[back], one[back])
    assert two[np.isfinite(two)].max() <= following
    # a day of the second cycle is no day of the first
    assert np.all((two == 0.0) | np.isinf(two) | (two == one))


def test_a_fall_after_the_cycle_is_not_of_it_whether_another_follows_or_not(tmp_path):
    rule = replace(load_rule("leukemia_d42_generic"), by_day=30)
    words = {**FEW, "draws": 8}
    one, two = (
        pkpd.simulate(regimen(tmp_path, without=True, cycles=n), "rr_aml", rule=rule, **words)
        for n in (1, 2)
    )
    following = 35
    in_one, in_two = (found["recovery_day"].values for found in (one, two))
    np.testing.assert_array_equal(np.where(in_one <= following, in_one, np.inf), in_two)
    np.testing.assert_array_equal(one["dlt"].values, two["dlt"].values)
    # leukaemia that comes back lowers counts after the cycle of some who were not low in it
    low = one["count"].sel(line="platelets").values < 20.0
    in_cycle, later = low[..., 27 : following + 1], low[..., following + 1 :]
    assert (later.any(axis=-1) & ~in_cycle.any(axis=-1)).any()


@pytest.mark.parametrize(
    ("length", "by_day", "last"),
    [(28, None, 30.0), (28, 42, 44.0), (10, None, 18.0), (10, 6, 12.0)],
)
def test_the_last_fall_of_a_cycle(length, by_day, last):
    chemo = pkpd.daily("clofarabine", "30 mg/m^2", days="3-5", route="iv", duration="1 h")
    planned = plan(chemo.repeat(1, cycle_days=length), 60)
    # days since the first morning; the clock starts on day 3, which is 2
    assert clock_of(planned, "first_dose", by_day).last_fall_day == last


@pytest.mark.parametrize(
    ("cycles", "days", "further"), [(1, 60, False), (2, 60, True), (2, 30, False), (2, 31, True)]
)
def test_a_further_cycle_is_one_whose_first_dose_lies_within_the_days(cycles, days, further):
    chemo = pkpd.daily("clofarabine", "30 mg/m^2", days="3-5", route="iv", duration="1 h")
    planned = plan(chemo.repeat(cycles, cycle_days=28), days)
    assert has_further_cycle(planned, clock_of(planned, "first_dose")) == further


def test_a_later_course_is_a_further_cycle():
    chemo = pkpd.daily("clofarabine", "30 mg/m^2", days="1-5", route="iv", duration="1 h")
    planned = plan(chemo.then(chemo, start_day=29), 60)
    first, last = (clock_of(planned, name) for name in planned.course_names)
    assert has_further_cycle(planned, first)
    assert not has_further_cycle(planned, last)


@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_doses_after_the_rules_day_leave_its_verdict_as_it_is(tmp_path, marrow):
    """They made every risk 0: recovery was looked for from a dose that the day came before."""
    text = SCHEDULE.replace('"15-28"', '"1-{last}"').replace('amount = "10 mg"', 'amount = "50 mg"')
    path, risks, running = tmp_path / "long.toml", {}, {}
    for last in (42, 44, 56, 84):
        content = text.replace("{last}", str(last)).format(
            drug="placebo", amount="1 mg", route="oral", doses='"lenalidomide"', cycles=1
        )
        path.write_text(content.replace("cycle_days = 35", "cycle_days = 84"))
        result = pkpd.compare(path, patients=16, draws=2, marrow=marrow)
        (trial,) = result.trials
        risks[last] = {
            row.endpoint: row.estimate for row in trial.rows if row.endpoint.startswith("dlt")
        }
        grid = trial.curves["dlt_sensitivity"].sel(
            bound="mean", neutrophil_threshold=0.5, platelet_threshold=20.0, by_day=42.0
        )
        assert float(grid.squeeze()) == risks[last]["dlt"]
        running[last] = any(
            "goes on: the verdict is of counts" in r.under_treatment for r in trial.rows
        )
    assert risks[42]["dlt"] > 0.1
    assert risks[44] == risks[42] == risks[56] == risks[84]
    assert running == {42: False, 44: True, 56: True, 84: True}
