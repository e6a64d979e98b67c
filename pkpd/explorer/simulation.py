"""What a state of the explorer shows: its schedules simulated once, in the same patients.

The parts are those of `pkpd.compare`: the same readers, patients, draws, endpoints and intervals,
so that `pkpd.compare` of the downloaded file gives the same figures. What is left out is what no
picture of the explorer shows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats, Indices
from pkpd.cards import load_grades
from pkpd.cards.trial_cards import FIRST_DOSE, clock_day_1
from pkpd.comparison import rows as table
from pkpd.comparison.curves import (
    BOUNDS,
    QUANTILES,
    CohortCurves,
    bands_of,
    doses_by_day,
    recovery_band,
)
from pkpd.comparison.delivery import not_on_time
from pkpd.comparison.lanes import CohortLook, shares_by_morning, split_thresholds
from pkpd.comparison.marrow_choice import choose_marrow
from pkpd.comparison.pairs import pair_rows, start_pairs
from pkpd.comparison.ready import Ready
from pkpd.comparison.ready_trials import ready_trials
from pkpd.comparison.results import EndpointRow, PairRow, TrialResult
from pkpd.comparison.scenario import Scenario
from pkpd.course.course import Course
from pkpd.course.joined import joined, of_draws
from pkpd.endpoints.clock import clock_days, clock_of, treatment_by_clock
from pkpd.endpoints.starts import STARTS
from pkpd.ensemble.ensemble import Treated
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.explorer.curves import Curves
from pkpd.explorer.desk import Superseded
from pkpd.explorer.state import State
from pkpd.kept_values import Kept
from pkpd.machine import cores
from pkpd.trials import Cohort, DLTRule, Trial

if TYPE_CHECKING:
    import xarray as xr


SHOWN = (
    *("dlt", "nadir", "nadir_day", "recovery_day", "grade_4", "complete_remission", "early_death"),
    *("never_low", "back_before_last_dose", "not_before_next_cycle"),
    *("platelet_transfusions", *STARTS, "days_late", "relative_dose_intensity"),
)
"""Endpoints of the tables."""


@dataclass(frozen=True)
class Explored:
    """A state, simulated.

    Attributes
    ----------
    state
        What was asked for.
    result
        Rows, pairs, and the curves of the pictures: ``counts``, ``recovered_interval``, ``split``
        and ``dose_given`` as `TrialResult` has them, at the thresholds of the rule; and ``dlt``.
        They are plain arrays (`pkpd.explorer.curves.Curves`). Where rules differ, a schedule has
        recovery at the thresholds of its own, and none at those of others.
    rule
        The rule of the first schedule.
    rules
        Schedule -> its rule.
    simulated
        Who is simulated, in words.
    assumed
        Inputs without a source by schedule, in words.
    differences
        Of each pair of schedules: the risk of the rule, and shares of patients on its day.
    dlt
        Schedule -> verdicts of the rule ``[draws, patients]``, NaN where there is none.
    draws
        Draws that every curve rests on at least. Where they are fewer than the state asks for, it
        is a sketch: curves alone, neither rows nor differences nor verdicts.
    """

    state: State
    result: TrialResult
    rule: DLTRule
    rules: Mapping[str, DLTRule]
    simulated: str
    assumed: Mapping[str, tuple[str, ...]]
    differences: tuple[PairRow, ...]
    dlt: Mapping[str, Floats]
    draws: int

    @property
    def states(self) -> list[str]:
        """What can have become of a patient, in the order of the curves."""
        return list(map(str, self.result.curves["state"].values))


def explore(
    state: State, *, sketch: bool = False, wanted: Callable[[], bool] = lambda: True
) -> Explored:
    """Simulate the schedules of a state.

    Parameters
    ----------
    state
        What is asked for.
    sketch
        Whether curves of `SKETCH_DRAWS` draws, spread evenly, will do, where at least twice as many
        would have to be simulated.
    wanted
        Whether somebody waits for it still; asked before each portion.

    Raises
    ------
    PkpdError
        If a card cannot be used, or the marrow cannot do what is asked for.
    Superseded
        If nobody waits any more.
    """
    item = ready(state)
    trial = item.trial
    sketch = sketch and state.draws >= 2 * SKETCH_DRAWS and not _simulated(state, item)
    looked = _looked(state, item, sketch, wanted)
    draws = min(found.draws for found in looked)
    rule = item.rules[0][0]
    of_cohort = {c.id: one[0] for c, one in zip(trial.cohorts, item.rules, strict=True)}
    every = zip(trial.cohorts, looked, strict=True)
    running = {cohort.id: found.running for cohort, found in every}
    attrs = {
        "patients": state.patients,
        "draws": state.draws,
        **item.attrs,
        **table.rule_attributes(
            rule, running, of_cohort, [clock_day_1(c.regimen, FIRST_DOSE) for c in trial.cohorts]
        ),
    }
    rows: list[EndpointRow] = []
    dlt: dict[str, Floats] = {}
    pairs: list[PairRow] = []
    of_states: list[PairRow] = []
    if draws == state.draws:
        rows = [row for found in looked for row in found.rows]
        dlt = {c.id: f.dlt for c, f in zip(trial.cohorts, looked, strict=True) if f.dlt is not None}
        late = {c.id: f.late for c, f in zip(trial.cohorts, looked, strict=True)}
        names = {cohort: one.name for cohort, one in of_cohort.items()}
        treated = table.treated(running, of_cohort)
        pairs = [*pair_rows(trial, (), names, dlt, treated), *start_pairs(trial, (), late)]
        of_states = [
            pair
            for words, matrices in _shares(trial, looked, of_cohort, item.ensemble.lines).items()
            for pair in pair_rows(trial, (), dict.fromkeys(matrices, words), matrices)
        ]
    result = TrialResult(
        trial=trial,
        rows=tuple(rows),
        pairs=tuple(pairs),
        curves=cast("xr.Dataset", _curves(item, looked, attrs)),  # read by name alone
        assumptions=item.assumptions,
        limits=item.limits,
    )
    assumed = {
        cohort.id: tuple(filter(None, found.assumed.split("; ")))
        for cohort, found in zip(trial.cohorts, looked, strict=True)
    }
    different = (*pairs, *of_states)
    return Explored(state, result, rule, of_cohort, item.simulated, assumed, different, dlt, draws)


SKETCH_DRAWS = 5
"""Draws of a sketch: a quarter of those that a page begins with."""
PORTIONS = 3
"""Of the draws of a schedule, for each core: the last of them end at about the same time."""
_LOOKS: Kept[_Look] = Kept(48)
_READY: Kept[Ready] = Kept(2)
_TREATED: Kept[Treated] = Kept(8)
_COURSES: Kept[Course] = Kept(1_200_000, lambda course: course.lanes * course.days)
"""About 100 MB; the courses of a page as it begins have a fifth of it."""


def _looked(state: State, item: Ready, sketch: bool, wanted: Callable[[], bool]) -> list[_Look]:
    """Simulate the schedules that have changed; of the others it is kept what they came to.

    A sketch is of the same draws for all of them, so that they can be told apart.
    """
    around = replace(item.trial, arms=())
    keys = [(around, state.drawn, cohort) for cohort in item.trial.cohorts]
    threads = cores()
    with ThreadPoolExecutor(len(keys)) as schedules, ThreadPoolExecutor(threads) as draws:

        def look(number: int) -> _Look:
            cohort = item.trial.cohorts[number]
            key = _course_key(item, cohort, state)
            treated = _TREATED.of(key, lambda: item.treated(cohort))
            course = _course(key, treated, draws, PORTIONS * threads, state, sketch, wanted)
            return _look(item, number, treated, course, draws, state)

        def looked(number: int) -> _Look:
            return look(number) if sketch else _LOOKS.of(keys[number], lambda: look(number))

        return list(schedules.map(looked, range(len(keys))))


def _simulated(state: State, item: Ready) -> bool:
    """Whether the courses of all schedules are there."""
    return all(_course_key(item, cohort, state) in _COURSES for cohort in item.trial.cohorts)


def _shares(
    trial: Trial, looked: Sequence[_Look], rules: Mapping[str, DLTRule], lines: Sequence[str]
) -> dict[str, dict[str, Floats]]:
    """Whether patients have recovered and have died by their rule's day, by schedule."""
    first, *others = {protocol_day(rules[cohort.id], cohort) for cohort in trial.cohorts}
    by = "the rule's day" if others else "the last day" if first is None else f"day {first}"
    counts = [split_thresholds(rules[cohort.id], lines) for cohort in trial.cohorts]
    alike = all(one == counts[0] for one in counts)
    lacks = "not recovered" if alike else "not recovered to the rule's counts"
    found: dict[str, dict[str, Floats]] = {}
    for words, name in ((lacks, "recovered"), ("died", "died")):
        codes = [i for i, state in enumerate(looked[0].states) if state.startswith(name)]
        if not codes:
            continue
        found[f"{words} by {by}"] = {
            c.id: (np.isin(one.now, codes) != (name == "recovered")).astype(float)
            for c, one in zip(trial.cohorts, looked, strict=True)
        }
    return found


def protocol_day(rule: DLTRule, cohort: Cohort) -> int | None:
    """Give the rule's day in a cohort's protocol days, where it counts from the first dose."""
    if rule.clock != FIRST_DOSE or rule.by_day is None:
        return None
    return clock_day_1(cohort.regimen, FIRST_DOSE) - 1 + rule.by_day


def ready(state: State) -> Ready:
    """Patients and rules of a state; those of the last are kept, as of a sketch for its whole."""
    return _READY.of((state.trial, state.drawn), lambda: _ready(state))


def _ready(state: State) -> Ready:
    scenario = Scenario(
        name=state.trial.id,
        trials=(state.trial,),
        patients=state.patients,
        draws=state.draws,
        seed=state.seed,
    )
    posterior = state.posterior
    if isinstance(posterior, Path):
        posterior = _posterior(posterior, posterior.stat().st_mtime_ns)
    (item,) = ready_trials(scenario, choose_marrow(state.marrow, scenario, posterior))
    return item


@lru_cache(maxsize=2)
def _posterior(path: Path, changed: int) -> EvidencePosterior:
    """Read a posterior once for as long as its file does not change."""
    return load_posterior(path)


@dataclass(frozen=True)
class _Look:
    """What one schedule came to under some draws; matrices are [draws, patients].

    Where they are not all draws there are no rows.
    """

    draws: int
    rows: tuple[Any, ...]
    counts: Mapping[str, Floats]
    recovered: Mapping[str, Floats]
    dosed: Mapping[str, Floats]
    split: Floats
    states: tuple[str, ...]
    dlt: Floats | None
    late: Mapping[str, Floats]
    running: Mapping[str, str]
    assumed: str
    now: NDArray[np.int8]


def _course_key(item: Ready, cohort: Cohort, state: State) -> tuple[Hashable, ...]:
    """Key of a course: all that it depends on, and not the rule, which judges it."""
    trial = replace(item.trial, arms=(), rule=None, rule_change=(), rule_is_protocols=True)
    return replace(trial, rule_note=""), cohort.medians, state.drawn, cohort.regimen


def _course(
    key: tuple[Hashable, ...],
    treated: Treated,
    pool: Executor,
    portions: int,
    state: State,
    sketch: bool,
    wanted: Callable[[], bool],
) -> Course:
    """Simulate one schedule, the draws in a pool; a rule that changes judges the same course.

    For a sketch under some draws alone, which are taken out of the course of all where it is there.
    Draws are in the order in which they were simulated, those of a sketch first.
    """
    every = np.arange(state.draws)
    some = (2 * np.arange(SKETCH_DRAWS) + 1) * state.draws // (2 * SKETCH_DRAWS)

    def portion(draws: Indices) -> Course:
        if not wanted():
            raise Superseded
        return treated.course(draws)

    def simulated(places: Indices) -> list[Course]:
        draws = np.concatenate(list(treated.chunks()))[places]
        return list(pool.map(portion, np.array_split(draws, min(portions, draws.size))))

    def begun() -> Course:
        if key in _COURSES:
            course = _COURSES.of(key, whole)
            return of_draws(course, _in_order(course)[some])
        return joined(simulated(some))

    def whole() -> Course:
        if (*key, SKETCH_DRAWS) not in _COURSES:
            return joined(simulated(every))
        first = _COURSES.of((*key, SKETCH_DRAWS), begun)
        return joined([first, *simulated(np.setdiff1d(every, some))])

    return _COURSES.of((*key, SKETCH_DRAWS), begun) if sketch else _COURSES.of(key, whole)


def _in_order(course: Course) -> Indices:
    """Places of the draws of a course, in the order of their numbers."""
    assert course.draws is not None
    return np.argsort(course.draws)


def _look(
    item: Ready, number: int, treated: Treated, course: Course, pool: Executor, state: State
) -> _Look:
    """Judge the course of one schedule; of some draws the curves alone."""
    trial, rules, cohort = item.trial, item.rules[number], item.trial.cohorts[number]
    ensemble, rule, plan = item.ensemble, rules[0], treated.plan
    draws, order = course.lanes // ensemble.patients, _in_order(course)

    def by_draw(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(draws, ensemble.patients)[order]

    bands = {n: pool.submit(bands_of, course.laboratory(n)) for n in course.mornings}
    look = CohortLook(plan, rules, load_grades(trial.grades), trial.visit_days, brief=True)
    found = (item.reader(look) if draws == state.draws else look.curves)(course)
    values = {k: v for k, v in found.values.items() if k[0] in SHOWN and k[0] != "recovery_day"}
    start = clock_days(course, clock_of(plan, rule.clock, rule.by_day)).start
    recovered: dict[str, Floats] = {}
    every = np.arange(trial.horizon_days, dtype=float)
    for line, threshold in split_thresholds(rule, ensemble.lines).items():
        key = "recovery_day", line, f">= {threshold:g}"
        values[key] = days = found.values[key]
        recovered[" ".join(key[1:])] = recovery_band(by_draw(days + start), every)
    lanes = table.CohortLanes(
        values={key: by_draw(v.astype(float)) for key, v in values.items()},
        recovered_on={},
        dlt={clock: by_draw(v) for clock, v in found.dlt.items()},
        reasons={clock: by_draw(v.astype(float)) for clock, v in found.reasons.items()},
        sensitivity=np.empty(0, np.float32),
        curves=CohortCurves(cohort.id, plan, trial.horizon_days),
        running=treatment_by_clock(plan, rules),
    )
    assumed = item.assumed(cohort)
    rows = []
    if draws == state.draws:
        rows = table.cohort_rows(trial, cohort, rules, lanes, assumed, item.predicted)
    return _Look(
        draws=draws,
        rows=tuple(item.named(row) for row in rows),
        counts={line: band.result() for line, band in bands.items()},
        recovered=recovered,
        dosed={d: v / course.lanes for d, v in doses_by_day(plan, course).items()},
        split=shares_by_morning(found.split, len(found.states)),
        states=found.states,
        dlt=lanes.dlt.get(rule.clock),
        late=not_on_time(lanes.values),
        running=lanes.running,
        assumed=assumed,
        now=by_draw(
            found.split[:, min(protocol_day(rule, cohort) or course.days, course.days - 1)]
        ),
    )


def _curves(item: Ready, looked: list[_Look], attrs: Mapping[str, Any]) -> Curves:
    """Curves of all schedules, with the names that those of a comparison have."""
    first, days = looked[0], np.arange(1, item.trial.horizon_days + 1)
    lines = list(first.counts)
    criteria = list(dict.fromkeys(name for one in looked for name in one.recovered))
    criteria.sort(key=lambda name: lines.index(name.partition(" >= ")[0]))
    drugs = list(dict.fromkeys(drug for found in looked for drug in found.dosed))
    none = np.zeros(days.size)
    unknown = np.full((len(BOUNDS), days.size), np.nan)
    bands = np.array([[one.recovered.get(name, unknown) for name in criteria] for one in looked])
    return Curves(
        {
            "counts": (
                ("cohort", "line", "quantile", "day"),
                np.array([[one.counts[line] for line in lines] for one in looked]),
            ),
            "recovered_interval": (("cohort", "criterion", "bound", "day"), bands),
            "dose_given": (
                ("cohort", "drug", "day"),
                np.array([[one.dosed.get(d, none) for d in drugs] for one in looked]).reshape(
                    len(looked), len(drugs), days.size
                ),
            ),
            "split": (("cohort", "state", "day"), np.array([one.split for one in looked])),
        },
        coords={
            "cohort": [c.id for c in item.trial.cohorts],
            "line": lines,
            "quantile": list(QUANTILES),
            "day": days,
            "criterion": criteria,
            "bound": list(BOUNDS),
            "drug": drugs,
            "state": list(first.states),
        },
        attrs=attrs,
    )
