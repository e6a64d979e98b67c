"""A population model bound to data: the likelihood of the kind that the model needs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset, observed_lines
from pkpd.errors import DataError, PkpdWarning
from pkpd.fitting.model.individuals import IndividualModel
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.residual import ResidualError
from pkpd.fitting.model.serial import SerialLikelihood
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.ode import OdeStructure
from pkpd.predict.pk import LinearStructure


def bind(
    model: PopulationModel, dataset: Dataset, *, estimated: bool = True
) -> PopulationLikelihood:
    """Bind a population model to a data set.

    Parameters
    ----------
    model, dataset
        What is bound.
    estimated
        Whether parameters that are not held are to be estimated from the data.

    Raises
    ------
    DataError
        If the data lack a covariate, an occasion, or a residual error of an observed line, hold
        doses, lines or values the model cannot take, or lack a category to be estimated.
    """
    if not len(dataset.observations):
        raise DataError(
            where=dataset.events.source,
            what="has no measured value to fit",
            remedy="name the column of measured values with columns={'DV': ...}",
        )
    structure = model.structure
    dataset = observed_lines(dataset)
    if dataset.lines == ("DV",) and len(structure.lines) == 1:
        (name,) = structure.lines
        _look_at_compartment(structure, dataset)
        units = {name if key == "DV" else key: unit for key, unit in dataset.units.items()}
        dataset = dataclasses.replace(dataset, lines=(name,), units=units)
    _look_at_doses(structure, dataset)
    model = with_numbers(model, dataset, estimated)
    individuals = IndividualModel(model, dataset)
    if estimated:
        individuals.check_estimated()
    if isinstance(structure, OdeStructure):
        structure = structure.judged_at(_typical(individuals))
    made = _kind(structure, model.residual)(model, dataset, structure.bind(dataset), individuals)
    made._lines  # noqa: B018  (checks the lines now rather than inside a sampler)
    return made


def with_numbers(model: PopulationModel, data: Dataset, estimated: bool = True) -> PopulationModel:
    """Return the model with the numbers that data have for categories that are words.

    Raises
    ------
    DataError
        If the data have numbers there; or not the word, and its coefficient is to be estimated.
    """
    if not any(effect.word for p in model.parameters for effect in p.effects):
        return model
    source, made = data.events.source, []
    for p in model.parameters:
        effects = tuple(
            effect.numbered(data.words, source, estimated and not effect.coefficient.fixed)
            for effect in p.effects
        )
        made.append(dataclasses.replace(p, effects=effects))
    return model.replace(parameters=made)


def _look_at_compartment(structure: Any, data: Dataset) -> None:
    """Warn of observations without a name whose CMT is another compartment than the observed."""
    if not isinstance(structure, LinearStructure):
        return
    names, seen = structure.system.compartments, data.observations
    at = structure.observed[0][0] + 1
    given = data.events.cmt[seen.subject, seen.record]
    other = np.flatnonzero((given != at) & (given > 0) & (given <= len(names)))
    if other.size:
        cmt, row = int(given[other[0]]), data.events.numbers[seen.row[other[0]]]
        warnings.warn(
            f"{data.events.source}, row {row}: observations have CMT {cmt} ({names[cmt - 1]}) and "
            f"are taken as {structure.line}, which the model has in CMT {at} ({names[at - 1]}): "
            f'correct CMT, or read them with lines={{{cmt}: "{structure.line}"}} if they are it',
            PkpdWarning,
            stacklevel=4,
        )


def _look_at_doses(structure: Any, data: Dataset) -> None:
    """Warn of doses into a peripheral compartment, which no route reaches."""
    if not isinstance(structure, LinearStructure):
        return
    names, events = structure.system.compartments, data.events
    peripheral = [k + 1 for k, name in enumerate(names) if name.startswith("peripheral")]
    subject, record = np.nonzero(events.is_dose & events.valid & np.isin(events.cmt, peripheral))
    if subject.size:
        cmt, row = int(events.cmt[subject[0], record[0]]), events.row[subject[0], record[0]]
        counted = f"{subject.size} doses have" if subject.size > 1 else "a dose has"
        warnings.warn(
            f"{events.source}, row {events.numbers[row]}: {counted} CMT {cmt}, which is "
            f"{names[cmt - 1]} here: compartments are {', '.join(names)} (CMT 1 to {len(names)}); "
            "correct CMT, or leave it out for the first",
            PkpdWarning,
            stacklevel=4,
        )


def _kind(structure: Any, residual: Mapping[str, ResidualError]) -> type[PopulationLikelihood]:
    """Return the kind of likelihood that the structure and its residual errors need."""
    if not getattr(structure, "own_error", False):
        if not any(error.serial for error in residual.values()):
            return PopulationLikelihood
        return SerialLikelihood
    return OwnErrorLikelihood


def _typical(individuals: IndividualModel) -> dict[str, float]:
    """Typical individual parameters at the start; medians of those read from data or derived."""
    model = individuals.model
    fixed = start_values(model)
    size = (len(individuals.dataset.subjects), individuals.random_effects.size)
    of_patients = individuals(fixed, jnp.zeros(size))
    return {
        name: fixed[name] if model[name].has_typical else float(np.median(value))
        for name, value in of_patients.items()
    }
