"""Shapes of drug effect on proliferating marrow cells, and how effects of drugs combine.

An effect is a number: 0 leaves proliferation alone, 1 stops it, more than 1 removes cells
(`pkpd.marrow.friberg.FeedbackRule` says how). The marrow step wants the mean and the first Legendre
moment of the effect over a cell (`pkpd.marrow.step`); every shape offers

``moments(p, mean, slope, nodes)``
    mean and first moment of the effect, from those of the driver or from its values at the
    quadrature nodes;
``at_nodes(p, nodes)``
    the effect at the nodes, ``[Q, L]``.

``uses_nodes`` tells whether the driver is needed at the nodes (`LinearPK.at_nodes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.errors import PkpdError
from pkpd.kinetics.quadrature import NODES, WEIGHTS

Parameters = Mapping[str, Array]
Moments = tuple[Array, Array]

COMBINATIONS = ("additive", "bliss")


def node_moments(values: Array, h: Array | float) -> Moments:
    """Mean and first Legendre moment from values at the Gauss-Legendre nodes.

    Parameters
    ----------
    values
        ``[Q, L]`` at the nodes of `pkpd.kinetics.quadrature.NODES`.
    h
        Cell length in hours, a number or ``[L]``; a cell of no length has slope zero.

    Returns
    -------
    mean, b : ``[L]``
        ``sum_q w_q f_q`` and ``(12/h) sum_q w_q (u_q - 1/2) f_q``: exact for cubics.
    """
    shape = (-1, *([1] * (values.ndim - 1)))
    mean = jnp.sum(values * WEIGHTS.reshape(shape), axis=0)
    first = jnp.sum(values * (12.0 * WEIGHTS * (NODES - 0.5)).reshape(shape), axis=0)
    h = jnp.asarray(h)
    return mean, jnp.where(h > 0, first / jnp.where(h > 0, h, 1.0), 0.0)


class Effect(Protocol):
    """What the simulator asks of a shape of effect."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        ...

    @property
    def uses_nodes(self) -> bool:
        """Whether the driver is needed at the quadrature nodes."""
        ...

    def at_nodes(self, p: Parameters, nodes: Array) -> Array:
        """Effect for driver values ``nodes`` of any shape ending in lanes."""
        ...

    def moments(
        self, p: Parameters, mean: Array, slope: Array, nodes: Array | None, h: Array | float
    ) -> Moments:
        """Mean and first moment of the effect over a cell."""
        ...


@dataclass(frozen=True)
class NoEffect:
    """The drug leaves this line alone."""

    parameters: tuple[str, ...] = ()
    uses_nodes: bool = False

    def at_nodes(self, p: Parameters, nodes: Array) -> Array:
        """Zeros."""
        return jnp.zeros_like(nodes)

    def moments(
        self, p: Parameters, mean: Array, slope: Array, nodes: Array | None, h: Array | float
    ) -> Moments:
        """Zeros."""
        return jnp.zeros_like(mean), jnp.zeros_like(slope)


@dataclass(frozen=True)
class LinearEffect:
    """``E = slope * C``: Friberg 2002, J Clin Oncol 20:4713. Moments are exact.

    Parameter ``slope`` is per unit of the driver (L/umol for a molar driver).
    """

    parameters: tuple[str, ...] = ("slope",)
    uses_nodes: bool = False

    def at_nodes(self, p: Parameters, nodes: Array) -> Array:
        """Effect for driver values ``nodes``."""
        return p["slope"] * nodes

    def moments(
        self, p: Parameters, mean: Array, slope: Array, nodes: Array | None, h: Array | float
    ) -> Moments:
        """Moments of the driver times the slope."""
        return p["slope"] * mean, p["slope"] * slope


@dataclass(frozen=True)
class EmaxEffect:
    """``E = Emax C^hill / (EC50^hill + C^hill)``, by four-node quadrature over the cell.

    Parameters ``Emax`` (may exceed 1), ``EC50`` in the unit of the driver, and ``hill`` if the
    shape was made with ``hill=True``.
    """

    hill: bool = False
    uses_nodes: bool = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        return ("Emax", "EC50", "hill") if self.hill else ("Emax", "EC50")

    def at_nodes(self, p: Parameters, nodes: Array) -> Array:
        """Effect for driver values ``nodes``; rounding below zero counts as zero."""
        ratio = jnp.maximum(nodes, 0.0) / p["EC50"]
        if self.hill:
            # a power of zero has no gradient in the exponent: the floor is far below any effect
            ratio = jnp.maximum(ratio, 1e-30) ** p["hill"]
        return p["Emax"] * ratio / (1.0 + ratio)

    def moments(
        self, p: Parameters, mean: Array, slope: Array, nodes: Array | None, h: Array | float
    ) -> Moments:
        """Moments by quadrature of the effect at the nodes."""
        if nodes is None:
            raise PkpdError(
                where="EmaxEffect",
                what="the driver at the quadrature nodes is missing",
                remedy="pass LinearPK.at_nodes of the cell",
            )
        return node_moments(self.at_nodes(p, nodes), h)


def left_and_beyond(effect: Any) -> tuple[Any, Any]:
    """Return what an effect leaves of proliferation, and what it exceeds 1 by."""
    return 1.0 - jnp.minimum(effect, 1.0), jnp.maximum(effect - 1.0, 0.0)


def combined_effect(values: Sequence[Any], rule: str) -> Any:
    """Effect of several drugs on one line at an instant.

    Parameters
    ----------
    values
        Effect of each drug.
    rule
        ``"additive"``, or ``"bliss"`` for independence, ``E = 1 - prod_d (1 - E_d)``.

    Notes
    -----
    Independence is a statement on surviving fractions, so it has a meaning for effects up to 1.
    Above 1 the product of two negative factors would be an effect *below* 1; the rule used there
    is that drugs add what exceeds 1: ``E = 1 - prod(1 - min(E_d, 1)) + sum(max(E_d - 1, 0))``.
    It is continuous, never below the strongest single effect, and equals Bliss below 1.
    """
    if rule == "additive":
        return sum(values[1:], values[0])
    left, beyond = left_and_beyond(values[0])
    for value in values[1:]:
        more = left_and_beyond(value)
        left, beyond = left * more[0], beyond + more[1]
    return 1.0 - left + beyond


_EFFECTS = {
    "none": NoEffect(),
    "linear": LinearEffect(),
    "emax": EmaxEffect(),
    "emax_hill": EmaxEffect(hill=True),
}


def effect_shape(name: str) -> Effect:
    """Shape of effect by name: ``none``, ``linear``, ``emax``, ``emax_hill``.

    Raises
    ------
    PkpdError
        If the name is unknown.

    Examples
    --------
    >>> effect_shape("emax").parameters
    ('Emax', 'EC50')
    """
    if name not in _EFFECTS:
        raise PkpdError(where="effect", what=f"unknown shape {name!r}", allowed=", ".join(_EFFECTS))
    return _EFFECTS[name]


def quadrature() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, weights of the mean, and weights of ``b * h`` on a cell of unit length."""
    return NODES.copy(), WEIGHTS.copy(), 12.0 * WEIGHTS * (NODES - 0.5)
