"""Visits that were chosen, what they leave unknown, and in whom that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Loss = Literal["error", "crps", "entropy"]

_NAMED = {
    "error": ("the median day of recovery ({}) then errs by", "days"),
    "crps": (
        "the forecast of the day of recovery ({}) then has a continuous ranked probability score "
        "of",
        "days",
    ),
    "entropy": ("the forecast of the day of recovery ({}) then has an entropy of", "bits"),
}


@dataclass(frozen=True)
class VisitSet:
    """A set of visits and what it leaves unknown.

    Attributes
    ----------
    days
        Protocol days.
    chosen_error
        Mean loss in the patients it was chosen in: error of the median day of recovery or
        continuous ranked probability score, in days, or entropy, in bits.
    error, error_se
        The same in other patients, and its Monte Carlo standard error.
    less_even, less_even_se
        ``error`` less that of as many visits spread evenly over the candidates, paired.
    even
        Those visits.
    """

    days: tuple[int, ...]
    chosen_error: float
    error: float
    error_se: float
    even: tuple[int, ...]
    less_even: float
    less_even_se: float


@dataclass(frozen=True)
class UsualVisits:
    """Visits that one would make without looking, in the patients who judge.

    Attributes
    ----------
    name
        ``weekly`` or ``twice weekly``, from the first candidate on.
    days
        The candidates next to these days.
    error, error_se
        Mean loss and its standard error.
    best_less, best_less_se
        Loss of the chosen visits of the whole budget less this, paired.
    """

    name: str
    days: tuple[int, ...]
    error: float
    error_se: float
    best_less: float
    best_less_se: float


@dataclass(frozen=True)
class VisitPlan:
    """Visits for every number up to a budget; made by `choose_visits`.

    Attributes
    ----------
    criterion
        What recovery means.
    until_day
        Last day that is looked at; a recovery that is not seen by then counts as of that day.
    candidates
        Days that could be chosen.
    always
        Days on which blood is drawn in any case.
    sets
        The best set found of 1, 2, ... further days.
    error_before
        Mean loss with the visits of `always` alone.
    error_with_all
        Mean loss with all candidates; above that of few where hardly anybody in the bank is like a
        patient with so many counts, so that weights are flattened.
    patients
        Virtual patients in whom sets were chosen, and as many others in whom they were judged.
    loss
        What was lowered: ``error``, ``crps`` or ``entropy``.
    usual
        Visits once and twice a week.
    denominator
        Those who judge and live until the last day; the others of `patients` are left out.
    """

    criterion: str
    until_day: int
    candidates: tuple[int, ...]
    always: tuple[int, ...]
    sets: tuple[VisitSet, ...]
    error_before: float
    error_with_all: float
    patients: int
    loss: Loss
    usual: tuple[UsualVisits, ...]
    denominator: int

    @property
    def best(self) -> VisitSet:
        """The set of the whole budget."""
        return self.sets[-1]

    def table(self) -> pd.DataFrame:
        """All sets, one row each, with the patients who judge as ``denominator``."""
        import pandas as pd

        return pd.DataFrame(
            {
                "visits": [len(one.days) for one in self.sets],
                "days": [" ".join(map(str, one.days)) for one in self.sets],
                self._column: [one.error for one in self.sets],
                "error_se": [one.error_se for one in self.sets],
                "even_days": [" ".join(map(str, one.even)) for one in self.sets],
                "less_than_even": [one.less_even for one in self.sets],
                "less_than_even_se": [one.less_even_se for one in self.sets],
                "denominator": self.denominator,
            }
        )

    @property
    def _column(self) -> str:
        return {"error": "error_days", "crps": "crps_days", "entropy": "entropy_bits"}[self.loss]

    def usual_table(self) -> pd.DataFrame:
        """Visits once and twice a week, and how much less the chosen ones of the budget leave."""
        import pandas as pd

        return pd.DataFrame(
            {
                "choice": [one.name for one in self.usual],
                "visits": [len(one.days) for one in self.usual],
                "days": [" ".join(map(str, one.days)) for one in self.usual],
                self._column: [one.error for one in self.usual],
                "error_se": [one.error_se for one in self.usual],
                "best_less": [one.best_less for one in self.usual],
                "best_less_se": [one.best_less_se for one in self.usual],
                "denominator": self.denominator,
            }
        )

    def sentence(self) -> str:
        """Say the days and what they are worth."""
        one = self.best
        days = ", ".join(map(str, one.days))
        fixed = f" besides {', '.join(map(str, self.always))}" if self.always else ""
        even = ", ".join(map(str, one.even))
        known = "without counts" if not self.always else "with those alone"
        words, unit = _NAMED[self.loss]
        gap = one.less_even
        small = ""
        if self.error_with_all > one.error + one.error_se:
            small = " The bank is too small to use all days: take a larger one."
        side = "less" if gap < 0 else "more"
        return (
            f"Draw blood on day{'s' if len(one.days) > 1 else ''} {days}{fixed}: "
            f"{words.format(self.criterion)} "
            f"{one.error:.1f} {unit} (+- {one.error_se:.1f}), "
            f"{self.error_before:.1f} {known}, {self.error_with_all:.1f} with all "
            f"{len(self.candidates)} days; {abs(gap):.2f} {unit} {side} "
            f"(+- {one.less_even_se:.2f}) than on days {even}.{small}"
        )
