"""Doses of a regimen one by one: on its planned calendar, or for one patient's counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pkpd.errors import PkpdError
from pkpd.schedule.amounts import SIZE_OF
from pkpd.schedule.plan import Slot
from pkpd.schedule.regimen import Course, Regimen
from pkpd.schedule.rules import LINES, Criterion, DoseModification, DoseRule, Gate

HALF_UP = 1.0 + 1e-12
"""Factor on a number of strengths before it is rounded: what is half of one in decimals may be less
by the rounding of numbers (0.15 by 0.1)."""


class Administration(NamedTuple):
    """One dose: protocol day (from 1), hour of the day, drug, amount and its unit."""

    day: int
    hour: float
    drug: str
    amount: float
    unit: str


def individual_dose_mg(
    rule: DoseRule | Slot, amount: ArrayLike, bsa_m2: ArrayLike, weight_kg: ArrayLike
) -> np.ndarray:
    """Dose in mg for patients of given size.

    The amount times the size factor, at most the cap, then rounded to the nearest multiple of the
    smallest strength (halves up), but at least one of it, because a dose that is prescribed is not
    rounded to nothing.

    Parameters
    ----------
    rule
        Gives unit, cap and rounding step.
    amount
        In the rule's unit (it may be a reduced level); 0 stays 0.
    bsa_m2, weight_kg
        Body surface area in m^2 and weight in kg. Broadcast against `amount`.

    Returns
    -------
    ndarray
        mg, of the broadcast shape.

    Examples
    --------
    >>> from pkpd.schedule import daily
    >>> course = daily("drug", "5 mg/m^2", days="1", route="oral", strengths_mg=[2.5, 5]).courses[0]
    >>> individual_dose_mg(course.doses[0], 5.0, [1.6, 1.8], 70.0)  # 8 and 9 mg
    array([ 7.5, 10. ])
    """
    size = _size_of(rule, bsa_m2, weight_kg)
    shape = np.broadcast_shapes(np.shape(amount), np.shape(bsa_m2), np.shape(weight_kg))
    dose = np.broadcast_to(np.asarray(amount, dtype=np.float64) * size, shape)
    if rule.cap_mg is not None:
        dose = np.minimum(dose, rule.cap_mg)
    if not rule.strength_mg:
        return np.array(dose)
    step = rule.strength_mg
    units = np.maximum(np.floor(dose / step * HALF_UP + 0.5), 1.0)
    return np.where(dose > 0.0, step * units, 0.0)


def given_amount(
    rule: DoseRule | Slot, amount: ArrayLike, bsa_m2: ArrayLike, weight_kg: ArrayLike
) -> np.ndarray:
    """Amount that patients of given size get, in the rule's unit, after its cap and rounding.

    Parameters
    ----------
    rule, amount, bsa_m2, weight_kg
        As of `individual_dose_mg`.

    Examples
    --------
    >>> from pkpd.schedule import daily
    >>> course = daily("drug", "5 mg/m^2", days="1", route="oral", cap_mg=8).courses[0]
    >>> given_amount(course.doses[0], 5.0, [1.6, 2.0], 70.0)  # 8 mg each
    array([5., 4.])
    """
    size = _size_of(rule, bsa_m2, weight_kg)
    dose = individual_dose_mg(rule, amount, bsa_m2, weight_kg)
    # what is neither capped nor rounded stays what it is, to the last digit
    return np.where(dose == np.asarray(amount) * size, amount, dose / size)


def _size_of(rule: DoseRule | Slot, bsa_m2: ArrayLike, weight_kg: ArrayLike) -> np.ndarray:
    """Size of the body that a dose goes by, in the unit of that."""
    sizes = {"": np.float64(1.0), "surface": np.asarray(bsa_m2), "weight": np.asarray(weight_kg)}
    return np.asarray(sizes[SIZE_OF[rule.unit]])


def administrations(regimen: Regimen, horizon_days: int) -> list[Administration]:
    """Every dose up to a day when nothing is delayed, held or reduced.

    Parameters
    ----------
    regimen
        Courses in sequence.
    horizon_days
        Last protocol day that counts.

    Returns
    -------
    list of Administration
        In order of day, hour and drug name.

    Examples
    --------
    >>> from pkpd.schedule import on_off
    >>> given = administrations(on_off("lenalidomide", "25 mg", on=2, off=5, cycles=2), 14)
    >>> [one.day for one in given]
    [1, 2, 8, 9]
    """
    given = []
    for course, start in zip(regimen.courses, regimen.start_days, strict=True):
        for cycle in range(course.cycles):
            for rule in course.doses:
                for day in rule.days:
                    protocol_day = start + cycle * course.cycle_days + day - 1
                    if protocol_day <= horizon_days:
                        given.append(
                            Administration(
                                protocol_day, rule.hour, rule.drug, rule.amount, rule.unit
                            )
                        )
    return sorted(given)


class Followed(NamedTuple):
    """What one patient got.

    Attributes
    ----------
    doses
        In order of day, hour and drug name.
    starts
        For each course, the protocol days on which its cycles started.
    stopped_on
        Protocol day on which a gate ended all treatment, or ``None``.
    """

    doses: list[Administration]
    starts: tuple[tuple[int, ...], ...]
    stopped_on: int | None


def follow(regimen: Regimen, counts: ArrayLike) -> Followed:
    """Carry a regimen out for one patient whose counts are known in advance, day by day.

    This is the meaning of gates and modifications in the plainest form: one loop over days. It is
    the reference that simulators are tested against. On each day, in this order: the cycle that is
    due starts if its gate is met or its waiting time is over; on visit days drugs are held,
    resumed and reduced; then the day's doses are given. Visits are counted from the day on which a
    cycle starts, and go on while a later cycle of the course waits for its gate. Each course begins
    with no drug held and full doses.

    Parameters
    ----------
    regimen
        Courses in sequence.
    counts
        ``[days, 2]``: neutrophils and platelets (10^9/L) at the start of each protocol day; its
        length is the horizon.

    Raises
    ------
    PkpdError
        If `counts` has another shape.

    Examples
    --------
    >>> from pkpd.schedule import Criterion, Gate, daily
    >>> gate = Gate((Criterion("neutrophils", 0.5),), max_wait_days=28)
    >>> first = daily("clofarabine", "5 mg/m^2", days="1", route="iv", duration="1 h")
    >>> regimen = first.then(daily("lenalidomide", "10 mg", days="1", route="oral"), 4, gate=gate)
    >>> counts = [[0.4, 50.0]] * 5 + [[0.6, 50.0]] * 2  # recovered on day 6
    >>> [(one.drug, one.day) for one in follow(regimen, counts).doses]
    [('clofarabine', 1), ('lenalidomide', 6)]
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(LINES):
        raise PkpdError(
            where="follow",
            what=f"counts of shape {table.shape}",
            allowed=f"[days, {len(LINES)}] ({', '.join(LINES)})",
        )
    doses: list[Administration] = []
    starts: list[list[int]] = [[] for _ in regimen.courses]
    held: dict[str, bool] = {}
    level: dict[str, int] = {}
    c, due = 0, regimen.courses[0].start_day or 1
    running = False
    for day, seen in enumerate(table, start=1):
        course = regimen.courses[c]
        if running and day == starts[c][-1] + course.cycle_days:
            running, due = False, day
            if len(starts[c]) == course.cycles:
                c += 1
                if c == len(regimen.courses):
                    break
                course = regimen.courses[c]
                held, level = {}, {}
                due = max(course.start_day or day, day)
        if not running and day >= due:
            gate = course.between if starts[c] else course.gate
            running = gate is None or _opens(gate, day - due, seen)
            if not running and gate is not None and day - due >= gate.max_wait_days:
                if gate.if_not_met == "stop":
                    return Followed(sorted(doses), tuple(map(tuple, starts)), day)
                running = True
            if running:
                starts[c].append(day)
        if starts[c]:
            for change in course.modifications:
                if (day - starts[c][-1]) % change.visit_every_days == 0:
                    _visit(change, seen, held, level)
        if running:
            doses += _doses_of(course, day, starts[c][-1], held, level)
    return Followed(sorted(doses), tuple(map(tuple, starts)), None)


def _opens(gate: Gate, waited: int, seen: np.ndarray) -> bool:
    if waited % gate.check_every_days:
        return False
    met = [_reached(criterion, seen) for criterion in gate.criteria]
    return any(met) if gate.join == "any" else all(met)


def _reached(criterion: Criterion, seen: np.ndarray) -> bool:
    return bool(seen[LINES.index(criterion.line)] >= criterion.at_least)


def _visit(
    change: DoseModification, seen: np.ndarray, held: dict[str, bool], level: dict[str, int]
) -> None:
    drug = change.drug
    if not held.get(drug, False):
        held[drug] = not all(_reached(criterion, seen) for criterion in change.hold_below)
    elif all(_reached(criterion, seen) for criterion in change.resume_at):
        held[drug] = False
        level[drug] = min(level.get(drug, 0) + change.reduce_on_resume, len(change.levels_mg))


def _doses_of(
    course: Course, day: int, start: int, held: dict[str, bool], level: dict[str, int]
) -> list[Administration]:
    ladder = {change.drug: change.levels_mg for change in course.modifications}
    given = []
    for rule in course.doses:
        if day - start + 1 in rule.days and not held.get(rule.drug, False):
            step = level.get(rule.drug, 0)
            amount = ladder[rule.drug][step - 1] if step else rule.amount
            given.append(Administration(day, rule.hour, rule.drug, amount, rule.unit))
    return given
