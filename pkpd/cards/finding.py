"""Cards as people name them: by card name, file, registry number or folder."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isdir  # also for a name longer than the system takes
from pathlib import Path
from typing import Any

from pkpd.cards.files import KINDS, card_names, find_card, nearest_of, trial_name
from pkpd.cards.tables import read_toml
from pkpd.errors import PkpdError


def find_any(name: str) -> tuple[str, Any]:
    """Find the kind and the file of a card."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        path = find_card("trials", name)
        data = read_toml(path).data
        return ("trials" if "arm" in data or "cohort" in data else "card"), path
    name = trial_name(name)
    for kind in KINDS:
        if name in card_names(kind):
            return kind, find_card(kind, name)
    every = [n for kind in KINDS for n in card_names(kind)]
    raise PkpdError(
        where=name,
        what=f"there is no trial or card of this name{nearest_of(name, every)}",
        remedy="`pkpd cards` lists them all",
    )


def toml_files(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and for a folder all .toml files in it."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.toml")) if isdir(path) else [path]
        if not inside:
            raise PkpdError(
                where=str(path), what="no .toml file is in this folder", remedy="name a file"
            )
        files += inside
    return files
