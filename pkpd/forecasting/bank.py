"""A bank of virtual patients of a source, simulated once: their counts, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats, Indices
from pkpd.cards import load_grades, load_response_criteria
from pkpd.course.course import Course
from pkpd.data.counts import PLAUSIBLE
from pkpd.endpoints.clock import Clock, clock_days, clock_of, has_further_cycle, rule_days
from pkpd.endpoints.definitions import LEUKAEMIC, THRESHOLDS, recovery_definition
from pkpd.endpoints.dlt import evaluate_rule
from pkpd.endpoints.grades import grade
from pkpd.endpoints.recovery import recovery_after, recovery_days, recovery_of_cycle
from pkpd.endpoints.resolution import curve_of
from pkpd.endpoints.response import best_response
from pkpd.endpoints.starts import Start, starts_of
from pkpd.ensemble.ensemble import Ensemble, courses
from pkpd.ensemble.lanes import Identities, Lanes
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.ensemble.simulate import check_rule_lines
from pkpd.errors import PkpdError
from pkpd.forecasting.measurement import COUNTED
from pkpd.leukaemia.parameters import response_criteria
from pkpd.machine import cores
from pkpd.schedule import DosingPlan
from pkpd.trials import DLTRule, ResponseCriteria

GRADES = "ctcae_v5"
GRADE_4 = 4
BACK: Mapping[str, float] = {"neutrophils": 0.5, "platelets": 20.0}
"""Counts (10^9/L) that "back" means where neither a rule nor the user says so."""
BOTH = "both"
BASELINE = "baseline"
"""In place of a count that a line is back from: the patient's own at the start of treatment."""

Level = float | str
"""Count (10^9/L) from which a line is back, or `BASELINE`."""

AT_BASELINE = 0.999
"""Share of the first count from which it is back; it is 1 until the first cells are missed."""
_LEAST = 1e-6  # of a count, before its logarithm is taken


@dataclass(frozen=True)
class Asked:
    """What is read off the patients of a bank.

    Attributes
    ----------
    rule
        Dose-limiting toxicity; ``None`` for none.
    back
        Line -> count (10^9/L) from which it is back, or ``"baseline"``; "both" is all of these.
    clock
        Course whose first cycle's last dose recovery is looked for from.
    response
        Response criteria, where there is leukaemia.
    """

    rule: DLTRule | None = None
    back: Mapping[str, Level] | None = None
    clock: str = "first_dose"
    response: ResponseCriteria | None = None


def asked_of(
    ensemble: Ensemble,
    rule: DLTRule | None,
    back: Mapping[str, Level] | None,
    clock: str | None,
    until_day: int,
) -> Asked:
    """Settle what is asked of a source's patients.

    Raises
    ------
    PkpdError
        If the source lacks a line, or the rule looks at a later day than is simulated.
    """
    if rule is not None:
        check_rule_lines(rule, ensemble)
        if rule.by_day is not None and rule.by_day > until_day:
            raise PkpdError(
                where=f"rule {rule.name}",
                what=f"it looks at day {rule.by_day}, and the forecast ends on day {until_day}",
                remedy=f"forecast until day {rule.by_day + 7} or later",
            )
    counts: dict[str, Level] = dict(back or {})
    if not counts and rule is not None and tells_recovery(rule):
        counts = {c.line: c.at_least for c in rule.criteria}
    counts = counts or usual_back(ensemble.lines)
    for line, at in counts.items():
        if line not in ensemble.lines or not _is_level(at):
            raise PkpdError(
                where="back",
                what=f"{line} of {_said(at)}",
                allowed=f'counts above 0 (10^9/L), or "{BASELINE}", of {", ".join(ensemble.lines)}',
            )
        _refuse_beyond(line, at)
    criteria = None
    if isinstance(ensemble, LearnedEnsemble):
        criteria = load_response_criteria(response_criteria(ensemble.arm.disease)[0])
    return Asked(rule, counts, clock or (rule.clock if rule else "first_dose"), criteria)


OF_LOW_COUNTS = "it is of low counts, and does not say what recovered means"
"""What is said of a rule that `tells_recovery` does not hold of."""


def tells_recovery(rule: DLTRule) -> bool:
    """Whether a rule says from which counts a line is back: one of low counts does not."""
    return rule.kind.startswith("not_recovered")


def usual_back(lines: Sequence[str]) -> dict[str, Level]:
    """Give the counts that "back" means where nobody says so, of lines."""
    return {line: at for line, at in BACK.items() if line in lines}


def _refuse_beyond(line: str, at: Level) -> None:
    """Refuse a count that no blood has, as those of a patient are."""
    most = PLAUSIBLE.get(line, np.inf)
    if isinstance(at, str) or at <= most:
        return
    raise PkpdError(
        where="back",
        what=f"{line} of {at:g} x 10^9/L cannot be",
        allowed=f"at most {most:g} x 10^9/L",
        remedy=f"give 10^9/L: {at:g} cells/uL are {at / 1000:g}",
    )


def _is_level(at: Level) -> bool:
    return at == BASELINE if isinstance(at, str) else bool(np.isfinite(at) and at > 0)


@dataclass(frozen=True, eq=False)
class Bank:
    """L virtual patients under a schedule.

    Attributes
    ----------
    lanes, who
        How they were made, and who they are.
    asked
        What was read off them.
    measured : dict of float32[L, D]
        Log of what a laboratory would count in the mornings, transfused platelets included, by
        line of `pkpd.forecasting.measurement.COUNTED`.
    recovery : dict of float[L]
        By criterion (``"neutrophils >= 0.5"``, ``"both"``): days since the start of day 1, 0 if
        never low, infinite if not seen.
    death_day : float[L]
        Protocol day of death, infinite for the living.
    dlt : float[L]
        1, 0, or NaN where it cannot be judged; ``None`` without a rule.
    response : int[L], response_codes
        Best response as index into the codes; ``None`` where there is no leukaemia.
    starts
        Second cycles and courses that counts can delay.
    """

    lanes: Lanes
    who: Identities
    asked: Asked
    measured: Mapping[str, NDArray[np.float32]]
    recovery: Mapping[str, Floats]
    death_day: Floats
    dlt: Floats | None
    response: NDArray[np.int64] | None
    response_codes: tuple[str, ...] = ()
    starts: tuple[Start, ...] = ()

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.who)

    @property
    def days(self) -> int:
        """Number of mornings D."""
        return self.lanes.days

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines that have counts, blasts among them."""
        return tuple(self.measured)

    @property
    def mortal(self) -> bool:
        """Whether its patients can die: a marrow without leukaemia knows no death."""
        return self.response is not None or bool(np.isfinite(self.death_day).any())

    @property
    def has_further_cycle(self) -> bool:
        """Whether a later cycle is planned, with whose first dose the search for recovery ends."""
        plan = self.lanes.plan
        return has_further_cycle(plan, _clock(self.lanes, self.asked.clock))

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the criteria of recovery."""
        return tuple(self.recovery)

    def counted(self, line: str, time: float, some: Indices | None = None) -> Floats:
        """Count of a line at a time in days since the start of day 1, ``[L]`` or of some.

        Between two mornings it is taken to change exponentially.
        """
        logs = self.measured[line] if some is None else self.measured[line][some]
        at = min(max(time, 0.0), self.days - 1.0)
        low = int(np.floor(at))
        part = at - low
        found = logs[:, low].astype(np.float64)
        if part > 0:
            found += part * (logs[:, low + 1] - found)
        return np.exp(found)

    @cached_property
    def order(self) -> dict[str, NDArray[np.int32]]:
        """Places of the patients from the lowest count up, ``[D, L]`` by line."""
        return {
            line: np.argsort(logs, axis=0, kind="stable").T.astype(np.int32)
            for line, logs in self.measured.items()
        }

    def lowest(self, line: str, from_day: int = 1) -> Floats:
        """Lowest count of the laboratory from a protocol day on, ``[L]``; NaN if there is none."""
        if from_day > self.days:
            return np.full(len(self), np.nan)
        alive = np.arange(from_day - 1, self.days)[None] < self.death_day[:, None]
        logs = np.where(alive, self.measured[line][:, from_day - 1 :], np.inf)
        found = logs.min(axis=1)
        return np.where(np.isfinite(found), np.exp(found), np.nan)

    def grade_4(self, line: str, from_day: int = 1) -> Floats:
        """Whether each patient has a count of grade 4 from a protocol day on, 1 or 0, ``[L]``."""
        lowest = self.lowest(line, from_day)
        before = np.exp(self.measured[line][:, 0].astype(np.float64))
        worst = grade(load_grades(GRADES), line, np.nan_to_num(lowest, nan=np.inf), baseline=before)
        return (worst == GRADE_4).astype(np.float64)


def simulated(lanes: Lanes, who: Identities, asked: Asked, threads: int | None = None) -> Bank:
    """Simulate patients and read off what is asked.

    Parameters
    ----------
    lanes, who
        Whom, under what.
    asked
        What is read.
    threads
        At most so many; all cores by default.
    """
    followed = replace(lanes, ensemble=_between(lanes.ensemble))
    treated = followed.treated(who)
    by_day = None if asked.rule is None else asked.rule.by_day
    rule_clock = None if asked.rule is None else _clock(lanes, asked.rule.clock, by_day)
    reader = _Reader(asked, lanes.plan, _clock(lanes, asked.clock, by_day), rule_clock)
    store: dict[str, Any] = {}
    for index, found in courses(treated, reader, threads or cores()):
        for name, values in found.items():
            shape = (len(who), *values.shape[1:])
            store.setdefault(name, np.empty(shape, values.dtype))[index] = values
    recovery = {
        name.removeprefix("recovery "): v for name, v in store.items() if name[:9] == "recovery "
    }
    return Bank(
        lanes,
        who,
        asked,
        {line: store[line] for line in COUNTED if line in store},
        recovery,
        store["death"],
        store.get("dlt"),
        store.get("response"),
        reader.codes,
        tuple(
            replace(start, late=store[f"start {start.name}"]) for start in reader.starts.values()
        ),
    )


def counts_only(lanes: Lanes, who: Identities, threads: int | None = None) -> Bank:
    """Simulate patients and read off their counts and deaths alone."""
    store: dict[str, Any] = {}
    for index, found in courses(lanes.treated(who), _counts, threads or cores()):
        for name, values in found.items():
            shape = (len(who), *values.shape[1:])
            store.setdefault(name, np.empty(shape, values.dtype))[index] = values
    death = store.pop("death")
    return Bank(lanes, who, Asked(), store, {}, death, None, None)


def _between(ensemble: Ensemble) -> Ensemble:
    """Follow the lines whose recovery is asked for between mornings."""
    if isinstance(ensemble, LearnedEnsemble):
        return replace(ensemble, curves=tuple(THRESHOLDS))
    return ensemble.between_mornings()


def _clock(lanes: Lanes, name: str, by_day: float | None = None) -> Clock:
    known = ("first_dose", *lanes.plan.course_names)
    if name not in known:
        raise PkpdError(
            where="clock",
            what=f"there is no course {name!r} in the schedule",
            allowed=", ".join(known),
        )
    return clock_of(lanes.plan, name, by_day)


def _counts(index: Indices, course: Course) -> tuple[Indices, dict[str, Any]]:
    found: dict[str, Any] = {}
    seen = {line: course.laboratory(line) for line in course.mornings}
    seen |= {"wbc": course.wbc, "marrow_blasts": course.marrow_blasts}
    seen |= {"blood_blasts": course.blood_blasts}
    for line, counts in seen.items():
        if counts is not None and line in COUNTED:
            found[line] = np.log(np.maximum(counts, _LEAST)).astype(np.float32)
    found["death"] = course.death_day
    return index, found


class _Reader:
    """Reads counts and outcomes off the courses of some patients."""

    def __init__(
        self, asked: Asked, plan: DosingPlan, clock: Clock, rule_clock: Clock | None
    ) -> None:
        self.asked, self.plan, self.clock, self.rule_clock = asked, plan, clock, rule_clock
        self.starts: dict[str, Start] = {}
        self.definition = recovery_definition(asked.rule)
        self.codes: tuple[str, ...] = ()

    def __call__(self, index: Indices, course: Course) -> tuple[Indices, dict[str, Any]]:
        _, found = _counts(index, course)
        asked = self.asked
        _, last, until, falls = clock_days(course, self.clock)
        last = np.nan_to_num(last)  # the dead and the untreated are looked at from the start
        falls = np.nan_to_num(falls, nan=np.inf)
        both = np.zeros(course.lanes)
        for line, levels in levels_of(asked, course).items():
            for level, days in self._recovered(course, line, levels, last, until, falls).items():
                found[f"recovery {criterion(line, level)}"] = days
                if (asked.back or {}).get(line) == level:
                    both = np.maximum(both, days)
        if len(asked.back or {}) > 1:
            found[f"recovery {BOTH}"] = both
        for start in starts_of(course, self.plan):
            found[f"start {start.name}"] = start.late
            self.starts[start.name] = start
        if asked.rule is not None and self.rule_clock is not None:
            begin, search, stop, _ = rule_days(course, self.rule_clock)
            found["dlt"] = evaluate_rule(
                asked.rule, course, resolution="morning", start=begin, search=search, until=stop
            ).outcome
        if asked.response is not None and course.marrow_blasts is not None:
            code, _, self.codes = best_response(course, asked.response)
            # nobody responds who has no leukaemia
            ill = course.marrow_blasts[:, 0] >= LEUKAEMIC
            found["response"] = np.where(ill, code, 0).astype(np.int64)
        return index, found

    def _recovered(
        self,
        course: Course,
        line: str,
        levels: Sequence[Level],
        last: Floats,
        until: Floats,
        falls: Floats,
    ) -> dict[Level, Floats]:
        """Days of recovery of one line to each level, looked for from the last dose on."""
        found: dict[Level, Floats] = {}
        counts = [level for level in levels if not isinstance(level, str)]
        parts: list[tuple[Course, Sequence[Level], Sequence[float]]] = [(course, counts, counts)]
        if BASELINE in levels:
            parts.append((_of_start(course, line), [BASELINE], [AT_BASELINE]))
        for of, names, at_least in parts:
            seen = recovery_after(
                of, line, at_least, resolution="continuous", definition=self.definition,
                start=0.0, search=last, until=until,
            )  # fmt: skip
            every = recovery_days(recovery_of_cycle(seen, falls))
            # a clock that starts after the last morning has seen nothing
            every = np.where(np.isnan(every), np.inf, every)
            found |= dict(zip(names, every, strict=True))
        return found


def levels_of(asked: Asked, course: Course) -> dict[str, tuple[Level, ...]]:
    """Give the counts from which each line is back: the usual ones, and those asked for."""
    back = asked.back or {}
    return {
        line: tuple(
            sorted(
                {*THRESHOLDS.get(line, ()), *([back[line]] if line in back else ())},
                key=lambda level: np.inf if isinstance(level, str) else level,
            )
        )
        for line in course.mornings
        if line in THRESHOLDS or line in back
    }


def _of_start(course: Course, line: str) -> Course:
    """Take the counts of a line between mornings as shares of the first one."""
    curve = curve_of(course)
    logs = curve.log_count[line]
    shares = {**curve.log_count, line: logs - logs[:, :1]}
    return replace(course, curve=replace(curve, log_count=shares))


def criterion(line: str, at_least: Level) -> str:
    """Name of a criterion of recovery.

    Examples
    --------
    >>> criterion("neutrophils", 0.5)
    'neutrophils >= 0.5'
    """
    return f"{line} >= {_said(at_least)}"


def _said(level: Level) -> str:
    return level if isinstance(level, str) else f"{level:g}"
