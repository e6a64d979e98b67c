"""Checks that dosing types share; each error is one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pkpd.arguments import NUMBER, check_arguments
from pkpd.errors import PkpdError, UnitError

STATUSES = ("read", "transcribed", "derived", "assumed")  # from best known to least known


def check_positive(where: str, noun: str, value: float, unit: str) -> None:
    """Refuse a number that is not positive and finite."""
    check_arguments(where, **{noun: (value, NUMBER)})
    if not math.isfinite(value) or value <= 0.0:
        raise UnitError(
            where=where,
            what=f"{noun} is {value:g} {unit}".rstrip(),
            allowed="a positive finite number",
        )


def check_whole(where: str, noun: str, value: int, least: int, most: int | None = None) -> None:
    """Refuse a number that is not whole, below `least` or above `most`."""
    check_arguments(where, **{noun: (value, NUMBER)})
    inside = math.isfinite(value) and value >= least and (most is None or value <= most)
    if not inside or int(value) != value:
        raise PkpdError(
            where=where,
            what=f"{noun} is {value}",
            allowed=f"a whole number from {least}" + (f" to {most}" if most else ""),
        )


def check_one_of(where: str, noun: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is not one of `allowed`."""
    if value not in allowed:
        raise PkpdError(where=where, what=f"{noun} is {value!r}", allowed=", ".join(allowed))


def check_status(where: str, status: str) -> None:
    """Refuse a status that is not one of :data:`STATUSES`."""
    check_one_of(where, "status", status, STATUSES)


def is_multiple(value: float, step: float) -> bool:
    """Whether `value` is a whole number of `step`, up to rounding error."""
    ratio = value / step
    return math.isfinite(ratio) and abs(ratio - round(ratio)) < 1e-9 * max(1.0, ratio)
