"""Neutrophils with G-CSF: the published equations, the algebraic form, given G-CSF."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkpd.errors import PkpdError
from pkpd.marrow.friberg import Friberg, relaxation_rate
from pkpd.marrow.gcsf import GIVEN_INTO, GcsfMarrow, rise_by_dose

# Quartino 2014 as transcribed
P = {
    "baseline": jnp.array([3.53]),
    "set_point": jnp.array([3.53]),
    "MTT": jnp.array([133.0]),
    "gamma": jnp.array([0.444]),
    "beta": jnp.array([0.234]),
    "k_circ": jnp.array([np.log(2) / 7.0]),
    "ke": jnp.array([0.592]),
    "k_anc": jnp.array([5.64]),
    "g0": jnp.array([24.3e-6]),
}


def course(line, p, effect_of, days, give=None, rtol=1e-8):
    slope = jax.jit(lambda y, e: line.derivative(y[:, None], e, 0.0, p)[:, 0])
    y = np.array(line.initial(p))[:, 0]
    counts = []
    for day in range(days):
        counts.append(float(np.exp(line.log_count(jnp.array(y)[:, None], p)[0])))
        if give is not None:
            for drug, rise in give(day).items():
                y[line.states.index(GIVEN_INTO[drug])] += rise
        effect = jnp.array([effect_of(day)])

        def right(_, x, effect=effect):
            return np.asarray(slope(x, effect))

        method = "LSODA" if line.g_csf == "state" or rtol > 1e-6 else "DOP853"
        y = solve_ivp(right, (0.0, 24.0), y, method=method, rtol=rtol, atol=1e-2 * rtol).y[:, -1]
    return np.array(counts)


def chemotherapy(day):
    return 2.0 if day < 2 else 0.0


def test_derivative_is_the_published_one_in_counts():
    line = GcsfMarrow(g_csf="state")
    rng = np.random.default_rng(2)
    y = jnp.asarray(rng.uniform(0.3, 1.5, (10, 1))).at[6:9].set(0.0)
    effect = 0.3
    ktr, k_circ = 5.0 / 133.0, np.log(2) / 7.0
    steady = 3.53 * k_circ / ktr
    prol = steady * np.exp(float(y[0, 0]))
    t = steady * np.asarray(y[1:5, 0])
    circ, g = 3.53 * float(y[5, 0]), 24.3 * float(y[9, 0])
    by_gamma, by_beta = (g / 24.3) ** 0.444, (g / 24.3) ** 0.234
    k_in = (0.592 + 5.64 * 3.53) * 24.3
    published = [
        ktr * ((1 - effect) * by_gamma - by_beta),
        ktr * by_beta * (prol - t[0]) / steady,
        *(ktr * by_beta * (t[i - 1] - t[i]) / steady for i in (1, 2, 3)),
        (ktr * by_beta * t[3] - k_circ * circ) / 3.53,
        0.0,
        0.0,
        0.0,
        (k_in - (0.592 + 5.64 * circ) * g) / 24.3,
    ]
    got = line.derivative(y, jnp.array([effect]), 0.0, P)[:, 0]
    np.testing.assert_allclose(got, published, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("g_csf", ["algebraic", "state"])
def test_no_drug_is_a_stable_steady_state_for_a_year(g_csf):
    line = GcsfMarrow(g_csf=g_csf)
    slope = line.derivative(line.initial(P), jnp.zeros(1), 0.0, P)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    assert relaxation_rate(line, P)[0] < 0.0
    right = jax.jit(lambda y: line.derivative(y[:, None], jnp.zeros(1), 0.0, P)[:, 0])
    start = np.asarray(line.initial(P))[:, 0]
    end = solve_ivp(
        lambda _, y: np.asarray(right(y)), (0.0, 365 * 24.0), start, method="LSODA", rtol=1e-8
    ).y
    np.testing.assert_allclose(end[5], 1.0, rtol=1e-9)


def test_the_algebraic_form_is_the_published_one_within_a_percent():
    """G-CSF relaxes within hours even in aplasia; its lag shifts counts by less than 1 %."""
    algebraic = course(GcsfMarrow(), P, chemotherapy, 30)
    state = course(GcsfMarrow(g_csf="state"), P, chemotherapy, 30)
    assert state.min() < 0.5
    np.testing.assert_allclose(algebraic, state, rtol=0.01)


def test_without_speed_and_with_clearance_by_neutrophils_alone_it_is_fribergs_model():
    """``ke = 0`` makes ``G / G0 = set_point / Circ``."""
    p = {**P, "beta": jnp.zeros(1), "ke": jnp.array([1e-12])}
    got = course(GcsfMarrow(), p, chemotherapy, 30)
    expected_line = Friberg(transits=4, circulation="own")
    slope = jax.jit(lambda y, e: expected_line.derivative(y[:, None], e, 0.0, p)[:, 0])
    y = np.asarray(expected_line.initial(p))[:, 0]
    expected = []
    for day in range(30):
        expected.append(float(np.exp(expected_line.log_count(jnp.array(y)[:, None], p)[0])))
        effect = jnp.array([chemotherapy(day)])

        def right(_, x, effect=effect):
            return np.asarray(slope(x, effect))

        y = solve_ivp(right, (0.0, 24.0), y, method="DOP853", rtol=1e-8, atol=1e-10).y[:, -1]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_feedback_saturates_in_aplasia_unlike_fribergs():
    """Without neutrophils G-CSF rises to (ke + k_anc N0)/ke = 34.6 times normal, not more."""
    line = GcsfMarrow()
    y = line.initial(P).at[5].set(0.0)
    assert float(line._level(y, P)[0]) == pytest.approx((0.592 + 5.64 * 3.53) / 0.592, rel=1e-6)


def test_given_g_csf_shortens_neutropenia():
    rise = rise_by_dose(300.0)
    low = {}
    for name, give in (
        ("none", None),
        ("filgrastim", lambda day: {"filgrastim": rise if 3 <= day < 14 else 0.0}),
        ("pegfilgrastim", lambda day: {"pegfilgrastim": rise_by_dose(6000.0) if day == 3 else 0.0}),
    ):
        low[name] = (course(GcsfMarrow(), P, chemotherapy, 20, give, 1e-5) < 1.0).sum()
    assert low["filgrastim"] < low["none"]
    assert low["pegfilgrastim"] < low["none"]


def test_neutrophils_clear_pegfilgrastim():
    """Its elimination is faster at a normal count than in aplasia."""
    line = GcsfMarrow()
    y = line.initial(P).at[8].set(1e-3)
    normal = line.derivative(y, jnp.zeros(1), 0.0, P)[8, 0]
    aplasia = line.derivative(y.at[5].set(0.01), jnp.zeros(1), 0.0, P)[8, 0]
    assert normal < 5.0 * aplasia < 0.0


@pytest.mark.parametrize("options", [{"transits": 0}, {"g_csf": "x"}, {"feedback_rule": "x"}])
def test_refusals(options):
    with pytest.raises(PkpdError, match="marrow with G-CSF"):
        GcsfMarrow(**options)
