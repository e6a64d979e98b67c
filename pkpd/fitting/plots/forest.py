"""Effects of covariates on parameters: a forest of ratios with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from pkpd.data.dataset import Dataset
from pkpd.fitting.covariates.effects import covariate_effects
from pkpd.fitting.draws import Fitted
from pkpd.fitting.plots.style import BLUE, GREY, INK, WIDTH, log_axis, own_axes, styled

_ALIKE = (0.8, 1.25)  # limits of bioequivalence, which a reader looks for
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_LONG = (20.0, 50.0, 100.0)


@styled
def plot_covariate_effects(
    fit: Fitted,
    ax: Axes | None = None,
    *,
    quantiles: Sequence[float] = (0.05, 0.95),
    level: float = 0.9,
    alike: tuple[float, float] | None = _ALIKE,
) -> Axes:
    """Draw by what factor each covariate moves a typical parameter, with intervals.

    Parameters
    ----------
    fit
        Maximum-likelihood fit or posterior sample.
    ax
        Axes to draw on.
    quantiles, level
        See `pkpd.checks.covariate_effects`.
    alike
        Band of ratios that is shaded; ``None`` for none.
    """
    table = covariate_effects(fit, quantiles=quantiles, level=level)
    n, groups = len(table), table["parameter"].to_numpy()
    ax = own_axes(ax, (WIDTH, 0.9 + 0.24 * (n + len(set(groups)))))
    ratio, low, high = (table[name].to_numpy(float) for name in ("ratio", "lower", "upper"))
    log = bool(np.all(np.concatenate([ratio, low[np.isfinite(low)]]) > 0))
    if log:
        log_axis(ax.xaxis)
    if alike is not None:
        ax.axvspan(*alike, color=GREY, alpha=0.13, linewidth=0, zorder=0)
    ax.axvline(1.0, color=GREY, linewidth=0.8, zorder=1)
    places, labels, y = [], [], 0.0
    data = fit.likelihood.dataset
    for k in range(n):
        if k and groups[k] != groups[k - 1]:
            y -= 0.6
        row = table.iloc[k]
        known = np.isfinite(low[k]) and np.isfinite(high[k])
        colour = GREY if row.held else BLUE
        if known and not row.held:
            ax.plot([low[k], high[k]], [y, y], color=colour, linewidth=1.6, zorder=2)
        face = "white" if row.held else colour
        ax.plot([ratio[k]], [y], "o", mfc=face, mec=colour, markersize=4.5, zorder=3)
        told = f"{ratio[k]:.2f}"
        if row.held:
            told += " (held)"
        elif known:
            told += f" ({low[k]:.2f} to {high[k]:.2f})"
        ax.annotate(
            told,
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7.5,
            color=INK,
            annotation_clip=False,
        )
        places.append(y)
        labels.append(_label(row, data))
        y -= 1.0
    ax.set_yticks(places, labels)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(ylim=(y + 0.4, 0.6), xlabel="ratio to the typical patient at the reference")
    ends = np.concatenate([ratio, low, high, [1.0], alike or ()])
    ends = ends[np.isfinite(ends)]
    if log:
        ax.set_xlim(0.93 * ends.min(), 1.07 * ends.max())
        _ticks(ax)
    ax.set_title(f"{100 * level:g} % intervals", weight="normal", fontsize=7.5, loc="right")
    return ax


def _ticks(ax: Axes) -> None:
    """Few ticks at ratios that are told in words."""
    left, right = ax.get_xlim()
    inside = [v for v in (*_TICKS, *_LONG) if left <= v <= right]
    if len(inside) > 9:
        inside = [v for v in inside if v not in (0.33, 0.67, 0.8, 1.25, 1.5, 3.0)]
    ax.xaxis.set_major_locator(FixedLocator(inside))
    ax.xaxis.set_minor_locator(NullLocator())


def _label(row: Any, data: Dataset) -> str:
    unit = f" {data.units[row.covariate]}" if row.covariate in data.units else ""
    named = row.covariate in data.words
    told = data.word(row.covariate, row.value) if named else f"{row.value:.3g}"
    return f"{row.parameter}: {row.covariate} {told}{unit}"
