"""Exact steps of one to three compartments with first-order absorption, by their exponentials.

The same result as the general matrix exponential, several times faster, and with no loss where
the absorption rate meets a disposition rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

_TWO_PI_THIRD = 2.0943951023931953
# Taylor terms of (1 - exp(-x)) / x; at |x| = 0.01 the first left out is below 1e-20.
_SERIES = (1.0, -1 / 2, 1 / 6, -1 / 24, 1 / 120, -1 / 720, 1 / 5040)
_SMALL = 1e-2


def _decayed(x: Array) -> Array:
    """Return (1 - exp(-x)) / x, with its derivative, also at x = 0."""
    small = jnp.abs(x) < _SMALL
    series = jnp.zeros_like(x)
    for coefficient in reversed(_SERIES):
        series = series * x + coefficient
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, series, -jnp.expm1(-safe) / safe)


def _passed_on(a: Array, b: Array, dt: Array) -> Array:
    """Return the integral over s of exp(-a s) exp(-b (dt - s)) from 0 to dt."""
    low, high = jnp.minimum(a, b), jnp.maximum(a, b)
    return jnp.exp(-low * dt) * dt * _decayed((high - low) * dt)


def _modes(
    elimination: Array, exchange: Sequence[tuple[Array, Array]]
) -> tuple[list[Array], list[list[list[Array]]]]:
    """Rates and projectors of the disposition compartments, central first.

    ``exchange`` holds (central to peripheral, back) rate constants. The roots are those of the
    characteristic polynomial; that of three compartments in trigonometric form, with the smallest
    root from the product of all, which loses no digits.
    """
    n = len(exchange) + 1
    zero = jnp.zeros_like(elimination)
    matrix = [[zero] * n for _ in range(n)]
    matrix[0][0] = -elimination - sum((out for out, _ in exchange), zero)
    for j, (out, back) in enumerate(exchange, start=1):
        matrix[j][0], matrix[0][j], matrix[j][j] = out, back, -back
    if n == 1:
        roots = [elimination]
    elif n == 2:
        (k12, k21) = exchange[0]
        total = elimination + k12 + k21
        # the square of the difference of the roots, as a sum of squares
        gap = jnp.sqrt((elimination + k12 - k21) ** 2 + 4.0 * k12 * k21)
        large = 0.5 * (total + gap)
        roots = [large, elimination * k21 / large]
    else:
        (k12, k21), (k13, k31) = exchange
        a2 = elimination + k12 + k13 + k21 + k31
        a1 = elimination * k31 + k21 * k31 + k21 * k13 + elimination * k21 + k31 * k12
        a0 = elimination * k21 * k31
        p = a1 - a2**2 / 3.0
        q = 2.0 * a2**3 / 27.0 - a1 * a2 / 3.0 + a0
        radius = jnp.sqrt(-p / 3.0)
        angle = jnp.arccos(jnp.clip(-q / (2.0 * radius**3), -1.0, 1.0)) / 3.0
        middle, large = (
            a2 / 3.0 - 2.0 * radius * jnp.cos(angle + turn * _TWO_PI_THIRD) for turn in (2, 1)
        )
        roots = [large, middle, a0 / (large * middle)]
    projectors = []
    for i, root in enumerate(roots):
        product: list[list[Array]] | None = None
        for j, other in enumerate(roots):
            if j == i:
                continue
            factor = [
                [(matrix[r][c] + (other if r == c else 0.0)) / (other - root) for c in range(n)]
                for r in range(n)
            ]
            product = (
                factor
                if product is None
                else [
                    [sum((product[r][k] * factor[k][c] for k in range(n)), zero) for c in range(n)]
                    for r in range(n)
                ]
            )
        projectors.append(product or [[jnp.ones_like(elimination)]])
    return roots, projectors


def mammillary_step(
    elimination: Array,
    exchange: Sequence[tuple[Array, Array]],
    absorption: Array | None,
    rate: Array,
    dt: Array,
) -> tuple[Array, Array]:
    """Exact step of a mammillary system with constant input.

    Parameters
    ----------
    elimination
        Rate constant of elimination from the central compartment (1/h), [...].
    exchange
        For each of up to two peripheral compartments: rate constants from and to the central one.
    absorption
        Rate constant of an absorption compartment, which then comes first; None without.
    rate
        Input into each compartment (mg/h), [..., S].
    dt
        Length (h), [...]; may be negative.

    Returns
    -------
    transition, gain
        As :func:`pkpd.kinetics.exponential.step_matrices`.

    Notes
    -----
    Two compartments need some exchange in both directions or elimination; equal roots, which no
    positive rate constants give, make the projectors infinite.
    """
    roots, projectors = _modes(elimination, exchange)
    n = len(roots)
    first = 0 if absorption is None else 1
    size = n + first
    shape = jnp.broadcast_shapes(elimination.shape, dt.shape, rate.shape[:-1])
    zero = jnp.zeros(shape)
    exponentials = [jnp.exp(-root * dt) for root in roots]
    integrals = [dt * _decayed(root * dt) for root in roots]

    def over_modes(row: int, column: int, values: Sequence[Array]) -> Array:
        return sum((p[row][column] * v for p, v in zip(projectors, values, strict=True)), zero)

    transition = [[zero] * size for _ in range(size)]
    gain = [zero] * size
    for r in range(n):
        for c in range(n):
            transition[r + first][c + first] = over_modes(r, c, exponentials)
            gain[r + first] = gain[r + first] + rate[..., c + first] * over_modes(r, c, integrals)
    if absorption is not None:
        left = jnp.exp(-absorption * dt)
        transition[0][0] = jnp.broadcast_to(left, shape)
        gain[0] = rate[..., 0] * dt * _decayed(absorption * dt)
        passed = [_passed_on(absorption, root, dt) for root in roots]
        # integral of what is passed on, times the absorption rate
        given = [whole - part for whole, part in zip(integrals, passed, strict=True)]
        for r in range(n):
            transition[r + 1][0] = absorption * over_modes(r, 0, passed)
            gain[r + 1] = gain[r + 1] + rate[..., 0] * over_modes(r, 0, given)
    matrix = jnp.stack(
        [jnp.stack([jnp.broadcast_to(e, shape) for e in row], axis=-1) for row in transition],
        axis=-2,
    )
    return matrix, jnp.stack([jnp.broadcast_to(g, shape) for g in gain], axis=-1)
