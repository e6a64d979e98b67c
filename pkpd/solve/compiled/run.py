"""Running the compiled kernels: threads over blocks of lanes, with and without derivatives.

Plain arrays in and out, so a JAX primitive or a graph operation of another library can stand on it.
All functions may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.solve.bridge.lanes import WIDTH
from pkpd.solve.compiled.build import kernels
from pkpd.solve.compiled.call import Call, flags, flags_of_block, plain, prepared, store_of
from pkpd.solve.compiled.family import CORES, Plan
from pkpd.solve.compiled.space import aligned
from pkpd.solve.compiled.store import (
    ROW_KEPT,
    ROW_ONE_LINE,
    ROW_VALUE,
)
from pkpd.solve.grid.grid import Grid

_TASKS_PER_THREAD = 4  # uneven machines and blocks balance out
_ALL = slice(None)
_CHUNK_NUMBERS = 1 << 16  # of the store at a time: it has to stay in the cache of a core


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pkpd")


def _on_all_cores(work: Callable[[int, int], None], n_lanes: int, threads: int | None) -> None:
    """Run ``work(first, stop)`` over all blocks of lanes, several ranges at a time."""
    blocks = -(-n_lanes // WIDTH)
    threads = max(1, min(CORES if threads is None else threads, blocks))
    if threads == 1:
        work(0, blocks)
        return
    edges = np.linspace(0, blocks, min(blocks, threads * _TASKS_PER_THREAD) + 1).astype(int)
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    for done in [_pool(threads).submit(work, a, b) for a, b in pairs]:
        done.result()


def solve(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: Floats,
    *,
    threads: int | None = None,
    dense: bool = False,
) -> tuple[Floats, Floats]:
    """Log counts at the observations.

    Parameters
    ----------
    plan
        From `compile_plan`.
    grid
        From `pkpd.solve.grid.grid.population_grid`.
    schedule : int[L]
        Schedule of each lane.
    theta : float[P, L]
        Parameters, rows as in `PopulationStructure.layout`; with further rows if the grid has
        versions (`pkpd.solve.grid.versions`).
    threads
        Number of threads; all cores if ``None``.
    dense
        Also return the nodes at all cell edges.

    Returns
    -------
    log_count : float[lines, L, T]
        NaN for missing observation times.
    nodes : float[lines, L, C + 1, 2]
        Log count and its slope per hour (no lanes if not asked for).
    """
    kinetics = kernels(derivatives=False)[0]
    call = prepared(plan, grid, schedule, dense)
    theta = plain(theta)
    n_lanes, n_lines = theta.shape[1], plan.n_lines
    log_count = np.empty((n_lines, n_lanes, grid.obs_cell.shape[1]))
    nodes = np.empty((n_lines, n_lanes if dense else 0, grid.n_cells + 1, 2))
    chunk = max(1, _CHUNK_NUMBERS // max(1, int(call.sizes[ROW_VALUE]) * WIDTH))

    def work(first: int, stop: int) -> None:
        store, on = store_of(call, min(chunk, stop - first), ROW_VALUE)
        for a in range(first, stop, chunk):
            b = min(a + chunk, stop)
            kinetics(*call.kinetics(a, b, theta), store, on, False)
            call.march(a, b, theta, store, on, log_count, nodes, False)

    _on_all_cores(work, n_lanes, threads)
    return log_count, nodes


def tape_bytes(plan: Plan, grid: Grid, schedule: NDArray[np.int64]) -> int:
    """Memory that a tape of `solve_taped` takes."""
    sizes = prepared(plan, grid, schedule, False).sizes
    return -(-schedule.size // WIDTH) * int(sizes[ROW_KEPT]) * WIDTH * 8


@dataclass(eq=False)
class Tape:
    """What a solution left behind for its derivative; made by `solve_taped`, read by `pull`."""

    call: Call
    theta: Floats
    store: Floats
    active: NDArray[np.int8]


def solve_taped(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: Floats,
    *,
    threads: int | None = None,
    old: Tape | None = None,
) -> tuple[Floats, Floats, Tape]:
    """Solve as `solve` does and keep what the derivative needs, some hundred kilobytes a lane.

    Parameters
    ----------
    old
        A tape whose memory may be used again; fresh memory costs as much as the arithmetic.

    Returns
    -------
    log_count, nodes
        See `solve`.
    tape
        For `pull`.
    """
    kinetics = kernels(derivatives=True)[0]
    call = prepared(plan, grid, schedule, False)
    theta = np.array(theta, dtype=np.float64, order="C")
    n_lanes, n_lines = theta.shape[1], plan.n_lines
    log_count = np.empty((n_lines, n_lanes, grid.obs_cell.shape[1]))
    nodes = np.empty((n_lines, 0, grid.n_cells + 1, 2))
    blocks = -(-n_lanes // WIDTH)
    shape = (blocks, int(call.sizes[ROW_KEPT]) * WIDTH)
    if old is not None and old.store.shape[1] == shape[1] and len(old.store) >= blocks:
        store = old.store
    else:
        store = aligned(blocks * shape[1]).reshape(shape)
    active = flags(call, np.empty(blocks * flags_of_block(call), dtype=np.int8), blocks)

    def work(first: int, stop: int) -> None:
        for a in range(first, stop):
            own, on = store[a : a + 1], active[a : a + 1]
            kinetics(*call.kinetics(a, a + 1, theta), own, on, True)
            call.march(a, a + 1, theta, own, on, log_count, nodes, True)

    _on_all_cores(work, n_lanes, threads)
    return log_count, nodes, Tape(call, theta, store, active)


def pull(
    tape: Tape,
    cotangent: Floats,
    *,
    node_cotangent: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """Differentiate ``sum(cotangent * log_count)`` by ``theta``, from a tape.

    Parameters
    ----------
    cotangent, node_cotangent
        See `vector_jacobian`.

    Returns
    -------
    float[P, L]
    """
    kinetics = kernels(derivatives=True)[2]
    call, theta = tape.call, tape.theta
    bar = plain(cotangent)
    dense = _node_cotangent(node_cotangent)
    theta_bar = np.empty_like(theta)
    theta_bar[call.plan.n_parameters :] = 0.0  # the kernels of the lines write the rest

    def work(first: int, stop: int) -> None:
        for a in range(first, stop):
            own, on = tape.store[a : a + 1], tape.active[a : a + 1]
            call.march_adjoint(a, a + 1, theta, own, on, bar, dense, theta_bar)
            kinetics(*call.kinetics(a, a + 1, theta), own, on, theta_bar)

    _on_all_cores(work, theta.shape[1], threads)
    return theta_bar


def _node_cotangent(given: Floats | None) -> Floats:
    return np.zeros((0, 0, 0, 0)) if given is None else plain(given)


def _derivatives(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: Floats,
    bar: Floats,
    dense_bar: Floats,
    threads: int | None,
    form: Callable[[Floats, int, slice], None] | None = None,
) -> tuple[Floats, Floats]:
    """Log counts and derivative block by block; ``form`` may fill ``bar`` from the counts."""
    kinetics, lines, kinetics_adjoint, lines_adjoint = kernels(derivatives=True)
    call = prepared(plan, grid, schedule, dense_bar.size > 0)
    theta = plain(theta)
    n_lanes = theta.shape[1]
    log_count = np.empty((plan.n_lines, n_lanes, grid.obs_cell.shape[1]))
    theta_bar = np.empty_like(theta)
    theta_bar[plan.n_parameters :] = 0.0
    no_nodes = np.empty((1, 0, grid.n_cells + 1, 2))

    def work(first: int, stop: int) -> None:
        # one line at a time: a second tape would not fit into the cache beside the first
        store, on = store_of(call, 1, ROW_ONE_LINE)
        for a in range(first, stop):
            lanes = slice(a * WIDTH, min((a + 1) * WIDTH, n_lanes))
            of_kinetics = (*call.kinetics(a, a + 1, theta), store, on)
            kinetics(*of_kinetics, True)
            if plan.whole is not None:
                nodes = np.empty((plan.n_lines, 0, grid.n_cells + 1, 2))
                call.march(a, a + 1, theta, store, on, log_count, nodes, True)
                for i in range(plan.n_lines if form is not None else 0):
                    assert form is not None
                    form(log_count, i, lanes)
                call.march_adjoint(a, a + 1, theta, store, on, bar, dense_bar, theta_bar)
            for i in range(len(plan.lines)):
                one = slice(i, i + 1)
                of_line = (*call.lines(a, a + 1, theta, one), store, on)
                lines(*of_line, log_count[one], no_nodes, True)
                if form is not None:
                    form(log_count, i, lanes)
                lines_adjoint(*of_line, bar[one], dense_bar[one], theta_bar, i == 0)
            kinetics_adjoint(*of_kinetics, theta_bar)

    _on_all_cores(work, n_lanes, threads)
    return log_count, theta_bar


def vector_jacobian(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: Floats,
    cotangent: Floats,
    *,
    node_cotangent: Floats | None = None,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Log counts, and the derivative of ``sum(cotangent * log_count)`` by ``theta``.

    Parameters
    ----------
    cotangent : float[lines, L, T]
        What is at missing observations is not read.
    node_cotangent : float[lines, L, C + 1, 2]
        Adds ``sum(node_cotangent * nodes)`` to what is differentiated.

    Returns
    -------
    log_count : float[lines, L, T]
    theta_bar : float[P, L]
    """
    bar, dense = plain(cotangent), _node_cotangent(node_cotangent)
    return _derivatives(plan, grid, schedule, theta, bar, dense, threads)


def normal_log_likelihood(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: Floats,
    observed: Floats,
    weight: Floats,
    *,
    threads: int | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Form the normal log-likelihood of log counts and its derivative in one pass.

    Parameters
    ----------
    observed, weight : float[lines, L, T]
        Observed log counts, and ``1 / sd^2``; a weight of 0 marks a missing value.

    Returns
    -------
    log_likelihood : float[L]
        ``-sum(weight * residual^2) / 2``; terms without ``theta`` are left to the caller.
    theta_bar : float[P, L]
    residual : float[lines, L, T]
        Weighted residuals ``weight * (observed - log_count)``.
    """
    bar = np.empty(np.shape(observed))
    log_likelihood = np.zeros(theta.shape[1])

    def form(log_count: Floats, line: int, lanes: slice) -> None:
        size = weight[line, lanes]
        miss = np.where(size > 0.0, observed[line, lanes] - log_count[line, lanes], 0.0)
        bar[line, lanes] = size * miss
        log_likelihood[lanes] -= 0.5 * np.einsum("lt,lt->l", bar[line, lanes], miss)

    none = np.zeros((0, 0, 0, 0))
    _, theta_bar = _derivatives(plan, grid, schedule, theta, bar, none, threads, form)
    return log_likelihood, theta_bar, bar
