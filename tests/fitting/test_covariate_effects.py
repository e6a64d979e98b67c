from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from pkpd.data import read_nonmem
from pkpd.ensemble.fitted_patients import covariate_scale
from pkpd.errors import DataError, PkpdError, PkpdWarning
from pkpd.fitting.checks.replicates import strata
from pkpd.fitting.covariates import relations
from pkpd.fitting.model.covariate_effects import allometric, category, exponential, linear, power
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.priors import Estimate, Prior, fixed
from pkpd.models import PopulationModel, compartments, export_model, parameter, residual
from pkpd.subjects import PatientSample


def test_names_of_the_coefficients():
    assert power("WT", 70).name("CL") == "CL_WT"
    assert [e.name("CL") for e in category("SEX", [1, 2.5])] == ["CL_SEX_1", "CL_SEX_2.5"]
    assert len(category("SEX", 1)) == 1


def test_start_prior_and_fixed_coefficients():
    prior = Prior("Normal", mu=0.75, sigma=0.1)
    assert power("WT", 70, 0.75, prior).coefficient == Estimate(0.75, prior)
    assert power("WT", 70, fixed(1.0), prior).coefficient == Estimate(1.0, prior, True)
    assert allometric(exponent=1.0).coefficient == Estimate(1.0, None, True)
    assert allometric().covariate == "WT"
    assert category("SEX", 1, -0.2, prior)[0].coefficient == Estimate(-0.2, prior)
    assert category("SEX", 1, fixed(-0.2))[0].coefficient == Estimate(-0.2, None, True)
    each = category("RACE", [1, 2], [0.1, fixed(0.3)])
    assert [(e.coefficient.value, e.coefficient.fixed) for e in each] == [(0.1, False), (0.3, True)]
    with pytest.raises(PkpdError, match=r"2 coefficients for 3 categories; allowed: one for all"):
        category("RACE", [1, 2, 3], [0.1, 0.2])
    with pytest.raises(PkpdError, match=r"covariate effect, prior.*-0\.2"):
        category("SEX", 1, 0.0, -0.2)
    with pytest.raises(PkpdError, match=r"covariate effect, prior.*-0\.2"):
        power("WT", 70, 0.75, -0.2)


def sexes(words=("female", "male", "male")):
    rows = [
        {"ID": i, "TIME": t, "AMT": 100.0 * (t == 0), "DV": None if t == 0 else 3.0, "SEX": word}
        for i, word in enumerate(words)
        for t in (0.0, 1.0)
    ]
    return read_nonmem(pd.DataFrame(rows), covariates=["SEX"])


def by_sex(level):
    effects = [category("SEX", level, 0.2)]
    return PopulationModel(
        compartments(1),
        [parameter("CL", 2.0, effects=effects), parameter("V", 20.0)],
        residual.proportional(0.1),
    )


def test_a_category_is_the_word_that_the_data_have():
    words, numbers = (bind(by_sex(level), sexes()) for level in ("male", 1))
    assert [e.name("CL") for e in category("RACE", ["Black or other"])] == [
        "CL_RACE_Black_or_other"
    ]
    assert "CL_SEX_male" in words.fixed_names
    found = words.individual_parameters(words.fixed(start_values(words.model)), np.zeros((3, 0)))
    np.testing.assert_allclose(found["CL"], [2.0, 2.0 * np.exp(0.2), 2.0 * np.exp(0.2)])
    other = numbers.individual_parameters(
        numbers.fixed(start_values(numbers.model)), np.zeros((3, 0))
    )
    np.testing.assert_array_equal(found["CL"], other["CL"])
    # women and children number otherwise
    again = bind(words.model, sexes(("child", "female", "male")))
    place = again.model["CL"].effects[0].centre
    assert (place, words.model["CL"].effects[0].centre) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("data", "level", "told"),
    [
        (
            sexes(),
            "mal",
            "has category 'mal'.*did you mean 'male'.*allowed: female, male",
        ),
        (sexes((0, 1, 1)), "male", "category 'male' is a word, and the values are numbers; name"),
        (sexes(("female",) * 3), "male", "no record has category 'male'"),
    ],
)
def test_words_that_no_record_has_are_refused(data, level, told):
    with pytest.raises(DataError, match=told):
        bind(by_sex(level), data)


def test_words_are_numbered_where_a_model_is_written(tmp_path):
    text = export_model(by_sex("male"), tmp_path / "a.mod", data=sexes()).read_text()
    assert re.search(r"IF \(SEX *(==|\.EQ\.) *1", text), text
    with pytest.raises(PkpdError, match="CL: category 'male' of SEX is a word, without data"):
        export_model(by_sex("male"), tmp_path / "b.mod")


def test_a_word_that_nobody_has_is_no_error_where_nothing_is_estimated():
    women = sexes(("female",) * 3)
    with pytest.warns(PkpdWarning, match="no record has category 'male'"):
        found = bind(by_sex("male"), women, estimated=False)
    values = found.individual_parameters(found.fixed(start_values(found.model)), np.zeros((3, 0)))
    np.testing.assert_array_equal(values["CL"], 2.0)


def test_words_have_no_order():
    """Eight countries were taken as numbers in alphabetical order: a trend over the alphabet."""
    countries = sexes([f"country {letter}" for letter in "abcdefgh" for _ in range(3)])
    model = by_sex("male").changed("CL", effects=())
    (found,), told = relations._named(model, countries, "CL", "SEX", ("power", "exponential"), 1)
    assert {effect.kind for effect in found.effects} == {"category"}
    assert (len(found.effects), told) == (7, [])
    index, names = strata(countries, "SEX")
    assert names[:2] == ("SEX country a", "SEX country b")
    assert np.bincount(index).tolist() == [3] * 8


def test_patients_in_numbers_have_no_words():
    sample = PatientSample("mine", 1, {"weight": np.ones(2), "SEX": np.array([0.0, 1.0])})
    with pytest.raises(PkpdError, match=r"CL: category 'male' of SEX is a word, and patients have"):
        covariate_scale(by_sex("male"), sample, None)
    data = sexes()
    with pytest.warns(PkpdWarning, match="SEX is taken as the fit's data number it, 0 = female, 1"):
        covariate_scale(bind(by_sex("male"), data).model, sample, data)


def test_words_are_candidates_of_a_search():
    found, _ = relations._named(
        by_sex("male").changed("CL", effects=()), sexes(), "CL", category("SEX", "male"), (), 1
    )
    assert [effect.centre for effect in found[0].effects] == [1.0]


def test_a_mapping_of_levels_does_not_lose_its_coefficients():
    with pytest.raises(PkpdError, match=r"levels are a mapping; give .* apart: \[1\], \[0\.2\]"):
        category("SEX", {1: 0.2})


def test_what_the_coefficient_multiplies():
    x = np.array([35.0, 70.0, 140.0])
    np.testing.assert_allclose(power("WT", 70).design(x), np.log([0.5, 1, 2]))
    np.testing.assert_allclose(exponential("WT", 70).design(x), [-35, 0, 70])
    np.testing.assert_allclose(linear("WT", 70).design(x), [-35, 0, 70])
    np.testing.assert_array_equal(category("WT", 70)[0].design(x), [0, 1, 0])


def test_values_without_meaning_are_refused():
    with pytest.raises(DataError, match=r"covariate WT: value 0 cannot be raised to a power"):
        power("WT", 70).check(np.array([70.0, 0.0]), "a.csv")
    (sex,) = category("SEX", 3)
    sex.check(np.array([1.0, 2.0, 2.0]), "a.csv")
    with pytest.raises(DataError, match=r"no record has category 3.*1, 2"):
        sex.check_estimated(np.array([1.0, 2.0, 2.0]), "a.csv")
    category("SEX", 3, fixed(0.1))[0].check_estimated(np.array([1.0]), "a.csv")
    exponential("X", 0).check(np.array([-1.0]), "a.csv")
