"""CRM and TITE-CRM against dfcrm 0.2-2.1 (R), Cheung's book and the VIOLA trial."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import binom, norm

from pkpd.designs import (
    CRM,
    Accrual,
    EventTimes,
    OverdoseControl,
    Pending,
    TiteCRM,
    TrialData,
    Trials,
    Why,
    adaptive_weight,
    characteristics,
    enumerate_courses,
    forecast_of_weight,
    incoherent_patient,
    linear_weight,
    pathways,
    piecewise_weight,
    simulate_trials,
    skeleton,
    weight_of_forecast,
)
from pkpd.errors import PkpdError

SIX = (0.05, 0.10, 0.20, 0.35, 0.50, 0.70)


def floats(text):
    return [float(word) for word in text.split()]


def counts(levels, given_, dlts):
    """Patients one by one, as dfcrm takes them."""
    return TrialData.from_cohorts(levels, zip(given_, [1] * len(given_), dlts, strict=True))


CRM_RD = counts(6, (3, 4, 4, 3, 3, 4, 3, 2, 2, 2), (0, 0, 1, 0, 0, 1, 1, 0, 0, 0))
ROWS = [  # data, skeleton, target, settings, dose, mean and variance of b, risks
    (
        CRM_RD,
        SIX,
        0.2,
        {},
        2,
        (-0.21217153, 0.15759553),
        ".0886529 .1553009 .2720539 .4277898 .5708462 .7493958",
    ),
    (
        CRM_RD,
        SIX,
        0.2,
        {"model": "logistic"},
        2,
        (-0.11011161, 0.0386954),
        ".089103 .160390 .283137 .439868 .577568 .744930",
    ),
    (
        TrialData.from_outcomes(4, "2NNT 2NNN 3NTT 2NNT"),
        (0.1, 0.2, 0.4, 0.55),
        0.2,
        {"scale": 0.75**0.5},
        1,
        (-0.21630512, 0.12031868),
        ".156499 .273519 .478039 .617824",
    ),
    (
        TrialData.from_outcomes(7, "1NNN 2NNN 3NTT 2NNN 3TNN 3TNT 2NNN"),
        (0.1, 0.2, 0.33, 0.45, 0.6, 0.7, 0.8),
        0.33,
        {"model": "logistic", "intercept": 4.0},
        3,
        (0.020133249, 0.011044103),
        ".0892149 .1830472 .3091840 .4289587 .5823340 .6863652 .7913593",
    ),
    (
        TrialData.from_outcomes(5, "1NNN 2NTT"),
        (0.05, 0.1, 0.25, 0.4, 0.6),
        0.25,
        {},
        1,
        (-0.74990549, 0.22657948),
        ".242873 .336968 .519493 .648647 .785590",
    ),
]


@pytest.mark.parametrize(("data", "prior", "target", "settings_", "dose", "b", "risks"), ROWS)
def test_posterior_of_dfcrm(data, prior, target, settings_, dose, b, risks):
    design = CRM(levels=len(prior), target=target, skeleton=prior, **settings_)
    batch = data.batch()
    mean, var = design.moments(batch)
    assert float(mean[0, 0]) == pytest.approx(b[0], abs=6e-9)
    assert float(var[0, 0]) == pytest.approx(b[1], abs=6e-8)
    np.testing.assert_allclose(design.risks(batch)[0], floats(risks), atol=6e-7)
    assert design.wanted(batch).tolist() == [dose]


def test_limits_of_dfcrm():
    low, high = CRM(levels=6, target=0.2, skeleton=SIX).limits(CRM_RD.batch())
    printed = ".00951151 .02792792 .08200259 .19565877 .34057361 .57449774"
    np.testing.assert_allclose(low[0], floats(printed), atol=6e-9)
    printed = ".283323 .379325 .507858 .642774 .746913 .860574"
    np.testing.assert_allclose(high[0], floats(printed), atol=6e-7)


@pytest.mark.parametrize(
    ("model", "b", "risks"),
    [
        ("power", -0.19098848, ".0841714 .1492306 .2645766 .4200833 .5640355 .7447817"),
        ("logistic", -0.090844303, ".0810457 .1485655 .2678834 .4243939 .5647642 .7377368"),
    ],
)
def test_maximum_likelihood_of_dfcrm(model, b, risks):
    """dfcrm stops its search at R's tolerance, 1e-4 of b."""
    design = CRM(
        levels=6, target=0.2, skeleton=SIX, model=model, estimate="maximum", initial=(1, 2)
    )
    batch = CRM_RD.batch()
    assert float(design.parameters(batch)[0, 0]) == pytest.approx(b, abs=2e-5)
    np.testing.assert_allclose(design.risks(batch)[0], floats(risks), atol=8e-6)
    with pytest.raises(PkpdError, match="nobody has had a DLT"):
        design.parameters(TrialData.from_outcomes(6, "1N").batch())


TITE = {
    "given": (3, 3, 3, 4, 4, 3, 2, 2, 2, 3),
    "dlts": (0, 0, 1, 0, 1, 0, 0, 0, 0, 0),
    "followed": (178, 181, 168, 181, 24, 181, 179, 102, 42, 3),
}


def tite_data(weight):
    followed = np.array(TITE["followed"], float)
    weights = weight(followed, 180.0)
    rows = list(zip(TITE["given"], TITE["dlts"], weights, strict=True))
    waiting = tuple(Pending(level, float(w)) for level, y, w in rows if not y and w < 1)
    data = counts(6, TITE["given"], TITE["dlts"])
    return replace(data, pending=waiting), weights


@pytest.mark.parametrize(
    ("weight", "weights", "b", "risks"),
    [
        (
            linear_weight,
            ".988889 1 1 1 1 1 .994444 .566667 .233333 .016667",
            (-0.13278655, 0.19549015),
            ".0725689 .1331521 .2443124 .3988065 .5450075 .7317450",
        ),
        (
            adaptive_weight([168, 24]),
            ".944444 1 1 1 1 1 .972222 .513889 .375 .041667",
            (-0.13451807, 0.19702081),
            ".072899 .133617 .244909 .399441 .545580 .732141",
        ),
    ],
)
def test_titecrm_of_dfcrm(weight, weights, b, risks):
    data, found = tite_data(weight)
    spared = np.array(TITE["dlts"]) == 0
    np.testing.assert_allclose(found[spared], np.array(floats(weights))[spared], atol=6e-7)
    design = TiteCRM(levels=6, target=0.2, skeleton=SIX)
    batch = data.batch()
    mean, var = design.moments(batch)
    assert float(mean[0, 0]) == pytest.approx(b[0], abs=6e-9)
    assert float(var[0, 0]) == pytest.approx(b[1], abs=6e-9)
    np.testing.assert_allclose(design.risks(batch)[0], floats(risks), atol=6e-7)
    assert design.next_dose(data).level == 3


def test_tite_with_whole_windows_behind_is_the_crm():
    full = replace(CRM_RD, pending=(Pending(2, 1 - 1e-12), Pending(3, 1 - 1e-12)))
    tite = TiteCRM(levels=6, target=0.2, skeleton=SIX)
    crm = CRM(levels=6, target=0.2, skeleton=SIX)
    np.testing.assert_allclose(tite.risks(full.batch()), crm.risks(CRM_RD.batch()), atol=1e-11)


def test_tite_crm_waits_while_too_many_are_pending():
    design = TiteCRM(levels=3, target=0.25, skeleton=(0.1, 0.25, 0.4), most_pending=2)
    data = TrialData((2, 0, 0), (0, 0, 0), 1, (Pending(1, 0.3), Pending(1, 0.1)), (1, 0))
    found = design.next_dose(data)
    assert found.action.name == "SUSPEND"
    assert "accrual waits for 2 pending patients" in found.reason


BOOK = {  # Cheung's book, Table 3.2, mean of b after each patient; and to four digits by dfcrm
    "given": "3 5 5 3 4 4 5 5 5 5 5 4 4 4 4 4 4 4 4 4",
    "dlts": "0 0 1 0 0 0 0 0 1 0 1 1 0 0 0 0 0 1 0 0",
    "book": ".60 .93 .04 .18 .28 .34 .41 .47 .31 .35 .25 .15 .18 .21 .24 .26 .28 .21 .22 .24",
    "dfcrm": ".5987 .9349 .0435 .1816 .2795 .3447 .4128 .4669 .3070 .3530 .2547 .1482 .1822 .2108 "
    ".2355 .2570 .2762 .2056 .2245 .2416",
    "risks": ".0102634 .0336767 .0980906 .2081583 .3625553",
}


def test_a_trial_of_cheungs_book():
    design = CRM(
        levels=5,
        start=3,
        target=0.25,
        skeleton=(0.05, 0.12, 0.25, 0.40, 0.55),
        model="logistic",
        cohort_size=1,
        coherence="none",
        skip_up=True,
        most_patients=21,
    )
    given_ = [int(word) for word in BOOK["given"].split()]
    dlts = [int(word) for word in BOOK["dlts"].split()]
    book, dfcrm = floats(BOOK["book"]), floats(BOOK["dfcrm"])
    for patients in range(1, 21):
        data = counts(5, given_[:patients], dlts[:patients])
        b = float(design.moments(data.batch())[0][0, 0])
        assert b == pytest.approx(dfcrm[patients - 1], abs=6e-5)
        assert b == pytest.approx(book[patients - 1], abs=0.006)
        if patients < 20:
            assert design.next_dose(data).level == given_[patients]
    np.testing.assert_allclose(design.risks(data.batch())[0], floats(BOOK["risks"]), atol=6e-8)


@pytest.mark.parametrize(
    ("half", "target", "mtd", "levels", "model", "printed"),
    [
        (0.1, 0.25, 3, 6, "logistic", ".017726166 .086116536 .25 .466823452 .646860973 .763057067"),
        (0.1, 0.25, 3, 6, "power", ".010812715 .081662971 .25 .464337745 .654084216 .790634855"),
        (0.05, 0.25, 3, 5, "power", ".083973491 .156741021 .25 .354500428 .460343111"),
        (0.06, 0.30, 3, 5, "power", ".095440267 .186039494 .30 .422356254 .539546831"),
    ],
)
def test_skeletons_of_getprior(half, target, mtd, levels, model, printed):
    found = skeleton(half, target, mtd, levels, model=model)
    np.testing.assert_allclose(found, floats(printed), atol=6e-10)


def test_coherence_of_initial_doses_as_dfcrm_finds_it():
    planned = [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3 + [6] * 9
    assert incoherent_patient(CRM(levels=6, target=0.2, skeleton=SIX), planned) is None
    assert incoherent_patient(CRM(levels=6, target=0.3, skeleton=SIX), planned) == 5


def test_each_patient_gets_the_initial_dose_of_his_turn():
    """As dfcrm's x0 has one dose for each patient: cohorts of three skipped dose 2."""
    design = CRM(
        levels=4, target=0.25, skeleton=(0.05, 0.1, 0.25, 0.4), initial=(1, 2, 2, 3, 3, 3),
        most_patients=6,
    )  # fmt: skip
    found = characteristics(replace(design, most_patients=9), [0.0] * 4)
    assert found.treated.values.tolist() == [1, 2, 3, 3]
    ends = enumerate_courses(design)
    spared = np.flatnonzero(ends.dlts.sum(axis=1) == 0)
    assert ends.treated[spared].tolist() == [[1, 2, 3, 0]]
    chance = ends.probabilities(np.array([[0.1, 0.2, 0.3, 0.5]]))[0, spared]
    np.testing.assert_allclose(chance, 0.9 * 0.8**2 * 0.7**3)
    made = simulate_trials(design, [0.0] * 4, accrual=Accrual(7), times=EventTimes(28), trials=2)
    assert made.treated.values.tolist() == [1, 2, 3, 0]


def test_no_initial_dose_is_passed_over():
    design = CRM(levels=4, target=0.25, skeleton=(0.05, 0.1, 0.25, 0.4), initial=(1, 2, 2, 3, 3, 3))
    assert design.next_dose(TrialData((3, 0, 0, 0), (0, 0, 0, 0), 1, last_cohort=(3, 0))).level == 2
    assert design.next_dose(TrialData((3, 3, 0, 0), (0, 0, 0, 0), 2, last_cohort=(3, 0))).level == 3


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (1, {0: (4, (5, 3, 2, 1)), 1: (1, (2, 1, 1, 1)), 2: (1, (1,) * 4), 3: (1, (1,) * 4)}),
        (3, {0: (5, (5, 4, 4, 3)), 1: (2, (3, 2, 1, 1)), 2: (1, (2, 1, 1, 1)), 3: (1, (1,) * 4)}),
    ],
)
def test_two_cohorts_of_dfcrm(start, expected):
    design = CRM(
        levels=5,
        start=start,
        target=0.25,
        skeleton=(0.05, 0.1, 0.25, 0.4, 0.6),
        coherence="none",
        skip_up=True,
    )
    found = pathways(design, 2)
    for first, (second, third) in expected.items():
        rows = found.dlts[:, 0] == first
        assert set(found.levels[rows, 1]) == {second}
        assert tuple(found.levels[rows, 2]) == third


# -- posterior against adaptive quadrature ------------------------------------------------------


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1)), min_size=4, max_size=4))
@settings(max_examples=15)
def test_posterior_is_that_of_adaptive_quadrature(rows):
    treated = np.array([n for n, _ in rows])
    dlts = np.array([round(share * n) for n, share in rows])
    prior = np.array([0.05, 0.15, 0.3, 0.5])
    design = CRM(levels=4, target=0.25, skeleton=prior, estimate="mean")
    data = Trials(treated=treated[None, :], dlts=dlts[None, :], current=np.array([1]))
    peak = float(design.moments(data)[0][0, 0])

    def density(b):
        p = np.exp(np.log(prior) * np.exp(b))
        with np.errstate(divide="ignore"):
            log_p = np.maximum(np.log(p), -1e300) @ dlts + np.log1p(-p) @ (treated - dlts)
        return np.exp(log_p + 40.0) * norm.pdf(b, scale=1.34**0.5)

    def integral(of, low=-9.0, high=9.0):
        ends = np.unique(np.clip(np.arange(-9.0, 9.5, 0.5), low, high))
        parts = [quad(lambda b: of(b) * density(b), *end)[0] for end in pairwise(ends)]
        return sum(parts)

    whole = integral(lambda b: 1.0)
    assert peak == pytest.approx(integral(lambda b: b) / whole, abs=1e-6)
    mean_risk = integral(lambda b: prior[1] ** np.exp(b)) / whole
    assert float(design.risks(data)[0, 1]) == pytest.approx(mean_risk, abs=1e-6)
    edge = np.log(np.log(0.3) / np.log(prior[1]))
    above = integral(lambda b: 1.0, high=edge) / whole
    assert float(design.exceeds(data, 2, 0.3)[0]) == pytest.approx(above, abs=2e-3)


def test_two_parameters_against_gauss_legendre_quadrature():
    prior = np.array([0.1, 0.25, 0.45])
    design = CRM(
        levels=3,
        target=0.25,
        skeleton=prior,
        model="two-parameter logistic",
        intercept=2.0,
        intercept_sd=1.5,
        scale=0.8,
        estimate="mean",
    )
    n, y = np.array([6, 6, 3]), np.array([0, 2, 2])
    x = logit(prior) - 2.0

    at, share = np.polynomial.legendre.leggauss(160)
    a, b = (2.0 + 9.0 * at)[:, None], (4.0 * at)[None, :]
    density = norm.pdf(a, 2.0, 1.5) * norm.pdf(b, 0, 0.8) * np.outer(share, share)
    for dose in range(3):
        density = density * binom.pmf(y[dose], n[dose], expit(a + np.exp(b) * x[dose]))
    mean = (expit(a + np.exp(b) * x[1]) * density).sum() / density.sum()
    data = Trials(treated=n[None, :], dlts=y[None, :], current=np.array([3]))
    assert float(design.risks(data)[0, 1]) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(("scale", "patients"), [(8.0, 30), (0.3, 30), (1.2, 300)])
def test_posteriors_under_wide_priors_and_of_many_patients(scale, patients):
    """Sums over the grid against Gauss-Legendre panels, with narrow and wide likelihoods."""
    prior = np.array([0.1, 0.25, 0.45])
    n = np.array([patients // 3] * 3)
    y = np.round(n * [0.07, 0.2, 0.4]).astype(int)
    design = CRM(levels=3, target=0.25, skeleton=prior, scale=scale)
    data = Trials(treated=n[None, :], dlts=y[None, :], current=np.array([3]))
    mean, var = (float(part[0, 0]) for part in design.moments(data))
    nodes, share = np.polynomial.legendre.leggauss(40)
    panels = np.arange(-8.0, 8.0, 0.25)
    b = (panels[:, None] + 0.125 * (nodes + 1)).reshape(-1)
    p = prior[:, None] ** np.exp(b)
    with np.errstate(divide="ignore"):
        log_p = y @ np.maximum(np.log(p), -1e300) + (n - y) @ np.log1p(-p)
    w = np.exp(log_p - log_p.max()) * norm.pdf(b, scale=scale) * np.tile(share, len(panels))
    w /= w.sum()
    assert mean == pytest.approx(float(w @ b), abs=1e-8)
    assert var == pytest.approx(float(w @ b**2 - (w @ b) ** 2), abs=1e-8)


def test_two_parameters_with_a_known_intercept_are_one():
    shared = {"levels": 6, "target": 0.2, "skeleton": SIX, "estimate": "mean"}
    one = CRM(model="logistic", **shared)
    two = CRM(model="two-parameter logistic", intercept_sd=1e-6, **shared)
    np.testing.assert_allclose(one.risks(CRM_RD.batch()), two.risks(CRM_RD.batch()), atol=1e-6)


def test_overdose_control_leaves_safe_doses():
    free = CRM(levels=6, target=0.2, skeleton=SIX)
    held = replace(free, overdose=OverdoseControl(limit=0.3, certainty=0.1))
    batch = CRM_RD.batch()
    allowed = held.allowed(batch)[0]
    over = [float(free.exceeds(batch, j, 0.3)[0]) for j in range(1, 7)]
    assert allowed.tolist() == [share <= 0.1 for share in over]
    assert held.wanted(batch)[0] < free.wanted(batch)[0]
    none = TrialData.from_outcomes(6, "1TTT")
    stopped = held.next_dose(none)
    assert (stopped.level, stopped.mtd, stopped.why) == (None, None, Why.TOO_TOXIC)
    assert "the lowest dose exceeds a risk of 0.3" in stopped.reason


def test_coherence_holds_the_dose_after_dlts_and_needs_to_know_them():
    data = TrialData.from_outcomes(6, "1NNNNNNNNN 2NNNNNT")
    design = CRM(levels=6, target=0.15, skeleton=SIX)
    assert replace(design, coherence="none").next_dose(data).level == 3
    found = design.next_dose(data)
    assert found.level == 2
    assert "the dose does not rise after 1 of 6 patients had a DLT" in found.reason
    with pytest.raises(PkpdError, match=r"give last_cohort=\(patients, DLTs\)"):
        design.next_dose(replace(data, last_cohort=None))


@given(st.integers(1, 6), st.integers(1, 12), st.sampled_from(["power", "logistic"]))
@settings(max_examples=30)
def test_the_crm_does_not_rise_with_the_number_of_dlts(level, patients, model):
    design = CRM(levels=6, target=0.25, skeleton=SIX, model=model, most_patients=None)
    dlts = np.arange(patients + 1)
    treated = np.zeros((patients + 1, 6), int)
    treated[:, level - 1] = patients
    seen = np.zeros_like(treated)
    seen[:, level - 1] = dlts
    data = Trials(treated=treated, dlts=seen, current=np.full(patients + 1, level))
    assert (np.diff(design.decide(data).level) <= 0).all()


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_weights_and_forecasts_are_inverse(weight, risk):
    back = weight_of_forecast(forecast_of_weight(weight, risk), risk)
    assert float(back) == pytest.approx(weight, abs=1e-9)


def test_weights():
    thirds = piecewise_weight((0.2, 0.3, 0.5))
    np.testing.assert_allclose(thirds(np.array([0, 10, 15, 30]), 30), [0, 0.2, 0.35, 1])
    assert float(weight_of_forecast(0.6, 0.3)) == pytest.approx(-2.5), "bad news counts"
    assert float(weight_of_forecast(0.6, 0.3, signed=False)) == 0.0
    with pytest.raises(PkpdError, match="shares that sum to 1"):
        piecewise_weight((0.5, 0.2))
    with pytest.raises(PkpdError, match=r"1\.2 is no probability"):
        weight_of_forecast(1.2, 0.3)


@pytest.mark.slow
def test_simulation_of_dfcrm():
    """crmsim with 2,000 trials of 12 cohorts of 2, without skipping and coherent."""
    design = CRM(levels=6, start=3, target=0.2, skeleton=SIX, cohort_size=2, most_patients=24)
    risks = (0.10, 0.20, 0.40, 0.50, 0.60, 0.65)
    found = simulate_trials(design, risks, accrual=Accrual(1), times=EventTimes(1), trials=4000)
    printed = np.array(floats(".2945 .5475 .1525 .005 .0005 0"))
    error = np.sqrt(printed * (1 - printed) / 2000 + found.selected_se.values**2)
    assert (np.abs(found.selected - printed) < 3 * error + 1e-3).all()
    printed = np.array(floats("8.215 8.286 5.859 1.319 .272 .049"))
    assert (np.abs(found.treated - printed) < 0.35).all()


def test_limits_of_a_logistic_risk_that_rises_with_its_parameter_are_in_order():
    design = CRM(levels=3, target=0.25, skeleton=(0.25, 0.6, 0.8), model="logistic", intercept=0.0)
    seen = TrialData.from_outcomes(3, "1NNN 2NTT")
    (low, high), risks = design.limits(seen), design.risks(seen)
    assert ((low < risks) & (risks < high)).all()


def test_the_initial_doses_say_that_accrual_waits():
    design = TiteCRM(
        levels=3, target=0.25, skeleton=(0.1, 0.25, 0.4), initial=(1, 1, 2), most_pending=2
    )
    waiting = (Pending(1, 0.5), Pending(1, 0.5))
    found = design.next_dose(TrialData((2, 0, 0), (0, 0, 0), 1, waiting, (1, 0)))
    assert found.reason.endswith("go on; accrual waits for 2 pending patients.")


def test_a_first_patient_with_a_dlt_is_answered_without_a_maximum():
    design = CRM(
        levels=3,
        target=0.25,
        skeleton=(0.1, 0.25, 0.4),
        initial=(1, 2, 3),
        estimate="maximum",
        cohort_size=1,
    )
    found = design.next_dose(TrialData((1, 0, 0), (1, 0, 0), 1, last_cohort=(1, 1)))
    assert found.level == 1
    assert found.reason.startswith("Everybody has had a DLT: ")
    assert found.reason.endswith("maximum likelihood, and no dose is lower.")


def test_overdose_control_without_a_maximum_is_told():
    design = CRM(
        levels=3, target=0.25, skeleton=(0.1, 0.25, 0.4), initial=(1, 2, 3), estimate="maximum",
        cohort_size=1, overdose=OverdoseControl(0.3, 0.25),
    )  # fmt: skip
    found = design.next_dose(TrialData((1, 0, 0), (1, 0, 0), 1, last_cohort=(1, 1)))
    assert (found.level, found.why) == (None, Why.TOO_TOXIC)
    assert "and even the lowest dose exceeds a risk of 0.3 with probability" in found.reason
    high = replace(design, levels=4, skeleton=(1e-4, 0.25, 0.4, 0.5), initial=(3, 3, 4), start=3)
    found = high.next_dose(TrialData((0, 0, 1, 0), (0, 0, 1, 0), 3, last_cohort=(1, 1)))
    assert found.level == 1
    assert "and dose 2 exceeds a risk of 0.3 with probability" in found.reason


def test_a_logistic_skeleton_on_both_sides_of_its_intercept_is_refused():
    with pytest.raises(PkpdError, match="intercept"):
        skeleton(0.1, 0.45, 3, 5, model="logistic", intercept=0.0)
    for intercept in (3.0, -3.0):
        found = skeleton(0.1, 0.45, 3, 5, model="logistic", intercept=intercept)
        assert (np.diff(found) > 0).all()
