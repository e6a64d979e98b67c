"""One trial under one variant of a scenario, checked and with its patients: what a run needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pkpd.arrays import Floats
from pkpd.cards import card_hash, load_rule
from pkpd.cards.files import find_card
from pkpd.cards.population_cards import load_population
from pkpd.cards.rule_cards import changed_rule
from pkpd.cards.trial_cards import patients_of_cohort, population_of
from pkpd.comparison.assumptions import check_rule
from pkpd.comparison.lanes import CohortLook, LaneEndpoints, grid_days
from pkpd.comparison.pairs import beside_trial
from pkpd.comparison.results import EndpointRow, Question
from pkpd.comparison.rows import PREDICTED
from pkpd.comparison.scenario import Variant
from pkpd.comparison.shares import CohortShares
from pkpd.course.course import Course
from pkpd.endpoints.clock import clock_of
from pkpd.ensemble.ensemble import Ensemble, Treated
from pkpd.errors import PkpdError
from pkpd.schedule import plan
from pkpd.subjects import Population, with_medians
from pkpd.trials import Arm, Cohort, DLTRule, PublishedOutcome, Trial

Read = Callable[[Course], LaneEndpoints]
RestsOn = Callable[[Mapping[str, Floats], Mapping[str, Floats]], Question | None]


@dataclass(frozen=True)
class Ready:
    """One trial under one variant.

    Attributes
    ----------
    trial
        With the variant's name in its own.
    ensemble, moved
        Its patients; the same as cohorts with medians of their own have them, by cohort.
    rules
        Of each cohort: its rule, once for each clock.
    simulated
        Who is simulated, in words.
    hashes
        Cards in use -> SHA-256.
    assumptions
        Sentences for reports.
    assumed
        Inputs without a source that a cohort rests on, in words.
    reader
        From the endpoints that every marrow has to all that this one has.
    predicted
        Published endpoint -> endpoint and line of the prediction it stands beside.
    named
        Says in a row which marrow it is of.
    limits
        What of the trial the model cannot do, or only guesses.
    attrs
        What a data set says of the marrow.
    questions
        Answers the trial's own questions, from the shares of its cohorts.
    prior
        The trial under draws of the prior, to be run beside.
    rests_on
        Tells what its risks rest on, from its cohorts' verdicts and those under the prior.
    """

    trial: Trial
    ensemble: Ensemble
    rules: tuple[tuple[DLTRule, ...], ...]
    simulated: str
    hashes: Mapping[str, str]
    assumptions: tuple[str, ...]
    assumed: Callable[[Cohort], str]
    reader: Callable[[CohortLook], Read] = lambda look: look
    predicted: Mapping[str, tuple[str, str]] = field(default_factory=lambda: PREDICTED)
    named: Callable[[EndpointRow], EndpointRow] = lambda row: row
    limits: tuple[str, ...] = ()
    attrs: Mapping[str, str] = field(default_factory=dict)
    questions: Callable[[Mapping[str, CohortShares]], tuple[Question, ...]] | None = None
    prior: Ready | None = None
    rests_on: RestsOn | None = None
    moved: Mapping[str, Ensemble] = field(default_factory=dict)

    def ensemble_of(self, cohort: Cohort) -> Ensemble:
        """Patients of a cohort."""
        return self.moved.get(cohort.id, self.ensemble)

    def treated(self, cohort: Cohort) -> Treated:
        """Patients of a cohort under its schedule."""
        return self.ensemble_of(cohort).treated(cohort.regimen, self.trial.horizon_days)

    @property
    def by_days(self) -> tuple[float, ...]:
        """Days of the table of other rules, and those that questions ask about."""
        asked = (dict(one.settings).get("by_day") for one in self.trial.questions)
        return grid_days((rules[0] for rules in self.rules), filter(None, asked))

    @property
    def work(self) -> float:
        """How much there is to do."""
        return float(self.trial.horizon_days)


def rules_of(
    variant: Variant, trial: Trial
) -> tuple[tuple[tuple[DLTRule, ...], ...], dict[str, str]]:
    """Rules of the cohorts under a variant, and the cards they are read from.

    Raises
    ------
    CardError
        If counts cannot decide a rule, or it looks at a day after the trial's horizon.
    PkpdError
        If a cohort's course has no dose that the rule's clock counts.
    """
    rules, hashes = [], {}
    for cohort in trial.cohorts:
        card = variant.rule or beside_trial(cohort.rule or "", trial)
        rule = load_rule(card)
        hashes[f"rules/{rule.name}"] = card_hash(find_card("rules", card))
        if not variant.rule:
            rule = changed_rule(rule, trial.rule_change)
        rules.append(tuple(replace(rule, clock=clock) for clock in cohort.clocks))
        check_rule([replace(trial, arms=(Arm("", (cohort,)),))], rule)
        planned = plan(cohort.regimen, trial.horizon_days)
        try:
            for clock in cohort.clocks:
                clock_of(planned, clock)
        except PkpdError as error:
            msg = f"trial {trial.id}, cohort {cohort.id}, {error}"
            raise PkpdError(msg) from error
    return tuple(rules), hashes


def patients_of(variant: Variant, trial: Trial) -> tuple[str, Population]:
    """Card of the patients of a trial under a variant, and the population as the trial moves it.

    Raises
    ------
    CardError
        If there is no such card.
    """
    if variant.population:
        found = load_population(variant.population)
        return variant.population, with_medians(found, dict(trial.medians))
    return beside_trial(trial.population, trial), population_of(trial)


def as_compared(variant: Variant, trial: Trial, name: str, population: Population) -> Trial:
    """Trial as a variant compares it: its patients and its rule in the place of the file's.

    What the trial published of its own rule is of another event then, and stands beside nothing.

    Parameters
    ----------
    variant, trial
        What is compared.
    name, population
        As `patients_of` gives them.
    """
    if variant.population:
        # as the trial's file would name it
        beside = os.path.relpath(name, Path(trial.path).parent) if name.endswith(".toml") else name
        trial = replace(trial, population=beside, disease=population.disease)
    if not variant.rule:
        return trial
    rule = os.path.abspath(variant.rule) if variant.rule.endswith(".toml") else variant.rule
    arms = [
        replace(arm, cohorts=tuple(
            replace(one, rule=rule, published=_of_another_rule(one.published))
            for one in arm.cohorts
        ))
        for arm in trial.arms
    ]  # fmt: skip
    return replace(
        trial, arms=tuple(arms), rule=rule, rule_change=(), rule_is_protocols=False, rule_note="",
        published=_of_another_rule(trial.published),
    )  # fmt: skip


def _of_another_rule(published: Sequence[PublishedOutcome]) -> tuple[PublishedOutcome, ...]:
    """Name the outcomes of a protocol's rule for what they are."""
    return tuple(
        replace(one, endpoint=f"{one.endpoint} by the protocol's rule")
        if PREDICTED.get(one.endpoint) == ("dlt", "") else one
        for one in published
    )  # fmt: skip


def moved_of(trial: Trial, population: Population) -> dict[str, Population]:
    """Patients of the cohorts that have medians of their own, by cohort."""
    return {c.id: patients_of_cohort(c, population) for c in trial.cohorts if c.medians}


def named_after(variant: Variant, trial: Trial) -> Trial:
    """Trial with the variant's name in its own."""
    if not variant.name:
        return trial
    return replace(trial, id=f"{trial.id}-{variant.name}", name=f"{trial.name}, {variant.name}")


def trial_hash(trial: Trial) -> dict[str, str]:
    """Hash of the trial's file; of none for a trial that was not read from a file."""
    if not Path(trial.path).is_file():
        return {}
    return {f"trials/{Path(trial.path).stem}": card_hash(trial.path)}
