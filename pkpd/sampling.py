"""Which samples: what a sampling design is expected to tell.

`group` describes subjects who are sampled alike, `expected_information` foretells the standard
errors of a model's parameters under groups of them. Which visits tell most about one patient's
day of recovery is `pkpd.forecasting.choose_visits`.

Examples
--------
>>> from pkpd.sampling import group
>>> group(32, [1, 24], {"AMT": 70}).subjects
32.0
"""

from __future__ import annotations

from pkpd.fitting.information.expected import ExpectedInformation, expected_information
from pkpd.fitting.information.groups import SamplingGroup, group
from pkpd.fitting.information.times import OptimalTimes, optimal_times

__all__ = [
    "ExpectedInformation",
    "OptimalTimes",
    "SamplingGroup",
    "expected_information",
    "group",
    "optimal_times",
]
