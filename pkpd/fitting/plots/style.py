"""The look of all figures: print size, colours of Okabe and Ito (2008), marks that survive grey.

None of the plots touches pyplot or a display: each draws on the axes it is given, or on those of a
new ``matplotlib.figure.Figure``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from pkpd.errors import PkpdError

STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "lines.linewidth": 1.4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.dpi": 100,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
INK = "#222222"
GREY = "#6b6b6b"
BLUE = "#0072B2"
RUST = "#B24700"
SKY = "#5FA8D3"
WIDTH = 7.2
"""Inches: the text width of an A4 page."""
WIDE = 0.7
"""Part of the points in each local fit of residuals."""
_SPANS = (WIDE, 0.5, 0.35, 0.25, 0.17, 0.12)
_NEAR = 1.02  # of the error of the best span, within which a wider one is taken
_PLACES = 150  # at which spans are compared
DAYS_FROM = 14 * 24.0
"""Hours from which a time axis is in days."""


def styled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Draw with `STYLE` without changing the caller's settings."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapper


def own_axes(ax: Axes | None, size: tuple[float, float] = (3.5, 2.8)) -> Axes:
    """Return the axes given, or those of a new figure."""
    return Figure(figsize=size, layout="constrained").add_subplot() if ax is None else ax


def place_of_line(lines: Sequence[str], line: str | None, where: str = "plot") -> int:
    """Place of a line of the data; one that is the only one need not be named."""
    if line is None and len(lines) == 1:
        return 0
    if line not in lines:
        raise PkpdError(
            where=where,
            what="the data have several lines" if line is None else f"no line {line!r}",
            allowed=", ".join(lines),
            remedy="name one: line=...",
        )
    return list(lines).index(str(line))


def unit(line: str, units: Mapping[str, str]) -> str:
    """Name of a line with the unit declared for it, if there is one."""
    return f"{line} ({units[line]})" if line in units else line


def time_scale(hours: np.ndarray) -> tuple[float, str]:
    """Return what hours are divided by for an axis, and the unit's name."""
    finite = np.asarray(hours)[np.isfinite(hours)]
    long = finite.size > 0 and float(np.ptp(finite)) > DAYS_FROM
    return (24.0, "days") if long else (1.0, "h")


def time_ticks(ax: Axes, hours: np.ndarray) -> None:
    """Put ticks of a time axis in hours at whole days, where it spans some."""
    span = float(np.ptp(hours[np.isfinite(hours)])) if np.any(np.isfinite(hours)) else 0.0
    if 36.0 <= span <= DAYS_FROM:
        ax.xaxis.set_major_locator(MultipleLocator(24.0 if span <= 168.0 else 48.0))


def points(ax: Axes, x: np.ndarray, y: np.ndarray, **options: Any) -> None:
    """Draw measurements: open circles, lighter the more there are."""
    n = max(len(x), 1)
    size = float(np.clip(22 - 3 * np.log10(n) ** 1.6, 5, 18))
    drawn: dict[str, Any] = {
        "s": size,
        "facecolors": "none",
        "edgecolors": INK,
        "linewidths": 0.7,
        "alpha": float(np.clip(9 / np.sqrt(n), 0.25, 0.85)),
        "zorder": 3,
        # thousands of marks would make a vector file heavy
        "rasterized": n > 500,
    }
    ax.scatter(x, y, **(drawn | options))


def censored_points(ax: Axes, x: np.ndarray, limit: np.ndarray, **options: Any) -> None:
    """Draw values below a limit: filled triangles pointing down, at the limit."""
    drawn: dict[str, Any] = {
        "s": 16,
        "marker": "v",
        "facecolors": RUST,
        "edgecolors": "white",
        "linewidths": 0.4,
        "zorder": 4,
    }
    ax.scatter(x, limit, **(drawn | options))


def smooth(
    x: np.ndarray, y: np.ndarray, span: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Local linear fit with tricube weights on the nearest part of the points (Cleveland 1979).

    Parameters
    ----------
    x, y
        Points; those that are not finite are left out.
    span
        Part of the points in each local fit, more where points are few; 0.7 if left out.

    Returns
    -------
    float[L], float[L]
        Up to 40 quantiles of ``x``, and the smooth; empty for fewer than five distinct ``x``.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x)[good], np.asarray(y)[good]
    if len(np.unique(x)) < 5:
        return np.zeros(0), np.zeros(0)
    # where points are: between clusters there is nothing to be local to
    grid = np.unique(np.quantile(x, np.linspace(0, 1, 40)))
    return grid, _local(x, y, grid, WIDE if span is None else span)[0]


def own_span(x: np.ndarray, y: np.ndarray) -> float:
    """Span of `smooth` that follows the points: an absorption is lost where it is wide.

    Each value is predicted from the others; of the spans whose mean error is within 2 % of the
    best, the widest is taken.

    Parameters
    ----------
    x, y
        Points; those that are not finite are left out.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x)[good], np.asarray(y)[good]
    places = np.unique(x)
    if len(places) < 5:
        return WIDE
    places = places[np.linspace(0, len(places) - 1, min(len(places), _PLACES)).astype(int)]
    used = np.isin(x, places)
    at = np.searchsorted(places, x[used])
    errors = []
    for span in _SPANS:
        level, own = _local(x, y, places, span)
        left_out = (y[used] - level[at]) / np.maximum(1.0 - own[at], 1e-6)
        errors.append(float(np.mean(np.abs(left_out))))
    return next(s for s, e in zip(_SPANS, errors, strict=True) if e <= _NEAR * min(errors))


def _local(
    x: np.ndarray, y: np.ndarray, grid: np.ndarray, span: float
) -> tuple[np.ndarray, np.ndarray]:
    """Local fit at each place of a grid, and the share that a point there has in it."""
    k = max(4, int(np.ceil(min(1.0, max(span, 12 / len(x))) * len(x))))
    out, own = np.empty(len(grid)), np.empty(len(grid))
    for i, at in enumerate(grid):
        distance = np.abs(x - at)
        reach = max(np.partition(distance, k - 1)[k - 1], 1e-9 * (np.ptp(x) or 1.0)) * 1.0001
        weight = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        total = weight.sum()
        centre = weight @ x / total
        spread = weight @ (x - centre) ** 2
        level = weight @ y / total
        sloped = spread > 1e-12 * total
        slope = weight @ ((x - centre) * y) / spread if sloped else 0.0
        out[i] = level + slope * (at - centre)
        own[i] = 1.0 / total + ((at - centre) ** 2 / spread if sloped else 0.0)
    return out, own


def log_axis(axis: Any) -> None:
    """Make an axis logarithmic with plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def calm(ax: Axes, most: int = 5) -> None:
    """Few ticks; an axis without any stays so."""
    for axis in (ax.xaxis, ax.yaxis):
        if len(axis.get_ticklocs()) and axis.get_scale() == "linear":
            axis.set_major_locator(MaxNLocator(most))
