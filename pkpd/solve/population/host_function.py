"""Functions of the processor over lanes, as JAX functions with a derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import Floats


def primitive(
    value: Callable[[int, Floats], Floats],
    taped: Callable[[int, Floats], Floats],
    pull: Callable[[int, Floats, Floats], Floats],
    shape_of: Callable[[int], tuple[int, ...]],
) -> Callable[[Array], Array]:
    """Make a JAX function of parameters ``theta[P, L]`` with a derivative.

    Parameters
    ----------
    value, taped
        ``(copies, theta[P, copies L]) -> [rows, copies L, ...]``; ``taped`` where a derivative may
        follow.
    pull
        ``(copies, theta, bar) -> [P, copies L]``, the vector-Jacobian product.
    shape_of
        Shape of the value for ``L`` lanes.
    """

    def call(host, shape, *args):
        kind = jax.ShapeDtypeStruct(shape, jnp.float64)
        return jax.pure_callback(_of_lanes(host), kind, *args, vmap_method="broadcast_all")

    @jax.custom_vjp
    def function(theta):
        return call(value, shape_of(theta.shape[1]), theta)

    def forward(theta):
        return call(taped, shape_of(theta.shape[1]), theta), theta

    def backward(theta, bar):
        return (call(pull, theta.shape, theta, bar),)

    function.defvjp(forward, backward)
    return function


def _of_lanes(solver: Callable[..., Floats]) -> Callable[..., Floats]:
    """Let a host function take leading axes, as ``jax.vmap`` adds them, as further lanes.

    Parameters
    ----------
    solver
        ``(copies, theta[P, copies L], ...)``; lanes are the second axis of all it takes and gives.
    """

    def host(*args: Any) -> Floats:
        arrays = [np.asarray(a, dtype=np.float64) for a in args]
        lead = arrays[0].shape[:-2]
        copies = int(np.prod(lead))
        together = []
        for a in arrays:
            rows, lanes, *rest = a.shape[len(lead) :]
            several = a.reshape(copies, rows, lanes, *rest).swapaxes(0, 1)
            together.append(several.reshape(rows, copies * lanes, *rest))
        out = solver(copies, *together)
        rows, lanes, *rest = out.shape
        lanes //= max(copies, 1)
        several = out.reshape(rows, copies, lanes, *rest).swapaxes(0, 1)
        return np.ascontiguousarray(several.reshape(*lead, rows, lanes, *rest))

    return host
