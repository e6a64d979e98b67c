"""What the labels of drugs say of their doses by kidney function: told beside a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from pkpd.cards.relations import STATUSES, refuse
from pkpd.cards.tables import Table


@dataclass(frozen=True)
class RenalDose:
    """Dose of a drug's label in a range of creatinine clearance; it changes no dose by itself.

    Attributes
    ----------
    at_least, below
        Creatinine clearance in mL/min.
    dose
        What the label says, in words.
    source, status
        Where that is from.
    """

    at_least: float
    below: float
    dose: str
    source: str
    status: str

    @property
    def range(self) -> str:
        """Creatinine clearance in words.

        Examples
        --------
        >>> RenalDose(30, 60, "half", "label", "read").range
        'at 30 to 60 mL/min'
        """
        if self.at_least == 0.0:
            return f"below {self.below:g} mL/min"
        if self.below == inf:
            return f"from {self.at_least:g} mL/min"
        return f"at {self.at_least:g} to {self.below:g} mL/min"


def read_renal_doses(table: Table) -> tuple[RenalDose, ...]:
    """Read the rows ``[[renal_dose]]`` of a drug card.

    Raises
    ------
    CardError
        If a range is empty, or two of them overlap.
    """
    found: list[RenalDose] = []
    for row in table.tables("renal_dose", default=()):
        one = RenalDose(
            row.number("at_least", default=0.0, minimum=0.0, unit="mL/min"),
            row.number("below", default=inf, above=0.0, unit="mL/min"),
            row.text("dose"),
            row.text("source"),
            row.one_of("status", STATUSES),
        )
        row.done()
        if one.below <= one.at_least:
            refuse(row, "below", f"is {one.below:g}", f"above at_least, {one.at_least:g}")
        if any(one.at_least < o.below and o.at_least < one.below for o in found):
            refuse(row, "at_least", f"{one.range} is told twice", remedy="part the ranges")
        found.append(one)
    return tuple(found)
