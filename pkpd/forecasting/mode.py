"""The most probable patient (MAP) with a normal approximation around it, as other tools have it.

Population parameters are held at their central values. The mode of the scores of one patient is
searched by Newton steps: derivatives of the counts by finite differences, all directions simulated
at once; the curvature is that of the counts' densities through these (Gauss-Newton), to which the
prior adds its own. Around the mode the posterior is taken to be normal (Laplace).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pkpd.arrays import Floats
from pkpd.distributions import stream
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.ensemble.lanes import Identities, Lanes, lanes_of
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.forecasting.bank import Asked, Bank, counts_only, simulated
from pkpd.forecasting.measurement import Measurement, measurement_of
from pkpd.forecasting.seen import Seen
from pkpd.forecasting.weighing import Weighed, log_densities, log_likelihood
from pkpd.model.parameters import typical
from pkpd.schedule import Regimen
from pkpd.small_systems import inverse_each, root_each, solve_each

AROUND = 2000
"""Patients that are drawn from the normal approximation."""

_DIFFERENCE = 0.02  # of a score, for derivatives
_OF_LOG = 0.01  # of the log of a count, for derivatives of its density
_LENGTHS = 2.0 ** -np.arange(12)  # of steps that are tried at once
_STEPS, _ENOUGH = 60, 1e-7
_TRIED = 200  # patients drawn; a search starts from the best of them, another from the middle


@dataclass(frozen=True, eq=False)
class Mode:
    """The most probable patient.

    Attributes
    ----------
    lanes
        The source at its central values.
    scores : float[R]
        Of the patient.
    covariance : float[R, R]
        Of the normal approximation.
    log_posterior
        Log-likelihood plus log prior density of the scores, without the constant of the latter.
    steps
        Newton steps taken.
    converged
        Whether the last step changed nothing.
    body
        Which of the source's given bodies the patient has.
    """

    lanes: Lanes
    scores: Floats
    covariance: Floats
    log_posterior: float
    steps: int
    converged: bool
    body: int = 0

    def patient(self, asked: Asked) -> Bank:
        """Simulate the most probable patient alone: the plug-in forecast."""
        return simulated(self.lanes, _some(self.scores[None], self.body), asked)


def central(ensemble: Ensemble) -> Ensemble:
    """Take a source at its central values: one draw."""
    if isinstance(ensemble, CardsEnsemble):
        return replace(ensemble, values=typical(ensemble.model, ensemble.population))
    if isinstance(ensemble, FittedEnsemble):
        middle = {name: np.array([np.median(v)]) for name, v in ensemble.values.values.items()}
        return replace(ensemble, values=replace(ensemble.values, values=middle))
    assert isinstance(ensemble, LearnedEnsemble)
    thetas = ensemble.study.thetas
    theta: Mapping[str, float] = {
        name: float(np.median([one[name] for one in thetas])) for name in thetas[0]
    }
    return replace(ensemble, study=replace(ensemble.study, thetas=(theta,), deviations=({},)))


def most_probable(
    ensemble: Ensemble,
    regimen: Regimen,
    days: int,
    seen: Seen,
    measurement: Measurement,
    aside: frozenset[tuple[str, float, float]] = frozenset(),
    seed: int = 1,
) -> Mode:
    """Find the most probable patient of a source, its population parameters held.

    Where patients have bodies of their own, that is one with the middle body of them all.

    Parameters
    ----------
    ensemble
        The source; its central values are taken.
    regimen, days
        What the patient gets, and days to simulate.
    seen
        What was seen.
    measurement
        How counts scatter; its central values are taken, too.
    aside
        Line, time and value of counts that are left out.
    seed
        Of the patients that searches start from.
    """
    held, measurement = central(ensemble), measurement.central()
    lanes = lanes_of(held, regimen, days, seen.body)
    short = replace(lanes, days=min(int(np.floor(seen.time.max())) + 2, days))
    search = _Search(short, seen, measurement, aside, lanes.middle_body)
    tried = lanes.drawn(_TRIED, seed).scores
    best = tried[np.argsort(-search.value(tried))[0]]
    found = [search.from_here(start) for start in (np.zeros(lanes.size), best)]
    at, value, steps, done = max(found, key=lambda one: one[1])
    hessian = search.slopes(at)[1]
    covariance = inverse_each(hessian)
    if not np.all(np.isfinite(covariance)):
        covariance, done = np.eye(lanes.size), False
    return Mode(lanes, at, covariance, float(value), steps, done, search.body)


def around(mode: Mode, found: Weighed, seed: int, threads: int | None = None) -> Weighed:
    """Draw patients from the normal approximation around a mode.

    Parameters
    ----------
    mode
        The most probable patient.
    found
        What was seen, and what was asked.
    seed, threads
        Of all random numbers; at most so many.
    """
    rng = stream(seed, f"mode:{found.seen.label}")
    root = root_each(mode.covariance)
    scores = mode.scores + rng.standard_normal((AROUND, mode.scores.size)) @ root.T
    allowed = mode.lanes.eligible(scores)
    if allowed.any():
        scores = scores[allowed]
    made = simulated(mode.lanes, _some(scores, mode.body), found.bank.asked, threads)
    # the dead have no counts; of the others all are equally likely
    every = frozenset(found.seen.counts)
    lives = log_likelihood(made, found.seen, measurement_of(mode.lanes.ensemble), every)
    return replace(found, bank=made, known=found.seen, log_likelihood=lives, engine="map")


def _some(scores: Floats, body: int) -> Identities:
    """Patients of one draw and one given body."""
    first = np.zeros(len(scores), dtype=np.int64)
    return Identities(first, first + body, scores)


class _Search:
    """Log posterior density of scores, its slopes, and Newton steps."""

    def __init__(
        self,
        lanes: Lanes,
        seen: Seen,
        measurement: Measurement,
        aside: frozenset[tuple[str, float, float]],
        body: int = 0,
    ) -> None:
        self.lanes, self.measurement, self.body = lanes, measurement, body
        kept = [k for k, one in enumerate(seen.counts) if one not in aside]
        self.seen = seen.taken(np.array(kept, dtype=np.int64))

    def value(self, scores: Floats) -> Floats:
        """Log posterior density of patients ``[L, R]``, without a constant; -inf if impossible."""
        made = counts_only(self.lanes, _some(scores, self.body), 1)
        total = log_likelihood(made, self.seen, self.measurement, frozenset())
        total = np.where(self.lanes.eligible(scores), total, -np.inf)
        return total - 0.5 * np.sum(scores**2, axis=1)

    def slopes(self, scores: Floats) -> tuple[Floats, Floats]:
        """Gradient and positive curvature of minus the log posterior density at ``[R]``."""
        size = scores.size
        moved = np.concatenate(
            [scores + _DIFFERENCE * np.eye(size), scores - _DIFFERENCE * np.eye(size), scores[None]]
        )
        logs = self._logs(counts_only(self.lanes, _some(moved, self.body), 1))
        derivative = (logs[:, :size] - logs[:, size:-1]) / (2.0 * _DIFFERENCE)
        here = logs[:, -1]
        low, middle, high = (
            log_densities(self.seen, self.measurement, np.exp(here + step))
            for step in (-_OF_LOG, 0.0, _OF_LOG)
        )
        slope = (high - low) / (2.0 * _OF_LOG)
        bend = np.maximum((2.0 * middle - high - low) / _OF_LOG**2, 0.0)
        gradient = scores - derivative.T @ slope
        hessian = np.eye(size) + (derivative.T * bend) @ derivative
        return gradient, hessian

    def from_here(self, start: Floats) -> tuple[Floats, float, int, bool]:
        """Mode from a starting point: scores, log posterior density, steps, whether it is one."""
        at, value = start, float(self.value(start[None])[0])
        for step in range(_STEPS):
            gradient, hessian = self.slopes(at)
            whole = solve_each(hessian, gradient)
            if not np.all(np.isfinite(whole)):
                return at, value, step, False
            tried = at - _LENGTHS[:, None] * whole
            values = self.value(tried)
            best = int(np.argmax(values))
            if not values[best] > value + _ENOUGH:
                return at, value, step, bool(np.isfinite(value))
            at, value = tried[best], float(values[best])
        return at, value, _STEPS, False

    def _logs(self, made: Bank) -> Floats:
        """Log of each count that was seen in every patient, ``[K, L]``."""
        pairs = zip(self.seen.line, self.seen.time.tolist(), strict=True)
        return np.log(np.array([made.counted(line, time) for line, time in pairs]))
