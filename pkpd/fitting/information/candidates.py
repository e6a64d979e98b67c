"""Criteria of many choices of samples at once, at one value of the parameters or at several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.arrays import FloatArray
from pkpd.fitting.information.expected import random_points
from pkpd.fitting.information.fisher import key_of, numbers_of, of_rows
from pkpd.fitting.information.quantities import Linearised
from pkpd.fitting.information.scales import change_to

Key = tuple[Any, ...]

_AT_ONCE = 16  # choices whose matrices are held at once


@dataclass(frozen=True, eq=False)
class Belief:
    """Values of the parameters at which a design is judged, and how.

    Attributes
    ----------
    x : float[D, P]
        Equally likely values on the scale of the search.
    interest : tuple of int
        Places of the parameters of interest; all for the D criterion.
    scale, full, points, seed
        As of `pkpd.sampling.expected_information`.
    prior : float[P, P]
        Information that is there already, on ``scale``.
    """

    x: FloatArray
    interest: tuple[int, ...]
    scale: str
    full: bool
    points: int
    seed: int
    prior: FloatArray


@dataclass(frozen=True, eq=False)
class Told:
    """Quantities of observations at every value of the parameters.

    Attributes
    ----------
    arrays
        Those of `Quantities.arrays`, each ``[D, E, ...]`` for ``E`` points of the random effects.
    numbers : float[D, K, 2]
        Deviation and hours of the processes of the residual errors.
    slopes : float[D, P, P]
        From the scale of the search to that of the criterion.
    fixed : float[P]
        1 for parameters of the means.
    key
        What the compiled programs depend on: processes, kind of matrix, parameters of interest.
    """

    arrays: tuple[FloatArray, ...]
    numbers: FloatArray
    slopes: FloatArray
    fixed: FloatArray
    key: Key

    def rest(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what belongs to the parameters alone."""
        return self.numbers, self.slopes, self.fixed


def told_of(linearised: Linearised, belief: Belief) -> Told:
    """Work out the quantities of all observations of a data set."""
    free = linearised.free
    every = [
        [
            linearised.at(x, point)
            for point in random_points(linearised, x, belief.points, belief.seed)
        ]
        for x in belief.x
    ]
    parts = [[one.arrays() for one in row] for row in every]
    arrays = tuple(
        np.stack([np.stack([np.asarray(one[i]) for one in row]) for row in parts])
        for i in range(len(parts[0][0]))
    )
    return Told(
        arrays,
        np.stack([numbers_of(row[0]) for row in every]),
        np.stack([change_to(free, x, belief.scale)[2] for x in belief.x]),
        np.isin(np.arange(len(free.names)), linearised.located).astype(float),
        (key_of(every[0][0].processes), belief.full, belief.interest),
    )


def _of_taken(taken: tuple[Any, ...], rest: tuple[Any, ...], valid: Array, key: Key) -> Array:
    """Information of observations taken already, ``[D, P, P]`` on the scale of the criterion."""
    numbers, slopes, fixed = rest
    mean, j, bend, variance, slope, omega, omega_slope, time, line = taken

    def at_point(*one: Array) -> Array:
        *seen, number = one
        m, jac, bent, v, vs, om, os, t, k = seen
        return of_rows((m, jac, bent, v, vs, t, k), om, os, valid, fixed, number, key[0], key[1])

    over_points = jax.vmap(at_point, in_axes=(0,) * 9 + (None,))
    found = jax.vmap(over_points)(
        mean, j, bend, variance, slope, omega, omega_slope, time, line, numbers
    ).mean(axis=1)
    return jnp.einsum("dqp,dqr,drs->dps", slopes, found, slopes)


def _criterion(matrices: Array, interest: tuple[int, ...]) -> Array:
    """Mean over ``[D, P, P]`` of ``ln det``, or of that of the parameters of interest."""

    def log_det(matrix: Array) -> Array:
        scale = jnp.sqrt(jnp.diagonal(matrix, axis1=-2, axis2=-1))
        unit = matrix / (scale[..., :, None] * scale[..., None, :])
        sign, value = jnp.linalg.slogdet(unit)
        return jnp.where(sign > 0, value + 2.0 * jnp.log(scale).sum(-1), -jnp.inf)

    size = matrices.shape[-1]
    found = log_det(matrices)
    if len(interest) < size:
        others = np.setdiff1d(np.arange(size), interest)
        found = found - log_det(matrices[:, others[:, None], others[None, :]])
    return found.mean()


@lru_cache(maxsize=32)
def _choices(key: Key) -> Any:
    """Compiled: information ``[C, D, P, P]`` and criterion ``[C]`` of choices of observations."""

    def every(
        arrays: Any, rest: Any, rows: Array, valid: Array, others: Array, subjects: Array
    ) -> tuple[Array, Array]:
        def one(choice: tuple[Array, Array]) -> tuple[Array, Array]:
            row, fine = choice
            taken = tuple(
                a if i in (5, 6) else jnp.take(a, row, axis=2) for i, a in enumerate(arrays)
            )
            mine = subjects * _of_taken(taken, rest, fine, key)
            return mine, _criterion(mine + others, key[2])

        return jax.lax.map(one, (rows, valid), batch_size=_AT_ONCE)

    return jax.jit(every)


def choices(
    told: Told, rows: Any, valid: Any, others: FloatArray, subjects: float
) -> tuple[FloatArray, FloatArray]:
    """Information of choices of observations of one group, and the criterion of the whole design.

    Parameters
    ----------
    told
        Quantities of all candidates.
    rows : int[C, N]
        Observations of each choice.
    valid : bool[C, N]
        Which of them count.
    others : float[D, P, P]
        Information of the other groups and what was there before.
    subjects
        Of the group.

    Returns
    -------
    float[C, D, P, P], float[C]
    """
    made = _choices(told.key)(told.arrays, told.rest(), rows, valid, others, float(subjects))
    return np.asarray(made[0]), np.asarray(made[1])


@lru_cache(maxsize=32)
def _between(key: Key, groups: int) -> Any:
    """Compiled: criterion and gradient where quantities are interpolated between nodes."""

    def value(
        u: Array, arrays: Any, rest: Any, to_basis: Array, rows: Any, of: Any, others: Array,
        subjects: Array,
    ) -> Array:  # fmt: skip
        total = others
        basis = _chebyshev(u, to_basis.shape[0]) @ to_basis  # [S, m]
        for g in range(groups):
            weights = basis[of[g]]  # [N, m]

            def at(a: Array, g: int = g, weights: Array = weights) -> Array:
                return jnp.einsum("nm,denm...->den...", weights, a[:, :, rows[g]])

            taken = tuple(a if i in (5, 6) else at(a) for i, a in enumerate(arrays[:8]))
            taken = (*taken, arrays[8][:, :, rows[g][:, 0]])
            valid = jnp.ones(rows[g].shape[0], dtype=bool)
            total = total + subjects[g] * _of_taken(taken, rest, valid, key)
        return -_criterion(total, key[2])

    return jax.jit(jax.value_and_grad(value))


def between(
    told: Told,
    rows: Sequence[NDArray[np.int64]],
    of: Sequence[NDArray[np.int64]],
    others: FloatArray,
    subjects: Sequence[float],
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """Make minus the criterion a function of times, with its gradient.

    Parameters
    ----------
    told
        Quantities of the samples at the nodes of their neighbourhoods.
    rows
        For each group the observations at the nodes, ``int[N, m]``.
    of
        For each group the place of each observation's time in ``u``, ``int[N]``.
    others : float[D, P, P]
        Information that was there before.
    subjects
        Of each group.

    Returns
    -------
    function
        Of ``u``, each from -1 to 1 across its neighbourhood.
    """
    made = _between(told.key, len(rows))
    to_basis = np.linalg.inv(np.asarray(_chebyshev(nodes(rows[0].shape[1]), rows[0].shape[1])))
    fixed = (
        told.arrays, told.rest(), to_basis, tuple(rows), tuple(of), others,
        np.asarray(subjects, dtype=float),
    )  # fmt: skip

    def function(u: FloatArray) -> tuple[float, FloatArray]:
        value, slope = made(np.asarray(u, dtype=float), *fixed)
        return float(value), np.asarray(slope)

    return function


def nodes(m: int) -> FloatArray:
    """Chebyshev nodes between -1 and 1, the ends left out, ``[m]``."""
    return -np.cos(np.pi * (np.arange(m) + 0.5) / m)


def _chebyshev(u: Any, m: int) -> Array:
    """Chebyshev polynomials of degree 0 to m - 1, ``[len(u), m]``."""
    u = jnp.asarray(u)
    found = [jnp.ones_like(u), u]
    while len(found) < m:
        found.append(2.0 * u * found[-1] - found[-2])
    return jnp.stack(found[:m], axis=1)
