"""Writing what a schedule file holds as TOML, so that `tomllib` reads the same back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHORT = 100


def write_toml(data: Mapping[str, Any]) -> str:
    """Write tables, lists, text, numbers and true or false as TOML.

    Parameters
    ----------
    data
        As `tomllib.loads` gives it; anything else than the above is written as text.

    Examples
    --------
    >>> print(write_toml({"title": "A", "dose": {"x": {"amount": "5 mg", "days": [1, 8]}}}))
    title = "A"
    <BLANKLINE>
    [dose.x]
    amount = "5 mg"
    days = [1, 8]
    <BLANKLINE>
    """
    lines: list[str] = []
    _table(data, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    """Write a table: its values, then its tables, then its lists of tables."""
    apart: list[tuple[str, Any]] = []
    named = _of_named(path, data)
    for key, value in data.items():
        if named or _needs_header(value):
            apart.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in apart:
        inside = (*path, key)
        if isinstance(value, Mapping):
            if not _of_named(inside, value) and (
                not value or any(not _needs_header(v) for v in value.values())
            ):
                lines += ["", f"[{_header(inside)}]"]
            _table(value, inside, lines)
            continue
        for row in value:
            lines += ["", f"[[{_header(inside)}]]"]
            _table(row, inside, lines)


def _of_named(path: tuple[str, ...], value: Mapping[str, Any]) -> bool:
    """Whether a table of the top holds named tables alone, such as ``[dose.x]``."""
    return len(path) == 1 and bool(value) and all(isinstance(v, Mapping) for v in value.values())


def _needs_header(value: Any) -> bool:
    """Whether a value is written under a header: a long or nested table, a list of tables."""
    if isinstance(value, Mapping):
        nested = any(isinstance(v, Mapping) or _of_tables(v) for v in value.values())
        return nested or not value or len(_value(value)) > _SHORT
    return _of_tables(value) and (len(_value(value)) > _SHORT or _with_lists(value))


def _of_tables(value: Any) -> bool:
    return _is_list(value) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _with_lists(value: Sequence[Mapping[str, Any]]) -> bool:
    return any(_of_tables(v) for row in value for v in row.values())


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _header(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if _is_list(value):
        return f"[{', '.join(map(_value, value))}]"
    return _text(str(value))


def _text(text: str) -> str:
    """Quoted text; JSON's escapes are TOML's, but for the characters it leaves bare."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(f"\\u{ord(c):04X}" if c == "\x7f" else c for c in quoted)
