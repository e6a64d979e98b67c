"""What a trial has seen, in a design file: cohorts or patients, and what pending ones weigh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pkpd.cards.files import nearest_of
from pkpd.cards.tables import Table
from pkpd.designs.data import MOST_PATIENTS
from pkpd.designs.simulate.patients import TIMES, EventTimes
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
class Seen:
    """Cohorts or patients in their order, whether single patients, and doses of those left out."""

    rows: tuple[SeenCohort, ...]
    by_patient: bool = False
    not_judged: tuple[int, ...] = ()


def level_of(table: Table, key: str, doses: tuple[str, ...]) -> int:
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


def window_of(
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
            table.number("late", None),
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


def seen_of(
    root: Table,
    doses: tuple[str, ...],
    times: EventTimes | None,
    weight_of: Callable[[list[float]], WeightFunction],
) -> tuple[Seen, WeightFunction]:
    """Cohorts or patients in their order, and the weight of those who are pending."""
    if "cohort" in root and "patient" in root:
        root.refuse("patient", "cohorts and patients are both given", remedy="give one of them")
    if "patient" not in root.data:
        rows = tuple(_cohort(row, doses) for row in root.tables("cohort", ()))
        if (treated := sum(row.treated for row in rows)) > MOST_PATIENTS:
            root.refuse("cohort", f"{treated} patients are treated", f"at most {MOST_PATIENTS}")
        return Seen(rows), weight_of([])
    rows = root.tables("patient")
    every = [_patient(row, doses, times) for row in rows]
    read = [one for one in every if one.judged]
    weight = weight_of([one.dlt_day for one in read if one.dlt_day is not None])
    if weight_of is adaptive_weight:
        for row, one in zip(rows, every, strict=True):
            if one.judged and one.dlt and one.dlt_day is None:
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
        waits = tuple(share for share in waits if share < 1)
        counts = (1, int(one.dlt), int(one.response))
        found.append(SeenCohort(one.level, *counts, one.backfilled, waits, parts))
    return Seen(tuple(found), True, tuple(one.level for one in every if not one.judged)), weight


def _cohort(row: Table, doses: tuple[str, ...]) -> SeenCohort:
    level = level_of(row, "dose", doses)
    treated = row.integer("treated", minimum=1, maximum=MOST_PATIENTS)
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
    judged: bool


def _patient(row: Table, doses: tuple[str, ...], times: EventTimes | None) -> _Patient:
    level = level_of(row, "dose", doses)
    dlt, judged = row.boolean("dlt", False), row.boolean("evaluable", True)
    response, backfilled = row.boolean("response", False), row.boolean("backfilled", False)
    day = row.number("dlt_day", None, minimum=0.0, unit="days")
    followed = row.number("followed_days", None, minimum=0.0, unit="days")
    weight = row.number("weight", None, maximum=1.0)
    part = row.number("fraction", None, minimum=0.0, maximum=1.0)
    row.text("note", "")
    row.done()  # before a key is missed that is only misspelt
    _check_dlt(row, dlt, day, followed, times)
    if dlt and not judged:
        row.refuse("evaluable", "the patient has a DLT and is judged by it", remedy="remove it")
    for key, value in (("weight", weight), ("fraction", part)):
        if value is not None and dlt:
            row.refuse(key, "the patient has a DLT", remedy="remove it: nothing is pending")
    if weight is not None and part is not None:
        row.refuse("fraction", "the patient has a weight, too", remedy="give one of them")
    if followed is not None and (weight is not None or part is not None):
        told = "weight" if part is None else "fraction"
        what = f"the patient has followed_days, too, and a {told} stands in their place"
        row.refuse(told, what, remedy="give one of them")
    known = weight is not None or part is not None or not judged
    if followed is None and not known and not dlt and times is not None:
        key = "followed_days"
        raise row.missing(key, "days since the patient's first dose", 1)
    counts = (level, dlt, response, backfilled, followed or 0.0)
    return _Patient(*counts, day, weight, part, judged)


def _check_dlt(
    row: Table, dlt: bool, day: float | None, followed: float | None, times: EventTimes | None
) -> None:
    """Refuse days that contradict one another, or the window."""
    if day is not None and not dlt:
        row.refuse("dlt_day", "the patient has no DLT", remedy="remove it, or write dlt = true")
    if followed is not None and times is None:
        row.refuse(
            "followed_days",
            "no window of assessment is given",
            remedy="add [window] with its days",
        )
    if day is not None and times is not None and day > times.window_days:
        key = "dlt_day"
        raise row.error(
            key,
            f"day {day:g} is after the window of {times.window_days:g} days",
            allowed=f"0 to {times.window_days:g}",
            remedy="a toxicity after the window is no DLT: write dlt = false and followed_days",
            instead=times.window_days,
        )
    if day is not None and followed is not None and followed < day:
        key = "followed_days"
        raise row.error(
            key,
            f"the patient was followed for {followed:g} days and had the DLT on day {day:g}",
            allowed=f"{day:g} or more",
            remedy="correct one of them",
            instead=day,
        )
