from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from pkpd.data.events import EventTable
from pkpd.errors import DataError, PkpdError
from pkpd.kinetics.compartments import compartment_model
from pkpd.kinetics.exponential import matrix_exponential, step_matrices
from pkpd.solve.events.advance import solve_linear
from pkpd.solve.events.timeline import EventOptions

ONE = compartment_model(1)
VALUES = {"CL": 1.0, "V": 10.0}


def dose(**columns):
    base = {"evid": [1, 0], "amt": [100, 0]}
    return EventTable.from_columns(
        [4, 4],
        [0.0, 5.0],
        source="trial.csv",
        numbers=[2, 3],
        **base | {k: [v, 0] for k, v in columns.items()},
    )


@pytest.mark.parametrize(
    ("columns", "extra", "words"),
    [
        ({"cmt": 3}, {}, "row 2, ID 4, column CMT: compartment 3 does not exist"),
        (
            {"rate": -1},
            {},
            "row 2, ID 4, column RATE: RATE -1 asks for a modelled rate, and there "
            "is no parameter R1",
        ),
        ({"rate": -2}, {}, "there is no parameter D1"),
        ({"rate": -2}, {"D1": -3.0}, "row 2, ID 4: D1 is -3 for this dose"),
        ({"rate": -1}, {"R1": 0.0}, "R1 is 0 for this dose"),
        ({}, {"ALAG1": -0.5}, "ALAG1 is -0.5 for this dose"),
        ({}, {"F1": -0.5}, "F1 is -0.5 for this dose"),
    ],
)
def test_impossible_doses_are_refused(columns, extra, words):
    with pytest.raises(DataError, match=re.escape(words)):
        solve_linear(ONE, dose(**columns), VALUES | extra)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"CL": 1.0}, "parameter 'V' is missing"),
        (VALUES | {"ALAG2": 1.0}, "parameter 'ALAG2'"),
        (VALUES | {"V": np.ones(3)}, "parameter 'V': has shape (3,)"),
    ],
)
def test_wrong_parameters_are_refused(values, words):
    with pytest.raises(PkpdError, match=re.escape(words)):
        solve_linear(ONE, dose(), values)


def test_impossible_models_are_refused():
    with pytest.raises(PkpdError, match="n = 4"):
        compartment_model(4)
    with pytest.raises(PkpdError, match="transits = 0"):
        compartment_model(1, "transit")


def test_too_few_slots_give_nan_not_a_wrong_number():
    events = dose(ss=1, ii=10, rate=2)  # lasts 50 h: five overlap
    enough = solve_linear(ONE, events, VALUES)
    assert np.all(np.isfinite(enough))
    few = solve_linear(ONE, events, VALUES, options=EventOptions(overlap=3))
    assert np.all(np.isnan(few))


def test_a_negative_lag_under_jit_gives_nan():
    events = dose()
    solve = jax.jit(lambda lag: solve_linear(ONE, events, VALUES | {"ALAG1": lag}))
    assert np.all(np.isnan(solve(-1.0)[0, -1]))
    assert solve(1.0)[0, -1, 0] == pytest.approx(100 * np.exp(-0.4))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 300.0])
def test_matrix_exponential_agrees_with_scipy(scale):
    rng = np.random.default_rng(3)
    flow = rng.uniform(0.1, 1.0, (5, 4, 4))
    matrix = scale * (flow - np.eye(4) * flow.sum(axis=-2, keepdims=True) * 1.1)
    found = matrix_exponential(jnp.asarray(matrix))
    expected = np.stack([expm(m) for m in matrix])
    # squaring doubles the rounding error at each of up to 13 steps
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_step_backwards_undoes_a_step_forwards():
    matrix = jnp.asarray([[-0.5, 0.1], [0.2, -0.3]])
    rate, state = jnp.asarray([3.0, 0.5]), jnp.asarray([10.0, 20.0])
    forward, gain = step_matrices(matrix, rate, jnp.asarray(4.0))
    back, loss = step_matrices(matrix, rate, jnp.asarray(-4.0))
    np.testing.assert_allclose(back @ (forward @ state + gain) + loss, state, rtol=1e-12)
