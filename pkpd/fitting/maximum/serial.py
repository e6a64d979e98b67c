"""Densities of data and random effects where residuals are correlated or scaled by subject."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.data.dataset import NOT_CENSORED
from pkpd.fitting.maximum.conditional import ConditionalDensity


@dataclass(frozen=True, eq=False)
class SerialDensity(ConditionalDensity):
    """Log density of data and random effects by observations given those before.

    Rows are the ``2 M`` quantities of `pkpd.fitting.model.serial`; the log density of an
    observation stands at its first, its location. The information of locations and of log scales
    adds: for a normal error their slopes give the expected information of the series exactly.
    """

    @property
    def subject(self) -> np.ndarray:
        """Subject of each quantity, ``[2 M]``."""
        return np.tile(self.likelihood.dataset.observations.subject, 2)

    @property
    def located(self) -> tuple[str, ...]:
        """Kinds of parameters that quantities depend on: residual coefficients, too."""
        return ("typical", "effect", "residual")

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Masks of quantities ``[2 M]``."""
        seen = self.likelihood.dataset.observations
        none, student = np.zeros(len(seen), bool), np.zeros(len(seen), bool)
        for _, error, mine in self.likelihood._lines:
            student[mine] = error.nu is not None
        measured = np.asarray(seen.censored == NOT_CENSORED)
        return {
            "logarithmic": np.tile(none, 2),
            "student": np.concatenate([student, none]),
            "measured": np.concatenate([measured, none]),
            "beyond": np.concatenate([~measured, none]),
        }

    def by_observation(
        self, x: Any, predictions: Any, central: Any = None, value: Any = None
    ) -> Array:
        """Log densities, then zeros, ``[2 M]``."""
        fixed, found = self.free.fixed(x), jnp.asarray(predictions)
        each = self.likelihood.density_of(fixed, found, self.observed(value))
        return jnp.concatenate([each, jnp.zeros_like(each)])

    def information(
        self, x: Any, predictions: Any, central: Any = None, value: Any = None
    ) -> Array:
        """Return the expected information of locations and log scales, ``[2 M]``.

        For a value beyond a limit minus the second derivative of its log probability by the
        location, and nothing by the scale.
        """
        found = jnp.asarray(predictions)
        location, log_scale = found.reshape(2, -1)
        size = location.size
        student, measured = self.rows["student"][:size], self.rows["measured"][:size]
        nu = jnp.where(student, self._degrees(x)[:size], 1.0)
        by_place = jnp.where(student, (nu + 1) / (nu + 3), 1.0) * jnp.exp(-2.0 * log_scale)
        by_scale = jnp.where(student, 2 * nu / (nu + 3), 2.0)
        if not np.all(measured):
            fixed, seen = self.free.fixed(x), self.observed(value)

            def score(v: Array) -> Array:
                each, back = jax.vjp(
                    lambda w: self.likelihood.density_of(
                        fixed, jnp.concatenate([w, log_scale]), seen
                    ),
                    v,
                )
                return back(jnp.ones_like(each))[0]

            second = jax.jvp(score, (location,), (jnp.ones_like(location),))[1]
            by_place = jnp.where(measured, by_place, jnp.maximum(-second, 0.0))
            by_scale = jnp.where(measured, by_scale, 0.0)
        return jnp.concatenate([by_place, by_scale])
