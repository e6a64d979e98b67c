"""Draws of everything a fit has estimated, whatever method estimated it.

Simulation, predictive checks and residuals take `Draws`: a posterior sample, or a single draw made
of maximum-likelihood estimates and individual modes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

from pkpd.distributions import stream
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values

if TYPE_CHECKING:
    from pkpd.fitting.maximum.individual_estimates import IndividualEstimates
    from pkpd.fitting.maximum.result import MaximumLikelihood
    from pkpd.fitting.sampled import Fit

Fitted: TypeAlias = "Fit | MaximumLikelihood | IndividualEstimates | Draws"
"""What checks take: a fit by any method, or its draws."""


@dataclass(frozen=True, eq=False)
class Draws:
    """``D`` draws of population parameters and random effects.

    Attributes
    ----------
    likelihood
        Model and data.
    population
        Every population parameter by name, ``[D]``; held ones included.
    random
        Random effects of the patients, ``[D, B, R]``.
    """

    likelihood: PopulationLikelihood
    population: Mapping[str, np.ndarray]
    random: np.ndarray

    def __repr__(self) -> str:
        """Tell how many there are."""
        return f"Draws({len(self)} draws, {self.likelihood.n_subjects} subjects)"

    def __len__(self) -> int:
        """Return the number of draws."""
        return self.random.shape[0]

    @cached_property
    def fixed(self) -> np.ndarray:
        """Fixed effects, ``[D, F]``."""
        names = self.likelihood.fixed_names
        return np.stack([np.asarray(self.population[name]) for name in names], axis=1)

    @cached_property
    def cholesky(self) -> np.ndarray:
        """Cholesky factors of the covariance of a patient's random effects, ``[D, R, R]``."""
        effects = self.likelihood.random_effects
        return np.stack(
            [
                effects.cholesky({name: v[d] for name, v in self.population.items()}, np)
                for d in range(len(self))
            ]
        )

    @cached_property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means: fixed effects ``[F]`` and random effects ``[B, R]``."""
        return self.fixed.mean(axis=0), self.random.mean(axis=0)

    def thinned(self, n: int) -> Draws:
        """Keep at most ``n`` draws, evenly spread."""
        if n >= len(self):
            return self
        keep = np.linspace(0, len(self) - 1, n).round().astype(int)
        return Draws(
            self.likelihood,
            {name: np.asarray(v)[keep] for name, v in self.population.items()},
            self.random[keep],
        )

    def individual_predictions(self) -> np.ndarray:
        """Predictions with each patient's own random effects (IPRED), ``[D, M]``."""
        return self._predict(self.random)

    def typical_predictions(self) -> np.ndarray:
        """Predictions with all random effects at zero (PRED), ``[D, M]``."""
        return self._predict(np.zeros_like(self.random))

    def _predict(self, random: np.ndarray) -> np.ndarray:
        predict = jax.jit(self.likelihood.predictions)
        return np.stack([np.asarray(predict(self.fixed[d], random[d])) for d in range(len(self))])

    def log_likelihood(self) -> np.ndarray:
        """Log-likelihood of each subject given its random effects, ``[D, B]``."""
        by_subject = jax.jit(self.likelihood.by_subject)
        return np.stack(
            [np.asarray(by_subject(self.fixed[d], self.random[d])) for d in range(len(self))]
        )

    def individual_parameters(self) -> dict[str, np.ndarray]:
        """Individual parameters in natural units, ``[D, B]`` or ``[D, B, N]``."""
        values = jax.jit(jax.vmap(self.likelihood.individual_parameters))(self.fixed, self.random)
        return {name: np.asarray(value) for name, value in values.items()}

    def replicates(
        self, seed: int | np.random.Generator, *, new_patients: bool = True
    ) -> Iterator[np.ndarray]:
        """Simulate the data set once from every draw, ``[M]`` each.

        Parameters
        ----------
        seed
            Seed of replicates, whose random numbers are none of `simulate_data` with the same one;
            or where random numbers come from.
        new_patients
            Draw new random effects (a new study with the same design and covariates), or keep
            those of the patients.

        Yields
        ------
        float[M]
            Measurements before any limit of quantification is applied.
        """
        rng = seed if isinstance(seed, np.random.Generator) else stream(seed, "replicates")
        predict = jax.jit(self.likelihood.predictions)
        for d in range(len(self)):
            random = self.random[d]
            if new_patients:
                random = rng.standard_normal(random.shape) @ self.cholesky[d].T
            predicted = np.asarray(predict(self.fixed[d], random))
            yield self.likelihood.simulate(self.fixed[d], predicted, rng, random)


def single_draw(
    likelihood: PopulationLikelihood, population: Mapping[str, float], random: Any
) -> Draws:
    """Make one draw out of point estimates.

    Parameters
    ----------
    likelihood
        Model and data.
    population
        Population parameters by name; those left out keep the model's starting values.
    random : float[B, R]
        Random effects.
    """
    values = start_values(likelihood.model) | dict(population)
    return Draws(
        likelihood,
        {name: np.array([value], dtype=float) for name, value in values.items()},
        np.asarray(random, dtype=float)[None],
    )
