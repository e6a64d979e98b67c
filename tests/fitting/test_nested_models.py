"""Which models lie in which, and what is told of the step from one to the other."""

from __future__ import annotations

import pandas as pd
import pytest

import pkpd
from pkpd.fitting.maximum.description import description, extra_parameters
from pkpd.fitting.maximum.predicted import _text, same_functions
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.uncertainty.likelihood_ratio import _Run, _step
from pkpd.models import (
    EventOptions,
    PopulationModel,
    compartments,
    covariate,
    derived,
    fixed,
    from_column,
    michaelis_menten,
    ode_model,
    parameter,
    residual,
)


@pytest.fixture(scope="module")
def data():
    rows = [(1, 0, 100, None, 60), (1, 2, 0, 4.0, 70), (1, 9, 0, 2.0, 80)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "WT"])
    return pkpd.read_nonmem(table, covariates=["WT"])


def run(name, data, structure, parameters, error, objective):
    likelihood = bind(PopulationModel(structure, parameters, error), data)
    free = FreeParameters(likelihood)
    return _Run(name, description(free), "focei", objective, objective, len(free.names))


def drifting(**process):
    return residual.additive(0.3, processes=[residual.ornstein_uhlenbeck(**process)])


def test_only_a_process_that_the_smaller_model_lacks_has_no_p_value(data):
    parameters = [parameter("CL", 2.0), parameter("V", 20.0)]
    larger = run("b", data, compartments(1), parameters, drifting(sd=0.2, tau_h=9.0), 10.0)
    for error, further in (
        (residual.additive(0.3), 2),
        (drifting(sd=fixed(0.2), tau_h=fixed(9.0)), 2),
        (drifting(sd=0.2, tau_h=fixed(9.0)), 1),
    ):
        smaller = run("a", data, compartments(1), parameters, error, 15.0)
        row, told = _step(larger, smaller)
        assert row["degrees"] == further
        without = not error.processes
        assert ("has a process whose time scale" in "".join(told)) == without
        assert (row["p"] < 0.1) != without


def test_a_parameter_may_be_called_tau(data):
    structure = ode_model(
        lambda t, y, p: {"central": -y["central"] / p["tau"]},
        states=["central"],
        parameters=["tau"],
        outputs={"concentration": lambda y, p: y["central"]},
        max_step_h=0.5,
    )
    smaller, larger = (
        run(name, data, structure, [parameter("tau", 9.0, effects=more)], residual.additive(1), at)
        for name, more, at in (("a", (), 15.0), ("b", covariate.power("WT", 70), 10.0))
    )
    assert _step(larger, smaller)[0]["p"] == pytest.approx(0.0253, abs=1e-4)


@pytest.mark.parametrize("form", ["linear", "equations"])
def test_records_that_hold_the_other_way_are_another_structure(data, form):
    def described(carry, **more):
        options = EventOptions(carry=carry)
        values = {"CL": 2.0} if form == "linear" else {"Vmax": 2.0, "Km": 1.0}
        structure = (
            compartments(1, options=options)
            if form == "linear"
            else michaelis_menten(1, events=options, max_step_h=0.5)
        )
        parameters = [parameter("V", 20.0, **more), *(parameter(*one) for one in values.items())]
        likelihood = bind(PopulationModel(structure, parameters, residual.additive(1.0)), data)
        return description(FreeParameters(likelihood))

    few = described("backward")
    assert list(extra_parameters(few, described("backward", iiv=0.3))) == ["omega_V"]
    assert extra_parameters(few, described("forward", iiv=0.3)) is None


def described(data, structure, parameters):
    likelihood = bind(PopulationModel(structure, parameters, residual.additive(1.0)), data)
    return description(FreeParameters(likelihood))


def test_a_parameter_from_a_column_lies_in_no_typical_value():
    table = pd.DataFrame(
        [(1, 0, 100, None, 2.0, 3.0), (1, 2, 0, 4.0, 2.0, 3.0)],
        columns=["ID", "TIME", "AMT", "DV", "CLI", "CLJ"],
    )
    data = pkpd.read_nonmem(table, covariates=["CLI", "CLJ"])
    volume, wide = parameter("V", 20.0), parameter("V", 20.0, iiv=0.3)
    few = described(data, compartments(1), [from_column("CL", "CLI"), volume])
    for more in ({}, {"iiv": 0.3}):
        many = described(data, compartments(1), [parameter("CL", 2.0, **more), volume])
        assert extra_parameters(few, many) is None
    same, other = (
        described(data, compartments(1), [from_column("CL", name), wide]) for name in ("CLI", "CLJ")
    )
    assert list(extra_parameters(few, same)) == ["omega_V"]
    assert extra_parameters(few, other) is None


def test_functions_are_compared_by_what_they_compute(data):
    def by_equations(rate, cl=2.0, **more):
        structure = ode_model(
            lambda t, y, p: {"central": -rate(p) * y["central"]},
            states=["central"],
            parameters=["CL", "V"],
            outputs={"concentration": lambda y, p: y["central"] / p["V"]},
            max_step_h=0.5,
        )
        return described(data, structure, [parameter("CL", cl, **more), parameter("V", 20.0)])

    few = by_equations(lambda p: p["CL"] / p["V"])
    # other starts, and the same written otherwise, are the same model
    wide = by_equations(lambda p: 2.0 * p["CL"] / (p["V"] + p["V"]), 3.0, iiv=0.3)
    assert list(extra_parameters(few, wide)) == ["omega_CL"]
    assert extra_parameters(few, by_equations(lambda p: p["CL"] / 20.0, iiv=0.3)) is None
    gone = {"predictions": [_text([float("nan")])], "settings": []}
    assert not same_functions(gone, gone)  # what is solved nowhere tells nothing
    kept = [{name: one for name, one in of.items() if name != "functions"} for of in (few, wide)]
    assert extra_parameters(*kept) is None  # an older file does not tell


def test_derived_parameters_are_compared_by_what_they_compute(data):
    def by_ratio(ratio, **more):
        parameters = [derived("CL", ratio), parameter("V", 20.0, **more), parameter("k", 0.1)]
        return described(data, compartments(1), parameters)

    few = by_ratio(lambda k, V: k * V)
    weight = covariate.power("WT", 70)
    assert list(extra_parameters(few, by_ratio(lambda k, V: V * k, effects=weight))) == ["V_WT"]
    assert extra_parameters(few, by_ratio(lambda k, V: k + V, effects=weight)) is None
    assert extra_parameters(few, by_ratio(lambda k, V: k * V * V / 20.0, iiv=0.3)) is None
    plain = described(data, compartments(1), [parameter("CL", 2.0), parameter("V", 20.0)])
    assert plain["functions"] is None
