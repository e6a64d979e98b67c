"""A regimen as tables of numbers, for a simulator that runs many patients at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pkpd.schedule.checks import check_whole
from pkpd.schedule.regimen import Course, Regimen
from pkpd.schedule.rules import LINES, Criterion, DoseRule, Gate


@dataclass(frozen=True)
class Slot:
    """Doses that differ only in day and amount.

    `strength_mg` is the step doses are rounded to (the smallest strength), 0 for none; `cap_mg`
    is infinite without a cap; `card` is the file of the drug's own card, empty for the shipped one.
    """

    drug: str
    drug_index: int
    hour: float
    duration_h: float
    route: str
    unit: str
    cap_mg: float
    strength_mg: float
    card: str = ""


@dataclass(frozen=True)
class DosingPlan:
    """A regimen as arrays. C courses, D days of the longest cycle, S slots, K drugs, L levels.

    Counts are 10^9/L, in the order of :data:`pkpd.schedule.LINES` (neutrophils, platelets); days
    here count from 0. The meaning of gates and holds is that of :class:`~pkpd.schedule.Gate` and
    :class:`~pkpd.schedule.DoseModification`; :func:`~pkpd.schedule.follow` carries it out for one
    patient and is the reference for simulators.

    Attributes
    ----------
    drugs
        Names, length K.
    slots
        Length S.
    course_names
        Length C.
    amount
        ``[C, D, S]``, in the slot's unit; 0 is no dose.
    cycle_days, cycles
        ``[C]``, int.
    start_day
        ``[C]``, int, earliest start as written; -1 is right after the previous course.
    planned_start
        ``[C]``, int, start when nothing is delayed.
    gate_threshold
        ``[C, 2, 2]``: course; 0 before the course, 1 between its cycles; line. 0 is no criterion.
    gate_any, gate_every, gate_wait, gate_stop
        ``[C, 2]``: one count is enough; days between looks; days of waiting at most; whether all
        treatment stops after them.
    hold_below, resume_at
        ``[C, K, 2]``, 0 is no criterion.
    level
        ``[C, K, L]`` multipliers of the amount, level 0 is 1; padded with the last level.
    n_levels
        ``[C, K]``, int.
    reduce_on_resume
        ``[C, K]``, bool.
    visit_every
        ``[C, K]``, int, days.
    is_static
        Whether no gate and no modification exists, so that all patients get doses on one calendar.
    horizon_days
        Days to simulate.
    """

    drugs: tuple[str, ...]
    slots: tuple[Slot, ...]
    course_names: tuple[str, ...]
    amount: np.ndarray
    cycle_days: np.ndarray
    cycles: np.ndarray
    start_day: np.ndarray
    planned_start: np.ndarray
    gate_threshold: np.ndarray
    gate_any: np.ndarray
    gate_every: np.ndarray
    gate_wait: np.ndarray
    gate_stop: np.ndarray
    hold_below: np.ndarray
    resume_at: np.ndarray
    level: np.ndarray
    n_levels: np.ndarray
    reduce_on_resume: np.ndarray
    visit_every: np.ndarray
    is_static: bool
    horizon_days: int

    @property
    def dosing_days(self) -> dict[str, int]:
        """Most dosing days of each drug, all cycles of all courses together."""
        days = {}
        for k, name in enumerate(self.drugs):
            mine = [s for s, slot in enumerate(self.slots) if slot.drug_index == k]
            given = (self.amount[:, :, mine] > 0).any(axis=2).sum(axis=1)
            days[name] = int(np.sum(self.cycles * given))
        return days


def with_slot(made: DosingPlan, slot: Slot) -> DosingPlan:
    """Add a slot in which the plan itself gives nothing, such as one by need.

    Parameters
    ----------
    made
        A plan.
    slot
        The slot; its place among the drugs is worked out.
    """
    known = slot.drug in made.drugs
    drugs = made.drugs if known else (*made.drugs, slot.drug)
    amount = np.concatenate([made.amount, np.zeros((*made.amount.shape[:2], 1))], axis=2)
    slots = (*made.slots, replace(slot, drug_index=drugs.index(slot.drug)))
    longer: dict[str, np.ndarray] = {}
    if not known:
        for name in ("hold_below", "resume_at", "reduce_on_resume", "visit_every"):
            table = getattr(made, name)
            none = np.zeros((table.shape[0], 1, *table.shape[2:]), dtype=table.dtype)
            longer[name] = np.concatenate([table, none], axis=1)
        courses, _, levels = made.level.shape
        longer["level"] = np.concatenate([made.level, np.ones((courses, 1, levels))], axis=1)
        one = np.ones((courses, 1), dtype=made.n_levels.dtype)
        longer["n_levels"] = np.concatenate([made.n_levels, one], axis=1)
    return replace(made, drugs=drugs, slots=slots, amount=amount, **longer)


def plan(regimen: Regimen, horizon_days: int) -> DosingPlan:
    """Tables of a regimen.

    Parameters
    ----------
    regimen
        Courses in sequence.
    horizon_days
        Days to simulate, from day 1.

    Raises
    ------
    PkpdError
        If `horizon_days` is not a whole number from 1.
    """
    check_whole("plan", "horizon_days", horizon_days, 1)
    courses, drugs = regimen.courses, regimen.drugs
    slots = tuple(dict.fromkeys(_slot(r, drugs) for c in courses for r in c.doses))
    n_c, n_k = len(courses), len(drugs)
    n_levels = np.ones((n_c, n_k), dtype=np.int64)
    for c, k, change in _changes(courses, drugs):
        n_levels[c, k] = 1 + len(change.levels_mg)

    amount = np.zeros((n_c, max(c.cycle_days for c in courses), len(slots)))
    for c, course in enumerate(courses):
        for rule in course.doses:
            # added, not set: two strengths of rounding aside, equal times are refused earlier
            amount[c, np.array(rule.days) - 1, slots.index(_slot(rule, drugs))] += rule.amount

    gates = [(course.gate, course.between) for course in courses]
    hold = np.zeros((n_c, n_k, len(LINES)))
    resume = np.zeros_like(hold)
    level = np.ones((n_c, n_k, int(n_levels.max())))
    reduce = np.zeros((n_c, n_k), dtype=bool)
    visit = np.ones((n_c, n_k), dtype=np.int64)
    for c, k, change in _changes(courses, drugs):
        hold[c, k] = _thresholds(change.hold_below)
        resume[c, k] = _thresholds(change.resume_at)
        reduce[c, k] = change.reduce_on_resume
        visit[c, k] = change.visit_every_days
        full = next(r.amount for r in courses[c].doses if r.drug == change.drug)
        lower = [value / full for value in change.levels_mg]
        level[c, k, 1 : 1 + len(lower)] = lower
        level[c, k, 1 + len(lower) :] = lower[-1] if lower else 1.0

    return DosingPlan(
        drugs=drugs,
        slots=slots,
        course_names=tuple(course.name for course in courses),
        amount=amount,
        cycle_days=np.array([course.cycle_days for course in courses], dtype=np.int64),
        cycles=np.array([course.cycles for course in courses], dtype=np.int64),
        start_day=np.array([(c.start_day or 0) - 1 for c in courses], dtype=np.int64),
        planned_start=np.array(regimen.start_days, dtype=np.int64) - 1,
        gate_threshold=np.array([[_gate_row(g) for g in pair] for pair in gates]),
        gate_any=np.array([[g is not None and g.join == "any" for g in pair] for pair in gates]),
        gate_every=np.array(
            [[g.check_every_days if g else 1 for g in pair] for pair in gates], dtype=np.int64
        ),
        gate_wait=np.array(
            [[g.max_wait_days if g else 0 for g in pair] for pair in gates], dtype=np.int64
        ),
        gate_stop=np.array(
            [[g is not None and g.if_not_met == "stop" for g in pair] for pair in gates]
        ),
        hold_below=hold,
        resume_at=resume,
        level=level,
        n_levels=n_levels,
        reduce_on_resume=reduce,
        visit_every=visit,
        is_static=all(g is None for pair in gates for g in pair)
        and not any(course.modifications for course in courses),
        horizon_days=int(horizon_days),
    )


def _slot(rule: DoseRule, drugs: tuple[str, ...]) -> Slot:
    return Slot(
        drug=rule.drug,
        drug_index=drugs.index(rule.drug),
        hour=float(rule.hour),
        duration_h=float(rule.duration_h),
        route=rule.route,
        unit=rule.unit,
        cap_mg=float("inf") if rule.cap_mg is None else float(rule.cap_mg),
        strength_mg=rule.strength_mg,
        card=rule.card,
    )


def _changes(courses: tuple[Course, ...], drugs: tuple[str, ...]):
    for c, course in enumerate(courses):
        for change in course.modifications:
            yield c, drugs.index(change.drug), change


def _thresholds(criteria: tuple[Criterion, ...]) -> list[float]:
    values = {criterion.line: criterion.at_least for criterion in criteria}
    return [values.get(line, 0.0) for line in LINES]


def _gate_row(gate: Gate | None) -> list[float]:
    return _thresholds(gate.criteria) if gate else [0.0] * len(LINES)
