"""Trials and cards in plain words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import synthetic

from pkpd.report.comparison import plain_words
from pkpd.schedule import Criterion
from pkpd.trials import DLTRule, PublishedOutcome

RULE = DLTRule(
    "len_mec_2018",
    (Criterion("neutrophils", 0.5), Criterion("platelets", 20)),
    by_day=45,
    sustained_days=3,
    consecutive_visits=2,
)


def test_trial_is_told_with_regimen_rule_published_and_assumed():
    trial = synthetic.make_trial(2)
    outcome = PublishedOutcome("dlt", 0.333, 0.04, 0.78, 2, 6, "day 45", "table 2", "read")
    cohort = replace(trial.arms[0].cohorts[0], published=(outcome,), note="first")
    trial = replace(trial, arms=(replace(trial.arms[0], cohorts=(cohort,)),), references=("A",))
    text = "\n".join(plain_words.trial_in_words(trial, {"len_mec_2018": RULE}))
    assert "lenalidomide 10 mg by mouth on days 1-10" in text
    assert "published: dlt 2/6, 0.333 (0.04 to 0.78); day 45; table 2; read" in text
    assert "by day 45 from the first dose not all of these have recovered" in text
    assert "0.5 and 20 are assumed" in text
    assert "References\n  - A" in text


def test_rule_tells_its_conditions_and_status():
    text = plain_words.rule_in_words(RULE)
    for part in (
        "not all of these have recovered: neutrophils >= 0.5 and platelets >= 20",
        "must last 3 days",
        "2 visits in a row",
        "without transfusion for 7 days",
        "without leukaemia",
        "who dies before the day of the rule cannot be judged",
        "(assumed)",
    ):
        assert part in text
    duration = replace(RULE, kind="low_count_duration", duration_days=(7.0, 7.0))
    assert (
        "within 45 days of the first dose neutrophils < 0.5 for 7 days"
        in plain_words.rule_in_words(duration)
    )
    assert "with the event already there has a DLT" in plain_words.rule_in_words(duration)
    words = DLTRule("x", kind="not_count_based", quote="aplasia")
    assert plain_words.rule_in_words(words) == "not defined by counts (aplasia)"


def test_trial_without_rule():
    trial = replace(synthetic.make_trial(1), rule=None)
    assert "DLT rule: none" in plain_words.trial_in_words(trial)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {
                "parameters": {
                    "CL": {"value": 5.41, "unit": "L/h", "ci95": [4.0, 6.5], "status": "read"}
                }
            },
            "  CL = 5.41 L/h (ci95 4 to 6.5); read",
        ),
        ({"no_leukaemia": True}, "no leukaemia: yes"),
        ({"days": [1, 2, 3]}, "days: 1, 2, 3"),
        ({"scale": [{"line": "platelets"}]}, "    line: platelets"),
        ({"recovered": {"platelets": 20.0}}, "  platelets: 20"),
    ],
)
def test_card_lines(data, line):
    assert line in plain_words.card_in_words("card", data)
