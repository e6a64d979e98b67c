"""One step of a Rosenbrock method, for systems with processes much faster than what is predicted.

The method is RODAS (Hairer and Wanner, Solving Ordinary Differential Equations II, 1996, section
IV.7 and appendix): order 4, six stages, L-stable and stiffly accurate. Every stage solves linear
equations with the same matrix ``I - h gamma J``, so a step is a fixed number of operations, which
can be differentiated in both modes.

States are tuples of arrays ``[L]`` over lanes; the equations of all lanes are solved side by side
by elimination written out, which compiles to plain arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

State = tuple[Array, ...]
Slopes = Callable[[int, State], Sequence[Array]]
"""``slopes(stage, y)``: right side at the time of a stage, infusions included."""

NODES = (0.0, 0.386, 0.21, 0.63, 1.0, 1.0)
"""Times of the stages, in parts of the step."""
GAMMA = 0.25
_A = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
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


def rosenbrock_step(
    slopes: Slopes, along_time: Callable[[State], Sequence[Array]], y: State, h: Array
) -> State:
    """States after a step.

    Parameters
    ----------
    slopes
        Right side at the stages.
    along_time
        Derivative of the right side by time at the beginning of the step, states held.
    y
        States at the beginning, ``[L]`` each.
    h
        Lengths of the step in every lane, ``[L]``; 0 where a lane waits.
    """
    size = len(y)

    def column(j: int) -> State:
        unit = tuple(jnp.ones_like(h) if i == j else jnp.zeros_like(h) for i in range(size))
        found = jax.jvp(lambda z: tuple(slopes(0, z)), (y,), (unit,))[1]
        return tuple(jnp.where(moving, each, 0.0) for each in found)

    moving = h > 0  # a step of no length goes nowhere, whatever the right side gives there
    jacobian = [column(j) for j in range(size)]
    matrix = [
        [(1.0 if i == j else 0.0) - h * GAMMA * jacobian[j][i] for j in range(size)]
        for i in range(size)
    ]
    solve = eliminated(matrix)
    by_time = tuple(jnp.where(moving, each, 0.0) for each in along_time(y))
    u: list[State] = []
    here = y
    for stage in range(6):
        if stage < 5:
            row = _A[stage]
            here = tuple(
                y[i] + sum(a * u[k][i] for k, a in enumerate(row)) if row else y[i]
                for i in range(size)
            )
        else:
            here = tuple(here[i] + u[4][i] for i in range(size))
        right = slopes(stage, here)
        past = _C[stage]
        u.append(
            solve(
                [
                    GAMMA
                    * (
                        h * (right[i] + h * _D[stage] * by_time[i])
                        + sum(c * u[k][i] for k, c in enumerate(past))
                    )
                    for i in range(size)
                ]
            )
        )
    return tuple(here[i] + u[5][i] for i in range(size))


def eliminated(matrix: list[list[Any]]) -> Callable[[Sequence[Array]], State]:
    """Return the solution of linear equations for right sides, elimination without pivots.

    ``matrix`` is ``I - h gamma J``: its pivots are away from 0 unless a process grows within a
    step by a factor, where no step of that length is accurate.

    Examples
    --------
    >>> solve = eliminated([[jnp.array([2.0]), jnp.array([1.0])], [jnp.array([0.0]), jnp.array([4.0])]])
    >>> [float(x[0]) for x in solve([jnp.array([4.0]), jnp.array([8.0])])]
    [1.0, 2.0]
    """
    size = len(matrix)
    upper = [list(row) for row in matrix]
    lower: list[list[Any]] = [[None] * size for _ in range(size)]
    for k in range(size):
        for i in range(k + 1, size):
            factor = upper[i][k] / upper[k][k]
            lower[i][k] = factor
            for j in range(k + 1, size):
                upper[i][j] = upper[i][j] - factor * upper[k][j]

    def solve(right: Sequence[Array]) -> State:
        left = list(right)
        for i in range(size):
            for k in range(i):
                left[i] = left[i] - lower[i][k] * left[k]
        for i in reversed(range(size)):
            for j in range(i + 1, size):
                left[i] = left[i] - upper[i][j] * left[j]
            left[i] = left[i] / upper[i][i]
        return tuple(left)

    return solve
