"""Calls of the compiled kernels: a plan and a grid made ready, and the kernels' arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats, Integers32
from pkpd.solve.bridge.lanes import WIDTH
from pkpd.solve.compiled import marrow
from pkpd.solve.compiled import program as pk
from pkpd.solve.compiled.build import kernels
from pkpd.solve.compiled.chain import tape_size_of
from pkpd.solve.compiled.family import Plan
from pkpd.solve.compiled.space import work_space
from pkpd.solve.compiled.store import KINETIC, ROWS, layout, scratch_size
from pkpd.solve.compiled.whole import whole_kernels
from pkpd.solve.grid.grid import Grid

_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Call:
    """Arguments of the kernels that do not change with the parameters."""

    plan: Plan
    schedule: NDArray[np.int64]
    last_of: Integers32
    cells: Integers32
    index: Integers32
    cell_length: Integers32
    lengths: Floats
    bolus: Floats
    rate: Floats
    obs_cell: Integers32
    obs_at: Floats
    infused: NDArray[np.int8]
    sets: Integers32
    set_of_length: Integers32
    set_of_dose: Integers32
    heads: Integers32
    sizes: NDArray[np.int64]
    scratch: int

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.cell_length.size

    def kinetics(self, first: int, stop: int, theta: Floats) -> tuple[Any, ...]:
        """First arguments of the kernels of the kinetics."""
        return (
            first, stop, self.schedule, self.last_of, theta, self.plan.code, self.heads,
            self.cells, self.index, self.lengths, self.bolus, self.rate, self.infused,
            self.sets, self.set_of_length, self.set_of_dose, self.sizes,
            work_space("scratch", self.scratch),
        )  # fmt: skip

    def lines(self, first: int, stop: int, theta: Floats, of: slice = _ALL) -> tuple[Any, ...]:
        """First arguments of the kernels of the marrow lines, for some or all of them."""
        rows = self.plan.n_parameters  # further versions are of the drugs alone
        return (
            first, stop, self.schedule, self.last_of, theta[:rows], self.heads, self.plan.lines[of],
            self.plan.effects[of], self.cells, self.index, self.cell_length, self.lengths,
            self.bolus, self.rate, self.obs_cell, self.obs_at, self.sizes,
            work_space("scratch", self.scratch),
        )  # fmt: skip

    def whole(self, first: int, stop: int, theta: Floats) -> tuple[Any, ...]:
        """First arguments of the kernels of a whole marrow."""
        rows, own = self.plan.n_parameters, self.plan.whole
        assert own is not None
        return (
            first, stop, self.schedule, self.last_of, theta[:rows], self.heads, own.places,
            own.rest, own.n_levels, own.n_states, own.n_observed, self.cells, self.index,
            self.cell_length, self.lengths, self.bolus, self.rate, self.obs_cell, self.obs_at,
            self.sizes, work_space("scratch", self.scratch),
        )  # fmt: skip

    def march(
        self, first: int, stop: int, theta: Floats, store: Floats,
        on: NDArray[np.int8], log_count: Floats, nodes: Floats, keep: bool,
    ) -> None:  # fmt: skip
        """Run the kernel of the marrow, from the drivers in the store."""
        if self.plan.whole is not None:
            kernel = whole_kernels(self.plan.whole.keys)[0]
            kernel(*self.whole(first, stop, theta), store, on, log_count, nodes, keep)
            return
        kernel = kernels(derivatives=keep)[1]
        kernel(*self.lines(first, stop, theta), store, on, log_count, nodes, keep)

    def march_adjoint(
        self, first: int, stop: int, theta: Floats, store: Floats,
        on: NDArray[np.int8], bar: Floats, dense: Floats, theta_bar: Floats,
    ) -> None:  # fmt: skip
        """Run the adjoint kernel of the marrow on what `march` kept."""
        if self.plan.whole is not None:
            kernel = whole_kernels(self.plan.whole.keys)[1]
            kernel(*self.whole(first, stop, theta), store, on, bar, dense, theta_bar)
            return
        kernel = kernels(derivatives=True)[3]
        kernel(*self.lines(first, stop, theta), store, on, bar, dense, theta_bar, True)


def store_of(call: Call, blocks: int, row: int) -> tuple[Floats, NDArray[np.int8]]:
    """Rows of the store of this thread."""
    width = int(call.sizes[row]) * WIDTH
    store = work_space("store", blocks * width)[: blocks * width].reshape(blocks, width)
    return store, flags(call, work_space("flags", blocks * flags_of_block(call), np.int8), blocks)


def flags_of_block(call: Call) -> int:
    """Return how many flags a block has: one for each drug and cell."""
    return max(1, call.heads.shape[0]) * call.n_cells


def flags(call: Call, space: NDArray[np.int8], blocks: int) -> NDArray[np.int8]:
    """Return the flags of blocks in a space."""
    return space[: blocks * flags_of_block(call)].reshape(blocks, flags_of_block(call))


# what the kernels take of a grid, while it lives: forming it is a tenth of a small solution
_prepared: WeakKeyDictionary[Grid, dict[tuple[Plan, bool], Call]] = WeakKeyDictionary()


def prepared(plan: Plan, grid: Grid, schedule: NDArray[np.int64], dense: bool) -> Call:
    """Call of a plan on a grid; the part that does not change with parameters is kept."""
    calls = _prepared.setdefault(grid, {})
    call = calls.get((plan, dense))
    if call is None:
        calls[plan, dense] = call = _formed(plan, grid, schedule, dense)
    if call.schedule is schedule:
        return call
    return replace(call, schedule=plain(schedule, np.int64))


def _formed(plan: Plan, grid: Grid, schedule: NDArray[np.int64], dense: bool) -> Call:
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
    drugs, gaps = heads.shape[0], grid.cells.size
    scratch = 0
    if plan.whole is not None:
        tape, final, lines = plan.whole.tape * n_cells, plan.whole.n_states, 1
        scratch = plan.whole.scratch(n_cells) * WIDTH
    else:
        transits = int(plan.lines[:, marrow.TRANSITS].max())
        work = max(work, marrow.WORK_PER_STATE * (transits + 2))
        tape, final = marrow.tape_stride(transits) * n_cells, transits + 2
        lines = plan.lines.shape[0]
    sizes = layout(
        work, coef, drivers, n_rates, level, states, tape, final, n_cells, gaps, drugs, lines
    )
    sizes[[ROWS, KINETIC]] = plan.n_parameters, plan.n_kinetic
    sets, set_of_length, set_of_dose = _sets(grid, heads)
    last_of = np.full_like(grid.end_cell, n_cells) if dense else grid.end_cell
    return Call(
        plan,
        plain(schedule, np.int64),
        plain(last_of, np.int32),
        plain(grid.cells, np.int32),
        plain(grid.length_index, np.int32),
        plain(grid.length_index[grid.gap_of_cell], np.int32),
        plain(grid.length_h),
        plain(grid.bolus),
        plain(grid.rate),
        plain(grid.obs_cell, np.int32),
        plain(grid.obs_at),
        infused,
        plain(sets, np.int32),
        plain(set_of_length, np.int32),
        plain(set_of_dose, np.int32),
        heads,
        sizes,
        scratch_size(sizes, sets.shape[0], n_lengths, n_cells, gaps, drugs) + scratch,
    )


def _sets(grid: Grid, heads: Integers32) -> tuple[Any, Any, Any]:
    """Return the sets of versions, and which one each cell length and each dose has."""
    found = grid.versions
    if found is None:
        shape = (grid.cells.size, heads.shape[0])
        return np.zeros((1, grid.n_schedules)), np.zeros(grid.length_h.shape[0]), np.zeros(shape)
    # what kills directly has no kinetics that could change
    constant = heads[:, pk.KIND] != pk.LINEAR_PK
    return found.sets, found.of_length, np.where(constant, 0, found.of_dose)


def plain(values: Any, dtype: type = np.float64) -> Any:
    """Array as the kernels take it; they are compiled once, for what may be written to."""
    array = np.ascontiguousarray(values, dtype=dtype)
    return array if array.flags.writeable else array.copy()
