"""Scenario files: which trials and schedules to compare, and under which assumptions.

A scenario is a TOML file with ``kind = "scenario"``; a trial file can be run directly as well.
``models/SCHEMA.md`` lists the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.cards import card_names, find_card, load_trial, read_toml
from pkpd.cards.checking import check_card
from pkpd.cards.drug_actions import MARROWS
from pkpd.cards.every_problem import every_problem
from pkpd.cards.files import nearest_of, trial_name
from pkpd.cards.kinds import check_command
from pkpd.cards.menu_cards import load_menu
from pkpd.cards.population_cards import load_population
from pkpd.cards.rule_cards import load_rule
from pkpd.cards.tables import Table
from pkpd.comparison.assumptions import (
    check_assumptions,
    check_cards,
    check_options,
    check_rule,
    check_run_option,
)
from pkpd.errors import CardError, PkpdError
from pkpd.evidence.table.populations import read_populations
from pkpd.leukaemia.parameters import read_leukaemia_card
from pkpd.trials import Trial

if TYPE_CHECKING:
    from pkpd.designs.design_card import DesignFile

DEFAULT = "five_trials"


PATIENTS, DRAWS, SEED = 1000, 200, 1
MOST = 100_000


@dataclass(frozen=True)
class Variant:
    """One set of assumptions under which all trials of a scenario are run.

    Attributes
    ----------
    name
        Short name; empty for the usual assumptions.
    options
        Switches of the model and of the run (``transfusion``, ``combination``).
    cards
        Cards in place of the usual ones, ``{"lenalidomide.pk": "liang2024_lenalidomide"}``.
    rule
        DLT rule in place of the trial's own.
    population
        Population in place of the trial's own.
    own
        What a named variant sets itself, beyond what holds for all of its file: ``"rule"``, and
        keys of options and cards; ``None``: all that it has. It makes the variant what its name
        says, and `with_overrides` leaves it.
    """

    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    cards: Mapping[str, str] = field(default_factory=dict)
    rule: str | None = None
    population: str | None = None
    own: frozenset[str] | None = None

    def keeps(self, key: str) -> bool:
        """Whether ``"rule"``, or an option or a card by its key, is set by the variant itself."""
        mine = self.own
        if mine is None:
            mine = {*self.options, *self.cards, *(["rule"] if self.rule else [])}
        # an option has a full and a short name
        return bool(self.name) and any(
            key == one or key.endswith(f".{one}") or one.endswith(f".{key}") for one in mine
        )


@dataclass(frozen=True)
class Scenario:
    """What is compared, and the question it answers.

    Attributes
    ----------
    name, title, question, different_answer
        Identity; the question; what would count as a different answer.
    trials
        Trials, with the cohorts that are compared.
    pairs
        Pairs of cohort ids ``(first, second)``; empty for all pairs within a trial.
    variants
        At least one.
    patients, draws, seed
        Size of the simulation.
    path
        File it was read from; empty for the default.
    marrow
        One of :data:`MARROWS`; ``None``: the usual one (`pkpd.comparison.marrow_choice`).
    """

    name: str
    trials: tuple[Trial, ...]
    title: str = ""
    question: str = ""
    different_answer: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    variants: tuple[Variant, ...] = (Variant(),)
    patients: int = PATIENTS
    draws: int = DRAWS
    seed: int = SEED
    path: str = ""
    marrow: str | None = None


def default_scenario() -> Scenario:
    """Return the five trials, all cohorts, under the usual assumptions."""
    # without a path: other shipped trials can be added to it by name
    return replace(load_scenario(DEFAULT), path="")


def load_scenario(name: str | Path | None) -> Scenario:
    """Load a scenario by name or file; a trial file becomes a scenario of that trial alone.

    Raises
    ------
    CardError
        One sentence naming file, table, key and remedy.

    Examples
    --------
    >>> [trial.id for trial in load_scenario("nct01681537_len_mec").trials]
    ['nct01681537_len_mec']
    """
    if name is None:
        return default_scenario()
    if isinstance(name, str) and trial_name(name) in card_names("trials"):
        trial = load_trial(name)
        return Scenario(name=trial.id, title=trial.title, trials=(trial,))
    path = find_card("schedules", name, lambda: [*card_names("trials"), *card_names("schedules")])
    root = read_toml(path)
    check_command(root, "pkpd compare")
    if root.data.get("kind", "trial") != "scenario":
        trial = load_trial(Path(str(path)))
        return Scenario(name=trial.id, title=trial.title, trials=(trial,), path=str(path))
    return _read(root, Path(str(path)))


def _read(root: Table, path: Path) -> Scenario:
    root.one_of("kind", ("scenario",))
    cohorts = root.texts("cohorts", default=())
    trials = _trials(root, path, cohorts)
    pairs = tuple(_pair(row, trials) for row in root.tables("pair", default=()))
    common = _variant(root, path, "", trials, Variant())
    variants: list[Variant] = []
    for row in root.tables("variant", default=()):
        name = row.text("name")
        if name in [v.name for v in variants]:
            row.refuse("name", f"two variants are named {name!r}", remedy="rename one")
        variants.append(_variant(row, path, name, trials, common))
    scenario = Scenario(
        name=root.text("name", default=path.stem),
        title=root.text("title", default=""),
        question=root.text("question"),
        different_answer=root.text("different_answer", default=""),
        trials=trials,
        pairs=pairs,
        variants=tuple(variants) or (common,),
        patients=root.integer("patients", default=PATIENTS, minimum=1, maximum=MOST),
        draws=root.integer("draws", default=DRAWS, minimum=1, maximum=MOST),
        seed=root.integer("seed", default=SEED, minimum=0),
        path=str(path),
        marrow=root.one_of("marrow", MARROWS, None),
    )
    root.done()
    return scenario


def _trials(root: Table, path: Path, cohorts: tuple[str, ...]) -> tuple[Trial, ...]:
    """Trials with the cohorts asked for."""
    names = root.texts("trials")
    if not names:
        root.refuse("trials", "no trial is named", allowed=", ".join(card_names("trials")))
    for row, name in enumerate(names, start=1):
        if name in names[: row - 1]:
            root.refuse(f"trials, item {row}", f"{name!r} is named twice", remedy="name it once")
    trials: list[Trial] = []
    for row, name in enumerate(names, start=1):
        with root.at(f"trials, item {row}"):
            trials.append(load_trial(_beside(name, path)))
        if trials[-1].id in [trial.id for trial in trials[:-1]]:
            root.refuse(
                f"trials, item {row}", f"two trials have the id {trials[-1].id!r}", remedy="rename"
            )
    known = [cohort.id for trial in trials for cohort in trial.cohorts]
    for row, wanted in enumerate(cohorts, start=1):
        if wanted not in known:
            root.refuse(
                f"cohorts, item {row}",
                f"no trial of the scenario has a cohort {wanted!r}{nearest_of(wanted, known)}",
                allowed=", ".join(dict.fromkeys(known)),
            )
    return tuple(_chosen(trial, cohorts) for trial in trials)


def _pair(row: Table, trials: Sequence[Trial]) -> tuple[str, str]:
    """Two cohorts of one trial."""
    known = dict.fromkeys(cohort.id for trial in trials for cohort in trial.cohorts)
    first, second = row.one_of("first", known), row.one_of("second", known)
    if first == second:
        row.refuse("second", f"{first!r} is compared with itself", remedy="name another cohort")
    cohorts = [[c.id for c in trial.cohorts] for trial in trials]
    beside = [c for each in cohorts if first in each for c in each]
    if second not in beside:
        row.refuse(
            "second",
            f"{second!r} and {first!r} are cohorts of different trials, which have different "
            "patients",
            allowed=", ".join(c for c in beside if c != first) or "none",
            remedy="name cohorts of one trial",
        )
    return first, second


def _variant(
    row: Table, path: Path, name: str, trials: Sequence[Trial], common: Variant
) -> Variant:
    """Assumptions of a row on top of the common ones, checked against the trials."""
    rule = row.text("rule", default=None)
    if rule is not None:
        with row.at("rule"):
            check_rule(trials, load_rule(_beside(rule, path)))
    population = row.text("population", default=None)
    if population is not None:
        with row.at("population"):
            load_population(str(_beside(population, path)))
    cards = {
        key: str(_beside(table.text(inner), path)) for key, table, inner in _entries(row, "cards")
    }
    options: dict[str, Any] = {}
    for key, table, inner in _entries(row, "options"):
        value = table.data[inner]
        options[key] = table.boolean(inner) if isinstance(value, bool) else table.text(inner)
        with table.at(inner):
            check_run_option(key, options[key])
    variant = Variant(
        name=name,
        options={**common.options, **options},
        cards={**common.cards, **cards},
        rule=common.rule if rule is None else str(_beside(rule, path)),
        population=common.population if population is None else str(_beside(population, path)),
        own=frozenset([*options, *cards, *(["rule"] if rule is not None else [])]),
    )
    with row.at("cards"):
        check_cards(trials, variant.cards)
    with row.at("options"):
        check_options(trials, variant.options, variant.cards)
    return variant


def _entries(row: Table, key: str) -> list[tuple[str, Table, str]]:
    """Entries of a table by full name, written as ``"a.b" = x``, ``a.b = x`` or under ``[a]``."""
    table: Table | None = row.table(key, default=None)
    found: list[tuple[str, Table, str]] = []
    if table is None:
        return found
    for name, value in table.data.items():
        if isinstance(value, dict):
            inside = table.table(name)
            found += [(f"{name}.{inner}", inside, inner) for inner in inside.data]
        else:
            found.append((name, table, name))
    return found


def _chosen(trial: Trial, cohorts: tuple[str, ...]) -> Trial:
    """Trial with the cohorts asked for; all of them if none of its own is named."""
    if not set(cohorts) & {cohort.id for cohort in trial.cohorts}:
        return trial
    arms = tuple(
        replace(arm, cohorts=tuple(c for c in arm.cohorts if c.id in cohorts)) for arm in trial.arms
    )
    return replace(trial, arms=tuple(arm for arm in arms if arm.cohorts))


def _beside(name: str, path: Path) -> str | Path:
    """Name of a shipped card, or a file named relative to the scenario file."""
    if not name.endswith(".toml"):
        return name
    return path.parent / name


def check_file(path: str | Path) -> list[str]:
    """Check any card, trial or scenario file.

    Returns
    -------
    list of str
        One sentence for each problem; empty for a good file.
    """
    try:
        kind = read_toml(Path(path)).data.get("kind")
    except PkpdError as error:
        return [str(error)]
    readers: dict[str | None, Callable[[Path], object]] = {
        "scenario": load_scenario,
        None: load_trial,  # a schedule of one's own need not say that it is a trial
        "leukaemia": read_leukaemia_card,
        "evidence_populations": read_populations,
        "design": _read_design,
        "menu": load_menu,
    }
    if kind is None or (isinstance(kind, str) and kind in readers):
        return every_problem(Path(path), readers[kind])
    return check_card(Path(path))


def _read_design(path: Path) -> object:
    """Read a design file; only one who has one waits for the designs to load."""
    from pkpd.designs.design_card import load_design

    design = load_design(path)
    if design.schedules:
        check_schedules(path.parent / design.schedules, design)
    return design


def check_schedules(path: Path, design: DesignFile) -> None:
    """Refuse a schedule file whose cohorts are not the doses of a design, before it is simulated.

    Raises
    ------
    PkpdError
        If it cannot be read, has several trials, or other cohorts.
    """
    from pkpd.designs.predicted import order_of  # takes long to load, and few files are designs

    trials = load_scenario(str(path)).trials
    if len(trials) != 1:
        what = f"it has {len(trials)} trials"
        raise PkpdError(where=str(path), what=what, remedy="name a file of one trial")
    order_of(design, tuple(cohort.id for cohort in trials[0].cohorts))


def with_overrides(
    scenario: Scenario,
    *,
    trials: list[str] | None = None,
    patients: int | None = None,
    draws: int | None = None,
    seed: int | None = None,
    rule: str | None = None,
    options: Mapping[str, Any] | None = None,
    cards: Mapping[str, str] | None = None,
) -> Scenario:
    """Change a scenario by what was asked for at the call.

    A rule, options and cards are as if they stood at the top of the file: what a variant sets
    itself comes on top of them.

    Raises
    ------
    CardError
        If a trial is not in the scenario, a rule does not exist, or every variant sets itself what
        is asked for.
    """
    kept = scenario.trials
    if trials:
        by_id = {trial.id: trial for trial in kept}
        for name in trials:
            if name not in by_id:
                if scenario.path or name not in card_names("trials"):
                    raise CardError(
                        where=f"scenario {scenario.name}",
                        what=f"there is no trial {name!r}",
                        allowed=", ".join(by_id),
                        remedy=f'a file is compared by pkpd.compare("{name}")'
                        if str(name).endswith(".toml")
                        else None,
                    )
                by_id[name] = load_trial(name)
        kept = tuple(by_id[name] for name in dict.fromkeys(trials))
    if rule is not None:
        check_rule(kept, load_rule(rule))
    for name, value, least in (("patients", patients, 1), ("draws", draws, 1), ("seed", seed, 0)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= MOST):
            allowed = f"{least} to {MOST}, a whole number"
            raise CardError(where=name, what=f"{value!r}", allowed=allowed)
    asked = {"options": dict(options or {}), "cards": dict(cards or {})}
    for key in [*asked["options"], *asked["cards"], *([] if rule is None else ["rule"])]:
        _check_reaches(scenario, key)
    variants = tuple(
        replace(
            v,
            rule=v.rule if rule is None or v.keeps("rule") else rule,
            **{
                what: {**getattr(v, what), **{k: x for k, x in new.items() if not v.keeps(k)}}
                for what, new in asked.items()
            },
        )
        for v in scenario.variants
    )
    for key, value in (options or {}).items():
        check_run_option(key, value)
    if options or cards:
        for variant in variants:
            check_assumptions(kept, variant.options, variant.cards)
    return replace(
        scenario,
        trials=kept,
        variants=variants,
        patients=scenario.patients if patients is None else patients,
        draws=scenario.draws if draws is None else draws,
        seed=scenario.seed if seed is None else seed,
    )


def _check_reaches(scenario: Scenario, key: str) -> None:
    """Refuse what no variant would take, since each sets it itself."""
    if not all(variant.keeps(key) for variant in scenario.variants):
        return
    names = ", ".join(repr(variant.name) for variant in scenario.variants)
    raise CardError(
        where=scenario.path or f"scenario {scenario.name}",
        what=f"each variant ({names}) sets {key} itself, and keeps it",
        remedy=f"leave {key} out here, or out of a variant",
    )
