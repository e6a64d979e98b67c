"""Where the series are looked for by commands that take no prefix."""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from series import Series

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference_table import NO_DATA, ROOT, folders

NAMED = "transplants"
CYTOKINES = "cytokines_counts.csv"


def arguments(description: str, out: Path) -> argparse.Namespace:
    """Read ``--data`` and ``--out``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, help=f"folder of {NAMED}_counts.csv")
    parser.add_argument("--out", type=Path, default=ROOT / out, help=f"written (default {out})")
    return parser.parse_args()


def find_prefix(given: Path | None) -> Path:
    """Find the prefix of the series; say so and exit with 3 where they are not there."""
    for folder in folders(given):
        for path in (folder, *sorted(folder.glob("*/"))):
            if (path / f"{NAMED}_counts.csv").is_file():
                return path / NAMED
    print(
        f"No data: {NAMED}_counts.csv was not found. Its counts are from the table of blood cells "
        "of Liao et al., Sci Data 2021;8:71; give --data FOLDER."
    )
    sys.exit(NO_DATA)


def read_cytokines(path: Path) -> list[Series]:
    """Read granulocytes of patients counted whatever the count; none where there is no file."""
    if not path.is_file():
        return []
    found: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["granulocytes"]:
                found.setdefault(row["patient"], {})[int(row["day"])] = float(row["granulocytes"])
    return [_always_counted(patient, counts) for patient, counts in found.items()]


def _always_counted(patient: str, counts: Mapping[int, float]) -> Series:
    days = np.array(sorted(counts))
    values = np.array([counts[day] for day in days])
    return Series(patient, "1", "cytokines", days, values, np.zeros(len(days), bool), always=True)
