"""What became of the simulated patients of one arm: the numbers that evidence is compared with.

Days are protocol days: day 1 is the day of the first dose, and the count of a day is that of its
morning, before that day's doses. Endpoints are those of `pkpd.endpoints`, read in mornings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards import load_grades, load_response_criteria
from pkpd.course.course import Course
from pkpd.endpoints.clock import clock_of, rule_days
from pkpd.endpoints.definitions import definition
from pkpd.endpoints.dlt import evaluate_rule
from pkpd.endpoints.grades import grade
from pkpd.endpoints.recovery import RecoveryDefinition, line_outcomes, nadir, recovery_days
from pkpd.endpoints.response import best_response, improvement_day
from pkpd.endpoints.results import LineOutcomes, RecoveryStatus
from pkpd.errors import DataError
from pkpd.leukaemia.parameters import response_criteria
from pkpd.leukaemia.schedule import Arm
from pkpd.schedule.plan import plan

if TYPE_CHECKING:
    from pkpd.trials import DLTRule, Grades, ResponseCriteria

Line = str
Key = tuple[Line, float]
K = TypeVar("K")

LINES = ("neutrophils", "platelets", "wbc")
GRADED = ("neutrophils", "platelets")


@lru_cache(maxsize=16)
def _criteria(name: str) -> ResponseCriteria:
    return load_response_criteria(name)


@lru_cache(maxsize=4)
def _grades(name: str) -> Grades:
    return load_grades(name)


class Worked(Mapping[K, Floats]):
    """Numbers ``[N]`` by key, worked out when asked for.

    Parameters
    ----------
    keys
        What may be asked for; any other key is worked out too.
    work_out
        From a key to its numbers. Where it holds the object that it is of, it is not kept there: in
        a ring the counts of a course would lie about until Python looks for garbage.
    """

    def __init__(self, keys: Iterable[K], work_out: Callable[[K], Floats]) -> None:
        self._keys = dict.fromkeys(keys)
        self._work_out = work_out

    def __getitem__(self, key: K) -> Floats:
        return self._work_out(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class ArmOutcomes:
    """Outcomes of the N patients of one arm, worked out when asked for, and kept.

    Arrays are ``[N]`` unless stated.

    Parameters
    ----------
    arm
        The arm.
    course
        Of its patients, with the day of death.
    age
        Years, if baselines are to hold it.

    Attributes
    ----------
    name, disease
        Of the arm.
    n, horizon_days
        Patients, and days simulated.
    course
        What became of them, for any other endpoint.
    """

    def __init__(
        self,
        arm: Arm,
        course: Course,
        age: Floats | None = None,
    ) -> None:
        self.name = arm.name
        self.disease = arm.disease
        self.n = course.lanes
        self.horizon_days = course.days
        self.course = course
        self._regimen = arm.schedule.regimen
        self._age = age
        self._criteria = _criteria(response_criteria(arm.disease)[0])
        self._lines: dict[Key, LineOutcomes] = {}
        self._nadirs: dict[Line, tuple[Floats, Floats]] = {}

    def _line(self, line: Line, threshold: float) -> LineOutcomes:
        key = (line, threshold)
        if key not in self._lines:
            self.work_out(line, (threshold,))
        return self._lines[key]

    def work_out(self, line: Line, thresholds: Sequence[float]) -> None:
        """Work out low counts and recovery at all thresholds of a line (10^9/L) in one pass."""
        # published recoveries are read as a laboratory's counts, whatever was transfused
        run = RecoveryDefinition(sustained_days=definition("recovery_days"))
        found = line_outcomes(self.course, line, thresholds, definition=run)
        for k, threshold in enumerate(thresholds):
            self._lines[line, threshold] = found.at(k)

    @property
    def death_day(self) -> Floats:
        """Day of early death; ``inf`` if alive at the horizon."""
        return self.course.death_day

    @cached_property
    def baseline(self) -> Mapping[str, Floats]:
        """Counts (10^9/L; marrow blasts in %) and age (years) before any dose."""
        blasts, blood = self.course.marrow_blasts, self.course.blood_blasts
        assert blasts is not None
        assert blood is not None
        return {
            **{line: self.course.laboratory(line)[:, 0] for line in LINES},
            "marrow_blasts": blasts[:, 0],
            "blood_blasts": blood[:, 0],
            **({} if self._age is None else {"age": self._age}),
        }

    @property
    def recovery_day(self) -> Mapping[Key, Floats]:
        """Day of recovery by line and threshold, platelets without transfused ones.

        The first of as many days in a row at or above the threshold as the card says, after having
        been below it. ``nan``: never below the threshold; ``inf``: below, and not recovered before
        death or the horizon.
        """

        def work_out(key: Key) -> Floats:
            found = self._line(*key).sustained
            never = found.status[0] == RecoveryStatus.NEVER_BELOW
            return np.where(never, np.nan, recovery_days(found)[0] + 1.0)

        return Worked((), work_out)

    @property
    def days_below(self) -> Mapping[Key, Floats]:
        """Number of days below a threshold while alive, by line."""
        return Worked((), lambda key: self._line(*key).days_below[0])

    @property
    def longest_below(self) -> Mapping[Key, Floats]:
        """Longest run of days below a threshold while alive, by line."""
        return Worked((), lambda key: self._line(*key).longest_below_days[0])

    def _lowest(self, line: Line) -> tuple[Floats, Floats]:
        if line not in self._nadirs:
            self._nadirs[line] = nadir(self.course, line)
        return self._nadirs[line]

    @property
    def nadir(self) -> Mapping[Line, Floats]:
        """Lowest count of each line while alive, 10^9/L."""
        return Worked(LINES, lambda line: self._lowest(line)[0])

    @cached_property
    def worst_grade(self) -> Mapping[Line, NDArray[np.int8]]:
        """CTCAE grade 0-4 of each line over all days while alive."""
        return {line: grade(_grades("ctcae_v5"), line, self.nadir[line]) for line in GRADED}

    @cached_property
    def _response(self) -> tuple[NDArray[np.int8], Floats, tuple[str, ...]]:
        return best_response(self.course, self._criteria)

    @property
    def response(self) -> NDArray[np.int8]:
        """Best response as index into `response_codes`; 0 is no response."""
        return self._response[0]

    @property
    def response_day(self) -> Floats:
        """Day of the best response; ``inf`` if none."""
        return self._response[1]

    @property
    def response_codes(self) -> tuple[str, ...]:
        """``("none", "CR", "CRh", ...)``."""
        return self._response[2]

    def blasts_day(self, day: int) -> Floats:
        """Marrow blasts (%) on the morning of a protocol day, as if all were alive."""
        assert self.course.marrow_blasts is not None
        return self.course.marrow_blasts[:, self._column(day)]

    def alive_probability(self, day: int) -> Floats:
        """Probability of each patient to be alive on the morning of a protocol day.

        Smooth in the parameters where ``death_day >= day`` is a step; both have the same mean.
        """
        assert self.course.cumulative_hazard is not None
        return np.exp(-self.course.cumulative_hazard[:, self._column(day)])

    def responded(self, *codes: str, by_day: float = np.inf) -> NDArray[np.bool_]:
        """Whether the best response is one of ``codes`` and was reached by a day."""
        wanted = np.array([code in codes for code in self.response_codes])
        return wanted[self.response] & (self.response_day <= by_day)

    def first_response_day(self, *codes: str) -> Floats:
        """Day on which the first of ``codes`` begins, whatever better one follows; ``inf`` if none.

        `response_day` is that of the best response, which may come later.
        """
        first = np.full(self.n, np.inf)
        for rule in (one for one in self._criteria.responses if one.code in codes):
            alone = replace(self._criteria, responses=(rule,))
            first = np.minimum(first, best_response(self.course, alone)[1])
        return first

    def dlt(self, rule: DLTRule) -> Floats:
        """Verdict of a rule: 1 dose-limiting toxicity, 0 none, ``nan`` where it cannot be told.

        As comparisons have it: days count from the first dose that is treatment, and recovery is
        looked for from the last one of the cycle.
        """
        if self._regimen is None:
            return evaluate_rule(rule, self.course).outcome
        clock = clock_of(plan(self._regimen, self.horizon_days), rule.clock, rule.by_day)
        start, search, until, _ = rule_days(self.course, clock)
        return evaluate_rule(rule, self.course, start=start, search=search, until=until).outcome

    def improved(
        self, criteria: ResponseCriteria, code: str, for_days: int | None = None
    ) -> NDArray[np.bool_]:
        """Haematological improvement such as ``HI-N`` of IWG 2006."""
        return np.isfinite(improvement_day(self.course, criteria, code, for_days))

    def _column(self, day: int) -> int:
        if not 1 <= day <= self.horizon_days:
            raise DataError(
                where=f"arm {self.name}",
                what=f"day {day} was not simulated",
                allowed=f"1 to {self.horizon_days}",
            )
        return int(day) - 1
