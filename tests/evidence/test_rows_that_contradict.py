"""Rows of evidence whose numbers of patients or units of dose contradict one another."""

import pytest

from pkpd.errors import DataError
from pkpd.evidence.table.table import load_evidence

HEAD = "study,population,schedule,n,endpoint,numerator,denominator,definition,mark\n"
CLOFARABINE = "clofarabine:30 mg/m2:IV1h:1-5"


def _read(tmp_path, schedule=CLOFARABINE, n=40, denominator=40, definition=""):
    path = tmp_path / "mine.csv"
    cells = f"A,aml_rr,{schedule},{n},cr_rate,5,{denominator},{definition},READ\n"
    path.write_text(HEAD + cells)
    return load_evidence(path).rows[0]


@pytest.mark.parametrize("denominator", [20, 41])
def test_a_denominator_far_from_n_is_refused_by_row(tmp_path, denominator):
    words = f"row 2, column denominator: it is {denominator}, and n is 40; allowed: 36 to 40"
    with pytest.raises(DataError, match=words):
        _read(tmp_path, denominator=denominator)


def test_a_denominator_near_n_or_told_is_taken(tmp_path):
    assert _read(tmp_path, denominator=37).denominator == 37
    assert _read(tmp_path, denominator=20, definition="CR of 20 with a marrow").denominator == 20
    assert _read(tmp_path, n="", denominator=20).n == 20


@pytest.mark.parametrize("route", ["IV1h", "CI"])
def test_a_whole_dose_of_a_drug_infused_by_surface_is_refused_by_row(tmp_path, route):
    words = "row 2, column schedule: 30 mg of clofarabine is a dose of the whole patient"
    with pytest.raises(DataError, match=words):
        _read(tmp_path, f"clofarabine:30 mg:{route}:1-5")


def test_a_whole_dose_that_was_given_so_is_taken(tmp_path):
    assert _read(tmp_path, "clofarabine:30 mg flat:IV1h:1-5").schedule.drugs[0].unit == "mg"
    assert _read(tmp_path, "clofarabine:5 mg:PO:1-10").schedule.drugs[0].amount == 5.0
    assert _read(tmp_path, "lenalidomide:10 mg:PO:1-21").schedule.drugs[0].unit == "mg"
