"""Kinetics of a drug of a joint model as the population engine has them, and their numbers.

The engine's doses enter the first state and have no lag. A system of another shape has its states
reordered; doses into several compartments are those of several drugs of the engine, which is the
same where effects are proportional to the concentration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import LinearSystem, compartment_model
from pkpd.kinetics.flows import Edge, FlowPK, flow_name
from pkpd.kinetics.linear import LinearPK

if TYPE_CHECKING:
    from pkpd.predict.marrow import MarrowDrug

Source = str | float | Callable[[Mapping[str, Any]], Any]
"""Where a parameter of the engine comes from: a parameter, a number, or a function of all."""

_VOLUMES = {"V": "V1", "Q2": "Q"}


@dataclass(frozen=True)
class EngineDrug:
    """A drug of the engine.

    Attributes
    ----------
    name
        Its name there.
    kinetics
        Its kinetics.
    sources
        Where the parameters of the kinetics come from, in their order, then the bioavailability.
    compartment
        Compartment (from 1) that its doses enter.
    """

    name: str
    kinetics: LinearPK
    sources: tuple[Source, ...]
    compartment: int


def linear_pk(drug: MarrowDrug) -> tuple[LinearPK, dict[str, str]] | None:
    """Return a drug's kinetics where they are those of `compartments`, dosed at the first.

    Returns
    -------
    structure, names
        And the drug's own name of each of the structure's parameters; ``None`` for other kinetics.
    """
    if drug.pk is None:
        return None
    system = drug.pk.system
    transits = sum(name.startswith("transit") for name in system.compartments)
    depot = "depot" in system.compartments
    n = system.size - transits - depot
    if n not in (1, 2, 3) or (transits and depot):
        return None
    absorption = "transit" if transits else "first_order" if depot else "none"
    known = compartment_model(n, absorption, transits)
    if _shape(system) != _shape(known) or drug.pk.volume != ("V" if n == 1 else "V1"):
        return None
    before = transits or int(depot)
    structure = LinearPK(
        absorption=before - 1 if before else None,
        compartments=n,
        effect_site=drug.driver != "plasma",
        unit="umol/L",
    )
    names = {_VOLUMES.get(name, name): name for name in system.parameters}
    if before:
        names["KTR" if before > 1 else "ka"] = names.pop("ktr" if transits else "ka")
    if drug.driver == "effect_compartment":
        names |= {"k_in": "ke0", "k_out": "ke0"}
    elif drug.driver == "triphosphate":
        names |= {"k_in": "k_in", "k_out": "k_out"}
    return structure, names


def _shape(system: LinearSystem) -> tuple[Any, ...]:
    return (
        system.name,
        system.compartments,
        system.parameters,
        system.dose_compartment,
        system.observed,
    )


def dosed(drug: MarrowDrug, table: EventTable) -> tuple[int, ...]:
    """Compartments (from 1) that the doses of a drug's own event table enter, ascending."""
    own = drug.kinetics.system.dose_compartment
    into = np.where(table.cmt > 0, table.cmt, own)[table.is_dose]
    return tuple(int(c) for c in np.unique(into)) or (own,)


def engine_drugs(drug: MarrowDrug, into: tuple[int, ...]) -> list[EngineDrug]:
    """Drugs of the engine for one drug of a joint model whose doses enter these compartments."""
    known = linear_pk(drug)
    if known is not None and into == (1,):
        kinetics, names = known
        own: dict[str, Source] = {name: drug.own[written] for name, written in names.items()}
        own["per_umol"] = drug.per_unit
        sources = tuple(own[name] for name in kinetics.parameters)
        return [EngineDrug(drug.name, kinetics, (*sources, _share(drug, 1)), 1)]
    return [
        _by_flows(drug, c, drug.name if len(into) == 1 else f"{drug.name}, compartment {c}")
        for c in into
    ]


def _share(drug: MarrowDrug, compartment: int) -> Source:
    return drug.own.get(f"F{compartment}", 1.0)


def _by_flows(drug: MarrowDrug, compartment: int, name: str) -> EngineDrug:
    system, volume = drug.kinetics.system, drug.kinetics.volume
    first = compartment - 1
    order = [first, *(i for i in range(system.size) if i != first)]
    place: dict[int | None, int | None] = {state: i for i, state in enumerate(order)}
    place[None] = None
    written = {own: drug.own[own] for own in system.parameters}

    def flows(values: Mapping[str, Any]) -> Mapping[Edge, Any]:
        given = {own: values[outer] for own, outer in written.items()}
        if any(np.ndim(v) == 2 for v in given.values()):
            given = {n: jnp.reshape(v, (-1, 1)) if np.ndim(v) == 1 else v for n, v in given.items()}
        return system.flows(given)

    def flow(edge: Edge) -> Source:
        return lambda values: flows(values)[edge]

    def scale(values: Mapping[str, Any]) -> Any:
        return drug.per_unit if volume is None else drug.per_unit / values[drug.own[volume]]

    edges = tuple(system.flows(dict.fromkeys(system.parameters, jnp.ones(()))))
    moved: dict[Edge, Edge] = {(s, t): (order.index(s), place[t]) for s, t in edges}
    kinetics = FlowPK(
        effect_site=drug.driver != "plasma",
        edges=tuple(moved.values()),
        size=system.size,
        observed=order.index(system.observed - 1),
    )
    sources: dict[str, Source] = {flow_name(new): flow(old) for old, new in moved.items()}
    sources["scale"] = scale
    if drug.driver != "plasma":
        both = drug.driver == "triphosphate"
        sources["k_in"] = drug.own["k_in" if both else "ke0"]
        sources["k_out"] = drug.own["k_out" if both else "ke0"]
    rows = tuple(sources[one] for one in kinetics.parameters)
    return EngineDrug(name, kinetics, (*rows, _share(drug, compartment)), compartment)
