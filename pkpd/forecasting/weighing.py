"""How well each patient of a bank explains what was seen of another: weights, and their trust."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.forecasting.bank import Bank
from pkpd.forecasting.measurement import Measurement
from pkpd.forecasting.seen import Seen

TOO_UNLIKELY = 1e-4
"""A count that so few patients of the source would show is set aside and told."""

_ENOUGH = 30.0  # patients who explain the other counts, for a judgement by them
_IMPOSSIBLE = -1e6
_FOR_A_TAIL = 1000  # patients; a chance of 1e-4 is one of their tails, not of their number

FEWEST = 100.0
"""Virtual patients that have to count, by their effective number, before a forecast is told."""


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
    def aside(self) -> frozenset[tuple[str, float, float]]:
        """Line, time and value of the counts that are set aside."""
        return frozenset((lost.line, lost.time, lost.value) for lost in self.unexplained)

    @property
    def counted(self) -> int:
        """Number of counts of lines that the virtual patients have."""
        return sum(line in self.bank.measured for line in self.seen.line)

    @cached_property
    def heard(self) -> Seen:
        """What the weights rest on: counts of those lines that are not set aside."""
        every, aside = enumerate(self.seen.counts), self.aside
        used = [k for k, one in every if one[0] in self.bank.measured and one not in aside]
        return self.seen.taken(np.array(used, dtype=np.int64))

    @property
    def used(self) -> int:
        """Number of counts that the weights rest on."""
        return len(self.heard)

    @property
    def unheard(self) -> str:
        """Line that is asked about and was counted twice or more, and no count used; or empty."""
        heard = set(self.heard.line)
        asked = (line for line in self.bank.asked.back or {} if line not in heard)
        return next((line for line in asked if self.seen.line.count(line) > 1), "")

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
    def effective_draws(self) -> float:
        """Effective number of parameter draws that the virtual patients have."""
        shares = np.bincount(self.bank.who.draw, weights=self.weights)
        return float(1.0 / np.sum(shares**2))

    @property
    def trusted(self) -> bool:
        """Whether :data:`FEWEST` virtual patients or more look like this one, by firm weights.

        Where no count is used all of them do, and where none of a line is, the forecast of that
        line is not of this patient.
        """
        if not self.used or self.unheard:
            return False
        return self.k <= LIMIT and self.effective >= FEWEST


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
        Patients of the source who nothing is known of.

    Notes
    -----
    A count is set aside if hardly any patient of the source would show one as far out, or hardly
    any of those who explain the other counts, as far as there are such.
    """
    bank = before.bank
    places = [k for k in range(len(seen)) if seen.line[k] in bank.measured]
    alive = log_likelihood(bank, seen, measurement, frozenset(seen.counts))
    density = {k: _one(bank, seen, k, measurement) for k in places}
    chance = {k: tail(source, seen, k, measurement) for k in places}
    odd = {k for k in places if chance[k] < TOO_UNLIKELY}
    total = before.log_likelihood + alive
    for k in places:
        total = total + (0.0 if k in odd else _finite(density[k]))
    for k in [k for k in places if k not in odd]:
        others = total - _finite(density[k])
        like = drawn_by(others)
        if like is not None:
            chance[k] = min(chance[k], tail(bank, seen, k, measurement, like))
    late = {k for k in places if chance[k] < TOO_UNLIKELY} - odd
    for k in late:
        total = total - _finite(density[k])
    lost = (
        Unexplained(seen.line[k], float(seen.time[k]), float(seen.value[k]), chance[k])
        for k in sorted(odd | late)
    )
    return replace(
        before,
        seen=before.seen.joined(seen),
        unexplained=(*before.unexplained, *lost),
        log_likelihood=total,
    )


def _finite(density: Floats) -> Floats:
    """Log densities; impossible ones so low that they can be taken back."""
    return np.where(np.isfinite(density), density, _IMPOSSIBLE)


def drawn_by(logs: Floats) -> NDArray[np.int64] | None:
    """Places of 1,000 patients drawn by their log weights; ``None`` if too few count."""
    if not np.isfinite(logs).any():
        return None
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    if 1.0 / np.sum(weights**2) < _ENOUGH:
        return None
    at = (np.arange(_FOR_A_TAIL) + 0.5) / _FOR_A_TAIL
    return np.minimum(np.searchsorted(np.cumsum(weights), at), weights.size - 1)


def log_likelihood(
    bank: Bank, seen: Seen, measurement: Measurement, aside: frozenset[tuple[str, float, float]]
) -> Floats:
    """Log-likelihood of what was seen in every patient of a bank, ``[L]``.

    Parameters
    ----------
    bank, seen, measurement
        As of `weigh`.
    aside
        Line, time and value of counts that tell only that the patient lives.
    """
    total = np.zeros(len(bank))
    for k, count in enumerate(seen.counts):
        line, time, _ = count
        if line not in bank.measured:
            continue
        # whoever has died before a count was taken is not this patient
        gone = bank.death_day < np.floor(time) + 1.0
        if count not in aside:
            total += _finite(_one(bank, seen, k, measurement))
        total[gone] = -np.inf
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


def tail(
    bank: Bank,
    seen: Seen,
    k: int,
    measurement: Measurement,
    some: NDArray[np.int64] | None = None,
) -> float:
    """Chance of a count as far out as one that was seen, on its side, doubled.

    Parameters
    ----------
    bank, seen, measurement
        As of `weigh`.
    k
        Which count.
    some
        Places of the patients who are looked at; if not given, patients evenly spread over those of
        the bank who lived to see the day.
    """
    if some is None:
        some = np.flatnonzero(bank.death_day >= np.floor(seen.time[k]) + 1.0)
        if not some.size:
            return 0.0
        some = some[np.linspace(0, some.size - 1, _FOR_A_TAIL).astype(np.int64)]
    error, draw = measurement.errors[seen.line[k]], bank.who.draw[some]
    counted = bank.counted(seen.line[k], float(seen.time[k]), some)
    value, censored = float(seen.value[k]), int(seen.censored[k])
    # what the marrow does not make explains a count that is high, not one that is low
    most = error.counted(counted, value, NOT_CENSORED)
    low, high = (
        float(np.mean(np.exp(error.log_density(at, draw, value, BELOW, -np.inf))))
        for at in (counted, most)
    )
    if censored != NOT_CENSORED:
        return low if censored == BELOW else 1.0 - high
    return float(np.clip(2.0 * min(low, 1.0 - high), 0.0, 1.0))
