"""Blocks of patients through a regimen, day by day: decisions each morning, then the day's steps.

The decisions are those of :func:`pkpd.schedule.follow`, taken for each patient on the counts a
laboratory reports that morning, platelets with transfused ones.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from pkpd.leukaemia import compiled_math, compiled_step, equations
from pkpd.leukaemia.compiled_step import (
    N_EFFECTS,
    N_FIXED,
    N_PARAMETERS,
    N_STATES,
    N_TODAY,
    WIDTH,
    advance,
    begin,
    clofarabine,
    drug_effects,
    growth_factor_on,
    late_injury,
    lenalidomide,
    step_factors,
)
from pkpd.leukaemia.equations import PARAMETERS, STATES

_STATE = {name: i * WIDTH for i, name in enumerate(STATES)}
_PAR = {name: i * WIDTH for i, name in enumerate(PARAMETERS)}
_C, _T1, _T2, _T3, _N = (_STATE[n] for n in STATES[4:9])
_P, _L, _X, _CLO = (_STATE[n] for n in ("platelets", "blasts", "transfused", "clofarabine"))
_PEG, _GUT, _HAZARD = (_STATE[n] for n in ("pegfilgrastim", "lenalidomide_gut", "hazard"))
_INJURIES = tuple(_STATE[f"injury_{i}"] for i in range(1, 6))
_TP, _CENTRAL = _STATE["triphosphate"], _STATE["lenalidomide"]
_N0, _P0 = _PAR["neutrophils_normal"], _PAR["platelets_normal"]
_PER_BLAST, _PHI = _PAR["blood_per_blast"], _PAR["leukaemic_neutrophils"]
_SHARE, _OTHER = _PAR["neutrophil_share"], _PAR["other_cells"]
_TP_DOSE, _LEN_MG, _LEN_KE = _PAR["tp_per_dose"], _PAR["len_per_mg"], _PAR["len_ke"]
_INCREMENT = _PAR["increment"]

_NEVER = 1 << 30


class Tables(NamedTuple):
    """A regimen for the compiled course. C courses, D cycle days, K drugs, V levels.

    ``effect`` is ``[C, D, K, 10]``: the first four rates of chemotherapy (``CHANNELS`` of the
    equations), clofarabine (mg/m^2), lenalidomide (mg), filgrastim (0 or 1), pegfilgrastim
    (doses), the other two rates of chemotherapy. ``given`` is ``[C, D, K]``, 1 on dosing days;
    ``least_blasts`` ``[C]`` in percent. The others are those of :class:`pkpd.schedule.DosingPlan`.
    """

    effect: np.ndarray
    given: np.ndarray
    cycle_days: np.ndarray
    cycles: np.ndarray
    start_day: np.ndarray
    gate_threshold: np.ndarray
    gate_any: np.ndarray
    gate_every: np.ndarray
    gate_wait: np.ndarray
    gate_stop: np.ndarray
    hold_below: np.ndarray
    resume_at: np.ndarray
    level: np.ndarray
    n_levels: np.ndarray
    reduce_on_resume: np.ndarray
    visit_every: np.ndarray
    least_blasts: np.ndarray


class Progress(NamedTuple):
    """Where the patients of a block stand: integers ``[W]``, ``[W, K]`` or ``[W, C]``."""

    course: np.ndarray
    cycle: np.ndarray
    cycle_start: np.ndarray
    pending: np.ndarray
    due: np.ndarray
    ended: np.ndarray
    level: np.ndarray
    held: np.ndarray


class Output(NamedTuple):
    """Arrays to fill, ``[L, D]`` unless stated; see `pkpd.leukaemia.outcomes.DailyCourses`."""

    neutrophils: np.ndarray
    platelets: np.ndarray
    platelets_with_transfused: np.ndarray
    wbc: np.ndarray
    marrow_blasts: np.ndarray
    blood_blasts: np.ndarray
    marrow_cells: np.ndarray
    transfused: np.ndarray
    cumulative_hazard: np.ndarray
    first_day: np.ndarray
    cycles_started: np.ndarray
    doses_given: np.ndarray
    full_doses: np.ndarray
    second_cycle_day: np.ndarray


@njit(nogil=True, error_model="numpy")
def _reached(threshold: np.ndarray, either: bool, anc: float, plt: float) -> bool:
    """Whether a gate is met; thresholds of 0 are not asked for."""
    asks_n, asks_p = threshold[0] > 0.0, threshold[1] > 0.0
    if not asks_n and not asks_p:
        return True
    if either:
        return (asks_n and anc >= threshold[0]) or (asks_p and plt >= threshold[1])
    return (not asks_n or anc >= threshold[0]) and (not asks_p or plt >= threshold[1])


@njit(nogil=True, error_model="numpy")
def _decide(
    start: int, width: int, day: int, t: Tables, s: Progress, out: Output, effect: np.ndarray
) -> bool:
    """Take the decisions of one morning; today's effects of every patient go into ``effect``.

    False if treatment has ended for all: no later morning needs a decision.
    """
    courses, drugs = t.hold_below.shape[0], t.hold_below.shape[1]
    going_on = False
    for w in range(width):
        lane = start + w
        effect[w, :] = 0.0
        if s.ended[w]:
            continue
        going_on = True
        anc = out.neutrophils[lane, day]
        plt = out.platelets_with_transfused[lane, day]
        c = s.course[w]
        if not s.pending[w] and day >= s.cycle_start[w] + t.cycle_days[c]:
            # a cycle is over: the next cycle, or the next course, is pending
            s.pending[w] = 1
            s.due[w] = day
            s.cycle[w] += 1
            if s.cycle[w] >= t.cycles[c]:
                c += 1
                if c >= courses:
                    s.ended[w] = 1
                    continue
                s.course[w] = c
                s.cycle[w] = 0
                s.due[w] = max(t.start_day[c], day)
        while s.pending[w] and day >= s.due[w] and s.cycle[w] == 0:
            if out.marrow_blasts[lane, day] >= t.least_blasts[c]:
                break
            c += 1  # a course for persisting leukaemia that is not needed
            if c >= courses:
                s.ended[w] = 1
                break
            s.course[w] = c
            s.due[w] = max(t.start_day[c], day)
        if s.ended[w]:
            continue
        if s.pending[w] and day >= s.due[w]:
            waited = day - s.due[w]
            later = 1 if s.cycle[w] > 0 else 0
            look = waited % max(t.gate_every[c, later], 1) == 0
            met = _reached(t.gate_threshold[c, later], t.gate_any[c, later], anc, plt)
            too_long = waited >= t.gate_wait[c, later]
            if (look and met) or (too_long and not t.gate_stop[c, later]):
                s.pending[w] = 0
                s.cycle_start[w] = day
                out.cycles_started[lane, c] += 1
                if later == 0:
                    out.first_day[lane, c] = day + 1
                    s.level[w, :] = 0
                    s.held[w, :] = 0
                if (later == 1 or c > 0) and out.second_cycle_day[lane] == _NEVER:
                    out.second_cycle_day[lane] = day + 1
            elif too_long:
                s.ended[w] = 1
                continue
        began = out.first_day[lane, c] - 1
        if began < 0:
            continue
        for k in range(drugs):
            if (day - began) % max(t.visit_every[c, k], 1) == 0:
                hold, resume = t.hold_below[c, k], t.resume_at[c, k]
                if s.held[w, k]:
                    if anc >= resume[0] and plt >= resume[1]:
                        s.held[w, k] = 0
                        if t.reduce_on_resume[c, k]:
                            s.level[w, k] = min(s.level[w, k] + 1, t.n_levels[c, k] - 1)
                elif anc < hold[0] or plt < hold[1]:
                    s.held[w, k] = 1
        if s.pending[w]:
            continue
        cycle_day = day - s.cycle_start[w]
        for k in range(drugs):
            if not s.held[w, k]:
                multiplier = t.level[c, k, s.level[w, k]]
                for j in range(10):
                    effect[w, j] += multiplier * t.effect[c, cycle_day, k, j]
                out.doses_given[lane, k] += t.given[c, cycle_day, k]
                out.full_doses[lane, k] += multiplier * t.given[c, cycle_day, k]
    return going_on


@njit(nogil=True, error_model="numpy")
def _doses(
    width: int, effect: np.ndarray, block: np.ndarray, y: np.ndarray, today: np.ndarray
) -> bool:
    """Give today's doses; whether any of today's rates is another one than yesterday's."""
    changes = False
    for i in range(width):
        row = effect[i]
        rates = (row[0], row[1], row[2], row[3])
        level = block[_LEN_MG + i] * row[5]
        for j in range(4):
            changes |= today[j * WIDTH + i] != rates[j]
            today[j * WIDTH + i] = rates[j]
        changes |= today[5 * WIDTH + i] != level
        changes |= today[6 * WIDTH + i] != row[8] or today[7 * WIDTH + i] != row[9]
        today[5 * WIDTH + i] = level
        today[6 * WIDTH + i] = row[8]
        today[7 * WIDTH + i] = row[9]
        y[_CLO + i] += block[_TP_DOSE + i] * row[4]
        y[_GUT + i] += level * block[_LEN_KE + i]
        y[_PEG + i] += row[7]
    return changes


@njit(nogil=True, error_model="numpy")
def _in_use(t: Tables, y: np.ndarray, oral: bool) -> tuple[bool, bool, bool, bool]:
    """Which of clofarabine, pegfilgrastim, lenalidomide by mouth and late injury there may be."""
    clo = peg = oral_lenalidomide = injury = False
    for c in range(t.effect.shape[0]):
        for d in range(t.effect.shape[1]):
            for k in range(t.effect.shape[2]):
                clo |= t.effect[c, d, k, 4] != 0.0
                peg |= t.effect[c, d, k, 7] != 0.0
                oral_lenalidomide |= t.effect[c, d, k, 5] != 0.0
                injury |= t.effect[c, d, k, 3] != 0.0
    for i in range(WIDTH):
        clo |= y[_CLO + i] != 0.0 or y[_TP + i] != 0.0
        peg |= y[_PEG + i] != 0.0
        oral_lenalidomide |= y[_GUT + i] != 0.0 or y[_CENTRAL + i] != 0.0
        for row in _INJURIES:
            injury |= y[row + i] != 0.0
    return clo, peg, oral and oral_lenalidomide, injury


@njit(nogil=True, error_model="numpy")
def run_blocks(
    first: int,
    last: int,
    par: np.ndarray,
    initial: np.ndarray,
    t: Tables,
    filgrastim_below: float,
    filgrastim_from: int,
    transfuse_below: float,
    steps: int,
    flags: tuple[int, int, int, int],
    out: Output,
) -> None:
    """Simulate lanes ``first`` to ``last``; ``par`` [P, L], ``initial`` [states, L]."""
    days = out.neutrophils.shape[1]
    n_states = initial.shape[0]
    courses, drugs = t.hold_below.shape[0], t.hold_below.shape[1]
    h = 1.0 / steps
    feedback, linear_effect, above_one, oral = flags
    block = np.empty(N_PARAMETERS * WIDTH)
    y = np.zeros(N_STATES * WIDTH)
    fixed = np.empty(N_FIXED * WIDTH)
    effects = np.zeros(N_EFFECTS * WIDTH)
    today = np.zeros(N_TODAY * WIDTH)
    effect = np.zeros((WIDTH, 10))
    for start in range(first, last, WIDTH):
        for j in range(N_PARAMETERS):
            for i in range(WIDTH):
                block[j * WIDTH + i] = par[j, min(start + i, last - 1)]
        for j in range(n_states):
            for i in range(WIDTH):
                y[j * WIDTH + i] = initial[j, min(start + i, last - 1)]
        today[:] = 0.0
        step_factors(block, fixed, h)
        begin(y, block, fixed, effects)
        has_clo, has_peg, has_oral, has_injury = _in_use(t, y, oral == 1)
        clo_acts = changes = True
        s = Progress(
            np.zeros(WIDTH, np.int64),
            np.zeros(WIDTH, np.int64),
            np.zeros(WIDTH, np.int64),
            np.ones(WIDTH, np.int64),
            np.zeros(WIDTH, np.int64),
            np.zeros(WIDTH, np.int64),
            np.zeros((WIDTH, drugs), np.int64),
            np.zeros((WIDTH, drugs), np.int64),
        )
        for i in range(WIDTH):
            s.ended[i] = 1 if courses == 0 else 0
            if courses > 0:
                s.due[i] = max(t.start_day[0], 0)
        width = min(WIDTH, last - start)
        for lane in range(start, start + width):
            out.second_cycle_day[lane] = _NEVER
        treated = courses > 0
        effect[:] = 0.0
        for day in range(days):
            for i in range(width):
                lane = start + i
                leukaemic = block[_PER_BLAST + i] * y[_L + i] * y[_L + i]
                own = y[_N + i] * block[_N0 + i]
                anc = own + block[_PHI + i] * leukaemic
                plt = y[_P + i] * block[_P0 + i]
                all_plt = plt + y[_X + i]
                cells = 0.25 * (y[_C + i] + y[_T1 + i] + y[_T2 + i] + y[_T3 + i])
                blasts = 100.0 * y[_L + i] / (y[_L + i] + cells + block[_OTHER + i])
                out.marrow_cells[lane, day] = y[_L + i] + cells
                out.neutrophils[lane, day] = anc
                out.platelets[lane, day] = plt
                out.platelets_with_transfused[lane, day] = all_plt
                out.wbc[lane, day] = own / block[_SHARE + i] + leukaemic
                out.marrow_blasts[lane, day] = blasts
                out.blood_blasts[lane, day] = leukaemic * (1.0 - block[_PHI + i])
                out.cumulative_hazard[lane, day] = y[_HAZARD + i]
            if treated:
                treated = _decide(start, width, day, t, s, out, effect)
                changes = _doses(width, effect, block, y, today) or changes
            for i in range(width):
                lane = start + i
                need = day + 1 >= filgrastim_from
                need = need and out.neutrophils[lane, day] < filgrastim_below
                today[4 * WIDTH + i] = 1.0 if need else min(effect[i, 6], 1.0)
                if out.platelets_with_transfused[lane, day] < transfuse_below:
                    y[_X + i] += block[_INCREMENT + i]
                    out.transfused[lane, day] = True
            if day + 1 == days:
                break
            for _ in range(steps):
                if has_clo:
                    acted = clo_acts
                    clo_acts = clofarabine(y, block, fixed, effects, acted)
                    changes = changes or acted or clo_acts
                if has_oral:
                    lenalidomide(y, fixed, effects)
                if changes or has_oral:
                    drug_effects(
                        block, today, effects, h, linear_effect == 1, above_one != 0, oral == 1
                    )
                    changes = False
                if has_injury:
                    late_injury(y, block, fixed, today, effects)
                growth_factor_on(y, block, today, effects, h, has_peg)
                advance(y, block, fixed, effects, h, feedback, above_one)


def _with_cache(version: int) -> Any:
    """Keep the compiled course on disk, for as long as ``version`` of its sources is the same."""

    @njit(nogil=True, error_model="numpy", cache=True)
    def run(
        first, last, par, initial, t, filgrastim_below, filgrastim_from, transfuse_below, steps,
        flags, out,
    ):  # fmt: skip
        if version != 0:  # named here so that it is part of the key of the cache
            run_blocks(
                first, last, par, initial, t, filgrastim_below, filgrastim_from, transfuse_below,
                steps, flags, out,
            )  # fmt: skip

    return run


def _version() -> int:
    modules = (compiled_math, compiled_step, equations, sys.modules[__name__])
    text = "".join(inspect.getsource(module) for module in modules)
    return 1 + int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")


run_blocks_cached = _with_cache(_version())
"""`run_blocks`, compiled once for all runs."""
