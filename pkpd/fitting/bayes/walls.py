"""Coordinates of a lag that cannot pass a measurement.

Where a value clearly above zero was measured at time ``t`` after the first dose, the lag is below
``t``: the likelihood falls there like a cliff, and before it the lag goes with the rate of
absorption along a curve that ends in the cliff. What is sampled in the place of the lag ``l`` is
``l'``, with

    ``l / t = s(v) + exp(v - 24)``,   ``v = log(l' / t)``,   ``s(v) = 1 / (1 + exp(-v))``.

Far below ``t`` the two are equal; towards ``t`` the odds ``l / (t - l)`` take the place of ``l``,
whose logarithm goes with that of the rate of absorption along a straight line. The last term,
below 1e-5 up to ``l = (1 - 1e-5) t``, leads on to lags of any length: the function is smooth and
goes from all positive numbers to all positive numbers, and with its derivative in the density the
posterior is the same, wall or none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.fitting.model.individuals import to_scale
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

FloatArray = NDArray[np.floating[Any]]

_BEYOND = 24.0  # chosen: twice the logarithm of the odds from which on a lag grows past its wall
_NONE = 60.0  # logarithm of the time (h) of a wall that nothing reaches
_EXCLUDED = 18.0  # log likelihood that a measurement loses without any drug: odds of 1e-8
_LONG = 1e6  # h: no drug has come in
_LAG = re.compile(r"ALAG[1-9][0-9]*")
_ODDS = (-3.0, -1.5, -0.5, 0.3, 1.0, 2.0)  # chosen: logarithms of odds that searches start at
_STEPS = 40  # chosen: most steps of a search
_LEAST = 1e-2  # chosen: least curvature in the width of a mode


def bend(
    likelihood: PopulationLikelihood, walls: Any, values: Any, effects: Any, xp: Any
) -> tuple[Any, Any]:
    """From effects as sampled to random effects.

    Parameters
    ----------
    likelihood
        Model and data.
    walls : float[B, E]
        Logarithm of the time of each wall, by parameter that varies.
    values
        Typical values by name.
    effects : float[B, R]
        Effects as sampled.
    xp
        ``numpy``, ``jax.numpy`` or ``pytensor.tensor``.

    Returns
    -------
    random : float[B, R]
    slope : float[B]
        Logarithm of the determinant of the derivative.
    """
    columns = [effects[:, i] for i in range(likelihood.random_effects.size)]
    slope: Any = 0.0
    for i, name in enumerate(likelihood.model.varying):
        if not with_walls(walls)[i]:
            continue
        typical = to_scale(likelihood.model[name], values[name], xp)
        v = typical + columns[i] - walls[:, i]
        below, above = -xp.logaddexp(0.0, -v), -xp.logaddexp(0.0, v)
        share = xp.logaddexp(below, v - _BEYOND)
        columns[i] = share + walls[:, i] - typical
        slope = slope + xp.logaddexp(below + above, v - _BEYOND) - share
    return xp.stack(columns, 1), slope


def with_walls(walls: FloatArray) -> np.ndarray:
    """Which parameters have walls in any subject, bool[E]."""
    return np.any(walls < _NONE, axis=0)


def has_walls(walls: FloatArray) -> np.ndarray:
    """Which subjects have a wall, bool[B]."""
    return np.any(walls < _NONE, axis=1)


def find_walls(
    likelihood: PopulationLikelihood, values: Any, random: FloatArray
) -> FloatArray | None:
    """Logarithm of the time of the first measurement that excludes a longer lag, ``[B, E]``.

    ``None`` where there are none: lags that vary between subjects, on a log scale, without
    covariates, occasions, Box-Cox shape or a weight of their own alone have walls.

    Parameters
    ----------
    likelihood
        Model and data.
    values
        Population parameters by name.
    random : float[B, R]
        Random effects near their modes.
    """
    model, seen = likelihood.model, likelihood.dataset.observations
    events = likelihood.dataset.events
    walls = np.full((likelihood.n_subjects, len(model.varying)), _NONE)
    given = events.is_dose & events.valid
    first = np.min(np.where(given, events.time, np.inf), axis=1)
    after = seen.time - first[seen.subject]
    for i, name in enumerate(model.varying):
        p = model[name]
        plain = p.scale == "log" and not p.effects and p.boxcox is None and p.centring is None
        if not (_LAG.fullmatch(name) and plain) or name in model.occasional:
            continue
        fixed = likelihood.fixed(values)
        far = np.array(random)
        far[:, i] = np.log(_LONG / values[name])
        here, there = (
            np.asarray(likelihood.by_observation(fixed, jnp.asarray(r))) for r in (random, far)
        )
        lost = ~(here - there < _EXCLUDED) & np.isfinite(here) & (after > 0)
        for m in np.flatnonzero(lost):
            b = seen.subject[m]
            walls[b, i] = min(walls[b, i], np.log(after[m]))
    return walls if np.any(walls < _NONE) else None


@dataclass(frozen=True, eq=False)
class BentModes:
    """Modes of the effects as sampled, in units of standard normals.

    Attributes
    ----------
    z : float[B, R]
    curvature : float[B, R, R]
        Minus the second derivatives of the log density there, the standard normal's included.
    """

    z: FloatArray
    curvature: FloatArray


def bent_modes(
    likelihood: PopulationLikelihood, walls: FloatArray, values: Any, starts: list[FloatArray]
) -> BentModes:
    """Search the modes of each subject that hold most of its probability.

    A subject may have several: a narrow one before its first measurement and a wide one after it.
    The one with the largest product of height and width is kept.

    Parameters
    ----------
    likelihood, walls, values
        See `bend`; all population parameters.
    starts
        Effects ``[B, R]``, in units of standard normals, from which searches start with their lags
        moved along the walls.
    """
    density = _Density(likelihood, walls, values)
    lower, model = density.lower, likelihood.model
    best, height = np.zeros_like(starts[0]), np.full(len(walls), -np.inf)
    moving = np.flatnonzero(with_walls(walls))
    for start in starts:
        for odds in _ODDS:
            z = np.array(start)
            for i in moving:
                to = walls[:, i] + odds - np.log(values[model.varying[i]])
                z[:, i] = np.where(walls[:, i] < _NONE, np.clip(to / lower[i, i], -4, 6), z[:, i])
            z, value, gradient = _climb(density, z)
            width = np.maximum(np.linalg.eigvalsh(density.curvature(z)), _LEAST)
            mass = value - 0.5 * np.log(width).sum(axis=1)
            mass[~(np.abs(gradient).max(axis=1) < _LEAST)] = -np.inf
            more = mass > height + 1e-3
            best[more], height[more] = z[more], mass[more]
    z = _climb(density, best)[0]
    return BentModes(z, density.curvature(z))


class _Density:
    """Log density of data and effects of each subject, as sampled, with derivatives."""

    def __init__(self, likelihood: PopulationLikelihood, walls: FloatArray, values: Any) -> None:
        fixed = likelihood.fixed(values)
        self.lower = np.asarray(likelihood.random_effects.cholesky(values, np))
        lower, inverse = jnp.asarray(self.lower), jnp.asarray(np.linalg.inv(self.lower))

        def by_subject(z: jax.Array) -> jax.Array:
            random, slope = bend(likelihood, walls, values, z @ lower.T, jnp)
            normal = jnp.sum((random @ inverse.T) ** 2, axis=1)
            return likelihood.by_subject(fixed, random) - 0.5 * normal + slope

        def both(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            # subjects are independent: one pull back gives the derivative of each
            value, back = jax.vjp(by_subject, z)
            return value, back(jnp.ones_like(value))[0]

        self._both = jax.jit(both)

    def at(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        value, gradient = self._both(jnp.asarray(z))
        return np.asarray(value), np.asarray(gradient)

    def curvature(self, z: FloatArray, step: float = 1e-4) -> FloatArray:
        size = z.shape[1]
        columns = [
            (self.at(z - step * e)[1] - self.at(z + step * e)[1]) / (2.0 * step)
            for e in np.eye(size)
        ]
        out = np.stack(columns, axis=2)
        return 0.5 * (out + np.swapaxes(out, 1, 2))


def _climb(density: _Density, z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Newton's method with damping of each subject's own."""
    z, damping = np.array(z), np.full(len(z), 1e-2)
    value, gradient = (np.array(one) for one in density.at(z))
    for _ in range(_STEPS):
        sizes, axes = np.linalg.eigh(density.curvature(z))
        along = np.einsum("bji,bj->bi", axes, gradient)
        along /= np.maximum(np.abs(sizes), 1e-3) + damping[:, None]
        step = np.einsum("bij,bj->bi", axes, along)
        length = np.linalg.norm(step, axis=1)
        step *= np.minimum(1.0, 1.0 / np.maximum(length, 1e-12))[:, None]
        there, slope = density.at(z + step)
        up = there > value - 1e-12
        z[up] += step[up]
        value[up], gradient[up] = there[up], slope[up]
        damping = np.clip(np.where(up, 0.3 * damping, 8.0 * damping), 1e-8, 1e6)
        if np.abs(gradient).max() < 1e-6:
            break
    return z, value, gradient
