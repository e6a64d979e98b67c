"""Linear pharmacokinetics, exact over a cell of constant infusion rate.

A *cell* is an interval of length ``h`` in which every infusion rate is constant; boluses and oral
doses enter at its start. A linear compartmental system is then propagated without error,

    x(h) = Phi(h) x + psi(h) rate,

and the mean and first Legendre moment of the driver (plasma or effect-site concentration) over
the cell are linear in ``x`` and ``rate`` as well. ``propagator`` forms these coefficients once per
distinct cell length; ``advance``, ``moments`` and ``at_nodes`` are then a few multiplications.

The coefficients hold about twelve digits for any combination of rates, equal ones included
(`pkpd.kinetics.uniformisation` says how, and where they are fewer).

Arrays carry the lane axis last: states ``[n_states, L]``, parameters and rates ``[L]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.errors import PkpdError
from pkpd.kinetics.pattern import Pattern, pattern_of
from pkpd.kinetics.quadrature import NODES
from pkpd.kinetics.uniformisation import kernel, times_column

Parameters = Mapping[str, Array]


class Propagator(NamedTuple):
    """Coefficients of one cell; a pytree, so cells can be stacked and scanned over.

    Attributes
    ----------
    phi
        ``[slots, L]`` distinct entries of the transition matrix.
    psi
        ``[n_states, L]`` state at the cell end per unit infusion rate.
    mean, slope
        ``[n_states, L]`` mean and first moment of the driver per unit of each state.
    mean_rate, slope_rate
        ``[L]`` the same per unit infusion rate.
    nodes, nodes_rate
        ``[Q, n_states, L]`` and ``[Q, L]`` driver at the quadrature nodes (``None`` if not asked).
    """

    phi: Array
    psi: Array
    mean: Array
    slope: Array
    mean_rate: Array
    slope_rate: Array
    nodes: Array | None
    nodes_rate: Array | None


def of_length(prop: Propagator, index: int | Array) -> Propagator:
    """Coefficients of one length from a propagator formed for a column of lengths ``[m, 1]``."""
    return jax.tree.map(lambda a: a[..., index, :], prop)


@dataclass(frozen=True)
class LinearPK:
    """A linear compartmental model of one drug.

    Use `Disposition` or `TransitAbsorption`, which name the usual members of this family.

    Parameters
    ----------
    absorption
        ``None`` for doses into the central compartment; otherwise the number of transit
        compartments between depot and central (0: first-order absorption).
    compartments
        1, 2 or 3 disposition compartments.
    effect_site
        Add a site ``T`` with ``dT/dt = k_in C - k_out T`` (C and T in umol/L), which then is the
        driver.
    unit
        Unit of the plasma driver: ``"mg/L"``, or ``"umol/L"`` (needs ``per_umol``).

    Notes
    -----
    States in order: depot and transits (mg), central (mg), peripherals (mg), effect site (umol/L).
    Amounts are kept, so parameters may change between cells (occasions) without a jump in mass.

    Parameters of the model, each ``[L]`` or scalar: ``CL``, ``V1``, ``Q``, ``V2``, ``Q3``, ``V3``
    (L/h, L), ``KTR`` or ``ka`` (1/h), ``k_in`` and ``k_out`` (1/h), ``per_umol`` (umol per mg,
    i.e. 1000 / molar mass in g/mol).
    """

    absorption: int | None = None
    compartments: int = 1
    effect_site: bool = False
    unit: str = "mg/L"

    def __post_init__(self) -> None:
        """Refuse structures outside the family."""
        if self.compartments not in (1, 2, 3):
            raise PkpdError(
                where="pharmacokinetic structure",
                what=f"compartments = {self.compartments}",
                allowed="1, 2, 3",
            )
        if self.absorption is not None and not 0 <= self.absorption <= 30:
            raise PkpdError(
                where="pharmacokinetic structure",
                what=f"absorption with {self.absorption} transit compartments",
                allowed="0 to 30",
            )
        if self.unit not in ("mg/L", "umol/L"):
            raise PkpdError(
                where="pharmacokinetic structure",
                what=f"driver unit {self.unit!r}",
                allowed="mg/L, umol/L",
            )

    @property
    def n_absorption(self) -> int:
        """Number of states before the central compartment."""
        return 0 if self.absorption is None else self.absorption + 1

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.n_absorption + self.compartments + int(self.effect_site)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that the methods read."""
        names: tuple[str, ...] = ("CL", "V1")
        names += ("Q", "V2") if self.compartments > 1 else ()
        names += ("Q3", "V3") if self.compartments > 2 else ()
        if self.absorption is not None:
            names += ("KTR",) if self.absorption else ("ka",)
        if self.effect_site:
            names += ("k_in", "k_out", "per_umol")
        elif self.unit == "umol/L":
            names += ("per_umol",)
        return names

    @property
    def _output(self) -> int:
        return self.n_states - 1 if self.effect_site else self.n_absorption

    def _scale(self, p: Parameters) -> Array:
        """Driver per unit of the output state."""
        if self.effect_site:
            return jnp.asarray(1.0)
        return (p["per_umol"] if self.unit == "umol/L" else 1.0) / jnp.asarray(p["V1"])

    def _rates(self, p: Parameters) -> tuple[dict[tuple[int, int], Array], tuple[Array, ...]]:
        """Rate constants by edge ``(from, to)`` and the outflow of every state, 1/h."""
        rates: dict[tuple[int, int], Array] = {}
        outflow: list[Array] = []
        central = self.n_absorption
        if self.absorption is not None:
            k = jnp.asarray(p["KTR"] if self.absorption else p["ka"])
            for i in range(central):
                rates[(i, i + 1)] = k
                outflow.append(k)
        elimination = p["CL"] / jnp.asarray(p["V1"])
        outflow.append(elimination)
        pairs = (("Q", "V2"), ("Q3", "V3"))[: self.compartments - 1]
        for i, (flow, volume) in enumerate(pairs, start=1):
            there, back = p[flow] / jnp.asarray(p["V1"]), p[flow] / jnp.asarray(p[volume])
            rates[(central, central + i)] = there
            rates[(central + i, central)] = back
            outflow[central] = outflow[central] + there
            outflow.append(back)
        if self.effect_site:
            rates[(central, self.n_states - 1)] = p["k_in"] * p["per_umol"] / jnp.asarray(p["V1"])
            outflow.append(jnp.asarray(p["k_out"]))
        return rates, tuple(outflow)

    @property
    def _structure(self) -> Pattern:
        central = self.n_absorption
        edges = [(i, i + 1) for i in range(central)]
        for i in range(1, self.compartments):
            edges += [(central, central + i), (central + i, central)]
        if self.effect_site:
            edges.append((central, self.n_states - 1))
        return pattern_of(self.n_states, tuple(edges), central)

    @property
    def reach(self) -> tuple[tuple[bool, ...], ...]:
        """``reach[i][j]``: whether drug in state ``j`` can get to state ``i``."""
        return tuple(tuple(slot >= 0 for slot in row) for row in self._structure.slot)

    def rate_matrix(self, p: Parameters) -> Array:
        """Rate matrix ``[n_states, n_states, L]`` in 1/h, for tests and other solvers."""
        rates, outflow = self._rates(p)
        entries = {(target, source): rate for (source, target), rate in rates.items()}
        entries |= {(i, i): -rate for i, rate in enumerate(outflow)}
        states = range(self.n_states)
        every = [entries.get((i, j), jnp.zeros(())) for i in states for j in states]
        a = jnp.stack(jnp.broadcast_arrays(*every))
        return a.reshape(self.n_states, self.n_states, *a.shape[1:])

    def propagator(self, p: Parameters, h: Array | float, *, nodes: bool = True) -> Propagator:
        """Coefficients for cells of length ``h``.

        Parameters
        ----------
        p
            Parameters, each ``[L]`` or scalar.
        h
            Cell length in hours, a number or ``[L]``; zero gives the identity. A column
            ``[m, 1]`` forms ``m`` lengths in one compilation; see `of_length`.
        nodes
            Also form the coefficients of `at_nodes` (only a saturable effect needs them).
        """
        rates, outflow = self._rates(p)
        h = jnp.asarray(h, dtype=jnp.float64)
        lanes = jnp.broadcast_shapes((1,), jnp.shape(h), *(jnp.shape(v) for v in p.values()))
        fractions = np.concatenate([[1.0], NODES if nodes else []])
        fractions = fractions.reshape(-1, *([1] * len(lanes)))
        lengths = jnp.broadcast_to(h, lanes) * fractions
        phi, psi, w0, w1, w2 = kernel(self._structure, rates, outflow, self._output, lengths)
        scale = self._scale(p)

        dose_state = 0
        length = lengths[0]
        safe = jnp.where(length > 0, length, 1.0)
        m0, m1, m2 = w0[:, 0] * scale, w1[:, 0] * scale, w2[:, 0] * scale
        first_rate = length * m0[dose_state] - m1[dose_state]
        second_rate = 0.5 * (length**2 * m0[dose_state] - m2[dose_state])
        row = jnp.stack(
            [
                phi[s]
                if (s := self._structure.slot[self._output][j]) >= 0
                else jnp.zeros_like(w0[0])
                for j in range(self.n_states)
            ]
        )
        # a cell of no length: its mean is the value itself and its slope is zero
        value = row[:, 0] * scale
        return Propagator(
            phi=phi[:, 0],
            psi=psi[:, 0],
            mean=jnp.where(length > 0, m0 / safe, value),
            slope=jnp.where(length > 0, 12 / safe**3 * (m1 - 0.5 * length * m0), 0.0),
            mean_rate=first_rate / safe,
            slope_rate=12 / safe**3 * (second_rate - 0.5 * length * first_rate),
            nodes=jnp.moveaxis(row[:, 1:] * scale, 1, 0) if nodes else None,
            nodes_rate=w0[dose_state, 1:] * scale if nodes else None,
        )

    def zero(self, lanes: int) -> Array:
        """No drug: zeros ``[n_states, lanes]``."""
        return jnp.zeros((self.n_states, lanes))

    def dose(self, x: Array, amount: Array) -> Array:
        """State after ``amount`` mg enters the depot (oral) or the central compartment (iv)."""
        return x.at[0].add(amount)

    def advance(self, prop: Propagator, x: Array, rate: Array | None = None) -> Array:
        """State at the end of the cell, exact.

        Parameters
        ----------
        prop
            From `propagator`.
        x
            State at the start, ``[n_states, L]``.
        rate
            Constant rate into the dosing compartment in mg/h, ``[L]``; ``None`` is zero.
        """
        out = jnp.stack(times_column(self._structure, list(prop.phi), list(x)))
        return out if rate is None else out + prop.psi * rate

    def value(self, p: Parameters, x: Array) -> Array:
        """Driver at a node, ``[L]``."""
        return x[self._output] * self._scale(p)

    def moments(self, prop: Propagator, x: Array, rate: Array | None = None) -> tuple[Array, Array]:
        """Exact mean and first Legendre moment of the driver over the cell.

        Returns
        -------
        mean : ``[L]``
            ``(1/h) * integral of f``.
        b : ``[L]``
            ``(12/h^3) * integral of f (t - tm)`` with ``tm`` the middle of the cell: the slope of
            the straight line closest to ``f`` in the mean square.
        """
        mean = jnp.sum(prop.mean * x, axis=0)
        slope = jnp.sum(prop.slope * x, axis=0)
        if rate is None:
            return mean, slope
        return mean + prop.mean_rate * rate, slope + prop.slope_rate * rate

    def at_nodes(self, prop: Propagator, x: Array, rate: Array | None = None) -> Array:
        """Driver ``[Q, L]`` at the Gauss-Legendre `NODES` of the cell, exact."""
        if prop.nodes is None or prop.nodes_rate is None:
            raise PkpdError(
                where="propagator",
                what="it was formed without quadrature nodes",
                remedy="call propagator(p, h, nodes=True)",
            )
        out = jnp.sum(prop.nodes * x, axis=1)
        return out if rate is None else out + prop.nodes_rate * rate

    def half_lives(self, p: Parameters) -> Array:
        """Half-lives of disposition in hours, longest first, ``[compartments, L]``."""
        c, first = self.compartments, self.n_absorption
        a = jnp.moveaxis(
            self.rate_matrix(p)[first : first + c, first : first + c], (0, 1), (-2, -1)
        )
        # a mammillary rate matrix is similar to this symmetric one
        root = jnp.sqrt(jnp.maximum(a * jnp.swapaxes(a, -1, -2), 0.0))
        eye = jnp.eye(c, dtype=bool)
        eigenvalues = jnp.linalg.eigvalsh(jnp.where(eye, a, root))
        return jnp.moveaxis(jnp.log(2.0) / -eigenvalues[..., ::-1], -1, 0)


@dataclass(frozen=True)
class Disposition(LinearPK):
    """Doses and infusions into the central compartment of 1, 2 or 3 compartments.

    Fields as those of `LinearPK` without ``absorption``: ``Disposition(2, effect_site=True)``.
    """

    absorption: None = field(default=None, init=False)


@dataclass(frozen=True)
class TransitAbsorption(LinearPK):
    """Oral doses: depot, ``absorption`` transits at the common rate ``KTR``, then central.

    With ``absorption = 0`` the depot empties at ``ka``. Lenalidomide: seven transits in the model
    of Hughes 2019, three in that of Guglieri 2017.
    """

    absorption: int = 0
