"""Where machine code is kept: in a folder of its own for each state of the source.

Numba keeps the code of a function beside its file and looks at that file alone for changes. A
function that it calls, a constant or the class of an argument may be of another file: what an older
version of the package left would then be used, or end in an error as it is read. Here the folder
bears a digest of all source that compiled code can depend on.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from numba import config, njit
from numba.core import caching

from pkpd.digests import PACKAGE, source_digest, unchanged
from pkpd.machine import cache_home

_UNUSED_DAYS = 30
_DAY_S = 86400.0


@lru_cache(maxsize=4)
def code_folder(given: str) -> Path:
    """Return a folder that can be written to, of this state of the source.

    Parameters
    ----------
    given
        Folder that the user gave Numba; empty for the package's own. Where neither can be used, the
        folder is a temporary one that goes with the process.
    """
    try:
        base = Path(given) / "pkpd" if given else cache_home() / "numba"
        made = base / source_digest()
        new = not made.is_dir()
        made.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=made).close()
        os.utime(made)
        if new:
            _remove_unused(base)
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        made = Path(tempfile.mkdtemp(prefix="pkpd-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def own_folder() -> Path:
    """Folder of this state of the source, as Numba's settings and the machine have it."""
    return code_folder(str(getattr(config, "CACHE_DIR", None) or ""))


def _remove_unused(base: Path) -> None:
    """Remove the code of other states of the source that no process has used for a month."""
    oldest = time.time() - _UNUSED_DAYS * _DAY_S
    for folder in base.glob("[0-9a-f]" * 16):
        if not folder.is_symlink() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


class Locator(caching.UserWideCacheLocator):
    """Tells Numba where the code of this package's functions is; of others it says nothing."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        room = Path(py_file).resolve().parent.relative_to(PACKAGE.resolve()).parts
        self._cache_path = str(own_folder().joinpath(*room))

    def get_source_stamp(self) -> str:
        """Return the digest that the folder bears: times of files say nothing more."""
        return source_digest()

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Locator | None:
        """Locator of a function of this package, else nothing."""
        if PACKAGE.resolve() not in Path(py_file).resolve().parents:
            return None
        return super().from_function(py_func, py_file)


if Locator not in caching.CacheImpl._locator_classes:
    caching.CacheImpl._locator_classes = [Locator, *caching.CacheImpl._locator_classes]

_save = caching.Cache.save_overload


def _save_apart(self: Any, sig: Any, data: Any) -> None:
    """Save code in a file that no other process writes, where there is room.

    Numba numbers the files of a function's variants by the index as it has just read it. Two
    processes that save two variants at once give both the same number: the index names one of them,
    and the file may hold the code of the other. Code of modules that have been edited since the
    folder was named is not kept.
    """
    if not isinstance(self._impl.locator, Locator):
        _save(self, sig, data)
        return
    if not unchanged():
        return
    own = f"{self._impl.filename_base}.{uuid4().hex[:16]}"
    self._cache_file._data_name_pattern = own + "-{number:d}.nbc"
    with suppress(OSError):  # a full disk is no reason to stop
        _save(self, sig, data)


caching.Cache.save_overload = _save_apart

kept = partial(njit, nogil=True, error_model="numpy", cache=True)
"""Decorator of functions that are compiled once and kept."""
