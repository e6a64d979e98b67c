"""Checks of a card of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pkpd.cards import drug_cards, population_cards, rule_cards, trial_cards
from pkpd.cards.every_problem import every_problem
from pkpd.cards.model_cards import STRUCTURES, read_joint_card, read_model_card
from pkpd.cards.tables import read_toml


def check_card(path: Path | str) -> list[str]:
    """Check any card of this package: a model, population, trial or rule file.

    Returns
    -------
    list of str
        One sentence for each problem; empty for a good card.
    """
    readers: dict[str, Callable[[Path], object]] = {
        "drug": drug_cards.read_drug_card,
        "joint": read_joint_card,
        "population": population_cards.read_population_card,
        **dict.fromkeys(STRUCTURES, read_model_card),
        "trial": trial_cards.load_trial,
        "rule": rule_cards.load_rule,
        "grades": rule_cards.load_grades,
        "response": rule_cards.load_response_criteria,
    }

    def read(file: Path) -> object:
        return readers[read_toml(file).one_of("kind", tuple(readers))](file)

    return every_problem(Path(path), read)
