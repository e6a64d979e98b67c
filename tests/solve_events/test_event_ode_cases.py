"""A linear system written as differential equations, against the closed form, for every event.

The closed form and its derivatives are compared with other answers in the files beside this one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_cases import CASES, DOSING, SYSTEM, VALUES, Case, table

from pkpd.solve.events.advance import solve_linear
from pkpd.solve.events.ode import OdeOptions, solve_events
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.events.timeline import EventOptions


def slopes(t, y, u, p):
    absorbed = p["ka"] * y[0]
    exchange = p["Q"] * (y[1] / p["V1"] - y[2] / p["V2"])
    return -absorbed, absorbed - p["CL"] / p["V1"] * y[1] - exchange, exchange


ODE = OdeSystem("written out", ("depot", "central", "peripheral"), tuple(VALUES), slopes)

# the linear system solved exactly, and the area under its concentration as the only state
AREA = OdeSystem(
    "area", ("area",), tuple(VALUES), lambda t, y, u, p: (u,), pk=SYSTEM, pk_volume="V1"
)


def shortfall(found, expected):
    """Largest difference by compartment, relative to the value and a hundredth of the largest."""
    scale = np.abs(expected) + 1e-2 * np.max(np.abs(expected), axis=0)
    return np.max(np.abs(found - expected) / np.where(scale > 0, scale, 1.0), axis=0)


@pytest.fixture(scope="module")
def both():
    events, parameters = table(CASES)
    exact = np.asarray(solve_linear(SYSTEM, events, parameters))
    return events, exact, np.asarray(solve_events(ODE, events, parameters))


@pytest.mark.parametrize("case", CASES)
def test_every_event_as_in_the_closed_form(both, case):
    events, exact, found = both
    b = list(CASES).index(case)
    valid = events.valid[b]
    errors = shortfall(found[b, valid], exact[b, valid])
    # default steps: at most 0.5 h, where the depot (ka = 0.9) loses 3e-6 of itself in each
    assert errors[0] < 3e-5
    assert np.all(errors[1:] < 1e-6)


@pytest.mark.long  # test_event_ode: adaptive solvers and derivatives
def test_adaptive_steps_agree_too(both):
    events, exact, _ = both
    _, parameters = table(CASES)
    constant = {name: value[:, 0] for name, value in parameters.items()}
    found = np.asarray(solve_events(ODE, events, constant, options=OdeOptions(solver="diffrax")))
    for b, case in enumerate(CASES):
        valid = events.valid[b]
        assert np.all(shortfall(found[b, valid], exact[b, valid]) < 1e-7), case


@pytest.mark.slow
def test_driving_system_is_exact_whatever_the_steps():
    # an area has no steady state
    cases = {name: case for name, case in CASES.items() if not name.startswith("ss")}
    events, parameters = table(cases)
    exact = np.asarray(solve_linear(SYSTEM, events, parameters))
    found = np.asarray(solve_events(AREA, events, parameters, options=OdeOptions(max_step_h=6.0)))
    # the matrices of many steps multiplied, rounding only
    np.testing.assert_allclose(found[..., :3], exact, rtol=1e-9, atol=1e-9)
    for b, case in enumerate(cases):
        if "reset" in case:
            continue
        # what left is what entered less what is there
        area = found[b, events.valid[b], 3]
        p = {name: parameters[name][b, 0] for name in ("CL", "F1", "F2")}
        if case in ("bolus", "bolus_central"):
            left = 100.0 - exact[b, events.valid[b]].sum(axis=1)
            np.testing.assert_allclose(area * p["CL"], left, rtol=3e-6, atol=1e-4)


OFFSET = {"ALAG": (1.0, 0.037), "F": (0.983, 0.0), "D": (1.013, 0.0), "R": (1.017, 0.0)}
NEAR = {
    # the end of an infusion just before, just after and at an observation at 7.5 h
    "end_before": Case([(0, {"amt": 100, "rate": -2, "cmt": 2})], parameters={"D2": 7.4999}),
    "end_after": Case([(0, {"amt": 100, "rate": -2, "cmt": 2})], parameters={"D2": 7.5001}),
    "lag_after": Case([(0, {"amt": 100})], parameters={"ALAG1": 7.5001}),
}


STEADY = {label: case for label, case in CASES.items() if label.startswith("ss")}
SINGLE = {label: case for label, case in (CASES | NEAR).items() if label not in STEADY}


# test_event_ode has the derivative of a steady state by differences
@pytest.fixture(
    scope="module", params=[SINGLE, pytest.param(STEADY, marks=pytest.mark.long)], ids=("", "ss")
)
def derivatives(request):
    cases = request.param
    events, full = table(cases)
    parameters = {name: value[:, 0] for name, value in full.items()}
    for name in DOSING:
        scale, shift = OFFSET[name.rstrip("12")]
        moved = np.where(parameters[name] > 0, parameters[name] * scale + shift, 0.0)
        parameters[name] = np.where([label in NEAR for label in cases], parameters[name], moved)
    parameters = {name: jnp.asarray(value) for name, value in parameters.items()}
    weight = jnp.asarray(np.cos(np.arange(events.shape[1]))[None, :, None] + [0.3, 1.0, -0.4])
    weight = weight * jnp.asarray(events.valid)[..., None]
    reading = EventOptions(overlap=4, pending=2)

    def exact(values):
        return jnp.sum(weight * solve_linear(SYSTEM, events, values, options=reading))

    def stepped(values):
        options = OdeOptions(max_step_h=0.25, first_step_h=1 / 64, events=reading)
        return jnp.sum(weight * solve_events(ODE, events, values, options=options))

    return cases, jax.grad(exact)(parameters), jax.grad(stepped)(parameters)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VALUES, *(n for n in DOSING if n != "D1")])
def test_derivatives_are_those_of_the_closed_form(derivatives, name):
    cases, expected, found = derivatives
    checked = 0
    for b, (label, case) in enumerate(cases.items()):
        # with a lag of 0 the dose enters at its record: the derivative has one side only
        if name.startswith("ALAG") and name not in case.parameters:
            continue
        one, other = float(found[name][b]), float(expected[name][b])
        assert one == pytest.approx(other, rel=1e-5, abs=2e-4), label
        checked += abs(other) > 1e-3
    assert checked >= 1
