"""What was worked out and may be asked for again: those used last are kept, up to a size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Itself:
    """Key of an object that is equal to nothing but itself.

    Parameters
    ----------
    what
        The object; it lives as long as the key.
    """

    def __init__(self, what: object) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        """Whether the other is a key of the same object."""
        return isinstance(other, Itself) and other.what is self.what

    def __hash__(self) -> int:
        """Hash of what it is, not of what it holds."""
        return id(self.what)


class Kept(Generic[Value]):
    """Values by key; safe among threads, of which two may work out the same at once.

    Parameters
    ----------
    most
        All that is kept has at most this size together; a value that has more is not kept.
    size
        Of a value.

    Attributes
    ----------
    total
        Size of all that is kept.
    """

    def __init__(self, most: float, size: Callable[[Value], float] = lambda value: 1.0) -> None:
        self.most = most
        self._size = size
        self.total = 0.0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Value of a key, which says all that the value depends on; made if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        with self._lock:
            if key not in self._values and self._size(made) <= self.most:
                self._values[key] = made
                self.total += self._size(made)
            while self.total > self.most:
                self.total -= self._size(self._values.popitem(last=False)[1])
        return made

    def __contains__(self, key: Hashable) -> bool:
        """Whether the value of a key is there."""
        with self._lock:
            return key in self._values

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self.total = 0.0
