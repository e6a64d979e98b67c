"""Whole streams: predictions and errors against closed forms worked out here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from tests.nonmem.streams import (
    ADVAN1,
    DATA,
    ENDING,
    INPUT,
    means_and_sds,
    objective,
    predictor_of,
    written,
)


def one_compartment(dose, length, k, t):
    """Amount after an infusion over ``length`` (0: a bolus) at time 0."""
    t = np.asarray(t, dtype=float)
    if length == 0:
        return dose * np.exp(-k * t)
    on = np.minimum(t, length)
    return dose / length / k * (1 - np.exp(-k * on)) * np.exp(-k * (t - on))


def expected_advan1():
    """Concentrations of the data in `streams`: clearance follows the weight at the record."""
    cl, v = 2.0, 20.0
    k70, k80, k55 = (cl * (w / 70) ** 0.75 / v for w in (70, 80, 55))
    first = 100 * np.exp(-k70 * 1)
    second = first * np.exp(-k80 * 3)
    third = second * np.exp(-k80 * 8)
    other = one_compartment(150, 3, k55, [2, 3, 9])
    return np.array([first, second, second, third, *other]) / v


@pytest.mark.slow
def test_one_compartment_with_a_covariate_that_changes(tmp_path):
    stream = written(tmp_path, ADVAN1)
    mean, sd = means_and_sds(stream)
    np.testing.assert_allclose(mean, expected_advan1(), rtol=1e-9)
    np.testing.assert_allclose(sd, np.sqrt(0.1) * expected_advan1(), rtol=1e-9)
    assert "9 records, 7 observations" in stream.summary()


NEW_FORMS = {
    "advan6": "$SUBS ADVAN6 TOL=5\n$MODEL COMP=(CENTRAL)\n$DES\nDADT(1)=-CL/V*A(1)\n",
    "nonlinear": "$SUBS ADVAN13 TOL=9\n$MODEL NCOMP=1\n$DES\nDADT(1)=-CL/V*A(1)**1.0000000001\n",
    "advan5": "$SUBS ADVAN5\n$MODEL COMP=(CENTRAL)\n",
    "advan10": "$SUBS ADVAN10\n",
}


def test_a_dose_that_the_estimation_of_nonmem_leaves_out_is_refused(tmp_path):
    data = "ID,TIME,AMT,RATE,CMT,EVID,MDV,DV,WT,LEVEL\n1,0,100,0,1,1,{},0,70,0\n"
    data += "1,1,0,0,0,0,{},4,70,0\n1,2,0,0,0,0,0,3,70,0\n"
    assert len(written(tmp_path, ADVAN1, data.format(1, 100)).data.observations) == 1
    with pytest.raises(PkpdError, match="line 2, column MDV: 101 on a record with EVID 1"):
        written(tmp_path, ADVAN1, data.format(101, 0))


@pytest.mark.parametrize(
    "form",
    [
        "advan6",
        "advan5",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("nonlinear", "advan10")),
    ],
)
def test_the_same_model_in_other_subroutines(tmp_path, form):
    head, _, des = NEW_FORMS[form].partition("$DES")
    text = ADVAN1.replace("$SUBROUTINES ADVAN1 TRANS2\n", head)
    text = text.replace("S1 = V\n", "S1 = V\nK10=CL/V\nKM=1.D9\nVM=K10*KM\n")
    text = text.replace("$ERROR", f"$DES{des}$ERROR") if des else text
    mean, _ = means_and_sds(written(tmp_path, text))
    np.testing.assert_allclose(mean, expected_advan1(), rtol=2e-5)


def test_absorption_lag_and_bioavailability(tmp_path):
    text = ADVAN1.replace("ADVAN1 TRANS2", "ADVAN2 TRANS2").replace(
        "S1 = V", "S2 = V\nKA = 1.3\nALAG1 = 0.5\nF1 = 0.8"
    )
    data = DATA.replace(",50,1,1", ",0,1,1").replace("0,0,4", "0,0,4").replace(",1,0,0,", ",2,0,0,")
    mean, _ = means_and_sds(written(tmp_path, text, data.replace(",80,", ",70,")))
    t, k, ka = np.array([1, 4, 4, 12]) - 0.5, 0.1, 1.3
    wanted = 0.8 * 100 * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t)) / 20
    np.testing.assert_allclose(mean[:4], wanted, rtol=1e-9)


def test_slips_and_the_choice_of_a_problem_are_told(tmp_path):
    simulation = INPUT + "$SUBROUTINES ADVAN1 TRANS2\n$SIMULATION (1)\n"
    text = simulation + ADVAN1.replace("(0,2) (0,20)", "(0,2)\n$THETA (0,20 ; V")
    with pytest.warns(PkpdWarning, match=r"run1\.mod, line .*\$THETA: a bracket is not closed"):
        stream = written(tmp_path, text)
    np.testing.assert_allclose(means_and_sds(stream)[0], expected_advan1(), rtol=1e-9)
    told = stream.summary()
    assert "problem 2 of 2 is read, the first with data and estimation" in told
    assert "a bracket is not closed" in told


FORMS = [
    ("Y = F + F*EPS(1) + EPS(2)", lambda f: (f, np.sqrt(0.1 * f**2 + 0.2))),
    ("IPRED = LOG(F)\nW = THETA(2)/10\nY = IPRED + W*EPS(1)",
     lambda f: (np.log(f), 2 * np.sqrt(0.1) + 0 * f)),
    ("Y = F*EXP(ERR(1))", lambda f: (f, np.sqrt(0.1) * f)),
    ("W = SQRT(SIGMA(1,1)+SIGMA(2)*F**2)\nY = F + W*EPS(1)",
     lambda f: (f, np.sqrt(0.1 * (0.1 + 0.2 * f**2)))),
    ("IF (ID.EQ.1) THEN\nY = F+EPS(1)\nELSE\nY = F+EPS(2)\nENDIF",
     lambda f: (f, np.sqrt(np.where(np.arange(7) < 4, 0.1, 0.2)))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "wanted"), FORMS)
def test_residual_errors(tmp_path, code, wanted):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", code).replace("$SIGMA 0.1", "$SIGMA 0.1 0.2")
    mean, sd = means_and_sds(written(tmp_path, text))
    for found, here in zip((mean, sd), wanted(expected_advan1()), strict=True):
        np.testing.assert_allclose(found, here, rtol=1e-9)


def test_a_likelihood_below_the_limit(tmp_path):
    code = """LLOQ = 3.1
IF (DV.GE.LLOQ) THEN
F_FLAG = 0
Y = F+EPS(1)
ELSE
F_FLAG = 1
Y = PHI((LLOQ-F)/SQRT(SIGMA(1)))
ENDIF"""
    text = ADVAN1.replace("Y = F*(1+EPS(1))", code) + "LAPLACIAN\n"
    stream = written(tmp_path, text)
    with pytest.raises(PkpdError, match=r"3 observations are likelihoods.*allowed: laplace"):
        pkpd.fit(stream.model, stream.data, method="focei", progress=False)
    mean, sd = means_and_sds(stream)
    f = expected_advan1()
    below = np.array([False, False, True, True, False, False, True])
    wanted = np.where(below, norm.logcdf((3.1 - f) / np.sqrt(0.1)), f)
    np.testing.assert_allclose(mean, wanted, rtol=1e-7)
    np.testing.assert_allclose(sd, np.where(below, 1.0, np.sqrt(0.1)), rtol=1e-9)


def test_correlated_residuals_of_one_level(tmp_path):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", "Y = F + EPS(1) + DV/10*EPS(2)")
    text = text.replace("$SIGMA 0.1", "$SIGMA BLOCK(2) 0.1 0.02 0.3").replace("LEVEL", "L2")
    stream = written(tmp_path, text)
    mean, sd = means_and_sds(stream)
    value = stream.data.observations.value
    f = expected_advan1()
    g = np.stack([np.ones(7), value / 10], axis=1)
    joint = g @ np.array([[0.1, 0.02], [0.02, 0.3]]) @ g.T
    groups = [[0], [1, 2], [3], [4, 5], [6]]
    wanted = sum(multivariate_normal.logpdf(value[i], f[i], joint[np.ix_(i, i)]) for i in groups)
    assert np.sum(norm.logpdf(value, mean, sd)) == pytest.approx(wanted, rel=1e-9)


def test_a_record_with_another_level_ends_a_group_whether_observed_or_not(tmp_path):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", "Y = F + EPS(1)").replace("LEVEL", "L2")
    between = "1,4,.,.,1,2,1,.,80,9\n1,4,.,.,1,0,0,3.0,80,3\n"
    data = DATA.replace("1,4,.,.,1,0,0,3.0,80,3\n", between)
    mean, sd = means_and_sds(written(tmp_path, text, data))
    np.testing.assert_allclose(mean[:4], expected_advan1()[:4], rtol=1e-9)
    np.testing.assert_allclose(sd[:4], np.sqrt(0.1), rtol=1e-9)


@pytest.mark.parametrize(("level", "wanted"), [("L2", [1, 1, 2, 1, 1, 2, 1]), ("LEVEL", [1] * 7)])
def test_newl2_is_1_at_the_first_record_of_a_group(tmp_path, level, wanted):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", "Y = F + 10*NEWL2 + EPS(1) + DV*EPS(2)")
    text = text.replace("$SIGMA 0.1", "$SIGMA 0.1 0.1").replace("LEVEL", level)
    bound, start = predictor_of(written(tmp_path, text))
    np.testing.assert_allclose(bound(start) - expected_advan1(), 10 * np.array(wanted), rtol=1e-9)


def test_values_kept_from_the_record_before(tmp_path):
    """Backward interpolation: the weight of the record before acts on the way to this one."""
    text = ADVAN1.replace("$PK\n", "$PK\nIF (NEWIND.NE.2) OWT = WT\nOLD = OWT\nOWT = WT\n").replace(
        "(WT/70)", "(OLD/70)"
    )
    mean, _ = means_and_sds(written(tmp_path, text))
    cl, v = 2.0, 20.0
    k70, k80 = (cl * (w / 70) ** 0.75 / v for w in (70, 80))
    wanted = 100 / v * np.exp(-k70 * np.array([1, 4, 4, 4]) - k80 * np.array([0, 0, 0, 8]))
    np.testing.assert_allclose(mean[:4], wanted, rtol=1e-9)


def test_amounts_kept_from_an_earlier_record(tmp_path):
    """The concentration at one hour is remembered and acts on all later predictions."""
    code = "IF (NEWIND.NE.2) C1 = 0\nIF (TIME.EQ.1) C1 = F\nY = F + 0.5*C1 + EPS(1)"
    mean, _ = means_and_sds(written(tmp_path, ADVAN1.replace("Y = F*(1+EPS(1))", code)))
    f = expected_advan1()
    np.testing.assert_allclose(mean, f + 0.5 * np.array([f[0]] * 4 + [0] * 3), rtol=1e-9)


@pytest.mark.parametrize(
    "what", ["(TIME.EQ.1) C1 = DV", "(TIME.EQ.1) C1 = F", "(TIME.GE.9) C1 = F"]
)
def test_what_depends_on_the_individual_before_is_refused(tmp_path, what):
    code = f"IF {what}\nY = F + C1 + EPS(1)"
    text = ADVAN1.replace("Y = F*(1+EPS(1))", code)
    with pytest.raises(PkpdError, match=r"C1: the value at an individual's first record"):
        means_and_sds(written(tmp_path, text))


def test_what_only_a_record_after_the_last_observation_sets_reaches_the_next(tmp_path):
    text = ADVAN1.replace("Y = F*(1+EPS(1))", "IF (EVID.EQ.2) C1 = F\nY = F + C1 + EPS(1)")
    last = "1,12,.,.,1,0,0,1.4,80,4\n"
    data = DATA.replace(last, last + "1,24,.,.,1,2,1,.,80,5\n")
    with pytest.raises(PkpdError, match=r"C1: the value at an individual's first record"):
        means_and_sds(written(tmp_path, text, data))
    # what no record sets is 0
    mean, _ = means_and_sds(written(tmp_path, text))
    np.testing.assert_allclose(mean, expected_advan1(), rtol=1e-9)


def test_equations_that_remember_are_refused(tmp_path):
    head = "$SUBS ADVAN6 TOL=5\n$MODEL COMP=(CENTRAL)\n"
    des = "$DES\nIF (T.LE.3) TOP = A(1)\nDADT(1) = -CL/V*A(1)-TOP\n$ERROR"
    text = ADVAN1.replace("$SUBROUTINES ADVAN1 TRANS2\n", head).replace("$ERROR", des)
    with pytest.raises(PkpdError, match=r"line 11, \$DES: TOP keeps a value"):
        means_and_sds(written(tmp_path, text))


@pytest.mark.slow
def test_initial_amounts_and_a_model_event_time(tmp_path):
    """Input at a constant rate from MTIME(1) on, from an initial amount."""
    text = (
        INPUT
        + """$SUBS ADVAN13 TOL=9
$MODEL COMP=(ONE)
$PK
K = THETA(1)
MTIME(1) = THETA(2)
A_0(1) = 30*EXP(ETA(1))
F1 = 0
$DES
DADT(1) = 5*MPAST(1) - K*A(1) + 1.D-9*A(1)**2
$ERROR
Y = A(1) + EPS(1)
$THETA (0,0.1) (0,2.7)
$OMEGA 0.09
$SIGMA 0.1
"""
    )
    mean, _ = means_and_sds(written(tmp_path, text))
    t = np.array([1, 4, 4, 12, 2, 3, 9.0])
    late = np.maximum(t - 2.7, 0)
    np.testing.assert_allclose(
        mean, 30 * np.exp(-0.1 * t) + 50 * (1 - np.exp(-0.1 * late)), rtol=1e-5
    )


ELSEWHERE = """$SUBS ADVAN1 TRANS2
$PK
MTIME(1) = 10
CL = THETA(1)*EXP(ETA(1)){pk}
V = THETA(2)
S1 = V
$ERROR
Y = F{error} + EPS(1)
$THETA (0,3) (0,20)
$OMEGA 0.09
$SIGMA 0.1
"""


@pytest.mark.parametrize(
    ("pk", "error", "said"),
    [
        ("*(1+MPAST(1))", "", r"\$PK: MPAST\(1\) is read \(it switches .*multiply in \$DES"),
        ("\nIF (MPAST(1).EQ.1) CL = 2*CL", "", r"\$PK: MPAST\(1\) is read"),
        ("*(1+A(1)/100)", "", r"\$PK: A\(1\) is read \(the amount at the record before"),
        ("*(1+T)", "", r"\$PK: T is read \(the time within an interval\).*read TIME"),
        ("", "*(1+MPAST(1))", r"\$ERROR: MPAST\(1\) is read .*compare TIME with MTIME"),
        ("", "*(1+T)", r"\$ERROR: T is read"),
        ("\nTSCALE = 2", "", r"\$PK: TSCALE is set, a scale of time"),
    ],
)
def test_what_another_block_reads_alone_is_refused(tmp_path, pk, error, said):
    """Each was 0 without a word, as was a scale of time."""
    with pytest.raises(PkpdError, match=said):
        written(tmp_path, INPUT + ELSEWHERE.format(pk=pk, error=error))


def test_names_that_act_in_one_block_are_variables_in_another(tmp_path):
    error = ADVAN1.replace("$ERROR\nY = F", "$ERROR\nTSCALE = 2\nY = F*TSCALE")
    plain = ADVAN1.replace("Y = F", "Y = 2*F")
    found, wanted = (means_and_sds(written(tmp_path, text))[0] for text in (error, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_methods_that_are_not_done_as_nonmem_does_are_told(tmp_path):
    hybrid = written(tmp_path, ADVAN1.replace("METHOD=1", "METHOD=HYBRID ZERO=(1)"))
    assert "$ESTIMATION asks for HYBRID, which is not done here" in hybrid.notes
    text = ADVAN1.replace("$SIGMA 0.1", "$SIGMA BLOCK(2) 0.1 0.02 0.3").replace("LEVEL", "L2")
    foce = written(tmp_path, text)
    assert any("order of such records" in note for note in foce.notes)
    exact = written(tmp_path, text.replace("METHOD=1", "METHOD=1 LAPLACE"))
    assert not any("order of such records" in note for note in exact.notes)


def test_a_collecting_compartment_is_emptied_and_another_switched_off(tmp_path):
    data = """ID,TIME,AMT,RATE,CMT,EVID,MDV,DV,WT,LEVEL
1,0,100,0,1,1,1,.,70,1
1,2,.,.,2,0,0,15,70,2
1,2,.,.,-2,2,1,.,70,3
1,3,.,.,2,2,1,.,70,4
1,5,.,.,2,0,0,10,70,5
1,6,.,.,-1,2,1,.,70,6
1,9,.,.,1,0,0,10,70,7
1,9,.,.,2,0,0,10,70,7
"""
    head = "$SUBS ADVAN6 TOL=5\n$MODEL COMP=(CENTRAL) COMP=(URINE)\n"
    des = "$DES\nDADT(1)=-CL/V*A(1)\nDADT(2)=CL/V*A(1)\n$ERROR"
    text = ADVAN1.replace("$SUBROUTINES ADVAN1 TRANS2\n", head).replace("$ERROR", des)
    mean, _ = means_and_sds(
        written(tmp_path, text.replace("Y = F*(1+EPS(1))", "Y = F + EPS(1)"), data)
    )
    left = lambda t: 100 * np.exp(-0.1 * t)  # noqa: E731
    wanted = [100 - left(2), left(3) - left(5), 0.0, left(3) - left(6)]
    np.testing.assert_allclose(mean, wanted, rtol=1e-9, atol=1e-9)


BACK = """ID,TIME,AMT,RATE,CMT,EVID,MDV,DV,WT,LEVEL
1,0,100,0,1,1,1,.,70,1
1,2,.,.,2,0,0,15,70,2
1,3,.,.,-1,2,1,.,70,3
1,4,.,.,1,0,0,1,70,4
1,5,.,.,1,2,1,.,70,5
1,5,.,.,1,0,0,1,70,5
1,6,50,0,1,1,1,.,70,5
1,8,.,.,1,0,0,1,70,5
1,9,.,.,2,0,0,1,70,5
1,9,.,.,-1,2,1,.,70,5
1,10,30,0,1,1,1,.,70,5
1,12,.,.,1,0,0,1,70,5
1,13,.,.,2,0,0,1,70,5
2,0,100,0,1,1,1,.,70,1
2,6,.,.,1,0,0,5,70,2
2,7,.,.,-1,2,1,.,70,2
2,7,.,.,1,2,1,.,70,2
"""


def switching(slope="-CL/V*A(1)"):
    """A compartment that feeds another one, whose own amount is eliminated, too."""
    head = "$SUBS ADVAN6 TOL=5\n$MODEL COMP=(CENTRAL) COMP=(NEXT)\n"
    des = f"$DES\nDADT(1)={slope}\nDADT(2)=CL/V*A(1)-0.3*A(2)\n$ERROR"
    text = ADVAN1.replace("$SUBROUTINES ADVAN1 TRANS2\n", head).replace("$ERROR", des)
    return text.replace("Y = F*(1+EPS(1))", "Y = F + EPS(1)").replace("S1 = V", "F1 = 0.8")


@pytest.mark.slow
def test_a_compartment_that_comes_back_begins_anew(tmp_path):
    mean, _ = means_and_sds(written(tmp_path, switching(), BACK))
    k, loss = 0.1, 0.3

    def fed(dose, t, until):
        """Amount in the second compartment, when the first was on until then."""
        on = min(t, until)
        at = dose * k / (loss - k) * (np.exp(-k * on) - np.exp(-loss * on))
        return at * np.exp(-loss * (t - on))

    first, second, third = 80, 40, 24
    wanted = [
        *(fed(first, 2, 3), 0.0, 0.0, second * np.exp(-k * 2)),
        fed(first, 9, 3) + fed(second, 3, 9),
        third * np.exp(-k * 2),
        fed(first, 13, 3) + fed(second, 7, 3) + fed(third, 3, 9),
        80 * np.exp(-k * 6),
    ]
    np.testing.assert_allclose(mean, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "data", "words"),
    [
        (switching("-CL/V*A(1)/(1+A(1))"), BACK, r"row 6, ID 1.*compartment 1.*switched on again"),
        (switching(), BACK.replace("6,50,0", "6,50,25"), "row 6.*on again and takes infusions"),
        (switching().replace("F1 = 0.8", "ALAG1 = 1"), BACK, "row 6, ID 1.*without a lag"),
    ],
)
def test_a_compartment_that_comes_back_otherwise_is_refused(tmp_path, text, data, words):
    with pytest.raises(PkpdError, match=words):
        means_and_sds(written(tmp_path, text, data))


@pytest.mark.long
def test_linear_kinetics_that_drive_a_nonlinear_effect_are_solved_exactly(tmp_path):
    text = (
        INPUT
        + """$SUBS ADVAN13 TOL=9
$MODEL COMP=(EFFECT) COMP=(DEPOT,DEFDOSE) COMP=(CENTRAL)
$PK
KA = 1.5
K = THETA(1)*EXP(ETA(1))
KOUT = THETA(2)
A_0(1) = 10
$DES
C = A(3)/20
DADT(1) = 10*KOUT - KOUT*(1+C/(1+C))*A(1)
DADT(2) = -KA*A(2)
DADT(3) = KA*A(2) - K*A(3)
$ERROR
Y = A(1) + EPS(1)
$THETA (0,0.1) (0,0.5)
$OMEGA 0.09
$SIGMA 0.1
"""
    )
    data = DATA.replace(",0,1,1,1,", ",0,2,1,1,").replace("150,50,1,1", "150,50,2,1")
    stream = written(tmp_path, text, data)
    mean, _ = means_and_sds(stream)
    from scipy.integrate import solve_ivp

    def slopes(t, y):
        c = y[2] / 20
        return [5 - 0.5 * (1 + c / (1 + c)) * y[0], -1.5 * y[1], 1.5 * y[1] - 0.1 * y[2]]

    found = solve_ivp(slopes, (0, 12), [10, 100, 0], t_eval=[1, 4, 12], rtol=1e-10, atol=1e-10).y[0]
    np.testing.assert_allclose(mean[[0, 1, 3]], found, rtol=1e-5)
    from tests.nonmem.streams import predictor_of

    assert predictor_of(stream)[0].solving._split.order == (2, 3, 1)


def test_a_flow_that_is_0_at_the_start_alone_is_not_lost(tmp_path):
    """Of linear kinetics in closed form that drive an effect."""
    text = (
        INPUT
        + """$SUBS ADVAN13 TOL=9
$MODEL COMP=(CENTRAL,DEFDOSE) COMP=(PERIPHERAL) COMP=(LATE)
$PK
K = THETA(1)*EXP(ETA(1))
$DES
DADT(1) = 0.5*A(2) - (K+ETA(2))*A(1)
DADT(2) = ETA(2)*A(1) - 0.5*A(2)
DADT(3) = A(1) - A(3)**2
$ERROR
Y = A(1) + 0*A(3) + EPS(1)
$THETA (0,0.1)
$OMEGA 0.09 0.09
$SIGMA 0.1
"""
    )
    mean, _ = means_and_sds(written(tmp_path, text, DATA.split("2,0,150")[0]), ETA2=0.3)
    total, product = 0.1 + 0.3 + 0.5, 0.1 * 0.5
    fast, slow = (0.5 * (total + s * np.sqrt(total**2 - 4 * product)) for s in (1, -1))
    times = np.array([1.0, 4.0, 4.0, 12.0])
    wanted = (fast - 0.5) * np.exp(-fast * times) + (0.5 - slow) * np.exp(-slow * times)
    np.testing.assert_allclose(mean, 100 * wanted / (fast - slow), rtol=1e-6)


@pytest.mark.parametrize(("items", "seen"), [("AMT", 3), ("EVID", 3), ("RATE", 3), ("MDV", 1)])
def test_pred_takes_every_record_for_an_observation_but_what_mdv_leaves_out(tmp_path, items, seen):
    """Without PREDPP, NM-TRAN gives no meaning to AMT or EVID (NONMEM Help, MDV)."""
    text = f"""$PROB x
$INPUT ID TIME {items} DV
$DATA d.csv
$PRED
Y = {items}*EXP(-THETA(1)*TIME) + ETA(1) + EPS(1)
$THETA 0.1
$OMEGA 0.1
$SIGMA 0.1
"""
    stream = written(tmp_path, text, "1,1,1,4.1\n1,4,1,3.2\n2,1,0,0.1\n")
    assert len(stream.data.observations) == seen


LINEAR = (
    INPUT
    + """$PRED
IND = 1
IF (ID.EQ.2) IND = 2
Y = THETA(IND) + ETA(1) + WT/70*ETA(2) + EPS(1)
$THETA 4 (0,5,9)
$OMEGA BLOCK(2) 0.5 0.1 0.3
$SIGMA 0.2
$EST METHOD=%s
"""
)


@pytest.mark.parametrize("method", ["fo", "foce", "focei", "laplace", "laplace-nointer"])
def test_every_objective_is_exact_for_a_linear_model(tmp_path, method):
    stream = written(tmp_path, LINEAR % "1 INTER")
    seen = stream.data.observations
    weight = stream.data.covariates["WT"][seen.subject, seen.record]
    wanted = 0.0
    for b in range(2):
        mine = seen.subject == b
        z = np.stack([np.ones(mine.sum()), weight[mine] / 70], axis=1)
        v = z @ np.array([[0.5, 0.1], [0.1, 0.3]]) @ z.T + 0.2 * np.eye(mine.sum())
        wanted -= 2 * multivariate_normal.logpdf(seen.value[mine], np.full(mine.sum(), 4.0 + b), v)
        wanted -= mine.sum() * np.log(2 * np.pi)
    assert objective(stream, method) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("$EST", "$PRIOR NWPRI\n$EST", "line 14, $PRIOR: has no NTHETA"),
        ("$EST", "$MIX\nNSPOP=2\n$EST", "line 14, $MIX: $MIX (a mixture of populations)"),
        ("ADVAN1 TRANS2", "ADVAN1 TRANS4", "line 4, $SUBROUTINES: TRANS4 with ADVAN1"),
        ("ADVAN1 TRANS2", "ADVAN15", "ADVAN15 (algebraic equations)"),
        ("ADVAN1 TRANS2", f"ADVAN{'9' * 5000}", "ADVAN999999999"),
        ("ADVAN1 TRANS2", "ADVAN7 TRANS1\n$MODEL NCOMP=100000", "100000 compartments; allowed"),
        ("V = THETA(2)", "VX = THETA(2)", "V is read and never set"),
        ("THETA(2)*EXP", "THETA(7)*EXP", "line 7, $PK: THETA(7) is read, and there are 2"),
        ("THETA(2)*EXP", f"THETA({'7' * 5000})*EXP", "line 7, $PK: 77777777777777777777... is too"),
        ("$EST", f"$PRIOR NWPRI NTHETA={'3' * 5000}\n$EST", "line 14, $PRIOR: 'NTHETA=333333"),
        ("F*(1", "F*Q9*(1", "line 10, $ERROR: Q9 is read and never set"),
        ("*EXP(", "*EPX(", "line 6, $PK: EPX(...) is neither a function nor set"),
        ("Y = F", "IPRED = F", "$ERROR: Y is never set"),
        ("INPUT ID", "INPUT SUB", "line 2, $INPUT: has no ID; name the column of subjects ID"),
        (" DV", " CP", "line 2, $INPUT: has no DV; name the measured values DV"),
        ("Y = F", "YLO = 1\nY = F", "line 10, $ERROR: YLO is set, a limit of Y; write the like"),
        ("Y = F", "CORRL2(1,1) = 0.5\nY = F", "CORRL2(1,1) is set, correlations of residuals"),
        ("CL = ", "I_SS = 1\nCL = ", "line 6, $PK: I_SS is set, a steady state at the start"),
        ("CL = ", "CALLFL = 1\nCL = ", "CALLFL=1"),
        ("Y = F", "IF (MIXNUM.EQ.1) Y = F", "MIXNUM is read (mixtures)"),
        ("ADVAN1 TRANS2", "ADVAN1 TRANS2 OTHER=mine.f", "a routine of the user's own"),
        ("d.csv", "other.csv", "the file other.csv is not beside the stream"),
    ],
)
def test_what_is_not_supported_is_refused_by_record_and_line(tmp_path, old, new, words):
    with pytest.raises(PkpdError) as error:
        written(tmp_path, ADVAN1.replace(old, new, 1))  # reading is enough
    assert words in str(error.value)
    assert str(error.value).count("\n") == 0


def test_data_without_a_dose_are_told(tmp_path):
    swapped = ADVAN1.replace("AMT", "DOSE", 1)
    with pytest.warns(PkpdWarning, match="is a dose; look whether \\$INPUT names the columns"):
        written(tmp_path, swapped)
    # what begins with an amount needs none
    assert written(tmp_path, swapped.replace("S1 = V", "A_0(1) = 5\nS1 = V")).data is not None


def test_what_does_not_act_on_the_observations_is_not_asked_for(tmp_path):
    """A variable that is never set in a statement that does nothing."""
    text = ADVAN1.replace("S1 = V\n", "S1 = V\nHALF = LOG(2)*V/NOTHING\n")
    np.testing.assert_allclose(
        means_and_sds(written(tmp_path, text))[0], expected_advan1(), rtol=1e-9
    )


def test_left_out_records_are_told(tmp_path):
    notes = written(tmp_path, ADVAN1 + "$COV\n$TABLE ID FILE=x\n").notes
    assert "left out: $COVARIANCE (standard errors are not part of the model)" in notes
    assert "left out: $TABLE (output)" in notes
    assert ENDING in ADVAN1


@pytest.mark.parametrize(
    "said",
    [
        "$ABBR REPLACE THETA(CL)=THETA(1)\n$ABBR REPLACE ETA(CL)=ETA(1)",
        "$ABBR REPLACE THETA(CL)=THETA(1) REPLACE ETA(CL) = ETA(1)",
        """$ABBREVIATED REPL "THETA(CL)"="THETA(1)"\nREPLACE 'ETA(CL)' = 'ETA(1)'""",
    ],
)
def test_replacements_are_read_in_their_spellings(tmp_path, said):
    named = ADVAN1.replace("THETA(1)", "THETA(CL)").replace("ETA(1))", "ETA(CL))")
    found, plain = (written(tmp_path, text) for text in (f"{named}{said}\n", ADVAN1))
    assert found.structure.program.pk.statements == plain.structure.program.pk.statements


@pytest.mark.parametrize("said", ["THETA(CL#)=THETA(1)", "ETA(CL)=ETA(1,2)", "ETA(CL)=", "X=Y=Z"])
def test_a_replacement_that_is_not_understood_is_refused(tmp_path, said):
    with pytest.raises(PkpdError, match=r"\$ABBREVIATED: this replacement is not read"):
        written(tmp_path, f"{ADVAN1}$ABBR REPLACE {said}\n")
