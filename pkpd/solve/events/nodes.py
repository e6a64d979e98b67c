"""Compiled part of `pkpd.solve.events.ode`: events in time order, the states through them.

Events are collected as for linear systems (`pkpd.solve.events.timeline`); what differs is how the
state goes from one to the next, and that a steady state has to be found.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pkpd.solve.events.adaptive import adaptive
from pkpd.solve.events.clock import StepLengths
from pkpd.solve.events.guard import finite_derivative
from pkpd.solve.events.march import Pieces, march
from pkpd.solve.events.steady import Regular, steady_states
from pkpd.solve.events.system import Numbers, OdeSystem
from pkpd.solve.events.timeline import (
    Cycle,
    EventBlock,
    EventOptions,
    Slots,
    Timeline,
    cycle_of,
    sorted_events,
)

Method = Literal["fixed", "fixed-stiff", "diffrax", "diffrax-stiff"]
CONSTANT_CYCLE_H = 24.0


class EventPlan(NamedTuple):
    """What fixes the compiled program besides shapes and slots.

    ``steps`` and ``cycle_steps`` are the lengths of the scans over the records and over one dosing
    cycle; ``cells`` the most events between two starts (adaptive methods only).
    """

    method: Method
    steps: int
    cycle_steps: int
    cells: int
    moving: bool

    @property
    def marches(self) -> bool:
        """Whether steps are fixed."""
        return self.method in ("fixed", "fixed-stiff")


class Solved(NamedTuple):
    """States at records, [B, N, S], and by subject whether they are lost, [B].

    ``unsteady``: no steady state was found; ``status``: that of the adaptive solver, 0 where it was
    not used.
    """

    states: Array
    unsteady: Array
    status: Array


@partial(jax.jit, static_argnames=("system", "options", "slots", "plan"))
def record_states(
    data: dict[str, Array],
    values: dict[str, Array],
    lengths: StepLengths,
    *,
    system: OdeSystem,
    options: EventOptions,
    slots: Slots,
    plan: EventPlan,
) -> Solved:
    """States at records; see `pkpd.solve.events.ode.solve_events`."""
    n_subjects, n_records = data["time"].shape
    values = {
        name: finite_derivative(jnp.broadcast_to(v, (n_subjects, v.shape[1])))
        for name, v in values.items()
    }
    line = Timeline(data, values, system.layout, options)
    subject = line.subject
    initial = _initial(system, values)

    at_records = jnp.zeros((n_subjects, n_records, system.size))
    unsteady = jnp.zeros(n_subjects, dtype=bool)
    steady = data["ss_record"].shape[1] > 0
    if steady:
        cycle = cycle_of(line, options)
        amounts, converged = _steady_amounts(line, system, cycle, initial, slots, plan, lengths)
        where = jax.nn.one_hot(cycle.record, n_records) * data["ss_valid"][..., None]
        at_records = jnp.einsum("bqn,bqs->bns", where, amounts)
        unsteady = jnp.any(~converged, axis=1)
    events = sorted_events(line, slots, cycle if steady else None, at_records)
    joined, permutation, position = events.joined, events.permutation, events.position
    own, governs, drop = events.own, events.governs, events.starts
    loud = _loud(data, joined, n_records)[subject, permutation]
    between = ~events.is_record & _real(data, joined, slots, n_records)[subject, permutation]
    p = line.parameters(governs)
    kick = loud | between
    for value in p.values():
        if value.shape[1] > 1:
            now = jax.lax.stop_gradient(value)
            kick |= now != jnp.roll(now, -1, axis=1)
    if plan.moving:
        # a stretch of no length has a derivative if the time of either end has one
        loud |= between | jnp.roll(between, 1, axis=1).at[:, 0].set(False)
    pieces = Pieces(
        begin=events.time - events.length,
        length=events.length,
        rate=line.rates(position, governs),
        jump=joined.jump[subject, permutation],
        drop=drop,
        fresh=drop & line.at_record("resets", own),
        loud=loud,
        kick=kick,
    )
    if initial.shape[1] > 1:
        initial = initial[subject, own]
    if plan.marches:
        start = jnp.zeros((n_subjects, system.size))
        implicit = plan.method == "fixed-stiff"
        states = march(system, p, pieces, start, initial, lengths, plan.steps, implicit=implicit)
        status = jnp.zeros(n_subjects, dtype=jnp.int64)
    else:
        states, status = _by_segment(data, system, p, pieces, initial, plan)
    out = states[subject, position[subject, events.seen]]
    return Solved(
        jnp.where((line.refused | unsteady)[:, None, None], jnp.nan, out), unsteady, status
    )


def _initial(system: OdeSystem, values: Numbers) -> Array:
    """Evaluate the initial states of all compartments, [B, 1 or N, S]."""
    rows, columns = jnp.broadcast_shapes(*(v.shape for v in values.values()), (1, 1))
    linear = jnp.zeros((rows, columns, system.n_linear))
    if system.initial is None:
        return jnp.zeros((rows, 1, system.size))
    full = {name: jnp.broadcast_to(values[name], (rows, columns)) for name in system.parameters}
    per = jax.vmap(jax.vmap(system.initial))(full)
    own = jnp.stack([jnp.broadcast_to(each, (rows, columns)) for each in per], axis=-1)
    return jnp.concatenate([linear, own.astype(float)], axis=-1)


def _loud(data: dict[str, Array], joined: EventBlock, n_records: int) -> Array:
    """Events that may add something, [B, E]; a dose counts also where its amount is now 0."""
    doses = data["valid"] & (data["rate"] == 0)
    loud = jnp.any(jax.lax.stop_gradient(joined.jump) != 0, axis=-1)
    return loud.at[:, n_records : n_records + doses.shape[1]].set(doses)


def _real(data: dict[str, Array], joined: EventBlock, slots: Slots, n_records: int) -> Array:
    """Events that are not padding, [B, E]."""
    real = jnp.ones(joined.time.shape, dtype=bool)
    valid = jnp.asarray(data["valid"])
    first, n_doses = n_records, valid.shape[1]
    real = real.at[:, first : first + n_doses].set(valid)
    first += n_doses
    for place, column in enumerate(slots.infusions):
        real = real.at[:, first + place].set(valid[:, column] & (data["rate"][:, column] != 0))
    first += len(slots.infusions) if n_doses else 0
    steady = jnp.repeat(jnp.asarray(data["ss_valid"]), slots.overlap + 2 * slots.pending, axis=1)
    rest = joined.time.shape[1] - first
    return real.at[:, first:].set(steady[:, :rest]) if rest else real


def _steady_amounts(
    line: Timeline,
    system: OdeSystem,
    cycle: Cycle,
    initial: Array,
    slots: Slots,
    plan: EventPlan,
    lengths: StepLengths,
) -> tuple[Array, Array]:
    """States that steady-state records bring in [B, Q, S], and whether they converged [B, Q]."""
    data, shape = line.data, cycle.record.shape
    lanes = shape[0] * shape[1]
    valid = jnp.asarray(data["ss_valid"])
    constant = valid & data["ss_constant"]
    regular = cycle.regular
    start = initial
    if initial.shape[1] > 1:
        start = initial[line.subject, cycle.record]
    start = jnp.broadcast_to(start, (*shape, system.size))

    def flat(values: Array) -> Array:
        return jnp.reshape(values, (lanes, *values.shape[2:]))

    p = {
        name: flat(jnp.broadcast_to(value, shape))[:, None]
        for name, value in line.parameters(cycle.record).items()
    }
    bolus = jnp.where(regular & (cycle.code == 0), cycle.amount, 0.0)
    rate = jnp.where((regular & cycle.infused) | constant, cycle.rate, 0.0)
    dosing = Regular(
        time=flat(line.at_record("time", cycle.record)),
        since=flat(jnp.where(regular, cycle.since, 0.0)),
        interval=flat(jnp.where(regular, cycle.interval, CONSTANT_CYCLE_H)),
        length=flat(jnp.where(regular, cycle.length, 0.0)),
        bolus=flat(line.into(cycle.cmt, bolus)),
        rate=flat(line.into(cycle.cmt, rate)),
        constant=flat(constant),
        valid=flat(valid),
    )

    def solve(values: Numbers, pieces: Pieces, states: Array) -> Array:
        if plan.marches:
            none = jnp.zeros((states.shape[0], 1, system.size))
            steps, implicit = plan.cycle_steps, plan.method == "fixed-stiff"
            return march(system, values, pieces, states, none, lengths, steps, implicit=implicit)
        return adaptive(system, values, pieces, states, stiff=plan.method == "diffrax-stiff")[0]

    amounts, converged = steady_states(system, p, dosing, flat(start), solve, forward=plan.marches)
    amounts = jnp.reshape(amounts, (*shape, -1))
    # what is added to existing amounts is the deviation from the initial states
    adds = line.at_record("ss", cycle.record) == 2
    amounts = amounts - jnp.where(adds[..., None], start, 0.0)
    unseen = cycle.length > slots.overlap * (1.0 + 1e-9) * cycle.interval
    unseen |= cycle.lag > (slots.pending + 1) * (1.0 + 1e-9) * cycle.interval
    amounts = jnp.where((regular & unseen)[..., None], jnp.nan, amounts)
    return jnp.where(valid[..., None], amounts, 0.0), jnp.reshape(converged, shape)


def _by_segment(
    data: dict[str, Array],
    system: OdeSystem,
    p: Numbers,
    pieces: Pieces,
    initial: Array,
    plan: EventPlan,
) -> tuple[Array, Array]:
    """States after each piece [B, E, S] on adaptive steps, each stretch between starts a lane."""
    lane, first, count = data["lane_subject"], data["lane_first"], data["lane_count"]
    cell = jnp.arange(plan.cells)
    event = jnp.minimum(first[:, None] + cell, pieces.length.shape[1] - 1)
    here = cell < count[:, None]
    rows = lane[:, None]

    def taken(values: Array) -> Array:
        mask = here.reshape(*here.shape, *([1] * (values.ndim - 2)))
        return jnp.where(mask, values[rows, event], jnp.zeros((), values.dtype))

    own = Pieces(*(taken(part) for part in pieces))
    put_back = initial[lane, 0] if initial.shape[1] == 1 else initial[lane, first]
    start = jnp.where(own.fresh[:, :1], put_back, 0.0)
    values = {n: v[lane] if v.shape[1] == 1 else v[rows, event] for n, v in p.items()}
    states, status = adaptive(system, values, own, start, stiff=plan.method == "diffrax-stiff")
    by_event = states[data["event_lane"], data["event_cell"]]
    worst = jnp.zeros(pieces.length.shape[0], dtype=status.dtype).at[lane].max(status)
    return by_event, worst
