"""Figures of a whole trial: one page per question, with footer, saved as PNG and PDF."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pkpd.report import wording
from pkpd.report.comparison import figures

if TYPE_CHECKING:
    from pkpd.comparison.results import TrialResult

WIDTH = 7.2  # inches: the text width of an A4 page
PRINT_DPI = 300


@dataclass(frozen=True)
class Page:
    """One figure with what a reader and a screen reader need.

    Attributes
    ----------
    name
        File name without ending, such as ``nct01681537_dlt``.
    caption
        What is drawn and how to read it.
    alt
        The content in words, for a reader who cannot see the figure.
    figure
        The matplotlib figure.
    """

    name: str
    caption: str
    alt: str
    figure: Figure


def trial_pages(result: TrialResult, record: Mapping[str, Any] | None = None) -> Iterator[Page]:
    """Draw all figures of a trial, one after another; figures without data are left out."""
    curves = result.curves
    stem = wording.file_stem(result.trial.id)
    footer = wording.footer_text(result, record)
    if wording.dlt_rows(result):
        yield Page(
            f"{stem}_dlt",
            f"{wording.risk_name(result).capitalize()} by cohort. Dot and bar: predicted mean and "
            "90 % interval from uncertain parameters. Diamond and dashed line: published "
            "proportion with its own interval.",
            _dlt_alt(result),
            dlt_figure(result, footer),
        )
    if "counts" in curves:
        for line in (str(name) for name in curves["line"].values):
            yield Page(
                f"{stem}_counts_{line}",
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
            "Share of patients recovered by each day, for each threshold. Recovery is looked for "
            "after the last dose of the rule's first cycle; patients who are not low from then on "
            "count as recovered from the start. Bands: 90 % interval from uncertain parameters.",
            _recovery_alt(result),
            recovery_figure(result, footer),
        )
    if "dlt_sensitivity" in curves:
        yield Page(
            f"{stem}_sensitivity",
            "Risk of a dose-limiting toxicity (%) if the rule had other thresholds or another day; "
            "small figures: 90 % interval. Outlined: the rule as run.",
            _sensitivity_alt(result),
            sensitivity_figure(result, footer),
        )


def save_pages(
    result: TrialResult, folder: Path, record: Mapping[str, Any] | None = None
) -> list[Page]:
    """Write all figures of a trial as 300-dpi PNG and as PDF into an existing folder."""
    pages = []
    for page in trial_pages(result, record):
        # without dates two runs of the same seed give the same bytes
        page.figure.savefig(folder / f"{page.name}.png", dpi=PRINT_DPI, format="png")
        page.figure.savefig(
            folder / f"{page.name}.pdf", format="pdf", metadata={"CreationDate": None}
        )
        pages.append(page)
    return pages


# -- pages ----------------------------------------------------------------------------------


@figures.styled
def counts_figure(result: TrialResult, line: str, footer: str = "") -> Figure:
    """Draw counts of one line: a panel for each cohort with its dosing strip underneath."""
    ids = _cohort_ids(result)
    columns = 1 if len(ids) == 1 else 2
    n_rows = math.ceil(len(ids) / columns)
    strips = "dose_given" in result.curves and bool(figures.drugs_given(result))
    strip = 0.16 * len(figures.drugs_given(result)) if strips else 0.0
    figure = _page(result, f"{line} over time", n_rows * (2.05 + strip) + 0.4, footer, legend=True)
    outer = figure.add_gridspec(n_rows, columns)
    shared = None
    for i, cohort in enumerate(ids):
        cell = outer[divmod(i, columns)]
        inner = GridSpecFromSubplotSpec(
            2, 1, subplot_spec=cell, height_ratios=(1.6, max(strip, 0.01)), hspace=0.02
        )
        ax = figure.add_subplot(inner[0], sharey=shared)
        shared = shared or ax
        figures.counts_panel(result, cohort, line, ax, title_width=40 if columns == 2 else 90)
        last_in_column = i + columns >= len(ids)
        if strips:
            below = figure.add_subplot(inner[1], sharex=ax)
            figures.dosing_strip(result, cohort, below, x_label=last_in_column)
            ax.set_xlabel("")
            ax.tick_params(axis="x", labelbottom=False)
        elif not last_in_column:
            ax.set_xlabel("")
    colour = figures.LINE_COLOUR.get(line, figures.INK)
    figure.legend(
        handles=[
            Line2D([], [], color=colour, label="median"),
            Patch(color=colour, alpha=0.42, linewidth=0, label="50 % of patients"),
            Patch(color=colour, alpha=0.16, linewidth=0, label="90 % of patients"),
            Line2D([], [], color=figures.INK, lw=0.7, ls=(0, (4, 2)), label="recovery threshold"),
            *([Patch(color="0.15", label="dosing day")] if strips else []),
        ],
        ncols=5,
        handlelength=1.8,
        columnspacing=1.4,
        **_legend_place(figure),
    )
    return figure


@figures.styled
def recovery_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw recovery curves: a row for each cohort, neutrophils beside platelets."""
    ids = _cohort_ids(result)
    lines = [
        line
        for line in ("neutrophils", "platelets")
        if any(wording.criterion(str(c))[0] == line for c in result.curves["criterion"].values)
    ]
    height = len(ids) * (1.75 if len(ids) > 2 else 2.3) + 0.7
    figure = _page(result, "time to recovery", height, footer)
    grid = figure.subplots(len(ids), len(lines), squeeze=False, sharex=True, sharey=True)
    for i, cohort in enumerate(ids):
        for j, line in enumerate(lines):
            ax = grid[i, j]
            figures.recovery_panel(result, cohort, line, ax, title_width=100)
            if j:  # the title of the left panel names the cohort of the whole row
                ax.set_title("")
            if i + 1 < len(ids):
                ax.set_xlabel("")
            ax.tick_params(labelleft=True)
    return figure


@figures.styled
def dlt_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw the DLT risk of all cohorts, predicted beside published."""
    rows = wording.dlt_rows(result)
    figure = _page(result, wording.risk_name(result), 0.7 + 0.52 * len(rows), footer, legend=True)
    ax = figure.add_subplot()
    figures.dlt_risk(result, ax=ax)
    blue = figures.LINE_COLOUR["neutrophils"]
    kinds = {p.interval for row in rows if (p := wording.published(row)) and p.interval}
    interval = f" with interval ({' or '.join(sorted(kinds))})" if kinds else ""
    handles = [Line2D([], [], color=blue, marker="o", lw=3.2, label="predicted, 90 % interval")]
    if any(wording.published(row) for row in rows):
        handles.append(
            Line2D(
                [],
                [],
                color=figures.INK,
                marker="D",
                mfc="white",
                lw=0.9,
                ls=(0, (4, 2)),
                label=f"published{interval}",
            )
        )
    figure.legend(handles=handles, ncols=2, **_legend_place(figure))
    return figure


@figures.styled
def sensitivity_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw the DLT risk over thresholds and days: a heat map for each cohort."""
    ids = _cohort_ids(result)
    columns = min(2, len(ids))
    n_rows = math.ceil(len(ids) / columns)
    figure = _page(
        result,
        "DLT risk (%) under other rules",
        n_rows * 2.75 + 0.5,
        "Small print: 90 % interval. Outlined: the rule as run. " + footer,
    )
    grid = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, ax in enumerate(grid.flat):
        if i >= len(ids):
            ax.set_visible(False)
            continue
        figures.sensitivity_panel(result, ids[i], ax, title_width=40 if columns == 2 else 90)
        if i + columns < len(ids):
            ax.set_xlabel("")
        else:
            ax.tick_params(axis="x", labelbottom=True)
        if i % columns:
            ax.set_ylabel("")
    return figure


def _page(
    result: TrialResult, subject: str, height: float, footer: str, *, legend: bool = False
) -> Figure:
    """Empty page: title above, footer and room for a legend below, panels laid out between."""
    trial = result.trial
    title = textwrap.wrap(f"{trial.name}: {subject}", 92)
    smaller = textwrap.wrap(trial.title, 120) if trial.title != trial.name else []
    foot = textwrap.wrap(footer, 140)
    bottom, top = (
        0.125 * len(foot) + 0.09 + (0.24 if legend else 0.0),
        0.17 * len(title) + 0.13 * len(smaller) + 0.1,
    )
    height += bottom + top
    figure = Figure(figsize=(WIDTH, height))
    inner = (0.0, bottom / height, 1.0, 1.0 - (bottom + top) / height)
    figure.set_layout_engine("constrained", rect=inner, h_pad=0.05, hspace=0.04)
    left = 0.012
    figure.text(left, 1.0 - 0.06 / height, "\n".join(title), fontsize=10, weight="bold", va="top")
    figure.text(
        left,
        1.0 - (0.09 + 0.17 * len(title)) / height,
        "\n".join(smaller),
        fontsize=7.5,
        color=figures.GREY,
        va="top",
    )
    figure.text(left, 0.05 / height, "\n".join(foot), fontsize=6.5, color=figures.GREY, va="bottom")
    return figure


def _legend_place(figure: Figure) -> dict[str, Any]:
    """Where the legend stands: in the room that `_page` left above the footer."""
    engine = figure.get_layout_engine()
    bottom = engine.get()["rect"][1] if engine is not None else 0.0
    height = figure.get_size_inches()[1]
    return {
        "loc": "lower left",
        "bbox_to_anchor": (0.0, bottom - 0.27 / height),
        "frameon": False,
    }


def _cohort_ids(result: TrialResult) -> list[str]:
    return [str(c) for c in result.curves["cohort"].values]


# -- figures in words -----------------------------------------------------------------------


def _dlt_alt(result: TrialResult) -> str:
    parts = []
    for row in wording.dlt_rows(result):
        span = wording.percent_range(row.lower, row.upper, row.estimate, row.mc_error)
        told = wording.published_text(row)
        parts.append(
            f"{row.cohort} predicted {wording.percent(row.estimate, row.mc_error)} ({span}), "
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
        + (wording.NOT_REACHED if math.isinf(row.estimate) else f"day {row.estimate:.0f}")
        for row in result.rows
        if row.endpoint == "recovery_day"
    ]
    return "Rising curves of the share recovered; medians: " + ("; ".join(parts) or "none") + "."


def _sensitivity_alt(result: TrialResult) -> str:
    mean = result.curves["dlt_sensitivity"].sel(bound="mean")
    parts = [
        f"{cohort} from {100 * float(mean.sel(cohort=cohort).min()):.0f} to "
        f"{100 * float(mean.sel(cohort=cohort).max()):.0f} %"
        for cohort in _cohort_ids(result)
    ]
    return "Heat maps of the DLT risk over thresholds and days: " + "; ".join(parts) + "."
