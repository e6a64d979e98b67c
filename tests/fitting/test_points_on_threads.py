"""Points of a subject's density on threads: order, the first call alone, and who may not."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd import machine
from pkpd.fitting.maximum import conditional
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, ode_model, parameter, residual
from pkpd.predict.ode import OdePredictor


def density(monkeypatch, *, concurrent=True, threads=2):
    monkeypatch.setattr(conditional, "threads", lambda: threads)
    predictor = SimpleNamespace(concurrent=concurrent) if concurrent else SimpleNamespace()
    return ConditionalDensity(SimpleNamespace(predictor=predictor))


def test_the_first_call_is_made_alone_and_others_side_by_side(monkeypatch):
    both, began = threading.Barrier(2), []

    def call(point):
        began.append(point)
        if point:  # passes only when two wait here at once; the first would wait for ever
            both.wait(timeout=20)
        return -point

    assert density(monkeypatch).each("program", call, [0, 1, 2, 3, 4]) == [0, -1, -2, -3, -4]
    assert began[0] == 0


@pytest.mark.parametrize(("concurrent", "threads"), [(False, 2), (True, 1)])
def test_calls_stay_in_this_thread_where_they_must(monkeypatch, concurrent, threads):
    own = density(monkeypatch, concurrent=concurrent, threads=threads)
    here = {threading.get_ident()}
    assert set(own.each("program", lambda _: threading.get_ident(), range(4))) == here


def test_an_error_on_a_thread_is_raised(monkeypatch):
    own = density(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        own.each("program", lambda point: 1 / point, [1, 2, 0, 3])


@pytest.mark.parametrize(
    ("given", "allowed"), [("1", 1), ("2", 2), ("64", 4), ("", 4), ("0", 4), ("many", 4)]
)
def test_threads_are_those_of_numba_or_the_cores(monkeypatch, given, allowed):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setenv("NUMBA_NUM_THREADS", given)
    assert machine.threads() == allowed


def saturable():
    """Three subjects who lose a drug at a rate that saturates, two random effects."""
    table = pd.DataFrame(
        {"ID": np.repeat([1, 2, 3], 4), "TIME": np.tile([0.0, 1.0, 4.0, 9.0], 3)}
        | {"AMT": np.tile([100.0, 0.0, 0.0, 0.0], 3), "EVID": np.tile([1, 0, 0, 0], 3)}
        | {"DV": np.tile([0.0, 8.0, 5.0, 2.0], 3)}
    )
    data = pkpd.read_nonmem(table, units={"TIME": "h", "AMT": "mg", "DV": "mg/L"})

    def slope(t, y, p):
        return {"central": -p["VM"] * y["central"] / (p["KM"] * p["V"] + y["central"])}

    structure = ode_model(
        slope,
        states=["central"],
        parameters=["VM", "KM", "V"],
        outputs={"concentration": lambda y, p: y["central"] / p["V"]},
    )
    values = [parameter("VM", 20.0, iiv=0.3), parameter("KM", 4.0), parameter("V", 10.0, iiv=0.2)]
    return bind(PopulationModel(structure, values, residual.proportional(0.2)), data)


@pytest.mark.parametrize("lanes", [6, 256])
@pytest.mark.slow
def test_points_of_few_subjects_are_solved_together_as_one_by_one(monkeypatch, lanes):
    """Two at a time, the last filled up, and all at once."""
    monkeypatch.setattr(OdePredictor, "lanes_at_once", lanes)
    marginal = MarginalLikelihood(saturable(), "focei")
    own, x = marginal.density, marginal.free.start()
    points = np.random.default_rng(1).normal(size=(5, 3, 2))
    alone = np.stack([own.predict(x, u) for u in points])
    np.testing.assert_allclose(own.predict_at(x, points), alone, rtol=1e-12)
    central = own.central(x)
    wanted = np.stack([own.value(x, u, central) for u in points])
    np.testing.assert_allclose(own.value_at(x, points, central), wanted, rtol=1e-12)
    bars = np.random.default_rng(2).normal(size=alone.shape)
    pulled = [own.pull(x, u, bar) for u, bar in zip(points, bars, strict=True)]
    for found, by_one in zip(own.pull_at(x, points, bars), zip(*pulled, strict=True), strict=True):
        np.testing.assert_allclose(found, np.stack(by_one), rtol=1e-10)
