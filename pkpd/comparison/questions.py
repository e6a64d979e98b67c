"""Questions that trial cards ask, answered under posterior draws by small tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from pkpd.arrays import Floats
from pkpd.cards import clock_day_1, load_grades, load_response_criteria
from pkpd.cards.trial_cards import FIRST_DOSE
from pkpd.comparison.course_start import LINES, Seen, starts
from pkpd.comparison.lanes import grade_words
from pkpd.comparison.results import Figure, Question
from pkpd.comparison.shares import (
    CohortShares,
    figure,
    mean_of_known,
    median_of_known,
    probability,
)
from pkpd.comparison.uncertainty import fewest_draws
from pkpd.endpoints.definitions import THRESHOLDS, clock_words
from pkpd.endpoints.grades import grade
from pkpd.endpoints.response import improvement_day
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.schedule_or_dose import (
    DelayedRisks,
    Design,
    alone_in_words,
    cohort_rows,
    contrasts,
    design_of,
    in_the_tail,
    words_of,
)
from pkpd.evidence.criticism.trial_predictions import NewStudy
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.schedule import Arm
from pkpd.schedule import Regimen
from pkpd.trials import AskedQuestion, DLTRule, Grades, ResponseCriteria, Trial

Shares = Mapping[str, CohortShares]


def answers(
    trial: Trial, arms: Mapping[str, Arm], shares: Shares, study: NewStudy
) -> tuple[Question, ...]:
    """Answer the questions of a trial's card; a trial whose card asks nothing has none.

    Parameters
    ----------
    trial
        As run; its id may name a variant.
    arms
        Arms of its cohorts.
    shares
        What its cohorts' patients came to.
    study
        The trial under posterior draws.
    """
    found: list[Question] = []
    for asked in trial.questions:
        if asked.ask == "schedule_or_dose":
            design = _whole_design(trial)
            if design is not None:
                found += _schedule_or_dose(trial.id, asked, design, shares)
        elif asked.ask == "start_of_drug":
            found.append(_start_of_drug(trial, asked, arms, study))
        elif asked.ask == "one_dose_or_another":
            if {asked["first"], asked["second"]} <= set(shares):
                found.append(_one_dose_or_another(trial.id, asked, shares))
        else:
            found += _cycle_by_cycle(trial, asked, arms, study)
    return tuple(found)


def check_asked(trial: Trial) -> None:
    """Refuse a question about counts that a comparison does not look at.

    Raises
    ------
    PkpdError
        Before anything is simulated.
    """
    for asked in trial.questions:
        for pair in dict(asked.settings).get("recovered_at", ()):
            for line, count in zip(LINES, pair, strict=True):
                if float(count) not in THRESHOLDS[line]:
                    raise PkpdError(
                        where=f"trial {trial.id}, question {asked.name}, recovered_at",
                        what=f"{line} of {count:g}",
                        allowed=", ".join(f"{one:g}" for one in THRESHOLDS[line]),
                    )


def _whole_design(trial: Trial) -> Design | None:
    """Design of a trial; ``None`` if a scenario left out the cohorts that it needs."""
    try:
        return design_of(trial)
    except PkpdError:
        return None


def _who(shares: Iterable[CohortShares], day: int) -> str:
    """Name the patients of whom a delay by a day is told, as the rules of cohorts judge them."""
    told = dict.fromkeys(_judged(one.rule, day) for one in shares)
    return " or ".join(told) + (", as each cohort's rule judges" if len(told) > 1 else "")


def _judged(rule: DLTRule, day: int) -> str:
    alive = "alive and free of leukaemia" if rule.no_leukaemia else "alive, with leukaemia or not,"
    since = "" if rule.clock == FIRST_DOSE else f" from {clock_words(rule.clock)}"
    either = " (recovered with one of the two counts back)" if rule.join == "all" else ""
    return f"those {alive} on day {day}{since}{either}"


def _named(low: float, high: float) -> str:
    return f"{low:.1f} and {high:g}"


# -- schedule or dose -------------------------------------------------------------------------


def delayed_risks(design: Design, shares: Shares) -> DelayedRisks:
    """Risks of the cohorts of a design; NaN where a schedule did not have a dose."""
    n_draws = shares[design.names[0]].delayed.shape[-1]
    risk = np.full((len(design.pairs), 2, len(design.doses), n_draws), np.nan)
    of_all = risk.copy()
    for name, (days, dose, _, _) in zip(design.names, design.cohorts, strict=True):
        for p, pair in enumerate(design.pairs):
            place = (p, design.days.index(days), design.doses.index(dose))
            risk[place] = shares[name].delay(*pair, float(design.by_day))
            of_all[place] = shares[name].delay_of_all(*pair, float(design.by_day))
    return DelayedRisks(risk, of_all, design)


def _schedule_or_dose(
    trial: str, asked: AskedQuestion, design: Design, shares: Shares
) -> tuple[Question, ...]:
    risks = _known(delayed_risks(design, shares))
    title = asked.title or "Is it the schedule or the dose?"
    draws = risks.risk.shape[-1]
    who = _who((shares[name] for name in design.names), design.by_day)
    if not draws:
        nobody = f"in no draw does every cohort have one of {who}"
        return (Question(trial, asked.name, title, asked.text, ("answer",), (("-",),), (nobody,)),)
    by_cohort = []
    for number, row in enumerate(cohort_rows(risks)):
        which = number % len(design.cohorts)
        pair, (days, dose, late, n) = (
            design.pairs[number // len(design.cohorts)],
            design.cohorts[which],
        )
        by_cohort.append(
            (
                _named(*pair),
                design.names[which],
                f"{late}/{n}",
                figure(risks.of(design.pairs.index(pair), days, dose)),
                Figure(float(str(row["as_many"]))) if late else "",
            )
        )
    table, verdicts = [], []
    found = contrasts(risks)
    for contrast in found:
        pair = _named(contrast.neutrophils, contrast.platelets)
        table.append(
            (
                pair,
                _difference(contrast.schedule, draws),
                _difference(contrast.dose, draws),
                Figure(contrast.schedule_rather),
                Figure(contrast.schedule_relevant),
                Figure(contrast.dose_relevant),
                Figure(contrast.as_seen),
            )
        )
        verdicts.append(f"recovered at {pair}: {contrast.verdict}")
    verdicts.append(in_the_tail(found))
    verdicts.append(alone_in_words(design))
    more, higher = words_of(design)
    doses = " and ".join(f"{dose:g}" for dose in design.common)
    first = Question(
        trial,
        "delayed_by_cohort",
        f"Who has not recovered by day {design.by_day}?",
        f"Risk of {who}, by the counts that mean recovery (neutrophils and platelets, 10^9/L). "
        f"{asked.text}".strip()
        + " Printed: of all patients of the cohort, those who died or kept leukaemia among them. "
        "Last column: "
        "probability that a cohort of this size has at least as many delayed patients as printed, "
        "where there were some, counted of all its patients too. Risks are medians of draws.",
        ("recovered at", "cohort", "printed", "risk", "as many"),
        tuple(by_cohort),
    )
    second = Question(
        trial,
        asked.name,
        title,
        f"Difference of the risk: {more} (mean over {doses} {design.unit}), and {higher} "
        f"({design.dose_contrast[0]} days). A difference matters from {design.relevant:.0%}. Last "
        "column: probability that a trial like this one prints a split at least as uneven, counted "
        "of all its patients as printed.",
        ("recovered at", more, higher, "schedule moves it more",
         f"schedule above {design.relevant:.0%}", f"dose above {design.relevant:.0%}",
         "split as seen"),
        tuple(table),
        tuple(verdicts),
    )  # fmt: skip
    return first, second


def _known(risks: DelayedRisks) -> DelayedRisks:
    """Leave out draws in which some cohort has no patient with a verdict."""
    design = risks.design
    given = np.array(
        [
            risks.risk[:, design.days.index(d), design.doses.index(m)]
            for d, m, _, _ in design.cohorts
        ]
    )
    good = ~np.isnan(given).any(axis=(0, 1))
    return DelayedRisks(risks.risk[..., good], risks.of_all[..., good], design)


def _difference(interval: tuple[float, float, float], draws: int) -> Figure:
    lower, middle, upper = interval
    if draws < fewest_draws():
        return Figure(middle, unit="difference")
    return Figure(middle, lower, upper, "difference")


# -- start of a later drug --------------------------------------------------------------------


def _start_of_drug(
    trial: Trial, asked: AskedQuestion, arms: Mapping[str, Arm], study: NewStudy
) -> Question:
    course, wait, drug = asked["course"], asked["most_wait_days"], asked["drug"]
    gates: dict[str, tuple[float, float] | None] = {"none": None}
    gates |= {f"{low:.1f} and {high:g}": (low, high) for low, high in asked["gates"]}
    rows = []
    # cohorts that differ only later have the same patients and counts until then
    done: dict[Hashable, Mapping[str, Seen]] = {}
    for cohort in trial.cohorts:
        # nothing after the last day on which it may start is asked for
        last = _last_start(cohort.regimen, course, wait)
        key = (*_until(cohort.regimen, course), last, cohort.medians)
        if key not in done:
            schedule = replace(arms[cohort.id].schedule, horizon_days=last)
            arm = replace(arms[cohort.id], schedule=schedule)
            done[key] = starts(arm, course, gates, wait, study)
        for words, seen in done[key].items():
            rows.append(
                (
                    cohort.id,
                    words,
                    figure(mean_of_known(seen["started"])),
                    figure(median_of_known(seen["day"]), "day"),
                    *(figure(median_of_known(seen[line]), "10^9/L") for line in LINES),
                    *(
                        figure(mean_of_known((seen[line] < limit) * _where(seen[line])))
                        for line, limit in zip(LINES, asked["low"], strict=True)
                    ),
                )
            )
    lows = [f"{line} < {limit:.1f}" if limit < 10 else f"{line} < {limit:g}"
            for line, limit in zip(LINES, asked["low"], strict=True)]  # fmt: skip
    return Question(
        trial.id,
        asked.name,
        asked.title or f"Which counts do patients have when {drug} starts?",
        "Counts as a laboratory measures them, transfused platelets among them, which is what a "
        f"gate looks at, on the morning of the first dose of {drug} in {course} (gate: none, as "
        "planned); "
        f"or later, if it waits up to {wait} days for counts (neutrophils and platelets, 10^9/L) "
        "and is not given if they do not come. Day: protocol day of the median patient. "
        f"{asked.text}".strip(),
        ("cohort", "gate", "started", "day", "neutrophils", "platelets", *lows),
        tuple(rows),
    )


def _last_start(regimen: Regimen, course: str, wait: int) -> int:
    """Day after the last one on which a course may start, whatever delays the ones before it."""
    place = regimen.courses.index(regimen.course(course))
    own = regimen.courses[place].gate
    waits = [max(wait, own.max_wait_days if own else 0)]
    for before in regimen.courses[:place]:
        waits += [before.gate.max_wait_days] if before.gate else []
        waits += [before.between.max_wait_days * (before.cycles - 1)] if before.between else []
    return clock_day_1(regimen, course) + sum(waits) + 1


def _until(regimen: Regimen, course: str) -> tuple[Hashable, ...]:
    """Everything of a regimen that counts on the first day of a course depend on."""
    place = regimen.courses.index(regimen.course(course))
    own = regimen.courses[place]
    return regimen.courses[:place], own.start_day, own.gate


def _where(values: Floats) -> Floats:
    return np.where(np.isnan(values), np.nan, 1.0)


# -- one dose or another ----------------------------------------------------------------------


def _one_dose_or_another(trial: str, asked: AskedQuestion, shares: Shares) -> Question:
    one, other = shares[asked["first"]], shares[asked["second"]]
    day, (head, second_head) = asked["by_day"], asked["heads"]

    def row(name: str, first: Floats, second: Floats) -> tuple[str | Figure, ...]:
        known = ~np.isnan(first - second)
        difference = replace(figure(first - second), unit="difference")
        return name, figure(first), figure(second), difference, probability(
            (first > second)[known]
        )  # fmt: skip

    rows = [
        row(
            f"not recovered by day {day}, {_named(low, high)}",
            one.delay(low, high, float(day)),
            other.delay(low, high, float(day)),
        )
        for low, high in asked["recovered_at"]
    ]
    for key in one.values:
        if key[0] in ("early_death", "complete_remission", "remission_any_counts"):
            name = " ".join(part for part in (key[0].replace("_", " "), key[2]) if part)
            rows.append(row(name, one.values[key], other.values[key]))
    return Question(
        trial,
        asked.name,
        asked.title or f"What does {head} instead of {second_head} change?",
        f"Shares of patients at {head} and at {second_head}. Delay is judged by the counts "
        f"(neutrophils and platelets, 10^9/L) that mean recovery, of {_who((one, other), day)} "
        "under each, who are not the same; pairs are of patients who can be judged under "
        "both. Shares and differences are medians of draws. Last column: probability that "
        f"{head} has the larger share. "
        f"{asked.text}".strip(),
        ("event", head, second_head, "difference", f"{head} has more"),
        tuple(rows),
    )


# -- cycle by cycle ---------------------------------------------------------------------------


def _cycle_by_cycle(
    trial: Trial, asked: AskedQuestion, arms: Mapping[str, Arm], study: NewStudy
) -> tuple[Question, ...]:
    weeks, criteria = asked["improvement_weeks"], load_response_criteria(asked["criteria"])
    grades = load_grades(trial.grades)
    limits = {line: grade_words(grades, line, 3).removeprefix("< ") for line in LINES}
    toxic, improved = [], []
    for cohort in trial.cohorts:
        first = cohort.regimen.courses[0]
        waits = first.gate is not None or first.between is not None
        if waits or cohort.regimen.start_days[0] != 1:
            raise PkpdError(
                where=f"trial {trial.id}, question {asked.name}, cohort {cohort.id}",
                what="its cycles are windows of planned days, and counts or the start delay them",
                remedy="leave the question out, or compare the schedule without a gate before or "
                "between cycles",
            )
        days = first.cycle_days
        cycles = min(cohort.regimen.courses[0].cycles, trial.horizon_days // days)
        arm = arms[cohort.id]
        longer = replace(
            arm,
            schedule=replace(arm.schedule, horizon_days=trial.horizon_days + 7 * weeks),
        )
        seen = study.collect(
            longer, _cycles(cycles, days, grades, trial.horizon_days, criteria, weeks)
        )
        for cycle in range(1, cycles + 1):
            toxic.append(
                (
                    cohort.id,
                    str(cycle),
                    figure(mean_of_known(seen["alive", cycle])),
                    *(figure(mean_of_known(seen[line, cycle])) for line in (*LINES, "either")),
                )
            )
        for code, line in ((i.code, i.line) for i in criteria.improvements):
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
        f"Lowest count of a cycle below {limits['neutrophils']} (neutrophils) or "
        f"{limits['platelets']} (platelets), of patients alive when the cycle begins. Counts "
        "that are low because of the disease count too.",
        ("cohort", "cycle", "alive at its start", *LINES, "either"),
        tuple(toxic),
    )
    second = Question(
        trial.id,
        "improvement",
        "How many improve, and when?",
        f"Improvement by {criteria.title} that begins within {trial.horizon_days} days and lasts "
        f"{weeks} weeks, of patients whose count is low enough at the start; day: "
        "protocol day on which it begins, median of those who improve. Red cells are not in this "
        "model.",
        ("cohort", "improvement", "can improve", "improve", "day"),
        tuple(improved),
    )
    return first, second


def _cycles(
    cycles: int,
    days: int,
    grades: Grades,
    horizon: int,
    criteria: ResponseCriteria,
    weeks: int,
) -> Callable[[ArmOutcomes], dict[Hashable, Floats]]:
    def look(outcomes: ArmOutcomes) -> dict[Hashable, Floats]:
        course, death = outcomes.course, outcomes.death_day
        every = {line: course.laboratory(line) for line in LINES}
        worst = {line: grade(grades, line, n, baseline=n[:, :1]) for line, n in every.items()}
        known = {line: found[:, 0] >= 0 for line, found in worst.items()}
        morning = np.arange(1, course.days + 1)[None, :]
        found: dict[Hashable, Floats] = {}
        for cycle in range(1, cycles + 1):
            begin = (cycle - 1) * days + 1
            alive = death >= begin
            here = (morning >= begin) & (morning < begin + days) & (morning <= death[:, None])
            found["alive", cycle] = alive.astype(np.float64)
            either = np.zeros(outcomes.n, dtype=bool)
            for line in LINES:
                low = ((worst[line] >= 3) & here).any(axis=1)
                either |= low
                found[line, cycle] = np.where(alive & known[line], low, np.nan)
            told = either | np.all([*known.values()], axis=0)
            found["either", cycle] = np.where(alive & told, either, np.nan)
        for code in (i.code for i in criteria.improvements):
            day = improvement_day(course, criteria, code, 7 * weeks)
            found[code] = np.where(day > horizon, np.where(np.isnan(day), np.nan, np.inf), day)
        day = outcomes.first_response_day("CR", "CRh", "CRi", "mCR", "PR")
        found["response"] = np.where(day > horizon, np.inf, day)
        return found

    return look
