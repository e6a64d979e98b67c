"""A bank of parameters for one patient's long series of counts, weighed count by count.

A member of the bank is a draw of the population's parameters and a vector of standard normal
scores, from which the patient's random effects follow. Its predictions at all visits are made once;
the filter of its residual error (`pkpd.fitting.model.processes`) runs along the counts, and each
count multiplies its weight by its density given the counts before.

After some thirty counts few members explain all of them. Where the weights are uneven the bank is
made anew: from Student t distributions around the weighted scores, tempered until enough members
count, with a share of the prior. Its weights then are prior times likelihood over the density that
it was drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from pkpd.arrays import Floats
from pkpd.data.dataset import Dataset, of_subjects
from pkpd.errors import PkpdError
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.processes import NO_PAST_H, Series, Spread, filtered
from pkpd.fitting.model.residual import ResidualError
from pkpd.predict.pk import LinearPredictor

_PRIOR_SHARE = 0.1  # of a renewed bank, so that no place is left out
_DEGREES = 5.0  # of the t distributions that a bank is renewed from
_WIDER = 1.2  # variance of a renewed bank, times that of the weighted one
_EFFECTIVE = 0.05  # share of a bank that has to count where it is renewed from
_AT_ONCE = 256  # copies of a subject where an engine takes no other way


@dataclass(frozen=True, eq=False)
class Known:
    """What the parameters of the population may be.

    Attributes
    ----------
    fixed : float[D, F]
        Fixed effects by draw.
    cholesky : float[D, R, R]
        Factor of the covariance of random effects by draw.
    """

    fixed: Floats
    cholesky: Floats


@dataclass(frozen=True, eq=False)
class Visits:
    """Counts of one patient in order of time, padded to ``T`` so that patients share a program.

    Attributes
    ----------
    time_h : float[n]
        Hours.
    value, censored, lower
        As in `pkpd.data.dataset.Observations`, on the scale of the residual error.
    size
        Length of the padded arrays.
    """

    time_h: Floats
    value: Floats
    censored: NDArray[np.int64]
    lower: Floats
    size: int

    def padded(self, values: NDArray[Any], fill: float) -> NDArray[Any]:
        """Fill up to ``T`` rows, a column for all members."""
        out = np.full((self.size, 1), fill, dtype=values.dtype)
        out[: len(values), 0] = values
        return out


@dataclass(frozen=True, eq=False)
class Members:
    """Members of a bank with what each says of every count.

    Attributes
    ----------
    draw, scores
        Draw of the population ``[N]`` and scores ``[N, R]``.
    offset : float[N]
        Log of prior over the density that it was drawn from.
    centre : float[M, N]
        Predictions at all times that were asked for, on the scale of the residual error.
    log_density : float[n, N]
        Of each count given those before.
    mean, covariance : float[n, N, J], float[n, N, J, J]
        State of the residual's processes after each count.
    spread
        Numbers of the residual error by member.
    """

    draw: NDArray[np.int64]
    scores: Floats
    offset: Floats
    centre: Floats
    log_density: Floats
    mean: Floats
    covariance: Floats
    spread: Spread

    @cached_property
    def log_weights(self) -> Floats:
        """Log weights after so many counts ``[n + 1, N]``, not normalised."""
        rows = np.concatenate([self.offset[None], self.log_density])
        return np.cumsum(rows, axis=0)


class Patient:
    """One patient's series under a population model.

    Parameters
    ----------
    likelihood
        The model bound to the patient's data, whose observations are at all times to predict.
    known
        Parameters of the population.
    seen : int[n]
        Which of the times are counts seen.
    visits
        These counts.
    """

    def __init__(
        self,
        likelihood: PopulationLikelihood,
        known: Known,
        seen: NDArray[np.int64],
        visits: Visits,
    ) -> None:
        self.likelihood, self.known, self.seen, self.visits = likelihood, known, seen, visits
        ((self.line, self.error, _),) = likelihood._lines

    def drawn(self, n: int, rng: np.random.Generator) -> Members:
        """Draw members from the prior."""
        draw = rng.permutation(np.arange(n) % len(self.known.fixed))
        scores = rng.standard_normal((n, self.known.cholesky.shape[1]))
        return self._made(draw, scores, np.zeros(n))

    def renewed(self, old: Members, weights: Floats, rng: np.random.Generator) -> Members:
        """Draw members near those that count.

        Parameters
        ----------
        old
            Members.
        weights : float[N]
            Their weights, of sum 1.
        rng
            Random numbers.
        """
        n, size = old.scores.shape
        weights = _tempered(weights)
        mean = weights @ old.scores
        centred = old.scores - mean
        covariance = _WIDER * (centred.T * weights) @ centred + 1e-4 * np.eye(size)
        root = np.linalg.cholesky(covariance)
        chi = np.sqrt(_DEGREES / rng.chisquare(_DEGREES, n))[:, None]
        scores = mean + chi * (rng.standard_normal((n, size)) @ root.T)
        prior = rng.random(n) < _PRIOR_SHARE
        scores[prior] = rng.standard_normal((int(prior.sum()), size))
        # draws of the population as often as they count, all of them sometimes
        d = len(self.known.fixed)
        of_draw = np.bincount(old.draw, weights, d)
        of_draw = 0.5 * of_draw + 0.5 / d
        draw = rng.choice(d, n, p=of_draw / of_draw.sum())
        z = np.linalg.solve(root, (scores - mean).T).T
        near = _log_student(z) - np.log(np.diag(root)).sum()
        far = _log_normal(scores)
        mixed = np.logaddexp(np.log1p(-_PRIOR_SHARE) + near, np.log(_PRIOR_SHARE) + far)
        offset = far - mixed - np.log(d * of_draw[draw])
        return self._made(draw, scores, offset)

    def _made(self, draw: NDArray[np.int64], scores: Floats, offset: Floats) -> Members:
        n = len(draw)
        fixed = self.known.fixed[draw]
        random = np.einsum("nrs,ns->nr", self.known.cholesky[draw], scores)
        values = {k: np.asarray(v) for k, v in self._individuals(fixed, random).items()}
        names = self.likelihood.model.structure.parameters
        predicted = _predicted(self.likelihood, {name: values[name] for name in names}, n)
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = np.log(predicted) if self.error.logarithmic else predicted
        lost = ~np.isfinite(centre).all(axis=0)
        centre[:, lost] = 0.0
        offset = np.where(lost, -np.inf, offset)
        population = {name: fixed[:, i] for i, name in enumerate(self.likelihood.fixed_names)}
        coefficients, nu, sd, tau = self.error.read(self.line, population)
        own = 1.0 if self.error.scale is None else values[self.error.scale]
        white = np.asarray(self.error.sd(np.where(lost, 1.0, predicted), coefficients, np))
        spread = Spread(white, tuple(sd), tuple(tau), own, nu)
        log_density, mean, covariance = self._filtered(centre, spread)
        return Members(draw, scores, offset, centre, log_density, mean, covariance, spread)

    @cached_property
    def _individuals(self) -> Any:
        individuals, names = self.likelihood.individuals, self.likelihood.fixed_names

        def one(fixed: Any, random: Any) -> Any:
            every = individuals.all({name: fixed[i] for i, name in enumerate(names)}, random[None])
            return {name: value[0] for name, value in every.items()}

        return jax.vmap(one)  # patients differ: not worth a program of its own for each

    def _filtered(self, centre: Floats, spread: Spread) -> tuple[Floats, Floats, Floats]:
        """Log densities of the counts and states after them."""
        visits, n = self.visits, len(self.visits.time_h)
        since = np.concatenate([[NO_PAST_H], np.diff(visits.time_h)])[:n]
        series = Series(
            visits.padded(since, 0.0),
            visits.padded(visits.value, 0.0),
            visits.padded(visits.censored, 0),
            visits.padded(visits.lower, -np.inf),
            visits.padded(np.ones(n, bool), 0),
        )
        middle, white = (np.zeros((visits.size, centre.shape[1])) for _ in range(2))
        middle[:n] = centre[self.seen]
        white[:n], white[n:] = spread.white[self.seen], 1.0
        each, mean, covariance = _program(self.error, bool(np.any(visits.censored)))(
            series, middle, spread._replace(white=white)
        )
        each = np.asarray(each)[:n]
        if self.error.logarithmic:
            each = each - np.where(visits.censored == 0, visits.value, 0.0)[:, None]
        return np.nan_to_num(each, nan=-np.inf), np.asarray(mean)[:n], np.asarray(covariance)[:n]


_PROGRAMS: dict[Any, Any] = {}


def _program(error: ResidualError, censored: bool) -> Any:
    """Return the compiled filter and density of an error; one for all patients."""
    key = error.form, error.nu is None, len(error.processes), censored
    if key in _PROGRAMS:
        return _PROGRAMS[key]

    def run(series: Series, centre: Any, spread: Spread) -> Any:
        if not censored:
            none = np.zeros((centre.shape[0], 1), int)
            series = series._replace(censored=none, lower=np.full(none.shape, -np.inf))
        found = filtered(error, series, centre, spread)
        at = (found.shift + centre, found.scale)
        z = (series.value - at[0]) / at[1]
        codes = series.censored
        lower = np.full(np.shape(codes), -np.inf)
        each = error.standardised(z, z - 1.0, spread.nu, codes, lower)
        each = each - jnp.where(codes == 0, jnp.log(at[1]), 0.0)
        return each, found.mean, found.covariance

    _PROGRAMS[key] = _jitted(run, censored)
    return _PROGRAMS[key]


def _jitted(run: Any, censored: bool) -> Any:
    """Compile; lower bounds and codes stay numbers where they decide what is computed."""

    def call(series: Series, centre: Floats, spread: Spread) -> Any:
        lower = series.lower
        if np.any(np.isfinite(lower)):
            raise PkpdError(
                where="forecast of a series",
                what="a count is between two limits",
                allowed="counts below one limit or above one",
            )
        return compiled(series._replace(lower=None), centre, spread)

    @jax.jit
    def compiled(series: Series, centre: Any, spread: Spread) -> Any:
        unbounded = np.full((centre.shape[0], 1), -np.inf)
        return run(series._replace(lower=unbounded), centre, spread)

    return call


def _predicted(likelihood: PopulationLikelihood, values: Mapping[str, Any], n: int) -> Floats:
    """Predictions of one subject with ``n`` sets of parameters, ``[M, n]``."""
    many = getattr(likelihood.predictor, "many", None)
    found = None if many is None else many(values, n)
    if found is not None:
        return found
    data = likelihood.dataset
    copies = of_subjects(data, np.zeros(min(n, _AT_ONCE), dtype=np.int64))
    predict = _copies(likelihood, copies)
    size, parts = len(copies.subjects), []
    for start in range(0, n, size):
        index = np.minimum(np.arange(start, start + size), n - 1)
        part = {name: np.asarray(v)[index] for name, v in values.items()}
        parts.append(np.asarray(predict(part)).reshape(size, -1))
    return np.concatenate(parts)[:n].T.copy()


def _copies(likelihood: PopulationLikelihood, copies: Dataset) -> Any:
    """Predictions of copies of a subject; linear kinetics have a program for all patients."""
    predictor = likelihood.model.structure.bind(copies)
    return predictor if isinstance(predictor, LinearPredictor) else jax.jit(predictor)


def _tempered(weights: Floats) -> Floats:
    """Weights to a power at which enough members count; as they are if enough do."""
    wanted = _EFFECTIVE * len(weights)
    if 1.0 / np.sum(weights**2) >= wanted:
        return weights
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        tried = _normal(middle * logs)
        low, high = (middle, high) if 1.0 / np.sum(tried**2) >= wanted else (low, middle)
    return _normal(low * logs)


def _normal(logs: Floats) -> Floats:
    logs = np.where(np.isnan(logs), -np.inf, logs)
    return np.exp(logs - np.asarray(logsumexp(logs)))


def _log_normal(scores: Floats) -> Floats:
    size = scores.shape[1]
    return -0.5 * np.sum(scores**2, axis=1) - 0.5 * size * np.log(2 * np.pi)


def _log_student(z: Floats) -> Floats:
    size, nu = z.shape[1], _DEGREES
    constant = gammaln(0.5 * (nu + size)) - gammaln(0.5 * nu) - 0.5 * size * np.log(nu * np.pi)
    return constant - 0.5 * (nu + size) * np.log1p(np.sum(z**2, axis=1) / nu)
