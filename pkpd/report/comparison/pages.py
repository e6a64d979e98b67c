"""Figures of a whole trial: one page per question, with footer, as SVG and for print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pkpd.files import file_stem
from pkpd.report import wording
from pkpd.report.comparison import beside_tables, figures
from pkpd.report.comparison.layout import (
    TICKS,
    WIDTH,
    place_labels,
    sheet,
    text_width,
    title_height,
)
from pkpd.report.comparison.split_figure import split_figure
from pkpd.report.comparison.split_words import split_alt, split_sentence
from pkpd.report.comparison.style import INK, styled, wrapped
from pkpd.report.svg import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pkpd.comparison.results import TrialResult

PRINT_DPI = 300


@dataclass(frozen=True)
class Page:
    """One figure with what a reader and a screen reader need.

    Attributes
    ----------
    name
        File name without ending, such as ``nct01681537_dlt``.
    title
        What the figure is of.
    caption
        What is drawn and how to read it.
    alt
        The content in words, for a reader who cannot see the figure.
    figure
        The matplotlib figure.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Drawing:
    """A figure as the report holds it: name and caption as those of its `Page`, and SVG."""

    name: str
    caption: str
    svg: str


def trial_pages(result: TrialResult, record: Mapping[str, Any] | None = None) -> Iterator[Page]:
    """Draw all figures of a trial, one after another; figures without data are left out."""
    curves = result.curves
    stem = file_stem(result.trial.id)
    name = result.trial.name
    footer = footer_text(result, record)
    if wording.dlt_rows(result):
        yield Page(
            f"{stem}_dlt",
            f"{name}: {wording.risk_name(result)}",
            f"{wording.risk_name(result).capitalize()} by cohort. {_dlt_key(result)}",
            _dlt_alt(result),
            dlt_figure(result, footer),
        )
    if "split" in curves:
        yield Page(
            f"{stem}_split",
            f"{name}: what has become of the patients",
            f"{split_sentence(result)} Recovered: all counts of the rule are at their thresholds, "
            "platelets without transfusion. Low: they are not"
            + (
                ". With leukaemia: 5 % marrow blasts or more, whatever the counts"
                if "low with leukaemia" in curves["state"].values
                else ""
            )
            + (
                ". The risk counts as recovered, too, who was back before that day and is low on it"
                if str(curves.attrs.get("rule_kind", "")) == "not_recovered"
                else ""
            )
            + ". Numbers at the right: the last morning.",
            split_alt(result),
            split_figure(result, footer),
        )
    if "counts" in curves:
        for line in (str(one) for one in curves["line"].values):
            yield Page(
                f"{stem}_counts_{line}",
                f"{name}: {line} over time",
                f"{line.capitalize()} over time. Line: median patient; dark and light band: 50 % "
                "and 90 % of the patients and parameter draws. Dashed: recovery thresholds. Strip: "
                "days of dosing, darker where more patients are dosed; after a gate patients start "
                "on different days."
                + (" Platelets include transfused ones." if line == "platelets" else ""),
                _counts_alt(result, line),
                counts_figure(result, line, footer),
            )
    if "recovered" in curves:
        yield Page(
            f"{stem}_recovery",
            f"{name}: time to recovery",
            "Share of patients recovered by each day, for each threshold. Recovery is looked for "
            "from the planned last dose of the rule's first cycle to the first of the next; "
            "patients who are not low then count as recovered from the start. Bands: 90 % interval "
            "from uncertain parameters.",
            _recovery_alt(result),
            recovery_figure(result, footer),
        )
    if "dlt_sensitivity" in curves:
        yield Page(
            f"{stem}_sensitivity",
            f"{name}: DLT risk under other rules",
            "Risk of a dose-limiting toxicity (%) if the rule had other thresholds or another day; "
            f"small figures: 90 % interval. {beside_tables.rule_as_run(result)}",
            _sensitivity_alt(result),
            sensitivity_figure(result, footer),
        )


def save_pages(
    result: TrialResult,
    folder: Path,
    record: Mapping[str, Any] | None = None,
    formats: Sequence[str] = ("svg",),
) -> list[Drawing]:
    """Draw all figures of a trial and write them into an existing folder.

    Parameters
    ----------
    result, record
        What is drawn.
    folder
        Where files go.
    formats
        ``svg``, ``pdf``, ``png``; PNG has 300 dpi. Two runs of the same seed give the same bytes.
    """
    drawn = []
    for page in trial_pages(result, record):
        text = svg(page.figure, page.name, page.title, page.alt)
        if "svg" in formats:
            (folder / f"{page.name}.svg").write_text(text, encoding="utf-8")
        # straight to the canvas: `savefig` would draw each figure twice
        if "pdf" in formats:
            # takes long to import
            from matplotlib.backends.backend_pdf import FigureCanvasPdf

            FigureCanvasPdf(page.figure).print_pdf(
                folder / f"{page.name}.pdf", metadata={"CreationDate": None}
            )
        if "png" in formats:
            page.figure.set_dpi(PRINT_DPI)
            FigureCanvasAgg(page.figure).print_png(folder / f"{page.name}.png")
        drawn.append(Drawing(page.name, page.caption, text))
    return drawn


# -- pages ----------------------------------------------------------------------------------


@styled
def counts_figure(result: TrialResult, line: str, footer: str = "") -> Figure:
    """Draw counts of one line: a panel for each cohort with its dosing strip underneath."""
    ids = _cohort_ids(result)
    columns = 1 if len(ids) == 1 else 2
    n_rows = math.ceil(len(ids) / columns)
    drugs = figures.drugs_given(result) if "dose_given" in result.curves else []
    strip = 0.16 * len(drugs)
    letters = 90 if columns == 1 else 40
    above = _title_height(result, ids, letters)
    left = max(_LEFT, text_width(drugs, 6.5) + 0.08)
    high = 1.45
    pitch = above + high + TICKS + (strip + 0.05 if drugs else 0.0) + 0.06
    page = sheet(result, f"{line} over time", n_rows * pitch + TICKS, footer, legend=True)
    width = WIDTH / columns - left - 0.45
    for i, cohort in enumerate(ids):
        row, column = divmod(i, columns)
        at = (column * WIDTH / columns + left, row * pitch + above)
        ax = page.panel(*at, width, high)
        figures.counts_panel(result, cohort, line, ax, title_width=letters)
        last = ax
        if drugs:
            last = page.panel(at[0], at[1] + high + 0.05, width, strip)
            figures.dosing_strip(result, cohort, last)
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=False, length=0)
        if i + columns < len(ids):
            last.set_xlabel("")
        place_labels(ax)
        place_labels(last)
    colour = figures.LINE_COLOUR.get(line, INK)
    page.legend(
        [
            Line2D([], [], color=colour, label="median"),
            Patch(color=colour, alpha=0.42, linewidth=0, label="50 % of patients"),
            Patch(color=colour, alpha=0.16, linewidth=0, label="90 % of patients"),
            Line2D([], [], color=INK, lw=0.7, ls=(0, (4, 2)), label="recovery threshold"),
            *([Patch(color="0.15", label="dosing day")] if drugs else []),
        ],
        ncols=5,
        handlelength=1.8,
        columnspacing=1.4,
    )
    return page.figure


@styled
def recovery_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw recovery curves: a row for each cohort, neutrophils beside platelets."""
    ids = _cohort_ids(result)
    lines = [
        line
        for line in ("neutrophils", "platelets")
        if any(wording.criterion(str(c))[0] == line for c in result.curves["criterion"].values)
    ]
    high = 1.4 if len(ids) > 2 else 1.9
    above = _title_height(result, ids, 100)
    pitch = above + high + 0.12
    page = sheet(result, "time to recovery", len(ids) * pitch + 2 * TICKS - 0.1, footer)
    wide = WIDTH / len(lines)
    for i, cohort in enumerate(ids):
        for j, line in enumerate(lines):
            ax = page.panel(j * wide + _LEFT, i * pitch + above, wide - _LEFT - 0.5, high)
            figures.recovery_panel(result, cohort, line, ax, title_width=100)
            place_labels(ax)
            if j:  # the title of the left panel names the cohort of the whole row
                ax.set_title("")
            if i + 1 < len(ids):
                ax.set_xlabel("")
                ax.tick_params(axis="x", labelbottom=False)
    return page.figure


@styled
def dlt_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw the DLT risk of all cohorts, predicted beside published."""
    rows = wording.dlt_rows(result)
    high = 0.15 + 0.5 * len(rows)
    page = sheet(result, wording.risk_name(result), high + 2 * TICKS + 0.1, footer, legend=True)
    figure = page.figure
    ax = figures.dlt_risk(result, ax=page.panel(1.0, 0.05, 1.0, high))
    # the axes take what the names of the cohorts and the figures beside leave
    names = text_width((label.get_text() for label in ax.get_yticklabels()), 7.5)
    told = text_width((text.get_text() for text in ax.texts), 7.5)
    left = names + 0.32
    place = ax.get_position()
    width = WIDTH - left - told - 0.2
    ax.set_position((left / WIDTH, place.y0, width / WIDTH, place.height))
    place_labels(ax, left=names + 0.12)
    # the axes are narrow beside long names; their label is not
    ax.xaxis.label.set_wrap(False)
    kinds = {p.interval for row in rows if (p := wording.published(row)) and p.interval}
    interval = f" with interval ({' or '.join(sorted(kinds))})" if kinds else ""
    blue = figures.LINE_COLOUR["neutrophils"]
    ranged = any(not wording.no_interval(r.lower, r.upper) for r in rows)
    look = {"lw": 3.2, "label": "predicted, 90 % interval"} if ranged else {"lw": 0}
    handles = [Line2D([], [], color=blue, marker="o", **{"label": "predicted", **look})]
    if any(wording.published(row) for row in rows):
        look = {"marker": "D", "mfc": "white", "lw": 0.9, "ls": (0, (4, 2))}
        handles.append(Line2D([], [], color=INK, label=f"published{interval}", **look))
    page.legend(handles, ncols=2)
    return figure


def _dlt_key(result: TrialResult) -> str:
    """Say what the marks of the figure of risks are: those that are drawn."""
    rows = wording.dlt_rows(result)
    key = "Dot: predicted mean."
    if any(not wording.no_interval(r.lower, r.upper) for r in rows):
        key = "Dot and bar: predicted mean and 90 % interval from uncertain parameters."
    known = [told for row in rows if (told := wording.published(row))]
    if any(told.interval for told in known):
        return f"{key} Diamond and dashed line: published proportion with its own interval."
    return f"{key} Diamond: published proportion." if known else key


@styled
def sensitivity_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw the DLT risk over thresholds and days: a heat map for each cohort."""
    ids = _cohort_ids(result)
    columns = min(2, len(ids))
    n_rows = math.ceil(len(ids) / columns)
    letters = 90 if columns == 1 else 40
    above = _title_height(result, ids, letters)
    high = 2.3
    pitch = above + high + 0.1
    page = sheet(
        result,
        "DLT risk (%) under other rules",
        n_rows * pitch + 2 * TICKS - 0.1,
        f"Small print: 90 % interval. {beside_tables.rule_as_run(result)} {footer}",
    )
    left, between = 0.92, 0.25
    width = (WIDTH - left - columns * between) / columns
    for i, cohort in enumerate(ids):
        row, column = divmod(i, columns)
        ax = page.panel(left + column * (width + between), row * pitch + above, width, high)
        figures.sensitivity_panel(result, cohort, ax, title_width=letters)
        place_labels(ax, left=0.62)
        if i + columns < len(ids):
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=False)
        if column:
            ax.set_ylabel("")
            ax.tick_params(axis="y", labelleft=False)
    return page.figure


_LEFT = 0.68
"""Inches left of axes with a label of two lines."""


def _title_height(result: TrialResult, ids: Sequence[str], letters: int) -> float:
    return title_height(wrapped(wording.cohort_title(result.trial, c), letters) for c in ids)


def _cohort_ids(result: TrialResult) -> list[str]:
    return [str(c) for c in result.curves["cohort"].values]


def footer_text(trial: TrialResult, record: Mapping[str, Any] | None = None) -> str:
    """Footer of a figure: size of the simulation, the rule, and how much is assumed."""
    n = len(wording.assumed_inputs(trial.rows))
    rest = {
        0: "No input is marked as assumed.",
        1: "Rests on 1 assumed input, listed in the report.",
    }.get(n, f"Rests on {n} assumed inputs, listed in the report.")
    size = wording.size_text(trial, record)
    parts = [f"Simulation of {size}."] if size else []
    if marrow := wording.marrow_text(trial.curves.attrs):
        # capitals are too wide for the line
        parts.append(f"{marrow.replace('NOT CONVERGED', 'not converged')}.")
    return " ".join([*parts, f"DLT rule: {wording.rule_text(trial).rstrip('.')}.", rest])


# -- figures in words -----------------------------------------------------------------------


def _dlt_alt(result: TrialResult) -> str:
    parts = []
    for row in wording.dlt_rows(result):
        told = wording.published_text(row)
        parts.append(
            f"{row.cohort} predicted {wording.risk_text(row, '')}, "
            + (f"published {told}" if told else "nothing published")
        )
    return "Dot plot of the DLT risk: " + "; ".join(parts) + "."


def _counts_alt(result: TrialResult, line: str) -> str:
    parts = []
    for row in result.rows:
        if row.endpoint == "nadir" and row.line == line:
            span = wording.number_range(
                row.patients_lower, row.patients_upper, row.unit, row.estimate
            )
            middle = wording.number(row.estimate, row.unit, row.mc_error)
            parts.append(f"{row.cohort} median nadir {middle} (90 % of patients {span})")
    told = "; ".join(parts) or "see the table of results"
    return f"Curves of {line} in 10^9/L by protocol day for each cohort: {told}."


def _recovery_alt(result: TrialResult) -> str:
    parts = [
        f"{row.cohort} {wording.endpoint_name(row, unit=False)} "
        + ("day " if 0.0 < row.estimate < math.inf else "")
        + wording.estimate_text(row)
        for row in result.rows
        if row.endpoint == "recovery_day" and not math.isnan(row.estimate)
    ]
    return "Rising curves of the share recovered; medians: " + ("; ".join(parts) or "none") + "."


def _sensitivity_alt(result: TrialResult) -> str:
    mean = result.curves["dlt_sensitivity"].sel(bound="mean")
    parts = [
        f"{cohort} from {100 * float(one.min()):.0f} to {100 * float(one.max()):.0f} %"
        if one.notnull().any()
        else f"{cohort} {wording.NOT_JUDGED}"
        for cohort in _cohort_ids(result)
        for one in [mean.sel(cohort=cohort)]
    ]
    return "Heat maps of the DLT risk over thresholds and days: " + "; ".join(parts) + "."
