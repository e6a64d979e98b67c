"""Schedules of trial arms as one line of text.

``clofarabine:40 mg/m2:IV1h:1-5;cytarabine:20 mg bid:SC:1-10`` reads drug, amount of one dose,
route (with the hours of an infusion) and protocol days, first day 1; ``30 mg flat`` says that a
drug usually given by m2 was not. ``;`` or ``+`` joins drugs.
``5|10|20 mg/m2`` says that patients of one row had different doses (dose finding), in equal shares;
``1x3|2x3|4x6|3x18 mg`` gives the patients of each level, the
same for all drugs. ``none`` is no drug.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from pkpd.cards.drug_cards import drug_names
from pkpd.errors import DataError, PkpdError
from pkpd.schedule import parse_days

_MASS_MG = {"mg": 1.0, "g": 1000.0, "ug": 1e-3, "mcg": 1e-3, "units": 1.0}
_SIZES = {"": "", "m2": "/m2", "m^2": "/m2", "kg": "/kg"}
_ROUTE = re.compile(r"^(IV|SC|PO|CI)(?:(\d+(?:\.\d+)?)(h|min))?$")
_TIMES_A_DAY = {"": 1, "bid": 2, "q12h": 2, "tid": 3, "q8h": 3}
_AMOUNT = re.compile(
    r"^(?P<numbers>[\d.eEx|+]+)\s*(?P<mass>mg|g|ug|mcg|units)(?:/(?P<size>m2|m\^2|kg))?"
    r"(?P<flat>\s+flat)?(?:\s+(?P<times>bid|q12h|tid|q8h))?$"
)
FORM = '"drug:amount:route:days", such as "clofarabine:40 mg/m2:IV1h:1-5", joined by ";"'


@dataclass(frozen=True)
class DrugDoses:
    """What one drug of an arm is given.

    Attributes
    ----------
    drug
        Name of its card, by whichever name it was written; without a card as written, in lower
        case, with underscores for spaces and hyphens.
    levels
        Amount of one dose, of each dose level of the patients in the row.
    shares
        Share of the patients at each level; sums to 1.
    unit
        ``mg``, ``mg/m2``, ``mg/kg``, or ``units`` of a product counted so.
    times_a_day
        Doses a day, each of that amount.
    route
        ``IV``, ``SC``, ``PO`` or ``CI`` (continuous infusion over the day).
    hours
        Length of an infusion (h); 0 if not written.
    days
        Protocol days, the first day of the schedule being 1.
    flat
        Whether the text says that the amount is the same for patients of every size.
    """

    drug: str
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    unit: str
    times_a_day: int
    route: str
    hours: float
    days: tuple[int, ...]
    flat: bool = False

    @property
    def amount(self) -> float:
        """Amount of one dose, averaged over the patients."""
        return math.fsum(a * s for a, s in zip(self.levels, self.shares, strict=True))


@dataclass(frozen=True)
class Schedule:
    """Drugs of an arm, in the order of its text.

    Attributes
    ----------
    text
        As written in the table.
    drugs
        One entry for each drug and block of days.
    """

    text: str
    drugs: tuple[DrugDoses, ...]

    @property
    def names(self) -> frozenset[str]:
        """Names of the drugs."""
        return frozenset(entry.drug for entry in self.drugs)

    @property
    def last_day(self) -> int:
        """Last day with a dose; 0 without drugs."""
        return max((entry.days[-1] for entry in self.drugs), default=0)

    def at_levels(self) -> tuple[tuple[float, Schedule], ...]:
        """Split a dose-finding row into schedules of one dose level each.

        Returns
        -------
        tuple of (share of the patients, Schedule)
            Drugs with several levels are stepped up together; they have equally many.
        """
        many = max((len(entry.levels) for entry in self.drugs), default=1)
        if many == 1:
            return ((1.0, self),)
        shares = next(entry.shares for entry in self.drugs if len(entry.levels) == many)
        parts = []
        for index, share in enumerate(shares):
            drugs = tuple(
                entry
                if len(entry.levels) == 1
                else replace(entry, levels=(entry.levels[index],), shares=(1.0,))
                for entry in self.drugs
            )
            parts.append((share, Schedule(f"{self.text} level {index + 1}", drugs)))
        return tuple(parts)


def parse_schedule(text: str) -> Schedule:
    """Read a schedule.

    Parameters
    ----------
    text
        See the module.

    Raises
    ------
    DataError
        Naming the part that cannot be read and the form that can.
    """
    plain = text.strip()
    if plain.lower() == "none":
        return Schedule(text, ())
    if not plain:
        raise _unreadable(text, "it is empty", 'write "none" for no drug')
    drugs = tuple(_drug(part.strip(), text) for part in re.split(r"[;+](?=\s*[A-Za-z])", plain))
    counts = {len(entry.levels) for entry in drugs} - {1}
    if len(counts) > 1:
        raise _unreadable(text, "its drugs have different numbers of dose levels", None)
    stated = {entry.shares for entry in drugs if len(set(entry.shares)) > 1}
    if len(stated) > 1:
        raise _unreadable(text, "its drugs have different patients at their dose levels", None)
    for shares in stated:
        drugs = tuple(replace(e, shares=shares) if len(e.levels) > 1 else e for e in drugs)
    return Schedule(text, drugs)


def _drug(part: str, text: str) -> DrugDoses:
    fields = [field.strip() for field in part.split(":")]
    if len(fields) != 4 or not all(fields):
        raise _unreadable(text, f'"{part}" has {len(fields)} fields, not 4', None)
    name, amount, route, days = fields
    levels, shares, unit, times, flat = _amount(amount, text)
    match = _ROUTE.match(route)
    if match is None:
        raise _unreadable(text, f'"{route}" is no route', "write IV, IV2h, IV30min, SC, PO or CI")
    hours = float(match[2]) / (60.0 if match[3] == "min" else 1.0) if match[2] else 0.0
    if match[1] == "CI":
        if hours not in (0.0, 24.0):
            raise _unreadable(text, f'"{route}" lasts the day', f'write "IV{match[2]}{match[3]}"')
        hours = 24.0
    elif hours and match[1] != "IV":
        raise _unreadable(text, f'"{route}" is no infusion', f'write "{match[1]}"')
    try:
        numbers, cycle = parse_days(days)
    except PkpdError as error:
        raise DataError(where=f'schedule "{text}"', what=str(error).removesuffix(".")) from error
    if cycle is not None:
        raise _unreadable(text, f'days "{days}" name a cycle', "put it in cycle_days")
    return DrugDoses(_card_of(name), levels, shares, unit, times, match[1], hours, numbers, flat)


def _card_of(name: str) -> str:
    plain, known = re.sub(r"[ -]", "_", name.casefold()), drug_names()
    spelt = (plain.replace("_", mark) for mark in "_ -")
    return next((known[one] for one in spelt if one in known), plain)


def _amount(amount: str, text: str) -> tuple[tuple[float, ...], tuple[float, ...], str, int, bool]:
    match = _AMOUNT.match(amount)
    if match is None:
        raise _unreadable(
            text,
            f'"{amount}" is no amount',
            'write "40 mg/m2", "20 mg bid", "5|10|20 mg/m2" or "1x3|2x6 mg"',
        )
    levels, weights = [], []
    for number in match["numbers"].split("|"):
        value, _, patients = number.partition("x")
        try:
            levels.append(float(value))
            weights.append(float(patients) if patients else 1.0)
        except ValueError as error:
            raise _unreadable(text, f'"{number}" is no number', None) from error
    if 0 < match["numbers"].count("x") < len(levels):
        raise _unreadable(text, f'"{amount}" has no patients at a level', 'write "1x3|2x6 mg"')
    if min(levels) <= 0 or min(weights) <= 0:
        raise _unreadable(text, f'"{amount}" is not above 0', None)
    factor = _MASS_MG[match["mass"]]
    size = _SIZES[match["size"] or ""]
    unit = ("units" if match["mass"] == "units" else "mg") + size
    if unit == "units/kg":
        raise _unreadable(text, f'"{amount}" goes by weight', "write units or units/m2")
    total = sum(weights)
    return (
        tuple(level * factor for level in levels),
        tuple(weight / total for weight in weights),
        unit,
        _TIMES_A_DAY[match["times"] or ""],
        match["flat"] is not None,
    )


def _unreadable(text: str, what: str, remedy: str | None) -> DataError:
    return DataError(where=f'schedule "{text}"', what=what, allowed=FORM, remedy=remedy)
