"""The general solver against closed forms, DOP853, and its behaviour when a lane fails."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import lambertw

from pkpd.errors import DataError, PkpdError
from pkpd.kinetics.linear import Disposition
from pkpd.solve.general import STATUS, michaelis_menten_iv, solve_ode
from pkpd.solve.grid.cells import cells

# Mould 2007 (Br J Clin Pharmacol 64:278), typical values
MOULD = {
    "Vmax": 1.02,
    "Km": 0.338,
    "V1": 11.3,
    "Q": 1.05,
    "V2": 41.5,
    "wbc_exponent": 0.194,
}


def test_one_compartment_saturable_elimination_is_the_lambert_function():
    """C = Km W(C0/Km exp((C0 - Vmax t/V)/Km)): the closed form of Michaelis-Menten decay."""
    p = {**MOULD, "Q": jnp.array([0.0])}
    edges = np.array([0.0, 5.0, 20.0, 60.0])
    out = michaelis_menten_iv(p, (np.array([0.0]), np.array([30.0]), np.array([0.0])), edges)
    c0, rate = 30.0 / 11.3, 1.02 / 11.3

    def c(t):
        argument = c0 / 0.338 * np.exp((c0 - rate * t) / 0.338)
        return 0.338 * lambertw(argument).real

    nodes, weights = np.polynomial.legendre.leggauss(40)
    for i, (left, right) in enumerate(itertools.pairwise(edges)):
        u = 0.5 * (nodes + 1)
        values = c(left + (right - left) * u)
        mean = np.sum(0.5 * weights * values)
        slope = 12 / (right - left) * np.sum(0.5 * weights * (u - 0.5) * values)
        # the controller works at 1e-9 per step
        np.testing.assert_allclose(out.mean[i, 0], mean, rtol=1e-7)
        np.testing.assert_allclose(out.slope[i, 0], slope, rtol=1e-5, atol=1e-9)
    assert out.status[0] == 0


@pytest.mark.slow
def test_alemtuzumab_course_with_a_falling_count_agrees_with_dop853():
    times, amounts = np.array([0.0, 24.0, 48.0]), np.array([3.0, 10.0, 30.0])
    durations = np.full(3, 2.0)
    edges = cells([*times, *(times + 2)], 96.0, 6.0)
    middle = 0.5 * (edges[:-1] + edges[1:])
    count = np.stack([40 * np.exp(-middle / 40), np.full(middle.size, 10.0)], axis=1)
    out = michaelis_menten_iv(MOULD, (times, amounts, durations), edges, jnp.asarray(count))
    for lane in range(2):
        y = np.zeros(4)
        for i, (left, right) in enumerate(itertools.pairwise(edges)):
            rate = sum(a / 2 for t, a in zip(times, amounts, strict=True) if t <= left < t + 2)
            vmax = 1.02 * (count[i, lane] / 10) ** 0.194

            def rhs(t, y, rate=rate, vmax=vmax, left=left):
                c = y[0] / 11.3
                flow = 1.05 * (c - y[1] / 41.5)
                return [rate - vmax * c / (0.338 + c) - flow, flow, c, (t - left) * c]

            y[2:] = 0.0
            y = solve_ivp(rhs, (left, right), y, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
            h = right - left
            np.testing.assert_allclose(out.mean[i, lane], y[2] / h, rtol=1e-7)
            slope = 12 / h**3 * (y[3] - h / 2 * y[2])
            np.testing.assert_allclose(
                out.slope[i, lane] * h / 2, slope * h / 2, rtol=0, atol=1e-7 * y[2] / h
            )
    assert np.all(out.status == 0)


@pytest.mark.slow
def test_low_concentrations_are_linear():
    """Far below Km the elimination is first order with clearance Vmax / Km."""
    times, amounts, durations = np.array([0.0]), np.array([1e-6]), np.array([2.0])
    edges = np.array([0.0, 2.0, 8.0])
    out = michaelis_menten_iv(MOULD, (times, amounts, durations), edges, 10.0, atol=1e-16, lanes=1)
    pk = Disposition(2)
    p = {"CL": 1.02 / 0.338, "V1": 11.3, "Q": 1.05, "V2": 41.5}
    x = pk.zero(1)
    for i, (h, rate) in enumerate(((2.0, 5e-7), (6.0, 0.0))):
        prop = pk.propagator(p, h, nodes=False)
        mean, _ = pk.moments(prop, x, rate)
        # C / Km is 2.6e-7, the size of what the linear form leaves out
        np.testing.assert_allclose(out.mean[i], mean, rtol=1e-6)
        x = pk.advance(prop, x, rate)


@pytest.mark.slow
@pytest.mark.parametrize("stiff", [False, True])
def test_decay_with_boluses_and_inputs(stiff):
    edges = np.array([0.0, 1.0, 3.0])
    k = jnp.array([0.5, 2.0])
    out = solve_ode(
        lambda t, y, u, p: u - p["k"] * y,
        jnp.ones((1, 2)),
        {"k": k},
        edges,
        additions=jnp.array([0.0, 1.0])[:, None, None],
        inputs=jnp.array([0.0, 3.0])[:, None, None],
        stiff=stiff,
    )
    first = np.exp(-k * 1.0)
    second = (first + 1) * np.exp(-k * 2.0) + 3 / k * (1 - np.exp(-k * 2.0))
    np.testing.assert_allclose(out.y[1, 0], first, rtol=1e-7)
    np.testing.assert_allclose(out.y[2, 0], second, rtol=1e-7)


def test_a_lane_that_fails_is_told_and_leaves_the_others_alone():
    """y' = y^2 leaves every bound at t = 1/y0; the other lane is smooth."""
    out = solve_ode(
        lambda t, y, u, p: p["a"] * y**2,
        jnp.ones((1, 2)),
        {"a": jnp.array([1.0, 0.1])},
        np.array([0.0, 0.5, 2.0, 3.0]),
        max_steps=200,
    )
    assert out.status[0] in (1, 2)
    assert out.status[1] == 0
    assert STATUS[int(out.status[0])]
    np.testing.assert_allclose(out.y[-1, 0, 1], 1 / (1 - 0.3), rtol=1e-7)
    np.testing.assert_allclose(out.y[1, 0, 0], 2.0, rtol=1e-7)
    assert np.all(np.isnan(out.y[2:, 0, 0]))


def test_bad_events_are_refused_in_a_sentence():
    with pytest.raises(DataError, match=r"dose 2: its start or end at 7 h is not an edge"):
        michaelis_menten_iv(
            MOULD,
            (np.array([0.0, 5.0]), np.ones(2), np.array([0.0, 2.0])),
            np.array([0.0, 5.0, 10.0]),
        )
    with pytest.raises(PkpdError, match=r"edges do not increase"):
        solve_ode(lambda t, y, u, p: y, jnp.ones((1, 1)), {}, np.array([0.0, 0.0]))
