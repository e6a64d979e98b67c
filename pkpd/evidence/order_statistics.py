"""Likelihood of published medians, ranges, quartiles and means of a continuous quantity.

Days are printed as whole numbers, so a printed median says that the median fell into a cell of the
axis, 27.5 to 28.5. Cut the axis into cells; n patients fall into them as a multinomial whose
probabilities are those of simulated patients. Their Monte Carlo error is accounted for as for
counts: the probabilities are Dirichlet with the simulated (effective) numbers in the cells, spread
by a kernel, plus a tenth of a patient spread evenly over the support, so that no cell is
impossible. Where few are simulated, a part of the weight follows a Student distribution with their
mean and SD instead of the kernel (kernel and parametric form mixed: Olkin & Spiegelman, J Am Stat
Assoc 1987;82:858). A hundred simulated patients do not tell where the last of two hundred will be;
without it, one of them who comes and goes with the parameters decides on a maximum.
"Minimum in A, median in B, maximum in C" is then a sum over the numbers of patients below and above
B, every term a ratio of gamma functions (David & Nagaraja, Order Statistics, 2003, section 2, for
the case of known probabilities).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, stdtr

from pkpd.evidence.log_sums import log_sum

Floats = NDArray[np.float64]

EVEN = 0.1  # patients spread evenly over the support
# Chosen, not estimated: with 64 simulated patients a late one moves a maximum by about 1 in log.
STUDENT = 20.0  # of so many simulated patients, half of the weight follows a Student distribution
FREEDOM = 5.0  # its degrees of freedom: tails heavier than those of a normal


@dataclass(frozen=True)
class Sample:
    """Simulated values under one or several sets of weights.

    Attributes
    ----------
    values : float[N]
        Finite, on the scale of the cells.
    weights : float[K, N]
        Each row sums to 1.
    size : float[K]
        Effective numbers of patients.
    bandwidth
        SD of the kernel, in the units of the values.
    support
        Ends of the axis over which :data:`EVEN` further patients are spread.
    natural : float[N] or None
        The values as printed, for means, if `values` is another scale of them.
    """

    values: Floats
    weights: Floats
    size: Floats
    bandwidth: float
    support: tuple[float, float]
    natural: Floats | None = None

    @property
    def printed(self) -> Floats:
        """Values as they are printed."""
        return self.values if self.natural is None else self.natural

    def cell_weights(self, edges: Floats) -> Floats:
        """Dirichlet weights ``[K, C]`` of the cells between increasing ``edges [C + 1]``."""
        low, high = self.support
        below = ndtr((edges[None, :] - self.values[:, None]) / self.bandwidth)
        even = np.clip((edges - low) / (high - low), 0.0, 1.0)
        centre, scale = self.student
        tails = stdtr(FREEDOM, (edges[None, :] - centre[:, None]) / scale[:, None])
        share = self.student_share[:, None]
        smooth = (1.0 - share) * (self.weights @ below) + share * tails
        cumulative = smooth * self.size[:, None] + EVEN * even
        return np.maximum(np.diff(cumulative, axis=1), 1e-12)

    @property
    def student_share(self) -> Floats:
        """Share of the weight that follows the Student distribution, ``[K]``."""
        return STUDENT / (STUDENT + self.size)

    @property
    def student(self) -> tuple[Floats, Floats]:
        """Centre and scale ``[K]`` of the Student distribution with the patients' mean and SD."""
        centre = self.weights @ self.values
        variance = self.weights @ self.values**2 - centre**2
        variance = np.maximum(variance, 0.0) + self.bandwidth**2
        return centre, np.sqrt(variance * (FREEDOM - 2.0) / FREEDOM)


def order_log_likelihood(
    sample: Sample,
    n: int,
    median: tuple[float, float],
    extremes: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Floats:
    """Log probability that the median, and the extremes if given, of n patients fall into cells.

    Parameters
    ----------
    sample
        Simulated patients.
    n
        Published number of patients.
    median
        Ends of the cell of the median.
    extremes
        Cells of the minimum and of the maximum.

    Returns
    -------
    float[K]

    Notes
    -----
    For an even n the median is the mean of the middle two; it is taken as one or the other with
    equal probability.
    """
    ranks = (n // 2 + 1,) if n % 2 else (n // 2, n // 2 + 1)
    by_rank = [_rank_log_likelihood(sample, n, rank, median, extremes) for rank in ranks]
    return log_sum(np.stack(by_rank), axis=0) - np.log(len(ranks))


def _rank_log_likelihood(
    sample: Sample,
    n: int,
    rank: int,
    median: tuple[float, float],
    extremes: tuple[tuple[float, float], tuple[float, float]] | None,
) -> Floats:
    infinity = np.inf
    if extremes is None:
        edges = np.array([-infinity, *median, infinity])
        lower, middle, upper = sample.cell_weights(edges).T
        low_terms = _rising(lower, rank)
        high_terms = _rising(upper, n - rank + 1)
        total = lower + middle + upper
    else:
        (a0, a1), (c0, c1) = extremes
        a1, c0 = min(a1, median[0]), max(c0, median[1])
        edges = np.array([-infinity, min(a0, a1), a1, *median, c0, max(c0, c1), infinity])
        weights = sample.cell_weights(edges)
        at_low, between_low, middle, between_high, at_high = weights.T[1:-1]
        low_terms = _with_one_at_the_end(at_low, between_low, rank, a0 < a1)
        high_terms = _with_one_at_the_end(at_high, between_high, n - rank + 1, c0 < c1)
        total = weights.sum(axis=1)
    here = np.arange(n + 1)
    below = low_terms - gammaln(here[:rank] + 1)
    above = high_terms - gammaln(here[: n - rank + 1] + 1)
    at_median = _rising(middle, n + 1) - gammaln(here + 1)
    outside = _added(below, above)  # 0 to n - 1 patients below and above
    terms = outside + at_median[:, :0:-1]
    return log_sum(terms, axis=1) + gammaln(n + 1) + gammaln(total) - gammaln(total + n)


def _added(first: Floats, second: Floats) -> Floats:
    """Log weights ``[K, I + J - 1]`` of sums of two numbers, from those of each ``[K, I or J]``.

    Weights of numbers of patients under a Dirichlet differ by far less than what numbers of double
    precision span, so that they are added as they are, all positive.
    """
    tops = [np.max(x, axis=1, keepdims=True) for x in (first, second)]
    tops = [np.where(np.isfinite(top), top, 0.0) for top in tops]
    sums = _convolved(np.exp(first - tops[0]), np.exp(second - tops[1]))
    with np.errstate(divide="ignore"):
        return np.log(sums) + tops[0] + tops[1]


@njit(nogil=True, cache=True)
def _convolved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Convolve row by row; for many short rows `numpy.convolve` is mostly overhead."""
    rows, short = first.shape
    long = second.shape[1]
    sums = np.zeros((rows, short + long - 1))
    for k in range(rows):
        for i in range(short):
            weight = first[k, i]
            if weight != 0.0:
                for j in range(long):
                    sums[k, i + j] += weight * second[k, j]
    return sums


def _rising(weight: Floats, many: int) -> Floats:
    """``log(weight (weight + 1) ... )`` with 0, 1, ... ``many - 1`` factors, ``[K, many]``."""
    terms = np.zeros((weight.size, many))
    np.cumsum(np.log(weight[:, None] + np.arange(many - 1)), axis=1, out=terms[:, 1:])
    return terms


def _with_one_at_the_end(at_end: Floats, between: Floats, many: int, distinct: bool) -> Floats:
    """Log moments of "some of the patients on this side are in its end cell", ``[K, many]``.

    If the end cell is that of the median itself, nobody is on this side.
    """
    counts = np.arange(many)
    if not distinct:
        return np.where(counts == 0, 0.0, -np.inf) + np.zeros_like(at_end)[:, None]
    anywhere = _rising(at_end + between, many)
    none_at_end = _rising(between, many)
    gap = np.minimum(none_at_end - anywhere, 0.0)
    with np.errstate(divide="ignore"):
        return anywhere + np.log(-np.expm1(gap))


def quantiles_log_likelihood(
    sample: Sample, n: int, cells: tuple[tuple[float, float], ...], levels: tuple[float, ...]
) -> Floats:
    """Log probability that several sample quantiles (such as quartiles) fall into cells.

    Parameters
    ----------
    sample, n
        As for :func:`order_log_likelihood`.
    cells
        Increasing cells that do not overlap.
    levels
        Their levels, such as 0.25, 0.5, 0.75: the order statistic of rank ``ceil(n level)``.

    Notes
    -----
    Cell by cell, the probability of each number of patients so far is carried along; only numbers
    that put the wanted rank into its cell are kept. The cost grows with n squared.
    """
    edges = [-np.inf]
    for low, high in cells:
        edges += [max(low, edges[-1]), high]
    weights = sample.cell_weights(np.array([*edges, np.inf]))
    ranks = [int(np.clip(np.ceil(n * level), 1, n)) for level in levels]
    counts = np.arange(n + 1)
    so_far = np.where(counts == 0, 0.0, -np.inf) + np.zeros((len(weights), 1))
    for cell in range(weights.shape[1]):
        each = _rising(weights[:, cell], n + 1) - gammaln(counts + 1)
        rank = ranks[cell // 2] if cell % 2 else 0
        if rank:
            so_far = np.where(counts < rank, so_far, -np.inf)
        so_far = _added(so_far, each)[:, : n + 1]
        if rank:
            so_far = np.where(counts >= rank, so_far, -np.inf)
    total = weights.sum(axis=1)
    return so_far[:, n] + gammaln(n + 1) + gammaln(total) - gammaln(total + n)


def mean_log_likelihood(
    sample: Sample,
    n: int,
    mean: float,
    rounding: float,
    extremes: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Floats:
    """Log density of a published mean, and of the range if it is printed.

    The mean of n patients is normal about the simulated mean, with the variance of n patients, the
    Monte Carlo variance, and that of rounding to +-`rounding`; it is taken as independent of the
    extremes.
    """
    centre = sample.weights @ sample.printed
    spread = sample.weights @ sample.printed**2 - centre**2
    variance = spread * (1.0 / n + 1.0 / sample.size) + rounding**2 / 3.0
    value = -0.5 * ((mean - centre) ** 2 / variance + np.log(2 * np.pi * variance))
    # as a probability of the printed number, so that it can be compared with other rows
    value = value + np.log(2.0 * rounding)
    if extremes is not None:
        value = value + _extremes_log_likelihood(sample, n, extremes)
    return value


def _extremes_log_likelihood(
    sample: Sample, n: int, extremes: tuple[tuple[float, float], tuple[float, float]]
) -> Floats:
    (a0, a1), (c0, c1) = extremes
    edges = np.array([-np.inf, a0, a1, c0, c1, np.inf])
    weights = sample.cell_weights(edges)
    low, middle, high = weights.T[1:-1]
    below, above = np.arange(1, n), np.arange(1, n)
    i, j = np.nonzero(below[:, None] + above[None, :] <= n)
    a, c = below[i], above[j]
    ways = gammaln(n + 1) - gammaln(a + 1) - gammaln(c + 1) - gammaln(n - a - c + 1)
    terms = (
        ways
        + _rising(low, n + 1)[:, a]
        + _rising(high, n + 1)[:, c]
        + _rising(middle, n + 1)[:, n - a - c]
    )
    total = weights.sum(axis=1)
    return log_sum(terms, axis=1) + gammaln(total) - gammaln(total + n)


def difference_log_likelihood(
    first: Sample, second: Sample, n: tuple[int, int], value: float, sd: float | None, log: bool
) -> Floats:
    """Log density of a published ratio (``log=True``) or difference of mean times of two arms.

    Parameters
    ----------
    first, second
        Simulated patients of the arm and of the one compared with; same K.
    n
        Published numbers of patients of the two arms.
    value
        Ratio, or difference (first minus second).
    sd
        Published standard error, of the log ratio if `log`; ``None``: from the simulated spread.
    log
        Whether `value` is a ratio.
    """
    means, variances, noise = [], [], []
    for sample, patients in zip((first, second), n, strict=True):
        x = np.log(sample.printed) if log else sample.printed
        mean = sample.weights @ x
        variance = sample.weights @ x**2 - mean**2
        means.append(mean)
        variances.append(variance / patients)
        noise.append(variance / sample.size)
    observed = np.log(value) if log else value
    own = variances[0] + variances[1] if sd is None else np.full_like(means[0], sd**2)
    total = own + noise[0] + noise[1] + 1e-12
    return -0.5 * ((observed - (means[0] - means[1])) ** 2 / total + np.log(2 * np.pi * total))
