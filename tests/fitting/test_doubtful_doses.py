"""Doses that may be slips of a table: what is named, and what is ordinary."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.checks import look_before_fit
from pkpd.fitting.first_look.doses import doubtful_doses
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, compartments, parameter, residual


def study(amounts, **more):
    """One dose at 0 h and a value at 1 h of each subject: rows 0, 1 of the first, 2, 3, ..."""
    rows = [
        {"ID": i, "TIME": t, "AMT": a * (t == 0), "EVID": int(t == 0), "CMT": 1} | more
        for i, a in enumerate(amounts, start=1)
        for t in (0, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(DV=np.where(table["EVID"] == 1, np.nan, 3.0))


def found(table):
    return doubtful_doses(pkpd.read_nonmem(table))


def test_the_look_before_a_fit_names_them():
    table = study([320, 320, 320_000, 280, 400])
    table = pd.concat([table.iloc[:1], table], ignore_index=True)
    parts = [parameter("CL", 3.0), parameter("V", 100.0)]
    model = PopulationModel(compartments(1), parts, residual.additive(1.0))
    said = [str(one) for one in look_before_fit(pkpd.read_nonmem(table), model).findings]
    (alone,) = [one for one in said if "median dose" in one]
    (twice,) = [one for one in said if "stands twice" in one]
    for words in ("row 5, ID 3, column AMT", "320000 is 1,000 times", "(320)", "unit?"):
        assert words in alone
    for words in ("rows 0 and 1 (subject 1, 320 at 0 h)", "Leave one of the rows out, unless"):
        assert words in twice


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_one_strange_amount_among_escalated_doses_is_named_once(factor):
    (one,) = found(study([30 * factor, 1, 1, 3, 3, 10, 10, 30, 30]))
    assert one.subjects == ("1",)
    assert ("1/" in one.what) == (factor < 1)


@pytest.mark.parametrize(
    "amounts",
    [
        [1, 1, 1, 3, 10, 30, 100, 300, 1000],  # escalation, a subject at each of the upper levels
        [0.1, 100, 100, 100] * 3,  # microdoses, of more than one
        [5, 5000],  # too few to say which is strange
        [100],
    ],
)
def test_ordinary_amounts_raise_no_word(amounts):
    assert found(study(amounts)) == []


@pytest.mark.parametrize(
    "change", [{"TIME": 12}, {"AMT": 60}, {"CMT": 2}, {"RATE": 10}, {"EVID": 4}]
)
def test_a_second_dose_that_differs_is_no_copy(change):
    table = study([50, 50, 50], RATE=0)
    second = table.iloc[[0]].assign(**change)
    order = [table.iloc[:2], second, table.iloc[2:]] if "TIME" in change else None
    both = order or [table.iloc[:1], second, table.iloc[1:]]
    assert found(pd.concat(both, ignore_index=True)) == []


@pytest.mark.parametrize(("cmt", "lines", "told"), [
    (1, None, True), (2, None, False), (0, None, False), (1, "named", False)
])  # fmt: skip
def test_observations_of_a_compartment_that_is_not_observed_are_told(cmt, lines, told):
    table = study([50, 50, 50])
    table.loc[table["EVID"] == 0, "CMT"] = cmt
    parts = [parameter("ka", 1.0), parameter("CL", 3.0, iiv=0.3), parameter("V", 10.0)]
    oral = compartments(1, absorption="first_order")
    model = PopulationModel(oral, parts, residual.additive(1.0))
    data = pkpd.read_nonmem(table, lines=lines and {cmt: "concentration"})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pkpd.individual(model, data)
    assert len(said) == told
    for one in said:
        assert "row 1: observations have CMT 1 (depot) and are taken as" in str(one.message)
        assert "CMT 2 (central)" in str(one.message)
        assert 'lines={1: "concentration"}' in str(one.message)


@pytest.mark.parametrize(("cmt", "size", "told"), [(2, 2, True), (1, 2, False), (2, 1, False)])
def test_doses_into_a_peripheral_compartment_are_told(cmt, size, told):
    table = study([50, 50, 50])
    table.loc[table["EVID"] == 1, "CMT"] = cmt
    names = ["CL", "V1", "Q", "V2"] if size == 2 else ["ka", "CL", "V"]
    model = PopulationModel(
        compartments(size, absorption="none" if size == 2 else "first_order"),
        [parameter(name, 3.0, iiv=0.3 if name == "CL" else None) for name in names],
        residual.additive(1.0),
    )
    data = pkpd.read_nonmem(table[table["EVID"] == 1].assign(DV=np.nan)).at_times([1.0])
    values = replace(data.observations, value=np.ones(3))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        bind(model, replace(data, observations=values))
    assert len(said) == told
    for one in said:
        assert "row 0: 3 doses have CMT 2, which is peripheral here" in str(one.message)


def test_the_median_dose_of_the_others_counts_every_dose_of_theirs():
    table = study([1, 100, 100, 100, 400_000])
    steps = [table.iloc[[0]].assign(AMT=2 + k, TIME=2 + k) for k in range(5)]  # of one subject
    days = [table.iloc[[2]].assign(TIME=24 * k) for k in range(1, 9)]
    parts = [table.iloc[:2], *steps, table.iloc[2:4], *days, table.iloc[4:]]
    (one,) = found(pd.concat(parts, ignore_index=True))
    assert one.subjects == ("5",)
    assert "4,000 times the median dose of the other subjects (100)" in one.what
