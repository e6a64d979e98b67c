"""Modes of effects as sampled before walls, and valleys between the modes of a subject.

Where a subject has two modes a chain crosses the valley between them once in some hundred draws,
and what goes with them, such as the variance of errors, mixes as slowly. Along the lag the profile
of the density, other effects integrated by Laplace's approximation, gives the coordinate in which
it is normal: the quantile of its cumulative share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space
from scipy.special import ndtri

from pkpd.fitting.bayes.walls import NO_WALL, PROFILE, Walls, bend
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

FloatArray = NDArray[np.floating[Any]]

_ODDS = (-3.0, -1.5, -0.5, 0.3, 1.0, 2.0)  # chosen: logarithms of odds that searches start at
_STEPS = 40  # chosen: most steps of a search
_ALONG = 6  # chosen: steps of a search from one place of a profile to the next
_LEAST = 1e-2  # chosen: least curvature in the width of a mode
_VALLEY = 1.0  # chosen: least depth of a valley that is evened out, in logarithms of density
_SHARE = 1e-3  # chosen: tail of a profile beyond which slopes are those of its end
_LEVELS = (0.25, 20.0)  # chosen: least and largest slope


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
    likelihood: PopulationLikelihood, walls: Walls, values: Any, starts: Sequence[FloatArray]
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
    moving, every = np.flatnonzero(walls.parameters), np.eye(len(lower))
    for start in starts:
        for odds in _ODDS:
            z = np.array(start)
            for i in moving:
                ends = walls.ends[:, i]
                to = ends + odds - np.log(values[model.varying[i]])
                z[:, i] = np.where(ends < NO_WALL, np.clip(to / lower[i, i], -4, 6), z[:, i])
            z, value, gradient = _climb(density, z, every, _STEPS)
            width = np.maximum(np.linalg.eigvalsh(density.curvature(z)), _LEAST)
            mass = value - 0.5 * np.log(width).sum(axis=1)
            mass[~(np.abs(gradient).max(axis=1) < _LEAST)] = -np.inf
            more = mass > height + 1e-3
            best[more], height[more] = z[more], mass[more]
    z = _climb(density, best, every, _STEPS)[0]
    return BentModes(z, density.curvature(z))


def evened(
    likelihood: PopulationLikelihood, walls: Walls, values: Any, z: FloatArray
) -> Walls | None:
    """Find coordinates without valleys for subjects whose lag has two modes; ``None`` without any.

    Parameters
    ----------
    likelihood, walls, values
        See `pkpd.fitting.bayes.walls.bend`; all population parameters.
    z : float[B, R]
        Effects near a mode, in units of standard normals, from which profiles are searched.
    """
    plain = replace(walls, knots=0.0 * walls.knots, levels=0.0 * walls.levels + 1.0)
    density, model = _Density(likelihood, plain, values), likelihood.model
    knots, levels = plain.knots, plain.levels
    for i in np.flatnonzero((walls.share < 1.0).any(axis=0)).tolist():
        start = walls.ends[:, i] + walls.begins[:, i] - np.log(values[model.varying[i]])
        profile = _profile(density, z, i, start)
        for b in np.flatnonzero(walls.share[:, i] < 1.0):
            slopes = _slopes(profile[:, b])
            if slopes is None:
                continue
            widths = np.diff(PROFILE) / slopes
            knots[b, i] = PROFILE[-1] - np.append(np.cumsum(widths[::-1])[::-1], 0.0)
            levels[b, i] = np.concatenate([slopes[:1], slopes, [1.0]])
    return replace(walls, knots=knots, levels=levels) if np.any(levels != 1.0) else None


def _profile(density: _Density, z: FloatArray, i: int, start: FloatArray) -> FloatArray:
    """Log density by effect ``i``, the others integrated, ``[places, B]``."""
    row = density.lower[i]
    others = null_space(row[None, :])
    found = np.full((PROFILE.size, len(z)), -np.inf)
    for order in (range(PROFILE.size), reversed(range(PROFILE.size))):
        at = z
        for k in order:
            # the held effect moves, and what is at right angles stays
            at = at + np.outer((start + PROFILE[k] - at @ row) / (row @ row), row)
            at, value, _ = _climb(density, at, others, _ALONG)
            curved = others.T @ density.curvature(at) @ others
            width = np.maximum(np.linalg.eigvalsh(curved), _LEAST)
            found[k] = np.fmax(found[k], value - 0.5 * np.log(width).sum(axis=1))
    return found


def _slopes(profile: FloatArray) -> FloatArray | None:
    """Slopes of cells that make a profile with two modes normal; ``None`` with one mode."""
    height = profile - profile.max()
    left, right = np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1]
    if not np.any(np.minimum(left, right) - height > _VALLEY):
        return None
    share = np.append(0.0, np.cumsum(0.5 * (np.exp(height[1:]) + np.exp(height[:-1]))))
    share /= share[-1]
    inside = np.flatnonzero((share[1:] > _SHARE) & (share[:-1] < 1.0 - _SHARE))
    normal = ndtri(np.clip(share, 0.1 * _SHARE, 1.0 - 0.1 * _SHARE))
    slopes = np.diff(PROFILE) / np.maximum(np.diff(normal), 1e-9)
    slopes[: inside[0]], slopes[inside[-1] + 1 :] = slopes[inside[0]], slopes[inside[-1]]
    return np.clip(slopes / slopes[-1], *_LEVELS)


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


def _climb(
    density: _Density, z: FloatArray, directions: FloatArray, steps: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Newton's method in some directions ``[R, D]``, with damping of each subject's own."""
    z, damping = np.array(z), np.full(len(z), 1e-2)
    value, gradient = (np.array(one) for one in density.at(z))
    for _ in range(steps):
        sizes, axes = np.linalg.eigh(directions.T @ density.curvature(z) @ directions)
        along = np.einsum("bji,bj->bi", axes, gradient @ directions)
        along /= np.maximum(np.abs(sizes), 1e-3) + damping[:, None]
        step = np.einsum("bij,bj->bi", axes, along) @ directions.T
        length = np.linalg.norm(step, axis=1)
        step *= np.minimum(1.0, 1.0 / np.maximum(length, 1e-12))[:, None]
        there, slope = density.at(z + step)
        up = there > value - 1e-12
        z[up] += step[up]
        value[up], gradient[up] = there[up], slope[up]
        damping = np.clip(np.where(up, 0.3 * damping, 8.0 * damping), 1e-8, 1e6)
        if np.abs(gradient @ directions).max() < 1e-6:
            break
    return z, value, gradient
