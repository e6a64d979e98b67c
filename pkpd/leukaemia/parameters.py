"""Global parameters of the leukaemia model, read from its cards: names, values, prior limits.

A parameter set ``theta`` is a flat mapping from name to number. A disease's own value has the
disease as last part of its name, ``stem_start.aml``; a spread between patients ends in ``.sd``
(``rho.sd``, ``stem_start.sd.aml``); what belongs to a drug ends in its name
(``intensity.etoposide``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pkpd.cards import Table, card_folder, read_toml
from pkpd.errors import PkpdError, sentence
from pkpd.units import Parameter

CARDS = ("marrow", "blasts", "drugs", "populations", "supportive", "endpoints")

#: How a number is known: as on other cards, and ``fitted`` (to landmarks, by a quick search) and
#: ``memory`` (not seen in print).
STATUSES = ("read", "transcribed", "derived", "fitted", "assumed", "memory")

Theta = Mapping[str, float]

_DISTRIBUTIONS = ("lognormal", "normal", "logit")


@dataclass(frozen=True)
class LeukaemiaCards:
    """All numbers of the leukaemia model.

    Attributes
    ----------
    parameters
        Name -> `pkpd.units.Parameter` with unit, prior limits (central 95 %), source and status.
    drugs
        Drugs of chemotherapy with an intensity of their own.
    populations
        Disease -> title.
    like
        Disease -> the disease whose values it takes where it has none.
    """

    parameters: Mapping[str, Parameter]
    drugs: tuple[str, ...]
    populations: Mapping[str, str]
    like: Mapping[str, str]

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
            msg = sentence(
                where="leukaemia model",
                what=f"unknown disease {disease!r}",
                allowed=", ".join(self.populations),
            )
            raise PkpdError(msg)
        found = [disease]
        while found[-1] in self.like:
            found.append(self.like[found[-1]])
        return tuple(found)


@lru_cache(maxsize=1)
def leukaemia_cards() -> LeukaemiaCards:
    """Read the shipped cards of ``models/leukaemia``.

    Raises
    ------
    CardError
        If a card cannot be used; the message names file, table and key.
    """
    folder = Path(str(card_folder("leukaemia")))
    read = [read_leukaemia_card(folder / f"{card}.toml") for card in CARDS]

    def together(part: str) -> MappingProxyType[str, Any]:
        return MappingProxyType({k: v for card in read for k, v in getattr(card, part).items()})

    return LeukaemiaCards(
        parameters=together("parameters"),
        drugs=tuple(drug for card in read for drug in card.drugs),
        populations=together("populations"),
        like=together("like"),
    )


def read_leukaemia_card(path: Path) -> LeukaemiaCards:
    """Read one card of the leukaemia model.

    Raises
    ------
    CardError
        If it cannot be used; the message names file, table and key.
    """
    parameters: dict[str, Parameter] = {}
    drugs: list[str] = []
    titles: dict[str, str] = {}
    like: dict[str, str] = {}
    root = read_toml(path)
    root.one_of("kind", ("leukaemia",))
    root.text("title")
    for name, row in root.named_tables("parameters", {}).items():
        parameters[name] = _parameter(name, row)
    for drug, table in root.named_tables("drugs", {}).items():
        drugs.append(drug)
        for name in table.data:
            parameters[f"{name}.{drug}"] = _parameter(f"{name}.{drug}", table.table(name))
    for disease, table in root.named_tables("populations", {}).items():
        titles[disease] = table.text("title")
        if "like" in table:
            like[disease] = table.one_of("like", tuple(titles))
        for name in table.data:
            if name not in ("title", "like"):
                full = f"{name}.{disease}"
                parameters[full] = _parameter(full, table.table(name))
    root.done()
    return LeukaemiaCards(
        parameters=parameters,
        drugs=tuple(drugs),
        populations=titles,
        like=like,
    )


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
            from pkpd.cards.files import nearest_of

            msg = sentence(
                where="parameters of the leukaemia model",
                what=f"unknown name {name!r}{nearest_of(name, theta)}",
                remedy="see models/leukaemia for the names",
            )
            raise PkpdError(msg)
        theta[name] = float(value)
    return theta


def value_of(theta: Theta, name: str, disease: str, default: float | None = None) -> float:
    """Value of a parameter for a disease: its own, that of a disease it is like, the general one.

    Raises
    ------
    PkpdError
        If there is none and no ``default``.
    """
    for own in _chain(disease):
        found = theta.get(f"{name}.{own}")
        if found is not None:
            return found
    found = theta.get(name, default)
    if found is None:
        msg = sentence(
            where="parameters of the leukaemia model", what=f"{name} is missing", remedy="add it"
        )
        raise PkpdError(msg)
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


def _parameter(name: str, row: Table) -> Parameter:
    limits = row.numbers("range", None, length=2)
    value = row.number("value")
    if limits is not None and not limits[0] <= value <= limits[1]:
        row.refuse("range", f"{value:g} lies outside of its range", allowed="around the value")
    fallback = "lognormal" if limits and limits[0] > 0.0 else "fixed" if not limits else "normal"
    return Parameter(
        name=name,
        value=value,
        unit=row.text("unit"),
        interval=limits,
        distribution=row.one_of("distribution", _DISTRIBUTIONS, fallback),
        source=row.text("source"),
        status=row.one_of("status", STATUSES),
        note=row.text("note", default=""),
    )
