"""Menus: schedules to choose from, as rows of a schedule file, as a grid, or as both.

A menu file is a schedule file with ``kind = "menu"``. Its members are its cohorts;
``[grid.<name>]`` puts every combination of values of doses and courses in the place of each.
``models/SCHEMA.md`` lists the keys.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pkpd.cards.drug_actions import MARROWS
from pkpd.cards.files import find_card, nearest_of
from pkpd.cards.kinds import check_command
from pkpd.cards.rule_cards import load_rule
from pkpd.cards.schedule_cards import NO_GATE, read_course, read_dose
from pkpd.cards.tables import Table, read_toml, reading_instead
from pkpd.cards.trial_cards import load_trial
from pkpd.errors import CardError, PkpdError, sentence
from pkpd.schedule import NEVER, GrowthFactorPolicy, Regimen
from pkpd.trials import Arm, Cohort, Trial

MOST_MEMBERS = 400
"""Schedules of a menu; each is simulated, perhaps in three marrows."""

DOSE = "dose"
"""Objective that stands for the dose intensity of every drug of which members differ."""

GROWTH_FACTOR = "growth_factor"
_GIVEN = "given"


@dataclass(frozen=True)
class Measure:
    """One figure by which schedules are compared.

    Attributes
    ----------
    name, words, unit
        Names for code and for readers; unit of the figure, ``"probability"`` for a risk.
    better
        ``"low"`` or ``"high"``.
    margin
        A difference that matters: points of a probability, days, or a share of the figure where
        `ratio`.
    ratio
        Whether two figures are compared by their ratio: the figure is then a geometric mean.
    """

    name: str
    words: str
    unit: str
    better: str = "low"
    margin: float = 0.02
    ratio: bool = False

    @property
    def least(self) -> float:
        """The margin as a difference of what is compared: of logs where `ratio`."""
        return math.log1p(self.margin) if self.ratio else self.margin


MEASURES: Mapping[str, Measure] = {
    one.name: one
    for one in (
        Measure("dlt", "risk of a DLT", "probability"),
        Measure("remission", "remission, with or without full counts", "probability", "high"),
        Measure("death", "death by the last day", "probability"),
        Measure(
            "days_low",
            "days with neutrophils < 0.5 or platelets < 20, those after death among them",
            "day",
            margin=1.0,
        ),
        Measure("nadir_neutrophils", "lowest neutrophils", "10^9/L", "high", 0.1, True),
        Measure("nadir_platelets", "lowest platelets", "10^9/L", "high", 0.1, True),
        Measure("grade_4_neutrophils", "grade 4 neutropenia", "probability"),
        Measure("grade_4_platelets", "grade 4 thrombocytopenia", "probability"),
    )
}
"""Figures of every schedule; besides, the dose intensity of each drug (`dose_measure`)."""

OBJECTIVES = ("dlt", "nadir_neutrophils", "days_low", "remission", DOSE)
"""What makes one schedule better than another where a menu does not say."""


def dose_measure(drug: str, unit: str, most: float) -> Measure:
    """Dose intensity of a drug: the amount given in a week, over all simulated days.

    Parameters
    ----------
    drug, unit
        The drug, and the unit of its amounts.
    most
        Largest amount a week of the menu; a twentieth of it matters.
    """
    return Measure(f"{DOSE}_{drug}", f"{drug} given", f"{unit} a week", "high", most / 20.0)


@dataclass(frozen=True)
class Limit:
    """What a schedule must keep, with certainty: ``Pr(measure > at_most) <= probability``.

    Attributes
    ----------
    of
        Name of a measure.
    at_most, at_least
        One of them: the figure must not lie beyond it.
    probability
        Most probability, over draws of what is not known, that it does.
    """

    of: str = "dlt"
    at_most: float | None = None
    at_least: float | None = None
    probability: float = 0.25

    def __post_init__(self) -> None:
        where = f"limit of {self.of}"
        if self.of not in MEASURES:
            known = ", ".join(MEASURES)
            what = f"there is no such measure{nearest_of(self.of, MEASURES)}"
            raise PkpdError(sentence(where=where, what=what, allowed=known))
        if (self.at_most is None) == (self.at_least is None):
            raise PkpdError(sentence(where=where, what="it needs one of at_most and at_least"))
        high = 1.0 if MEASURES[self.of].unit == "probability" else math.inf
        if not 0.0 < self.level < high:
            allowed = "above 0" + (", below 1" if high == 1.0 else "")
            raise PkpdError(sentence(where=where, what=f"{self.level:g}", allowed=allowed))
        if not 0.0 < self.probability < 1.0:
            what = f"a probability of {self.probability:g}"
            raise PkpdError(sentence(where=where, what=what, allowed="between 0 and 1"))

    @property
    def level(self) -> float:
        """The number that the figure must not lie beyond."""
        found = self.at_least if self.at_most is None else self.at_most
        assert found is not None
        return found

    @property
    def words(self) -> str:
        """As a report says it."""
        sign = "<" if self.at_most is None else ">"
        name = MEASURES[self.of].words.partition(",")[0]
        return f"Pr({name} {sign} {self.level:g}) <= {self.probability:g}"


USUAL_LIMIT = Limit("dlt", at_most=0.25)


@dataclass(frozen=True)
class Menu:
    """Schedules to choose from, and how.

    Attributes
    ----------
    name, title
        Identity.
    trials
        One for each policy of growth factor; their cohorts are the members. All have the same
        patients and days.
    axes
        Of a grid: name of the axis -> value of each member in words.
    limits
        What an allowed member keeps.
    objectives
        What makes one member better than another: names of measures, ``"dose"`` for all drugs.
    keep
        Most members of the short list.
    patients, draws, seed
        Size of the simulation.
    marrow
        Of the first answer; the usual one if ``None``.
    notes
        What a reader should know.
    """

    name: str
    title: str
    trials: tuple[Trial, ...]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: tuple[Limit, ...] = (USUAL_LIMIT,)
    objectives: tuple[str, ...] = OBJECTIVES
    keep: int = 5
    patients: int = 200
    draws: int = 50
    seed: int = 1
    marrow: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_objectives(self.objectives)
        if len(self.members) > MOST_MEMBERS:
            raise PkpdError(_too_many(self.name, len(self.members)))
        if len(self.members) < 2:
            what = f"{len(self.members)} schedule: there is nothing to choose from"
            remedy = "add a [[cohort]], or a [grid] of two values or more"
            raise PkpdError(sentence(where=f"menu {self.name}", what=what, remedy=remedy))

    @property
    def members(self) -> tuple[Cohort, ...]:
        """All schedules."""
        return tuple(cohort for trial in self.trials for cohort in trial.cohorts)

    @property
    def horizon_days(self) -> int:
        """Days to simulate."""
        return self.trials[0].horizon_days


def check_objectives(objectives: Sequence[str]) -> None:
    """Refuse objectives that are no measures.

    Raises
    ------
    PkpdError
        Naming the first of them.
    """
    known = (*MEASURES, DOSE)
    for name in objectives:
        if name not in known:
            what = f"{name!r} is no measure{nearest_of(name, known)}"
            raise PkpdError(sentence(where="objectives", what=what, allowed=", ".join(known)))
    if not objectives:
        what = "none is named"
        raise PkpdError(sentence(where="objectives", what=what, allowed=", ".join(known)))


def menu_of(
    members: Mapping[str, Regimen],
    population: str,
    rule: str,
    horizon_days: int,
    *,
    growth_factor: GrowthFactorPolicy = NEVER,
    name: str = "menu",
    **how: Any,
) -> Menu:
    """Make a menu of regimens.

    Parameters
    ----------
    members
        Regimens by name.
    population, rule
        Cards of the patients and of the count rule, by name or file.
    horizon_days
        Days to simulate.
    growth_factor
        Growth factor by need, of all members.
    name
        Of the menu.
    **how
        Further attributes of `Menu`.

    Raises
    ------
    PkpdError
        If a card does not exist, or there are too few or too many members.

    Examples
    --------
    >>> import pkpd
    >>> give = {"drug": "clofarabine", "route": "iv", "duration": "1 h", "amount": "5 mg/m^2"}
    >>> days = {f"{n} days": pkpd.daily(days=f"1-{n}", **give) for n in (3, 5)}
    >>> [one.id for one in menu_of(days, "rr_aml", "leukemia_d42_generic", 60).members]
    ['3 days', '5 days']
    """
    load_rule(rule)
    cohorts = tuple(
        Cohort(id=str(key), label=str(key), regimen=regimen, rule=str(rule))
        for key, regimen in members.items()
    )
    trial = Trial(
        id=name,
        name=name,
        title=name,
        disease="",
        population=str(population),
        arms=(Arm("all", cohorts),),
        rule=str(rule),
        rule_is_protocols=False,
        horizon_days=horizon_days,
        visit_days=tuple(day for day in range(1, horizon_days + 1) if day % 7 in (1, 4)),
        growth_factor=growth_factor,
    )
    return Menu(name=name, title=name, trials=(trial,), **how)


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
            raise CardError(_too_many(root.where("grid"), count))
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
            place = (*table.path, f"{key}, item {n}")
            one = Table({key: value}, table.file, place, (*table.keys, key, n - 1))
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
        choices = itertools.product(*(range(len(axis.values)) for axis in axes))
        for choice in choices:
            words = tuple(axis.words[i] for axis, i in zip(axes, choice, strict=True))
            changes: dict[str, dict[str, Any]] = {}
            for axis, i in zip(axes, choice, strict=True):
                changes.setdefault(axis.table, {})[axis.key] = axis.values[i]
            policy = self._growth_factor(changes.pop(GROWTH_FACTOR, {}))
            group = groups.setdefault(repr(policy), (policy, [], []))
            for row in base or [{}]:
                group[1].append(self._member(row, changes, words))
                group[2].append(words)
        trials, every, seen, dropped = [], [], set(), 0
        for policy, rows, words in groups.values():
            trial = self._read(policy, rows if axes or base else [])
            kept = []
            for cohort, mine in zip(trial.cohorts, words, strict=True):
                key = (cohort.regimen, cohort.rule, cohort.clocks, repr(policy))
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
        own = dict(self.root.data.get(GROWTH_FACTOR, {}))
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


def _too_many(where: str, count: int) -> str:
    return sentence(
        where=where,
        what=f"{count:,} schedules",
        allowed=f"2 to {MOST_MEMBERS}",
        remedy="leave out values, or name the schedules one by one as [[cohort]]",
    )
