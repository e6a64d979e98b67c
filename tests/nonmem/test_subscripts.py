"""Elements by label and by a computed number."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.nonmem.records import Line, Problem, Record
from pkpd.nonmem.subscripts import labelled
from tests.nonmem.streams import INPUT, written

CODE = """$PRED
%s
$THETA %s
$OMEGA %s
$SIGMA 0.2
$EST METHOD=1
"""


def read(folder, code, thetas="4 5", omegas="0.5"):
    return written(folder, INPUT + CODE % (code, thetas, omegas))


def test_labels_of_estimates_stand_for_their_numbers(tmp_path):
    labels = read(tmp_path, "Y = THETA(CL)+THETA(V)*ETA(EV)+EPS(1)", "CL=1 V=3", "EV=0.5")
    plain = read(tmp_path, "Y = THETA(1)+THETA(2)*ETA(1)+EPS(1)", "1 3", "0.5")
    assert labels.structure.program.error.statements == plain.structure.program.error.statements


def test_labels_count_what_stands_before_them():
    records = (
        Record("THETA", (Line(1, "2 (0,.1,1)x2"),), "run.mod"),
        Record("OMEGA", (Line(2, "BLOCK(2) 1 .1 1"),), "run.mod"),
        Record("THETA", (Line(3, "NUMBERPOINTS=3 ka = (0,1)"), Line(4, "V=3")), "run.mod"),
        Record("OMEGA", (Line(5, "DIAGONAL(2) 0.1 E=0.2 FIX"),), "run.mod"),
        Record("SIGMA", (Line(6, "S=1"),), "run.mod"),
    )
    assert labelled(Problem("", list(records))) == {
        "THETA(KA)": "THETA(4)",
        "THETA(V)": "THETA(5)",
        "ETA(E)": "ETA(4)",
        "EPS(S)": "EPS(1)",
        "ERR(S)": "ERR(1)",
    }


def test_labels_of_a_block_and_of_names_stand_for_their_numbers(tmp_path):
    """As ``$OMEGA BLOCK(n) NAMES(label1,...,labeln) VALUES(diag,odiag)`` of NONMEM's Help."""
    code = "Y = THETA(CL)+THETA(V)*ETA(EV)+ETA(ECL)*THETA(V)+EPS(1)"
    plain = read(
        tmp_path,
        "Y = THETA(1)+THETA(2)*ETA(2)+ETA(1)*THETA(2)+EPS(1)",
        "1 3",
        "BLOCK(2) 0.5 0.1 0.4",
    ).structure.program
    for thetas, omegas in (
        ("NAMES(CL, V) 1 3", "BLOCK(2) NAMES(ECL,EV) 0.5 0.1 0.4"),
        ("1 3 NAMES(CL V)", "BLOCK(2) FIX ECL=0.5\n0.1 ; covariance\nEV = 0.4"),
        ("CL=1 V=3", "BLOCK(2) names(ecl,ev) values(0.5,0.1)"),
    ):
        made = read(tmp_path, code, thetas, omegas).structure.program
        assert made.error.statements == plain.error.statements
        if "values" not in omegas:
            assert made.omegas[0].covariance.tolist() == plain.omegas[0].covariance.tolist()
        assert [theta.value for theta in made.thetas] == [1.0, 3.0]


def test_labels_of_blocks_count_what_stands_before_them():
    records = (
        Record("OMEGA", (Line(1, "0.1"),), "run.mod"),
        Record("OMEGA", (Line(2, "BLOCK(2) NAMES(A,B) 1 .1 1"),), "run.mod"),
        Record("OMEGA", (Line(3, "BLOCK(2) SAME"),), "run.mod"),
        Record(
            "OMEGA",
            (Line(4, "BLOCK(3) C=(1 SD)"), Line(5, ".1 D=1"), Line(6, ".1 .1 E=1")),
            "run.mod",
        ),
    )
    found = labelled(Problem("", list(records)))
    assert found == {
        f"ETA({name})": f"ETA({number})"
        for name, number in zip("ABCDE", (2, 3, 6, 7, 8), strict=True)
    }


@pytest.mark.parametrize(
    ("omegas", "words"),
    [
        ("BLOCK(2) NAMES(A) 0.5 0.1 0.4", "NAMES has A; allowed: a word for each of 2"),
        ("BLOCK(2) 0.5 A=0.1 0.4", "the label A stands before a covariance"),
        ("BLOCK(2) NAMES(A,A) 0.5 0.1 0.4", "the label A is there twice"),
    ],
)
def test_labels_of_nothing_are_refused(tmp_path, omegas, words):
    with pytest.raises(PkpdError) as error:
        read(tmp_path, "Y = THETA(1)+ETA(1)+EPS(1)", "1", omegas)
    assert words in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("V = THETA(2)\nY = THETA(V)+ETA(1)+EPS(1)", "THETA(V): its number depends on THETA(2)"),
        ("Y = THETA(LEVEL)+ETA(1)+EPS(1)", "row 4, ID 1: its number is 3; allowed: a whole"),
        ("N = LEVEL/2\nY = THETA(N)+ETA(1)+EPS(1)", "row 2, ID 1: its number is 0.5"),
        ("IND = EVID\nIF (EVID.EQ.0) IND = 1\nIF (ID.EQ.2) IND = 0\nY = THETA(IND)+ETA(1)+EPS(1)",
         "row 7, ID 2: its number is 0"),
    ],
)  # fmt: skip
def test_subscripts_that_name_no_element_are_refused(tmp_path, code, words):
    with pytest.raises(PkpdError) as error:
        read(tmp_path, code)
    assert words in str(error.value), str(error.value)


def test_subscripts_count_where_their_condition_holds(tmp_path):
    code = "X = 0\nIF (LEVEL.LE.2) X = THETA(LEVEL)\nIF (NEWIND.NE.2) IND = ID"
    stream = read(tmp_path, f"{code}\nY = X+THETA(IND)+ETA(1)+EPS(1)")
    bound = stream.structure.bind(stream.data)
    # levels 1, 2, 3, 3, 4 of subject 1 and 1, 2, 2, 3 of subject 2
    found = bound({**bound.structure.start, "ETA1": np.zeros(2)})
    levels = np.array([2, 3, 3, 4, 2, 2, 3])
    one = np.array([4, 4, 4, 4, 5, 5, 5])
    np.testing.assert_allclose(np.asarray(found)[-len(one) :], one + 5.0 * (levels == 2))
