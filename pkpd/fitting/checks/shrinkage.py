"""Shrinkage of random effects and of residuals.

With ``w`` the standard deviation of a random effect in the population, shrinkage is ``1 - sd / w``
of the individual estimates, or ``1 - var / w^2``; that of the residuals ``1 - sd(IWRES)`` (Savic
and Karlsson 2009, AAPS J 11:558-69). Individual estimates are posterior means of a sample and modes
of maximum likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkpd.fitting.checks.residuals import Residuals
from pkpd.fitting.draws import Draws

LARGE = 0.3
"""Shrinkage by standard deviations above which plots of individual estimates mislead."""


@dataclass(frozen=True)
class Shrinkage:
    """Shrinkage by name, as fractions.

    Attributes
    ----------
    sd, variance
        Of each random effect: ``CL``, or ``CL occasion``.
    residual
        Of each line: ``1 - sd(IWRES)``.
    """

    sd: dict[str, float]
    variance: dict[str, float]
    residual: dict[str, float]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What follows for reading plots of individual estimates."""
        many = [f"{name} {100 * v:.0f} %" for name, v in self.sd.items() if v > LARGE]
        out = []
        if many:
            out.append(
                f"Random effects with much shrinkage: {', '.join(many)}; plots of their individual "
                "estimates (against covariates, or each other) show less than there is."
            )
        high = [f"{name} {100 * v:.0f} %" for name, v in self.residual.items() if v > LARGE]
        if high:
            out.append(
                f"Residuals with much shrinkage: {', '.join(high)}; plots of the individual "
                "prediction and IWRES look better than the model is."
            )
        return tuple(out)


def shrinkage(draws: Draws, found: Residuals) -> Shrinkage:
    """Compute the shrinkage of random effects and residuals.

    Parameters
    ----------
    draws
        The fit.
    found
        Its residuals.
    """
    likelihood, values = draws.likelihood, found.values
    model, effects = likelihood.model, likelihood.random_effects
    eta, kappa = effects.split(draws.means[1])
    sd: dict[str, float] = {}
    variance: dict[str, float] = {}

    def add(name: str, estimates: np.ndarray, omega: float) -> None:
        if omega > 0 and len(estimates) > 1:
            ratio = float(np.var(estimates, ddof=1)) / omega**2
            sd[name], variance[name] = 1 - np.sqrt(ratio), 1 - ratio

    seen = likelihood.dataset.observations
    # a subject or an occasion without observations has an estimate of zero, which says nothing
    told = np.unique(seen.subject)
    for i, name in enumerate(model.varying):
        add(name, eta[told, i], values[f"omega_{name}"])
    if effects.n_occasions:
        occasion = likelihood.dataset.occasion
        assert occasion is not None
        pairs = np.unique(
            np.stack([seen.subject, occasion[seen.subject, seen.record]], axis=1), axis=0
        ).astype(int)
        for i, name in enumerate(model.occasional):
            some = kappa[pairs[:, 0], pairs[:, 1], i]
            add(f"{name} occasion", some, values[f"omega_occasion_{name}"])
    residual = {}
    for i, line in enumerate(likelihood.dataset.lines):
        mine = found.iwres[(likelihood.dataset.observations.line == i) & found.measured]
        mine = mine[np.isfinite(mine)]
        if len(mine) > 1:
            residual[line] = 1 - float(np.std(mine, ddof=1))
    return Shrinkage(sd, variance, residual)
