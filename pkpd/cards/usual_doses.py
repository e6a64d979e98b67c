"""Doses far from the usual one of a drug's card: most often a slip of the unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pkpd.cards.drug_cards import (
    GROWTH_FACTOR,
    LONG_ACTING,
    DrugCard,
    drug_names,
    load_drug_card,
)
from pkpd.errors import CardError
from pkpd.schedule import Regimen
from pkpd.schedule.amounts import CELLS, show_amount

UNUSUAL = 10.0
"""A dose so many times the usual one is taken for a slip: mg for ug or mg/kg for mg/m^2."""
UNUSUALLY_LOW = 500.0
"""A usual dose so many times another is, too: ug for mg; low doses of cytarabine are 1/150."""

_ROUNDING = 1e-9
_TOLD_WHOLE = 1e9


def unusual(card: DrugCard, amount: float, unit: str, strengths: Sequence[float] = ()) -> str:
    """Say that a dose is far from the largest customary one of a drug; empty where it is not.

    A lower one is a slip where it is a 500th. Of growth factors a tenth is asked about: the
    marrow with leukaemia knows whether they are given, and not how much, so that a hundredth of
    the dose would act as all of it.

    Parameters
    ----------
    card
        The drug; one without a usual dose has no unusual one.
    amount, unit
        A single dose, in ``mg``, ``mg/m^2`` or ``mg/kg``.
    strengths
        Of capsules (mg): one of the smallest is given whatever the amount.
    """
    usual = card.usual_dose
    if usual is None:
        return ""
    if (unit == CELLS) != (usual.unit == CELLS):
        return f"{card.name} is given in {usual.unit}, not in {unit}"
    customary = show_amount(usual.value, usual.unit)
    smallest = [("a capsule of ", min(strengths), "mg")] if strengths and unit != CELLS else []
    for words, dose, of in (("", amount, unit), *smallest):
        times = usual.times(dose, of)
        if times >= UNUSUAL:
            many = f"{times:,.0f} times" if times < _TOLD_WHOLE else f"{times:.3g} times"
            given = f"{words}{show_amount(dose, of)} of {card.name}"
            return f"{given} is {many} the usual dose of {customary}"
    times = usual.times(amount, unit)
    on_or_off = card.leukaemia is not None and card.leukaemia.acts_by in (
        GROWTH_FACTOR,
        LONG_ACTING,
    )
    if on_or_off and times * UNUSUAL <= 1.0 + _ROUNDING:
        return (
            f"{show_amount(amount, unit)} of {card.name} is 1/{1.0 / times:,.0f} of the usual dose "
            f"of {customary}, and a growth factor is given or not: its amount does not act in the "
            "marrow with leukaemia"
        )
    if times * UNUSUALLY_LOW <= 1.0 + _ROUNDING:
        many = f"{1.0 / times:,.0f}" if times * _TOLD_WHOLE > 1.0 else f"{1.0 / times:.3g}"
        given = show_amount(amount, unit)
        return f"{given} of {card.name} is 1/{many} of the usual dose of {customary}"
    return ""


def check_regimen(regimen: Regimen, cards: Mapping[str, DrugCard]) -> None:
    """Refuse doses far from the usual ones, where they are not said to be meant.

    Parameters
    ----------
    regimen
        What is given.
    cards
        Cards of drugs that act in place of shipped ones, by name, where the regimen names no file;
        a drug without any card has no usual dose.

    Raises
    ------
    CardError
        Naming course, dose and remedy.
    """
    names = drug_names()
    for course in regimen.courses:
        for rule in course.doses:
            card = load_drug_card(rule.card) if rule.card else cards.get(rule.drug)
            if card is None and (known := names.get(rule.drug.casefold())) is not None:
                card = load_drug_card(known)
            what = "" if card is None else unusual(card, rule.amount, rule.unit, rule.strengths_mg)
            if what and not rule.unusual_dose:
                raise CardError(
                    where=f"course {course.name}",
                    what=what,
                    remedy="correct number or unit, or give unusual_dose=True if it is meant",
                )
