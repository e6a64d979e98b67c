"""Run a scenario in a marrow with leukaemia: every posterior draw meets the same patients."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.cards import card_hash, load_grades, load_rule
from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.cards.files import find_card
from pkpd.cards.population_cards import load_population
from pkpd.cards.trial_cards import disease_of, drug_card_of
from pkpd.comparison import rows as table
from pkpd.comparison.assumptions import check_rule
from pkpd.comparison.curves import CohortCurves, dataset, thinned
from pkpd.comparison.lanes import CohortLook
from pkpd.comparison.leukaemia_lanes import PREDICTED, LeukaemiaLook
from pkpd.comparison.leukaemia_limits import assumed_texts, trial_limits
from pkpd.comparison.marrow_choice import Choice
from pkpd.comparison.marrow_words import leukaemia_assumptions
from pkpd.comparison.pairs import beside_trial, pair_rows
from pkpd.comparison.questions import answers
from pkpd.comparison.results import (
    ComparisonResult,
    EndpointRow,
    PosteriorRow,
    Question,
    TrialResult,
)
from pkpd.comparison.scenario import Scenario, Variant
from pkpd.comparison.shares import CohortShares, cohort_shares
from pkpd.comparison.simulated import simulated_text
from pkpd.endpoints.clock import treatment_runs
from pkpd.endpoints.split import STATES
from pkpd.evidence.criticism.trial_predictions import NewStudy, new_study
from pkpd.evidence.posterior.learned import learned
from pkpd.evidence.posterior.shipped import label_of
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.leukaemia.outcomes import ArmOutcomes, usual_criteria
from pkpd.leukaemia.parameters import CARDS
from pkpd.leukaemia.schedule import Arm
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.marrow.variants import VARIANTS
from pkpd.schedule import plan
from pkpd.subjects import patients_key
from pkpd.trials import Arm as TrialArm
from pkpd.trials import Cohort, DLTRule, Trial

Floats = NDArray[np.float64]
OnCohort = Callable[[Trial, str, tuple[EndpointRow, ...]], None]
OnTrial = Callable[[TrialResult], None]
OnProgress = Callable[[float, float, str], None]
OnStart = Callable[[Mapping[str, str]], None]


def compare_leukaemia(
    scenario: Scenario,
    choice: Choice,
    *,
    on_cohort: OnCohort | None = None,
    on_trial: OnTrial | None = None,
    on_progress: OnProgress | None = None,
    on_start: OnStart | None = None,
    jobs: int | None = None,
    with_questions: bool = True,
) -> ComparisonResult:
    """Compare schedules in a marrow with leukaemia, under draws of its posterior.

    Parameters
    ----------
    scenario
        Checked by `pkpd.comparison.marrow_choice`.
    choice
        The marrow, with its posterior.
    on_cohort, on_trial, on_progress, on_start, jobs
        As `pkpd.comparison.run.compare`.
    with_questions
        Whether the trials' own questions are answered, which takes some cohorts more.
    """
    posterior = choice.posterior
    assert posterior is not None
    label = label_of(posterior)
    draws = posterior.draws(scenario.draws, scenario.seed)
    ready = [_make_ready(v, t) for v in scenario.variants for t in scenario.trials]
    simulated = {item.trial.id: item.simulated for item in ready}
    if on_start is not None:
        on_start(simulated)
    total = float(sum(item.work for item in ready))
    done = 0.0
    results, hashes = [], {}
    for item in ready:

        def tell(share: float, text: str, item: _Ready = item, done: float = done) -> None:
            if on_progress is not None:
                on_progress(done + share * item.trial.horizon_days, total, text)

        study = new_study(
            item.patients,
            draws,
            patients=scenario.patients,
            seed=scenario.seed,
            variant=VARIANTS[str(posterior.record.get("variant", "full"))],
            threads=jobs,
        )
        run = _TrialRun(item, study, posterior, scenario, label.text)
        result = run.result(on_cohort, tell, with_questions)
        done += item.work
        hashes |= item.hashes
        results.append(result)
        if on_trial is not None:
            on_trial(result)
    variants = {v.name or "usual": v for v in scenario.variants}
    record = {
        "scenario": scenario.name,
        "question": scenario.question,
        "different_answer": scenario.different_answer,
        "seed": scenario.seed,
        "marrow": {
            "model": LEUKAEMIA,
            "chosen": choice.reason,
            "posterior": label.text,
            **{k: v for k, v in asdict(label).items() if k not in ("digits", "problems")},
            "sha256": label.digits,
            "problems": list(label.problems),
        },
        "settings": {
            "patients": scenario.patients,
            "draws": scenario.draws,
            "rules": {
                name: Path(v.rule).name if v.rule else "each trial's own"
                for name, v in variants.items()
            },
            "steps_per_day": NewStudy.__dataclass_fields__["steps_per_day"].default,
        },
        "simulated": simulated,
        "cards": dict(sorted((hashes | _leukaemia_hashes()).items())),
    }
    return ComparisonResult(tuple(results), record, learned(posterior))


def _leukaemia_hashes() -> dict[str, str]:
    return {f"leukaemia/{name}": card_hash(find_card("leukaemia", name)) for name in CARDS}


@dataclass(frozen=True)
class _Ready:
    """One trial under one variant, checked."""

    trial: Trial
    unnamed_id: str
    arms: dict[str, Arm]
    rules: tuple[tuple[DLTRule, ...], ...]
    hashes: dict[str, str]
    simulated: str
    patients: str

    @property
    def work(self) -> float:
        return float(self.trial.horizon_days * len(self.trial.cohorts))


def _make_ready(variant: Variant, trial: Trial) -> _Ready:
    name = variant.population or beside_trial(trial.population, trial)
    if variant.population:
        # as the trial's file would name it
        own = name.endswith(".toml")
        beside = os.path.relpath(name, Path(trial.path).parent) if own else name
        trial = replace(trial, population=beside, disease=load_population(name).disease)
    arms = arms_of_trial(trial)
    unnamed = trial.id
    population = load_population(name)
    hashes = {
        f"trials/{Path(trial.path).stem}": card_hash(trial.path),
        f"populations/{population.name}": card_hash(find_card("populations", name)),
        **{f"drugs/{drug}": drug_card_of(trial, drug).sha256 for drug in trial.drugs},
    }
    response = usual_criteria(disease_of(trial))
    for card in (trial.grades, response):
        hashes[f"rules/{Path(card).stem}"] = card_hash(find_card("rules", card))
    rules = []
    for cohort in trial.cohorts:
        card = variant.rule or beside_trial(cohort.rule or "", trial)
        rule = load_rule(card)
        rules.append(tuple(replace(rule, clock=clock) for clock in cohort.clocks))
        hashes[f"rules/{rule.name}"] = card_hash(find_card("rules", card))
        check_rule([replace(trial, arms=(TrialArm("", (cohort,)),))], rule)
    if variant.name:
        trial = replace(
            trial, id=f"{trial.id}-{variant.name}", name=f"{trial.name}, {variant.name}"
        )
    simulated = simulated_text(trial, population, LEUKAEMIA)
    return _Ready(trial, unnamed, arms, tuple(rules), hashes, simulated, patients_key(population))


@dataclass(frozen=True)
class _TrialRun:
    """A trial with its patients and draws."""

    item: _Ready
    study: NewStudy
    posterior: EvidencePosterior
    scenario: Scenario
    posterior_text: str

    def result(
        self,
        on_cohort: OnCohort | None,
        tell: Callable[[float, str], None],
        with_questions: bool,
    ) -> TrialResult:
        trial, item = self.item.trial, self.item
        rows: list[EndpointRow] = []
        curves: list[CohortCurves] = []
        dlt: dict[str, Floats] = {}
        running: list[str] = []
        shares: dict[str, CohortShares] = {}
        for index, (cohort, rules) in enumerate(zip(trial.cohorts, item.rules, strict=True)):

            def progress(share: float, index: int = index, cohort: Cohort = cohort) -> None:
                tell(index + share, f"{trial.name}: {cohort.id}")

            lanes = self._lanes(cohort, rules, progress)
            assumed = "; ".join(assumed_texts(trial, cohort.regimen.drugs, self.posterior))
            plain = table.cohort_rows(trial, cohort, rules, lanes, assumed, PREDICTED)
            of_cohort = tuple(self._named(row) for row in plain)
            rows += of_cohort
            curves.append(lanes.curves)
            if rules[0].clock in lanes.dlt:
                dlt[cohort.id] = lanes.dlt[rules[0].clock]
            if lanes.running:
                running.append(cohort.id)
            shares[cohort.id] = cohort_shares(lanes)
            if on_cohort is not None:
                on_cohort(trial, cohort.id, of_cohort)
        questions: tuple[Question, ...] = ()
        if with_questions:
            tell(float(len(trial.cohorts)), f"{trial.name}: questions of the trial")
            questions = answers(trial, item.arms, shares, self.study)
        attrs = {
            "patients": self.scenario.patients,
            "draws": self.scenario.draws,
            "marrow": LEUKAEMIA,
            "posterior": self.posterior_text,
            **table.rule_attributes(item.rules[0][0], running),
        }
        return TrialResult(
            trial=trial,
            rows=tuple(rows),
            pairs=tuple(pair_rows(trial, self.scenario.pairs, item.rules[0][0], dlt, running)),
            curves=dataset(trial, curves, attrs),
            assumptions=self._assumptions(),
            questions=questions,
            limits=trial_limits(trial, self.posterior),
        )

    def _assumptions(self) -> tuple[str, ...]:
        trial = self.item.trial
        head = f"marrow with leukaemia, {self.posterior_text}"
        if not self.posterior.converged:
            head += f" ({self.posterior.problems[0]}): figures may change with a longer run"
        limits = trial_limits(trial, self.posterior)
        words = leukaemia_assumptions(self.item.rules[0][0])
        return tuple(dict.fromkeys([head, *limits, *trial.assumptions, *words]))

    def _named(self, row: EndpointRow) -> PosteriorRow:
        values = {f.name: getattr(row, f.name) for f in fields(row)}
        return PosteriorRow(**values, marrow=LEUKAEMIA, posterior=self.posterior_text)

    def _lanes(
        self, cohort: Cohort, rules: tuple[DLTRule, ...], progress: Callable[[float], None]
    ) -> table.CohortLanes:
        trial, study = self.item.trial, self.study
        made = plan(cohort.regimen, trial.horizon_days)
        look = LeukaemiaLook(CohortLook(made, rules, load_grades(trial.grades), trial.visit_days))
        n_draws = len(study.thetas)
        every = thinned(n_draws * study.patients)
        curves = CohortCurves(cohort.id, made, trial.horizon_days, states=STATES)
        number = iter(range(n_draws))

        def both(outcomes: ArmOutcomes) -> Mapping[Any, Floats]:
            found = look(outcomes)
            split = found.pop(("split",)).T.astype(np.int8)
            curves.add(outcomes.course, every, next(number), split)
            return found

        store = study.collect(
            self.item.arms[cohort.id], both, lambda done: progress(done / n_draws)
        )
        parts: dict[str, dict[Any, Floats]] = {
            name: {} for name in ("values", "recovered", "dlt", "reasons")
        }
        for key, matrix in store.items():
            assert isinstance(key, tuple)
            if key[0] in parts:
                parts[key[0]][key[1] if len(key) == 2 else key[1:]] = matrix
        grid = store["sensitivity",].astype(np.float32)
        dlt = parts["dlt"]
        return table.CohortLanes(
            values=parts["values"],
            recovered_on=parts["recovered"],
            dlt=dlt,
            reasons=parts["reasons"],
            sensitivity=grid,
            curves=curves.with_outcomes(parts["recovered"], dlt.get(rules[0].clock), grid),
            running=treatment_runs(made, rules[0]),
        )
