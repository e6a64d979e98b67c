"""Options of ``$ESTIMATION`` and ``$SUBROUTINES``: all that NM-TRAN knows, and no other word.

Of most options nothing is read but the name: they say how NONMEM searches. They are listed so that
a word which is none of them, a slip, is refused instead of left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pkpd.arguments import nearest_of
from pkpd.nonmem.records import Record

_FIRST_WORDS = """
METHOD INTERACTION NOINTERACTION LAPLACIAN LAPLACE NOLAPLACIAN NOLAPLACE POSTHOC NOPOSTHOC
MAXEVALS MAXEVALUATIONS SIGDIGITS NSIGDIGITS PRINT PREDICTION LIKELIHOOD -2LOGLIKELIHOOD
-2LLIKELIHOOD NUMERICAL NONUMERICAL SLOW NOSLOW FAST ABORT NOABORT NOHABORT MSFO FILE CENTERING
NOCENTERING FO NOFO REPEAT NOREPEAT REPEAT1 NOREPEAT1 REPEAT2 NOREPEAT2 STIELTJES GRID ZERO
SORT NOSORT ETABARCHECK NOETABARCHECK OMITTED ORDER THETABOUNDTEST NOTHETABOUNDTEST
OMEGABOUNDTEST NOOMEGABOUNDTEST SIGMABOUNDTEST NOSIGMABOUNDTEST SIGL SIGLO
"""
CLASSICAL = tuple(_FIRST_WORDS.split())
"""Options that versions up to VI have, and digits; an abbreviation is one of these first."""
_LATER_WORDS = """
ATOL AUTO BAYES_PHI_STORE BIONLY BOOTDATA CALPHA CINTERVAL CITER CLOCKSEED CNSAMP CONSTRAIN CTYPE
DELIM DERCONT DF DFS EHESSIAN EONLY ETADER ETASAMPLES ETASTYPE EVALSHRINK FNLETA FORMAT FPARAFILE
GRD GRDQ IACCEPT IACCEPTL IKAPPA ISAMPEND ISAMPLE ISAMPLE_M1 ISAMPLE_M1A ISAMPLE_M1B ISAMPLE_M2
ISAMPLE_M3 ISCALE_MAX ISCALE_MIN KAPPA KNUTHSUMOFF LEVCENTER LEVOBJTYPE LEVWT LNTWOPI MADAPT MAPCOV
MAPINTER MAPINTERS MAPITER MAPITERS MASSRESET MASSREST MCETA MUM NBURN NITER NOCOV NOLABEL
NONINFETA NOPRIOR NOSUB NOTITLE NSAMPLE NUMDER NUTS_BASE NUTS_DELTA NUTS_EPARAM NUTS_GAMMA
NUTS_INIT NUTS_MASS NUTS_MAXDEPTH NUTS_OPARAM NUTS_REG NUTS_SPARAM NUTS_STEPINTER NUTS_STEPITER
NUTS_TERM NUTS_TEST NUTS_TRANSFORM OACCEPT OLKJDF OLNTWOPI OPTMAP OSAMPLE_M1 OSAMPLE_M2 OSAMPLE_M3
OSCALE_MAX OSCALE_MIN OVARF PACCEPT PARAFILE PARAFPRINT PHITYPE PREDFIX PRIORC PSAMPLE_M1
PSAMPLE_M2 PSAMPLE_M3 PSCALE_MAX PSCALE_MIN RANMETHOD SADDLE_HESS SADDLE_RESET SEED SELECT SLKJDF
STDOBJ SVARF TBLN THIN TPU TTDF WISHTYPE
"""
_LATER = tuple(_LATER_WORDS.split())
ESTIMATION = (*CLASSICAL, *_LATER)
"""Options of ``$ESTIMATION`` of NONMEM VI to 7.6."""
_ROUTINE_WORDS = """
OTHER CONTR CCONTR INFN CRIT PRIOR MIX USMETA SPTWO LIBRARY PK ERROR MODEL DES AES PRED USEG
"""
OWN_ROUTINES = tuple(_ROUTINE_WORDS.split())
"""Options of ``$SUBROUTINES`` that name a routine of the user's own."""
NUMBERED = ("ADVAN", "TRANS", "SS", "TOL", "ATOL", "SSTOL", "SSATOL")
"""Options of ``$SUBROUTINES`` whose number may follow without an equals sign."""
SUBROUTINES = (*NUMBERED, "SUBROUTINES", *OWN_ROUTINES)
"""Options of ``$SUBROUTINES``; the one of that name is the precision of NONMEM's routines."""

_SPACE = re.compile(r"[\s,]+")
_NAME = re.compile(r"-?\w+")
_VALUE = re.compile(
    r"""(?:"[^"]*"|'[^']*'|[^\s,("']+(?:\([^)]*\)[^\s,("']*)*|(?:\([^)]*\)[^\s,("']*)+)"""
)
_FORMATS = ("FORMAT", "DELIM")


@dataclass(frozen=True)
class Option:
    """An option: its full name, its value in capitals (None without one), and its line."""

    name: str
    value: str | None
    line: int


def full_name(word: str, known: Sequence[str]) -> str:
    """Full name of an option, which three letters and more begin; empty if none is known.

    Examples
    --------
    >>> full_name("METH", ESTIMATION), full_name("DF", ESTIMATION), full_name("INTERR", ESTIMATION)
    ('METHOD', 'DF', '')
    """
    if word in known:
        return word
    if len(word) < 3:
        return ""
    return next((name for name in known if name.startswith(word)), "")


def _nearest(word: str, known: Sequence[str]) -> str:
    return nearest_of(word, [n for n in CLASSICAL if n in known], 0.55) or nearest_of(word, known)


def read_options(record: Record, known: Sequence[str]) -> Iterator[Option]:
    """Read the options of a record one by one.

    Parameters
    ----------
    record
        The record.
    known
        Full names of its options.

    Raises
    ------
    PkpdError
        For a word that is no option; the message names the line, the word and the nearest option.

    Examples
    --------
    >>> from pkpd.nonmem.records import Line
    >>> record = Record("ESTIMATION", (Line(1, "METH=1 MAX = 9 GRID=(3,1)"), Line(2, "LAP")), "a")
    >>> [(o.name, o.value, o.line) for o in read_options(record, ESTIMATION)][1:]
    [('MAXEVALS', '9', 1), ('GRID', '(3,1)', 1), ('LAPLACIAN', None, 2)]
    """
    text = record.text.upper()
    ends, at = [], 0
    for line in record.lines:
        at += len(line.text) + 1
        ends.append(at)
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at >= len(text):
            return
        line = next(one for one, end in zip(record.lines, ends, strict=True) if at < end)
        found = _NAME.match(text, at)
        if not found:
            record.refuse(f"{text[at:].split()[0]!r} is not understood", line)
        word, at = found.group(), found.end()
        name, value = full_name(word, known), None
        equals = re.compile(r"\s*=\s*").match(text, at)
        if equals:
            at = equals.end()
            given = re.compile(r"\S+").match(text, at) if name in _FORMATS else None
            given = given or _VALUE.match(text, at)
            if not given:
                record.refuse(f"{word}= has no value", line)
            value, at = given.group(), given.end()
        elif record.name == "SUBROUTINES":
            name, value, at = _numbered(word, name, text, at)
        if not name:
            number = re.fullmatch(r"-?\d+", word)
            record.refuse(
                f"{word} is no option" + ("" if number else _nearest(word, known)),
                line,
                remedy="write a value after its option and an equals sign" if number else None,
            )
        yield Option(name, value, line.number)


def _numbered(word: str, name: str, text: str, at: int) -> tuple[str, str | None, int]:
    """Read ``ADVAN4`` or ``ADVAN 4``: name (empty if it is none), number, and where it ends."""
    found = re.fullmatch(r"([A-Z]+?)(\d{1,9})", word)
    if found and found.group(1) in NUMBERED:
        return found.group(1), found.group(2), at
    after = re.compile(r"\s+(\d{1,9})\b").match(text, at)
    if name in NUMBERED and after:
        return name, after.group(1), after.end()
    return name, None, at
