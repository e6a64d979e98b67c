"""One way to patients: from cards, from the learned posterior, or patients of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pkpd.arguments import MAPPING, NONE, TEXT, a, check_arguments, from_to
from pkpd.cards import card_names
from pkpd.cards.drug_actions import FRIBERG, LEUKAEMIA, MARROWS, own_in_words
from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.files import nearest_of
from pkpd.cards.population_cards import beyond_ages, load_population
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted import FittedEnsemble, fitted_ensemble
from pkpd.ensemble.fitted_patients import FittedDraws
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.errors import PkpdError, PkpdWarning, sentence
from pkpd.evidence.criticism.trial_predictions import NewStudy, new_study
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.posterior.shipped import HOW_TO_GET_ONE, check_names, shipped_posterior
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.fitting.draws import Fitted
from pkpd.fitting.model.specification import PopulationModel
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.variants import VARIANTS
from pkpd.model.joint import JointModel, load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.schedule import NEVER, GrowthFactorPolicy, Regimen
from pkpd.subjects import PatientSample, Population, patients_key, sample_population


def source(
    population: str | Population | PatientSample,
    *,
    marrow: str | None = None,
    disease: str | None = None,
    posterior: EvidencePosterior | Fitted | PopulationModel | str | Path | None = None,
    structure: str | None = None,
    model: JointModel | None = None,
    patients: int = 200,
    draws: int = 1,
    seed: int = 1,
    options: Mapping[str, Any] | None = None,
    cards: Mapping[str, str] | None = None,
    transfusion: TransfusionPolicy | None = TransfusionPolicy(),  # noqa: B008 (frozen)
    growth_factor: GrowthFactorPolicy = NEVER,
    curves: tuple[str, ...] = (),
) -> Ensemble:
    """Patients whose counts can be simulated under any regimen.

    Parameters
    ----------
    population
        Name of a population card, a `Population`, or patients of your own
        (`pkpd.subjects.patients`).
    marrow
        ``"leukaemia"``, learned from published outcomes, or ``"friberg"``, without leukaemia. If
        not given, the learned one where the population has a disease, no joint model is named, and
        a posterior that converged is shipped.
    disease
        Disease of patients of your own, or in place of the population's.
    posterior
        Posterior of the marrow with leukaemia or its file, in place of the shipped one; or the
        result of `pkpd.fit` of a model with blood counts: patients are then new ones of the
        population that was fitted, in the marrow that was fitted, with the covariates of
        ``population``; or such a model with its values, a published one, say. Amounts of its data
        are mg, times hours, counts 10^9/L.
    structure
        Variant of the marrow with leukaemia (`pkpd.marrow.variants.VARIANTS`) that answers from the
        numbers of its cards, before it learned from any trial: draws are of its prior. In place of
        ``posterior``. ``"ten_stages"`` recovers as patients did who were counted every day.
    model
        Joint model of the marrow without leukaemia, with the drugs that will be given.
    patients
        Number of patients; ignored when ``population`` is a sample.
    draws
        Draws of what is not known; 1 takes central values.
    seed
        Seed of all random numbers.
    options, cards
        Options of kinetics and cards in place of the usual ones, in the marrow with leukaemia; in
        the other they are those of ``model``. Keys of cards are ``"<drug>.pk"`` and
        ``"<drug>.effect"``; a drug card of your own is named in the regimen,
        ``pkpd.daily("mine.toml", ...)``.
    transfusion
        Platelet transfusion policy; ``None`` for none. The marrow with leukaemia takes its trigger.
    growth_factor
        Growth factor by need. The marrow without leukaemia needs neutrophils with G-CSF for it,
        such as those of ``load_model(replace={"neutrophils": "quartino2014_docetaxel"})``.
    curves
        Lines that the marrow with leukaemia follows between mornings too.

    Raises
    ------
    PkpdError
        If an input cannot be used, or does not go with the marrow.

    Examples
    --------
    >>> source("rr_aml", patients=10, draws=2).marrow
    'leukaemia'
    >>> source("rr_aml", marrow="friberg", patients=10).draws
    1
    """
    check_arguments(
        "source",
        population=(population, TEXT | a(Population, PatientSample)),
        seed=(seed, from_to(0)),
        disease=(disease, TEXT | NONE),
        structure=(structure, TEXT | NONE),
        model=(model, a(JointModel) | NONE),
        options=(options, MAPPING | NONE),
        cards=(cards, MAPPING | NONE),
        transfusion=(transfusion, a(TransfusionPolicy) | NONE),
        growth_factor=(growth_factor, a(GrowthFactorPolicy)),
    )
    if isinstance(population, str):
        population = load_population(population)
    for name, value in (("draws", draws), ("patients", patients)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 1:
            allowed = "a whole number, 1 or more"
            raise PkpdError(where=name, what=f"{value!r}", allowed=allowed)
    if marrow is not None and marrow not in MARROWS:
        raise PkpdError(where="marrow", what=f"{marrow!r}", allowed=", ".join(MARROWS))
    if structure is not None:
        _check_structure(structure, posterior, marrow)
        marrow = LEUKAEMIA
    if isinstance(posterior, (str, Path)):
        posterior = load_posterior(posterior)
    own = population.disease if isinstance(population, Population) else ""
    asked, disease = disease, disease or own or None
    if not (posterior is None or isinstance(posterior, EvidencePosterior)):
        given = {"marrow": marrow, "disease": asked, "model": model}
        given |= {"options": options, "cards": cards}
        given["growth_factor"] = growth_factor.below > 0.0
        return _of_fit(posterior, population, given, patients, draws, seed, transfusion)
    because = ""
    if marrow is None:
        because = _why_without(disease, posterior, model)
        marrow = FRIBERG if because else LEUKAEMIA
    if marrow == FRIBERG:
        chosen = model is not None or not because  # the disease did not lead here
        others = {"posterior": posterior, "disease": chosen and asked}
        others |= {"options": options, "cards": cards}
        for name, given in others.items():
            if given:
                raise PkpdError(
                    where=f"marrow {FRIBERG}",
                    what=f"{name} is given, which this marrow does not use",
                    remedy=f'leave it out, or name marrow="{LEUKAEMIA}"',
                )
        made = _of_cards(population, model, patients, draws, seed, transfusion)
        return replace(made, growth_factor=growth_factor, because=because)
    if model is not None:
        raise PkpdError(
            where=f"marrow {LEUKAEMIA}",
            what="a joint model is given, which this marrow does not use",
            remedy=f'leave it out, or name marrow="{FRIBERG}"',
        )
    if disease is None:
        raise PkpdError(
            where=f"marrow {LEUKAEMIA}",
            what="the patients have no disease",
            allowed=", ".join(leukaemia_cards().populations),
            remedy=f'give disease=..., or name marrow="{FRIBERG}"',
        )
    leukaemia_cards().chain(disease)
    for key in cards or {}:
        if not str(key).endswith((".pk", ".effect")):
            raise PkpdError(
                where=f"cards, {key!r}",
                what="it is neither the kinetics nor the effect of a drug",
                allowed='"<drug>.pk" and "<drug>.effect"',
                remedy='name a drug card of your own in the regimen: pkpd.daily("mine.toml", ...)',
            )
    arm = Arm(
        name="simulated",
        schedule=ArmSchedule(
            None,
            growth_factor=growth_factor,
            transfuse_below=0.0 if transfusion is None else transfusion.trigger,
            options=tuple((options or {}).items()),
            cards=tuple((cards or {}).items()),
        ),
        disease=disease,
        population=population,
    )
    if told := beyond_ages(population, disease):
        warnings.warn(sentence(where="ages", what=told), PkpdWarning, stacklevel=2)
    number = population.n if isinstance(population, PatientSample) else patients
    if structure is not None:
        study = _study_before(structure, population, number, draws, seed)
        knowledge = f"structure {structure} with the numbers of its cards, nothing learned"
        return LearnedEnsemble(study, arm, curves, knowledge=knowledge)
    found = posterior or shipped_posterior()
    if found is None:
        raise PkpdError(
            where=f"marrow {LEUKAEMIA}", what="no posterior is shipped", remedy=HOW_TO_GET_ONE
        )
    check_names(found, "posterior")
    return LearnedEnsemble(_study(found, population, number, draws, seed), arm, curves)


def check_none_beside(where: str, **given: tuple[object, object]) -> None:
    """Refuse what makes patients beside patients who are made: it would be left out silently.

    Parameters
    ----------
    where
        The function, as a user calls it.
    **given
        Argument -> its value, and the value that it has where nobody gives one.

    Raises
    ------
    PkpdError
        Naming every argument that has another value.
    """
    beside = [name for name, (value, usual) in given.items() if value != usual]
    if beside:
        raise PkpdError(
            where=f"{where}, {', '.join(beside)}",
            what=f"{'it is' if len(beside) == 1 else 'they are'} given beside an ensemble, which "
            "has patients, draws and a seed of its own",
            remedy=f"give {'it' if len(beside) == 1 else 'them'} to pkpd.source",
        )


def _of_fit(
    fitted: Fitted | PopulationModel,
    population: Population | PatientSample,
    given: Mapping[str, object],
    patients: int,
    draws: int,
    seed: int,
    transfusion: TransfusionPolicy | None,
) -> FittedEnsemble:
    for name, value in given.items():
        if value:
            raise PkpdError(
                where="fit as a source",
                what=f"{name} is given, and the fit has its own",
                remedy="leave it out",
            )
    sample = population
    if isinstance(population, Population):
        sample = sample_population(population, patients, seed)
    assert isinstance(sample, PatientSample)
    return fitted_ensemble(fitted, sample, draws, seed, transfusion)


def _why_without(disease: str | None, posterior: object, model: JointModel | None) -> str:
    """Why patients of whom no marrow is named have the one without leukaemia; empty if not."""
    if posterior is not None:
        return ""
    if model is not None:
        return "a joint model is given"
    if disease is None:
        return "the patients have no disease (disease=... names one)"
    shipped = shipped_posterior()
    return "" if shipped is not None and shipped.converged else "no converged posterior is shipped"


def _of_cards(
    population: Population | PatientSample,
    model: JointModel | None,
    patients: int,
    draws: int,
    seed: int,
    transfusion: TransfusionPolicy | None,
) -> CardsEnsemble:
    sample, known, own_seed = population, None, seed if model is None else None
    if isinstance(population, Population):
        sample, known = sample_population(population, patients, seed), population
    assert isinstance(sample, PatientSample)
    model = model or load_model(drugs=_with_kinetics())
    values = typical(model, known) if draws == 1 else draw_parameters(model, known, draws, seed)
    return CardsEnsemble(model, sample, values, known, transfusion, max_step_h=6.0, seed=own_seed)


def in_words(ensemble: Ensemble | FittedDraws, regimen: Regimen) -> str:
    """Which model answers under a regimen: words of the source, and of the user's own cards."""
    words = ensemble.words
    if isinstance(ensemble, FittedDraws):
        return "; ".join((words, *ensemble.unused(regimen.cards)))
    own = map(load_drug_card, regimen.cards.values())
    return "; ".join((words, *own_in_words(own, ensemble.marrow)))


def notes_of(ensemble: Ensemble | FittedDraws) -> dict[str, list[str]]:
    """Sentences on the draws of a fit under the name ``notes``; empty where there are none."""
    notes = ensemble.values.notes if isinstance(ensemble, FittedDraws) else ()
    return {"notes": list(notes)} if notes else {}


def _with_kinetics() -> list[str]:
    """Shipped drugs that the marrow without leukaemia knows."""
    return [name for name in card_names("drugs") if load_drug_card(name).pk]


def _check_structure(structure: str, posterior: object, marrow: str | None) -> None:
    where = "structure"
    if structure not in VARIANTS:
        what = f"{structure!r}{nearest_of(structure, VARIANTS)}"
        raise PkpdError(where=where, what=what, allowed=", ".join(VARIANTS))
    if posterior is not None:
        remedy = "leave one of them out: a structure answers before anything was learned"
        raise PkpdError(where=where, what="a posterior is given, too", remedy=remedy)
    if marrow == FRIBERG:
        what, remedy = f"marrow {FRIBERG} has none of these", f'name marrow="{LEUKAEMIA}"'
        raise PkpdError(where=where, what=what, remedy=remedy)


def _study_before(
    structure: str,
    population: Population | PatientSample,
    patients: int,
    draws: int,
    seed: int,
) -> NewStudy:
    """Draws of the prior of a structure; its cards' values for one."""
    variant, key = VARIANTS[structure], patients_key(population)
    if draws == 1:
        theta = dict(leukaemia_cards(structure).theta)
        return NewStudy(key, (theta,), ({},), patients, seed, variant)
    prior = marrow_prior(variant=structure)
    thetas = [prior.theta(z) for z in prior.draw(draws, np.random.default_rng(seed))]
    return new_study(key, thetas, patients=patients, seed=seed, variant=variant)


def _study(
    posterior: EvidencePosterior,
    population: Population | PatientSample,
    patients: int,
    draws: int,
    seed: int,
) -> NewStudy:
    variant = posterior.variant
    key = patients_key(population)
    if draws > 1:
        thetas = posterior.draws(draws, seed)
        return new_study(key, thetas, patients=patients, seed=seed, variant=variant)
    middle = np.median(posterior.flat()[posterior.chosen(posterior.weights.size)], axis=0)
    central = dict(zip(posterior.names, map(float, middle), strict=True))
    theta = {**leukaemia_cards(posterior.structure).theta, **posterior.fixed, **central}
    return NewStudy(key, (theta,), ({},), patients, seed, variant)
