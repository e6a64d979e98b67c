"""Patients of a population under the parameters of a fit of concentrations alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pkpd.arrays import Indices
from pkpd.ensemble.fitted import data_of, fitted_model, kinetic_rows, values_of
from pkpd.ensemble.fitted_drugs import UNNAMED, dosing_days_of, scales_of, with_kinetics
from pkpd.ensemble.fitted_patients import FittedDraws, NewPatients, covariate_scale
from pkpd.errors import PkpdError
from pkpd.fitting.draws import Fitted
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.marrow import MarrowDrug
from pkpd.predict.pk import LinearStructure
from pkpd.schedule import Regimen, plan
from pkpd.solve.compiled.run_days import CourseDrug
from pkpd.subjects import PatientSample


@dataclass(frozen=True, eq=False)
class FittedKinetics(FittedDraws):
    """Draws of the parameters of a fit of one drug's concentrations, times new patients.

    Attributes
    ----------
    model, values, sample, words
        See `FittedDraws`; the structure of the model is linear.
    dose_unit
        Of the amounts of the data, ``"mg"`` or ``"umol"``.
    """

    dose_unit: str = "mg"

    def kinetics(
        self, regimen: Regimen, days: int, draws: Indices
    ) -> tuple[CourseDrug, tuple[str, ...], dict[str, Any]]:
        """Kinetics of the regimen's drug, which is taken for the one that was fitted.

        Returns
        -------
        drug, names, rows
            The drug, its kinetic parameters, and their numbers by lane (`fitted.kinetic_rows`),
            draws outside patients.

        Raises
        ------
        PkpdError
            If the regimen has several drugs, or a route that the fit has not.
        """
        made, structure = plan(regimen, days), self.model.structure
        assert isinstance(structure, LinearStructure)
        if len(made.drugs) != 1:
            raise PkpdError(
                where="fit as a source",
                what=f"the schedule gives {', '.join(made.drugs)}, and the {self.words} is of one "
                "drug",
                allowed="a schedule of one drug, the one that was fitted",
            )
        own = MarrowDrug(UNNAMED, structure, "plasma", 1.0, 1, "")
        drug, sources = with_kinetics(own, made.drugs[0], made, None)
        assert drug.pk is not None
        names = (*drug.pk.parameters, "F")
        scale = scales_of([(drug.name, name) for name in names], {drug.name}, self.dose_unit)
        new = NewPatients(
            self.model, self.sample, dosing_days_of(made, self.model.occasional), self.scale
        )
        found = new.parameters({name: v[draws] for name, v in self.values.values.items()})
        return drug, names, kinetic_rows(found, sources, scale, len(draws) * self.patients)


def fitted_kinetics(
    fitted: Fitted | PopulationModel,
    sample: PatientSample,
    draws: int,
    seed: int,
    given: Mapping[str, object],
) -> FittedKinetics | None:
    """Patients under a fit of concentrations alone; ``None`` if it is none.

    Parameters
    ----------
    fitted
        Result of `pkpd.fit` of a linear model such as `pkpd.models.compartments`, or such a model,
        whose values are taken as known.
    sample
        The patients.
    draws, seed
        See `pkpd.fitting.parameter_draws.parameter_draws`.
    given
        What else was asked for by name, which such a fit cannot take.
    """
    model, words, unit = fitted_model(fitted)
    if not isinstance(model.structure, LinearStructure):
        return None
    for name, value in given.items():
        if value:
            raise PkpdError(
                where="fit as a source",
                what=f"{name} is given, and a fit of concentrations has none",
                remedy="leave it out",
            )
    scale = covariate_scale(model, sample, data_of(fitted))
    return FittedKinetics(model, values_of(fitted, draws, seed), sample, words, unit, scale=scale)
