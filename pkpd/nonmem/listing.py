"""What NONMEM printed beside a stream: listings, files of estimates, tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pkpd.errors import PkpdError
from pkpd.nonmem.records import Problem, read_records, stream_lines

FINAL, ERRORS = -1000000000, -1000000001
"""Iterations of a file of iterations that stand for estimates and for their standard errors."""

_OBJECTIVE = re.compile(r"#OBJV:\**\s+([-+\d.Ee]+)")
_FIRST = re.compile(r"ITERATION NO\.:\s*0\s+OBJECTIVE VALUE:\s*([-+\d.Ee]+)")
_BETWEEN = re.compile(r"[\s,]+(?![^()]*\))")  # columns of a table; not within ETC(2,1)
_ELAPSED = re.compile(r"Elapsed estimation\s+time in seconds:\s*([\d.]+)")
_COUNTS = {
    "records": re.compile(r"NO\. OF DATA RECS IN DATA SET:\s*(\d{1,12})\b"),
    "observations": re.compile(r"TOT\. NO\. OF OBS RECS:\s*(\d{1,12})\b"),
    "individuals": re.compile(r"TOT\. NO\. OF INDIVIDUALS:\s*(\d{1,12})\b"),
}
_FINAL = "FINAL PARAMETER ESTIMATE"
_METHOD = re.compile(r"#METH:\s*(.+)")


@dataclass(frozen=True)
class Estimates:
    """Fixed effects, and covariances of random effects and of residuals."""

    theta: np.ndarray
    omega: np.ndarray
    sigma: np.ndarray


OWN = "Written by pkpd in the layout of a NONMEM listing; NONMEM was not run."
"""First line of a listing that is no output of NONMEM."""
METHODS = {
    "fo": "First Order",
    "foce": "First Order Conditional Estimation",
    "focei": "First Order Conditional Estimation with Interaction",
    "laplace": "Laplacian Conditional Estimation with Interaction",
    "laplace-nointer": "Laplacian Conditional Estimation",
}
"""How such a listing spells the methods that NONMEM has."""


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
    errors
        Standard errors as printed; None where there was no covariance step.
    successful
        Whether the last search ended successfully; None where nothing was searched.
    termination
        What stands about that, in its lines.
    eta_bar, eta_bar_error, eta_bar_p
        Means of the modes of the random effects, their standard errors, and p-values of a mean of
        zero, one for each ETA; empty where they are not printed.
    eta_shrinkage, epsilon_shrinkage
        Percent, by standard deviations.
    eigenvalues
        Of the correlation matrix of the estimates, in order.
    """

    path: Path
    problem: Problem | None
    method: str = ""
    first: float | None = None
    last: float | None = None
    final: Estimates | None = None
    seconds: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    errors: Estimates | None = None
    successful: bool | None = None
    termination: tuple[str, ...] = ()
    eta_bar: tuple[float, ...] = ()
    eta_bar_error: tuple[float, ...] = ()
    eta_bar_p: tuple[float, ...] = ()
    eta_shrinkage: tuple[float, ...] = ()
    epsilon_shrinkage: tuple[float, ...] = ()
    eigenvalues: tuple[float, ...] = ()

    @property
    def condition_number(self) -> float | None:
        """Largest eigenvalue over the smallest; None where they are not printed."""
        least = min(self.eigenvalues, default=0.0)
        return max(self.eigenvalues) / least if least > 0 else None

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


def read_listing(path: str | Path) -> Listing:
    """Read a listing (``.lst``): estimates, standard errors, shrinkage, how the search ended.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Listing
        Of the last estimation step; what is not there is None or empty.

    Raises
    ------
    PkpdError
        If the file cannot be read, or holds neither a control stream nor an estimation step.

    Notes
    -----
    ``read_listing("run1.lst").final.theta`` are the final estimates of the last step.
    """
    path = Path(path)
    text = _text(path)
    try:
        problem = read_records(stream_lines(text), path.name)[-1]
    except PkpdError:
        problem = None
    methods = _METHOD.findall(text)
    objectives = _OBJECTIVE.findall(text)
    if problem is None and not methods and not objectives and _FINAL not in text:
        raise PkpdError(
            where=path.name,
            what="is no listing: it has neither a control stream nor an estimation step",
            remedy="name the file that NONMEM printed (.lst)",
        )
    first = _FIRST.search(text)
    elapsed = _ELAPSED.findall(text)
    last = text[text.rfind("#METH:") :] if methods else text
    words = _termination(last)
    joined = " ".join(words).upper()
    searched = "MINIMIZATION" in joined or "OPTIMIZATION" in joined
    searched = searched and "NOT TESTED" not in joined
    final = _estimates(text, _FINAL)
    return Listing(
        path,
        problem,
        methods[-1].strip() if methods else "",
        None if first is None else _number(first.group(1)),
        _number(objectives[-1]) if objectives else None,
        final,
        _number(elapsed[-1]) if elapsed else None,
        {word: int(m.group(1)) for word, pattern in _COUNTS.items() if (m := pattern.search(text))},
        _estimates(last, "STANDARD ERROR OF ESTIMATE"),
        ("SUCCESSFUL" in joined or "COMPLETED" in joined) if searched else None,
        words,
        _row(last, "ETABAR:"),
        _row(last, "SE:"),
        _row(last, "P VAL.:"),
        _row(last, "ETAshrink(%):") or _row(last, "ETASHRINKSD(%)"),
        _row(last, "EPSshrink(%):") or _row(last, "EPSSHRINKSD(%)"),
        _eigenvalues(last),
    )


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise PkpdError(where=str(path), what=what, remedy="look at the path") from None
    text = raw.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _termination(text: str) -> tuple[str, ...]:
    """Lines between ``#TERM:`` and the first empty one."""
    at = text.find("#TERM:")
    if at < 0:
        return ()
    out: list[str] = []
    for line in text[at:].split("\n")[1:]:
        if not line.strip() or line.lstrip().startswith(("#", "ETABAR")):
            break
        out.append((line[1:] if line.startswith("0") else line).strip())
    return tuple(out)


def _row(text: str, label: str) -> tuple[float, ...]:
    """Numbers after a label, and on the lines that continue it."""
    lines = text.split("\n")
    at = next((i for i, line in enumerate(lines) if line.strip().startswith(label)), None)
    if at is None:
        return ()
    found = _numbers(lines[at].strip()[len(label) :])
    for line in lines[at + 1 :]:
        more = _numbers(line) if line.startswith("     ") else []
        if not more or len(more) != len(line.split()):
            break
        found += more
    return tuple(found)


def _eigenvalues(text: str) -> tuple[float, ...]:
    at = text.rfind("EIGENVALUES OF COR")
    if at < 0:
        return ()
    found: list[float] = []
    count = 0  # the numbers of the columns stand above the values
    for line in text[at:].split("\n")[3:]:
        words = line.split()
        if all(word.isdecimal() and len(word) < 9 for word in words):
            count = max([count, *map(int, words)]) if len(found) == 0 else count
            continue
        found += [v for word in words if (v := _number(word)) is not None]
        if len(found) >= count:
            break
    return tuple(found[:count])


def _estimates(text: str, title: str) -> Estimates | None:
    at = text.rfind(title)
    if at < 0:
        return None
    lines = text[at:].split("\n")
    theta = _vector(_section(lines, "THETA - VECTOR"))
    omega = _triangle(_section(lines, "OMEGA - COV MATRIX"))
    sigma = _triangle(_section(lines, "SIGMA - COV MATRIX"))
    return Estimates(theta, omega, sigma) if theta is not None else None


def _section(lines: Sequence[str], title: str) -> list[str]:
    """Lines after a title, up to the next one; a page may end between."""
    for i, line in enumerate(lines):
        if title in line:
            out = []
            for after in lines[i + 1 :]:
                if "****" in after or after.startswith(" #"):
                    break
                if after.startswith("1") and after.strip() != "1":
                    break
                out += [] if after.startswith("1") else [after]
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


def read_estimates(path: str | Path) -> tuple[Estimates, float]:
    """Read estimates and objective with all their digits from a file of iterations (``.ext``).

    Raises
    ------
    PkpdError
        If the file has no line of final estimates (iteration -1000000000).
    """
    rows = read_iterations(path)
    final = rows[rows["ITERATION"] == FINAL]
    if not len(final):
        raise PkpdError(
            where=Path(path).name,
            what=f"has no line of final estimates (iteration {FINAL})",
            remedy="name a file of iterations (.ext) of a run that ended",
        )
    values = final.iloc[-1].to_dict()
    objective = next((v for n, v in values.items() if str(n).endswith("OBJ")), np.nan)
    return estimates_of(values), float(objective)


def read_iterations(path: str | Path) -> pd.DataFrame:
    """Read a file of iterations (``.ext``), the table of the last estimation step.

    Returns
    -------
    DataFrame
        Columns of the file: ITERATION, THETA1, ..., SIGMA(1,1), OMEGA(1,1), ... and the objective.
        Iteration -1000000000 has the estimates, -1000000001 their standard errors.

    Raises
    ------
    PkpdError
        If the file has no such table.
    """
    path = Path(path)
    names: list[str] = []
    rows: list[list[float]] = []
    for line in _text(path).split("\n"):
        words = line.replace(",", " ").split() if not names else line.split()
        if words[:1] == ["ITERATION"]:
            names, rows = line.split(), []
        elif names and len(words) == len(names) and _number(words[0]) is not None:
            rows.append([np.nan if (v := _number(w)) is None else v for w in words])
    if not rows or len(set(names)) < len(names):
        raise PkpdError(
            where=path.name,
            what="has no table of iterations",
            remedy="name a file of iterations (.ext)",
        )
    return pd.DataFrame(rows, columns=names)


def estimates_of(values: Mapping[Any, float]) -> Estimates:
    """Estimates from values by NONMEM's names, THETA1, SIGMA(1,1), OMEGA(2,1)."""
    theta = [v for n, v in values.items() if str(n).startswith("THETA")]
    places = re.compile(r"(OMEGA|SIGMA)\((\d{1,4}),(\d{1,4})\)")

    def matrix(word: str) -> np.ndarray:
        found = [(m, v) for n, v in values.items() if (m := places.fullmatch(str(n)))]
        cells = [(int(m[2]), int(m[3]), v) for m, v in found if m[1] == word]
        size = max((i for i, _, _ in cells), default=0)
        out = np.zeros((size, size))
        for i, j, value in cells:
            if 1 <= j <= i:
                out[i - 1, j - 1] = out[j - 1, i - 1] = value
        return out

    return Estimates(np.array(theta), matrix("OMEGA"), matrix("SIGMA"))


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that NONMEM wrote (``$TABLE``, ``.phi``), the last one of the file.

    Returns
    -------
    DataFrame
        Numbers, under the names of the line after ``TABLE NO.``.

    Raises
    ------
    PkpdError
        If the file cannot be read, has no header, or a row has another number of values.
    """
    path = Path(path)
    names: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        words = _BETWEEN.split(line.strip())
        if line.startswith("TABLE NO") or (names and words == names):
            names, rows = ([], []) if line.startswith("TABLE NO") else (names, rows)
            continue
        if not names:
            names = words if re.match(r"\s*[A-Za-z]", line) else []
            continue
        if words == [""]:
            continue
        if len(words) != len(names):
            raise PkpdError(
                where=f"{path.name}, line {number}",
                what=f"has {len(words)} values, the header {len(names)} names",
                remedy="write the table anew",
            )
        rows.append([np.nan if (v := _number(word)) is None else v for word in words])
    if not rows:
        raise PkpdError(
            where=path.name,
            what="is no table of NONMEM: no line of names and rows of numbers",
            allowed="what $TABLE writes",
        )
    return pd.DataFrame(rows, columns=names)
