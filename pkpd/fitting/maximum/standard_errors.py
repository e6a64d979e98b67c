"""Standard errors of maximum likelihood estimates, and what to be told about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Covariance = Literal["observed", "sandwich", "scores"]

_STEP = 0.1  # of differences, in standard errors as guessed
_SHARE = 0.2  # longest difference as a share of the longest step of a search
UNINFORMED = 1e-2
"""Curvature of the objective along a log scale below which data do not inform a parameter: its
standard error would be a factor of more than e^10."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Curvature of the objective at its minimum.

    Attributes
    ----------
    covariance : float[P, P]
        Covariance of ``x``; NaN in rows and columns of parameters left out.
    hessian : float[P, P]
        Hessian of the objective.
    scores : float[B, P]
        Derivatives of each subject's contribution.
    used : bool[P]
        Parameters that entered.
    positive
        Whether the Hessian of those is positive definite.
    condition
        Ratio of the largest to the smallest eigenvalue of their correlation matrix.
    """

    covariance: FloatArray
    hessian: FloatArray
    scores: FloatArray
    used: NDArray[np.bool_]
    positive: bool
    condition: float


def uncertainty(
    evaluate: Callable[[FloatArray, Any], Any],
    gradient: Callable[[Any], FloatArray],
    by_subject: Callable[[Any], FloatArray],
    at: Any,
    guess: FloatArray,
    usable: NDArray[np.bool_],
    longest: FloatArray,
    kind: Covariance = "observed",
    report: Callable[[int, int], None] | None = None,
) -> Uncertainty:
    """Work out the covariance of the estimates.

    Parameters
    ----------
    evaluate, gradient
        As for `pkpd.fitting.maximum.search.minimise`.
    by_subject
        Contributions to the objective of an evaluated point, ``[B]``.
    at
        The minimum.
    guess : float[P, P]
        A Hessian for the length of differences.
    usable : bool[P]
        Parameters to enter; others are held (at a bound).
    longest : float[P]
        Longest sensible change of each parameter; infinite where the scale has no natural unit.
    kind
        ``"observed"``: twice the inverse Hessian ``H`` of the objective. ``"scores"``: the inverse
        of ``S``, the sum of products of each subject's derivatives of its log-likelihood.
        ``"sandwich"``: ``(H/2)^-1 S (H/2)^-1``, which NONMEM prints by default.
    report
        Called with the number of a parameter and how many there are.
    """
    size = len(at.x)
    hessian = np.full((size, size), np.nan)
    scores = np.zeros((len(by_subject(at)), size))
    used = usable.copy()
    places = np.flatnonzero(usable)
    for k, i in enumerate(places, start=1):
        if report is not None:
            report(k, len(places))
        h = min(_SHARE * longest[i], _STEP * np.sqrt(2.0 / max(abs(guess[i, i]), 1e-12)))
        shift = h * np.eye(size)[i]
        up, down = evaluate(at.x + shift, at), evaluate(at.x - shift, at)
        if not (np.isfinite(up.value) and np.isfinite(down.value)):
            used[i] = False
            continue
        hessian[:, i] = (gradient(up) - gradient(down)) / (2 * h)
        scores[:, i] = (by_subject(up) - by_subject(down)) / (2 * h)
    least = np.where(np.isfinite(longest), UNINFORMED, 0.0)
    used &= np.nan_to_num(np.diag(hessian), nan=0.0) > least
    hessian = 0.5 * (hessian + hessian.T)
    covariance = np.full((size, size), np.nan)
    part = np.ix_(used, used)
    finite = bool(np.all(np.isfinite(hessian[part])) and np.all(np.isfinite(scores[:, used])))
    curve = np.full(1, 1.0 if finite else -np.inf)
    if finite and used.any():
        curve = np.linalg.eigvalsh(_scaled(hessian[part]))
    positive, condition = bool(curve[0] > 1e-10), np.inf
    if positive and used.any():
        observed = 2.0 * np.linalg.inv(hessian[part])
        # derivatives of the log-likelihood are minus half those of the objective
        product = 0.25 * scores[:, used].T @ scores[:, used]
        if kind == "observed":
            covariance[part] = observed
        elif kind == "sandwich":
            covariance[part] = observed @ product @ observed
        else:
            covariance[part] = np.linalg.pinv(product)
        spectrum = np.linalg.eigvalsh(_scaled(covariance[part]))
        condition = float(spectrum[-1] / max(spectrum[0], 1e-300))
    return Uncertainty(covariance, hessian, scores, used, positive, condition)


def _scaled(matrix: FloatArray) -> FloatArray:
    """Return a matrix with its rows and columns divided by the roots of its diagonal."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    return matrix / np.outer(scale, scale)
