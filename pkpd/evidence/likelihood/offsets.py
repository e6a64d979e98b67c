"""How studies and arms deviate: parameters of their own, beside those of the marrow.

A study has one offset for each channel (`pkpd.evidence.likelihood.cells.CHANNELS`), in logits of a
share or in the logarithm of days, that all its arms share; arms differ a little besides.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

import pkpd.float64  # noqa: F401
from pkpd.evidence.likelihood.cells import CHANNELS
from pkpd.evidence.likelihood.density import Spread
from pkpd.evidence.likelihood.parameters import ARMS, BETWEEN
from pkpd.evidence.likelihood.prior import HalfNormal, Prior

_UPPER = 1.959963984540054


def simulated_names(prior: Prior) -> tuple[str, ...]:
    """Give the names of the parameters that move simulated arms."""
    own = {entry.name for entry in (*BETWEEN, *ARMS)}
    return tuple(name for name in prior.names if name not in own)


def spread_at(prior: Prior, z: Any) -> Spread:
    """Spread at standard normal scores ``[d]``, in JAX."""

    def value(name: str) -> Any:
        entry = prior.entries[prior.names.index(name)]
        assert isinstance(entry, HalfNormal)
        score = z[prior.names.index(name)]
        return -(entry.upper / _UPPER) * ndtri(0.5 * ndtr(-score))

    return Spread(
        jnp.stack([value(f"between.{channel}") for channel in CHANNELS]),
        value("discrepancy"),
        value("discrepancy.days"),
    )


def spread_of(theta: Any) -> Spread:
    """Spread of parameters by name."""
    return Spread(
        jnp.array([theta[f"between.{channel}"] for channel in CHANNELS]),
        theta["discrepancy"],
        theta["discrepancy.days"],
    )
