"""Counts as a labelled data set."""

from __future__ import annotations

import numpy as np
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.model.individuals import individual_parameters

REGIMEN = pkpd.daily("lenalidomide", "10 mg", days="1-14", route="oral")


def test_the_data_set_is_labelled_and_repeats():
    data = pkpd.simulate(REGIMEN, "mds_post_hma", patients=5, draws=2, until_day=21, seed=3)
    assert dict(data.sizes) == {
        "draw": 2, "patient": 5, "line": 2, "time": 21, "day": 21, "slot": 1,
    }  # fmt: skip
    assert list(data["line"].values) == ["neutrophils", "platelets"]
    assert data["count"].attrs["units"] == "10^9/L"
    assert list(data["drug"].values) == ["lenalidomide"]
    assert (data["amount"].sum("day") == 140.0).all()
    assert (data["count"] > 0).all()
    again = pkpd.simulate(REGIMEN, "mds_post_hma", patients=5, draws=2, until_day=21, seed=3)
    assert data.identical(again)
    other = pkpd.simulate(REGIMEN, "mds_post_hma", patients=5, draws=2, until_day=21, seed=4)
    assert not np.array_equal(other["count"], data["count"])


def test_counts_start_at_the_patients_own_and_one_draw_is_the_typical_one():
    sample = pkpd.sample_population(pkpd.load_population("mds_post_hma"), 10, 3)
    model = pkpd.load_model(drugs=["lenalidomide"])
    data = pkpd.simulate(REGIMEN, sample, model=model, until_day=21, days=[0.0, 10.25, 21.0])
    values = individual_parameters(model, pkpd.typical(model), sample)
    for line in ("neutrophils", "platelets"):
        np.testing.assert_allclose(
            data["count"].sel(line=line, time=0.0)[0], values[f"{line}.baseline"][0]
        )


def test_between_nodes_the_curve_is_read_not_the_nearest_node():
    times = np.arange(5.0, 9.01, 0.05)
    data = pkpd.simulate(REGIMEN, "mds_post_hma", patients=10, until_day=21, days=times)
    logs = np.log(data["count"].values)
    steps = np.diff(logs, axis=-1)
    # a step function over nodes would have steps of zero; a smooth curve has small second ones
    assert (np.abs(steps) > 0).all()
    assert np.abs(np.diff(steps, axis=-1)).max() < 2e-3


def test_without_transfusions_none_is_given():
    body = {"age": [70.0], "male": [1.0], "weight": [75.0], "height": [175.0], "scr": [1.0]}
    low = pkpd.patients({**body, "anc": [1.0], "plt": [8.0]})
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
        ({"draws": 0}, "at least one draw"),
        ({"patients": 100_000, "draws": 10_000}, "at most 2e8 counts"),
    ],
)
def test_bad_input_is_a_sentence(words, part):
    sample = pkpd.sample_population(pkpd.load_population("mds_post_hma"), 2, 1)
    population = "mds_post_hma" if "patients" in words else sample
    with pytest.raises(PkpdError, match=part) as told:
        pkpd.simulate(REGIMEN, population, until_day=7, **words)
    assert str(told.value).startswith("simulate:")


def test_an_unknown_population_is_a_sentence():
    with pytest.raises(PkpdError, match="there is no card named 'mds'"):
        pkpd.simulate(REGIMEN, "mds", until_day=7)
