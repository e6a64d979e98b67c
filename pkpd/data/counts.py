"""Reader of tidy tables of blood counts, with doses from a table or a schedule.

Days are protocol days: day 1 is the first day of treatment and hour 0, day 0 the day before. A
count belongs to the hour given, by default to the start of its day, before the day's dose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from pkpd.arguments import MAPPING, NAMES, NONE, NUMBER, TEXT, check_arguments, from_to
from pkpd.data.count_doses import CountDose, doses_of_regimens, doses_of_table
from pkpd.data.dataset import NOT_CENSORED, Dataset, Observations, more
from pkpd.data.declared_units import DeclaredUnits
from pkpd.data.events import DOSE, OBSERVATION, EventTable
from pkpd.data.faults import Faults
from pkpd.data.measurements import limits_by_line
from pkpd.data.nonmem import subject_labels
from pkpd.data.sheets import Sheet, TableSource, checked_columns, open_sheet, read_stamp
from pkpd.data.times import hours_of_days, protocol_days, refuse_far, refuse_other_dates
from pkpd.errors import DataError
from pkpd.schedule import Regimen

_KNOWN = ("ID", "DAY", "DATE", "HOUR", "LINE", "VALUE", "LLOQ")
_IDENTITY = ("ID", "SUBJECT", "PATIENT", "USUBJID")

#: What laboratories call the lines.
SPELLINGS = {
    "neutrophils": ("NEUTROPHILS", "ANC", "NEUT", "NEUTROPHIL", "NEUTROPHILES"),
    "platelets": ("PLATELETS", "PLT", "PLAT", "PLATELET", "THROMBOCYTES"),
    "leukocytes": ("LEUKOCYTES", "LEUCOCYTES", "WBC", "LEUK"),
    "lymphocytes": ("LYMPHOCYTES", "ALC", "LYMPH"),
    "haemoglobin": ("HAEMOGLOBIN", "HEMOGLOBIN", "HB", "HGB"),
}
_PARTED = re.compile(r"\d{1,3}\.\d{3}")
PLAUSIBLE = {"neutrophils": 300.0, "platelets": 10_000.0, "leukocytes": 1000.0}
"""Most that blood can have of a line (10^9/L): more is a slip of the unit or of the value."""


@dataclass(frozen=True)
class _Count:
    """One measured value: row of the source, subject, hours, line, value and limits."""

    row: int
    subject: Any
    hour: float
    line: str
    value: float
    censored: int


def read_counts(
    source: TableSource,
    *,
    doses: Regimen | Mapping[Any, Regimen] | TableSource | None = None,
    columns: Mapping[str, str | None] | None = None,
    lines: Mapping[str, str] | Sequence[str] | None = None,
    units: Mapping[str, str] | str | None = None,
    covariates: Sequence[str] = (),
    compartment: Mapping[str, int] | int = 1,
    date_format: str = "%Y-%m-%d",
    clock_h: float = 0.0,
    lloq: float | Mapping[str, float] | None = None,
    separator: str = ",",
) -> Dataset:
    """Read blood counts, one row per count or one column per line.

    Parameters
    ----------
    source
        Path of a CSV, parquet or SAS transport file, or a data frame, with columns ``ID`` (or
        subject, patient), ``DAY`` (protocol day, 1 the first of treatment) or ``DATE``, perhaps
        ``HOUR``, and either ``LINE`` and ``VALUE`` or one column per line. A value may be written
        ``<0.1``. An empty cell of a line's column means that it was not measured. Dates beside
        ``DAY`` have to be as far apart as the days are.
    doses
        What was given: a `pkpd.Regimen` for all, a mapping from subject to regimen, or a table
        with columns ``ID``, ``DAY`` or ``DATE``, ``AMT`` (mg), perhaps ``HOUR``, ``DURATION``
        (h), ``DRUG`` and ``CMT``. Regimens are followed on their planned calendar, and need the
        covariate ``BSA`` or ``WT`` for doses per size. None: no doses.
    columns
        Names that differ: ``{"ID": "patient", "DAY": "study_day"}``.
    lines
        Columns or codes of LINE to names of lines: ``{"ANC": "neutrophils"}``; or names that are
        found by their usual spellings. By default all usual spellings that are there.
    units
        Unit of the counts, for all or by line; 10^9/L by default.
    covariates
        Columns to keep.
    compartment
        Compartment of the doses, or one for each drug.
    date_format
        Format of dates. Hours count from day 1 of the subject's dosing table, without days there
        from the date of its first dose, and without such a table from its first row.
    clock_h
        Hour of the day counts are taken where there is no HOUR.
    lloq
        Limit of quantification, one or by line, in the unit given; values under it count as below.
    separator
        Between cells of a CSV file.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        Naming file, row, subject, column, value and remedy.

    Examples
    --------
    >>> import pandas as pd
    >>> from pkpd.schedule import daily
    >>> counts = pd.DataFrame({"ID": [1, 1], "DAY": [1, 8], "ANC": [4000, 900], "PLT": [250, 80]})
    >>> data = read_counts(
    ...     counts,
    ...     doses=daily("lenalidomide", "10 mg", days="1-7", route="oral"),
    ...     units={"neutrophils": "cells/uL"},
    ... )
    >>> data.lines, data.observations.value
    (('neutrophils', 'platelets'), array([  4. , 250. ,   0.9,  80. ]))
    """
    columns = checked_columns("read_counts", columns)
    check_arguments(
        "read_counts",
        lines=(lines, MAPPING | NAMES | NONE),
        units=(units, MAPPING | TEXT | NONE),
        covariates=(covariates, NAMES),
        compartment=(compartment, MAPPING | from_to(1)),
        date_format=(date_format, TEXT),
        clock_h=(clock_h, NUMBER),
        lloq=(lloq, NUMBER | MAPPING | NONE),
        separator=(separator, TEXT),
    )
    for name, limit in lloq.items() if isinstance(lloq, Mapping) else ():
        check_arguments(f"read_counts, lloq, {name}", lloq=(limit, NUMBER))
    for code, line in lines.items() if isinstance(lines, Mapping) else ():
        check_arguments(f"read_counts, lines, {code}", line=(line, TEXT))
    table = _open(source, columns, separator)
    notes = list(table.notes)
    if "DAY" not in table.at and "DATE" not in table.at:
        raise table.lacks(
            what="has neither a DAY nor a DATE column",
            remedy="rename the column, in Python also columns={'DAY': ...}",
        )
    identity = subject_labels(table, notes)
    subjects = list(dict.fromkeys(identity.tolist()))
    found = _lines(table, lines)
    table.refuse_texts(("DAY", "HOUR"), ("VALUE",) if "LINE" in table.at else tuple(found))
    given, starts = _doses(doses, table, identity, subjects, date_format, compartment, notes)
    hours = _hours(table, identity, starts, date_format, clock_h, notes)
    counts, names, unit = _counts(table, identity, hours, found, units, lloq)
    kept = _covariates(table, identity, subjects, covariates)
    if isinstance(doses, Regimen | Mapping):
        given = doses_of_regimens(
            doses, subjects, float(np.max(hours)), kept, compartment, table.name
        )
        notes.append("doses follow the planned calendar of the regimen: gates were not applied")
    there = {*given, *(count.subject for count in counts)}
    if lost := [str(s) for s in subjects if s not in there]:
        notes.append(f"left out, without a count: subjects {', '.join(lost[:10])}" + more(lost))
    return _dataset(table, subjects, counts, given, kept, names, unit, notes)


def _open(source: Any, columns: dict[str, str | None], separator: str) -> Sheet:
    table = open_sheet(source, columns, _KNOWN, None, separator)
    if "ID" not in table.at:
        other = next((name for name in _IDENTITY if name in table.at), None)
        if other is None:
            raise table.lacks(
                what="has no ID column",
                remedy="rename the column, in Python also columns={'ID': ...}",
            )
        table.at["ID"], table.label["ID"] = table.at[other], table.label[other]
    return table


def _doses(
    doses: Any,
    table: Sheet,
    identity: np.ndarray,
    subjects: list[Any],
    date_format: str,
    compartment: Any,
    notes: list[str],
) -> tuple[dict[Any, list[CountDose]], dict[Any, date]]:
    """Doses of a table by subject, and the date of day 1 of each."""
    if doses is None:
        notes.append("no doses were given")
        return {}, {}
    if isinstance(doses, Regimen | Mapping):
        return {}, {}
    given, starts = doses_of_table(doses, date_format, compartment, table, subjects)
    without = [str(s) for s in subjects if s not in given]
    if without:
        notes.append(f"no doses for subjects {', '.join(without[:10])}" + more(without))
    return given, starts


def _hours(
    table: Sheet,
    identity: np.ndarray,
    starts: Mapping[Any, date],
    date_format: str,
    clock_h: float,
    notes: list[str],
) -> np.ndarray:
    """Hours of each row since the start of day 1."""
    if "DAY" in table.at:
        day = protocol_days(table, notes)
        if "DATE" in table.at:
            refuse_other_dates(table, identity, day, date_format, starts)
        return hours_of_days(table, day, clock_h)
    day = np.ones(len(table.rows))
    first: dict[Any, date] = dict(starts)
    for i, subject in enumerate(identity.tolist()):
        today = read_stamp(table, i, date_format).date()
        first.setdefault(subject, today)
        day[i] += (today - first[subject]).days
    out = hours_of_days(table, day, clock_h)
    refuse_far(table, out, "DATE", "day 1")
    late = "" if set(first) <= set(starts) else "; of who has no dose, from the first row"
    notes.append(
        f"hours count from day 1 of the doses, or the date of the first dose{late}"
        if starts
        else "hours count from each subject's first row"
    )
    return out


def _lines(table: Sheet, lines: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Codes or columns (capitals) to names of lines."""
    if isinstance(lines, Mapping):
        found: dict[str, str] = {}
        for code, name in lines.items():
            if (other := found.setdefault(str(code).upper(), name)) != name:
                raise DataError(
                    where=f"read_counts, lines, {code}",
                    what=f"is {name} and {other}: capitals and small letters are the same",
                    remedy="keep one",
                )
        return found
    wanted = SPELLINGS if lines is None else {n: SPELLINGS.get(n, (n.upper(),)) for n in lines}
    return {code: name for name, codes in wanted.items() for code in codes}


def _counts(
    table: Sheet,
    identity: np.ndarray,
    hours: np.ndarray,
    found: Mapping[str, str],
    units: Mapping[str, str] | str | None,
    lloq: float | Mapping[str, float] | None,
) -> tuple[list[_Count], tuple[str, ...], dict[str, str]]:
    """Measured values of all rows, names of lines, unit by line."""
    cells: list[tuple[int, str, str, float, int]] = []  # row, column, line, value, censored
    faults = Faults()
    if "LINE" in table.at:
        values, sign = table.limited_numbers("VALUE") if "VALUE" in table.at else (None, None)
        if values is None or sign is None:
            raise table.lacks(
                what="has a LINE column and no VALUE column",
                remedy="rename the column, in Python also columns={'VALUE': ...}",
            )
        allowed: str | None = ", ".join(found)
        for i in range(len(table.rows)):
            code = table.text("LINE", i)
            if code.upper() not in found:
                remedy = "write one of these, in Python also lines={...}" if allowed else None
                what = f"'{code}' is no known line"
                error = table.refused(i, "LINE", what, allowed=allowed, remedy=remedy)
                faults.add(code.upper(), error, table.lines[i])
                allowed = None  # once is enough
                continue
            cells.append((i, "VALUE", found[code.upper()], values[i], int(sign[i])))
    else:
        # a column that columns= names is read under that name alone: it comes last
        own = [code for code in found if code in table.at]
        own.sort(key=lambda code: table.label[code].upper() != code)
        there = list({table.at[code]: code for code in own}.values())
        if not there:
            raise table.lacks(
                what="has neither a LINE column nor a column of a known line",
                remedy="call one ANC, PLT or WBC, in Python also lines={'X': 'neutrophils'}",
            )
        for code in there:
            values, sign = table.limited_numbers(code)
            cells += [
                (i, code, found[code], values[i], int(sign[i]))
                for i in np.flatnonzero(~np.isnan(values)).tolist()
            ]
    names = tuple(dict.fromkeys(line for _, _, line, _, _ in cells))
    factors, unit = _units(table.name, names, found, units)
    limits = limits_by_line(table.name, lloq, names, found, factors)
    counts = [_check(table, cell, hours, identity, factors, limits, faults) for cell in cells]
    faults.refuse()
    _refuse_beyond(table, cells, counts, units)
    seen: dict[tuple, int] = {}
    for count in counts:
        key = (count.subject, count.hour, count.line)
        if key in seen:
            error = table.refused(
                count.row,
                None,
                (
                    f"a second count of {count.line} at {count.hour:g} h "
                    f"(the first is in row {table.lines[seen[key]]})"
                ),
                remedy="remove one, or give HOUR",
            )
            faults.add(("second", count.line), error, table.lines[count.row])
        seen.setdefault(key, count.row)
    faults.refuse()
    return counts, names, unit


def _units(
    source: str,
    names: tuple[str, ...],
    found: Mapping[str, str],
    units: Mapping[str, str] | str | None,
) -> tuple[dict[str, float], dict[str, str]]:
    every = units if isinstance(units, str) else "10^9/L"
    by_line = {name: every for name in names if name != "haemoglobin"}
    if isinstance(units, Mapping):
        by_line |= {found.get(str(key).upper(), key): unit for key, unit in units.items()}
    factors, unit = DeclaredUnits(source, {"DV": by_line}).lines(names)
    return dict(zip(names, factors.tolist(), strict=True)), unit


def _check(
    table: Sheet,
    cell: tuple[int, str, str, float, int],
    hours: np.ndarray,
    identity: np.ndarray,
    factors: Mapping[str, float],
    limits: Mapping[str, float],
    faults: Faults,
) -> _Count:
    """One count in 10^9/L; what is wrong with it goes to the faults."""
    i, column, line, value, censored = cell

    def refuse(kind: str, what: str, allowed: str | None, remedy: str) -> None:
        error = table.refused(i, column, what, allowed=allowed, remedy=remedy)
        faults.add((kind, column), error, table.lines[i])

    if np.isnan(value):
        refuse("none", "a row without a value", None, "give it, or leave the row out")
    elif not 0 <= value < np.inf:
        what = f"a count of {line} of {value:g}"
        refuse("negative", what, "0 or more", "correct it, or write '<0.1'")
    limit = limits.get(line)
    if censored == NOT_CENSORED and limit is not None and value < limit:
        value, censored = limit, 1
    if censored == 1 and value == 0:
        refuse("limit", "a count below a limit of 0", None, "write the limit: '<0.1'")
    small = line != "haemoglobin" and factors[line] < 1.0
    if small and _PARTED.fullmatch(text := table.text(column, i).lstrip("<>= ")):
        whole = text.replace(".", "")
        what = f"'{text}' is read as {value:g}, and counts per uL are whole numbers"
        refuse("parted", what, None, f"write {whole} if the point parts thousands")
    value = value * factors[line]
    return _Count(i, identity[i].item(), float(hours[i]), line, value, censored)


def _refuse_beyond(
    table: Sheet,
    cells: Sequence[tuple[int, str, str, float, int]],
    counts: Sequence[_Count],
    units: Any,
) -> None:
    """Refuse counts that no blood has: of a wrong unit where most are such, else slips."""
    measured = [count for count in counts if count.censored == NOT_CENSORED and count.value > 0]
    of = {line: [c.value for c in measured if c.line == line] for line in PLAUSIBLE}
    large = {line: sum(x > PLAUSIBLE[line] for x in mine) for line, mine in of.items()}
    for line, most in PLAUSIBLE.items():
        mine = [k for k, count in enumerate(counts) if count.line == line]
        beyond = [k for k in mine if counts[k].value > most]
        if not beyond:
            continue
        rows = table.also([counts[k].row for k in beyond[1:]]).replace("nor", "and")
        column = cells[beyond[0]][1]
        if 2 * large[line] <= len(of[line]):
            others = len(mine) - len(beyond)
            remedy = f"correct the value: of the other {others} {line} none is that large"
        elif units is not None:
            remedy = "correct value or unit"
        elif all(large[one] for one, mine in of.items() if mine):
            remedy = 'say what the unit is: --units cells/uL, in Python units="cells/uL"'
        else:
            name = line if column == "DV" else column
            remedy = f'say what the unit of {line} is: --units "{name} cells/uL", in Python '
            remedy += f'units={{"{name}": "cells/uL"}}'
        raise table.refused(
            counts[beyond[0]].row,
            column,
            f"{line} of {counts[beyond[0]].value:g} x 10^9/L cannot be{rows}",
            allowed=f"at most {most:g} x 10^9/L",
            remedy=remedy,
        )


def _covariates(
    table: Sheet, identity: np.ndarray, subjects: list[Any], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """One value of each covariate for each subject, [subjects]."""
    out: dict[str, np.ndarray] = {}
    for name in names:
        if name.upper() not in table.at:
            raise table.lacks(
                what=f"has no covariate column '{name}'", remedy="correct covariates="
            )
        values = table.finite(name.upper())
        out[name] = np.zeros(len(subjects))
        for k, subject in enumerate(subjects):
            rows = np.flatnonzero(identity == subject)
            known = values[rows][np.isfinite(values[rows])]
            if not len(known):
                raise table.refused(
                    rows[0],
                    name.upper(),
                    f"covariate '{name}' is missing for the subject",
                    remedy="give a value, or leave the subject out",
                )
            if np.any(known != known[0]):
                raise table.refused(
                    rows[0],
                    name.upper(),
                    (
                        f"covariate '{name}' changes ({known[0]:g} to "
                        f"{known[known != known[0]][0]:g}); one value per subject is read here"
                    ),
                    remedy="give one value, or use read_nonmem for covariates over time",
                )
            out[name][k] = known[0]
    return out


def _dataset(
    table: Sheet,
    subjects: list[Any],
    counts: list[_Count],
    given: Mapping[Any, list[CountDose]],
    kept: Mapping[str, np.ndarray],
    names: tuple[str, ...],
    unit: Mapping[str, str],
    notes: list[str],
) -> Dataset:
    """Events and observations in order of subject and time; counts before doses of their hour."""
    identity: list[Any] = []
    rows: list[tuple[float, int, CountDose | None, int]] = []
    records: list[list[_Count]] = []
    for subject in subjects:
        mine: dict[float, list[_Count]] = {}
        for count in counts:
            if count.subject == subject:
                mine.setdefault(count.hour, []).append(count)
        entries: list[tuple[float, int, Any]] = [(hour, 0, group) for hour, group in mine.items()]
        entries += [(dose.hour, 1, dose) for dose in given.get(subject, [])]
        for hour, kind, what in sorted(entries, key=lambda entry: entry[:2]):
            identity.append(subject)
            rows.append((hour, kind, what if kind else None, len(rows)))
            records.append([] if kind else what)
    dose = [entry[2] for entry in rows]
    events = EventTable.from_columns(
        np.array(identity),
        [entry[0] for entry in rows],
        source=table.name,
        numbers=[table.lines[group[0].row] if group else 0 for group in records],
        evid=[DOSE if d else OBSERVATION for d in dose],
        amt=[d.amount if d else 0.0 for d in dose],
        rate=[d.amount / d.duration if d and d.duration > 0 else 0.0 for d in dose],
        cmt=[d.compartment if d else 0 for d in dose],
    )
    places = {int(events.row[b, n]): (b, n) for b, n in np.argwhere(events.row >= 0)}
    flat = [(places[r], count) for r, group in enumerate(records) for count in group]
    seen = Observations(
        subject=np.array([at[0] for at, _ in flat], dtype=np.int64),
        record=np.array([at[1] for at, _ in flat], dtype=np.int64),
        time=np.array([count.hour for _, count in flat]),
        line=np.array([names.index(count.line) for _, count in flat], dtype=np.int64),
        value=np.array([count.value for _, count in flat]),
        censored=np.array([count.censored for _, count in flat], dtype=np.int64),
        lower=np.array([0.0 if c.censored == 1 else -np.inf for _, c in flat]),
        row=np.array([count.row for _, count in flat], dtype=np.int64),
    )
    width = events.shape[1]
    covariates = {name: np.repeat(v[:, None], width, axis=1) for name, v in kept.items()}
    units = dict(unit) | ({"AMT": "mg"} if given else {})
    return Dataset(events, seen, names, covariates, None, tuple(notes), units)
