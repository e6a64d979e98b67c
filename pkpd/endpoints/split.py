"""What has become of the patients by a day: recovered, still low, or dead. Shares sum to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.arrays import Floats
from pkpd.course.course import Course
from pkpd.endpoints.definitions import LEUKAEMIC
from pkpd.endpoints.recovery import TRANSFUSED_LINE
from pkpd.errors import DataError
from pkpd.kept_code import kept

RECOVERED, RECOVERED_WITH_LEUKAEMIA, LOW, LOW_WITH_LEUKAEMIA, DIED = range(5)

STATES = (
    "recovered without leukaemia",
    "recovered with leukaemia",
    "low without leukaemia",
    "low with leukaemia",
    "died",
)
"""States of a marrow with blasts, in the order of the codes."""

STATES_WITHOUT_BLASTS = ("recovered", "low", "died")
"""States of a marrow without blasts."""


@dataclass(frozen=True)
class Split:
    """Shares of the lanes in each state.

    Attributes
    ----------
    states
        Names of the S states.
    days : float[K]
        Days since the first morning.
    state : int8[L, K]
        Index into `states`.
    """

    states: tuple[str, ...]
    days: Floats
    state: NDArray[np.int8]

    @property
    def shares(self) -> Floats:
        """Share of lanes in each state by day, float[S, K]; sums to 1 over states."""
        return np.array([(self.state == s).mean(axis=0) for s in range(len(self.states))])


def split(
    course: Course,
    thresholds: Mapping[str, float],
    days: ArrayLike | None = None,
    *,
    untransfused_days: float = 7.0,
) -> Split:
    """Sort lanes by what they are on a morning.

    A lane is recovered when every line is at its threshold that morning and platelets, where they
    are asked for, were not transfused in the days before, and low otherwise; either with leukaemia
    from 5 % marrow blasts. It has died when it is not alive that morning.

    Parameters
    ----------
    course
        What became of the lanes.
    thresholds
        Line -> count (10^9/L).
    days : float[K], optional
        Whole days since the first morning: day N is the morning after protocol day N. Every
        morning if omitted.
    untransfused_days
        As `pkpd.endpoints.recovery.RecoveryDefinition`.

    Raises
    ------
    DataError
        If a day was not simulated.
    """
    every = np.arange(course.days) if days is None else days
    asked = np.atleast_1d(np.asarray(every, dtype=np.float64))
    column = asked.astype(np.int64)
    if np.any(column != asked) or np.any(column < 0) or np.any(column >= course.days):
        raise DataError(
            where="split by day",
            what=f"days {asked.tolist()}",
            allowed=f"whole days from 0 to {course.days - 1}",
        )
    low = np.zeros((course.lanes, column.size), dtype=np.bool_)
    for line, limit in thresholds.items():
        _low_counts(np.ascontiguousarray(course.own(line)), float(limit), column, low)
        if line == TRANSFUSED_LINE and untransfused_days > 0:
            window = int(np.ceil(untransfused_days))
            _low_after_transfusion(np.ascontiguousarray(course.transfused), window, column, low)
    died = course.death_day[:, None] < column[None, :] + 1.0
    if course.marrow_blasts is None:
        return Split(STATES_WITHOUT_BLASTS, asked, np.where(died, 2, low).astype(np.int8))
    state = np.empty(low.shape, dtype=np.int8)
    blasts = np.ascontiguousarray(course.marrow_blasts)
    _with_blasts(low, blasts, LEUKAEMIC, died, column, state)
    return Split(STATES, asked, state)


@kept
def _low_counts(counts: np.ndarray, limit: float, column: np.ndarray, low: np.ndarray) -> None:
    """Mark the lanes and mornings with a count below a limit."""
    for lane in range(low.shape[0]):
        for k in range(column.size):
            if counts[lane, column[k]] < limit:
                low[lane, k] = True


@kept
def _low_after_transfusion(
    transfused: np.ndarray, window: int, column: np.ndarray, low: np.ndarray
) -> None:
    """Mark those with a transfusion that morning or on one of the mornings of the window before."""
    last = np.empty(transfused.shape[1], np.int64)
    for lane in range(low.shape[0]):
        latest = -window
        for day in range(last.size):
            if transfused[lane, day]:
                latest = day
            last[day] = latest
        for k in range(column.size):
            if column[k] - last[column[k]] < window:
                low[lane, k] = True


@kept
def _with_blasts(
    low: np.ndarray, blasts: np.ndarray, limit: float, died: np.ndarray, column: np.ndarray,
    state: np.ndarray,
) -> None:  # fmt: skip
    """Sort lanes and mornings by counts, blasts in the marrow, and death."""
    for lane in range(low.shape[0]):
        for k in range(column.size):
            ill = blasts[lane, column[k]] >= limit
            if died[lane, k]:
                state[lane, k] = DIED
            elif low[lane, k]:
                state[lane, k] = LOW_WITH_LEUKAEMIA if ill else LOW
            else:
                state[lane, k] = RECOVERED_WITH_LEUKAEMIA if ill else RECOVERED


def split_days(horizon_days: int, days: Sequence[int] = (28, 42, 56)) -> tuple[int, ...]:
    """Days of a table of shares that lie within a simulation of so many mornings."""
    return tuple(day for day in days if day < horizon_days)
