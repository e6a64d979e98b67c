from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from small_data import Straight

from pkpd.fitting.model.population_parameters import (
    RandomEffects,
    correlation_cholesky,
    deviations,
    fixed_effects,
    held,
    partial_correlations,
    start_values,
)
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive
from pkpd.fitting.model.specification import PopulationModel, parameter


def model_of(n, blocks=(), iov=()):
    names = tuple("abcdefgh"[:n])
    return PopulationModel(
        Straight(("y",), names),
        [
            parameter(name, 1.0, iiv=0.1 * (i + 1), iov=0.05 * (i + 1) if name in iov else None)
            for i, name in enumerate(names)
        ],
        additive(1.0),
        correlated=blocks,
    )


@given(st.lists(st.floats(-0.99, 0.99), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_any_partial_correlations_give_a_correlation_matrix(partial):
    lower = correlation_cholesky([np.float64(p) for p in partial], 4, np)
    matrix = lower @ lower.T
    np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-13)
    assert np.linalg.eigvalsh(matrix).min() > 0
    assert np.all(np.triu(lower, 1) == 0)
    # the first column holds plain correlations; the next ones partial correlations given those
    # before, by the recursion of Yule
    r = matrix
    assert r[1, 0] == pytest.approx(partial[0], abs=1e-12)
    given_first = (r[2, 1] - r[2, 0] * r[1, 0]) / np.sqrt((1 - r[2, 0] ** 2) * (1 - r[1, 0] ** 2))
    assert given_first == pytest.approx(partial[2], abs=1e-8)


def test_all_array_modules_give_the_same_factor():
    partial = [0.3, -0.5, 0.8]
    by_numpy = correlation_cholesky([np.float64(p) for p in partial], 3, np)
    by_jax = correlation_cholesky([jnp.asarray(p) for p in partial], 3, jnp)
    by_pytensor = correlation_cholesky([pt.as_tensor_variable(p) for p in partial], 3, pt).eval()
    np.testing.assert_allclose(by_jax, by_numpy, rtol=1e-15)
    np.testing.assert_allclose(by_pytensor, by_numpy, rtol=1e-15)


@pytest.mark.parametrize(
    ("size", "concentration"),
    [
        pytest.param(2, 1.0, marks=pytest.mark.long),
        pytest.param(3, 2.0, marks=pytest.mark.slow),
        pytest.param(4, 1.0, marks=pytest.mark.long),
        pytest.param(4, 3.5, marks=pytest.mark.slow),
    ],
)
def test_beta_partial_correlations_have_the_lkj_density(size, concentration):
    """Density of the correlation matrix against PyMC's LKJCorr, up to one constant."""
    rng = np.random.default_rng(size)
    pairs = [(i, j) for i in range(1, size) for j in range(i)]
    with pm.Model():
        lkj = pm.LKJCorr("r", n=size, eta=concentration, return_matrix=False)
    below = np.tril_indices(size, -1)

    def correlations(partial):
        lower = correlation_cholesky(list(partial), size, np)
        return (lower @ lower.T)[below]

    differences = []
    for _ in range(6):
        partial = rng.uniform(-0.8, 0.8, len(pairs))
        shapes = [concentration + 0.5 * (size - 2 - j) for _, j in pairs]
        ours = sum(
            stats.beta(a, a).logpdf(0.5 * (p + 1)) - np.log(2.0)
            for p, a in zip(partial, shapes, strict=True)
        )
        step = 1e-6 * np.eye(len(pairs))
        jacobian = np.stack(
            [(correlations(partial + h) - correlations(partial - h)) / 2e-6 for h in step], axis=1
        )
        ours -= np.linalg.slogdet(jacobian)[1]
        matrix = np.eye(size)
        matrix[below] = correlations(partial)
        matrix = matrix + np.tril(matrix, -1).T
        theirs = (concentration - 1.0) * np.linalg.slogdet(matrix)[1]
        differences.append(ours - theirs)
    # central differences in the Jacobian
    np.testing.assert_allclose(differences, differences[0], atol=1e-7)
    # every correlation has the LKJ marginal: a beta distribution on (-1, 1)
    draws = {
        (i, j): 2 * rng.beta(*2 * [concentration + 0.5 * (size - 2 - j)], 4000) - 1
        for i, j in pairs
    }
    sampled = np.stack([correlations([draws[p][k] for p in pairs]) for k in range(4000)])
    a = concentration - 1.0 + 0.5 * size
    for column in sampled.T:
        assert stats.kstest(0.5 * (column + 1), stats.beta(a, a).cdf).pvalue > 1e-4
    theirs = np.asarray(pm.draw(lkj, 500, random_seed=1))
    np.testing.assert_allclose(theirs.std(), sampled.std(), rtol=0.1)


def test_covariance_of_blocks_and_occasions():
    model = model_of(5, [("d", "b"), ("a", "e")], iov=("b", "c"))
    effects = RandomEffects(model, 2)
    assert effects.size == 5 + 2 * 2
    assert effects.names == (
        *("d", "b", "a", "e", "c"),
        *("b occasion 1", "c occasion 1", "b occasion 2", "c occasion 2"),
    )
    assert tuple(partial_correlations(model)) == ("partial_d_b", "partial_a_e")
    values = start_values(model) | {"partial_d_b": 0.5, "partial_a_e": -0.25}
    got = effects.covariance(values, np)
    sd = np.array([0.4, 0.2, 0.1, 0.5, 0.3, 0.1, 0.15, 0.1, 0.15])
    expected = np.diag(sd**2)
    expected[0, 1] = expected[1, 0] = 0.5 * 0.4 * 0.2
    expected[2, 3] = expected[3, 2] = -0.25 * 0.1 * 0.5
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-17)
    np.testing.assert_allclose(effects.covariance(values, jnp), expected, rtol=1e-13, atol=1e-17)
    eta, kappa = effects.split(np.arange(18.0).reshape(2, 9))
    assert eta.shape == (2, 5)
    np.testing.assert_array_equal(kappa[1], [[14, 15], [16, 17]])


def test_no_random_effects_at_all():
    model = PopulationModel(
        Straight(), [parameter("level", 1.0), parameter("slope", 1.0)], additive(1.0)
    )
    effects = RandomEffects(model, 0)
    assert effects.size == 0
    assert effects.covariance(start_values(model), np).shape == (0, 0)
    assert deviations(model) == {}


def test_names_and_held_values():
    model = PopulationModel(
        Straight(),
        [parameter("level", 1.0, iiv=fixed(0.3)), parameter("slope", 2.0, fixed=True)],
        additive(fixed(1.0)),
    )
    assert list(fixed_effects(model)) == ["level", "slope", "sigma_height"]
    assert held(model) == {"slope", "sigma_height", "omega_level"}
    assert start_values(model) == {
        "level": 1.0,
        "slope": 2.0,
        "sigma_height": 1.0,
        "omega_level": 0.3,
    }
