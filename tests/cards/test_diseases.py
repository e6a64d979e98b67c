"""Diseases of populations and trials: names that are checked, and what is simulated for them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkpd.cards import card_folder, card_names, load_trial
from pkpd.cards.diseases import disease_in_words, diseases
from pkpd.cards.population_cards import load_population, population_of_disease
from pkpd.cards.trial_cards import disease_of
from pkpd.errors import CardError
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.subjects import median_age, sample_population, with_median_age

WEEKLY = """
title = "Weekly clofarabine"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 90
[dose.clofarabine]
amount = "5 mg/m^2"
days = "1, 8"
route = "iv"
[course.treatment]
doses = ["clofarabine"]
cycle_days = 28
"""


@pytest.fixture
def weekly(tmp_path):
    """Make a schedule file with other values at the top."""

    def make(**changes):
        text = WEEKLY.lstrip()
        for key, value in changes.items():
            text = f'{key} = "{value}"\n' + re.sub(rf"^{key} = .*\n", "", text, flags=re.M)
        (tmp_path / "weekly.toml").write_text(text)
        return tmp_path / "weekly.toml"

    return make


def test_every_disease_has_a_population_and_every_population_a_disease():
    assert set(diseases()) == set(leukaemia_cards().populations)
    used = {load_population(name).disease for name in card_names("populations")}
    assert used | set(leukaemia_cards().states) == set(diseases())


def test_a_card_that_stands_for_two_diseases_says_so():
    card = load_population("hr_mds_aml_unfit")
    assert card.disease == "mds_high_risk"
    assert any("AML" in text and "aml_untreated_unfit" in text for text in card.assumptions)
    assert load_population("aml_untreated_unfit").disease == "aml_unfit"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aml_unft", "did you mean 'aml_unfit'"),
        ("multiple myeloma, relapsed", "did you mean 'myeloma'"),
        ("low-risk MDS without deletion 5q", "did you mean 'mds_lower_risk'"),
        ("zzz", "allowed: aml, aml_unfit"),
    ],
)
def test_a_disease_that_the_marrow_does_not_know_is_refused(weekly, text, words):
    file = weekly(disease=text)
    with pytest.raises(CardError, match=words) as told:
        load_trial(file)
    assert str(told.value).startswith(f"{file}: disease: ")
    assert "condition" in str(told.value)


def test_a_disease_that_is_not_the_populations_is_refused(weekly):
    assert load_trial(weekly(disease="aml_relapsed")).disease == "aml_relapsed"
    with pytest.raises(CardError, match="aml_untreated_unfit"):
        load_trial(weekly(disease="aml_unfit"))


def test_a_population_without_disease_is_refused_by_the_marrow_with_leukaemia(weekly, tmp_path):
    text = (Path(str(card_folder("populations"))) / "rr_aml.toml").read_text()
    text = text.replace('name = "rr_aml"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(text.replace('disease = "aml_relapsed"\n', ""))
    trial = load_trial(weekly(population="mine.toml"))
    assert trial.disease == ""
    with pytest.raises(CardError, match=r"mine\.toml names no disease.*--marrow friberg"):
        arms_of_trial(trial)
    completed = load_trial(weekly(population="mine.toml", disease="aml"))
    assert {arm.disease for arm in arms_of_trial(completed).values()} == {"aml"}


def test_patients_have_the_median_age_of_their_population():
    for name in card_names("populations"):
        population = load_population(name)
        ages = sample_population(replace(population, limits=()), 2048, 1)["age"]
        # standard error of a median: 1.25 SD / sqrt(n) = 0.4 years at most
        assert median_age(population) == pytest.approx(np.median(ages), abs=0.8)
    trial = load_trial("nct01681537_len_mec")
    assert disease_of(trial) == "aml_relapsed"
    assert {arm.who.name for arm in arms_of_trial(trial).values()} == {"rr_aml"}
    assert {arm.who.name for arm in arms_of_trial(trial, "aml").values()} == {"aml_untreated"}


def test_every_disease_has_a_shipped_population():
    for disease in diseases():
        assert population_of_disease(disease).disease == disease
    with pytest.raises(CardError, match="no card is of the disease 'flu'"):
        population_of_disease("flu")


def test_ages_can_be_moved():
    for name, age in (("rr_aml", 45.0), ("rr_leukaemia_children", 8.0), ("cll", 75.0)):
        moved = with_median_age(load_population(name), age)
        ages = sample_population(moved, 2048, 7)["age"]
        assert np.median(ages) == pytest.approx(age, abs=0.8)
        assert ages.min() >= 1.0
        assert ages.max() <= 95.0


def test_limits_of_age_move_with_the_ages():
    population = load_population("rr_aml")
    old = median_age(population)
    limited = replace(population, limits=(*population.limits, ("age", old - 10, old + 5)))
    moved = with_median_age(limited, old - 20)
    ages = sample_population(moved, 2048, 7)["age"]
    assert np.median(ages) == pytest.approx(old - 20, abs=0.8)
    assert np.ptp(ages) == pytest.approx(15.0, abs=1.0)  # a limit that does not move leaves others
    (low, high) = next((a, b) for name, a, b in moved.limits if name == "age")
    assert high - low == pytest.approx(15.0)


def test_diseases_in_words():
    assert disease_in_words("aml_unfit").startswith("acute myeloid leukaemia before treatment")
    assert disease_in_words("unknown") == "unknown"
