"""The patients of a trial that deviates from others as studies do.

The likelihood knows deviations of studies as offsets of what they print: logits of shares, the
logarithm of days (`pkpd.evidence.likelihood.offsets`). A trial that is simulated needs patients.
Their scores are moved so that outcomes move by such an offset: those of the kill of blasts for
responses, of frailty for deaths, of regrowth for days, of the marrow at the start for low counts.

How far outcomes move by one standard deviation of a score was measured at the cards' values and at
a draw of the posterior, in eight arms of the table of evidence each: medians below, and tests hold
them. Arms differ by a third either way; a regimen for which the slope is another deviates by more
or less than studies do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Deviation:
    """One score in which the patients of a trial deviate.

    Attributes
    ----------
    score
        Name of the patients' standard normal score.
    between
        Parameter that is the standard deviation of studies' offsets.
    slope
        Offset for one unit of the score.
    """

    score: str
    between: str
    slope: float

    def spread(self, theta: Mapping[str, float]) -> float:
        """Give the standard deviation of the score's shift between trials."""
        return theta[self.between] / self.slope


DEVIATIONS = (
    Deviation("kill_blasts", "between.response", 1.07),
    Deviation("frailty", "between.death", 0.955),
    Deviation("rho", "between.days", 0.28),
    Deviation("stem", "between.low", 0.52),
)
"""Deviations of trials; the sign does not matter."""


def draw_deviation(theta: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Draw how the scores of a trial's patients are moved: score -> shift."""
    return {one.score: one.spread(theta) * float(rng.standard_normal()) for one in DEVIATIONS}
