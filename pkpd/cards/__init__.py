"""Cards: TOML files of trials, rules, drugs, models and populations, read strictly."""

from __future__ import annotations

from pkpd.cards.files import card_folder, card_hash, card_names, find_card
from pkpd.cards.population_cards import load_population
from pkpd.cards.rule_cards import load_grades, load_response_criteria, load_rule, load_rules
from pkpd.cards.tables import Table, read_toml
from pkpd.cards.trial_cards import clock_day_1, load_trial, rules_for

__all__ = [
    "Table",
    "card_folder",
    "card_hash",
    "card_names",
    "clock_day_1",
    "find_card",
    "load_grades",
    "load_population",
    "load_response_criteria",
    "load_rule",
    "load_rules",
    "load_trial",
    "read_toml",
    "rules_for",
]
