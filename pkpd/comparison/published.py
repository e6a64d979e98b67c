"""Intervals for published counts such as "2 of 6 patients had a DLT".

Source: Clopper & Pearson, Biometrika 1934;26:404 (exact); quantiles of beta distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.errors import DataError


@dataclass(frozen=True)
class Proportion:
    """A proportion with its interval; fields broadcast over the counts given."""

    estimate: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    level: float


def clopper_pearson(events: ArrayLike, patients: ArrayLike, level: float = 0.95) -> Proportion:
    """Exact binomial interval: at least ``level`` coverage for any true proportion.

    Parameters
    ----------
    events, patients : int or int[...]
        Numerator and denominator.
    level : float
        Coverage, 0 to 1.

    Examples
    --------
    >>> interval = clopper_pearson(2, 6)
    >>> round(float(interval.lower), 3), round(float(interval.upper), 3)
    (0.043, 0.777)
    """
    from scipy.special import betaincinv  # scipy.stats takes long to import

    k, n = _counts(events, patients, level)
    tail = 0.5 * (1.0 - level)
    lower, upper = np.zeros(k.shape), np.ones(k.shape)
    some, others = k > 0, k < n
    lower[some] = betaincinv(k[some], n[some] - k[some] + 1.0, tail)
    upper[others] = betaincinv(k[others] + 1.0, n[others] - k[others], 1.0 - tail)
    return Proportion(k / n, lower, upper, level)


def _counts(
    events: ArrayLike, patients: ArrayLike, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k, n = np.broadcast_arrays(
        np.asarray(events, dtype=np.float64), np.asarray(patients, dtype=np.float64)
    )
    whole = np.all(k == np.floor(k)) and np.all(n == np.floor(n))
    if not whole or np.any(n < 1) or np.any(k < 0) or np.any(k > n) or not 0.0 < level < 1.0:
        raise DataError(
            where="published count",
            what=f"{events} of {patients} at level {level}",
            allowed="whole numbers with 0 <= events <= patients, patients >= 1, 0 < level < 1",
        )
    return k, n
