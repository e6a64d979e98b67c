"""Transition matrix of a compartmental system and moments of one output, by positive sums.

Textbook solutions (sums of exponentials, incomplete gamma functions) divide by differences of
rates and lose all digits when two rates meet: absorption equal to elimination, effect-site decay
equal to the terminal slope. Here no eigenvalue and no difference of rates is formed. The rate
matrix ``A`` has no negative element off its diagonal, so with ``sigma`` the fastest outflow,

    exp(A t) = exp(-sigma t) exp((A + sigma I) t)

is a series of positive terms ("uniformisation"; Jensen 1953 for Markov chains). It is summed for
a short time ``h / 2^s`` and doubled ``s`` times; doubling adds and multiplies positive numbers
only. Integrals of the output follow by the same recursion. The result has about twelve correct
digits for any combination of rates (ten where ``sigma h`` is a thousand, six where it is millions),
and its gradient has no singular point.

Matrices are kept as their distinct non-zero entries ("slots"): a chain of transit compartments at
one rate needs one slot per diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.kinetics.pattern import Pattern

_RADIUS = 0.5  # largest sigma * h the series is summed for
_DOUBLINGS = 24  # sigma * h up to 8 million within the radius, to six digits there; beyond, NaN
_USUAL = 16  # of these, made for reverse passes in any case


def compose(pattern: Pattern, a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
    """Slots of the product of two matrices given by their slots."""
    out = []
    for i, k in pattern.representative:
        terms = [
            a[pattern.slot[i][j]] * b[pattern.slot[j][k]]
            for j in range(pattern.n)
            if pattern.slot[i][j] >= 0 and pattern.slot[j][k] >= 0
        ]
        out.append(sum(terms[1:], terms[0]))
    return out


def row_times(pattern: Pattern, row: Sequence[Array], phi: Sequence[Array]) -> list[Array]:
    """Row vector times the matrix."""
    out = []
    for k in range(pattern.n):
        terms = [
            row[j] * phi[pattern.slot[j][k]] for j in range(pattern.n) if pattern.slot[j][k] >= 0
        ]
        out.append(sum(terms[1:], terms[0]))
    return out


def times_column(pattern: Pattern, phi: Sequence[Array], column: Sequence[Array]) -> list[Array]:
    """Matrix times column vector."""
    out = []
    for i in range(pattern.n):
        terms = [
            phi[pattern.slot[i][j]] * column[j] for j in range(pattern.n) if pattern.slot[i][j] >= 0
        ]
        out.append(sum(terms[1:], terms[0]))
    return out


def _moments_of_decay(x: Array, top: int) -> Array:
    """Integrals of ``u^j exp(-x u)`` over [0, 1] for ``j = 0 ... top``, for ``x`` below 2.

    Downwards from the top, so that all terms are positive.
    """
    decay = jnp.exp(-x)
    series = jnp.ones_like(x) / (top + 1)
    term = series
    for i in range(1, 12):
        term = term * x / (top + 1 + i)
        series = series + term
    integral = [decay * series]
    for j in range(top, 0, -1):
        integral.append((x * integral[-1] + decay) / j)
    return jnp.stack(integral[::-1])


def kernel(
    pattern: Pattern,
    rates: Mapping[tuple[int, int], Array],
    outflow: tuple[Array, ...],
    output: int,
    h: Array,
) -> tuple[Array, Array, Array, Array, Array]:
    """Transition matrix, response to a rate, and moments 0-2 in time of one output.

    Parameters
    ----------
    pattern
        Structure of the system.
    rates
        Rate constant (1/h) of every edge ``(from, to)``.
    outflow
        Total outflow (1/h) of every state.
    output
        State whose integrals are wanted.
    h
        Cell lengths in hours; the rates broadcast against it.

    Returns
    -------
    phi : ``[slots, ...]``
        ``exp(A h)``.
    psi : ``[n, ...]``
        State at ``h`` after a unit rate into state 0.
    w0, w1, w2 : ``[n, ...]``
        Integrals over ``[0, h]`` of ``exp(A t)[output, :] t^q``, ``q = 0, 1, 2``.

    Notes
    -----
    The entries travel as separate arrays, not as one stacked array: the reverse of an indexed
    read is an update of the whole stack, which made the gradient tens of times slower.
    """
    n = pattern.n
    sigma = outflow[0]
    for value in outflow[1:]:
        sigma = jnp.maximum(sigma, value)
    # The result does not depend on the shift, hence nor does its gradient.
    sigma = jax.lax.stop_gradient(sigma)
    reach = jax.lax.stop_gradient(sigma * h) / _RADIUS
    doublings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(reach, 1e-300))), 0, _DOUBLINGS)
    # beyond them a series cut short would look like an answer
    sigma = jnp.where(reach > 2.0**_DOUBLINGS, jnp.nan, sigma)
    step = h * jnp.exp2(-doublings)
    x = sigma * step
    shape = jnp.shape(x)
    zero, one = jnp.zeros(shape), jnp.ones(shape)

    degree = max(12, n + 9)
    integrals = _moments_of_decay(x, degree + 2)

    edge = {(j, i): jnp.broadcast_to(rate * step, shape) for (i, j), rate in rates.items()}
    for i in range(n):
        edge[(i, i)] = jnp.broadcast_to((sigma - outflow[i]) * step, shape)

    def next_power(power, j):
        out = []
        for i, k in pattern.representative:
            terms = [
                power[pattern.slot[i][m]] * edge[(m, k)]
                for m in range(n)
                if (m, k) in edge and pattern.slot[i][m] >= 0
            ]
            out.append(sum(terms[1:], terms[0]) / j)
        return out

    in_row = [(j, pattern.slot[output][j]) for j in range(n) if pattern.slot[output][j] >= 0]
    in_column = [(i, pattern.slot[i][0]) for i in range(n) if pattern.slot[i][0] >= 0]

    def add(sums, entries, power, factor):
        out = list(sums)
        for i, slot in entries:
            out[i] = out[i] + factor * power[slot]
        return out

    def add_term(j, carry):
        power, phi, psi, w0, w1, w2 = carry
        phi = [a + b for a, b in zip(phi, power, strict=True)]
        psi = add(psi, in_column, power, integrals[j])
        w0 = add(w0, in_row, power, integrals[j])
        w1 = add(w1, in_row, power, integrals[j + 1])
        w2 = add(w2, in_row, power, integrals[j + 2])
        return next_power(power, j + 1.0), phi, psi, w0, w1, w2

    slots = len(pattern.representative)
    identity = [one if slot in pattern.diagonal else zero for slot in range(slots)]
    start = (identity, [zero] * slots, [zero] * n, [zero] * n, [zero] * n, [zero] * n)
    _, phi, psi, w0, w1, w2 = jax.lax.fori_loop(0, degree + 1, add_term, start)
    decay = jnp.exp(-x)
    phi = [a * decay for a in phi]
    psi, w0 = ([a * step for a in values] for values in (psi, w0))
    w1, w2 = [a * step**2 for a in w1], [a * step**3 for a in w2]

    def double(i, carry):
        phi, psi, w0, w1, w2, length = carry
        late1 = [b + length * a for a, b in zip(w0, w1, strict=True)]
        late2 = [c + 2.0 * length * b + length**2 * a for a, b, c in zip(w0, w1, w2, strict=True)]
        new = (
            compose(pattern, phi, phi),
            [a + b for a, b in zip(psi, times_column(pattern, phi, psi), strict=True)],
            [a + b for a, b in zip(w0, row_times(pattern, w0, phi), strict=True)],
            [a + b for a, b in zip(w1, row_times(pattern, late1, phi), strict=True)],
            [a + b for a, b in zip(w2, row_times(pattern, late2, phi), strict=True)],
            2.0 * length,
        )
        return jax.tree.map(lambda a, b: jnp.where(i < doublings, a, b), new, carry)

    most = jnp.max(doublings).astype(jnp.int32)
    carry = (phi, psi, w0, w1, w2, step)
    carry = jax.lax.fori_loop(0, _USUAL, double, carry)
    rest = partial(jax.lax.fori_loop, _USUAL, _DOUBLINGS, double)
    carry = jax.lax.cond(most > _USUAL, rest, lambda same: same, carry)
    phi, psi, w0, w1, w2 = (jnp.stack(values) for values in carry[:5])
    return phi, psi, w0, w1, w2
