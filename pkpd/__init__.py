"""From a dose schedule to blood-count recovery and delayed-recovery risk.

Names load on first use, so that ``import pkpd`` is quick and pulls in neither JAX nor PyMC nor
matplotlib.

Examples
--------
>>> import pkpd
>>> regimen = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
>>> regimen.drugs
('clofarabine',)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from pkpd.cards import load_rule, load_trial
    from pkpd.cards.population_cards import load_population
    from pkpd.comparison.results import ComparisonResult, EndpointRow, PairRow, TrialResult
    from pkpd.comparison.run import compare
    from pkpd.comparison.scenario import Scenario, load_scenario
    from pkpd.course.transfusion import TransfusionPolicy
    from pkpd.data.counts import read_counts
    from pkpd.data.dataset import Dataset
    from pkpd.data.nonmem import read_nonmem
    from pkpd.ensemble.simulate import simulate
    from pkpd.errors import CardError, DataError, PkpdError, UnitError
    from pkpd.fitting.bayes.guest import observe, predictions
    from pkpd.fitting.calibration.calibrate import calibrate, load_calibration
    from pkpd.fitting.checks.all_checks import Checks, check
    from pkpd.fitting.checks.leave_one_out import compare_models, leave_one_out
    from pkpd.fitting.checks.vpc import vpc
    from pkpd.fitting.fit import Fit, fit, load_fit
    from pkpd.fitting.leukaemia_model import leukaemia_model
    from pkpd.fitting.maximum.estimate import MaximumLikelihood
    from pkpd.fitting.maximum.individual_estimates import IndividualEstimates, individual
    from pkpd.fitting.model import covariate_effects as covariate
    from pkpd.fitting.model import residual
    from pkpd.fitting.model.priors import Prior, fixed
    from pkpd.fitting.model.specification import PopulationModel, derived, from_column, parameter
    from pkpd.fitting.plots import all_plots as plots
    from pkpd.fitting.simulate_data import simulate_data
    from pkpd.kinetics.compartments import linear_system
    from pkpd.marrow.friberg import Friberg, PlateletChain
    from pkpd.model.joint import JointModel, load_model
    from pkpd.model.parameters import draw_parameters, typical
    from pkpd.predict.marrow import marrow_model
    from pkpd.predict.ode import ode_model
    from pkpd.predict.pk import LinearStructure, compartments
    from pkpd.predict.response import (
        direct_effect,
        effect_compartment,
        michaelis_menten,
        target_mediated,
        turnover,
    )
    from pkpd.report.fit.page import write_fit_page
    from pkpd.schedule import (
        Course,
        Criterion,
        DoseModification,
        DoseRule,
        Gate,
        Regimen,
        daily,
        describe,
        on_off,
    )
    from pkpd.solve.events.timeline import EventOptions
    from pkpd.subjects import PatientSample, Population, patients, sample_population
    from pkpd.trials import DLTRule, Trial

_WHERE = {
    "CardError": "pkpd.errors",
    "Checks": "pkpd.fitting.checks.all_checks",
    "ComparisonResult": "pkpd.comparison.results",
    "Course": "pkpd.schedule",
    "Criterion": "pkpd.schedule",
    "DLTRule": "pkpd.trials",
    "DataError": "pkpd.errors",
    "Dataset": "pkpd.data.dataset",
    "DoseModification": "pkpd.schedule",
    "DoseRule": "pkpd.schedule",
    "EndpointRow": "pkpd.comparison.results",
    "EventOptions": "pkpd.solve.events.timeline",
    "Fit": "pkpd.fitting.fit",
    "Friberg": "pkpd.marrow.friberg",
    "Gate": "pkpd.schedule",
    "IndividualEstimates": "pkpd.fitting.maximum.individual_estimates",
    "JointModel": "pkpd.model.joint",
    "LinearStructure": "pkpd.predict.pk",
    "MaximumLikelihood": "pkpd.fitting.maximum.estimate",
    "PairRow": "pkpd.comparison.results",
    "PatientSample": "pkpd.subjects",
    "PkpdError": "pkpd.errors",
    "PlateletChain": "pkpd.marrow.friberg",
    "Population": "pkpd.subjects",
    "PopulationModel": "pkpd.fitting.model.specification",
    "Prior": "pkpd.fitting.model.priors",
    "Regimen": "pkpd.schedule",
    "Scenario": "pkpd.comparison.scenario",
    "TransfusionPolicy": "pkpd.course.transfusion",
    "Trial": "pkpd.trials",
    "TrialResult": "pkpd.comparison.results",
    "UnitError": "pkpd.errors",
    "calibrate": "pkpd.fitting.calibration.calibrate",
    "check": "pkpd.fitting.checks.all_checks",
    "compare": "pkpd.comparison.run",
    "compare_models": "pkpd.fitting.checks.leave_one_out",
    "compartments": "pkpd.predict.pk",
    "daily": "pkpd.schedule",
    "derived": "pkpd.fitting.model.specification",
    "describe": "pkpd.schedule",
    "direct_effect": "pkpd.predict.response",
    "draw_parameters": "pkpd.model.parameters",
    "effect_compartment": "pkpd.predict.response",
    "fit": "pkpd.fitting.fit",
    "fixed": "pkpd.fitting.model.priors",
    "from_column": "pkpd.fitting.model.specification",
    "individual": "pkpd.fitting.maximum.individual_estimates",
    "leukaemia_model": "pkpd.fitting.leukaemia_model",
    "leave_one_out": "pkpd.fitting.checks.leave_one_out",
    "linear_system": "pkpd.kinetics.compartments",
    "load_calibration": "pkpd.fitting.calibration.calibrate",
    "load_fit": "pkpd.fitting.fit",
    "load_model": "pkpd.model.joint",
    "load_population": "pkpd.cards.population_cards",
    "load_rule": "pkpd.cards",
    "load_scenario": "pkpd.comparison.scenario",
    "load_trial": "pkpd.cards",
    "marrow_model": "pkpd.predict.marrow",
    "michaelis_menten": "pkpd.predict.response",
    "observe": "pkpd.fitting.bayes.guest",
    "ode_model": "pkpd.predict.ode",
    "on_off": "pkpd.schedule",
    "parameter": "pkpd.fitting.model.specification",
    "patients": "pkpd.subjects",
    "predictions": "pkpd.fitting.bayes.guest",
    "read_counts": "pkpd.data.counts",
    "read_nonmem": "pkpd.data.nonmem",
    "sample_population": "pkpd.subjects",
    "simulate": "pkpd.ensemble.simulate",
    "simulate_data": "pkpd.fitting.simulate_data",
    "target_mediated": "pkpd.predict.response",
    "turnover": "pkpd.predict.response",
    "typical": "pkpd.model.parameters",
    "vpc": "pkpd.fitting.checks.vpc",
    "write_fit_page": "pkpd.report.fit.page",
}

# whole modules, under the word that reads best before a dot: pkpd.residual.additive(0.7)
_MODULES = {
    "covariate": "pkpd.fitting.model.covariate_effects",
    "plots": "pkpd.fitting.plots.all_plots",
    "residual": "pkpd.fitting.model.residual",
}

__all__ = [
    "CardError",
    "Checks",
    "ComparisonResult",
    "Course",
    "Criterion",
    "DLTRule",
    "DataError",
    "Dataset",
    "DoseModification",
    "DoseRule",
    "EndpointRow",
    "EventOptions",
    "Fit",
    "Friberg",
    "Gate",
    "IndividualEstimates",
    "JointModel",
    "LinearStructure",
    "MaximumLikelihood",
    "PairRow",
    "PatientSample",
    "PkpdError",
    "PlateletChain",
    "Population",
    "PopulationModel",
    "Prior",
    "Regimen",
    "Scenario",
    "TransfusionPolicy",
    "Trial",
    "TrialResult",
    "UnitError",
    "__version__",
    "calibrate",
    "check",
    "compare",
    "compare_models",
    "compartments",
    "covariate",
    "daily",
    "derived",
    "describe",
    "direct_effect",
    "draw_parameters",
    "effect_compartment",
    "fit",
    "fixed",
    "from_column",
    "individual",
    "leave_one_out",
    "leukaemia_model",
    "linear_system",
    "load_calibration",
    "load_fit",
    "load_model",
    "load_population",
    "load_rule",
    "load_scenario",
    "load_trial",
    "marrow_model",
    "michaelis_menten",
    "observe",
    "ode_model",
    "on_off",
    "parameter",
    "patients",
    "plots",
    "predictions",
    "read_counts",
    "read_nonmem",
    "residual",
    "sample_population",
    "simulate",
    "simulate_data",
    "target_mediated",
    "turnover",
    "typical",
    "vpc",
    "write_fit_page",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    msg = f"module 'pkpd' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
