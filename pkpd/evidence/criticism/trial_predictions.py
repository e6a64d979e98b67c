"""Trials that are not yet done, or not in the table: their patients under posterior draws.

A new trial deviates from other trials as studies of the table do
(`pkpd.evidence.likelihood.random_effects`). Its deviation b is drawn once for each posterior draw,
the same for all its cohorts. Patients differ about it: where a patient of the typical study has
the standard normal score x, one of this study has x + b. Their random scores are shifted by b, so
that patients count alike and none is lost to weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pkpd.errors import PkpdError, sentence
from pkpd.evidence.likelihood.parameters import marrow_effects
from pkpd.evidence.likelihood.random_effects import StudyEffects
from pkpd.evidence.likelihood.simulator import STEPS_PER_DAY
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.patients import SCORES, candidates, random_scores
from pkpd.leukaemia.schedule import Arm
from pkpd.marrow.variants import FULL, Variant

Floats = NDArray[np.float64]
Look = Callable[[ArmOutcomes], Mapping[Hashable, Floats]]
"""What is read off the patients of one draw: name -> ``[N]`` (or ``[..., N]``)."""

_EDGE = 1e-9  # scores are uniform numbers strictly between 0 and 1


def shifted(scores: Floats, deviations: Mapping[str, float]) -> Floats:
    """Scores of the patients of a study that deviates from the typical one.

    Parameters
    ----------
    scores : float[M, len(SCORES)]
        Uniform on (0, 1).
    deviations
        Score -> deviation b, in SDs between patients.

    Returns
    -------
    float[M, len(SCORES)]
        ``Phi(Phi^-1(u) + b)`` in those columns, the others as they were.
    """
    moved = scores.copy()
    for name, b in deviations.items():
        if b != 0.0:
            column = SCORES.index(name)
            moved[:, column] = np.clip(ndtr(ndtri(scores[:, column]) + b), _EDGE, 1.0 - _EDGE)
    return moved


@dataclass(frozen=True)
class NewStudy:
    """A trial under posterior draws: the same patients under every draw and schedule.

    Attributes
    ----------
    name
        Who its patients are (`pkpd.subjects.patients_key`): another name gives other patients and
        other deviations.
    thetas
        Posterior draws, complete.
    deviations
        For each draw, score -> deviation of the trial.
    patients
        Simulated patients N.
    seed
        Of patients and deviations.
    variant
        Mechanisms of the marrow model.
    steps_per_day, threads
        As `pkpd.leukaemia.simulate.simulate`.
    """

    name: str
    thetas: tuple[Mapping[str, float], ...]
    deviations: tuple[Mapping[str, float], ...]
    patients: int
    seed: int
    variant: Variant = FULL
    steps_per_day: int = STEPS_PER_DAY
    threads: int | None = None

    def outcomes(self, arm: Arm, draw: int) -> ArmOutcomes:
        """Outcomes of an arm under one draw."""
        scores = random_scores(candidates(arm, self.patients), self.seed, self.name)
        return population_outcomes(
            arm,
            self.thetas[draw],
            self.patients,
            scores=shifted(scores, self.deviations[draw]),
            variant=self.variant,
            steps_per_day=self.steps_per_day,
            threads=self.threads,
        )

    def collect(
        self, arm: Arm, look: Look, on_draw: Callable[[int], None] | None = None
    ) -> dict[Hashable, Floats]:
        """Collect what is seen on the patients under every draw.

        Parameters
        ----------
        arm
            The arm.
        look
            From the outcomes of one draw to arrays ``[..., N]`` by name, the same names every time.
        on_draw
            Called with the number of draws done.

        Returns
        -------
        dict
            Name -> ``[..., draws, N]``.
        """
        store: dict[Hashable, Floats] = {}
        n_draws = len(self.thetas)
        for draw in range(n_draws):
            for key, values in look(self.outcomes(arm, draw)).items():
                values = np.asarray(values, dtype=np.float64)
                if draw == 0:
                    shape = (*values.shape[:-1], n_draws, values.shape[-1])
                    store[key] = np.full(shape, np.nan)
                store[key][..., draw, :] = values
            if on_draw is not None:
                on_draw(draw + 1)
        return store


def new_study(
    name: str,
    draws: Sequence[Mapping[str, float]],
    *,
    patients: int,
    seed: int = 1,
    effects: StudyEffects | None = None,
    variant: Variant = FULL,
    threads: int | None = None,
) -> NewStudy:
    """Draw the deviations of a trial, one for each posterior draw.

    Parameters
    ----------
    name
        Of the trial.
    draws
        Posterior draws (`EvidencePosterior.draws`); what a draw lacks has the cards' values.
    patients
        Simulated patients.
    seed
        Of patients and deviations.
    effects
        Deviations of studies; those of the marrow model if not given.
    variant
        Mechanisms of the marrow model.
    threads
        At most so many; all cores by default.

    Raises
    ------
    PkpdError
        If there is no draw, or a draw lacks the spread between studies.
    """
    if not draws:
        raise PkpdError(
            sentence(where=f"prediction of {name}", what="no posterior draw", remedy="give one")
        )
    effects = marrow_effects() if effects is None else effects
    missing = [e.ratio for e in effects.effects if e.ratio not in draws[0]]
    if missing:
        raise PkpdError(
            sentence(
                where=f"prediction of {name}",
                what=f"the draws have no {missing[0]}, the spread between studies",
                remedy="use draws of a posterior of pkpd.evidence",
            )
        )
    digest = hashlib.sha256(f"deviation:{int(seed)}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    names = [effect.score for effect in effects.effects]
    defaults = default_theta()
    return NewStudy(
        name=name,
        thetas=tuple({**defaults, **theta} for theta in draws),
        deviations=tuple(
            dict(zip(names, map(float, effects.draw(theta, rng)), strict=True)) for theta in draws
        ),
        patients=patients,
        seed=seed,
        variant=variant,
        threads=threads,
    )
