"""Doses, gates, dose modifications and courses as a card writes them.

A cohort changes single values of a dose or course (``change.lenalidomide = { amount = "10 mg" }``),
so values are first read, then merged, then made into the types of :mod:`pkpd.schedule`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pkpd.cards.files import nearest_of
from pkpd.cards.provenance import Provenance, read_provenance, weakest
from pkpd.cards.tables import REMOVED, Table
from pkpd.schedule import (
    LINES,
    ROUTES,
    Course,
    Criterion,
    DoseModification,
    DoseRule,
    Gate,
    Regimen,
    describe_criteria,
    parse_amount,
    parse_days,
    parse_hours,
)
from pkpd.schedule.amounts import LAST_DAY, show_amount

_DOSE_KEYS = ("drug", "amount", "days", "route", "duration", "hour", "cap_mg", "strengths_mg")
_EXAMPLES = {"amount": 'an amount such as "5 mg/m^2"', "days": 'days such as "1-5"'}
NO_GATE = "none"
"""In the place of a gate's name: there is none."""
_WORDS = {"cycle_days": "cycle length in days", "start_day": "start on day", "cap_mg": "cap in mg"}


@dataclass(frozen=True)
class Part:
    """Values read from one table, and the table for errors."""

    table: Table
    values: Mapping[str, Any]
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, change: Part, cohort: str) -> Part:
        """Put the values of a cohort's `change` over these; what it does not mention stays."""
        new = {key: entry._replace(cohort=cohort) for key, entry in change.provenance.items()}
        return Part(
            change.table,
            {**self.values, **change.values},
            {**self.provenance, **new},
            {**self.written, **change.written},
        )


@dataclass(frozen=True)
class Library:
    """Named parts of a card that courses refer to."""

    doses: Mapping[str, Part]
    gates: Mapping[str, Gate]
    modifications: Mapping[str, Part]
    courses: Mapping[str, Part]

    def named(self, drug: Callable[[Table, str], str]) -> Library:
        """Put the names of drugs as `drug` gives them, from the table and what it says."""

        def put(parts: Mapping[str, Part]) -> dict[str, Part]:
            return {
                name: replace(p, values={**p.values, "drug": drug(p.table, p.values["drug"])})
                for name, p in parts.items()
            }

        return replace(self, doses=put(self.doses), modifications=put(self.modifications))


def read_library(root: Table) -> Library:
    """Read ``[dose.*]``, ``[gate.*]``, ``[modification.*]`` and ``[course.*]`` of a card."""
    gates = {name: read_gate(t) for name, t in root.named_tables("gate", default={}).items()}
    doses = {name: read_dose(t, name) for name, t in root.named_tables("dose").items()}
    changes = {
        name: _read_modification(t)
        for name, t in root.named_tables("modification", default={}).items()
    }
    courses = {name: read_course(t) for name, t in root.named_tables("course").items()}
    for name in courses:
        if name in doses:
            root.refuse(
                f"course.{name}",
                f"a dose and a course are both named {name!r}",
                remedy="rename one, because a cohort changes either by its name",
            )
        if name == "first_dose":
            root.refuse(
                f"course.{name}", "'first_dose' is the clock of a rule", remedy="rename the course"
            )
    return Library(doses, gates, changes, courses)


def read_criteria(table: Table, key: str) -> tuple[Criterion, ...]:
    """Read counts ``key = { neutrophils = 0.5, platelets = 20 }`` in 10^9/L."""
    inner = table.table(key)
    found = _criteria_of(inner)
    inner.done()
    if not found:
        raise inner.error(None, "no count is given", allowed=", ".join(LINES))
    return found


def read_gate(table: Table) -> Gate:
    """Read a gate: ``{ neutrophils = 1.0, max_wait_days = 28, if_not_met = "stop" }``."""
    keys = tuple(key for key in table.data if key not in ("source", "status"))
    source, status = weakest(read_provenance(table, keys))
    values = {
        "criteria": _criteria_of(table),
        "join": table.one_of("join", ("all", "any"), default="all"),
        "check_every_days": table.integer("check_every_days", default=1, minimum=1),
        "max_wait_days": table.integer("max_wait_days", default=28, minimum=0),
        "if_not_met": table.one_of("if_not_met", ("start", "stop"), default="start"),
    }
    table.done()
    with table.at():
        return Gate(**values, source=source, status=status)


def read_dose(table: Table, name: str | None = None) -> Part:
    """Read a dose; with `name` it is complete, without it it changes some of a dose's values."""
    complete = name is not None
    written = tuple(key for key in table.data if key in _DOSE_KEYS)
    values: dict[str, Any] = {}
    if complete or "drug" in table:
        values["drug"] = table.text("drug", default=name)
    if complete or "amount" in table:
        with table.at("amount"):
            values["amount"] = parse_amount(_raw(table, "amount"))
    if complete or "days" in table:
        with table.at("days"):
            values["days"] = parse_days(_raw(table, "days"))
    if complete or "route" in table:
        values["route"] = table.one_of("route", ROUTES)
    if "duration" in table:
        with table.at("duration"):
            values["duration_h"] = parse_hours(_raw(table, "duration"))
    if "hour" in table:
        several = isinstance(table.data["hour"], list)
        values["hours"] = (
            table.numbers("hour", minimum=0.0) if several else (table.number("hour", minimum=0.0),)
        )
        if not values["hours"]:
            table.refuse("hour", "the list is empty", remedy="give one, or remove the key")
    if "cap_mg" in table:
        values["cap_mg"] = table.number("cap_mg", above=0.0, unit="mg")
    if "strengths_mg" in table:
        values["strengths_mg"] = table.numbers("strengths_mg", above=0.0)
        if complete and not values["strengths_mg"]:
            key, remedy = "strengths_mg", "give one, or remove the key"
            raise table.error(key, "the list is empty", None, remedy, REMOVED)
    if "note" in table:
        values["note"] = table.text("note")
    if "unusual_dose" in table:
        values["unusual_dose"] = table.boolean("unusual_dose")
    provenance = read_provenance(table, tuple(key for key in written if key != "drug"))
    table.done()
    return Part(table, values, provenance, table.data)


def read_course(table: Table, complete: bool = True) -> Part:
    """Read a course; not `complete`, it changes some of a course's values."""
    values: dict[str, Any] = {}
    if complete or "doses" in table:
        values["doses"] = table.texts("doses")
    for key in ("cycle_days", "cycles", "start_day"):
        if key in table:
            values[key] = table.integer(key, minimum=1, maximum=LAST_DAY)
    for key in ("gate", "between"):
        if key in table:
            by_name = isinstance(table.data[key], str)
            values[key] = table.text(key) if by_name else read_gate(table.table(key))
    if "modifications" in table:
        values["modifications"] = table.texts("modifications")
    keys = tuple(k for k in ("cycle_days", "cycles", "start_day") if k in values)
    provenance = read_provenance(table, keys)
    table.done()
    return Part(table, values, provenance, table.data)


def build_course(name: str, part: Part, doses: Mapping[str, Part], library: Library) -> Course:
    """Make a course from its values and the (changed) doses it names."""
    table, values = part.table, part.values
    rules: list[DoseRule] = []
    lengths: dict[str, int] = {}
    for dose_id in values["doses"]:
        rules += build_doses(dose_id, doses[known_name(table, "doses", dose_id, doses)])
        written = doses[dose_id].values["days"][1]
        if written is not None:
            lengths[dose_id] = written
    cycle_days = values.get("cycle_days") or next(iter(lengths.values()), None)
    if cycle_days is None:
        table.refuse(
            "cycle_days",
            "the key is missing",
            allowed="a whole number of days",
            remedy='add it, or write the days of a dose as "1-21/28"',
        )
    for dose_id, length in lengths.items():
        if length != cycle_days:
            table.refuse(
                "cycle_days",
                f"the cycle is {cycle_days} days here and {length} days in dose {dose_id!r}",
                remedy="give one length",
            )
    changes = tuple(
        _build_modification(
            library.modifications[
                known_name(table, "modifications", change_id, library.modifications)
            ],
            rules,
        )
        for change_id in values.get("modifications", ())
    )
    with table.at():
        return Course(
            name=name,
            doses=tuple(rules),
            cycle_days=cycle_days,
            cycles=values.get("cycles", 1),
            start_day=values.get("start_day"),
            gate=_gate(table, "gate", values, library),
            between=_gate(table, "between", values, library),
            modifications=changes,
        )


def build_doses(dose_id: str, part: Part) -> tuple[DoseRule, ...]:
    """Make the dose rules of a dose: one for each hour of the day."""
    values = part.values
    source, status = weakest(part.provenance)
    with part.table.at():
        return tuple(
            DoseRule(
                drug=values["drug"],
                amount=values["amount"][0],
                unit=values["amount"][1],
                days=values["days"][0],
                hour=hour,
                route=values["route"],
                duration_h=values.get("duration_h", 0.0),
                cap_mg=values.get("cap_mg"),
                strengths_mg=values.get("strengths_mg", ()),
                source=source,
                status=status,
                note=values.get("note", ""),
                unusual_dose=values.get("unusual_dose", False),
                card=values.get("card", ""),
            )
            for hour in values.get("hours", (0.0,))
        )


def assumed_values(name: str, part: Part) -> list[str]:
    """One sentence for each value of a dose or course that its card labels as assumed."""
    texts = []
    for key, entry in part.provenance.items():
        if entry.given and entry.status == "assumed":
            place = f"{name} of {entry.cohort}" if entry.cohort else name
            value = _shown(part.written[key])
            texts.append(f"{place}: {_WORDS.get(key, key)} {value}, assumed: {entry.source}.")
    return texts


def assumed_rules(course: Course) -> list[str]:
    """One sentence for each gate and modification of a course that is assumed."""
    texts = []
    for gate, place in ((course.gate, "before"), (course.between, "between cycles of")):
        if gate is not None and gate.source and gate.status == "assumed":
            counts = describe_criteria(gate.criteria, gate.join)
            texts.append(f"{course.name}: gate {place} it, {counts}, assumed: {gate.source}.")
    for change in course.modifications:
        if change.source and change.status == "assumed":
            texts.append(
                f"{course.name}: dose modification of {change.drug}, assumed: {change.source}."
            )
    return texts


def unused(root: Table, library: Library, regimens: Iterable[Regimen]) -> tuple[str, ...]:
    """Name the parts of a schedule that do nothing: nobody has them, or no cycle waits for them."""
    rows = root.data.get("cohort", ())
    courses: list[Any] = [part.values for part in library.courses.values()]
    courses += [change for row in rows for change in row.get("change", {}).values()]

    named: dict[str, set[str]] = {"doses": set(), "modifications": set()}
    for course in courses:
        for key, names in named.items():
            names.update(course.get(key, ()))
    every = tuple(library.courses)
    gates = {g for c in courses for k in ("gate", "between") if isinstance(g := c.get(k), str)}
    given = {name for row in rows or ({},) for name in row.get("courses", every)}
    parts = (
        ("dose", library.doses, named["doses"], "course"),
        ("modification", library.modifications, named["modifications"], "course"),
        ("gate", library.gates, gates, "course"),
        ("course", every, given, "cohort"),
    )
    unnamed = [
        f"{kind} {name} is in no {place} and does nothing"
        for kind, known, named, place in parts
        for name in known
        if name not in named
    ]
    made = [course for regimen in regimens for course in regimen.courses]
    several = {course.name for course in made if course.cycles > 1}
    waits = dict.fromkeys(c.name for c in made if c.between and c.name not in several)
    idle = (f"between of course {name} has no later cycle and does nothing" for name in waits)
    return (*unnamed, *idle)


def known_name(table: Table, key: str, name: str, known: Mapping[str, Any]) -> str:
    """Refuse a name that the card does not define."""
    if name not in known:
        table.refuse(
            key,
            f"{name!r} is not defined in this file{nearest_of(name, known)}",
            allowed=", ".join(known) or "none, because none is defined",
            remedy="define it or correct the name",
        )
    return name


def _criteria_of(table: Table) -> tuple[Criterion, ...]:
    found = []
    for line in LINES:
        if line in table:
            value = table.number(line, unit="10^9/L")
            with table.at(line):
                found.append(Criterion(line, value))
    return tuple(found)


def _read_modification(table: Table) -> Part:
    keys = tuple(key for key in table.data if key not in ("source", "status"))
    source, status = weakest(read_provenance(table, keys))
    levels = []
    for row, text in enumerate(table.texts("levels", default=()), start=1):
        with table.at(f"levels, item {row}"):
            levels.append(parse_amount(text))
    values = {
        "drug": table.text("drug"),
        "hold_below": read_criteria(table, "hold_below"),
        "resume_at": read_criteria(table, "resume_at") if "resume_at" in table else (),
        "levels": tuple(levels),
        "reduce_on_resume": table.boolean("reduce_on_resume", default=bool(levels)),
        "visit_every_days": table.integer("visit_every_days", default=7, minimum=1),
        "source": source,
        "status": status,
    }
    table.done()
    return Part(table, values)


def _build_modification(part: Part, rules: list[DoseRule]) -> DoseModification:
    values = dict(part.values)
    levels = values.pop("levels")
    units = {rule.unit for rule in rules if rule.drug == values["drug"]}
    for amount, unit in levels:
        if units and unit not in units:
            part.table.refuse(
                "levels",
                f"{show_amount(amount, unit)} is not in the unit of the dose",
                allowed=", ".join(sorted(units)),
            )
    with part.table.at():
        return DoseModification(levels_mg=tuple(amount for amount, _ in levels), **values)


def _gate(table: Table, key: str, values: Mapping[str, Any], library: Library) -> Gate | None:
    gate = values.get(key)
    if gate == NO_GATE and NO_GATE not in library.gates:
        return None
    if isinstance(gate, str):
        return library.gates[known_name(table, key, gate, library.gates)]
    return gate


def _raw(table: Table, key: str) -> Any:
    """Value of a key that the dosing parsers check themselves."""
    if key not in table:
        raise table.missing(key, allowed=_EXAMPLES[key])
    value = table.data[key]
    if key == "days" and (isinstance(value, bool) or not isinstance(value, int | str | list)):
        table.refuse(key, f"{value} is not days", allowed='"1-5", "1,8,15" or a list')
    if key == "days" and isinstance(value, list):
        for row, day in enumerate(value, start=1):
            if isinstance(day, bool) or not isinstance(day, int | str):
                table.refuse(
                    f"days, item {row}",
                    f"{day} is not a day",
                    allowed="whole numbers, counted from 1",
                )
        return tuple(value)
    return value


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
