"""New patients of a fit under other doses, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import conjugate
import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.draws import Draws
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.models import (
    PopulationModel,
    compartments,
    covariate,
    parameter,
    residual,
    simulate_data,
    simulate_fit,
)

TIMES = [0.0, 2.0, 10.0]
DRAWS = 4000


def table(amounts, sex=None, column="DV"):
    rows = []
    for i, amount in enumerate(amounts):
        more = {} if sex is None else {"SEX": sex[i]}
        rows.append({"ID": i, "TIME": 0.0, "AMT": amount, "EVID": 1, column: None} | more)
        rows += [
            {"ID": i, "TIME": t, "AMT": 0.0, "EVID": 0, column: 1.0} | more for t in (1.0, 4.0, 9.0)
        ]
    return pd.DataFrame(rows)


def read(*args, **how):
    return pkpd.read_nonmem(table(*args), **{"units": {"AMT": "mg", "DV": "mg/L"}} | how)


@pytest.fixture(scope="module")
def straight():
    return pkpd.fit(conjugate.model(), conjugate.data(n=20), method="focei", progress=False)


@pytest.fixture(scope="module")
def one_compartment():
    model = PopulationModel(
        compartments(1),
        [
            parameter("CL", 2.0, iiv=0.3, effects=[*covariate.category("SEX", "male", 0.2)]),
            parameter("V", 20.0),
        ],
        residual.proportional(0.1),
    )
    words = ["female", "male"] * 6
    data = read([100.0] * 12, words, covariates=["SEX"])
    return pkpd.fit(model, simulate_data(model, data, seed=2), method="focei", progress=False)


def design_of(straight):
    return straight.likelihood.dataset.subset(straight.likelihood.dataset.subjects[:3])


def test_means_and_spreads_are_those_of_the_closed_form(straight):
    """Patients vary by omega, lines by the errors of level and slope; errors are independent."""
    omega, sigma = conjugate.OMEGA, conjugate.SIGMA
    free = FreeParameters(straight.likelihood)
    covariance = np.asarray(straight.covariance_x)
    assert free.names == ("level", "slope")
    t = np.array(TIMES)
    mean = straight.estimates["level"] + straight.estimates["slope"] * t
    line = np.array([np.array([1.0, x]) @ covariance @ np.array([1.0, x]) for x in t])
    for uncertain, patients, errors in (
        (True, True, True),
        (True, True, False),
        (False, True, False),
        (True, False, False),
    ):
        found = simulate_fit(
            straight, design_of(straight), TIMES, draws=DRAWS, uncertain=uncertain,
            patients=patients, residual=errors,
        )["height"].values  # fmt: skip
        expected = uncertain * line + patients * omega**2 + errors * sigma**2
        # subjects of a draw share its parameters: the mean is known to the draws, not more
        scale = np.sqrt(expected / DRAWS)
        assert np.all(abs(found.mean(axis=(0, 1)) - mean) < 4.0 * scale + 1e-9)
        for subject in range(3):
            np.testing.assert_allclose(found[:, subject].var(axis=0), expected, rtol=0.12)
    assert found.std(axis=1).max() == pytest.approx(0.0, abs=1e-12)  # typical ones are alike


def test_without_uncertainty_and_patients_it_is_the_typical_prediction(one_compartment):
    new = simulate_fit(
        one_compartment, read([50.0, 300.0], ["male", "female"], covariates=["SEX"]), [0, 6],
        draws=2, uncertain=False, patients=False,
    )  # fmt: skip
    values = one_compartment.estimates
    by_sex = {"female": 1.0, "male": np.exp(values["CL_SEX_male"])}
    for place, (amount, sex) in enumerate(((50.0, "male"), (300.0, "female"))):
        k = values["CL"] * by_sex[sex] / values["V"]
        expected = amount / values["V"] * np.exp(-k * np.array([0.0, 6.0]))
        np.testing.assert_allclose(new["concentration"][0, place], expected, rtol=1e-6)
        np.testing.assert_allclose(new["concentration"][1, place], expected, rtol=1e-6)


def test_two_designs_have_the_same_patients(one_compartment):
    how = {"draws": 30, "seed": 5}
    sexes = ["male", "female"]
    low, high = (
        simulate_fit(one_compartment, read([a, a], sexes, covariates=["SEX"]), [3, 8], **how)
        for a in (100.0, 200.0)
    )
    np.testing.assert_allclose(high["concentration"], 2.0 * low["concentration"], rtol=1e-9)
    assert low["population_CL"].std() > 0.0
    assert low.attrs["parameters"].startswith("normal approximation")
    assert low["concentration"].attrs["unit"] == "mg/L"
    other = simulate_fit(
        one_compartment, read([100.0] * 2, sexes, covariates=["SEX"]), [3, 8], draws=30, seed=6
    )
    assert not np.allclose(other["concentration"], low["concentration"])


def test_a_design_of_women_alone_is_one_of_women(one_compartment):
    """Words are numbered in each table from 0: men alone would have been women."""
    how = {"draws": 1, "uncertain": False, "patients": False}
    men = simulate_fit(one_compartment, read([100.0], ["male"], covariates=["SEX"]), [6], **how)
    both = simulate_fit(
        one_compartment, read([100.0] * 2, ["female", "male"], covariates=["SEX"]), [6], **how
    )
    woman, man = both["concentration"].values[0, :, 0]
    assert men["concentration"].values[0, 0, 0] == pytest.approx(man, rel=1e-12)
    assert woman != pytest.approx(man, rel=1e-3)


@pytest.mark.parametrize(
    ("sexes", "how", "told"),
    [
        (["man"], {}, "covariate SEX: it has the word man, .*; allowed: female, male"),
        ([1.0], {}, "covariate SEX: it has numbers, and .* has not"),
        (["male"], {"units": {"AMT": "umol"}}, "AMT is in umol, .* have it in mg; read both"),
    ],
)
def test_a_design_unlike_the_data_is_refused(one_compartment, sexes, how, told):
    design = read([100.0], sexes, covariates=["SEX"], **how)
    with pytest.raises(PkpdError, match=told):
        simulate_fit(one_compartment, design, [6])


def test_a_design_without_units_is_told(one_compartment):
    design = read([100.0], ["male"], covariates=["SEX"], units=None)
    with pytest.warns(PkpdWarning, match=r"declare units of AMT \(mg\), and the design none"):
        simulate_fit(one_compartment, design, [6.0], draws=1)


def test_one_man_is_a_man_in_estimates_of_his_own(one_compartment):
    """His own table numbers him 0, as the fit's data number women."""
    own = pkpd.individual(one_compartment, read([100.0], ["male"], covariates=["SEX"]))
    both = read([100.0] * 2, ["female", "male"], covariates=["SEX"])
    two = pkpd.individual(one_compartment, both)
    np.testing.assert_allclose(own.parameters["CL"][0], two.parameters["CL"][1], rtol=1e-6)
    woman = pkpd.individual(one_compartment, read([100.0], ["female"], covariates=["SEX"]))
    np.testing.assert_allclose(woman.parameters["CL"][0], two.parameters["CL"][0], rtol=1e-6)


def test_what_cannot_be_simulated_is_a_sentence(one_compartment, straight):
    with pytest.raises(PkpdError, match="SEX"):
        simulate_fit(one_compartment, read([100.0]), [6])
    with pytest.raises(PkpdError, match="times_h: is empty; give hours"):
        simulate_fit(straight, design_of(straight), [])
    without = replace(straight, covariance_x=np.full((2, 2), np.nan))
    with pytest.raises(PkpdError, match=r"200 draws are asked of .* without standard errors"):
        simulate_fit(without, design_of(straight), [1.0])


def test_patients_that_cannot_be_solved_are_counted(straight, monkeypatch):
    from pkpd.fitting.model.population_likelihood import PopulationLikelihood

    predictions = PopulationLikelihood.predictions
    monkeypatch.setattr(
        PopulationLikelihood, "predictions",
        lambda self, *of: predictions(self, *of).at[0].set(np.nan),
    )  # fmt: skip
    with pytest.warns(PkpdWarning, match="5 of 15 simulated patients could not be solved"):
        found = simulate_fit(straight, design_of(straight), TIMES, draws=5)
    assert found.attrs["failed"] == 5
    assert np.isnan(found["height"].values[:, 0, 0]).all()
    assert np.isfinite(found["height"].values[:, 1:]).all()


def test_a_posterior_is_drawn_from_its_own_draws(straight):
    own = np.linspace(0.5, 1.5, 40)
    random = np.zeros((40, *straight.random.shape))
    held = {name: np.full(40, value) for name, value in straight.estimates.items()}
    sampled = Draws(straight.likelihood, held | {"level": own}, random)
    found = simulate_fit(sampled, design_of(straight), TIMES, draws=20, patients=False)
    assert np.isin(found["population_level"].values, own).all()
    expected = found["population_level"] + straight.estimates["slope"] * found["time"]
    np.testing.assert_allclose(found["height"][:, 0], expected)
    assert found.attrs["parameters"] == "20 of 40 posterior draws"
