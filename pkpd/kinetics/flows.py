"""Any linear system of one drug, for the engines that solve many patients at once.

`pkpd.kinetics.linear.LinearPK` names the usual compartments and their clearances; here the rate
constants themselves are the parameters, so that a system of any shape
(`pkpd.kinetics.compartments.linear_system`) has the same exact cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.kinetics.linear import LinearPK, Parameters
from pkpd.kinetics.pattern import Pattern, pattern_of

Edge = tuple[int, int | None]
"""From and to state, counted from 0; to nowhere is elimination."""


@dataclass(frozen=True)
class FlowPK(LinearPK):
    """A linear system given by its flows; doses enter state 0.

    Parameters
    ----------
    absorption, compartments, effect_site, unit
        See `LinearPK`; of these only ``effect_site`` is read.
    edges
        Flows between states, each with a rate constant.
    size
        Number of states without the effect site.
    observed
        State whose amount, times the parameter ``scale``, is the driver or what feeds the site.

    Notes
    -----
    Parameters: ``flow_<from>_<to>`` (1/h) of every edge, ``out`` in the place of nowhere;
    ``scale``; with an effect site ``k_in`` and ``k_out`` (1/h).
    """

    edges: tuple[Edge, ...] = ()
    size: int = 1
    observed: int = 0

    @property
    def n_absorption(self) -> int:
        """No state comes before the others."""
        return 0

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.size + int(self.effect_site)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that the methods read."""
        names = (*(flow_name(edge) for edge in self.edges), "scale")
        return (*names, "k_in", "k_out") if self.effect_site else names

    @property
    def _output(self) -> int:
        return self.size if self.effect_site else self.observed

    def _scale(self, p: Parameters) -> Array:
        return jnp.asarray(1.0) if self.effect_site else jnp.asarray(p["scale"])

    def _rates(self, p: Parameters) -> tuple[dict[tuple[int, int], Array], tuple[Array, ...]]:
        rates: dict[tuple[int, int], Array] = {}
        outflow = [jnp.zeros(())] * self.n_states
        for edge in self.edges:
            source, target = edge
            rate = jnp.asarray(p[flow_name(edge)])
            outflow[source] = outflow[source] + rate
            if target is not None:
                rates[source, target] = rate
        if self.effect_site:
            rates[self.observed, self.size] = p["k_in"] * p["scale"]
            outflow[self.size] = jnp.asarray(p["k_out"])
        return rates, tuple(outflow)

    @property
    def _structure(self) -> Pattern:
        edges = [(source, target) for source, target in self.edges if target is not None]
        if self.effect_site:
            edges.append((self.observed, self.size))
        return pattern_of(self.n_states, tuple(edges), 0)

    def rate_table(self) -> tuple[list[dict[str, int]], Any, Any, dict[str, int]]:
        """Rates as products of powers of parameters, and where each enters the rate matrix.

        Returns
        -------
        rates, inflow, outflow, scale
            Powers of each rate; (target, source, rate); (state, rate), by state; powers of the
            factor of the driver.
        """
        rates: list[dict[str, int]] = [{flow_name(edge): 1} for edge in self.edges]
        inflow = [(t, s, r) for r, (s, t) in enumerate(self.edges) if t is not None]
        outflow = [(s, r) for r, (s, _) in enumerate(self.edges)]
        if not self.effect_site:
            return rates, inflow, sorted(outflow), {"scale": 1}
        inflow.append((self.size, self.observed, len(rates)))
        rates.append({"k_in": 1, "scale": 1})
        outflow.append((self.size, len(rates)))
        rates.append({"k_out": 1})
        return rates, inflow, sorted(outflow), {}

    def half_lives(self, p: Parameters) -> Array:
        """Half-lives of disposition in hours, longest first, ``[states, L]``.

        Those of the observed state and of all that exchange drug with it: what drug comes from, as
        depots and transits, and what it only goes to are none.
        """
        reach, o = self.reach, self.observed
        mine = np.array([i for i in range(self.size) if reach[i][o] and reach[o][i]])
        matrix = jnp.moveaxis(self.rate_matrix(p)[mine][:, mine], (0, 1), (-2, -1))
        rates = -jnp.linalg.eigvals(matrix).real
        return jnp.moveaxis(jnp.log(2.0) / jnp.sort(rates, axis=-1), -1, 0)


def flow_name(edge: Edge) -> str:
    """Name of the rate constant of a flow.

    Examples
    --------
    >>> flow_name((0, 1)), flow_name((1, None))
    ('flow_0_1', 'flow_1_out')
    """
    source, target = edge
    return f"flow_{source}_{'out' if target is None else target}"
