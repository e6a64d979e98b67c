"""Profiles of a data set: the samples of a subject between one dose and the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.data.dataset import ABOVE, BELOW, Dataset
from pkpd.data.expand import expand
from pkpd.errors import DataError

FIRST, MIDDLE, LAST = "first", "middle", "last"
BELOW_LIMIT = {FIRST: "zero", MIDDLE: "drop", LAST: "drop"}
"""What becomes of values below the limit: before the first measurable one, between, after."""

VALUES = {"zero": 0.0, "half": 0.5, "limit": 1.0}
"""Share of the limit that stands for a value below it."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Samples after one dose.

    Attributes
    ----------
    subject
        Label.
    number
        Of the dose, from 1.
    start
        Time of the dose in the data, h.
    dose
        Amount.
    duration
        Of an infusion, h; 0 for none.
    steady, interval
        Whether the dose says that it is at steady state (SS), and its II, h; 0 for none.
    time
        Hours since the dose, ``[n]``.
    level
        Concentrations, ``[n]``, the limit where below it.
    below
        Whether a value is below the limit or not above 0, ``[n]``.
    row
        What the source calls their rows, ``[n]``.
    predose
        Highest concentration before the dose, if that is the first; 0 for none.
    """

    subject: Any
    number: int
    start: float
    dose: float
    duration: float
    steady: bool
    interval: float
    time: Floats
    level: Floats
    below: NDArray[np.bool_]
    row: NDArray[np.int64]
    predose: float

    def points(self, rules: Mapping[str, str]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Apply the rules for values below the limit.

        Parameters
        ----------
        rules
            ``first``, ``middle`` and ``last`` -> ``zero``, ``half``, ``limit`` or ``drop``.

        Returns
        -------
        time, level, measurable
            Of the points that are left.
        """
        seen = np.flatnonzero(~self.below)
        place = np.arange(len(self.time))
        first, last = (seen[0], seen[-1]) if len(seen) else (len(place), len(place))
        where = np.select([place < first, place > last], [FIRST, LAST], MIDDLE)
        keep, level = np.ones(len(place), dtype=bool), self.level.copy()
        for k in np.flatnonzero(self.below):
            rule = rules[str(where[k])]
            keep[k] = rule != "drop"
            level[k] *= VALUES.get(rule, 0.0)
        return self.time[keep], level[keep], ~self.below[keep]


def profiles(data: Dataset, line: int, *, into_vein: bool) -> Iterator[Profile]:
    """Cut the samples of a line into profiles, one for each dose that samples follow.

    Doses at one time are one. A sample at the time of a dose is the last of the profile before and
    the first of the profile after it, but of one only if the dose is into a vein: records stand
    before or after it.

    Parameters
    ----------
    data
        The data set.
    line
        Which line.
    into_vein
        Whether doses are into a vein.

    Raises
    ------
    DataError
        If a value is above the limit of quantification, or the clock of a subject goes backwards.
    """
    seen, events = data.observations, data.events
    doses = expand(events)
    for b, label in enumerate(data.subjects):
        mine = np.flatnonzero((seen.subject == b) & (seen.line == line))
        above = mine[seen.censored[mine] == ABOVE]
        if len(above):
            raise DataError(
                where=events.place(b, int(seen.record[above[0]]), "DV"),
                what=f"{seen.value[above[0]]:g} is the upper limit, not a value",
                remedy="leave the row out",
            )
        own = events.time[b, events.valid[b]]
        if np.any(np.diff(own) < 0):
            raise DataError(
                where=f"{events.source}, ID {label}",
                what="time runs backwards at a reset",
                remedy="give the periods of a subject as subjects of their own",
            )
        columns = np.flatnonzero(doses.valid[b])
        records = doses.record[b, columns]
        given = events.time[b, records] + doses.shift[b, columns]
        starts = np.unique(given)
        for number, start in enumerate(starts):
            together = np.flatnonzero(given == start)
            record = int(records[together[0]])
            end = starts[number + 1] if number + 1 < len(starts) else np.inf
            time, place = seen.time[mine], seen.record[mine]
            in_it = (time >= start) & (time <= end)
            if into_vein:
                following = records[given == end]
                in_it &= (time > start) | (place > record)
                if len(following):
                    in_it &= (time < end) | (place < following[0])
            taken = mine[in_it]
            if not np.any(seen.time[taken] > start):
                continue
            amount, rate = doses.amt[b, columns[together]], doses.rate[b, columns[together]]
            duration = np.where(rate > 0, amount / np.where(rate > 0, rate, 1.0), 0.0)
            value = seen.value[taken]
            earlier = (time < start) | ((time == start) & ((place < record) | (not into_vein)))
            earlier &= (number == 0) & (seen.censored[mine] != BELOW)
            yield Profile(
                subject=label.item() if hasattr(label, "item") else label,
                number=number + 1,
                start=float(start),
                dose=float(amount.sum()),
                duration=float(duration.max()),
                steady=bool(events.ss[b, record] > 0),
                interval=float(events.ii[b, record]),
                time=seen.time[taken] - start,
                level=value,
                below=(seen.censored[taken] == BELOW) | (value <= 0.0),
                row=events.numbers[seen.row[taken]],
                predose=float(np.max(seen.value[mine[earlier]], initial=0.0)),
            )
