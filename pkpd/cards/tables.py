"""A strict reader over one TOML file: every key is asked for, typed, checked and located.

All errors are :class:`~pkpd.errors.CardError`: one sentence with the file, the table or row, the
key, the value, what is allowed, and the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, NoReturn

from pkpd.cards.contents import contents
from pkpd.cards.files import CardPath, nearest_of, shown_name
from pkpd.cards.table_words import range_words, show, within
from pkpd.errors import CardError, PkpdError, sentence


class _Required:
    """Marks a key without default."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()

REMOVED: Final = object()
"""As what could stand in place of a value: nothing, the key must go."""


class Table:
    """One table of a card, read key by key.

    Every getter marks its key as known. :meth:`done` then refuses the keys nobody asked for, so a
    misspelt key is never passed over. With ``default=`` a key is optional and the default is
    returned, unchecked, when it is absent.

    Parameters
    ----------
    data
        The table as `tomllib` gives it.
    file
        The file's name as shown in errors.
    path
        Steps to the table's place in the file: keys, headers as ``[dose.clofarabine]`` and rows as
        ``[[cohort]] 2``; empty at the top.
    keys
        The same steps as keys and indices of the file's data.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        file: str,
        path: tuple[str, ...] = (),
        keys: tuple[Any, ...] = (),
    ) -> None:
        self.data = dict(data)
        self.file = file
        self.path = path
        self.keys = keys
        self._known: dict[str, None] = {}
        self._children: list[Table] = []

    def __contains__(self, key: str) -> bool:
        """Whether the key is written in the file (it then counts as known)."""
        self._known[key] = None
        return key in self.data

    # -- places and errors ----------------------------------------------------------------

    def where(self, key: str | None = None) -> str:
        """File, table and key as one string: ``trials/x.toml: [dose.clofarabine] > amount``."""
        inside = " > ".join(part for part in (*self.path, key) if part)
        return f"{self.file}: {inside}" if inside else self.file

    def error(
        self,
        key: str | None,
        what: str,
        allowed: str | None = None,
        remedy: str | None = None,
        instead: Any = None,
    ) -> CardError:
        """Make (not raise) the error of a key of this table; `instead` could stand there."""
        text = sentence(where=self.where(key), what=what, allowed=allowed, remedy=remedy)
        return self._placed(text, key, instead)

    def _placed(self, text: str, key: str | None, instead: Any = None) -> CardError:
        error = CardError(text)
        error.keys, error.key, error.instead = self.keys, key, instead
        return error

    def refuse(
        self, key: str | None, what: str, allowed: str | None = None, remedy: str | None = None
    ) -> NoReturn:
        """Raise the error of a key of this table."""
        raise self.error(key, what, allowed, remedy)

    def missing(
        self, key: str, allowed: str, instead: Any = None, remedy: str = "add it"
    ) -> CardError:
        """Make (not raise) the error of a required key that the table lacks."""
        near = nearest_of(key, (k for k in self.data if k not in self._known), cutoff=0.65)
        hint = near.replace("did you mean", "is it written as").replace("?)", " here?)")
        empty = "" if self.data or self.path else ", the file is empty"
        what = f"the key is missing{hint}{empty}"
        if hint and remedy == "add it":
            remedy = f"rename it to {key}"
        return self.error(key, what, allowed=allowed, remedy=remedy, instead=instead)

    @contextmanager
    def at(self, key: str | None = None) -> Iterator[None]:
        """Give an error of a lower layer the place in the file where its value stands."""
        try:
            yield
        except PkpdError as error:
            if isinstance(error, CardError) and str(error).startswith(self.file):
                raise
            text = f"{self.where(key)}: {error}"
            raise self._placed(text, key) from error

    def done(self) -> None:
        """Refuse every key of this table, and of the tables taken from it, that was not asked for.

        Raises
        ------
        CardError
            Naming the first unknown key and the nearest known one.
        """
        self.knows_all_keys()
        for child in self._children:
            child.done()

    def knows_all_keys(self) -> None:
        """Refuse every key of this table that was not asked for so far, as :meth:`done` does."""
        for key in self.data:
            if key not in self._known:
                known = list(self._known)
                words = set(key.split("_"))
                of_words = [name for name in known if words & set(name.split("_"))]
                near = nearest_of(key, known, cutoff=0.8) or nearest_of(key, of_words)
                near = near or nearest_of(key, known)
                raise self.error(
                    key,
                    f"unknown key{near}",
                    allowed=", ".join(sorted(known)) or "no keys",
                    remedy="correct or remove it",
                    instead=REMOVED,
                )

    # -- single values --------------------------------------------------------------------

    def text(self, key: str, default: Any = REQUIRED) -> Any:
        """Text of one key; an empty text is refused."""
        value = self._get(key, default, "text in quotes", "text")
        if value is default:
            return default
        if not isinstance(value, str):
            what, remedy = f"{show(value)} is not text", "put it in double quotes"
            raise self.error(key, what, remedy=remedy, instead=str(value))
        if not value.strip():
            what, remedy = "the text is empty", "write it, or remove the key"
            raise self.error(key, what, remedy=remedy, instead="text")
        return value

    def one_of(self, key: str, allowed: Iterable[str], default: Any = REQUIRED) -> Any:
        """Text of one key that is one of `allowed`."""
        words = tuple(allowed)
        value = self._get(key, default, ", ".join(words), words[0])
        if value is default:
            return default
        if not isinstance(value, str) or value not in words:
            hint = nearest_of(value, words) if isinstance(value, str) else ""
            what = f"{show(value)} is not allowed{hint}"
            raise self.error(key, what, allowed=", ".join(words), instead=words[0])
        return value

    def number(
        self,
        key: str,
        default: Any = REQUIRED,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        above: float | None = None,
        unit: str | None = None,
    ) -> Any:
        """Finite number of one key, as float.

        Parameters
        ----------
        key
            The key.
        default
            Returned when the key is absent; without it the key is required.
        minimum, maximum
            Allowed ends, both included.
        above
            Allowed lower end, itself excluded.
        unit
            Unit of the number, for the error message only.
        """
        allowed = range_words("a number", minimum, maximum, above, unit)
        value = self._get(key, default, allowed, within(minimum, maximum, above))
        if value is default:
            return default
        return self._checked(key, value, minimum, maximum, above, allowed)

    def integer(
        self,
        key: str,
        default: Any = REQUIRED,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> Any:
        """Whole number of one key, as int."""
        allowed = range_words("a whole number", minimum, maximum, None, None)
        value = self._get(key, default, allowed, within(minimum, maximum, None))
        if value is default:
            return default
        number = self._checked(key, value, minimum, maximum, None, allowed)
        if number != int(number):
            what = f"{show(value)} is not a whole number"
            raise self.error(key, what, allowed=allowed, instead=round(number))
        return int(number)

    def boolean(self, key: str, default: Any = REQUIRED) -> Any:
        """Read ``true`` or ``false`` of one key."""
        value = self._get(key, default, "true or false", True)
        if value is default:
            return default
        if not isinstance(value, bool):
            raise self.error(
                key, f"{show(value)} is not true or false", remedy="write true or false, no quotes"
            )
        return value

    # -- lists ----------------------------------------------------------------------------

    def numbers(
        self,
        key: str,
        default: Any = REQUIRED,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        above: float | None = None,
        length: int | None = None,
    ) -> Any:
        """List of finite numbers of one key, as a tuple of floats."""
        allowed = range_words("a list of numbers", minimum, maximum, above, None)
        values = self._list(key, default, allowed, length)
        if values is default:
            return default
        return tuple(
            self._checked(f"{key}, item {row}", value, minimum, maximum, above, allowed)
            for row, value in enumerate(values, start=1)
        )

    def texts(self, key: str, default: Any = REQUIRED, *, length: int | None = None) -> Any:
        """List of texts of one key, as a tuple."""
        values = self._list(key, default, "a list of texts", length)
        if values is default:
            return default
        for row, value in enumerate(values, start=1):
            if not isinstance(value, str) or not value.strip():
                item = f"{key}, item {row}"
                raise self.error(item, f"{show(value)} is not text", remedy="put it in quotes")
        return tuple(values)

    # -- tables ---------------------------------------------------------------------------

    def table(self, key: str, default: Any = REQUIRED) -> Any:
        """Table of one key, ``[key]`` or ``key = {...}``."""
        value = self._get(key, default, "a table")
        if value is default:
            return default
        return self._child(value, key, key)

    def tables(self, key: str, default: Any = REQUIRED) -> Any:
        """Rows ``[[key]]`` as a tuple of tables, counted from 1 in errors."""
        value = self._get(key, default, f"rows [[{key}]]")
        if value is default:
            return default
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            hint = "a single table" if isinstance(value, dict) else show(value)
            raise self.error(
                key, f"{hint} where rows are expected", remedy=f"write each row as [[{key}]]"
            )
        return tuple(
            self._child(row, f"[[{key}]] {n}", key, n - 1) for n, row in enumerate(value, start=1)
        )

    def named_tables(self, key: str, default: Any = REQUIRED) -> Any:
        """Tables ``[key.a]``, ``[key.b]`` as a dict from name to table, in the file's order."""
        value = self._get(key, default, f"tables [{key}.<name>]")
        if value is default:
            return default
        if not isinstance(value, dict):
            raise self.error(
                key, f"{show(value)} is not a table", remedy=f"write [{key}.<name>] tables"
            )
        shape = "{}.{}" if self.path else "[{}.{}]"
        return {
            name: self._child(row, shape.format(key, name), key, name)
            for name, row in value.items()
        }

    # -- inside ---------------------------------------------------------------------------

    def _child(self, value: Any, step: str, *keys: Any) -> Table:
        if not isinstance(value, dict):
            text = sentence(
                where=self.where(step),
                what=f"{show(value)} is not a table",
                remedy="write it as { name = value, ... }",
            )
            error = self._placed(text, None, REMOVED)
            error.keys = (*self.keys, *keys)
            raise error
        child = Table(value, self.file, (*self.path, step), (*self.keys, *keys))
        self._children.append(child)
        return child

    def _get(self, key: str, default: Any, expected: str, instead: Any = None) -> Any:
        self._known[key] = None
        if key in self.data:
            return self.data[key]
        if isinstance(default, _Required):
            raise self.missing(key, expected, instead)
        return default

    def _list(self, key: str, default: Any, allowed: str, length: int | None) -> Any:
        value = self._get(key, default, allowed)
        if value is default:
            return default
        if not isinstance(value, list):
            raise self.error(key, f"{show(value)} is not a list", remedy="write it as [a, b, ...]")
        if length is not None and len(value) != length:
            raise self.error(key, f"{len(value)} items where {length} are expected")
        return value

    def _checked(
        self,
        key: str,
        value: Any,
        minimum: float | None,
        maximum: float | None,
        above: float | None,
        allowed: str,
    ) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            remedy = "remove the quotes" if isinstance(value, str) else None
            what, instead = f"{show(value)} is not a number", within(minimum, maximum, above)
            raise self.error(key, what, allowed=allowed, remedy=remedy, instead=instead)
        number = float(value) if abs(value) < 1e308 else math.inf
        low = (minimum is not None and number < minimum) or (above is not None and number <= above)
        high = maximum is not None and number > maximum
        if not math.isfinite(number) or low or high:
            what, instead = f"{show(value)} is out of range", within(minimum, maximum, above)
            raise self.error(key, what, allowed=allowed, instead=instead)
        return number


def read_toml(path: CardPath | str) -> Table:
    """Read a TOML file into a strict :class:`Table`.

    Raises
    ------
    CardError
        If the file is missing, is not UTF-8, or is not TOML (with the line).
    """
    file = Path(path) if isinstance(path, str) else path
    shown = shown_name(path)
    instead = _INSTEAD.get()
    if instead is not None and instead[0] == str(path):
        return Table(instead[1], shown)
    return Table(contents(file, shown), shown)


@contextmanager
def reading_instead(path: CardPath | str, data: Mapping[str, Any]) -> Iterator[None]:
    """Read `data` where the file of this path would be read."""
    token = _INSTEAD.set((str(path), data))
    try:
        yield
    finally:
        _INSTEAD.reset(token)


_INSTEAD: ContextVar[tuple[str, Mapping[str, Any]] | None] = ContextVar("instead", default=None)
