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
