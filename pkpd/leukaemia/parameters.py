"""Global parameters of the leukaemia model, read from its cards: names, values, prior limits.

A parameter set ``theta`` is a flat mapping from name to number. A disease's own value has the
disease as last part of its name, ``stem_start.aml``; a spread between patients ends in ``.sd``
(``rho.sd``, ``stem_start.sd.aml``); what belongs to a drug ends in its name
(``intensity.etoposide``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pkpd.cards import card_folder, card_hash, card_names, read_toml
from pkpd.cards.drug_cards import load_drug_card, named, read_number, read_words
from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.units import Parameter

CARDS = ("marrow", "blasts", "drugs", "populations", "supportive", "endpoints")
LANDED = "full"
"""Variant of the marrow whose numbers are those of `CARDS`."""

Theta = Mapping[str, float]


USUAL_CRITERIA = "eln_2022"
"""Response criteria of a disease whose card names none."""

_NO_NUMBERS = ("title", "like", "state_of", "response_criteria", "improvements")


@dataclass(frozen=True)
class LeukaemiaCards:
    """All numbers of the leukaemia model.

    Attributes
    ----------
    parameters
        Name -> `pkpd.units.Parameter` with unit, prior limits (central 95 %), source and status.
    drugs
        Drugs with parameters of their own, whose names end in the drug's.
    populations
        Disease -> title.
    like
        Disease -> the disease whose values it takes where it has none.
    states
        State of a disease -> the disease, about whose resistance its own is pooled.
    files
        Name of each card that was read -> SHA-256 of its bytes, as they were read.
    words
        Name of a parameter, or what it is before the disease's name -> its name for readers.
    criteria
        Disease -> card of its response criteria, where it names one.
    improvements
        Disease -> codes of these criteria that count as a response besides those of the marrow.
    """

    parameters: Mapping[str, Parameter]
    drugs: tuple[str, ...]
    populations: Mapping[str, str]
    like: Mapping[str, str]
    words: Mapping[str, str]
    criteria: Mapping[str, str] = field(default_factory=dict)
    improvements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)

    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the parameters that published outcomes are asked for."""
        return tuple(name for name, p in self.parameters.items() if p.learned)

    @property
    def theta(self) -> dict[str, float]:
        """Card values of all parameters."""
        return {name: p.value for name, p in self.parameters.items()}

    def chain(self, disease: str) -> tuple[str, ...]:
        """List the disease and those it is like, nearest first.

        Raises
        ------
        PkpdError
            If the disease is unknown.
        """
        if disease not in self.populations:
            raise PkpdError(
                where="leukaemia model",
                what=f"unknown disease {disease!r}",
                allowed=", ".join(self.populations),
            )
        found = [disease]
        while found[-1] in self.like:
            found.append(self.like[found[-1]])
        return tuple(found)


@lru_cache(maxsize=8)
def leukaemia_cards(variant: str = LANDED) -> LeukaemiaCards:
    """Read the shipped cards of ``models/leukaemia``, and of ``models/drugs``.

    Parameters
    ----------
    variant
        Name of a variant of the marrow (`pkpd.marrow.variants.VARIANTS`). One with other equations
        of recovery has a card of its name, whose numbers take the place of the others.

    Raises
    ------
    CardError
        If a card cannot be used; the message names file, table and key.
    """
    folder = Path(str(card_folder("leukaemia")))
    own = (variant,) if variant in card_names("leukaemia") else ()
    read = [read_leukaemia_card(folder / f"{card}.toml") for card in CARDS]
    last = [read_leukaemia_card(folder / f"{card}.toml") for card in own]

    def together(part: str) -> MappingProxyType[str, Any]:
        cards = [*read, *last]
        return MappingProxyType({k: v for card in cards for k, v in getattr(card, part).items()})

    drugs = [load_drug_card(name) for name in card_names("drugs")]
    numbers, words = dict(together("parameters")), dict(together("words"))
    for card in drugs:
        action = card.leukaemia
        for parameter in () if action is None else action.numbers:
            numbers[f"{parameter.name}.{card.name}"] = named(parameter, card.name)
        words |= {f"{k}.{card.name}": text for k, text in (action.words if action else ())}
    # those of a variant stand before those of drugs, too
    numbers |= {name: number for card in last for name, number in card.parameters.items()}
    return LeukaemiaCards(
        parameters=MappingProxyType(numbers),
        drugs=tuple(c.name for c in drugs if c.leukaemia and c.leukaemia.numbers),
        populations=together("populations"),
        like=together("like"),
        words=MappingProxyType(words),
        criteria=together("criteria"),
        improvements=together("improvements"),
        states=together("states"),
        files=together("files"),
    )


def read_leukaemia_card(path: Path) -> LeukaemiaCards:
    """Read one card of the leukaemia model.

    Raises
    ------
    CardError
        If it cannot be used; the message names file, table and key.
    """
    parameters: dict[str, Parameter] = {}
    titles: dict[str, str] = {}
    like: dict[str, str] = {}
    criteria: dict[str, str] = {}
    improvements: dict[str, tuple[str, ...]] = {}
    states: dict[str, str] = {}
    root, digits = read_toml(path), card_hash(path)
    root.one_of("kind", ("leukaemia",))
    root.text("title")
    for name, row in root.named_tables("parameters", {}).items():
        parameters[name] = read_number(row, name)
    for disease, table in root.named_tables("populations", {}).items():
        titles[disease] = table.text("title")
        if "like" in table:
            like[disease] = table.one_of("like", tuple(titles))
        if "state_of" in table:
            like[disease] = states[disease] = table.one_of("state_of", tuple(titles))
            if "like" in table:
                table.refuse("like", "stands beside state_of", remedy="keep one of them")
        if "response_criteria" in table:
            criteria[disease] = table.one_of("response_criteria", tuple(card_names("rules")))
            improvements[disease] = table.texts("improvements", ())
        for name in table.data:
            if name not in _NO_NUMBERS:
                full = f"{name}.{disease}"
                parameters[full] = read_number(table.table(name), full)
    words = dict(read_words(root))
    root.done()
    return LeukaemiaCards(
        parameters=parameters,
        drugs=(),
        populations=titles,
        like=like,
        words=words,
        criteria=criteria,
        improvements=improvements,
        states=states,
        files={path.stem: digits},
    )


def response_criteria(disease: str) -> tuple[str, tuple[str, ...]]:
    """Card of the response criteria of a disease, and the improvements that are responses too.

    Its own, or those of the nearest disease it is like; `USUAL_CRITERIA` where none names any.
    """
    cards = leukaemia_cards()
    for own in _chain(disease):
        if own in cards.criteria:
            return cards.criteria[own], cards.improvements[own]
    return USUAL_CRITERIA, ()


def default_theta(**changes: float) -> dict[str, float]:
    """Card values, with some changed.

    Parameters
    ----------
    **changes
        Values by name; a dot is written as two underscores (``rho__sd=0.4``).

    Raises
    ------
    PkpdError
        If a name is unknown.
    """
    return with_changes({key.replace("__", "."): value for key, value in changes.items()})


def with_changes(changes: Theta) -> dict[str, float]:
    """Card values with some of them replaced, or given for a disease that has none of its own.

    Raises
    ------
    PkpdError
        If a name is neither a parameter nor a parameter of a disease.
    """
    cards = leukaemia_cards()
    theta = cards.theta
    for name, value in changes.items():
        base, _, disease = name.rpartition(".")
        if name not in theta and not (base in _known_bases() and disease in cards.populations):
            raise PkpdError(
                where="parameters of the leukaemia model",
                what=f"unknown name {name!r}{nearest_of(name, theta)}",
                remedy="see models/leukaemia for the names",
            )
        theta[name] = float(value)
    return theta


def value_of(theta: Theta, name: str, disease: str, default: float | None = None) -> float:
    """Value of a parameter for a disease: its own, that of a disease it is like, the general one.

    A number of a disease that is ``nan`` counts as not given: draws of a posterior that was learned
    before the disease had a number of its own have it.

    Raises
    ------
    PkpdError
        If there is none and no ``default``.
    """
    for own in _chain(disease):
        found = theta.get(f"{name}.{own}")
        if found is not None and not isnan(found):
            return found
    found = theta.get(name, default)
    if found is None:
        raise PkpdError(
            where="parameters of the leukaemia model", what=f"{name} is missing", remedy="add it"
        )
    return found


@lru_cache(maxsize=128)
def _chain(disease: str) -> tuple[str, ...]:
    return leukaemia_cards().chain(disease)


@lru_cache(maxsize=1)
def _known_bases() -> frozenset[str]:
    cards = leukaemia_cards()
    names = set()
    for name in cards.parameters:
        base, _, last = name.rpartition(".")
        names.add(base if last in cards.populations else name)
    return frozenset(names)
