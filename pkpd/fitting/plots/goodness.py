"""Goodness of fit: measurements against predictions, residuals against time and prediction."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from pkpd.errors import PkpdError
from pkpd.fitting.checks.npde import PredictionErrors
from pkpd.fitting.checks.replicates import chosen
from pkpd.fitting.checks.residuals import Residuals, residuals
from pkpd.fitting.draws import Fitted
from pkpd.fitting.plots.data import _marks, _zeros
from pkpd.fitting.plots.style import (
    BLUE,
    GREY,
    RUST,
    WIDTH,
    calm,
    log_axis,
    own_axes,
    place_of_line,
    points,
    smooth,
    styled,
    time_scale,
    time_ticks,
    unit,
)

Error = Literal["cwres", "iwres", "wres", "npde", "npd"]
_NAMES = {"cwres": "CWRES", "iwres": "IWRES", "wres": "WRES", "npde": "NPDE", "npd": "NPD"}


@styled
def plot_dv_pred(
    found: Residuals, ax: Axes | None = None, *, line: str | None = None, log: bool = False
) -> Axes:
    """Draw measurements against predictions of the typical patient (PRED)."""
    return _against(found, found.pred, "population prediction", ax, line, log)


@styled
def plot_dv_ipred(
    found: Residuals, ax: Axes | None = None, *, line: str | None = None, log: bool = False
) -> Axes:
    """Draw measurements against individual predictions (IPRED)."""
    return _against(found, found.ipred, "individual prediction", ax, line, log)


def _against(
    found: Residuals,
    predicted: np.ndarray,
    label: str,
    ax: Axes | None,
    line: str | None,
    log: bool,
) -> Axes:
    ax = own_axes(ax)
    line, mine = _of_line(found, line)
    seen = found.dataset.observations
    x, y = predicted, seen.value
    keep = mine & np.isfinite(x) & ((x > 0) & (y > 0) if log else True)
    if log:
        log_axis(ax.xaxis)
        log_axis(ax.yaxis)
    _marks(found.dataset, keep, x, y, ax, log, join=False)
    for told in _zeros(found.dataset, mine, y, log):
        ax.legend(handles=[Line2D([], [], ls="", label=told)], loc="upper left", handlelength=0)
    known = np.concatenate([x[keep], y[keep]])
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    margin = 1.15 if log else 0.04 * (high - low) or 1.0
    ends = (low / margin, high * margin) if log else (min(low, 0) - margin, high + margin)
    ax.plot(ends, ends, color=GREY, linewidth=0.9, zorder=2)
    use = found.measured & keep
    if log:
        at, middle = smooth(np.log(x[use]), np.log(y[use]))
        at, middle = np.exp(at), np.exp(middle)
    else:
        at, middle = smooth(x[use], y[use])
    ax.plot(at, middle, color=RUST, linestyle=(0, (5, 1.5)), linewidth=1.3, zorder=5)
    ax.set(xlim=ends, ylim=ends, xlabel=label, ylabel=f"observed {unit(line, found.dataset.units)}")
    if not log:
        calm(ax)
    return ax


@styled
def plot_residuals(
    found: Residuals,
    ax: Axes | None = None,
    *,
    errors: PredictionErrors | None = None,
    kind: Error = "cwres",
    against: Any = "time",
    line: str | None = None,
) -> Axes:
    """Draw residuals against time, prediction, or anything else.

    Parameters
    ----------
    found
        Residuals.
    ax
        Axes to draw on.
    errors
        Prediction errors, for ``kind`` ``"npde"`` and ``"npd"``.
    kind
        Which residual.
    against
        ``"time"``, ``"time_after_dose"``, ``"pred"``, ``"ipred"``, or a number for each
        observation.
    line
        Line of the data; all of them if left out.
    """
    ax = own_axes(ax)
    values = _values(found, errors, kind)
    mine = np.ones(len(values), bool) if line is None else _of_line(found, line)[1]
    if isinstance(against, str) and against in ("pred", "ipred"):
        x = found.pred if against == "pred" else found.ipred
        label = {"pred": "population prediction", "ipred": "individual prediction"}[against]
    else:
        x, label = chosen(found.dataset, against)
        if isinstance(against, str):
            divide, word = time_scale(x[mine])
            x, label = x / divide, f"{label} ({word})"
    keep = mine & np.isfinite(values)
    for level, style in ((0.0, "-"), (-1.96, (0, (4, 2))), (1.96, (0, (4, 2)))):
        ax.axhline(level, color=GREY, linewidth=0.8, linestyle=style, zorder=1)
    _marks(found.dataset, keep, x, values, ax, False, join=False)
    at, middle = smooth(x[keep], values[keep])
    ax.plot(at, middle, color=RUST, linestyle=(0, (5, 1.5)), linewidth=1.3, zorder=5)
    reach = max(3.0, 1.08 * float(np.max(np.abs(values[keep]), initial=0.0)))
    ax.set(ylim=(-reach, reach), xlabel=label, ylabel=_NAMES[kind])
    calm(ax)
    if label.endswith("(h)"):
        time_ticks(ax, x[mine])
    return ax


@styled
def plot_qq(
    found: Residuals,
    ax: Axes | None = None,
    *,
    errors: PredictionErrors | None = None,
    kind: Error = "cwres",
    line: str | None = None,
) -> Axes:
    """Draw quantiles of residuals against those of a standard normal, with a 90 % band."""
    ax = own_axes(ax)
    values = _values(found, errors, kind)
    mine = np.ones(len(values), bool) if line is None else _of_line(found, line)[1]
    values = np.sort(values[mine & np.isfinite(values)])
    n = len(values)
    rank = np.arange(1, n + 1)
    expected = stats.norm.ppf((rank - 0.375) / (n + 0.25))
    # order statistics of uniform numbers are beta distributed
    low, high = (stats.norm.ppf(stats.beta.ppf(q, rank, n + 1 - rank)) for q in (0.05, 0.95))
    ax.fill_between(expected, low, high, color=BLUE, alpha=0.16, linewidth=0)
    ends = np.array([expected[0], expected[-1]]) if n else np.array([-2.0, 2.0])
    ax.plot(ends, ends, color=GREY, linewidth=0.9)
    points(ax, expected, values)
    ax.set(xlabel="normal quantile", ylabel=f"{_NAMES[kind]} quantile")
    calm(ax)
    return ax


@styled
def plot_goodness(
    found: Residuals | Fitted,
    errors: PredictionErrors | None = None,
    *,
    line: str | None = None,
    log: bool = False,
) -> Figure:
    """Draw the usual page of one line: predictions, CWRES and NPDE against time and prediction.

    Parameters
    ----------
    found
        Residuals, or a fit.
    errors
        Prediction errors; NPDE are drawn if given.
    line
        Line of the data; needed where there are several.
    log
        Logarithmic axes of the predictions.
    """
    found = found if isinstance(found, Residuals) else residuals(found)
    line, _ = _of_line(found, line)
    kinds: tuple[Error, ...] = ("cwres",) if errors is None else ("cwres", "npde")
    figure = Figure(figsize=(WIDTH, 2.25 * (1 + len(kinds))), layout="constrained")
    grid = figure.subplots(1 + len(kinds), 3)
    plot_dv_pred(found, grid[0, 0], line=line, log=log)
    plot_dv_ipred(found, grid[0, 1], line=line, log=log)
    plot_residuals(found, grid[0, 2], kind="iwres", against="ipred", line=line)
    for row, kind in zip(grid[1:], kinds, strict=True):
        plot_residuals(found, row[0], errors=errors, kind=kind, against="time", line=line)
        plot_residuals(found, row[1], errors=errors, kind=kind, against="pred", line=line)
        plot_qq(found, row[2], errors=errors, kind=kind, line=line)
    return figure


def _of_line(found: Residuals, line: str | None) -> tuple[str, np.ndarray]:
    """Name of the line and which observations are its own."""
    place = place_of_line(found.dataset.lines, line)
    return found.dataset.lines[place], found.dataset.observations.line == place


def _values(found: Residuals, errors: PredictionErrors | None, kind: str) -> np.ndarray:
    if kind not in _NAMES:
        raise PkpdError(where="plot", what=f"kind={kind!r}", allowed=", ".join(_NAMES))
    if kind in ("npde", "npd"):
        if errors is None:
            raise PkpdError(
                where=f"plot of {_NAMES[kind]}",
                what="prediction errors are not given",
                remedy="give errors=prediction_errors(...)",
            )
        return getattr(errors, kind)
    return getattr(found, kind)
