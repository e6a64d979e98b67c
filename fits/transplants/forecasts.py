"""Forecasts of the day of recovery: virtual patients weighed by the counts so far.

A chain is a fit (`population.fit`) and a bank drawn from it. A virtual patient of the bank counts
as much as the populations of the bootstraps hold it likely and as the counts up to the landmark fit
its curve. Draws of patients by these weights recover on days of their own, by counts as they are
recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from marrow_bank import MarrowBank
from numpy.typing import NDArray
from population import TEMPERING, Population, fit
from recording import (
    OTHER_CELLS,
    SCATTER_AHEAD,
    last_error,
    log_chances,
    log_likelihood,
    recovery_draws,
)
from series import LATER, MEASURED, RECOVERED, Recorded, Series

Floats = NDArray[np.float64]
Forecasts = dict[tuple[str, str, int], Floats]
"""Patient, transplant, landmark -> probability of recovery by day, ``[LATER + 1]``."""

CHAINS = 3
"""Fits from different banks, whose forecasts are averaged: small sources are noisy."""

_BANK, _DRAWS, _SEED = 4096, 3000, 11
_ANY, _ANY_DAYS = 0.02, 8.0  # share of forecasts that is exponential from the landmark on


@dataclass(frozen=True, eq=False)
class SourceBank:
    """Simulated virtual patients of one source, and the chance of each before any count.

    Attributes
    ----------
    curves : float[N, days]
        10^9/L.
    log_prior : float[N, U]
        Density of the populations over that of the draw.
    chances
        `recording.log_chances` of the curves.
    """

    curves: Floats
    log_prior: Floats
    chances: NDArray[np.float32]

    def log_weights(self, seen: Recorded, landmarks: tuple[int, ...]) -> Floats:
        """Log weights given counts up to each landmark, ``[landmarks, N, U]``."""
        found = log_likelihood(self.curves, self.chances, seen, landmarks)
        return TEMPERING * found + self.log_prior

    def drawn(
        self, log_weights: Floats, draws: int, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Draw by weights: curves ``[R, days]`` and other leucocytes ``[R]``, in random order."""
        weights = np.exp(log_weights - log_weights.max()).ravel()
        edges = np.cumsum(weights)
        marks = edges[-1] * (np.arange(draws) + rng.random()) / draws
        picked = np.minimum(np.searchsorted(edges, marks), weights.size - 1)
        patient, level = np.divmod(rng.permutation(picked), len(OTHER_CELLS))
        return self.curves[patient], OTHER_CELLS[level]


class Chain:
    """Populations of one fit, and their bank.

    Parameters
    ----------
    marrow
        The marrow.
    populations
        The fit, then its bootstraps.
    seed
        Of bank and draws.
    bank, draws
        Virtual patients of a source (a power of 2); draws of a forecast.
    """

    def __init__(
        self,
        marrow: MarrowBank,
        populations: Sequence[Population],
        seed: int,
        bank: int = _BANK,
        draws: int = _DRAWS,
    ) -> None:
        self.marrow, self.populations = marrow, populations
        self.bank, self.draws, self.seed = bank, draws, seed
        self._made: dict[str, SourceBank] = {}

    @cached_property
    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def of(self, source: str) -> SourceBank:
        """Bank of a source, made when it is first asked for."""
        if source not in self._made:
            first, *again = self.populations
            place = first.sources.index(source)
            patients, given, density = first.proposal(place, self.bank, self._rng)
            every = [p.log_density(place, patients, given)[0] for p in again or [first]]
            prior = np.logaddexp.reduce(every, axis=0) - density[:, None]
            curves = self.marrow.counts(patients, given)
            self._made[source] = SourceBank(curves, prior, log_chances(curves, OTHER_CELLS))
        return self._made[source]

    def forecast(self, series: Series, landmarks: tuple[int, ...]) -> list[Floats]:
        """Probabilities of recovery by day, ``[LATER + 1]``, given counts up to each landmark."""
        bank, seen = self.of(series.source), series.recorded
        found = []
        for landmark, weights in zip(landmarks, bank.log_weights(seen, landmarks), strict=True):
            curves, other = bank.drawn(weights, self.draws, self._rng)
            error = last_error(curves, seen, landmark, SCATTER_AHEAD)
            errors = np.zeros(self.draws) if error is None else error
            start = (errors, error is not None, *_state(seen, landmark))
            noise = self._rng.standard_normal(curves.shape)
            uniform = self._rng.random(curves.shape)
            counted = recovery_draws(curves, other, landmark, start, noise, uniform, SCATTER_AHEAD)
            found.append(with_any(counted, landmark))
        return found


def _state(seen: Recorded, landmark: int) -> tuple[bool, int]:
    """Whether a day was below 0.5, and days in a row (at most 2) at it up to a landmark."""
    past = seen.days <= landmark
    up = (seen.kinds[past] >= MEASURED) & (seen.counts[past] >= RECOVERED)
    last = up[-2:][::-1]
    return bool((~up).any()), int(np.cumprod(last).sum())


def with_any(counted: Floats, landmark: int) -> Floats:
    """Probabilities of days from draws, with a little of all days to come."""
    anything = np.zeros(LATER + 1)
    anything[landmark + 1 :] = np.exp(-np.arange(LATER - landmark) / _ANY_DAYS)
    anything /= anything.sum()
    total = counted.sum()
    return (1.0 - _ANY) * (counted / total if total else anything) + _ANY * anything


def fit_chains(
    marrow: MarrowBank, given: Sequence[Series], chains: int = CHAINS, **sizes: int
) -> list[Chain]:
    """Learn from series; ``sizes`` are those of `population.fit`."""
    return [
        Chain(marrow, fit(marrow, given, seed=1 + i, **sizes), seed=_SEED + i)
        for i in range(chains)
    ]


def forecast_series(chains: Sequence[Chain], held: Sequence[Series]) -> Forecasts:
    """Forecast series at their landmarks, averaged over the chains."""
    found: Forecasts = {}
    for series in held:
        every = [chain.forecast(series, series.landmarks) for chain in chains]
        for landmark, own in zip(series.landmarks, zip(*every, strict=True), strict=True):
            found[(*series.key, landmark)] = np.mean(own, axis=0)
    return found
