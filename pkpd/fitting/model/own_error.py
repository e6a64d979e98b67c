"""Structures that know the error of what they predict.

Such a structure has ``own_error`` true, and its residual error is `own`. Bound to data it gives, in
the place of predictions, ``2 M`` quantities: for an observation with a normal error its mean and
the logarithm of its standard deviation, for any other its log likelihood and 0. Mean and log
standard deviation carry separate information (``1/s^2`` and 2), so first-order conditional
estimation needs no more than their slopes by the random effects
(`pkpd.fitting.maximum.own_error`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import FloatArray
from pkpd.errors import PkpdError
from pkpd.fitting.model.population_likelihood import Observed, PopulationLikelihood
from pkpd.fitting.model.residual import ResidualError
from pkpd.predict.structure import FollowingData, Predictor
from pkpd.solve.events.guard import finite_derivative

_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


@runtime_checkable
class OwnErrorPredictor(Predictor, Protocol):
    """A predictor that also gives the error of its predictions."""

    @property
    def normal(self) -> np.ndarray:
        """Observations with a normal error, bool[M]; of the others it gives the log likelihood."""
        ...

    def quantities(self, parameters: Mapping[str, Any]) -> Any:
        """Means or log likelihoods of all observations, then logarithms of the deviations."""
        ...


@dataclass(frozen=True, eq=False)
class OwnErrorLikelihood(PopulationLikelihood):
    """Likelihood of data under a model whose structure knows its error."""

    quantities_read_data: ClassVar[bool] = True

    @property
    def _own(self) -> OwnErrorPredictor:
        assert isinstance(self.predictor, OwnErrorPredictor)
        return self.predictor

    @property
    def normal(self) -> np.ndarray:
        """Observations with a normal error, bool[M]."""
        return self._own.normal

    @cached_property
    def _lines(self) -> tuple[tuple[str, ResidualError, np.ndarray], ...]:
        return ()

    def quantities(self, fixed: Array, random: Array) -> Array:
        """Means or log likelihoods, then logarithms of the standard deviations, ``[2 M]``."""
        values = self.individuals(self._by_name(fixed), random, finite_derivative)
        return self._own.quantities(FollowingData(values))

    def predictions_of(self, quantities: FloatArray) -> FloatArray:
        """Means, or log likelihoods, ``[M]``."""
        return quantities.reshape(2, -1)[0]

    def density_of(
        self, fixed: Array, predictions: Array, observed: Observed | None = None
    ) -> Array:
        """Log density of every observation from quantities ``[2 M]``, ``[M]``."""
        mean, log_sd = predictions.reshape(2, -1)
        value = (observed or self.observed).value
        z = (value - mean) * jnp.exp(-log_sd)
        return jnp.where(self._own.normal, -0.5 * z**2 - log_sd - _HALF_LOG_2PI, mean)

    def residual_sd(self, fixed: Array, predictions: Array) -> Array:
        """NaN: the deviation does not follow from the prediction."""
        return jnp.full(len(self.dataset.observations), jnp.nan)

    def simulate(
        self,
        fixed: np.ndarray,
        predictions: np.ndarray,
        rng: np.random.Generator,
        random: np.ndarray | None = None,
    ) -> np.ndarray:
        """Refuse: predictions alone do not say how measurements scatter.

        Raises
        ------
        PkpdError
            Always.
        """
        raise PkpdError(
            where="simulated measurements",
            what="the structure has an error of its own, which predictions do not tell",
            remedy="use a model with a residual error of pkpd.models.residual",
        )


def own() -> ResidualError:
    """Return the residual error of a structure that knows its error."""
    return ResidualError("own", ())
