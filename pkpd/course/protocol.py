"""A regimen carried out day by day: cycles, gates, holds and reductions on simulated counts.

Every lane (one patient under one parameter draw) walks through the courses of a
:class:`pkpd.schedule.DosingPlan` at its own pace, because gates and dose modifications depend on
its counts. All decisions of a day are taken at the start of the day, on the counts a laboratory
would report that morning (platelets include transfused ones), before that day's doses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

import pkpd.float64  # noqa: F401  (before anything is traced)

if TYPE_CHECKING:
    from pkpd.schedule import DosingPlan

LINES = ("neutrophils", "platelets")


class PlanTables(NamedTuple):
    """The tables of a dosing plan as arrays; axes C courses, D cycle days, S slots, K drugs."""

    amount: Array
    cycle_days: Array
    cycles: Array
    start_day: Array
    gate_threshold: Array
    gate_any: Array
    gate_every: Array
    gate_wait: Array
    gate_stop: Array
    hold_below: Array
    resume_at: Array
    level: Array
    n_levels: Array
    reduce_on_resume: Array
    visit_every: Array


def plan_tables(plan: DosingPlan) -> PlanTables:
    """Return the plan's tables as JAX arrays, so that plans of one shape share a compilation."""
    return PlanTables(*(jnp.asarray(getattr(plan, name)) for name in PlanTables._fields))


class Progress(NamedTuple):
    """Where each lane stands in its regimen; integer or boolean arrays over lanes [L].

    ``due`` is the day from which a pending start may happen, ``first_day`` [C, L] the day on which
    each course began (-1: not yet), ``level`` and ``held`` have shape [K, L], ``doses`` [K, L]
    counts the dosing days so far (the occasion number).
    """

    course: Array
    cycle: Array
    cycle_start: Array
    pending: Array
    due: Array
    ended: Array
    level: Array
    held: Array
    doses: Array
    first_day: Array


def begin(tables: PlanTables, lanes: int) -> Progress:
    """Return the state before the first day: the first course is pending."""
    n_courses, n_drugs = tables.hold_below.shape[:2]
    zero = jnp.zeros(lanes, dtype=jnp.int32)
    return Progress(
        course=zero,
        cycle=zero,
        cycle_start=zero,
        pending=jnp.ones(lanes, dtype=bool),
        due=jnp.maximum(tables.start_day[0], 0).astype(jnp.int32) + zero,
        ended=jnp.zeros(lanes, dtype=bool),
        level=jnp.zeros((n_drugs, lanes), dtype=jnp.int32),
        held=jnp.zeros((n_drugs, lanes), dtype=bool),
        doses=jnp.zeros((n_drugs, lanes), dtype=jnp.int32),
        first_day=jnp.full((n_courses, lanes), -1, dtype=jnp.int32),
    )


def calendar(plan: DosingPlan) -> tuple[np.ndarray, np.ndarray]:
    """Amounts by day, and the first day of each course, of a plan without gates or holds.

    Parameters
    ----------
    plan
        A plan with ``is_static``.

    Returns
    -------
    amount : ``[days, S]``
        In the slot's unit.
    first_day : ``[C]``
        Day from 0; -1 if the course begins after the horizon.
    """
    amount = np.zeros((plan.horizon_days, len(plan.slots)))
    first_day = np.full(plan.cycles.size, -1, dtype=np.int32)
    for c, start in enumerate(plan.planned_start):
        if start < plan.horizon_days:
            first_day[c] = start
        for cycle in range(plan.cycles[c]):
            begin_day = int(start + cycle * plan.cycle_days[c])
            stop = min(begin_day + int(plan.cycle_days[c]), plan.horizon_days)
            if begin_day < stop:
                amount[begin_day:stop] = plan.amount[c, : stop - begin_day]
    return amount, first_day


def _pick(table: Array, index: Array) -> Array:
    """``table[index]`` for a short leading axis, lanes moved last.

    A sum over the few rows vectorises; a gather would take most of a simulated day's time.
    """
    rows = jnp.arange(table.shape[0])
    one_hot = index == rows.reshape(-1, *([1] * index.ndim))
    table = table[..., None]
    one_hot = one_hot.reshape(table.shape[0], *([1] * (table.ndim - 2)), -1)
    if table.dtype == bool:
        return jnp.any(one_hot & table, axis=0)
    return jnp.sum(jnp.where(one_hot, table, 0), axis=0)


def one_day(
    state: Progress, day: Array, tables: PlanTables, counts: Array, slot_drug: tuple[int, ...]
) -> tuple[Progress, Array]:
    """Take the decisions of one day.

    Parameters
    ----------
    state
        State at the end of the day before.
    day
        Day index from 0 (protocol day 1).
    tables
        The plan.
    counts
        Neutrophils and platelets of the morning, 10^9/L, shape [2, L].
    slot_drug
        Index of the drug of each slot, length S.

    Returns
    -------
    Progress
        State after the decisions.
    Array
        Amount of each slot to be given today in the slot's own unit (mg, mg/m², mg/kg), after
        holds and reductions, shape [S, L].
    """
    n_courses = tables.cycles.shape[0]
    day = day.astype(jnp.int32)

    # 1. A cycle that is over makes the next cycle, or the next course, pending.
    running = ~state.pending & ~state.ended
    over = running & (day >= state.cycle_start + _pick(tables.cycle_days, state.course))
    next_course = over & (state.cycle + 1 >= _pick(tables.cycles, state.course))
    ended = state.ended | (next_course & (state.course + 1 >= n_courses))
    course = jnp.minimum(state.course + next_course, n_courses - 1).astype(jnp.int32)
    cycle = jnp.where(next_course, 0, state.cycle + over).astype(jnp.int32)
    pending = (state.pending | over) & ~ended
    planned = jnp.where(next_course, jnp.maximum(_pick(tables.start_day, course), day), day)
    due = jnp.where(over, planned, state.due).astype(jnp.int32)

    # 2. A pending start happens when its gate is met, or when waiting is over.
    later = cycle > 0

    def gate(table: Array) -> Array:
        return jnp.where(later, _pick(table[:, 1], course), _pick(table[:, 0], course))

    threshold = gate(tables.gate_threshold)
    asked = threshold > 0
    reached = counts >= threshold
    met = jnp.where(
        gate(tables.gate_any),
        jnp.any(asked & reached, axis=0) | ~jnp.any(asked, axis=0),
        jnp.all(reached | ~asked, axis=0),
    )
    waited = day - due
    looked = waited % jnp.maximum(gate(tables.gate_every), 1) == 0
    too_long = waited >= gate(tables.gate_wait)
    stops = gate(tables.gate_stop)
    ready = pending & (waited >= 0)
    start = ready & ((looked & met) | (too_long & ~stops))
    ended = ended | (ready & ~start & too_long & stops)
    pending = pending & ~start & ~ended
    cycle_start = jnp.where(start, day, state.cycle_start)
    new_course = start & (cycle == 0)
    is_course = jnp.arange(n_courses)[:, None] == course
    first_day = jnp.where(is_course & new_course, day, state.first_day)

    # 3. Holds, resumptions and reductions at visits, which begin with the course and go on while
    # a later cycle waits for its gate; a new course begins at its full dose.
    running = ~pending & ~ended
    began = jnp.sum(jnp.where(is_course, first_day, 0), axis=0)
    every = jnp.maximum(_pick(tables.visit_every, course), 1)
    visit = ~ended & (began >= 0) & ((day - began) % every == 0)
    hold = _pick(tables.hold_below, course)
    resume = _pick(tables.resume_at, course)
    low = jnp.any((hold > 0) & (counts < hold), axis=1)
    high = jnp.all((resume <= 0) | (counts >= resume), axis=1)
    held = state.held & ~new_course
    resumed = visit & held & high
    held = jnp.where(visit, jnp.where(held, ~high, low), held)
    lowest = _pick(tables.n_levels, course) - 1
    reduced = resumed & _pick(tables.reduce_on_resume, course)
    level = jnp.where(new_course, 0, jnp.minimum(state.level + reduced, lowest))

    # 4. Today's amounts.
    cycle_day = jnp.clip(day - cycle_start, 0, tables.amount.shape[1] - 1)
    amount = tables.amount[course, cycle_day].T
    multipliers = _pick(tables.level, course)
    levels = jnp.arange(multipliers.shape[1])[None, :, None]
    multiplier = jnp.sum(jnp.where(levels == level[:, None, :], multipliers, 0.0), axis=1)
    multiplier = jnp.where(held | ~running, 0.0, multiplier)
    amount = amount * jnp.stack([multiplier[k] for k in slot_drug])
    state = Progress(
        course=course,
        cycle=cycle,
        cycle_start=cycle_start,
        pending=pending,
        due=due,
        ended=ended,
        level=level.astype(jnp.int32),
        held=held,
        doses=state.doses + dosed(amount, slot_drug, held.shape[0]),
        first_day=first_day,
    )
    return state, amount


def dosed(amount: Array, slot_drug: tuple[int, ...], drugs: int) -> Array:
    """Whether each drug is given today, ``[K, L]``, from amounts ``[S, L]``."""
    rows = []
    for k in range(drugs):
        mine = [amount[s] > 0 for s, drug in enumerate(slot_drug) if drug == k]
        rows.append(sum(mine[1:], mine[0]) > 0)
    return jnp.stack(rows)
