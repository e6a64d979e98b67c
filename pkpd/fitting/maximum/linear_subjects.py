"""What the linearised model expects of each subject's measurements at the end of a fit."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from pkpd.fitting.judge.influence import Linear
from pkpd.fitting.maximum.marginal import Evaluated
from pkpd.fitting.maximum.start import MixedModel

_DIFFERENCE = 1e-4  # of differences by parameters, on their scales without bounds


def linear_subjects(mixed: MixedModel, at: Evaluated) -> Iterator[Linear]:
    """Linearise at the modes, and give the normal distribution of each subject's measurements.

    Values beyond a limit count as measured, errors of Student's t as normal ones of its scale. Of
    residual errors that are correlated, or given by the structure, nothing comes.

    Parameters
    ----------
    mixed
        The linearised model.
    at
        The end of a fit.
    """
    density, x = mixed.marginal.density, at.x
    likelihood, free = density.likelihood, density.free
    seen = likelihood.dataset.observations
    if density.located != ("typical", "effect"):
        return
    linear = mixed.linearise(at)
    f, size = linear.f, len(x)
    by_x = np.zeros((len(f), size))
    by_x[:, mixed.located] = linear.x
    sd = jax.jit(lambda point, values: likelihood.residual_sd(free.fixed(point), values))
    moved, omegas = [], []
    for h in _DIFFERENCE * np.eye(size):
        ends = [(x + sign * h, f + sign * _DIFFERENCE * by_x @ (h > 0)) for sign in (1.0, -1.0)]
        up, down = (np.asarray(sd(*end)) ** 2 for end in ends)
        moved.append((up - down) / (2 * _DIFFERENCE))
        up, down = (mixed.covariance(end[0]) for end in ends)
        omegas.append((up - down) / (2 * _DIFFERENCE))
    residual, by_residual = np.asarray(sd(x, f)) ** 2, np.stack(moved)
    omega, by_omega = mixed.covariance(x), np.stack(omegas)
    # d log f: the error of these rows is on the log scale
    stretch = np.where(density.rows["logarithmic"], np.where(f > 0, f, 1.0), 1.0)[:, None]
    z, by_x = linear.z / stretch, by_x / stretch
    order = np.argsort(seen.subject, kind="stable")
    for mine in np.split(
        order, np.cumsum(np.bincount(seen.subject, minlength=len(at.by_subject)))[:-1]
    ):
        own = z[mine]
        slopes = own @ by_omega @ own.T
        slopes[:, np.arange(len(mine)), np.arange(len(mine))] += by_residual[:, mine]
        yield Linear(own @ omega @ own.T + np.diag(residual[mine]), by_x[mine], slopes)
