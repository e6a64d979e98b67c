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
from scipy.special import gammaln, ndtr

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
        tails = _student_of_five((edges[None, :] - centre[:, None]) / scale[:, None])
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


def _student_of_five(x: Floats) -> Floats:
    """Distribution function of Student's distribution with five degrees of freedom.

    Closed form (Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3).
    """
    tangent = np.clip(x, -1e100, 1e100) / np.sqrt(5.0)
    cosine_2 = 1.0 / (1.0 + tangent**2)
    inner = np.arctan(tangent) + tangent * cosine_2 * (1.0 + cosine_2 * (2.0 / 3.0))
    return 0.5 + inner / np.pi


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
    ends = (True, True)
    if extremes is None:
        weights = sample.cell_weights(np.array([-np.inf, *median, np.inf]))
    else:
        (a0, a1), (c0, c1) = extremes
        a1, c0 = min(a1, median[0]), max(c0, median[1])
        ends = (a0 < a1, c0 < c1)  # else an extreme is in the cell of the median
        edges = [-np.inf, min(a0, a1), a1, *median, c0, max(c0, c1), np.inf]
        weights = sample.cell_weights(np.array(edges))
    total = weights.sum(axis=1)
    scale = _scale(total, n)
    found = np.zeros_like(total)
    for rank in ranks:
        if extremes is None:
            lower, middle, upper = np.ascontiguousarray(weights.T)
            below = _ways(lower, scale, rank)
            above = _ways(upper, scale, n - rank + 1)
        else:
            at_low, between_low, middle, between_high, at_high = np.ascontiguousarray(
                weights.T[1:-1]
            )
            below = _one_at_the_end(at_low, between_low, scale, rank, ends[0])
            above = _one_at_the_end(at_high, between_high, scale, n - rank + 1, ends[1])
        # 0 to rank - 1 patients below the cell of the median, 0 to n - rank above it
        found += _sums(below, above, _ways(middle, scale, n + 1))
    return _log(found / len(ranks), total, scale, n)


# Numbers of patients under a Dirichlet: every probability is a product of such factors as
# w (w + 1) ... (w + i - 1) / i! over the cells, times n! gamma(T) / gamma(T + n) for all weights T.
# The factors are kept as they are, not as logarithms, times s^i with the s below for every patient:
# their products then stay within exp(n), and all sums are of positive numbers.


def _scale(total: Floats, n: int) -> Floats:
    return n / (total + n)


def _log(found: Floats, total: Floats, scale: Floats, n: int) -> Floats:
    """Log probability from a sum of products of :func:`_ways` of ``n`` patients."""
    with np.errstate(divide="ignore"):
        value = np.log(found)
    return value - n * np.log(scale) + gammaln(n + 1) + gammaln(total) - gammaln(total + n)


@njit(nogil=True, error_model="numpy", cache=True)
def _ways(weight: np.ndarray, scale: np.ndarray, many: int) -> np.ndarray:
    """Factors of 0 to ``many - 1`` patients in a cell, ``[K, many]``."""
    ways = np.empty((weight.size, many))
    for k in range(weight.size):
        ways[k, 0] = 1.0
        for i in range(many - 1):
            ways[k, i + 1] = ways[k, i] * scale[k] * (weight[k] + i) / (i + 1.0)
    return ways


@njit(nogil=True, error_model="numpy", cache=True)
def _one_at_the_end(
    at_end: np.ndarray, between: np.ndarray, scale: np.ndarray, many: int, distinct: bool
) -> np.ndarray:
    """Factors of 0 to ``many - 1`` patients on a side, at least one of them in its end cell.

    If the end cell is that of the median itself, nobody is on this side. Otherwise they are the
    factors of both cells less those of the one between, without their difference being taken.
    """
    ways = np.zeros((at_end.size, many))
    for k in range(at_end.size):
        if not distinct:
            ways[k, 0] = 1.0
            continue
        anywhere = 1.0
        for i in range(many - 1):
            ways[k, i + 1] = ways[k, i] * (between[k] + i) + anywhere * at_end[k]
            ways[k, i + 1] *= scale[k] / (i + 1.0)
            anywhere *= scale[k] * (at_end[k] + between[k] + i) / (i + 1.0)
    return ways


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}, cache=True)
def _sums(first: np.ndarray, second: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Sum over i and j of ``first[i] second[j] rest[n - i - j]``, row by row, ``[K]``."""
    rows, n = rest.shape[0], rest.shape[1] - 1
    sums = np.zeros(rows)
    backwards = np.empty(n + 1)
    for k in range(rows):
        for i in range(n + 1):
            backwards[i] = rest[k, n - i]
        for i in range(min(first.shape[1], n + 1)):
            factor = first[k, i]
            if factor != 0.0:
                inner = 0.0
                for j in range(min(second.shape[1], n + 1 - i)):
                    inner += second[k, j] * backwards[i + j]
                sums[k] += factor * inner
    return sums


@njit(nogil=True, cache=True)
def _added(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Factors of the patients of two sets of cells together, as many as ``first`` has."""
    rows, many = first.shape
    sums = np.zeros((rows, many))
    for k in range(rows):
        for i in range(many):
            weight = first[k, i]
            if weight != 0.0:
                for j in range(many - i):
                    sums[k, i + j] += weight * second[k, j]
    return sums


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
    total = weights.sum(axis=1)
    scale = _scale(total, n)
    so_far = np.zeros((len(weights), n + 1))
    so_far[:, 0] = 1.0
    for cell in range(weights.shape[1]):
        rank = ranks[cell // 2] if cell % 2 else 0
        if rank:
            so_far[:, rank:] = 0.0
        so_far = _added(so_far, _ways(np.ascontiguousarray(weights[:, cell]), scale, n + 1))
        if rank:
            so_far[:, :rank] = 0.0
    return _log(so_far[:, n], total, scale, n)


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
    low, middle, high = np.ascontiguousarray(weights.T[1:-1])
    total = weights.sum(axis=1)
    scale = _scale(total, n)
    below, above = _ways(low, scale, n), _ways(high, scale, n)
    below[:, 0] = above[:, 0] = 0.0  # the extremes are somebody's
    return _log(_sums(below, above, _ways(middle, scale, n + 1)), total, scale, n)


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
