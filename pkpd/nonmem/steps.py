"""``$ESTIMATION``: which objective NONMEM minimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkpd.nonmem.options import ESTIMATION, Option, read_options
from pkpd.nonmem.records import Record

_EXACT = {"IMP": "importance sampling", "IMPMAP": "importance sampling", "SAEM": "SAEM"}
_EXACT |= {"ITS": "iterative two stage", "BAYES": "a Bayesian method", "NUTS": "a Bayesian method"}
_EXACT |= {"DIRECT": "direct sampling", "CHAIN": "starting values"}
_KINDS = ("0", "ZERO", "1", "CONDITIONAL", "HYBRID")
_INTERACTION = {"INTERACTION": True, "NOINTERACTION": False}
_LAPLACIAN = {"LAPLACIAN": True, "LAPLACE": True, "NOLAPLACIAN": False, "NOLAPLACE": False}
_LIKELIHOOD = {"PREDICTION": 0, "LIKELIHOOD": 1, "-2LOGLIKELIHOOD": 2, "-2LLIKELIHOOD": 2}
_CENTRED = ("CENTERING", "FO")


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


def read_steps(records: Sequence[Record]) -> tuple[Step, ...]:
    """Read the estimation steps; what a step leaves out it has from the one before.

    Raises
    ------
    PkpdError
        For a word that is no option of NONMEM, a METHOD it does not have, or an option that
        changes the objective.

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
        options = list(read_options(record, ESTIMATION))
        given = {option.name: option.value for option in options}
        for option in options:
            name = option.name
            if name == "METHOD":
                method = _kind(record, option)
            elif name in _INTERACTION:
                inter = _INTERACTION[name]
            elif name in _LAPLACIAN:
                laplace = _LAPLACIAN[name]
            elif name in _LIKELIHOOD:
                likelihood = _LIKELIHOOD[name]
            elif name in _CENTRED:
                record.refuse(f"{name} changes the objective", option.line, remedy="leave it out")
        limit = given.get("MAXEVALS") or given.get("MAXEVALUATIONS")
        evaluation = limit == "0" or given.get("EONLY") == "1"
        asked = given.get("SIGDIGITS") or given.get("NSIGDIGITS") or ""
        digits = int(asked) if asked.isdecimal() and len(asked) < 4 else 3
        name, words = _method(method, inter, laplace)
        if "STIELTJES" in given:
            name, words = "", "STIELTJES"
        out.append(Step(name, words, likelihood, inter, evaluation, digits, record.lines[0].number))
    return tuple(out)


def _kind(record: Record, option: Option) -> str:
    """Kind of ``METHOD=kind`` in full, or as it is written where it is a number."""
    kind = (option.value or "").strip("'\"")
    for name in (*_EXACT, *_KINDS):
        if kind == name or (len(kind) >= 3 and name.startswith(kind)):
            return name
    shown = f"METHOD={kind}" if kind else "METHOD without a kind"
    return record.refuse(shown, option.line, allowed=", ".join((*_KINDS, *_EXACT)))


def _method(method: str, inter: bool, laplace: bool) -> tuple[str, str]:
    if method in _EXACT:
        return "", _EXACT[method]
    if method == "HYBRID":
        return "", "HYBRID"
    if method in ("0", "ZERO"):
        return ("", "FO with interaction") if inter else ("fo", "FO")
    if laplace:
        return ("laplace", "LAPLACIAN INTERACTION") if inter else ("laplace-nointer", "LAPLACIAN")
    return ("focei", "FOCE INTERACTION") if inter else ("foce", "FOCE")
