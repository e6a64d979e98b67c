"""The other half of the mixture: a regression of the hazard of recovery, which knows no marrow.

The log odds of recovery on a day, if it has not come, are linear in the day, the source of the
graft, and what was last recorded; what was last recorded fades with the days since. It is trained
on every landmark of the series given that fall below recovery, with a ridge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from series import LAST_DAY, LATER, RECOVERED, SOURCES, Series

Floats = NDArray[np.float64]

_KNOTS = (9, 12, 18, 26)
"""Days at which the slope of the log odds may change."""

_OWN_SLOPES = ("cord", "BM_unmodified")
_FADING = 2.0  # days in which what was last recorded loses an e-fold of its weight
_MEMORY = 4  # days before a landmark that are looked at
_LEAST, _FEW = 0.05, 0.1  # 10^9/L: below the first logarithms stop; a limit that says no cells
_RIDGE = 1.0


class HazardRegression:
    """Log odds of recovery by day, trained on series."""

    def __init__(self, series: Sequence[Series]) -> None:
        rows, recovered = [], []
        for one in series:
            for landmark in one.landmarks if one.low.any() else ():
                seen = one.outcome if one.outcome is not None else LATER
                last = seen if seen < LATER else min(int(one.days[-1]), LAST_DAY)
                days = np.arange(landmark + 1, last + 1)
                rows.append(_features(one, landmark, days))
                recovered.append(days == one.recovery)
        x, y = np.concatenate(rows), np.concatenate(recovered).astype(float)
        scale = np.where(x.std(axis=0) > 0.0, x.std(axis=0), 1.0)
        x = x / scale
        ridge = np.full(x.shape[1], _RIDGE)
        ridge[0] = 0.0

        def loss(b: Floats) -> tuple[float, Floats]:
            odds = x @ b
            value = np.logaddexp(0.0, odds).sum() - y @ odds + 0.5 * ridge @ b**2
            return value, x.T @ (expit(odds) - y) + ridge * b

        start = np.zeros(x.shape[1])
        best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
        self.coefficients = best.x / scale

    def forecast(self, series: Series, landmark: int) -> Floats:
        """Probability of recovery by day, ``[LATER + 1]``, given the counts up to a landmark."""
        days = np.arange(landmark + 1, LATER)
        hazard = expit(_features(series, landmark, days) @ self.coefficients)
        still = np.cumprod(1.0 - hazard)
        found = np.zeros(LATER + 1)
        found[days] = hazard * np.concatenate([[1.0], still[:-1]])
        found[LATER] = still[-1]
        return found


def _features(series: Series, landmark: int, days: NDArray[np.int64]) -> Floats:
    """Features of days after a landmark, ``[days, features]``; the first is 1."""
    ahead = days - landmark
    fading = np.exp(-(ahead - 1.0) / _FADING)
    no_cells, no_differential, measured, level, rising = _last(series, landmark)
    columns = [np.ones(len(days))]
    columns += [np.full(len(days), float(series.source == s)) for s in SOURCES[1:]]
    columns += [days / 10.0]
    columns += [np.maximum(days - knot, 0) / 10.0 for knot in _KNOTS]
    columns += [(series.source == s) * days / 10.0 for s in _OWN_SLOPES]
    columns += [v * fading for v in (no_cells, no_differential, measured, level, rising)]
    lasting = [np.full(len(days), v) for v in (no_cells, measured)]
    return np.column_stack([*columns, *lasting, np.log(ahead)])


def _last(series: Series, landmark: int) -> tuple[float, float, float, float, float]:
    """Tell what was last recorded: no cells, no differential or measured; its log; its rise."""
    recent = np.flatnonzero((series.days > landmark - _MEMORY - 1) & (series.days <= landmark))
    last = recent[-1]
    count, limited = series.counts[last], series.limited[last]
    if limited:
        return float(count <= _FEW), float(count > _FEW), 0.0, 0.0, 0.0
    rising = False
    if len(recent) > 1:
        before = recent[-2]
        rising = bool(series.limited[before] or series.counts[before] < count)
    return 0.0, 0.0, 1.0, float(np.log(max(count, _LEAST) / RECOVERED)), float(rising)
