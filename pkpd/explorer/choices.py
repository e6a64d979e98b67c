"""What the controls of a page offer: drugs, populations, rules, fits, with their words.

No simulation is imported here: the controls appear while it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pkpd.cards import card_names, load_rules
from pkpd.cards.drug_cards import growth_factors, load_drug_card
from pkpd.cards.population_cards import load_population
from pkpd.explorer.state import (
    CARDS,
    LEARNED,
    MOST_DAYS,
    MOST_SCHEDULES,
    USUAL,
    posterior_files,
)
from pkpd.report.comparison.plain_words import rule_in_words
from pkpd.subjects import MOVABLE, sample_population

OFFERED = ("3+3", "BOIN", "keyboard", "mTPI-2")
"""Designs whose characteristics are exact and that need no more than a target."""
WITH_TARGET = ("BOIN", "keyboard", "mTPI-2")

_SAMPLE = 512


def choices(folder: Path, fits: Iterable[str] = ()) -> dict[str, Any]:
    """Everything that a control can be set to, by name; `fits` are those of the user's script."""
    return {
        "drugs": [_drug(name) for name in card_names("drugs")],
        "populations": [_population(name) for name in card_names("populations")],
        "rules": [
            {
                "name": name,
                "text": rule_in_words(rule),
                "by_day": rule.by_day,
                "kind": rule.kind,
                "join": rule.join,
                "at": {c.line: c.at_least for c in rule.criteria},
            }
            for name, rule in load_rules().items()
            if rule.can_be_simulated
        ],
        "growth_factors": sorted(growth_factors()),
        "ensembles": [
            {"name": LEARNED, "text": "learned from published outcomes (with leukaemia)"},
            {"name": CARDS, "text": "cards (without leukaemia)"},
            *({"name": name, "text": f"the fit {name}"} for name in fits),
            *({"name": name, "text": f"posterior in {name}"} for name in posterior_files(folder)),
        ],
        "designs": [{"name": name, "target": name in WITH_TARGET} for name in OFFERED],
        "usual": USUAL,
        "most": {"schedules": MOST_SCHEDULES, "days": MOST_DAYS},
    }


def _drug(name: str) -> dict[str, Any]:
    card = load_drug_card(name)
    usual = card.usual_dose
    return {
        "name": name,
        "title": card.title,
        "routes": list(card.routes),
        "unit": card.dose_unit,
        "usual": None if usual is None else {"value": usual.value, "unit": usual.unit},
    }


def _population(name: str) -> dict[str, Any]:
    population = load_population(name)
    sample = sample_population(population, _SAMPLE, 1)
    medians = {each: float(f"{np.median(sample[each]):.3g}") for each in MOVABLE}
    return {"name": name, "title": population.title, "medians": medians}
