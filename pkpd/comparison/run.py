"""Run a scenario: every cohort of every trial, the same patients and draws under every schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkpd.arguments import (
    CALLABLE,
    MAPPING,
    NAMES,
    NONE,
    PATH,
    TEXT,
    a,
    check_arguments,
    from_to,
)
from pkpd.arrays import Floats, Indices
from pkpd.cards import clock_day_1, load_grades
from pkpd.cards.trial_cards import FIRST_DOSE
from pkpd.cards.trial_drugs import without_card
from pkpd.cluster import Workers, workers
from pkpd.comparison import rows as table
from pkpd.comparison.curves import CohortBands, CohortCurves, CurvesPart, dataset, part_of, thinned
from pkpd.comparison.delivery import not_on_time
from pkpd.comparison.exposures import (
    CohortExposures,
    cohort_exposures,
    exposure_ratios,
    without_exposure,
)
from pkpd.comparison.lanes import CohortLook, LaneEndpoints
from pkpd.comparison.marrow_choice import Choice, choose_marrow
from pkpd.comparison.pairs import pair_rows, start_pairs
from pkpd.comparison.ready import Read, Ready
from pkpd.comparison.ready_trials import ready_trials
from pkpd.comparison.results import ComparisonResult, EndpointRow, TrialResult
from pkpd.comparison.scenario import Scenario, load_scenario, with_overrides
from pkpd.comparison.shares import CohortShares, cohort_shares
from pkpd.comparison.store import Store, to_keep
from pkpd.course.course import Course
from pkpd.endpoints.clock import treatment_by_clock
from pkpd.ensemble.cards import LONGEST_STEP_H
from pkpd.ensemble.ensemble import Treated, courses
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.ensemble.fitted_drugs import FITTED_STEP_H, drugs_of_fit
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.simulator import STEPS_PER_DAY
from pkpd.evidence.posterior.learned import learned
from pkpd.evidence.posterior.shipped import label_of
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.files import file_stem
from pkpd.fitting.draws import Fitted
from pkpd.machine import cores, give_back_memory
from pkpd.schedule import DosingPlan
from pkpd.trials import Cohort, DLTRule, Trial

OfCohort = tuple[EndpointRow, ...]
Where = tuple[int, Workers | None]
"""Threads, or workers in their place."""
OnCohort = Callable[[Trial, str, OfCohort], None]
OnTrial = Callable[[TrialResult], None]
OnProgress = Callable[[float, float, str], None]
OnStart = Callable[[Mapping[str, str]], None]


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
    cluster: str | None = None,
    marrow: str | None = None,
    posterior: EvidencePosterior | Fitted | str | Path | None = None,
    with_questions: bool = True,
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
        Cards in place of the usual ones, ``{"lenalidomide.pk": "liang2024_lenalidomide"}``. These,
        options and the rule come before what a variant of the scenario sets itself, which it keeps.
    on_cohort, on_trial, on_progress
        Called when a cohort and when a trial is complete, and as work proceeds
        (``done, total, text``).
    on_start
        Called before anything is simulated, with what is simulated for each trial
        (`pkpd.comparison.simulated`).
    jobs
        Threads; all cores by default.
    cluster
        Address of a Dask scheduler (``"tcp://host:8786"``) whose workers have this package and
        simulate in its place, or ``"local"`` for `jobs` processes of this machine. Figures are the
        same to the last bit on machines of one kind. A worker that is lost loses the block of
        draws it was at. Trials' own questions are answered in this process.
    marrow
        ``"friberg"``, a marrow without leukaemia, or ``"leukaemia"``, the one learned from
        published outcomes. If not given, the scenario's own; else the learned one if a posterior is
        shipped that converged and the scenario asks for nothing that only the other marrow has.
    posterior
        Posterior of the marrow with leukaemia, or its file, in place of the shipped one; or the
        result of `pkpd.fit` of a model with neutrophils, platelets or both: the comparison is then
        made in the marrow that was fitted (`pkpd.source`), and a drug of the fit needs no card. Of
        a line that the fit lacks there are no rows.
    with_questions
        Whether trials' own questions are answered too, which takes some cohorts more.

    Returns
    -------
    ComparisonResult

    Raises
    ------
    PkpdError
        Bad input, in one sentence, before anything is simulated.

    Examples
    --------
    >>> import pkpd
    >>> one = dict(trials=["nct01116193_lenalidomide_dexamethasone"], marrow="friberg")
    >>> found = pkpd.compare(patients=4, draws=2, **one)
    >>> found
    ComparisonResult(nct01116193_lenalidomide_dexamethasone (1 cohorts); .table(), .pairs())
    >>> nadir = found.table().query("endpoint == 'nadir' and line == 'neutrophils'")
    >>> bool((nadir["estimate"] > 0).all())
    True
    """
    check_arguments(
        "compare",
        scenario=(scenario, PATH | a(Scenario) | NONE),
        trials=(trials, NAMES | NONE),
        rule=(rule, PATH | NONE),
        options=(options, MAPPING | NONE),
        cards=(cards, MAPPING | NONE),
        jobs=(jobs, from_to(1) | NONE),
        cluster=(cluster, TEXT | NONE),
    )
    calls = {"on_cohort": on_cohort, "on_trial": on_trial, "on_start": on_start}
    calls["on_progress"] = on_progress
    check_arguments("compare", **{k: (v, CALLABLE | NONE) for k, v in calls.items()})
    for key, card in (cards or {}).items():
        check_arguments(f"compare, cards, {key}", card=(card, PATH))
    with without_card(drugs_of_fit(posterior)):
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
    ready = ready_trials(chosen, choice, with_questions)
    check_file_names([item.trial.id for item in ready])
    simulated = {item.trial.id: item.simulated for item in ready}
    if on_start is not None:
        on_start(simulated)
    total = sum(len(item.trial.cohorts) * item.work for item in ready)
    done = 0.0
    results = []
    threads = jobs or cores()
    with workers(cluster, threads) as spread:
        for item in ready:

            def tell(share: float, text: str, item: Ready = item, done: float = done) -> None:
                if on_progress is not None:
                    on_progress(done + share * item.work, total, text)

            result = _run_trial(item, chosen, (threads, spread), on_cohort, tell)
            done += len(item.trial.cohorts) * item.work
            results.append(result)
            give_back_memory()
            if on_trial is not None:
                on_trial(result)
    record = _record(chosen, choice, ready, simulated)
    return ComparisonResult(
        tuple(results), record, () if choice.posterior is None else learned(choice.posterior)
    )


def check_file_names(trials: Sequence[str]) -> None:
    """Refuse trials whose results would be files of one name."""
    known: dict[str, str] = {}
    for trial in trials:
        if (stem := file_stem(trial)) in known:
            what = f"the files of {known[stem]!r} and {trial!r} have one name, {stem}"
            raise PkpdError(where="trials", what=what, remedy="give one of them another id")
        known[stem] = trial


def _record(
    scenario: Scenario, choice: Choice, ready: list[Ready], simulated: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that the figures depend on."""
    marrow: dict[str, Any] = {"model": choice.marrow, "chosen": choice.reason}
    steps: dict[str, Any] = {"longest_step_h": LONGEST_STEP_H, "sustained_days": 7.0}
    if choice.posterior is not None:
        label = label_of(choice.posterior)
        told = {k: v for k, v in asdict(label).items() if k not in ("digits", "problems")}
        marrow |= {"posterior": label.text, **told, "sha256": label.digits}
        marrow["problems"] = list(label.problems)
        steps = {"steps_per_day": STEPS_PER_DAY}
    if choice.fitted is not None:
        ensemble = ready[0].ensemble
        assert isinstance(ensemble, FittedEnsemble)
        marrow |= {"fit": ensemble.words, "parameters": ensemble.values.words}
        marrow["sha256"] = ensemble.values.digits
        steps = {"longest_step_h": FITTED_STEP_H}
    hashes = {card: digits for item in ready for card, digits in item.hashes.items()}
    return {
        "scenario": scenario.name,
        "question": scenario.question,
        "different_answer": scenario.different_answer,
        "seed": scenario.seed,
        **({"marrow": marrow} if choice.told else {}),
        "settings": {
            "patients": scenario.patients,
            "draws": scenario.draws,
            "options": {v.name or "usual": dict(v.options) for v in scenario.variants},
            "cards": {
                v.name or "usual": {key: Path(card).name for key, card in v.cards.items()}
                for v in scenario.variants
            },
            "rules": _named(scenario, "rule"),
            "populations": _named(scenario, "population"),
            **steps,
        },
        "simulated": dict(simulated),
        "cards": dict(sorted(hashes.items())),
    }


def _named(scenario: Scenario, what: str) -> dict[str, str]:
    """Rule or population of each variant, without folders of this machine."""
    given = {v.name or "usual": getattr(v, what) for v in scenario.variants}
    return {name: Path(card).name if card else "each trial's own" for name, card in given.items()}


def _run_trial(
    item: Ready,
    scenario: Scenario,
    where: Where,
    on_cohort: OnCohort | None,
    tell: Callable[[float, str], None],
) -> TrialResult:
    trial = item.trial
    rows: list[EndpointRow] = []
    curves: list[CohortCurves] = []
    dlt: dict[str, Floats] = {}
    running: dict[str, Mapping[str, str]] = {}
    late: dict[str, dict[str, Floats]] = {}
    shares: dict[str, Future[CohortShares]] = {}
    others: list[Future[CohortBands]] = []
    levels: dict[str, Future[CohortExposures]] = {}

    def rows_of(cohort: Cohort, rules: tuple[DLTRule, ...], lanes: table.CohortLanes) -> OfCohort:
        plain = table.cohort_rows(trial, cohort, rules, lanes, item.assumed(cohort), item.predicted)
        return tuple(item.named(row) for row in plain)

    def keep(cohort: Cohort, found: Future[OfCohort]) -> None:
        of_cohort = found.result()
        rows.extend(of_cohort)
        if on_cohort is not None:
            on_cohort(trial, cohort.id, of_cohort)

    waiting: tuple[Cohort, Future[OfCohort]] | None = None
    # the table of a cohort is worked out while the next one is simulated
    with ThreadPoolExecutor(1) as beside:
        for index, (cohort, rules) in enumerate(zip(trial.cohorts, item.rules, strict=True)):

            def progress(share: float, index: int = index, cohort: Cohort = cohort) -> None:
                tell(index + share, f"{trial.name}: {cohort.id}")

            progress(0.0)
            lanes = _run_cohort(item, cohort, rules, where, progress)
            give_back_memory()
            if waiting is not None:
                keep(*waiting)
            waiting = cohort, beside.submit(rows_of, cohort, rules, lanes)
            curves.append(lanes.curves)
            others.append(beside.submit(lanes.curves.bands))
            levels[cohort.id] = beside.submit(cohort_exposures, item, cohort)
            main = lanes.dlt.get(rules[0].clock)
            if main is not None:
                dlt[cohort.id] = main
            late[cohort.id] = not_on_time(lanes.values)
            running[cohort.id] = lanes.running
            if item.questions is not None:
                shares[cohort.id] = beside.submit(cohort_shares, lanes, rules[0])
            if index == 0:
                keep(*waiting)  # the first table is shown at once
                waiting = None
            del lanes  # its table is made from them, and they go with the table
        if waiting is not None:
            keep(*waiting)
        for one in others:
            one.result()
    questions = ()
    if item.questions is not None:
        tell(float(len(trial.cohorts)), f"{trial.name}: questions of the trial")
        seen = {name: found.result() for name, found in shares.items()}
        questions = item.questions(seen)
        if item.prior is not None and item.rests_on is not None:
            told = item.rests_on(dlt, _verdicts_of(item.prior, where))
            questions = (*questions, told) if told is not None else questions
    rule = item.rules[0][0]
    of_cohort = {c.id: one[0] for c, one in zip(trial.cohorts, item.rules, strict=True)}
    exposed = {name: found.result() for name, found in levels.items()}
    attrs = {
        "patients": scenario.patients,
        "draws": scenario.draws,
        **item.attrs,
        **table.rule_attributes(
            rule, running, of_cohort, [clock_day_1(c.regimen, FIRST_DOSE) for c in trial.cohorts]
        ),
    }
    return TrialResult(
        trial=trial,
        rows=tuple(rows),
        pairs=(
            *pair_rows(
                trial,
                scenario.pairs,
                {c: one.name for c, one in of_cohort.items()},
                dlt,
                table.treated(running, of_cohort),
            ),
            *start_pairs(trial, scenario.pairs, late),
        ),
        curves=dataset(trial, curves, attrs),
        assumptions=item.assumptions,
        questions=questions,
        limits=item.limits,
        exposures=tuple(row for one in exposed.values() for row in one.rows),
        exposure_ratios=exposure_ratios(trial, scenario.pairs, exposed),
        without_exposure=without_exposure(exposed),
    )


def _verdicts_of(item: Ready, where: Where) -> dict[str, Floats]:
    """Verdicts on the DLT of a trial's cohorts, and nothing else of them; NaN unjudged."""
    found = {}
    for cohort, rules in zip(item.trial.cohorts, item.rules, strict=True):
        treated = item.treated(cohort)
        judged = _Judged(_look(item, treated, rules))
        of_cohort = np.full((item.ensemble.draws, item.ensemble.patients), np.nan)
        for draws, verdicts in courses(treated, judged, *where):
            if verdicts is not None:
                of_cohort[draws] = verdicts.reshape(len(draws), -1)
        found[cohort.id] = of_cohort
    return found


def _look(item: Ready, treated: Treated, rules: tuple[DLTRule, ...]) -> CohortLook:
    trial = item.trial
    grades = load_grades(trial.grades)
    return CohortLook(treated.plan, rules, grades, trial.visit_days, by_days=item.by_days)


def _run_cohort(
    item: Ready,
    cohort: Cohort,
    rules: tuple[DLTRule, ...],
    where: Where,
    progress: Callable[[float], None],
) -> table.CohortLanes:
    """Simulate all lanes of a cohort and keep their endpoints as [draws, patients]."""
    trial, ensemble = item.trial, item.ensemble
    treated = item.treated(cohort)
    read = item.reader(_look(item, treated, rules))
    store = Store(ensemble.draws, ensemble.patients)
    kept = thinned(ensemble.draws * ensemble.patients)
    curves = CohortCurves(cohort.id, treated.plan, trial.horizon_days, item.by_days)
    done = 0

    for draws, endpoints, part in courses(treated, _Seen(read, treated.plan, kept), *where):
        store.add(draws, endpoints)
        curves.add(part)
        done += len(draws)
        progress(done / ensemble.draws)
    return table.CohortLanes(
        values=store.values,
        recovered_on=store.recovered_on,
        dlt=store.dlt,
        reasons=store.reasons,
        sensitivity=store.sensitivity,
        curves=curves.with_outcomes(
            store.recovered_on, store.dlt.get(rules[0].clock), store.sensitivity
        ),
        running=treatment_by_clock(treated.plan, rules),
    )


@dataclass(frozen=True)
class _Seen:
    """Keeps the endpoints of some draws and their part of the curves."""

    read: Read
    plan: DosingPlan
    every: int

    def __call__(self, draws: Indices, course: Course) -> tuple[Indices, LaneEndpoints, CurvesPart]:
        found = self.read(course)
        part = part_of(self.plan, course, self.every, int(draws[0]), found.split, found.states)
        return draws, to_keep(found), part


@dataclass(frozen=True)
class _Judged:
    """Keeps the verdict of the main rule in some draws."""

    look: CohortLook

    def __call__(self, draws: Indices, course: Course) -> tuple[Indices, Floats | None]:
        return draws, self.look.verdict(course)
