"""The file of a forecast has the shares that the screen shows, by day."""

import numpy as np
import xarray as xr

from pkpd.forecasting.summaries import _recovery
from pkpd.forecasting.words import days_shown


def test_the_days_are_the_next_five_weeks():
    one = xr.Dataset({"last_day_seen": 13, "known_until": 89}, coords={"day": np.arange(1, 91)})
    assert days_shown(one) == [14, 21, 28, 35, 42]
    assert days_shown(one.assign(last_day_seen=85)) == [89]
    assert days_shown(one.assign(last_day_seen=90)) == [90]


def test_shares_are_never_above_one():
    weights = np.full(1000, 0.001) * (1.0 + 1e-12)
    when = np.full(1000, 5.0)
    shares, _, low = _recovery([when], weights, 30)
    assert shares.max() == 1.0
    assert low[0] == 1.0
