"""Are ranks uniform? Chi-square test, ECDF differences with simultaneous bands.

Under a right posterior the rank of the true value among ``L`` independent posterior draws is
uniform on ``0 ... L`` (Talts et al. 2018, arXiv:1804.06788). The band around the empirical
distribution function holds whole curves with a stated probability (Säilynoja, Bürkner and Vehtari
2022, Stat Comput 32:32); the smallest pointwise tail probability of a curve, compared with that of
simulated uniform ranks, gives the p-value of the same test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

_SIMULATED = 4000
_PER_BIN = 8  # expected ranks per bin of the chi-square test, at least


@dataclass(frozen=True)
class Uniformity:
    """Test of one quantity's ranks.

    Attributes
    ----------
    chi_square_p
        P-value of the chi-square test on equal bins.
    ecdf_p
        P-value of the largest departure of the empirical distribution function.
    mean
        Mean of rank over ``L``; 0.5 if the posterior is not shifted, above if it lies too low.
    spread
        Variance of the ranks over that of uniform ones; below 1 if the posterior is too wide.
    """

    chi_square_p: float
    ecdf_p: float
    mean: float
    spread: float


def uniformity(ranks: np.ndarray, largest: int) -> Uniformity:
    """Test ranks for uniformity.

    Parameters
    ----------
    ranks : int[n]
        Ranks from 0 to ``largest``.
    largest
        Number ``L`` of posterior draws each true value was ranked among.
    """
    n = len(ranks)
    bins = _bins(n, largest)
    counts = np.bincount(ranks * bins // (largest + 1), minlength=bins)
    # the bins hold equal numbers of ranks: `bins` divides `largest + 1`
    chi = float(stats.chisquare(counts).pvalue) if bins > 1 else 1.0
    smallest = _smallest_tail(_counts_up_to(ranks, largest)[None], n, largest)[0]
    ecdf = float(np.mean(_null_tails(n, largest) <= smallest))
    uniform = ((largest + 1) ** 2 - 1) / 12.0
    return Uniformity(
        chi,
        ecdf,
        float(np.mean(ranks) / largest),
        float(np.mean((ranks - 0.5 * largest) ** 2) / uniform),
    )


def _bins(n: int, largest: int) -> int:
    """Most bins that share the ranks equally and expect enough of them, at most 20."""
    wanted = max(1, min(20, n // _PER_BIN))
    return max(k for k in range(1, wanted + 1) if (largest + 1) % k == 0)


def ecdf_difference(ranks: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Empirical distribution function of the ranks minus the uniform one.

    Returns
    -------
    float[L + 1], float[L + 1]
        Share of the ranks passed, and the difference there.
    """
    at = np.arange(1, largest + 2) / (largest + 1)
    return at, _counts_up_to(ranks, largest) / len(ranks) - at


def ecdf_band(n: int, largest: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Simultaneous band of `ecdf_difference` for ``n`` uniform ranks, lower and upper ``[L + 1]``.

    Parameters
    ----------
    n
        Number of ranks.
    largest
        Largest rank.
    level
        Probability that the whole curve lies within.
    """
    gamma = float(np.quantile(_null_tails(n, largest), 1.0 - level))
    at = np.arange(1, largest + 2) / (largest + 1)
    low = stats.binom.ppf(gamma / 2, n, at) / n - at
    high = stats.binom.ppf(1 - gamma / 2, n, at) / n - at
    return low, high


def _counts_up_to(ranks: np.ndarray, largest: int) -> np.ndarray:
    """Ranks not above 0, 1, ..., L."""
    return np.cumsum(np.bincount(ranks, minlength=largest + 1))


def _smallest_tail(counts: np.ndarray, n: int, largest: int) -> np.ndarray:
    """Smallest two-sided binomial tail probability along each curve of counts ``[..., L + 1]``."""
    table = _tails(n, largest)
    return np.min(table[np.arange(largest), counts[..., :-1]], axis=-1)


@lru_cache(maxsize=8)
def _tails(n: int, largest: int) -> np.ndarray:
    """Two-sided tail probability of every count at every rank but the last, ``[L, n + 1]``."""
    at = (np.arange(1, largest + 1) / (largest + 1))[:, None]
    count = np.arange(n + 1)[None, :]
    low, high = stats.binom.cdf(count, n, at), stats.binom.sf(count - 1, n, at)
    return np.minimum(1.0, 2.0 * np.minimum(low, high))


@lru_cache(maxsize=8)
def _null_tails(n: int, largest: int) -> np.ndarray:
    """Smallest tail probabilities of simulated uniform ranks, sorted."""
    rng = np.random.default_rng(20220)
    drawn = rng.multinomial(n, np.full(largest + 1, 1.0 / (largest + 1)), size=_SIMULATED)
    return np.sort(_smallest_tail(np.cumsum(drawn, axis=1), n, largest))
