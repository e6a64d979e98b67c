"""What is compared with NONMEM's output, and what a wrong number does."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from typer.testing import CliRunner

from pkpd.cli import app
from pkpd.nonmem.inspect_code import same_code
from pkpd.nonmem.listing import OWN, read_estimates, read_listing, read_table
from pkpd.nonmem.records import read_records
from pkpd.nonmem.stream import read_control_stream
from tests.nonmem.streams import INPUT, written

STREAM = (
    INPUT
    + """$PRED
Y = THETA(1) + ETA(1) + EPS(1)
$THETA 4 ; LEVEL
$OMEGA 0.5
$SIGMA 0.2
$EST METHOD=1 INTER
"""
)
LISTING = """Mon Jan  1 10:00:00 2024
{stream}
NM-TRAN MESSAGES

 NO. OF DATA RECS IN DATA SET:        9
 TOT. NO. OF OBS RECS:        {observations}
 TOT. NO. OF INDIVIDUALS:        2
 #METH: First Order Conditional Estimation with Interaction
0ITERATION NO.:    0    OBJECTIVE VALUE:   {first:.9f}        NO. OF FUNC. EVALS.:   4
 Elapsed estimation time in seconds:     0.25
 #OBJT:**************                       MINIMUM VALUE OF OBJECTIVE FUNCTION        ****
 #OBJV:********************************************     {last:.3f}       *****************
 ********************                 FINAL PARAMETER ESTIMATE            ****************

 THETA - VECTOR OF FIXED EFFECTS PARAMETERS   *********

         TH 1
         {theta:.2E}

 OMEGA - COV MATRIX FOR RANDOM EFFECTS - ETAS  ********

            ETA1

 ETA1
+        {omega:.2E}

 SIGMA - COV MATRIX FOR RANDOM EFFECTS - EPSILONS  ****

            EPS1

 EPS1
+        {sigma:.2E}

1
"""
TABLE = "TABLE NO.  1\n ID TIME PRED\n" + "1 0 3.75\n" * 5 + "2 0 3.75\n" * 4
AT_START, AT_END = (4.0, 0.5, 0.2), (3.75, 0.25, 2.5)


def exact(values):
    """-2 log likelihood of the linear model without its constant."""
    theta, omega, sigma = values
    out = 0.0
    for seen in ([4.1, 3.2, 3.0, 1.4], [5.5, 7.0, 2.5]):
        n = len(seen)
        v = omega * np.ones((n, n)) + sigma * np.eye(n)
        out -= 2 * multivariate_normal.logpdf(seen, np.full(n, theta), v) + n * np.log(2 * np.pi)
    return out


def with_listing(folder, stream=STREAM, observations=7, wrong=0.0, **values):
    read = written(folder, STREAM)
    theta, omega, sigma = values.get("end", AT_END)
    text = LISTING.format(
        stream=stream,
        observations=observations,
        first=exact(AT_START) + wrong,
        last=exact(AT_END),
        theta=theta,
        omega=omega,
        sigma=sigma,
    )
    (folder / "run1.lst").write_text(text)
    return read


def test_a_listing_that_agrees(tmp_path):
    found = with_listing(tmp_path).verify()
    assert found.verified
    assert [one.ours for one in found.compared] == pytest.approx(
        [exact(AT_START), exact(AT_END)], abs=1e-4
    )
    assert str(found).endswith("verified")
    assert "NOT" not in str(found)


def test_a_listing_that_pkpd_wrote_is_not_called_nonmems(tmp_path):
    stream = with_listing(tmp_path)
    listing = tmp_path / "run1.lst"
    listing.write_text(f"{OWN}\n{listing.read_text()}")
    told = str(stream.verify())
    assert "as written" in told
    assert "NONMEM " not in told
    assert told.endswith("nothing of NONMEM's was there to compare with")


def test_a_listing_of_another_method_is_not_compared(tmp_path):
    """A fit by FOCE-I of values below limits is written with a stream that says LAPLACIAN."""
    with_listing(tmp_path, wrong=0.3)
    text = STREAM.replace("METHOD=1 INTER", "METHOD=1 INTER LAPLACIAN")
    (tmp_path / "run1.mod").write_text(text)
    (tmp_path / "run1.ext").write_text("not read\n")
    found = read_control_stream(tmp_path / "run1.mod").verify()
    assert len(found.compared) == 1
    assert np.isnan(found.compared[0].nonmem)
    told = str(found)
    assert "is by First Order Conditional Estimation with Interaction, the stream asks" in told
    assert "run1.ext" not in told
    assert "DIFFERS" not in told


def test_a_listing_that_does_not_agree(tmp_path):
    found = with_listing(tmp_path, wrong=0.3).verify()
    assert not found.verified
    assert "(DIFFERS); ours is -0.300" in str(found)


@pytest.mark.parametrize(
    ("steps", "method", "compared"),
    [
        ("METHOD=0\n$EST METHOD=1 INTER", "Conditional Estimation with Interaction", 1),
        (
            "METHOD=1 INTER\n$EST MAXEVAL=0",
            "Conditional Estimation with Interaction (Evaluation)",
            2,
        ),
    ],
)
def test_a_step_after_another_does_not_begin_at_the_starting_values(
    tmp_path, steps, method, compared
):
    """The first objective of a listing is of the first step, the last of where that one ended."""
    with_listing(tmp_path)
    text = STREAM.replace("METHOD=1 INTER", steps)
    (tmp_path / "run1.mod").write_text(text)
    first = exact(AT_START) + (0.7 if compared == 1 else 0.0)
    values = dict(zip(("theta", "omega", "sigma"), AT_END, strict=True))
    listing = LISTING.format(
        stream=text, observations=7, first=first, last=exact(AT_END), **values
    ).replace("Conditional Estimation with Interaction", method)
    (tmp_path / "run1.lst").write_text(listing)
    found = read_control_stream(tmp_path / "run1.mod").verify()
    assert found.verified
    assert len(found.compared) == compared
    assert ("the objective at the starting values is that of FO" in str(found)) == (compared == 1)


def test_listings_of_other_streams_and_data_are_not_compared(tmp_path, monkeypatch):
    other = STREAM.replace("+ ETA(1)", "+ 2*ETA(1)")
    found = with_listing(tmp_path, stream=other).verify()
    assert not found.verified
    assert "its $PRED differs" in str(found)
    stream = with_listing(tmp_path, observations=8)
    found = stream.verify()
    assert "of other data (8 observations, here 7)" in str(found)
    assert "nothing of what NONMEM wrote was compared" in str(found)
    assert "NOT verified" in str(found)
    # neither are the estimates and the table of that run
    written_estimates(tmp_path / "run1.ext", 3.0)
    (tmp_path / "sdtab1").write_text(TABLE)
    found = stream.verify()
    assert [one.what for one in found.compared] == ["objective (focei) at the starting values"]
    assert "sdtab1 is not compared: the estimates beside it are of another run" in str(found)
    written_estimates(tmp_path / "run2.ext", 3.0)  # nor is its table at estimates of another
    (tmp_path / "run1.tab").write_text(TABLE)
    named = stream.verify([tmp_path / f for f in ("run1.lst", "run1.tab", "run2.ext")])
    assert not [one for one in named.compared if "PRED" in one.what]
    assert "run1.tab is not compared" in str(named)
    (tmp_path / "run1.tab").unlink()
    monkeypatch.chdir(tmp_path)  # however its files are named
    assert str(stream.verify(["run1.lst", "sdtab1"])) == str(found)
    assert "nothing of NONMEM's" in str(stream.verify([]))


def test_only_tables_that_the_stream_writes_are_compared(tmp_path):
    """Every file of the folder with "tab" in its name was, of whichever run."""
    with_listing(tmp_path)
    (tmp_path / "run1.mod").write_text(STREAM + "$TABLE ID TIME PRED FILE=sdtab1 NOPRINT\n")
    stream = read_control_stream(tmp_path / "run1.mod")
    (tmp_path / "sdtab2").write_text(TABLE.replace("3.75", "9.99"))
    assert stream.verify().verified
    (tmp_path / "sdtab1").write_text(TABLE)
    found = stream.verify()
    assert found.verified
    assert "PRED of sdtab1" in str(found)
    assert "sdtab2" not in str(found)


@pytest.mark.parametrize(
    ("mine", "its", "name"),
    [
        ("$SUBROUTINES ADVAN2 TRANS2", "$SUBS ADVAN=ADVAN4 TRANS=TRANS4", "SUBROUTINES"),
        ("$SUBR ADVAN13 TOL=9", "$SUBROUTINE ADVAN13 TOL=6", ""),
        ("$MODEL COMP=(A) COMP=(B)", "$MODEL COMP=(A) COMP=(C)", "MODEL"),
        ("$MODEL COMP=(A)", "$MODEL  COMP=(a)", ""),
        ("$MODEL COMP = (A, DEFOBS) COMP=", "$MODEL COMP=(A,DEFOBS) COMP", ""),
    ],
)
def test_a_listing_of_another_structure_is_of_another_stream(mine, its, name):
    one, other = (read_records(["$PROB a", text], "x")[0] for text in (mine, its))
    assert same_code(one, other) == name


def written_estimates(path, theta):
    names = "ITERATION THETA1 SIGMA(1,1) OMEGA(1,1) OBJ"
    path.write_text(f"TABLE NO. 1\n {names}\n -1000000000 {theta} 2.5 0.25 77\n")


def test_estimates_that_are_named_come_before_those_beside_the_stream(tmp_path):
    stream, other = with_listing(tmp_path), tmp_path / "results"
    other.mkdir()
    (tmp_path / "run1.lst").rename(other / "run1.lst")
    written_estimates(tmp_path / "run1.ext", 9.0)
    (other / "sdtab1").write_text(TABLE)
    named = [other / "run1.lst", other / "sdtab1"]
    assert stream.verify(named).verified
    # a listing has three digits, its file of iterations all
    written_estimates(other / "run1.ext", 3.0)
    assert stream.verify(named).compared[-1].ours == pytest.approx(3.0)


def test_a_table_without_estimates_is_compared_at_the_starting_values(tmp_path):
    stream = written(tmp_path, STREAM)
    (tmp_path / "sdtab1").write_text(TABLE)
    assert "at the starting values, as there are no estimates" in str(stream.verify())


def test_the_starting_values_are_those_of_the_listing(tmp_path):
    found = with_listing(tmp_path, stream=STREAM).verify()
    moved = STREAM.replace("$THETA 4", "$THETA 9")
    (tmp_path / "run1.mod").write_text(moved)
    again = read_control_stream(tmp_path / "run1.mod").verify()
    assert again.compared[0].ours == pytest.approx(found.compared[0].ours, abs=1e-9)


def test_a_listing_is_a_stream_too(tmp_path):
    with_listing(tmp_path)
    stream = read_control_stream(tmp_path / "run1.lst")
    assert stream.labels == {"THETA1": "LEVEL"}
    assert stream.verify().verified


def test_parts_of_a_listing(tmp_path):
    with_listing(tmp_path)
    found = read_listing(tmp_path / "run1.lst")
    assert found.seconds == 0.25
    assert not found.evaluation
    np.testing.assert_allclose(found.final.theta, [3.75])
    np.testing.assert_allclose(found.final.sigma, [[2.5]])


def test_files_of_estimates_and_tables(tmp_path):
    stream = written(tmp_path, STREAM)
    names = "ITERATION THETA1 SIGMA(1,1) OMEGA(1,1) OBJ"
    rows = [names, f"-1000000000 3.75 2.5 0.25 {exact(AT_END):.9f}", "-1000000001 0 0 0 0"]
    (tmp_path / "run1.ext").write_text("TABLE NO. 1\n" + "\n".join(rows) + "\n")
    estimates, objective = read_estimates(tmp_path / "run1.ext")
    assert (estimates.theta[0], objective) == (3.75, pytest.approx(exact(AT_END)))
    (tmp_path / "sdtab1").write_text(TABLE)
    assert list(read_table(tmp_path / "sdtab1")["PRED"]) == [3.75] * 9
    found = stream.verify()
    assert found.verified
    assert [one.what.split(" ")[0] for one in found.compared] == ["objective", "PRED"]
    (tmp_path / "sdtab1").write_text(TABLE.replace("3.75", "3.60"))
    assert not stream.verify().verified


def test_a_table_is_of_the_estimates_of_any_listing_beside_it(tmp_path):
    stream, other = with_listing(tmp_path), tmp_path / "results"
    other.mkdir()
    (other / "sdtab1").write_text(TABLE)
    (tmp_path / "sdtab1").write_text(TABLE)
    (tmp_path / "run1.lst").rename(tmp_path / "run1.res")
    assert stream.verify().compared[-1].agrees
    (tmp_path / "run1.res").rename(other / "run1.lst")
    assert stream.verify([other / "run1.lst", other / "sdtab1"]).compared[-1].agrees


def test_import_writes_a_script_that_runs_and_verifies(tmp_path, capsys):
    with_listing(tmp_path)
    done = CliRunner().invoke(app, ["import", str(tmp_path / "run1.mod")])
    assert done.exit_code == 0, done.output
    assert "verified" in done.output
    script = (tmp_path / "run1.py").read_text()
    assert '"THETA1": 4.0,  # LEVEL' in script
    found = runpy.run_path(str(tmp_path / "run1.py"))
    assert "verified" in capsys.readouterr().out
    assert found["stream"].structure.start["THETA1"] == 4.0


def test_import_does_not_write_over_a_script_that_was_edited(tmp_path):
    with_listing(tmp_path)
    asked = ["import", str(tmp_path / "run1.mod")]
    script = tmp_path / "run1.py"
    assert CliRunner().invoke(app, asked).exit_code == 0
    written, mine = script.read_text(), script.read_text() + "# mine\n"
    assert CliRunner().invoke(app, asked).exit_code == 0  # as it would be written
    script.write_text(mine)
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "run1.py: it has other contents than pkpd import would write" in done.output
    assert "--out" in done.output
    assert script.read_text() == mine
    out = tmp_path / "other.py"
    assert CliRunner().invoke(app, [*asked, "--out", str(out)]).exit_code == 0
    assert out.read_text() == written
    assert CliRunner().invoke(app, [*asked, "--overwrite"]).exit_code == 0
    assert script.read_text() == written


def test_import_tells_what_differs_and_what_is_refused(tmp_path):
    with_listing(tmp_path, wrong=1.0)
    assert CliRunner().invoke(app, ["import", str(tmp_path / "run1.mod")]).exit_code == 1
    (tmp_path / "run1.mod").write_text(STREAM + "$PRIOR NWPRI\n")
    done = CliRunner().invoke(app, ["import", str(tmp_path / "run1.mod")])
    assert done.exit_code == 2
    assert "$PRIOR: has no NTHETA" in done.output


def test_an_objective_that_is_not_finite_is_told_with_its_individuals(tmp_path):
    text = (
        INPUT
        + """$PRED
Y = THETA(1)*(1 + EPS(1))
IF (ID.EQ.2) Y = LOG(-THETA(1))*(1 + EPS(1)) + ETA(1)
$THETA 4
$OMEGA 0.5
$SIGMA 0.2
$EST METHOD=1 INTER
"""
    )
    told = str(written(tmp_path, text).verify([]))
    assert "at the starting values: no finite number; individuals 2 have no likelihood" in told


def test_a_table_beside_estimates_of_another_stream_is_not_compared(tmp_path):
    stream = with_listing(tmp_path)
    (tmp_path / "run1.lst").unlink()
    names = "ITERATION THETA1 THETA2 SIGMA(1,1) OMEGA(1,1) OBJ"
    (tmp_path / "run1.ext").write_text(f"TABLE NO. 1\n {names}\n -1000000000 1 2 1 1 5\n")
    (tmp_path / "sdtab1").write_text("TABLE NO.  1\n ID TIME PRED\n" + "1 0 3.75\n" * 9)
    told = str(stream.verify())
    assert "sdtab1 is not compared: run1.ext has (2, 1, 1) fixed effects" in told
