"""Decisions of a morning, taken for each patient on the counts a laboratory reports.

What :func:`pkpd.schedule.follow` does for one patient, for a block of them: cycles that are over,
courses that are not needed, gates, holds, resumptions, reductions, and the amounts of the day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from pkpd.solve.bridge.linking import NO_COUNTS

if TYPE_CHECKING:
    from pkpd.schedule import DosingPlan

NEVER = 1 << 30
"""Day of what did not happen."""

_compiled = numba.njit(nogil=True, error_model="numpy", forceinline=True, **NO_COUNTS)


class Rules(NamedTuple):
    """A regimen as tables. C courses, D cycle days, S slots, K drugs, V levels, R further rates.

    ``amount`` ``[C, D, S]`` in the unit of the slot; ``rates`` ``[C, D, K, R]``, what drugs without
    kinetics do on a day; ``given`` ``[C, D, K]``, 1 on dosing days; ``least_blasts`` ``[C]``,
    marrow blasts in percent below which, on the day it is due, a course is left out; ``pair``
    ``[P, 2]`` and ``pair_rates`` ``[C, D, P, R]``, what two drugs do besides on a day on which both
    are given; ``share`` ``[C, D, K, V]``, what of a drug's amounts and rates acts at a level: more
    than ``level`` where its effect saturates. The others are those of
    :class:`pkpd.schedule.DosingPlan`.
    """

    amount: np.ndarray
    rates: np.ndarray
    given: np.ndarray
    slot_drug: np.ndarray
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
    pair: np.ndarray
    pair_rates: np.ndarray
    share: np.ndarray


def no_pairs(rates: np.ndarray) -> dict[str, np.ndarray]:
    """Tables of pairs of drugs where none do anything together."""
    courses, days, _, columns = rates.shape
    return {
        "pair": np.zeros((0, 2), dtype=np.int64),
        "pair_rates": np.zeros((courses, days, 0, columns)),
    }


def shares_of(level: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Give what acts on each day at levels ``[C, K, V]`` of what is proportional to doses."""
    wide = (level.shape[0], rates.shape[1], *level.shape[1:])
    return np.ascontiguousarray(np.broadcast_to(level[:, None], wide))


def rules_of(tables: DosingPlan | Any, **own: np.ndarray) -> Rules:
    """Rules from a dosing plan, or from tables named like its own, and from what is given here."""
    own = no_pairs(own["rates"]) | {"share": shares_of(tables.level, own["rates"])} | own
    other = {name: getattr(tables, name) for name in Rules._fields if name not in own}
    return Rules(**own, **other)


def plan_rules(plan: DosingPlan) -> Rules:
    """Rules of a dosing plan whose drugs act by what their slots give."""
    courses, days, _ = plan.amount.shape
    of_slot = np.array([slot.drug_index for slot in plan.slots], dtype=np.int64)
    given = [(plan.amount[:, :, of_slot == k] > 0.0).any(axis=2) for k in range(len(plan.drugs))]
    return rules_of(
        plan,
        rates=np.zeros((courses, days, len(plan.drugs), 0)),
        given=np.stack(given, axis=2).astype(np.int64),
        slot_drug=of_slot,
        least_blasts=np.zeros(courses),
    )


def no_rules() -> Rules:
    """Tables of no regimen."""
    whole, wide = np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    return Rules(
        amount=np.zeros((0, 0, 0)),
        rates=np.zeros((0, 0, 0, 0)),
        given=np.zeros((0, 0, 0), dtype=np.int64),
        slot_drug=whole,
        cycle_days=whole,
        cycles=whole,
        start_day=whole,
        gate_threshold=np.zeros((0, 2, 2)),
        gate_any=wide.astype(bool),
        gate_every=wide,
        gate_wait=wide,
        gate_stop=wide.astype(bool),
        hold_below=np.zeros((0, 0, 2)),
        resume_at=np.zeros((0, 0, 2)),
        level=np.zeros((0, 0, 1)),
        n_levels=np.zeros((0, 0), dtype=np.int64),
        reduce_on_resume=np.zeros((0, 0), dtype=bool),
        visit_every=np.zeros((0, 0), dtype=np.int64),
        least_blasts=np.zeros(0),
        share=np.zeros((0, 0, 0, 1)),
        **no_pairs(np.zeros((0, 0, 0, 0))),
    )


class Progress(NamedTuple):
    """Where the patients of a block stand: integers ``[W]`` or ``[W, K]``.

    ``acting`` says who has a dose or a rate today. ``acts`` ``[C, D]`` and ``holds`` ``[C, K]`` are
    of the rules: on which days anything is given, and for which drugs a count matters.
    """

    course: np.ndarray
    cycle: np.ndarray
    cycle_start: np.ndarray
    pending: np.ndarray
    due: np.ndarray
    ended: np.ndarray
    level: np.ndarray
    held: np.ndarray
    doses: np.ndarray
    acting: np.ndarray
    acts: np.ndarray
    holds: np.ndarray


class Given(NamedTuple):
    """What was done: see `pkpd.course.course.Course`; ``[L, C]``, ``[L, K]`` or ``[L, D]``."""

    first_day: np.ndarray
    cycles_started: np.ndarray
    doses_given: np.ndarray
    full_doses: np.ndarray
    next_cycle_day: np.ndarray
    dosed: np.ndarray


def new_progress(rules: Rules, width: int) -> Progress:
    """Make room for the patients of a block, whom `begin` places before the first day."""
    drugs = rules.hold_below.shape[1]
    acts = rules.amount.any(axis=2) | rules.rates.any(axis=(2, 3)) | rules.given.any(axis=2)
    return Progress(
        *(np.zeros(width, np.int64) for _ in range(6)),
        *(np.zeros((width, drugs), np.int64) for _ in range(3)),
        acting=np.zeros(width, np.int64),
        acts=np.ascontiguousarray(acts, dtype=np.int64),
        holds=(rules.hold_below.max(axis=2, initial=0.0) > 0.0).astype(np.int64),
    )


@_compiled
def begin(t: Rules, s: Progress) -> None:
    """Place the patients of a block before the first day: the first course is pending."""
    courses, drugs = t.hold_below.shape[0], t.hold_below.shape[1]
    for w in range(s.course.size):
        s.course[w] = s.cycle[w] = s.cycle_start[w] = 0
        # the rows of another block are cleared on the first morning
        s.pending[w] = s.acting[w] = 1
        s.ended[w] = 1 if courses == 0 else 0
        s.due[w] = max(t.start_day[0], 0) if courses > 0 else 0
        for k in range(drugs):
            s.level[w, k] = s.held[w, k] = s.doses[w, k] = 0


@_compiled
def _met(least_n: float, least_p: float, either: bool, anc: float, plt: float) -> bool:
    """Whether a gate is met; thresholds of 0 are not asked for."""
    asks_n, asks_p = least_n > 0.0, least_p > 0.0
    if not asks_n and not asks_p:
        return True
    if either:
        return (asks_n and anc >= least_n) or (asks_p and plt >= least_p)
    return (not asks_n or anc >= least_n) and (not asks_p or plt >= least_p)


@_compiled
def decide(
    start: int, width: int, day: int, until: int, counts: np.ndarray, t: Rules, s: Progress,
    out: Given, amount: np.ndarray, rates: np.ndarray,
) -> bool:  # fmt: skip
    """Take the decisions of one morning for a block of patients.

    Parameters
    ----------
    start, width
        First lane, and how many.
    day, until
        From 0; from ``until`` on nothing is given and no cycle starts.
    counts : float[3, W]
        Neutrophils and platelets with transfused ones (10^9/L), marrow blasts (%).
    amount, rates : float[W, S], float[W, R]
        Get what is given today; rows of lanes that do not act are zero.

    Returns
    -------
    bool
        Whether treatment goes on for any of them: if not, no later morning needs a decision.
    """
    courses, drugs = t.hold_below.shape[0], t.hold_below.shape[1]
    slots, n_rates = amount.shape[1], rates.shape[1]
    goes_on = False
    for w in range(width):
        lane = start + w
        if s.acting[w]:
            s.acting[w] = 0
            for j in range(slots):
                amount[w, j] = 0.0
            for j in range(n_rates):
                rates[w, j] = 0.0
        if day >= until:
            s.ended[w] = 1
        if s.ended[w]:
            continue
        goes_on = True
        anc, plt = counts[0, w], counts[1, w]
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
        while s.pending[w] and day == s.due[w] and s.cycle[w] == 0:  # not while a gate waits
            if counts[2, w] >= t.least_blasts[c]:
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
            least_n, least_p = t.gate_threshold[c, later, 0], t.gate_threshold[c, later, 1]
            met = _met(least_n, least_p, t.gate_any[c, later], anc, plt)
            too_long = waited >= t.gate_wait[c, later]
            if (look and met) or (too_long and not t.gate_stop[c, later]):
                s.pending[w] = 0
                s.cycle_start[w] = day
                out.cycles_started[lane, c] += 1
                if later == 0:
                    out.first_day[lane, c] = day + 1
                    for k in range(drugs):
                        s.level[w, k] = 0
                        s.held[w, k] = 0
                for other in range(c + 1):
                    began = out.first_day[lane, other]
                    if 0 < began <= day and out.next_cycle_day[lane, other] == NEVER:
                        out.next_cycle_day[lane, other] = day + 1
            elif too_long:
                s.ended[w] = 1
                continue
        if out.first_day[lane, c] == 0:
            continue
        for k in range(drugs):
            since = day - s.cycle_start[w]  # a visit is made on day 1 of every cycle, late or not
            if s.holds[c, k] and since % max(t.visit_every[c, k], 1) == 0:
                if s.held[w, k]:
                    if anc >= t.resume_at[c, k, 0] and plt >= t.resume_at[c, k, 1]:
                        s.held[w, k] = 0
                        if t.reduce_on_resume[c, k]:
                            s.level[w, k] = min(s.level[w, k] + 1, t.n_levels[c, k] - 1)
                elif anc < t.hold_below[c, k, 0] or plt < t.hold_below[c, k, 1]:
                    s.held[w, k] = 1
        if s.pending[w]:
            continue
        cycle_day = day - s.cycle_start[w]
        if not s.acts[c, cycle_day]:
            continue
        s.acting[w] = 1
        for k in range(drugs):
            if not s.held[w, k]:
                multiplier = t.level[c, k, s.level[w, k]]
                acts = t.share[c, cycle_day, k, s.level[w, k]]
                for j in range(n_rates):
                    rates[w, j] += acts * t.rates[c, cycle_day, k, j]
                out.doses_given[lane, k] += t.given[c, cycle_day, k]
                out.full_doses[lane, k] += multiplier * t.given[c, cycle_day, k]
                s.doses[w, k] += t.given[c, cycle_day, k]
                if t.given[c, cycle_day, k] > 0 and multiplier > 0.0:
                    out.dosed[lane, day] |= 1 << k
        for p in range(t.pair.shape[0]):
            k, other = t.pair[p, 0], t.pair[p, 1]
            if not s.held[w, k] and not s.held[w, other]:
                acts = t.share[c, cycle_day, k, s.level[w, k]]
                acts *= t.share[c, cycle_day, other, s.level[w, other]]
                for j in range(n_rates):
                    rates[w, j] += acts * t.pair_rates[c, cycle_day, p, j]
        for j in range(slots):
            k = t.slot_drug[j]
            if not s.held[w, k]:
                amount[w, j] = t.share[c, cycle_day, k, s.level[w, k]] * t.amount[c, cycle_day, j]
    return goes_on
