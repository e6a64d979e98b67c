"""One line of a dose-limiting toxicity rule, judged on the exact curve or as visits see it.

``pkpd.endpoints.dlt`` joins the verdicts of the lines and explains the kinds of rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.endpoints.recovery import (
    HOURS_PER_DAY,
    LineOutcomes,
    Recovery,
    RecoveryStatus,
    VisitRecovery,
    line_outcomes,
    log_count_at,
    visit_recovery,
)
from pkpd.errors import DataError, sentence

if TYPE_CHECKING:
    from pkpd.trials import DLTRule

TRANSFUSED_LINE = "platelets"


class Counts(Protocol):
    """What a rule needs of a simulation; ``NodeSolution`` has it.

    ``time_h`` is float[T]; ``log_count`` and ``slope`` map a line to float[L, T] (natural log of
    10^9/L, endogenous for platelets; per h); ``transfused`` is bool[L, D] by day, or None.
    """

    @property
    def time_h(self) -> NDArray[np.float64]:
        """Node times, h from the first dose."""
        ...

    @property
    def log_count(self) -> Mapping[str, NDArray[np.float64]]:
        """Log count by line."""
        ...

    @property
    def slope(self) -> Mapping[str, NDArray[np.float64]]:
        """Slope of the log count by line, 1/h."""
        ...

    @property
    def transfused(self) -> NDArray[np.bool_] | None:
        """Platelet transfusion at the start of each day."""
        ...


def look_day(rule: DLTRule) -> float:
    """Day of the rule's look, or end of its window, as days since its clock."""
    if rule.by_day is None:
        raise DataError(
            sentence(
                where=f"DLT rule {rule.name!r}", what="it has no by_day", remedy="give the day"
            )
        )
    return float(rule.by_day)


@dataclass(frozen=True)
class LineVerdict:
    """Whether a line failed, whether follow-up is too short to say, and its recovery; each [L]."""

    failed: NDArray[np.bool_]
    undetermined: NDArray[np.bool_]
    recovery: Recovery


def outcomes_of(
    counts: Counts,
    line: str,
    thresholds: ArrayLike,
    start_h: NDArray[np.float64],
    *,
    sustained_days: float = 0.0,
    untransfused_days: float = 0.0,
    end_h: NDArray[np.float64] | None = None,
) -> LineOutcomes:
    """Outcomes of one line from each lane's clock; only platelets look at transfusions."""
    return line_outcomes(
        counts.time_h,
        counts.log_count[line],
        counts.slope[line],
        thresholds,
        from_h=start_h,
        horizon_h=end_h,
        sustained_days=sustained_days,
        transfused_day=counts.transfused if line == TRANSFUSED_LINE else None,
        untransfused_days=untransfused_days,
    )


def not_recovered(
    recovery: Recovery,
    need_day: NDArray[np.float64],
    end_day: NDArray[np.float64],
    by_day: float | NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Judge "in need on or before ``by_day`` and no recovery that begins by then".

    Parameters
    ----------
    recovery : Recovery
        Fields of any shape; days since the clock.
    need_day : float[...]
        First day below (or transfused); infinite when never.
    end_day : float[...]
        End of follow-up.
    by_day : float[...]
        Day of the look. All arguments broadcast.

    Returns
    -------
    bool[...], bool[...]
        Failed, and undetermined because follow-up ends too soon.
    """
    in_need = need_day <= by_day
    too_short = end_day < by_day
    censored = recovery.status == RecoveryStatus.CENSORED
    late = (recovery.status == RecoveryStatus.RECOVERED) & (recovery.day > by_day)
    undetermined = (censored & in_need & (too_short | (recovery.pending_day <= by_day))) | (
        (recovery.status == RecoveryStatus.NEVER_BELOW) & too_short
    )
    return in_need & (late | (censored & ~undetermined)), undetermined


def recovery_after(
    counts: Counts,
    line: str,
    thresholds: ArrayLike,
    start_h: NDArray[np.float64],
    search_h: NDArray[np.float64],
    *,
    sustained_days: float,
    untransfused_days: float,
) -> tuple[Recovery, NDArray[np.float64], NDArray[np.float64]]:
    """Recovery looked for from ``search_h`` on, in days since ``start_h``.

    A count that crosses its threshold upwards while treatment is still to come has not recovered
    from it, so protocols look after the last dose; the clock runs from the first.

    Returns
    -------
    Recovery
        Fields [H, L].
    need_day : float[H, L]
        First day below (or transfused) from ``search_h`` on; infinite when never.
    end_day : float[L]
        End of follow-up.
    """
    found = outcomes_of(
        counts,
        line,
        thresholds,
        search_h,
        sustained_days=sustained_days,
        untransfused_days=untransfused_days,
    )
    shift = (search_h - start_h) / HOURS_PER_DAY
    of_line = found.sustained
    day = np.where(of_line.status == RecoveryStatus.NEVER_BELOW, 0.0, of_line.day + shift)
    recovery = Recovery(day, of_line.status, of_line.pending_day + shift)
    return recovery, found.first_need_day + shift, found.horizon_day + shift


def judge(
    rule: DLTRule,
    which: int,
    counts: Counts,
    start_h: NDArray[np.float64],
    search_h: NDArray[np.float64],
) -> LineVerdict:
    """Judge criterion number ``which`` of the rule on the exact curve.

    Parameters
    ----------
    rule
        A rule that can be simulated.
    which
        Index of the criterion.
    counts
        The simulation.
    start_h : float[L]
        Start of the rule's clock, h; NaN for a lane without one.
    search_h : float[L]
        Hour from which recovery is looked for (`recovery_after`).
    """
    criterion = rule.criteria[which]
    line, by_day = criterion.line, look_day(rule)
    confirmed = {
        "sustained_days": rule.sustained_days,
        "untransfused_days": rule.untransfused_days,
    }
    found, need_day, end_day = recovery_after(
        counts, line, criterion.at_least, start_h, search_h, **confirmed
    )
    recovery = _first_row(found)
    if rule.kind == "not_recovered":
        return LineVerdict(*not_recovered(recovery, need_day[0], end_day, by_day), recovery)
    if rule.kind == "not_recovered_from_nadir":
        limit = rule.nadir_below[which]
        fall_day = outcomes_of(counts, line, limit, start_h).first_below_day[0]
        fell = fall_day <= by_day
        # the second look starts at the fall; its days are moved back to the rule's clock
        shift = np.where(fell, fall_day, np.nan)
        fall_h = start_h + HOURS_PER_DAY * shift
        after = outcomes_of(counts, line, criterion.at_least, fall_h, **confirmed)
        return _after_fall(_first_row(after.sustained), shift, end_day, by_day, recovery)
    end_h = np.fmin(start_h + HOURS_PER_DAY * by_day, counts.time_h[-1])
    window = outcomes_of(counts, line, criterion.at_least, start_h, end_h=end_h)
    longest = window.longest_below_days[0]
    failed = (longest > 0) & (longest >= rule.duration_days[which])
    return LineVerdict(failed, ~failed & (end_day < by_day), recovery)


def judge_on_visits(
    rule: DLTRule,
    which: int,
    counts: Counts,
    start_h: NDArray[np.float64],
    search_h: NDArray[np.float64],
    visit_days: Sequence[float],
) -> LineVerdict:
    """Judge criterion number ``which`` on the counts of the visits alone.

    Parameters as in ``judge``; ``visit_days`` are days since the first dose. Follow-up ends with
    the last visit. A low count lasts from the first visit that shows it to the next visit that does
    not (or the last of the window).
    """
    criterion = rule.criteria[which]
    line, by_day = criterion.line, look_day(rule)
    curve = (counts.time_h, counts.log_count[line], counts.slope[line])
    days = np.asarray(visit_days, dtype=np.float64)

    def seen_from(hour: NDArray[np.float64]) -> VisitRecovery:
        return visit_recovery(
            *curve,
            criterion.at_least,
            visit_days=days,
            consecutive=rule.consecutive_visits,
            from_h=hour,
            transfused_day=counts.transfused if line == TRANSFUSED_LINE else None,
            untransfused_days=rule.untransfused_days,
        )

    seen = seen_from(search_h)
    moved = (search_h - start_h) / HOURS_PER_DAY
    seen_day = np.where(seen.status == RecoveryStatus.NEVER_BELOW, 0.0, seen.day + moved)
    recovery = Recovery(seen_day, seen.status, seen.pending_day + moved)
    end_day = seen.last_visit_day + moved
    if rule.kind == "not_recovered":
        return LineVerdict(
            *not_recovered(recovery, seen.first_below_day + moved, end_day, by_day), recovery
        )
    day = days[None, :] - start_h[:, None] / HOURS_PER_DAY
    in_window = (day >= 0) & (day <= by_day)
    log_count = log_count_at(*curve, HOURS_PER_DAY * days)
    if rule.kind == "not_recovered_from_nadir":
        below = in_window & (log_count < np.log(rule.nadir_below[which]))
        fell, fall = below.any(axis=1), days[below.argmax(axis=1)]
        after = seen_from(np.where(fell, HOURS_PER_DAY * fall, np.nan))
        shift = np.where(fell, fall - start_h / HOURS_PER_DAY, np.nan)
        return _after_fall(
            Recovery(after.day, after.status, after.pending_day), shift, end_day, by_day, recovery
        )
    below = in_window & (log_count < np.log(criterion.at_least))
    longest = _longest_observed(below, in_window, day)
    failed = below.any(axis=1) & (longest >= rule.duration_days[which])
    return LineVerdict(failed, ~failed & (end_day < by_day), recovery)


def _after_fall(
    after: Recovery,
    shift: NDArray[np.float64],
    end_day: NDArray[np.float64],
    by_day: float,
    without_fall: Recovery,
) -> LineVerdict:
    """Judge the recovery after a fall on day ``shift`` (NaN: no fall); ``after`` starts there."""
    fell = ~np.isnan(shift)
    on_clock = Recovery(after.day + shift, after.status, after.pending_day + shift)
    failed, undetermined = not_recovered(on_clock, np.where(fell, 0.0, np.inf), end_day, by_day)
    reported = Recovery(
        np.where(fell, on_clock.day, without_fall.day),
        np.where(fell, on_clock.status, without_fall.status).astype(np.int8),
        np.where(fell, on_clock.pending_day, without_fall.pending_day),
    )
    return LineVerdict(failed, np.where(fell, undetermined, end_day < by_day), reported)


def _longest_observed(
    below: NDArray[np.bool_], in_window: NDArray[np.bool_], day: NDArray[np.float64]
) -> NDArray[np.float64]:
    longest = np.zeros(below.shape[0])
    begin = np.full(below.shape[0], np.nan)
    for k in range(below.shape[1]):
        begin = np.where(below[:, k] & np.isnan(begin), day[:, k], begin)
        span = np.where(in_window[:, k], day[:, k] - begin, np.nan)
        longest = np.fmax(longest, span)
        begin = np.where(below[:, k], begin, np.nan)
    return longest


def _first_row(recovery: Recovery) -> Recovery:
    return Recovery(recovery.day[0], recovery.status[0], recovery.pending_day[0])
