"""Standard errors of maximum likelihood estimates, and what to be told about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray

Covariance = Literal["observed", "sandwich", "scores"]

_STEP = 0.1  # of differences, in standard errors as guessed
_SHARE = 0.2  # longest difference as a share of the longest step of a search
_LEFT = 0.25  # of the correction of an extrapolation, that it may still be wrong by
_HALVINGS = 3  # of a difference, while curvature is negative or doubles over twice its length
_BEND = 3.0  # second derivative of a ridge on the scales of the search, which are about logarithms
_NO_CURVATURE = 1e-10  # beside a unit diagonal
_PART = 0.01  # least share of a parameter's own variation that lies along flat directions
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
    observed : float[P, P]
        Twice the inverse of the Hessian without its flat directions: the covariance of kind
        ``"observed"`` before anything is left out. Zero in rows and columns of parameters that did
        not enter; NaN if the Hessian is not positive definite.
    used : bool[P]
        Parameters that entered.
    positive
        Whether the Hessian of those is positive definite.
    condition
        Ratio of the largest to the smallest eigenvalue of their correlation matrix.
    flat : float[K, P]
        Directions along which the objective is flat, as far as its curvature is known: unit vectors
        in the scale of ``x`` times the roots of the Hessian's diagonal.
    """

    covariance: FloatArray
    hessian: FloatArray
    scores: FloatArray
    observed: FloatArray
    used: NDArray[np.bool_]
    positive: bool
    condition: float
    flat: FloatArray

    @property
    def bent(self) -> NDArray[np.bool_]:
        """Parameters along which the objective falls away or jumps: it has no minimum, ``[P]``."""
        along = np.diag(self.hessian)
        return ~self.used & np.isfinite(along) & (along < -UNINFORMED)

    @property
    def not_told(self) -> NDArray[np.bool_]:
        """Parameters that take part in a flat direction, ``[P]``: there is no standard error."""
        return np.sum(self.flat**2, axis=0) > _PART


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
    hessian, error = np.full((size, size), np.nan), np.zeros((size, size))
    scores = np.zeros((len(by_subject(at)), size))
    used = usable.copy()
    places = np.flatnonzero(usable)
    for k, i in enumerate(places, start=1):
        if report is not None:
            report(k, len(places))
        h = min(_SHARE * longest[i], _STEP * np.sqrt(2.0 / max(abs(guess[i, i]), 1e-12)))
        columns, slopes = _differences(evaluate, gradient, by_subject, at, int(i), h)
        if not columns:
            used[i] = False
            continue
        scores[:, i] = slopes
        # Richardson: the error of a central difference goes with the square of its step
        bend = (columns[0] - columns[-1]) / 3.0
        hessian[:, i], error[:, i] = columns[0] + bend, np.abs(bend)
    least = np.where(np.isfinite(longest), UNINFORMED, 0.0)
    used &= np.nan_to_num(np.diag(hessian), nan=0.0) > least
    # what differs across the diagonal is error too; of truncation a sixteenth is left by theory
    error = np.abs(hessian - hessian.T) + _LEFT * (error + error.T)
    hessian = 0.5 * (hessian + hessian.T)
    flat, part = np.zeros((0, size)), np.ix_(used, used)
    observed = np.full((size, size), np.nan)
    inverse, scale = np.zeros((0, 0)), np.zeros(0)
    finite = bool(np.all(np.isfinite(hessian[part])) and np.all(np.isfinite(scores[:, used])))
    positive, condition = finite, np.inf
    if finite and used.any():
        scale = np.sqrt(np.diag(hessian)[used])
        curve, axes = np.linalg.eigh(hessian[part] / np.outer(scale, scale))
        # what is left of the gradient bends a ridge that is no straight line
        error += np.diag(_BEND * np.abs(gradient(at)))
        share = np.abs(axes)
        doubt = np.einsum("ik,ij,jk->k", share, error[part] / np.outer(scale, scale), share)
        level = np.abs(curve) < np.maximum(doubt, _NO_CURVATURE)
        positive = bool(np.all(level | (curve > 0)) and not np.all(level))
        flat = np.zeros((int(level.sum()), size))
        flat[:, used] = axes[:, level].T
        told = axes[:, ~level]
        inverse = told / np.where(curve[~level] > 0, curve[~level], np.nan) @ told.T
    lost = np.sum(flat**2, axis=0) > _PART
    if positive and used.any():
        observed = np.zeros((size, size))
        observed[part] = 2.0 * inverse / np.outer(scale, scale)
    covariance = covariance_by(kind, observed, scores, used & ~lost)
    if positive and used.any() and not len(flat):
        spectrum = np.linalg.eigvalsh(_scaled(covariance[part]))
        condition = float(spectrum[-1] / max(spectrum[0], 1e-300))
    return Uncertainty(covariance, hessian, scores, observed, used, positive, condition, flat)


def _differences(
    evaluate: Callable[[FloatArray, Any], Any],
    gradient: Callable[[Any], FloatArray],
    by_subject: Callable[[Any], FloatArray],
    at: Any,
    i: int,
    h: float,
) -> tuple[list[FloatArray], FloatArray]:
    """Differentiate the gradient and contributions of subjects by parameter ``i``.

    Returns
    -------
    tuple
        Central differences of the gradient, of a step and twice that; fewer where the objective is
        not finite. Those of each subject's contribution, of the step. The step is ``h`` or, where
        the objective is no parabola over ``2 h`` (a subject's mode may jump), a part of it: an
        eighth at least.
    """
    columns: list[FloatArray] = []
    slopes = np.zeros(len(by_subject(at)))
    for step in (h, 2 * h, *(h / 2.0**k for k in range(1, _HALVINGS + 1))):
        if len(columns) == 2:
            near, far = columns[0][i], columns[1][i]
            alike = abs(far - near) <= max(abs(near), UNINFORMED)
            if alike and near > -UNINFORMED:
                break
            columns.pop()
        shift = step * np.eye(len(at.x))[i]
        up, down = evaluate(at.x + shift, at), evaluate(at.x - shift, at)
        if not (np.isfinite(up.value) and np.isfinite(down.value)):
            break
        column = (gradient(up) - gradient(down)) / (2 * step)
        if step > h:
            columns.append(column)
            continue
        columns.insert(0, column)
        slopes = (by_subject(up) - by_subject(down)) / (2 * step)
    return columns, slopes


def covariance_by(
    kind: Covariance, observed: FloatArray, scores: FloatArray, told: NDArray[np.bool_]
) -> FloatArray:
    """Return the covariance of the estimates by one of three formulas, ``[P, P]``.

    Parameters
    ----------
    kind
        See `uncertainty`.
    observed : float[P, P]
        As of `Uncertainty`.
    scores : float[B, P]
        Derivatives of each subject's contribution to the objective.
    told : bool[P]
        Parameters that the data tell; the others are NaN.
    """
    used = np.diag(observed) > 0  # false where the Hessian is not positive definite
    part, out = np.ix_(used, used), np.full(observed.shape, np.nan)
    # derivatives of the log-likelihood are minus half those of the objective
    product = 0.25 * scores[:, used].T @ scores[:, used]
    if kind == "observed":
        out[part] = observed[part]
    elif kind == "sandwich":
        out[part] = observed[part] @ product @ observed[part]
    elif used.any():
        out[part] = np.linalg.pinv(product)
    out[~told], out[:, ~told] = np.nan, np.nan
    return out


def _scaled(matrix: FloatArray) -> FloatArray:
    """Return a matrix with its rows and columns divided by the roots of its diagonal."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    return matrix / np.outer(scale, scale)
