"""The general solver against closed forms, and its behaviour when a lane fails."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.solve.general import STATUS, solve_ode


@pytest.mark.slow
@pytest.mark.parametrize("stiff", [False, True])
def test_decay_with_boluses_and_inputs(stiff):
    edges = np.array([0.0, 1.0, 3.0])
    k = jnp.array([0.5, 2.0])
    out = solve_ode(
        lambda t, y, u, p: u - p["k"] * y,
        jnp.ones((1, 2)),
        {"k": k},
        edges,
        additions=jnp.array([0.0, 1.0])[:, None, None],
        inputs=jnp.array([0.0, 3.0])[:, None, None],
        stiff=stiff,
    )
    first = np.exp(-k * 1.0)
    second = (first + 1) * np.exp(-k * 2.0) + 3 / k * (1 - np.exp(-k * 2.0))
    np.testing.assert_allclose(out.y[1, 0], first, rtol=1e-7)
    np.testing.assert_allclose(out.y[2, 0], second, rtol=1e-7)


def test_a_lane_that_fails_is_told_and_leaves_the_others_alone():
    """y' = y^2 leaves every bound at t = 1/y0; the other lane is smooth."""
    out = solve_ode(
        lambda t, y, u, p: p["a"] * y**2,
        jnp.ones((1, 2)),
        {"a": jnp.array([1.0, 0.1])},
        np.array([0.0, 0.5, 2.0, 3.0]),
        max_steps=200,
    )
    assert out.status[0] in (1, 2)
    assert out.status[1] == 0
    assert STATUS[int(out.status[0])]
    np.testing.assert_allclose(out.y[-1, 0, 1], 1 / (1 - 0.3), rtol=1e-7)
    np.testing.assert_allclose(out.y[1, 0, 0], 2.0, rtol=1e-7)
    assert np.all(np.isnan(out.y[2:, 0, 0]))


def test_edges_that_do_not_increase_are_refused():
    with pytest.raises(PkpdError, match=r"edges do not increase"):
        solve_ode(lambda t, y, u, p: y, jnp.ones((1, 1)), {}, np.array([0.0, 0.0]))
