"""Arms of an evidence table: what has to be simulated, and what is seen on simulated patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from pkpd.arrays import Floats
from pkpd.errors import DataError
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.populations import Population
from pkpd.evidence.table.rows import REINDUCTION_DAY, EvidenceRow, arm_key
from pkpd.evidence.table.schedule import Schedule


@dataclass(frozen=True)
class ArmToSimulate:
    """One arm of the table.

    Attributes
    ----------
    key
        As rows name it (`EvidenceRow.arm`).
    population, schedule, cycles, cycle_days
        What to simulate. A schedule with several dose levels is a mixture: simulate
        `schedule.at_levels()` and pool the patients by their shares (:func:`pooled`).
    observables
        What will be asked of the patients; none: anything may be. A simulator may leave out days
        that nothing here depends on.
    reinduction, reinduction_day
        Second course of those who have 5 % blasts on that day.
    """

    key: str
    population: Population
    schedule: Schedule
    cycles: int
    cycle_days: int
    observables: frozenset[Observable] = frozenset()
    reinduction: Schedule | None = None
    reinduction_day: int = REINDUCTION_DAY


def arms_of(rows: Iterable[EvidenceRow]) -> dict[str, ArmToSimulate]:
    """Arms that rows need, each once, by key."""
    arms: dict[str, ArmToSimulate] = {}
    asked: dict[str, set[Observable]] = {}
    for row in rows:
        cycles = 1 if row.endpoint.at_start else row.cycles
        first = ArmToSimulate(row.arm, row.population, row.simulated, cycles, row.cycle_days)
        if not row.endpoint.at_start:
            second, day = row.reinduction, row.reinduction_day
            first = replace(first, reinduction=second, reinduction_day=day)
        needed = [first]
        if row.other_schedule is not None:
            key = arm_key(row.population.key, row.other_schedule, cycles, row.cycle_days)
            other = row.other_schedule
            needed.append(ArmToSimulate(key, row.population, other, cycles, row.cycle_days))
        for arm in needed:
            arms.setdefault(arm.key, arm)
            asked.setdefault(arm.key, set()).update(a.observable for a in row.endpoint.alternatives)
    return {key: replace(arm, observables=frozenset(asked[key])) for key, arm in arms.items()}


class ArmSeen(Protocol):
    """What the likelihood asks of a simulated arm."""

    @property
    def weight(self) -> Floats:
        """Weights of the N patients, positive."""
        ...

    def observe(self, what: Observable) -> Floats:
        """Value of each patient ``[N]``; ``nan`` where the patient does not count."""
        ...

    def trace(self) -> Floats:
        """All that happened to the patients, in numbers that any parameter that acts changes."""
        ...


@dataclass
class SimulatedArm:
    """A simulated arm given by a function, whose answers are kept.

    Attributes
    ----------
    weight : float[N]
        Weights of the patients.
    look
        Function from an observable to ``float[N]``.
    happened
        What `trace` gives; only who asks for it needs it.
    """

    weight: Floats
    look: Callable[[Observable], Floats]
    happened: Callable[[], Floats] | None = None
    _seen: dict[Observable, Floats] = field(default_factory=dict, repr=False)

    def observe(self, what: Observable) -> Floats:
        """Value of each patient."""
        if what not in self._seen:
            self._seen[what] = np.asarray(self.look(what), dtype=np.float64)
        return self._seen[what]

    def trace(self) -> Floats:
        """All that happened to the patients."""
        if self.happened is None:
            raise DataError(where="simulated arm", what="it does not tell its course")
        return self.happened()


def pooled(parts: Iterable[tuple[float, ArmSeen]]) -> ArmSeen:
    """Patients of several arms as those of one, in given shares.

    Parameters
    ----------
    parts
        Share of the patients and simulated arm. Shares sum to 1.
    """
    parts = tuple(parts)
    if not parts:
        raise DataError(where="pooled arms", what="there are none")
    if len(parts) == 1:
        return parts[0][1]
    weight = np.concatenate([share * arm.weight / arm.weight.sum() for share, arm in parts])
    return SimulatedArm(
        weight=weight,
        look=lambda what: np.concatenate([arm.observe(what) for _, arm in parts]),
        happened=lambda: np.concatenate([arm.trace().ravel() for _, arm in parts]),
    )
