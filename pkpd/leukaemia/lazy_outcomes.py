"""Outcomes of an arm that are worked out when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.cards import load_grades, load_response_criteria
from pkpd.leukaemia.endpoints import (
    best_response,
    death_days,
    definition,
    grades_of,
    lowest,
    spells,
)
from pkpd.leukaemia.outcomes import THRESHOLDS, ArmOutcomes, DailyCourses, Floats
from pkpd.leukaemia.schedule import Arm
from pkpd.trials import Grades, ResponseCriteria

_DISEASE_CRITERIA = (("mds", "iwg_2006_mds"),)
_USUAL_CRITERIA = "eln_2022"
_LINES = ("neutrophils", "platelets", "wbc")
_GRADED = ("neutrophils", "platelets")


@lru_cache(maxsize=16)
def _criteria(name: str) -> ResponseCriteria:
    return load_response_criteria(name)


@lru_cache(maxsize=4)
def _grades(name: str) -> Grades:
    return load_grades(name)


def usual_criteria(disease: str) -> str:
    """Name the criteria used for a disease: IWG 2006 for myelodysplasia, else ELN 2022."""
    for beginning, name in _DISEASE_CRITERIA:
        if disease.startswith(beginning):
            return name
    return _USUAL_CRITERIA


class LazyOutcomes(ArmOutcomes):
    """Outcomes of an arm, worked out from its courses when asked for, and kept.

    Parameters
    ----------
    arm
        The arm.
    courses
        Of its patients.
    age, death_score
        ``[N]`` (`pkpd.leukaemia.patients.Patients`).
    criteria
        Name of the card of response criteria; by disease if not given.
    response_by_day
        Last day on which a response may begin.
    """

    _age: Floats
    _death_score: Floats
    _criteria: ResponseCriteria
    _by_day: float

    def __init__(
        self,
        arm: Arm,
        courses: DailyCourses,
        age: Floats,
        death_score: Floats,
        criteria: str | None = None,
        response_by_day: float = np.inf,
    ) -> None:
        set_field = object.__setattr__  # the class it stands for is frozen
        set_field(self, "name", arm.name)
        set_field(self, "disease", arm.disease)
        set_field(self, "n", age.size)
        set_field(self, "horizon_days", courses.days)
        set_field(self, "courses", courses)
        set_field(self, "_age", age)
        set_field(self, "_death_score", death_score)
        set_field(self, "_criteria", _criteria(criteria or usual_criteria(arm.disease)))
        set_field(self, "_by_day", response_by_day)

    @cached_property
    def death_day(self) -> Floats:
        """See `ArmOutcomes`."""
        return death_days(self.courses.cumulative_hazard, self._death_score)

    @cached_property
    def _last(self) -> NDArray[np.int64]:
        return np.minimum(self.death_day, self.courses.days).astype(np.int64)

    def _counts(self, line: str) -> Floats:
        if line == "platelets":
            return self.courses.platelets_with_transfused
        return self.courses.wbc if line == "wbc" else self.courses.neutrophils

    @cached_property
    def baseline(self) -> Mapping[str, Floats]:
        """See `ArmOutcomes`."""
        return {
            **{line: self._counts(line)[:, 0] for line in _LINES},
            "marrow_blasts": self.courses.marrow_blasts[:, 0],
            "blood_blasts": self.courses.blood_blasts[:, 0],
            "age": self._age,
        }

    @cached_property
    def _spells(self) -> list[dict[tuple[str, float], Floats]]:
        run = int(definition("recovery_days"))
        tables: list[dict[tuple[str, float], Floats]] = [{}, {}, {}, {}]
        own = {"neutrophils": self.courses.neutrophils, "platelets": self.courses.platelets}
        for line, counts in own.items():
            levels = THRESHOLDS[line]
            found = spells(counts, np.array(levels), self._last, run)
            for table, values in zip(tables, found, strict=True):
                table.update({(line, t): v for t, v in zip(levels, values, strict=True)})
        return tables

    @cached_property
    def recovery_day(self) -> Mapping[tuple[str, float], Floats]:
        """See `ArmOutcomes`."""
        return self._spells[0]

    @cached_property
    def first_below_day(self) -> Mapping[tuple[str, float], Floats]:
        """See `ArmOutcomes`."""
        return self._spells[1]

    @cached_property
    def days_below(self) -> Mapping[tuple[str, float], Floats]:
        """See `ArmOutcomes`."""
        return self._spells[2]

    @cached_property
    def longest_below(self) -> Mapping[tuple[str, float], Floats]:
        """See `ArmOutcomes`."""
        return self._spells[3]

    @cached_property
    def _lowest(self) -> Mapping[str, tuple[Floats, Floats]]:
        return {line: lowest(self._counts(line), self._last) for line in _LINES}

    @cached_property
    def nadir(self) -> Mapping[str, Floats]:
        """See `ArmOutcomes`."""
        return {line: value for line, (value, _) in self._lowest.items()}

    @cached_property
    def nadir_day(self) -> Mapping[str, Floats]:
        """See `ArmOutcomes`."""
        return {line: day for line, (_, day) in self._lowest.items()}

    def _grades(self, counts: Mapping[str, Floats]) -> Mapping[str, NDArray[np.int8]]:
        scale = _grades("ctcae_v5")
        return {k: grades_of(counts[k], self._counts(k)[:, 0], scale, k) for k in _GRADED}

    @cached_property
    def worst_grade(self) -> Mapping[str, NDArray[np.int8]]:
        """See `ArmOutcomes`."""
        return self._grades(self.nadir)

    @cached_property
    def worst_grade_cycle1(self) -> Mapping[str, NDArray[np.int8]]:
        """See `ArmOutcomes`."""
        first = np.clip(np.minimum(self._last, self.courses.second_cycle_day - 1), 1, None)
        return self._grades({k: lowest(self._counts(k), first)[0] for k in _GRADED})

    @cached_property
    def baseline_grade(self) -> Mapping[str, NDArray[np.int8]]:
        """See `ArmOutcomes`."""
        return self._grades({k: self._counts(k)[:, 0] for k in _GRADED})

    @cached_property
    def _response(self) -> tuple[NDArray[np.int8], Floats, tuple[str, ...]]:
        return best_response(self.courses, self.death_day, self._criteria, self._by_day)

    @cached_property
    def response(self) -> NDArray[np.int8]:
        """See `ArmOutcomes`."""
        return self._response[0]

    @cached_property
    def response_day(self) -> Floats:
        """See `ArmOutcomes`."""
        return self._response[1]

    @cached_property
    def response_codes(self) -> tuple[str, ...]:
        """See `ArmOutcomes`."""
        return self._response[2]

    @cached_property
    def cr_day(self) -> Floats:
        """See `ArmOutcomes`."""
        complete = self.response_codes.index("CR") if "CR" in self.response_codes else -1
        return np.where(self.response == complete, self.response_day, np.inf)

    @cached_property
    def transfusions(self) -> Floats:
        """See `ArmOutcomes`."""
        alive = np.arange(self.courses.days)[None, :] < self._last[:, None]
        return (self.courses.transfused & alive).sum(axis=1).astype(np.float64)
