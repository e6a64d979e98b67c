"""Compiled march of a whole marrow: log counts from drivers, and their adjoint.

The second half of a solution, like `pkpd.solve.compiled.lines`, for marrows whose lines share
states. The equations are programs (`pkpd.solve.compiled.whole_plan`); what stands here carries them
through the cells and looks where something was observed.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from pkpd.solve.bridge.lanes import WIDTH, add, largest, load, splat, vectors
from pkpd.solve.bridge.lanes import store as put
from pkpd.solve.bridge.linking import inner, kernel
from pkpd.solve.bridge.program import evaluate
from pkpd.solve.compiled.course import dose_amounts, gather_schedule, gather_theta
from pkpd.solve.compiled.program import DRIVER_SIZE, DRIVER_START, MOMENTS
from pkpd.solve.compiled.store import (
    AT_DRIVERS_BAR,
    AT_LINES,
    AT_RATE_BAR,
    COEF,
    DRIVERS,
    block_of,
    clear,
    source_stamp,
    take_places,
)
from pkpd.solve.compiled.whole_plan import LEVEL_OF_DRUG, NODES, RATE_OF_DRUG, Keys

_DAY = 24.0
_VALUES = 4  # of an observed quantity in a cell: value and slope at its start, then at its end


@inner
def _looks(obs_cell, groups, count, every, looks):
    """Give numbers to the cells in which something is observed, -1 for the others."""
    for cell in range(looks.size):
        looks[cell] = -1
    found = 0
    for t in range(obs_cell.shape[1]):
        for j in range(count):
            cell = obs_cell[groups[j], t]
            if cell >= 0 and looks[cell] < 0:
                looks[cell] = found
                found += 1
    if every:
        for cell in range(looks.size):
            looks[cell] = cell


@inner
def _levels(places, heads, cell, gap, n_cells, drivers, active, rate, levels):
    """Collect the levels of all drugs in a cell; whether any drug is there."""
    drugs = places.shape[0]
    there = False
    for k in range(drugs):
        row = places[k, 1]
        if places[k, 0] == LEVEL_OF_DRUG:
            on = active[k * n_cells + cell] > 0
            out = heads[k, DRIVER_START] + cell * heads[k, DRIVER_SIZE] + 2 * heads[k, MOMENTS]
            for q in range(NODES):
                put(levels, row + q, load(drivers, out + q) if on else splat(0.0))
            there = there or on
        elif places[k, 0] == RATE_OF_DRUG:
            flow = load(rate, gap * drugs + k) * _DAY
            put(levels, row, flow)
            there = there or largest(flow) > 0.0
    return there


@inner
def _levels_adjoint(places, heads, cell, gap, n_cells, levels_bar, active, drivers_bar, rate_bar):
    drugs = places.shape[0]
    for k in range(drugs):
        row = places[k, 1]
        if places[k, 0] == LEVEL_OF_DRUG and active[k * n_cells + cell] > 0:
            out = heads[k, DRIVER_START] + cell * heads[k, DRIVER_SIZE] + 2 * heads[k, MOMENTS]
            for q in range(NODES):
                add(drivers_bar, out + q, load(levels_bar, row + q))
        elif places[k, 0] == RATE_OF_DRUG:
            add(rate_bar, gap * drugs + k, load(levels_bar, row) * _DAY)


@inner
def _observed(obs_cell, obs_at, groups, lanes, count, cell_length, lengths, nodes, looks, n, out):
    """Log values at the observations by the cubic Hermite interpolant of the cell."""
    for t in range(obs_cell.shape[1]):
        for j in range(count):
            g = groups[j]
            cell = obs_cell[g, t]
            if cell < 0:
                for i in range(n):
                    out[i, lanes[j], t] = np.nan
                continue
            u = obs_at[g, t]
            r = 1.0 - u
            h = lengths[cell_length[cell] * WIDTH + j]
            for i in range(n):
                a = (looks[cell] * _VALUES * n + 2 * i) * WIDTH + j
                b = a + 2 * n * WIDTH
                value = r * r * (1.0 + 2.0 * u) * nodes[a] + u * u * (3.0 - 2.0 * u) * nodes[b]
                slopes = u * r * (r * nodes[a + WIDTH] - u * nodes[b + WIDTH])
                out[i, lanes[j], t] = value + h * slopes


@inner
def _observed_adjoint(
    obs_cell, obs_at, groups, lanes, count, cell_length, lengths, bar, looks, n, nodes_bar
):
    for t in range(obs_cell.shape[1]):
        for j in range(count):
            g = groups[j]
            cell = obs_cell[g, t]
            if cell < 0:
                continue
            u = obs_at[g, t]
            r = 1.0 - u
            h = lengths[cell_length[cell] * WIDTH + j]
            for i in range(n):
                here = bar[i, lanes[j], t]
                a = (looks[cell] * _VALUES * n + 2 * i) * WIDTH + j
                b = a + 2 * n * WIDTH
                nodes_bar[a] += here * r * r * (1.0 + 2.0 * u)
                nodes_bar[a + WIDTH] += here * h * u * r * r
                nodes_bar[b] += here * u * u * (3.0 - 2.0 * u)
                nodes_bar[b + WIDTH] -= here * h * u * u * r


@lru_cache(maxsize=32)
def whole_kernels(keys: Keys) -> tuple[Any, Any]:
    """Kernels of a whole marrow: its march, and the adjoint of it; made once for its programs."""
    return _entry_points(
        source_stamp(), keys.start, keys.act, keys.step, keys.look, keys.start_adjoint,
        keys.act_adjoint, keys.step_adjoint, keys.look_adjoint,
    )  # fmt: skip


def _entry_points(
    stamp: int, start: int, act: int, step: int, look: int, start_adjoint: int, act_adjoint: int,
    step_adjoint: int, look_adjoint: int,
) -> tuple[Any, Any]:  # fmt: skip
    # stamp and keys are closure variables, and those are part of the key of the cache
    @kernel
    def whole_range(
        first, stop, schedule, last_of, theta, heads, places, rest, n_levels, n_states, n_observed,
        cells, index, cell_length, lengths, bolus, rate, obs_cell, obs_at, sizes, scratch, store,
        active, log_count, dense, keep,
    ):  # fmt: skip
        """Log values of blocks ``first`` to ``stop`` from the drivers in the store.

        Parameters
        ----------
        log_count : float[n_observed, L, T]
        dense : float[n_observed, L, C + 1, 2]
            Gets the values at all edges of cells if it has a size.
        keep
            Also leave states and inputs for the adjoint.
        """
        if stamp == 0:
            return
        drugs, n_gaps, n_cells = heads.shape[0], cells.size, cell_length.size
        n_lanes, width = theta.shape[1], store.shape[1] // WIDTH
        n_inputs, n_doses = rest.size, n_gaps * drugs
        lanes, groups = take_places()
        looks = np.empty(n_cells, dtype=np.int64)
        used = 0
        theta_w, used = vectors(scratch, used), used + theta.shape[0]
        lengths_w, used = vectors(scratch, used), used + lengths.shape[0]
        bolus_0, rate_0 = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_w, rate_w = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        y, used = vectors(scratch, used), used + n_states
        u, used = vectors(scratch, used), used + n_inputs + 1
        levels, used = vectors(scratch, used), used + n_levels
        nodes, used = vectors(scratch, used), used + _VALUES * n_observed * n_cells
        for block in range(first, stop):
            count, last = block_of(block, n_lanes, schedule, last_of, lanes, groups)
            row, on = (block - first) * width, active[block - first]
            drivers = vectors(store, row + sizes[COEF])
            tape = vectors(store, row + sizes[AT_LINES])
            gather_theta(theta, lanes, theta_w)
            if block == first or lengths.shape[1] > 1:
                gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_0, rate_0)
            dose_amounts(heads, theta_w, n_gaps, bolus_0, rate_0, bolus_w, rate_w)
            _looks(obs_cell, groups, count, dense.size > 0, looks)
            evaluate(start, y, theta_w, u, y, y, y, y)
            acted = True
            cell = 0
            for gap in range(n_gaps):
                put(u, n_inputs, load(lengths_w, index[gap]) * (1.0 / _DAY))
                for _ in range(cells[gap]):
                    if cell < last:
                        there = _levels(
                            places, heads, cell, gap, n_cells, drivers, on, rate_w, levels
                        )
                        if there:
                            evaluate(act, levels, theta_w, u, u, u, u, u)
                        elif acted:
                            for i in range(n_inputs):
                                put(u, i, splat(rest[i]))
                        acted = there
                        if keep:
                            at = cell * (n_states + n_inputs)
                            for i in range(n_states):
                                put(tape, at + i, load(y, i))
                            for i in range(n_inputs):
                                put(tape, at + n_states + i, load(u, i))
                        seen = vectors(nodes, max(looks[cell], 0) * _VALUES * n_observed)
                        if looks[cell] >= 0:
                            evaluate(look, y, theta_w, u, seen, seen, seen, seen)
                        evaluate(step, y, theta_w, u, y, y, y, y)
                        if looks[cell] >= 0:
                            later = vectors(seen, 2 * n_observed)
                            evaluate(look, y, theta_w, u, later, later, later, later)
                    cell += 1
            if keep:
                at = n_cells * (n_states + n_inputs)
                for i in range(n_states):
                    put(tape, at + i, load(y, i))
            _observed(
                obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, nodes, looks,
                n_observed, log_count,
            )  # fmt: skip
            if dense.size > 0:
                for c in range(n_cells + 1):
                    here = min(c, n_cells - 1)
                    for i in range(n_observed):
                        a = (here * _VALUES * n_observed + 2 * i) * WIDTH
                        if c == n_cells:
                            a += 2 * n_observed * WIDTH
                        for j in range(count):
                            dense[i, lanes[j], c, 0] = nodes[a + j]
                            dense[i, lanes[j], c, 1] = nodes[a + WIDTH + j]

    @kernel
    def whole_adjoint_range(
        first, stop, schedule, last_of, theta, heads, places, rest, n_levels, n_states, n_observed,
        cells, index, cell_length, lengths, bolus, rate, obs_cell, obs_at, sizes, scratch, store,
        active, bar, dense_bar, theta_bar,
    ):  # fmt: skip
        """Differentiate ``sum(bar * log_count)`` by parameters, and by drivers and rates.

        The first goes to ``theta_bar``, the others to the store. A ``dense_bar`` that has a size
        adds ``sum(dense_bar * dense)``.
        """
        if stamp == 0:
            return
        drugs, n_gaps, n_cells = heads.shape[0], cells.size, cell_length.size
        n_lanes, width = theta.shape[1], store.shape[1] // WIDTH
        n_inputs, n_doses = rest.size, n_gaps * drugs
        lanes, groups = take_places()
        looks = np.empty(n_cells, dtype=np.int64)
        used = 0
        theta_w, used = vectors(scratch, used), used + theta.shape[0]
        theta_bar_w, used = vectors(scratch, used), used + theta.shape[0]
        lengths_w, used = vectors(scratch, used), used + lengths.shape[0]
        bolus_0, rate_0 = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_w, rate_w = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        y_bar, used = vectors(scratch, used), used + n_states
        u, used = vectors(scratch, used), used + n_inputs + 1
        u_bar, used = vectors(scratch, used), used + n_inputs + 1
        levels, used = vectors(scratch, used), used + n_levels
        levels_bar, used = vectors(scratch, used), used + n_levels
        nodes_bar, used = vectors(scratch, used), used + _VALUES * n_observed * n_cells
        for block in range(first, stop):
            count, last = block_of(block, n_lanes, schedule, last_of, lanes, groups)
            row, on = (block - first) * width, active[block - first]
            drivers = vectors(store, row + sizes[COEF])
            drivers_bar = vectors(store, row + sizes[AT_DRIVERS_BAR])
            rate_bar = vectors(store, row + sizes[AT_RATE_BAR])
            tape = vectors(store, row + sizes[AT_LINES])
            gather_theta(theta, lanes, theta_w)
            clear(theta_bar_w, theta.shape[0])
            clear(drivers_bar, sizes[DRIVERS])
            clear(rate_bar, n_doses)
            if block == first or lengths.shape[1] > 1:
                gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_0, rate_0)
            dose_amounts(heads, theta_w, n_gaps, bolus_0, rate_0, bolus_w, rate_w)
            _looks(obs_cell, groups, count, dense_bar.size > 0, looks)
            clear(nodes_bar, _VALUES * n_observed * n_cells)
            clear(y_bar, n_states)
            _observed_adjoint(
                obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, bar, looks,
                n_observed, nodes_bar,
            )  # fmt: skip
            if dense_bar.size > 0:
                for c in range(n_cells + 1):
                    here = min(c, n_cells - 1)
                    for i in range(n_observed):
                        a = (here * _VALUES * n_observed + 2 * i) * WIDTH
                        if c == n_cells:
                            a += 2 * n_observed * WIDTH
                        for j in range(count):
                            nodes_bar[a + j] += dense_bar[i, lanes[j], c, 0]
                            nodes_bar[a + WIDTH + j] += dense_bar[i, lanes[j], c, 1]
            cell = n_cells
            size = n_states + n_inputs
            for gap in range(n_gaps - 1, -1, -1):
                put(u, n_inputs, load(lengths_w, index[gap]) * (1.0 / _DAY))
                for _ in range(cells[gap]):
                    cell -= 1
                    if cell >= last:
                        continue
                    before = vectors(tape, cell * size)
                    # the last cell that was solved is followed by the final state
                    after = vectors(tape, (cell + 1 if cell + 1 < last else n_cells) * size)
                    for i in range(n_inputs):
                        put(u, i, load(before, n_states + i))
                    clear(u_bar, n_inputs + 1)
                    seen = vectors(nodes_bar, max(looks[cell], 0) * _VALUES * n_observed)
                    if looks[cell] >= 0:
                        later = vectors(seen, 2 * n_observed)
                        evaluate(look_adjoint, after, theta_w, u, y_bar, theta_bar_w, u_bar, later)
                    evaluate(step_adjoint, before, theta_w, u, y_bar, theta_bar_w, u_bar, u_bar)
                    if looks[cell] >= 0:
                        evaluate(look_adjoint, before, theta_w, u, y_bar, theta_bar_w, u_bar, seen)
                    there = _levels(places, heads, cell, gap, n_cells, drivers, on, rate_w, levels)
                    if there:
                        clear(levels_bar, n_levels)
                        evaluate(
                            act_adjoint, levels, theta_w, u, levels_bar, theta_bar_w, u_bar, u_bar
                        )
                        _levels_adjoint(
                            places, heads, cell, gap, n_cells, levels_bar, on, drivers_bar,
                            rate_bar,
                        )  # fmt: skip
            evaluate(start_adjoint, y_bar, theta_w, u, y_bar, theta_bar_w, u_bar, u_bar)
            for p in range(theta.shape[0]):
                for j in range(count):
                    theta_bar[p, lanes[j]] = theta_bar_w[p * WIDTH + j]

    return whole_range, whole_adjoint_range
