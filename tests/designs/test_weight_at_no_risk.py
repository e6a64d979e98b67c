"""Weights of forecasts where the risk is 0 or the forecast is certain."""

import numpy as np
import pytest

from pkpd.designs import Pending, TiteCRM, TrialData, weight_of_forecast

CASES = [
    (0.3, 0.0, -1e6, 0.0),  # as with a risk of 1e-9: bad news
    (1.0, 0.3, -1e6, 0.0),
    (1.0, 0.0, -1e6, 0.0),
    (0.0, 0.3, 1.0, 1.0),
    (0.3, 1.0, 1.0, 1.0),
    (0.0, 0.0, 0.0, 0.0),  # nothing was learned
    (1.0, 1.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("forecast", "risk", "signed", "clipped"), CASES)
def test_a_weight_at_the_ends_is_its_limit(forecast, risk, signed, clipped):
    assert float(weight_of_forecast(forecast, risk)) == signed
    assert float(weight_of_forecast(forecast, risk, signed=False)) == clipped


def test_weights_do_not_jump_as_the_risk_goes_to_nothing():
    found = weight_of_forecast(np.full(4, 0.3), np.array([1e-2, 1e-4, 1e-9, 0.0]))
    assert (np.diff(found) <= 0).all()


def test_bad_news_at_no_risk_counts_as_a_dlt():
    design = TiteCRM(levels=3, target=0.25, skeleton=(0.1, 0.25, 0.4))
    waits = (Pending(2, float(weight_of_forecast(0.3, 0.0))),)
    with_news = TrialData((3, 3, 0), (0, 0, 0), current=2, pending=waits).batch()
    with_dlt = TrialData((3, 3, 0), (0, 1, 0), current=2).batch()
    assert design.risks(with_news) == pytest.approx(design.risks(with_dlt), abs=1e-5)
