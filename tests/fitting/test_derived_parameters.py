"""Individual parameters that are functions of others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_data import Straight, dataset_of

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.model.individuals import IndividualModel
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import deviations, fixed_effects, start_values
from pkpd.fitting.model.specification import PopulationModel, derived, from_column, parameter
from pkpd.models import compartments, residual
from pkpd.predict.ode import ode_model

ROWS = [(1, 0.0, None, 1.0), (1, 1.0, None, 1.0), (2, 0.0, None, 1.0), (2, 5.0, None, 1.0)]


def straight(parameters, **changes):
    model = PopulationModel(Straight(), parameters, residual.additive(1.0))
    return IndividualModel(model, dataset_of(ROWS, lines=("height",), **changes))


def test_a_derived_parameter_follows_the_patient_and_the_record():
    level = parameter("level", 2.0, iiv=0.3, iov=0.1)
    steep = parameter("steep", 0.5, scale="logit", iiv=0.2)
    made = straight(
        [derived("slope", lambda level, steep: level * (1.0 - steep)), level, steep],
        occasion=[0, 1, 0, 0],
    )
    # level and steep of each patient, then level of each patient's occasions
    random = jnp.array([[0.3, 0.1, 0.05, -0.05], [-0.4, -0.2, 0.02, 0.0]])
    got = made({"level": 2.0, "steep": 0.5}, random)
    assert list(got) == ["level", "slope"]
    want = 2.0 * np.exp([[0.35, 0.25], [-0.38, -0.38]])
    np.testing.assert_allclose(got["level"], want, rtol=1e-14)
    left = 1.0 - 1.0 / (1.0 + np.exp([[-0.1], [0.2]]))
    np.testing.assert_allclose(got["slope"], want * left, rtol=1e-14)
    assert list(fixed_effects(made.model)) == ["level", "steep", "sigma_height"]
    assert list(deviations(made.model)) == ["omega_level", "omega_steep", "omega_occasion_level"]


def test_known_values_and_constants_may_be_derived_from():
    covariates = {"A": [3.0, 3.0, 4.0, 4.0]}
    pair = [from_column("level", "A"), derived("slope", lambda level: 2.0 * level)]
    got = straight(pair, covariates=covariates)({}, jnp.zeros((2, 0)))
    np.testing.assert_allclose(got["slope"], [6.0, 8.0])
    constant = [parameter("level", 1.0), derived("slope", lambda: 0.25)]
    got = straight(constant)({"level": 1.0}, jnp.zeros((2, 0)))
    np.testing.assert_allclose(got["slope"], [0.25, 0.25])


TWO_WAYS = pd.DataFrame(
    [(1, 0, 1, 100, 1, None), (1, 0, 1, 100, 2, None), (1, 1, 0, 0, 2, 2.0), (1, 4, 0, 0, 2, 1.0)],
    columns=["ID", "TIME", "EVID", "AMT", "CMT", "DV"],
)


def test_what_is_not_absorbed_one_way_is_absorbed_the_other():
    data = pkpd.read_nonmem(TWO_WAYS)
    model = PopulationModel(
        compartments(1, absorption="first_order", dosing=("F1", "F2")),
        [
            parameter("ka", 0.8),
            parameter("CL", 3.0),
            parameter("V", 30.0),
            parameter("F1", 0.3, scale="logit", iiv=0.4),
            derived("F2", lambda F1: 1.0 - F1),
        ],
        residual.additive(0.2),
    )
    likelihood = bind(model, data)
    fixed = likelihood.fixed(start_values(model))

    def by_hand(eta):
        f1 = 1.0 / (1.0 + np.exp(-(np.log(0.3 / 0.7) + eta)))
        t, k, ka = np.array([1.0, 4.0]), 0.1, 0.8
        swallowed = f1 * 100 / 30 * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
        direct = (1 - f1) * 100 / 30 * np.exp(-k * t)
        return stats.norm(swallowed + direct, 0.2).logpdf([2.0, 1.0]).sum()

    both = jax.jit(jax.value_and_grad(lambda r: likelihood.total(fixed, r)))
    for eta in (0.0, 0.7):
        got, slope = both(jnp.array([[eta]]))
        assert float(got) == pytest.approx(by_hand(eta), rel=1e-10)
        numeric = (by_hand(eta + 1e-5) - by_hand(eta - 1e-5)) / 2e-5
        assert float(slope[0, 0]) == pytest.approx(numeric, rel=1e-7)
    renewed = model.with_values({"F1": 0.4})
    assert renewed["F2"].reads == ("F1",)


@pytest.mark.slow
def test_steps_of_equations_are_chosen_at_values_from_data_and_derived_ones():
    structure = ode_model(
        lambda t, y, p: {"a": -p["k"] * y["a"]},
        states=["a"],
        parameters=["k", "scale"],
        outputs={"height": lambda y, p: y["a"] / p["scale"]},
    )
    data = dataset_of(
        [(1, 0.0, 10.0, None), (1, 1.0, None, 1.0), (2, 0.0, 10.0, None), (2, 1.0, None, 1.0)],
        lines=("height",),
        covariates={"S": [2.0, 2.0, 4.0, 4.0]},
    )
    model = PopulationModel(
        structure,
        [from_column("scale", "S"), derived("k", lambda scale: 0.3 / scale)],
        residual.additive(1.0),
    )
    likelihood = bind(model, data)
    assert likelihood.predictor.structure.typical == pytest.approx({"k": 0.1125, "scale": 3.0})
    scale = np.array([2.0, 4.0])
    got = likelihood.predictions(likelihood.fixed(start_values(model)), jnp.zeros((2, 0)))
    np.testing.assert_allclose(got, 10.0 / scale * np.exp(-0.3 / scale), rtol=1e-5)


def test_what_cannot_be_derived_is_refused():
    level, slope = parameter("level", 1.0), parameter("slope", 1.0)
    cases = [
        ([level, derived("slope", lambda lever: lever)], "reads 'lever', which is no parameter of"),
        (
            [derived("level", lambda slope: slope), derived("slope", lambda level: level)],
            "reads 'slope', which is no parameter that is not derived itself",
        ),
        ([level, slope, parameter("other", 1.0)], "'other' is not a parameter of the structural"),
    ]
    for parameters, message in cases:
        with pytest.raises(PkpdError, match=message):
            straight(parameters)
    with pytest.raises(PkpdError, match=r"its function takes \*values"):
        derived("slope", lambda *values: values[0])
