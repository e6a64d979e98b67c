"""``$ESTIMATION``: which objective NONMEM minimises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pkpd.nonmem.records import Record

_EXACT = {"IMP": "importance sampling", "IMPMAP": "importance sampling", "SAEM": "SAEM"}
_EXACT |= {"ITS": "iterative two stage", "BAYES": "a Bayesian method", "NUTS": "a Bayesian method"}
_EXACT |= {"DIRECT": "direct sampling", "CHAIN": "starting values"}


@dataclass(frozen=True)
class Step:
    """An estimation step.

    Attributes
    ----------
    method
        ``"fo"``, ``"foce"``, ``"focei"``, ``"laplace"``, ``"laplace-nointer"``; or ``""`` for one
        that pkpd does not have.
    words
        What it is in words.
    likelihood
        ``F_FLAG`` that the step sets for all records: 1 with LIKELIHOOD, 2 with -2LL.
    interaction
        Whether INTERACTION was asked for.
    evaluation
        Whether nothing was estimated.
    digits
        Significant digits of estimates and of individual modes.
    line
        Number of its line.
    """

    method: str
    words: str
    likelihood: int = 0
    interaction: bool = False
    evaluation: bool = False
    digits: int = 3
    line: int = 0


def _option(text: str, name: str, least: int) -> str | None:
    """Value of an option that may be shortened; empty if it has none, None if it is not there."""
    for found in re.finditer(r"([A-Za-z\-][A-Za-z0-9_]*)\s*(?:=\s*([^\s,]+))?", text):
        word = found.group(1).upper()
        if len(word) >= least and name.startswith(word):
            return (found.group(2) or "").upper()
    return None


def read_steps(records: Sequence[Record]) -> tuple[Step, ...]:
    """Read the estimation steps; what a step leaves out it has from the one before.

    Examples
    --------
    >>> from pkpd.nonmem.records import Line
    >>> record = Record("ESTIMATION", (Line(1, "METH=1 INTER MAXEVAL=0"),), "run.mod")
    >>> read_steps([record])[0].method
    'focei'
    """
    out: list[Step] = []
    method, inter, laplace, likelihood = "0", False, False, 0
    for record in records:
        text = record.text.replace("-2LOGLIKELIHOOD", " TWOLL ").replace("-2LLIKELIHOOD", " TWOLL ")
        text = re.sub(r"-2LL\b", " TWOLL ", text, flags=re.IGNORECASE)
        given = _option(text, "METHOD", 4)
        method = given if given else method
        if _option(text, "INTERACTION", 4) is not None:
            inter = True
        if _option(text, "NOINTERACTION", 5) is not None:
            inter = False
        if any(_option(text, word, 4) is not None for word in ("LAPLACIAN", "LAPLACE")):
            laplace = True
        if any(_option(text, word, 5) is not None for word in ("NOLAPLACIAN", "NOLAPLACE")):
            laplace = False
        if _option(text, "LIKELIHOOD", 4) is not None:
            likelihood = 1
        if "TWOLL" in text:
            likelihood = 2
        if _option(text, "CENTERING", 4) is not None:
            record.refuse("CENTERING changes the objective", remedy="leave it out")
        evaluation = _option(text, "MAXEVALUATIONS", 4) == "0" or _option(text, "EONLY", 4) == "1"
        asked = _option(text, "SIGDIGITS", 3) or _option(text, "NSIGDIGITS", 4) or ""
        digits = int(asked) if asked.isdecimal() and len(asked) < 4 else 3
        name, words = _method(method, inter, laplace)
        out.append(Step(name, words, likelihood, inter, evaluation, digits, record.lines[0].number))
    return tuple(out)


def _method(method: str, inter: bool, laplace: bool) -> tuple[str, str]:
    short = method.strip("'\"")
    for name, words in _EXACT.items():
        if short == name or (len(short) >= 3 and name.startswith(short)):
            return "", words
    if short in ("0", "ZERO"):
        return ("", "FO with interaction") if inter else ("fo", "FO")
    if short in ("1",) or "CONDITIONAL".startswith(short):
        if laplace:
            return (
                ("laplace", "LAPLACIAN INTERACTION") if inter else ("laplace-nointer", "LAPLACIAN")
            )
        return ("focei", "FOCE INTERACTION") if inter else ("foce", "FOCE")
    if short == "HYBRID":
        return "", "HYBRID"
    return "", f"METHOD={method}"
