"""Menus: schedules to choose from, as rows of a schedule file, as a grid, or as both.

A menu file is a schedule file with ``kind = "menu"``. Its members are its cohorts;
``[grid.<name>]`` puts every combination of values of doses and courses in the place of each.
``models/SCHEMA.md`` lists the keys.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pkpd.cards.drug_actions import MARROWS
from pkpd.cards.files import find_card, nearest_of
from pkpd.cards.kinds import check_command
from pkpd.cards.menus import (
    MEASURES,
    MOST_MEMBERS,
    OBJECTIVES,
    USUAL_LIMIT,
    Limit,
    Menu,
    check_objectives,
    too_many,
)
from pkpd.cards.schedule_cards import NO_GATE, read_course, read_dose
from pkpd.cards.tables import Table, read_toml, reading_instead
from pkpd.cards.trial_cards import load_trial
from pkpd.errors import CardError
from pkpd.trials import Arm, Trial

GROWTH_FACTOR = "growth_factor"
_GIVEN = "given"


def load_menu(name: str | Path) -> Menu:
    """Read a menu file; a schedule file or trial is a menu of its cohorts.

    Parameters
    ----------
    name
        Path of a ``.toml`` file, or name of a shipped trial.

    Raises
    ------
    CardError
        One sentence naming file, table, key and remedy.
    """
    path = find_card("trials", name)
    root = read_toml(path)
    check_command(root, "pkpd search")
    file = Path(str(path))
    if root.data.get("kind", "trial") != "menu":
        trial = load_trial(name)
        return Menu(name=trial.id, title=trial.title, trials=(trial,), notes=trial.assumptions)
    return _Reader(root, file).menu()


_OWN = ("grid", "limit", "objectives", "keep", "patients", "draws", "seed", "marrow")


@dataclass(frozen=True)
class _Axis:
    """One axis of a grid."""

    table: str
    key: str
    values: tuple[Any, ...]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.table}.{self.key}"


class _Reader:
    """Reads one menu file: its own keys here, all others as a schedule file."""

    def __init__(self, root: Table, path: Path) -> None:
        self.root, self.path = root, path

    def menu(self) -> Menu:
        root = self.root
        axes = self._axes()
        rows = root.data.get("cohort")
        base = list(rows) if isinstance(rows, list) else []
        count = math.prod(len(axis.values) for axis in axes) * max(1, len(base))
        if count > MOST_MEMBERS:
            raise CardError(too_many(root.where("grid"), count))
        limits = tuple(self._limit(row) for row in root.tables("limit", default=()))
        objectives = root.texts("objectives", default=OBJECTIVES)
        with root.at("objectives"):
            check_objectives(objectives)
        settings = {
            "keep": root.integer("keep", default=5, minimum=1, maximum=20),
            "patients": root.integer("patients", default=200, minimum=2),
            "draws": root.integer("draws", default=50, minimum=2),
            "seed": root.integer("seed", default=1, minimum=0),
            "marrow": root.one_of("marrow", MARROWS, None),
        }
        trials, words, dropped = self._trials(axes, base)
        trials = self._trials_named(trials)
        notes = [f"{dropped} combinations of the grid are schedules of others"] if dropped else []
        with root.at():
            return Menu(
                name=self.path.stem,
                title=trials[0].title,
                trials=trials,
                axes={axis.name: tuple(w[i] for w in words) for i, axis in enumerate(axes)},
                limits=limits or (USUAL_LIMIT,),
                objectives=objectives,
                notes=tuple(notes) + trials[0].assumptions,
                **settings,
            )

    def _trials_named(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        several = len(trials) > 1
        return tuple(
            replace(trial, id=f"{trial.id}-{n}" if several else trial.id)
            for n, trial in enumerate(trials, start=1)
        )

    # -- the grid -----------------------------------------------------------------------------

    def _axes(self) -> tuple[_Axis, ...]:
        tables = self.root.named_tables("grid", default={})
        known: dict[str, str] = {}
        for kind in ("dose", "course"):
            named = self.root.data.get(kind)
            known |= dict.fromkeys(named, kind) if isinstance(named, dict) else {}
        if GROWTH_FACTOR in self.root.data:
            known[GROWTH_FACTOR] = GROWTH_FACTOR
        axes = []
        for name, table in tables.items():
            if name not in known:
                what = f"there is no dose or course {name!r}{nearest_of(name, known)}"
                self.root.refuse(f"grid.{name}", what, allowed=", ".join(known))
            # names are told where several of a kind are varied
            several = sum(known.get(other) == known[name] for other in tables) > 1
            for number, key in enumerate(table.data):
                axis = self._axis(table, name, key, known[name])
                words = tuple(f"{name} {word}" for word in axis.words)
                axes.append(replace(axis, words=words) if several and not number else axis)
        return tuple(axes)

    def _axis(self, table: Table, name: str, key: str, kind: str) -> _Axis:
        assert key in table
        values = table.data[key]
        if not isinstance(values, list) or not values:
            what = f"{values!r} are no values to choose from"
            raise table.error(key, what, allowed="a list, such as [28, 42]")
        for n, value in enumerate(values, start=1):
            place = (*table.path, f"item {n}")
            one = Table({key: value}, table.file, place, table.keys)
            if kind == "dose":
                read_dose(one)
            elif kind == "course":
                read_course(one, complete=False)
            elif key == _GIVEN:
                one.boolean(key)
            elif key not in ("below", "from_day", "amount"):
                allowed = f"{_GIVEN}, below, from_day, amount"
                raise table.error(key, "it cannot be varied", allowed=allowed)
        words = [_words(key, value) for value in values]
        again = next((w for w in words if words.count(w) > 1), None)
        if again is not None:
            raise table.error(key, f"{again!r} is there twice", remedy="give each value once")
        return _Axis(name, key, tuple(values), tuple(words))

    def _trials(
        self, axes: Sequence[_Axis], base: list[Any]
    ) -> tuple[tuple[Trial, ...], list[tuple[str, ...]], int]:
        """Trials by policy of growth factor, the axes' words of each member, doubles left out."""
        groups: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[tuple[str, ...]]]] = {}
        choices, dropped = itertools.product(*(range(len(axis.values)) for axis in axes)), 0
        for choice in choices:
            words = tuple(axis.words[i] for axis, i in zip(axes, choice, strict=True))
            changes: dict[str, dict[str, Any]] = {}
            for axis, i in zip(axes, choice, strict=True):
                changes.setdefault(axis.table, {})[axis.key] = axis.values[i]
            policy = self._growth_factor(changes.pop(GROWTH_FACTOR, {}))
            if not policy:  # what it would be is no part of a schedule without it
                idle = [axis.table == GROWTH_FACTOR and axis.key != _GIVEN for axis in axes]
                words = tuple("" if no else w for w, no in zip(words, idle, strict=True))
            group = groups.setdefault(repr(policy), (policy, [], []))
            if words in group[2]:
                dropped += len(base or [{}])
                continue
            for row in base or [{}]:
                group[1].append(self._member(row, changes, words))
                group[2].append(words)
        trials, every, seen = [], [], set()
        for policy, rows, words in groups.values():
            trial = self._read(policy, rows if axes or base else [])
            kept = []
            for cohort, mine in zip(trial.cohorts, words, strict=True):
                key = (cohort.regimen, cohort.rule, cohort.clocks, cohort.medians, repr(policy))
                if axes and key in seen:
                    dropped += 1
                    continue
                seen.add(key)
                kept.append(cohort)
                every.append(mine)
            if kept:
                trials.append(replace(trial, arms=(Arm("all", tuple(kept)),)))
        return tuple(trials), every, dropped

    def _member(
        self, row: Any, changes: Mapping[str, Mapping[str, Any]], words: tuple[str, ...]
    ) -> dict[str, Any]:
        """Row of a cohort with the values of one combination."""
        made = dict(row) if isinstance(row, dict) else {}
        if not words:
            return made
        own = made.get("change", {})
        for name, values in changes.items():
            twice = set(values) & set(own.get(name, {})) if isinstance(own, dict) else set()
            if twice:
                key = next(iter(twice))
                what = f"cohort {made.get('id')!r} changes {key} of {name}, and so does the grid"
                self.root.refuse("grid", what, remedy="leave it out of one of them")
        merged = {name: dict(values) for name, values in own.items()}
        for name, values in changes.items():
            merged.setdefault(name, {}).update(values)
        label = ", ".join(word for word in words if word)
        made["id"] = f"{made['id']}, {label}" if "id" in made else label
        made["label"] = f"{made['label']}, {label}" if "label" in made else made["id"]
        return {**made, "change": merged}

    def _growth_factor(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        table = self.root.table(GROWTH_FACTOR, default=None)
        own = {} if table is None else table.data
        if not changes.get(_GIVEN, True):
            return {}
        return {**own, **{key: value for key, value in changes.items() if key != _GIVEN}}

    def _read(self, policy: Mapping[str, Any], rows: list[dict[str, Any]]) -> Trial:
        """Read the rest of the file as a schedule file with these cohorts."""
        data = {key: value for key, value in self.root.data.items() if key not in _OWN}
        data["kind"] = "trial"
        data.pop(GROWTH_FACTOR, None)
        if policy:
            data[GROWTH_FACTOR] = dict(policy)
        if rows:
            data["cohort"] = rows
        with reading_instead(self.path, data):
            return load_trial(self.path)

    # -- limits -------------------------------------------------------------------------------

    def _limit(self, row: Table) -> Limit:
        values = {
            "of": row.one_of("of", tuple(MEASURES), "dlt"),
            "at_most": row.number("at_most", default=None),
            "at_least": row.number("at_least", default=None),
            "probability": row.number("probability", default=0.25),
        }
        row.done()
        with row.at():
            return Limit(**values)


def _words(key: str, value: Any) -> str:
    """Value of an axis in words.

    Examples
    --------
    >>> _words("days", "1-14"), _words("cycle_days", 42), _words("between", "none")
    ('days 1-14', '42-day cycle', 'no gate between cycles')
    """
    if key == _GIVEN:
        return "growth factor" if value else "no growth factor"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if isinstance(value, dict):
        text = ", ".join(f"{name} {number}" for name, number in value.items())
    if key in ("gate", "between"):
        place = "before" if key == "gate" else "between cycles"
        return f"no gate {place}" if value == NO_GATE else f"gate {place} {text}"
    if key == "modifications":
        return f"reductions {text}" if text else "no reductions"
    plain = {
        "amount": "{}",
        "days": "days {}",
        "cycle_days": "{}-day cycle",
        "cycles": "{} cycles",
        "start_day": "from day {}",
        "duration": "over {}",
        "doses": "{}",
        "below": "growth factor below {}",
        "from_day": "growth factor from day {}",
    }
    return plain.get(key, key + " {}").format(text)
