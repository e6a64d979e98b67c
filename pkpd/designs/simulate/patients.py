"""Patients of simulated trials: when they come, and when they have a DLT or a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pkpd.arguments import a
from pkpd.designs.kinds import check_fields, check_risks
from pkpd.designs.weights import WeightFunction, linear_weight
from pkpd.errors import PkpdError

ARRIVALS = ("exponential", "uniform", "fixed")
TIMES = ("weibull", "uniform")


@dataclass(frozen=True)
class Accrual:
    """How patients arrive.

    Attributes
    ----------
    every_days
        Mean time between two patients.
    kind
        ``"exponential"`` (a Poisson process), ``"uniform"`` between 0 and twice the mean, or
        ``"fixed"``.
    patients_wait
        Whether a patient for whom there is no place waits until there is one; otherwise he is
        turned away and the next one is awaited. One waits at a time and there is no queue: nobody
        else comes meanwhile, and the time to the next patient begins when he enters.
    """

    every_days: float
    kind: str = "exponential"
    patients_wait: bool = True

    def __post_init__(self) -> None:
        check_fields("Accrual", self)
        if not self.every_days > 0:
            what = f"a patient every {self.every_days:g} days"
            raise PkpdError(where="accrual", what=what, allowed="above 0 days")
        if self.kind not in ARRIVALS:
            what = f"kind {self.kind!r}"
            raise PkpdError(where="accrual", what=what, allowed=", ".join(ARRIVALS))

    def gaps(self, u: np.ndarray) -> np.ndarray:
        """Days to the next patient in trials with uniform numbers `u`."""
        if self.kind == "fixed":
            return np.full(len(u), self.every_days)
        if self.kind == "uniform":
            return 2 * self.every_days * u
        return -self.every_days * np.log1p(-u)


@dataclass(frozen=True)
class EventTimes:
    """When within its window an event comes, given that it comes.

    Attributes
    ----------
    window_days
        Length of the window.
    kind
        ``"weibull"`` or ``"uniform"``.
    late
        Share of the events in the second half of the window, of the Weibull times; by default 0.5.
    """

    window_days: float
    kind: str = "weibull"
    late: float | None = None

    def __post_init__(self) -> None:
        check_fields("EventTimes", self)
        if not self.window_days > 0:
            what = f"a window of {self.window_days:g} days"
            raise PkpdError(where="window", what=what, allowed="above 0 days")
        if self.kind not in TIMES:
            what = f"kind {self.kind!r}"
            raise PkpdError(where="event times", what=what, allowed=", ".join(TIMES))
        if self.late is not None and self.kind == "uniform":
            what = f"a share of {self.late:g} in the second half, of uniform times"
            remedy = "leave the share out, or take weibull times"
            raise PkpdError(where="event times", what=what, remedy=remedy)
        if self.late is not None and not 0 < self.late < 1:
            what = f"a share of {self.late:g} in the second half"
            raise PkpdError(where="event times", what=what, allowed="between 0 and 1")

    def days(self, u: np.ndarray, risk: np.ndarray) -> np.ndarray:
        """Days to the event of patients with uniform numbers `u`; infinite where none comes.

        Parameters
        ----------
        u, risk
            Same shape; the event comes within the window where ``u < risk``.
        """
        comes = u < risk
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.kind == "uniform":
                part = u / risk
            else:
                whole = np.log1p(-np.minimum(risk, 1 - 1e-15))
                late = 0.5 if self.late is None else self.late
                shape = np.log(whole / np.log1p(-risk * (1 - late))) / np.log(2)
                part = (np.log1p(-u) / whole) ** (1 / shape)
        return np.where(comes, self.window_days * np.clip(part, 0, 1), np.inf)


class Outcomes(Protocol):
    """What becomes of the patients of a simulation: any source of DLTs and of their forecasts.

    Where it has an attribute ``fractional`` that is true, its weights are fractions (`Pending`).
    """

    @property
    def window_days(self) -> float:
        """Length of the assessment window."""
        ...

    @property
    def draws(self) -> int:
        """Number of draws of the risks."""
        ...

    def enrol(
        self, u: np.ndarray, draw: np.ndarray, level: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Days to the DLT of one new patient in each trial, infinite for none, and who he is.

        Parameters
        ----------
        u
            A uniform number of each trial's patient, the same whatever design is simulated.
        draw, level
            Draw of the risks and dose of each trial, shape ``(trials,)``.
        """
        ...

    def weights(self, who: np.ndarray, level: np.ndarray, followed: np.ndarray) -> np.ndarray:
        """Weights of pending patients from days of follow-up; any shape."""
        ...

    def risks(self) -> np.ndarray:
        """Give the true risks, shape ``(draws, levels)``."""
        ...


@dataclass(frozen=True)
class RiskOutcomes:
    """Outcomes by risks alone: patients at one dose differ by chance only.

    Attributes
    ----------
    true_risks
        Shape ``(levels,)`` or ``(draws, levels)``.
    times
        When DLTs come.
    weight
        Weight of a pending patient.
    """

    true_risks: np.ndarray
    times: EventTimes
    weight: WeightFunction = linear_weight

    @property
    def window_days(self) -> float:
        """Length of the assessment window."""
        return self.times.window_days

    def risks(self) -> np.ndarray:
        """Give the true risks, shape ``(draws, levels)``."""
        return np.atleast_2d(np.asarray(self.true_risks, float))

    @property
    def draws(self) -> int:
        """Number of draws of the risks."""
        return len(self.risks())

    def enrol(
        self, u: np.ndarray, draw: np.ndarray, level: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Days to the DLT of one new patient in each trial."""
        return self.times.days(u, self.risks()[draw, level - 1]), np.zeros(len(level), int)

    def weights(self, who: np.ndarray, level: np.ndarray, followed: np.ndarray) -> np.ndarray:
        """Weights of pending patients from days of follow-up."""
        del who, level
        return self.weight(followed, self.window_days)


@dataclass(frozen=True)
class Responses:
    """Responses to treatment, which open doses for backfilling.

    Attributes
    ----------
    rates
        Probability of a response at each dose.
    times
        When responses come.
    """

    rates: Sequence[float]
    times: EventTimes
    _rates: np.ndarray = field(
        init=False, repr=False, compare=False, default_factory=lambda: np.zeros(0)
    )

    def __post_init__(self) -> None:
        check_fields("Responses", self, times=a(EventTimes))
        object.__setattr__(self, "_rates", check_risks(self.rates, len(self.rates))[0])

    def enrol(self, u: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Days to the response of patients with uniform numbers `u`; infinite for none."""
        return self.times.days(u, self._rates[level - 1])
