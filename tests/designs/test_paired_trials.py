"""Trials of any two designs meet the same patients, and their differences are paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pkpd.designs import (
    BOIN,
    Accrual,
    BackfillBOIN,
    EventTimes,
    Pending,
    Responses,
    RiskOutcomes,
    RollingSix,
    TiteBOIN,
    TiteCRM,
    TrialData,
    characteristics,
    compare_trials,
    forecast_of_weight,
    simulate_trials,
    skeleton,
    weight_of_forecast,
)
from pkpd.designs.simulate.chance import _STEP, DLT, GAP, _scrambled, uniforms
from pkpd.errors import PkpdError

RISKS = np.array([0.05, 0.15, 0.30, 0.45])
WINDOW = EventTimes(28)


def test_numbers_are_those_of_splitmix64():
    """First outputs for the seed 1234567, as implementations in C and Java give them."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    turn = np.arange(1, 6, dtype=np.uint64)
    assert _scrambled(np.uint64(1234567) + turn * _STEP).tolist() == published


def test_numbers_of_trials_places_and_kinds_are_uniform_and_unrelated():
    trial, place = (part.ravel() for part in np.meshgrid(np.arange(1000), np.arange(50)))
    some = {
        "one": uniforms(1, GAP, trial, place),
        "kind": uniforms(1, DLT, trial, place),
        "seed": uniforms(2, GAP, trial, place),
        "next trial": uniforms(1, GAP, trial + 1, place),
        "next place": uniforms(1, GAP, trial, place + 1),
    }
    for name, u in some.items():
        assert stats.kstest(u, "uniform").pvalue > 1e-4, name
        assert 0 < u.min() < u.max() < 1
    found = np.corrcoef(np.stack(list(some.values())))
    assert np.abs(found - np.eye(5)).max() < 5 / np.sqrt(len(trial))


class Noted(RiskOutcomes):
    """Outcomes that note who came."""

    def enrol(self, u, draw, level):
        self.__dict__.setdefault("came", []).append(np.asarray(u))
        return super().enrol(u, draw, level)


@pytest.mark.parametrize("waits", [True, False])
def test_designs_meet_the_same_patients_in_the_same_order(waits):
    """A patient who is turned away is missing from the queue; nobody else takes his number."""
    queue = uniforms(5, DLT, np.zeros(3000, int), np.arange(3000)).tolist()
    lengths = []
    for design in (BOIN(levels=4, target=0.3), TiteBOIN(levels=4, target=0.3)):
        outcomes = Noted(RISKS, WINDOW)
        accrual = Accrual(10, patients_wait=waits)
        simulate_trials(design, outcomes, accrual=accrual, trials=2, seed=5)
        came = np.concatenate(outcomes.came)
        places = [queue.index(u) for u in came if u in queue]
        assert len(places) > 10
        assert places == sorted(set(places))
        if waits:
            assert places == list(range(len(places)))
        lengths.append(max(places))
    assert waits or lengths[0] > lengths[1], "who waits for assessments turns more away"


def test_backfilled_patients_are_of_the_same_queue():
    design = BackfillBOIN(levels=4, target=0.25)
    found = simulate_trials(
        design,
        RISKS,
        accrual=Accrual(5, "uniform", patients_wait=False),
        times=WINDOW,
        responses=Responses([0.5] * 4, WINDOW),
        trials=200,
    )
    assert float(found.backfilled.sum()) > 1


@pytest.mark.slow
def test_differences_are_paired_and_means_are_those_of_simulations():
    boin, tite = BOIN(levels=4, target=0.3), TiteBOIN(levels=4, target=0.3)
    risks = np.stack([RISKS, RISKS[::-1][::-1] + 0.1])
    shared = {"accrual": Accrual(10), "times": WINDOW, "trials": 300, "seed": 3}
    found = compare_trials({"waits": (boin, risks), "goes on": (tite, risks)}, **shared)
    assert found.right.values.tolist() == [3, 2]
    for name, design in (("waits", boin), ("goes on", tite)):
        one = simulate_trials(design, risks, **shared)
        mine = found.value.sel(way=name)
        np.testing.assert_allclose(mine.sel(measure="correct"), one.correct, atol=1e-12)
        np.testing.assert_allclose(mine.sel(measure="too_high"), one.too_high, atol=1e-12)
        np.testing.assert_allclose(mine.sel(measure="duration"), one.duration)
        np.testing.assert_allclose(mine.sel(measure="dlts"), one.all_dlts)
        above = [float(one.treated[m, right:].sum()) for m, right in enumerate((3, 2))]
        np.testing.assert_allclose(mine.sel(measure="patients_above"), above)
        error = found.value_se.sel(way=name, measure="duration")
        np.testing.assert_allclose(error, one.duration_se)
        whole = np.sqrt((one.duration_se.values**2).sum()) / 2
        assert float(found.mean_se.sel(way=name, measure="duration")) == pytest.approx(whole)
    gap = found.sel(way="goes on", other="waits")
    means = found["mean"].sel(way="goes on") - found["mean"].sel(way="waits")
    np.testing.assert_allclose(gap.difference, means, atol=1e-9)
    apart = np.sqrt((found.mean_se**2).sum("way"))
    assert float(gap.difference_se.sel(measure="duration")) < 0.9 * float(
        apart.sel(measure="duration")
    )
    assert float(gap.difference.sel(measure="duration")) < 0
    alike = found.sel(way="waits", other="waits")
    assert float(abs(alike.difference).max()) == float(alike.difference_se.max()) == 0.0


def test_patients_are_above_and_below_the_right_doses_by_their_risks():
    """As exact trials have it, with two right doses and with risks that fall."""
    design = BOIN(levels=3, target=0.3, most_patients=12)
    risks = np.array([[0.3, 0.3, 0.5], [0.5, 0.3, 0.1]])
    found = compare_trials(
        {"one": (design, risks)}, accrual=Accrual(1e4, "fixed"), times=WINDOW, trials=1000
    ).sel(way="one")
    exact = characteristics(design, risks)
    treated = exact.treated.values
    wanted = {
        "correct": exact.correct,
        "too_high": exact.too_high,
        "patients_above": [treated[0, 2], treated[1, 0]],
        "patients_at": [treated[0, :2].sum(), treated[1, 1]],
        "patients_below": [0.0, treated[1, 2]],
    }
    for name, values in wanted.items():
        mine = found.sel(measure=name)
        assert (abs(mine.value - values) <= 4 * mine.value_se + 1e-12).all(), name
    assert found.right.values.tolist() == [1, 2]


@pytest.mark.long  # differences are paired above
def test_the_error_of_paired_differences_is_that_of_repetitions():
    """Forty repetitions with other seeds scatter as the paired standard error says."""
    ways = {
        "waits": (BOIN(levels=3, target=0.3, most_patients=12), RISKS[1:]),
        "goes on": (TiteBOIN(levels=3, target=0.3, most_patients=12), RISKS[1:]),
    }
    shared = {"accrual": Accrual(10), "times": WINDOW, "trials": 60}
    many = [compare_trials(ways, seed=seed, **shared) for seed in range(40)]
    gaps = [float(f.difference.sel(way="goes on", other="waits", measure="duration")) for f in many]
    told = np.mean(
        [float(f.difference_se.sel(way="goes on", other="waits", measure="duration")) for f in many]
    )
    assert 0.7 < np.std(gaps, ddof=1) / told < 1.4


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ({}, "there is none"),
        (
            {"a": (BOIN(levels=2, target=0.3), [0.1, 0.3]),
             "b": (BOIN(levels=2, target=0.3), [0.1, 0.4])},
            "its risks are not those of 'a'",
        ),
        ({"a": (RollingSix(levels=2), [0.1, 0.3])}, "no dose is right without one"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(ways, told):
    with pytest.raises(PkpdError, match=told):
        compare_trials(ways, accrual=Accrual(10), times=WINDOW, trials=10)


# -- weights with a sign --------------------------------------------------------------------------


def test_a_weight_with_its_sign_is_the_likelihood_of_what_was_seen():
    """A mark has density f1 in patients with a DLT and f0 in others; Bayes' rule forecasts it."""
    mark = np.linspace(-2, 4, 13)
    with_dlt, without = stats.norm(1.5, 1).pdf(mark), stats.norm(0, 1).pdf(mark)
    prior = 0.2
    forecast = prior * with_dlt / (prior * with_dlt + (1 - prior) * without)
    weight = weight_of_forecast(forecast, np.full(mark.shape, prior))
    np.testing.assert_allclose(weight, 1 - with_dlt / without, rtol=1e-10)
    for p in (0.05, 0.3, 0.8):
        likelihood = p * with_dlt + (1 - p) * without
        np.testing.assert_allclose((1 - weight * p) * without, likelihood, rtol=1e-10)
        later = p * with_dlt / likelihood
        np.testing.assert_allclose(forecast_of_weight(weight, p), later, rtol=1e-9)
    clipped = weight_of_forecast(forecast, np.full(mark.shape, prior), signed=False)
    np.testing.assert_allclose(clipped, np.maximum(weight, 0), atol=1e-12)


def test_the_crm_takes_a_patient_who_is_sure_of_a_dlt_as_one_with_a_dlt():
    design = TiteCRM(levels=4, target=0.25, skeleton=skeleton(0.06, 0.25, 2, 4))
    sure = float(weight_of_forecast(np.array(1.0), np.array(0.2)))
    waits = TrialData((3, 3, 0, 0), (0, 1, 0, 0), 2, (Pending(2, sure),)).batch()
    had = TrialData((3, 3, 0, 0), (0, 2, 0, 0), 2).batch()
    np.testing.assert_allclose(design.risks(waits), design.risks(had), rtol=1e-5)
    spared = TrialData((3, 3, 0, 0), (0, 1, 0, 0), 2, (Pending(2, 1 - 1e-12),)).batch()
    none = TrialData((3, 3, 0, 0), (0, 1, 0, 0), 2).batch()
    np.testing.assert_allclose(design.risks(spared), design.risks(none), rtol=1e-9)


def test_a_forecast_that_has_risen_holds_escalation_back():
    design = TiteBOIN(levels=3, target=0.3)
    doses = [
        design.next_dose(TrialData((3, 0, 0), (0, 0, 0), 1, (Pending(1, weight),))).level
        for weight in (1.0, 0.0, -3.0)
    ]
    assert doses[0] == 2
    assert doses[-1] == 1


# -- fractions of a DLT ---------------------------------------------------------------------------


def test_whole_fractions_are_patients_whose_assessment_has_ended():
    crm = TiteCRM(levels=4, target=0.25, skeleton=skeleton(0.06, 0.25, 2, 4))
    both = (Pending(2, fraction=1.0), Pending(2, fraction=0.0))
    parts = TrialData((3, 5, 0, 0), (0, 1, 0, 0), 2, both).batch()
    known = TrialData((3, 5, 0, 0), (0, 2, 0, 0), 2).batch()
    np.testing.assert_allclose(crm.risks(parts), crm.risks(known), rtol=1e-9)
    for estimate in ("maximum", "mean"):
        other = replace(crm, estimate=estimate, initial=(1, 2) if estimate == "maximum" else ())
        np.testing.assert_allclose(other.risks(parts), other.risks(known), rtol=1e-5)
    for estimator in ("imputation", "effective sample size"):
        boin = TiteBOIN(levels=4, target=0.25, estimator=estimator, most_pending_share=1.0)
        assert boin.turn(parts).tolist() == boin.turn(known).tolist()


@pytest.mark.parametrize("estimator", ["imputation", "effective sample size"])
def test_tite_boin_adds_fractions_to_its_dlts(estimator):
    design = TiteBOIN(levels=3, target=0.25, estimator=estimator, most_pending_share=1.0)
    for parts, turn in (((0.05, 0.05), 1), ((0.6, 0.7), 0), ((0.95, 0.95), -1)):
        waits = tuple(Pending(2, fraction=part) for part in parts)
        data = TrialData((3, 6, 0), (0, 0, 0), 2, waits).batch()
        rate = sum(parts) / 6
        expected = 1 if rate <= design.escalation_rate else -int(rate >= design.de_escalation_rate)
        assert expected == turn
        assert design.turn(data).tolist() == [turn]
    text = design.next_dose(TrialData((3, 6, 0), (0, 0, 0), 2, waits)).reason
    assert "2 of them as 1.90 DLTs: a rate of 0.32" in text


def test_tite_boin_imputes_beside_fractions_as_beside_ended_assessments():
    """By the formula of Yuan (2018) with y and n - c as they are after the fractions are added."""
    design = TiteBOIN(levels=3, target=0.3, most_pending_share=1.0)
    for n in (3, 4, 6, 9):
        for y in range(n - 1):
            for part in (0.0, 0.1, 0.36, 0.72, 0.95):
                for weight in (-0.5, 0.0, 0.4, 0.9):
                    waits = (Pending(2, weight), Pending(2, fraction=part))
                    now, dlts = y + part, (0, y, 0)
                    p = (now + 0.3 / 2) / (n - 1 + 1)
                    rate = (now + p / (1 - p) * (1 - weight)) / n
                    below = now / n < 0.3
                    expected = int(below and rate <= design.escalation_rate)
                    expected -= int(not below and rate >= design.de_escalation_rate)
                    data = TrialData((3, n, 0), dlts, 2, waits).batch()
                    assert design.turn(data).tolist() == [expected], (n, y, part, weight)


def test_bad_news_never_raises_the_dose():
    """Of one pending patient the forecast worsens: both ways go down, or stay where they are."""
    crm = TiteCRM(levels=5, target=0.25, skeleton=skeleton(0.06, 0.25, 3, 5))
    before = 0.3
    for design in (crm, TiteBOIN(levels=5, target=0.25, most_pending_share=1.0)):
        for way in ("weight", "fraction"):
            levels = []
            for now in (0.01, 0.1, 0.3, 0.6, 0.9, 0.99):
                one = (
                    Pending(3, fraction=now)
                    if way == "fraction"
                    else Pending(3, float(weight_of_forecast(now, before)))
                )
                data = TrialData((3, 3, 3, 0, 0), (0, 0, 1, 0, 0), 3, (one,)).batch()
                levels.append(int(design.decide(data).level[0]))
            assert levels == sorted(levels, reverse=True)
            assert levels[0] > levels[-1] or design is not crm


@pytest.mark.parametrize(
    ("given", "told"),
    [({"fraction": 1.2}, "the fraction of a pending patient is 1.2; allowed: 0 to 1"),
     ({"weight": 0.5, "fraction": 0.2}, "a weight and a fraction")],
)  # fmt: skip
def test_fractions_that_cannot_be_are_refused(given, told):
    with pytest.raises(PkpdError, match=told):
        Pending(1, **given)
