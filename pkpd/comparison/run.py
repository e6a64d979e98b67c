"""Run a scenario: every cohort of every trial, the same patients and draws under every schedule."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from pkpd.cards import card_hash, load_grades, load_rule
from pkpd.cards.drug_actions import FRIBERG, LEUKAEMIA
from pkpd.cards.files import find_card
from pkpd.cards.population_cards import load_population
from pkpd.comparison import rows as table
from pkpd.comparison.assumptions import RUN_OPTIONS, check_rule, joint_model
from pkpd.comparison.curves import CohortCurves, dataset, thinned
from pkpd.comparison.lanes import BY_DAYS, CohortLook, LaneEndpoints
from pkpd.comparison.leukaemia_run import compare_leukaemia
from pkpd.comparison.marrow_choice import choose_marrow
from pkpd.comparison.marrow_words import marrow_assumptions
from pkpd.comparison.pairs import beside_trial, pair_rows
from pkpd.comparison.results import ComparisonResult, EndpointRow, TrialResult
from pkpd.comparison.scenario import (
    Scenario,
    Variant,
    load_scenario,
    with_overrides,
)
from pkpd.comparison.simulated import simulated_text
from pkpd.course.course import Course
from pkpd.course.march import compiled_course
from pkpd.course.simulate import Simulator, prepare
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.endpoints.clock import treatment_runs
from pkpd.endpoints.definitions import THRESHOLDS
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.machine import cores
from pkpd.model.joint import JointModel, assumed_inputs
from pkpd.model.parameters import draw_parameters
from pkpd.subjects import PatientSample, Population, sample_population
from pkpd.trials import Arm, Cohort, DLTRule, Trial

Floats = NDArray[np.float64]
OnCohort = Callable[[Trial, str, tuple[EndpointRow, ...]], None]
OnTrial = Callable[[TrialResult], None]
OnProgress = Callable[[float, float, str], None]
OnStart = Callable[[Mapping[str, str]], None]

LANES_AT_ONCE = 2000

LONGEST_STEP_H = 8.0
"""Longest step of the marrow. Against steps of 2 h no verdict changes and median recovery days move
by less than 0.0002 days (docs/decisions/0002-day-cells.md)."""


def compare(
    scenario: str | Path | Scenario | None = None,
    *,
    trials: list[str] | None = None,
    patients: int | None = None,
    draws: int | None = None,
    seed: int | None = None,
    rule: str | None = None,
    options: Mapping[str, Any] | None = None,
    cards: Mapping[str, str] | None = None,
    on_cohort: OnCohort | None = None,
    on_trial: OnTrial | None = None,
    on_progress: OnProgress | None = None,
    on_start: OnStart | None = None,
    jobs: int | None = None,
    marrow: str | None = None,
    posterior: EvidencePosterior | str | Path | None = None,
) -> ComparisonResult:
    """Compare schedules by count recovery and delayed-recovery risk.

    Every draw of the uncertain parameters meets every patient (a crossed design), and the same
    patients and draws meet every schedule of a trial, so differences are paired.

    Parameters
    ----------
    scenario
        Scenario or trial file, name of a shipped one, or a `Scenario`; ``None`` for the five
        trials.
    trials
        Only these trials, by card name.
    patients, draws, seed
        Size of the simulation and seed of all random numbers; the scenario's own if omitted.
    rule
        DLT rule in place of each trial's own.
    options
        Model options such as ``{"clofarabine.renal_label": True}``, and ``transfusion``
        (True/False), ``combination`` (``"additive"``, ``"bliss"``).
    cards
        Cards in place of the usual ones, ``{"lenalidomide.pk": "liang2024_lenalidomide"}``.
    on_cohort, on_trial, on_progress
        Called when a cohort and when a trial is complete, and as work proceeds
        (``done, total, text``).
    on_start
        Called before anything is simulated, with what is simulated for each trial
        (`pkpd.comparison.simulated`).
    jobs
        Threads; all cores by default.
    marrow
        ``"friberg"``, a marrow without leukaemia, or ``"leukaemia"``, the one learned from
        published outcomes. If not given, the scenario's own; else the learned one if a posterior is
        shipped that converged and the scenario asks for nothing that only the other marrow has.
    posterior
        Posterior of the marrow with leukaemia, or its file, in place of the shipped one.

    Returns
    -------
    ComparisonResult

    Raises
    ------
    PkpdError
        Bad input, in one sentence, before anything is simulated.
    """
    chosen = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
    chosen = with_overrides(
        chosen,
        trials=trials,
        patients=patients,
        draws=draws,
        seed=seed,
        rule=rule,
        options=options,
        cards=cards,
    )
    choice = choose_marrow(marrow, chosen, posterior)
    if choice.marrow == LEUKAEMIA:
        return compare_leukaemia(
            chosen,
            choice,
            on_cohort=on_cohort,
            on_trial=on_trial,
            on_progress=on_progress,
            on_start=on_start,
            jobs=jobs,
        )
    ready = [_make_ready(chosen, v, t) for v in chosen.variants for t in chosen.trials]
    simulated = {r.trial.id: r.simulated for r in ready}
    if on_start is not None:
        on_start(simulated)
    total = float(sum(len(r.trial.cohorts) * _work(r) for r in ready))
    threads = jobs or cores()
    done = 0.0
    results = []
    hashes: dict[str, str] = {}
    for item in ready:

        def tell(share: float, text: str, item: _Ready = item, done: float = done) -> None:
            if on_progress is not None:
                on_progress(done + share * _work(item), total, text)

        result = _run_trial(item, chosen, threads, on_cohort, tell)
        done += len(item.trial.cohorts) * _work(item)
        hashes |= item.hashes
        results.append(result)
        # the next trial has another structure; programs of this one only hold memory
        compiled_course.cache_clear()
        jax.clear_caches()
        if on_trial is not None:
            on_trial(result)
    record = {
        "scenario": chosen.name,
        "question": chosen.question,
        "different_answer": chosen.different_answer,
        "seed": chosen.seed,
        "settings": {
            "patients": chosen.patients,
            "draws": chosen.draws,
            "options": {v.name or "usual": dict(v.options) for v in chosen.variants},
            "cards": {
                v.name or "usual": {key: Path(card).name for key, card in v.cards.items()}
                for v in chosen.variants
            },
            "rules": _named(chosen, "rule"),
            "populations": _named(chosen, "population"),
            "longest_step_h": LONGEST_STEP_H,
            "sustained_days": 7.0,
        },
        "simulated": simulated,
        "cards": dict(sorted(hashes.items())),
        **({"marrow": {"model": choice.marrow, "chosen": choice.reason}} if choice.told else {}),
    }
    return ComparisonResult(trials=tuple(results), record=record)


def _named(scenario: Scenario, what: str) -> dict[str, str]:
    """Rule or population of each variant, without folders of this machine."""
    given = {v.name or "usual": getattr(v, what) for v in scenario.variants}
    return {name: Path(card).name if card else "each trial's own" for name, card in given.items()}


@dataclass(frozen=True)
class _Ready:
    """One trial under one variant, checked and with its patients and draws."""

    trial: Trial
    model: JointModel
    population: Population
    sample: PatientSample
    draws: dict[str, Floats]
    rules: tuple[tuple[DLTRule, ...], ...]
    transfusion: TransfusionPolicy | None
    combination: str
    hashes: dict[str, str]
    simulated: str


def _work(item: _Ready) -> float:
    return float(item.trial.horizon_days)


def _make_ready(scenario: Scenario, variant: Variant, trial: Trial) -> _Ready:
    run_options = {key: variant.options.get(key, v[0]) for key, v in RUN_OPTIONS.items()}
    name = variant.population or beside_trial(trial.population, trial)
    population = load_population(name)
    model = joint_model(trial, variant.options, variant.cards)
    if variant.name:
        trial = replace(
            trial, id=f"{trial.id}-{variant.name}", name=f"{trial.name}, {variant.name}"
        )
    rules = []
    hashes = model.hashes() | {
        f"trials/{Path(trial.path).stem}": card_hash(trial.path),
        f"populations/{population.name}": card_hash(find_card("populations", name)),
        f"rules/{Path(trial.grades).stem}": card_hash(find_card("rules", trial.grades)),
    }
    for cohort in trial.cohorts:
        card = variant.rule or beside_trial(cohort.rule or "", trial)
        rule = load_rule(card)
        rules.append(tuple(replace(rule, clock=clock) for clock in cohort.clocks))
        hashes[f"rules/{rule.name}"] = card_hash(find_card("rules", card))
        check_rule([replace(trial, arms=(Arm("", (cohort,)),))], rule)
    return _Ready(
        trial=trial,
        model=model,
        population=population,
        sample=sample_population(population, scenario.patients, scenario.seed),
        draws=draw_parameters(model, population, scenario.draws, scenario.seed),
        rules=tuple(rules),
        transfusion=TransfusionPolicy() if run_options["transfusion"] else None,
        combination=run_options["combination"],
        hashes=hashes,
        simulated=simulated_text(trial, population, FRIBERG),
    )


def _run_trial(
    item: _Ready,
    scenario: Scenario,
    threads: int,
    on_cohort: OnCohort | None,
    tell: Callable[[float, str], None],
) -> TrialResult:
    trial = item.trial
    rows: list[EndpointRow] = []
    curves: list[CohortCurves] = []
    dlt: dict[str, Floats] = {}
    running: list[str] = []
    for index, (cohort, rules) in enumerate(zip(trial.cohorts, item.rules, strict=True)):

        def progress(share: float, index: int = index, cohort: Cohort = cohort) -> None:
            tell(index + share, f"{trial.name}: {cohort.id}")

        progress(0.0)
        lanes = _run_cohort(item, cohort, rules, threads, progress)
        assumed = "; ".join(assumed_inputs(item.model, item.population, cohort.regimen.drugs))
        of_cohort = table.cohort_rows(trial, cohort, rules, lanes, assumed)
        rows += of_cohort
        curves.append(lanes.curves)
        main = lanes.dlt.get(rules[0].clock)
        if main is not None:
            dlt[cohort.id] = main
        if lanes.running:
            running.append(cohort.id)
        if on_cohort is not None:
            on_cohort(trial, cohort.id, tuple(of_cohort))
    pairs = pair_rows(trial, scenario.pairs, item.rules[0][0], dlt, running)
    attrs = {
        "patients": scenario.patients,
        "draws": scenario.draws,
        **table.rule_attributes(item.rules[0][0], running),
    }
    return TrialResult(
        trial=trial,
        rows=tuple(rows),
        pairs=tuple(pairs),
        curves=dataset(trial, curves, attrs),
        assumptions=tuple(
            dict.fromkeys(
                [
                    *trial.assumptions,
                    *item.population.assumptions,
                    *item.model.assumptions,
                    *marrow_assumptions(item.rules[0][0]),
                ]
            )
        ),
    )


def _run_cohort(
    item: _Ready,
    cohort: Cohort,
    rules: tuple[DLTRule, ...],
    threads: int,
    progress: Callable[[float], None],
) -> table.CohortLanes:
    """Simulate all lanes of a cohort and keep their endpoints as [draws, patients]."""
    trial = item.trial
    simulator = prepare(
        item.model,
        cohort.regimen,
        item.sample,
        trial.horizon_days,
        population=item.population,
        max_step_h=LONGEST_STEP_H,
        transfusion=item.transfusion,
        combination=item.combination,
    )
    look = CohortLook(simulator.plan, rules, load_grades(trial.grades), trial.visit_days)
    chunks = list(simulator.chunks(item.draws, LANES_AT_ONCE))
    n_draws = len(next(iter(item.draws.values())))
    store = _Store(n_draws, simulator.n_patients)
    kept = thinned(n_draws * simulator.n_patients)

    def one(draws: NDArray[np.int64]) -> tuple[NDArray[np.int64], LaneEndpoints, Course]:
        course = simulator.run(item.draws, draws)
        return draws, look(course), course

    curves = CohortCurves(cohort.id, simulator.plan, trial.horizon_days)
    # the first chunk alone: it compiles what the others use
    with ThreadPoolExecutor(threads) as pool:
        rest = _in_turn(pool, one, chunks[1:], ahead=threads + 1)
        parts = itertools.chain([one(chunks[0])], rest)
        for number, (draws, endpoints, course) in enumerate(parts, start=1):
            store.add(draws, endpoints)
            curves.states = endpoints.states
            curves.add(course, kept, int(draws[0]), endpoints.split)
            progress(number / len(chunks))
    return table.CohortLanes(
        values=store.values,
        recovered_on=store.recovered_on,
        dlt=store.dlt,
        reasons=store.reasons,
        sensitivity=store.sensitivity,
        curves=curves.with_outcomes(
            store.recovered_on, store.dlt.get(rules[0].clock), store.sensitivity
        ),
        running=treatment_runs(simulator.plan, rules[0]),
    )


def _in_turn(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Sequence[Any], ahead: int
) -> Iterator[Any]:
    """Results in the order of the items, with at most `ahead` under way or waiting to be taken.

    Solutions of chunks are large, and an interrupted run should not finish what it has queued.
    """
    under_way: deque[Future[Any]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


class _Store:
    """Matrices [draws, patients] filled chunk by chunk."""

    def __init__(self, draws: int, patients: int) -> None:
        self.shape = (draws, patients)
        self.values: dict[tuple[str, str, str], Floats] = {}
        self.recovered_on: dict[tuple[str, float], Floats] = {}
        self.dlt: dict[str, Floats] = {}
        self.reasons: dict[str, Floats] = {}
        self.sensitivity = np.full(
            (
                len(THRESHOLDS["neutrophils"]),
                len(THRESHOLDS["platelets"]),
                len(BY_DAYS),
                *self.shape,
            ),
            np.nan,
            dtype=np.float32,
        )

    def add(self, draws: NDArray[np.int64], endpoints: LaneEndpoints) -> None:
        for name in ("values", "recovered_on", "dlt", "reasons"):
            target = getattr(self, name)
            for key, lanes in getattr(endpoints, name).items():
                matrix = target.setdefault(key, np.full(self.shape, np.nan))
                matrix[draws] = np.asarray(lanes, dtype=float).reshape(len(draws), -1)
        found = endpoints.sensitivity
        self.sensitivity[..., draws, :] = found.reshape(*found.shape[:3], len(draws), -1)


__all__ = ["Simulator", "compare"]
