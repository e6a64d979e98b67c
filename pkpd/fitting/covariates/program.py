"""One program for all models of a covariate search: scores of relations, and fits that begin there.

The program is the model with every relation in it, each with a coefficient of its own that is held
at zero where the relation is left out, so that nothing is compiled anew from model to model. A
coefficient is in units of the standard deviation of what it multiplies.

The score statistic of a relation at zero (Rao 1948, Math Proc Camb Philos Soc 44:50-7) is the fall
of the objective that a Newton step promises: with the gradient ``g`` by its coefficients and the
curvature ``J``, from which what the other parameters take up has been taken, ``g' J^-1 g / 2``. It
is chi-square with as many degrees of freedom as coefficients where the relation is none. ``g`` is
the gradient that the search of the smaller model ended with, by all coefficients at once; ``J`` is
the expected information of the model linearised at the modes of random effects
(`pkpd.fitting.maximum.start.MixedModel.curvature`), two predictions for each coefficient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.errors import PkpdError
from pkpd.fitting.covariates.relations import Relation
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.maximum.scales import LIFTED
from pkpd.fitting.maximum.search import SearchResult
from pkpd.fitting.model.covariate_effects import CovariateEffect
from pkpd.fitting.model.priors import Estimate
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.uncertainty.refit import Refit

_APART = 1e-6  # part of a relation's information that others must leave
_SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)  # of a step, that are tried


@dataclass(frozen=True, eq=False)
class FittedRelations:
    """The fit of a model with some of the relations.

    Attributes
    ----------
    included
        Numbers of the relations.
    end
        Where the search ended; its gradient is by all coefficients.
    """

    included: frozenset[int]
    end: SearchResult

    @property
    def objective(self) -> float:
        """Where the search ended."""
        return float(self.end.point.value)

    @property
    def x(self) -> FloatArray:
        """Parameters, coefficients that are left out being 0."""
        return self.end.point.x

    @property
    def failed(self) -> str:
        """Why the search did not end at a minimum; empty where it did."""
        if not self.end.converged:
            return f"the search ended with {self.end.expected_fall:.2g} of the objective left"
        if not np.all(self.end.point.at.modes.converged):
            return "a subject has no converged mode of random effects"
        return ""


@dataclass(frozen=True, eq=False)
class Score:
    """Score test of a relation.

    Attributes
    ----------
    statistic
        Fall of the objective that the step promises.
    step : float[P]
        Newton step of all parameters.
    """

    statistic: float
    step: FloatArray


@dataclass(eq=False)
class SearchProgram:
    """All models of a search.

    Attributes
    ----------
    fit
        Fit of the model that the search begins with.
    relations
        Candidates; their numbers are their places here.
    """

    fit: MaximumLikelihood
    relations: Sequence[Relation]

    def __post_init__(self) -> None:
        """Give each coefficient a column of its own."""
        dataset = self.fit.likelihood.dataset
        valid, columns = dataset.events.valid, dict[str, np.ndarray]()
        added: dict[str, list[CovariateEffect]] = {}
        self._names: list[list[str]] = []
        self._scales: list[list[float]] = []
        for relation in self.relations:
            self._names.append([])
            self._scales.append([])
            for k, effect in enumerate(relation.effects):
                with np.errstate(divide="ignore", invalid="ignore"):
                    design = effect.design(dataset.covariates[relation.covariate])
                scale = float(np.std(design[valid]))
                column = f"{relation.name} {k}"
                columns[column] = np.where(valid, design / scale, 0.0)
                if dataset.constant(relation.covariate):  # padding, too
                    columns[column] = np.repeat(columns[column][:, :1], valid.shape[1], axis=1)
                kind = "linear" if effect.kind == "linear" else "exponential"
                one = CovariateEffect(column, kind, 0.0, Estimate(0.0))
                added.setdefault(relation.parameter, []).append(one)
                self._names[-1].append(one.name(relation.parameter))
                self._scales[-1].append(scale)
        base = self.fit.likelihood.model
        parameters = [
            replace(p, effects=(*p.effects, *added.get(p.name, ()))) for p in base.parameters
        ]
        method: Any = self.fit.method
        self.refit = Refit(
            base.replace(parameters=parameters),
            replace(dataset, covariates={**dataset.covariates, **columns}),
            method,
            self.fit.x,
            self.fit.random,
            self.fit.covariance_x,
        )
        names = self.refit.marginal.free.names
        old = np.array([names.index(name) for name in self.fit.names])
        x, covariance = np.zeros(len(names)), np.full((len(names), len(names)), np.nan)
        x[old], covariance[np.ix_(old, old)] = self.fit.x, self.fit.covariance_x
        self.refit.x, self.refit.covariance = x, covariance
        self._old = old
        self._last: tuple[Any, FloatArray] = (None, np.zeros((0, 0)))
        self._places = [np.array([names.index(n) for n in mine]) for mine in self._names]

    @property
    def _ones(self) -> FloatArray:
        return np.ones(len(self.fit.random))

    def _out(self, included: frozenset[int]) -> NDArray[np.integer[Any]]:
        """Places of the coefficients that are left out."""
        none = np.zeros(0, dtype=int)
        return np.concatenate(
            [none, *(p for i, p in enumerate(self._places) if i not in included)]
        ).astype(int)

    @cached_property
    def begin(self) -> FittedRelations:
        """The model that the search begins with."""
        point = self.refit.point(self.refit.begin, self._ones)
        end = self.refit.search(begin=point, held=self._out(frozenset()))
        return FittedRelations(frozenset(), end)

    def curvature(self, fitted: FittedRelations) -> FloatArray:
        """Twice the expected information of all parameters, ``[P, P]``."""
        if fitted is not self._last[0]:
            self._last = (fitted, self.refit.mixed.curvature(fitted.end.point.at))
        return self._last[1]

    def score(self, fitted: FittedRelations, relation: int) -> Score | None:
        """Test a relation that is left out; ``None`` where the model leaves nothing of it."""
        curve, slope = self.curvature(fitted), fitted.end.gradient
        scale = np.sqrt(np.diag(curve))
        mine = self._places[relation]
        others = self._active(fitted.included)
        unit, pull = curve / np.outer(scale, scale), slope / scale
        inverse = np.linalg.pinv(unit[np.ix_(others, others)], hermitian=True)
        through = unit[np.ix_(mine, others)] @ inverse
        left = unit[np.ix_(mine, mine)] - through @ unit[np.ix_(others, mine)]
        if np.linalg.eigvalsh(left)[0] < _APART:
            return None
        own = pull[mine] - through @ pull[others]
        moved, step = -np.linalg.solve(left, own), np.zeros(len(scale))
        step[mine] = moved
        step[others] = -inverse @ (pull[others] + unit[np.ix_(others, mine)] @ moved)
        return Score(-0.5 * float(own @ moved), step / scale)

    def _active(self, included: frozenset[int]) -> NDArray[np.integer[Any]]:
        inside = [self._places[i] for i in sorted(included)]
        return np.concatenate([self._old, *inside]).astype(int)

    def with_relation(
        self, fitted: FittedRelations, relation: int, score: Score
    ) -> FittedRelations | str:
        """Fit the model with one more relation from the estimates and the step of its score.

        Returns
        -------
        FittedRelations or str
            Or why there is none.
        """
        return self._fit(fitted, fitted.included | {relation}, score.step, fitted.objective)

    def without_relation(self, fitted: FittedRelations, relation: int) -> FittedRelations | str:
        """Fit the model with one relation less; gives what `with_relation` gives."""
        included = fitted.included - {relation}
        mine, others = self._places[relation], self._active(included)
        curve, step = self.curvature(fitted), np.zeros(len(fitted.x))
        step[mine] = -fitted.x[mine]
        # how the others move along: the minimum of the quadratic model with these at zero
        inverse = np.linalg.pinv(curve[np.ix_(others, others)], hermitian=True)
        step[others] = -inverse @ curve[np.ix_(others, mine)] @ step[mine]
        return self._fit(fitted, included, step, np.inf)

    def _fit(
        self,
        near: FittedRelations,
        included: frozenset[int],
        step: FloatArray,
        highest: float,
    ) -> FittedRelations | str:
        free, out = self.refit.marginal.free, self._out(included)
        deviation = np.array([kind == "deviation" for kind in free.kinds])
        point = None
        for share in _SHARES:
            x = np.clip(near.x + share * step, *free.bounds.T)
            x = np.where(deviation & free.at_edge(x), LIFTED, x)
            x[out] = 0.0
            point = self.refit.point(self.refit.marginal.evaluate(x, near.end.point.at), self._ones)
            if np.isfinite(point.value) and point.value <= highest:
                break
        try:
            end = self.refit.search(begin=point, hessian=self.curvature(near), held=out)
        except PkpdError as error:
            return str(error).rstrip(".")
        fitted = FittedRelations(included, end)
        return fitted.failed or fitted

    def model(self, fitted: FittedRelations) -> PopulationModel:
        """Write the model with its relations as a user does, with the estimates as values."""
        free = self.refit.marginal.free
        values = free.values(fitted.x)
        model = self.fit.model
        for i in sorted(fitted.included):
            relation = self.relations[i]
            effects = [
                replace(e, coefficient=replace(e.coefficient, value=values[name] / scale))
                for e, name, scale in zip(
                    relation.effects, self._names[i], self._scales[i], strict=True
                )
            ]
            mine = model[relation.parameter].effects
            model = model.changed(relation.parameter, effects=(*mine, *effects))
        return model.with_values({name: values[name] for name in self.fit.names})
