"""Patients of a disease in the marrow with leukaemia, under draws of its posterior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pkpd.arrays import Indices
from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.course.course import Course
from pkpd.ensemble.ensemble import told
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.trial_predictions import NewStudy, StudyArm
from pkpd.leukaemia.schedule import Arm
from pkpd.schedule import DosingPlan, GrowthFactorPolicy, Regimen

FOLLOWED = ("neutrophils", "platelets", "wbc")
"""Lines that are followed between mornings."""


@dataclass(frozen=True)
class LearnedEnsemble:
    """Posterior draws times patients of a new trial.

    Attributes
    ----------
    study
        The trial under posterior draws.
    arm
        Disease, patients, and everything of the schedule but regimen and days.
    curves
        Lines that are followed between mornings too.
    knowledge
        Where the draws come from, in words.
    """

    study: NewStudy
    arm: Arm
    curves: tuple[str, ...] = ()
    marrow: str = LEUKAEMIA
    knowledge: str = "learned from published outcomes"

    def __repr__(self) -> str:
        """Tell marrow and sizes in a line."""
        return told(self)

    @property
    def words(self) -> str:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return f"marrow with leukaemia, {self.knowledge}, disease {self.arm.disease}"

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.study.thetas)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return self.study.patients

    @property
    def lines(self) -> tuple[str, ...]:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return ("neutrophils", "platelets")

    @property
    def growth_factor(self) -> GrowthFactorPolicy:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return self.arm.schedule.growth_factor

    def between_mornings(self) -> LearnedEnsemble:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return replace(self, curves=FOLLOWED)

    def treated(self, regimen: Regimen, days: int) -> LearnedTreated:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        schedule = replace(self.arm.schedule, regimen=regimen, horizon_days=days)
        arm = self.study.arm(replace(self.arm, schedule=schedule))
        return LearnedTreated(arm, self.curves)


@dataclass(frozen=True)
class LearnedTreated:
    """Patients of a `LearnedEnsemble` under a regimen."""

    arm: StudyArm
    curves: tuple[str, ...] = ()

    @property
    def plan(self) -> DosingPlan:
        """See `pkpd.ensemble.ensemble.Treated`."""
        made = self.arm.prepared.regimen.made
        if made is None:
            raise PkpdError(where="regimen", what="it has no drug")
        return made

    def chunks(self) -> Iterator[Indices]:
        """See `pkpd.ensemble.ensemble.Treated`."""
        for draw in range(len(self.arm.study.thetas)):
            yield np.array([draw])

    def course(self, draws: Indices) -> Course:
        """See `pkpd.ensemble.ensemble.Treated`."""
        return self.arm.course(draws, self.curves)
