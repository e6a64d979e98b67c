"""Cells contain every event and no step is too long."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkpd.errors import PkpdError
from pkpd.solve.grid.cells import cells, day_cells, distinct_lengths

times = st.lists(st.floats(-10.0, 120.0), max_size=12)


@given(times, st.floats(0.5, 100.0), st.floats(0.1, 24.0))
def test_cells_hold_every_event_and_respect_the_step(events, horizon, step):
    edges = cells(events, horizon, step)
    assert edges[0] == 0.0
    assert edges[-1] == horizon
    lengths = np.diff(edges)
    assert np.all(lengths > 0)
    assert lengths.max() <= step * (1 + 1e-8)
    for event in events:
        if 0 <= event <= horizon:
            assert np.min(np.abs(edges - event)) <= 2e-9
    distinct, index = distinct_lengths(edges)
    np.testing.assert_allclose(distinct[index], lengths, atol=1.01e-9, rtol=0)
    assert np.all(np.diff(distinct) > 1e-9)


def test_even_division_is_not_upset_by_rounding():
    assert len(cells([], 24.0, 4.0)) == 7
    assert len(cells([], 0.3, 0.1)) == 4
    np.testing.assert_allclose(cells([1.0], 24.0, 6.0), [0, 1, 6.75, 12.5, 18.25, 24])


def test_day_of_two_drugs():
    edges = day_cells([0.0, 1.0, 24.0], 6.0, anchors=(6, 12, 18))
    np.testing.assert_allclose(edges, [0, 1, 6, 12, 18, 24])
    lengths, index = distinct_lengths(edges)
    np.testing.assert_allclose(lengths, [1, 5, 6])
    np.testing.assert_array_equal(index, [0, 1, 2, 2, 2])


def test_bad_times_are_refused_in_a_sentence():
    with pytest.raises(PkpdError, match=r"hour 25.0; allowed: 0 to 24; let an infusion"):
        day_cells([25.0], 6.0)
    with pytest.raises(PkpdError, match=r"max_step = 0"):
        cells([], 24.0, 0.0)
    with pytest.raises(PkpdError, match=r"horizon = nan"):
        cells([], float("nan"), 1.0)
    with pytest.raises(PkpdError, match=r"not finite"):
        cells([float("inf")], 24.0, 1.0)
