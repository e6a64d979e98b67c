"""Slips in a stream: what NM-TRAN refuses is refused, what it reads over is told."""

from __future__ import annotations

import warnings

import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from tests.nonmem.streams import ADVAN1, DATA, INPUT, written

AGED = ADVAN1.replace("LEVEL\n", "LEVEL AGE\n")


def with_equations(*lines):
    """Write the stream with two compartments and these equations."""
    head = "$SUBS ADVAN13 TOL=9\n$MODEL COMP=(CENTRAL) COMP=(URINE)\n"
    des = "\n".join(("$DES", "DADT(1) = -CL/V*A(1)", *lines, "$ERROR"))
    return ADVAN1.replace("$SUBROUTINES ADVAN1 TRANS2\n", head).replace("$ERROR", des)


def told(tmp_path, text, data=DATA):
    """Read a stream; give it, and the sentences that were told."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", PkpdWarning)
        stream = written(tmp_path, text, data)
    return stream, [str(one.message) for one in found if issubclass(one.category, PkpdWarning)]


def test_a_compartment_without_an_equation_is_refused(tmp_path):
    words = r"line 10, \$DES: DADT\(2\) is never set, and \$MODEL has 2 compartments \(2 is URINE\)"
    with pytest.raises(PkpdError, match=words):
        written(tmp_path, with_equations())
    more = ("DADT(2) = CL/V*A(1)", "DADT(3) = 0")
    with pytest.raises(PkpdError, match=r"line 13, \$DES: DADT\(3\) is set, and \$MODEL has 2"):
        written(tmp_path, with_equations(*more))


def test_an_equation_in_a_branch_is_one(tmp_path):
    lines = ("IF (WT.GT.60) THEN", "DADT(2) = CL/V*A(1)", "ENDIF")
    assert written(tmp_path, with_equations(*lines)).structure.program.compartments.size == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [("WT/70", "WT/70*AGE"), ("IGNORE=@", "IGNORE=@ IGNORE=(AGE.GT.80)"), ("AGE", "SS")],
)
def test_a_column_that_the_data_lack_is_told_where_something_reads_it(tmp_path, old, new):
    stream, found = told(tmp_path, AGED.replace(old, new, 1))
    name = "SS" if new == "SS" else "AGE"
    assert len(found) == 1
    assert f"d.csv has no column for {name}, which $INPUT names and the model reads" in found[0]
    assert "the value is 0 in every record" in stream.summary()


def test_a_column_that_the_data_lack_is_not_told_where_nothing_reads_it(tmp_path):
    unread = AGED.replace("S1 = V\n", "S1 = V\nOLD = AGE/40\n")
    assert told(tmp_path, unread)[1] == []
    some = DATA.replace("1.4,80,4", "1.4,80,4,33")
    assert told(tmp_path, AGED.replace("WT/70", "WT/70*AGE"), some)[1] == [
        "d.csv, line 2, column AGE: 8 records have no AGE, which NM-TRAN reads as 0; write its "
        "value in every record."
    ]  # the column is there


@pytest.mark.parametrize("start", ["(0,0)", "(-1,7,7)", "(3,3,9)"])
def test_a_start_at_a_bound_is_told(tmp_path, start):
    stream, found = told(tmp_path, ADVAN1.replace("(0,20)", f"\n{start}"))
    value = start.strip("()").split(",")[1]
    assert len(found) == 1
    assert f"run1.mod, line 12, $THETA: THETA2 starts at its bound {value} and" in found[0]
    assert {p.name: p.scale for p in stream.model.parameters}["THETA2"] == "identity"
    assert told(tmp_path, ADVAN1.replace("(0,20)", start + " FIX"))[1] == []


def test_three_equal_values_of_a_theta_are_one_that_is_fixed(tmp_path):
    stream, found = told(tmp_path, ADVAN1.replace("(0,20)", "(20,20,20)"))
    assert found == []
    assert stream.structure.program.thetas[1].held


def test_a_fit_moves_a_theta_that_starts_at_a_bound_without_its_bounds(tmp_path):
    text = INPUT + "$PRED\nY = THETA(1) + ETA(1) + EPS(1)\n$THETA (5,5)\n$OMEGA 1\n$SIGMA 4\n"
    stream, found = told(tmp_path, text)
    assert len(found) == 1
    fit = pkpd.fit(stream.model, stream.data, method="focei", progress=False, covariance=None)
    assert fit.estimates["THETA1"] < 4.9


@pytest.mark.parametrize(
    ("code", "option", "what"),
    [
        ("F_FLAG = 1\nY = EXP(-F/9)", "", "F_FLAG"),
        ("Y = EXP(-F/9)", "LIKE", "LIKELIHOOD"),
        ("Y = F/9", "-2LL", "-2LL"),
    ],
)
def test_a_likelihood_without_laplacian_is_told(tmp_path, code, option, what):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", code) + option
    _, found = told(tmp_path, text)
    assert len(found) == 1
    assert f"$ESTIMATION: {what} makes Y a likelihood, for which NONMEM asks" in found[0]
    assert found[0].endswith("is that of FOCE INTERACTION.")
    assert told(tmp_path, text + " LAPLACIAN")[1] == []


@pytest.mark.parametrize(("limit", "count"), [("0.1", 0), ("3.1", 1), ("THETA(1)", 1)])
def test_a_likelihood_that_no_record_asks_for_is_not_told(tmp_path, limit, count):
    code = f"LOW = {limit}\nF_FLAG = 0\nIF (DV.LT.LOW) F_FLAG = 1\nY = F*(1+EPS(1))"
    assert len(told(tmp_path, ADVAN1.replace("Y = F*(1+EPS(1))", code))[1]) == count


def test_observations_without_a_value_are_told(tmp_path):
    """NM-TRAN reads an empty DV as 0, which a fit would take for a measurement."""
    some = DATA.replace("3.2,80,3", ".,80,3").replace("1.4,80", ",80")
    stream, found = told(tmp_path, ADVAN1, some)
    assert found == [
        "d.csv, line 4: 2 observations have no DV, which NM-TRAN reads as 0; write MDV = 1 where "
        "nothing was measured."
    ]
    assert stream.data.observations.value[1] == 0


@pytest.mark.parametrize("cell", [".", ""])
def test_covariates_without_a_value_are_told(tmp_path, cell):
    """NM-TRAN reads an empty weight as 0, which gives that record no clearance."""
    some = DATA.replace("3.2,80,3", f"3.2,{cell},3")
    _, found = told(tmp_path, ADVAN1, some)
    assert found == [
        "d.csv, line 4, column WT: 1 record has no WT, which NM-TRAN reads as 0; write its value "
        "in every record."
    ]
    assert told(tmp_path, ADVAN1.replace("WT/70", "1"), some)[1] == []


def test_limits_that_doses_lack_are_not_told(tmp_path):
    """What only $ERROR reads acts at observations alone."""
    code = "W = 1 + LEVEL\nY = F + W*EPS(1)"
    text = ADVAN1.replace("Y = F*(1+EPS(1))", code)
    for line in DATA.splitlines()[1:]:
        *cells, _ = line.split(",")
        _, found = told(tmp_path, text, DATA.replace(line, ",".join((*cells, "."))))
        assert len(found) == (cells[5] == "0")


@pytest.mark.parametrize("evid", ["0", "2"])
def test_amounts_that_are_no_doses_are_told(tmp_path, evid):
    """PREDPP stops there; the amount was passed over."""
    some = DATA.replace("1,4,.,.,1,0,0,3.2", f"1,4,50,.,1,{evid},{min(int(evid), 1)},3.2")
    stream, found = told(tmp_path, ADVAN1, some)
    assert found == [
        f"d.csv, line 4, column AMT: 50 on a record with EVID {evid} (1 in all), where PREDPP "
        "stops; it is passed over: write EVID 1, or 0 there."
    ]
    assert stream.data.events.amt.sum() == 250


def test_values_at_doses_are_told(tmp_path):
    """PREDPP wants MDV 1 at every event that is no observation."""
    some = DATA.replace("0,100,0,1,1,1,.", "0,100,0,1,1,0,12").replace("1,1,1,.,55", "1,1,0,.,55")
    stream, found = told(tmp_path, ADVAN1, some)
    assert found == [
        "d.csv, line 2, column MDV: 0 on a record with EVID 1 (2 in all), where PREDPP stops; its "
        "DV is no observation: write MDV 1."
    ]
    assert 12.0 not in stream.data.observations.value
