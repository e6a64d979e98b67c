"""Where the series are looked for by commands that take no prefix."""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pkpd.errors import PkpdError, sentence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference_table import NO_DATA, ROOT, folders

NAMED = "transplants"
CYTOKINES = "cytokines_counts.csv"


def arguments(description: str, out: Path) -> argparse.Namespace:
    """Read ``--data`` and ``--out``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, help=f"folder of {NAMED}_counts.csv")
    parser.add_argument("--out", type=Path, default=ROOT / out, help=f"written (default {out})")
    options = parser.parse_args()
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder of {options.out} cannot be made ({error.strerror})"
        parser.error(sentence(where="--out", what=what, remedy="name another"))
    return options


def find_file(given: Path | None, name: str, source: str) -> Path:
    """Find a file of counts; say so and exit with 3 where it is not there.

    ``--data``, where given, is the only place looked in: the file, its folder or the one above.
    """
    if given is not None and given.is_file() and given.name == name:
        return given
    for folder in folders(None) if given is None else [given]:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.is_file():
                return path
    where = "" if given is None else f" in {given}"
    print(f"No data: {name} was not found{where}. {source}; give its folder by --data.")
    sys.exit(NO_DATA)


def find_prefix(given: Path | None) -> Path:
    """Find the prefix of the series; say so and exit with 3 where they are not there."""
    source = "Its counts are from the table of blood cells of Liao et al., Sci Data 2021;8:71"
    return find_file(given, f"{NAMED}_counts.csv", source).with_name(NAMED)


def run(main: Callable[[], None]) -> None:
    """Run a command; what cannot be used ends it with a sentence."""
    try:
        main()
    except PkpdError as error:
        sys.exit(str(error))
