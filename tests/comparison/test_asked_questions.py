"""Questions in a trial card of one's own: every template, and faults named with their place."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_grades, load_response_criteria, load_rule, load_trial
from pkpd.comparison import questions, shares
from pkpd.comparison.questions import _cycles, _last_start
from pkpd.comparison.run import compare
from pkpd.course.course import Course
from pkpd.errors import CardError
from pkpd.schedule import Criterion, Gate
from pkpd.trials import AskedQuestion

TRIAL = """
title = "Two schedules, then another drug"
population = "mds_lower_risk"
rule = "leukemia_d42_generic"
horizon_days = 84

[[question]]
ask = "schedule_or_dose"
drug = "lenalidomide"
by_day = 42
printed = "delayed"
recovered_at = [{ neutrophils = 0.5, platelets = 20 }]

[[question]]
ask = "start_of_drug"
drug = "azacitidine"
course = "later"
gates = [{ neutrophils = 1.0, platelets = 50 }]
most_wait_days = 7
low = { neutrophils = 1.0, platelets = 50 }

[[question]]
ask = "one_dose_or_another"
name = "high_or_low"
first = "high"
second = "low"
heads = ["25 mg", "5 mg"]
by_day = 42
recovered_at = [{ neutrophils = 0.5, platelets = 20 }]

[[question]]
ask = "cycle_by_cycle"

[dose.lenalidomide]
amount = "5 mg"
days = "1-10"
route = "oral"

[dose.azacitidine]
amount = "75 mg/m^2"
days = "1-7"
route = "sc"

[course.first]
doses = ["lenalidomide"]
cycle_days = 28

[course.later]
doses = ["azacitidine"]
cycle_days = 28

[[cohort]]
id = "low"
[[cohort.published]]
endpoint = "delayed"
numerator = 0
denominator = 3
source = "made up"
status = "assumed"

[[cohort]]
id = "high"
change.lenalidomide = { amount = "25 mg" }
[[cohort.published]]
endpoint = "delayed"
numerator = 1
denominator = 3
source = "made up"
status = "assumed"

[[cohort]]
id = "long"
change.lenalidomide = { days = "1-21" }
[[cohort.published]]
endpoint = "delayed"
numerator = 2
denominator = 6
source = "made up"
status = "assumed"
"""


@pytest.mark.slow
def test_a_trial_of_ones_own_asks_every_question(tmp_path, posterior):
    (tmp_path / "mine.toml").write_text(TRIAL)
    result = compare(tmp_path / "mine.toml", patients=24, draws=3, jobs=1, posterior=posterior)
    questions = {q.name: q for q in result.trials[0].questions}
    assert list(questions) == [
        "delayed_by_cohort",
        "schedule_or_dose",
        "start_of_drug",
        "high_or_low",
        "cycles",
        "improvement",
        "what_it_rests_on",
    ]
    asked = questions["schedule_or_dose"]
    assert asked.columns[1:3] == ("21 less 10 days", "25 less 5 mg")
    assert "2 of 6 against 1 of 6" in asked.answer[-1]
    assert asked.answer[-2].startswith("such a trial splits at least as unevenly in")
    assert questions["delayed_by_cohort"].rows[0][-1] == ""  # none of 3: at least none is no news
    assert [row[2] for row in questions["delayed_by_cohort"].rows] == ["0/3", "1/3", "2/6"]
    start = questions["start_of_drug"]
    assert "azacitidine" in start.title
    assert [row[1] for row in start.rows] == ["none", "1.0 and 50"] * 3
    assert start.rows[0][3].value == 29.0
    assert questions["high_or_low"].columns[1:3] == ("25 mg", "5 mg")
    for question in questions.values():
        assert all(len(row) == len(question.columns) for row in question.rows)
    shares = [row[1].value for row in questions["high_or_low"].rows]
    assert all(np.isnan(share) or 0.0 <= share <= 1.0 for share in shares)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('ask = "cycle_by_cycle"', 'ask = "cycle"', "did you mean 'cycle_by_cycle'"),
        ('first = "high"', 'first = "higher"', "no cohort of this trial is named 'higher'"),
        ('course = "later"', 'course = "latter"', "did you mean 'later'"),
        ('drug = "azacitidine"\ncourse', 'drug = "decitabine"\ncourse', "no drug of this trial"),
        ("by_day = 42\nprinted", "by_day = 90\nprinted", "by_day: 90 is out of range"),
        ("low = {", "lowest = {", "low: the key is missing"),
    ],
)
def test_faults_of_a_question_are_named(tmp_path, old, new, words):
    assert old in TRIAL
    (tmp_path / "mine.toml").write_text(TRIAL.replace(old, new, 1))
    with pytest.raises(CardError, match=re.escape(words)) as told:
        load_trial(tmp_path / "mine.toml")
    assert "[[question]]" in str(told.value)


RULE = load_rule("len_mec_2018")


def told_under(*rules, draws=3, late=np.nan):
    """Answers of LEN+MEC about cohorts with one risk, each under its rule; the last of the rest."""
    trial = load_trial("nct01681537_len_mec")
    grid = np.full((2, 4, 4, draws), late)
    rules = (*rules, *[rules[-1]] * len(trial.cohorts))
    of_all = {
        cohort.id: shares.CohortShares(grid, np.nan_to_num(grid), grid[0, 0, 0], {}, rule)
        for cohort, rule in zip(trial.cohorts, rules, strict=False)
    }
    asked = next(one for one in trial.questions if one.ask == "schedule_or_dose")
    design = questions._whole_design(trial)
    return questions._schedule_or_dose(trial.id, asked, design, of_all)


@pytest.mark.filterwarnings("error")
def test_questions_about_patients_of_whom_none_can_be_judged_have_a_dash():
    (told,) = told_under(RULE)
    assert told.rows == (("-",),)
    assert told.answer == (
        "in no draw does every cohort have one of those alive and free of leukaemia on day 45",
    )
    assert np.isnan(shares.probability(np.zeros(0, bool)).value)


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({}, "those alive and free of leukaemia on day 45"),
        ({"no_leukaemia": False}, "those alive, with leukaemia or not, on day 45"),
        (
            {"clock": "reinduction"},
            "those alive and free of leukaemia on day 45 from reinduction day 1",
        ),
        (
            {"join": "all"},
            "those alive and free of leukaemia on day 45 (recovered with one of the two counts "
            "back)",
        ),
    ],
)
def test_a_question_names_those_whom_the_rule_that_ran_judges(changes, who):
    first, _ = told_under(replace(RULE, **changes), late=0.25)
    assert first.text.startswith(f"Risk of {who}, by the counts that mean recovery")
    settings = {
        "first": "a", "second": "b", "by_day": 45, "heads": ("10 mg", "5 mg"),
        "recovered_at": ((0.5, 20.0),),
    }  # fmt: skip
    asked = AskedQuestion("one_dose_or_another", "", "", "", tuple(settings.items()))
    grid = np.full((2, 4, 4, 3), 0.25)
    one = shares.CohortShares(grid, grid, grid[0, 0, 0], {}, replace(RULE, **changes))
    told = questions._one_dose_or_another("mine", asked, {"a": one, "b": one})
    assert f"that mean recovery, of {who} under each, who are not the same" in told.text


def test_cohorts_under_rules_of_their_own_are_told_so():
    first, _ = told_under(replace(RULE, no_leukaemia=False), RULE, late=0.25)
    assert first.text.startswith(
        "Risk of those alive, with leukaemia or not, on day 45 or those alive and free of "
        "leukaemia on day 45, as each cohort's rule judges, by"
    )


def test_grades_of_a_cycle_are_those_of_the_trial():
    counts = {"neutrophils": np.full((3, 28), 2.0), "platelets": np.full((3, 28), 100.0)}
    counts["platelets"][:2, 10] = 45.0, 55.0
    counts["platelets"][2] = 15.0  # too few before treatment to be graded by their fall
    course = Course(
        mornings=counts,
        platelets_with_transfused=None,
        transfused=np.zeros((3, 28), dtype=bool),
        first_day=np.ones((3, 1), dtype=np.int64),
    )
    outcomes: Any = SimpleNamespace(
        course=course,
        death_day=course.death_day,
        n=3,
        first_response_day=lambda *_: np.full(3, np.inf),
    )
    criteria = load_response_criteria("iwg_2006_mds")
    fallen = _cycles(1, 28, load_grades("iwcll_2008"), 28, criteria, 8)(outcomes)
    np.testing.assert_array_equal(fallen["platelets", 1], [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(fallen["either", 1], [1.0, 0.0, np.nan])
    below = _cycles(1, 28, load_grades("ctcae_v5"), 28, criteria, 8)(outcomes)
    np.testing.assert_array_equal(below["platelets", 1], [1.0, 0.0, 1.0])


def test_a_course_is_waited_for_behind_earlier_gates():
    gate = Gate((Criterion("neutrophils", 1.0),), max_wait_days=10)
    first = pkpd.daily("lenalidomide", "5 mg", "1-10/28", "oral").repeat(3)
    later = pkpd.daily("azacitidine", "75 mg/m^2", "1-7", "sc")
    name = later.courses[0].name
    assert _last_start(first.then(later), name, 14) == 85 + 14 + 1
    assert _last_start(first.with_between(gate).then(later), name, 14) == 85 + 2 * 10 + 14 + 1
    assert _last_start(first.then(later, gate=gate), name, 5) == 85 + 10 + 1
