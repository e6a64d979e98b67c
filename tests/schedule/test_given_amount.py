"""Amounts as patients get them: caps and rounding, in the unit of the schedule."""

import numpy as np
import pytest

import pkpd
from pkpd.schedule import given_amount

SHARED = {"days": "1-5", "route": "oral"}


def lenalidomide(amount, **how):
    return pkpd.daily("lenalidomide", amount, **SHARED, **how)


def clofarabine(amount, **how):
    return pkpd.daily("clofarabine", amount, days="1-5", route="iv", duration="1 h", **how)


@pytest.mark.parametrize(
    ("amount", "how", "expected"),
    [
        ("12 mg", {}, (12.0, 12.0)),
        ("12 mg", {"strengths_mg": (5.0, 10.0)}, (10.0, 10.0)),
        ("10 mg/m^2", {"cap_mg": 16.0}, (10.0, 8.0)),
        ("0.1 mg/kg", {"strengths_mg": (2.5,)}, (5.0 / 50.0, 10.0 / 100.0)),
    ],
)
def test_an_amount_is_given_in_its_unit_after_cap_and_rounding(amount, how, expected):
    rule = lenalidomide(amount, **how).courses[0].doses[0]
    given = given_amount(rule, rule.amount, np.array([1.5, 2.0]), np.array([50.0, 100.0]))
    np.testing.assert_allclose(given, expected, rtol=1e-15)


def test_what_is_neither_capped_nor_rounded_stays_to_the_last_digit():
    rule = clofarabine("0.005 mg/m^2").courses[0].doses[0]
    surface = np.random.default_rng(1).uniform(1.4, 2.4, 500)
    np.testing.assert_array_equal(given_amount(rule, 0.005, surface, 70.0), 0.005)


def test_simulate_tells_what_patients_get():
    how = {"marrow": "friberg", "patients": 20, "until_day": 20}
    rounded = pkpd.simulate(lenalidomide("12 mg", strengths_mg=(5.0, 10.0)), "rr_aml", **how)
    plain = pkpd.simulate(lenalidomide("10 mg"), "rr_aml", **how)
    np.testing.assert_array_equal(rounded["amount"], plain["amount"])
    np.testing.assert_array_equal(rounded["count"], plain["count"])
    capped = pkpd.simulate(clofarabine("30 mg/m^2", cap_mg=40.0), "rr_aml", **how)
    flat = pkpd.simulate(clofarabine("40 mg"), "rr_aml", **how)
    np.testing.assert_allclose(capped["count"], flat["count"], rtol=1e-12)
    given = capped["amount"].values[capped["amount"].values > 0]
    assert (given < 40.0 / 1.3).all()
    assert (given > 40.0 / 2.6).all()
