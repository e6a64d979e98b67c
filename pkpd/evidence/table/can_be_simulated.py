"""Whether the marrow with leukaemia can simulate what a row of evidence is about.

A row that it cannot simulate is refused when it is read, so that none is dropped later: drugs
without a card, doses far from the usual ones, days that no simulation reaches, remissions of
diseases without blasts in the marrow. Rows that say why they are not used may have any of these.
"""

from __future__ import annotations

from math import isinf
from typing import NoReturn, Protocol

from pkpd.cards import card_names
from pkpd.cards.drug_cards import drug_names, load_drug_card
from pkpd.cards.files import nearest_of
from pkpd.cards.usual_doses import unusual
from pkpd.evidence.table.rows import EvidenceRow
from pkpd.evidence.table.schedule import DrugDoses, Schedule
from pkpd.leukaemia.parameters import default_theta, value_of
from pkpd.schedule.amounts import SIZE_OF

SINGLE_COURSE_DAYS, AFTER_LAST_DOSE = 84, 28
"""Days that a single course is followed for, from its first day and from its last dose."""

_IN_REMISSION = 0.005
"""Share of a full marrow that blasts take at the start, below which there is nothing to remit."""

_UNITS = {"mg/m2": "mg/m^2", "units": "mg", "units/m2": "mg/m^2"}
_INFUSED = ("IV", "CI")
_DAYS = ("recovery_day", "response_day", "low_days")


class Refuse(Protocol):
    """Refuses a row by its column; see `pkpd.evidence.table.table`."""

    def __call__(
        self, column: str, what: str, allowed: str | None = None, remedy: str | None = None
    ) -> NoReturn:
        """Raise."""
        ...


def check_simulated(row: EvidenceRow, refuse: Refuse) -> None:
    """Refuse a row that is to be used and that no simulation can answer.

    Parameters
    ----------
    row
        The row; one with a reason in ``unused`` is not looked at.
    refuse
        Called with the column, what is wrong, what is allowed and what to do.
    """
    if row.unused:
        return
    for column in ("schedule", "other_schedule", "reinduction"):
        schedule: Schedule | None = getattr(row, column)
        for entry in schedule.drugs if schedule else ():
            _check_drug(entry, column, refuse)
    if row.endpoint.kind != "context":
        _check_days(row, refuse)
        _check_blasts(row, refuse)


def horizon_of(row: EvidenceRow) -> int:
    """Days for which the patients of a row are simulated."""
    if row.cycles > 1:
        return row.cycles * row.cycle_days
    days = max(SINGLE_COURSE_DAYS, row.simulated.last_day + AFTER_LAST_DOSE)
    return days + (row.reinduction_day - 1 if row.reinduction is not None else 0)


def _check_drug(entry: DrugDoses, column: str, refuse: Refuse) -> None:
    name, known = entry.drug, drug_names()
    if name not in known:
        refuse(
            column,
            f"there is no card of a drug {entry.drug!r}{nearest_of(entry.drug, known)}",
            ", ".join(card_names("drugs")),
            "correct the name, or say in unused why the row is kept",
        )
    card = load_drug_card(name)
    if card.leukaemia is None:
        refuse(column, f"{name} has no action in the marrow with leukaemia", remedy="leave it out")
    per_m2 = SIZE_OF.get(card.dose_unit) == "surface"
    if per_m2 and entry.unit == "mg" and entry.route in _INFUSED and not entry.flat:
        shown = f"{'|'.join(f'{level:g}' for level in entry.levels)} mg"
        refuse(
            column,
            f"{shown} of {name} is a dose of the whole patient, and it is infused by "
            f"{card.dose_unit}: one of 1.8 m^2 would get 1/1.8 of {shown}/m2",
            remedy=f'write "{shown}/m2", or "{shown} flat" if that was given',
        )
    for amount in entry.levels:
        if what := unusual(card, amount, _UNITS.get(entry.unit, entry.unit)):
            refuse(column, what, remedy="correct number or unit")


def _check_days(row: EvidenceRow, refuse: Refuse) -> None:
    horizon, endpoint = horizon_of(row), row.endpoint
    kinds = {a.observable.kind for a in endpoint.alternatives}
    if endpoint.kind in ("quantiles", "mean") and kinds & set(_DAYS):
        for column in ("value", "lower", "upper"):
            day = getattr(row, column)
            if day is not None and not 0 <= day <= horizon:
                refuse(
                    column,
                    f"day {day:g} is outside of what is simulated",
                    f"0 to {horizon}, the days that this schedule is followed for",
                )
    day = min(a.observable.day for a in endpoint.alternatives)
    if not isinf(day) and day > horizon:
        refuse(
            "endpoint",
            f"{endpoint.name} asks for day {day:g}, and {horizon} days are simulated",
            f"a day up to {horizon}",
        )


def _check_blasts(row: EvidenceRow, refuse: Refuse) -> None:
    kinds = {a.observable.kind for a in row.endpoint.alternatives}
    disease = row.population.disease
    if not kinds & {"response", "response_day"}:
        return
    if value_of(default_theta(), "blasts_start", disease) < _IN_REMISSION:
        refuse(
            "endpoint",
            f"{row.endpoint.name} is a response of leukaemia, and patients of "
            f"{row.population.name} ({disease}) start without blasts in the marrow",
            remedy="leave the row out, or say in unused why it is kept",
        )
