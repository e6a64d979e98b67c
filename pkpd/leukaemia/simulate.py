"""Runs the patients of an arm: their drugs by the kinetics of their cards, their marrow by days."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.course.record import course_of, followed
from pkpd.errors import PkpdError
from pkpd.leukaemia.drug_effects import DEPOT, GROWTH, PreparedRegimen, prepare_regimen
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.patients import Candidates, Patients, Who, values_of
from pkpd.leukaemia.schedule import Arm
from pkpd.marrow.actions import Graft, GrowthFactor, Intensity
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.variants import FULL, Variant
from pkpd.model.individuals import individual_parameters
from pkpd.model.kinetics import Kinetics, kinetics_of, occasions_of
from pkpd.model.parameters import typical
from pkpd.solve.compiled.run_days import Anatomy, Bodies, CourseDrug, run_days
from pkpd.solve.grid.cells import dose_cells
from pkpd.subjects import PatientSample

STEPS_PER_DAY = 6
"""Steps of 4 h; see ``docs/marrow_with_leukaemia.md`` for their error."""

_HOURS = 24.0
_GRAFT = "graft_"


@dataclass(frozen=True, eq=False)
class Lanes:
    """Patients of an arm under global parameters, ready for the driver.

    Attributes
    ----------
    anatomy, bodies
        What the driver is made for, and numbers of the patients.
    theta
        Global parameters, with those of a user's own cards.
    variant
        Mechanisms that are on.
    age, death_score : float[N]
        Years; uniform scores of early death.
    """

    anatomy: Anatomy
    bodies: Bodies
    theta: Theta
    variant: Variant
    age: Floats
    death_score: Floats


@dataclass(frozen=True, eq=False)
class PreparedArm:
    """An arm with its candidates, as far as global parameters do not change them.

    Parameters
    ----------
    arm
        The arm.
    sample
        Bodies of its candidates.
    regimen
        Its drugs.
    kinetics
        Of its candidates, under one draw: the values of the cards.
    edges
        Cells of a day, h.
    """

    arm: Arm
    sample: PatientSample
    regimen: PreparedRegimen
    kinetics: Kinetics | None
    edges: tuple[float, ...]

    @cached_property
    def _anatomies(self) -> dict[Hashable, Anatomy]:
        return {}

    def anatomy(self, variant: Variant, injury: bool, curves: tuple[str, ...] = ()) -> Anatomy:
        """Return what the driver is made for."""
        key = variant, injury, curves
        if key not in self._anatomies:
            self._anatomies[key] = self._anatomy(*key)
        return self._anatomies[key]

    def _anatomy(self, variant: Variant, injury: bool, curves: tuple[str, ...]) -> Anatomy:
        regimen = self.regimen
        levels = {level.index: level for level in regimen.levels}
        drugs = []
        for k, name in enumerate(() if regimen.made is None else regimen.made.drugs):
            if k in levels:
                drugs.append(CourseDrug(name, levels[k].pk, levels[k].acts(variant)))
            else:
                into = DEPOT if k in regimen.long_acting else ""
                drugs.append(CourseDrug(name, into=into))
        marrow = LeukaemicMarrow(variant, injury=injury, pegfilgrastim=bool(regimen.long_acting))
        further = (Intensity(), GrowthFactor(), *((Graft(_GRAFT),) if regimen.graft else ()))
        acting = [drug.action for drug in drugs if drug.action is not None]
        names = dict.fromkeys(
            name for part in (marrow, *acting, *further) for name in part.parameters
        )
        return Anatomy(
            marrow=marrow,
            drugs=tuple(drugs),
            slots=regimen.slots,
            further=further,
            parameters=tuple(names),
            edges=self.edges,
            growth=GROWTH,
            curves=curves,
        )

    def course(
        self,
        theta: Theta,
        patients: dict[str, Floats],
        which: NDArray[np.int64],
        normal_kill: Floats,
        variant: Variant = FULL,
        threads: int | None = None,
        curves: tuple[str, ...] = (),
    ) -> Course:
        """Simulate N patients.

        Parameters
        ----------
        theta
            Global parameters.
        patients
            Parameters of `pkpd.leukaemia.patients.Patients`, ``[N]`` each.
        which : int[N]
            Which of the candidates they are.
        normal_kill : float[N]
            Their scores of the sensitivity of blasts.
        variant
            Mechanisms that are on.
        threads
            At most so many; all cores by default. It does not change any number.
        curves
            Lines that are followed between mornings too; the amounts given are then kept, unless
            a drug is given in numbers of doses.

        Returns
        -------
        Course
            On mornings. A patient's row does not depend on the others.

        Raises
        ------
        PkpdError
            If a parameter is not finite.
        """
        return self.run(self.lanes(theta, patients, which, normal_kill, variant, curves), threads)

    def lanes(
        self,
        theta: Theta,
        patients: dict[str, Floats],
        which: NDArray[np.int64],
        normal_kill: Floats,
        variant: Variant = FULL,
        curves: tuple[str, ...] = (),
    ) -> Lanes:
        """Make N patients ready for the driver; parameters as of `course`."""
        theta = self.regimen.with_own(theta)
        par = self.parameters(theta, patients, which, normal_kill, variant)
        injury = self.regimen.injures(theta) and variant.late_injury
        anatomy = self.anatomy(variant, injury, curves)
        bodies = Bodies(
            theta=_rows(anatomy.parameters, par),
            surface=self.sample["bsa"][which],
            weight=self.sample["weight"][which],
            increment=np.ascontiguousarray(patients["increment"]),
            who=np.arange(which.size),
            **self.kinetics_of(anatomy, theta, which),
        )
        return Lanes(anatomy, bodies, theta, variant, patients["age"], patients["death_score"])

    @property
    def of_lanes(self) -> tuple[Hashable, ...]:
        """All of the arm that `lanes` depend on; amounts and days of doses are not among it."""
        regimen, sample = self.regimen, self.sample
        chemotherapy = tuple(dict.fromkeys(drug for _, _, drug, *_ in regimen.chemotherapy))
        kinetics: dict[Any, Floats] = {}
        if self.kinetics is not None:
            kinetics = {**self.kinetics.values}
            kinetics |= {(*key, "occasion"): v for key, v in self.kinetics.occasion.items()}
        numbers = {**sample.covariates, **kinetics}
        return (
            self.arm.disease,
            () if regimen.made is None else regimen.made.drugs,
            (regimen.levels, regimen.slots, regimen.long_acting, regimen.graft, chemotherapy),
            tuple((p.name, p.value) for p in regimen.own),
            (type(sample), sample.seed, sample.typical),
            tuple((name, v.shape, v.tobytes()) for name, v in numbers.items()),
            self.edges,
        )

    def run(self, lanes: Lanes, threads: int | None = None) -> Course:
        """Give lanes the doses of the regimen; parameters as of `course`."""
        schedule, made = self.arm.schedule, self.regimen.made
        policy, anatomy = schedule.growth_factor, lanes.anatomy
        record, given = run_days(
            anatomy, lanes.bodies, self.regimen.at(lanes.theta, lanes.variant),
            schedule.horizon_days, transfuse_below=schedule.transfuse_below,
            growth_below=policy.below, growth_from=policy.from_day, threads=threads,
            amounts=bool(anatomy.curves) and not self.regimen.long_acting,  # those are in doses
        )  # fmt: skip
        return course_of(
            anatomy.marrow.observed,
            record,
            given,
            lanes.bodies,
            drugs=() if made is None else made.drugs,
            course_names=() if made is None else made.course_names,
            death_score=lanes.death_score,
            curve=followed(anatomy, record, schedule.horizon_days),
        )

    def parameters(
        self,
        theta: Theta,
        patients: dict[str, Floats],
        which: NDArray[np.int64],
        normal_kill: Floats,
        variant: Variant = FULL,
    ) -> dict[str, Floats]:
        """Parameters of N patients with those of the actions of the drugs; as `course`."""
        of = values_of(self.regimen.with_own(theta), (self.arm.disease,))
        par = dict(patients)
        for level in self.regimen.levels:
            par |= level.parameters(
                of, self._scores(which), normal_kill, patients["resistance"], variant
            )
        if graft := self.regimen.graft:
            score = self._scores(which)(f"seeding.{graft}")
            seeding = of(f"seeding.{graft}") * np.exp(of(f"seeding.sd.{graft}", 0.0) * score)
            (name,) = Graft(_GRAFT).parameters
            par.setdefault(name, seeding)
        return par

    def _scores(self, which: NDArray[np.int64]) -> Callable[[str], Floats]:
        return lambda name: self.sample.normal_score(name)[which]

    def kinetics_of(
        self, anatomy: Anatomy, theta: Theta, which: NDArray[np.int64]
    ) -> dict[str, Any]:
        """Kinetic rows of the patients, and how they change from occasion to occasion.

        Parameters
        ----------
        anatomy, theta, which
            As of `course`; global parameters with those of a user's own cards.

        Returns
        -------
        dict
            ``kinetics``, ``occasion`` and ``occasion_rows`` of `Bodies`.
        """
        rows, occasion, places = [], [], []
        levels = {level.card.name: level for level in self.regimen.levels}
        of, score = values_of(theta, (self.arm.disease,)), self._scores(which)
        exposures = {name: level.exposure(of, score) for name, level in levels.items()}
        made = self.regimen.made
        card_of = {made.drugs[level.index]: name for name, level in levels.items()} if made else {}
        for place, (drug, parameter) in enumerate(anatomy.kinetic_rows):
            name = card_of.get(drug)
            if name is None or self.kinetics is None:
                rows.append(np.ones(which.size))
                continue
            value = self.kinetics.values[name, parameter][0, which]
            exposure = exposures[name]
            scaled = "k_in" if levels[name].pk.effect_site else "F"
            if exposure is not None and parameter == scaled:
                value = value * exposure
            rows.append(value)
            factor = self.kinetics.occasion.get((name, parameter))
            if factor is not None:
                occasion.append(factor[0][:, which])
                places.append(place)
        if not occasion:
            return {"kinetics": np.array(rows).reshape(len(rows), which.size)}
        most = max(len(one) for one in occasion)
        # beyond the last occasion of a drug its deviation is kept
        filled = [one[np.minimum(np.arange(most), len(one) - 1)] for one in occasion]
        return {
            "kinetics": np.array(rows),
            "occasion": np.stack(filled, axis=1),
            "occasion_rows": tuple(places),
        }


def together(each: Sequence[Lanes]) -> Lanes:
    """Put lanes one after the other that the driver is made for alike and that get the same doses.

    Parameters
    ----------
    each
        Lanes of one arm, whose doses act by no global parameter (`PreparedRegimen.chemotherapy`).
    """
    if len(each) == 1:
        return each[0]
    first, bodies = each[0], [lanes.bodies for lanes in each]
    occasion = [one.occasion for one in bodies if one.occasion is not None]
    n = sum(one.who.size for one in bodies)
    joint = Bodies(
        theta=np.concatenate([one.theta for one in bodies], axis=1),
        surface=np.concatenate([one.surface for one in bodies]),
        weight=np.concatenate([one.weight for one in bodies]),
        increment=np.concatenate([one.increment for one in bodies]),
        kinetics=np.concatenate([one.kinetics for one in bodies], axis=1),
        who=np.arange(n),
        occasion=np.concatenate(occasion, axis=2) if occasion else None,
        occasion_rows=first.bodies.occasion_rows,
    )
    return replace(
        first,
        bodies=joint,
        age=np.concatenate([lanes.age for lanes in each]),
        death_score=np.concatenate([lanes.death_score for lanes in each]),
    )


def prepare_arm(arm: Arm, sample: PatientSample, steps_per_day: int = STEPS_PER_DAY) -> PreparedArm:
    """Make an arm ready for many sets of global parameters.

    Parameters
    ----------
    arm
        The arm.
    sample
        Bodies of its candidates (`pkpd.leukaemia.patients.who`).
    steps_per_day
        6 (4 h) or 4 (6 h); cells also end with infusions, and an hour after doses by mouth.

    Raises
    ------
    PkpdError
        If a drug is unknown, or has no model for the route of a dose.
    """
    regimen = prepare_regimen(arm.schedule)
    given_drugs = {slot.drug for slot in regimen.slots}
    edges = dose_cells(regimen.slots, given_drugs, _HOURS / steps_per_day)
    kinetics = None
    if regimen.levels and regimen.model is not None:
        assert regimen.made is not None
        of_plan = regimen.made.dosing_days
        days = {
            level.card.name: of_plan[regimen.made.drugs[level.index]] for level in regimen.levels
        }
        structures = {level.card.name: level.pk for level in regimen.levels}
        values = typical(regimen.model, None)
        found = individual_parameters(regimen.model, values, sample, np)
        occasions = occasions_of(regimen.model, structures, sample, days)
        kinetics = kinetics_of(regimen.model, structures, found, values, occasions)
    return PreparedArm(arm, sample, regimen, kinetics, edges)


def simulate(
    arm: Arm,
    theta: Theta,
    source: Who,
    variant: Variant = FULL,
    *,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
    changes: dict[str, Floats] | None = None,
) -> tuple[Course, dict[str, Floats]]:
    """Simulate the patients of one arm, morning by morning.

    Parameters
    ----------
    arm
        Disease, bodies, limits of entry and schedule.
    theta
        Global parameters.
    source
        Its candidates.
    variant
        Mechanisms that are on.
    steps_per_day, threads
        See `prepare_arm` and `PreparedArm.course`.
    changes
        Parameters of the patients in place of their own, ``[N]`` each.

    Returns
    -------
    Course
        On mornings.
    dict
        Parameters of the patients and of the actions of their drugs, ``[N]`` each.
    """
    made = Candidates((arm,), (source,))
    patients = made.patients(theta, variant)
    found = {**patients.parameters, **(changes or {})}
    prepared = prepare_arm(arm, source.sample, steps_per_day)
    which, kill = chosen_of(patients), patients.kill_score
    course = prepared.course(theta, found, which, kill, variant, threads)
    return course, prepared.parameters(theta, found, which, kill, variant)


def chosen_of(patients: Patients) -> NDArray[np.int64]:
    """Which candidates the patients are, ``[N]``."""
    if patients.chosen is not None:
        return patients.chosen
    return np.arange(patients.parameters["death_score"].size)


def _rows(names: tuple[str, ...], parameters: dict[str, Floats]) -> Floats:
    """Parameters as an array ``[P, N]``.

    Raises
    ------
    PkpdError
        If one is not finite.
    """
    par = np.array([parameters[name] for name in names])
    if not np.isfinite(par).all():
        bad = [name for name, row in zip(names, par, strict=True) if not np.isfinite(row).all()]
        raise PkpdError(
            where="patients of an arm",
            what=f"parameters that are no numbers: {', '.join(bad)}",
            remedy="correct the global parameters they come from",
        )
    return par
