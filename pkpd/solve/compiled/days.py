"""Compiled course of many patients through a regimen, day by day, in any whole marrow.

Each morning counts are reported, platelets transfused and doses decided; then the day's cells
follow: drugs from state to state, what they do to the marrow, the marrow's own step. The equations
are programs (`pkpd.solve.compiled.whole_plan`). Linear kinetics are exact and those of
`pkpd.solve.compiled.coefficients`; saturable ones take as many steps as each patient needs; some
drugs are doses into a state of the marrow. Derivatives are not made here: doses depend on counts.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import inspect
import zlib
from typing import Any, NamedTuple

import numpy as np

from pkpd.solve.bridge.lanes import (
    WIDTH,
    add,
    integers,
    largest,
    load,
    splat,
    vectors,
)
from pkpd.solve.bridge.lanes import store as put
from pkpd.solve.bridge.linking import inner, uncounted
from pkpd.solve.bridge.program import call
from pkpd.solve.compiled import day_kinetics, decisions
from pkpd.solve.compiled.day_kinetics import (
    carry,
    dose_mg,
    form,
    gather_kinetics,
    wash_out,
)
from pkpd.solve.compiled.decisions import NEVER, Progress, Rules, begin, decide, new_progress
from pkpd.solve.compiled.nodes import node
from pkpd.solve.compiled.program import (
    AT_NODES,
    COEF_SIZE,
    COEF_START,
    F_ROW,
    HEADER,
    INTO_STATE,
    KIND,
    LINEAR_PK,
    OUTPUT,
    PARAMETERS,
    SATURABLE,
    N,
)
from pkpd.solve.compiled.store import clear, source_stamp
from pkpd.solve.compiled.whole_plan import (
    ACT,
    DRIFT,
    DRIFT_ROWS,
    FORM,
    FORM_AT_REST,
    LEVEL_OF_DRUG,
    LOOK,
    NODES,
    RATE_OF_DRUG,
    SEE,
    START,
    STEP,
    STEP_AT_REST,
)

_DAY = 24.0
# what the inputs of the cell stand for: no drug, the rates of today, or what has passed
_AT_REST, _BY_RATES, _STALE = 2, 1, 0
_MOST_ATTEMPTS = 4000  # at steps of saturable kinetics in a stretch of hours


class DaySlots(NamedTuple):
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


class Care(NamedTuple):
    """Supportive care: numbers, and increments ``[L]`` of a transfusion in 10^9/L.

    Growth factor by need is ``growth_amount`` in its slot, or its rate switched on, on protocol
    days ``growth_from`` to ``given_until``, the last on which anything is given.
    """

    transfuse_below: float
    growth_below: float
    growth_from: int
    given_until: int
    growth_amount: float
    increment: np.ndarray


class Places(NamedTuple):
    """Rows: of states, of what is observed, and of the rates among the levels; -1 for none.

    ``rates`` is where the further rates begin; ``growth`` the rate that switches growth factor on,
    ``growth_slot`` the slot in which it is given by need. ``kept`` and ``kept_at_rest`` are the
    numbers of rows that are kept of a step for each length of a cell.
    """

    transfused: int
    neutrophils: int
    platelets: int
    blasts: int
    rates: int
    growth: int
    growth_slot: int
    levels: int
    states: int
    observed: int
    curves: int
    kept: int
    kept_at_rest: int


class Record(NamedTuple):
    """Arrays to fill.

    ``morning`` ``[observed, L, D]``, ``curve`` ``[curves, 2, L, D cells + 1]`` (log and slope per
    hour; no lanes if not wanted), ``transfused`` ``[L, D]``, ``amount`` ``[L, D, S]`` (no lanes if
    not wanted), ``unsolved`` ``[L]``, lanes whose saturable kinetics took too many steps.
    """

    morning: np.ndarray
    curve: np.ndarray
    transfused: np.ndarray
    amount: np.ndarray
    unsolved: np.ndarray


class LaneBlock(NamedTuple):
    """What a block of lanes has in hand, for one thread.

    ``amount`` ``[W, S]`` and ``further`` ``[W, R]`` of today, ``counts`` ``[3, W]``, ``given_mg``
    ``[K, W]`` so far, ``on`` ``[K]`` whether a drug is there, ``x_start`` ``[K]`` its first state,
    ``at`` ``[W]`` the lanes.
    """

    state: Progress
    amount: np.ndarray
    further: np.ndarray
    counts: np.ndarray
    given_mg: np.ndarray
    on: np.ndarray
    x_start: np.ndarray
    at: np.ndarray


def new_block(rules: Rules, slots: DaySlots, heads: np.ndarray) -> LaneBlock:
    """Make room for a block of lanes."""
    drugs = max(heads.shape[0], 1)
    x_start = np.zeros(drugs, np.int64)
    x_start[1:] = np.cumsum(heads[: drugs - 1, N])
    return LaneBlock(
        new_progress(rules, WIDTH),
        amount=np.zeros((WIDTH, slots.drug.size)),
        further=np.zeros((WIDTH, rules.rates.shape[3])),
        counts=np.zeros((3, WIDTH)),
        given_mg=np.zeros((drugs, WIDTH)),
        on=np.zeros(drugs, np.int64),
        x_start=x_start,
        at=np.zeros(WIDTH, np.int64),
    )


@inner
def _write_curve(seen, curves, count, start, at, record):
    for i in range(curves):
        for j in range(count):
            record.curve[i, 0, start + j, at] = seen[2 * i * WIDTH + j]
            record.curve[i, 1, start + j, at] = seen[(2 * i + 1) * WIDTH + j]


def _entry_point(stamp: int) -> Any:
    # the stamp is a closure variable, and those are part of the key of the cache
    @uncounted
    def days_range(
        first, stop, programs, theta, body, rest, rules, slots, kin, care, places, scratch, block,
        given, record,
    ):  # fmt: skip
        """Simulate the lanes ``first`` to ``stop`` (``first`` a multiple of the width).

        Parameters
        ----------
        programs : int[]
            Addresses of the programs (`pkpd.solve.compiled.whole_plan.course_programs`).
        theta : float[P, L]
            Parameters of the marrow and of what acts on it.
        body : float[2, L]
            Surface (m²) and weight (kg).
        rest : float[inputs]
            Inputs when no drug acts.
        block
            Of `new_block`.
        """
        if stamp == 0:
            return
        days = record.transfused.shape[1]
        drugs, n_slots, n_rates = kin.heads.shape[0], slots.drug.size, rules.rates.shape[3]
        cells, n_inputs, n_states = kin.cell_length.size, rest.size, places.states
        courses, curves = rules.hold_below.shape[0], record.curve.shape[2] > 0
        by_need = care.growth_below > 0.0 and max(places.growth, places.growth_slot) >= 0
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
        pace, used = vectors(scratch, used), used + DRIFT_ROWS
        scales, used = vectors(scratch, used), used + drugs
        mg, used = vectors(scratch, used), used + n_slots
        held, used = vectors(scratch, used), used + places.kept * kin.lengths_h.size
        held_at_rest, codes = vectors(scratch, used), integers(kin.code, 0)
        state, amount, further, counts = block.state, block.amount, block.further, block.counts
        given_mg, on, x_start, at = block.given_mg, block.on, block.x_start, block.at
        for lane in range(first, stop, WIDTH):
            count = min(WIDTH, stop - lane)
            for j in range(WIDTH):
                at[j] = min(lane + j, stop - 1)
                for p in range(theta.shape[0]):
                    theta_w[p * WIDTH + j] = theta[p, at[j]]
            call(programs[START], y, theta_w, u, y, y, y, y)
            begin(rules, state)
            for j in range(count):
                given.next_cycle_day[lane + j, :] = NEVER
            gather_kinetics(-1, kin, at, state, pk_w)
            for k in range(drugs):
                if kin.heads[k, KIND] == LINEAR_PK:
                    form(k, kin, codes, pk_w, rates, work, coef, scales)
            clear(levels, places.levels)
            clear(x_all, kin.sizes[3])
            clear(mg, n_slots)
            for k in range(drugs):
                on[k] = 0
                for j in range(WIDTH):
                    given_mg[k, j] = 0.0
            for i in range(n_inputs):
                put(u, i, splat(rest[i]))
            for m in range(kin.lengths_h.size):
                put(u, n_inputs, splat(kin.lengths_h[m] * (1.0 / _DAY)))
                kept = vectors(held, m * places.kept)
                call(programs[FORM], y, theta_w, u, kept, y, y, y)
                kept = vectors(held_at_rest, m * places.kept_at_rest)
                call(programs[FORM_AT_REST], y, theta_w, u, kept, y, y, y)
            acted, treated, rates_on = _AT_REST, courses > 0, False
            some = False  # whether any lane acted on the last decisions
            if curves:
                call(programs[LOOK], y, theta_w, u, seen, seen, seen, seen)
                _write_curve(seen, places.curves, count, lane, 0, record)
            for day in range(days):
                call(programs[SEE], y, theta_w, u, seen, seen, seen, seen)
                for i in range(places.observed):
                    for j in range(count):
                        record.morning[i, lane + j, day] = seen[i * WIDTH + j]
                changed, slots_today = False, 0
                if treated or by_need:
                    for j in range(count):
                        if places.neutrophils >= 0:
                            counts[0, j] = seen[places.neutrophils * WIDTH + j]
                        if places.platelets >= 0:
                            counts[1, j] = seen[places.platelets * WIDTH + j]
                        if places.blasts >= 0:
                            counts[2, j] = seen[places.blasts * WIDTH + j]
                    treated = decide(
                        lane, count, day, care.given_until, counts, rules, state, given, amount,
                        further,
                    )  # fmt: skip
                    may = by_need and care.growth_from <= day + 1 <= care.given_until
                    for j in range(count if may else 0):
                        need = counts[0, j] < care.growth_below
                        if need:
                            state.acting[j] = 1
                        if need and places.growth_slot >= 0:
                            drug, planned = slots.drug[places.growth_slot], False
                            for s in range(n_slots):
                                own = slots.drug[s] == drug and s != places.growth_slot
                                planned = planned or (own and amount[j, s] > 0.0)
                            if not planned:  # who has a planned dose needs no other
                                amount[j, places.growth_slot] = care.growth_amount
                                given.dosed[lane + j, day] |= 1 << drug
                        if need and places.growth >= 0:
                            further[j, places.growth] = 1.0
                    before, some = some, False
                    for j in range(count):
                        some = some or state.acting[j] > 0
                    slots_today = n_slots if some else 0
                    for j in range(WIDTH if some or before else 0):
                        # the lanes that fill up the block repeat the last one
                        o = min(j, count - 1)
                        if record.amount.shape[0] > 0 and j < count:
                            for s in range(n_slots):
                                record.amount[lane + j, day, s] = amount[j, s]
                        if places.growth >= 0 and j < count:
                            further[j, places.growth] = min(further[j, places.growth], 1.0)
                        bsa, weight = body[0, at[j]], body[1, at[j]]
                        for s in range(n_slots):
                            mg[s * WIDTH + j] = dose_mg(
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
                    kind = kin.heads[k, KIND]
                    if kind != LINEAR_PK and kind != SATURABLE:
                        continue
                    fresh = False
                    for s in range(slots_today):
                        if slots.drug[s] == k:
                            for j in range(WIDTH):
                                given_mg[k, j] += mg[s * WIDTH + j]
                                fresh = fresh or mg[s * WIDTH + j] > 0.0
                    if fresh:
                        on[k] = 1
                        if gather_kinetics(k, kin, at, state, pk_w) and kind == LINEAR_PK:
                            form(k, kin, codes, pk_w, rates, work, coef, scales)
                if day + 1 == days and not curves:
                    break
                which, bit = 0, 1
                if programs.size > ACT + 1:
                    for k in range(drugs):
                        if kin.places[k, 0] == LEVEL_OF_DRUG:
                            which += bit * on[k]
                            bit *= 2
                for cell in range(cells):
                    m = kin.cell_length[cell]
                    h, there = kin.lengths_h[m], False
                    for k in range(drugs):
                        head = integers(kin.heads, k * HEADER)
                        if head[KIND] == INTO_STATE:
                            for s in range(slots_today):
                                if slots.drug[s] == k and slots.cell[s] == cell:
                                    add(y, head[OUTPUT], load(mg, s) * load(pk_w, head[F_ROW]))
                        if on[k] == 0:
                            continue
                        x = vectors(x_all, x_start[k])
                        flow = splat(0.0)
                        infused = False
                        for s in range(slots_today):
                            if slots.drug[s] != k:
                                continue
                            dose = load(mg, s) * load(pk_w, head[F_ROW])
                            if slots.cells[s] == 0:
                                if slots.cell[s] == cell:
                                    add(x, 0, dose)
                            elif slots.cell[s] <= cell < slots.cell[s] + slots.cells[s]:
                                flow = flow + dose / slots.duration_h[s]
                                infused = True
                        into = vectors(levels, kin.places[k, 1])
                        there = True
                        if head[KIND] == LINEAR_PK:
                            base = head[COEF_START] + m * head[COEF_SIZE]
                            carry(
                                codes, head, base, coef, load(scales, k), flow, infused, h, x, new,
                                into,
                            )  # fmt: skip
                            continue
                        # each lane at its own pace, all of them together at the nodes
                        own, begun = vectors(pk_w, head[PARAMETERS]), 0.0
                        clear(pace, 2)
                        put(pace, 2, flow)
                        put(pace, 4, splat(h))
                        for q in range(NODES + 1):
                            if q < NODES and head[AT_NODES] == 0:
                                continue
                            end = h * node(q) if q < NODES else h
                            put(pace, 3, splat(end - begun))
                            begun = end
                            for _ in range(_MOST_ATTEMPTS):
                                call(programs[DRIFT], x, own, pace, pace, pace, pace, pace)
                                if largest(load(pace, 3)) <= 0.0:
                                    break
                            if largest(load(pace, 3)) > 0.0:
                                for j in range(count):
                                    record.unsolved[lane + j] |= pace[3 * WIDTH + j] > 0.0
                            if q < NODES:
                                put(into, q, load(pace, 5))
                        if head[AT_NODES] == 0:
                            mean, twice = load(pace, 0) * (1.0 / h), load(pace, 1)
                            put(into, 0, mean)
                            put(into, 1, 6.0 * mean - (12.0 / (h * h)) * twice)
                    put(u, n_inputs, splat(h * (1.0 / _DAY)))
                    if there or (rates_on and acted != _BY_RATES):
                        call(programs[ACT + which], levels, theta_w, u, u, u, u, u)
                        acted = _STALE if there else _BY_RATES
                    elif not rates_on and acted != _AT_REST:
                        for i in range(n_inputs):
                            put(u, i, splat(rest[i]))
                        acted = _AT_REST
                    if acted == _AT_REST:
                        kept = vectors(held_at_rest, m * places.kept_at_rest)
                        call(programs[STEP_AT_REST], y, theta_w, u, kept, y, y, y)
                    else:
                        kept = vectors(held, m * places.kept)
                        call(programs[STEP], y, theta_w, u, kept, y, y, y)
                    if curves:
                        call(programs[LOOK], y, theta_w, u, seen, seen, seen, seen)
                        _write_curve(
                            seen, places.curves, count, lane, day * cells + cell + 1, record
                        )
                for k in range(drugs):
                    if on[k] > 0:
                        n = kin.heads[k, N]
                        x = vectors(x_all, x_start[k])
                        if not wash_out(x, n, given_mg[k]):
                            on[k] = 0
                            if kin.places[k, 0] == LEVEL_OF_DRUG:
                                for q in range(2 if kin.heads[k, AT_NODES] == 0 else NODES):
                                    put(levels, kin.places[k, 1] + q, splat(0.0))

    return days_range


_OWN = zlib.crc32("".join(map(inspect.getsource, (decisions, day_kinetics))).encode())
days_range = _entry_point(source_stamp() ^ _OWN)
