"""Who is simulated, in which marrow, and where ages, kidneys and counts come from: one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pkpd.cards.diseases import disease_in_words
from pkpd.cards.drug_actions import LEUKAEMIA, card_in_words, drug_action
from pkpd.cards.trial_cards import disease_of, drug_card_of
from pkpd.subjects import Population, median_age, sample_population
from pkpd.trials import Trial

_SAMPLE = 512


def simulated_text(trial: Trial, population: Population, marrow: str) -> str:
    """Say what is simulated for a trial.

    Parameters
    ----------
    trial
        The trial, with a user's own drug cards.
    population
        Its patients.
    marrow
        ``"friberg"`` or ``"leukaemia"``.

    Returns
    -------
    str
        Disease, marrow, ages, kidneys and counts at start, each with its origin, and which of the
        user's own drug cards act.
    """
    card = f"population {Path(population.name).name}"
    bodies = ages_and_kidneys(population)
    if marrow == LEUKAEMIA:
        disease = disease_of(trial, population)
        parts = [
            f"{disease_in_words(disease)} (disease {disease} of {card})",
            "marrow with leukaemia",
            f"{bodies} of {card}",
            "counts at start the disease's, not the population's",
        ]
    else:
        parts = [
            f"patients of {card}, no leukaemia in the marrow",
            "marrow without leukaemia (friberg)",
            f"{bodies} and counts at start of the population",
        ]
    for drug, _ in trial.drug_cards:
        own = drug_card_of(trial, drug)
        parts.append(f"{drug}: {card_in_words(own)} {drug_action(own, marrow).text}")
    return "; ".join(parts)


def ages_and_kidneys(population: Population) -> str:
    """Median age and creatinine clearance of a population, in words."""
    sample = sample_population(population, _SAMPLE, 1)
    low, middle, high = np.quantile(sample["crcl"], (0.05, 0.5, 0.95))
    return (
        f"median age {median_age(population):.0f} years and creatinine clearance {middle:.0f} "
        f"mL/min ({low:.0f} to {high:.0f} in 90 %)"
    )
