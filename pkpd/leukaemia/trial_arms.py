"""Cohorts of trial cards as arms of the leukaemia model."""

from __future__ import annotations

from pkpd.cards.drug_actions import LEUKAEMIA, REFUSED, drug_action
from pkpd.cards.trial_cards import disease_of, drug_card_of, population_of
from pkpd.errors import CardError, sentence
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.subjects import Population
from pkpd.trials import Trial


def arms_of_trial(
    trial: Trial, disease: str | None = None, population: Population | None = None
) -> dict[str, Arm]:
    """Arms of the leukaemia model for the cohorts of a trial card.

    Parameters
    ----------
    trial
        As `pkpd.cards.load_trial` gives it.
    disease
        Disease of ``models/leukaemia/populations.toml`` with its own ages, in place of the
        population's.
    population
        In place of the trial's own.

    Returns
    -------
    dict
        Cohort id -> arm, with the cohort's courses, gates, holds and reductions, and the median
        age of the population.

    Raises
    ------
    PkpdError
        If the population names no disease, or the disease is unknown.
    """
    age = None
    if disease is None:
        disease = disease_of(trial, population)
        age = median_age(population or population_of(trial))
    leukaemia_cards().chain(disease)
    own = tuple(drug_card_of(trial, name) for name, _ in trial.drug_cards)
    for card in own:
        action = drug_action(card, LEUKAEMIA)
        if action.by == REFUSED:
            msg = sentence(
                where=f"trial {trial.id}", what=f"{card.name} {action.text}", remedy=action.remedy
            )
            raise CardError(msg)
    return {
        cohort.id: Arm(
            name=f"{trial.id} {cohort.id}",
            schedule=ArmSchedule(cohort.regimen, trial.horizon_days, drugs=own),
            disease=disease,
            age=age,
        )
        for cohort in trial.cohorts
    }


def median_age(population: Population) -> float:
    """Median age of a population in years, of men and women alike."""
    age = next(c for c in population.covariates if c.name == "age")
    return float((age.men.from_score(0.0) + age.women.from_score(0.0)) / 2.0)
