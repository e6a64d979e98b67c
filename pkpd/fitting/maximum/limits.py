"""Whether the likelihood falls off where the interval of a parameter ends."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from pkpd.fitting.judge.standard_errors import Uncertainty
from pkpd.fitting.maximum.problem import Place, Problem

_LOOSE = 0.3
"""Relative standard error above which the ends of an interval are tried."""
_WIDE = NormalDist().inv_cdf(0.975)


def rises_at_limits(
    problem: Problem, end: Place, found: Uncertainty | None
) -> dict[str, tuple[float, float]]:
    """Rise of the objective at the ends of intervals of parameters that are not well known.

    At both ends of a 95 % interval a parabola is 3.84 higher. The other parameters are moved with
    the one as their covariance says, so the least objective there is no higher than this one. Both
    hold of the covariance that is the inverse of the curvature, so that intervals are those by it,
    whatever standard errors were asked for.

    Parameters
    ----------
    problem
        What was minimised.
    end
        The minimum.
    found
        Curvature there; nothing is tried without.

    Returns
    -------
    dict
        By name of typical values and effects with a relative standard error above 0.3: the end
        (natural scale) where the objective rises less, and that rise.
    """
    free = problem.marginal.free
    if found is None or not found.positive:
        return {}
    values, slopes = free.values(end.x), free.slopes(end.x)
    told = found.used & ~found.not_told
    spread = np.where(told, np.sqrt(np.diag(found.observed)), np.nan)
    edge, out = free.at_edge(end.x), dict[str, tuple[float, float]]()
    for i, (name, kind) in enumerate(zip(free.names, free.kinds, strict=True)):
        loose = spread[i] * abs(slopes[i]) > _LOOSE * abs(values[name])
        if kind not in ("typical", "effect") or edge[i] or not loose:
            continue
        along = np.where(told, found.observed[:, i], 0.0) / spread[i]
        for side in (-_WIDE, _WIDE):
            x = end.x + side * along
            if np.any((x < free.bounds[:, 0]) | (x > free.bounds[:, 1])):
                continue
            rise = problem.evaluate(x, end).value - end.value
            if np.isfinite(rise) and (name not in out or rise < out[name][1]):
                out[name] = free.values(x)[name], rise
    return out
