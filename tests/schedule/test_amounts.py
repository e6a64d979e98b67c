"""Amounts, durations and days as written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkpd.errors import PkpdError, UnitError
from pkpd.schedule import parse_amount, parse_days, parse_hours
from pkpd.schedule.amounts import show_amount, show_days


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 mg/m^2", (5.0, "mg/m^2")),
        ("5mg/m2", (5.0, "mg/m^2")),
        ("5 mg/m²", (5.0, "mg/m^2")),
        ("0.1 mg/kg", (0.1, "mg/kg")),
        ("25 mg", (25.0, "mg")),
        ("1.5 g/m^2", (1500.0, "mg/m^2")),
        ("100 ug", (0.1, "mg")),
        ("5 mcg/kg", (0.005, "mg/kg")),
    ],
)
def test_amounts_of_protocols(text, expected):
    assert parse_amount(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("5 mq/m^2", "did you mean 'mg/m.2'"),
        ("5 mg/L", "concentration unit"),
        ("5 umol", "molar unit"),
        ("5 h", "unit of time"),
        ("5 mg/day", "rate of dosing"),
        ("5", "has no unit"),
        (25, 'it has no unit; write it with its unit, such as "25 mg" or "25 mg/m.2"'),
        ("mg", "does not begin with a number"),
        ("-5 mg", "the amount is -5"),
        ("0 mg", "the amount is 0"),
        ("nan mg", "the amount is nan"),
        ("inf mg", "the amount is inf"),
        ("1,000 mg", "a comma in a number"),
        ("2,5 mg", "a comma in a number"),
    ],
)
def test_amounts_that_are_refused(text, part):
    with pytest.raises(UnitError, match=part) as error:
        parse_amount(text)
    assert str(text) in str(error.value)


@given(st.floats(1e-6, 1e6), st.sampled_from(["mg", "mg/m^2", "mg/kg"]))
def test_shown_amounts_are_read_back(amount, unit):
    value, read = parse_amount(show_amount(amount, unit))
    assert read == unit
    assert value == pytest.approx(amount, rel=1e-9)  # ten digits are shown


@pytest.mark.parametrize(
    ("text", "hours"),
    [("1 h", 1.0), ("30 min", 0.5), ("90 minutes", 1.5), ("1 day", 24.0), ("0 h", 0.0), (0, 0.0)],
)
def test_durations(text, hours):
    assert parse_hours(text) == hours


@pytest.mark.parametrize(
    ("text", "part"),
    [("2", "has no unit"), (2.0, '"2.0 h" or "2.0 min"'),
     ("5 mg", "unit of dose"), ("-1 h", "it is -1"),
     ("1 hurs", "did you mean"), ("nan h", "it is nan")],
)  # fmt: skip
def test_durations_that_are_refused(text, part):
    with pytest.raises(UnitError, match=part):
        parse_hours(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-5", ((1, 2, 3, 4, 5), None)),
        ("1,8,15,22", ((1, 8, 15, 22), None)),
        ("1-21/28", (tuple(range(1, 22)), 28)),
        ("1-36 every 7", ((1, 8, 15, 22, 29, 36), None)),
        ("8, 1-3", ((1, 2, 3, 8), None)),
        (4, ((4,), None)),
        ([3, 1], ((1, 3), None)),
        (np.arange(1, 4), ((1, 2, 3), None)),
        (np.int64(4), ((4,), None)),
    ],
)
def test_days(text, expected):
    assert parse_days(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0-5", "day 0 does not exist"),
        ("-3", "day -3 does not exist"),
        ("5-1", "runs backwards"),
        ("1\u20135", 'is no hyphen; .*; write "1-5"'),
        ("1,1", "written twice"),
        ("1-5,5", "written twice"),
        ("1-30/28", "day 30 is after the end of the 28-day cycle"),
        ("first", "'first' is not a day"),
        ("1-5/x", "'x' is not a cycle length"),
        ("1-21 every 0", "a step of 0 days"),
        ("1-99999", "more than ten years"),
        ((), "no day is given"),
        ((1.0,), "not a whole day"),
    ],
)
def test_days_that_are_refused(text, part):
    with pytest.raises(PkpdError, match=part):
        parse_days(text)


@given(st.sets(st.integers(1, 400), min_size=1))
def test_shown_days_are_read_back(days):
    assert parse_days(show_days(days)) == (tuple(sorted(days)), None)
