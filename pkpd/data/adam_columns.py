"""Columns of CDISC's analysis tables in NONMEM's terms: events, times, doses, limits, units."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED
from pkpd.data.events import DOSE, OBSERVATION, RESET_AND_DOSE
from pkpd.data.measurements import LineCodes, code_of
from pkpd.data.sheets import Sheet, is_number
from pkpd.errors import DataError, UnitError
from pkpd.units import normal_unit, unit_factor

_DOSES = (DOSE, RESET_AND_DOSE)
_TIMES = ("AFRLT", "ADTM", "UDTC")
_IN_LABEL = re.compile(r"\(([^()]*)\)\s*$")
DURATIONS = ("ADOSEDUR", "NDOSEDUR", "DOSEDUR", "TINF")
"""Columns of hours of infusions: actual before nominal."""
_SAME = 1e-6  # relative: AVAL and DV are copies, in tables with few digits too


def kinds_of_event(
    table: Sheet, code: Sequence[Any], doses: set[Any], line_column: str | None
) -> np.ndarray:
    """EVID of each row: as written, or 1 where a code stands for a dose or AMT is given, [rows].

    Raises
    ------
    DataError
        Where EVID is missing.
    """
    if "EVID" in table.at:
        evid = table.numbers("EVID")
        for i in np.flatnonzero(np.isnan(evid)):
            raise _refused(table, i, "EVID", "the kind of event is missing", "0 or 1")
        return evid
    dose = np.array([line_column is not None and one in doses for one in code], dtype=bool)
    if "AMT" in table.at:
        dose |= np.nan_to_num(table.numbers("AMT")) != 0
    return np.where(dose, float(DOSE), float(OBSERVATION))


def kept_rows(
    table: Sheet,
    evid: np.ndarray,
    only: Mapping[str, str | Sequence[str]],
    notes: list[str],
) -> np.ndarray:
    """Which rows are read, bool[rows]; what is left out is noted.

    Raises
    ------
    DataError
        If a column of ``only`` is not there, or no row is left.
    """
    n = len(table.rows)
    kept = np.ones(n, dtype=bool)
    if "EXCLF" in table.at:
        excluded = np.nan_to_num(table.numbers("EXCLF")) != 0
        kept &= ~excluded
        if np.any(excluded):
            notes.append(f"left out: {int(excluded.sum())} rows with {table.label['EXCLF']} not 0")
    out_of_nca, label = _flags(table, "NCAXFN", "NCAXFL")
    out_of_nca &= evid == OBSERVATION
    kept &= ~out_of_nca
    if np.any(out_of_nca):
        notes.append(f"left out: {int(out_of_nca.sum())} measured values with {label} Y")
    if "DTYPE" in table.at:
        copies = np.array([table.text("DTYPE", i).upper() == "COPY" for i in range(n)], dtype=bool)
        kept &= ~copies
        if np.any(copies):
            label = table.label["DTYPE"]
            notes.append(f"left out: {int(copies.sum())} copies of other rows ({label} COPY)")
    for name, wanted in only.items():
        column = name.upper()
        if column not in table.at:
            raise DataError(
                where=f"{table.name}, only",
                what=f"there is no column '{name}'",
                allowed=", ".join(table.label.values()),
            )
        values = {wanted} if isinstance(wanted, str) else set(wanted)
        cells = [table.text(column, i) for i in range(n)]
        empty = np.array([not cell for cell in cells], dtype=bool) & np.isin(evid, _DOSES)
        chosen = np.array([cell in values for cell in cells], dtype=bool) | empty
        notes.append(f"left out, as asked: {int(np.sum(kept & ~chosen))} rows by {name}")
        kept &= chosen
    if not np.any(kept):
        raise DataError(where=table.name, what="no row is left to read", remedy="correct only=")
    return kept


def hours_of(
    table: Sheet, evid: np.ndarray, time: str | None, notes: list[str]
) -> tuple[Sheet, str | None]:
    """Name the column of times TIME, or work it out from dates.

    Returns
    -------
    table, unit
        With TIME; its unit, None where nothing tells.

    Raises
    ------
    DataError
        If there is no such column, or a date has no time of the day.
    """
    column = (
        next((name for name in _TIMES if name in table.at), None) if time is None else time.upper()
    )
    if column is None or column not in table.at:
        planned = "; planned times are read with time='NFRLT'" if "NFRLT" in table.at else ""
        raise table.lacks(
            what=(
                "has no column of actual times (AFRLT, ADTM or UDTC)"
                if time is None
                else f"has no column '{time}'"
            ),
            remedy="name it with columns={'AFRLT': ...}" + planned,
        )
    if column == "NFRLT":
        notes.append("times are the planned ones, as asked")
    written = [i for i in range(len(table.rows)) if table.text(column, i)]
    dates = bool(written) and not is_number(table.text(column, written[0]))
    if dates or column in ("ADTM", "UDTC"):
        hours = _hours_after_first_dose(table, evid, column, notes)
        return table.with_column("TIME", [repr(h) for h in hours.tolist()], column), "h"
    table.at["TIME"], table.label["TIME"] = table.at[column], table.label[column]
    unit = _one_unit(table, np.arange(len(table.rows)), ("RLTU", "FRLTU")) or _of_label(
        table, column
    )
    return table, unit


def _hours_after_first_dose(
    table: Sheet, evid: np.ndarray, column: str, notes: list[str]
) -> np.ndarray:
    """Hours of dates since each subject's first dose, [rows]."""
    n = len(table.rows)
    stamps = np.array([_stamp(table, column, i) for i in range(n)])
    subjects = [table.text("ID", i) for i in range(n)]
    start: dict[str, float] = {}
    for i in np.flatnonzero(np.isin(evid, _DOSES)):
        start[subjects[i]] = min(start.get(subjects[i], np.inf), float(stamps[i]))
    label = table.label[column]
    notes.append(f"hours count from each subject's first dose, by {label}")
    untreated = [name for name in dict.fromkeys(subjects) if name not in start]
    for name in untreated:
        start[name] = min(float(s) for s, one in zip(stamps, subjects, strict=True) if one == name)
    if untreated:
        notes.append(f"hours of {len(untreated)} subjects without doses count from their first row")
    seconds = stamps - np.array([start[name] for name in subjects])
    return seconds / 3600.0


def _stamp(table: Sheet, column: str, i: int) -> float:
    """Seconds of a date with time of the day: ISO 8601, or the number that SAS counts."""
    text = table.text(column, i)
    if is_number(text) and table.described:
        return float(text)
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        stamp = None
    # a date alone would count as midnight
    if stamp is None or ":" not in text:
        raise _refused(
            table,
            i,
            column,
            f"'{text}' is no date with time of the day" if text else "the date is missing",
            "2024-01-31T14:30",
        )
    offset = stamp.utcoffset() or timedelta()
    return (stamp.replace(tzinfo=None) - offset - datetime(1960, 1, 1)).total_seconds()


def dose_amounts(table: Sheet, evid: np.ndarray, notes: list[str]) -> tuple[Sheet, str | None]:
    """Give AMT where the table has none, from AVAL or DOSEA, and say its unit.

    Raises
    ------
    DataError
        If rows of doses are in several units.
    """
    dose = np.flatnonzero(np.isin(evid, _DOSES))
    if "AMT" in table.at:
        return table, _one_unit(table, dose, ("AMTU",)) or _of_label(table, "AMT")
    for column, units in (("AVAL", ("AVALU",)), ("DV", ("AVALU",)), ("DOSEA", ("DOSEU",))):
        if column not in table.at or not len(dose):
            continue
        amount = table.where(np.isin(evid, _DOSES)).numbers(column)
        if not np.all(np.isfinite(amount)):
            continue
        cells = np.zeros(len(table.rows))
        cells[dose] = amount
        notes.append(f"amounts of doses are those of {table.label[column]}")
        unit = _one_unit(table, dose, units)
        return table.with_column("AMT", cells.tolist(), column), unit or _of_label(table, column)
    return table, None


def durations(table: Sheet, evid: np.ndarray, time_unit: str | None) -> Sheet:
    """Give TINF, durations of infusions in the unit of times, where a column tells them.

    Raises
    ------
    DataError
        If DOSEDURU has several units, or one that is no unit of time.
    """
    there = [name for name in DURATIONS if name in table.at]
    if not there:
        return table
    length = table.numbers(there[0])
    for name in there[1:]:
        length = np.where(np.isnan(length), table.numbers(name), length)
    doses = np.flatnonzero(np.isin(evid, _DOSES))
    unit = _one_unit(table, doses, ("DOSEDURU",))
    if unit is not None:
        try:
            length = length * unit_factor(unit, "time") / unit_factor(time_unit or "h", "time")
        except UnitError:
            first = next(i for i in doses.tolist() if table.text("DOSEDURU", i))
            what = f"'{table.text('DOSEDURU', first)}' is no unit of time"
            raise _refused(table, first, "DOSEDURU", what, "h, min, day") from None
    cells = [repr(float(x)) if np.isfinite(x) else "" for x in length]
    return table.with_column("TINF", cells, there[0])


def censored_values(table: Sheet, evid: np.ndarray, below_limit: str, notes: list[str]) -> Sheet:
    """Give DV, and CENS, LLOQ and MDV where the table tells of limits.

    Raises
    ------
    DataError
        If AVAL and DV differ, or a flag contradicts its twin or its value.
    """
    n, seen = len(table.rows), evid == OBSERVATION
    there = [name for name in ("AVAL", "DV") if name in table.at]
    if not there:
        raise table.lacks(
            what="has no column of values (AVAL or DV)", remedy="name it with columns={'AVAL': ...}"
        )
    source = there[0]
    missing = np.nan_to_num(table.numbers("MDV")) if "MDV" in table.at else np.zeros(n)
    value = table.limited_numbers(source)[0]
    if len(there) == 2:
        other = table.limited_numbers("DV")[0]
        near = np.isclose(value, other, rtol=_SAME, atol=0.0, equal_nan=True)
        for i in np.flatnonzero(seen & (missing == 0) & ~near):
            raise table.refused(
                i,
                "DV",
                f"{other[i]:g} is no copy of AVAL, {value[i]:g}",
                remedy="say which counts: columns={'DV': None} or {'AVAL': None}",
            )
    low, low_label = _flags(table, "BLQFN", "BLQFL")
    high, high_label = _flags(table, "ALQFN", "ALQFL")
    floor, ceiling = (
        table.numbers(name) if name in table.at else np.full(n, np.nan)
        for name in ("ALLOQ", "AULOQ")
    )
    low, high = low & seen, high & seen
    for i in np.flatnonzero(low & (value > floor * (1 + _SAME))):
        raise _refused(table, i, low_label, f"{value[i]:g} is not below {floor[i]:g}")
    for i in np.flatnonzero(high & (value < ceiling * (1 - _SAME))):
        raise _refused(table, i, high_label, f"{value[i]:g} is not above {ceiling[i]:g}")
    left = np.isin(missing, (1, 101))
    if below_limit == "drop" and np.any(low):
        notes.append(f"left out, as asked: {int(np.sum(low))} values below their limit")
        missing = np.where(low, 1.0, missing)
    elif below_limit == "censored":
        missing = np.where(low & left & np.isfinite(floor), 0.0, missing)
    elif np.any(low & left):
        notes.append(
            f"{int(np.sum(low & left))} values below their limit have MDV 1 and are left out; "
            "below_limit='censored' takes them as below ALLOQ"
        )
    cells: list[Any] = [table.rows[i][table.at[source]] for i in range(n)]
    written = ~seen & np.isfinite(value)
    if np.any(written):
        label = table.label[source]
        notes.append(f"{label} on {int(written.sum())} rows of events is no measured value")
    for i in np.flatnonzero(~seen | low):
        cells[i] = None
    for i in np.flatnonzero(high & np.isfinite(ceiling)):
        cells[i] = float(ceiling[i])
    table = table.with_column("DV", cells, source)
    if low_label is not None or high_label is not None:
        censored = np.where(low, BELOW, np.where(high, ABOVE, NOT_CENSORED))
        table = table.with_column("CENS", censored.tolist(), low_label or high_label)
    table = table.with_column("MDV", missing.tolist(), "MDV" if "MDV" in table.at else source)
    if "ALLOQ" in table.at:
        table.at["LLOQ"], table.label["LLOQ"] = table.at["ALLOQ"], table.label["ALLOQ"]
    return table


def _flags(table: Sheet, number: str, word: str) -> tuple[np.ndarray, str | None]:
    """Where a limit was passed, bool[rows], and the column that says so (None: there is none)."""
    n = len(table.rows)
    found: list[tuple[str, np.ndarray]] = []
    for column, words in (
        (number, {"1": 1.0, "0": 0.0}),
        (word, {"Y": 1.0, "N": 0.0, "1": 1.0, "0": 0.0}),
    ):
        if column not in table.at:
            continue
        flag = np.full(n, np.nan)
        for i in range(n):
            text = table.text(column, i).upper()
            text = text.removesuffix(".0")
            if text and text not in words:
                raise _refused(table, i, column, f"'{text}' is no flag", ", ".join(words))
            flag[i] = words.get(text, np.nan)
        found.append((column, flag))
    if not found:
        return np.zeros(n, dtype=bool), None
    if len(found) == 2:
        (_, first), (column, second) = found
        for i in np.flatnonzero(np.isfinite(first) & np.isfinite(second) & (first != second)):
            raise _refused(table, i, column, f"contradicts {table.label[number]} {first[i]:g}")
        return np.nan_to_num(np.where(np.isnan(first), second, first)) == 1, found[0][0]
    return np.nan_to_num(found[0][1]) == 1, found[0][0]


def units_of(
    table: Sheet,
    evid: np.ndarray,
    code: Sequence[Any],
    lines: LineCodes | None,
    given: Mapping[str, Any],
    time_unit: str | None,
    dose_unit: str | None,
    covariates: Sequence[str],
) -> dict[str, Any]:
    """Units as `pkpd.read_nonmem` takes them: of the table, and those given where it is silent.

    Raises
    ------
    DataError
        If a line or covariate is in several units, or what is given contradicts the table.
    """
    found: dict[str, Any] = {"TIME": time_unit, "AMT": dose_unit}
    known = {code_of(key): name for key, name in (lines or {}).items()}
    only = [name for name in dict.fromkeys(known.values()) if name is not None]
    by_line: dict[str, str] = {}

    def line_of(i: int) -> Hashable:
        if lines is None or code[i] in known:
            return known.get(code[i], code[i]) if lines is not None else code[i]
        return only[0] if code[i] == "" and len(only) == 1 else None

    rows: dict[Hashable, list[int]] = {}
    for i in np.flatnonzero(evid == OBSERVATION).tolist():
        rows.setdefault(line_of(i), []).append(i)
    for line, mine in rows.items():
        unit = None if line is None else _one_unit(table, np.array(mine), ("AVALU",))
        if line is not None and unit is not None:
            by_line[_name(table, line, mine[0], lines)] = unit
    for name in covariates:
        if name.upper() in table.at:
            unit = _covariate_unit(table, name.upper())
            if unit is not None:
                found[name.upper()] = unit
    for name in ("II", *(() if "DOSEDURU" in table.at else DURATIONS)):
        unit = _of_label(table, name)
        if unit is not None and time_unit is not None and unit != time_unit:
            raise DataError(
                where=f"{table.name}, column {table.label[name]}",
                what=f"is in {unit}, times are in {time_unit}",
                remedy="convert it",
            )
    out: dict[str, Any] = {name: unit for name, unit in found.items() if unit is not None}
    values = given.get("DV", given.get("AVAL", {}))
    for name, unit in given.items():
        column = name.upper()
        if column not in ("DV", "AVAL"):
            _agree(table, name, unit, out.get(column))
            out[column] = unit
    if isinstance(values, str):
        values = dict.fromkeys(by_line, values) or values
    if isinstance(values, Mapping):
        for line, unit in values.items():
            _agree(table, f"DV ({line})", unit, by_line.get(line))
        values = {**by_line, **values}
    if values:
        out["DV"] = values
    return out


def _name(table: Sheet, line: Hashable, i: int, lines: LineCodes | None) -> str:
    """Name that the reader of measured values gives to a line."""
    if lines is not None:
        return str(line)
    column = next((c for c in ("PARAMCD", "DVID", "PARAMN", "DVIDN") if c in table.at), None)
    if column is None:
        return "DV"
    return f"{column} {line}" if isinstance(line, int) else table.text(column, i)


def _agree(table: Sheet, name: str, given: Any, found: str | None) -> None:
    if found is not None and isinstance(given, str) and _spelled(given) != found:
        raise DataError(
            where=f"{table.name}, units of {name}",
            what=f"{given} was given and the table says {found}",
            remedy="leave one out: units= or the column of units (columns={'AVALU': None})",
        )


def _spelled(text: str) -> str | None:
    """Spell a unit as the package does; CDISC writes some in capitals (HOURS). None: unknown."""
    for spelling in (text, text.lower()):
        try:
            return normal_unit(spelling)
        except UnitError:
            continue
    return None


def _of_label(table: Sheet, column: str) -> str | None:
    """Return the unit that ends a label: ``Actual Amount of Dose Received (mg)``."""
    described = table.described.get(table.label.get(column, ""), "")
    match = _IN_LABEL.search(described) if column in table.at else None
    unit = _spelled(match.group(1)) if match and match.group(1).strip() else None
    return None if unit == "1" else unit


def _covariate_unit(table: Sheet, column: str) -> str | None:
    name = f"{column}U"
    texts = {table.text(name, i) for i in range(len(table.rows))} if name in table.at else set()
    texts.discard("")
    if len(texts) > 1:
        return _one_unit(table, np.arange(len(table.rows)), (name,))
    unit = _spelled(texts.pop()) if texts else _of_label(table, column)
    return None if unit == "1" else unit


def _one_unit(table: Sheet, rows: np.ndarray, columns: Sequence[str]) -> str | None:
    """Return the unit that some rows have in common; None where nothing is written.

    Raises
    ------
    DataError
        If there are several, or it is not known.
    """
    column = next((name for name in columns if name in table.at), None)
    if column is None:
        return None
    found: str | None = None
    for i in rows.tolist():
        text = table.text(column, i)
        if not text:
            continue
        unit = _spelled(text)
        if unit is None:
            raise table.refused(
                i,
                column,
                f"'{text}' is no unit known here",
                remedy=f"columns={{'{column}': None}} takes the values as they stand",
            )
        if found is not None and unit != found:
            raise table.refused(
                i,
                column,
                f"is in {text}, rows before in {found}",
                remedy="convert the values to one unit",
            )
        found = unit
    return found


def _refused(
    table: Sheet, i: Any, column: str | None, what: str, allowed: str | None = None
) -> DataError:
    return table.refused(i, column, what, allowed=allowed, remedy="correct it")
