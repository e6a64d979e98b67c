"""What NONMEM printed beside a stream: listings, files of estimates, tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pkpd.nonmem.records import Problem, read_records, stream_text

_OBJECTIVE = re.compile(r"#OBJV:\**\s+([-+\d.Ee]+)")
_FIRST = re.compile(r"ITERATION NO\.:\s*0\s+OBJECTIVE VALUE:\s*([-+\d.Ee]+)")
_ELAPSED = re.compile(r"Elapsed estimation\s+time in seconds:\s*([\d.]+)")
_COUNTS = {
    "records": re.compile(r"NO\. OF DATA RECS IN DATA SET:\s*(\d+)"),
    "observations": re.compile(r"TOT\. NO\. OF OBS RECS:\s*(\d+)"),
    "individuals": re.compile(r"TOT\. NO\. OF INDIVIDUALS:\s*(\d+)"),
}
_METHOD = re.compile(r"#METH:\s*(.+)")


@dataclass(frozen=True)
class Estimates:
    """Fixed effects, and covariances of random effects and of residuals."""

    theta: np.ndarray
    omega: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True)
class Listing:
    """What a listing says.

    Attributes
    ----------
    path
        The file.
    problem
        The copy of the stream, or None if there is none that can be read.
    method
        Name of the last estimation step.
    first
        Objective at the starting values; None if nothing was iterated.
    last
        Objective at the end; None if there is none.
    final
        Estimates as printed; None if there are none.
    seconds
        Time of estimation.
    counts
        Numbers of records, observations and individuals.
    """

    path: Path
    problem: Problem | None
    method: str = ""
    first: float | None = None
    last: float | None = None
    final: Estimates | None = None
    seconds: float | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def evaluation(self) -> bool:
        """Whether the objective is that of the starting values."""
        return "evaluation" in self.method.lower() and "importance" not in self.method.lower()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def read_listing(path: Path) -> Listing:
    """Read a listing; what is not there is None."""
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n")
    try:
        problem = read_records(stream_text(path), path.name)[-1]
    except ValueError:
        problem = None
    methods = _METHOD.findall(text)
    objectives = _OBJECTIVE.findall(text)
    first = _FIRST.search(text)
    elapsed = _ELAPSED.findall(text)
    return Listing(
        path,
        problem,
        methods[-1].strip() if methods else "",
        None if first is None else _number(first.group(1)),
        _number(objectives[-1]) if objectives else None,
        _final(text),
        float(elapsed[-1]) if elapsed else None,
        {word: int(m.group(1)) for word, pattern in _COUNTS.items() if (m := pattern.search(text))},
    )


def _final(text: str) -> Estimates | None:
    at = text.rfind("FINAL PARAMETER ESTIMATE")
    if at < 0:
        return None
    lines = text[at:].split("\n")
    theta = _vector(_section(lines, "THETA - VECTOR"))
    omega = _triangle(_section(lines, "OMEGA - COV MATRIX"))
    sigma = _triangle(_section(lines, "SIGMA - COV MATRIX"))
    return Estimates(theta, omega, sigma) if theta is not None else None


def _section(lines: Sequence[str], title: str) -> list[str]:
    """Lines after a title, up to the next one or the end of the page."""
    for i, line in enumerate(lines):
        if title in line:
            out = []
            for after in lines[i + 1 :]:
                if "****" in after or after.startswith(("1", " #")):
                    break
                out.append(after)
            return out
    return []


def _numbers(text: str) -> list[float]:
    """Numbers of a line; dots stand for what is fixed at 0."""
    out = []
    for word in text.replace("+", " +").replace("E +", "E+").split():
        if set(word) == {"."}:
            out.append(0.0)
            continue
        value = _number(word.lstrip("+") if word != "+" else "")
        if value is not None:
            out.append(value)
    return out


def _vector(lines: Sequence[str]) -> np.ndarray | None:
    values = [n for line in lines if "TH" not in line for n in _numbers(line)]
    return np.array(values) if values else None


def _triangle(lines: Sequence[str]) -> np.ndarray:
    rows: list[list[float]] = []
    label = re.compile(r"^ ?(ETA?|EPS?|EP)\s*\d+\s*$")
    for line in lines:
        if label.match(line):
            rows.append([])
        elif rows:
            rows[-1] += _numbers(line)
    matrix = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        matrix[i, : min(len(row), i + 1)] = row[: i + 1]
    return matrix + np.tril(matrix, -1).T


def read_estimates(path: Path) -> tuple[Estimates, float] | None:
    """Read estimates and objective with all their digits from a file of iterations (``.ext``)."""
    names: list[str] = []
    found: list[str] | None = None
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["ITERATION"]:
            names = words
        elif words and _number(words[0]) == -1000000000:
            found = words
    if found is None or len(found) != len(names):
        return None
    values = dict(zip(names, (_number(w) or 0.0 for w in found), strict=True))
    theta = [v for n, v in values.items() if n.startswith("THETA")]
    objective = next((v for n, v in values.items() if n.endswith("OBJ")), np.nan)

    def matrix(word: str) -> np.ndarray:
        places = {
            n: tuple(int(i) for i in n[6:-1].split(",")) for n in values if n.startswith(word)
        }
        size = max((i for i, _ in places.values()), default=0)
        out = np.zeros((size, size))
        for name, (i, j) in places.items():
            out[i - 1, j - 1] = out[j - 1, i - 1] = values[name]
        return out

    return Estimates(np.array(theta), matrix("OMEGA("), matrix("SIGMA(")), objective


def read_table(path: Path) -> pd.DataFrame | None:
    """Read a table of ``$TABLE``, with a header after an optional line ``TABLE NO.``; else None."""
    lines = path.read_text(errors="replace").splitlines()
    if lines and lines[0].startswith("TABLE NO"):
        lines = lines[1:]
    if not lines or not re.match(r"\s*[A-Za-z]", lines[0]):
        return None
    names = re.split(r"[\s,]+", lines[0].strip())
    rows = []
    for line in lines[1:]:
        words = re.split(r"[\s,]+", line.strip())
        values = [_number(word) for word in words]
        if len(words) == len(names) and None not in values:
            rows.append(values)
    return pd.DataFrame(rows, columns=names) if rows else None
