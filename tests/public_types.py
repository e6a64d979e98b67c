"""What a type checker sees of the public functions; `make types` reads this, nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Literal, assert_type

import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

import pkpd
from pkpd.checks import (
    VPC,
    Calibration,
    Checks,
    FitComparison,
    LeaveOneOut,
    Profiles,
    bootstrap,
    calibrate,
    compare_fits,
    leave_one_out,
    profile_likelihood,
    runs,
    vpc,
)
from pkpd.data import Dataset
from pkpd.evidence import EvidencePosterior, EvidenceTable, load_evidence, shipped_posterior
from pkpd.models import PopulationModel, compartments, parameter, residual
from pkpd.results import ComparisonResult, Fit, IndividualEstimates, MaximumLikelihood, Scenario
from pkpd.schedule import Regimen
from pkpd.trials import Trial


def simulating() -> None:
    """Schedules, comparisons and cards."""
    regimen = assert_type(pkpd.daily("drug", "1 mg", days="1", route="oral"), Regimen)
    assert_type(pkpd.simulate(regimen, "population"), xr.Dataset)
    assert_type(pkpd.exposures(regimen, "population"), xr.Dataset)
    assert_type(pkpd.load_trial("trial"), Trial)
    assert_type(pkpd.load_scenario("scenario"), Scenario)
    assert_type(assert_type(pkpd.compare(), ComparisonResult).table(), pd.DataFrame)
    assert_type(load_evidence(), EvidenceTable)
    assert_type(shipped_posterior(), EvidencePosterior | None)


def fitting(either: Literal["nuts", "focei"]) -> None:
    """Each method of `fit` has its result, and what checks make of it."""
    data = assert_type(pkpd.read_nonmem("file.csv"), Dataset)
    assert_type(pkpd.nca(data), pd.DataFrame)
    parameters = [parameter("CL", 1.0), parameter("V", 10.0)]
    model = PopulationModel(compartments(1), parameters, residual.additive(1.0))
    posterior = assert_type(pkpd.fit(model, data), Fit)
    assert_type(pkpd.fit(model, data, method="nuts", draws=10), Fit)
    assert_type(pkpd.fit(model, data, method="map"), Fit)
    maximum = assert_type(pkpd.fit(model, data, method="focei", starts=2), MaximumLikelihood)
    assert_type(pkpd.fit(model, data, method="laplace"), MaximumLikelihood)
    assert_type(pkpd.fit(model, data, method=either), Fit | MaximumLikelihood)
    pkpd.fit(model, data, method="bayes")  # pyright: ignore[reportArgumentType, reportCallIssue]
    pkpd.fit(model, data, draw=10)  # pyright: ignore[reportCallIssue]
    assert_type(pkpd.load_fit("fit.nc", model, data), Fit | MaximumLikelihood)
    assert_type(bootstrap(maximum, by="SEX").table(), pd.DataFrame)
    assert_type(compare_fits(maximum, maximum), FitComparison)
    assert_type(profile_likelihood(maximum, ["CL"]), Profiles)
    assert_type(runs("folder"), pd.DataFrame)
    assert_type(pkpd.individual(maximum), IndividualEstimates)
    assert_type(pkpd.check(maximum), Checks)
    assert_type(vpc(posterior, x="time_after_dose", bins=5), VPC)
    assert_type(leave_one_out(posterior), LeaveOneOut)
    calibration = assert_type(calibrate(model, data), Calibration)
    assert_type(calibration.plot(), Axes)
    pkpd.check(3)  # pyright: ignore[reportArgumentType]
