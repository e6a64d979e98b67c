"""Abbreviated code: the parser against Python's own, statements against hand-written ones."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.errors import PkpdError
from pkpd.nonmem.code import parse_code, parse_expression, replace_names
from pkpd.nonmem.evaluate import Evaluator, choose_element
from pkpd.nonmem.inspect_code import reads
from pkpd.nonmem.records import Line, Record

VALUES = {"A1": 0.7, "CL": 2.5, "V_2": 11.0, "X": -1.25}


def record(*lines, name="PK"):
    return Record(name, tuple(Line(i, text) for i, text in enumerate(lines, start=1)), "run.mod")


def run(*lines, **values):
    found = Evaluator(dict(values))
    found.run(parse_code(record(*lines)).statements)
    return found.values


def numbers():
    plain = st.floats(0.01, 50).map(lambda x: round(x, 3))
    as_text = plain.map(lambda x: (f"{x:g}", f"{x:g}"))
    exponent = plain.map(lambda x: (f"{x:.3E}".replace("E", "D"), f"{x:.3E}"))
    return st.one_of(as_text, exponent)


def expressions():
    """Pairs of texts: abbreviated code, and the same in Python."""
    names = st.sampled_from(sorted(VALUES)).map(lambda n: (n.lower(), n))
    leaf = st.one_of(numbers(), names)

    def more(inner):
        pair = st.tuples(inner, inner)
        both = [
            st.tuples(pair, st.sampled_from("+-*/")).map(
                lambda t: (f"{t[0][0][0]}{t[1]} {t[0][1][0]}", f"{t[0][0][1]}{t[1]} {t[0][1][1]}")
            ),
            inner.map(lambda e: (f"({e[0]})", f"({e[1]})")),
            inner.map(lambda e: (f"(-{e[0]})", f"(-{e[1]})")),
            st.tuples(inner, st.integers(0, 3)).map(
                lambda t: (f"({t[0][0]})**{t[1]}", f"({t[0][1]})**{t[1]}")
            ),
            inner.map(lambda e: (f"DEXP(({e[0]})/1.D3)", f"math.exp(({e[1]})/1000)")),
            inner.map(lambda e: (f"SQRT(ABS({e[0]}))", f"math.sqrt(abs({e[1]}))")),
            pair.map(lambda t: (f"MAX({t[0][0]},{t[1][0]})", f"max({t[0][1]},{t[1][1]})")),
        ]
        return st.one_of(both)

    return st.recursive(leaf, more, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_expressions_have_the_value_that_another_parser_gives(pair):
    text, python = pair
    try:
        wanted = eval(python, {"math": math, "max": max, "abs": abs}, dict(VALUES))
    except (ZeroDivisionError, OverflowError):
        return
    found = Evaluator(dict(VALUES)).value(parse_expression(text))
    assert np.isclose(found, wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-2**2", -4.0),
        ("2**3**2", 512.0),
        ("8/4/2", 1.0),
        ("2*-3", -6.0),
        ("1.E2+1.D-1", 100.1),
        ("1.EQ.2", 0.0),
        ("2.EQ.2.AND..NOT.1.GT.2", 1.0),
        ("1.LT.2.OR.1/0.GT.3", 1.0),
        ("3>=3", 1.0),
        ("MOD(7,4)", 3.0),
        ("INT(-2.7)", -2.0),
        ("GAMLN(5)", math.log(24.0)),
        ("PHI(1.96)", 0.9750021048517795),
        ("LOG10(1000)", 3.0),
    ],
)
def test_precedence_constants_and_functions(text, wanted):
    assert float(Evaluator({}).value(parse_expression(text))) == pytest.approx(wanted, rel=1e-12)


def test_conditions_choose_and_what_is_not_chosen_keeps_its_value():
    lines = ("Y = 1", "IF (X.GT.0) THEN", " Y = LOG(X)", "ELSEIF (X == -1) THEN", " Y = 7", "ELSE",
             " IF (X.LT.-5) Y = X", "END IF")  # fmt: skip
    found = run(*lines, X=np.array([math.e, -1.0, -2.0, -6.0]))["Y"]
    np.testing.assert_allclose(found, [1.0, 7.0, 1.0, -6.0])


def test_derivatives_do_not_see_what_is_not_chosen():
    code = parse_code(record("IPRED = -3", "IF (F.GT.0) IPRED = LOG(F)/SQRT(F)")).statements

    def value(f):
        found = Evaluator({"F": f})
        found.run(code)
        return jnp.sum(found.values["IPRED"])

    slope = jax.grad(value)(jnp.array([0.0, 4.0]))
    exact = (1 / 4.0) / 2.0 - 0.5 * math.log(4.0) / 8.0
    np.testing.assert_allclose(slope, [0.0, exact], rtol=1e-12)


def test_an_element_with_a_computed_number():
    values = {"THETA(1)": 2.0, "THETA(2)": 3.0, "IND": np.array([2.0, 1.0])}
    found = Evaluator(values, lambda name, number: choose_element(name, number, values))
    np.testing.assert_array_equal(found.value(parse_expression("THETA(IND)")), [3.0, 2.0])


def test_names_are_replaced_as_wholes():
    assert replace_names("X = ETA(CL)+CL2", {"ETA(CL)": "ETA(3)"}) == "X = ETA(3) + CL2"
    assert reads(parse_expression("THETA(2)*EXP(ETA(1))+A(3)/V")) == {
        "THETA(2)",
        "ETA(1)",
        "A(3)",
        "V",
    }


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (('"  CALL RANDOM(R)',), "line 1, $PK: verbatim code"),
        (("CL = 1", "DO WHILE (X.GT.1)"), "line 2, $PK: loops"),
        (("CALL GETETA(ETA)",), "line 1, $PK: subroutine calls"),
        (("CL = ",), "ends too soon"),
        (("CL = (1+2",), "')' is missing"),
        (("CL = 3 $ 4",), "is not understood"),
        (("CL = 1E400",), "is too large a number"),
        (("IF (X.EQ.1) THEN", "CL = 2"), "no ENDIF"),
        (("ENDIF",), "ENDIF without an IF"),
        (("CL = 1.FOO.2",), "is not expected"),
        (("THETA(X) = 2",), "left side"),
        (("(SOMETIMES)",), "calling protocol"),
        (("CL = 1" + "+X" * 20_000,), "line 1, $PK: an expression has too many operators"),
        (("IF (X.EQ.1" + ".OR.X.EQ.2" * 400 + ") CL = 2",), "too many operators"),
    ],
)
def test_what_is_no_abbreviated_code_is_refused_by_line(lines, words):
    with pytest.raises(PkpdError, match=r"run\.mod") as error:
        parse_code(record(*lines))
    assert words in str(error.value)


def test_the_idiom_that_raises_the_number_of_calls_is_harmless():
    code = parse_code(
        record('"FIRST', '" COMMON /PRCOMG/ IDUM1,IDUM2,IMAX', '" IMAX=70000', "CL = 1")
    )
    assert len(code.statements) == 1
    assert "verbatim" in code.notes[0]
