"""Limit cases of the joint equations, and Friberg's model as one of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from leukaemia_cases import SEVEN_THREE, arm, one, patients
from scipy.integrate import solve_ivp

from pkpd.leukaemia.drug_effects import calendar
from pkpd.leukaemia.equations import (
    PARAMETERS,
    STATES,
    Calendar,
    derivative,
    initial_state,
    reference_course,
)
from pkpd.leukaemia.simulate import simulate
from pkpd.marrow.friberg import Friberg
from pkpd.marrow.variants import FULL, VARIANTS, Variant

NO_DRUG = {"chemotherapy": np.zeros(6), "filgrastim": 0.0, "lenalidomide": 0.0}


def healthy(theta, n=32, **changes):
    """Patients without leukaemia whose marrow is in balance."""
    p, _ = patients(arm(disease="solid"), theta, n)
    p["blasts_start"] = np.full(n, 0.0)
    p.update({k: np.full(n, v) for k, v in changes.items()})
    return p, initial_state(p, FULL)


@pytest.mark.parametrize("name", ["full", "study", "feedback_by_count", "constant_platelet_loss"])
def test_no_drug_and_no_blasts_is_a_steady_state(theta, name):
    variant = VARIANTS[name]
    p, _ = patients(arm(disease="lymphoma"), theta, 16, variant)
    p["blasts_start"] = np.zeros(16)
    y = initial_state(p, variant)
    slope = derivative(y, p, NO_DRUG, variant)
    # all but the hazard, which accumulates; the balance is solved to 1e-12
    quiet = [i for i, state in enumerate(STATES) if state != "hazard"]
    assert np.abs(slope[quiet]).max() < 1e-11


def test_a_healthy_marrow_stays_for_a_year(theta):
    p, y = healthy(theta)
    courses = simulate(arm(disease="solid", horizon=365).schedule, theta, p, y)
    for counts in (courses.neutrophils, courses.platelets, courses.wbc):
        drift = np.abs(np.log(counts / counts[:, :1]))
        assert drift.max() < 1e-8  # steps keep a balance; what remains is rounding
    assert (courses.marrow_blasts == 0.0).all()


def test_the_friberg_variant_is_fribergs_model(theta):
    """With a self-renewing pool and feedback by the count, against the package's own Friberg."""
    p, _ = patients(arm(disease="solid"), theta, 4, VARIANTS["friberg"])
    p["blasts_start"] = np.zeros(4)
    p["stem_start"] = np.ones(4)
    p["beta"] = np.zeros(4)
    lane = one(p, 0)
    days = 40
    cal = Calendar.empty(days)
    cal.chemotherapy[1:4, 1] = 0.02  # kill of committed cells alone
    counts = reference_course(lane, cal, VARIANTS["friberg"])["neutrophils"]

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
        kill = lane["committed_neutrophil"] * lane["kill_stem"] * cal.chemotherapy[day, 1]

        def slope(_, x, kill=kill):
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
        p, y = patients(plan, theta, 64, variant)
        courses = simulate(plan.schedule, theta, p, y, variant)
        low = courses.neutrophils < 1.0
        last = np.where(low.any(axis=1), courses.days - low[:, ::-1].argmax(axis=1), 0)
        days[name] = np.median(last)
    assert days["fast"] < 14.0
    assert days["slow"] > days["fast"] + 8.0
    # Friberg's committed pool is killed to nothing and grows back without a source
    assert days["friberg"] > days["slow"]


def test_total_kill_of_dividing_cells_is_aplasia_then_recovery_from_the_reserve_alone(theta):
    p, _ = healthy(theta, 16)
    p["reserve"] = np.full(16, 1e-7)
    lane = {name: np.asarray(p[name]) for name in PARAMETERS}
    y = initial_state(lane, FULL)
    y[[STATES.index(n) for n in ("stem", "stem_platelet", "committed", "megakaryocyte_0")]] = 0.0
    courses = simulate(arm(disease="solid", horizon=300).schedule, theta, p, y)
    assert (courses.neutrophils.min(axis=1) < 0.05).all()  # aplasia
    assert (courses.platelets.min(axis=1) < 5.0).all()
    np.testing.assert_allclose(courses.neutrophils[:, -1], courses.neutrophils[:, 0], rtol=0.05)

    p["reserve"] = np.zeros(16)
    nothing = simulate(arm(disease="solid", horizon=200).schedule, theta, p, y)
    assert (nothing.neutrophils[:, -1] < 1e-6).all()  # no reserve: it stays empty


def test_blasts_grow_logistically_and_crowd_out(theta):
    p, y = patients(arm(), theta, 8)
    courses = simulate(arm(horizon=120).schedule, theta, p, y)
    assert (np.diff(courses.marrow_blasts, axis=1) > -1.0).all()
    start, growth = p["blasts_start"], p["growth"]
    t = 119.0
    share = start * np.exp(growth * t) / (1.0 + start * (np.exp(growth * t) - 1.0))
    leukaemic = p["blood_per_blast"] * share**2 * (1.0 - p["leukaemic_neutrophils"])
    np.testing.assert_allclose(courses.blood_blasts[:, -1], leukaemic, rtol=1e-9)  # exact steps


@pytest.mark.parametrize(
    ("effect", "rule"), [("emax", "capped"), ("linear", "capped"), ("linear", "kept"),
                         ("linear", "off")]
)  # fmt: skip
def test_rules_for_an_effect_above_one_agree_with_the_reference(theta, effect, rule):
    variant = Variant(effect=effect, effect_above_one=rule, exposure="oral")
    plan = arm(("lenalidomide", 25, "mg", "1-21", "oral"), disease="myeloma", horizon=30)
    p, y = patients(plan, theta, 32, variant)
    courses = simulate(plan.schedule, theta, p, y, variant, steps_per_day=48)
    expected = reference_course(one(p, 3), calendar(plan.schedule, theta), variant)
    # the effect of a peak within a step is that of its mean: second order in the step
    np.testing.assert_allclose(courses.neutrophils[3], expected["neutrophils"], rtol=0.03)


def test_the_kept_rule_removes_more_than_off_and_capped(theta):
    lowest = {}
    for rule in ("capped", "off", "kept"):
        variant = Variant(effect="linear", effect_above_one=rule)
        plan = arm(("lenalidomide", 50, "mg", "1-21", "oral"), disease="myeloma", horizon=30)
        p, y = patients(plan, theta, 32, variant)
        lowest[rule] = simulate(plan.schedule, theta, p, y, variant).neutrophils.min(axis=1)
    assert (lowest["off"] <= lowest["capped"] + 1e-12).all()
    assert (lowest["kept"] <= lowest["off"] + 1e-12).all()
    assert (lowest["kept"] < 0.9 * lowest["capped"]).any()
