"""Compiled marrow lines: drug effect by cell, Runge-Kutta march, and the discrete adjoint.

The scheme is that of `pkpd.marrow.step.rk4_cell` on the state of
`pkpd.marrow.friberg`: log of the proliferating pool, transits, circulating cells, all scaled by
the set point. The adjoint is that of the discrete scheme, so its derivatives are those of the
computed counts to rounding. Vectors of lanes are values of `pkpd.solve.bridge.lanes`; arrays are
flat, indices count vectors.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from pkpd.kinetics.quadrature import NODES, WEIGHTS
from pkpd.solve.bridge.lanes import (
    ZERO,
    add,
    exp,
    load,
    log,
    splat,
    store,
    subtract,
    where_greater,
    where_less,
)
from pkpd.solve.bridge.linking import inlined, inner
from pkpd.solve.compiled.program import DRIVER_SIZE, DRIVER_START, MOMENTS

# columns of a line's header
(
    TRANSITS,
    CIRCULATION,
    KEEP,
    OFF,
    BASELINE,
    SET_POINT,
    MTT,
    GAMMA,
    EXTRA,
    SATURATION,  # of the feedback, in units of 2^-30; what is left in units of 2^-60 follows
    SATURATION_REST,
    LINE_HEADER,
) = range(12)
LEAVES_AT_KTR, LEAVES_AT_OWN, LEAVES_AT_SUM = 0, 1, 2

NO_EFFECT, LINEAR, EMAX, EMAX_HILL, KILL = range(5)
EFFECT_COLUMNS = 4  # kind, rows of up to three parameters

KTR_, GAMMA_, KC_, Z0_, KEEP_, OFF_, SATURATION_, LOG_AT_ONE_, N_RATES = range(9)
_UNIT = 2.0**-30
FLOOR = 1e-12  # as in `pkpd.marrow.friberg`
_SMALLEST_RATIO = 1e-30

_MEAN = tuple(float(w) for w in WEIGHTS)
_SLOPE = tuple(float(w) for w in 12.0 * WEIGHTS * (NODES - 0.5))


def whole_numbers(saturation: float) -> tuple[int, int]:
    """Return a saturation, 0 to below 1, as the two entries of a line's header."""
    first = int(saturation / _UNIT)
    return first, round((saturation / _UNIT - first) / _UNIT)


def tape_stride(transits: int) -> int:
    """Vectors the march leaves per cell: the state, and log, feedback and pool of four stages."""
    return transits + 2 + 12


@inner
def line_rates(line, theta, rates):
    """Rates of a line from its parameters."""
    ktr = (line[TRANSITS] + 1.0) / load(theta, line[MTT])
    store(rates, KTR_, ktr)
    store(rates, GAMMA_, load(theta, line[GAMMA]))
    kc = ktr
    if line[CIRCULATION] == LEAVES_AT_OWN:
        kc = load(theta, line[EXTRA])
    elif line[CIRCULATION] == LEAVES_AT_SUM:
        kc = ktr + load(theta, line[EXTRA])
    store(rates, KC_, kc)
    store(rates, Z0_, load(theta, line[BASELINE]) / load(theta, line[SET_POINT]))
    store(rates, KEEP_, splat(float(line[KEEP])))
    store(rates, OFF_, splat(float(line[OFF])))
    saturation = (line[SATURATION] + line[SATURATION_REST] * _UNIT) * _UNIT
    store(rates, SATURATION_, splat(saturation))
    store(rates, LOG_AT_ONE_, log(splat(1.0 + saturation)))


@inner
def line_rates_adjoint(line, theta, rates, rates_bar, theta_bar):
    """Add the derivative by the parameters of a line."""
    ktr_bar = load(rates_bar, KTR_)
    kc_bar = load(rates_bar, KC_)
    if line[CIRCULATION] != LEAVES_AT_OWN:
        ktr_bar = ktr_bar + kc_bar
    if line[CIRCULATION] != LEAVES_AT_KTR:
        add(theta_bar, line[EXTRA], kc_bar)
    change = ktr_bar * load(rates, KTR_) / load(theta, line[MTT])
    subtract(theta_bar, line[MTT], change)
    add(theta_bar, line[GAMMA], load(rates_bar, GAMMA_))
    per_set = load(rates_bar, Z0_) / load(theta, line[SET_POINT])
    add(theta_bar, line[BASELINE], per_set)
    change = per_set * load(rates, Z0_)
    subtract(theta_bar, line[SET_POINT], change)


@inlined
def _ratio(value, kind, per_half, hill):
    """``(C / EC50)^hill`` and what remains of it, ``1 / (1 + ratio)``."""
    ratio = where_less(value, 0.0, 0.0, value) * per_half
    if kind == EMAX_HILL:
        floored = where_less(ratio, _SMALLEST_RATIO, _SMALLEST_RATIO, ratio)
        ratio = exp(hill * log(floored))
    return ratio, 1.0 / (1.0 + ratio)


@inner
def effect_of_cell(heads, effects, cell, gap, n_cells, inverse, drivers, active, rates, theta, out):
    """Mean, first moment, and direct kill of one cell, added over drugs."""
    mean = splat(0.0)
    slope = splat(0.0)
    kill = splat(0.0)
    for k in range(effects.shape[0]):
        kind = effects[k, 0]
        if kind == KILL:
            rate = load(rates, gap * effects.shape[0] + k)
            kill = kill + load(theta, effects[k, 1]) * rate
            continue
        if kind == NO_EFFECT or active[k * n_cells + cell] == 0:
            continue
        at = heads[k, DRIVER_START] + cell * heads[k, DRIVER_SIZE]
        if kind == LINEAR:
            size = load(theta, effects[k, 1])
            mean = mean + size * load(drivers, at)
            slope = slope + size * load(drivers, at + 1)
        else:
            if heads[k, MOMENTS] > 0:
                at += 2
            largest_effect = load(theta, effects[k, 1])
            per_half = 1.0 / load(theta, effects[k, 2])
            hill = load(theta, effects[k, 3])
            total, first = splat(0.0), splat(0.0)
            for q in range(4):
                ratio, share = _ratio(load(drivers, at + q), kind, per_half, hill)
                value = ratio * share
                total = total + _MEAN[q] * value
                first = first + _SLOPE[q] * value
            mean = mean + largest_effect * total
            slope = slope + largest_effect * first * inverse
    store(out, 3 * cell, mean)
    store(out, 3 * cell + 1, slope)
    store(out, 3 * cell + 2, kill)


@inner
def effect_of_cell_adjoint(
    heads,
    effects,
    cell,
    gap,
    n_cells,
    inverse,
    drivers,
    active,
    rates,
    theta,
    bar,
    drivers_bar,
    rates_bar,
    theta_bar,
):
    """Add the derivatives by drivers, infusion rates and effect parameters of one cell."""
    mean_bar = load(bar, 3 * cell)
    slope_bar = load(bar, 3 * cell + 1)
    kill_bar = load(bar, 3 * cell + 2)
    for k in range(effects.shape[0]):
        kind = effects[k, 0]
        if kind == KILL:
            own = effects[k, 1]
            at = gap * effects.shape[0] + k
            add(theta_bar, own, kill_bar * load(rates, at))
            add(rates_bar, at, kill_bar * load(theta, own))
            continue
        if kind == NO_EFFECT or active[k * n_cells + cell] == 0:
            continue
        at = heads[k, DRIVER_START] + cell * heads[k, DRIVER_SIZE]
        if kind == LINEAR:
            own = effects[k, 1]
            size = load(theta, own)
            total = mean_bar * load(drivers, at) + slope_bar * load(drivers, at + 1)
            add(theta_bar, own, total)
            add(drivers_bar, at, size * mean_bar)
            add(drivers_bar, at + 1, size * slope_bar)
            continue
        if heads[k, MOMENTS] > 0:
            at += 2
        emax, half = effects[k, 1], effects[k, 2]
        largest_effect, per_half = load(theta, emax), 1.0 / load(theta, half)
        emax_bar, plain_sum, hill_bar = splat(0.0), splat(0.0), splat(0.0)
        hill = load(theta, effects[k, 3])
        first_bar = slope_bar * inverse
        for q in range(4):
            bar_q = _MEAN[q] * mean_bar + _SLOPE[q] * first_bar
            driver = load(drivers, at + q)
            ratio, share = _ratio(driver, kind, per_half, hill)
            emax_bar = emax_bar + bar_q * ratio * share
            ratio_bar = bar_q * largest_effect * share * share
            plain = driver * per_half
            if kind == EMAX_HILL:
                floored = where_less(plain, _SMALLEST_RATIO, _SMALLEST_RATIO, plain)
                scaled = ratio_bar * ratio
                hill_bar = hill_bar + scaled * log(floored)
                plain_bar = where_less(plain, _SMALLEST_RATIO, 0.0, scaled * hill / floored)
            else:
                plain_bar = where_less(plain, 0.0, 0.0, ratio_bar)
            plain_sum = plain_sum + plain_bar * plain
            add(drivers_bar, at + q, plain_bar * per_half)
        half_bar = 0.0 - plain_sum * per_half
        add(theta_bar, emax, emax_bar)
        add(theta_bar, half, half_bar)
        if kind == EMAX_HILL:
            own = effects[k, 3]
            add(theta_bar, own, hill_bar)


@inlined
def _derivative(w, src, dst, n, effect, kill, rates):
    """Write the derivative at ``src`` to ``dst``; return log of feedback per gamma, it, pool."""
    ktr = load(rates, KTR_)
    z = load(w, src + n + 1)
    seen = where_less(z, FLOOR, FLOOR, z) + load(rates, SATURATION_)
    log_seen = log(seen) - load(rates, LOG_AT_ONE_)
    feedback = exp((0.0 - load(rates, GAMMA_)) * log_seen)
    pool = exp(load(w, src))
    rest = 1.0 - effect
    beyond = load(rates, KEEP_) * feedback + load(rates, OFF_)
    growth = rest * where_less(rest, 0.0, beyond, feedback)
    store(w, dst, ktr * (growth - 1.0) - kill)
    before = pool
    for i in range(1, n + 1):
        here = load(w, src + i)
        store(w, dst + i, ktr * (before - here))
        before = here
    store(w, dst + n + 1, load(rates, KC_) * (before - z))
    return log_seen, feedback, pool


@inlined
def _note(tape, at, stage, log_seen, feedback, pool):
    store(tape, at + 3 * stage, log_seen)
    store(tape, at + 3 * stage + 1, feedback)
    store(tape, at + 3 * stage + 2, pool)


@inner
def _node(w, n, rates, nodes, index):
    """Log of the scaled count and its slope at a node."""
    z = load(w, n + 1)
    floored = where_less(z, FLOOR, FLOOR, z)
    # the logarithm takes what is no number for a number: a march that broke off stays broken off
    store(nodes, 2 * index, log(floored) + (floored - floored))
    ratio = load(w, n) / floored
    store(nodes, 2 * index + 1, load(rates, KC_) * (ratio - 1.0))


@inner
def march(n, cells, index, lengths, last, moments, rates, w, nodes, tape, with_tape):
    """March a line over its cells; ``nodes`` gets log count and slope at the cell edges."""
    size = n + 2
    stride = size + 12
    stage, total, change = size, 2 * size, 3 * size
    z0 = load(rates, Z0_)
    store(w, 0, log(z0))
    for i in range(1, size):
        store(w, i, z0)
    cell = ZERO
    for gap in range(cells.size):
        h = load(lengths, index[gap])
        half, sixth, third = 0.5 * h, h * (1.0 / 6.0), h * (1.0 / 3.0)
        for _ in range(cells[gap]):
            if cell >= last:
                break
            mean = load(moments, 3 * cell)
            rise = half * load(moments, 3 * cell + 1)
            kill = load(moments, 3 * cell + 2)
            at = cell * stride
            if with_tape:
                for i in range(size):
                    store(tape, at + i, load(w, i))
                at += size
            a, f, p = _derivative(w, ZERO, change, n, mean - rise, kill, rates)
            _node(w, n, rates, nodes, cell)
            if with_tape:
                _note(tape, at, 0, a, f, p)
            for i in range(size):
                y, d = load(w, i), load(w, change + i)
                store(w, total + i, y + sixth * d)
                store(w, stage + i, y + half * d)
            a, f, p = _derivative(w, stage, change, n, mean, kill, rates)
            if with_tape:
                _note(tape, at, 1, a, f, p)
            for i in range(size):
                d = load(w, change + i)
                add(w, total + i, third * d)
                store(w, stage + i, load(w, i) + half * d)
            a, f, p = _derivative(w, stage, change, n, mean, kill, rates)
            if with_tape:
                _note(tape, at, 2, a, f, p)
            for i in range(size):
                d = load(w, change + i)
                add(w, total + i, third * d)
                store(w, stage + i, load(w, i) + h * d)
            a, f, p = _derivative(w, stage, change, n, mean + rise, kill, rates)
            if with_tape:
                _note(tape, at, 3, a, f, p)
            for i in range(size):
                store(w, i, load(w, total + i) + sixth * load(w, change + i))
            cell += 1
    _node(w, n, rates, nodes, cell)


@inlined
def _derivative_adjoint(w, src, v, out, n, effect, tape, at, rates, rates_bar):
    """Write to ``out`` the derivative by the state, given that by the derivative in ``v``.

    Returns the derivatives by the effect and the kill.
    """
    ktr, kc, gamma = load(rates, KTR_), load(rates, KC_), load(rates, GAMMA_)
    log_seen, feedback, pool = load(tape, at), load(tape, at + 1), load(tape, at + 2)
    z = load(w, src + n + 1)
    seen = z + load(rates, SATURATION_)
    rest = 1.0 - effect
    keep = load(rates, KEEP_)
    factor = where_less(rest, 0.0, keep * feedback + load(rates, OFF_), feedback)
    vp = load(w, v)
    growth_bar = ktr * vp
    ktr_bar = vp * (rest * factor - 1.0)
    feedback_bar = growth_bar * rest * where_less(rest, 0.0, keep, 1.0) * feedback
    subtract(rates_bar, GAMMA_, feedback_bar * log_seen)
    z_bar = where_greater(z, FLOOR, (0.0 - gamma) * feedback_bar / seen, 0.0)
    vt = load(w, v + 1)
    store(w, out, ktr * pool * vt)
    before = pool
    for i in range(1, n + 1):
        here = load(w, src + i)
        ktr_bar = ktr_bar + vt * (before - here)
        if i < n:
            following = load(w, v + i + 1)
            store(w, out + i, ktr * (following - vt))
            vt = following
        before = here
    vz = load(w, v + n + 1)
    store(w, out + n, kc * vz - ktr * vt)
    store(w, out + n + 1, z_bar - kc * vz)
    add(rates_bar, KTR_, ktr_bar)
    add(rates_bar, KC_, vz * (before - z))
    return 0.0 - growth_bar * factor, 0.0 - vp


@inlined
def _stage(w, dst, n, y, change, factor):
    for i in range(n + 2):
        store(w, dst + i, load(w, y + i) + factor * load(w, change + i))


@inlined
def _rebuild(w, src, dst, n, effect, kill, tape, at, rates):
    """Form the derivative at ``src`` from the logs and exponentials on the tape."""
    ktr = load(rates, KTR_)
    feedback = load(tape, at + 1)
    rest = 1.0 - effect
    beyond = load(rates, KEEP_) * feedback + load(rates, OFF_)
    growth = rest * where_less(rest, 0.0, beyond, feedback)
    store(w, dst, ktr * (growth - 1.0) - kill)
    before = load(tape, at + 2)
    for i in range(1, n + 1):
        here = load(w, src + i)
        store(w, dst + i, ktr * (before - here))
        before = here
    store(w, dst + n + 1, load(rates, KC_) * (before - load(w, src + n + 1)))


@inner
def _node_adjoint(y_tape, at, n, kc, nodes_bar, index, w, bar, rates_bar):
    """Add the derivative of a node's log count and slope to that by the state."""
    log_bar, slope_bar = load(nodes_bar, 2 * index), load(nodes_bar, 2 * index + 1)
    z, t = load(y_tape, at + n + 1), load(y_tape, at + n)
    floored = where_less(z, FLOOR, FLOOR, z)
    inverse = 1.0 / floored
    ratio = t * inverse
    add(rates_bar, KC_, slope_bar * (ratio - 1.0))
    scaled = kc * slope_bar * inverse
    add(w, bar + n, scaled)
    change = where_greater(z, FLOOR, log_bar * inverse - scaled * ratio, 0.0)
    add(w, bar + n + 1, change)


@inner
def march_adjoint(
    n, cells, index, lengths, last, moments, rates, w, nodes_bar, tape, moments_bar, rates_bar
):
    """Adjoint of `march`: derivatives by the effect of each cell and by the rates of the line."""
    size = n + 2
    stride = size + 12
    # places in the work array: four stages, four derivatives, then adjoints
    y1, y2, y3, y4 = ZERO, size, 2 * size, 3 * size
    d1, d2, d3 = 4 * size, 5 * size, 6 * size
    bar, v, out, total = 7 * size, 8 * size, 9 * size, 10 * size
    kc = load(rates, KC_)
    for i in range(size):
        store(w, bar + i, splat(0.0))
    # the last node has no cell after it: its state was left at the start of the work array
    _node_adjoint(w, ZERO, n, kc, nodes_bar, last, w, bar, rates_bar)
    cell = ZERO
    for gap in range(cells.size):
        cell += cells[gap]
    for gap in range(cells.size - 1, -1, -1):
        h = load(lengths, index[gap])
        half, sixth, third = 0.5 * h, h * (1.0 / 6.0), h * (1.0 / 3.0)
        for _ in range(cells[gap]):
            cell -= 1
            if cell >= last:
                continue
            base = cell * stride
            at = base + size
            mean = load(moments, 3 * cell)
            rise = half * load(moments, 3 * cell + 1)
            kill = load(moments, 3 * cell + 2)
            first, final = mean - rise, mean + rise
            for i in range(size):
                store(w, y1 + i, load(tape, base + i))
            _rebuild(w, y1, d1, n, first, kill, tape, at, rates)
            _stage(w, y2, n, y1, d1, half)
            _rebuild(w, y2, d2, n, mean, kill, tape, at + 3, rates)
            _stage(w, y3, n, y1, d2, half)
            _rebuild(w, y3, d3, n, mean, kill, tape, at + 6, rates)
            _stage(w, y4, n, y1, d3, h)

            for i in range(size):
                b = load(w, bar + i)
                store(w, total + i, b)
                store(w, v + i, sixth * b)
            e4, k4 = _derivative_adjoint(w, y4, v, out, n, final, tape, at + 9, rates, rates_bar)
            for i in range(size):
                o = load(w, out + i)
                add(w, total + i, o)
                store(w, v + i, third * load(w, bar + i) + h * o)
            e3, k3 = _derivative_adjoint(w, y3, v, out, n, mean, tape, at + 6, rates, rates_bar)
            for i in range(size):
                o = load(w, out + i)
                add(w, total + i, o)
                store(w, v + i, third * load(w, bar + i) + half * o)
            e2, k2 = _derivative_adjoint(w, y2, v, out, n, mean, tape, at + 3, rates, rates_bar)
            for i in range(size):
                o = load(w, out + i)
                add(w, total + i, o)
                store(w, v + i, sixth * load(w, bar + i) + half * o)
            e1, k1 = _derivative_adjoint(w, y1, v, out, n, first, tape, at, rates, rates_bar)
            for i in range(size):
                store(w, bar + i, load(w, total + i) + load(w, out + i))
            store(moments_bar, 3 * cell, e1 + e2 + e3 + e4)
            store(moments_bar, 3 * cell + 1, half * (e4 - e1))
            store(moments_bar, 3 * cell + 2, k1 + k2 + k3 + k4)
            _node_adjoint(tape, base, n, kc, nodes_bar, cell, w, bar, rates_bar)
    z0 = load(rates, Z0_)
    z0_bar = load(w, bar) / z0
    for i in range(1, size):
        z0_bar = z0_bar + load(w, bar + i)
    add(rates_bar, Z0_, z0_bar)


WORK_PER_STATE = 11
"""Vectors of work array per state that `march_adjoint` needs."""
