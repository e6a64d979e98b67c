"""Scenario files: which trials and schedules to compare, and under which assumptions.

A scenario is a TOML file with ``kind = "scenario"``; a trial file can be run directly as well.
``models/SCHEMA.md`` lists the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pkpd.cards import card_names, find_card, load_trial, read_toml
from pkpd.cards.model_cards import check_card
from pkpd.cards.population_cards import load_population
from pkpd.cards.rule_cards import load_rule
from pkpd.cards.tables import Table
from pkpd.errors import CardError, PkpdError, sentence
from pkpd.trials import Trial

FIVE_TRIALS = (
    "nct01681537_len_mec",
    "nct01629082_clofarabine_lenalidomide",
    "nct00983528_alemtuzumab_clofarabine",
    "nct01116193_lenalidomide_dexamethasone",
    "nct01673308_lenalidomide_mds",
)

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
    """

    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    cards: Mapping[str, str] = field(default_factory=dict)
    rule: str | None = None
    population: str | None = None


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


def default_scenario() -> Scenario:
    """Return the five trials, all cohorts, under the usual assumptions."""
    return Scenario(
        name="five_trials",
        title="Five trials of clofarabine and lenalidomide",
        question="When do neutrophils and platelets recover in each cohort, and how likely is a "
        "delayed-recovery dose-limiting toxicity?",
        trials=tuple(load_trial(name) for name in FIVE_TRIALS),
    )


def load_scenario(name: str | Path | None) -> Scenario:
    """Load a scenario by name or file; a trial file becomes a scenario of that trial alone.

    Raises
    ------
    CardError
        One sentence naming file, table, key and remedy.
    """
    if name is None:
        return default_scenario()
    if isinstance(name, str) and name in card_names("trials"):
        trial = load_trial(name)
        return Scenario(name=trial.id, title=trial.title, trials=(trial,))
    path = find_card("schedules", name)
    root = read_toml(path)
    if root.data.get("kind", "trial") != "scenario":
        trial = load_trial(Path(str(path)))
        return Scenario(name=trial.id, title=trial.title, trials=(trial,), path=str(path))
    return _read(root, Path(str(path)))


def _read(root: Table, path: Path) -> Scenario:
    root.one_of("kind", ("scenario",))
    cohorts = root.texts("cohorts", default=())
    trials = tuple(
        _chosen(root, load_trial(_beside(name, path)), cohorts) for name in root.texts("trials")
    )
    known = [cohort.id for trial in trials for cohort in trial.cohorts]
    for wanted in cohorts:
        if wanted not in known:
            raise root.error(
                "cohorts", f"no trial of the scenario has a cohort {wanted!r}", ", ".join(known)
            )
    pairs = []
    for row in root.tables("pair", default=()):
        pair = (row.one_of("first", known), row.one_of("second", known))
        if pair[0] == pair[1]:
            raise row.error("second", f"{pair[0]!r} is compared with itself", remedy="name another")
        pairs.append(pair)
    common = _variant(root, path, "")
    rows = root.tables("variant", default=())
    variants = tuple(_merged(common, _variant(row, path, row.text("name"))) for row in rows)
    names = [v.name for v in variants]
    if len(set(names)) < len(names):
        raise root.error("variant", "two variants have the same name", remedy="rename one")
    scenario = Scenario(
        name=root.text("name", default=path.stem),
        title=root.text("title", default=""),
        question=root.text("question"),
        different_answer=root.text("different_answer", default=""),
        trials=trials,
        pairs=tuple(pairs),
        variants=variants or (common,),
        patients=root.integer("patients", default=PATIENTS, minimum=1, maximum=MOST),
        draws=root.integer("draws", default=DRAWS, minimum=1, maximum=MOST),
        seed=root.integer("seed", default=SEED, minimum=0),
        path=str(path),
    )
    root.done()
    return scenario


def _variant(row: Table, path: Path, name: str) -> Variant:
    options = row.table("options", default=None)
    cards = row.table("cards", default=None)
    rule = row.text("rule", default=None)
    if rule is not None:
        with row.at("rule"):
            load_rule(_beside(rule, path))
    population = row.text("population", default=None)
    if population is not None:
        population = str(_beside(population, path))
        with row.at("population"):
            load_population(population)
    return Variant(
        name=name,
        options={} if options is None else {key: _value(options, key) for key in options.data},
        cards={} if cards is None else {key: cards.text(key) for key in cards.data},
        rule=None if rule is None else str(_beside(rule, path)),
        population=population,
    )


def _merged(common: Variant, own: Variant) -> Variant:
    return replace(
        own,
        options={**common.options, **own.options},
        cards={**common.cards, **own.cards},
        rule=own.rule or common.rule,
        population=own.population or common.population,
    )


def _value(table: Table, key: str) -> Any:
    value = table.data[key]
    if isinstance(value, bool):
        return table.boolean(key)
    return table.text(key)


def _chosen(root: Table, trial: Trial, cohorts: tuple[str, ...]) -> Trial:
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
        kind = read_toml(Path(path)).data.get("kind", "trial")
        if kind != "scenario":
            return check_card(Path(path))
        load_scenario(Path(path))
    except PkpdError as error:
        return [str(error)]
    return []


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

    Raises
    ------
    CardError
        If a trial is not in the scenario, or a rule does not exist.
    """
    kept = scenario.trials
    if trials:
        by_id = {trial.id: trial for trial in kept}
        for name in trials:
            if name not in by_id:
                if scenario.path or name not in card_names("trials"):
                    msg = sentence(
                        where=f"scenario {scenario.name}",
                        what=f"there is no trial {name!r}",
                        allowed=", ".join(by_id),
                    )
                    raise CardError(msg)
                by_id[name] = load_trial(name)
        kept = tuple(by_id[name] for name in dict.fromkeys(trials))
    if rule is not None:
        load_rule(rule)
    for name, value, least in (("patients", patients, 1), ("draws", draws, 1), ("seed", seed, 0)):
        if value is not None and not least <= value <= MOST:
            msg = sentence(where=name, what=f"{value}", allowed=f"{least} to {MOST}")
            raise CardError(msg)
    variants = tuple(
        replace(
            v,
            options={**v.options, **(options or {})},
            cards={**v.cards, **(cards or {})},
            rule=rule or v.rule,
        )
        for v in scenario.variants
    )
    return replace(
        scenario,
        trials=kept,
        variants=variants,
        patients=scenario.patients if patients is None else patients,
        draws=scenario.draws if draws is None else draws,
        seed=scenario.seed if seed is None else seed,
    )
