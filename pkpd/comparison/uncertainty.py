r"""Risks, differences and recovery times with parameter uncertainty and Monte Carlo error apart.

The data are crossed: the same N patients are simulated under each of M parameter draws, so an
outcome is

    Y[m, n] = mu + a[m] + b[n] + c[m, n]

with a (parameters), b (patients) and c (their interaction and any chance inside a lane) of variance
s2a, s2b, s2c. The unbiased two-way analysis-of-variance estimates (Searle, Casella & McCulloch,
Variance Components, 1992, ch. 4) come from the mean squares A, B (between draws, between patients)
and E (residual): s2a = (A - E) / N, s2b = (B - E) / M, s2c = E.

Three questions, three answers
------------------------------
Monte Carlo error
    "How far would the estimate move with other draws and patients?"
    Var(mean) = s2a / M + s2b / N + s2c / (M N).
Interval over parameter draws
    "How far would the risk of this population move with other plausible parameters?" The risk of
    draw m is mu + a[m]; the simulated means are wider by the noise of N patients. They are moved
    towards their mean by the factor sqrt(s2a / (s2a + s2c / N)), which gives them the variance s2a;
    where draws judge different numbers of patients, N is each draw's own, and their mean weighs
    them by 1 / (s2a + s2c / N)
    (constrained empirical Bayes: Louis, J Am Stat Assoc 1984;79:393; Ghosh, J Am Stat Assoc
    1992;87:533); the interval is between their quantiles. The patients b are the same for all draws
    and do not widen it: their share is in the Monte Carlo error. With s2a estimated as zero the
    interval is a point: the simulation cannot tell the draws apart. An event that nobody has under
    any draw, or everybody, has no interval: the Monte Carlo error says what it may yet be.
Share of the variance
    Law of total variance for a new patient under uncertain parameters:
    Var(Y) = Var_parameters(E[Y | parameters]) + E[Var(Y | parameters)] = s2a + (s2b + s2c).

A NaN outcome is a lane that is not evaluable: means are over evaluable lanes, and the components
are those of the linearised ratio w (Y - mean) / mean(w), w = 1 when evaluable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri

from pkpd.comparison.crossed import Crossed, CrossedTimes, crossed, matrix_of
from pkpd.errors import DataError

LEVEL = 0.90
_TAIL = (1.0 - LEVEL) / 2.0
_ROUNDING = 1e-9
_BY_CHANCE = 0.05
"""Probability with which draws that are equal are taken to differ."""
_JACKKNIFE_GROUPS = 20


@dataclass(frozen=True)
class Risk:
    """Probability (or mean) of an outcome in the population.

    Attributes
    ----------
    estimate
        Mean over draws and patients.
    lower, upper
        Interval of the risk over parameter draws (90 % by default); NaN where draws tell none.
    mc_error
        Standard error of ``estimate`` from finite numbers of draws and patients.
    share_patients, share_parameters
        Fractions of the variance of a new patient's outcome; they add to 1.
    share_interaction
        The part of ``share_patients`` that belongs to neither alone: patients whose outcome depends
        on the draw, and chance.
    by_draw : float[M]
        Risk of each draw, freed of patient noise.
    draws, patients, not_evaluable
        M, N, and the number of lanes without a verdict.
    """

    estimate: float
    lower: float
    upper: float
    mc_error: float
    share_patients: float
    share_parameters: float
    share_interaction: float
    by_draw: NDArray[np.float64]
    draws: int
    patients: int
    not_evaluable: int


@dataclass(frozen=True)
class Difference:
    """A minus B on the same patients and draws; ``estimate`` to ``mc_error`` as in ``Risk``.

    Attributes
    ----------
    probability_a_safer
        Share of draws in which A has the lower mean, ties counted half. Taken from the simulated
        means of the draws, so the noise of few patients pulls it towards one half.
    probability_mc_error
        Its standard error: binomial over draws, and delete-a-group jackknife over patients.
    by_draw : float[M]
        Difference of each draw, freed of patient noise.
    """

    estimate: float
    lower: float
    upper: float
    mc_error: float
    probability_a_safer: float
    probability_mc_error: float
    by_draw: NDArray[np.float64]


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of a (right-censored) time over patients and draws; Q of them.

    Attributes
    ----------
    q : float[Q]
    value : float[Q]
        Smallest time by which a share q of all lanes had the event; infinite: not reached.
    lower, upper : float[Q]
        Interval of the population's quantile over parameter draws; may be infinite.
    mc_error : float[Q]
        Standard error of ``value``; infinite where it touches the horizon.
    censored_share, not_evaluable
        Share of lanes without the event; number of lanes left out.
    """

    q: NDArray[np.float64]
    value: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    mc_error: NDArray[np.float64]
    censored_share: float
    not_evaluable: int


@dataclass(frozen=True)
class RecoveryCurve:
    """Share of patients recovered by each day of the grid; arrays float[G].

    ``mean`` over draws and patients, pointwise interval over draws (NaN on days on which it does
    not hold the mean, and with one draw), Monte Carlo error of the mean.
    """

    grid: NDArray[np.float64]
    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    mc_error: NDArray[np.float64]
    censored_share: float


def risk(outcome: ArrayLike) -> Risk:
    """Risk in the population, with its interval over parameters and its Monte Carlo error.

    Parameters
    ----------
    outcome : float[M, N] or bool[M, N]
        Draws by patients: 1 event, 0 none, NaN not evaluable; or any continuous outcome.
    """
    y = matrix_of(outcome)
    found = crossed(y)
    lower, upper = _interval(found)
    parts = np.array([found.draws, found.patients, found.residual])
    total = np.nansum(parts)
    shares = parts / total if total > 0.0 else np.full(3, np.nan)
    return Risk(
        estimate=found.mean,
        lower=lower,
        upper=upper,
        mc_error=found.mc_error,
        share_patients=float(1.0 - shares[0]),
        share_parameters=float(shares[0]),
        share_interaction=float(shares[2]),
        by_draw=found.denoised,
        draws=y.shape[0],
        patients=y.shape[1],
        not_evaluable=found.not_evaluable,
    )


def paired_difference(outcome_a: ArrayLike, outcome_b: ArrayLike) -> Difference:
    """Difference A - B of two regimens simulated on the same patients and draws.

    Parameters
    ----------
    outcome_a, outcome_b : float[M, N] or bool[M, N]
        Larger is worse; a lane that is NaN in either is left out of both.

    Notes
    -----
    An interval of shares whose end is nearer to none than one patient of a draw ends at none: what
    is left there when the chance of the patients is taken out are draws without any difference.
    """
    a, b = matrix_of(outcome_a), matrix_of(outcome_b)
    if a.shape != b.shape:
        raise DataError(
            where="paired difference",
            what=f"shapes {a.shape} and {b.shape}",
            allowed="the same draws and patients in both",
        )
    d = a - b
    found = crossed(d)
    lower, upper = _interval(found)
    one = 1.0 / np.isfinite(d).sum(axis=1).mean()
    shares = np.isin(d, (-1.0, 0.0, 1.0)) | np.isnan(d)
    if lower < upper and shares.all():
        lower, upper = 0.0 if 0.0 < lower < one else lower, 0.0 if -one < upper < 0.0 else upper
    probability, error = _probability_below(d)
    mc_error = found.mc_error
    if not np.nan_to_num(d).any():
        # alike in every lane: at most as far apart as the errors of both allow
        both = [risk(np.where(np.isnan(d), np.nan, y)).mc_error for y in (a, b)]
        mc_error = min(mc_error, sum(both))
    return Difference(
        estimate=found.mean,
        lower=lower,
        upper=upper,
        mc_error=mc_error,
        probability_a_safer=probability,
        probability_mc_error=error,
        by_draw=found.denoised,
    )


def quantiles_with_uncertainty(
    times: ArrayLike,
    q: Sequence[float] = (0.05, 0.5, 0.95),
    *,
    censored: ArrayLike | None = None,
) -> Quantiles:
    """Quantiles of an event time over patients and draws.

    The interval over draws inverts the denoised distribution functions of the draws (it is the
    horizontal reading of ``recovery_curve``'s band); the Monte Carlo error is Woodruff's (J Am Stat
    Assoc 1952;47:635): the crossed standard error of the distribution function at the quantile,
    carried to the time axis.

    Parameters
    ----------
    times : float[M, N]
        Days; +inf or censored = not reached within the horizon; NaN = not evaluable.
    q : sequence of float
        Between 0 and 1.
    censored : bool[M, N], optional
        True where the event was not seen within the horizon.
    """
    x = _event_times(times, censored)
    pool = np.sort(x[~np.isnan(x)])
    if pool.size == 0:
        raise DataError(where="event times", what="no lane is evaluable")
    wanted = np.asarray(q, dtype=np.float64)
    if np.any(wanted <= 0) or np.any(wanted >= 1):
        raise DataError(where="q", what=f"{q}", allowed="between 0 and 1, both excluded")
    finite, asked = pool[np.isfinite(pool)], CrossedTimes(x)
    value, lower, upper, error = (np.full(wanted.size, np.inf) for _ in range(4))
    for i, share in enumerate(wanted):
        value[i] = _pooled_quantile(pool, share)
        lower[i] = asked.reached(finite, float(share), _TAIL)
        upper[i] = asked.reached(finite, float(share), 1.0 - _TAIL)
    known = np.isfinite(value)
    for i, width in zip(np.flatnonzero(known), asked.by_days(value[known]).mc_error, strict=True):
        high = _pooled_quantile(pool, wanted[i] + width)
        error[i] = 0.5 * (high - _pooled_quantile(pool, wanted[i] - width))
    if x.shape[0] < fewest_draws():
        lower[:] = upper[:] = np.nan
    outside = ~((lower <= value) & (value <= upper))
    outside |= (lower == upper) & np.isfinite(error) & (error > 0.0)  # draws are not told apart
    lower[outside] = upper[outside] = np.nan
    return Quantiles(
        q=wanted,
        value=value,
        lower=lower,
        upper=upper,
        mc_error=error,
        censored_share=float(np.mean(np.isinf(pool))),
        not_evaluable=int(np.isnan(x).sum()),
    )


def recovery_curve(
    times: ArrayLike,
    censored: ArrayLike,
    grid: ArrayLike,
) -> RecoveryCurve:
    """Share of patients recovered by each day, with a pointwise band over parameter draws.

    All censoring is at the horizon, so 1 minus the Kaplan-Meier estimate is the empirical
    distribution function. Lanes that were never below have time 0 and count as recovered.

    Parameters
    ----------
    times : float[M, N]
        Recovery days; the horizon where censored; NaN = not evaluable.
    censored : bool[M, N]
    grid : float[G]
        Days, not beyond the earliest censoring.

    Raises
    ------
    DataError
        The grid goes beyond the earliest censoring time.
    """
    days = np.atleast_1d(np.asarray(grid, dtype=np.float64))
    t = matrix_of(times)
    lost = np.asarray(censored, dtype=bool).reshape(t.shape) & ~np.isnan(t)
    if lost.any() and days.max() > t[lost].min():
        raise DataError(
            where="recovery curve",
            what=f"grid reaches day {days.max():g}, follow-up ends on day {t[lost].min():g}",
            remedy="shorten the grid, or lengthen the horizon of the simulation",
        )
    x = _event_times(t, lost)
    found = CrossedTimes(x).by_days(days)
    lower, upper = np.full((2, days.size), np.nan)
    if x.shape[0] >= fewest_draws():
        lower, upper = np.quantile(found.denoised, [_TAIL, 1.0 - _TAIL], axis=1)
        outside = ~((lower - _ROUNDING <= found.mean) & (found.mean <= upper + _ROUNDING))
        lower, upper = np.fmin(lower, found.mean), np.fmax(upper, found.mean)
        lower[outside] = upper[outside] = np.nan
    share = float(np.mean(np.isinf(x[~np.isnan(x)])))
    return RecoveryCurve(days, found.mean, lower, upper, found.mc_error, share)


def _event_times(times: ArrayLike, censored: ArrayLike | None) -> NDArray[np.float64]:
    t = matrix_of(times)
    if censored is None:
        return t
    lost = np.asarray(censored, dtype=bool)
    if lost.shape != t.shape:
        raise DataError(
            where="event times",
            what=f"shapes {t.shape} and {lost.shape} of times and censoring",
            allowed="equal shapes",
        )
    return np.where(lost & ~np.isnan(t), np.inf, t)


def fewest_draws() -> int:
    """Draws below which an interval is not known: one is expected in each of its tails, 20."""
    return int(np.ceil(2.0 / (1.0 - LEVEL) - _ROUNDING))


def _interval(found: Crossed) -> tuple[float, float]:
    """Interval over draws; NaN with too few for its tails, or if they differ by chance alone."""
    draws = found.by_draw.size
    if draws > 1 and found.mc_error <= _ROUNDING * abs(found.mean):
        return found.mean, found.mean  # every lane is alike: draws need not be many
    if draws < fewest_draws() or not _differ(found):
        return np.nan, np.nan
    lower, upper = _ends(found.denoised, _TAIL)
    if not lower - _ROUNDING <= found.mean <= upper + _ROUNDING:
        return np.nan, np.nan  # one draw makes the mean: these draws tell no interval
    return float(min(lower, found.mean)), float(max(upper, found.mean))


def _differ(found: Crossed) -> bool:
    """Whether draws differ by more than chance, and not one of them alone from all others."""
    ordered = np.sort(found.by_draw)
    spread = ordered[-1] - ordered[0]
    without_one = min(ordered[-1] - ordered[1], ordered[-2] - ordered[0])
    if without_one <= _ROUNDING * spread:
        return False
    # the share kept is 1 - 1 / F, F the ratio of the mean squares A and E
    freedom = ordered.size - 1
    return bool(found.kept > 1.0 - freedom / chdtri(freedom, _BY_CHANCE))


def _ends(values: NDArray[np.float64], tail: float) -> NDArray[np.float64]:
    """Quantiles of both tails, as `numpy.quantile` has them, which takes ten times as long."""
    ordered = np.sort(values)
    place = np.array([tail, 1.0 - tail]) * (ordered.size - 1)
    low = place.astype(np.int64)
    high, share = np.minimum(low + 1, ordered.size - 1), place - low
    first, step = ordered[low], ordered[high] - ordered[low]
    return np.where(share < 0.5, first + step * share, ordered[high] - step * (1.0 - share))


def _pooled_quantile(pool: NDArray[np.float64], share: float) -> float:
    """Smallest value of the sorted pool whose cumulated share reaches ``share``."""
    # 0.7 * 10 is 7.000000000000001 in floating point
    rank = int(np.ceil(share * pool.size - 1e-9))
    if rank > pool.size:
        return np.inf
    return float(pool[max(rank, 1) - 1])


def _probability_below(d: NDArray[np.float64]) -> tuple[float, float]:
    """Share of draws with a mean below zero (ties half) and its standard error."""
    n_draws, n_patients = d.shape
    filled = np.nan_to_num(d)
    sums = filled.sum(axis=1)

    def below(row_sums: NDArray[np.float64]) -> NDArray[np.float64]:
        # a sum of differences of 0/1 outcomes is exact, so ties are exact
        return np.where(row_sums < 0, 1.0, np.where(row_sums == 0, 0.5, 0.0))

    verdicts = below(sums)
    variance = verdicts.var(ddof=1) / n_draws if n_draws > 1 else 0.0
    groups = min(_JACKKNIFE_GROUPS, n_patients)
    if groups > 1:
        group = np.arange(n_patients) % groups
        left_out = [below(sums - filled[:, group == g].sum(axis=1)).mean() for g in range(groups)]
        variance += (groups - 1) * np.var(left_out)
    return float(verdicts.mean()), float(np.sqrt(variance))
