"""Leave-one-out cross-validation by subject, and comparison of models.

What a population model predicts is a new patient. The density left out is therefore that of all
measurements of a subject with its random effects integrated out, ``p(y_b | t) = int p(y_b | t, eta)
p(eta | t) d eta``, at every draw ``t`` of the population parameters; given the subject's own random
effects it would be a different question (a new measurement in a known patient) and its importance
weights useless, because those effects were learned from the very data left out (Merkle, Furr and
Rabe-Hesketh 2019, Psychometrika 84:802-29).

The integral is taken by importance sampling. In units of the Cholesky factor, ``eta = C u`` with
``u`` standard normal, the posterior sample itself tells where ``u`` lies given ``t``: a regression
of the draws of ``u`` on those of ``t`` gives mean and covariance of a multivariate t distribution
(7 degrees of freedom, covariance widened by a third) to draw points from, evenly by a scrambled
Sobol sequence, which is shifted at random for each subject and draw so that errors average out
over them. Nothing is approximated but by a finite number of points, whose error is reported; no
derivative is needed. The draws ``t`` of the full posterior are then reweighted by
Pareto-smoothed importance sampling (Vehtari, Gelman and Gabry 2017, Stat Comput 27:1413-32).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd
from scipy import special, stats

from pkpd.arguments import MAPPING, check_arguments, from_to
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import draws_of
from pkpd.fitting.draws import Draws, Fitted
from pkpd.fitting.maximum.description import measured_digest
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.solve.population.status import PENALTY

LARGE_K = 0.7
FEWEST = 50
"""Draws, below which the weights of a subject left out say nothing."""
_MANY = 0.2  # share of subjects from which it is the method that fails
_DEGREES = 7.0
_WIDENED = 1.33
_TARGET_ERROR = 0.1


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Expected log predictive density of data left out.

    Attributes
    ----------
    elpd, se
        Estimate and its standard error, natural logarithm; one alone has no error (NaN).
    p
        Effective number of parameters.
    pointwise
        Contribution of each subject (or observation).
    k
        Pareto shape of each: above 0.7 the estimate of that one is not reliable.
    labels
        What each is.
    unit
        ``"subject"`` or ``"observation"``.
    integration_error
        Monte Carlo standard error of a subject's log density at a draw, root mean square over
        draws, of the subject where it is largest; 0 for observations. It is that of random points,
        above the one of these, which are even. Those of subjects and draws are independent: `elpd`
        lies too low by at most the square of this figure for each subject.
    elpd_data
        What ArviZ made of it, for its own functions.
    data
        Digest of the measurements; empty where they are not known.
    approximate
        Whether the draws are of an approximation of the posterior (MAP, ADVI), whose difference
        from it the weights lack.
    """

    elpd: float
    se: float
    p: float
    pointwise: np.ndarray
    k: np.ndarray
    labels: tuple[str, ...]
    unit: str
    integration_error: float
    elpd_data: Any
    data: str = ""
    approximate: bool = False

    def __repr__(self) -> str:
        """Tell the estimate."""
        n = len(self.k)
        return f"LeaveOneOut(elpd {self.elpd:.1f}, SE {self.se:.1f}: {n} {self.unit}s left out)"

    @property
    def sentences(self) -> tuple[str, ...]:
        """Result in words."""
        who = "patient" if self.unit == "subject" else "measurement"
        error = f"± {self.se:.1f}" if np.isfinite(self.se) else "(one alone: no standard error)"
        out = [
            f"Predictive density of a new {who} (elpd): {self.elpd:.1f} {error}, "
            f"{self.p:.1f} effective parameters."
        ]
        if self.approximate:
            out.append(
                "The draws approximate the posterior (MAP, ADVI), and so do this figure and Pareto "
                'k: fit with method="nuts" before models are chosen by it.'
            )
        n = len(self.labels)
        bad = [label for label, k in zip(self.labels, self.k, strict=True) if k > LARGE_K]
        if self.unit == "subject" and len(bad) > _MANY * n:
            out.append(
                f"Leaving whole subjects out by weights does not work here: Pareto k is above "
                f"{LARGE_K} for {len(bad)} of {n}, which speaks of few draws and many random "
                "effects rather than of the data. Do not compare models by this figure."
            )
        elif bad and self.unit == "subject":
            out.append(
                f"Subjects the fit leans on heavily (Pareto k above {LARGE_K}): {', '.join(bad)}; "
                "look at their data, and fit once without them before comparing models."
            )
        elif bad:
            out.append(f"{len(bad)} measurements with Pareto k above {LARGE_K}.")
        if self.integration_error > 2 * _TARGET_ERROR:
            out.append(
                f"Random effects were integrated with an error of up to "
                f"{self.integration_error:.2f} in a subject's log density, which lowers elpd by "
                f"up to {n * self.integration_error**2:.1f}: use more points."
            )
        return tuple(out)


def leave_one_out(
    draws: Fitted,
    *,
    by: Literal["subject", "observation"] = "subject",
    n_draws: int = 200,
    points: int = 32,
    most_points: int = 256,
    seed: int = 1,
) -> LeaveOneOut:
    """Estimate how well the model predicts what it has not seen.

    Parameters
    ----------
    draws
        A fit by sampling, or its draws.
    by
        ``"subject"``: a new patient, random effects integrated out. ``"observation"``: another
        measurement in a known patient, given its random effects.
    n_draws
        Draws used, evenly thinned (which makes them nearly independent).
    points
        Points of the integral over random effects at each draw; doubled up to ``most_points``
        until the Monte Carlo error of every subject's log density is below 0.1. The data are
        predicted ``n_draws`` times as often as there are points.
    seed
        Of the points.

    Raises
    ------
    PkpdError
        For fewer than 50 draws: maximum likelihood has AIC and BIC instead.
    """
    if by not in ("subject", "observation"):
        raise PkpdError(where="leave_one_out", what=f"by={by!r}", allowed="subject, observation")
    given = {"n_draws": (n_draws, from_to(2)), "points": (points, from_to(2))}
    check_arguments("leave_one_out", **given, most_points=(most_points, from_to(2)))
    approximate = not getattr(draws, "by_chains", True)
    draws = draws_of(draws)
    if len(draws) < FEWEST:
        raise PkpdError(
            where="leave_one_out",
            what=f"{len(draws)} draws",
            allowed=f"{FEWEST} posterior draws or more",
            remedy="compare fits by maximum likelihood through their AIC or BIC",
        )
    error = 0.0
    data = draws.likelihood.dataset
    if by == "subject":
        densities, error = marginal_densities(
            draws, n_draws=n_draws, points=points, most_points=most_points, seed=seed
        )
        labels = tuple(str(s) for s in data.subjects)
    else:
        some = draws.thinned(n_draws)
        each = jax.jit(draws.likelihood.by_observation)
        densities = np.stack(
            [np.asarray(each(some.fixed[d], some.random[d])) for d in range(len(some))]
        )
        seen = data.observations
        labels = tuple(
            f"{data.subjects[b]} at {t:g} h, {data.lines[i]}"
            for b, t, i in zip(seen.subject, seen.time, seen.line, strict=True)
        )
    found = smoothed(densities, labels, by, error, measured_digest(data))
    return replace(found, approximate=approximate)


def smoothed(
    densities: np.ndarray, labels: tuple[str, ...], unit: str, error: float = 0.0, data: str = ""
) -> LeaveOneOut:
    """Pareto-smoothed leave-one-out from log densities ``[D, B]`` of units at draws."""
    import arviz as az
    import xarray as xr

    values = xr.Dataset({"y": (("chain", "draw", "unit"), densities[None])})
    # ArviZ asks for a posterior only to find the effective size, which is given
    posterior = xr.Dataset({"none": (("chain", "draw"), np.zeros((1, len(densities))))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large k are told in words
        found = az.loo(
            az.InferenceData(log_likelihood=values, posterior=posterior), pointwise=True, reff=1.0
        )
    _without_tails(found, densities)
    if len(labels) == 1:
        found["se"] = np.nan
    return LeaveOneOut(
        float(found.elpd_loo),
        float(found.se),
        float(found.p_loo),
        np.asarray(found.loo_i),
        np.asarray(found.pareto_k),
        labels,
        unit,
        error,
        found,
        data,
    )


def _without_tails(found: Any, densities: np.ndarray) -> None:
    """Weigh plainly the units whose weights have no tail to be smoothed.

    The largest weights of a value that is certain, such as one far below its limit, are alike to
    the last digit, and ArviZ has no number for a Pareto tail of ties.
    """
    alone = np.isnan(found.loo_i.values) & np.isfinite(densities).all(axis=0)
    if not alone.any():
        return
    number, units = densities.shape
    plain = np.log(number) - special.logsumexp(-densities[:, alone], axis=0)
    found.loo_i.values[alone] = plain
    each = found.loo_i.values
    within = special.logsumexp(densities, axis=0) - np.log(number)
    found["elpd_loo"] = each.sum()
    found["se"] = np.sqrt(units * np.var(each))
    found["p_loo"] = within.sum() - each.sum()


def marginal_densities(
    draws: Draws,
    *,
    n_draws: int = 200,
    points: int = 32,
    most_points: int = 256,
    seed: int = 1,
) -> tuple[np.ndarray, float]:
    """Log density of each subject's data at posterior draws, random effects integrated out.

    Parameters
    ----------
    draws
        Posterior draws.
    n_draws, points, most_points, seed
        See `leave_one_out`.

    Returns
    -------
    float[D, B], float
        Log densities, and their Monte Carlo standard error as in `LeaveOneOut`.
    """
    likelihood, size = draws.likelihood, draws.likelihood.random_effects.size
    some = draws.thinned(n_draws)
    by_subject = jax.jit(likelihood.by_subject)
    if size == 0:
        return some.log_likelihood(), 0.0
    centre, root = _proposals(draws, some)
    n, d = likelihood.n_subjects, len(some)
    log_weights: list[np.ndarray] = []
    batch, total, worst = points, 0, np.inf
    rng = np.random.default_rng(seed)
    sequence = stats.qmc.Sobol(size + 1, rng=rng)
    # the same points for all would give all subjects the same error, which their sum keeps
    shift = rng.random((d, n, size + 1))
    log_root = np.log(np.abs(np.einsum("brr->br", root))).sum(axis=1)
    while total < most_points and worst > _TARGET_ERROR:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a number of points that is no power of two is fine
            cube = sequence.random(batch)
        fresh = np.empty((batch, d, n))
        for j in range(batch):
            t = _student_points(np.clip((cube[j] + shift) % 1.0, 1e-12, 1 - 1e-12))
            u = centre + np.einsum("brs,dbs->dbr", root, t)
            for k in range(d):
                eta = u[k] @ some.cholesky[k].T
                fresh[j, k] = by_subject(some.fixed[k], eta)
            prior = -0.5 * np.sum(u**2, axis=-1) - 0.5 * size * np.log(2 * np.pi)
            fresh[j] = np.where(fresh[j] <= PENALTY, -np.inf, fresh[j])
            fresh[j] += prior - (_log_student(t) - log_root)
        log_weights.append(fresh)
        total += batch
        every = np.concatenate(log_weights)
        estimate = special.logsumexp(every, axis=0) - np.log(total)
        relative = np.exp(every - estimate)
        variance = np.var(relative, axis=0, ddof=1) / total
        worst = float(np.sqrt(variance.mean(axis=0).max()))
        batch = total
    return estimate, worst


def _proposals(draws: Draws, some: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Centre ``[D, B, R]`` at the chosen draws and root of the scale ``[B, R, R]``."""
    use = draws.thinned(2000)
    u = _standardised(use)
    at, chosen = _unbounded(use), _unbounded(some)
    mean, spread = at.mean(axis=0), at.std(axis=0)
    varies = spread > 0
    at = (at[:, varies] - mean[varies]) / spread[varies]
    chosen = (chosen[:, varies] - mean[varies]) / spread[varies]
    n, size = u.shape[1:]
    # a slope for each parameter is learned only from many more draws than parameters
    if len(use) < 10 * (at.shape[1] + 1):
        at, chosen = at[:, :0], chosen[:, :0]
    design = np.column_stack([np.ones(len(at)), at])
    flat = u.reshape(len(use), -1)
    slope = np.linalg.lstsq(design, flat, rcond=None)[0]
    left = (flat - design @ slope).reshape(u.shape)
    centre = (np.column_stack([np.ones(len(chosen)), chosen]) @ slope).reshape(-1, n, size)
    covariance = np.einsum("dbr,dbs->brs", left, left) / (len(use) - design.shape[1])
    covariance += 1e-6 * np.eye(size)
    return centre, np.linalg.cholesky(_WIDENED * covariance)


def _standardised(draws: Draws) -> np.ndarray:
    """``u`` of ``eta = C u`` at every draw, ``[D, B, R]``."""
    return np.swapaxes(np.linalg.solve(draws.cholesky, np.swapaxes(draws.random, 1, 2)), 1, 2)


def _unbounded(draws: Draws) -> np.ndarray:
    """Transform population parameters to scales without bounds, ``[D, P]``."""
    free = FreeParameters(draws.likelihood)
    return np.stack(
        [
            free.of({name: float(v[d]) for name, v in draws.population.items()})
            for d in range(len(draws))
        ]
    )


def _student_points(cube: np.ndarray) -> np.ndarray:
    """Multivariate t from points of the unit cube ``[..., R + 1]``."""
    z = stats.norm.ppf(cube[..., :-1])
    return z * np.sqrt(_DEGREES / stats.chi2.ppf(cube[..., -1:], _DEGREES))


def _log_student(t: np.ndarray) -> np.ndarray:
    square, size = np.sum(t**2, axis=-1), t.shape[-1]
    constant = special.gammaln(0.5 * (_DEGREES + size)) - special.gammaln(0.5 * _DEGREES)
    constant -= 0.5 * size * np.log(_DEGREES * np.pi)
    return constant - 0.5 * (_DEGREES + size) * np.log1p(square / _DEGREES)


def compare_models(results: Mapping[str, LeaveOneOut | Fitted]) -> pd.DataFrame:
    """Rank models of the same data by their expected log predictive density.

    Parameters
    ----------
    results
        By name of each model its fit by sampling, or what `leave_one_out` made of it, of the same
        data and unit: ``{"one": fit, "two": other}``.

    Returns
    -------
    pandas.DataFrame
        Best first: ``rank``, ``elpd``, ``se``, ``p``, ``difference`` from the best,
        ``se_difference`` (of the difference, by subject; NaN of one), ``weight`` (stacking),
        ``large_k`` (units with Pareto k above 0.7), ``approximate`` (draws of MAP or ADVI, which
        approximate the posterior). A difference below about four, or twice its
        standard error, is not one to choose by.

    Raises
    ------
    PkpdError
        For fewer than two models, or other data.
    """
    import arviz as az

    check_arguments("compare_models", results=(results, MAPPING))
    if len(results) < 2:
        raise PkpdError(
            where="compare_models", what=f"{len(results)} models", allowed="two or more"
        )
    results = {
        str(name): one if isinstance(one, LeaveOneOut) else leave_one_out(one)
        for name, one in results.items()
    }
    names = list(results)
    for name in names[1:]:
        one, other = results[name], results[names[0]]
        if one.labels != other.labels or len({one.data, other.data} - {""}) > 1:
            raise PkpdError(
                where=f"compare_models, {name!r}",
                what=f"was fitted to other data than {names[0]!r}",
                remedy="compare fits of the same subjects and measurements",
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = az.compare({name: one.elpd_data for name, one in results.items()}, ic="loo")
    out = pd.DataFrame(
        {
            "rank": table["rank"],
            "elpd": table["elpd_loo"],
            "se": table["se"],
            "p": table["p_loo"],
            "difference": -table["elpd_diff"],
            "se_difference": table["dse"] if len(results[names[0]].labels) > 1 else np.nan,
            "weight": table["weight"],
            "large_k": [int(np.sum(results[str(n)].k > LARGE_K)) for n in table.index],
            "approximate": [results[str(n)].approximate for n in table.index],
        }
    )
    out.index.name = "model"
    return out
