"""Kinetics of a joint model that change within a subject: in which stretches they are constant.

The parameters of a record hold over the interval that ends at it (NONMEM's next value carried
backward), or that begins at it with ``carry="forward"``, as in `pkpd.solve.events.advance`. A bolus
takes the bioavailability of its record; an additional dose between records that of the record
whose parameters hold when it enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.data.expand import DoseSchedule


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of records with the same kinetics, ``V`` at most in a subject.

    Attributes
    ----------
    time : float[B, N]
        Hours of the records.
    of_record : int[B, N]
        Stretch of each record, from 0.
    forward
        Whether a record's parameters hold after it and not before it.
    """

    time: np.ndarray
    of_record: np.ndarray
    forward: bool

    @property
    def count(self) -> int:
        """Most stretches of a subject, ``V``."""
        return int(self.of_record.max()) + 1

    @cached_property
    def a_record(self) -> np.ndarray:
        """A record of each stretch, ``[B, V]``; a subject's last one where it has fewer."""
        wanted = np.minimum(np.arange(self.count), self.of_record[:, -1:])
        return np.stack(
            [np.searchsorted(*both) for both in zip(self.of_record, wanted, strict=True)]
        )

    @cached_property
    def begins_h(self) -> np.ndarray:
        """Hours after the first record at which stretches 1, 2, ... begin, infinite for none."""
        first = self.a_record[:, 1:]
        cut = first if self.forward else first - 1
        time = np.take_along_axis(self.time, np.maximum(cut, 0), axis=1) - self.time[:, :1]
        return np.where(np.arange(1, self.count) <= self.of_record[:, -1:], time, np.inf)

    def of_doses(self, given: DoseSchedule) -> np.ndarray:
        """Stretch whose bioavailability each dose takes, ``[B, D]``."""
        out = np.zeros(given.record.shape, dtype=np.int32)
        for b, d in np.argwhere(given.valid):
            record = given.record[b, d]
            if not given.first[b, d]:
                at = self.time[b, record] + given.shift[b, d]
                # a dose at the very time of a record enters before it
                record = np.searchsorted(self.time[b], at - (1e-9 + 1e-12 * abs(at)))
                record = max(0, min(record, self.time.shape[1] - 1) - self.forward)
            out[b, d] = self.of_record[b, record]
        return out


def by_data(dataset: Dataset, forward: bool) -> Stretches:
    """Stretches that end where the occasion or a covariate changes."""
    new = np.zeros(dataset.events.shape, dtype=bool)
    known = [] if dataset.occasion is None else [dataset.occasion]
    for values in (*known, *dataset.covariates.values()):
        new[:, 1:] |= np.diff(values, axis=1) != 0
    return _stretches(dataset, new, forward)


def by_record(dataset: Dataset, forward: bool) -> Stretches:
    """Stretches of one record each."""
    return _stretches(dataset, np.ones(dataset.events.shape, dtype=bool), forward)


def _stretches(dataset: Dataset, new: np.ndarray, forward: bool) -> Stretches:
    new = new & dataset.events.valid
    new[:, 0] = False
    return Stretches(dataset.events.time, np.cumsum(new, axis=1), forward)
