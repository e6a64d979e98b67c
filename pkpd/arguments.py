"""Arguments at the doors of the package: one of a wrong kind is refused in a sentence."""

from __future__ import annotations

import difflib
import numbers
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

from pkpd.errors import PkpdError, sentence


class Kind(NamedTuple):
    """What an argument may be, in words, whether a value is that, and the texts among them."""

    words: str
    holds: Callable[[Any], bool]
    texts: tuple[str, ...] = ()

    def __or__(self, other: Kind) -> Kind:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One kind or the other."""
        return Kind(
            f"{self.words} or {other.words}",
            lambda v: self.holds(v) or other.holds(v),
            self.texts + other.texts,
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def a(*types: type, words: str = "") -> Kind:
    """Take an object of one of these classes."""
    return Kind(
        words or " or ".join(f"a {one.__name__}" for one in types), lambda v: isinstance(v, types)
    )


def from_to(least: int, most: int | None = None) -> Kind:
    """Take a whole number in a range."""
    words = f"a whole number from {least}" + ("" if most is None else f" to {most}")
    return Kind(words, lambda v: _is_whole(v) and least <= v and (most is None or v <= most))


def one_of(*words: str) -> Kind:
    """Take one of these words."""
    return Kind(", ".join(words), lambda v: isinstance(v, str) and v in words, words)


def several(one: Kind, words: str) -> Kind:
    """Take a collection, and no text, whose members all are of a kind."""

    def holds(value: Any) -> bool:
        # an iterator would be gone through here, and be empty later
        if isinstance(value, (str, bytes, Mapping, Iterator)) or not isinstance(value, Iterable):
            return False
        return all(one.holds(member) for member in value)

    return Kind(words, holds)


TEXT = Kind("text", lambda v: isinstance(v, str))
NUMBER = Kind("a number", _is_number)
PATH = Kind("the path of a file", lambda v: isinstance(v, (str, PathLike)))
MAPPING = Kind("a mapping of names", lambda v: isinstance(v, Mapping))
NONE = Kind("None", lambda v: v is None)
SHARE = Kind("a number between 0 and 1", lambda v: _is_number(v) and 0.0 < v < 1.0)
CALLABLE = Kind("a function", callable)
NAMES = several(TEXT, "a list of names")
NUMBERS = several(NUMBER, "a list of numbers")


def check_arguments(where: str, **given: tuple[Any, Kind]) -> None:
    """Refuse arguments of a wrong kind.

    Parameters
    ----------
    where
        The function, as a user calls it.
    **given
        Argument -> its value and its kind.

    Raises
    ------
    PkpdError
        Naming function, argument, value and what is allowed, of each that is wrong.

    Examples
    --------
    >>> check_arguments("simulate", until_day=("90", from_to(1)))
    Traceback (most recent call last):
        ...
    pkpd.errors.PkpdError: simulate, until_day: '90' is a str; allowed: a whole number from 1.
    """
    wrong = []
    for name, (value, kind) in given.items():
        if not kind.holds(value):
            shown = reprlib.repr(value)
            what = f"{shown} is a {type(value).__name__}"
            if value is None or _is_whole(value) or (kind.texts and isinstance(value, str)):
                near = nearest_of(value, kind.texts) if isinstance(value, str) else ""
                what = f"{shown} is given{near}"
            wrong.append(sentence(where=f"{where}, {name}", what=what, allowed=kind.words))
    if wrong:
        raise PkpdError(" ".join(wrong))


def nearest_of(name: str, names: Iterable[str], cutoff: float = 0.5) -> str:
    """``" (did you mean 'x'?)"`` for the most similar of `names`, or an empty string."""
    folded = {candidate.casefold(): candidate for candidate in names}
    close = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=cutoff)
    if not close and len(str(name)) > 2:  # a part of a longer name, such as a registry number
        close = [candidate for candidate in folded if str(name).casefold() in candidate]
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def pairs_of(
    words: Sequence[str] | None, flag: str, example: str, *, text: bool = False
) -> dict[str, Any]:
    """Read ``KEY=VALUE`` words of a command line.

    Parameters
    ----------
    words
        The words.
    flag, example
        Shown where one cannot be read.
    text
        Keep values as text; else numbers, true and false are read as such.

    Raises
    ------
    PkpdError
        If a word is no pair, or a key is given twice.
    """
    pairs: dict[str, Any] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        key, value = key.strip(), value.strip()
        if not (key and equals and value):
            raise PkpdError(
                where=flag, what=f"{word!r} is not KEY=VALUE", remedy=f"write {flag} {example}"
            )
        if key in pairs:
            raise PkpdError(where=flag, what=f"{key} is given twice", remedy="give it once")
        pairs[key] = value if text else _typed(value)
    return pairs


def _typed(value: str) -> Any:
    """Read a number, true or false as such, and anything else as text."""
    words = {"true": True, "false": False, "yes": True, "no": False}
    if value.lower() in words:
        return words[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
