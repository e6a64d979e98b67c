"""Where a run writes if another run has written into its folder meanwhile."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

from pkpd.errors import PkpdWarning

_LAST = "results.json"


def stamp(folder: Path) -> tuple[int, int] | None:
    """Tell one state of a folder's results from another; ``None`` where there are none."""
    try:
        found = (folder / _LAST).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def free_folder(folder: Path, begun: tuple[int, int] | None) -> Path:
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
