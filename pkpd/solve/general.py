"""General solver on diffrax: nonlinear pharmacokinetics, and lanes that a fixed step cannot take.

The only module that imports diffrax. Every lane is solved on its own adaptive steps, restarted at
every edge of the cells it is given, so that no step crosses a dose or the end of an infusion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.errors import PkpdError

Parameters = Mapping[str, Array]
RightHandSide = Callable[[Array, Array, Array, Parameters], Array]

STATUS = {
    0: "solved",
    1: "the step limit was reached before the end of a cell; raise max_steps or use stiff=True",
    2: "the solution is not finite; look at the parameters of this lane",
}
"""A sentence for every status of a lane."""


class GeneralSolution(NamedTuple):
    """Solution of `solve_ode`.

    Attributes
    ----------
    y
        ``[E, states, L]`` state at every edge, before what is added there.
    status
        ``[L]`` whole numbers, keys of `STATUS`. Counts of a lane whose status is not 0 are not
        to be used.
    """

    y: Array
    status: Array


def solve_ode(
    rhs: RightHandSide,
    y0: Array,
    p: Parameters,
    edges: np.ndarray,
    *,
    additions: Array | None = None,
    inputs: Array | None = None,
    stiff: bool = False,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    max_steps: int = 4096,
) -> GeneralSolution:
    """Solve ordinary differential equations lane by lane, restarted at every edge.

    Parameters
    ----------
    rhs
        ``rhs(t, y, u, p)`` for one lane: ``y [states]``, ``u [k]`` the inputs of the cell, and
        ``p`` a mapping of numbers; the derivative per hour.
    y0
        ``[states, L]`` before anything is added at the first edge.
    p
        Parameters, each ``[L]`` or scalar.
    edges
        ``[E]`` increasing times in hours.
    additions
        ``[E - 1, states, L]`` added to the state at the start of each cell (boluses).
    inputs
        ``[E - 1, k, L]`` constant inputs of each cell (infusion rates, counts).
    stiff
        Kvaerno5 instead of Tsit5.
    rtol, atol
        Tolerances of the step controller.
    max_steps
        Largest number of steps in one cell.

    Returns
    -------
    GeneralSolution
        A failure is a status of the lane, never an exception: its later states are NaN.

    Raises
    ------
    PkpdError
        If the edges do not increase.
    """
    times = np.asarray(edges, dtype=np.float64)
    if times.ndim != 1 or times.size < 2 or not np.all(np.diff(times) > 0):
        raise PkpdError(
            where="general solver", what="edges do not increase", allowed="two or more times"
        )
    states, lanes = y0.shape
    n = times.size - 1
    if additions is None:
        additions = jnp.zeros((n, states, 1))
    if inputs is None:
        inputs = jnp.zeros((n, 0, 1))
    additions = jnp.broadcast_to(additions, (n, states, lanes))
    inputs = jnp.broadcast_to(inputs, (n, inputs.shape[1], lanes))
    full = {name: jnp.broadcast_to(value, (lanes,)) for name, value in p.items()}

    def vector_field(t, y, args):
        return rhs(t, y, *args)

    solver = diffrax.Kvaerno5() if stiff else diffrax.Tsit5()
    term = diffrax.ODETerm(vector_field)
    controller = diffrax.PIDController(rtol=rtol, atol=atol)

    def one_lane(t0, t1, y, u, q):
        solution = diffrax.diffeqsolve(
            term,
            solver,
            t0,
            t1,
            dt0=None,
            y0=y,
            args=(u, q),
            stepsize_controller=controller,
            max_steps=max_steps,
            throw=False,
        )
        end = jax.tree.map(lambda a: a[0], solution.ys)
        return end, solution.result == diffrax.RESULTS.successful

    solve = jax.vmap(one_lane, in_axes=(None, None, 1, 1, 0), out_axes=(1, 0))

    def one_cell(carry, cell):
        y, status = carry
        t0, t1, added, u = cell
        good = status == 0
        # a lane that failed earlier is held at rest: it must not slow the others down
        start = jnp.where(good, y + added, 0.0)
        end, success = solve(t0, t1, start, jnp.where(good, u, 0.0), full)
        finite = jnp.all(jnp.isfinite(end), axis=0)
        now = jnp.where(finite, jnp.where(success, 0, 1), 2)
        status = jnp.where(good, now, status)
        end = jnp.where(status == 0, end, jnp.nan)
        return (end, status), end

    cells = (jnp.asarray(times[:-1]), jnp.asarray(times[1:]), additions, inputs)
    start = (y0, jnp.zeros(lanes, dtype=jnp.int64))
    (_, status), ends = jax.lax.scan(one_cell, start, cells)
    return GeneralSolution(jnp.concatenate([y0[None], ends]), status)
