"""Individual parameters of patients whom a fit has not seen, under draws of its parameters."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.arrays import Floats
from pkpd.body import COVARIATE_KINDS, CREATININE_UMOL_PER_MG_DL
from pkpd.cards.files import nearest_of
from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import OTHER, EventTable
from pkpd.errors import PkpdError, PkpdWarning, UnitError
from pkpd.fitting.model.individuals import IndividualModel, covariates_read
from pkpd.fitting.model.population_parameters import fixed_effects
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.parameter_draws import ParameterDraws
from pkpd.subjects import PatientSample
from pkpd.units import INTERNAL_UNITS, unit_factor

WRITTEN = {"wt": "weight", "bw": "weight", "ht": "height", "clcr": "crcl"}
"""Usual names of covariates in data sets -> names of the patients' covariates."""

_BEYOND = 3.0
"""So many times beyond the data of a fit the median of new patients is another unit (assumed)."""


@dataclass(frozen=True, eq=False)
class FittedDraws:
    """Draws of the parameters of a fit times new patients.

    Attributes
    ----------
    model
        The population model.
    values
        Draws of its parameters.
    sample
        The patients: their covariates, and the scores of their random effects.
    words
        What was fitted, in a phrase.
    scale
        Covariate of the model -> what the patients' values are multiplied by to be in the unit of
        the data (`covariate_scale`); 1 where there is none.
    """

    model: PopulationModel
    values: ParameterDraws
    sample: PatientSample
    words: str
    scale: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(next(iter(self.values.values.values())))

    @property
    def patients(self) -> int:
        """Number of patients."""
        return self.sample.n

    def taken_for(self, drugs: Sequence[str]) -> tuple[str, ...]:
        """Say which drug of a schedule is taken for one that was fitted without a name."""
        return (f"the fit does not name its drug; {drugs[0]} is taken for it",) if drugs else ()

    @staticmethod
    def unused(drugs: Iterable[str]) -> tuple[str, ...]:
        """Say that the user's own cards of drugs of a schedule do not act."""
        text = "the schedule's own cards of {} are not used: the fit has its own drugs"
        return (text.format(", ".join(drugs)),) if drugs else ()


def _place(name: str, sample: PatientSample) -> str | None:
    """Covariate of the patients by its name, in capitals or not, or its usual name in data sets."""
    own = {other.lower(): other for other in sample.covariates}
    return own.get(name.lower()) or own.get(WRITTEN.get(name.lower(), ""))


def covariate_scale(
    model: PopulationModel, sample: PatientSample, data: Dataset | None
) -> dict[str, float]:
    """Bring the covariates of new patients into the units of the data that were fitted.

    Parameters
    ----------
    model, sample
        Model and patients.
    data
        What was fitted, with the units that were declared for it; ``None`` for a model with values.

    Returns
    -------
    dict
        Covariate of the model -> factor.

    Raises
    ------
    PkpdError
        If a declared unit is none of the covariate's kind, or the patients are so far from the data
        that these have another unit.
    """
    _look_at_words(model, sample, data)
    scale: dict[str, float] = {}
    for name in covariates_read(model):
        place = _place(name, sample)
        kind = COVARIATE_KINDS.get(place or "")
        if data is None or place is None or kind is None:
            continue
        declared = data.units.get(name)
        scale[name] = 1.0 if declared is None else _of_unit(name, declared, kind)
        seen = np.asarray(data.covariates[name], dtype=np.float64)
        middle = float(np.median(sample[place])) * scale[name]
        low, high = float(seen.min()), float(seen.max())
        if middle > _BEYOND * high or middle < low / _BEYOND:
            raise PkpdError(
                where=f"patients of '{sample.population}'",
                what=f"their median of {name!r} is {middle:.3g}, and the fit's data have {low:.3g} "
                f"to {high:.3g}",
                allowed=f"{declared or INTERNAL_UNITS[kind]}, or a unit that the data declare",
                remedy=f'read the data with units={{"{name}": ...}} and fit again, or choose '
                "patients like those of the data",
            )
    return scale


def _look_at_words(model: PopulationModel, sample: PatientSample, data: Dataset | None) -> None:
    """Refuse categories that are words, which patients in numbers have not; tell known numbers."""
    for p in model.parameters:
        for effect in p.effects:
            if np.isnan(effect.centre):
                raise PkpdError(
                    where=f"patients of '{sample.population}', {p.name}",
                    what=f"category {effect.word!r} of {effect.covariate} is a word, and patients "
                    "have numbers",
                    remedy=f'name the number, covariate.category("{effect.covariate}", 1), or give '
                    "a fit, whose data number the words",
                )
    known = {} if data is None else data.words
    for name in covariates_read(model):
        if name in known and _place(name, sample):
            numbers = ", ".join(f"{k} = {word}" for k, word in enumerate(known[name]))
            warnings.warn(
                f"patients of '{sample.population}': {name} is taken as the fit's data number it, "
                f"{numbers}",
                PkpdWarning,
                stacklevel=4,
            )


def _of_unit(name: str, unit: str, kind: str) -> float:
    """So many of a unit are one of the patients' own."""
    try:
        return 1.0 / unit_factor(unit, kind)
    except UnitError as error:
        if kind == "creatinine":
            with contextlib.suppress(UnitError):
                return CREATININE_UMOL_PER_MG_DL / unit_factor(unit, "molar concentration")
        raise PkpdError(where=f"covariate {name!r} of the fit's data", what=str(error)) from error


def covariates_of(
    model: PopulationModel, sample: PatientSample, scale: Mapping[str, float]
) -> dict[str, Floats]:
    """Values of the covariates that a population model reads.

    A covariate is found by its name, in capitals or not, or by its usual name in data sets.

    Parameters
    ----------
    model, sample
        Model and patients.
    scale
        Of `covariate_scale`.

    Returns
    -------
    dict
        Name in the model -> float[N].

    Raises
    ------
    PkpdError
        If the patients lack one.
    """
    found = {}
    for name in covariates_read(model):
        place = _place(name, sample)
        if place is None:
            known = tuple(sample.covariates)
            raise PkpdError(
                where=f"patients of '{sample.population}'",
                what=f"have no covariate {name!r}, which the fit reads{nearest_of(name, known)}",
                allowed=", ".join(known),
                remedy=f'give it: pkpd.subjects.patients({{..., "{name}": [...]}})',
            )
        found[name] = np.asarray(sample[place], dtype=np.float64) * scale.get(name, 1.0)
    return found


@dataclass(frozen=True, eq=False)
class NewPatients:
    """Patients who are drawn from the distributions that a fit has estimated.

    Attributes
    ----------
    model
        The population model.
    sample
        Their covariates, and the normal scores of their random effects: every draw of the
        parameters meets the same scores.
    occasions
        Occasions of each; 1 or more where a parameter varies between them.
    scale
        See `FittedDraws`.
    """

    model: PopulationModel
    sample: PatientSample
    occasions: int
    scale: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _individuals(self) -> IndividualModel:
        n = self.sample.n
        shape = (n, max(self.occasions, 1))
        covariates = covariates_of(self.model, self.sample, self.scale)
        number = np.broadcast_to(np.arange(shape[1]), shape)
        none = np.zeros(0)
        whole = np.zeros(0, dtype=np.int64)
        dataset = Dataset(
            events=EventTable(
                subject=np.arange(n),
                time=number.astype(float),
                evid=np.full(shape, OTHER),
                cmt=np.zeros(shape, dtype=np.int64),
                amt=np.zeros(shape),
                rate=np.zeros(shape),
                ii=np.zeros(shape),
                addl=np.zeros(shape, dtype=np.int64),
                ss=np.zeros(shape, dtype=np.int64),
                row=np.arange(n * shape[1]).reshape(shape),
                numbers=np.arange(n * shape[1]),
                source=f"patients of '{self.sample.population}'",
            ),
            observations=Observations(whole, whole, none, whole, none, whole, none, whole),
            lines=(),
            covariates={k: np.broadcast_to(v[:, None], shape) for k, v in covariates.items()},
            occasion=number,
        )
        return IndividualModel(self.model, dataset)

    @cached_property
    def _scores(self) -> Floats:
        """Standard normal scores of the random effects, ``[N, R]``."""
        model, sample = self.model, self.sample
        own = [sample.normal_score(f"fit:{name}") for name in model.varying]
        for o in range(self._individuals.n_occasions):
            own += [sample.occasion_score(f"fit:{name}", o) for name in model.occasional]
        return np.stack(own, axis=1) if own else np.zeros((sample.n, 0))

    @cached_property
    def _compiled(self) -> Any:
        def one(fixed: Mapping[str, Any], random: Any) -> dict[str, Any]:
            return self._individuals(fixed, random)

        return jax.jit(jax.vmap(one))

    def parameters(self, draws: Mapping[str, Floats]) -> dict[str, Floats]:
        """Individual parameters in natural units.

        Parameters
        ----------
        draws
            Population parameter -> float[M].

        Returns
        -------
        dict
            Parameter of the structural model -> ``[M, N]``, or ``[M, N, O]`` where it varies
            between occasions.
        """
        effects = self._individuals.random_effects
        size = len(next(iter(draws.values())))
        random = np.empty((size, self.sample.n, effects.size))
        for d in range(size):
            lower = effects.cholesky({name: v[d] for name, v in draws.items()}, np)
            random[d] = self._scores @ np.asarray(lower).T
        self._individuals.check_factors(draws)
        fixed = {name: jnp.asarray(draws[name]) for name in fixed_effects(self.model)}
        found = self._compiled(fixed, jnp.asarray(random))
        out = {name: np.asarray(value) for name, value in found.items()}
        return {k: v[..., 0] if v.ndim == 3 and v.shape[2] == 1 else v for k, v in out.items()}
