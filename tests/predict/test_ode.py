"""Models written by the user: what they predict, and what is said when they do not fit."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from pkpd.data.nonmem import read_nonmem
from pkpd.errors import DataError, PkpdError, SolverWarning
from pkpd.predict.ode import ode_model
from pkpd.predict.pk import compartments
from pkpd.predict.structure import Predictor, Structure

TIMES = (0.5, 2.0, 6.0, 12.0, 24.0)


def rhs(t, y, p):
    absorbed = p["ka"] * y["depot"]
    return {"central": absorbed - p["CL"] / p["V"] * y["central"], "depot": -absorbed}


OUTPUTS = {"concentration": lambda y, p: y["central"] / p["V"]}
WORDS = {"states": ["depot", "central"], "parameters": ["ka", "CL", "V"], "outputs": OUTPUTS}
P = {"ka": 1.1, "CL": 3.0, "V": 20.0}


def dataset(n=2, lines=None, **first):
    """Subjects with a dose of 100, 150, ... and observations of every line at all times."""
    rows = []
    for i in range(n):
        dose = {"AMT": 100.0 + 50.0 * i, "EVID": 1, "CMT": 1, "RATE": 0.0}
        rows.append({"ID": i + 1, "TIME": 0.0, "DV": np.nan, "DVID": 0, **dose, **first})
        for t in TIMES:
            for k in lines or {1: "concentration"}:
                row = {"ID": i + 1, "TIME": t, "DV": 1.0, "DVID": k}
                rows.append({**row, "AMT": 0.0, "EVID": 0, "CMT": 1, "RATE": 0.0})
    return read_nonmem(pd.DataFrame(rows), lines=lines or {1: "concentration"})


def test_equations_written_out_agree_with_compartments():
    model = ode_model(rhs, **WORDS, dosing=["ALAG1"])
    assert isinstance(model, Structure)
    assert model.parameters == ("ka", "CL", "V", "ALAG1")
    data = dataset()
    predictor = model.bind(data)
    assert isinstance(predictor, Predictor)
    exact = compartments(1, absorption="first_order", dosing=("ALAG1",)).bind(data)
    values = P | {"ALAG1": np.array([0.3, 0.7]), "CL": np.array([2.0, 4.0])}
    # fixed steps of 0.5 h at most
    np.testing.assert_allclose(predictor(values), exact(values), rtol=1e-5, atol=1e-6)
    assert predictor.problems(values) == {}


def with_effect(t, y, p, c):
    return {"effect": p["ke0"] * (c["concentration"] - y["effect"])}


@pytest.mark.parametrize("exact_pk", [True, False])
def test_driven_by_linear_pharmacokinetics(exact_pk):
    data = dataset(lines={1: "concentration", 2: "effect"})
    model = ode_model(
        with_effect,
        states=["effect"],
        parameters=["ke0"],
        outputs={"effect": lambda y, p: y["effect"]},
        pk=compartments(1),
        exact_pk=exact_pk,
    )
    assert model.lines == ("concentration", "effect")
    values = {"CL": 3.0, "V": 20.0, "ke0": 0.4}
    found = np.asarray(model.bind(data)(values)).reshape(2, len(TIMES), 2)
    t, k = np.array(TIMES), 3.0 / 20.0
    for b, dose in enumerate((100.0, 150.0)):
        c = dose / 20.0 * np.exp(-k * t)
        site = dose / 20.0 * 0.4 / (0.4 - k) * (np.exp(-k * t) - np.exp(-0.4 * t))
        np.testing.assert_allclose(found[b, :, 0], c, rtol=1e-6)
        np.testing.assert_allclose(found[b, :, 1], site, rtol=1e-6)


@pytest.mark.slow
def test_typical_values_choose_the_step():
    model = ode_model(rhs, **WORDS, typical=P)
    predictor = model.bind(dataset())
    assert "model: fixed steps of" in predictor.note
    assert predictor.structure.options.solver == "fixed"
    exact = compartments(1, absorption="first_order").bind(dataset())
    np.testing.assert_allclose(predictor(P), exact(P), rtol=1e-5)


@pytest.mark.long  # test_event_ode has it of the solver alone
def test_one_lost_subject_leaves_the_derivatives_of_the_others():
    def runaway(t, y, p):
        return {"y": p["k"] * y["y"] ** 2}

    model = ode_model(
        runaway,
        states=["y"],
        parameters=["k", "scale"],
        outputs={"concentration": lambda y, p: p["scale"] * y["y"]},
        initial=lambda p: {"y": 1.0},
    )
    predictor = model.bind(dataset(n=3, AMT=0.0, EVID=2))
    k = np.array([0.01, 0.3, 0.02])

    def total(scale):
        predicted = predictor({"k": k, "scale": scale})
        return jnp.sum(jnp.where(jnp.isfinite(predicted), predicted, 0.0))

    kept = 1.0 / (1.0 - k[[0, 2], None] * np.array(TIMES))
    early = 1.0 / (1.0 - 0.3 * np.array(TIMES[:2]))
    found = float(jax.grad(total)(2.0))
    # observations of the lost subject from 6 h on are left out; those before are as they are
    assert found == pytest.approx(kept.sum() + early.sum(), rel=1e-5)
    values = {"k": k, "scale": 2.0}
    with pytest.warns(SolverWarning, match="subject 2: y is not finite from 6 h on"):
        predicted = np.asarray(predictor(values)).reshape(3, -1)
    np.testing.assert_allclose(predicted[[0, 2]], 2.0 * kept, rtol=1e-5)
    assert list(predictor.problems(values)) == [1]
    values["k"] = np.array([0.01, 0.3, 0.4])
    with pytest.warns(SolverWarning, match=r"6 h on.*\(2 subjects in all: 2, 3\)$"):
        predictor(values)


@pytest.mark.long
def test_a_bad_start_is_named():
    model = ode_model(
        lambda t, y, p: {"y": p["k"] * jnp.log(y["y"])},
        states=["y"],
        parameters=["k"],
        outputs={"concentration": lambda y, p: y["y"]},
        name="growth",
    )
    predictor = model.bind(dataset(n=1, AMT=0.0, EVID=2))
    told = predictor.problems({"k": 1.0})
    assert "subject 1, state 'y': the derivative at the start is -inf" in told[0]


def broken(change):
    return {"rhs": rhs, **WORDS, **change}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"rhs": lambda t, y, p: {"depot": -y["depot"]}},
            "rhs, state 'central': has no derivative",
        ),
        (
            {"rhs": lambda t, y, p: {**rhs(t, y, p), "gut": 0.0}},
            "state 'gut': has a derivative but is not a state",
        ),
        ({"rhs": lambda t, y, p: [0.0, 0.0]}, "returns a list"),
        ({"rhs": lambda t, y: {}}, "takes 2 arguments"),
        ({"dosing": ["F3"]}, "dosing parameter 'F3'"),
        ({"parameters": ["ka", "CL"]}, "parameter 'V': the model's functions read it"),
        ({"states": ["depot", "centre"]}, "state 'central': the model's functions read it"),
        ({"states": ["depot", "central", "depot"]}, "state 'depot': is there twice"),
        ({"doses_into": "gut"}, "'gut' is no compartment; allowed: depot, central"),
        ({"outputs": {}}, "predicts nothing"),
        ({"outputs": {"x": lambda y, p: jnp.ones(2)}}, "'x' has shape (2,)"),
        ({"initial": lambda p: {"gut": 1.0}}, "initial, state 'gut': is not a state"),
        (
            {"rhs": lambda t, y, p: {"depot": np.exp(y["depot"]), "central": 0.0}},
            "rhs: calls NumPy; call jax.numpy instead",
        ),
        (
            {"rhs": lambda t, y, p: {"depot": 0.0, "central": 1.0 if y["depot"] > 0 else 0.0}},
            "use jnp.where instead of if",
        ),
        (
            {"pk": compartments(1), "parameters": ["ka", "CL", "V"]},
            "is there twice (pk has it already)",
        ),
    ],
)
def test_functions_that_do_not_fit_are_refused(change, words):
    given = broken(change)
    with pytest.raises(PkpdError, match=re.escape(words)):
        ode_model(given.pop("rhs"), **given)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"CMT": 3}, "compartment 3 does not exist in model; allowed: 1 depot, 2 central"),
        ({"RATE": -2.0}, "RATE -2 asks for a parameter D1 that the model lacks"),
    ],
)
def test_doses_that_do_not_fit_are_refused(first, words):
    with pytest.raises(DataError, match=re.escape(words)):
        ode_model(rhs, **WORDS).bind(dataset(**first))


def test_missing_and_unknown_parameters_are_refused():
    predictor = ode_model(rhs, **WORDS).bind(dataset())
    with pytest.raises(PkpdError, match="parameter 'V': is missing"):
        predictor({"ka": 1.0, "CL": 3.0})
    with pytest.raises(PkpdError, match="'Q': is not a parameter"):
        predictor(P | {"Q": 1.0})


def test_doses_without_a_compartment_go_where_told():
    model = ode_model(rhs, **WORDS, doses_into="central")
    found = np.asarray(model.bind(dataset(n=1, CMT=0))(P))
    np.testing.assert_allclose(found, 5.0 * np.exp(-0.15 * np.array(TIMES)), rtol=1e-6)
