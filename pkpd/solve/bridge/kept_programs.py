"""Programs kept between runs: those of a course are traced in 0.8 s, and read in 5 ms.

They are kept beside the machine code (`pkpd.kept_code`), by all that they are made from: classes
and numbers of marrow and drugs, the source of the package, the versions of Python, NumPy and JAX.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import platform
import threading
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pkpd.digests import unchanged, whole_digest
from pkpd.errors import PkpdError
from pkpd.files import read_checked, write_checked
from pkpd.kept_code import own_folder
from pkpd.solve.bridge.program import Program, known
from pkpd.solve.bridge.vector import WIDTH

Made = tuple[tuple[Program, ...], tuple[int, ...]]
"""Programs, and numbers of rows."""

_MADE: dict[str, Made] = {}
_LOCK = threading.Lock()


class _NotOursError(Exception):
    """Something whose source may change without the package."""


def kept_programs(made_from: Any, make: Callable[[], Made]) -> Made:
    """Give programs as they were made before, or make and keep them.

    Parameters
    ----------
    made_from
        All that they depend on: text, numbers, tuples, and data classes of the package. Where there
        is anything else, such as a marrow of the user's own, they are made anew.
    make
        Makes them.
    """
    try:
        text = repr((_told(made_from), WIDTH, jax.__version__, np.__version__, whole_digest()))
    except _NotOursError:
        return make()
    key = hashlib.sha256(f"{platform.python_version()} {text}".encode()).hexdigest()[:32]
    with _LOCK:  # of two threads that want the same one makes them
        if key not in _MADE:
            file = own_folder() / "programs" / f"{key}.pickle"
            made = _read(file)
            if made is None:
                made = make()
                if unchanged():
                    _write(file, made)
            _MADE[key] = made
        return _MADE[key]


def _told(part: Any) -> Any:
    """Write out what something is, class by class."""
    if part is None or type(part) in (str, int, float, bool):
        return part
    if type(part) in (tuple, list):
        return tuple(_told(one) for one in part)
    kind = type(part)
    if not is_dataclass(part) or kind.__module__.partition(".")[0] != "pkpd":
        raise _NotOursError
    own = [(field.name, _told(getattr(part, field.name))) for field in fields(part)]
    return kind.__module__, kind.__qualname__, *own


def _read(file: Path) -> Made | None:
    """Read programs; none where the file is not there, or not as it was written."""
    try:
        content = read_checked(file)
        if content is None:
            return None
        programs, rows = pickle.loads(content)
    except Exception:  # whatever it is, they are made anew
        return None
    for one in programs:
        known(one)
    return programs, rows


def _write(file: Path, made: Made) -> None:
    content = pickle.dumps(made)
    with contextlib.suppress(PkpdError, OSError):  # a full disk is no reason to stop
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checked(file, content)
