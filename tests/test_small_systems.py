"""Batches of small systems of which some have no answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pkpd.small_systems import cholesky_each, inverse_each, root_each, solve_each


@given(st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=6), st.integers(0, 999))
def test_only_singular_systems_have_no_answer(size, singular, seed):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((len(singular), size, size))
    matrices = factor @ factor.swapaxes(1, 2) + np.eye(size)
    matrices[singular] = 0.0
    right = rng.standard_normal((len(singular), size))
    solved = solve_each(matrices, right)
    inverse, lower, root = inverse_each(matrices), cholesky_each(matrices), root_each(matrices)
    for b, gone in enumerate(singular):
        if gone:
            assert np.isnan(solved[b]).all()
            assert np.isnan(inverse[b]).all()
            assert np.isnan(lower[b]).all()
            np.testing.assert_array_equal(root[b], 0.0)
        else:
            np.testing.assert_allclose(matrices[b] @ solved[b], right[b], atol=1e-9)
            np.testing.assert_allclose(inverse[b] @ right[b], solved[b], atol=1e-9)
            np.testing.assert_allclose(lower[b] @ lower[b].T, matrices[b])
            np.testing.assert_array_equal(root[b], lower[b])


def test_one_matrix_serves_several_right_sides():
    matrix = np.array([[0.0, 0.0], [0.0, 1.0]])
    assert np.isnan(solve_each(matrix, np.ones(2))).all()
    np.testing.assert_allclose(solve_each(2 * np.eye(2), np.ones(2)), 0.5)


def test_the_root_of_a_singular_covariance_gives_it_back():
    direction = np.array([1.0, -2.0, 0.5])
    covariance = np.stack([np.outer(direction, direction), np.full((3, 3), np.nan)])
    root = root_each(covariance)
    np.testing.assert_allclose(root[0] @ root[0].T, covariance[0], atol=1e-12)
    assert np.isnan(np.diag(root[1])).all()
