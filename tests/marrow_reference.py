"""Reference solution of a marrow's written-out equations, by DOP853 at 1e-10."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

RTOL, ATOL = 1e-10, 1e-14


def marrow_course(marrow, p, inputs, days):
    """Observed quantities of one patient each morning; ``inputs(day)`` hold on a day."""
    names = marrow.states
    p = {name: jnp.asarray(float(p[name])) for name in marrow.parameters}

    @jax.jit
    def slopes(y, u):
        found = marrow.derivative(dict(zip(names, y, strict=True)), p, u)
        return jnp.stack([jnp.asarray(found[name], jnp.float64) for name in names])

    y = np.array([float(v) for v in marrow.start(p).values()])
    mornings = []
    for day in range(days):
        seen = marrow.observe(dict(zip(names, y, strict=True)), p)
        mornings.append({k: float(v) for k, v in seen.items()})
        u = {k: jnp.asarray(v, jnp.float64) for k, v in inputs(day).items()}
        y = solve_ivp(
            lambda t, x, u=u: np.asarray(slopes(x, u)), (0.0, 1.0), y, method="DOP853",
            rtol=RTOL, atol=ATOL,
        ).y[:, -1]  # fmt: skip
    return {k: np.array([m[k] for m in mornings]) for k in mornings[0]}
