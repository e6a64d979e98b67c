"""Settings of a wrong kind and risks that are none, refused in a sentence."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from pkpd.arguments import NONE, NUMBER, NUMBERS, TEXT, Kind, a, check_arguments, several
from pkpd.errors import PkpdError

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


def check_risks(risks: Sequence[float] | np.ndarray, levels: int | None) -> np.ndarray:
    """Risks of a DLT as an array of shape ``(draws, levels)``; `levels` of None for any number.

    Of an array whose dimensions have names, ``draw`` is the first.

    Raises
    ------
    PkpdError
        If there is not one for each dose, or one is no probability.
    """
    named: Any = risks
    if "draw" in getattr(named, "dims", ()):
        named = named.transpose("draw", ...)
    try:
        values = np.atleast_2d(np.asarray(named, float))
    except (TypeError, ValueError):
        what, allowed = (
            f"{reprlib.repr(risks)} are no risks",
            "numbers from 0 to 1, one for each dose",
        )
        raise PkpdError(where="risks", what=what, allowed=allowed) from None
    if values.ndim != 2 or not values.size or levels not in (None, values.shape[1]):
        many = f"{values.shape[-1]} risks" if values.ndim <= 2 else f"shape {values.shape}"
        what = f"{many} for {levels} doses"
        allowed = f"one risk for each dose, or draws of them as an array (draws, {levels})"
        raise PkpdError(where="risks", what=what, allowed=allowed)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        what = f"{values[wrong][0]:g} is no risk of a DLT"
        remedy = "write per cent as a fraction: 25 % is 0.25"
        raise PkpdError(where="risks", what=what, allowed="0 to 1", remedy=remedy)
    return values


def check_target(target: float) -> None:
    """Refuse a target that is no probability strictly between 0 and 1."""
    check_arguments("design", target=(target, NUMBER))
    if not 0.0 < target < 1.0:
        remedy = f"write {target:g} % as {target / 100:g}" if 1 < target < 100 else None
        what = f"{target:g} is no probability of a DLT"
        raise PkpdError(where="target", what=what, allowed="between 0 and 1", remedy=remedy)


def aimed_at(design: object, target: float | None) -> float | None:
    """Target that is given, or the design's own; ``None`` where it has none."""
    if target is None:
        return getattr(design, "target", None)
    check_target(target)
    return target
