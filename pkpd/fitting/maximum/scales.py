"""Population parameters on scales without bounds, for optimisers and standard errors.

Typical values are transformed by the scale of their parameter (log, logit, identity), residual
coefficients by the logarithm, partial correlations by the inverse hyperbolic tangent; covariate
coefficients and Box-Cox shapes stay as they are. A standard deviation of random effects is
``omega = s sinh(x)`` with ``s`` a fifth of its start (of 1 at most where the parameter is on the
log or logit scale: a wide start makes no other value small): a logarithm where it is large, and
linear at zero, where the likelihood is smooth and even in ``omega`` and may have its maximum. Held
parameters are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.fitting.model.individuals import to_scale
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import (
    deviations,
    held,
    partial_correlations,
    start_values,
)

SMALLEST = 1e-3
"""Lower bound of ``omega / s``."""
NEARLY_ZERO = 0.05
"""A standard deviation counts as zero below this ``omega / s``: 1 % of its start, or 0.01."""
LIFTED = 0.25
"""``x`` of a standard deviation that is small, 5 % of its start, and still feels a slope."""
LARGEST_PARTIAL = 0.9995
"""Largest absolute partial correlation."""
_LIMITS = 0.05  # ``s`` of limits, as of a start of 0.25
_LINEAR = 0.2  # below this share of its start a standard deviation is on a linear scale


@dataclass(frozen=True, eq=False)
class FreeParameters:
    """The parameters that are estimated, as a vector ``x[P]`` without bounds.

    Attributes
    ----------
    likelihood
        Model and data.
    """

    likelihood: PopulationLikelihood

    @cached_property
    def begun(self) -> dict[str, float]:
        """Starting values of all population parameters by name."""
        return start_values(self.likelihood.model)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the estimated parameters, in the order of ``x``."""
        fixed = held(self.likelihood.model)
        return tuple(name for name in self.begun if name not in fixed)

    @cached_property
    def held(self) -> dict[str, float]:
        """Values of the parameters that are held."""
        return {n: v for n, v in self.begun.items() if n not in self.names}

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Those of `names` that the data measure, as AIC and BIC count them.

        A line without a measurement has a residual error that no data tell of.
        """
        return tuple(name for name in self.names if name not in self.unmeasured)

    @cached_property
    def unmeasured(self) -> frozenset[str]:
        """Names in the residual errors of lines that the data do not measure, held or not."""
        errors, lines = self.likelihood.model.residual, self.likelihood.measured_lines
        return frozenset(
            name
            for line, error in errors.items()
            if line not in lines
            for name in error.estimates(line)
        )

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each entry: typical, effect, residual, deviation or correlation."""
        model = self.likelihood.model
        typical = {p.name for p in model.parameters}
        residual = {n for line, error in model.residual.items() for n in error.estimates(line)}
        spread, partial = set(deviations(model)), set(partial_correlations(model))

        def kind(name: str) -> str:
            if name in residual:
                return "residual"
            if name in spread:
                return "deviation"
            if name in partial:
                return "correlation"
            return "typical" if name in typical else "effect"

        return tuple(kind(name) for name in self.names)

    def where(self, *kinds: str) -> np.ndarray:
        """Places in ``x`` of the parameters of these kinds."""
        return np.array([i for i, k in enumerate(self.kinds) if k in kinds], dtype=int)

    @cached_property
    def natural_units(self) -> np.ndarray:
        """Which are in the unit of a parameter of no log: typical values, effects, ``bool[P]``."""
        bare = [p for p in self.likelihood.model.parameters if p.scale == "identity"]
        names = {p.name for p in bare} | {e.name(p.name) for p in bare for e in p.effects}
        return np.array([name in names for name in self.names], dtype=bool)

    @cached_property
    def _in_units(self) -> np.ndarray:
        """Which are standard deviations in the unit of their parameter, of no log, ``bool[P]``."""
        bare = [p.name for p in self.likelihood.model.parameters if p.scale == "identity"]
        words = {f"{word}_{name}" for name in bare for word in ("omega", "omega_occasion")}
        return np.array([name in words for name in self.names])

    @cached_property
    def _scale(self) -> np.ndarray:
        """``s`` of standard deviations, 1 for other parameters, ``[P]``."""
        out = np.ones(len(self.names))
        for i in self.where("deviation"):
            most = np.inf if self._in_units[i] else 1.0
            out[i] = _LINEAR * min(self.begun[self.names[i]], most)
        return out

    @cached_property
    def bounds(self) -> np.ndarray:
        """Lower and upper bounds ``[P, 2]``: standard deviations and correlations have some."""
        out = np.full((len(self.names), 2), [-np.inf, np.inf])
        out[self.where("deviation"), 0] = np.arcsinh(SMALLEST)
        edge = np.arctanh(LARGEST_PARTIAL)
        out[self.where("correlation")] = [-edge, edge]
        return out

    def at_edge(self, x: np.ndarray) -> np.ndarray:
        """Entries at a bound, or standard deviations that are as good as zero, ``[P]``."""
        out = (x <= self.bounds[:, 0] + 1e-9) | (x >= self.bounds[:, 1] - 1e-9)
        deviation = np.array(self.kinds) == "deviation"
        return out | (deviation & (x < np.arcsinh(NEARLY_ZERO)))

    def start(self) -> np.ndarray:
        """Return starting values of the model, ``x[P]``."""
        return self.of(self.begun)

    def of(self, values: Mapping[str, float]) -> np.ndarray:
        """Return ``x`` of values by name, moved inside the bounds."""
        out = np.zeros(len(self.names))
        for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            value = float(values[name])
            if kind == "typical":
                value = float(to_scale(self.likelihood.model[name], value, np))
            elif kind == "residual":
                value = float(np.log(value))
            elif kind == "deviation":
                value = float(np.arcsinh(value / self._scale[i]))
            elif kind == "correlation":
                value = float(np.arctanh(np.clip(value, -LARGEST_PARTIAL, LARGEST_PARTIAL)))
            out[i] = value
        return np.clip(out, *self.bounds.T)

    def natural(self, x: Any, xp: Any = jnp) -> dict[str, Any]:
        """Natural values by name, held ones included.

        Parameters
        ----------
        x : float[P]
            Parameters; may be traced.
        xp
            ``jax.numpy``, or ``numpy`` for numbers.
        """
        out: dict[str, Any] = {name: xp.asarray(value) for name, value in self.held.items()}
        for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            value = x[i]
            if kind == "typical":
                p = self.likelihood.model[name]
                low, high = p.bounds
                if p.scale == "log":
                    value = xp.exp(value)
                elif p.scale == "logit":
                    value = low + (high - low) / (1.0 + xp.exp(-value))
            elif kind == "residual":
                value = xp.exp(value)
            elif kind == "deviation":
                value = self._scale[i] * xp.sinh(value)
            elif kind == "correlation":
                value = xp.tanh(value)
            out[name] = value
        return {name: out[name] for name in self.begun}

    def values(self, x: np.ndarray) -> dict[str, float]:
        """Natural values by name as numbers."""
        return {name: float(v) for name, v in self.natural(np.asarray(x), np).items()}

    def limits(self, x: np.ndarray, reach: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
        """Natural values ``reach [P]`` below and above ``x``; a standard deviation ends at 0.

        Its scale has ``s = 0.05`` here where the parameter is on the log or logit scale, so that
        the start does not move its limits.
        """
        low, high = self.values(x - reach), self.values(x + reach)
        values, wide = self.values(x), reach * self.slopes(x)
        for i in self.where("deviation"):
            name, s = self.names[i], self._scale[i] if self._in_units[i] else _LIMITS
            middle, far = np.arcsinh(values[name] / s), wide[i] / np.hypot(values[name], s)
            low[name] = float(s * np.sinh(max(middle - far, 0.0)))
            high[name] = float(s * np.sinh(middle + far))
        return low, high

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """Differentiate each natural value by its entry of ``x``, ``[P]``."""
        out = np.ones(len(x))
        values = self.values(x)
        for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            v = values[name]
            if kind == "residual":
                out[i] = v
            elif kind == "deviation":
                out[i] = self._scale[i] * np.cosh(x[i])
            elif kind == "correlation":
                out[i] = 1.0 - v**2
            elif kind == "typical":
                p = self.likelihood.model[name]
                low, high = p.bounds
                by_scale = {"log": v, "logit": (v - low) * (high - v) / (high - low)}
                out[i] = by_scale.get(p.scale, 1.0)
        return out

    def fixed(self, x: Any) -> Array:
        """Return fixed effects ``[F]`` as the likelihood takes them."""
        return self.likelihood.fixed(self.natural(x))

    def cholesky(self, x: Any, xp: Any = jnp) -> Any:
        """Cholesky factor of the covariance of the random effects, ``[R, R]``."""
        return self.likelihood.random_effects.cholesky(self.natural(x, xp), xp)
