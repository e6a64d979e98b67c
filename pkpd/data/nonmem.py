"""Reader of NONMEM-style tables (CSV, parquet, data frames).

Column names are those of NONMEM (any case), with CENS and LIMIT of Monolix and nlmixr2. A missing
value is ``.``, an empty cell or NA. Every message names file, row, subject, column and value; rows
are counted as an editor counts the lines of a CSV file, the header being line 1.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from pkpd.arguments import MAPPING, NAMES, NONE, NUMBER, TEXT, check_arguments, from_to, one_of
from pkpd.data import rxode
from pkpd.data.covariates import fill_missing
from pkpd.data.dataset import Dataset
from pkpd.data.declared_units import DeclaredUnits, undeclared
from pkpd.data.events import DOSE, MODELLED_DURATION, OBSERVATION, EventTable
from pkpd.data.measurements import HowMeasured, LineCodes, read_measurements
from pkpd.data.overlooked import misspelt, overlooked, zeros
from pkpd.data.shared_ids import BODY
from pkpd.data.sheets import (
    ISO_DATE,
    Sheet,
    TableSource,
    checked_columns,
    is_number,
    open_sheet,
)
from pkpd.data.times import hours_of, in_hours, refuse_beyond, refuse_missing
from pkpd.errors import PkpdWarning

_EVENT_COLUMNS = ("EVID", "AMT", "RATE", "II", "ADDL", "SS", "CMT")
_NUMBERS = ("MDV", "CENS", "LIMIT", "LLOQ", "OCC")
_PLAIN_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?", re.ASCII)
_MOST_LEVELS = 20  # of a covariate given in words
_DIGITS = re.compile(r"[+-]?([\d.,]*\d[\d.,]*|\d+(_\d{3})+)")  # a number, or one that is misspelt
KNOWN = (
    "ID",
    "TIME",
    "DATE",
    "DV",
    "MDV",
    "DVID",
    "CENS",
    "LIMIT",
    "BLQ",
    "BLOQ",
    "BQL",
    "LLOQ",
    "OCC",
    "TINF",
    *_EVENT_COLUMNS,
)


def read_nonmem(
    source: TableSource,
    *,
    columns: Mapping[str, str | None] | None = None,
    covariates: Sequence[str] = (),
    lines: LineCodes | None = None,
    line_column: str | None = None,
    other_lines: Literal["refuse", "drop"] = "refuse",
    lloq: float | Mapping[str, float] | None = None,
    units: Mapping[str, str | Mapping[str, str]] | None = None,
    time_unit: str | None = None,
    date_format: str = ISO_DATE,
    codes: Literal["auto", "nonmem", "rxode"] = "auto",
    ignore: str | None = None,
    compartments: int | None = None,
    allow_replicates: bool = False,
    separator: str = ",",
) -> Dataset:
    """Read a NONMEM-style table.

    Parameters
    ----------
    source
        Path of a CSV, parquet or SAS transport file, or a data frame (pandas, or anything with
        ``to_pandas``).
    columns
        Names that differ: ``{"DV": "conc"}``; None leaves a column out: ``{"SS": None}``.
    covariates
        Columns to keep as covariates, under these names. A missing value takes the subject's value
        before it, or the first one after. Words (male, female) are numbered from 0 in alphabetical
        order; the summary says which is which, and plots have the words.
    lines
        What codes of the line column stand for, numbers or text:
        ``{1: "concentration", 3: "neutrophils"}``, ``{"cp": "concentration", "pca": None}`` (None
        leaves a line out). Without it there is one line, "DV", or one per DVID; observations of
        several compartments (CMT) are then refused.
    line_column
        Column with the codes of ``lines``; default DVID if there is such a column, else CMT.
    other_lines
        What happens to observations whose code is not in ``lines``: ``"refuse"`` or ``"drop"``.
    lloq
        Limit of quantification where neither CENS nor a LLOQ column gives it, one or per line, in
        the unit of the file. Without a column that flags them (CENS, BLQ), values under it count
        as below it. A value written as ``<0.1`` is below its own limit.
    units
        What the columns are in: ``{"TIME": "day", "AMT": "mg", "DV": {"neutrophils": "cells/uL"},
        "WT": "kg"}``; ``"DV": "ng/mL"`` for all lines. They are checked and converted to hours, mg
        (or umol), mg/L (or umol/L), 10^9/L, kg and the others of `pkpd.units.INTERNAL_UNITS`. II
        and TINF are in the unit of TIME (beside dates in hours, unless it is given), RATE in those
        of AMT and TIME, limits in that of DV.
        Columns that are not named are taken as they are.
    time_unit
        Unit of TIME (h, day, min, week), if nothing else is to be said of units.
    date_format
        Format of a DATE column (by default 2024-03-01 or 01.03.2024); TIME is then a clock time
        (14:30) or decimal hours of the day, and hours count from the subject's first record. TIME
        alone may hold both, 2024-03-01 14:30.
    codes
        What EVID holds: ``"nonmem"`` 0 to 4; ``"rxode"`` codes such as 101 and 10101, see
        `pkpd.data.rxode`; ``"auto"`` the latter if all codes are of that kind.
    ignore
        Rows whose first cell begins with one of these characters are left out (NONMEM's IGNORE);
        ``"@"`` stands for any letter, @ or #. Lines that begin with # before the header are left
        out anyway.
    compartments
        Number of compartments, to check CMT of doses here; a model checks it later otherwise.
    allow_replicates
        Accept several observations of a line at one time.
    separator
        Between cells of a CSV file. Where it is not in the header, cells are cut at the semicolons,
        tabs or blanks that are, and a comma in a number is then a decimal point; beside decimal
        commas a number such as 1.638 is refused.

    Returns
    -------
    Dataset
        Subjects, events, observations and covariates; see ``summary()`` for what was understood.

    Raises
    ------
    DataError
        If a row has no meaning or contradicts another.

    Notes
    -----
    Without an EVID column, rows with an amount are doses. A column TINF gives the duration of
    infusions where there is no RATE.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"ID": [1, 1, 1], "TIME": [0, 1, 2], "AMT": [100, 0, 0], "DV": [None, "5.1", "<0.5"]}
    >>> data = read_nonmem(pd.DataFrame(rows), units={"TIME": "day", "AMT": "mg", "DV": "mg/L"})
    >>> data.observations.time, data.observations.value, data.observations.censored
    (array([24., 48.]), array([5.1, 0.5]), array([0, 1]))
    """
    columns = checked_columns("read_nonmem", columns)
    check_arguments(
        "read_nonmem",
        covariates=(covariates, NAMES),
        lines=(lines, MAPPING | NONE),
        line_column=(line_column, TEXT | NONE),
        lloq=(lloq, NUMBER | MAPPING | NONE),
        units=(units, MAPPING | NONE),
        time_unit=(time_unit, TEXT | NONE),
        date_format=(date_format, TEXT),
        codes=(codes, one_of("auto", "nonmem", "rxode")),
        other_lines=(other_lines, one_of("refuse", "drop")),
        ignore=(ignore, TEXT | NONE),
        compartments=(compartments, from_to(0) | NONE),
        separator=(separator, TEXT),
    )
    for name, limit in lloq.items() if isinstance(lloq, Mapping) else ():
        check_arguments(f"read_nonmem, lloq, {name}", lloq=(limit, NUMBER))
    for code, line in (lines or {}).items():
        check_arguments(f"read_nonmem, lines, {code}", line=(line, TEXT | NONE))
    table = open_sheet(source, columns, KNOWN, ignore, separator)
    wrong = misspelt(table, covariates, KNOWN)
    missing = [name for name in ("ID", "TIME") if name not in table.at]
    if not {"DV", "AMT", "EVID"} & set(table.at):  # nothing is measured, and nothing given
        missing += ["DV", "AMT"]
    if missing:
        named = ", ".join(f"'{name}': '{wrong.get(name, '...')}'" for name in missing)
        raise table.lacks(
            what=f"has no {' and no '.join(missing)} column",
            remedy=f"rename the column{'s' * (len(missing) > 1)}, in Python also "
            f"columns={{{named}}}",
        )
    for told in overlooked(table, covariates, wrong):
        warnings.warn(f"{table.name}: {told}", PkpdWarning, stacklevel=2)
    notes = list(table.notes)
    if table.ignored:
        notes.append(f"left out, as asked: {table.ignored} rows by ignore={ignore!r}")
    how = HowMeasured(lines, line_column, other_lines, lloq, allow_replicates)
    return dataset_of(
        table,
        how,
        units or {},
        notes,
        covariates=covariates,
        time_unit=time_unit,
        date_format=date_format,
        codes=codes,
        compartments=compartments,
    )


def dataset_of(
    table: Sheet,
    how: HowMeasured,
    units: Mapping[str, str | Mapping[str, str]],
    notes: list[str],
    *,
    covariates: Sequence[str] = (),
    time_unit: str | None = None,
    date_format: str = ISO_DATE,
    codes: Literal["auto", "nonmem", "rxode"] = "auto",
    compartments: int | None = None,
) -> Dataset:
    """Make a data set of a table whose columns have NONMEM's names.

    Parameters
    ----------
    table
        The table.
    how
        What its measured values are.
    units, covariates, time_unit, date_format, codes, compartments
        As of `read_nonmem`.
    notes
        What was decided so far.

    Raises
    ------
    DataError
        If a row has no meaning or contradicts another.
    """
    declared = DeclaredUnits(table.name, units)
    declared.check_columns(list(table.at))
    identity = subject_labels(table, notes)
    times = ("TIME",) if in_hours(table) else ()
    table.refuse_texts((*times, *_EVENT_COLUMNS, *_NUMBERS), ("DV",))
    time = hours_of(table, identity, declared, time_unit, date_format, notes)
    per_hour = declared.hours(time_unit)
    events_given = _event_columns(table, notes)
    asked = codes == "rxode" or (codes == "auto" and rxode.understood(events_given["EVID"]))
    if asked:
        events_given, note = rxode.translate(table, identity, time / per_hour, events_given)
        notes.append(note)
    _durations(table, events_given, asked)
    factor, dose_unit = declared.amount()
    events_given["AMT"] = events_given["AMT"] * factor
    positive = events_given["RATE"] > 0
    events_given["RATE"] = np.where(
        positive, events_given["RATE"] * factor / per_hour, events_given["RATE"]
    )
    events_given["II"] = events_given["II"] * per_hour
    of_body = [n for n in table.at if n in BODY or n in {one.upper() for one in covariates}]
    events = EventTable.from_columns(
        identity,
        time,
        source=table.name,
        numbers=table.lines,
        described={
            table.label[n]: np.array([table.text(n, i) for i in range(len(table.rows))])
            for n in of_body
        },
        **{name.lower(): value for name, value in events_given.items()},
    )
    if compartments is not None:
        _check_compartments(table, events_given, compartments)
    seen, names, units_used = read_measurements(
        table, events, events_given["EVID"], how, declared, notes
    )
    notes += zeros(seen, events, names)
    if not len(seen):
        read = {*KNOWN, *BODY, *(name.upper() for name in covariates)}
        other = [label for key, label in table.label.items() if key and key not in read]
        hint = f"; not read: {', '.join(other)}; name the measured one, columns={{'DV': ...}}"
        notes.append(
            "no value of DV was found: the table holds events only"
            + hint * ("DV" not in table.at and len(other) > 0)
        )
    kept: dict[str, np.ndarray] = {}
    words: dict[str, tuple[str, ...]] = {}
    lost = [name for name in covariates if name.upper() not in table.at]
    if lost:
        named = " and no ".join(f"covariate column '{name}'" for name in lost)
        raise table.lacks(what=f"has no {named}", remedy="correct covariates=")
    for name in covariates:
        if levels := _words(table, name.upper()):
            words[name] = levels
            notes.append(
                f"covariate {name}: " + ", ".join(f"{w} = {k}" for k, w in enumerate(levels))
            )
        kept[name], unit = _covariate(table, events, name, words.get(name), declared, notes)
        if unit is not None:
            units_used[name] = unit
    occasion = None
    if "OCC" in table.at:
        number = table.numbers("OCC")
        refuse_missing(table, "OCC", number, "the occasion is missing")
        occasion = _occasions(events, events.from_rows(number))
    if dose_unit is not None:
        units_used["AMT"] = dose_unit
    unit = declared.given.get("TIME", time_unit)
    clock = not times or unit is not None
    doses = bool(np.any(events.is_dose))
    silent = [name for name in names if name not in units_used] if len(seen) else []
    notes += undeclared(not clock, doses and dose_unit is None, silent)
    return Dataset(events, seen, names, kept, occasion, tuple(notes), units_used, words, unit)


def _covariate(
    table: Sheet,
    events: EventTable,
    name: str,
    words: tuple[str, ...] | None,
    declared: DeclaredUnits,
    notes: list[str],
) -> tuple[np.ndarray, str | None]:
    """Values at the records, gaps filled, and the unit if one was declared."""
    key = name.upper()
    by_row = table.finite(key) if words is None else _numbered(table, key, words)
    if key in BODY:
        for i in np.flatnonzero(by_row < 0):
            raise table.refused(
                i,
                key,
                f"a body's {name} of {by_row[i]:g}",
                allowed="0 or more",
                remedy="correct it, or write '.' where it is missing",
            )
    values = events.from_rows(by_row)
    factor, unit = declared.covariate(name)
    gaps = events.row[~np.isfinite(values) & events.valid]
    if len(gaps):
        many = "1 missing value" if len(gaps) == 1 else f"{len(gaps)} missing values"
        notes.append(
            f"covariate {name}: {many}, the first in row {table.lines[gaps.min()]}, filled with "
            "the subject's value before, or the first one after"
        )
    return fill_missing(events, name, values, table.label[key]) * factor, unit


def _words(table: Sheet, key: str) -> tuple[str, ...]:
    """Words (male, female) of a covariate in their order; none if it has numbers."""
    words = sorted({text for i in range(len(table.rows)) if (text := table.word(key, i))})
    number = any(is_number(word) or _DIGITS.fullmatch(word) for word in words)
    named = not number and len(words) <= _MOST_LEVELS
    return tuple(words) if named else ()


def _numbered(table: Sheet, key: str, words: tuple[str, ...]) -> np.ndarray:
    """Places of a covariate's words, from 0; NaN where there is none."""
    texts = [table.word(key, i) for i in range(len(table.rows))]
    return np.array([words.index(text) if text else np.nan for text in texts], dtype=float)


def _check_compartments(table: Sheet, given: Mapping[str, np.ndarray], compartments: int) -> None:
    dose = np.isin(given["EVID"], (1, 4))
    for i in np.flatnonzero(dose & (given["CMT"] > compartments)):
        raise table.refused(
            i,
            "CMT",
            f"a dose into compartment {given['CMT'][i]:g}",
            allowed=f"1 to {compartments}",
            remedy="correct CMT",
        )


def _durations(table: Sheet, given: dict[str, np.ndarray], translated: bool) -> None:
    """Turn durations of infusions (TINF) into rates, in place."""
    if "TINF" not in table.at or translated:
        return
    duration = np.nan_to_num(table.numbers("TINF"))
    dose = np.isin(given["EVID"], (1, 4))
    for i in np.flatnonzero(dose & (duration < 0)):
        raise table.refused(
            i,
            "TINF",
            f"an infusion of {duration[i]:g}",
            allowed="0 (bolus) or more",
            remedy="correct it",
        )
    infused = dose & (duration > 0) & (given["AMT"] > 0)
    for i in np.flatnonzero(infused & (given["RATE"] != 0) & (given["RATE"] != MODELLED_DURATION)):
        if not np.isclose(given["RATE"][i] * duration[i], given["AMT"][i], rtol=1e-3):
            raise table.refused(
                i,
                "TINF",
                (
                    f"an infusion of {duration[i]:g} at rate {given['RATE'][i]:g} is not "
                    f"{given['AMT'][i]:g}"
                ),
                remedy="leave out one: columns={'TINF': None} or {'RATE': None}",
            )
    rate = np.where(infused, given["AMT"] / np.where(infused, duration, 1.0), given["RATE"])
    given["RATE"] = rate


def subject_labels(table: Sheet, notes: list[str] | None = None) -> np.ndarray:
    """Subject labels: numbers where all are, so that ``1``, ``01`` and ``1.0`` are one; else text.

    Parameters
    ----------
    table
        The table.
    notes
        A subject whose number is spelt in several ways is told here.
    """
    labels = [table.text("ID", i) for i in range(len(table.rows))]
    for i, label in enumerate(labels):
        if not label:
            raise table.refused(i, "ID", "the subject is missing", remedy="give an ID")
    spelt: dict[Fraction, dict[str, None]] = {}
    for label in dict.fromkeys(labels):
        if not _PLAIN_NUMBER.fullmatch(label):
            return np.array(labels)
        # exact: two long labels may be one float
        spelt.setdefault(Fraction(label), {})[label] = None
    several = [list(ways) for ways in spelt.values() if len(ways) > 1]
    if several and notes is not None:
        more = f" and {len(several) - 1} more" if len(several) > 1 else ""
        notes.append(f"ID: {', '.join(several[0])} are one number, one subject{more}")
    number_of = {label: number for number, ways in spelt.items() for label in ways}
    if all(one.denominator == 1 and abs(one) < 2**63 for one in spelt):
        return np.array([int(number_of[label]) for label in labels], dtype=np.int64)
    return np.array([next(iter(spelt[number_of[label]])) for label in labels])


def _event_columns(table: Sheet, notes: list[str]) -> dict[str, np.ndarray]:
    """Return EVID, AMT and the rest, missing cells as 0."""
    n = len(table.rows)
    out = {}
    for name in _EVENT_COLUMNS:
        if name in table.at:
            values = table.numbers(name)
            for i in np.flatnonzero(np.isnan(values)):
                if table.text(name, int(i)):
                    raise table.refused(
                        i, name, "is not a finite number", remedy="give a finite number"
                    )
            out[name] = np.where(np.isnan(values), 0.0, values)
            refuse_beyond(table, name, out[name])
        elif name != "EVID":
            out[name] = np.zeros(n)
    if "EVID" not in out:
        given = (out["AMT"] != 0) | ((out["SS"] > 0) & (out["RATE"] != 0))
        out["EVID"] = np.where(given, float(DOSE), float(OBSERVATION))
        notes.append("there is no EVID column: rows with an amount are doses, others observations")
    if "AMT" in table.at:
        constant = (out["SS"] > 0) & (out["RATE"] != 0)
        for i in np.flatnonzero(np.isin(out["EVID"], (1, 4)) & (out["AMT"] == 0) & ~constant):
            if not table.text("AMT", int(i)):
                raise table.refused(
                    i,
                    "AMT",
                    "the cell of a dose's amount is empty",
                    remedy="give the amount, or set EVID to 2",
                )
    idle = np.isin(out["EVID"], (1, 4)) & (out["II"] > 0) & (out["ADDL"] == 0) & (out["SS"] == 0)
    if idle.any():
        notes.append(f"II is not used in {idle.sum()} doses, which have neither ADDL nor SS")
    return {name: out[name] for name in _EVENT_COLUMNS}


def _occasions(events: EventTable, number: np.ndarray) -> np.ndarray:
    """Occasions of each subject, counted from 0 in order of appearance."""
    out = np.zeros(events.shape, dtype=np.int64)
    for b in range(events.shape[0]):
        seen: dict[float, int] = {}
        for n in range(events.shape[1]):
            out[b, n] = seen.setdefault(float(number[b, n]), len(seen))
    return out
