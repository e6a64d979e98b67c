"""One screen: the answer of each trial, a line for each cohort, where the rest is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from rich.console import Console

from pkpd.report import wording
from pkpd.report.comparison.brief import BriefPrinter, _day, brief_table

TRIALS = (6, 4, 2, 1, 1)  # cohorts of the shipped ones


def printed(width, sizes):
    out = io.StringIO()
    printer = BriefPrinter(Console(file=out, width=width, markup=False, highlight=False), "1 x 1")
    result = synthetic.make_result(sizes)
    printer.simulated({str(n): "patients of some kind" for n in range(len(sizes))})
    for trial in result.trials:
        for cohort in wording.cohorts(trial.trial):
            printer.cohort(trial.trial, cohort, [r for r in trial.rows if r.cohort == cohort])
        printer.trial(trial)
    printer.assumptions(result)
    folder = Path("results")
    names = ["report.html", "results.csv", "curves_a.nc", "curves_b.nc", "figures/a.svg"]
    printer.files([folder / name for name in names], folder)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_five_trials_are_a_screen(width):
    text = printed(width, TRIALS)
    lines = text.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= width
    assert "\x1b" not in text
    assert "5 trials, 1 x 1; report.html says who is simulated." in text
    assert "Counts in 10^9/L, days from the first dose unless said." in " ".join(lines)
    assert text.count("10^9/L") == 1


def test_every_trial_says_whether_differences_are_known():
    result = synthetic.make_result((2, 2, 1))
    for trial in result.trials:
        trial.curves.attrs["differences"] = "not known: between pairs of arms they were not seen"
    printer = BriefPrinter(Console(file=(out := io.StringIO()), width=160))
    printer.simulated(dict.fromkeys("abc", ""))
    for trial in result.trials:
        printer.trial(trial)
    assert out.getvalue().count("Differences between cohorts are not known.") == 2


def test_what_is_not_reached_is_explained():
    assert "n.r.: not before the next cycle" in " ".join(printed(80, (6,)).split())
    assert "n.r." not in printed(80, (1,))


def test_every_cohort_has_its_line():
    result = synthetic.make_result(TRIALS)
    lines = printed(160, TRIALS).splitlines()
    for trial in result.trials:
        for cohort in wording.cohorts(trial.trial):
            title = wording.cohort_title(trial.trial, cohort)
            assert any(line.startswith(title[:80]) for line in lines), title


def test_what_has_no_effect_is_told_below_the_table():
    result = synthetic.make_result((1,))
    trial = result.trials[0]
    told = "Without effect in this model: the amount of filgrastim."
    trial.curves.attrs["without_effect"] = told
    out = io.StringIO()
    BriefPrinter(Console(file=out, width=80)).trial(trial)
    assert out.getvalue().rstrip().endswith(told)


def test_figures_are_those_of_the_rows():
    lines = printed(80, (6, 1)).splitlines()
    first = next(line for line in lines if line.startswith("14d-10:"))
    row = next(r for r in wording.dlt_rows(synthetic.make_result((6, 1)).trials[0]))
    assert wording.percent(row.estimate, row.mc_error) in first
    assert wording.percent_range(row.lower, row.upper, row.estimate, row.mc_error) in first
    assert "2/6 = 33 %" in first


@pytest.mark.parametrize("ends", [(0.0011, 0.113, 0.05), (0.781, 1.0, 0.93), (0.881, 0.999, 0.97)])
def test_an_interval_is_whole_on_80_columns(ends):
    lower, upper, estimate = ends
    result = synthetic.make_result((2,))
    trial = result.trials[0]
    change = {"lower": lower, "upper": upper, "estimate": estimate, "mc_error": 0.002}
    rows = [replace(r, **change) if r.unit == "probability" else r for r in trial.rows]
    out = io.StringIO()
    console = Console(file=out, width=80)
    console.print(brief_table(replace(trial, rows=rows), 80))
    told = wording.percent_range(lower, upper, estimate, 0.002)
    assert len(told) > 12
    assert told in out.getvalue()
    assert "90 % interval" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_one_trial_says_who_is_simulated_and_files_of_a_kind_are_counted():
    text = printed(80, (2,))
    assert "Simulated, 0: patients of some kind." in text
    assert "report.html, results.csv, curves_*.nc (2), figures/ (1)" in text.replace("\n", " ")


def test_a_day_that_is_not_known_is_a_dash():
    rows = synthetic.make_trial_result(1).rows
    row = next(one for one in rows if one.endpoint == "recovery_day")
    days = (float("nan"), float("inf"), 0.0, 31.0)
    assert [_day(replace(row, estimate=day)) for day in days] == ["-", "n.r.", "not low", "day 31"]
