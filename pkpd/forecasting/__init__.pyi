from .command import forecast_lines, visits_lines
from .doses import as_given, continuation, next_cycle
from .forecast import Forecaster, forecaster
from .measurement import CountError, Measurement, measurement_of
from .mode import Mode, central, most_probable
from .naive import LocalLevel, last_value, local_level
from .scores import difference, scored
from .seen import GivenDose, Seen, read_seen
from .series import LEVELS, NEXT, Horizon, forecast_series
from .trial_patients import WEIGHTS, TrialPatients, VirtualOutcomes, trial_patients
from .visit_plan import UsualVisits, VisitPlan, VisitSet
from .visits import choose_visits
from .weighing import Unexplained, Weighed

__all__ = [
    "LEVELS",
    "NEXT",
    "WEIGHTS",
    "CountError",
    "Forecaster",
    "GivenDose",
    "Horizon",
    "LocalLevel",
    "Measurement",
    "Mode",
    "Seen",
    "TrialPatients",
    "Unexplained",
    "UsualVisits",
    "VirtualOutcomes",
    "VisitPlan",
    "VisitSet",
    "Weighed",
    "as_given",
    "central",
    "choose_visits",
    "continuation",
    "difference",
    "forecast_lines",
    "forecast_series",
    "forecaster",
    "last_value",
    "local_level",
    "measurement_of",
    "most_probable",
    "next_cycle",
    "read_seen",
    "scored",
    "trial_patients",
    "visits_lines",
]
