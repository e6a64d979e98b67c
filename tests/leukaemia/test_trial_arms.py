"""The shipped trials as arms of the leukaemia model."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.cards import card_names, load_rule, load_trial
from pkpd.endpoints.dlt import evaluate_rule
from pkpd.errors import CardError, PkpdError
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.trial_arms import arms_of_trial


@pytest.mark.parametrize(
    "name",
    [  # tests/comparison/test_five_trials.py compares all
        pytest.param(name, marks=pytest.mark.slow if "len_mec" in name else pytest.mark.long)
        for name in card_names("trials")
    ],
)
def test_every_cohort_of_every_trial_runs(name):
    trial = load_trial(name)
    arms = arms_of_trial(trial)
    assert len(arms) == sum(len(arm.cohorts) for arm in trial.arms)
    for arm in arms.values():
        got = population_outcomes(arm, default_theta(), 64)
        assert np.isfinite(got.course.neutrophils).all()
        assert got.course.doses_given.sum() > 0


@pytest.mark.parametrize(
    ("options", "cards", "told"),
    [
        ({"renal_labl": True}, {}, r"no drug has this option \(did you mean 'clofarabine.renal_"),
        ({"transfuson": False}, {}, "did you mean 'transfusion'"),
        ({}, {"lenalidomid.pk": "liang2024_lenalidomide"}, "did you mean 'lenalidomide.pk'"),
        ({}, {"lenalidomide.pk": "liang2024_lenalidomid"}, "did you mean 'liang2024_lenalidomide'"),
    ],
)
def test_misspelt_options_and_cards_are_refused(options, cards, told):
    with pytest.raises(CardError, match=told):
        arms_of_trial(load_trial("nct01681537_len_mec"), options=options, cards=cards)


def test_options_and_cards_of_drugs_that_a_trial_does_not_give_change_nothing():
    trial = load_trial("nct01681537_len_mec")
    options = {"renal_label": True, "transfusion": True}
    cards = {"cyclophosphamide.pk": "ahmed2020_cyclophosphamide"}
    arms = arms_of_trial(trial, options=options, cards=cards)
    assert {one.who for one in arms.values()} == {one.who for one in arms_of_trial(trial).values()}


def test_the_rule_of_lenalidomide_with_mec_on_its_cohorts():
    """Published: 3 of 25 not recovered by day 45, 4 to 30 % by Beta(3.5, 22.5).

    Half of the patients cannot be judged: they died, or leukaemia is still there.
    """
    trial = load_trial("nct01681537_len_mec")
    rule = load_rule("len_mec_2018")
    risks = {}
    for cohort, arm in arms_of_trial(trial).items():
        verdict = evaluate_rule(rule, population_outcomes(arm, default_theta(), 1024).course)
        risks[cohort] = verdict.event.sum() / verdict.evaluable.sum()
        number = verdict.counts()
        assert number["died"] < 0.35 * 1024
        assert 0.4 < verdict.evaluable.mean() < 0.8
        assert number["not_started"] == number["too_short"] == number["not_finite"] == 0
    assert all(0.01 < risk < 0.35 for risk in risks.values())


def test_an_unknown_population_is_refused():
    from dataclasses import replace

    trial = replace(load_trial("nct01681537_len_mec"), population="mine")
    with pytest.raises(PkpdError, match="no card named 'mine'"):
        arms_of_trial(trial)
    assert len(arms_of_trial(trial, disease="aml")) > 3
