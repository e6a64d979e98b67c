"""Every problem of a file: each is mended in memory, and the file is read again."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pkpd.cards.tables import REMOVED, read_toml, reading_instead
from pkpd.errors import CardError, PkpdError

_MOST = 100
_ITEM = re.compile(r"^(.*), item (\d+)$")
_HINT = re.compile(r"\(did you mean '([^']+)'\?\)")
_WRITTEN_AS = re.compile(r"\(is it written as '([^']+)' here\?\)")
_ALLOWED = re.compile(r"; allowed: ([^ ,;]+)(?=[,;.])")
#: What a key is mended with if its error says nothing better.
_PLAIN: dict[str, Any] = {
    "amount": "1 mg",
    "days": "1",
    "duration": "1 h",
    "hour": 0,
    "horizon_days": 3660,
    "cycle_days": 28,
    "population": "rr_aml",
    "rule": "leukemia_d42_generic",
    "grades": "ctcae_v5",
    "baseline": "anc",
    "sigma": 0.3,
    "sd": 1.0,
    "concentration": 4.0,
    "probability": 0.5,
    "dose": {},
    "course": {},
}
#: Problems of a key that may only come from a mended value of another.
_FOLLOWS = {
    "terms": ("unit",),
    "cycle_days": ("days", "doses"),
    "levels": ("amount",),
    "route": ("drug", "doses"),
    "amount": ("drug", "doses"),
    "horizon_days": ("days", "rule", "cycle_days", "cycles", "start_day"),
    "courses": ("course", "dose", "days", "cycle_days", "cycles", "start_day"),
}
#: Problems of a whole table may come from what was mended in it, and those of a course from doses.
_OF_DOSES = ("drug", "amount", "days", "hour")


def every_problem(path: Path, read: Callable[[Path], object]) -> list[str]:
    """Find all problems of a file, not only the first.

    Each problem is told and mended in a copy of the file's contents, which is then read again. A
    problem for which no value is known that could stand in its place ends the search.

    Parameters
    ----------
    path
        The file.
    read
        Reads it, or raises a `PkpdError`.

    Returns
    -------
    list of str
        One sentence for each problem.
    """
    try:
        data: dict[str, Any] = read_toml(path).data
    except PkpdError as error:
        return [str(error)]

    def again(data: Mapping[str, Any]) -> None:
        with reading_instead(path, data):
            read(path)

    return [str(error) for error in problems_of(data, again)]


def problems_of(
    data: Mapping[str, Any], read: Callable[[Mapping[str, Any]], object]
) -> list[PkpdError]:
    """Find all problems of what a file holds, as `every_problem`.

    Parameters
    ----------
    data
        The contents; they are not changed.
    read
        Reads them, or raises a `PkpdError`.

    Returns
    -------
    list of PkpdError
        One for each problem; a `CardError` knows its place.
    """
    found: list[PkpdError] = []
    mended: list[tuple[Any, ...]] = []
    copied = copy.deepcopy(dict(data))

    def add(error: PkpdError) -> None:
        if str(error) not in map(str, found):
            found.append(error)

    for _ in range(_MOST):
        try:
            read(copied)
        except CardError as error:
            place = (*error.keys, *_steps(error.key))
            if not _follows(place, error, mended):
                add(error)
            if mended.count(place) > 2 or not (
                _mend(copied, place, error) or _remove(copied, place, mended)
            ):
                break
            mended.append(place)
            if hint := _HINT.search(str(error)):  # it may have been renamed
                mended.append((*place[:-1], hint.group(1)))
        except PkpdError as error:
            add(error)
            break
        else:
            break
    return found


def _steps(key: str | None) -> tuple[Any, ...]:
    """Split a key into steps: ``"trials, item 2"`` and ``"change.lenalidomide"`` too."""
    if not key:
        return ()
    item = _ITEM.match(key)
    return (item.group(1), int(item.group(2)) - 1) if item else tuple(key.split("."))


def _follows(place: tuple[Any, ...], error: CardError, mended: list[tuple[Any, ...]]) -> bool:
    """Whether a problem may only come from what was mended, or is a part of it."""
    # a value that cannot be read at all is nobody else's doing
    causes = _FOLLOWS.get(str(place[-1]), ()) if place and error.instead is None else ()
    hint = _HINT.search(str(error))
    same = hint is not None and (*place[:-1], hint.group(1)) in mended
    if error.key is None and error.instead is None and place:
        same |= any(step[: len(place)] == place for step in mended)
        causes = _OF_DOSES if place[0] == "course" else causes
    return place in mended or same or any(step[-1] in causes for step in mended if step)


def _mend(data: dict[str, Any], place: tuple[Any, ...], error: CardError) -> bool:
    """Put what could stand there in place of a problem; False if nothing is known."""
    text, instead = str(error), error.instead
    if not place:
        return False
    inside: Any = data
    for step in place[:-1]:
        try:
            inside = inside[step]
        except (KeyError, IndexError, TypeError):
            return False
    key = place[-1]
    hint, other = _HINT.search(text), _WRITTEN_AS.search(text)
    named = error.key is None or "." in error.key  # the table's own name is the problem
    of_table = named and isinstance(inside, dict) and isinstance(inside.get(key), dict)
    if other and isinstance(inside, dict) and other.group(1) in inside:
        inside[key] = inside.pop(other.group(1))
    elif hint and isinstance(inside, dict) and (instead is REMOVED or of_table):
        if hint.group(1) in inside and of_table:
            return False
        inside.setdefault(hint.group(1), inside.pop(key, None))
    elif instead is REMOVED:
        return isinstance(inside, dict) and inside.pop(key, REMOVED) is not REMOVED
    else:
        return _replace(inside, key, text, instead)
    return True


def _remove(data: dict[str, Any], place: tuple[Any, ...], mended: list[tuple[Any, ...]]) -> bool:
    """Take out a key that an unknown one was renamed to; False if it is another."""
    if place not in mended:
        return False
    inside: Any = data
    for step in place[:-1]:
        inside = inside[step]
    return isinstance(inside, dict) and inside.pop(place[-1], REMOVED) is not REMOVED


def _replace(inside: Any, key: Any, text: str, instead: Any) -> bool:
    """Replace a value: by the hint, a number in quotes, the first allowed word, or a plain one."""
    try:
        written = inside[key] if isinstance(inside, list) or key in inside else None
    except (IndexError, TypeError):
        return False
    hint, allowed = _HINT.search(text), _ALLOWED.search(text)
    value = instead
    if isinstance(written, str) and key in _PLAIN:
        value = _PLAIN[key]
    elif isinstance(written, list) and hint:
        wrong = [item for item in written if f"{item!r}" in text]
        value = [hint.group(1) if item in wrong else item for item in written]
        value = value if wrong else [hint.group(1)]
    elif (written is None or isinstance(written, str)) and hint:
        value = hint.group(1)
    elif isinstance(written, str) and isinstance(instead, int | float) and _number(written):
        value = float(written)
    elif value is None and isinstance(written, str) and key not in _PLAIN and allowed:
        value = allowed.group(1)
    if value is None:
        value = _PLAIN.get(str(key))
    if value is None or value == written:
        return False
    inside[key] = value
    return True


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
