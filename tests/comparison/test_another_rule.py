"""A variant with another rule or other patients reports these, and not the file's."""

from __future__ import annotations

from dataclasses import replace

from pkpd.cards import load_trial
from pkpd.comparison.ready import as_compared, patients_of
from pkpd.comparison.rows import PREDICTED
from pkpd.comparison.scenario import Variant

TRIAL = load_trial("nct01681537_len_mec")


def compared(trial=TRIAL, **changes):
    variant = Variant(**changes)
    return as_compared(variant, trial, *patients_of(variant, trial))


def test_a_trial_under_its_own_rule_is_as_it_is():
    assert compared() == TRIAL


def test_another_rule_is_that_of_every_cohort_and_stands_beside_no_figure_of_the_first():
    changed = replace(TRIAL, rule_change=(("by_day", 49),))
    found = compared(changed, rule="neutropenia_7_days")
    assert {cohort.rule for cohort in found.cohorts} == {found.rule} == {"neutropenia_7_days"}
    assert not found.rule_is_protocols
    assert found.rule_change == ()
    before, after = (
        [one for cohort in trial.cohorts for one in cohort.published] for trial in (TRIAL, found)
    )
    assert len(before) == len(after)
    assert any(PREDICTED.get(one.endpoint) == ("dlt", "") for one in before)
    assert not any(PREDICTED.get(one.endpoint) == ("dlt", "") for one in after)
    told = [one.endpoint for one in after if one.endpoint.endswith("by the protocol's rule")]
    assert told


def test_other_patients_are_those_of_the_heading():
    found = compared(population="mds_post_hma")
    assert found.population == "mds_post_hma"
    assert found.disease != TRIAL.disease
