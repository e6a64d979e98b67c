"""What a schedule file changes in its patients and its rule."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pkpd.cards import load_rule, load_trial, rules_for
from pkpd.cards.trial_cards import population_of, trial_of
from pkpd.comparison.ready import rules_of
from pkpd.comparison.scenario import Variant, check_file
from pkpd.errors import CardError
from pkpd.report.comparison.plain_words import trial_in_words

FILE = """
title = "Changed"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 80

[patients]
median_age_years = 72
median_creatinine_clearance_mL_min = 45.5

[rule_change]
by_day = 49
join = "all"
recovered = { neutrophils = 1.0, platelets = 75 }

[dose.clofarabine]
amount = "20 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[course.induction]
doses = ["clofarabine"]
cycle_days = 28
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "changed.toml"
    path.write_text(FILE)
    return path


def test_patients_and_rule_are_changed_everywhere(file):
    trial = load_trial(file)
    assert dict(population_of(trial).medians) == {"age": 72.0, "crcl": 45.5}
    (rule,) = rules_for(trial, trial.cohorts[0])
    own = load_rule("leukemia_d42_generic")
    assert (rule.by_day, rule.join, rule.status) == (49, "all", "assumed")
    assert {c.line: c.at_least for c in rule.criteria} == {"neutrophils": 1.0, "platelets": 75.0}
    assert (rule.sustained_days, rule.no_leukaemia) == (own.sustained_days, own.no_leukaemia)
    assert "by_day, criteria, join" in rule.note
    ((of_run,),), hashes = rules_of(Variant(), trial)
    assert of_run == rule
    assert "rules/leukemia_d42_generic" in hashes


def test_a_rule_that_is_named_in_place_of_it_is_not_changed(file):
    ((rule,),), _ = rules_of(Variant(rule="leukemia_d56_generic"), load_trial(file))
    assert rule.by_day == 56


def test_changes_are_told(file):
    told = "\n".join(trial_in_words(load_trial(file)))
    assert "median age moved to 72, median crcl moved to 45.5" in told
    assert "by day 49" in told
    assert "neutrophils >= 1 and platelets >= 75" in told


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("median_age_years = 72", "median_age_years = 720", "[patients] > median_age_years"),
        ("median_age_years", "median_age", "[patients] > median_age"),
        ("by_day = 49", 'by_day = "late"', "[rule_change] > by_day"),
        ("platelets = 75", "platelets = -1", "[rule_change] > recovered"),
        ("by_day = 49", "by_day = 90", "horizon_days"),
    ],
)
def test_mistakes_are_told_with_their_place(file, old, new, place):
    file.write_text(FILE.replace(old, new))
    (problem,) = check_file(file)
    assert place.split(" > ")[-1] in problem
    assert str(file) in problem


def test_counts_of_a_rule_that_has_no_recovery_cannot_be_changed(file):
    file.write_text(FILE.replace("leukemia_d42_generic", "paed_rolling6"))
    with pytest.raises(CardError, match="counts of recovery are given for a rule of kind"):
        load_trial(file)


def test_a_trial_is_read_from_what_its_file_would_hold(file):
    from_file = load_trial(file)
    in_memory = trial_of(tomllib.loads(FILE), file.parent / "changed.toml")
    assert in_memory == from_file
    with pytest.raises(CardError, match=r"none\.toml: title: the key is missing"):
        trial_of(
            {k: v for k, v in tomllib.loads(FILE).items() if k != "title"},
            file.parent / "none.toml",
        )


def test_a_cohort_changes_a_dose_that_it_adds_to_a_course():
    data = tomllib.loads(FILE)
    data["dose"]["lenalidomide"] = {"amount": "10 mg", "days": "1-21", "route": "oral"}
    data["cohort"] = [
        {"id": "alone"},
        {
            "id": "both",
            "change": {
                "lenalidomide": {"amount": "25 mg"},
                "induction": {"doses": ["clofarabine", "lenalidomide"]},
            },
        },
    ]
    trial = trial_of(data, Path("changed.toml"))
    assert trial.cohort("alone").regimen.drugs == ("clofarabine",)
    both = trial.cohort("both").regimen.courses[0].doses
    assert [(rule.drug, rule.amount) for rule in both] == [
        ("clofarabine", 20.0),
        ("lenalidomide", 25.0),
    ]
    data["cohort"][0]["change"] = {"lenalidomide": {"amount": "25 mg"}}
    remedy = r'add it to one: change.induction = \{ doses = \[\.\.\., "lenalidomide"\] \}'
    with pytest.raises(
        CardError, match=f"(?s)no dose or course 'lenalidomide' in this cohort.*{remedy}"
    ):
        trial_of(data, Path("changed.toml"))
