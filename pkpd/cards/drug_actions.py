"""What a drug does in a marrow, by its card: the one place that decides it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pkpd.cards.drug_cards import (
    EFFECT_SITE,
    GRAFT,
    GROWTH_FACTOR,
    INTENSITY,
    LONG_ACTING,
    OF_BLASTS,
    SATURABLE_KILL,
    DrugCard,
)
from pkpd.errors import PkpdError

KINETICS, REFUSED = "kinetics", "refused"
FRIBERG, LEUKAEMIA = "friberg", "leukaemia"
MARROWS = (FRIBERG, LEUKAEMIA)
"""Marrows: one without leukaemia, and the one learned from published outcomes."""


@dataclass(frozen=True)
class DrugAction:
    """How a drug acts in a marrow.

    Attributes
    ----------
    by
        ``kinetics``, ``intensity``, ``growth_factor``, ``graft``, ``nothing`` or ``refused``.
    text
        What acts, or the reason of a refusal, as the end of a sentence about the drug.
    remedy
        What to do about a refusal.
    """

    by: str
    text: str
    remedy: str = ""


def drug_action(card: DrugCard, marrow: str) -> DrugAction:
    """Decide how a drug acts in a marrow, or why it cannot.

    Parameters
    ----------
    card
        The drug: a shipped card or a user's own.
    marrow
        One of :data:`MARROWS`.

    Raises
    ------
    PkpdError
        If there is no such marrow.
    """
    if marrow == FRIBERG:
        return _without_leukaemia(card)
    if marrow == LEUKAEMIA:
        return _with_leukaemia(card)
    raise PkpdError(where="marrow", what=f"{marrow!r}", allowed=", ".join(MARROWS))


def card_in_words(card: DrugCard) -> str:
    """Say which card acts: the shipped one, or the user's by its file name."""
    if card.shipped:
        return "shipped card"
    file = card.path.replace("\\", "/").rsplit("/", 1)[-1]
    return f"your card {file}"


def own_in_words(cards: Iterable[DrugCard], marrow: str) -> list[str]:
    """Say how each drug card of the user's own acts, and whether its numbers were learned."""
    told = []
    for card in cards:
        text = f"{card.name}: {card_in_words(card)} {drug_action(card, marrow).text}"
        action = card.leukaemia if marrow == LEUKAEMIA else None
        if action is not None and any(number.interval for number in action.numbers):
            text += (
                "; its numbers are drawn from the ranges of your card, not learned from trials: "
                "even a copy of a shipped card gives other answers"
            )
        told.append(text)
    return told


def _without_leukaemia(card: DrugCard) -> DrugAction:
    if card.pk:
        return DrugAction(KINETICS, f"acts by its kinetics ({', '.join(_parts(card))})")
    action = card.leukaemia
    if action is not None and action.acts_by == GROWTH_FACTOR:
        return DrugAction(GROWTH_FACTOR, "acts on neutrophils with G-CSF, by a card of that line")
    return DrugAction(
        REFUSED,
        "has no pk and effect on its card, which the marrow without leukaemia needs",
        f'add both to a drug card of your own, or use the marrow "{LEUKAEMIA}"',
    )


def _with_leukaemia(card: DrugCard) -> DrugAction:
    action = card.leukaemia
    if action is None:
        return DrugAction(
            REFUSED,
            "has kinetics and an effect on its card that the marrow with leukaemia cannot use: "
            "there it needs a table [leukaemia]",
            f'add it, with acts_by = "{INTENSITY}" and an intensity, or use the marrow "{FRIBERG}"',
        )
    if action.by_level:
        site = action.driver == EFFECT_SITE
        how = "a saturable kill" if action.acts_by == SATURABLE_KILL else "a block of maturation"
        what = "concentration at the effect site" if site else "concentration in plasma"
        kinetics = f"acts by its kinetics ({_parts(card)[0]})"
        text = f"{kinetics}: {how} by its {what}"
        kill = action.number(OF_BLASTS[action.acts_by])
        if kill is None or kill.value == 0.0:
            text += f"; it kills no blasts, because its card has no {OF_BLASTS[action.acts_by]}"
        return DrugAction(KINETICS, text)
    unused = "; its pk and effect are not used in this marrow" if card.pk else ""
    if action.acts_by == INTENSITY:
        kill = action.number("intensity")
        assert kill is not None
        text = f"acts by its intensity ({kill.value:g} of a course of 7+3, {kill.status})"
        return DrugAction(INTENSITY, text + unused)
    if action.acts_by in (GROWTH_FACTOR, LONG_ACTING):
        return DrugAction(GROWTH_FACTOR, "acts as a growth factor, given or not" + unused)
    if action.acts_by == GRAFT:
        return DrugAction(GRAFT, "joins the early cells of the marrow" + unused)
    return DrugAction(action.acts_by, "has no effect on counts" + unused)


def _parts(card: DrugCard) -> tuple[str, str]:
    """Names of the cards of its kinetics and of its effect, without folders."""
    pk, effect = (part.replace("\\", "/").rsplit("/", 1)[-1] for part in (card.pk, card.effect))
    return pk, effect
