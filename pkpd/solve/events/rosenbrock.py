"""One step of a Rosenbrock method, for systems with processes much faster than what is predicted.

The method is RODAS (Hairer and Wanner, Solving Ordinary Differential Equations II, 1996, section
IV.7 and appendix): order 4, six stages, L-stable and stiffly accurate. Every stage solves linear
equations with the same matrix ``I - h gamma J``, so a step is a fixed number of operations, which
can be differentiated in both modes.

States are stacked, ``[S, L]`` over lanes. The stages are one loop, and equations are solved row by
row for all lanes at once, so that the program is small and quick to compile. Of few states the
matrix is inverted once a step and the loop written out, which halves the time of derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Slopes = Callable[[Any, Array], Array]
"""``slopes(stage, y)``: right side ``[S, L]`` at the time of a stage, infusions included."""

NODES = (0.0, 0.386, 0.21, 0.63, 1.0, 1.0)
"""Times of the stages, in parts of the step."""
GAMMA = 0.25
_A = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1.0),
)
_C = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (
        8.083246795921522,
        -7.981132988064893,
        -31.52159432874371,
        16.31930543123136,
        -6.058818238834054,
    ),
)
_D = (0.25, -0.1043, 0.1035, -0.0362, 0.0, 0.0)
"""Weights of the derivative by time."""
FEW = 4
"""States up to which the matrix is inverted: of three, derivatives take half the time so, of twelve
twice."""


def square(rows: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Weights of the stages before each of six stages, 0 where there are none, ``[6, 6]``."""
    out = np.zeros((6, 6))
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def rosenbrock_step(slopes: Slopes, by_time: Array, y: Array, h: Array) -> Array:
    """States after a step, ``[S, L]``.

    Parameters
    ----------
    slopes
        Right side at the stages.
    by_time : float[S, L]
        Derivative of the right side by time at the beginning of the step, states held.
    y : float[S, L]
        States at the beginning.
    h : float[L]
        Length of the step in every lane; 0 where a lane waits.
    """
    size = y.shape[0]
    moving = h > 0  # a step of no length goes nowhere, whatever the right side gives there

    def column(unit: Array) -> Array:
        turn = jnp.broadcast_to(unit[:, None], y.shape)
        return jax.jvp(lambda z: slopes(0, z), (y,), (turn,))[1]

    jacobian = jnp.where(moving, jax.vmap(column, out_axes=1)(jnp.eye(size)), 0.0)
    by_time = jnp.where(moving, by_time, 0.0)
    few, unit = size <= FEW, jnp.broadcast_to(jnp.eye(size)[..., None], jacobian.shape)
    solve = eliminated(unit - h * GAMMA * jacobian)
    if few:
        inverse = jax.vmap(solve, 1, 1)(unit)

    def stage(u: Array, at: tuple[Array, ...]) -> tuple[Array, None]:
        number, before, past, weight = at
        slope = slopes(number, y + weighted(before, u)) + h * weight * by_time
        right = GAMMA * (h * slope + weighted(past, u))
        solved = jnp.sum(inverse * right, 1) if few else solve(right)
        return u.at[number].set(solved), None

    given = (np.arange(6), square(_A), square(_C), np.array(_D))
    u, _ = jax.lax.scan(
        stage, jnp.zeros((6, *y.shape)), tuple(map(jnp.asarray, given)), unroll=6 if few else 1
    )
    return y + weighted(jnp.asarray(square(_A)[5]), u) + u[5]


def weighted(weights: Any, vectors: Array) -> Array:
    """Add weighted vectors; a product of matrices this small is slower."""
    return jnp.sum(weights[..., None, None] * vectors, 0)


def eliminated(matrix: Array) -> Callable[[Array], Array]:
    """Return the solution of linear equations ``[S, S, L]`` for right sides ``[S, L]``.

    Elimination without pivots: ``matrix`` is ``I - h gamma J``, whose pivots are away from 0 unless
    a process grows within a step by a factor, where no step of that length is accurate.

    Examples
    --------
    >>> solve = eliminated(jnp.array([[[2.0], [1.0]], [[1.0], [3.0]]]))
    >>> solve(jnp.array([[5.0], [10.0]]))[:, 0].round(6).tolist()
    [1.0, 3.0]
    """
    size = matrix.shape[0]
    factors = []
    for k in range(size):
        below = (np.arange(size) > k)[:, None]
        factor = jnp.where(below, matrix[:, k] / matrix[k, k], 0.0)
        matrix = matrix - factor[:, None] * matrix[k]
        factors.append(factor)

    def solve(right: Array) -> Array:
        for k in range(size):
            right = right - factors[k] * right[k]
        for k in reversed(range(size)):
            value = right[k] / matrix[k, k]
            above = (np.arange(size) < k)[:, None]
            right = jnp.where(above, right - matrix[:, k] * value, right).at[k].set(value)
        return right

    return solve
