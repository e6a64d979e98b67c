"""How well each patient of a bank explains what was seen of another: weights, and their trust."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.forecasting.bank import Bank
from pkpd.forecasting.measurement import Measurement
from pkpd.forecasting.seen import Seen

Floats = NDArray[np.float64]

TOO_UNLIKELY = 1e-4
"""A count that so few patients of the source would show is set aside and told."""

_FOR_A_TAIL = 1000  # patients; a chance of 1e-4 is one of their tails, not of their number


@dataclass(frozen=True)
class Unexplained:
    """A count that no patient of the source explains.

    Attributes
    ----------
    line, time, value
        The count, in days since the start of day 1.
    probability
        Chance of a count as far out, or farther, among the source's patients under the schedule.
    """

    line: str
    time: float
    value: float
    probability: float

    @property
    def day(self) -> int:
        """Protocol day."""
        return int(np.floor(self.time)) + 1


@dataclass(frozen=True, eq=False)
class Weighed:
    """A bank weighed by what was seen of one patient.

    Attributes
    ----------
    bank
        The virtual patients.
    known
        What the patients of the bank were drawn to be like already; nothing as a rule.
    seen
        All that was seen.
    log_likelihood : float[L]
        Of what was seen and not yet known, -inf for those who have died before it.
    unexplained
        Counts that are set aside.
    engine
        How the bank was made: ``"importance"``, ``"smc"`` or ``"map"``.
    untold
        Risk of a dose-limiting toxicity before anything was seen; of the bank if not given.
    """

    bank: Bank
    known: Seen
    seen: Seen
    log_likelihood: Floats
    unexplained: tuple[Unexplained, ...] = ()
    engine: str = "importance"
    untold: float | None = None

    @property
    def aside(self) -> frozenset[tuple[str, float]]:
        """Line and time of the counts that are set aside."""
        return frozenset((lost.line, lost.time) for lost in self.unexplained)

    @cached_property
    def _smoothed(self) -> tuple[Floats, float]:
        weights, k = smoothed_weights(self.log_likelihood)
        if not np.isfinite(weights).all():
            weights = np.full(len(self.bank), 1.0 / len(self.bank))
        return weights, k

    @property
    def weights(self) -> Floats:
        """Pareto-smoothed weights of the patients, ``[L]``; they sum to 1."""
        return self._smoothed[0]

    @property
    def k(self) -> float:
        """Pareto k of the weights; above 0.7 they are not to be trusted."""
        return self._smoothed[1]

    @property
    def effective(self) -> float:
        """Effective number of virtual patients."""
        return float(1.0 / np.sum(self.weights**2))

    @property
    def trusted(self) -> bool:
        """Whether enough virtual patients look like this one."""
        return self.k <= LIMIT


def weigh(bank: Bank, seen: Seen, measurement: Measurement) -> Weighed:
    """Weigh a bank by what was seen of a patient.

    Parameters
    ----------
    bank
        Virtual patients under the patient's schedule, equally likely.
    seen
        Counts so far.
    measurement
        How counts scatter.
    """
    nothing = seen.until(0.0)
    empty = Weighed(bank, nothing, nothing, np.zeros(len(bank)))
    return more(empty, seen, measurement, bank)


def more(before: Weighed, seen: Seen, measurement: Measurement, source: Bank) -> Weighed:
    """Weigh by further counts; those on lines that the bank lacks are left out.

    Parameters
    ----------
    before
        Weighed by what was seen before.
    seen
        The further counts alone.
    measurement
        How counts scatter.
    source
        Patients of the source who nothing is known of: what none of them explains is set aside.
    """
    bank, unexplained = before.bank, list(before.unexplained)
    for k in range(len(seen)):
        line, time = seen.line[k], float(seen.time[k])
        if line not in bank.measured:
            continue
        chance = tail(source, seen, k, measurement)
        if chance < TOO_UNLIKELY:
            unexplained.append(Unexplained(line, time, float(seen.value[k]), chance))
    found = replace(before, seen=before.seen.joined(seen), unexplained=tuple(unexplained))
    further = log_likelihood(bank, seen, measurement, found.aside)
    return replace(found, log_likelihood=before.log_likelihood + further)


def log_likelihood(
    bank: Bank, seen: Seen, measurement: Measurement, aside: frozenset[tuple[str, float]]
) -> Floats:
    """Log-likelihood of what was seen in every patient of a bank, ``[L]``.

    Parameters
    ----------
    bank, seen, measurement
        As of `weigh`.
    aside
        Line and time of counts that tell only that the patient lives.
    """
    total = np.zeros(len(bank))
    for k in range(len(seen)):
        line, time = seen.line[k], float(seen.time[k])
        if line not in bank.measured:
            continue
        # whoever has died before a count was taken is not this patient
        gone = bank.death_day < np.floor(time) + 1.0
        found = np.zeros(len(bank)) if (line, time) in aside else _one(bank, seen, k, measurement)
        total += np.where(gone | ~np.isfinite(found), -np.inf, found)
    return total


def log_densities(seen: Seen, measurement: Measurement, counted: Floats) -> Floats:
    """Log density of each count in a patient of draw 0 who has the counts ``[K]``."""
    nobody = np.zeros(1, dtype=np.int64)
    return np.array(
        [
            measurement.errors[seen.line[k]].log_density(
                counted[[k]], nobody, float(seen.value[k]), int(seen.censored[k]),
                float(seen.lower[k]),
            )[0]
            for k in range(len(seen))
        ]
    )  # fmt: skip


def _one(bank: Bank, seen: Seen, k: int, measurement: Measurement) -> Floats:
    """Log density of one count in every patient."""
    return measurement.errors[seen.line[k]].log_density(
        bank.counted(seen.line[k], float(seen.time[k])),
        bank.who.draw,
        float(seen.value[k]),
        int(seen.censored[k]),
        float(seen.lower[k]),
    )


def tail(bank: Bank, seen: Seen, k: int, measurement: Measurement) -> float:
    """Chance of a count as far out as one that was seen, on its side, doubled.

    Parameters
    ----------
    bank, seen, measurement
        As of `weigh`; patients evenly spread over the bank stand for all.
    k
        Which count.
    """
    some = np.flatnonzero(bank.death_day >= np.floor(seen.time[k]) + 1.0)
    if not some.size:
        return 0.0
    some = some[np.linspace(0, some.size - 1, _FOR_A_TAIL).astype(np.int64)]
    error, draw = measurement.errors[seen.line[k]], bank.who.draw[some]
    counted = bank.counted(seen.line[k], float(seen.time[k]), some)
    value, censored = float(seen.value[k]), int(seen.censored[k])
    low = float(np.mean(np.exp(error.log_density(counted, draw, value, BELOW, -np.inf))))
    if censored != NOT_CENSORED:
        return low if censored == BELOW else 1.0 - low
    return float(np.clip(2.0 * min(low, 1.0 - low), 0.0, 1.0))
