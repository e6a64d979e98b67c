"""Cards and options that replace the usual ones: which trial they concern, and the model they make.

A scenario has trials of different drugs. A card or an option concerns the trials that give its drug
(a marrow card concerns all of them) and is left out elsewhere; one that concerns no trial of the
scenario is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pkpd.cards.files import nearest_of
from pkpd.cards.rule_cards import rules_with_counts
from pkpd.cards.trial_cards import drug_card_of
from pkpd.endpoints.definitions import last_morning
from pkpd.errors import CardError
from pkpd.model.joint import JointModel, load_model
from pkpd.trials import DLTRule, Trial

RUN_OPTIONS: dict[str, tuple[Any, ...]] = {
    "transfusion": (True, False),
    "combination": ("additive", "bliss"),
}
"""Options of the run, not of the model, and their values; the first is the usual one."""

FEEDBACK = "feedback_when_kill_exceeds"


def joint_model(trial: Trial, options: Mapping[str, Any], cards: Mapping[str, str]) -> JointModel:
    """Joint model of a trial's drugs with the cards and options that concern it.

    Raises
    ------
    CardError
        If a card or an option cannot be used.
    """
    drugs = [name for name in trial.drugs if drug_card_of(trial, name).pk]
    own = {name: drug_card_of(trial, name).path for name, _ in trial.drug_cards if name in drugs}
    parts = _parts(load_model(drugs=drugs, drug_cards=own))
    mine = {key: card for key, card in cards.items() if key in parts}
    model = load_model(drugs=drugs, replace=mine, drug_cards=own)
    names = _switches(model)
    asked = {key: value for key, value in options.items() if any(_is(key, n) for n in names)}
    if not asked:
        return model
    return load_model(drugs=drugs, options=asked, replace=mine, drug_cards=own)


def check_assumptions(
    trials: Sequence[Trial], options: Mapping[str, Any], cards: Mapping[str, str]
) -> None:
    """Refuse cards and options that cannot be used, or that concern no trial."""
    check_cards(trials, cards)
    check_options(trials, options, cards)


def check_cards(trials: Sequence[Trial], cards: Mapping[str, str]) -> None:
    """Refuse a card that does not exist, is of another drug or line, or concerns no trial.

    Raises
    ------
    CardError
        One sentence.
    """
    if not cards:
        return
    known = dict.fromkeys(part for t in trials for part in _parts(joint_model(t, {}, {})))
    for key in cards:
        if key not in known:
            _refuse_stranger("card", key, list(known))
    for trial in trials:
        joint_model(trial, {}, cards)


def check_options(
    trials: Sequence[Trial], options: Mapping[str, Any], cards: Mapping[str, str]
) -> None:
    """Refuse an option that no model of the trials has, and values that it cannot take.

    Raises
    ------
    CardError
        One sentence.
    """
    asked = {key: value for key, value in options.items() if key not in RUN_OPTIONS}
    if not asked:
        return
    known = dict.fromkeys(name for t in trials for name in _switches(joint_model(t, {}, cards)))
    for key in asked:
        if not any(_is(key, name) for name in known):
            _refuse_stranger("option", key, [*known, *RUN_OPTIONS])
    for trial in trials:
        joint_model(trial, asked, cards)


def check_run_option(key: str, value: Any) -> None:
    """Refuse a value that an option of the run does not have; other options pass.

    Raises
    ------
    CardError
        One sentence.
    """
    allowed = RUN_OPTIONS.get(key)
    # 1 and 1.0 equal True
    if allowed is not None and not any(value is v or (v == value == str(v)) for v in allowed):
        words = ", ".join(str(v).lower() for v in allowed)
        raise CardError(where=f"option {key}", what=f"{value!r}", allowed=words)


def check_rule(trials: Sequence[Trial], rule: DLTRule) -> None:
    """Refuse a rule that counts cannot decide, or that looks at a day after a trial's horizon.

    Raises
    ------
    CardError
        One sentence.
    """
    if not rule.can_be_simulated:
        raise CardError(
            where=f"rule {rule.name}",
            what="it has no count threshold and cannot be simulated",
            allowed=", ".join(rules_with_counts()),
        )
    if rule.by_day is None:
        return
    for trial in trials:
        for cohort in trial.cohorts:
            for clock in cohort.clocks:
                last = last_morning(cohort.regimen, rule, clock)
                if trial.horizon_days < last:
                    raise CardError(
                        where=f"trial {trial.id}, cohort {cohort.id}",
                        what=f"horizon_days is {trial.horizon_days}, before day {last:g}, whose "
                        f"morning rule {rule.name} needs (end of day {rule.by_day:g} from {clock})",
                        remedy=f"set horizon_days to at least {last:g}, or name another rule",
                    )


def _parts(model: JointModel) -> tuple[str, ...]:
    """Names of what a card can be named for."""
    return (*(f"{d.name}.{part}" for d in model.drugs for part in ("pk", "effect")), *model.lines)


def _switches(model: JointModel) -> tuple[str, ...]:
    """Names of the options of a model."""
    return (*(name for name, _ in model.options), FEEDBACK)


def _is(key: str, name: str) -> bool:
    """Whether a key, in full or in short, means the option of this name."""
    return name == key or name.endswith(f".{key}")


def _refuse_stranger(noun: str, key: str, known: Sequence[str]) -> NoReturn:
    raise CardError(
        where=f"{noun} {key!r}",
        what=f"no trial that is run has this {noun}{nearest_of(key, known)}",
        allowed=", ".join(known),
    )
