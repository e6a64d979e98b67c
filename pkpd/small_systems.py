"""Many small linear systems at once, each with its own end.

NumPy gives up a whole batch where one matrix is singular. Here that one has no answer (NaN), and
the others have theirs: what a search over many subjects needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pkpd.arrays import FloatArray, Floats


def solve_each(matrices: FloatArray, right: FloatArray) -> Floats:
    """Solve ``A x = b`` for each matrix; NaN where it is singular.

    Parameters
    ----------
    matrices : float[..., R, R]
        ``A``.
    right : float[..., R]
        ``b``.

    Returns
    -------
    float[..., R]

    Examples
    --------
    >>> solve_each(np.array([[[2.0]], [[0.0]]]), np.array([[1.0], [1.0]])).tolist()
    [[0.5], [nan]]
    """
    columns = right[..., None]
    return _each(np.linalg.solve, np.shape(columns), matrices, columns)[..., 0]


def inverse_each(matrices: FloatArray) -> Floats:
    """Invert each matrix ``[..., R, R]``; NaN where it is singular.

    Parameters
    ----------
    matrices : float[..., R, R]
        What is inverted.
    """
    return _each(np.linalg.inv, np.shape(matrices), matrices)


def cholesky_each(matrices: FloatArray) -> Floats:
    """Lower Cholesky factor of each matrix; NaN where it is not positive definite.

    Parameters
    ----------
    matrices : float[..., R, R]
        Symmetric matrices.
    """
    return _each(np.linalg.cholesky, np.shape(matrices), matrices)


def root_each(matrices: FloatArray) -> Floats:
    """Return ``L`` with ``L L' = A`` of each covariance, singular ones included.

    The Cholesky factor where there is one; else the eigenvectors, scaled by the roots of their
    eigenvalues, those below zero by rounding taken as zero. NaN where an entry is not finite.

    Parameters
    ----------
    matrices : float[..., R, R]
        Symmetric matrices ``A``.
    """
    out = np.array(cholesky_each(matrices))
    lost = ~np.isfinite(out).all(axis=(-2, -1)) & np.isfinite(matrices).all(axis=(-2, -1))
    if np.any(lost):
        size, axes = np.linalg.eigh(matrices[lost])
        out[lost] = axes * np.sqrt(np.maximum(size, 0.0))[..., None, :]
    return out


def _each(function: Callable[..., Any], shape: tuple[int, ...], *of: FloatArray) -> Floats:
    """Apply a function of NumPy to a batch, or matrix by matrix where it gives the batch up."""
    try:
        return np.asarray(function(*of), dtype=np.float64)
    except np.linalg.LinAlgError:
        out = np.full(shape, np.nan)
    batch = shape[:-2]
    wide = [np.broadcast_to(a, (*batch, *np.shape(a)[-2:])) for a in of]
    for place in np.ndindex(*batch):
        try:
            out[place] = function(*(a[place] for a in wide))
        except np.linalg.LinAlgError:
            continue
    return out
