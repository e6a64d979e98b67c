"""Series of neutrophils counted every day after transplantation: reading, recovery, landmarks.

A series is read from ``PREFIX_counts.csv`` (patient, transplant, day, neutrophils, limit) and
``PREFIX_patients.csv`` (patient, transplant, source). Day 0 is that of the graft.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import DataError

SOURCES = ("PBSC_unmodified", "TCD", "BM_unmodified", "cord")
"""Blood, blood with T cells depleted, marrow, cord blood."""

SOURCE_WORDS = dict(zip(SOURCES, ("blood", "TCD", "marrow", "cord"), strict=True))
LANDMARKS = (5, 8, 10, 12, 14, 16, 18, 21, 25)
LAST_DAY = 45
LATER = LAST_DAY + 1
"""Stands for all days after the last one that is forecast."""

RECOVERED = 0.5
"""Neutrophils (10^9/L) of a marrow that has recovered."""

NO_CELLS, NO_DIFFERENTIAL, MEASURED, ALWAYS_MEASURED = range(4)
"""State of recording of a day: total leucocytes below 0.1; no differential; a count; a count in a
series that was counted whatever it was."""

_FEW = 0.15  # limits below it say that hardly a leucocyte was seen
_NO_NEWS = 1.0  # limits above it are of totals without a differential and say nothing
_IN_A_ROW = 3
_RECENT = 2  # days within which a forecast needs a count
_FOLDS = 3


class Awaited(Protocol):
    """A patient whose day of recovery is forecast on some days; see `Series`."""

    @property
    def patient(self) -> str:
        """Name, by which folds are split."""
        ...

    @property
    def key(self) -> tuple[str, str]:
        """Key in forecasts, before the day."""
        ...

    @property
    def outcome(self) -> int | None:
        """Day of recovery; None if not known."""
        ...

    @property
    def landmarks(self) -> tuple[int, ...]:
        """Days of forecasts."""
        ...


Patient = TypeVar("Patient", bound=Awaited)


@dataclass(frozen=True, eq=False)
class Series:
    """Counts of one transplantation.

    Attributes
    ----------
    patient, transplant
        Its key.
    source
        Of the graft.
    days : int[D]
        Days of the counts, ascending; day 0 is that of the graft.
    counts : float[D]
        Neutrophils, 10^9/L; the limit where ``limited``.
    limited : bool[D]
        The count is at most this.
    always : bool
        Counts were made whatever the number of leucocytes.
    """

    patient: str
    transplant: str
    source: str
    days: NDArray[np.int64]
    counts: NDArray[np.float64]
    limited: NDArray[np.bool_]
    always: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Patient and transplant."""
        return self.patient, self.transplant

    @cached_property
    def low(self) -> NDArray[np.bool_]:
        """Whether each count from day 0 on is below recovery."""
        return (self.limited | (self.counts < RECOVERED))[self.days >= 0]

    @cached_property
    def recovery(self) -> int | None:
        """First of three successive counts of 0.5 or more after the longest stretch below it."""
        days, low = self.days[self.days >= 0], self.low
        longest, end, run = 0, -1, 0
        for i, is_low in enumerate(low):
            run = run + 1 if is_low else 0
            if run > longest:
                longest, end = run, i
        if end < 0:
            return None
        for i in range(end + 1, len(days) - _IN_A_ROW + 1):
            if not low[i : i + _IN_A_ROW].any():
                return int(days[i])
        return None

    @cached_property
    def outcome(self) -> int | None:
        """Day of recovery, at most `LATER`, which it is, too, if none is seen by day 40.

        None if that is not known, or no count is below recovery.
        """
        if self.recovery is not None:
            return min(self.recovery, LATER)
        return LATER if self.low.any() and self.days[-1] >= LAST_DAY - 5 else None

    @cached_property
    def landmarks(self) -> tuple[int, ...]:
        """Days of forecasts: before recovery, and with a count on the day or the day before."""
        end = self.days[-1] if self.recovery is None else self.recovery
        return tuple(
            day
            for day in LANDMARKS
            if day < end and ((self.days > day - _RECENT) & (self.days <= day)).any()
        )

    @cached_property
    def recorded(self) -> Recorded:
        """What a model of days 0 to 45 is told."""
        kept = (self.days >= 0) & (self.days <= LAST_DAY)
        kept &= ~(self.limited & (self.counts > _NO_NEWS))
        counts = self.counts[kept]
        below = np.where(counts < _FEW, NO_CELLS, NO_DIFFERENTIAL)
        kinds = np.where(self.limited[kept], below, ALWAYS_MEASURED if self.always else MEASURED)
        return Recorded(self.days[kept], kinds.astype(np.int64), counts)


@dataclass(frozen=True, eq=False)
class Recorded:
    """Days of a series with their states of recording.

    Attributes
    ----------
    days : int[D]
        From day 0.
    kinds : int[D]
        `NO_CELLS`, `NO_DIFFERENTIAL`, `MEASURED` or `ALWAYS_MEASURED`.
    counts : float[D]
        10^9/L, read where measured.
    """

    days: NDArray[np.int64]
    kinds: NDArray[np.int64]
    counts: NDArray[np.float64]


def read_series(prefix: str | Path) -> list[Series]:
    """Read the two files of a prefix.

    Raises
    ------
    FileNotFoundError
        If one is not there.
    DataError
        If a row cannot be used; the message names file, row, column and value.
    """
    sources = _sources(Path(f"{prefix}_patients.csv"))
    path = Path(f"{prefix}_counts.csv")
    found: dict[tuple[str, str], dict[int, tuple[float, bool]]] = {}
    needed = ("patient", "transplant", "day", "neutrophils", "limit")
    for number, row in table_rows(path, needed):
        key = row["patient"], row["transplant"]
        if key not in sources:
            raise refused(path, number, "patient", ", transplant ".join(key),
                           "a transplant of the file of patients")  # fmt: skip
        day = _day(path, number, row["day"])
        if row["limit"] not in ("=", "<="):
            raise refused(path, number, "limit", row["limit"], '"=" (measured) or "<=" (at most)')
        if day in found.setdefault(key, {}):
            raise refused(path, number, "day", row["day"], "each day of a transplant once")
        found[key][day] = _count(path, number, row["neutrophils"]), row["limit"] == "<="
    return [_series(*key, sources[key], counts) for key, counts in found.items()]


def read_cytokines(path: Path) -> list[Series]:
    """Read granulocytes of patients counted whatever the count; none where there is no file.

    Raises
    ------
    DataError
        As of `read_series`; a day may lack granulocytes.
    """
    found: dict[str, dict[int, float]] = {}
    if path.is_file():
        needed, may_lack = ("patient", "day", "granulocytes"), ("granulocytes",)
        for number, row in table_rows(path, needed, may_lack):
            if row["granulocytes"]:
                count = _count(path, number, row["granulocytes"], "granulocytes")
                own, day = found.setdefault(row["patient"], {}), _day(path, number, row["day"])
                if day in own:
                    raise refused(path, number, "day", row["day"], "each day of a patient once")
                own[day] = count
    return [_always_counted(patient, counts) for patient, counts in found.items()]


def _always_counted(patient: str, counts: Mapping[int, float]) -> Series:
    days = np.array(sorted(counts))
    values = np.array([counts[day] for day in days])
    return Series(patient, "1", "cytokines", days, values, np.zeros(len(days), bool), always=True)


def folds(series: Iterable[Patient]) -> Iterator[tuple[list[Patient], list[Patient]]]:
    """Yield three times those to learn from and those to forecast, split by patient."""
    series = list(series)
    place = {patient: i % _FOLDS for i, patient in enumerate(sorted({s.patient for s in series}))}
    for fold in range(_FOLDS):
        yield (
            [s for s in series if place[s.patient] != fold],
            [s for s in series if place[s.patient] == fold],
        )


def _series(
    patient: str, transplant: str, source: str, by_day: dict[int, tuple[float, bool]]
) -> Series:
    days = sorted(by_day)
    counts, limited = zip(*(by_day[day] for day in days), strict=True)
    return Series(
        patient, transplant, source, np.array(days), np.array(counts), np.array(limited, dtype=bool)
    )


def _sources(path: Path) -> dict[tuple[str, str], str]:
    found = {}
    for number, row in table_rows(path, ("patient", "transplant", "source")):
        if row["source"] not in SOURCES:
            raise refused(path, number, "source", row["source"], ", ".join(SOURCES))
        if (row["patient"], row["transplant"]) in found:
            raise refused(path, number, "transplant", row["transplant"], "each transplant once")
        found[row["patient"], row["transplant"]] = row["source"]
    return found


def table_rows(
    path: Path, needed: tuple[str, ...], may_lack: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their numbers in the file, the header's being 1; fields that lack are empty."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            table = csv.DictReader(file)
            missing = [name for name in needed if name not in (table.fieldnames or ())]
            if missing:
                what = f"no column {missing[0]!r}"
                raise DataError(where=f"{path}", what=what, allowed=", ".join(needed))
            for number, row in enumerate(table, 2):
                for name in needed:
                    if name not in may_lack and not (row[name] or "").strip():
                        raise refused(path, number, name, row[name] or "", "no empty field")
                yield number, {name: (row[name] or "").strip() for name in needed}
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(where=f"{path}", what=f"no table ({error})") from None


def _day(path: Path, number: int, text: str) -> int:
    try:
        day = int(text)
    except ValueError:
        day = None
    if day is None or abs(day) > 10_000:
        raise refused(path, number, "day", text, "a whole number, 0 the day of the graft")
    return day


def _count(path: Path, number: int, text: str, column: str = "neutrophils") -> float:
    try:
        count = float(text)
    except ValueError:
        count = math.nan
    if not 0.0 <= count <= 1000.0:
        raise refused(path, number, column, text, "a count in 10^9/L, from 0 to 1000")
    return count


def refused(path: Path, number: int, column: str, value: str, allowed: str) -> DataError:
    """Make the error of a field that cannot be used."""
    shown = value if len(value) <= 40 else f"{value[:40]}..."
    return DataError(
        where=f"{path}, row {number}, column {column}", what=f"{shown!r}", allowed=allowed
    )
