"""Population maximum likelihood: `maximum_likelihood`.

The random effects are integrated out by an approximation of `pkpd.fitting.maximum.marginal`. A few
steps of the linearised model bring the parameters close, BFGS with the gradient of the
approximation brings them to its minimum, differences of gradients there give standard errors. On
the way and wherever the search would end, the modes of all subjects are searched anew; where one
is better, the search goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError, sentence
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood, Method
from pkpd.fitting.maximum.modes import Modes
from pkpd.fitting.maximum.other_modes import better_modes
from pkpd.fitting.maximum.penalty import PriorPenalty
from pkpd.fitting.maximum.progress import Progress, ProgressLines
from pkpd.fitting.maximum.result import MaximumLikelihood, shrinkages
from pkpd.fitting.maximum.scales import LARGEST_PARTIAL, LIFTED
from pkpd.fitting.maximum.search import SearchResult, minimise
from pkpd.fitting.maximum.standard_errors import Covariance, Uncertainty, uncertainty
from pkpd.fitting.maximum.start import MixedModel, approach
from pkpd.fitting.model.impossible import observed_at, refuse_impossible
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.specification import PopulationModel
from pkpd.small_systems import inverse_each
from pkpd.solve.cache import keep_compilations
from pkpd.solve.population.status import PENALTY

FloatArray = NDArray[np.floating[Any]]

_AT_BOUND = 1e-3  # of the distance between bounds
_VANISHED = 1e-5  # residual standard deviation as a share of the size of the observations
_ILL_CONDITIONED = 1e4  # on correlations of estimates; 1000 is a common rule for concern
_JITTER = 0.5  # of starts on log scales
_NOTABLE = 0.1  # difference of objectives worth a sentence
_STRETCH = 20  # gradients after which modes are searched anew


@dataclass(eq=False)
class _Point:
    """An evaluated point with its penalty."""

    x: FloatArray
    value: float
    at: Evaluated
    slope_of_prior: FloatArray


@dataclass(eq=False)
class _Problem:
    """Objective plus penalty, counting calls of the predictor."""

    marginal: MarginalLikelihood
    penalty: PriorPenalty | None
    evaluations: int = 0
    renewals: int = 0
    fallen: dict[int, float] = field(default_factory=dict)
    """Fall of the objective by better modes, by subject."""

    def prior(self, x: FloatArray) -> tuple[float, FloatArray]:
        return (0.0, np.zeros(len(x))) if self.penalty is None else self.penalty(x)

    def point(self, at: Evaluated) -> _Point:
        value, slope = self.prior(at.x)
        return _Point(at.x, at.value + value, at, slope)

    def evaluate(self, x: FloatArray, near: _Point | None = None, restarts: int = 0) -> _Point:
        at = self.marginal.evaluate(x, None if near is None else near.at, restarts=restarts)
        self.evaluations += at.modes.evaluations + len(at.predictions)
        return self.point(at)

    def renewed(self, point: _Point, wide: bool) -> _Point | None:
        """Search all modes anew; ``None`` if no subject has a better one."""
        at, found = self.marginal.renewed(point.at, wide=wide, seed=self.renewals)
        self.renewals += 1
        self.evaluations += at.modes.evaluations - point.at.modes.evaluations
        if not found.any():
            return None
        for b in np.flatnonzero(found).tolist():
            fall = float(point.at.by_subject[b] - at.by_subject[b])
            self.fallen[b] = self.fallen.get(b, 0.0) + fall
        return self.point(at)

    def gradient(self, point: _Point) -> FloatArray:
        self.evaluations += 3 * len(point.at.predictions)
        return self.marginal.gradient(point.at) + point.slope_of_prior


def maximum_likelihood(
    model: PopulationModel,
    dataset: Dataset,
    *,
    method: Method = "focei",
    starts: int = 1,
    seed: int | None = None,
    progress: Progress | None = None,
    priors: bool = False,
    covariance: Covariance | None = "observed",
    tolerance: float = 1e-5,
    iterations: int = 200,
) -> MaximumLikelihood:
    """Fit a population model by maximum likelihood.

    Parameters
    ----------
    model, dataset
        Population model, whose values are the start, and data.
    method
        How random effects are integrated out: ``"focei"``, ``"laplace"`` (for values below a limit
        and few observations per subject), ``"laplace-nointer"``, ``"foce"`` or ``"fo"``; see
        `pkpd.fitting.maximum.marginal`.
    starts
        Number of starts; those after the first are moved at random by about 50 %. The best end is
        kept.
    seed
        Of the starts.
    progress
        Called with the iteration and the objective; `progress.ProgressLines` writes
        them.
    priors
        Add the model's priors: the result is then the mode of the marginal posterior.
    covariance
        ``"observed"``: inverse information from the Hessian; ``"sandwich"``: robust to a wrong
        residual or random-effect distribution, NONMEM's default; ``"scores"``: from products of
        subjects' scores; ``None``: no standard errors.
    tolerance
        Fall of the objective still to be expected at which the search ends.
    iterations
        Most gradients of a search.

    Returns
    -------
    MaximumLikelihood

    Raises
    ------
    PkpdError
        If a subject has no likelihood at the starting values, or the method cannot take the data.
    DataError
        If the model cannot take the data.

    Examples
    --------
    >>> import pkpd
    >>> from pkpd.fitting.model.residual import proportional
    >>> from pkpd.fitting.model.specification import PopulationModel, parameter
    >>> from pkpd.predict.pk import compartments
    >>> model = PopulationModel(
    ...     compartments(1),
    ...     [parameter("CL", 1.0, iiv=0.3), parameter("V", 10.0, iiv=0.2)], proportional(0.1))
    >>> data = pkpd.read_nonmem("study.csv")  # doctest: +SKIP
    >>> maximum_likelihood(model, data).table()  # doctest: +SKIP
    """
    began = time.perf_counter()
    keep_compilations()
    marginal = MarginalLikelihood(bind(model, dataset), method)
    free = marginal.free
    if not free.names:
        raise PkpdError(
            sentence(
                where="maximum likelihood",
                what="every parameter of the model is held",
                remedy="use pkpd.individual(model, data) for the random effects of each subject, "
                "or leave fixed=True out of at least one parameter",
            )
        )
    mixed = MixedModel(marginal)
    problem = _Problem(marginal, PriorPenalty(free) if priors else None)
    rng = np.random.default_rng(seed)
    ends: list[SearchResult] = []
    for k in range(max(1, starts)):
        begin = free.start() if k == 0 else _jittered(free.start(), mixed.longest, rng)
        first = problem.evaluate(np.clip(begin, *free.bounds.T), restarts=3)
        if k == 0:
            _check_start(marginal, first.at)
        if not np.isfinite(first.value):
            continue
        ends.append(_fit(problem, mixed, first, tolerance, iterations, progress))
    best = min(ends, key=lambda end: end.point.value)
    lifted = _lifted(problem, best)
    if lifted is not None:
        best = _search(problem, mixed, lifted, best.hessian, tolerance, iterations, progress)
        ends.append(best)
    found: Uncertainty | None = None
    if covariance is not None:
        found = uncertainty(
            problem.evaluate,
            problem.gradient,
            lambda point: point.at.by_subject,
            best.point,
            best.hessian,
            ~free.at_edge(best.point.x),
            mixed.longest,
            covariance,
            progress.standard_errors if isinstance(progress, ProgressLines) else None,
        )
    return _result(problem, best, ends, found, time.perf_counter() - began)


def _fit(
    problem: _Problem,
    mixed: MixedModel,
    first: _Point,
    tolerance: float,
    iterations: int,
    progress: Progress | None,
) -> SearchResult:
    """Take steps of the linearised model, then search by BFGS."""
    begin = _approached(problem, mixed, first, progress)
    begin = problem.renewed(begin, wide=False) or begin
    guess = mixed.curvature(begin.at)
    return _search(problem, mixed, begin, guess, tolerance, iterations, progress)


def _approached(
    problem: _Problem, mixed: MixedModel, first: _Point, progress: Progress | None
) -> _Point:
    begin = problem.point(approach(problem.marginal, first.at, mixed, report=progress))
    return begin if begin.value < first.value else first


def _search(
    problem: _Problem,
    mixed: MixedModel,
    begin: _Point,
    hessian: FloatArray,
    tolerance: float,
    iterations: int,
    progress: Progress | None,
) -> SearchResult:
    """Search by BFGS until it ends where no subject has a better mode."""
    done, guessed = 0, True

    def report(k: int, value: float) -> None:
        if progress is not None:
            progress(done + k, value)

    while True:
        stretch = min(_STRETCH, iterations - done)
        end = minimise(
            problem.evaluate,
            problem.gradient,
            begin,
            hessian,
            bounds=problem.marginal.free.bounds,
            longest=mixed.longest,
            tolerance=tolerance,
            iterations=stretch,
            report=report,
        )
        done += end.iterations
        stuck = not end.converged and end.iterations < stretch
        better = problem.renewed(end.point, wide=end.converged or stuck)
        if done >= iterations or (better is None and (end.converged or (stuck and guessed))):
            break
        if better is None and not stuck:
            begin, hessian, guessed = end.point, end.hessian, False
            continue
        # other modes, or a model of the curvature that has gone bad: begin it anew
        begin = end.point if better is None else _approached(problem, mixed, better, report)
        hessian, guessed = mixed.curvature(begin.at), True
    if better is not None:  # no gradients are left to go on with
        fall = end.point.value - better.value
        end = replace(end, point=better, gradient=problem.gradient(better))
        end = replace(end, converged=False, expected_fall=fall)
    return replace(end, iterations=done)


def _lifted(problem: _Problem, end: SearchResult) -> _Point | None:
    """Return a lower point with standard deviations off zero, where each slope vanishes."""
    free, point = problem.marginal.free, end.point
    for i in np.flatnonzero(free.at_edge(point.x)):
        if free.kinds[i] == "deviation":
            x = point.x.copy()
            x[i] = LIFTED
            trial = problem.evaluate(x, point)
            point = trial if trial.value < point.value - 1e-3 else point
    return None if point is end.point else point


def _jittered(x: FloatArray, longest: FloatArray, rng: np.random.Generator) -> FloatArray:
    size = np.where(np.isfinite(longest), _JITTER, 0.2 * np.abs(x))
    return x + size * rng.standard_normal(len(x))


def _check_start(marginal: MarginalLikelihood, at: Evaluated) -> None:
    """Refuse a start where a row or a subject has no likelihood."""
    likelihood, fixed = marginal.likelihood, marginal.free.fixed(at.x)
    refuse_impossible(likelihood, fixed, at.predictions[0])
    lost = np.flatnonzero(~np.isfinite(at.by_subject))
    if not lost.size:
        return
    values = likelihood.individual_parameters(fixed, jnp.zeros(marginal.density.shape))
    problems = likelihood.predictor.problems({n: np.asarray(v) for n, v in values.items()})
    labels = ", ".join(str(likelihood.dataset.subjects[b]) for b in lost[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    why = next((f" ({problems[b]})" for b in lost.tolist() if b in problems), "")
    raise PkpdError(
        sentence(
            where=f"maximum likelihood, subjects {labels}{more}",
            what=f"no finite likelihood at the starting values{why}",
            remedy="start nearer to the data or with a larger residual error; give it an additive "
            "part if predictions are zero",
        )
    )


def _final_modes(problem: _Problem, point: _Point) -> Modes:
    """Modes with an exact Hessian; those of the nonlinear model for ``"fo"``."""
    density = problem.marginal.density
    if problem.marginal.method == "fo":
        density = ConditionalDensity(density.likelihood, interaction=False)
        modes = find_modes(density, point.x, point.at.modes.u, restarts=3)
        return better_modes(density, point.x, modes)[0]
    if point.at.modes.fresh:
        return point.at.modes
    return find_modes(density, point.x, point.at.modes.u)


def _told_modes(problem: _Problem) -> list[str]:
    """Say whose modes were found anew on the way, if that changed the objective."""
    fall = sum(problem.fallen.values())
    if fall < _NOTABLE:
        return []
    names = problem.marginal.likelihood.dataset.subjects
    labels = [str(names[b]) for b, one in sorted(problem.fallen.items()) if one > 0.1 * _NOTABLE]
    who = f"subject{'s' if len(labels) > 1 else ''} {', '.join(labels)}"
    return [
        f"Random effects have more than one mode in {who}: better than those followed were found "
        f"on the way, by {fall:.1f} of the objective in all. Start from other values too, and see "
        "whether the end is the same."
    ]


def _result(
    problem: _Problem,
    end: SearchResult,
    ends: list[SearchResult],
    found: Uncertainty | None,
    seconds: float,
) -> MaximumLikelihood:
    point: _Point = end.point
    marginal = problem.marginal
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
    vanished = {} if problem.penalty is not None else _vanished(marginal, point.at)
    absurd = np.flatnonzero(point.at.by_subject > -2.0 * PENALTY)
    converged = end.converged and bool(np.all(modes.converged)) and not (vanished or absurd.size)
    return MaximumLikelihood(
        likelihood=likelihood,
        method=marginal.method,
        estimates=estimates,
        names=free.names,
        standard_errors=errors,
        covariance=natural,
        x=x,
        covariance_x=covariance_x,
        objective=point.at.value,
        constant=marginal.constant,
        penalty=point.value - point.at.value,
        by_subject=point.at.by_subject,
        gradient=end.gradient,
        random=random,
        random_covariance=np.einsum("ij,bjk,lk->bil", lower, inverse, lower),
        eta_shrinkage=by_effect,
        epsilon_shrinkage=by_line,
        converged=converged,
        condition_number=np.nan if found is None else found.condition,
        iterations=sum(one.iterations for one in ends),
        evaluations=problem.evaluations,
        seconds=seconds,
        messages=(
            *_messages(marginal, end, ends, modes, found, estimates, vanished),
            *_told_modes(problem),
            *_told_absurd(marginal, point.at, absurd),
        ),
    )


def _told_absurd(
    marginal: MarginalLikelihood, at: Evaluated, absurd: NDArray[np.intp]
) -> list[str]:
    """Say which observation is all but impossible, if one is."""
    if not absurd.size:
        return []
    each = np.asarray(marginal.density.by_observation(at.x, at.predictions[0], at.predictions[-1]))
    worst = int(np.nanargmin(each))
    return [
        f"The model gives {_count(absurd.size, 'subject')} no chance, least the observation at "
        f"{observed_at(marginal.likelihood, worst)}, where it predicts "
        f"{at.predictions[0][worst]:.4g}: the objective means nothing. Look at these records, or "
        "give the residual error an additive part."
    ]


def _vanished(marginal: MarginalLikelihood, at: Evaluated) -> dict[str, float]:
    """Residual errors that have run to zero, where no likelihood has a maximum, by name."""
    likelihood, free = marginal.likelihood, marginal.free
    value = likelihood.dataset.observations.value
    if isinstance(likelihood, OwnErrorLikelihood):
        normal = likelihood.normal
        sd = np.exp(at.predictions[0].reshape(2, -1)[1])[normal]
        typical = float(np.median(sd)) if normal.any() else np.inf
        gone = typical < _VANISHED * np.sqrt(np.sum(value[normal] ** 2) / max(1, normal.sum()))
        return {"The residual error": typical} if gone else {}
    sd = np.asarray(likelihood.residual_sd(free.fixed(at.x), at.predictions[0]))
    values, out = free.values(at.x), dict[str, float]()
    for line, error, mine in likelihood._lines:
        # the error of logarithms is a share of the value already
        size = 1.0 if error.logarithmic else np.sqrt(np.mean(value[mine] ** 2)) or 1.0
        if np.median(sd[mine]) < _VANISHED * size:
            out |= {n: values[n] for n in error.estimates(line) if n in free.names}
    return {name: one for name, one in out.items() if not name.startswith("nu_")}


def _count(number: int, thing: str) -> str:
    """Return a number of things in words, ``2 subjects``."""
    return f"{number} {thing}{'s' * (number != 1)}"


def _no_maximum(marginal: MarginalLikelihood, name: str, value: float) -> str:
    """Sentence on a residual error that has run to zero."""
    subjects, rows = marginal.likelihood.n_subjects, len(marginal.likelihood.dataset.observations)
    return (
        f"{name} has run to zero ({value:.2g}): {_count(subjects, 'subject')} with "
        f"{_count(rows, 'observation')} cannot tell it, and the likelihood has no maximum. "
        "Hold it, give it a prior, or simplify the model."
    )


def _messages(
    marginal: MarginalLikelihood,
    end: SearchResult,
    ends: list[SearchResult],
    modes: Modes,
    found: Uncertainty | None,
    estimates: dict[str, float],
    vanished: dict[str, float],
) -> list[str]:
    """Sentences on what deserves attention."""
    free = marginal.free
    out = [_no_maximum(marginal, *one) for one in vanished.items()]
    found = None if vanished else found  # there is no curvature to speak of
    edge = free.at_edge(end.point.x)
    if not end.converged:
        out.append(
            f"The search did not converge: {end.expected_fall:.2g} of the objective may be left. "
            "Start it again from these estimates, or simplify the model."
        )
    lost = np.flatnonzero(~modes.converged)
    if lost.size:
        labels = ", ".join(str(marginal.likelihood.dataset.subjects[b]) for b in lost[:5])
        have = "has" if lost.size == 1 else "have"
        who = _count(lost.size, "subject")
        out.append(f"{who} {have} no converged mode of random effects: {labels}.")
    values = [one.point.value for one in ends]
    if len(ends) > 1 and max(values) - min(values) > _NOTABLE:
        told = ", ".join(f"{v:.2f}" for v in sorted(values))
        out.append(f"Starts ended at different objectives: {told}.")
    for i, (name, kind) in enumerate(zip(free.names, free.kinds, strict=True)):
        if kind == "deviation" and edge[i]:
            out.append(f"{name} is estimated at zero ({estimates[name]:.2g}).")
        elif kind == "correlation" and abs(estimates[name]) > min(0.99, LARGEST_PARTIAL):
            out.append(f"{name} is at {estimates[name]:.3f}: the correlation is not identified.")
        elif found is not None and not found.used[i]:
            bound = _bound(marginal.likelihood.model, name, estimates[name])
            why = (
                f"The data do not inform {name}: the objective hardly changes with it."
                if bound is None
                else f"{name} is estimated at its bound of {bound:g}."
            )
            out.append(f"{why} Hold it, or give it a prior.")
    if found is not None and not found.positive:
        out.append(
            "The Hessian is not positive definite: no standard errors. The estimate is not a clean "
            "minimum, or parameters are not identified."
        )
    elif found is not None and found.condition > _ILL_CONDITIONED:
        pair = _most_correlated(found)
        named = f" ({free.names[pair[0]]} and {free.names[pair[1]]} most)" if pair else ""
        out.append(
            f"The estimates are nearly dependent{named}: condition number {found.condition:.3g}."
        )
    return out


def _bound(model: PopulationModel, name: str, value: float) -> float | None:
    """Bound that an estimate on the logit scale has run into."""
    for one in model.parameters:
        if one.name == name and one.scale == "logit":
            low, high = one.bounds
            for bound in (low, high):
                if abs(value - bound) < _AT_BOUND * (high - low):
                    return bound
    return None


def _most_correlated(found: Uncertainty) -> tuple[int, int] | None:
    places = np.flatnonzero(found.used)
    if len(places) < 2:
        return None
    part: Any = found.covariance[np.ix_(places, places)]
    sd = np.sqrt(np.diag(part))
    off = np.abs(part / np.outer(sd, sd)) - np.eye(len(places))
    i, j = np.unravel_index(int(np.argmax(off)), off.shape)
    return int(places[min(i, j)]), int(places[max(i, j)])
