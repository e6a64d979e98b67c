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
    from pkpd.errors import CardError, DataError, PkpdError, UnitError
    from pkpd.model.joint import JointModel, load_model
    from pkpd.model.parameters import draw_parameters, typical
    from pkpd.outcome.counts import simulate
    from pkpd.outcome.transfusion import TransfusionPolicy
    from pkpd.subjects import PatientSample, Population, patients, sample_population
    from pkpd.trials import DLTRule, Trial

_WHERE = {
    "CardError": "pkpd.errors",
    "ComparisonResult": "pkpd.comparison.results",
    "Course": "pkpd.dosing",
    "Criterion": "pkpd.dosing",
    "DLTRule": "pkpd.trials",
    "DataError": "pkpd.errors",
    "Dataset": "pkpd.data.dataset",
    "DoseModification": "pkpd.dosing",
    "DoseRule": "pkpd.dosing",
    "EndpointRow": "pkpd.comparison.results",
    "Gate": "pkpd.dosing",
    "JointModel": "pkpd.model.joint",
    "PairRow": "pkpd.comparison.results",
    "PatientSample": "pkpd.subjects",
    "PkpdError": "pkpd.errors",
    "Population": "pkpd.subjects",
    "Regimen": "pkpd.dosing",
    "Scenario": "pkpd.comparison.scenario",
    "TransfusionPolicy": "pkpd.outcome.transfusion",
    "Trial": "pkpd.trials",
    "TrialResult": "pkpd.comparison.results",
    "UnitError": "pkpd.errors",
    "compare": "pkpd.comparison.run",
    "daily": "pkpd.dosing",
    "describe": "pkpd.dosing",
    "draw_parameters": "pkpd.model.parameters",
    "load_model": "pkpd.model.joint",
    "load_population": "pkpd.cards.population_cards",
    "load_rule": "pkpd.cards",
    "load_scenario": "pkpd.comparison.scenario",
    "load_trial": "pkpd.cards",
    "on_off": "pkpd.dosing",
    "patients": "pkpd.subjects",
    "read_nonmem": "pkpd.data.nonmem",
    "sample_population": "pkpd.subjects",
    "simulate": "pkpd.outcome.counts",
    "typical": "pkpd.model.parameters",
}

__all__ = [
    "CardError",
    "ComparisonResult",
    "Course",
    "Criterion",
    "DLTRule",
    "DataError",
    "Dataset",
    "DoseModification",
    "DoseRule",
    "EndpointRow",
    "Gate",
    "JointModel",
    "PairRow",
    "PatientSample",
    "PkpdError",
    "Population",
    "Regimen",
    "Scenario",
    "TransfusionPolicy",
    "Trial",
    "TrialResult",
    "UnitError",
    "__version__",
    "compare",
    "daily",
    "describe",
    "draw_parameters",
    "load_model",
    "load_population",
    "load_rule",
    "load_scenario",
    "load_trial",
    "on_off",
    "patients",
    "read_nonmem",
    "sample_population",
    "simulate",
    "typical",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    msg = f"module 'pkpd' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
