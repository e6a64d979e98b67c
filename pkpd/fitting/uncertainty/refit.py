"""Searches that begin at the estimates of a fit: with weights on subjects, or a parameter held.

The approximate objective is a sum over subjects, so that a sample of subjects with replacement is
a vector of whole weights on them: all samples share data, programs and modes of random effects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.judge.ended import vanished
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood, Method
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.maximum.scales import LIFTED
from pkpd.fitting.maximum.search import SearchResult, minimise
from pkpd.fitting.maximum.start import MixedModel
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.specification import PopulationModel
from pkpd.small_systems import solve_each
from pkpd.solve.cache import keep_compilations

_GRADIENTS = 100  # most of a search; it begins close by
TOLERANCE = 1e-4
"""Fall of the objective still to be expected at which a search ends: 1 % of a standard error."""


@dataclass(frozen=True, eq=False)
class WeightedPoint:
    """An evaluated point.

    Attributes
    ----------
    x : float[P]
        Parameters.
    value
        Sum of the contributions of subjects times their weights; infinite where one is not finite.
    at
        What was evaluated.
    """

    x: FloatArray
    value: float
    at: Evaluated


def refuse_priors(fit: MaximumLikelihood, where: str) -> None:
    """Refuse the mode of a posterior: searches and ratios of likelihoods leave its priors out.

    Raises
    ------
    PkpdError
        If the fit was penalised by priors other than a joint one.
    """
    if fit.penalty:
        what = "the fit is the mode of a posterior, and its priors would be left out"
        remedy = 'fit by maximum likelihood (method="focei"), or take the draws of the posterior'
        raise PkpdError(where=where, what=what, remedy=remedy)


@dataclass(eq=False)
class Refit:
    """Searches from the estimates of a fit; what they share is made with the first of a process.

    Attributes
    ----------
    model, dataset, method
        Of the fit.
    x : float[P]
        Its estimates on the scales of the search.
    random : float[B, R]
        Its modes of random effects.
    covariance : float[P, P]
        Of ``x``; may hold NaN.
    """

    model: PopulationModel
    dataset: Dataset
    method: Method
    x: FloatArray
    random: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, fit: MaximumLikelihood) -> Refit:
        """Make them of a fit, or give those that were made of it before."""
        refuse_priors(fit, "search from the estimates")
        if fit in _MADE:
            return _MADE[fit]
        likelihood: Any = fit.likelihood
        method: Any = fit.method
        _MADE[fit] = cls(
            likelihood.model, likelihood.dataset, method, fit.x, fit.random, fit.covariance_x
        )
        return _MADE[fit]

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to another process: nothing that was compiled."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def marginal(self) -> MarginalLikelihood:
        """The objective."""
        keep_compilations()
        return MarginalLikelihood(bind(self.model, self.dataset), self.method)

    @cached_property
    def mixed(self) -> MixedModel:
        """Lengths of steps, and a guess of the curvature."""
        return MixedModel(self.marginal)

    @property
    def begin(self) -> Evaluated:
        """The estimates, with standard deviations lifted off zero, where their slopes vanish.

        A copy for each search, which corrects the Hessians of the modes: no search may depend on
        those before it.
        """
        return replace(self._begin)

    @cached_property
    def _begin(self) -> Evaluated:
        free = self.marginal.free
        deviation = np.array([kind == "deviation" for kind in free.kinds])
        x = np.where(deviation & free.at_edge(self.x), LIFTED, self.x)
        lower = free.cholesky(self.x, np)
        start = solve_each(np.broadcast_to(lower, (len(self.random), *lower.shape)), self.random)
        return self.marginal.evaluate(x, start=start, restarts=1)

    @cached_property
    def hessian(self) -> FloatArray:
        """Of the objective: from the covariance of the estimates, a guess where there is none."""
        out = self.mixed.curvature(self.begin)
        known = np.isfinite(np.diag(self.covariance))
        part = np.ix_(known, known)
        if known.any() and np.all(np.isfinite(self.covariance[part])):
            out[part] = 2.0 * np.linalg.inv(self.covariance[part])
        return out

    def point(self, at: Evaluated, weights: FloatArray) -> WeightedPoint:
        """Point of what was evaluated; subjects of no weight may have no likelihood."""
        total = float(np.sum(np.where(weights > 0, weights * at.by_subject, 0.0))) + at.prior
        return WeightedPoint(at.x, total if np.isfinite(total) else np.inf, at)

    def vanished(self, point: WeightedPoint, weights: FloatArray) -> tuple[str, ...]:
        """Residual errors that have run to zero: a sample without a maximum."""
        if self.model.joint is not None:
            return ()  # a prior would have held them
        free, likelihood = self.marginal.free, self.marginal.likelihood
        values, predicted = free.values(point.x), point.at.predictions[0]
        return tuple(vanished(likelihood, values, predicted, free.names, weights))

    def search(
        self,
        weights: FloatArray | None = None,
        *,
        begin: WeightedPoint | None = None,
        hessian: FloatArray | None = None,
        held: int | NDArray[np.integer[Any]] | None = None,
    ) -> SearchResult:
        """Search the minimum.

        Parameters
        ----------
        weights : float[B]
            Of subjects; 1 if left out.
        begin, hessian
            Where to begin, and the Hessian there; those of the estimates if left out.
        held
            Place of a parameter that stays where it begins, or places of several.
        """
        weights = np.ones(len(self.random)) if weights is None else weights
        bounds = self.marginal.free.bounds.copy()
        begin = self.point(self.begin, weights) if begin is None else begin
        if held is not None:
            places = np.atleast_1d(held)
            bounds[places] = begin.x[places, None]
        if not np.isfinite(begin.value):
            what = "the likelihood is not finite where a search would begin"
            raise PkpdError(where="search from the estimates", what=what)
        return minimise(
            lambda x, near: self.point(
                self.marginal.evaluate(x, near.at, wanted=weights > 0), weights
            ),
            lambda point: self.marginal.gradient(point.at, weights),
            begin,
            self.hessian if hessian is None else hessian,
            bounds=bounds,
            longest=self.mixed.longest,
            tolerance=TOLERANCE,
            iterations=_GRADIENTS,
            hopeless=lambda point: bool(self.vanished(point, weights)),
        )


_MADE: WeakKeyDictionary[MaximumLikelihood, Refit] = WeakKeyDictionary()
