from .catalogue import DESIGNS, STOPS
from .data import Action, Decision, Decisions, Pending, TrialData, Trials, Why
from .design_card import DesignFile, load_design
from .exact.characteristics import characteristics
from .exact.courses import Courses, enumerate_courses
from .exact.pathways import Pathways, pathways
from .protocol import Design
from .rules.backfill import BackfillBOIN
from .rules.blrm import BLRM, dose_by_draws, dose_by_mtd
from .rules.crm import CRM, TiteCRM, incoherent_patient
from .rules.interval import BOIN, MTPI2, Boundaries, Keyboard
from .rules.isotonic import isotonic_limits, isotonic_risks
from .rules.model_based import OverdoseControl
from .rules.skeletons import skeleton
from .rules.three_plus_three import RollingSix, ThreePlusThree
from .rules.tite_boin import TiteBOIN
from .simulate.paired import MEASURES, compare_trials
from .simulate.patients import Accrual, EventTimes, Outcomes, Responses, RiskOutcomes
from .simulate.trials import simulate_trials
from .stopping import EnoughAtDose, PreciseAtDose, StoppingRule, TooToxic
from .tables import DecisionTable, PendingRow, decision_table, pending_table
from .weights import (
    adaptive_weight,
    forecast_of_weight,
    linear_weight,
    piecewise_weight,
    weight_of_forecast,
)

__all__ = [
    "BLRM",
    "BOIN",
    "CRM",
    "DESIGNS",
    "MEASURES",
    "MTPI2",
    "STOPS",
    "Accrual",
    "Action",
    "BackfillBOIN",
    "Boundaries",
    "Courses",
    "Decision",
    "DecisionTable",
    "Decisions",
    "Design",
    "DesignFile",
    "EnoughAtDose",
    "EventTimes",
    "Keyboard",
    "Outcomes",
    "OverdoseControl",
    "Pathways",
    "Pending",
    "PendingRow",
    "PreciseAtDose",
    "Responses",
    "RiskOutcomes",
    "RollingSix",
    "StoppingRule",
    "ThreePlusThree",
    "TiteBOIN",
    "TiteCRM",
    "TooToxic",
    "TrialData",
    "Trials",
    "Why",
    "adaptive_weight",
    "characteristics",
    "compare_trials",
    "decision_table",
    "dose_by_draws",
    "dose_by_mtd",
    "enumerate_courses",
    "forecast_of_weight",
    "incoherent_patient",
    "isotonic_limits",
    "isotonic_risks",
    "linear_weight",
    "load_design",
    "pathways",
    "pending_table",
    "piecewise_weight",
    "simulate_trials",
    "skeleton",
    "weight_of_forecast",
]
