from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.fitting.model.residual import (
    _student_log_cdf,
    additive,
    combined,
    lognormal,
    proportional,
)

FORMS = {
    "additive": (additive(0.7), (0.7,), lambda f: 0.7 + 0 * f),
    "proportional": (proportional(0.2), (0.2,), lambda f: 0.2 * abs(f)),
    "combined": (combined(0.3, 0.2), (0.3, 0.2), lambda f: np.hypot(0.3, 0.2 * f)),
    "combined_linear": (
        combined(0.3, 0.2, linear=True),
        (0.3, 0.2),
        lambda f: 0.3 + 0.2 * abs(f),
    ),
    "lognormal": (lognormal(0.4), (0.4,), lambda f: 0.4 + 0 * f),
}
PREDICTED = np.array([0.4, 1.0, 3.0, 8.0, 2.5])
VALUE = np.array([0.5, 0.7, 3.3, 6.0, 4.0])


CENSORED = np.array([NOT_CENSORED, BELOW, BELOW, ABOVE, BELOW])
LOWER = np.array([-np.inf, -np.inf, 2.0, -np.inf, 0.0])


def error_of(form, nu):
    """Error of a form, with heavy tails if ``nu`` is given."""
    error = FORMS[form][0]
    return (
        error if nu is None else type(error)(error.form, error.coefficients, additive(1, nu=nu).nu)
    )


@cache
def compiled(form, heavy, censored, lower):
    """Log density by prediction, coefficients, degrees and value: one program of each kind."""
    error, codes, limits = (
        error_of(form, 4.0 if heavy else None),
        np.array(censored),
        np.array(lower),
    )
    return jax.jit(
        lambda f, coefficients, nu, value: error.log_density(
            f, coefficients, nu, value, codes, limits
        )
    )


def log_density(form, coefficients, nu, f, value, censored=(NOT_CENSORED,), lower=(-np.inf,)):
    program = compiled(form, nu is not None, tuple(censored), tuple(lower))
    return np.asarray(program(np.asarray(f), coefficients, nu, np.asarray(value)))


def base(nu):
    return stats.norm if nu is None else stats.t(nu)


def expected(form, nu, censored, lower):
    """The same by scipy."""
    _, _, scale = FORMS[form]
    s = scale(PREDICTED)
    log = form == "lognormal"

    def standard(y):
        with np.errstate(divide="ignore"):
            return ((np.log(y) - np.log(PREDICTED)) if log else (y - PREDICTED)) / s

    d = base(nu)
    z = standard(VALUE)
    out = d.logpdf(z) - np.log(s) - (np.log(VALUE) if log else 0.0)
    for m, code in enumerate(censored):
        if code == ABOVE:
            out[m] = d.logsf(z[m])
        elif code == BELOW and np.isfinite(lower[m]):
            out[m] = np.log(
                d.cdf(z[m]) - d.cdf(standard(np.maximum(lower, 0.0 if log else lower))[m])
            )
        elif code == BELOW:
            out[m] = d.logcdf(z[m])
    return out


@pytest.mark.parametrize("nu", [None, 1.7, 4.0, 3000.0])
@pytest.mark.parametrize("form", FORMS)
def test_log_density_is_that_of_scipy(form, nu):
    got = log_density(form, FORMS[form][1], nu, PREDICTED, VALUE, CENSORED, LOWER)
    # differences of distribution functions near 1 lose digits in the expected value
    np.testing.assert_allclose(got, expected(form, nu, CENSORED, LOWER), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("nu", [0.5, 1.0, 1.3, 2.5, 5.0, 30.0, 1e4])
def test_students_distribution_function_keeps_its_digits_in_both_tails(nu):
    z = -np.concatenate([[0.0], np.logspace(-4, 4, 60)])
    expected = stats.t(nu).logcdf(z)
    z = z[expected > -650]  # scipy's own limit
    log_cdf = jax.jit(_student_log_cdf)
    np.testing.assert_allclose(np.exp(log_cdf(z, nu) - stats.t(nu).logcdf(z)), 1.0, rtol=5e-12)
    np.testing.assert_allclose(log_cdf(-z, nu), stats.t(nu).logsf(z), rtol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_density_integrates_to_one(form):
    def density(y):
        return float(np.exp(log_density(form, FORMS[form][1], None, [2.0], [y]))[0])

    low = 1e-6 if form == "lognormal" else -10.0
    assert integrate.quad(density, low, 40.0, points=[2.0], limit=200)[0] == pytest.approx(
        1, abs=1e-6
    )


@pytest.mark.parametrize(
    ("form", "nu"),
    [
        ("additive", None),
        ("combined", None),
        ("lognormal", None),
        ("combined", 3.3),
        # what a form does and what tails do are separate factors of the density
        pytest.param("additive", 3.3, marks=pytest.mark.slow),
        pytest.param("lognormal", 3.3, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_finite_differences(form, nu):
    error, coefficients = error_of(form, nu), FORMS[form][1]

    def total(x):
        k = len(coefficients)
        degrees = None if nu is None else x[5 + k]
        each = error.log_density(x[:5], list(x[5 : 5 + k]), degrees, VALUE, CENSORED, LOWER)
        return jnp.sum(each)

    x = np.array([*PREDICTED, *coefficients, *(() if nu is None else (nu,))])
    both = jax.jit(jax.value_and_grad(total))
    got = both(x)[1]
    for i in range(len(x)):
        h = 1e-5 * x[i]
        step = np.eye(len(x))[i] * h
        numeric = (float(both(x + step)[0]) - float(both(x - step)[0])) / (2 * h)
        # second-order differences with steps of 1e-5
        assert got[i] == pytest.approx(numeric, rel=2e-6, abs=1e-8)


INTERVALS = ((5.0, 10.0), (-10.0, -5.0), (-3.0, 4.0), (8.0, 8.001))
TAILS = (-300.0, -40.0, 0.0, 40.0)


@cache
def log_masses(nu, f, low, high):
    """Log probabilities between limits, and their derivatives by predictions: one program."""
    codes, limits, error = np.full(len(f), BELOW), np.array(low), additive(1.0, nu=nu)

    def each(x):
        return error.log_density(x, (1.0,), nu, np.array(high), codes, limits)

    both = jax.jit(lambda x: (each(x), jax.grad(lambda x: jnp.sum(each(x)))(x)))
    return [np.asarray(one) for one in both(np.array(f))]


@pytest.mark.parametrize("nu", [None, 5.0])
@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_an_interval_far_from_the_prediction_keeps_its_digits(low, high, nu):
    d = base(nu)
    a, b = (-high, -low) if low > 0 else (low, high)  # the lower tail keeps scipy's digits
    k = INTERVALS.index((low, high))
    value, slope = (one[k] for one in log_masses(nu, (0.0,) * 4, *zip(*INTERVALS, strict=True)))
    assert value == pytest.approx(float(np.log(d.cdf(b) - d.cdf(a))), rel=1e-9)
    expected_slope = (d.pdf(low) - d.pdf(high)) / (d.cdf(b) - d.cdf(a))
    assert slope == pytest.approx(expected_slope, rel=1e-8)


@pytest.mark.parametrize("nu", [None, 2.5])
@pytest.mark.parametrize("z", TAILS)
def test_far_tails_stay_finite_and_differentiable(z, nu):
    f = tuple(-z for z in TAILS)
    value, slope = (one[TAILS.index(z)] for one in log_masses(nu, f, (-np.inf,) * 4, (0.0,) * 4))
    assert value == pytest.approx(float(base(nu).logcdf(z)), rel=1e-10, abs=1e-300)
    inverse_mills = np.exp(base(nu).logpdf(z) - base(nu).logcdf(z))
    assert slope == pytest.approx(-inverse_mills, rel=1e-8, abs=1e-300)


@given(
    f=st.floats(0.01, 100),
    y=st.floats(0.01, 100),
    a=st.floats(0.01, 10),
    nu=st.one_of(st.none(), st.floats(1.0, 200)),
)
@settings(max_examples=40, deadline=None)
def test_below_and_above_a_limit_are_complementary(f, y, a, nu):
    both = [float(log_density("additive", (a,), nu, [f], [y], [c])[0]) for c in (BELOW, ABOVE)]
    assert np.exp(both).sum() == pytest.approx(1.0, rel=1e-5)


def test_traced_measurements_give_what_constants_give():
    error = combined(0.3, 0.2, nu=4.0)
    censored = np.array([NOT_CENSORED, BELOW, BELOW, ABOVE, NOT_CENSORED])
    lower = np.full(5, -np.inf)
    args = (jnp.asarray(PREDICTED), (0.3, 0.2), 4.0)
    constant = jax.jit(lambda: error.log_density(*args, VALUE, censored, lower))()
    traced = jax.jit(lambda v, c: error.log_density(*args, v, c, lower))(VALUE, censored)
    np.testing.assert_allclose(traced, constant, rtol=1e-14)
    log = lognormal(0.4)
    traced = jax.jit(lambda v, c: log.log_density(args[0], (0.4,), None, v, c, lower))
    constant = jax.jit(lambda: log.log_density(args[0], (0.4,), None, VALUE, censored, lower))()
    np.testing.assert_allclose(traced(VALUE, censored), constant, rtol=1e-14)


def two_predictions(x):
    return lognormal(0.4).log_density(
        x[:2], (x[2],), None, np.ones(2), np.zeros(2, int), np.full(2, -np.inf)
    )


@jax.jit
@jax.grad
def slope_of_the_finite(x):
    each = two_predictions(x)
    return jnp.where(jnp.isfinite(each), each, 0.0).sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200, 0.0, -1.0])
def test_a_prediction_without_density_leaves_others_their_derivatives(bad):
    x = jnp.array([bad, 2.0, 0.4])
    assert np.isnan(jax.jit(two_predictions)(x)[0])
    alone = jax.jit(jax.grad(lambda x: two_predictions(x)[1]))(jnp.array([1.0, 2.0, 0.4]))
    np.testing.assert_allclose(slope_of_the_finite(x)[1:], alone[1:], rtol=1e-14)


@pytest.mark.parametrize("nu", [None, 6.0])
@pytest.mark.parametrize("form", FORMS)
def test_simulated_values_have_the_distribution_of_the_density(form, nu):
    error, (_, coefficients, scale) = error_of(form, nu), FORMS[form]
    f = np.full(4000, 3.0)
    y = error.simulate(f, coefficients, nu, np.random.default_rng(1))
    z = (np.log(y / f) if form == "lognormal" else y - f) / scale(f)
    assert stats.kstest(z, base(nu).cdf).pvalue > 1e-3


@pytest.mark.parametrize("nu", [None, 1.0])
def test_nothing_is_below_every_limit_on_the_log_scale(nu):
    error = lognormal(0.2, nu=nu)
    value, none = np.array([0.1, 0.1, 0.1, 2.0]), np.array([-np.inf, 0.0, 0.05, -np.inf])
    codes = np.array([BELOW, BELOW, BELOW, NOT_CENSORED])

    def each(f, a):
        return error.log_density(f, [a], nu, value, codes, none)

    found = np.asarray(each(jnp.array([0.0, 0.0, 0.0, 2.1]), 0.2))
    assert found[:2].tolist() == [0.0, 0.0]
    assert np.isnan(found[2])  # it was between two limits
    slopes = jax.grad(lambda f, a: jnp.nansum(each(f, a)[:2]), argnums=(0, 1))
    by_f, by_a = slopes(jnp.array([0.0, 0.0, 0.0, 2.1]), 0.2)
    assert (np.asarray(by_f).tolist(), float(by_a)) == ([0.0] * 4, 0.0)


def test_names_of_the_coefficients():
    assert list(additive(1.0).estimates("c")) == ["sigma_c"]
    assert list(combined(1.0, 0.1, nu=4.0).estimates("c")) == [
        "sigma_c_additive",
        "sigma_c_proportional",
        "nu_c",
    ]


def test_a_coefficient_of_zero_is_refused():
    for value in (0.0, np.nan, np.inf):
        with pytest.raises(PkpdError, match=r"^additive residual error.*more than 0"):
            additive(value)


def test_what_is_no_prior_or_name_is_refused():
    with pytest.raises(PkpdError, match=r"combined residual error, priors: .*for each coefficient"):
        combined(1.0, 0.1, priors=(None,))
    with pytest.raises(PkpdError, match="additive residual error, priors: "):
        additive(1.0, prior=2.0)
    with pytest.raises(PkpdError, match="additive residual error, scale: 3 is given"):
        additive(1.0, scale=3)
