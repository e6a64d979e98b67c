"""A data set: subjects with their events, observations and covariates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pkpd.data.events import DOSE, MODELLED_DURATION, MODELLED_RATE, OTHER, EventTable

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
        Sentences on what the reader decided (time unit, missing covariates filled, ...).
    """

    events: EventTable
    observations: Observations
    lines: tuple[str, ...]
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)
    occasion: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> np.ndarray:
        """Labels, [B]."""
        return self.events.subject

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
            f"doses: {int(doses.sum())} records" + self._dose_words(doses),
            f"observations: {len(seen)} ({per.min()} to {per.max()} per subject)",
        ]
        for i, name in enumerate(self.lines):
            mine = seen.line == i
            below, above = (int(np.sum(seen.censored[mine] == c)) for c in (BELOW, ABOVE))
            measured = seen.value[mine & (seen.censored == NOT_CENSORED)]
            span = f", {measured.min():g} to {measured.max():g}" if len(measured) else ""
            limits = "".join(
                f", {count} {word} the limit"
                for count, word in ((below, "below"), (above, "above"))
                if count
            )
            text.append(f"  {name}: {int(mine.sum())}{span}{limits}")
        for name, values in self.covariates.items():
            kind = "constant" if self.constant(name) else "changes over time"
            used = values[events.valid]
            text.append(f"covariate {name}: {used.min():g} to {used.max():g}, {kind}")
        if self.occasion is not None:
            text.append(f"occasions: up to {int(self.occasion.max()) + 1} per subject")
        others = int(np.sum(events.valid & (events.evid == OTHER)))
        resets = int(events.is_reset.sum())
        if others or resets:
            text.append(f"other records: {others} of EVID 2, {resets} resets")
        text += list(self.notes)
        return "\n".join(text)

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
