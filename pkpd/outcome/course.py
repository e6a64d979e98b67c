"""The course of many lanes through a regimen: doses, drug, marrow, counts, day by day.

A lane is one patient under one parameter draw. All lanes share the clock hours at which doses are
given, so every day has the same few cells (`pkpd.engine.cells.day_cells`), and the propagators of
linear drugs are formed once per distinct cell length. What differs between lanes - which day of
which cycle it is, whether a drug is held, at what level - is decided each morning from the lane's
own counts (`pkpd.outcome.protocol`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.dosing import Slot
from pkpd.engine.cells import distinct_lengths
from pkpd.engine.linear import LinearPK
from pkpd.engine.marrow_step import rk4_cell
from pkpd.model.effects import Combination, Effect
from pkpd.model.marrow import MarrowLine
from pkpd.outcome import protocol
from pkpd.outcome.transfusion import TransfusionPolicy

PLATELETS = "platelets"

SAME_HOUR = 1e-9

NEGLIGIBLE = 1e-6
"""Drug (mg) or effect-site concentration (umol/L) below which a drug counts as gone: its effect is
then far below the error of the time steps."""


@dataclass(frozen=True)
class DrugPart:
    """How one drug acts, without numbers.

    Attributes
    ----------
    name
        The drug.
    pk
        Its linear kinetics, or ``None`` where the driver comes from outside (``external``) or the
        effect needs none (a lumped kill).
    external
        The driver's cell moments are inputs, for saturable elimination.
    effects
        Shape of effect for each line; ``None`` if the drug has none through a concentration.
    kill
        The drug removes proliferating cells at a rate proportional to the dose per m², spread
        over the day of the dose.
    occasions
        Individual parameters that change from dosing day to dosing day.
    """

    name: str
    pk: LinearPK | None = None
    external: bool = False
    effects: tuple[Effect, ...] | None = None
    kill: bool = False
    occasions: tuple[str, ...] = ()


@dataclass(frozen=True)
class CourseStructure:
    """All that shapes the computation; hashable, so that equal structures share a compilation.

    Attributes
    ----------
    drugs, slots
        Parts of the drugs and dose slots in the order of the dosing plan.
    lines
        ``(name, marrow line)`` pairs; neutrophils and platelets first.
    edges
        Cell edges of a day, hours from 0 to 24.
    combination
        ``"additive"`` or ``"bliss"``.
    transfusion
        Platelet transfusion policy, or ``None``.
    static
        No gate and no hold: every lane follows one calendar, and ``tables`` of the compiled
        function is that of `pkpd.outcome.protocol.calendar` instead of the plan's tables.
    """

    drugs: tuple[DrugPart, ...]
    slots: tuple[Slot, ...]
    lines: tuple[tuple[str, MarrowLine], ...]
    edges: tuple[float, ...]
    combination: str = "additive"
    transfusion: TransfusionPolicy | None = None
    static: bool = False


class LaneInputs(NamedTuple):
    """Numbers of every lane; mappings to arrays ``[L]`` unless stated.

    Attributes
    ----------
    pk
        drug → parameter → value.
    occasion
        drug → parameter → log factor ``[O, L]`` of the O-th dosing day (the last is kept beyond).
    effect
        drug → line → parameter → value; ``ln_kill`` per mg/m² for a lumped kill.
    marrow
        line → parameter → value.
    bsa, weight
        m², kg.
    increment
        Rise of the platelet count by one transfusion, 10^9/L.
    """

    pk: Mapping[str, Mapping[str, Array]]
    occasion: Mapping[str, Mapping[str, Array]]
    effect: Mapping[str, Mapping[str, Mapping[str, Array]]]
    marrow: Mapping[str, Mapping[str, Array]]
    bsa: Array
    weight: Array
    increment: Array


class CourseOutput(NamedTuple):
    """What happened on D days of M cells each.

    Attributes
    ----------
    initial
        line → (log count, slope) at time 0, ``[L]`` each.
    log_count, slope
        line → ``[D, M, L]`` at the end of every cell: natural log of the endogenous count in
        10^9/L, and its slope per hour.
    morning_platelets
        ``[D, L]`` platelet count of the morning including transfused platelets, 10^9/L.
    transfused
        ``[D, L]`` bool.
    amount
        ``[D, S, L]`` amounts given, in the slot's unit.
    first_day
        ``[C, L]`` day on which each course began, -1 if it never did.
    """

    initial: dict[str, tuple[Array, Array]]
    log_count: dict[str, Array]
    slope: dict[str, Array]
    morning_platelets: Array
    transfused: Array
    amount: Array
    first_day: Array


def dose_in_mg(slot: Slot, amount: Array, bsa: Array, weight: Array) -> Array:
    """Individual dose: size, cap, then rounding as in `pkpd.dosing.individual_dose_mg`."""
    size = {"mg": 1.0, "mg/m^2": bsa, "mg/kg": weight}[slot.unit]
    dose = jnp.minimum(amount * size, slot.cap_mg)
    if slot.strength_mg <= 0.0:
        return dose
    units = jnp.maximum(jnp.floor(dose / slot.strength_mg + 0.5), 1.0)
    return jnp.where(dose > 0.0, slot.strength_mg * units, 0.0)


@lru_cache(maxsize=64)
def compiled_course(structure: CourseStructure, days: int):
    """Return the compiled function ``run(tables, inputs, external) -> CourseOutput``."""
    return jax.jit(partial(_run, structure, days))


def _run(
    structure: CourseStructure,
    days: int,
    tables: protocol.PlanTables | tuple[Array, Array],
    inputs: LaneInputs,
    external: Mapping[str, tuple[Array, Array]],
) -> CourseOutput:
    lanes = inputs.bsa.shape[0]
    edges = np.asarray(structure.edges)
    lengths, which = distinct_lengths(edges)
    names = [name for name, _ in structure.lines]
    slot_drug = tuple(slot.drug_index for slot in structure.slots)
    linear = [i for i, part in enumerate(structure.drugs) if part.pk is not None]
    shapes = {i: part.effects for i, part in enumerate(structure.drugs) if part.effects is not None}
    acting = list(shapes)
    combine = [
        Combination(tuple(each[k] for each in shapes.values()), structure.combination)
        if acting
        else None
        for k in range(len(names))
    ]
    no_effect = jnp.zeros(lanes)

    def kinetics(i: int) -> LinearPK:
        pk = structure.drugs[i].pk
        assert pk is not None
        return pk

    def needs_nodes(i: int) -> bool:
        return any(c is not None and c.uses_nodes(acting.index(i)) for c in combine)

    def propagators(i: int, occasion: Array | None):
        part = structure.drugs[i]
        p = dict(inputs.pk[part.name])
        if occasion is not None:
            for parameter in part.occasions:
                factors = inputs.occasion[part.name][parameter]
                row = jnp.clip(occasion, 0, factors.shape[0] - 1)
                p[parameter] = p[parameter] * jnp.exp(
                    jnp.take_along_axis(factors, row[None, :], axis=0)[0]
                )
        # all lengths in one computation, which compiles faster than one for each
        found = kinetics(i).propagator(p, lengths[:, None], nodes=needs_nodes(i), reverse=False)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0)[which], found)

    def no_propagators(i: int):
        """Propagators of a drug before its first dose: there is nothing to propagate."""
        like = jax.eval_shape(lambda: propagators(i, jnp.zeros(lanes, jnp.int32)))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    steady = {i: propagators(i, None) for i in linear if not structure.drugs[i].occasions}
    varying = [i for i in linear if structure.drugs[i].occasions]

    def drug_day(i: int, x: Array, prop, mg: tuple[Array, ...]):
        """One drug over one day: its state at the end; its driver's moments, values at nodes."""
        pk = kinetics(i)
        bolus, rate = _entering(structure, mg, i)

        def cell_step(x, cell):
            prop, bolus, rate = cell
            x = pk.dose(x, bolus)
            nodes = pk.at_nodes(prop, x, rate) if needs_nodes(i) else None
            return pk.advance(prop, x, rate), (jnp.stack(pk.moments(prop, x, rate)), nodes)

        x, (moments, nodes) = jax.lax.scan(cell_step, x, (prop, bolus, rate))
        # by lane, so that a lane does not depend on the lanes it is simulated with
        gone = jnp.all(jnp.abs(x) <= NEGLIGIBLE, axis=0)
        return jnp.where(gone, 0.0, x), moments, nodes

    def effect_of(i: int, moments: Array, nodes: Array | None) -> Array:
        """Effect moments ``[cells, lines, 2, L]`` of one drug."""
        part = structure.drugs[i]
        cells = []
        for cell, h in enumerate(np.diff(edges)):
            at = None if nodes is None else nodes[cell]
            each = [
                shapes[i][k].moments(
                    inputs.effect[part.name][n], moments[cell, 0], moments[cell, 1], at, float(h)
                )
                for k, n in enumerate(names)
            ]
            cells.append(jnp.stack([jnp.stack(pair) for pair in each]))
        return jnp.stack(cells)

    def additive_day(i: int, x: Array, prop, mg: tuple[Array, ...]):
        """State at the day's end and effect moments ``[cells, lines, 2, L]`` of one drug."""
        x, moments, nodes = drug_day(i, x, prop, mg)
        return x, effect_of(i, moments, nodes)

    def outside_day(values: tuple[Array, Array]) -> Array:
        """Moments ``[cells, 2, L]`` of a driver given from outside for the patients of a draw."""
        repeat = lanes // values[0].shape[-1]
        return jnp.stack([jnp.tile(value, (1, repeat)) for value in values], axis=1)

    def effects_of_day(pk, varied, mg, outside):
        """Effect moments of all drugs, ``[cells, lines, 2, L]``, and the new drug states."""
        pk = dict(pk)
        nothing = jnp.zeros((len(edges) - 1, len(names), 2, lanes))
        total = nothing
        together: list[tuple[Array, Array | None]] = []
        for i, part in enumerate(structure.drugs):
            if part.external:
                moments = outside_day(outside[part.name])
                if structure.combination == "additive":
                    total = total + effect_of(i, moments, None)
                together.append((moments, None))
            elif part.pk is not None:
                prop = steady[i] if i in steady else varied[part.name]
                x = pk[part.name]
                if structure.combination != "additive":
                    pk[part.name], moments, nodes = drug_day(i, x, prop, mg)
                    together.append((moments, nodes))
                    continue
                # most days most drugs are long gone: a whole branch is then left out
                present = jnp.any(x != 0.0)
                for s in range(len(mg)):
                    if slot_drug[s] == i:
                        present = present | jnp.any(mg[s] > 0.0)
                pk[part.name], effect = jax.lax.cond(
                    present,
                    lambda x, i=i, prop=prop: additive_day(i, x, prop, mg),
                    lambda x: (x, nothing),
                    x,
                )
                total = total + effect
        if structure.combination == "additive" or not acting:
            return pk, total
        for cell, h in enumerate(np.diff(edges)):
            for k, combination in enumerate(combine):
                each = [inputs.effect[structure.drugs[i].name][names[k]] for i in acting]
                drivers = [(m[cell, 0], m[cell, 1]) for m, _ in together]
                nodes = [None if at is None else at[cell] for _, at in together]
                assert combination is not None
                both = combination.moments(each, drivers, nodes, float(h))
                total = total.at[cell, k].set(jnp.stack(both))
        return pk, total

    def day_step(carry, today):
        progress, occasions, pk, varied, marrow, bank = carry
        day, outside = today
        logs = {n: line.log_count(marrow[n], inputs.marrow[n]) for n, line in structure.lines}
        platelets = jnp.exp(logs[PLATELETS]) + bank
        counts = jnp.stack([jnp.exp(logs["neutrophils"]), platelets])
        if isinstance(tables, protocol.PlanTables):
            progress, amount = protocol.one_day(progress, day, tables, counts, slot_drug)
            given, doses = progress.doses != occasions, progress.doses
        else:
            amount = jnp.broadcast_to(tables[0][day][:, None], (len(slot_drug), lanes))
            given = protocol.dosed(amount, slot_drug, len(structure.drugs))
            doses = occasions + given
        transfused = jnp.zeros(lanes, dtype=bool)
        if structure.transfusion is not None:
            transfused = platelets <= structure.transfusion.trigger
            bank = bank + jnp.where(transfused, inputs.increment, 0.0)

        mg = tuple(
            dose_in_mg(slot, amount[s], inputs.bsa, inputs.weight)
            for s, slot in enumerate(structure.slots)
        )
        kill = {n: jnp.zeros(lanes) for n in names}
        for i, part in enumerate(structure.drugs):
            if part.kill:
                per_m2 = sum(mg[s] for s in range(len(mg)) if slot_drug[s] == i) / inputs.bsa
                for n in names:
                    kill[n] = kill[n] + per_m2 * inputs.effect[part.name][n]["ln_kill"] / 24.0

        varied = dict(varied)
        for i in varying:
            key = structure.drugs[i].name
            varied[key] = jax.lax.cond(
                jnp.any(given[i]),
                lambda i=i: propagators(i, doses[i] - 1),
                lambda key=key: varied[key],
            )

        pk, effects = effects_of_day(pk, varied, mg, outside)

        # an inner scan, because XLA slows down threefold on unrolled cells
        def cell_step(marrow, cell):
            effect, h = cell
            new, log_count, slope = {}, {}, {}
            for k, (n, line) in enumerate(structure.lines):
                p = inputs.marrow[n]
                new[n] = rk4_cell(
                    line.derivative, marrow[n], (effect[k, 0], effect[k, 1]), kill[n], h, p
                )
                log_count[n] = line.log_count(new[n], p)
                slope[n] = line.log_count_slope(new[n], no_effect, 0.0, p)
            return new, (log_count, slope)

        marrow, nodes = jax.lax.scan(cell_step, dict(marrow), (effects, lengths[which]))
        if structure.transfusion is not None:
            bank = bank * np.exp(-24.0 * structure.transfusion.loss_per_hour)
        carry = (progress, doses, pk, varied, marrow, bank)
        out = (*nodes, platelets, transfused, amount)
        return carry, out

    marrow0 = {n: line.initial(inputs.marrow[n]) for n, line in structure.lines}
    no_doses = jnp.zeros((len(structure.drugs), lanes), dtype=jnp.int32)
    start = (
        protocol.begin(tables, lanes) if isinstance(tables, protocol.PlanTables) else None,
        no_doses,
        {structure.drugs[i].name: kinetics(i).zero(lanes) for i in linear},
        {structure.drugs[i].name: no_propagators(i) for i in varying},
        marrow0,
        jnp.zeros(lanes),
    )
    (progress, *_), (logs, slopes, morning, transfused, amount) = jax.lax.scan(
        day_step, start, (jnp.arange(days), dict(external))
    )
    initial = {
        n: (
            line.log_count(marrow0[n], inputs.marrow[n]),
            line.log_count_slope(marrow0[n], no_effect, 0.0, inputs.marrow[n]),
        )
        for n, line in structure.lines
    }
    if progress is None:
        first_day = jnp.broadcast_to(tables[1][:, None], (tables[1].shape[0], lanes))
    else:
        first_day = progress.first_day
    return CourseOutput(initial, logs, slopes, morning, transfused, amount, first_day)


def _entering(structure: CourseStructure, mg: tuple[Array, ...], drug: int) -> tuple[Array, Array]:
    """Doses of a drug at the start of each cell (mg) and its infusion rates (mg/h), [cells, L]."""
    none = jnp.zeros_like(mg[0])
    bolus, rate = [], []
    for start, stop in pairwise(structure.edges):
        here, flow = none, none
        for s, slot in enumerate(structure.slots):
            if slot.drug_index != drug:
                continue
            if slot.duration_h <= 0.0:
                if abs(slot.hour - start) < SAME_HOUR:
                    here = here + mg[s]
            elif slot.hour <= start + SAME_HOUR and stop <= slot.hour + slot.duration_h + SAME_HOUR:
                flow = flow + mg[s] / slot.duration_h
        bolus.append(here)
        rate.append(flow)
    return jnp.stack(bolus), jnp.stack(rate)
