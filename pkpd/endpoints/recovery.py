"""Nadir, time below a threshold and recovery, exact on the continuous count curve.

The curve is the cubic Hermite interpolant of the log count between solver nodes; every crossing is
solved for, none is snapped to a grid (``pkpd.endpoints.crossings``).

Definitions
-----------
Day
    ``(time_h - from_h) / 24``: days **since the start of the clock** ``from_h``; with the default
    ``from_h = 0`` this is days since the first dose. Protocols number the day of the first dose 1,
    so their "day 28" covers 27 to 28 of these days: a difference of at most one day.
Below
    Count strictly below the threshold. Already below when the clock starts counts as below.
First recovery
    The first upward crossing after the count was below. Later dips do not undo it.
Sustained recovery
    The earliest t, after the count was below, with count >= threshold on all of
    ``[t, t + sustained_days]`` and no transfusion in
    ``(t - untransfused_days, t + sustained_days]``. Both intervals must end within the horizon,
    otherwise the lane is censored and ``pending_day`` holds the earliest day not yet refuted. The
    threshold is compared with the endogenous count. A lane that was transfused without ever being
    below counts as in need from its first transfusion.
Visit recovery
    The first of ``consecutive`` visits in a row that are all at or above the threshold (and free of
    transfusion for ``untransfused_days``), after a visit that was not.
Status
    ``never_below``: time 0. ``censored``: time is that of the horizon (or of the last visit); the
    lane is kept. ``not_evaluable``: no clock, a clock at or after the horizon, or a count that is
    not finite; times are NaN and the lane is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.endpoints import crossings
from pkpd.errors import DataError, sentence

HOURS_PER_DAY = 24.0


class RecoveryStatus(IntEnum):
    """What became of a lane; see the definitions of the module."""

    RECOVERED = crossings.RECOVERED
    NEVER_BELOW = crossings.NEVER_BELOW
    CENSORED = crossings.CENSORED
    NOT_EVALUABLE = crossings.NOT_EVALUABLE


@dataclass(frozen=True)
class Recovery:
    """Recovery of every lane.

    Attributes
    ----------
    day : float[...]
        Days since the clock started; 0 when never below, the horizon when censored, NaN when not
        evaluable.
    status : int8[...]
        ``RecoveryStatus``.
    pending_day : float[...]
        For a censored lane, the earliest day at which a recovery has begun that the horizon cut
        off; infinite otherwise.
    """

    day: NDArray[np.float64]
    status: NDArray[np.int8]
    pending_day: NDArray[np.float64]


@dataclass(frozen=True)
class VisitRecovery:
    """Recovery as seen at visits; days since the clock started.

    Attributes
    ----------
    day : float[L]
        First of the consecutive recovered visits.
    lower, upper : float[L]
        The recovery lies in (lower, upper]: last visit not recovered, first visit recovered;
        ``upper`` is infinite when censored.
    first_below_day : float[L]
        First visit not recovered; infinite when there is none.
    pending_day : float[L]
        For a censored lane, the first visit of a run that the schedule cut off; else infinite.
    last_visit_day : float[L]
    status : int8[L]
        ``RecoveryStatus``.
    """

    day: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    first_below_day: NDArray[np.float64]
    pending_day: NDArray[np.float64]
    last_visit_day: NDArray[np.float64]
    status: NDArray[np.int8]


@dataclass(frozen=True)
class LineOutcomes:
    """All endpoints of one line for H thresholds and L lanes; days since the clock started.

    Attributes
    ----------
    thresholds : float[H]
        10^9/L.
    horizon_day : float[L]
        Length of the window.
    nadir, nadir_day : float[L]
        Lowest count (10^9/L) in the window and its day.
    first_below_day : float[H, L]
        Infinite when never below.
    first_need_day : float[H, L]
        As ``first_below_day``, or the first transfusion of a lane that was never below.
    last_below_day : float[H, L]
        End of the last spell below: 0 when never below, the horizon when below at the horizon.
        Unlike recovery it can never get earlier when the threshold is raised.
    days_below, longest_below_days : float[H, L]
        Total time below, and the longest single spell.
    first, sustained : Recovery
        Fields of shape [H, L].
    """

    thresholds: NDArray[np.float64]
    horizon_day: NDArray[np.float64]
    nadir: NDArray[np.float64]
    nadir_day: NDArray[np.float64]
    first_below_day: NDArray[np.float64]
    first_need_day: NDArray[np.float64]
    last_below_day: NDArray[np.float64]
    days_below: NDArray[np.float64]
    longest_below_days: NDArray[np.float64]
    first: Recovery
    sustained: Recovery


def line_outcomes(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    thresholds: ArrayLike,
    *,
    from_h: ArrayLike = 0.0,
    horizon_h: ArrayLike | None = None,
    sustained_days: float = 0.0,
    transfused_day: ArrayLike | None = None,
    untransfused_days: float = 0.0,
) -> LineOutcomes:
    """Compute every endpoint of one line in one pass over the lanes.

    Parameters
    ----------
    time_h : float[T]
        Increasing node times, h from the first dose.
    log_count, slope : float[L, T]
        Natural log of the count (10^9/L; endogenous for platelets) and its time derivative (1/h).
    thresholds : float[H] or float
        10^9/L.
    from_h : float or float[L]
        Start of the clock, h; NaN marks a lane whose treatment never began.
    horizon_h : float or float[L], optional
        End of the window, h; the last node when omitted.
    sustained_days : float
        How long the count must stay at or above the threshold.
    transfused_day : bool[L, D], optional
        A transfusion at hour 24 d.
    untransfused_days : float
        Days without transfusion required before a recovery; ignored without ``transfused_day``.

    Returns
    -------
    LineOutcomes
        Days since ``from_h``; definitions in the module's docstring.

    Raises
    ------
    DataError
        Shapes disagree, times do not increase, a threshold is not positive, or the window leaves
        the simulated time.
    """
    time, y, s = _curve(time_h, log_count, slope)
    lanes = y.shape[0]
    cut = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if cut.ndim != 1 or not np.all(cut > 0):
        raise DataError(
            sentence(
                where="thresholds",
                what=f"value {thresholds}",
                allowed="positive counts in 10^9/L",
            )
        )
    if sustained_days < 0 or untransfused_days < 0:
        raise DataError(
            sentence(
                where="sustained_days, untransfused_days",
                what=f"values {sustained_days}, {untransfused_days}",
                allowed="zero or more days",
            )
        )
    start, end = _window(time, lanes, from_h, horizon_h)
    transfused = _transfusions(transfused_day, lanes)
    times = np.empty((crossings.N_FIELDS, cut.size, lanes))
    status = np.empty((2, cut.size, lanes), dtype=np.int8)
    nadir_table = np.empty((2, lanes))
    crossings.lane_outcomes(
        time,
        y,
        s,
        np.log(cut),
        start,
        end,
        HOURS_PER_DAY * sustained_days,
        HOURS_PER_DAY * untransfused_days,
        transfused,
        times,
        status,
        nadir_table,
    )
    lengths = (crossings.TOTAL_BELOW, crossings.LONGEST_BELOW)
    for row in range(crossings.N_FIELDS):
        if row not in lengths:
            times[row] -= start
    times /= HOURS_PER_DAY
    none_pending = np.full_like(times[0], np.inf)
    return LineOutcomes(
        thresholds=cut,
        horizon_day=(end - start) / HOURS_PER_DAY,
        nadir=np.exp(nadir_table[0]),
        nadir_day=(nadir_table[1] - start) / HOURS_PER_DAY,
        first_below_day=times[crossings.FIRST_BELOW],
        first_need_day=times[crossings.FIRST_NEED],
        last_below_day=times[crossings.LAST_BELOW],
        days_below=times[crossings.TOTAL_BELOW],
        longest_below_days=times[crossings.LONGEST_BELOW],
        first=Recovery(times[crossings.FIRST_RECOVERY], status[0], none_pending),
        sustained=Recovery(times[crossings.SUSTAINED], status[1], times[crossings.PENDING]),
    )


def nadir(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    *,
    from_h: ArrayLike = 0.0,
    to_h: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest count (10^9/L) in the window and its day since ``from_h``, each float[L]."""
    found = line_outcomes(time_h, log_count, slope, (), from_h=from_h, horizon_h=to_h)
    return found.nadir, found.nadir_day


def days_below(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    threshold: float,
    *,
    from_h: ArrayLike = 0.0,
    horizon_h: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Total days below the threshold (10^9/L) and the longest single spell, each float[L]."""
    found = line_outcomes(time_h, log_count, slope, threshold, from_h=from_h, horizon_h=horizon_h)
    return found.days_below[0], found.longest_below_days[0]


def first_below(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    threshold: float,
    *,
    from_h: ArrayLike = 0.0,
    horizon_h: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """First day (since ``from_h``) below the threshold, float[L]; infinite when never."""
    found = line_outcomes(time_h, log_count, slope, threshold, from_h=from_h, horizon_h=horizon_h)
    return found.first_below_day[0]


def first_recovery(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    threshold: float,
    *,
    from_h: ArrayLike = 0.0,
    horizon_h: ArrayLike | None = None,
) -> Recovery:
    """First upward crossing after having been below; fields [L], days since ``from_h``."""
    found = line_outcomes(
        time_h, log_count, slope, threshold, from_h=from_h, horizon_h=horizon_h
    ).first
    return Recovery(found.day[0], found.status[0], found.pending_day[0])


def sustained_recovery(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    threshold: float,
    *,
    sustained_days: float,
    from_h: ArrayLike = 0.0,
    horizon_h: ArrayLike | None = None,
    transfused_day: ArrayLike | None = None,
    untransfused_days: float = 0.0,
) -> Recovery:
    """Sustained, untransfused recovery; fields [L], days since ``from_h``."""
    found = line_outcomes(
        time_h,
        log_count,
        slope,
        threshold,
        from_h=from_h,
        horizon_h=horizon_h,
        sustained_days=sustained_days,
        transfused_day=transfused_day,
        untransfused_days=untransfused_days,
    ).sustained
    return Recovery(found.day[0], found.status[0], found.pending_day[0])


def log_count_at(
    time_h: ArrayLike, log_count: ArrayLike, slope: ArrayLike, at_h: ArrayLike
) -> NDArray[np.float64]:
    """Log count of every lane at the hours ``at_h`` [V] (from the first dose), float[L, V]."""
    time, y, s = _curve(time_h, log_count, slope)
    at = np.atleast_1d(np.asarray(at_h, dtype=np.float64))
    if at.size and (at.min() < time[0] or at.max() > time[-1]):
        raise DataError(
            sentence(
                where="at_h",
                what=f"hours {at.min():g} to {at.max():g}",
                allowed=f"{time[0]:g} to {time[-1]:g} h, the simulated time",
                remedy="lengthen the horizon of the simulation",
            )
        )
    cell = np.clip(np.searchsorted(time, at, side="right") - 1, 0, time.size - 2)
    h = time[cell + 1] - time[cell]
    u = (at - time[cell]) / h
    rise = u * u * (3.0 - 2.0 * u)
    return (
        y[:, cell] * (1.0 - rise)
        + y[:, cell + 1] * rise
        + h * u * (1.0 - u) * (s[:, cell] * (1.0 - u) - s[:, cell + 1] * u)
    )


def visit_recovery(
    time_h: ArrayLike,
    log_count: ArrayLike,
    slope: ArrayLike,
    threshold: float,
    *,
    visit_days: ArrayLike,
    consecutive: int = 1,
    from_h: ArrayLike = 0.0,
    transfused_day: ArrayLike | None = None,
    untransfused_days: float = 0.0,
) -> VisitRecovery:
    """Recovery as a visit schedule sees it.

    Parameters
    ----------
    visit_days : float[V]
        Visits, increasing, in days since the first dose (not since the clock): hour 24 d. Visits
        before a lane's clock are not used.
    consecutive : int
        Number of recovered visits in a row that confirm a recovery; its date is the first of them.

    Other parameters as in ``line_outcomes``; the count at a visit is the one before any transfusion
    given at that hour, and a visit within ``untransfused_days`` after a transfusion, or at one, is
    not a recovered visit.
    """
    time, y, s = _curve(time_h, log_count, slope)
    visit_h = HOURS_PER_DAY * np.atleast_1d(np.asarray(visit_days, dtype=np.float64))
    if visit_h.size == 0 or np.any(np.diff(visit_h) <= 0) or consecutive < 1:
        raise DataError(
            sentence(
                where="visit_days, consecutive",
                what=f"values {visit_days}, {consecutive}",
                allowed="at least one visit, increasing days, and one or more consecutive visits",
            )
        )
    lanes = y.shape[0]
    start, _ = _window(time, lanes, from_h, None)
    value = log_count_at(time, y, s, visit_h)
    ok = (value >= np.log(threshold)).astype(np.int8)
    transfused = _transfusions(transfused_day, lanes)
    if transfused.shape[1]:
        given_h = HOURS_PER_DAY * np.arange(transfused.shape[1])
        near = (given_h <= visit_h[:, None]) & (
            given_h > visit_h[:, None] - HOURS_PER_DAY * untransfused_days
        )
        near |= given_h == visit_h[:, None]
        ok[(transfused.astype(np.int64) @ near.T.astype(np.int64)) > 0] = 0
    ok[~np.isfinite(value)] = -1
    times = np.empty((5, lanes))
    status = np.empty(lanes, dtype=np.int8)
    crossings.visit_outcomes(ok, visit_h, start, consecutive, times, status)
    day, lower, upper, first_below_day, pending = (times - start) / HOURS_PER_DAY
    last = (visit_h[-1] - start) / HOURS_PER_DAY
    return VisitRecovery(day, lower, upper, first_below_day, pending, last, status)


def _curve(
    time_h: ArrayLike, log_count: ArrayLike, slope: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    time = np.ascontiguousarray(time_h, dtype=np.float64)
    y = np.ascontiguousarray(log_count, dtype=np.float64)
    s = np.ascontiguousarray(slope, dtype=np.float64)
    y, s = np.atleast_2d(y), np.atleast_2d(s)
    if time.ndim != 1 or time.size < 2 or y.shape != s.shape or y.shape[1] != time.size:
        raise DataError(
            sentence(
                where="count curve",
                what=f"shapes time {time.shape}, log count {y.shape}, slope {s.shape}",
                allowed="[T], [L, T], [L, T] with T at least 2",
            )
        )
    if not np.all(np.diff(time) > 0):
        raise DataError(
            sentence(where="time_h", what="node times do not increase", allowed="increasing hours")
        )
    return time, y, s


def _window(
    time: NDArray[np.float64], lanes: int, from_h: ArrayLike, horizon_h: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    last = time[-1] if horizon_h is None else horizon_h
    start = np.array(np.broadcast_to(np.asarray(from_h, dtype=np.float64), (lanes,)))
    end = np.array(np.broadcast_to(np.asarray(last, dtype=np.float64), (lanes,)))
    if np.any(start < time[0]) or np.any(end > time[-1]):
        raise DataError(
            sentence(
                where="from_h, horizon_h",
                what=f"window {np.nanmin(start):g} to {np.nanmax(end):g} h",
                allowed=f"within {time[0]:g} to {time[-1]:g} h, the simulated time",
                remedy="lengthen the horizon of the simulation",
            )
        )
    return start, end


def _transfusions(transfused_day: ArrayLike | None, lanes: int) -> NDArray[np.bool_]:
    if transfused_day is None:
        return np.zeros((1, 0), dtype=np.bool_)
    table = np.ascontiguousarray(transfused_day, dtype=np.bool_)
    if table.ndim != 2 or table.shape[0] != lanes:
        raise DataError(
            sentence(
                where="transfused_day",
                what=f"shape {table.shape}",
                allowed=f"[L, D] with L = {lanes} lanes",
            )
        )
    return table
