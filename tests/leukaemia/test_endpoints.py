"""Endpoints from daily counts written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_response_criteria, load_rule
from pkpd.course.course import Course, death_days
from pkpd.endpoints.definitions import definition
from pkpd.endpoints.dlt import DLTStatus, evaluate_rule
from pkpd.endpoints.recovery import RecoveryDefinition, line_outcomes, nadir
from pkpd.endpoints.response import best_response, improvement_day
from pkpd.errors import PkpdError
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.schedule import Criterion
from pkpd.trials import DLTRule


def courses(days=60, **lines):
    """One patient with constant counts unless given; a normal marrow in remission."""
    usual = {
        "neutrophils": 4.0,
        "platelets": 200.0,
        "wbc": 6.0,
        "marrow_blasts": 2.0,
        "blood_blasts": 0.0,
        "marrow_cells": 1.0,
        "cumulative_hazard": 0.0,
    }
    daily = {}
    for name, value in usual.items():
        daily[name] = np.full((1, days), float(value))
    for name, value in lines.items():
        if name != "transfused":
            daily[name] = np.atleast_2d(np.asarray(value, dtype=float))
    n = max(values.shape[0] for values in daily.values())
    mornings = {line: daily.pop(line) for line in ("neutrophils", "platelets")}
    transfused = np.zeros((n, days), dtype=bool)
    transfused[0, lines.get("transfused", [])] = True
    return Course(
        mornings=mornings,
        platelets_with_transfused=mornings["platelets"].copy(),
        **daily,
        transfused=transfused,
        first_day=np.array([[1, 29]]),
        cycles_started=np.array([[1, 1]]),
        doses_given=np.array([[5]]),
        full_doses=np.array([[5.0]]),
        next_cycle_day=np.array([[29, 1 << 30]]),
        drugs=("clofarabine",),
        course_names=("first", "second"),
    )


def dying(made, day):
    """The same patients, who die on a protocol day (one number, or one each)."""
    day = np.broadcast_to(np.asarray(day, dtype=float), (made.lanes,))
    hazard = (np.arange(made.days)[None, :] >= day[:, None]).astype(float)
    return replace(made, cumulative_hazard=hazard, death_score=np.full(made.lanes, 0.5))


def verdict(made, rule):
    return evaluate_rule(rule, made).outcome[0]


def dip(value, first, last, days=60, normal=4.0):
    """A count that is ``value`` on protocol days first to last."""
    counts = np.full(days, normal)
    counts[first - 1 : last] = value
    return counts


def test_recovery_is_the_first_of_three_days_in_a_row():
    counts = dip(0.2, 5, 20)
    counts[[10, 11]] = 0.9  # two days are no recovery
    three = RecoveryDefinition(sustained_days=3)
    made = courses(neutrophils=counts)
    found = line_outcomes(made, "neutrophils", [0.5, 0.1], definition=three)
    # protocol days 21 and 5 are the times 20 and 4
    assert found.sustained.day[0, 0] == 20.0
    assert found.first_below_day[:, 0].tolist() == [4.0, np.inf]
    assert found.days_below[:, 0].tolist() == [14.0, 0.0]
    assert found.longest_below_days[:, 0].tolist() == [8.0, 0.0]
    dead = line_outcomes(dying(made, 22), "neutrophils", 0.5, definition=three)
    assert dead.sustained.status[0, 0] == 2  # died after two days at the threshold
    assert dead.sustained.pending_day[0, 0] == 20.0
    assert [x[0] for x in nadir(made, "neutrophils")] == [0.2, 4.0]
    assert [x[0] for x in nadir(dying(made, 3), "neutrophils")] == [4.0, 0.0]


def test_death_comes_when_survival_falls_below_the_score():
    hazard = np.array([[0.0, 0.1, 0.3, 0.6]])
    assert death_days(hazard, np.array([np.exp(-0.2)]))[0] == 2.0  # in the course of day 2
    assert death_days(hazard, np.array([np.exp(-0.7)]))[0] == np.inf


@pytest.mark.parametrize(
    ("neutrophils", "platelets", "expected"),
    [(0.1, 10.0, "none"), (0.9, 99.0, "none"), (0.9, 100.0, "CRi"), (1.0, 99.0, "CRi"),
     (1.0, 100.0, "CR")],
)  # fmt: skip
def test_iwg_2003_asks_a_remission_for_one_recovered_line(neutrophils, platelets, expected):
    """A marrow that was emptied by treatment has few blasts, and is no remission."""
    made = courses(
        neutrophils=np.full((1, 60), neutrophils),
        platelets=np.full((1, 60), platelets),
        marrow_blasts=dip(40.0, 1, 13, normal=1.0),
    )
    code, _, codes = best_response(made, load_response_criteria("iwg_2003_aml"))
    assert codes[code[0]] == expected


def test_eln_2022_distinguishes_counts():
    criteria = load_response_criteria("eln_2022")
    low_platelets = np.full((1, 60), 60.0)
    for lines, expected in (
        ({}, "CR"),
        ({"platelets": low_platelets}, "CRh"),
        ({"platelets": low_platelets / 2}, "CRi"),
        ({"platelets": low_platelets / 2, "neutrophils": low_platelets / 200}, "MLFS"),
        ({"platelets": low_platelets / 2, "neutrophils": low_platelets / 200,
          "marrow_cells": low_platelets / 1000}, "none"),
        ({"marrow_blasts": np.full((1, 60), 9.0)}, "none"),
        ({"marrow_blasts": dip(40.0, 1, 20, normal=9.0)}, "PR"),
        ({"blood_blasts": np.full((1, 60), 0.5)}, "none"),
    ):  # fmt: skip
        code, day, codes = best_response(courses(**lines), criteria)
        assert codes[code[0]] == expected
        assert (day[0] < np.inf) == (expected != "none")
    # remission on day 30, but dead on day 25, or asked for by day 28
    late = courses(marrow_blasts=dip(40.0, 1, 29, normal=1.0))
    assert best_response(late, criteria)[1][0] == 30.0
    assert best_response(dying(late, 25), criteria)[0][0] == 0
    assert best_response(late, criteria, by_day=28)[0][0] == 0


def test_a_response_that_must_last_is_none_of_who_dies_before_it_has_lasted():
    criteria = load_response_criteria("iwg_2006_mds")
    late = courses(marrow_blasts=dip(8.0, 1, 19, normal=1.0))
    day = best_response(late, criteria)[1][0]
    lasts = int(7 * criteria.responses[0].for_weeks)
    for died, code in ((day + lasts - 1, 1), (day + lasts - 2, 0)):
        assert best_response(dying(late, died), criteria)[0][0] == code
    # that it must last beyond the day asked for takes nothing from who lives
    assert best_response(late, criteria, by_day=day)[0][0] == 1


def best_by_the_definition(made, died, rules, by_day):
    """Best response of each patient, category by category and day by day as the card is read."""
    first = int(definition("first_response_day"))
    answers = []
    for i in range(died.size):
        answer = (0, np.inf)
        for index, rule in enumerate(rules.responses, start=1):
            met = []
            for j in range(made.days):
                blasts = made.marrow_blasts[i, j]
                limit = np.inf if rule.marrow_blasts_below is None else rule.marrow_blasts_below
                parts = [
                    blasts >= rule.marrow_blasts_from,
                    blasts <= limit if rule.marrow_limit_included else blasts < limit,
                ]
                if rule.marrow_blasts_fall:
                    parts.append(
                        blasts <= (1.0 - rule.marrow_blasts_fall) * made.marrow_blasts[i, 0]
                    )
                if rule.no_circulating_blasts:
                    parts.append(made.blood_blasts[i, j] < definition("blood_blasts_detected"))
                if rule.marrow_not_aplastic:
                    parts.append(made.marrow_cells[i, j] >= definition("marrow_cells_needed"))
                reached = [getattr(made, c.line)[i, j] >= c.at_least for c in rule.criteria]
                if reached:
                    parts.append(any(reached) if rule.join == "any" else all(reached))
                met.append(all(parts))
            lasts = max(round(7 * rule.for_weeks), 1)
            for j in range(first - 1, made.days - lasts + 1):
                lives = j + lasts <= died[i]  # until it has lasted
                if j + 1 <= by_day and lives and all(met[j : j + lasts]):
                    answer = (index, j + 1.0)
                    break
            if answer[0]:
                break
        answers.append(answer)
    return np.array(answers).T


@pytest.mark.parametrize(("card", "by_day"), [("eln_2022", np.inf), ("iwg_2006_mds", 45.0)])
def test_responses_of_random_courses_are_those_of_the_definition(card, by_day):
    rng = np.random.default_rng(5)
    n, days = 200, 70
    # levels that straddle the limits, and hold for some days
    held = np.repeat(rng.integers(0, 4, (7, n, 5)), 14, axis=2)
    levels = {
        "neutrophils": (0.4, 0.5, 1.0, 2.0),
        "platelets": (40.0, 50.0, 100.0, 150.0),
        "marrow_blasts": (2.0, 5.0, 10.0, 30.0),
        "blood_blasts": (0.0, 0.0, 0.05, 0.1),
        "marrow_cells": (0.05, 0.1, 1.0, 1.0),
    }
    made = courses(days, **{k: np.array(v)[held[i]] for i, (k, v) in enumerate(levels.items())})
    died = rng.choice([20.0, 40.0, np.inf], n)
    rules = load_response_criteria(card)
    code, day, _ = best_response(dying(made, died), rules, by_day)
    expected = best_by_the_definition(made, died, rules, by_day)
    np.testing.assert_array_equal(code, expected[0])
    np.testing.assert_array_equal(day, expected[1])
    assert len(np.unique(code)) == len(rules.responses) + 1  # every category occurs


def improves(made, criteria, code, for_days=None):
    return np.isfinite(improvement_day(made, criteria, code, for_days))


def test_mds_response_and_improvement_must_last():
    criteria = load_response_criteria("iwg_2006_mds")
    low = dip(0.4, 1, 20, days=120, normal=1.2)
    made = courses(days=120, neutrophils=low, marrow_blasts=dip(12.0, 1, 20, 120, 2.0))
    code, day, codes = best_response(made, criteria)
    assert (codes[code[0]], day[0]) == ("CR", 21.0)
    assert improves(made, criteria, "HI-N")[0]
    short = courses(days=120, neutrophils=dip(1.2, 30, 60, days=120, normal=0.4))
    assert not improves(short, criteria, "HI-N")[0]
    assert improves(short, criteria, "HI-N", for_days=28)[0]
    # platelets from 15: to above 20 and doubled; from 50: by 30
    for start, end, expected in ((15.0, 25.0, False), (15.0, 31.0, True), (50.0, 75.0, False),
                                 (50.0, 81.0, True), (120.0, 200.0, False)):  # fmt: skip
        counts = dip(start, 1, 20, days=120, normal=end)
        got = improves(courses(days=120, platelets=counts), criteria, "HI-P")
        assert got[0] == expected
    with pytest.raises(PkpdError, match="HI-E"):
        improves(short, criteria, "HI-E")


def test_improvement_begins_on_the_first_day_that_lasts():
    criteria = load_response_criteria("iwg_2006_mds")
    # 0.4 at the start, 1.2 on days 30 to 59 and from day 80 on
    counts = np.full(160, 0.4)
    counts[29:59] = counts[79:] = 1.2
    made = courses(days=160, neutrophils=counts)
    assert improvement_day(made, criteria, "HI-N")[0] == 80.0  # eight weeks
    assert improvement_day(made, criteria, "HI-N", for_days=30)[0] == 30.0
    assert improvement_day(made, criteria, "HI-N", for_days=90)[0] == np.inf
    assert improvement_day(dying(made, 100), criteria, "HI-N")[0] == np.inf
    high = courses(days=160, neutrophils=np.full(160, 1.4))
    assert np.isnan(improvement_day(high, criteria, "HI-N")[0])


RULE = DLTRule(
    "test", (Criterion("neutrophils", 0.5), Criterion("platelets", 20.0)), by_day=42
)  # fmt: skip


def test_delayed_recovery():
    """Day 42 is the end of protocol day 42: the morning of day 43 counts."""
    assert verdict(courses(neutrophils=dip(0.2, 8, 42)), RULE) == 0.0
    late = courses(neutrophils=dip(0.2, 8, 43))
    assert verdict(late, RULE) == 1.0
    assert evaluate_rule(RULE, dying(late, 30)).status[0] == DLTStatus.DIED
    # a recovery counts although a dip follows it
    twice = np.minimum(dip(0.2, 8, 20), dip(0.2, 30, 50))
    assert verdict(courses(neutrophils=twice), RULE) == 0.0
    leukaemic = courses(neutrophils=dip(0.2, 8, 50), marrow_blasts=np.full(60, 30.0))
    assert evaluate_rule(RULE, leukaemic).status[0] == DLTStatus.LEUKAEMIA
    # platelets at 20 from day 40 on, but transfused on day 38: not recovered by day 42
    platelets = dip(5.0, 8, 39, normal=50.0)
    assert verdict(courses(platelets=platelets), RULE) == 0.0
    supported = courses(platelets=platelets, transfused=[37])
    assert verdict(supported, RULE) == 1.0


def test_clock_of_a_course_and_horizon():
    rule = DLTRule("test", (Criterion("neutrophils", 0.5),), by_day=20, clock="second")
    late = courses(neutrophils=dip(0.2, 30, 49))
    assert verdict(late, rule) == 1.0  # day 20 of the second course is day 48
    assert verdict(courses(neutrophils=dip(0.2, 30, 48)), rule) == 0.0
    short = evaluate_rule(rule, courses(days=40))
    assert short.status[0] == DLTStatus.TOO_SHORT
    with pytest.raises(PkpdError, match="no course"):
        verdict(late, DLTRule("x", RULE.criteria, by_day=9, clock="third"))


def test_the_verdict_of_an_arm_is_that_of_comparisons():
    """Days count from the first dose that is treatment, and recovery from the last one."""
    given = pkpd.daily("clofarabine", "5 mg/m^2", days="4-8", route="iv", duration="1 h")
    arm = Arm("late", ArmSchedule(given, 60), "aml_relapsed")
    rule = DLTRule("test", (Criterion("neutrophils", 0.5),), by_day=42)
    for first, last, dlt in ((8, 45, 0.0), (8, 46, 1.0), (3, 5, 0.0)):
        made = courses(neutrophils=dip(0.2, first, last))
        assert ArmOutcomes(arm, made).dlt(rule)[0] == dlt, "day 42 ends on day 45 of the course"
    early = courses(neutrophils=np.minimum(dip(0.2, 2, 5), dip(0.2, 10, 50)))
    assert ArmOutcomes(arm, early).dlt(rule)[0] == 1.0, "a recovery before the last dose is none"
    assert ArmOutcomes(replace(arm, schedule=ArmSchedule(None, 60)), made).dlt(rule)[0] == 0.0


def test_rules_of_cards():
    oral = load_rule("oral_clo_nhl")
    assert verdict(courses(neutrophils=dip(0.2, 8, 12)), oral) == 1.0
    assert verdict(courses(neutrophils=dip(0.2, 8, 11)), oral) == 0.0
    slow = courses(neutrophils=dip(0.9, 10, 34))
    assert verdict(slow, load_rule("pomalidomide_solid")) == 0.0  # nadir 0.9
    deep = courses(neutrophils=np.minimum(dip(0.9, 10, 36), dip(0.3, 12, 14)))
    assert verdict(deep, load_rule("pomalidomide_solid")) == 1.0
    with pytest.raises(PkpdError, match="no count threshold"):
        verdict(slow, load_rule("plerixafor_73"))


@pytest.mark.parametrize("code", ["HI-N", "HI-P"])
@pytest.mark.parametrize("days", [None, 1, 10])
def test_improvements_of_random_courses_are_those_of_the_definition(code, days):
    rng = np.random.default_rng(7)
    criteria = load_response_criteria("iwg_2006_mds")
    rule = next(one for one in criteria.improvements if one.code == code)
    levels = np.array({"HI-N": (0.4, 0.9, 1.3), "HI-P": (15.0, 25.0, 60.0, 95.0, 130.0)}[code])
    counts = levels[np.repeat(rng.integers(0, levels.size, (300, 20)), 8, axis=1)]
    # some stay where they have risen to, long enough for an improvement of weeks
    counts[:150, 64:] = counts[:150, 64:65]
    died = rng.choice([60.0, 120.0, np.inf], len(counts))
    made = dying(courses(days=160, **{rule.line: counts}), died)
    lasts = max(round(7 * rule.for_weeks) if days is None else days, 1)
    told = improvement_day(made, criteria, code, days)
    for row, dies, day in zip(counts, died, told, strict=True):
        base = row[0]
        if base >= rule.baseline_below:
            assert np.isnan(day)
            continue
        (*_, step) = (s for s in rule.steps if base > s.baseline_above)
        met = [
            d + 1 <= dies
            and row[d] - base >= step.rise
            and row[d] >= (1 + step.rise_fraction) * base
            and row[d] > step.end_above
            for d in range(160)
        ]
        begins = [d + 1 for d in range(161 - lasts) if all(met[d : d + lasts])]
        assert day == min(begins, default=np.inf)
    assert np.isfinite(told).any()
    assert np.isinf(told).any()
