"""What a search returns: figures of every schedule, a short list, what separates its members."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pkpd.cards.menus import Menu
from pkpd.errors import PkpdError, sentence
from pkpd.files import frame_text, together, write_netcdf, write_text
from pkpd.search.measures import Contrast
from pkpd.search.simulate import Answer
from pkpd.search.words import differences_of, first_sentence, frame_of, summary_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Schedules of a menu, what they come to, and which few are worth comparing further.

    Attributes
    ----------
    menu
        What was searched.
    answers
        By view, the first one first: the marrow that was asked, then the prior and the other
        marrow.
    objectives
        By view: measures by which schedules were compared.
    not_asked
        Views that could not answer for every schedule, with the reason.
    """

    menu: Menu
    answers: Mapping[str, Answer]
    objectives: Mapping[str, tuple[str, ...]]
    not_asked: Mapping[str, str]

    @property
    def view(self) -> str:
        """Name of the first view."""
        return next(iter(self.answers))

    @property
    def members(self) -> tuple[str, ...]:
        """Schedules, in the order of the menu."""
        return tuple(cohort.id for cohort in self.menu.members)

    @property
    def short_list(self) -> tuple[str, ...]:
        """Schedules worth comparing further, the compromise first; empty if none is allowed."""
        return self.lists[self.view]

    @cached_property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """Short list of every view."""
        menu = self.menu
        return {
            name: one.short_list(self.objectives[name], menu.limits, menu.keep)
            for name, one in self.answers.items()
        }

    def stands_for(self, member: str) -> tuple[str, ...]:
        """Name allowed schedules of the Pareto set that differ from a listed one by no margin."""
        one, names = self.answers[self.view], self.objectives[self.view]
        values = one.values(names)
        place = one.members.index(member)
        ready = one.pareto(names, self.menu.limits)
        near = []
        for i, other in enumerate(one.members):
            apart = np.abs(values[i] - values[place])
            margins = [one.measures[n].least for n in names]
            if i != place and ready[i] and bool((apart <= margins).all()):
                near.append(other)
        return tuple(near)

    def separates(self, first: str, second: str) -> dict[str, Contrast]:
        """Tell what separates two schedules: the differences that matter, by measure.

        A difference matters that is beyond the measure's margin and whose 90 % interval over draws
        lies on one side of none.
        """
        one = self.answers[self.view]
        found = {name: one.contrast(first, second, name) for name in one.measures}
        return {
            name: each
            for name, each in found.items()
            if each is not None and each.matters(one.measures[name])
        }

    # -- all numbers ----------------------------------------------------------------------------

    @property
    def dataset(self) -> xr.Dataset:
        """All numbers.

        ``figure``, ``lower``, ``upper``, ``mc_error``, ``judged`` (view, schedule, measure) and
        ``by_draw`` (view, schedule, measure, draw), freed of patient noise: nadirs are geometric
        means. ``beyond`` and ``beyond_mc_error`` (view, schedule, limit): probability over draws
        that a limit is not kept. ``allowed``, ``pareto`` (of those allowed) and ``listed`` (view,
        schedule), 0 or the place on the short list of that view. ``difference``,
        ``difference_lower``, ``_upper``, ``_mc_error`` and ``p_first_better`` (view, first, second,
        measure) of the listed schedules of the first view: first minus second, or their ratio for
        nadirs.
        """
        return self._dataset

    @cached_property
    def _dataset(self) -> xr.Dataset:
        import xarray as xr

        views, members = list(self.answers), list(self.members)
        some = {name: one for a in self.answers.values() for name, one in a.measures.items()}
        names = list(some)
        shape = (len(views), len(members), len(names))
        fields = ("mean", "lower", "upper", "mc_error", "judged")
        numbers = {field: np.full(shape, np.nan) for field in fields}
        by_draw = np.full((*shape, self.menu.draws), np.nan)
        beyond = np.full((2, len(views), len(members), len(self.menu.limits)), np.nan)
        flags = {name: np.zeros(shape[:2], dtype=bool) for name in ("allowed", "pareto")}
        listed = np.zeros(shape[:2], dtype=int)
        for v, (view, one) in enumerate(self.answers.items()):
            for m, member in enumerate(members):
                if member not in one.lanes:
                    continue
                for k, name in enumerate(names):
                    if name not in one.measures:
                        continue
                    figure = one.figures[member][name]
                    for field in fields:
                        numbers[field][v, m, k] = getattr(figure, field)
                    by_draw[v, m, k] = figure.by_draw
                for i, limit in enumerate(self.menu.limits):
                    beyond[:, v, m, i] = one.beyond(member, limit)
            there = [members.index(member) for member in one.members]
            flags["allowed"][v, there] = one.allowed(self.menu.limits)
            flags["pareto"][v, there] = one.pareto(self.objectives[view], self.menu.limits)
            for place, member in enumerate(self.lists[view], start=1):
                listed[v, members.index(member)] = place
        each = ("view", "schedule", "measure")
        return xr.Dataset(
            {
                **{"figure" if f == "mean" else f: (each, x) for f, x in numbers.items()},
                "by_draw": ((*each, "draw"), by_draw),
                "beyond": (("view", "schedule", "limit"), beyond[0]),
                "beyond_mc_error": (("view", "schedule", "limit"), beyond[1]),
                **{name: (("view", "schedule"), x) for name, x in flags.items()},
                "listed": (("view", "schedule"), listed),
                **self._contrasts(names),
            },
            coords={
                "view": views,
                "schedule": members,
                "measure": names,
                "unit": ("measure", [some[name].unit for name in names]),
                "better": ("measure", [some[name].better for name in names]),
                "draw": np.arange(self.menu.draws),
                "limit": [limit.words for limit in self.menu.limits],
                "first": list(self.short_list),
                "second": list(self.short_list),
                **{name: ("schedule", list(words)) for name, words in self.menu.axes.items()},
            },
            attrs={
                "menu": self.menu.name,
                "patients": self.menu.patients,
                "draws": self.menu.draws,
                "seed": self.menu.seed,
                "objectives": ", ".join(self.objectives[self.view]),
                **{f"simulated, {name}": one.simulated for name, one in self.answers.items()},
                **{f"not simulated, {name}": why for name, why in self.not_asked.items()},
            },
        )

    def _contrasts(self, names: list[str]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        listed = self.short_list
        fields = ("difference", "lower", "upper", "mc_error", "p_first_better")
        shape = (len(self.answers), len(listed), len(listed), len(names))
        found = {field: np.full(shape, np.nan) for field in fields}
        for v, one in enumerate(self.answers.values()):
            for a, b in itertools.permutations(range(len(listed)), 2):
                both = listed[a] in one.lanes and listed[b] in one.lanes
                for k, name in enumerate(names):
                    if name not in one.measures or not both:
                        continue
                    each = one.contrast(listed[a], listed[b], name)
                    if each is not None:
                        for field in fields:
                            found[field][v, a, b, k] = getattr(each, field)
        dims = ("view", "first", "second", "measure")
        plain = ("difference", "p_first_better")
        return {
            name if name in plain else f"difference_{name}": (dims, values)
            for name, values in found.items()
        }

    # -- for readers ----------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """One row for each view, schedule and measure."""
        return frame_of(self)

    def differences(self) -> pd.DataFrame:
        """One row for each view, pair of listed schedules and measure."""
        return differences_of(self)

    def sentence(self) -> str:
        """Tell the answer in one sentence."""
        return first_sentence(self)

    def summary(self) -> str:
        """Tell the answer: sentence, table of schedules, what separates the listed, other views."""
        return summary_of(self)

    def __repr__(self) -> str:
        """Tell the answer in a sentence."""
        return f"SearchResult({self.sentence()})"

    def _repr_html_(self) -> str:
        """Summary for notebooks."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def plot(self) -> Drawing:
        """Draw the schedules by two objectives, with intervals over draws."""
        from pkpd.search.figure import draw

        return draw(self)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``search.nc``, ``schedules.csv``, ``differences.csv`` and ``search.svg``.

        Parameters
        ----------
        folder
            Made if need be.

        Raises
        ------
        PkpdError
            If it cannot be written.
        """
        out = Path(folder)
        names = ("search.nc", "schedules.csv", "differences.csv", "search.svg")
        with together(out, last=names[0]) as stage:
            write_netcdf(stage / names[0], self.dataset)
            write_text(stage / names[1], frame_text(self.table()))
            write_text(stage / names[2], frame_text(self.differences()))
            self.plot().savefig(stage / names[3])
        return [out / name for name in names]


class NothingAllowedError(PkpdError):
    """No schedule of a menu keeps its limits.

    Attributes
    ----------
    found
        Result of the search, with the figures of every schedule and an empty short list.
    """

    def __init__(self, found: SearchResult) -> None:
        self.found = found
        super().__init__(_why_nothing(found))


def _why_nothing(found: SearchResult) -> str:
    one, limits = found.answers[found.view], found.menu.limits
    where = f"menu {found.menu.name}"
    told = " and ".join(limit.words for limit in limits)
    what = f"none of {len(found.members)} schedules keeps {told}"
    over = one.over(limits)
    nearest = int(np.argmin(over))
    if np.isinf(over[nearest]):
        unknown = next(x for x in limits if np.isnan(one.beyond(one.members[nearest], x)[0]))
        remedy = "the rule can judge nobody: take another day or rule"
        if unknown.of != "dlt":
            remedy = f"{unknown.of} is known of too few patients: limit something else"
        return sentence(where=where, what=what, remedy=remedy)
    away = [one.beyond(one.members[nearest], limit)[0] for limit in limits]
    shares = ", ".join(f"{share:.2f}" for share in away)
    beyond = [share - limit.probability for share, limit in zip(away, limits, strict=True)]
    worst = limits[int(np.argmax(beyond))]
    add = "lower doses, longer intervals or reductions"
    add = "higher doses" if worst.of == "remission" else add
    change = "raise" if worst.at_least is None else "lower"
    remedy = f"nearest is {one.members[nearest]!r} with {shares}: add {add}, or {change} the limit"
    return sentence(where=where, what=what, remedy=remedy)
