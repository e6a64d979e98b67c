"""Time of recovery from dense output, with its derivative.

Between nodes the log count is the cubic Hermite interpolant of `pkpd.solve.population.population`.
The first upward crossing of a threshold after the count was below is found by bisection and
polished; its derivative comes from the implicit function theorem,

    d t* / d theta = - (d log c / d theta)(t*) / (d log c / d t)(t*),

which costs one evaluation of the interpolant. A lane that never falls below, or has not recovered
at the horizon, has no derivative.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

import pkpd.float64  # noqa: F401  (before anything is traced)

RECOVERED, NEVER_BELOW, CENSORED = 0, 1, 2
_BISECTIONS = 60


class Crossing(NamedTuple):
    """Recovery of each lane.

    Attributes
    ----------
    time_h : float[L]
        Time of recovery; the start of the clock if never below, the horizon if censored.
    status : int[L]
        `RECOVERED`, `NEVER_BELOW` or `CENSORED`.
    slope : float[L]
        Slope of log count per hour at the crossing (0 if there is none): a small one means a
        time that small changes of the parameters move far.
    """

    time_h: Array
    status: Array
    slope: Array


def hermite(u: Array, h: Array, left: Array, rise: Array, right: Array, fall: Array) -> Array:
    """Cubic Hermite interpolant at ``u`` in [0, 1] of a cell of length ``h``."""
    r = 1.0 - u
    value = r * r * (1.0 + 2.0 * u) * left + u * u * (3.0 - 2.0 * u) * right
    return value + h * u * r * (r * rise - u * fall)


def _hermite_slope(u, h, left, rise, right, fall):
    r = 1.0 - u
    return (
        6.0 * u * r * (right - left) / h + (r * (1.0 - 3.0 * u)) * rise + u * (3.0 * u - 2.0) * fall
    )


@jax.jit
def recovery_time(
    time_h: ArrayLike,
    log_count: Array,
    slope: Array,
    threshold: ArrayLike,
    *,
    from_h: ArrayLike = 0.0,
) -> Crossing:
    """First recovery to a threshold, differentiable by everything ``log_count`` depends on.

    Parameters
    ----------
    time_h : float[L, C + 1] or float[C + 1]
        Node times in hours; cells of no length are passed over.
    log_count, slope : float[L, C + 1]
        Natural log of the count and its derivative per hour at the nodes.
    threshold
        Count in 10^9/L, a number or ``[L]``.
    from_h
        Start of the clock in hours, a number or ``[L]``.

    Returns
    -------
    Crossing
        "Below" is strictly below at a node; a dip between two nodes of a cell is not seen.
    """
    count, rate = jnp.asarray(log_count), jnp.asarray(slope)
    times = jnp.broadcast_to(jnp.asarray(time_h, dtype=jnp.float64), count.shape)
    aim = jnp.broadcast_to(jnp.log(jnp.asarray(threshold, dtype=jnp.float64)), count.shape[:1])
    clock = jnp.broadcast_to(jnp.asarray(from_h, dtype=jnp.float64), count.shape[:1])
    fixed = jax.lax.stop_gradient(count)
    below = (fixed < aim[:, None]) & (times >= clock[:, None])
    upward = below[:, :-1] & ~(fixed[:, 1:] < aim[:, None]) & (jnp.diff(times, axis=1) > 0)
    found = upward.any(axis=1)
    cell = jnp.argmax(upward, axis=1)
    lane = jnp.arange(count.shape[0])
    h = times[lane, cell + 1] - times[lane, cell]
    h = jnp.where(found, h, 1.0)
    ends = (count[lane, cell], rate[lane, cell], count[lane, cell + 1], rate[lane, cell + 1])
    still = jax.lax.stop_gradient(ends)

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        under = hermite(middle, h, *still) < aim
        return jnp.where(under, middle, low), jnp.where(under, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(aim), jnp.ones_like(aim)))
    u = 0.5 * (low + high)
    steep = _hermite_slope(u, h, *still)
    usable = found & (steep > 0)
    # one Newton step: it leaves the value where it is and carries the implicit derivative
    miss = hermite(u, h, *ends) - aim
    step = jnp.where(usable, miss, 0.0) / jnp.where(usable, steep, 1.0)
    crossed = jax.lax.stop_gradient(times[lane, cell] + u * h) - step
    ever = below.any(axis=1)
    last = times[:, -1]
    time = jnp.where(found, crossed, jnp.where(ever, last, clock))
    status = jnp.where(found, RECOVERED, jnp.where(ever, CENSORED, NEVER_BELOW))
    return Crossing(time, status, jnp.where(usable, steep, 0.0))


def daily_recovery(days: np.ndarray, log_count: np.ndarray, threshold: float) -> np.ndarray:
    """First recovery from counts at visits, by a straight line in log count between them.

    For streams of many patients, where only daily counts are kept.

    Parameters
    ----------
    days : float[T]
        Days of the counts.
    log_count : float[L, T]
        Natural log of the counts.
    threshold
        Count in 10^9/L.

    Returns
    -------
    float[L]
        Day of recovery; 0 if never below, infinite if not recovered by the last visit.
    """
    aim = math.log(threshold)
    below = log_count < aim
    upward = below[:, :-1] & ~below[:, 1:]
    at = upward.argmax(axis=1)
    lane = np.arange(log_count.shape[0])
    left, right = log_count[lane, at], log_count[lane, at + 1]
    found = upward[lane, at]
    share = (aim - left) / np.where(found, right - left, 1.0)
    day = days[at] + share * (days[at + 1] - days[at])
    return np.where(found, day, np.where(below.any(axis=1), np.inf, 0.0))
