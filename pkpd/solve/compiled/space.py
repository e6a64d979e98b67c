"""Memory of the compiled kernels: aligned, and kept by each thread between calls."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_LINE = 64  # bytes in a line of the cache

_local = threading.local()


def work_space(name: str, size: int, dtype: type = np.float64) -> Any:
    """Work space of this thread; it grows to the largest problem seen and is kept."""
    space = getattr(_local, name, None)
    if space is None or space.size < size:
        space = aligned(size, dtype)
        setattr(_local, name, space)
    return space


def aligned(size: int, dtype: type = np.float64) -> Any:
    """Fresh memory from the start of a line of the cache: vectors across two cost a third more."""
    raw = np.empty(size * np.dtype(dtype).itemsize + _LINE, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : raw.size - _LINE + start].view(dtype)
