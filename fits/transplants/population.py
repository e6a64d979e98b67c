"""A population of recoveries in two groups, learned from series by expectation and maximisation.

In a source the logarithms of `marrow_bank.PARAMETERS` are normal between patients, but for the day
on which the early pool is full, which has two groups: a patient recovers in time or late::

    ln day = mean + spread shift a(u) + delay (late),     logit P(late) = logit share + slope a(u)

where u are the other leucocytes of the patient and a(u) says whether leucocytes vanished: who never
falls below 0.1 recovers early. Delay, shift and slope are common to the sources, as are the time of
maturation and the normal count. What own cells lose and what growth factor adds are not learned.

A bank of virtual patients stands for the integrals: for each source and round it is drawn from a
widened population, its curves are simulated once, and every step weighs it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from marrow_bank import (
    DAYS,
    FULL_DAY,
    MATURATION,
    NORMAL,
    OWN_LOSS,
    PARAMETERS,
    RATE,
    RISE,
    MarrowBank,
)
from numpy.typing import NDArray
from recording import OTHER_CELLS, log_chances, log_likelihood
from scipy.special import expit, logit
from scipy.stats import norm, qmc
from series import SOURCES, Series

Floats = NDArray[np.float64]

TEMPERING = 0.8
"""Power of the likelihood: days of one patient depend on each other beyond their correlation."""

AFTER_RECOVERY = 7
"""Days after recovery that are learned from."""

VANISHED = np.array([-0.7, -0.7, 0.7, 0.7])
"""a(u) of the levels of other leucocytes: whether they vanished."""

_START = {
    "PBSC_unmodified": (1.1, 9.5, 0.50),
    "TCD": (1.2, 9.0, 0.95),
    "BM_unmodified": (0.8, 14.0, 0.40),
    "cord": (0.5, 16.0, 0.90),
    "cytokines": (0.8, 12.0, 0.05),
}
"""Source -> rate of regrowth (1/day), day of a full pool, share given growth factor, to begin with.
That share is also its prior, worth two patients: the centre's habit, where it is not recorded."""

_SPREAD = np.array([0.35, 0.2, 0.12, 0.35, 1.5, 0.4, 0.5])
"""SDs of logarithms of the parameters that are expected, worth `_WORTH` patients."""

_NORMAL_START, _OWN_START, _OWN_LOSS_START = 3.5, 0.2, 0.6
_WORTH = 3.0
_LEVELS = np.array([0.4, 0.2, 0.2, 0.2])
_DELAY, _DELAY_SPREAD, _LEAST_DELAY = np.log(1.8), 0.2, 0.3
_SHIFT_SD, _SLOPE_SD = 1.5, 1.0
_SHARE_LATE, _LATE_PRIOR = 0.12, (0.5, 2.5)  # a beta distribution
_WIDER = 1.3
_ROUNDS, _STEPS, _BOOTSTRAPS, _BOOTSTRAP_STEPS = 4, 12, 8, 8


@dataclass(eq=False)
class Population:
    """Distribution of patients in S sources.

    Attributes
    ----------
    sources
        Their names.
    mean, spread : float[S, 7]
        Of logarithms of `marrow_bank.PARAMETERS`; the full day's of those in time.
    held
        Places of parameters that are not learned.
    late : float[S]
        Share of late patients where a(u) is 0.
    delay, delay_spread
        Logarithm of the ratio of the full days of late patients, and its SD.
    shift, slope
        What a(u) does; see the top of this module.
    growth_factor : float[S]
        Share given growth factor.
    levels : float[S, U]
        Shares of the levels of other leucocytes.
    """

    sources: tuple[str, ...]
    mean: Floats
    spread: Floats
    held: tuple[int, ...]
    late: Floats
    delay: float
    delay_spread: float
    shift: float
    slope: float
    growth_factor: Floats
    levels: Floats

    @classmethod
    def start(cls, marrow: MarrowBank, sources: tuple[str, ...] = SOURCES) -> Population:
        """Make the population that stands before anything is learned."""
        rate, full_day, given = np.array([_START[source] for source in sources]).T
        theta = marrow.theta
        values = np.array([1.0, 1.0, theta["mtt_neutrophil"], _NORMAL_START, _OWN_START,
                           _OWN_LOSS_START, theta["rise.filgrastim"] - 1.0])  # fmt: skip
        mean = np.tile(np.log(values), (len(sources), 1))
        mean[:, RATE], mean[:, FULL_DAY] = np.log(rate), np.log(full_day)
        spread = np.tile(_SPREAD, (len(sources), 1))
        spread[:, FULL_DAY] = 0.25
        held: tuple[int, ...] = (OWN_LOSS, RISE)
        if marrow.held_rate is not None:
            mean[:, RATE], spread[:, RATE] = np.log(marrow.held_rate[0]), marrow.held_rate[1]
            held = (RATE, *held)
        late = np.full(len(sources), _SHARE_LATE)
        return cls(sources, mean, spread, held, late, _DELAY, _DELAY_SPREAD, 0.0, 0.0, given,
                   np.tile(_LEVELS, (len(sources), 1)))  # fmt: skip

    def share_late(self, source: int) -> Floats:
        """P(late) at each level of other leucocytes, ``[U]``."""
        return expit(logit(self.late[source]) + self.slope * VANISHED)

    def log_density(
        self, source: int, patients: Floats, given: NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        """Log density of patients and of a level of other leucocytes, and P(late) given both.

        Parameters
        ----------
        source
            Place of the source.
        patients : float[N, 7]
            Logarithms of the parameters.
        given : bool[N]
            Growth factor.

        Returns
        -------
        float[N, U], float[N, U]
            Densities without the constants of normal distributions.
        """
        mean, spread = self.mean[source], self.spread[source]
        scores = (patients - mean) / spread
        terms = -0.5 * scores**2 - np.log(spread)
        share = self.growth_factor[source]
        rest = terms.sum(axis=1) - terms[:, FULL_DAY] + np.where(given, *np.log([share, 1 - share]))
        error = patients[:, [FULL_DAY]] - mean[FULL_DAY] - spread[FULL_DAY] * self.shift * VANISHED
        late = self.share_late(source)
        in_time = np.log1p(-late) + _log_normal(error, spread[FULL_DAY])
        delayed = np.log(late) + _log_normal(error - self.delay, self.delay_spread)
        both = np.logaddexp(in_time, delayed)
        return rest[:, None] + both + np.log(self.levels[source]), np.exp(delayed - both)

    def proposal(
        self, source: int, patients: int, rng: np.random.Generator
    ) -> tuple[Floats, NDArray[np.bool_], Floats]:
        """Draw a bank from the population, widened.

        Returns
        -------
        float[N, 7]
            Logarithms of the parameters.
        bool[N]
            Growth factor.
        float[N]
            Log density of both, as `log_density` has it.
        """
        mean, spread = self.mean[source], _WIDER * self.spread[source]
        uniform = qmc.Sobol(len(PARAMETERS) + 2, rng=rng).random(patients)
        scores = norm.ppf(np.clip(uniform[:, : len(PARAMETERS)], 1e-6, 1.0 - 1e-6))
        drawn = mean + spread * scores
        late, wide = max(self.late[source], 0.15), _WIDER * self.delay_spread
        delayed = uniform[:, -2] < late
        drawn[delayed, FULL_DAY] = mean[FULL_DAY] + self.delay + wide * scores[delayed, FULL_DAY]
        share = np.clip(self.growth_factor[source], 0.15, 0.85)
        given = uniform[:, -1] < share
        terms = _log_normal(drawn - mean, spread)
        on_time = np.log1p(-late) + terms[:, FULL_DAY]
        late_terms = np.log(late) + _log_normal(drawn[:, FULL_DAY] - mean[FULL_DAY] - self.delay,
                                                wide)  # fmt: skip
        density = terms.sum(axis=1) - terms[:, FULL_DAY] + np.logaddexp(on_time, late_terms)
        return drawn, given, density + np.where(given, *np.log([share, 1.0 - share]))


@dataclass(frozen=True, eq=False)
class Bank:
    """Virtual patients of a source, and what the series of the source say of each.

    Attributes
    ----------
    patients : float[N, 7]
        Logarithms of the parameters.
    given : bool[N]
        Growth factor.
    log_density : float[N]
        Of both where they were drawn.
    likelihood : float[series, N * U]
        Tempered, over the largest of each series.
    log_largest : float[series]
        Its logarithm.
    """

    patients: Floats
    given: NDArray[np.bool_]
    log_density: Floats
    likelihood: Floats
    log_largest: Floats


def fit(
    marrow: MarrowBank,
    series: Sequence[Series],
    seed: int,
    sources: tuple[str, ...] = SOURCES,
    bank: int = 2048,
    bootstraps: int = _BOOTSTRAPS,
    rounds: int = _ROUNDS,
) -> list[Population]:
    """Learn a population, and its uncertainty by a Bayesian bootstrap over the series.

    Parameters
    ----------
    marrow
        The marrow.
    series
        To learn from; of some sources there may be none.
    seed
        Of the banks.
    sources
        Sources of the population.
    bank
        Virtual patients of a source and round (a power of 2), twice as many in the last round.
    bootstraps, rounds
        Populations beside the first; banks in turn.

    Returns
    -------
    list[Population]
        First the fit, then one for each bootstrap.
    """
    rng = np.random.default_rng(seed)
    population = Population.start(marrow, sources)
    of_source = [[s for s in series if s.source == source] for source in sources]
    ones = [np.ones(len(own)) for own in of_source]
    banks: list[Bank] = []
    for turn in range(rounds):
        size = bank * (2 if turn == rounds - 1 else 1)
        banks = [
            make_bank(marrow, population, source, own, size, rng)
            for source, own in enumerate(of_source)
        ]
        for _ in range(_STEPS):
            population = maximised(population, banks, ones)
    found = [population]
    for _ in range(bootstraps):
        weights = [rng.dirichlet(one) * len(one) if len(one) else one for one in ones]
        again = population
        for _ in range(_BOOTSTRAP_STEPS):
            again = maximised(again, banks, weights)
        found.append(again)
    return found


def make_bank(
    marrow: MarrowBank,
    population: Population,
    source: int,
    series: Sequence[Series],
    size: int,
    rng: np.random.Generator,
) -> Bank:
    """Draw and simulate a bank of a source, and weigh it with its series."""
    patients, given, density = population.proposal(source, size, rng)
    likelihood = np.empty((len(series), size * len(OTHER_CELLS)))
    if series:
        curves = marrow.counts(patients, given)
        chances = log_chances(curves, OTHER_CELLS)
        for row, one in zip(likelihood, series, strict=True):
            last = DAYS - 2 if one.recovery is None else one.recovery + AFTER_RECOVERY
            row[:] = TEMPERING * log_likelihood(curves, chances, one.recorded, (last,)).ravel()
    largest = likelihood.max(axis=1, keepdims=True)
    return Bank(patients, given, density, np.exp(likelihood - largest), largest[:, 0])


def maximised(
    population: Population, banks: Sequence[Bank], series_weights: Sequence[Floats]
) -> Population:
    """One step of expectation and maximisation.

    Parameters
    ----------
    population
        Where it starts.
    banks
        Of each source.
    series_weights
        Of the series of each source: ones, or a Bayesian bootstrap.
    """
    weights, lateness = [], []
    for source, (bank, own) in enumerate(zip(banks, series_weights, strict=True)):
        density, late = population.log_density(source, bank.patients, bank.given)
        log_prior = (density - bank.log_density[:, None]).ravel()
        prior = np.exp(log_prior - log_prior.max())
        evidence = np.maximum(bank.likelihood @ prior, 1e-300)
        total = prior * (bank.likelihood.T @ (own / evidence))
        weights.append(total.reshape(late.shape))
        lateness.append(late)
    found = deepcopy(population)
    for source, (bank, own) in enumerate(zip(banks, weights, strict=True)):
        n = own.sum()
        found.levels[source] = (own.sum(axis=0) + 3.0 * _LEVELS) / (n + 3.0)
        habit = _START[population.sources[source]][2]
        share = (own[bank.given].sum() + 2.0 * habit) / (n + 2.0)
        found.growth_factor[source] = np.clip(share, 0.02, 0.98)
    _update_normal(found, banks, weights)
    _update_full_day(found, banks, weights, lateness)
    _update_lateness(found, weights, lateness)
    return found


def _update_normal(
    population: Population, banks: Sequence[Bank], weights: Sequence[Floats]
) -> None:
    """Means and spreads of what has one group; those common to the sources from all of them."""
    of_patients = [own.sum(axis=1) for own in weights]
    n = np.array([own.sum() for own in of_patients])
    first = np.array([own @ b.patients for own, b in zip(of_patients, banks, strict=True)])
    second = np.array([own @ b.patients**2 for own, b in zip(of_patients, banks, strict=True)])
    for p in range(len(PARAMETERS)):
        if p in population.held or p == FULL_DAY:
            continue
        if p in (MATURATION, NORMAL):
            size, total, squares = n.sum(), first[:, p].sum(), second[:, p].sum()
        else:
            size, total, squares = n, first[:, p], second[:, p]
        kept = population.mean[:, p]
        mean = np.where(size > 0.0, total / np.maximum(size, 1e-9), kept)
        about = np.maximum(squares - 2.0 * mean * total + size * mean**2, 0.0)
        population.mean[:, p] = mean
        population.spread[:, p] = np.sqrt((about + _WORTH * _SPREAD[p] ** 2) / (size + _WORTH))


def _update_full_day(
    population: Population,
    banks: Sequence[Bank],
    weights: Sequence[Floats],
    lateness: Sequence[Floats],
) -> None:
    """Full day of each source, the shift common to them, the delay: weighted least squares."""
    sources = len(banks)
    left, right = np.zeros((sources + 1, sources + 1)), np.zeros(sources + 1)
    left[-1, -1] = 1.0 / _SHIFT_SD**2
    for s, (bank, own, late) in enumerate(zip(banks, weights, lateness, strict=True)):
        day = bank.patients[:, [FULL_DAY]]
        x = population.spread[s, FULL_DAY] * VANISHED
        in_time = own * (1.0 - late) / population.spread[s, FULL_DAY] ** 2
        delayed = own * late / population.delay_spread**2
        both = in_time + delayed
        y = in_time * day + delayed * (day - population.delay)
        # a source without series stays where it is
        left[s, s] = both.sum() + 1e-9
        left[s, -1] = left[-1, s] = (both * x).sum()
        left[-1, -1] += (both * x**2).sum()
        right[s] = y.sum() + 1e-9 * population.mean[s, FULL_DAY]
        right[-1] += (y * x).sum()
    *means, population.shift = np.linalg.solve(left, right)
    population.mean[:, FULL_DAY] = means
    n_late = first = second = 0.0
    for s, (bank, own, late) in enumerate(zip(banks, weights, lateness, strict=True)):
        x = population.spread[s, FULL_DAY] * VANISHED
        error = bank.patients[:, [FULL_DAY]] - means[s] - population.shift * x
        in_time, delayed = own * (1.0 - late), own * late
        squares = (in_time * error**2).sum() + _WORTH * _SPREAD[FULL_DAY] ** 2
        population.spread[s, FULL_DAY] = np.sqrt(squares / (in_time.sum() + _WORTH))
        n_late += delayed.sum()
        first += (delayed * error).sum()
        second += (delayed * error**2).sum()
    delay = max((first + 2.0 * _DELAY) / (n_late + 2.0), _LEAST_DELAY)
    about = max(second - 2.0 * delay * first + n_late * delay**2, 0.0)
    population.delay = delay
    population.delay_spread = np.sqrt((about + _WORTH * _DELAY_SPREAD**2) / (n_late + _WORTH))


def _update_lateness(
    population: Population, weights: Sequence[Floats], lateness: Sequence[Floats]
) -> None:
    """One step of Newton on the logistic regression of lateness."""
    slope_gradient = -population.slope / _SLOPE_SD**2
    slope_curvature = 1.0 / _SLOPE_SD**2
    late_prior, prior = _LATE_PRIOR[0], sum(_LATE_PRIOR)
    for s, (own, late) in enumerate(zip(weights, lateness, strict=True)):
        expected = population.share_late(s)
        gap = (own * late).sum(axis=0) - own.sum(axis=0) * expected
        curvature = own.sum(axis=0) * expected * (1.0 - expected)
        slope_gradient += VANISHED @ gap
        slope_curvature += VANISHED**2 @ curvature
        share = population.late[s]
        gradient = gap.sum() + late_prior - prior * share
        step = gradient / (curvature.sum() + prior * share * (1.0 - share))
        population.late[s] = expit(np.clip(logit(share) + np.clip(step, -0.7, 0.7), -5.0, 2.0))
    population.slope += float(np.clip(slope_gradient / slope_curvature, -0.4, 0.4))


def _log_normal(error: Floats, spread: Floats | float) -> Floats:
    """Log density of normal errors but for its constant."""
    return -0.5 * (error / spread) ** 2 - np.log(spread)
