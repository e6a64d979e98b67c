"""Implicit fixed steps: order, stiffness, derivatives in both modes, and who is given them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import compartment_model
from pkpd.solve.events import rosenbrock
from pkpd.solve.events.check import choose_solver
from pkpd.solve.events.ode import GROWTH, OdeOptions, solve_events
from pkpd.solve.events.system import OdeSystem

TIMES = np.array([0.0, 1.0, 3.0, 10.0])
TABLE = EventTable.from_columns([1] * 4, TIMES, evid=[1, 0, 0, 0], amt=[100.0, 0, 0, 0])


def rhs(t, y, u, p):
    """Decay at a rate that follows the clock, and a state 1,000 times as fast that follows it."""
    return (-p["k"] * y[0] * (1.0 + jnp.sin(t)), 300.0 * (y[0] - y[1]))


SYSTEM = OdeSystem("clock and follower", ("slow", "fast"), ("k",), rhs)


def states(k, h):
    options = OdeOptions(solver="fixed-stiff", max_step_h=h, first_step_h=h)
    return solve_events(SYSTEM, TABLE, {"k": k}, options=options)[0]


def exact(k):
    return 100.0 * np.exp(-k * (TIMES + 1.0 - np.cos(TIMES)))


@pytest.mark.slow
def test_halving_the_step_divides_the_error_by_sixteen():
    errors = [np.max(np.abs(states(0.3, h)[:, 0] - exact(0.3))) for h in (0.25, 0.125, 0.0625)]
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all((ratios > 12.0) & (ratios < 22.0)), errors


def test_a_fast_state_follows_on_steps_far_longer_than_its_time():
    found = np.asarray(states(0.3, 0.125))
    # quasi-steady: fast = slow (1 + rate/300 + ...)
    rate = 0.3 * (1.0 + np.sin(TIMES[1:]))
    np.testing.assert_allclose(found[1:, 1], exact(0.3)[1:] * (1.0 + rate / 300.0), rtol=2e-4)


@pytest.mark.slow
def test_derivatives_in_both_modes_are_those_of_the_closed_form():
    expected = -(TIMES + 1.0 - np.cos(TIMES)) * exact(0.3)
    forward = jax.jacfwd(lambda k: states(k, 0.0625)[:, 0])(0.3)
    reverse = jax.jacrev(lambda k: states(k, 0.0625)[:, 0])(0.3)
    np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_driver_that_is_solved_exactly_moves_within_the_step():
    pk = compartment_model(1)
    follower = OdeSystem(
        "follower", ("site",), ("CL", "V", "ke0"), lambda t, y, u, p: (p["ke0"] * (u - y[0]),),
        pk=pk, pk_volume="V",
    )  # fmt: skip
    p = {"CL": 2.0, "V": 10.0, "ke0": 1.5}
    options = OdeOptions(solver="fixed-stiff", max_step_h=0.1, first_step_h=0.1)
    found = np.asarray(solve_events(follower, TABLE, p, options=options))[0, :, 1]
    expected = 10.0 * 1.5 / (1.5 - 0.2) * (np.exp(-0.2 * TIMES) - np.exp(-1.5 * TIMES))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.long
def test_stiff_equations_are_given_implicit_steps():
    many = EventTable.from_columns([1] * 3, [0.0, 200.0, 2000.0], evid=[1, 0, 0], amt=[100.0, 0, 0])
    stiff, note = choose_solver(SYSTEM, many, {"k": 0.001})
    assert stiff.solver == "fixed-stiff"
    assert stiff.growth == GROWTH  # the fast process has died out when steps are long
    assert "implicit" in note


def test_a_step_with_the_inverse_is_the_step_with_eliminations(monkeypatch):
    rates = jnp.array([[2.0, 0.5], [300.0, 40.0], [5e4, 1.0]])

    def slopes(stage, y):
        return rates * (jnp.roll(y, 1, 0) - y) - 0.1 * y * jnp.roll(y, 2, 0)

    def end(y):
        return rosenbrock.rosenbrock_step(slopes, jnp.full((3, 2), 0.1), y, jnp.array([0.5, 0.0]))

    y = jnp.array([[3.0, 1.0], [2.0, 5.0], [0.5, 2.0]])
    inverted = end(y), jax.jacfwd(end)(y)
    monkeypatch.setattr(rosenbrock, "FEW", 0)
    solved = end(y), jax.jacfwd(end)(y)
    for one, two in zip(inverted, solved, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(solved[0][:, 1], y[:, 1])  # a step of no length


@pytest.mark.parametrize("growth", [0.0, -0.2, float("nan")])
def test_steps_that_do_not_grow_are_refused(growth):
    with pytest.raises(Exception, match="growth"):
        OdeOptions(growth=growth)


@pytest.mark.parametrize("solver", ["implicit", "euler"])
def test_an_unknown_solver_is_refused(solver):
    with pytest.raises(Exception, match="fixed-stiff"):
        OdeOptions(solver=solver)
