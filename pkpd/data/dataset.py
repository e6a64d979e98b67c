"""A data set: subjects with their events, observations and covariates."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pkpd.arguments import check_arguments, one_of
from pkpd.data.events import (
    DOSE,
    INSERTED,
    MODELLED_DURATION,
    MODELLED_RATE,
    OBSERVATION,
    OTHER,
    PADDING,
    EventTable,
)
from pkpd.errors import DataError

NOT_CENSORED, BELOW, ABOVE = 0, 1, -1


@dataclass(frozen=True, eq=False)
class Observations:
    """Measured values, one entry per observation, [M].

    Attributes
    ----------
    subject, record
        Place in the event table: prediction ``[subject, record]`` belongs to the observation.
    time
        Hours.
    line
        Index into ``Dataset.lines``.
    value
        The measurement, or the limit it is known to lie below (``censored`` 1) or above (-1).
    censored
        0 measured, 1 below the limit, -1 above it.
    lower
        For a value below the limit: what it is known to be at least (LIMIT), -inf if nothing.
    row
        Row of the source (0-based).
    """

    subject: np.ndarray
    record: np.ndarray
    time: np.ndarray
    line: np.ndarray
    value: np.ndarray
    censored: np.ndarray
    lower: np.ndarray
    row: np.ndarray

    def __repr__(self) -> str:
        """Tell how many there are."""
        return f"Observations({len(self)})"

    def __len__(self) -> int:
        """Return the number of observations."""
        return len(self.value)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Subjects, events, observations, and covariates.

    Attributes
    ----------
    events
        Event records, [B, N].
    observations
        Measured values.
    lines
        Names of what was observed ("neutrophils", "concentration", ...).
    covariates
        Name to values at the records, [B, N].
    occasion
        Occasion number (from 0) of each record, [B, N]; None if there is no such column.
    notes
        Sentences on what the reader decided (time unit, missing covariates filled, rows left out,
        ...).
    units
        Unit of doses ("AMT"), lines and covariates, where one was declared.
    words
        Of a covariate that the source gives in words (male, female): those, in the order of the
        numbers that stand for them, from 0.
    time_unit
        Unit that was declared for TIME in the source; times here are hours.
    """

    events: EventTable
    observations: Observations
    lines: tuple[str, ...]
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)
    occasion: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time_unit: str | None = None

    def __repr__(self) -> str:
        """Tell source and size in a line; `summary` has more."""
        events = self.events
        words = [
            f"{len(self.subjects)} subjects",
            f"{int(events.is_dose.sum())} dose records",
            f"{len(self.observations)} observations of {', '.join(self.lines) or 'nothing'}",
            *([f"covariates {', '.join(self.covariates)}"] if self.covariates else []),
        ]
        return f"Dataset({events.source}: {', '.join(words)})"

    def _repr_html_(self) -> str:
        """Summary for notebooks."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    @property
    def subjects(self) -> np.ndarray:
        """Labels, [B]."""
        return self.events.subject

    def word(self, name: str, value: float) -> str:
        """Write a value of a covariate as the source does: its word, or the number."""
        words = self.words.get(name, ())
        return words[int(value)] if value in range(len(words)) else f"{value:g}"

    def numbered_as(self, other: Dataset) -> Dataset:
        """Give words of covariates (male, female) the numbers that another data set gave them.

        A source numbers the words that are in it: a man alone is 0, a man beside women 1.

        Raises
        ------
        DataError
            If the other has no such word, or numbers where this one has words, or words where this
            one has numbers.
        """
        return with_numbers_of(self, other)

    def constant(self, name: str) -> bool:
        """Tell whether a covariate keeps its value within every subject."""
        values = self.covariates[name]
        return bool(np.all((values == values[:, :1]) | ~self.events.valid))

    def summary(self) -> str:
        """Say in a few lines what was understood of the data."""
        events, seen = self.events, self.observations
        doses = events.is_dose
        per = np.bincount(seen.subject, minlength=len(self.subjects))
        text = [
            f"{events.source}: {len(self.subjects)} subjects, {int(events.valid.sum())} records, "
            f"{events.time[events.valid].min():g} to {events.time[events.valid].max():g} h",
            f"doses{self._unit('AMT').replace(' ', ' in ')}: {int(doses.sum())} records"
            + self._dose_words(doses),
            f"observations: {len(seen)} ({per.min()} to {per.max()} per subject)",
        ]
        for i, name in enumerate(self.lines):
            mine = seen.line == i
            below, above = (int(np.sum(seen.censored[mine] == c)) for c in (BELOW, ABOVE))
            measured = seen.value[mine & (seen.censored == NOT_CENSORED)]
            span = f", {measured.min():g} to {measured.max():g}" if len(measured) else ""
            limits = "".join(
                f", {count} {word} the limit ({count / max(int(mine.sum()), 1):.0%})"
                for count, word in ((below, "below"), (above, "above"))
                if count
            )
            who = len(np.unique(seen.subject[mine]))
            text.append(
                f"  {name}: {int(mine.sum())}{span}{self._unit(name)}{limits}, in {who} subjects"
            )
        for name, values in self.covariates.items():
            kind = "constant" if self.constant(name) else "changes over time"
            used = values[events.valid]
            text.append(
                f"covariate {name}: {used.min():g} to {used.max():g}{self._unit(name)}, {kind}"
            )
        if self.occasion is not None:
            text.append(f"occasions: up to {int(self.occasion.max()) + 1} per subject")
        others = int(np.sum(events.valid & (events.evid == OTHER)))
        resets = int(events.is_reset.sum())
        if others or resets:
            text.append(f"other records: {others} of EVID 2, {resets} resets")
        without = [str(self.subjects[b]) for b in np.flatnonzero(per == 0)]
        if without and len(seen):
            text.append(f"without observations: subjects {', '.join(without[:10])}" + more(without))
        untreated = [str(self.subjects[b]) for b in np.flatnonzero(~np.any(doses, axis=1))]
        if untreated:
            text.append(f"without doses: subjects {', '.join(untreated[:10])}" + more(untreated))
        text += list(self.notes)
        return "\n".join(text)

    def _unit(self, name: str) -> str:
        return f" {self.units[name]}" if name in self.units else ""

    def at_times(
        self,
        times_h: Sequence[float] | np.ndarray | Mapping[Any, Sequence[float]],
        lines: Sequence[str] | None = None,
        carry: Literal["backward", "forward"] = "backward",
    ) -> Dataset:
        """Keep doses and covariates, and ask for predictions at other times.

        Parameters
        ----------
        times_h
            Hours, the same for all subjects, or by subject label (no predictions for those left
            out). At the time of a dose the prediction is the one after it.
        lines
            Lines to predict at each of these times; by default all of this data set's.
        carry
            That of the model's event options. Between records, covariates and occasions are those
            of the record that follows (``"backward"``, NONMEM's way), or of the one before.

        Returns
        -------
        Dataset
            Observations are ordered by subject, time and line; their values are NaN. The course
            of the subject is unchanged; after the last record covariates are those of the last.

        Raises
        ------
        DataError
            For a time that is not finite, a subject that is not there, or one with predictions
            whose time runs backwards at a reset.
        """
        check_arguments("at_times", carry=(carry, one_of("backward", "forward")))
        return with_times(self, times_h, lines, forward=carry == "forward")

    def subset(self, subjects: Sequence[Any] | np.ndarray) -> Dataset:
        """Return the data of some subjects, by label, in the order given.

        Raises
        ------
        DataError
            If there is no subject of that label.
        """
        places = [place_of(self, label) for label in subjects]
        if not places:
            raise DataError(where=self.events.source, what="no subject was asked for")
        return of_subjects(self, np.array(places))

    def _dose_words(self, doses: np.ndarray) -> str:
        events = self.events
        if not np.any(doses):
            return ""
        rate = events.rate
        counts = {
            "bolus": doses & (rate == 0),
            "infusion": doses & (rate > 0),
            "modelled rate": doses & (rate == MODELLED_RATE),
            "modelled duration": doses & (rate == MODELLED_DURATION),
            "steady state": doses & (events.ss > 0),
            "with additional doses": doses & (events.addl > 0),
            "reset and dose": doses & (events.evid != DOSE),
        }
        words = [f"{int(mask.sum())} {name}" for name, mask in counts.items() if np.any(mask)]
        total = int(doses.sum() + events.addl[doses].sum())
        where = sorted({int(c) for c in events.cmt[doses]})
        into = ", ".join("default" if c == 0 else str(c) for c in where)
        return f", {total} doses in all ({', '.join(words)}), into compartment {into}"


def more(names: Sequence[str]) -> str:
    """Words for names that were not listed after the first ten."""
    return f" and {len(names) - 10} more" if len(names) > 10 else ""


def place_of(data: Dataset, label: Any) -> int:
    """Position of a subject."""
    found = np.flatnonzero(data.subjects == label)
    if not len(found):
        known = [str(s) for s in data.subjects]
        raise DataError(
            where=data.events.source,
            what=f"there is no subject {label!r}",
            allowed=", ".join(known[:10]) + more(known),
        )
    return int(found[0])


def with_numbers_of(data: Dataset, other: Dataset) -> Dataset:
    """See `Dataset.numbered_as`."""
    found = dict(data.covariates)
    for name in data.covariates.keys() & other.covariates.keys():
        mine, theirs = data.words.get(name), other.words.get(name)
        if mine == theirs:
            continue
        unknown = sorted(set(mine or ()) - set(theirs or ()))
        if mine is None or theirs is None or unknown:
            has = f"the word {unknown[0]}" if mine and theirs else "words" if mine else "numbers"
            raise DataError(
                where=f"{data.events.source}, covariate {name}",
                what=f"it has {has}, and {other.events.source} has not",
                allowed=", ".join(theirs or ("numbers",)),
                remedy="write them as there",
            )
        places = np.array([theirs.index(word) for word in mine], dtype=float)
        found[name] = places[found[name].astype(int)]
    words = {**data.words, **{name: other.words[name] for name in found if name in other.words}}
    return replace(data, covariates=found, words=words)


def of_subjects(data: Dataset, places: np.ndarray) -> Dataset:
    """Take subjects at these positions; one may be taken twice."""
    seen = data.observations
    rows = [np.flatnonzero(seen.subject == b) for b in places]
    index = np.concatenate(rows)
    columns = {name: getattr(seen, name)[index] for name in Observations.__dataclass_fields__}
    columns["subject"] = np.repeat(np.arange(len(places)), [len(r) for r in rows])
    return replace(
        data,
        events=data.events.subset(places),
        observations=Observations(**columns),
        covariates={name: values[places] for name, values in data.covariates.items()},
        occasion=None if data.occasion is None else data.occasion[places],
    )


def observed_lines(data: Dataset) -> Dataset:
    """Leave out lines of which there is no observation; those left keep their order."""
    seen = data.observations
    found, line = np.unique(seen.line, return_inverse=True)
    if len(found) == len(data.lines):
        return data
    return replace(
        data,
        lines=tuple(data.lines[k] for k in found),
        observations=replace(seen, line=line.astype(np.int64)),
    )


def with_times(
    data: Dataset, times_h: Any, lines: Sequence[str] | None, *, forward: bool
) -> Dataset:
    """See `Dataset.at_times`."""
    events, n_subjects = data.events, len(data.subjects)
    names = data.lines if lines is None else tuple(lines)
    if isinstance(times_h, Mapping):
        wanted = [np.zeros(0)] * n_subjects
        for label, times in times_h.items():
            wanted[place_of(data, label)] = np.unique(np.asarray(times, dtype=float))
    else:
        wanted = [np.unique(np.asarray(times_h, dtype=float))] * n_subjects
    orders, at = [], []
    for b, times in enumerate(wanted):
        own = events.time[b, events.valid[b]]
        if len(times) and (not np.all(np.isfinite(times)) or np.any(np.diff(own) < 0)):
            raise DataError(
                where=f"{events.source}, ID {data.subjects[b]}",
                what="predictions are asked for at a time that is not finite"
                if np.all(np.diff(own) >= 0)
                else "time runs backwards at a reset, so a time has no single place",
                remedy="give finite hours, or bind the model to the records themselves",
            )
        # new records come after those of the same time; a clock that starts again stays as it is
        order = np.concatenate([own, times])
        order = np.argsort(order, kind="stable") if len(times) else np.arange(len(own))
        orders.append(order)
        at.append(np.flatnonzero(order >= len(own)))
    width = max(len(order) for order in orders)
    holder = np.zeros((n_subjects, width), dtype=np.int64)
    new = np.zeros((n_subjects, width), dtype=bool)
    time = np.zeros((n_subjects, width))
    for b, order in enumerate(orders):
        size, own = len(order), int(events.valid[b].sum())
        new[b, :size] = order >= own
        time[b, :size] = np.concatenate([events.time[b, :own], wanted[b]])[order]
        time[b, size:] = time[b, size - 1]
        # a new record takes covariates of an old one at its time, else of the one that follows, or
        # carried forward of the one before
        before = np.searchsorted(events.time[b, :own], wanted[b], side="right") - 1
        there = (before >= 0) & (events.time[b, np.maximum(before, 0)] == wanted[b])
        held = np.where(there | forward, np.maximum(before, 0), before + 1)
        holder[b, :size] = np.concatenate([np.arange(own), np.minimum(held, own - 1)])[order]
        holder[b, size:] = own - 1
    padding = np.arange(width) >= np.array([len(order) for order in orders])[:, None]

    def take(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, holder, axis=1)

    blank = new | padding
    columns = {
        name: np.where(blank, 0, take(getattr(events, name)))
        for name in ("amt", "rate", "ii", "addl", "ss", "cmt")
    }
    kept = np.where(new, INSERTED, np.where(padding, PADDING, take(events.row)))
    table = replace(
        events,
        time=time,
        evid=np.where(blank, OBSERVATION, take(events.evid)),
        row=kept,
        **columns,
    )
    counts = np.array([len(places) for places in at]) * len(names)
    record = np.concatenate([np.repeat(places, len(names)) for places in at])
    subject = np.repeat(np.arange(n_subjects), counts)
    total = len(record)
    observations = Observations(
        subject,
        record.astype(np.int64),
        time[subject, record.astype(np.int64)],
        np.tile(np.arange(len(names)), total // max(len(names), 1)),
        np.full(total, np.nan),
        np.zeros(total, dtype=np.int64),
        np.full(total, -np.inf),
        np.full(total, INSERTED),
    )
    return Dataset(
        table,
        observations,
        names,
        {name: take(values) for name, values in data.covariates.items()},
        None if data.occasion is None else take(data.occasion),
        units=data.units,
        words=data.words,
        time_unit=data.time_unit,
    )
