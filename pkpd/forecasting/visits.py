"""When to draw blood: the visits that tell most about the day of recovery, for a given number.

Virtual patients of a source are counted on every candidate day, with error. For a set of days each
of them is forecast from the counts on these days alone: the patients of a bank are weighted by the
likelihood of these counts. A loss tells how bad the forecast of the day of recovery is: the error
of its median, its continuous ranked probability score, or its entropy. Sets grow by the day that
lowers the mean loss most; then days are exchanged as long as that lowers it further. What is found
is judged in other patients than it was chosen in, since the best of many sets looks better than it
is, and beside what one would do without looking: as many visits evenly spread, once a week, twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.distributions import stream
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.lanes import lanes_of
from pkpd.errors import PkpdError
from pkpd.fitting.model.residual import ResidualError
from pkpd.forecasting.bank import (
    BOTH,
    OF_LOW_COUNTS,
    Asked,
    Bank,
    Level,
    asked_of,
    criterion,
    simulated,
    tells_recovery,
)
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
from pkpd.forecasting.scores import crps_of_weights, entropy_of_weights
from pkpd.forecasting.visit_plan import Loss, UsualVisits, VisitPlan, VisitSet
from pkpd.machine import cores
from pkpd.schedule import Regimen
from pkpd.trials import DLTRule

_WEEKLY = {"weekly": (0,), "twice weekly": (0, 3)}  # days of a week from the first candidate

_MOST = 150_000_000  # densities that are kept: candidate days, patients, bank; four bytes each
_SWEEPS = 20


def choose_visits(
    source: Ensemble,
    schedule: Regimen,
    candidates: Sequence[int],
    budget: int,
    *,
    loss: Loss = "error",
    recovery: str = BOTH,
    rule: DLTRule | None = None,
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
    loss
        What visits are to lower: ``"error"`` of the median day, ``"crps"``, the continuous ranked
        probability score of the forecast, both in days, or ``"entropy"`` of the forecast, in bits
        of whole days.
    recovery
        ``"both"`` lines, ``"neutrophils"`` or ``"platelets"``, or a criterion by its whole name
        (``"neutrophils >= 0.5"``).
    rule, back, clock, until_day
        As of `pkpd.forecast`; of the rule only what recovered means counts, so that one which does
        not say it needs ``back``. A recovery that is not seen counts as one on ``until_day``.
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
    if loss not in get_args(Loss):
        allowed = ", ".join(get_args(Loss))
        raise PkpdError(where="visits, loss", what=f"{loss!r}", allowed=allowed)
    tell, threads = on_progress or (lambda *_: None), threads or cores()
    days = check_days(tuple(candidates), until_day, "candidates")
    fixed = check_days(always, until_day, "always") if len(always) else ()
    free = tuple(day for day in days if day not in fixed)
    if not isinstance(budget, int | np.integer) or not 1 <= budget <= len(free):
        allowed = f"1 to {len(free)}, the number of candidates"
        raise PkpdError(where="budget", what=f"{budget!r} visits", allowed=allowed)
    for name, number, least in (("patients", patients, 10), ("bank", bank, 100)):
        if number < least:
            what, allowed = f"{number!r}", f"a whole number, {least} or more"
            raise PkpdError(where=f"visits, {name}", what=what, allowed=allowed)
    every = (*fixed, *free)
    if len(every) * patients * bank > _MOST:
        what = f"{len(every)} days of {patients} patients and a bank of {bank}"
        remedy = f"keep their product below {_MOST:,}"
        raise PkpdError(where="visits", what=what, remedy=remedy)
    measurement = measurement_of(source).with_errors(errors or {})
    asked = _asked(source, rule, back, clock, until_day)
    counted = check_lines(lines or source.lines, source.lines)
    wanted = _criterion(recovery, asked.back or {}, source.lines)
    lanes = lanes_of(source, schedule, until_day)
    tell(0.0, 1.0, "bank")
    known = simulated(lanes, lanes.drawn(bank, seed), asked, threads)
    if wanted not in known.recovery:
        allowed = ", ".join(known.recovery)
        raise PkpdError(where="recovery", what=f"{recovery!r}", allowed=allowed)
    judges = []
    for part, name in ((10_000, "patients"), (20_000, "other patients")):
        tell(0.0, 1.0, name)
        truth = simulated(lanes, lanes.drawn(patients, part + seed), asked, threads)
        rng = stream(seed, f"visits of {name}")
        counts = counted_on(truth, every, counted, measurement, rng)
        judges.append(_judge(truth, counts, known, wanted, until_day, measurement, loss))
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
        gap = mine - other.errors((*held, *(pool[i] for i in even)))
        found.append(
            VisitSet(
                tuple(sorted(every[i] for i in chosen)),
                first.mean_error((*held, *chosen)),
                *_mean(mine),
                tuple(free[i] for i in even),
                *_mean(gap),
            )
        )
    usual: list[UsualVisits] = []
    for name, days_of_week in _WEEKLY.items():
        those = in_weeks(free, days_of_week)
        if any(those == one.days for one in usual):
            continue  # no candidate lies between
        theirs = other.errors((*held, *(places[day] for day in those)))
        gap = other.errors((*held, *chosen)) - theirs
        usual.append(UsualVisits(name, those, *_mean(theirs), *_mean(gap)))
    tell(float(budget), float(budget), "visits")
    return VisitPlan(
        wanted, until_day, free, fixed, tuple(found),
        float(other.errors(held).mean()), float(other.errors(range(len(every))).mean()), patients,
        loss, tuple(usual), other.truth.size,
    )  # fmt: skip


def _asked(
    source: Ensemble,
    rule: DLTRule | None,
    back: Mapping[str, Level] | None,
    clock: str | None,
    until_day: int,
) -> Asked:
    """Settle what recovery is; a rule must tell it, and may look later: no verdict is read."""
    if rule is not None:
        where = f"visits, rule {rule.name}"
        if not rule.can_be_simulated:
            raise PkpdError(where=where, what="it has no counts", remedy="leave it out")
        if not back and not tells_recovery(rule):
            raise PkpdError(
                where=where,
                what=OF_LOW_COUNTS,
                remedy="give back, the counts from which each line is back, or leave the rule out",
            )
        rule = replace(rule, by_day=min(rule.by_day or until_day, until_day))
    return asked_of(source, rule, back, clock, until_day)


def _mean(values: Floats) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def in_weeks(candidates: Sequence[int], days_of_week: Sequence[int]) -> tuple[int, ...]:
    """Candidates next to days of each week, which begins with the first of them.

    Examples
    --------
    >>> in_weeks(range(8, 31, 2), (0, 3))
    (8, 10, 14, 18, 22, 24, 28)
    """
    first, last = candidates[0], candidates[-1]
    wanted = [
        week + day
        for week in range(first, last + 1, 7)
        for day in days_of_week
        if week + day <= last
    ]
    return tuple(sorted({min(candidates, key=lambda c: (abs(c - day), c)) for day in wanted}))


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
    loss
        What `errors` are: of the median day, continuous ranked probability scores, or entropies.
    """

    logs: NDArray[np.float32]
    recovery: Floats
    truth: Floats
    loss: Loss = "error"
    _known: dict[frozenset[int], Floats] = field(default_factory=dict, repr=False)

    def errors(self, visits: Sequence[int]) -> Floats:
        """Loss of the forecast of each patient, ``[P]``.

        Parameters
        ----------
        visits
            Numbers of the visits.
        """
        key = frozenset(visits)
        if key not in self._known:
            self._known[key] = self._losses(sorted(key))
        return self._known[key]

    def mean_error(self, visits: Sequence[int]) -> float:
        """Mean over the patients."""
        return float(self.errors(visits).mean())

    def _losses(self, visits: Sequence[int]) -> Floats:
        found = np.empty(self.truth.size)
        for which in portions(self.truth.size, self.recovery.size):
            shape = (which.stop - which.start, self.recovery.size)
            total = np.zeros(shape, dtype=np.float32)
            for visit in visits:
                total += self.logs[visit, which]
            weights = weights_of(total)
            if self.loss == "crps":
                found[which] = crps_of_weights(weights, self.recovery, self.truth[which])
            elif self.loss == "entropy":
                found[which] = entropy_of_weights(weights, self.recovery)
            else:
                below = np.cumsum(weights, axis=1, dtype=np.float64)
                medians = self.recovery[np.argmax(below >= 0.5 * below[:, -1:], axis=1)]
                found[which] = np.abs(medians - self.truth[which])
        return found


def _judge(
    truth: Bank,
    counts: VisitCounts,
    bank: Bank,
    wanted: str,
    until_day: int,
    measurement: Measurement,
    loss: Loss = "error",
) -> Judge:
    """Densities of all visits; those who die before the last visit are left out."""
    fine = np.flatnonzero(truth.death_day >= max(counts.days))
    if fine.size < 2:
        what, remedy = "hardly anybody lives until the last of the days", "name earlier days"
        raise PkpdError(where="visits", what=what, remedy=remedy)
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
    seen = np.minimum(truth.recovery[wanted], until_day)[fine]
    return Judge(logs, days[order], seen, loss)


def _criterion(recovery: str, back: Mapping[str, Level], lines: Sequence[str]) -> str:
    """Whole name of a criterion of recovery."""
    if recovery in back:
        return criterion(recovery, back[recovery])
    if recovery == BOTH and len(back) == 1:
        return criterion(*next(iter(back.items())))
    return recovery
