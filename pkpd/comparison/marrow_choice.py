"""Which marrow a comparison is made with, and why: one without leukaemia, or the learned one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pkpd.cards.drug_actions import (
    FRIBERG,
    KINETICS,
    LEUKAEMIA,
    MARROWS,
    REFUSED,
    drug_action,
)
from pkpd.cards.population_cards import load_population
from pkpd.cards.trial_cards import disease_of, drug_card_of
from pkpd.comparison.assumptions import FEEDBACK, RUN_OPTIONS
from pkpd.comparison.scenario import Scenario, Variant
from pkpd.errors import CardError, PkpdError
from pkpd.evidence.posterior.shipped import (
    HOW_TO_GET_ONE,
    check_names,
    label_of,
    shipped_posterior,
)
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.model.joint import load_model
from pkpd.model.kinetics import OF_THE_SITE
from pkpd.model.parameters import typical
from pkpd.trials import Trial

if TYPE_CHECKING:
    from pkpd.fitting.draws import Fitted

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
    fitted
        Result of `pkpd.fit`, whose marrow it then is.
    """

    marrow: str
    reason: str
    posterior: EvidencePosterior | None = None
    fitted: Fitted | None = None

    @property
    def told(self) -> bool:
        """Whether a report says why: not where there is nothing to choose from."""
        return self.reason != NOTHING_SHIPPED


def default_marrow(posterior: EvidencePosterior | None) -> str:
    """Marrow of a run that names none: the learned one if its shipped posterior converged."""
    return LEUKAEMIA if posterior is not None and posterior.converged else FRIBERG


def choose_marrow(
    asked: str | None,
    scenario: Scenario,
    posterior: EvidencePosterior | Fitted | str | Path | None = None,
) -> Choice:
    """Decide the marrow of a run.

    Parameters
    ----------
    asked
        Marrow named at the call; the scenario's own if ``None``.
    scenario
        What is run.
    posterior
        Posterior or its file, in place of the shipped one; asks for the marrow with leukaemia. Or
        a fit, whose marrow it then is.

    Raises
    ------
    PkpdError
        If the marrow is unknown, or the marrow with leukaemia is asked for and there is no
        posterior, or it cannot do what the scenario asks for.
    """
    asked = asked or scenario.marrow
    if asked is not None and asked not in MARROWS:
        raise PkpdError(where="marrow", what=f"{asked!r}", allowed=", ".join(MARROWS))
    if isinstance(posterior, (str, Path)):
        posterior = load_posterior(posterior)
    if not (posterior is None or isinstance(posterior, EvidencePosterior)):
        return _of_fit(posterior, asked)
    if asked == FRIBERG:
        if posterior is not None:
            raise PkpdError(
                where=f"marrow {FRIBERG}",
                what="a posterior is named, which this marrow does not use",
                remedy=f"name the marrow {LEUKAEMIA}, or no posterior",
            )
        check_drugs(scenario, FRIBERG)
        return Choice(FRIBERG, "asked for")
    found = posterior or shipped_posterior()
    if asked == LEUKAEMIA or posterior is not None:
        if found is None:
            raise PkpdError(
                where=f"marrow {LEUKAEMIA}",
                what=f"{NOTHING_SHIPPED} (models/evidence/posterior.nc)",
                remedy=HOW_TO_GET_ONE,
            )
        reason = "asked for"
    elif default_marrow(found) == FRIBERG:
        why = NOTHING_SHIPPED if found is None else "the shipped posterior did not converge"
        check_drugs(scenario, FRIBERG)
        return Choice(FRIBERG, why)
    else:
        assert found is not None
        reason = f"the shipped {label_of(found).text}"
    check_names(found, f"posterior {label_of(found).digits}")
    problem = beyond_the_marrow(scenario)
    if problem:
        other = f"use the marrow without leukaemia: --marrow {FRIBERG}, or marrow = "
        raise CardError(
            where="marrow with leukaemia" + ("" if asked else " (the usual one)"),
            what=problem,
            remedy=f'leave it out, or {other}"{FRIBERG}" in the scenario',
        )
    return Choice(LEUKAEMIA, reason, found)


def _of_fit(fitted: Fitted, asked: str | None) -> Choice:
    """Choose the marrow that was fitted."""
    # all of fitting, which others do without
    from pkpd.comparison.fitted_trial import check_fit
    from pkpd.predict.marrow import MarrowStructure

    structure = check_fit(fitted).likelihood.model.structure
    whole = isinstance(structure, MarrowStructure) and structure.whole is not None
    marrow = LEUKAEMIA if whole else FRIBERG
    if asked not in (None, marrow):
        raise PkpdError(
            where=f"marrow {asked}",
            what=f"the fit is one of the marrow {marrow}",
            remedy="leave the marrow out",
        )
    return Choice(marrow, "a fit is named", fitted=fitted)


def beyond_the_marrow(scenario: Scenario) -> str:
    """Name the first thing that the marrow with leukaemia cannot do; empty if there is none."""
    found = filter(None, (_of_trial(t, v) for v in scenario.variants for t in scenario.trials))
    return next(found, "")


def _of_trial(trial: Trial, variant: Variant) -> str:
    population = load_population(variant.population) if variant.population else None
    disease_of(trial, population)
    if problem := _of_drugs(trial, LEUKAEMIA):
        return problem
    kinetic = {
        drug: drug_card_of(trial, drug)
        for drug in trial.drugs
        if drug_action(drug_card_of(trial, drug), LEUKAEMIA).by == KINETICS
    }
    for key in variant.cards:
        drug, _, part = key.rpartition(".")
        if not drug:
            return f"the card of the line {part} is one of the marrow without leukaemia"
        if drug in trial.drugs and drug not in kinetic:
            text = drug_action(drug_card_of(trial, drug), LEUKAEMIA).text
            return f"the card for {key} has no use here: {drug} {text}"
        if drug in kinetic and not _changes_kinetics(trial, drug, key, variant.cards[key]):
            text = "what a concentration does in this marrow is on the drug's own card"
            return f"the card for {key} changes no kinetics: {text}"
    for key, value in variant.options.items():
        if key == "combination":
            if value != RUN_OPTIONS[key][0]:
                return f"{key} = {value} is a rule of the marrow without leukaemia"
        elif key not in RUN_OPTIONS and any(_has(trial, drug, key) for drug in trial.drugs):
            if not any(_has(trial, drug, key) for drug in kinetic):
                return f"the option {key} concerns no drug that acts by its kinetics here"
        elif key not in RUN_OPTIONS and _is_of_the_lines(trial, key):
            return f"the option {key} is one of the marrow without leukaemia"
    return ""


def _changes_kinetics(trial: Trial, drug: str, key: str, card: str) -> bool:
    """Whether another card of a drug changes its kinetics, those of the effect site included."""
    if not key.endswith(".effect"):
        return True
    own = {} if drug_card_of(trial, drug).shipped else {drug: drug_card_of(trial, drug).path}

    def site(replaced: Mapping[str, str]) -> list[tuple[str, str]]:
        model = load_model(drugs=[drug], lines=False, drug_cards=own, replace=replaced)
        found = [one for one in model.drug(drug).effect.individuals if one.name in OF_THE_SITE]
        values = typical(model, None)
        read = sorted(name for name in values if ".effect." in name)
        site = {name.rpartition(".")[2] for name in read} & {*OF_THE_SITE, "half_life"}
        numbers = [(name, repr(values[f"{drug}.effect.{name}"])) for name in sorted(site)]
        return [*((one.name, repr(one)) for one in found), *numbers]

    return site({}) != site({key: card})


def _has(trial: Trial, drug: str, key: str) -> bool:
    """Whether an option is one of the cards of a drug."""
    card = drug_card_of(trial, drug)
    if not card.pk:
        return False
    own = {} if card.shipped else {drug: card.path}
    model = load_model(drugs=[drug], lines=False, drug_cards=own)
    return any(name == key or name.endswith(f".{key}") for name, _ in model.options)


def _is_of_the_lines(trial: Trial, key: str) -> bool:
    """Whether an option is one of the marrow lines."""
    names = (*(name for name, _ in load_model(drugs=[]).options), FEEDBACK)
    return any(name == key or name.endswith(f".{key}") for name in names)


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
            raise CardError(where=f"marrow {marrow}", what=problem)
