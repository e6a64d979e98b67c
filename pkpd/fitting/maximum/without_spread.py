"""What the objective loses where a random effect is taken out of the model."""

from __future__ import annotations

import numpy as np

from pkpd.fitting.judge.ended import NOTABLE
from pkpd.fitting.judge.standard_errors import Uncertainty
from pkpd.fitting.maximum.problem import Place, Problem
from pkpd.fitting.maximum.scales import SMALLEST

_LOOSE = 0.3
"""Relative standard error of a standard deviation above which zero is tried."""
_STEPS, _FAR = 4, 20.0  # of the other parameters; rise above which none is taken


def rises_without(problem: Problem, end: Place, found: Uncertainty | None) -> dict[str, float]:
    """Rise of the objective without each random effect that is not well known.

    The interval of a standard deviation is symmetric on a scale that is logarithmic away from zero,
    and reaches zero hardly ever; the objective at zero tells whether it should. The other
    parameters take a few Newton steps there, so the rise is an upper limit.

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
        By name of standard deviations whose relative standard error is above 0.3.
    """
    free = problem.marginal.free
    if found is None or not found.positive:
        return {}
    values, slopes = free.values(end.x), free.slopes(end.x)
    errors = np.sqrt(np.diag(found.covariance)) * np.abs(slopes)
    edge, out = free.at_edge(end.x), dict[str, float]()
    for i, (name, kind) in enumerate(zip(free.names, free.kinds, strict=True)):
        if kind != "deviation" or edge[i] or not errors[i] > _LOOSE * values[name]:
            continue
        x = end.x.copy()
        x[i] = np.arcsinh(SMALLEST)
        at, rest = problem.evaluate(x, end), found.used & (np.arange(len(x)) != i)
        for _ in range(_STEPS):
            slope = problem.gradient(at)[rest] if np.isfinite(at.value) else np.array([np.nan])
            if not (np.all(np.isfinite(slope)) and at.value < end.value + _FAR):
                break
            x = at.x.copy()
            x[rest] -= np.linalg.solve(found.hessian[np.ix_(rest, rest)], slope)
            moved = problem.evaluate(x, at)
            fall, at = at.value - moved.value, min(at, moved, key=lambda place: place.value)
            if not fall > NOTABLE:
                break
        out[name] = at.value - end.value
    return out
