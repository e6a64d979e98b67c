"""One error names all rows of a table that have no meaning, by kind of fault."""

import pytest

from pkpd import read_counts, read_nonmem
from pkpd.errors import DataError


def _told(read, path, text):
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read(path)
    return str(refused.value)


def test_records_of_every_kind_of_fault_are_named(tmp_path):
    told = _told(
        read_nonmem,
        tmp_path / "a.csv",
        "ID,TIME,AMT,EVID,DV,RATE\n1,0,-5,1,.,0\n1,1,0,0,3,5\n2,0,-7,1,.,0\n2,1,0,0,2,0\n",
    )
    assert "row 2, ID 1, column AMT: the amount -5 is negative" in told
    assert "The same in row 4." in told
    assert "row 3, ID 1, column RATE: 5 on a record with EVID 0" in told


def test_counts_of_every_kind_of_fault_are_named(tmp_path):
    rows = "".join(f"{k},1,-1,100\n" for k in range(2, 9))
    told = _told(read_counts, tmp_path / "b.csv", f"ID,DAY,ANC,PLT\n1,1,-2,100\n1,2,3,-5\n{rows}")
    assert "row 2, ID 1, column ANC: a count of neutrophils of -2" in told
    assert "The same in rows 4, 5, 6, 7 and 3 more." in told
    assert "row 3, ID 1, column PLT: a count of platelets of -5" in told


def test_second_counts_are_named_by_line(tmp_path):
    told = _told(
        read_counts,
        tmp_path / "c.csv",
        "ID,DAY,ANC,PLT\n1,1,2,100\n1,2,3,5\n1,2,4,30\n2,1,1,20\n2,1,1,.\n",
    )
    assert "row 4, ID 1: a second count of neutrophils at 24 h (the first is in row 3)" in told
    assert "The same in row 6." in told
    assert "row 4, ID 1: a second count of platelets" in told


def test_unknown_lines_are_named_and_the_known_ones_listed_once(tmp_path):
    told = _told(
        read_counts,
        tmp_path / "d.csv",
        "ID,DAY,LINE,VALUE\n1,1,ANC,2\n1,2,AN,5\n1,3,XX,30\n2,1,AN,20\n",
    )
    assert "row 3, ID 1, column LINE: 'AN' is no known line" in told
    assert "The same in row 5." in told
    assert "row 4, ID 1, column LINE: 'XX' is no known line" in told
    assert told.count("allowed:") == 1


def test_doses_of_every_kind_of_fault_are_named(tmp_path):
    counts = tmp_path / "counts.csv"
    counts.write_text("ID,DAY,ANC\n1,1,2\n")
    told = _told(
        lambda path: read_counts(counts, doses=path),
        tmp_path / "doses.csv",
        "ID,DAY,AMT,DURATION\n1,1,0,1\n1,2,10,-1\n1,3,.,1\n",
    )
    assert "row 2, ID 1, column AMT: '0' is no dose" in told
    assert "The same in row 4." in told
    assert "row 3, ID 1, column DURATION: an infusion of -1 h" in told
