"""Run all fits whose data are there, and write estimate against reference in one table."""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from reference_table import COLUMNS, HERE, MET, NO_DATA, ROOT

#: Quick ones first.
FITS = (
    "theophylline",
    "phenobarbital",
    "rumney_rats",
    "paclitaxel_leukocytes",
    "torsten_friberg",
    "leukaemia_counts",
    "clofarabine_lenalidomide",
    "children_maintenance",
)


def main() -> None:
    """Run, collect, and exit with 1 if a reference was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fits", nargs="*", metavar="FIT", help=f"of {', '.join(FITS)}; default all")
    parser.add_argument("--full", action="store_true", help="as long as published results need")
    parser.add_argument("--reduced", action="store_true", help="short runs (default)")
    parser.add_argument("--data", type=Path, help="folder with data that are not shipped")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fits", help="results")
    options = parser.parse_args()
    # the scripts run in another folder
    options.out, options.data = options.out.resolve(), options.data and options.data.resolve()
    unknown = sorted(set(options.fits) - set(FITS))
    if unknown:
        parser.error(f"no fit {unknown[0]!r}; there are {', '.join(FITS)}")
    rows: list[dict[str, str]] = []
    missed, skipped = [], []
    for name in options.fits or FITS:
        command = [sys.executable, str(HERE / f"{name}.py"), "--out", str(options.out)]
        command += ["--full"] if options.full else []
        command += ["--data", str(options.data)] if options.data else []
        path = options.out / f"{name}.csv"
        before = len(read(path))
        print(f"\n=== {name}", flush=True)
        began = time.monotonic()
        code = subprocess.run(command, check=False, cwd=HERE, env=os.environ.copy()).returncode
        print(f"=== {name}: {time.monotonic() - began:.0f} s, exit {code}", flush=True)
        if code == NO_DATA:
            skipped.append(name)
            continue
        if code != MET:
            missed.append(name)
        rows += read(path)[before:]
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"\n{len(rows)} figures in {options.out / 'summary.csv'}")
    judged = [row for row in rows if row["met"]]
    print(f"{sum(row['met'] == 'yes' for row in judged)} of {len(judged)} references met")
    if skipped:
        print(f"skipped for lack of data: {', '.join(skipped)} (see fits/README.md, then --data)")
    if missed:
        print(f"missed a reference or failed: {', '.join(missed)}")
    sys.exit(1 if missed else 0)


def read(path: Path) -> list[dict[str, str]]:
    """Read the figures a fit has written so far."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
