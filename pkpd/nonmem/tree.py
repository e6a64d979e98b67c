"""Expression trees and statements of abbreviated code."""

from __future__ import annotations

from dataclasses import dataclass

from pkpd.nonmem.records import Record


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Name:
    """A variable, in capitals."""

    name: str


@dataclass(frozen=True)
class Item:
    """An element of an array, ``THETA(3)``, or a function of arguments, ``EXP(X)``."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Unary:
    """``-x`` or ``.NOT. x``."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary:
    """Two operands: arithmetic, comparison or logic."""

    operator: str
    left: Expression
    right: Expression


Expression = Number | Name | Item | Unary | Binary


def children(value: Expression) -> tuple[Expression, ...]:
    """Give the expressions of which an expression is made."""
    if isinstance(value, Item):
        return value.arguments
    if isinstance(value, Unary):
        return (value.operand,)
    return (value.left, value.right) if isinstance(value, Binary) else ()


def levels(value: Expression) -> int:
    """How deep the parts of an expression lie within one another."""
    here, count = [value], 0
    while here:
        here, count = [child for one in here for child in children(one)], count + 1
    return count


@dataclass(frozen=True)
class Assign:
    """``target = value``; the target is a name or an element with a number."""

    target: str
    value: Expression
    line: int


@dataclass(frozen=True)
class If:
    """Conditions with their statements, the last without a condition if there is an ELSE."""

    branches: tuple[tuple[Expression | None, tuple[Statement, ...]], ...]
    line: int


Statement = Assign | If


@dataclass(frozen=True)
class Code:
    """A block of abbreviated code.

    Attributes
    ----------
    record
        Where it stands.
    statements
        What is computed.
    calls
        ``CALLFL`` where the block sets it or its protocol phrase does, else None.
    notes
        What was left out on purpose.
    """

    record: Record
    statements: tuple[Statement, ...]
    calls: int | None = None
    notes: tuple[str, ...] = ()
