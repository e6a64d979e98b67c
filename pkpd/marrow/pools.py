"""Single pools and chains of cells over one cell of time, each step exact for what it is given.

In a cell inputs hold still. A pool decays exactly and is fed by a mean inflow; a chain is exact but
for what comes in; a pool that crowds itself follows a Riccati equation. All factors are positive,
so that no pool turns negative whatever the loss. Functions are of JAX, on numbers of one patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

import pkpd.float64  # noqa: F401  (before anything is traced)

_SMALL = 1e-3
_NO_LENGTH = 1e-9
_FURTHER_STEPS = 16  # beyond the stages of a chain: as good as all where a cell has x below 3
_NO_RATE = 1e-30  # keeps the square root differentiable where all rates vanish


def mean_decay(x: Any, e: Any) -> Any:
    """``(1 - exp(-x)) / x``, the mean of a decay over a cell, with ``e = exp(-x)``."""
    near = jnp.abs(x) < _SMALL
    return jnp.where(near, _short_decay(x), (1.0 - e) / jnp.where(near, 1.0, x))


def _short_decay(x: Any) -> Any:
    return 1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0)))


def fed(pool: Any, inflow: Any, x: Any) -> tuple[Any, Any]:
    """Pool after a cell of constant inflow (per cell) and loss ``x``, and its mean content.

    The mean follows from the balance of mass: what came in and is not there has left, at ``x``.
    """
    e = jnp.exp(-x)
    near = x < _SMALL
    per = 1.0 / jnp.where(near, 1.0, x)
    after = pool * e + inflow * jnp.where(near, _short_decay(x), (1.0 - e) * per)
    mean = (pool - after + inflow) * per
    # without loss the mean of a straight line
    return after, jnp.where(near, 0.5 * (pool + after), mean)


def passed(pool: Any, before: Any, x: Any, e: Any) -> tuple[Any, Any]:
    """Pool of a chain after a cell and its mean content, given the mean of the pool before it.

    Both have the rate ``x`` per cell, with ``e = exp(-x)``.
    """
    after = pool * e + (1.0 - e) * before
    near = x < _SMALL
    # one division for all pools of the chain
    mean = before + (pool - after) * (1.0 / jnp.where(near, 1.0, x))
    return after, jnp.where(near, 0.5 * (pool + after), mean)


def staged(pools: Sequence[Any], before: Any, x: Any) -> tuple[list[Any], Any]:
    """Pools of a chain after a cell, and the mean content of the last, given that before the first.

    All have the rate ``x`` per cell. What was in pool j is in pool i with the chance that i - j
    steps of a Poisson process are taken, so that the chain is exact but for what comes in, which
    is taken as constant: `passed`, which takes the inflow of every pool as constant, smears a
    steep front the more the longer the chain. All terms are positive.
    """
    n, none = len(pools), jnp.exp(-x)
    # chances of m steps, and of m or more, over x
    chance: list[Any] = [jnp.nan, none]  # that of none is not read
    for m in range(2, n + _FURTHER_STEPS):
        chance.append(chance[-1] * x * (1.0 / m))
    more = chance.copy()
    for m in range(len(more) - 2, 0, -1):
        more[m] = more[m] + more[m + 1]
    after = []
    for i in range(n):
        moved = pools[0] * chance[i] if i else 0.0
        for j in range(1, i):
            moved = moved + pools[j] * chance[i - j]
        after.append(pools[i] * none + x * (moved + before * more[i + 1]))
    mean = before * sum(more[n + 2 :], start=more[n + 1])
    for j in range(n):
        mean = mean + pools[j] * more[n - j]
    return after, mean


def riccati(pool: Any, a: Any, b: Any, c: Any, h: Any) -> tuple[Any, Any]:
    """Pool after ``h`` of ``dy = a + b y - c y^2`` with ``a, c >= 0``, and its mean content.

    With ``y = w'/(c w)`` the equation is linear in ``w``, so both are exact: the mean is
    ``log(w(h)/w(0)) / (c h)``.
    """
    d = jnp.sqrt(b * b + 4.0 * a * c + _NO_RATE)
    x = d * h
    e = jnp.exp(-x)
    # d coth(x / 2) = (1 + e) / width
    width = h * mean_decay(x, e)
    grown = 1.0 + e + (2.0 * c * pool - b) * width
    after = pool + 2.0 * (a + (b - c * pool) * pool) * width / grown
    after = jnp.maximum(after, 0.0)
    per_cell = c * h
    near = per_cell < _NO_LENGTH
    mean = (0.5 * (b * h + x) + jnp.log(0.5 * grown)) / jnp.where(near, 1.0, per_cell)
    return after, jnp.where(near, 0.5 * (pool + after), jnp.maximum(mean, 0.0))


def logistic(pool: Any, b: Any, c: Any, h: Any) -> tuple[Any, Any]:
    """`riccati` without inflow, without loss of digits however strong the kill."""
    x = b * h
    e = jnp.exp(x)
    mean = pool * mean_decay(-x, e)
    crowded = c * h * mean
    near = crowded < 3e-3
    z = jnp.where(near, 1.0, crowded)
    small = 1.0 - crowded * (0.5 - crowded * (1 / 3 - crowded * (0.25 - crowded * 0.2)))
    return pool * e / (1.0 + crowded), mean * jnp.where(near, small, jnp.log(1.0 + z) / z)


def falling_root(gap: Callable[[Any], tuple[Any, Any]], start: Any) -> Any:
    """Root in logarithms of a falling function of known slope, as a number.

    Its derivative is that of the last step, which is the derivative of the root.
    """
    u = start
    for _ in range(13):
        value, slope = gap(u)
        u = lax.stop_gradient(u - jnp.clip(value / slope, -2.0, 2.0))
    value, slope = gap(u)
    return jnp.exp(u - value / lax.stop_gradient(slope))
