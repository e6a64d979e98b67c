"""From arms and global parameters to the outcomes of their patients: what a calibration calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.drug_effects import prepare_regimen
from pkpd.leukaemia.outcomes import ArmOutcomes, Floats
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.patients import SCORES, Candidates, candidates, random_scores
from pkpd.leukaemia.schedule import Arm
from pkpd.leukaemia.simulate import STEPS_PER_DAY, as_rows, simulate_prepared
from pkpd.marrow.variants import FULL, Variant
from pkpd.solve.compiled.run_days import course_pool


def population_outcomes(
    arm: Arm,
    theta: Theta,
    n: int = 500,
    *,
    seed: int = 1,
    scores: Floats | None = None,
    variant: Variant = FULL,
    criteria: str | None = None,
    response_by_day: float = np.inf,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
) -> ArmOutcomes:
    """Outcomes of ``n`` patients of an arm under global parameters.

    With the same seed (or scores) two sets of parameters meet the same patients, and one set gives
    the same numbers every time.

    Parameters
    ----------
    arm
        Disease, entry limits and schedule.
    theta
        Global parameters (`pkpd.leukaemia.parameters.default_theta` and changes to it).
    n
        Number of patients.
    seed
        Of the random scores, which also depend on who the arm's patients are, not on its name.
    scores
        Scores instead of a seed, ``[M, len(SCORES)]`` uniform on (0, 1), with M as
        `pkpd.leukaemia.patients.candidates` says.
    variant
        Mechanisms that are on.
    criteria
        Card of response criteria; by disease if not given.
    response_by_day
        Last day on which a response may begin.
    steps_per_day, threads
        As `pkpd.leukaemia.simulate.simulate`.

    Raises
    ------
    PkpdError
        If the disease, a drug or a parameter is unknown, or the scores do not fit.
    """
    if scores is None:
        scores = random_scores(candidates(arm, n), seed, arm.patients_key)
    elif scores.ndim != 2 or scores.shape != (candidates(arm, n), len(SCORES)):
        msg = sentence(
            where=f"arm {arm.name}",
            what=f"scores of shape {scores.shape}",
            allowed=f"({candidates(arm, n)}, {len(SCORES)})",
        )
        raise PkpdError(msg)
    prepared = PreparedArms((arm,), (scores,), variant, steps_per_day)
    return prepared.outcomes(theta, threads, criteria, response_by_day)[0]


class PreparedArms:
    """Arms whose patients meet many sets of global parameters.

    What does not depend on the parameters is worked out once; the patients of all arms are made
    together.

    Parameters
    ----------
    arms
        The arms.
    scores
        Of the candidates of each (`pkpd.leukaemia.patients.random_scores`).
    variant
        Mechanisms that are on.
    steps_per_day
        As `pkpd.leukaemia.simulate.simulate`.

    Attributes
    ----------
    candidates
        The candidates of all arms.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        scores: Sequence[Floats],
        variant: Variant = FULL,
        steps_per_day: int = STEPS_PER_DAY,
    ) -> None:
        self.arms = tuple(arms)
        self.candidates = Candidates(arms, scores)
        self.variant = variant
        self.steps_per_day = steps_per_day
        self._regimens = [prepare_regimen(arm.schedule) for arm in arms]

    def outcomes(
        self,
        theta: Theta,
        threads: int | None = None,
        criteria: str | None = None,
        response_by_day: float = np.inf,
    ) -> list[ArmOutcomes]:
        """Outcomes of each arm under global parameters; see `population_outcomes`."""
        return self.seen(theta, threads, criteria, response_by_day)[0]

    def seen(
        self,
        theta: Theta,
        threads: int | None = None,
        criteria: str | None = None,
        response_by_day: float = np.inf,
    ) -> tuple[list[ArmOutcomes], NDArray[np.int64] | None]:
        """Outcomes of each arm, and which of the candidates their patients are.

        The second is that of `pkpd.leukaemia.patients.Patients`, for all arms together.
        """
        patients = self.candidates.patients(theta, self.variant)
        par, state, starts = as_rows(patients.parameters), patients.state, self.candidates.starts
        age, death_score = patients.parameters["age"], patients.parameters["death_score"]

        def one(index: int, inside: int | None) -> ArmOutcomes:
            own = slice(int(starts[index]), int(starts[index + 1]))
            course = simulate_prepared(
                self._regimens[index], self.arms[index].schedule, theta,
                np.ascontiguousarray(par[:, own]), np.ascontiguousarray(state[:, own]),
                self.variant, steps_per_day=self.steps_per_day, threads=inside,
                death_score=death_score[own],
            )  # fmt: skip
            return ArmOutcomes(
                self.arms[index], course, age[own], criteria,
                response_by_day,
            )  # fmt: skip

        every = range(len(self.arms))
        if threads == 1 or len(self.arms) == 1:
            made = [one(index, threads) for index in every]
        else:
            made = list(course_pool().map(lambda index: one(index, 1), every))
        return made, patients.chosen


def outcomes_of_arms(
    arms: Sequence[Arm], theta: Theta, n: int = 500, *, seed: int = 1, variant: Variant = FULL
) -> list[ArmOutcomes]:
    """`population_outcomes` of several arms, arms side by side on all cores."""
    scores = [random_scores(candidates(arm, n), seed, arm.patients_key) for arm in arms]
    return list(PreparedArms(arms, scores, variant).outcomes(theta))
