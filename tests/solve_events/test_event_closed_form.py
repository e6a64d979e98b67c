"""The closed form against SciPy's matrix exponential, and its derivatives where rates meet."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_cases import CASES, SYSTEM, table
from scipy.linalg import expm

from pkpd.kinetics.compartments import compartment_model
from pkpd.solve.events.advance import solve_linear

DISPOSITION = {
    1: {"CL": 3.0, "V": 20.0},
    2: {"CL": 3.0, "V1": 20.0, "Q": 4.0, "V2": 35.0},
    3: {"CL": 3.0, "V1": 20.0, "Q2": 4.0, "V2": 35.0, "Q3": 0.7, "V3": 90.0},
}
STEPS = np.array([0.0, 1e-9, 0.01, 1.0, 24.0, 400.0, -2.0])


def bordered(matrix, rate, dt):
    size = len(rate)
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size], whole[:size, size] = matrix, rate
    result = expm(whole * dt)
    return result[:size, :size], result[:size, size]


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("absorption", ["none", "first_order"])
def test_steps_agree_with_the_matrix_exponential(n, absorption):
    system = compartment_model(n, absorption)
    values = {k: jnp.asarray(v) for k, v in DISPOSITION[n].items()}
    matrix = np.asarray(system.matrix(values | {"ka": jnp.asarray(1.0)}))
    roots = -np.linalg.eigvals(matrix).real
    rate = np.linspace(7.0, 1.0, system.size)
    for ka in (0.8, *roots, *(roots * (1.0 + 1e-7))) if absorption != "none" else (0.0,):
        values["ka"] = jnp.asarray(ka)
        found = system.step(values, jnp.asarray(rate), jnp.asarray(STEPS))
        matrix = np.asarray(system.matrix(values))
        for i, dt in enumerate(STEPS):
            expected = bordered(matrix, rate, dt)
            # of the largest entry of both: SciPy's exponential is good to its norm
            size = max(np.abs(part).max() for part in expected)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one[i], other, rtol=1e-9, atol=1e-12 * size)


@pytest.mark.parametrize("absorption", ["none", "first_order"])
def test_no_elimination_and_no_exchange(absorption):
    system = compartment_model(2, absorption)
    values = {"CL": 0.0, "V1": 20.0, "Q": 4.0, "V2": 35.0, "ka": 0.8}
    for changed in ({}, {"CL": 3.0, "Q": 0.0}):
        p = {k: jnp.asarray(v) for k, v in (values | changed).items()}
        rate = jnp.linspace(5.0, 1.0, system.size)
        found = system.step(p, rate, jnp.asarray([3.0]))
        expected = bordered(np.asarray(system.matrix(p)), np.asarray(rate), 3.0)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[0], other, rtol=1e-11, atol=1e-12)


def test_derivative_where_absorption_meets_elimination():
    system = compartment_model(1, "first_order")

    def central(ka):
        p = {"CL": jnp.asarray(4.0), "V": jnp.asarray(20.0), "ka": ka}
        return system.step(p, jnp.asarray([2.0, 0.0]), jnp.asarray(3.0))

    first, second = central(0.2), jax.jacfwd(central)(0.2)
    t, k = 3.0, 0.2
    # amount passed on: k t exp(-k t); its derivative in ka, with ka = k, from the double root
    assert float(first[0][1, 0]) == pytest.approx(k * t * np.exp(-k * t), rel=1e-13)
    slope = t * np.exp(-k * t) - k * t**2 / 2 * np.exp(-k * t)
    assert float(second[0][1, 0]) == pytest.approx(slope, rel=1e-12)


@pytest.mark.slow
def test_every_event_feature_without_the_closed_form(at_records):
    events, parameters = table(CASES)
    general = replace(SYSTEM, closed_form=None)
    amounts = np.asarray(solve_linear(general, events, parameters))
    for b, label in enumerate(CASES):
        expected = at_records[label][2]
        np.testing.assert_allclose(
            amounts[b, events.valid[b]], expected, rtol=1e-9, atol=1e-9, err_msg=label
        )
