"""Means and variance components of an outcome of the same patients under every parameter draw.

`pkpd.comparison.uncertainty` says what they are for, and where the estimates come from.
"""

# pyright: reportArgumentType=false
# (Numba gives the kernels their types)
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.errors import DataError
from pkpd.kept_code import kept


@dataclass(frozen=True)
class Crossed:
    """Mean and variance components of a crossed outcome matrix.

    Attributes
    ----------
    by_draw : float[M]
        Mean of each draw over patients, as simulated.
    denoised : float[M]
        The same with the patient noise of each taken out: more of it where few can be judged.
    kept : float
        Share of the variance of a usual draw's mean that is not patient noise.
    draws, patients, residual : float
        Variance components s2a, s2b, s2c; negative estimates are set to 0. ``draws`` is NaN for a
        single draw.
    mc_error : float
        Standard error of the mean for M draws and N patients.
    not_evaluable : int
    """

    mean: float
    by_draw: NDArray[np.float64]
    denoised: NDArray[np.float64]
    kept: float
    draws: float
    patients: float
    residual: float
    mc_error: float
    not_evaluable: int


@dataclass(frozen=True)
class CrossedDays:
    """Whether an event has happened by each of D days: see `Crossed`.

    Attributes
    ----------
    mean, mc_error : float[D]
    denoised : float[D, M]
    """

    mean: NDArray[np.float64]
    denoised: NDArray[np.float64]
    mc_error: NDArray[np.float64]


def crossed(outcome: ArrayLike) -> Crossed:
    """Mean, variance components and Monte Carlo error of an outcome matrix.

    Parameters
    ----------
    outcome : float[M, N] or bool[M, N]
        Draws by patients; NaN = not evaluable.
    """
    y = matrix_of(outcome)
    rows, columns, row_known, column_known = _sums(y)
    _check_known(row_known)
    squares = _squares(y, _mean(rows, row_known, y.size))
    return _of_sums(rows, columns, row_known, column_known, squares)


class CrossedTimes:
    """Times of an event, sorted once by draw and by patient, to be asked about many days.

    Parameters
    ----------
    times : float[M, N]
        Days, infinite where it never happened, NaN = not evaluable.
    """

    def __init__(self, times: NDArray[np.float64]) -> None:
        known = ~np.isnan(times)
        self._row_known, self._column_known = known.sum(axis=1), known.sum(axis=0)
        self._rows = np.sort(times, axis=1)
        self._columns = np.sort(np.ascontiguousarray(times.T), axis=1)

    def by_days(self, days: NDArray[np.float64]) -> CrossedDays:
        """Say whether the event has happened by each of many days."""
        _check_known(self._row_known)
        mean, denoised, error = _by_days(
            self._rows, self._columns, self._row_known, self._column_known, days
        )
        return CrossedDays(mean, denoised, error)

    def reached(self, candidates: NDArray[np.float64], share: float, tail: float) -> float:
        """First candidate by which a fraction of the draws have a share of their patients.

        Parameters
        ----------
        candidates : float[C]
            Days in ascending order.
        share
            Of the patients of a draw, the patient noise taken out of the spread of draws.
        tail
            Fraction of the draws.

        Returns
        -------
        float
            Infinite if none is late enough.
        """
        found = _bisect(
            self._rows, self._columns, self._row_known, self._column_known, candidates, share, tail
        )
        return float(candidates[found]) if found < candidates.size else np.inf


def _mean(rows: NDArray[np.float64], row_known: NDArray[np.int64], size: int) -> float:
    """Mean of known values; that of the draws' means where all are known."""
    known = row_known.sum()
    return float((rows / row_known).mean() if known == size else rows.sum() / known)


def _check_known(row_known: NDArray[np.int64]) -> None:
    if not row_known.all():
        raise DataError(
            where="outcome matrix",
            what="a draw has no evaluable patient",
            remedy="leave that draw out, or simulate more patients",
        )


def _of_sums(
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    row_known: NDArray[np.int64],
    column_known: NDArray[np.int64],
    squares: float,
) -> Crossed:
    """Components from the sums of draws and of patients, and of all squared deviations."""
    _check_known(row_known)
    mean, s2a, s2b, s2c, error, share = _components(rows, columns, row_known, column_known, squares)
    return Crossed(
        mean=float(mean),
        by_draw=rows / row_known,
        denoised=_denoised(rows, row_known, columns.size, s2a, s2c),
        kept=float(share),
        draws=float(s2a),
        patients=float(s2b),
        residual=float(s2c),
        mc_error=float(error),
        not_evaluable=rows.size * columns.size - int(row_known.sum()),
    )


@kept
def _components(
    rows: np.ndarray,
    columns: np.ndarray,
    row_known: np.ndarray,
    column_known: np.ndarray,
    squares: float,
) -> tuple[float, float, float, float, float, float]:
    """Mean, three variance components, standard error, share of draws' variance that is theirs."""
    n_draws, n_patients = rows.size, columns.size
    known = row_known.sum()
    n_missing = n_draws * n_patients - known
    mean = (rows / row_known).mean() if n_missing == 0 else rows.sum() / known
    # of the linearised ratio: deviations of those evaluable, over the share of them
    share = known / (n_draws * n_patients)
    spread_rows = np.sum(((rows - mean * row_known) / (n_patients * share)) ** 2)
    spread_columns = np.sum(((columns - mean * column_known) / (n_draws * share)) ** 2)
    total = squares / share**2
    residual_sum = max(total - n_patients * spread_rows - n_draws * spread_columns, 0.0)
    s2a, s2b, s2c = np.nan, 0.0, 0.0
    if n_draws > 1 and n_patients > 1:
        s2c = residual_sum / ((n_draws - 1) * (n_patients - 1))
        s2a = max(spread_rows / (n_draws - 1) - s2c / n_patients, 0.0)
        s2b = max(spread_columns / (n_patients - 1) - s2c / n_draws, 0.0)
    elif n_draws > 1:
        # one patient: parameters and interaction cannot be told apart
        s2a = spread_rows / (n_draws - 1)
    else:
        s2b = spread_columns / (n_patients - 1) if n_patients > 1 else np.nan
    known_a = 0.0 if np.isnan(s2a) else s2a
    known_b = 0.0 if np.isnan(s2b) else s2b
    error = np.sqrt(known_a / n_draws + known_b / n_patients + s2c / (n_draws * n_patients))
    if total == 0.0 and (mean == 0.0 or mean == 1.0):
        # no event (or nothing but events): the standard deviation of Laplace's posterior
        # Beta(1, N + 1), with the patients counted once because the draws share them
        n = n_patients - n_missing / n_draws
        error = np.sqrt((n + 1.0) / (n + 3.0)) / (n + 2.0)
    spread = known_a + s2c / n_patients
    return mean, s2a, s2b, s2c, error, known_a / spread if spread > 0.0 else 0.0


@kept
def _denoised(
    rows: np.ndarray, row_known: np.ndarray, n_patients: int, s2a: float, s2c: float
) -> np.ndarray:
    """Means of draws moved towards all of them, each by the noise of the patients it judges."""
    n_draws, known = rows.size, row_known.sum()
    # s2a is that of draws that weigh as the mean weighs them, by how many they judge
    between = 0.0 if np.isnan(s2a) else s2a / (n_draws * np.sum((row_known / known) ** 2))
    spread = between + s2c * (known / (n_draws * n_patients)) / row_known
    by_draw = rows / row_known
    weight = np.ones(n_draws)
    for i in range(n_draws):
        if spread[i] > 0.0:
            weight[i] = 1.0 / spread[i]
    centre = np.sum(weight / weight.sum() * by_draw)
    for i in range(n_draws):
        factor = np.sqrt(between / spread[i]) if spread[i] > 0.0 else 0.0
        by_draw[i] = centre + factor * (by_draw[i] - centre)
    return by_draw


@kept
def _happened(sorted_times: np.ndarray, known: np.ndarray, day: float) -> np.ndarray:
    """How many of each row are at most a day; rows in ascending order, unknown ones last."""
    out = np.empty(known.size)
    for i in range(known.size):
        low, high = 0, known[i]
        while low < high:
            middle = (low + high) // 2
            if sorted_times[i, middle] <= day:
                low = middle + 1
            else:
                high = middle
        out[i] = low
    return out


@kept
def _by_days(
    rows: np.ndarray,
    columns: np.ndarray,
    row_known: np.ndarray,
    column_known: np.ndarray,
    days: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By day: mean, means of draws without the noise of patients, standard error."""
    known = row_known.sum()
    denoised = np.empty((days.size, row_known.size))
    mean, error = np.empty(days.size), np.empty(days.size)
    for d in range(days.size):
        by_row = _happened(rows, row_known, days[d])
        by_column = _happened(columns, column_known, days[d])
        events = by_row.sum()
        share = events / known
        squares = events * (1.0 - share) ** 2 + (known - events) * share**2
        mean[d], s2a, _, s2c, error[d], _ = _components(
            by_row, by_column, row_known, column_known, squares
        )
        denoised[d] = _denoised(by_row, row_known, column_known.size, s2a, s2c)
    return mean, denoised, error


@kept
def _bisect(
    rows: np.ndarray,
    columns: np.ndarray,
    row_known: np.ndarray,
    column_known: np.ndarray,
    candidates: np.ndarray,
    share: float,
    tail: float,
) -> int:
    """Place of the first candidate by which a fraction ``tail`` of the draws reached ``share``."""
    low, high = 0, candidates.size
    known = row_known.sum()
    while low < high:
        middle = (low + high) // 2
        by_row = _happened(rows, row_known, candidates[middle])
        by_column = _happened(columns, column_known, candidates[middle])
        events = by_row.sum()
        mean = events / known
        squares = events * (1.0 - mean) ** 2 + (known - events) * mean**2
        _, s2a, _, s2c, _, _ = _components(by_row, by_column, row_known, column_known, squares)
        there = 0
        for one in _denoised(by_row, row_known, column_known.size, s2a, s2c):
            # the tolerance absorbs the rounding of the mean over patients
            if one >= share - 1e-12:
                there += 1
        if there / row_known.size >= tail - 1e-12:
            high = middle
        else:
            low = middle + 1
    return low


def matrix_of(outcome: ArrayLike) -> NDArray[np.float64]:
    """Check an outcome matrix ``[draws, patients]``.

    Raises
    ------
    DataError
        If it is none.
    """
    y = np.asarray(outcome, dtype=np.float64)
    if y.ndim != 2 or y.size == 0:
        raise DataError(
            where="outcome matrix",
            what=f"shape {y.shape}",
            allowed="[draws, patients], at least one of each",
        )
    return y


@kept
def _sums(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sum and count known values by row and by column."""
    n_rows, n_columns = y.shape
    rows, columns = np.zeros(n_rows), np.zeros(n_columns)
    row_known = np.zeros(n_rows, np.int64)
    column_known = np.zeros(n_columns, np.int64)
    for i in range(n_rows):
        total, number = 0.0, 0
        for j in range(n_columns):
            value = y[i, j]
            if np.isnan(value):
                continue
            total += value
            number += 1
            columns[j] += value
            column_known[j] += 1
        rows[i] = total
        row_known[i] = number
    return rows, columns, row_known, column_known


@kept
def _squares(y: np.ndarray, mean: float) -> float:
    """Sum of squared deviations of known values from the mean."""
    total = 0.0
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            value = y[i, j]
            if not np.isnan(value):
                total += (value - mean) ** 2
    return total
