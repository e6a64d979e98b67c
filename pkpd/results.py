"""What the functions of `pkpd` return, for annotations and `isinstance`."""

from __future__ import annotations

from pkpd.comparison.results import ComparisonResult, EndpointRow, PairRow, TrialResult
from pkpd.comparison.scenario import Scenario
from pkpd.fitting.fit import Fit
from pkpd.fitting.maximum.individual_estimates import IndividualEstimates
from pkpd.fitting.maximum.result import MaximumLikelihood

__all__ = [
    "ComparisonResult",
    "EndpointRow",
    "Fit",
    "IndividualEstimates",
    "MaximumLikelihood",
    "PairRow",
    "Scenario",
    "TrialResult",
]
