"""Trials that are not yet done, or not in the table: their patients under posterior draws.

A new trial deviates from other trials as studies of the table do
(`pkpd.evidence.likelihood.deviations`). Its deviation b is drawn once for each posterior draw, the
same for all its cohorts. Patients differ about it: where a patient of the typical study
has the standard normal score x, one of this study has x + b, so that patients count alike and none
is lost to weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.course.joined import joined
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.deviations import DEVIATIONS, draw_deviation
from pkpd.evidence.likelihood.simulator import STEPS_PER_DAY
from pkpd.kept_values import Kept
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.patients import Candidates, who
from pkpd.leukaemia.schedule import Arm
from pkpd.leukaemia.simulate import Lanes, PreparedArm, chosen_of, prepare_arm, together
from pkpd.marrow.variants import Variant
from pkpd.solve.compiled.run_days import course_pool

Look = Callable[[ArmOutcomes], Mapping[Hashable, Floats]]
"""What is read off the patients of one draw: name -> ``[N]`` (or ``[..., N]``)."""


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
    variant: Variant
    steps_per_day: int = STEPS_PER_DAY
    threads: int | None = None

    def __repr__(self) -> str:
        """Tell name and sizes."""
        return (
            f"NewStudy({self.name!r}: {len(self.thetas)} draws times {self.patients} patients, "
            f"seed {self.seed})"
        )

    def arm(self, arm: Arm) -> StudyArm:
        """Make an arm ready for every draw."""
        source = who(arm, self.patients, self.seed, self.name)
        prepared = prepare_arm(arm, source.sample, self.steps_per_day)
        own = prepared.regimen.own_draws(len(self.thetas), self.seed)
        limits = arm.least_neutrophils, arm.least_platelets, arm.most_wbc
        key = self._numbers, self.variant, limits, source.scores.tobytes(), prepared.of_lanes
        alike = _ALIKE.of((*key, tuple(map(_numbers, own))), object)
        return StudyArm(self, arm, Candidates((arm,), (source,)), prepared, own, alike)

    @cached_property
    def _numbers(self) -> tuple[Hashable, ...]:
        """Numbers of the draws, to be compared."""
        return tuple(map(_numbers, (*self.thetas, *self.deviations)))

    def collect(
        self, arm: Arm, look: Look, on_draw: Callable[[int], None] | None = None
    ) -> dict[Hashable, Floats]:
        """Collect what is seen on the patients under every draw.

        Parameters
        ----------
        arm
            The arm.
        look
            From the outcomes of one draw to arrays ``[..., N]`` by name, the same names every time;
            it is called from several threads.
        on_draw
            Called with the number of draws done.

        Returns
        -------
        dict
            Name -> ``[..., draws, N]``.
        """
        store: dict[Hashable, Floats] = {}
        n_draws = len(self.thetas)
        ready = self.arm(arm)
        every = range(n_draws)
        if self.threads == 1:
            seen = (look(ready.outcomes(draw)) for draw in every)
        else:
            seen = course_pool().map(lambda draw: look(ready.outcomes(draw)), every)
        for draw, found in enumerate(seen):
            for key, values in found.items():
                values = np.asarray(values, dtype=np.float64)
                if draw == 0:
                    shape = (*values.shape[:-1], n_draws, values.shape[-1])
                    store[key] = np.full(shape, np.nan)
                store[key][..., draw, :] = values
            if on_draw is not None:
                on_draw(draw + 1)
        return store


_ALIKE: Kept[object] = Kept(64)
"""What arms that differ in amounts and days of doses alone have in common: the key of lanes."""
_LANES: Kept[Lanes] = Kept(24_000, lambda lanes: lanes.age.size)


def _numbers(values: Mapping[str, float]) -> tuple[Hashable, ...]:
    """Names and numbers, of which those that are nan are equal, too."""
    return tuple(values), np.array(list(values.values()), dtype=np.float64).tobytes()


@dataclass(frozen=True, eq=False)
class StudyArm:
    """An arm of a trial, ready for every draw.

    Attributes
    ----------
    study
        The trial.
    plan
        The arm.
    candidates, prepared
        Its patients, and what of them does not depend on the draw.
    own
        For each draw, numbers of a user's own drug cards drawn from their ranges.
    alike
        Under which lanes are kept, of all arms that have the same.
    """

    study: NewStudy
    plan: Arm
    candidates: Candidates
    prepared: PreparedArm
    own: tuple[Mapping[str, float], ...]
    alike: object

    def course(self, draws: NDArray[np.int64], curves: tuple[str, ...] = ()) -> Course:
        """Simulate its patients under some draws, on one core; lines of ``curves`` all day long.

        Curves are those of one draw.
        """
        if len(draws) > 1 and self.prepared.regimen.chemotherapy:
            return joined([self.course(draw) for draw in np.split(draws, len(draws))])
        course = self.prepared.run(self._lanes_of(tuple(map(int, draws)), curves), threads=1)
        return replace(course, patients=self.study.patients, draws=draws)

    def outcomes(self, draw: int) -> ArmOutcomes:
        """Outcomes of its patients under one draw."""
        lanes = self._lanes_of((draw,), ())
        return ArmOutcomes(self.plan, self.prepared.run(lanes, threads=1), lanes.age)

    def _lanes_of(self, draws: tuple[int, ...], curves: tuple[str, ...]) -> Lanes:
        """Lanes of draws without chemotherapy, or of one draw."""

        def made() -> Lanes:
            return together([self._made(draw, curves) for draw in draws])

        if len(self.study.thetas) * self.study.patients > _LANES.most:
            return made()  # the last would have displaced the first before anyone asks again
        return _LANES.of((self.alike, draws, curves), made)

    def _made(self, draw: int, curves: tuple[str, ...]) -> Lanes:
        theta, variant = {**self.study.thetas[draw], **self.own[draw]}, self.study.variant
        patients = self.candidates.patients(theta, variant, self.study.deviations[draw])
        return self.prepared.lanes(
            theta, patients.parameters, chosen_of(patients), patients.kill_score, variant, curves
        )


def new_study(
    name: str,
    draws: Sequence[Mapping[str, float]],
    *,
    patients: int,
    seed: int = 1,
    variant: Variant,
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
        raise PkpdError(where=f"prediction of {name}", what="no posterior draw", remedy="give one")
    missing = [one.between for one in DEVIATIONS if one.between not in draws[0]]
    if missing:
        raise PkpdError(
            where=f"prediction of {name}",
            what=f"the draws have no {missing[0]}, the spread between studies",
            remedy="use draws of a posterior of pkpd.evidence",
        )
    digest = hashlib.sha256(f"deviation:{int(seed)}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    defaults = default_theta()
    return NewStudy(
        name=name,
        thetas=tuple({**defaults, **theta} for theta in draws),
        deviations=tuple(draw_deviation(theta, rng) for theta in draws),
        patients=patients,
        seed=seed,
        variant=variant,
        threads=threads,
    )
