"""Shapes of effect and their moments, against adaptive quadrature and arithmetic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from pkpd.errors import PkpdError
from pkpd.kinetics.quadrature import NODES
from pkpd.marrow.effects import (
    EmaxEffect,
    LinearEffect,
    NoEffect,
    combined_effect,
    effect_shape,
    node_moments,
    quadrature,
)


def moments(f, h):
    """Mean and first Legendre moment of ``f`` over ``[0, h]`` by adaptive quadrature."""
    mean = quad(f, 0, h, epsabs=0, epsrel=1e-12)[0] / h
    first = quad(lambda t: f(t) * (t - h / 2), 0, h, epsabs=1e-14, epsrel=1e-12)[0]
    return mean, 12 / h**3 * first


def lanes(*values):
    return jnp.asarray(values, dtype=float)


def test_quadrature_is_exact_for_cubics():
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=4)
    h = 5.0
    got = node_moments(jnp.asarray(np.polyval(coefficients, NODES * h))[:, None], h)
    expected = moments(lambda t: np.polyval(coefficients, t), h)
    np.testing.assert_allclose([got[0][0], got[1][0]], expected, rtol=1e-12)
    nodes, weights, slopes = quadrature()
    np.testing.assert_allclose([weights.sum(), slopes.sum(), slopes @ nodes], [1, 0, 1], atol=1e-15)


def test_a_cell_of_no_length_has_no_slope():
    mean, slope = node_moments(jnp.ones((4, 2)), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(mean, 1.0, rtol=1e-15)
    np.testing.assert_allclose(slope, 0.0, atol=1e-15)


@pytest.mark.parametrize("hill", [None, 2.6])
def test_saturable_effect_of_a_decaying_driver(hill):
    """Triphosphate over 6 h: half-life 24 h, so four nodes leave less than 1e-7."""
    p = {"Emax": 1.25, "EC50": 2.0} | ({} if hill is None else {"hill": hill})
    shape = EmaxEffect(hill=hill is not None)
    h, rate = 6.0, np.log(2) / 24
    n = hill or 1.0

    def effect(t):
        c = 3.0 * np.exp(-rate * t)
        return 1.25 * c**n / (2.0**n + c**n)

    driver = jnp.asarray(3.0 * np.exp(-rate * NODES * h))[:, None]
    mean, slope = shape.moments(p, driver[0], driver[0], driver, h)
    expected = moments(effect, h)
    np.testing.assert_allclose(mean[0], expected[0], rtol=1e-9)
    np.testing.assert_allclose(slope[0], expected[1], rtol=1e-7)


def test_hill_of_one_is_the_plain_shape_and_zero_driver_has_a_finite_gradient():
    nodes = jnp.array([[0.0, 0.5], [1.0, 2.0], [3.0, 0.1], [1e-6, 40.0]])
    plain = EmaxEffect().at_nodes({"Emax": 1.1, "EC50": 2.0}, nodes)
    hill = EmaxEffect(hill=True).at_nodes({"Emax": 1.1, "EC50": 2.0, "hill": 1.0}, nodes)
    np.testing.assert_allclose(hill, plain, rtol=1e-14, atol=1e-29)
    gradient = jax.grad(
        lambda g: jnp.sum(
            EmaxEffect(hill=True).at_nodes({"Emax": 1.1, "EC50": 2.0, "hill": g}, nodes)
        )
    )(0.8)
    assert np.isfinite(gradient)


def test_rounding_below_zero_is_no_effect():
    assert EmaxEffect().at_nodes({"Emax": 1.0, "EC50": 1.0}, lanes(-1e-18))[0] == 0.0


def test_linear_effect_scales_moments_and_none_is_zero():
    mean, slope = lanes(1.0, 2.0), lanes(-0.5, 0.1)
    got = LinearEffect().moments({"slope": 0.5}, mean, slope, None, 4.0)
    np.testing.assert_allclose(got, [[0.5, 1.0], [-0.25, 0.05]])
    np.testing.assert_array_equal(NoEffect().moments({}, mean, slope, None, 4.0), np.zeros((2, 2)))


@given(st.floats(0, 1), st.floats(0, 1))
def test_bliss_below_one_is_independence(a, b):
    assert float(combined_effect([a, b], "bliss")) == pytest.approx(a + b - a * b, abs=1e-14)


@given(st.floats(0, 4), st.floats(0, 4), st.floats(0, 1))
def test_bliss_is_at_least_the_stronger_and_at_most_the_sum(a, b, more):
    def bliss(x, y):
        return float(combined_effect([x, y], "bliss"))

    assert max(a, b) - 1e-12 <= bliss(a, b) <= a + b + 1e-12
    assert bliss(a, b) == pytest.approx(bliss(b, a), abs=1e-12)
    assert bliss(a + more, b) >= bliss(a, b) - 1e-12
    assert bliss(a, 0.0) == pytest.approx(a, abs=1e-12)


def test_bad_requests_are_refused_in_a_sentence():
    with pytest.raises(PkpdError, match=r"unknown shape 'sigmoid'.*emax_hill"):
        effect_shape("sigmoid")
    with pytest.raises(PkpdError, match=r"LinearPK.at_nodes"):
        EmaxEffect().moments({"Emax": 1.0, "EC50": 1.0}, lanes(1.0), lanes(0.0), None, 1.0)
