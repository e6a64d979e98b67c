"""Coefficients of one cell length of one drug, for all lanes of a block, and their adjoint.

Order in memory: transition matrix (slots), state per unit rate (n); if moments are wanted, mean (n)
and first moment (n) of the output per state, then both per unit rate; if nodes are wanted, for each
quadrature node the output per state (n) and per unit rate. All are per unit of the output state;
the factor that turns it into the driver is applied later.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from pkpd.solve.bridge.lanes import ZERO, add, load, splat, store, subtract, where_greater
from pkpd.solve.bridge.linking import inner
from pkpd.solve.compiled.chain import (
    balance,
    balance_adjoint,
    bars_at,
    chain_backward,
    chain_forward,
    in_range,
)
from pkpd.solve.compiled.nodes import evaluate_nodes, evaluate_nodes_adjoint, node, short_enough
from pkpd.solve.compiled.program import AT_NODES, CHAIN, MOMENTS, OUTPUT, ROW, SLOTS, N
from pkpd.solve.compiled.transitions import evaluate, evaluate_adjoint


@inner
def _inverse(h):
    return where_greater(h, 0.0, 1.0 / where_greater(h, 0.0, h, 1.0), 0.0)


@inner
def coefficients(code, head, rates, h, infused, tape, coef, at):
    """Write the coefficients of one cell length to ``coef`` from ``at``."""
    n, slots = head[N], head[SLOTS]
    if head[CHAIN] > 0 and not infused and in_range(load(rates, 0), load(rates, 1), h):
        _chain_coefficients(head, rates, h, tape, coef, at)
        return
    n_moments = 0
    if head[MOMENTS] > 0:
        n_moments = 3 if infused else 2
    together = head[AT_NODES] > 0 and not infused and short_enough(code, head, rates, h)
    if not together or n_moments > 0:
        level = evaluate(code, head, rates, h, infused, n_moments, tape)
        for i in range(slots + n):
            store(coef, at + i, load(tape, level + i))
    else:
        level = 0
        for i in range(slots + n):
            store(coef, at + i, splat(0.0))
    first = at
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
        one = h * load(tape, w0) - load(tape, w1)
        two = 0.5 * (h * h * load(tape, w0) - load(tape, w2))
        store(coef, at + 2 * n, one * inverse)
        store(coef, at + 2 * n + 1, cubed * (two - half * one))
        at += 2 * n + 2
    if together:
        # one series serves the nodes and, where it is not known yet, the end of the cell
        evaluate_nodes(code, head, rates, h, tape, coef, first, at, n_moments == 0)
    elif head[AT_NODES] > 0:
        for q in range(4):
            level = evaluate(code, head, rates, h * node(q), infused, ZERO, tape)
            for i in range(n):
                s = code[head[ROW] + i]
                store(coef, at + i, load(tape, level + s) if s >= 0 else splat(0.0))
            store(coef, at + n, load(tape, level + slots + head[OUTPUT]))
            at += n + 1


@inner
def coefficients_adjoint(code, head, rates, h, infused, tape, coef_bar, at, bar, rates_bar):
    """Add the derivative by the rates, given that by the coefficients of one cell length."""
    n, slots = head[N], head[SLOTS]
    if head[CHAIN] > 0 and not infused and in_range(load(rates, 0), load(rates, 1), h):
        _chain_coefficients_adjoint(head, rates, h, tape, coef_bar, at, rates_bar)
        return
    n_moments = 0
    if head[MOMENTS] > 0:
        n_moments = 3 if infused else 2
    together = head[AT_NODES] > 0 and not infused and short_enough(code, head, rates, h)
    alone = not together or n_moments > 0
    for i in range(slots + 4 * n):
        store(bar, i, splat(0.0))
    for i in range(slots + n):
        store(bar, i, load(coef_bar, at + i))
    first = at
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
            add(bar, w0, extra)
            subtract(bar, w1, first_bar)
            subtract(bar, w2, 0.5 * second_bar)
        at += 2 * n + 2
    if alone:
        evaluate(code, head, rates, h, infused, n_moments, tape)
        evaluate_adjoint(code, head, rates, h, infused, n_moments, tape, bar, rates_bar)
    if together:
        evaluate_nodes_adjoint(
            code, head, rates, h, tape, coef_bar, first, at, n_moments == 0, rates_bar
        )
    elif head[AT_NODES] > 0:
        for q in range(4):
            length = h * node(q)
            evaluate(code, head, rates, length, infused, ZERO, tape)
            for i in range(slots + 4 * n):
                store(bar, i, splat(0.0))
            for i in range(n):
                s = code[head[ROW] + i]
                if s >= 0:
                    add(bar, s, load(coef_bar, at + i))
            store(bar, slots + head[OUTPUT], load(coef_bar, at + n))
            evaluate_adjoint(code, head, rates, length, infused, ZERO, tape, bar, rates_bar)
            at += n + 1


@inner
def _chain_coefficients(head, rates, h, tape, coef, at):
    n, slots, stages = head[N], head[SLOTS], head[CHAIN]
    k, ke = load(rates, 0), load(rates, 1)
    r_at = stages + 1
    chain_forward(stages, k, ke, h, tape)
    for i in range(stages):
        store(coef, at + i, load(tape, i))
    for i in range(stages + 1):
        store(coef, at + stages + i, load(tape, r_at + stages - i))
    for i in range(n):
        store(coef, at + slots + i, splat(0.0))
    at += slots + n
    if head[MOMENTS] > 0:
        inverse = _inverse(h)
        cubed = 12.0 * inverse * inverse * inverse
        balance(stages, k, ke, h, tape, coef, at, at + n, inverse, cubed)
        store(coef, at + 2 * n, splat(0.0))
        store(coef, at + 2 * n + 1, splat(0.0))
        at += 2 * n + 2
    if head[AT_NODES] > 0:
        for q in range(4):
            chain_forward(stages, k, ke, h * node(q), tape)
            for i in range(stages + 1):
                store(coef, at + i, load(tape, r_at + stages - i))
            store(coef, at + n, splat(0.0))
            at += n + 1


@inner
def _chain_coefficients_adjoint(head, rates, h, tape, coef_bar, at, rates_bar):
    n, slots, stages = head[N], head[SLOTS], head[CHAIN]
    k, ke = load(rates, 0), load(rates, 1)
    terms = chain_forward(stages, k, ke, h, tape)
    p_bar = bars_at(stages, terms)
    r_bar = p_bar + stages + 1
    for i in range(stages):
        store(tape, p_bar + i, load(coef_bar, at + i))
    store(tape, p_bar + stages, splat(0.0))
    for i in range(stages + 1):
        store(tape, r_bar + stages - i, load(coef_bar, at + stages + i))
    at += slots + n
    if head[MOMENTS] > 0:
        inverse = _inverse(h)
        cubed = 12.0 * inverse * inverse * inverse
        balance_adjoint(
            stages, k, ke, h, tape, terms, coef_bar, at, at + n, inverse, cubed, rates_bar
        )
        at += 2 * n + 2
    chain_backward(stages, k, ke, h, terms, tape, rates_bar)
    if head[AT_NODES] > 0:
        for q in range(4):
            length = h * node(q)
            terms = chain_forward(stages, k, ke, length, tape)
            p_bar = bars_at(stages, terms)
            r_bar = p_bar + stages + 1
            for i in range(stages + 1):
                store(tape, p_bar + i, splat(0.0))
                store(tape, r_bar + stages - i, load(coef_bar, at + i))
            chain_backward(stages, k, ke, length, terms, tape, rates_bar)
            at += n + 1
