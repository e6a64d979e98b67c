"""Many subjects on fixed Runge-Kutta steps at once, each on steps of its own between its events.

The stretches between a subject's events are cut into steps that are short after a dose and grow
from there (`pkpd.solve.events.clock`). One ``scan`` runs over the numbers of the steps, all
subjects side by side: their steps differ in time and length, not in number, and a subject with
fewer waits at its end. Lengths of stretches may depend on parameters (lags, durations); how they
are cut carries no derivative.

The method is that of Dormand and Prince (J Comput Appl Math 1980;6:19-26), of order 5, six
evaluations a step; or, for systems with processes far faster than what is predicted, an implicit
one of order 4 (`pkpd.solve.events.rosenbrock`). A linear system that drives the states is advanced
exactly along with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pkpd.solve.events.clock import StepLengths, elapsed_steps, hours_elapsed
from pkpd.solve.events.guard import slopes_over
from pkpd.solve.events.rosenbrock import NODES, rosenbrock_step, square, weighted
from pkpd.solve.events.system import Numbers, OdeSystem

_C = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
_A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
_B = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
FEW = 2
"""States up to which the stages of an explicit step are written out. In a loop a reverse product of
thirteen states takes a thirtieth of the time, and compiling a quarter; one of two takes four times
as long."""

States = tuple[Array, ...]


class Pieces(NamedTuple):
    """Stretches between events, in time order, ``[L lanes, E]``.

    Attributes
    ----------
    begin, length
        Hours.
    rate
        Infusion into each compartment over the stretch (mg/h), [L, E, S].
    jump
        What is added at its end (mg), [L, E, S].
    drop
        True where the event at the end is a start: the stretch has no length, and what was there
        before is dropped.
    fresh
        True where a start puts back the initial states.
    loud
        True where something may be added at the end; a silent piece of no length takes no step.
    kick
        True where steps have to be short after the end: a dose, the edge of an infusion.
    """

    begin: Array
    length: Array
    rate: Array
    jump: Array
    drop: Array
    fresh: Array
    loud: Array
    kick: Array


def march(
    system: OdeSystem,
    p: Numbers,
    pieces: Pieces,
    start: Array,
    initial: Array,
    lengths: StepLengths,
    n_steps: int,
    *,
    implicit: bool = False,
) -> Array:
    """States after each piece, its jump included, [L, E, S].

    Parameters
    ----------
    system
        The system.
    p
        Parameters in force in each piece, each [L, 1] or [L, E].
    pieces
        The pieces.
    start
        States before the first piece, [L, S].
    initial
        States put back where a piece is ``fresh``, [L, 1 or E, S].
    lengths
        Lengths of steps.
    n_steps
        Number of steps in the scan; a lane that needs more is NaN.
    implicit
        Whether steps are implicit, of order 4, instead of explicit, of order 5.
    """
    lanes, n_pieces = pieces.length.shape
    size, linear = system.size, system.n_linear
    lane = jnp.arange(lanes)[:, None]
    length = jnp.nan_to_num(jax.lax.stop_gradient(pieces.length))
    first, span = _since_kick(length, pieces.kick | pieces.drop, lengths)
    least = jnp.where(pieces.loud | pieces.drop, 1, 0)
    count = jnp.maximum(jnp.ceil(span - 1e-9), least).astype(jnp.int32)
    # a length that is positive by rounding only must not be lost
    count = jnp.where((count == 0) & (length > 0), 1, count)
    count = jnp.ceil(lengths.refine * count).astype(jnp.int32)
    last = jnp.cumsum(count, axis=1)
    number = jnp.arange(n_steps, dtype=jnp.int32)
    index = jax.vmap(lambda row: jnp.searchsorted(row, number, side="right"))(last)
    index = jnp.minimum(index, n_pieces - 1)
    done = number[None, :] >= last[:, -1:]
    within = number[None, :] - (last - count)[lane, index]
    parts = jnp.maximum(count, 1)[lane, index]
    begins, ends = (
        _fraction(lengths, first, span, length, lane, index, (within + k) / parts) for k in (0, 1)
    )
    whole = pieces.length[lane, index]

    def spread(values: Array) -> Array:
        """Values at pieces [L, E, ...] at the steps, [K, ..., L]."""
        return jnp.moveaxis(values[lane, index], 0, -1)

    moving: dict[str, Any] = {
        "h": jnp.where(done, 0.0, whole * (ends - begins)).T,
        "t": (pieces.begin[lane, index] + whole * begins).T,
        "empty": ((ends == begins) | (whole == 0.0)).T & ~done.T,
        "ends": (within == count[lane, index] - 1).T & ~done.T,
        "drop": (pieces.drop[lane, index] & ~done).T,
        "fresh": (pieces.fresh[lane, index] & ~done).T,
        "jump": spread(pieces.jump),
        "rate": spread(pieces.rate),
    }
    still = {name: value[:, 0] for name, value in p.items() if value.shape[1] == 1}
    changing = {name: spread(value) for name, value in p.items() if value.shape[1] > 1}
    fixed_initial = initial.shape[1] == 1
    if not fixed_initial:
        moving["initial"] = spread(initial)
    rhs = jax.vmap(system.rhs)

    def step(state: tuple[Array, ...], at: dict[str, Any]) -> tuple[Any, Any]:
        values = {**still, **at["p"]}
        put_back = initial[:, 0].T if fixed_initial else at["initial"]
        state = tuple(
            jnp.where(at["drop"], jnp.where(at["fresh"], put_back[i], 0.0), each)
            for i, each in enumerate(state)
        )
        x, y = state[:linear], state[linear:]
        advance = _implicit if implicit else _explicit
        x, y = advance(system, slopes_over(rhs, at["empty"]), values, at, x, y)
        state = tuple(
            each + jnp.where(at["ends"], at["jump"][i], 0.0) for i, each in enumerate((*x, *y))
        )
        return state, state

    first = tuple(start[:, i] for i in range(size))
    # only the states of each step are kept for the backward pass, the stages are formed again
    stepper = jax.checkpoint(step, prevent_cse=False)
    _, states = jax.lax.scan(stepper, first, {**moving, "p": changing})
    at_end = jnp.clip(last - 1, 0, n_steps - 1)
    out = jnp.stack([each.T[lane, at_end] for each in states], axis=-1)
    return jnp.where((last[:, -1] > n_steps)[:, None, None], jnp.nan, out)


def _since_kick(length: Array, kick: Array, lengths: StepLengths) -> tuple[Array, Array]:
    """Count of steps since the last kick at the beginning of each piece, and within it, [L, E]."""
    end = jnp.cumsum(length, axis=1)
    kicked = jax.lax.cummax(jnp.where(kick, end, 0.0), axis=1)
    kicked = jnp.concatenate([jnp.zeros_like(kicked[:, :1]), kicked[:, :-1]], axis=1)
    first = elapsed_steps(lengths, jnp.maximum(end - length - kicked, 0.0))
    return first, elapsed_steps(lengths, jnp.maximum(end - kicked, 0.0)) - first


def _fraction(
    lengths: StepLengths,
    first: Array,
    span: Array,
    length: Array,
    lane: Array,
    index: Array,
    part: Array,
) -> Array:
    """Fraction of the piece's hours that have passed after a ``part`` of its steps, [L, K]."""
    zero = hours_elapsed(lengths, first)
    begin, scale = zero[lane, index], length[lane, index]
    passed = hours_elapsed(lengths, first[lane, index] + part * span[lane, index]) - begin
    fraction = jnp.where(scale > 0, passed / jnp.where(scale > 0, scale, 1.0), part)
    # exactly 0 and 1 at the ends, whatever rounding did
    return jnp.where(part == 0, 0.0, jnp.where(part == 1, 1.0, jnp.clip(fraction, 0.0, 1.0)))


def _explicit(
    system: OdeSystem, rhs: Any, values: Numbers, at: dict[str, Any], x: States, y: States
) -> tuple[States, States]:
    """Amounts and states after an explicit step."""
    h, linear = at["h"], system.n_linear
    drivers, after = _linear_advance(system, values, at["rate"], h, x, _C[1:])

    def slope(c: Any, here: States, u: Any) -> States:
        given = rhs(at["t"] + c * h, here, u, values)
        return tuple(d + at["rate"][linear + i] for i, d in enumerate(given))

    if len(y) <= FEW:
        return after, _unrolled(slope, drivers, h, y)
    begin = jnp.stack(y)

    def stage(slopes: Array, given: tuple[Array, ...]) -> tuple[Array, None]:
        number, c, before, u = given
        here = begin + h * weighted(before, slopes)
        return slopes.at[number].set(jnp.stack(slope(c, tuple(here), u))), None

    every = (jnp.arange(6), jnp.asarray(_C), jnp.asarray(square(_A)), jnp.stack(drivers))
    slopes, _ = jax.lax.scan(stage, jnp.zeros((6, *begin.shape)), every)
    return after, tuple(begin + h * weighted(jnp.asarray(_B), slopes))


def _unrolled(slope: Any, drivers: list[Array], h: Array, y: States) -> States:
    """States after an explicit step whose stages are written out."""

    def moved(weights: tuple[float, ...], slopes: list[States]) -> States:
        return tuple(
            each + h * sum(a * k[i] for a, k in zip(weights, slopes, strict=True) if a)
            for i, each in enumerate(y)
        )

    slopes: list[States] = []
    for c, row, u in zip(_C, _A, drivers, strict=True):
        slopes.append(slope(c, moved(row, slopes), u))
    return moved(_B, slopes)


def _implicit(
    system: OdeSystem, rhs: Any, values: Numbers, at: dict[str, Any], x: States, y: States
) -> tuple[States, States]:
    """Amounts and states after an implicit step."""
    h, linear = at["h"], system.n_linear
    drivers, after = _linear_advance(system, values, at["rate"], h, x, NODES[1:5])
    seen = jnp.stack([*drivers, drivers[-1]])
    times = at["t"] + jnp.asarray(NODES)[:, None] * h

    def slopes(stage: Any, here: Array) -> Array:
        given = rhs(times[stage], tuple(here), seen[stage], values)
        return jnp.stack([d + at["rate"][linear + i] for i, d in enumerate(given)])

    begin = (at["t"], drivers[0])
    turn = (jnp.ones_like(h), _driver_slope(system, values, at["rate"], x))
    by_time = jax.jvp(lambda t, u: jnp.stack(rhs(t, y, u, values)), begin, turn)[1]
    return after, tuple(rosenbrock_step(slopes, by_time, jnp.stack(y), h))


def _driver_slope(system: OdeSystem, values: Numbers, rate: Array, x: States) -> Array:
    """Give the derivative by time of the concentration that drives the states, ``[L]``."""
    pk = system.pk
    if pk is None:
        return jnp.zeros(rate.shape[1])
    matrix = pk.matrix({name: values[name] for name in pk.parameters})
    seen = pk.observed - 1
    slope = rate[seen] + sum(matrix[..., seen, i] * each for i, each in enumerate(x))
    return slope if system.pk_volume is None else slope / values[system.pk_volume]


def _linear_advance(
    system: OdeSystem,
    values: Numbers,
    rate: Array,
    h: Array,
    x: States,
    nodes: tuple[float, ...],
) -> tuple[list[Array], States]:
    """Concentrations at the beginning and at parts of the step, the last its end; amounts there."""
    pk = system.pk
    if pk is None:
        return [jnp.zeros_like(h)] * (len(nodes) + 1), x
    own = {name: values[name] for name in pk.parameters}
    fractions = jnp.asarray(nodes)[:, None]
    transition, gain = pk.step(own, rate[: pk.size].T[None], fractions * h)
    seen, last = pk.observed - 1, len(nodes) - 1

    def apply(stage: int, row: int) -> Array:
        moved = sum(transition[stage, :, row, i] * each for i, each in enumerate(x))
        return gain[stage, :, row] + moved

    after = tuple(apply(last, row) for row in range(pk.size))
    amounts = [x[seen], *(apply(stage, seen) for stage in range(last)), after[seen]]
    if system.pk_volume is None:
        return amounts, after
    return [each / values[system.pk_volume] for each in amounts], after
