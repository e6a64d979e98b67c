"""From population parameters and random effects to individual parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import Floats
from pkpd.data.dataset import Dataset
from pkpd.errors import DataError
from pkpd.fitting.model.covariate_effects import CovariateEffect
from pkpd.fitting.model.population_parameters import RandomEffects
from pkpd.fitting.model.specification import IndividualParameter, PopulationModel


def covariates_read(model: PopulationModel) -> tuple[str, ...]:
    """Name the covariates that a population model reads: of its effects, then of its columns."""
    effects = [e.covariate for p in model.parameters for e in p.effects]
    return tuple(dict.fromkeys([*effects, *(p.column for p in model.parameters if p.column)]))


@dataclass(frozen=True, eq=False)
class IndividualModel:
    """Individual parameters of the patients of a data set.

    Attributes
    ----------
    model
        The population model.
    dataset
        Patients, covariates and occasions.
    """

    model: PopulationModel
    dataset: Dataset

    def __post_init__(self) -> None:
        """Refuse covariates and occasions that the data lack."""
        source = self.dataset.events.source
        known = self.dataset.covariates
        for p in self.model.parameters:
            wanted = [e.covariate for e in p.effects] + ([p.column] if p.column else [])
            for name in wanted:
                if name not in known:
                    raise DataError(
                        where=f"{source}, covariate {name!r} of parameter {p.name!r}",
                        what="is not in the data set",
                        allowed=", ".join(known) or "no covariate was read",
                        remedy=f'read it with covariates=["{name}"]',
                    )
            for effect in p.effects:
                effect.check(known[effect.covariate][self.dataset.events.valid], source)
        if self.model.occasional and self.dataset.occasion is None:
            raise DataError(
                where=source,
                what=f"{self.model.occasional[0]!r} varies between occasions, and the data "
                "have none",
                remedy="give a column OCC",
            )

    def check_estimated(self) -> None:
        """Refuse data from which a covariate effect that is not held cannot be estimated."""
        known, events = self.dataset.covariates, self.dataset.events
        for p in self.model.parameters:
            for effect in p.effects:
                effect.check_estimated(known[effect.covariate][events.valid], events.source)

    def check_factors(self, fixed: Mapping[str, Floats]) -> None:
        """Refuse patients in whom a linear effect leaves a parameter on the log scale no value.

        Parameters
        ----------
        fixed
            Fixed effects by name, ``[M]``.

        Raises
        ------
        DataError
            If the factor ``1 + b (x - centre)`` of a patient is 0 or less.
        """
        known, events = self.dataset.covariates, self.dataset.events
        for p in self.model.parameters:
            for effect in p.effects if p.scale == "log" else ():
                if effect.kind == "linear":
                    values = np.unique(known[effect.covariate][events.valid])
                    effect.check_factor(values, fixed[effect.name(p.name)], p.name, events.source)

    @cached_property
    def n_occasions(self) -> int:
        """Occasions in the data; 0 if no parameter varies between them."""
        occasion = self.dataset.occasion
        if not self.model.occasional or occasion is None:
            return 0
        return int(occasion[self.dataset.events.valid].max()) + 1

    @cached_property
    def random_effects(self) -> RandomEffects:
        """Order and covariance of the random effects."""
        return RandomEffects(self.model, self.n_occasions)

    def _covariate(self, name: str) -> np.ndarray:
        """Values ``[B]`` if they never change, else ``[B, N]``."""
        values = self.dataset.covariates[name]
        return values[:, 0] if self.dataset.constant(name) else values

    def __call__(
        self,
        fixed: Mapping[str, Any],
        random: Array,
        guard: Callable[[Array], Array] = lambda value: value,
    ) -> dict[str, Array]:
        """Individual parameters in natural units.

        Parameters
        ----------
        fixed
            Fixed effects by name.
        random : float[B, R]
            Random effects of each patient.
        guard
            Laid over every value of a patient before it meets what all patients share; keeps a
            derivative that is not finite to its own patient.

        Returns
        -------
        dict
            ``[B]``, or ``[B, N]`` where a covariate changes or an occasion counts; those of the
            structural model, in its order.
        """
        out = self.all(fixed, random, guard)
        return {name: out[name] for name in self.model.structure.parameters}

    def all(
        self,
        fixed: Mapping[str, Any],
        random: Array,
        guard: Callable[[Array], Array] = lambda value: value,
    ) -> dict[str, Array]:
        """Individual parameters as `__call__`, and those that only residual errors read."""
        eta, kappa = self.random_effects.split(guard(random))
        place = {name: i for i, name in enumerate(self.model.varying)}
        visit = {name: i for i, name in enumerate(self.model.occasional)}
        out = {}
        for p in self.model.parameters:
            if p.column is not None:
                out[p.name] = jnp.asarray(self._covariate(p.column))
            if not p.has_typical:
                continue
            here = eta[:, place[p.name]] if p.name in place else jnp.zeros(random.shape[0])
            if p.boxcox is not None:
                shape = guard(jnp.broadcast_to(fixed[f"boxcox_{p.name}"], here.shape))
                here = here * _relative_expm1(shape * here)
            added = here
            for effect in p.effects:
                term = self._effect(p, effect, fixed, guard)
                added = _sum(added, term)
            if p.name in visit:
                occasion = self.dataset.occasion
                assert occasion is not None
                rows = jnp.arange(random.shape[0])[:, None]
                added = _sum(added, kappa[rows, occasion, visit[p.name]])
            out[p.name] = guard(from_scale(p, guard(to_scale(p, fixed[p.name]) + added)))
        for p in self.model.parameters:
            if p.function is not None:
                out[p.name] = guard(_derived(p, out, random.shape[0]))
        return out

    def _effect(
        self,
        p: IndividualParameter,
        effect: CovariateEffect,
        fixed: Mapping[str, Any],
        guard: Callable[[Array], Array],
    ) -> Array:
        design = effect.design(self._covariate(effect.covariate))
        coefficient = guard(jnp.broadcast_to(fixed[effect.name(p.name)], design.shape))
        return effect.term(coefficient, design, p.scale, jnp)


def _sum(first: Array, second: Array) -> Array:
    """Add terms of subjects, ``[B]``, and of their records, ``[B, N]``."""
    if first.ndim < second.ndim:
        return first[:, None] + second
    return first + (second[:, None] if second.ndim < first.ndim else second)


def _derived(p: IndividualParameter, known: Mapping[str, Array], n_subjects: int) -> Array:
    """Values of a derived parameter, ``[B]``, or ``[B, N]`` if one that it reads has these."""
    assert p.function is not None
    given = [jnp.asarray(known[name]) for name in p.reads]
    by_record = any(value.ndim == 2 for value in given)
    if by_record:
        given = [value[:, None] if value.ndim == 1 else value for value in given]
    value = jnp.asarray(p.function(*given), dtype=float)
    shape = jnp.broadcast_shapes((n_subjects, 1) if by_record else (n_subjects,), value.shape)
    return jnp.broadcast_to(value, shape)


def _relative_expm1(x: Array) -> Array:
    """``(exp(x) - 1) / x``, 1 at 0."""
    near = jnp.abs(x) < 1e-5
    far = jnp.where(near, 1.0, x)
    return jnp.where(near, 1.0 + x / 2.0 + x * x / 6.0, jnp.expm1(far) / far)


def to_scale(p: IndividualParameter, value: Any, xp: Any = jnp) -> Any:
    """Transform a natural value to the scale on which effects add."""
    if p.scale == "log":
        return xp.log(value)
    if p.scale == "logit":
        low, high = p.bounds
        return xp.log(value - low) - xp.log(high - value)
    return value


def from_scale(p: IndividualParameter, value: Any) -> Array:
    """Transform back to natural units."""
    if p.scale == "log":
        return jnp.exp(value)
    if p.scale == "logit":
        low, high = p.bounds
        return low + (high - low) * jax.nn.sigmoid(value)
    return jnp.asarray(value)
