"""Diseases of the marrow with leukaemia, by the names that population cards and trials use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pkpd.cards.files import card_folder, nearest_of
from pkpd.cards.tables import Table, read_toml


def diseases() -> Mapping[str, str]:
    """Diseases of ``models/leukaemia/populations.toml``: name -> title, in the card's order."""
    return _read(str(card_folder("leukaemia") / "populations.toml"))


def state_of(disease: str) -> str | None:
    """Disease of which another one is a state; ``None`` of a disease that is no state."""
    return _states(str(card_folder("leukaemia") / "populations.toml")).get(disease)


def read_disease(
    table: Table, default: Any = "", remedy: str = "name one of them; words go to the title"
) -> str:
    """Read the key ``disease`` of a card: the name of a disease.

    Parameters
    ----------
    table
        Table with the key.
    default
        What stands for an absent key.
    remedy
        For the message.

    Raises
    ------
    CardError
        If it is not the name of a disease; the message gives the nearest and all names.
    """
    known = diseases()
    written = table.text("disease", default=default)
    if written != default and written not in known:
        table.refuse(
            "disease",
            f'"{written}" is not a disease of the marrow with leukaemia{nearest_disease(written)}',
            allowed=", ".join(known),
            remedy=remedy,
        )
    return written


def nearest_disease(text: str) -> str:
    """Hint at the disease whose name or title is nearest to a text; empty if none is near."""
    known = diseases()
    if hint := nearest_of(text, known):
        return hint
    words = _words(text)

    def shared(title: str) -> int:
        heads = _words(title)
        return sum(any(w.startswith(h) or h.startswith(w) for h in heads) for w in words)

    best = max(known, key=lambda name: shared(known[name]))
    return f" (did you mean {best!r}?)" if shared(known[best]) >= 2 else ""


def disease_in_words(name: str) -> str:
    """Title of a disease as it stands within a sentence; the name itself if it is unknown."""
    title = diseases().get(name, name)
    return title if title[1:2].isupper() else f"{title[:1].lower()}{title[1:]}"


def _words(text: str) -> list[str]:
    plain = "".join(letter if letter.isalnum() else " " for letter in text.casefold())
    return [word for word in plain.split() if len(word) > 2]


@lru_cache(maxsize=8)
def _states(path: str) -> Mapping[str, str]:
    tables = read_toml(path).named_tables("populations")
    found = {name: row.text("state_of", "") for name, row in tables.items()}
    return MappingProxyType({name: disease for name, disease in found.items() if disease})


@lru_cache(maxsize=8)
def _read(path: str) -> Mapping[str, str]:
    tables = read_toml(path).named_tables("populations")
    return MappingProxyType({name: row.text("title") for name, row in tables.items()})
