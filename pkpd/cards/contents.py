"""Contents of a file, read once for as long as the file does not change."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pkpd.cards.files import CardPath
from pkpd.errors import CardError, sentence

T = TypeVar("T")
_PART = r"""(?>[\w-]+|"[^"\n]*"|'[^'\n]*')"""

MOST_LEVELS = 50
"""Levels of lists and tables that a file may have."""
_BARE_POINT = re.compile(r"^[^\"'#]*[=\[,]\s*-?(\.\d|\d+\.(?!\d))")
_DECIMAL_COMMA = re.compile(r"^[\w.\s\"-]+=\s*-?\d+,\d+\s*(#.*)?$")
# `tomllib` takes the square of the levels of a key in time and memory
_DEEP_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{MOST_LEVELS}}}")


def read_once(read: Callable[[CardPath], T]) -> Callable[[CardPath], T]:
    """Keep what a reader gives for as long as the file does not change.

    Parameters
    ----------
    read
        From a file to something that nobody changes; what it refuses it reads again.
    """

    @lru_cache(maxsize=256)
    def kept(file: Path, changed: int, size: int) -> T:
        return read(file)

    def found(file: CardPath) -> T:
        if not isinstance(file, Path):
            return read(file)
        try:
            now = file.stat()
        except OSError:
            return read(file)  # which says what is wrong
        return kept(file, now.st_mtime_ns, now.st_size)

    return found


def contents(file: CardPath, shown: str) -> dict[str, Any]:
    """Tables of a file as `tomllib` gives them; nobody may write in them.

    Parameters
    ----------
    file
        The file.
    shown
        Its name for messages.

    Raises
    ------
    CardError
        If the file is missing, is not UTF-8, or is not TOML (with the line).
    """
    if isinstance(file, Path):
        try:
            found = file.stat()
        except OSError:
            pass  # reading it says what is wrong
        else:
            return _parsed(file, shown, found.st_mtime_ns, found.st_size)
    return _parse(file, shown)


@lru_cache(maxsize=512)
def _parsed(file: Path, shown: str, changed: int, size: int) -> dict[str, Any]:
    """Parse a file of a certain time and size."""
    return _parse(file, shown)


def _parse(file: CardPath, shown: str) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CardError(
            where=shown, what="the file cannot be read", remedy="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise CardError(
            where=shown, what="the file is not UTF-8 text", remedy="save it as UTF-8"
        ) from error
    try:
        data = parsed_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise CardError(_syntax(shown, text, str(error))) from error
    except ValueError as error:  # more digits than Python makes an integer of
        raise CardError(
            where=shown, what="a number has thousands of digits", remedy="correct it"
        ) from error
    except RecursionError:
        data = None
    if data is None or _deeper_than(data, MOST_LEVELS):
        raise CardError(
            where=shown,
            what="lists or tables lie too deep within one another",
            allowed=f"at most {MOST_LEVELS} levels",
            remedy="write them flat",
        )
    return data


def parsed_toml(text: str) -> dict[str, Any]:
    """Tables of a text, as of ``tomllib.loads``.

    Raises
    ------
    RecursionError
        If lists and tables lie too deep within one another for any file, a key of many dots, say.
    tomllib.TOMLDecodeError
        If it is not TOML.
    """
    if _DEEP_KEY.search(text):
        raise RecursionError
    return tomllib.loads(text)


def _deeper_than(data: Mapping[str, Any], levels: int) -> bool:
    """Whether lists and tables lie deeper within one another than so many levels."""
    inside: list[Any] = [data]
    for _ in range(levels):
        nested = [v for one in inside for v in (one.values() if isinstance(one, dict) else one)]
        inside = [v for v in nested if isinstance(v, dict | list)]
        if not inside:
            return False
    return True


def _syntax(shown: str, text: str, message: str) -> str:
    place = re.search(r"\(at line (\d+), column (\d+)\)", message)
    lines = text.splitlines()
    number = int(place.group(1)) if place else len(lines)
    what = message[: place.start()] if place else message.replace("(at end of document)", "")
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    key = line.partition("=")[0].strip()
    if "overwrite a value" in what and key:
        where, what = f"{shown}: line {number}", f"{key!r} stands a second time in this table"
        return sentence(where=where, what=what, remedy=f"leave one of them out: {line!r}")
    if _DECIMAL_COMMA.search(line):
        where, what = f"{shown}: line {number}", f"{line!r} has a comma in a number"
        remedy = "write a fraction with a point, 0.25, and a thousand without a comma, 1000"
        return sentence(where=where, what=what, remedy=remedy)
    if _BARE_POINT.search(line):
        where, what = f"{shown}: line {number}", f"{line!r} has a point without a digit beside it"
        return sentence(where=where, what=what, remedy="write 0.5, and 5.0")
    return sentence(
        where=f"{shown}: line {number}",
        what=f"not valid TOML, {what.strip()[:1].lower()}{what.strip()[1:]}",
        remedy=f"correct {line!r}" if line else "correct the line",
    )
