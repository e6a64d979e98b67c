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
from pkpd.errors import DataError, PkpdError, sentence

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
        msg = sentence(
            where="general solver", what="edges do not increase", allowed="two or more times"
        )
        raise PkpdError(msg)
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


class CellMoments(NamedTuple):
    """Mean and first Legendre moment of a concentration over each cell, with the lane status.

    Attributes
    ----------
    mean, slope
        ``[cells, L]`` in mg/L and mg/L per hour, as `pkpd.kinetics.linear.LinearPK.moments`.
    status
        ``[L]``, keys of `STATUS`.
    """

    mean: Array
    slope: Array
    status: Array


def _infusions(
    times: np.ndarray, amounts: np.ndarray, durations: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Boluses ``[cells, L]`` in mg and rates ``[cells, L]`` in mg/h; every event is an edge."""
    cells = edges.size - 1
    bolus = np.zeros((cells, amounts.shape[1]))
    rate = np.zeros((cells, amounts.shape[1]))
    for i, (time, duration) in enumerate(zip(times, durations, strict=True)):
        for event in (time, time + duration):
            if np.min(np.abs(edges - event)) > 1e-9:
                msg = sentence(
                    where=f"dose {i + 1}",
                    what=f"its start or end at {event:g} h is not an edge of the cells",
                    remedy="form the edges from all starts and ends with cells.cells",
                )
                raise DataError(msg)
        start = int(np.argmin(np.abs(edges - time)))
        if duration == 0:
            if start < cells:
                bolus[start] += amounts[i]
            continue
        stop = int(np.argmin(np.abs(edges - (time + duration))))
        rate[start:stop] += amounts[i] / duration
    return bolus, rate


def michaelis_menten_iv(
    p: Parameters,
    doses: tuple[np.ndarray, np.ndarray, np.ndarray],
    edges: np.ndarray,
    count: Array | float | None = None,
    *,
    lanes: int | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-9,
    max_steps: int = 4096,
) -> CellMoments:
    """Two compartments with saturable elimination that depends on the white-cell count.

    ::

        dA1/dt = rate - Vmax (WBC / 10)^wbc_exponent C / (Km + C) - Q/V1 A1 + Q/V2 A2
        dA2/dt = Q/V1 A1 - Q/V2 A2                                        C = A1 / V1

    Parameters
    ----------
    p
        ``Vmax`` (mg/h at a white-cell count of 10 x 10^9/L), ``Km`` (mg/L), ``V1``, ``V2`` (L),
        ``Q`` (L/h), ``wbc_exponent``; each ``[L]`` or scalar. Typical values of Mould 2007:
        1.02 mg/h, 0.338 mg/L, 11.3 L, 41.5 L, 1.05 L/h, 0.194.
    doses
        Times (h) ``[D]``, amounts (mg) ``[D]`` or ``[D, L]``, durations (h) ``[D]`` (0: bolus).
    edges
        ``[cells + 1]`` hours; must contain the start and end of every dose.
    count
        White-cell count in 10^9/L, constant in each cell: a number, ``[L]`` or ``[cells, L]``.
        ``None`` is the reference count 10.
    lanes
        Number of lanes, if no argument has a lane axis.
    rtol, atol
        Tolerances; the error of ``A1`` is controlled together with the two integrals.
    max_steps
        Largest number of steps in one cell.

    Returns
    -------
    CellMoments
        To drive an effect as the moments of a linear drug do.

    References
    ----------
    Mould DR et al., Br J Clin Pharmacol 2007;64:278-291, doi:10.1111/j.1365-2125.2007.02914.x
    (alemtuzumab; values as transcribed by nlmixr2lib, Table 2 of the paper).
    """
    times, amounts, durations = (np.asarray(a, dtype=np.float64) for a in doses)
    edges = np.asarray(edges, dtype=np.float64)
    amounts = amounts[:, None] if amounts.ndim == 1 else amounts
    bolus, rate = _infusions(times, amounts, durations, edges)
    cells = edges.size - 1
    white = jnp.asarray(10.0 if count is None else count)
    shapes = [jnp.shape(v) for v in p.values()] + [white.shape[-1:], (amounts.shape[1],)]
    width = jnp.broadcast_shapes((lanes or 1,), *shapes)[0]
    white = jnp.broadcast_to(white, (cells, width))

    def rhs(t, y, u, q):
        infusion, wbc, since = u
        c = y[0] / q["V1"]
        lost = q["Vmax"] * (wbc / 10.0) ** q["wbc_exponent"] * c / (q["Km"] + c)
        exchange = q["Q"] * (c - y[1] / q["V2"])
        return jnp.stack([infusion - lost - exchange, exchange, c, (t - since) * c])

    added = jnp.zeros((cells, 4, width)).at[:, 0].set(jnp.asarray(bolus))
    inputs = jnp.stack(
        [
            jnp.broadcast_to(jnp.asarray(rate), (cells, width)),
            white,
            jnp.broadcast_to(jnp.asarray(edges[:-1, None]), (cells, width)),
        ],
        axis=1,
    )
    solution = solve_ode(
        rhs,
        jnp.zeros((4, width)),
        p,
        edges,
        additions=added,
        inputs=inputs,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
    )
    # the two integrals run on over all cells; what a cell adds is their difference
    h = jnp.asarray(np.diff(edges))[:, None]
    area = jnp.diff(solution.y[:, 2], axis=0)
    first = jnp.diff(solution.y[:, 3], axis=0)
    return CellMoments(area / h, 12.0 / h**3 * (first - 0.5 * h * area), solution.status)
