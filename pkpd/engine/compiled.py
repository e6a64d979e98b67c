"""The compiled engine: neutrophil and platelet chains under the built-in pharmacokinetics.

Same scheme as `pkpd.engine.scan_engine`, written for processors: eight patients in one vector, one
patient block at a time in cache, threads over blocks, derivatives by a discrete adjoint. Plain
arrays in and out, so a JAX primitive or a graph operation of another library can stand on it.

The family: linear PK of `pkpd.engine.linear` or direct kill; no, linear or (Hill) Emax effects that
add; `Friberg` and, with one class of platelets, `PlateletChain`. `compile_plan` returns ``None``
for anything else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine import compiled_marrow as marrow
from pkpd.engine import compiled_program as pk
from pkpd.engine.compiled_chain import tape_size_of
from pkpd.engine.grid import Grid
from pkpd.engine.lanes import WIDTH
from pkpd.engine.linear import Disposition, LinearPK, TransitAbsorption
from pkpd.engine.structure import DirectKill, Line, PopulationStructure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]

# Structures of the layer above are known by their full name: this layer cannot import them.
_FRIBERG = "pkpd.model.marrow.Friberg"
_PLATELETS = "pkpd.model.marrow.PlateletChain"
_EFFECTS = {
    "pkpd.model.effects.NoEffect": marrow.NO_EFFECT,
    "pkpd.model.effects.LinearEffect": marrow.LINEAR,
    "pkpd.model.effects.EmaxEffect": marrow.EMAX,
}
_TASKS_PER_THREAD = 4  # uneven machines and blocks balance out


def _full_name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A structure in the form the kernels read; made by `compile_plan`."""

    code: IntArray
    heads: IntArray
    lines: IntArray
    effects: IntArray
    n_parameters: int


@lru_cache(maxsize=64)
def compile_plan(structure: PopulationStructure) -> Plan | None:
    """Plan of a structure, or ``None`` if it is outside the compiled family."""
    row = structure.row
    headers, codes, offset = [], [], 0
    for drug in structure.drugs:
        own = {name[-1]: i for name, i in row.items() if name[:2] == ("pk", drug.name)}
        if isinstance(drug.pk, DirectKill):
            made = pk.direct_kill_program(own)
        elif type(drug.pk) in (LinearPK, Disposition, TransitAbsorption):
            made = pk.program(drug.pk, own)
        else:
            return None
        headers.append(pk.shift_code(made.header, offset))
        codes.append(made.code)
        offset += made.code.size
    lines = [_line_header(line, row) for line in structure.lines]
    effects = [_effect_rows(structure, line) for line in structure.lines]
    if any(x is None for x in lines) or any(x is None for x in effects):
        return None
    shape = (len(lines), len(headers), marrow.EFFECT_COLUMNS)
    heads = np.array(headers, dtype=np.int32).reshape(-1, pk.HEADER)
    table = np.array(effects, dtype=np.int32).reshape(shape)
    for k in range(len(headers)):
        kinds = set(table[:, k, 0].tolist())
        heads[k, pk.MOMENTS] = marrow.LINEAR in kinds
        heads[k, pk.AT_NODES] = bool(kinds & {marrow.EMAX, marrow.EMAX_HILL})
    code = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32)
    return Plan(code, heads, np.array(lines, dtype=np.int32), table, len(structure.layout))


def _line_header(line: Line, row: dict[tuple[str, ...], int]) -> IntArray | None:
    kind, chain = _full_name(line.marrow), line.marrow
    header = np.zeros(marrow.LINE_HEADER, dtype=np.int32)
    if kind == _FRIBERG:
        extra = "k_circ" if chain.circulation == "own" else None
        header[marrow.CIRCULATION] = marrow.LEAVES_AT_OWN if extra else marrow.LEAVES_AT_KTR
    elif kind == _PLATELETS and chain.ageing == 1:
        extra = "ks"
        header[marrow.CIRCULATION] = marrow.LEAVES_AT_SUM
    else:
        return None
    header[marrow.TRANSITS] = chain.transits
    header[marrow.KEEP] = chain.feedback_rule == "kept"
    header[marrow.OFF] = chain.feedback_rule == "off"
    names = {
        marrow.BASELINE: "baseline",
        marrow.SET_POINT: "set_point",
        marrow.MTT: "MTT",
        marrow.GAMMA: "gamma",
        marrow.EXTRA: extra,
    }
    for column, name in names.items():
        if name is not None:
            header[column] = row[("marrow", line.name, name)]
    return header


def _effect_rows(structure: PopulationStructure, line: Line) -> list[list[int]] | None:
    out = []
    for drug, effect in zip(structure.drugs, line.effects, strict=True):
        if isinstance(drug.pk, DirectKill):
            kind, names = marrow.KILL, ("kill",)
        else:
            known = _EFFECTS.get(_full_name(effect))
            if known is None:
                return None
            kind, names = known, effect.parameters
            if kind == marrow.EMAX and effect.hill:
                kind = marrow.EMAX_HILL
        rows = [structure.row[("effect", line.name, drug.name, name)] for name in names]
        out.append([kind, *rows, *([0] * (marrow.EFFECT_COLUMNS - 1 - len(rows)))])
    return out


@dataclass(frozen=True, eq=False)
class _Call:
    """Arguments of the kernels that do not change with the parameters."""

    schedule: NDArray[np.int64]
    last_of: IntArray
    grid: tuple[Any, ...]
    heads: IntArray
    sizes: NDArray[np.int64]
    space: int


_local = threading.local()


def _work_space(size: int) -> FloatArray:
    """Work space of this thread; it grows to the largest problem seen and is kept."""
    space = getattr(_local, "space", None)
    if space is None or space.size < size:
        space = _local.space = np.empty(size)
    return space


def _prepare(plan: Plan, grid: Grid, schedule: NDArray[np.int64]) -> _Call:
    from pkpd.engine.compiled_kernel import space_size

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
    tape = marrow.tape_stride(transits) * n_cells
    sizes = np.array([work, coef, drivers, n_rates, level, states, tape], dtype=np.int64)
    cell_length = grid.length_index[grid.gap_of_cell]
    arrays = (
        grid.cells,
        grid.length_index,
        cell_length,
        grid.length_h,
        grid.bolus,
        grid.rate,
        grid.obs_cell,
        grid.obs_at,
        infused,
    )
    return _Call(
        np.ascontiguousarray(schedule, dtype=np.int64),
        grid.end_cell,
        tuple(np.ascontiguousarray(a) for a in arrays),
        heads,
        sizes,
        space_size(heads.shape[0], plan.n_parameters, n_cells, grid.cells.size, n_lengths, sizes),
    )


# asked once, at import: a thread that calls back from XLA may be bound to one core
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """Return the number of processor cores this process may use."""
    return _CORES


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
        From `pkpd.engine.grid.population_grid`.
    schedule : int[L]
        Schedule of each lane.
    theta : float[P, L]
        Parameters, rows as in `PopulationStructure.layout`.
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
    from pkpd.engine.compiled_kernel import solve_range

    kernel: Any = solve_range
    call = _prepare(plan, grid, schedule)
    theta = np.ascontiguousarray(theta, dtype=np.float64)
    n_lanes, n_lines = theta.shape[1], plan.lines.shape[0]
    log_count = np.empty((n_lines, n_lanes, grid.obs_cell.shape[1]))
    nodes = np.empty((n_lines, n_lanes if dense else 0, grid.n_cells + 1, 2))
    last_of = np.full_like(call.last_of, grid.n_cells) if dense else call.last_of

    def work(first: int, stop: int) -> None:
        kernel(
            first, stop, call.schedule, last_of, theta, plan.code, call.heads, plan.lines,
            plan.effects, *call.grid, call.sizes, _work_space(call.space), log_count, nodes,
        )  # fmt: skip

    _on_all_cores(work, n_lanes, threads)
    return log_count, nodes


def _derivatives(
    plan: Plan,
    grid: Grid,
    schedule: NDArray[np.int64],
    theta: FloatArray,
    mode: int,
    bar: FloatArray,
    observed: FloatArray,
    weight: FloatArray,
    dense_bar: FloatArray,
    threads: int | None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    from pkpd.engine.compiled_kernel import gradient_range

    kernel: Any = gradient_range
    call = _prepare(plan, grid, schedule)
    theta = np.ascontiguousarray(theta, dtype=np.float64)
    log_count = np.empty((plan.lines.shape[0], theta.shape[1], grid.obs_cell.shape[1]))
    theta_bar = np.empty_like(theta)
    log_likelihood = np.zeros(theta.shape[1])
    dense = dense_bar.size > 0
    last_of = np.full_like(call.last_of, grid.n_cells) if dense else call.last_of

    def work(first: int, stop: int) -> None:
        kernel(
            first, stop, call.schedule, last_of, theta, plan.code, call.heads, plan.lines,
            plan.effects, *call.grid, call.sizes, _work_space(call.space), log_count, mode,
            bar, observed, weight, dense_bar, theta_bar, log_likelihood,
        )  # fmt: skip

    _on_all_cores(work, theta.shape[1], threads)
    return log_count, theta_bar, log_likelihood


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
    from pkpd.engine.compiled_kernel import COTANGENT

    bar = np.array(cotangent, dtype=np.float64, order="C")
    empty = np.zeros((0, 0, 0))
    dense = np.zeros((0, 0, 0, 0)) if node_cotangent is None else node_cotangent
    dense = np.ascontiguousarray(dense, dtype=np.float64)
    log_count, theta_bar, _ = _derivatives(
        plan, grid, schedule, theta, COTANGENT, bar, empty, empty, dense, threads
    )
    return log_count, theta_bar


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
    from pkpd.engine.compiled_kernel import NORMAL

    observed = np.ascontiguousarray(observed, dtype=np.float64)
    weight = np.ascontiguousarray(weight, dtype=np.float64)
    bar = np.empty_like(observed)
    _, theta_bar, log_likelihood = _derivatives(
        plan, grid, schedule, theta, NORMAL, bar, observed, weight, np.zeros((0, 0, 0, 0)), threads
    )
    return log_likelihood, theta_bar, bar
