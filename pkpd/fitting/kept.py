"""A folder of finished fits, one small file each, so that a run that was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pkpd.errors import PkpdError, writing
from pkpd.files import write_text


def read_table(path: Path) -> dict[str, Any]:
    """Read a file of the folder.

    Raises
    ------
    PkpdError
        If it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = error
    if not isinstance(found, dict):
        remedy = "give another folder, or remove the file"
        raise PkpdError(where=str(path), what="cannot be read", remedy=remedy)
    return found


class KeptFits:
    """Finished fits by number, kept in files if there is a folder.

    Parameters
    ----------
    folder
        Made if absent; ``None`` for none.
    name
        What the fits belong to, ``calibration``; a file of that name describes it.
    description
        What makes the fits what they are, as JSON.

    Raises
    ------
    PkpdError
        If the folder holds fits that are described otherwise, or cannot be read or written.
    """

    def __init__(
        self, folder: str | Path | None, name: str, description: Mapping[str, Any]
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.found: dict[int, dict[str, Any]] = {}
        if self.folder is None:
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        record = self.folder / f"{name}.json"
        mine = json.loads(json.dumps(description))
        if record.exists():
            theirs = read_table(record)
            different = sorted(k for k in mine if theirs.get(k) != mine[k])
            if different:
                raise PkpdError(
                    where=str(self.folder),
                    what=f"holds fits of another {name} ({', '.join(different)} differ)",
                    remedy="give another folder, or the same model, design and settings",
                )
        else:
            write_text(record, json.dumps(mine, indent=1))
        for path in self.folder.glob("fit_*.json"):
            one = read_table(path)
            if "index" in one and "failed" in one:
                self.found[int(one["index"])] = one

    def missing(self, n: int) -> list[int]:
        """Fits still to do."""
        return [i for i in range(n) if i not in self.found]

    def keep(self, one: dict[str, Any]) -> None:
        """Keep a finished fit; a half-written file never takes its name."""
        self.found[one["index"]] = one
        if self.folder is not None:
            write_text(self.folder / f"fit_{one['index']:05d}.json", json.dumps(one))
