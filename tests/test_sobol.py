"""Sobol numbers are those of SciPy, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from pkpd.sobol import MOST_DIMENSIONS, sobol_points


@pytest.mark.parametrize("dimensions", [1, 2, 7, 18, MOST_DIMENSIONS, MOST_DIMENSIONS + 1])
def test_points_are_those_of_scipy(dimensions):
    ours = sobol_points(dimensions, np.random.default_rng(dimensions))
    theirs = qmc.Sobol(dimensions, rng=np.random.default_rng(dimensions))
    for n in (1, 1, 2, 4, 8, 256, 1024):  # powers of two in all
        np.testing.assert_array_equal(ours.random(n), theirs.random(n))


def test_there_are_no_more_points_than_bits_tell_apart():
    points = sobol_points(1, np.random.default_rng(1))
    points._next = 2**30 - 1
    points.random(1)
    with pytest.raises(ValueError, match="1073741824 points"):
        points.random(1)
