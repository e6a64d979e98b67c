"""Running the compiled kernels: threads over blocks of lanes, with and without derivatives.

Plain arrays in and out, so a JAX primitive or a graph operation of another library can stand on it.
All functions may be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pkpd.solve.compiled import marrow
from pkpd.solve.compiled import program as pk
from pkpd.solve.compiled.build import kernels
from pkpd.solve.compiled.chain import tape_size_of
from pkpd.solve.compiled.family import Plan, cores
from pkpd.solve.compiled.lanes import WIDTH
from pkpd.solve.compiled.space import aligned, work_space
from pkpd.solve.compiled.store import (
    KINETIC,
    ROW_KEPT,
    ROW_ONE_LINE,
    ROW_VALUE,
    ROWS,
    layout,
    scratch_size,
)
from pkpd.solve.population.grid import Grid

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]

_TASKS_PER_THREAD = 4  # uneven machines and blocks balance out
_ALL = slice(None)
_CHUNK_NUMBERS = 1 << 16  # of the store at a time: it has to stay in the cache of a core


@dataclass(frozen=True, eq=False)
class _Call:
    """Arguments of the kernels that do not change with the parameters."""

    plan: Plan
    schedule: NDArray[np.int64]
    last_of: IntArray
    cells: IntArray
    index: IntArray
    cell_length: IntArray
    lengths: FloatArray
    bolus: FloatArray
    rate: FloatArray
    obs_cell: IntArray
    obs_at: FloatArray
    infused: NDArray[np.int8]
    sets: IntArray
    set_of_length: IntArray
    set_of_dose: IntArray
    heads: IntArray
    sizes: NDArray[np.int64]
    scratch: int

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.cell_length.size

    def kinetics(self, first: int, stop: int, theta: FloatArray) -> tuple[Any, ...]:
        """First arguments of the kernels of the kinetics."""
        return (
            first, stop, self.schedule, self.last_of, theta, self.plan.code, self.heads,
            self.cells, self.index, self.lengths, self.bolus, self.rate, self.infused,
            self.sets, self.set_of_length, self.set_of_dose, self.sizes,
            work_space("scratch", self.scratch),
        )  # fmt: skip

    def lines(self, first: int, stop: int, theta: FloatArray, of: slice = _ALL) -> tuple[Any, ...]:
        """First arguments of the kernels of the marrow lines, for some or all of them."""
        rows = self.plan.n_parameters  # further versions are of the drugs alone
        return (
            first, stop, self.schedule, self.last_of, theta[:rows], self.heads, self.plan.lines[of],
            self.plan.effects[of], self.cells, self.index, self.cell_length, self.lengths,
            self.bolus, self.rate, self.obs_cell, self.obs_at, self.sizes,
            work_space("scratch", self.scratch),
        )  # fmt: skip


def _store(call: _Call, blocks: int, row: int) -> tuple[FloatArray, NDArray[np.int8]]:
    """Rows of the store of this thread."""
    width = int(call.sizes[row]) * WIDTH
    store = work_space("store", blocks * width)[: blocks * width].reshape(blocks, width)
    return store, _flags(call, work_space("flags", blocks * _on(call), np.int8), blocks)


def _on(call: _Call) -> int:
    return max(1, call.heads.shape[0]) * call.n_cells


def _flags(call: _Call, space: NDArray[np.int8], blocks: int) -> NDArray[np.int8]:
    return space[: blocks * _on(call)].reshape(blocks, _on(call))


# what the kernels take of a grid, while it lives: forming it is a tenth of a small solution
_prepared: WeakKeyDictionary[Grid, dict[tuple[Plan, bool], _Call]] = WeakKeyDictionary()


def _prepare(plan: Plan, grid: Grid, schedule: NDArray[np.int64], dense: bool) -> _Call:
    calls = _prepared.setdefault(grid, {})
    call = calls.get((plan, dense))
    if call is None:
        calls[plan, dense] = call = _formed(plan, grid, schedule, dense)
    if call.schedule is schedule:
        return call
    return replace(call, schedule=_own(schedule, np.int64))


def _formed(plan: Plan, grid: Grid, schedule: NDArray[np.int64], dense: bool) -> _Call:
    heads = plan.heads.copy()
    n_cells, n_lengths = grid.n_cells, grid.length_h.shape[0]
    infused = np.zeros((heads.shape[0], n_lengths), dtype=np.int8)
    coef = drivers = states = 0
    work = 1
    level = n_rates = 1
    for k, head in enumerate(heads):
        if head[pk.KIND] != pk.LINEAR_PK:
            continue
        n, slots = int(head[pk.N]), int(head[pk.SLOTS])
        infused[k, grid.length_index[(grid.rate[:, k] > 0).any(axis=1)]] = 1
        size = slots + n
        size += 2 * n + 2 if head[pk.MOMENTS] else 0
        size += 4 * (n + 1) if head[pk.AT_NODES] else 0
        head[pk.COEF_SIZE], head[pk.COEF_START] = size, coef
        head[pk.DRIVER_SIZE] = 2 * head[pk.MOMENTS] + 4 * head[pk.AT_NODES]
        head[pk.DRIVER_START], head[pk.STATE_START] = drivers, states
        coef += size * n_lengths
        drivers += int(head[pk.DRIVER_SIZE]) * n_cells
        states += n * n_cells
        work = max(work, pk.tape_size(head), tape_size_of(int(head[pk.CHAIN])), 2 * n)
        level = max(level, slots + 4 * n)
        n_rates = max(n_rates, int(head[pk.RATES]) + 1)
    transits = int(plan.lines[:, marrow.TRANSITS].max())
    work = max(work, marrow.WORK_PER_STATE * (transits + 2))
    drugs, gaps = heads.shape[0], grid.cells.size
    sizes = layout(
        work, coef, drivers, n_rates, level, states, marrow.tape_stride(transits) * n_cells,
        transits + 2, n_cells, gaps, drugs, plan.lines.shape[0],
    )  # fmt: skip
    sizes[[ROWS, KINETIC]] = plan.n_parameters, plan.n_kinetic
    sets, set_of_length, set_of_dose = _sets(grid, heads)
    last_of = np.full_like(grid.end_cell, n_cells) if dense else grid.end_cell
    return _Call(
        plan,
        _own(schedule, np.int64),
        _own(last_of, np.int32),
        _own(grid.cells, np.int32),
        _own(grid.length_index, np.int32),
        _own(grid.length_index[grid.gap_of_cell], np.int32),
        _own(grid.length_h),
        _own(grid.bolus),
        _own(grid.rate),
        _own(grid.obs_cell, np.int32),
        _own(grid.obs_at),
        infused,
        _own(sets, np.int32),
        _own(set_of_length, np.int32),
        _own(set_of_dose, np.int32),
        heads,
        sizes,
        scratch_size(sizes, sets.shape[0], n_lengths, n_cells, gaps, drugs),
    )


def _sets(grid: Grid, heads: IntArray) -> tuple[Any, Any, Any]:
    """Return the sets of versions, and which one each cell length and each dose has."""
    found = grid.versions
    if found is None:
        shape = (grid.cells.size, heads.shape[0])
        return np.zeros((1, grid.n_schedules)), np.zeros(grid.length_h.shape[0]), np.zeros(shape)
    # what kills directly has no kinetics that could change
    constant = heads[:, pk.KIND] != pk.LINEAR_PK
    return found.sets, found.of_length, np.where(constant, 0, found.of_dose)


def _own(values: Any, dtype: type = np.float64) -> Any:
    """Array as the kernels take it; they are compiled once, for what may be written to."""
    array = np.ascontiguousarray(values, dtype=dtype)
    return array if array.flags.writeable else array.copy()


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pkpd")


def _on_all_cores(work: Callable[[int, int], None], n_lanes: int, threads: int | None) -> None:
    """Run ``work(first, stop)`` over all blocks of lanes, several ranges at a time."""
    blocks = -(-n_lanes // WIDTH)
    threads = max(1, min(cores() if threads is None else threads, blocks))
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
    theta: FloatArray,
    *,
    threads: int | None = None,
    dense: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Log counts at the observations.

    Parameters
    ----------
    plan
        From `compile_plan`.
    grid
        From `pkpd.solve.population.grid.population_grid`.
    schedule : int[L]
        Schedule of each lane.
    theta : float[P, L]
        Parameters, rows as in `PopulationStructure.layout`; with further rows if the grid has
        versions (`pkpd.solve.population.versions`).
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
    kinetics, lines = kernels(derivatives=False)
    call = _prepare(plan, grid, schedule, dense)
    theta = _own(theta)
    n_lanes, n_lines = theta.shape[1], plan.lines.shape[0]
    log_count = np.empty((n_lines, n_lanes, grid.obs_cell.shape[1]))
    nodes = np.empty((n_lines, n_lanes if dense else 0, grid.n_cells + 1, 2))
    chunk = max(1, _CHUNK_NUMBERS // max(1, int(call.sizes[ROW_VALUE]) * WIDTH))

    def work(first: int, stop: int) -> None:
        store, on = _store(call, min(chunk, stop - first), ROW_VALUE)
        for a in range(first, stop, chunk):
            b = min(a + chunk, stop)
            kinetics(*call.kinetics(a, b, theta), store, on, False)
            lines(*call.lines(a, b, theta), store, on, log_count, nodes, False)

    _on_all_cores(work, n_lanes, threads)
    return log_count, nodes


def tape_bytes(plan: Plan, grid: Grid, schedule: NDArray[np.int64]) -> int:
    """Memory that a tape of `solve_taped` takes."""
    sizes = _prepare(plan, grid, schedule, False).sizes
    return -(-schedule.size // WIDTH) * int(sizes[ROW_KEPT]) * WIDTH * 8


@dataclass(eq=False)
class Tape:
    """What a solution left behind for its derivative; made by `solve_taped`, read by `pull`."""

    call: _Call
    theta: FloatArray
    store: FloatArray
    active: NDArray[np.int8]


def solve_taped(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: FloatArray,
    *,
    threads: int | None = None,
    dense: bool = False,
    old: Tape | None = None,
) -> tuple[FloatArray, FloatArray, Tape]:
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
    kinetics, lines, _, _ = kernels(derivatives=True)
    call = _prepare(plan, grid, schedule, dense)
    theta = np.array(theta, dtype=np.float64, order="C")
    n_lanes, n_lines = theta.shape[1], plan.lines.shape[0]
    log_count = np.empty((n_lines, n_lanes, grid.obs_cell.shape[1]))
    nodes = np.empty((n_lines, n_lanes if dense else 0, grid.n_cells + 1, 2))
    blocks = -(-n_lanes // WIDTH)
    shape = (blocks, int(call.sizes[ROW_KEPT]) * WIDTH)
    if old is not None and old.store.shape == shape:
        store = old.store
    else:
        store = aligned(blocks * shape[1]).reshape(shape)
    active = _flags(call, np.empty(blocks * _on(call), dtype=np.int8), blocks)

    def work(first: int, stop: int) -> None:
        for a in range(first, stop):
            own, on = store[a : a + 1], active[a : a + 1]
            kinetics(*call.kinetics(a, a + 1, theta), own, on, True)
            lines(*call.lines(a, a + 1, theta), own, on, log_count, nodes, True)

    _on_all_cores(work, n_lanes, threads)
    return log_count, nodes, Tape(call, theta, store, active)


def pull(
    tape: Tape,
    cotangent: FloatArray,
    *,
    node_cotangent: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Differentiate ``sum(cotangent * log_count)`` by ``theta``, from a tape.

    Parameters
    ----------
    cotangent, node_cotangent
        See `vector_jacobian`.

    Returns
    -------
    float[P, L]
    """
    _, _, kinetics, lines = kernels(derivatives=True)
    call, theta = tape.call, tape.theta
    bar = _own(cotangent)
    dense = _node_cotangent(node_cotangent)
    theta_bar = np.empty_like(theta)
    theta_bar[call.plan.n_parameters :] = 0.0  # the kernels of the lines write the rest

    def work(first: int, stop: int) -> None:
        for a in range(first, stop):
            own, on = tape.store[a : a + 1], tape.active[a : a + 1]
            lines(*call.lines(a, a + 1, theta), own, on, bar, dense, theta_bar, True)
            kinetics(*call.kinetics(a, a + 1, theta), own, on, theta_bar)

    _on_all_cores(work, theta.shape[1], threads)
    return theta_bar


def _node_cotangent(given: FloatArray | None) -> FloatArray:
    return np.zeros((0, 0, 0, 0)) if given is None else _own(given)


def _derivatives(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: FloatArray,
    bar: FloatArray,
    dense_bar: FloatArray,
    threads: int | None,
    form: Callable[[FloatArray, int, slice], None] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Log counts and derivative block by block; ``form`` may fill ``bar`` from the counts."""
    kinetics, lines, kinetics_adjoint, lines_adjoint = kernels(derivatives=True)
    call = _prepare(plan, grid, schedule, dense_bar.size > 0)
    theta = _own(theta)
    n_lanes = theta.shape[1]
    log_count = np.empty((plan.lines.shape[0], n_lanes, grid.obs_cell.shape[1]))
    theta_bar = np.empty_like(theta)
    theta_bar[plan.n_parameters :] = 0.0
    no_nodes = np.empty((1, 0, grid.n_cells + 1, 2))

    def work(first: int, stop: int) -> None:
        # one line at a time: a second tape would not fit into the cache beside the first
        store, on = _store(call, 1, ROW_ONE_LINE)
        for a in range(first, stop):
            lanes = slice(a * WIDTH, min((a + 1) * WIDTH, n_lanes))
            of_kinetics = (*call.kinetics(a, a + 1, theta), store, on)
            kinetics(*of_kinetics, True)
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
    theta: FloatArray,
    cotangent: FloatArray,
    *,
    node_cotangent: FloatArray | None = None,
    threads: int | None = None,
) -> tuple[FloatArray, FloatArray]:
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
    bar, dense = _own(cotangent), _node_cotangent(node_cotangent)
    return _derivatives(plan, grid, schedule, theta, bar, dense, threads)


def normal_log_likelihood(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: FloatArray,
    observed: FloatArray,
    weight: FloatArray,
    *,
    threads: int | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
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

    def form(log_count: FloatArray, line: int, lanes: slice) -> None:
        size = weight[line, lanes]
        miss = np.where(size > 0.0, observed[line, lanes] - log_count[line, lanes], 0.0)
        bar[line, lanes] = size * miss
        log_likelihood[lanes] -= 0.5 * np.einsum("lt,lt->l", bar[line, lanes], miss)

    none = np.zeros((0, 0, 0, 0))
    _, theta_bar = _derivatives(plan, grid, schedule, theta, bar, none, threads, form)
    return log_likelihood, theta_bar, bar
