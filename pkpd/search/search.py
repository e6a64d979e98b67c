"""Search over a menu of schedules: simulate all, keep those within the limits, list a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pkpd.arguments import (
    CALLABLE,
    MAPPING,
    NAMES,
    NONE,
    NUMBER,
    PATH,
    TEXT,
    a,
    check_arguments,
    from_to,
    several,
)
from pkpd.cards.menu_cards import load_menu
from pkpd.cards.menus import (
    DOSE,
    MEASURES,
    Limit,
    Measure,
    Menu,
    check_objectives,
    menu_of,
)
from pkpd.cards.trial_drugs import without_card
from pkpd.cluster import workers
from pkpd.ensemble.fitted_drugs import drugs_of_fit
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.fitting.draws import Fitted
from pkpd.machine import cores
from pkpd.schedule import Regimen
from pkpd.search.measures import dose_measures, every_measure
from pkpd.search.result import NothingAllowedError, SearchResult
from pkpd.search.simulate import (
    FIT,
    WITHOUT,
    Answer,
    OnProgress,
    answer,
    check_size,
    objectives_in,
    plans_of,
    resized,
    views_of,
)


def search_schedules(
    menu: str | Path | Menu | Mapping[str, Regimen],
    *,
    population: str | None = None,
    rule: str | None = None,
    until_day: int | None = None,
    limits: Sequence[Limit] | None = None,
    probability: float | None = None,
    objectives: Sequence[str] | None = None,
    keep: int | None = None,
    patients: int | None = None,
    draws: int | None = None,
    seed: int | None = None,
    marrow: str | None = None,
    posterior: EvidencePosterior | Fitted | str | Path | None = None,
    repeat: bool = True,
    on_progress: OnProgress | None = None,
    threads: int | None = None,
    cluster: str | None = None,
) -> SearchResult:
    """Find the schedules of a menu that keep a risk limit and are worth comparing further.

    Every schedule meets the same patients and the same draws of what is not known, so that
    differences between schedules are paired. Of those that keep the limits, a short list stands for
    the Pareto set; no single optimum is told. The answer is repeated under the prior and in the
    other marrow.

    Parameters
    ----------
    menu
        Menu or schedule file, name of a shipped trial, a `Menu`, or regimens by name; the last need
        the next three.
    population, rule, until_day
        Cards of the patients and of the count rule, and the last day, where regimens are given.
    limits
        In place of the menu's; by default ``Pr(P(DLT) > 0.25) <= 0.25``.
    probability
        Most probability, over draws, that a limit is not kept, in place of each limit's own.
    objectives
        Measures that make a schedule better than another, in place of the menu's
        (`pkpd.search.MEASURES`, and ``"dose"`` for the dose intensity of every drug).
    keep
        Most schedules of the short list.
    patients, draws, seed
        Size of the simulation and seed of all random numbers; the menu's own if not given.
    marrow, posterior
        Who answers first, as of `pkpd.compare`.
    repeat
        Whether the answer is repeated under the prior and in the other marrow.
    on_progress
        Called as work proceeds (``done, total, text``).
    threads
        At most so many; all cores by default.
    cluster
        Address of a Dask scheduler whose workers simulate, or ``"local"``, as of `pkpd.compare`.

    Returns
    -------
    SearchResult

    Raises
    ------
    NothingAllowedError
        If no schedule keeps the limits; its ``found`` has all figures.
    PkpdError
        Bad input, in one sentence, before anything is simulated; after the first view, where no
        schedule of the menu has the measure of an objective or a limit.
    """
    whole = from_to(1) | NONE
    check_arguments(
        "search_schedules",
        menu=(menu, PATH | a(Menu) | MAPPING),
        limits=(limits, several(a(Limit), "a list of Limit") | NONE),
        objectives=(objectives, NAMES | NONE),
        keep=(keep, whole),
        patients=(patients, from_to(2) | NONE),
        draws=(draws, from_to(2) | NONE),
        seed=(seed, from_to(0) | NONE),
        until_day=(until_day, whole),
        probability=(probability, NUMBER | NONE),
        on_progress=(on_progress, CALLABLE | NONE),
        threads=(threads, whole),
        cluster=(cluster, TEXT | NONE),
    )
    with without_card(drugs_of_fit(posterior)):
        chosen = resized(_menu(menu, population, rule, until_day), patients, draws, seed)
    if objectives is not None:
        check_objectives(objectives)
    chosen = replace(
        chosen,
        limits=_limits(chosen, limits, probability),
        objectives=chosen.objectives if objectives is None else tuple(objectives),
        keep=chosen.keep if keep is None else keep,
    )
    check_size(chosen)
    if on_progress is not None:
        on_progress(0.0, float(len(chosen.members)), "making patients ready")
    views = views_of(chosen, marrow, posterior, repeat)
    _check_marrow(chosen, views[0].name)
    plans = plans_of(chosen)
    doses = dose_measures(list(plans.values()))
    measures = every_measure(doses)
    able = [view for view in views if view.ready]
    sizes = [sum(len(item.trial.cohorts) for item in view.ready) for view in able]
    total = float(sum(sizes))
    answers = {}
    threads = threads or cores()
    with workers(cluster, threads) as spread:
        for number, view in enumerate(able):
            before = sum(sizes[:number])

            def tell(done: int, name: str, before: int = before, who: str = view.name) -> None:
                if on_progress is not None:
                    on_progress(float(before + done), total, f"{who}: {name}")

            found = answer(view, plans, measures, doses, threads, spread, tell)
            if not answers:
                _check_measured(chosen, found, doses)
            answers[view.name] = found
    if on_progress is not None:
        on_progress(total, total, "summing up")
    result = SearchResult(
        menu=chosen,
        answers=answers,
        objectives={
            name: tuple(objectives_in(one, chosen.objectives, doses))
            for name, one in answers.items()
        },
        not_asked={view.name: view.why_not for view in views if view.why_not},
    )
    if not result.short_list:
        raise NothingAllowedError(result)
    return result


def _menu(
    menu: str | Path | Menu | Mapping[str, Regimen],
    population: str | None,
    rule: str | None,
    until_day: int | None,
) -> Menu:
    needed = {"population": population, "rule": rule, "until_day": until_day}
    if isinstance(menu, Mapping):
        named = {f"menu, {name}": (value, a(Regimen)) for name, value in menu.items()}
        check_arguments("search_schedules", **named)
        for name, value in needed.items():
            if value is None:
                what = "it is missing, and regimens alone do not tell it"
                raise PkpdError(where=f"search_schedules, {name}", what=what)
        assert population is not None
        assert rule is not None
        assert until_day is not None
        return menu_of(menu, population, rule, until_day)
    for name, value in needed.items():
        if value is not None:
            what = "it is given, and the menu has its own"
            remedy = "leave it out"
            raise PkpdError(where=f"search_schedules, {name}", what=what, remedy=remedy)
    return menu if isinstance(menu, Menu) else load_menu(menu)


_OF_LEUKAEMIA = {WITHOUT: ("remission", "death"), FIT: ("remission",)}
"""Measures that a marrow does not have."""


def _limits(
    menu: Menu, limits: Sequence[Limit] | None, probability: float | None
) -> tuple[Limit, ...]:
    """Limits in force."""
    found = menu.limits if limits is None else tuple(limits)
    if probability is None:
        return found
    return tuple(replace(limit, probability=probability) for limit in found)


def _check_marrow(menu: Menu, view: str) -> None:
    """Refuse limits of what the answering marrow does not have, and no other objectives."""
    lacks = _OF_LEUKAEMIA.get(view, ())
    what = f"the marrow that answers ({view}) has none"
    for limit in menu.limits:
        if limit.of in lacks:
            remedy = "limit something else, or ask the marrow with leukaemia"
            raise PkpdError(where=f"limit of {limit.of}", what=what, remedy=remedy)
    if set(menu.objectives) <= set(lacks):
        where = f"objectives, {' and '.join(menu.objectives)}"
        remedy = "name another objective, or ask the marrow with leukaemia"
        raise PkpdError(where=where, what=what, remedy=remedy)


def _check_measured(menu: Menu, found: Answer, doses: Sequence[Measure]) -> None:
    """Refuse limits and objectives of what no schedule of the menu has."""
    what = "no schedule of the menu has a figure of it"
    there = [name for name in MEASURES if name in found.measures]
    for limit in menu.limits:
        if limit.of not in there:
            where = f"limit of {limit.of}"
            raise PkpdError(where=where, what=what, allowed=", ".join(there))
    allowed = found.allowed(menu.limits).any()
    if allowed and not objectives_in(found, menu.objectives, doses):
        where = f"objectives, {' and '.join(menu.objectives)}"
        known = [n for n in (*there, DOSE) if objectives_in(found, (n,), doses)]
        raise PkpdError(where=where, what=what, allowed=", ".join(known))
