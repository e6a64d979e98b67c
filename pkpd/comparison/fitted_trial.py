"""A trial in the marrow of a fit: draws of its parameters meet new patients."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

from pkpd.cards import card_hash
from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.cards.files import find_card
from pkpd.cards.trial_cards import disease_of, has_card
from pkpd.comparison.assumptions import RUN_OPTIONS
from pkpd.comparison.lanes import reported
from pkpd.comparison.leukaemia_lanes import PREDICTED, LeukaemiaLook
from pkpd.comparison.marrow_words import NOT_TESTED, fit_assumptions
from pkpd.comparison.ready import (
    Ready,
    as_compared,
    moved_of,
    named_after,
    patients_of,
    rules_of,
    trial_hash,
)
from pkpd.comparison.results import EndpointRow, PosteriorRow
from pkpd.comparison.rows import PREDICTED as OF_LINES
from pkpd.comparison.scenario import Scenario, Variant
from pkpd.comparison.simulated import ages_and_kidneys, kidneys_in_words
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.endpoints.definitions import THRESHOLDS
from pkpd.ensemble.fitted import FittedEnsemble, fitted_ensemble
from pkpd.ensemble.simulate import check_rule_lines
from pkpd.errors import CardError, PkpdError
from pkpd.fitting.draws import Fitted
from pkpd.leukaemia.parameters import response_criteria
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.predict.marrow import MarrowStructure
from pkpd.subjects import Population, sample_population
from pkpd.trials import Trial


def fitted_trial(scenario: Scenario, variant: Variant, trial: Trial, fitted: Fitted) -> Ready:
    """Make a trial ready.

    Parameters
    ----------
    scenario, variant, trial
        What is compared.
    fitted
        Result of `pkpd.fit`.

    Raises
    ------
    PkpdError
        If the fit lacks a drug, a route or a line that the trial needs, or the variant changes what
        a fit does not have.
    """
    _check_variant(variant, trial)
    name, population = patients_of(variant, trial)
    trial = as_compared(variant, trial, name, population)
    rules, hashes = rules_of(variant, trial)
    hashes |= trial_hash(trial)
    hashes[f"populations/{population.name}"] = card_hash(find_card("populations", name))
    hashes[f"rules/{Path(trial.grades).stem}"] = card_hash(find_card("rules", trial.grades))
    transfusion = TransfusionPolicy() if variant.options.get("transfusion", True) else None
    arm = _arm(trial, population, fitted)
    if arm is not None:
        card = response_criteria(arm.disease)[0]
        hashes[f"rules/{Path(card).stem}"] = card_hash(find_card("rules", card))
    size = scenario.patients, scenario.seed
    sample = sample_population(population, *size)
    ensemble = fitted_ensemble(fitted, sample, scenario.draws, scenario.seed, transfusion, arm)
    for rule in (one for of_cohort in rules for one in of_cohort):
        check_rule_lines(rule, ensemble)
    if not reported(ensemble.lines):
        _refuse(
            trial,
            f"the {ensemble.words} has neither {' nor '.join(THRESHOLDS)}",
            "fit a model with one of them, or use pkpd.simulate",
        )
    if trial.growth_factor.below > 0.0 and arm is None:
        _refuse(trial, "growth factor is given by need", "leave [growth_factor] out")
    for cohort in trial.cohorts:
        ensemble.treated(cohort.regimen, trial.horizon_days)  # refuses before anything is simulated
    words = f"{ensemble.words}, {ensemble.values.words}"
    with_leukaemia = ensemble.marrow == LEUKAEMIA

    def named(row: EndpointRow) -> EndpointRow:
        values = {f.name: getattr(row, f.name) for f in fields(row)}
        return PosteriorRow(**values, marrow=ensemble.marrow, posterior=ensemble.words)

    return Ready(
        trial=named_after(variant, trial),
        ensemble=ensemble,
        rules=rules,
        simulated=_simulated(trial, population, ensemble),
        hashes=hashes,
        assumptions=tuple(
            dict.fromkeys(
                (
                    *trial.assumptions,
                    *fit_assumptions(
                        rules[0][0],
                        words,
                        with_leukaemia,
                        transfusion is not None,
                        _lacking(ensemble),
                    ),
                    *ensemble.values.notes,
                    *ensemble.taken_for(trial.drugs),
                )
            )
        ),
        assumed=lambda _: "",
        reader=(lambda look: look) if arm is None else (lambda look: LeukaemiaLook(look, arm)),
        predicted=PREDICTED if with_leukaemia else OF_LINES,
        named=named,
        attrs={"marrow": ensemble.marrow, "posterior": words, "differences": NOT_TESTED},
        moved={
            name: replace(ensemble, sample=sample_population(one, *size))
            for name, one in moved_of(trial, population).items()
        },
    )


def _arm(trial: Trial, population: Population, fitted: Fitted) -> Arm | None:
    """Disease of the patients, where the marrow that was fitted has leukaemia."""
    structure = fitted.likelihood.model.structure
    if not isinstance(structure, MarrowStructure) or structure.whole is None:
        return None
    schedule = ArmSchedule(None, trial.horizon_days, trial.growth_factor)
    return Arm(trial.id, schedule, disease_of(trial, population), population)


def _simulated(trial: Trial, population: Population, ensemble: FittedEnsemble) -> str:
    kind = "with" if ensemble.marrow == LEUKAEMIA else "without"
    parts = [
        f"patients of card population {Path(population.name).name}",
        f"marrow {kind} leukaemia of the {ensemble.words}",
        f"{ages_and_kidneys(population)} of the population, counts at start of the fit",
    ]
    parts += [f"without {line}, which the fit does not have" for line in _lacking(ensemble)]
    bare = [drug for drug in trial.drugs if not has_card(trial, drug)]
    parts += [f"{drug} as it was fitted, without a card" for drug in bare]
    parts += ensemble.taken_for(trial.drugs)
    parts += ensemble.unused(dict(trial.drug_cards))
    return "; ".join((*parts, *kidneys_in_words(trial, population)))


def _lacking(ensemble: FittedEnsemble) -> tuple[str, ...]:
    """Name the lines whose recovery is usually reported and that the fit does not have."""
    return tuple(line for line in THRESHOLDS if line not in ensemble.lines)


def _check_variant(variant: Variant, trial: Trial) -> None:
    for key, card in variant.cards.items():
        _refuse(trial, f"a card for {key} is named ({Path(card).name})", "leave it out")
    for key in variant.options:
        if key not in RUN_OPTIONS or key == "combination":
            _refuse(trial, f"the option {key} is set", "leave it out, and fit another model")


def _refuse(trial: Trial, what: str, remedy: str) -> NoReturn:
    raise CardError(
        where=f"trial {trial.id} in the marrow of a fit",
        what=f"{what}; a fit has the model that was fitted",
        remedy=remedy,
    )


def check_fit(fitted: object) -> Fitted:
    """Return what is a fit.

    Raises
    ------
    PkpdError
        If it is none.
    """
    if not hasattr(fitted, "likelihood"):
        raise PkpdError(
            where="posterior",
            what=f"{type(fitted).__name__} is no posterior",
            allowed="a posterior of the marrow with leukaemia or its file, the result of pkpd.fit",
            remedy="fit the model first; pkpd.simulate takes one with given values",
        )
    return fitted  # pyright: ignore[reportReturnType]
