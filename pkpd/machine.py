"""What this process may use: cores, threads, memory, and a folder for what can be made again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

_ARENA_MAX = -8  # of ``mallopt`` in glibc


def cores() -> int:
    """Cores that this process may use: those it is bound to, not all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Threads that a computation may use: ``NUMBA_NUM_THREADS`` (1 on workers), else cores."""
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(int(given), cores()) if given.isdigit() and int(given) else cores()


def cache_home() -> Path:
    """Return the folder of what may be made again: ``$XDG_CACHE_HOME/pkpd``, or below ``~/.cache``.

    Raises
    ------
    RuntimeError
        If there is neither.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pkpd"


def share_memory() -> None:
    """Let all threads of this process take memory from one place.

    Some C libraries keep one for each thread, and what a thread frees there no other takes. For the
    start of a command that runs for long; it acts on the whole process.
    """
    _c("mallopt")(_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give the system back what is no longer used; some C libraries keep it for later."""
    _c("malloc_trim")(0)


@lru_cache(maxsize=8)
def _c(name: str) -> Callable[..., object]:
    """Give a function of the C library, or one that does nothing where there is none such."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return lambda *_: 0
