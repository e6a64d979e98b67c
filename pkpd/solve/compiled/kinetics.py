"""Compiled kinetics of a range of lane blocks: drivers of all drugs by cell, and their adjoint.

The first half of a solution; `pkpd.solve.compiled.lines` is the second. Both leave what the other
needs in the store of the block (`pkpd.solve.compiled.store`).
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from pkpd.solve.bridge.lanes import WIDTH, add, integers, load, vectors
from pkpd.solve.bridge.lanes import store as put
from pkpd.solve.bridge.linking import kernel
from pkpd.solve.compiled.coefficients import coefficients, coefficients_adjoint
from pkpd.solve.compiled.course import (
    dose_amounts_of_sets,
    drive,
    drive_adjoint,
    gather_schedule,
    gather_theta,
    gather_versions,
    scatter_versions,
)
from pkpd.solve.compiled.program import (
    COEF_SIZE,
    COEF_START,
    F_ROW,
    HEADER,
    KIND,
    LINEAR_PK,
    RATES,
    N,
)
from pkpd.solve.compiled.store import (
    AT_DRIVERS_BAR,
    AT_RATE_BAR,
    AT_STATES,
    COEF,
    KINETIC,
    LEVEL,
    N_RATES_OF_DRUG,
    ROWS,
    WORK,
    block_of,
    clear,
    source_stamp,
    take_places,
)
from pkpd.solve.compiled.transitions import monomials, monomials_adjoint


def _entry_points(stamp: int):
    # the stamp is a closure variable, and those are part of the key of the cache
    @kernel
    def kinetics_range(
        first, stop, schedule, last_of, theta, code, heads, cells, index, lengths, bolus, rate,
        infused, sets, set_of_length, set_of_dose, sizes, scratch, store, active, keep,
    ):  # fmt: skip
        """Coefficients and drivers of all drugs for blocks ``first`` to ``stop``.

        Parameters
        ----------
        store, active
            One row for each block: see `pkpd.solve.compiled.store`.
        sets, set_of_length, set_of_dose
            Where which parameters hold: see `pkpd.solve.grid.versions`.
        keep
            Also leave the states for the adjoint.
        """
        if stamp == 0:
            return
        drugs, n_gaps, n_lengths = heads.shape[0], cells.size, lengths.shape[0]
        n_lanes, width = theta.shape[1], store.shape[1] // WIDTH
        lanes, groups = take_places()
        used = 0
        rows, kinetic, n_sets = sizes[ROWS], sizes[KINETIC], sets.shape[0]
        pk_w, used = vectors(scratch, used), used + max(rows, n_sets * kinetic)
        scales, used = vectors(scratch, used), used + n_sets
        lengths_w, used = vectors(scratch, used), used + n_lengths
        n_doses, codes = n_gaps * drugs, integers(code, 0)
        bolus_0, rate_0 = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_w, rate_w = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        w, used = vectors(scratch, used), used + sizes[WORK]
        rates, used = vectors(scratch, used), used + sizes[N_RATES_OF_DRUG]
        for block in range(first, stop):
            _, last = block_of(block, n_lanes, schedule, last_of, lanes, groups)
            row, on = (block - first) * width, active[block - first]
            coef = vectors(store, row)
            drivers = vectors(store, row + sizes[COEF])
            states = vectors(store, row + sizes[AT_STATES])
            if theta.shape[0] > rows:
                gather_versions(theta, lanes, groups, sets, rows, kinetic, pk_w)
            else:
                gather_theta(theta, lanes, pk_w)
            if block == first or lengths.shape[1] > 1:
                gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_0, rate_0)
            dose_amounts_of_sets(
                heads, pk_w, kinetic, set_of_dose, n_gaps, bolus_0, rate_0, bolus_w, rate_w
            )
            for k in range(drugs):
                head = integers(heads, k * HEADER)
                if head[KIND] != LINEAR_PK:
                    continue
                of = -1
                for m in range(n_lengths):
                    if of != set_of_length[m]:
                        of = set_of_length[m]
                        monomials(codes, head, vectors(pk_w, of * kinetic), rates)
                        put(scales, of, load(rates, head[RATES]))
                    at = head[COEF_START] + m * head[COEF_SIZE]
                    h = load(lengths_w, m)
                    coefficients(codes, head, rates, h, infused[k, m] > 0, w, coef, at)
                x, new = w, vectors(w, head[N])
                drive(
                    codes, head, k, drugs, cells, index, last, coef, bolus_w, rate_w, scales,
                    set_of_length, x, new, drivers, on, states, keep,
                )  # fmt: skip

    @kernel
    def kinetics_adjoint_range(
        first, stop, schedule, last_of, theta, code, heads, cells, index, lengths, bolus, rate,
        infused, sets, set_of_length, set_of_dose, sizes, scratch, store, active, theta_bar,
    ):  # fmt: skip
        """Add the derivative through the drivers to ``theta_bar``."""
        if stamp == 0:
            return
        drugs, n_gaps, n_lengths = heads.shape[0], cells.size, lengths.shape[0]
        n_lanes, width = theta.shape[1], store.shape[1] // WIDTH
        lanes, groups = take_places()
        used = 0
        rows, kinetic, n_sets = sizes[ROWS], sizes[KINETIC], sets.shape[0]
        n_values = max(rows, n_sets * kinetic)
        pk_w, used = vectors(scratch, used), used + n_values
        pk_bar, used = vectors(scratch, used), used + n_values
        scales, used = vectors(scratch, used), used + n_sets
        scales_bar, used = vectors(scratch, used), used + n_sets
        lengths_w, used = vectors(scratch, used), used + n_lengths
        n_doses, codes = n_gaps * drugs, integers(code, 0)
        bolus_0, rate_0 = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_w, rate_w = vectors(scratch, used), vectors(scratch, used + n_doses)
        used += 2 * n_doses
        bolus_bar, used = vectors(scratch, used), used + n_gaps * drugs
        w, used = vectors(scratch, used), used + sizes[WORK]
        level_bar, used = vectors(scratch, used), used + sizes[LEVEL]
        coef_bar, used = vectors(scratch, used), used + sizes[COEF]
        rates, used = vectors(scratch, used), used + sizes[N_RATES_OF_DRUG]
        rates_bar, used = vectors(scratch, used), used + sizes[N_RATES_OF_DRUG]
        for block in range(first, stop):
            count, last = block_of(block, n_lanes, schedule, last_of, lanes, groups)
            row, on = (block - first) * width, active[block - first]
            coef = vectors(store, row)
            drivers = vectors(store, row + sizes[COEF])
            states = vectors(store, row + sizes[AT_STATES])
            drivers_bar = vectors(store, row + sizes[AT_DRIVERS_BAR])
            rate_bar = vectors(store, row + sizes[AT_RATE_BAR])
            if theta.shape[0] > rows:
                gather_versions(theta, lanes, groups, sets, rows, kinetic, pk_w)
            else:
                gather_theta(theta, lanes, pk_w)
            clear(pk_bar, n_values)
            clear(coef_bar, sizes[COEF])
            clear(bolus_bar, n_doses)
            if block == first or lengths.shape[1] > 1:
                gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_0, rate_0)
            dose_amounts_of_sets(
                heads, pk_w, kinetic, set_of_dose, n_gaps, bolus_0, rate_0, bolus_w, rate_w
            )
            for k in range(drugs):
                head = integers(heads, k * HEADER)
                if head[KIND] == LINEAR_PK:
                    clear(scales_bar, n_sets)
                    of = -1
                    for m in range(n_lengths):
                        if of != set_of_length[m]:
                            of = set_of_length[m]
                            monomials(codes, head, vectors(pk_w, of * kinetic), rates)
                            put(scales, of, load(rates, head[RATES]))
                    x, new = w, vectors(w, head[N])
                    drive_adjoint(
                        codes, head, k, drugs, cells, index, last, coef, rate_w, scales,
                        set_of_length, x, new, drivers, on, states, drivers_bar, coef_bar,
                        bolus_bar, rate_bar, scales_bar,
                    )  # fmt: skip
                    of = -1
                    for m in range(n_lengths):
                        if of != set_of_length[m]:
                            of = set_of_length[m]
                            monomials(codes, head, vectors(pk_w, of * kinetic), rates)
                            clear(rates_bar, sizes[N_RATES_OF_DRUG])
                            inverse = 1.0 / load(rates, head[RATES])
                            put(rates_bar, head[RATES], load(scales_bar, of) * inverse)
                        at = head[COEF_START] + m * head[COEF_SIZE]
                        coefficients_adjoint(
                            codes, head, rates, load(lengths_w, m), infused[k, m] > 0, w,
                            coef_bar, at, level_bar, rates_bar,
                        )  # fmt: skip
                        if m + 1 == n_lengths or set_of_length[m + 1] != of:
                            here, bar = vectors(pk_w, of * kinetic), vectors(pk_bar, of * kinetic)
                            monomials_adjoint(codes, head, here, rates, rates_bar, bar)
                for g in range(n_gaps):
                    at = g * drugs + k
                    own = set_of_dose[g, k] * kinetic + head[F_ROW]
                    add(pk_bar, own, load(bolus_bar, at) * load(bolus_0, at))
                    add(pk_bar, own, load(rate_bar, at) * load(rate_0, at))
            if theta.shape[0] > rows:
                scatter_versions(theta_bar, lanes, count, groups, sets, rows, kinetic, pk_bar)
            else:
                for p in range(rows):
                    for j in range(count):
                        theta_bar[p, lanes[j]] += pk_bar[p * WIDTH + j]

    return kinetics_range, kinetics_adjoint_range


kinetics_range, kinetics_adjoint_range = _entry_points(source_stamp())
