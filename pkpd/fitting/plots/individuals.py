"""Individual fits: measurements with predictions between them, subject by subject."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pkpd.errors import PkpdError
from pkpd.fitting.checks.curves import Curves, individual_curves
from pkpd.fitting.draws import Fitted
from pkpd.fitting.plots.data import _handles, _marks, _zeros
from pkpd.fitting.plots.style import (
    BLUE,
    GREY,
    WIDTH,
    calm,
    log_axis,
    own_axes,
    place_of_line,
    styled,
    time_scale,
    time_ticks,
    unit,
)


@styled
def plot_individual(
    curves: Curves | Fitted,
    subject: int,
    ax: Axes | None = None,
    *,
    line: str | None = None,
    log: bool = False,
) -> Axes:
    """Draw one subject's measurements with its own and the typical patient's prediction.

    Parameters
    ----------
    curves
        From `pkpd.fitting.checks.curves.individual_curves`, or a fit.
    subject
        Place of the subject in the data, from 0.
    ax
        Axes to draw on.
    line
        Line of the data; needed where there are several.
    log
        Logarithmic vertical axis; values of 0 and less are left out.
    """
    curves = _curves(curves)
    ax = own_axes(ax, (3.2, 2.4))
    data = curves.found.dataset
    index = place_of_line(data.lines, line)
    _check_subject(data.subjects, subject)
    mine = (curves.subject == subject) & (curves.line == index)
    divide, _ = time_scale(curves.time[curves.line == index])
    if log:
        log_axis(ax.yaxis)
    drawn = _positive if log else np.asarray
    for one in np.unique(curves.period[mine]):
        part = mine & (curves.period == one)
        x = curves.time[part] / divide
        if curves.lower is not None and curves.upper is not None:
            low, high = drawn(curves.lower[part]), drawn(curves.upper[part])
            ax.fill_between(x, low, high, color=BLUE, alpha=0.18, lw=0)
        ax.plot(x, drawn(curves.pred[part]), color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
        ax.plot(x, drawn(curves.ipred[part]), color=BLUE, linewidth=1.4)
    seen = data.observations
    own = (seen.subject == subject) & (seen.line == index)
    _marks(data, own, seen.time / divide, seen.value, ax, log, size=13, join=False)
    ax.set_title(f"{data.subjects[subject]}", pad=2)
    calm(ax)
    if divide == 1.0:
        time_ticks(ax, curves.time[curves.line == index])
    return ax


@styled
def plot_individuals(
    curves: Curves | Fitted,
    *,
    line: str | None = None,
    subjects: Sequence[int] | None = None,
    log: bool = False,
    columns: int = 4,
    rows: int = 5,
) -> Iterator[Figure]:
    """Draw pages of individual fits.

    Parameters
    ----------
    curves, line, log
        See `plot_individual`.
    subjects
        Places of the subjects to draw; all that have measurements of the line if left out.
    columns, rows
        Panels of a page.

    Returns
    -------
    iterator of Figure
        Page after page.
    """
    curves = _curves(curves)
    data = curves.found.dataset
    index = place_of_line(data.lines, line)
    known = np.unique(data.observations.subject[data.observations.line == index])
    chosen = list(known if subjects is None else subjects)
    for b in chosen:
        _check_subject(data.subjects, b)
    size = columns * rows
    starts = range(0, len(chosen), size)
    return (_page(curves, chosen[s : s + size], data.lines[index], log, columns) for s in starts)


def _check_subject(subjects: np.ndarray, place: int) -> None:
    if not 0 <= place < len(subjects):
        allowed = f"0 to {len(subjects) - 1}"
        raise PkpdError(where="plot of individuals", what=f"subject {place}", allowed=allowed)


def _curves(curves: Curves | Fitted) -> Curves:
    return curves if isinstance(curves, Curves) else individual_curves(curves)


@styled
def _page(curves: Curves, subjects: Sequence[int], line: str, log: bool, columns: int) -> Figure:
    n_rows, data = math.ceil(len(subjects) / columns), curves.found.dataset
    figure = Figure(figsize=(WIDTH, 1.45 * n_rows + 0.5), layout="constrained")
    grid = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, ax in enumerate(grid.flat):
        if i >= len(subjects):
            ax.set_visible(False)
            continue
        plot_individual(curves, int(subjects[i]), ax, line=line, log=log)
        if i + columns >= len(subjects):
            ax.tick_params(labelbottom=True)
    _, word = time_scale(curves.time[curves.line == data.lines.index(line)])
    figure.supxlabel(f"time ({word})", fontsize=8)
    figure.supylabel(unit(line, data.units), fontsize=8)
    handles: list[Any] = [
        *_handles(data, data.lines.index(line)),
        Line2D([], [], color=BLUE, label="individual prediction"),
        Line2D([], [], color=GREY, lw=1.0, ls=(0, (4, 2)), label="typical patient"),
    ]
    if curves.lower is not None:
        handles.append(
            Patch(
                color=BLUE, alpha=0.18, linewidth=0, label=f"its {100 * curves.level:g} % interval"
            )
        )
    seen = data.observations
    mine = np.isin(seen.subject, subjects) & (seen.line == data.lines.index(line))
    handles += [Line2D([], [], ls="", label=t) for t in _zeros(data, mine, seen.value, log)]
    figure.legend(handles=handles, loc="outside upper left", ncols=5, handlelength=1.8)
    return figure


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)
