"""What a fit says is true: what data cannot tell is named, and no number stands for it."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

import pkpd
from benchmarks.honest import problem, run
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.model.impossible import refuse_impossible
from pkpd.fitting.model.likelihood import bind
from pkpd.models import (
    PopulationModel,
    compartments,
    covariate,
    derived,
    fixed,
    parameter,
    residual,
)

COLUMNS = ["ID", "TIME", "AMT", "EVID", "DV"]


def study(subjects=8, times=(1, 4, 8), scatter=0.1, seed=0, before=None):
    """One dose into one compartment, and perhaps a value an hour before it."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(1, subjects + 1):
        cl, v = 3 * np.exp(0.3 * rng.standard_normal()), 30 * np.exp(0.2 * rng.standard_normal())
        if before is not None:
            rows.append((i, -1.0, 0.0, 0, before))
        rows.append((i, 0.0, 100.0, 1, None))
        for t in times:
            exact = 100 / v * np.exp(-cl / v * t)
            rows.append((i, float(t), 0.0, 0, exact * (1 + scatter * rng.standard_normal())))
    return pd.DataFrame(rows, columns=COLUMNS)


def model(error, **spread):
    return PopulationModel(
        compartments(1),
        [parameter("CL", 4.0, iiv=0.3, **spread), parameter("V", 20.0, iiv=0.2)],
        error,
    )


def fitted(made, table, method="focei", **options):
    return pkpd.fit(made, pkpd.read_nonmem(table), method=method, progress=False, **options)


# What is impossible ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["focei", *(pytest.param(m, marks=pytest.mark.slow) for m in ("foce", "fo", "laplace", "map"))],
)
def test_values_before_the_first_dose_are_refused_with_their_rows(method):
    with pytest.raises(PkpdError) as caught:
        fitted(model(residual.proportional(0.1)), study(before=0.02), method)
    words = str(caught.value)
    assert "row 0, ID 1, 0.02 at -1 h" in words
    assert "and 5 more" in words
    assert "additive part" in words


def test_zeros_before_the_first_dose_are_refused_where_an_error_has_no_width():
    """Each added -55.26 to the objective, whatever the model: 2 log(1e-12)."""
    with pytest.raises(PkpdError, match=r"row 0, ID 1, 0 at -1 h.*the density of 0 has no bound"):
        fitted(model(residual.proportional(0.1)), study(before=0.0))


@pytest.mark.slow
def test_a_lag_that_hides_zeros_is_told_to_have_no_maximum():
    made = PopulationModel(
        compartments(1, absorption="first_order", dosing=["ALAG1"]),
        [parameter(n, v) for n, v in (("CL", 4.0), ("V", 20.0), ("ka", 1.0), ("ALAG1", 0.45))],
        residual.proportional(0.3),
    )
    rng, rows = np.random.default_rng(1), []
    for i in range(1, 9):
        rows.append((i, 0.0, 100.0, 1, np.nan))
        for t in (0.5, 1.0, 2.0, 4.0, 8.0, 12.0):
            f = 6.25 * (np.exp(-0.2 * (t - 0.7)) - np.exp(-(t - 0.7))) if t > 0.7 else 0.0
            rows.append((i, t, 0.0, 0, f * (1 + 0.1 * rng.standard_normal())))
    found = fitted(made, pd.DataFrame(rows, columns=COLUMNS))
    assert any("the density of 0 has no bound" in message for message in found.messages)
    assert not found.converged


@pytest.mark.parametrize("form", ["proportional", "lognormal"])
def test_errors_of_subjects_own_are_looked_at_on_their_own_scale(form):
    of_all = [parameter(name, value) for name, value in (("CL", 4.0), ("V", 20.0), ("noise", 1.0))]
    noisy = PopulationModel(compartments(1), of_all, getattr(residual, form)(0.1, scale="noise"))
    likelihood = bind(noisy, pkpd.read_nonmem(study(scatter=0.0)))
    m = len(likelihood.dataset.observations)
    # where 0 is predicted nothing has width; the logarithm of 1 is 0 as well, and has its own
    log_sd = np.full(m, np.log(1e-12 if form == "proportional" else 0.1))
    predicted = np.concatenate([np.zeros(m), log_sd])
    if form == "proportional":
        with pytest.raises(PkpdError, match="the model predicts 0"):
            refuse_impossible(likelihood, None, predicted)
    else:
        refuse_impossible(likelihood, None, predicted)


@pytest.mark.slow
def test_an_additive_part_takes_values_before_the_first_dose():
    fit = fitted(model(residual.combined(0.05, 0.1)), study(before=0.02))
    assert fit.converged


def test_an_absurd_objective_has_not_converged():
    # an error that is held far too small: a minimum of a likelihood that is none
    error = residual.additive(fixed(1e-7))
    made = PopulationModel(compartments(1), [parameter("CL", 4.0), parameter("V", 20.0)], error)
    fit = fitted(made, study())
    assert not fit.converged
    assert "no chance" in " ".join(fit.messages)


# What sentences name --------------------------------------------------------------------------


@pytest.mark.long
def test_a_covariate_that_never_changes_is_named():
    table = study().assign(WT=80.0)
    made = model(residual.proportional(0.1), effects=covariate.power("WT", 70))
    data = pkpd.read_nonmem(table, covariates=["WT"])
    with pytest.warns(PkpdWarning, match="WT is 80 in all subjects"):
        fit = pkpd.fit(made, data, method="focei", progress=False)
    words = " ".join(fit.messages)
    assert "WT is 80 in all subjects" in words
    assert "Hessian" not in words
    assert np.isnan(fit.standard_errors["CL_WT"])
    assert np.isfinite(fit.standard_errors["CL"])


@pytest.mark.long
def test_a_correlation_at_its_limit_is_not_called_unidentified():
    rng, rows = np.random.default_rng(1), []
    for i in range(12):
        both = np.exp(0.4 * rng.standard_normal())  # clearance and volume are one random effect
        rows.append((i, 0.0, 100.0, 1, None))
        for t in (1, 4, 8):
            exact = 100 / (30 * both) * np.exp(-0.1 * t)
            rows.append((i, float(t), 0.0, 0, exact * (1 + 0.02 * rng.standard_normal())))
    made = PopulationModel(
        compartments(1),
        [parameter("CL", 4.0, iiv=0.3), parameter("V", 20.0, iiv=0.2)],
        residual.proportional(0.1),
        correlated=[("CL", "V")],
    )
    words = " ".join(fitted(made, pd.DataFrame(rows, columns=COLUMNS)).messages)
    assert "partial_CL_V is estimated at its limit of 0.9995" in words
    assert "not identified" not in words


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [pytest.param(residual.proportional(0.1), marks=pytest.mark.long), residual.additive(0.2)],
)
def test_an_observation_a_thousand_times_too_large_is_named(error):
    table = study()
    assert "Is it in their unit?" not in " ".join(fitted(model(error), table).messages)
    table.loc[6, "DV"] *= 1000
    with pytest.warns(PkpdWarning, match="row 6, ID 2, "):
        words = " ".join(fitted(model(error), table).messages)
    assert "row 6, ID 2, " in words
    assert "times as high as any other subject's at about that time" in words


# The mode of the posterior --------------------------------------------------------------------


@pytest.mark.slow
def test_a_variance_whose_mode_is_at_zero_leaves_the_others_their_answers():
    rng, rows = np.random.default_rng(3), []
    for i in range(12):  # subjects differ in clearance alone, less than nothing in volume
        cl = 3 * np.exp(0.4 * rng.standard_normal())
        rows.append((i, 0.0, 100.0, 1, None))
        for k, t in enumerate((1, 2, 4, 8)):
            exact = 100 / 30 * np.exp(-cl / 30 * t)
            rows.append((i, float(t), 0.0, 0, exact * (1 + 0.1 * (-1) ** (i + k))))
    fit = fitted(
        model(residual.proportional(0.1)), pd.DataFrame(rows, columns=COLUMNS), "map", draws=100
    )
    table = fit.table()
    assert table.loc["omega_V", "sd"] < 1e-9
    assert table.loc["omega_V", "mean"] < 0.01
    assert table.loc["CL", "sd"] > 0.01
    assert table.loc["V", "mean"] == pytest.approx(30, rel=0.1)
    assert "The mode of omega_V is at zero" in fit.summary()


# Subjects and those beside them ---------------------------------------------------------------


class Rounded:
    """Subjects with one random effect, whose gradients are exact to their ``grain`` only."""

    def __init__(self, grain, curvature):
        self.grain, self.curvature = np.array(grain), np.array(curvature)
        self.shape, self.asked = (len(grain), 1), 0

    def central(self, x):
        return np.zeros(1)

    def only_of(self, u, who):
        return u

    def value(self, x, u, central):
        return 0.5 * u[:, 0] ** 2 + self.curvature * u[:, 0] ** 4

    def exact(self, x, u, central):
        self.asked += 1
        # rounding is now large, now small
        noise = self.grain * (1.0 if self.asked % 3 else 0.3)
        gradient = u + 4 * self.curvature[:, None] * u**3 + noise[:, None]
        hessian = 1.0 + 12 * self.curvature[:, None, None] * u[:, :, None] ** 2
        return self.value(x, u, central), gradient, hessian

    def approximate(self, x, u, central):
        value, gradient, hessian = self.exact(x, u, central)
        self.asked = 0
        return value, 0.0 * gradient, hessian


@pytest.mark.parametrize("grain", np.geomspace(3e-4, 8e-3, 8))
def test_what_becomes_of_a_subject_does_not_depend_on_its_batch(grain):
    x, start = np.zeros(0), np.array([[1.0], [9.0]])
    alone = find_modes(Rounded([grain], [0.0]), x, start[:1])
    beside = find_modes(Rounded([grain, 0.0], [0.0, 10.0]), x, start)
    assert alone.converged[0] == beside.converged[0]
    assert alone.u[0] == beside.u[0]


# More than one minimum ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_other_side_of_the_flip_flop_is_looked_at():
    rng, rows = np.random.default_rng(5), []
    for i in range(10):  # absorption is slow, varies, and sets the end of the curve
        ka, v, k = 0.15 * np.exp(0.4 * rng.standard_normal()), 20.0, 1.0
        rows.append((i, 0.0, 100.0, 1, None))
        for t in (0.5, 1, 2, 4, 8, 16):
            exact = 100 * ka / (v * (ka - k)) * (np.exp(-k * t) - np.exp(-ka * t))
            rows.append((i, float(t), 0.0, 0, exact * (1 + 0.1 * rng.standard_normal())))
    start = (parameter("ka", 1.0, iiv=0.3), parameter("CL", 18.0), parameter("V", 120.0))
    made = PopulationModel(
        compartments(1, absorption="first_order"), [*start], residual.proportional(0.1)
    )
    table = pd.DataFrame(rows, columns=COLUMNS)
    one = fitted(made, table, covariance=None)
    assert one.estimates["ka"] > 0.5  # the side of its start
    assert "exchanged the objective is lower by 80" in " ".join(one.messages)
    assert "begin at ka=0.13" in " ".join(one.messages)
    two = fitted(made, table, covariance=None, starts=2, seed=1)
    assert two.converged
    assert two.estimates["ka"] == pytest.approx(0.13, rel=0.1)
    assert two.objective == pytest.approx(-338.89, abs=0.05)


@pytest.mark.slow
def test_a_flip_flop_that_data_do_not_decide_is_told():
    found = problem(233)
    fit = fitted(found.model, found.table, covariance=None)
    assert fit.estimates["ka"] > 0.5  # the truth is 0.15, where the objective is 1.0 higher
    said = " ".join(fit.messages)
    assert re.search(r"exchanged the objective is higher by 1\.\d only: there are two minima", said)
    assert re.search(r"begin at ka=0\.15\d*, CL=20\.\d, V=22\.\d for the other", said)
    # an end to which the exchange comes back is no second minimum
    plain = fitted(model(residual.proportional(0.1)), study(), covariance=None)
    assert "exchanged" not in " ".join(plain.messages)


@pytest.mark.slow
def test_a_random_effect_that_may_be_absent_is_told():
    found = problem(66)
    fit = fitted(found.model, found.table)
    told = [f for f in fit.findings if f.kind == "not told from zero"]
    assert [f.parameters for f in told] == [("omega_V",)]
    # without it, fitted anew, the objective is 3.126 higher
    rise = float(re.search(r"is (\d\.\d) higher at most", str(told[0]))[1])
    assert 3.1 <= rise < 3.84


@pytest.mark.slow
def test_an_approximate_posterior_says_what_its_mode_rests_on(tmp_path):
    found = problem(9)  # flip-flop, begun on the other side
    fit = fitted(found.model, found.table, method="map")
    (one,) = [f for f in fit.findings if f.kind == "rests on start"]
    assert "exchanged the objective is lower by" in str(one)
    assert "starts=2" not in str(one)
    assert str(one) in fit.summary()
    assert str(one) in set(fit.judged["sentence"])
    fit.save(tmp_path / "fit.nc")
    again = pkpd.load_fit(tmp_path / "fit.nc", found.model, pkpd.read_nonmem(found.table))
    assert again.findings == fit.findings


@pytest.mark.slow
def test_the_look_comes_before_a_start_is_refused_with_priors_too():
    found = problem(4)  # minutes that are read as hours
    with pytest.warns(PkpdWarning, match="times seem to be minutes"), pytest.raises(PkpdError):
        fitted(found.model, found.table, method="map")
    few = problem(28)  # three subjects with one value each
    with warnings.catch_warnings(record=True) as caught, suppress(PkpdError):
        warnings.simplefilter("always", PkpdWarning)
        fitted(few.model, few.table, method="map")
    told = " ".join(str(one.message) for one in caught)
    assert "fewer observations (3) than parameters to estimate (5). Priors decide." in told


@pytest.mark.slow
def test_starts_say_how_many_agree():
    fit = fitted(model(residual.proportional(0.1)), study(), starts=3, seed=1, covariance=None)
    assert "3 of 3 starts agree on the lowest objective" in " ".join(fit.messages)


# Curvature that is zero -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        pytest.param((0.3, 0.3), marks=pytest.mark.slow),
        pytest.param((0.1, 0.4), marks=pytest.mark.long),
        pytest.param((0.2, 0.6), marks=pytest.mark.long),
    ],
)
def test_parameters_told_only_together_have_no_standard_errors(start):
    first = [parameter("A", 3.0, iiv=start[0]), parameter("B", fixed(1.0), iiv=start[1])]
    made = PopulationModel(
        compartments(1),
        [*first, derived("CL", lambda A, B: A * B), parameter("V", 30.0)],
        residual.proportional(0.1),
    )
    fit = fitted(made, study(12, (0.5, 2, 6, 12)))
    errors = fit.standard_errors
    assert np.isnan(errors["omega_A"])
    assert np.isnan(errors["omega_B"])
    assert errors["A"] == pytest.approx(0.318, rel=0.02)
    assert errors["V"] == pytest.approx(1.108, rel=0.02)
    assert "omega_A and omega_B are told only together" in " ".join(fit.messages)
    assert fit.summary().count("not told") == 2


def test_answers_of_another_method_are_not_taken(tmp_path):
    """Those of MAP, kept first, were the answers of FOCEI."""
    for method in ("map", "focei", "map"):
        made = run(
            str(tmp_path), "problems", 2, 1,
            lambda i, by=method: {"index": i, "failed": False, "by": by}, method,
        )  # fmt: skip
        assert [one["by"] for one in made] == [method] * 2
