"""Compiled part of `pkpd.solve.events.advance`: amounts of a linear system by sorted events."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from pkpd.kinetics.compartments import LinearSystem
from pkpd.kinetics.steady_state import constant_infusion_state, cycle_state
from pkpd.solve.events.timeline import Cycle, EventOptions, Slots, Timeline, cycle_of, sorted_events


@partial(jax.jit, static_argnames=("system", "options", "slots"))
def record_amounts(
    data: dict[str, Array],
    values: dict[str, Array],
    *,
    system: LinearSystem,
    options: EventOptions,
    slots: Slots,
) -> Array:
    """Amounts [B, N, S] at records; see :func:`pkpd.solve.events.advance.solve_linear`."""
    line = Timeline(data, values, system, options)
    subject = line.subject
    at_records = jnp.zeros((*data["time"].shape, system.size))
    if "initial" in data:
        at_records = at_records + data["resets"][..., None] * data["initial"]
    steady = data["ss_record"].shape[1] > 0
    if steady:
        cycle = cycle_of(line, options)
        at_records = at_records + _steady_state_amounts(line, cycle, options, slots)
    events = sorted_events(line, slots, cycle if steady else None, at_records)
    position, governs, starts = events.position, events.governs, events.starts
    rates = line.rates(position, governs)
    transition, gain = system.step(line.parameters(governs), rates, events.length)
    stay = jnp.where(starts, 0.0, 1.0)[..., None]
    plus = stay * gain + events.joined.jump[subject, events.permutation]

    def advance(state: Array, event: tuple[Array, Array]) -> tuple[Array, Array]:
        step, jump = event
        state = jnp.einsum("bij,bj->bi", step, state) + jump
        return state, state

    _, states = jax.lax.scan(
        advance,
        jnp.zeros((line.n_subjects, system.size)),
        (jnp.swapaxes(stay[..., None] * transition, 0, 1), jnp.swapaxes(plus, 0, 1)),
    )
    amounts = jnp.swapaxes(states, 0, 1)[subject, position[subject, events.seen]]
    return jnp.where(line.refused[:, None, None], jnp.nan, amounts)


def _steady_state_amounts(
    line: Timeline, cycle: Cycle, options: EventOptions, slots: Slots
) -> Array:
    """Amounts that steady-state records bring in, [B, N, S]."""
    data, size = line.data, line.system.size
    parameters = line.parameters(cycle.record)
    bolus = jnp.where(cycle.code == 0, cycle.amount, 0.0)
    rate = jnp.where(cycle.infused, cycle.rate, 0.0)
    amounts = cycle_state(
        partial(line.system.step, parameters),
        line.into(cycle.cmt, bolus),
        line.into(cycle.cmt, rate),
        cycle.length,
        cycle.interval,
        cycle.since,
    )
    unseen = cycle.length > slots.overlap * (1.0 + 1e-9) * cycle.interval
    if options.steady_state_lag == "periodic":
        unseen |= cycle.lag > (slots.pending + 1) * (1.0 + 1e-9) * cycle.interval
    amounts = jnp.where((cycle.regular & unseen)[..., None], jnp.nan, amounts)
    constant = data["ss_valid"] & data["ss_constant"]
    # elsewhere a matrix that can be inverted, for the derivative of what is not used
    safe = jnp.where(constant[..., None, None], line.system.matrix(parameters), -jnp.eye(size))
    steady = constant_infusion_state(
        safe, line.into(cycle.cmt, jnp.where(constant, cycle.rate, 0.0))
    )
    amounts = jnp.where(constant[..., None], steady, amounts)
    amounts = jnp.where(data["ss_valid"][..., None], amounts, 0.0)
    where = jax.nn.one_hot(cycle.record, line.n_records) * data["ss_valid"][..., None]
    return jnp.einsum("bqn,bqs->bns", where, amounts)
