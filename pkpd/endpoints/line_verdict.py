"""One line of a dose-limiting toxicity rule.

``pkpd.endpoints.dlt`` joins the verdicts of the lines and explains the kinds of rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.endpoints.crossings import BACK_BEFORE, CENSORED, NEVER_BELOW, NEXT_CYCLE, RECOVERED
from pkpd.endpoints.looked_for import ROUNDING
from pkpd.endpoints.recovery import RecoveryDefinition, RecoverySeen, line_outcomes, recovery_after
from pkpd.endpoints.resolution import Resolution, observations
from pkpd.endpoints.results import Recovery
from pkpd.errors import DataError

if TYPE_CHECKING:
    from pkpd.trials import DLTRule


def look_day(rule: DLTRule) -> float:
    """Day of the rule's look, or end of its window, as days since its clock."""
    if rule.by_day is None:
        raise DataError(
            where=f"DLT rule {rule.name!r}", what="it has no by_day", remedy="give the day"
        )
    return float(rule.by_day)


@dataclass(frozen=True)
class LineVerdict:
    """Whether a line failed, whether follow-up is too short to say, and its recovery; each [L]."""

    failed: NDArray[np.bool_]
    undetermined: NDArray[np.bool_]
    recovery: Recovery


def not_recovered(
    recovery: Recovery, need_day: Floats, end_day: Floats, by_day: float | Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Judge "in need on or before ``by_day`` and no recovery that begins by then".

    Parameters
    ----------
    recovery : Recovery
        Fields of any shape; days since the clock.
    need_day : float[...]
        First day below (or transfused); infinite when never.
    end_day : float[...]
        Day of the last count.
    by_day : float[...]
        Day of the look. All arguments broadcast.

    Returns
    -------
    bool[...], bool[...]
        Failed, and undetermined because follow-up ends too soon.
    """
    in_need = need_day <= by_day
    too_short = end_day < by_day
    censored = recovery.status == CENSORED
    back = (recovery.status == RECOVERED) | (recovery.status == NEXT_CYCLE)
    late = back & (recovery.day > by_day)
    never = (recovery.status == NEVER_BELOW) | (recovery.status == BACK_BEFORE)
    undetermined = (censored & in_need & (too_short | (recovery.pending_day <= by_day))) | (
        never & too_short
    )
    return in_need & (late | (censored & ~undetermined)), undetermined


def judge(
    rule: DLTRule,
    which: int,
    course: Course,
    start: Floats,
    search: Floats,
    until: Floats,
    resolution: Resolution,
    definition: RecoveryDefinition,
    seen: RecoverySeen | None = None,
) -> LineVerdict:
    """Judge criterion number ``which`` of the rule.

    Parameters
    ----------
    rule
        A rule that can be simulated.
    which
        Index of the criterion.
    course
        What became of the lanes.
    start : float[L]
        Start of the rule's clock, days since the first morning; NaN for a lane without one.
    search : float[L]
        From when recovery is looked for (`recovery_after`).
    until : float[L]
        First dose of the next cycle; falls after it are of that cycle. Infinite without one.
    resolution
        With which counts.
    definition
        When a count has recovered.
    seen
        What `recovery_after` found at the criterion's threshold, where it is at hand already.
    """
    criterion = rule.criteria[which]
    line, by_day = criterion.line, look_day(rule)
    if seen is None:
        seen = recovery_after(
            course, line, criterion.at_least, resolution=resolution, definition=definition,
            start=start, search=search, until=until,
        )  # fmt: skip
    found, need_day, end_day, _ = seen
    recovery = _first_row(found)
    if rule.kind == "not_recovered":
        return LineVerdict(*not_recovered(recovery, need_day[0], end_day, by_day), recovery)
    if rule.kind == "not_recovered_from_nadir":
        # the second look starts where the count was so low for the last time: who falls again has
        # to come back again; its days are moved back to the rule's clock
        end = np.minimum(start + by_day, until)
        shift = _last_low(course, line, rule.nadir_below[which], resolution, start, end) - start
        after = recovery_after(
            course, line, criterion.at_least, resolution=resolution, definition=definition,
            start=start + shift, search=start + shift, until=until,
        )  # fmt: skip
        return _after_fall(_first_row(after.recovery), shift, end_day, by_day, recovery)
    window = line_outcomes(
        course, line, criterion.at_least, resolution=resolution, start=start, end=start + by_day
    )
    longest, ever = window.longest_below_days[0], window.first_below_day[0] <= by_day
    failed = ever & (longest >= rule.duration_days[which])
    return LineVerdict(failed, ~failed & (end_day < by_day), recovery)


def _last_low(
    course: Course, line: str, limit: float, resolution: Resolution, start: Floats, end: Floats
) -> Floats:
    """Last day since the first morning of a window on which a count is low.

    NaN without one, and where a count up to death is no number.
    """
    if resolution == "continuous":
        found = line_outcomes(course, line, limit, resolution=resolution, start=start, end=end)
        ever = np.isfinite(found.first_below_day[0])
        return np.where(ever, start + found.last_below_day[0], np.nan)
    seen = observations(course, line, resolution)
    after = seen.time >= start[:, None] - ROUNDING
    after &= seen.time <= course.death_day[:, None] - 1.0 + ROUNDING
    known = (np.isfinite(seen.counts) | ~after).all(axis=1)
    low = after & (seen.time <= end[:, None] + ROUNDING) & (seen.counts < limit)
    last = np.where(low, seen.time, -np.inf).max(axis=1)
    return np.where(known & np.isfinite(last), last, np.nan)


def _after_fall(
    after: Recovery, shift: Floats, end_day: Floats, by_day: float, without_fall: Recovery
) -> LineVerdict:
    """Judge the recovery after a fall up to day ``shift`` (NaN: none); ``after`` starts there."""
    fell = ~np.isnan(shift)
    on_clock = Recovery(after.day + shift, after.status, after.pending_day + shift)
    failed, undetermined = not_recovered(on_clock, np.where(fell, 0.0, np.inf), end_day, by_day)
    reported = Recovery(
        np.where(fell, on_clock.day, without_fall.day),
        np.where(fell, on_clock.status, without_fall.status).astype(np.int8),
        np.where(fell, on_clock.pending_day, without_fall.pending_day),
    )
    return LineVerdict(failed, np.where(fell, undetermined, end_day < by_day), reported)


def _first_row(recovery: Recovery) -> Recovery:
    return Recovery(recovery.day[0], recovery.status[0], recovery.pending_day[0])
