"""Checking a fit, one check at a time; `pkpd.check` makes them all.

Each function takes a fit of `pkpd.fit` or what another function here made of it::

    simulations = simulate_replicates(fit, 500)
    errors = prediction_errors(simulations)
    check = vpc(simulations, x="time_after_dose")

`look_at_data` comes before any fit; `look_before_fit` holds data and a model's start side by side,
and `pkpd.fit` begins with it. Maximum-likelihood fits are compared by `compare_fits` and `runs`;
`covariate_search` adds covariates to one and `covariate_effects` says how much they do;
`bootstrap`, `resample` and `profile_likelihood` say how sure their estimates are.
"""

from __future__ import annotations

from pkpd.fitting.calibration.calibrate import Calibration, calibrate, load_calibration
from pkpd.fitting.checks.all_checks import Checks
from pkpd.fitting.checks.counts import CountCheck, count_checks
from pkpd.fitting.checks.diagnostics import SamplerDiagnostics, sampler_diagnostics
from pkpd.fitting.checks.leave_one_out import LeaveOneOut, compare_models, leave_one_out
from pkpd.fitting.checks.npde import PredictionErrors, prediction_errors
from pkpd.fitting.checks.replicates import Simulations, draws_of, simulate_replicates
from pkpd.fitting.checks.residuals import Residuals, residuals
from pkpd.fitting.checks.shrinkage import Shrinkage, shrinkage
from pkpd.fitting.checks.vpc import VPC, vpc
from pkpd.fitting.covariates.effects import covariate_effects
from pkpd.fitting.covariates.search import CovariateSearch, covariate_search
from pkpd.fitting.first_look.before_fit import LookBeforeFit, look_before_fit
from pkpd.fitting.first_look.overview import DataOverview, look_at_data
from pkpd.fitting.uncertainty.bootstrap import Bootstrap, bootstrap
from pkpd.fitting.uncertainty.likelihood_ratio import FitComparison, compare_fits, runs
from pkpd.fitting.uncertainty.profile import Profiles, profile_likelihood
from pkpd.fitting.uncertainty.resampling import Resampled, resample

__all__ = [
    "VPC",
    "Bootstrap",
    "Calibration",
    "Checks",
    "CountCheck",
    "CovariateSearch",
    "DataOverview",
    "FitComparison",
    "LeaveOneOut",
    "LookBeforeFit",
    "PredictionErrors",
    "Profiles",
    "Resampled",
    "Residuals",
    "SamplerDiagnostics",
    "Shrinkage",
    "Simulations",
    "bootstrap",
    "calibrate",
    "compare_fits",
    "compare_models",
    "count_checks",
    "covariate_effects",
    "covariate_search",
    "draws_of",
    "leave_one_out",
    "load_calibration",
    "look_at_data",
    "look_before_fit",
    "prediction_errors",
    "profile_likelihood",
    "resample",
    "residuals",
    "runs",
    "sampler_diagnostics",
    "shrinkage",
    "simulate_replicates",
    "vpc",
]
