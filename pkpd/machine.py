"""What this process may use: cores, threads, memory, and a folder for what can be made again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path


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


def give_back_memory() -> None:
    """Give the system back what is no longer used; some C libraries keep it for later.

    Threads of glibc keep what they free each for itself: what a comparison freed with its first
    trials was two thirds of the memory it held at its end.
    """
    _trim()(0)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return lambda _keep: 0
