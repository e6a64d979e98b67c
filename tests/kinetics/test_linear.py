"""Closed-form pharmacokinetics against SciPy's DOP853 at 1e-12 on equations written out here."""

from __future__ import annotations

import itertools
import re
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from pkpd.errors import PkpdError
from pkpd.kinetics.linear import (
    NODES,
    Disposition,
    LinearPK,
    TransitAbsorption,
    of_length,
)

# clofarabine-like: CL 37.7 L/h, V1 268 L, Q 33.2 L/h, V2 186 L; triphosphate half-life 24 h
CLO = {"CL": 37.7, "V1": 268.0, "Q": 33.2, "V2": 186.0}
SITE = {"k_in": 3.51, "k_out": np.log(2) / 24, "per_umol": 1000 / 303.68}
THREE = {"CL": 20.0, "V1": 8.0, "Q": 5.0, "V2": 11.0, "Q3": 7.0, "V3": 250.0}
# lenalidomide-like: seven transits at 13.5 /h, CL/F 12 L/h, V/F 68.8 L
LEN = {"CL": 12.0, "V1": 68.8, "KTR": 13.5}


def beta(p):
    """Slower rate of a two-compartment disposition, by the quadratic formula."""
    k10, k12, k21 = p["CL"] / p["V1"], p["Q"] / p["V1"], p["Q"] / p["V2"]
    s = k10 + k12 + k21
    return 2 * k10 * k21 / (s + np.sqrt(s * s - 4 * k10 * k21))


KE = LEN["CL"] / LEN["V1"]
CASES = {
    "iv 1": (Disposition(1), {"CL": 5.0, "V1": 30.0}),
    "iv 1, site at the elimination rate": (
        Disposition(1, effect_site=True),
        {"CL": 6.0, "V1": 30.0, **SITE, "k_out": 0.2},
    ),
    "iv 1, site next to the elimination rate": (
        Disposition(1, effect_site=True),
        {"CL": 6.0, "V1": 30.0, **SITE, "k_out": 0.2 * (1 + 1e-9)},
    ),
    "iv 2": (Disposition(2, unit="umol/L"), {**CLO, "per_umol": SITE["per_umol"]}),
    "iv 2, site": (Disposition(2, effect_site=True), {**CLO, **SITE}),
    "iv 2, site at the terminal slope": (
        Disposition(2, effect_site=True),
        {**CLO, **SITE, "k_out": beta(CLO)},
    ),
    "iv 2, no exchange": (Disposition(2), {**CLO, "Q": 1e-9}),
    "iv 3, site": (Disposition(3, effect_site=True), {**THREE, **SITE}),
    "first order": (TransitAbsorption(0), {"CL": 5.0, "V1": 30.0, "ka": 1.3}),
    "first order at the elimination rate": (
        TransitAbsorption(0),
        {"CL": 6.0, "V1": 30.0, "ka": 0.2},
    ),
    "first order next to the elimination rate": (
        TransitAbsorption(0),
        {"CL": 6.0, "V1": 30.0, "ka": 0.2 * (1 + 1e-7)},
    ),
    "first order, flip-flop": (TransitAbsorption(0), {"CL": 6.0, "V1": 30.0, "ka": 0.01}),
    "7 transits": (TransitAbsorption(7), LEN),
    "7 transits at the elimination rate": (TransitAbsorption(7), {**LEN, "KTR": KE}),
    "7 transits, slower than elimination": (TransitAbsorption(7), {**LEN, "KTR": 0.3 * KE}),
    "3 transits": (TransitAbsorption(3), {**LEN, "KTR": 4.9}),
    "2 transits, 2, site": (
        TransitAbsorption(2, 2, effect_site=True),
        {**CLO, **SITE, "KTR": 6.0},
    ),
}
LENGTHS = (0.01, 1.0, 6.0, 24.0)


@lru_cache
def propagator_of(pk: LinearPK, nodes: bool = True):
    """One compilation for all cases of a structure."""
    return jax.jit(partial(pk.propagator, nodes=nodes))


def equations(pk: LinearPK, p: dict):
    """Right-hand side in amounts, written out; also the driver as a function of the state."""
    m = pk.n_absorption

    def driver(x):
        if pk.effect_site:
            return x[pk.n_states - 1]
        return x[m] / p["V1"] * (p["per_umol"] if pk.unit == "umol/L" else 1.0)

    def rhs(t, y, rate):
        x = y[: pk.n_states]
        d = np.zeros_like(y)
        d[0] += rate
        for i in range(m):
            flux = (p["KTR"] if pk.absorption else p["ka"]) * x[i]
            d[i] -= flux
            d[i + 1] += flux
        c = x[m] / p["V1"]
        d[m] -= p["CL"] * c
        for i, (q, v) in enumerate((("Q", "V2"), ("Q3", "V3"))[: pk.compartments - 1], start=1):
            flux = p[q] * (c - x[m + i] / p[v])
            d[m] -= flux
            d[m + i] += flux
        if pk.effect_site:
            d[pk.n_states - 1] += p["k_in"] * c * p["per_umol"] - p["k_out"] * x[-1]
        f = driver(x)
        d[pk.n_states] = f
        d[pk.n_states + 1] = t * f
        return d

    return rhs, driver


def reference(pk, p, x, rate, h):
    """State at the end, driver at the nodes, mean and first moment, by restarted DOP853."""
    rhs, driver = equations(pk, p)
    y = np.concatenate([x, [0.0, 0.0]])
    at, stops = [], np.concatenate([[0.0], NODES * h, [h]])
    for left, right in itertools.pairwise(stops):
        solution = solve_ivp(
            rhs, (left, right), y, method="DOP853", rtol=1e-12, atol=1e-15, args=(rate,)
        )
        assert solution.success
        y = solution.y[:, -1]
        at.append(driver(y[: pk.n_states]))
    area, first = y[-2], y[-1]
    return y[:-2], np.array(at[:-1]), area / h, 12 / h**3 * (first - h / 2 * area)


@lru_cache
def cell_of(pk: LinearPK):
    """Everything about one cell for a column of lengths, in one compilation per structure."""

    def cell(p, h, x, rate):
        prop = pk.propagator(p, h)
        lanes = [of_length(prop, i) for i in range(h.shape[0])]
        end = [pk.advance(q, x, rate)[:, 0] for q in lanes]
        nodes = [pk.at_nodes(q, x, rate)[:, 0] for q in lanes]
        moments = [jnp.stack(pk.moments(q, x, rate))[:, 0] for q in lanes]
        return end, nodes, moments, pk.value(p, x)[0]

    return jax.jit(cell)


@pytest.mark.parametrize("name", CASES)
def test_closed_form_agrees_with_an_independent_solver(name):
    pk, p = CASES[name]
    rng = np.random.default_rng(7)
    x = rng.uniform(0.5, 1.5, pk.n_states)
    rate = 3.0
    got = cell_of(pk)(p, jnp.array(LENGTHS)[:, None], jnp.asarray(x)[:, None], rate)
    np.testing.assert_allclose(got[3], equations(pk, p)[1](x), rtol=1e-14)
    for h, got_end, got_nodes, (got_mean, got_slope) in zip(LENGTHS, *got[:3], strict=True):
        end, nodes, mean, slope = reference(pk, p, x, rate, h)
        scale = np.abs(nodes).max()
        # 1e-9 relative; the floor is for compartments that have emptied below the solver's atol
        np.testing.assert_allclose(got_end, end, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(got_nodes, nodes, rtol=1e-9)
        np.testing.assert_allclose(got_mean, mean, rtol=1e-9)
        # the marrow step uses mean +- slope h/2, so that is what must be right
        np.testing.assert_allclose(got_slope * h / 2, slope * h / 2, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("ktr_h", [120.0, 600.0, 3000.0, 12000.0])
def test_seven_transits_far_past_absorption(ktr_h):
    """After absorption the concentration is D/V r^8 exp(-ke t), r = k / (k - ke): textbook."""
    h = 24.0
    p = {name: jnp.array([v]) for name, v in {**LEN, "KTR": ktr_h / h}.items()}
    pk = TransitAbsorption(7)
    prop = propagator_of(pk, nodes=False)(p, jnp.array([h]))
    x = pk.advance(prop, pk.dose(pk.zero(1), 25.0))
    r = ktr_h / h / (ktr_h / h - KE)
    expected = 25.0 / LEN["V1"] * r**8 * np.exp(-KE * h)
    np.testing.assert_allclose(pk.value(p, x)[0], expected, rtol=1e-9)


def test_first_order_absorption_at_the_elimination_rate_is_the_gamma_curve():
    """ka = ke = k: C = D/V k t exp(-k t), the limit of the textbook formula 0/0."""
    p = {"CL": 6.0, "V1": 30.0, "ka": 0.2}
    pk = TransitAbsorption(0)
    t = 5.0
    x = pk.advance(propagator_of(pk)(p, jnp.array([t, t])), pk.dose(pk.zero(2), 10.0))
    np.testing.assert_allclose(pk.value(p, x), 10 / 30 * 0.2 * t * np.exp(-0.2 * t), rtol=1e-13)


def test_gradient_is_smooth_through_coincident_rates():
    """Derivative in ka at ka = ke against the derivative of the gamma curve's neighbourhood."""
    pk = TransitAbsorption(0)

    def c(ka):
        p = {"CL": 6.0, "V1": 30.0, "ka": ka}
        return pk.value(p, pk.advance(pk.propagator(p, 5.0), pk.dose(pk.zero(1), 10.0)))[0]

    # C = D/V ka (e^-ke t - e^-ka t)/(ka - ke); its derivative in ka at ka = ke = k is
    # D/V e^-kt (t - k t^2 / 2)
    expected = 10 / 30 * np.exp(-1.0) * (5 - 0.2 * 25 / 2)
    np.testing.assert_allclose(jax.jit(jax.grad(c))(0.2), expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["iv 2, site", "first order"])
def test_gradients_agree_with_finite_differences(name):
    pk, p = CASES[name]
    x0 = pk.dose(pk.zero(1), 10.0)

    def total(q, h):
        prop = pk.propagator(q, h)
        mean, slope = pk.moments(prop, x0, 2.0)
        return (pk.value(q, pk.advance(prop, x0, 2.0)) + mean + slope + pk.at_nodes(prop, x0)[1])[0]

    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))

    def f(q, h):
        return both(q, h)[0]

    gradient, in_h = both(p, 3.0)[1]
    for key, value in p.items():
        step = 1e-5 * value
        up, down = f({**p, key: value + step}, 3.0), f({**p, key: value - step}, 3.0)
        # central differences: truncation 1e-10 relative, rounding 1e-11 / 1e-5
        np.testing.assert_allclose(gradient[key] * value, (up - down) / 2e-5, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(in_h, (f(p, 3.0 + 1e-5) - f(p, 3.0 - 1e-5)) / 2e-5, rtol=1e-6)


def test_cell_of_no_length_changes_nothing():
    pk, p = CASES["first order"]
    prop = propagator_of(pk)(p, jnp.array([0.0, 2.0]))
    x = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (pk.n_states, 2)))
    np.testing.assert_allclose(pk.advance(prop, x, 5.0)[:, 0], x[:, 0], rtol=1e-15)
    mean, slope = pk.moments(prop, x, 5.0)
    assert mean[0] == pytest.approx(float(pk.value(p, x)[0]), rel=1e-14)
    assert slope[0] == 0.0
    assert np.all(np.isfinite(mean))
    assert np.all(np.isfinite(slope))
    area = jax.jit(jax.grad(lambda h: jnp.sum(pk.moments(pk.propagator(p, h), x)[0])))
    gradient = area(jnp.zeros(2))
    assert np.all(np.isfinite(gradient))


def test_lane_lengths_and_length_columns_agree_with_single_cells():
    pk, p = CASES["iv 1"]
    h = np.array([0.3, 6.0, 11.0])
    propagator = propagator_of(pk)
    by_lane = propagator(p, jnp.asarray(h))
    column = propagator(p, jnp.asarray(h)[:, None])
    for i, length in enumerate(h):
        single = propagator(p, jnp.full(1, length))
        for a, b, c in zip(by_lane, of_length(column, i), single, strict=True):
            np.testing.assert_allclose(a[..., i], c[..., 0], rtol=1e-13)
            np.testing.assert_allclose(b, c, rtol=1e-13)


rates = st.floats(0.01, 30.0)
volumes = st.floats(1.0, 500.0)


@pytest.fixture(scope="module")
def hughes():
    pk = TransitAbsorption(7)
    return pk, propagator_of(pk, nodes=False)


@settings(max_examples=60, deadline=None)
@given(rates, rates, volumes, st.floats(0.05, 12.0), st.floats(0.05, 12.0))
def test_two_cells_are_one(hughes, ktr, cl, v, h1, h2):
    """Composition of cells, for states and for the integral of the driver."""
    pk, propagator = hughes
    p = {"KTR": jnp.array([ktr]), "CL": jnp.array([cl]), "V1": jnp.array([v])}
    x0 = pk.dose(pk.zero(1), 50.0)
    first, second, both = (propagator(p, jnp.array([h])) for h in (h1, h2, h1 + h2))
    x1 = pk.advance(first, x0, 1.0)
    np.testing.assert_allclose(pk.advance(second, x1, 1.0), pk.advance(both, x0, 1.0), rtol=1e-10)
    area = pk.moments(first, x0, 1.0)[0] * h1 + pk.moments(second, x1, 1.0)[0] * h2
    np.testing.assert_allclose(area, pk.moments(both, x0, 1.0)[0] * (h1 + h2), rtol=1e-10)


@settings(max_examples=60, deadline=None)
@given(rates, rates, volumes, st.floats(0.05, 24.0))
def test_mass_balance(hughes, ktr, cl, v, h):
    """What was given is in the body or was cleared: dose = amounts + CL * integral of C."""
    pk, propagator = hughes
    p = {"KTR": jnp.array([ktr]), "CL": jnp.array([cl]), "V1": jnp.array([v])}
    prop = propagator(p, jnp.array([h]))
    x0 = pk.dose(pk.zero(1), 50.0)
    inside = jnp.sum(pk.advance(prop, x0, 2.0))
    cleared = cl * pk.moments(prop, x0, 2.0)[0][0] * h
    np.testing.assert_allclose(inside + cleared, 50.0 + 2.0 * h, rtol=1e-11)


@pytest.mark.parametrize("k_out", [1e4, 1e5, 1e6])
def test_a_site_that_follows_at_once_is_the_plasma(k_out):
    """In a cell of four hours."""
    p = {"CL": 6.0, "V1": 30.0, "k_in": k_out, "k_out": k_out, "per_umol": 3.0}
    pk = Disposition(1, effect_site=True)
    p = {name: jnp.array([value]) for name, value in p.items()}
    prop = propagator_of(pk)(p, jnp.array([4.0]))
    x = pk.dose(pk.zero(1), 50.0)
    np.testing.assert_allclose(pk.advance(prop, x)[0], 50.0 * np.exp(-0.8), rtol=1e-6)
    plasma = 150.0 / 30.0 * np.exp(-0.8 * NODES)
    np.testing.assert_allclose(pk.at_nodes(prop, x)[:, 0], plasma, rtol=1e-4)


def test_doublings_of_fast_rates_are_made_only_for_them():
    """Each has its share of a reverse pass, 24 a third more than the 16 of usual rates."""
    pk = Disposition(1, effect_site=True)

    def left(clearance, k_out):
        p = {"CL": clearance, "V1": 30.0, "k_in": k_out, "k_out": k_out, "per_umol": 3.0}
        x = pk.dose(pk.zero(1), 50.0)
        return pk.advance(pk.propagator(p, 4.0, nodes=False), x)[0, 0]

    slope = jax.jit(jax.grad(left))
    for k_out in (1.0, 1e6):
        expected = -4.0 / 30.0 * 50.0 * np.exp(-0.8)
        np.testing.assert_allclose(slope(6.0, k_out), expected, rtol=1e-5)
    turns = re.findall(r"length=(\d+)", str(jax.make_jaxpr(jax.grad(left))(6.0, 1.0)))
    assert {"8", "16"} <= set(turns)
    assert "24" not in turns


def test_a_rate_beyond_what_the_series_reaches_gives_no_amount():
    """All of the drug was lost at 20 million an hour."""
    p = {"CL": 6.0, "V1": 30.0, "k_in": 2e7, "k_out": 2e7, "per_umol": 3.0}
    pk = Disposition(1, effect_site=True)
    p = {name: jnp.array([value]) for name, value in p.items()}
    prop = propagator_of(pk)(p, jnp.array([4.0]))
    assert np.isnan(pk.advance(prop, pk.dose(pk.zero(1), 50.0))[0]).all()


def test_half_lives():
    def half_lives(pk, p):
        return jax.jit(pk.half_lives)(p)

    one = half_lives(Disposition(1), {"CL": jnp.array([5.0, 10.0]), "V1": jnp.array([30.0, 30.0])})
    np.testing.assert_allclose(one, [np.log(2) * np.array([6.0, 3.0])], rtol=1e-14)
    two = half_lives(Disposition(2), CLO)
    np.testing.assert_allclose(two[0], np.log(2) / beta(CLO), rtol=1e-13)
    eigenvalues = np.linalg.eigvals(np.asarray(jax.jit(Disposition(3).rate_matrix)(THREE)))
    expected = np.sort(np.log(2) / -eigenvalues.real)[::-1]
    np.testing.assert_allclose(half_lives(Disposition(3), THREE), expected, rtol=1e-12)


def test_parameters_named_are_those_read():
    for name, (pk, p) in CASES.items():
        assert set(pk.parameters) == set(p), name


def test_bad_structures_are_refused_in_a_sentence():
    with pytest.raises(PkpdError, match=r"compartments = 4.*allowed: 1, 2, 3"):
        Disposition(4)
    with pytest.raises(PkpdError, match=r"driver unit 'ng/mL'.*allowed: mg/L, umol/L"):
        Disposition(1, unit="ng/mL")
    with pytest.raises(PkpdError, match=r"-1 transit"):
        TransitAbsorption(-1)
    pk, p = CASES["iv 1"]
    with pytest.raises(PkpdError, match=r"nodes=True"):
        pk.at_nodes(pk.propagator(p, 1.0, nodes=False), pk.zero(1))
