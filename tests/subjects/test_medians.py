"""Patients moved to other medians: the same patients, and what follows from age and weight."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.cards.population_cards import load_population
from pkpd.errors import PkpdError
from pkpd.subjects import (
    median_age,
    patients_key,
    sample_population,
    with_median_age,
    with_medians,
)

MEDIANS = {"age": 75.0, "weight": 90.0, "crcl": 40.0}


@pytest.fixture(scope="module")
def plain():
    return load_population("rr_aml")


@pytest.mark.parametrize("name", ["rr_aml", "rr_leukaemia_children", "mds_lower_risk"])
def test_medians_are_those_asked_for(name):
    population = load_population(name)
    before = sample_population(population, 4096, 3)
    wanted = {key: 1.2 * float(np.median(before[key])) for key in ("age", "weight")}
    wanted["crcl"] = 0.6 * float(np.median(before["crcl"]))
    after = sample_population(with_medians(population, wanted), 4096, 3)
    for key, value in wanted.items():
        # the medians are set in another sample of 2048 patients
        assert np.median(after[key]) == pytest.approx(value, rel=0.02), key


def test_the_same_patients_are_moved(plain):
    moved = with_medians(plain, MEDIANS)
    assert patients_key(moved) == patients_key(plain)
    before, after = sample_population(plain, 200, 1), sample_population(moved, 200, 1)
    np.testing.assert_array_equal(before["male"], after["male"])
    np.testing.assert_array_equal(before["height"], after["height"])
    # order is kept: ages shift, weights and creatinine are multiplied
    np.testing.assert_allclose(
        after["weight"] / before["weight"], after["weight"][0] / before["weight"][0]
    )
    younger = after["age"] < 95.0
    np.testing.assert_allclose(
        (after["age"] - before["age"])[younger], after["age"][0] - before["age"][0]
    )
    np.testing.assert_array_equal(before.normal_score("x"), after.normal_score("x"))


def test_moved_patients_have_the_median_age_that_is_asked_for_last(plain):
    moved = with_medians(plain, {"age": 60.0, "weight": 90.0})
    again = sample_population(with_median_age(moved, 75.0), 2048, 1)
    assert np.median(again["age"]) == pytest.approx(75.0, abs=0.01)
    assert np.median(again["weight"]) == pytest.approx(90.0, abs=0.01)


def test_what_follows_from_size_and_age_follows(plain):
    after = sample_population(with_medians(plain, {"age": 75, "weight": 90}), 100, 1)
    crcl = (140 - after["age"]) * after["weight"] / (72 * after["scr"])  # Cockcroft and Gault 1976
    crcl = np.where(after["male"] > 0.5, crcl, 0.85 * crcl)
    np.testing.assert_allclose(after["crcl"], crcl)
    mosteller = np.sqrt(after["height"] * after["weight"] / 3600)
    np.testing.assert_allclose(after["bsa"], mosteller)
    np.testing.assert_array_equal(after["scr"], sample_population(plain, 100, 1)["scr"])


def test_none_and_unknown(plain):
    assert with_medians(plain, {}) == plain
    assert median_age(with_medians(plain, {"age": 70})) == 70
    with pytest.raises(PkpdError, match="'height' cannot be moved"):
        with_medians(plain, {"height": 170})
    with pytest.raises(PkpdError, match="medians: weight = 0 is impossible; allowed: 2 to 350 kg"):
        with_medians(plain, {"weight": 0.0})
    with pytest.raises(PkpdError, match="medians, age: 'x' is a str; allowed: a number"):
        with_medians(plain, {"age": "x"})
    with pytest.raises(PkpdError, match=r"with_medians, medians: .* is a list; allowed: a mapping"):
        with_medians(plain, ["age"])
