"""The answer of a trial in one sentence, from made-up results whose figures are typed in."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import synthetic

from pkpd.comparison.marrow_words import differences_in_words
from pkpd.report import wording
from pkpd.report.comparison.answer import answer_sentence, differences_sentence
from pkpd.report.comparison.split_words import split_alt, split_sentence


def changed(result, endpoint, **figures):
    rows = (replace(r, **figures) if r.endpoint == endpoint else r for r in result.rows)
    return replace(result, rows=tuple(rows))


def test_one_cohort():
    assert answer_sentence(synthetic.make_trial_result(1)) == (
        "Of 100 patients at the end of day 45: 79 recovered without leukaemia, 9 recovered with "
        "leukaemia, 3 low counts without leukaemia, 1 low counts with leukaemia, 8 died. "
        "In this model the risk of a dose-limiting toxicity is 24 % (90 % interval 7 to 50 %); the "
        "median patient has neutrophils >= 0.5 after 32 days and platelets >= 20 after 40 days "
        "(10^9/L; days since the first dose)."
    )


def test_among_many_trials_only_an_unusual_clock_is_told():
    result = synthetic.make_trial_result(1)
    assert answer_sentence(result, everybody=False).endswith("platelets >= 20 after 40 days.")
    later = replace(result, curves=result.curves.assign_attrs(rule_clock="consolidation"))
    assert answer_sentence(later, everybody=False).endswith("(days since consolidation day 1).")
    assert answer_sentence(later).endswith("(10^9/L; days since consolidation day 1).")


def test_cohorts_give_ranges_and_the_share_that_can_be_judged():
    result = changed(synthetic.make_trial_result(3), "dlt", evaluable=0.64)
    told = answer_sentence(result)
    assert "is 14 to 24 % in 3 cohorts (90 % intervals within 4 to 50 %)" in told
    assert ", of the 64 % of patients who can be judged;" in told
    assert "neutrophils >= 0.5 after 26 to 32 days and platelets >= 20 after 34 to 40 days" in told


def test_what_is_not_reached_not_low_or_not_judged_is_said():
    six = synthetic.make_trial_result(6)
    # the sixth cohort does not recover
    assert "after 26 to more than the simulated days" in answer_sentence(six)
    never = changed(six, "recovery_day", estimate=np.inf)
    assert "has neutrophils below 0.5 up to day 90 and platelets below 20 up" in answer_sentence(
        never
    )
    fine = changed(six, "recovery_day", estimate=0.0)
    assert "neutrophils not below 0.5 after the planned last dose" in answer_sentence(fine)
    low = next(row for row in fine.rows if row.endpoint == "recovery_day")
    otherwise = "not below 0.5 after the planned last dose"
    for share, told in ((0.6, "never below 0.5"), (0.4, otherwise)):
        rule = ">= 0.5"
        never = replace(low, endpoint="never_low", line="neutrophils", rule=rule, estimate=share)
        assert f"neutrophils {told}" in answer_sentence(replace(fine, rows=(*fine.rows, never)))
    assert wording.estimate_text(low) == "not low after the planned last dose"
    blind = changed(six, "dlt", estimate=np.nan, evaluable=0.0)
    told = answer_sentence(blind)
    assert "In this model too few patients can be judged for the risk of a dose-lim" in told


def test_the_clock_and_whose_rule_it_is_are_said():
    result = synthetic.make_trial_result(1)
    curves = result.curves.assign_attrs(rule_clock="consolidation", treatment_running=1)
    trial = replace(result.trial, rule_is_protocols=False)
    told = answer_sentence(replace(result, curves=curves, trial=trial))
    assert (
        "the share of patients not recovered on the day of a customary rule, on treatment," in told
    )
    assert told.endswith("days since consolidation day 1).")
    told = answer_sentence(replace(result, trial=trial))
    assert "the risk of a dose-limiting toxicity under a customary rule is 24 %" in told
    low = curves.assign_attrs(rule_kind="low_count_duration")
    told = answer_sentence(replace(result, curves=low, trial=trial))
    assert "the share of patients with low counts by a customary rule, on treatment, is" in told
    two = synthetic.make_trial_result(2)
    some = replace(two, curves=two.curves.assign_attrs(treatment_running=1))
    assert "the risk of toxicity, or of low counts on treatment, is" in answer_sentence(some)


def test_without_a_rule_there_is_recovery_alone():
    result = synthetic.make_trial_result(1)
    rows = tuple(row for row in result.rows if row.endpoint != "dlt")
    told = answer_sentence(replace(result, rows=rows))
    assert "In this model the median patient has neutrophils" in told
    assert "risk" not in told
    assert answer_sentence(replace(result, rows=())) == ""


def test_the_next_cycle_ends_the_search_in_the_sentence():
    six = synthetic.make_trial_result(6)  # the sixth cohort does not recover
    neutrophils = next(r for r in six.rows if r.endpoint == "recovery_day")
    assert neutrophils.line == "neutrophils"
    share = replace(neutrophils, endpoint="not_before_next_cycle", rule=">= 0.5", estimate=0.7)
    cycles = replace(six, rows=(*six.rows, share))
    told = answer_sentence(cycles)
    assert "neutrophils >= 0.5 after 26 to 32 days (1 of 6 cohorts: not before the next" in told
    assert "platelets >= 20 after 34 to more than the simulated days" in told
    never = answer_sentence(changed(cycles, "recovery_day", estimate=np.inf))
    assert "neutrophils below 0.5 when the next cycle begins and platelets below 20 up to" in never


def test_of_100_patients_there_are_100():
    rng = np.random.default_rng(1)
    for _ in range(50):
        result = synthetic.make_trial_result(1)
        split = result.curves["split"]
        shares = rng.dirichlet(np.full(split.sizes["state"], 0.4))
        curves = result.curves.copy()
        curves["split"] = (
            split.dims,
            np.broadcast_to(
                shares.reshape([-1 if d == "state" else 1 for d in split.dims]), split.shape
            ),
        )
        told = answer_sentence(replace(result, curves=curves)).partition(".")[0]
        numbers = [int(n) for n in re.findall(r"(\d+) (?:recovered|low|died)", told)]
        assert sum(numbers) == 100
        np.testing.assert_allclose(numbers, 100 * shares, atol=1.0)
        # the caption of the figure and its words for those who do not see it tell the same
        beside = replace(result, curves=curves)
        for words in (split_sentence(beside), split_alt(beside)):
            assert [int(n) for n in re.findall(r"(\d+) % have", words)] == numbers


def test_an_interval_that_is_not_known_is_not_given():
    result = changed(synthetic.make_trial_result(1), "dlt", lower=np.nan, upper=np.nan)
    words = "a dose-limiting toxicity is 24 % (an interval cannot be told from so few); the median"
    assert words in answer_sentence(result)
    three = synthetic.make_trial_result(3)
    rows = list(three.rows)
    first = next(i for i, row in enumerate(rows) if row.endpoint == "dlt")
    rows[first] = replace(rows[first], lower=np.nan, upper=np.nan)
    told = answer_sentence(replace(three, rows=tuple(rows)))
    assert "is 14 to 24 % in 3 cohorts (90 % intervals within 4 to" in told


def test_the_first_sentence_says_whether_differences_between_cohorts_are_learned():
    pairs = {"pairs": 61, "studies": 31, "slope": 0.6, "slope_error": 0.13}
    cases = (
        ({"less": -0.04, "less_error": 0.05}, "not known", "as good"),
        ({"less": -0.06, "less_error": 0.05}, "not known", "worse"),
        ({"less": -0.06, "less_error": 0.05, "slope": 0.8}, "learned", "worse"),
    )
    several, one = (synthetic.make_trial_result(n) for n in (3, 1))
    for scores, verdict, beside in cases:
        words = differences_in_words({"left_out": {"pairs": pairs | scores}})
        assert words.startswith(f"{verdict}: between 61 pairs of arms of 31 studies that the model")
        assert words.endswith(f", and a forecast of no difference was {beside}")
        curves = several.curves.assign_attrs(differences=words)
        told = answer_sentence(replace(several, curves=curves))
        assert told.startswith(f"Differences between cohorts are {words}. Of 100 patients")
        short = differences_sentence(replace(several, curves=curves), whole=False)
        assert short == f"Differences between cohorts are {verdict}."
        many = answer_sentence(replace(several, curves=curves), everybody=False)
        assert many.startswith("In this model")
        alone = replace(one, curves=one.curves.assign_attrs(differences=words))
        assert answer_sentence(alone).startswith("Of 100 patients")
    never = {"pairs": 22, "studies": 16, "slope": 0.11, "slope_error": 0.18}
    came = {"left_out": {"pairs": pairs | cases[2][0]}}
    for scores, verdict, beside in (
        ({"less": 0.05, "less_error": 0.04}, "not known", "better"),
        ({"less": 0.03, "less_error": 0.04, "slope_error": 0.3}, "learned", "as good"),
    ):
        words = differences_in_words(came | {"pairs": never | scores})
        assert words.startswith(f"{verdict}: between 61 pairs of arms")
        told = f"0.11 ({scores.get('slope_error', 0.18):.2f}), and it was {beside}"
        assert words.endswith(f"; between 22 of 16 studies that nothing was learned from, {told}")
    assert differences_in_words({}).startswith("assumed: ")
    before = {"left_out": {"pairs": pairs | cases[0][0]}}
    told = "not known: before rows were added or left out, between 61 pairs of arms of 31 studies"
    assert differences_in_words({}, before).startswith(told)
