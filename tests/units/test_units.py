"""Units: spellings, factors known from the metric system, refusals."""

from __future__ import annotations

import math
import time

import pytest

from pkpd.errors import UnitError
from pkpd.units import (
    INTERNAL_UNITS,
    dimension_of,
    normal_unit,
    parse_quantity,
    to_internal,
    unit_factor,
)

SPELLINGS = [
    ("24.0 L/h", 24.0, "L/h", "clearance"),
    ("5 mg/m2", 5.0, "mg/m^2", "dose per area"),
    ("5mg/m^2", 5.0, "mg/m^2", "dose per area"),
    ("5 mg/m²", 5.0, "mg/m^2", "dose per area"),
    ("1.2 10^9/L", 1.2, "10^9/L", "count"),
    ("1.2x10^9/L", 1.2, "10^9/L", "count"),
    ("1.2 G/L", 1.2, "10^9/L", "count"),
    ("1200 /uL", 1.2, "1/uL", "count"),
    ("1200 cells/µL", 1.2, "1/uL", "count"),
    ("1200 /mm3", 1.2, "1/uL", "count"),
    ("1.2 K/uL", 1.2, "10^9/L", "count"),
    ("833 ng*h/mL", 0.833, "ng*h/mL", "auc"),
    ("188 ng/mL", 0.188, "ng/mL", "concentration"),
    ("2 uM", 2.0, "umol/L", "molar concentration"),
    ("2 umol/L", 2.0, "umol/L", "molar concentration"),
    ("0.5 /uM", 0.5, "1/(umol/L)", "effect per molar concentration"),
    ("90 mL/min", 90.0, "mL/min", "creatinine clearance"),
    ("0.5 1/h", 0.5, "1/h", "rate"),
    ("12 /day", 0.5, "1/day", "rate"),
    ("5.64 1/h/(10^9/L)", 5.64, "1/h/(10^9/L)", "rate per count"),
    ("12 /day/(10^9/L)", 0.5, "1/day/(10^9/L)", "rate per count"),
    ("30 min", 0.5, "min", "time"),
    ("1e2 mg", 100.0, "mg", "mass"),
    ("0.25", 0.25, "1", "fraction"),
]


@pytest.mark.parametrize(("text", "inside", "unit", "dimension"), SPELLINGS)
def test_spelling_and_value(text, inside, unit, dimension):
    value, found = parse_quantity(text)
    assert found == unit
    assert dimension_of(found) == dimension
    # one multiplication of floats
    assert math.isclose(to_internal(value, found, dimension), inside, rel_tol=1e-12)


@pytest.mark.parametrize("unit", INTERNAL_UNITS.values())
def test_an_internal_unit_is_its_own_normal_spelling(unit):
    assert normal_unit(unit) == unit


@pytest.mark.parametrize(
    ("unit", "cells"),
    [
        # UCUM: 10* is the base of powers of ten
        *[("10*9/L", 1.0), ("10*3/uL", 1.0), ("10*3/mm3", 1.0), ("10*6/L", 1e-3), ("10*9 /L", 1.0)],
        *[("10 * 3 / uL", 1.0), ("10*3 cells/uL", 1.0), ("10*6/mL", 1.0), ("10*12/L", 1e3)],
        # as laboratories write them, and what is left where superscripts are lost
        *[("10E9/L", 1.0), ("x10E9/L", 1.0), ("10e3/uL", 1.0), ("10E+3/uL", 1.0), ("10⁶/L", 1e-3)],
        *[("×10⁹/L", 1.0), ("x 10*9/L", 1.0), ("10 9/L", 1.0), ("109/L", 1.0), ("103/uL", 1.0)],  # noqa: RUF001
        *[("Giga/L", 1.0), ("Gpt/L", 1.0), ("GI/L", 1.0), ("Thousand/uL", 1.0), ("thou/uL", 1.0)],
        *[("K/cumm", 1.0), ("1000/uL", 1.0), ("100/uL", 0.1)],
    ],
)
def test_powers_of_ten_are_read_as_they_are_written(unit, cells):
    assert math.isclose(unit_factor(unit, "count"), cells, rel_tol=1e-12)
    value, found = parse_quantity(f"2 {unit}")
    assert math.isclose(to_internal(value, found, "count"), 2.0 * cells, rel_tol=1e-12)


def test_a_power_of_ten_need_not_be_of_counts():
    assert unit_factor("10*-3", "fraction") == 1e-3
    assert math.isclose(unit_factor("10*-3 g/L", "concentration"), 1.0, rel_tol=1e-12)
    assert math.isclose(unit_factor("1/h/(10*9/L)", "rate per count"), 1.0, rel_tol=1e-12)
    assert math.isclose(unit_factor("day⁻¹", "rate"), 1.0 / 24.0, rel_tol=1e-12)
    # ten of something is no power
    assert unit_factor("10*mg/L", "concentration") == 10.0


def test_clearance_of_millilitres_per_minute():
    assert math.isclose(to_internal(100.0, "mL/min", "clearance"), 6.0, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5 mgg", "did you mean 'mg'?"),
        ("5 MG", "did you mean 'mg'?"),
        ("5 Lh", "did you mean 'L/h'?"),
        ("5 uMol/L", "did you mean 'umol'?"),
        ("mg", "does not start with a number"),
        ("1,000 mg", "does not start with a number"),
    ],
)
def test_misspelt_units_name_the_nearest(text, words):
    with pytest.raises(UnitError, match=r"^(unit|quantity) ") as error:
        parse_quantity(text)
    assert words in str(error.value)


def test_wrong_dimension_is_refused():
    with pytest.raises(UnitError, match=r"unit 'mg': is not a unit of clearance.*L/h"):
        to_internal(1.0, "mg", "clearance")
    with pytest.raises(UnitError, match=r"dimension 'clearence'.*clearance"):
        to_internal(1.0, "L/h", "clearence")
    with pytest.raises(UnitError, match="not used here"):
        dimension_of("mg*mg")


def test_molar_mass_connects_mass_and_amount():
    # literature: 0.174 mg*h/L of clofarabine (303.68 g/mol) is 0.572 umol*h/L, printed digits
    assert math.isclose(
        to_internal(0.174, "mg*h/L", "molar auc", molar_mass=303.68), 0.573, abs_tol=6e-4
    )
    # an effect of 1 per mg/L is 0.30368 per umol/L, since 1 umol/L is 0.30368 mg/L
    inside = to_internal(1.0, "L/mg", "effect per molar concentration", molar_mass=303.68)
    assert math.isclose(inside, 0.30368, rel_tol=1e-12)
    with pytest.raises(UnitError, match="molar concentration"):
        to_internal(1.0, "mg/L", "molar concentration")


@pytest.mark.parametrize(
    "unit", ["10^" + "9" * 400 + "/L", "9**9**9", "10^9^9/L", "10^(9^9)", "(mg", "mg" * 60]
)
def test_units_that_no_one_writes_are_refused_at_once(unit):
    unit_factor("10^3/uL", "count")  # loads the registry
    began = time.process_time()
    with pytest.raises(UnitError):
        unit_factor(unit, "count")
    assert time.process_time() - began < 1.0
