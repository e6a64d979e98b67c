from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pkpd.data.nonmem import read_nonmem
from pkpd.errors import DataError, PkpdError

TABLE = """\
ID,TIME,EVID,AMT,CMT,RATE,DV,DVID,CENS,LIMIT,WT,OCC
1,0,1,100,1,0,.,.,.,.,70,1
1,1,0,.,2,0,5.5,1,0,.,.,1
1,24,0,.,2,0,0.1,1,1,0.02,71,2
1,24,0,.,3,0,2.5,2,0,.,71,2
2,0,1,100,1,-2,.,.,.,.,55,1
2,2,0,.,2,0,4,1,0,.,55,1
2,3,2,.,2,0,.,.,.,.,55,1
"""
LINES = {1: "concentration", 2: "neutrophils"}


@pytest.fixture
def write(tmp_path):
    def make(text, name="trial.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_reads_events_observations_and_covariates(write):
    data = read_nonmem(write(TABLE), covariates=["WT"], lines=LINES)
    seen = data.observations
    assert data.subjects.tolist() == [1, 2]
    assert data.lines == ("concentration", "neutrophils")
    assert seen.value.tolist() == [5.5, 0.1, 2.5, 4.0]
    assert seen.line.tolist() == [0, 0, 1, 0]
    assert seen.censored.tolist() == [0, 1, 0, 0]
    assert seen.lower.tolist() == [-np.inf, 0.02, -np.inf, -np.inf]
    assert seen.subject.tolist() == [0, 0, 0, 1]
    assert seen.record.tolist() == [1, 2, 3, 1]
    assert data.covariates["WT"].tolist() == [[70, 70, 71, 71], [55, 55, 55, 55]]
    assert data.occasion[0].tolist() == [0, 0, 1, 1]
    assert not data.constant("WT")
    assert data.events.rate[1, 0] == -2


def test_summary_says_what_was_understood(write):
    text = read_nonmem(write(TABLE), covariates=["WT"], lines=LINES).summary()
    for words in (
        "trial.csv: 2 subjects, 7 records, 0 to 24 h",
        "1 modelled duration",
        "1 bolus",
        "concentration: 3, 4 to 5.5, 1 below the limit",
        "WT: 55 to 71, changes over time",
        "occasions: up to 2 per subject",
        "covariate WT: 1 missing value, the first in row 3, filled with",
        "1 of EVID 2, 0 resets",
    ):
        assert words in text


def test_frames_and_parquet_read_the_same(write, tmp_path):
    pd = pytest.importorskip("pandas")
    path = write(TABLE)
    frame = pd.read_csv(path, na_values=".")
    frame.to_parquet(tmp_path / "trial.parquet")
    expected = read_nonmem(path, lines=LINES)
    for source in (frame, tmp_path / "trial.parquet"):
        found = read_nonmem(source, lines=LINES)
        assert np.array_equal(found.events.time, expected.events.time)
        assert np.array_equal(found.observations.value, expected.observations.value)


def test_days_dates_and_names(write):
    days = read_nonmem(
        write("id,day,amt,conc\na,0,5,.\na,1.5,.,3\n"),
        time_unit="day",
        columns={"TIME": "day", "DV": "conc"},
    )
    assert days.events.time.tolist() == [[0.0, 36.0]]
    assert days.events.evid.tolist() == [[1, 0]]
    dates = read_nonmem(
        write(
            "ID,DATE,TIME,AMT,DV\n1,2024-02-28,23:30,5,.\n1,2024-03-01,00:15,.,3\n"
            "2,2024-02-28,8.5,5,.\n2,2024-02-28,09:00:36,.,4\n"
        )
    )
    np.testing.assert_allclose(dates.events.time, [[0.0, 24.75], [0.0, 0.51]], atol=1e-12)


@pytest.mark.parametrize(
    "head",
    [
        "ID,DATE,TIME|1,2024-01-01,08:00|1,2024-01-02,08:00",
        "ID,TIME|1,2024-01-01 08:00|1,2024-01-02 08:00",
    ],
)
def test_intervals_beside_dates_are_in_hours_or_the_unit_given(write, head):
    names, first, second = head.split("|")
    data = read_nonmem(write(f"{names},AMT,II,ADDL,DV\n{first},10,12,1,.\n{second},.,.,.,3\n"))
    assert data.events.ii[0, 0] == 12.0
    assert "TIME as hours" not in data.summary()
    assert "AMT as mg" in data.summary()
    days = write(f"{names},AMT,II,ADDL,DV\n{first},10,0.5,1,.\n{second},.,.,.,3\n")
    data = read_nonmem(days, time_unit="day")
    assert (data.events.ii[0, 0], data.events.time[0, 1]) == (12.0, 24.0)


def test_ignored_rows_and_values_below_a_limit_given_apart(write):
    data = read_nonmem(
        write("C,ID,TIME,AMT,DV,BLQ\n.,1,0,5,.,0\nC,1,1,.,99,0\n.,1,2,.,.,1\n.,1,3,.,7,0\n"),
        ignore="C",
        lloq=0.25,
    )
    assert data.observations.value.tolist() == [0.25, 7.0]
    assert data.observations.censored.tolist() == [1, 0]


def edit(line, **cells):
    rows = [row.split(",") for row in TABLE.splitlines()]
    for name, value in cells.items():
        rows[line - 1][rows[0].index(name)] = value
    return "\n".join(",".join(row) for row in rows) + "\n"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (edit(3, TIME="-1"), {}, "row 3, ID 1, column TIME: -1 h is earlier"),
        (edit(3, TIME="."), {}, "row 3, ID 1, column TIME: the time is missing"),
        (edit(2, AMT="hundred"), {}, "row 2, ID 1, column AMT: 'hundred' is not a number"),
        (edit(2, AMT="."), {}, "row 2, ID 1, column AMT: the cell of a dose's amount is empty"),
        (edit(2, AMT="0"), {}, "row 2, ID 1, column AMT: a dose record with amount 0"),
        (edit(2, AMT="inf"), {}, "row 2, ID 1, column AMT: inf is not a finite number"),
        (edit(2, DV="3"), {}, "row 2, ID 1, column DV: 3 on a record with EVID 1"),
        (edit(3, DV="."), {}, "row 3, ID 1, column DV: an observation without a value"),
        (edit(3, DVID="9"), {}, "row 3, ID 1, column DVID: 9 is no known line"),
        (edit(3, DVID="0_1"), {}, "row 3, ID 1, column DVID: 0_1 is no known line"),
        (edit(3, CENS="2"), {}, "row 3, ID 1, column CENS: 2 is no censoring code"),
        (edit(4, DV="."), {}, "row 4, ID 1, column CENS: the value is below the limit"),
        (edit(4, LIMIT="0.5"), {}, "0.5 is not below the limit of quantification 0.1"),
        (edit(3, CENS="-1", LIMIT="1e6"), {}, "row 3, ID 1, column LIMIT: 1e+06 is an upper end"),
        (
            edit(5, DVID="1"),
            {},
            "a second observation of 'concentration' at 24 h (the first is in row 4)",
        ),
        (edit(6, RATE="-4"), {}, "row 6, ID 2, column RATE: -4 is no rate"),
        (
            edit(6, WT=".").replace(",55,", ",.,"),
            {"covariates": ["WT"]},
            "row 6, ID 2, column WT: covariate 'WT' is missing for the subject",
        ),
        (TABLE, {"covariates": ["AGE"]}, "has no covariate column 'AGE'"),
        (TABLE, {"compartments": 0}, "row 2, ID 1, column CMT: a dose into compartment 1"),
        (TABLE, {"columns": {"DV": "conc"}}, "has no column 'conc' (asked for as DV)"),
        (TABLE, {"time_unit": "fortnight"}, "time unit 'fortnight'"),
        (TABLE, {"lloq": {"conc": 1.0}}, "trial.csv, lloq: there is no line 'conc'; allowed: "),
        (
            TABLE,
            {"units": {"RATE": "mg/min"}},
            "trial.csv, units: RATE has no unit of its own: it is in those of AMT and TIME; leave",
        ),
        (TABLE.replace("ID,", "SUBJ,", 1), {}, "has no ID column"),
        (TABLE + "1,2\n", {}, "row 9: has 2 cells, the header has 12"),
        (edit(2, ID="."), {}, "row 2, column ID: the subject is missing"),
        (edit(3, OCC="."), {}, "row 3, ID 1, column OCC: the occasion is missing"),
        ("ID,DATE,TIME,DV\n1,soon,0:00,1\n", {}, "column DATE: 'soon' is not a date"),
        ("ID,DATE,TIME,DV\n1,2024-01-01,25:00,1\n", {}, "'25:00' is not a time of the day"),
        ("ID,DATE,TIME,DV\n1,2024-01-01,1_4:30,1\n", {}, "'1_4:30' is not a time of the day"),
        ("", {}, "is empty"),
        (
            'ID,TIME,DV,NOTE\n1,0,5,a\n1,1,4,"b\n1,2,3,c\n',
            {},
            "trial.csv, row 3: has a quotation mark that is not closed, or text after one (",
        ),
        ('ID,TIME,DV,NOTE\n1,0,5,"a" b\n', {}, "trial.csv, row 2: has a quotation mark"),
        (
            'ID,TIME,DV,NOTE\n1,0,5,"a\n' + "1,1,4,some words of a note\n" * 6000,
            {},
            "trial.csv, row 2: has a quotation mark",
        ),
    ],
)
def test_bad_rows_are_refused_with_their_place(write, text, options, words):
    with pytest.raises(DataError, match=re.escape(words)) as error:
        read_nonmem(write(text), **{"lines": LINES} | options)
    assert str(error.value).startswith("trial.csv")
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("line", "values"),
    [("neutrophils", (4000, 150, 900)), ("platelets", (250_000, 8000)), ("leukocytes", (6000,))],
)
def test_counts_per_microlitre_are_refused_and_converted_when_they_are_said_to_be(line, values):
    rows = pd.DataFrame({"ID": 1, "TIME": np.arange(len(values)) * 24.0, "AMT": 0, "DV": values})
    rows["DVID"] = 1
    with pytest.raises(DataError, match=rf"{line}: the median count is .* no blood has") as error:
        read_nonmem(rows, lines={1: line})
    assert f'units={{"DV": {{"{line}": "cells/uL"}}}}' in str(error.value)
    data = read_nonmem(rows, lines={1: line}, units={"DV": {line: "cells/uL"}})
    np.testing.assert_allclose(data.observations.value, np.array(values) / 1000.0)
    # the same numbers of a concentration are nobody's business
    read_nonmem(rows, lines={1: "concentration"})


def test_cells_in_quotation_marks_may_hold_marks_and_lines(write):
    data = read_nonmem(write('ID,TIME,DV,NOTE\n1,0,5,"a ""b"", c"\n1,1,4,"d\ne"\n1,2,3,5" f\n'))
    assert data.observations.value.tolist() == [5.0, 4.0, 3.0]


def test_blanks_may_follow_a_closing_quotation_mark(write):
    text = '"ID" ,TIME,DV,"NOTE" \n"1" ,0,5,"a, ""b"" ,\n"" ,"  \n1,1,"4"  ,5" x\n'
    data = read_nonmem(write(text))
    assert data.observations.value.tolist() == [5.0, 4.0]
    assert data.observations.row.tolist() == [0, 1]
    with pytest.raises(DataError, match="row 4: has a quotation mark"):
        read_nonmem(write(text.replace('"4"', '"4" "')))


def test_units_are_by_name(write):
    with pytest.raises(PkpdError, match="units, column: 1 is given; allowed: text"):
        read_nonmem(write(TABLE), units={1: "mg"})


def test_missing_file_and_wrong_source():
    with pytest.raises(DataError, match="no such file"):
        read_nonmem("nowhere.csv")
    with pytest.raises(DataError, match="cannot read a int"):
        read_nonmem(3)


def test_reading_needs_neither_jax_nor_pandas():
    code = (
        "import sys, pkpd.data; "
        "assert not {'jax', 'pandas', 'pymc', 'matplotlib'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_data_set_prints_in_a_line(write):
    data = read_nonmem(write(TABLE))
    for one in (data, data.events, data.observations):
        assert len(repr(one)) < 200
        assert "\n" not in repr(one)
    assert repr(data).startswith("Dataset(trial.csv: 2 subjects, ")
    assert data.summary().splitlines()[1] in data._repr_html_()


def test_two_columns_that_say_what_is_below_the_limit_have_to_agree(write):
    text = "ID,TIME,AMT,DV,CENS,BLQ\n1,0,5,.,0,0\n1,1,.,0.2,1,{}\n1,2,.,7,0,{}\n"
    data = read_nonmem(write(text.format(1, 0)))
    assert data.observations.censored.tolist() == [1, 0]
    for flags, words in (
        ((0, 0), "row 3, ID 1, column BLQ: it is not below the limit, and by CENS below it"),
        ((1, 1), "row 4, ID 1, column BLQ: it is below the limit, and by CENS not below it"),
    ):
        with pytest.raises(DataError, match=f"{words}; correct one, or leave a column out"):
            read_nonmem(write(text.format(*flags)))


@pytest.mark.parametrize("other", ["CENS", "OTHER"])
def test_a_column_of_limits_that_is_called_blq_is_read_as_limits(write, other):
    text = f"ID,TIME,AMT,DV,{other},BLQ\n1,0,5,.,0,.\n1,1,.,0.1,1,0.2\n1,2,.,7,0,0.2\n"
    with pytest.raises(DataError, match=r"0.2 is no censoring code.*columns=\{'LLOQ': 'BLQ'\}"):
        read_nonmem(write(text))
    seen = read_nonmem(write(text), columns={"LLOQ": "BLQ"}).observations
    assert seen.censored.tolist() == [1, 0]
    assert seen.value.tolist() == [0.2, 7.0]


def test_a_code_has_one_line(write):
    text = "ID,TIME,AMT,DV,DVID\n1,0,5,.,.\n1,1,.,9,1\n"
    with pytest.raises(DataError, match="lines: code 1 is both 'a' and 'b'; name it once"):
        read_nonmem(write(text), lines={1: "a", "1": "b"})
    assert read_nonmem(write(text), lines={1: "a", "1": "a"}).lines == ("a",)
