"""What needs the general engine, and how it is chosen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marrow_cases import ONE_DRUG, ONE_ROWS, dataset, friberg, infusion, reference

from pkpd.errors import PkpdError
from pkpd.marrow.effects import combined_effect
from pkpd.predict.marrow import marrow_model
from pkpd.predict.pk import compartments

TOLERANCE = 1e-5

LAGGED_CLEARANCE = np.array([[5.0, 5.0, 8.0, 8.0, 8.0, 3.0, 3.0]])
"""Clearance by occasion; parameters of a record hold over the interval that ends at it."""

LAGGED = {**ONE_DRUG, "ALAG1": 2.5, "D1": 4.0}


def lagged():
    """Two doses with a lag, clearance by occasion, a modelled duration, and a reset between."""
    rows = [
        (1, 0.0, 1, 1, 100.0),
        (1, 30.0, 1, 1, 80.0, -2.0),
        (1, 60.0, 0, 100),
        (1, 60.0, 0, 101),
        (1, 120.0, 0, 101),
        (1, 150.0, 4, 1, 60.0),
        (1, 230.0, 0, 101),
    ]
    data = dataset(rows, ["concentration", "neutrophils"])
    return data, marrow_model(compartments(1, dosing=["ALAG1", "D1"])).bind(data)


@pytest.mark.slow
def test_lags_occasions_and_resets_match_a_tight_solution():
    data, predictor = lagged()
    assert predictor.engine == "general"
    p = LAGGED

    def rhs(t, y, rates):
        own = 5.0 if t < 30.0 else 8.0 if t < 120.0 else 3.0
        change = -own / p["V"] * y[0] + rates.get(0, 0.0)
        return np.append(change, friberg(y[1:], p["slope"] * y[0] / p["V"], p))

    def cleared(y, rates):
        rates.clear()
        return np.array([0.0] + [p["circ0"]] * 5)

    jumps = infusion(100.0, 0.0, 2.5, 0) + infusion(80.0, 4.0, 32.5, 0)
    # nothing happens at 30 and 120 h but that the clearance changes
    jumps += [(t, lambda y, rates: y) for t in (30.0, 120.0)] + [(150.0, cleared)]
    jumps += infusion(60.0, 0.0, 152.5, 0)
    jumps = sorted(jumps, key=lambda j: j[0])
    found = reference(rhs, [0.0] + [5.0] * 5, jumps, data.observations.time)
    expected = np.where(data.observations.line == 0, found[:, 0] / p["V"], found[:, -1])
    values = {**p, "CL": LAGGED_CLEARANCE}
    np.testing.assert_allclose(predictor(values), expected, rtol=TOLERANCE)


@pytest.mark.long  # test_event_ode, test_marrow_occasions
def test_gradient_with_lags_occasions_and_resets_matches_differences():
    _, predictor = lagged()
    assert not predictor.problems({**LAGGED, "CL": LAGGED_CLEARANCE})

    def predict(scale):
        changed = {name: value * scale[i] for i, (name, value) in enumerate(LAGGED.items())}
        return predictor({**changed, "CL": LAGGED_CLEARANCE * scale[0]})

    ones = jnp.ones(len(LAGGED))
    slopes = jax.jit(jax.jacrev(predict))(ones)
    step = 1e-4
    for i in range(len(LAGGED)):
        up, down = (predict(ones.at[i].add(sign * step)) for sign in (1.0, -1.0))
        # second-order differences; the number of fixed steps may change with a lag or duration
        np.testing.assert_allclose(slopes[:, i], (up - down) / (2 * step), rtol=1e-4, atol=1e-5)


def test_bliss_differs_from_addition_as_the_equations_say():
    """With E1 = E2 = 0.5 held constant, addition stops proliferation and Bliss leaves a quarter."""
    one_of_each = [(1, 0.0, 1, 1, 1e-12), (1, 0.0, 1, 2, 1e-12), (1, 20.0, 0, 102)]
    data = dataset(one_of_each, ["concentration_a", "concentration_b", "neutrophils"])
    drugs = {name: compartments(1) for name in ("a", "b")}
    model = marrow_model(drugs, combination="bliss")
    assert "otherwise than by addition" in model.bind(data).reason
    half = [jnp.array(0.5), jnp.array(0.5)]
    assert float(combined_effect(half, "bliss")) == pytest.approx(0.75)
    assert float(combined_effect(half, "additive")) == pytest.approx(1.0)
    # above 1, what exceeds it adds: never below the stronger of the two
    strong = [jnp.array(1.4), jnp.array(0.5)]
    assert float(combined_effect(strong, "bliss")) == pytest.approx(1.4)


def test_engine_is_chosen_by_events_and_by_the_shape_of_parameters():
    data = dataset(ONE_ROWS, ["neutrophils"])
    predictor = marrow_model(compartments(1)).bind(data)
    assert predictor.engine == "compiled"
    n = data.events.shape[1]
    by_record = {**ONE_DRUG, "CL": np.full((2, n), 5.0)}
    np.testing.assert_allclose(predictor(by_record), predictor(ONE_DRUG), rtol=1e-12)
    refused = marrow_model(compartments(1), engine="compiled").bind(data)
    with pytest.raises(PkpdError, match="MTT is given by record"):
        refused({**ONE_DRUG, "MTT": 90.0 + np.arange(2 * n).reshape(2, n)})
    steady = dataset([(1, 0.0, 1, 1, 9.0, 0, 24.0, 0, 1), (1, 5.0, 0, 100)], ["neutrophils"])
    assert "steady-state" in marrow_model(compartments(1)).bind(steady).reason
    lag = marrow_model({name: compartments(1, dosing=["ALAG1"]) for name in ("a", "b")})
    two = [(1, 0.0, 1, 1, 9.0), (1, 1.0, 1, 2, 9.0), (1, 5.0, 0, 100)]
    assert "lag" in lag.bind(dataset(two, ["neutrophils"])).reason
    both = dataset(two, ["neutrophils"])
    oral = compartments(1, absorption="first_order")
    assert marrow_model(oral).bind(both).engine == "compiled"
    assert "in proportion" in marrow_model(oral, effect="emax").bind(both).reason
