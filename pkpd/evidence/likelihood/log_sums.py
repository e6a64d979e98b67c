"""Sums of numbers that are kept as logarithms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_sum(x: Floats, axis: int = -1) -> Floats:
    """``log(sum(exp(x)))`` along an axis; -inf where all terms are.

    Faster on small arrays than the general function of SciPy, which checks array types and weights.
    """
    top = np.max(x, axis=axis, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.sum(np.exp(x - safe), axis=axis, keepdims=True))
    return np.squeeze(total + safe, axis=axis)
