"""A fit as the source: its residual error, and other ways to the same answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import holding
from pkpd.forecasting import forecaster, measurement_of, most_probable, read_seen
from pkpd.forecasting.tempering import Tempering
from pkpd.models import (
    PopulationModel,
    compartments,
    marrow_model,
    parameter,
    residual,
)

DAYS = (1, 4, 8, 11, 13, 15)
COUNTS = (5.2, 4.1, 1.3, 0.5, 0.45, 0.9)
DOSE_MG = 180.0
SCHEDULE = pkpd.daily("any drug", f"{DOSE_MG:g} mg", days="1-3", route="iv", duration="1 h")
PEOPLE = pkpd.subjects.patients(
    {"age": 60.0, "male": 1, "weight": 75.0, "height": 175.0, "scr": 1.0}, seed=4
)


def one_line() -> PopulationModel:
    own = [parameter("CL", 30.0, iiv=0.3), parameter("V", 60.0)]
    own += [parameter("slope", 2.0, iiv=0.5), parameter("circ0", 4.5, iiv=0.25)]
    own += [parameter("MTT", 100.0, iiv=0.2), parameter("gamma", 0.17)]
    return PopulationModel(
        marrow_model(compartments(1)), own, {"neutrophils": residual.lognormal(0.3)}
    )


@pytest.fixture(scope="module")
def data():
    """The patient as a data set with doses."""
    rows = [(1, 24.0 * day, DOSE_MG, DOSE_MG, 1, None) for day in range(3)]
    # a count of a morning comes before the dose
    rows += [
        (1, 24.0 * (day - 1), 0.0, 0.0, 0, value)
        for day, value in zip(DAYS, COUNTS, strict=True)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "RATE", "EVID", "DV"])
    frame = frame.sort_values(["TIME", "EVID"])
    frame["DVID"] = 1
    return pkpd.read_nonmem(frame, lines={1: "neutrophils"})


@pytest.fixture(scope="module")
def source(data):
    likelihood = bind(one_line(), data)
    fitted = single_draw(likelihood, {}, np.zeros((1, likelihood.random_effects.size)))
    return pkpd.source(PEOPLE, posterior=fitted, patients=1)


@pytest.fixture(scope="module")
def seen():
    return read_seen({"DAY": list(DAYS), "ANC": list(COUNTS)})[0][0]


def test_counts_scatter_by_the_residual_error_of_the_fit(source):
    error = measurement_of(source).errors["neutrophils"]
    assert error.error.form == "lognormal"
    assert float(np.asarray(error.coefficients[0])[0]) == 0.3
    assert error.error.nu is None
    assert measurement_of(source).errors["platelets"].error.nu is not None


def test_a_model_with_its_values_is_a_source_as_its_fit_is(source, seen):
    own = pkpd.source(PEOPLE, posterior=one_line())
    found = [
        forecaster(one, 30, bank=500).weighed(seen, SCHEDULE, "importance") for one in (own, source)
    ]
    np.testing.assert_array_equal(found[0].log_likelihood, found[1].log_likelihood)
    assert measurement_of(own).words == "residual error of the population model"
    with pytest.raises(PkpdError, match="which has one value of each parameter"):
        pkpd.source(PEOPLE, posterior=one_line(), draws=2)
    with pytest.raises(PkpdError, match="has no blood counts"):
        pkpd.source(
            PEOPLE,
            posterior=PopulationModel(
                compartments(1),
                [parameter("CL", 30.0), parameter("V", 60.0)],
                {"concentration": residual.proportional(0.1)},
            ),
        )


def test_the_most_probable_patient_has_the_middle_body(seen):
    """Doses by weight: of three bodies the first is the lightest."""
    own = {"age": 60.0, "male": 1, "height": 175.0, "scr": 1.0}
    by_weight = pkpd.daily("any drug", "2.4 mg/kg", days="1-3", route="iv", duration="1 h")
    made = {}
    for name, weights in (("three", [50.0, 110.0, 75.0]), ("middle", [75.0]), ("first", [50.0])):
        people = pkpd.subjects.patients(
            {"weight": weights} | {key: [value] * len(weights) for key, value in own.items()},
            seed=4,
        )
        made[name] = pkpd.source(people, posterior=one_line())
    found = {
        name: most_probable(one, by_weight, 30, seen, measurement_of(one))
        for name, one in made.items()
    }
    assert (found["three"].body, found["middle"].body) == (2, 0)
    assert found["three"].log_posterior == pytest.approx(found["middle"].log_posterior, abs=1e-5)
    assert abs(found["first"].log_posterior - found["middle"].log_posterior) > 1e-3


@pytest.mark.slow
def test_the_most_probable_patient_is_that_of_individual_estimates(source, data, seen):
    """By `pkpd.individual`, whose machinery agrees with NONMEM's POSTHOC."""
    mode = most_probable(source, SCHEDULE, 30, seen, measurement_of(source))
    assert mode.converged
    estimates = pkpd.individual(one_line(), data)
    place = {name.removeprefix("fit:"): i for i, name in enumerate(mode.lanes.names)}
    for name, omega in (("CL", 0.3), ("slope", 0.5), ("circ0", 0.25), ("MTT", 0.2)):
        eta = float(estimates.eta.sel(parameter=name).values[0])
        se = float(estimates.eta_se.sel(parameter=name).values[0])
        assert omega * mode.scores[place[name]] == pytest.approx(eta, abs=0.01)
        spread = omega * np.sqrt(mode.covariance[place[name], place[name]])
        # the curvature here is that of Gauss and Newton
        assert spread == pytest.approx(se, rel=0.15)


@pytest.mark.slow  # quick ones see each of the two engines alone
def test_importance_and_tempering_agree(source, seen):
    made = forecaster(source, 30, bank=20_000)
    made.tempering = Tempering(2000)
    name = "neutrophils >= 0.5"
    shares = []
    for engine in ("importance", "smc"):
        one = made.weighed(seen, SCHEDULE, engine)
        days = one.bank.recovery[name]
        shares.append([float(one.weights @ (days <= day)) for day in (13, 14, 15, 16, 18)])
        assert engine == "smc" or one.k < 0.7
    np.testing.assert_allclose(*shares, atol=0.06)


@pytest.mark.long  # test_series has the closed form of both
def test_sampling_with_gradients_is_the_judge_of_both(source, data, seen):
    """NUTS of the patient's random effects, the population held."""
    fit = pkpd.fit(
        holding(one_line()), data, method="nuts", draws=1000, tune=1000, chains=2, seed=3
    )
    later = data.at_times([24.0 * 16, 24.0 * 19, 24.0 * 22])
    likelihood = bind(holding(one_line()), later)
    fixed = fit.draws.fixed[0]
    judged = np.array(
        [np.log(np.asarray(likelihood.predictions(fixed, r))) for r in fit.draws.random[::4]]
    )
    made = forecaster(source, 30, bank=20_000)
    for engine in ("importance", "smc"):
        one = made.weighed(seen, SCHEDULE, engine)
        logs = one.bank.measured["neutrophils"][:, [16, 19, 22]].astype(float)
        mean = one.weights @ logs
        sd = np.sqrt(one.weights @ (logs - mean) ** 2)
        np.testing.assert_allclose(mean, judged.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(sd, judged.std(axis=0), rtol=0.2)
