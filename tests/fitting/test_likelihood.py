from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from small_data import Straight, dataset_of, oral_rows

from pkpd.data.dataset import ABOVE, BELOW
from pkpd.errors import DataError
from pkpd.fitting.model.covariate_effects import exponential
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import Observed
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.residual import additive, combined, lognormal, proportional
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.predict.ode import ode_model
from pkpd.predict.pk import compartments
from pkpd.solve.population.status import PENALTY

TIMES = (0.5, 1.0, 3.0, 7.0, 12.0)


def oral_model(residual, **level):
    return PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("ka", 1.5, iiv=0.6),
            parameter("CL", 2.7, iiv=0.3, **level),
            parameter("V", 32.0, iiv=0.15),
        ],
        residual,
    )


def values_of(likelihood, scale=0.2, seed=3):
    rng = np.random.default_rng(seed)
    fixed = np.asarray(likelihood.fixed(start_values(likelihood.model)))
    size = (likelihood.n_subjects, likelihood.random_effects.size)
    return jnp.asarray(fixed), jnp.asarray(scale * rng.standard_normal(size))


def test_the_likelihood_is_that_of_the_closed_form_and_scipy():
    rows = oral_rows(3, TIMES)
    rows[4] = (*rows[4][:3], 2.0, 0, BELOW)
    rows[5] = (*rows[5][:3], 1.0, 0, ABOVE)
    rows[9] = (*rows[9][:3], 4.0, 0, BELOW, 1.0)
    data = dataset_of(rows)
    likelihood = bind(oral_model(combined(0.3, 0.1)), data)
    fixed, random = values_of(likelihood)
    ka, cl, v, a, b = np.asarray(fixed)
    seen = data.observations
    eta = np.asarray(random)[seen.subject]
    ka, cl, v = ka * np.exp(eta[:, 0]), cl * np.exp(eta[:, 1]), v * np.exp(eta[:, 2])
    k = cl / v
    f = 320 / v * ka / (ka - k) * (np.exp(-k * seen.time) - np.exp(-ka * seen.time))
    noise = stats.norm(f, np.hypot(a, b * f))
    expected = noise.logpdf(seen.value)
    expected = np.where(seen.censored == BELOW, noise.logcdf(seen.value), expected)
    expected = np.where(seen.censored == ABOVE, noise.logsf(seen.value), expected)
    bounded = np.isfinite(seen.lower)
    between = np.log(noise.cdf(seen.value) - noise.cdf(np.where(bounded, seen.lower, 0.0)))
    expected = np.where(bounded, between, expected)
    np.testing.assert_allclose(likelihood.predictions(fixed, random), f, rtol=1e-11)
    np.testing.assert_allclose(
        likelihood.by_observation(fixed, random), expected, rtol=1e-9, atol=1e-15
    )
    by_subject = np.bincount(seen.subject, expected)
    np.testing.assert_allclose(likelihood.by_subject(fixed, random), by_subject, rtol=1e-9)
    assert float(likelihood.total(fixed, random)) == pytest.approx(expected.sum(), rel=1e-10)


def test_lines_have_their_own_residual_error():
    rows = [(b, t, None, 2.0 + t + b, line) for b in (1, 2) for t in (0.5, 1.0) for line in (1, 0)]
    data = dataset_of(rows, lines=("low", "high"))
    model = PopulationModel(
        Straight(("low", "high")),
        [parameter("level", 1.0, iiv=0.3), parameter("slope", 0.5)],
        {"high": proportional(0.2), "low": additive(0.4, nu=5.0)},
    )
    likelihood = bind(model, data)
    assert likelihood.fixed_names == ("level", "slope", "sigma_high", "sigma_low", "nu_low")
    fixed, random = values_of(likelihood)
    seen = data.observations
    f = (np.exp(np.asarray(random)[seen.subject, 0]) + 0.5 * seen.time) * (1 + seen.line)
    expected = np.where(
        seen.line == 1,
        stats.norm(f, 0.2 * f).logpdf(seen.value),
        stats.t(5, f, 0.4).logpdf(seen.value),
    )
    np.testing.assert_allclose(likelihood.by_observation(fixed, random), expected, rtol=1e-11)
    scale = np.where(seen.line == 1, 0.2 * f, 0.4)
    got = likelihood.residual_sd(fixed, likelihood.predictions(fixed, random))
    np.testing.assert_allclose(got, scale, rtol=1e-11)
    drawn = likelihood.simulate(
        np.asarray(fixed), np.tile(f, (20_000, 1)), np.random.default_rng(1)
    )
    spread = np.where(seen.line == 1, 0.2 * f, 0.4 * np.sqrt(5 / 3))
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.06)


FAILURES = {
    "overflow": (additive(0.5), {}, 900.0),
    "no solution": (additive(0.5), {}, np.nan),
    "log of zero": (lognormal(0.5), {}, 800.0),
    "student": (additive(0.5, nu=4.0), {}, 900.0),
    "box-cox": (additive(0.5), {"boxcox": 2.0}, 600.0),
    "covariate": (additive(0.5), {"effects": exponential("X", 0.0, 0.1)}, 900.0),
}


@pytest.mark.parametrize(
    "why",
    ["overflow", *(pytest.param(k, marks=pytest.mark.slow) for k in FAILURES if k != "overflow")],
)
def test_a_subject_that_fails_gives_the_penalty_and_leaves_the_others_alone(why):
    residual, more, bad = FAILURES[why]
    rows = oral_rows(3, TIMES)
    covariates = {"X": [row[0] for row in rows]}
    data = dataset_of(rows, covariates=covariates)
    likelihood = bind(oral_model(residual, **more), data)
    fixed, random = values_of(likelihood)
    failing = random.at[1, 1].set(bad)
    each = np.asarray(likelihood.by_subject(fixed, failing))
    assert each[1] == PENALTY
    np.testing.assert_array_equal(likelihood.failures(fixed, failing), [1])
    keep = np.array([0, 2])
    np.testing.assert_allclose(each[keep], likelihood.by_subject(fixed, random)[keep], rtol=1e-12)
    value, by_fixed, by_random = likelihood.value_and_gradient(fixed, failing)
    assert float(value) == pytest.approx(each.sum())

    def others(fixed, random):
        return jnp.sum(likelihood.by_subject(fixed, random)[keep])

    want_fixed, want_random = jax.grad(others, argnums=(0, 1))(fixed, random)
    np.testing.assert_allclose(by_fixed, want_fixed, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(by_random[keep], want_random[keep], rtol=1e-9)
    assert np.all(by_random[1] == 0)


def test_other_measurements_of_the_same_design_may_be_traced():
    rows = oral_rows(3, TIMES)
    model = oral_model(combined(0.3, 0.1))
    likelihood = bind(model, dataset_of(rows))
    fixed, random = values_of(likelihood)
    other = [(*row[:3], None if row[3] is None else row[3] * 1.3) for row in rows]
    other[3] = (*other[3][:3], 3.0, 0, BELOW)
    other = bind(model, dataset_of(other))
    seen = other.dataset.observations
    traced = jax.jit(
        lambda value, censored: likelihood.total(
            fixed, random, Observed(value, censored, seen.lower)
        )
    )
    got = float(traced(seen.value, seen.censored))
    assert got == pytest.approx(float(other.total(fixed, random)), rel=1e-13)


@pytest.mark.slow
def test_subjects_without_observations_add_nothing():
    rows = oral_rows(2, TIMES)
    alone = bind(oral_model(additive(0.5)), dataset_of(rows))
    more = bind(oral_model(additive(0.5)), dataset_of([*rows, (9, 0.0, 320.0, None)]))
    fixed, random = values_of(more)
    assert float(more.by_subject(fixed, random)[2]) == 0.0
    assert float(more.total(fixed, random)) == pytest.approx(
        float(alone.total(fixed, random[:2])), rel=1e-13
    )
    assert np.all(more.value_and_gradient(fixed, random)[2][2] == 0)


def test_no_random_effects():
    model = PopulationModel(
        Straight(), [parameter("level", 1.0), parameter("slope", 0.5)], additive(0.5)
    )
    likelihood = bind(model, dataset_of([(1, 1.0, None, 2.0), (2, 1.0, None, 1.0)]))
    value, _, by_random = likelihood.value_and_gradient(
        likelihood.fixed(start_values(model)), jnp.zeros((2, 0))
    )
    assert float(value) == pytest.approx(stats.norm(1.5, 0.5).logpdf([2.0, 1.0]).sum())
    assert by_random.shape == (2, 0)


def test_lines_and_values_that_do_not_go_together_are_refused():
    rows = [(1, 1.0, None, 2.0, 0), (1, 2.0, None, 0.0, 1)]
    parameters = [parameter("level", 1.0, iiv=0.3), parameter("slope", 0.5)]

    def made(residual, lines=("low", "high")):
        model = PopulationModel(Straight(("low", "high")), parameters, residual)
        return bind(model, dataset_of(rows, lines=lines))

    with pytest.raises(DataError, match=r"line 'high': is observed and has no residual error"):
        made({"low": additive(1.0)})
    with pytest.raises(DataError, match=r"line 'middle': is not predicted"):
        made({"low": additive(1.0), "high": additive(1.0)}, ("low", "middle"))
    with pytest.raises(DataError, match=r"row 1.*high of 0 has no logarithm.*CENS 1"):
        made({"low": additive(1.0), "high": lognormal(0.3)})


def test_a_dataset_replaced_in_part_keeps_its_likelihood():
    likelihood = bind(oral_model(additive(0.5)), dataset_of(oral_rows(2, TIMES)))
    seen = dataclasses.replace(likelihood.dataset.observations)
    again = bind(likelihood.model, dataclasses.replace(likelihood.dataset, observations=seen))
    fixed, random = values_of(likelihood)
    assert float(again.total(fixed, random)) == float(likelihood.total(fixed, random))


def test_a_table_without_measurements_is_refused():
    rows = [row for row in oral_rows(2, TIMES) if row[2]]
    with pytest.raises(DataError, match=re.escape("name the column of measured values")):
        bind(oral_model(proportional(0.1)), dataset_of(rows))


def test_steps_of_equations_are_chosen_at_the_starting_values():
    def rhs(t, y, p):
        return {"gut": -p["ka"] * y["gut"], "central": p["ka"] * y["gut"] - p["k"] * y["central"]}

    model = ode_model(
        rhs,
        states=["gut", "central"],
        parameters=["ka", "k", "V"],
        outputs={"concentration": lambda y, p: y["central"] / p["V"]},
    )
    start = {"ka": 1.5, "k": 0.08, "V": 32.0}
    whole = PopulationModel(model, [parameter(n, v) for n, v in start.items()], proportional(0.1))
    predictor = bind(whole, dataset_of(oral_rows(3, TIMES))).predictor
    assert predictor.structure.typical == start
    assert "fixed steps of" in predictor.note
    # what the user said comes first
    own = dataclasses.replace(model, typical=start | {"k": 0.1})
    assert own.judged_at(start) is own


def test_a_line_without_observations_asks_for_no_residual_error():
    structure = Straight(("low", "middle", "high"))
    parameters = [parameter("level", 1.0, iiv=0.3), parameter("slope", 0.5)]
    rows = [(1, 0.5, None, 2.2, 2), (1, 1.0, None, 1.4, 0), (1, 2.0, None, 4.5, 2)]
    data = dataset_of(rows, lines=("low", "middle", "high"))
    model = PopulationModel(structure, parameters, {"high": additive(0.5), "low": additive(0.2)})
    likelihood = bind(model, data)
    fixed = likelihood.fixed(start_values(model))
    # the structure doubles the second of the lines that are left
    f, sd = np.array([2 * 1.25, 1.5, 2 * 2.0]), np.array([0.5, 0.2, 0.5])
    value = data.observations.value
    got = float(likelihood.total(fixed, jnp.zeros((1, 1))))
    assert got == pytest.approx(stats.norm(f, sd).logpdf(value).sum(), rel=1e-12)
    assert likelihood.dataset.lines == ("low", "high")
