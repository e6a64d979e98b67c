"""Names of the drugs of a regimen."""

from __future__ import annotations

from dataclasses import replace

from pkpd.cards.drug_cards import drug_names
from pkpd.schedule import Regimen


def one_name_each(regimen: Regimen) -> Regimen:
    """Give a drug that a regimen calls by several of its names the first of them.

    Drugs with a card of the user's own keep theirs.

    Raises
    ------
    PkpdError
        If doses or modifications under two names cannot both be of one drug.
    """
    own, known = regimen.cards, drug_names()
    card = {d: "" if d in own else known.get(d.strip().casefold(), "") for d in regimen.drugs}
    first: dict[str, str] = {}
    name = {d: first.setdefault(card[d], d) if card[d] else d for d in regimen.drugs}
    if all(drug == other for drug, other in name.items()):
        return regimen
    courses = [
        replace(
            course,
            doses=tuple(replace(rule, drug=name[rule.drug]) for rule in course.doses),
            modifications=tuple(replace(m, drug=name[m.drug]) for m in course.modifications),
        )
        for course in regimen.courses
    ]
    return Regimen(tuple(courses))
