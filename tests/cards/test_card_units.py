"""Units that a structure or a relation cannot mean are refused, not rescaled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pkpd.cards import card_folder, card_names
from pkpd.cards.card_units import needed_unit
from pkpd.cards.model_cards import STRUCTURES, load_model_card
from pkpd.errors import CardError
from pkpd.units import factor_between


def changed(folder, name, parameter, unit, tmp_path):
    """A shipped card with another unit of a parameter."""
    text = (Path(str(card_folder(folder))) / f"{name}.toml").read_text()
    start = text.index(f"[parameters.{parameter}]")
    rest = re.sub(r'^unit = ".*"$', f'unit = "{unit}"', text[start:], count=1, flags=re.MULTILINE)
    file = tmp_path / f"{name}.toml"
    file.write_text(text[:start] + rest)
    return str(file)


@pytest.mark.parametrize(
    ("folder", "name", "parameter", "unit", "told"),
    [
        # a slope per year became one per hour, and vanished
        ("pk", "guglieri2017_lenalidomide", "crcl_slope", "1/year", r"changes CL as a number"),
        ("pk", "guglieri2017_lenalidomide", "V1", "L/m^2", r"a term is in L/m\^2, and V1 is in L"),
        ("pk", "guglieri2017_lenalidomide", "KTR", "h", "is in h, and the structure .* with 1/h"),
        ("pk", "guglieri2017_lenalidomide", "CL", "%", "is in percent; write the number divided"),
        # litres a kilogram passed for litres a milligram
        (
            "pk",
            "fleming1995_cytarabine",
            "V_per_area",
            "L/kg",
            r"in L/mg x m\^2, and V1 is in L",
        ),
        (
            "effects",
            "lenalidomide_plasma",
            "slope_neutrophils",
            "L/mg",
            "a term is in L/mg, and slope_ne",
        ),
    ],
)
def test_a_unit_that_would_be_rescaled_is_refused(tmp_path, folder, name, parameter, unit, told):
    with pytest.raises(CardError, match=told):
        load_model_card(folder, changed(folder, name, parameter, unit, tmp_path))


def test_every_individual_parameter_of_a_structure_has_a_unit():
    names = {one for of_kind in STRUCTURES.values() for need in of_kind.values() for one in need}
    assert not [name for name in names if not needed_unit(name)]


def test_every_shipped_card_is_read():
    for folder in ("pk", "effects", "marrow"):
        for name in card_names(folder):
            load_model_card(folder, name)


def test_products_of_units():
    assert factor_between(["mL/min", "1/h"], ["1/h"], "L/h") == pytest.approx(0.06)
    assert factor_between(["L/h/(umol/L)", "umol/L"], [], "L/h") == pytest.approx(1.0)
    assert factor_between(["mg"], [], "umol") is None
