"""What became of the simulated patients of one arm: the arrays that evidence is compared with.

Days are protocol days: day 1 is the day of the first dose, and the count of a day is that of its
morning, before that day's doses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import DataError, sentence

if TYPE_CHECKING:
    from pkpd.trials import DLTRule, ResponseCriteria

Floats = NDArray[np.float64]
Line = str

#: Thresholds of counts (10^9/L) for which recovery is worked out, by line.
THRESHOLDS: Mapping[Line, tuple[float, ...]] = {
    "neutrophils": (0.5, 1.0, 1.5),
    "platelets": (20.0, 25.0, 30.0, 50.0, 75.0, 100.0),
}


@dataclass(frozen=True)
class DailyCourses:
    """Counts on the morning of every day, ``[N, D]``; column ``j`` is protocol day ``j + 1``.

    Nothing is cut at death: every patient is followed to the horizon as if surviving, and
    ``cumulative_hazard`` holds the probability of that, ``exp(-H)``.

    Attributes
    ----------
    neutrophils
        10^9/L as the laboratory counts them, leukaemic neutrophils included.
    platelets
        Own platelets, 10^9/L.
    platelets_with_transfused
        Own and transfused platelets before a transfusion of that morning, 10^9/L.
    wbc
        White cells with leukaemic ones, 10^9/L.
    marrow_blasts, blood_blasts
        Percent of nucleated marrow cells; leukaemic cells in blood, 10^9/L.
    marrow_cells
        Blasts and neutrophil precursors relative to a normal marrow: its cellularity.
    transfused
        A platelet transfusion that morning.
    cumulative_hazard
        Of early death, up to that morning.
    first_day
        ``[N, C]`` protocol day on which each course began; 0 if it never did.
    cycles_started, doses_given
        ``[N, C]`` cycles of each course that began; ``[N, K]`` dosing days of each drug of
        ``drugs``.
    full_doses
        ``[N, K]`` dosing days weighted by the dose level: their ratio to the protocol's number is
        the relative dose intensity.
    second_cycle_day
        ``[N]`` protocol day on which the second cycle (of any course) began; beyond the horizon if
        none did.
    drugs, course_names
        Names in the order of the columns.
    """

    neutrophils: Floats
    platelets: Floats
    platelets_with_transfused: Floats
    wbc: Floats
    marrow_blasts: Floats
    blood_blasts: Floats
    marrow_cells: Floats
    transfused: NDArray[np.bool_]
    cumulative_hazard: Floats
    first_day: NDArray[np.int64]
    cycles_started: NDArray[np.int64]
    doses_given: NDArray[np.int64]
    full_doses: Floats
    second_cycle_day: NDArray[np.int64]
    drugs: tuple[str, ...]
    course_names: tuple[str, ...]

    @property
    def days(self) -> int:
        """Number of days D."""
        return self.neutrophils.shape[1]


@dataclass(frozen=True)
class ArmOutcomes:
    """Outcomes of the N patients of one arm; arrays are ``[N]`` unless stated.

    Attributes
    ----------
    name, disease
        Of the arm.
    n, horizon_days
        Patients, and days simulated.
    baseline
        ``neutrophils``, ``platelets``, ``wbc`` (10^9/L), ``marrow_blasts`` (%), ``blood_blasts``
        (10^9/L), ``age`` (years) before any dose.
    recovery_day
        ``(line, threshold)`` -> protocol day of the first of three days in a row at or above the
        threshold after having been below it, platelets without transfused ones. ``nan``: never
        below the threshold; ``inf``: below, and not recovered before death or the horizon.
    first_below_day
        ``(line, threshold)`` -> first day below; ``inf`` if never.
    days_below, longest_below
        ``(line, threshold)`` -> number of days below while alive, and longest run of them.
    nadir, nadir_day
        line (``wbc`` too) -> lowest count while alive (10^9/L), and its day.
    worst_grade, worst_grade_cycle1
        line -> CTCAE grade 0-4 over all days, and in the first cycle, while alive.
    baseline_grade
        line -> grade before any dose.
    response
        Best response as index into ``response_codes``; 0 is no response.
    response_codes
        ``("none", "CR", "CRh", ...)``.
    response_day, cr_day
        Day of the best response, and of complete remission; ``inf`` if none.
    death_day
        Day of early death; ``inf`` if alive at the horizon.
    transfusions
        Number of platelet transfusions.
    courses
        Daily counts, for any other endpoint.
    """

    name: str
    disease: str
    n: int
    horizon_days: int
    baseline: Mapping[str, Floats]
    recovery_day: Mapping[tuple[Line, float], Floats]
    first_below_day: Mapping[tuple[Line, float], Floats]
    days_below: Mapping[tuple[Line, float], Floats]
    longest_below: Mapping[tuple[Line, float], Floats]
    nadir: Mapping[Line, Floats]
    nadir_day: Mapping[Line, Floats]
    worst_grade: Mapping[Line, NDArray[np.int8]]
    worst_grade_cycle1: Mapping[Line, NDArray[np.int8]]
    baseline_grade: Mapping[Line, NDArray[np.int8]]
    response: NDArray[np.int8]
    response_codes: tuple[str, ...]
    response_day: Floats
    cr_day: Floats
    death_day: Floats
    transfusions: Floats
    courses: DailyCourses

    def blasts_day(self, day: int) -> Floats:
        """Marrow blasts (%) on the morning of a protocol day, as if all were alive."""
        return self.courses.marrow_blasts[:, self._column(day)]

    def alive_probability(self, day: int) -> Floats:
        """Probability of each patient to be alive on the morning of a protocol day.

        Smooth in the parameters where ``death_day > day`` is a step; both have the same mean.
        """
        return np.exp(-self.courses.cumulative_hazard[:, self._column(day)])

    def alive(self, day: float) -> NDArray[np.bool_]:
        """Whether each patient is alive at the end of a protocol day."""
        return self.death_day > day

    def responded(self, *codes: str, by_day: float = np.inf) -> NDArray[np.bool_]:
        """Whether the best response is one of ``codes`` and was reached by a day."""
        wanted = np.array([code in codes for code in self.response_codes])
        return wanted[self.response] & (self.response_day <= by_day)

    def dlt(self, rule: DLTRule) -> Floats:
        """Verdict of a rule: 1 dose-limiting toxicity, 0 none, ``nan`` where it cannot be told."""
        from pkpd.leukaemia.endpoints import dlt_verdict

        return dlt_verdict(self, rule)

    def best_response(
        self, criteria: ResponseCriteria, by_day: float = np.inf
    ) -> tuple[NDArray[np.int8], Floats, tuple[str, ...]]:
        """Best response by other criteria: codes, days, and the names of the codes."""
        from pkpd.leukaemia.endpoints import best_response

        return best_response(self.courses, self.death_day, criteria, by_day)

    def improved(
        self, criteria: ResponseCriteria, code: str, for_days: int | None = None
    ) -> NDArray[np.bool_]:
        """Haematological improvement such as ``HI-N`` of IWG 2006."""
        from pkpd.leukaemia.endpoints import improvement

        return improvement(self.courses, self.death_day, criteria, code, for_days)

    def _column(self, day: int) -> int:
        if not 1 <= day <= self.horizon_days:
            msg = sentence(
                where=f"arm {self.name}",
                what=f"day {day} was not simulated",
                allowed=f"1 to {self.horizon_days}",
            )
            raise DataError(msg)
        return int(day) - 1
