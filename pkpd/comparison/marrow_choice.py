"""Which marrow a comparison is made with, and why: one without leukaemia, or the learned one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pkpd.cards.drug_actions import FRIBERG, LEUKAEMIA, MARROWS, REFUSED, drug_action
from pkpd.cards.population_cards import load_population
from pkpd.cards.trial_cards import disease_of, drug_card_of, population_of
from pkpd.comparison.scenario import Scenario
from pkpd.errors import CardError, PkpdError, sentence
from pkpd.evidence.posterior.shipped import HOW_TO_GET_ONE, label_of, shipped_posterior
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.subjects import sample_population
from pkpd.trials import Trial

LOWEST_CLEARANCE = 60.0
"""Median creatinine clearance (mL/min) below which typical kidneys cannot stand for a patient's."""

NOTHING_SHIPPED = "no posterior is shipped"


@dataclass(frozen=True)
class Choice:
    """The marrow of a run.

    Attributes
    ----------
    marrow
        ``friberg`` or ``leukaemia``.
    reason
        Why, in one phrase.
    posterior
        Draws for the marrow with leukaemia.
    """

    marrow: str
    reason: str
    posterior: EvidencePosterior | None = None

    @property
    def told(self) -> bool:
        """Whether a report says why: not where there is nothing to choose from."""
        return self.reason != NOTHING_SHIPPED


def default_marrow(posterior: EvidencePosterior | None) -> str:
    """Marrow of a run that names none: the learned one if its shipped posterior converged."""
    return LEUKAEMIA if posterior is not None and posterior.converged else FRIBERG


def choose_marrow(
    asked: str | None, scenario: Scenario, posterior: EvidencePosterior | str | Path | None = None
) -> Choice:
    """Decide the marrow of a run.

    Parameters
    ----------
    asked
        Marrow named at the call; the scenario's own if ``None``.
    scenario
        What is run.
    posterior
        Posterior or its file, in place of the shipped one; asks for the marrow with leukaemia.

    Raises
    ------
    PkpdError
        If the marrow is unknown, or the marrow with leukaemia is asked for and there is no
        posterior, or it cannot do what the scenario asks for.
    """
    asked = asked or scenario.marrow
    if asked is not None and asked not in MARROWS:
        raise PkpdError(sentence(where="marrow", what=f"{asked!r}", allowed=", ".join(MARROWS)))
    if isinstance(posterior, (str, Path)):
        posterior = load_posterior(posterior)
    if asked == FRIBERG:
        if posterior is not None:
            raise PkpdError(
                sentence(
                    where=f"marrow {FRIBERG}",
                    what="a posterior is named, which this marrow does not use",
                    remedy=f"name the marrow {LEUKAEMIA}, or no posterior",
                )
            )
        check_drugs(scenario, FRIBERG)
        return Choice(FRIBERG, "asked for")
    found = posterior or shipped_posterior()
    if asked == LEUKAEMIA or posterior is not None:
        if found is None:
            raise PkpdError(
                sentence(
                    where=f"marrow {LEUKAEMIA}",
                    what=f"{NOTHING_SHIPPED} (models/evidence/posterior.nc)",
                    remedy=HOW_TO_GET_ONE,
                )
            )
        reason = "asked for"
    elif default_marrow(found) == FRIBERG:
        why = NOTHING_SHIPPED if found is None else "the shipped posterior did not converge"
        check_drugs(scenario, FRIBERG)
        return Choice(FRIBERG, why)
    else:
        assert found is not None
        reason = f"the shipped {label_of(found).text}"
    problem = beyond_the_marrow(scenario)
    if problem:
        other = f"use the marrow without leukaemia: --marrow {FRIBERG}, or marrow = "
        raise CardError(
            sentence(
                where="marrow with leukaemia" + ("" if asked else " (the usual one)"),
                what=problem,
                remedy=f'leave it out, or {other}"{FRIBERG}" in the scenario',
            )
        )
    return Choice(LEUKAEMIA, reason, found)


def beyond_the_marrow(scenario: Scenario) -> str:
    """Name the first thing that the marrow with leukaemia cannot do; empty if there is none."""
    for variant in scenario.variants:
        for name in ("options", "cards"):
            given = sorted(getattr(variant, name))
            if given:
                return f"{given[0]} is one of the {name} of the marrow without leukaemia"
        if variant.population:
            found = filter(None, (_of_population(t, variant.population) for t in scenario.trials))
            if problem := next(found, ""):
                return problem
    return next(filter(None, map(_of_trial, scenario.trials)), "")


def _of_population(trial: Trial, name: str) -> str:
    """Why a population cannot stand for a trial's own: it would change next to nothing."""
    population = load_population(name)
    disease = disease_of(trial, population)
    if disease != disease_of(trial):
        return ""
    return (
        f"populations {population.name} and {Path(trial.population).name} are both of {disease}, "
        "and of a population this marrow reads only disease and age, not kidneys and counts"
    )


def _of_trial(trial: Trial) -> str:
    disease_of(trial)
    population = population_of(trial)
    clearance = float(np.median(sample_population(population, 256, 1)["crcl"]))
    if clearance < LOWEST_CLEARANCE:
        return (
            f"patients of {population.name} have a median creatinine clearance of {clearance:.0f} "
            "mL/min, and this marrow handles drugs as with typical kidneys (90 mL/min)"
        )
    return _of_drugs(trial, LEUKAEMIA)


def _of_drugs(trial: Trial, marrow: str) -> str:
    """Why a drug of a trial cannot act in a marrow; empty if all can."""
    for drug in trial.drugs:
        action = drug_action(drug_card_of(trial, drug), marrow)
        if action.by == REFUSED:
            return f"{drug} of trial {trial.id} {action.text} ({action.remedy})"
    return ""


def check_drugs(scenario: Scenario, marrow: str) -> None:
    """Refuse a drug that cannot act in a marrow.

    Raises
    ------
    CardError
        Naming drug, trial and remedy.
    """
    for trial in scenario.trials:
        if problem := _of_drugs(trial, marrow):
            raise CardError(sentence(where=f"marrow {marrow}", what=problem))
