"""Dose of one patient in mg."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pkpd.schedule import (
    Course,
    DoseRule,
    Regimen,
    individual_dose_mg,
    plan,
)
from pkpd.solve.compiled.day_kinetics import FIXED, dose_mg


def rule(unit="mg", **changes):
    return DoseRule("lenalidomide", 10.0, unit, (1,), route="oral", **changes)


def test_size_factors():
    for unit, factor in (("mg", 1.0), ("mg/m^2", 1.8), ("mg/kg", 70.0)):
        assert individual_dose_mg(rule(unit), 5.0, 1.8, 70.0) == pytest.approx(5.0 * factor)


def test_the_cap_comes_before_rounding():
    capped = rule("mg/m^2", cap_mg=20.0, strengths_mg=(2.5, 5.0))
    np.testing.assert_allclose(
        individual_dose_mg(capped, 10.0, np.array([1.5, 1.6, 1.7, 2.4]), 70.0),
        [15.0, 15.0, 17.5, 20.0],  # 15, 16, 17 and 24 mg before cap and rounding
    )


def test_no_dose_stays_none_and_a_small_dose_is_one_capsule():
    small = rule(strengths_mg=(2.5, 5.0))
    np.testing.assert_array_equal(
        individual_dose_mg(small, np.array([0.0, 0.1, 3.75]), 1.8, 70.0), [0.0, 2.5, 5.0]
    )


@given(st.integers(1, 40_000), st.sampled_from(["2.5", "5", "1", "0.5", "0.1", "0.3", "0.02"]))
@example(15, "0.1")  # 0.15 mg by 0.1 mg is 1.4999999999999998 as a number
@example(2, "0.1")
def test_rounding_is_that_of_decimal_arithmetic(hundredths, step):
    """Halves up, also where steps or doses are not exact in binary; the driver does the same."""
    dose = Decimal(hundredths) / 100
    units = (dose / Decimal(step)).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    expected = float(max(units, Decimal(1)) * Decimal(step))
    rounded = individual_dose_mg(rule(strengths_mg=(float(step),)), float(dose), 1.8, 70.0)
    assert float(rounded) == pytest.approx(expected, abs=1e-9)
    driver = dose_mg.py_func(float(dose), FIXED, np.inf, float(step), 1.8, 70.0)
    assert driver == float(rounded)


def test_a_slot_of_a_plan_gives_the_same_dose_as_its_rule():
    sized = rule("mg/m^2", strengths_mg=(2.5, 5.0), cap_mg=25.0)
    slot = plan(Regimen((Course("a", (sized,), 28),)), 28).slots[0]
    bsa = np.linspace(1.2, 2.6, 29)
    amounts_mg = np.array([[10.0], [5.0]])
    np.testing.assert_array_equal(
        individual_dose_mg(slot, amounts_mg, bsa, 70.0),
        individual_dose_mg(sized, amounts_mg, bsa, 70.0),
    )
