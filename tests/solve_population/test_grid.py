"""Grids: every dose on an edge, amounts kept, observations where they were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.errors import DataError
from pkpd.solve.grid.grid import Doses, bucket, by_cell, population_grid, refine

_HORIZON = 200.0
dose = st.tuples(
    st.floats(0, 190),
    st.floats(0.1, 50),
    st.sampled_from([0.0, 0.5, 1.0, 3.3]),
    st.integers(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(dose, max_size=6), min_size=1, max_size=4), st.floats(0.7, 9.0))
def test_grid_keeps_amounts_edges_and_observations(schedules, step):
    doses = Doses.of(schedules)
    asked = np.sort(np.random.default_rng(0).uniform(0, _HORIZON, (len(schedules), 7)), axis=1)
    asked[:, -1] = _HORIZON
    grid = population_grid(doses, asked, n_drugs=2, max_step_h=step)
    nodes = grid.node_times()
    lengths = np.diff(nodes, axis=0)
    assert lengths.min() > -1e-9
    assert lengths.max() <= step + 1e-6
    np.testing.assert_allclose(nodes[0], 0.0)
    np.testing.assert_allclose(nodes[-1], _HORIZON)
    gap_hours = np.diff(grid.start_h, axis=0)
    for g, schedule in enumerate(schedules):
        for k in (0, 1):
            mine = [d for d in schedule if d[3] == k]
            bolus = sum(a for _, a, length, _ in mine if length == 0)
            inside = sum(
                a * (min(t + length, _HORIZON) - t) / length
                for t, a, length, _ in mine
                if length > 0
            )
            # edges closer than 4 microseconds are one edge
            assert grid.bolus[:, k, g].sum() == pytest.approx(bolus, rel=1e-9)
            assert grid.rate[:, k, g] @ gap_hours[:, g] == pytest.approx(inside, rel=1e-6)
            for t, *_ in mine:
                assert np.abs(nodes[:, g] - t).min() < 1e-8
        cell = grid.obs_cell[g]
        found = nodes[cell, g] + grid.obs_at[g] * lengths[cell, g]
        np.testing.assert_allclose(found, asked[g], atol=1e-6)


def test_one_schedule_has_a_handful_of_lengths():
    doses = Doses.of([[(24.0 * d, 9.0, 1.0, 0) for d in range(20)]])
    grid = population_grid(doses, 24.0 * np.arange(61), n_drugs=1)
    assert grid.length_h.shape == (3, 1)
    # daily counts lie on edges: nothing is interpolated
    assert set(np.unique(grid.obs_at)) <= {0.0, 1.0}


def test_refining_keeps_the_observations():
    doses = Doses.of([[(3.0, 5.0, 0.0, 0)]])
    asked = np.array([0.0, 7.7, 31.0])
    grid = population_grid(doses, asked, n_drugs=1)
    fine = refine(grid, 3)
    nodes = fine.node_times()[:, 0]
    assert fine.n_cells == 3 * grid.n_cells
    lengths = np.diff(nodes)[fine.obs_cell[0]]
    np.testing.assert_allclose(nodes[fine.obs_cell[0]] + fine.obs_at[0] * lengths, asked, atol=1e-9)


def test_written_out_grid_is_the_same_grid():
    doses = Doses.of([[(0.0, 4.0, 2.0, 0), (30.0, 3.0, 0.0, 1)], [(5.0, 4.0, 1.0, 0)]])
    grid = population_grid(doses, [1.0, 40.0, 60.0], n_drugs=2)
    cells = by_cell(grid)
    assert cells.length_index.size == bucket(grid.n_cells, smallest=32)
    hours = cells.length_h[cells.length_index].sum(axis=0)
    np.testing.assert_allclose(hours, 60.0)
    np.testing.assert_allclose(cells.bolus.sum(axis=0), grid.bolus.sum(axis=0))
    lengths = cells.length_h[cells.length_index]
    infused = np.einsum("ckg,cg->kg", cells.rate, lengths)
    np.testing.assert_allclose(infused, [[4.0, 4.0], [0.0, 0.0]])


@given(st.integers(1, 100_000))
def test_buckets_are_few_and_near(size):
    padded = bucket(size)
    assert padded >= size
    assert padded <= max(8, 1.13 * size + 8)
    assert bucket(padded) == padded


@pytest.mark.parametrize(
    ("dose", "asked", "words"),
    [
        ((0.0, np.inf, 0.0, 0), [1.0], "amount"),
        ((0.0, 1.0, -1.0, 0), [1.0], "duration"),
        ((np.nan, 1.0, 0.0, 0), [1.0], "time"),
        ((0.0, 1.0, 0.0, 5), [1.0], "drug number 5"),
        ((0.0, 1.0, 0.0, 0), [-1.0], "0 h or later"),
        ((0.0, 1.0, 0.0, 0), [np.nan], "none is given"),
    ],
)
def test_bad_input_is_one_sentence(dose, asked, words):
    with pytest.raises(DataError, match=words):
        population_grid(Doses.of([[dose]]), asked, n_drugs=1)
