"""Where chains start: around point estimates, each at its own distance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor

from pkpd.fitting.bayes.centring import Centring, by_walls, standardised
from pkpd.fitting.bayes.program import PatientScale
from pkpd.fitting.bayes.wall_modes import bent_modes, evened
from pkpd.fitting.bayes.walls import Walls
from pkpd.fitting.maximum.marginal import MarginalLikelihood, Method
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values
from pkpd.small_systems import cholesky_each, inverse_each, root_each

pt: Any = pytensor.tensor
_QUICK = "FAST_COMPILE"  # of small expressions that are worked out once: no C compiler is asked for
_MOVE = 0.01  # of a parameter on its (mostly logarithmic) scale, to see how modes follow
_STUCK = 1e-3  # of such a move: less is none
# chosen: standard error of a spread or correlation up to which modes follow it about linearly
_KNOWN = 0.4
_LEAST_SHARE = 0.01  # of its variance in the population: least variance of a random effect


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """Point estimates to start from.

    Attributes
    ----------
    population
        Population parameters by name; those left out start at the model's values.
    random
        Random effects ``[B, R]``; zero if ``None``.
    spread
        Standard error of a population parameter relative to its size (its distance from 0 or 1
        for bounded ones does not matter): chains start within it. 0.1 where not given.
    random_covariance
        Their covariance in each patient given the population's parameters, ``[B, R, R]``.
    """

    population: Mapping[str, float]
    random: np.ndarray | None = None
    spread: Mapping[str, float] | None = None
    random_covariance: np.ndarray | None = None


def bent(
    likelihood: PopulationLikelihood,
    made: Centring,
    point: StartingPoint,
    walls: Walls,
    *,
    even: bool = False,
) -> tuple[Centring, StartingPoint]:
    """Centring and start with lags as they are sampled before walls.

    Parameters
    ----------
    likelihood, made, point
        Model and data; centring of subjects without walls; where chains start.
    walls
        From `pkpd.fitting.bayes.walls.find_walls`.
    even
        Whether valleys between modes are evened out, which needs a good point.
    """
    values = start_values(likelihood.model) | dict(point.population)
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    random, covariance = np.array(point.random), point.random_covariance
    unit = random @ np.linalg.inv(lower).T
    starts = [np.zeros_like(unit), unit]
    modes = bent_modes(likelihood, walls, values, starts)
    if even and (found := evened(likelihood, walls, values, modes.z)) is not None:
        walls, modes = found, bent_modes(likelihood, found, values, starts)
    own = walls.subjects
    random[own] = (modes.z @ lower.T)[own]
    if covariance is not None:
        covariance = np.array(covariance)
        covariance[own] = (lower @ inverse_each(modes.curvature) @ lower.T)[own]
    chosen = by_walls(likelihood, made, values, walls, modes)
    return chosen, dataclasses.replace(point, random=random, random_covariance=covariance)


def named_start(
    likelihood: PopulationLikelihood, point: StartingPoint, centring: Centring
) -> dict[str, np.ndarray]:
    """Values of the free variables of `density.build_model`, by name, on the natural scale."""
    model, effects = likelihood.model, likelihood.random_effects
    values = start_values(model) | dict(point.population)
    random = point.random
    if random is None:
        random = np.zeros((likelihood.n_subjects, effects.size))
    out = {name: np.asarray(value) for name, value in values.items()}
    for name, value in values.items():
        if name.startswith("partial_"):
            out[f"{name}_unit"] = np.clip(0.5 * (value + 1.0), 0.01, 0.99)
            values[name] = 2.0 * float(out[f"{name}_unit"]) - 1.0
    if effects.size:
        out["x"] = standardised(likelihood, centring, values, random)
    return out


def flat_start(made: pm.Model, named: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the unconstrained point, variables in the order of the model."""
    return _flattening(made)(named)


def _flattening(made: pm.Model) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Make the function from values by name to the unconstrained point."""
    given, parts = [], []
    for variable in made.free_RVs:
        value = variable.type()
        given.append(value)
        transform = made.rvs_to_transforms.get(variable)
        if transform is not None:
            value = transform.forward(value, *variable.owner.inputs)
        parts.append(pt.flatten(value))
    flat = pytensor.function(given, pt.concatenate(parts), mode=_QUICK, on_unused_input="ignore")
    names = [variable.name for variable in made.free_RVs]

    def flattened(named: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(flat(*(np.asarray(named[name], dtype=float) for name in names)))

    return flattened


def flat_spread(made: pm.Model, point: StartingPoint) -> np.ndarray:
    """Return how far chains may start from the point, in the order of `flat_start`."""
    parts = []
    for variable in made.free_RVs:
        size = int(np.prod(variable.shape.eval(mode=_QUICK))) if variable.ndim else 1
        name = variable.name
        if name.startswith("x"):
            parts.append(np.full(size, 0.05))
        else:
            relative = (point.spread or {}).get(name, 0.1)
            parts.append(np.full(size, np.clip(relative, 1e-4, 0.3)))
    return np.concatenate(parts)


def patient_scale(
    made: pm.Model,
    likelihood: PopulationLikelihood,
    point: StartingPoint,
    centring: Centring,
    maximum: MaximumLikelihood | None = None,
) -> PatientScale | None:
    """Scale of the variables of each patient from the covariance of its random effects.

    The covariance is that at the starting point given the population's parameters. Without one, or
    without random effects, there is no scale.

    Parameters
    ----------
    made, likelihood, point, centring
        Model, what it was built from, where chains start, and how effects are centred.
    maximum
        Maximum that the point was taken from: what the modes of the random effects move by when a
        parameter of the population moves is taken out too.
    """
    variables = [v for v in made.free_RVs if v.ndim >= 2]
    if point.random_covariance is None or not variables:
        return None
    values = start_values(likelihood.model) | dict(point.population)
    lower = np.asarray(likelihood.random_effects.cholesky(values, np))
    between = lower @ lower.T
    covariance = np.array(point.random_covariance)
    lost = ~np.all(np.isfinite(covariance), axis=(1, 2))
    covariance[lost] = between
    lost = np.linalg.eigvalsh(covariance)[:, 0] < 0
    covariance[lost] = between
    # an effect whose variance is estimated at zero must still be able to move
    factors = root_each(covariance + np.diag(_LEAST_SHARE * np.diag(between)))
    patients, size = likelihood.n_subjects, factors.shape[1]

    def sampled(named: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([named[v.name].reshape(patients, -1) for v in variables], axis=1)

    def at(random: np.ndarray, population: Mapping[str, float]) -> dict[str, np.ndarray]:
        moved = dataclasses.replace(point, random=random, population=population)
        return named_start(likelihood, moved, centring)

    # the variables follow linearly from the random effects
    zero = sampled(at(np.zeros((patients, size)), point.population))
    columns = [sampled(at(factors[:, :, k], point.population)) - zero for k in range(size)]
    places, where, n = [], {}, 0
    for variable in made.free_RVs:
        count = int(np.prod(variable.shape.eval(mode=_QUICK))) if variable.ndim else 1
        if variable.ndim >= 2:
            places.append(np.arange(n, n + count).reshape(patients, -1))
        else:
            where[variable.name] = n
        n += count
    population = np.array([*where.values()], dtype=int)
    shift = np.zeros((patients, size, len(population)))
    flat = _flattening(made)
    centre = flat(named_start(likelihood, point, centring))[population]
    found = np.full(len(population), -1)
    slopes = np.ones(len(population))
    for i, name, up, down in () if maximum is None else _moved_modes(maximum):
        k = where.get(name, where.get(f"{name}_unit"))
        if k is not None and maximum is not None and not _loose(maximum, i, name):
            above, below = at(*up), at(*down)
            change, j = flat(above)[k] - flat(below)[k], np.searchsorted(population, k)
            if abs(change) < _STUCK * _MOVE:  # at an edge, such as a correlation near one
                continue
            shift[:, :, j] = (sampled(above) - sampled(below)) / change
            found[j], slopes[j] = i, change / (2.0 * _MOVE)
    shift[~np.all(np.isfinite(shift), axis=(1, 2))] = 0.0
    if centring.walls is not None:  # the modes of the maximum are not of what is sampled
        shift[centring.walls.subjects] = 0.0
    return PatientScale(
        np.concatenate(places, axis=1),
        np.stack(columns, axis=2),
        population,
        shift,
        centre,
        _population_factor(flat_spread(made, point)[population], maximum, found, slopes),
    )


def _population_factor(
    spread: np.ndarray, maximum: MaximumLikelihood | None, found: np.ndarray, slopes: np.ndarray
) -> np.ndarray:
    """Root of the covariance of the population's variables: that of the estimates where known.

    Parameters
    ----------
    spread
        Standard deviations for the others.
    maximum
        The estimates.
    found
        Place of each variable among the estimates, or -1.
    slopes
        Derivative of each variable by its estimate.
    """
    out = np.diag(spread)
    if maximum is None:
        return out
    mine = np.flatnonzero(found >= 0)
    covariance = maximum.covariance_x[np.ix_(found[mine], found[mine])]
    known = np.isfinite(np.diag(covariance))
    mine, covariance = mine[known], covariance[np.ix_(known, known)]
    covariance = covariance * np.outer(slopes[mine], slopes[mine])
    factor = cholesky_each(covariance)
    if mine.size and np.all(np.isfinite(factor)):
        out[np.ix_(mine, mine)] = factor
    return out


def _loose(maximum: MaximumLikelihood, i: int, name: str) -> bool:
    """Whether an estimate is a spread or a correlation of which little is known."""
    spread = name.startswith(("omega_", "partial_"))
    return spread and bool(maximum.covariance_x[i, i] > _KNOWN**2)


_Moved = tuple[np.ndarray, dict[str, float]]


def _moved_modes(maximum: MaximumLikelihood) -> Iterator[tuple[int, str, _Moved, _Moved]]:
    """Modes of the random effects, and estimates, with each parameter moved up and down."""
    if maximum.method == "fo":
        return
    marginal = MarginalLikelihood(maximum.likelihood, cast("Method", maximum.method))
    free, x = marginal.free, maximum.x
    unit = maximum.random @ inverse_each(free.cholesky(x, np)).T
    near = marginal.evaluate(x, start=unit)
    for i in np.flatnonzero(~free.at_edge(x)):
        step = _MOVE * np.eye(len(x))[i]
        moved = [marginal.evaluate(x + sign * step, near) for sign in (1.0, -1.0)]
        up, down = (
            (one.modes.u @ np.asarray(free.cholesky(one.x, np)).T, free.values(one.x))
            for one in moved
        )
        yield int(i), free.names[i], up, down
