"""Coordinates of a lag that cannot pass a measurement.

Where a value clearly above zero was measured at time ``t`` after the first dose, the lag is below
``t``: the likelihood falls there like a cliff, and before it the lag goes with the rate of
absorption along a curve that ends in the cliff. What is sampled in the place of the lag ``l`` is
``l'``, with

    ``l / t = s(v) + exp(v - 24)``,   ``v = log(l' / t)``,   ``s(v) = 1 / (1 + exp(-v))``.

Far below ``t`` the two are equal; towards ``t`` the odds ``l / (t - l)`` take the place of ``l``,
whose logarithm goes with that of the rate of absorption along a straight line. The last term,
below 1e-5 up to ``l = (1 - 1e-5) t``, leads on to lags of any length.

A measurement near zero at an earlier time ``a`` bounds the lag from below, within the time in which
a concentration leaves the error: hundredths or thousandths of an hour where absorption is quick. A
lag that passes ``a`` comes from a cell as wide as the distance of two measurements to one a hundred
times as narrow, and steps that suit both are that short. There ``v`` is stretched: with ``v_a`` of
``l = a``, and ``e`` the share of the narrow width,

    ``v = v_a + e (w - v_a) + (1 - e) c log(1 + exp((w - v_a) / c))``

and ``w`` is sampled, which is ``v`` after ``a`` and moves ``1 / e`` times as far before.

All this is smooth and goes from all positive numbers to all positive numbers, and with its
derivative in the density the posterior is the same, walls or none.
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
_BEND = 0.1  # chosen: ``c``, in logarithms of odds
_WIDTH = 0.4  # chosen: width in ``w`` that the narrow one is stretched to
_LEAST_SHARE = 0.01  # chosen: of the width
_EARLIER = 0.01  # of a time: lags by which the narrow width is measured
_LAG = re.compile(r"ALAG[1-9][0-9]*")
_ODDS = (-3.0, -1.5, -0.5, 0.3, 1.0, 2.0)  # chosen: logarithms of odds that searches start at
_STEPS = 40  # chosen: most steps of a search
_LEAST = 1e-2  # chosen: least curvature in the width of a mode


@dataclass(frozen=True, eq=False)
class Walls:
    """Measurements between which lags lie, by subject and parameter that varies.

    Attributes
    ----------
    ends : float[B, E]
        Logarithm of the time ``t`` (h) that the lag does not pass; 60 where there is none.
    begins : float[B, E]
        Logarithm of the odds ``a / (t - a)`` of the last measurement before.
    share : float[B, E]
        ``e``; 1 where nothing is stretched.
    """

    ends: FloatArray
    begins: FloatArray
    share: FloatArray

    @property
    def parameters(self) -> np.ndarray:
        """Which parameters have walls in any subject, bool[E]."""
        return np.any(self.ends < _NONE, axis=0)

    @property
    def subjects(self) -> np.ndarray:
        """Which subjects have a wall, bool[B]."""
        return np.any(self.ends < _NONE, axis=1)


def bend(
    likelihood: PopulationLikelihood, walls: Walls, values: Any, effects: Any, xp: Any
) -> tuple[Any, Any]:
    """From effects as sampled to random effects.

    Parameters
    ----------
    likelihood
        Model and data.
    walls
        From `find_walls`.
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
    for i in np.flatnonzero(walls.parameters):
        name, share = likelihood.model.varying[i], walls.share[:, i]
        typical = to_scale(likelihood.model[name], values[name], xp)
        past = typical + columns[i] - walls.ends[:, i] - walls.begins[:, i]
        softly = xp.logaddexp(0.0, past / _BEND)
        v = walls.begins[:, i] + share * past + (1.0 - share) * _BEND * softly
        slope = slope + xp.log(share + (1.0 - share) * xp.exp(past / _BEND - softly))
        below, above = -xp.logaddexp(0.0, -v), -xp.logaddexp(0.0, v)
        place = xp.logaddexp(below, v - _BEYOND)
        columns[i] = place + walls.ends[:, i] - typical
        slope = slope + xp.logaddexp(below + above, v - _BEYOND) - place
    return xp.stack(columns, 1), slope


def find_walls(likelihood: PopulationLikelihood, values: Any, random: FloatArray) -> Walls | None:
    """Find the first measurement that excludes a longer lag, and the last before it.

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
    shape = (likelihood.n_subjects, len(model.varying))
    walls = Walls(np.full(shape, _NONE), np.zeros(shape), np.ones(shape))
    given = events.is_dose & events.valid
    first = np.min(np.where(given, events.time, np.inf), axis=1)
    after = seen.time - first[seen.subject]
    fixed = likelihood.fixed(values)
    for i, name in enumerate(model.varying):
        p = model[name]
        plain = p.scale == "log" and not p.effects and p.boxcox is None and p.centring is None
        if not (_LAG.fullmatch(name) and plain) or name in model.occasional:
            continue

        def by_lag(lag: FloatArray | float, i: int = i, name: str = name) -> FloatArray:
            moved = np.array(random)
            moved[:, i] = np.log(lag / values[name])
            return np.asarray(likelihood.by_observation(fixed, jnp.asarray(moved)))

        here = np.asarray(likelihood.by_observation(fixed, jnp.asarray(random)))
        lost = ~(here - by_lag(_LONG) < _EXCLUDED) & np.isfinite(here) & (after > 0)
        ends, last = np.full(shape[0], np.inf), np.zeros(shape[0])
        np.minimum.at(ends, seen.subject[lost], after[lost])
        earlier = (after > 0) & (after < ends[seen.subject]) & np.isfinite(ends[seen.subject])
        np.maximum.at(last, seen.subject[earlier], after[earlier])
        walls.ends[:, i] = np.where(np.isfinite(ends), np.log(ends), _NONE)
        at = np.flatnonzero(earlier & (after == last[seen.subject]))
        subject = seen.subject[at]
        lags = np.where(last > 0, last, 1.0)
        losses = [by_lag(lags * (1.0 - k * _EARLIER))[at] for k in range(3)]
        # a concentration that grows evenly loses with the square of the time
        bent = np.zeros(shape[0])
        np.add.at(bent, subject, 2.0 * losses[1] - losses[0] - losses[2])
        odds = last[subject] / (ends[subject] - last[subject])
        walls.begins[subject, i] = np.log(odds)
        with np.errstate(divide="ignore", invalid="ignore"):
            width = _EARLIER / np.sqrt(bent[subject]) * (1.0 + odds)
        width = np.where(np.isfinite(width), width, np.inf)
        walls.share[subject, i] = np.clip(width / _WIDTH, _LEAST_SHARE, 1.0)
    return walls if np.any(walls.subjects) else None


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
    likelihood: PopulationLikelihood, walls: Walls, values: Any, starts: list[FloatArray]
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
    best, height = np.zeros_like(starts[0]), np.full(likelihood.n_subjects, -np.inf)
    moving = np.flatnonzero(walls.parameters)
    for start in starts:
        for odds in _ODDS:
            z = np.array(start)
            for i in moving:
                ends = walls.ends[:, i]
                to = ends + odds - np.log(values[model.varying[i]])
                z[:, i] = np.where(ends < _NONE, np.clip(to / lower[i, i], -4, 6), z[:, i])
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

    def __init__(self, likelihood: PopulationLikelihood, walls: Walls, values: Any) -> None:
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
