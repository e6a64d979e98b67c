"""Compiled course of one block of lanes: doses, drug drivers by cell, and observations.

Vectors of lanes are values of `pkpd.solve.bridge.lanes`; arrays are flat, indices count vectors.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import numpy as np

from pkpd.solve.bridge.lanes import WIDTH, add, largest, load, splat, store, where_less
from pkpd.solve.bridge.linking import inner
from pkpd.solve.compiled.program import (
    AT_NODES,
    CENTRAL,
    COEF_SIZE,
    COEF_START,
    DRIVER_SIZE,
    DRIVER_START,
    ENTRIES,
    F_ROW,
    MOMENTS,
    N_ENTRIES,
    SLOTS,
    STATE_START,
    N,
)

_GONE = 1e-22  # of the amount given: below it a drug is taken as washed out
TINY = 1e-200  # keeps the tail of a fast chain clear of denormal numbers


@inner
def gather_theta(theta, lanes, out):
    """Parameters of the lanes of a block."""
    for p in range(theta.shape[0]):
        for j in range(WIDTH):
            out[p * WIDTH + j] = theta[p, lanes[j]]


@inner
def gather_schedule(lengths, bolus, rate, groups, lengths_w, bolus_w, rate_w):
    """Cell lengths and doses of the schedules of a block."""
    for m in range(lengths.shape[0]):
        for j in range(WIDTH):
            lengths_w[m * WIDTH + j] = lengths[m, groups[j]]
    drugs = bolus.shape[1]
    for g in range(bolus.shape[0]):
        for k in range(drugs):
            at = (g * drugs + k) * WIDTH
            for j in range(WIDTH):
                bolus_w[at + j] = bolus[g, k, groups[j]]
                rate_w[at + j] = rate[g, k, groups[j]]


@inner
def dose_amounts(heads, theta, n_gaps, base_bolus, base_rate, bolus, rate):
    """Doses times the bioavailability of each lane."""
    drugs = heads.shape[0]
    for g in range(n_gaps):
        for k in range(drugs):
            share = load(theta, heads[k, F_ROW])
            at = g * drugs + k
            store(bolus, at, share * load(base_bolus, at))
            store(rate, at, share * load(base_rate, at))


@inner
def gather_versions(theta, lanes, groups, sets, rows, kinetic, out):
    """Parameters of the drugs of a block, by set of versions (`pkpd.solve.grid.versions`)."""
    for u in range(sets.shape[0]):
        for j in range(WIDTH):
            version = sets[u, groups[j]]
            start = rows + (version - 1) * kinetic if version > 0 else 0
            for p in range(kinetic):
                out[(u * kinetic + p) * WIDTH + j] = theta[start + p, lanes[j]]


@inner
def scatter_versions(theta_bar, lanes, count, groups, sets, rows, kinetic, bar):
    """Add derivatives by set of versions to those by row of ``theta``."""
    for u in range(sets.shape[0]):
        for j in range(count):
            version = sets[u, groups[j]]
            start = rows + (version - 1) * kinetic if version > 0 else 0
            for p in range(kinetic):
                theta_bar[start + p, lanes[j]] += bar[(u * kinetic + p) * WIDTH + j]


@inner
def dose_amounts_of_sets(
    heads, pk, kinetic, set_of_dose, n_gaps, base_bolus, base_rate, bolus, rate
):
    """Doses times the bioavailability in the set of each dose."""
    drugs = heads.shape[0]
    for g in range(n_gaps):
        for k in range(drugs):
            share = load(pk, set_of_dose[g, k] * kinetic + heads[k, F_ROW])
            at = g * drugs + k
            store(bolus, at, share * load(base_bolus, at))
            store(rate, at, share * load(base_rate, at))


@inner
def drive(
    code,
    head,
    drug,
    drugs,
    cells,
    index,
    last,
    coef,
    bolus,
    rate,
    scales,
    set_of_length,
    x,
    new,
    drivers,
    active,
    states,
    with_tape,
):
    """Carry one drug through all cells; write its driver, and its state at every cell start.

    ``scales`` holds the factor of the driver for each set of versions.

    ``active`` tells for each cell whether the drug is there (1), or there but all absorbed (2).
    """
    n, slots = head[N], head[SLOTS]
    n_cells = active.size // drugs
    moments, nodes = head[MOMENTS] > 0, head[AT_NODES] > 0
    for i in range(n):
        store(x, i, splat(0.0))
    central = head[CENTRAL]
    low = 0  # first state that still holds something
    given = 0.0
    on = False
    cell = 0
    for gap in range(cells.size):
        at = gap * drugs + drug
        dose, flow = load(bolus, at), load(rate, at)
        amount = largest(dose) + largest(flow)
        if amount > 0.0:
            on = True
            given += amount
            add(x, 0, dose)
            low = 0
        if not on or cell >= last:
            for _ in range(cells[gap]):
                active[drug * n_cells + cell] = 0
                cell += 1
            continue
        base = head[COEF_START] + index[gap] * head[COEF_SIZE]
        scale = load(scales, set_of_length[index[gap]])
        infused = largest(flow) > 0.0
        for _ in range(cells[gap]):
            active[drug * n_cells + cell] = 1 if low == 0 else 2
            out = head[DRIVER_START] + cell * head[DRIVER_SIZE]
            if with_tape:
                for i in range(n):
                    store(states, head[STATE_START] + cell * n + i, load(x, i))
            c = base + slots + n
            if moments:
                mean, slope = splat(0.0), splat(0.0)
                for i in range(low, n):
                    here = load(x, i)
                    mean = mean + here * load(coef, c + i)
                    slope = slope + here * load(coef, c + n + i)
                if infused:
                    mean = mean + flow * load(coef, c + 2 * n)
                    slope = slope + flow * load(coef, c + 2 * n + 1)
                store(drivers, out, scale * mean)
                store(drivers, out + 1, scale * slope)
                c += 2 * n + 2
                out += 2
            if nodes:
                for q in range(4):
                    value = splat(0.0)
                    for i in range(low, n):
                        value = value + load(x, i) * load(coef, c + i)
                    if infused:
                        value = value + flow * load(coef, c + n)
                    store(drivers, out + q, scale * value)
                    c += n + 1
            e, end = head[ENTRIES], head[ENTRIES] + 3 * head[N_ENTRIES]
            for i in range(n):
                total = flow * load(coef, base + slots + i) if infused else splat(0.0)
                while e < end and code[e] == i:  # they stand in the order of the rows
                    j = code[e + 1]
                    if j >= low:
                        total = total + load(coef, base + code[e + 2]) * load(x, j)
                    e += 3
                store(new, i, where_less(total, TINY, 0.0, total))
            for i in range(n):
                store(x, i, load(new, i))
            if 0 == low < central:
                waiting = splat(0.0)
                for i in range(central):
                    waiting = waiting + load(x, i)
                if largest(waiting) <= _GONE * given and not infused:
                    low = central
                    for i in range(central):
                        store(x, i, splat(0.0))
            cell += 1
        remaining = splat(0.0)
        for i in range(n):
            remaining = remaining + load(x, i)
        if largest(remaining) <= _GONE * given and not infused:
            on = False
            low = 0
            for i in range(n):
                store(x, i, splat(0.0))


@inner
def drive_adjoint(
    code,
    head,
    drug,
    drugs,
    cells,
    index,
    last,
    coef,
    rate,
    scales,
    set_of_length,
    x,
    new,
    drivers,
    active,
    states,
    drivers_bar,
    coef_bar,
    bolus_bar,
    rate_bar,
    scales_bar,
):
    """Adjoint of `drive`: derivatives by coefficients, doses, and factors times the factors."""
    n, slots = head[N], head[SLOTS]
    n_cells = active.size // drugs
    moments, nodes = head[MOMENTS] > 0, head[AT_NODES] > 0
    central = head[CENTRAL]
    for i in range(n):
        store(x, i, splat(0.0))
    cell = n_cells
    for gap in range(cells.size - 1, -1, -1):
        at = gap * drugs + drug
        if cells[gap] > 0 and active[drug * n_cells + cell - cells[gap]] == 0:
            cell -= cells[gap]
            for i in range(n):
                store(x, i, splat(0.0))
            continue
        flow = load(rate, at)
        flow_bar = splat(0.0)
        infused = largest(flow) > 0.0
        base = head[COEF_START] + index[gap] * head[COEF_SIZE]
        of = set_of_length[index[gap]]
        scale, scale_bar = load(scales, of), load(scales_bar, of)
        for _ in range(cells[gap]):
            cell -= 1
            state = head[STATE_START] + cell * n
            out = head[DRIVER_START] + cell * head[DRIVER_SIZE]
            c = base + slots + n
            low = central if active[drug * n_cells + cell] == 2 else 0
            # the new adjoint state: first through the transition, then through the driver
            for i in range(n):
                store(new, i, splat(0.0))
            for t in range(head[N_ENTRIES]):
                e = head[ENTRIES] + 3 * t
                i, j, s = code[e], code[e + 1], code[e + 2]
                if j < low:
                    continue
                x_bar = load(x, i)
                add(new, j, load(coef, base + s) * x_bar)
                add(coef_bar, base + s, x_bar * load(states, state + j))
            if infused:
                for i in range(n):
                    x_bar = load(x, i)
                    flow_bar = flow_bar + x_bar * load(coef, base + slots + i)
                    place = base + slots + i
                    add(coef_bar, place, x_bar * flow)
            if moments:
                mean_bar, slope_bar = load(drivers_bar, out), load(drivers_bar, out + 1)
                scale_bar = scale_bar + mean_bar * load(drivers, out)
                scale_bar = scale_bar + slope_bar * load(drivers, out + 1)
                mean_bar, slope_bar = scale * mean_bar, scale * slope_bar
                for i in range(low, n):
                    here = load(states, state + i)
                    m, s = c + i, c + n + i
                    add(coef_bar, m, mean_bar * here)
                    add(coef_bar, s, slope_bar * here)
                    more = mean_bar * load(coef, m) + slope_bar * load(coef, s)
                    add(new, i, more)
                if infused:
                    m, s = c + 2 * n, c + 2 * n + 1
                    flow_bar = flow_bar + mean_bar * load(coef, m) + slope_bar * load(coef, s)
                    add(coef_bar, m, mean_bar * flow)
                    add(coef_bar, s, slope_bar * flow)
                c += 2 * n + 2
                out += 2
            if nodes:
                for q in range(4):
                    value_bar = load(drivers_bar, out + q)
                    scale_bar = scale_bar + value_bar * load(drivers, out + q)
                    value_bar = scale * value_bar
                    for i in range(low, n):
                        here = load(states, state + i)
                        add(coef_bar, c + i, value_bar * here)
                        add(new, i, value_bar * load(coef, c + i))
                    if infused:
                        flow_bar = flow_bar + value_bar * load(coef, c + n)
                        add(coef_bar, c + n, value_bar * flow)
                    c += n + 1
            for i in range(n):
                store(x, i, load(new, i))
        store(scales_bar, of, scale_bar)
        add(rate_bar, at, flow_bar)
        add(bolus_bar, at, load(x, 0))


@inner
def observe(obs_cell, obs_at, groups, lanes, count, cell_length, lengths, nodes, log_set, out):
    """Log counts at the observations by the cubic Hermite interpolant of log count."""
    for t in range(obs_cell.shape[1]):
        for j in range(count):
            g = groups[j]
            cell = obs_cell[g, t]
            if cell < 0:
                out[lanes[j], t] = np.nan
                continue
            u = obs_at[g, t]
            a = 2 * cell * WIDTH + j
            h = lengths[cell_length[cell] * WIDTH + j]
            left, rise = nodes[a], nodes[a + WIDTH]
            if u == 0.0:
                out[lanes[j], t] = left + log_set[j]
                continue
            right, fall = nodes[a + 2 * WIDTH], nodes[a + 3 * WIDTH]
            r = 1.0 - u
            value = r * r * (1.0 + 2.0 * u) * left + u * u * (3.0 - 2.0 * u) * right
            slopes = u * r * (r * rise - u * fall)
            out[lanes[j], t] = value + h * slopes + log_set[j]


@inner
def observe_adjoint(
    obs_cell, obs_at, groups, lanes, count, cell_length, lengths, bar, nodes_bar, set_bar
):
    """Add the derivatives by nodes and set point, given those by the observations."""
    for t in range(obs_cell.shape[1]):
        for j in range(count):
            g = groups[j]
            cell = obs_cell[g, t]
            if cell < 0:
                continue
            here = bar[lanes[j], t]
            u = obs_at[g, t]
            r = 1.0 - u
            a = 2 * cell * WIDTH + j
            h = lengths[cell_length[cell] * WIDTH + j]
            nodes_bar[a] += here * r * r * (1.0 + 2.0 * u)
            nodes_bar[a + WIDTH] += here * h * u * r * r
            nodes_bar[a + 2 * WIDTH] += here * u * u * (3.0 - 2.0 * u)
            nodes_bar[a + 3 * WIDTH] -= here * h * u * u * r
            set_bar[j] += here
