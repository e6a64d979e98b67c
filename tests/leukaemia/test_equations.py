"""Limit cases of the joint equations, and Friberg's model as one of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from leukaemia_cases import M2, SEVEN_THREE, arm, one, run
from marrow_reference import marrow_course
from reference import reference_course
from scipy.integrate import solve_ivp

from pkpd.leukaemia.parameters import leukaemia_cards, with_changes
from pkpd.leukaemia.patients import who
from pkpd.leukaemia.simulate import prepare_arm, simulate
from pkpd.marrow.friberg import Friberg
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.variants import FULL, VARIANTS, Variant


def healthy(horizon, *doses, n=32, theta, **changes):
    """Course of patients without leukaemia whose marrow is in balance."""
    none = {"blasts_start": np.zeros(n)} | {k: np.full(n, v) for k, v in changes.items()}
    return run(arm(*doses, disease="solid", horizon=horizon), theta, n, changes=none)


@pytest.mark.parametrize(
    "name",
    ["full", "study", "feedback_by_count", "constant_platelet_loss", "ten_stages_driven"],
)
def test_no_drug_and_no_blasts_is_a_steady_state(name):
    variant = VARIANTS[name]
    theta = leukaemia_cards(name).theta
    _, p = run(arm(disease="lymphoma", horizon=1), theta, 16, variant)
    p["blasts_start"] = np.zeros(16)
    marrow = LeukaemicMarrow(variant)
    p = {k: jnp.asarray(p[k]) for k in marrow.parameters}
    slope = marrow.derivative(marrow.start(p), p, marrow.rest())
    # all but the hazard, which accumulates; the balance is solved to 1e-12
    quiet = [np.abs(np.asarray(v)).max() for k, v in slope.items() if k != "hazard"]
    assert max(quiet) < 1e-11


def test_a_healthy_marrow_stays_for_a_year(theta):
    courses, _ = healthy(365, theta=theta)
    for counts in (courses.neutrophils, courses.platelets, courses.wbc):
        drift = np.abs(np.log(counts / counts[:, :1]))
        assert drift.max() < 1e-8  # steps keep a balance; what remains is rounding
    assert (courses.marrow_blasts == 0.0).all()


@pytest.mark.parametrize(("stages", "driven"), [(1, False), (3, False), (10, False), (10, True)])
def test_counts_rise_as_the_early_pool_behind_the_delay_of_the_stages(theta, stages, driven):
    """Closed form: behind a pool that grows by r a day, n + 1 stages of rate k and a blood of rate
    kc hold it times (k / (k + r))^(n + 1) kc / (kc + r), where feedback is off."""
    regrowth = "growth_factor" if driven else "own"
    variant = Variant(transit_stages=stages, regrowth=regrowth, block=False)
    marrow = LeukaemicMarrow(variant, injury=False, pegfilgrastim=False, care=False)
    _, p = run(arm(disease="solid", horizon=1), {**theta, "rho_growth": 0.2}, 1, variant)
    empty = {"gamma": 0.0, "beta": 0.0, "reserve": 0.0, "blasts_start": 0.0, "capacity": 1.0}
    p = {**one(p, 0), **empty}
    y = {**marrow.start(p), "stem": 1e-9, **dict.fromkeys(marrow.states[2 : stages + 4], 0.0)}
    step = jax.jit(lambda y: marrow.step(y, p, marrow.rest(), 1.0 / 24.0))
    counts, pools = [], []
    for hour in range(24 * 30):
        y = step(y)
        if hour % 24 == 23:
            counts.append(float(y["neutrophils"]))
            pools.append(float(y["stem"]))
    g = p["clearance_ratio"] * p["neutrophils_normal"]
    rho = p["rho"] * ((1.0 + g) ** p["rho_growth"] if driven else 1.0)
    assert np.log(pools[-1] / pools[-6]) / 5.0 == pytest.approx(rho, rel=1e-3)
    k, kc = p["k_neutrophil"], p["k_circulation"]
    share = (k / (k + rho)) ** (stages + 1) * kc / (kc + rho)
    assert counts[-1] / pools[-1] == pytest.approx(share, rel=5e-3)


def test_the_friberg_variant_is_fribergs_model(theta):
    """With a self-renewing pool and feedback by the count, against the package's own Friberg."""
    _, p = run(arm(disease="solid", horizon=1), theta, 4, VARIANTS["friberg"])
    p["blasts_start"] = np.zeros(4)
    p["stem_start"] = np.ones(4)
    p["beta"] = np.zeros(4)
    lane = one(p, 0)
    days = 40
    marrow = LeukaemicMarrow(VARIANTS["friberg"], injury=False, pegfilgrastim=False)
    kills = np.zeros(days)
    kills[1:4] = 0.02 * lane["committed_neutrophil"] * lane["kill_stem"]  # of committed cells alone
    counts = marrow_course(
        marrow, lane, lambda day: marrow.rest() | {"loss_committed": kills[day]}, days
    )["neutrophils"]

    line = Friberg(transits=3, circulation="own")
    q = {
        "baseline": jnp.array([lane["neutrophils_normal"]]),
        "set_point": jnp.array([lane["neutrophils_normal"]]),
        "MTT": jnp.array([4.0 / lane["k_neutrophil"]]),
        "gamma": jnp.array([lane["gamma"]]),
        "k_circ": jnp.array([lane["k_circulation"]]),
    }
    y = np.asarray(line.initial(q))[:, 0]
    expected = []
    derivative_of_friberg = jax.jit(
        lambda x, kill: line.derivative(x[:, None], jnp.zeros(1), kill, q)[:, 0]
    )
    for day in range(days):
        expected.append(float(np.exp(line.log_count(jnp.array(y)[:, None], q)[0])))

        def slope(_, x, kill=kills[day]):
            return np.asarray(derivative_of_friberg(x, kill))

        y = solve_ivp(slope, (0.0, 1.0), y, method="DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    assert min(expected) < 0.3 * expected[0]
    np.testing.assert_allclose(counts, expected, rtol=1e-6)  # tolerances of both solutions


def test_an_early_pool_without_memory_recovers_as_fast_as_friberg(theta):
    """Recovery within the chain's own time; with memory it takes about two weeks more."""
    plan = arm(*SEVEN_THREE, disease="solid")
    fast = VARIANTS["no_stem_memory"]
    days = {}
    for name, variant in (("fast", fast), ("slow", FULL), ("friberg", VARIANTS["friberg"])):
        courses, _ = run(plan, theta, 64, variant)
        low = courses.neutrophils < 1.0
        last = np.where(low.any(axis=1), courses.days - low[:, ::-1].argmax(axis=1), 0)
        days[name] = np.median(last)
    assert days["fast"] < 14.0
    assert days["slow"] > days["fast"] + 8.0
    # Friberg's committed pool is killed to nothing and grows back without a source
    assert days["friberg"] > days["slow"]


def test_total_kill_of_dividing_cells_is_aplasia_then_recovery_from_the_reserve_alone(theta):
    # e^-400 of early and committed cells is left
    deadly = with_changes({**theta, "ln_kill": 400.0, "ln_kill.sd": 0.0})
    dose = ("daunorubicin", 180, M2, "1")
    courses, _ = healthy(300, dose, n=16, theta=deadly, reserve=1e-7)
    assert (courses.neutrophils.min(axis=1) < 0.05).all()  # aplasia
    assert (courses.platelets.min(axis=1) < 5.0).all()
    np.testing.assert_allclose(courses.neutrophils[:, -1], courses.neutrophils[:, 0], rtol=0.05)
    nothing, _ = healthy(200, dose, n=16, theta=deadly, reserve=0.0)
    assert (nothing.neutrophils[:, -1] < 1e-6).all()  # no reserve: it stays empty


def test_blasts_grow_logistically_and_crowd_out(theta):
    courses, p = run(arm(horizon=120), theta, 8)
    assert (np.diff(courses.marrow_blasts, axis=1) > -1.0).all()
    start, growth = p["blasts_start"], p["growth"]
    t = 119.0
    share = start * np.exp(growth * t) / (1.0 + start * (np.exp(growth * t) - 1.0))
    leukaemic = p["blood_per_blast"] * share**2 * (1.0 - p["leukaemic_neutrophils"])
    np.testing.assert_allclose(courses.blood_blasts[:, -1], leukaemic, rtol=1e-9)  # exact steps


@pytest.mark.parametrize(
    ("effect", "rule"),
    [
        ("emax", "capped"),
        pytest.param("linear", "kept", marks=pytest.mark.slow),
        pytest.param("linear", "capped", marks=pytest.mark.slow),
        pytest.param("linear", "off", marks=pytest.mark.slow),
    ],
)
def test_rules_for_an_effect_above_one_agree_with_the_reference(theta, effect, rule):
    variant = Variant(effect=effect, effect_above_one=rule)
    plan = arm(("lenalidomide", 25, "mg", "1-21", "oral"), disease="myeloma", horizon=30)
    source = who(plan, 32, 1)
    courses, p = simulate(plan, theta, source, variant, steps_per_day=24)
    expected = reference_course(prepare_arm(plan, source.sample), theta, p, variant, 3, False)
    # an effect that passes 1 within a step is that of its mean: second order in the step
    np.testing.assert_allclose(courses.neutrophils[3], expected["neutrophils"], rtol=0.02)


def test_the_kept_rule_removes_more_than_off_and_capped(theta):
    lowest = {}
    for rule in ("capped", "off", "kept"):
        variant = Variant(effect="linear", effect_above_one=rule)
        plan = arm(("lenalidomide", 50, "mg", "1-21", "oral"), disease="myeloma", horizon=30)
        lowest[rule] = run(plan, theta, 32, variant)[0].neutrophils.min(axis=1)
    assert (lowest["off"] <= lowest["capped"] + 1e-12).all()
    assert (lowest["kept"] <= lowest["off"] + 1e-12).all()
    assert (lowest["kept"] < 0.9 * lowest["capped"]).any()
