"""A variant with another rule or other patients reports these, and not the file's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pkpd
from pkpd.cards import load_trial
from pkpd.comparison.questions import check_asked
from pkpd.comparison.ready import as_compared, patients_of
from pkpd.comparison.rows import PREDICTED
from pkpd.comparison.scenario import Variant
from pkpd.errors import PkpdError

TRIAL = load_trial("nct01681537_len_mec")
SHIPPED = Path(__file__).parents[2] / "models" / "evidence" / "posterior.nc"


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


@pytest.mark.slow
def test_questions_are_asked_under_another_rule_too():
    """A rule that does not look on the day that a question asks about ended it at its end."""
    found = pkpd.compare(
        "nct01681537_len_mec", rule="neutropenia_7_days", patients=30, draws=20, posterior=SHIPPED
    ).trials[0]
    assert {row.rule for row in found.rows if row.endpoint == "dlt"} == {"neutropenia_7_days"}
    assert all(np.isnan(row.published_numerator) for row in found.rows if row.endpoint == "dlt")
    told = [row for row in found.rows if row.endpoint.endswith("by the protocol's rule")]
    assert {row.rule for row in told} == {"published only"}
    assert 45.0 in found.curves["by_day"].values
    assert any(question.name == "delayed_by_cohort" for question in found.questions)


def test_counts_that_no_comparison_looks_at_are_refused():
    (asked, *_) = TRIAL.questions
    settings = tuple(
        (name, ((0.7, 20.0),) if name == "recovered_at" else value)
        for name, value in asked.settings
    )
    other = replace(TRIAL, questions=(replace(asked, settings=settings),))
    with pytest.raises(PkpdError, match=r"recovered_at: neutrophils of 0.7; allowed: 0.5, "):
        check_asked(other)
