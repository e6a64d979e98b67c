"""Which subjects carry a fit: what would move without each of them.

One Newton step of the objective without a subject moves the estimates by ``H^-1 g``, with ``H`` the
Hessian of all subjects and ``g`` the derivatives of the subject's contribution (Cook 1986, J R Stat
Soc B 48:133-69). Nothing is added for the curvature that leaves with the subject. How far a subject
moves a parameter is compared with what chance does: in the linearised model the derivatives of one
subject's contribution are a linear and a quadratic form of normal numbers,

    s = c'z + z'A z - tr A,

whose first three moments give a gamma distribution (Imhof 1961, Biometrika 48:419-26, compares
such an approximation with the exact one).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.stats

from pkpd.arrays import FloatArray
from pkpd.data.dataset import Dataset
from pkpd.fitting.judge.findings import Finding

RARE = 0.02
"""Share of ordinary studies in which any subject may be named."""
_NOTABLE = 0.5  # standard errors, below which a shift is of no consequence
_NAMED = 3  # subjects


@dataclass(frozen=True, eq=False)
class Linear:
    """The normal distribution of one subject's ``k`` measurements, and how parameters move it.

    Attributes
    ----------
    covariance : float[k, k]
        Of the measurements, random effects and residual error together.
    mean_by : float[k, P]
        Derivative of their mean by the parameters.
    covariance_by : float[P, k, k]
        Derivative of ``covariance``.
    """

    covariance: FloatArray
    mean_by: FloatArray
    covariance_by: FloatArray

    def moments(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Variance and third moment of ``weights[Q, P]`` times the derivatives, ``[Q]`` each.

        The derivatives are those of the subject's log-likelihood.
        """
        lower = np.linalg.cholesky(self.covariance)
        linear = np.linalg.solve(lower, self.mean_by) @ weights.T
        inner = np.linalg.solve(lower, self.covariance_by)
        inner = 0.5 * np.linalg.solve(lower, inner.swapaxes(1, 2))
        square = np.einsum("qp,pjk->qjk", weights, inner)
        twice = square @ square
        variance = np.sum(linear**2, axis=0) + 2 * np.einsum("qjj->q", twice)
        third = 6 * np.einsum("jq,qjk,kq->q", linear, square, linear)
        return variance, third + 8 * np.einsum("qjk,qkj->q", twice, square)


def shifts(observed: FloatArray, scores: FloatArray) -> FloatArray:
    """Move the estimates by leaving out each subject, in standard errors, ``[B, P]``.

    Parameters
    ----------
    observed : float[P, P]
        Covariance of the estimates: twice the inverse Hessian of the objective.
    scores : float[B, P]
        Derivatives of each subject's contribution to the objective.
    """
    spread = np.sqrt(np.diag(observed))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 0.5 * scores @ observed / spread


def chances(moved: FloatArray, observed: FloatArray, linear: Iterable[Linear]) -> FloatArray:
    """Chance of each shift or a longer one of its sign, ``[B, P]``, if the model is true.

    Parameters
    ----------
    moved : float[B, P]
        See `shifts`.
    observed : float[P, P]
        Covariance of the estimates.
    linear
        Of each subject.
    """
    out = np.full(moved.shape, np.nan)
    used = np.flatnonzero(np.diag(observed) > 0)
    spread = np.sqrt(np.diag(observed)[used])
    weights = -observed[used] / spread[:, None]
    for b, one in enumerate(linear):
        if not (len(one.covariance) and np.all(np.isfinite(one.covariance_by))):
            continue
        try:
            variance, third = one.moments(weights)
        except np.linalg.LinAlgError:
            continue
        out[b, used] = _tail(moved[b, used], variance, third)
    return out


def _tail(value: FloatArray, variance: FloatArray, third: FloatArray) -> FloatArray:
    """Chance of a value or one further out on its side, of a shifted gamma distribution.

    On the short side, where the gamma distribution ends and the other does not quite, that of a
    normal one, which is longer than both.
    """
    sd = np.sqrt(np.maximum(variance, 1e-300))
    sign = np.where(value < 0, -1.0, 1.0)
    skew, standard = sign * third / sd**3, np.abs(value) / sd
    return np.asarray(scipy.stats.pearson3.sf(standard, np.where(skew < 1e-4, 0.0, skew)))


def of_study(each: FloatArray) -> FloatArray:
    """Chance that any subject of the study moves any parameter so far, by subject, ``[B]``."""
    known = np.isfinite(each)
    least = np.min(np.where(known, each, 1.0), axis=1, initial=1.0)
    tries = 2.0 * int(known.sum())  # shifts have two sides
    return np.where(known.any(axis=1), np.minimum(1.0, tries * least), np.nan)


def carried(
    data: Dataset, names: tuple[str, ...], moved: FloatArray, each: FloatArray
) -> list[Finding]:
    """Name the subjects whose shifts chance hardly makes."""
    rare = of_study(each)
    notable = (np.abs(moved) > _NOTABLE) & (2.0 * np.isfinite(each).sum() * each < RARE)
    places = np.flatnonzero(notable.any(axis=1))
    out = []
    for b in places[np.argsort(rare[places], kind="stable")][:_NAMED]:
        which = np.flatnonzero(notable[b])
        which = which[np.argsort(-np.abs(moved[b, which]))][:3]
        told = [f"{names[i]} by {moved[b, i]:+.1f}" for i in which]
        rows = data.events.numbers[np.sort(data.observations.row[data.observations.subject == b])]
        often, span = _share(float(rare[b])), f"row {rows[0]}"
        span = span if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"
        label = str(data.subjects[b])
        out.append(
            Finding(
                "carried by a subject",
                "doubtful",
                f"Subject {label} ({span}) carries the fit: without it {', '.join(told)} standard "
                f"errors, as one subject does in {often} of studies of this model.",
                "Look at its records, and fit without it.",
                tuple(names[i] for i in which),
                (label,),
            )
        )
    return out


def _share(chance: float) -> str:
    return f"{chance:.1%}" if chance >= 1e-3 else "fewer than 0.1%"
