"""The clock of today: when counts are back after the last one that was seen.

The clock of a rule runs by cycles: recovery is looked for from the last dose of one to the first of
the next, so that it says other things of one patient under other schedules. That of today asks for
the state of the marrow: patients are given what the schedule gives before the last count, growth
factor by need among it, and nothing after it. What is planned later cannot change the answer.

Days are those of the rule's clock and of `pkpd.endpoints`: since the start of day 1, so that *by
day N* means by the end of day N, which the count of the next morning shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pkpd.arrays import Floats, Indices
from pkpd.course.course import Course
from pkpd.endpoints.definitions import recovery_definition
from pkpd.endpoints.recovery import line_outcomes
from pkpd.endpoints.results import RecoveryStatus
from pkpd.ensemble.ensemble import courses
from pkpd.ensemble.lanes import Identities, Lanes, carried, lanes_of
from pkpd.forecasting.bank import AT_BASELINE, BOTH, Asked, criterion, levels_of
from pkpd.forecasting.doses import depends_on_counts, given_before, gives_from
from pkpd.forecasting.seen import Seen
from pkpd.forecasting.weighing import Weighed
from pkpd.machine import cores

FALL_WITHIN = 28
"""Days after the last count within which a line falls if what was given is the reason (assumed: a
nadir comes within four weeks of the dose). One that falls later, of disease or of age, was not low.
"""
MOST = 2000
"""Patients of a bank who are followed; of more, as many are taken by their weights."""


@dataclass(frozen=True, eq=False)
class After:
    """What becomes of counts after the last one, if nothing more is given.

    Attributes
    ----------
    back : dict of float[L]
        By criterion: days since the start of day 1 until a line is back, the first morning of the
        recovery; 0 if it is not low in the four weeks after the last count, infinite if recovery is
        not seen.
    weights : float[L]
        Of the patients; they sum to 1.
    """

    back: Mapping[str, Floats]
    weights: Floats


def after_last_count(one: Weighed, seed: int, threads: int | None = None) -> After:
    """Follow the patients of a forecast from the last count on, without further doses.

    Parameters
    ----------
    one
        The forecast.
    seed, threads
        Of random numbers that its patients lack; at most so many.
    """
    index, weights = _taken(one.weights)
    bank = one.bank
    back = back_after(
        bank.lanes, bank.who[index], bank.asked, one.seen, seed, threads, aside=one.aside
    )
    return After(back, weights)


def back_after(
    lanes: Lanes,
    who: Identities,
    asked: Asked,
    seen: Seen,
    seed: int,
    threads: int | None = None,
    *,
    aside: frozenset[tuple[str, float, float]] = frozenset(),
) -> dict[str, Floats]:
    """Find when counts are back after the last one seen, if nothing is given from then on.

    Parameters
    ----------
    lanes, who
        Patients under their schedule.
    asked
        What "back" means: criteria, and the definition of recovery of the rule. It is read in the
        mornings, from that of the last count's day on.
    seen
        Counts so far. Where that of the last day is below a threshold, a patient whose own count,
        without the error of counting, is not low then is back on the next morning.
    seed, threads
        As of :func:`after_last_count`.
    aside
        Line, time and value of counts that are set aside: they say nothing of who is low.

    Returns
    -------
    dict
        As ``back`` of :class:`After`.
    """
    until = without_more(lanes, float(seen.time.max()))
    reader = _Reader(asked, seen, aside)
    found: dict[str, Floats] = {}
    treated = until.treated(carried(who, lanes, until, seed))
    for index, part in courses(treated, reader, threads or cores()):
        for name, days in part.items():
            found.setdefault(name, np.empty(len(who)))[index] = days
    return found


def without_more(lanes: Lanes, time: float) -> Lanes:
    """Patients under what their schedule gives before a time, and nothing from then on.

    Growth factor by need ends, and a cycle that waits for counts does not start any more. Where no
    count can have changed what was given, the schedule is cut, so that patients under all schedules
    with the same doses before are the same; else they stay held, reduced and delayed as they were.
    """
    day = int(np.ceil(time)) + 1
    if gives_from(lanes.regimen, day) and not depends_on_counts(lanes.regimen, day):
        regimen = given_before(lanes.regimen, day)
        if regimen is not None:
            lanes = lanes_of(lanes.ensemble, regimen, lanes.days, lanes.given)
    return replace(lanes, given_until=day - 1)


def _taken(weights: Floats) -> tuple[Indices, Floats]:
    """Places of the patients who are followed, and their weights."""
    if weights.size <= MOST:
        index = np.flatnonzero(weights > 0)
        return index, weights[index] / weights[index].sum()
    total = np.cumsum(weights)
    at = np.searchsorted(total, (np.arange(MOST) + 0.5) / MOST * total[-1])
    index, often = np.unique(np.minimum(at, weights.size - 1), return_counts=True)
    return index, often / MOST


class _Reader:
    """Reads off when lines are back after a morning."""

    def __init__(
        self, asked: Asked, seen: Seen, aside: frozenset[tuple[str, float, float]]
    ) -> None:
        self.asked, self.start = asked, float(np.floor(seen.time.max()))
        kept = [k for k, one in enumerate(seen.counts) if one not in aside]
        heard = seen.taken(np.array(kept, dtype=np.int64))
        self.last = heard.last_counts if heard.last_day == seen.last_day else {}
        self.definition = recovery_definition(asked.rule)

    def __call__(self, index: Indices, course: Course) -> tuple[Indices, dict[str, Floats]]:
        found: dict[str, Floats] = {}
        both, back = np.zeros(course.lanes), self.asked.back or {}
        for line, levels in levels_of(self.asked, course).items():
            for level in levels:
                of, at = course, level
                if isinstance(at, str):
                    of, at = _of_start(course, line), AT_BASELINE
                days = self._days(of, line, at)
                if of is course and self.last.get(line, np.inf) < at:
                    days = np.where(days == 0, self.start + 1.0, days)
                found[criterion(line, level)] = days
                if back.get(line) == level:
                    both = np.maximum(both, days)
        if len(back) > 1:
            found[BOTH] = both
        return index, found

    def _days(self, course: Course, line: str, at: float) -> Floats:
        soon = min(self.start + FALL_WITHIN, course.mornings[line].shape[1] - 1.0)
        every, first = (
            line_outcomes(
                course, line, at, definition=self.definition, start=self.start, end=end
            ).sustained
            for end in (None, soon)
        )
        status = every.status[0]
        back = np.where(status == RecoveryStatus.RECOVERED, self.start + every.day[0], np.inf)
        return np.where(first.status[0] == RecoveryStatus.NEVER_BELOW, 0.0, back)


def _of_start(course: Course, line: str) -> Course:
    """Take the counts of a line in the mornings as shares of the first one."""
    counts = course.mornings[line]
    return replace(course, mornings={**course.mornings, line: counts / counts[:, :1]})
