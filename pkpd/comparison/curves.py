"""Curves of a cohort: counts over time, recovery, doses given, risk by draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.comparison.lanes import BY_DAYS, THRESHOLDS, evaluable
from pkpd.comparison.uncertainty import recovery_curve, risk
from pkpd.course.simulate import NodeSolution
from pkpd.schedule import DosingPlan
from pkpd.trials import Trial

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BOUNDS = ("lower", "mean", "upper")
LANES_FOR_BANDS = 20_000
"""Lanes kept for the bands of counts over time; a quantile of so many is within half a per cent."""


def thinned(lanes: int) -> int:
    """Every how many-th lane is kept for bands."""
    return max(1, lanes // LANES_FOR_BANDS)


@dataclass
class CohortCurves:
    """Gathers the curves of one cohort chunk by chunk."""

    cohort: str
    plan: DosingPlan
    horizon_days: int
    counts: dict[str, list[Floats]] = field(default_factory=dict)
    dosed: dict[str, Floats] = field(default_factory=dict)
    lanes: int = 0
    recovered: Mapping[tuple[str, float], Floats] = field(default_factory=dict)
    dlt: Floats | None = None
    sensitivity: NDArray[np.float32] | None = None

    def add(self, solution: NodeSolution, every: int) -> None:
        """Take what the curves need of a chunk."""
        days = solution.transfused.shape[1]
        per_day = (solution.time_h.size - 1) // days
        mornings = np.arange(days) * per_day
        lanes = solution.transfused.shape[0]
        # a stride that shares no factor with the number of patients visits all of them in turn
        chosen = (np.arange(0, lanes, every) + int(solution.draws[0])) % lanes
        for line, logs in solution.log_count.items():
            kept = np.exp(logs[chosen][:, mornings])
            if line == "platelets":
                kept = solution.morning_platelets[chosen]
            self.counts.setdefault(line, []).append(kept)
        for drug in self.plan.drugs:
            slots = [s for s, slot in enumerate(self.plan.slots) if slot.drug == drug]
            given = (solution.amount[:, :, slots] > 0).any(axis=2).sum(axis=0)
            self.dosed[drug] = self.dosed.get(drug, np.zeros(days)) + given
        self.lanes += lanes

    def with_outcomes(
        self,
        recovered: Mapping[tuple[str, float], Floats],
        dlt: Floats | None,
        sensitivity: NDArray[np.float32],
    ) -> CohortCurves:
        """Add the matrices [draws, patients] of recovery and DLT."""
        self.recovered = recovered
        self.dlt = dlt
        self.sensitivity = sensitivity
        return self


def dataset(trial: Trial, cohorts: Sequence[CohortCurves], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Gather the curves of all cohorts of a trial in one data set with named dimensions."""
    import xarray as xr

    lines = tuple(THRESHOLDS)
    criteria = [(line, t) for line in lines for t in THRESHOLDS[line]]
    names = [f"{line} >= {t:.1f}" if t < 10 else f"{line} >= {t:g}" for line, t in criteria]
    days = np.arange(1, trial.horizon_days + 1, dtype=np.int64)
    drugs = tuple(dict.fromkeys(d for c in cohorts for d in c.plan.drugs))
    n_draws = next(iter(cohorts[0].recovered.values())).shape[0]
    counts, recovered, intervals, dlt, grids, doses = [], [], [], [], [], []
    for cohort in cohorts:
        counts.append(
            [np.quantile(np.concatenate(cohort.counts[line]), QUANTILES, axis=0) for line in lines]
        )
        bands = [_recovery(cohort.recovered[key], days.astype(float) - 1.0) for key in criteria]
        recovered.append([band[1] for band in bands])
        intervals.append(bands)
        by_draw = np.full(n_draws, np.nan)
        if cohort.dlt is not None and (known := evaluable(cohort.dlt)).size:
            by_draw[~np.isnan(cohort.dlt).all(axis=1)] = risk(known).by_draw
        dlt.append(by_draw)
        grids.append(_grid(cohort.sensitivity))
        doses.append([cohort.dosed.get(d, np.zeros(days.size)) / cohort.lanes for d in drugs])
    data = xr.Dataset(
        {
            "counts": (("cohort", "line", "quantile", "day"), np.array(counts)),
            "recovered": (("cohort", "criterion", "day"), np.array(recovered)),
            "recovered_interval": (("cohort", "criterion", "bound", "day"), np.array(intervals)),
            "dlt": (("cohort", "draw"), np.array(dlt)),
            "dlt_sensitivity": (
                ("cohort", "neutrophil_threshold", "platelet_threshold", "by_day", "bound"),
                np.array(grids),
            ),
            "dose_given": (("cohort", "drug", "day"), np.array(doses)),
        },
        coords={
            "cohort": [c.cohort for c in cohorts],
            "line": list(lines),
            "quantile": list(QUANTILES),
            "day": days,
            "criterion": names,
            "bound": list(BOUNDS),
            "draw": np.arange(n_draws),
            "neutrophil_threshold": list(THRESHOLDS["neutrophils"]),
            "platelet_threshold": list(THRESHOLDS["platelets"]),
            "by_day": list(BY_DAYS),
            "drug": list(drugs),
        },
        attrs=dict(attrs),
    )
    data["counts"].attrs["units"] = "10^9/L"
    data["day"].attrs["long_name"] = "protocol day (day 1 = first dose)"
    return data


def _recovery(days_recovered: Floats, grid: Floats) -> Floats:
    """Lower, mean and upper curve of recovery; grid in days since the first dose."""
    days_recovered = evaluable(days_recovered)
    if not days_recovered.size:
        return np.full((3, grid.size), np.nan)
    censored = np.isinf(days_recovered)
    times = np.where(censored, grid[-1], days_recovered)
    curve = recovery_curve(times, censored, grid)
    return np.array([curve.lower, curve.mean, curve.upper])


def _grid(sensitivity: NDArray[np.float32] | None) -> Floats:
    """P(DLT) over thresholds and days with its interval, [2, 4, 4, 3]."""
    assert sensitivity is not None
    out = np.full((*sensitivity.shape[:3], 3), np.nan)
    for cell in np.ndindex(*sensitivity.shape[:3]):
        outcome = evaluable(sensitivity[cell])
        if outcome.size:
            found = risk(outcome)
            out[cell] = found.lower, found.estimate, found.upper
    return out
