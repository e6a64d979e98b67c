"""Counts as a labelled data set."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.model.individuals import individual_parameters
from pkpd.trials import DLTRule

REGIMEN = pkpd.daily("lenalidomide", "10 mg", days="1-14", route="oral")
FEW = {"marrow": "friberg", "patients": 5, "draws": 2, "until_day": 21}


@pytest.mark.parametrize("marrow", ["leukaemia", "friberg"])
def test_outcomes_are_those_of_the_counts(marrow):
    regimen = pkpd.daily("clofarabine", "10 mg/m^2", days="1-5", route="iv", duration="1 h")
    data = pkpd.simulate(
        regimen, "hr_mds_aml_unfit", marrow=marrow, patients=64, draws=2, until_day=60,
        rule="leukemia_d42_generic", seed=2,
    )  # fmt: skip
    assert data.attrs["marrow"] == marrow
    neutrophils = data["count"].sel(line="neutrophils").values
    alive = np.ones(neutrophils.shape, bool)
    if "death_day" in data:
        alive = np.arange(60) < data["death_day"].values[..., None]
    lowest = np.where(alive, neutrophils, np.inf).min(axis=-1)
    np.testing.assert_allclose(data["nadir"].sel(line="neutrophils").values, lowest)
    low = data["worst_grade"].sel(graded="neutrophils").values == 4
    np.testing.assert_array_equal(low, lowest < 0.5)
    day = data["recovery_day"].sel(criterion="neutrophils >= 0.5").values
    # recovery is looked for from the last dose on, day 5; who died before it has none
    treated = alive[..., 4]
    assert (day[(lowest >= 0.5) & treated] == 0.0).all()
    assert np.isinf(day[~treated]).all()
    seen = np.isfinite(day) & (day > 0.0)
    assert seen.sum() > 10
    places = [(*place, int(day[tuple(place)])) for place in np.argwhere(seen)]
    assert all(neutrophils[m, n, d] >= 0.5 > neutrophils[m, n, d - 1] for m, n, d in places)
    assert set(np.unique(data["dlt"].values[~np.isnan(data["dlt"].values)])) <= {0.0, 1.0}


def test_the_marrow_follows_the_disease_and_is_named():
    few = {"patients": 4, "until_day": 3}
    learned = pkpd.simulate(REGIMEN, "rr_myeloma", **few)
    assert learned.attrs["marrow"] == "leukaemia"
    assert list(learned["line"].values) == ["neutrophils", "platelets", "wbc"]
    body = {"age": [70.0], "male": [1.0], "weight": [75.0], "height": [175.0], "scr": [1.0]}
    mine = pkpd.subjects.patients({**body, "anc": [3.0], "plt": [180.0]})
    assert "disease myeloma" in learned.attrs["simulated"]
    other = pkpd.simulate(REGIMEN, mine, **few)
    assert other.attrs["marrow"] == "friberg"
    assert re.search(r"because: +the patients have no disease \(disease=", repr(other))
    asked = pkpd.simulate(REGIMEN, "rr_myeloma", marrow="friberg", **few)
    assert "because" not in asked.attrs
    own = pkpd.simulate(REGIMEN, mine, disease="myeloma", **few)
    assert own.attrs["marrow"] == "leukaemia"
    with pytest.raises(PkpdError, match="the patients have no disease"):
        pkpd.simulate(REGIMEN, mine, marrow="leukaemia", **few)
    model = pkpd.models.load_model(drugs=["lenalidomide"])
    with pytest.raises(PkpdError, match="a joint model is given, which this marrow does not use"):
        pkpd.simulate(REGIMEN, "rr_myeloma", marrow="leukaemia", model=model, **few)
    for how in ({"marrow": "friberg"}, {"model": model}):
        with pytest.raises(PkpdError, match="disease is given, which this marrow does not use"):
            pkpd.source("rr_aml", disease="myeloma", **how)


def test_between_mornings_the_marrow_with_leukaemia_has_a_curve_too():
    few = {"patients": 6, "draws": 2, "until_day": 20, "seed": 5}
    whole = pkpd.simulate(REGIMEN, "rr_myeloma", **few)
    fine = pkpd.simulate(REGIMEN, "rr_myeloma", days=np.arange(0, 19.01, 0.25), **few)
    mornings = fine["count"].sel(time=np.arange(20.0)[:-1])
    np.testing.assert_allclose(
        mornings.values, whole["count"].isel(time=slice(0, 19)).values, rtol=1e-9
    )
    steps = np.diff(np.log(fine["count"].values), axis=-1)
    assert np.abs(np.diff(steps, axis=-1)).max() < 0.05
    assert fine["amount"].shape == (2, 6, 20, 1)
    assert (fine["amount"].sum("day") == 140.0).all()


def test_amounts_that_are_numbers_of_doses_are_not_given_as_mg():
    """6 mg of pegfilgrastim, one dose for this marrow, were 1 mg."""
    growth = pkpd.daily("pegfilgrastim", "6 mg", days="6", route="sc")
    few = {"marrow": "leukaemia", "days": [0.5, 1.5], "patients": 2, "until_day": 8}
    assert "amount" not in pkpd.simulate(REGIMEN.together(growth), "rr_aml", **few)


def test_the_data_set_is_labelled_and_repeats():
    data = pkpd.simulate(REGIMEN, "mds_post_hma", **FEW, seed=3)
    assert dict(data.sizes) == {
        "draw": 2, "patient": 5, "line": 2, "time": 21, "day": 21, "slot": 1, "graded": 2,
        "criterion": 6,
    }  # fmt: skip
    assert data.attrs["marrow"] == "friberg"
    assert list(data["line"].values) == ["neutrophils", "platelets"]
    assert data["count"].attrs["units"] == "10^9/L"
    assert list(data["drug"].values) == ["lenalidomide"]
    assert (data["amount"].sum("day") == 140.0).all()
    assert (data["count"] > 0).all()
    again = pkpd.simulate(REGIMEN, "mds_post_hma", **FEW, seed=3)
    assert data.identical(again)
    other = pkpd.simulate(REGIMEN, "mds_post_hma", **FEW, seed=4)
    assert not np.array_equal(other["count"], data["count"])


def test_counts_start_at_the_patients_own_and_one_draw_is_the_typical_one():
    sample = pkpd.subjects.sample_population(pkpd.cards.load_population("mds_post_hma"), 10, 3)
    model = pkpd.models.load_model(drugs=["lenalidomide"])
    data = pkpd.simulate(REGIMEN, sample, model=model, until_day=21, days=[0.0, 10.25, 21.0])
    values = individual_parameters(model, pkpd.models.typical(model), sample)
    for line in ("neutrophils", "platelets"):
        np.testing.assert_allclose(
            data["count"].sel(line=line, time=0.0)[0], values[f"{line}.baseline"][0]
        )


def test_between_nodes_the_curve_is_read_not_the_nearest_node():
    times = np.arange(5.0, 9.01, 0.05)
    data = pkpd.simulate(
        REGIMEN, "mds_post_hma", marrow="friberg", patients=10, until_day=21, days=times
    )
    logs = np.log(data["count"].values)
    steps = np.diff(logs, axis=-1)
    # a step function over nodes would have steps of zero; a smooth curve has small second ones
    assert (np.abs(steps) > 0).all()
    assert np.abs(np.diff(steps, axis=-1)).max() < 2e-3


def test_without_transfusions_none_is_given():
    body = {"age": [70.0], "male": [1.0], "weight": [75.0], "height": [175.0], "scr": [1.0]}
    low = pkpd.subjects.patients({**body, "anc": [1.0], "plt": [8.0]})
    given = pkpd.simulate(REGIMEN, low, until_day=7)
    none = pkpd.simulate(REGIMEN, low, until_day=7, transfusion=None)
    assert given["transfused"].any()
    assert not none["transfused"].any()
    np.testing.assert_array_equal(given["count"], none["count"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ({"days": [-1.0]}, "0 to 7 days"),
        ({"days": [8.0]}, "0 to 7 days"),
        ({"days": [float("nan")]}, "0 to 7 days"),
        ({"days": []}, "0 to 7 days"),
        ({"draws": 0}, "draws: 0; allowed: a whole number, 1 or more"),
        ({"patients": 100_000, "draws": 10_000}, "at most 2e8 counts"),
    ],
)
def test_bad_input_is_a_sentence(words, part):
    sample = pkpd.subjects.sample_population(pkpd.cards.load_population("mds_post_hma"), 2, 1)
    population = "mds_post_hma" if "patients" in words else sample
    with pytest.raises(PkpdError, match=part):
        pkpd.simulate(REGIMEN, population, until_day=7, **words)


@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_a_slip_of_the_dose_is_refused_unless_it_is_meant(marrow):
    slip = {"drug": "lenalidomide", "amount": "2500 mg", "days": "1-3", "route": "oral"}
    few = {"marrow": marrow, "patients": 2, "until_day": 3}
    with pytest.raises(PkpdError, match="2500 mg of lenalidomide is 100 times the usual"):
        pkpd.simulate(pkpd.daily(**slip), "rr_myeloma", **few)
    usual = pkpd.daily(**{**slip, "amount": "249 mg"})
    for regimen in (usual, pkpd.daily(**slip, unusual_dose=True)):
        assert pkpd.simulate(regimen, "rr_myeloma", **few)["count"].sizes["patient"] == 2


def test_patients_outside_the_ages_of_their_disease_are_told():
    body = {"male": 1, "weight": [20.0, 75.0], "height": [110.0, 175.0], "scr": [0.4, 1.0]}
    child = pkpd.subjects.patients({"age": [5.0, 60.0], **body})
    words = r"1 of 2 patients \(of 5 to 5 years\) are outside the ages of myeloma, 35 to 88 years"
    with pytest.warns(PkpdWarning, match=words):
        pkpd.source(child, disease="myeloma")
    with pytest.warns(PkpdWarning, match=r"100% of the patients .* ages of myeloma, 35 to 88"):
        pkpd.source("rr_leukaemia_children", disease="myeloma")
    pkpd.source(pkpd.subjects.patients({"age": [35.0, 88.0], **body}), disease="myeloma")
    pkpd.source("rr_leukaemia_children")


def test_an_unknown_population_is_a_sentence():
    with pytest.raises(PkpdError, match="there is no card named 'mds'"):
        pkpd.simulate(REGIMEN, "mds", until_day=7)


def test_a_simulation_that_ends_before_the_look_of_its_rule_is_refused():
    """Who recovers late would not be judged, and the risk of the others was given."""
    with pytest.raises(PkpdError, match=r"until_day is 42, before day \d+, whose morning rule"):
        pkpd.simulate(REGIMEN, "hr_mds_aml_unfit", **FEW | {"until_day": 42},
                      rule="leukemia_d42_generic")  # fmt: skip


def test_a_rule_of_low_counts_needs_no_morning_after_its_window():
    """A recovery is confirmed by mornings that follow it, days with a low count are not."""
    low = pkpd.schedule.Criterion("neutrophils", 0.5)
    rule = DLTRule("low", (low,), kind="low_count_duration", duration_days=(5.0,), by_day=14)
    given = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    people = pkpd.source("rr_aml", marrow="friberg", patients=40, draws=2)
    found = [
        pkpd.simulate(given, people, until_day=day, rule=rule)["dlt"].values for day in (15, 30)
    ]
    np.testing.assert_array_equal(*found)
    assert 0.0 < found[0].mean() < 1.0
    with pytest.raises(PkpdError, match="until_day is 14, before day 15, whose morning rule low"):
        pkpd.simulate(given, people, until_day=14, rule=rule)


def test_what_makes_patients_is_refused_beside_patients_that_are_made():
    made = pkpd.source("rr_aml", marrow="friberg", patients=2, draws=3, seed=7)
    found = pkpd.simulate(REGIMEN, made, until_day=21)
    assert dict(found.sizes)["patient"] == 2
    assert "seed" not in found.attrs
    assert pkpd.simulate(REGIMEN, "rr_aml", **FEW).attrs["seed"] == 1
    told = "simulate, patients, seed: they are given beside an ensemble, .*to pkpd.source"
    with pytest.raises(PkpdError, match=told):
        pkpd.simulate(REGIMEN, made, until_day=21, patients=5, seed=99)
    with pytest.raises(PkpdError, match="exposures, draws: it is given beside an ensemble"):
        pkpd.exposures(REGIMEN, made, draws=4)


def test_nadirs_of_platelets_are_those_of_the_laboratory():
    regimen = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    found = pkpd.simulate(regimen, "rr_aml", marrow="friberg", patients=64, until_day=40)
    counted = found["platelets_with_transfused"]
    np.testing.assert_array_equal(found["nadir"].sel(line="platelets"), counted.min("day"))
    own = found["count"].sel(line="platelets")
    assert (counted.values >= own.values - 1e-12).all()
    assert (counted.min("day") > own.min("time")).any()
