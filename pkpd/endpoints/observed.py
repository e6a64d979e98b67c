"""Low counts and recovery as observations at given times see them, compiled lane by lane.

An observation stands until the next one: a low count lasts from the first observation that shows it
to the next that does not. The definitions are those of ``pkpd.endpoints.recovery``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.endpoints.crossings import (
    CENSORED,
    FIRST_BELOW,
    FIRST_NEED,
    FIRST_RECOVERY,
    LAST_BELOW,
    LONGEST_BELOW,
    N_FIELDS,
    NEVER_BELOW,
    NOT_EVALUABLE,
    PENDING,
    RECOVERED,
    SUSTAINED,
    TOTAL_BELOW,
)
from pkpd.endpoints.results import LineOutcomes, Recovery
from pkpd.kept_code import kept

_NONE = np.zeros((1, 0), dtype=np.bool_)


@kept
def first_transfusion(transfused, begin, last):
    """First day of a transfusion between two times; infinite without one."""
    for day in range(max(int(np.ceil(begin)), 0), min(int(np.floor(last)) + 1, transfused.size)):
        if transfused[day]:
            return float(day)
    return np.inf


@kept
def mark_free(time, begin, stop, untransfused, transfused, free):
    """Mark observations without a transfusion in the days before."""
    day, given = 0, -np.inf
    for k in range(begin, stop):
        while day < transfused.size and day <= time[k]:
            if transfused[day]:
                given = day
            day += 1
        free[k] = given <= time[k] - untransfused


@kept
def confirmed(row, time, limit, begin, stop, run, watched, free):
    """First of so many observations in a row at the limit: (whether they are, its time).

    Where they are not, the time is that of the run which the end of the window cuts off; infinite
    without one.
    """
    length, since = 0, np.inf
    for k in range(begin, stop):
        if row[k] < limit or (watched and not free[k]):
            length, since = 0, np.inf
            continue
        if length == 0:
            since = time[k]
        length += 1
        if length >= run:
            return True, since
    return False, since


@kept
def _lanes(
    counts, time, until, thresholds, first, last, start, end, run, untransfused, transfused, times,
    status, nadir,
):  # fmt: skip
    """Fill the tables of all lanes; see `observed_outcomes`."""
    watched = untransfused > 0.0 and transfused.shape[1] > 0
    free = np.ones(time.size, dtype=np.bool_)
    for lane in range(counts.shape[0]):
        begin, stop, zero = first[lane], last[lane], start[lane]
        nadir[2, lane] = min(time[stop - 1], end[lane]) - zero if stop > 0 else np.nan
        good = begin >= 0 and begin < stop
        if good:
            lowest, where = counts[lane, begin], begin
            for k in range(begin, stop):
                if not np.isfinite(counts[lane, k]):
                    good = False
                    break
                if counts[lane, k] < lowest:
                    lowest, where = counts[lane, k], k
        if not good:
            times[:, :, lane] = np.nan
            status[:, :, lane] = NOT_EVALUABLE
            nadir[0, lane] = nadir[1, lane] = np.nan
            continue
        nadir[0, lane], nadir[1, lane] = lowest, time[where] - zero
        supported = np.inf  # first transfusion of the window
        if watched:
            supported = first_transfusion(transfused[lane], time[begin], time[stop - 1])
            mark_free(time, begin, stop, untransfused, transfused[lane], free)
        for j in range(thresholds.size):
            limit = thresholds[j]
            low = begin  # first observation below
            if lowest < limit:
                while counts[lane, low] >= limit:
                    low += 1
            else:
                low = stop
            back = np.inf
            total = longest = 0.0
            ended = time[begin]
            k = low
            while k < stop:
                # a spell below, then what follows until the next one
                spell = 0.0
                while k < stop and counts[lane, k] < limit:
                    ended = min(until[k], end[lane])
                    spell += ended - time[k]
                    total += ended - time[k]
                    longest = max(longest, spell)
                    k += 1
                if k < stop and back == np.inf:
                    back = time[k]
                while k < stop and counts[lane, k] >= limit:
                    k += 1
            never = low == stop
            first_low = np.inf if never else time[low]
            times[FIRST_BELOW, j, lane] = first_low - zero
            times[LAST_BELOW, j, lane] = ended - zero
            times[TOTAL_BELOW, j, lane] = total
            times[LONGEST_BELOW, j, lane] = longest
            if never:
                times[FIRST_RECOVERY, j, lane] = 0.0
                status[0, j, lane] = NEVER_BELOW
            elif back < np.inf:
                times[FIRST_RECOVERY, j, lane] = back - zero
                status[0, j, lane] = RECOVERED
            else:
                times[FIRST_RECOVERY, j, lane] = time[stop - 1] - zero
                status[0, j, lane] = CENSORED
            need = supported if never else first_low
            times[FIRST_NEED, j, lane] = need - zero
            times[PENDING, j, lane] = np.inf
            if need == np.inf:
                times[SUSTAINED, j, lane] = 0.0
                status[1, j, lane] = NEVER_BELOW
                continue
            k = begin if never else low
            while k < stop and time[k] < need:
                k += 1
            there, since = confirmed(counts[lane], time, limit, k, stop, run, watched, free)
            status[1, j, lane] = RECOVERED if there else CENSORED
            if there:
                times[SUSTAINED, j, lane] = since - zero
            else:
                times[SUSTAINED, j, lane] = time[stop - 1] - zero
                times[PENDING, j, lane] = since - zero


def observed_outcomes(
    counts: Floats,
    time: Floats,
    until: Floats,
    thresholds: Floats,
    *,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    start: Floats,
    end: Floats,
    run: int = 1,
    transfused: NDArray[np.bool_] | None = None,
    untransfused_days: float = 0.0,
) -> LineOutcomes:
    """Compute every endpoint of one line from observations.

    Parameters
    ----------
    counts : float[L, V]
        10^9/L.
    time, until : float[V]
        When a count is observed, and until when it stands, in days since the first morning.
    thresholds : float[H]
        10^9/L.
    first, last : int[L]
        First observation that counts (-1: none does), and the number of observations until the last
        that does.
    start, end : float[L]
        Window of each lane, days; a spell below is cut at its end.
    run
        Observations in a row at the threshold that make a recovery.
    transfused : bool[L, D], optional
        A transfusion at time d.
    untransfused_days
        Days without transfusion before an observation that count as recovered.

    Returns
    -------
    LineOutcomes
        Days since `start`.
    """
    lanes, levels = counts.shape[0], thresholds.size
    times = np.empty((N_FIELDS, levels, lanes))
    status = np.empty((2, levels, lanes), dtype=np.int8)
    lowest = np.empty((3, lanes))
    _lanes(
        np.ascontiguousarray(counts), time, until, thresholds, first, last, start, end, run,
        float(untransfused_days), _NONE if transfused is None else np.ascontiguousarray(transfused),
        times, status, lowest,
    )  # fmt: skip
    return LineOutcomes(
        thresholds=thresholds,
        horizon_day=lowest[2],
        nadir=lowest[0],
        nadir_day=lowest[1],
        first_below_day=times[FIRST_BELOW],
        first_need_day=times[FIRST_NEED],
        last_below_day=times[LAST_BELOW],
        days_below=times[TOTAL_BELOW],
        longest_below_days=times[LONGEST_BELOW],
        first=Recovery(times[FIRST_RECOVERY], status[0], np.full((levels, lanes), np.inf)),
        sustained=Recovery(times[SUSTAINED], status[1], times[PENDING]),
    )
