"""When to draw blood: against brute force, a closed form, and the command."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from known_answer import ERROR, NORMAL, SPREAD, FlatLanes
from typer.testing import CliRunner

import pkpd
from pkpd.cards.rule_cards import load_rule
from pkpd.cards.trial_cards import load_trial
from pkpd.cli import app
from pkpd.distributions import stream
from pkpd.ensemble.lanes import lanes_of
from pkpd.errors import PkpdError
from pkpd.forecasting import choose_visits, measurement_of
from pkpd.forecasting.bank import Asked, asked_of, simulated
from pkpd.forecasting.command import rule_of
from pkpd.forecasting.many import counted_on, densities
from pkpd.forecasting.visits import Judge, _judge, grown, spread

CLOFARABINE = pkpd.daily("clofarabine", "10 mg/m^2", days="1-5", route="iv", duration="1 h")
SCHEDULE = """
title = "t"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 45
[dose.clofarabine]
amount = "5 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"
[course.c]
doses = ["clofarabine"]
cycle_days = 28
"""
SMALL = {"until_day": 40, "patients": 80, "bank": 600, "recovery": "neutrophils", "threads": 2}


@pytest.fixture(scope="module")
def source():
    return pkpd.source("rr_aml", marrow="friberg", patients=1, draws=10)


def judge_of(patients: int, bank: int, days: tuple[int, ...]) -> Judge:
    """Patients of the flat source; what is forecast is their score."""
    lanes = FlatLanes()
    known = simulated(lanes, lanes.drawn(bank, 1), Asked(), 1)
    truth = simulated(lanes, lanes.drawn(patients, 2), Asked(), 1)
    counts = counted_on(truth, days, ("neutrophils",), NORMAL, np.random.default_rng(3))
    score = known.who.scores[:, 0]
    order = np.argsort(score)
    logs = np.stack(
        [
            densities(known, counts, slice(0, patients), k, NORMAL)[:, order]
            for k in range(len(days))
        ]
    )
    return Judge(logs, score[order], truth.who.scores[:, 0])


def test_errors_are_those_in_closed_form():
    """With n counts the score has a normal posterior, whose median errs by sd sqrt(2 / pi)."""
    judge = judge_of(1000, 2000, (2, 4, 6))
    for n in (0, 1, 2, 3):
        sd = (1 + n * SPREAD**2 / ERROR**2) ** -0.5
        found = judge.errors(range(n))
        expected = sd * np.sqrt(2 / np.pi)
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / 1000**0.5)


STATES = np.array([10.0, 14.0, 21.0])
POSITIVE = np.array([[1, 2, 3], [3, 3, 1], [1, 1, 3]]) / 4  # of each visit in each state


def discrete(loss: str) -> Judge:
    """Three days of recovery, three visits with two outcomes each: everyone there can be.

    A bank has 100 patients of each day, so that none of its forecasts is flattened; patients with
    a day and outcomes are as many as their probability says.
    """
    bank = np.repeat(np.arange(3), 100)
    truth, outcomes = [], []
    for state in range(3):
        for seen in itertools.product((0, 1), repeat=3):
            share = np.prod([chance(v, state, o) for v, o in enumerate(seen)])
            truth += [state] * round(64 * share)
            outcomes += [seen] * round(64 * share)
    assert len(truth) == 3 * 64
    seen = np.array(outcomes)
    logs = [
        np.log(np.where(seen[:, v, None] == 1, POSITIVE[v][bank], 1 - POSITIVE[v][bank]))
        for v in range(3)
    ]
    return Judge(np.array(logs, dtype=np.float32), STATES[bank], STATES[truth], loss)


def chance(visit: int, state: int, outcome: int) -> float:
    return float(POSITIVE[visit, state] if outcome else 1 - POSITIVE[visit, state])


def enumerated(visits, loss: str) -> float:
    """Mean loss by the definitions, over all days and outcomes."""
    total = 0.0
    for seen in itertools.product((0, 1), repeat=len(visits)):
        joint = np.array(
            [
                np.prod([chance(v, s, o) for v, o in zip(visits, seen, strict=True)]) / 3
                for s in range(3)
            ]
        )
        after = joint / joint.sum()
        for state in range(3):
            if loss == "entropy":
                one = -sum(p * np.log2(p) for p in after if p > 0)
            elif loss == "crps":
                off = sum(p * abs(d - STATES[state]) for p, d in zip(after, STATES, strict=True))
                pairs = itertools.product(range(3), repeat=2)
                one = off - 0.5 * sum(
                    after[a] * after[b] * abs(STATES[a] - STATES[b]) for a, b in pairs
                )
            else:
                one = abs(STATES[np.argmax(np.cumsum(after) >= 0.5 - 1e-9)] - STATES[state])
            total += joint[state] * one
    return total


@pytest.mark.parametrize("loss", ["crps", "entropy", "error"])
def test_losses_are_those_of_exact_enumeration(loss):
    judge = discrete(loss)
    sets = [c for n in range(4) for c in itertools.combinations(range(3), n)]
    exact = {some: enumerated(some, loss) for some in sets}
    for some in sets:
        if loss == "error" and ties(some):
            continue  # two days are medians, and rounding says which
        assert judge.mean_error(some) == pytest.approx(exact[some], abs=1e-5)
    if loss == "error":
        return
    assert exact[(0, 1, 2)] < min(exact[some] for some in sets if len(some) == 2)
    chosen: list[int] = []
    for size in (1, 2):
        chosen = grown(judge.mean_error, (), chosen, range(3))
        least = min(exact[some] for some in sets if len(some) == size)
        assert exact[tuple(sorted(chosen))] == pytest.approx(least, abs=1e-9)


def ties(visits) -> bool:
    for seen in itertools.product((0, 1), repeat=len(visits)):
        pairs = list(zip(visits, seen, strict=True))
        joint = np.array([np.prod([chance(v, s, o) for v, o in pairs]) for s in range(3)])
        if np.any(np.abs(np.cumsum(joint) / joint.sum() - 0.5) < 1e-6):
            return True
    return False


def test_scores_of_normal_forecasts_are_those_in_closed_form():
    """A normal forecast that is right has a mean CRPS of its deviation over the root of pi."""
    errors = judge_of(1000, 2000, (2, 4, 6))
    judge = Judge(errors.logs, errors.recovery, errors.truth, "crps")
    for n in (0, 1, 2, 3):
        sd = (1 + n * SPREAD**2 / ERROR**2) ** -0.5
        found = judge.errors(range(n))
        limit = 4 * found.std() / 1000**0.5
        assert found.mean() == pytest.approx(sd / np.sqrt(np.pi), abs=limit)


def test_exchange_finds_what_brute_force_finds():
    """Errors of subsets at random: every subset of up to 3 of 7, many times."""
    hits = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        worth = rng.random(7)
        pair = np.triu(rng.random((7, 7)), 1) * 0.3

        def error(some, worth=worth, pair=pair):
            some = sorted(some)
            twice = sum(pair[a, b] for a, b in itertools.combinations(some, 2))
            return 10 - sum(worth[k] for k in some) + twice

        chosen: list[int] = []
        for size in (1, 2, 3):
            chosen = grown(error, (), chosen, range(7))
            assert len(set(chosen)) == size
            every = [error(some) for some in itertools.combinations(range(7), size)]
            swaps = [
                error([*(k for k in chosen if k != out), into])
                for out in chosen
                for into in range(7)
                if into not in chosen
            ]
            assert error(chosen) <= min(swaps) + 1e-9, "no exchange lowers it further"
            hits.append(error(chosen) <= min(every) + 1e-9)
    assert np.mean(hits) > 0.95


def test_visits_of_a_marrow_are_the_best_of_all_sets(source):
    """Every pair of six days, in the patients in whom the pair was chosen."""
    days = (3, 8, 12, 16, 20, 24)
    plan = choose_visits(source, CLOFARABINE, days, 2, **SMALL)
    by_pair = errors_of_pairs(source, days)
    assert plan.best.days == min(by_pair, key=by_pair.__getitem__)
    assert plan.best.chosen_error == pytest.approx(min(by_pair.values()))
    assert plan.sets[0].chosen_error >= plan.best.chosen_error
    assert plan.error_with_all < plan.error_before
    assert plan.best.error_se > 0


def errors_of_pairs(source, days):
    """Mean error with each pair of days, by the parts that a plan is made of."""
    asked = asked_of(source, None, None, None, 40)
    lanes = lanes_of(source, CLOFARABINE, 40)
    known = simulated(lanes, lanes.drawn(600, 1), asked, 2)
    truth = simulated(lanes, lanes.drawn(80, 10_001), asked, 2)
    measurement = measurement_of(source)
    rng = stream(1, "visits of patients")
    counts = counted_on(truth, days, source.lines, measurement, rng)
    judge = _judge(truth, counts, known, "neutrophils >= 0.5", 40, measurement)
    return {
        pair: judge.mean_error([days.index(day) for day in pair])
        for pair in itertools.combinations(days, 2)
    }


def test_days_that_are_there_anyway_are_not_paid_for(source):
    plan = choose_visits(source, CLOFARABINE, range(1, 22, 4), 1, always=(1, 17), **SMALL)
    assert plan.candidates == (5, 9, 13, 21)
    assert plan.always == (1, 17)
    assert len(plan.best.days) == 1
    alone = choose_visits(source, CLOFARABINE, (5, 9, 13, 21), 1, **SMALL)
    assert plan.error_before < alone.error_before
    assert "besides 1, 17" in plan.sentence()
    assert plan.table()["visits"].tolist() == [1]


def test_what_stays_open_is_told_in_bits_beside_weekly_visits(source):
    days = range(2, 24, 3)
    plan = choose_visits(source, CLOFARABINE, days, 2, loss="entropy", **SMALL)
    assert 0 <= plan.best.error < plan.error_before
    # 600 of a bank are too few for eight visits
    assert ("The bank is too small" in plan.sentence()) == (
        plan.error_with_all > plan.best.error + plan.best.error_se
    )
    weekly, twice = plan.usual
    assert (weekly.name, weekly.days) == ("weekly", (2, 8, 17, 23))
    assert set(weekly.days) <= set(twice.days)
    assert weekly.best_less == pytest.approx(plan.best.error - weekly.error)
    assert "has an entropy of" in plan.sentence()
    assert " bits (+-" in plan.sentence()
    table = plan.usual_table()
    assert table["denominator"].tolist() == [plan.denominator] * 2
    assert plan.denominator <= plan.patients
    assert list(plan.table()["entropy_bits"]) == [one.error for one in plan.sets]
    # where all candidates are a week apart, twice weekly are no other days
    (once,) = choose_visits(source, CLOFARABINE, (2, 9, 16), 1, loss="entropy", **SMALL).usual
    assert (once.name, once.days) == ("weekly", (2, 9, 16))


def test_even_visits_lie_in_the_middles_of_equal_parts():
    assert spread(7, 7) == list(range(7))
    assert spread(9, 3) == [1, 4, 7]
    assert spread(4, 1) == [2]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"budget": 7}, "budget: 7 visits; allowed: 1 to 3"),
        ({"candidates": (8, 70)}, "candidates: 70; allowed: protocol days from 1 to 40"),
        ({"always": (0,)}, "always: 0; allowed"),
        ({"recovery": "basophils"}, "recovery: 'basophils'; allowed: neutrophils >= 0.5"),
        ({"lines": ("wbc",)}, "lines: wbc; allowed: neutrophils, platelets"),
        ({"bank": 20}, "visits, bank: 20"),
        ({"loss": "rmse"}, "visits, loss: 'rmse'; allowed: error, crps, entropy"),
        ({"patients": 20_000, "bank": 9_000}, "keep their product below"),
    ],
)
def test_bad_input_gets_one_sentence(source, changes, told):
    asked = {"candidates": (8, 12, 16), "budget": 1} | SMALL | changes
    with pytest.raises(PkpdError, match=told) as caught:
        choose_visits(source, CLOFARABINE, **asked)
    assert "\n" not in str(caught.value)


def test_a_rule_that_does_not_tell_recovery_needs_counts(source):
    """Visits under a rule of low counts were those of recovery to 0.5 and 20, without a word."""
    rule = load_rule("neutropenia_7_days")
    told = "visits, rule neutropenia_7_days: it is of low counts, and does not say .*; give back"
    with pytest.raises(PkpdError, match=told):
        choose_visits(source, CLOFARABINE, (8, 12), 1, rule=rule, **SMALL)
    none = load_rule("karp_2007")
    with pytest.raises(PkpdError, match="visits, rule karp_2007: it has no counts; leave it out"):
        choose_visits(source, CLOFARABINE, (8, 12), 1, rule=none, **SMALL)
    given = SMALL | {"back": {"neutrophils": 1.0}}
    plan = choose_visits(source, CLOFARABINE, (8, 12), 1, rule=rule, **given)
    assert plan.criterion == "neutrophils >= 1"


def test_recovery_is_that_of_the_rule(source):
    rule = load_rule("leukemia_d42_generic")
    counts = tuple(replace(one, at_least=2 * one.at_least) for one in rule.criteria)
    rule = replace(rule, criteria=counts)
    plan = choose_visits(source, CLOFARABINE, (8, 12), 1, rule=rule, **SMALL)
    assert plan.criterion == "neutrophils >= 1"


def test_the_command_prints_days_and_a_table(tmp_path):
    (tmp_path / "s.toml").write_text(SCHEDULE)
    small = ["--marrow", "friberg", "--bank", "300", "--draws", "5", "--patients", "40"]
    words = ["visits", str(tmp_path / "s.toml"), "--budget", "2", "--days", "8-20 every 4"]
    done = CliRunner().invoke(app, [*words, *small, "--recovery", "neutrophils"])
    assert done.exit_code == 0, done.output
    assert "twice weekly" in done.output
    assert "virtual patients" in done.output.splitlines()[-1]
    assert "Draw blood on days " in done.output
    assert "recovery (neutrophils >= 0.5)" in done.output
    rows = [line for line in done.output.splitlines() if line.startswith(("1 ", "2 "))]
    assert len(rows) == 2
    done = CliRunner().invoke(app, [*words[:3], "9", *words[4:], *small])
    assert done.exit_code == 2
    assert "budget: 9 visits" in done.output
    # recovery is that of the file's rule, whose look may come after the last day
    with (tmp_path / "s.toml").open("a") as file:
        file.write("[rule_change]\nrecovered = { neutrophils = 1.0, platelets = 50 }\n")
    asked = ["--recovery", "neutrophils", "--until-day", "30"]
    done = CliRunner().invoke(app, [*words, *small, *asked])
    assert "recovery (neutrophils >= 1)" in done.output, done.output
    done = CliRunner().invoke(app, [*words, *small, *asked, "--rule", "leukemia_d42_generic"])
    assert "recovery (neutrophils >= 0.5)" in done.output, done.output
    # one of low counts, of the file, leaves it to what is usual
    low = SCHEDULE.replace("leukemia_d42_generic", "neutropenia_7_days")
    (tmp_path / "s.toml").write_text(low)
    done = CliRunner().invoke(app, [*words, *small, *asked])
    assert "recovery (neutrophils >= 0.5)" in done.output, done.output


@pytest.mark.parametrize(
    ("line", "rule", "told"),
    [
        ("visits", "karp_2007", "it has no counts; allowed: "),
        ("visits", "neutropenia_7_days", "it is of low counts, and does not say what recovered"),
        ("forecast", "karp_2007", "it has no counts; allowed: "),
    ],
)
def test_a_rule_that_is_named_has_the_counts_that_are_asked_of_it(tmp_path, line, rule, told):
    file, seen = tmp_path / "s.toml", tmp_path / "seen.csv"
    file.write_text(SCHEDULE)
    seen.write_text("day,neutrophils\n8,1.0\n")
    words = {
        "visits": [str(file), "--budget", "1", "--days", "8-20 every 4"],
        "forecast": [str(seen), str(file)],
    }[line]
    small = ["--marrow", "friberg", "--draws", "5"]
    done = CliRunner().invoke(app, [line, *words, *small, "--rule", rule])
    assert done.exit_code == 2, done.output
    said = " ".join(done.output.split())
    assert f"--rule {rule}: {told}" in said
    assert "leukemia_d42_generic" in said
    # the file's own may be without counts: recovery is then to what is usual
    trial = load_trial(file)
    (cohort,) = trial.cohorts
    assert rule_of(trial, replace(cohort, rule="karp_2007")) is None
