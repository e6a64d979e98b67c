"""$INPUT and $DATA: columns, rows that are left out, what NM-TRAN adds."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.nonmem.input_data import event_columns, individuals, read_data, read_input, read_items
from pkpd.nonmem.records import Line, Record, choose_problem, read_records

ROWS = """C,TIME,AMT,DV,SEX
1,0,100,.,M
1,1,0,5.5,M
#,2,0,9,M
1, 3 , ,4D0,F
2 0,50 0 1
2\t2\t\t3.5\t1
"""


def record(name, text):
    return Record(name, (Line(7, text),), "run.mod")


def items(folder, data, columns="ID TIME AMT DV SEX", rows=ROWS):
    path = folder / "d.csv"
    path.write_text(rows)
    return read_items(read_data(record("DATA", data)), read_input(record("INPUT", columns)), path)


def test_cells_are_divided_as_nmtran_does(tmp_path):
    found = items(tmp_path, "d.csv IGNORE=@", "ID TIME AMT DV SEX=DROP")
    assert "2 lines left out by IGNORE=@ (1 of them begin with #)" in found.notes
    np.testing.assert_array_equal(found.columns["TIME"], [0, 1, 3, 0, 2])
    np.testing.assert_array_equal(found.columns["AMT"], [100, 0, 0, 50, 0])
    np.testing.assert_array_equal(found.columns["DV"], [0, 5.5, 4, 0, 3.5])
    np.testing.assert_array_equal(found.numbers, [2, 3, 5, 6, 7])
    assert "SEX" not in found.columns


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ("d.csv IGNORE=C", [2, 3, 4, 5, 6, 7]),
        ("'d.csv' IGNORE=@ IGN=(DV.EQN.5.5)", [2, 5, 6, 7]),
        ("d.csv IGNORE=@ IGNORE=(AMT>60,DV.EQ.9)", [3, 5, 6, 7]),
        ("d.csv IGNORE=@ ACCEPT=(TIME.GE.2)", [5, 7]),
        ("d.csv IGNORE=@ ACCEPT(SEX.EQ.'F', SEX.EQ.\"1\")", [5, 6, 7]),
        ("d.csv IGNORE=@ IGNORE=(SEX.NE.M)", [2, 3]),
        ("d.csv IGNORE=@ RECORDS=2", [2, 3]),
        ("d.csv IGNORE=@ RECORDS=3 IGNORE=(AMT.GT.60)", [3, 5]),
    ],
)
def test_rows_are_left_out(tmp_path, data, kept):
    found = items(tmp_path, data, "ID=DROP TIME AMT DV SEX=DROP")
    np.testing.assert_array_equal(found.numbers, kept)


@pytest.mark.parametrize("head", ["#ID,TIME,AMT,DV,SEX", " \t# a remark, in words", "@ID,TIME"])
def test_a_header_marked_as_a_comment_is_left_out_by_ignore_at(tmp_path, head):
    # pharmpy's reader of such files leaves out what begins with a letter, # or @, after blanks
    found = items(tmp_path, "d.csv IGNORE=@", rows=f"{head}\n1,0,100,.,1\n1,1,.,5,1\n")
    np.testing.assert_array_equal(found.numbers, [2, 3])


def test_a_finish_record_ends_the_data_and_so_may_empty_lines(tmp_path):
    found = items(tmp_path, "d.csv", rows="1,0,9,.,1\n1,1,.,5,1\n FIN\n1,2,.,4,1\n")
    np.testing.assert_array_equal(found.numbers, [1, 2])
    found = items(tmp_path, "d.csv", rows="1,0,9,.,1\n1,1,.,5,1\n\n \n")
    np.testing.assert_array_equal(found.numbers, [1, 2])


def test_synonyms_and_dropped_items():
    found = read_input(record("INPUT", "C=DROP DOSE=AMT CONC=DV SKIP DROP=WT, AGE"))
    assert [(c.names, c.dropped) for c in found] == [
        (("C",), True), (("AMT", "DOSE"), False), (("DV", "CONC"), False), (("DROP",), True),
        (("WT",), True), (("AGE",), False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            lambda f: items(f, "d.csv IGNORE=C", "ID TIME AMT DV SEX=DROP"),
            "column ID: '#' is no number",
        ),
        (lambda f: items(f, "d.csv", "ID TIME AMT DV", "1,0,1_0,.\n"), "AMT: '1_0' is no number"),
        (lambda f: items(f, "d.csv IGNORE=@ IGNORE=(TIME.EQ.0.0)"), "versions of NONMEM differ"),
        (
            lambda f: items(f, "d.csv BLANKOK", rows="1,0,9,.,1\n\n1,1,.,5,1\n"),
            "d.csv, line 2: an empty line stands before further records",
        ),
        (lambda f: items(f, "d.csv (F4.0)"), "FORTRAN format"),
        (lambda f: items(f, "d.csv TRANSLATE=(TIME/24)"), "TRANSLATE is not read"),
        (lambda f: items(f, "d.csv LAST20=2050"), "LAST20=2050; allowed: a year of two digits"),
        (lambda f: items(f, "d.csv IGNORE=@ IGNORE=(X.EQ.1)"), "names no data item"),
        (lambda f: items(f, "d.csv IGNORE=(AMT.EQ.1) ACCEPT=(DV.EQ.2)"), "together"),
        (lambda f: read_input(record("INPUT", "ID TIME TIME")), "TIME is there twice"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, what, words):
    with pytest.raises(PkpdError) as error:
        what(tmp_path)
    assert words in str(error.value)


def test_events_without_evid_and_individuals_that_come_back(tmp_path):
    rows = "1,0,5,.,0\n1,1,.,2,1\n2,0,.,3,0\n1,0,7,.,0\n"
    found = items(tmp_path, "d.csv", "ID TIME AMT DV MDV", rows)
    subject = individuals(found, False, record("INPUT", ""))
    columns = event_columns(found, subject)
    np.testing.assert_array_equal(subject, [0, 0, 1, 2])
    np.testing.assert_array_equal(columns["EVID"], [1, 2, 0, 1])


def test_clock_times_count_from_the_first_record(tmp_path):
    rows = "1,3/1/20,14:30,5,.\n1,3/2/20,2:15,.,2\n2,12/31/19,23:00,5,.\n2,1/1/20,1:00,.,3\n"
    found = items(tmp_path, "d.csv", "ID DATE=DROP TIME AMT DV", rows)
    columns = event_columns(found, individuals(found, False, record("INPUT", "")))
    np.testing.assert_allclose(columns["TIME"], [0, 11.75, 0, 2])


def test_a_clock_time_before_midnight_is_below_0_as_a_whole(tmp_path):
    """-1:30 is an hour and a half before 0:00, 4 h before 2:30."""
    found = items(tmp_path, "d.csv", "ID TIME AMT DV", "1,-1:30,5,.\n1,2:30,.,2\n")
    columns = event_columns(found, individuals(found, False, record("INPUT", "")))
    np.testing.assert_allclose(columns["TIME"], [0, 4])


@pytest.mark.parametrize(
    ("label", "first", "second"),
    [("DATE", "10-12", "10-14"), ("DAT1", "12/10", "14/10"), ("DAT2", "10/12", "10/14")],
)
def test_dates_of_two_parts_are_day_and_month(tmp_path, label, first, second):
    """The second subject is that of the example of NONMEM Help, DATE."""
    rows = f"2,{first},8,5,.\n2,{second},10,.,3\n3,2-28,0,5,.\n3,3-1,0,.,3\n"
    rows = rows if label != "DAT1" else rows.replace("2-28", "28-2").replace("3-1", "1-3")
    found = items(tmp_path, "d.csv", f"ID {label}=DROP TIME AMT DV", rows)
    columns = event_columns(found, individuals(found, False, record("INPUT", "")))
    np.testing.assert_allclose(columns["TIME"], [0, 50, 0, 24])


def test_the_29th_of_february_needs_its_year(tmp_path):
    with pytest.raises(PkpdError, match="'2-29' is no date; allowed: m/d/y, or m/d without a year"):
        items(tmp_path, "d.csv", "ID DATE=DROP TIME AMT DV", "1,2-29,8,5,.\n")


@pytest.mark.parametrize(
    ("options", "years", "days"),
    [("", ("50", "51"), -36160), ("", ("49", "50"), 365), ("LAST20=49", ("49", "50"), -36160)],
)
def test_years_of_two_digits_are_of_the_century_that_last20_says(tmp_path, options, years, days):
    """By default 00 to 50 are 2000 to 2050 and 51 to 99 are 1951 to 1999 (NONMEM Help, DATE)."""
    rows = "".join(f"1,1/1/{year},0:00,.,{k}\n" for k, year in enumerate(years))
    found = items(tmp_path, f"d.csv {options}", "ID DATE=DROP TIME AMT DV", rows)
    columns = event_columns(found, np.zeros(2, int))
    assert columns["TIME"][1] == 24 * days


def test_problems_are_chosen_by_number():
    problems = read_records(["$PROB one", "$THETA 1", "$PROBLEM two", "$THE 2"], "run.mod")
    with pytest.raises(PkpdError, match="none with data and estimation; allowed: 1 one; 2 two"):
        choose_problem(problems, None, "run.mod")
    records = ["$INPUT ID", "$DATA d.csv", "$THETA 3"]
    text = ["$PROB first", *records, "$PROB second", *records, "$EST METHOD=0", "$PROB third"]
    assert choose_problem(read_records(text, "run.mod"), None, "run.mod").title == "second"
    assert choose_problem(problems, 2, "run.mod").records[0].text == "2"
    with pytest.raises(PkpdError, match=r"line 2: \$FOO is no record"):
        read_records(["$PROB x", "$FOO 1"], "run.mod")


def test_include_is_a_record_with_and_without_its_sign():
    lines = ["$PROB x", "include patients", "$PK", "CL = 1", "  INCLUDE pk.txt"]
    assert [r.name for r in read_records(lines, "run.mod")[0].records] == ["PK", "INCLUDE"]
