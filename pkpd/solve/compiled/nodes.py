"""Compiled output at the quadrature nodes of a cell from one series.

The powers of the rate matrix do not depend on where in the cell the exponential is wanted: with the
shift ``x = sigma h``, the output at the fraction ``u`` of the cell is ``exp(-x u) sum_j u^j P_j``
and the transition matrix is the same at ``u = 1``. For short cells (``x`` up to 3) this needs no
doubling and serves five places at the cost of one.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from pkpd.kinetics.quadrature import NODES
from pkpd.solve.bridge.lanes import ZERO, add, exp, largest, load, splat, store
from pkpd.solve.bridge.linking import inner
from pkpd.solve.compiled.program import EDGES, N_ONES, NODE_DEGREE, ONES, ROW, SLOTS, N
from pkpd.solve.compiled.transitions import (
    next_power,
    next_power_adjoint,
    series_shape,
    shifted_matrix,
    shifted_matrix_adjoint,
)

_LARGEST_SHIFT = 3.0
_N0, _N1, _N2, _N3 = (float(v) for v in NODES)


@inner
def node(q):
    """Position of quadrature node ``q`` in the cell."""
    if q == 0:
        return _N0
    if q == 1:
        return _N1
    return _N2 if q == 2 else _N3


@inner
def short_enough(code, head, rates, h):
    """Whether one series without doubling holds its digits for all lanes."""
    sigma, _, _ = series_shape(code, head, rates, h)
    return largest(sigma * h) <= _LARGEST_SHIFT


@inner
def _degree(head, x):
    """Terms until they fall below rounding, and enough to reach every state."""
    term, j = 1.0, 0
    while j < NODE_DEGREE and (term > 1e-17 or j < head[N] + 9):
        j += 1
        term *= x / j
    return j


@inner
def evaluate_nodes(code, head, rates, h, tape, coef, phi_at, at, with_phi):
    """Write the output rows at the nodes to ``coef`` from ``at``, and ``phi`` if wanted."""
    n, slots = head[N], head[SLOTS]
    sigma, _, _ = series_shape(code, head, rates, h)
    x = sigma * h
    degree = _degree(head, largest(x))
    shifted_matrix(code, head, rates, x, h, tape)
    here = ZERO + head[EDGES]
    for s in range(slots):
        store(tape, here + s, splat(0.0))
    for s in range(head[N_ONES]):
        store(tape, here + code[head[ONES] + s], splat(1.0))
    for q in range(4):
        for i in range(n + 1):
            store(coef, at + q * (n + 1) + i, splat(0.0))
    u0, u1, u2, u3 = 1.0, 1.0, 1.0, 1.0
    for j in range(degree + 1):
        if with_phi:
            for s in range(slots):
                add(coef, phi_at + s, load(tape, here + s))
        for i in range(n):
            s = code[head[ROW] + i]
            if s >= 0:
                p = load(tape, here + s)
                a = at + i
                add(coef, a, u0 * p)
                a += n + 1
                add(coef, a, u1 * p)
                a += n + 1
                add(coef, a, u2 * p)
                a += n + 1
                add(coef, a, u3 * p)
        u0, u1, u2, u3 = u0 * _N0, u1 * _N1, u2 * _N2, u3 * _N3
        if j < degree:
            next_power(code, head, tape, here, here + slots, 1.0 / (j + 1))
            here += slots
    if with_phi:
        decay = exp(0.0 - x)
        for s in range(slots):
            store(coef, phi_at + s, load(coef, phi_at + s) * decay)
    for q in range(4):
        decay = exp(0.0 - x * node(q))
        for i in range(n):
            a = at + q * (n + 1) + i
            store(coef, a, load(coef, a) * decay)


@inner
def evaluate_nodes_adjoint(code, head, rates, h, tape, coef_bar, phi_at, at, with_phi, rates_bar):
    """Add the derivative by the rates, given that by what `evaluate_nodes` writes."""
    n, slots = head[N], head[SLOTS]
    sigma, _, _ = series_shape(code, head, rates, h)
    x = sigma * h
    degree = _degree(head, largest(x))
    shifted_matrix(code, head, rates, x, h, tape)
    here = ZERO + head[EDGES]
    for s in range(slots):
        store(tape, here + s, splat(0.0))
    for s in range(head[N_ONES]):
        store(tape, here + code[head[ONES] + s], splat(1.0))
    for j in range(degree):
        next_power(code, head, tape, here, here + slots, 1.0 / (j + 1))
        here += slots
    edge_bar = here + slots
    current = edge_bar + head[EDGES]
    following = current + slots
    for e in range(head[EDGES]):
        store(tape, edge_bar + e, splat(0.0))
    d = exp(0.0 - x)
    d0, d1 = exp(0.0 - x * _N0), exp(0.0 - x * _N1)
    d2, d3 = exp(0.0 - x * _N2), exp(0.0 - x * _N3)
    for j in range(degree, -1, -1):
        for s in range(slots):
            store(tape, current + s, d * load(coef_bar, phi_at + s) if with_phi else splat(0.0))
        f0, f1, f2, f3 = d0 * _N0**j, d1 * _N1**j, d2 * _N2**j, d3 * _N3**j
        for i in range(n):
            s = code[head[ROW] + i]
            if s >= 0:
                a = at + i
                total = f0 * load(coef_bar, a) + f1 * load(coef_bar, a + n + 1)
                a += 2 * (n + 1)
                total = total + f2 * load(coef_bar, a) + f3 * load(coef_bar, a + n + 1)
                add(tape, current + s, total)
        if j < degree:
            factor = 1.0 / (j + 1)
            next_power_adjoint(code, head, tape, here, current, following, edge_bar, factor)
        current, following = following, current
        here -= slots
    shifted_matrix_adjoint(code, head, h, tape, edge_bar, rates_bar)
