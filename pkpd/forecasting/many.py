"""Many patients of a source forecast by one bank at once: their counts on visits, and what follows.

Where thousands of simulated patients are forecast, each from counts on the same visits, the log
density of one count in all patients of the bank is a matrix, patients by bank. After ten visits
hardly anybody in a bank of 10,000 is like a patient, and to move particles for each of them, as
`pkpd.forecasting.tempering` does, would take days. Log-likelihoods are flattened instead, until 30
patients of the bank count: a forecast that is a little too wide is better than that of two
patients. In 600 patients with twelve visits the Brier score of P(DLT) fell from 0.12 to 0.10 by it,
and a bank of 80,000 did not do that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.forecasting.bank import Bank
from pkpd.forecasting.measurement import Measurement

Singles = NDArray[np.float32]

_CELLS = 500_000  # patients times bank, of which densities are held at once
_COUNT = 30.0  # patients of the bank who count, at least
_FLATTEST, _STEPS = -8.0, 6  # power of the likelihood: log2 of the least; halvings of the search


@dataclass(frozen=True)
class VisitCounts:
    """Counts of P patients on the same visits.

    Attributes
    ----------
    days : tuple of int
        Protocol days of the visits, rising; counts are taken in the morning.
    values : dict of float[P, V]
        By line, with the error of counting, in 10^9/L; a count below its limit is the limit.
    below : dict of bool[P, V]
        Whether a count is only known to lie below its limit.
    """

    days: tuple[int, ...]
    values: Mapping[str, Floats]
    below: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(next(iter(self.values.values())))

    @property
    def times(self) -> Floats:
        """Days from the start of day 1 to each visit, ``[V]``."""
        return np.array(self.days, dtype=float) - 1.0


def check_days(days: Sequence[int], last: int, where: str = "visits") -> tuple[int, ...]:
    """Take protocol days in order.

    Raises
    ------
    PkpdError
        If there is none, or one is no whole number from 1 to the last day.
    """
    found = []
    for day in days:
        whole = isinstance(day, int | np.integer) and not isinstance(day, bool)
        if not whole or not 1 <= day <= last:
            allowed = f"protocol days from 1 to {last}"
            raise PkpdError(where=where, what=f"{day!r}", allowed=allowed)
        found.append(int(day))
    if not found:
        raise PkpdError(where=where, what="there is no day", remedy="name one")
    return tuple(sorted(set(found)))


def check_lines(lines: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Take lines that are counted.

    Raises
    ------
    PkpdError
        If there is none, or the source has no counts of one.
    """
    for line in lines:
        if line not in known:
            raise PkpdError(where="lines", what=line, allowed=", ".join(known))
    if not lines:
        raise PkpdError(where="lines", what="there is none", allowed=", ".join(known))
    return tuple(dict.fromkeys(lines))


def counted_on(
    bank: Bank,
    days: Sequence[int],
    lines: Sequence[str],
    measurement: Measurement,
    rng: np.random.Generator,
) -> VisitCounts:
    """Count the patients of a bank on visits, with the error of counting.

    Parameters
    ----------
    bank
        Who is counted.
    days, lines
        When, and what; from `check_days` and `check_lines`.
    measurement
        How counts scatter, and the limits below which they are not told.
    rng
        Random numbers.
    """
    values, below = {}, {}
    for line in lines:
        limit = measurement.limits.get(line, 0.0)
        columns = [
            measurement.errors[line].simulate(bank.counted(line, day - 1.0), bank.who.draw, rng)
            for day in days
        ]
        counts = np.stack(columns, axis=1)
        below[line] = counts < limit
        values[line] = np.where(below[line], limit, counts)
    return VisitCounts(tuple(days), values, below)


def densities(
    bank: Bank, counts: VisitCounts, which: slice, visit: int, measurement: Measurement
) -> Singles:
    """Log density of the counts of one visit in every patient of a bank, ``[p, L]``.

    Parameters
    ----------
    bank
        Patients who may be like those counted.
    counts
        Of the patients.
    which
        Which of the patients.
    visit
        Number of the visit.
    measurement
        How counts scatter.
    """
    day = counts.days[visit]
    total = np.zeros((which.stop - which.start, len(bank)), dtype=np.float32)
    for line, values in counts.values.items():
        error, at = measurement.errors[line], bank.counted(line, day - 1.0)
        value = values[which, visit][:, None]
        low = counts.below[line][which, visit]
        found = error.log_densities(at, bank.who.draw, value, NOT_CENSORED)
        if low.any():
            limit = np.full((1, 1), measurement.limits[line])
            found = np.where(
                low[:, None], error.log_densities(at, bank.who.draw, limit, BELOW), found
            )
        total += found
    total[:, bank.death_day < day] = -np.inf
    return total


def portions(patients: int, bank: int) -> Iterator[slice]:
    """Patients in portions whose densities are held at once."""
    step = max(1, _CELLS // max(bank, 1))
    for start in range(0, patients, step):
        yield slice(start, min(start + step, patients))


def over(function: Callable[[slice], Floats], patients: int, bank: int, threads: int) -> Floats:
    """Put together what a function gives for portions of the patients, on several cores."""
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        return np.concatenate(list(pool.map(function, portions(patients, bank))))


def weights_of(logs: Singles) -> Singles:
    """Weights from log-likelihoods ``[p, L]``, flattened until enough of the bank count.

    The likelihood is raised to the highest power, at most 1, at which the effective number of
    patients is 30 or more. Weights are equal where nobody explains what was seen.
    """
    weights = _raised(logs, np.ones(len(logs)))
    thin = np.flatnonzero(_effective(weights) < _COUNT)
    if thin.size and logs.shape[1] > _COUNT:
        some = logs[thin]
        low, high = np.full(thin.size, _FLATTEST), np.zeros(thin.size)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            enough = _effective(_raised(some, np.exp2(middle))) >= _COUNT
            low, high = np.where(enough, middle, low), np.where(enough, high, middle)
        weights[thin] = _raised(some, np.exp2(low))
    return weights


def _raised(logs: Singles, power: Floats) -> Singles:
    """Normalised weights of a power of the likelihood, ``[p, L]``."""
    highest = logs.max(axis=1, keepdims=True)
    lost = ~np.isfinite(highest[:, 0])
    weights = logs - np.where(np.isfinite(highest), highest, 0.0)
    weights *= power.astype(np.float32)[:, None]
    np.exp(weights, out=weights)
    weights[lost] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _effective(weights: Singles) -> Singles:
    """Effective number of patients, ``[p]``."""
    return 1.0 / np.einsum("pl,pl->p", weights, weights)


def judged(bank: Bank) -> Bank:
    """Those of a bank whom its rule can judge."""
    assert bank.dlt is not None
    some = np.flatnonzero(np.isfinite(bank.dlt))
    return replace(
        bank,
        who=bank.who[some],
        measured={line: logs[some] for line, logs in bank.measured.items()},
        recovery={name: days[some] for name, days in bank.recovery.items()},
        death_day=bank.death_day[some],
        dlt=bank.dlt[some],
        response=None if bank.response is None else bank.response[some],
        starts=tuple(replace(start, late=start.late[some]) for start in bank.starts),
    )


def forecast_along(
    bank: Bank, counts: VisitCounts, event: Floats, measurement: Measurement, threads: int
) -> Floats:
    """Probability of an event given the counts up to each visit, ``[P, V + 1]``.

    Parameters
    ----------
    bank
        Virtual patients.
    counts
        Of the patients who are forecast.
    event : float[L]
        Whether each virtual patient has it, 1 or 0.
    measurement
        How counts scatter.
    threads
        At most so many.

    Returns
    -------
    float[P, V + 1]
        The first is before any count.
    """
    hit = event.astype(np.float32)

    def one(which: slice) -> Floats:
        found = np.empty((which.stop - which.start, len(counts.days) + 1))
        found[:, 0] = event.mean()
        logs = np.zeros((len(found), len(bank)), dtype=np.float32)
        for visit in range(len(counts.days)):
            logs += densities(bank, counts, which, visit, measurement)
            found[:, visit + 1] = weights_of(logs) @ hit
        return found

    return np.clip(over(one, len(counts), len(bank), threads), 0.0, 1.0)
