"""Quantities with units: reading, checking and converting them, and the ``Parameter`` record.

Everything inside the package is a plain float in one fixed set of units (hours, mg, L, mg/L,
10^9 cells/L, ...).  Units are handled at the doors only: cards, data files and strings given by
the user.  ``pint`` knows the conversion factors and is imported on first use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from tokenize import TokenError
from typing import Any

from pkpd.errors import UnitError, sentence

#: Dimension name -> the unit used inside the package.
INTERNAL_UNITS: dict[str, str] = {
    "fraction": "1",
    "time": "h",
    "rate": "1/h",
    "mass": "mg",
    "amount": "umol",
    "dose per area": "mg/m^2",
    "dose per weight": "mg/kg",
    "mass rate": "mg/h",
    "volume": "L",
    "volume per area": "L/m^2",
    "clearance": "L/h",
    "clearance per area": "L/h/m^2",
    "concentration": "mg/L",
    "molar concentration": "umol/L",
    "auc": "mg*h/L",
    "molar auc": "umol*h/L",
    "effect per concentration": "L/mg",
    "effect per molar concentration": "L/umol",
    "clearance per creatinine": "L/h/(umol/L)",
    "clearance per creatinine clearance": "L/h/(mL/min)",
    "count": "10^9/L",
    "rate per count": "1/h/(10^9/L)",
    "molar mass": "g/mol",
    "weight": "kg",
    "height": "cm",
    "area": "m^2",
    "body mass index": "kg/m^2",
    "age": "year",
    "creatinine clearance": "mL/min",
    "creatinine": "mg/dL",
    "percent": "%",
}

_MOLAR_TWINS = {
    "concentration": "molar concentration",
    "molar concentration": "concentration",
    "auc": "molar auc",
    "molar auc": "auc",
    "mass": "amount",
    "amount": "mass",
    "effect per concentration": "effect per molar concentration",
    "effect per molar concentration": "effect per concentration",
}

_SPELLED_SO = (
    "pg ng ug mg g kg mol mmol umol nmol pmol L dL mL uL m dm cm mm h min s day week month year %"
)
_SPELLED_OTHERWISE = (
    "l=L dl=dL ml=mL ul=uL mcL=uL mcg=ug d=day days=day weeks=week wk=week hr=h hrs=h hour=h "
    "hours=h minute=min minutes=min second=s seconds=s years=year yr=year months=month M=mol/L "
    "mM=mmol/L uM=umol/L nM=nmol/L cells=1 cell=1 G=10^9 Giga=10^9 giga=10^9 Gpt=10^9 GI=10^9 "
    "K=10^3 Thousand=10^3 thousand=10^3 thou=10^3 cumm=mm^3"
)
_ATOMS: dict[str, str] = {
    **{atom: atom for atom in _SPELLED_SO.split()},
    **{pair.split("=")[0]: pair.split("=")[1] for pair in _SPELLED_OTHERWISE.split()},
}

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*(.*?)\s*$")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|%|[A-Za-z]+|[*/^()]|\S")
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
# a power of ten, as UCUM (10*9), laboratories (10E9) and texts that lost their superscripts have it
_TEN = re.compile(r"(?<![\d.])10(?:\*|[eE]\+?|(?=(?:3|6|9|12)/))(-?\d{1,2})(?![\d.])")


@dataclass(frozen=True)
class Parameter:
    """A number with its unit, its interval and where it comes from.

    Attributes
    ----------
    name
        Namespaced name, for example ``"clofarabine.CL_renal"``.
    value
        The central value (a median for every prior), in ``unit``.
    unit
        Unit of the value: the internal unit of its dimension.
    interval
        Lower and upper limit, or None for a number that is taken as known.
    interval_prob
        Probability inside the interval.
    distribution
        Scale on which the prior is two-sided normal: ``"lognormal"``, ``"normal"``, ``"logit"``;
        ``"fixed"`` for no spread.
    source, status, note
        Where the number stands, how it was obtained (``read``, ``transcribed``, ``derived`` or
        ``assumed``), and what to know about it.
    prior_group
        Parameters with the same group move together in prior draws.
    learned
        Whether published outcomes are asked for it (`pkpd.evidence`).
    """

    name: str
    value: float
    unit: str
    interval: tuple[float, float] | None = None
    interval_prob: float = 0.95
    distribution: str = "fixed"
    source: str = ""
    status: str = "assumed"
    note: str = ""
    prior_group: str = ""
    learned: bool = False


def parse_quantity(text: str) -> tuple[float, str]:
    """Split ``"24.0 L/h"`` into its value and its unit.

    Parameters
    ----------
    text
        A number, then a unit; no unit means a plain number.

    Returns
    -------
    tuple
        The value and the unit in the package's spelling (``"mg/m^2"``, ``"10^9/L"``).

    Raises
    ------
    UnitError
        If there is no number in front, or the unit is not known.
    """
    match = _QUANTITY.match(text)
    if match is None or re.match(r"^,\s*\d", match.group(2)):
        raise UnitError(
            where=f"quantity '{text}'",
            what="does not start with a number in the form 1234.5",
            remedy="write for example '24.0 L/h'",
        )
    return float(match.group(1)), normal_unit(match.group(2))


def normal_unit(unit: str) -> str:
    """Spell a unit in the package's way.

    Parameters
    ----------
    unit
        For example ``"mg/m2"``, ``"G/L"``, ``"/uL"``, ``"uM"`` or ``"/day"``; a power of ten also
        as ``"10*9"`` (UCUM, where 10* is the base), ``"10E9"`` or ``"10 9"``.

    Returns
    -------
    str
        The unit with ``*``, ``/`` and ``^``: ``"mg/m^2"``, ``"10^9/L"``, ``"1/uL"``, ``"umol/L"``,
        ``"1/day"``; ``"1"`` for no unit.

    Raises
    ------
    UnitError
        If a part of it is not a unit this package knows; the nearest one is named.
    """
    text = _RAISED.sub(lambda m: "^" + m.group().translate(_SUPERSCRIPT), unit.strip())
    text = text.replace("µ", "u").replace("μ", "u").replace("**", "^")
    text = text.replace("·", "*").replace("⋅", "*").replace(" per ", "/")
    text = re.sub(r"^per\s+", "/", text)
    text = re.sub(r"^[x×*]\s*(?=10)", "", text)  # noqa: RUF001 (a sign users paste)
    if text in ("", "1", "-", "dimensionless"):
        return "1"
    if text.startswith("/"):
        text = "1" + text
    text = re.sub(r"\b([cdm]?m)([23])\b", r"\1^\2", text)
    text = re.sub(r"\s*([*/^])\s*", r"\1", text)
    text = re.sub(r"\s+", "*", text)
    text = _TEN.sub(r"10^\1", text)
    parts = []
    for token in _TOKEN.findall(text):
        if token[0].isdigit() or token in "*/^()-":
            parts.append(token)
        elif token in _ATOMS:
            parts.append(_ATOMS[token])
        else:
            raise UnitError(_unknown(unit, token))
    joined = "".join(parts)
    # a compound atom (uM) after a slash would change the meaning: uM is written umol/L
    joined = re.sub(r"/(\w*mol)/L", r"/(\1/L)", joined)
    joined = joined.replace("10^3/uL", "10^9/L").replace("10^6/mL", "10^9/L")
    if joined.startswith("1/mm^3"):
        joined = joined.replace("mm^3", "uL", 1)
    return joined


def _unknown(unit: str, token: str) -> str:
    known = [*_ATOMS, *INTERNAL_UNITS.values()]
    same_letters = [name for name in known if name.lower() == token.lower()]
    near = same_letters or difflib.get_close_matches(token, known, n=1, cutoff=0.6)
    guess = f" (did you mean '{near[0]}'?)" if near else ""
    return sentence(
        where=f"unit '{unit}'",
        what=f"'{token}' is not a unit known here{guess}",
        remedy="see INTERNAL_UNITS for examples",
    )


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(cache_folder=None)


_LONGEST = 80
_POWER = re.compile(r"\*\*|\^")
_PLAIN_POWER = re.compile(r"(\*\*|\^)\s*\(?[-+]?\d{1,2}(\.\d+)?\)?(?![\d.]|\s*(\*\*|\^))")
_NO_UNIT = (
    *(ArithmeticError, AssertionError, TypeError, ValueError, AttributeError, SyntaxError),
    *(RecursionError, TokenError),
)


@lru_cache(maxsize=1024)
def unit_factor(unit: str, dimension: str) -> float:
    """Give the factor from a unit to the internal unit of a dimension.

    Raises
    ------
    UnitError
        If the unit is unknown, the dimension is unknown, or the two do not agree.
    """
    if dimension not in INTERNAL_UNITS:
        near = difflib.get_close_matches(dimension, INTERNAL_UNITS, n=1)
        raise UnitError(
            where=f"dimension '{dimension}'",
            what="is not known",
            allowed=", ".join(INTERNAL_UNITS),
            remedy=f"did you mean '{near[0]}'" if near else None,
        )
    internal = INTERNAL_UNITS[dimension]
    unit = normal_unit(unit)
    if unit == internal:
        return 1.0
    registry = _registry()
    try:
        if len(unit) > _LONGEST or _POWER.search(_PLAIN_POWER.sub("", unit)):
            raise ValueError(unit)  # 9**9**9 takes forever
        given = registry.parse_expression(unit.replace("%", "percent"))
        wanted = registry.parse_expression(internal.replace("%", "percent"))
        ratio = given / wanted
        if not isinstance(ratio, (int, float)):
            ratio = ratio.to_base_units().magnitude if ratio.check("[]") else None
    except _NO_UNIT:
        ratio = None  # powers of units that nothing has
    if ratio is None:
        raise UnitError(
            where=f"unit '{unit}'",
            what=f"is not a unit of {dimension}",
            allowed=f"units of the kind '{internal}'",
        )
    return float(ratio)


def factor_between(times: Sequence[str], divided_by: Sequence[str], unit: str) -> float | None:
    """Give the factor from a product of units to another unit.

    Parameters
    ----------
    times, divided_by
        Units that are multiplied, and that the product is divided by.
    unit
        The other unit.

    Returns
    -------
    float or None
        ``None`` where the two do not agree.

    Examples
    --------
    >>> factor_between(["L/h/m^2", "m^2"], [], "L/h"), factor_between(["L/kg"], [], "L")
    (1.0, None)
    """
    registry = _registry()
    given: Any = 1.0
    for one in times:
        given = given * registry.parse_expression(normal_unit(one))
    for one in divided_by:
        given = given / registry.parse_expression(normal_unit(one))
    ratio = given / registry.parse_expression(normal_unit(unit))
    if isinstance(ratio, (int, float)):
        return float(ratio)
    return float(ratio.to_base_units().magnitude) if ratio.check("[]") else None


def dimension_of(unit: str) -> str:
    """Name the dimension of a unit.

    Returns
    -------
    str
        The first dimension of ``INTERNAL_UNITS`` with exactly this unit, else the first one that
        the unit can be converted to, dimensions of counts first for a unit with ``10^9``.

    Raises
    ------
    UnitError
        If the unit fits no dimension used here.
    """
    unit = normal_unit(unit)
    for dimension, internal in INTERNAL_UNITS.items():
        if unit == internal:
            return dimension
    # numbers of cells have no dimension: a rate per count would pass for a clearance
    counts_first = sorted(
        INTERNAL_UNITS, key=lambda d: "10^9" in unit and "10^9" not in INTERNAL_UNITS[d]
    )
    for dimension in counts_first:
        try:
            unit_factor(unit, dimension)
        except UnitError:
            continue
        return dimension
    raise UnitError(
        where=f"unit '{unit}'",
        what="has a dimension that is not used here",
        allowed=", ".join(INTERNAL_UNITS.values()),
    )


def to_internal(value: Any, unit: str, dimension: str, *, molar_mass: float | None = None) -> Any:
    """Convert a value to the internal unit of a dimension.

    Parameters
    ----------
    value
        A number or an array.
    unit
        Its unit.
    dimension
        A key of ``INTERNAL_UNITS``.
    molar_mass
        In g/mol; allows a molar unit where mass is asked for, and the reverse.

    Raises
    ------
    UnitError
        For an unknown unit or the wrong dimension.
    """
    try:
        return value * unit_factor(unit, dimension)
    except UnitError:
        twin = _MOLAR_TWINS.get(dimension)
        if molar_mass is None or twin is None:
            raise
        twin_value = value * unit_factor(unit, twin)
    # mg = umol * (g/mol) / 1000; a slope per concentration converts the other way round
    factor = molar_mass / 1000.0
    per = dimension.startswith("effect per")
    molar_wanted = dimension in ("amount", "molar concentration", "molar auc")
    if per:
        molar_wanted = dimension == "effect per concentration"
    return twin_value / factor if molar_wanted else twin_value * factor
