"""A linear drug's day as one linear map.

A linear drug is the same linear map every day: from its state in the morning and the doses of the
day to its state the next morning and to its driver in every cell. The map's columns are the days
of unit inputs, formed once cell by cell with the exact propagators of `pkpd.kinetics.linear`; a day
is then a sum of a few products instead of a walk through the cells.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from pkpd.kinetics.linear import LinearPK, Propagator
from pkpd.schedule import Slot

SAME_HOUR = 1e-9


class DayMap(NamedTuple):
    """Columns: one for each state in the morning, then one for each slot of the drug (per mg).

    Attributes
    ----------
    end
        ``[columns, states, L]`` state at the end of the day.
    moments
        ``[columns, cells, 2, L]`` mean and first moment of the driver.
    nodes
        ``[columns, cells, Q, L]`` driver at the quadrature nodes, or ``None``.
    """

    end: Array
    moments: Array
    nodes: Array | None


class Day(NamedTuple):
    """One day: state at its end ``[states, L]``, driver moments and node values by cell."""

    end: Array
    moments: Array
    nodes: Array | None


def entering(
    edges: tuple[float, ...], slots: tuple[Slot, ...], mg: tuple[Array, ...]
) -> tuple[Array, Array]:
    """Doses at the start of each cell (mg) and infusion rates (mg/h), ``[cells, L]`` each.

    Parameters
    ----------
    edges
        Cell edges of the day, h; they hold the start and end of every infusion.
    slots, mg
        Slots of one drug and what is given in each, ``[L]``.
    """
    none = jnp.zeros_like(mg[0])
    bolus, rate = [], []
    for start, stop in pairwise(edges):
        here, flow = none, none
        for slot, amount in zip(slots, mg, strict=True):
            if slot.duration_h <= 0.0:
                if abs(slot.hour - start) < SAME_HOUR:
                    here = here + amount
            elif slot.hour <= start + SAME_HOUR and stop <= slot.hour + slot.duration_h + SAME_HOUR:
                flow = flow + amount / slot.duration_h
        bolus.append(here)
        rate.append(flow)
    return jnp.stack(bolus), jnp.stack(rate)


def walk(
    pk: LinearPK,
    prop: Propagator,
    x: Array,
    bolus: Array,
    rate: Array,
    *,
    nodes: bool,
) -> Day:
    """Go through the cells of a day; ``prop`` has a leading axis of cells."""

    def cell_step(x, cell):
        prop, bolus, rate = cell
        x = pk.dose(x, bolus)
        at = pk.at_nodes(prop, x, rate) if nodes else None
        return pk.advance(prop, x, rate), (jnp.stack(pk.moments(prop, x, rate)), at)

    end, (moments, at) = jax.lax.scan(cell_step, x, (prop, bolus, rate))
    return Day(end, moments, at)


def day_map(
    pk: LinearPK,
    prop: Propagator,
    edges: tuple[float, ...],
    slots: tuple[Slot, ...],
    lanes: int,
    *,
    nodes: bool,
) -> DayMap:
    """Form the map of a drug's day from its propagators by cell."""
    states = pk.n_states

    def column(unit: Array) -> Day:
        x = jnp.broadcast_to(unit[:states, None], (states, lanes))
        mg = tuple(jnp.full(lanes, unit[states + k]) for k in range(len(slots)))
        return walk(pk, prop, x, *entering(edges, slots, mg), nodes=nodes)

    return DayMap(*jax.vmap(column)(jnp.eye(states + len(slots))))


def one_day(pk: LinearPK, day: DayMap, x: Array, mg: tuple[Array, ...]) -> Day:
    """Apply the map to the morning's state ``[states, L]`` and the doses of the slots (mg)."""
    inputs = [*x, *mg]
    reach = pk.reach
    end = []
    for i in range(pk.n_states):
        terms = [
            day.end[j, i] * value
            for j, value in enumerate(inputs)
            if reach[i][j if j < pk.n_states else 0]
        ]
        end.append(sum(terms[1:], terms[0]))

    def total(columns: Array) -> Array:
        terms = [columns[j] * value for j, value in enumerate(inputs)]
        return sum(terms[1:], terms[0])

    return Day(jnp.stack(end), total(day.moments), None if day.nodes is None else total(day.nodes))
