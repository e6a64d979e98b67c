"""Any structure as differential equations of amounts and states, ready to be written as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from pkpd.errors import PkpdError
from pkpd.predict.marrow import MarrowStructure
from pkpd.predict.marrow_general import _places, ode_system
from pkpd.predict.ode import OdeStructure, _output
from pkpd.predict.pk import LinearStructure
from pkpd.solve.events.system import OdeSystem

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Equations:
    """What a structure computes, as functions of numbers.

    Attributes
    ----------
    system
        Its equations.
    outputs
        Lines and their functions ``(states, parameters)``.
    dosing
        Parameters of doses by name and number of the compartment (``ALAG1``), to the model's name.
    """

    system: OdeSystem
    outputs: Mapping[str, Callable[[tuple[Any, ...], Values], Any]]
    dosing: Mapping[str, str]

    @property
    def compartments(self) -> tuple[str, ...]:
        """Names of compartments and states, in the order of CMT."""
        return self.system.compartments

    def slopes(self, t: Any, y: tuple[Any, ...], p: Values) -> list[Any]:
        """Give the derivatives of all compartments and states."""
        system, out, u = self.system, [], jnp.zeros(())
        if system.pk is not None:
            x, y = y[: system.pk.size], y[system.pk.size :]
            out = [jnp.zeros(())] * system.pk.size
            own = {name: p[name] for name in system.pk.parameters}
            for (source, target), rate in system.pk.flows(own).items():
                out[source] = out[source] - rate * x[source]
                if target is not None:
                    out[target] = out[target] + rate * x[source]
            u = x[system.pk.observed - 1]
            u = u if system.pk_volume is None else u / p[system.pk_volume]
        return [*out, *system.rhs(t, y, u, p)] if system.states else out

    def starts(self, p: Values) -> list[Any] | None:
        """States before the first dose; None where all are 0."""
        if self.system.initial is None:
            return None
        return [*([jnp.zeros(())] * self.system.n_linear), *self.system.initial(p)]


def equations_of(structure: Any) -> Equations:
    """Return the equations of a structure.

    Raises
    ------
    PkpdError
        If it is not made of differential equations (a control stream, a marrow with shared lines).
    """
    if isinstance(structure, LinearStructure):
        return _linear(structure)
    if isinstance(structure, OdeStructure):
        outputs = {
            line: lambda y, p, f=f: _output(structure, f, jnp.stack(y), p)
            for line, f in structure.outputs
        }
        return Equations(structure.system, outputs, {name: name for name in structure.dosing})
    marrow = isinstance(structure, MarrowStructure) and structure.whole is None
    if marrow and all(drug.pk is not None for drug in structure.drugs):
        return _marrow(structure)
    raise PkpdError(
        where="export",
        what=f"{type(structure).__name__} is not written as differential equations",
        allowed="compartments, ode_model and its kin, marrow_model of drugs with kinetics",
    )


def _linear(structure: LinearStructure) -> Equations:
    linear = structure.system
    system = OdeSystem(
        linear.name,
        (),
        structure.parameters,
        lambda t, y, u, p: (),
        pk=linear,
        dose_compartment=linear.dose_compartment,
    )

    def line(place: int, volume: str | None) -> Callable[[tuple[Any, ...], Values], Any]:
        return lambda y, p: y[place] if volume is None else y[place] / p[volume]

    outputs = {
        name: line(*where) for name, where in zip(structure.lines, structure.observed, strict=True)
    }
    return Equations(system, outputs, {name: name for name in structure.dosing})


def _marrow(structure: MarrowStructure) -> Equations:
    system = ode_system(structure)
    outputs: dict[str, Callable[[tuple[Any, ...], Values], Any]] = {}
    dosing: dict[str, str] = {}
    at = 0
    for drug in structure.drugs:
        place = at + drug.kinetics.system.observed - 1
        volume = None if drug.kinetics.volume is None else drug.own[drug.kinetics.volume]
        outputs[drug.line] = lambda y, p, i=place, v=volume: y[i] if v is None else y[i] / p[v]
        for name in drug.kinetics.dosing:
            letters = name.rstrip("0123456789")
            dosing[f"{letters}{int(name[len(letters) :]) + at}"] = drug.own[name]
        at += drug.kinetics.system.size
    for i, (first, stop) in enumerate(_places(structure)):

        def count(y: Any, p: Values, i: int = i, a: int = first, b: int = stop) -> Any:
            own = {name: p[mine] for name, mine in structure.marrow_names(i).items()}
            return jnp.exp(structure.marrow[i].log_count(jnp.stack(y[a:b]), own))

        outputs[structure.names[i]] = count
    return Equations(system, outputs, dosing)
