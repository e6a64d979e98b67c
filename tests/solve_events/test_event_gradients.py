"""Derivatives against central differences, for every event feature at once.

Subjects do not depend on each other, so one derivative of the weighted sum holds the derivatives
of all cases, and one pair of evaluations its differences for a parameter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_cases import CASES, DOSING, SYSTEM, VALUES, Case, table

from pkpd.solve.events.advance import solve_linear
from pkpd.solve.events.timeline import EventOptions

NEAR = 1e-4
CROSSING = {
    # events just before and just after an observation at 7.5 h
    "lag_before": Case([(0, {"amt": 100})], parameters={"ALAG1": 7.5 - NEAR}),
    "lag_after": Case([(0, {"amt": 100})], parameters={"ALAG1": 7.5 + NEAR}),
    "end_before": Case([(0, {"amt": 100, "rate": -2, "cmt": 2})], parameters={"D2": 7.5 - NEAR}),
    "end_after": Case([(0, {"amt": 100, "rate": -2, "cmt": 2})], parameters={"D2": 7.5 + NEAR}),
    "end_at": Case([(0, {"amt": 100, "rate": -2, "cmt": 2})], parameters={"D2": 7.5}),
}
# Away from the round numbers of the cases: where an event falls on a record, or an infusion lasts
# whole intervals, the derivative has two sides.
OFFSET = {"ALAG": (1.0, 0.037), "F": (0.983, 0.0), "D": (1.013, 0.0), "R": (1.017, 0.0)}
STEP = 1e-6


@pytest.fixture(scope="module")
def derivatives():
    cases = CASES | CROSSING
    events, full = table(cases)
    parameters = {name: value[:, 0] for name, value in full.items()}
    for name in DOSING:
        scale, shift = OFFSET[name.rstrip("12")]
        moved = np.where(parameters[name] > 0, parameters[name] * scale + shift, 0.0)
        parameters[name] = np.where(np.arange(len(cases)) < len(CASES), moved, parameters[name])
    parameters = {name: jnp.asarray(value) for name, value in parameters.items()}
    weight = jnp.asarray(np.cos(np.arange(events.shape[1]))[None, :, None] + [0.3, 1.0, -0.4])
    weight = weight * jnp.asarray(events.valid)[..., None]
    options = EventOptions(overlap=4, pending=2)

    def total(values):
        amounts = solve_linear(SYSTEM, events, values, options=options)
        each = jnp.sum(weight * amounts, axis=(1, 2))
        return jnp.sum(each), each

    compiled = jax.jit(jax.value_and_grad(total, has_aux=True))  # one program for both

    def evaluate(**changed):
        return np.asarray(compiled(parameters | changed)[0][1])

    gradient = compiled(parameters)[1]
    differences = {}
    for name, value in parameters.items():
        up, down = (evaluate(**{name: value + s * STEP}) for s in (1.0, -1.0))
        differences[name] = (up - down) / (2 * STEP)
    below = (evaluate() - evaluate(D2=parameters["D2"] - STEP)) / STEP
    return list(cases), gradient, differences, below


@pytest.mark.long
@pytest.mark.parametrize("name", [*VALUES, *(n for n in DOSING if n != "D1")])
def test_derivative_is_central_difference(derivatives, name):
    labels, gradient, differences, _ = derivatives
    checked = 0
    for b, label in enumerate(labels):
        lag_is_zero = name.startswith("ALAG") and name not in (CASES | CROSSING)[label].parameters
        if lag_is_zero or (label, name) == ("end_at", "D2"):
            continue
        # rounding of a sum of order 1000 over a step of 1e-6
        assert float(gradient[name][b]) == pytest.approx(
            differences[name][b], rel=2e-6, abs=2e-5
        ), label
        checked += abs(differences[name][b]) > 1e-3
    assert checked >= 2


@pytest.mark.slow
def test_all_derivatives_are_finite(derivatives):
    _, gradient, _, _ = derivatives
    for name, value in gradient.items():
        assert np.all(np.isfinite(value)), name


@pytest.mark.slow
def test_end_at_an_observation_gives_the_derivative_from_before(derivatives):
    labels, gradient, _, below = derivatives
    b = labels.index("end_at")
    assert float(gradient["D2"][b]) == pytest.approx(below[b], rel=1e-4)
