"""Nadir, time below a threshold and recovery, exact on the continuous count curve.

The curve is the cubic Hermite interpolant of the log count between solver nodes; every crossing is
solved for, none is snapped to a grid (``pkpd.endpoints.crossings``). The definitions are those of
``pkpd.endpoints.recovery``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.endpoints import crossings
from pkpd.endpoints.results import HOURS_PER_DAY, LineOutcomes, Recovery
from pkpd.errors import DataError


def curve_outcomes(
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
    cut = check_thresholds(thresholds)
    if sustained_days < 0 or untransfused_days < 0:
        raise DataError(
            where="sustained_days, untransfused_days",
            what=f"values {sustained_days}, {untransfused_days}",
            allowed="zero or more days",
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


def log_count_at(
    time_h: ArrayLike, log_count: ArrayLike, slope: ArrayLike, at_h: ArrayLike
) -> NDArray[np.float64]:
    """Log count of every lane at the hours ``at_h`` [V] (from the first dose), float[L, V]."""
    time, y, s = _curve(time_h, log_count, slope)
    at = np.atleast_1d(np.asarray(at_h, dtype=np.float64))
    if at.size and (at.min() < time[0] or at.max() > time[-1]):
        raise DataError(
            where="at_h",
            what=f"hours {at.min():g} to {at.max():g}",
            allowed=f"{time[0]:g} to {time[-1]:g} h, the simulated time",
            remedy="lengthen the horizon of the simulation",
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


def check_thresholds(thresholds: ArrayLike) -> np.ndarray:
    """Thresholds in a row; those that are not positive are refused."""
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if levels.ndim != 1 or not np.all(levels > 0):
        raise DataError(
            where="thresholds", what=f"value {thresholds}", allowed="positive counts in 10^9/L"
        )
    return levels


def _curve(
    time_h: ArrayLike, log_count: ArrayLike, slope: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    time = np.ascontiguousarray(time_h, dtype=np.float64)
    y = np.ascontiguousarray(log_count, dtype=np.float64)
    s = np.ascontiguousarray(slope, dtype=np.float64)
    y, s = np.atleast_2d(y), np.atleast_2d(s)
    if time.ndim != 1 or time.size < 2 or y.shape != s.shape or y.shape[1] != time.size:
        raise DataError(
            where="count curve",
            what=f"shapes time {time.shape}, log count {y.shape}, slope {s.shape}",
            allowed="[T], [L, T], [L, T] with T at least 2",
        )
    if not np.all(np.diff(time) > 0):
        raise DataError(
            where="time_h", what="node times do not increase", allowed="increasing hours"
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
            where="from_h, horizon_h",
            what=f"window {np.nanmin(start):g} to {np.nanmax(end):g} h",
            allowed=f"within {time[0]:g} to {time[-1]:g} h, the simulated time",
            remedy="lengthen the horizon of the simulation",
        )
    return start, end


def _transfusions(transfused_day: ArrayLike | None, lanes: int) -> NDArray[np.bool_]:
    if transfused_day is None:
        return np.zeros((1, 0), dtype=np.bool_)
    table = np.ascontiguousarray(transfused_day, dtype=np.bool_)
    if table.ndim != 2 or table.shape[0] != lanes:
        raise DataError(
            where="transfused_day",
            what=f"shape {table.shape}",
            allowed=f"[L, D] with L = {lanes} lanes",
        )
    return table
