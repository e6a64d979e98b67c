"""The transfusion policy as data; its bookkeeping is checked in test_course."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.course.transfusion import TRIGGER, TransfusionPolicy
from pkpd.errors import PkpdError
from pkpd.leukaemia.schedule import ArmSchedule


def test_loss_halves_the_count_in_a_half_life():
    policy = TransfusionPolicy(half_life_h=36.0)
    assert np.exp(-36.0 * policy.loss_per_hour) == pytest.approx(0.5, rel=1e-15)


def test_half_life_agrees_with_the_counts_of_the_trap_trial():
    # mean increments of 24.9 at about 1 h and 12.0 at about 21 h
    policy = TransfusionPolicy()
    at_21_h = 24.9 * np.exp(-20.0 * policy.loss_per_hour)
    assert at_21_h == pytest.approx(12.0, abs=0.5)


def test_increments_vary_but_are_never_negligible():
    policy = TransfusionPolicy(increment=25.0, increment_sd=12.0)
    got = policy.individual_increment(np.array([-9.0, -1.0, 0.0, 1.0]))
    np.testing.assert_allclose(got, [5.0, 13.0, 25.0, 37.0])


def test_a_count_at_the_trigger_is_not_transfused_in_any_marrow():
    policy = TransfusionPolicy()
    counts = np.array([policy.trigger - 1e-9, policy.trigger, policy.trigger + 1e-9])
    assert policy.needed(counts).tolist() == [True, False, False]
    assert ArmSchedule(None).transfuse_below == policy.trigger == TRIGGER


@pytest.mark.parametrize("name", ["trigger", "increment", "half_life_h"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_values_without_meaning_are_refused(name, value):
    with pytest.raises(PkpdError, match=f"transfusion policy: {name} = .*a number above 0"):
        TransfusionPolicy(**{name: value})


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_spread_without_meaning_is_refused_and_none_is_one(value):
    with pytest.raises(PkpdError, match=r"increment_sd = .*0 or a number above it"):
        TransfusionPolicy(increment_sd=value)
    assert (TransfusionPolicy(increment_sd=0.0).individual_increment(np.ones(2)) == 24.9).all()
