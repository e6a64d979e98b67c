"""The end of a search made into a result: modes, errors, shrinkage, and the judge's findings."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.fitting.judge.ended import Ended, judge
from pkpd.fitting.judge.findings import in_order
from pkpd.fitting.judge.influence import carried, chances, of_study, shifts
from pkpd.fitting.judge.standard_errors import Uncertainty
from pkpd.fitting.maximum.densities import conditional_density
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.maximum.linear_subjects import linear_subjects
from pkpd.fitting.maximum.modes import Modes
from pkpd.fitting.maximum.other_modes import better_modes
from pkpd.fitting.maximum.problem import Place, Problem
from pkpd.fitting.maximum.result import MaximumLikelihood, shrinkages
from pkpd.fitting.maximum.search import SearchResult
from pkpd.fitting.maximum.start import MixedModel
from pkpd.small_systems import inverse_each


@dataclass(frozen=True, eq=False)
class Asked:
    """What came of all searches: ends, how starts agree, curvature, rises elsewhere."""

    ends: list[SearchResult]
    values: tuple[float, ...]
    exchange: tuple[float, dict[str, float] | None] | None
    found: Uncertainty | None
    rises: dict[str, float]
    at_limits: dict[str, tuple[float, float]]


def _final_modes(problem: Problem, point: Place) -> Modes:
    """Modes with an exact Hessian; those of the nonlinear model for ``"fo"``."""
    density = problem.marginal.density
    if problem.marginal.method == "fo":
        density = conditional_density(density.likelihood, interaction=False)
        modes = find_modes(density, point.x, point.at.modes.u, restarts=3)
        return better_modes(density, point.x, modes)[0]
    if point.at.modes.fresh:
        return point.at.modes
    return find_modes(density, point.x, point.at.modes.u)


def finished(
    problem: Problem, mixed: MixedModel, end: SearchResult, asked: Asked, began: float
) -> MaximumLikelihood:
    """Make the result of where a search ended, and judge it.

    Parameters
    ----------
    problem, mixed
        What was minimised, and its linearised model.
    end
        The best end.
    asked
        What came of all searches.
    began
        When, by `time.perf_counter`.
    """
    point: Place = end.point
    marginal, found = problem.marginal, asked.found
    free, likelihood = marginal.free, marginal.likelihood
    x, modes = point.x, _final_modes(problem, point)
    lower = free.cholesky(x, np)
    inverse = inverse_each(modes.hessian) if modes.u.shape[1] else modes.hessian
    random = modes.u @ lower.T
    estimates = free.values(x)
    by_effect, by_line = shrinkages(likelihood, estimates, random)
    slopes = free.slopes(x)
    size = len(x)
    covariance_x = np.full((size, size), np.nan) if found is None else found.covariance
    natural = covariance_x * np.outer(slopes, slopes)
    errors = dict(zip(free.names, np.sqrt(np.diag(natural)).tolist(), strict=True))
    ended = Ended(
        likelihood=likelihood,
        names=free.names,
        kinds=free.kinds,
        edge=free.at_edge(x),
        estimates=estimates,
        converged=end.converged,
        expected_fall=end.expected_fall,
        without_mode=np.flatnonzero(~modes.converged),
        predictions=point.at.predictions[0],
        log_densities=np.asarray(
            marginal.density.row_values(x, point.at.predictions[0], point.at.predictions[-1])[0]
        ),
        by_subject=point.at.by_subject,
        found=found,
        penalised=problem.penalty is not None,
        prior_share=_prior_share(problem, point, found),
        ends=asked.values,
        lowest=point.value,
        exchange=asked.exchange,
        rises=asked.rises,
        at_limits=asked.at_limits,
        fallen=problem.fallen,
    )
    findings = judge(ended)
    observed = np.full((size, size), np.nan) if found is None else found.observed
    scores = np.full((len(modes.u), size), np.nan) if found is None else found.scores
    moved = np.full(scores.shape, np.nan)
    chance = np.full(len(scores), np.nan)
    if found is not None and found.positive and ended.good and len(scores) > 1:
        moved = shifts(observed, scores)
        moved[:, found.not_told | ~found.used] = np.nan
        each = chances(moved, observed, linear_subjects(mixed, point.at))
        chance = of_study(each)
        findings = in_order([*findings, *carried(likelihood.dataset, free.names, moved, each)])
    return MaximumLikelihood(
        likelihood=likelihood,
        method=marginal.method,
        estimates=estimates,
        names=free.names,
        standard_errors=errors,
        covariance=natural,
        x=x,
        covariance_x=covariance_x,
        observed_x=observed,
        scores=scores,
        shifts=moved,
        chances=chance,
        objective=point.at.value,
        constant=marginal.constant,
        penalty=point.value - point.at.value,
        by_subject=point.at.by_subject,
        gradient=end.gradient,
        random=random,
        random_covariance=np.einsum("ij,bjk,lk->bil", lower, inverse, lower),
        eta_shrinkage=by_effect,
        epsilon_shrinkage=by_line,
        converged=ended.good,
        condition_number=np.nan if found is None else found.condition,
        iterations=sum(one.iterations for one in asked.ends),
        evaluations=problem.evaluations,
        seconds=time.perf_counter() - began,
        findings=findings,
    )


def _prior_share(problem: Problem, point: Place, found: Uncertainty | None) -> FloatArray:
    """Share of each parameter's information that comes from its prior, ``[P]``.

    By the curvature of the penalty along its own axis beside the inverse of all curvature.
    """
    size = len(point.x)
    if not problem.penalised or found is None or not found.positive:
        return np.zeros(size)
    out = np.zeros(size)
    for i in range(size):
        h = 1e-4 * np.eye(size)[i]
        up, down = (problem.slope_of_priors(point.x + sign * h)[i] for sign in (1.0, -1.0))
        out[i] = 0.5 * found.observed[i, i] * (up - down) / 2e-4
    return np.nan_to_num(out, nan=0.0, posinf=0.0, neginf=0.0)
