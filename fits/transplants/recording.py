"""How counts are recorded and how they scatter: the likelihood of a series given a curve.

A differential is made only where there are leucocytes. The total is that of neutrophils and of
other cells, a constant of the patient, so that a day without a differential says how many there
were. Successive measured counts share their error.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from series import ALWAYS_MEASURED, LATER, MEASURED, NO_CELLS, NO_DIFFERENTIAL, Recorded

Floats = NDArray[np.float64]

OTHER_CELLS = np.array([0.02, 0.08, 0.2, 0.4])
"""Leucocytes other than neutrophils (10^9/L) that a patient may have in aplasia."""

SCATTER, CORRELATION = 0.60, 0.75
"""Scale of the logarithm of counts (Student t, 4 degrees of freedom), and correlation of successive
measured days; maximum likelihood of the 133 series, rounded."""

SCATTER_AHEAD = 0.25
"""The same scale for days about recovery; `SCATTER` holds the saw-tooth of the weeks after, too."""

_FLOOR = 0.02  # added to counts (10^9/L) before the logarithm
_LOG_FEW, _LOG_COUNTED, _WIDTH = np.log(0.11), np.log(0.60), 0.15  # of logistic chances of states
_ANY = 0.06  # chance that the state of a day is any
_STATES = 3
_BACK = np.log(0.475)  # counts are given to 0.1
_FURTHEST = 3.0  # scatters; errors beyond it are not carried to the next day
_T4 = 0.375  # density of Student's t with 4 degrees of freedom at 0
_NO_CELLS, _NO_DIFFERENTIAL, _MEASURED, _ALWAYS = (
    NO_CELLS, NO_DIFFERENTIAL, MEASURED, ALWAYS_MEASURED)  # fmt: skip


@njit(cache=True)
def _logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


@njit(cache=True)
def log_chances(counts: Floats, other_cells: Floats) -> NDArray[np.float32]:
    """Logarithms of the chances of the states of recording.

    Parameters
    ----------
    counts : float[N, days]
        Curves, 10^9/L.
    other_cells : float[U]
        Other leucocytes, 10^9/L.

    Returns
    -------
    float32[N, days, U, 3]
        Of `NO_CELLS`, `NO_DIFFERENTIAL` and `MEASURED`.
    """
    patients, days = counts.shape
    found = np.empty((patients, days, len(other_cells), _STATES), np.float32)
    for i in range(patients):
        for day in range(days):
            for u in range(len(other_cells)):
                total = np.log(counts[i, day] + other_cells[u])
                few = _logistic((_LOG_FEW - total) / _WIDTH)
                counted = _logistic((total - _LOG_COUNTED) / _WIDTH)
                between = max(1.0 - few - counted, 0.0)
                found[i, day, u, _NO_CELLS] = np.log(_ANY / 3.0 + (1.0 - _ANY) * few)
                found[i, day, u, _NO_DIFFERENTIAL] = np.log(_ANY / 3.0 + (1.0 - _ANY) * between)
                found[i, day, u, _MEASURED] = np.log(_ANY / 3.0 + (1.0 - _ANY) * counted)
    return found


def log_likelihood(
    counts: Floats, chances: NDArray[np.float32], seen: Recorded, until: tuple[int, ...]
) -> Floats:
    """Log likelihood of what was recorded up to each of some days.

    Parameters
    ----------
    counts : float[N, days]
        Curves, 10^9/L.
    chances
        `log_chances` of them.
    seen
        The series.
    until
        Days, ascending.

    Returns
    -------
    float[len(until), N, U]
    """
    logs = np.log(seen.counts + _FLOOR)
    return _likelihood(counts, chances, seen.days, seen.kinds, logs, np.array(until, np.int64))


@njit(cache=True)
def _likelihood(counts, chances, days, kinds, logs, until):
    patients, levels = counts.shape[0], chances.shape[2]
    found = np.zeros((len(until), patients, levels))
    follows = SCATTER * np.sqrt(1.0 - CORRELATION * CORRELATION)
    total = np.zeros(levels)
    for i in range(patients):
        total[:] = 0.0
        k, error, last = 0, 0.0, -9
        for stop in range(len(until)):
            while k < len(days) and days[k] <= until[stop]:
                day, kind = days[k], kinds[k]
                if kind != _ALWAYS:
                    for u in range(levels):
                        total[u] += chances[i, day, u, kind]
                if kind >= _MEASURED:
                    now = logs[k] - np.log(counts[i, day] + _FLOOR)
                    scale, expected = SCATTER, 0.0
                    if last == day - 1:
                        scale, expected = follows, CORRELATION * error
                    t = (now - expected) / scale
                    total += np.log(_T4 / scale) - 2.5 * np.log(1.0 + t * t / 4.0)
                    furthest = _FURTHEST * SCATTER
                    error, last = min(max(now, -furthest), furthest), day
                k += 1
            found[stop, i] = total
    return found


@njit(cache=True)
def recovery_draws(curves, other_cells, landmark, start, noise, uniform, scatter):
    """Count draws of the day of recovery after a landmark.

    Parameters
    ----------
    curves : float[R, days]
        A curve for each draw, 10^9/L.
    other_cells : float[R]
        Other leucocytes, 10^9/L.
    landmark
        Last day that is known.
    start
        What is known of it: error of the curves then (``float[R]``), whether there is one, whether
        a day was below 0.5, and the days in a row at 0.5 or more (at most 2) up to it.
    noise, uniform : float[R, days]
        Normal and uniform numbers.
    scatter
        Scale of the logarithm of counts.

    Returns
    -------
    float[LATER + 1]
        Draws by day. Those that had recovered by the landmark are left out.
    """
    errors, measured, was_low, in_a_row = start
    draws, days = curves.shape
    found = np.zeros(LATER + 1)
    follows = scatter * np.sqrt(1.0 - CORRELATION * CORRELATION)
    for i in range(draws):
        error, low, run, recovery, up = errors[i], was_low, in_a_row, LATER, False
        for day in range(landmark + 1, days + 2):
            if day < days:
                if measured or day > landmark + 1:
                    error = CORRELATION * error + follows * noise[i, day]
                else:
                    error = scatter * noise[i, day]
                total = np.log(curves[i, day] + other_cells[i])
                counted = _logistic((total - _LOG_COUNTED) / _WIDTH)
                up = np.log(curves[i, day] + 1e-6) + error >= _BACK
                up = up and uniform[i, day] < _ANY / 3.0 + (1.0 - _ANY) * counted
            run = run + 1 if up else 0
            low = low or not up
            if run >= 3 and low:
                recovery = day - 2
                break
        if recovery > landmark:
            found[min(recovery, LATER)] += 1.0
    return found


def last_error(curves: Floats, seen: Recorded, landmark: int, scatter: float) -> Floats | None:
    """Error of curves on a landmark, ``[R]``; None if no count was measured then.

    Parameters
    ----------
    curves : float[R, days]
        10^9/L.
    seen
        The series.
    landmark
        The day.
    scatter
        Errors are at most three of these.
    """
    known = np.flatnonzero((seen.days == landmark) & (seen.kinds >= MEASURED))
    if not known.size:
        return None
    error = np.log(seen.counts[known[0]] + _FLOOR) - np.log(curves[:, landmark] + _FLOOR)
    return np.clip(error, -_FURTHEST * scatter, _FURTHEST * scatter)


def recorded_draw(
    curve: Floats,
    other_cells: float,
    days: NDArray[np.int64],
    rng: np.random.Generator,
    scatter: float = SCATTER_AHEAD,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw what would be recorded of a curve on some days.

    Parameters
    ----------
    curve : float[days]
        10^9/L.
    other_cells
        Other leucocytes, 10^9/L.
    days : int[D]
        Days of counts.
    rng
        Random numbers.
    scatter
        Scale of the logarithm of counts.

    Returns
    -------
    float[D], bool[D]
        Counts or limits (10^9/L, to 0.1), and which are limits.
    """
    total = np.log(curve[days] + other_cells)
    few = 1.0 / (1.0 + np.exp((total - _LOG_FEW) / _WIDTH))
    counted = 1.0 / (1.0 + np.exp((_LOG_COUNTED - total) / _WIDTH))
    shown = np.empty(len(days))
    error = rng.standard_normal()
    for i, day in enumerate(days):
        shown[i] = np.round(curve[day] * np.exp(scatter * error), 1)
        error = CORRELATION * error + np.sqrt(1.0 - CORRELATION**2) * rng.standard_normal()
    state = rng.random(len(days))
    limited = state >= counted
    limits = np.where(state > 1.0 - few, 0.1, 0.5)
    return np.where(limited, limits, shown), limited
