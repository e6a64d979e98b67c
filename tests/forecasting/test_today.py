"""The clock of today: one answer for one patient, whatever the schedule plans later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_population, load_rule, load_trial
from pkpd.ensemble.ensemble import courses
from pkpd.ensemble.fitted import fitted_ensemble
from pkpd.ensemble.lanes import lanes_of
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.errors import PkpdError
from pkpd.forecasting import forecaster, read_seen
from pkpd.forecasting.command import rule_of
from pkpd.forecasting.doses import depends_on_counts, given_before, gives_from
from pkpd.forecasting.today import MOST, after_last_count, back_after, without_more
from pkpd.models import (
    PopulationModel,
    compartments,
    leukaemia_model,
    load_model,
    parameter,
    residual,
)
from pkpd.schedule import (
    Course,
    Criterion,
    DoseModification,
    DoseRule,
    Gate,
    GrowthFactorPolicy,
    Regimen,
)
from pkpd.subjects import sample_population

CLOFARABINE = pkpd.daily("clofarabine", "10 mg/m^2", days="1-5", route="iv", duration="1 h")
DAY_17 = {"DAY": [1, 8, 17], "ANC": [2.0, 0.6, 0.2], "PLT": ["", "", 19]}
NEUTROPHILS = "neutrophils >= 0.5"


def one(drug: str, amount: str, days: str, **how: Any) -> DoseRule:
    return pkpd.daily(drug, amount, days=days, **{"route": "oral", **how}).courses[0].doses[0]


def regimen(*doses: DoseRule, cycles: int = 1) -> Regimen:
    return Regimen((Course("c", (*CLOFARABINE.courses[0].doses, *doses), 35, cycles=cycles),))


LATER = {
    "one cycle": regimen(one("lenalidomide", "10 mg", "15-28")),
    "two cycles": regimen(one("lenalidomide", "10 mg", "15-28"), cycles=2),
    "stopped": regimen(one("lenalidomide", "10 mg", "15-16"), cycles=3),
    "another drug": regimen(
        one("etoposide", "100 mg/m^2", "20-22", route="iv", duration="1 h"),
        one("lenalidomide", "10 mg", "15-21"),
    ),
}


@pytest.fixture(scope="module")
def source():
    return pkpd.source("rr_aml", marrow="friberg", patients=1, draws=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "bank"), [pytest.param("importance", 12_000, marks=pytest.mark.long), ("smc", 400)]
)
def test_a_patient_has_one_answer_whatever_follows(source, engine, bank):
    found = {
        name: pkpd.forecast(source, DAY_17, schedule, 60, bank=bank, engine=engine)
        for name, schedule in LATER.items()
    }
    first, *others = found.values()
    assert "after the last count (day 17), without further doses; half of them" in first.sentence()
    names = ["recovered_after", "day_after", "low_after"]
    for other in others:
        assert other.sentence() == first.sentence()
        assert other.dataset[names].equals(first.dataset[names])
    # as planned they differ
    assert len({other.sentence(clock="rule") for other in found.values()}) > 2


def test_it_is_read_in_the_mornings_after_the_last_count(source):
    found = pkpd.forecast(source, DAY_17, CLOFARABINE, 60, bank=1000, engine="importance")
    weighed = found.weighed[1]
    after = after_last_count(weighed, 1)
    np.testing.assert_allclose(after.weights, weighed.weights)
    counts = np.exp(weighed.bank.measured["neutrophils"].astype(float))
    expected = np.full(len(weighed.bank), np.inf)
    for i, mornings in enumerate(counts):
        below = np.flatnonzero(mornings[16:] < 0.5)
        if not below.size:
            expected[i] = 17  # the count that was seen is low: back on the next morning, time 17
            continue
        for day in range(16 + below[0], 58):  # the first morning is time 0
            if (mornings[day : day + 3] >= 0.5).all():
                expected[i] = day
                break
    near = (np.abs(counts[:, 16:] - 0.5) < 1e-4).any(axis=1)
    np.testing.assert_array_equal(after.back[NEUTROPHILS][~near], expected[~near])
    np.testing.assert_array_equal(
        after.back["both"], np.maximum(after.back[NEUTROPHILS], after.back["platelets >= 20"])
    )
    data = found.dataset.isel(patient=0)
    share = float(after.weights @ (after.back[NEUTROPHILS] <= 24))
    assert float(data["recovered_after"].sel(criterion=NEUTROPHILS, day=24)) == pytest.approx(share)


def test_both_clocks_count_alike(source):
    """Nothing more is planned: who is low after the last count is back on the same day by both."""
    found = pkpd.forecast(source, DAY_17, CLOFARABINE, 60, bank=4000, engine="smc")
    weighed, data = found.weighed[1], found.dataset.isel(patient=0)
    bank = weighed.bank
    today = back_after(bank.lanes, bank.who, bank.asked, weighed.seen, 1)[NEUTROPHILS]
    of_rule = np.ceil(bank.recovery[NEUTROPHILS])  # on the curve; mornings show it at its end
    low = np.exp(bank.measured["neutrophils"][:, 16]) < 0.499
    assert low.sum() > 200
    np.testing.assert_array_equal(today[low], of_rule[low])
    of = data.sel(criterion=NEUTROPHILS)
    for quantile in (0.25, 0.5, 0.9):
        days = [float(of[name].sel(quantile=quantile)) for name in ("day_after", "recovery_day")]
        assert days[0] == np.ceil(days[1])
    table = found.table().set_index(["quantity", "of"])
    assert table.loc[("day_after", NEUTROPHILS), "estimate"] == float(
        of["day_after"].sel(quantile=0.5)
    )
    ahead = of.sel(day=slice(18, None))
    np.testing.assert_allclose(ahead["recovered_after"], ahead["recovered"], atol=0.02)
    assert "by day N means by the end of day N" in found.summary()


def test_recovery_is_told_as_far_as_the_mornings_that_confirm_it(source):
    """A longer forecast of the same patients has the same shares until then, and more after."""
    seen = {"DAY": [1, 17], "ANC": [2.0, 0.4]}
    short, long = (
        pkpd.forecast(source, seen, CLOFARABINE, days, bank=1000, engine="importance")
        for days in (28, 60)
    )
    data, longer = (found.dataset.isel(patient=0) for found in (short, long))
    # three mornings at the threshold confirm a recovery; the last one of 28 days is time 27
    known = int(data["known_until"])
    assert (known, int(longer["known_until"])) == (25, 57)
    of = {"criterion": [NEUTROPHILS, "platelets >= 20", "platelets >= 50"]}
    for shares in ("recovered_after", "recovered"):
        ours, theirs = (each[shares].sel(of).sel(day=slice(18, 28)) for each in (data, longer))
        np.testing.assert_allclose(ours.sel(day=slice(18, known)), theirs.sel(
            day=slice(18, known)), atol=1e-9)  # fmt: skip
        assert (theirs - ours).sel(day=28).max() > 0.01  # not back by then in the short one
    axes = short.plot().axes[-1]
    curves = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert curves
    assert {float(line.get_xdata()[-1]) for line in curves} == {25.0}
    assert "by day 25" in short.summary()
    assert "by day 28" not in short.summary()
    with pytest.raises(PkpdError, match=r"28; allowed: 17 to 25; forecast further \(until_day\)"):
        short.sentence(by_day=28)


def test_of_a_large_bank_patients_are_taken_by_their_weights(source):
    found = pkpd.forecast(source, DAY_17, CLOFARABINE, 45, bank=3 * MOST, engine="importance")
    weighed = found.weighed[1]
    after = after_last_count(weighed, 1)
    assert after.weights.sum() == pytest.approx(1.0)
    assert len(after.weights) <= MOST
    seen = weighed.seen
    every = back_after(weighed.bank.lanes, weighed.bank.who, weighed.bank.asked, seen, 1)
    for day in (20, 24, 28):
        share = weighed.weights @ (every[NEUTROPHILS] <= day)
        assert after.weights @ (after.back[NEUTROPHILS] <= day) == pytest.approx(share, abs=0.02)


def test_a_patient_who_is_back_is_told_so(source):
    counts = {"DAY": [1, 10, 17, 24], "ANC": [2.0, 0.4, 0.6, 1.4]}
    found = pkpd.forecast(source, counts, CLOFARABINE, 60, bank=4000, engine="importance")
    data = found.dataset.isel(patient=0)
    stay = 100 * (1.0 - float(data["low_after"].sel(criterion=NEUTROPHILS)))
    assert found.sentence() == (
        "Neutrophils of day 24 are at 0.5 or more already (1.4); without further doses, "
        f"{stay:.0f} of 100 such patients are not below it again."
    )
    assert stay > 80


def test_a_count_that_is_set_aside_keeps_nobody_low(source):
    bank = forecaster(source, 60, bank=200).bank_for(CLOFARABINE)
    (seen,), _ = read_seen({"DAY": [1, 8, 30], "ANC": [2.0, 0.6, 0.1]})
    told = bank.lanes, bank.who, bank.asked, seen, 1
    assert (back_after(*told)[NEUTROPHILS] > 0).all()
    without = back_after(*told, aside=frozenset(seen.counts[-1:]))[NEUTROPHILS]
    assert (without == 0).mean() > 0.2


def test_recovery_is_that_of_the_rule(source):
    """Of one morning it is seen before that of seven, and never after."""
    rule = load_rule("leukemia_d42_generic")
    (seen,), _ = read_seen(DAY_17)
    found = []
    for mornings in (1, 7):
        own = replace(rule, sustained_days=mornings)
        made = forecaster(source, 60, bank=600, rule=own)
        weighed = made.weighed(seen, CLOFARABINE, "importance")
        found.append(after_last_count(weighed, 1).back[NEUTROPHILS])
    assert (found[0] <= found[1]).all()
    assert (found[0] < found[1]).any()


def test_what_is_planned_later_is_cut():
    twice = regimen(one("lenalidomide", "10 mg", "15-28"), cycles=2)
    cut = given_before(twice, 17)
    assert cut is not None
    assert [rule.days for rule in cut.courses[0].doses] == [(1, 2, 3, 4, 5), (15, 16)]
    assert cut == given_before(LATER["stopped"], 17) == given_before(LATER["another drug"], 17)
    later = given_before(twice, 40)
    assert later is not None
    assert [course.cycles for course in later.courses] == [1, 1]
    assert later.courses[1].doses[0].days == (1, 2, 3, 4)
    assert given_before(twice, 1) is None


WAITING = Gate((Criterion("neutrophils", 1.0),), max_wait_days=14, if_not_met="stop")


def mornings_of(lanes, who, days=60):
    out, dosed = np.empty((len(who), days)), np.zeros((len(who), days), dtype=bool)
    for index, (counts, given) in courses(
        lanes.treated(who), lambda i, c: (i, (c.neutrophils, c.dosed)), 2
    ):
        out[index], dosed[index] = counts, given > 0
    return out, dosed


@pytest.mark.parametrize("last_time", [29.0, 34.0])
def test_a_cycle_that_waits_for_counts_does_not_start_after_the_last_one(source, last_time):
    """A cycle planned for day 29 was given as soon as counts rose, "without further doses"."""
    twice = pkpd.daily("clofarabine", "30 mg/m^2", days="1-5", route="iv", duration="1 h")
    twice = twice.repeat(2, cycle_days=28).with_between(WAITING)
    lanes = lanes_of(source, twice, 60)
    who = lanes.drawn(60, 1)
    (planned, given), (today, without) = (
        mornings_of(one, who) for one in (lanes, without_more(lanes, last_time))
    )
    last = int(last_time)
    assert given[:, last:].any(axis=1).sum() > 10  # they wait, and start later
    assert not without[:, last:].any()
    # until then they are the same patients under the same doses
    np.testing.assert_array_equal(without[:, :last], given[:, :last])
    np.testing.assert_array_equal(today[:, : last + 1], planned[:, : last + 1])
    late = given[:, last:].any(axis=1) & ~given[:, 28:last].any(axis=1)
    assert (today[late, 50] > planned[late, 50]).mean() > 0.9


def test_holds_and_reductions_of_the_running_cycle_stay(source):
    """The cut cycle began anew, at the full dose of a drug that had been held and reduced."""
    rule = DoseModification(
        "lenalidomide", hold_below=(Criterion("neutrophils", 1.2),),
        resume_at=(Criterion("neutrophils", 1.3),), visit_every_days=7, levels_mg=(20.0, 10.0),
        reduce_on_resume=True,
    )  # fmt: skip
    weekly = pkpd.daily("lenalidomide", "25 mg", days="1-21", route="oral").repeat(2, 21)
    lanes = lanes_of(source, weekly.with_modifications(rule), 60)
    who = lanes.drawn(60, 1)
    (planned, given), (today, without) = (
        mornings_of(one, who) for one in (lanes, without_more(lanes, 33.0))
    )
    np.testing.assert_array_equal(without[:, :33], given[:, :33])
    np.testing.assert_array_equal(today[:, :34], planned[:, :34])
    assert given[:, 33:].any()
    assert not without[:, 33:].any()


def test_a_delayed_cycle_may_still_be_given():
    twice = CLOFARABINE.repeat(2, cycle_days=28)
    assert not gives_from(twice, 34)
    assert gives_from(twice.with_between(WAITING), 34)
    assert not gives_from(twice.with_between(WAITING), 48)
    # a gate between cycles changes nothing of the first
    assert not depends_on_counts(twice.with_between(WAITING), 29)
    assert depends_on_counts(twice.with_between(WAITING), 30)


def test_the_rule_is_that_of_the_file(tmp_path):
    (tmp_path / "s.toml").write_text(
        'title = "t"\npopulation = "rr_aml"\nrule = "leukemia_d42_generic"\nhorizon_days = 60\n'
        "[rule_change]\nby_day = 34\n"
        '[dose.clofarabine]\namount = "5 mg/m^2"\ndays = "1-5"\nroute = "iv"\nduration = "1 h"\n'
        '[course.c]\ndoses = ["clofarabine"]\ncycle_days = 28\n'
    )
    trial = load_trial(str(tmp_path / "s.toml"))
    cohort = trial.cohorts[0]
    assert rule_of(trial, cohort).by_day == 34
    assert rule_of(trial, cohort, "leukemia_d56_generic").by_day == 56


@pytest.mark.slow
def test_a_fall_long_after_the_last_count_is_not_of_what_was_given():
    """Disease takes counts away in the end; a longer forecast must not undo a recovery."""
    patient = {"DAY": [1, 8, 15, 22], "ANC": [1.2, 0.6, 0.4, 0.5], "PLT": [60, 40, 25, 30]}
    schedule = pkpd.daily("lenalidomide", "25 mg", days="1-21", route="oral")
    many = pkpd.source("mds_post_hma", patients=10, draws=20)
    short, long = (
        pkpd.forecast(many, patient, schedule, days, bank=300, engine="importance").dataset
        for days in (60, 112)
    )
    names = {"day": [30, 45]}
    for one in ("recovered_after", "low_after"):
        pick = names if one == "recovered_after" else {}
        np.testing.assert_allclose(short[one].sel(pick), long[one].sel(pick), atol=1e-9)
    # whoever is not low has it on the day of the count
    after = long["recovered_after"].sel(criterion="platelets >= 20", day=30)
    assert float(after.item()) > 0.8


FILGRASTIM = GrowthFactorPolicy(1.5, 6, "0.005 mg/kg", "filgrastim")


def source_of(name, policy=FILGRASTIM):
    how = {"patients": 4, "draws": 2, "growth_factor": policy}
    learned = pkpd.source("rr_aml", **how)
    assert isinstance(learned, LearnedEnsemble)
    if name == "learned":
        return learned
    if name == "cards":
        model = load_model(drugs=["clofarabine"], replace={"neutrophils": "quartino2014_docetaxel"})
        return pkpd.source("rr_aml", marrow="friberg", model=model, **how)
    structure = leukaemia_model(
        {"clofarabine": compartments(1)}, disease="aml", free=["rho"],
        molar_mass={"clofarabine": 303.68},
    )  # fmt: skip
    values = {"CL": 30.0, "V": 110.0, "k_in": 0.35, "k_out": 0.03, "rho": 0.35}
    own = [parameter(n, v, iiv=0.3 if n == "rho" else None) for n, v in values.items()]
    errors = {"neutrophils": residual.lognormal(0.3)}
    people = sample_population(load_population("rr_aml"), 4, 1)
    return fitted_ensemble(PopulationModel(structure, own, errors), people, 1, 1, arm=learned.arm)


@pytest.mark.parametrize("name", ["cards", "learned", "fit"])
def test_growth_factor_by_need_ends_with_the_doses(name):
    """What it gave before the last count, of day 13, stays; later days have none of it."""

    def mornings(lanes):
        out = np.empty((40, 40))
        for index, counts in courses(lanes.treated(who), lambda i, c: (i, c.neutrophils), 2):
            out[index] = counts
        return out

    lanes = lanes_of(source_of(name), CLOFARABINE, 40)
    who = lanes.drawn(40, 1)
    planned, today = mornings(lanes), mornings(without_more(lanes, 12.0))
    never = lanes_of(source_of(name, GrowthFactorPolicy()), CLOFARABINE, 40)
    np.testing.assert_array_equal(today[:, :13], planned[:, :13])
    assert (planned[:, 12] != mornings(never)[:, 12]).any()
    needed = (planned[:, 12:20] < FILGRASTIM.below).any(axis=1)
    assert needed.any()
    assert (today[needed, 13:24].mean(axis=1) < planned[needed, 13:24].mean(axis=1)).all()
    np.testing.assert_array_equal(today[~needed, :20], planned[~needed, :20])


def test_growth_factor_by_need_after_the_last_count_is_of_the_plan_alone():
    counts = {"DAY": [1, 12], "ANC": [1.6, 0.3]}
    of = {"until_day": 40, "bank": 2000, "engine": "importance"}
    plain, given = (
        pkpd.forecast(source_of("learned", policy), counts, CLOFARABINE, **of)
        for policy in (GrowthFactorPolicy(), GrowthFactorPolicy(0.5, 13))
    )
    names = ["recovered_after", "day_after", "low_after"]
    assert given.dataset[names].equals(plain.dataset[names])
    assert given.sentence() == plain.sentence()
    assert given.sentence(clock="rule") != plain.sentence(clock="rule")
    told = (
        "\nPlanned is a growth factor by need, on days that begin with neutrophils below 0.5, from "
        'day 13 on: "without further doses" has none of it after the last count, '
        '"as planned" has it.\n'
    )
    assert told in given.summary()
    assert "by need" not in plain.summary()
