"""When to draw blood: the visits that tell most about the day of recovery, for a given number.

Virtual patients of a source are counted on every candidate day, with error. For a set of days each
of them is forecast from the counts on these days alone, and the median day of recovery is compared
with the true one. Sets grow by the day that lowers the mean error most; then days are exchanged as
long as that lowers it further. What is found is judged in other patients than it was chosen in,
since the best of many sets looks better than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.distributions import stream
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.lanes import lanes_of
from pkpd.errors import PkpdError, sentence
from pkpd.fitting.model.residual import ResidualError
from pkpd.forecasting.bank import BOTH, Bank, Level, asked_of, criterion, simulated
from pkpd.forecasting.many import (
    VisitCounts,
    check_days,
    check_lines,
    counted_on,
    densities,
    portions,
    weights_of,
)
from pkpd.forecasting.measurement import Measurement, measurement_of
from pkpd.machine import cores
from pkpd.schedule import Regimen

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

_MOST = 150_000_000  # densities that are kept: candidate days, patients, bank; four bytes each
_SWEEPS = 20


@dataclass(frozen=True)
class VisitSet:
    """A set of visits and what it leaves unknown.

    Attributes
    ----------
    days
        Protocol days.
    chosen_error
        Mean error of the median day of recovery, in days, in the patients it was chosen in.
    error, error_se
        The same in other patients, and its standard error.
    less_even, less_even_se
        ``error`` less that of as many visits spread evenly over the candidates, paired.
    even
        Those visits.
    """

    days: tuple[int, ...]
    chosen_error: float
    error: float
    error_se: float
    even: tuple[int, ...]
    less_even: float
    less_even_se: float


@dataclass(frozen=True)
class VisitPlan:
    """Visits for every number up to a budget; made by `choose_visits`.

    Attributes
    ----------
    criterion
        What recovery means.
    until_day
        Last day that is looked at; a recovery that is not seen by then counts as of that day.
    candidates
        Days that could be chosen.
    always
        Days on which blood is drawn in any case.
    sets
        The best set found of 1, 2, ... further days.
    error_before
        Mean error with the visits of `always` alone.
    error_with_all
        Mean error with all candidates.
    patients
        Virtual patients in whom sets were chosen, and as many others in whom they were judged.
    """

    criterion: str
    until_day: int
    candidates: tuple[int, ...]
    always: tuple[int, ...]
    sets: tuple[VisitSet, ...]
    error_before: float
    error_with_all: float
    patients: int

    @property
    def best(self) -> VisitSet:
        """The set of the whole budget."""
        return self.sets[-1]

    def table(self) -> pd.DataFrame:
        """All sets, one row each."""
        import pandas as pd

        return pd.DataFrame(
            {
                "visits": [len(one.days) for one in self.sets],
                "days": [" ".join(map(str, one.days)) for one in self.sets],
                "error_days": [one.error for one in self.sets],
                "error_se": [one.error_se for one in self.sets],
                "even_days": [" ".join(map(str, one.even)) for one in self.sets],
                "less_than_even": [one.less_even for one in self.sets],
                "less_than_even_se": [one.less_even_se for one in self.sets],
            }
        )

    def sentence(self) -> str:
        """Say the days and what they are worth."""
        one = self.best
        days = ", ".join(map(str, one.days))
        fixed = f" besides {', '.join(map(str, self.always))}" if self.always else ""
        even = ", ".join(map(str, one.even))
        known = "without counts" if not self.always else "with those alone"
        gap = one.less_even
        side = "less" if gap < 0 else "more"
        return (
            f"Draw blood on day{'s' if len(one.days) > 1 else ''} {days}{fixed}: the median day of "
            f"recovery ({self.criterion}) then errs by {one.error:.1f} days "
            f"(+- {one.error_se:.1f}), "
            f"{self.error_before:.1f} {known}, {self.error_with_all:.1f} with all "
            f"{len(self.candidates)} days; {abs(gap):.2f} days {side} (+- {one.less_even_se:.2f}) "
            f"than on days {even}."
        )


def choose_visits(
    source: Ensemble,
    schedule: Regimen,
    candidates: Sequence[int],
    budget: int,
    *,
    recovery: str = BOTH,
    back: Mapping[str, Level] | None = None,
    always: Sequence[int] = (),
    until_day: int = 60,
    lines: Sequence[str] | None = None,
    errors: Mapping[str, ResidualError] | None = None,
    clock: str | None = None,
    patients: int = 400,
    bank: int = 4000,
    seed: int = 1,
    threads: int | None = None,
    on_progress: Callable[[float, float, str], None] | None = None,
) -> VisitPlan:
    """Choose the visits that tell most about the day of recovery.

    Parameters
    ----------
    source
        Virtual patients (`pkpd.source`).
    schedule
        What they are given.
    candidates
        Protocol days on which blood could be drawn.
    budget
        Number of visits that can be made.
    recovery
        ``"both"`` lines, ``"neutrophils"`` or ``"platelets"``, or a criterion by its whole name
        (``"neutrophils >= 0.5"``).
    back, clock, until_day
        As of `pkpd.forecast`. A recovery that is not seen counts as one on ``until_day``.
    always
        Days on which blood is drawn anyway; they are not counted in the budget.
    lines
        What is counted; all lines of the source if not given.
    errors
        How counts scatter, as of `pkpd.forecast`.
    patients
        Virtual patients in whom sets are chosen; as many others judge them.
    bank
        Virtual patients of the forecaster.
    seed, threads
        Of all random numbers; at most so many.
    on_progress
        Called as work proceeds (``done, total, text``).

    Raises
    ------
    PkpdError
        If an input cannot be used.

    Examples
    --------
    >>> import pkpd
    >>> source = pkpd.source("rr_aml", marrow="friberg", patients=1, draws=5)
    >>> schedule = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    >>> small = {"until_day": 40, "patients": 60, "bank": 300}
    >>> plan = choose_visits(source, schedule, range(8, 23, 2), 2, recovery="neutrophils", **small)
    >>> len(plan.best.days)
    2
    """
    tell, threads = on_progress or (lambda *_: None), threads or cores()
    days = check_days(tuple(candidates), until_day, "candidates")
    fixed = check_days(always, until_day, "always") if len(always) else ()
    free = tuple(day for day in days if day not in fixed)
    if not isinstance(budget, int | np.integer) or not 1 <= budget <= len(free):
        allowed = f"1 to {len(free)}, the number of candidates"
        raise PkpdError(sentence(where="budget", what=f"{budget!r} visits", allowed=allowed))
    for name, number, least in (("patients", patients, 10), ("bank", bank, 100)):
        if number < least:
            what, allowed = f"{number!r}", f"a whole number, {least} or more"
            raise PkpdError(sentence(where=f"visits, {name}", what=what, allowed=allowed))
    every = (*fixed, *free)
    if len(every) * patients * bank > _MOST:
        what = f"{len(every)} days of {patients} patients and a bank of {bank}"
        remedy = f"keep their product below {_MOST:,}"
        raise PkpdError(sentence(where="visits", what=what, remedy=remedy))
    measurement = measurement_of(source).with_errors(errors or {})
    asked = asked_of(source, None, back, clock, until_day)
    counted = check_lines(lines or source.lines, source.lines)
    wanted = _criterion(recovery, asked.back or {}, source.lines)
    lanes = lanes_of(source, schedule, until_day)
    tell(0.0, 1.0, "bank")
    known = simulated(lanes, lanes.drawn(bank, seed), asked, threads)
    if wanted not in known.recovery:
        allowed = ", ".join(known.recovery)
        raise PkpdError(sentence(where="recovery", what=f"{recovery!r}", allowed=allowed))
    judges = []
    for part, name in ((10_000, "patients"), (20_000, "other patients")):
        tell(0.0, 1.0, name)
        truth = simulated(lanes, lanes.drawn(patients, part + seed), asked, threads)
        rng = stream(seed, f"visits of {name}")
        counts = counted_on(truth, every, counted, measurement, rng)
        judges.append(_judge(truth, counts, known, wanted, until_day, measurement))
    first, other = judges
    places = {day: i for i, day in enumerate(every)}
    held = tuple(places[day] for day in fixed)
    pool = [places[day] for day in free]
    chosen: list[int] = []
    found = []
    for size in range(1, int(budget) + 1):
        tell(size - 1.0, float(budget), f"{size} visits")
        chosen = grown(first.mean_error, held, chosen, pool)
        even = spread(len(free), size)
        mine = other.errors((*held, *chosen))
        theirs = other.errors((*held, *(pool[i] for i in even)))
        gap = mine - theirs
        root = np.sqrt(patients)
        found.append(
            VisitSet(
                tuple(sorted(every[i] for i in chosen)),
                first.mean_error((*held, *chosen)),
                float(mine.mean()),
                float(mine.std(ddof=1) / root),
                tuple(free[i] for i in even),
                float(gap.mean()),
                float(gap.std(ddof=1) / root),
            )
        )
    tell(float(budget), float(budget), "visits")
    return VisitPlan(
        wanted, until_day, free, fixed, tuple(found),
        float(other.errors(held).mean()), float(other.errors(range(len(every))).mean()), patients,
    )  # fmt: skip


def grown(
    error: Callable[[Sequence[int]], float],
    held: Sequence[int],
    chosen: Sequence[int],
    pool: Sequence[int],
) -> list[int]:
    """Add the best of a pool to a set, then exchange members as long as the error falls.

    Parameters
    ----------
    error
        Of a set.
    held
        What is in every set.
    chosen
        The set so far, without them.
    pool
        What can be chosen.
    """

    def of(some: Sequence[int]) -> float:
        return error((*held, *some))

    free = [one for one in pool if one not in chosen]
    best = min(free, key=lambda one: of((*chosen, one)))
    found = [*chosen, best]
    least = of(found)
    for _ in range(_SWEEPS):
        swaps = [
            [*(kept for kept in found if kept != out), into]
            for out in found
            for into in pool
            if into not in found
        ]
        errors = [of(swap) for swap in swaps]
        if not swaps or min(errors) >= least - 1e-9:
            break
        least = min(errors)
        found = swaps[int(np.argmin(errors))]
    return found


def spread(n: int, size: int) -> list[int]:
    """Places of so many members of n, spread evenly.

    Examples
    --------
    >>> spread(10, 3)
    [1, 5, 8]
    """
    return [int((2 * k + 1) * n / (2 * size)) for k in range(size)]


@dataclass(frozen=True, eq=False)
class Judge:
    """Patients whose recovery is forecast from the counts of any set of visits.

    Attributes
    ----------
    logs : float32[V, P, L]
        Log density of each visit's counts in every patient of a bank, by rising day of recovery.
    recovery : float[L]
        The bank's days of recovery, rising.
    truth : float[P]
        Those of the patients.
    """

    logs: NDArray[np.float32]
    recovery: Floats
    truth: Floats
    _known: dict[frozenset[int], Floats] = field(default_factory=dict, repr=False)

    def errors(self, visits: Sequence[int]) -> Floats:
        """Error of the median day of each patient, ``[P]``, in days.

        Parameters
        ----------
        visits
            Numbers of the visits.
        """
        key = frozenset(visits)
        if key not in self._known:
            self._known[key] = np.abs(self._medians(sorted(key)) - self.truth)
        return self._known[key]

    def mean_error(self, visits: Sequence[int]) -> float:
        """Mean over the patients, in days."""
        return float(self.errors(visits).mean())

    def _medians(self, visits: Sequence[int]) -> Floats:
        found = np.empty(self.truth.size)
        for which in portions(self.truth.size, self.recovery.size):
            shape = (which.stop - which.start, self.recovery.size)
            total = np.zeros(shape, dtype=np.float32)
            for visit in visits:
                total += self.logs[visit, which]
            below = np.cumsum(weights_of(total), axis=1, dtype=np.float64)
            found[which] = self.recovery[np.argmax(below >= 0.5 * below[:, -1:], axis=1)]
        return found


def _judge(
    truth: Bank,
    counts: VisitCounts,
    bank: Bank,
    wanted: str,
    until_day: int,
    measurement: Measurement,
) -> Judge:
    """Densities of all visits; those who die before the last visit are left out."""
    fine = np.flatnonzero(truth.death_day >= max(counts.days))
    if fine.size < 2:
        what, remedy = "hardly anybody lives until the last of the days", "name earlier days"
        raise PkpdError(sentence(where="visits", what=what, remedy=remedy))
    days = np.minimum(bank.recovery[wanted], until_day)
    order = np.argsort(days, kind="stable")
    logs = np.empty((len(counts.days), fine.size, len(bank)), dtype=np.float32)
    alive = VisitCounts(
        counts.days,
        {line: values[fine] for line, values in counts.values.items()},
        {line: low[fine] for line, low in counts.below.items()},
    )
    for visit in range(len(counts.days)):
        for which in portions(fine.size, len(bank)):
            logs[visit, which] = densities(bank, alive, which, visit, measurement)[:, order]
    return Judge(logs, days[order], np.minimum(truth.recovery[wanted], until_day)[fine])


def _criterion(recovery: str, back: Mapping[str, Level], lines: Sequence[str]) -> str:
    """Whole name of a criterion of recovery."""
    if recovery in back:
        return criterion(recovery, back[recovery])
    if recovery == BOTH and len(back) == 1:
        return criterion(*next(iter(back.items())))
    return recovery
