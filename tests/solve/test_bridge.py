"""Programs: JAX functions of numbers as vector code inside compiled kernels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from pkpd.errors import PkpdError
from pkpd.solve.bridge.lanes import WIDTH, vectors
from pkpd.solve.bridge.operations import Operation, Operations
from pkpd.solve.bridge.order import in_turn
from pkpd.solve.bridge.program import evaluate, in_two, program


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


def test_a_bound_hides_no_state_that_is_no_number():
    """``max(state, floor)`` made the floor of it: a count as deep as counts can be."""
    x = np.array([np.full(WIDTH, np.nan), np.arange(WIDTH) - 1.0])

    def bounded(x, y):
        least = jnp.maximum(x, 1e-12)
        return least, jnp.minimum(x, 2.0), jnp.log(least), jnp.maximum(y, 0.0)

    places = [(1, i) for i in range(4)]
    out = run(bounded, [(0, 0), (0, 1)], places, (x, np.zeros((4, WIDTH))))
    assert np.isnan(out[:3]).all()
    np.testing.assert_array_equal(out[3], np.maximum(x[1], 0.0))


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


def test_a_program_in_two_parts_gives_the_very_numbers_of_the_whole():
    """Also where some inputs are known numbers; products are fused as in the whole program."""

    def cell(x, p, h, u):
        e = jnp.exp(-p * h)
        gone = (p * h + u) * x + jnp.where(p > 1.0, e * p, u * p)
        kept = x * e + (1.0 - e) * (1.0 + u * p) - u * x
        return gone, kept / (1.0 + p * p), jnp.log(p + h)

    rng = np.random.default_rng(3)
    data = rng.uniform(0.1, 2.0, (4, WIDTH))
    data[3] = 0.0
    inputs, outputs = [(0, i) for i in range(4)], [(1, i) for i in range(3)]
    whole = run(cell, inputs, outputs, (data, np.zeros((3, WIDTH))))
    np.testing.assert_allclose(whole, jax.vmap(cell)(*data), rtol=1e-14)
    made = program(cell, inputs, outputs)
    steps = {}
    for fixed in ({}, {(0, 3): 0.0}):
        two = in_two(made, {(0, 1), (0, 2)}, fixed, 2)
        before, after = two.before.key, two.after.key
        steps[bool(fixed)] = [step.name for step in two.after.operations.steps]
        kept, out = np.zeros((two.rows, WIDTH)), np.zeros((3, WIDTH))

        @njit
        def kernel(a, b, c, before=before, after=after):
            x, y, z = vectors(a, 0), vectors(b, 0), vectors(c, 0)
            evaluate(before, x, y, z, y, y, y, y)
            evaluate(after, x, y, z, y, y, y, y)

        kernel(data.reshape(-1), out.reshape(-1), kept.reshape(-1))
        np.testing.assert_array_equal(out, whole)
    # exponential and logarithm are of what is held
    assert not {"exp", "log"} & set(steps[False])
    assert len(steps[True]) < len(steps[False])


def test_the_exponential_of_no_number_is_none_and_of_large_ones_is_held():
    x = np.resize([np.nan, 1e4, -1e4, 0.0], (1, WIDTH))
    found = run(lambda x: (jnp.exp(x),), [(0, 0)], [(1, 0)], (x, np.zeros((1, WIDTH))))
    np.testing.assert_allclose(found[0, :4], [np.nan, np.exp(709.0), np.exp(-708.0), 1.0])


@given(st.data())
def test_operations_stand_behind_what_they_take_the_longest_way_first(data):
    """Whatever takes what: every operation once, and inputs or earlier results alone in it."""
    inputs, count = 3, data.draw(st.integers(1, 40))
    steps = []
    for made in range(inputs, inputs + count):
        name = data.draw(st.sampled_from(["add", "div", "exp", "log"]))
        atoms = st.one_of(st.integers(0, made - 1), st.floats(0.1, 9.0))
        taken = tuple(data.draw(atoms) for _ in range(1 if name in ("exp", "log") else 2))
        steps.append(Operation(name, {}, taken, made))
    ops = Operations(inputs, tuple(steps), (inputs + count - 1,))
    found = in_turn(ops)
    assert sorted(found.steps, key=lambda step: step.made) == steps
    assert (found.inputs, found.results) == (ops.inputs, ops.results)
    there = set(range(inputs))
    for step in found.steps:
        assert {atom for atom in step.taken if isinstance(atom, int)} <= there
        there.add(step.made)


def test_what_is_independent_is_interleaved():
    """Two chains of exponentials, of which the second is traced when the first has ended."""
    one = [Operation("exp", {}, (before,), made) for before, made in ((0, 2), (2, 3), (3, 4))]
    other = [Operation("exp", {}, (before,), made) for before, made in ((1, 5), (5, 6), (6, 7))]
    found = in_turn(Operations(2, (*one, *other), (4, 7)))
    assert [step.made for step in found.steps] == [2, 5, 3, 6, 4, 7]


def test_numbers_are_carried_through_operations():
    def function(x, u):
        return u * x + (1.0 - u) * x, x * 1.0 + 0.0, u * u

    ops = in_two(program(function, [(0, 0), (0, 1)], [(1, i) for i in range(3)]), (), {}, 2)
    assert ops.rows == 0
    for number, left in ((0.0, 0), (1.0, 0), (0.5, 2)):
        made = program(function, [(0, 0), (0, 1)], [(1, i) for i in range(3)])
        two = in_two(made, (), {(0, 1): number}, 2)
        assert len(two.after.operations.steps) == left
        assert two.after.operations.results[1:] == (0, number * number)
