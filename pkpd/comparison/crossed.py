"""Means and variance components of an outcome of the same patients under every parameter draw.

`pkpd.comparison.uncertainty` says what they are for, and where the estimates come from.
"""

# pyright: reportArgumentType=false
# (Numba gives the kernels their types)
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from pkpd.errors import DataError, sentence


@dataclass(frozen=True)
class Crossed:
    """Mean and variance components of a crossed outcome matrix.

    Attributes
    ----------
    by_draw : float[M]
        Mean of each draw over patients, as simulated.
    denoised : float[M]
        The same with the patient noise taken out of their spread.
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
    draws: float
    patients: float
    residual: float
    mc_error: float
    not_evaluable: int


def crossed(outcome: ArrayLike) -> Crossed:
    """Mean, variance components and Monte Carlo error of an outcome matrix.

    Parameters
    ----------
    outcome : float[M, N] or bool[M, N]
        Draws by patients; NaN = not evaluable.
    """
    return _crossed(matrix_of(outcome), np.nan)


def crossed_by(times: NDArray[np.float64], day: float) -> Crossed:
    """Give the same for whether an event has happened by a day.

    Parameters
    ----------
    times : float[M, N]
        Days, infinite where it never happened, NaN = not evaluable.
    day
        An event on this day has happened.
    """
    return _crossed(times, day)


def _crossed(y: NDArray[np.float64], by: float) -> Crossed:
    n_draws, n_patients = y.shape
    rows, columns, row_known, column_known = _sums(y, by)
    known = int(row_known.sum())
    n_missing = y.size - known
    if not row_known.all():
        raise DataError(
            sentence(
                where="outcome matrix",
                what="a draw has no evaluable patient",
                remedy="leave that draw out, or simulate more patients",
            )
        )
    by_draw = rows / row_known
    mean = by_draw.mean() if n_missing == 0 else rows.sum() / known
    # of the linearised ratio: deviations of those evaluable, over the share of them
    share = known / y.size
    spread_rows = np.sum(((rows - mean * row_known) / (n_patients * share)) ** 2)
    spread_columns = np.sum(((columns - mean * column_known) / (n_draws * share)) ** 2)
    total = _squares(y, by, mean) / share**2
    residual_sum = max(total - n_patients * spread_rows - n_draws * spread_columns, 0.0)
    s2a, s2b = np.nan, 0.0
    if n_draws > 1 and n_patients > 1:
        s2c = residual_sum / ((n_draws - 1) * (n_patients - 1))
        s2a = max(spread_rows / (n_draws - 1) - s2c / n_patients, 0.0)
        s2b = max(spread_columns / (n_patients - 1) - s2c / n_draws, 0.0)
    elif n_draws > 1:
        # one patient: parameters and interaction cannot be told apart
        s2a, s2c = spread_rows / (n_draws - 1), 0.0
    else:
        s2c = 0.0
        s2b = spread_columns / (n_patients - 1) if n_patients > 1 else np.nan
    known_a, known_b = np.nan_to_num(s2a), np.nan_to_num(s2b)
    error = np.sqrt(known_a / n_draws + known_b / n_patients + s2c / (n_draws * n_patients))
    if total == 0.0 and mean in (0.0, 1.0):
        # no event (or nothing but events): the standard deviation of Laplace's posterior
        # Beta(1, N + 1), with the patients counted once because the draws share them
        n = n_patients - n_missing / n_draws
        error = np.sqrt((n + 1.0) / (n + 3.0)) / (n + 2.0)
    spread = known_a + s2c / n_patients
    factor = np.sqrt(known_a / spread) if spread > 0.0 else 0.0
    centre = by_draw.mean()
    return Crossed(
        mean=float(mean),
        by_draw=by_draw,
        denoised=centre + factor * (by_draw - centre),
        draws=float(s2a),
        patients=float(s2b),
        residual=float(s2c),
        mc_error=float(error),
        not_evaluable=n_missing,
    )


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
            sentence(
                where="outcome matrix",
                what=f"shape {y.shape}",
                allowed="[draws, patients], at least one of each",
            )
        )
    return y


@njit(nogil=True, error_model="numpy", cache=True)
def _sums(y: np.ndarray, by: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sum and count known values by row and by column; of ``y <= by`` if ``by`` is known."""
    n_rows, n_columns = y.shape
    as_event = not np.isnan(by)
    rows, columns = np.zeros(n_rows), np.zeros(n_columns)
    row_known = np.zeros(n_rows, np.int64)
    column_known = np.zeros(n_columns, np.int64)
    for i in range(n_rows):
        total, number = 0.0, 0
        for j in range(n_columns):
            value = y[i, j]
            if np.isnan(value):
                continue
            if as_event:
                value = 1.0 if value <= by else 0.0
            total += value
            number += 1
            columns[j] += value
            column_known[j] += 1
        rows[i] = total
        row_known[i] = number
    return rows, columns, row_known, column_known


@njit(nogil=True, error_model="numpy", cache=True)
def _squares(y: np.ndarray, by: float, mean: float) -> float:
    """Sum of squared deviations of known values from the mean."""
    as_event = not np.isnan(by)
    total = 0.0
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            value = y[i, j]
            if np.isnan(value):
                continue
            if as_event:
                value = 1.0 if value <= by else 0.0
            total += (value - mean) ** 2
    return total
