"""Designs that cannot tell all parameters, or tell one only at a limit."""

import numpy as np
import pytest

from pkpd.models import PopulationModel, compartments, fixed, parameter, residual
from pkpd.sampling import expected_information, group, optimal_times


def decay():
    parts = [parameter("CL", 2.0), parameter("V", 20.0)]
    return PopulationModel(compartments(1), parts, residual.additive(fixed(0.1)))


def test_no_error_is_expected_where_the_information_has_no_inverse():
    # five parameters of variances, three statistics of two samples
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("CL", 0.15, iiv=0.07**0.5),
            parameter("V", 8.0, iiv=0.02**0.5),
            parameter("ka", 1.0, iiv=0.6**0.5),
        ],
        residual.combined(0.5, 0.1),
    )
    told = expected_information(model, group(32, [2, 30], {"AMT": 70}))
    assert "omega_V" in told.flat
    assert np.isnan(told.rse["omega_V"])
    assert "omega_V" in told.messages()[0]


def closed_form(hours):
    """Information on CL and V of 10 subjects, from the derivatives of ``5 exp(-CL t / V)``."""
    t = np.array(hours)
    c = 5.0 * np.exp(-0.1 * t)
    slopes = np.stack([-t / 20.0 * c, -(c / 20.0) * (1.0 - 0.1 * t)], axis=1)
    return 10.0 * slopes.T @ slopes / 0.01


@pytest.mark.parametrize("hours", [[9.0, 11.0], [9.99, 10.01]])
def test_the_criterion_of_clearance_is_the_closed_form(hours):
    m = closed_form(hours)
    told = expected_information(decay(), group(10, hours, {"AMT": 100}))
    expected = np.log(m[0, 0] - m[0, 1] ** 2 / m[1, 1])
    assert told.log_det(["CL"]) == pytest.approx(expected, abs=1e-9)


def test_what_is_not_of_interest_need_not_be_told():
    # at t = V / CL the concentration does not depend on V
    told = expected_information(decay(), group(10, [10.0, 10.0], {"AMT": 100}))
    assert told.flat == ("V",)
    assert told.log_det(["CL"]) == pytest.approx(np.log(closed_form([10.0, 10.0])[0, 0]), abs=1e-9)
    assert told.log_det(["V"]) == -np.inf
    assert told.log_det() == -np.inf


@pytest.mark.slow
def test_times_for_clearance_alone_are_its_best():
    best = optimal_times(
        decay(), group(10, [1.0, 5.0], {"AMT": 100}), (0.5, 48.0), interest=["CL"], starts=1
    )
    limit = np.log(closed_form([10.0, 10.0])[0, 0])
    assert best.criteria[0] == pytest.approx(limit, abs=1e-4)
    assert best.information.rse["CL"] == pytest.approx(1.21565, rel=1e-3)
    assert "cannot tell V" in best.summary()
