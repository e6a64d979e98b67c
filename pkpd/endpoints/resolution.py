"""With which counts a course is judged: all of the curve, every morning, or visits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from pkpd.arrays import Floats
from pkpd.course.course import Course, Curve
from pkpd.endpoints.curve import log_count_at
from pkpd.errors import DataError


@dataclass(frozen=True)
class Visits:
    """Counts are taken on visits only.

    Attributes
    ----------
    days
        Increasing, in days since the first morning: protocol day d is d - 1 here.

    Raises
    ------
    DataError
        If there is no visit, or the days do not increase.
    """

    days: tuple[float, ...]

    def __post_init__(self) -> None:
        """Take any sequence of days, and refuse one that does not increase."""
        object.__setattr__(self, "days", tuple(float(d) for d in self.days))
        if not self.days or any(b <= a for a, b in zip(self.days, self.days[1:], strict=False)):
            raise DataError(
                where="visit days",
                what=f"{self.days}",
                allowed="at least one visit, increasing days since the first morning",
                remedy="give the trial's visit_days",
            )


Resolution = Literal["continuous", "morning"] | Visits


class Observations(NamedTuple):
    """Counts of one line ``[L, V]`` with their times and until when each stands, ``[V]`` days."""

    counts: Floats
    time: Floats
    until: Floats
    mornings: bool


def check_resolution(resolution: Resolution) -> None:
    """Refuse anything but the three resolutions.

    Raises
    ------
    DataError
        One sentence.
    """
    if resolution not in ("continuous", "morning") and not isinstance(resolution, Visits):
        raise DataError(
            where="time resolution",
            what=f"{resolution!r}",
            allowed="'continuous', 'morning', or Visits(days)",
        )


def curve_of(course: Course) -> Curve:
    """Curve of a course.

    Raises
    ------
    DataError
        If the marrow gives counts on mornings only.
    """
    if course.curve is None:
        raise DataError(
            where="time resolution 'continuous'",
            what="this marrow gives counts on mornings only",
            allowed="'morning', or Visits(days)",
        )
    return course.curve


@lru_cache(maxsize=64)
def _mornings(days: int) -> tuple[Floats, Floats]:
    time = np.arange(days, dtype=np.float64)
    return time, time + 1.0


def observations(
    course: Course, line: str, resolution: Resolution, *, laboratory: bool = False
) -> Observations:
    """Read the counts of a line as mornings or visits see them.

    Parameters
    ----------
    course
        Any.
    line
        ``neutrophils``, ``platelets`` or ``wbc``.
    resolution
        ``"morning"`` or `Visits`.
    laboratory
        Platelets with transfused ones. Visits between mornings see own platelets only.

    Raises
    ------
    DataError
        If a visit is not within the simulated time, or between mornings of a marrow without a
        curve.
    """
    daily = course.laboratory(line) if laboratory else course.own(line)
    if not isinstance(resolution, Visits):
        return Observations(daily, *_mornings(course.days), mornings=True)
    time = np.asarray(resolution.days)
    whole = bool(np.all(time == np.floor(time)))
    last = course.days - 1 if course.curve is None else course.curve.time_h[-1] / 24.0
    if time[0] < 0 or time[-1] > last:
        raise DataError(
            where="visit days",
            what=f"days {time[0]:g} to {time[-1]:g}",
            allowed=f"0 to {last:g} days since the first morning, the simulated time",
            remedy="lengthen the horizon of the simulation",
        )
    until = np.append(time[1:], time[-1])
    if whole and time[-1] < course.days:
        return Observations(daily[:, time.astype(np.int64)], time, until, mornings=False)
    curve = curve_of(course)
    logs = log_count_at(curve.time_h, curve.log_count[line], curve.slope[line], 24.0 * time)
    return Observations(np.exp(logs), time, until, mornings=False)
