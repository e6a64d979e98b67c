"""The same stretches between events on adaptive steps, for systems and lanes that need them.

Every stretch becomes one cell of `pkpd.solve.general.solve_ode` by scaling its time to 0 to 1, so
lanes with different events can share a call; a linear system is integrated along with the states.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.solve.events.guard import slopes_over
from pkpd.solve.events.march import Pieces
from pkpd.solve.events.system import Numbers, OdeSystem

RTOL, ATOL = 1e-9, 1e-11
MAX_STEPS = 16384


def adaptive(
    system: OdeSystem, p: Numbers, pieces: Pieces, start: Array, *, stiff: bool
) -> tuple[Array, Array]:
    """States after each piece, its jump included, [L, E, S], and the status of the lanes, [L].

    As `pkpd.solve.events.march.march`, but pieces other than the first must not be starts. Statuses
    are those of `pkpd.solve.general`.
    """
    from pkpd.solve.general import solve_ode  # diffrax takes a second to load

    lanes, n_pieces = pieces.length.shape
    size, linear = system.size, system.n_linear
    still = {name: value[:, 0] for name, value in p.items() if value.shape[1] == 1}
    names = [name for name, value in p.items() if value.shape[1] > 1]
    number = jnp.arange(n_pieces)
    # u: the clock at cell time 0, the length, rates, then what changes between records
    inputs = jnp.concatenate(
        [
            (pieces.begin - number * pieces.length)[..., None],
            pieces.length[..., None],
            pieces.rate,
            *(p[name][..., None] for name in names),
        ],
        axis=-1,
    )

    def rhs(s: Array, y: Array, u: Array, q: Numbers) -> Array:
        values = {**q, **{name: u[2 + size + i] for i, name in enumerate(names)}}
        x, states = y[:linear], tuple(y[linear + i] for i in range(size - linear))
        slopes, driver = [], jnp.zeros(())
        if system.pk is not None:
            seen = x[system.pk.observed - 1]
            driver = seen if system.pk_volume is None else seen / values[system.pk_volume]
            own = {name: values[name] for name in system.pk.parameters}
            slopes.extend(system.pk.matrix(own) @ x)
        given = slopes_over(system.rhs, u[1] == 0)
        slopes.extend(given(u[0] + s * u[1], states, driver, values))
        return u[1] * (jnp.stack([jnp.asarray(d, dtype=float) for d in slopes]) + u[2 : 2 + size])

    jumps = jnp.moveaxis(pieces.jump, 0, -1)
    additions = jnp.concatenate([jnp.zeros((1, size, lanes)), jumps[:-1]])
    solution = solve_ode(
        rhs,
        start.T,
        still,
        np.arange(n_pieces + 1.0),
        additions=additions,
        inputs=jnp.moveaxis(inputs, 0, -1),
        stiff=stiff,
        rtol=RTOL,
        atol=ATOL,
        max_steps=MAX_STEPS,
    )
    return jnp.moveaxis(solution.y[1:] + jumps, -1, 0), solution.status
