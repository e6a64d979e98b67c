"""Individual modes against scipy's minimiser of a posterior written by hand."""

import jax.numpy as jnp
import marginal_cases as cases
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

import pkpd
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.residual import additive, combined, lognormal
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.models import Friberg, compartments, marrow_model
from pkpd.solve.population.problem import PopulationProblem

OMEGA = np.array([0.3, 0.4])


def by_hand(dataset, residual):
    """Mode of each subject of the decay model in units of its standard deviations."""
    seen, out = dataset.observations, []

    def minus(u, rows):
        A, k = 10 * np.exp(0.3 * u[0]), 0.3 * np.exp(0.4 * u[1])
        f = A * np.exp(-k * seen.time[rows])
        sd = residual(f)
        z = (seen.value[rows] - f) / sd
        each = np.where(
            seen.censored[rows] == 1, stats.norm.logcdf(z), stats.norm.logpdf(z) - np.log(sd)
        )
        return -each.sum() + 0.5 * np.sum(u**2)

    for b in range(len(dataset.subjects)):
        rows = np.flatnonzero(seen.subject == b)
        ends = [
            optimize.minimize(minus, start, (rows,), tol=1e-12)
            for start in np.array([[0, 0], [1, 1], [-1, 1], [1, -1]])
        ]
        out.append(min(ends, key=lambda end: end.fun))
    return np.array([end.x for end in out]), np.array([end.fun for end in out])


@pytest.fixture(scope="module")
def censored():
    dataset = cases.decay_data(limit=1.5)
    density = ConditionalDensity(bind(cases.decay_model(additive(0.5)), dataset))
    return density, *by_hand(dataset, lambda f: 0.5 + 0 * f)


def test_modes_with_values_below_a_limit(censored):
    density, u, value = censored
    modes = find_modes(density, density.free.start())
    assert modes.converged.all()
    # scipy's differences end within 1e-5 of the minimum
    np.testing.assert_allclose(modes.u, u, atol=5e-5)
    np.testing.assert_allclose(modes.value, value, atol=1e-7)


def test_modes_with_a_variance_that_follows_the_prediction():
    dataset = cases.decay_data(sd=0.2)
    density = ConditionalDensity(bind(cases.decay_model(combined(0.2, 0.1)), dataset))
    modes = find_modes(density, density.free.start())
    u, value = by_hand(dataset, lambda f: np.sqrt(0.04 + (0.1 * f) ** 2))
    np.testing.assert_allclose(modes.u, u, atol=5e-5)
    np.testing.assert_allclose(modes.value, value, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(1.0, 6.0))
def test_bad_starts_end_at_the_same_modes(censored, seed, size):
    density, u, _ = censored
    start = size * np.random.default_rng(seed).standard_normal(u.shape)
    modes = find_modes(density, density.free.start(), start, restarts=3, seed=seed)
    np.testing.assert_allclose(modes.u, u, atol=5e-5)


def test_a_hessian_from_nearby_parameters_saves_calls(censored):
    density, *_ = censored
    x = density.free.start()
    modes = find_modes(density, x)
    moved = find_modes(density, x + 0.02, modes.u, hessian=modes.hessian)
    plain = find_modes(density, x + 0.02, modes.u)
    assert moved.evaluations < plain.evaluations
    assert not moved.fresh
    np.testing.assert_allclose(moved.u, plain.u, atol=1e-4)


def test_subjects_that_are_not_wanted_stay_where_they_are(censored):
    density, u, _ = censored
    x, wanted = density.free.start(), np.arange(len(u)) % 2 == 0
    start = u + 0.5
    for more in ({}, {"hessian": np.tile(np.eye(u.shape[1]), (len(u), 1, 1)), "restarts": 2}):
        modes = find_modes(density, x, start, wanted=wanted, exact=False, **more)
        np.testing.assert_array_equal(modes.converged, wanted)
        np.testing.assert_allclose(modes.u[wanted], u[wanted], atol=5e-5)
        np.testing.assert_array_equal(modes.u[~wanted], start[~wanted])
        assert np.isfinite(modes.hessian).all()


def test_hessians_at_modes_of_a_linear_model_are_exact():
    times = np.array([0.0, 1.0, 3.0])
    y = np.array([[10.0, 12.0, 13.0], [8.0, 9.0, 12.0]])
    density = ConditionalDensity(bind(cases.line_model(additive(0.5)), cases.data(times, y)))
    modes = find_modes(density, density.free.start())
    design = np.stack([np.ones(3), times], axis=1) * [2.0, 0.3]
    hessian = design.T @ design / 0.25 + np.eye(2)
    np.testing.assert_allclose(modes.hessian, np.stack([hessian, hessian]), rtol=1e-8, atol=1e-8)
    exact = np.linalg.solve(hessian, design.T @ (y - 10 - times).T / 0.25).T
    np.testing.assert_allclose(modes.u, exact, atol=1e-9)


def test_a_subject_that_cannot_be_solved_is_flagged_alone():
    lost = cases.Curve(lambda t, a: jnp.where(t > 50, jnp.nan, a), ("a",))
    model = PopulationModel(lost, [parameter("a", 5.0, iiv=0.3)], additive(0.5))
    dataset = cases.data(np.array([0.0, 1.0]), np.array([[4.0, 5.0], [6.0, 6.5], [5.0, 4.0]]))
    seen = dataset.observations
    seen.time[seen.subject == 1] += 100.0
    density = ConditionalDensity(bind(model, dataset))
    modes = find_modes(density, density.free.start())
    assert modes.converged.tolist() == [True, False, True]
    assert np.isfinite(modes.u).all()


def test_subjects_at_their_modes_are_not_solved_again(monkeypatch):
    rows = []
    for i, low in enumerate((0.3, 1.0, 1.1, 1.2, 1.3, 4.0)):  # the first and the last take longest
        rows.append((i, 0.0, 80.0, 1, None))
        rows += [
            (i, 24.0 * d, 0.0, 0, v) for d, v in zip((0, 8, 15, 28), (5, low, 3, 6), strict=True)
        ]
    data = pkpd.read_nonmem(
        pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"]),
        units={"TIME": "h", "AMT": "mg", "DV": "10^9/L"},
    )
    values = {"CL": 10.0, "V": 50.0, "slope": 5.0, "circ0": 5.0, "MTT": 120.0, "gamma": 0.2}
    model = PopulationModel(
        marrow_model(compartments(1), lines={"DV": Friberg()}),
        [parameter(name, value, iiv=0.3) for name, value in values.items()],
        {"DV": lognormal(0.2)},
    )
    density = ConditionalDensity(bind(model, data))
    lanes, solved = [], PopulationProblem._compiled

    def counted(self, theta, copies=1, **options):
        lanes.append(np.isfinite(theta).all(axis=0).mean())
        return solved(self, theta, copies, **options)

    monkeypatch.setattr(PopulationProblem, "_compiled", counted)
    x = density.free.start()
    found = find_modes(density, x)
    assert found.converged.all()
    assert min(lanes) <= 2 / 6
    monkeypatch.setattr(ConditionalDensity, "leaves_out", False)
    plain = find_modes(density, x)
    np.testing.assert_allclose(found.u, plain.u, atol=1e-7)
    np.testing.assert_allclose(found.hessian, plain.hessian, rtol=1e-5, atol=1e-6)
    monkeypatch.undo()
    near = find_modes(density, x + 0.01, found.u, hessian=found.hessian, exact=False)
    np.testing.assert_allclose(near.u, find_modes(density, x + 0.01).u, atol=2e-5)
