from __future__ import annotations

import re

import numpy as np
import pytest

from pkpd.data.events import EventTable
from pkpd.data.expand import expand
from pkpd.errors import DataError

GOOD = {
    "subject": [7, 7, 7],
    "time": [0.0, 1.0, 24.0],
    "evid": [1, 0, 1],
    "amt": [100, 0, 100],
    "cmt": [1, 2, 1],
    "ii": [12, 0, 0],
    "addl": [1, 0, 0],
}


def build(**changes):
    return EventTable.from_columns(
        **{**GOOD, **changes},
        source="trial.csv",
        numbers=[2, 3, 4][: len(changes.get("subject", GOOD["subject"]))],
    )


def test_padding_and_order():
    table = EventTable.from_columns(
        ["b", "b", "a"], [0.0, 5.0, 1.0], evid=[1, 0, 1], amt=[10, 0, 20]
    )
    assert table.subject.tolist() == ["b", "a"]
    assert table.valid.tolist() == [[True, True], [True, False]]
    assert table.time[1].tolist() == [1.0, 1.0]
    assert table.to_rows(table.time).tolist() == [0.0, 5.0, 1.0]
    assert table.from_rows([1, 2, 3]).tolist() == [[1, 2], [3, 3]]
    assert table.subset([1]).subject.tolist() == ["a"]


def test_segments_begin_at_resets_and_replacing_steady_states():
    table = EventTable.from_columns(
        [1] * 6,
        [0, 5, 5, 9, 2, 4],
        evid=[1, 3, 1, 1, 4, 1],
        amt=[1, 0, 1, 1, 1, 1],
        ss=[0, 0, 0, 1, 0, 2],
        ii=[0, 0, 0, 8, 0, 8],
    )
    assert table.segment[0].tolist() == [0, 1, 1, 2, 3, 3]
    assert table.segment_end[0].tolist() == [0, 5, 5, 9, 4, 4]


def test_additional_doses_are_written_out_as_far_as_records_go():
    schedule = expand(build())
    assert schedule.shift[0].tolist() == [0.0, 12.0, 0.0]
    assert schedule.record[0].tolist() == [0, 0, 2]
    assert schedule.first[0].tolist() == [True, False, True]
    assert schedule.dose_of_record[0].tolist() == [0, -1, 2]
    late = expand(build(addl=[50, 0, 0]))
    assert late.shift[0].tolist() == [0.0, 12.0, 24.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"time": [0, 24, 1]}, "row 4, ID 7, column TIME: 1 h is earlier than the record before"),
        ({"evid": [1, 7, 1]}, "row 3, ID 7, column EVID: 7 is no event"),
        ({"evid": [101, 0, 1]}, "RxODE"),
        ({"amt": [np.inf, 0, 1]}, "row 2, ID 7, column AMT: inf is not a finite number"),
        ({"amt": [np.nan, 0, 1]}, "column AMT: nan is not a finite number"),
        ({"amt": [-5, 0, 1]}, "the amount -5 is negative"),
        ({"amt": [0, 0, 1]}, "a dose record with amount 0"),
        ({"amt": [1, 3, 1]}, "row 3, ID 7, column AMT: 3 on a record with EVID 0"),
        ({"rate": [-3, 0, 0]}, "column RATE: -3 is no rate"),
        ({"ss": [1, 0, 0], "ii": [0, 0, 0], "addl": [0, 0, 0]}, "needs a dosing interval"),
        ({"ss": [3, 0, 0]}, "3 is no steady-state code"),
        ({"ii": [0, 0, 0]}, "1 additional doses need a dosing interval"),
        ({"ii": [-12, 0, 0]}, "the dosing interval -12 is negative"),
        ({"addl": [-1, 0, 0]}, "-1 additional doses"),
        ({"cmt": [-1, 2, 1]}, "would switch a compartment off"),
        ({"cmt": [1.5, 2, 1]}, "1.5 is not a whole number"),
        ({"cmt": [1e308, 2, 1]}, "column CMT: 1e+308 is too large"),
        ({"subject": [7, 8, 7]}, "row 4, ID 7, column ID: the subject's records are not together"),
        ({"amt": [1, "ten", 1]}, "row 3, column AMT: 'ten' is not a number"),
        ({"amt": [1, 0]}, "column AMT: has 2 values for 3 records"),
        ({"dose": [1, 0, 1]}, "'dose' is not an event column"),
        (
            {"amt": [0, 0, 1], "ss": [1, 0, 0], "rate": [5, 0, 0], "addl": [0, 0, 0]},
            "a constant infusion at steady state has no dosing interval",
        ),
        (
            {"subject": [], "time": [], **{k: [] for k in ("evid", "amt", "cmt", "ii", "addl")}},
            "holds no records",
        ),
    ],
)
def test_records_without_meaning_are_refused(changes, words):
    with pytest.raises(DataError, match=re.escape(words)) as error:
        build(**changes)
    assert str(error.value).startswith("trial.csv")
    assert str(error.value).endswith(".")
