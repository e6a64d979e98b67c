"""Kinetics of the drugs of a course day by day: parameters, coefficients, a cell, washing out.

What `pkpd.solve.compiled.days` calls for a block of lanes.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pkpd.schedule.follow import HALF_UP
from pkpd.solve.bridge.lanes import WIDTH, integers, load, splat, where_less
from pkpd.solve.bridge.lanes import store as put
from pkpd.solve.bridge.linking import inner
from pkpd.solve.compiled.coefficients import coefficients
from pkpd.solve.compiled.course import TINY
from pkpd.solve.compiled.program import (
    COEF_SIZE,
    COEF_START,
    ENTRIES,
    HEADER,
    MOMENTS,
    N_ENTRIES,
    RATES,
    SLOTS,
    N,
)
from pkpd.solve.compiled.transitions import monomials
from pkpd.solve.compiled.whole_plan import NODES

_GONE = 1e-12  # of all that was given: below it a drug is taken as washed out
PER_M2, PER_KG, FIXED = 0, 1, 2
"""What a dose is measured by: body surface, weight, or nothing."""


class DayKinetics(NamedTuple):
    """Kinetics of the drugs and cells of a day.

    ``code`` and ``heads`` as in `pkpd.solve.compiled.family.Plan`; ``theta`` ``[P, N]`` parameters
    of the patients, ``who`` ``[L]`` which patient a lane is; ``occasion`` ``[O, R, N]`` factors of
    parameters by dosing day, ``occasion_row`` ``[R]`` the parameters, ``occasion_drug`` ``[R]``
    their drugs; ``lengths_h`` ``[M]`` and ``cell_length`` ``[cells]``; ``infused`` ``[K, M]``;
    ``places`` ``[K, 2]`` kind and first row of each drug among the levels.
    """

    code: np.ndarray
    heads: np.ndarray
    theta: np.ndarray
    who: np.ndarray
    occasion: np.ndarray
    occasion_row: np.ndarray
    occasion_drug: np.ndarray
    lengths_h: np.ndarray
    cell_length: np.ndarray
    infused: np.ndarray
    places: np.ndarray
    sizes: np.ndarray


@inner
def gather_kinetics(k, kin, at, state, pk_w):
    """Kinetic parameters of a block, of drug ``k`` on its occasion (all drugs if ``k < 0``).

    Says whether occasions have changed any.
    """
    if k < 0:
        for p in range(kin.theta.shape[0]):
            for j in range(WIDTH):
                pk_w[p * WIDTH + j] = kin.theta[p, kin.who[at[j]]]
    occasions, changed = kin.occasion.shape[0], False
    if occasions == 0:
        return changed
    for r in range(kin.occasion_row.size):
        drug, p = kin.occasion_drug[r], kin.occasion_row[r]
        if k >= 0 and k != drug:
            continue
        for j in range(WIDTH):
            o = min(max(state.doses[j, drug] - 1, 0), occasions - 1)
            who = kin.who[at[j]]
            pk_w[p * WIDTH + j] = kin.theta[p, who] * kin.occasion[o, r, who]
        changed = True
    return changed


@inner
def form(k, kin, codes, pk_w, rates, work, coef, scales):
    """Coefficients of all cell lengths of a drug."""
    head = integers(kin.heads, k * HEADER)
    monomials(codes, head, pk_w, rates)
    put(scales, k, load(rates, head[RATES]))
    for m in range(kin.lengths_h.size):
        at = head[COEF_START] + m * head[COEF_SIZE]
        h = splat(kin.lengths_h[m])
        coefficients(codes, head, rates, h, kin.infused[k, m] > 0, work, coef, at)


@inner
def carry(codes, head, base, coef, scale, flow, infused, h, x, new, levels):
    """Carry a drug through a cell of ``h`` hours; what drives its action goes to ``levels``."""
    n, slots = head[N], head[SLOTS]
    c = base + slots + n
    if head[MOMENTS] > 0:
        mean, slope = splat(0.0), splat(0.0)
        for i in range(n):
            mean = mean + load(x, i) * load(coef, c + i)
            slope = slope + load(x, i) * load(coef, c + n + i)
        if infused:
            mean = mean + flow * load(coef, c + 2 * n)
            slope = slope + flow * load(coef, c + 2 * n + 1)
        put(levels, 0, scale * mean)
        put(levels, 1, scale * h * slope)
    else:
        for q in range(NODES):
            value = splat(0.0)
            for i in range(n):
                value = value + load(x, i) * load(coef, c + i)
            if infused:
                value = value + flow * load(coef, c + n)
            put(levels, q, scale * value)
            c += n + 1
    e, end = head[ENTRIES], head[ENTRIES] + 3 * head[N_ENTRIES]
    for i in range(n):
        total = flow * load(coef, base + slots + i) if infused else splat(0.0)
        while e < end and codes[e] == i:  # they stand in the order of the rows
            total = total + load(coef, base + codes[e + 2]) * load(x, codes[e + 1])
            e += 3
        put(new, i, where_less(total, TINY, 0.0, total))
    for i in range(n):
        put(x, i, load(new, i))


@inner
def dose_mg(amount, per, cap, strength, bsa, weight):
    """Individual dose: size, cap, then rounding as in `pkpd.schedule.individual_dose_mg`."""
    if amount <= 0.0:
        return 0.0
    dose = amount
    if per == PER_M2:
        dose = amount * bsa
    elif per == PER_KG:
        dose = amount * weight
    dose = min(dose, cap)
    if strength > 0.0:
        dose = strength * max(np.floor(dose / strength * HALF_UP + 0.5), 1.0)
    return dose


@inner
def wash_out(x, n, given):
    """Forget what is left of a drug in lanes where it is next to nothing; whether any is left."""
    left = False
    for j in range(WIDTH):
        total = 0.0
        for i in range(n):
            total += x[i * WIDTH + j]
        if total <= _GONE * given[j]:
            for i in range(n):
                x[i * WIDTH + j] = 0.0
        else:
            left = True
    return left
