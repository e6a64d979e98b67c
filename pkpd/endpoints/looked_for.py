"""Recovery looked for from the planned last dose of a cycle to the next, compiled lane by lane.

What `pkpd.endpoints.recovery.recovery_after` says of observations, at all thresholds and for all
numbers of observations that confirm a recovery, in one walk over the counts of each lane. The
definitions are those of ``pkpd.endpoints.recovery``; on the curve they are read off
`pkpd.endpoints.crossings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.endpoints.crossings import (
    BACK_BEFORE,
    CENSORED,
    NEVER_BELOW,
    NEXT_CYCLE,
    NOT_EVALUABLE,
    RECOVERED,
)
from pkpd.endpoints.observed import confirmed, first_transfusion, mark_free
from pkpd.endpoints.resolution import Observations
from pkpd.kept_code import kept

ROUNDING = 1e-9  # days
_NONE = np.zeros((1, 0), dtype=np.bool_)


class LookedFor(NamedTuple):
    """What is found for R runs, H thresholds and L lanes; days since the clock's start.

    Attributes
    ----------
    status : int8[R, H, L], day, pending_day : float[R, H, L]
        Of a recovery that so many observations confirm.
    need_day : float[H, L], low_before : bool[H, L]
        As `pkpd.endpoints.recovery.RecoverySeen` has them.
    end_day : float[L]
        Of the last count.
    """

    status: NDArray[np.int8]
    day: Floats
    pending_day: Floats
    need_day: Floats
    end_day: Floats
    low_before: NDArray[np.bool_]


@kept
def _until(time, day):
    """Count the observations on or before a day; all of them for one that is no number."""
    return time.size if np.isnan(day) else np.searchsorted(time, day + ROUNDING, side="right")


@kept
def _from(time, day):
    """First observation on or after a day; -1 without one."""
    first = time.size if np.isnan(day) else np.searchsorted(time, day - ROUNDING)
    return first if first < time.size else -1


@kept
def _finite(row, begin, stop):
    """Whether there are counts in a window, all of them numbers; and the lowest of them."""
    if begin < 0 or begin >= stop:
        return False, np.inf
    lowest, check = np.inf, 0.0
    for k in range(begin, stop):
        count = row[k]
        check += 0.0 * count
        lowest = min(lowest, count)
    return check == 0.0, lowest


@kept
def _first_low(row, limit, begin, stop):
    """First observation below the limit; ``stop`` without one."""
    k = begin
    while k < stop and row[k] >= limit:
        k += 1
    return k


@kept
def _one(row, time, limit, begin, window, low, need, run, watched, free):
    """Recovery of one lane at one threshold: (status, time, pending time), days of the course.

    ``window`` has the numbers of observations until the next cycle and until the last count, and
    whether there is a next cycle; ``low`` is the first observation below, ``need`` the day from
    which recovery is looked for.
    """
    within, last, ends = window
    if need == np.inf:
        return NEVER_BELOW, 0.0, np.inf
    first = begin
    while first < within and time[first] < need:
        first += 1
    there, since = confirmed(row, time, limit, first, within, run, watched, free)
    # a run at the threshold that lasts to the next cycle is a recovery, if a short one
    if there or (ends and since < np.inf):
        return RECOVERED, since, np.inf
    if not ends:
        return CENSORED, time[last - 1], since
    # under the treatment of the next cycle; a lane that was transfused in this one and is low in
    # that one alone is looked at from there
    first = low if within <= low < last else within
    there, since = confirmed(row, time, limit, first, last, run, watched, free)
    if there:
        return NEXT_CYCLE, since, np.inf
    return CENSORED, time[last - 1], since


@kept
def _low_until(row, time, thresholds, window, watched, transfused, low):
    """Mark the thresholds at which a lane is in need within a window."""
    begin, stop = window
    known, lowest = _finite(row, begin, stop)
    given = known and watched
    if given:
        given = first_transfusion(transfused, time[begin], time[stop - 1]) < np.inf
    for j in range(thresholds.size):
        low[j] = known and (given or lowest < thresholds[j])


@kept
def _fill(lane, status, day, pending, need, of_status, of_day, of_pending, of_need):
    """Write the same for all runs and thresholds of a lane."""
    for j in range(need.shape[0]):
        need[j, lane] = of_need
        for r in range(status.shape[0]):
            status[r, j, lane] = of_status
            day[r, j, lane] = of_day
            pending[r, j, lane] = of_pending


@kept
def _lanes(
    counts, time, thresholds, start, search, until, dies, before, runs, untransfused,
    transfused, status, day, pending, need, end, low_before,
):  # fmt: skip
    """Fill the tables of all lanes; see `looked_for`."""
    watched = untransfused > 0.0 and transfused.shape[1] > 0
    free = np.ones(time.size, dtype=np.bool_)
    for lane in range(counts.shape[0]):
        row, given = counts[lane], transfused[lane if watched else 0]
        look, shift = search[lane], search[lane] - start[lane]
        if before and start[lane] <= dies[lane]:
            window = (_from(time, start[lane]), _until(time, min(look, dies[lane])))
            _low_until(row, time, thresholds, window, watched, given, low_before[:, lane])
        if look > dies[lane]:
            # nothing is seen, and nothing ever recovers
            end[lane] = shift
            _fill(lane, status, day, pending, need, CENSORED, shift, np.inf, np.inf)
            continue
        begin, last = _from(time, look), _until(time, dies[lane])
        ends = until[lane] < np.inf
        within = _until(time, min(until[lane], dies[lane])) if ends else last
        end[lane] = time[last - 1] - look + shift if last > 0 else np.nan
        known, lowest = _finite(row, begin, last)
        if not known or within <= begin:
            _fill(lane, status, day, pending, need, NOT_EVALUABLE, np.nan, np.nan, np.nan)
            continue
        supported = np.inf
        if watched:
            supported = first_transfusion(given, time[begin], time[within - 1])
            mark_free(time, begin, last, untransfused, given, free)
        for j in range(thresholds.size):
            limit, low = thresholds[j], last
            if lowest < limit:
                low = _first_low(row, limit, begin, last)
            since = time[low] if low < within else supported
            need[j, lane] = since - look + shift
            for r in range(runs.size):
                code, when, wait = _one(
                    row, time, limit, begin, (within, last, ends), low, since, runs[r],
                    watched, free,
                )  # fmt: skip
                never = code == NEVER_BELOW
                day[r, j, lane] = 0.0 if never else when - look + shift
                pending[r, j, lane] = wait - look + shift
                status[r, j, lane] = BACK_BEFORE if never and low_before[j, lane] else code


def looked_for(
    seen: Observations,
    thresholds: Floats,
    *,
    start: Floats,
    search: Floats,
    until: Floats,
    dies: Floats,
    runs: Sequence[int],
    transfused: NDArray[np.bool_] | None = None,
    untransfused_days: float = 0.0,
) -> LookedFor:
    """Find the recovery of every lane.

    Parameters
    ----------
    seen
        Counts of a line.
    thresholds : float[H]
        10^9/L.
    start, search, until : float[L]
        The clock's start, the planned last dose of the cycle, and the first dose of the next
        (infinite where there is none), days since the first morning.
    dies : float[L]
        The morning of the day of death; infinite for a lane that lives.
    runs : int[R]
        Observations in a row at the threshold that make a recovery.
    transfused : bool[L, D], optional
        A transfusion on morning d.
    untransfused_days
        Days without transfusion before an observation that count as recovered.

    Returns
    -------
    LookedFor
        Days since `start`.
    """
    lanes, shape = start.size, (len(runs), thresholds.size, start.size)
    out = LookedFor(
        status=np.empty(shape, dtype=np.int8),
        day=np.empty(shape),
        pending_day=np.empty(shape),
        need_day=np.empty(shape[1:]),
        end_day=np.empty(lanes),
        low_before=np.zeros(shape[1:], dtype=np.bool_),
    )
    before = not np.array_equal(search, start, equal_nan=True)
    _lanes(
        np.ascontiguousarray(seen.counts), seen.time, thresholds, start,
        search, until, dies, before, np.array(runs, dtype=np.int64), float(untransfused_days),
        _NONE if transfused is None else np.ascontiguousarray(transfused), *out,
    )  # fmt: skip
    return out
