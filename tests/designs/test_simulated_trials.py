"""Simulated trials against exact characteristics, and BF-BOIN against its published table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.designs import (
    BLRM,
    BOIN,
    CRM,
    Accrual,
    BackfillBOIN,
    EventTimes,
    Keyboard,
    Pending,
    Responses,
    RiskOutcomes,
    RollingSix,
    ThreePlusThree,
    TiteBOIN,
    TiteCRM,
    TrialData,
    characteristics,
    linear_weight,
    simulate_trials,
)
from pkpd.errors import PkpdError

RISKS = (0.05, 0.15, 0.30, 0.45)
SKELETON = (0.08, 0.17, 0.30, 0.44)
WINDOW = EventTimes(28)
EVERY_DESIGN = [
    ThreePlusThree(levels=4),
    BOIN(levels=4, target=0.3, most_patients=18),
    BOIN(levels=4, target=0.3, most_patients=18, titrate=True, enough_at_dose=9),
    Keyboard(levels=4, target=0.3, most_patients=18),
    CRM(levels=4, target=0.3, skeleton=SKELETON, most_patients=12),
    BLRM(
        levels=4,
        amounts=(5, 10, 20, 30),
        reference=20,
        most_patients=12,
        points=(161, 61),
    ),
    BackfillBOIN(levels=4, target=0.3, most_patients=18),
    TiteBOIN(levels=4, target=0.3, most_patients=18),
    TiteCRM(levels=4, target=0.3, skeleton=SKELETON, most_patients=10),
    RollingSix(levels=4),
]


@pytest.mark.parametrize("design", EVERY_DESIGN, ids=lambda design: design.name)
def test_simulation_of_assessed_cohorts_is_exact_within_its_error(design):
    """Patients who come slowly are assessed one cohort after the other in every design."""
    slow = Accrual(every_days=1e4, kind="fixed")
    found = simulate_trials(design, RISKS, accrual=slow, times=WINDOW, trials=3000, seed=7)
    exact = characteristics(design, RISKS)
    for name in ("selected", "treated", "dlts"):
        gap = np.abs(found[name].values - exact[name].values)
        assert (gap < 4 * found[f"{name}_se"].values + 1e-3).all(), name
    assert float(found.none) == pytest.approx(
        float(exact.none), abs=4 * float(found.none_se) + 1e-3
    )
    assert float(found.stopped.sum()) == pytest.approx(1, abs=1e-12)


@given(st.integers(0, 10**6), st.sampled_from(["exponential", "uniform"]))
@settings(max_examples=8)
def test_accrual_changes_the_time_and_not_the_outcome_of_designs_that_wait(seed, kind):
    design = BOIN(levels=3, target=0.3, most_patients=12)
    quick = Accrual(1.0, kind)
    found = simulate_trials(design, RISKS[:3], accrual=quick, times=WINDOW, trials=800, seed=seed)
    exact = characteristics(design, RISKS[:3])
    assert (np.abs(found.treated - exact.treated) < 5 * found.treated_se + 0.02).all()
    assert float(found.suspended) > 0


@pytest.mark.parametrize(("design", "days"), [
    (BOIN(levels=2, target=0.3, most_patients=3), 0.0),
    (BOIN(levels=2, target=0.3, most_patients=6), 18.0),
    (ThreePlusThree(levels=1), 0.0),
    (ThreePlusThree(levels=2), 18.0),
])  # fmt: skip
def test_the_follow_up_of_the_last_patients_suspends_no_accrual(design, days):
    """Patients on days 0, 10, 20; the next could enter on day 30 and waits until day 48."""
    found = simulate_trials(
        design, [0.0] * design.levels, accrual=Accrual(10, "fixed"), times=EventTimes(28), trials=4
    )
    assert float(found.suspended) == days


@pytest.mark.parametrize(
    ("settings", "responses", "days"),
    [
        # one every 10 days; the patient of day 30 waits for that of day 20 to be assessed (48),
        # and those of days 78 and 88 (128 and 138) are backfilled while that of day 68 (118) is
        ({"patients_wait": True}, EventTimes(28, "uniform"), 48 - 30),
        # turned away on days 30 and 40; those of days 80 and 90, and 130 and 140, are backfilled
        ({"patients_wait": False}, EventTimes(28, "uniform"), 50 - 30),
        # nobody responds: the patient of day 78 waits for that of day 68 (96), too
        ({"patients_wait": True}, None, 48 - 30 + 96 - 78),
    ],
)
def test_days_on_which_patients_are_backfilled_are_not_suspended(settings, responses, days):
    found = simulate_trials(
        BackfillBOIN(levels=3, target=0.25, most_patients=9),
        [0.0, 0.0, 0.0],
        accrual=Accrual(10, "fixed", **settings),
        times=EventTimes(28),
        responses=Responses((1, 1, 1), responses) if responses else None,
        trials=50,
    )
    assert float(found.backfilled.sum()) == (4 if responses else 0)
    assert float(found.suspended) == pytest.approx(days)


def test_rolling_six_with_fewer_patients_ends_at_its_highest_dose():
    """It waited for ever for the fifth of four."""
    times, accrual = EventTimes(28), Accrual(5, "fixed")
    found = simulate_trials(
        RollingSix(levels=1, enrolled_most=4), [0.0], accrual=accrual, times=times, trials=3
    )
    assert (float(found.selected[0]), float(found.patients)) == (1.0, 4.0)


def test_figures_by_the_target_are_those_of_exact_trials_with_the_error_of_repetitions():
    """Two doses are right; 60 repetitions scatter as the errors say, patients by their trial."""
    design, risks = BOIN(levels=3, target=0.3, most_patients=12), (0.3, 0.3, 0.5)
    shared = {"accrual": Accrual(1e4, "fixed"), "times": WINDOW, "trials": 60}
    many = [simulate_trials(design, risks, seed=seed, **shared) for seed in range(60)]
    exact = characteristics(design, risks)
    for name in ("correct", "too_high", "overdosed"):
        values, errors = ([float(one[n]) for one in many] for n in (name, f"{name}_se"))
        assert 0.8 < np.std(values, ddof=1) / np.mean(errors) < 1.25, name
        assert abs(np.mean(values) - float(exact[name])) < 4 * np.mean(errors) / 60**0.5 + 2e-3, (
            name
        )


@pytest.mark.slow
def test_time_to_event_designs_are_quicker():
    shared = {"accrual": Accrual(10), "times": WINDOW, "trials": 400}
    boin = simulate_trials(BOIN(levels=4, target=0.3), RISKS, **shared)
    tite = simulate_trials(TiteBOIN(levels=4, target=0.3), RISKS, **shared)
    crm = simulate_trials(TiteCRM(levels=4, target=0.3, skeleton=SKELETON), RISKS, **shared)
    three = simulate_trials(ThreePlusThree(levels=4), RISKS, **shared)
    rolling = simulate_trials(RollingSix(levels=4), RISKS, **shared)
    assert float(tite.duration) < 0.85 * float(boin.duration)
    assert float(crm.duration) < 0.75 * float(boin.duration)
    assert float(rolling.duration) < float(three.duration)
    assert abs(float(tite.correct) - float(boin.correct)) < 0.12


def test_draws_of_the_risks_are_simulated_each():
    risks = np.array([[0.05, 0.1, 0.2], [0.5, 0.6, 0.7]])
    design = RollingSix(levels=3)
    found = simulate_trials(design, risks, accrual=Accrual(10), times=WINDOW, trials=300)
    assert found.selected.dims == ("draw", "level")
    assert float(found.none[0]) < 0.1 < 0.6 < float(found.none[1])
    np.testing.assert_allclose(found.none + found.selected.sum("level"), 1, atol=1e-12)
    p = found.selected.values
    error = np.sqrt(p * (1 - p) / 299)
    np.testing.assert_allclose(found.selected_se, error, atol=1e-12)


def test_a_seed_gives_the_same_trials():
    design = TiteBOIN(levels=3, target=0.3)
    one, two, other = (
        simulate_trials(design, RISKS[:3], accrual=Accrual(9), times=WINDOW, trials=50, seed=seed)
        for seed in (4, 4, 5)
    )
    assert one.identical(two)
    assert not one.identical(other)


class Forecast(RiskOutcomes):
    """Outcomes whose pending patients have the weight of their forecast, here one for all."""

    sure = 0.0

    def enrol(self, u, draw, level):
        days, _ = super().enrol(u, draw, level)
        return days, np.isfinite(days).astype(int)

    def weights(self, who, level, followed):
        assert set(np.unique(who)) <= {0, 1}
        assert who.shape == level.shape == followed.shape
        return np.full(followed.shape, self.sure)


class SureForecast(Forecast):
    sure = 1.0


@pytest.mark.slow
def test_forecasts_can_stand_in_the_place_of_follow_up():
    """Who is taken as spared lets the dose rise, and by follow-up the truth lies between."""
    design = TiteBOIN(levels=4, target=0.3, estimator="effective sample size")
    shared = {"accrual": Accrual(3), "trials": 600}
    high = []
    for kind in (Forecast, RiskOutcomes, SureForecast):
        found = simulate_trials(design, kind(np.array(RISKS), WINDOW), **shared)
        assert found.sizes["draw"] == 1
        high.append(float(found.treated[0, 3]))
    assert high[0] + 0.3 < high[1] < high[2] - 0.3


def test_event_times_have_their_share_in_the_second_half():
    u = (np.arange(200_000) + 0.5) / 200_000
    for late in (0.5, 0.8):
        days = EventTimes(40, late=late).days(u, np.full(len(u), 0.3))
        assert np.isfinite(days).mean() == pytest.approx(0.3, abs=1e-5)
        assert (days[np.isfinite(days)] > 20).mean() == pytest.approx(late, abs=1e-4)
    even = EventTimes(40, "uniform").days(u, np.full(len(u), 0.3))
    assert (even[np.isfinite(even)] > 30).mean() == pytest.approx(0.25, abs=1e-4)
    assert np.isinf(EventTimes(40).days(u[:5], np.zeros(5))).all()
    assert np.isfinite(EventTimes(40).days(u, np.ones(len(u)))).all()


# -- BF-BOIN --------------------------------------------------------------------------------------

ZHAO_DLT = {
    1: (0.25, 0.41, 0.45, 0.49, 0.53),
    2: (0.12, 0.25, 0.42, 0.49, 0.55),
    3: (0.04, 0.12, 0.25, 0.43, 0.63),
    4: (0.02, 0.06, 0.10, 0.25, 0.40),
    5: (0.02, 0.05, 0.08, 0.11, 0.25),
}
ZHAO = [  # Zhao 2024, Tables 3 and 4: DLT rates, response rates; correct and too high selection in
    # per cent, patients below, at and above the dose, patients, months
    (1, (0.30, 0.40, 0.45, 0.50, 0.55), (79.9, 13.5, None, 10.8, 6.1, 17.0, 8.4)),
    (2, (0.20, 0.30, 0.40, 0.50, 0.60), (57.8, 10.9, 10.4, 10.3, 4.8, 25.5, 12.1)),
    (3, (0.10, 0.20, 0.30, 0.45, 0.58), (57.6, 9.7, 16.9, 9.8, 4.2, 30.9, 14.3)),
    (4, (0.05, 0.10, 0.15, 0.30, 0.45), (56.7, 13.6, 20.4, 9.6, 3.7, 33.8, 15.6)),
    (5, (0.05, 0.10, 0.15, 0.20, 0.30), (62.8, None, 27.2, 7.2, None, 34.4, 15.5)),
    (2, (0.30, 0.35, 0.36, 0.36, 0.36), (57.5, 10.8, 11.1, 10.3, 4.8, 26.2, 12.1)),
    (3, (0.15, 0.30, 0.35, 0.36, 0.36), (57.1, 9.6, 18.3, 9.9, 4.2, 32.3, 14.3)),
    (4, (0.10, 0.20, 0.30, 0.35, 0.35), (57.0, 13.2, 23.5, 9.7, 3.6, 36.7, 15.6)),
    (5, (0.10, 0.15, 0.20, 0.30, 0.35), (62.9, None, 29.5, 7.2, None, 36.7, 15.5)),
    (3, (0.30, 0.32, 0.35, 0.36, 0.36), (57.2, 9.5, 20.1, 9.8, 4.2, 34.2, 14.3)),
    (4, (0.10, 0.30, 0.32, 0.35, 0.36), (57.0, 13.1, 24.3, 9.7, 3.5, 37.5, 15.6)),
    (5, (0.10, 0.15, 0.30, 0.32, 0.35), (62.8, None, 30.0, 7.1, None, 37.1, 15.5)),
]
ZHAO_BOIN = {  # the same without backfilling
    1: (77.0, 16.7, None, 8.7, 6.2, 15.1, 8.8),
    2: (55.6, 14.5, 7.2, 8.4, 5.1, 20.7, 12.3),
    3: (56.7, 12.3, 11.4, 8.0, 4.6, 23.9, 14.3),
    4: (53.3, 17.1, 14.0, 7.7, 4.0, 25.7, 15.5),
    5: (63.9, None, 17.6, 7.3, None, 24.9, 15.1),
}
BF_BOIN = BackfillBOIN(levels=5, target=0.25, enough_at_dose=9, stay_at_1_of_3=True)


def zhao_row(dlt, response, trials):
    month = EventTimes(1.0)
    found = simulate_trials(
        BF_BOIN,
        ZHAO_DLT[dlt],
        accrual=Accrual(1 / 3, "uniform", patients_wait=False),
        times=month,
        responses=Responses(response, month),
        trials=trials,
        seed=dlt,
    )
    at = int(found.right) - 1
    n = found.treated.values
    above = (100 * float(found.too_high), float(n[at + 1 :].sum())) if at < 4 else (None, None)
    return (
        100 * float(found.correct),
        above[0],
        float(n[:at].sum()) if at else None,
        float(n[at]),
        above[1],
        float(n.sum()),
        float(found.duration),
    )


def assert_as_published(found, printed, share):
    """Within some Monte Carlo errors of both: the paper's two runs of BOIN differ by 1.3 points."""
    for value, paper, width in zip(found, printed, (share, share, *[0.7] * 4, 0.3), strict=True):
        assert (value is None) == (paper is None)
        if paper is not None:
            assert value == pytest.approx(paper, abs=width)


def test_one_row_of_the_published_table():
    dlt, response, printed = ZHAO[2]
    assert_as_published(zhao_row(dlt, response, 2000), printed, 4.5)


@pytest.mark.long  # one row is above
@pytest.mark.parametrize(("dlt", "response", "printed"), ZHAO)
def test_the_published_table(dlt, response, printed):
    assert_as_published(zhao_row(dlt, response, 10_000), printed, 2.5)


@pytest.mark.parametrize(
    "dlt",
    [
        pytest.param(dlt, marks=pytest.mark.slow if dlt == 1 else pytest.mark.long)
        for dlt in ZHAO_BOIN
    ],
)
def test_the_published_table_without_responses(dlt):
    assert_as_published(zhao_row(dlt, (0.0,) * 5, 10_000), ZHAO_BOIN[dlt], 2.5)


def test_backfilling_opens_with_a_response_and_closes_with_toxicity():
    design = BackfillBOIN(levels=4, target=0.25, most_backfilled=9)
    waiting = tuple(Pending(3, 0.4) for _ in range(3))

    def dose(treated=(3, 3, 3, 0), dlts=(0, 0, 0, 0), responses=(1, 0, 0, 0)):
        return design.next_dose(TrialData(treated, dlts, 3, waiting, responses=responses)).backfill

    assert dose() == 2  # a response at dose 1 opens dose 2 as well
    assert dose(responses=(0, 1, 0, 0)) == 2
    assert dose(responses=(0, 0, 0, 0)) is None
    assert dose(responses=(0, 0, 1, 0)) is None  # the present dose is not backfilled
    assert dose(dlts=(0, 2, 0, 0)) == 1
    assert dose(treated=(3, 9, 3, 0)) == 1
    assert dose(treated=(9, 9, 3, 0)) is None


def test_data_of_a_backfilled_dose_hold_escalation_back():
    design = BackfillBOIN(levels=4, target=0.25)
    calm = TrialData((6, 6, 3, 0), (0, 1, 0, 0), 3, backfilled=(3, 3, 0, 0))
    assert design.next_dose(calm).level == 4
    conflict = TrialData((6, 6, 3, 0), (0, 3, 0, 0), 3, backfilled=(3, 3, 0, 0))
    found = design.next_dose(conflict)  # pooled: 3 of 9 from dose 2 to dose 3, de-escalate
    assert found.level == 1
    alone = TrialData((6, 6, 3, 0), (0, 3, 0, 0), 3)
    assert design.next_dose(alone).level == 4


def test_what_a_simulation_cannot_use_is_refused():
    design = RollingSix(levels=2)
    accrual = Accrual(10)
    for call, text in (
        (lambda: Accrual(0), "above 0 days"),
        (lambda: Accrual(3, "weekly"), "exponential, uniform, fixed"),
        (lambda: EventTimes(-1), "above 0 days"),
        (lambda: EventTimes(28, "gamma"), "weibull, uniform"),
        (lambda: EventTimes(28, late=1.0), "between 0 and 1"),
        (lambda: simulate_trials(design, [0.1, 0.2], accrual=accrual), "say when DLTs come"),
        (
            lambda: simulate_trials(design, [0.1, 2], accrual=accrual, times=WINDOW),
            "2 is no risk of a DLT",
        ),
        (
            lambda: simulate_trials(design, [0.1, 0.2], accrual=accrual, times=WINDOW, trials=1),
            "2 or more",
        ),
        (
            lambda: simulate_trials(
                design,
                [0.1, 0.2],
                accrual=accrual,
                times=WINDOW,
                responses=Responses([0.1], WINDOW),
            ),
            "give one for each dose",
        ),
    ):
        with pytest.raises(PkpdError, match=text):
            call()


def test_weights_of_a_window_that_has_passed_are_one():
    assert linear_weight(np.array([30.0]), 28.0).tolist() == [1.0]


def test_an_assessment_ends_with_its_window_and_no_rounding_later():
    third = Accrual(1 / 3, "fixed")
    found = simulate_trials(
        ThreePlusThree(levels=5), [0.0] * 5, accrual=third, times=WINDOW, trials=2
    )
    # of each cohort: two gaps, and the window of the last patient
    assert float(found.duration) == pytest.approx(5 * (28 + 2 / 3))
