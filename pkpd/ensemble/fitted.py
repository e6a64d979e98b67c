"""Patients of a population under the parameters of a fit, in the marrow that was fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from scipy.special import ndtr

from pkpd.arrays import Floats, Indices
from pkpd.cards.drug_actions import FRIBERG, LEUKAEMIA
from pkpd.course.course import Course
from pkpd.course.record import course_of, followed
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.data.dataset import Dataset
from pkpd.data.declared_units import MOST_TYPICAL
from pkpd.ensemble.ensemble import told
from pkpd.ensemble.fitted_drugs import UNNAMED, FittedRegimen, prepare_fitted
from pkpd.ensemble.fitted_patients import FittedDraws, NewPatients, covariate_scale
from pkpd.errors import PkpdError
from pkpd.fitting.draws import Fitted
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.parameter_draws import ParameterDraws, parameter_draws
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import Arm
from pkpd.predict.marrow import MarrowStructure
from pkpd.schedule import NEVER, DosingPlan, GrowthFactorPolicy, Regimen
from pkpd.solve.compiled.run_days import Bodies, run_days
from pkpd.subjects import PatientSample

LANES_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class FittedEnsemble(FittedDraws):
    """Draws of the parameters of a fit times new patients.

    Amounts of the data that were fitted are mg unless they were declared to be umol, times hours,
    counts 10^9/L. Where a parameter varies between occasions, a dosing day is one.

    Attributes
    ----------
    model, values, sample, words
        See `FittedDraws`.
    transfusion
        Platelet transfusion policy; ``None`` for none.
    arm
        Disease and supportive care, where the marrow has leukaemia.
    curve
        Whether counts are kept between mornings too.
    dose_unit
        Of the amounts of the data, ``"mg"`` or ``"umol"``.
    """

    transfusion: TransfusionPolicy | None = TransfusionPolicy()  # noqa: RUF009 (frozen)
    arm: Arm | None = None
    curve: bool = False
    dose_unit: str = "mg"

    def __repr__(self) -> str:
        """Tell marrow and sizes in a line."""
        return told(self)

    @property
    def structure(self) -> MarrowStructure:
        """The structural model."""
        assert isinstance(self.model.structure, MarrowStructure)
        return self.model.structure

    @property
    def marrow(self) -> str:
        """Which marrow was fitted."""
        return FRIBERG if self.structure.whole is None else LEUKAEMIA

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines of the marrow that are counted."""
        if self.structure.whole is not None:
            return ("neutrophils", "platelets")
        return self.structure.names

    def taken_for(self, drugs: Sequence[str]) -> tuple[str, ...]:
        """Say which drug of a schedule is taken for one that was fitted without a name."""
        own = [drug.name for drug in self.structure.drugs]
        named = own != [UNNAMED] or not drugs or drugs[0] == UNNAMED
        return () if named else super().taken_for(drugs)

    @property
    def growth_factor(self) -> GrowthFactorPolicy:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return NEVER if self.arm is None else self.arm.schedule.growth_factor

    def between_mornings(self) -> FittedEnsemble:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return replace(self, curve=True)

    def treated(self, regimen: Regimen, days: int) -> FittedTreated:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        prepared = prepare_fitted(
            self.structure,
            regimen,
            days,
            transfusion=self.transfusion,
            curve=self.curve,
            arm=self.arm,
            occasional=self.model.occasional,
            dose_unit=self.dose_unit,
        )
        return FittedTreated(
            self, prepared, NewPatients(self.model, self.sample, prepared.days, self.scale)
        )


@dataclass(frozen=True, eq=False)
class FittedTreated:
    """Patients of a `FittedEnsemble` under a regimen."""

    ensemble: FittedEnsemble
    prepared: FittedRegimen
    new: NewPatients

    @property
    def plan(self) -> DosingPlan:
        """See `pkpd.ensemble.ensemble.Treated`."""
        return self.prepared.plan

    def chunks(self) -> Iterator[Indices]:
        """See `pkpd.ensemble.ensemble.Treated`."""
        total = self.ensemble.draws
        size = max(1, min(total, LANES_AT_ONCE // self.ensemble.patients))
        for start in range(0, total, size):
            yield np.arange(start, min(start + size, total))

    def course(self, draws: Indices) -> Course:
        """See `pkpd.ensemble.ensemble.Treated`."""
        return self._course(self.new.parameters(self._values(draws)), draws)

    def own_draws(self, draws: Indices) -> Course:
        """Simulate every patient under a draw of its own, ``[N]``."""
        distinct, place = np.unique(draws, return_inverse=True)
        every = np.arange(self.ensemble.patients)
        found = self.new.parameters(self._values(distinct))
        mine = {name: v[place, every][None] for name, v in found.items()}
        return self._course(mine, distinct[:1])

    def kinetics(self, draws: Indices) -> dict[str, Any]:
        """Kinetic rows of all patients under some of the draws: those of `Bodies`."""
        found = self.new.parameters(self._values(draws))
        return self.kinetics_of(found, len(draws) * self.ensemble.patients)

    def kinetics_of(self, found: Mapping[str, Floats], lanes: int) -> dict[str, Any]:
        """Kinetic rows of lanes, and how they change from occasion to occasion.

        Parameters
        ----------
        found
            Individual parameters (`NewPatients.parameters`).
        lanes
            Draws times patients.
        """
        prepared = self.prepared
        return kinetic_rows(found, prepared.kinetics, prepared.scale, lanes)

    def _values(self, draws: Indices) -> dict[str, Floats]:
        return {name: v[draws] for name, v in self.ensemble.values.values.items()}

    def _frailty(self) -> Floats:
        """Hazards of early death relative to those of the fit's typical patient, ``[N]``."""
        sample, theta = self.ensemble.sample, default_theta()
        older = (sample["age"] - dict(self.ensemble.structure.held)["age"]) / 10.0
        score = sample.normal_score("frailty")
        return np.exp(theta["hazard.sd"] * score + theta["hazard_age"] * older)

    def _course(self, found: Mapping[str, Floats], draws: Indices) -> Course:
        ensemble, prepared = self.ensemble, self.prepared
        anatomy, sample, policy = prepared.anatomy, ensemble.sample, ensemble.transfusion
        m, n = len(draws), sample.n
        lanes = m * n
        increments = np.zeros(n)
        if policy is not None:
            increments = policy.individual_increment(sample.normal_score("platelet.increment"))
        theta = np.array([_of_lanes(found, name, lanes) for name in prepared.theta])
        if ensemble.structure.whole is not None:
            hazards = [name.startswith("hazard_") for name in anatomy.parameters]
            theta[hazards] *= np.tile(self._frailty(), m)
        bodies = Bodies(
            theta=theta,
            surface=np.tile(sample["bsa"], m),
            weight=np.tile(sample["weight"], m),
            increment=np.tile(increments, m),
            who=np.arange(lanes),
            **self.kinetics_of(found, lanes),
        )
        record, given = run_days(
            anatomy,
            bodies,
            prepared.rules,
            prepared.horizon_days,
            transfuse_below=0.0 if policy is None else policy.trigger,
            growth_below=prepared.growth_below,
            growth_from=prepared.growth_from,
            amounts=prepared.amounts_are_doses,
            threads=1,
        )
        more = {}
        if ensemble.structure.whole is not None:
            more["death_score"] = np.tile(ndtr(sample.normal_score("death")), m)
        else:
            row = {name: i for i, name in enumerate(anatomy.parameters)}
            more["set_point"] = {
                line: theta[row[f"{line}.set_point"]]
                for line in ensemble.lines
                if f"{line}.set_point" in row
            }
        return course_of(
            anatomy.marrow.observed,
            record,
            given,
            bodies,
            lines=ensemble.lines,
            course_names=prepared.plan.course_names,
            drugs=prepared.plan.drugs,
            patients=n,
            draws=np.asarray(draws),
            curve=followed(anatomy, record, prepared.horizon_days),
            **more,
        )


def kinetic_rows(
    found: Mapping[str, Floats],
    kinetics: Sequence[str | float],
    scale: Sequence[float],
    lanes: int,
) -> dict[str, Any]:
    """Kinetic rows of lanes, and how they change from occasion to occasion.

    Parameters
    ----------
    found
        Individual parameters (`NewPatients.parameters`).
    kinetics, scale
        Of each row the individual parameter, or a number; and what it is multiplied by.
    lanes
        Draws times patients.
    """
    changing = {
        row: name
        for row, name in enumerate(kinetics)
        if isinstance(name, str) and found[name].ndim == 3
    }
    factors = [
        np.moveaxis(found[name] / found[name][..., :1], 2, 0).reshape(-1, lanes)
        for name in changing.values()
    ]
    rows = [f * _of_lanes(found, v, lanes) for v, f in zip(kinetics, scale, strict=True)]
    return {
        "kinetics": np.array(rows).reshape(-1, lanes),
        "occasion": np.ascontiguousarray(np.stack(factors, axis=1)) if factors else None,
        "occasion_rows": tuple(changing),
    }


def _of_lanes(found: Mapping[str, Floats], value: str | float, lanes: int) -> Floats:
    """Values of an individual parameter on its first occasion, or a number."""
    if not isinstance(value, str):
        return np.full(lanes, float(value))
    first = found[value][..., 0] if found[value].ndim == 3 else found[value]
    return np.ascontiguousarray(first).reshape(-1)


def fitted_ensemble(
    fitted: Fitted | PopulationModel,
    sample: PatientSample,
    draws: int,
    seed: int,
    transfusion: TransfusionPolicy | None = TransfusionPolicy(),  # noqa: B008 (frozen)
    arm: Arm | None = None,
) -> FittedEnsemble:
    """Patients under the parameters of a fit.

    Parameters
    ----------
    fitted
        Result of `pkpd.fit` of a model with blood counts (`pkpd.models.marrow_model`,
        `pkpd.models.leukaemia_model`), or such a model, whose values are taken as known.
    sample
        The patients. Their counts at start are those of the fit.
    draws, seed
        See `pkpd.fitting.parameter_draws.parameter_draws`.
    transfusion, arm
        See `FittedEnsemble`.

    Raises
    ------
    PkpdError
        If the model has no blood counts, or they are not in 10^9/L.
    """
    model, words, unit = fitted_model(fitted)
    if not isinstance(model.structure, MarrowStructure):
        _refuse(
            f"the {words} has no blood counts",
            "a fit of pkpd.models.marrow_model or pkpd.models.leukaemia_model",
            "ask pkpd.exposures for the areas and levels of its drug",
        )
    values = values_of(fitted, draws, seed)
    made = FittedEnsemble(
        model, values, sample, words, transfusion, arm, dose_unit=unit,
        scale=covariate_scale(model, sample, data_of(fitted)),
    )  # fmt: skip
    _check_counts(made)
    return made


def fitted_model(fitted: Fitted | PopulationModel) -> tuple[PopulationModel, str, str]:
    """Return the population model, what was fitted in a phrase, and the unit of amounts."""
    if isinstance(fitted, PopulationModel):
        return fitted, "population model", "mg"
    likelihood = getattr(fitted, "likelihood", None)
    if likelihood is None:
        allowed = "the result of pkpd.fit, or a population model"
        _refuse(f"{type(fitted).__name__} is no fit", allowed)
    n = likelihood.n_subjects
    words = f"fit of {likelihood.dataset.events.source} ({n} {'subject' if n == 1 else 'subjects'})"
    return likelihood.model, words, likelihood.dataset.units.get("AMT", "mg")


def data_of(fitted: Fitted | PopulationModel) -> Dataset | None:
    """Return the data that were fitted; none of a population model."""
    return None if isinstance(fitted, PopulationModel) else fitted.likelihood.dataset


def values_of(fitted: Fitted | PopulationModel, draws: int, seed: int) -> ParameterDraws:
    """Draw parameters of a fit; a population model has one draw, its values."""
    if not isinstance(fitted, PopulationModel):
        return parameter_draws(fitted, draws, seed)
    if draws > 1:
        _refuse(
            f"{draws} draws are asked of a population model, which has one value of each parameter",
            "draws=1, or a fit",
        )
    known = {name: np.array([value]) for name, value in start_values(fitted).items()}
    return ParameterDraws(known, "values of the model")


def _check_counts(made: FittedEnsemble) -> None:
    """Refuse counts per microlitre."""
    if made.structure.whole is not None:
        return
    for i, line in enumerate(made.structure.names):
        name = made.structure.marrow_names(i).get("set_point")
        most = MOST_TYPICAL.get(line)
        if name in made.values.values and most is not None:
            typical = float(np.median(made.values.values[name]))
            if typical > most:
                _refuse(
                    f"the {made.words} has a typical {name} of {typical:.4g} for {line}",
                    f"counts in 10^9/L, below {most:g}",
                    "divide the counts of the data by 1,000 and fit again",
                )


def _refuse(what: str, allowed: str, remedy: str | None = None) -> NoReturn:
    raise PkpdError(where="fit as a source", what=what, allowed=allowed, remedy=remedy)
