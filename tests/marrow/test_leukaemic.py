"""The marrow with leukaemia: its step against its differential equations, and limits of both."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from leukaemic_cases import parameters
from marrow_reference import marrow_course as reference
from scipy.integrate import simpson
from scipy.linalg import expm

from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.pools import fed, logistic, passed, riccati, staged
from pkpd.marrow.protocol import Marrow
from pkpd.marrow.variants import VARIANTS

DAYS = 30


def under_treatment(marrow, p):
    """A course of chemotherapy with late injury, then a block of the chains with filgrastim."""

    def inputs(day):
        u = marrow.rest()
        if day < 7:
            kill = p["kill_stem"] / 7.0
            u |= {
                "loss_early": kill,
                "loss_early_platelet": 1.2 * kill,
                "loss_committed": 8.0 * kill,
                "loss_committed_platelet": 12.0 * kill,
                "kill_blasts": p["kill_blasts"] / 7.0,
                "injury": 1.0 / 7.0,
            }
        elif day >= 14:
            u |= {"growth_factor": 1.0, "rest_neutrophil": 0.5, "rest_platelet": 0.6}
        return u

    return inputs


def course(marrow, p, steps):
    """Observed quantities each morning by ``steps`` steps a day."""
    inputs = under_treatment(marrow, p)
    values = {name: jnp.asarray(p[name]) for name in marrow.parameters}
    one = jax.jit(lambda y, u: marrow.step(y, values, u, 1.0 / steps))
    y, seen = marrow.start(values), []
    for day in range(DAYS):
        seen.append(marrow.observe(y, values))
        for _ in range(steps):
            y = one(y, inputs(day))
    return {k: np.array([np.asarray(m[k]) for m in seen]) for k in seen[0]}


def test_it_is_a_marrow():
    assert isinstance(LeukaemicMarrow(), Marrow)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "linear_lenalidomide_kept", "feedback_by_count"])
def test_steps_follow_the_equations_at_second_order(name):
    variant = VARIANTS[name]
    marrow = LeukaemicMarrow(variant)
    p = {k: v[2] for k, v in parameters(4, variant=variant).items()}
    exact = reference(marrow, p, under_treatment(marrow, p), DAYS)
    errors = []
    for steps in (6, 12):
        found = course(marrow, p, steps)
        errors.append(
            [np.abs(np.log(found[k] / exact[k])).max() for k in ("neutrophils", "platelets")]
        )
    # 4 h: a hundredth; half the step, a quarter of the error
    assert np.max(errors[0]) < 0.012
    ratio = np.array(errors[0]) / np.array(errors[1])
    assert (ratio > 3.3).all()
    assert (ratio < 5.0).all()


def test_recovery_days_err_by_less_than_a_twentieth_of_a_day():
    marrow = LeukaemicMarrow()
    p = parameters(64)
    coarse, fine = course(marrow, p, 6), course(marrow, p, 48)
    for line, threshold in (("neutrophils", 0.5), ("platelets", 20.0)):
        shift = np.abs(crossing(coarse[line], threshold) - crossing(fine[line], threshold))
        assert np.isfinite(shift).sum() >= 15
        assert np.nanquantile(shift, 0.99) < 0.05


def crossing(counts, threshold):
    """Day of the last upward crossing, by straight lines of the log count; NaN without one."""
    above = np.log(counts / threshold)
    out = np.full(counts.shape[1], np.nan)
    for lane in range(counts.shape[1]):
        up = np.flatnonzero((above[:-1, lane] < 0) & (above[1:, lane] >= 0))
        if up.size:
            a, b = above[up[-1], lane], above[up[-1] + 1, lane]
            out[lane] = up[-1] - a / (b - a)
    return out


def test_early_cells_without_their_growth_only_die():
    marrow = LeukaemicMarrow()
    p = {k: jnp.asarray(v) for k, v in parameters(8).items()}
    p |= {"reserve": jnp.zeros(8), "injury_loss": jnp.zeros(8)}
    y, held = marrow.start(p), {**marrow.rest(), "rest_early": 0.0, "loss_early": 0.3}
    after = marrow.step(y, p, held, 2.0)
    np.testing.assert_allclose(after["stem"], y["stem"] * np.exp(-0.6), rtol=1e-9)
    # the other early pool has no loss and stands still
    np.testing.assert_allclose(after["stem_platelet"], y["stem_platelet"], rtol=1e-9)
    # half the growth is the growth of a marrow with half the rate
    slower = marrow.step(y, p | {"rho": 0.5 * p["rho"]}, marrow.rest(), 2.0)
    half = marrow.step(y, p, {**marrow.rest(), "rest_early": 0.5}, 2.0)
    np.testing.assert_allclose(half["stem"], slower["stem"], rtol=1e-12)


def test_blasts_grow_and_die_exactly():
    pool, rate, h = 0.3, 0.08, 5.0
    after, mean = logistic(pool, rate - 0.5, rate, h)
    # dy = b y - c y^2 has y = b y0 e / (b + c y0 (e - 1)), and its integral log(1 + ...) / c
    b = rate - 0.5
    e = np.exp(b * h)
    assert float(after) == pytest.approx(b * pool * e / (b + rate * pool * (e - 1.0)), rel=1e-12)
    exact_mean = np.log1p(rate * pool * (e - 1.0) / b) / (rate * h)
    assert float(mean) == pytest.approx(exact_mean, rel=1e-12)
    # without crowding: an exponential and its mean
    after, mean = logistic(pool, -0.7, 0.0, 2.0)
    assert float(after) == pytest.approx(pool * np.exp(-1.4), rel=1e-12)
    assert float(mean) == pytest.approx(pool * (1 - np.exp(-1.4)) / 1.4, rel=1e-12)


def test_an_early_pool_with_inflow_follows_its_riccati_equation():
    a, b, c, h = 0.01, -0.3, 0.25, 3.0
    d = np.sqrt(b * b + 4 * a * c)
    upper, lower = (b + d) / (2 * c), (b - d) / (2 * c)
    pool = 0.8
    # (y - upper) / (y - lower) decays at d
    ratio = (pool - upper) / (pool - lower) * np.exp(-d * h)
    exact = (upper - lower * ratio) / (1 - ratio)
    after, mean = riccati(pool, a, b, c, h)
    assert float(after) == pytest.approx(exact, rel=1e-12)
    t = np.linspace(0.0, h, 2001)
    ratio = (pool - upper) / (pool - lower) * np.exp(-d * t)
    assert float(mean) == pytest.approx(
        simpson((upper - lower * ratio) / (1 - ratio), x=t) / h, rel=1e-10
    )
    for found, known in zip(riccati(pool, 0.0, b, c, h), logistic(pool, b, c, h), strict=True):
        assert float(found) == pytest.approx(float(known), rel=1e-12)


def test_pools_keep_the_balance_of_mass():
    after, mean = fed(2.0, 0.7, 0.4)
    assert float(after - 2.0) == pytest.approx(float(0.7 - 0.4 * mean), rel=1e-12)
    after, mean = passed(2.0, 1.1, 0.4, np.exp(-0.4))
    assert float(after - 2.0) == pytest.approx(0.4 * (1.1 - float(mean)), rel=1e-12)
    # a cell without length changes nothing and has derivatives
    assert float(fed(2.0, 0.0, 0.0)[0]) == 2.0
    assert float(jax.grad(lambda x: passed(2.0, 1.1, x, jnp.exp(-x))[1])(0.0)) == pytest.approx(
        0.5 * (1.1 - 2.0), abs=1e-12
    )


def test_no_pool_turns_negative_whatever_the_kill():
    marrow = LeukaemicMarrow()
    p = {k: jnp.asarray(v) for k, v in parameters(8).items() if k in marrow.parameters}
    u = marrow.rest() | {name: 400.0 for name in marrow.inputs if name.startswith("loss")}
    u |= {"kill_blasts": 400.0, "rest_neutrophil": 0.0, "rest_platelet": 0.0}
    y = marrow.start(p)
    for _ in range(6):
        y = marrow.step(y, p, u, 0.5)
    for name in marrow.states:
        assert np.isfinite(y[name]).all()
        assert (np.asarray(y[name]) >= 0.0).all()


@pytest.mark.parametrize("name", ["full", "feedback_by_count"])
def test_chains_and_counts_are_in_balance_at_the_start(name):
    """Before any drug only the early pools, blasts and hazard move."""
    variant = VARIANTS[name]
    marrow = LeukaemicMarrow(variant)
    p = {k: jnp.asarray(v) for k, v in parameters(16, variant=variant).items()}
    start = marrow.start(p)
    slopes = marrow.derivative(start, p, marrow.rest())
    for state in marrow.states:
        if state not in ("stem", "stem_platelet", "blasts", "hazard"):
            assert np.abs(np.asarray(slopes[state])).max() < 1e-10, state
    assert np.abs(np.asarray(slopes["blasts"])).max() > 1e-4


def test_the_balance_at_the_start_has_the_derivative_of_the_balance():
    marrow = LeukaemicMarrow()
    p = {k: float(v[1]) for k, v in parameters(2).items() if k in marrow.parameters}

    def platelets(capacity):
        return marrow.start(p | {"platelet_fixed_loss": capacity})["platelets"]

    here, step = p["platelet_fixed_loss"], 1e-4
    slope = float(jax.grad(platelets)(jnp.asarray(here)))
    difference = (platelets(here + step) - platelets(here - step)) / (2 * step)
    assert slope == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.slow
def test_mechanisms_that_are_left_out_change_nothing_where_they_are_idle():
    full, lean = LeukaemicMarrow(), LeukaemicMarrow(injury=False, pegfilgrastim=False, care=False)
    p = {k: jnp.asarray(v) for k, v in parameters(8).items() if k in full.parameters}
    a, b = full.start(p), lean.start(p)
    u = full.rest() | {"loss_early": 1.0, "kill_blasts": 0.4}
    for _ in range(30):
        a, b = full.step(a, p, u, 0.25), lean.step(b, p, u, 0.25)
    assert set(b) == set(lean.states)
    for name in lean.states:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-13)


@pytest.mark.parametrize("x", [1e-6, 0.03, 0.3, 1.5, 3.0])
def test_a_chain_of_stages_is_the_solution_of_its_equations(x):
    """Against the exponential of the matrix of ten stages under constant inflow."""
    n, before = 10, 0.7
    pools = np.random.default_rng(1).uniform(0.0, 1.0, n)
    pools[4:7] = 0.0
    after, mean = staged([jnp.asarray(v) for v in pools], before, jnp.asarray(x))
    # of the pools, the inflow (1) and the integral of the last pool
    matrix = np.zeros((n + 2, n + 2))
    matrix[:n, :n] = np.diag(np.full(n, -x)) + np.diag(np.full(n - 1, x), -1)
    matrix[0, n] = x * before
    matrix[n + 1, n - 1] = 1.0
    expected = expm(matrix) @ np.concatenate([pools, [1.0, 0.0]])
    np.testing.assert_allclose(np.array(after), expected[:n], rtol=1e-12, atol=1e-15)
    assert float(mean) == pytest.approx(expected[n + 1], rel=1e-11)
