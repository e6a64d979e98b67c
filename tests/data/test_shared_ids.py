"""Two bodies, or two occasions, under one ID: what the refusal says does no harm."""

from __future__ import annotations

import pandas as pd
import pytest

import pkpd
from pkpd.errors import DataError


def refused(rows, columns="ID TIME AMT EVID DV WT", **options):
    with pytest.raises(DataError) as caught:
        pkpd.read_nonmem(pd.DataFrame(rows, columns=columns.split()), **options)
    return str(caught.value)


def visit(label, weight, *times, dose_at=None):
    first = times[0] if dose_at is None else dose_at
    dose = (label, first, 100.0, 1, None, weight)
    return [dose, *((label, t, 0.0, 0, 1.0, weight) for t in times)]


def test_two_patients_with_others_between_are_two_bodies():
    rows = [*visit(1, 70, 0, 1, 4), *visit(2, 60, 0, 1), *visit(1, 95, 0, 1, 4)]
    words = refused(rows, covariates=["WT"])
    assert "row 7, ID 1, column ID" in words
    assert "the rows from 0 and from 7 seem to be of two bodies or two occasions" in words
    assert "WT is 70 and 95" in words
    assert "IDs of their own" in words


def test_contradictions_are_seen_in_columns_that_nobody_named():
    rows = [*visit(1, 70, 0, 1, 4), *visit(2, 60, 0, 1), *visit(1, 95, 48, 49)]
    words = refused(rows)
    assert "WT is 70 and 95" in words
    assert "starts again" not in words


def test_a_clock_that_restarts_is_another_occasion():
    words = refused([*visit(1, 70, 0, 1, 4), *visit(1, 70, 0, 1, 4)])
    assert "row 4, ID 1, column TIME: 0 h is earlier than the record before (4 h)" in words
    assert "the clock starts again at 0 h" in words
    assert "EVID 4" in words


def test_rows_out_of_order_are_to_be_sorted():
    dose = [(1, t, 100.0, 1, None, 70) for t in (0, 24)]
    after = [(1, t, 0.0, 0, 1.0, 70) for t in (0, 1, 25)]
    assert refused([*dose, *after]).endswith("; sort the subject's rows by time.")
    apart = [*visit(1, 70, 0, 1), *visit(2, 60, 0, 1), *visit(1, 70, 24, 25)]
    assert refused(apart).endswith("; sort the rows by ID and time.")


def test_days_of_one_patient_that_lie_apart_have_one_clock():
    rows = [
        (label, date, "08:00", amount, value)
        for label, date in ((1, "2020-01-01"), (2, "2020-01-01"), (1, "2020-01-02"))
        for amount, value in ((100.0, None), (0.0, 1.0))
    ]
    words = refused(rows, "ID DATE TIME AMT DV")
    assert words.endswith("; sort the rows by ID and time.")
