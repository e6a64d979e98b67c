"""Drugs of a schedule file: shipped ones by any of their names, and drug cards beside the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from os.path import abspath, isfile  # also for a name longer than the system takes
from pathlib import Path
from typing import NoReturn

from pkpd.cards.drug_cards import DrugCard, drug_names, load_drug_card
from pkpd.cards.files import nearest_of
from pkpd.cards.schedule_cards import Part
from pkpd.cards.tables import Table
from pkpd.cards.usual_doses import unusual

ANY_DRUG = "*"
"""In place of the drugs that are known without a card: every name is one."""
_WITHOUT_CARD: ContextVar[frozenset[str]] = ContextVar("without a card", default=frozenset())


@contextmanager
def without_card(drugs: Iterable[str]) -> Iterator[None]:
    """Let the schedule files that are read within name some drugs that no card describes.

    Parameters
    ----------
    drugs
        Their names, such as those of a fit; `ANY_DRUG` among them for every name.
    """
    token = _WITHOUT_CARD.set(frozenset(drugs))
    try:
        yield
    finally:
        _WITHOUT_CARD.reset(token)


class TrialDrugs:
    """Drugs that a schedule file names.

    Parameters
    ----------
    folder
        Of the schedule file: drug cards are named relative to it.
    others
        Names that are known besides those with a card, and besides those of `without_card`.

    Attributes
    ----------
    own
        Drug cards beside the file, by the drug's name.
    files
        Their files as written.
    """

    def __init__(self, folder: Path, others: frozenset[str] = frozenset()) -> None:
        self.folder = folder
        self.others = others | _WITHOUT_CARD.get()
        self.own: dict[str, DrugCard] = {}
        self.files: dict[str, str] = {}
        self._shipped: set[str] = set()

    def name(self, table: Table, text: str) -> str:
        """Name of the drug that the key ``drug`` of a table, or the table's name, stands for.

        Raises
        ------
        CardError
            If there is no such drug or file, or one name would mean two cards.
        """
        if text.endswith(".toml"):
            with table.at("drug"):
                card = load_drug_card(str(self.folder / text))
            other = self.own.setdefault(card.name, card)
            if other.path != card.path or card.name in self._shipped:
                self._two_cards(table, card.name)
            self.files[card.name] = text
            return card.name
        found = drug_names().get(text.strip().casefold())
        if found is not None:
            if found in self.own:
                self._two_cards(table, found)
            self._shipped.add(found)
            return found
        if not self._known(text):
            self._unknown(table, text)
        return text

    def _known(self, text: str) -> bool:
        """Whether a name without a card is that of a drug."""
        return text in self.others or ANY_DRUG in self.others

    def card(self, drug: str) -> DrugCard:
        """Card of a drug by the name that `name` gave."""
        return self.own.get(drug) or load_drug_card(drug)

    def _unknown(self, table: Table, text: str) -> NoReturn:
        file = f"{text}.toml"
        beside = isfile(self.folder / file)
        known = (*drug_names(), *self.others)
        table.refuse(
            "drug",
            f"there is no card for drug {text!r}{nearest_of(text, known)}",
            allowed=", ".join(sorted({*drug_names().values(), *self.others})) or "none",
            remedy=f'write drug = "{file}" for the card beside this file'
            if beside
            else 'correct the name, or name your own drug card, such as drug = "mine.toml"',
        )

    def checked(self, part: Part) -> Part:
        """Refuse a route that a drug's card does not have, and an amount far from the usual.

        Returns the dose with the file of its drug's card, where that is the user's own.

        Raises
        ------
        CardError
            Naming the dose and the key.
        """
        drug = part.values["drug"]
        if drug not in self.own and drug.casefold() not in drug_names():
            return part
        card = self.card(drug)
        route = part.values.get("route")
        if route is not None and route not in card.routes:
            part.table.refuse(
                "route",
                f"{drug} has no model for route {route!r}",
                allowed=", ".join(card.routes),
                remedy="correct the route, or name your own drug card",
            )
        amount, unit = part.values["amount"]
        what = unusual(card, amount, unit, part.values.get("strengths_mg", ()))
        if what and not part.values.get("unusual_dose"):
            part.table.refuse(
                "amount",
                what,
                remedy="correct number or unit, or write unusual_dose = true if it is meant",
            )
        file = abspath(card.path) if drug in self.own else ""
        return replace(part, values={**part.values, "card": file})

    def _two_cards(self, table: Table, drug: str) -> None:
        table.refuse(
            "drug",
            f"two cards would be named {drug!r}",
            remedy="name one card in all doses, or rename yours",
        )
