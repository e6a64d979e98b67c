"""Compiled transition matrices: the sums of `pkpd.kinetics.uniformisation`, with their adjoint.

Runs the programs of `pkpd.solve.compiled.program`. Vectors of lanes are values of
`pkpd.solve.bridge.lanes`; arrays are flat, indices count vectors.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from pkpd.solve.bridge.lanes import add, exp, largest, load, splat, store, subtract, where_greater
from pkpd.solve.bridge.linking import inner
from pkpd.solve.compiled.program import (
    COLUMN,
    COMPOSE,
    DEGREE,
    DOUBLINGS,
    EDGES,
    ENTRIES,
    FACTORS,
    N_COMPOSE,
    N_ENTRIES,
    N_FACTORS,
    N_ONES,
    N_OUTFLOW,
    N_POWER,
    N_TERMS,
    ONES,
    OUTFLOW,
    POWER,
    RATES,
    ROW,
    SLOTS,
    TERMS,
    N,
)

_RADIUS = 0.5  # largest outflow times length the series is summed for
_NO_ANSWER = float("nan")


@inner
def monomials(code, head, theta, rates):
    """Rates of a drug, and last the factor of its driver, from the parameters."""
    n = head[RATES] + 1
    for r in range(n):
        store(rates, r, splat(1.0))
    start = head[FACTORS]
    for f in range(head[N_FACTORS]):
        at = start + 3 * f
        value = load(theta, code[at + 1])
        r = code[at]
        if code[at + 2] > 0:
            store(rates, r, load(rates, r) * value)
        else:
            store(rates, r, load(rates, r) / value)


@inner
def monomials_adjoint(code, head, theta, rates, rates_bar, theta_bar):
    """Add the derivative by the parameters; a factor of zero is left out, not divided by."""
    start = head[FACTORS]
    count = head[N_FACTORS]
    for f in range(count):
        at = start + 3 * f
        r = code[at]
        rest = load(rates_bar, r)
        for g in range(count):
            if g != f and code[start + 3 * g] == r:
                value = load(theta, code[start + 3 * g + 1])
                rest = rest * value if code[start + 3 * g + 2] > 0 else rest / value
        own = code[at + 1]
        if code[at + 2] < 0:
            value = load(theta, own)
            rest = 0.0 - rest / (value * value)
        add(theta_bar, own, rest)


@inner
def series_shape(code, head, rates, h):
    """Shift, number of doublings, and length the series is summed for."""
    sigma = splat(0.0)
    flow = splat(0.0)
    state = -1
    start = head[OUTFLOW]
    for f in range(head[N_OUTFLOW]):
        if code[start + 2 * f] != state:
            state = code[start + 2 * f]
            flow = splat(0.0)
        flow = flow + load(rates, code[start + 2 * f + 1])
        sigma = where_greater(flow, sigma, flow, sigma)
    reach = largest(sigma * h) / _RADIUS
    doublings = 0
    factor = 1.0
    while reach > 1.0 and doublings < DOUBLINGS:
        reach *= 0.5
        factor *= 0.5
        doublings += 1
    # beyond them a series cut short would look like an answer
    sigma = where_greater(sigma * (h * factor), splat(_RADIUS), splat(_NO_ANSWER), sigma)
    return sigma, doublings, h * factor


@inner
def shifted_matrix(code, head, rates, x, step, tape):
    """Write the entries of ``(A + sigma I) step`` to the start of the tape."""
    for e in range(head[EDGES]):
        store(tape, e, splat(0.0))
    for t in range(head[N_TERMS]):
        at = head[TERMS] + 3 * t
        e, r = code[at], code[at + 1]
        if r < 0:
            add(tape, e, x)
        elif code[at + 2] > 0:
            add(tape, e, load(rates, r) * step)
        else:
            subtract(tape, e, load(rates, r) * step)


@inner
def shifted_matrix_adjoint(code, head, step, tape, edge_bar, rates_bar):
    """Add the derivative by the rates, given that by the entries; the shift has none."""
    for t in range(head[N_TERMS]):
        at = head[TERMS] + 3 * t
        e, r = code[at], code[at + 1]
        if r >= 0:
            change = load(tape, edge_bar + e) * step
            if code[at + 2] > 0:
                add(rates_bar, r, change)
            else:
                subtract(rates_bar, r, change)


@inner
def next_power_adjoint(code, head, tape, here, current, following, edge_bar, factor):
    """Add the derivatives by a power and by the matrix, given that by the following power."""
    for t in range(head[N_POWER]):
        at = head[POWER] + 3 * t
        s, e = code[at + 1], code[at + 2]
        o_bar = load(tape, following + code[at]) * factor
        where = current + s
        add(tape, where, o_bar * load(tape, e))
        where = edge_bar + e
        add(tape, where, o_bar * load(tape, here + s))


@inner
def evaluate(code, head, rates, h, with_rate, n_moments, tape):
    """Transition matrix, response to a rate, and moments of the output in time.

    Everything stays on ``tape`` for the adjoint. Returns the index of the last level, which holds
    ``phi`` (slots), ``psi`` (n), and the moments 0, 1, 2 (n each).
    """
    n, slots, degree = head[N], head[SLOTS], head[DEGREE]
    sigma, doublings, step = series_shape(code, head, rates, h)
    x = sigma * step
    decay = exp(0.0 - x)
    moments_at = head[EDGES]
    power_at = moments_at + degree + 3
    level = power_at + (degree + 1) * slots
    size = slots + 4 * n
    psi, w0, w1, w2 = slots, slots + n, slots + 2 * n, slots + 3 * n

    shifted_matrix(code, head, rates, x, step, tape)
    integrals = with_rate or n_moments > 0
    if integrals:
        top = degree + 2
        series = splat(1.0 / (top + 1))
        term = series
        for i in range(1, 12):
            term = term * x * (1.0 / (top + 1 + i))
            series = series + term
        value = decay * series
        store(tape, moments_at + top, value)
        for j in range(top, 0, -1):
            value = (x * value + decay) * (1.0 / j)
            store(tape, moments_at + j - 1, value)

    for s in range(size):
        store(tape, level + s, splat(0.0))
    for s in range(slots):
        store(tape, power_at + s, splat(0.0))
    for s in range(head[N_ONES]):
        store(tape, power_at + code[head[ONES] + s], splat(1.0))
    for j in range(degree + 1):
        here = power_at + j * slots
        for s in range(slots):
            add(tape, level + s, load(tape, here + s))
        if with_rate:
            factor = load(tape, moments_at + j)
            for i in range(n):
                s = code[head[COLUMN] + i]
                if s >= 0:
                    at = level + psi + i
                    add(tape, at, factor * load(tape, here + s))
        if n_moments > 0:
            f0 = load(tape, moments_at + j)
            f1 = load(tape, moments_at + j + 1)
            f2 = load(tape, moments_at + j + 2)
            for i in range(n):
                s = code[head[ROW] + i]
                if s >= 0:
                    p = load(tape, here + s)
                    at = level + i
                    add(tape, at + w0, f0 * p)
                    add(tape, at + w1, f1 * p)
                    if n_moments > 2:
                        add(tape, at + w2, f2 * p)
        if j < degree:
            next_power(code, head, tape, here, here + slots, 1.0 / (j + 1))

    for s in range(slots):
        store(tape, level + s, load(tape, level + s) * decay)
    scale = step
    for q in range(1 if n_moments == 0 else 1 + n_moments):
        if q > 1:
            scale = scale * step
        for i in range(n):
            # psi and moment 0 carry one length, each further moment one more
            at = level + psi + q * n + i
            store(tape, at, load(tape, at) * scale)

    length = step
    for _ in range(doublings):
        _double(code, head, tape, level, level + size, length, with_rate, n_moments)
        length = length * 2.0
        level += size
    return level


@inner
def next_power(code, head, tape, old, new, factor):
    """Write ``factor`` times a power of the shifted matrix times that matrix."""
    for s in range(head[SLOTS]):
        store(tape, new + s, splat(0.0))
    start = head[POWER]
    count = head[N_POWER]
    t = 0
    while t < count:
        o = code[start + 3 * t]
        total = splat(0.0)
        while t < count and code[start + 3 * t] == o:
            a = load(tape, old + code[start + 3 * t + 1])
            total = total + a * load(tape, code[start + 3 * t + 2])
            t += 1
        store(tape, new + o, total * factor)


@inner
def _double(code, head, tape, old, new, length, with_rate, n_moments):
    n, slots = head[N], head[SLOTS]
    start = head[COMPOSE]
    count = head[N_COMPOSE]
    t = 0
    while t < count:
        o = code[start + 3 * t]
        total = splat(0.0)
        while t < count and code[start + 3 * t] == o:
            a = load(tape, old + code[start + 3 * t + 1])
            total = total + a * load(tape, old + code[start + 3 * t + 2])
            t += 1
        store(tape, new + o, total)
    entries = head[ENTRIES]
    psi, w0, w1, w2 = slots, slots + n, slots + 2 * n, slots + 3 * n
    for i in range(4 * n):
        store(tape, new + slots + i, load(tape, old + slots + i))
    for t in range(head[N_ENTRIES]):
        at = entries + 3 * t
        i, j = code[at], code[at + 1]
        phi = load(tape, old + code[at + 2])
        if with_rate:
            where = new + psi + i
            add(tape, where, phi * load(tape, old + psi + j))
        if n_moments > 0:
            v0 = load(tape, old + w0 + i)
            v1 = load(tape, old + w1 + i)
            where = new + w0 + j
            add(tape, where, v0 * phi)
            where = new + w1 + j
            add(tape, where, (v1 + length * v0) * phi)
            if n_moments > 2:
                v2 = load(tape, old + w2 + i) + length * (2.0 * v1 + length * v0)
                where = new + w2 + j
                add(tape, where, v2 * phi)


@inner
def evaluate_adjoint(code, head, rates, h, with_rate, n_moments, tape, bar, rates_bar):
    """Add the derivative by the rates, given that by the last level in ``bar`` (overwritten).

    ``tape`` is that of `evaluate` with the same arguments.
    """
    n, slots, degree = head[N], head[SLOTS], head[DEGREE]
    sigma, doublings, step = series_shape(code, head, rates, h)
    decay = exp(0.0 - sigma * step)
    moments_at = head[EDGES]
    power_at = moments_at + degree + 3
    level = power_at + (degree + 1) * slots
    size = slots + 4 * n
    psi, w0, w1, w2 = slots, slots + n, slots + 2 * n, slots + 3 * n
    scratch = level + (DOUBLINGS + 1) * size
    edge_bar = scratch + size
    power_bar = edge_bar + head[EDGES]

    level += doublings * size
    length = step
    for _ in range(doublings):
        length = length * 2.0
    for _ in range(doublings):
        level -= size
        length = length * 0.5
        _double_adjoint(code, head, tape, level, length, with_rate, n_moments, bar, scratch)

    # undo the scaling at the end of the series
    for s in range(slots):
        store(bar, s, load(bar, s) * decay)
    scale = step
    for q in range(1 if n_moments == 0 else 1 + n_moments):
        if q > 1:
            scale = scale * step
        for i in range(n):
            at = psi + q * n + i
            store(bar, at, load(bar, at) * scale)

    for e in range(head[EDGES]):
        store(tape, edge_bar + e, splat(0.0))
    current, following = power_bar, power_bar + slots
    for j in range(degree, -1, -1):
        here = power_at + j * slots
        for s in range(slots):
            store(tape, current + s, load(bar, s))
        if with_rate:
            factor = load(tape, moments_at + j)
            for i in range(n):
                s = code[head[COLUMN] + i]
                if s >= 0:
                    at = current + s
                    add(tape, at, factor * load(bar, psi + i))
        if n_moments > 0:
            f0 = load(tape, moments_at + j)
            f1 = load(tape, moments_at + j + 1)
            f2 = load(tape, moments_at + j + 2)
            for i in range(n):
                s = code[head[ROW] + i]
                if s >= 0:
                    total = f0 * load(bar, w0 + i) + f1 * load(bar, w1 + i)
                    if n_moments > 2:
                        total = total + f2 * load(bar, w2 + i)
                    at = current + s
                    add(tape, at, total)
        if j < degree:
            next_power_adjoint(code, head, tape, here, current, following, edge_bar, 1.0 / (j + 1))
        current, following = following, current

    shifted_matrix_adjoint(code, head, step, tape, edge_bar, rates_bar)


@inner
def _double_adjoint(code, head, tape, old, length, with_rate, n_moments, bar, out):
    """Turn the derivative by the next level into that by the level at ``old``, in place."""
    n, slots = head[N], head[SLOTS]
    psi, w0, w1, w2 = slots, slots + n, slots + 2 * n, slots + 3 * n
    for s in range(slots):
        store(tape, out + s, splat(0.0))
    for i in range(4 * n):
        store(tape, out + slots + i, load(bar, slots + i))
    start = head[COMPOSE]
    for t in range(head[N_COMPOSE]):
        at = start + 3 * t
        a, b = code[at + 1], code[at + 2]
        o_bar = load(bar, code[at])
        add(tape, out + a, o_bar * load(tape, old + b))
        add(tape, out + b, o_bar * load(tape, old + a))
    entries = head[ENTRIES]
    for t in range(head[N_ENTRIES]):
        at = entries + 3 * t
        i, j, s = code[at], code[at + 1], code[at + 2]
        phi = load(tape, old + s)
        phi_bar = load(tape, out + s)
        if with_rate:
            psi_bar = load(bar, psi + i)
            phi_bar = phi_bar + psi_bar * load(tape, old + psi + j)
            where = out + psi + j
            add(tape, where, phi * psi_bar)
        if n_moments > 0:
            v0 = load(tape, old + w0 + i)
            v1 = load(tape, old + w1 + i)
            b0 = load(bar, w0 + j)
            b1 = load(bar, w1 + j)
            phi_bar = phi_bar + b0 * v0 + b1 * (v1 + length * v0)
            g0 = (b0 + length * b1) * phi
            g1 = b1 * phi
            if n_moments > 2:
                b2 = load(bar, w2 + j)
                v2 = load(tape, old + w2 + i) + length * (2.0 * v1 + length * v0)
                phi_bar = phi_bar + b2 * v2
                g0 = g0 + (length * length) * b2 * phi
                g1 = g1 + (2.0 * length) * b2 * phi
                where = out + w2 + i
                add(tape, where, b2 * phi)
            where = out + w0 + i
            add(tape, where, g0)
            where = out + w1 + i
            add(tape, where, g1)
        store(tape, out + s, phi_bar)
    for s in range(slots + 4 * n):
        store(bar, s, load(tape, out + s))
