"""Endpoints that only a marrow with leukaemia has: remission, early death, counts at the start.

Remission, response and recovery in remission are read as the evidence reads them
(`pkpd.evidence.likelihood.simulator`): the posterior was learned by that reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pkpd.arrays import Floats
from pkpd.comparison import rows
from pkpd.comparison.lanes import CohortLook, LaneEndpoints, grade_words
from pkpd.comparison.results import EndpointRow
from pkpd.course.course import Course
from pkpd.endpoints.definitions import THRESHOLDS
from pkpd.endpoints.grades import grade
from pkpd.evidence.likelihood.simulator import observe
from pkpd.evidence.table.endpoints import Observable
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.schedule import Arm

Key = tuple[str, str, str]

DEATH_DAYS = (30, 60)
NO_BLASTS = 1e-3
"""Marrow blasts (%) of patients who have no leukaemia."""

RESPONSES: Mapping[str, tuple[str, str]] = {
    "complete_remission": ("CR", "CR"),
    "remission_any_counts": ("CR_CRi", "CR, CRh, CRi or marrow CR"),
    "response": ("ORR", "CR, CRi, PR"),
}
"""Endpoint -> code of the evidence and words."""

PREDICTED = {
    **rows.PREDICTED,
    "cr_rate": ("complete_remission", ""),
    "cr_cri_rate": ("remission_any_counts", ""),
    "orr": ("response", ""),
}
"""Published endpoint -> endpoint and line of the prediction it stands beside."""

OF_ANOTHER_TRIAL = "another trial"
"""How the definition begins of a figure that a trial's card gives of others."""
_DEATHS = re.compile(r"day(\d+)_mortality")


def stands_beside(published: str, row: EndpointRow) -> bool:
    """Whether a published endpoint is what a row predicts; deaths by the row's day."""
    if died := _DEATHS.fullmatch(published):
        return (row.endpoint, row.rule) == ("early_death", f"by day {died.group(1)}")
    return PREDICTED.get(published) == (row.endpoint, row.line)


@dataclass(frozen=True)
class LeukaemiaLook:
    """Reads the endpoints of one cohort off the course of its lanes.

    Attributes
    ----------
    look
        Reads those that every marrow has.
    arm
        An arm with the disease of the patients.
    """

    look: CohortLook
    arm: Arm

    def __call__(self, course: Course) -> LaneEndpoints:
        """Endpoints of every marrow, and those of this one."""
        every = self.look(course)
        own = self._values(ArmOutcomes(self.arm, course))
        return replace(every, values={**own, **every.values})

    def _values(self, outcomes: ArmOutcomes) -> dict[Key, Floats]:
        values: dict[Key, Floats] = {}
        # without blasts there is nothing to respond
        diseased = outcomes.baseline["marrow_blasts"].max() > NO_BLASTS
        for name, (code, words) in RESPONSES.items() if diseased else ():
            values[name, "", words] = observe(outcomes, Observable("response", code=code))
        if diseased:
            remission = observe(outcomes, Observable("response_day", code="CR"))
            day = np.where(np.isinf(remission), np.nan, remission - 1.0)
            values["remission_day", "", "CR"] = day
        for day in DEATH_DAYS:
            if day < outcomes.horizon_days:
                values["early_death", "", f"by day {day}"] = observe(
                    outcomes, Observable("death", day=day)
                )
        grades = self.look.grades
        for line, thresholds in THRESHOLDS.items():
            before = outcomes.baseline[line]
            values["count_at_start", line, ""] = before
            low = grade(grades, line, before, baseline=before)
            values["grade_3_4_at_start", line, grade_words(grades, line, 3)] = np.where(
                low < 0, np.nan, low >= 3
            )
            if self.look.brief:
                continue
            outcomes.work_out(line, thresholds)
            for threshold in thresholds:
                seen = Observable("recovery_day", line, (threshold,))
                values["recovery_day_in_remission", line, f">= {threshold:g}"] = (
                    observe(outcomes, seen) - 1.0
                )
        return values
