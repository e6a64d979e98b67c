from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable
from pkpd.errors import DataError, PkpdError
from pkpd.predict.pk import compartments
from pkpd.predict.structure import Predictor, Structure


def data_of(rate=0.0, cmt=0):
    """Two subjects: a dose, two observations, a dose, an observation."""
    time = [0.0, 2.0, 6.0, 8.0, 20.0]
    events = EventTable.from_columns(
        np.repeat([1, 2], 5),
        np.tile(time, 2),
        evid=np.tile([1, 0, 0, 1, 0], 2),
        amt=np.tile([100.0, 0, 0, 50.0, 0], 2),
        rate=np.tile([rate, 0, 0, rate, 0], 2),
        cmt=np.tile([cmt, 0, 0, cmt, 0], 2),
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
    return Dataset(events, seen, ("DV",))


def one_compartment(cl, v, time):
    """Superposition of the two boluses."""
    k = cl / v
    return 100 / v * np.exp(-k * time) + 50 / v * np.exp(-k * (time - 8)) * (time > 8)


def test_it_is_a_structure_and_a_predictor():
    structure = compartments(2, absorption="first_order", dosing=("ALAG1",))
    assert isinstance(structure, Structure)
    assert structure.parameters == ("ka", "CL", "V1", "V2", "Q", "ALAG1")
    assert structure.lines == ("concentration",)
    predictor = structure.bind(data_of())
    assert isinstance(predictor, Predictor)
    assert predictor.parameters == structure.parameters


@pytest.mark.parametrize("shape", ["scalar", "subject", "record"])
def test_parameters_may_be_scalars_by_subject_or_by_record(shape):
    data = data_of()
    cl = {"scalar": 2.0, "subject": np.array([2.0, 3.0]), "record": np.full((2, 5), 2.0)}[shape]
    v = {"scalar": 20.0, "subject": np.array([20.0, 25.0]), "record": np.full((2, 5), 20.0)}[shape]
    got = compartments(1).bind(data)({"CL": cl, "V": v})
    time = np.array([2.0, 6.0, 20.0])
    second = (3.0, 25.0) if shape == "subject" else (2.0, 20.0)
    want = np.concatenate([one_compartment(2.0, 20.0, time), one_compartment(*second, time)])
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_volume_of_the_record_divides_the_amount():
    volume = np.array([[20.0, 21.0, 22.0, 23.0, 24.0]] * 2)
    got = np.asarray(compartments(1).bind(data_of())({"CL": 0.0 * volume + 1e-9, "V": volume}))
    np.testing.assert_allclose(got[:3], [100 / 21, 100 / 22, 150 / 24], rtol=1e-8)
    wide = compartments(1).bind(data_of())({"CL": 1e-9, "V": volume[:1]})
    np.testing.assert_allclose(wide, got, rtol=1e-8)


def test_two_compartments_with_lag_and_bioavailability_against_an_integrator():
    p = {"ka": 0.8, "CL": 2.0, "V1": 15.0, "V2": 30.0, "Q": 4.0, "ALAG1": 0.7, "F1": 0.6}
    structure = compartments(2, absorption="first_order", dosing=("ALAG1", "F1"))
    got = structure.bind(data_of())(p)

    def rhs(_, y):
        flow = p["Q"] * (y[1] / p["V1"] - y[2] / p["V2"])
        return [-p["ka"] * y[0], p["ka"] * y[0] - p["CL"] / p["V1"] * y[1] - flow, flow]

    def at(time):
        y, begin = np.zeros(3), 0.0
        for when, amount in ((0.7, 100.0), (8.7, 50.0)):
            if time < when:
                break
            y = solve_ivp(rhs, (begin, when), y, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
            y[0] += p["F1"] * amount
            begin = when
        return solve_ivp(rhs, (begin, time), y, method="DOP853", rtol=1e-12, atol=1e-12).y[1, -1]

    want = np.array([at(t) for t in (2.0, 6.0, 20.0)]) / p["V1"]
    np.testing.assert_allclose(got[:3], want, rtol=1e-9)


def test_derivatives_stay_with_their_subject():
    predictor = compartments(1).bind(data_of())

    def predict(cl):
        return predictor({"CL": cl, "V": 20.0})

    cl = np.array([2.0, 3.0])
    got = np.asarray(jax.jacobian(predict)(cl))
    assert np.all(got[:3, 1] == 0)
    assert np.all(got[3:, 0] == 0)
    h = 1e-6
    time = np.array([2.0, 6.0, 20.0])
    numeric = (one_compartment(2 + h, 20.0, time) - one_compartment(2 - h, 20.0, time)) / (2 * h)
    np.testing.assert_allclose(got[:3, 0], numeric, rtol=1e-7)


def test_a_subject_that_cannot_be_solved_is_named_and_the_other_is_not():
    predictor = compartments(1).bind(data_of())
    values = {"CL": np.array([2.0, np.nan]), "V": np.array([20.0, 20.0])}
    got = np.asarray(predictor(values))
    assert np.all(np.isfinite(got[:3]))
    assert np.all(np.isnan(got[3:]))
    assert list(predictor.problems(values)) == [1]
    assert "subject 2" in predictor.problems(values)[1]
    assert predictor.problems({"CL": 2.0, "V": 20.0}) == {}


def test_mistakes_are_said():
    with pytest.raises(PkpdError, match=r"dosing parameter 'LAG1'.*ALAGn"):
        compartments(1, dosing=("LAG1",))
    for name in ("F2", "F", "ALAG0"):
        with pytest.raises(PkpdError, match=f"dosing parameter '{name}'.*: 1 central"):
            compartments(1, dosing=(name,))
    with pytest.raises(DataError, match="RATE -2 asks for a parameter Dn"):
        compartments(1).bind(data_of(rate=-2.0))
    # that of another compartment is none: the infusion would last an hour
    for letter, code in (("D", -2.0), ("R", -1.0)):
        oral = compartments(1, absorption="first_order", dosing=(f"{letter}2",))
        with pytest.raises(DataError, match=f"{letter}n that the model lacks, with n = 1"):
            oral.bind(data_of(rate=code))
    with pytest.raises(PkpdError, match="parameter 'V': is missing"):
        compartments(1).bind(data_of())({"CL": 1.0})
    with pytest.raises(PkpdError, match="parameter 'ka': is not a parameter"):
        compartments(1).bind(data_of())({"CL": 1.0, "V": 1.0, "ka": 1.0})
    named = dataclasses.replace(data_of(), lines=("effect",))
    with pytest.raises(DataError, match=r"line 'effect': is not predicted.*concentration"):
        compartments(1).bind(named)
    own = dataclasses.replace(data_of(), lines=("paracetamol",))
    assert compartments(1, line="paracetamol").bind(own).parameters == ("CL", "V")
