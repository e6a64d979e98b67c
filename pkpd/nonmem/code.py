"""Abbreviated code (``$PK``, ``$DES``, ``$ERROR``, ``$PRED``) as expression trees and statements.

A tokenizer and a recursive-descent parser; no text is ever substituted or evaluated by Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pkpd.nonmem.records import Line, Record
from pkpd.nonmem.tree import (
    Assign,
    Binary,
    Code,
    Expression,
    If,
    Item,
    Name,
    Number,
    Statement,
    Unary,
    levels,
)

FUNCTIONS = [
    "LOG",
    "LOG10",
    "EXP",
    "SQRT",
    "ABS",
    "SIN",
    "COS",
    "TAN",
    "ASIN",
    "ACOS",
    "ATAN",
    "SINH",
    "COSH",
    "TANH",
    "INT",
    "MOD",
    "MIN",
    "MAX",
    "GAMLN",
    "PHI",
    "PEXP",
    "PLOG",
    "PLOG10",
    "PSQRT",
]
_MOST_LEVELS = 300  # what follows an expression into its parts ends at some 500
_FORTRAN = {"DLOG": "LOG", "ALOG": "LOG", "DEXP": "EXP", "DSQRT": "SQRT", "DABS": "ABS"}
_FORTRAN |= {"LOGG": "LOG", "AMIN1": "MIN", "AMAX1": "MAX", "DMIN1": "MIN", "DMAX1": "MAX"}
_FORTRAN |= {"ALOG10": "LOG10", "DLOG10": "LOG10", "DINT": "INT", "DMOD": "MOD"}
_DOTTED = {"EQ": "==", "NE": "/=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}
_DOTTED |= {"EQN": "==", "NEN": "/=", "AND": "AND", "OR": "OR", "NOT": "NOT"}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?(?!(?:EQ|NE|LT|LE|GT|GE|EQN|NEN|AND|OR|NOT)\.)\d*|\.\d+)(?:[ED][+-]?\d+)?)
    |\.(?P<dotted>[A-Z]+)\.
    |(?P<name>[A-Z_][A-Z0-9_]*)
    |(?P<sign>\*\*|==|/=|<=|>=|<|>|\+|-|\*|/|\(|\)|,|=)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """A piece of a line: kind ``number``, ``name`` or ``sign``, and its text."""

    kind: str
    text: str


def tokens(text: str) -> Iterator[Token | None]:
    """Pieces of a line in capitals; None where nothing is understood."""
    text, at = text.upper(), 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        kind = found.lastgroup if found else None
        if found is None or kind is None:
            yield None
            return
        at = found.end()
        piece = found.group(kind)
        if kind == "dotted":
            if piece not in _DOTTED:
                yield None
                return
            kind, piece = "sign", _DOTTED[piece]
        yield Token(kind, piece)


class _Parser:
    """Expressions of one line."""

    def __init__(self, text: str, record: Record, line: Line) -> None:
        self.record, self.line, self.text = record, line, text
        found = list(tokens(text))
        if None in found:
            self.refuse(f"{text.strip()!r} is not understood")
        self.tokens = [token for token in found if token is not None]
        self.at = 0

    def refuse(self, what: str) -> NoReturn:
        self.record.refuse(what, self.line, remedy="rewrite the line in abbreviated code")

    @property
    def next(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, *signs: str) -> str | None:
        """Go past one of these signs."""
        token = self.next
        if token is not None and token.kind == "sign" and token.text in signs:
            self.at += 1
            return token.text
        return None

    def need(self, sign: str) -> None:
        if self.take(sign) is None:
            self.refuse(f"{sign!r} is missing in {self.text.strip()!r}")

    def word(self, *words: str) -> bool:
        """Go past a word."""
        token = self.next
        if token is not None and token.kind == "name" and token.text in words:
            self.at += 1
            return True
        return False

    def end(self) -> None:
        if self.next is not None:
            self.refuse(f"{self.next.text!r} is not expected in {self.text.strip()!r}")

    # lowest first: .OR., .AND., .NOT., comparison, sum, product, sign, power, one value

    def expression(self) -> Expression:
        found = self._or()
        if levels(found) > _MOST_LEVELS:
            self.record.refuse(
                "an expression has too many operators after, or within, one another",
                self.line,
                allowed=f"at most {_MOST_LEVELS}",
                remedy="write it in several statements",
            )
        return found

    def _or(self) -> Expression:
        left = self._and()
        while self.take("OR"):
            left = Binary("OR", left, self._and())
        return left

    def _and(self) -> Expression:
        left = self._not()
        while self.take("AND"):
            left = Binary("AND", left, self._not())
        return left

    def _not(self) -> Expression:
        if self.take("NOT"):
            return Unary("NOT", self._not())
        left = self._sum()
        operator = self.take("==", "/=", "<", "<=", ">", ">=")
        return left if operator is None else Binary(operator, left, self._sum())

    def _sum(self) -> Expression:
        sign = self.take("+", "-")
        left = self._product()
        if sign == "-":
            left = Unary("-", left)
        while operator := self.take("+", "-"):
            left = Binary(operator, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._power()
        while operator := self.take("*", "/"):
            left = Binary(operator, left, self._power())
        return left

    def _power(self) -> Expression:
        # a sign after an operator, as in A*-B, is an extension that compilers accept
        if sign := self.take("+", "-"):
            value = self._power()
            return Unary("-", value) if sign == "-" else value
        base = self._value()
        return Binary("**", base, self._power()) if self.take("**") else base

    def _value(self) -> Expression:
        token = self.next
        if token is None:
            self.refuse(f"{self.text.strip()!r} ends too soon")
        if self.take("("):
            inner = self._or()
            self.need(")")
            return inner
        self.at += 1
        if token.kind == "number":
            number = float(token.text.replace("D", "E"))
            if number == float("inf"):
                self.refuse(f"{token.text[:20]}... is too large a number")
            return Number(number)
        if token.kind != "name":
            self.refuse(f"{token.text!r} is not expected in {self.text.strip()!r}")
        if not self.take("("):
            return Name(token.text)
        arguments = [self._or()]
        while self.take(","):
            arguments.append(self._or())
        self.need(")")
        return Item(_FORTRAN.get(token.text, token.text), tuple(arguments))


def parse_expression(text: str) -> Expression:
    """Parse one expression.

    Examples
    --------
    >>> parse_expression("-A**2")
    Unary(operator='-', operand=Binary(operator='**', left=Name(name='A'), right=Number(value=2.0)))
    """
    line = Line(1, text)
    parser = _Parser(text, Record("PK", (line,), "text"), line)
    try:
        found = parser.expression()
    except RecursionError:
        parser.refuse("parentheses lie too deep within one another")
    parser.end()
    return found


_PHRASES = {
    "OBSERVATION": 0,
    "OBSERVATIONS": 0,
    "OBS": 0,
    "EVERY": -1,
    "ONCE": 1,
    "INDIVIDUAL": 1,
    "ADDITIONAL": -2,
    "NONEVENT": -2,
    "LAGGED": -2,
}
_REFUSED_WORDS = {
    "CALL": "subroutine calls",
    "DO": "loops",
    "DOWHILE": "loops",
    "WHILE": "loops",
    "WRITE": "writing to files",
    "PRINT": "writing to files",
    "OPEN": "writing to files",
    "READ": "reading files",
    "RETURN": "RETURN",
    "GOTO": "GOTO",
    "RSTOP": "RSTOP",
    "STOP": "STOP",
    "REWIND": "files",
    "COMRES": "COMRES",
}
_HARMLESS = re.compile(
    r"^\"\s*(FIRST|MAIN|LAST|!.*|C\s.*|COMMON\s*/\s*PRCOMG\s*/.*|INTEGER\s+(IDUM\d|IMAX|[, ])+|"
    r"USE\s+PRCOM_INT.*|IMAX\s*=\s*[\d.ED]+|)\s*$",
    re.IGNORECASE,
)


class _Block:
    """Statements of a record, read line by line."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lines = [line for line in record.lines if line.text.strip()]
        self.at = 0
        self.calls: int | None = None
        self.notes: list[str] = []

    def statements(
        self, closers: Sequence[str] = ()
    ) -> tuple[tuple[Statement, ...], str, Line | None]:
        """Read up to a closing word (ELSE, ELSEIF, ENDIF) and return it with its line."""
        out: list[Statement] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.text.lstrip().startswith('"'):
                self._verbatim(line)
                continue
            if self._phrase(line):
                continue
            parser = _Parser(line.text, self.record, line)
            closer = self._closer(parser)
            if closer:
                if closer not in closers:
                    parser.refuse(f"{closer} without an IF")
                return tuple(out), closer, line
            found = self._statement(parser, line)
            if found is not None:
                out.append(found)
        if closers:
            self.record.refuse(
                "an IF ... THEN has no ENDIF", self.lines[-1] if self.lines else None
            )
        return tuple(out), "", None

    def _verbatim(self, line: Line) -> None:
        if not _HARMLESS.match(line.text.strip()):
            self.record.refuse(
                f"verbatim code {line.text.strip()!r}",
                line,
                allowed="abbreviated code",
                remedy="rewrite what it does in abbreviated code",
            )
        if "verbatim code that sets the number of calls of $DES" not in self.notes:
            self.notes.append("verbatim code that sets the number of calls of $DES")

    def _phrase(self, line: Line) -> bool:
        """Whether the line is a calling protocol in words, such as (ONLY OBSERVATIONS)."""
        text = line.text.strip().upper()
        if not (text.startswith("(") and text.endswith(")") and "=" not in text):
            return False
        words = text[1:-1].split()
        known = [_PHRASES[word] for word in words if word in _PHRASES]
        if not known:
            self.record.refuse(f"the calling protocol {text} is not read", line)
        self.calls = known[0]
        return True

    @staticmethod
    def _closer(parser: _Parser) -> str:
        start = parser.at
        if parser.word("ENDIF"):
            return "ENDIF"
        if parser.word("ELSEIF"):
            return "ELSEIF"
        if parser.word("END"):
            if parser.word("IF"):
                return "ENDIF"
            parser.refuse("END without IF")
        if parser.word("ELSE"):
            if parser.word("IF"):
                return "ELSEIF"
            parser.end()
            return "ELSE"
        parser.at = start
        return ""

    def _statement(self, parser: _Parser, line: Line) -> Statement | None:
        token, after = parser.next, parser.tokens[1:2]
        assigned = bool(after) and parser.tokens[parser.at + 1 : parser.at + 2] == [
            Token("sign", "=")
        ]
        if token is None:
            return None
        if token.kind == "name" and token.text == "IF" and not assigned:
            return self._if(parser, line)
        return self._simple(parser, line)

    def _simple(self, parser: _Parser, line: Line) -> Statement | None:
        """Read an assignment, or a statement that is left out on purpose."""
        token = parser.next
        following = parser.tokens[parser.at + 1] if parser.at + 1 < len(parser.tokens) else None
        if token is None or token.kind != "name":
            parser.refuse(f"{parser.text.strip()!r} is no statement")
        plain = following is None or following.kind != "sign" or following.text not in ("=", "(")
        if plain and token.text == "EXIT":
            self.notes.append(f"EXIT in line {line.number} (it only ends a search)")
            return None
        if token.text in _REFUSED_WORDS and (plain or following == Token("sign", "(")):
            self.record.refuse(
                f"{_REFUSED_WORDS[token.text]} in {parser.text.strip()!r}",
                line,
                allowed="assignments and IF",
            )
        if token.text in ("COMRES",):
            return None
        target = parser._value()
        parser.need("=")
        value = parser.expression()
        parser.end()
        name = _target(target, parser)
        if name == "CALLFL":
            number = _constant(value)
            if number is None:
                parser.refuse("CALLFL is set to no number")
            self.calls = int(number)
            return None
        return Assign(name, value, line.number)

    def _if(self, parser: _Parser, line: Line) -> Statement | None:
        parser.word("IF")
        condition = self._condition(parser)
        if not (parser.word("THEN") and parser.next is None):
            inner = self._simple(parser, line)
            return None if inner is None else If(((condition, (inner,)),), line.number)
        branches: list[tuple[Expression | None, tuple[Statement, ...]]] = []
        current: Expression | None = condition
        while True:
            closers = ("ENDIF",) if current is None else ("ENDIF", "ELSE", "ELSEIF")
            body, closer, at = self.statements(closers)
            branches.append((current, body))
            if closer == "ENDIF" or at is None:
                return If(tuple(branches), line.number)
            if closer == "ELSE":
                current = None
                continue
            again = _Parser(at.text, self.record, at)
            self._closer(again)
            current = self._condition(again)
            again.word("THEN")
            again.end()

    @staticmethod
    def _condition(parser: _Parser) -> Expression:
        parser.need("(")
        found = parser.expression()
        parser.need(")")
        return found


def _constant(value: Expression) -> float | None:
    if isinstance(value, Number):
        return value.value
    if isinstance(value, Unary) and value.operator == "-" and isinstance(value.operand, Number):
        return -value.operand.value
    return None


def element(name: str, *numbers: float) -> str:
    """Name of an array's element as a variable: ``DADT(1)``."""
    return f"{name}({','.join(str(int(n)) for n in numbers)})"


def _target(found: Expression, parser: _Parser) -> str:
    if isinstance(found, Name):
        return found.name
    if isinstance(found, Item) and all(isinstance(a, Number) for a in found.arguments):
        return element(found.name, *(a.value for a in found.arguments if isinstance(a, Number)))
    return parser.refuse("the left side is neither a name nor an element with a number")


def parse_code(record: Record) -> Code:
    """Parse a block of abbreviated code.

    Raises
    ------
    PkpdError
        For a line that is no abbreviated code, or is not supported; the message names the line.

    Examples
    --------
    >>> from pkpd.nonmem.records import Line, Record
    >>> record = Record("PK", (Line(1, "IF (SEX.EQ.1) CL = THETA(1)"),), "run.mod")
    >>> parse_code(record).statements[0].branches[0][1][0].target
    'CL'
    """
    block = _Block(record)
    try:
        statements, _, _ = block.statements()
    except RecursionError:
        record.refuse(
            "expressions or IFs lie too deep within one another", remedy="write them flat"
        )
    return Code(record, statements, block.calls, tuple(block.notes))


def replace_names(text: str, replaced: Mapping[str, str]) -> str:
    """Replace whole names, ``THETA(CL)`` or ``CLEARANCE``, token by token.

    Examples
    --------
    >>> replace_names("CL = THETA(CL)*EXP(ETA(CL))", {"THETA(CL)": "THETA(1)"})
    'CL = THETA(1) * EXP ( ETA ( CL ) )'
    """
    wanted = {tuple(t.text for t in tokens(old) if t): new for old, new in replaced.items()}
    found = [t.text if t else "?" for t in tokens(text)]
    if "?" in found:
        return text
    dotted = {"AND": ".AND.", "OR": ".OR.", "NOT": ".NOT."}
    kinds = [t.kind if t else "" for t in tokens(text)]
    out, at = [], 0
    while at < len(found):
        for old, new in wanted.items():
            if tuple(found[at : at + len(old)]) == old:
                out.append(new)
                at += len(old)
                break
        else:
            piece = found[at]
            out.append(dotted.get(piece, piece) if kinds[at] == "sign" else piece)
            at += 1
    return " ".join(out)
