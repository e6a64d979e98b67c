"""Doses that stand beside a table of counts: from a dosing table or a planned regimen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np

from pkpd.data.faults import Faults
from pkpd.data.nonmem import subject_labels
from pkpd.data.sheets import Sheet, open_sheet, read_stamp
from pkpd.data.times import hours_of_days, protocol_days, refuse_far, refuse_other_dates
from pkpd.errors import DataError
from pkpd.schedule import Regimen, individual_dose_mg
from pkpd.schedule.amounts import SIZE_OF

_KNOWN = ("ID", "DAY", "DATE", "HOUR", "AMT", "DURATION", "DRUG", "CMT")


class CountDose(NamedTuple):
    """A dose: hours since the start of day 1, mg, hours of infusion, compartment."""

    hour: float
    amount: float
    duration: float
    compartment: int


def _compartment(given: Mapping[str, int] | int, drug: str, where: str) -> int:
    if not isinstance(given, Mapping):
        return int(given)
    if drug not in given:
        raise DataError(
            where=where,
            what=f"a dose of '{drug}' has no compartment",
            allowed=", ".join(given),
            remedy="give it in compartment=",
        )
    return int(given[drug])


def doses_of_regimen(
    regimen: Regimen,
    until_h: float,
    size: Mapping[str, float],
    compartment: Mapping[str, int] | int,
    where: str,
) -> list[CountDose]:
    """Doses of a regimen on its planned calendar.

    Parameters
    ----------
    regimen
        Courses in sequence.
    until_h
        Hours since the start of day 1 that count.
    size
        Covariates of the patient; ``BSA`` (m^2) or ``WT`` (kg) for doses per size.
    compartment
        One, or one by drug.
    where
        Words for the patient in messages.

    Raises
    ------
    DataError
        If a covariate or a drug's compartment is not given.
    """
    by_upper = {name.upper(): value for name, value in size.items()}
    out = []
    for course, start in zip(regimen.courses, regimen.start_days, strict=True):
        for rule in course.doses:
            needed = {"surface": "BSA", "weight": "WT"}.get(SIZE_OF[rule.unit])
            if needed is not None and needed not in by_upper:
                raise DataError(
                    where=where,
                    what=f"the dose of {rule.drug} is in {rule.unit} and {needed} is not known",
                    remedy=f"keep it with covariates=['{needed}']",
                )
            amount = individual_dose_mg(
                rule, rule.amount, by_upper.get("BSA", 1.0), by_upper.get("WT", 1.0)
            )
            number = _compartment(compartment, rule.drug, where)
            for cycle in range(course.cycles):
                for day in rule.days:
                    hour = (start + cycle * course.cycle_days + day - 2) * 24.0 + rule.hour
                    if hour <= until_h:
                        out.append(CountDose(hour, float(amount), rule.duration_h, number))
    return sorted(out)


def doses_of_regimens(
    doses: Regimen | Mapping[Any, Regimen],
    subjects: Sequence[Any],
    until_h: float,
    sizes: Mapping[str, np.ndarray],
    compartment: Mapping[str, int] | int,
    source: str,
) -> dict[Any, list[CountDose]]:
    """Doses of every subject: of one regimen for all, or of each subject's own.

    Raises
    ------
    DataError
        If a subject has no regimen, or a regimen is of no subject.
    """
    labels = [str(subject) for subject in subjects]
    by_name = dict.fromkeys(labels, doses) if isinstance(doses, Regimen) else (
        {str(subject): one for subject, one in doses.items()}
    )  # fmt: skip
    if lost := [name for name in by_name if name not in labels]:
        raise DataError(
            where=f"{source}, doses, {lost[0]}",
            what="has a regimen and no counts",
            remedy="correct the name, or take it out of doses=",
        )
    out = {}
    for k, subject in enumerate(subjects):
        regimen, where = by_name.get(labels[k]), f"{source}, ID {subject}"
        if not isinstance(regimen, Regimen):
            what, remedy = "has counts and no regimen", "give one in doses="
            raise DataError(where=where, what=what, remedy=remedy)
        size = {name: values[k] for name, values in sizes.items()}
        out[subject] = doses_of_regimen(regimen, until_h, size, compartment, where)
    return out


def doses_of_table(
    source: Any,
    date_format: str,
    compartment: Mapping[str, int] | int,
    counts: Sheet,
    subjects: Sequence[Any],
) -> tuple[dict[Any, list[CountDose]], dict[Any, date]]:
    """Doses of a table by subject, and the date of day 1 of each.

    Raises
    ------
    DataError
        For a row without day, amount or known drug, a subject without counts, or days that the
        counts' dates cannot be told from.
    """
    table = open_sheet(source, {}, _KNOWN)
    for needed in ("ID", "AMT"):
        if needed not in table.at:
            raise table.lacks(what=f"has no {needed} column", remedy="rename the column")
    # numbers here may be texts there, where another subject is called A
    written = {str(s): s for s in subjects}
    identity = [written.get(str(s), s) for s in subject_labels(table).tolist()]
    known = set(subjects)
    if strangers := [s for s in identity if s not in known]:
        raise DataError(
            where=f"{table.name}, ID {strangers[0]}",
            what=f"has doses and no counts in {counts.name}",
            remedy="correct the subject, or leave its doses out",
        )
    amount = table.numbers("AMT")
    duration = np.zeros(len(amount))
    if "DURATION" in table.at:
        duration = np.nan_to_num(table.numbers("DURATION"), posinf=np.inf)
    days, starts = _days(table, identity, date_format)
    hours = hours_of_days(table, np.array(days, dtype=float), 0.0)
    if "DAY" not in counts.at and (undated := [s for s in identity if s not in starts]):
        raise DataError(
            where=f"{table.name}, ID {undated[0]}",
            what=f"has protocol days and {counts.name} has dates: nothing says which is day 1",
            remedy=f"give dates in {table.name}, or protocol days in {counts.name}",
        )
    number = table.numbers("CMT") if "CMT" in table.at else np.full(len(amount), np.nan)
    faults = Faults()
    no_number = (number < 0) | (np.floor(number) != number) & ~np.isnan(number) | np.isinf(number)
    for column, bad, what, allowed, remedy in (
        ("AMT", ~((amount > 0) & (amount < np.inf)), "'{}' is no dose", "mg, more than 0",
         "correct it, or leave the row out"),
        ("DURATION", ~((duration >= 0) & (duration < np.inf)), "an infusion of {} h",
         "0 (bolus) or more", "correct it"),
        ("CMT", no_number, "'{}' is no compartment", "a whole number",
         "correct it, or leave it empty"),
    ):  # fmt: skip
        for i in np.flatnonzero(bad).tolist():
            words = what.format(table.text(column, i))
            error = table.refused(i, column, words, allowed=allowed, remedy=remedy)
            faults.add(column, error, table.lines[i])
    faults.refuse()
    out: dict[Any, list[CountDose]] = {}
    for i, subject in enumerate(identity):
        drug = table.text("DRUG", i) if "DRUG" in table.at else ""
        into = (
            int(number[i])
            if not np.isnan(number[i])
            else _compartment(compartment, drug, table.place(i))
        )
        out.setdefault(subject, []).append(
            CountDose(float(hours[i]), float(amount[i]), float(duration[i]), into)
        )
    return {subject: sorted(doses) for subject, doses in out.items()}, starts


def _days(table: Any, identity: list[Any], date_format: str) -> tuple[list[float], dict[Any, date]]:
    """Protocol day of each row, and the dates of day 1: without days that of the first dose."""
    starts: dict[Any, date] = {}
    if "DAY" in table.at:
        day = protocol_days(table)
        if "DATE" in table.at:
            refuse_other_dates(table, identity, day, date_format)
            for i in (i for i in range(len(identity)) if table.text("DATE", i)):
                since = timedelta(days=int(np.floor(day[i])) - 1)
                today = read_stamp(table, i, date_format).date()
                starts.setdefault(identity[i], today - since)
        return day.tolist(), starts
    if "DATE" not in table.at:
        raise table.lacks(what="has neither a DAY nor a DATE column", remedy="rename the column")
    dates = [read_stamp(table, i, date_format).date() for i in range(len(identity))]
    for subject, today in zip(identity, dates, strict=True):
        starts[subject] = min(today, starts.get(subject, today))
    days = [(today - starts[s]).days + 1.0 for s, today in zip(identity, dates, strict=True)]
    refuse_far(table, 24.0 * np.array(days), "DATE", "the first dose")
    return days, starts
