"""Schedules of one patient: doses as they were given, and continuations from some day on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, NoReturn

from pkpd.cards.drug_cards import UsualDose
from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.forecasting.dose_hours import with_hours
from pkpd.forecasting.seen import GivenDose
from pkpd.schedule import Course, DoseModification, DoseRule, Regimen
from pkpd.schedule.amounts import show_days
from pkpd.schedule.regimen import free_name

_LATER = ", later cycles"
_NEXT = "further cycle"  # where a sentence about one begins
_FAR = 10.0  # times the plan, as schedules refuse ten times the usual dose

Planned = tuple[int, DoseRule]
"""Protocol day of a dose, and its rule."""


def as_given(schedule: Regimen, doses: Sequence[GivenDose], until_day: int) -> Regimen:
    """Put doses that were given in the place of those that were planned.

    Parameters
    ----------
    schedule
        What was planned.
    doses
        What was given, in mg; 0 for a dose that was left out. They take the place of what is
        planned of their drug on their days; on other days it is given as planned. Hours of the day
        that are not told are the planned ones in order, route and hours of infusion those of the
        planned dose next to it in time.
    until_day
        Protocol day of the last count.

    Returns
    -------
    Regimen
        Cycles that have begun are courses of their own, with what was given and the rest of the
        cycle that then runs on the planned calendar, without rules of holds and reductions; later
        cycles and courses keep those and their gates, and so does one that waits behind a gate and
        of which no row says that it has begun.

    Raises
    ------
    PkpdError
        If a drug is not in the schedule, or was given on a day without a planned dose while planned
        days up to then are not among ``doses``: it could have been moved or be one more.
    """
    if not doses:
        return schedule
    until = max(until_day, *(dose.day for dose in doses))
    told = {(dose.drug, dose.day) for dose in doses}
    drugs = dict.fromkeys(rule.drug for course in schedule.courses for rule in course.doses)
    for drug in dict.fromkeys(dose.drug for dose in doses):
        if drug not in drugs:
            near = nearest_of(drug, list(drugs))
            _refuse(
                f"a dose of {drug}, which the schedule does not give{near}",
                ", ".join(drugs),
                "correct the name, or add the drug to the schedule",
                next(dose.place for dose in doses if dose.drug == drug),
            )
    _check_moved(schedule, doses, until)
    doses = with_hours(doses, list(planned_doses(schedule)))
    begun, later = _begun_cycles(schedule, doses, until)
    # a dose belongs to the last cycle that began by its day
    own: list[list[Planned]] = [[] for _ in begun]
    for dose in doses:
        if dose.amount_mg > 0:
            place = max((k for k, one in enumerate(begun) if one.day_1 <= dose.day), default=0)
            own[place].append((dose.day, _rule_of(dose, schedule)))
    kept: list[Course] = []
    for one, given in zip(begun, own, strict=True):
        for rule in one.course.doses:
            days = [one.day_1 + day - 1 for day in rule.days]
            given += [(d, rule) for d in days if (rule.drug, d) not in told]
        if given:
            first, last = min(one.day_1, *(d for d, _ in given)), max(d for d, _ in given)
            kept.append(_course(one.name, given, max(one.last_day, last), first=first))
    if not kept:
        _refuse("no dose is left of what was given", remedy="give the doses that were taken")
    end = max(begun[-1].last_day, _last_day(kept[-1]))
    ends = [*(course.start_day - 1 for course in kept[1:] if course.start_day), end]
    kept = [
        replace(course, cycle_days=last - (course.start_day or 1) + 1)
        for course, last in zip(kept, ends, strict=True)
    ]
    return Regimen((*kept, *(_not_before(course, end) for course in later)))


def _last_day(course: Course) -> int:
    return (course.start_day or 1) + course.cycle_days - 1


class _Cycle(NamedTuple):
    """A cycle that has begun: its name, course and days."""

    name: str
    course: Course
    day_1: int

    @property
    def last_day(self) -> int:
        return self.day_1 + self.course.cycle_days - 1


def _begun_cycles(
    schedule: Regimen, doses: Sequence[GivenDose], until: int
) -> tuple[list[_Cycle], list[Course]]:
    """Cycles that have begun by a day on the planned calendar, and courses that remain.

    One behind a gate has begun if a row says so: else its gate decides, as without any rows.
    """
    begun: list[_Cycle] = []
    later: list[Course] = []
    for course, start in zip(schedule.courses, schedule.start_days, strict=True):
        cycles = 0
        while cycles < course.cycles and not later:
            day_1 = start + cycles * course.cycle_days
            gate = course.gate if cycles == 0 else course.between
            within = range(day_1, day_1 + course.cycle_days)
            seen = any(dose.drug in course.drugs and dose.day in within for dose in doses)
            if day_1 > until or (gate is not None and not seen):
                break
            name = course.name if cycles == 0 else f"{course.name}, cycle {cycles + 1}"
            begun.append(_Cycle(name, course, day_1))
            cycles += 1
        if cycles == 0:
            later.append(course)
        elif cycles < course.cycles:
            rest = {"cycles": course.cycles - cycles, "gate": course.between, "start_day": None}
            later.append(replace(course, name=f"{course.name}{_LATER}", **rest))
    return begun, later


def _rule_of(dose: GivenDose, schedule: Regimen) -> DoseRule:
    """Rule of a dose as it was given, after the planned one next to it; of two the earlier."""
    mine = [(day, rule) for day, rule in planned_doses(schedule) if rule.drug == dose.drug]
    hour = dose.hour or 0.0
    rule = min(mine, key=lambda p: (abs(p[0] - dose.day), p[0], abs(p[1].hour - hour)))[1]
    if rule.amount > 0:
        _check_amount(dose, rule)
    return replace(
        rule,
        amount=dose.amount_mg,
        unit="mg",
        days=(1,),
        hour=rule.hour if dose.hour is None else dose.hour,
        route=dose.route or rule.route,
        duration_h=rule.duration_h if dose.duration_h is None else dose.duration_h,
        cap_mg=None,
        strengths_mg=(),
    )


def planned_doses(schedule: Regimen) -> Iterator[Planned]:
    """Give all doses of the planned calendar."""
    for course, start in zip(schedule.courses, schedule.start_days, strict=True):
        for cycle in range(course.cycles):
            before = start + cycle * course.cycle_days - 1
            for rule in course.doses:
                yield from ((before + day, rule) for day in rule.days)


def how_given(schedule: Regimen, doses: Sequence[GivenDose], until_day: int) -> tuple[str, ...]:
    """Say of each drug that has doses as given which of its days up to a day are as planned."""
    said = []
    for drug, (told, planned) in _days_of(schedule, doses, until_day).items():
        rest = sorted(planned - told)
        amounts = [d.amount_mg for d in doses if d.drug == drug and d.amount_mg > 0] or [0.0]
        low, high = min(amounts), max(amounts)
        mg = f"{low:g} mg" if low == high else f"{low:g} to {high:g} mg"
        text = f"{drug}: doses of {_days(sorted(told))} as given ({mg})"
        text = f"{text}, of {_days(rest)} as planned" if rest else text
        given = {dose.day for dose in doses if dose.drug == drug and dose.amount_mg > 0}
        if given - planned:
            ahead = [day for day, rule in planned_doses(schedule)
                     if rule.drug == drug and day > max(until_day, *given)]  # fmt: skip
            text += (
                f"; the next planned one is of day {min(ahead)}" if ahead else
                "; none is planned after these"
            ) + ": doses ahead of a cycle that was moved need rows, too"  # fmt: skip
        said.append(text)
    until = max(until_day, *(dose.day for dose in doses)) if doses else 0
    pairs = list(zip(schedule.courses, schedule.start_days, strict=True))
    held = {one.drug: None for c, start in pairs if start <= until for one in c.modifications}
    further = {
        one.drug
        for course, start in pairs
        if start + (course.cycles - 1) * course.cycle_days > until
        for one in course.modifications
    }
    for drugs, when in (
        ([d for d in held if d in further], "begin with the next cycle: until then"),
        ([d for d in held if d not in further], "play no part, as no further cycle is planned:"),
    ):
        if drugs:
            text = f"holds and reductions of {', '.join(drugs)} {when} doses are as given and "
            said.append(f"{text}as planned")
    return tuple(said)


def _days_of(
    schedule: Regimen, doses: Sequence[GivenDose], until: int
) -> dict[str, tuple[set[int], set[int]]]:
    """Days on which a drug was given, and those up to a day on which it is planned, by drug."""
    planned: dict[str, set[int]] = {}
    for day, rule in planned_doses(schedule):
        planned.setdefault(rule.drug, set()).update([day] if day <= until else [])
    return {
        drug: ({dose.day for dose in doses if dose.drug == drug}, planned[drug])
        for drug in dict.fromkeys(dose.drug for dose in doses)
    }


def _check_moved(schedule: Regimen, doses: Sequence[GivenDose], until: int) -> None:
    """Refuse a dose on a day that is not planned where planned days are not told."""
    for drug, (told, planned) in _days_of(schedule, doses, until).items():
        given = {dose.day for dose in doses if dose.drug == drug and dose.amount_mg > 0}
        further, open_days = sorted(given - planned), sorted(planned - told)
        if further and open_days:
            _refuse(
                f"a dose of {drug} on day {further[0]}, on which none is planned, and none on "
                f"{_days(open_days)}, on which one is: it can have been moved, or be one more",
                remedy=f"give a row for each planned day up to day {until}, of 0 mg if left out",
                where=next(d.place for d in doses if (d.drug, d.day) == (drug, further[0])),
            )


def _days(days: Sequence[int]) -> str:
    return f"day{'s' if len(days) > 1 else ''} {show_days(days)}"


def _check_amount(dose: GivenDose, rule: DoseRule) -> None:
    """Refuse an amount that is far from what was planned: most such are slips of the unit."""
    times = UsualDose(rule.amount, rule.unit, "", "").times(dose.amount_mg, "mg")
    if rule.unit != "mg" and dose.amount_mg == rule.amount:
        per = rule.unit.partition("/")[2]
        _refuse(
            f"{dose.amount_mg:g} mg of {dose.drug} on day {dose.day}, the number of the planned "
            f"{rule.amount:g} {rule.unit}",
            "amounts in mg",
            f"multiply it by the patient's size in {per}; if it was {dose.amount_mg:g} mg indeed, "
            f"write {dose.amount_mg * 1.001:g}",
            dose.place,
        )
    if 1.0 / _FAR < times < _FAR:
        return
    many = f"{times:,.0f} times" if times >= 1 else f"1/{1.0 / times:,.0f} of"
    _refuse(
        f"{dose.amount_mg:,g} mg of {dose.drug} on day {dose.day}, {many} the planned "
        f"{rule.amount:g} {rule.unit} in an adult of 1.8 m^2 and 75 kg",
        f"amounts in mg, within {_FAR:g} times of the plan",
        "correct the amount, or plan such a dose in the schedule",
        dose.place,
    )


def next_cycle(
    schedule: Regimen,
    start_day: int,
    dose: float = 1.0,
    *,
    of: str | None = None,
    after: int | None = None,
    planned: Regimen | None = None,
) -> Regimen:
    """Append one more cycle of a course.

    Parameters
    ----------
    schedule
        What is given before; its own doses from ``start_day`` on are left out.
    start_day
        Protocol day of the new cycle's day 1.
    dose
        Share of the amounts of the course. Its drugs are held and resumed as before; of the lower
        levels those below the new dose remain.
    of
        Name of the course; the first if not given.
    after
        Protocol day of today: cycles of the course that would begin later are the ones that the new
        cycle replaces. Without it a planned cycle that begins before ``start_day`` is begun.
    planned
        What was planned, whose course it is, if ``schedule`` has doses as they were given.

    Returns
    -------
    Regimen
        The new cycle is its last course.

    Raises
    ------
    PkpdError
        If there is no such course, or the day is not after the first.

    Examples
    --------
    >>> from pkpd.schedule import daily
    >>> first = daily("lenalidomide", "10 mg", days="1-21/28", route="oral")
    >>> next_cycle(first, 36, dose=0.5).courses[-1].doses[0].amount
    5.0
    """
    pattern = (planned or schedule).courses[0] if of is None else (planned or schedule).course(of)
    if start_day < 2:
        _refuse(f"it begins on day {start_day}", "a protocol day after the first", where=_NEXT)
    if not 0 < dose < _FAR:
        allowed = f"a share above 0 and below {_FAR:g}, 0.75 or 75 %"
        _refuse(f"{dose:g} of the doses", allowed, where=_NEXT)
    begun = schedule if after is None else _begun(schedule, pattern.name, after)
    kept = _cut(begun, start_day)
    doses = tuple(replace(rule, amount=rule.amount * dose) for rule in pattern.doses)
    new = replace(
        pattern, name=free_name(pattern.name, {one.name for one in kept}), doses=doses, cycles=1,
        gate=None, start_day=start_day, modifications=tuple(_at(change, doses) for change in
                                                 pattern.modifications),
    )  # fmt: skip
    return Regimen((*kept, new))


def _at(change: DoseModification, doses: Sequence[DoseRule]) -> DoseModification:
    """Rule of holds and reductions at other doses: levels that are not below them fall away."""
    full = min(rule.amount for rule in doses if rule.drug == change.drug)
    levels = tuple(level for level in change.levels_mg if level < full)
    return replace(change, levels_mg=levels, reduce_on_resume=bool(levels))


def _begun(schedule: Regimen, name: str, day: int) -> Regimen:
    """Cut a schedule: of a course's cycles only those that begin by a protocol day."""
    kept = []
    for course, start in zip(schedule.courses, schedule.start_days, strict=True):
        if course.name.removesuffix(_LATER) == name and kept:
            cycles = min(course.cycles, max(0, (day - start) // course.cycle_days + 1))
        elif course.name == name:
            cycles = min(course.cycles, max(1, (day - start) // course.cycle_days + 1))
        else:
            cycles = course.cycles
        if cycles:
            kept.append(replace(course, cycles=cycles))
    return Regimen(tuple(kept))


def _cut(schedule: Regimen, start_day: int) -> list[Course]:
    """Courses of a schedule without their doses from a protocol day on."""
    kept: list[Course] = []
    for course, start in zip(schedule.courses, schedule.start_days, strict=True):
        whole = (start_day - start) // course.cycle_days
        if start >= start_day:
            continue
        if whole >= course.cycles:
            kept.append(course)
            continue
        if whole:
            kept.append(replace(course, cycles=whole))
        last = start + whole * course.cycle_days
        cut = [
            (last + day - 1, rule)
            for rule in course.doses
            for day in rule.days
            if last + day - 1 < start_day
        ]
        if cut:
            gate = course.gate if whole == 0 else course.between
            begun = _course(
                free_name(course.name, {one.name for one in kept}), cut, start_day - 1, first=last
            )
            held = tuple(c for c in course.modifications if c.drug in begun.drugs)
            begun = replace(begun, cycle_days=start_day - last, modifications=held)
            kept.append(replace(begun, gate=gate, start_day=last))
    return kept


def given_before(schedule: Regimen, day: int) -> Regimen | None:
    """Cut a schedule: what is planned before a protocol day, and nothing from then on.

    Parameters
    ----------
    schedule
        What was planned.
    day
        Protocol day.

    Returns
    -------
    Regimen or None
        Gates of what lies before the day stay; ``None`` if nothing is planned before it.

    Examples
    --------
    >>> from pkpd.schedule import daily
    >>> once = daily("lenalidomide", "10 mg", days="1-21/28", route="oral")
    >>> given_before(once, 12) == given_before(once.repeat(3), 12)
    True
    """
    kept = _cut(schedule, day)
    return Regimen(tuple(kept)) if kept else None


def depends_on_counts(schedule: Regimen, day: int) -> bool:
    """Whether counts may have changed what was given before a protocol day: gates, holds."""
    return any(
        course.gate is not None
        or bool(course.modifications)
        or (course.between is not None and min(day - start, course.length_days) > course.cycle_days)
        for course, start in zip(schedule.courses, schedule.start_days, strict=True)
        if start < day
    )


def gives_from(schedule: Regimen, day: int) -> bool:
    """Whether a dose may be given on a protocol day or later: gates may delay what is planned.

    Examples
    --------
    >>> from pkpd.schedule import daily
    >>> once = daily("lenalidomide", "10 mg", days="1-21/28", route="oral")
    >>> gives_from(once, 21), gives_from(once, 22)
    (True, False)
    """
    waits = 0
    for course, start in zip(schedule.courses, schedule.start_days, strict=True):
        waits += 0 if course.gate is None else course.gate.max_wait_days
        waits += 0 if course.between is None else (course.cycles - 1) * course.between.max_wait_days
        last = start + (course.cycles - 1) * course.cycle_days - 1 + waits
        if any(last + rule.days[-1] >= day for rule in course.doses):
            return True
    return False


def continuation(
    schedule: Regimen, text: str, after: int | None = None, planned: Regimen | None = None
) -> Regimen:
    """Read a further cycle as the command line has it: ``"29"``, or ``"29 at 0.75"``.

    ``after`` and ``planned`` as of `next_cycle`.

    Raises
    ------
    PkpdError
        If the text means nothing.
    """
    found = re.fullmatch(r"\s*(?:day\s*)?(\d+)(?:\s*(?:@|at)\s*(\d+\.?\d*|\.\d+)\s*(%?))?\s*", text)
    if found is None:
        allowed = '"29", or "29 at 0.75" for three quarters'
        _refuse(f"{text!r} is none", allowed, where=_NEXT)
    share = float(found[2]) / (100.0 if found[3] else 1.0) if found[2] else 1.0
    return next_cycle(schedule, int(found[1]), share, after=after, planned=planned)


def named_alternatives(
    alternatives: Mapping[str, Regimen | str] | Sequence[str],
    schedule: Regimen,
    after: int | None = None,
    planned: Regimen | None = None,
) -> dict[str, Regimen]:
    """Continuations by name, texts read as further cycles of a schedule (`continuation`)."""
    if isinstance(alternatives, Mapping):
        return {
            name: continuation(schedule, other, after, planned) if isinstance(other, str) else other
            for name, other in alternatives.items()
        }
    if isinstance(alternatives, str):
        alternatives = (alternatives,)
    return {
        f"next cycle {text}": continuation(schedule, text, after, planned) for text in alternatives
    }


def _course(name: str, planned: Sequence[Planned], end: int, first: int = 1) -> Course:
    """Doses on protocol days as one cycle from day ``first`` to day ``end``."""
    days: dict[DoseRule, list[int]] = {}
    for day, rule in planned:
        days.setdefault(replace(rule, days=(1,)), []).append(day - first + 1)
    if not days:
        _refuse("no dose is left of what was given", remedy="give the doses that were taken")
    rules = tuple(replace(rule, days=tuple(sorted(on))) for rule, on in days.items())
    return Course(name, rules, end - first + 1, start_day=first)


def _not_before(course: Course, end: int) -> Course:
    if course.start_day is None or course.start_day > end:
        return course
    return replace(course, start_day=None)


def _refuse(
    what: str, allowed: str | None = None, remedy: str | None = None, where: str = ""
) -> NoReturn:
    where = where or "doses of a patient"
    raise PkpdError(where=where, what=what, allowed=allowed, remedy=remedy)
