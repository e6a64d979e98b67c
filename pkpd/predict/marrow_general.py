"""Counts of a joint model by the engine for any event (`pkpd.solve.events.ode`).

Serves what the population engine does not: marrow and effects that change over time, several lags,
modelled rates and durations, steady states, Bliss independence. The kinetics of one
drug are solved exactly and drive the marrow; those of several are integrated with it. A reset
(EVID 3 or 4) puts the marrow back to its start, and a steady-state dose finds the periodic counts,
as in NONMEM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.data.dataset import Dataset
from pkpd.errors import sentence
from pkpd.marrow.effects import combined_effect
from pkpd.predict.marrow_events import numbered_through
from pkpd.predict.structure import value_at
from pkpd.solve.events.advance import DOSING_NAME, left_out_when_compiled
from pkpd.solve.events.ode import OdeOptions, solve_events
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.population.status import TOLERANCE

if TYPE_CHECKING:
    from pkpd.predict.marrow import MarrowDrug, MarrowStructure


class GeneralCourse:
    """Marrow lines of a joint model at the observations, by the engine for any event.

    Parameters
    ----------
    structure
        The joint model.
    dataset
        The data.
    line : int[M]
        Marrow line of each observation.
    subject, record : int[M]
        Its place in the event table.
    """

    def __init__(
        self,
        structure: MarrowStructure,
        dataset: Dataset,
        line: np.ndarray,
        subject: np.ndarray,
        record: np.ndarray,
    ) -> None:
        self._structure = structure
        self._line, self._subject, self._record = line, subject, record
        self._system = ode_system(structure)
        self._options = OdeOptions(
            max_step_h=structure.general_step_h, events=structure.drugs[0].kinetics.options
        )
        before = 0
        self._renamed: dict[str, str] = {}
        for drug in structure.drugs:
            for name in drug.kinetics.dosing:
                found = DOSING_NAME.fullmatch(name)
                assert found is not None  # check_dosing() has looked
                self._renamed[drug.own[name]] = f"{found[1]}{int(found[2]) + before}"
            before += drug.kinetics.system.size
        self._events = numbered_through(structure, dataset.events)

    def __call__(self, parameters: dict[str, Any]) -> Any:
        """Solve for the counts (10^9/L) at the observations; values are scalars, [B] or [B, N]."""
        return self._solved(parameters, self._options)

    def problems(self, parameters: dict[str, Any]) -> dict[int, str]:
        """Sentences on subjects whose counts change by more than the tolerance on half the step.

        And on those that the compiled program has no room for at a steady state.
        """
        half = replace(self._options, refine=2.0)
        coarse, fine = (
            np.asarray(self._solved(parameters, options)) for options in (self._options, half)
        )
        error = np.abs(coarse / fine - 1.0)
        out = left_out_when_compiled(
            self._events,
            self._system.dose_compartment,
            self._named(parameters),
            self._options.events,
        )
        for b in np.unique(self._subject[error > TOLERANCE]).tolist():
            worst = error[self._subject == b].max()
            out[b] = sentence(
                where=f"subject {self._events.subject[b]}",
                what=f"estimated relative error {worst:.1e} of a count",
                remedy=f"shorten general_step_h, or accept more than {TOLERANCE:.0e}",
            )
        return out

    def _solved(self, parameters: dict[str, Any], options: OdeOptions) -> Array:
        states = solve_events(self._system, self._events, self._named(parameters), options=options)
        return self._counts(states, parameters)

    def _named(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters with those of doses named by the compartments of all drugs together."""
        return {self._renamed.get(name, name): value for name, value in parameters.items()}

    def _counts(self, states: Array, parameters: dict[str, Any]) -> Array:
        structure = self._structure
        out = jnp.zeros(self._line.shape)
        for i, marrow in enumerate(structure.marrow):
            mine = np.flatnonzero(self._line == i)
            if not mine.size:
                continue
            subject, record = self._subject[mine], self._record[mine]
            p = {
                name: value_at(parameters[own], subject, record)
                for name, own in structure.marrow_names(i).items()
            }
            first, stop = _places(structure)[i]
            y = states[subject, record, first:stop].T
            out = out.at[mine].set(jnp.exp(marrow.log_count(y, p)))
        return out


def _places(structure: MarrowStructure) -> list[tuple[int, int]]:
    """First and last state of each marrow line, the drugs' compartments coming first."""
    at = sum(drug.kinetics.system.size for drug in structure.drugs)
    at += sum(drug.driver != "plasma" for drug in structure.drugs)
    out = []
    for marrow in structure.marrow:
        out.append((at, at + len(marrow.states)))
        at = out[-1][1]
    return out


def ode_system(structure: MarrowStructure) -> OdeSystem:
    """Return the equations of a joint model: drugs, sites of effect, then marrow lines."""
    drugs = structure.drugs
    alone = drugs[0] if len(drugs) == 1 else None
    states: list[str] = []
    if alone is None:
        for drug in drugs:
            states += [f"{name}{drug.suffix}" for name in drug.kinetics.system.compartments]
    sites = [drug for drug in drugs if drug.driver != "plasma"]
    states += [f"site{drug.suffix}" for drug in sites]
    for name, marrow in zip(structure.names, structure.marrow, strict=True):
        states += [f"{name}_{state}" for state in marrow.states]
    before_marrow = len(states) - sum(len(m.states) for m in structure.marrow)

    def lines_of(p: Any) -> list[dict[str, Any]]:
        return [
            {name: p[own] for name, own in structure.marrow_names(i).items()}
            for i in range(len(structure.marrow))
        ]

    def rhs(t: Any, y: tuple[Array, ...], u: Any, p: Any) -> list[Array]:
        out: list[Array] = []
        if alone is None:
            plasma, at = [], 0
            for drug in drugs:
                size = drug.kinetics.system.size
                amounts = y[at : at + size]
                out += _flow(drug, amounts, p)
                volume = 1.0 if drug.kinetics.volume is None else p[drug.own[drug.kinetics.volume]]
                plasma.append(amounts[drug.kinetics.system.observed - 1] / volume)
                at += size
        else:
            plasma, at = [u], 0
        driver = []
        for drug, concentration in zip(drugs, plasma, strict=True):
            scaled = concentration * drug.per_unit
            if drug.driver == "plasma":
                driver.append(scaled)
                continue
            site = y[at]
            at += 1
            own = drug.own
            if drug.driver == "effect_compartment":
                out.append(p[own["ke0"]] * (scaled - site))
            else:
                out.append(p[own["k_in"]] * scaled - p[own["k_out"]] * site)
            driver.append(site)
        for i, (marrow, q) in enumerate(zip(structure.marrow, lines_of(p), strict=True)):
            values = [
                structure.effects[i][k].at_nodes(
                    {name: p[own] for name, own in structure.effect_names(i, k).items()}, here
                )
                for k, here in enumerate(driver)
            ]
            stop = at + len(marrow.states)
            change = marrow.derivative(
                jnp.stack(y[at:stop]), combined_effect(values, structure.combination), 0.0, q
            )
            out += [change[j] for j in range(stop - at)]
            at = stop
        return out

    def initial(p: Any) -> list[Array]:
        out = [jnp.zeros(())] * before_marrow
        for marrow, q in zip(structure.marrow, lines_of(p), strict=True):
            start = marrow.initial(q)
            out += [start[j] for j in range(len(marrow.states))]
        return out

    dosing = {drug.own[name] for drug in drugs for name in drug.kinetics.dosing}
    return OdeSystem(
        name=structure.name,
        states=tuple(states),
        parameters=tuple(name for name in structure.parameters if name not in dosing),
        rhs=rhs,
        initial=initial,
        pk=None if alone is None else alone.kinetics.system,
        pk_volume=None if alone is None else alone.kinetics.volume,
        dose_compartment=drugs[0].kinetics.system.dose_compartment,
    )


def _flow(drug: MarrowDrug, amounts: tuple[Array, ...], p: Any) -> list[Array]:
    """Change of the amounts of a drug without doses."""
    out = [jnp.zeros_like(each) for each in amounts]
    own = {name: p[drug.own[name]] for name in drug.kinetics.system.parameters}
    for (source, target), rate in drug.kinetics.system.flows(own).items():
        moved = rate * amounts[source]
        out[source] = out[source] - moved
        if target is not None:
            out[target] = out[target] + moved
    return out
