"""Pareto-smoothed importance weights by ArviZ, of which its statistics alone are imported."""

from __future__ import annotations

import numpy as np

from pkpd.arrays import Floats

LIMIT = (
    0.7  # of k-hat; above it the weights are not to be trusted (Vehtari et al., JMLR 2024;25:72)
)

BOUNDED = 3.0
"""Times the mean of weights."""


def smoothed_weights(log_weights: Floats) -> tuple[Floats, float]:
    """Smooth importance weights by a generalised Pareto fit of their tail.

    Parameters
    ----------
    log_weights : float[N]
        Log of raw weights; -inf is 0.

    Returns
    -------
    weights : float[N]
        Sum to 1.
    khat : float
        Shape of the tail.

    Notes
    -----
    Equal weights have no tail; their k-hat is -inf, as there is nothing to fear. Where so many are
    alike that there is no tail to fit they stay as they are. Weights none of which is above
    `BOUNDED` times their mean have a bounded tail, whose shape is at most 0: of weights that hardly
    differ the fit may say anything.
    """
    from arviz_stats.base import array_stats  # imports the statistics of SciPy

    finite = np.isfinite(log_weights)
    if not finite.any():
        return np.full(log_weights.size, np.nan), np.inf
    if np.ptp(log_weights[finite]) < 1e-12 and finite.all():
        return np.full(log_weights.size, 1.0 / log_weights.size), -np.inf
    lowest = log_weights[finite].min() - 700.0
    plain = np.where(finite, log_weights, lowest)
    # weights that differ by hundreds become 0; many alike have no tail to fit
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        try:
            smoothed, khat = array_stats.psislw(-plain)
        except ValueError:  # the largest are all the same
            smoothed, khat = np.array(np.nan), np.inf
    if np.isnan(smoothed).any():
        smoothed, khat = plain - plain.max(), np.inf
    weights = np.where(finite, np.exp(np.asarray(smoothed, dtype=np.float64)), 0.0)
    weights = weights / weights.sum()
    bounded = weights.max() * weights.size <= BOUNDED
    return weights, min(float(khat), 0.0) if bounded else float(khat)
