"""Steady state of a nonlinear system under regular doses: the fixed point of one dosing cycle.

A few cycles are run from the initial states, then Newton's method solves ``cycle(y) = y``, so a
slow elimination costs no more cycles than a fast one. The last Newton step alone is differentiated:
with the matrix of the step held constant its derivative is that of the fixed point, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pkpd.kinetics.steady_state import constant_infusion_state, cycle_state
from pkpd.solve.events.march import Pieces
from pkpd.solve.events.system import Numbers, OdeSystem

FIRST_CYCLES = 4
MOST_ITERATIONS = 40
TOLERANCE = 1e-8
"""Largest change of a state over the last cycle, relative to it (the last step squares it)."""

Solve = Callable[[Numbers, Pieces, Array], Array]
"""Parameters [L, 1], pieces [L, E], states before them [L, S]; states after each, [L, E, S]."""


class Regular(NamedTuple):
    """Regular dosing of lanes, [L] or [L, S].

    Attributes
    ----------
    time
        Clock at the steady-state record (h).
    since
        Time since the latest dose arrived, at the record (h).
    interval, length
        Dosing interval, and duration of an infusion (h).
    bolus, rate
        Amounts (mg) and rates (mg/h) into each compartment.
    constant
        A constant infusion since ever, of ``rate``.
    valid
        False in the padding.
    """

    time: Array
    since: Array
    interval: Array
    length: Array
    bolus: Array
    rate: Array
    constant: Array
    valid: Array


def steady_states(
    system: OdeSystem,
    p: Numbers,
    dosing: Regular,
    initial: Array,
    solve: Solve,
    *,
    forward: bool,
) -> tuple[Array, Array]:
    """Return states at the time of the record [L, S], and False where cycles go on changing [L].

    States that are lost on the way are NaN.

    Parameters
    ----------
    system
        The system.
    p
        Parameters, [L, 1].
    dosing
        Regular dosing.
    initial
        States from which the cycles begin, [L, S].
    solve
        Integrates pieces.
    forward
        Whether ``solve`` can be differentiated in forward mode; if not, differences are taken.
    """
    linear = system.n_linear
    running = jnp.floor(dosing.length / dosing.interval)
    rest = dosing.length - running * dosing.interval
    many = dosing.rate * (running + 1.0)[:, None]
    few = dosing.rate * running[:, None]
    many = jnp.where(dosing.constant[:, None], dosing.rate, many)
    few = jnp.where(dosing.constant[:, None], dosing.rate, few)
    arrival = dosing.time - dosing.since
    none = jnp.zeros(rest.shape, dtype=bool)

    def pieces(first: Array, second: Array, at_end: Array) -> Pieces:
        return Pieces(
            begin=jnp.stack([arrival, arrival + first], axis=1),
            length=jnp.stack([first, second], axis=1),
            rate=jnp.stack([many, few], axis=1),
            jump=jnp.stack([jnp.zeros_like(at_end), at_end], axis=1),
            drop=jnp.stack([none, none], axis=1),
            fresh=jnp.stack([none, none], axis=1),
            loud=jnp.stack([none, ~none], axis=1),
            kick=jnp.stack([~none, ~none], axis=1),
        )

    whole = pieces(rest, dosing.interval - rest, dosing.bolus)
    x = _linear_part(system, p, dosing)

    def cycle(values: Numbers, over: Pieces, x: Array, y: Array) -> Array:
        """States just after a dose to those just after the next."""
        return solve(values, over, jnp.concatenate([x, y], axis=1))[:, -1, linear:]

    held = jax.lax.stop_gradient((p, whole, x))
    y = jax.lax.stop_gradient(initial[:, linear:] + dosing.bolus[:, linear:])
    usable = jax.lax.stop_gradient(dosing.valid)
    size = y.shape[1]
    eye = jnp.eye(size)

    def with_newton(y: Array) -> tuple[Array, Array]:
        """Return states after a cycle, and the matrix of Newton's method, [L, S, S]."""
        if forward:
            after, columns = jax.vmap(
                lambda v: jax.jvp(lambda z: cycle(*held, z), (y,), (jnp.broadcast_to(v, y.shape),)),
                out_axes=(None, -1),
            )(eye)
        else:
            after = cycle(*held, y)
            shift = 1e-5 * (jnp.abs(y) + 1e-3 * jnp.max(jnp.abs(y), axis=1, keepdims=True) + 1e-9)
            columns = jax.vmap(
                lambda v: (
                    (cycle(*held, y + shift * v) - cycle(*held, y - shift * v))
                    / (2.0 * jnp.sum(shift * v, axis=1, keepdims=True))
                ),
                out_axes=-1,
            )(eye)
        columns = jnp.where(usable[:, None, None], columns, 0.0)
        # a state that nothing changes must not make the matrix singular
        return after, eye * (1.0 + 1e-14) - columns

    def settled(y: Array, after: Array) -> Array:
        largest = jnp.max(jnp.abs(after), axis=1, keepdims=True, initial=0.0)
        allowed = TOLERANCE * (jnp.abs(after) + 1e-2 * largest)
        return jnp.all(jnp.abs(after - y) <= allowed, axis=1) | ~usable

    def improve(state: tuple[Array, ...]) -> tuple[Array, ...]:
        n, y, _, _ = state
        after, matrix = with_newton(y)
        newton = y + jnp.linalg.solve(matrix, (after - y)[..., None])[..., 0]
        # a step into negative amounts, or to nowhere, is replaced by one more cycle
        good = jnp.all(jnp.isfinite(newton) & ((newton >= 0) | (after < 0)), axis=1)
        new = jnp.where((good & (n >= FIRST_CYCLES))[:, None], newton, after)
        done = settled(y, after)
        return n + 1, jnp.where(done[:, None], y, new), done, matrix

    def unfinished(state: tuple[Array, ...]) -> Array:
        n, y, done, _ = state
        lost = jnp.any(~jnp.isfinite(y), axis=1)
        return (n < MOST_ITERATIONS) & ~jnp.all(done | lost)

    none_yet = jnp.zeros(y.shape[:1], dtype=bool), jnp.broadcast_to(eye, (y.shape[0], size, size))
    _, y, done, matrix = jax.lax.while_loop(unfinished, improve, (jnp.array(0), y, *none_yet))
    y, matrix = jax.lax.stop_gradient((y, matrix))
    y = y + jnp.linalg.solve(matrix, (cycle(p, whole, x, y) - y)[..., None])[..., 0]
    early = jnp.minimum(dosing.since, rest)
    late = jnp.maximum(dosing.since - rest, 0.0)
    at_phase = solve(
        p, pieces(early, late, jnp.zeros_like(dosing.bolus)), jnp.concatenate([x, y], axis=1)
    )[:, -1]
    return at_phase, done | jnp.any(~jnp.isfinite(y), axis=1)


def _linear_part(system: OdeSystem, p: Numbers, dosing: Regular) -> Array:
    """Amounts of the linear system just after a dose, exactly, [L, S linear]."""
    pk = system.pk
    if pk is None:
        return jnp.zeros((dosing.time.shape[0], 0))
    own = {name: p[name][:, 0] for name in pk.parameters}
    bolus, rate = dosing.bolus[:, : pk.size], dosing.rate[:, : pk.size]
    regular = jnp.where(dosing.constant, 0.0, 1.0)[:, None]
    # since is 0: just after an arrival
    cycled = cycle_state(
        lambda r, dt: pk.step(own, r, dt),
        bolus,
        rate * regular,
        dosing.length,
        dosing.interval,
        jnp.zeros_like(dosing.since),
    )
    safe = jnp.where(dosing.constant[:, None, None], pk.matrix(own), -jnp.eye(pk.size))
    return jnp.where(dosing.constant[:, None], constant_infusion_state(safe, rate), cycled)
