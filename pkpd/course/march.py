"""The course of many lanes through a regimen: doses, drug, marrow, counts, day by day.

A lane is one patient under one parameter draw. All lanes share the clock hours at which doses are
given, so every day has the same few cells (`pkpd.solve.population.cells.day_cells`), and the
propagators of linear drugs are formed once per distinct cell length. What differs between lanes -
which day of which cycle it is, whether a drug is held, at what level - is decided each morning
from the lane's own counts (`pkpd.course.protocol`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.course import protocol
from pkpd.course.day_map import DayMap, day_map, one_day
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.kinetics.linear import LinearPK
from pkpd.marrow.effects import Combination, Effect
from pkpd.marrow.friberg import MarrowLine
from pkpd.schedule import Slot
from pkpd.solve.population.cells import distinct_lengths
from pkpd.solve.population.marrow_step import rk4_cell

PLATELETS = "platelets"

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
        function is that of `pkpd.course.protocol.calendar` instead of the plan's tables.
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
    """Individual dose: size, cap, then rounding as in `pkpd.schedule.individual_dose_mg`."""
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

    own_slots = {
        i: tuple(s for s, drug in enumerate(slot_drug) if drug == i)
        for i in range(len(structure.drugs))
    }

    def map_of(i: int, occasion: Array | None) -> DayMap:
        """Map of a drug's day, on its ``occasion``-th dosing day if it has occasions."""
        part = structure.drugs[i]
        p = dict(inputs.pk[part.name])
        if occasion is not None:
            for parameter in part.occasions:
                p[parameter] = p[parameter] * jnp.exp(
                    inputs.occasion[part.name][parameter][occasion]
                )
        # all lengths in one computation, which compiles faster than one for each
        nodes = needs_nodes(i)
        column = jnp.asarray(lengths)[:, None]
        found = kinetics(i).propagator(p, column, nodes=nodes, reverse=False)
        by_cell = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0)[which], found)
        slots = tuple(structure.slots[s] for s in own_slots[i])
        return day_map(kinetics(i), by_cell, structure.edges, slots, lanes, nodes=nodes)

    # formed once: carried from day to day they would be copied each day
    steady, by_occasion = {}, {}
    for i in linear:
        part = structure.drugs[i]
        if part.occasions:
            number = inputs.occasion[part.name][part.occasions[0]].shape[0]
            by_occasion[i] = jax.lax.map(partial(map_of, i), jnp.arange(number))
        else:
            steady[i] = map_of(i, None)

    def todays(i: int, doses: Array) -> DayMap:
        """Map of a drug's day for the occasion each lane is on."""
        if i in steady:
            return steady[i]
        number = jax.tree.leaves(by_occasion[i])[0].shape[0]
        occasion = jnp.clip(doses[i] - 1, 0, number - 1)

        def one_for_all(_):
            return jax.tree.map(lambda leaf: leaf[occasion[0]], by_occasion[i])

        def one_for_each(_):
            return jax.tree.map(
                lambda leaf: jnp.take_along_axis(
                    leaf, occasion.reshape(*([1] * (leaf.ndim - 1)), -1), axis=0
                )[0],
                by_occasion[i],
            )

        return jax.lax.cond(jnp.all(occasion == occasion[0]), one_for_all, one_for_each, None)

    def drug_day(i: int, x: Array, day: DayMap, mg: tuple[Array, ...]):
        """One drug over one day: its state at the end; its driver's moments, values at nodes."""
        x, moments, nodes = one_day(kinetics(i), day, x, tuple(mg[s] for s in own_slots[i]))
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

    def additive_day(i: int, x: Array, day: DayMap, mg: tuple[Array, ...]):
        """State at the day's end and effect moments ``[cells, lines, 2, L]`` of one drug."""
        x, moments, nodes = drug_day(i, x, day, mg)
        return x, effect_of(i, moments, nodes)

    def outside_day(values: tuple[Array, Array]) -> Array:
        """Moments ``[cells, 2, L]`` of a driver given from outside for the patients of a draw."""
        repeat = lanes // values[0].shape[-1]
        return jnp.stack([jnp.tile(value, (1, repeat)) for value in values], axis=1)

    def effects_of_day(pk, doses, mg, outside):
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
                x = pk[part.name]
                if structure.combination != "additive":
                    pk[part.name], moments, nodes = drug_day(i, x, todays(i, doses), mg)
                    together.append((moments, nodes))
                    continue
                # most days most drugs are long gone: a whole branch is then left out
                present = jnp.any(x != 0.0)
                for s in range(len(mg)):
                    if slot_drug[s] == i:
                        present = present | jnp.any(mg[s] > 0.0)
                pk[part.name], effect = jax.lax.cond(
                    present,
                    lambda x, i=i: additive_day(i, x, todays(i, doses), mg),
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
        progress, doses, pk, marrow, bank = carry
        day, outside = today
        logs = {n: line.log_count(marrow[n], inputs.marrow[n]) for n, line in structure.lines}
        platelets = jnp.exp(logs[PLATELETS]) + bank
        counts = jnp.stack([jnp.exp(logs["neutrophils"]), platelets])
        if isinstance(tables, protocol.PlanTables):
            progress, amount = protocol.one_day(progress, day, tables, counts, slot_drug)
            doses = progress.doses
        else:
            amount = jnp.broadcast_to(tables[0][day][:, None], (len(slot_drug), lanes))
            doses = doses + protocol.dosed(amount, slot_drug, len(structure.drugs))
        transfused = jnp.zeros(lanes, dtype=bool)
        if structure.transfusion is not None:
            transfused = structure.transfusion.needed(platelets)
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

        pk, effects = effects_of_day(pk, doses, mg, outside)

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
        carry = (progress, doses, pk, marrow, bank)
        out = (*nodes, platelets, transfused, amount)
        return carry, out

    marrow0 = {n: line.initial(inputs.marrow[n]) for n, line in structure.lines}
    no_doses = jnp.zeros((len(structure.drugs), lanes), dtype=jnp.int32)
    start = (
        protocol.begin(tables, lanes) if isinstance(tables, protocol.PlanTables) else None,
        no_doses,
        {structure.drugs[i].name: kinetics(i).zero(lanes) for i in linear},
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
