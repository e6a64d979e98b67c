"""Concentrations of the schedules of a page: figures of a comparison, and linear in the dose."""

from __future__ import annotations

import numpy as np
import pytest

import pkpd
from pkpd.explorer.exposure import exposure_content
from pkpd.explorer.state import read_state
from pkpd.explorer.toml import write_toml
from tests.explorer.conftest import DATA

LENALIDOMIDE = {"amount": "10 mg", "days": "1-3", "route": "oral"}


def peak_of(told, label):
    """Median peak of the table."""
    rows = told["table"]["rows"]
    return float(next(row[3] for row in rows if row[0] == label and row[2].startswith("peak,")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def told(folder):
    return exposure_content(read_state({"data": DATA, "patients": 8, "draws": 3}, folder))


def test_figures_are_those_of_a_comparison(told, folder):
    file = folder / "two.toml"
    file.write_text(write_toml(DATA))
    compared = pkpd.compare(file, patients=8, draws=3, with_questions=False).exposures()
    rows = compared[compared["estimate"].notna()]
    assert len(told["table"]["rows"]) == len(rows) > 0
    peak = rows[(rows["cohort"] == "high") & (rows["measure"] == "cmax")].iloc[0]
    assert peak_of(told, "40 mg/m2") == pytest.approx(peak["estimate"], rel=0.01)


def test_curves_have_the_peak_of_the_table_and_double_with_the_dose(told):
    (drug,) = told["drugs"]
    assert drug["name"] == "clofarabine"
    low, high = drug["schedules"]
    assert low["first"]["hours"][-1] == 24.0
    assert low["cycle"]["hours"][-1] == 4 * 24.0 + 48.0
    for part in ("first", "cycle"):
        np.testing.assert_allclose(
            np.array(high[part]["bands"]), 2.0 * np.array(low[part]["bands"]), rtol=2e-3, atol=0.02
        )
    middle = np.array(high["cycle"]["bands"][1])
    assert middle.max() == pytest.approx(peak_of(told, "40 mg/m2"), rel=0.05)
    # the end of the infusion is the highest point of a day
    assert np.argmax(high["first"]["bands"][1]) == high["first"]["hours"].index(1.0)


def test_a_schedule_without_a_drug_has_no_curve_of_it(folder):
    both = {"doses": ["clofarabine", "lenalidomide"], "cycle_days": 28}
    data = {
        **DATA,
        "dose": {**DATA["dose"], "lenalidomide": LENALIDOMIDE},
        "course": {**DATA["course"], "both": both},
        "cohort": [
            {"id": "alone", "label": "alone", "courses": ["induction"]},
            {"id": "both", "label": "both", "courses": ["both"]},
        ],
    }
    told = exposure_content(read_state({"data": data, "patients": 4, "draws": 2}, folder))
    one = next(drug for drug in told["drugs"] if drug["name"] == "lenalidomide")
    assert one["schedules"][0] is None
    assert one["schedules"][1]["cycle"]["hours"][-1] == 2 * 24.0 + 48.0
