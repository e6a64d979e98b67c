"""Densities of data and random effects where the structure knows its error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.model.own_error import OwnErrorLikelihood

FEW = 30
"""Random effects up to which derivatives come from differences of values."""
SECOND = 3e-3
"""Step of second differences: rounding grows with its inverse square, truncation with it."""


@dataclass(frozen=True, eq=False)
class OwnErrorDensity(ConditionalDensity):
    """Log density of data and random effects where the structure knows its error.

    Rows are the ``2 M`` quantities; the log density of an observation stands at its first.
    """

    @property
    def _normal(self) -> np.ndarray:
        assert isinstance(self.likelihood, OwnErrorLikelihood)
        return self.likelihood._own.normal

    @property
    def subject(self) -> np.ndarray:
        """Subject of each quantity, ``[2 M]``."""
        return np.tile(self.likelihood.dataset.observations.subject, 2)

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Masks of quantities ``[2 M]``."""
        none = np.zeros_like(self._normal)
        return {
            "logarithmic": np.tile(none, 2),
            "student": np.tile(none, 2),
            "measured": np.concatenate([self._normal, none]),
            "beyond": np.concatenate([~self._normal, none]),
        }

    def exact(
        self, x: FloatArray, u: FloatArray, central: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``q [B]``, its gradient ``[B, R]`` and its Hessian ``[B, R, R]``.

        With few random effects they come from values of ``q`` alone, which ask nothing of
        derivatives through a program that somebody else wrote; with more, from gradients.
        """
        size = self.shape[1]
        if size > FEW:
            return super().exact(x, u, central)
        unit, h = np.eye(size), SECOND
        first, second = np.triu_indices(size, 1)
        moves = [np.zeros((1, size)), unit, -unit]
        moves += [sign * (unit[first] + unit[second]) for sign in (1.0, -1.0)]
        points = u + h * np.concatenate(moves)[:, None, :]
        q = self.value_at(x, points, central)
        centre, up, down = q[0], q[1 : size + 1], q[size + 1 : 2 * size + 1]
        both = q[2 * size + 1 :]
        hessian = np.zeros((*self.shape, size))
        along = np.arange(size)
        # far from any mode values are so large that differences overflow: a Hessian that is not
        # finite tells the search so
        with np.errstate(over="ignore", invalid="ignore"):
            hessian[:, along, along] = ((up - 2 * centre + down) / h**2).T
            mixed = both[: len(first)] + both[len(first) :] + 2 * centre
            mixed = (mixed - up[first] - down[first] - up[second] - down[second]).T / (2 * h**2)
            gradient = (up - down).T / (2 * h)
        hessian[:, first, second] = hessian[:, second, first] = mixed
        return centre, gradient, hessian

    def slope(
        self, x: FloatArray, u: FloatArray, central: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """``q [B]`` and its gradient ``[B, R]``, by differences where ``exact`` takes them."""
        if self.shape[1] > FEW:
            return super().slope(x, u, central)
        value, gradient, _ = self.approximate(x, u, central)
        return value, gradient

    def by_observation(
        self, x: Any, predictions: Any, central: Any = None, value: Any = None
    ) -> Array:
        """Log densities, then zeros, ``[2 M]``."""
        found = jnp.asarray(predictions)
        if not self.interaction:
            found = jnp.concatenate(
                [found.reshape(2, -1)[0], jnp.asarray(central).reshape(2, -1)[1]]
            )
        each = self.likelihood.density_of(self.free.fixed(x), found, self.observed(value))
        return jnp.concatenate([each, jnp.zeros_like(each)])

    def information(
        self, x: Any, predictions: Any, central: Any = None, value: Any = None
    ) -> Array:
        """Information of each quantity: of means and of log deviations, ``[2 M]``.

        A log likelihood counts with the square of its slope, which helps the search for modes;
        the approximation of Laplace does not read it.
        """
        found = jnp.asarray(predictions)
        log_sd = (found if self.interaction else jnp.asarray(central)).reshape(2, -1)[1]
        of_mean = jnp.where(self._normal, jnp.exp(-2.0 * log_sd), 1.0)
        of_spread = jnp.where(self._normal, 2.0 if self.interaction else 0.0, 0.0)
        return jnp.concatenate([of_mean, jnp.broadcast_to(of_spread, of_mean.shape)])
