"""What a search minimises: the approximate likelihood and the penalty of priors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood
from pkpd.fitting.maximum.penalty import PriorPenalty


@dataclass(eq=False)
class Place:
    """An evaluated point with its penalty."""

    x: FloatArray
    value: float
    at: Evaluated
    slope_of_prior: FloatArray


@dataclass(eq=False)
class Problem:
    """Objective plus penalty, counting calls of the predictor."""

    marginal: MarginalLikelihood
    penalty: PriorPenalty | None
    evaluations: int = 0
    renewals: int = 0
    fallen: dict[int, float] = field(default_factory=dict)
    """Fall of the objective by better modes, by subject."""

    def prior(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Penalty of single priors and its gradient ``[P]``; zero without them."""
        return (0.0, np.zeros(len(x))) if self.penalty is None else self.penalty(x)

    @property
    def penalised(self) -> bool:
        """Whether there is any prior."""
        return self.penalty is not None or self.marginal.likelihood.model.joint is not None

    def slope_of_priors(self, x: FloatArray) -> FloatArray:
        """Gradient of the penalties of all priors, ``[P]``."""
        return self.prior(x)[1] + self.marginal.prior(x)[1]

    def point(self, at: Evaluated) -> Place:
        """Add the penalty to what was evaluated."""
        value, slope = self.prior(at.x)
        return Place(at.x, at.value + value, at, slope)

    def evaluate(self, x: FloatArray, near: Place | None = None, restarts: int = 0) -> Place:
        """Evaluate at ``x``, modes from those of a point nearby."""
        at = self.marginal.evaluate(x, None if near is None else near.at, restarts=restarts)
        self.evaluations += at.modes.evaluations + len(at.predictions)
        return self.point(at)

    def renewed(self, point: Place, wide: bool) -> Place | None:
        """Search all modes anew; ``None`` if no subject has a better one."""
        at, found = self.marginal.renewed(point.at, wide=wide, seed=self.renewals)
        self.renewals += 1
        self.evaluations += at.modes.evaluations - point.at.modes.evaluations
        if not found.any():
            return None
        for b in np.flatnonzero(found).tolist():
            fall = float(point.at.by_subject[b] - at.by_subject[b])
            self.fallen[b] = self.fallen.get(b, 0.0) + fall
        return self.point(at)

    def gradient(self, point: Place) -> FloatArray:
        """Gradient of the objective with its penalty, ``[P]``."""
        self.evaluations += 3 * len(point.at.predictions)
        return self.marginal.gradient(point.at) + point.slope_of_prior
