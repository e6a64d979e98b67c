"""Looking through abbreviated code: what it reads, what it sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pkpd.nonmem.code import FUNCTIONS, element
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
