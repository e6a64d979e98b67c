"""Readers of what NONMEM wrote: listings of several versions, files of iterations, tables."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.nonmem import read_estimates, read_iterations, read_listing, read_table

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("PKPD_REFERENCE", ROOT.parent / "shared" / "oracles")) / "ddmore"
beside = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no reference folder (PKPD_REFERENCE or ../shared/oracles)"
)

STARS = " " + "*" * 120
TITLE = f"{STARS}\n ********{{:^102}}********\n{STARS}\n"
# as NONMEM 7.3 prints: a page ends within SIGMA, eleven numbers in a line
LISTING = (
    """\
$PROB phenobarbital
$INPUT ID TIME AMT DV
$DATA d.csv
$PRED
Y = THETA(1) + ETA(1) + EPS(1)
$THETA 1 1
$OMEGA BLOCK(2) .1 .01 .1
$SIGMA .1

NM-TRAN MESSAGES

 NO. OF DATA RECS IN DATA SET:      744
 TOT. NO. OF OBS RECS:      155
 TOT. NO. OF INDIVIDUALS:     59
 #METH: First Order Conditional Estimation with Interaction

0ITERATION NO.:    0    OBJECTIVE VALUE:   599.881255166536        NO. OF FUNC. EVALS.:   4
 #TERM:
0MINIMIZATION SUCCESSFUL
 HOWEVER, PROBLEMS OCCURRED WITH THE MINIMIZATION.
 NO. OF FUNCTION EVALUATIONS USED:      180

 ETABAR IS THE ARITHMETIC MEAN OF THE ETA-ESTIMATES,
 AND THE P-VALUE IS GIVEN FOR THE NULL HYPOTHESIS THAT THE TRUE MEAN IS 0.

 ETABAR:         1.3904E-02 -4.7672E-03
 SE:             4.5792E-02  2.2134E-02
 N:                      59          59

 P VAL.:         7.6141E-01  8.2947E-01

 ETAshrink(%):   5.0865E+00
                 1.3913E+01
 EBVshrink(%):   6.4250E+00  1.2960E+01
 EPSshrink(%):   8.4781E+00

 #TERE:
 Elapsed estimation time in seconds:    11.25
"""
    + " #OBJV:********************************************      586.276       ****************\n1\n"
    + "{final}{error}"
    + TITLE.format("EIGENVALUES OF COR MATRIX OF ESTIMATE")
    + """

             1         2         3         4         5

         1.00E-01  4.00E-01  9.00E-01  1.60E+00  2.00E+00

 #CPUT: Total CPU Time in Seconds,        0.163
Stop Time:
"""
)
VALUES = """
 THETA - VECTOR OF FIXED EFFECTS PARAMETERS   *********


         TH 1      TH 2

         {0}


 OMEGA - COV MATRIX FOR RANDOM EFFECTS - ETAS  ********


            ETA1      ETA2

 ETA1
+        {1}

 ETA2
+        {2}  {3}



 SIGMA - COV MATRIX FOR RANDOM EFFECTS - EPSILONS  ****

1

            EPS1

 EPS1
+        {4}

1


 OMEGA - CORR MATRIX FOR RANDOM EFFECTS - ETAS  *******

            ETA1      ETA2

 ETA1
+        5.00E-01
"""


def listing(folder, **changes):
    final = TITLE.format("FINAL PARAMETER ESTIMATE") + VALUES.format(
        "5.25E-03  1.40E+00", "1.30E-01", "4.00E-02", "9.00E-02", "1.51E-02"
    )
    error = TITLE.format("STANDARD ERROR OF ESTIMATE") + VALUES.format(
        "2.10E-04  7.00E-02", "3.00E-02", ".........", "2.00E-02", "2.51E-03"
    )
    text = LISTING.replace("{final}", final).replace("{error}", error)
    for old, new in changes.items():
        text = text.replace(old.replace("_", " "), new)
    path = folder / "run1.lst"
    path.write_text(text)
    return path


def test_a_listing_with_all_its_parts(tmp_path):
    found = read_listing(str(listing(tmp_path)))
    assert found.problem.title == "phenobarbital"
    assert found.counts == {"records": 744, "observations": 155, "individuals": 59}
    assert (found.first, found.last, found.seconds) == (599.881255166536, 586.276, 11.25)
    assert found.final.theta.tolist() == [0.00525, 1.4]
    assert found.final.omega.tolist() == [[0.13, 0.04], [0.04, 0.09]]
    assert found.final.sigma.tolist() == [[0.0151]]
    assert found.errors.theta.tolist() == [0.00021, 0.07]
    assert found.errors.omega.tolist() == [[0.03, 0.0], [0.0, 0.02]]
    assert found.errors.sigma.tolist() == [[0.00251]]
    assert found.successful
    assert found.termination[:2] == (
        "MINIMIZATION SUCCESSFUL",
        "HOWEVER, PROBLEMS OCCURRED WITH THE MINIMIZATION.",
    )
    assert found.eta_bar == (0.013904, -0.0047672)
    assert found.eta_bar_error == (0.045792, 0.022134)
    assert found.eta_bar_p == (0.76141, 0.82947)
    assert found.eta_shrinkage == (5.0865, 13.913)
    assert found.epsilon_shrinkage == (8.4781,)
    assert found.eigenvalues == (0.1, 0.4, 0.9, 1.6, 2.0)
    assert found.condition_number == pytest.approx(20.0)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path, end):
    path = listing(tmp_path)
    plain = read_listing(path)
    path.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", end.encode()))
    other = read_listing(path)
    assert other.final.sigma.tolist() == plain.final.sigma.tolist()
    assert (other.eta_bar, other.eigenvalues) == (plain.eta_bar, plain.eigenvalues)
    assert other.problem.title == plain.problem.title


@pytest.mark.parametrize(
    ("words", "successful"),
    [
        ("0MINIMIZATION TERMINATED\n DUE TO ROUNDING ERRORS (ERROR=134)", False),
        (" OPTIMIZATION COMPLETED", True),
        (" OPTIMIZATION NOT TESTED", None),
    ],
)
def test_how_the_search_ended(tmp_path, words, successful):
    path = listing(tmp_path)
    path.write_text(path.read_text().replace("0MINIMIZATION SUCCESSFUL", words))
    assert read_listing(path).successful is successful


EXT = """TABLE NO.     1: First Order Conditional Estimation with Interaction
 ITERATION    THETA1       THETA2       SIGMA(1,1)   OMEGA(1,1)   OMEGA(2,1)   OMEGA(2,2)   OBJ
            0  1.00000E+00  1.00000E+00  1.00000E-01  1.00000E-01  1.00000E-02  1.00000E-01  99.5
  -1000000000  5.25000E-03  1.40000E+00  1.51000E-02  1.30000E-01  4.00000E-02  9.00000E-02  58.6
  -1000000001  2.10000E-04  7.00000E-02  2.51000E-03  3.00000E-02  1.00000E+10  2.00000E-02  0.0
"""


def test_a_file_of_iterations(tmp_path):
    path = tmp_path / "run1.ext"
    path.write_text(EXT)
    estimates, objective = read_estimates(path)
    assert objective == 58.6
    assert estimates.theta.tolist() == [0.00525, 1.4]
    assert estimates.omega.tolist() == [[0.13, 0.04], [0.04, 0.09]]
    assert estimates.sigma.tolist() == [[0.0151]]
    rows = read_iterations(path)
    assert rows["ITERATION"].tolist() == [0, -1000000000, -1000000001]
    # of two steps the last counts
    path.write_text(EXT + EXT.replace("TABLE NO.     1", "TABLE NO.     2").replace("58.6", "57.0"))
    assert read_estimates(path)[1] == 57.0


def test_tables_with_repeated_headers_and_commas(tmp_path):
    path = tmp_path / "sdtab1"
    header = " ID          TIME        DV"
    path.write_text(f"TABLE NO.  1\n{header}\n 1.0E+00 0 2.5\n{header}\n 1.0E+00 1 Inf\n")
    table = read_table(path)
    assert table["ID"].tolist() == [1.0, 1.0]
    assert np.isnan(table["DV"][1])
    path.write_text("ID,TIME,DV\n1,0,2.5\n")
    assert read_table(path)["DV"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("reader", "text", "words"),
    [
        (read_listing, "nothing of NONMEM's", "is no listing"),
        (read_table, "1 2 3\n", "is no table of NONMEM"),
        (read_table, "ID DV\n1 2\n1 2 3\n", "line 3: has 3 values, the header 2 names"),
        (read_iterations, "ID DV\n1 2\n", "has no table of iterations"),
        (read_estimates, "ITERATION THETA1 OBJ\n0 1 2\n", "no line of final estimates"),
    ],
)
def test_other_files_are_refused(tmp_path, reader, text, words):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(PkpdError, match=re.escape(words)):
        reader(path)
    with pytest.raises(PkpdError, match="cannot be read"):
        reader(tmp_path / "none")


@beside
@pytest.mark.reference
def test_published_listings():
    paths = sorted(FOLDER.glob("*/*.lst"))
    read = {p.parent.name + "/" + p.name: read_listing(p) for p in paths}
    # SIGMA stands after the end of a page
    assert read["244/Output_real_Rif_PK.lst"].final.sigma.tolist() == [[0.0555]]
    rifampicin = read["244/Output_real_Rif_PK.lst"]
    assert rifampicin.termination[1] == "DUE TO ROUNDING ERRORS (ERROR=134)"
    assert rifampicin.eta_shrinkage[-1] == 50.154
    assert len(rifampicin.eta_bar) == 14
    # eigenvalues of a correlation matrix add up to its size
    for name, found in read.items():
        if found.eigenvalues:
            assert sum(found.eigenvalues) == pytest.approx(len(found.eigenvalues), rel=2e-3), name
