"""Profile likelihood: limits of a parameter where the objective of all others has risen too far.

The limits of a parameter at level ``c`` are the values at which the smallest objective over all
other parameters lies the ``c`` quantile of chi-square with one degree above that of the estimates,
3.84 for 95 % (Venzon and Moolgavkar 1988, Appl Stat 37:87-94). The root of the rise is nearly
straight in the parameter, and its slope is known: it is that of the objective by the parameter, as
all other slopes vanish. Newton's steps on it are kept within a bracket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arguments import NAMES, NONE, SHARE, TEXT, a, check_arguments, from_to
from pkpd.arrays import FloatArray
from pkpd.cards.files import nearest_of
from pkpd.cluster import workers
from pkpd.errors import PkpdError
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.uncertainty.refit import Refit
from pkpd.machine import cores

if TYPE_CHECKING:
    import pandas as pd

_CLOSE = 0.01  # of the objective: 0.3 % of a standard error at 95 %
_MOST = 25  # searches for one limit
_FAR = {"typical": 12.0, "residual": 12.0, "deviation": 12.0, "correlation": np.inf}
"""Furthest from the estimate on log, logit and correlation scales: a factor of 160,000."""
_FAR_ERRORS = 100.0  # furthest on scales without a unit, in standard errors


@dataclass(frozen=True, eq=False)
class Profiles:
    """Limits by profile likelihood.

    Attributes
    ----------
    table : DataFrame
        One row for each parameter: ``estimate``; ``lower`` and ``upper`` of the fit (from its
        standard errors); ``profile_lower`` and ``profile_upper``, which are the ends of
        what the parameter can be where the objective does not rise enough.
    points : DataFrame
        The profiles: ``parameter``, ``value``, ``rise`` of the objective, sorted.
    messages
        Sentences on limits that run to a bound and on searches that failed.
    """

    table: pd.DataFrame
    points: pd.DataFrame
    messages: tuple[str, ...]

    def summary(self) -> str:
        """Tell the limits in text."""
        lines = self.table.to_string(float_format="{:.4g}".format).splitlines()
        return "\n".join([*lines, *(f"- {text}" for text in self.messages)])

    __repr__ = summary


@dataclass(eq=False)
class _Profile:
    """Profile of one parameter."""

    refit: Refit
    objective: float
    place: int
    rise: float
    points: list[tuple[float, float]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.refit.marginal.free.names[self.place]

    @property
    def direction(self) -> FloatArray:
        """How all parameters move with one unit of this one, about, ``[P]``."""
        covariance = np.linalg.pinv(self.refit.hessian)
        return covariance[:, self.place] / covariance[self.place, self.place]

    def value(self, x: float) -> float:
        """Natural value of the parameter."""
        moved = self.refit.x.copy()
        moved[self.place] = x
        return self.refit.marginal.free.values(moved)[self.name]

    def reach(self) -> tuple[float, float]:
        """Lowest and highest ``x`` that are tried."""
        free, at = self.refit.marginal.free, float(self.refit.x[self.place])
        kind, bounds = free.kinds[self.place], free.bounds[self.place]
        far = _FAR.get(kind, np.inf)
        if np.isinf(self.refit.mixed.longest[self.place]):
            far = _FAR_ERRORS * self.error
        return max(float(bounds[0]), at - far), min(float(bounds[1]), at + far)

    @property
    def error(self) -> float:
        """Standard error on the scale of the search, as guessed."""
        return float(np.sqrt(2.0 * np.linalg.pinv(self.refit.hessian)[self.place, self.place]))

    def end_of(self, side: int) -> float:
        """Natural value at which the parameter ends."""
        kind = self.refit.marginal.free.kinds[self.place]
        if kind == "correlation":
            return float(side)
        if kind == "effect":
            return side * np.inf
        if kind == "typical":
            return self.refit.marginal.likelihood.model[self.name].ends[side > 0]
        return np.inf if side > 0 else 0.0

    def at(self, x: float, near: Any) -> tuple[Any, float, float]:
        """Search with the parameter held: the end, the rise and its slope."""
        start = near.x + (x - near.x[self.place]) * self.direction
        start = np.clip(start, *self.refit.marginal.free.bounds.T)
        start[self.place] = x
        ones = np.ones(len(self.refit.random))
        begin = self.refit.point(self.refit.marginal.evaluate(start, near.at), ones)
        end = self.refit.search(begin=begin, held=self.place)
        rise = end.point.value - self.objective
        self.points.append((self.value(x), rise))
        if not end.converged:
            gone = ", ".join(self.refit.vanished(end.point, ones))
            why = f"has no minimum: {gone} ran to zero." if gone else "did not converge."
            self.messages.append(
                f"{self.name}: the search with it held at {self.value(x):.4g} {why}"
            )
        return end.point, rise, float(end.gradient[self.place])

    def limit(self, side: int) -> float:
        """Natural value of the limit on a side, -1 or 1."""
        centre, edge = float(self.refit.x[self.place]), self.reach()[side > 0]
        wanted, near, far = np.sqrt(self.rise), centre, None
        point = self.refit.point(self.refit.begin, np.ones(len(self.refit.random)))
        x, step = centre + side * wanted * self.error, wanted * self.error
        rise = 0.0
        for _ in range(_MOST):
            x = max(x, edge) if side < 0 else min(x, edge)
            try:
                point, rise, slope = self.at(x, point)
            except PkpdError:  # no likelihood there: come nearer
                rise, slope = np.inf, np.nan
            if abs(rise - self.rise) < _CLOSE:
                return self.value(x)
            if rise < self.rise:
                near = x
                if x == edge:
                    break
            else:
                far = x
            root = np.sqrt(max(rise, 0.0))
            with np.errstate(divide="ignore", invalid="ignore"):
                x = x - (root - wanted) * 2.0 * root / slope
            low, high = sorted((near, near + side * 4.0 * step if far is None else far))
            if not low < x < high:
                x = near + side * 2.0 * step if far is None else 0.5 * (near + far)
            step = max(step, abs(near - centre))
        if far is not None:
            self.messages.append(
                f"{self.name}: the limit {'above' if side > 0 else 'below'} lies between "
                f"{self.value(near):.4g} and {self.value(far):.4g} and was not found more closely."
            )
            return self.value(near)
        end = self.end_of(side)
        self.messages.append(
            f"The {'upper' if side > 0 else 'lower'} limit of {self.name} runs to its bound of "
            f"{end:g}: at {self.value(near):.3g} the objective has risen by "
            f"{max(rise, 0.0):.2f} of {self.rise:.2f}."
        )
        return end


def profile_likelihood(
    fit: MaximumLikelihood,
    parameters: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    cluster: str | None = None,
    jobs: int | None = None,
) -> Profiles:
    """Find limits of parameters by profile likelihood.

    Parameters
    ----------
    fit
        Maximum-likelihood fit.
    parameters
        Names of estimated parameters; all if left out.
    level
        Level of the limits.
    cluster, jobs
        As of `pkpd.checks.bootstrap`; a block is one limit. Limits are the same.

    Returns
    -------
    Profiles

    Raises
    ------
    PkpdError
        If a parameter is not one of those that were estimated.

    Examples
    --------
    >>> from pkpd.checks import profile_likelihood
    >>> profile_likelihood(fit, ["V_ASPHYXIA", "omega_CL"]).table  # doctest: +SKIP
    """
    check_arguments(
        "profile_likelihood",
        fit=(fit, a(MaximumLikelihood)),
        parameters=(parameters, NAMES | NONE),
        level=(level, SHARE),
        cluster=(cluster, TEXT | NONE),
        jobs=(jobs, from_to(1) | NONE),
    )
    import pandas as pd
    from scipy.stats import chi2

    chosen = list(fit.names if parameters is None else parameters)
    for name in chosen:
        if name not in fit.names:
            raise PkpdError(
                where="profile_likelihood",
                what=f"{name!r} was not estimated{nearest_of(name, fit.names)}",
                allowed=", ".join(fit.names),
            )
    refit, own, rise = Refit.of(fit), fit.table(level), float(chi2.ppf(level, 1))
    objective, names = fit.objective, fit.names

    def limit(which: tuple[str, int]) -> tuple[float, list[tuple[float, float]], list[str]]:
        name, side = which
        one = _Profile(refit, objective, names.index(name), rise)
        return one.limit(side), one.points, one.messages

    ends = [(name, side) for name in chosen for side in (-1, 1)]
    with workers(cluster, jobs or cores()) as spread:
        found = iter(list(map(limit, ends) if spread is None else spread.in_turn(limit, ends)))
    rows, points, messages = {}, [], []
    for name, lower, upper in zip(chosen, found, found, strict=True):
        rows[name] = {
            **{column: own.loc[name, column] for column in ("estimate", "lower", "upper")},
            "profile_lower": lower[0],
            "profile_upper": upper[0],
        }
        messages += [*lower[2], *upper[2]]
        tried = [*lower[1], *upper[1]]
        best = min(tried, key=lambda point: point[1])
        if best[1] < -_CLOSE:
            messages.append(
                f"With {name} at {best[0]:.4g} the objective is {-best[1]:.2f} below that of the "
                "fit, which is no minimum: start it from there, limits are not valid."
            )
        every = [*tried, (fit.estimates[name], 0.0)]
        points += [{"parameter": name, "value": v, "rise": r} for v, r in sorted(every)]
    table = pd.DataFrame(rows).T.rename_axis("parameter")
    return Profiles(table, pd.DataFrame(points), tuple(messages))
