"""Tables of a card's numbers for the model library: value, limits, status and source of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: How a number is known -> the words for readers.
STATUS_WORDS = {
    "read": "published: read in its source",
    "transcribed": "published: from another's copy of the source",
    "derived": "derived from published numbers",
    "fitted": "fitted to published landmarks",
    "memory": "published, from memory: not verified",
    "assumed": "assumed",
}

_MARKS = str.maketrans({c: "\\" + c for c in "\\|*_$<>[]`#~"})


def plain(text: str) -> str:
    """Text of a card as Markdown that shows every sign as it is."""
    return text.translate(_MARKS).replace("\n", " ")


def number_rows(parameters: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of a table: name, value with unit, limits, status, source and note."""
    return [
        (
            f"`{name}`",
            f"{row['value']:g}" + _unit(row),
            _limits(row),
            row["status"] + (", learned" if row.get("learned") else ""),
            plain("; ".join(t for t in (row["source"], row.get("note", "")) if t)),
        )
        for name, row in parameters.items()
        if isinstance(row, Mapping) and "value" in row and "source" in row
    ]


def spread_rows(spreads: Mapping[str, Any], what: str) -> list[tuple[str, ...]]:
    """Rows about how much patients, or occasions, differ."""
    rows = []
    for name, row in spreads.items():
        kind = next(k for k in ("cv", "sd", "variance") if k in row)
        words = {"cv": "CV", "sd": "SD of the log", "variance": "variance of the log"}[kind]
        rows.append(
            (
                f"`{name}`, {what}",
                f"{words} {row[kind]:g}",
                _limits(row),
                row["status"],
                plain(row["source"]),
            )
        )
    return rows


def number_table(rows: list[tuple[str, ...]]) -> str:
    """Rows as a Markdown table."""
    head = ("number", "value", "limits", "status", "source")
    return table(head, rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def statuses(card: Any) -> dict[str, int]:
    """How many numbers of a card are known in which way."""
    found: dict[str, int] = {}
    if isinstance(card, Mapping):
        if isinstance(card.get("status"), str):
            found[card["status"]] = 1
        for value in card.values():
            for status, count in statuses(value).items():
                found[status] = found.get(status, 0) + count
    elif isinstance(card, list):
        for value in card:
            for status, count in statuses(value).items():
                found[status] = found.get(status, 0) + count
    return found


def _unit(row: Mapping[str, Any]) -> str:
    unit = str(row.get("unit", "1"))
    return "" if unit == "1" else f" {plain(unit)}"


def _limits(row: Mapping[str, Any]) -> str:
    for key in ("ci95", "range"):
        if key in row:
            low, high = row[key]
            return f"{low:g} to {high:g}" + (" (95 % CI)" if key == "ci95" else "")
    return f"RSE {100 * row['rse']:g} %" if "rse" in row else ""
