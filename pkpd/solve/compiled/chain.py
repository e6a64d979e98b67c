"""Compiled absorption chain into one compartment, in closed form with positive terms only.

With ``k`` the rate of the chain, ``ke`` of elimination, ``P_j = exp(-kh) (kh)^j / j!`` and ``R_m``
the share of a unit ``m`` stages before the central compartment that is there after ``h``:

    R_c = P_c M(1, c + 1, (k - ke) h),    R_(m-1) = P_(m-1) + (1 - ke/k) R_m,

``M`` being Kummer's function, summed from its tail by ``M(1, b, x) = 1 + x/b M(1, b + 1, x)``
(Abramowitz and Stegun 13.1.2). For ``k >= ke`` nothing cancels, whether the rates are close or not.
Moments over a cell follow from the balance of mass. It costs a tenth of the general sums for seven
transits; lanes outside its range go there (`in_range`).
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import math

from pkpd.solve.bridge.lanes import add, exp, largest, load, splat, store, where_greater
from pkpd.solve.bridge.linking import inner

_LARGEST_ARGUMENT = 400.0
_SMALLEST_BALANCE = 1e-4  # ke^2 h: far below it the balance of mass would lose digits


@inner
def terms_for(argument):
    """Terms of the series that matter for the largest argument of the lanes."""
    return int(argument + 9.0 * math.sqrt(argument) + 30.0)


@inner
def in_range(k, ke, h):
    """Whether the closed form holds its digits for all lanes."""
    if largest(ke - k) > 0.0 or largest((k - ke) * h) > _LARGEST_ARGUMENT:
        return False
    balance = where_greater(h, 0.0, ke * ke * h, 1.0)
    return -largest(0.0 - balance) > _SMALLEST_BALANCE


def tape_size_of(stages: int) -> int:
    """Vectors of scratch for a chain of ``stages`` states before the central one."""
    return 6 * (stages + 1) + terms_for.py_func(_LARGEST_ARGUMENT) + 1


@inner
def chain_forward(stages, k, ke, h, tape):
    """Write ``P_0..P_c`` and ``R_0..R_c`` to the tape, then the series; returns its length."""
    r_at = stages + 1
    m_at = 2 * (stages + 1)
    kh = k * h
    p = exp(0.0 - kh)
    store(tape, 0, p)
    for j in range(1, stages + 1):
        p = p * kh * (1.0 / j)
        store(tape, j, p)
    x = (k - ke) * h
    terms = terms_for(max(0.0, largest(x)))
    m = splat(1.0)
    store(tape, m_at + terms, m)
    for i in range(terms - 1, -1, -1):
        m = 1.0 + (x * (1.0 / (stages + 1 + i))) * m
        store(tape, m_at + i, m)
    ratio = 1.0 - ke / k
    r = p * m
    store(tape, r_at + stages, r)
    for j in range(stages - 1, -1, -1):
        r = load(tape, j) + ratio * r
        store(tape, r_at + j, r)
    return terms


@inner
def chain_backward(stages, k, ke, h, terms, tape, rates_bar):
    """Add the derivative by ``k`` and ``ke`` (the first two rates).

    The derivatives by ``P`` and ``R`` stand on the tape behind the series, from `bars_at` on.
    """
    r_at = stages + 1
    m_at = 2 * (stages + 1)
    p_bar = m_at + terms + 1
    r_bar = p_bar + stages + 1
    ratio = 1.0 - ke / k
    ratio_bar = splat(0.0)
    bar = load(tape, r_bar)
    for j in range(stages):
        add(tape, p_bar + j, bar)
        ratio_bar = ratio_bar + bar * load(tape, r_at + j + 1)
        bar = load(tape, r_bar + j + 1) + ratio * bar
    m_bar = bar * load(tape, stages)
    add(tape, p_bar + stages, bar * load(tape, m_at))
    x = (k - ke) * h
    x_bar = splat(0.0)
    for i in range(terms):
        scaled = m_bar * (1.0 / (stages + 1 + i))
        x_bar = x_bar + scaled * load(tape, m_at + i + 1)
        m_bar = scaled * x
    total = x_bar
    before = splat(0.0)
    for j in range(stages + 1):
        p = load(tape, j)
        total = total + load(tape, p_bar + j) * (before - p)
        before = p
    inverse = 1.0 / k
    k_bar = h * total + ratio_bar * ke * inverse * inverse
    ke_bar = 0.0 - h * x_bar - ratio_bar * inverse
    add(rates_bar, 0, k_bar)
    add(rates_bar, 1, ke_bar)


@inner
def bars_at(stages, terms):
    """Where the derivatives by ``P`` begin on the tape; those by ``R`` follow."""
    return 2 * (stages + 1) + terms + 1


@inner
def balance(stages, k, ke, h, tape, coef, mean_at, slope_at, inverse, cubed):
    """Mean and first moment of the central amount per unit in each state, by balance of mass.

    Of a unit, ``1 - S`` is lost by ``h``, hence ``ke * integral = 1 - S``; the first moment in time
    follows from the integral of what is left, ``ke * integral(t .) = integral(S) - h S(h)``.
    """
    r_at = stages + 1
    per_ke, per_k = 1.0 / ke, 1.0 / k
    half = 0.5 * h
    chain = splat(0.0)  # sum of P up to the stage before central
    waiting = splat(0.0)  # integral of what is in the chain
    for m in range(stages + 1):
        if m > 0:
            chain = chain + load(tape, m - 1)
            waiting = waiting + (1.0 - chain) * per_k
        left = chain + load(tape, r_at + m)
        w0 = (1.0 - left) * per_ke
        w1 = (waiting + w0 - h * left) * per_ke
        i = stages - m
        store(coef, mean_at + i, w0 * inverse)
        store(coef, slope_at + i, cubed * (w1 - half * w0))


@inner
def balance_adjoint(
    stages, k, ke, h, tape, terms, coef_bar, mean_at, slope_at, inverse, cubed, rates_bar
):
    """Add the derivative of `balance` by ``P``, ``R`` (on the tape) and the two rates."""
    r_at = stages + 1
    p_bar = bars_at(stages, terms)
    r_bar = p_bar + stages + 1
    sums = r_bar + stages + 1  # derivatives by the partial sums of P
    per_ke, per_k = 1.0 / ke, 1.0 / k
    half = 0.5 * h
    chain = splat(0.0)
    waiting = splat(0.0)
    k_bar, ke_bar = splat(0.0), splat(0.0)
    waiting_bars = splat(0.0)
    for m in range(stages + 1):
        if m > 0:
            chain = chain + load(tape, m - 1)
            waiting = waiting + (1.0 - chain) * per_k
        left = chain + load(tape, r_at + m)
        w0 = (1.0 - left) * per_ke
        w1 = (waiting + w0 - h * left) * per_ke
        i = stages - m
        w1_bar = cubed * load(coef_bar, slope_at + i)
        w0_bar = inverse * load(coef_bar, mean_at + i) - half * w1_bar
        q = w1_bar * per_ke
        w0_bar = w0_bar + q
        left_bar = 0.0 - h * q - w0_bar * per_ke
        ke_bar = ke_bar - w1_bar * w1 * per_ke - w0_bar * w0 * per_ke
        add(tape, r_bar + m, left_bar)
        store(tape, sums + m, left_bar)
        k_bar = k_bar - q * waiting * per_k
        # by the sum at each stage before, kept for the way back
        waiting_bars = waiting_bars + q
        store(tape, sums + stages + 1 + m, q)
    following = splat(0.0)
    by_sum = splat(0.0)
    for m in range(stages, 0, -1):
        following = following + load(tape, sums + stages + 1 + m)
        by_sum = by_sum + load(tape, sums + m) - following * per_k
        add(tape, p_bar + m - 1, by_sum)
    add(rates_bar, 0, k_bar)
    add(rates_bar, 1, ke_bar)
