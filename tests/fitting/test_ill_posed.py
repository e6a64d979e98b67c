"""Data that cannot tell a model's parameters: a fit says so, and never ends in a traceback."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.uncertainty.refit import Refit
from pkpd.models import PopulationModel, compartments, derived, fixed, parameter, residual

DOSE, CL, V = 100.0, 3.0, 30.0


def study(subjects, times, scatter, seed=0, size=1.0):
    """Rows of one dose and concentrations that scatter by a share of themselves."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(1, subjects + 1):
        rows.append((i, 0.0, DOSE, 1, None))
        for t in times:
            exact = size * DOSE / V * np.exp(-CL / V * t)
            rows.append((i, float(t), 0.0, 0, exact * (1 + scatter * rng.standard_normal())))
    return pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"]))


def model(error, *more):
    """One compartment."""
    first = (parameter("CL", 4.0, iiv=0.3), parameter("V", 20.0, iiv=0.2))
    return PopulationModel(compartments(1), [*(more or first)], error)


def alike(sigma):
    """Clearance is a product of two parameters that nothing tells apart."""
    return model(
        residual.additive(sigma),
        parameter("A", 3.0, iiv=0.3),
        parameter("B", fixed(1.0), iiv=0.3),
        derived("CL", lambda A, B: A * B),
        parameter("V", 30.0),
    )


def said(made, data, method="focei"):
    """What a fit says: its sentences, or the one by which it is refused; never a traceback."""
    try:
        with warnings.catch_warnings():
            # subjects of a study without scatter are copies, and a fit begins with saying so
            warnings.simplefilter("ignore", PkpdWarning)
            fit = pkpd.fit(made, data, method=method, progress=False)
    except PkpdError as error:
        return None, str(error)
    assert np.isfinite(fit.objective) or fit.messages
    assert fit.converged or fit.messages
    return fit, " ".join(fit.messages)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("proportional", marks=pytest.mark.long),
        pytest.param("additive", marks=pytest.mark.slow),
    ],
)
def test_data_without_error_have_no_maximum(kind):
    # six subjects that are the model itself: the likelihood grows without end as sigma falls
    fit, words = said(model(getattr(residual, kind)(0.1)), study(6, [1, 4, 8], 0.0))
    assert not fit.converged
    assert "sigma_concentration has run to zero" in words
    assert "6 subjects with 18 observations cannot tell it" in words
    assert "hardly changes" not in words
    # the search ends where sigma has vanished, and no curvature is looked for
    assert fit.estimates["sigma_concentration"] > 1e-9
    assert np.isnan(list(fit.standard_errors.values())).all()


@pytest.mark.slow
def test_zeros_before_a_lag_have_no_maximum():
    rng, rows = np.random.default_rng(2), []
    for i in range(8):
        lag = 1.0 * np.exp(0.3 * rng.standard_normal())
        rows.append((i, 0.0, 100.0, 1, None))
        for t in (0.25, 1.5, 2, 3, 6, 12, 24)[i > 2 :]:  # three subjects have an early zero
            past = max(t - lag, 0.0)
            exact = 5 * 1.1 * (np.exp(-0.1 * past) - np.exp(-past))
            noisy = exact * (1 + 0.1 * rng.standard_normal())
            rows.append((i, t, 0.0, 0, 0.0 if t < 1 else max(noisy, 0.05)))
    data = pkpd.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"]))
    lagged = PopulationModel(
        compartments(1, absorption="first_order", dosing=("ALAG1",)),
        [
            parameter("ka", 1.0),
            parameter("CL", 2.0, iiv=0.2),
            parameter("V", 20.0),
            parameter("ALAG1", 1.0, iiv=0.3),
        ],
        residual.combined(1e-3, 0.1),
    )
    fit, words = said(lagged, data)
    assert not fit.converged
    assert "additive has run to zero" in words
    assert "predicts exactly 0 where 0 was observed (row 1, ID 0, 0 at 0.25 h and 2 more)" in words
    assert "Start it again from these estimates" not in words
    refit, every = Refit.of(fit), np.ones(8)
    at = refit.point(refit.begin, every)
    assert refit.vanished(at, every) == ("sigma_concentration_additive",)
    assert refit.vanished(at, np.where(np.arange(8) > 2, 1.0, 0.0)) == ()  # the zeros are not drawn


@pytest.mark.slow
def test_an_ordinary_error_has_not_run_to_zero():
    fit, words = said(model(residual.proportional(0.1)), study(8, [1, 4, 8], 0.02))
    assert fit.converged
    assert "run to zero" not in words


@pytest.mark.slow
def test_an_error_of_values_over_six_decades_has_not_run_to_zero():
    # most standard deviations are a ten-millionth of the largest value, and a tenth of their own
    data = study(8, [1, 4, 130, 135, 140, 145, 150], 0.1)
    fit, words = said(model(residual.proportional(0.1)), data)
    assert fit.estimates["sigma_concentration"] == pytest.approx(0.1, rel=0.3)
    assert "run to zero" not in words


@pytest.mark.parametrize(
    "sigma",
    [
        pytest.param(1e-9, marks=pytest.mark.slow),
        pytest.param(1e-3, marks=pytest.mark.long),
        pytest.param(0.1, marks=pytest.mark.long),
    ],
)
def test_effects_that_act_alike_are_no_crash(sigma):
    # information of 1e18 along one direction: beside it the unit matrix is lost
    _, words = said(alike(sigma), study(12, [0.5, 2, 6, 12], 0.2, seed=1))
    assert words


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.slow if seed == 1 else pytest.mark.long)
        for seed in range(12)
    ],
)
def test_drawn_ill_posed_studies_end_in_a_fit_or_a_sentence(seed):
    rng = np.random.default_rng(seed)
    subjects = int(rng.choice([1, 1, 2, 3, 8]))
    times = np.sort(rng.choice([0.5, 1, 4, 8, 24, 100, 400], int(rng.choice([1, 1, 2, 3])), False))
    error = rng.choice([residual.proportional, residual.additive])(float(rng.choice([1e-6, 0.1])))
    data = study(subjects, times, float(rng.choice([0.0, 0.0, 0.1])), seed, rng.choice([1.0, 0.0]))
    made = rng.choice([model(error), alike(0.1)])
    method = str(rng.choice(["focei", "focei", "laplace", "map"]))
    fit, words = said(made, data, method)
    assert fit is not None or words
