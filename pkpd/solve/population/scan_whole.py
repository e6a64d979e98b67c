"""The reference engine in JAX for a whole marrow: a scan over cells, lanes last.

What `pkpd.solve.compiled.whole` does for sixteen patients at a time, in the form to read and to
differentiate: kinetics exactly, what drugs do as the mean of four nodes, the marrow's own step, and
between the edges of a cell the cubic with the values and slopes of what is observed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pkpd.kinetics.linear import LinearPK, of_length
from pkpd.marrow.actions import combined
from pkpd.solve.grid.structure import PopulationStructure

_DAY = 24.0
_LEAST = 1e-300


def whole_nodes(
    structure: PopulationStructure, grid: tuple[Any, ...], schedule: Array, theta: Array
) -> Array:
    """Log values and their slopes per hour at both ends of every cell.

    Returns
    -------
    Array
        ``[C, ends, value or slope, observed, L]``.
    """
    whole = structure.whole
    assert whole is not None  # the caller has looked
    marrow = whole.marrow
    index, length_h, bolus, rate = (jnp.asarray(a) for a in grid[:4])
    lengths = length_h[:, schedule]
    bolus, rate = bolus[:, :, schedule], rate[:, :, schedule]
    lanes = theta.shape[1]
    rows = structure.row
    p = {name[1]: theta[i] for name, i in rows.items() if name[0] == "marrow"}
    kinetics = [
        {name[-1]: theta[i] for name, i in rows.items() if name[:2] == ("pk", drug.name)}
        for drug in structure.drugs
    ]
    props = [
        drug.pk.propagator(own, lengths, nodes=True) if isinstance(drug.pk, LinearPK) else None
        for drug, own in zip(structure.drugs, kinetics, strict=True)
    ]
    acting = [(k, action) for k, action in enumerate(whole.actions) if action is not None]

    def look(y: dict[str, Array], u: dict[str, Array]) -> Array:
        def logs(state: dict[str, Array]) -> list[Array]:
            seen = marrow.observe(state, p)
            return [jnp.log(jnp.maximum(seen[name], _LEAST)) for name in whole.observed]

        slopes = {k: jnp.broadcast_to(v, (lanes,)) for k, v in marrow.derivative(y, p, u).items()}
        value, slope = jax.jvp(logs, (y,), (slopes,))
        return jnp.stack([jnp.stack(value), jnp.stack(slope) / _DAY])

    def cell(carry: Any, inputs: Any) -> Any:
        x, y = carry
        at, dose, flow = inputs
        after, drivers = [], []
        for k, drug in enumerate(structure.drugs):
            share = kinetics[k]["F"]
            made = props[k]
            if made is None:
                drivers.append(share * flow[k] * _DAY)
                after.append(x[k])
                continue
            assert isinstance(drug.pk, LinearPK)
            prop = of_length(made, at)
            state = drug.pk.dose(x[k], share * dose[k])
            drivers.append(drug.pk.at_nodes(prop, state, share * flow[k]))
            after.append(drug.pk.advance(prop, state, share * flow[k]))
        u = combined(marrow, [a for _, a in acting], [drivers[k] for k, _ in acting], p)
        u = {name: jnp.broadcast_to(value, (lanes,)) for name, value in u.items()}
        new = marrow.step(y, p, u, lengths[at] / _DAY)
        new = {name: jnp.broadcast_to(value, (lanes,)) for name, value in new.items()}
        return (after, new), jnp.stack([look(y, u), look(new, u)])

    start = (
        [
            d.pk.zero(lanes) if isinstance(d.pk, LinearPK) else jnp.zeros(())
            for d in structure.drugs
        ],
        {name: jnp.broadcast_to(v, (lanes,)) for name, v in marrow.start(p).items()},
    )
    return jax.lax.scan(jax.checkpoint(cell, prevent_cse=False), start, (index, bolus, rate))[1]


def whole_observed(grid: tuple[Any, ...], schedule: Array, nodes: Array) -> Array:
    """Log values at the observations, ``[observed, L, T]``, from `whole_nodes`."""
    index, length_h, _, _, obs_cell, obs_at = (jnp.asarray(a) for a in grid)
    cell, u = obs_cell[schedule], obs_at[schedule]
    h = length_h[index[cell], schedule[:, None]]
    lane = jnp.arange(schedule.shape[0])[:, None]
    # [L, T, ends, value or slope, observed]
    seen = jnp.moveaxis(nodes, -1, 1)[cell, lane]
    left, rise = seen[..., 0, 0, :], seen[..., 0, 1, :]
    right, fall = seen[..., 1, 0, :], seen[..., 1, 1, :]
    u, h = u[..., None], h[..., None]
    r = 1.0 - u
    value = r * r * (1.0 + 2.0 * u) * left + u * u * (3.0 - 2.0 * u) * right
    return jnp.moveaxis(value + h * u * r * (r * rise - u * fall), -1, 0)
