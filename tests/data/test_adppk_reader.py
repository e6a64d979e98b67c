"""CDISC's analysis tables of concentrations read as the same data set in NONMEM's columns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import DataError
from tests.data.transport_file import member, transport

# Two subjects: a dose, a value, a value below the limit without a number; in the second one a copy
# that ADNCA would hold, a row that analysts excluded, and a value above the limit of the assay.
ADPPK = """\
STUDYID,USUBJID,AFRLT,NFRLT,RLTU,UDTC,EVID,PARAMCD,AVAL,DV,AVALU,MDV,ALLOQ,AULOQ,BLQFL,BLQFN,ALQFN,AMT,AMTU,CMT,EXCLF,DTYPE,WTBL,WTBLU,SEX
S1,S1-01,-0.5,0,HOURS,2026-01-31T07:30,0,XAN,.,.,ng/mL,1,10,5000,Y,1,0,.,,2,0,,70000,g,M
S1,S1-01,0,0,HOURS,2026-01-31T08:00,1,DOSE,54,54,mg,1,.,.,,,,54,mg,1,0,,70000,g,M
S1,S1-01,2.1,2,HOURS,2026-01-31T10:06,0,XAN,570,570,ng/mL,0,10,5000,N,0,0,.,,2,0,,70000,g,M
S1,S1-01,30,24,HOURS,2026-02-01T14:00,0,XAN,0,0,ng/mL,0,10,5000,Y,1,0,.,,2,0,,70000,g,M
S1,S1-02,0,0,HOURS,2026-03-01T09:00:00,1,DOSE,27,27,mg,1,.,.,,,,27,mg,1,0,,80000,g,F
S1,S1-02,1,1,HOURS,2026-03-01T10:00:00,0,XAN,700,700,ng/mL,0,10,5000,N,0,0,.,,2,1,,80000,g,F
S1,S1-02,2,2,HOURS,2026-03-01T11:00:00,0,XAN,6000,6000,ng/mL,0,10,5000,N,0,1,.,,2,0,,80000,g,F
S1,S1-02,2,2,HOURS,2026-03-01T11:00:00,0,XAN,6000,6000,ng/mL,0,10,5000,N,0,1,.,,2,0,COPY,80000,g,F
"""
NONMEM = """\
ID,TIME,EVID,DVID,DV,CENS,LLOQ,AMT,CMT,MDV,WTBL,SEX
S1-01,-0.5,0,XAN,.,0,.,.,2,1,70,M
S1-01,0,1,DOSE,.,0,.,54,1,1,70,M
S1-01,2.1,0,XAN,0.57,0,0.01,.,2,0,70,M
S1-01,30,0,XAN,0.01,1,0.01,.,2,0,70,M
S1-02,0,1,DOSE,.,0,.,27,1,1,80,F
S1-02,2,0,XAN,5,-1,0.01,.,2,0,80,F
"""
THREE = {
    "USUBJID": ["1"] * 3, "AFRLT": [0, 1, 24], "RLTU": "HOURS", "PARAMCD": ["DOSE", "XAN", "XAN"],
    "AVAL": [54, 5.7, 2.0], "AVALU": ["mg", "mg/L", "mg/L"],
}  # fmt: skip
FIELDS = ("subject", "record", "time", "line", "value", "censored")


@pytest.fixture
def write(tmp_path):
    def make(text, name="adppk.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def same(one, other):
    """Two data sets say the same."""
    for name in ("subject", "time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss"):
        np.testing.assert_array_equal(getattr(one.events, name), getattr(other.events, name), name)
    for name in FIELDS:
        mine, its = getattr(one.observations, name), getattr(other.observations, name)
        np.testing.assert_allclose(mine, its, rtol=1e-12, err_msg=name)
    assert one.lines == other.lines
    for name in one.covariates:
        np.testing.assert_allclose(one.covariates[name], other.covariates[name], rtol=1e-12)


def as_transport(text, path, labels=None):
    """The table of a CSV text as a transport file: numbers as numbers, words as text."""
    table = pd.read_csv(pd.io.common.StringIO(text), na_values=["."])
    columns, cells = [], []
    for name in table:
        words = not pd.api.types.is_numeric_dtype(table[name])
        columns.append((name, (labels or {}).get(name, ""), 24 if words else None))
        cells.append(
            ["" if pd.isna(v) else str(v) for v in table[name]]
            if words
            else [None if pd.isna(v) else float(v) for v in table[name]]
        )
    path.write_bytes(transport(member("ADPPK", columns, list(zip(*cells, strict=True)))))
    return path


def test_adppk_is_the_same_data_as_nonmems_table(write):
    data = pkpd.read_adppk(write(ADPPK), covariates=["WTBL", "SEX"])
    units = {"AMT": "mg", "DV": "mg/L"}
    other = pkpd.read_nonmem(
        write(NONMEM, "nonmem.csv"), covariates=["WTBL", "SEX"], units=units, time_unit="h"
    )
    same(data, other)
    assert dict(data.units) == {"XAN": "mg/L", "WTBL": "kg", "AMT": "mg"}
    said = data.summary()
    for words in (
        "left out: 1 rows with EXCLF not 0",
        "left out: 1 copies of other rows (DTYPE COPY)",
        "1 values below their limit have MDV 1 and are left out",
        "AVAL on 2 rows of events is no measured value",
        "1 above the limit",
    ):
        assert words in said
    assert "not declared" not in said


def test_a_transport_file_says_the_same(write, tmp_path):
    read = pkpd.read_adppk(as_transport(ADPPK, tmp_path / "adppk.xpt"), covariates=["WTBL"])
    same(read, pkpd.read_adppk(write(ADPPK), covariates=["WTBL"]))


def test_labels_of_a_transport_file_say_units(tmp_path):
    lines = pd.read_csv(pd.io.common.StringIO(ADPPK))
    text = lines.drop(columns=["RLTU", "AMTU", "WTBLU"]).to_csv(index=False)
    labels = {
        "AFRLT": "Actual Rel Time from First Dose (day)",
        "AMT": "Actual Amount of Dose Received (ug)",
        "WTBL": "Baseline Body Weight (g)",
        "SEX": "Sex",
    }
    data = pkpd.read_adppk(
        as_transport(text, tmp_path / "adppk.xpt", labels), covariates=["WTBL", "SEX"]
    )
    assert data.events.time[0].tolist() == [-12.0, 0.0, pytest.approx(50.4), 720.0]
    assert data.events.amt[0, 1] == pytest.approx(0.054)
    assert data.covariates["WTBL"][0, 0] == pytest.approx(70.0)


@pytest.mark.parametrize(
    ("below_limit", "values", "codes"),
    [
        ("mdv", [0.57, 0.01, 5.0], [0, 1, -1]),
        ("censored", [0.01, 0.57, 0.01, 5.0], [1, 0, 1, -1]),
        ("drop", [0.57, 5.0], [0, -1]),
    ],
)
def test_values_below_the_limit(write, below_limit, values, codes):
    seen = pkpd.read_adppk(write(ADPPK), below_limit=below_limit).observations
    assert seen.value.tolist() == pytest.approx(values)
    assert seen.censored.tolist() == codes


def test_dates_count_from_each_first_dose(write, tmp_path):
    data = pkpd.read_adppk(write(ADPPK), time="UDTC")
    same(data, pkpd.read_adppk(write(ADPPK)))
    zone = ADPPK.replace("2026-01-31T10:06", "2026-01-31T11:06+01:00")
    zone = zone.replace("2026-01-31T07:30", "2026-01-31T07:30+00:00")
    same(pkpd.read_adppk(write(zone), time="UDTC"), data)
    # SAS counts the seconds since 1960
    table = pd.read_csv(pd.io.common.StringIO(ADPPK))
    stamps = pd.to_datetime(table["UDTC"], format="ISO8601") - pd.Timestamp(1960, 1, 1)
    table["ADTM"] = stamps.dt.total_seconds()
    text = table.drop(columns=["AFRLT", "UDTC"]).to_csv(index=False)
    same(pkpd.read_adppk(as_transport(text, tmp_path / "sas.xpt")), data)
    with pytest.raises(DataError, match="column ADTM: '20"):
        pkpd.read_adppk(write(text))


def test_a_table_of_concentrations_with_doses_as_a_parameter(write):
    table = pd.read_csv(pd.io.common.StringIO(ADPPK), dtype=str)
    text = table.drop(columns=["EVID", "AMT", "AMTU", "MDV", "DV", "CMT"]).to_csv(index=False)
    data = pkpd.read_adppk(write(text), below_limit="censored", lines={"XAN": "concentration"})
    other = pkpd.read_adppk(write(ADPPK), below_limit="censored", lines={"XAN": "concentration"})
    np.testing.assert_array_equal(data.events.amt, other.events.amt)
    np.testing.assert_array_equal(data.events.evid, other.events.evid)
    assert data.observations.value.tolist() == other.observations.value.tolist()
    assert data.lines == ("concentration",)
    assert data.units["AMT"] == "mg"


def test_planned_times_are_asked_for(write):
    data = pkpd.read_adppk(write(ADPPK), time="NFRLT")
    assert data.events.time[0].tolist() == [0.0, 0.0, 2.0, 24.0]
    assert "times are the planned ones, as asked" in data.notes


def test_rows_are_chosen_by_values(write):
    data = pkpd.read_adppk(write(ADPPK), only={"SEX": ["F"]})
    assert data.subjects.tolist() == ["S1-02"]
    assert "left out, as asked: 4 rows by SEX" in data.notes


def test_columns_can_have_other_names(write):
    text = ADPPK.replace("USUBJID", "PATIENT").replace("AFRLT", "TAFD", 1)
    data = pkpd.read_adppk(write(text), columns={"USUBJID": "PATIENT", "AFRLT": "TAFD"})
    same(data, pkpd.read_adppk(write(ADPPK)))


def test_how_cells_were_cut_is_told(write):
    assert "cells were cut at ';'" in pkpd.read_adppk(write(ADPPK.replace(",", ";"))).summary()


def test_steady_state_doses_are_told_with_their_interval():
    rows = {"USUBJID": ["1", "1"], "AFRLT": [0, 3], "EVID": [1, 0], "AMT": [5, 0], "II": [12, 0],
            "SS": [1, 0], "DV": [None, 2.0], "MDV": [1, 0]}  # fmt: skip
    data = pkpd.read_adppk(pd.DataFrame(rows))
    assert "1 doses are at steady state (SS), given every 12 to 12" in data.summary()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("570,570", "570,5.7"), "row 4, ID S1-01, column DV: 5.7 is no copy of AVAL, 570"),
        (("Y,1,0,.,,2,0,,70000,g,M\nS1,S1-02", "Y,0,0,.,,2,0,,70000,g,M\nS1,S1-02"),
         "row 5, ID S1-01, column BLQFL: contradicts BLQFN 0"),
        (("570,570,ng/mL,0,10,5000,N,0", "570,570,ng/mL,0,10,5000,Y,1"),
         "row 4, ID S1-01, column BLQFN: 570 is not below 10"),
        (("570,570", "5x0,570"), "row 4, ID S1-01, column AVAL: '5x0' is not a number"),
        (("N,0,0,.,,2,1", "?,0,0,.,,2,0"), "column BLQFL: '?' is no flag; allowed: Y, N"),
        (("6000,6000,ng/mL", "6,6,ug/mL"), "column ALQFN: 6 is not above 5000"),
        (("0,XAN,0,0,ng/mL", "0,XAN,0,0,ug/mL"),
         "row 5, ID S1-01, column AVALU: is in ug/mL, rows before in ng/mL"),
        (("0,XAN,0,0,ng/mL", "0,XAN,0,0,IU/L"),
         "row 5, ID S1-01, column AVALU: 'IU/L' is no unit known here; columns={'AVALU': None}"),
        (("2.1,2,HOURS", "2.1,2,DAYS"), "row 4, ID S1-01, column RLTU: is in DAYS, rows before"),
        (("2.1,2,HOURS", ".,2,HOURS"), "row 4, ID S1-01, column AFRLT: the time is missing"),
        (("10:06,0,XAN", "10:06,,XAN"), "row 4, ID S1-01, column EVID: the kind of event is"),
        (("S1,S1-01,30", "S1,,30"), "row 5, column USUBJID: the subject is missing"),
        ((",AFRLT,NFRLT,", ",T1,NFRLT,"), "no column of actual times (AFRLT, ADTM or UDTC)"),
        ((",USUBJID,", ",WHO,"), "has no column of subjects (USUBJID)"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(write, change, words):
    text = ADPPK.replace(*change, 1)
    assert text != ADPPK
    columns = {"UDTC": None} if "T1" in text else None
    with pytest.raises(DataError, match=re.escape(words)):
        pkpd.read_adppk(write(text), columns=columns)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"units": {"DV": "mg/L"}}, "units of DV (XAN): mg/L was given and the table says ng/mL"),
        ({"units": {"TIME": "day"}}, "units of TIME: day was given and the table says h"),
        ({"only": {"PKFL": "Y"}}, "only: there is no column 'PKFL'"),
        ({"only": {"SEX": "X"}}, "no row is left to read"),
        ({"time": "ADTM"}, "has no column 'ADTM'"),
        ({"below_limit": "no"}, "read_adppk, below_limit: 'no' is given"),
        ({"doses": 3}, "read_adppk, doses: 3 is given"),
        ({"columns": {"AFRLT": "TIM"}}, "has no column 'TIM' (asked for as AFRLT)"),
        ({"time": "USUBJID"}, "column USUBJID: 'S1-01' is no date with time of the day"),
    ],
)
def test_options_that_make_no_sense_are_refused(write, options, words):
    with pytest.raises(pkpd.PkpdError, match=re.escape(words)):
        pkpd.read_adppk(write(ADPPK), **options)


def test_a_date_without_time_of_the_day_is_refused(write):
    with pytest.raises(DataError, match="'2026-01-31' is no date with time of the day"):
        pkpd.read_adppk(write(ADPPK.replace("2026-01-31T10:06", "2026-01-31")), time="UDTC")


@pytest.mark.parametrize(
    ("columns", "rate"),
    [
        ({"ADOSEDUR": [30, None, None], "DOSEDURU": ["MIN", "", ""]}, 108.0),
        ({"ADOSEDUR": [None] * 3, "NDOSEDUR": [2, None, None]}, 27.0),
        ({"DOSEDUR": [0.5, 0, 0], "DOSEDURU": ["DAYS", "", ""]}, 4.5),
    ],
)
def test_durations_of_infusions_are_in_their_own_unit(columns, rate):
    """54 mg in 30 min are 108 mg/h, in 2 h 27 mg/h, in half a day 4.5 mg/h."""
    data = pkpd.read_adppk(pd.DataFrame(THREE | columns))
    np.testing.assert_allclose(data.events.rate[0], [rate, 0, 0])


def test_a_unit_of_durations_that_is_none_is_refused():
    table = pd.DataFrame(THREE | {"ADOSEDUR": [30, 0, 0], "DOSEDURU": "mg"})
    with pytest.raises(DataError, match="column DOSEDURU: 'mg' is no unit of time"):
        pkpd.read_adppk(table)


def test_values_out_of_an_analysis_and_columns_of_another_kind_are_left_out():
    table = pd.DataFrame(THREE | {"NCAXFL": ["Y", "Y", ""], "DATE": "2026-01-31", "BLQ": 1})
    data = pkpd.read_adppk(table)
    np.testing.assert_array_equal(data.observations.time, [24])
    assert data.events.is_dose.sum() == 1
    assert "left out: 1 measured values with NCAXFL Y" in data.notes
    assert any(note.startswith("not read: columns DATE, BLQ") for note in data.notes)
