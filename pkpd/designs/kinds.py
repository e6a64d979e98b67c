"""Settings of a wrong kind, refused in a sentence by the types that a class declares."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from pkpd.arguments import NONE, NUMBER, NUMBERS, TEXT, Kind, a, check_arguments, several

WHOLE = Kind("a whole number", lambda v: isinstance(v, int | np.integer) and not _is_bool(v))
WHOLES = several(WHOLE, "a list of whole numbers")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _two(one: Kind, words: str) -> Kind:
    each = several(one, words)
    return Kind(words, lambda v: each.holds(v) and len(tuple(v)) == 2)


BOOLEAN = Kind("true or false", _is_bool)
TWO_NUMBERS = _two(NUMBER, "two numbers")
TWO_WHOLES = _two(WHOLE, "two whole numbers")
KINDS = {
    "int": WHOLE,
    "int | None": WHOLE | NONE,
    "float": NUMBER,
    "float | None": NUMBER | NONE,
    "bool": BOOLEAN,
    "str": TEXT,
    "tuple[float, float]": TWO_NUMBERS,
    "float | tuple[float, float]": NUMBER | TWO_NUMBERS,
    "tuple[int, int]": TWO_WHOLES,
    "tuple[int, int] | None": TWO_WHOLES | NONE,
    "tuple[int, ...]": WHOLES,
    "Sequence[float]": NUMBERS,
}
"""What a value may be, by the type that its field declares."""


def check_fields(where: str, of: Any, **classes: Kind) -> None:
    """Refuse the fields of a dataclass whose values are not what their types say.

    Parameters
    ----------
    where
        The class, as a user knows it.
    of
        The object.
    **classes
        Kinds of further fields, whose type is a class.

    Raises
    ------
    PkpdError
        Naming each field, its value and what is allowed.
    """
    kinds = {one.name: classes.get(one.name) or KINDS.get(_said(one.type)) for one in fields(of)}
    given = {name: (getattr(of, name), kind) for name, kind in kinds.items() if kind is not None}
    check_arguments(where, **given)


def _said(kind: Any) -> str:
    """Type of a field as it is written, or the name of its class."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def one_or_none(kind: type) -> Kind:
    """Take an object of a class, or None."""
    return a(kind) | NONE
