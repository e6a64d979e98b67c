"""Solve one lane of a population by the general engine, with no use of cells or moments.

For lanes whose error on fixed steps is too large, and for tests: the pharmacokinetics and the
marrow are integrated together on adaptive steps, restarted at every dose and infusion edge.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.kinetics.linear import LinearPK
from pkpd.solve.grid.structure import DirectKill
from pkpd.solve.population.problem import PopulationProblem

FloatArray = NDArray[np.float64]


def general_log_counts(
    problem: PopulationProblem, theta: FloatArray, lane: int, *, stiff: bool = True
) -> FloatArray:
    """Log counts ``[lines, T]`` of one lane; NaN where the general engine fails too.

    Parameters
    ----------
    problem
        The problem.
    theta : float[P, L]
        Parameters of all lanes.
    lane
        The lane.
    stiff
        Use an implicit solver, as a lane that needs this usually does.
    """
    from pkpd.solve.general import solve_ode  # diffrax takes a second to load

    structure, grid = problem.structure, problem.grid
    g = int(problem.schedule_of(theta.shape[1])[lane])
    values = theta[:, lane : lane + 1]
    times = problem.times_h[g]
    wanted = np.where(np.isnan(times), 0.0, times)
    starts = grid.start_h[:, g]
    edges = np.unique(np.concatenate([starts, wanted]))
    keep = np.concatenate([[True], np.diff(edges) > 1e-9])
    edges = edges[keep]
    gap = np.searchsorted(starts[:-1], edges[:-1] + 1e-9, side="right") - 1

    named = {name: values[i] for name, i in structure.row.items()}

    def group(*prefix: str) -> dict[str, FloatArray]:
        return {k[-1]: v for k, v in named.items() if k[:-1] == prefix}

    pk_states = [d.pk.n_states if isinstance(d.pk, LinearPK) else 0 for d in structure.drugs]
    offset = np.concatenate([[0], np.cumsum(pk_states)]).astype(int)
    starts_of_lines, size = [], int(offset[-1])
    y0 = [np.zeros((size, 1))]
    for line in structure.lines:
        own = np.asarray(line.marrow.initial(group("marrow", line.name)))
        starts_of_lines.append((size, size + own.shape[0]))
        size += own.shape[0]
        y0.append(np.broadcast_to(own, (own.shape[0], 1)))
    start = jnp.asarray(np.concatenate(y0))

    n_cells, drugs = edges.size - 1, len(structure.drugs)
    additions = np.zeros((n_cells, size, 1))
    inputs = np.zeros((n_cells, max(1, drugs), 1))
    for k, drug in enumerate(structure.drugs):
        share = float(named[("pk", drug.name, "F")][0])
        inputs[:, k, 0] = share * grid.rate[gap, k, g]
        if isinstance(drug.pk, LinearPK):
            for j in np.flatnonzero(grid.bolus[:, k, g]):
                cell = int(np.abs(edges[:-1] - starts[j]).argmin())
                additions[cell, offset[k], 0] += share * grid.bolus[j, k, g]

    parameters = {"/".join(name): jnp.asarray(v) for name, v in named.items()}

    def rhs(t, y, u, p):
        def part(*prefix: str):
            head = "/".join(prefix) + "/"
            return {
                k[len(head) :]: v
                for k, v in p.items()
                if k.startswith(head) and "/" not in k[len(head) :]
            }

        out, drivers = [], []
        for k, drug in enumerate(structure.drugs):
            if isinstance(drug.pk, DirectKill):
                drivers.append(None)
                continue
            own = part("pk", drug.name)
            x = y[offset[k] : offset[k + 1]]
            change = drug.pk.rate_matrix(own) @ x
            out.append(change.at[0].add(u[k]))
            drivers.append(drug.pk.value(own, x))
        for line, (a, b) in zip(structure.lines, starts_of_lines, strict=True):
            effect, kill = jnp.zeros(()), jnp.zeros(())
            for k, drug in enumerate(structure.drugs):
                own = part("effect", line.name, drug.name)
                if isinstance(drug.pk, DirectKill):
                    kill = kill + own["kill"] * u[k]
                else:
                    effect = effect + line.effects[k].at_nodes(own, drivers[k])
            marrow = {key: v[None] for key, v in part("marrow", line.name).items()}
            state = y[a:b][:, None]
            out.append(line.marrow.derivative(state, effect[None], kill, marrow)[:, 0])
        return jnp.concatenate(out)

    solution = solve_ode(
        rhs,
        start,
        parameters,
        edges,
        additions=jnp.asarray(additions),
        inputs=jnp.asarray(inputs),
        stiff=stiff,
        max_steps=100_000,
    )
    at = np.searchsorted(edges, wanted - 2e-9)
    states = np.asarray(solution.y)[np.minimum(at, edges.size - 1), :, 0].T
    rows = []
    for line, (a, b) in zip(structure.lines, starts_of_lines, strict=True):
        rows.append(np.asarray(line.marrow.log_count(states[a:b], group("marrow", line.name))))
    out = np.stack(rows)
    out[:, np.isnan(times)] = np.nan
    return out
