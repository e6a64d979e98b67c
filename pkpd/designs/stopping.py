"""Rules by which a trial stops early, as data: each says when it holds and why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pkpd.designs.data import Decisions, Trials, Why
from pkpd.designs.kinds import check_fields
from pkpd.errors import PkpdError

if TYPE_CHECKING:
    from pkpd.designs.protocol import Design


@dataclass(frozen=True)
class StoppingRule(ABC):
    """When a trial stops."""

    why: ClassVar[Why]

    def __post_init__(self) -> None:
        check_fields(type(self).__name__, self)

    @abstractmethod
    def met(self, design: Design, data: Trials, own: Decisions) -> np.ndarray:
        """Whether each trial stops, shape ``(trials,)``; `own` is what the design would do."""

    @abstractmethod
    def words(self, design: Design, data: Trials, own: Decisions) -> str:
        """Why the first trial stops: a clause."""

    def check(self, design: Design) -> None:
        """Refuse settings that the design has no use for."""
        del design


@dataclass(frozen=True)
class TooToxic(StoppingRule):
    """Stop when a dose, by default the lowest, is probably too toxic.

    Attributes
    ----------
    limit
        Risk of a DLT.
    certainty
        Posterior probability above which the trial stops.
    level
        The dose.
    """

    limit: float
    certainty: float
    level: int = 1
    why: ClassVar[Why] = Why.TOO_TOXIC

    def check(self, design: Design) -> None:
        """Refuse limits that are no probabilities, and doses that are not there."""
        for name, value in (("limit", self.limit), ("certainty", self.certainty)):
            if not 0 < value < 1:
                what = f"{name} is {value:g}"
                remedy = "write per cent as a fraction" if value > 1 else None
                where, allowed = f"{design.name}, stopping rule too_toxic", "between 0 and 1"
                raise PkpdError(where=where, what=what, allowed=allowed, remedy=remedy)
        if not 1 <= self.level <= design.levels:
            where, what = f"{design.name}, stopping rule too_toxic", f"the dose is {self.level}"
            raise PkpdError(where=where, what=what, allowed=f"1 to {design.levels}")

    def met(self, design: Design, data: Trials, own: Decisions) -> np.ndarray:
        """Whether the posterior probability exceeds the certainty."""
        del own
        return design.exceeds(data, self.level, self.limit) > self.certainty

    def words(self, design: Design, data: Trials, own: Decisions) -> str:
        """Give the probability."""
        del own
        found = float(design.exceeds(data, self.level, self.limit)[0])
        return (
            f"the risk at dose {self.level} exceeds {self.limit:g} with probability {found:.3f}, "
            f"above {self.certainty:g}"
        )


@dataclass(frozen=True)
class EnoughAtDose(StoppingRule):
    """Stop when so many patients were treated at the dose that would be given next.

    Attributes
    ----------
    patients
        Patients at that dose.
    """

    patients: int
    why: ClassVar[Why] = Why.ENOUGH

    def check(self, design: Design) -> None:
        """Refuse a number below 1."""
        if self.patients < 1:
            where, what = f"{design.name}, stopping rule enough_at_dose", f"it is {self.patients}"
            raise PkpdError(where=where, what=what, allowed="1 or more patients")

    def met(self, design: Design, data: Trials, own: Decisions) -> np.ndarray:
        """Whether so many were treated."""
        del design
        return (own.level > 0) & (data.at(data.treated, own.level) >= self.patients)

    def words(self, design: Design, data: Trials, own: Decisions) -> str:
        """Give the number."""
        del design
        found = int(data.at(data.treated, own.level)[0])
        return (
            f"dose {int(own.level[0])} would be next and {found} patients were treated there, "
            f"{self.patients} or more"
        )


@dataclass(frozen=True)
class PreciseAtDose(StoppingRule):
    """Stop when the risk at the next dose probably lies in an interval, and enough were treated.

    Attributes
    ----------
    low, high
        The interval.
    certainty
        Posterior probability of the interval at which the trial stops.
    patients
        Patients treated at that dose, at least.
    in_all
        Patients treated in the trial, at least.
    """

    low: float
    high: float
    certainty: float = 0.5
    patients: int = 6
    in_all: int = 0
    why: ClassVar[Why] = Why.PRECISE

    def check(self, design: Design) -> None:
        """Refuse an interval that is none."""
        if not 0 <= self.low < self.high <= 1 or not 0 < self.certainty < 1:
            where = f"{design.name}, stopping rule precise_at_dose"
            what = f"from {self.low:g} to {self.high:g} with certainty {self.certainty:g}"
            allowed = "0 <= low < high <= 1, and a certainty between 0 and 1"
            raise PkpdError(where=where, what=what, allowed=allowed)

    def met(self, design: Design, data: Trials, own: Decisions) -> np.ndarray:
        """Whether the probability of the interval is reached, with patients enough."""
        enough = (own.level > 0) & (data.at(data.treated, own.level) >= self.patients)
        enough &= data.treated.sum(axis=1) >= self.in_all
        found = np.zeros(len(enough))
        for level in np.unique(own.level[enough]):
            rows = np.flatnonzero(enough & (own.level == level))
            found[rows] = self._inside(design, data.take(rows), int(level))
        return enough & (found >= self.certainty)

    def words(self, design: Design, data: Trials, own: Decisions) -> str:
        """Give the probability."""
        level = int(own.level[0])
        found = float(self._inside(design, data, level)[0])
        return (
            f"the risk at dose {level} lies in {self.low:g} to {self.high:g} with probability "
            f"{found:.3f}, at least {self.certainty:g}"
        )

    def _inside(self, design: Design, data: Trials, level: int) -> np.ndarray:
        trials = len(data.current)
        above, over = (
            design.exceeds(data, level, end) if 0 < end < 1 else np.full(trials, float(end <= 0))
            for end in (self.low, self.high)
        )
        return above - over
