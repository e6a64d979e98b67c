"""Run the cases that other programs have answered, and tell in one table how far ours differ.

    python -m benchmarks.trust [--data FOLDER] [--only NAME ...] [--full] [--page FILE.md]
    python -m benchmarks.trust --only fuzz --cases 10000 --seed 7

``make trust`` runs this. Cases whose data are not there are told as such: the answers of NONMEM,
Stan and nlmixr2 are other people's files, looked for in ``--data``, ``$PKPD_REFERENCE`` or
``../shared/oracles``. ``--full`` adds the fits that take longer than some minutes. Every reader is
given changed samples besides (``tests/fuzz``), 500 each or ``--cases``, 10,000 with ``--full``: it
must answer each in a sentence. The table is
printed and written as Markdown; the status is 1 if a case misses its tolerance.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.control_streams import in_a_process, streams

ROOT = Path(__file__).resolve().parents[1]
MET, MISSED, ABSENT, UNJUDGED = "met", "MISSED", "no data here", "not judged"
QUICK_FITS = ("theophylline", "phenobarbital")
LONG_FITS = ("rumney_rats", "paclitaxel_leukocytes", "torsten_friberg")
ANSWERED_BY = {
    "theophylline": "nlmixr2",
    "phenobarbital": "NONMEM",
    "rumney_rats": "published fit",
    "paclitaxel_leukocytes": "nlmixr2, simulated truth",
    "torsten_friberg": "Stan (Torsten)",
}
# NONMEM's printed answers have five digits: half a unit of the fifth is at most 5e-5 of the number
PRINTED = 5.0e-5
OBJECTIVE = 0.1
FUZZ = (sys.executable, str(ROOT / "tests" / "fuzz" / "fuzz.py"))


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes
    ----------
    name, program
        What was compared, and whose answers.
    compared
        How many answers.
    ours, theirs
        One figure each, where the case is one figure.
    difference, tolerance
        The largest difference, and what is allowed, in words.
    verdict
        ``met``, ``MISSED``, ``no data here`` or ``not judged``.
    seconds
        Wall time.
    """

    name: str
    program: str
    compared: int = 0
    ours: float | None = None
    theirs: float | None = None
    difference: str = ""
    tolerance: str = ""
    verdict: str = UNJUDGED
    seconds: float = 0.0


def records(path: Path, answers: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns of a data file in small letters, and NONMEM's answers by row."""

    def columns(file: Path) -> dict[str, np.ndarray]:
        with file.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
        missing = {".": "nan", "": "nan"}
        return {
            name.lower(): np.array([float(missing.get(row[name], row[name])) for row in rows])
            for name in rows[0]
        }

    return columns(path), columns(answers)["cp"]


def events(name: str, data: Path, answers: Path) -> Case:
    """Every record of a data set of doses: one compartment, CL 1.1, V 20, ka 1.5."""
    from pkpd.data.events import EventTable
    from pkpd.kinetics.compartments import compartment_model
    from pkpd.solve.events.advance import solve_linear
    from pkpd.solve.events.timeline import EventOptions

    columns, printed = records(data, answers)
    kinds = ("evid", "amt", "rate", "ii", "addl", "ss", "cmt")
    table = EventTable.from_columns(
        columns["id"], columns["time"], **{kind: columns[kind] for kind in kinds}
    )
    own = {"ALAG2": "lagt", "F2": "bioav", "D2": "dur2", "R2": "rat2"}
    amounts = solve_linear(
        compartment_model(1, "first_order"),
        table,
        {"CL": 1.1, "V": 20.0, "ka": 1.5}
        | {key: table.from_rows(columns[column]) for key, column in own.items()},
        options=EventOptions(steady_state_lag="backward"),
    )
    found = table.to_rows(np.asarray(amounts))[:, 1] / (20.0 / 1000.0)
    error = np.abs(found - printed) / np.where(printed == 0, 1.0, np.abs(printed))
    worst = float(np.max(np.where(np.isfinite(error), error, np.inf)))
    return Case(
        name,
        "NONMEM 7.4.3",
        len(printed),
        difference=f"{worst:.1e} relative",
        tolerance=f"{PRINTED:g}, its digits",
        verdict=MET if worst < PRINTED else MISSED,
    )


def stream(path: Path, seconds: float) -> Case:
    """Compare a control stream with the objective of the listing beside it."""
    name = f"control stream {path.parent.name}/{path.stem}"[:60]
    row = in_a_process(path, fit=False, seconds=seconds)
    if not row.get("read"):
        why = "" if row.get("late") else "refused: "
        crashed = row["why"].startswith("CRASHED")
        told = ("" if crashed else why) + row["why"].strip()[:160]
        return Case(name, "NONMEM", difference=told, verdict=MISSED if crashed else UNJUDGED)
    judged = [one for one in row.get("compared", []) if one["agrees"] is not None]
    if not judged:
        return Case(name, "NONMEM", difference="no objective of its data beside it")
    worst = max(judged, key=lambda one: abs(one["ours"] - one["nonmem"]))
    distance = abs(worst["ours"] - worst["nonmem"])
    within = all(one["agrees"] for one in judged)
    return Case(
        name,
        "NONMEM",
        len(judged),
        worst["ours"],
        worst["nonmem"],
        f"{distance:.2g} of {worst['what']}",
        f"{OBJECTIVE:g} of the objective",
        MET if within else MISSED,
    )


def fit(name: str, data: Path | None, out: Path, full: bool) -> Case:
    """Run a fit of published data, as ``fits/`` has it, with its own criteria."""
    command = [sys.executable, str(ROOT / "fits" / f"{name}.py"), "--out", str(out)]
    command += (["--full"] if full else []) + (["--data", str(data)] if data else [])
    path = out / f"{name}.csv"
    before = len(_rows(path))
    done = subprocess.run(command, check=False, cwd=ROOT / "fits", capture_output=True, text=True)
    title, program = f"fit: {name.replace('_', ' ')}", ANSWERED_BY[name]
    if done.returncode == 3:
        return Case(title, program, verdict=ABSENT)
    judged = [row for row in _rows(path)[before:] if row["met"]]
    if not judged:
        told = done.stderr.strip().splitlines()[-1:] or ["no figures"]
        return Case(title, program, difference=told[0][:160], verdict=MISSED)
    missed = [row["quantity"] for row in judged if row["met"] != "yes"]
    objective = next((row for row in judged if row["quantity"] == "objective"), None)
    return Case(
        title,
        program,
        len(judged),
        float(objective["estimate"]) if objective else None,
        float(objective["reference"]) if objective else None,
        f"{len(judged) - len(missed)} of {len(judged)} criteria met"
        + (f", not {', '.join(missed)}" if missed else ""),
        "of each figure, in fits/",
        MISSED if missed else MET,
    )


def fuzzed(name: str, number: int, seed: int) -> Case:
    """Give a reader changed samples: sentences only, each soon and in little memory."""
    command = [*FUZZ, name, "--cases", str(number), "--seed", str(seed)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    told = [line.strip() for line in (done.stdout or done.stderr).splitlines()] or ["nothing"]
    words = "; ".join(told[:3]) if done.stdout else told[-1]
    return Case(
        f"fuzz: {name}",
        f"changed samples, seed {seed}",
        number,
        difference=words.removeprefix(name).strip()[:300],
        tolerance="no exception but a sentence, 2 s, 500 MB",
        verdict=MISSED if done.returncode else MET,
    )


def readings(number: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Name of each reader and what gives it so many changed samples."""
    done = subprocess.run([*FUZZ, "--list"], check=True, cwd=ROOT, capture_output=True, text=True)
    for name in done.stdout.splitlines():
        yield f"fuzz {name}", lambda name=name: fuzzed(name, number, seed)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cases(data: Path | None, out: Path, full: bool, seconds: float) -> Iterator[tuple[str, Any]]:
    """Name of each case and what runs it."""
    folder = data or Path("nowhere")
    doses = {
        "doses, nmtest": ("nlmixr2data/nmtest.csv", "nlmixr2data/nmtest.csv"),
        "doses, 1001": ("nmtests/1001-data.csv", "nmtests/1001-nm.csv"),
    }
    for name, (one, other) in doses.items():
        yield name, _present(name, "NONMEM 7.4.3", folder / one, folder / other, events)
    for name in QUICK_FITS + (LONG_FITS if full else ()):
        yield f"fit {name}", lambda name=name: fit(name, data, out / "fits", full)
    bundles = folder / "ddmore"
    found = (
        [p for f in sorted(bundles.iterdir()) if f.is_dir() for p in streams(f)]
        if (bundles.is_dir())
        else []
    )
    if not found:
        yield "control streams", lambda: Case("control streams", "NONMEM", verdict=ABSENT)
    for path in found:
        yield f"stream {path.parent.name}", lambda path=path: stream(path, seconds)


def _present(
    name: str, program: str, data: Path, answers: Path, run: Callable[[str, Path, Path], Case]
) -> Callable[[], Case]:
    if data.is_file() and answers.is_file():
        return lambda: run(name, data, answers)
    return lambda: Case(name, program, verdict=ABSENT)


def markdown(found: list[Case]) -> str:
    """Write the table."""
    from pkpd import __version__

    judged = [case for case in found if case.verdict in (MET, MISSED)]
    lines = [
        "# Reference cases",
        "",
        "Answers of other programs beside ours. `make trust` made this table, on "
        f"{datetime.now(UTC):%Y-%m-%d} with pkpd {__version__}: "
        f"{sum(case.verdict == MET for case in judged)} of {len(judged)} cases that can be judged "
        "meet their tolerance. A case that is not judged has no answer to compare with, took too "
        "long, or was refused; the words say which.",
        "",
        "| case | answered by | figures | ours | theirs | difference | allowed | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    for case in found:
        cells = (
            *(case.name, case.program, case.compared or "", number(case.ours), number(case.theirs)),
            *(case.difference, case.tolerance, case.verdict),
        )
        lines.append("| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def reference_folder(given: Path | None) -> Path | None:
    """Folder of other people's answers."""
    named = [given, Path(os.environ["PKPD_REFERENCE"]) if "PKPD_REFERENCE" in os.environ else None]
    found = [p for p in (*named, ROOT.parent / "shared" / "oracles") if p is not None]
    return next((path.resolve() for path in found if path.is_dir()), None)


def main() -> int:
    """Run and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of reference answers")
    parser.add_argument("--only", nargs="*", help="cases whose names begin so")
    parser.add_argument("--full", action="store_true", help="longer fits, too, at full length")
    parser.add_argument("--cases", type=int, help="changed samples for each reader")
    parser.add_argument("--seed", type=int, default=1, help="of the changed samples")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each control stream")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "trust")
    parser.add_argument("--page", type=Path, help="where the table is written, too")
    asked = parser.parse_args()
    asked.out = asked.out.resolve()  # fits run in another folder
    found: list[Case] = []
    number = asked.cases or (10_000 if asked.full else 500)
    every = cases(reference_folder(asked.data), asked.out, asked.full, asked.seconds)
    if not asked.only or any(start.startswith("fuzz") for start in asked.only):
        every = itertools.chain(every, readings(number, asked.seed))
    for name, run in every:
        if asked.only and not any(name.startswith(start) for start in asked.only):
            continue
        began = time.monotonic()
        made: Case = run()
        case = replace(made, seconds=round(time.monotonic() - began, 1))
        found.append(case)
        told = case.difference or "-"
        print(f"{case.verdict:12s} {case.name}: {told} ({case.seconds:.0f} s)", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "cases.json").write_text(json.dumps([asdict(c) for c in found], indent=1))
    text = markdown(found)
    for page in (asked.out / "cases.md", *([asked.page] if asked.page else [])):
        page.write_text(text, encoding="utf-8")
    print(f"\n{text}")
    return int(any(case.verdict == MISSED for case in found))


if __name__ == "__main__":
    sys.exit(main())
