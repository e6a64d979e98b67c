"""Statements in the languages of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkpd.nonmem.tree import Assign, Binary, Expression, If, Item, Name, Number, Statement, Unary

_ORDER = {"OR": 1, "AND": 2, "+": 5, "-": 5, "*": 6, "/": 6, "**": 8}
_COMPARING = 4
_NEGATIVE = 7


@dataclass(frozen=True)
class Dialect:
    """How a language writes what all have.

    Attributes
    ----------
    name
        Name of the program.
    operators
        Words of operators that differ.
    functions
        Names of functions that differ.
    power
        How a power is written, of base and exponent.
    then, otherwise, end
        Around the branches of an IF block, the first with the condition.
    declare
        What stands before a name at its first assignment.
    ending
        What ends a statement.
    """

    name: str
    operators: dict[str, str]
    functions: dict[str, str]
    power: str
    then: str
    otherwise: str
    end: str
    declare: str = ""
    ending: str = ""

    def expression(self, one: Expression, outer: int = 0) -> str:
        """Text of an expression; brackets where what stands around binds closer."""
        if isinstance(one, Number):
            text = number(one.value)
            return f"({text})" if one.value < 0 and outer else text
        if isinstance(one, Name):
            return one.name
        if isinstance(one, Item):
            name = self.functions.get(one.name, one.name.lower())
            return f"{name}({', '.join(self.expression(a) for a in one.arguments)})"
        if isinstance(one, Unary):
            word = "-" if one.operator == "-" else self.operators["NOT"]
            text = f"{word}{self.expression(one.operand, _NEGATIVE + 1)}"
            return f"({text})" if outer else text
        return self._binary(one, outer)

    def _binary(self, one: Binary, outer: int) -> str:
        mine = _ORDER.get(one.operator, _COMPARING)
        if one.operator == "**":
            left, right = (self.expression(each, 9) for each in (one.left, one.right))
            if "pow" in self.power:
                left, right = self.expression(one.left), self.expression(one.right)
            text = self.power.format(left, right)
            return f"({text})" if outer > mine and "pow" not in self.power else text
        word = self.operators.get(one.operator, one.operator)
        left = self.expression(one.left, mine)
        right = self.expression(one.right, mine + 1)
        space = "" if one.operator in "*/" else " "
        text = f"{left}{space}{word}{space}{right}"
        return f"({text})" if outer > mine else text

    def statements(self, lines: Sequence[Statement], indent: str = "") -> list[str]:
        """Lines of text."""
        out: list[str] = []
        if self.declare:
            for target in _chosen(lines):
                out.append(f"{indent}{self.declare}{target} = 0.0{self.ending}")
        for line in lines:
            out += self._one(line, indent, declared=False)
        return out

    def _one(self, line: Statement, indent: str, declared: bool) -> list[str]:
        if isinstance(line, Assign):
            before = "" if declared else self.declare
            return [f"{indent}{before}{line.target} = {self.expression(line.value)}{self.ending}"]
        assert isinstance(line, If)
        out = []
        for condition, body in line.branches:
            if condition is not None:
                out.append(indent + self.then.format(self.expression(condition)))
            else:
                out.append(indent + self.otherwise)
            for each in body:
                out += self._one(each, indent + "  ", declared=True)
        return [*out, indent + self.end]


def _chosen(lines: Sequence[Statement]) -> list[str]:
    """Names that IF blocks set."""
    out: list[str] = []
    for line in lines:
        if isinstance(line, If):
            out += [
                each.target
                for _, body in line.branches
                for each in body
                if isinstance(each, Assign)
            ]
    return list(dict.fromkeys(out))


def number(value: float) -> str:
    """Shortest text that reads back as the same number, always with a point or an exponent.

    Examples
    --------
    >>> number(2.0), number(0.1), number(1e-8)
    ('2.0', '0.1', '1E-08')
    """
    return repr(float(value)).replace("e", "E")


NONMEM = Dialect(
    "NONMEM",
    {
        ">": ".GT.",
        ">=": ".GE.",
        "<": ".LT.",
        "<=": ".LE.",
        "==": ".EQ.",
        "/=": ".NE.",
        "AND": ".AND.",
        "OR": ".OR.",
        "NOT": ".NOT.",
    },
    {
        name: name
        for name in ("EXP", "LOG", "SQRT", "ABS", "SIN", "COS", "TAN", "TANH", "MAX", "MIN", "PHI")
    },
    "{}**{}",
    "IF ({}) THEN",
    "ELSE",
    "ENDIF",
)
_C_WORDS = {"/=": "!=", "AND": "&&", "OR": "||", "NOT": "!"}
MRGSOLVE = Dialect(
    "mrgsolve",
    _C_WORDS,
    {"MAX": "std::max", "MIN": "std::min", "ABS": "std::abs"},
    "pow({}, {})",
    "if({}) {{",
    "} else {",
    "}",
    declare="double ",
    ending=";",
)
RXODE2 = Dialect("rxode2", _C_WORDS, {}, "{}^{}", "if ({}) {{", "} else {", "}")
