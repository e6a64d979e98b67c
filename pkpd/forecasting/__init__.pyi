from .command import forecast_lines
from .doses import as_given, continuation, next_cycle
from .forecast import Forecaster, forecaster
from .measurement import CountError, Measurement, measurement_of
from .mode import Mode, central, most_probable
from .naive import LocalLevel, last_value, local_level
from .scores import difference, scored
from .seen import GivenDose, Seen, read_seen
from .series import LEVELS, NEXT, Horizon, forecast_series
from .weighing import Unexplained, Weighed

__all__ = [
    "LEVELS",
    "NEXT",
    "CountError",
    "Forecaster",
    "GivenDose",
    "Horizon",
    "LocalLevel",
    "Measurement",
    "Mode",
    "Seen",
    "Unexplained",
    "Weighed",
    "as_given",
    "central",
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
]
