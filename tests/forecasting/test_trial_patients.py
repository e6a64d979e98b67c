"""Virtual patients of trials: forecasts in closed form and by the engine, weights, outcomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_answer import NORMAL, FlatLanes, posterior
from scipy import stats

import pkpd
from pkpd.cards import load_rule
from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.designs import BOIN, Accrual, TiteBOIN, compare_trials, weight_of_forecast
from pkpd.errors import PkpdError
from pkpd.forecasting import (
    WEIGHTS,
    Seen,
    forecaster,
    measurement_of,
    trial_patients,
)
from pkpd.forecasting.bank import Asked, asked_of, simulated
from pkpd.forecasting.many import (
    VisitCounts,
    counted_on,
    densities,
    forecast_along,
    judged,
    weights_of,
)
from pkpd.forecasting.trial_patients import _check_rising, _of_scenario, _seen_back

RULE = load_rule("leukemia_d42_generic")
VISITS = (1, 8, 15, 22, 29, 36)
DOSES = {
    f"{dose} mg": pkpd.daily("lenalidomide", f"{dose} mg", days="1-28", route="oral")
    for dose in (15, 50)
}


@pytest.fixture(scope="module")
def source():
    return pkpd.source("rr_aml", marrow="friberg", patients=1, draws=10)


@pytest.fixture(scope="module")
def people(source):
    return trial_patients(
        source, DOSES, RULE, VISITS, scenarios=(2, 7), patients=60, bank=1000, threads=2
    )


@pytest.fixture(scope="module")
def flat():
    lanes = FlatLanes()
    return simulated(lanes, lanes.drawn(20_000, 1), Asked(), 2)


def test_forecasts_are_those_in_closed_form(flat):
    """Whether a score is above 0.3, from one to three counts of the flat source."""
    values = np.array([[2.2, 1.9, 3.0], [4.0, 6.0, 5.0], [1.0, 0.9, 1.4]])
    counts = VisitCounts((2, 4, 6), {"neutrophils": values},
                         {"neutrophils": np.zeros((3, 3), dtype=bool)})  # fmt: skip
    event = (flat.who.scores[:, 0] > 0.3).astype(float)
    found = forecast_along(flat, counts, event, NORMAL, 2)
    assert found[:, 0] == pytest.approx(event.mean())
    for i in range(3):
        for k in range(1, 4):
            mean, sd, _ = posterior(values[i, :k])
            expected = stats.norm(mean, sd).sf(0.3)
            assert found[i, k] == pytest.approx(expected, abs=0.02)


def test_counts_below_a_limit_tell_so(flat):
    """One count of which only the side of the limit is known, against a sum over scores."""
    measurement = replace(NORMAL, limits={"neutrophils": 1.0})
    low = {"neutrophils": np.array([[True], [False]])}
    counts = VisitCounts((3,), {"neutrophils": np.array([[1.0], [1.0]])}, low)
    event = (flat.who.scores[:, 0] > -1.0).astype(float)
    found = forecast_along(flat, counts, event, measurement, 1)[:, 1]
    z = np.linspace(-6, 6, 20_001)
    logs = np.log(2.0) + 0.8 * z
    for got, likelihood in zip(
        found, (stats.norm.cdf(-logs / 0.3), stats.norm.pdf(-logs / 0.3)), strict=True
    ):
        weight = stats.norm.pdf(z) * likelihood
        assert got == pytest.approx(weight[z > -1].sum() / weight.sum(), abs=0.02)
    rng = np.random.default_rng(1)
    every = counted_on(flat, (3,), ("neutrophils",), measurement, rng)
    share = stats.norm(np.log(2.0), np.hypot(0.8, 0.3)).cdf(0.0)
    assert every.below["neutrophils"].mean() == pytest.approx(share, abs=0.01)
    assert every.values["neutrophils"].min() == 1.0


def test_likelihoods_are_flattened_until_enough_count():
    rng = np.random.default_rng(3)
    logs = (rng.standard_normal((40, 2000)) * np.linspace(0.1, 30, 40)[:, None]).astype("f4")
    weights = weights_of(logs)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-4)
    effective = 1 / (weights.astype(float) ** 2).sum(axis=1)
    plain = np.exp(logs.astype(float) - logs.max(axis=1, keepdims=True))
    plain /= plain.sum(axis=1, keepdims=True)
    enough = 1 / (plain**2).sum(axis=1) >= 30
    assert 0 < enough.sum() < 40
    np.testing.assert_allclose(weights[enough], plain[enough], rtol=2e-3)
    assert (effective[~enough] >= 29.9).all()
    assert (effective[~enough] < 50).all()
    # the order of the bank's patients is kept
    assert (np.argsort(weights[-1], kind="stable")[-10:] == np.argsort(logs[-1])[-10:]).all()
    lost = weights_of(np.full((1, 50), -np.inf, dtype="f4"))
    np.testing.assert_allclose(lost, 1 / 50)


def test_densities_in_single_precision_are_those_of_the_engine(source):
    error = measurement_of(source).errors["platelets"]
    at, draw = np.array([5.0, 40.0, 300.0]), np.zeros(3, dtype=np.int64)
    for code in (NOT_CENSORED, BELOW):
        many = error.log_densities(at, draw, np.array([[20.0], [90.0]]), code)
        for row, value in zip(many, (20.0, 90.0), strict=True):
            one = error.log_density(at, draw, value, code, -np.inf)
            np.testing.assert_allclose(row, one, rtol=2e-5, atol=2e-5)


def test_the_engine_of_single_patients_says_the_same(source):
    """Few counts, so that weights are neither smoothed nor flattened by much."""
    made = forecaster(source, 49, bank=4000, rule=RULE, threads=2)
    bank = made.bank_for(DOSES["50 mg"])
    lanes = bank.lanes
    asked = asked_of(source, RULE, None, None, 49)
    truth = simulated(lanes, lanes.drawn(8, 99), asked, 2)
    lines = ("neutrophils", "platelets")
    counts = counted_on(truth, (1, 15), lines, made.measurement, np.random.default_rng(4))
    fine = judged(bank)
    assert fine.dlt is not None
    many = forecast_along(fine, counts, fine.dlt, made.measurement, 2)
    for i in range(8):
        values = np.array([counts.values[line][i, v] for v in range(2) for line in lines])
        low = np.array([counts.below[line][i, v] for v in range(2) for line in lines])
        seen = Seen(i, lines * 2, np.repeat([0.0, 14.0], 2), values, np.where(low, BELOW, 0),
                    np.full(4, -np.inf))  # fmt: skip
        one = made.weighed(seen, DOSES["50 mg"], "importance")
        if one.effective < 30:
            continue
        assert many[i, 2] == pytest.approx(float(one.weights @ one.bank.dlt), abs=0.03)


def test_forecasts_come_nearer_to_what_becomes_of_patients(people):
    assert people.forecasts.shape == (2, 2, 60, len(VISITS) + 1)
    first = np.broadcast_to(people.before[:, None, None], (2, 2, 60))
    np.testing.assert_allclose(people.forecasts[..., 0], first, atol=1e-6)
    error = ((people.forecasts - people.dlt[..., None]) ** 2).mean(axis=(1, 2))
    assert error[1, -1] < 0.7 * error[1, 0]
    assert people.before[0] < people.before[1]
    np.testing.assert_allclose(people.risks(), people.dlt.mean(axis=2).T)
    assert (people.judged == 1).all(), "a marrow without leukaemia judges everybody"


def test_patients_are_the_same_at_every_dose_and_the_draw_that_holds_is_theirs(source, people):
    asked = asked_of(source, RULE, None, None, 49)
    for k, regimen in enumerate(DOSES.values()):
        lanes = pkpd.forecasting.forecaster(source, 49, bank=100).bank_for(regimen).lanes
        who = lanes.drawn(60, 10_001)
        for m, draw in enumerate((2, 7)):
            mine = replace(who, draw=np.full(60, draw))
            np.testing.assert_array_equal(simulated(lanes, mine, asked, 2).dlt, people.dlt[k, m])
    assert (people.dlt[1] >= people.dlt[0]).all(), "a higher dose spares nobody"


def test_weights_are_looked_up_by_visit(people):
    chosen = people.outcomes("forecast")
    who, level = np.array([0, 61, 119]), np.array([2, 1, 2])
    for days, visits in ((0.0, 1), (6.9, 1), (7.0, 2), (35.5, 6)):
        got = chosen.weights(who, level, np.full(3, days))
        q = people.forecasts[level - 1, who // 60, who % 60, visits]
        expected = weight_of_forecast(q, people.before[level - 1])
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    fractions = people.outcomes("fractional")
    assert fractions.fractional
    assert not chosen.fractional
    np.testing.assert_array_equal(fractions.table, people.forecasts)
    clipped = people.outcomes("clipped forecast").table
    assert clipped.min() == 0
    np.testing.assert_allclose(clipped, np.maximum(chosen.table, 0), atol=1e-6)
    days = np.array([0.0, 21.0, 42.0])
    assert people.outcomes("follow-up").weights(who, level, days).tolist() == [0.0, 0.5, 1.0]
    assert people.outcomes("none").weights(who, level, days).tolist() == [0.0, 0.0, 0.0]
    half = people.outcomes(lambda followed, window: 0 * followed + 0.5)
    assert half.weights(who, level, days).tolist() == [0.5, 0.5, 0.5]


def test_toxicities_come_on_the_day_of_the_look(people):
    chosen = people.outcomes("none")
    u = (np.arange(6000) + 0.5) / 6000
    draw, level = np.ones(6000, dtype=int), np.full(6000, 2)
    day, who = chosen.enrol(u, draw, level)
    assert set(np.unique(day)) == {42.0, np.inf}
    assert np.isfinite(day).mean() == pytest.approx(chosen.risks()[1, 1])
    assert np.bincount(who - 60, minlength=60).tolist() == [100] * 60


@pytest.mark.slow
def test_trials_of_every_weight_are_compared_in_the_same_patients(people):
    tite = TiteBOIN(levels=2, target=0.25, most_patients=15)
    ways = {name: (tite, people.outcomes(name)) for name in WEIGHTS}
    ways["waits"] = (BOIN(levels=2, target=0.25, most_patients=15), people.outcomes("none"))
    found = compare_trials(ways, accrual=Accrual(10), trials=60)
    days = found["mean"].sel(measure="duration")
    assert float(days.sel(way="waits")) > 1.15 * float(days.sel(way="forecast"))
    gap = found.difference.sel(way="follow-up", other="none", measure="patients_above")
    assert float(gap) >= 0, "days that have passed are taken for safety"


def test_counts_that_were_low_and_are_back_are_seen():
    values = {
        "neutrophils": np.array([[2, 0.3, 0.8, 0.9, 0.2], [2, 1, 1, 1, 1], [2, 0.3, 0.8, 0.4, 1]]),
        "platelets": np.array([[90, 10, 15, 30, 60], [90, 10, 30, 40, 50], [90, 10, 25, 50, 60]]),
    }
    nobody = {line: np.zeros((3, 5), dtype=bool) for line in values}
    seen = VisitCounts((1, 8, 15, 22, 29), values, nobody)
    either = _seen_back(seen, replace(RULE, join="all"))
    both = _seen_back(seen, RULE)
    assert both.sum(axis=1).tolist() == [1, 0, 0]
    assert both[0].tolist() == [False] * 5 + [True]
    assert either[:, :4].sum() == 0
    assert either.sum(axis=1).tolist() == [2, 2, 2]


def test_who_cannot_be_judged_is_replaced_by_the_next(source, people):
    made = forecaster(source, 49, bank=200, rule=RULE, threads=2)
    bank = made.bank_for(DOSES["50 mg"])
    truth = simulated(bank.lanes, bank.lanes.drawn(6, 5), bank.asked, 2)
    odd = replace(truth, dlt=np.array([np.nan, 1.0, np.nan, np.nan, 0.0, np.nan]))
    counts = counted_on(odd, (1, 8), ("neutrophils",), made.measurement, np.random.default_rng(1))
    dlt, forecasts, _, share = _of_scenario(odd, counts, judged(bank), RULE, made.measurement, 1)
    assert dlt.tolist() == [True, True, False, False, False, True]
    np.testing.assert_allclose(forecasts[0], forecasts[1])
    assert share == pytest.approx(1 / 3)
    some = replace(bank, dlt=np.where(np.arange(200) < 50, np.nan, bank.dlt))
    assert len(judged(some)) == 150
    cell = densities(judged(some), counts, slice(0, 6), 0, made.measurement)
    np.testing.assert_allclose(
        cell, densities(some, counts, slice(0, 6), 0, made.measurement)[:, 50:], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": "paed_rolling6"}, "do not wait for a day of the look"),
        ({"visits": (1, 50)}, "visits: 50; allowed: protocol days from 1 to 42"),
        ({"visits": ()}, "visits: there is no day"),
        ({"lines": ("basophils",)}, "lines: basophils; allowed: neutrophils, platelets"),
        ({"scenarios": 40}, "40 of a source with 10 draws; allowed: 1 to 10"),
        ({"scenarios": (12,)}, "draw 12 of a source with 10; allowed: 0 to 9"),
        ({"patients": 3}, "trial_patients, patients: 3"),
        ({"schedules": {}}, "schedules: there is no dose"),
        (
            {"schedules": dict(reversed(DOSES.items()))},
            "dose 15 mg: its risk is .* order the schedules by their risk",
        ),
        ({"rule": replace(RULE, clock="induction")}, "course 'induction', which is not there"),
        (
            {"schedules": {"late": pkpd.daily("lenalidomide", "10 mg", days="5-9", route="oral")}},
            "starts after day 1",
        ),
    ],
)
def test_bad_input_gets_one_sentence(source, changes, told):
    asked = {"schedules": DOSES, "rule": RULE, "visits": VISITS, "bank": 400, "patients": 20}
    with pytest.raises(PkpdError, match=told) as caught:
        trial_patients(source, **(asked | changes))
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_exist_are_refused(people):
    with pytest.raises(PkpdError, match="'guess' are no weights of pending patients; allowed"):
        people.outcomes("guess")


def test_risks_fall_by_chance_among_those_who_are_judged():
    """Of 0.30 and 0.25 among 1,000 each the difference is 2.5 errors; among 100,000 it is 25."""
    risks = np.array([0.30, 0.25])
    _check_rising(("low", "high"), risks, (1000, 1000))
    with pytest.raises(PkpdError, match=r"its risk is 0\.250, and that of low below"):
        _check_rising(("low", "high"), risks, (100_000, 100_000))
    _check_rising(("low", "high"), risks, (100_000, 500))
