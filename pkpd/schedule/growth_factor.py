"""Growth factor by need: given on mornings with low neutrophils."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkpd.errors import PkpdError
from pkpd.schedule.amounts import parse_amount


@dataclass(frozen=True)
class GrowthFactorPolicy:
    """When a growth factor is given by need.

    Attributes
    ----------
    below
        It is given on days that begin with neutrophils below this count, 10^9/L; 0: never.
    from_day
        First protocol day on which it may be given.
    amount
        Dose of a day, such as ``"0.005 mg/kg"``. A marrow in which growth factor is on or off does
        not read it; a marrow with G-CSF as a state needs it.
    drug
        Its name, for a marrow with G-CSF as a state; the usual one if empty.
    """

    below: float = 0.0
    from_day: int = 1
    amount: str = ""
    drug: str = ""

    def __post_init__(self) -> None:
        """Refuse counts and days that mean nothing, and amounts without a unit."""
        for what, good, allowed in (
            (
                f"below = {self.below}",
                np.isfinite(self.below) and self.below >= 0.0,
                "a count of 0 or more, 10^9/L",
            ),
            (f"from_day = {self.from_day}", self.from_day >= 1, "a protocol day, 1 or more"),
        ):
            if not good:
                raise PkpdError(where="growth factor policy", what=what, allowed=allowed)
        if self.amount:
            parse_amount(self.amount)

    @property
    def words(self) -> str:
        """What is given and when, in a phrase; empty if it never is."""
        if self.below <= 0.0:
            return ""
        return (
            f"{self.drug or 'a growth factor'} by need, on days that begin with neutrophils below "
            f"{self.below:g}, from day {self.from_day} on"
        )

    @property
    def dose(self) -> tuple[float, str]:
        """Number and unit of the amount."""
        return parse_amount(self.amount)


NEVER = GrowthFactorPolicy()
"""No growth factor but that of the schedule."""
