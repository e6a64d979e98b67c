"""Design files: doses, design, stopping rules, what a trial has seen, and true risks to try."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pkpd.arguments import PATH, check_arguments
from pkpd.cards.files import nearest_of
from pkpd.cards.kinds import check_command
from pkpd.cards.tables import Table, read_toml
from pkpd.designs.catalogue import DESIGNS, STOPS
from pkpd.designs.data import Pending, TrialData
from pkpd.designs.kinds import check_risks
from pkpd.designs.protocol import Design
from pkpd.designs.rules.model_based import OverdoseControl
from pkpd.designs.seen_card import SeenCohort, level_of, seen_of, window_of
from pkpd.designs.simulate.patients import ARRIVALS, Accrual, EventTimes, Responses
from pkpd.designs.stopping import StoppingRule
from pkpd.designs.weights import WeightFunction, adaptive_weight, linear_weight


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
    not_judged
        Dose of each patient who cannot be judged, counted from 1: they are left out.
    scenarios
        True risks to try.
    times, accrual, weight
        For simulation; `times` and `accrual` are ``None`` where the file says nothing.
    weighs_by_seen
        Whether `weight` is made from the days of the DLTs that the trial has seen.
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
    not_judged: tuple[int, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    times: EventTimes | None = None
    accrual: Accrual | None = None
    weight: WeightFunction = field(default=linear_weight, compare=False)
    weighs_by_seen: bool = False
    note: str = ""
    schedules: str = ""

    def data(self, cohorts: int | None = None) -> TrialData:
        """Add up what the trial has seen after so many cohorts; after all by default."""
        rows = self.seen[:cohorts]
        seen = self._added(rows, self._dropped(rows))
        return self._in_cohorts(rows, seen) if self.by_patient else seen

    def _in_cohorts(self, rows: Sequence[SeenCohort], seen: TrialData) -> TrialData:
        """Put single patients into cohorts of the design's size; a change of dose begins one."""
        level = treated = dlts = lacking = 0
        for k, row in enumerate(rows):
            if row.backfilled:
                continue
            if row.level != level or not lacking:
                before = self._added(rows[:k] if level else (), 0).batch()
                lacking = max(int(self.design.size(before, np.array([row.level]))[0]), 1)
                level, treated, dlts = row.level, 0, 0
            treated, dlts, lacking = treated + 1, dlts + row.dlts, lacking - 1
        return replace(seen, last_cohort=(treated, dlts) if level else None, lacking=lacking)

    def _dropped(self, rows: Sequence[SeenCohort]) -> int:
        """Lowest dose that the design had dropped when an earlier cohort was assessed; 0 for none.

        Patients who are entered one by one are those of today: what was known then is not.
        """
        found = 0
        if self.by_patient or not self.design.keeps_out:
            return found
        for k in range(1, len(rows)):
            if not rows[k].backfilled:
                out = self.design.eliminated(self._added(rows[:k], found))[0]
                found = int(np.argmax(out)) + 1 if out.any() else 0
        return found

    def _added(self, rows: Sequence[SeenCohort], dropped: int) -> TrialData:
        """Add up cohorts, a dose having been dropped before."""
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
            dropped,
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
    times, weight_of = window_of(root)
    seen, weight = seen_of(root, doses, times, weight_of)
    design = _design(root, doses)
    file = DesignFile(
        title=root.text("title", stem),
        doses=doses,
        design=design,
        seen=seen.rows,
        by_patient=seen.by_patient,
        not_judged=seen.not_judged,
        scenarios=tuple(_scenario(row, design) for row in root.tables("scenario", ())),
        times=times,
        accrual=_accrual(root),
        weight=weight,
        weighs_by_seen=weight_of is adaptive_weight
        and seen.by_patient
        and any(row.dlts for row in seen.rows),
        note=root.text("note", ""),
        schedules=root.text("schedules", ""),
    )
    root.done()
    if "cohort" in root.data or "patient" in root.data:
        with root.at("patient" if seen.by_patient else "cohort"):
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
        given["start"] = level_of(root, "start", doses)
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
    if one.name == "skeleton" and one.name not in table.data:
        remedy = "add it; pkpd.designs.skeleton makes one"
        raise table.missing(one.name, f"{len(doses)} prior risks, lowest first", remedy=remedy)
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
                given["level"] = level_of(row, "dose", doses)
        elif one.name in row.data or one.default is MISSING:
            given[one.name] = row.integer(one.name) if one.type == "int" else row.number(one.name)
        else:
            row.__contains__(one.name)
    row.done()
    return kind(**given)


# -- to simulate ---------------------------------------------------------------------------------


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


def _scenario(row: Table, design: Design) -> Scenario:
    name = row.text("name")
    if "responses" in row and not design.backfills:
        remedy = "remove them, or choose a design that does"
        row.refuse("responses", f"{design.name} does not backfill by them", remedy=remedy)
    found: dict[str, tuple[float, ...]] = {}
    for key in ("risks", "responses"):
        values = row.numbers(key) if key == "risks" else row.numbers(key, ())
        if values or key == "risks":
            with row.at(key):
                check_risks(values, design.levels)
        found[key] = tuple(values)
    row.text("source", "")
    row.done()
    return Scenario(name, found["risks"], found["responses"])


def responses_of(file: DesignFile, scenario: Scenario) -> Responses | None:
    """Responses of a scenario, in the window of the DLTs; ``None`` where it has none."""
    if not scenario.responses or file.times is None:
        return None
    return Responses(scenario.responses, EventTimes(file.times.window_days))
