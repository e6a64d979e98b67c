"""Shares of patients by posterior draw: what the questions of trials ask of a cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.comparison.lanes import BY_DAYS
from pkpd.comparison.results import Figure
from pkpd.comparison.rows import UNITS, CohortLanes
from pkpd.comparison.uncertainty import fewest_draws
from pkpd.endpoints.definitions import THRESHOLDS
from pkpd.trials import DLTRule

INTERVAL = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class CohortShares:
    """Shares of a cohort's patients in each draw; NaN where nobody has a verdict.

    Attributes
    ----------
    delayed : float[2, 4, K, draws]
        Not recovered, of those whom ``rule`` judges, by neutrophils, platelets and day as in
        `pkpd.comparison.lanes`.
    of_all : float[2, 4, K, draws]
        The same of all patients: whoever died, kept leukaemia or has no verdict for another reason
        is no delay, as in a trial's count of delayed patients among all that it treated.
    dlt : float[draws]
        DLT by the main rule, of those whom it can judge.
    values
        ``(endpoint, line, rule)`` of endpoints that are probabilities -> ``[draws]``.
    rule
        Whose clock and join ``delayed`` has, and which says whether leukaemia can be judged.
    by_days
        Days of ``delayed``.
    """

    delayed: Floats
    of_all: Floats
    dlt: Floats
    values: Mapping[tuple[str, str, str], Floats]
    rule: DLTRule
    by_days: tuple[float, ...] = BY_DAYS

    def delay(self, neutrophils: float, platelets: float, day: float) -> Floats:
        """Share not recovered by a day under a pair of thresholds, ``[draws]``."""
        return self.delayed[self._cell(neutrophils, platelets, day)]

    def delay_of_all(self, neutrophils: float, platelets: float, day: float) -> Floats:
        """Share of all patients not recovered by a day under a pair, ``[draws]``."""
        return self.of_all[self._cell(neutrophils, platelets, day)]

    def _cell(self, neutrophils: float, platelets: float, day: float) -> tuple[int, int, int]:
        return (
            THRESHOLDS["neutrophils"].index(neutrophils),
            THRESHOLDS["platelets"].index(platelets),
            self.by_days.index(day),
        )


def cohort_shares(lanes: CohortLanes, rule: DLTRule) -> CohortShares:
    """Shares by draw of what was kept of a cohort under its rule."""
    # one after the other: all at once take four times their memory
    delayed, of_all = (
        np.array(
            [
                [[share(cell.astype(np.float64)) for cell in row] for row in table]
                for table in lanes.sensitivity
            ]
        )
        for share in (mean_of_known, share_of_all)
    )
    verdicts = lanes.dlt.get(rule.clock)
    nobody = np.full(delayed.shape[-1], np.nan)
    return CohortShares(
        delayed=delayed,
        of_all=of_all,
        dlt=nobody if verdicts is None else mean_of_known(np.asarray(verdicts, dtype=np.float64)),
        values={
            key: mean_of_known(lanes.values[key])
            for key in lanes.values
            if UNITS[key[0]] == "probability"
        },
        rule=rule,
        by_days=lanes.curves.by_days,
    )


def mean_of_known(matrix: Floats) -> Floats:
    """Mean over the last axis without NaN; NaN where all are.

    As ``np.nanmean``, whose warning of an empty slice could only be silenced for all threads.
    """
    known = ~np.isnan(matrix)
    number = known.sum(axis=-1)
    total = np.where(known, matrix, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def share_of_all(matrix: Floats) -> Floats:
    """Share of events over the last axis, of all: NaN, no verdict, is none."""
    return np.nansum(matrix, axis=-1) / matrix.shape[-1]


def median_of_known(matrix: Floats) -> Floats:
    """Median over the last axis without NaN; NaN where all are. Infinite values count."""
    out = np.full(matrix.shape[:-1], np.nan)
    for place in np.ndindex(*out.shape):
        known = np.sort(matrix[place][~np.isnan(matrix[place])])
        if known.size:
            # the smallest value by which half of the patients are there
            out[place] = known[(known.size - 1) // 2]
    return out


def figure(by_draw: Floats, unit: str = "probability") -> Figure:
    """Median and 90 % interval over draws; NaN draws are left out.

    An event that nobody has under any draw, or everybody, has no interval, and so few draws as in
    `pkpd.comparison.uncertainty` tell none.
    """
    known = by_draw[~np.isnan(by_draw)]
    if not known.size:
        return Figure(np.nan, unit=unit)
    if unit == "probability" and known[0] in (0.0, 1.0) and np.ptp(known) == 0.0:
        return Figure(float(known[0]), unit=unit)
    low, middle, high = np.quantile(known, INTERVAL, method="inverted_cdf")
    if known.size < fewest_draws():
        return Figure(float(middle), unit=unit)
    return Figure(float(middle), float(low), float(high), unit)


def probability(by_draw: NDArray[np.bool_]) -> Figure:
    """Posterior probability: share of draws, without an interval; NaN of none."""
    return Figure(float(np.mean(by_draw)) if by_draw.size else np.nan)
