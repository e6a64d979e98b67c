"""Dose-limiting toxicity: a protocol's count rule applied to simulated counts.

Days are days since the rule's clock, ``(time_h - clock_h) / 24``; with a clock of 0 h this is days
since the first dose. Protocols number the first dose's day 1, so "by day 42" differs from 42 of
these days by at most one day.

Kinds of rule (``pkpd.trials.DLTRule``)
---------------------------------------
not_recovered
    A line fails when it went below its threshold on or before ``by_day`` and its recovery
    (sustained for ``sustained_days`` and untransfused for ``untransfused_days``; see
    ``pkpd.endpoints.recovery``) begins later than ``by_day``. The recovery is the first one, so a
    dip after it does not count.
not_recovered_from_nadir
    A line fails when it fell below ``nadir_below`` on or before ``by_day`` and the recovery to its
    threshold that follows begins later than ``by_day``.
low_count_duration
    A line fails when it is below its threshold for at least ``duration_days`` in one spell within
    the clock's first ``by_day`` days; a spell is cut at the ends of that window. With
    ``duration_days = 0`` any time below counts. Platelets are the endogenous ones.
low_count_or_transfusion
    The same, or platelets were transfused on ``transfusion_days`` days of any
    ``transfusion_window_days`` within the window, whatever ``join`` says.

``join = "any"``: a DLT if any line fails; ``"all"``: only if all fail. Where ``no_leukaemia`` is
set, a patient with leukaemia in the marrow has no DLT by this rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.endpoints.line_verdict import (
    Counts,
    judge,
    judge_on_visits,
    look_day,
    not_recovered,
    recovery_after,
)
from pkpd.endpoints.recovery import HOURS_PER_DAY, Recovery, RecoveryStatus
from pkpd.errors import DataError, sentence

if TYPE_CHECKING:
    from pkpd.trials import DLTRule


class DLTStatus(IntEnum):
    """Verdict for a lane."""

    NO_DLT = 0
    DLT = 1
    UNDETERMINED = 2  # the simulation ends before the rule can be decided
    NOT_EVALUABLE = 3  # the clock never started, or the counts are not finite


@dataclass(frozen=True)
class DLTOutcome:
    """Verdict of one rule on every lane.

    Attributes
    ----------
    rule_name
        Name of the rule.
    lines
        Lines of the criteria, in their order (C of them).
    event : bool[L]
        True for a DLT; False for every other status.
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
    event: NDArray[np.bool_]
    status: NDArray[np.int8]
    recovery_day: NDArray[np.float64]
    censored: NDArray[np.bool_]
    line_recovery_day: NDArray[np.float64]
    line_censored: NDArray[np.bool_]
    line_failed: NDArray[np.bool_]

    @property
    def evaluable(self) -> NDArray[np.bool_]:
        """Lanes with a verdict: DLT or no DLT, bool[L]."""
        return self.status <= DLTStatus.DLT

    @property
    def outcome(self) -> NDArray[np.float64]:
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
        return self.status == DLTStatus.DLT

    @property
    def evaluable(self) -> NDArray[np.bool_]:
        """Lanes with a verdict, bool[H1, ..., K, L]."""
        return self.status <= DLTStatus.DLT

    @property
    def probability(self) -> NDArray[np.float64]:
        """Share of DLTs among evaluable lanes, float[H1, ..., K]; NaN when there are none."""
        n = self.evaluable.sum(axis=-1)
        return np.where(n > 0, self.event.sum(axis=-1) / np.maximum(n, 1), np.nan)


def evaluate_rule(
    rule: DLTRule,
    counts: Counts,
    *,
    clock_h: ArrayLike = 0.0,
    search_h: ArrayLike | None = None,
    on: Literal["continuous", "visits"] = "continuous",
    visit_days: Sequence[float] | None = None,
    leukaemia_free: ArrayLike | None = None,
) -> DLTOutcome:
    """Apply a rule to every lane.

    Parameters
    ----------
    rule
        The protocol's rule; thresholds in 10^9/L, days since its clock.
    counts
        Simulated counts (endogenous platelets).
    clock_h : float or float[L]
        Hour at which the rule's clock starts in each lane; NaN when the course never began.
    search_h : float or float[L], optional
        Hour from which recovery is looked for, usually that of the last dose: a count that rises
        before later doses has not recovered from them. The clock's start when omitted.
    on
        "continuous": the exact curve; "visits": the counts at ``visit_days`` only, with
        ``rule.consecutive_visits`` in place of ``rule.sustained_days``.
    visit_days
        Days since the first dose (hour 24 d), increasing. Protocol day d is d - 1 here.
    leukaemia_free : bool[L], optional
        Marrow without leukaemia. Used when ``rule.no_leukaemia``; all lanes when omitted.

    Returns
    -------
    DLTOutcome
        A verdict for every lane; lanes that cannot be judged keep their place and are counted.

    Raises
    ------
    DataError
        The rule has no counts, a line is not simulated, ``on`` is unknown, or visit days are
        missing.
    """
    _check(rule, counts, on, visit_days)
    start = _clock(counts, clock_h, rule.criteria[0].line)
    search = _search(counts, start, search_h)
    criteria = range(len(rule.criteria))
    if on == "visits" and visit_days is not None:
        judged = [judge_on_visits(rule, k, counts, start, search, visit_days) for k in criteria]
    else:
        judged = [judge(rule, k, counts, start, search) for k in criteria]
    failed = np.stack([verdict.failed for verdict in judged])
    status = _join(failed, np.stack([v.undetermined for v in judged]), rule.join)
    if rule.kind == "low_count_or_transfusion":
        often = _often_transfused(rule, counts, start)
        status = np.where(often, DLTStatus.DLT, status)
    if rule.no_leukaemia and leukaemia_free is not None:
        status = np.where(np.asarray(leukaemia_free, dtype=bool), status, DLTStatus.NO_DLT)
    unusable = np.any([v.recovery.status == RecoveryStatus.NOT_EVALUABLE for v in judged], axis=0)
    status = np.where(unusable, DLTStatus.NOT_EVALUABLE, status).astype(np.int8)
    days = np.stack([verdict.recovery.day for verdict in judged])
    any_line = rule.join == "any"
    line_censored = np.stack([v.recovery.status == RecoveryStatus.CENSORED for v in judged])
    return DLTOutcome(
        rule_name=rule.name,
        lines=tuple(criterion.line for criterion in rule.criteria),
        event=status == DLTStatus.DLT,
        status=status,
        recovery_day=days.max(axis=0) if any_line else days.min(axis=0),
        censored=np.asarray(line_censored.any(axis=0) if any_line else line_censored.all(axis=0)),
        line_recovery_day=days,
        line_censored=line_censored,
        line_failed=failed,
    )


def sensitivity(
    counts: Counts,
    *,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    by_days: Sequence[float] = (42.0, 45.0, 49.0, 56.0),
    join: Literal["any", "all"] = "any",
    clock_h: ArrayLike = 0.0,
    search_h: ArrayLike | None = None,
    sustained_days: float = 0.0,
    untransfused_days: float = 7.0,
    leukaemia_free: ArrayLike | None = None,
    found: Mapping[str, tuple[Recovery, NDArray[np.float64], NDArray[np.float64]]] | None = None,
) -> DLTSensitivity:
    """Judge "not recovered by day" over a grid of thresholds and days, in one pass per line.

    Parameters
    ----------
    thresholds
        10^9/L by line; by default neutrophils 0.5 and 1.0, platelets 20, 25, 50 and 100.
    by_days
        Days since the clock.
    found
        By line, what `pkpd.endpoints.line_verdict.recovery_after` returned for the same thresholds
        and settings, where it is at hand already.

    Other parameters as in ``evaluate_rule`` and ``DLTRule``.
    """
    if thresholds is None:
        thresholds = {"neutrophils": (0.5, 1.0), "platelets": (20.0, 25.0, 50.0, 100.0)}
    lines = tuple(thresholds)
    start = _clock(counts, clock_h, lines[0])
    search = _search(counts, start, search_h)
    days = np.asarray(by_days, dtype=np.float64)
    unusable = np.zeros(start.size, dtype=bool)
    failed, undetermined = [], []
    for axis, line in enumerate(lines):
        if found is not None:
            of_line, need_day, end_day = found[line]
        else:
            of_line, need_day, end_day = recovery_after(
                counts,
                line,
                thresholds[line],
                start,
                search,
                sustained_days=sustained_days,
                untransfused_days=untransfused_days,
            )
        unusable |= np.any(of_line.status == RecoveryStatus.NOT_EVALUABLE, axis=0)
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
    if leukaemia_free is not None:
        status = np.where(np.asarray(leukaemia_free, dtype=bool), status, DLTStatus.NO_DLT)
    status = np.where(unusable, DLTStatus.NOT_EVALUABLE, status).astype(np.int8)
    return DLTSensitivity(
        lines=lines,
        thresholds=tuple(tuple(float(x) for x in thresholds[line]) for line in lines),
        by_days=tuple(float(x) for x in days),
        status=status,
    )


def _clock(counts: Counts, clock_h: ArrayLike, line: str) -> NDArray[np.float64]:
    lanes = counts.log_count[line].shape[0]
    start = np.array(np.broadcast_to(np.asarray(clock_h, dtype=np.float64), (lanes,)))
    # a clock that starts when the simulation ends has seen nothing
    start[start >= counts.time_h[-1]] = np.nan
    return start


def _search(
    counts: Counts, start: NDArray[np.float64], search_h: ArrayLike | None
) -> NDArray[np.float64]:
    if search_h is None:
        return start
    search = np.broadcast_to(np.asarray(search_h, dtype=np.float64), start.shape)
    end = counts.time_h[-1]
    return np.where(np.isnan(start), np.nan, np.minimum(np.maximum(search, start), end))


def _join(
    failed: NDArray[np.bool_], undetermined: NDArray[np.bool_], join: str
) -> NDArray[np.int64]:
    if join == "any":
        event = failed.any(axis=0)
        open_ = ~event & undetermined.any(axis=0)
    else:
        event = failed.all(axis=0)
        open_ = ~event & (failed | undetermined).all(axis=0)
    return np.where(event, DLTStatus.DLT, np.where(open_, DLTStatus.UNDETERMINED, 0))


def _often_transfused(
    rule: DLTRule, counts: Counts, start: NDArray[np.float64]
) -> NDArray[np.bool_]:
    if counts.transfused is None:
        raise DataError(
            sentence(
                where=f"DLT rule {rule.name!r}",
                what="it counts platelet transfusions, which were not simulated",
                remedy="switch transfusions on in the simulation",
            )
        )
    hour = HOURS_PER_DAY * np.arange(counts.transfused.shape[1])
    since = hour[None, :] - start[:, None]
    given = counts.transfused & (since >= 0) & (since < HOURS_PER_DAY * look_day(rule))
    total = np.concatenate([np.zeros((start.size, 1)), np.cumsum(given, axis=1)], axis=1)
    first = np.maximum(np.arange(total.shape[1]) - rule.transfusion_window_days, 0)
    return np.any(total - total[:, first] >= rule.transfusion_days, axis=1)


def _check(rule: DLTRule, counts: Counts, on: str, visit_days: Sequence[float] | None) -> None:
    where = f"DLT rule {rule.name!r}"
    if not rule.can_be_simulated:
        raise DataError(
            sentence(
                where=where,
                what="the published rule has no count threshold",
                remedy="choose a rule with counts",
            )
        )
    if on not in ("continuous", "visits"):
        raise DataError(sentence(where=where, what=f"on {on!r}", allowed="continuous, visits"))
    for criterion in rule.criteria:
        if criterion.line not in counts.log_count:
            raise DataError(
                sentence(
                    where=where,
                    what=f"line {criterion.line!r} was not simulated",
                    allowed=", ".join(sorted(counts.log_count)),
                )
            )
    if on == "visits" and (visit_days is None or len(visit_days) == 0):
        raise DataError(
            sentence(where=where, what="no visit days", remedy="give the trial's visit_days")
        )
