"""Curves of a cohort: counts over time, recovery, doses given, risk by draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pkpd.comparison.lanes import BY_DAYS, can_be_judged, evaluable
from pkpd.comparison.uncertainty import recovery_curve, risk
from pkpd.course.course import Course
from pkpd.endpoints.definitions import THRESHOLDS
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
    in_state: Floats | None = None
    states: tuple[str, ...] = ()

    def add(self, course: Course, every: int, first: int, split: NDArray[np.int8]) -> None:
        """Take what the curves need of a course.

        Counts are those of every lane, as if none died; doses are those of lanes alive.

        Parameters
        ----------
        course
            What became of some lanes.
        every, first
            Every how many-th lane is kept for bands, from which on.
        split : int8[L, D]
            State of each lane on every morning.
        """
        # a stride that shares no factor with the number of patients visits all of them in turn
        chosen = (np.arange(0, course.lanes, every) + first) % course.lanes
        for line in course.mornings:
            self.counts.setdefault(line, []).append(course.laboratory(line)[chosen])
        for drug, given in doses_by_day(self.plan, course).items():
            self.dosed[drug] = self.dosed.get(drug, np.zeros(course.days)) + given
        number = np.array([(split == s).sum(axis=0) for s in range(len(self.states))], float)
        self.in_state = number if self.in_state is None else self.in_state + number
        self.lanes += course.lanes

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


def doses_by_day(plan: DosingPlan, course: Course) -> dict[str, Floats]:
    """Lanes that have a dose on each day, by drug, ``[D]``.

    Where the marrow does not keep amounts these are doses planned for lanes alive: courses begin
    when they began in each lane, and end with the cycles that were begun; doses held within a cycle
    are counted, and a wait between cycles is not.
    """
    if course.amount is not None:
        given = {}
        for drug in plan.drugs:
            slots = [s for s, slot in enumerate(plan.slots) if slot.drug == drug]
            given[drug] = (course.amount[:, :, slots] > 0).any(axis=2).sum(axis=0)
        return given
    assert course.cycles_started is not None
    planned = {drug: np.zeros(course.days) for drug in plan.drugs}
    alive = course.mornings_alive
    for c in range(len(plan.course_names)):
        first, begun = course.first_day[:, c], course.cycles_started[:, c]
        for drug_index, drug in enumerate(plan.drugs):
            slots = [s for s, slot in enumerate(plan.slots) if slot.drug_index == drug_index]
            offsets = np.flatnonzero(plan.amount[c][:, slots].sum(axis=1) > 0.0)
            _count_doses(first, begun, alive, int(plan.cycle_days[c]), offsets, planned[drug])
    return planned


@njit(nogil=True, error_model="numpy", cache=True)
def _count_doses(
    first: np.ndarray,
    begun: np.ndarray,
    alive: np.ndarray,
    cycle_days: int,
    offsets: np.ndarray,
    planned: np.ndarray,
) -> None:
    """Add the dosing days of all lanes; first days from 1, 0 where a course never began."""
    for lane in range(first.size):
        last = min(alive[lane], planned.size)
        for cycle in range(begun[lane] if first[lane] > 0 else 0):
            for offset in offsets:
                day = first[lane] + cycle * cycle_days + offset
                if day <= last:
                    planned[day - 1] += 1.0


def dataset(trial: Trial, cohorts: Sequence[CohortCurves], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Gather the curves of all cohorts of a trial in one data set with named dimensions."""
    import xarray as xr

    lines = tuple(THRESHOLDS)
    criteria = [(line, t) for line in lines for t in THRESHOLDS[line]]
    names = [f"{line} >= {t:.1f}" if t < 10 else f"{line} >= {t:g}" for line, t in criteria]
    days = np.arange(1, trial.horizon_days + 1, dtype=np.int64)
    drugs = tuple(dict.fromkeys(d for c in cohorts for d in c.plan.drugs))
    n_draws = next(iter(cohorts[0].recovered.values())).shape[0]
    counts, recovered, intervals, dlt, grids, doses, splits = [], [], [], [], [], [], []
    states = cohorts[0].states
    for cohort in cohorts:
        counts.append([bands_of(np.concatenate(cohort.counts[line])) for line in lines])
        bands = [recovery_band(cohort.recovered[key], days.astype(float) - 1.0) for key in criteria]
        recovered.append([band[1] for band in bands])
        intervals.append(bands)
        by_draw = np.full(n_draws, np.nan)
        if cohort.dlt is not None and can_be_judged(cohort.dlt):
            known = evaluable(cohort.dlt)
            by_draw[~np.isnan(cohort.dlt).all(axis=1)] = risk(known).by_draw
        dlt.append(by_draw)
        grids.append(_grid(cohort.sensitivity))
        assert cohort.in_state is not None
        splits.append(cohort.in_state / cohort.lanes)
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
            "split": (("cohort", "state", "day"), np.array(splits)),
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
            "state": list(states),
        },
        attrs=dict(attrs),
    )
    data["counts"].attrs["units"] = "10^9/L"
    data["day"].attrs["long_name"] = "protocol day (day 1 = first dose)"
    return data


def bands_of(values: Floats) -> Floats:
    """:data:`QUANTILES` over lanes ``[L, D]`` by day, ``[Q, D]``, as `numpy.quantile` has them."""
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)
    place = np.array(QUANTILES) * (ordered.shape[1] - 1)
    low = np.floor(place).astype(np.int64)
    high, share = np.minimum(low + 1, ordered.shape[1] - 1), place - low
    return (ordered[:, low] + share * (ordered[:, high] - ordered[:, low])).T


def recovery_band(days_recovered: Floats, grid: Floats) -> Floats:
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
        if can_be_judged(sensitivity[cell]):
            found = risk(evaluable(sensitivity[cell]))
            out[cell] = found.lower, found.estimate, found.upper
    return out
