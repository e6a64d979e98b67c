"""Words for the errors of a table: ranges and values, and a number that is in range."""

from __future__ import annotations

import math
from typing import Any


def within(minimum: float | None, maximum: float | None, above: float | None) -> float:
    """Give a number that is in the range, a whole one if possible."""
    low = minimum if minimum is not None else above
    if low is None:
        return 1 if maximum is None or maximum >= 1 else maximum
    inside = math.floor(low) + 1
    return inside if maximum is None or inside <= maximum else maximum


def range_words(
    noun: str, minimum: float | None, maximum: float | None, above: float | None, unit: str | None
) -> str:
    """Tell a range: ``a number at least 0 and at most 1 (h)``."""
    parts = []
    if above is not None:
        parts.append(f"above {above:g}")
    if minimum is not None:
        parts.append(f"at least {minimum:g}")
    if maximum is not None:
        parts.append(f"at most {maximum:g}")
    words = f"{noun} {' and '.join(parts)}" if parts else noun
    return f"{words} ({unit})" if unit else words


def show(value: Any) -> str:
    """Show a value of a file as an error does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return str(value)
