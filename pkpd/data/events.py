"""Event records of subjects, with the meaning NONMEM gives to them.

An :class:`EventTable` holds the records as they were written (nothing expanded, nothing sorted),
padded to one shape ``[subject, record]``. Which doses follow from ``ADDL`` and ``SS`` is worked
out in :mod:`pkpd.data.expand`; amounts are computed in :mod:`pkpd.solve.events.advance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from pkpd.data.faults import Faults
from pkpd.data.shared_ids import refuse_out_of_order
from pkpd.errors import DataError

OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)
ACTING = (DOSE, RESET, RESET_AND_DOSE)
MODELLED_RATE = -1.0
MODELLED_DURATION = -2.0
MOST = 10**9
"""Largest number of a compartment and of further doses."""

# `row` of padding, and of records that no source row stands for
PADDING, INSERTED = -1, -2

_EVID_MEANING = "0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose"
_EVID_REMEDY = "correct it (codes above 99, as of RxODE, must be translated to these first)"
_DEFAULTS: dict[str, float] = {
    "evid": 0.0,
    "amt": 0.0,
    "rate": 0.0,
    "ii": 0.0,
    "addl": 0.0,
    "ss": 0.0,
    "cmt": 0.0,
}


@dataclass(frozen=True, eq=False)
class EventTable:
    """Event records of all subjects, padded to ``[B subjects, N records]``.

    Attributes
    ----------
    subject
        Labels, shape [B].
    time
        Hours, [B, N]; padding repeats the subject's last time.
    evid, cmt, addl, ss
        Integers, [B, N]; ``cmt`` counts from 1, 0 means the default compartment.
    amt
        Dose amount (mg), [B, N].
    rate
        Infusion rate (mg/h); 0 bolus, -1 modelled rate (R), -2 modelled duration (D), [B, N].
    ii
        Dosing interval (h), [B, N].
    row
        Row of the source the record came from (0-based); -1 in the padding, -2 for a record that
        was inserted, [B, N].
    source
        Name of the source, used in messages.
    numbers
        What the source calls its rows (2, 3, ... for a CSV file with a header line), [rows].
    """

    subject: np.ndarray
    time: np.ndarray
    evid: np.ndarray
    cmt: np.ndarray
    amt: np.ndarray
    rate: np.ndarray
    ii: np.ndarray
    addl: np.ndarray
    ss: np.ndarray
    row: np.ndarray
    numbers: np.ndarray
    source: str = "event table"

    def __repr__(self) -> str:
        """Tell source and size in a line."""
        size = f"{len(self.subject)} subjects, {int(self.valid.sum())} records"
        return f"EventTable({self.source}: {size})"

    @classmethod
    def from_columns(
        cls,
        subject: Sequence[Any] | np.ndarray,
        time: Sequence[float] | np.ndarray,
        *,
        source: str = "event table",
        numbers: Sequence[int] | np.ndarray | None = None,
        described: Mapping[str, np.ndarray] | None = None,
        **columns: Sequence[float] | np.ndarray | None,
    ) -> EventTable:
        """Build and check a table from record-wise columns of equal length.

        Parameters
        ----------
        subject, time
            Subject label and time (h) of each record. Records of a subject are contiguous.
        source, numbers
            How messages name the source and its rows; rows are counted from 0 by default.
        described
            Texts by column that describe the subject at each record: where they contradict each
            other, a message on records out of order says so.
        **columns
            ``evid, amt, rate, ii, addl, ss, cmt``; those left out are 0 on every record.

        Raises
        ------
        DataError
            If a record has no meaning; the message names the row, subject and column.

        Examples
        --------
        >>> table = EventTable.from_columns(
        ...     [1, 1, 1], [0.0, 4.0, 24.0], evid=[1, 0, 0], amt=[100, 0, 0], cmt=[1, 2, 2])
        >>> table.time.shape
        (1, 3)
        """
        unknown = sorted(set(columns) - set(_DEFAULTS))
        if unknown:
            raise DataError(
                where=source,
                what=f"'{unknown[0]}' is not an event column",
                allowed=", ".join(_DEFAULTS),
            )
        labels = np.asarray(subject)
        names = np.arange(len(labels)) if numbers is None else np.asarray(numbers)
        values = {"time": _numeric(time, "time", source, names)}
        for name, default in _DEFAULTS.items():
            given = columns.get(name)
            values[name] = (
                np.full(len(labels), default)
                if given is None
                else _numeric(given, name, source, names)
            )
        for name, column in values.items():
            if len(column) != len(labels):
                raise DataError(
                    where=f"{source}, column {name.upper()}",
                    what=f"has {len(column)} values for {len(labels)} records",
                    remedy="give one value per record",
                )
        blocks = _blocks(labels, source)
        _check_records(labels, values, source, names)

        def place(i: int, column: str) -> str:
            return _place(source, names, i, labels[i], column)

        refuse_out_of_order(labels, values["time"], values["evid"], described or {}, place, names)
        width = max((stop - start for _, start, stop in blocks), default=0)
        padded = {name: np.zeros((len(blocks), width)) for name in values}
        row = np.full((len(blocks), width), PADDING, dtype=np.int64)
        for b, (_, start, stop) in enumerate(blocks):
            size = stop - start
            row[b, :size] = np.arange(start, stop)
            for name, column in values.items():
                padded[name][b, :size] = column[start:stop]
            padded["time"][b, size:] = padded["time"][b, size - 1]
        integers = {k: padded.pop(k).astype(np.int64) for k in ("evid", "cmt", "addl", "ss")}
        return cls(
            subject=np.array([label for label, _, _ in blocks]),
            row=row,
            source=source,
            numbers=names,
            **padded,
            **integers,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of subjects and of records after padding."""
        return self.time.shape

    @property
    def valid(self) -> np.ndarray:
        """True for records, False for padding, [B, N]."""
        return self.row != PADDING

    @cached_property
    def is_dose(self) -> np.ndarray:
        """True for records that give a dose (EVID 1 or 4), [B, N]."""
        return self.valid & np.isin(self.evid, (DOSE, RESET_AND_DOSE))

    @cached_property
    def is_reset(self) -> np.ndarray:
        """True for records that reset the system (EVID 3 or 4), [B, N]."""
        return self.valid & np.isin(self.evid, (RESET, RESET_AND_DOSE))

    @cached_property
    def period(self) -> np.ndarray:
        """Number of the period between resets (EVID 3 or 4) that a record belongs to, [B, N].

        The clock of a subject may start again with each.
        """
        return np.cumsum(self.is_reset, axis=1)

    @cached_property
    def starts(self) -> np.ndarray:
        """True where amounts, infusions and pending doses of earlier records end, [B, N].

        That is the first record of a subject, a reset (EVID 3 or 4), and a steady-state dose
        with SS = 1, which replaces what was there and cancels what was pending.
        """
        first = np.zeros(self.shape, dtype=bool)
        first[:, :1] = True
        return self.valid & (first | self.is_reset | (self.is_dose & (self.ss == 1)))

    @cached_property
    def segment(self) -> np.ndarray:
        """Number of the stretch between starts that a record belongs to, [B, N]."""
        return np.cumsum(self.starts, axis=1) - 1

    @cached_property
    def segment_end(self) -> np.ndarray:
        """Time of the last record in the record's segment, [B, N]."""
        end = self.time.copy()
        for n in range(self.shape[1] - 2, -1, -1):
            same = self.segment[:, n] == self.segment[:, n + 1]
            end[:, n] = np.where(same, end[:, n + 1], end[:, n])
        return end

    def place(self, subject: int, record: int, column: str | None = None) -> str:
        """Words for a record's place in the source, for messages."""
        return _place(
            self.source,
            self.numbers,
            int(self.row[subject, record]),
            self.subject[subject],
            column,
        )

    def to_rows(self, values: np.ndarray) -> np.ndarray:
        """Put ``values[B, N, ...]`` back into the order of the source's rows."""
        values = np.asarray(values)
        read = self.row >= 0
        out = np.zeros((int(self.row.max()) + 1, *values.shape[2:]), dtype=values.dtype)
        out[self.row[read]] = values[read]
        return out

    def from_rows(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Arrange one value per source row as [B, N]; padding repeats the last record."""
        values = np.asarray(values)
        last = self.valid.sum(axis=1) - 1
        row = np.where(self.valid, self.row, self.row[np.arange(len(last)), last][:, None])
        return values[row]

    def subset(self, subjects: Sequence[int] | np.ndarray) -> EventTable:
        """Return the table of some subjects (by position), in the order given."""
        index = np.asarray(subjects)
        kept = ("subject", "time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss", "row")
        return replace(self, **{name: getattr(self, name)[index] for name in kept})


def _numeric(column: Any, name: str, source: str, numbers: np.ndarray) -> np.ndarray:
    """Return a float column, or say which row is not a number."""
    try:
        return np.asarray(column, dtype=float)
    except (TypeError, ValueError):
        for i, value in enumerate(column):
            try:
                float(value)
            except (TypeError, ValueError):
                raise DataError(
                    where=f"{source}, row {numbers[i]}, column {name.upper()}",
                    what=f"{value!r} is not a number",
                    remedy="write a number, or '.' for a missing value when reading a file",
                ) from None
        raise


def _place(source: str, numbers: np.ndarray, row: int, subject: Any, column: str | None) -> str:
    at = f"row {numbers[row]}" if row >= 0 else "a record that was added"
    where = f"{source}, {at}, ID {subject}"
    return where if column is None else f"{where}, column {column.upper()}"


def _blocks(labels: np.ndarray, source: str) -> list[tuple[Any, int, int]]:
    """Return (label, start, stop) of each subject's contiguous records."""
    if len(labels) == 0:
        raise DataError(where=source, what="holds no records", remedy="give some")
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    bounds = [0, *edges.tolist(), len(labels)]
    return [(labels[a], a, b) for a, b in pairwise(bounds)]


def _check_records(
    labels: np.ndarray,
    v: dict[str, np.ndarray],
    source: str,
    numbers: np.ndarray,
) -> None:
    """Raise on records that have no meaning."""
    faults = Faults()

    def refuse(bad: np.ndarray, column: str, what: str, allowed: str | None, remedy: str) -> None:
        for i in np.flatnonzero(bad).tolist():
            told = what.format(value=f"{v[column][i]:g}", **{k: f"{v[k][i]:g}" for k in v})
            where = _place(source, numbers, i, labels[i], column)
            error = DataError(where=where, what=told, allowed=allowed, remedy=remedy)
            faults.add((column, what), error, numbers[i])

    for name in v:
        refuse(
            ~np.isfinite(v[name]),
            name,
            "{value} is not a finite number",
            None,
            "give a finite number",
        )
    faults.refuse()  # nothing else can be said of such records
    evid = v["evid"]
    refuse(~np.isin(evid, range(5)), "evid", "{value} is no event", _EVID_MEANING, _EVID_REMEDY)
    for name in ("cmt", "addl", "ss"):
        refuse(
            v[name] != np.round(v[name]),
            name,
            "{value} is not a whole number",
            None,
            "give a whole number",
        )
        refuse(
            np.abs(v[name]) > MOST,
            name,
            "{value} is too large",
            f"at most {MOST:,} in size",
            "correct it",
        )
    faults.refuse()
    dose = np.isin(evid, (DOSE, RESET_AND_DOSE))
    refuse(
        v["cmt"] < 0,
        "cmt",
        "{value} would switch a compartment off, which is not supported",
        "0 (default) or a compartment number from 1",
        "use an EVID 3 record or another model",
    )
    refuse(v["amt"] < 0, "amt", "the amount {value} is negative", "0 or more", "correct it")
    for name in ("amt", "rate", "ii", "addl", "ss"):
        refuse(
            ~dose & (v[name] != 0),
            name,
            "{value} on a record with EVID {evid}, which is no dose",
            "0",
            "set EVID to 1 if a dose was given, or clear the value",
        )
    refuse(
        dose & (v["rate"] < 0) & ~np.isin(v["rate"], (MODELLED_RATE, MODELLED_DURATION)),
        "rate",
        "{value} is no rate",
        "0, a positive rate, -1 (modelled rate), -2 (modelled duration)",
        "correct it",
    )
    refuse(
        ~np.isin(v["ss"], (0, 1, 2)),
        "ss",
        "{value} is no steady-state code",
        "0 no, 1 replace what is there, 2 add to what is there",
        "correct it",
    )
    refuse(v["ii"] < 0, "ii", "the dosing interval {value} is negative", "0 or more", "correct it")
    refuse(
        v["addl"] < 0, "addl", "{value} additional doses", "0 or more", "use SS for a steady state"
    )
    constant = dose & (v["amt"] == 0)
    refuse(
        constant & ~((v["ss"] > 0) & ((v["rate"] > 0) | (v["rate"] == MODELLED_RATE))),
        "amt",
        "a dose record with amount 0",
        "a positive amount, or 0 with SS and RATE for a constant infusion at steady state",
        "give the amount, or set EVID to 2",
    )
    refuse(
        constant & (v["ii"] > 0),
        "ii",
        "a constant infusion at steady state has no dosing interval, here {value}",
        "0",
        "clear II, or give the amount of each infusion",
    )
    refuse(
        dose & (v["ss"] > 0) & (v["amt"] > 0) & (v["ii"] == 0),
        "ii",
        "a steady-state dose (SS {ss}) needs a dosing interval, here {value}",
        "more than 0",
        "give II in hours",
    )
    refuse(
        (v["addl"] > 0) & (v["ii"] == 0),
        "ii",
        "{addl} additional doses need a dosing interval, here {value}",
        "more than 0",
        "give II in hours",
    )
    faults.refuse()
