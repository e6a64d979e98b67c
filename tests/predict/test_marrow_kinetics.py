"""Kinetics of any linear shape, lags and resets in the compiled engine, against tight solutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marrow_cases import ONE_DRUG, dataset, friberg, infusion, reference

from pkpd.fitting.model.likelihood import bind
from pkpd.kinetics.flows import FlowPK
from pkpd.kinetics.linear import LinearPK
from pkpd.models import (
    LinearStructure,
    PopulationModel,
    compartments,
    linear_system,
    marrow_model,
    parameter,
    residual,
)

TOLERANCE = 1e-5

# parent, its peripheral tissue, and the metabolite that acts
SYSTEM = linear_system(
    "parent and metabolite",
    ["parent", "tissue", "metabolite"],
    ["k_tissue", "k_back", "k_metabolite", "k_other", "k_out_m"],
    lambda p: {
        (0, 1): p["k_tissue"],
        (1, 0): p["k_back"],
        (0, 2): p["k_metabolite"],
        (0, None): p["k_other"],
        (2, None): p["k_out_m"],
    },
    observed=3,
)
KINETICS = {
    "k_tissue": 0.3,
    "k_back": 0.1,
    "k_metabolite": 0.2,
    "k_other": 0.15,
    "k_out_m": 0.04,
    "Vm": 40.0,
}
MARROW = {"slope": 0.6, "circ0": 5.0, "MTT": 100.0, "gamma": 0.2}


def amounts(t, y, rates, p):
    out = np.empty(3)
    out[0] = p["k_back"] * y[1] - (p["k_tissue"] + p["k_metabolite"] + p["k_other"]) * y[0]
    out[0] += rates.get(0, 0.0)
    out[1] = p["k_tissue"] * y[0] - p["k_back"] * y[1]
    out[2] = p["k_metabolite"] * y[0] - p["k_out_m"] * y[2] + rates.get(2, 0.0)
    return out


ROWS = [
    (1, 0.0, 1, 1, 100.0),
    (1, 24.0, 1, 1, 80.0, 20.0),
    (1, 30.0, 1, 3, 30.0),
    (1, 60.0, 0, 101),
    (1, 150.0, 0, 101),
    (1, 400.0, 0, 101),
]
JUMPS = infusion(100.0, 0.0, 0.0, 0) + infusion(80.0, 4.0, 24.0, 0) + infusion(15.0, 0.0, 30.0, 2)


@pytest.mark.parametrize("driver", ["plasma", "effect_compartment"])
def test_any_linear_system_matches_a_tight_solution(driver):
    """Doses into two compartments, one of them with a bioavailability of 0.5."""
    data = dataset(ROWS, ["concentration", "neutrophils"])
    pk = LinearStructure(SYSTEM, "Vm", dosing=("F3",))
    predictor = marrow_model(pk, driver=driver).bind(data)
    assert predictor.engine == "compiled"
    p = {**KINETICS, **MARROW, "ke0": 0.02}

    def rhs(t, y, rates):
        site = y[3]
        acting = site if driver == "effect_compartment" else y[2] / p["Vm"]
        change = amounts(t, y[:3], rates, p)
        to_site = p["ke0"] * (y[2] / p["Vm"] - site)
        return np.concatenate([change, [to_site], friberg(y[4:], p["slope"] * acting, p)])

    jumps = sorted(JUMPS, key=lambda j: j[0])
    found = reference(rhs, [0.0] * 4 + [5.0] * 5, jumps, data.observations.time)
    values = {name: v for name, v in {**p, "F3": 0.5}.items() if name in predictor.parameters}
    np.testing.assert_allclose(predictor(values), found[:, -1], rtol=TOLERANCE)
    assert not predictor.problems(values)


@pytest.mark.long
def test_kinetics_that_change_and_derivatives_are_those_of_the_general_engine():
    data = dataset(ROWS[:2] + ROWS[3:], ["concentration", "neutrophils"])
    pk = LinearStructure(SYSTEM, "Vm")
    by_record = np.where(np.arange(data.events.shape[1]) < 3, 0.15, 0.4)[None, :]
    values = {**KINETICS, **MARROW, "k_other": by_record}
    found = {}
    for engine in ("compiled", "general"):
        predictor = marrow_model(pk, engine=engine, general_step_h=0.25).bind(data)

        def total(v, predictor=predictor):
            return jnp.sum(jnp.log(predictor(v)))

        found[engine] = jax.jit(jax.value_and_grad(total))(jax.tree.map(jnp.asarray, values))
    assert found["compiled"][0] == pytest.approx(float(found["general"][0]), abs=3e-5)
    for name, slope in found["general"][1].items():
        np.testing.assert_allclose(
            np.sum(found["compiled"][1][name]), np.sum(slope), rtol=1e-3, atol=1e-5
        )


def lagged():
    """Two subjects with a lag of every dose; the first is reset, and its clock begins again."""
    rows = [
        (1, 0.0, 1, 1, 100.0),
        (1, 30.0, 1, 1, 80.0, 20.0),
        (1, 60.0, 0, 101),
        (1, 120.0, 0, 101),
        (1, 150.0, 4, 1, 60.0),
        (1, 151.0, 0, 101),
        (1, 230.0, 0, 101),
        (2, 10.0, 0, 101),
        (2, 12.0, 1, 1, 90.0),
        (2, 100.0, 0, 101),
    ]
    return dataset(rows, ["concentration", "neutrophils"])


@pytest.mark.slow
def test_a_lag_of_all_doses_and_resets_match_a_tight_solution():
    data, p = lagged(), {**ONE_DRUG, "ALAG1": np.array([2.5, 4.0])}
    predictor = marrow_model(compartments(1, dosing=["ALAG1"])).bind(data)
    assert predictor.engine == "compiled"

    def rhs(t, y, rates):
        change = -p["CL"] / p["V"] * y[0] + rates.get(0, 0.0)
        return np.append(change, friberg(y[1:], p["slope"] * y[0] / p["V"], p))

    def cleared(y, rates):
        rates.clear()
        return np.array([0.0] + [5.0] * 5)

    seen, start = data.observations, [0.0] + [5.0] * 5
    first = infusion(100.0, 0.0, 2.5, 0) + infusion(80.0, 4.0, 32.5, 0) + [(150.0, cleared)]
    first += infusion(60.0, 0.0, 152.5, 0)
    expected = [
        reference(rhs, start, jumps, seen.time[seen.subject == b] - begin)[:, -1]
        for b, jumps, begin in ((0, first, 0.0), (1, infusion(90.0, 0.0, 6.0, 0), 10.0))
    ]
    np.testing.assert_allclose(predictor(p), np.concatenate(expected), rtol=TOLERANCE)
    assert not predictor.problems(p)

    def total(values):
        return jnp.sum(jnp.log(predictor(values)))

    compiled = jax.jit(total)
    slopes = jax.jit(jax.grad(total))({name: jnp.asarray(v) for name, v in p.items()})
    for name in ("ALAG1", "CL", "MTT"):
        step = 1e-4 * np.max(p[name])
        up, down = (compiled({**p, name: p[name] + sign * step}) for sign in (1, -1))
        assert np.sum(slopes[name]) == pytest.approx(float(up - down) / (2 * step), rel=1e-4)


def test_the_flows_of_usual_compartments_give_their_propagator():
    """Two compartments written as flows: transition, moments and half-lives are the same."""
    usual = LinearPK(absorption=0, compartments=2)
    p = {"ka": 1.2, "CL": 6.0, "V1": 20.0, "Q": 4.0, "V2": 60.0}
    p = {name: jnp.array([value]) for name, value in p.items()}
    flows = FlowPK(edges=((0, 1), (1, 2), (2, 1), (1, None)), size=3, observed=1)
    q = {
        "flow_0_1": p["ka"],
        "flow_1_2": p["Q"] / p["V1"],
        "flow_2_1": p["Q"] / p["V2"],
        "flow_1_out": p["CL"] / p["V1"],
        "scale": 1.0 / p["V1"],
    }
    np.testing.assert_allclose(flows.rate_matrix(q), usual.rate_matrix(p), rtol=1e-14)
    x = jnp.array([[3.0], [2.0], [5.0]])
    both = [one.propagator(v, 4.0) for one, v in ((flows, q), (usual, p))]
    for a, b in zip(
        *(m.moments(c, x) for m, c in zip((flows, usual), both, strict=True)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    # absorption is no disposition, slow as it may be
    for ka in (1.2, 0.001):
        p["ka"] = q["flow_0_1"] = jnp.array([ka])
        np.testing.assert_allclose(flows.half_lives(q), usual.half_lives(p), rtol=1e-10)


def test_a_line_without_data_needs_no_residual_error():
    data = dataset(ROWS, ["concentration", "neutrophils"])
    model = PopulationModel(
        marrow_model(LinearStructure(SYSTEM, "Vm")),
        [parameter(name, value) for name, value in {**KINETICS, **MARROW}.items()],
        {"neutrophils": residual.lognormal(0.3)},
    )
    likelihood = bind(model, data)
    assert np.isfinite(
        likelihood.total(
            likelihood.fixed({**KINETICS, **MARROW, "sigma_neutrophils": 0.3}), np.zeros((1, 0))
        )
    )
