"""A wall between subjects for derivatives: what is not finite in one does not reach the others.

Subjects share population parameters, so the derivative of one whose solution exploded would turn
the sum over all subjects into NaN. `finite_derivative` is the identity; derivatives that come back
through it are zero where they are not finite. It is a primitive because it has to work in forward
mode too, where JAX's ``custom_vjp`` cannot go.

`slopes_over` is about stretches without length, which doses at one time leave between them. No
state moves there, whatever the right side gives: before its first dose a marrow may be empty, and
its feedback not a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_finite = Primitive("finite_derivative")
_finite.def_impl(lambda x: x)
_finite.def_abstract_eval(lambda x: x)
mlir.register_lowering(_finite, lambda _, x: [x])
batching.defvectorized(_finite)
ad.deflinear2(_finite, lambda bar, _: [jnp.where(jnp.isfinite(bar), bar, 0.0)])


def finite_derivative(x: Array) -> Array:
    """Return ``x``; derivatives that return through it are 0 where they are not finite.

    Examples
    --------
    >>> import jax
    >>> float(jax.grad(lambda x: jnp.sqrt(finite_derivative(x)))(0.0))
    0.0
    """
    return _finite.bind(jnp.asarray(x))


def slopes_over(rhs: Callable[..., Any], empty: Array) -> Callable[..., tuple[Array, ...]]:
    """Return a right side whose slopes are 0 where not finite and the stretch has no length.

    Parameters
    ----------
    rhs
        ``rhs(t, y, u, p)``, slopes of every state.
    empty
        Whether the stretch has no length, of the shape of the slopes.
    """

    def slopes(t: Any, y: tuple[Any, ...], u: Any, p: Any) -> tuple[Array, ...]:
        still = empty
        for each in y:
            still = still & jnp.isfinite(each)  # what is lost stays lost

        def walled(x: Any) -> Array:
            # elsewhere a derivative that is not finite has to be seen: its subject is lost
            return jnp.where(still, finite_derivative(x), x)

        q = {name: walled(value) for name, value in p.items()}
        found = (jnp.asarray(each, dtype=float) for each in rhs(t, tuple(map(walled, y)), u, q))
        return tuple(jnp.where(still & ~jnp.isfinite(each), 0.0, each) for each in found)

    return slopes
