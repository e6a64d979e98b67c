"""Arguments, data files and the table of estimate against reference that all fits share.

A fit is a script with five parts: data, model, fit, checks, reference. It ends with
``table.finish()``, which prints the table, appends it to ``build/fits/<name>.csv`` and exits with
0 (every reference met), 1 (one was missed) or, where data are not there, 3.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MET, MISSED, NO_DATA = 0, 1, 3

COLUMNS = (
    "fit",
    "mode",
    "quantity",
    "estimate",
    "lower",
    "upper",
    "reference",
    "criterion",
    "met",
    "seconds",
    "finished",
)


def arguments(description: str) -> argparse.Namespace:
    """Read ``--reduced``, ``--full``, ``--data`` and ``--out``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--reduced", dest="full", action="store_false", help="short run (default)")
    length.add_argument("--full", action="store_true", help="run as long as published results need")
    parser.add_argument("--data", type=Path, help="file, or folder to look for the data in")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fits", help="results")
    parser.set_defaults(full=False)
    return parser.parse_args()


def folders(given: Path | None) -> list[Path]:
    """Return the folders that are looked through for data, in order."""
    named = [given] if given is not None else []
    if os.environ.get("PKPD_REFERENCE"):
        named.append(Path(os.environ["PKPD_REFERENCE"]))
    return [*named, HERE / "data", ROOT.parent / "shared" / "oracles"]


def find_data(given: Path | None, name: str, sha256: str, address: str) -> Path:
    """Find a data file and check that it is the one meant; exit with 3 where it is not there.

    Parameters
    ----------
    given
        ``--data``: the file itself or a folder.
    name
        File name, looked for in the folders and one level below.
    sha256
        Of the file.
    address
        Where anyone can get it.
    """
    found = [given] if given is not None and given.is_file() and given.name == name else []
    for folder in folders(given):
        found += [p for p in (folder / name, *sorted(folder.glob(f"*/{name}"))) if p.is_file()]
    for path in found:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest == sha256:
            return path
        print(f"{path}: not the file meant (SHA-256 {digest[:12]}..., wanted {sha256[:12]}...)")
    print(f"No data: {name} was not found. Get it from {address} and give --data PATH.")
    sys.exit(NO_DATA)


class ReferenceTable:
    """Estimates beside references, each with the criterion it has to meet."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self.mode = "full" if options.full else "reduced"
        self.out = options.out
        self.began = time.monotonic()
        self.rows: list[dict[str, Any]] = []

    @property
    def page(self) -> Path:
        """Where the page of the fit is written."""
        self.out.mkdir(parents=True, exist_ok=True)
        return self.out / f"{self.name}.html"

    def _add(
        self,
        quantity: str,
        estimate: float,
        reference: float | str,
        criterion: str,
        met: bool | str,
        interval: tuple[float, float] | None = None,
    ) -> None:
        low, high = interval if interval is not None else ("", "")
        self.rows.append(
            {
                "quantity": quantity,
                "estimate": float(estimate),
                "lower": low,
                "upper": high,
                "reference": reference,
                "criterion": criterion,
                "met": met if isinstance(met, str) else ("yes" if met else "no"),
            }
        )

    def near(
        self,
        quantity: str,
        estimate: float,
        reference: float,
        *,
        within: float | None = None,
        percent: float | None = None,
    ) -> None:
        """Ask for a distance from the reference: absolute, or in per cent of it."""
        room = within if within is not None else abs(reference) * (percent or 0.0) / 100.0
        words = f"within {within:.4g}" if within is not None else f"within {percent:g} %"
        self._add(quantity, estimate, reference, words, abs(estimate - reference) <= room)

    def inside(
        self, quantity: str, estimate: float, interval: tuple[float, float], reference: float
    ) -> None:
        """Ask that an interval of ours holds the reference."""
        low, high = float(interval[0]), float(interval[1])
        self._add(
            quantity, estimate, reference, "in interval", low <= reference <= high, (low, high)
        )

    def at_most(self, quantity: str, estimate: float, limit: float) -> None:
        """Ask for no more than a limit."""
        self._add(quantity, estimate, limit, "at most", estimate <= limit)

    def at_least(self, quantity: str, estimate: float, limit: float) -> None:
        """Ask for no less than a limit."""
        self._add(quantity, estimate, limit, "at least", estimate >= limit)

    def told(self, quantity: str, estimate: float, reference: float | str = "") -> None:
        """State a figure that nothing hangs on."""
        self._add(quantity, estimate, reference, "", "")

    def finish(self) -> NoReturn:
        """Print the table, append it to its file, and exit."""
        seconds = round(time.monotonic() - self.began, 1)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        print(f"\n{self.name} ({self.mode}, {seconds:g} s)")
        print(f"{'':32s}{'estimate':>12s}{'interval':>24s}{'reference':>12s}  criterion")
        for row in self.rows:
            span = f"{row['lower']:.4g} to {row['upper']:.4g}" if row["lower"] != "" else ""
            known = row["reference"]
            shown = f"{known:.5g}" if isinstance(known, float | int) else known
            words = f"{row['criterion']}: {row['met']}" if row["met"] else ""
            print(f"{row['quantity']:32s}{row['estimate']:12.5g}{span:>24s}{shown:>12s}  {words}")
        path = self.out / f"{self.name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            for row in self.rows:
                always = {"fit": self.name, "mode": self.mode}
                writer.writerow(always | row | {"seconds": seconds, "finished": stamp})
        missed = [row["quantity"] for row in self.rows if row["met"] == "no"]
        print(f"missed: {', '.join(missed)}" if missed else "all references met")
        sys.exit(MISSED if missed else MET)
