"""The reference engine in JAX: a scan over cells, lanes last.

What a reader studies and what runs where the compiled kernel does not: any marrow line and effect
with the methods of `pkpd.marrow.friberg.MarrowLine` and `pkpd.marrow.effects.Effect`, any device,
derivatives of any order and mode.

Reverse mode stores only the state at the start of each cell and repeats the cell on the way back
(``jax.checkpoint``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.kinetics.linear import LinearPK, of_length
from pkpd.marrow.step import rk4_cell
from pkpd.solve.cache import keep_compilations
from pkpd.solve.grid.grid import CellGrid
from pkpd.solve.grid.structure import DirectKill, PopulationStructure
from pkpd.solve.population.scan_whole import whole_nodes, whole_observed

Tables = tuple[Any, Any, Any, Any, Any, Any]


def tables(grid: CellGrid) -> Tables:
    """Arrays of a grid as the scan reads them."""
    keep_compilations()
    # plain arrays: made inside a trace, JAX arrays would not outlive it
    return (
        grid.length_index,
        grid.length_h,
        grid.bolus,
        grid.rate,
        grid.obs_cell,
        grid.obs_at,
    )


def _named(structure: PopulationStructure, theta: Array, prefix: tuple[str, ...]):
    rows = structure.row
    return {k[-1]: theta[i] for k, i in rows.items() if k[:-1] == prefix}


def _needs_nodes(structure: PopulationStructure, drug: int) -> bool:
    return any(line.effects[drug].uses_nodes for line in structure.lines)


def _nodes(
    structure: PopulationStructure, grid: Tables, schedule: Array, theta: Array
) -> tuple[Array, Array]:
    """Log count and slope of every line at every cell edge, ``[C + 1, lines, L]`` each."""
    index, length_h, bolus, rate = (jnp.asarray(a) for a in grid[:4])
    lengths = length_h[:, schedule]
    bolus, rate = bolus[:, :, schedule], rate[:, :, schedule]
    lanes = theta.shape[1]
    kinetics = [_named(structure, theta, ("pk", d.name)) for d in structure.drugs]
    props = [
        d.pk.propagator(p, lengths, nodes=_needs_nodes(structure, k))
        if isinstance(d.pk, LinearPK)
        else None
        for k, (d, p) in enumerate(zip(structure.drugs, kinetics, strict=True))
    ]
    marrow = [_named(structure, theta, ("marrow", x.name)) for x in structure.lines]
    effect = [
        [_named(structure, theta, ("effect", x.name, d.name)) for d in structure.drugs]
        for x in structure.lines
    ]

    def node(y, mean):
        pairs = zip(structure.lines, y, marrow, mean, strict=True)
        out = [
            (x.marrow.log_count(s, p), x.marrow.log_count_slope(s, e, 0.0, p))
            for x, s, p, e in pairs
        ]
        return jnp.stack([a for a, _ in out]), jnp.stack([b for _, b in out])

    def cell(carry, inputs):
        x, y = carry
        at, dose, flow = inputs
        h = lengths[at]
        moments, nodes, flows, after = [], [], [], []
        for k, drug in enumerate(structure.drugs):
            share = kinetics[k]["F"]
            flows.append(share * flow[k])
            if isinstance(drug.pk, DirectKill):
                moments.append((jnp.zeros(lanes), jnp.zeros(lanes)))
                nodes.append(None)
                after.append(x[k])
                continue
            made = props[k]
            assert made is not None  # only a direct kill has none
            prop = of_length(made, at)
            state = drug.pk.dose(x[k], share * dose[k])
            moments.append(drug.pk.moments(prop, state, flows[k]))
            wanted = prop.nodes is not None
            nodes.append(drug.pk.at_nodes(prop, state, flows[k]) if wanted else None)
            after.append(drug.pk.advance(prop, state, flows[k]))
        new, means = [], []
        for i, line in enumerate(structure.lines):
            mean, slope = jnp.zeros(lanes), jnp.zeros(lanes)
            kill = jnp.zeros(lanes)
            for k, drug in enumerate(structure.drugs):
                p = effect[i][k]
                if isinstance(drug.pk, DirectKill):
                    kill = kill + p["kill"] * flows[k]
                    continue
                m, b = line.effects[k].moments(p, *moments[k], nodes[k], h)
                mean, slope = mean + m, slope + b
            means.append(mean)
            new.append(rk4_cell(line.marrow.derivative, y[i], (mean, slope), kill, h, marrow[i]))
        return (after, new), node(y, means)

    start = (
        [
            d.pk.zero(lanes) if isinstance(d.pk, LinearPK) else jnp.zeros((1, lanes))
            for d in structure.drugs
        ],
        [
            jnp.broadcast_to(s, (s.shape[0], lanes))
            for s in (x.marrow.initial(p) for x, p in zip(structure.lines, marrow, strict=True))
        ],
    )
    (_, y), (log_count, slope) = jax.lax.scan(
        jax.checkpoint(cell, prevent_cse=False), start, (index, bolus, rate)
    )
    last, last_slope = node(y, [jnp.zeros(lanes)] * len(structure.lines))
    return (
        jnp.concatenate([log_count, last[None]]),
        jnp.concatenate([slope, last_slope[None]]),
    )


def _observed(grid: Tables, schedule: Array, log_count: Array, slope: Array) -> Array:
    """Cubic Hermite interpolant of log count at the observations, ``[lines, L, T]``."""
    index, length_h, _, _, obs_cell, obs_at = (jnp.asarray(a) for a in grid)
    cell, u = obs_cell[schedule], obs_at[schedule]
    h = length_h[index[cell], schedule[:, None]]
    lane = jnp.arange(schedule.shape[0])[:, None]
    take = jax.vmap(lambda a: a[cell, lane], in_axes=1)
    after = jax.vmap(lambda a: a[cell + 1, lane], in_axes=1)
    r = 1.0 - u
    value = r * r * (1.0 + 2.0 * u) * take(log_count) + u * u * (3.0 - 2.0 * u) * after(log_count)
    return value + h * u * r * (r * take(slope) - u * after(slope))


@partial(jax.jit, static_argnums=0)
def _counts(structure: PopulationStructure, grid: Tables, schedule: Array, theta: Array) -> Array:
    return _log_counts(structure, grid, schedule, theta)


def _log_counts(
    structure: PopulationStructure, grid: Tables, schedule: Array, theta: Array
) -> Array:
    if structure.whole is not None:
        return whole_observed(grid, schedule, whole_nodes(structure, grid, schedule, theta))
    return _observed(grid, schedule, *_nodes(structure, grid, schedule, theta))


@partial(jax.jit, static_argnums=0)
def scan_nodes(
    structure: PopulationStructure, grid: Tables, schedule: Array, theta: Array
) -> tuple[Array, Array]:
    """Log count and its slope per hour at all cell edges, ``[lines, L, C + 1]`` each."""
    if structure.whole is not None:
        ends = whole_nodes(structure, grid, schedule, theta)
        edges = jnp.concatenate([ends[:, 0], ends[-1:, 1]])  # [C + 1, value or slope, observed, L]
        return jnp.moveaxis(edges[:, 0], 0, -1), jnp.moveaxis(edges[:, 1], 0, -1)
    log_count, slope = _nodes(structure, grid, schedule, theta)
    return jnp.moveaxis(log_count, 0, -1), jnp.moveaxis(slope, 0, -1)


def scan_counts(
    structure: PopulationStructure, grid: Tables, schedule: Array, theta: Array
) -> Array:
    """Log counts at the observations.

    Parameters
    ----------
    structure
        Drugs and lines.
    grid
        From `tables`.
    schedule : int[L]
        Schedule of each lane.
    theta : float[P, L]
        Parameters, rows as in `PopulationStructure.layout`.

    Returns
    -------
    Array
        ``[lines, L, T]``; values in the padding of the grid mean nothing.
    """
    schedule = jnp.asarray(np.asarray(schedule), dtype=jnp.int32)
    return _counts(structure, grid, schedule, theta)
