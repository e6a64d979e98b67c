"""Figures of visual predictive checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pkpd.fitting.checks.vpc import VPC, VPCPanel
from pkpd.fitting.plots.data import undrawn
from pkpd.fitting.plots.style import (
    BLUE,
    GREY,
    INK,
    RUST,
    WIDTH,
    calm,
    censored_points,
    log_axis,
    own_axes,
    points,
    styled,
    time_scale,
    time_ticks,
    unit,
)

_DASHED = (0, (5, 2))


@styled
def plot_vpc(check: VPC, *, log: bool = False, columns: int = 2) -> Figure:
    """Draw all panels, each with the share below the limit underneath where there is a limit.

    Parameters
    ----------
    check
        From `pkpd.fitting.checks.vpc.vpc`.
    log
        Logarithmic vertical axes; values of 0 and less are left out, and their number is told.
    columns
        Panels beside each other.
    """
    columns = min(columns, len(check.panels))
    rows = math.ceil(len(check.panels) / columns)
    share = any(panel.below is not None for panel in check.panels)
    height = (3.0 if columns == 1 else 2.3) + (0.9 if share else 0.0)
    figure = Figure(figsize=(WIDTH, rows * height + 0.35), layout="constrained")
    outer = figure.add_gridspec(rows, columns)
    for i, panel in enumerate(check.panels):
        cell = outer[divmod(i, columns)]
        if share:
            inner = cell.subgridspec(2, 1, height_ratios=(2.6, 1), hspace=0.02)
            upper, lower = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
            plot_vpc_panel(check, panel, upper, log=log)
            lower.sharex(upper)
            plot_below_limit(check, panel, lower)
            upper.set_xlabel("")
            upper.tick_params(labelbottom=False)
        else:
            plot_vpc_panel(check, panel, figure.add_subplot(cell), log=log)
    figure.legend(handles=_handles(check), loc="outside lower left", ncols=2, handlelength=2.2)
    return figure


@styled
def plot_vpc_panel(
    check: VPC, panel: VPCPanel, ax: Axes | None = None, *, log: bool = False
) -> Axes:
    """Draw one panel: measurements, their percentiles, and the intervals of the model's."""
    ax = own_axes(ax, (4.6, 3.2))
    divide, label = _axis(check)
    if log:
        log_axis(ax.yaxis)
    finite = np.isfinite(panel.y) & ((panel.y > 0) if log else True)
    floor = _floor(panel, finite, log)
    below, above = np.isneginf(panel.y), np.isposinf(panel.y)
    ceiling = np.max(panel.limit[above], initial=-np.inf)
    points(ax, panel.x[finite] / divide, panel.y[finite], alpha=0.35, edgecolors=GREY, zorder=2)
    if not check.corrected:
        censored_points(
            ax, panel.x[below] / divide, np.maximum(panel.limit[below], floor), s=11, zorder=2
        )
        censored_points(ax, panel.x[above] / divide, panel.limit[above], s=11, zorder=2, marker="^")
    centre, gap = panel.centre / divide, _gaps(panel)
    for q, fraction in enumerate(check.quantiles):
        middle = _is_median(fraction)
        colour = RUST if middle else BLUE
        upper = np.where(np.isposinf(panel.upper[q]), ceiling, panel.upper[q])
        upper = np.where(np.isfinite(upper), upper, np.nan)
        lower = np.where(np.isneginf(panel.lower[q]), floor, panel.lower[q])
        some = np.isfinite(upper) & np.isfinite(lower)
        ax.fill_between(
            _broken(centre, gap),
            _broken(np.maximum(lower, floor), gap),
            _broken(np.maximum(upper, floor), gap),
            where=_broken(np.where(some, 1.0, np.nan), gap) == 1.0,
            color=colour,
            alpha=0.24,
            linewidth=0,
            zorder=1,
        )
        lone = [j for j in _alone(len(centre), gap) if some[j]]
        ends = np.maximum(lower[lone], floor), np.maximum(upper[lone], floor)
        ax.vlines(centre[lone], *ends, color=colour, alpha=0.24, linewidth=7, zorder=1)
        seen = np.where(np.isfinite(panel.observed[q]), panel.observed[q], np.nan)
        ax.plot(centre[lone], seen[lone], "_", color=INK, markersize=9, zorder=5)
        ax.plot(
            _broken(centre, gap),
            _broken(np.where(seen > 0, seen, np.nan) if log else seen, gap),
            color=INK,
            linestyle="-" if middle else _DASHED,
            linewidth=1.5 if middle else 1.1,
            zorder=5,
        )
    if not check.corrected:
        for limit in np.unique(panel.limit[np.isfinite(panel.limit)])[:4]:
            ax.axhline(limit, color=RUST, linewidth=0.8, linestyle=":", zorder=1)
    inner = panel.edges[1:-1] / divide
    ax.plot(
        inner, np.full(len(inner), 1.0), "|", color=GREY, markersize=4, clip_on=False,
        transform=ax.get_xaxis_transform(),
    )  # fmt: skip
    name = unit(panel.line, check.units)
    ax.set(
        xlabel=label,
        ylabel=f"prediction-corrected\n{name}" if check.corrected else name,
        title=panel.stratum or (panel.line if len(check.panels) > 1 else ""),
    )
    for told in undrawn(panel.y, log):
        ax.legend(handles=[Line2D([], [], ls="", label=told)], loc="best", handlelength=0)
    calm(ax)
    if check.x_label:
        time_ticks(ax, _all_times(check))
    return ax


@styled
def plot_below_limit(check: VPC, panel: VPCPanel, ax: Axes | None = None) -> Axes:
    """Draw the share of values below the limit of quantification, observed and of the model."""
    ax = own_axes(ax, (4.6, 1.4))
    divide, label = _axis(check)
    ax.set(xlabel=label, ylabel="% below\nthe limit")
    if panel.below is None:
        ax.text(0.5, 0.5, "no limit", transform=ax.transAxes, ha="center", color=GREY)
        ax.set_yticks([])
        return ax
    gap = _gaps(panel)
    centre = _broken(panel.centre / divide, gap)
    share = np.stack([_broken(100 * row, gap) for row in panel.below])
    ax.fill_between(
        centre, share[1], share[3], where=np.isfinite(share[0]), color=BLUE, alpha=0.24, lw=0
    )
    for j in _alone(len(panel.centre), gap):
        x, ends = panel.centre[j] / divide, 100 * panel.below[1:, j]
        ax.vlines(x, ends[0], ends[2], color=BLUE, alpha=0.24, linewidth=7)
    ax.plot(centre, share[2], color=BLUE, linewidth=1.0, linestyle=":")
    ax.plot(centre, share[0], color=INK, linewidth=1.2, marker=".", markersize=4)
    ax.set_ylim(-2, max(10.0, 1.12 * float(np.nanmax(share))))
    calm(ax)
    if check.x_label:
        time_ticks(ax, _all_times(check))
    return ax


def _all_times(check: VPC) -> np.ndarray:
    """Join the times of all panels, which share the unit of their axis."""
    return np.concatenate([panel.x for panel in check.panels])


def _axis(check: VPC) -> tuple[float, str]:
    """Divisor and label of the horizontal axis; numbers that are no times stay as given."""
    if not check.x_label:
        return 1.0, ""
    divide, word = time_scale(_all_times(check))
    return divide, f"{check.x_label} ({word})"


def _is_median(fraction: float) -> bool:
    return abs(fraction - 0.5) < 1e-9


def _gaps(panel: VPCPanel) -> np.ndarray:
    """Bins before which nothing was seen for long: lines do not cross such a gap."""
    step = np.diff(panel.centre)
    known = step[np.isfinite(step)]
    if known.size < 3:
        return np.zeros(0, dtype=int)
    wide = (step > 8 * np.median(known)) & (step > 0.55 * known.sum())
    return np.flatnonzero(wide) + 1


def _alone(n: int, gap: np.ndarray) -> list[int]:
    """Bins with a gap on either side, which no line reaches."""
    edges = {0, n, *gap.tolist()}
    return [j for j in range(n) if j in edges and j + 1 in edges]


def _broken(values: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Put NaN in the gaps."""
    return np.insert(np.asarray(values, dtype=float), gap, np.nan)


def _floor(panel: VPCPanel, finite: np.ndarray, log: bool) -> float:
    """Where what lies below the limit is drawn to."""
    limits = panel.limit[np.isfinite(panel.limit) & ~np.isposinf(panel.y)]
    if not log:
        known = np.concatenate([panel.lower.ravel(), panel.y[finite], [0.0]])
        return float(np.min(known[np.isfinite(known)]))
    if limits.size:
        return float(limits.min())
    return 0.8 * float(panel.y[finite].min()) if finite.any() else 1e-3


def _handles(check: VPC) -> list[Any]:
    outer = ", ".join(f"{100 * q:g}" for q in check.quantiles if not _is_median(q))
    level = f"{100 * check.level:g} % interval of the model"
    lines, bands = [], []
    if any(map(_is_median, check.quantiles)):
        lines.append(Line2D([], [], color=INK, label="observed median"))
        bands.append(Patch(color=RUST, alpha=0.24, linewidth=0, label=f"median, {level}"))
    if outer:
        lines.append(Line2D([], [], color=INK, lw=1.1, ls=_DASHED, label=f"observed {outer} %"))
        bands.append(Patch(color=BLUE, alpha=0.24, linewidth=0, label=f"{outer} %, {level}"))
    return [*lines, *bands]
