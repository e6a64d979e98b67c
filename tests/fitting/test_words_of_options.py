"""What is wrong with an option is said with its name, what it may be, and all of it at once."""

from __future__ import annotations

import numpy as np
import pytest
from conjugate import data, model

import pkpd
from pkpd.errors import PkpdError, UnitError
from pkpd.models import PopulationModel, compartments, covariate, parameter, residual
from pkpd.units import normal_unit


def of(*names, **options):
    structure = compartments(1, absorption="first_order")
    return PopulationModel(
        structure, [parameter(n, 1.0, iiv=0.3) for n in names], residual.additive(0.5), **options
    )


CASES = {
    r"absorption: 'first-order' is given \(did you mean 'first_order'\?\); allowed": lambda: (
        compartments(1, absorption="first-order")
    ),
    "absorption = 'transit' with transits = 0; give transits >= 1": lambda: compartments(
        1, absorption="transit"
    ),
    "n: '1' is a str; allowed: the number 1, 2 or 3": lambda: compartments("1"),  # pyright: ignore
    "n: 1.0 is a float; allowed: the number": lambda: compartments(1.0),  # pyright: ignore
    "n = 4; allowed: 1, 2 or 3; use linear_system": lambda: compartments(4),
    "dosing: 'ALAG1' is a str; allowed: a list of names": lambda: compartments(1, dosing="ALAG1"),
    r"correlated: \('CL', 'V'\) is a tuple; allowed: a list of blocks": lambda: of(
        "ka",
        "CL",
        "V",
        correlated=("CL", "V"),
    ),
    "parameter 'CL', iiv: '0.3' is a str; allowed: a number": lambda: parameter(
        "CL",
        1.0,
        iiv="0.3",  # pyright: ignore
    ),
    r"'KA' \(did you mean 'ka'\?\), 'Cl' \(did you mean 'CL'\?\), 'Vc' \(did you mean 'V'\?\) "
    "are not parameters of the structural model; allowed: ka, CL, V": lambda: of("KA", "Cl", "Vc"),
    r"'KA' \(did you mean 'ka'\?\) is not a parameter of the structural model, and 'CL', 'V' are "
    "missing": lambda: of("KA"),
    "covariate effect of 'WT': a power with centre = 0; allowed: more than 0": lambda: (
        covariate.power("WT", 0)
    ),
    r"exposures, draws: 0 is given; allowed: a whole number from 1": lambda: pkpd.exposures(
        pkpd.daily("lenalidomide", "10 mg", days="1-3", route="oral"), "mds_post_hma", draws=0
    ),
    "fit, method: None is given; allowed: nuts, map": lambda: pkpd.fit(
        model(),
        data(),
        method=None,  # pyright: ignore
    ),
}


@pytest.mark.parametrize("words", CASES)
def test_a_wrong_option_is_named_with_what_it_may_be(words):
    with pytest.raises(PkpdError, match=words) as error:
        CASES[words]()
    assert "(did you mean 'foce'?)" not in str(error.value)


def test_all_options_of_a_call_that_are_wrong_are_named_at_once():
    with pytest.raises(PkpdError) as error:
        pkpd.fit(model(), data(), method="FOCE-I", starts=0, covariance="R")  # pyright: ignore
    assert str(error.value) == (
        "fit, method: 'FOCE-I' is given (did you mean 'focei'?); allowed: nuts, map, advi, fo, "
        "foce, focei, laplace, laplace-nointer. fit, starts: 0 is given; allowed: a whole number "
        "from 1. fit, covariance: 'R' is given; allowed: observed, sandwich, scores or None."
    )


@pytest.mark.parametrize("unit", ["furlong", "miligram"])
def test_no_unit_is_offered_that_is_not_like_what_was_written(unit):
    with pytest.raises(UnitError, match=f"'{unit}' is not a unit known here; see"):
        normal_unit(unit)


def test_numbers_of_numpy_are_numbers():
    assert compartments(np.int64(1)).lines == ("concentration",)
    assert parameter("CL", np.float64(1.0), iiv=np.float32(0.5)).typical.value == 1.0
