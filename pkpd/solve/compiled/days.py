"""Compiled course of many patients through a regimen, day by day, in any whole marrow.

Each morning counts are reported, platelets transfused and doses decided; then the day's cells
follow: drugs exactly from state to state, what they do to the marrow, the marrow's own step. The
equations are programs (`pkpd.solve.compiled.whole_plan`), the kinetics those of
`pkpd.solve.compiled.coefficients`. Derivatives are not made here: doses depend on counts.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import inspect
import zlib
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pkpd.solve.bridge.program import evaluate
from pkpd.solve.compiled import decisions
from pkpd.solve.compiled.coefficients import coefficients
from pkpd.solve.compiled.decisions import NEVER, decide, new_progress
from pkpd.solve.compiled.lanes import WIDTH, add, integers, largest, load, splat, vectors
from pkpd.solve.compiled.lanes import store as put
from pkpd.solve.compiled.linking import inner, kernel
from pkpd.solve.compiled.program import (
    COEF_SIZE,
    COEF_START,
    ENTRIES,
    F_ROW,
    HEADER,
    KIND,
    LINEAR_PK,
    N_ENTRIES,
    RATES,
    SLOTS,
    N,
)
from pkpd.solve.compiled.store import clear, source_stamp
from pkpd.solve.compiled.transitions import monomials
from pkpd.solve.compiled.whole_plan import (
    LEVEL_OF_DRUG,
    NODES,
    RATE_OF_DRUG,
    CourseKeys,
)

_DAY = 24.0
# what the inputs of the cell stand for: no drug, the rates of today, or what has passed
_AT_REST, _BY_RATES, _STALE = 2, 1, 0
_GONE = 1e-12  # of all that was given: below it a drug is taken as washed out
PER_M2, PER_KG, FIXED = 0, 1, 2
"""What a dose is measured by: body surface, weight, or nothing."""


class Slots(NamedTuple):
    """Dose slots, ``[S]`` each.

    Drug, first cell of the day, cells of an infusion (0: at once), hours of it, what it is measured
    by, cap and step of rounding in mg.
    """

    drug: np.ndarray
    cell: np.ndarray
    cells: np.ndarray
    duration_h: np.ndarray
    per: np.ndarray
    cap_mg: np.ndarray
    strength_mg: np.ndarray


class Kinetics(NamedTuple):
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


class Care(NamedTuple):
    """Supportive care: numbers, and increments ``[L]`` of a transfusion in 10^9/L."""

    transfuse_below: float
    growth_below: float
    growth_from: int
    increment: np.ndarray


class Places(NamedTuple):
    """Rows: of states, of what is observed, and of the rates among the levels; -1 for none.

    ``rates`` is where the further rates begin, ``growth`` the rate that switches growth factor on.
    """

    transfused: int
    pegfilgrastim: int
    peg_rate: int
    neutrophils: int
    platelets: int
    blasts: int
    rates: int
    growth: int
    levels: int
    states: int
    observed: int
    curves: int


class Record(NamedTuple):
    """Arrays to fill.

    ``morning`` ``[observed, L, D]``, ``curve`` ``[curves, L, D cells + 1, 2]`` (log and slope per
    hour; no lanes if not wanted), ``transfused`` ``[L, D]``, ``amount`` ``[L, D, S]`` (no lanes if
    not wanted).
    """

    morning: np.ndarray
    curve: np.ndarray
    transfused: np.ndarray
    amount: np.ndarray


@inner
def _gather(k, kin, at, state, pk_w):
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
def _form(k, kin, codes, pk_w, rates, work, coef, scales):
    """Coefficients of all cell lengths of a drug."""
    head = integers(kin.heads, k * HEADER)
    monomials(codes, head, pk_w, rates)
    put(scales, k, load(rates, head[RATES]))
    for m in range(kin.lengths_h.size):
        at = head[COEF_START] + m * head[COEF_SIZE]
        h = splat(kin.lengths_h[m])
        coefficients(codes, head, rates, h, kin.infused[k, m] > 0, work, coef, at)


@inner
def _carry(codes, head, base, coef, scale, flow, infused, x, new, levels):
    """Carry a drug through a cell; its driver at the nodes goes to ``levels``."""
    n, slots = head[N], head[SLOTS]
    c = base + slots + n
    for q in range(NODES):
        value = splat(0.0)
        for i in range(n):
            value = value + load(x, i) * load(coef, c + i)
        if infused:
            value = value + flow * load(coef, c + n)
        put(levels, q, scale * value)
        c += n + 1
    for i in range(n):
        put(new, i, flow * load(coef, base + slots + i) if infused else splat(0.0))
    for t in range(head[N_ENTRIES]):
        e = head[ENTRIES] + 3 * t
        i, j = codes[e], codes[e + 1]
        add(new, i, load(coef, base + codes[e + 2]) * load(x, j))
    for i in range(n):
        put(x, i, load(new, i))


@inner
def _mg(amount, per, cap, strength, bsa, weight):
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
        dose = strength * max(np.floor(dose / strength + 0.5), 1.0)
    return dose


@inner
def _wash_out(x, n, given):
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


@inner
def _write_curve(seen, curves, count, start, at, record):
    for i in range(curves):
        for j in range(count):
            record.curve[i, start + j, at, 0] = seen[2 * i * WIDTH + j]
            record.curve[i, start + j, at, 1] = seen[(2 * i + 1) * WIDTH + j]


@lru_cache(maxsize=32)
def days_kernel(keys: CourseKeys) -> Any:
    """Kernel of the course in a marrow, made once for its programs."""
    own = zlib.crc32(inspect.getsource(decisions).encode())
    return _entry_point(source_stamp() ^ own, keys.start, keys.act, keys.step, keys.see, keys.look)


def _entry_point(stamp: int, begin: int, act: int, step: int, see: int, look: int) -> Any:
    # stamp and keys are closure variables, and those are part of the key of the cache
    @kernel
    def days_range(
        first, stop, theta, body, rest, rules, slots, kin, care, places, scratch, given,
        record,
    ):  # fmt: skip
        """Simulate the lanes ``first`` to ``stop`` (``first`` a multiple of the width).

        Parameters
        ----------
        theta : float[P, L]
            Parameters of the marrow and of what acts on it.
        body : float[2, L]
            Surface (m²) and weight (kg).
        rest : float[inputs]
            Inputs when no drug acts.
        """
        if stamp == 0:
            return
        days = record.transfused.shape[1]
        drugs, n_slots, n_rates = kin.heads.shape[0], slots.drug.size, rules.rates.shape[3]
        cells, n_inputs, n_states = kin.cell_length.size, rest.size, places.states
        courses = rules.hold_below.shape[0]
        by_need = places.growth >= 0 and care.growth_below > 0.0
        # vectors of the block, in rows; memory of the caller, since nothing here holds on to it
        used = 0
        theta_w, used = vectors(scratch, used), used + theta.shape[0]
        y, used = vectors(scratch, used), used + n_states
        u, used = vectors(scratch, used), used + n_inputs + 1
        levels, used = vectors(scratch, used), used + places.levels
        seen, used = vectors(scratch, used), used + max(places.observed, 2 * places.curves)
        pk_w, used = vectors(scratch, used), used + kin.theta.shape[0]
        work, used = vectors(scratch, used), used + kin.sizes[0]
        coef, used = vectors(scratch, used), used + kin.sizes[1]
        rates, used = vectors(scratch, used), used + kin.sizes[2]
        x_all, used = vectors(scratch, used), used + kin.sizes[3]
        new, used = vectors(scratch, used), used + kin.sizes[4]
        scales, used = vectors(scratch, used), used + drugs
        mg, codes = vectors(scratch, used), integers(kin.code, 0)
        amount, further = np.zeros((WIDTH, n_slots)), np.zeros((WIDTH, n_rates))
        counts = np.zeros((3, WIDTH))
        given_mg = np.zeros((max(drugs, 1), WIDTH))
        on = np.zeros(max(drugs, 1), np.int64)
        at = np.empty(WIDTH, np.int64)
        x_start = np.zeros(max(drugs, 1), np.int64)
        for k in range(1, drugs):
            x_start[k] = x_start[k - 1] + kin.heads[k - 1, N]
        for lane in range(first, stop, WIDTH):
            count = min(WIDTH, stop - lane)
            for j in range(WIDTH):
                at[j] = min(lane + j, stop - 1)
                for p in range(theta.shape[0]):
                    theta_w[p * WIDTH + j] = theta[p, at[j]]
            evaluate(begin, y, theta_w, u, y, y, y, y)
            state = new_progress(rules, WIDTH)
            for j in range(count):
                given.second_cycle_day[lane + j] = NEVER
            _gather(-1, kin, at, state, pk_w)
            for k in range(drugs):
                if kin.heads[k, KIND] == LINEAR_PK:
                    _form(k, kin, codes, pk_w, rates, work, coef, scales)
            clear(levels, places.levels)
            clear(x_all, kin.sizes[3])
            clear(mg, n_slots)
            given_mg[:] = 0.0
            on[:] = 0
            for i in range(n_inputs):
                put(u, i, splat(rest[i]))
            put(u, n_inputs, splat(0.0))
            acted, treated, rates_on = _AT_REST, courses > 0, False
            if record.curve.shape[1] > 0:
                evaluate(look, y, theta_w, u, seen, seen, seen, seen)
                _write_curve(seen, places.curves, count, lane, 0, record)
            for day in range(days):
                evaluate(see, y, theta_w, u, seen, seen, seen, seen)
                for i in range(places.observed):
                    for j in range(count):
                        record.morning[i, lane + j, day] = seen[i * WIDTH + j]
                changed = False
                if treated or by_need:
                    for j in range(count):
                        counts[0, j] = seen[places.neutrophils * WIDTH + j]
                        counts[1, j] = seen[places.platelets * WIDTH + j]
                        if places.blasts >= 0:
                            counts[2, j] = seen[places.blasts * WIDTH + j]
                    treated = decide(lane, count, day, counts, rules, state, given, amount, further)
                    for j in range(WIDTH):
                        # the lanes that fill up the block repeat the last one
                        o = min(j, count - 1)
                        if record.amount.shape[0] > 0 and j < count:
                            for s in range(n_slots):
                                record.amount[lane + j, day, s] = amount[j, s]
                        if places.growth >= 0 and j < count:
                            need = day + 1 >= care.growth_from and counts[0, j] < care.growth_below
                            here = further[j, places.growth]
                            further[j, places.growth] = 1.0 if need else min(here, 1.0)
                        bsa, weight = body[0, at[j]], body[1, at[j]]
                        for s in range(n_slots):
                            mg[s * WIDTH + j] = _mg(
                                amount[o, s], slots.per[s], slots.cap_mg[s], slots.strength_mg[s],
                                bsa, weight,
                            )  # fmt: skip
                        for r in range(n_rates):
                            row = (places.rates + r) * WIDTH + j
                            changed = changed or levels[row] != further[o, r]
                            levels[row] = further[o, r]
                        for k in range(drugs):
                            if kin.places[k, 0] == RATE_OF_DRUG:
                                flow = 0.0
                                for s in range(n_slots):
                                    if slots.drug[s] == k:
                                        flow += mg[s * WIDTH + j] / bsa
                                row = kin.places[k, 1] * WIDTH + j
                                changed = changed or levels[row] != flow
                                levels[row] = flow
                        if places.pegfilgrastim >= 0:
                            own = places.pegfilgrastim * WIDTH + j
                            y[own] += further[o, places.peg_rate]
                if changed:
                    rates_on = False
                    for r in range(n_rates):
                        rates_on = rates_on or largest(load(levels, places.rates + r)) > 0.0
                    for k in range(drugs):
                        if kin.places[k, 0] == RATE_OF_DRUG:
                            here = load(levels, kin.places[k, 1])
                            rates_on = rates_on or largest(here) > 0.0
                    acted = min(acted, _STALE)
                if places.transfused >= 0:
                    for j in range(WIDTH):
                        low = seen[places.platelets * WIDTH + j] < care.transfuse_below
                        if low:
                            y[places.transfused * WIDTH + j] += care.increment[at[j]]
                        if j < count:
                            record.transfused[lane + j, day] = low
                # doses of the day wake a drug up; its parameters may change with the occasion
                for k in range(drugs):
                    if kin.heads[k, KIND] != LINEAR_PK:
                        continue
                    fresh = False
                    for s in range(n_slots):
                        if slots.drug[s] == k:
                            for j in range(WIDTH):
                                given_mg[k, j] += mg[s * WIDTH + j]
                                fresh = fresh or mg[s * WIDTH + j] > 0.0
                    if fresh:
                        on[k] = 1
                        if _gather(k, kin, at, state, pk_w):
                            _form(k, kin, codes, pk_w, rates, work, coef, scales)
                if day + 1 == days and record.curve.shape[1] == 0:
                    break
                for cell in range(cells):
                    m = kin.cell_length[cell]
                    there = False
                    for k in range(drugs):
                        if on[k] == 0 or kin.heads[k, KIND] != LINEAR_PK:
                            continue
                        head = integers(kin.heads, k * HEADER)
                        x = vectors(x_all, x_start[k])
                        flow = splat(0.0)
                        infused = False
                        for s in range(n_slots):
                            if slots.drug[s] != k:
                                continue
                            dose = load(mg, s) * load(pk_w, head[F_ROW])
                            if slots.cells[s] == 0:
                                if slots.cell[s] == cell:
                                    add(x, 0, dose)
                            elif slots.cell[s] <= cell < slots.cell[s] + slots.cells[s]:
                                flow = flow + dose / slots.duration_h[s]
                                infused = True
                        base = head[COEF_START] + m * head[COEF_SIZE]
                        into = vectors(levels, kin.places[k, 1])
                        _carry(
                            codes, head, base, coef, load(scales, k), flow, infused, x, new, into
                        )
                        there = True
                    put(u, n_inputs, splat(kin.lengths_h[m] * (1.0 / _DAY)))
                    if there or (rates_on and acted != _BY_RATES):
                        evaluate(act, levels, theta_w, u, u, u, u, u)
                        acted = _STALE if there else _BY_RATES
                    elif not rates_on and acted != _AT_REST:
                        for i in range(n_inputs):
                            put(u, i, splat(rest[i]))
                        acted = _AT_REST
                    evaluate(step, y, theta_w, u, y, y, y, y)
                    if record.curve.shape[1] > 0:
                        evaluate(look, y, theta_w, u, seen, seen, seen, seen)
                        _write_curve(
                            seen, places.curves, count, lane, day * cells + cell + 1, record
                        )
                for k in range(drugs):
                    if on[k] > 0:
                        n = kin.heads[k, N]
                        x = vectors(x_all, x_start[k])
                        if not _wash_out(x, n, given_mg[k]):
                            on[k] = 0
                            for q in range(NODES):
                                if kin.places[k, 0] == LEVEL_OF_DRUG:
                                    put(levels, kin.places[k, 1] + q, splat(0.0))

    return days_range
