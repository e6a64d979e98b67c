"""Exponential of small matrices, for linear systems with a constant input over a step.

``jax.scipy.linalg.expm`` solves a linear system per matrix and branches on the norm, which is slow
for many 2x2 to 6x6 matrices. Here: a Taylor polynomial of degree 12 after scaling, then repeated
squaring, on all matrices at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# Remainder of the degree-12 polynomial at norm 1/4: 0.25**13 / 13! = 2e-18, below double precision.
_SCALED_NORM = 0.25
_DEGREE = 12
# 2**20 * 0.25 = 2.6e5: a rate of 10 /h over three years.
_SQUARINGS = 20


# Up to this size products are written out entry by entry: XLA then works along all matrices at
# once, and the reverse pass has no slices to put back (measured three to five times faster).
_WRITTEN_OUT = 5

Entries = tuple[tuple[Array, ...], ...]


def _split(matrix: Array) -> Entries | Array:
    n = matrix.shape[-1]
    if n > _WRITTEN_OUT:
        return matrix
    return tuple(tuple(matrix[..., i, j] for j in range(n)) for i in range(n))


def _join(entries: Entries | Array) -> Array:
    if not isinstance(entries, tuple):
        return entries
    return jnp.stack([jnp.stack(row, axis=-1) for row in entries], axis=-2)


def _product(a: Entries | Array, b: Entries | Array) -> Entries | Array:
    if isinstance(a, tuple) and isinstance(b, tuple):
        n = range(len(a))
        zero = jnp.zeros(())
        return tuple(tuple(sum((a[i][k] * b[k][j] for k in n), zero) for j in n) for i in n)
    return jnp.matmul(a, b)  # pyright: ignore[reportArgumentType]


def matrix_exponential(matrix: Array, squarings: int = _SQUARINGS) -> Array:
    """Exponential of matrices ``[..., n, n]``.

    Parameters
    ----------
    matrix
        Any real matrices; small ``n``.
    squarings
        Upper bound of the number of squarings. Norms above ``0.25 * 2**squarings`` give NaN
        rather than a wrong number.

    Returns
    -------
    Array
        ``exp(matrix)``, same shape.

    Notes
    -----
    Scaling and squaring as in Moler and Van Loan, SIAM Review 45 (2003) 3-49, method 3.
    """
    norm = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(matrix), axis=-2), axis=-1))
    needed = jnp.maximum(jnp.ceil(jnp.log2(jnp.maximum(norm, 1e-300) / _SCALED_NORM)), 0.0)
    count = jnp.minimum(needed, squarings)
    most = jnp.max(count, initial=0.0)
    a1 = _split(matrix * jnp.exp2(-count)[..., None, None])
    eye = _split(jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape))

    def horner(value: Entries | Array, divisor: Array) -> tuple[Entries | Array, None]:
        return jax.tree.map(lambda p, e: p / divisor + e, _product(a1, value), eye), None

    result, _ = jax.lax.scan(horner, eye, jnp.arange(_DEGREE, 0.0, -1.0))

    def square(value: Entries | Array, step: Array) -> tuple[Entries | Array, None]:
        more = step < count if isinstance(value, tuple) else (step < count)[..., None, None]

        def once(value: Entries | Array) -> Entries | Array:
            return jax.tree.map(
                lambda new, old: jnp.where(more, new, old), _product(value, value), value
            )

        return jax.lax.cond(step < most, once, lambda value: value, value), None

    result, _ = jax.lax.scan(square, result, jnp.arange(squarings, dtype=matrix.dtype))
    return jnp.where((needed > squarings)[..., None, None], jnp.nan, _join(result))


def step_matrices(matrix: Array, rate: Array, dt: Array) -> tuple[Array, Array]:
    """Exact step of ``dx/dt = matrix x + rate`` over ``dt`` with constant ``rate``.

    Parameters
    ----------
    matrix
        Rate constants (1/h), [..., S, S].
    rate
        Input into each compartment (mg/h), [..., S].
    dt
        Length of the step (h), [...]; a negative length steps back.

    Returns
    -------
    transition, gain
        ``x(dt) = transition @ x(0) + gain``; shapes [..., S, S] and [..., S].

    Notes
    -----
    The gain is the last column of the exponential of the matrix bordered by the input (Van Loan,
    IEEE Trans. Automat. Contr. 23 (1978) 395-404). The border is scaled to the size of the matrix,
    so that a large rate in small units does not cost squarings.
    """
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(matrix), axis=(-2, -1)))
    most = jax.lax.stop_gradient(jnp.max(jnp.abs(rate), axis=-1))
    unit = jnp.where((most > 0) & (size > 0), most / jnp.where(size > 0, size, 1.0), 1.0)
    shape = jnp.broadcast_shapes(matrix.shape[:-2], rate.shape[:-1], dt.shape)
    n = matrix.shape[-1]
    a = jnp.broadcast_to(matrix, (*shape, n, n))
    b = jnp.broadcast_to((rate / unit[..., None])[..., None], (*shape, n, 1))
    bordered = jnp.concatenate([a, b], axis=-1)
    bordered = jnp.concatenate([bordered, jnp.zeros((*shape, 1, n + 1), a.dtype)], axis=-2)
    result = matrix_exponential(bordered * dt[..., None, None])
    return result[..., :n, :n], result[..., :n, n] * jnp.broadcast_to(unit, shape)[..., None]
