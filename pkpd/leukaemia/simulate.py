"""Runs the patients of an arm: their drugs by the kinetics of their cards, their marrow by days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

    def anatomy(self, variant: Variant, injury: bool, curves: tuple[str, ...] = ()) -> Anatomy:
        """Return what the driver is made for."""
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
            Lines that are followed between mornings too; the amounts given are then kept.

        Returns
        -------
        Course
            On mornings. A patient's row does not depend on the others.

        Raises
        ------
        PkpdError
            If a parameter is not finite.
        """
        regimen, n = self.regimen, which.size
        theta = regimen.with_own(theta)
        par = self.parameters(theta, patients, which, normal_kill, variant)
        injury = regimen.injures(theta) and variant.late_injury
        anatomy = self.anatomy(variant, injury, curves)
        bodies = Bodies(
            theta=_rows(anatomy.parameters, par),
            surface=self.sample["bsa"][which],
            weight=self.sample["weight"][which],
            increment=np.ascontiguousarray(patients["increment"]),
            who=np.arange(n),
            **self.kinetics_of(anatomy, theta, which),
        )
        schedule = self.arm.schedule
        policy = schedule.growth_factor
        record, given = run_days(
            anatomy, bodies, regimen.at(theta, variant), schedule.horizon_days,
            transfuse_below=schedule.transfuse_below, growth_below=policy.below,
            growth_from=policy.from_day, threads=threads, amounts=bool(curves),
        )  # fmt: skip
        made = regimen.made
        return course_of(
            anatomy.marrow.observed,
            record,
            given,
            drugs=() if made is None else made.drugs,
            course_names=() if made is None else made.course_names,
            death_score=patients["death_score"],
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
