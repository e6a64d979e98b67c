"""Residuals correlated in time: densities against multivariate normal ones, fits, refusals."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm
from scipy.stats import t as student

import pkpd
from pkpd.data.dataset import BELOW
from pkpd.errors import PkpdError
from pkpd.fitting.checks.residuals import residuals
from pkpd.fitting.draws import single_draw
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.processes import Series, Spread, filtered
from pkpd.models import PopulationModel, compartments, fixed, parameter, residual

SD, TAU, WHITE = (0.3, 0.2), (20.0, 300.0), 0.15
PROCESSES = [residual.ornstein_uhlenbeck(s, t) for s, t in zip(SD, TAU, strict=True)]


def study(subjects: int = 4, visits: int = 9, seed: int = 0, copies: int = 1):
    """One dose and concentrations at irregular times; all subjects again as often as asked."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(subjects):
        rows.append({"ID": i, "TIME": 0.0, "AMT": 100.0, "EVID": 1, "DV": np.nan})
        for t in np.sort(rng.choice(np.arange(1, 300), visits, replace=False)):
            value = 5 * np.exp(-t / 200 + 0.3 * rng.standard_normal())
            rows.append({"ID": i, "TIME": float(t), "AMT": 0.0, "EVID": 0, "DV": value})
    table = pd.DataFrame(rows)
    every = [table.assign(ID=table["ID"] + k * subjects) for k in range(copies)]
    return pkpd.read_nonmem(pd.concat(every))


def model(error, **spread):
    return PopulationModel(
        compartments(1),
        [
            parameter("CL", 0.1, iiv=0.3),
            parameter("V", 20.0, iiv=0.2),
            parameter("noise", fixed(1.0), iiv=0.26),
        ],
        error,
        **spread,
    )


def covariance(time, scale=1.0):
    apart = np.abs(time[:, None] - time[None, :])
    out = sum(s**2 * np.exp(-apart / t) for s, t in zip(SD, TAU, strict=True))
    return scale**2 * (out + WHITE**2 * np.eye(len(time)))


@pytest.fixture(scope="module")
def normal():
    error = residual.lognormal(WHITE, scale="noise", processes=PROCESSES)
    made = bind(model(error), study())
    random = 0.3 * np.random.default_rng(1).standard_normal((4, 3))
    return made, made.fixed(start_values(made.model)), random


def test_normal_density_is_that_of_the_multivariate_normal(normal):
    likelihood, values, random = normal
    names = ("by_subject", "predictions", "quantities")
    made = jax.jit(lambda *at: [getattr(likelihood, name)(*at) for name in names])(values, random)
    (found, predicted, quantities), seen = map(np.asarray, made), likelihood.observed
    data = likelihood.dataset.observations
    first = np.unique(data.subject, return_index=True)[1]
    told = likelihood.predictions_of(quantities)
    np.testing.assert_allclose(told[first], predicted[first], rtol=1e-12)
    for b in range(4):
        mine = data.subject == b
        logs = np.log(seen.value[mine])
        law = multivariate_normal(
            np.log(predicted[mine]), covariance(data.time[mine], np.exp(random[b, 2]))
        )
        assert found[b] == pytest.approx(law.logpdf(logs) - logs.sum(), abs=1e-10)


def test_a_subject_without_a_prediction_leaves_the_others_their_gradients():
    error = residual.lognormal(WHITE, scale="noise", processes=PROCESSES)
    table = pd.DataFrame(
        [
            (0, 0.0, 9.0, 1, None),
            *((0, float(t), 0.0, 0, 0.4) for t in (1, 5, 30)),
            (1, 0.0, 9.0, 1, None),
            (1, 2.0, 0.0, 0, 0.4),  # one visit: padded by two
        ],
        columns=["ID", "TIME", "AMT", "EVID", "DV"],
    )
    likelihood = bind(model(error), pkpd.read_nonmem(table))
    values = likelihood.fixed(start_values(likelihood.model))
    rows = np.tile(likelihood.dataset.observations.subject == 0, 2)

    def of_the_first(random):
        return jnp.sum(jnp.where(rows, likelihood.quantities(values, random), 0.0))

    random = np.full((2, 3), 0.1)
    lost = random.copy()
    lost[1] = np.nan
    slope, expected = jax.grad(of_the_first)(lost), jax.grad(of_the_first)(random)
    np.testing.assert_allclose(slope[0], expected[0], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("nu", [None, 4.0])
def test_gradient_matches_differences(nu):
    error = residual.lognormal(WHITE, nu=nu, scale="noise", processes=PROCESSES)
    likelihood = bind(model(error), study(2))
    values = np.asarray(likelihood.fixed(start_values(likelihood.model)))
    random = 0.3 * np.random.default_rng(1).standard_normal((2, 3))
    _, by_fixed, by_random = likelihood.value_and_gradient(values, random)
    total = jax.jit(likelihood.total)
    for i, value in enumerate(values):
        step = np.zeros(len(values))
        step[i] = 1e-6 * max(1.0, abs(value))
        slope = (total(values + step, random) - total(values - step, random)) / (2 * step[i])
        assert by_fixed[i] == pytest.approx(float(slope), rel=1e-6, abs=1e-6)
    for i in range(3):
        step = np.zeros((2, 3))
        step[0, i] = 1e-6
        slope = (total(values, random + step) - total(values, random - step)) / 2e-6
        assert by_random[0, i] == pytest.approx(float(slope), rel=1e-6, abs=1e-6)


def one_series(error, value, hours, codes=None, lower=None, nu=None):
    size = (len(value), 1)
    since = np.concatenate([[1e12], np.diff(hours)])[:, None]
    value = np.asarray(value, dtype=float)[:, None]
    codes = np.zeros(size, int) if codes is None else np.asarray(codes)[:, None]
    lower = np.full(size, -np.inf) if lower is None else np.asarray(lower, dtype=float)[:, None]
    series = Series(since, value, codes, lower, np.ones(size, bool))
    found = filtered(error, series, np.zeros(size), Spread(WHITE, SD, TAU, 1.0, nu))
    return np.asarray(found.shift)[:, 0], np.asarray(found.scale)[:, 0]


def test_student_density_of_a_measurement_given_the_past_is_one():
    """The last of three measurements, given the others: it integrates to 1 and has heavy tails."""
    error = residual.additive(WHITE, nu=4.0, processes=PROCESSES)
    hours = np.array([0.0, 30.0, 41.0])
    shift, scale = one_series(error, [2.0, -0.4, 0.0], hours, nu=4.0)
    # the first value is far out: a Kalman filter would follow it five times as far
    pulled, _ = one_series(residual.additive(WHITE, processes=PROCESSES), [2.0, -0.4, 0.0], hours)
    assert 0 < shift[1] < 0.25 * pulled[1]
    mass, _ = quad(lambda y: student.pdf((y - shift[2]) / scale[2], 4.0) / scale[2], -50, 50)
    assert mass == pytest.approx(1.0, abs=1e-4)


def test_student_with_many_degrees_is_normal():
    data = study(2)
    found = []
    for nu in (None, 1e7):
        error = residual.lognormal(WHITE, nu=nu, processes=PROCESSES)
        likelihood = bind(model(dataclasses.replace(error, scale="noise")), data)
        values = likelihood.fixed(start_values(likelihood.model))
        found.append(float(jax.jit(likelihood.total)(values, np.zeros((2, 3)))))
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def below_limit(error, value, hours, place, limit, nu=None, bound=None):
    """Log density of a series with one value below a limit."""
    codes = np.zeros(len(value), int)
    codes[place] = BELOW
    lower = np.full(len(value), -np.inf)
    lower[place] = -np.inf if bound is None else bound
    value = np.array(value, dtype=float)
    value[place] = limit
    shift, scale = one_series(error, value, hours, codes, lower, nu)
    out = 0.0
    for k in range(len(value)):
        law = norm(shift[k], scale[k])
        if k != place:
            out += law.logpdf(value[k])
        else:
            out += np.log(law.cdf(limit) - (0.0 if bound is None else law.cdf(bound)))
    return out


@pytest.mark.parametrize("bound", [None, -0.9])
@pytest.mark.parametrize(("place", "within"), [(3, 1e-9), (1, 0.02), (0, 0.02)])
def test_value_below_a_limit(place, within, bound):
    """Exact for the last value; before others within 0.02 of the log of the exact integral."""
    hours, value, limit = np.array([0.0, 9.0, 30.0, 41.0]), [0.1, -0.3, 0.2, -0.2], -0.4
    found = below_limit(
        residual.additive(WHITE, processes=PROCESSES), value, hours, place, limit, bound=bound
    )
    joint = multivariate_normal(np.zeros(4), covariance(hours))

    def density(y):
        return joint.pdf(np.insert(np.delete(value, place), place, y))

    exact, _ = quad(density, -4.0 if bound is None else bound, limit, epsabs=1e-12)
    assert found == pytest.approx(np.log(exact), abs=within)


@pytest.mark.long
def test_values_below_a_limit_have_gradients():
    data = study(2)
    seen = data.observations
    codes = np.where(np.arange(len(seen)) % 4 == 1, BELOW, 0)
    data = dataclasses.replace(data, observations=dataclasses.replace(seen, censored=codes))
    for nu in (None, 4.0):
        error = residual.lognormal(WHITE, nu=nu, scale="noise", processes=PROCESSES)
        likelihood = bind(model(error), data)
        values = np.asarray(likelihood.fixed(start_values(likelihood.model)))
        random = np.zeros((2, 3))
        _, by_fixed, _ = likelihood.value_and_gradient(values, random)
        step = np.zeros(len(values))
        place = likelihood.fixed_names.index("sigma_process1_concentration")
        step[place] = 1e-6
        total = jax.jit(likelihood.total)
        slope = (total(values + step, random) - total(values - step, random)) / 2e-6
        assert by_fixed[place] == pytest.approx(float(slope), rel=1e-5)


def linear(error):
    """A prediction that is linear in its only random effect."""
    return PopulationModel(
        compartments(1, dosing=("F1",)),
        [
            parameter("CL", fixed(0.1)),
            parameter("V", fixed(20.0)),
            parameter("F1", 1.0, scale="identity", iiv=0.4),
        ],
        error,
    )


@pytest.mark.slow
def test_first_order_conditional_estimation_is_exact_in_a_linear_model():
    data = study()
    marginal = MarginalLikelihood(
        bind(linear(residual.additive(WHITE, processes=PROCESSES)), data), "focei"
    )
    at = marginal.evaluate(marginal.free.start())
    seen = data.observations
    expected = 0.0
    for b in range(4):
        mine = seen.subject == b
        course = 5.0 * np.exp(-0.1 / 20.0 * seen.time[mine])
        total = covariance(seen.time[mine]) + 0.4**2 * np.outer(course, course)
        expected -= 2 * multivariate_normal(course, total).logpdf(seen.value[mine])
    assert at.value + marginal.constant == pytest.approx(expected, abs=1e-6)
    slope = marginal.gradient(at)
    for i in range(len(at.x)):
        step = 1e-5 * np.eye(len(at.x))[i]
        up, down = (marginal.evaluate(at.x + s * step).value for s in (1, -1))
        assert slope[i] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-3)


@pytest.mark.long
def test_fit_finds_the_processes_that_data_were_simulated_from():
    rows = pd.DataFrame(
        [
            {"ID": i, "TIME": t, "AMT": 100.0 * (t == 0), "EVID": int(t == 0), "DV": float(t > 0)}
            for i in range(30)
            for t in [0.0, *np.cumsum(np.random.default_rng(i).uniform(2, 15, 40))]
        ]
    )
    error = residual.additive(0.2, processes=[residual.ornstein_uhlenbeck(0.5, 40.0)])
    data = pkpd.models.simulate_data(linear(error), pkpd.read_nonmem(rows), seed=3)
    off = residual.additive(0.4, processes=[residual.ornstein_uhlenbeck(0.3, 90.0)])
    fit = pkpd.fit(linear(off), data, method="focei", progress=False)
    table = fit.table()
    for name, truth in {
        "sigma_concentration": 0.2,
        "sigma_process_concentration": 0.5,
        "tau_concentration": 40.0,
    }.items():
        assert table.loc[name, "lower"] < truth < table.loc[name, "upper"], name


@pytest.mark.slow
def test_simulated_residuals_have_the_covariance_and_the_scale_of_the_subject():
    copies, scales = 50, (0.5, 1.0, 2.0, 1.0)
    error = residual.lognormal(WHITE, scale="noise", processes=PROCESSES)
    likelihood = bind(model(error), study(copies=copies))
    values = np.asarray(likelihood.fixed(start_values(likelihood.model)))
    random = np.zeros((4 * copies, 3))
    random[:, 2] = np.tile(np.log(scales), copies)
    rng = np.random.default_rng(4)
    predicted = np.asarray(likelihood.predictions(values, random))
    drawn = np.log(
        [likelihood.simulate(values, predicted, rng, random) for _ in range(2000 // copies)]
    ) - np.log(predicted)
    drawn = drawn.reshape(2000, -1)  # of the four subjects
    seen = likelihood.dataset.observations
    for b, scale in enumerate(scales):
        mine = np.flatnonzero(seen.subject == b)
        expected = covariance(seen.time[mine], scale)
        # standard error of a covariance is about its variance over the root of 2000
        assert np.max(np.abs(np.cov(drawn[:, mine].T) - expected)) < 6 * expected[0, 0] / 2000**0.5


def test_scale_of_the_subject_without_processes():
    likelihood = bind(model(residual.proportional(0.2, scale="noise")), study(3))
    values = likelihood.fixed(start_values(likelihood.model))
    random = np.array([[0.0, 0.0, s] for s in (-0.3, 0.0, 0.4)])
    each, predicted = jax.jit(
        lambda *at: (likelihood.by_observation(*at), likelihood.predictions(*at))
    )(values, random)
    predicted, seen = np.asarray(predicted), likelihood.observed
    scale = 0.2 * predicted * np.exp(random[likelihood.dataset.observations.subject, 2])
    expected = norm(predicted, scale).logpdf(seen.value)
    np.testing.assert_allclose(each, expected, atol=1e-9)
    # its residuals are in units of the same scale
    found = residuals(single_draw(likelihood, {}, random)).iwres
    np.testing.assert_allclose(found, (seen.value - predicted) / scale, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: residual.ornstein_uhlenbeck(0.0, 10.0), "more than 0"),
        (lambda: residual.additive(0.1, processes=[0.3]), "no process in time"),
        (lambda: linear(residual.additive(0.1, scale="noise")), "no parameter of the model"),
        (
            lambda: MarginalLikelihood(
                bind(linear(residual.additive(0.1, processes=PROCESSES)), study(1)), "foce"
            ),
            "independent residual errors",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(PkpdError, match=words):
        make()


@pytest.mark.long  # density and fit of processes are above
def test_posterior_agrees_with_maximum_likelihood():
    error = residual.additive(0.2, processes=[residual.ornstein_uhlenbeck(0.5, 40.0)])
    data = pkpd.models.simulate_data(linear(error), study(12, 30), seed=3)
    maximum = pkpd.fit(linear(error), data, method="focei", progress=False)
    fit = pkpd.fit(linear(error), data, draws=300, tune=300, chains=2, progress=False)
    summary = fit.table()
    for name in ("sigma_process_concentration", "tau_concentration"):
        assert summary.loc[name, "q5"] < maximum.estimates[name] < summary.loc[name, "q95"]
