"""The comparison in a terminal or a text file, cohort by cohort as the results arrive.

Nothing depends on colour, and every table keeps to the width of the console (80 columns when the
output is not a terminal).
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pkpd.report import wording
from pkpd.report.comparison import beside_tables, exposure_words

if TYPE_CHECKING:
    from pkpd.comparison.results import ComparisonResult, EndpointRow, Question, TrialResult
    from pkpd.trials import Trial

OnProgress = Callable[[float, float, str], None]
PLAIN_EVERY_S = 5.0

_HEADS = {
    "endpoint": "endpoint",
    "estimate": "median or risk",
    "patients": "90 % of patients",
    "interval": "90 % interval",
    "shares": "pat / par",
    "error": "MC error",
    "published": "published",
}
_NARROW = {
    "endpoint": 23,
    "estimate": 7,
    "patients": 12,
    "interval": 11,
    "shares": 5,
    "error": 5,
    "published": 11,
}
_SHORT = "n.r."
_KEY = (
    "90 % of patients: 5 % to 95 % quantile over patients and parameter draws. 90 % interval: of "
    "the median or the risk, from uncertain parameters; none from fewer than 20 draws. pat / par: "
    "share (%) of the variance of one new patient's outcome that comes from differences between "
    "patients / from uncertain parameters. MC error: one standard error, as the simulation is "
    "finite, in percentage points for a risk. n.r.: not reached before the next cycle, or by the "
    "last simulated day. not low: not low after the planned last dose of the cycle. Days count "
    "from the first dose of the rule's clock (that dose = 0). A DLT risk is that of the patients "
    "who can be judged, with their share where it is not all: who died before the rule's day "
    "(under a rule of low counts: without the event), or has leukaemia on it where the rule "
    "excludes that, cannot. Published counts without a printed interval have their exact 95 % "
    "interval."
)


class CohortPrinter:
    """Prints each cohort when it is finished, and each trial's comparisons when it is.

    Parameters
    ----------
    console
        Where to print; by default standard output.
    size
        Size of the simulation in words, such as ``"1000 patients x 200 parameter draws"``.
    """

    def __init__(self, console: Console | None = None, size: str = "") -> None:
        self.console = console or make_console()
        self.size = size
        self._trial: str | None = None
        self._keyed = False

    def cohort(self, trial: Trial, cohort_id: str, rows: Sequence[EndpointRow]) -> None:
        """Print one cohort's table, after the trial's heading if the trial is new."""
        if trial.id != self._trial:
            self._trial = trial.id
            self.heading(trial, wording.marrow_text(vars(rows[0])) if rows else "")
        cohort = wording.cohorts(trial).get(cohort_id)
        size = f" (n = {cohort.n} in the trial)" if cohort is not None and cohort.n else ""
        self._line(Text(f"{wording.cohort_title(trial, cohort_id)}{size}", style="bold"))
        self.console.print(cohort_table(rows, self.console.width))
        self.console.print()

    def simulated(self, told: Mapping[str, str]) -> None:
        """Print who is simulated for each trial, and in which marrow."""
        for trial, text in told.items():
            self._line(f"Simulated, {trial}: {text}.")
        self.console.print()

    def heading(self, trial: Trial, marrow: str = "") -> None:
        """Print the trial's name, title and population, and the marrow if it was learned."""
        self.console.rule(Text(trial.name, style="bold"), characters="=", align="left")
        names = dict.fromkeys(name for c in trial.cohorts if (name := c.rule or trial.rule))
        rule = f"DLT rule{'s' * (len(names) > 1)} {', '.join(names)}" if names else "no DLT rule"
        parts = [f"population {Path(trial.population).name}", rule, self.size]
        self._line(trial.title)
        self._line("; ".join(part for part in parts if part))
        if marrow:
            self._line(f"{marrow}.")
        if not self._keyed:
            self._keyed = True
            self._line(Text(_KEY, style="dim"))
        self.console.print()

    def trial(self, result: TrialResult) -> None:
        """Print paired differences and the sensitivity of the DLT risk to its thresholds."""
        if result.pairs:
            self._line(Text("Pairs of schedules, same patients and parameters", style="bold"))
            self.console.print(pairs_table(result))
            if told := beside_tables.other_way(result):
                self._line(told)
            self._line(Text(f"{beside_tables.BOTH} {beside_tables.TIES}", style="dim"))
            self.console.print()
        if "dlt_sensitivity" in result.curves:
            self._line(
                Text("DLT risk (%) if the rule had other thresholds or another day", style="bold")
            )
            self.console.print(sensitivity_table(result))
            marked = beside_tables.rule_as_run(result).replace("Outlined:", "*").rstrip(".")
            self._line(Text(f"{marked}; 90 % intervals are in sensitivity.csv", style="dim"))
            self._line(Text(f"{wording.rule_text(result).rstrip('.')}.", style="dim"))
            self.console.print()
        if told := exposure_words.text(result):
            self._line(Text(exposure_words.TITLE, style="bold"))
            self._line(Text(told, style="dim"))
            for heads, cells in (
                (exposure_words.HEADS, exposure_words.cells(result)),
                (exposure_words.RATIO_HEADS, exposure_words.ratio_cells(result)),
            ):
                if cells:
                    self.console.print(words_table(heads, cells))
            for source in exposure_words.sources(result.exposures):
                self._item(source)
            self.console.print()
        for question in result.questions:
            self._line(Text(question.title, style="bold"))
            self._line(Text(question.text, style="dim"))
            self.console.print(question_table(question))
            for text in question.answer:
                self._item(f"{text[0].upper()}{text[1:]}.")
            self.console.print()

    def assumptions(self, result: ComparisonResult) -> None:
        """Print what is assumed: inputs with the number of figures that rest on them."""
        if told := wording.other_marrow_text(result.record):
            self._line(told)
            self.console.print()
        counted = wording.assumed_inputs(row for t in result.trials for row in t.rows)
        sentences = dict.fromkeys(s for t in result.trials for s in t.assumptions)
        if not counted and not sentences:
            self._line("No input is marked as assumed.")
            return
        self._line(Text("Assumed inputs (figures that rest on each)", style="bold"))
        for name, count in counted.items():
            self._item(f"{name} ({count})")
        for text in sentences:
            self._item(text)
        self.console.print()

    def files(self, paths: Iterable[Path], folder: Path) -> None:
        """Print where the files are, figures by their number only."""
        names = [Path(p).relative_to(folder).as_posix() for p in paths]
        figures = [name for name in names if name.startswith("figures/")]
        self._line(Text(f"Files in {folder}", style="bold"))
        for name in names:
            if name not in figures:
                self._item(name)
        if figures:
            kinds = sorted({Path(name).suffix[1:].upper() for name in figures})
            self._item(f"figures/ ({len(figures)} files, {', '.join(kinds)})")

    def _line(self, text: str | Text) -> None:
        style = text.style if isinstance(text, Text) else ""
        filled = textwrap.fill(str(text), self.console.width, break_on_hyphens=False)
        self.console.print(Text(filled, style=style), soft_wrap=True)

    def _item(self, text: str) -> None:
        print_lines(self.console, [f"  - {text}"])


def cohort_table(rows: Sequence[EndpointRow], width: int = 80) -> Table:
    """Table of one cohort: endpoints down, figures across, at most `width` columns wide.

    The same widths are used for every cohort, so that tables printed one after another align.
    """
    table = _plain_table()
    extra = max(0, min(width, 130) - 80)
    more = {"endpoint": 0.3, "estimate": 0.1, "patients": 0.1, "interval": 0.1, "published": 0.3}
    for name, base in _NARROW.items():
        table.add_column(
            _HEADS[name],
            width=base + int(extra * more.get(name, 0.0)),
            justify="left" if name in ("endpoint", "published") else "right",
            overflow="fold",
        )
    for row in filter(wording.is_headline, rows):
        unit, mc = row.unit, row.mc_error
        interval = wording.number_range(row.lower, row.upper, unit, row.estimate, mc)
        patients = wording.number_range(row.patients_lower, row.patients_upper, unit, row.estimate)
        estimate = Text("not low" if wording.is_not_low(row) else wording.estimate_text(row))
        if row.endpoint == "dlt":
            estimate.stylize("bold")
        table.add_row(
            wording.endpoint_name(row),
            estimate,
            patients.replace(wording.NOT_REACHED, _SHORT),
            interval.replace(wording.NOT_REACHED, _SHORT),
            wording.shares(row),
            wording.error_text(mc, unit),
            wording.published_text(row, separator="\n" if extra < 24 else " "),
        )
    return table


def pairs_table(result: TrialResult) -> Table:
    """Paired differences of the DLT risk in percentage points."""
    table = _plain_table()
    several = len({pair.rule for pair in result.pairs}) > 1
    for head in ("first", "second", *(["risk of"] if several else [])):
        table.add_column(head, overflow="fold")
    for head in ("difference, points", "90 % interval", "MC error", "P(first safer)"):
        table.add_column(head, justify="right")
    for pair in result.pairs:
        table.add_row(
            pair.first,
            pair.second,
            *([pair.rule] if several else []),
            wording.percent(pair.difference, pair.mc_error, sign=True),
            wording.difference_range(pair.lower, pair.upper, pair.mc_error),
            wording.error_text(pair.mc_error, "probability"),
            wording.percent(pair.p_first_safer),
        )
    return table


def sensitivity_table(result: TrialResult) -> Table:
    """DLT risk in per cent: cohorts and days down, pairs of thresholds across."""
    data = result.curves["dlt_sensitivity"].sel(bound="mean")
    data = data.transpose("cohort", "by_day", "neutrophil_threshold", "platelet_threshold")
    anc = data["neutrophil_threshold"].values
    plt = data["platelet_threshold"].values
    own = beside_tables.own_cell(result)
    table = _plain_table()
    table.add_column("neutrophils\nplatelets", overflow="fold")
    table.add_column("\nday", justify="right")
    for a in anc:
        for p in plt:
            table.add_column(f"{a:g} \n{p:g} ", justify="right")
    for i, cohort in enumerate(data["cohort"].values):
        for d, day in enumerate(data["by_day"].values):
            cells = [
                _whole_percent(float(data.values[i, d, a, p])) + ("*" if (a, p, d) == own else " ")
                for a, p in np.ndindex(anc.size, plt.size)
            ]
            last = d + 1 == data.sizes["by_day"]
            table.add_row(str(cohort) if d == 0 else "", f"{day:g}", *cells, end_section=last)
    return table


def _whole_percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100.0 * share:.0f}"


def question_table(question: Question) -> Table:
    """Table of a trial's question."""
    rows = [[wording.cell_text(cell) for cell in row] for row in question.rows]
    return words_table(question.columns, rows)


def words_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Table of words."""
    table = _plain_table()
    for head in heads:
        # a head breaks between words, not within one
        table.add_column(head, overflow="fold", min_width=max(map(len, head.split())))
    for row in rows:
        table.add_row(*row)
    return table


def _plain_table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="underline")


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print plain lines; a line that wraps keeps its indent, and that of its list item."""
    for line in lines:
        text = line.lstrip(" ")
        indent = " " * (len(line) - len(text))
        hang = indent + ("  " if text.startswith("- ") else "")
        wrapped = textwrap.fill(
            text,
            console.width,
            initial_indent=indent,
            subsequent_indent=hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        console.print(wrapped, soft_wrap=True)


def make_console(*, stderr: bool = False) -> Console:
    """Console without highlighting; 80 columns wide when it is not a terminal."""
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def plain_progress(
    errors: Console, every_s: float = PLAIN_EVERY_S, clock: Callable[[], float] = time.monotonic
) -> OnProgress:
    """Write progress as lines: the first at once, later ones as soon as there is something new.

    Parameters
    ----------
    errors
        Where to.
    every_s
        Seconds from a line to the next, at least.
    clock
        Seconds now.

    Returns
    -------
    callable
        ``on_progress(done, total, text)``.
    """
    began = clock()
    last = -inf

    def on_progress(done: float, total: float, text: str) -> None:
        nonlocal last
        now = clock()
        if now - last >= every_s or done >= total:
            last = now
            errors.print(
                Text(f"{done:.0f} of {total:.0f} after {now - began:.0f} s: {text}"),
                soft_wrap=True,
            )

    return on_progress


@contextmanager
def progress(
    output: Console, errors: Console | None = None, *, lines: bool = False
) -> Iterator[OnProgress]:
    """Show a progress bar with the time left while a comparison runs.

    The bar is drawn on `output` if that is a terminal (tables then scroll above it), else on
    `errors`, else nowhere; with `lines`, plain lines are then written to `errors` instead
    (`plain_progress`).

    Yields
    ------
    callable
        ``on_progress(done, total, text)``.
    """
    errors = errors or make_console(stderr=True)
    shown = output if output.is_terminal else errors
    if not shown.is_terminal:
        yield plain_progress(errors) if lines else lambda done, total, text: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=shown,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        task = bar.add_task("starting", total=None)

        def on_progress(done: float, total: float, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text)

        yield on_progress
