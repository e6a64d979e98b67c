"""Linear compartment systems: which compartment feeds which, and at what rate.

Numbers of compartments are those of NONMEM's ADVAN1-4, 11 and 12: an absorption compartment, if
there is one, is 1 and the central compartment comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import jax.numpy as jnp
from jax import Array

from pkpd.arguments import check_arguments, one_of
from pkpd.errors import PkpdError
from pkpd.kinetics.closed_form import mammillary_step
from pkpd.kinetics.exponential import step_matrices

Parameters = Mapping[str, Array]
Step = Callable[[Parameters, Array, Array], tuple[Array, Array]]
Flows = Callable[[Parameters], Mapping[tuple[int, int | None], Array]]


@dataclass(frozen=True)
class LinearSystem:
    """A linear system ``dx/dt = matrix(parameters) x + input``.

    Attributes
    ----------
    name
        For messages.
    compartments
        Names in order; the first is compartment 1.
    parameters
        Names of the parameters that ``flows`` reads.
    flows
        Parameters to rate constants (1/h) by (from, to) compartment, counted from 0; ``to`` is
        None for elimination.
    dose_compartment, observed
        Default compartment (from 1) for doses and for observations.
    closed_form
        Faster than the matrix exponential where there is one: parameters, input and length to the
        step's matrices.
    """

    name: str
    compartments: tuple[str, ...]
    parameters: tuple[str, ...]
    flows: Flows
    dose_compartment: int = 1
    observed: int = 1
    closed_form: Step | None = None

    @property
    def size(self) -> int:
        """Number of compartments."""
        return len(self.compartments)

    def step(self, parameters: Parameters, rate: Array, dt: Array) -> tuple[Array, Array]:
        """Exact step over ``dt`` (h) with constant ``rate`` (mg/h): transition and gain."""
        if self.closed_form is not None:
            return self.closed_form(parameters, rate, dt)
        return step_matrices(self.matrix(parameters), rate, dt)

    def matrix(self, parameters: Parameters) -> Array:
        """Rate matrix [..., S, S] (1/h) for parameters of shape [...]."""
        flows = self.flows(parameters)
        shape = jnp.broadcast_shapes(*(jnp.shape(rate) for rate in flows.values()))
        zero = jnp.zeros(shape)
        entries = [[zero] * self.size for _ in range(self.size)]
        for (source, target), rate in flows.items():
            entries[source][source] = entries[source][source] - rate
            if target is not None:
                entries[target][source] = entries[target][source] + rate
        return jnp.stack([jnp.stack(row, axis=-1) for row in entries], axis=-2)


def linear_system(
    name: str,
    compartments: Sequence[str],
    parameters: Sequence[str],
    flows: Flows,
    *,
    dose_compartment: int = 1,
    observed: int = 1,
) -> LinearSystem:
    """Make any linear system.

    Examples
    --------
    >>> parent = linear_system(
    ...     "parent and metabolite", ["parent", "metabolite"], ["km", "ke"],
    ...     lambda p: {(0, 1): p["km"], (1, None): p["ke"]})
    >>> parent.size
    2
    """
    return LinearSystem(
        name, tuple(compartments), tuple(parameters), flows, dose_compartment, observed
    )


@cache
def compartment_model(n: int = 1, absorption: str = "none", transits: int = 0) -> LinearSystem:
    """One to three compartments with elimination from the central one.

    Parameters
    ----------
    n
        Number of disposition compartments, 1 to 3. Parameters (L/h, L): ``CL, V`` for one;
        ``CL, V1, Q, V2`` for two; ``CL, V1, Q2, V2, Q3, V3`` for three.
    absorption
        ``"none"``; ``"first_order"``, from compartment 1 at ``ka`` (1/h); ``"transit"``, through
        ``transits`` compartments that each empty at ``ktr`` (1/h), the dose entering the first.
        With ``"transit_first_order"`` the last transit compartment empties into an absorption
        compartment that empties at ``ka``. Zero-order absorption is a dose into the central
        compartment with RATE -2; mixed absorption is two dose records.
    transits
        Number of transit compartments.

    Returns
    -------
    LinearSystem
        Doses go to compartment 1 by default; the central compartment is observed.
    """
    if n not in (1, 2, 3):
        raise PkpdError(
            where="compartment_model",
            what=f"n = {n}",
            allowed="1, 2 or 3",
            remedy="use linear_system for other structures",
        )
    chains = {
        "none": 0,
        "first_order": 1,
        "transit": transits,
        "transit_first_order": transits + 1,
    }
    check_arguments("compartment_model", absorption=(absorption, one_of(*chains)))
    if ("transit" in absorption) != (transits > 0):
        raise PkpdError(
            where="compartment_model",
            what=f"absorption = {absorption!r} with transits = {transits}",
            remedy="give transits >= 1 with a transit absorption, and 0 otherwise",
        )
    before = chains[absorption]
    rates = ["ktr"] * before
    if absorption.endswith("first_order"):
        rates[-1] = "ka"
    volumes = {1: ("V",), 2: ("V1", "V2"), 3: ("V1", "V2", "V3")}[n]
    exchange = {1: (), 2: ("Q",), 3: ("Q2", "Q3")}[n]

    def flows(p: Parameters) -> dict[tuple[int, int | None], Array]:
        out: dict[tuple[int, int | None], Array] = {
            (i, i + 1): jnp.asarray(p[name]) for i, name in enumerate(rates)
        }
        out[before, None] = p["CL"] / p[volumes[0]]
        for i, (q, v) in enumerate(zip(exchange, volumes[1:], strict=True), start=1):
            out[before, before + i] = p[q] / p[volumes[0]]
            out[before + i, before] = p[q] / p[v]
        return out

    def step(p: Parameters, rate: Array, dt: Array) -> tuple[Array, Array]:
        around = [
            (p[q] / p[volumes[0]], p[q] / p[v]) for q, v in zip(exchange, volumes[1:], strict=True)
        ]
        absorbed = p["ka"] if before else None
        return mammillary_step(p["CL"] / p[volumes[0]], around, absorbed, rate, dt)

    names = [f"transit{i + 1}" for i in range(transits)]
    names += ["depot"] if absorption.endswith("first_order") else []
    names += ["central", "peripheral", "peripheral2"][:n]
    return LinearSystem(
        name=f"{n}-compartment, absorption {absorption}",
        compartments=tuple(names),
        parameters=tuple(dict.fromkeys([*rates, "CL", *volumes, *exchange])),
        flows=flows,
        observed=before + 1,
        closed_form=None if transits else step,
    )
