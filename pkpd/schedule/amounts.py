"""Dose amounts, durations and protocol days as a clinician writes them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral

from pkpd.errors import PkpdError, UnitError

CELLS = "10^6/kg"
"""Unit of a graft: millions of cells for each kilogram of body weight."""
SIZE_OF = {"mg": "", "mg/m^2": "surface", "mg/kg": "weight", CELLS: "weight"}
"""Size of the body that a dose of each unit goes by."""
DOSE_UNITS = tuple(SIZE_OF)

LAST_DAY = 3660  # ten years: a longer protocol is a misprint

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*(.*?)\s*$", re.IGNORECASE)
_DASH = re.compile("[\u2010-\u2015\u2212]")  # dashes and minus signs that are no hyphen

# multiplier to mg, for the mass part of a dose unit
_MASS = {"mg": 1.0, "g": 1000.0, "ug": 1e-3, "mcg": 1e-3, "µg": 1e-3, "μg": 1e-3}
_SIZE = {"": "", "m^2": "/m^2", "m2": "/m^2", "m²": "/m^2", "kg": "/kg"}
_HOURS = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1.0 / 60.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
}
_PLAIN_UNITS = ("mg", "g", "ug", "mg/m^2", "g/m^2", "mg/kg", "ug/kg", "cells/kg")
_CELLS = {"cells/kg": 1e-6, CELLS: 1.0}


def parse_amount(text: str) -> tuple[float, str]:
    """Amount and unit of one dose from text such as ``"5 mg/m^2"``, ``"1 g/m2"`` or ``"25 mg"``.

    Parameters
    ----------
    text
        Number and unit. Grams and micrograms are converted to mg.

    Returns
    -------
    amount : float
        In the returned unit, positive and finite.
    unit : str
        ``"mg"``, ``"mg/m^2"``, ``"mg/kg"``, or ``"10^6/kg"`` for cells.

    Raises
    ------
    UnitError
        If there is no number, no unit, a misspelt unit, a unit of another dimension (such as mg/L),
        or the amount is not positive and finite.

    Examples
    --------
    >>> parse_amount("1 g/m2")
    (1000.0, 'mg/m^2')
    >>> parse_amount("5e6 cells/kg")
    (5.0, '10^6/kg')
    """
    number, unit = _split(text, "dose", ("mg", "mg/m^2"))
    plain = unit.replace(" ", "").replace("**", "^").replace("sqm", "m^2")
    mass, slash, size = plain.partition("/")
    if re.search(r"/(day|d|dose|week|wk)$", plain, re.IGNORECASE):
        raise UnitError(
            where=f'dose "{text}"',
            what=f'"{unit}" is a rate of dosing, not the amount of one dose',
            remedy="write the amount of one dose; the days say when it is given",
        )
    cells = plain.casefold() in _CELLS
    known = mass.casefold() in _MASS and size in _SIZE and bool(slash) == bool(size)
    if not (known or cells) or mass == "G":
        raise _unknown_unit(text, "dose", unit, _PLAIN_UNITS)
    if math.isnan(number) or math.isinf(number) or number <= 0.0:
        raise UnitError(
            where=f'dose "{text}"',
            what=f"the amount is {number:g}",
            allowed="a positive finite amount",
            remedy="leave a drug out by leaving out its dose",
        )
    if cells:
        return number * _CELLS[plain.casefold()], CELLS
    factor = _MASS[mass.casefold()]
    # divide for micrograms: 100 ug is then exactly 0.1 mg
    amount = number / 1000.0 if factor < 1.0 else number * factor
    return amount, "mg" + _SIZE[size]


def parse_hours(text: str | float) -> float:
    """Duration in hours from text such as ``"1 h"``, ``"30 min"`` or ``"1 day"``; 0 allowed.

    A bare number is refused, because it could be minutes or hours.

    Examples
    --------
    >>> parse_hours("30 min")
    0.5
    """
    if not isinstance(text, str) and text == 0:
        return 0.0
    number, unit = _split(text, "duration", ("h", "min"))
    if unit.casefold() not in _HOURS:
        raise _unknown_unit(str(text), "duration", unit, ("h", "min", "day"))
    if not math.isfinite(number) or number < 0.0:
        raise UnitError(
            where=f'duration "{text}"', what=f"it is {number:g}", allowed="0 or more, finite"
        )
    factor = _HOURS[unit.casefold()]
    return number / 60.0 if factor < 1.0 else number * factor


def parse_days(days: str | int | Iterable[int]) -> tuple[tuple[int, ...], int | None]:
    """Protocol days, and the cycle length if it is written.

    Parameters
    ----------
    days
        ``"1-5"``, ``"1,8,15,22"``, ``"1-21/28"`` (of a 28-day cycle), ``"1-36 every 7"`` (days 1,
        8, 15, 22, 29, 36), combinations with commas, one number, or a sequence of numbers. Days
        count from 1.

    Returns
    -------
    days : tuple of int
        Increasing.
    cycle_days : int or None
        The number after the slash.

    Raises
    ------
    PkpdError
        If a day is below 1, written twice, after the end of the cycle, or a range runs backwards.

    Examples
    --------
    >>> parse_days("1-3, 8/28")
    ((1, 2, 3, 8), 28)
    >>> parse_days("1-22 every 7")
    ((1, 8, 15, 22), None)
    """
    if not isinstance(days, str):
        if isinstance(days, (bytes, Mapping)) or not isinstance(days, (Integral, Iterable)):
            raise _bad_days(str(days), f"a {type(days).__name__} is no days of a protocol")
        numbers = [days] if isinstance(days, Integral) else list(days)
        shown, cycle = ", ".join(map(str, numbers)), None
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, Integral):
                raise _bad_days(shown, f"{number!r} is not a whole day")
        numbers = [int(number) for number in numbers]
    else:
        shown = days
        if dash := _DASH.search(days):
            hyphened = _DASH.sub("-", days)
            raise _bad_days(shown, f"its dash {dash[0]!r} is no hyphen", f'write "{hyphened}"')
        body, slash, length = days.partition("/")
        cycle = _day_number(length, shown, "cycle length") if slash else None
        numbers = [day for part in body.split(",") for day in _day_range(part, shown)]
    if not numbers:
        raise _bad_days(shown, "no day is given")
    seen: set[int] = set()
    for number in numbers:
        if number < 1:
            raise _bad_days(shown, f"day {number} does not exist, the first day is day 1")
        if number in seen:
            raise _bad_days(shown, f"day {number} is written twice")
        seen.add(number)
    if cycle is not None and cycle < max(numbers):
        raise _bad_days(shown, f"day {max(numbers)} is after the end of the {cycle}-day cycle")
    return tuple(sorted(numbers)), cycle


def show_days(days: Iterable[int]) -> str:
    """Days in the shortest form a protocol would use: ``1-5``, ``1, 8, 15, 22``, ``1-3, 8-10``."""
    parts: list[list[int]] = []
    for day in sorted(days):
        if parts and day == parts[-1][-1] + 1:
            parts[-1].append(day)
        else:
            parts.append([day])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


def show_amount(amount: float, unit: str) -> str:
    """Amount with its unit: ``5 mg/m^2``."""
    return f"{amount:.10g} {unit}"


def show_hours(hours: float) -> str:
    """Duration: ``30 min`` below one hour, else ``1.5 h``."""
    return f"{hours * 60:.6g} min" if 0.0 < hours < 1.0 else f"{hours:.6g} h"


def _split(text: str | float, noun: str, units: tuple[str, str]) -> tuple[float, str]:
    match = _QUANTITY.match(str(text))
    if not match or not match.group(2):
        such = [f'"{match.group(1) if match else 5} {unit}"' for unit in units]
        raise UnitError(
            where=f'{noun} "{text}"' if isinstance(text, str) else f"{noun} {text}",
            what="it has no unit" if match else "it does not begin with a number",
            remedy=f"write it with its unit, such as {' or '.join(such)}",
        )
    if match.group(2).startswith(","):
        raise UnitError(
            where=f'{noun} "{text}"',
            what="a comma in a number can mean a thousand or a fraction",
            remedy="write 1000 without it, and 2.5 with a point",
        )
    return float(match.group(1)), match.group(2)


def _unknown_unit(text: str, noun: str, unit: str, allowed: tuple[str, ...]) -> UnitError:
    per_volume = re.fullmatch(r"[a-zµμ]+/(m|d|u)?l", unit.replace(" ", ""), re.IGNORECASE)
    molar = re.fullmatch(r"[munµμ]?mol(/.*)?|[munµμ]M", unit)
    if noun == "dose" and (per_volume or molar):
        what = f'"{unit}" is a {"concentration" if per_volume else "molar"} unit, not a dose unit'
        hint = ""
    elif noun == "dose" and unit.casefold() in _HOURS:
        what, hint = f'"{unit}" is a unit of time, not of dose', ""
    elif noun == "duration" and unit.casefold().partition("/")[0] in _MASS:
        what, hint = f'"{unit}" is a unit of dose, not of time', ""
    else:
        what = f'unknown unit "{unit}"'
        near = difflib.get_close_matches(unit.casefold(), allowed, n=1, cutoff=0.4)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UnitError(where=f'{noun} "{text}"', what=what + hint, allowed=", ".join(allowed))


def _day_range(part: str, shown: str) -> range | list[int]:
    words = re.fullmatch(r"\s*([^-\s]+)\s*-\s*([^-\s]+)\s*(?:every\s+(\S+)\s*)?", part)
    if not words:
        return [_day_number(part, shown, "day")]
    first, last = (_day_number(words.group(n), shown, "day") for n in (1, 2))
    step = _day_number(words.group(3), shown, "step") if words.group(3) else 1
    if step < 1:
        raise _bad_days(shown, f"a step of {step} days")
    if last < first:
        raise _bad_days(shown, f"the range {first}-{last} runs backwards")
    return range(first, last + 1, step)


def _day_number(text: str, shown: str, noun: str) -> int:
    try:
        number = int(text.strip())
    except ValueError:
        raise _bad_days(shown, f"{text.strip()!r} is not a {noun}") from None
    if number > LAST_DAY:
        raise _bad_days(shown, f"{noun} {number} is more than ten years away")
    return number


def _bad_days(shown: str, what: str, remedy: str | None = None) -> PkpdError:
    return PkpdError(
        where=f'days "{shown}"',
        what=what,
        remedy=remedy,
        allowed='"1-5", "1,8,15,22", "1-21/28" or "1-36 every 7", from day 1',
    )
