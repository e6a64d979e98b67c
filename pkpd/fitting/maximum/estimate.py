"""Population maximum likelihood: `maximum_likelihood`.

The random effects are integrated out by an approximation of `pkpd.fitting.maximum.marginal`. A few
steps of the linearised model bring the parameters close, BFGS with the gradient of the
approximation brings them to its minimum, differences of gradients there give standard errors. On
the way and wherever the search would end, the modes of all subjects are searched anew; where one
is better, the search goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from pkpd.arrays import FloatArray
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.judge.ended import NOTABLE, TELLS, constant_covariates, vanished
from pkpd.fitting.judge.standard_errors import Covariance, Uncertainty, uncertainty
from pkpd.fitting.maximum.finished import Asked, finished
from pkpd.fitting.maximum.limits import rises_at_limits
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood, Method
from pkpd.fitting.maximum.penalty import PriorPenalty
from pkpd.fitting.maximum.problem import Place, Problem
from pkpd.fitting.maximum.progress import Progress, ProgressLines
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.maximum.scales import LIFTED
from pkpd.fitting.maximum.search import SearchResult, minimise
from pkpd.fitting.maximum.start import MixedModel, approach
from pkpd.fitting.maximum.without_spread import rises_without
from pkpd.fitting.model.impossible import refuse_impossible
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.specification import PopulationModel
from pkpd.solve.cache import keep_compilations

_WIDE, _DRAWS = 1.0, 5  # of starts on log scales, 95 % within a factor of 7; tries of each
_STRETCH = 20  # gradients after which modes are searched anew
_A_STANDARD_ERROR = 1.0  # fall of -2 log L from one standard error off the minimum to it


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
        Number of starts; those after the first are drawn around the model's values: typical values
        log-normally, 95 % within a factor of 7 either way (a factor of 2.7 for spreads and residual
        errors). The best end is kept. From it absorption and elimination are exchanged where the
        model has ``ka``, ``CL`` and ``V`` or ``V1``: a lower end is kept too if there are several
        starts, and told if there is one, whose side of the flip-flop is the user's choice.
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
    return maximum_of(
        MarginalLikelihood(bind(model, dataset), method),
        starts=starts,
        seed=seed,
        progress=progress,
        priors=priors,
        covariance=covariance,
        tolerance=tolerance,
        iterations=iterations,
    )


def maximum_of(
    marginal: MarginalLikelihood,
    *,
    starts: int = 1,
    seed: int | None = None,
    progress: Progress | None = None,
    priors: bool = False,
    covariance: Covariance | None = "observed",
    tolerance: float = 1e-5,
    iterations: int = 200,
) -> MaximumLikelihood:
    """Fit a model that is bound to its data already; see `maximum_likelihood`."""
    began = time.perf_counter()
    keep_compilations()
    free = marginal.free
    if not free.names:
        raise PkpdError(
            where="maximum likelihood",
            what="every parameter of the model is held",
            remedy="use pkpd.individual(model, data) for the random effects of each subject, "
            "or leave fixed=True out of at least one parameter",
        )
    mixed = MixedModel(marginal)
    problem = Problem(marginal, PriorPenalty(free) if priors else None)
    first = problem.evaluate(free.start(), restarts=3)
    _check_start(marginal, first.at)
    firsts = [first, *_wide_starts(problem, mixed, np.random.default_rng(seed), starts - 1)]
    ends = [_fit(problem, mixed, one, tolerance, iterations, progress) for one in firsts]
    best, exchange = min(ends, key=lambda end: end.point.value), None
    values = tuple(end.point.value for end in ends)
    other = _exchanged(problem, mixed, best.point, progress)
    lower = other is not None and other.value < best.point.value - NOTABLE
    if other is not None and not (lower and starts > 1):
        exchange = (best.point.value - other.value, free.values(other.x))
    elif other is not None:
        guess = mixed.curvature(other.at)
        end = _search(problem, mixed, other, guess, tolerance, iterations, progress)
        exchange = (best.point.value - end.point.value, None)
        best = min(best, end, key=lambda one: one.point.value)
        ends.append(end)
    lifted = _lifted(problem, best)
    if lifted is not None:
        best = _search(problem, mixed, lifted, best.hessian, tolerance, iterations, progress)
        ends.append(best)
    found: Uncertainty | None = None
    if covariance is not None and not _no_maximum(problem, best.point) and not _far(best, priors):
        # a prior tells the coefficient of a covariate that never changes
        same = () if priors else constant_covariates(marginal.likelihood)
        held = np.array([name in same for name in free.names])
        found = uncertainty(
            problem.evaluate,
            problem.gradient,
            lambda point: point.at.by_subject,
            best.point,
            best.hessian,
            ~(free.at_edge(best.point.x) | held),
            mixed.longest,
            covariance,
            progress.standard_errors if isinstance(progress, ProgressLines) else None,
        )
    rises = rises_without(problem, best.point, found)
    at_limits = rises_at_limits(problem, best.point, found)
    asked = Asked(ends, values, exchange, found, rises, at_limits)
    return finished(problem, mixed, best, asked, began)


def _fit(
    problem: Problem,
    mixed: MixedModel,
    first: Place,
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
    problem: Problem, mixed: MixedModel, first: Place, progress: Progress | None
) -> Place:
    report = progress.approaching if isinstance(progress, ProgressLines) else progress
    begin = problem.point(approach(problem.marginal, first.at, mixed, report=report))
    return begin if begin.value < first.value else first


def _search(
    problem: Problem,
    mixed: MixedModel,
    begin: Place,
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
            hopeless=lambda point: _no_maximum(problem, point),
        )
        done += end.iterations
        if _no_maximum(problem, end.point):
            return replace(end, converged=False, iterations=done)
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


def _no_maximum(problem: Problem, point: Place) -> bool:
    """Whether a residual error has run to zero: the likelihood grows without end."""
    likelihood, free = problem.marginal.likelihood, problem.marginal.free
    values, predicted = free.values(point.x), point.at.predictions[0]
    held = problem.penalty is not None  # a prior would have held it
    return not held and bool(vanished(likelihood, values, predicted, free.names))


def _far(end: SearchResult, priors: bool) -> bool:
    """Whether a minimum is a standard error or more away: curvature here is that of another place.

    With twice the inverse Hessian of -2 log L as covariance, estimates are ``sqrt(expected_fall)``
    standard errors from the minimum of the model of the objective. A fit with priors needs it all
    the same, for the normal approximation that it stands for.
    """
    return not priors and not end.converged and not end.expected_fall < _A_STANDARD_ERROR


def _lifted(problem: Problem, end: SearchResult) -> Place | None:
    """Return a lower point with standard deviations off zero, where each slope vanishes."""
    free, point = problem.marginal.free, end.point
    for i in np.flatnonzero(free.at_edge(point.x)):
        if free.kinds[i] == "deviation":
            x = point.x.copy()
            x[i] = LIFTED
            trial = problem.evaluate(x, point)
            point = trial if trial.value < point.value - 1e-3 else point
    return None if point is end.point else point


def _wide_starts(
    problem: Problem, mixed: MixedModel, rng: np.random.Generator, count: int
) -> list[Place]:
    """Draw starts around the model's values; one without a likelihood is drawn again."""
    free, out = problem.marginal.free, list[Place]()
    x, typical = free.start(), np.array(free.kinds) == "typical"
    wide = np.where(np.isfinite(mixed.longest), np.where(typical, _WIDE, 0.5), 0.2 * np.abs(x))
    for _ in range(_DRAWS * count):
        if len(out) < count:
            moved = np.clip(x + wide * rng.standard_normal(len(x)), *free.bounds.T)
            point = problem.evaluate(moved, restarts=3)
            out += [point] if np.isfinite(point.value) else []
    return out


def _exchanged(
    problem: Problem, mixed: MixedModel, end: Place, progress: Progress | None
) -> Place | None:
    """Return a point on the other side of the flip-flop that data do not rule out, if there is one.

    One compartment with absorption has the same course where the rates of absorption and
    elimination are exchanged and the volume is in the ratio of the two; with more compartments it
    is a place to begin.
    """
    free = problem.marginal.free
    model = free.likelihood.model
    volume = next((name for name in ("V", "V1") if name in free.names), "")
    wanted = ("ka", "CL", volume)
    if not all(name in free.names and model[name].scale == "log" for name in wanted):
        return None
    ka, cl, v = (free.names.index(name) for name in wanted)
    x = end.x.copy()
    x[ka], x[v] = x[cl] - x[v], x[cl] - x[ka]
    point = problem.evaluate(x, restarts=3)
    if not np.isfinite(point.value):
        return None
    point = _approached(problem, mixed, point, progress)
    sides = [np.sign(at.x[ka] + at.x[v] - at.x[cl]) for at in (point, end)]
    near = point.value < end.value + TELLS and sides[0] != sides[1]  # else it came back
    return point if near or point.value < end.value - NOTABLE else None


def _check_start(marginal: MarginalLikelihood, at: Evaluated) -> None:
    """Refuse a start where a row or a subject has no likelihood."""
    likelihood, fixed = marginal.likelihood, marginal.free.fixed(at.x)
    given = int(np.sum(marginal.density.rows["beyond"]))
    if given and marginal.method == "focei" and isinstance(likelihood, OwnErrorLikelihood):
        raise PkpdError(
            where="maximum likelihood, method 'focei'",
            what=f"{given} observations are likelihoods that the model's code gives (F_FLAG, LIKE)",
            allowed="laplace",
            remedy='fit with method="laplace", which takes their second differences',
        )
    refuse_impossible(likelihood, fixed, at.predictions[0])
    lost = np.flatnonzero(~np.isfinite(at.by_subject))
    if not lost.size:
        return
    values = likelihood.individual_parameters(fixed, jnp.zeros(marginal.density.shape))
    problems = likelihood.predictor.problems({n: np.asarray(v) for n, v in values.items()})
    labels = ", ".join(str(likelihood.dataset.subjects[b]) for b in lost[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    why = next((f" ({problems[b].rstrip('.')})" for b in lost.tolist() if b in problems), "")
    raise PkpdError(
        where=f"maximum likelihood, subjects {labels}{more}",
        what=f"no finite likelihood at the starting values{why}",
        remedy="start nearer to the data or with a larger residual error; give it an additive "
        "part if predictions are zero",
    )
