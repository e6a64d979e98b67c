from .doses import as_given, continuation, next_cycle
from .forecast import Forecaster, forecaster
from .measurement import CountError, Measurement, measurement_of
from .seen import GivenDose, Seen, read_seen
from .weighing import Unexplained, Weighed

__all__ = [
    "CountError",
    "Forecaster",
    "GivenDose",
    "Measurement",
    "Seen",
    "Unexplained",
    "Weighed",
    "as_given",
    "continuation",
    "forecaster",
    "measurement_of",
    "next_cycle",
    "read_seen",
]
