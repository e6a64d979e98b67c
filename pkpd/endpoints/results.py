"""What is found on the counts of one line: recovery and low counts, lane by lane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pkpd.endpoints import crossings

HOURS_PER_DAY = 24.0


class RecoveryStatus(IntEnum):
    """What became of a lane; `pkpd.endpoints.recovery` defines it."""

    RECOVERED = crossings.RECOVERED
    NEVER_BELOW = crossings.NEVER_BELOW
    CENSORED = crossings.CENSORED
    NOT_EVALUABLE = crossings.NOT_EVALUABLE
    NEXT_CYCLE = crossings.NEXT_CYCLE
    BACK_BEFORE = crossings.BACK_BEFORE


@dataclass(frozen=True)
class Recovery:
    """Recovery of every lane.

    Attributes
    ----------
    day : float[...]
        Days since the clock started; 0 when never below (or back before), the horizon when
        censored, NaN when not evaluable.
    status : int8[...]
        ``RecoveryStatus``.
    pending_day : float[...]
        For a censored lane, the earliest day at which a recovery has begun that the horizon cut
        off; infinite otherwise.
    """

    day: NDArray[np.float64]
    status: NDArray[np.int8]
    pending_day: NDArray[np.float64]


@dataclass(frozen=True)
class LineOutcomes:
    """All endpoints of one line for H thresholds and L lanes; days since the clock started.

    Attributes
    ----------
    thresholds : float[H]
        10^9/L.
    horizon_day : float[L]
        Length of the window.
    nadir, nadir_day : float[L]
        Lowest count (10^9/L) in the window and its day.
    first_below_day : float[H, L]
        Infinite when never below.
    first_need_day : float[H, L]
        As ``first_below_day``, or the first transfusion of a lane that was never below.
    last_below_day : float[H, L]
        End of the last spell below: 0 when never below, the horizon when below at the horizon.
        Unlike recovery it can never get earlier when the threshold is raised.
    days_below, longest_below_days : float[H, L]
        Total time below, and the longest single spell.
    first, sustained : Recovery
        Fields of shape [H, L].
    """

    thresholds: NDArray[np.float64]
    horizon_day: NDArray[np.float64]
    nadir: NDArray[np.float64]
    nadir_day: NDArray[np.float64]
    first_below_day: NDArray[np.float64]
    first_need_day: NDArray[np.float64]
    last_below_day: NDArray[np.float64]
    days_below: NDArray[np.float64]
    longest_below_days: NDArray[np.float64]
    first: Recovery
    sustained: Recovery

    def at(self, which: int) -> LineOutcomes:
        """Endpoints of one of the thresholds, H = 1."""
        own = slice(which, which + 1)

        def of(found: Recovery) -> Recovery:
            return Recovery(found.day[own], found.status[own], found.pending_day[own])

        return LineOutcomes(
            self.thresholds[own],
            self.horizon_day,
            self.nadir,
            self.nadir_day,
            self.first_below_day[own],
            self.first_need_day[own],
            self.last_below_day[own],
            self.days_below[own],
            self.longest_below_days[own],
            of(self.first),
            of(self.sustained),
        )
