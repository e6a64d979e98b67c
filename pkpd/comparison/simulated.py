"""Who is simulated, in which marrow, and where ages, kidneys and counts come from: one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pkpd.cards.diseases import disease_in_words
from pkpd.cards.drug_actions import LEUKAEMIA, own_in_words
from pkpd.cards.trial_cards import disease_of, drug_card_of, has_card, patients_of_cohort
from pkpd.schedule import describe_criteria
from pkpd.subjects import Population, median_age, sample_population
from pkpd.trials import Cohort, Trial

_SAMPLE = 512
_ADULT = 18.0  # years
_FEW = 0.02  # share of patients that is not worth a word


def simulated_text(
    trial: Trial, population: Population, marrow: str, cards: Sequence[str] = ()
) -> str:
    """Say what is simulated for a trial.

    Parameters
    ----------
    trial
        The trial, with a user's own drug cards.
    population
        Its patients.
    marrow
        ``"friberg"`` or ``"leukaemia"``.
    cards
        Cards of its lines.

    Returns
    -------
    str
        Disease, marrow, ages, kidneys and counts at start, each with its origin, which of the
        user's own drug cards act, what labels say of kidneys that the file sets, and what of the
        file does nothing.
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
            f"marrow without leukaemia (friberg: {', '.join(cards)})",
            f"{bodies} and counts at start of the population",
        ]
    parts += own_in_words((drug_card_of(trial, drug) for drug, _ in trial.drug_cards), marrow)
    parts += [*kidneys_in_words(trial, population), *_set_by_file(trial), *trial.unnamed]
    return "; ".join(parts)


def _set_by_file(trial: Trial) -> list[str]:
    """Tell the growth factor, and what the file changes in its rule."""
    out = []
    if words := trial.growth_factor.words:
        out.append(f"growth factor: {words}")
    if trial.rule_change:
        changes = [
            describe_criteria(value) if key == "criteria" else f"{key.replace('_', ' ')} {value}"
            for key, value in trial.rule_change
        ]
        out.append(f"the rule is changed by the file: {', '.join(changes)}")
    return out


def ages_and_kidneys(population: Population) -> str:
    """Median age and creatinine clearance of a population, in words."""
    sample = sample_population(population, _SAMPLE, 1)
    low, middle, high = np.quantile(sample["crcl"], (0.05, 0.5, 0.95))
    age = median_age(population)
    adults = "" if age >= _ADULT else ", heights, creatinine and its clearance as of adults"
    return (
        f"median age {age:.0f} years and creatinine clearance {middle:.0f} "
        f"mL/min ({low:.0f} to {high:.0f} in 90 %{adults})"
    )


def kidneys_in_words(trial: Trial, population: Population) -> list[str]:
    """Tell whose kidneys a file sets, and what the labels of the drugs say of them.

    Parameters
    ----------
    trial
        The trial.
    population
        Its patients, before cohorts move them.

    Returns
    -------
    list of str
        Kidneys of cohorts whose patients the file moves; labels; empty if it moves none.
    """
    own = [cohort for cohort in trial.cohorts if cohort.medians]
    told = [f"{c.id}: {ages_and_kidneys(patients_of_cohort(c, population))}" for c in own]
    if not (own or "crcl" in dict(trial.medians)):
        return []
    # kidneys follow age, too, and a cohort that moves nothing stands beside those that do
    every = [(cohort, drugs_treating(trial, cohort)) for cohort in trial.cohorts]
    drugs = dict.fromkeys(drug for _, given in every for drug in given)
    return [*told, *(_label(trial, population, drug, every) for drug in drugs)]


def drugs_treating(trial: Trial, cohort: Cohort) -> list[str]:
    """Drugs of a cohort that are treatment."""
    every = cohort.regimen.drugs
    return [d for d in every if not has_card(trial, d) or not drug_card_of(trial, d).supportive]


def _label(
    trial: Trial, population: Population, drug: str, cohorts: Sequence[tuple[Cohort, list[str]]]
) -> str:
    """Say what a drug's label says of the kidneys of cohorts that get it."""
    if not has_card(trial, drug):
        return f"no card tells the label's doses of {drug} by kidney function"
    card = drug_card_of(trial, drug)
    if not card.renal_doses:
        return f"the card of {drug} says nothing of its label's doses by kidney function"
    told = []
    for one in card.renal_doses:
        shares: dict[str, list[str]] = {}
        for cohort, given in cohorts:
            crcl = sample_population(patients_of_cohort(cohort, population), _SAMPLE, 1)["crcl"]
            share = float(np.mean((crcl >= one.at_least) & (crcl < one.below)))
            if drug in given and share >= _FEW:
                shares.setdefault(f"{100.0 * share:.0f} %", []).append(cohort.id)
        if shares:
            alike = [f"{share} of {' and '.join(ids)}" for share, ids in shares.items()]
            everybody = list(shares.values()) == [[cohort.id for cohort, _ in cohorts]]
            words = f"{next(iter(shares))} of patients" if everybody else ", ".join(alike)
            told.append(f"{one.dose} {one.range} ({words})")
    from_where = ", ".join(dict.fromkeys(f"{o.source}, {o.status}" for o in card.renal_doses))
    words = ", ".join(told) + ", not applied" if told else "no other dose for these kidneys"
    return f"label of {drug} ({from_where}): {words}"
