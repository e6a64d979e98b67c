"""What has been seen of patients so far: counts, blasts, covariates and doses, by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.body import check_possible
from pkpd.cards.files import nearest_of
from pkpd.data.counts import SPELLINGS, read_counts
from pkpd.data.dataset import BELOW, NOT_CENSORED, Dataset, more
from pkpd.data.nonmem import KNOWN, read_nonmem, subject_labels
from pkpd.data.overlooked import misspelt
from pkpd.data.sheets import Sheet, TableSource, checked_columns, open_sheet
from pkpd.data.times import DAY_ZERO, refuse_two_hours
from pkpd.errors import DataError
from pkpd.forecasting.doubtful import (
    blood_blasts_notes,
    percent_notes,
    refuse_more_than_all,
    slips,
)
from pkpd.forecasting.measurement import BLASTS, COUNTED, SAME_LINE

BODY: Mapping[str, tuple[str, ...]] = {
    "age": ("AGE",),
    "male": ("MALE",),
    "weight": ("WEIGHT", "WT", "BW"),
    "height": ("HEIGHT", "HT"),
    "scr": ("SCR", "CREATININE"),
    "crcl": ("CRCL", "CLCR"),
}
"""Usual names of columns of covariates (`pkpd.subjects`): years, 1 or 0, kg, cm, mg/dL, mL/min."""

_DOSES = ("ID", "SUBJECT", "PATIENT", "DAY", "HOUR", "DRUG", "AMT", "DURATION", "ROUTE")
_OF_BODY = tuple(code for codes in BODY.values() for code in codes)
_READ = (*_DOSES, "USUBJID", "DATE", "LINE", "VALUE", *_OF_BODY)
_NEAR = 0.6  # that of a covariate
_CLOSE = 0.75  # ratio of `difflib` from which a column's name may be a slip for another


@dataclass(frozen=True)
class GivenDose:
    """A dose that was given: protocol day, drug, mg, hour of the day, hours of infusion, route."""

    day: int
    drug: str
    amount_mg: float
    hour: float | None = None  # where None, the planned one
    duration_h: float | None = None
    route: str = ""
    place: str = field(default="", compare=False)  # words for its row


@dataclass(frozen=True, eq=False)
class Seen:
    """What has been seen of one patient.

    Attributes
    ----------
    label
        Name of the patient.
    line : K names
        Of `pkpd.forecasting.measurement.COUNTED`.
    time : float[K]
        Days since the start of day 1; what was counted before is put at the start.
    value, censored, lower : [K]
        As in `pkpd.data.dataset.Observations`; 10^9/L, marrow blasts in percent.
    body
        Covariates that are known, by the names of `pkpd.subjects`.
    doses
        Doses given, where the table tells them.
    """

    label: Any
    line: tuple[str, ...]
    time: Floats
    value: Floats
    censored: NDArray[np.int64]
    lower: Floats
    body: Mapping[str, float] = field(default_factory=dict)
    doses: tuple[GivenDose, ...] = ()

    def __len__(self) -> int:
        """Return the number of counts."""
        return len(self.line)

    @property
    def counts(self) -> list[tuple[str, float, float]]:
        """Line, time and value of each; of two at one time, as before day 1, each is itself."""
        return list(zip(self.line, self.time.tolist(), self.value.tolist(), strict=True))

    @property
    def last_day(self) -> int:
        """Protocol day of the last count."""
        return int(np.floor(self.time.max())) + 1 if len(self) else 1

    @property
    def last_counts(self) -> dict[str, float]:
        """Counts of the last day by line; one below its limit is the number next below that."""
        found: dict[str, float] = {}
        for k in np.argsort(self.time, kind="stable"):
            if np.floor(self.time[k]) + 1 == self.last_day:
                below = self.censored[k] == BELOW
                value = float(self.value[k])
                found[self.line[k]] = float(np.nextafter(value, 0.0)) if below else value
        return found

    def until(self, day: float) -> Seen:
        """Keep the counts of protocol days up to this one."""
        return self.taken(np.flatnonzero(self.time < day))

    def joined(self, later: Seen) -> Seen:
        """Add counts; those of a line and time that are there already take their place."""
        again = set(zip(later.line, later.time.tolist(), strict=True))
        pairs = zip(self.line, self.time.tolist(), strict=True)
        mine = self.taken(np.array([k for k, p in enumerate(pairs) if p not in again], dtype=int))
        both = replace(
            mine,
            line=(*mine.line, *later.line),
            **{
                name: np.concatenate([getattr(mine, name), getattr(later, name)])
                for name in ("time", "value", "censored", "lower")
            },
            body={**mine.body, **later.body},
            doses=tuple(dict.fromkeys((*mine.doses, *later.doses))),
        )
        return both.taken(np.argsort(both.time, kind="stable"))

    def taken(self, index: NDArray[np.int64]) -> Seen:
        """Take some of the counts, by their places."""
        return replace(
            self,
            line=tuple(self.line[k] for k in index),
            **{name: getattr(self, name)[index] for name in ("time", "value", "censored", "lower")},
        )


def read_seen(
    patient: Dataset | TableSource | Mapping[str, Any],
    *,
    units: Mapping[str, str] | str | None = None,
    lines: Mapping[Any, str] | None = None,
    lloq: float | Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
    columns: Mapping[str, str | None] | None = None,
    to_begin: bool = True,
) -> tuple[tuple[Seen, ...], tuple[str, ...]]:
    """Read what has been seen of one patient or of many.

    Parameters
    ----------
    patient
        File or data frame by protocol day (`pkpd.read_counts`: ``DAY`` and a column for each line,
        or ``LINE`` and ``VALUE``) or in the style of NONMEM (``TIME`` and ``DV``), a mapping of
        columns, or a data set that has been read. Without ``ID`` all rows are of one patient.
        Columns of `BLASTS` and `BODY` are understood; ``DRUG`` and ``AMT`` (mg), perhaps ``HOUR``,
        ``DURATION`` (h) and ``ROUTE``, tell doses that differ from the schedule.
    units, columns
        As of `pkpd.read_counts`.
    lines
        Codes of lines, as of `pkpd.read_nonmem`, or columns as of `pkpd.read_counts`.
    lloq
        Limit of quantification, one or by line; values under it count as below it.
    limits
        What a reported 0 is below, by line.
    to_begin
        Whether counts on treatment are asked for, of every patient.

    Returns
    -------
    tuple of Seen
        By patient, in the order of the table.
    tuple of str
        Sentences on what was left out.

    Raises
    ------
    DataError
        Naming file, row, column, value and remedy.
    """
    if isinstance(patient, Dataset):
        return _of_dataset(patient, limits or {}, {}, {}, to_begin)
    if isinstance(patient, Mapping):
        import pandas as pd

        patient = pd.DataFrame(dict(patient))
    columns = checked_columns("read_seen", columns)
    table = _with_identity(patient, columns)
    sheet = open_sheet(table, columns, _DOSES)
    if "DAY" not in sheet.at and "DATE" not in sheet.at and {"TIME", "DV"} <= set(sheet.at):
        of_columns: Any = {"DV": units} if isinstance(units, str) else units
        if (counted := _without_blasts(lines, sheet)) is not None:
            if isinstance(units, str):
                of_columns = {"DV": dict.fromkeys(counted, units)}
            if lloq is not None and not isinstance(lloq, Mapping):
                lloq = dict.fromkeys(counted, lloq)
        data = read_nonmem(table, lines=lines, units=of_columns, lloq=lloq, columns=columns)
        body = _bodies(sheet)
        seen, notes = _of_dataset(data, limits or {}, body, {}, to_begin)
        unread = _not_columns(sheet, [name for name in columns.values() if name])
        return seen, (*data.notes, *notes, *unread, *_first_dose(data))
    names = {code: line for line, codes in {**SPELLINGS, **BLASTS}.items() for code in codes}
    known = {code: line for code, line in names.items() if SAME_LINE.get(line, line) in COUNTED}
    asked = known | {str(k).upper(): v for k, v in (lines or {}).items()}
    unread = _unread(sheet, asked, [name for name in columns.values() if name])
    data = read_counts(
        table,
        lines=asked,
        units=dict.fromkeys(_counts(sheet, asked), units) if isinstance(units, str) else units,
        lloq=_limits(lloq, units, sheet, asked),
        columns=columns,
    )
    seen, notes = _of_dataset(data, limits or {}, _bodies(sheet), _doses(sheet), to_begin)
    there = {one.label for one in seen}
    lost = [str(label) for label in dict.fromkeys(labels_of(sheet)) if label not in there]
    left = (f"left out, without a count: patients {', '.join(lost[:10])}" + more(lost),)
    return seen, (*notes, *(left if lost else ()), *unread, *_first_days(sheet, to_begin))


def _first_dose(data: Dataset) -> tuple[str, ...]:
    """Say of whom the table's own first dose is not on day 1, which begins at its time 0."""
    events = data.events
    when = np.where(events.is_dose & events.valid, events.time, np.inf).min(axis=1, initial=np.inf)
    other = np.flatnonzero(np.isfinite(when) & ((when < 0.0) | (when >= 24.0)))
    named = ", ".join(
        f"{data.subjects[b]} (hour {when[b]:g}, day {int(when[b] // 24.0) + 1})" for b in other[:10]
    )
    told = (
        f"first doses in the table are not on day 1, which begins at time 0: patients {named}"
        f"{more([str(b) for b in other])}; doses of the schedule count from day 1: if treatment "
        "began with that dose, count TIME from it",
    )
    return told if other.size else ()


def _first_days(sheet: Sheet, to_begin: bool) -> tuple[str, ...]:
    """Say which dates are day 1, where a table has dates and no protocol days."""
    if "DAY" in sheet.at or "DATE" not in sheet.at:
        return ()
    if not to_begin:
        raise DataError(
            where=f"{sheet.name}, column {sheet.label['DATE']}",
            what="dates of further counts do not tell protocol days",
            remedy="give protocol days in a column DAY",
        )
    first: dict[Any, str] = {}
    for row, label in enumerate(labels_of(sheet)):
        first.setdefault(label, sheet.text("DATE", row))
    shown = list(first.items())[:5]
    dates = ", ".join(f"patient {label}: {day}" for label, day in shown)
    more = "" if len(first) <= len(shown) else f", and of {len(first) - len(shown)} more"
    remedy = "where treatment began on another day, give protocol days in a column DAY"
    return (f"day 1 is the date of the first row ({dates}{more}); {remedy}",)


def _unread(sheet: Sheet, counted: Mapping[str, str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Tell the columns that are not read; one that may be a slip for counts is refused."""
    tidy = "LINE" in sheet.at
    there = {line for code, line in counted.items() if code in sheet.at}
    lacking = [code for code, line in counted.items() if not tidy and line not in there]
    read = {*_READ, *(name.upper() for name in chosen), *(() if tidy else counted)}
    told = []
    for column in sheet.at:
        if not column or column in read:
            continue
        hint = nearest_of(column, [*lacking, *(n for n in _READ if n not in sheet.at)], _CLOSE)
        if any(f"{code!r}?" in hint for code in lacking):
            raise DataError(
                where=f"{sheet.name}, column {sheet.label[column]}",
                what=f"it is not read{hint}",
                remedy="rename the column, or remove it",
            )
        told.append(f"{sheet.label[column]}{hint}")
    return (f"columns that are not read: {', '.join(told)}",) if told else ()


def _not_columns(sheet: Sheet, chosen: Sequence[str]) -> tuple[str, ...]:
    """Tell the columns of a table in NONMEM's style that are not read and not warned of."""
    lacking = [code for codes in BODY.values() for code in codes if not {*codes} & set(sheet.at)]
    others = (*chosen, *misspelt(sheet, (), KNOWN).values())
    read = {"", *KNOWN, *_OF_BODY, *(name.upper() for name in others)}
    unread = [column for column in sheet.at if column not in read]
    told = [f"{sheet.label[column]}{nearest_of(column, lacking, _NEAR)}" for column in unread]
    return (f"columns that are not read: {', '.join(told)}",) if told else ()


def _with_identity(source: TableSource, columns: Mapping[str, str | None]) -> Any:
    """Give a table without patients' names the only patient 1."""
    import pandas as pd

    sheet = open_sheet(source, columns, ("ID",))
    if {"ID", "SUBJECT", "PATIENT", "USUBJID"} & set(sheet.at):
        return source
    if isinstance(source, str | Path):
        cells = {sheet.label[k]: [row[i] for row in sheet.rows] for k, i in sheet.at.items()}
        frame = pd.DataFrame(cells)
        frame.attrs |= {"name": sheet.name, "lines": sheet.lines}
        frame.attrs |= {"decimal_comma": sheet.decimal_comma, "notes": sheet.notes}
    else:
        frame = source if isinstance(source, pd.DataFrame) else source.to_pandas()
    return frame.assign(ID="1")


def _counts(sheet: Sheet, known: Mapping[str, str]) -> set[str]:
    """Lines of a table that one unit and one limit for all counts hold of: no marrow blasts."""
    if "LINE" in sheet.at:
        codes = {sheet.text("LINE", i).upper() for i in range(len(sheet.rows))}
    else:
        codes = set(sheet.at)
    return {known[code] for code in codes if code in known} - {"marrow_blasts"}


def _limits(
    lloq: float | Mapping[str, float] | None, units: Any, sheet: Sheet, known: Mapping[str, str]
) -> float | Mapping[str, float] | None:
    """Limits by line where one unit is that of all counts, else as they are given."""
    if lloq is None or isinstance(lloq, Mapping) or isinstance(units, Mapping):
        return lloq
    return dict.fromkeys(_counts(sheet, known), lloq)


def _without_blasts(lines: Mapping[Any, str] | None, sheet: Sheet) -> list[str] | None:
    """Lines of a table in NONMEM's style but blasts of the marrow; None where it has none."""
    names = list((lines or {}).values())
    if lines is None and "DVID" in sheet.at:
        names = [sheet.text("DVID", i) for i in range(len(sheet.rows)) if sheet.text("DV", i)]
    if "marrow_blasts" not in names:
        return None
    return [name for name in dict.fromkeys(names) if name and name != "marrow_blasts"]


def _bodies(sheet: Sheet) -> dict[Any, dict[str, float]]:
    """Covariates of the patients that the table tells, by patient."""
    labels, out = labels_of(sheet), {}
    for label in dict.fromkeys(labels):
        rows = [i for i, other in enumerate(labels) if other == label]
        body = {}
        for name, codes in BODY.items():
            for code in codes:
                if code not in sheet.at:
                    continue
                values = sheet.numbers(code)[rows]
                seen = np.array(list(dict.fromkeys(values[~np.isnan(values)])))
                if seen.size > 1:
                    raise DataError(
                        where=sheet.place(rows[0], code),
                        what=f"{name} changes from {seen[0]:g} to {seen[1]:g}",
                        remedy="give one value for a patient",
                    )
                if seen.size:
                    at = rows[int(np.argmax(~np.isnan(values)))]
                    check_possible({name: seen}, sheet.place(at, code))
                    body[name] = float(seen[0])
        out[label] = body
    return out


def _doses(sheet: Sheet) -> dict[Any, tuple[GivenDose, ...]]:
    """Doses that the table tells, by patient."""
    there = [name for name in ("DRUG", "AMT") if name in sheet.at]
    if len(there) < 2:
        if there and any(sheet.text(there[0], i) for i in range(len(sheet.rows))):
            lacking = "AMT" if there == ["DRUG"] else "DRUG"
            raise sheet.lacks(
                what=f"has {there[0]} and no {lacking} column",
                remedy=f"add {lacking} (doses as given need DRUG and mg in AMT), or take "
                f"{there[0]} out",
            )
        return {}
    amount = sheet.numbers("AMT")
    empty = np.full(len(amount), np.nan)
    day = sheet.numbers("DAY") if "DAY" in sheet.at else empty
    hour = sheet.numbers("HOUR") if "HOUR" in sheet.at else empty
    duration = sheet.numbers("DURATION") if "DURATION" in sheet.at else empty
    refuse_two_hours(sheet, np.where(np.isfinite(amount), day % 1.0, 0.0))
    out: dict[Any, list[GivenDose]] = {}
    for i, label in enumerate(labels_of(sheet)):
        drug = sheet.text("DRUG", i)
        if not drug and not np.isfinite(amount[i]):
            continue
        if "DAY" not in sheet.at:
            raise sheet.lacks(what="has doses and no DAY column", remedy="give protocol days")
        good = bool(drug) and 0 <= amount[i] < np.inf and day[i] >= 1
        if not good:
            raise DataError(
                where=sheet.place(i, "AMT"),
                what=f"'{drug}' of {sheet.text('AMT', i) or 'no'} mg on day "
                f"{sheet.text('DAY', i)} is no dose",
                allowed="a drug, mg of 0 or more, a protocol day from 1",
            )
        mine = GivenDose(
            int(day[i]),
            drug,
            float(amount[i]),
            float(hour[i]) if np.isfinite(hour[i]) else 24.0 * float(day[i] % 1.0) or None,
            float(duration[i]) if np.isfinite(duration[i]) else None,
            sheet.text("ROUTE", i) if "ROUTE" in sheet.at else "",
            sheet.place(i),
        )
        out.setdefault(label, []).append(mine)
    return {label: tuple(doses) for label, doses in out.items()}


def labels_of(sheet: Sheet) -> list[Any]:
    """Label of the patient of each row."""
    if "ID" not in sheet.at:
        other = next(k for k in ("SUBJECT", "PATIENT", "USUBJID") if k in sheet.at)
        sheet.at["ID"], sheet.label["ID"] = sheet.at[other], sheet.label[other]
    return subject_labels(sheet).tolist()


def _of_dataset(
    data: Dataset,
    limits: Mapping[str, float],
    bodies: Mapping[Any, Mapping[str, float]],
    doses: Mapping[Any, tuple[GivenDose, ...]],
    to_begin: bool,
) -> tuple[tuple[Seen, ...], tuple[str, ...]]:
    seen, found, early = data.observations, list[Seen](), list[str]()
    lines = [SAME_LINE.get(name, name) for name in data.lines]
    notes = tuple(
        f"{name} are not among what a forecast learns from ({', '.join(COUNTED)}); left out"
        for name, line in zip(data.lines, lines, strict=True)
        if line not in COUNTED
    )
    if (data.events.amt > 0).any():
        notes += (f"doses of {data.events.source} are not used: patients get the schedule's",)
    if not set(COUNTED) & set(lines):
        raise DataError(
            where=data.events.source,
            what="has no counts that a forecast can learn from",
            allowed=", ".join(COUNTED),
            remedy='name a column ANC, PLT or WBC, in Python also lines={1: "neutrophils"}',
        )
    notes += blood_blasts_notes(data.events.source, lines, data.lines, data.units)
    for b, label in enumerate(np.asarray(data.subjects).tolist()):
        kept = np.array(
            [k for k in np.flatnonzero(seen.subject == b) if lines[seen.line[k]] in COUNTED], int
        )
        line = tuple(lines[seen.line[k]] for k in kept)
        value, censored = seen.value[kept].copy(), seen.censored[kept].copy()
        where = f"{data.events.source}, patient {label}"
        notes += percent_notes(where, label, line, value)
        refuse_more_than_all(where, line, seen.time[kept] / 24.0, value, censored)
        lower = seen.lower[kept].copy()
        for k in np.flatnonzero((value <= 0) & (censored == NOT_CENSORED)):
            value[k], censored[k], lower[k] = limits.get(line[k], 0.1), BELOW, 0.0
        time = seen.time[kept] / 24.0
        if to_begin:
            _check_times(data.events.source, label, time)
        if (time < 0.0).any():
            early.append(f"{label} (from day {int(np.floor(time.min())) + 1})")
        mine = Seen(
            label, line, np.maximum(time, 0.0), value, censored, lower,
            dict(bodies.get(label, {})), doses.get(label, ()),
        )  # fmt: skip
        found.append(mine.taken(np.argsort(mine.time, kind="stable")))
        notes += tuple(slips(label, found[-1].line, found[-1].time, found[-1].value))
    if early:
        patients = f"patient{'s' if len(early) > 1 else ''} {', '.join(early)}"
        notes += (f"counts before day 1 count as those of its start: {patients}; {DAY_ZERO}",)
    return tuple(found), notes


def _check_times(source: str, label: Any, time: Floats) -> None:
    """Refuse a patient of whom nothing is known on treatment."""
    if not time.size:
        what, remedy = "has no count", "leave the patient out"
    elif (time <= 0).all():
        what = "has counts before the first dose only"
        remedy = "give counts on treatment, or compare schedules (in Python pkpd.simulate)"
    else:
        return
    raise DataError(where=f"{source}, patient {label}", what=what, remedy=remedy)


def chosen(seen: Sequence[Seen], label: Any) -> Seen:
    """Find a patient by its label.

    Raises
    ------
    DataError
        If there is none.
    """
    for one in seen:
        if one.label == label or str(one.label) == str(label):
            return one
    raise DataError(
        where="patients",
        what=f"there is no patient {label!r}",
        allowed=", ".join(str(one.label) for one in seen[:10]),
    )
