"""``$PRIOR NWPRI``: both ways to write it, what follows from it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.nonmem.listing import Estimates
from pkpd.nonmem.values import at_estimates
from tests.nonmem.streams import INPUT, objective, written

PRED = """$PRED
Y = THETA(1)*EXP(ETA(1)) + THETA(2) + ETA(2) + ETA(3)*(LEVEL-2) + EPS(1)
"""
OWN = """$THETA (0,4) 0.5 FIX 0.2
$OMEGA BLOCK(2) 0.3 0.05 0.2
$OMEGA 0.1
$SIGMA 0.2
"""
USES = PRED.replace("EPS(1)", "EPS(1)*EXP(THETA(3))")
EST = "$EST METHOD=1 INTER\n"
NAMED = """$PRIOR NWPRI
$THETAP (3.5 FIX) (0.4 FIX) (0.1 FIX)
$THETAPV BLOCK(3) FIX
0.4
0.01 0.3
0.02 0.03 0.5
$OMEGAP BLOCK(2) FIX 0.25 0.02 0.15
$OMEGAP 0.08 FIX
$OMEGAPD (20 FIX) (10 FIX)
$SIGMAP 0.15 FIX
$SIGMAPD 12 FIX
"""
PLACED = """$PRIOR NWPRI NTHETA=3,NETA=3, NTHP=3 NETP=3
  NEPS=1 NEPP=1 NPEXP=1 PLEV=0.0
{own}
; means, degrees of freedom
$THETA (3.5 FIX) (0.4 FIX) (0.1 FIX)
$THETA (20 FIX) (10 FIX) (12 FIX)
$OMEGA BLOCK(3) FIX
0.4
0.01 0.3
0.02 0.03 0.5
$OMEGA BLOCK(2) FIX 0.25 0.02 0.15
$OMEGA 0.08 FIX
$SIGMA 0.15 FIX
"""


def stream(folder, prior=NAMED, own=OWN, est=EST):
    text = prior.format(own=own) if "{own}" in prior else own + prior
    return written(folder, INPUT + USES + text + est)


def by_hand(values):
    """The penalty, written anew; THETA(2) is fixed, so its row of the covariance is left out."""
    behind = np.array([values["THETA1"] - 3.5, values["THETA3"] - 0.1])
    out = behind @ np.linalg.solve([[0.4, 0.02], [0.02, 0.5]], behind)
    a, b, r = values["omega_ETA1"], values["omega_ETA2"], values["partial_ETA1_ETA2"]
    omega = np.array([[a * a, a * b * r], [a * b * r, b * b]])
    centre = np.array([[0.25, 0.02], [0.02, 0.15]])
    out += 20 * (np.log(np.linalg.det(omega)) + np.trace(centre @ np.linalg.inv(omega)))
    out += 10 * (np.log(values["omega_ETA3"] ** 2) + 0.08 / values["omega_ETA3"] ** 2)
    return out + 12 * (np.log(values["SIGMA1"] ** 2) + 0.15 / values["SIGMA1"] ** 2)


@pytest.mark.parametrize("prior", [NAMED, PLACED], ids=["named", "placed"])
def test_both_forms_give_the_same_objective(tmp_path, prior):
    one = stream(tmp_path, prior)
    joint = one.model.joint
    assert joint.names[:2] == ("THETA1", "THETA3")
    assert "prior: normal of THETA1 3.5 (SD 0.632456), THETA3 0.1" in one.summary()
    assert set(joint.names[2:]) == {
        "omega_ETA1", "omega_ETA2", "partial_ETA1_ETA2", "omega_ETA3", "SIGMA1",
    }  # fmt: skip
    free = MarginalLikelihood(bind(one.model, one.data), "focei").free
    values = free.values(free.start())
    assert float(joint.penalty(values, np)) == pytest.approx(by_hand(values), rel=1e-12)
    without = stream(tmp_path, "")
    assert without.model.joint is None
    added = objective(one, "focei") - objective(without, "focei")
    assert added == pytest.approx(by_hand(values), abs=1e-8)


def test_verification_adds_the_penalty(tmp_path):
    value = objective(stream(tmp_path), "focei")
    names = ["THETA1", "THETA2", "THETA3", "SIGMA(1,1)"]
    omegas = {"OMEGA(1,1)": 0.3, "OMEGA(2,1)": 0.05, "OMEGA(2,2)": 0.2}
    omegas |= {"OMEGA(3,1)": 0.0, "OMEGA(3,2)": 0.0, "OMEGA(3,3)": 0.1}
    table = "TABLE NO. 1: First Order Conditional Estimation with Interaction\n"
    table += " ".join(["ITERATION", *names, *omegas, "OBJ"]) + "\n"
    row = [4.0, 0.5, 0.2, 0.2, *omegas.values(), value]
    table += " ".join(["-1000000000", *(f"{v:.8E}" for v in row)]) + "\n"
    one = stream(tmp_path)
    (tmp_path / "run1.ext").write_text(table)
    found = one.verify()
    assert found.verified, str(found)
    # NOPRIOR of the last step: the same numbers are of another objective then
    other = stream(tmp_path, est=EST + "$EST METHOD=1 NOPRIOR=1\n")
    assert other.model.joint is None
    assert "$PRIOR is left out, as the last estimation step says NOPRIOR=1" in other.notes
    assert not other.verify().verified


def test_older_versions_print_hyperparameters_too(tmp_path):
    program = stream(tmp_path).structure.program
    assert program.prior.sizes == (6, 6, 1)
    theta = np.arange(1.0, 10.0)
    theta[1] = 0.5
    found = Estimates(theta, np.diag(np.arange(1.0, 10.0)), np.diag([4.0, 9.0]))
    values = at_estimates(program, found)
    assert (values["THETA1"], values["THETA3"]) == (1.0, 3.0)
    assert values["omega_ETA3"] == pytest.approx(3**0.5)
    assert values["SIGMA1"] == 2.0


def test_a_repeated_block_has_one_prior(tmp_path):
    own = OWN.replace("$OMEGA 0.1\n", "").replace("BLOCK(2)", "BLOCK(1)").replace(" 0.05 0.2", "")
    own = own.replace("$SIGMA", "$OMEGA BLOCK(1) SAME\n$OMEGA 0.1\n$SIGMA")
    prior = """$PRIOR NWPRI
$OMEGAP BLOCK(1) FIX 0.25
$OMEGAP BLOCK(1) SAME
$OMEGAP 0.08 FIX
$OMEGAPD (20 FIX) (10 FIX)
"""
    one = stream(tmp_path, prior, own)
    assert one.model.joint.names == ("SD_ETA1", "omega_ETA3")
    assert "the prior of a block that SAME repeats counts once" in one.notes


def test_what_is_fixed_or_flat_has_no_prior(tmp_path):
    own = OWN.replace("$OMEGA 0.1", "$OMEGA 0 FIX").replace("(0,4)", "4 FIX")
    own = own.replace("0.2\n$OMEGA BLOCK", "0.2 FIX\n$OMEGA BLOCK")
    prior = """$PRIOR NWPRI
$THETAP 1 FIX 1 FIX
$THETAPV BLOCK(2) FIX VALUES(0,0)
$OMEGAP BLOCK(2) FIX VALUES(0,0)
$OMEGAP 0 FIX
$OMEGAPD (-3 FIX) (1 FIX)
"""
    assert stream(tmp_path, prior, own).model.joint is None


def test_a_variance_of_a_million_is_next_to_none(tmp_path):
    prior = "$PRIOR NWPRI\n$THETAP 4.5 FIX\n$THETAPV 1000000 FIX\n"
    one, none = stream(tmp_path, prior), stream(tmp_path, "")
    assert objective(one, "focei") - objective(none, "focei") == pytest.approx(0.25e-6, abs=1e-9)


REFUSED = [
    ("NWPRI", "TNPRI", r"line 10, \$PRIOR: TNPRI is not read"),
    ("NWPRI", "NWPRI (ESTIMATION)", "a condition on when the prior acts is not read"),
    ("NWPRI", "NWPRI (PROB 2)", "a condition on when the prior acts is not read"),
    ("NWPRI", "NWPRI ICALL=2", "a condition on when the prior acts is not read"),
    ("NWPRI", "NWPRI NPEXP=2", "NPEXP=2: several prior experiments are not read"),
    ("NWPRI", "NWPRI PLEV=0.999", "PLEV=0.999 draws parameters in a simulation"),
    ("NWPRI", "NWPRI ITYP=1", "ITYP=1 draws parameters in a simulation"),
    ("NWPRI", "NWPRI NTHET=3", "'NTHET=3' is not read"),
    ("NWPRI", "NWPRI NTHETA=4", "NTHETA=4, and the records have 3"),
    ("NWPRI", "NWPRI NWPRI", "NWPRI and NWPRI is not read"),
    ("$PRIOR NWPRI", "$PRIOR NWPRI\n$PRIOR NWPRI", r"line 11, \$PRIOR: a second \$PRIOR record"),
    ("$PRIOR NWPRI\n", "", r"line 10, \$THETAP: there is no \$PRIOR record"),
    ("(3.5 FIX)", "3.5", r"line 11, \$THETAP: 3.5 is not FIX"),
    ("BLOCK(3) FIX", "BLOCK(3)", r"line 12, \$THETAPV: its values are not FIX"),
    ("(0.1 FIX)", "", "2 prior means of THETA and a covariance of 3"),
    ("(0.1 FIX)", "(0.1 FIX)x2", "4 prior means of THETA and a covariance of 3"),
    ("(20 FIX) (10 FIX)", "(20 FIX)", r"1 degrees of freedom of \$OMEGA; allowed: 2"),
    ("(20 FIX)", "(-1 FIX)", r"-1 degrees of freedom of \$OMEGA block from 1"),
    (
        "BLOCK(2) FIX 0.25 0.02 0.15",
        "BLOCK(2) FIX 0 0 0",
        "the prior of .OMEGA block from 1 is not",
    ),
    ("\n$OMEGAP 0.08 FIX", "", "1 degrees|2 degrees of freedom"),
    (
        "BLOCK(2) FIX 0.25 0.02 0.15\n$OMEGAP 0.08 FIX",
        "0.25 FIX\n$OMEGAP BLOCK(2) FIX 0.15 0.01 0.08",
        r"the prior of \$OMEGA has covariances where \$OMEGA has none",
    ),
    (
        "BLOCK(2) FIX 0.25 0.02 0.15\n$OMEGAP 0.08 FIX",
        "0.25 FIX",
        "a prior of 1 random effects ends within a block",
    ),
    ("$SIGMAPD 12 FIX\n", "$SIGMAPD 12 FIX\n$TTDF 3\n", r"\$TTDF \(priors other than NWPRI\)"),
]


def test_a_prior_of_a_band_matrix_is_refused(tmp_path):
    with pytest.raises(PkpdError, match="block from 1 has a prior, and covariances of 0, which"):
        stream(tmp_path, own=OWN.replace("0.3 0.05 0.2", "0.3 0 0.2"))


@pytest.mark.parametrize(("old", "new", "words"), REFUSED)
def test_what_is_refused_of_named_records(tmp_path, old, new, words):
    assert old in NAMED
    with pytest.raises(PkpdError, match=words):
        stream(tmp_path, NAMED.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NTHETA=3,", "", "has no NTHETA"),
        (
            "NTHP=3",
            "NTHP=2",
            r"the blocks of \$OMEGA are not those of its sizes; allowed: 3 \(NETA",
        ),
        ("NETA=3,", "NETA=1,", r"the blocks of \$OMEGA are not those of its sizes"),
        ("NTHETA=3", "NTHETA=2", "9 THETAs; allowed: 8: NTHETA=2, NTHP=3"),
        ("(20 FIX)", "20", "THETA 20 is a hyperparameter, and not FIX"),
        ("BLOCK(3) FIX", "BLOCK(3)", r"hyperparameters among \$OMEGA are not FIX"),
    ],
)
def test_what_is_refused_of_placed_hyperparameters(tmp_path, old, new, words):
    assert old in PLACED
    with pytest.raises(PkpdError, match=words):
        stream(tmp_path, PLACED.replace(old, new, 1))


def test_other_priors_of_a_step_are_refused(tmp_path):
    with pytest.raises(PkpdError, match=r"\$ESTIMATION: PRIORC=1 changes the prior or adds"):
        stream(tmp_path, est="$EST METHOD=1 INTER\n PRIORC=1\n")


def test_a_variance_of_zero_is_refused(tmp_path):
    prior = "$PRIOR NWPRI\n$THETAP 4 FIX\n$THETAPV 0 FIX\n"
    with pytest.raises(PkpdError, match=r"the prior variance of THETA\(1\) is 0; allowed: more"):
        stream(tmp_path, prior)
