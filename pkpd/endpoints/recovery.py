"""Nadir, low counts and recovery of one line of a course.

Definitions
-----------
Day
    Days since the start of the clock, a lane's own if given; the first morning otherwise. See
    ``pkpd.endpoints`` for "by day N".
Below
    Count strictly below the threshold. Already below when the clock starts counts as below.
First recovery
    The first time at the threshold after the count was below. Later dips do not undo it.
Recovery
    The earliest t, after the count was below, from which the count is at its threshold for
    ``sustained_days`` and no platelets were transfused in the ``untransfused_days`` before t and
    until it is confirmed. On the curve the count stays at its threshold on all of
    ``[t, t + sustained_days]``; in mornings on so many mornings in a row, t being the first; on
    visits on ``consecutive`` of them in a row. A next cycle ends the search (`recovery_after`): a
    run that lasts until its first dose is a recovery, however short it is. The threshold is
    compared with own platelets. A lane that was transfused without ever being below counts as in
    need from its first transfusion. Without ``untransfused_days`` transfusions are not looked at.
Days below
    On the curve the time below. In mornings each low count stands for its day; on visits until the
    next visit.
Death
    Counts after the morning of the day of death do not exist: a lane that is low then is never
    recovered.
Status
    ``never_below``: time 0. ``back_before``: below in the cycle, not after its planned last dose;
    time 0. ``next_cycle``: low after that dose and not back by the first of the next cycle;
    time is when the count was back under its treatment. Of a cycle (`recovery_of_cycle`) a lane
    whose first fall is later than it is ``never_below`` or ``back_before``. ``censored``: time is
    that of the last count; the lane is kept, and ``pending_day`` holds the earliest day not yet
    refuted. ``not_evaluable``: no clock, a clock at
    or after the horizon, or a count that is not finite; times are NaN and the lane is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.endpoints.crossings import (
    BACK_BEFORE,
    CENSORED,
    NEVER_BELOW,
    NEXT_CYCLE,
    NOT_EVALUABLE,
    RECOVERED,
)
from pkpd.endpoints.curve import check_thresholds, curve_outcomes
from pkpd.endpoints.looked_for import ROUNDING, looked_for
from pkpd.endpoints.observed import observed_outcomes
from pkpd.endpoints.resolution import Resolution, check_resolution, curve_of, observations
from pkpd.endpoints.results import HOURS_PER_DAY, LineOutcomes, Recovery
from pkpd.errors import DataError

TRANSFUSED_LINE = "platelets"


@dataclass(frozen=True)
class RecoveryDefinition:
    """When a count has recovered.

    Attributes
    ----------
    sustained_days
        For how many days it stays at its threshold; 0: one count is enough.
    untransfused_days
        Days without platelet transfusion before platelets count as recovered; 0: transfusions are
        not looked at.
    consecutive
        On how many visits in a row the count is seen recovered.
    """

    sustained_days: float = 0.0
    untransfused_days: float = 0.0
    consecutive: int = 1

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        if self.sustained_days < 0 or self.untransfused_days < 0 or self.consecutive < 1:
            raise DataError(
                where="sustained_days, untransfused_days, consecutive",
                what=f"{self.sustained_days}, {self.untransfused_days}, {self.consecutive}",
                allowed="zero or more days, and one or more visits",
            )

    @property
    def mornings(self) -> int:
        """How many mornings in a row confirm a recovery."""
        return max(1, int(np.ceil(self.sustained_days)), self.consecutive)


ANY_TIME = RecoveryDefinition()
"""One count at the threshold is a recovery; transfusions are not looked at."""


def line_outcomes(
    course: Course,
    line: str,
    thresholds: ArrayLike,
    *,
    resolution: Resolution = "morning",
    definition: RecoveryDefinition = ANY_TIME,
    start: ArrayLike = 0.0,
    end: ArrayLike | None = None,
    laboratory: bool = False,
) -> LineOutcomes:
    """Compute every endpoint of one line.

    Parameters
    ----------
    course
        What became of the lanes.
    line
        ``neutrophils``, ``platelets`` or ``wbc``.
    thresholds : float[H] or float
        10^9/L.
    resolution
        With which counts.
    definition
        When a count has recovered.
    start : float or float[L]
        Clock of each lane, days since the first morning; NaN where it never started.
    end : float or float[L], optional
        End of the window, days since the first morning; that of the simulation if omitted.
    laboratory
        Platelets with transfused ones; not for ``"continuous"``.

    Returns
    -------
    LineOutcomes
        Days since `start`.

    Raises
    ------
    DataError
        If the line or the curve was not simulated, a threshold is not positive, or the window
        leaves the simulated time.
    """
    levels = _levels(course, line, thresholds, resolution)
    begin, stop = np.empty(course.lanes), np.full(course.lanes, np.inf)
    begin[:] = start
    if end is not None:
        stop[:] = end
    transfused = None
    if line == TRANSFUSED_LINE and definition.untransfused_days > 0:
        transfused = course.transfused
    dies = course.death_day - 1.0  # the morning of the day of death
    if resolution == "continuous":
        curve = curve_of(course)
        until = np.minimum(np.minimum(stop, dies), curve.time_h[-1] / HOURS_PER_DAY)
        found = curve_outcomes(
            curve.time_h,
            curve.log_count[line],
            curve.slope[line],
            levels,
            from_h=HOURS_PER_DAY * begin,
            horizon_h=HOURS_PER_DAY * until,
            sustained_days=definition.sustained_days,
            transfused_day=transfused,
            untransfused_days=definition.untransfused_days,
        )
        gone = begin >= dies
    else:
        seen = observations(course, line, resolution, laboratory=laboratory)
        found = observed_outcomes(
            seen.counts,
            seen.time,
            seen.until,
            levels,
            first=_first_seen(seen.time, begin),
            last=course.mornings_alive
            if seen.mornings and end is None
            else np.searchsorted(seen.time, np.minimum(stop, dies) + ROUNDING, side="right"),
            start=begin,
            end=stop,
            run=definition.mornings if seen.mornings else definition.consecutive,
            transfused=transfused,
            untransfused_days=definition.untransfused_days,
        )
        gone = begin > dies
    return _without_counts(found, gone) if gone.any() else found


def _levels(course: Course, line: str, thresholds: ArrayLike, resolution: Resolution) -> Floats:
    """Thresholds in a row, of a line that was simulated."""
    check_resolution(resolution)
    course.own(line)
    return check_thresholds(thresholds)


def _first_seen(time: Floats, start: Floats) -> NDArray[np.int64]:
    """First observation on or after each lane's start; -1 where there is none."""
    first = np.searchsorted(time, start - ROUNDING)
    first[first >= time.size] = -1
    return first


def _without_counts(found: LineOutcomes, gone: NDArray[np.bool_]) -> LineOutcomes:
    """Lanes that died before the window began: nothing is seen, and nothing ever recovers."""

    def put(values: Floats, value: float) -> Floats:
        return np.where(gone, value, values)

    def recovery(of: Recovery) -> Recovery:
        status = np.where(gone, CENSORED, of.status).astype(np.int8)
        return Recovery(put(of.day, 0.0), status, put(of.pending_day, np.inf))

    return replace(
        found,
        horizon_day=put(found.horizon_day, 0.0),
        first_below_day=put(found.first_below_day, np.inf),
        first_need_day=put(found.first_need_day, np.inf),
        last_below_day=put(found.last_below_day, 0.0),
        days_below=put(found.days_below, 0.0),
        longest_below_days=put(found.longest_below_days, 0.0),
        first=recovery(found.first),
        sustained=recovery(found.sustained),
    )


class RecoverySeen(NamedTuple):
    """What `recovery_after` finds for H thresholds and L lanes; days since the clock's start.

    Attributes
    ----------
    recovery
        Fields [H, L].
    need_day : float[H, L]
        First day below (or transfused) within the search; infinite when never.
    end_day : float[L]
        Day of the last count; of visits the end of its day.
    low_before : bool[H, L]
        Whether the count was low from the clock's start to the start of the search.
    """

    recovery: Recovery
    need_day: Floats
    end_day: Floats
    low_before: NDArray[np.bool_]

    def at(self, which: int) -> RecoverySeen:
        """Take what is found at one of the thresholds, H = 1."""
        own, of = slice(which, which + 1), self.recovery
        recovery = Recovery(of.day[own], of.status[own], of.pending_day[own])
        return RecoverySeen(recovery, self.need_day[own], self.end_day, self.low_before[own])


def recovery_after(
    course: Course,
    line: str,
    thresholds: ArrayLike,
    *,
    resolution: Resolution = "morning",
    definition: RecoveryDefinition = ANY_TIME,
    start: ArrayLike = 0.0,
    search: ArrayLike | None = None,
    until: ArrayLike | None = None,
) -> RecoverySeen:
    """Recovery looked for from ``search`` to ``until``, in days since ``start``.

    A count that crosses its threshold upwards while treatment is still to come has not recovered
    from it, so protocols look after the last one planned; the clock runs from the first. The first
    dose of the next cycle ends the search: a fall after it is of that cycle. A count that is low
    then and rises later did so ``next_cycle``; one that has been back until then is taken as back.

    Parameters
    ----------
    search : float or float[L], optional
        Days since the first morning; `start` if omitted.
    until : float or float[L], optional
        First dose of the next cycle, days since the first morning; NaN or infinite where there is
        none.

    Other parameters as in `line_outcomes`.

    Returns
    -------
    RecoverySeen
        Of falls after the cycle, too, where none follows: `recovery_of_cycle` leaves them out.
    """
    return recoveries_after(
        course, line, thresholds, (definition,), resolution=resolution, start=start, search=search,
        until=until,
    )[0]  # fmt: skip


def recoveries_after(
    course: Course,
    line: str,
    thresholds: ArrayLike,
    definitions: Sequence[RecoveryDefinition],
    *,
    resolution: Resolution = "morning",
    start: ArrayLike = 0.0,
    search: ArrayLike | None = None,
    until: ArrayLike | None = None,
) -> tuple[RecoverySeen, ...]:
    """As `recovery_after`, by several definitions that look at transfusions alike.

    Observations are then looked at once for all of them.

    Raises
    ------
    DataError
        If the definitions differ in ``untransfused_days``; and as `line_outcomes`.
    """
    begin, look, stop = np.empty((3, course.lanes))
    begin[:] = start
    look[:] = begin if search is None else search
    stop[:] = np.inf
    if until is not None:
        stop[:] = until
    # the dead have no next cycle, and one after the last morning is none
    stop[~(stop <= np.minimum(course.days - 1.0, course.death_day - 1.0))] = np.inf
    levels = _levels(course, line, thresholds, resolution)
    if len({one.untransfused_days for one in definitions}) != 1:
        raise DataError(
            where="definitions of recovery",
            what="they differ in untransfused_days",
            allowed="one number of days without transfusion",
            remedy="look for each of them apart (recovery_after)",
        )
    free_days = definitions[0].untransfused_days
    if resolution == "continuous":
        return tuple(_on_curve(course, line, levels, one, begin, look, stop) for one in definitions)
    seen = observations(course, line, resolution)
    found = looked_for(
        seen, levels, start=begin, search=look, until=stop, dies=course.death_day - 1.0,
        runs=[one.mornings if seen.mornings else one.consecutive for one in definitions],
        transfused=course.transfused if line == TRANSFUSED_LINE and free_days > 0 else None,
        untransfused_days=free_days,
    )  # fmt: skip
    # a visit on the last day of a rule tells of that day
    end = found.end_day if seen.mornings else found.end_day + 1.0
    return tuple(
        RecoverySeen(Recovery(day, status, pending), found.need_day, end, found.low_before)
        for status, day, pending in zip(*found[:3], strict=True)
    )


def _on_curve(
    course: Course,
    line: str,
    levels: Floats,
    definition: RecoveryDefinition,
    begin: Floats,
    look: Floats,
    stop: Floats,
) -> RecoverySeen:
    """As `recovery_after`, of the curve: windows from the last dose on, until the next, before."""

    def window(start: Floats, end: Floats | None = None) -> LineOutcomes:
        return line_outcomes(
            course, line, levels, resolution="continuous", definition=definition, start=start,
            end=end,
        )  # fmt: skip

    found, shift = window(look), look - begin
    of_line, need = found.sustained, found.first_need_day
    if np.isfinite(stop).any():
        within = window(look, stop)
        of_line = _until_next(within.sustained, of_line, stop - look)
        need = within.first_need_day
    never = of_line.status == NEVER_BELOW
    status, low = of_line.status, np.zeros(never.shape, dtype=bool)
    if not np.array_equal(look, begin, equal_nan=True):
        low = np.isfinite(window(begin, look).first_need_day)
        status = np.where(never & low, BACK_BEFORE, status).astype(np.int8)
    day = np.where(never, 0.0, of_line.day + shift)
    recovery = Recovery(day, status, of_line.pending_day + shift)
    return RecoverySeen(recovery, need + shift, found.horizon_day + shift, low)


def recovery_of_cycle(seen: RecoverySeen, falls_until: ArrayLike) -> Recovery:
    """Recovery from falls of the cycle alone.

    A count that first falls when the cycle is over, of leukaemia that comes back, say, has not
    recovered late from it: it was never low, or back before.

    Parameters
    ----------
    seen
        As `recovery_after` found it.
    falls_until : float or float[L]
        Last day on which a fall is of the cycle, days since the clock's start.
    """
    recovery = seen.recovery
    later = np.isfinite(seen.need_day) & (seen.need_day > np.asarray(falls_until))
    status = np.where(seen.low_before, BACK_BEFORE, NEVER_BELOW)
    return Recovery(
        np.where(later, 0.0, recovery.day),
        np.where(later, status, recovery.status).astype(np.int8),
        np.where(later, np.inf, recovery.pending_day),
    )


def _until_next(within: Recovery, after: Recovery, stop: Floats) -> Recovery:
    """Join what is seen before the next cycle, on day ``stop``, with what is seen to the end."""
    ends = np.isfinite(stop)
    # a run at the threshold that lasts to the next cycle is a recovery, if a short one
    lasted = ends & (within.status == CENSORED) & np.isfinite(within.pending_day)
    late = ends & (within.status == CENSORED) & ~lasted
    risen = np.where(after.status == RECOVERED, NEXT_CYCLE, after.status)
    status = np.where(lasted, RECOVERED, np.where(late, risen, within.status))
    status = np.where(after.status == NOT_EVALUABLE, NOT_EVALUABLE, status)
    day = np.where(lasted, within.pending_day, np.where(late, after.day, within.day))
    pending = np.where(late, after.pending_day, np.where(lasted, np.inf, within.pending_day))
    return Recovery(day, status.astype(np.int8), pending)


def recovery_days(recovery: Recovery) -> Floats:
    """Days of recovery; what was not seen in its cycle is infinite.

    0 if never low after the planned last dose (and if back before it), NaN if not evaluable.
    """
    unseen = (recovery.status == CENSORED) | (recovery.status == NEXT_CYCLE)
    return np.where(unseen, np.inf, recovery.day)


def nadir(
    course: Course,
    line: str,
    *,
    resolution: Resolution = "morning",
    start: ArrayLike = 0.0,
    end: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Lowest count of the laboratory (10^9/L) in the window and its day, each float[L].

    Parameters as in `line_outcomes`. On the continuous curve platelets are the patient's own.
    """
    found = line_outcomes(
        course, line, (), resolution=resolution, start=start, end=end,
        laboratory=resolution != "continuous",
    )  # fmt: skip
    return found.nadir, found.nadir_day


def days_below(
    course: Course,
    line: str,
    threshold: float,
    *,
    resolution: Resolution = "morning",
    start: ArrayLike = 0.0,
    end: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Days with own counts below the threshold and the longest spell of them, each float[L]."""
    found = line_outcomes(course, line, threshold, resolution=resolution, start=start, end=end)
    return found.days_below[0], found.longest_below_days[0]
