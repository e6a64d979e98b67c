"""Reports of a marrow with leukaemia: which marrow and posterior, questions, the page in words."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields, replace

import pytest
import synthetic
from rich.console import Console

from pkpd.comparison.results import Figure, PosteriorRow, Question
from pkpd.evidence.posterior.learned import Learned
from pkpd.report import wording
from pkpd.report.comparison import tables, terminal, what_is_known

POSTERIOR = "posterior 0123456789ab of 2026-01-31, NOT CONVERGED"
LEARNED = (
    Learned("rho", 0.84, 0.5, 0.2, 0.3, 0.4),
    Learned("ln_kill", 0.40, 0.1, 5.0, 6.5, 8.0),
    Learned("resistance.all_relapsed", 0.01, 0.0, 0.3, 0.5, 1.0),
)


def named(row):
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return PosteriorRow(**values, marrow="leukaemia", posterior=POSTERIOR)


def make_result():
    """The made-up comparison as one of a marrow with leukaemia."""
    plain = synthetic.make_result((2, 1))
    trials = []
    for number, trial in enumerate(plain.trials):
        curves = trial.curves.copy()
        curves.attrs = {**curves.attrs, "marrow": "leukaemia", "posterior": POSTERIOR}
        asked = Question(
            trial.trial.id,
            "which",
            "Which of the two is it?",
            "Made up, with a head that is long enough to be folded on a narrow page.",
            ("cohort", "risk of something that takes many words", "difference", "day", "count"),
            (
                ("14d-10", Figure(0.25, 0.1, 0.5), Figure(0.02, -0.04, 0.08, "difference"),
                 Figure(29.0, 29.0, 31.0, "day"), Figure(0.736, 0.38, 1.6, "10^9/L")),
                ("14d-5", Figure(float("nan")), Figure(0.0, unit="difference"),
                 Figure(float("inf"), unit="day"), "words"),
            ),
            ("the data cannot tell",),
        )  # fmt: skip
        trials.append(
            replace(
                trial,
                rows=tuple(named(row) for row in trial.rows),
                curves=curves,
                questions=(asked,) if number == 0 else (),
                limits=("alemtuzumab: a kill of 0.02 of a course of 7+3",) if number else (),
            )
        )
    marrow = {
        "model": "leukaemia",
        "posterior": POSTERIOR,
        "sha256": "0123456789ab",
        "structure": "full",
        "converged": False,
        "problems": ["R-hat of rho is 2.1"],
        "rows": 118,
        "studies": 66,
        "learned": 3,
    }
    record = {**plain.record, "marrow": marrow}
    return replace(plain, trials=tuple(trials), record=record, learned=LEARNED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    tables.write_results(make_result(), folder, figures=False)
    return folder


def test_report_says_which_marrow_and_posterior(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    # head of the page, both trials, run record
    assert text.count(POSTERIOR) >= 4
    assert "learned from 118 published outcomes of 66 studies" in text
    assert "The posterior did not converge</strong> (R-hat of rho is 2.1)" in text
    assert '<a href="what_is_known.md">what_is_known.md</a> beside this page.' in text
    assert text.count("Which of the two is it?") == 1
    assert "25 % (10 to 50 %)" in text
    assert "The data cannot tell." in text


def test_report_of_the_other_marrow_has_none_of_it(tmp_path):
    tables.write_results(synthetic.make_result((2,)), tmp_path, figures=False)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Marrow" not in text
    assert 'class="questions"' not in text
    assert not (tmp_path / "questions.csv").exists()
    assert not (tmp_path / "what_is_known.md").exists()
    head = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert head.endswith(",published_source,assumed")
    assert "questions" not in json.loads((tmp_path / "results.json").read_text())["trials"][0]


def test_report_says_why_the_marrow_is_the_other_one(tmp_path):
    plain = synthetic.make_result((2,))
    record = {**plain.record, "marrow": {"model": "friberg", "chosen": "asked for"}}
    result = replace(plain, record=record)
    tables.write_results(result, tmp_path, figures=False)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<p>Marrow without leukaemia (asked for).</p>" in text
    out = io.StringIO()
    terminal.CohortPrinter(Console(file=out, width=80)).assumptions(result)
    assert out.getvalue().startswith("Marrow without leukaemia (asked for).")


def test_tables_name_the_posterior_in_every_line(folder):
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["posterior"] for row in rows} == {POSTERIOR}
    assert {row["marrow"] for row in rows} == {"leukaemia"}
    assert len(tables.read_rows(folder / "results.csv")) == len(rows)
    with (folder / "questions.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert {cell["posterior"] for cell in cells} == {POSTERIOR}
    assert len(cells) == 11
    risk = cells[1]
    assert (risk["value"], risk["lower"], risk["upper"]) == ("0.25", "0.1", "0.5")
    assert cells[-1]["text"] == "the data cannot tell"
    document = json.loads((folder / "results.json").read_text())
    assert document["record"]["marrow"]["sha256"] == "0123456789ab"
    assert document["trials"][0]["questions"][0]["name"] == "which"


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_says_which_and_keeps_to_the_width(width):
    out = io.StringIO()
    console = Console(file=out, width=width, emoji=False, markup=False, highlight=False)
    printer = terminal.CohortPrinter(console)
    result = make_result()
    for trial in result.trials:
        for cohort in wording.cohorts(trial.trial):
            printer.cohort(trial.trial, cohort, [r for r in trial.rows if r.cohort == cohort])
        printer.trial(trial)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert text.count(f"Marrow with leukaemia, {POSTERIOR}.") == 2
    assert "Which of the two is it?" in text
    assert "+2 points" in text


def test_cells_are_written_in_their_units():
    assert wording.cell_text("words") == "words"
    assert wording.cell_text(Figure(0.25, 0.1, 0.5)) == "25 % (10 to 50 %)"
    assert wording.cell_text(Figure(0.88)) == "88 %"
    assert wording.cell_text(Figure(-0.02, -0.04, 0.0, "difference")) == "-2 points (-4 to 0)"
    assert wording.cell_text(Figure(29.0, 29.0, 31.0, "day")) == "29 (29 to 31)"
    assert wording.cell_text(Figure(float("nan"))) == "-"


def test_page_in_words_sorts_what_is_known_from_what_is_not(folder):
    text = (folder / "what_is_known.md").read_text(encoding="utf-8")
    assert POSTERIOR in text
    assert "did not converge** (R-hat of rho is 2.1)" in text
    known, rest = text.split("## What they say a little about (1)")
    little, rest = rest.split("## What they say nothing about (1)")
    nothing, rest = rest.split("## What was held at one value")
    # the SD of a score with contraction 0.84 is sqrt(0.16) = 0.4 of the prior's
    assert "how fast early cells of the marrow regrow (`rho`) | 0.3 | 0.2 to 0.4 | 60% | +" in known
    assert "`ln_kill`" in little
    assert "resistance of blasts: acute lymphoblastic leukaemia, relapsed" in nothing
    assert "- the data cannot tell" in rest
    assert "- alemtuzumab: a kill of 0.02" in rest
    assert "14d-10" in rest


AVERAGE = {"rows": 78, "inside": 74, "width": 0.44, "crps": 0.086, "error": 0.011}
TESTED = {
    "rows": 79,
    "studies": 39,
    "inside": 70,
    "width": 0.53,
    "crps": 0.084,
    "about": {"remission": 60, "early death": 19},
}

PAIRS = {"pairs": 47, "studies": 30, "slope": 0.5, "slope_error": 0.1, "error": 0.2, "of_none": 0.3,
         "less": -0.1, "less_error": 0.06}  # fmt: skip
LEFT_OUT = TESTED | {"average": AVERAGE | {"difference": -0.03}, "pairs": PAIRS}
TRUE_PAIRS = LEFT_OUT | {"pairs": PAIRS | {"slope": 0.9}}


@pytest.mark.parametrize(
    ("tested", "words"),
    [
        ({}, "**Not tested**"),
        (
            {"rows": 79, "studies": 39, "inside": 62},
            "**Intervals of 90 % are too narrow.** Of 79 published outcomes of 39 studies that "
            "this posterior did not learn from, 62 (78%)",
        ),
        ({"rows": 79, "studies": 39, "inside": 70}, "**Tested on other trials.** Of 79"),
        (
            TESTED | {"average": AVERAGE | {"difference": -0.003}},
            "The outcomes: 60 remission, 19 early death. Half of its intervals of shares are wider "
            "than 53 points. The average of trials with the same endpoint in the same population, "
            "whatever was given, holds 74 of 78 in intervals of 44 points. By the continuous "
            "ranked probability score of these 78, 0.084 against 0.086 (difference -0.003, "
            "standard error 0.011, less is better), over all of them it scores no better than that "
            "average.",
        ),
        (TESTED | {"average": AVERAGE | {"difference": -0.03}}, "it scores better than that"),
        (TESTED | {"average": AVERAGE | {"difference": 0.03}}, "that average scores better"),
        (
            TESTED
            | {"mixture": {"regression": {"crps": 0.08, "difference": -0.01, "error": 0.002}}},
            "score 0.080, -0.010 (standard error 0.002) beside the regression.",
        ),
        (TESTED | {"left_out": LEFT_OUT}, "**it is not shown that differences between schedules"),
        (TESTED | {"left_out": LEFT_OUT}, "score over 78 of them 0.084 against 0.086 of the"),
        (
            TESTED | {"left_out": LEFT_OUT | {"average": LEFT_OUT["average"] | {"error": None}}},
            "(difference -0.030, standard error not known). The printed difference",
        ),
        (TESTED | {"left_out": TRUE_PAIRS}, "standard error 0.060): differences come true."),
        (
            TESTED | {"left_out": TRUE_PAIRS, "pairs": PAIRS | {"slope": 0.1, "less": 0.05}},
            "; in 47 pairs of arms of 30 studies that nothing was learned from 0.10 (standard "
            "error 0.10), 0.200 where no difference has 0.300 (+0.050, standard error 0.060): **it "
            "is not shown that differences between schedules come true**: read those below",
        ),
    ],
)
def test_page_in_words_says_how_well_the_posterior_predicted_other_trials(tested, words):
    result = make_result()
    marrow = {**result.record["marrow"], "tested": tested}
    text = what_is_known.page(replace(result, record={**result.record, "marrow": marrow}))
    assert words in text
    assert ("too narrow" in text) == ("too narrow" in words)


def test_page_in_words_tells_the_test_of_the_posterior_before_rows_were_added():
    result = make_result()
    marrow = {**result.record["marrow"], "tested": {}, "tested_before": TESTED}
    text = what_is_known.page(replace(result, record={**result.record, "marrow": marrow}))
    assert "**Not tested since rows were added or left out.** Of the posterior before:" in text
    assert "published outcomes of" in text.partition("posterior before:")[2]


def test_every_learned_parameter_has_words():
    from pkpd.evidence.likelihood.parameters import marrow_prior

    for name in marrow_prior().names:
        assert what_is_known.name_in_words(name) != f"`{name}`", name
