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

ADDED = 2  # code of SS
FIRST, MIDDLE, LAST = "first", "middle", "last"
BELOW_LIMIT = {FIRST: "zero", MIDDLE: "drop", LAST: "drop"}
"""What becomes of values below the limit: before the first measurable one, between, after."""

VALUES = {"zero": 0.0, "half": 0.5, "limit": 1.0}
"""Share of the limit that stands for a value below it."""

EARLY = 0.9
"""Share of a dosing interval before which the next dose is one more within it; it is chosen."""
_ALMOST = 1.0 - 1e-9


@dataclass(frozen=True, eq=False)
class Profile:
    """Samples after one dose.

    Attributes
    ----------
    subject
        Label.
    number
        Of the dose, from 1.
    period, order
        Number of the period between resets, from 0, and of the dose in it, from 1.
    start
        Time of the dose in the data, h.
    dose
        Amount.
    duration
        Of the longest infusion, h; 0 for none.
    input_time
        Mean time at which the dose enters, h: half the duration of an infusion.
    mixed
        Whether a bolus is given with an infusion.
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
        Highest concentration before the dose, if that is the first of its period; 0 for none.
    preceding, following
        Hours from the dose before and to the next one of the period; infinite where there is none.
    added, followed_by_added
        Whether the dose, and the next one, is added to a steady state of others (SS = 2).
    """

    subject: Any
    number: int
    period: int
    order: int
    start: float
    dose: float
    duration: float
    input_time: float
    mixed: bool
    steady: bool
    interval: float
    time: Floats
    level: Floats
    below: NDArray[np.bool_]
    row: NDArray[np.int64]
    predose: float
    preceding: float
    following: float
    added: bool
    followed_by_added: bool

    def shared(self, tau: float) -> bool:
        """Tell whether other doses are given within the interval ``tau`` of a steady state.

        Where the data say what is at steady state, those are doses that are added to it (SS = 2):
        another one that comes early ends it. Where the user says so, any dose much earlier is one.
        """
        before, after = self.preceding < _ALMOST * tau, self.following < _ALMOST * tau
        if self.steady:
            return (self.added and before) or (self.followed_by_added and after)
        return min(self.preceding, self.following) < EARLY * tau

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
    the first of the profile after it, but of one only if the dose is a bolus into a vein: records
    stand before or after it. One at the time of a bolus that is below the limit, or 0, was taken
    before it, wherever it stands. A reset (EVID 3 or 4) ends a profile, and its clock may begin
    again.

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
        If a value is above the limit of quantification.
    """
    seen, events = data.observations, data.events
    doses = expand(events)
    for b in range(len(data.subjects)):
        mine = np.flatnonzero((seen.subject == b) & (seen.line == line))
        above = mine[seen.censored[mine] == ABOVE]
        if len(above):
            raise DataError(
                where=events.place(b, int(seen.record[above[0]]), "DV"),
                what=f"{seen.value[above[0]]:g} is the upper limit, not a value",
                remedy="leave the row out",
            )
        columns = np.flatnonzero(doses.valid[b])
        of_dose = events.period[b, doses.record[b, columns]]
        of_sample = events.period[b, seen.record[mine]]
        number = 0
        for period in np.unique(of_dose).tolist():
            place = _Place(data, doses, b, period, number)
            own = columns[of_dose == period]
            yield from _of_period(place, own, mine[of_sample == period], into_vein)
            number += len(np.unique(place.given(own)))


@dataclass(frozen=True, eq=False)
class _Place:
    """A period of a subject, and the number of doses before it."""

    data: Dataset
    doses: Any
    subject: int
    period: int
    before: int

    def given(self, columns: NDArray[np.intp]) -> Floats:
        """Hours of doses."""
        b, doses = self.subject, self.doses
        return self.data.events.time[b, doses.record[b, columns]] + doses.shift[b, columns]


def _of_period(
    at: _Place, columns: NDArray[np.intp], mine: NDArray[np.intp], into_vein: bool
) -> Iterator[Profile]:
    """Cut the samples ``mine`` of a period into profiles of its doses."""
    seen, events, doses, b = at.data.observations, at.data.events, at.doses, at.subject
    label: Any = at.data.subjects[b]
    records, given = doses.record[b, columns], at.given(columns)
    starts = np.unique(given)
    time, place = seen.time[mine], seen.record[mine]
    below = (seen.censored[mine] == BELOW) | (seen.value[mine] <= 0.0)
    jumps = [into_vein and bool(np.any(doses.rate[b, columns[given == s]] <= 0)) for s in starts]
    added = [bool(np.all(events.ss[b, records[given == start]] == ADDED)) for start in starts]

    def before(moment: float) -> NDArray[np.bool_]:
        """Tell which samples at the time of a dose into a vein were taken before it."""
        own = given == moment
        bolus = not np.any(doses.rate[b, columns[own]] > 0)
        return (time == moment) & ((place < records[own][0]) | (bolus & below))

    for number, start in enumerate(starts):
        together = np.flatnonzero(given == start)
        record = int(records[together[0]])
        end = starts[number + 1] if number + 1 < len(starts) else np.inf
        in_it = (time >= start) & (time <= end)
        if jumps[number]:
            in_it &= ~before(start)
        if end < np.inf and jumps[number + 1]:
            in_it &= (time < end) | before(end)
        taken = mine[in_it]
        if not np.any(seen.time[taken] > start):
            continue
        amount, rate = doses.amt[b, columns[together]], doses.rate[b, columns[together]]
        duration = np.where(rate > 0, amount / np.where(rate > 0, rate, 1.0), 0.0)
        earlier = (time < start) | (before(start) if jumps[number] else time == start)
        earlier &= (number == 0) & (seen.censored[mine] != BELOW)
        yield Profile(
            subject=label.item() if hasattr(label, "item") else label,
            number=at.before + number + 1,
            period=at.period,
            order=number + 1,
            start=float(start),
            dose=float(amount.sum()),
            duration=float(duration.max()),
            input_time=float(np.sum(amount * duration) / 2.0 / (amount.sum() or 1.0)),
            mixed=bool(duration.max() > 0.0 and np.any(amount[duration == 0.0] > 0.0)),
            steady=bool(events.ss[b, record] > 0),
            interval=float(events.ii[b, record]),
            time=seen.time[taken] - start,
            level=seen.value[taken],
            below=below[in_it],
            row=events.numbers[seen.row[taken]],
            predose=float(np.max(seen.value[mine[earlier]], initial=0.0)),
            preceding=float(start - starts[number - 1]) if number else np.inf,
            following=float(end - start),
            added=added[number],
            followed_by_added=number + 1 < len(starts) and added[number + 1],
        )
