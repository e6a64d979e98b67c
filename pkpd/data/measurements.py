"""Measured values of a table: which line they are of, limits of quantification, what is left out.

A value may be written with its limit, ``<0.1`` or ``>500``; it is then censored there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pkpd.data.csv_cells import number_of
from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED, Observations
from pkpd.data.declared_units import COUNTED, DeclaredUnits, check_typical
from pkpd.data.events import ACTING, OBSERVATION, EventTable
from pkpd.data.sheets import Sheet
from pkpd.errors import DataError

_MOST = 1e20
LineCodes = Mapping[int | str, str | None]
"""What codes in the line column stand for; None for a line that is left out."""


@dataclass(frozen=True)
class HowMeasured:
    """How the reader is to understand measured values: see `pkpd.data.nonmem.read_nonmem`."""

    lines: LineCodes | None = None
    line_column: str | None = None
    other_lines: str = "refuse"
    lloq: float | Mapping[str, float] | None = None
    allow_replicates: bool = False


def code_of(text: str | int) -> int | str:
    """Read a code as a whole number if it is one, else as text without regard to capitals."""
    try:
        number = number_of(str(text))
    except ValueError:
        return str(text).strip().casefold()
    return int(number) if number.is_integer() else str(text)


def refuse_strangers(source: str, limits: Iterable[str], names: Sequence[str]) -> None:
    """Refuse limits of quantification of lines that there are not."""
    if lost := [name for name in limits if name not in names]:
        raise DataError(
            where=f"{source}, lloq",
            what=f"there is no line {lost[0]!r}",
            allowed=", ".join(dict.fromkeys(names)),
            remedy="correct lloq=",
        )


def limits_by_line(
    source: str,
    lloq: float | Mapping[str, float] | None,
    names: tuple[str, ...],
    found: Mapping[str, str],
    factors: Mapping[str, float],
) -> Mapping[str, float]:
    """Limits of counts by line; a single one holds of the lines that one unit of counts holds of.

    ``found`` has lines by code, ``factors`` those of their units.
    """
    if isinstance(lloq, Mapping):
        limits = {found.get(str(key).upper(), key): limit for key, limit in lloq.items()}
        refuse_strangers(source, limits, (*names, *found.values()))
        return limits
    counted = [name for name in names if name != "haemoglobin"] or names
    if lloq is not None and len({factors[name] for name in counted}) > 1:
        given = ", ".join(f'"{name}": ...' for name in counted)
        raise DataError(
            where=f"{source}, lloq",
            what=f"{lloq:g} is one limit, and the lines are in several units",
            allowed="one by line, each in the unit of its line",
            remedy=f"write lloq={{{given}}}",
        )
    return {} if lloq is None else dict.fromkeys(counted, lloq)


def read_measurements(
    table: Sheet,
    events: EventTable,
    evid: np.ndarray,
    how: HowMeasured,
    units: DeclaredUnits,
    notes: list[str],
) -> tuple[Observations, tuple[str, ...], dict[str, str]]:
    """Collect measured values.

    Parameters
    ----------
    table
        The source.
    events
        Its event records.
    evid : float[rows]
        NONMEM's EVID of each row.
    how, units
        What the user said of them.
    notes
        What is left out is added here, with the reason.

    Returns
    -------
    observations, lines, units
        Values in the units used inside, names of lines, unit by line where one was declared.

    Raises
    ------
    DataError
        Naming file, row, subject, column and value.
    """
    n = len(table.rows)
    value, sign = (
        table.limited_numbers("DV")
        if "DV" in table.at
        else (np.full(n, np.nan), np.zeros(n, dtype=np.int64))
    )
    missing = _unmeasured(table, evid, notes)
    is_observation = (evid == OBSERVATION) & ~missing
    if not np.any(np.isfinite(value)):
        is_observation[:] = False
    _refuse_on_doses(table, evid, value, missing, notes)
    names, line, kept = _lines(table, is_observation, how, notes)
    is_observation &= kept
    factors, unit_of = units.lines(names)
    factor = factors[line] if len(names) else np.ones(n)
    censored, value, lower = _limits(
        table, is_observation, value, sign, names, line, how, factor, notes
    )
    for i in np.flatnonzero(is_observation & ~np.isfinite(value)):
        remedy = "give it, or set MDV to 1"
        if "AMT" not in table.at:
            remedy += "; or name the column of doses AMT, which the table lacks, if it is one"
        if np.isinf(value[i]):
            what = f"'{table.text('DV', int(i))}' is not a finite number"
            raise table.refused(i, "DV", what, remedy="give a finite number, or set MDV to 1")
        raise table.refused(i, "DV", "an observation without a value", remedy=remedy)
    counted = np.array(
        [name.casefold() in COUNTED or unit_of.get(name) == "10^9/L" for name in names] or [False]
    )
    for i in np.flatnonzero(is_observation & counted[line] & (value < 0)):
        raise table.refused(
            i,
            "DV",
            f"a count of {names[line[i]]} of {value[i] / factor[i]:g}",
            allowed="0 or more",
            remedy="correct it, or mark it as below the limit",
        )
    for i in np.flatnonzero(is_observation & (np.abs(value) > _MOST)):
        what, allowed = f"{value[i]:g} is no measurement", f"at most {_MOST:g}"
        raise table.refused(i, "DV", what, allowed=allowed, remedy="correct it")
    for k, name in enumerate(names):
        below = np.flatnonzero(is_observation & (line == k) & (value < 0))
        if len(below):
            many = "1 value" if len(below) == 1 else f"{len(below)} values"
            notes.append(
                f"{name}: {many} below 0, the first in row {table.lines[below[0]]} "
                f"({value[below[0]]:g}): no concentration is, unless on a logarithmic scale"
            )
        check_typical(table.name, name, value[is_observation & (line == k)])
    places = np.zeros((n, 2), dtype=np.int64)
    b, r = np.nonzero(events.row >= 0)
    places[events.row[b, r]] = np.stack([b, r], axis=1)
    rows = np.flatnonzero(is_observation)
    subject, record = places[rows, 0], places[rows, 1]
    time = events.time[subject, record]
    seen = Observations(
        subject, record, time, line[rows], value[rows], censored[rows], lower[rows], rows
    )
    if not how.allow_replicates:
        _refuse_replicates(table, events, seen, names)
    return seen, names, unit_of


def _unmeasured(table: Sheet, evid: np.ndarray, notes: list[str]) -> np.ndarray:
    """Tell where MDV says that DV is no measurement."""
    if "MDV" not in table.at:
        return np.zeros(len(table.rows), dtype=bool)
    flag = np.nan_to_num(table.numbers("MDV"))
    for i in np.flatnonzero(~np.isin(flag, (0, 1, 100, 101))):
        raise table.refused(
            i,
            "MDV",
            f"{flag[i]:g} says neither that DV is missing nor that it is there",
            allowed="0 there, 1 missing (100 and 101: NONMEM's estimation leaves the record out)",
        )
    for i in np.flatnonzero((flag >= 100) & np.isin(evid, ACTING)):
        raise table.refused(
            i,
            "MDV",
            f"{flag[i]:g} on a record with EVID {evid[i]:g}, which NONMEM's estimation leaves out",
            remedy="write 1 where it counts, or take the row out",
        )
    missing = flag != 0
    for some, words in ((flag == 1, "1 and no event"), (flag >= 100, "100 or 101")):
        left_out = int(np.sum(some & (evid == OBSERVATION)))
        if left_out:
            notes.append(f"left out: {left_out} rows with MDV {words} (DV not read)")
    return missing


def _refuse_on_doses(
    table: Sheet, evid: np.ndarray, value: np.ndarray, missing: np.ndarray, notes: list[str]
) -> None:
    """Refuse values on rows of doses, unless they are 0 or MDV says that they are none."""
    written = (evid != OBSERVATION) & np.isfinite(value)
    for i in np.flatnonzero(written & (value != 0) & ~missing):
        raise table.refused(
            i,
            "DV",
            f"{value[i]:g} on a record with EVID {evid[i]:g}, which holds no observation",
            remedy="put the observation on a row of its own (EVID 0), or write '.' or MDV 1",
        )
    if np.any(written):
        kind = "DV 0" if not np.any(value[written]) else "DV (0, or with MDV 1)"
        notes.append(f"{kind} on {int(np.sum(written))} rows of doses or other events was not read")


def _refuse_replicates(
    table: Sheet, events: EventTable, seen: Observations, names: tuple[str, ...]
) -> None:
    first: dict[tuple, int] = {}
    for k, i in enumerate(seen.row):
        b, r = int(seen.subject[k]), int(seen.record[k])
        key = (b, int(events.segment[b, r]), float(seen.time[k]), int(seen.line[k]))
        if key in first:
            raise table.refused(
                i,
                None,
                (
                    f"a second observation of '{names[seen.line[k]]}' at {seen.time[k]:g} h "
                    f"(the first is in row {table.lines[first[key]]})"
                ),
                remedy="remove one, or set allow_replicates=True",
            )
        first[key] = int(i)


def _lines(
    table: Sheet, is_observation: np.ndarray, how: HowMeasured, notes: list[str]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Name what was observed, index it by row, and tell which rows are kept."""
    known: dict[int | str, str | None] = {}
    for key, name in (how.lines or {}).items():
        if known.setdefault(code_of(key), name) != name:
            what = f"code {code_of(key)} is both {known[code_of(key)]!r} and {name!r}"
            raise DataError(where=f"{table.name}, lines", what=what, remedy="name it once")
    n = len(table.rows)
    kept = np.ones(n, dtype=bool)
    column = (how.line_column or ("DVID" if "DVID" in table.at else "CMT")).upper()
    if how.lines is None and how.line_column is None and column != "DVID":
        _refuse_compartments(table, is_observation)
        return ("DV",), np.zeros(n, dtype=np.int64), kept
    only = tuple(dict.fromkeys((how.lines or {}).values()))
    if len(only) == 1 and only[0] is not None and _one_line(table, is_observation, how, column):
        if column in table.at:
            code = code_of(table.text(column, int(np.argmax(is_observation))))
            if code not in known and code not in ("", 0):
                notes.append(f"all observations have {column} {code}: they are taken as {only[0]}")
        return (only[0],), np.zeros(n, dtype=np.int64), kept
    if column not in table.at:
        raise table.lacks(
            what=f"has no {column} column to tell lines apart", remedy="give line_column="
        )
    code = [code_of(table.text(column, i)) for i in range(n)]
    if how.lines is None:
        for i in np.flatnonzero(is_observation):
            if code[i] != "":
                text = table.text(column, int(i))
                known.setdefault(code[i], f"{column} {code[i]}" if _whole(code[i]) else text)
        known = dict(sorted(known.items(), key=lambda item: str(item[0])))
        known = known or {1: f"{column} 1"}
    names = tuple(dict.fromkeys(name for name in known.values() if name is not None))
    index = np.zeros(n, dtype=np.int64)
    dropped: dict[str, int] = {}
    for i in np.flatnonzero(is_observation):
        text = table.text(column, int(i))
        if code[i] not in known and how.other_lines != "drop":
            raise table.refused(
                i,
                column,
                f"{text or 'nothing'} is no known line",
                allowed=", ".join(f"{code} ({name})" for code, name in known.items()),
                remedy='add it to lines=, or leave others out with other_lines="drop"',
            )
        name = known.get(code[i])
        if name is None:
            kept[i] = False
            dropped[text] = dropped.get(text, 0) + 1
        else:
            index[i] = names.index(name)
    if dropped:
        words = ", ".join(f"{count} of {text}" for text, count in dropped.items())
        notes.append(f"left out, as asked: observations of other lines ({words})")
    return names, index, kept


def _refuse_compartments(table: Sheet, is_observation: np.ndarray) -> None:
    """Refuse observations of several compartments of which nothing says whether they are one line.

    A cell that is missing or 0 stands for the default compartment, whichever that is.
    """
    places = np.flatnonzero(is_observation) if "CMT" in table.at else ()
    first: dict[int | str, int] = {}
    for i in places:
        first.setdefault(code_of(table.text("CMT", int(i))), int(i))
    codes = sorted((code for code in first if code not in ("", 0)), key=str)
    if len(codes) > 1:
        rows = ", ".join(f"{code} in row {table.lines[first[code]]}" for code in codes)
        given = ", ".join(f'{code}: "..."' for code in codes)
        raise DataError(
            where=f"{table.name}, column {table.label['CMT']}",
            what=f"observations are of {len(codes)} compartments ({rows}), and nothing says of "
            "which lines they are",
            remedy=f"name them in read_nonmem(lines={{{given}}}), with one name twice where they "
            "are one line and None to leave one out, or give a column of lines (DVID)",
        )


def _one_line(table: Sheet, is_observation: np.ndarray, how: HowMeasured, column: str) -> bool:
    """Whether nothing in the file tells lines apart, so that one name names them all."""
    if how.line_column is not None or how.other_lines == "drop" or column != "CMT":
        return False
    if column not in table.at:
        return True
    codes = {code_of(table.text(column, int(i))) for i in np.flatnonzero(is_observation)}
    return len(codes) == 1


def _whole(code: int | str) -> bool:
    return isinstance(code, int)


def _flags(table: Sheet, column: str, is_observation: np.ndarray) -> np.ndarray:
    """Codes of a column that says which values lie beyond a limit."""
    flag = np.nan_to_num(table.numbers(column))
    words = {BELOW: "1 below the limit", NOT_CENSORED: "0 measured"}
    words |= {ABOVE: "-1 above the limit"} if column == "CENS" else {}
    for i in np.flatnonzero(is_observation & ~np.isin(flag, list(words))):
        what, limits = f"{flag[i]:g} is no censoring code", f"columns={{'LLOQ': '{column}'}}"
        remedy = None if column == "CENS" else f"if it holds limits, say so by {limits}"
        raise table.refused(i, column, what, allowed=", ".join(words.values()), remedy=remedy)
    return flag


def _limits(
    table: Sheet,
    is_observation: np.ndarray,
    value: np.ndarray,
    sign: np.ndarray,
    names: tuple[str, ...],
    line: np.ndarray,
    how: HowMeasured,
    factor: np.ndarray,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Censoring codes, values with limits filled in, and lower bounds, in units used inside."""
    n = len(value)
    value = value * factor
    flags = [c for c in ("CENS", "BLQ", "BLOQ", "BQL") if c in table.at]
    flags = [c for c in flags if table.at[c] != table.at.get("LLOQ")]  # columns={"LLOQ": "BLQ"}
    flag_column = flags[0] if flags else "BLQ"
    flag = _flags(table, flag_column, is_observation) if flags else np.zeros(n)
    for other in flags[1:]:
        beside = _flags(table, other, is_observation) == BELOW
        for i in np.flatnonzero(is_observation & (beside != (flag == BELOW))):
            says = ("", "not ") if beside[i] else ("not ", "")
            what = f"it is {says[0]}below the limit, and by {flag_column} {says[1]}below it"
            raise table.refused(i, other, what, remedy="correct one, or leave a column out")
    flag = np.where(sign != 0, sign, flag)
    limit = table.numbers("LLOQ") * factor if "LLOQ" in table.at else np.full(n, np.nan)
    unsaid = np.isnan(limit)
    if how.lloq is not None:
        lloq = how.lloq
        refuse_strangers(table.name, lloq if isinstance(lloq, Mapping) else (), names)
        given = np.array(
            [lloq.get(k, np.nan) if isinstance(lloq, Mapping) else lloq for k in names], dtype=float
        )
        limit = np.where(np.isnan(limit), given[line] * factor, limit)
    under = is_observation & (flag == 0) & (value < limit)
    if np.any(under) and not flags:
        flag = np.where(under, BELOW, flag)
        notes.append(f"{int(np.sum(under))} values below their limit count as not quantified")
    censored = np.where(is_observation, flag, 0.0).astype(np.int64)
    # with CENS, or written as "<0.1", the limit stands in DV; with BLQ it does not
    below = censored == BELOW
    own = np.where((value > 0) & ((flag_column == "CENS") | (sign == BELOW)), value, np.nan)
    limit = np.where((sign == BELOW) | (unsaid & np.isfinite(own)), own, limit)
    for i in np.flatnonzero(below & ~np.isfinite(limit)):
        raise table.refused(
            i,
            flag_column,
            "the value is below the limit of quantification, and there is no limit",
            remedy="give a LLOQ column, lloq=, or CENS 1 with the limit in DV",
        )
    lower = table.numbers("LIMIT") * factor if "LIMIT" in table.at else np.full(n, np.nan)
    for i in np.flatnonzero((censored == ABOVE) & (lower > value)):
        raise table.refused(
            i,
            "LIMIT",
            f"{lower[i] / factor[i]:g} is an upper end of a value above {value[i] / factor[i]:g}, "
            "which pkpd does not read",
            remedy="leave LIMIT empty there: the value then lies anywhere above",
        )
    lower = np.where(below & np.isfinite(lower), lower, -np.inf)
    for i in np.flatnonzero(below & (lower >= limit)):
        raise table.refused(
            i,
            "LIMIT",
            (
                f"{lower[i] / factor[i]:g} is not below the limit of quantification "
                f"{limit[i] / factor[i]:g}"
            ),
            remedy="LIMIT is the lower end of the interval the value lies in",
        )
    return censored, np.where(below, limit, value), lower
