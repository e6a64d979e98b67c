"""The abbreviated code of a problem as one program: what acts, and what is kept.

NONMEM carries out ``$PK``, the equations and ``$ERROR`` record by record, and a variable keeps its
value until it is set again. This module finds by reading the code

* which statements act on ``Y`` at all,
* which variables are read before they are set, so that their value comes from an earlier record,
* which of these follow from the data alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pkpd.nonmem.advan import Compartments, named_rates, wanted_parameters
from pkpd.nonmem.estimates import Block, Theta
from pkpd.nonmem.inspect_code import assigned, assignments, parts, reads
from pkpd.nonmem.prior import WrittenPrior
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
)

GIVEN = (
    "(OBSERVED)",
    "NEWIND",
    "ICALL",
    "IREP",
    "NPROB",
    "IPROB",
    "A_0FLG",
    "COMACT",
    "NEWL2",
    "PI",
    "IDUM",
)
"""Variables that NONMEM sets and this package knows."""
OBSERVED = "(OBSERVED)"
"""Variable that is 1 at observations; code never names it."""
UNKNOWN = {
    "MIXNUM": "mixtures",
    "MIXEST": "mixtures",
    "DOSTIM": "the time of a lagged dose",
    "DOSREC": "the record of a lagged dose",
    "ISFINL": "the state of the run",
    "COMSAV": "COMSAV",
}
_AMOUNT = "the amount at the record before, on which parameters cannot depend here"
_PASSED = "it switches within an interval between records"
_CLOCK = {"T": ("the time within an interval", "read TIME, or T in $DES")}
ELSEWHERE = {
    "PK": {
        "A": (_AMOUNT, "let $DES depend on it"),
        "MPAST": (_PASSED, "multiply in $DES by what depends on it"),
        **_CLOCK,
    },
    "ERROR": {"MPAST": (_PASSED, "compare TIME with MTIME"), **_CLOCK},
    "PRED": _CLOCK,
}
"""What $DES alone may read ($ERROR amounts, too), by block: what it is, and a remedy."""
_LIMIT = ("a limit of Y", "write the likelihood: F_FLAG = 1 and PHI", "error")
ACTING = {
    "TSCALE": ("a scale of time", None, "pk"),
    "XSCALE": ("a scale of time", None, "pk"),
    "YLO": _LIMIT,
    "YUP": _LIMIT,
    "CTLO": _LIMIT,
    "CTUP": _LIMIT,
    "CORRL2": ("correlations of residuals within L2", "write them in $SIGMA BLOCK", "error"),
    "I_SS": (
        "a steady state at the start",
        "write the amounts as A_0(n), or a record with SS",
        "pk",
    ),
}
"""Variables that act on NONMEM when code sets them, and not here: what they are, a remedy, and
the block in which they do (of $PRED: error)."""


@dataclass(frozen=True)
class Program:
    """What a stream computes.

    Attributes
    ----------
    source
        Name of the stream, for messages.
    compartments
        ADVAN and compartments.
    pk, des, error
        Blocks; ``error`` is ``$PRED`` where there are no compartments.
    thetas, omegas, sigmas
        Starting values.
    columns
        Data items by name.
    likelihood
        ``F_FLAG`` where the code does not set it: 1 with LIKE, 2 with -2LL.
    prior
        Hyperparameters of ``$PRIOR``.
    text
        Lines of the stream as they were read; empty where it has several problems.
    """

    source: str
    compartments: Compartments
    pk: Code | None
    des: Code | None
    error: Code
    thetas: tuple[Theta, ...]
    omegas: tuple[Block, ...]
    sigmas: tuple[Block, ...]
    columns: tuple[str, ...]
    likelihood: int = 0
    prior: WrittenPrior | None = None
    text: tuple[str, ...] = ()

    @property
    def blocks(self) -> list[Code]:
        """Blocks carried out at a record, in order."""
        return [code for code in (self.pk, self.error) if code is not None]


@dataclass(frozen=True)
class Live:
    """The part of a program that acts on the observations.

    Attributes
    ----------
    pk, des, error
        Statements.
    kept
        Variables that may be read before they are set.
    from_data
        Those of ``kept`` that follow from the data alone.
    compartments
        Compartments (from 1) that act on the observations.
    predicted
        Those that ``F`` may be of.
    read_in_des
        Variables, thetas, etas and data items that ``des`` reads.
    """

    pk: tuple[Statement, ...]
    des: tuple[Statement, ...]
    error: tuple[Statement, ...]
    kept: tuple[str, ...] = ()
    from_data: tuple[str, ...] = ()
    compartments: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    read_in_des: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def used_names(statements: Sequence[Statement], wanted: set[str]) -> set[str]:
    """Return the names that the statements need for the wanted ones."""
    out: set[str] = set()
    for one, conditions in assignments(statements):
        if one.target in wanted:
            out |= reads(one.value)
            for condition in conditions:
                out |= reads(condition)
    return out


def kept_statements(statements: Sequence[Statement], wanted: set[str]) -> tuple[Statement, ...]:
    """Return statements without the assignments to other names."""
    out: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Assign):
            if statement.target in wanted:
                out.append(statement)
            continue
        branches = tuple((c, kept_statements(body, wanted)) for c, body in statement.branches)
        if any(body for _, body in branches):
            out.append(If(branches, statement.line))
    return tuple(out)


def _fixed_names(program: Program, dosing: Iterable[str], observed: Iterable[int]) -> set[str]:
    """Names that the compartments read from ``$PK``."""
    c = program.compartments
    names = set(dosing)
    names |= {f"S{n}" for n in observed} | {"S0"} if c.size else set()
    if any(n == c.observed for n in observed):
        names.add("SC")
    set_in_pk = assigned(program.pk.statements) if program.pk else set()
    names |= {f"A_0({n})" for n in range(1, c.size + 1)}
    if c.advan in (5, 7):
        names |= set(named_rates(sorted(set_in_pk), c.size))
    elif c.advan and c.advan not in (6, 8, 9, 13, 14):
        names |= set(wanted_parameters(c))
    return names & set_in_pk


def live(program: Program, observed: Sequence[int], dosing: Sequence[str]) -> Live:
    """Find what acts on the observations.

    Parameters
    ----------
    program
        The whole program.
    observed
        Compartments (from 1) of the observations, or of all predictions that may matter.
    dosing
        Parameters of doses that the data ask for: ``F1``, ``ALAG2``, ...

    Raises
    ------
    PkpdError
        For a variable that is read and never set, or that NONMEM knows and this package does not.
    """
    c = program.compartments
    pk = program.pk.statements if program.pk else ()
    des = program.des.statements if program.des else ()
    error = program.error.statements
    fixed = _fixed_names(program, dosing, observed)
    wanted = {"Y", "F_FLAG"} | fixed
    while True:
        more = used_names(pk, wanted) | used_names(des, wanted) | used_names(error, wanted)
        if "F" in more | wanted:
            more |= {f"A({n})" for n in observed}
        if any(name.startswith("MPAST(") for name in more):
            more |= {name for name in assigned(pk) if name.startswith("MTIME(")}
        if "A(*)" in more:
            more |= {f"A({n})" for n in range(1, c.size + 1)}
        more |= {"DADT" + name[1:] for name in more | wanted if name.startswith("A(")}
        if more <= wanted:
            break
        wanted |= more
    _check_reads(program, wanted)
    of_pk, of_des, of_error = (kept_statements(block, wanted) for block in (pk, des, error))
    mine = Live(of_pk, of_des, of_error)
    settled = _settled_twice(mine, fixed)
    from_data = _from_data(mine, settled, program)
    needed = [n for n in range(1, c.size + 1) if f"A({n})" in wanted]
    if program.des is None:
        needed = list(range(1, c.size + 1))
    _check_des(program, mine)
    return Live(
        mine.pk,
        mine.des,
        mine.error,
        tuple(sorted(settled)),
        tuple(sorted(from_data)),
        tuple(needed),
        tuple(observed),
        tuple(sorted(_free(mine.des))),
    )


def _check_reads(program: Program, wanted: set[str]) -> None:
    known = (
        set(program.columns)
        | set(GIVEN)
        | {"F", "T", "EPS(*)", "ERR(*)", "THETA(*)", "ETA(*)", "A(*)"}
    )
    for code in (program.pk, program.des, program.error):
        if code is not None:
            known |= assigned(code.statements)
    sizes = {
        "THETA": len(program.thetas),
        "ETA": sum(b.size for b in program.omegas),
        "EPS": sum(b.size for b in program.sigmas),
        "ERR": sum(b.size for b in program.sigmas),
        "A": program.compartments.size,
        "MPAST": 99,
        "SIGMA": sum(b.size for b in program.sigmas),
    }
    for code in (program.pk, program.des, program.error):
        if code is None:
            continue
        elsewhere = ELSEWHERE.get(code.record.name, {})
        for one, conditions in assignments(code.statements):
            acting = ACTING.get(one.target.partition("(")[0])
            if acting is not None and code is getattr(program, acting[2]):
                code.record.refuse(f"{one.target} is set, {acting[0]}", one.line, remedy=acting[1])
            if one.target not in wanted:
                continue
            for name in sorted(set().union(reads(one.value), *map(reads, conditions))):
                head, _, rest = name.partition("(")
                if head in elsewhere and name not in assigned(code.statements):
                    what, remedy = elsewhere[head]
                    code.record.refuse(f"{name} is read ({what})", one.line, remedy=remedy)
                if name in known:
                    continue
                if rest and head in sizes:
                    numbers = [int(n) for n in rest.rstrip(")").split(",") if n.isdecimal()]
                    if numbers and max(numbers) > sizes[head]:
                        code.record.refuse(f"{name} is read, and there are {sizes[head]}", one.line)
                    continue
                if head in UNKNOWN:
                    code.record.refuse(
                        f"{name} is read ({UNKNOWN[head]})", one.line, remedy="leave it out"
                    )
                if rest == "*)":
                    code.record.refuse(f"{head}(...) is neither a function nor set", one.line)
                code.record.refuse(
                    f"{name} is read and never set",
                    one.line,
                    allowed="a data item, or a variable that the code sets",
                )


def _definite(statements: Sequence[Statement], done: set[str], missing: set[str]) -> None:
    """Go through statements in order; collect in ``missing`` what is read before it is set."""
    for statement in statements:
        if isinstance(statement, Assign):
            missing |= reads(statement.value) - done
            done.add(statement.target)
            continue
        sure: set[str] | None = None
        for condition, body in statement.branches:
            if condition is not None:
                missing |= reads(condition) - done
            inside = set(done)
            _definite(body, inside, missing)
            sure = inside if sure is None else sure & inside
        if sure is not None and statement.branches[-1][0] is None:
            done |= sure


def _free(statements: Sequence[Statement]) -> set[str]:
    missing: set[str] = set()
    _definite(statements, set(), missing)
    return {name for name in missing if not name.startswith("A(") and name != "T"}


def _settled_twice(mine: Live, fixed: set[str]) -> set[str]:
    """Variables that a record may read before it sets them, the compartments' own included."""
    missing: set[str] = set()
    done: set[str] = set()
    _definite(mine.pk, done, missing)
    # the equations read what $PK has set at this record, or what $ERROR left
    own = assigned(mine.des)
    missing |= (_free(mine.des) - own | fixed) - done
    done |= own
    _definite(mine.error, done, missing)
    settable = assigned(mine.pk) | assigned(mine.error)
    out = missing & settable
    # what is set in some branch only is read by the selection itself where it is used later
    return {name for name in out if not name.startswith(("DADT(", "A_0(", "MTIME("))} - {
        "Y",
        "F_FLAG",
    }


def _from_data(mine: Live, kept: set[str], program: Program) -> set[str]:
    """Names among ``kept`` whose every assignment follows from data items and constants."""
    given = (OBSERVED, "NEWIND", "NEWL2", "ICALL", "IREP", "NPROB", "IPROB", "PI")
    data = {*program.columns, *given}
    every = assigned(mine.pk) | assigned(mine.error)
    good = set(every)
    while True:
        bad = set()
        for one, conditions in assignments((*mine.pk, *mine.error)):
            if one.target not in good:
                continue
            used = set().union(reads(one.value), *map(reads, conditions))
            if not used <= data | good:
                bad.add(one.target)
        if not bad:
            return good & kept
        good -= bad


def data_statements(
    mine: Live, program: Program
) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """Return the statements of ``$PK`` and ``$ERROR`` that follow from the data alone."""
    every = assigned(mine.pk) | assigned(mine.error)
    good = _from_data(mine, every, program)
    return kept_statements(mine.pk, good), kept_statements(mine.error, good)


def _check_des(program: Program, mine: Live) -> None:
    """Refuse equations that remember: a variable of ``$DES`` read before it is set there."""
    own = assigned(mine.des)
    missing: set[str] = set()
    _definite(mine.des, set(), missing)
    remembered = sorted(name for name in missing & own if not name.startswith("DADT("))
    if remembered and program.des is not None:
        name = remembered[0]
        line = next(one.line for one, _ in assignments(mine.des) if one.target == name)
        program.des.record.refuse(
            f"{name} keeps a value from an earlier call of $DES, which depends on the solver's "
            "steps",
            line,
            remedy="set it in every branch, or make it a compartment",
        )


def degree(expression: Expression, linear: set[str], constant: set[str]) -> int | None:
    """Degree of an expression in the amounts: 0, 1 (linear, no constant term) or None (neither).

    Parameters
    ----------
    expression
        An expression of ``$DES``.
    linear, constant
        Variables set before in ``$DES``, by their degree.

    Examples
    --------
    >>> from pkpd.nonmem.code import parse_expression
    >>> degree(parse_expression("K12*A(1) - CL/V*A(2)"), set(), set())
    1
    >>> degree(parse_expression("VM*A(1)/(KM+A(1))"), set(), set()) is None
    True
    """
    if isinstance(expression, Name):
        if expression.name == "T":
            return None
        return 1 if expression.name in linear else 0
    if isinstance(expression, Item):
        if expression.name == "A":
            return 1
        inner = [degree(a, linear, constant) for a in expression.arguments]
        return 0 if all(d == 0 for d in inner) else None
    if isinstance(expression, Unary):
        found = degree(expression.operand, linear, constant)
        return found if expression.operator == "-" or found == 0 else None
    if isinstance(expression, Binary):
        one, other = (degree(e, linear, constant) for e in (expression.left, expression.right))
        if one is None or other is None:
            return None
        if expression.operator in ("+", "-"):
            return one if one == other else None
        if expression.operator == "*":
            return one + other if one + other < 2 else None
        if expression.operator == "/":
            return one if other == 0 else None
        return 0 if one == other == 0 else None
    return 0


def linear_equations(statements: Sequence[Statement]) -> bool:
    """Whether equations are linear in the amounts with coefficients that time does not change."""
    linear: set[str] = set()
    constant: set[str] = set()
    for statement in statements:
        if isinstance(statement, If):
            for one, under in assignments([statement]):
                used = reads(one.value).union({one.target}, *map(reads, under))
                if any(n.startswith(("A(", "DADT(")) or n == "T" or n in linear for n in used):
                    return False
            continue
        found = degree(statement.value, linear, constant)
        if statement.target.startswith("DADT("):
            zero = not any(isinstance(p, Name | Item) for p in parts(statement.value))
            if found != 1 and not (found == 0 and zero and _is_zero(statement.value)):
                return False
            continue
        if found is None:
            return False
        (linear if found == 1 else constant).add(statement.target)
        (constant if found == 1 else linear).discard(statement.target)
    return True


def _is_zero(expression: Expression) -> bool:
    return isinstance(expression, Number) and expression.value == 0.0
