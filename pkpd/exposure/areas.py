"""Areas under points of a curve, and the slope of its end.

The rules are those of Gabrielsson and Weiner, Pharmacokinetic and Pharmacodynamic Data Analysis,
5th edition 2016, as Phoenix WinNonlin and PKNCA have them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pkpd.arrays import Floats

TIE = 1e-4
"""Adjusted R^2 within which the slope with more points is taken."""


class Slope(NamedTuple):
    """Terminal slope: all NaN and 0 points where there is none.

    Attributes
    ----------
    rate
        1/h, above 0.
    intercept
        Logarithm of the concentration that the line has at time 0.
    points
        Number of points it rests on.
    r2_adjusted
        Of the regression of the logarithms.
    begin
        Time of its first point, h.
    """

    rate: float
    intercept: float
    points: int
    r2_adjusted: float
    begin: float

    def at(self, time: float) -> float:
        """Concentration on the line."""
        return float(np.exp(self.intercept - self.rate * time))


NO_SLOPE = Slope(np.nan, np.nan, 0, np.nan, np.nan)


def areas(time: Floats, level: Floats, *, log_down: bool = True) -> tuple[Floats, Floats]:
    """Area and first moment between neighbouring points.

    Parameters
    ----------
    time, level
        Hours, ascending, and concentrations, ``[n]``.
    log_down
        Whether the curve falls exponentially between points that fall (linear-up log-down); a
        straight line otherwise, and always where a point is 0.

    Returns
    -------
    area, moment
        Integrals of ``C`` and of ``t C``, ``[n - 1]``.
    """
    a, b, t, u = level[:-1], level[1:], time[:-1], time[1:]
    step = u - t
    area, moment = step * (a + b) / 2.0, step * (t * a + u * b) / 2.0
    falls = log_down & (b < a) & (b > 0.0) & (step > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # a - b has no error where both are alike, and their quotient all of its digits
        rate = np.log1p((a - b) / b) / step
        exponential = (a - b) / rate
        since = np.where(
            rate * step > 1e-5, (exponential - step * b) / rate, step**2 * (a + 2.0 * b) / 6.0
        )
        of_moment = t * exponential + since
    return np.where(falls, exponential, area), np.where(falls, of_moment, moment)


def level_at(
    time: Floats, level: Floats, at: float, slope: Slope, *, log_down: bool, onward: float
) -> float:
    """Concentration between the points, or on the terminal slope from ``onward`` after them."""
    if at > time[-1]:
        return 0.0 if onward == 0.0 else float(onward * np.exp(-slope.rate * (at - time[-1])))
    after = int(np.searchsorted(time, at))
    if time[after] == at or after == 0:
        return float(level[after])
    a, b = level[after - 1], level[after]
    share = (at - time[after - 1]) / (time[after] - time[after - 1])
    if log_down and 0.0 < b < a:
        return float(a * (b / a) ** share)
    return float(a + share * (b - a))


def area_between(
    time: Floats,
    level: Floats,
    begin: float,
    end: float,
    slope: Slope,
    *,
    log_down: bool,
    onward: float,
) -> tuple[float, float]:
    """Area and first moment of an interval; after the last point the terminal slope goes on.

    Parameters
    ----------
    time, level, log_down
        As of `areas`.
    begin, end
        Hours; ``begin`` not before the first point.
    slope
        Terminal slope; without one the result is NaN where ``end`` is after the last point.
    onward
        Concentration at the last point that the terminal slope goes on from.
    """
    last, parts = time[-1], np.zeros(2)

    def at(t: float) -> float:
        return level_at(time, level, t, slope, log_down=log_down, onward=onward)

    if begin < last:
        stop = min(end, last)
        points = np.unique([begin, *time[(time > begin) & (time < stop)], stop])
        values = np.array([at(float(t)) for t in points])
        parts += [part.sum() for part in areas(points, values, log_down=log_down)]
    if end > last and onward != 0.0:
        # beyond the last point the curve falls exponentially, whatever the rule; the concentration
        # at the end may be too small for a number, its fall is not
        start = max(begin, last)
        value, fall = onward if start == last else at(start), slope.rate * (end - start)
        area = value * -np.expm1(-fall) / slope.rate
        since = (area - value * (end - start) * np.exp(-fall)) / slope.rate
        if fall < 1e-5:  # the difference has no digits
            since = value * (end - start) ** 2 * (0.5 - fall / 3.0)
        parts += [area, start * area + since]
    return float(parts[0]), float(parts[1])


def terminal_slope(time: Floats, level: Floats, least: int = 3) -> Slope:
    """Slope of the last points, chosen by the best adjusted R^2.

    Of all sets of the last ``least`` points and more, the one with the largest adjusted R^2 is
    taken; of those within 1e-4 of it the one with the most points (Phoenix WinNonlin, PKNCA).

    Parameters
    ----------
    time, level
        Measurable points that may be taken, ``[n]``, hours ascending.
    least
        Fewest points, 3 or more.
    """
    found = []
    for n in range(least, len(time) + 1):
        t, y = time[-n:], np.log(level[-n:])
        centred = t - t.mean()
        gradient = np.dot(centred, y) / np.dot(centred, centred)
        total = np.sum((y - y.mean()) ** 2)
        if not gradient < 0.0:
            continue
        r2 = gradient**2 * np.dot(centred, centred) / total
        adjusted = 1.0 - (1.0 - r2) * (n - 1) / (n - 2)
        intercept = y.mean() - gradient * t.mean()
        found.append(Slope(-gradient, intercept, n, adjusted, float(t[0])))
    best = max((s.r2_adjusted for s in found), default=np.nan)
    near = [s for s in found if best - s.r2_adjusted < TIE]
    return max(near, key=lambda s: s.points, default=NO_SLOPE)
