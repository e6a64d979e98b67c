"""Compartments and variables of records other than observations."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.data import read_nonmem
from pkpd.errors import DataError
from pkpd.nonmem.stream import read_control_stream
from tests.nonmem.streams import means_and_sds, predictor_of, written

HEAD = "ID,TIME,AMT,RATE,CMT,EVID,MDV,DV,OCC\n"
DATA = HEAD + "1,0,100,0,1,1,1,.,1\n1,1,.,.,2,0,0,4,1\n1,2,100,0,1,1,1,.,2\n1,3,.,.,2,0,0,4,2\n"
STREAM = """$PROB doses and observations in two compartments
$INPUT ID TIME AMT RATE CMT EVID MDV DV OCC
$DATA d.csv IGNORE=@
$SUBROUTINES ADVAN2 TRANS2
$PK
CL = THETA(1)*EXP(ETA(1))
V = THETA(2)
KA = 1
S2 = V
$ERROR
Y = F + EPS(1)
$THETA (0,1) (0,10) (0,0.5)
$OMEGA 0.1
$SIGMA 1
"""
GENERAL = "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(DEPOT,DEFDOSE) COMP=(CENTRAL,DEFOBS)\n"
LINEAR = "$DES\nDADT(1) = -KA*A(1)\nDADT(2) = KA*A(1) - CL/V*A(2)\n"
NONLINEAR = LINEAR.replace("CL/V*A(2)", "CL/V*A(2)/(1+1D-9*A(2))")


def predictions(folder, old="", new="", data=DATA, stream=STREAM):
    assert old in stream
    return means_and_sds(written(folder, stream.replace(old, new), data))[0]


def in_general(des):
    """The stream with equations of its own."""
    return STREAM.replace("$SUBROUTINES ADVAN2 TRANS2\n", GENERAL).replace("$ERROR", f"{des}$ERROR")


@pytest.mark.parametrize(
    ("always", "once"),
    [
        ("KA = 1\nF1 = THETA(3)", "KA = 1\nIF (NEWIND.NE.2) F1 = THETA(3)"),
        ("KA = 1\nF1 = THETA(3)\nALAG1 = 0.5", "KA = 1\nIF (EVID.EQ.1) F1 = THETA(3)\nALAG1 = 0.5"),
        ("V = THETA(2)", "IF (NEWIND.NE.2) V = THETA(2)"),
        ("V = THETA(2)", "IF (NEWIND.NE.2) TVV = THETA(2)\nV = TVV"),
    ],
)
def test_what_compartments_read_keeps_its_value_as_other_variables_do(tmp_path, always, once):
    """A parameter that only some records set is the same at the others."""
    old = always.split("\n")[0]
    wanted = predictions(tmp_path, old, always)
    np.testing.assert_allclose(predictions(tmp_path, old, once), wanted, rtol=1e-12)


def test_a_parameter_that_no_record_sets_is_0(tmp_path):
    found = predictions(tmp_path, "KA = 1\n", "KA = 1\nIF (OCC.EQ.9) F1 = THETA(3)\n")
    np.testing.assert_array_equal(found, 0.0)


def test_f_at_a_dose_is_of_the_observed_compartment_or_that_of_pcmt(tmp_path):
    code = "IF (NEWIND.NE.2) OLD = 0\nIF (EVID.EQ.1) OLD = F\nY = F + OLD + EPS(1)"
    f = predictions(tmp_path)
    seen = DATA.replace("1,2,100,0,1,1,1,.,2", "1,2,.,.,2,0,0,4,2")
    at_two = predictions(tmp_path, data=seen)[1]
    found = predictions(tmp_path, "Y = F + EPS(1)", code)
    np.testing.assert_allclose(found, f + np.array([0.0, at_two]), rtol=1e-9)
    # the depot, just after its dose
    pcmt = DATA.replace(",OCC\n", ",PCMT\n").replace(".,2\n", ".,1\n")
    stream = STREAM.replace("DV OCC", "DV PCMT")
    found = predictions(tmp_path, "Y = F + EPS(1)", code, pcmt, stream)
    depot = 100 * np.array([1.0, 1.0 + np.exp(-2.0)])
    np.testing.assert_allclose(found, f + depot, rtol=1e-9)


@pytest.mark.parametrize("stream", [STREAM, in_general(NONLINEAR)])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1,1,.,.,2", "1,1,.,.,3", "row 3, ID 1, column CMT: compartment 3 is the output"),
        ("1,1,.,.,2", "1,1,.,.,5", "row 3, ID 1, column CMT: compartment 5 is not there"),
        ("2,100,0,1", "2,100,0,5", "row 4, ID 1, column CMT: compartment 5 is not there"),
    ],
)
def test_a_compartment_that_there_is_not_is_refused(tmp_path, stream, old, new, words):
    with pytest.raises(DataError, match=words):
        predictions(tmp_path, data=DATA.replace(old, new), stream=stream)


def test_a_compartment_that_there_is_not_is_a_name_of_rows_where_nothing_reads_f(tmp_path):
    """As of an effect, whose rows have a CMT of their own and which the code computes."""
    code = "IPRED = A(2)/S2\nIF (CMT.EQ.3) IPRED = 7 - A(2)\nY = IPRED + EPS(1)"
    data = DATA.replace("1,3,.,.,2", "1,3,.,.,3")
    amounts = 10 * predictions(tmp_path)
    found = predictions(tmp_path, "Y = F + EPS(1)", code, data)
    np.testing.assert_allclose(found, [amounts[0] / 10, 7 - amounts[1]], rtol=1e-9)


def test_initial_amounts_after_a_reset_are_those_of_its_record(tmp_path):
    data = HEAD + "1,0,.,.,2,0,0,4,1\n1,2,10,0,2,4,1,.,2\n1,3,.,.,2,0,0,4,2\n"
    found = [
        predictions(tmp_path, "KA = 1\n", "KA = 1\nA_0(2) = 10*OCC\n", data, in_general(des))
        for des in (LINEAR, NONLINEAR)
    ]
    np.testing.assert_allclose(found[0], [1.0, 3.0 * np.exp(-0.1)], rtol=1e-9)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


@pytest.mark.slow
def test_steps_are_chosen_at_values_that_are_kept(tmp_path):
    stream = in_general(NONLINEAR).replace("S2 = V", "S2 = THETA(2)")
    kept = stream.replace("V = THETA(2)\n", "IF (NEWIND.NE.2) V = THETA(2)\n", 1)
    assert kept != stream
    always, once = (
        predictor_of(written(tmp_path, text, DATA))[0].solving for text in (stream, kept)
    )
    assert once.options == always.options
    assert once.options.marches


@pytest.mark.parametrize(
    "slope",
    [
        "DADT(2) = KA*A(1) - CL/V*A(2)\nIF (OCC.EQ.2) DADT(2) = DADT(2) + 5",
        "X = A(2)\nIF (OCC.EQ.2) X = 3\nDADT(2) = KA*A(1) - CL/V*X",
    ],
)
@pytest.mark.slow
def test_equations_that_a_condition_gives_a_constant_are_not_taken_for_linear(tmp_path, slope):
    """As equations that nothing takes for linear."""
    whole = in_general(LINEAR).replace(LINEAR.split("\n", 2)[2], f"{slope}\n")
    plain = whole.replace("A(1)\n", "A(1)*(1+1D-12*A(1))\n", 1)
    assert plain != whole
    wanted = predictions(tmp_path, stream=plain)
    np.testing.assert_allclose(predictions(tmp_path, stream=whole), wanted, rtol=1e-3)


def test_a_constant_rate_that_drives_others_has_no_closed_form(tmp_path):
    model = "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(ONE,DEFDOSE,DEFOBS) COMP=(LATE)\n"
    des = "$DES\nX = A(1)\nIF (OCC.EQ.2) X = 3\nDADT(1) = -CL/V*X\nDADT(2) = A(1) - A(2)**2\n"
    stream = STREAM.replace("$SUBROUTINES ADVAN2 TRANS2\n", model).replace("S2 = V", "S1 = V")
    stream = stream.replace("$ERROR", f"{des}$ERROR").replace("Y = F", "Y = F + 0*A(2)")
    found = predictions(tmp_path, data=DATA.replace(".,.,2,0", ".,.,1,0"), stream=stream)
    first = 10 * np.exp(-0.1)
    np.testing.assert_allclose(found, [first, first + 10 - 2 * 0.03], rtol=1e-4)


def test_an_initial_amount_that_is_0_at_the_start_is_not_lost(tmp_path):
    """Linear compartments that drive others have a closed form, which begins at 0."""
    des = "DADT(3) = A(2) - A(3)**2\n"
    stream = in_general(LINEAR + des).replace("(CENTRAL,DEFOBS)", "(CENTRAL,DEFOBS) COMP=(LATE)")
    stream = stream.replace("KA = 1\n", "KA = 1\nA_0(2) = 100*ETA(1)\n")
    stream = stream.replace("Y = F", "Y = F + 0*A(3)")
    data = DATA.replace("1,0,100", "1,0,0.001")
    mean, _ = means_and_sds(written(tmp_path, stream, data), ETA1=0.2)
    np.testing.assert_allclose(mean[0], 2.0 * np.exp(-0.1 * np.exp(0.2)), rtol=1e-3)


def predicted(stream, data):
    bound = stream.structure.bind(data)
    start = {name: np.full(1, stream.structure.start[name]) for name in bound.parameters}
    return np.asarray(bound(start))


def test_records_that_ask_for_predictions_are_observations_of_their_own_time(tmp_path):
    """They had compartment and TIME of a dose near them: amounts in the depot were the answer."""
    old, new = "Y = F + EPS(1)", "Y = F + TIME + 10*EVID + EPS(1)"
    rows = "1,0.5,.,.,2,0,0,4,1\n1,2.5,.,.,2,0,0,4,2\n1,9,.,.,2,0,0,4,2\n"
    head, *lines = (DATA + rows).splitlines()
    lines.sort(key=lambda line: float(line.split(",")[1]))
    measured = written(tmp_path, STREAM.replace(old, new), "\n".join([head, *lines]) + "\n")
    at = measured.data.observations.time
    every = dict(zip(at, predicted(measured, measured.data), strict=True))
    doses = HEAD + "1,0,100,0,1,1,1,.,1\n1,2,100,0,1,1,1,.,2\n"
    (tmp_path / "doses.csv").write_text(doses)
    asked = read_control_stream(tmp_path / "run1.mod", data=tmp_path / "doses.csv").data
    found = predicted(measured, asked.at_times([0.5, 2.5, 9.0]))
    np.testing.assert_allclose(found, [every[0.5], every[2.5], every[9.0]], rtol=1e-9)


def test_data_that_the_stream_did_not_read_need_what_its_code_reads(tmp_path):
    """An item that was not there was 0: a typical value for age 0, without a word."""
    stream = written(tmp_path, STREAM.replace("KA = 1", "KA = 1 + OCC/10 + TIME/100"), DATA)
    table = tmp_path / "d.csv"
    lines = {2: "Y"}
    with pytest.raises(DataError, match=r"no OCC, which .*run1.mod reads.*covariates=\[\"OCC"):
        stream.structure.bind(read_nonmem(table, lines=lines))
    own = read_nonmem(table, lines=lines, covariates=["OCC"])
    np.testing.assert_allclose(predicted(stream, own), predicted(stream, stream.data), rtol=1e-9)
