"""Change samples at random and read them; tell what came out that was no sentence.

    python tests/fuzz/fuzz.py --cases 10000 [--seed 1] [READER ...]

Each case is made of its seed and number alone, so that one can be made again:
``--case 123`` prints it.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

sys.path.append(str(Path(__file__).parent))

from mutations import changed_bytes, changed_text, changed_tree
from readers import Reader, all_readers

from pkpd.errors import PkpdError, PkpdWarning

HANGS_S = 60
WORST_S, MOST_MB = 2.0, 500.0
SLOW_TO_TRY = {"pkpd check": 10}  # it makes patients of each file, and may compile their model
IMPORTED_S = 600  # an import that is broken off stays half done


class Hung(BaseException):
    """A reader did not come back."""


@dataclass
class Told:
    """What became of the cases of a reader.

    Attributes
    ----------
    cases, refused
        Cases, and those that ended with a sentence.
    others
        Other exceptions: where they came from, how often, and the first case.
    worst_s
        Longest CPU time of a case (s), and its number.
    grown_mb
        Most that the memory of the process grew in one case, and in all (MB).
    """

    name: str
    cases: int = 0
    refused: int = 0
    others: dict[str, list[Any]] = field(default_factory=dict)
    worst_s: tuple[float, int] = (0.0, -1)
    grown_mb: tuple[float, float] = (0.0, 0.0)

    @property
    def within(self) -> bool:
        """Whether nothing else was raised, and no case took long or much memory."""
        slow = WORST_S * SLOW_TO_TRY.get(self.name, 1)
        return not self.others and self.worst_s[0] < slow and max(self.grown_mb) < MOST_MB

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.name:22s} {self.cases:6d} cases, {self.refused:6d} refused, "
            f"{sum(n for n, *_ in self.others.values()):4d} other exceptions, worst "
            f"{self.worst_s[0]:.2f} s (case {self.worst_s[1]}), memory +{self.grown_mb[1]:.0f} MB "
            f"(one case +{self.grown_mb[0]:.0f})"
        )


def case_of(reader: Reader, samples: list[Any], seed: int, number: int) -> Any:
    """The input of a case."""
    random = Random(f"{reader.name} {seed} {number}")
    sample = random.choice(samples)
    if reader.kind == "tree":
        return changed_tree(sample, random)
    if reader.kind == "bytes":
        return changed_bytes(sample, random)
    if reader.kind == "words":
        others = [text.encode() for text in samples]
        return changed_text(sample.encode(), random, others).decode(errors="replace")
    return changed_text(sample, random, samples)


def peak_mb() -> float:
    """Most memory that this process has had (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def coming_back(most_s: float) -> Iterator[None]:
    """Raise in a case that does not come back."""

    def stop(*_: object) -> None:
        raise Hung

    # of processor time: a busy machine is no hang
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, most_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzz(reader: Reader, cases: int, seed: int = 1, first: int = 0) -> Told:
    """Read so many changed samples."""
    told = Told(reader.name)
    samples = reader.samples()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for beside, text in reader.beside.items():
            (folder / beside).write_text(text() if callable(text) else text)
        path = folder / f"case{reader.suffix}"
        for warm in samples[:1]:  # imports and first compilations are no case
            _read(reader, warm, path, "ignore", IMPORTED_S)
        began = peak_mb()
        for number in range(first, first + cases):
            case = case_of(reader, samples, seed, number)
            before, started = peak_mb(), time.process_time()
            error = _read(reader, case, path)
            took, grown = time.process_time() - started, peak_mb() - before
            told.cases += 1
            told.refused += isinstance(error, PkpdError)
            if error is not None and not isinstance(error, PkpdError):
                kept = told.others.setdefault(_origin(error), [0, number, str(error)[:200]])
                kept[0] += 1
            told.worst_s = max(told.worst_s, (took, number))
            told.grown_mb = (max(told.grown_mb[0], grown), peak_mb() - began)
    return told


def _read(
    reader: Reader,
    case: Any,
    path: Path,
    warned: Literal["error", "ignore"] = "error",
    most_s: float = HANGS_S,
) -> BaseException | None:
    """Read one case; what was raised. Libraries may warn when they are imported."""
    if reader.kind in ("text", "bytes"):
        path.write_bytes(case)
        case = path
    try:
        with warnings.catch_warnings(), coming_back(most_s):
            warnings.simplefilter(warned)
            warnings.simplefilter("ignore", PkpdWarning)
            reader.read(case)
    except (Exception, Hung) as error:
        return error
    return None


def _origin(error: BaseException) -> str:
    """Kind of an exception and the line of this package that it came from."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/pkpd/" in frame.filename and "site-packages" not in frame.filename
    ]
    place = f"{own[-1].filename.rpartition('/pkpd/')[2]}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {place}"


def main() -> int:
    """Fuzz from the command line; the status says whether a reader kept to what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--case", type=int)
    parser.add_argument("--list", action="store_true", help="names of the readers alone")
    asked = parser.parse_args()
    readers = all_readers()
    if asked.list:
        print("\n".join(readers))
        return 0
    failed = False
    for name in asked.names or readers:
        reader = readers[name]
        if asked.case is not None:
            case = case_of(reader, reader.samples(), asked.seed, asked.case)
            out = json.dumps(case).encode() if reader.kind == "tree" else case
            sys.stdout.buffer.write(out if isinstance(out, bytes) else out.encode())
            continue
        told = fuzz(reader, asked.cases, asked.seed, asked.first)
        print(told, flush=True)
        for place, (times, number, text) in told.others.items():
            print(f"    {times} x {place}, case {number}: {text!r}", flush=True)
        failed |= not told.within
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
