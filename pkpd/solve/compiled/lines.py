"""Compiled marrow lines of a range of lane blocks: log counts from drivers, and their adjoint."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import numpy as np

from pkpd.solve.bridge.lanes import WIDTH, ZERO, integers, load, vectors, where_greater
from pkpd.solve.bridge.lanes import store as put
from pkpd.solve.bridge.linking import inner, kernel
from pkpd.solve.compiled.course import (
    dose_amounts,
    gather_schedule,
    gather_theta,
    observe,
    observe_adjoint,
)
from pkpd.solve.compiled.marrow import (
    LINE_HEADER,
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
from pkpd.solve.compiled.store import (
    AT_DRIVERS_BAR,
    AT_LINES,
    AT_RATE_BAR,
    COEF,
    DRIVERS,
    LINE_SIZE,
    MOMENTS_OF_LINE,
    TAPE,
    WORK,
    block_of,
    clear,
    source_stamp,
    take_places,
)


@inner
def _log_set(theta, line, out):
    for j in range(WIDTH):
        out[j] = np.log(theta[line[SET_POINT] * WIDTH + j])


@inner
def _inverse(h):
    return where_greater(h, 0.0, 1.0 / where_greater(h, 0.0, h, 1.0), 0.0)


def _entry_points(stamp: int):
    # the stamp is a closure variable, and those are part of the key of the cache
    @kernel
    def lines_range(
        first, stop, schedule, last_of, theta, heads, lines, effects, cells, index, cell_length,
        lengths, bolus, rate, obs_cell, obs_at, sizes, scratch, store, active, log_count, dense,
        keep,
    ):  # fmt: skip
        """Log counts of blocks ``first`` to ``stop`` from the drivers in the store.

        Parameters
        ----------
        log_count : float[lines, L, T]
        dense : float[lines, L, C + 1, 2]
            Gets the nodes if it has a size.
        keep
            Also leave moments and tape for the adjoint.
        """
        if stamp == 0:
            return
        drugs, n_gaps, n_cells = heads.shape[0], cells.size, cell_length.size
        n_lanes, width = theta.shape[1], store.shape[1] // WIDTH
        lanes, groups = take_places()
        used = 0
        theta_w, used = vectors(scratch, used), used + theta.shape[0]
        lengths_w, used = vectors(scratch, used), used + lengths.shape[0]
        n_doses = n_gaps * drugs
        bolus_0, rate_0 = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_w, rate_w = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        w, used = vectors(scratch, used), used + sizes[WORK]
        own_moments, used = vectors(scratch, used), used + 3 * n_cells
        nodes, used = vectors(scratch, used), used + 2 * (n_cells + 1)
        line_w, used = vectors(scratch, used), used + N_RATES
        log_set, used = vectors(scratch, used), used + 1
        for block in range(first, stop):
            count, last = block_of(block, n_lanes, schedule, last_of, lanes, groups)
            row, on = (block - first) * width, active[block - first]
            drivers = vectors(store, row + sizes[COEF])
            gather_theta(theta, lanes, theta_w)
            if block == first or lengths.shape[1] > 1:
                gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_0, rate_0)
            dose_amounts(heads, theta_w, n_gaps, bolus_0, rate_0, bolus_w, rate_w)
            for i in range(lines.shape[0]):
                line = integers(lines, i * LINE_HEADER)
                n = line[TRANSITS]
                at = sizes[AT_LINES] + i * sizes[LINE_SIZE]
                moments = vectors(store, row + at) if keep else own_moments
                tape = vectors(store, row + at + sizes[MOMENTS_OF_LINE])
                line_rates(line, theta_w, line_w)
                cell = ZERO
                for gap in range(n_gaps):
                    inverse = _inverse(load(lengths_w, index[gap]))
                    for _ in range(cells[gap]):
                        if cell < last:
                            effect_of_cell(
                                heads, effects[i], cell, gap, n_cells, inverse, drivers, on,
                                rate_w, theta_w, moments,
                            )  # fmt: skip
                        cell += 1
                march(n, cells, index, lengths_w, last, moments, line_w, w, nodes, tape, keep)
                if keep:
                    final = vectors(store, row + at + sizes[MOMENTS_OF_LINE] + sizes[TAPE])
                    for s in range(n + 2):
                        put(final, s, load(w, s))
                _log_set(theta_w, line, log_set)
                observe(
                    obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, nodes,
                    log_set, log_count[i],
                )  # fmt: skip
                if dense.size > 0:
                    for c in range(n_cells + 1):
                        here = 2 * min(c, last) * WIDTH
                        for j in range(count):
                            dense[i, lanes[j], c, 0] = nodes[here + j] + log_set[j]
                            dense[i, lanes[j], c, 1] = nodes[here + WIDTH + j]

    @kernel
    def lines_adjoint_range(
        first, stop, schedule, last_of, theta, heads, lines, effects, cells, index, cell_length,
        lengths, bolus, rate, obs_cell, obs_at, sizes, scratch, store, active, bar, dense_bar,
        theta_bar, fresh,
    ):  # fmt: skip
        """Differentiate ``sum(bar * log_count)`` by marrow and effect, and by drivers and rates.

        The first goes to ``theta_bar``, the others to the store: anew if ``fresh``, else they are
        added. A ``dense_bar`` that has a size adds ``sum(dense_bar * dense)``.
        """
        if stamp == 0:
            return
        drugs, n_gaps, n_cells = heads.shape[0], cells.size, cell_length.size
        n_lanes, width = theta.shape[1], store.shape[1] // WIDTH
        lanes, groups = take_places()
        used = 0
        theta_w, used = vectors(scratch, used), used + theta.shape[0]
        theta_bar_w, used = vectors(scratch, used), used + theta.shape[0]
        lengths_w, used = vectors(scratch, used), used + lengths.shape[0]
        n_doses = n_gaps * drugs
        bolus_0, rate_0 = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_w, rate_w = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        w, used = vectors(scratch, used), used + sizes[WORK]
        moments_bar, used = vectors(scratch, used), used + 3 * n_cells
        nodes_bar, used = vectors(scratch, used), used + 2 * (n_cells + 1)
        line_w, used = vectors(scratch, used), used + N_RATES
        line_bar, used = vectors(scratch, used), used + N_RATES
        set_bar, used = vectors(scratch, used), used + 1
        for block in range(first, stop):
            count, last = block_of(block, n_lanes, schedule, last_of, lanes, groups)
            row, on = (block - first) * width, active[block - first]
            drivers = vectors(store, row + sizes[COEF])
            drivers_bar = vectors(store, row + sizes[AT_DRIVERS_BAR])
            rate_bar = vectors(store, row + sizes[AT_RATE_BAR])
            gather_theta(theta, lanes, theta_w)
            clear(theta_bar_w, theta.shape[0])
            if fresh:
                clear(drivers_bar, sizes[DRIVERS])
                clear(rate_bar, n_doses)
            if block == first or lengths.shape[1] > 1:
                gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_0, rate_0)
            dose_amounts(heads, theta_w, n_gaps, bolus_0, rate_0, bolus_w, rate_w)
            for i in range(lines.shape[0]):
                line = integers(lines, i * LINE_HEADER)
                n = line[TRANSITS]
                at = sizes[AT_LINES] + i * sizes[LINE_SIZE]
                moments = vectors(store, row + at)
                tape = vectors(store, row + at + sizes[MOMENTS_OF_LINE])
                final = vectors(store, row + at + sizes[MOMENTS_OF_LINE] + sizes[TAPE])
                for s in range(n + 2):
                    put(w, s, load(final, s))
                line_rates(line, theta_w, line_w)
                clear(nodes_bar, 2 * (n_cells + 1))
                clear(line_bar, N_RATES)
                clear(set_bar, 1)
                observe_adjoint(
                    obs_cell, obs_at, groups, lanes, count, cell_length, lengths_w, bar[i],
                    nodes_bar, set_bar,
                )  # fmt: skip
                if dense_bar.size > 0:
                    for c in range(n_cells + 1):
                        for j in range(count):
                            here = 2 * c * WIDTH + j
                            nodes_bar[here] += dense_bar[i, lanes[j], c, 0]
                            nodes_bar[here + WIDTH] += dense_bar[i, lanes[j], c, 1]
                            set_bar[j] += dense_bar[i, lanes[j], c, 0]
                march_adjoint(
                    n, cells, index, lengths_w, last, moments, line_w, w, nodes_bar, tape,
                    moments_bar, line_bar,
                )  # fmt: skip
                line_rates_adjoint(line, theta_w, line_w, line_bar, theta_bar_w)
                for j in range(WIDTH):
                    own = line[SET_POINT] * WIDTH + j
                    theta_bar_w[own] += set_bar[j] / theta_w[own]
                cell = ZERO
                for gap in range(n_gaps):
                    inverse = _inverse(load(lengths_w, index[gap]))
                    for _ in range(cells[gap]):
                        if cell < last:
                            effect_of_cell_adjoint(
                                heads, effects[i], cell, gap, n_cells, inverse, drivers, on,
                                rate_w, theta_w, moments_bar, drivers_bar, rate_bar,
                                theta_bar_w,
                            )  # fmt: skip
                        cell += 1
            for p in range(theta.shape[0]):
                for j in range(count):
                    before = 0.0 if fresh else theta_bar[p, lanes[j]]
                    theta_bar[p, lanes[j]] = before + theta_bar_w[p * WIDTH + j]

    return lines_range, lines_adjoint_range


lines_range, lines_adjoint_range = _entry_points(source_stamp())
