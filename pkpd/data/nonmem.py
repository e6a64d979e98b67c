"""Reader of NONMEM-style tables (CSV, parquet, data frames).

Column names are those of NONMEM (any case), with CENS and LIMIT of Monolix and nlmixr2. A missing
value is ``.``, an empty cell or NA. Every message names file, row, subject, column and value; rows
are counted as an editor counts the lines of a CSV file, the header being line 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from pkpd.data.covariates import fill_missing
from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED, Dataset, Observations
from pkpd.data.events import DOSE, OBSERVATION, EventTable
from pkpd.data.sheets import Sheet, open_sheet
from pkpd.errors import DataError, sentence

HOURS = {"h": 1.0, "hour": 1.0, "day": 24.0, "d": 24.0, "min": 1.0 / 60.0, "week": 168.0}
_EVENT_COLUMNS = ("EVID", "AMT", "RATE", "II", "ADDL", "SS", "CMT")
_KNOWN = (
    "ID",
    "TIME",
    "DATE",
    "DV",
    "MDV",
    "DVID",
    "CENS",
    "LIMIT",
    "BLQ",
    "LLOQ",
    "OCC",
    *_EVENT_COLUMNS,
)


def read_nonmem(
    source: Any,
    *,
    columns: Mapping[str, str | None] | None = None,
    covariates: Sequence[str] = (),
    lines: Mapping[int, str] | None = None,
    line_column: str | None = None,
    lloq: float | Mapping[str, float] | None = None,
    time_unit: str = "h",
    date_format: str = "%Y-%m-%d",
    ignore: str | None = None,
    compartments: int | None = None,
    allow_replicates: bool = False,
    separator: str = ",",
) -> Dataset:
    """Read a NONMEM-style table.

    Parameters
    ----------
    source
        Path of a CSV or parquet file, or a data frame (pandas, or anything with ``to_pandas``).
    columns
        Names that differ: ``{"DV": "conc"}``; None leaves a column out: ``{"SS": None}``.
    covariates
        Columns to keep as covariates, under these names.
    lines
        What DVID (or CMT) numbers stand for: ``{1: "concentration", 3: "neutrophils"}``. Without
        it there is one line, "DV", or one per DVID.
    line_column
        ``"DVID"`` or ``"CMT"``; default DVID if there is such a column, else CMT.
    lloq
        Limit of quantification where neither CENS nor a LLOQ column gives it, one or per line.
    time_unit
        Unit of TIME: h, day, min or week.
    date_format
        Format of a DATE column; TIME is then a clock time (14:30) or decimal hours of the day, and
        hours count from the subject's first record.
    ignore
        Rows whose first cell begins with one of these characters are left out (NONMEM's IGNORE);
        ``"@"`` stands for any letter or @.
    compartments
        Number of compartments, to check CMT of doses here; a model checks it later otherwise.
    allow_replicates
        Accept several observations of a line at one time.
    separator
        Between cells of a CSV file.

    Returns
    -------
    Dataset
        Subjects, events, observations and covariates; see ``summary()`` for what was understood.

    Raises
    ------
    DataError
        If a row has no meaning or contradicts another.
    """
    columns = {key.upper(): value for key, value in (columns or {}).items()}
    table = open_sheet(source, columns, _KNOWN, ignore, separator)
    for needed in ("ID", "TIME"):
        if needed not in table.at:
            raise DataError(
                sentence(
                    where=table.name,
                    what=f"has no {needed} column",
                    allowed=", ".join(table.label.values()) or None,
                    remedy=f"name it with columns={{'{needed}': ...}}",
                )
            )
    notes: list[str] = []
    identity = _identity(table)
    time = _hours(table, identity, time_unit, date_format, notes)
    event_values = _event_columns(table, notes)
    events = EventTable.from_columns(
        identity,
        time,
        source=table.name,
        numbers=table.lines,
        **{name.lower(): value for name, value in event_values.items()},
    )
    dose = np.isin(event_values["EVID"], (1, 4))
    if compartments is not None:
        bad = np.flatnonzero(dose & (event_values["CMT"] > compartments))
        if len(bad):
            i = int(bad[0])
            raise DataError(
                sentence(
                    where=table.place(i, "CMT"),
                    what=f"a dose into compartment {event_values['CMT'][i]:g}",
                    allowed=f"1 to {compartments}",
                    remedy="correct CMT",
                )
            )
    observations, names = _observations(
        table, events, event_values, lines, line_column, lloq, allow_replicates
    )
    if not len(observations):
        notes.append("no value of DV was found: the table holds events only")
    kept: dict[str, np.ndarray] = {}
    for name in covariates:
        key = name.upper()
        if key not in table.at:
            raise DataError(
                sentence(
                    where=table.name,
                    what=f"has no covariate column '{name}'",
                    allowed=", ".join(table.label.values()),
                    remedy="correct covariates=",
                )
            )
        values = events.from_rows(table.numbers(key))
        gaps = int(np.sum(~np.isfinite(values) & events.valid))
        kept[name] = fill_missing(events, name, values, table.label[key])
        if gaps:
            notes.append(
                f"covariate {name}: {gaps} missing values filled with the subject's value before, "
                "or the first one after"
            )
    occasion = None
    if "OCC" in table.at:
        number = table.numbers("OCC")
        _refuse_missing(table, "OCC", number, "the occasion is missing")
        occasion = _occasions(events, events.from_rows(number))
    return Dataset(events, observations, names, kept, occasion, tuple(notes))


def _refuse_missing(table: Sheet, column: str, values: np.ndarray, what: str) -> None:
    missing = np.flatnonzero(~np.isfinite(values))
    if len(missing):
        raise DataError(
            sentence(where=table.place(int(missing[0]), column), what=what, remedy="give a number")
        )


def _identity(table: Sheet) -> np.ndarray:
    """Subject labels: integers where all are, text otherwise."""
    labels = [table.text("ID", i) for i in range(len(table.rows))]
    for i, label in enumerate(labels):
        if not label:
            raise DataError(
                sentence(
                    where=table.place(i, "ID"), what="the subject is missing", remedy="give an ID"
                )
            )
    try:
        numbers = np.array([float(label) for label in labels])
    except ValueError:
        return np.array(labels)
    if np.all(numbers == np.round(numbers)):
        return numbers.astype(np.int64)
    return np.array(labels)


def _hours(
    table: Sheet, identity: np.ndarray, unit: str, date_format: str, notes: list[str]
) -> np.ndarray:
    """Return times in hours."""
    if "DATE" not in table.at:
        if unit not in HOURS:
            raise DataError(
                sentence(where=table.name, what=f"time unit '{unit}'", allowed=", ".join(HOURS))
            )
        time = table.numbers("TIME")
        _refuse_missing(table, "TIME", time, "the time is missing")
        if HOURS[unit] != 1.0:
            notes.append(f"TIME was in {unit}, converted to hours")
        return time * HOURS[unit]
    stamps = np.zeros(len(table.rows))
    origin: datetime | None = None
    for i in range(len(table.rows)):
        try:
            day = datetime.strptime(table.text("DATE", i), date_format)
        except ValueError:
            raise DataError(
                sentence(
                    where=table.place(i, "DATE"),
                    what=f"'{table.text('DATE', i)}' is not a date",
                    allowed=date_format,
                    remedy="correct it, or give date_format=",
                )
            ) from None
        origin = origin or day
        stamps[i] = (day - origin).total_seconds() / 3600.0 + _clock(table, i)
    first = np.concatenate([[True], identity[1:] != identity[:-1]])
    start = np.maximum.accumulate(np.where(first, np.arange(len(stamps)), 0))
    notes.append("DATE and TIME were read as clock times; hours count from each first record")
    return stamps - stamps[start]


def _clock(table: Sheet, i: int) -> float:
    """Hours of the day of a clock time (14:30, 14:30:15) or a decimal number of hours."""
    text = table.text("TIME", i)
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    valid = 1 <= len(parts) <= 3 and 0 <= parts[0] <= 24 and all(0 <= p < 60 for p in parts[1:])
    if not valid:
        raise DataError(
            sentence(
                where=table.place(i, "TIME"),
                what=f"'{text}' is not a time of the day",
                allowed="14:30, 14:30:15 or 14.5",
            )
        )
    return sum(part / 60.0**k for k, part in enumerate(parts))


def _event_columns(table: Sheet, notes: list[str]) -> dict[str, np.ndarray]:
    """Return EVID, AMT and the rest, missing cells as 0."""
    n = len(table.rows)
    out = {}
    for name in _EVENT_COLUMNS:
        if name in table.at:
            values = table.numbers(name)
            for i in np.flatnonzero(np.isnan(values)):
                if table.text(name, int(i)):
                    raise DataError(
                        sentence(
                            where=table.place(int(i), name),
                            what="is not a finite number",
                            remedy="give a finite number",
                        )
                    )
            out[name] = np.where(np.isnan(values), 0.0, values)
        elif name != "EVID":
            out[name] = np.zeros(n)
    if "EVID" not in out:
        given = (out["AMT"] != 0) | ((out["SS"] > 0) & (out["RATE"] != 0))
        out["EVID"] = np.where(given, float(DOSE), float(OBSERVATION))
        notes.append("there is no EVID column: rows with an amount are doses, others observations")
    return {name: out[name] for name in _EVENT_COLUMNS}


def _occasions(events: EventTable, number: np.ndarray) -> np.ndarray:
    """Occasions of each subject, counted from 0 in order of appearance."""
    out = np.zeros(events.shape, dtype=np.int64)
    for b in range(events.shape[0]):
        seen: dict[float, int] = {}
        for n in range(events.shape[1]):
            out[b, n] = seen.setdefault(float(number[b, n]), len(seen))
    return out


def _observations(
    table: Sheet,
    events: EventTable,
    columns: Mapping[str, np.ndarray],
    lines: Mapping[int, str] | None,
    line_column: str | None,
    lloq: float | Mapping[str, float] | None,
    allow_replicates: bool,
) -> tuple[Observations, tuple[str, ...]]:
    """Collect measured values with their lines and limits."""
    n = len(table.rows)
    value = table.numbers("DV") if "DV" in table.at else np.full(n, np.nan)
    unmeasured = table.numbers("MDV") if "MDV" in table.at else np.zeros(n)
    is_observation = (columns["EVID"] == OBSERVATION) & ~(unmeasured == 1)
    if not np.any(np.isfinite(value)):
        is_observation[:] = False
    for i in np.flatnonzero((columns["EVID"] != OBSERVATION) & np.isfinite(value) & (value != 0)):
        raise DataError(
            sentence(
                where=table.place(int(i), "DV"),
                what=f"{value[i]:g} on a record with EVID {columns['EVID'][i]:g}, which holds no "
                "observation",
                remedy="put the observation on a row of its own (EVID 0), or write '.'",
            )
        )
    names, line = _lines(table, is_observation, lines, line_column)
    censored, value, lower = _limits(table, is_observation, value, names, line, lloq)
    for i in np.flatnonzero(is_observation & ~np.isfinite(value)):
        raise DataError(
            sentence(
                where=table.place(int(i), "DV"),
                what="an observation without a value",
                remedy="give it, or set MDV to 1",
            )
        )
    places = np.zeros((n, 2), dtype=np.int64)
    b, r = np.nonzero(events.row >= 0)
    places[events.row[b, r]] = np.stack([b, r], axis=1)
    rows = np.flatnonzero(is_observation)
    subject, record = places[rows, 0], places[rows, 1]
    time = events.time[subject, record]
    if not allow_replicates:
        seen: dict[tuple, int] = {}
        for k, i in enumerate(rows):
            key = (
                int(subject[k]),
                int(events.segment[subject[k], record[k]]),
                float(time[k]),
                int(line[i]),
            )
            if key in seen:
                raise DataError(
                    sentence(
                        where=table.place(int(i)),
                        what=f"a second observation of '{names[line[i]]}' at {time[k]:g} h "
                        f"(the first is in row {table.lines[seen[key]]})",
                        remedy="remove one, or set allow_replicates=True",
                    )
                )
            seen[key] = int(i)
    return Observations(
        subject, record, time, line[rows], value[rows], censored[rows], lower[rows], rows
    ), names


def _lines(
    table: Sheet,
    is_observation: np.ndarray,
    lines: Mapping[int, str] | None,
    line_column: str | None,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Name what was observed, and index it by row."""
    n = len(table.rows)
    column = (line_column or ("DVID" if "DVID" in table.at else "CMT")).upper()
    if lines is None and column != "DVID":
        return ("DV",), np.zeros(n, dtype=np.int64)
    if column not in table.at:
        raise DataError(
            sentence(
                where=table.name,
                what=f"has no {column} column to tell lines apart",
                allowed=", ".join(table.label.values()),
                remedy="give line_column=",
            )
        )
    codes = table.numbers(column)
    if lines is None:
        found = sorted({int(c) for c in codes[is_observation] if np.isfinite(c)})
        lines = {code: f"{column} {code}" for code in found} or {1: f"{column} 1"}
    order = {code: k for k, code in enumerate(lines)}
    index = np.zeros(n, dtype=np.int64)
    for i in np.flatnonzero(is_observation):
        if codes[i] not in order:
            raise DataError(
                sentence(
                    where=table.place(int(i), column),
                    what=f"{codes[i]:g} is no known line",
                    allowed=", ".join(f"{code} ({name})" for code, name in lines.items()),
                    remedy="add it to lines=, or correct it",
                )
            )
        index[i] = order[int(codes[i])]
    return tuple(lines.values()), index


def _limits(
    table: Sheet,
    is_observation: np.ndarray,
    value: np.ndarray,
    names: tuple[str, ...],
    line: np.ndarray,
    lloq: float | Mapping[str, float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Censoring codes, values with limits filled in, and lower bounds."""
    n = len(value)
    flag_column = "CENS" if "CENS" in table.at else "BLQ"
    flag = table.numbers(flag_column) if flag_column in table.at else np.zeros(n)
    flag = np.where(np.isnan(flag), 0.0, flag)
    allowed = (BELOW, NOT_CENSORED, ABOVE) if flag_column == "CENS" else (BELOW, NOT_CENSORED)
    for i in np.flatnonzero(is_observation & ~np.isin(flag, allowed)):
        raise DataError(
            sentence(
                where=table.place(int(i), flag_column),
                what=f"{flag[i]:g} is no censoring code",
                allowed="1 below the limit, 0 measured"
                + (", -1 above the limit" if flag_column == "CENS" else ""),
            )
        )
    censored = np.where(is_observation, flag, 0.0).astype(np.int64)
    limit = table.numbers("LLOQ") if "LLOQ" in table.at else np.full(n, np.nan)
    if lloq is not None:
        given = np.array(
            [lloq.get(k, np.nan) if isinstance(lloq, Mapping) else lloq for k in names], dtype=float
        )
        limit = np.where(np.isnan(limit), given[line], limit)
    # with CENS the limit stands in DV, with BLQ it does not
    below = censored == BELOW
    own = np.where((value > 0) & (flag_column == "CENS"), value, np.nan)
    limit = np.where(np.isnan(limit), own, limit)
    for i in np.flatnonzero(below & ~np.isfinite(limit)):
        raise DataError(
            sentence(
                where=table.place(int(i), flag_column),
                what="the value is below the limit of quantification, and there is no limit",
                remedy="give a LLOQ column, lloq=, or CENS 1 with the limit in DV",
            )
        )
    lower = table.numbers("LIMIT") if "LIMIT" in table.at else np.full(n, np.nan)
    lower = np.where(below & np.isfinite(lower), lower, -np.inf)
    for i in np.flatnonzero(below & (lower >= limit)):
        raise DataError(
            sentence(
                where=table.place(int(i), "LIMIT"),
                what=f"{lower[i]:g} is not below the limit of quantification {limit[i]:g}",
                remedy="LIMIT is the lower end of the interval the value lies in",
            )
        )
    return censored, np.where(below, limit, value), lower
