"""Questions of the five trials, answered under posterior draws by small tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pkpd.cards import clock_day_1, load_grades, load_response_criteria
from pkpd.comparison.lanes import count_on
from pkpd.comparison.results import Figure, Question
from pkpd.comparison.shares import (
    CohortShares,
    figure,
    mean_of_known,
    median_of_known,
    probability,
)
from pkpd.endpoints.response import improvement_day
from pkpd.evidence.criticism.len_mec import (
    COHORTS,
    DAYS,
    DOSES,
    PAIRS,
    RELEVANT,
    SURE,
    DelayedRisks,
    cohort_rows,
    contrasts,
    from_counts_alone,
)
from pkpd.evidence.criticism.trial_predictions import NewStudy
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.schedule import Arm
from pkpd.schedule import Criterion, Gate
from pkpd.trials import Trial

Floats = NDArray[np.float64]
Shares = Mapping[str, CohortShares]

LEN_MEC_IDS = ("14d-10", "14d-5", "10d-5", "10d-10", "10d-25", "10d-50")
"""Cohorts of NCT01681537 in the order of `pkpd.evidence.criticism.len_mec.COHORTS`."""

GATES: Mapping[str, tuple[float, float] | None] = {
    "none": None,
    "0.5 and 20": (0.5, 20.0),
    "1.0 and 50": (1.0, 50.0),
    "1.0 and 100": (1.0, 100.0),
}
"""Counts (neutrophils, platelets, 10^9/L) that lenalidomide may wait for."""

MOST_WAIT_DAYS = 28
IMPROVEMENT_WEEKS = 8  # of IWG 2006: counts are followed so much longer than the trial
LINES = ("neutrophils", "platelets")


def answers(
    trial: Trial, trial_id: str, arms: Mapping[str, Arm], shares: Shares, study: NewStudy
) -> tuple[Question, ...]:
    """Answer the questions of a trial; other trials have none.

    Parameters
    ----------
    trial
        As run; its id may name a variant.
    trial_id
        Id of its card, which decides the questions.
    arms
        Arms of its cohorts.
    shares
        What its cohorts' patients came to.
    study
        The trial under posterior draws.
    """
    registry = trial_id.split("_")[0].casefold()
    if registry == "nct01681537" and set(LEN_MEC_IDS) <= set(shares):
        return _schedule_or_dose(trial.id, shares)
    if registry == "nct01629082":
        return (_start_of_lenalidomide(trial, arms, study),)
    if registry == "nct00983528" and {"clofarabine-20", "clofarabine-10"} <= set(shares):
        return (_twenty_or_ten(trial.id, shares),)
    if registry in ("nct01116193", "nct01673308"):
        return _cycle_by_cycle(trial, arms, study)
    return ()


def _named(low: float, high: float) -> str:
    return f"{low:.1f} and {high:g}"


# -- lenalidomide with MEC --------------------------------------------------------------------


def delayed_risks(shares: Shares) -> DelayedRisks:
    """Risks of the six cohorts, for `pkpd.evidence.criticism.len_mec`; NaN where none was given."""
    n_draws = shares[LEN_MEC_IDS[0]].delayed.shape[-1]
    risk = np.full((len(PAIRS), len(DAYS), len(DOSES), n_draws), np.nan)
    for name, (days, dose, _, _) in zip(LEN_MEC_IDS, COHORTS, strict=True):
        for p, pair in enumerate(PAIRS):
            risk[p, DAYS.index(days), DOSES.index(dose)] = shares[name].delay(*pair, 45.0)
    return DelayedRisks(risk)


def _schedule_or_dose(trial: str, shares: Shares) -> tuple[Question, ...]:
    risks = _known(delayed_risks(shares))
    by_cohort = []
    for number, row in enumerate(cohort_rows(risks)):
        pair, (days, dose, late, n) = PAIRS[number // len(COHORTS)], COHORTS[number % len(COHORTS)]
        by_cohort.append(
            (
                _named(*pair),
                LEN_MEC_IDS[number % len(COHORTS)],
                f"{late}/{n}",
                figure(risks.of(PAIRS.index(pair), days, dose)),
                Figure(float(str(row["as_many"]))),
            )
        )
    table, verdicts = [], []
    for contrast in contrasts(risks):
        pair = _named(contrast.neutrophils, contrast.platelets)
        table.append(
            (
                pair,
                _difference(contrast.schedule),
                _difference(contrast.dose),
                Figure(contrast.schedule_rather),
                Figure(contrast.schedule_relevant),
                Figure(contrast.dose_relevant),
                Figure(contrast.as_seen),
            )
        )
        verdicts.append(f"recovered at {pair}: {contrast.verdict}")
    alone = from_counts_alone()
    told = "tell" if not 1.0 - SURE < alone < SURE else "cannot tell"
    verdicts.append(
        f"the trial's own counts, 2 of 9 against 1 of 16, give a probability of {alone:.0%} that "
        f"14 days are riskier: by themselves they {told} schedule from chance"
    )
    first = Question(
        trial,
        "delayed_by_cohort",
        "Who has not recovered by day 45?",
        "Risk of those alive and free of leukaemia on day 45, by the counts that mean recovery "
        "(neutrophils and platelets, 10^9/L), which no text that was read states. Last column: "
        "probability that a cohort of this size has at least as many delayed patients as printed.",
        ("recovered at", "cohort", "printed", "risk", "as many"),
        tuple(by_cohort),
    )
    second = Question(
        trial,
        "schedule_or_dose",
        "Is it the schedule or the dose?",
        "Difference of the risk: 14 less 10 days (mean over 5 and 10 mg), and 50 less 5 mg (10 "
        f"days). A difference matters from {RELEVANT:.0%}. Last column: probability that a trial "
        "like this one prints a split at least as uneven.",
        ("recovered at", "14 less 10 days", "50 less 5 mg", "schedule moves it more",
         f"schedule above {RELEVANT:.0%}", f"dose above {RELEVANT:.0%}", "split as seen"),
        tuple(table),
        tuple(verdicts),
    )  # fmt: skip
    return first, second


def _known(risks: DelayedRisks) -> DelayedRisks:
    """Leave out draws in which some cohort has no patient with a verdict."""
    given = np.array([risks.risk[:, DAYS.index(d), DOSES.index(m)] for d, m, _, _ in COHORTS])
    good = ~np.isnan(given).any(axis=(0, 1))
    return DelayedRisks(risks.risk[..., good])


def _difference(interval: tuple[float, float, float]) -> Figure:
    lower, middle, upper = interval
    return Figure(middle, lower, upper, "difference")


# -- clofarabine, then lenalidomide ------------------------------------------------------------


def _start_of_lenalidomide(trial: Trial, arms: Mapping[str, Arm], study: NewStudy) -> Question:
    course = "consolidation"
    rows = []
    for cohort in trial.cohorts:
        # nothing after the last day on which it may start is asked for
        last = clock_day_1(cohort.regimen, course) + MOST_WAIT_DAYS + 1
        schedule = replace(arms[cohort.id].schedule, horizon_days=last)
        arm = replace(arms[cohort.id], schedule=schedule)
        for words, gate in GATES.items():
            seen = study.collect(gated(arm, course, gate), _started(course))
            rows.append(
                (
                    cohort.id,
                    words,
                    figure(mean_of_known(seen["started"])),
                    figure(median_of_known(seen["day"]), "day"),
                    *(figure(median_of_known(seen[line]), "10^9/L") for line in LINES),
                    *(
                        figure(mean_of_known((seen[line] < limit) * _where(seen[line])))
                        for line, limit in zip(LINES, (1.0, 50.0), strict=True)
                    ),
                )
            )
    return Question(
        trial.id,
        "start_of_lenalidomide",
        "Which counts do patients have when lenalidomide starts?",
        "Counts on the morning of the first dose of lenalidomide, day 29, after the marrow "
        "examination of day 28 (gate: none, as registered); or later, if lenalidomide waits up to "
        f"{MOST_WAIT_DAYS} days for counts (neutrophils and platelets, 10^9/L) and is not given if "
        "they do not come. Day: protocol day of the median patient. All cohorts have the same "
        "clofarabine and differ only after that day.",
        ("cohort", "gate", "started", "day", "neutrophils", "platelets", "neutrophils < 1.0",
         "platelets < 50"),
        tuple(rows),
    )  # fmt: skip


def _where(values: Floats) -> Floats:
    return np.where(np.isnan(values), np.nan, 1.0)


def gated(arm: Arm, course: str, gate: tuple[float, float] | None) -> Arm:
    """Make a course wait for counts (neutrophils, platelets, 10^9/L); ``None`` changes nothing."""
    regimen = arm.schedule.regimen
    if gate is None or regimen is None:
        return arm
    wait = Gate(
        (Criterion("neutrophils", gate[0]), Criterion("platelets", gate[1])),
        max_wait_days=MOST_WAIT_DAYS,
        if_not_met="stop",
    )
    courses = tuple(replace(c, gate=wait) if c.name == course else c for c in regimen.courses)
    schedule = replace(arm.schedule, regimen=replace(regimen, courses=courses))
    return replace(arm, schedule=schedule)


def _started(course: str) -> Callable[[ArmOutcomes], dict[Hashable, Floats]]:
    def look(outcomes: ArmOutcomes) -> dict[Hashable, Floats]:
        began = outcomes.course.started(course)
        day = np.where(began <= outcomes.course.mornings_alive, began, np.nan)
        started = (~np.isnan(day)).astype(np.float64)
        counts: dict[Hashable, Floats] = {
            line: count_on(outcomes.course, line, day - 1.0) for line in LINES
        }
        return {"day": day, "started": started, **counts}

    return look


# -- alemtuzumab with clofarabine --------------------------------------------------------------


def _twenty_or_ten(trial: str, shares: Shares) -> Question:
    twenty, ten = shares["clofarabine-20"], shares["clofarabine-10"]

    def row(name: str, first: Floats, second: Floats) -> tuple[str | Figure, ...]:
        known = ~np.isnan(first - second)
        difference = replace(figure(first - second), unit="difference")
        return name, figure(first), figure(second), difference, probability(
            (first > second)[known]
        )  # fmt: skip

    rows = [
        row(f"not recovered by day 42, {_named(*p)}", twenty.delay(*p, 42.0), ten.delay(*p, 42.0))
        for p in PAIRS
    ]
    for key in twenty.values:
        if key[0] in ("early_death", "complete_remission", "remission_any_counts"):
            name = " ".join(part for part in (key[0].replace("_", " "), key[2]) if part)
            rows.append(row(name, twenty.values[key], ten.values[key]))
    return Question(
        trial,
        "twenty_or_ten",
        "What does 10 instead of 20 mg/m^2 change?",
        "Shares of patients at clofarabine 20 and 10 mg/m^2 on five days. Delay is judged by the "
        "counts (neutrophils and platelets, 10^9/L) that mean recovery, of those alive and free of "
        "leukaemia. Last column: probability that 20 mg/m^2 has the larger share.",
        ("event", "20 mg/m^2", "10 mg/m^2", "difference", "20 has more"),
        tuple(rows),
    )


# -- lenalidomide over cycles ------------------------------------------------------------------


def _cycle_by_cycle(trial: Trial, arms: Mapping[str, Arm], study: NewStudy) -> tuple[Question, ...]:
    grades = load_grades(trial.grades)
    limits = {line: grades.scale(line).below[2] for line in LINES}
    toxic, improved = [], []
    for cohort in trial.cohorts:
        days = cohort.regimen.courses[0].cycle_days
        cycles = min(cohort.regimen.courses[0].cycles, trial.horizon_days // days)
        arm = arms[cohort.id]
        longer = replace(
            arm,
            schedule=replace(arm.schedule, horizon_days=trial.horizon_days + 7 * IMPROVEMENT_WEEKS),
        )
        seen = study.collect(longer, _cycles(cycles, days, limits, trial.horizon_days))
        for cycle in range(1, cycles + 1):
            toxic.append(
                (
                    cohort.id,
                    str(cycle),
                    figure(mean_of_known(seen["alive", cycle])),
                    *(figure(mean_of_known(seen[line, cycle])) for line in (*LINES, "either")),
                )
            )
        for code, line in (("HI-N", "neutrophils"), ("HI-P", "platelets")):
            day = seen[code]
            could = mean_of_known((~np.isnan(day)).astype(np.float64))
            share = mean_of_known(np.where(np.isnan(day), np.nan, np.isfinite(day) * 1.0))
            when = median_of_known(np.where(np.isfinite(day), day, np.nan))
            improved.append((cohort.id, f"{line} ({code})", figure(could), figure(share),
                             figure(when, "day")))  # fmt: skip
        day = seen["response"]
        share = mean_of_known(np.isfinite(day) * 1.0)
        when = median_of_known(np.where(np.isfinite(day), day, np.nan))
        improved.append((cohort.id, "remission or partial remission", Figure(1.0), figure(share),
                         figure(when, "day")))  # fmt: skip
    first = Question(
        trial.id,
        "cycles",
        "How often are counts of grade 3 or 4 in each cycle?",
        f"Lowest count of a cycle below {limits['neutrophils']:g} (neutrophils) or "
        f"{limits['platelets']:g} (platelets), of patients alive when the cycle begins. Counts "
        "that are low because of the disease count too.",
        ("cohort", "cycle", "alive at its start", *LINES, "either"),
        tuple(toxic),
    )
    second = Question(
        trial.id,
        "improvement",
        "How many improve, and when?",
        f"Improvement by IWG 2006 that begins within {trial.horizon_days} days and lasts "
        f"{IMPROVEMENT_WEEKS} weeks, of patients whose count is low enough at the start; day: "
        "protocol day on which it begins, median of those who improve. Red cells are not in this "
        "model.",
        ("cohort", "improvement", "can improve", "improve", "day"),
        tuple(improved),
    )
    return first, second


def _cycles(
    cycles: int, days: int, limits: Mapping[str, float], horizon: int
) -> Callable[[ArmOutcomes], dict[Hashable, Floats]]:
    criteria = load_response_criteria("iwg_2006_mds")

    def look(outcomes: ArmOutcomes) -> dict[Hashable, Floats]:
        course, death = outcomes.course, outcomes.death_day
        counts = {line: course.laboratory(line) for line in LINES}
        morning = np.arange(1, course.days + 1)[None, :]
        found: dict[Hashable, Floats] = {}
        for cycle in range(1, cycles + 1):
            begin = (cycle - 1) * days + 1
            alive = death >= begin
            here = (morning >= begin) & (morning < begin + days) & (morning <= death[:, None])
            found["alive", cycle] = alive.astype(np.float64)
            either = np.zeros(outcomes.n, dtype=bool)
            for line, limit in limits.items():
                low = ((counts[line] < limit) & here).any(axis=1)
                either |= low
                found[line, cycle] = np.where(alive, low, np.nan)
            found["either", cycle] = np.where(alive, either, np.nan)
        for code in ("HI-N", "HI-P"):
            day = improvement_day(course, criteria, code, 7 * IMPROVEMENT_WEEKS)
            found[code] = np.where(day > horizon, np.where(np.isnan(day), np.nan, np.inf), day)
        codes = ("CR", "CRh", "CRi", "mCR", "PR")
        reached = outcomes.responded(*codes, by_day=horizon)
        found["response"] = np.where(reached, outcomes.response_day, np.inf)
        return found

    return look
