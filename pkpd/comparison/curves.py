"""Curves of a cohort: counts over time, recovery, doses given, risk by draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.comparison.lanes import BY_DAYS, can_be_judged, evaluable, judged
from pkpd.comparison.uncertainty import recovery_curve, risk
from pkpd.course.course import Course
from pkpd.endpoints.definitions import THRESHOLDS
from pkpd.schedule import DosingPlan
from pkpd.trials import Trial

if TYPE_CHECKING:
    import xarray as xr


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BOUNDS = ("lower", "mean", "upper")
CRITERIA = tuple((line, level) for line, levels in THRESHOLDS.items() for level in levels)
"""Line and threshold of each curve of recovery."""

_AXES = {
    "neutrophil_threshold": THRESHOLDS["neutrophils"],
    "platelet_threshold": THRESHOLDS["platelets"],
}

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
    by_days: tuple[float, ...] = BY_DAYS
    counts: dict[str, list[Floats]] = field(default_factory=dict)
    dosed: dict[str, Floats] = field(default_factory=dict)
    lanes: int = 0
    recovered: Mapping[tuple[str, float], Floats] = field(default_factory=dict)
    dlt: Floats | None = None
    sensitivity: NDArray[np.float32] | None = None
    in_state: Floats | None = None
    states: tuple[str, ...] = ()
    _bands: CohortBands | None = None

    def add(self, part: CurvesPart) -> None:
        """Take the curves of some lanes."""
        self.states = part.states
        for line, counts in part.counts.items():
            self.counts.setdefault(line, []).append(counts)
        for drug, given in part.dosed.items():
            self.dosed[drug] = self.dosed.get(drug, np.zeros(given.size)) + given
        self.in_state = part.in_state if self.in_state is None else self.in_state + part.in_state
        self.lanes += part.lanes

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

    def bands(self) -> CohortBands:
        """Work out what is shown of the cohort; once, after which its lanes are let go."""
        if self._bands is None:
            days = np.arange(self.horizon_days, dtype=float)
            criteria = tuple(key for key in CRITERIA if key in self.recovered)
            recovered = [recovery_band(self.recovered[key], days) for key in criteria]
            some = next(iter(self.recovered.values()))
            by_draw = np.full(some.shape[0], np.nan)
            if self.dlt is not None and can_be_judged(self.dlt):
                by_draw[~np.isnan(self.dlt).all(axis=1)] = risk(evaluable(self.dlt)).by_draw
            lines = tuple(line for line in THRESHOLDS if line in self.counts)
            counts = [bands_of(np.concatenate(self.counts[line])) for line in lines]
            self._bands = CohortBands(
                lines, criteria, np.array(counts), np.array(recovered), by_draw,
                *_grid(self.sensitivity),
            )  # fmt: skip
            self.counts, self.recovered, self.sensitivity = {}, {}, None
        return self._bands


@dataclass(frozen=True)
class CohortBands:
    """What is shown of a cohort's lanes.

    Attributes
    ----------
    lines, criteria
        Lines of the marrow; line and threshold of each curve of recovery.
    counts : float[lines, Q, D]
        `QUANTILES` of each line's count.
    recovered : float[criteria, 3, D]
        Share recovered: `BOUNDS`.
    dlt : float[draws]
        Risk by draw.
    sensitivity : float[2, 4, K, 3]
        Risk with its interval over thresholds and days; empty where a line is missing.
    evaluable : float[2, 4, K]
        Share of the lanes that each of these risks is of.
    """

    lines: tuple[str, ...]
    criteria: tuple[tuple[str, float], ...]
    counts: Floats
    recovered: Floats
    dlt: Floats
    sensitivity: Floats
    evaluable: Floats


@dataclass(frozen=True)
class CurvesPart:
    """What the curves of a cohort need of some of its lanes."""

    counts: dict[str, Floats]
    dosed: dict[str, Floats]
    in_state: Floats
    lanes: int
    states: tuple[str, ...]


def part_of(
    plan: DosingPlan,
    course: Course,
    every: int,
    first: int,
    split: NDArray[np.int8],
    states: tuple[str, ...],
) -> CurvesPart:
    """Take what the curves need of a course.

    Counts are those of every lane, as if none died; doses are those of lanes alive.

    Parameters
    ----------
    plan
        Dosing plan of the cohort.
    course
        What became of some lanes.
    every, first
        Every how many-th lane is kept for bands, from which on.
    split : int8[L, D]
        State of each lane on every morning, an index into `states`.
    states
        Their names.
    """
    # a stride that shares no factor with the number of patients visits all of them in turn
    chosen = (np.arange(0, course.lanes, every) + first) % course.lanes
    return CurvesPart(
        {line: course.laboratory(line)[chosen] for line in course.mornings},
        {drug: np.asarray(n, float) for drug, n in doses_by_day(plan, course).items()},
        np.array([(split == s).sum(axis=0) for s in range(len(states))], float),
        course.lanes,
        states,
    )


def doses_by_day(plan: DosingPlan, course: Course) -> dict[str, Floats]:
    """Lanes alive that have a dose on each day, by drug, ``[D]``; not those held or late."""
    assert course.dosed is not None
    alive = np.arange(course.days)[None, :] < course.mornings_alive[:, None]
    return {
        drug: ((course.dosed >> k & 1).astype(bool) & alive).sum(axis=0)
        for k, drug in enumerate(plan.drugs)
    }


def dataset(trial: Trial, cohorts: Sequence[CohortCurves], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Gather the curves of all cohorts of a trial in one data set with named dimensions."""
    import xarray as xr

    days = np.arange(1, trial.horizon_days + 1, dtype=np.int64)
    drugs = tuple(dict.fromkeys(d for c in cohorts for d in c.plan.drugs))
    bands = [cohort.bands() for cohort in cohorts]
    names = [f"{n} >= {t:.1f}" if t < 10 else f"{n} >= {t:g}" for n, t in bands[0].criteria]
    recovered = np.array([one.recovered for one in bands])
    grid: dict[str, Any] = {}
    axes = {**_AXES, "by_day": cohorts[0].by_days}
    if bands[0].sensitivity.size:
        values = np.array([one.sensitivity for one in bands])
        grid["dlt_sensitivity"] = (("cohort", *axes, "bound"), values)
        shares = np.array([one.evaluable for one in bands])
        grid["dlt_sensitivity_evaluable"] = (("cohort", *axes), shares)
    doses, splits = [], []
    for cohort in cohorts:
        assert cohort.in_state is not None
        splits.append(cohort.in_state / cohort.lanes)
        doses.append([cohort.dosed.get(d, np.zeros(days.size)) / cohort.lanes for d in drugs])
    data = xr.Dataset(
        {
            "counts": (("cohort", "line", "quantile", "day"), np.array([b.counts for b in bands])),
            "recovered": (("cohort", "criterion", "day"), recovered[:, :, 1]),
            "recovered_interval": (("cohort", "criterion", "bound", "day"), recovered),
            "dlt": (("cohort", "draw"), np.array([b.dlt for b in bands])),
            **grid,
            "dose_given": (("cohort", "drug", "day"), np.array(doses)),
            "split": (("cohort", "state", "day"), np.array(splits)),
        },
        coords={
            "cohort": [c.cohort for c in cohorts],
            "line": list(bands[0].lines),
            "quantile": list(QUANTILES),
            "day": days,
            "criterion": names,
            "bound": list(BOUNDS),
            "draw": np.arange(bands[0].dlt.size),
            **({axis: list(values) for axis, values in axes.items()} if grid else {}),
            "drug": list(drugs),
            "state": list(cohorts[0].states),
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


def _grid(sensitivity: NDArray[np.float32] | None) -> tuple[Floats, Floats]:
    """P(DLT) over thresholds and days with its interval, [2, 4, K, 3]; shares judged, [2, 4, K]."""
    assert sensitivity is not None
    out = np.full((*sensitivity.shape[:3], 3), np.nan)
    shares = np.zeros(sensitivity.shape[:3])
    for cell in np.ndindex(*sensitivity.shape[:3]):
        shares[cell] = judged(sensitivity[cell])
        if can_be_judged(sensitivity[cell]):
            found = risk(evaluable(sensitivity[cell]))
            out[cell] = found.lower, found.estimate, found.upper
    return out, shares
