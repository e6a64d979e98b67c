"""Steady state of a linear system under regular doses, and the state at any phase of the cycle.

With the cycle counted from the arrival of a dose, the state just after arrival solves
``(I - transition(II)) x = dose + input of the running infusions over one cycle``, exactly, also
when an infusion lasts longer than the interval: then ``m = floor(T / II)`` of them always run and
one more runs for the first ``T - m II`` hours of each cycle.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array


def phase(lag: Array, interval: Array, *, wrap: bool) -> Array:
    """Time since the latest implied dose arrived, at the time of the steady-state record (h).

    Parameters
    ----------
    lag, interval
        Lag time and dosing interval (h).
    wrap
        True: the cycle repeats, so a lag of one interval or more counts modulo the interval.
        False: ``interval - lag`` as it is, negative for a lag above the interval; NONMEM 7.4.3
        then steps the state back through the cycle's beginning (see ``pkpd.solve.events.advance``).
    """
    if not wrap:
        return interval - lag
    cycles = jnp.maximum(jnp.ceil(lag / interval), 1.0)
    return cycles * interval - lag


def cycle_state(
    step: Callable[[Array, Array], tuple[Array, Array]],
    bolus: Array,
    rate: Array,
    duration: Array,
    interval: Array,
    since: Array,
) -> Array:
    """Steady-state amounts ``since`` hours after the latest implied dose arrived.

    Parameters
    ----------
    step
        The system's step: input [4, ..., S] (mg/h) and length [4, ...] (h) to transition and gain.
    bolus
        Amount entering at each arrival (mg), [..., S]; 0 for infusions.
    rate
        Infusion rate (mg/h) into each compartment, [..., S]; 0 for a bolus.
    duration
        Infusion duration (h), [...]; 0 for a bolus.
    interval
        Dosing interval (h), [...].
    since
        Phase (h), [...]; negative to step back from just after the arrival.

    Returns
    -------
    Array
        Amounts (mg), [..., S].
    """
    running = jnp.floor(duration / interval)
    rest = duration - running * interval
    many, few = rate * (running + 1.0)[..., None], rate * running[..., None]
    early = jnp.minimum(since, rest)
    late = jnp.maximum(since - rest, 0.0)

    steps, gains = step(
        jnp.stack([many, few, many, few]), jnp.stack([rest, interval - rest, early, late])
    )
    first, second, to_early, to_late = steps
    over_cycle = _apply(second, gains[0]) + gains[1] + bolus
    eye = jnp.eye(bolus.shape[-1])
    after_dose = jnp.linalg.solve(eye - second @ first, over_cycle[..., None])[..., 0]
    return _apply(to_late, _apply(to_early, after_dose) + gains[2]) + gains[3]


def _apply(matrix: Array, vector: Array) -> Array:
    return jnp.einsum("...ij,...j->...i", matrix, vector)


def constant_infusion_state(matrix: Array, rate: Array) -> Array:
    """Amounts [..., S] under a constant infusion of ``rate`` (mg/h), [..., S], since ever."""
    return jnp.linalg.solve(-matrix, rate[..., None])[..., 0]
