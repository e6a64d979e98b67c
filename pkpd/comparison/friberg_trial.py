"""A trial in the marrow without leukaemia, with parameters from the priors of its cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pkpd.cards import card_hash
from pkpd.cards.drug_actions import FRIBERG
from pkpd.cards.files import find_card
from pkpd.comparison.assumptions import RUN_OPTIONS, joint_model
from pkpd.comparison.marrow_words import NOT_LEARNED, marrow_assumptions
from pkpd.comparison.ready import (
    Ready,
    as_compared,
    moved_of,
    named_after,
    patients_of,
    rules_of,
    trial_hash,
)
from pkpd.comparison.scenario import Scenario, Variant
from pkpd.comparison.simulated import simulated_text
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.model.joint import assumed_inputs
from pkpd.model.parameters import draw_parameters
from pkpd.subjects import sample_population
from pkpd.trials import Trial


def friberg_trial(scenario: Scenario, variant: Variant, trial: Trial) -> Ready:
    """Make a trial ready.

    Raises
    ------
    PkpdError
        If a card cannot be used.
    """
    options = {key: variant.options.get(key, v[0]) for key, v in RUN_OPTIONS.items()}
    name, population = patients_of(variant, trial)
    trial = as_compared(variant, trial, name, population)
    model = joint_model(trial, variant.options, variant.cards)
    rules, hashes = rules_of(variant, trial)
    hashes |= model.hashes() | trial_hash(trial)
    hashes[f"populations/{population.name}"] = card_hash(find_card("populations", name))
    hashes[f"rules/{Path(trial.grades).stem}"] = card_hash(find_card("rules", trial.grades))
    size = scenario.patients, scenario.seed
    ensemble = CardsEnsemble(
        model,
        sample_population(population, *size),
        draw_parameters(model, population, scenario.draws, scenario.seed),
        population,
        TransfusionPolicy() if options["transfusion"] else None,
        str(options["combination"]),
        growth_factor=trial.growth_factor,
    )
    growth = [f"{drug} of the schedule" for drug in trial.drugs if model.is_growth_factor(drug)]
    growth += filter(None, [trial.growth_factor.words])
    words = (
        *trial.assumptions,
        *population.assumptions,
        *model.assumptions,
        *marrow_assumptions(rules[0][0], bool(options["transfusion"]), growth),
    )
    return Ready(
        trial=named_after(variant, trial),
        ensemble=ensemble,
        rules=rules,
        simulated=simulated_text(trial, population, FRIBERG, [card.name for card in model.marrow]),
        hashes=hashes,
        assumptions=tuple(dict.fromkeys(words)),
        assumed=lambda cohort: "; ".join(assumed_inputs(model, population, cohort.regimen.drugs)),
        attrs={"differences": NOT_LEARNED},
        moved={
            name: replace(ensemble, sample=sample_population(one, *size), population=one)
            for name, one in moved_of(trial, population).items()
        },
    )
