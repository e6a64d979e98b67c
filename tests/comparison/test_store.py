"""Matrices of a cohort's lanes."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.comparison.store import Matrices, narrowed


@pytest.fixture
def filled():
    """Days in three draws of four patients, and counts from the second draw on."""
    rng = np.random.default_rng(3)
    days = np.floor(rng.uniform(0.0, 90.0, (3, 4)))
    days[0, 1], days[2, 2] = np.inf, np.nan
    counts = rng.lognormal(size=(3, 4))
    made = Matrices((3, 4))
    for draws in ([1, 2], [0]):
        made.write("days", np.array(draws), narrowed(days[draws].ravel()))
        made.write("counts", np.array(draws), narrowed(counts[draws].ravel()))
    return made, {"days": days, "counts": counts}


def test_what_is_read_is_what_was_written_to_the_last_bit(filled):
    made, written = filled
    assert list(made) == ["days", "counts"]
    assert len(made) == 2
    for key, matrix in made.items():
        assert matrix.dtype == np.float64
        np.testing.assert_array_equal(matrix, written[key])


def test_whole_numbers_take_half_the_memory(filled):
    assert filled[0].kept_bytes == 12 * 4 + 12 * 8


def test_a_matrix_that_stops_being_whole_keeps_all_its_digits():
    made = Matrices((2, 1))
    made.write("day", np.array([0]), narrowed(np.array([7.0])))
    made.write("day", np.array([1]), narrowed(np.array([1.0 / 3.0])))
    np.testing.assert_array_equal(made["day"], [[7.0], [1.0 / 3.0]])


def test_what_is_never_written_is_not_known_and_what_is_read_is_a_copy():
    made = Matrices((2, 2))
    made.write("day", np.array([1]), narrowed(np.array([3.0, 4.0])))
    made["day"][:] = 0.0
    np.testing.assert_array_equal(made["day"], [[np.nan, np.nan], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], np.float32),
        ([np.nan, np.inf, -np.inf, 16777216.0], np.float32),
        ([16777217.0], np.float64),
        ([0.0, 0.1], np.float64),
        ([1e300], np.float64),  # infinite in single precision
        ([1e-320], np.float64),
        (np.array([0, 7], np.int8), np.float32),
    ],
)
@pytest.mark.filterwarnings("error")
def test_values_lose_no_digit_in_single_precision(values, kind):
    found = narrowed(np.asarray(values))
    assert found.dtype == kind
    np.testing.assert_array_equal(found.astype(np.float64), values)
