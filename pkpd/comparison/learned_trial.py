"""A trial in the marrow with leukaemia: every posterior draw meets the same patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from pkpd.cards import card_hash
from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.cards.files import find_card
from pkpd.cards.trial_cards import disease_of, drug_card_of
from pkpd.comparison.leukaemia_lanes import PREDICTED, LeukaemiaLook
from pkpd.comparison.leukaemia_limits import assumed_texts, idle_inputs, trial_limits
from pkpd.comparison.marrow_words import differences_in_words, leukaemia_assumptions
from pkpd.comparison.questions import answers, check_asked
from pkpd.comparison.ready import Ready, as_compared, named_after, patients_of, rules_of, trial_hash
from pkpd.comparison.results import EndpointRow, PosteriorRow, Question
from pkpd.comparison.scenario import Scenario, Variant
from pkpd.comparison.shares import CohortShares
from pkpd.comparison.simulated import simulated_text
from pkpd.comparison.what_it_rests_on import (
    PRIOR_DRAWS,
    PRIOR_PATIENTS,
    Verdicts,
    own_rows,
    what_it_rests_on,
)
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.evidence.criticism.trial_predictions import new_study
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.posterior.shipped import label_of
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.leukaemia.drug_effects import prepare_regimen
from pkpd.leukaemia.parameters import leukaemia_cards, response_criteria
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.subjects import patients_key
from pkpd.trials import Trial

Shares = Mapping[str, CohortShares]


def learned_trial(
    scenario: Scenario,
    variant: Variant,
    trial: Trial,
    posterior: EvidencePosterior,
    draws: Sequence[Mapping[str, float]],
    with_questions: bool = True,
) -> Ready:
    """Make a trial ready.

    Parameters
    ----------
    scenario, variant, trial
        Checked by `pkpd.comparison.marrow_choice`.
    posterior
        Which parameters were learned.
    draws
        Its draws.
    with_questions
        Whether the trial's own questions are answered, which takes some cohorts more.

    Raises
    ------
    PkpdError
        If a card cannot be used.
    """
    name, population = patients_of(variant, trial)
    written, trial = trial, as_compared(variant, trial, name, population)
    arms = arms_of_trial(trial, None, None, variant.options, variant.cards)
    rules, hashes = rules_of(variant, trial)
    if with_questions:
        check_asked(trial)
    hashes |= trial_hash(trial)
    structural = leukaemia_cards(posterior.structure).files
    hashes |= {f"leukaemia/{card}": digits for card, digits in structural.items()}
    hashes |= {f"drugs/{drug}": drug_card_of(trial, drug).sha256 for drug in trial.drugs}
    hashes[f"populations/{population.name}"] = card_hash(find_card("populations", name))
    for card in (trial.grades, response_criteria(disease_of(trial))[0]):
        hashes[f"rules/{Path(card).stem}"] = card_hash(find_card("rules", card))
    study = new_study(
        patients_key(population),
        draws,
        patients=scenario.patients,
        seed=scenario.seed,
        variant=posterior.variant,
    )
    some = next(iter(arms.values()))
    label = label_of(posterior)
    text = label.text
    limits = trial_limits(trial, posterior)
    head = f"marrow with leukaemia, {text}"
    if not posterior.converged:
        head += f" ({posterior.problems[0]}): figures may change with a longer run"
    transfused = bool(variant.options.get("transfusion", True))
    words = (
        head,
        *limits,
        *trial.assumptions,
        *leukaemia_assumptions(rules[0][0], transfused, trial.growth_factor),
    )
    shown = named_after(variant, trial)
    ensemble = LearnedEnsemble(study, some)
    for arm in arms.values():
        model = prepare_regimen(arm.schedule).model
        kinetics = {} if model is None else model.hashes()
        hashes |= {card: digits for card, digits in kinetics.items() if card[:6] != "joint/"}

    def named(row: EndpointRow) -> EndpointRow:
        values = {f.name: getattr(row, f.name) for f in fields(row)}
        return PosteriorRow(**values, marrow=LEUKAEMIA, posterior=text)

    def asked(shares: Shares) -> tuple[Question, ...]:
        # what a question sets its shares beside was printed by the trial, whatever the rule here
        return answers(replace(shown, arms=written.arms), arms, shares, study)

    def rests_on(verdicts: Verdicts, before: Verdicts) -> Question | None:
        own = own_rows(posterior, trial, len(draws), scenario.seed)
        return what_it_rests_on(shown, verdicts, before, own, _printed(trial))

    prior = _of_prior(scenario, variant, trial, posterior) if with_questions else None
    return Ready(
        trial=shown,
        ensemble=ensemble,
        rules=rules,
        simulated=simulated_text(trial, population, LEUKAEMIA),
        hashes=hashes,
        assumptions=tuple(dict.fromkeys(words)),
        assumed=lambda cohort: "; ".join(assumed_texts(trial, cohort.regimen.drugs, posterior)),
        reader=lambda look: LeukaemiaLook(look, some),
        predicted=PREDICTED,
        named=named,
        limits=limits,
        attrs={
            "marrow": LEUKAEMIA,
            "posterior": text,
            "differences": differences_in_words(label.tested, label.tested_before),
            "without_effect": idle_inputs(trial),
        },
        questions=asked if with_questions else None,
        prior=prior,
        rests_on=rests_on,
        moved={c.id: LearnedEnsemble(study, arms[c.id]) for c in trial.cohorts if c.medians},
    )


def _of_prior(
    scenario: Scenario, variant: Variant, trial: Trial, posterior: EvidencePosterior
) -> Ready:
    """Give the trial under draws of the prior, in fewer patients."""
    whole = marrow_prior(variant=posterior.structure)
    held = set(whole.names) - set(posterior.names)
    prior = whole
    if held:  # what the posterior has not learned is not uncertain before it either
        prior = Prior([e for e in whole.entries if e.name not in held], fixed=posterior.fixed)
    rng = np.random.default_rng(scenario.seed)
    thetas = [prior.theta(z) for z in prior.draw(PRIOR_DRAWS, rng)]
    fewer = replace(scenario, patients=min(scenario.patients, PRIOR_PATIENTS))
    return learned_trial(fewer, variant, trial, posterior, thetas, with_questions=False)


def _printed(trial: Trial) -> dict[str, str]:
    """Cohort -> its published DLTs, of its patients."""
    return {
        cohort.id: f"{one.numerator}/{one.denominator}"
        for cohort in trial.cohorts
        for one in cohort.published
        if PREDICTED.get(one.endpoint) == ("dlt", "") and one.numerator is not None
    }
