"""Elements by other than a plain number: labels of ``$THETA``, and computed subscripts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.nonmem.carried import from_data, given_variables
from pkpd.nonmem.code import FUNCTIONS, element
from pkpd.nonmem.estimates import MOST, number_of, read_blocks, read_thetas
from pkpd.nonmem.evaluate import Evaluator, choose_element
from pkpd.nonmem.inspect_code import assignments, parts, reads
from pkpd.nonmem.program import OBSERVED, Live, Program, data_statements
from pkpd.nonmem.records import Line, Problem, Record
from pkpd.nonmem.tree import Expression, Item, Number, Statement

_LABEL = re.compile(r"(?<!\w)([A-Za-z]\w*)\s*=")
_DIAGONAL = re.compile(r"\bDIA[A-Z]*\s*\(\s*\d+\s*\)", re.IGNORECASE)
_GIVEN_NAMES = re.compile(r"\bNAMES\s*\(([^)]*)\)", re.IGNORECASE)
_OPTION = re.compile(r"\b(BLO[A-Z]*|SAME|NAMES|VALUES)\s*\([^)]*\)", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]\w*$")
_NO_LABEL = ("NUMBERPOINTS", "NUMPOINTS", "NUMBERPTS")
_ARRAYS = {"THETA": ("THETA",), "OMEGA": ("ETA",), "SIGMA": ("EPS", "ERR")}
_RANDOM = re.compile(r"(THETA|ETA|EPS|ERR|A|DADT)\(|F$")


def labelled(problem: Problem) -> dict[str, str]:
    """Return what labels stand for: ``$THETA CL=1`` makes ``THETA(CL)`` number 1.

    ``NAMES(CL,V)`` labels the effects of its record in order. Within a BLOCK a label stands before
    a variance.

    Examples
    --------
    >>> record = Record("THETA", (Line(1, "CL=(0,1) V=3"),), "run.mod")
    >>> labelled(Problem("", [record]))
    {'THETA(CL)': 'THETA(1)', 'THETA(V)': 'THETA(2)'}
    """
    out: dict[str, str] = {}
    for kind, arrays in _ARRAYS.items():
        records = problem.all(kind)
        for k, record in enumerate(records):
            block = kind != "THETA" and re.search(r"\bBLO", record.text.upper())
            of_record = _of_block if block else _of_values
            for label, number, line in (
                *_of_names(kind, records[:k], record),
                *of_record(kind, records[:k], record),
            ):
                for array in arrays:
                    if f"{array}({label})" in out:
                        record.refuse(f"the label {label} is there twice", line)
                    out[f"{array}({label})"] = f"{array}({number})"
    return out


_Labels = Iterator[tuple[str, int, Line]]


def _of_names(kind: str, before: Sequence[Record], record: Record) -> _Labels:
    """Labels of NAMES, each with its number and line."""
    if not (found := _GIVEN_NAMES.search(record.text)):
        return
    line = next(line for line in record.lines if re.search(r"\bNAMES\b", line.text.upper()))
    names = found.group(1).replace(",", " ").upper().split()
    first = _count(kind, before)
    count = _count(kind, (*before, record)) - first
    if len(names) != count or not all(map(_WORD.match, names)):
        what = f"NAMES has {', '.join(names) or 'no label'}"
        record.refuse(what, line, allowed=f"a word for each of {count}")
    for i, name in enumerate(names, start=1):
        yield name, first + i, line


def _of_values(kind: str, before: Sequence[Record], record: Record) -> _Labels:
    """Labels before values of which each is of one effect."""
    for n, line in enumerate(record.lines):
        for found in _LABEL.finditer(line.text):
            label = found.group(1).upper()
            if label in _NO_LABEL:
                continue
            part = Line(line.number, line.text[: found.start()], line.comment)
            cut = _plain(Record(kind, (*record.lines[:n], part), record.source))
            yield label, _count(kind, (*before, cut)) + 1, line


def _of_block(kind: str, before: Sequence[Record], record: Record) -> _Labels:
    """Labels before the variances of a block, whose values come row by row."""
    first, values = _count(kind, before), 0
    ends = {n * (n + 1) // 2: n for n in range(1, MOST + 1)}
    for line in record.lines:
        # brackets of words have numbers that are no values
        for piece in re.finditer(r"\w+\s*=|[^\s(),=]+", _OPTION.sub(" ", line.text)):
            text = piece.group()
            if text.endswith("="):
                label, row = text[:-1].strip().upper(), ends.get(values + 1)
                if row is None:
                    what = f"the label {label} stands before a covariance"
                    record.refuse(what, line, allowed="labels before the variances of a block")
                yield label, first + row, line
            elif number_of(text) is not None:
                values += 1
            elif re.match(r"[Xx]\d+$", text):
                values += int(text[1:]) - 1


def _plain(record: Record) -> Record:
    """Return the beginning of a record without the number of values that all of it has."""
    lines = (Line(x.number, _DIAGONAL.sub("", x.text), x.comment) for x in record.lines)
    return Record(record.name, tuple(lines), record.source)


def _count(kind: str, records: Sequence[Record]) -> int:
    """Effects of a kind that records give."""
    if kind == "THETA":
        return len(read_thetas(records))
    return sum(block.size for block in read_blocks(records))


def refuse_subscripts(program: Program, acts: Live, data: Dataset) -> None:
    """Refuse computed subscripts that data do not decide, or that name no element.

    Raises
    ------
    PkpdError
        Naming array, subscript, its value and the first record.
    """
    blocks = (acts.pk, acts.des, acts.error)
    given = [one for block in blocks for one in _computed(block)]
    if not given:
        return
    for item in given:
        if cause := _not_from_data(reads(item.arguments[0]), blocks):
            raise PkpdError(
                where=f"{program.source}, {item.name}({_shown(item.arguments[0])})",
                what=f"its number depends on {cause}",
                allowed="a number, or what the data alone decide",
                remedy=f"if it is a label, write $ABBR REPLACE {item.name}("
                f"{_shown(item.arguments[0])})={item.name}(1) with its number",
            )
    events, seen = data.events, data.observations
    there = np.zeros(events.shape)
    there[seen.subject, seen.record] = 1.0
    values: dict[str, Any] = {**given_variables(data), **data.covariates, OBSERVED: there}
    if acts.from_data:
        own = data_statements(acts, program)
        values |= from_data(acts.from_data, own, values, events.valid, 0.0)
    sizes = {
        "THETA": len(program.thetas),
        "ETA": sum(block.size for block in program.omegas),
        "EPS": (residuals := sum(block.size for block in program.sigmas)),
        "ERR": residuals,
        "A": program.compartments.size,
    }
    values |= {element(name, n + 1): 1.0 for name, most in sizes.items() for n in range(most)}

    def checked(name: str, number: Any) -> Any:
        most, wide = sizes.get(name), np.broadcast_to(np.asarray(number, float), events.shape)
        bad = ~np.isin(wide, np.arange(1, (most or 0) + 1)) & events.valid
        for b, n in np.argwhere(bad & (most is not None))[:1].tolist():
            raise PkpdError(
                where=f"{program.source}, {name}(...) at {events.place(b, n)}",
                what=f"its number is {wide[b, n]:g}",
                allowed=f"a whole number from 1 to {most}",
                remedy="correct the code or the data item that it is made of",
            )
        return choose_element(name, number, values)

    run = Evaluator(values, checked)
    with np.errstate(all="ignore"):
        for block in blocks:
            run.run(block)


def _computed(statements: Sequence[Statement]) -> list[Item]:
    """Elements whose number is computed."""
    found = {
        part: None
        for one, conditions in assignments(statements)
        for value in (one.value, *conditions)
        for part in parts(value)
        if isinstance(part, Item) and part.name not in FUNCTIONS and len(part.arguments) == 1
    }
    return [item for item in found if not isinstance(item.arguments[0], Number)]


def _not_from_data(names: set[str], blocks: Sequence[Sequence[Statement]]) -> str:
    """Return what of parameters or amounts names depend on; empty if they follow from data."""
    every = [pair for block in blocks for pair in assignments(block)]
    left, known = list(names), set(names)
    while left:
        name = left.pop()
        if _RANDOM.match(name):
            return name
        for one, conditions in every:
            if one.target == name:
                further = set().union(reads(one.value), *map(reads, conditions)) - known
                known |= further
                left += sorted(further)
    return ""


def _shown(value: Expression) -> str:
    """Names in a subscript."""
    return ", ".join(sorted(reads(value))) or "..."
