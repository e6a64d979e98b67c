"""Order of the step, use of the two moments, and the error estimate, on problems solved by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pkpd.marrow.step import rk4_cell


def logistic(y, effect, kill, p):
    return p["r"] * y * (1.0 - y) * (1.0 - effect) - kill * y


def decay(y, effect, kill, p):
    return jnp.broadcast_to(-effect - kill, y.shape)


def test_fourth_order_on_the_logistic_curve():
    y0, p = jnp.full((1, 1), 0.1), {"r": jnp.array([0.7])}
    exact = 1 / (1 + 9 * np.exp(-0.7 * 4))
    errors = []
    for n in (4, 8, 16):
        y = y0
        for _ in range(n):
            y = rk4_cell(logistic, y, (jnp.zeros(1), jnp.zeros(1)), 0.0, 4 / n, p)
        errors.append(abs(float(y[0, 0]) - exact))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, 4.0, atol=0.3)


def test_a_straight_effect_is_integrated_exactly():
    """E(t) = 1 + 0.2 t over 3 h: mean 1.3, slope 0.2; log y falls by 3.9 plus the kill."""
    y = rk4_cell(decay, jnp.zeros((1, 1)), (jnp.array([1.3]), jnp.array([0.2])), 0.5, 3.0, {})
    np.testing.assert_allclose(y[0, 0], -3.9 - 1.5, rtol=1e-14)


def test_first_moment_tells_when_the_effect_acts():
    """y' = -x, x' = -E: the exact y uses mean and first moment only, so any pulse is exact.

    A pulse of height 10 in the first 0.1 h of a 6 h cell: x falls by 1 early.
    """

    def chain(y, effect, kill, p):
        return jnp.stack([-effect, -y[0]])

    h, width, height = 6.0, 0.1, 10.0
    area, first = height * width, height * width**2 / 2
    moments = (jnp.array([area / h]), jnp.array([12 / h**3 * (first - h / 2 * area)]))
    y = rk4_cell(chain, jnp.array([[2.0], [0.0]]), moments, 0.0, h, {})
    exact = -(2.0 * h - area * h + first)
    np.testing.assert_allclose(y[1, 0], exact, rtol=1e-13)


def test_length_per_lane():
    p = {"r": jnp.array([0.7, 0.7])}
    effect = (jnp.array([0.2, 0.2]), jnp.array([0.01, 0.01]))
    both = rk4_cell(logistic, jnp.full((1, 2), 0.3), effect, 0.1, jnp.array([1.0, 3.0]), p)
    for i, h in enumerate((1.0, 3.0)):
        one = rk4_cell(
            logistic,
            jnp.full((1, 1), 0.3),
            jax.tree.map(lambda a, i=i: a[i : i + 1], effect),
            0.1,
            h,
            {"r": jnp.array([0.7])},
        )
        assert both[0, i] == pytest.approx(float(one[0, 0]), rel=1e-15)
