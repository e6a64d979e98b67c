from .clock import Clock, clock_days, clock_of
from .death import early_death
from .dlt import DLTOutcome, DLTSensitivity, evaluate_rule, sensitivity
from .grades import grade
from .recovery import (
    RecoveryDefinition,
    days_below,
    line_outcomes,
    nadir,
    recovery_after,
    recovery_days,
)
from .resolution import Visits
from .response import best_response
from .results import Recovery
from .split import Split, split

__all__ = [
    "Clock",
    "DLTOutcome",
    "DLTSensitivity",
    "Recovery",
    "RecoveryDefinition",
    "Split",
    "Visits",
    "best_response",
    "clock_days",
    "clock_of",
    "days_below",
    "early_death",
    "evaluate_rule",
    "grade",
    "line_outcomes",
    "nadir",
    "recovery_after",
    "recovery_days",
    "sensitivity",
    "split",
]
