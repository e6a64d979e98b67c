"""Every schedule of a menu in the same patients and draws, in one marrow or in several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats, Indices
from pkpd.cards import load_grades
from pkpd.cards.drug_actions import FRIBERG, LEUKAEMIA
from pkpd.cards.menus import Limit, Measure, Menu
from pkpd.cluster import Workers
from pkpd.comparison.lanes import CohortLook
from pkpd.comparison.learned_trial import learned_trial
from pkpd.comparison.marrow_choice import Choice, choose_marrow
from pkpd.comparison.ready import Ready
from pkpd.comparison.ready_trials import ready_trials
from pkpd.comparison.scenario import Scenario, Variant
from pkpd.course.course import Course
from pkpd.ensemble.ensemble import courses
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.fitting.draws import Fitted
from pkpd.search.choice import beyond_limit, pareto, short_list
from pkpd.search.measures import (
    Contrast,
    Figure,
    Lanes,
    Planned,
    contrast,
    figure,
    lanes_of,
    planned,
)

OnProgress = Callable[[float, float, str], None]

LEARNED, PRIOR, WITHOUT, FIT = "posterior", "prior", "without leukaemia", "fit"
"""Names of the answers: by the learned posterior, by what was believed before, by the marrow
without leukaemia, by a fit."""

MOST_LANES = 10_000_000
"""Schedules times draws times patients; their figures are kept, some 40 bytes for each lane."""


@dataclass(frozen=True)
class View:
    """Who answers: patients and draws in one marrow.

    Attributes
    ----------
    name
        One of the names above.
    ready
        Trials of the menu that it can answer for, with their patients.
    why_not
        Why it cannot answer for others; empty if it can for all.
    """

    name: str
    ready: tuple[Ready, ...]
    why_not: str = ""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one view says of every schedule.

    Attributes
    ----------
    name
        Of the view.
    measures
        Measures by name, those that nobody has left out.
    lanes : schedule -> measure -> float32[M, N]
        One number of every lane.
    simulated
        Who is simulated, in words.
    """

    name: str
    measures: Mapping[str, Measure]
    lanes: Mapping[str, Mapping[str, Lanes]]
    simulated: str = ""
    _beyond: dict[tuple[str, Limit], tuple[float, float]] = field(default_factory=dict, repr=False)

    @property
    def members(self) -> tuple[str, ...]:
        """Schedules."""
        return tuple(self.lanes)

    @cached_property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """Figures by schedule and measure."""
        return {
            member: {name: figure(measure, lanes[name]) for name, measure in self.measures.items()}
            for member, lanes in self.lanes.items()
        }

    def contrast(self, first: str, second: str, measure: str) -> Contrast | None:
        """Compare two schedules in the same patients and draws; ``None`` if one is not here."""
        if first not in self.lanes or second not in self.lanes:
            return None
        lanes = (self.lanes[member][measure] for member in (first, second))
        return contrast(self.measures[measure], *lanes)

    def beyond(self, member: str, limit: Limit) -> tuple[float, float]:
        """Probability over draws that a figure lies beyond a limit, and its Monte Carlo error."""
        key = member, limit
        if key not in self._beyond:
            self._beyond[key] = self._judge(member, limit)
        return self._beyond[key]

    def _judge(self, member: str, limit: Limit) -> tuple[float, float]:
        if limit.of not in self.measures:
            return np.nan, np.nan
        found = self.figures[member][limit.of]
        return beyond_limit(found.by_draw, limit.at_most, limit.at_least, found.shift_error)

    def allowed(self, limits: Sequence[Limit]) -> NDArray[np.bool_]:
        """Whether each schedule keeps the limits of measures that there are, ``[S]``."""
        mine = [limit for limit in limits if limit.of in self.measures]
        shares = np.array([[self.beyond(m, limit)[0] for limit in mine] for m in self.members])
        most = np.array([limit.probability for limit in mine])
        if not mine:
            return np.ones(len(self.members), dtype=bool)
        return np.asarray((shares <= most + 1e-12).all(axis=1))

    def over(self, limits: Sequence[Limit]) -> Floats:
        """How far each schedule is beyond the limits' probabilities, at most; infinite: not known.

        The lower, the nearer a schedule is to be allowed, ``[S]``.
        """
        mine = [limit for limit in limits if limit.of in self.measures]
        shares = [[self.beyond(m, one)[0] - one.probability for one in mine] for m in self.members]
        most = np.nan_to_num(np.array(shares), nan=np.inf).reshape(len(self.members), len(mine))
        return np.asarray(most.max(axis=1, initial=-np.inf))

    def values(self, objectives: Sequence[str]) -> Floats:
        """Objectives of the schedules, ``[S, K]``; logs where a measure is compared by ratio."""
        out = np.array([[self.figures[m][o].mean for o in objectives] for m in self.members])
        for k, name in enumerate(objectives):
            if self.measures[name].ratio:
                out[:, k] = np.log(out[:, k])
        return out

    def pareto(self, objectives: Sequence[str], limits: Sequence[Limit]) -> NDArray[np.bool_]:
        """Schedules of the Pareto set of those allowed, ``[S]``."""
        better = [self.measures[o].better for o in objectives]
        front = self.allowed(limits)
        front[front] = pareto(self.values(objectives)[front], better)
        return front

    def short_list(
        self, objectives: Sequence[str], limits: Sequence[Limit], keep: int
    ) -> tuple[str, ...]:
        """Few schedules that stand for the Pareto set of those allowed, the compromise first."""
        of = [self.measures[o] for o in objectives]
        places = short_list(
            self.values(objectives),
            [m.better for m in of],
            [m.least for m in of],
            self.allowed(limits),
            keep,
            self.members,
        )
        return tuple(self.members[i] for i in places)


def views_of(
    menu: Menu,
    marrow: str | None,
    posterior: EvidencePosterior | Fitted | str | object | None,
    repeat: bool,
) -> tuple[View, ...]:
    """Who answers: the marrow asked for first, then the prior and the other marrow.

    Parameters
    ----------
    menu
        The menu.
    marrow, posterior
        As of `pkpd.compare`.
    repeat
        Whether others than the first answer, too.

    Raises
    ------
    PkpdError
        If the first cannot answer.
    """
    scenario = scenario_of(menu)
    choice = choose_marrow(marrow or menu.marrow, scenario, posterior)  # pyright: ignore
    first = _name(choice)
    found = [View(first, tuple(ready_trials(scenario, choice)))]
    if not repeat:
        return tuple(found)
    learned = choice.posterior
    if first != LEARNED:
        found.append(_other(LEARNED, scenario, LEUKAEMIA))
        learned = _posterior_of(scenario) if found[-1].ready else None
    if learned is not None:
        found.append(View(PRIOR, _of_prior(scenario, learned)))
    if first != WITHOUT:
        found.append(_other(WITHOUT, scenario, FRIBERG))
    return tuple(found)


def scenario_of(menu: Menu) -> Scenario:
    """Menu as what a comparison runs."""
    return Scenario(
        name=menu.name,
        trials=menu.trials,
        patients=menu.patients,
        draws=menu.draws,
        seed=menu.seed,
    )


def _name(choice: Choice) -> str:
    if choice.fitted is not None:
        return FIT
    return LEARNED if choice.marrow == LEUKAEMIA else WITHOUT


def _other(name: str, scenario: Scenario, marrow: str) -> View:
    """Another marrow, for the trials of which it can answer."""
    ready: list[Ready] = []
    why = ""
    for trial in scenario.trials:
        alone = replace(scenario, trials=(trial,))
        try:
            found = ready_trials(alone, choose_marrow(marrow, alone))
            for item in found:
                for cohort in item.trial.cohorts:
                    item.treated(cohort)
        except PkpdError as error:
            why = str(error)
        else:
            ready += found
    return View(name, tuple(ready), why)


def _posterior_of(scenario: Scenario) -> EvidencePosterior | None:
    return choose_marrow(LEUKAEMIA, scenario).posterior


def _of_prior(scenario: Scenario, posterior: EvidencePosterior) -> tuple[Ready, ...]:
    """Patients of the marrow with leukaemia under draws of its prior."""
    prior = marrow_prior(variant=posterior.structure)
    rng = np.random.default_rng(scenario.seed)
    thetas = [prior.theta(z) for z in prior.draw(scenario.draws, rng)]
    return tuple(
        learned_trial(scenario, Variant(), trial, posterior, thetas, with_questions=False)
        for trial in scenario.trials
    )


def check_size(menu: Menu) -> None:
    """Refuse more lanes than are kept.

    Raises
    ------
    PkpdError
        Naming the numbers and what would do.
    """
    lanes = len(menu.members) * menu.patients * menu.draws
    if lanes > MOST_LANES:
        what = (
            f"{len(menu.members)} schedules of {menu.patients:,} patients under {menu.draws:,} "
            f"draws are {lanes:,} lanes"
        )
        raise PkpdError(
            where=f"menu {menu.name}",
            what=what,
            allowed=f"at most {MOST_LANES:,}",
            remedy="200 patients and 50 draws are enough for a short list; compare that with "
            "pkpd compare",
        )


def plans_of(menu: Menu) -> dict[str, Planned]:
    """Planned amounts of every schedule."""
    return {cohort.id: planned(cohort.regimen, menu.horizon_days) for cohort in menu.members}


def answer(
    view: View,
    plans: Mapping[str, Planned],
    measures: Mapping[str, Measure],
    doses: Sequence[Measure],
    threads: int,
    workers: Workers | None,
    on_schedule: Callable[[int, str], None],
) -> Answer:
    """Simulate every schedule under one view.

    Parameters
    ----------
    view
        Who answers.
    plans, measures, doses
        Planned amounts by schedule; all measures, and those of dose intensity.
    threads
        At most so many.
    workers
        Of a cluster, in place of threads.
    on_schedule
        Called with the number of schedules done and the name of the next.
    """
    kept: dict[str, dict[str, Lanes]] = {}
    for item in view.ready:
        for cohort, rules in zip(item.trial.cohorts, item.rules, strict=True):
            on_schedule(len(kept), cohort.id)
            treated = item.treated(cohort)
            look = CohortLook(
                treated.plan, rules, load_grades(item.trial.grades), item.trial.visit_days
            )
            read = item.reader(look)
            shape = (item.ensemble.draws, item.ensemble.patients)
            store: dict[str, Lanes] = {}

            def one(
                draws: Indices,
                course: Course,
                read: Callable = read,
                clock: str = rules[0].clock,
                plan: Planned = plans[cohort.id],
            ) -> tuple[Indices, dict[str, Lanes]]:
                return draws, lanes_of(read(course), course, clock, plan, doses)

            for draws, found in courses(treated, one, threads, workers):
                for name, values in found.items():
                    matrix = store.setdefault(name, np.full(shape, np.nan, dtype=np.float32))
                    matrix[draws] = values.reshape(len(draws), -1)
            kept[cohort.id] = store
    there = {name for store in kept.values() for name in store}
    if "late_start" in there:
        # nothing is late where nothing waits, and what waits beyond the days simulated is not known
        for name, store in kept.items():
            courses_of = plans[name].regimen.courses
            waits = any(c.gate or (c.between and c.cycles > 1) for c in courses_of)
            of_all = np.full_like(store["days_low"], np.nan if waits else 0.0)
            store.setdefault("late_start", of_all)
    mine = {name: one for name, one in measures.items() if name in there}
    return Answer(view.name, mine, kept, view.ready[0].simulated)


def objectives_in(found: Answer, wanted: Sequence[str], doses: Sequence[Measure]) -> list[str]:
    """Objectives that a view has, ``"dose"`` written out; those that are alike in all left out."""
    names: list[str] = []
    for name in wanted:
        names += [one.name for one in doses] if name == "dose" else [name]
    names = [name for name in dict.fromkeys(names) if name in found.measures]
    values = found.values(names) if names else np.empty((len(found.members), 0))
    known = [n for k, n in enumerate(names) if np.isfinite(values[:, k]).any()]
    differ = [
        name
        for k, name in enumerate(names)
        if name in known and len(np.unique(values[np.isfinite(values[:, k]), k])) > 1
    ]
    return differ or known


def resized(menu: Menu, patients: int | None, draws: int | None, seed: int | None) -> Menu:
    """Menu with another size of the simulation."""
    given = {"patients": patients, "draws": draws, "seed": seed}
    return replace(menu, **{key: value for key, value in given.items() if value is not None})
