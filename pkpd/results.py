"""What the functions of `pkpd` return, for annotations and `isinstance`."""

from __future__ import annotations

from pkpd.comparison.results import ComparisonResult, EndpointRow, PairRow, TrialResult
from pkpd.comparison.scenario import Scenario
from pkpd.fitting.maximum.individual_estimates import IndividualEstimates
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.sampled import Fit
from pkpd.forecasting.result import Forecast
from pkpd.search.result import SearchResult

__all__ = [
    "ComparisonResult",
    "EndpointRow",
    "Fit",
    "Forecast",
    "IndividualEstimates",
    "MaximumLikelihood",
    "PairRow",
    "Scenario",
    "SearchResult",
    "TrialResult",
]
