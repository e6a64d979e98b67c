"""The likelihood of a data set under a population model, given the random effects.

Everything is one traceable function of two arrays, the fixed effects ``[F]`` and the random effects
``[B, R]``; PyMC, maximum likelihood, simulation and checks all stand on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import FloatArray
from pkpd.data.dataset import Dataset
from pkpd.errors import DataError
from pkpd.fitting.model.individuals import IndividualModel
from pkpd.fitting.model.population_parameters import RandomEffects, fixed_effects
from pkpd.fitting.model.residual import ResidualError
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.structure import FollowingData, Predictor, check_lines
from pkpd.solve.events.guard import finite_derivative
from pkpd.solve.population.status import PENALTY


class Observed(NamedTuple):
    """Measurements of all observations, ``[M]`` each; see `pkpd.data.dataset.Observations`."""

    value: Any
    censored: Any
    lower: Any


def error_of(model: PopulationModel, line: str, source: str) -> ResidualError:
    """Residual error of an observed line of a data set; a model without one is refused."""
    if line not in model.residual:
        raise DataError(
            where=f"{source}, line {line!r}",
            what="is observed and has no residual error",
            remedy=f'give one: residual={{"{line}": ...}}',
        )
    return model.residual[line]


class Programs:
    """Compiled functions of a likelihood by what they compute, made when first asked for.

    They do not travel to other processes.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Any] = {}

    def of(self, key: tuple[Any, ...], function: Callable[..., Any]) -> Any:
        """Return the compiled function of a key; ``function`` is read where there is none yet."""
        if key not in self._made:
            self._made[key] = jax.jit(function)
        return self._made[key]

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what travels: nothing."""
        return Programs, ()


@dataclass(frozen=True, eq=False)
class PopulationLikelihood:
    """A population model bound to a data set of ``B`` subjects and ``M`` observations.

    Attributes
    ----------
    model
        The population model.
    dataset
        The data.
    predictor
        The structural model bound to the data.
    individuals
        Individual parameters.
    programs
        Compiled functions, shared with `with_measurements`.
    """

    model: PopulationModel
    dataset: Dataset
    predictor: Predictor = field(repr=False)
    individuals: IndividualModel = field(repr=False)
    programs: Programs = field(default_factory=Programs, init=False, repr=False)

    quantities_read_data: ClassVar[bool] = False
    """Whether `quantities` depend on measurements: programs then serve one data set."""

    def with_measurements(self, dataset: Dataset) -> PopulationLikelihood:
        """Return the likelihood of other measurements of the same design.

        What is compiled for one data set serves the other: measured values are inputs of programs.

        Parameters
        ----------
        dataset
            The data set of this likelihood with other measured values or censoring codes.
        """
        other = replace(self, dataset=dataset)
        if not self.quantities_read_data:
            object.__setattr__(other, "programs", self.programs)
        return other

    @cached_property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the fixed effects, in the order of the array ``[F]``."""
        return tuple(fixed_effects(self.model))

    @property
    def random_effects(self) -> RandomEffects:
        """Order and covariance of the random effects."""
        return self.individuals.random_effects

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.dataset.subjects)

    @cached_property
    def _lines(self) -> tuple[tuple[str, ResidualError, np.ndarray], ...]:
        """Name, residual error and places of the observations of every line in the data."""
        places = check_lines(
            self.dataset, self.model.structure.lines, type(self.model.structure).__name__
        )
        out = []
        for i, place in enumerate(places):
            name = self.model.structure.lines[place]
            mine = np.flatnonzero(self.dataset.observations.line == i)
            error = error_of(self.model, name, self.dataset.events.source)
            _check_positive(self.dataset, mine, name, error)
            out.append((name, error, mine))
        return tuple(out)

    @property
    def measured_lines(self) -> tuple[str, ...]:
        """Lines of the structure that the data measure."""
        return tuple(name for name, _, _ in self._lines)

    def fixed(self, values: Mapping[str, Any]) -> Array:
        """Return fixed effects as an array, from values by name."""
        return jnp.stack([jnp.asarray(values[name], dtype=float) for name in self.fixed_names])

    def _by_name(self, fixed: Array) -> dict[str, Array]:
        return {name: fixed[i] for i, name in enumerate(self.fixed_names)}

    def individual_parameters(self, fixed: Array, random: Array) -> dict[str, Array]:
        """Individual parameters in natural units, ``[B]`` or ``[B, N]``."""
        return self.individuals(self._by_name(fixed), random)

    def predictions(self, fixed: Array, random: Array) -> Array:
        """Predictions of all observations, ``[M]``."""
        values = self.individuals(self._by_name(fixed), random, finite_derivative)
        return self.predictor(FollowingData(values))

    def quantities(self, fixed: Array, random: Array) -> Array:
        """Return what the densities of the observations are made of: here their predictions."""
        return self.predictions(fixed, random)

    def predictions_of(self, quantities: FloatArray) -> FloatArray:
        """Predictions of all observations, in their units, that `quantities` hold, ``[M]``."""
        return quantities

    def residual_sd(self, fixed: Any, predictions: Any) -> Any:
        """Scale of the residual of every observation (log scale for log-normal errors), ``[M]``.

        Of NumPy's arrays it is one, too: no small programs are compiled for numbers.
        """
        xp: Any = jnp if isinstance(fixed, Array) or isinstance(predictions, Array) else np
        values, parts = self._by_name(fixed), []
        for name, error, mine in self._lines:
            coefficients, _ = self._coefficients(values, name, error)
            parts.append((mine, error.sd(predictions[mine], coefficients, xp)))
        return self._placed(parts, xp)

    def residual_deviation(
        self, values: Mapping[str, float], random: np.ndarray, predictions: np.ndarray
    ) -> np.ndarray:
        """Return the standard deviation of every residual, ``[M]``, of Student's t too.

        ``random [B, R]`` are the random effects of the predictions.
        """
        sd = np.array(self.residual_sd(np.asarray(self.fixed(values)), predictions))
        for line, error, mine in self._lines:
            if error.nu is not None and values[f"nu_{line}"] > 2:
                sd[mine] *= np.sqrt(values[f"nu_{line}"] / (values[f"nu_{line}"] - 2))
        return sd

    def _placed(self, parts: Sequence[tuple[np.ndarray, Any]], xp: Any) -> Any:
        """Put what is known of the observations of each line in their places, ``[M]``."""
        out = xp.zeros(len(self.dataset.observations))
        for mine, values in parts:
            if xp is np:
                out[mine] = values
            else:
                out = out.at[mine].set(values)
        return out

    def residual_correlation(self, values: Mapping[str, float], mine: np.ndarray) -> np.ndarray:
        """Correlation of the residuals of some observations of one subject, ``[k, k]``."""
        return np.eye(len(mine))

    def _coefficients(
        self, values: Mapping[str, Any], line: str, error: ResidualError
    ) -> tuple[list[Any], Any]:
        coefficients, nu, _, _ = error.read(line, values)
        return coefficients, nu

    @cached_property
    def observed(self) -> Observed:
        """The measurements of the data set."""
        seen = self.dataset.observations
        return Observed(seen.value, seen.censored, seen.lower)

    def by_observation(
        self, fixed: Array, random: Array, observed: Observed | None = None
    ) -> Array:
        """Log density (log probability if censored) of every observation, ``[M]``.

        Parameters
        ----------
        fixed : float[F]
            Fixed effects.
        random : float[B, R]
            Random effects.
        observed
            Other measurements in the place of those of the data set; they may be traced, so that
            one compiled function serves many data sets of the same design.
        """
        return self.density_of(fixed, self.quantities(fixed, random), observed)

    def density_of(
        self, fixed: Array, predictions: Array, observed: Observed | None = None
    ) -> Array:
        """Log density of every observation around given predictions, ``[M]``."""
        values, seen = self._by_name(fixed), observed or self.observed
        out = jnp.zeros(len(self.dataset.observations))
        for name, error, mine in self._lines:
            coefficients, nu = self._coefficients(values, name, error)
            term = error.log_density(
                predictions[mine],
                coefficients,
                nu,
                seen.value[mine],
                seen.censored[mine],
                seen.lower[mine],
            )
            out = out.at[mine].set(term)
        return out

    def by_subject(self, fixed: Array, random: Array, observed: Observed | None = None) -> Array:
        """Log-likelihood of each subject given its random effects, ``[B]``.

        A subject whose likelihood is not finite gives `pkpd.solve.population.status.PENALTY` and
        has no gradient.
        """
        each = self.by_observation(fixed, random, observed)
        total = jax.ops.segment_sum(each, self.dataset.observations.subject, self.n_subjects)
        good = jax.lax.stop_gradient(jnp.isfinite(total) & (total > PENALTY))
        return jnp.where(good, total, PENALTY)

    def total(self, fixed: Array, random: Array, observed: Observed | None = None) -> Array:
        """Log-likelihood of all subjects given their random effects."""
        return jnp.sum(self.by_subject(fixed, random, observed))

    @cached_property
    def value_and_gradient(self) -> Any:
        """Compiled ``(fixed, random) -> (total, d fixed [F], d random [B, R])``."""

        def both(fixed: Array, random: Array) -> tuple[Array, Array, Array]:
            value, (by_fixed, by_random) = jax.value_and_grad(self.total, argnums=(0, 1))(
                fixed, random
            )
            return value, by_fixed, by_random

        return jax.jit(both)

    def failures(self, fixed: Array, random: Array) -> np.ndarray:
        """Subjects (indices) whose likelihood is not finite at these values."""
        return np.flatnonzero(np.asarray(self.by_subject(fixed, random)) <= PENALTY)

    def simulate(
        self,
        fixed: np.ndarray,
        predictions: np.ndarray,
        rng: np.random.Generator,
        random: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw measurements around predictions ``[..., M]``, without applying any limit.

        ``random`` are the random effects of the predictions, where a residual error reads them.
        """
        values = {name: fixed[..., i, None] for i, name in enumerate(self.fixed_names)}
        out = np.array(predictions, dtype=float)
        for name, error, mine in self._lines:
            coefficients, nu = self._coefficients(values, name, error)
            out[..., mine] = error.simulate(out[..., mine], coefficients, nu, rng)
        return out


def _check_positive(dataset: Dataset, mine: np.ndarray, name: str, error: ResidualError) -> None:
    seen = dataset.observations
    bad = mine[(seen.value[mine] <= 0) & error.logarithmic]
    if bad.size:
        m = bad[0]
        raise DataError(
            where=f"{dataset.events.place(int(seen.subject[m]), int(seen.record[m]), 'DV')}",
            what=f"{name} of {seen.value[m]:g} has no logarithm, and its error is log-normal",
            remedy="mark it as below the limit (CENS 1), or use another residual error",
        )
