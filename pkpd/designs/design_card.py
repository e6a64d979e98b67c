"""Design files: doses, design, stopping rules, what a trial has seen, and true risks to try."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pkpd.arguments import PATH, check_arguments
from pkpd.cards.files import nearest_of
from pkpd.cards.kinds import check_command
from pkpd.cards.tables import Table, read_toml
from pkpd.designs.catalogue import DESIGNS, STOPS
from pkpd.designs.data import Pending, TrialData, check_risks
from pkpd.designs.protocol import Design
from pkpd.designs.rules.model_based import OverdoseControl
from pkpd.designs.simulate.patients import ARRIVALS, TIMES, Accrual, EventTimes, Responses
from pkpd.designs.stopping import StoppingRule
from pkpd.designs.weights import (
    WeightFunction,
    adaptive_weight,
    linear_weight,
    piecewise_weight,
)

WEIGHTS = ("linear", "adaptive", "piecewise")


@dataclass(frozen=True)
class SeenCohort:
    """Patients who were treated together, or one patient.

    Attributes
    ----------
    level
        Dose, counted from 1.
    treated, dlts
        Patients, and how many had a DLT.
    responses
        Patients with a response.
    backfilled
        Whether they were backfilled.
    pending
        Weights of those whose assessment has not ended.
    fractions
        Of those who count as a fraction of a DLT instead.
    """

    level: int
    treated: int
    dlts: int
    responses: int = 0
    backfilled: bool = False
    pending: tuple[float, ...] = ()
    fractions: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """True risks under which a design's characteristics are asked for.

    Attributes
    ----------
    name
        For reports.
    risks
        Of a DLT at each dose.
    responses
        Rates of response at each dose, for backfilling; empty for none.
    """

    name: str
    risks: tuple[float, ...]
    responses: tuple[float, ...] = ()


@dataclass(frozen=True)
class DesignFile:
    """What a design file says.

    Attributes
    ----------
    title
        For reports.
    doses
        Names of the doses, lowest first.
    design
        The design.
    seen
        Cohorts or patients in their order.
    by_patient
        Whether they are single patients.
    scenarios
        True risks to try.
    times, accrual, weight
        For simulation; `times` and `accrual` are ``None`` where the file says nothing.
    note
        What the file says about itself.
    schedules
        Schedule file beside it whose cohorts are the doses, for predicted risks; "" for none.
    """

    title: str
    doses: tuple[str, ...]
    design: Design
    seen: tuple[SeenCohort, ...] = ()
    by_patient: bool = False
    scenarios: tuple[Scenario, ...] = ()
    times: EventTimes | None = None
    accrual: Accrual | None = None
    weight: WeightFunction = field(default=linear_weight, compare=False)
    note: str = ""
    schedules: str = ""

    def data(self, cohorts: int | None = None) -> TrialData:
        """Add up what the trial has seen after so many cohorts; after all by default."""
        rows = self.seen[:cohorts]
        levels = len(self.doses)
        counts = {name: [0] * levels for name in ("treated", "dlts", "responses", "backfilled")}
        current, last = 0, None
        waiting: list[Pending] = []
        for row in rows:
            j = row.level - 1
            counts["treated"][j] += row.treated
            counts["dlts"][j] += row.dlts
            counts["responses"][j] += row.responses
            counts["backfilled"][j] += row.treated * row.backfilled
            waiting += [Pending(row.level, weight) for weight in row.pending]
            waiting += [Pending(row.level, fraction=part) for part in row.fractions]
            if not row.backfilled:
                current, last = row.level, (row.treated, row.dlts)
        return TrialData(
            tuple(counts["treated"]),
            tuple(counts["dlts"]),
            current,
            tuple(waiting),
            last,
            tuple(counts["backfilled"]),
            tuple(counts["responses"]),
        )


def load_design(path: str | Path) -> DesignFile:
    """Read a design file.

    Parameters
    ----------
    path
        A ``.toml`` file.

    Raises
    ------
    CardError
        If a value cannot be used: one sentence with file, key, value, what is allowed and the
        remedy.

    Examples
    --------
    >>> load_design("benchmarks/designs/boin.toml").design.name
    'BOIN'
    """
    check_arguments("load_design", path=(path, PATH))
    return _read(read_toml(Path(path)), Path(path).stem)


def design_of(data: Mapping[str, Any], name: str) -> DesignFile:
    """Read a design from what its file holds, or would hold; errors name the file so.

    Raises
    ------
    CardError
        As `load_design`.
    """
    return _read(Table(data, name), Path(name).stem)


def _read(root: Table, stem: str) -> DesignFile:
    check_command(root, "pkpd design")
    root.one_of("kind", ("design",))
    doses = _doses(root)
    times, weight_of = _window(root)
    seen, by_patient, weight = _seen(root, doses, times, weight_of)
    file = DesignFile(
        title=root.text("title", stem),
        doses=doses,
        design=_design(root, doses),
        seen=seen,
        by_patient=by_patient,
        scenarios=tuple(_scenario(row, len(doses)) for row in root.tables("scenario", ())),
        times=times,
        accrual=_accrual(root),
        weight=weight,
        note=root.text("note", ""),
        schedules=root.text("schedules", ""),
    )
    root.done()
    if "cohort" in root.data or "patient" in root.data:
        with root.at("patient" if by_patient else "cohort"):
            file.data()
    return file


# -- the design -----------------------------------------------------------------------------------


_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(\D+?)\s*")


def _doses(root: Table) -> tuple[str, ...]:
    doses = root.texts("doses")
    if not doses:
        root.refuse("doses", "the list is empty", allowed="names of doses, lowest first")
    for n, name in enumerate(doses, start=1):
        if name in doses[: n - 1]:
            root.refuse(f"doses, item {n}", f"{name!r} is there twice", remedy="rename one")
    amounts = [_AMOUNT.fullmatch(name) for name in doses]
    if all(amounts) and len({found[2] for found in amounts if found}) == 1:
        sizes = [float(found[1]) for found in amounts if found]
        for n, (before, after) in enumerate(itertools.pairwise(sizes), start=2):
            if after <= before:
                root.refuse(
                    f"doses, item {n}",
                    f"{doses[n - 1]!r} is not above {doses[n - 2]!r}",
                    allowed="doses from the lowest to the highest",
                    remedy="put them in order",
                )
    return doses


def _level(table: Table, key: str, doses: tuple[str, ...]) -> int:
    """Dose by its name, as a level from 1."""
    name = table.text(key)
    if name not in doses:
        table.refuse(
            key,
            f"no dose is named {name!r}{nearest_of(name, doses)}",
            allowed=", ".join(doses),
            remedy="name a dose of the list doses",
        )
    return doses.index(name) + 1


def _design(root: Table, doses: tuple[str, ...]) -> Design:
    table = root.table("design")
    name = table.text("name")
    kinds = {known.casefold(): kind for known, kind in DESIGNS.items()}
    kind = kinds.get(name.casefold())
    if kind is None:
        what = f"there is no design {name!r}{nearest_of(name, DESIGNS)}"
        key = "name"
        raise table.error(key, what, allowed=", ".join(DESIGNS), instead="3+3")
    given: dict[str, Any] = {"levels": len(doses)}
    if "start" in root:
        given["start"] = _level(root, "start", doses)
    for one in fields(kind):
        if one.name not in ("levels", "start", "stops") and one.init:
            value = _setting(table, one, doses)
            if value is not MISSING:
                given[one.name] = value
    table.done()
    given["stops"] = tuple(_stop(row, doses) for row in root.tables("stop", ()))
    key = "stop" if given["stops"] else None
    with table.at():
        plain = kind(**{**given, "stops": ()})
    if key is None:
        return plain
    with root.at(key):
        return kind(**given)


def _setting(table: Table, one: Any, doses: tuple[str, ...]) -> Any:
    """Value of one field of a design, read as its type says; MISSING where the file is silent."""
    required = one.default is MISSING and one.default_factory is MISSING
    if one.name not in table.data and not required:
        table.__contains__(one.name)  # now known, for errors about misspelt keys
        return MISSING
    if one.name == "overdose":
        inner = table.table("overdose")
        limit = inner.number("limit", above=0.0, maximum=1.0)
        certainty = inner.number("certainty", 0.25, above=0.0, maximum=1.0)
        inner.done()
        with table.at("overdose"):
            return OverdoseControl(limit, certainty)
    if one.name == "initial":
        names = table.texts("initial")
        for n, name in enumerate(names, start=1):
            if name not in doses:
                what = f"no dose is named {name!r}{nearest_of(name, doses)}"
                table.refuse(f"initial, item {n}", what, allowed=", ".join(doses))
        return tuple(doses.index(name) + 1 for name in names)
    readers: dict[str, Callable[[], Any]] = {
        "int": lambda: table.integer(one.name),
        "int | None": lambda: table.integer(one.name),
        "float": lambda: table.number(one.name),
        "float | None": lambda: table.number(one.name),
        "bool": lambda: table.boolean(one.name),
        "str": lambda: table.text(one.name),
        "tuple[float, float]": lambda: table.numbers(one.name, length=2),
        "float | tuple[float, float]": lambda: (
            table.numbers(one.name, length=2)
            if isinstance(table.data[one.name], list)
            else table.number(one.name)
        ),
        "tuple[int, int]": lambda: tuple(
            int(number) for number in table.numbers(one.name, minimum=5, length=2)
        ),
        "Sequence[float]": lambda: table.numbers(one.name, length=len(doses)),
    }
    return readers[one.type]()


def _stop(row: Table, doses: tuple[str, ...]) -> StoppingRule:
    name = row.one_of("rule", tuple(STOPS))
    kind = STOPS[name]
    given: dict[str, Any] = {}
    for one in fields(kind):
        if one.name == "level":
            if "dose" in row:
                given["level"] = _level(row, "dose", doses)
        elif one.name in row.data or one.default is MISSING:
            given[one.name] = row.integer(one.name) if one.type == "int" else row.number(one.name)
        else:
            row.__contains__(one.name)
    row.done()
    return kind(**given)


# -- what the trial has seen ----------------------------------------------------------------------


def _window(
    root: Table,
) -> tuple[EventTimes | None, Callable[[list[float]], WeightFunction]]:
    """When DLTs come, and how weights follow from the days of those that were seen."""
    if "window" not in root:
        return None, lambda _: linear_weight
    table = root.table("window")
    with table.at():
        times = EventTimes(
            table.number("days", above=0.0, unit="days"),
            table.one_of("dlts_come", TIMES, "weibull"),
            table.number("late", 0.5),
        )
    kind = table.one_of("weight", WEIGHTS, "linear")
    shares = table.numbers("shares") if kind == "piecewise" else ()
    table.done()
    if kind == "adaptive":
        return times, adaptive_weight
    if kind == "piecewise":
        with table.at("shares"):
            known = piecewise_weight(shares)
        return times, lambda _: known
    return times, lambda _: linear_weight


def _seen(
    root: Table,
    doses: tuple[str, ...],
    times: EventTimes | None,
    weight_of: Callable[[list[float]], WeightFunction],
) -> tuple[tuple[SeenCohort, ...], bool, WeightFunction]:
    if "cohort" in root and "patient" in root:
        root.refuse("patient", "cohorts and patients are both given", remedy="give one of them")
    if "patient" not in root.data:
        rows = tuple(_cohort(row, doses) for row in root.tables("cohort", ()))
        return rows, False, weight_of([])
    rows = root.tables("patient")
    read = [_patient(row, doses, times) for row in rows]
    weight = weight_of([one.dlt_day for one in read if one.dlt_day is not None])
    if weight_of is adaptive_weight:
        for row, one in zip(rows, read, strict=True):
            if one.dlt and one.dlt_day is None:
                key = "dlt_day"
                raise row.missing(key, "the day of the DLT, for adaptive weights", 1)
    found = []
    for one in read:
        waits: tuple[float, ...] = ()
        parts = () if one.fraction is None else (one.fraction,)
        if one.weight is not None:
            waits = (one.weight,)
        elif not parts and not one.dlt and times is not None and one.followed < times.window_days:
            waits = (float(weight(np.array(one.followed), times.window_days)),)
        counts = (1, int(one.dlt), int(one.response))
        found.append(SeenCohort(one.level, *counts, one.backfilled, waits, parts))
    return tuple(found), True, weight


def _cohort(row: Table, doses: tuple[str, ...]) -> SeenCohort:
    level = _level(row, "dose", doses)
    treated = row.integer("treated", minimum=1)
    dlts = row.integer("dlts", minimum=0)
    responses = row.integer("responses", 0, minimum=0)
    for key, count in (("dlts", dlts), ("responses", responses)):
        if count > treated:
            word = "a DLT" if key == "dlts" else "a response"
            raise row.error(
                key,
                f"{count} patients with {word} of {treated} treated",
                allowed=f"0 to {treated}",
                remedy="count patients, each at most once",
                instead=treated,
            )
    backfilled = row.boolean("backfilled", False)
    row.text("note", "")
    row.done()
    return SeenCohort(level, treated, dlts, responses, backfilled)


class _Patient(NamedTuple):
    level: int
    dlt: bool
    response: bool
    backfilled: bool
    followed: float
    dlt_day: float | None
    weight: float | None
    fraction: float | None


def _patient(row: Table, doses: tuple[str, ...], times: EventTimes | None) -> _Patient:
    level = _level(row, "dose", doses)
    dlt = row.boolean("dlt", False)
    response, backfilled = row.boolean("response", False), row.boolean("backfilled", False)
    day = row.number("dlt_day", None, minimum=0.0, unit="days")
    if day is not None and not dlt:
        row.refuse("dlt_day", "the patient has no DLT", remedy="remove it, or write dlt = true")
    followed = row.number("followed_days", None, minimum=0.0, unit="days")
    weight = row.number("weight", None, maximum=1.0)
    part = row.number("fraction", None, minimum=0.0, maximum=1.0)
    for key, value in (("weight", weight), ("fraction", part)):
        if value is not None and dlt:
            row.refuse(key, "the patient has a DLT", remedy="remove it: nothing is pending")
    if weight is not None and part is not None:
        row.refuse("fraction", "the patient has a weight, too", remedy="give one of them")
    known = weight is not None or part is not None
    if followed is None and not known and not dlt and times is not None:
        key = "followed_days"
        raise row.missing(key, "days since the patient's first dose", 1)
    if followed is not None and times is None:
        row.refuse(
            "followed_days",
            "no window of assessment is given",
            remedy="add [window] with its days",
        )
    row.text("note", "")
    row.done()
    return _Patient(level, dlt, response, backfilled, followed or 0.0, day, weight, part)


def _accrual(root: Table) -> Accrual | None:
    if "accrual" not in root:
        return None
    table = root.table("accrual")
    with table.at():
        found = Accrual(
            table.number("every_days", above=0.0, unit="days"),
            table.one_of("kind", ARRIVALS, "exponential"),
            table.boolean("patients_wait", True),
        )
    table.done()
    return found


def _scenario(row: Table, levels: int) -> Scenario:
    name = row.text("name")
    found: dict[str, tuple[float, ...]] = {}
    for key in ("risks", "responses"):
        values = row.numbers(key) if key == "risks" else row.numbers(key, ())
        if values or key == "risks":
            with row.at(key):
                check_risks(values, levels)
        found[key] = tuple(values)
    row.text("source", "")
    row.done()
    return Scenario(name, found["risks"], found["responses"])


def responses_of(file: DesignFile, scenario: Scenario) -> Responses | None:
    """Responses of a scenario, in the window of the DLTs; ``None`` where it has none."""
    if not scenario.responses or file.times is None:
        return None
    return Responses(scenario.responses, EventTimes(file.times.window_days))
