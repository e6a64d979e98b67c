"""What the marrow with leukaemia assumes for a trial, and what of the trial it cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pkpd.cards import card_names
from pkpd.cards.diseases import disease_in_words
from pkpd.cards.drug_cards import (
    BODY_SURFACE_M2,
    BODY_WEIGHT_KG,
    GROWTH_FACTOR,
    LONG_ACTING,
    NOTHING,
    OF_BLASTS,
    named,
)
from pkpd.cards.population_cards import beyond_ages
from pkpd.cards.trial_cards import (
    disease_of,
    drug_card_of,
    patients_of_cohort,
    population_of,
)
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.subjects import Population
from pkpd.trials import Trial
from pkpd.units import Parameter

_MOST = 2.0  # intensity above which no row was learned from
_WEAK = 0.01  # intensity of a course, relative to 7+3, that moves no count
_UNKNOWN = ("assumed", "memory")


def trial_limits(trial: Trial, posterior: EvidencePosterior) -> tuple[str, ...]:
    """Name what of a trial the model cannot do or only guesses, a sentence each.

    Parameters
    ----------
    trial
        The trial; its population has a disease of the leukaemia model.
    posterior
        Which parameters were learned.
    """
    who = f" ({trial.condition})" if trial.condition else ""
    told = [
        f"patients of {Path(trial.population).name}{who} are simulated as: "
        f"{disease_in_words(disease_of(trial))}"
    ]
    disease = disease_of(trial)
    usual = population_of(trial)
    groups: dict[Population, list[str]] = {}
    for cohort in trial.cohorts:
        groups.setdefault(patients_of_cohort(cohort, usual), []).append(cohort.id)
    for one, ids in groups.items():
        if text := beyond_ages(one, disease):
            told.append(text if len(groups) == 1 else f"{', '.join(ids)}: {text}")
    told += [text for drug in trial.drugs if (text := _drug_limit(trial, drug, posterior))]
    told += [text for drug in trial.drugs if (text := _of_one_body(trial, drug))]
    endpoints = dict.fromkeys(p.endpoint for c in trial.cohorts for p in c.published)
    beyond = [e.replace("_", " ") for e in endpoints if e in _NOT_PREDICTED]
    if beyond:
        told.append(f"published but not predicted by this model: {', '.join(beyond)}")
    return tuple(told)


def idle_inputs(trial: Trial) -> str:
    """Name in a sentence what of a trial is given without any effect; empty if nothing is."""
    idle, amounts = [], []
    for drug in trial.drugs:
        action = drug_card_of(trial, drug).leukaemia
        assert action is not None  # `pkpd.comparison.marrow_choice` refuses others
        kill = action.number("intensity")
        weak = kill is not None and kill.value < _WEAK and action.number("blasts") is None
        if action.acts_by == NOTHING or weak:
            idle.append(drug)
        elif action.acts_by in (GROWTH_FACTOR, LONG_ACTING):
            amounts.append(drug)
    if trial.growth_factor.words:
        amounts.append(trial.growth_factor.drug or "growth factor")
    if amounts:
        idle.append(f"the amount of {' and '.join(dict.fromkeys(amounts))}")
    return f"Without effect in this model: {', '.join(idle)}." if idle else ""


_NOT_PREDICTED = frozenset(
    ("os_1_year", "median_os_days", "ae_g3_thrombocytopenia", "ae_g3_febrile_neutropenia")
)


def _of_one_body(trial: Trial, drug: str) -> str:
    """Say that a drug that acts by its intensity has one dose for bodies of all sizes."""
    action = drug_card_of(trial, drug).leukaemia
    kill = None if action is None else action.number("intensity")
    if kill is None or kill.value < _WEAK:
        return ""
    courses = [course for cohort in trial.cohorts for course in cohort.regimen.courses]
    rules = [rule for course in courses for rule in course.doses if rule.drug == drug]
    if not any(rule.cap_mg or rule.strengths_mg or rule.unit != "mg/m^2" for rule in rules):
        return ""
    return (
        f"{drug}: caps and doses that are not by surface are those of {BODY_SURFACE_M2:g} m^2 and "
        f"{BODY_WEIGHT_KG:g} kg in every patient, and doses are not rounded to strengths"
    )


def _drug_limit(trial: Trial, drug: str, posterior: EvidencePosterior) -> str:
    card = drug_card_of(trial, drug)
    action = card.leukaemia
    assert action is not None  # `pkpd.comparison.marrow_choice` refuses others
    if action.acts_by == NOTHING:
        return f"{drug}: given in the trial, without any effect in this model"
    if action.acts_by == GROWTH_FACTOR:
        return (
            f"{drug}: given or not, by the days of its doses; their amount does not act "
            "([growth_factor] gives it by need)"
        )
    if action.acts_by == LONG_ACTING:
        return f"{drug}: every dose counts as one; its amount does not act"
    if action.by_level and not getattr(action.number(OF_BLASTS[action.acts_by]), "value", 0.0):
        return f"{drug}: kills no blasts, because its card has no {OF_BLASTS[action.acts_by]}"
    kill = action.number("intensity")
    if kill is None:
        return ""
    if kill.value < _WEAK:
        text = f"{drug}: without an effect on the marrow in this model"
        blasts = action.number("blasts")
        if blasts is not None:
            share = kill.value * blasts.value
            mine = card.shipped and f"blasts.{card.name}" in posterior.names
            how = "was learned from trials" if mine else f"is {blasts.status}"
            text += f"; its kill of blasts ({share:.2g} of a course of 7+3 on its card) {how}"
        return text
    if card.shipped and f"intensity.{card.name}" in posterior.names:
        return ""
    held = "held at that value and not learned"
    if not card.shipped and kill.interval is not None:
        held = f"drawn from {kill.interval[0]:g} to {kill.interval[1]:g} and not learned"
    text = (
        f"{drug}: a kill of {kill.value:g} of a course of 7+3 at its usual dose "
        f"({kill.status}), {held}"
    )
    if kill.value > _MOST:
        text += (
            f"; that is more than was learned of any drug ({_MOST:g}), and a further rise changes "
            "little: dormant cells are spared, and late injury is simulated only if the card gives "
            "it"
        )
    return "; ".join((text, *action.limits))


def assumed_texts(
    trial: Trial, drugs: Sequence[str], posterior: EvidencePosterior
) -> tuple[str, ...]:
    """List inputs without a source that a cohort rests on and that were not learned.

    Parameters
    ----------
    trial
        The trial, for its disease.
    drugs
        Drugs of the cohort.
    posterior
        Which parameters were learned.

    Returns
    -------
    tuple of str
        Such as ``"intensity.etoposide 0.1, assumed"``.
    """
    cards = leukaemia_cards(posterior.structure)
    chain = cards.chain(disease_of(trial))
    own = {name: drug_card_of(trial, name) for name in dict(trial.drug_cards)}
    names = [drug for drug in drugs if drug not in own]
    strangers = {*cards.populations, *card_names("drugs")} - {*chain, *names}
    strangers |= {f"with_{drug}" for drug in strangers}
    texts, seen = [], set()
    for name, parameter in cards.parameters.items():
        base, _, last = name.rpartition(".")
        if name in posterior.names or parameter.status not in _UNKNOWN:
            continue
        if strangers & set(name.split(".")):
            continue
        if last in chain:
            # the nearest disease that has its own value is the one that counts
            nearest = next(d for d in chain if f"{base}.{d}" in cards.parameters)
            if last != nearest or base in seen:
                continue
            seen.add(base)
        texts.append(_text(parameter))
    for card in own.values():
        if card.name in drugs and card.leukaemia is not None:
            numbers = [named(p, card.name) for p in card.leukaemia.numbers]
            texts += [_text(p) for p in numbers if p.status in _UNKNOWN]
    return tuple(texts)


def _text(parameter: Parameter) -> str:
    unit = "" if parameter.unit == "1" else f" {parameter.unit}"
    return f"{parameter.name} {parameter.value:g}{unit}, {parameter.status}"
