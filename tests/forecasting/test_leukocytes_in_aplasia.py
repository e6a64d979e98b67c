"""Leukocytes hold lymphocytes; given doses lie near the plan; odd points are asked about."""

from types import SimpleNamespace

import numpy as np
import pytest

import pkpd
from pkpd import read_counts
from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.errors import DataError, PkpdError
from pkpd.forecasting.doses import as_given
from pkpd.forecasting.measurement import measurement_of
from pkpd.forecasting.seen import GivenDose, Seen
from pkpd.forecasting.weighing import tail

DRAW = np.zeros(3, dtype=int)


@pytest.fixture(scope="module")
def errors():
    return measurement_of(pkpd.source("rr_aml", draws=2)).errors


def test_leukocytes_of_lymphocytes_alone_say_nothing_of_blasts(errors):
    # 0.08 by the neutrophils, 0.3 counted: with 0.15 of blasts, or with lymphocytes
    found = errors["wbc"].log_density(np.array([0.08, 0.23, 0.3]), DRAW, 0.3, NOT_CENSORED, -np.inf)
    np.testing.assert_allclose(found, found[0])
    many = errors["wbc"].log_densities(
        np.array([0.08, 0.23, 0.3]), DRAW, np.array([[0.3], [3.0]]), NOT_CENSORED
    )
    np.testing.assert_allclose(many[0], found, rtol=1e-5)
    assert (np.diff(many[1]) > 0).all()  # 3.0 is more than lymphocytes explain


def test_more_than_was_counted_is_as_unlikely_as_without(errors):
    plain = errors["neutrophils"]
    assert plain.besides == 0.0
    found = errors["wbc"].log_density(np.array([0.3, 0.6, 1.2]), DRAW, 0.3, NOT_CENSORED, -np.inf)
    assert (np.diff(found) < 0).all()
    below = errors["wbc"].log_density(np.array([0.05, 0.3, 0.9]), DRAW, 0.1, BELOW, -np.inf)
    assert (np.diff(below) < 0).all()


def test_leukocytes_of_lymphocytes_alone_are_not_set_aside(errors):
    """0.5 where the marrow makes 0.02 are lymphocytes; 5 are not, nor 0.02 where it makes 5."""
    who = SimpleNamespace(draw=np.zeros(50, dtype=int))

    def chance(made, counted):
        bank = SimpleNamespace(
            who=who, death_day=np.full(50, np.inf),
            counted=lambda line, time, some: np.full(some.size, made),
        )  # fmt: skip
        codes = np.array([NOT_CENSORED])
        seen = Seen("a", ("wbc",), np.zeros(1), np.array([counted]), codes, np.array([-np.inf]))
        return tail(bank, seen, 0, SimpleNamespace(errors=errors))

    assert chance(0.02, 0.5) == pytest.approx(1.0, abs=0.01)
    assert max(chance(0.02, 5.0), chance(5.0, 0.02)) < 1e-2 * chance(0.02, 0.6)


def test_a_simulated_count_holds_some(errors):
    rng = np.random.default_rng(1)
    counts = errors["wbc"].simulate(np.full(4000, 0.1), np.zeros(4000, int), rng)
    assert 0.2 < np.median(counts) < 0.5


def test_given_doses_lie_near_the_plan():
    plan = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    assert as_given(plan, [GivenDose(1, "clofarabine", 40.0)], 3).courses
    for amount, words in ((4000.0, "111 times"), (0.04, "1/900 of")):
        with pytest.raises(PkpdError, match=words):
            as_given(plan, [GivenDose(1, "clofarabine", amount)], 3)


def test_a_point_that_may_part_thousands_is_asked(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("ID,DAY,ANC,PLT\n1,1,1.234,45.000\n1,8,310,21.000\n")
    with pytest.raises(DataError) as told:
        read_counts(file, units="cells/uL")
    assert "'1.234' is read as 1.234" in str(told.value)
    assert "write 1234 if the point parts thousands" in str(told.value)
    assert "The same in row 3." in str(told.value)
    file.write_text("ID,DAY,ANC,PLT\n1,1,1.234,45.000\n")
    assert len(read_counts(file).observations) == 2  # in 10^9/L these are counts
