"""Courses in cycles, regimens of courses in sequence, and builders that read like a protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pkpd.arguments import NONE, a, check_arguments, from_to
from pkpd.errors import PkpdError
from pkpd.schedule.amounts import LAST_DAY, parse_amount, parse_days, parse_hours, show_amount
from pkpd.schedule.checks import check_whole
from pkpd.schedule.rules import DoseModification, DoseRule, Gate


@dataclass(frozen=True)
class Course:
    """Doses of one or more drugs in cycles of equal length.

    Attributes
    ----------
    name
        Name of the course within its regimen (a DLT rule may count its days from it).
    cycle_days, cycles
        Length of a cycle in days, and how many follow one another.
    start_day
        Protocol day of the first cycle's day 1; ``None``: right after the previous course's last
        cycle, or day 1. If earlier courses were delayed past it, the course starts when they end.
    gate
        Counts needed before the course starts.
    between
        Counts needed before each later cycle starts.
    modifications
        At most one for each drug.
    """

    name: str
    doses: tuple[DoseRule, ...]
    cycle_days: int
    cycles: int = 1
    start_day: int | None = None
    gate: Gate | None = None
    between: Gate | None = None
    modifications: tuple[DoseModification, ...] = ()

    def __post_init__(self) -> None:
        where = f"course {self.name}"
        object.__setattr__(self, "doses", tuple(self.doses))
        object.__setattr__(self, "modifications", tuple(self.modifications))
        if not self.doses:
            raise PkpdError(where=where, what="it gives no dose")
        check_whole(where, "cycle_days", self.cycle_days, 1, LAST_DAY)
        check_whole(where, "cycles", self.cycles, 1, LAST_DAY)
        if self.start_day is not None:
            check_whole(where, "start_day", self.start_day, 1, LAST_DAY)
        times: dict[tuple[str, int], list[DoseRule]] = {}
        for rule in self.doses:
            if rule.days[-1] > self.cycle_days:
                raise PkpdError(
                    where=where,
                    what=f"{rule.drug} on day {rule.days[-1]} is after the end of the "
                    f"{self.cycle_days}-day cycle",
                    remedy="make the cycle longer or the days fewer",
                )
            for day in rule.days:
                for other in times.setdefault((rule.drug, day), []):
                    if other.hour == rule.hour:
                        raise PkpdError(
                            where=where,
                            what=f"{rule.drug} is given twice on day {day} at hour {rule.hour:g}",
                            remedy="give the second dose at another hour, or add the amounts",
                        )
                times[rule.drug, day].append(rule)
        self._check_modifications(where)

    def _check_modifications(self, where: str) -> None:
        seen: set[str] = set()
        for change in self.modifications:
            rules = [rule for rule in self.doses if rule.drug == change.drug]
            if not rules:
                raise PkpdError(
                    where=where,
                    what=f"there is a modification for {change.drug}, which it does not give",
                    allowed=", ".join(sorted({rule.drug for rule in self.doses})),
                )
            if change.drug in seen:
                raise PkpdError(
                    where=where,
                    what=f"two modifications for {change.drug} contradict each other",
                    remedy="keep one for each drug",
                )
            seen.add(change.drug)
            if not change.levels_mg:
                continue
            amounts = {(rule.amount, rule.unit) for rule in rules}
            if len(amounts) > 1:
                shown = ", ".join(show_amount(*pair) for pair in sorted(amounts))
                raise PkpdError(
                    where=where,
                    what=f"levels for {change.drug} have no meaning with doses of {shown}",
                    remedy="give one amount in the course, or no levels",
                )
            amount, unit = amounts.pop()
            if change.levels_mg[0] >= amount:
                raise PkpdError(
                    where=where,
                    what=f"the first lower level of {change.drug}, "
                    f"{show_amount(change.levels_mg[0], unit)}, is not below its dose of "
                    f"{show_amount(amount, unit)}",
                    allowed=f"levels below {amount:g}",
                )

    @property
    def length_days(self) -> int:
        """Days from the first cycle's day 1 to the last cycle's end when nothing is delayed."""
        return self.cycle_days * self.cycles

    @property
    def drugs(self) -> tuple[str, ...]:
        """Drugs in the order they are first named."""
        return tuple(dict.fromkeys(rule.drug for rule in self.doses))


@dataclass(frozen=True)
class Regimen:
    """Courses that follow one another.

    Raises
    ------
    PkpdError
        If there is no course, two courses have one name, a course starts before the previous one
        ends, or a drug has two cards.
    """

    courses: tuple[Course, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "courses", tuple(self.courses))
        if not self.courses:
            raise PkpdError(where="regimen", what="it has no course")
        names = [course.name for course in self.courses]
        for name in names:
            if names.count(name) > 1:
                raise PkpdError(
                    where="regimen",
                    what=f"two courses are named {name!r}",
                    remedy="give each its own name",
                )
        end = 0
        for before, course in zip((None, *self.courses), self.courses, strict=False):
            start = end + 1 if course.start_day is None else course.start_day
            if before is not None and start <= end:
                raise PkpdError(
                    where=f"course {course.name}",
                    what=f"it starts on day {start}, but course {before.name} lasts to day {end}",
                    allowed=f"day {end + 1} or later",
                    remedy="give drugs that overlap in one course",
                )
            end = start + course.length_days - 1
        cards: dict[str, str] = {}
        for rule in (rule for course in self.courses for rule in course.doses):
            if cards.setdefault(rule.drug, rule.card) != rule.card:
                raise PkpdError(
                    where="regimen",
                    what=f"two cards are named {rule.drug!r}",
                    remedy="name one card in all doses, or rename yours",
                )

    @property
    def start_days(self) -> tuple[int, ...]:
        """Protocol day on which each course starts when nothing is delayed."""
        starts: list[int] = []
        end = 0
        for course in self.courses:
            starts.append(end + 1 if course.start_day is None else course.start_day)
            end = starts[-1] + course.length_days - 1
        return tuple(starts)

    @property
    def last_day(self) -> int:
        """Last protocol day of the last cycle when nothing is delayed."""
        return self.start_days[-1] + self.courses[-1].length_days - 1

    @property
    def drugs(self) -> tuple[str, ...]:
        """Drugs in the order they are first named."""
        return tuple(dict.fromkeys(drug for course in self.courses for drug in course.drugs))

    @property
    def cards(self) -> dict[str, str]:
        """Drugs whose cards are files of the user's, and these files."""
        return {r.drug: r.card for course in self.courses for r in course.doses if r.card}

    def course(self, name: str) -> Course:
        """Course of that name."""
        for course in self.courses:
            if course.name == name:
                return course
        raise PkpdError(
            where="regimen",
            what=f"there is no course {name!r}",
            allowed=", ".join(course.name for course in self.courses),
        )

    def named(self, name: str) -> Regimen:
        """Name the regimen's only course."""
        return Regimen((replace(self._single("named"), name=name),))

    def then(
        self, later: Regimen | Course, start_day: int | None = None, gate: Gate | None = None
    ) -> Regimen:
        """Append a regimen.

        Parameters
        ----------
        later
            What follows. Its own days count from the day after this regimen's last cycle.
        start_day
            Protocol day on which it starts instead.
        gate
            Counts needed before it starts.
        """
        if isinstance(later, Course):
            later = Regimen((later,))
        whole = from_to(1) | NONE
        check_arguments("then()", later=(later, a(Regimen)), start_day=(start_day, whole))
        first = later.courses[0]
        if gate is not None and first.gate is not None:
            raise PkpdError(
                where=f"course {first.name}", what="it has a gate already", remedy="give only one"
            )
        day_0 = self.last_day if start_day is None else start_day - later.start_days[0]
        moved = [
            c if c.start_day is None else replace(c, start_day=c.start_day + day_0)
            for c in later.courses
        ]
        moved[0] = replace(
            moved[0],
            start_day=moved[0].start_day if start_day is None else start_day,
            gate=gate or first.gate,
        )
        taken = {course.name for course in self.courses}
        for n, course in enumerate(moved):
            moved[n] = replace(course, name=free_name(course.name, taken))
            taken.add(moved[n].name)
        return Regimen((*self.courses, *moved))

    def repeat(self, cycles: int, cycle_days: int | None = None) -> Regimen:
        """Give the regimen's only course in cycles.

        Parameters
        ----------
        cycles
            How often.
        cycle_days
            Length of a cycle; ``None`` keeps the course's.
        """
        course = self._single("repeat")
        if course.cycles != 1:
            raise PkpdError(
                where=f"course {course.name}",
                what=f"it has {course.cycles} cycles already",
                remedy="give the number of cycles once",
            )
        length = course.cycle_days if cycle_days is None else cycle_days
        return Regimen((replace(course, cycles=cycles, cycle_days=length),))

    def together(self, other: Regimen) -> Regimen:
        """Give the drugs of two one-course regimens in the same course.

        Single cycles of different length get the longer length; repeated cycles must be equal.
        """
        check_arguments("together()", other=(other, a(Regimen)))
        mine, its = self._single("together"), other._single("together")
        if (mine.cycles, mine.start_day or 1) != (its.cycles, its.start_day or 1) or (
            mine.cycles > 1 and mine.cycle_days != its.cycle_days
        ):
            raise PkpdError(
                where=f"courses {mine.name} and {its.name}",
                what=f"{mine.cycles} cycles of {mine.cycle_days} days and {its.cycles} cycles "
                f"of {its.cycle_days} days cannot be one course",
                remedy="give both the same start, cycles and cycle_days",
            )
        for part in ("gate", "between"):
            if getattr(mine, part) and getattr(its, part) not in (None, getattr(mine, part)):
                raise PkpdError(
                    where=f"courses {mine.name} and {its.name}",
                    what="their gates contradict each other",
                    remedy="give only one",
                )
        name = mine.name if mine.name == its.name else f"{mine.name} + {its.name}"
        return Regimen(
            (
                replace(
                    mine,
                    name=name,
                    doses=mine.doses + its.doses,
                    cycle_days=max(mine.cycle_days, its.cycle_days),
                    gate=mine.gate or its.gate,
                    between=mine.between or its.between,
                    modifications=mine.modifications + its.modifications,
                ),
            )
        )

    def shift(self, days: int) -> Regimen:
        """Start everything `days` later (negative: earlier, down to day 1)."""
        check_arguments("shift()", days=(days, a(int, words="a whole number of days")))
        first = self.courses[0]
        courses = [replace(first, start_day=(first.start_day or 1) + days)]
        courses += [
            c if c.start_day is None else replace(c, start_day=c.start_day + days)
            for c in self.courses[1:]
        ]
        return Regimen(tuple(courses))

    def with_between(self, gate: Gate) -> Regimen:
        """Ask for counts before each later cycle of the regimen's only course."""
        return Regimen((replace(self._single("with_between"), between=gate),))

    def with_modifications(self, *modifications: DoseModification) -> Regimen:
        """Give the regimen's only course its hold, resume and reduce rules."""
        return Regimen((replace(self._single("with_modifications"), modifications=modifications),))

    def _single(self, what: str) -> Course:
        if len(self.courses) != 1:
            names = ", ".join(course.name for course in self.courses)
            raise PkpdError(
                where=f"{what}()",
                what=f"the regimen has {len(self.courses)} courses ({names})",
                remedy=f"use {what}() on one course, then join with then()",
            )
        return self.courses[0]


def free_name(name: str, taken: set[str]) -> str:
    """Name that no course has: ``name``, ``name 2`` and so on."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free


def daily(
    drug: str,
    amount: str,
    days: str | int | Iterable[int],
    route: str,
    duration: str | float = 0.0,
    hour: float | Sequence[float] = 0.0,
    *,
    cycle_days: int | None = None,
    cap_mg: float | None = None,
    strengths_mg: tuple[float, ...] = (),
    source: str = "",
    status: str = "assumed",
    unusual_dose: bool = False,
) -> Regimen:
    """One dose of a drug on each of some days.

    Parameters
    ----------
    drug, amount, route
        As in a protocol: ``"clofarabine", "5 mg/m^2"``, ``"iv"``. A drug card of your own is named
        by its file, ``"mine.toml"``.
    days
        As :func:`~pkpd.schedule.parse_days` reads them: ``"1-5"``, ``"1,8,15"``, ``"1-21/28"``.
    duration
        Infusion time, ``"1 h"``.
    hour
        Hour of the day of the dose, or several for as many doses a day.
    cycle_days
        Cycle length; without it, the length written in `days`, else the last dosing day.
    cap_mg, strengths_mg, source, status, unusual_dose
        As in :class:`~pkpd.schedule.DoseRule`.

    Returns
    -------
    Regimen
        One course named after the drug, one cycle. Continue with ``.repeat()``, ``.together()``,
        ``.then()``.

    Examples
    --------
    >>> daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h").last_day
    5
    """
    value, unit = parse_amount(amount)
    numbers, written = parse_days(days)
    if cycle_days is not None and written not in (None, cycle_days):
        raise PkpdError(
            where=f"dose of {drug}",
            what=f"days {days!r} say a {written}-day cycle, cycle_days says {cycle_days}",
            remedy="give the cycle length once",
        )
    rules = tuple(
        DoseRule(
            drug=drug,
            amount=value,
            unit=unit,
            days=numbers,
            hour=one,
            route=route,
            duration_h=parse_hours(duration),
            cap_mg=cap_mg,
            strengths_mg=strengths_mg,
            source=source,
            status=status,
            unusual_dose=unusual_dose,
        )
        for one in (hour if isinstance(hour, Sequence) else (hour,))
    )
    if not rules:
        raise PkpdError(where=f"dose of {drug}", what="hour is an empty list", remedy="give one")
    length = written or numbers[-1] if cycle_days is None else cycle_days
    return Regimen((Course(rules[0].drug, rules, length),))


def on_off(
    drug: str,
    amount: str,
    on: int,
    off: int,
    cycles: int = 1,
    route: str = "oral",
    **more: Any,
) -> Regimen:
    """Daily doses for `on` days, then `off` days without, in cycles.

    Parameters
    ----------
    drug, amount, route
        As in :func:`daily`.
    on, off
        Days with and without the drug; their sum is the cycle.
    cycles
        How many cycles.
    **more
        Other arguments of :func:`daily`.

    Examples
    --------
    >>> on_off("lenalidomide", "25 mg", on=21, off=7, cycles=2).last_day
    56
    """
    check_whole(f"on_off of {drug}", "on", on, 1, LAST_DAY)
    check_whole(f"on_off of {drug}", "off", off, 0, LAST_DAY)
    check_whole(f"on_off of {drug}", "cycles", cycles, 1, LAST_DAY)
    one = daily(drug, amount, f"1-{on}", route, cycle_days=on + off, **more)
    return one.repeat(cycles)
