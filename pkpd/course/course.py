"""What became of patients under a schedule, whichever marrow they have.

A lane is one patient under one draw of the parameters. Lanes are draw-major: lane ``j * N + i`` is
patient ``i`` of N under draw ``j``. Column ``d`` of a daily array is the morning of protocol day
``d + 1``, before that day's doses and transfusion: the time ``d``, in days since the first morning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import DataError
from pkpd.kept_code import kept

NO_NAMES: tuple[str, ...] = ()
_HAPPENED = (
    *("platelets_with_transfused", "transfused", "wbc", "marrow_blasts", "blood_blasts"),
    *("marrow_cells", "cumulative_hazard", "doses_given", "full_doses", "cycles_started"),
)
"""Fields of a course beside the counts of its mornings that parameters change."""


@dataclass(frozen=True)
class Curve:
    """Counts between mornings: a cubic Hermite curve of the log count of each line.

    Attributes
    ----------
    time_h : float[T]
        Node times, h; the first morning is 0.
    log_count, slope : dict of float[L, T]
        By line: natural log of the own count in 10^9/L (platelets without transfused ones), and
        its slope per hour.
    """

    time_h: Floats
    log_count: Mapping[str, Floats]
    slope: Mapping[str, Floats]


@dataclass(frozen=True)
class Course:
    """What became of L lanes on D mornings.

    What a marrow does not have is ``None``. Nothing is cut at death: every lane is followed to the
    horizon as if alive.

    Attributes
    ----------
    mornings : dict of float[L, D]
        Count of each line, 10^9/L. Neutrophils as the laboratory counts them, leukaemic ones
        included; platelets without transfused ones.
    platelets_with_transfused : float[L, D]
        Own and transfused platelets before a transfusion of that morning, 10^9/L; ``None`` without
        platelets.
    transfused : bool[L, D]
        A platelet transfusion that morning.
    first_day : int[L, C]
        Protocol day on which each course of doses began; 0 if it never did.
    course_names, drugs
        Names in the order of the columns.
    patients
        Patients N of each draw; all lanes if ``None``.
    wbc : float[L, D], optional
        White cells with leukaemic ones, 10^9/L.
    marrow_blasts, blood_blasts : float[L, D], optional
        Percent of nucleated marrow cells; leukaemic cells in blood, 10^9/L.
    marrow_cells : float[L, D], optional
        Blasts and precursors relative to a normal marrow: its cellularity.
    cumulative_hazard : float[L, D], optional
        Of early death, up to that morning; ``exp(-H)`` is the probability to be alive.
    death_score : float[L], optional
        Uniform numbers: a lane dies when ``exp(-H)`` falls below its own.
    doses_given, full_doses : [L, K], optional
        Dosing days of each drug of ``drugs``, and the same weighted by the dose level: its ratio to
        the protocol's number is the relative dose intensity.
    cycles_started : int[L, C], optional
        Cycles of each course that began.
    next_cycle_day : int[L, C], optional
        Protocol day on which the cycle after the first one of each course began, of the same course
        or a later one; beyond the horizon if none did.
    dosed : int[L, D], optional
        Drugs given on each day: bit ``k`` is the ``k``-th of ``drugs``. Holds, waits and reductions
        are those of the lane.
    amount : float[L, D, S], optional
        Amounts decided on for each slot of the dosing plan, in the slot's unit, before caps and
        rounding to strengths.
    surface, weight : float[L], optional
        Body surface (m²) and weight (kg), by which doses are given.
    set_point : dict of float[L], optional
        By line: the count the marrow returns to without drug, 10^9/L.
    draws : int[M], optional
        Indices of the parameter draws.
    curve
        Counts between the mornings.
    """

    mornings: Mapping[str, Floats]
    platelets_with_transfused: Floats | None
    transfused: NDArray[np.bool_]
    first_day: NDArray[np.int64]
    course_names: tuple[str, ...] = NO_NAMES
    drugs: tuple[str, ...] = NO_NAMES
    patients: int | None = None
    wbc: Floats | None = None
    marrow_blasts: Floats | None = None
    blood_blasts: Floats | None = None
    marrow_cells: Floats | None = None
    cumulative_hazard: Floats | None = None
    death_score: Floats | None = None
    doses_given: NDArray[np.int64] | None = None
    full_doses: Floats | None = None
    cycles_started: NDArray[np.int64] | None = None
    next_cycle_day: NDArray[np.int64] | None = None
    dosed: NDArray[np.int64] | None = None
    amount: Floats | None = None
    surface: Floats | None = None
    weight: Floats | None = None
    set_point: Mapping[str, Floats] = field(default_factory=dict)
    draws: NDArray[np.int64] | None = None
    curve: Curve | None = None

    def trace(self) -> Floats:
        """All that happened to the lanes, in one row: what acts on any of them changes a number."""
        lines = [self.mornings[line] for line in sorted(self.mornings)]
        others = [getattr(self, name) for name in _HAPPENED]
        return np.concatenate([np.ravel(one) for one in (*lines, *others) if one is not None])

    @property
    def lanes(self) -> int:
        """Number of lanes L."""
        return self.transfused.shape[0]

    @property
    def days(self) -> int:
        """Number of mornings D."""
        return self.transfused.shape[1]

    @property
    def neutrophils(self) -> Floats:
        """Neutrophils on the mornings, ``[L, D]``, 10^9/L."""
        return self.mornings["neutrophils"]

    @property
    def platelets(self) -> Floats:
        """Own platelets on the mornings, ``[L, D]``, 10^9/L."""
        return self.own("platelets")

    def own(self, line: str) -> Floats:
        """Count of a line without transfused cells on the mornings, ``[L, D]``, 10^9/L.

        Raises
        ------
        DataError
            If the line was not simulated.
        """
        found = self.wbc if line == "wbc" else self.mornings.get(line)
        if found is None:
            have = (*self.mornings, *(("wbc",) if self.wbc is not None else ()))
            raise DataError(
                where="course of a marrow",
                what=f"line {line!r} was not simulated",
                allowed=", ".join(sorted(have)),
            )
        return found

    def laboratory(self, line: str) -> Floats:
        """Count of a line as the laboratory reports it: with transfused platelets, ``[L, D]``."""
        total = self.platelets_with_transfused
        return total if line == "platelets" and total is not None else self.own(line)

    @cached_property
    def death_day(self) -> Floats:
        """Protocol day on which each lane dies; ``inf`` if it is alive at the horizon, ``[L]``."""
        if self.cumulative_hazard is None or self.death_score is None:
            return np.full(self.lanes, np.inf)
        return death_days(self.cumulative_hazard, self.death_score)

    @cached_property
    def mornings_alive(self) -> NDArray[np.int64]:
        """Number of mornings on which each lane is alive, ``[L]``."""
        return np.minimum(self.death_day, self.days).astype(np.int64)

    def started(self, course: str) -> Floats:
        """Protocol day on which a course of doses began, ``[L]``; NaN where it never did.

        Raises
        ------
        DataError
            If there is no such course.
        """
        if course not in self.course_names:
            raise DataError(
                where="course of doses",
                what=f"there is no course {course!r}",
                allowed=", ".join(("first_dose", *self.course_names)),
            )
        first = self.first_day[:, self.course_names.index(course)].astype(np.float64)
        return np.where(first > 0.0, first, np.nan)


def death_days(cumulative_hazard: Floats, score: Floats) -> Floats:
    """Protocol day of death, ``inf`` if alive at the horizon.

    Parameters
    ----------
    cumulative_hazard
        ``[L, D]`` on the mornings.
    score
        ``[L]`` uniform numbers: death comes when ``exp(-H)`` falls below.
    """
    return _first_reached(cumulative_hazard, -np.log(score))


@kept
def _first_reached(cumulative_hazard: np.ndarray, limit: np.ndarray) -> np.ndarray:
    n, days = cumulative_hazard.shape
    day = np.full(n, np.inf)
    for i in range(n):
        if days == 0 or cumulative_hazard[i, days - 1] < limit[i]:
            continue  # a cumulative hazard only rises
        for j in range(days):
            if cumulative_hazard[i, j] >= limit[i]:
                day[i] = max(j, 1)
                break
    return day
