"""The marrow model as the simulator of an evidence table.

An arm of the table becomes an arm of `pkpd.leukaemia`; what its patients went through is read off
as the observables of `pkpd.evidence.table.endpoints`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import parent_process

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards import load_response_criteria
from pkpd.cards.drug_cards import load_drug_card
from pkpd.endpoints.death import early_death
from pkpd.endpoints.definitions import LEUKAEMIC
from pkpd.endpoints.dlt import DLTStatus, evaluate_rule
from pkpd.errors import DataError
from pkpd.evidence.table.arms import ArmSeen, ArmToSimulate, SimulatedArm, pooled
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.schedule import DrugDoses, Schedule
from pkpd.leukaemia.arm_outcomes import PreparedArms, population_outcomes
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import (
    Theta,
    default_theta,
    leukaemia_cards,
    response_criteria,
)
from pkpd.leukaemia.patients import who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.variants import Variant
from pkpd.schedule import Course, Criterion, DoseModification, DoseRule, Gate, Regimen
from pkpd.trials import DLTRule, ResponseCriteria

STEPS_PER_DAY = 4
"""Steps of 6 h. Against steps of 4 h, at the median and five draws of the prior, a term of the
shipped table changes by 0.03 (root mean square) and the total by up to 0.5; with other simulated
patients a term changes by 0.2 (median SD) and the total by 2 to 8."""

HORIZON_DAYS = 84  # of a single course: published ranges of recovery end at day 78
FEWEST = 32  # patients of a dose level
_ROUTES = {"IV": "iv", "CI": "iv", "SC": "sc", "PO": "oral"}
_NEXT_CYCLE = {"neutrophils": 1.0, "platelets": 50.0}
_UNITS = {"mg": "mg", "mg/m2": "mg/m^2", "mg/kg": "mg/kg", "units": "mg", "units/m2": "mg/m^2"}
_CODES = {
    "CR": ("CR",),
    "CRi": ("CRh", "CRi", "mCR"),
    "CRm": ("CR", "CRh", "CRi", "mCR", "MLFS"),
    "CR_CRi": ("CR", "CRh", "CRi", "mCR"),
    "PR_CR": ("CR", "PR"),
    "ORR": ("CR", "CRh", "CRi", "mCR", "PR"),
}


def regimen_of(schedule: Schedule, cycles: int, cycle_days: int, disease: str) -> Regimen | None:
    """Regimen of a schedule of one dose level.

    Courses of several cycles are held and reduced as the card of their drug says that trials do
    which print no rule of their own (``[holds]``); later cycles of other drugs wait for neutrophils
    of 1.0 and platelets of 50. Single trials differ.
    """
    if not schedule.drugs:
        return None
    rules = tuple(rule for entry in schedule.drugs for rule in _doses(entry))
    length = max(cycle_days, schedule.last_day) if cycles > 1 else schedule.last_day
    changes: tuple[DoseModification, ...] = ()
    gate = None
    if cycles > 1:
        if not any(load_drug_card(rule.drug).holds for rule in rules):
            gate = Gate(_criteria_of(_NEXT_CYCLE), max_wait_days=28)
        held = [change for rule in rules if (change := _held(rule, disease)) is not None]
        changes = tuple(held[-1:])
    course = Course("treatment", rules, length, cycles, between=gate, modifications=changes)
    return Regimen((course,))


def _held(rule: DoseRule, disease: str) -> DoseModification | None:
    """How doses of a drug are held and reduced, if its card says so of a disease."""
    holds = load_drug_card(rule.drug).holds
    below = dict(holds.below_for(leukaemia_cards().chain(disease))) if holds else {}
    if holds is None or not any(below.values()):
        return None
    lower = tuple(level for level in holds.levels_mg if level < rule.amount)
    return DoseModification(
        rule.drug,
        _criteria_of(below),
        _criteria_of({line: max(below[line], at) for line, at in holds.resume_at}),
        lower,
        reduce_on_resume=bool(lower),
    )


def _criteria_of(counts: Mapping[str, float]) -> tuple[Criterion, ...]:
    return tuple(Criterion(line, count) for line, count in counts.items())


def _second(schedule: Schedule, day: int) -> Course:
    rules = tuple(rule for entry in schedule.drugs for rule in _doses(entry))
    return Course("reinduction", rules, schedule.last_day, start_day=day)


def _doses(entry: DrugDoses) -> list[DoseRule]:
    """Doses of a drug, evenly over the day if there are several."""
    return [_dose(entry, 24.0 * i / entry.times_a_day) for i in range(entry.times_a_day)]


def _dose(entry: DrugDoses, hour: float) -> DoseRule:
    return DoseRule(
        drug=entry.drug,
        amount=entry.levels[0],
        unit=_UNITS[entry.unit],
        days=entry.days,
        route=_ROUTES[entry.route],
        duration_h=entry.hours if entry.route in ("IV", "CI") else 0.0,
        hour=hour,
    )


def arm_of(arm: ArmToSimulate, schedule: Schedule, name: str) -> Arm:
    """Arm of the marrow model, for one dose level of a schedule."""
    population = arm.population
    regimen = regimen_of(schedule, arm.cycles, arm.cycle_days, population.disease)
    if arm.cycles > 1:
        horizon = arm.cycles * arm.cycle_days
    else:
        horizon = max(HORIZON_DAYS, schedule.last_day + 28)
    only_if: tuple[float, ...] = ()
    if regimen is not None and arm.reinduction is not None:
        regimen = Regimen((*regimen.courses, _second(arm.reinduction, arm.reinduction_day)))
        only_if = (0.0, 5.0)
        horizon += arm.reinduction_day - 1
    return Arm(
        name=name,
        schedule=ArmSchedule(regimen, horizon_days=horizon, only_if_blasts_from=only_if),
        disease=population.disease,
        age=population.age,
        least_neutrophils=population.least_neutrophils,
        least_platelets=population.least_platelets,
    )


class MarrowSimulator:
    """Simulate all arms of a table with the marrow model.

    Parameters
    ----------
    arms
        Arms by key (`EvidenceLikelihood.arms`, or :func:`pkpd.evidence.table.arms.arms_of`).
    n
        Patients per arm, one number or by key; those of a dose-finding arm are divided among its
        levels.
    seed
        Of the patients' random scores; the same at all parameters.
    variant
        Mechanisms of the marrow model.
    threads
        Arms simulated side by side; by default on all cores, in a worker process one after the
        other, since the other processes have the other cores.
    steps_per_day
        As `pkpd.leukaemia.simulate.simulate`; see `STEPS_PER_DAY`.
    """

    def __init__(
        self,
        arms: Mapping[str, ArmToSimulate],
        n: int | Mapping[str, int] = 512,
        seed: int = 1,
        variant: Variant | None = None,
        threads: int | None = None,
        steps_per_day: int = STEPS_PER_DAY,
    ) -> None:
        self.seed = seed
        self.variant = variant or Variant()
        self.threads = 1 if threads is None and parent_process() is not None else threads
        self.steps_per_day = steps_per_day
        self._defaults = default_theta()
        self._parts: list[tuple[str, float, Arm, int]] = []
        seen_days = []
        for key, arm in arms.items():
            levels = arm.schedule.at_levels()
            own = n if isinstance(n, int) else n[key]
            for index, (share, schedule) in enumerate(levels):
                name = key if len(levels) == 1 else f"{key} level {index + 1}"
                patients = own if len(levels) == 1 else max(round(own * share), FEWEST)
                made = arm_of(arm, schedule, name)
                self._parts.append((key, share, made, patients))
                seen_days.append(days_seen(arm.observables, made.schedule.horizon_days))
        self._sources = [who(arm, patients, seed, arm.name) for _, _, arm, patients in self._parts]
        shortened = [
            replace(arm, schedule=replace(arm.schedule, horizon_days=days))
            for (_, _, arm, _), days in zip(self._parts, seen_days, strict=True)
        ]
        self._prepared = PreparedArms(shortened, self._sources, self.variant, steps_per_day)

    def __call__(self, theta: Theta) -> dict[str, ArmSeen]:
        """Simulate every arm at one set of parameters."""
        full = {**self._defaults, **theta}
        every = self._prepared.outcomes(full, self.threads)
        by_key: dict[str, list[tuple[float, ArmSeen]]] = {}
        for index, ((key, share, _, _), outcomes) in enumerate(
            zip(self._parts, every, strict=True)
        ):
            arm = SimulatedArm(
                np.ones(outcomes.n),
                partial(self._look, index, full, outcomes),
                outcomes.course.trace,
            )
            by_key.setdefault(key, []).append((share, arm))
        return {key: pooled(parts) for key, parts in by_key.items()}

    def _look(self, index: int, theta: Theta, outcomes: ArmOutcomes, what: Observable) -> Floats:
        arm, patients = self._parts[index][2:]
        if days_seen((what,), arm.schedule.horizon_days) > outcomes.horizon_days:
            # nobody said that this would be asked: simulate the days left out
            outcomes = population_outcomes(
                arm, theta, patients, source=self._sources[index], variant=self.variant,
                steps_per_day=self.steps_per_day, threads=self.threads,
            )  # fmt: skip
        return observe(outcomes, what)


def days_seen(observables: Iterable[Observable], horizon: int) -> int:
    """Days of an arm, of its horizon, that observables depend on; all if no observable is given.

    Counts at the start need one day. A death by a day and a delay at a day need no day after the
    next one. Everything else (responses, recoveries, lowest counts) may come at any time.
    """
    days = 0
    for what in observables:
        if what.kind in ("death", "delayed"):
            days = max(days, int(min(what.day + 1, horizon)))
        else:
            days = max(days, 1 if what.kind.startswith("baseline") else horizon)
    return days or horizon


def observe(outcomes: ArmOutcomes, what: Observable) -> Floats:
    """Value of an observable in each patient, ``[N]``; ``nan`` where the patient does not count."""
    kind, line = what.kind, what.line
    if kind == "response":
        return _responded(outcomes, what.code).astype(np.float64)
    if kind == "response_day":
        day = outcomes.first_response_day(*_CODES[what.code])
        return np.where(_responded(outcomes, what.code), day, np.inf)
    if kind == "death":
        return early_death(outcomes.course, what.day)
    if kind == "died":
        return _died(outcomes, what.day)
    if kind == "recovery_day":
        day = outcomes.recovery_day[line, what.thresholds[0]]
        return np.where(_free_of_leukaemia(outcomes), day, np.nan)
    if kind == "delayed":
        return _delayed(outcomes, what)
    if kind == "grade":
        return _below(outcomes.nadir, what)
    if kind == "baseline_grade":
        return _below(outcomes.baseline, what)
    if kind == "baseline":
        return outcomes.baseline[line]
    if kind == "low_days":
        return outcomes.longest_below[line, what.thresholds[0]]
    if kind == "fever":
        return outcomes.days_below[line, what.thresholds[0]]
    if kind == "low_run":
        neutrophils, platelets = what.thresholds
        run = np.maximum(
            outcomes.longest_below["neutrophils", neutrophils],
            outcomes.longest_below["platelets", platelets],
        )
        return (run >= what.day).astype(np.float64)
    raise DataError(where=f"observable {kind}", what="the marrow model does not give it")


def _died(outcomes: ArmOutcomes, day: float) -> Floats:
    """Whether each patient dies by a day: `early_death` is the mean of many such fates.

    Who responds has a fate as well. Of those without a response many are so because they died;
    their mean probability of death would be that of all.
    """
    end = min(day, outcomes.horizon_days - 1.0)
    return (outcomes.death_day < end + 1.0).astype(np.float64)


def _delayed(outcomes: ArmOutcomes, what: Observable) -> Floats:
    """Delayed recovery as publications count it, of those alive.

    Of all patients leukaemia is no delay: a verdict of `pkpd.endpoints.dlt` leaves patients with
    leukaemia out, the denominators of most published rows hold them. Rows of patients ``cleared``
    of leukaemia leave them out, too.
    """
    found = evaluate_rule(delay_rule(what.thresholds, int(what.day)), outcomes.course)
    if what.among == "cleared":
        return found.outcome
    return np.where(found.status == DLTStatus.LEUKAEMIA, 0.0, found.outcome)


def _responded(outcomes: ArmOutcomes, code: str) -> NDArray[np.bool_]:
    if code == "CRp":
        # neutrophils are back, platelets are not
        day = outcomes.recovery_day["neutrophils", 1.0]
        return outcomes.responded(*_CODES["CRi"]) & ~np.isinf(day)
    found = outcomes.responded(*_CODES[code])
    if code == "ORR":
        criteria, improvements = response_criteria(outcomes.disease)
        for improvement in improvements:
            found = found | outcomes.improved(_criteria(criteria), improvement)
    return found


def _free_of_leukaemia(outcomes: ArmOutcomes) -> NDArray[np.bool_]:
    """Patients whose recovery is reported: responders, and those without leukaemia at start."""
    if outcomes.course.marrow_blasts is None:  # of a marrow that has none
        return np.ones(outcomes.n, dtype=np.bool_)
    at_start = outcomes.baseline["marrow_blasts"] < LEUKAEMIC
    return at_start | outcomes.responded(*_CODES["CRm"])


def _below(counts: Mapping[str, Floats], what: Observable) -> Floats:
    if what.line == "any":
        low = (counts["neutrophils"] < what.thresholds[0]) | (
            counts["platelets"] < what.thresholds[1]
        )
    else:
        low = counts[what.line] < what.thresholds[0]
    return low.astype(np.float64)


@lru_cache(maxsize=32)
def delay_rule(thresholds: tuple[float, ...], day: int) -> DLTRule:
    """Rule of a delay: neutrophils and platelets (10^9/L) not both recovered by a day."""
    return DLTRule(
        name="delayed recovery",
        criteria=(
            Criterion("neutrophils", thresholds[0]),
            Criterion("platelets", thresholds[1]),
        ),
        by_day=day,
    )


@lru_cache(maxsize=8)
def _criteria(name: str) -> ResponseCriteria:
    return load_response_criteria(name)
