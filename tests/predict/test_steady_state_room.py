"""Steady states whose infusions or lags outlast the room that a compiled program has for them."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pymc as pm
import pytest

import pkpd
from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable
from pkpd.errors import PkpdError, SolverWarning
from pkpd.models import EventOptions, PopulationModel, compartments, parameter, residual
from pkpd.predict.ode import ode_model

INTERVAL, AMOUNT = 12.0, 100.0
TIMES = np.array([1.0, 5.0, 20.0, 44.0])
P = {"CL": 2.0, "V": 20.0}


def steady_data(rate):
    """Two subjects at steady state, observed four times each."""
    per = len(TIMES) + 1
    zeros = [0.0] * len(TIMES)
    events = EventTable.from_columns(
        np.repeat([1, 2], per),
        np.tile([0.0, *TIMES], 2),
        evid=np.tile([1, *zeros], 2),
        amt=np.tile([AMOUNT, *zeros], 2),
        rate=np.tile([rate, *zeros], 2),
        ii=np.tile([INTERVAL, *zeros], 2),
        ss=np.tile([1, *zeros], 2),
    )
    subject, record = np.nonzero(events.evid == 0)
    n = len(subject)
    seen = Observations(
        subject,
        record,
        events.time[subject, record],
        np.zeros(n, dtype=np.int64),
        np.ones(n),
        np.zeros(n, dtype=np.int64),
        np.full(n, -np.inf),
        events.row[subject, record],
    )
    return Dataset(events, seen, ("concentration",))


def many_doses(duration, lag):
    """Superpose 300 doses, one each interval up to time 0, each of this duration and lag."""
    k = P["CL"] / P["V"]
    since = TIMES[:, None] + INTERVAL * np.arange(300)[None, :] - lag
    running = np.clip(since, 0.0, duration) if duration else np.where(since >= 0, 1.0, 0.0)
    if not duration:
        return np.sum(running * AMOUNT / P["V"] * np.exp(-k * np.maximum(since, 0)), axis=1)
    after = np.exp(-k * np.maximum(since - duration, 0.0))
    return np.sum(AMOUNT / duration / P["CL"] * -np.expm1(-k * running) * after, axis=1)


def linear(options, dosing):
    return compartments(1, dosing=dosing, options=options)


def equations(options, dosing):
    return ode_model(
        lambda t, y, p: {"central": -p["CL"] / p["V"] * y["central"]},
        states=["central"],
        parameters=["CL", "V"],
        outputs={"concentration": lambda y, p: y["central"] / p["V"]},
        dosing=dosing,
        events=options,
        max_step_h=0.25,
    )


# test_event_ode has the steady states of equations
@pytest.mark.slow
@pytest.mark.parametrize("build", [linear, pytest.param(equations, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("dosing", "values", "option", "needed", "short"),
    [
        ("D1", [42.0, 20.0], "overlap", 4, "infusions of 3.5 dosing intervals at steady state"),
        ("ALAG1", [40.0, 20.0], "pending", 3, "lags of 3.33 dosing intervals at steady state"),
    ],
)
def test_what_outlasts_its_room_is_named_with_the_option_that_gives_room(
    build, dosing, values, option, needed, short
):
    data = steady_data(-2 if dosing == "D1" else 0)
    structure = build(None, (dosing,))
    given = {**P, dosing: np.array(values)}
    traced = np.asarray(jax.jit(structure.bind(data))(given)).reshape(2, -1)
    assert np.all(np.isnan(traced[0]))
    assert np.all(np.isfinite(traced[1]))
    problems = structure.bind(data).problems(given)
    assert list(problems) == [0]
    assert short in problems[0]
    assert f"EventOptions({option}={needed})" in problems[0]
    # the option does what the sentence promises
    wide = build(EventOptions(**{option: needed}), (dosing,)).bind(data)
    got = np.asarray(jax.jit(wide)(given)).reshape(2, -1)
    for row, value in zip(got, values, strict=True):
        pair = (value, 0.0) if dosing == "D1" else (0.0, value)
        np.testing.assert_allclose(row, many_doses(*pair), rtol=2e-6)
    assert wide.problems(given) == {}


def model_of(structure):
    return PopulationModel(
        structure,
        [
            parameter("CL", 2.0, iiv=0.2),
            parameter("V", 20.0),
            parameter("D1", 42.0),
        ],
        residual.proportional(0.2),
    )


@pytest.mark.long
def test_a_fit_that_cannot_start_names_the_option():
    with pytest.raises(PkpdError, match=re.escape("EventOptions(overlap=4)")):
        pkpd.fit(model_of(linear(None, ("D1",))), steady_data(-2), method="focei")


@pytest.mark.long
def test_predictions_in_a_model_of_ones_own_warn_once():
    predict = pkpd.pymc.predictions(linear(None, ("D1",)), steady_data(-2))
    with pm.Model() as own:
        duration = pm.LogNormal("D1", np.log(42.0), 0.1)
        pm.Potential("sum", predict({**P, "D1": duration}).sum())
    density = own.compile_logp(mode="FAST_COMPILE")
    start = own.initial_point()
    with pytest.warns(SolverWarning, match=re.escape("EventOptions(overlap=4)")):
        assert np.isnan(density(start))
    assert np.isnan(density(start))  # silent: warnings are errors here
    start["D1_log__"] = jnp.log(20.0)
    assert np.isfinite(density(start))
