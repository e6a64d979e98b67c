"""Where a run writes if another run has written into its folder meanwhile."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path

from pkpd.errors import PkpdWarning

_LAST = "results.json"


Stamp = tuple[int, int]
"""Tells a file from one that another run wrote in its place."""


def stamp(folder: Path, name: str = _LAST) -> Stamp | None:
    """Tell one state of a folder's results, or of a file, from another; ``None`` without it."""
    try:
        found = (folder / name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def take_along(written: Mapping[Path, Stamp | None]) -> None:
    """Remove files of a run whose results go elsewhere, but for those another run wrote since."""
    for path, mine in written.items():
        if mine is not None and stamp(path.parent, path.name) == mine:
            path.unlink(missing_ok=True)


def free_folder(folder: Path, begun: Stamp | None) -> Path:
    """Return the folder, or one beside it if its results are no longer those of the beginning.

    Parameters
    ----------
    folder
        Where the run was to write.
    begun
        `stamp` of it as the run began.
    """
    if stamp(folder) == begun:
        return folder
    beside = (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2))
    free = next(path for path in beside if not path.exists())
    text = f"another run wrote its results into {folder} meanwhile: these go into {free}."
    warnings.warn(text, PkpdWarning, stacklevel=2)
    return free
