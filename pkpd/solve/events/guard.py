"""A wall between subjects for derivatives: what is not finite in one does not reach the others.

Subjects share population parameters, so the derivative of one whose solution exploded would turn
the sum over all subjects into NaN. `finite_derivative` is the identity; derivatives that come back
through it are zero where they are not finite. It is a primitive because it has to work in forward
mode too, where JAX's ``custom_vjp`` cannot go.
"""

from __future__ import annotations

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
