"""Dose-limiting toxicity: a protocol's count rule applied to a course, for those it can judge.

Days are days since the rule's clock; ``pkpd.endpoints`` says what "by day N" means.

Kinds of rule (``pkpd.trials.DLTRule``)
---------------------------------------
not_recovered
    A line fails when it went below its threshold on or before ``by_day`` and its recovery
    (sustained for ``sustained_days`` and untransfused for ``untransfused_days``; see
    ``pkpd.endpoints.recovery``) begins later than ``by_day``. The recovery is the first one, so a
    dip after it does not count.
not_recovered_from_nadir
    A line fails when it fell below ``nadir_below`` on or before ``by_day`` and the recovery to its
    threshold that follows the last count so low begins later than ``by_day``: who falls again has
    to recover again. A later fall that stays above ``nadir_below`` is none, and the day of the
    last dose does not matter.
low_count_duration
    A line fails when it is below its threshold for at least ``duration_days`` in one spell within
    the clock's first ``by_day`` days; a spell is cut at the ends of that window. With
    ``duration_days = 0`` any time below counts, by the end of ``by_day``: in mornings up to the one
    after it, which would add no day to a spell. Platelets are the endogenous ones.
low_count_or_transfusion
    The same, or platelets were transfused on ``transfusion_days`` days of any
    ``transfusion_window_days`` of the days 1 to ``by_day``, whatever ``join`` says: a transfusion
    of the morning after is of the next day.

``join = "any"``: a DLT if any line fails; ``"all"``: only if all fail.

Who can be judged
-----------------
A risk is the share of DLTs among the lanes that can be judged. A lane cannot be judged when the
patient died before the look, unless a rule of low counts was broken before; when the rule is for
marrows without leukaemia and there is leukaemia at the look; when the clock never started; when
what was followed ends before the look and the observations that confirm a recovery on it. Leukaemia
and short follow-up exclude a patient whatever the counts are: whether counts are back, or an event
was seen already, must not decide who is counted. A marrow without blasts has no leukaemia.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.endpoints.crossings import CENSORED, NOT_EVALUABLE
from pkpd.endpoints.definitions import LEUKAEMIC, THRESHOLDS, recovery_definition
from pkpd.endpoints.line_verdict import judge, look_day, not_recovered
from pkpd.endpoints.looked_for import ROUNDING
from pkpd.endpoints.recovery import RecoveryDefinition, RecoverySeen, recovery_after
from pkpd.endpoints.resolution import Resolution, Visits, check_resolution, curve_of
from pkpd.endpoints.results import HOURS_PER_DAY, Recovery
from pkpd.errors import DataError

if TYPE_CHECKING:
    from pkpd.trials import DLTRule

Found = Mapping[str, RecoverySeen]


class DLTStatus(IntEnum):
    """Verdict for a lane; from `DIED` on, the reason why it cannot be judged."""

    NO_DLT = 0
    DLT = 1
    DIED = 2
    LEUKAEMIA = 3
    NOT_STARTED = 4
    TOO_SHORT = 5
    NOT_FINITE = 6  # or none seen, as on visits that come too late


# plain numbers: members of an enumeration are slow to look up
_DLT, _DIED, _LEUKAEMIA, _NOT_STARTED, _TOO_SHORT, _NOT_FINITE = map(int, tuple(DLTStatus)[1:])

REASONS: Mapping[DLTStatus, str] = {
    DLTStatus.DIED: "died before the look",
    DLTStatus.LEUKAEMIA: "leukaemia still there",
    DLTStatus.NOT_STARTED: "the course that starts the clock never began",
    DLTStatus.TOO_SHORT: "follow-up ends too soon",
    DLTStatus.NOT_FINITE: "no count to judge by, or one that is not finite",
}
"""Why a lane cannot be judged, in words."""


@dataclass(frozen=True)
class DLTOutcome:
    """Verdict of one rule on every lane.

    Attributes
    ----------
    rule_name
        Name of the rule.
    lines
        Lines of the criteria, in their order (C of them).
    status : int8[L]
        ``DLTStatus``.
    recovery_day : float[L]
        Days since the clock; the last line to recover for ``join = "any"``, the first for "all";
        0 when no line was ever below, the end of follow-up when censored, NaN when not evaluable.
    censored : bool[L]
        The recovery was not seen.
    line_recovery_day : float[C, L]
        The same line by line.
    line_censored, line_failed : bool[C, L]
        Lines whose recovery was not seen, and lines that fail their criterion.
    """

    rule_name: str
    lines: tuple[str, ...]
    status: NDArray[np.int8]
    recovery_day: Floats
    censored: NDArray[np.bool_]
    line_recovery_day: Floats
    line_censored: NDArray[np.bool_]
    line_failed: NDArray[np.bool_]

    @property
    def event(self) -> NDArray[np.bool_]:
        """True for a DLT; False for every other status, bool[L]."""
        return self.status == _DLT

    @property
    def evaluable(self) -> NDArray[np.bool_]:
        """Lanes with a verdict: DLT or no DLT, bool[L]."""
        return self.status <= _DLT

    @property
    def outcome(self) -> Floats:
        """Verdict as a number: 1 DLT, 0 none, NaN without a verdict; float[L]."""
        return np.where(self.evaluable, self.event, np.nan)

    def counts(self) -> dict[str, int]:
        """Count the lanes by verdict, none left out."""
        return {s.name.lower(): int(np.sum(self.status == s)) for s in DLTStatus}


@dataclass(frozen=True)
class DLTSensitivity:
    """Verdicts "not recovered by day" over a grid of thresholds and days.

    Attributes
    ----------
    lines
        The lines, one axis of thresholds each.
    thresholds
        10^9/L, one tuple per line.
    by_days : float[K]
    status : int8[H1, ..., K, L]
        ``DLTStatus``; the axes are those of ``thresholds``, then days, then lanes.
    """

    lines: tuple[str, ...]
    thresholds: tuple[tuple[float, ...], ...]
    by_days: tuple[float, ...]
    status: NDArray[np.int8]

    @property
    def event(self) -> NDArray[np.bool_]:
        """True for a DLT, bool[H1, ..., K, L]."""
        return self.status == _DLT

    @property
    def evaluable(self) -> NDArray[np.bool_]:
        """Lanes with a verdict, bool[H1, ..., K, L]."""
        return self.status <= _DLT

    @property
    def outcome(self) -> NDArray[np.float32]:
        """1 DLT, 0 none, NaN without a verdict; [H1, ..., K, L]."""
        return np.where(self.evaluable, self.event, np.nan).astype(np.float32)

    @property
    def probability(self) -> Floats:
        """Share of DLTs among evaluable lanes, float[H1, ..., K]; NaN when there are none."""
        n = self.evaluable.sum(axis=-1)
        return np.where(n > 0, self.event.sum(axis=-1) / np.maximum(n, 1), np.nan)


def evaluate_rule(
    rule: DLTRule,
    course: Course,
    *,
    resolution: Resolution = "morning",
    start: ArrayLike | None = None,
    search: ArrayLike | None = None,
    until: ArrayLike | None = None,
    due: ArrayLike = np.inf,
    found: Mapping[tuple[str, float], RecoverySeen] | None = None,
) -> DLTOutcome:
    """Apply a rule to every lane.

    Parameters
    ----------
    rule
        The protocol's rule; thresholds in 10^9/L, days since its clock.
    course
        What became of the lanes.
    resolution
        With which counts. Visits use ``rule.consecutive_visits`` in place of
        ``rule.sustained_days``.
    start : float or float[L], optional
        When the rule's clock starts, days since the first morning; NaN when its course never began.
        The first morning, or the first day of the course that the rule names, when omitted.
    search : float or float[L], optional
        From when recovery is looked for, usually the planned last dose: a count that rises before
        later doses has not recovered from them. The clock's start when omitted.
    until : float or float[L], optional
        First dose of the next cycle. Who is back before it is judged by that, whatever the next
        cycle does; who is not is followed further, under its treatment. Infinite when omitted.
    due : float or float[L], optional
        When the clock was to start, days since the first morning: of lanes without a clock who has
        died by then is told to have died, and who dies later to have had no course. All of them
        have died when omitted.
    found
        By line and threshold, what `pkpd.endpoints.recovery.recovery_after` returned for the same
        settings and the rule's definition of recovery, where it is at hand already.

    Returns
    -------
    DLTOutcome
        A verdict for every lane; lanes that cannot be judged keep their place and are counted.

    Raises
    ------
    DataError
        The rule has no counts, a line or the clock's course is not simulated, or the course lacks
        what the resolution needs.
    """
    _check(rule, course)
    check_resolution(resolution)
    begin = _start(rule, course, start)
    look = _search(course, begin, search)
    stop = _until(course, until)
    defined = recovery_definition(rule)
    known = found or {}
    judged = [
        judge(
            rule, k, course, begin, look, stop, resolution, defined,
            known.get((criterion.line, criterion.at_least)),
        )
        for k, criterion in enumerate(rule.criteria)
    ]  # fmt: skip
    failed = np.stack([verdict.failed for verdict in judged])
    status = _join(failed, np.stack([v.undetermined for v in judged]), rule.join)
    if rule.kind == "low_count_or_transfusion":
        status = np.where(_often_transfused(rule, course, begin), _DLT, status)
    unusable = np.any([v.recovery.status == NOT_EVALUABLE for v in judged], axis=0)
    status = np.where(unusable, _NOT_FINITE, status)
    at_once = rule.kind.startswith("low_count")
    status = _who_can_be_judged(
        status, course, begin, look_day(rule), needs_no_leukaemia=rule.no_leukaemia,
        at_once=at_once, last_look=_last_look(course, resolution, None if at_once else defined),
        due=due,
    )  # fmt: skip
    days = np.stack([verdict.recovery.day for verdict in judged])
    any_line = rule.join == "any"
    line_censored = np.stack([v.recovery.status == CENSORED for v in judged])
    return DLTOutcome(
        rule_name=rule.name,
        lines=tuple(criterion.line for criterion in rule.criteria),
        status=status,
        recovery_day=days.max(axis=0) if any_line else days.min(axis=0),
        censored=np.asarray(line_censored.any(axis=0) if any_line else line_censored.all(axis=0)),
        line_recovery_day=days,
        line_censored=line_censored,
        line_failed=failed,
    )


def sensitivity(
    course: Course,
    *,
    thresholds: Mapping[str, Sequence[float]] = THRESHOLDS,
    by_days: Sequence[float] = (42.0, 45.0, 49.0, 56.0),
    join: Literal["any", "all"] = "any",
    resolution: Resolution = "morning",
    definition: RecoveryDefinition = RecoveryDefinition(untransfused_days=7.0),  # noqa: B008
    no_leukaemia: bool = True,
    start: ArrayLike = 0.0,
    search: ArrayLike | None = None,
    until: ArrayLike | None = None,
    due: ArrayLike = np.inf,
    found: Found | None = None,
) -> DLTSensitivity:
    """Judge "not recovered by day" over a grid of thresholds and days, in one pass per line.

    Parameters
    ----------
    thresholds
        10^9/L by line.
    by_days
        Days since the clock.
    definition
        When a count has recovered.
    no_leukaemia
        Whether only marrows without leukaemia are judged.
    found
        By line, what `pkpd.endpoints.recovery.recovery_after` returned for the same thresholds
        and settings, where it is at hand already.

    Other parameters as in ``evaluate_rule`` and ``DLTRule``.
    """
    lines = tuple(thresholds)
    begin = _within(course, start)
    look = _search(course, begin, search)
    days = np.asarray(by_days, dtype=np.float64)
    unusable = np.zeros(begin.size, dtype=bool)
    failed, undetermined = [], []
    for axis, line in enumerate(lines):
        if found is not None:
            seen = found[line]
        else:
            seen = recovery_after(
                course, line, thresholds[line], resolution=resolution, definition=definition,
                start=begin, search=look, until=until,
            )  # fmt: skip
        of_line, need_day, end_day, _ = seen
        unusable |= np.any(of_line.status == NOT_EVALUABLE, axis=0)
        # [H, 1, L] against days [K, 1] -> [H, K, L], then one axis per line
        recovery = Recovery(
            of_line.day[:, None], of_line.status[:, None], of_line.pending_day[:, None]
        )
        verdicts = not_recovered(recovery, need_day[:, None], end_day, days[:, None])
        shape = [1] * len(lines) + list(verdicts[0].shape[1:])
        shape[axis] = verdicts[0].shape[0]
        failed.append(verdicts[0].reshape(shape))
        undetermined.append(verdicts[1].reshape(shape))
    status = _join(
        np.stack(np.broadcast_arrays(*failed)), np.stack(np.broadcast_arrays(*undetermined)), join
    )
    status = np.where(unusable, _NOT_FINITE, status)
    last_look = _last_look(course, resolution, definition)
    by_day = [
        _who_can_be_judged(
            status[..., k, :], course, begin, float(day), needs_no_leukaemia=no_leukaemia,
            last_look=last_look, due=due,
        )
        for k, day in enumerate(days)
    ]  # fmt: skip
    return DLTSensitivity(
        lines=lines,
        thresholds=tuple(tuple(float(x) for x in thresholds[line]) for line in lines),
        by_days=tuple(float(x) for x in days),
        status=np.stack(by_day, axis=-2),
    )


def has_leukaemia(course: Course, day: Floats) -> NDArray[np.bool_]:
    """Whether each lane has leukaemia in the marrow on a morning, bool[L].

    Parameters
    ----------
    course
        Any; a marrow without blasts has no leukaemia.
    day : float[L]
        Days since the first morning; the morning before where it is between two.
    """
    if course.marrow_blasts is None:
        return np.zeros(course.lanes, dtype=bool)
    column = np.clip(np.nan_to_num(day, posinf=np.inf), 0, course.days - 1).astype(np.int64)
    return course.marrow_blasts[np.arange(course.lanes), column] >= LEUKAEMIC


def _last_look(
    course: Course, resolution: Resolution, definition: RecoveryDefinition | None
) -> float:
    """Latest day since the first morning on which a look is answered for every lane.

    A recovery is confirmed by what follows it; where visits do so is theirs to say, and a visit
    tells of its whole day.
    """
    if isinstance(resolution, Visits):
        return resolution.days[-1] + 1.0
    if resolution == "continuous":
        end = curve_of(course).time_h[-1] / HOURS_PER_DAY
        return end - (definition.sustained_days if definition else 0.0)
    return course.days - (definition.mornings if definition else 1)


def _who_can_be_judged(
    status: NDArray[np.int64],
    course: Course,
    start: Floats,
    by_day: float,
    *,
    needs_no_leukaemia: bool,
    last_look: float,
    due: ArrayLike,
    at_once: bool = False,
) -> NDArray[np.int8]:
    """Put the reason in place of the verdict of lanes ``[..., L]`` that cannot be judged."""
    look = start + by_day
    short = look > last_look + ROUNDING
    status = np.where(short & (status <= _DLT), _TOO_SHORT, status)
    if needs_no_leukaemia:
        at = np.minimum(look, course.death_day - 1.0)
        status = np.where(has_leukaemia(course, at), _LEUKAEMIA, status)
        if course.marrow_blasts is not None:
            # the marrow of the look is not known
            status = np.where(at > course.days - 1, _TOO_SHORT, status)
    # alive on the morning of the look, which is protocol day look + 1
    died = course.death_day < look + 1.0
    status = np.where(died & ~(at_once & (status == _DLT)), _DIED, status)
    gone = np.isfinite(course.death_day) & (course.death_day <= np.asarray(due))
    unstarted = np.where(gone, _DIED, _NOT_STARTED)
    return np.where(np.isnan(start), unstarted, status).astype(np.int8)


def _start(rule: DLTRule, course: Course, start: ArrayLike | None) -> Floats:
    if start is None:
        first = 0.0 if rule.clock == "first_dose" else course.started(rule.clock) - 1.0
        return _within(course, first)
    return _within(course, start)


def _within(course: Course, start: ArrayLike) -> Floats:
    begin = np.array(np.broadcast_to(np.asarray(start, dtype=np.float64), (course.lanes,)))
    # a clock that starts when the simulation ends has seen nothing
    begin[begin >= course.days] = np.nan
    return begin


def _search(course: Course, start: Floats, search: ArrayLike | None) -> Floats:
    if search is None:
        return start
    look = np.broadcast_to(np.asarray(search, dtype=np.float64), start.shape)
    return np.where(np.isnan(start), np.nan, np.clip(look, start, course.days - 1.0))


def _until(course: Course, until: ArrayLike | None) -> Floats:
    stop = np.full(course.lanes, np.inf)
    if until is not None:
        stop[:] = until
    return np.where(np.isnan(stop), np.inf, stop)


def _join(
    failed: NDArray[np.bool_], undetermined: NDArray[np.bool_], join: str
) -> NDArray[np.int64]:
    if join == "any":
        event = failed.any(axis=0)
        open_ = ~event & undetermined.any(axis=0)
    else:
        event = failed.all(axis=0)
        open_ = ~event & (failed | undetermined).all(axis=0)
    return np.where(event, _DLT, np.where(open_, _TOO_SHORT, 0))


def _often_transfused(rule: DLTRule, course: Course, start: Floats) -> NDArray[np.bool_]:
    day = np.arange(course.days)
    since = day[None, :] - start[:, None]
    given = course.transfused & (since >= 0) & (since < look_day(rule))
    given &= day[None, :] < course.death_day[:, None]
    total = np.concatenate([np.zeros((start.size, 1)), np.cumsum(given, axis=1)], axis=1)
    first = np.maximum(np.arange(total.shape[1]) - rule.transfusion_window_days, 0)
    return np.any(total - total[:, first] >= rule.transfusion_days, axis=1)


def _check(rule: DLTRule, course: Course) -> None:
    where = f"DLT rule {rule.name!r}"
    if not rule.can_be_simulated:
        raise DataError(
            where=where,
            what="the published rule has no count threshold",
            remedy="choose a rule with counts",
        )
    for criterion in rule.criteria:
        if criterion.line not in course.mornings:
            raise DataError(
                where=where,
                what=f"line {criterion.line!r} was not simulated",
                allowed=", ".join(sorted(course.mornings)),
            )
