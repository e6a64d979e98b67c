from __future__ import annotations

import numpy as np
import pytest

from pkpd.errors import DataError, PkpdError
from pkpd.fitting.model.covariate_effects import allometric, category, exponential, linear, power
from pkpd.fitting.model.priors import Estimate, Prior, fixed


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
