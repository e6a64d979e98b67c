"""The comparison on one screen: the answer of each trial, and a line for each cohort."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pkpd.cards.diseases import disease_in_words
from pkpd.report import wording
from pkpd.report.comparison import beside_tables
from pkpd.report.comparison.answer import (
    answer_sentence,
    differences_sentence,
    recovery_row,
    recovery_thresholds,
)
from pkpd.report.comparison.terminal import make_console

if TYPE_CHECKING:
    from pkpd.comparison.results import ComparisonResult, EndpointRow, TrialResult
    from pkpd.trials import Trial

_NEVER = "n.r."
_SHORT = {"neutrophils": "ANC", "platelets": "PLT"}
_WIDTHS = (20, 5, 15, 6, 8, 8, 12)  # an interval is 78.1 to 100.0 % at most
FEW_DRAWS = 100  # below: chosen, since 30 gave risks a fifth of what many give, with small errors
_FEW_TRIALS = 2  # of which the whole answer is told


class BriefPrinter:
    """Prints a trial when it is finished; the same calls as `terminal.CohortPrinter`.

    Parameters
    ----------
    console
        Where to print; by default standard output.
    size
        Size of the simulation in words.
    """

    def __init__(self, console: Console | None = None, size: str = "") -> None:
        self.console = console or make_console()
        self.size = size
        self._few = True

    def simulated(self, told: Mapping[str, str]) -> None:
        """Print who is simulated: of one or two trials in full, else how many there are."""
        self._few = len(told) <= _FEW_TRIALS
        if self._few:
            for trial, text in told.items():
                self._line(f"Simulated, {trial}: {text}.")
        else:
            size = f", {self.size}" if self.size else ""
            self._line(f"{len(told)} trials{size}; report.html says who is simulated.")
        self.console.print()

    def cohort(self, trial: Trial, cohort_id: str, rows: Sequence[EndpointRow]) -> None:
        """Print nothing: a cohort has its line when its trial is finished."""

    def trial(self, result: TrialResult) -> None:
        """Print name, answer and a line for each cohort."""
        trial = result.trial
        who = disease_in_words(trial.disease) if trial.disease else Path(trial.population).name
        head = f"{trial.name}: {who}" if who else trial.name
        self.console.print(Text(textwrap.shorten(head, self.console.width), style="bold"))
        if answer := answer_sentence(result, everybody=self._few):
            known = "" if self._few else differences_sentence(result, whole=False)
            self._line(f"{known} {answer}".lstrip())
        self.console.print(brief_table(result, self.console.width))
        idle = result.curves.attrs.get("without_effect", "")
        for told in filter(None, (beside_tables.other_way(result), idle)):
            self._line(told)
        self.console.print()

    def assumptions(self, result: ComparisonResult) -> None:
        """Print which marrow it was where that is not the usual one, and how much is assumed."""
        if told := wording.other_marrow_text(result.record):
            self._line(told)
        every = {wording.marrow_text(vars(row)) for t in result.trials for row in t.rows} - {""}
        for marrow in sorted(every):
            if self._few or "NOT CONVERGED" in marrow:
                self._line(f"{marrow}.")
        counted = wording.assumed_inputs(row for t in result.trials for row in t.rows)
        many = {0: "no input is", 1: "1 input is"}.get(len(counted), f"{len(counted)} inputs are")
        draws = min((int(t.curves.attrs.get("draws", FEW_DRAWS)) for t in result.trials), default=0)
        few = (
            f" With {draws} draws a risk that rests on few of them is off by more than its Monte "
            "Carlo error: take 200."
            if draws < FEW_DRAWS
            else ""
        )
        not_low = any(wording.is_not_low(row) for t in result.trials for row in t.rows)
        told_low = f" not low: {wording.NOT_LOW} of the cycle." if not_low else ""
        if any(_day(row) == _NEVER for t in result.trials for row in t.rows
               if row.endpoint == "recovery_day"):  # fmt: skip
            told_low += f" {_NEVER}: not before the next cycle, or by the last day."
        units = "" if self._few else " Counts in 10^9/L, days from the first dose unless said."
        self._line(
            "risk: of those who can be judged, with its 90 % interval (from 20 draws on); "
            f"{many} assumed.{told_low}{units}{few} "
            "Ranges, Monte Carlo errors, pairs, other thresholds, questions: report.html, or "
            "--full."
        )

    def files(self, paths: Iterable[Path], folder: Path) -> None:
        """Print where the files are, those of a kind by their number."""
        names = [Path(p).relative_to(folder).as_posix() for p in paths]
        kinds = {"curves_*.nc": "curves_", "figures/": "figures/"}
        told = [n for n in names if not n.startswith(tuple(kinds.values()))]
        for kind, start in kinds.items():
            if many := sum(n.startswith(start) for n in names):
                told.append(f"{kind} ({many})")
        self._line(f"Files in {folder}: {', '.join(told)}")

    def _line(self, text: str) -> None:
        filled = textwrap.fill(text, self.console.width, break_on_hyphens=False)
        self.console.print(Text(filled), soft_wrap=True)


def brief_table(result: TrialResult, width: int = 80) -> Table:
    """Table of a trial, a line for each cohort: risk, days of recovery, what was published.

    Parameters
    ----------
    result
        The trial.
    width
        Of the console; what it has beyond 80 columns goes to the names of the cohorts.
    """
    lines = recovery_thresholds(result)
    heads = [f"{_SHORT.get(line, line)}>={at:g}" for line, at in lines.items()]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="underline")
    first, *rest = _WIDTHS
    table.add_column("cohort", width=first + max(0, width - 80), no_wrap=True, overflow="ellipsis")
    for head, wide in zip(
        ("risk", "90 % interval", "judged", *heads, "published"), rest, strict=False
    ):
        justify = "left" if head == "published" else "right"
        table.add_column(head, width=wide, justify=justify, no_wrap=True, overflow="ellipsis")
    risks = {row.cohort: row for row in reversed(wording.dlt_rows(result))}
    for cohort in dict.fromkeys(row.cohort for row in result.rows):
        mine = [row for row in result.rows if row.cohort == cohort]
        days = (recovery_row(mine, line, at) for line, at in lines.items())
        table.add_row(
            wording.cohort_title(result.trial, cohort),
            *_risk_cells(risks.get(cohort)),
            *(_day(row) for row in days),
            wording.published_text(risks[cohort], separator="\n").split("\n")[0]
            if cohort in risks
            else "",
        )
    return table


def _risk_cells(row: EndpointRow | None) -> tuple[str, str, str]:
    if row is None or row.estimate != row.estimate:
        return "-", "-", ("-" if row is None else _share(row.evaluable))
    return (
        wording.percent(row.estimate, row.mc_error),
        wording.number_range(row.lower, row.upper, row.unit, row.estimate, row.mc_error),
        _share(row.evaluable),
    )


def _share(value: float) -> str:
    return "all" if value != value or value > 0.995 else wording.percent(value)


def _day(row: EndpointRow | None) -> str:
    if row is None:
        return "-"
    if row.estimate == 0.0:
        return "not low"
    text = wording.number(row.estimate, row.unit, row.mc_error)
    return {wording.NOT_REACHED: _NEVER, "-": "-"}.get(text, f"day {text}")
