"""A count from which a line is back that no blood has is refused, as a patient's counts are."""

import pytest

import pkpd
from pkpd.data.counts import PLAUSIBLE
from pkpd.errors import PkpdError
from pkpd.forecasting.bank import asked_of


@pytest.fixture(scope="module")
def source():
    return pkpd.source("rr_aml", marrow="friberg", patients=2, draws=2)


@pytest.mark.parametrize(
    ("line", "count", "words"),
    [
        ("neutrophils", 500.0, "neutrophils of 500 x 10.9/L cannot be; allowed: at most 300"),
        ("platelets", 50_000.0, "50000 x 10.9/L cannot be; .*: 50000 cells/uL are 50"),
    ],
)
def test_a_count_of_another_unit_is_refused(source, line, count, words):
    with pytest.raises(PkpdError, match=words):
        asked_of(source, None, {line: count}, None, 40)


def test_counts_that_blood_has_are_taken(source):
    back = {"neutrophils": PLAUSIBLE["neutrophils"], "platelets": 50.0}
    assert asked_of(source, None, back, None, 40).back == back
    assert asked_of(source, None, {"platelets": "baseline"}, None, 40).back
