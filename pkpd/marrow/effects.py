"""Shapes of drug effect on proliferating marrow cells, and how effects of drugs combine.

An effect is a number: 0 leaves proliferation alone, 1 stops it, more than 1 removes cells
(`pkpd.marrow.friberg.FeedbackRule` says how). The marrow step wants the mean and the first Legendre
moment of the effect over a cell (`pkpd.solve.population.marrow_step`); every shape offers

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
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.errors import PkpdError, sentence
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
            msg = sentence(
                where="EmaxEffect",
                what="the driver at the quadrature nodes is missing",
                remedy="pass LinearPK.at_nodes of the cell",
            )
            raise PkpdError(msg)
        return node_moments(self.at_nodes(p, nodes), h)


def add_moments(parts: Sequence[Moments]) -> Moments:
    """Additive combination: effects add, so do their moments (exact)."""
    mean, slope = parts[0]
    for other_mean, other_slope in parts[1:]:
        mean, slope = mean + other_mean, slope + other_slope
    return mean, slope


def bliss_moments(values: Sequence[Array], h: Array | float) -> Moments:
    """Bliss independence ``E = 1 - prod_d (1 - E_d)``, by quadrature.

    Parameters
    ----------
    values
        Effect of each drug at the quadrature nodes, ``[Q, L]`` each.
    h
        Cell length in hours.

    Notes
    -----
    The product of two moments is not the moment of the product, hence the nodes: they are exact
    where the product is a cubic over the cell, and as good as those of `EmaxEffect` otherwise.

    Independence is a statement on surviving fractions, so it has a meaning for effects up to 1.
    Above 1 the product of two negative factors would be an effect *below* 1; the rule used there
    is that drugs add what exceeds 1: ``E = 1 - prod(1 - min(E_d, 1)) + sum(max(E_d - 1, 0))``.
    It is continuous, never below the strongest single effect, and equals Bliss below 1.
    """
    surviving = jnp.ones_like(values[0])
    beyond = jnp.zeros_like(values[0])
    for value in values:
        surviving = surviving * (1.0 - jnp.minimum(value, 1.0))
        beyond = beyond + jnp.maximum(value - 1.0, 0.0)
    return node_moments(1.0 - surviving + beyond, h)


@dataclass(frozen=True)
class Combination:
    """Effect of several drugs on one line.

    Parameters
    ----------
    effects
        Shape of each drug's effect, in the order of the drugs.
    rule
        ``"additive"`` (default) or ``"bliss"``.
    """

    effects: tuple[Effect, ...]
    rule: str = "additive"

    def __post_init__(self) -> None:
        """Refuse an unknown rule, and Bliss or additive effects of no drug."""
        if self.rule not in COMBINATIONS:
            msg = sentence(
                where="combination of effects",
                what=f"rule {self.rule!r}",
                allowed=", ".join(COMBINATIONS),
            )
            raise PkpdError(msg)
        if not self.effects:
            msg = sentence(
                where="combination of effects",
                what="no drug is given",
                remedy="give at least one effect; NoEffect() is one",
            )
            raise PkpdError(msg)

    def uses_nodes(self, drug: int) -> bool:
        """Whether the driver of drug number ``drug`` is needed at the quadrature nodes."""
        return self.rule == "bliss" or self.effects[drug].uses_nodes

    def moments(
        self,
        p: Sequence[Parameters],
        drivers: Sequence[Moments],
        nodes: Sequence[Array | None],
        h: Array | float,
    ) -> Moments:
        """Mean and first moment of the combined effect over a cell.

        Parameters
        ----------
        p
            Parameters of each drug's effect.
        drivers
            Mean and first moment of each driver (`LinearPK.moments`).
        nodes
            Each driver at the quadrature nodes, or ``None`` where `uses_nodes` is false.
        h
            Cell length in hours, a number or ``[L]``.
        """
        if self.rule == "additive":
            parts = [
                effect.moments(q, mean, slope, at, h)
                for effect, q, (mean, slope), at in zip(
                    self.effects, p, drivers, nodes, strict=True
                )
            ]
            return add_moments(parts)
        values = []
        for effect, q, at in zip(self.effects, p, nodes, strict=True):
            if at is None:
                msg = sentence(
                    where="combination of effects",
                    what="Bliss independence without the drivers at the quadrature nodes",
                    remedy="pass LinearPK.at_nodes for every drug",
                )
                raise PkpdError(msg)
            values.append(effect.at_nodes(q, at))
        return bliss_moments(values, h)


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
        msg = sentence(where="effect", what=f"unknown shape {name!r}", allowed=", ".join(_EFFECTS))
        raise PkpdError(msg)
    return _EFFECTS[name]


def quadrature() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, weights of the mean, and weights of ``b * h`` on a cell of unit length."""
    return NODES.copy(), WEIGHTS.copy(), 12.0 * WEIGHTS * (NODES - 0.5)
