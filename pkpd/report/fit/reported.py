"""A fit in NONMEM's terms: THETA, OMEGA and SIGMA, their errors, modes of ETA, how it ended.

Fixed effects are THETAs in the order in which `pkpd.models.export_model` writes them; standard
deviations of residuals are among them, and SIGMA is 1. Standard deviations and correlations of the
random effects become entries of OMEGA. Of an imported control stream, THETA, OMEGA and SIGMA are
the stream's own. Covariances follow by the delta method (maximum likelihood) or are those of the
draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.fitting.checks.diagnostics import sampler_diagnostics
from pkpd.fitting.checks.residuals import residuals
from pkpd.fitting.checks.shrinkage import shrinkage
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.model.population_parameters import RandomEffects, fixed_effects, held
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.sampled import Fit
from pkpd.nonmem.listing import METHODS, Estimates
from pkpd.nonmem.structure import StreamStructure

_STEP = 1e-5  # of central differences, relative
_MOST_DRAWS = 1000  # whose likelihood is averaged
_METHODS = METHODS | {
    "nuts": "MCMC Bayesian Analysis (NUTS)",
    "map": "Mode of the Marginal Posterior (normal approximation)",
    "advi": "Mean-Field Variational Approximation",
}


@dataclass(frozen=True, eq=False)
class Terms:
    """How parameters of a model become THETA, OMEGA, SIGMA and ETA.

    Attributes
    ----------
    model
        The model.
    effects
        Its random effects.
    """

    model: PopulationModel
    effects: RandomEffects

    @property
    def stream(self) -> StreamStructure | None:
        """The control stream that the model was read from."""
        structure = self.model.structure
        return structure if isinstance(structure, StreamStructure) else None

    @cached_property
    def thetas(self) -> tuple[str, ...]:
        """Names of the model's parameters that are THETAs, in their order."""
        if self.stream is not None:
            return tuple(f"THETA{i + 1}" for i in range(len(self.stream.program.thetas)))
        return tuple(fixed_effects(self.model))

    @cached_property
    def etas(self) -> tuple[str, ...]:
        """What each ETA is of: ``CL``, ``CL occasion 1``, ..., or the stream's ``ETA1``."""
        if self.stream is not None:
            count = sum(block.size for block in self.stream.program.omegas)
            return tuple(f"ETA{i + 1}" for i in range(count))
        between = [
            f"{name} occasion {o + 1}"
            for name in self.model.occasional
            for o in range(self.effects.n_occasions)
        ]
        return (*self.model.varying, *between)

    def made_of(self, values: Mapping[str, float]) -> FloatArray:
        """ETAs as sums of the model's random effects, ``[ETAs, R]``."""
        names = self.effects.names
        if self.stream is None:
            return np.array([[float(name == mine) for mine in names] for name in self.etas])
        out = np.zeros((len(self.etas), len(names)))
        known = {name: float(values.get(name, 0.0)) for name in self.stream.effects.names}
        none = known | dict.fromkeys(names, 0.0)
        for k, name in enumerate(names):
            for i in range(len(self.etas)):
                made = self.stream.effects.made[f"ETA({i + 1})"]
                out[i, k] = float(made(none | {name: 1.0}))
        return out

    def at(self, values: Mapping[str, float]) -> Estimates:
        """THETA, OMEGA and SIGMA at values of the population parameters."""
        theta = np.array([float(values[name]) for name in self.thetas])
        made = self.made_of(values)
        omega = made @ np.asarray(self.effects.covariance(values, np)) @ made.T
        if self.stream is None:
            return Estimates(theta, omega, np.ones((1, 1)))
        entries, count = self.stream.effects.sigma, self.stream.effects.eps
        sigma = np.zeros((count, count))
        for (i, j), value in entries.items():
            sigma[i - 1, j - 1] = sigma[j - 1, i - 1] = float(value(values))
        return Estimates(theta, omega, sigma)

    def names_of(self, found: Estimates) -> tuple[str, ...]:
        """NONMEM's names of all values: THETA1, ..., SIGMA(1,1), ..., OMEGA(1,1), OMEGA(2,1)."""
        out = [f"THETA{i + 1}" for i in range(len(found.theta))]
        for word, matrix in (("SIGMA", found.sigma), ("OMEGA", found.omega)):
            out += [f"{word}({i + 1},{j + 1})" for i in range(len(matrix)) for j in range(i + 1)]
        return tuple(out)


def vector(found: Estimates) -> FloatArray:
    """All values in the order of `Terms.names_of`."""
    lower = [matrix[np.tril_indices(len(matrix))] for matrix in (found.sigma, found.omega)]
    return np.concatenate([found.theta, *lower])


def unvector(values: FloatArray, like: Estimates) -> Estimates:
    """Estimates of the shape of others from their values in order."""
    out, at = [values[: len(like.theta)]], len(like.theta)
    for matrix in (like.sigma, like.omega):
        size = len(matrix)
        made, count = np.zeros((size, size)), size * (size + 1) // 2
        made[np.tril_indices(size)] = values[at : at + count]
        out.append(made + np.tril(made, -1).T)
        at += count
    return Estimates(out[0], out[2], out[1])


@dataclass(frozen=True, eq=False)
class Reported:
    """A fit in NONMEM's terms.

    Attributes
    ----------
    fit
        The fit.
    terms
        How its parameters became what follows.
    names
        Names of all values.
    estimates, errors
        Estimates (posterior means) and standard errors (standard deviations of the draws); NaN
        where a value is held or zero by the model, and where the data tell no error.
    free : bool[n]
        Which values were estimated, with or without an error.
    covariance : float[n, n]
        Of all values, zero where nothing was estimated; NaN in rows and columns where it is not
        known.
    draws : float[D, n]
        Values by draw; none of maximum likelihood.
    objective, constant
        ``-2 log L`` without ``n log 2 pi``, and that constant. Of draws the average likelihood
        given the random effects.
    objective_sd
        Its standard deviation over the draws; NaN of maximum likelihood.
    by_subject : float[B]
        Contributions to the objective.
    random, random_covariance
        ETAs of each subject at the mode (posterior mean), ``[B, ETAs]``, and their covariance.
    eta_shrinkage, epsilon_shrinkage
        Fractions by standard deviations: by ETA, and by line of the data.
    ended
        How the search or the sampler ended, in lines.
    """

    fit: Fit | MaximumLikelihood
    terms: Terms
    names: tuple[str, ...]
    estimates: Estimates
    errors: Estimates
    free: np.ndarray
    covariance: FloatArray
    draws: FloatArray
    objective: float
    constant: float
    objective_sd: float
    by_subject: FloatArray
    random: FloatArray
    random_covariance: FloatArray
    eta_shrinkage: FloatArray
    epsilon_shrinkage: dict[str, float]
    ended: tuple[str, ...]

    @property
    def method(self) -> str:
        """Name of the method, as NONMEM spells it where it has it."""
        fit = self.fit
        name = fit.method if isinstance(fit, MaximumLikelihood) else fit.record.get("method")
        return _METHODS.get(str(name), str(name))

    @property
    def sampled(self) -> bool:
        """Whether there are draws."""
        return not isinstance(self.fit, MaximumLikelihood)

    @cached_property
    def visited(self) -> np.ndarray:
        """Which subjects an ETA is of, bool[B, ETAs]."""
        return _visited(self.terms, self.fit.likelihood.dataset)

    @cached_property
    def estimated(self) -> np.ndarray:
        """Which values have a standard error, bool[n]."""
        return np.isfinite(vector(self.errors))

    @cached_property
    def correlation(self) -> FloatArray:
        """Correlation matrix of the values that have a standard error."""
        mine = self.covariance[np.ix_(self.estimated, self.estimated)]
        sd = np.sqrt(np.diag(mine))
        return mine / np.outer(sd, sd)

    @cached_property
    def eigenvalues(self) -> FloatArray:
        """Of the correlation matrix, in order; empty where there is none."""
        if not self.correlation.size or not np.all(np.isfinite(self.correlation)):
            return np.zeros(0)
        return np.linalg.eigvalsh(self.correlation)

    @cached_property
    def eta_bar(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Means of the ETAs, their standard errors, and p-values of a mean of zero."""
        from scipy.stats import norm

        count = np.maximum(self.visited.sum(axis=0), 1)
        mean = np.where(self.visited, self.random, 0.0).sum(axis=0) / count
        spread = np.where(self.visited, self.random - mean, 0.0)
        error = np.sqrt((spread**2).sum(axis=0)) / count
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2.0 * norm.sf(np.abs(mean) / error)
        return mean, error, np.where(error > 0, p, 1.0)


def reported(fit: Fit | MaximumLikelihood) -> Reported:
    """Work out a fit in NONMEM's terms."""
    likelihood = fit.likelihood
    terms = Terms(likelihood.model, likelihood.random_effects)
    if isinstance(fit, MaximumLikelihood):
        return _of_maximum(fit, terms)
    return _of_draws(fit, terms)


def _of_maximum(fit: MaximumLikelihood, terms: Terms) -> Reported:
    found = terms.at(fit.estimates)
    slopes = np.zeros((len(vector(found)), len(fit.names)))
    for k, name in enumerate(fit.names):
        step = _STEP * max(abs(fit.estimates[name]), 1e-3)
        ends = [
            vector(terms.at({**fit.estimates, name: fit.estimates[name] + s * step}))
            for s in (1.0, -1.0)
        ]
        slopes[:, k] = (ends[0] - ends[1]) / (2.0 * step)
    told = np.isfinite(np.diag(fit.covariance))
    moves, lost = (np.any(slopes[:, one] != 0.0, axis=1) for one in (slice(None), ~told))
    covariance = slopes[:, told] @ fit.covariance[np.ix_(told, told)] @ slopes[:, told].T
    covariance[lost], covariance[:, lost] = np.nan, np.nan
    errors = np.where(moves, np.sqrt(np.diag(covariance)), np.nan)
    made = terms.made_of(fit.estimates)
    random = fit.random @ made.T
    word = "MINIMIZATION SUCCESSFUL" if fit.converged else "MINIMIZATION TERMINATED"
    ended = (word, *fit.messages, f"NO. OF FUNCTION EVALUATIONS USED: {fit.evaluations:8d}")
    return Reported(
        fit,
        terms,
        terms.names_of(found),
        found,
        unvector(errors, found),
        moves,
        covariance,
        np.zeros((0, len(errors))),
        fit.objective,
        fit.constant,
        float("nan"),
        fit.by_subject,
        random,
        np.einsum("ij,bjk,lk->bil", made, fit.random_covariance, made),
        _shrunk(random, found.omega, _visited(terms, fit.likelihood.dataset)),
        dict(fit.epsilon_shrinkage),
        ended,
    )


def _of_draws(fit: Fit, terms: Terms) -> Reported:
    draws = fit.draws
    each = [
        {name: float(value[d]) for name, value in draws.population.items()}
        for d in range(len(draws))
    ]
    shape = terms.at(each[0])
    values = np.stack([vector(terms.at(one)) for one in each])
    mean = values.mean(axis=0)
    spread = np.ptp(values, axis=0) > 0
    if not set(draws.population) - held(terms.model):
        spread[:] = False
    covariance = np.cov(values, rowvar=False).reshape(len(mean), len(mean))
    errors = np.where(spread, np.sqrt(np.diag(covariance)), np.nan)
    found = unvector(mean, shape)
    made = np.stack([terms.made_of(one) for one in each])
    etas = np.einsum("dij,dbj->dbi", made, draws.random)
    observations = fit.dataset.observations
    measured = observations.subject[observations.censored == NOT_CENSORED]
    constant = np.bincount(measured, minlength=len(fit.dataset.subjects)) * np.log(2 * np.pi)
    deviance = -2.0 * draws.thinned(_MOST_DRAWS).log_likelihood() - constant
    shrunk = shrinkage(draws, residuals(draws))
    centred = etas - etas.mean(axis=0)
    names = [name for name, value in draws.population.items() if np.ptp(value) > 0]
    words = sampler_diagnostics(fit.idata, names).sentences if fit.by_chains else _APPROXIMATE
    return Reported(
        fit,
        terms,
        terms.names_of(shape),
        found,
        unvector(errors, shape),
        spread,
        covariance,
        values,
        float(np.mean(deviance.sum(axis=1))),
        float(constant.sum()),
        float(np.std(deviance.sum(axis=1), ddof=1)) if len(deviance) > 1 else float("nan"),
        deviance.mean(axis=0),
        etas.mean(axis=0),
        np.einsum("dbi,dbj->bij", centred, centred) / max(len(etas) - 1, 1),
        _shrunk(etas.mean(axis=0), found.omega, _visited(terms, fit.dataset)),
        dict(shrunk.residual),
        ("STATISTICAL PORTION WAS COMPLETED" if fit.by_chains else "COMPLETED", *words),
    )


_APPROXIMATE = ("Independent draws of an approximation to the posterior.",)


def _visited(terms: Terms, dataset: Dataset) -> np.ndarray:
    """Which subjects an ETA is of, bool[B, ETAs]: those with observations on its occasion."""
    out = np.ones((len(dataset.subjects), len(terms.etas)), bool)
    if terms.stream is not None or dataset.occasion is None or not terms.model.occasional:
        return out
    seen, count = dataset.observations, terms.effects.n_occasions
    there = np.zeros((len(out), count), bool)
    there[seen.subject, dataset.occasion[seen.subject, seen.record]] = True
    first = len(terms.model.varying)
    out[:, first:] = np.tile(there, len(terms.model.occasional))
    return out


def _shrunk(random: FloatArray, omega: FloatArray, visited: np.ndarray) -> FloatArray:
    """Shrinkage of each ETA by standard deviations; NaN where its OMEGA is 0."""
    out = np.full(random.shape[1], np.nan)
    for i, sd in enumerate(np.sqrt(np.diag(omega))):
        mine = random[visited[:, i], i]
        if sd > 0 and len(mine) > 1:
            out[i] = 1.0 - mine.std(ddof=1) / sd
    return out
