"""The terminal: no line wider than the console, words instead of colours."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from rich.console import Console

from pkpd.report import wording
from pkpd.report.comparison import beside_tables, terminal


def printed(width, sizes=(6, 1)):
    out = io.StringIO()
    console = Console(file=out, width=width, emoji=False, markup=False, highlight=False)
    printer = terminal.CohortPrinter(console, "1000 patients x 40 parameter draws")
    result = synthetic.make_result(sizes)
    for trial in result.trials:
        for cohort in wording.cohorts(trial.trial):
            printer.cohort(trial.trial, cohort, [r for r in trial.rows if r.cohort == cohort])
        printer.trial(trial)
    printer.assumptions(result)
    folder = Path("results")
    printer.files([folder / "report.html", folder / "figures" / "a.png"], folder)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_output_keeps_to_the_width_and_has_no_escape_codes(width):
    text = printed(width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text


def test_eighty_columns_hold_every_figure_of_a_row():
    lines = printed(80).splitlines()
    dlt = next(line for line in lines if line.startswith("DLT, len_mec_2018"))
    assert dlt.split() == [
        "DLT,",
        "len_mec_2018",
        "24",
        "%",
        "-",
        "7",
        "to",
        "50",
        "%",
        "68/32",
        "±0.6",
        "2/6",
        "=",
        "33",
        "%",
    ]
    assert "(4 to 78 %)" in lines[lines.index(dlt) + 1]
    recovery = next(line for line in lines if line.startswith("platelets >= 20, day"))
    assert recovery.split()[4:] == ["40", "31", "to", "n.r.", "37", "to", "45", "74/26", "±0.4"]


def test_a_median_that_is_not_reached_is_told_in_words():
    wide = printed(140)
    assert "not reached" in wide
    assert "inf" not in wide.replace("infusion", "")
    assert "nan" not in wide.lower()


def test_heading_key_and_assumptions_come_once():
    text = printed(120)
    assert text.count("90 % of patients: 5 % to 95 % quantile") == 1
    assert text.count("Assumed inputs (figures that rest on each)") == 1
    assert "effects/lenalidomide_plasma: slope (70)" in text
    assert text.count("nct01681537 ===") == 1


def test_sensitivity_marks_the_rule_itself():
    lines = printed(80, (1,)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("platelets   day"))
    assert lines[start + 2].split()[:2] == ["45", "24*"]
    assert sum(line.count("*") for line in lines[start : start + 5]) == 1


def test_pairs_show_signed_points_and_the_probability():
    lines = printed(80, (2,)).splitlines()
    row = next(line for line in lines if line.startswith("14d-10 14d-5"))
    assert "+5.3" in row
    assert "-21 to +34" in row
    assert row.rstrip().endswith("35 %")


def test_nothing_assumed_is_said():
    out = io.StringIO()
    printer = terminal.CohortPrinter(Console(file=out, width=80))
    printer.assumptions(synthetic.make_result(()))
    assert out.getvalue() == "No input is marked as assumed.\n"


def test_progress_without_a_terminal_is_silent():
    out = io.StringIO()
    console = Console(file=out, width=80)
    with terminal.progress(console, console) as on_progress:
        on_progress(1, 2, "half")
    assert out.getvalue() == ""


def test_progress_on_a_terminal_shows_text_and_share():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with terminal.progress(console) as on_progress:
        on_progress(1.0, 4.0, "14d-10")
    assert "14d-10" in out.getvalue()
    assert "25%" in out.getvalue()


def test_lines_that_wrap_keep_their_indent():
    out = io.StringIO()
    terminal.print_lines(Console(file=out, width=20), ["  - a long item that wraps over", ""])
    assert out.getvalue() == "  - a long item that\n    wraps over\n\n"


@pytest.mark.parametrize("end", ["", ", treatment running"])
def test_pairs_that_differ_the_other_way_are_told_under_treatment_too(end):
    made = synthetic.make_trial_result(2)
    (pair,) = made.pairs
    pair = replace(pair, rule=pair.rule + end, difference=-0.2)
    told = beside_tables.other_way(replace(made, pairs=(pair,)))
    assert told.startswith("In the same patients 14d-10 has less risk than 14d-5")


def test_pairs_of_two_rules_that_differ_the_other_way_are_told_too():
    made = synthetic.make_trial_result(2)
    (pair,) = made.pairs
    rows = [
        replace(row, rule="other") if row.cohort == pair.second and row.endpoint == "dlt" else row
        for row in made.rows
    ]
    pair = replace(pair, rule=f"{pair.rule} and other", difference=-0.2)
    told = beside_tables.other_way(replace(made, rows=tuple(rows), pairs=(pair,)))
    assert told.startswith("In the same patients 14d-10 has less risk than 14d-5")


def test_a_rule_with_and_in_its_name_is_one_rule():
    made = synthetic.make_trial_result(2)
    (pair,) = made.pairs
    name = "counts and bleeding"
    rows = tuple(replace(row, rule=name) for row in made.rows)
    for rule in (name, f"{name}, treatment running"):
        pairs = (replace(pair, rule=rule, difference=-0.2),)
        told = beside_tables.other_way(replace(made, rows=rows, pairs=pairs))
        assert told.startswith("In the same patients 14d-10 has less risk than 14d-5")
