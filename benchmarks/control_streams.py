"""Read every control stream below a folder, and compare with NONMEM's own objective.

    python benchmarks/control_streams.py FOLDER [--only NAME] [--seconds 600]

Each bundle is a folder with control streams, data files and listings. A stream is read in a
process of its own. The table has a row for each: whether it was read or why not, the objective here
and that of NONMEM at the same values, and the seconds that finding it took. With ``--fit`` its
method is run from the stream's starting values too.
"""

from __future__ import annotations

import argparse
import difflib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

STREAMS, LISTINGS = (".mod", ".ctl", ".con", ".nmctl"), (".lst", ".res")


def streams(folder: Path) -> Iterator[Path]:
    """Streams of a bundle; the listings, where there is no stream of its own."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in STREAMS)
    yield from found or sorted(p for p in folder.iterdir() if p.suffix.lower() in LISTINGS)


def data_beside(stream: Path) -> Path | None:
    """Find the only data file of a bundle, or the one named most like ``$DATA`` and the stream."""
    from pkpd.nonmem.input_data import read_data
    from pkpd.nonmem.records import read_records, stream_text

    files = sorted(
        p for p in stream.parent.iterdir() if p.suffix.lower() in (".csv", ".dat", ".prn")
    )
    if len(files) < 2:
        return files[0] if files else None
    record = read_records(stream_text(stream), stream.name)[0].one("DATA")
    named = read_data(record).file if record else ""

    def alike(path: Path) -> float:
        names = (named, f"simulated {stream.stem}")
        return max(
            difflib.SequenceMatcher(None, path.stem.lower(), n.lower()).ratio() for n in names
        )

    return max(files, key=alike)


def listings_beside(stream: Path, data: Path | None) -> list[Path]:
    """Find the listings of a bundle: those of the simulated data where the data are simulated."""
    found = sorted(p for p in stream.parent.iterdir() if p.suffix.lower() in LISTINGS)
    simulated = data is not None and "real" not in data.name.lower()
    return [p for p in found if not (simulated and "real" in p.name.lower())] or found


def look_at(stream: Path, *, fit: bool) -> dict:
    """Read, verify and perhaps fit one stream; the row of the table."""
    import pkpd
    from pkpd.errors import PkpdError

    began = time.monotonic()
    try:
        read = pkpd.read_control_stream(stream, data=data_beside(stream))
    except PkpdError as error:
        return {"read": False, "why": str(error)}
    listings = listings_beside(stream, data_beside(stream))
    try:
        found = read.verify(listings)
    except PkpdError as error:
        return {"read": False, "why": str(error)}
    row = {
        "read": True,
        "verified": found.verified,
        "compared": [
            {
                "what": c.what,
                "ours": c.ours,
                "nonmem": c.nonmem,
                "agrees": c.agrees,
                "words": c.words,
            }
            for c in found.compared
        ],
        "notes": list(found.notes),
        "seconds": time.monotonic() - began,
    }
    if fit and read.steps and read.steps[-1].method:
        began = time.monotonic()
        fitted = pkpd.fit(read.model, read.data, method=read.steps[-1].method, covariance=None)
        row["fit"] = {"objective": fitted.objective, "seconds": time.monotonic() - began}
    return row


def in_a_process(stream: Path, *, fit: bool, seconds: float) -> dict:
    """Look at a stream in a process of its own, for so long; after that it counts as not read."""
    command = [sys.executable, __file__, "--one", str(stream), *(["--fit"] if fit else [])]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"read": False, "late": True, "why": f"not done in {seconds:.0f} s"}
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    return (
        json.loads(lines[-1]) if lines else {"read": False, "why": "CRASHED: " + run.stderr[-300:]}
    )


def tell(stream: Path, row: dict) -> None:
    """Print a row."""
    name = f"{stream.parent.name}/{stream.name}"
    if not row.get("read"):
        print(f"{name}: {'' if row.get('late') else 'refused: '}{row['why']}")
        return
    print(f"{name}: read; {'verified' if row.get('verified') else 'not verified'}")
    for one in row.get("compared", []):
        verdict = {True: "agrees", False: "DIFFERS", None: "not judged"}[one["agrees"]]
        numbers = f"{one['ours']:.4f}, NONMEM {one['nonmem']:.4f}"
        print(f"    {one['what']}: {numbers}: {verdict}; {one['words']}")
    for note in row.get("notes", []):
        print(f"    {note}")
    if "seconds" in row:
        print(f"    {row['seconds']:.0f} s")
    if "fit" in row:
        print(f"    fitted: {row['fit']['objective']:.3f} in {row['fit']['seconds']:.0f} s")


def counted(rows: list[dict]) -> str:
    """Say how many streams were read, agree, and were not done in time."""
    read, agreed, late = (
        sum(bool(row.get(what)) for row in rows) for what in ("read", "verified", "late")
    )
    text = f"{len(rows)} streams: {read} read, {agreed} with NONMEM's objective within 0.1"
    return text + (f", {late} not done in time" if late else "")


def main() -> None:
    """Run over a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", nargs="*", help="names of bundles")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--one", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(look_at(given.one, fit=given.fit)))
        return
    if given.folder is None:
        parser.error("a folder of bundles, or --one with a stream, is asked for")
    rows = []
    for bundle in sorted(p for p in given.folder.iterdir() if p.is_dir()):
        if given.only and bundle.name not in given.only:
            continue
        for stream in streams(bundle):
            row = in_a_process(stream, fit=given.fit, seconds=given.seconds)
            rows.append(row)
            tell(stream, row)
            sys.stdout.flush()
    print(counted(rows))


if __name__ == "__main__":
    main()
