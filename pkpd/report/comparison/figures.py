"""Figures of one trial: panels drawn on one axes each, from a trial's result alone.

Every function takes a :class:`~pkpd.comparison.results.TrialResult` and an optional axes, and
returns the axes. None of them touches pyplot or a display. :mod:`pkpd.report.comparison.pages`
puts the panels of all cohorts together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pkpd.fitting.plots.style import own_axes
from pkpd.report import wording
from pkpd.report.comparison.beside_tables import own_cell, rule_protocol_day
from pkpd.report.comparison.style import (
    GREY,
    INK,
    beside,
    labels_at_right,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pkpd.comparison.results import TrialResult

LINE_COLOUR = {"neutrophils": "#0072B2", "platelets": "#B24700"}
# dark to light, so that the order of the thresholds also shows in grey
_CRITERION_STYLES = (
    ("#000000", "-"),
    ("#0072B2", (0, (5, 1.5))),
    ("#C7541A", (0, (3, 1.2, 1, 1.2))),
    ("#5FA8D3", (0, (1.2, 1.2))),
)
_RISK_MAP = LinearSegmentedColormap.from_list("risk", ["#ffffff", "#9ec5e8", "#2f6fae", "#08264d"])
_FLOOR = {"neutrophils": 0.01, "platelets": 1.0}
DAY_LABEL = "protocol day (day 1 = first dose)"


@styled
def counts_panel(
    result: TrialResult, cohort: str, line: str, ax: Axes | None = None, *, title_width: int = 60
) -> Axes:
    """Draw the counts of one line: median, 50 % and 90 % range of the patients, log axis.

    Parameters
    ----------
    result
        Result of the trial; ``curves["counts"]`` in 10^9/L.
    cohort, line
        Which curve.
    ax
        Axes to draw on; by default a new figure's.
    title_width
        Characters of the title before it wraps.

    Notes
    -----
    Counts below a floor (0.01 for neutrophils, 1 for platelets) are drawn at the floor.
    """
    ax = own_axes(ax, (4.2, 2.8))
    curves = result.curves
    counts = curves["counts"].sel(cohort=cohort, line=line)
    day = curves["day"].values
    floor = _FLOOR.get(line, 0.01)
    colour = LINE_COLOUR.get(line, INK)
    known = [round(float(q), 4) for q in counts["quantile"].values]
    for low, high, alpha in ((0.05, 0.95, 0.16), (0.25, 0.75, 0.30)):
        if low in known and high in known:
            ends = (counts.isel(quantile=known.index(q)).values for q in (low, high))
            lower, upper = (np.maximum(end, floor) for end in ends)
            ax.fill_between(day, lower, upper, color=colour, alpha=alpha, linewidth=0)
    median = counts.isel(quantile=known.index(0.5)).values
    ax.plot(day, np.maximum(median, floor), color=colour)
    ax.set_yscale("log")
    top = max(2.0 * float(np.nanmax(curves["counts"].sel(line=line).values)), 10.0 * floor)
    ax.set_ylim(0.85 * floor, top)  # a line at the floor stays visible
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylabel(f"{line}\n(10⁹/L)")
    day_axis(ax, result)
    thresholds = _thresholds(result, line)
    for at in thresholds:
        ax.axhline(at, color=INK, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    decades = math.log10(top / (0.85 * floor))
    labels = [(math.log10(at / (0.85 * floor)) / decades, f"{at:g}") for at in thresholds]
    labels_at_right(ax, labels)
    rule_day(ax, result)
    _title(ax, result, cohort, title_width)
    return ax


@styled
def dosing_strip(
    result: TrialResult, cohort: str, ax: Axes | None = None, *, x_label: bool = True
) -> Axes:
    """Draw the days of dosing of each drug; the darker a box, the more patients are dosed.

    Parameters
    ----------
    result, cohort
        ``curves["dose_given"]`` is the mean share of patients dosed on the day.
    ax
        Axes to draw on; by default a new figure's.
    x_label
        Whether to label the day axis.
    """
    ax = own_axes(ax, (4.2, 0.8))
    drugs = drugs_given(result)
    share = result.curves["dose_given"].sel(cohort=cohort, drug=drugs).values
    day = result.curves["day"].values
    for row, drug in enumerate(drugs):
        given = share[row] > 0.0
        shade = np.round(20.0 * (0.80 - 0.65 * share[row])) / 20.0
        for tone in np.unique(shade[given]):
            boxes = _boxes(day[given & (shade == tone)], row)
            ax.add_patch(PathPatch(boxes, facecolor=str(tone), linewidth=0))
        ax.axhline(row, color="#dddddd", linewidth=0.5, zorder=0)
        if not given.any():
            ax.annotate(
                f"no {drug} in this cohort",
                (0.5, row),
                xycoords=("axes fraction", "data"),
                fontsize=6,
                color=GREY,
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
    ax.set_ylim(len(drugs) - 0.5, -0.5)
    ax.set_yticks(range(len(drugs)), drugs, fontsize=6.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    day_axis(ax, result, label=x_label)
    rule_day(ax, result, text=False)
    return ax


def _boxes(days: Any, row: int) -> Path:
    """Boxes of a row of the strip, one on each day, in one path."""
    corners = np.array([(-0.4, -0.35), (0.4, -0.35), (0.4, 0.35), (-0.4, 0.35), (-0.4, -0.35)])
    vertices = (corners + np.stack([days, np.full(days.size, row)], axis=1)[:, None]).reshape(-1, 2)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(vertices, codes * days.size)


@styled
def recovery_panel(
    result: TrialResult, cohort: str, line: str, ax: Axes | None = None, *, title_width: int = 60
) -> Axes:
    """Draw the share of patients recovered by each day, a curve per threshold.

    The bands are the 90 % interval from uncertain parameters. This is one minus a Kaplan-Meier
    curve without censoring: every simulated patient is followed to the horizon.
    """
    ax = own_axes(ax, (4.2, 2.8))
    curves = result.curves
    day = curves["day"].values
    ends = []
    for i, name in enumerate(_criteria(result, line)):
        colour, style = _CRITERION_STYLES[i % len(_CRITERION_STYLES)]
        at = {"cohort": cohort, "criterion": name}
        if "recovered_interval" in curves:
            band = curves["recovered_interval"].sel(at)
            ax.fill_between(
                day,
                band.sel(bound="lower"),
                band.sel(bound="upper"),
                step="post",
                color=colour,
                alpha=0.13,
                linewidth=0,
            )
        share = curves["recovered"].sel(at).values
        ax.step(day, share, where="post", color=colour, linestyle=style)
        ends.append((float(share[-1]), f"≥ {wording.criterion(name)[1]:g}", colour))
    ax.set_ylim(0.0, 1.0)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}"))
    ax.axhline(0.5, color="#cccccc", linewidth=0.6, zorder=0)
    ax.set_ylabel(f"{line} recovered\n(% of patients)")
    day_axis(ax, result)
    labels_at_right(ax, [(y, t) for y, t, _ in ends], [c for *_, c in ends])
    rule_day(ax, result, height=0.13)
    _title(ax, result, cohort, title_width)
    return ax


@styled
def dlt_risk(result: TrialResult, rule: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the DLT risk of each cohort: predicted and published, each with its interval.

    Parameters
    ----------
    result
        Rows with endpoint ``dlt`` are drawn.
    rule
        Which rule, if the rows hold several; by default each cohort's own, else its first.
    ax
        Axes to draw on; by default a new figure's.
    """
    rows = wording.dlt_rows(result, rule)
    ax = own_axes(ax, (7.2, 1.2 + 0.55 * max(1, len(rows))))
    for y, row in enumerate(rows):
        ax.plot(
            [row.lower, row.upper],
            [y - 0.13] * 2,
            color=LINE_COLOUR["neutrophils"],
            lw=3.2,
            solid_capstyle="butt",
            alpha=0.55,
        )
        ax.plot(row.estimate, y - 0.13, "o", color=LINE_COLOUR["neutrophils"], ms=6)
        beside(ax, y - 0.13, f"predicted {wording.risk_text(row, '')}", INK)
        figure = wording.published(row)
        if figure is None:
            beside(ax, y + 0.21, "nothing published", GREY)
            continue
        if math.isfinite(figure.lower) and math.isfinite(figure.upper):
            ax.plot([figure.lower, figure.upper], [y + 0.21] * 2, color=INK, lw=0.9, ls=(0, (4, 2)))
            ax.plot([figure.lower, figure.upper], [y + 0.21] * 2, "|", color=INK, ms=5)
        ax.plot(figure.value, y + 0.21, "D", mfc="white", mec=INK, ms=5, clip_on=False, zorder=3)
        beside(ax, y + 0.21, f"published {wording.published_text(row)}", INK)
    names = [wrapped(wording.cohort_title(result.trial, row.cohort), 36) for row in rows]
    if len({row.rule for row in rows}) > 1:
        names = [f"{name}\n(rule {row.rule})" for name, row in zip(names, rows, strict=True)]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0.0, 1.0)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}"))
    ax.set_xlabel(f"{wording.risk_name(result)} (% of patients who can be judged)")
    ax.set_ylabel("cohort")
    ax.tick_params(axis="y", length=0)
    for edge in range(1, len(rows)):
        ax.axhline(edge - 0.5, color="#dddddd", linewidth=0.6, zorder=0)
    return ax


@styled
def sensitivity_panel(
    result: TrialResult, cohort: str, ax: Axes | None = None, *, title_width: int = 40
) -> Axes:
    """Draw the DLT risk (%) of one cohort under other thresholds and days, with 90 % interval.

    The outlined cell is the rule itself, if its thresholds are among those tried.
    """
    ax = own_axes(ax, (3.6, 3.2))
    data = result.curves["dlt_sensitivity"].sel(cohort=cohort)
    anc = data["neutrophil_threshold"].values
    plt = data["platelet_threshold"].values
    by_day = data["by_day"].values
    order = ("neutrophil_threshold", "platelet_threshold", "by_day", "bound")
    stacked = data.transpose(*order).values.reshape(anc.size * plt.size, by_day.size, -1)
    bounds = [str(b) for b in data["bound"].values]
    lower, mean, upper = (stacked[..., bounds.index(b)] for b in ("lower", "mean", "upper"))
    ax.pcolormesh(
        np.arange(by_day.size + 1) - 0.5,
        np.arange(len(mean) + 1) - 0.5,
        mean,
        cmap=_RISK_MAP,
        vmin=0.0,
        vmax=1.0,
        edgecolors="white",
        linewidth=0.8,
    )
    for (r, c), value in np.ndenumerate(mean):
        ax.text(
            c,
            r - 0.02,
            f"{100 * value:.0f}" if np.isfinite(value) else "-",
            ha="center",
            va="bottom",
            fontsize=7.5,
            color="white" if value > 0.5 else INK,
        )
        if not np.isfinite(lower[r, c] + upper[r, c]):
            continue
        ax.text(
            c,
            r + 0.06,
            f"{100 * lower[r, c]:.0f}-{100 * upper[r, c]:.0f}",
            ha="center",
            va="top",
            fontsize=5.5,
            color="white" if value > 0.5 else INK,
        )
    own = own_cell(result)
    if own is not None:
        of_anc, of_plt, column = own
        ax.add_patch(
            Rectangle(
                (column - 0.5, of_anc * plt.size + of_plt - 0.5),
                1,
                1,
                fill=False,
                edgecolor=INK,
                linewidth=1.6,
                zorder=4,
                clip_on=False,
            )
        )
    ax.axhline(plt.size - 0.5, color=INK, linewidth=0.8)
    ax.set_ylim(len(mean) - 0.5, -0.5)
    ax.set_yticks(range(len(mean)), [f"{a:g} / {p:g}" for a in anc for p in plt])
    ax.set_xticks(range(by_day.size), [f"{d:g}" for d in by_day])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("not recovered by day (rule's clock)")
    ax.set_ylabel("neutrophils / platelets (10⁹/L)")
    _title(ax, result, cohort, title_width)
    return ax


# -- shared parts ---------------------------------------------------------------------------


def drugs_given(result: TrialResult) -> list[str]:
    """Drugs that any cohort of the trial receives, in the order of the data."""
    given = result.curves["dose_given"].max(dim=("cohort", "day")).values
    return [str(d) for d, g in zip(result.curves["drug"].values, given, strict=True) if g > 0.0]


def day_axis(ax: Axes, result: TrialResult, *, label: bool = True) -> None:
    """Protocol days at the starts of weeks: 1, 15, 29, ... (every 4 weeks beyond 120 days)."""
    day = result.curves["day"].values
    first, last = float(day[0]), float(day[-1])
    span = last - first
    step = 7 if span <= 42 else 14 if span <= 120 else 28 if span <= 250 else 56
    ax.set_xlim(min(first, 1.0) - 0.6, last + 0.6)
    ax.xaxis.set_major_locator(FixedLocator(list(np.arange(1.0, last + 0.5, step))))
    ax.xaxis.set_minor_locator(NullLocator())
    if label:
        given = result.curves["dose_given"].max(dim=("cohort", "drug")).values > 0.0
        begins = not given.any() or day[np.argmax(given)] == 1
        ax.set_xlabel(DAY_LABEL if begins else "protocol day")


def rule_day(ax: Axes, result: TrialResult, *, text: bool = True, height: float = 1.0) -> None:
    """Draw the end of the DLT rule's day, if it is the same in all cohorts.

    Curves are of mornings, and the rule counts who is back by the morning after its day.
    """
    day = rule_protocol_day(result)
    if day is None:
        return
    ax.axvline(day + 1.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
    if text:
        ax.annotate(
            f"end of day {day}",
            (day + 1.0, height),
            xycoords=("data", "axes fraction"),
            xytext=(2, -1),
            textcoords="offset points",
            fontsize=6.5,
            color=GREY,
            va="top",
        )


def _criteria(result: TrialResult, line: str) -> list[str]:
    names = [str(c) for c in result.curves["criterion"].values]
    mine = [name for name in names if wording.criterion(name)[0] == line]
    return sorted(mine, key=lambda name: wording.criterion(name)[1])


def _thresholds(result: TrialResult, line: str) -> list[float]:
    return [wording.criterion(name)[1] for name in _criteria(result, line)]


def _title(ax: Axes, result: TrialResult, cohort: str, width: int) -> None:
    """Title at a place that matplotlib does not have to look for."""
    ax.set_title(wrapped(wording.cohort_title(result.trial, cohort), width), y=1.0, pad=4.0)
