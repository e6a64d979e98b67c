"""Compiled solution of a range of lane blocks, with and without derivatives.

A block of `pkpd.engine.lanes.WIDTH` lanes is solved from first to last cell before the next is
begun, so everything it needs stays in the cache of one core; ranges of blocks run on threads
without the interpreter lock. Numba compiles two functions here, for all models of the family.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numba import njit

from pkpd.engine.compiled_coefficients import coefficients, coefficients_adjoint
from pkpd.engine.compiled_course import (
    dose_amounts,
    drive,
    drive_adjoint,
    gather_schedule,
    gather_theta,
    observe,
    observe_adjoint,
)
from pkpd.engine.compiled_marrow import (
    N_RATES,
    SET_POINT,
    TRANSITS,
    effect_of_cell,
    effect_of_cell_adjoint,
    line_rates,
    line_rates_adjoint,
    march,
    march_adjoint,
)
from pkpd.engine.compiled_pk import monomials, monomials_adjoint
from pkpd.engine.compiled_program import COEF_SIZE, COEF_START, F_ROW, KIND, LINEAR_PK, RATES, N
from pkpd.engine.lanes import WIDTH, add, inner, load, splat, where_greater

VALUE, COTANGENT, NORMAL = 0, 1, 2
"""What a call computes: counts; the vector-Jacobian product of a given cotangent; the normal
log-likelihood of log counts with its derivative."""


@inner
def _block(block, n_lanes, schedule, last_of, lanes, groups):
    """Lanes and schedules of a block; returns how many lanes are real and the cells to solve."""
    last = 0
    count = 0
    for j in range(WIDTH):
        lane = block * WIDTH + j
        if lane < n_lanes:
            count += 1
        else:
            lane = n_lanes - 1
        lanes[j] = lane
        groups[j] = schedule[lane]
        last = max(last, last_of[groups[j]])
    return count, last


@inner
def _pharmacokinetics(
    code, heads, infused, cells, index, last, lengths, theta, bolus, rate, w, rates, coef,
    drivers, active, states, with_tape,
):  # fmt: skip
    """Coefficients and drivers of all drugs for one block; ``rates`` has one row per drug."""
    n_lengths = lengths.size // WIDTH
    drugs = heads.shape[0]
    for k in range(drugs):
        head = heads[k]
        if head[KIND] != LINEAR_PK:
            continue
        monomials(code, head, theta, rates[k])
        for m in range(n_lengths):
            at = head[COEF_START] + m * head[COEF_SIZE]
            coefficients(code, head, rates[k], load(lengths, m), infused[k, m] > 0, w, coef, at)
        scale = load(rates[k], head[RATES])
        x, new = w[: head[N] * WIDTH], w[head[N] * WIDTH : 2 * head[N] * WIDTH]
        drive(
            code, head, k, drugs, cells, index, last, coef, bolus, rate, scale, x, new, drivers,
            active, states, with_tape,
        )  # fmt: skip


@inner
def _effects(heads, effects, cells, index, last, lengths, drivers, active, rate, theta, moments):
    cell = 0
    n_cells = active.size // max(1, effects.shape[0])
    for gap in range(cells.size):
        h = load(lengths, index[gap])
        inverse = where_greater(h, 0.0, 1.0 / where_greater(h, 0.0, h, 1.0), 0.0)
        for _ in range(cells[gap]):
            if cell < last:
                effect_of_cell(
                    heads, effects, cell, gap, n_cells, inverse, drivers, active, rate, theta,
                    moments,
                )  # fmt: skip
            cell += 1


@inner
def _effects_adjoint(
    heads, effects, cells, index, last, lengths, drivers, active, rate, theta, bar, drivers_bar,
    rate_bar, theta_bar,
):  # fmt: skip
    cell = 0
    n_cells = active.size // max(1, effects.shape[0])
    for gap in range(cells.size):
        h = load(lengths, index[gap])
        inverse = where_greater(h, 0.0, 1.0 / where_greater(h, 0.0, h, 1.0), 0.0)
        for _ in range(cells[gap]):
            if cell < last:
                effect_of_cell_adjoint(
                    heads, effects, cell, gap, n_cells, inverse, drivers, active, rate, theta,
                    bar, drivers_bar, rate_bar, theta_bar,
                )  # fmt: skip
            cell += 1


@inner
def _log_set(theta, line, out):
    for j in range(WIDTH):
        out[j] = np.log(theta[line[SET_POINT] * WIDTH + j])


@inner
def take(space, used, size):
    """Cut ``size`` numbers out of the work space."""
    return space[used : used + size], used + size


@inner
def take_rows(space, used, rows, size):
    """Cut ``rows`` rows of ``size`` numbers out of the work space."""
    stop = used + rows * size
    return space[used:stop].reshape((rows, size)), stop


def space_size(drugs: int, rows: int, cells: int, gaps: int, lengths: int, sizes) -> int:
    """Numbers of work space that either kernel takes, all its arrays together."""
    vectors = 2 * rows + lengths + 6 * gaps * drugs + int(sizes[0]) + 2 * int(sizes[1])
    vectors += 2 * int(sizes[2]) + (drugs + 1) * int(sizes[3]) + int(sizes[4:].sum())
    vectors += 6 * cells + 4 * (cells + 1) + 2 * N_RATES + 2
    return vectors * WIDTH


@inner
def _solve(
    first, stop, schedule, last_of, theta, code, heads, lines, effects, cells, index, cell_length,
    lengths, bolus, rate, obs_cell, obs_at, infused, sizes, space, log_count, dense,
):  # fmt: skip
    n_lanes, drugs = theta.shape[1], heads.shape[0]
    n_cells, n_gaps = cell_length.size, cells.size
    lanes = np.empty(WIDTH, dtype=np.int64)
    groups = np.empty(WIDTH, dtype=np.int64)
    used = 0
    theta_w, used = take(space, used, theta.shape[0] * WIDTH)
    lengths_w, used = take(space, used, lengths.shape[0] * WIDTH)
    doses, used = take_rows(space, used, 4, n_gaps * drugs * WIDTH)
    w, used = take(space, used, sizes[0] * WIDTH)
    coef, used = take(space, used, sizes[1] * WIDTH)
    drivers, used = take(space, used, sizes[2] * WIDTH)
    rates, used = take_rows(space, used, drugs, sizes[3] * WIDTH)
    active = np.zeros(max(1, drugs) * n_cells, dtype=np.int8)
    moments, used = take(space, used, 3 * n_cells * WIDTH)
    nodes, used = take(space, used, 2 * (n_cells + 1) * WIDTH)
    line_w, used = take(space, used, N_RATES * WIDTH)
    log_set, used = take(space, used, WIDTH)
    nothing = np.empty(0)
    for block in range(first, stop):
        count, last = _block(block, n_lanes, schedule, last_of, lanes, groups)
        gather_theta(theta, lanes, theta_w)
        if block == first or lengths.shape[1] > 1:
            gather_schedule(lengths, bolus, rate, groups, lengths_w, doses[0], doses[1])
        dose_amounts(heads, theta_w, doses[0], doses[1], doses[2], doses[3])
        _pharmacokinetics(
            code, heads, infused, cells, index, last, lengths_w, theta_w, doses[2], doses[3], w,
            rates, coef, drivers, active, nothing, False,
        )  # fmt: skip
        for i in range(lines.shape[0]):
            line = lines[i]
            line_rates(line, theta_w, line_w)
            _effects(
                heads, effects[i], cells, index, last, lengths_w, drivers, active, doses[3],
                theta_w, moments,
            )  # fmt: skip
            n = line[TRANSITS]
            march(n, cells, index, lengths_w, last, moments, line_w, w, nodes, nothing, False)
            _log_set(theta_w, line, log_set)
            observe(
                obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, nodes, log_set,
                log_count[i],
            )  # fmt: skip
            if dense.size > 0:
                for c in range(n_cells + 1):
                    at = 2 * min(c, last) * WIDTH
                    for j in range(count):
                        dense[i, lanes[j], c, 0] = nodes[at + j] + log_set[j]
                        dense[i, lanes[j], c, 1] = nodes[at + WIDTH + j]


@inner
def _gradient(
    first, stop, schedule, last_of, theta, code, heads, lines, effects, cells, index, cell_length,
    lengths, bolus, rate, obs_cell, obs_at, infused, sizes, space, log_count, mode, bar, observed,
    weight, dense_bar, theta_bar, log_likelihood,
):  # fmt: skip
    n_lanes, drugs = theta.shape[1], heads.shape[0]
    n_cells, n_gaps, n_lengths = cell_length.size, cells.size, lengths.shape[0]
    lanes = np.empty(WIDTH, dtype=np.int64)
    groups = np.empty(WIDTH, dtype=np.int64)
    used = 0
    theta_w, used = take(space, used, theta.shape[0] * WIDTH)
    theta_bar_w, used = take(space, used, theta.shape[0] * WIDTH)
    lengths_w, used = take(space, used, n_lengths * WIDTH)
    doses, used = take_rows(space, used, 4, n_gaps * drugs * WIDTH)
    doses_bar, used = take_rows(space, used, 2, n_gaps * drugs * WIDTH)
    w, used = take(space, used, sizes[0] * WIDTH)
    level_bar, used = take(space, used, sizes[4] * WIDTH)
    coef, used = take(space, used, sizes[1] * WIDTH)
    coef_bar, used = take(space, used, sizes[1] * WIDTH)
    drivers, used = take(space, used, sizes[2] * WIDTH)
    drivers_bar, used = take(space, used, sizes[2] * WIDTH)
    rates, used = take_rows(space, used, drugs, sizes[3] * WIDTH)
    rates_bar, used = take(space, used, sizes[3] * WIDTH)
    states, used = take(space, used, sizes[5] * WIDTH)
    tape, used = take(space, used, sizes[6] * WIDTH)
    active = np.zeros(max(1, drugs) * n_cells, dtype=np.int8)
    moments, used = take(space, used, 3 * n_cells * WIDTH)
    moments_bar, used = take(space, used, 3 * n_cells * WIDTH)
    nodes, used = take(space, used, 2 * (n_cells + 1) * WIDTH)
    nodes_bar, used = take(space, used, 2 * (n_cells + 1) * WIDTH)
    line_w, used = take(space, used, N_RATES * WIDTH)
    line_bar, used = take(space, used, N_RATES * WIDTH)
    log_set, used = take(space, used, WIDTH)
    set_bar, used = take(space, used, WIDTH)
    for block in range(first, stop):
        count, last = _block(block, n_lanes, schedule, last_of, lanes, groups)
        gather_theta(theta, lanes, theta_w)
        theta_bar_w[:] = 0.0
        coef_bar[:] = 0.0
        drivers_bar[:] = 0.0
        doses_bar[:] = 0.0
        if block == first or lengths.shape[1] > 1:
            gather_schedule(lengths, bolus, rate, groups, lengths_w, doses[0], doses[1])
        dose_amounts(heads, theta_w, doses[0], doses[1], doses[2], doses[3])
        _pharmacokinetics(
            code, heads, infused, cells, index, last, lengths_w, theta_w, doses[2], doses[3], w,
            rates, coef, drivers, active, states, True,
        )  # fmt: skip
        for i in range(lines.shape[0]):
            line = lines[i]
            line_rates(line, theta_w, line_w)
            _effects(
                heads, effects[i], cells, index, last, lengths_w, drivers, active, doses[3],
                theta_w, moments,
            )  # fmt: skip
            n = line[TRANSITS]
            march(n, cells, index, lengths_w, last, moments, line_w, w, nodes, tape, True)
            _log_set(theta_w, line, log_set)
            observe(
                obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, nodes, log_set,
                log_count[i],
            )  # fmt: skip
            if mode == NORMAL:
                for j in range(count):
                    lane = lanes[j]
                    total = 0.0
                    for t in range(obs_cell.shape[1]):
                        size = weight[i, lane, t]
                        miss = 0.0
                        if size > 0.0:
                            miss = observed[i, lane, t] - log_count[i, lane, t]
                        bar[i, lane, t] = size * miss
                        total -= 0.5 * size * miss * miss
                    log_likelihood[lane] += total
            nodes_bar[:] = 0.0
            line_bar[:] = 0.0
            set_bar[:] = 0.0
            observe_adjoint(
                obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, bar[i], nodes_bar,
                set_bar,
            )  # fmt: skip
            if dense_bar.size > 0:
                for c in range(n_cells + 1):
                    for j in range(count):
                        at = 2 * c * WIDTH + j
                        nodes_bar[at] += dense_bar[i, lanes[j], c, 0]
                        nodes_bar[at + WIDTH] += dense_bar[i, lanes[j], c, 1]
                        set_bar[j] += dense_bar[i, lanes[j], c, 0]
            march_adjoint(
                n, cells, index, lengths_w, last, moments, line_w, w, nodes_bar, tape,
                moments_bar, line_bar,
            )  # fmt: skip
            line_rates_adjoint(line, theta_w, line_w, line_bar, theta_bar_w)
            for j in range(WIDTH):
                at = line[SET_POINT] * WIDTH + j
                theta_bar_w[at] += set_bar[j] / theta_w[at]
            _effects_adjoint(
                heads, effects[i], cells, index, last, lengths_w, drivers, active, doses[3],
                theta_w, moments_bar, drivers_bar, doses_bar[1], theta_bar_w,
            )  # fmt: skip
        for k in range(drugs):
            head = heads[k]
            if head[KIND] == LINEAR_PK:
                rates_bar[:] = 0.0
                x, new = w[: head[N] * WIDTH], w[head[N] * WIDTH : 2 * head[N] * WIDTH]
                drive_adjoint(
                    code, head, k, drugs, cells, index, last, coef, doses[3], rates[k], x, new,
                    drivers, active, states, drivers_bar, coef_bar, doses_bar[0], doses_bar[1],
                    rates_bar,
                )  # fmt: skip
                for m in range(n_lengths):
                    at = head[COEF_START] + m * head[COEF_SIZE]
                    coefficients_adjoint(
                        code, head, rates[k], load(lengths_w, m), infused[k, m] > 0, w,
                        coef_bar, at, level_bar, rates_bar,
                    )  # fmt: skip
                monomials_adjoint(code, head, theta_w, rates[k], rates_bar, theta_bar_w)
            share = splat(0.0)
            for g in range(n_gaps):
                at = g * drugs + k
                share = share + load(doses_bar[0], at) * load(doses[0], at)
                share = share + load(doses_bar[1], at) * load(doses[1], at)
            own = head[F_ROW]
            add(theta_bar_w, own, share)
        for p in range(theta.shape[0]):
            for j in range(count):
                theta_bar[p, lanes[j]] = theta_bar_w[p * WIDTH + j]


_SOURCES = ("lanes", "compiled_*")


def source_stamp() -> int:
    """Checksum of the kernel sources: Numba's cache only looks at the file of the entry point."""
    here = Path(__file__).parent
    files = sorted({path for name in _SOURCES for path in here.glob(f"{name}.py")})
    return zlib.crc32(b"".join(path.read_bytes() for path in files)) | 1


def _entry_points(stamp: int):
    # the stamp is a closure variable, and those are part of the key of the cache
    @njit(cache=True, nogil=True)
    def solve_range(
        first, stop, schedule, last_of, theta, code, heads, lines, effects, cells, index,
        cell_length, lengths, bolus, rate, obs_cell, obs_at, infused, sizes, space, log_count,
        dense,
    ):  # fmt: skip
        """Log counts of blocks ``first`` to ``stop``; ``dense`` gets node values if it has a size.

        ``sizes``: vectors of work array, coefficients, drivers, rates per drug; ``space``: work
        space that the caller keeps, since fresh memory costs as much as the arithmetic.
        """
        if stamp != 0:
            _solve(
                first, stop, schedule, last_of, theta, code, heads, lines, effects, cells, index,
                cell_length, lengths, bolus, rate, obs_cell, obs_at, infused, sizes, space,
                log_count, dense,
            )  # fmt: skip

    @njit(cache=True, nogil=True)
    def gradient_range(
        first, stop, schedule, last_of, theta, code, heads, lines, effects, cells, index,
        cell_length, lengths, bolus, rate, obs_cell, obs_at, infused, sizes, space, log_count, mode,
        bar, observed, weight, dense_bar, theta_bar, log_likelihood,
    ):  # fmt: skip
        """Log counts and derivatives of blocks ``first`` to ``stop``.

        With `COTANGENT` the derivative is that of ``sum(bar * log_count)``, to which a
        ``dense_bar`` that has a size adds ``sum(dense_bar * dense)``. With `NORMAL`, ``bar`` is
        overwritten by ``weight * (observed - log_count)`` and ``log_likelihood[L]`` gets
        ``-sum(weight * (observed - log_count)^2) / 2``; a weight of 0 marks a missing value.
        """
        if stamp != 0:
            _gradient(
                first, stop, schedule, last_of, theta, code, heads, lines, effects, cells, index,
                cell_length, lengths, bolus, rate, obs_cell, obs_at, infused, sizes, space,
                log_count, mode, bar, observed, weight, dense_bar, theta_bar, log_likelihood,
            )  # fmt: skip

    return solve_range, gradient_range


solve_range, gradient_range = _entry_points(source_stamp())
