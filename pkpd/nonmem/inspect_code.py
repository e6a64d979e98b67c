"""Looking through abbreviated code: what it reads, what it sets, where two differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pkpd.errors import PkpdError
from pkpd.nonmem.code import FUNCTIONS, element, parse_code
from pkpd.nonmem.records import Problem
from pkpd.nonmem.tree import Assign, Expression, Item, Name, Number, Statement, children


def parts(value: Expression) -> Iterator[Expression]:
    """Every expression inside an expression, itself first."""
    left = [value]
    while left:
        yield (one := left.pop())
        left.extend(reversed(children(one)))


def reads(value: Expression) -> set[str]:
    """Return the names that an expression reads: ``CL``, ``THETA(1)``, ``A(2)``, ``THETA(*)``."""
    out: set[str] = set()
    for part in parts(value):
        if isinstance(part, Name):
            out.add(part.name)
        elif isinstance(part, Item) and part.name not in FUNCTIONS:
            numbers = [a.value for a in part.arguments if isinstance(a, Number)]
            known = len(numbers) == len(part.arguments)
            out.add(element(part.name, *numbers) if known else f"{part.name}(*)")
    return out


def assignments(
    statements: Sequence[Statement], under: tuple[Expression, ...] = ()
) -> Iterator[tuple[Assign, tuple[Expression, ...]]]:
    """Every assignment with the conditions that decide on it."""
    for statement in statements:
        if isinstance(statement, Assign):
            yield statement, under
            continue
        before: tuple[Expression, ...] = ()
        for condition, body in statement.branches:
            mine = (*before, condition) if condition is not None else before
            yield from assignments(body, (*under, *mine))
            before = mine


def assigned(statements: Sequence[Statement]) -> set[str]:
    """Return the names that statements may set."""
    return {one.target for one, _ in assignments(statements)}


def same_code(one: Problem, other: Problem) -> str:
    """Name of the first record of the model that differs between two problems; empty if none does.

    Of ``$SUBROUTINES`` ADVAN and TRANS are compared, not tolerances.
    """
    for name, words in (("SUBROUTINES", r"(ADVAN\d+|TRANS\d+)"), ("MODEL", r"[^\s,=()]+")):
        told = (record.text.upper() if (record := p.one(name)) else "" for p in (one, other))
        first, second = (sorted(set(re.findall(words, text))) for text in told)
        if first != second:
            return name
    for name in ("PK", "PRED", "DES", "ERROR"):
        mine, its = one.one(name), other.one(name)
        if (mine is None) != (its is None):
            return name
        if mine is None or its is None:
            continue
        try:
            first, second = parse_code(mine), parse_code(its)
        except PkpdError:
            return name
        if _without_lines(first.statements) != _without_lines(second.statements):
            return name
    return ""


def _without_lines(statements: Any) -> Any:
    out: list[Any] = []
    for statement in statements:
        if hasattr(statement, "branches"):
            out.append(tuple((c, _without_lines(body)) for c, body in statement.branches))
        else:
            out.append((statement.target, statement.value))
    return out
