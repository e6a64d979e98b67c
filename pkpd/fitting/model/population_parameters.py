"""Population parameters by name: fixed effects, standard deviations, correlations.

Fixed effects are what predictions and residual error need: typical values, covariate coefficients,
Box-Cox shapes, residual coefficients. Standard deviations are called ``omega_CL`` (between
patients) and ``omega_occasion_CL``. Correlations of a block are given by canonical partial
correlations ``partial_CL_V`` in (-1, 1), each free of the others (Lewandowski, Kurowicka and Joe
2009, J Multivar Anal 100:1989-2001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.fitting.model.priors import Estimate
from pkpd.fitting.model.specification import PopulationModel


def fixed_effects(model: PopulationModel) -> dict[str, Estimate]:
    """Return the fixed effects of a model by name, in order; held ones included."""
    out: dict[str, Estimate] = {}
    for p in model.parameters:
        if p.has_typical:
            out[p.name] = p.typical
    for p in model.parameters:
        for effect in p.effects:
            out[effect.name(p.name)] = effect.coefficient
    for p in model.parameters:
        if p.boxcox is not None:
            out[f"boxcox_{p.name}"] = p.boxcox
    for line, error in model.residual.items():
        out |= error.estimates(line)
    return out


def deviations(model: PopulationModel) -> dict[str, Estimate]:
    """Return standard deviations of the random effects by name, in order: ``eta`` first."""
    out = {f"omega_{name}": model[name].iiv for name in model.varying}
    out |= {f"omega_occasion_{name}": model[name].iov for name in model.occasional}
    return {name: value for name, value in out.items() if value is not None}


def partial_correlations(model: PopulationModel) -> dict[str, Estimate]:
    """Return the partial correlations by name, block by block, row by row."""
    return dict(model.partial)


def correlation_cholesky(partial: Any, size: int, xp: Any = jnp) -> Any:
    """Cholesky factor of a correlation matrix from partial correlations.

    Parameters
    ----------
    partial
        ``size (size - 1) / 2`` values in (-1, 1), row by row.
    size
        Rows of the matrix.
    xp
        ``jax.numpy``, ``numpy`` or ``pytensor.tensor``.

    Returns
    -------
    Array
        Lower triangle, ``[size, size]``.
    """
    zero, k = partial[0] * 0.0, 0
    rows = []
    for i in range(size):
        row, rest = [], zero + 1.0
        for _ in range(i):
            row.append(partial[k] * xp.sqrt(rest))
            rest = rest * (1.0 - partial[k] ** 2)
            k += 1
        row.append(xp.sqrt(rest))
        rows.append(xp.stack([*row, *([zero] * (size - i - 1))]))
    return xp.stack(rows)


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """Order and covariance of the random effects of one patient.

    ``eta`` comes first, then ``kappa`` occasion by occasion: ``R = E + O K`` numbers.

    Attributes
    ----------
    model
        The population model.
    n_occasions
        Occasions of the data; 0 without variability between them.
    """

    model: PopulationModel
    n_occasions: int

    @cached_property
    def size(self) -> int:
        """Number of random effects of a patient."""
        return len(self.model.varying) + self.n_occasions * len(self.model.occasional)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """``CL``, ..., then ``CL occasion 1``, ..."""
        return (
            *self.model.varying,
            *(
                f"{name} occasion {o + 1}"
                for o in range(self.n_occasions)
                for name in self.model.occasional
            ),
        )

    def split(self, random: Any) -> tuple[Any, Any]:
        """Split ``[..., R]`` into ``eta [..., E]`` and ``kappa [..., O, K]``."""
        n = len(self.model.varying)
        kappa = random[..., n:]
        shape = (*kappa.shape[:-1], self.n_occasions, len(self.model.occasional))
        return random[..., :n], kappa.reshape(shape)

    def cholesky(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """Cholesky factor of the covariance ``[R, R]``.

        Parameters
        ----------
        values
            ``omega_*`` and ``partial_*`` by name.
        xp
            ``jax.numpy``, ``numpy`` or ``pytensor.tensor``.
        """
        out = xp.zeros((self.size, self.size))
        at = 0
        array = xp.asarray if hasattr(xp, "asarray") else xp.as_tensor

        def put(out: Any, at: int, block: Any, n: int) -> tuple[Any, int]:
            mine = (slice(at, at + n), slice(at, at + n))
            if xp is np:
                out[mine] = block
                return out, at + n
            return (out.at[mine] if xp is jnp else out[mine]).set(block), at + n

        blocked: list[str] = []
        names = iter(partial_correlations(self.model))
        for block in self.model.correlated:
            count = len(block) * (len(block) - 1) // 2
            partial = [array(values[next(names)]) for _ in range(count)]
            sd = xp.stack([array(values[f"omega_{name}"]) for name in block])
            lower = sd[:, None] * correlation_cholesky(partial, len(block), xp)
            out, at = put(out, at, lower, len(block))
            blocked += block
        rest = [f"omega_{name}" for name in self.model.varying if name not in blocked]
        rest += [f"omega_occasion_{n}" for n in self.model.occasional] * self.n_occasions
        if rest:
            sd = xp.stack([array(values[name]) for name in rest])
            out, at = put(out, at, sd[:, None] * xp.eye(len(rest)), len(rest))
        return out

    def covariance(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """Covariance of the random effects of a patient, ``[R, R]``."""
        lower = self.cholesky(values, xp)
        return lower @ lower.T


def start_values(model: PopulationModel) -> dict[str, float]:
    """Return the starting values of all population parameters by name."""
    out = {name: one.value for name, one in fixed_effects(model).items()}
    out |= {name: one.value for name, one in deviations(model).items()}
    return out | {name: one.value for name, one in partial_correlations(model).items()}


def held(model: PopulationModel) -> frozenset[str]:
    """Names of the population parameters that are held fixed."""
    everything = fixed_effects(model) | deviations(model) | partial_correlations(model)
    return frozenset(name for name, one in everything.items() if one.fixed)


def holding(model: PopulationModel) -> PopulationModel:
    """Return a model with every population parameter held at its value."""
    return model.with_estimates(lambda _, old: replace(old, fixed=True))
