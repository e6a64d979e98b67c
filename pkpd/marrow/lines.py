"""Marrow lines by name: which equations a card may ask for, and the line that a card describes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pkpd.cards.model_cards import ModelCard
from pkpd.errors import PkpdError
from pkpd.marrow.friberg import Friberg, MarrowLine, PlateletChain
from pkpd.marrow.gcsf import GcsfMarrow
from pkpd.marrow.stem_cell import StemCellMarrow

_LINES: dict[str, type] = {
    "friberg": Friberg,
    "platelet_chain": PlateletChain,
    "stem_cell": StemCellMarrow,
    "gcsf": GcsfMarrow,
}


def marrow_line(name: str, **options: object) -> MarrowLine:
    """Marrow line by name, as cards give it.

    Parameters
    ----------
    name
        ``friberg``, ``platelet_chain``, ``stem_cell`` or ``gcsf``. New lines are classes with the
        methods of `pkpd.marrow.friberg.MarrowLine`, entered in this registry and, with what their
        cards must give, in `pkpd.cards.model_cards.STRUCTURES`.
    **options
        Structure: ``transits``, ``circulation``, ``ageing``, ``saturation``, ``g_csf``,
        ``feedback_rule``, as far as the line has them.

    Raises
    ------
    PkpdError
        If the name or an option is unknown.

    Examples
    --------
    >>> marrow_line("friberg", transits=1).states
    ('log_proliferating', 'transit_1', 'circulating')
    """
    if name not in _LINES:
        raise PkpdError(
            where="marrow line", what=f"unknown name {name!r}", allowed=", ".join(_LINES)
        )
    line = _LINES[name]
    allowed = [f.name for f in fields(line)]
    for option in options:
        if option not in allowed:
            raise PkpdError(
                where=f"marrow line {name!r}",
                what=f"unknown option {option!r}",
                allowed=", ".join(allowed),
            )
    return line(**options)


def line_of_card(card: ModelCard, feedback_rule: str = "kept") -> MarrowLine:
    """Marrow line that a card describes.

    Parameters
    ----------
    card
        A marrow card.
    feedback_rule
        See `pkpd.marrow.friberg.FeedbackRule`; of the joint card, not of the marrow card.

    Raises
    ------
    PkpdError
        If a setting of the card is outside what its line allows.
    """
    options: dict[str, Any] = {
        name: value if name == "saturation" else int(value) for name, value in card.settings
    }
    if "circulation" in {f.name for f in fields(_LINES[card.structure])}:
        options["circulation"] = "own"  # cards always give k_circ; 1/ktr is a relation of theirs
    return marrow_line(card.structure, feedback_rule=feedback_rule, **options)
