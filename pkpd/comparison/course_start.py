"""When a course of doses begins behind each of some gates, and the counts of that morning."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

import numpy as np

from pkpd.arrays import Floats
from pkpd.evidence.criticism.trial_predictions import NewStudy
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.schedule import Arm
from pkpd.schedule import Criterion, Gate

LINES = ("neutrophils", "platelets")

_NAMES = ("day", "started", *LINES)
Seen = Mapping[str, Floats]
"""``day`` (protocol day, NaN if it does not begin), ``started`` (1 or 0), and the counts of each of
`LINES` that gates look at, the laboratory's; ``[draws, N]`` each."""


def gated(arm: Arm, course: str, gate: tuple[float, float] | None, most_wait_days: int = 28) -> Arm:
    """Make a course wait for counts (neutrophils, platelets, 10^9/L); ``None`` changes nothing."""
    regimen = arm.schedule.regimen
    if gate is None or regimen is None:
        return arm
    wait = Gate(
        (Criterion("neutrophils", gate[0]), Criterion("platelets", gate[1])),
        max_wait_days=most_wait_days,
        if_not_met="stop",
    )
    courses = tuple(replace(c, gate=wait) if c.name == course else c for c in regimen.courses)
    schedule = replace(arm.schedule, regimen=replace(regimen, courses=courses))
    return replace(arm, schedule=schedule)


def starts(
    arm: Arm,
    course: str,
    gates: Mapping[str, tuple[float, float] | None],
    most_wait_days: int,
    study: NewStudy,
) -> Mapping[str, Seen]:
    """Tell when a course begins behind each gate, and the counts of that morning.

    Until it begins all gates see the same counts. So where its first day is the same for all
    patients, they are simulated once, without it; else once for each gate.

    Parameters
    ----------
    arm
        The arm, as long as it may wait.
    course
        Name of the course.
    gates
        Words -> neutrophils and platelets (10^9/L), or ``None`` for the arm as it is.
    most_wait_days
        Without these counts so many days later the course is not given.
    study
        The trial under posterior draws.

    Returns
    -------
    dict
        Words -> what is seen.
    """
    first = _planned_for_all(arm, course)
    if first is None:
        return {
            words: _by_name(study.collect(gated(arm, course, gate, most_wait_days), _began(course)))
            for words, gate in gates.items()
        }
    found = study.collect(_never(arm, course), _waited(first, most_wait_days, gates))
    return {words: {name: found[words, name] for name in _NAMES} for words in gates}


def _planned_for_all(arm: Arm, course: str) -> int | None:
    """Protocol day on which a course begins in every patient if no gate is put before it."""
    schedule = arm.schedule
    if schedule.regimen is None or any(schedule.only_if_blasts_from):
        return None
    place = schedule.regimen.courses.index(schedule.regimen.course(course))
    before = schedule.regimen.courses[:place]
    if schedule.regimen.courses[place].gate or any(c.gate or c.between for c in before):
        return None
    return schedule.regimen.start_days[place]


def _never(arm: Arm, course: str) -> Arm:
    """Put a course off until the simulation is over; the cells of its days stay as they are."""
    regimen, after = arm.schedule.regimen, arm.schedule.horizon_days + 1
    assert regimen is not None
    place = regimen.courses.index(regimen.course(course))
    late = replace(regimen.courses[place], start_day=after)
    # what follows comes after it, whatever day it was planned for
    rest = tuple(replace(c, start_day=None) for c in regimen.courses[place + 1 :])
    courses = (*regimen.courses[:place], late, *rest)
    return replace(arm, schedule=replace(arm.schedule, regimen=replace(regimen, courses=courses)))


def _by_name(found: Mapping[Hashable, Floats]) -> Seen:
    return {name: found[name] for name in _NAMES}


def _on(outcomes: ArmOutcomes, began: Floats) -> dict[str, Floats]:
    """Read off the morning of a protocol day; NaN where it is none, or after death."""
    day = np.where(began <= outcomes.course.mornings_alive, began, np.nan)
    started = ~np.isnan(day)
    morning = np.where(started, day - 1.0, 0.0).astype(np.int64)[:, None]
    counts = {
        line: np.take_along_axis(outcomes.course.laboratory(line), morning, axis=1)[:, 0]
        for line in LINES
    }
    seen = {line: np.where(started, of_line, np.nan) for line, of_line in counts.items()}
    return {"day": day, "started": started.astype(np.float64), **seen}


def _began(course: str) -> Callable[[ArmOutcomes], Mapping[Hashable, Floats]]:
    return lambda outcomes: {**_on(outcomes, outcomes.course.started(course))}


def _waited(
    first: int, most_wait_days: int, gates: Mapping[str, tuple[float, float] | None]
) -> Callable[[ArmOutcomes], Mapping[Hashable, Floats]]:
    """Judge gates on the counts of patients who never begin: the first morning that meets one."""

    def look(outcomes: ArmOutcomes) -> dict[Hashable, Floats]:
        seen = [outcomes.course.laboratory(line) for line in LINES]
        seen = [counts[:, first - 1 : first + most_wait_days] for counts in seen]
        found: dict[Hashable, Floats] = {}
        for words, gate in gates.items():
            began = np.full(outcomes.n, float(first))
            if gate is not None:
                met = (seen[0] >= gate[0]) & (seen[1] >= gate[1])
                began = np.where(met.any(axis=1), first + met.argmax(axis=1), np.nan)
            found |= {(words, name): values for name, values in _on(outcomes, began).items()}
        return found

    return look
