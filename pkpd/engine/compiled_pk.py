"""Compiled linear pharmacokinetics: the sums of `pkpd.engine.uniformisation`, with their adjoint.

A structure is turned into a *program*: lists of index triples that say which product is added to
which entry. One kernel then runs every structure, so nothing is compiled anew for a new model.
Vectors of lanes are values of `pkpd.engine.lanes`; arrays are flat, indices count vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pkpd.engine.lanes import exp, largest, load, splat, store, where_greater
from pkpd.engine.linear import NODES, LinearPK
from pkpd.engine.uniformisation import pattern_of

IntArray = NDArray[np.int32]

# columns of a drug's header: sizes, then (offset, count) of its lists in the shared code array
(
    KIND,
    N,
    SLOTS,
    OUTPUT,
    EDGES,
    RATES,
    TERMS,
    N_TERMS,
    POWER,
    N_POWER,
    COMPOSE,
    N_COMPOSE,
    ENTRIES,
    N_ENTRIES,
    ROW,
    COLUMN,
    ONES,
    N_ONES,
    OUTFLOW,
    N_OUTFLOW,
    FACTORS,
    N_FACTORS,
    F_ROW,
    INFUSED,
    MOMENTS,
    AT_NODES,
    DEGREE,
    COEF_SIZE,
    COEF_START,
    DRIVER_SIZE,
    DRIVER_START,
    STATE_START,
    HEADER,
) = range(33)

LINEAR_PK, DIRECT_KILL = 0, 1
_RADIUS = 0.5
_DOUBLINGS = 16
_N0, _N1, _N2, _N3 = (float(v) for v in NODES)


@dataclass(frozen=True, eq=False)
class Program:
    """Index lists of one drug."""

    header: IntArray
    code: IntArray


def _rate_table(pk: LinearPK):
    """Rates as products of powers of parameters, and where each enters the rate matrix."""
    central = pk.n_absorption
    rates: list[dict[str, int]] = []
    inflow: list[tuple[int, int, int]] = []  # (target, source, rate)
    outflow: list[tuple[int, int]] = []  # (state, rate)

    def add(powers: dict[str, int], source: int, targets: tuple[int, ...], leaves: bool = True):
        rates.append(powers)
        inflow.extend((target, source, len(rates) - 1) for target in targets)
        if leaves:
            outflow.append((source, len(rates) - 1))

    if pk.absorption is not None:
        rates.append({"KTR" if pk.absorption else "ka": 1})
        for i in range(central):
            inflow.append((i + 1, i, 0))
            outflow.append((i, 0))
    add({"CL": 1, "V1": -1}, central, ())
    for i, (flow, volume) in enumerate((("Q", "V2"), ("Q3", "V3"))[: pk.compartments - 1], start=1):
        add({flow: 1, "V1": -1}, central, (central + i,))
        add({flow: 1, volume: -1}, central + i, (central,))
    if pk.effect_site:
        site = pk.n_states - 1
        add({"k_in": 1, "per_umol": 1, "V1": -1}, central, (site,), leaves=False)
        add({"k_out": 1}, site, ())
    scale: dict[str, int] = {}
    if not pk.effect_site:
        scale = {"per_umol": 1, "V1": -1} if pk.unit == "umol/L" else {"V1": -1}
    return rates, inflow, sorted(outflow), scale


def program(pk: LinearPK, row: dict[str, int]) -> Program:
    """Index lists of a linear structure.

    Parameters
    ----------
    pk
        The structure.
    row
        Row of ``theta`` of each parameter, ``"F"`` among them.
    """
    rates, inflow, outflow, scale = _rate_table(pk)
    n, central = pk.n_states, pk.n_absorption
    output = n - 1 if pk.effect_site else central
    edges = tuple(sorted({(source, target) for target, source, _ in inflow}))
    pattern = pattern_of(n, edges, central)
    slot, representative = pattern.slot, pattern.representative
    matrix = sorted({(t, s) for t, s, _ in inflow} | {(i, i) for i in range(n)})
    edge = {place: e for e, place in enumerate(matrix)}
    terms = [(edge[(t, s)], r, 1) for t, s, r in inflow]
    terms += [(edge[(i, i)], r, -1) for i, r in outflow]
    # the shift goes on the diagonal; rate -1 stands for it
    terms += [(edge[(i, i)], -1, 1) for i in range(n)]
    power = [
        (o, slot[i][m], edge[(m, k)])
        for o, (i, k) in enumerate(representative)
        for m in range(n)
        if (m, k) in edge and slot[i][m] >= 0
    ]
    products = [
        (o, slot[i][j], slot[j][k])
        for o, (i, k) in enumerate(representative)
        for j in range(n)
        if slot[i][j] >= 0 and slot[j][k] >= 0
    ]
    entries = [(i, j, slot[i][j]) for i in range(n) for j in range(n) if slot[i][j] >= 0]
    factors = [
        (r, row[name], sign)
        for r, powers in enumerate([*rates, scale])
        for name, sign in powers.items()
    ]
    header = np.zeros(HEADER, dtype=np.int32)
    header[[KIND, N, SLOTS, OUTPUT, EDGES, RATES]] = (
        LINEAR_PK,
        n,
        len(representative),
        output,
        len(matrix),
        len(rates),
    )
    header[F_ROW] = row["F"]
    header[DEGREE] = max(12, n + 9)
    code: list[int] = []

    def put(offset: int, rows, count: int | None = None) -> None:
        header[offset] = len(code)
        if count is not None:
            header[count] = len(rows)
        code.extend(int(v) for item in rows for v in (item if isinstance(item, tuple) else (item,)))

    put(TERMS, terms, N_TERMS)
    put(POWER, power, N_POWER)
    put(COMPOSE, products, N_COMPOSE)
    put(ENTRIES, entries, N_ENTRIES)
    put(ROW, [slot[output][j] for j in range(n)])
    put(COLUMN, [slot[i][0] for i in range(n)])
    put(ONES, list(pattern.diagonal), N_ONES)
    put(OUTFLOW, outflow, N_OUTFLOW)
    put(FACTORS, factors, N_FACTORS)
    return Program(header, np.array(code, dtype=np.int32))


def direct_kill_program(row: dict[str, int]) -> Program:
    """Header of a drug without pharmacokinetics."""
    header = np.zeros(HEADER, dtype=np.int32)
    header[KIND], header[F_ROW] = DIRECT_KILL, row["F"]
    return Program(header, np.zeros(0, dtype=np.int32))


def shift_code(header: IntArray, by: int) -> IntArray:
    """Header for a program whose code starts at ``by`` in a joint code array."""
    out = header.copy()
    out[[TERMS, POWER, COMPOSE, ENTRIES, ROW, COLUMN, ONES, OUTFLOW, FACTORS]] += by
    return out


def tape_size(header: IntArray) -> int:
    """Vectors of scratch that `evaluate` and its adjoint need together."""
    n, slots, edges, degree = (int(header[c]) for c in (N, SLOTS, EDGES, DEGREE))
    level = slots + 4 * n
    forward = edges + degree + 3 + (degree + 1) * slots + (_DOUBLINGS + 1) * level
    return forward + 2 * level + edges + 2 * slots


@njit(cache=True)
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


@njit(cache=True)
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
                if code[start + 3 * g + 2] > 0:
                    rest = rest * value
                else:
                    rest = rest / value
        own = code[at + 1]
        if code[at + 2] < 0:
            value = load(theta, own)
            rest = 0.0 - rest / (value * value)
        store(theta_bar, own, load(theta_bar, own) + rest)


@njit(cache=True)
def _shape(code, head, rates, h):
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
    while reach > 1.0 and doublings < _DOUBLINGS:
        reach *= 0.5
        factor *= 0.5
        doublings += 1
    return sigma, doublings, h * factor


@njit(cache=True)
def evaluate(code, head, rates, h, with_rate, n_moments, tape):
    """Transition matrix, response to a rate, and moments of the output in time.

    Everything stays on ``tape`` for the adjoint. Returns the index of the last level, which holds
    ``phi`` (slots), ``psi`` (n), and the moments 0, 1, 2 (n each).
    """
    n, slots, degree = head[N], head[SLOTS], head[DEGREE]
    sigma, doublings, step = _shape(code, head, rates, h)
    x = sigma * step
    decay = exp(0.0 - x)
    moments_at = head[EDGES]
    power_at = moments_at + degree + 3
    level = power_at + (degree + 1) * slots
    size = slots + 4 * n
    psi, w0, w1, w2 = slots, slots + n, slots + 2 * n, slots + 3 * n

    for e in range(head[EDGES]):
        store(tape, e, splat(0.0))
    for t in range(head[N_TERMS]):
        at = head[TERMS] + 3 * t
        e, r = code[at], code[at + 1]
        if r < 0:
            store(tape, e, load(tape, e) + x)
        elif code[at + 2] > 0:
            store(tape, e, load(tape, e) + load(rates, r) * step)
        else:
            store(tape, e, load(tape, e) - load(rates, r) * step)

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
            store(tape, level + s, load(tape, level + s) + load(tape, here + s))
        if with_rate:
            factor = load(tape, moments_at + j)
            for i in range(n):
                s = code[head[COLUMN] + i]
                if s >= 0:
                    at = level + psi + i
                    store(tape, at, load(tape, at) + factor * load(tape, here + s))
        if n_moments > 0:
            f0 = load(tape, moments_at + j)
            f1 = load(tape, moments_at + j + 1)
            f2 = load(tape, moments_at + j + 2)
            for i in range(n):
                s = code[head[ROW] + i]
                if s >= 0:
                    p = load(tape, here + s)
                    at = level + i
                    store(tape, at + w0, load(tape, at + w0) + f0 * p)
                    store(tape, at + w1, load(tape, at + w1) + f1 * p)
                    if n_moments > 2:
                        store(tape, at + w2, load(tape, at + w2) + f2 * p)
        if j < degree:
            _next_power(code, head, tape, here, here + slots, 1.0 / (j + 1))

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


@njit(cache=True)
def _next_power(code, head, tape, old, new, factor):
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


@njit(cache=True)
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
            store(tape, where, load(tape, where) + phi * load(tape, old + psi + j))
        if n_moments > 0:
            v0 = load(tape, old + w0 + i)
            v1 = load(tape, old + w1 + i)
            where = new + w0 + j
            store(tape, where, load(tape, where) + v0 * phi)
            where = new + w1 + j
            store(tape, where, load(tape, where) + (v1 + length * v0) * phi)
            if n_moments > 2:
                v2 = load(tape, old + w2 + i) + length * (2.0 * v1 + length * v0)
                where = new + w2 + j
                store(tape, where, load(tape, where) + v2 * phi)


@njit(cache=True)
def evaluate_adjoint(code, head, rates, h, with_rate, n_moments, tape, bar, rates_bar):
    """Add the derivative by the rates, given that by the last level in ``bar`` (overwritten).

    ``tape`` is that of `evaluate` with the same arguments.
    """
    n, slots, degree = head[N], head[SLOTS], head[DEGREE]
    sigma, doublings, step = _shape(code, head, rates, h)
    decay = exp(0.0 - sigma * step)
    moments_at = head[EDGES]
    power_at = moments_at + degree + 3
    level = power_at + (degree + 1) * slots
    size = slots + 4 * n
    psi, w0, w1, w2 = slots, slots + n, slots + 2 * n, slots + 3 * n
    scratch = level + (_DOUBLINGS + 1) * size
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
                    store(tape, at, load(tape, at) + factor * load(bar, psi + i))
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
                    store(tape, at, load(tape, at) + total)
        if j < degree:
            factor = 1.0 / (j + 1)
            for t in range(head[N_POWER]):
                at = head[POWER] + 3 * t
                s, e = code[at + 1], code[at + 2]
                o_bar = load(tape, following + code[at]) * factor
                where = current + s
                store(tape, where, load(tape, where) + o_bar * load(tape, e))
                where = edge_bar + e
                store(tape, where, load(tape, where) + o_bar * load(tape, here + s))
        current, following = following, current

    for t in range(head[N_TERMS]):
        at = head[TERMS] + 3 * t
        e, r = code[at], code[at + 1]
        if r >= 0:
            change = load(tape, edge_bar + e) * step
            if code[at + 2] > 0:
                store(rates_bar, r, load(rates_bar, r) + change)
            else:
                store(rates_bar, r, load(rates_bar, r) - change)


@njit(cache=True)
def _double_adjoint(code, head, tape, old, length, with_rate, n_moments, bar, out):
    """Derivative by the level at ``old`` from that by the next, in place in ``bar``."""
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
        store(tape, out + a, load(tape, out + a) + o_bar * load(tape, old + b))
        store(tape, out + b, load(tape, out + b) + o_bar * load(tape, old + a))
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
            store(tape, where, load(tape, where) + phi * psi_bar)
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
                store(tape, where, load(tape, where) + b2 * phi)
            where = out + w0 + i
            store(tape, where, load(tape, where) + g0)
            where = out + w1 + i
            store(tape, where, load(tape, where) + g1)
        store(tape, out + s, phi_bar)
    for s in range(slots + 4 * n):
        store(bar, s, load(tape, out + s))


@njit(cache=True)
def _inverse(h):
    return where_greater(h, 0.0, 1.0 / where_greater(h, 0.0, h, 1.0), 0.0)


@njit(cache=True)
def coefficients(code, head, rates, h, tape, coef, at):
    """Coefficients of one cell length, written to ``coef`` from ``at``.

    Order: ``phi`` (slots), ``psi`` (n); if moments are wanted, mean (n), slope (n), mean and slope
    per unit rate; if nodes are wanted, for each node the output per state (n) and per unit rate.
    """
    n, slots = head[N], head[SLOTS]
    infused = head[INFUSED] > 0
    n_moments = 0
    if head[MOMENTS] > 0:
        n_moments = 3 if infused else 2
    level = evaluate(code, head, rates, h, infused, n_moments, tape)
    for i in range(slots + n):
        store(coef, at + i, load(tape, level + i))
    at += slots + n
    if head[MOMENTS] > 0:
        inverse = _inverse(h)
        cubed = 12.0 * inverse * inverse * inverse
        half = 0.5 * h
        w0, w1, w2 = level + slots + n, level + slots + 2 * n, level + slots + 3 * n
        for i in range(n):
            v0, v1 = load(tape, w0 + i), load(tape, w1 + i)
            store(coef, at + i, v0 * inverse)
            store(coef, at + n + i, cubed * (v1 - half * v0))
        first = h * load(tape, w0) - load(tape, w1)
        second = 0.5 * (h * h * load(tape, w0) - load(tape, w2))
        store(coef, at + 2 * n, first * inverse)
        store(coef, at + 2 * n + 1, cubed * (second - half * first))
        at += 2 * n + 2
    if head[AT_NODES] > 0:
        for q in range(4):
            level = evaluate(code, head, rates, h * _node(q), infused, 0, tape)
            for i in range(n):
                s = code[head[ROW] + i]
                store(coef, at + i, load(tape, level + s) if s >= 0 else splat(0.0))
            store(coef, at + n, load(tape, level + slots + head[OUTPUT]))
            at += n + 1


@njit(cache=True)
def _node(q):
    if q == 0:
        return _N0
    if q == 1:
        return _N1
    return _N2 if q == 2 else _N3


@njit(cache=True)
def coefficients_adjoint(code, head, rates, h, tape, coef_bar, at, bar, rates_bar):
    """Add the derivative by the rates, given that by the coefficients of one cell length."""
    n, slots = head[N], head[SLOTS]
    infused = head[INFUSED] > 0
    n_moments = 0
    if head[MOMENTS] > 0:
        n_moments = 3 if infused else 2
    evaluate(code, head, rates, h, infused, n_moments, tape)
    for i in range(slots + 4 * n):
        store(bar, i, splat(0.0))
    for i in range(slots + n):
        store(bar, i, load(coef_bar, at + i))
    at += slots + n
    if head[MOMENTS] > 0:
        inverse = _inverse(h)
        cubed = 12.0 * inverse * inverse * inverse
        half = 0.5 * h
        w0, w1, w2 = slots + n, slots + 2 * n, slots + 3 * n
        for i in range(n):
            mean_bar, slope_bar = load(coef_bar, at + i), load(coef_bar, at + n + i)
            store(bar, w0 + i, mean_bar * inverse - cubed * half * slope_bar)
            store(bar, w1 + i, cubed * slope_bar)
        if infused:
            second_bar = cubed * load(coef_bar, at + 2 * n + 1)
            first_bar = load(coef_bar, at + 2 * n) * inverse - half * second_bar
            extra = h * first_bar + 0.5 * h * h * second_bar
            store(bar, w0, load(bar, w0) + extra)
            store(bar, w1, load(bar, w1) - first_bar)
            store(bar, w2, load(bar, w2) - 0.5 * second_bar)
        at += 2 * n + 2
    evaluate_adjoint(code, head, rates, h, infused, n_moments, tape, bar, rates_bar)
    if head[AT_NODES] > 0:
        for q in range(4):
            length = h * _node(q)
            evaluate(code, head, rates, length, infused, 0, tape)
            for i in range(slots + 4 * n):
                store(bar, i, splat(0.0))
            for i in range(n):
                s = code[head[ROW] + i]
                if s >= 0:
                    store(bar, s, load(bar, s) + load(coef_bar, at + i))
            store(bar, slots + head[OUTPUT], load(coef_bar, at + n))
            evaluate_adjoint(code, head, rates, length, infused, 0, tape, bar, rates_bar)
            at += n + 1
