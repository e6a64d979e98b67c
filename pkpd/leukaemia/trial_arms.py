"""Cohorts of trial cards as arms of the leukaemia model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pkpd.cards.drug_actions import LEUKAEMIA, REFUSED, drug_action
from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.files import card_names, nearest_of
from pkpd.cards.trial_cards import (
    disease_of,
    drug_card_of,
    patients_of_cohort,
    population_of,
)
from pkpd.course.transfusion import TRIGGER
from pkpd.errors import CardError
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.model.joint import load_model
from pkpd.subjects import PatientSample, Population
from pkpd.trials import Trial

_OF_THE_RUN = ("transfusion", "combination")
"""Options that are no option of a card; the latter is one of the marrow without leukaemia."""


def arms_of_trial(
    trial: Trial,
    disease: str | None = None,
    population: Population | PatientSample | None = None,
    options: Mapping[str, Any] | None = None,
    cards: Mapping[str, str] | None = None,
) -> dict[str, Arm]:
    """Arms of the leukaemia model for the cohorts of a trial card.

    Parameters
    ----------
    trial
        As `pkpd.cards.load_trial` gives it.
    disease
        Disease of ``models/leukaemia/populations.toml`` in place of the population's.
    population
        In place of the trial's own; that of the disease if a disease is given alone. Patients of
        one's own need a disease or have that of the trial; a cohort's medians do not move them.
    options, cards
        Options of kinetics (``{"clofarabine.renal_label": True}``) and cards in place of the usual
        ones (``{"lenalidomide.pk": "liang2024_lenalidomide"}``), of shipped drugs and the trial's
        own; those of drugs that it does not give change nothing. ``{"transfusion": False}`` for
        no transfusions.

    Returns
    -------
    dict
        Cohort id -> arm, with the cohort's courses, gates, holds and reductions.

    Raises
    ------
    PkpdError
        If the population names no disease, the disease is unknown, or no drug has an option or a
        card of that name.
    """
    _refuse_strangers(trial, options or {}, cards or {})
    if disease is None:
        disease = disease_of(trial, population if isinstance(population, Population) else None)
        population = population or population_of(trial)
    leukaemia_cards().chain(disease)
    for card in (drug_card_of(trial, name) for name, _ in trial.drug_cards):
        action = drug_action(card, LEUKAEMIA)
        if action.by == REFUSED:
            raise CardError(
                where=f"trial {trial.id}", what=f"{card.name} {action.text}", remedy=action.remedy
            )
    return {
        cohort.id: Arm(
            name=f"{trial.id} {cohort.id}",
            schedule=ArmSchedule(
                cohort.regimen,
                trial.horizon_days,
                growth_factor=trial.growth_factor,
                transfuse_below=TRIGGER if (options or {}).get("transfusion", True) else 0.0,
                options=tuple((options or {}).items()),
                cards=tuple((cards or {}).items()),
            ),
            disease=disease,
            population=patients_of_cohort(cohort, population)
            if isinstance(population, Population)
            else population,
        )
        for cohort in trial.cohorts
    }


def _refuse_strangers(trial: Trial, options: Mapping[str, Any], cards: Mapping[str, str]) -> None:
    """Refuse options and cards that no drug has, shipped or the trial's own."""
    if not cards and set(options) <= {*_OF_THE_RUN}:
        return
    own = [drug_card_of(trial, name) for name, _ in trial.drug_cards]
    every = [*own, *(load_drug_card(name) for name in card_names("drugs"))]
    model = load_model(
        drugs=list(dict.fromkeys(card.name for card in every if card.pk)),
        drug_cards={card.name: card.path for card in own if card.pk},
        replace=cards,
        lines=False,
    )
    known = [*_OF_THE_RUN, *(name for name, _ in model.options)]
    for key in options:
        if not any(name == key or name.endswith(f".{key}") for name in known):
            raise CardError(
                where=f"option {key!r}",
                what=f"no drug has this option{nearest_of(key, known)}",
                allowed=", ".join(known),
            )
