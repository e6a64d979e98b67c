"""The vector type: arithmetic, exponential and logarithm against extended precision."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from pkpd.solve.bridge import lanes


@njit
def _exp(x, out):
    for i in range(x.size // lanes.WIDTH):
        lanes.store(out, i, lanes.exp(lanes.load(x, i)))


@njit
def _log(x, out):
    for i in range(x.size // lanes.WIDTH):
        lanes.store(out, i, lanes.log(lanes.load(x, i)))


@njit
def _arithmetic(x, y, out):
    a, b = lanes.load(x, 0), lanes.load(y, 0)
    lanes.store(out, 0, (a + 2.0 * b) / (3.0 - a * b))
    lanes.store(out, 1, lanes.where_less(a, b, a, 7.0))
    lanes.store(out, 2, lanes.where_greater(a, 0.0, b, lanes.splat(1.0)))
    return lanes.largest(a)


def _worst_ulp(value: np.ndarray, exact: np.ndarray) -> float:
    return float(np.max(np.abs(value - exact) / np.spacing(np.abs(exact.astype(float)))))


@pytest.mark.parametrize("span", [1e-3, 1.0, 30.0, 700.0])
def test_exponential_is_within_two_units_in_the_last_place(span):
    x = np.random.default_rng(0).uniform(-span, span, 64 * lanes.WIDTH)
    out = np.empty_like(x)
    _exp(x, out)
    # extended precision of the platform is the judge
    assert _worst_ulp(out, np.exp(x.astype(np.longdouble))) < 2.0


@pytest.mark.parametrize(("low", "high"), [(1e-12, 1e-11), (0.5, 2.0), (0.999, 1.001), (1.0, 1e6)])
def test_logarithm_is_within_one_and_a_half_units(low, high):
    x = np.exp(np.random.default_rng(1).uniform(np.log(low), np.log(high), 64 * lanes.WIDTH))
    out = np.empty_like(x)
    _log(x, out)
    assert _worst_ulp(out, np.log(x.astype(np.longdouble))) < 1.5


def test_exponential_saturates_instead_of_overflowing():
    x = np.resize([1e6, -1e6, 709.0, 0.0], lanes.WIDTH)
    out = np.empty_like(x)
    _exp(x, out)
    assert np.isfinite(out).all()
    assert out[3] == 1.0


def test_arithmetic_matches_numpy():
    random = np.random.default_rng(2)
    x, y = random.standard_normal((2, lanes.WIDTH))
    out = np.empty(3 * lanes.WIDTH)
    assert _arithmetic(x, y, out) == x.max()
    got = out.reshape(3, -1)
    np.testing.assert_allclose(got[0], (x + 2 * y) / (3 - x * y), rtol=1e-15)
    np.testing.assert_array_equal(got[1], np.where(x < y, x, 7.0))
    np.testing.assert_array_equal(got[2], np.where(x > 0, y, 1.0))
