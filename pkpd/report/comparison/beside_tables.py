"""Words beside the tables of a comparison: which rule is marked, what a difference is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pkpd.comparison.results import TrialResult


def rule_as_run(result: TrialResult) -> str:
    """How the rule as run is marked among other rules, or that it is not among them."""
    curves, attrs = result.curves, result.curves.attrs
    if not str(attrs.get("rule_kind", "not_recovered")).startswith("not_recovered"):
        return (
            "Shares not recovered by a day: the rule as run is of low counts, and not among them."
        )
    axes = {
        "rule_neutrophils": "neutrophil_threshold",
        "rule_platelets": "platelet_threshold",
        "rule_by_day": "by_day",
    }
    for name, axis in axes.items():
        if not np.isclose(curves[axis].values, float(attrs.get(name, np.nan))).any():
            return "The rule as run is not among them."
    return "Outlined: the rule as run."


BOTH = (
    "The difference is the first schedule's risk minus the second's, of the patients who can be "
    "judged under both: the risks of the table are each of its own patients."
)
"""Beside differences of risks between two schedules."""

TIES = (
    "Draws in which both risks are the same count half for each schedule. Few simulated patients "
    "make many such draws, and bring the share to 50 %: the interval of the difference does not "
    "have that."
)
"""Beside shares of draws in which one schedule has the lower risk."""
