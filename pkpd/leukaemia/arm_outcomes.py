"""From an arm and global parameters to the outcomes of its patients: what a calibration calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pkpd.cards import load_grades, load_response_criteria
from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.endpoints import (
    best_response,
    death_days,
    definition,
    grades_of,
    lowest,
    spells,
)
from pkpd.leukaemia.outcomes import THRESHOLDS, ArmOutcomes, Floats
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.patients import SCORES, arm_patients, candidates, random_scores
from pkpd.leukaemia.schedule import Arm
from pkpd.leukaemia.simulate import STEPS_PER_DAY, simulate
from pkpd.leukaemia.variants import FULL, Variant
from pkpd.trials import Grades, ResponseCriteria

_DISEASE_CRITERIA = (("mds", "iwg_2006_mds"),)
_USUAL_CRITERIA = "eln_2022"


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
        Of the random scores, which also depend on the arm's name.
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
        scores = random_scores(candidates(arm, n), seed, arm.name)
    elif scores.ndim != 2 or scores.shape != (candidates(arm, n), len(SCORES)):
        msg = sentence(
            where=f"arm {arm.name}",
            what=f"scores of shape {scores.shape}",
            allowed=f"({candidates(arm, n)}, {len(SCORES)})",
        )
        raise PkpdError(msg)
    p, state, _ = arm_patients(arm, theta, scores, variant)
    courses = simulate(
        arm.schedule, theta, p, state, variant, steps_per_day=steps_per_day, threads=threads
    )
    died = death_days(courses.cumulative_hazard, p["death_score"])
    last = np.minimum(died, courses.days).astype(np.int64)
    first_cycle = np.clip(np.minimum(last, courses.second_cycle_day - 1), 1, None)
    run = int(definition("recovery_days"))
    tables: list[dict] = [{}, {}, {}, {}]
    for line, own in (("neutrophils", courses.neutrophils), ("platelets", courses.platelets)):
        levels = np.array(THRESHOLDS[line])
        found = spells(own, levels, last, run)
        for table, values in zip(tables, found, strict=True):
            table.update({(line, t): v for t, v in zip(THRESHOLDS[line], values, strict=True)})
    seen = {
        "neutrophils": courses.neutrophils,
        "platelets": courses.platelets_with_transfused,
        "wbc": courses.wbc,
    }
    low = {line: lowest(counts, last) for line, counts in seen.items()}
    scale = _grades("ctcae_v5")
    graded = ("neutrophils", "platelets")
    base = {line: seen[line][:, 0] for line in graded}
    rules = _criteria(criteria or usual_criteria(arm.disease))
    response, response_day, codes = best_response(courses, died, rules, response_by_day)
    complete = codes.index("CR") if "CR" in codes else -1
    return ArmOutcomes(
        name=arm.name,
        disease=arm.disease,
        n=died.size,
        horizon_days=courses.days,
        baseline={
            **{line: counts[:, 0] for line, counts in seen.items()},
            "marrow_blasts": courses.marrow_blasts[:, 0],
            "blood_blasts": courses.blood_blasts[:, 0],
            "age": p["age"],
        },
        recovery_day=tables[0],
        first_below_day=tables[1],
        days_below=tables[2],
        longest_below=tables[3],
        nadir={line: value for line, (value, _) in low.items()},
        nadir_day={line: day for line, (_, day) in low.items()},
        worst_grade={k: grades_of(low[k][0], base[k], scale, k) for k in graded},
        worst_grade_cycle1={
            k: grades_of(lowest(seen[k], first_cycle)[0], base[k], scale, k) for k in graded
        },
        baseline_grade={k: grades_of(base[k], base[k], scale, k) for k in graded},
        response=response,
        response_codes=codes,
        response_day=response_day,
        cr_day=np.where(response == complete, response_day, np.inf),
        death_day=died,
        transfusions=(
            courses.transfused & (np.arange(courses.days)[None, :] < last[:, None])
        ).sum(axis=1).astype(np.float64),
        courses=courses,
    )  # fmt: skip


def outcomes_of_arms(
    arms: Sequence[Arm], theta: Theta, n: int = 500, *, seed: int = 1, variant: Variant = FULL
) -> list[ArmOutcomes]:
    """`population_outcomes` of several arms, arms side by side on all cores."""
    from pkpd.leukaemia.simulate import arm_pool

    def one(arm: Arm) -> ArmOutcomes:
        return population_outcomes(arm, theta, n, seed=seed, variant=variant, threads=1)

    return list(arm_pool().map(one, arms))
