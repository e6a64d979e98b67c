"""The marginal likelihood by importance sampling: what the approximations are to be measured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from pkpd.fitting.maximum.individual_modes import ConditionalDensity, find_modes
from pkpd.small_systems import cholesky_each, inverse_each

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class SampledLikelihood:
    """A marginal likelihood with its Monte Carlo error.

    Attributes
    ----------
    log_likelihood
        All constants included.
    error
        Its Monte Carlo standard error.
    effective : float[B]
        Effective number of draws of each subject.
    """

    log_likelihood: float
    error: float
    effective: FloatArray


def sampled_likelihood(
    density: ConditionalDensity,
    x: FloatArray,
    start: FloatArray | None = None,
    *,
    draws: int = 300,
    degrees: float = 5.0,
    seed: int | None = None,
) -> SampledLikelihood:
    """Integrate the random effects out by importance sampling around the modes.

    Each subject's random effects are drawn from a Student t distribution with its mode and the
    inverse curvature there.

    Parameters
    ----------
    density
        Conditional density with interaction.
    x : float[P]
        Parameters.
    start : float[B, R]
        Standardised random effects near the modes.
    draws
        Draws of every subject; one call of the predictor each.
    degrees
        Degrees of freedom of the proposals.
    seed
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    modes = find_modes(density, x, start, restarts=2)
    n, size = modes.u.shape
    lower = cholesky_each(inverse_each(modes.hessian))
    scale = np.sum(np.log(np.diagonal(lower, axis1=1, axis2=2)), axis=1)
    constant = gammaln((degrees + size) / 2) - gammaln(degrees / 2)
    constant = constant - 0.5 * size * np.log(degrees * np.pi)
    central, weights = density.central(x), []
    for _ in range(draws):
        stretch = np.sqrt(degrees / rng.chisquare(degrees, n))[:, None]
        z = rng.standard_normal((n, size)) * stretch
        u = modes.u + np.einsum("brs,bs->br", lower, z)
        tail = 0.5 * (degrees + size) * np.log1p(np.sum(z**2, axis=1) / degrees)
        posterior = -density.value(x, u, central) - 0.5 * size * np.log(2 * np.pi)
        weights.append(posterior - (constant - scale - tail))
    log_weight = np.nan_to_num(np.array(weights), nan=-np.inf)
    total = logsumexp(log_weight, axis=0)
    share = np.exp(log_weight - total)
    effective = 1.0 / np.sum(share**2, axis=0)
    # variance of the log of a mean of weights, subject by subject
    variance = np.sum(np.maximum(1.0 / effective - 1.0 / draws, 0.0))
    value = float(np.sum(total - np.log(draws)))
    return SampledLikelihood(value, float(np.sqrt(variance)), effective)
