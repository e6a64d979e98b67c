"""Times of records: hours, other units, or dates and clock times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from pkpd.data.csv_cells import number_of
from pkpd.data.declared_units import DeclaredUnits
from pkpd.data.faults import Faults
from pkpd.data.sheets import Sheet, is_number, read_stamp

# amounts of virus or cells in a dose reach 1e16; no record is thousands of years long
_MOST = {"TIME": 1e8, "II": 1e8, "AMT": 1e20, "RATE": 1e20}
_MOST_DAYS = 1e5  # from any date: dates have years from 1 to 9999
_YEAR_H = 365.25 * 24.0
_LIFE_H = 100.0 * _YEAR_H  # of treatment
DAY_ZERO = "day 1 is the first day of treatment: where that is day 0, add 1 to every day"
"""What a table with a day 0 is answered with."""
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d?:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)


def refuse_missing(table: Sheet, column: str, values: np.ndarray, what: str) -> None:
    """Refuse a column with missing numbers."""
    missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise table.refused(missing[0], column, what, remedy="give a number")


def refuse_beyond(table: Sheet, column: str, values: np.ndarray) -> None:
    """Refuse numbers that no record of a medicine has."""
    most = _MOST.get(column, np.inf)
    for i in np.flatnonzero(np.isfinite(values) & (np.abs(values) > most)):
        raise table.refused(
            i,
            column,
            f"{values[i]:g} is no number of a medicine",
            allowed=f"at most {most:g}",
            remedy="correct it",
        )


def refuse_other_dates(
    table: Sheet,
    identity: Sequence[Any] | np.ndarray,
    day: np.ndarray,
    date_format: str,
    starts: Mapping[Any, date] | None = None,
) -> None:
    """Refuse a date that lies on another day than DAY by the subject's first row with both.

    ``starts`` has dates of day 1 by another table, of doses.
    """
    first: dict[Any, tuple[int, date]] = {}
    for i in (i for i in range(len(table.rows)) if table.text("DATE", i)):
        today = read_stamp(table, i, date_format).date()
        one = starts.get(identity[i]) if starts else None
        if one is not None and np.floor(day[i]) != (by_dose := (today - one).days + 1):
            raise table.refused(
                i,
                "DATE",
                f"{today} is day {by_dose} by the doses (day 1: {one}), and DAY is {day[i]:g}",
                remedy="give the doses protocol days, too",
            )
        row, start = first.setdefault(identity[i], (i, today))
        by_date = np.floor(day[row]) + (today - start).days
        if by_date != np.floor(day[i]):
            raise table.refused(
                i,
                "DATE",
                f"{today} is day {by_date:g} if {start} is day {day[row]:g} (row "
                f"{table.lines[row]}), and DAY is {day[i]:g}",
                remedy="correct one, or leave one of the columns out (day 0 is the day before 1)",
            )


def protocol_days(table: Sheet, notes: list[str] | None = None) -> np.ndarray:
    """Protocol days (DAY); missing ones, and those that no calendar has, are refused.

    A table with a day 0 may count from it: the sentence `DAY_ZERO` is added to ``notes``.
    """
    day = table.numbers("DAY")
    faults = Faults()
    for i in np.flatnonzero(~(np.abs(day) < _MOST_DAYS)).tolist():
        what = "the day is missing" if np.isnan(day[i]) else f"{day[i]:g} is no day"
        error = table.refused(i, "DAY", what, remedy="give a protocol day")
        faults.add(what, error, table.lines[i])
    faults.refuse()
    if notes is not None and (np.floor(day) == 0.0).any():
        notes.append(f"day 0 is the day before day 1; {DAY_ZERO}")
    return day


def clock_hours(table: Sheet, usual: float) -> np.ndarray:
    """Hours of the day (HOUR), the usual one where none stands; others than 0 to 24 are refused."""
    if "HOUR" not in table.at:
        return np.full(len(table.rows), usual)
    clock = table.numbers("HOUR")
    faults = Faults()
    for i in np.flatnonzero((clock < 0) | (clock > 24)).tolist():
        what, remedy = f"{clock[i]:g} is no hour of a day", "correct it, or move the day"
        error = table.refused(i, "HOUR", what, allowed="0 to 24", remedy=remedy)
        faults.add("HOUR", error, table.lines[i])
    faults.refuse()
    return np.where(np.isnan(clock), usual, clock)


def hours_of_days(table: Sheet, day: np.ndarray, usual: float) -> np.ndarray:
    """Hours since the start of day 1; a fraction of a day is the hour where HOUR gives none.

    Raises
    ------
    DataError
        For a row with both.
    """
    clock, part = clock_hours(table, usual), day - np.floor(day)
    refuse_two_hours(table, part)
    return (np.where(part > 0, day, np.floor(day)) - 1.0) * 24.0 + np.where(part > 0, 0.0, clock)


def refuse_two_hours(table: Sheet, part: np.ndarray) -> None:
    """Refuse rows that have a fraction of a day, ``part``, and an hour (HOUR)."""
    if "HOUR" not in table.at:
        return
    for i in np.flatnonzero((part > 0) & np.isfinite(table.numbers("HOUR"))):
        raise table.refused(
            i,
            "DAY",
            f"{table.text('DAY', int(i))} has a fraction, which tells an hour, and HOUR is "
            f"{table.text('HOUR', int(i))}",
            allowed="a whole day beside HOUR",
            remedy="write the day without its fraction, or leave HOUR empty",
        )


def hours_of(
    table: Sheet,
    identity: np.ndarray,
    declared: DeclaredUnits,
    time_unit: str | None,
    date_format: str,
    notes: list[str],
) -> np.ndarray:
    """Return times in hours."""
    if "DATE" not in table.at:
        stamps = _stamps(table)
        if stamps is not None:
            notes.append("TIME was read as date and time; hours count from each first record")
            return _since_first(table, stamps, identity)
        factor = declared.hours(time_unit)
        time = table.numbers("TIME")
        refuse_missing(table, "TIME", time, "the time is missing")
        refuse_beyond(table, "TIME", time)
        if factor != 1.0:
            unit = declared.given.get("TIME", time_unit)
            notes.append(f"TIME was in {unit}, converted to hours")
        return time * factor
    stamps = np.zeros(len(table.rows))
    origin: datetime | None = None
    other = declared.hours(time_unit) != 1.0
    for i in range(len(table.rows)):
        if other and is_number(text := table.text("TIME", i)):
            unit = declared.given.get("TIME", time_unit)
            raise table.refused(
                i,
                "TIME",
                f"'{text}' beside a date is decimal hours, and the unit given for TIME is {unit}",
                allowed="14:30, or hours of the day without another unit",
                remedy="write clock times, or leave the unit of TIME or DATE out",
            )
        day = read_stamp(table, i, date_format)
        origin = origin or day
        stamps[i] = (day - origin).total_seconds() / 3600.0 + _clock(table, i)
    notes.append("DATE and TIME were read as clock times; hours count from each first record")
    return _since_first(table, stamps, identity)


def refuse_far(table: Sheet, hours: np.ndarray, column: str, origin: str) -> None:
    """Refuse dates that lie further from a patient's others than a life lasts."""
    for i in np.flatnonzero(np.abs(hours) > _LIFE_H):
        years, way = abs(hours[i]) / _YEAR_H, "after" if hours[i] > 0 else "before"
        what = f"'{table.text(column, int(i))}' is {years:.0f} years {way} {origin}"
        raise table.refused(i, column, what, remedy="correct the year")


def in_hours(table: Sheet) -> bool:
    """Whether TIME has numbers: no dates stand beside or in it."""
    return "DATE" not in table.at and _stamps(table) is None


def _since_first(table: Sheet, hours: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Hours since each subject's first record."""
    _, first, subject = np.unique(identity, return_index=True, return_inverse=True)
    since = hours - hours[first[subject]]
    refuse_far(table, since, "DATE" if "DATE" in table.at else "TIME", "the subject's first row")
    return since


def _stamps(table: Sheet) -> np.ndarray | None:
    """Hours of a TIME column in which each cell is a date and a time of the day; else None."""
    texts = [table.text("TIME", i) for i in range(len(table.rows))]
    if not texts or not all(_STAMP.fullmatch(text) for text in texts):
        return None
    try:
        found = [datetime.fromisoformat(text) for text in texts]
    except ValueError:
        return None
    return np.array([(one - found[0]).total_seconds() / 3600.0 for one in found])


def _clock(table: Sheet, i: int) -> float:
    """Hours of the day of a clock time (14:30, 14:30:15) or a decimal number of hours."""
    text = table.text("TIME", i)
    try:
        parts = [number_of(part) for part in text.split(":")]
    except ValueError:
        parts = []
    valid = 1 <= len(parts) <= 3 and 0 <= parts[0] <= 24 and all(0 <= p < 60 for p in parts[1:])
    if not valid:
        raise table.refused(
            i, "TIME", f"'{text}' is not a time of the day", allowed="14:30, 14:30:15 or 14.5"
        )
    return sum(part / 60.0**k for k, part in enumerate(parts))
