"""Programs: JAX functions of numbers as vector code inside compiled kernels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numba import njit

from pkpd.errors import PkpdError
from pkpd.solve.bridge.program import evaluate, program
from pkpd.solve.compiled.lanes import WIDTH, vectors


def run(function, inputs, outputs, data, adds=False):
    made = program(function, inputs, outputs, adds=adds)
    key = made.key

    @njit
    def kernel(a, b):
        x, y = vectors(a, 0), vectors(b, 0)
        evaluate(key, x, y, y, y, y, y, y)

    a, b = (np.ascontiguousarray(part, dtype=np.float64) for part in data)
    kernel(a.reshape(-1), b.reshape(-1))
    return b


def everything(x, y):
    inside = jnp.where((x > 0.5) & ~(y >= 2.0), jnp.tanh(x), -jnp.abs(y - 1.0))
    more = jnp.logaddexp(x, y) + jax.nn.sigmoid(y) + jnp.sign(x - 1.0) + jnp.sqrt(y)
    return inside * more, jnp.maximum(x, y) ** 3 / x**2 + x**y, jnp.exp(-x) * jnp.log1p(y)


def test_a_program_is_its_function_to_rounding():
    rng = np.random.default_rng(1)
    x = rng.uniform(0.05, 3.0, (2, WIDTH))
    out = run(everything, [(0, 0), (0, 1)], [(1, 0), (1, 1), (1, 2)], (x, np.zeros((3, WIDTH))))
    expected = np.array(jax.vmap(everything)(*x))
    np.testing.assert_allclose(out, expected, rtol=4e-15)


def test_the_derivative_of_a_program_is_that_of_jax():
    def pull(x, y, bar):
        _, back = jax.vjp(lambda *v: everything(*v)[1], x, y)
        return back(bar)

    rng = np.random.default_rng(2)
    x = rng.uniform(0.3, 2.0, (3, WIDTH))
    out = run(pull, [(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1)], (x, np.zeros((2, WIDTH))))
    expected = np.array(jax.vmap(pull)(*x))
    np.testing.assert_allclose(out, expected, rtol=1e-13)


def test_results_are_added_where_asked_and_read_before_any_is_written():
    x = np.arange(2.0 * WIDTH).reshape(2, WIDTH)
    before = np.ones((2, WIDTH))
    out = run(
        lambda a, b: (a + b, a * b), [(0, 0), (0, 1)], [(1, 0), (1, 1)], (x, before), (True, False)
    )
    np.testing.assert_array_equal(out, [1.0 + x[0] + x[1], x[0] * x[1]])
    made = program(lambda a, b: (b, a), [(1, 0), (1, 1)], [(1, 0), (1, 1)])
    key = made.key

    @njit
    def swap(b):
        y = vectors(b, 0)
        evaluate(key, y, y, y, y, y, y, y)

    both = x.copy()
    swap(both.reshape(-1))
    np.testing.assert_array_equal(both, x[::-1])


def test_another_function_has_another_key_and_the_same_one_the_same():
    places = [(0, 0)], [(1, 0)]
    one = program(lambda x: (2.0 * x,), *places).key
    assert program(lambda x: (2.0 * x,), *places).key == one
    assert program(lambda x: (2.5 * x,), *places).key != one
    assert program(lambda x: (2.0 * x,), [(0, 1)], [(1, 0)]).key != one


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: (jnp.sin(x),), "'sin' has no vector form"),
        (lambda x: (x, x), "gives 2 numbers; allowed: 1"),
    ],
)
def test_what_cannot_be_a_program_is_refused(function, words):
    with pytest.raises(PkpdError, match=words):
        program(function, [(0, 0)], [(1, 0)])
