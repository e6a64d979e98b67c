"""Which models lie in which, and what is told of the step from one to the other."""

from __future__ import annotations

import pandas as pd
import pytest

import pkpd
from pkpd.fitting.maximum.description import description, extra_parameters
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.uncertainty.likelihood_ratio import _Run, _step
from pkpd.models import (
    EventOptions,
    PopulationModel,
    compartments,
    covariate,
    fixed,
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
