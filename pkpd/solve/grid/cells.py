"""Cells: the intervals between which nothing changes but the state.

A marrow step may be long (4 to 6 h), but it must not straddle the start or end of an infusion,
where the driver has a kink. Edges are therefore put at every dose and infusion end, and the gaps
are divided evenly until none is longer than the step wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import numpy as np

from pkpd.errors import PkpdError
from pkpd.schedule import Slot

_DAY_H = 24.0
_AFTER_A_DOSE_H = 1.0
_SAME = 1e-9  # hours: edges closer than this (4 microseconds) are one edge


def cells(times: Iterable[float], horizon: float, max_step: float) -> np.ndarray:
    """Edges of cells from 0 to ``horizon`` that contain every event time.

    Parameters
    ----------
    times
        Event times in hours; those outside ``(0, horizon)`` add no edge.
    horizon
        End of the last cell in hours.
    max_step
        Longest cell in hours.

    Returns
    -------
    ndarray
        ``[n + 1]`` strictly increasing edges, the first 0 and the last ``horizon``.

    Raises
    ------
    PkpdError
        If a time is not finite, or ``horizon`` or ``max_step`` is not positive.

    Examples
    --------
    >>> cells([1.0], 24.0, 6.0)
    array([ 0.  ,  1.  ,  6.75, 12.5 , 18.25, 24.  ])
    """
    events = np.asarray(list(times), dtype=np.float64)
    for name, value in (("horizon", horizon), ("max_step", max_step)):
        if not (np.isfinite(value) and value > 0):
            raise PkpdError(where="cells", what=f"{name} = {value!r} h", allowed="a number above 0")
    if not np.all(np.isfinite(events)):
        raise PkpdError(where="cells", what="an event time is not finite", allowed="hours")
    inside = np.sort(events[(events > _SAME) & (events < horizon - _SAME)])
    anchors = [0.0]
    for event in inside:
        if event - anchors[-1] > _SAME:
            anchors.append(float(event))
    anchors.append(float(horizon))
    edges = [0.0]
    for left, right in pairwise(anchors):
        # the guard keeps 24 h / 4 h at 6 cells whatever the rounding
        count = max(1, int(np.ceil((right - left) / max_step - 1e-9)))
        edges.extend((left + (right - left) * np.arange(1, count + 1) / count).tolist())
        edges[-1] = right
    return np.array(edges)


def day_cells(
    hours: Iterable[float], max_step_h: float, anchors: Iterable[float] = ()
) -> np.ndarray:
    """Edges of the cells of one day, 0 to 24 h.

    Parameters
    ----------
    hours
        Hours of the day at which a dose is given or an infusion starts or ends; the edge 24
        belongs to the day as well.
    max_step_h
        Longest cell in hours.
    anchors
        Further hours that must be edges, such as 6, 12, 18.

    Raises
    ------
    PkpdError
        If an hour lies outside 0 to 24.

    Examples
    --------
    >>> day_cells([0.0, 1.0], 6.0, anchors=(6, 12, 18))
    array([ 0.,  1.,  6., 12., 18., 24.])
    """
    wanted = [float(hour) for hour in (*hours, *anchors)]
    bad = [hour for hour in wanted if not 0.0 <= hour <= 24.0]
    if bad:
        raise PkpdError(
            where="cells of a day",
            what=f"hour {bad[0]!r}",
            allowed="0 to 24",
            remedy="let an infusion that crosses midnight end on the next day",
        )
    return cells(wanted, 24.0, max_step_h)


def distinct_lengths(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct cell lengths, and for each cell the index of its length.

    Lengths that differ by rounding only count as one.

    Parameters
    ----------
    edges
        ``[n + 1]`` edges in hours.

    Returns
    -------
    lengths : ``[m]``
        Distinct lengths in hours, increasing.
    index : ``[n]``
        ``lengths[index]`` are the lengths of the cells.

    Examples
    --------
    >>> distinct_lengths(np.array([0.0, 1.0, 6.0, 12.0, 18.0, 24.0]))
    (array([1., 5., 6.]), array([0, 1, 2, 2, 2]))
    """
    raw = np.diff(np.asarray(edges, dtype=np.float64))
    order = np.argsort(raw, kind="stable")
    lengths: list[float] = []
    index = np.zeros(raw.size, dtype=np.int64)
    for i in order:
        if not lengths or raw[i] - lengths[-1] > _SAME:
            lengths.append(float(raw[i]))
        index[i] = len(lengths) - 1
    return np.array(lengths), index


def dose_cells(
    slots: Sequence[Slot], drugs: Collection[str], longest_h: float
) -> tuple[float, ...]:
    """Edges of the cells of a day, 0 to 24 h, for the doses of a schedule.

    Cells end with doses and infusions, and an hour after a dose by mouth, when most of the
    absorption is over; edges every ``longest_h`` are shared by all schedules, so that their errors
    are alike.

    Parameters
    ----------
    slots
        Dose slots.
    drugs
        Those whose doses count.
    longest_h
        Length of the longest cell.
    """
    hours = {0.0}
    for slot in slots:
        if slot.drug in drugs:
            hours |= {slot.hour, min(slot.hour + slot.duration_h, _DAY_H)}
            if slot.route == "oral" and slot.hour + _AFTER_A_DOSE_H < _DAY_H:
                hours.add(slot.hour + _AFTER_A_DOSE_H)
    edges = day_cells(sorted(hours), longest_h, anchors=np.arange(0.0, _DAY_H, longest_h))
    return tuple(float(edge) for edge in edges)
