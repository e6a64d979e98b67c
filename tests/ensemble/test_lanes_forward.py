"""Patients one by one: each under a draw of its own, and simulated again from its scores."""

from __future__ import annotations

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_population
from pkpd.ensemble.ensemble import courses
from pkpd.ensemble.lanes import lanes_of
from pkpd.subjects import patients, with_medians

CLOFARABINE = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
DAYS = 30


def neutrophils(lanes, who):
    out = np.empty((len(who), DAYS))
    for index, counts in courses(lanes.treated(who), lambda i, c: (i, c.neutrophils), 2):
        out[index] = counts
    return out


@pytest.fixture(scope="module", params=["friberg", "leukaemia"])
def lanes(request):
    source = pkpd.source("rr_aml", marrow=request.param, patients=1, draws=20)
    return lanes_of(source, CLOFARABINE, DAYS)


@pytest.fixture(scope="module")
def simulated(lanes):
    who = lanes.drawn(2000, seed=3)
    return who, neutrophils(lanes, who)


def test_a_patient_is_the_same_alone(lanes, simulated):
    who, counts = simulated
    some = np.array([3, 1001, 1999])
    np.testing.assert_allclose(neutrophils(lanes, who[some]), counts[some], rtol=1e-9)


def test_they_are_distributed_as_patients_of_the_crossed_ensemble(lanes, simulated):
    crossed = pkpd.source("rr_aml", marrow=lanes.ensemble.marrow, patients=100, draws=20)
    other = pkpd.simulate(CLOFARABINE, crossed, until_day=DAYS)["count"].sel(line="neutrophils")
    # the standard error of a median of 2,000 log counts of SD 1.3 is 0.04, draws being the same
    mine = np.log(np.median(simulated[1][:, ::7], axis=0))
    np.testing.assert_allclose(
        mine, np.log(other.median(("draw", "patient")).values[::7]), atol=0.16
    )


def test_draws_are_shared_out_evenly(lanes):
    assert set(np.bincount(lanes.drawn(1000, seed=1).draw)) == {50}


def test_bodies_that_are_known_are_the_same_for_all(lanes):
    made = lanes_of(lanes.ensemble, CLOFARABINE, DAYS, {"age": 71.0, "crcl": 40.0})
    sample = made.sample(made.drawn(50, seed=1))
    assert set(sample["age"]) == {71.0}
    assert set(sample["crcl"]) == {40.0}
    assert len(set(sample["weight"])) > 40


def test_who_is_drawn_is_eligible(lanes):
    who = lanes.drawn(500, seed=2)
    assert lanes.eligible(who.scores).all()
    assert np.ptp(lanes.sample(who)["crcl"]) > 0


@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_patients_moved_to_other_medians_are_moved_one_by_one_too(marrow):
    """Forecasts took patients of the card's own age, weight and kidneys."""
    moved = with_medians(load_population("rr_aml"), {"age": 55.0, "weight": 90.0, "crcl": 40.0})
    made = lanes_of(pkpd.source(moved, marrow=marrow, patients=1, draws=5), CLOFARABINE, DAYS)
    sample = made.sample(made.drawn(2000, seed=1))
    for name, median in (("age", 55.0), ("weight", 90.0), ("crcl", 40.0)):
        assert np.median(sample[name]) == pytest.approx(median, rel=0.03), name


def test_what_was_given_of_bodies_stays_where_another_covariate_becomes_known():
    """A known age made a clearance of 40 one of 73 mL/min, and an area by Du Bois Mosteller's."""
    body = {"age": 61.0, "male": 1.0, "weight": 120.0, "height": 160.0, "scr": 1.0, "crcl": 40.0}
    body |= {"anc": 3.0, "plt": 150.0, "wbc": 6.0}
    given = patients(body, bsa_formula="du_bois")
    made = lanes_of(pkpd.source(given, marrow="friberg"), CLOFARABINE, DAYS, {"age": 70.0})
    sample = made.sample(made.drawn(3, seed=1))
    np.testing.assert_allclose(sample["crcl"], 40.0)
    np.testing.assert_allclose(sample["bsa"], 0.007184 * 120.0**0.425 * 160.0**0.725, rtol=1e-6)
    heavier = lanes_of(made.ensemble, CLOFARABINE, DAYS, {"weight": 90.0, "scr": 2.0})
    sample = heavier.sample(heavier.drawn(3, seed=1))
    np.testing.assert_allclose(sample["crcl"], (140.0 - 61.0) * 90.0 / (72.0 * 2.0))
    np.testing.assert_allclose(sample["bsa"], 0.007184 * 90.0**0.425 * 160.0**0.725, rtol=1e-6)
