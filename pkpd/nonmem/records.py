"""A control stream taken apart: problems, their records, and the lines of each record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from pkpd.errors import PkpdError

# every record that is read or ignored on purpose, by its full name
READ = (
    "PROBLEM",
    "INPUT",
    "DATA",
    "SUBROUTINES",
    "MODEL",
    "ABBREVIATED",
    "PK",
    "PRED",
    "DES",
    "ERROR",
    "THETA",
    "OMEGA",
    "SIGMA",
    "ESTIMATION",
    "PRIOR",
)
PRIORS = ("THETAP", "THETAPV", "OMEGAP", "OMEGAPD", "SIGMAP", "SIGMAPD")
"""Records of hyperparameters."""
IGNORED = {
    "SIZES": "sizes of NONMEM's arrays",
    "COVARIANCE": "standard errors are not part of the model",
    "TABLE": "output",
    "SCATTERPLOT": "output",
    "SIMULATION": "simulation; pkpd.simulate does that",
    "NONPARAMETRIC": "a nonparametric step",
    "WARNINGS": "messages",
    "ANNEAL": "starting values of SAEM",
    "TOL": "tolerances; steps are chosen by pkpd",
    "ETAS": "starting values of individual modes",
    "PHIS": "starting values of individual modes",
    "RCOV": "output",
    "FORMAT": "output",
    "CHAIN": "starting values from a file",
}
REFUSED = {
    "AES": "algebraic equations",
    "AESINITIAL": "algebraic equations",
    "MIX": "a mixture of populations",
    "INFN": "code before and after a problem",
    "MSFI": "values from an earlier run's file",
    "LEVEL": "random effects above the individual",
    "CONTR": "a user's own objective",
    "INCLUDE": "text from another file",
    "THETAI": "thetas transformed by code",
    "THETAR": "thetas transformed by code",
    "OMEGASD": "priors other than NWPRI",
    "OLKJDF": "priors other than NWPRI",
    "OVARF": "priors other than NWPRI",
    "SLKJDF": "priors other than NWPRI",
    "SVARF": "priors other than NWPRI",
    "TTDF": "priors other than NWPRI",
    "SUPER": "super problems",
    "BIND": "bound data items",
    "OMIT": "data items left out of templates",
    "INDEX": "the index record",
    "DEFAULT": "the default record",
    "DESIGN": "optimal design",
}
_SYNONYMS = {"ESTIMATE": "ESTIMATION", "ESTM": "ESTIMATION", "SIMULATE": "SIMULATION"}
_SYNONYMS |= {
    "SUBS": "SUBROUTINES",
    "SUBR": "SUBROUTINES",
    "COVR": "COVARIANCE",
    "SIML": "SIMULATION",
}
_SYNONYMS |= {
    "OMEGAPRIOR": "OMEGAP",
    "INDXS": "INDEX",
    "ESTIMATI": "ESTIMATION",
    "SUBROUTINE": "SUBROUTINES",
}
_AFTER_COPY = ("NM-TRAN MESSAGES", "License Registered to", "1NONLINEAR MIXED EFFECTS MODEL")
_NAMES = (*READ, *PRIORS, *IGNORED, *REFUSED)


@dataclass(frozen=True)
class Line:
    """A line of a record: its text without comment, the comment, and its number in the file."""

    number: int
    text: str
    comment: str = ""


@dataclass(frozen=True)
class Record:
    """A record of a control stream.

    Attributes
    ----------
    name
        Full name, without the dollar sign.
    lines
        Its lines; the first has what stands after the name.
    source
        Name of the file, for messages.
    """

    name: str
    lines: tuple[Line, ...]
    source: str

    @property
    def text(self) -> str:
        """All lines without comments, joined by spaces."""
        return " ".join(line.text for line in self.lines)

    def where(self, line: Line | int | None = None) -> str:
        """Words for a place in the record."""
        number = (
            self.lines[0].number if line is None else line if isinstance(line, int) else line.number
        )
        return f"{self.source}, line {number}, ${self.name}"

    def refuse(
        self,
        what: str,
        line: Line | int | None = None,
        *,
        allowed: str | None = None,
        remedy: str | None = None,
    ) -> NoReturn:
        """Refuse something in this record.

        Raises
        ------
        PkpdError
            Always.
        """
        raise PkpdError(where=self.where(line), what=what, allowed=allowed, remedy=remedy)


@dataclass
class Problem:
    """One problem of a stream: its title and records in order."""

    title: str
    records: list[Record] = field(default_factory=list)

    def all(self, *names: str) -> list[Record]:
        """Return the records of these names, in order."""
        return [record for record in self.records if record.name in names]

    def one(self, name: str) -> Record | None:
        """Return the only record of a name, several joined, or None."""
        found = self.all(name)
        if len(found) < 2:
            return found[0] if found else None
        return Record(
            name, tuple(line for record in found for line in record.lines), found[0].source
        )


def file_text(path: Path) -> str:
    """Text of a file, whatever its bytes are."""
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise PkpdError(
            where=str(path), what="cannot be read", remedy=error.strerror or "look at the path"
        ) from None


def stream_text(path: Path) -> list[str]:
    """Lines of a control stream, or of the copy of it at the head of a listing."""
    return stream_lines(file_text(path))


def stream_lines(text: str) -> list[str]:
    """Lines of a text up to NONMEM's first own line, which follows the copy in a listing."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for i, line in enumerate(lines):
        if line.strip().startswith(_AFTER_COPY):
            return lines[:i]
    return lines


def _full_name(word: str, where: str) -> str:
    """Full name of a record, from three letters or more."""
    word = word.upper()
    if word in ("PK", "DES"):
        return word
    word = _SYNONYMS.get(word, word)
    if word in _NAMES:
        return word
    found = [name for name in _NAMES if len(word) >= 3 and name.startswith(word)]
    if not found:
        known = ", ".join(f"${name}" for name in READ)
        raise PkpdError(where=where, what=f"${word} is no record that is read", allowed=known)
    return found[0]


def _split_comment(text: str) -> tuple[str, str]:
    """Text before and after a semicolon."""
    before, _, after = text.partition(";")
    return before.rstrip(), after.strip()


def _joined(lines: Sequence[str]) -> Iterator[Line]:
    """Lines with those that end in ``&`` continued; verbatim lines are left as they are."""
    pending, first = "", 0
    for number, raw in enumerate(lines, start=1):
        if raw.lstrip().startswith('"'):
            yield Line(number, raw.strip())
            continue
        text, comment = _split_comment(raw.replace("\t", " "))
        if text.endswith("&"):
            pending, first = pending + text[:-1] + " ", first or number
            continue
        yield Line(first or number, pending + text, comment)
        pending, first = "", 0
    if pending:
        yield Line(first, pending)


def read_records(lines: Sequence[str], source: str) -> list[Problem]:
    """Split a stream into problems and records.

    Parameters
    ----------
    lines
        Lines of the stream.
    source
        Name of the file, for messages.

    Raises
    ------
    PkpdError
        If there is no record, or one that is not known.

    Examples
    --------
    >>> problems = read_records(["$PROB one", "$INP ID TIME ; comment", "  DV", "$THE 1"], "x.mod")
    >>> [(r.name, r.text) for r in problems[0].records]
    [('INPUT', 'ID TIME   DV'), ('THETA', '1')]
    """
    problems: list[Problem] = []
    before: list[Record] = []
    current: list[Line] = []
    name = ""

    def close() -> None:
        if not name:
            return
        record = Record(name, tuple(current), source)
        if name == "PROBLEM":
            problems.append(Problem(record.text.strip()))
        elif problems:
            problems[-1].records.append(record)
        else:
            before.append(record)

    for line in _joined(lines):
        text = line.text.lstrip()
        if name != "PROBLEM" and text.upper().split()[:1] == ["INCLUDE"]:
            text = f"${text}"  # NM-TRAN reads it without the sign, too
        if text.startswith("$"):
            close()
            word, _, rest = text[1:].partition(" ")
            for mark in "(=":  # $DATA(…) and the like
                if mark in word:
                    at = word.index(mark)
                    word, rest = word[:at], word[at:] + " " + rest
            name = _full_name(word, f"{source}, line {line.number}")
            current = [Line(line.number, rest, line.comment)]
        elif name:
            current.append(line)
    close()
    if not problems:
        raise PkpdError(
            where=source,
            what="has no $PROBLEM record",
            allowed="a NONMEM control stream or listing",
        )
    problems[0].records[:0] = before
    return problems


def choose_problem(problems: Sequence[Problem], number: int | None, source: str) -> Problem:
    """Return the problem of a number (from 1), the only one, or the first that is estimated.

    A problem is estimated if it has data, columns and an estimation step.

    Raises
    ------
    PkpdError
        If there are several, no number, and none is estimated; or no problem of that number.
    """
    listed = "; ".join(f"{i} {p.title or 'without title'}" for i, p in enumerate(problems, start=1))
    if number is None:
        if len(problems) > 1:
            for one in problems:
                if all(one.all(name) for name in ("INPUT", "DATA", "ESTIMATION")):
                    return one
            raise PkpdError(
                where=source,
                what=f"has {len(problems)} problems, and none with data and estimation",
                allowed=listed,
                remedy="choose one with problem=",
            )
        return problems[0]
    if not 1 <= number <= len(problems):
        raise PkpdError(where=source, what=f"has no problem {number}", allowed=listed)
    return problems[number - 1]
