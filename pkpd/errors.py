"""The errors a user can meet, each one sentence that says where and what to do."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "CardError",
    "DataError",
    "PkpdError",
    "PkpdWarning",
    "SolverWarning",
    "UnitError",
    "sentence",
    "unanswered",
    "writing",
]


_LONGEST = 200
_MOST = 1500  # characters of a part of a sentence


class PkpdError(ValueError):
    """Bad input, in one sentence: where, what, what is allowed, how to mend it.

    Parameters
    ----------
    text
        The whole sentence; left out, it is made of the other parts.
    where, what, allowed, remedy
        As `sentence`.
    """

    def __init__(
        self,
        text: str | None = None,
        *,
        where: str = "",
        what: str = "",
        allowed: str | None = None,
        remedy: str | None = None,
    ) -> None:
        made = sentence(where=where, what=what, allowed=allowed, remedy=remedy)
        super().__init__(made if text is None else text)


class CardError(PkpdError):
    """A card (drug, effect, marrow, population, trial, rule or scenario file) cannot be used.

    Attributes
    ----------
    keys
        Steps from the top of the file to the table.
    key
        Of the table; may be ``"levels, item 2"`` or ``"change.lenalidomide"``.
    instead
        A value that can be read; ``None`` if none is known.
    """

    keys: tuple[Any, ...] = ()
    key: str | None = None
    instead: Any = None


class DataError(PkpdError):
    """A data set row or a dosing event has no meaning, or contradicts another."""


class UnitError(PkpdError):
    """A unit is unknown, or has the wrong dimension for the quantity it is given for."""


class PkpdWarning(UserWarning):
    """Base of the warnings of this package."""


class SolverWarning(PkpdWarning):
    """Some lanes were solved again by the general engine, or could not be solved."""


def sentence(
    *,
    where: str,
    what: str,
    allowed: str | None = None,
    remedy: str | None = None,
) -> str:
    """Join the parts of an error message into one sentence.

    Parameters
    ----------
    where
        File, table or row, and key.
    what
        What is wrong, with the offending value.
    allowed
        The values that would be accepted.
    remedy
        What the user can do.

    Examples
    --------
    >>> sentence(where="mine.toml, days", what="0 is no day", allowed="1 or more")
    'mine.toml, days: 0 is no day; allowed: 1 or more.'
    """
    parts = [f"{_cut(where)}: {_cut(what)}"]
    if allowed:
        parts.append(f"allowed: {_cut(allowed)}")
    if remedy:
        parts.append(_cut(remedy))
    return "; ".join(parts) + "."


def _cut(text: str) -> str:
    """Leave out the middle of what nobody reads to its end, such as a number of 100,000 digits."""
    return text if len(text) <= _MOST else f"{text[: _MOST - _LONGEST]} [...] {text[-_LONGEST:]}"


def unanswered(error: Exception) -> str:
    """Say in a sentence what nothing else has answered: the machine lacks something, or a bug.

    Parameters
    ----------
    error
        Any error that is no `PkpdError`.
    """
    if isinstance(error, MemoryError):
        return "the memory does not suffice; ask for fewer patients or draws."
    if isinstance(error, OSError) and error.strerror:
        at = f"{error.filename}: " if error.filename else ""
        return f"{at}{error.strerror}; mend this on the machine, and run it again."
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}pkpd{os.sep}" in frame.filename]
    place = f" in {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    told = " ".join(str(error).split())[:_LONGEST]
    return (
        f"a mistake of the program ended this ({type(error).__name__}: {told}{place}). Please "
        "report it with your files; PKPD_TRACEBACK=1 before the command shows where it was."
    )


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Tell in a sentence that a file cannot be written: no room, no permission, no folder.

    Parameters
    ----------
    path
        What is written.

    Raises
    ------
    PkpdError
        In place of an ``OSError``.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PkpdError(
            sentence(
                where=str(path),
                what=f"cannot be written ({error.strerror or error})",
                remedy="name a place that exists, may be written to and has room",
            )
        ) from error
