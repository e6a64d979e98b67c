"""Approximate marginal likelihoods: exact where they must be, and near to quadrature elsewhere."""

from itertools import product

import marginal_cases as cases
import numpy as np
import pytest
from scipy import optimize, stats

from pkpd.errors import PkpdError
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.residual import additive, combined, lognormal, proportional

METHODS = ("fo", "foce", "focei", "laplace", "laplace-nointer")
ERRORS = (additive(0.5), proportional(0.2), lognormal(0.2))
SOME = (("laplace", ERRORS[0]), ("laplace-nointer", ERRORS[1]))
"""Of all methods with all errors; the others are long."""


def line_data(n=5, seed=0):
    rng = np.random.default_rng(seed)
    times = np.array([0.0, 1.0, 2.5, 6.0])
    a = 10 + 2 * rng.standard_normal((n, 1))
    b = 1 + 0.3 * rng.standard_normal((n, 1))
    return times, a + b * times + 0.7 * rng.standard_normal((n, 4))


@pytest.mark.parametrize("method", METHODS)
def test_linear_gaussian_model_equals_the_multivariate_normal_density(method):
    times, y = line_data()
    partial = 0.6
    model = cases.line_model(additive(0.7), correlated=[("a", "b")])
    marginal = MarginalLikelihood(bind(model, cases.data(times, y)), method)
    at = marginal.evaluate(marginal.free.of(start_values(model) | {"partial_a_b": partial}))
    design = np.stack([np.ones(4), times], axis=1)
    omega = np.diag([4.0, 0.09])
    omega[0, 1] = omega[1, 0] = partial * 2.0 * 0.3
    covariance = design @ omega @ design.T + 0.49 * np.eye(4)
    exact = -2 * stats.multivariate_normal(design @ [10, 1], covariance).logpdf(y).sum()
    # differences of a linear function are exact; what is left is rounding, for laplace that of
    # second differences of q with a step of 0.003
    tolerance = 1e-6 if method.startswith("laplace") else 1e-8
    assert at.value + marginal.constant == pytest.approx(exact, abs=tolerance)
    assert marginal.constant == pytest.approx(20 * np.log(2 * np.pi))


def quadrature(likelihood, values, nodes=16):
    """``-2 log L`` of a model with two random effects by adaptive Gauss-Hermite quadrature."""
    marginal = MarginalLikelihood(likelihood, "laplace")
    density, x = marginal.density, marginal.free.of(values)
    modes = marginal.evaluate(x).modes
    t, w = np.polynomial.hermite.hermgauss(nodes)
    central = density.central(x)
    root = np.linalg.cholesky(np.linalg.inv(modes.hessian))
    total = np.zeros(len(modes.u))
    for i in range(nodes):
        for j in range(nodes):
            z = np.sqrt(2.0) * np.array([t[i], t[j]])
            u = modes.u + root @ z
            q = density.value(x, u, central) - modes.value
            total += w[i] * w[j] * np.exp(-q + t[i] ** 2 + t[j] ** 2)
    # 2 from the change to t, 1 / (2 pi) from the density of u
    log_l = -modes.value + np.log(total * 2.0 / (2 * np.pi)) + np.log(np.linalg.det(root))
    return -2 * log_l.sum()


@pytest.mark.parametrize(
    ("residual", "limit"),
    [
        (additive(0.5), 1.5),
        pytest.param(additive(0.5), None, marks=pytest.mark.long),
        pytest.param(proportional(0.15), None, marks=pytest.mark.long),
        pytest.param(lognormal(0.2), 1.5, marks=pytest.mark.slow),
    ],
)
def test_laplace_and_focei_lie_near_quadrature(residual, limit):
    dataset = cases.decay_data(limit=limit)
    if residual.logarithmic or residual.form == "proportional":
        dataset = cases.decay_data(limit=limit, sd=0.1)
    model = cases.decay_model(residual)
    likelihood = bind(model, dataset)
    exact = quadrature(likelihood, start_values(model))
    for method, near in (("laplace", 0.06), ("focei", 0.25)):
        marginal = MarginalLikelihood(likelihood, method)
        value = marginal.evaluate(marginal.free.start()).value + marginal.constant
        # the order of the neglected terms in eight subjects with five values each
        assert abs(value - exact) / 8 < near
        assert abs(value - exact) > 1e-9


@pytest.mark.parametrize(
    ("method", "residual"),
    [
        ("focei", combined(0.3, 0.1)),
        pytest.param("fo", combined(0.3, 0.1, linear=True), marks=pytest.mark.slow),
        pytest.param("foce", combined(0.3, 0.1), marks=pytest.mark.slow),
        *(
            pytest.param(*each, marks=pytest.mark.slow if each in SOME else pytest.mark.long)
            for each in product(METHODS, ERRORS)
        ),
    ],
)
def test_gradient_equals_differences_of_the_objective(method, residual):
    dataset = cases.decay_data(sd=0.1)
    model = cases.decay_model(residual, correlated=[("A", "k")])
    marginal = MarginalLikelihood(bind(model, dataset), method)
    x = marginal.free.start() + 0.1
    _compare_gradient(marginal, x)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("laplace", marks=pytest.mark.slow),
        pytest.param("focei", marks=pytest.mark.long),
    ],
)
def test_gradient_with_censored_values_and_students_t(method):
    dataset = cases.decay_data(limit=1.5)
    model = cases.decay_model(additive(0.5, nu=5.0))
    marginal = MarginalLikelihood(bind(model, dataset), method)
    _compare_gradient(marginal, marginal.free.start() + 0.05)


def _compare_gradient(marginal, x):
    at = marginal.evaluate(x)
    stale = marginal.evaluate(x, marginal.evaluate(x + 0.02))
    assert stale.value == pytest.approx(at.value, abs=5e-6)
    h = 1e-3
    moved = [
        [marginal.evaluate(x + s * h * e, at).value for s in (2, 1, -1, -2)] for e in np.eye(len(x))
    ]
    # five points: error of fourth order in h
    numeric = np.array([(-a + 8 * b - 8 * c + d) / (12 * h) for a, b, c, d in moved])
    scale = np.abs(numeric).max()
    np.testing.assert_allclose(marginal.gradient(at), numeric, atol=3e-5 * scale, rtol=1e-4)
    # a Hessian from nearby parameters gives the same gradient
    np.testing.assert_allclose(marginal.gradient(stale), numeric, atol=1e-4 * scale, rtol=1e-3)


@pytest.mark.slow
def test_foce_with_interaction_differs_where_the_variance_follows_the_prediction():
    dataset = cases.decay_data(sd=0.1)
    for residual, equal in ((additive(0.5), True), (proportional(0.2), False)):
        likelihood = bind(cases.decay_model(residual), dataset)
        one, other = (MarginalLikelihood(likelihood, m) for m in ("foce", "focei"))
        x = one.free.start()
        gap = abs(one.evaluate(x).value - other.evaluate(x).value)
        assert (gap < 1e-8) == equal


def test_laplace_without_interaction_is_that_of_a_variance_held_at_the_typical_prediction():
    """Written anew with SciPy: the error's variance from ``u = 0``, second differences of ``q``."""
    dataset = cases.decay_data(n=3, sd=0.1)
    marginal = MarginalLikelihood(
        bind(cases.decay_model(proportional(0.2)), dataset), "laplace-nointer"
    )
    t, y = (getattr(dataset.observations, name).reshape(3, -1) for name in ("time", "value"))

    def curve(u, b):
        return 10 * np.exp(0.3 * u[0] - 0.3 * np.exp(0.4 * u[1]) * t[b])

    def twice(u, b):
        variance = (0.2 * curve(np.zeros(2), b)) ** 2
        return np.sum((y[b] - curve(u, b)) ** 2 / variance + np.log(variance)) + u @ u

    wanted = 0.0
    for b in range(3):
        mode = optimize.minimize(twice, np.zeros(2), args=(b,), tol=1e-12).x
        h, unit = 1e-3, np.eye(2)
        corners = [
            [[s * i + r * j for s, r in ((1, 1), (1, -1), (-1, 1), (-1, -1))] for j in unit]
            for i in unit
        ]
        q = np.array([[[twice(mode + h * m, b) for m in row] for row in line] for line in corners])
        hessian = (q @ [1, -1, -1, 1]) / (8 * h**2)
        wanted += twice(mode, b) + np.linalg.slogdet(hessian)[1]
    found = marginal.evaluate(marginal.free.start()).value
    assert found == pytest.approx(wanted, abs=1e-4)
    other = MarginalLikelihood(marginal.likelihood, "laplace")
    assert abs(other.evaluate(other.free.start()).value - found) > 0.1


def test_zero_variance_is_the_likelihood_without_random_effects():
    dataset = cases.decay_data()
    model = cases.decay_model(additive(0.5), omega=(1e-9, 1e-9))
    likelihood = bind(model, dataset)
    plain = -2 * float(likelihood.total(likelihood.fixed(start_values(model)), np.zeros((8, 2))))
    marginal = MarginalLikelihood(likelihood, "focei")
    value = marginal.evaluate(marginal.free.start()).value + marginal.constant
    assert value == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("method", ["fo", "foce", "laplace-nointer"])
def test_methods_without_interaction_refuse_censored_values_and_students_t(method):
    likelihood = bind(cases.decay_model(additive(0.5)), cases.decay_data(limit=1.5))
    with pytest.raises(PkpdError, match=r"values beyond a limit.*focei"):
        MarginalLikelihood(likelihood, method)
    student = bind(cases.decay_model(additive(0.5, nu=4)), cases.decay_data())
    with pytest.raises(PkpdError, match="Student-t"):
        MarginalLikelihood(student, method)


def test_unknown_method_is_refused():
    likelihood = bind(cases.decay_model(additive(0.5)), cases.decay_data())
    with pytest.raises(PkpdError, match=r"method 'saem'.*focei"):
        MarginalLikelihood(likelihood, "saem")
