"""Exposures that were published of a drug, as drug cards give them: ``[[published_exposure]]``."""

from __future__ import annotations

from dataclasses import dataclass

from pkpd.cards.relations import STATUSES
from pkpd.cards.tables import Table
from pkpd.schedule.amounts import DOSE_UNITS
from pkpd.schedule.rules import ROUTES

MEASURES = {"auc": "ng/mL h", "cmax": "ng/mL", "auc_ratio": "1"}
"""What can be published, and its unit."""


@dataclass(frozen=True)
class PublishedExposure:
    """One published exposure.

    Attributes
    ----------
    measure
        ``auc`` (of one dose) and ``cmax``, or ``auc_ratio`` between patients of two ranges of
        creatinine clearance.
    value
        In the unit of `MEASURES`.
    spread
        What was printed beside it, in words, such as ``SD 272``; may be empty.
    dose, dose_unit, route
        What was given; 0 and empty for a ratio.
    crcl, against
        Ranges of creatinine clearance in mL/min, ``low <= x < high``, of a ratio; else empty.
    patients
        Who they were.
    source, status
        Where it is from.
    """

    measure: str
    value: float
    spread: str
    dose: float
    dose_unit: str
    route: str
    crcl: tuple[float, ...]
    against: tuple[float, ...]
    patients: str
    source: str
    status: str


def read_published_exposures(table: Table) -> tuple[PublishedExposure, ...]:
    """Read the rows of a drug card.

    Raises
    ------
    CardError
        One sentence naming file, row and key.
    """
    found = []
    for row in table.tables("published_exposure", default=()):
        measure = row.one_of("measure", MEASURES)
        row.one_of("unit", (MEASURES[measure],))
        ratio = measure == "auc_ratio"
        crcl, against = (
            tuple(row.numbers(key, length=2, minimum=0.0)) if ratio else ()
            for key in ("crcl", "against")
        )
        for key, ends in (("crcl", crcl), ("against", against)):
            if ends and not ends[0] < ends[1]:
                row.refuse(key, f"{ends[0]:g} to {ends[1]:g} is no range", remedy="swap the ends")
        found.append(
            PublishedExposure(
                measure=measure,
                value=row.number("value", above=0.0),
                spread=row.text("spread", ""),
                dose=0.0 if ratio else row.number("dose", above=0.0),
                dose_unit="" if ratio else row.one_of("dose_unit", DOSE_UNITS),
                route="" if ratio else row.one_of("route", ROUTES),
                crcl=crcl,
                against=against,
                patients=row.text("patients"),
                source=row.text("source"),
                status=row.one_of("status", STATUSES),
            )
        )
    return tuple(found)
