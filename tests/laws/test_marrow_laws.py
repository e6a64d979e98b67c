"""Statements that hold for every patient and dose."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marrow_course import Course, Drug, reference_count, scheme

from pkpd.kinetics.linear import Disposition, TransitAbsorption
from pkpd.marrow.effects import EmaxEffect, LinearEffect
from pkpd.marrow.friberg import Friberg, PlateletChain

LINES = [
    (Friberg(), {"MTT": 120.0, "gamma": 0.17}),
    (Friberg(circulation="own"), {"MTT": 200.0, "gamma": 0.17, "k_circ": 2.38 / 24}),
    (Friberg(transits=1, feedback_rule="off"), {"MTT": 100.0, "gamma": 0.5}),
    (Friberg(feedback_rule="capped"), {"MTT": 120.0, "gamma": 0.17}),
    (PlateletChain(), {"MTT": 2 / 7.09e-3, "gamma": 0.621, "ks": 8.86e-3}),
    (PlateletChain(transits=3, ageing=4), {"MTT": 120.0, "gamma": 0.3, "ks": 0.005}),
]
IDS = [repr(line) for line, _ in LINES]


def oral(amounts, durations=None, times=None):
    times = tuple(24.0 * i for i in range(len(amounts))) if times is None else times
    return Drug(
        TransitAbsorption(1, unit="umol/L"),
        {"KTR": 2.4, "CL": 12.0, "V1": 68.8, "per_umol": 3.857},
        LinearEffect(),
        {"slope": 0.5},
        times,
        amounts,
        durations or (0.0,) * len(amounts),
    )


def infusions(effect_p, times=(0.0, 24.0, 48.0), amounts=(9.0,) * 3, durations=(1.0,) * 3):
    return Drug(
        Disposition(2, effect_site=True),
        {"CL": 37.7, "V1": 268.0, "Q": 33.2, "V2": 186.0}
        | {"k_in": 3.51, "k_out": np.log(2) / 24, "per_umol": 3.293},
        EmaxEffect(),
        effect_p,
        times,
        amounts,
        durations,
    )


@pytest.mark.parametrize(("line", "p"), LINES, ids=IDS)
def test_without_drug_a_marrow_stays_at_or_rises_to_its_set_point(line, p):
    """Two lanes start at their set point and one below; a year and more of zero doses."""
    start, aim = np.array([4.5, 0.7, 1.0]), np.array([4.5, 0.7, 4.5])
    p = {**p, "baseline": jnp.asarray(start), "set_point": jnp.asarray(aim)}
    course = Course((oral((0.0, 0.0)),), line, p, 600 * 24.0)
    _, log_count, slope = scheme(course, 6.0)
    count = np.exp(np.asarray(log_count))
    np.testing.assert_allclose(count[:, :2], np.tile(aim[:2], (len(count), 1)), rtol=1e-12)
    np.testing.assert_allclose(slope[:, :2], 0.0, atol=1e-13)
    assert count[0, 2] == pytest.approx(1.0, rel=1e-14)
    assert np.all(np.diff(count[:40, 2]) >= -1e-12)
    assert count[-1, 2] == pytest.approx(4.5, rel=1e-3)


@pytest.mark.parametrize(("line", "p"), LINES, ids=IDS)
def test_more_drug_never_gives_a_higher_nadir(line, p):
    """Twelve lanes from no drug to a hundredfold dose, infused and oral together."""
    doses = jnp.concatenate([jnp.zeros(1), jnp.geomspace(0.05, 10.0, 11)])
    drug = infusions({"Emax": 1.3, "EC50": 0.8 / jnp.maximum(doses, 1e-12)})
    pills = replace(oral((25.0,) * 10), effect_p={"slope": 0.2 * doses})
    course = Course((drug, pills), line, {**p, "baseline": 4.0, "set_point": 4.0}, 45 * 24.0)
    _, log_count, _ = scheme(course, 4.0)
    nadir = np.asarray(log_count).min(axis=0)
    assert nadir[0] == pytest.approx(np.log(4.0), abs=1e-9)
    # 1e-5 is the accuracy of the scheme; lanes whose drug is saturated lie closer than that
    assert np.all(np.diff(nadir) <= 1e-5)
    assert nadir[-1] < nadir[0] - 0.5


@pytest.mark.slow
def test_split_infusion_is_the_whole_infusion():
    whole = infusions({"Emax": 1.25, "EC50": 2.0}, (0.0,), (30.0,), (3.0,))
    split = infusions({"Emax": 1.25, "EC50": 2.0}, (0.0, 1.0), (10.0, 20.0), (1.0, 2.0))
    p = {"baseline": 4.5, "set_point": 4.5, "MTT": 120.0, "gamma": 0.17}
    results = []
    for drug in (whole, split):
        edges, log_count, _ = scheme(Course((drug,), Friberg(), p, 20 * 24.0), 3.0)
        results.append(np.asarray(log_count)[np.isin(edges, np.arange(3, 20 * 24, 3.0)), 0])
    # the split course has one more edge: the marrow step differs, the kinetics do not
    np.testing.assert_allclose(results[0], results[1], atol=2e-5)


@pytest.mark.slow
def test_superposition_of_linear_kinetics():
    """Driver moments of three doses and an infusion are the sums of those of each alone."""
    pk = TransitAbsorption(1, unit="umol/L")
    p = {"KTR": 2.4, "CL": 12.0, "V1": 68.8, "per_umol": 3.857}
    prop = jax.jit(pk.propagator)(p, jnp.array([4.0]))
    amounts = np.array([[5.0, 0.0, 0.0], [0.0, 7.0, 0.0], [0.0, 0.0, 11.0], [5.0, 7.0, 11.0]])
    rates = np.array([1.0, 2.0, 0.5, 3.5])
    x = pk.zero(4)
    for i in range(3):
        x = pk.dose(x, jnp.asarray(amounts[:, i]))
        mean, slope = pk.moments(prop, x, jnp.asarray(rates))
        for values in (mean, slope, *pk.at_nodes(prop, x, jnp.asarray(rates))):
            np.testing.assert_allclose(values[:3].sum(), values[3], rtol=1e-12)
        x = pk.advance(prop, x, jnp.asarray(rates))


@pytest.mark.slow
def test_order_of_lanes_does_not_matter():
    rng = np.random.default_rng(3)
    order = rng.permutation(7)
    p = {
        "baseline": jnp.asarray(rng.uniform(1, 6, 7)),
        "set_point": jnp.asarray(rng.uniform(2, 6, 7)),
        "MTT": jnp.asarray(rng.uniform(80, 220, 7)),
        "gamma": jnp.asarray(rng.uniform(0.1, 0.7, 7)),
    }
    ec50 = jnp.asarray(rng.uniform(0.5, 4, 7))
    first = scheme(Course((infusions({"Emax": 1.25, "EC50": ec50}),), Friberg(), p, 15 * 24.0), 6.0)
    shuffled = {k: v[order] for k, v in p.items()}
    drug = infusions({"Emax": 1.25, "EC50": ec50[order]})
    second = scheme(Course((drug,), Friberg(), shuffled, 15 * 24.0), 6.0)
    # vector and remainder loops may differ in the last bit
    np.testing.assert_allclose(first[1][:, order], second[1], rtol=0, atol=1e-13)


@pytest.mark.slow
def test_additive_and_bliss_courses_agree_with_the_reference():
    drugs = (infusions({"Emax": 0.9, "EC50": 1.0}), oral((25.0,) * 5))
    p = {"baseline": 4.5, "set_point": 4.5, "MTT": 120.0, "gamma": 0.17}
    hours = np.arange(0, 12 * 24 + 1, 24.0)
    counts = {}
    for rule in ("additive", "bliss"):
        course = Course(drugs, Friberg(), p, 12 * 24.0, rule=rule)
        edges, log_count, _ = scheme(course, 4.0)
        got = np.exp(np.asarray(log_count)[np.isin(edges, hours), 0])
        # Bliss multiplies an oral peak by quadrature: four nodes in 4 h see it less exactly
        tolerance = 2e-5 if rule == "additive" else 2e-3
        np.testing.assert_allclose(got, reference_count(course)(hours), rtol=tolerance)
        counts[rule] = got
    assert np.all(counts["bliss"][1:] > counts["additive"][1:])


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.floats(0.2, 8.0), st.floats(0.05, 0.8), st.floats(60.0, 250.0))
def test_counts_stay_positive_and_finite(ec50, gamma, mtt):
    p = {"baseline": 4.5, "set_point": 4.5, "MTT": jnp.array([mtt]), "gamma": jnp.array([gamma])}
    drug = infusions({"Emax": 2.0, "EC50": jnp.array([ec50 / 50])})
    _, log_count, slope = scheme(Course((drug,), Friberg(), p, 30 * 24.0), 6.0)
    assert np.all(np.isfinite(log_count))
    assert np.all(np.isfinite(slope))


@pytest.mark.slow
def test_gradient_in_every_parameter_agrees_with_finite_differences():
    """d log count(day 9) / d log parameter, reverse mode against central differences."""
    line = Friberg(circulation="own")
    marrow = {"baseline": 3.0, "set_point": 4.5, "MTT": 120.0, "gamma": 0.17, "k_circ": 0.1}
    drug = infusions({"Emax": 1.25, "EC50": 2.0, "hill": 1.3})
    one = {k: v for k, v in drug.p.items() if k not in ("Q", "V2")}
    drug = replace(drug, pk=Disposition(1, effect_site=True), p=one, effect=EmaxEffect(hill=True))
    names = [("marrow", k) for k in marrow]
    names += [("pk", k) for k in drug.p] + [("effect", k) for k in drug.effect_p]
    values = jnp.array([{**marrow, **drug.p, **drug.effect_p}[k] for _, k in names])

    def outcome(log_factors):
        v = values * jnp.exp(log_factors)
        pick = {
            group: {k: v[i] for i, (g, k) in enumerate(names) if g == group}
            for group in ("marrow", "pk", "effect")
        }
        d = replace(drug, p=pick["pk"], effect_p=pick["effect"])
        _, log_count, _ = scheme(Course((d,), line, pick["marrow"], 9 * 24.0), 6.0)
        return log_count[-1, 0]

    f = jax.jit(outcome)
    zero = jnp.zeros(len(names))
    gradient = np.asarray(jax.jit(jax.grad(outcome))(zero))
    step = 1e-5
    differences = np.array(
        [
            (f(zero.at[i].set(step)) - f(zero.at[i].set(-step))) / (2 * step)
            for i in range(len(zero))
        ]
    )
    # central differences: truncation about 1e-10, rounding 1e-14 / 1e-5 = 1e-9
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=2e-8)
    assert np.all(np.abs(gradient) > 1e-6)
