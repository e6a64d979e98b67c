"""Data as they are, before any model: curves of subjects, over doses, by covariates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED, Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import chosen, dose_times, strata
from pkpd.fitting.plots.style import (
    BLUE,
    INK,
    RUST,
    WIDTH,
    calm,
    censored_points,
    log_axis,
    own_axes,
    own_span,
    place_of_line,
    points,
    smooth,
    styled,
    time_scale,
    time_ticks,
    unit,
)

_GROUPS = 5  # a covariate with at most so many values has a bar for each
_PANELS = 20  # subjects of a figure
_WHOLE = 30  # most steps of one in whole numbers that have a bar each


@styled
def plot_data(
    data: Dataset,
    ax: Axes | None = None,
    *,
    line: str | None = None,
    by: str | None = None,
    per_dose: bool = False,
    x: str = "time",
    log: bool = False,
) -> Figure | Axes:
    """Draw the measurements of all subjects, each joined by a line up to a reset (EVID 3 or 4).

    Values below a limit are triangles at the limit, those above it triangles that point up; lines
    leave them out. A dashed line is a local fit through the measured values that are drawn, as
    narrow as they ask for.

    Parameters
    ----------
    data
        The data set.
    ax
        Axes to draw on; not with ``by``.
    line
        Line of the data; needed where there are several.
    by
        ``"occasion"`` or a covariate: a panel for each of its values, or for those up to and above
        its median where there are more than five. Covariates given in words keep them.
    per_dose
        Divide values by the last dose before them, so that doses of linear kinetics fall together;
        values before the first dose are left out.
    x
        ``"time"`` or ``"time_after_dose"``.
    log
        Logarithmic vertical axis; values of 0 and less are left out, and their number is told.

    Returns
    -------
    Figure or Axes
        A figure; the axes, where they were given.
    """
    place = place_of_line(data.lines, line, "plot of data")
    if by is None:
        axes = own_axes(ax, (4.2, 2.9))
        _curves(data, place, np.ones(len(data.observations), bool), axes, per_dose, x, log)
        return axes.figure if ax is None else axes  # type: ignore[return-value]
    if ax is not None:
        what, remedy = "by= makes a figure of its own", "leave out ax or by"
        raise PkpdError(where="plot_data, ax", what=what, remedy=remedy)
    group, names = strata(data, by)
    n = len(names)
    columns = min(n, 3)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(WIDTH, 2.3 * rows + 0.1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for k, panel in enumerate(grid.flat):
        if k >= n:
            panel.set_visible(False)
            continue
        _curves(data, place, group == k, panel, per_dose, x, log)
        mine = (group == k) & (data.observations.line == place)
        count = len(np.unique(data.observations.subject[mine]))
        panel.set_title(f"{names[k]} (n = {count})", pad=3)
        if k % columns:
            panel.set_ylabel("")
        if k + columns < n:
            panel.set_xlabel("")
    return figure


@styled
def plot_subjects(
    data: Dataset,
    subjects: Sequence[Any] | None = None,
    *,
    line: str | None = None,
    log: bool = False,
    columns: int = 4,
) -> Figure:
    """Draw the measurements of each subject in a panel of its own, doses as ticks below.

    Lines end at a reset (EVID 3 or 4). The figure says how many subjects it leaves out.

    Parameters
    ----------
    data, line, log
        See `plot_data`.
    subjects
        Labels; the first twenty with values of the line if left out. The others:
        ``plot_subjects(data, data.subjects[20:40])``.
    columns
        Panels beside each other.
    """
    place = place_of_line(data.lines, line, "plot of data")
    seen, when = data.observations, dose_times(data)
    labels = [str(label) for label in data.subjects]
    known = np.unique(seen.subject[seen.line == place])
    known = known if len(known) else np.arange(len(labels))
    if subjects is None:
        drawn = known[:_PANELS].tolist()
    else:
        for label in subjects:
            if str(label) not in labels:
                raise PkpdError(
                    where="plot_subjects",
                    what=f"there is no subject {label!r}",
                    allowed=", ".join(labels[:10]) + (", ..." if len(labels) > 10 else ""),
                )
        drawn = [labels.index(str(label)) for label in subjects]
    if not drawn:
        raise PkpdError(where="plot_subjects", what="no subject is given", allowed="one or more")
    told = [f"{len(drawn)} of {len(known)} subjects"] if len(drawn) < len(known) else []
    told += _zeros(data, np.isin(seen.subject, drawn) & (seen.line == place), seen.value, log)
    columns = max(1, min(columns, len(drawn)))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(WIDTH, 1.45 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    times = np.concatenate([seen.time[seen.line == place], *(when[b][0] for b in drawn)])
    divide, word = time_scale(times)
    for i, ax in enumerate(grid.flat):
        if i >= len(drawn):
            ax.set_visible(False)
            continue
        b = drawn[i]
        mine = (seen.subject == b) & (seen.line == place)
        if log:
            log_axis(ax.yaxis)
        _marks(data, mine, seen.time / divide, seen.value, ax, log, size=13)
        given = when[b][0] / divide
        ax.plot(given, np.full(len(given), 0.02), "|", color=RUST, ms=5, mew=1.0,
                transform=ax.get_xaxis_transform(), clip_on=False)  # fmt: skip
        ax.set_title(labels[b], pad=2)
        calm(ax)
        if i + columns >= len(drawn):
            ax.tick_params(labelbottom=True)
        if divide == 1.0:
            time_ticks(ax, times)
    figure.supxlabel(f"time ({word})", fontsize=8)
    figure.supylabel(unit(data.lines[place], data.units), fontsize=8)
    handles = _handles(data, place)
    handles.append(Line2D([], [], marker="|", color=RUST, ls="", ms=5, mew=1.0, label="dose"))
    figure.legend(handles=handles, loc="outside upper left", ncols=5, handlelength=1.8)
    if told:
        handles, words = [Line2D([], [], ls="")], ["; ".join(told)]
        figure.legend(handles, words, loc="outside upper right", handlelength=0, handletextpad=0)
    return figure


@styled
def plot_covariates(data: Dataset, names: Sequence[str] | None = None) -> Figure:
    """Draw covariates at first records: histograms, and each against each other.

    Parameters
    ----------
    data
        The data set.
    names
        Covariates; all if left out.
    """
    known = list(data.covariates)
    drawn = known if names is None else list(names)
    for name in drawn:
        if name not in known:
            raise PkpdError(
                where="plot_covariates",
                what=f"{name!r} is not a covariate of the data",
                allowed=", ".join(known) or "none: no covariate was read",
            )
    if not drawn:
        what, remedy = "the data have no covariate", 'read some with covariates=["WT"]'
        raise PkpdError(where="plot_covariates", what=what, remedy=remedy)
    from scipy import stats

    values = [np.asarray(data.covariates[name][:, 0], dtype=float) for name in drawn]
    words = [partial(data.word, name) for name in drawn]
    n = len(drawn)
    side = min(WIDTH / n, 2.3)
    figure = Figure(figsize=(max(side * n, 2.6), max(0.85 * side * n, 2.2)), layout="constrained")
    grid = figure.subplots(n, n, squeeze=False)
    for i in range(n):
        for j in range(n):
            ax = grid[i, j]
            if j > i:
                ax.set_axis_off()
                if np.ptp(values[i]) and np.ptp(values[j]):
                    found: Any = stats.spearmanr(values[i], values[j])
                    strong = abs(found.statistic) >= 0.7
                    ax.text(0.5, 0.5, f"{found.statistic:.2f}", ha="center", va="center",
                            fontsize=8 + 6 * abs(found.statistic),
                            color=RUST if strong else INK, transform=ax.transAxes)  # fmt: skip
                continue
            if j == i:
                _histogram(values[i], words[i], ax)
            else:
                _against(values[j], values[i], words[j], words[i], ax)
            ax.set(xlabel=unit(drawn[j], data.units) if i + 1 == n else "")
            ax.set_ylabel(unit(drawn[i], data.units) if j == 0 else "")
            if i + 1 < n:
                ax.tick_params(labelbottom=False)
            if j > 0 or i == 0:
                ax.tick_params(labelleft=False)
    return figure


def _histogram(values: np.ndarray, word: Callable[[float], str], ax: Axes) -> None:
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= _GROUPS:
        ax.bar(range(len(levels)), counts, 0.6, color=BLUE, alpha=0.45)
        for k, count in enumerate(counts):
            ax.annotate(str(count), (k, count), ha="center", va="bottom", fontsize=7)
        ax.set_xticks(range(len(levels)), [word(v) for v in levels])
        ax.margins(y=0.2)
    else:
        bins: Any = int(np.clip(2 * np.sqrt(len(values)), 6, 30))
        if np.all(values == np.round(values)) and np.ptp(values) <= _WHOLE:
            bins = np.arange(values.min() - 0.5, values.max() + 1.0)
        ax.hist(values, bins, color=BLUE, alpha=0.45, edgecolor="white", linewidth=0.5)
        calm(ax, 4)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _against(
    x: np.ndarray,
    y: np.ndarray,
    word_x: Callable[[float], str],
    word_y: Callable[[float], str],
    ax: Axes,
) -> None:
    """Draw a pair; values of categories are spread a little."""
    rng = np.random.default_rng(1)

    def spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        levels = np.unique(values)
        if len(levels) > _GROUPS:
            return values, None
        return np.searchsorted(levels, values) + rng.uniform(-0.14, 0.14, len(values)), levels

    (across, left), (up, low) = spread(x), spread(y)
    points(ax, across, up)
    if left is None and low is None:
        at, middle = smooth(x, y)
        ax.plot(at, middle, color=RUST, linestyle=(0, (5, 1.5)), linewidth=1.1, zorder=5)
    calm(ax, 4)
    if left is not None:
        ax.set_xticks(range(len(left)), [word_x(v) for v in left])
        ax.set_xlim(-0.5, len(left) - 0.5)
    if low is not None:
        ax.set_yticks(range(len(low)), [word_y(v) for v in low])
        ax.set_ylim(-0.5, len(low) - 0.5)


def _last_dose(data: Dataset) -> np.ndarray:
    """Amount of the last dose before each observation and after the last reset, ``[M]``.

    NaN before the first.
    """
    seen, out = data.observations, np.full(len(data.observations), np.nan)
    for b, (when, record) in enumerate(dose_times(data)):
        period = data.events.period[b]
        for m in np.flatnonzero(seen.subject == b):
            at = int(seen.record[m])
            past = (when <= seen.time[m]) & (record < at) & (period[record] == period[at])
            past = np.flatnonzero(past)
            if past.size:
                last = past[np.lexsort((record[past], when[past]))[-1]]
                out[m] = data.events.amt[b, record[last]]
    return np.where(out > 0, out, np.nan)


def _curves(
    data: Dataset,
    place: int,
    keep: np.ndarray,
    ax: Axes,
    per_dose: bool,
    x: str,
    log: bool,
) -> None:
    seen = data.observations
    axis, label = chosen(data, x)
    value = seen.value / _last_dose(data) if per_dose else seen.value
    mine = keep & (seen.line == place) & np.isfinite(value)
    divide, word = time_scale(axis[seen.line == place])
    across = axis / divide
    if log:
        log_axis(ax.yaxis)
    known = mine & (seen.censored == NOT_CENSORED) & ((value > 0) | (not log))
    if x == "time":
        for b in np.unique(seen.subject[known]):
            for own in _between_resets(data, known & (seen.subject == b)):
                ax.plot(across[own], value[own], color=BLUE, linewidth=0.6, alpha=0.4, zorder=2)
    _marks(data, mine, across, value, ax, log, join=False)
    fitted = across[known], np.log(value[known]) if log else value[known]
    at, middle = smooth(*fitted, own_span(*fitted))
    ax.plot(at, np.exp(middle) if log else middle, color=RUST, linestyle=(0, (5, 1.5)),
            linewidth=1.3, zorder=5)  # fmt: skip
    name = unit(data.lines[place], data.units)
    if per_dose:
        name = f"{data.lines[place]} per {data.units.get('AMT', 'unit')} of the last dose"
    ax.set(xlabel=f"{label} ({word})", ylabel=name)
    handles = _handles(data, place) if np.any(mine & (seen.censored != NOT_CENSORED)) else []
    if told := _zeros(data, mine, value, log):
        handles.append(Line2D([], [], ls="", label=told[0]))
    if handles:
        ax.legend(handles=handles, loc="best", handlelength=1.2)
    calm(ax)
    if divide == 1.0:
        time_ticks(ax, axis[seen.line == place])


def _marks(
    data: Dataset,
    mine: np.ndarray,
    across: np.ndarray,
    value: np.ndarray,
    ax: Axes,
    log: bool,
    *,
    size: float | None = None,
    join: bool = True,
) -> None:
    """Draw measured values, joined if asked, and those beyond a limit at it."""
    seen = data.observations
    shown = mine & ((value > 0) | (not log))
    known = shown & (seen.censored == NOT_CENSORED)
    if join:
        for own in _between_resets(data, known):
            ax.plot(across[own], value[own], color=BLUE, linewidth=0.9, alpha=0.7, zorder=2)
    more: dict[str, Any] = {} if size is None else {"s": size, "alpha": 0.9}
    points(ax, across[known], value[known], **more)
    below, above = (shown & (seen.censored == code) for code in (BELOW, ABOVE))
    censored_points(ax, across[below], value[below])
    censored_points(ax, across[above], value[above], marker="^")


def _between_resets(data: Dataset, mine: np.ndarray) -> Iterator[np.ndarray]:
    """Places of one subject's observations, period by period: its clock may start again."""
    seen, rows = data.observations, np.flatnonzero(mine)
    part = data.events.period[seen.subject[rows], seen.record[rows]]
    for one in np.unique(part):
        yield rows[part == one]


def _zeros(data: Dataset, mine: np.ndarray, value: np.ndarray, log: bool) -> list[str]:
    """Words on measured values that a logarithmic axis does not have."""
    return undrawn(value[mine & (data.observations.censored == NOT_CENSORED)], log)


def undrawn(values: np.ndarray, log: bool) -> list[str]:
    """Words on numbers that a logarithmic axis does not have."""
    lost = values[np.isfinite(values) & (values <= 0)]
    if not (log and lost.size):
        return []
    many = "1 value" if lost.size == 1 else f"{lost.size} values"
    return [f"{many} of 0{' or less' if np.any(lost < 0) else ''} not drawn"]


def _handles(data: Dataset, place: int) -> list[Any]:
    seen = data.observations
    out = [Line2D([], [], marker="o", mfc="none", mec=INK, ls="", ms=4, label="measured")]
    for code, mark, word in ((BELOW, "v", "below"), (ABOVE, "^", "above")):
        if np.any((seen.line == place) & (seen.censored == code)):
            label = f"{word} the limit"
            out.append(Line2D([], [], marker=mark, color=RUST, ls="", ms=4, label=label))
    return out
