"""A design over the schedules of a page: its next dose, and its characteristics."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.comparison.uncertainty import risk
from pkpd.designs import ThreePlusThree, characteristics
from pkpd.designs.design_card import design_of, load_design
from pkpd.errors import CardError
from pkpd.explorer.dose_finding import dose_finding
from pkpd.explorer.simulation import explore
from pkpd.explorer.state import BadStateError, read_state
from tests.explorer.conftest import DATA

SEEN = [{"treated": 3, "dlts": 0}, {"treated": 3, "dlts": 2}]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    return explore(read_state({"data": DATA, "patients": 32, "draws": 4}, folder))


def test_the_next_dose_is_that_of_the_design(found):
    told = dose_finding(found, {"name": "3+3", "seen": SEEN})
    assert told["sentence"].startswith("Next: de-escalate to 20 mg/m2.")
    assert "20 mg/m2, 40 mg/m2; start at 20 mg/m2; cohorts of 3" in told["heading"]
    start = dose_finding(found, {})
    assert start["sentence"].startswith("Next: start at 20 mg/m2.")


def test_schedules_whose_risk_falls_are_refused(tmp_path):
    """The design went "up" to the lower dose."""
    low, high = DATA["cohort"]
    high = {**high, "change": {"clofarabine": {"amount": "200 mg/m^2"}}, "published": []}
    data = {**DATA, "cohort": [high, low]}
    found = explore(read_state({"data": data, "patients": 256, "draws": 16}, tmp_path))
    with pytest.raises(BadStateError) as caught:
        dose_finding(found, {"name": "3+3"})
    (error,) = caught.value.problems
    assert error.keys == ("design",)
    assert "the risk of 20 mg/m2 is below that of 40 mg/m2, which stands before it" in str(error)


def test_the_last_cohort_can_be_on_a_lower_dose(found):
    """After 0 of 6 below and 2 of 3 above, a 3+3 that came back down ends at the lower dose."""
    seen = [{"treated": 6, "dlts": 0}, {"treated": 3, "dlts": 2}]
    told = dose_finding(found, {"name": "3+3", "seen": seen, "current": 1})
    assert told["sentence"].startswith("Next: stop, 20 mg/m2 is selected.")


def test_characteristics_are_those_of_the_risks_of_the_draws(found):
    told = dose_finding(found, {"name": "3+3"})
    risks = np.array([risk(found.dlt[c]).by_draw for c in ("low", "high")]).T
    expected = characteristics(ThreePlusThree(levels=2), risks)
    for n, dose in enumerate(told["doses"]):
        cohort = found.result.trial.cohorts[n].id
        rows = (r for r in found.result.rows if (r.cohort, r.endpoint) == (cohort, "dlt"))
        assert dose["risk"] == next(rows).estimate  # the page tells a risk once
        # by hand: each draw alone, then the mean
        alone = [float(characteristics(ThreePlusThree(levels=2), r).selected[n]) for r in risks]
        assert dose["selected"] == pytest.approx(np.mean(alone))
        assert dose["selected"] == pytest.approx(expected.selected.values[:, n].mean())
    total = sum(dose["selected"] for dose in told["doses"]) + told["none"]
    assert total == pytest.approx(1.0)


def test_the_file_is_one_of_a_design(found, tmp_path):
    asked = {"name": "BOIN", "target": 0.3, "most_patients": 24, "seen": SEEN}
    path = tmp_path / "design.toml"
    path.write_text(dose_finding(found, asked)["toml"])
    file = load_design(path)
    assert (file.design.name, file.doses) == ("BOIN", ("20 mg/m2", "40 mg/m2"))
    assert file.data().treated == (3, 3)
    assert design_of({"kind": "design", "doses": ["a"], "design": {"name": "3+3"}}, "x.toml").doses


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"name": "4+4"}, ("design", "name")),
        ({"name": "BOIN", "target": 2}, ("design", "target")),
        ({"name": "BOIN", "most_patients": 10**9}, ("design", "most_patients")),
        ({"seen": [{"treated": "x", "dlts": 0}]}, ("design", "seen", 0, "treated")),
        ({"seen": [{}, {"treated": 3, "dlts": 4}]}, ("design", "seen", 1)),
        ({"seen": [{"treated": 3, "dlts": -1}]}, ("design", "seen", 0, "dlts")),
        ({"seen": [{"treated": 0, "dlts": 1}]}, ("design", "seen", 0, "treated")),
        ({"current": 7}, ("design", "current")),
        ({"current": 2, "seen": [{"treated": 3, "dlts": 0}, {}]}, ("design", "current")),
        ({"current": 1}, ("design", "current")),
    ],
)
def test_mistakes_have_the_place_of_their_control(found, asked, place):
    with pytest.raises(BadStateError) as caught:
        dose_finding(found, asked)
    (problem,) = caught.value.problems
    assert isinstance(problem, CardError)
    assert (*problem.keys, *([problem.key] if problem.key else []))[: len(place)] == place


def test_schedules_that_cannot_be_judged_are_said_to_be(found):
    from dataclasses import replace

    none = replace(found, dlt={"low": np.full((4, 32), np.nan), "high": found.dlt["high"]})
    told = dose_finding(none, {"name": "3+3"})
    assert "too few patients" in told["expected"]
    assert told["sentence"].startswith("Next: start")
