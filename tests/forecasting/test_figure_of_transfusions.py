"""Platelets of virtual patients who are all transfused on the same mornings are not drawn so."""

import numpy as np
import pytest

from pkpd.forecasting.figure import _over_three_mornings


def test_every_other_morning_becomes_a_line():
    values = np.where(np.arange(40) % 2, 16.0, 7.0)
    smooth = _over_three_mornings(values, last_day=10)
    assert smooth[:10] == pytest.approx(values[:10])
    assert smooth[10:] == pytest.approx(np.sqrt(16.0 * 7.0))


def test_a_straight_rise_stays_what_it_is():
    values = np.exp(0.1 * np.arange(30))
    smooth = _over_three_mornings(values, last_day=3)
    assert smooth[:-1] == pytest.approx(values[:-1])
