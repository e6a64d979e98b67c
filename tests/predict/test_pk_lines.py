"""Linear structures that are observed in more than one compartment."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import DataError, PkpdError
from pkpd.models import (
    LinearStructure,
    PopulationModel,
    linear_system,
    marrow_model,
    ode_model,
    parameter,
    residual,
    simulate_data,
)

P = {"CL": 2.0, "V": 20.0, "CLm": 3.0, "Vm": 12.0}
DOSE = 100.0


def metabolism():
    return linear_system(
        "drug and metabolite",
        ["drug", "metabolite"],
        ["CL", "V", "CLm", "Vm"],
        lambda p: {(0, 1): p["CL"] / p["V"], (1, None): p["CLm"] / p["Vm"]},
    )


def structure(**changes):
    others = {"metabolite": ("metabolite", "Vm"), "formed": ("metabolite", None)}
    return LinearStructure(metabolism(), "V", **{"others": others, **changes})


def data_of(lines, subjects=2):
    rows = []
    for subject in range(1, subjects + 1):
        rows.append((subject, 0.0, 1, DOSE, 0, None))
        rows += [(subject, t, 0, 0.0, k, 1.0) for t in (1.0, 6.0, 20.0) for k in lines]
    columns = ["ID", "TIME", "EVID", "AMT", "DVID", "DV"]
    names = {1: "concentration", 2: "metabolite", 3: "formed"}
    return pkpd.read_nonmem(pd.DataFrame(rows, columns=columns), lines={k: names[k] for k in lines})


def by_hand(data, cl, v, clm, vm):
    """Exponentials of the drug and, after Bateman, of its metabolite."""
    seen = data.observations
    t = seen.time
    k, km = cl / v, clm / vm
    drug = DOSE * np.exp(-k * t)
    formed = DOSE * k / (km - k) * (np.exp(-k * t) - np.exp(-km * t))
    of = {"concentration": drug / v, "metabolite": formed / vm, "formed": formed}
    return np.choose(seen.line, [of[name] for name in data.lines])


@pytest.mark.parametrize(
    "lines", [(1, 2, 3), *(pytest.param(n, marks=pytest.mark.slow) for n in ((1, 2), (2,), (3, 1)))]
)
def test_drug_and_metabolite_are_those_of_the_closed_form(lines):
    data = data_of(lines)
    predict = structure().bind(data)
    assert predict.parameters == ("CL", "V", "CLm", "Vm")
    np.testing.assert_allclose(predict(P), by_hand(data, *P.values()), rtol=1e-11)
    volume = np.array([12.0, 18.0])
    got = jax.jit(predict)({**P, "Vm": volume})
    one, other = (by_hand(data, 2.0, 20.0, 3.0, vm) for vm in volume)
    np.testing.assert_allclose(got, np.where(data.observations.subject, other, one), rtol=1e-11)


def test_its_derivative_by_a_volume_is_that_of_the_closed_form():
    data = data_of((1, 2))
    predict = structure().bind(data)
    slope = jax.jit(jax.jacfwd(lambda vm: predict({**P, "Vm": vm})))(12.0)
    near = [by_hand(data, 2.0, 20.0, 3.0, 12.0 + h) for h in (1e-4, -1e-4)]
    np.testing.assert_allclose(slope, (near[0] - near[1]) / 2e-4, rtol=1e-6, atol=1e-9)


def test_a_volume_that_no_flow_reads_is_a_parameter():
    system = linear_system(
        "rates", ["drug", "metabolite"], ["k", "km"],
        lambda p: {(0, 1): p["k"], (1, None): p["km"]},
    )  # fmt: skip
    made = LinearStructure(system, "V", dosing=("F1",), others=[("metabolite", "metabolite", "Vm")])
    assert made.parameters == ("k", "km", "V", "Vm", "F1")
    data = data_of((1, 2))
    got = made.bind(data)({"k": 0.1, "km": 0.25, "V": 20.0, "Vm": 12.0, "F1": 1.0})
    np.testing.assert_allclose(got, by_hand(data, *P.values()), rtol=1e-11)


def test_a_population_model_has_a_residual_error_for_each_line():
    parameters = [parameter(name, value) for name, value in P.items()]
    errors = {
        "concentration": residual.proportional(0.1),
        "metabolite": residual.additive(0.2),
    }
    model = PopulationModel(structure(), parameters, errors)
    data = simulate_data(model, data_of((1, 2), subjects=200), seed=3)
    seen, exact = data.observations, by_hand(data, *P.values())
    off = seen.value - exact
    for line, sd in enumerate((0.1 * exact, 0.2 + 0.0 * exact)):
        z = (off / sd)[seen.line == line]
        # four standard errors of the mean and of the SD of 600 normal numbers: 0.041 and 0.029 each
        assert z.size == 600
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert np.std(z) == pytest.approx(1.0, abs=4 / np.sqrt(2 * z.size))
        assert np.abs(z).max() < 5.0  # farther out is one of 1,200 once in 1,450 samples
    # one line's error says nothing of the other's: at most four standard errors of a correlation
    one, other = ((off / exact)[seen.line == 0], off[seen.line == 1])
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(one.size)


def test_further_lines_are_those_of_a_model_of_equations():
    made = ode_model(
        lambda t, y, p: {"effect": -p["k"] * y["effect"]},
        states=["effect"],
        parameters=["k"],
        outputs={"twice": lambda y, p, c: 2.0 * c["metabolite"]},
        pk=structure(),
        typical={**P, "k": 0.1},
    )
    assert made.lines == ("concentration", "metabolite", "formed", "twice")
    data = data_of((1, 2, 3))
    got = made.bind(data)({**P, "k": 0.1})
    np.testing.assert_allclose(got, by_hand(data, *P.values()), rtol=1e-4)
    with pytest.raises(PkpdError, match="line 'metabolite' is not predicted beside a marrow"):
        marrow_model(structure())


def test_lines_that_cannot_be_are_refused():
    with pytest.raises(PkpdError, match="line 'x': is of 'liver', which is no compartment; allow"):
        structure(others={"x": ("liver", None)})
    with pytest.raises(PkpdError, match="line 'concentration': is there twice"):
        structure(others={"concentration": ("metabolite", "Vm")})
    with pytest.raises(DataError, match=r"line 'formed': is not predicted .*concentration"):
        structure(others=()).bind(data_of((1, 3)))
