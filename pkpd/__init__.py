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
    from pkpd.data.counts import read_counts
    from pkpd.data.dataset import Dataset
    from pkpd.data.nonmem import read_nonmem
    from pkpd.dosing import (
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
    from pkpd.engine.compartments import linear_system
    from pkpd.errors import CardError, DataError, PkpdError, UnitError
    from pkpd.infer import covariate_effects as covariate
    from pkpd.infer import plots, residual
    from pkpd.infer.calibration import calibrate, load_calibration
    from pkpd.infer.checks import Checks, check
    from pkpd.infer.fit import Fit, fit, load_fit
    from pkpd.infer.guest import observe, predictions
    from pkpd.infer.leave_one_out import compare_models, leave_one_out
    from pkpd.infer.max_likelihood import MaximumLikelihood
    from pkpd.infer.priors import Prior, fixed
    from pkpd.infer.simulate_data import simulate_data
    from pkpd.infer.specification import PopulationModel, from_column, parameter
    from pkpd.infer.vpc import vpc
    from pkpd.model.joint import JointModel, load_model
    from pkpd.model.marrow import Friberg, PlateletChain
    from pkpd.model.parameters import draw_parameters, typical
    from pkpd.outcome.counts import simulate
    from pkpd.outcome.transfusion import TransfusionPolicy
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
    from pkpd.report.fit_page import write_fit_page
    from pkpd.subjects import PatientSample, Population, patients, sample_population
    from pkpd.trials import DLTRule, Trial

_WHERE = {
    "CardError": "pkpd.errors",
    "Checks": "pkpd.infer.checks",
    "ComparisonResult": "pkpd.comparison.results",
    "Course": "pkpd.dosing",
    "Criterion": "pkpd.dosing",
    "DLTRule": "pkpd.trials",
    "DataError": "pkpd.errors",
    "Dataset": "pkpd.data.dataset",
    "DoseModification": "pkpd.dosing",
    "DoseRule": "pkpd.dosing",
    "EndpointRow": "pkpd.comparison.results",
    "Fit": "pkpd.infer.fit",
    "Friberg": "pkpd.model.marrow",
    "Gate": "pkpd.dosing",
    "JointModel": "pkpd.model.joint",
    "LinearStructure": "pkpd.predict.pk",
    "MaximumLikelihood": "pkpd.infer.max_likelihood",
    "PairRow": "pkpd.comparison.results",
    "PatientSample": "pkpd.subjects",
    "PkpdError": "pkpd.errors",
    "PlateletChain": "pkpd.model.marrow",
    "Population": "pkpd.subjects",
    "PopulationModel": "pkpd.infer.specification",
    "Prior": "pkpd.infer.priors",
    "Regimen": "pkpd.dosing",
    "Scenario": "pkpd.comparison.scenario",
    "TransfusionPolicy": "pkpd.outcome.transfusion",
    "Trial": "pkpd.trials",
    "TrialResult": "pkpd.comparison.results",
    "UnitError": "pkpd.errors",
    "calibrate": "pkpd.infer.calibration",
    "check": "pkpd.infer.checks",
    "compare": "pkpd.comparison.run",
    "compare_models": "pkpd.infer.leave_one_out",
    "compartments": "pkpd.predict.pk",
    "daily": "pkpd.dosing",
    "describe": "pkpd.dosing",
    "direct_effect": "pkpd.predict.response",
    "draw_parameters": "pkpd.model.parameters",
    "effect_compartment": "pkpd.predict.response",
    "fit": "pkpd.infer.fit",
    "fixed": "pkpd.infer.priors",
    "from_column": "pkpd.infer.specification",
    "leave_one_out": "pkpd.infer.leave_one_out",
    "linear_system": "pkpd.engine.compartments",
    "load_calibration": "pkpd.infer.calibration",
    "load_fit": "pkpd.infer.fit",
    "load_model": "pkpd.model.joint",
    "load_population": "pkpd.cards.population_cards",
    "load_rule": "pkpd.cards",
    "load_scenario": "pkpd.comparison.scenario",
    "load_trial": "pkpd.cards",
    "marrow_model": "pkpd.predict.marrow",
    "michaelis_menten": "pkpd.predict.response",
    "observe": "pkpd.infer.guest",
    "ode_model": "pkpd.predict.ode",
    "on_off": "pkpd.dosing",
    "parameter": "pkpd.infer.specification",
    "patients": "pkpd.subjects",
    "predictions": "pkpd.infer.guest",
    "read_counts": "pkpd.data.counts",
    "read_nonmem": "pkpd.data.nonmem",
    "sample_population": "pkpd.subjects",
    "simulate": "pkpd.outcome.counts",
    "simulate_data": "pkpd.infer.simulate_data",
    "target_mediated": "pkpd.predict.response",
    "turnover": "pkpd.predict.response",
    "typical": "pkpd.model.parameters",
    "vpc": "pkpd.infer.vpc",
    "write_fit_page": "pkpd.report.fit_page",
}

# whole modules, under the word that reads best before a dot: pkpd.residual.additive(0.7)
_MODULES = {
    "covariate": "pkpd.infer.covariate_effects",
    "plots": "pkpd.infer.plots",
    "residual": "pkpd.infer.residual",
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
    "Fit",
    "Friberg",
    "Gate",
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
    "describe",
    "direct_effect",
    "draw_parameters",
    "effect_compartment",
    "fit",
    "fixed",
    "from_column",
    "leave_one_out",
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
