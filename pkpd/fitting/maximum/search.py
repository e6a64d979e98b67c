"""Minimise a smooth function with a gradient: BFGS from a given Hessian, with bounds.

The objective of a population fit costs far more than the algebra around it, is infinite where a
patient cannot be solved, and comes with a good guess of its Hessian; the search is written for
that: full steps are tried first, steps are capped in units that mean something (log scales), and
the end is judged by the fall still expected, ``g' H^-1 g / 2``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.small_systems import solve_each

_SUFFICIENT = 1e-4  # share of the fall promised by the slope that a step must give (Armijo)
_DAMPED = 0.2  # Powell's damping: least curvature along a step, relative to the model's
_LEAST = 1e-2  # promised fall below which no shorter step is tried, relative to the tolerance


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Where a search ended.

    Attributes
    ----------
    point
        The best point.
    gradient : float[P]
        Gradient there.
    hessian : float[P, P]
        BFGS approximation of the Hessian.
    expected_fall
        ``g' H^-1 g / 2`` at the end.
    converged
        Whether the expected fall went below the tolerance.
    iterations
        Number of gradients.
    """

    point: Any
    gradient: FloatArray
    hessian: FloatArray
    expected_fall: float
    converged: bool
    iterations: int


def minimise(
    evaluate: Callable[[FloatArray, Any], Any],
    gradient: Callable[[Any], FloatArray],
    begin: Any,
    hessian: FloatArray,
    *,
    bounds: FloatArray,
    longest: FloatArray,
    tolerance: float = 1e-5,
    iterations: int = 200,
    report: Callable[[int, float], None] | None = None,
    hopeless: Callable[[Any], bool] = lambda point: False,
) -> SearchResult:
    """Minimise.

    Parameters
    ----------
    evaluate
        ``(x, point from before) -> point``.
    gradient
        ``point -> float[P]``.
    begin
        First point; its value must be finite.
    hessian : float[P, P]
        Guess of the Hessian.
    bounds : float[P, 2]
        Lower and upper bounds.
    longest : float[P]
        Largest change of each entry in one step.
    tolerance
        Expected fall of the objective at which to stop.
    iterations
        Most gradients.
    report
        Called with the iteration and the value.
    hopeless
        Whether a point is where no minimum will be found: the search ends there.
    """
    point, slope = begin, np.asarray(gradient(begin))
    model, fresh = _positive(hessian), True
    fall, converged, k = np.inf, False, 0
    for k in range(1, iterations + 1):
        if report is not None:
            report(k, point.value)
        free = _free(point.x, slope, bounds)
        step = _newton(model, slope, free)
        if not np.all(np.isfinite(step)):
            if fresh or not np.all(np.isfinite(slope)):
                break
            model, fresh = _positive(hessian), True
            continue
        fall = -0.5 * float(slope @ step)
        if fall < tolerance:
            converged = True
            break
        least = _LEAST * tolerance
        new, moved = _line_search(evaluate, point, slope, step, bounds, longest, least)
        if new is None:
            if fresh:
                break
            # the model of the curvature has gone bad: begin it anew
            model, fresh = _positive(hessian), True
            continue
        new_slope = np.asarray(gradient(new))
        if not np.all(np.isfinite(new_slope)):
            break
        model, fresh = _updated(model, moved, new_slope - slope), False
        point, slope = new, new_slope
        if hopeless(point):
            break
    return SearchResult(point, slope, model, fall, converged, k)


def _free(x: FloatArray, slope: FloatArray, bounds: FloatArray) -> NDArray[np.bool_]:
    """Entries that are not held at a bound by their slope."""
    low = (x <= bounds[:, 0] + 1e-10) & (slope > 0)
    high = (x >= bounds[:, 1] - 1e-10) & (slope < 0)
    return ~(low | high)


def _newton(model: FloatArray, slope: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    step = np.zeros_like(slope)
    step[free] = -solve_each(model[np.ix_(free, free)], slope[free])
    return step


def _line_search(
    evaluate: Callable[[FloatArray, Any], Any],
    point: Any,
    slope: FloatArray,
    step: FloatArray,
    bounds: FloatArray,
    longest: FloatArray,
    least: float,
) -> tuple[Any, FloatArray]:
    length = min(1.0, float(np.min(longest / np.maximum(np.abs(step), 1e-300))))
    for _ in range(25):
        x = np.clip(point.x + length * step, bounds[:, 0], bounds[:, 1])
        moved = x - point.x
        promised = float(slope @ moved)
        if not np.any(moved) or promised > -least:
            break
        new = evaluate(x, point)
        if np.isfinite(new.value) and new.value <= point.value + _SUFFICIENT * promised:
            return new, moved
        if np.isfinite(new.value):
            # minimum of the parabola through value, slope and the new value
            best = -0.5 * promised / max(new.value - point.value - promised, 1e-300)
            length *= float(np.clip(best, 0.1, 0.5))
        else:
            length *= 0.25
    return None, np.zeros_like(step)


def _updated(model: FloatArray, moved: FloatArray, change: FloatArray) -> FloatArray:
    """Update the Hessian by BFGS, damped as by Powell (1978) so that it stays positive definite."""
    image = model @ moved
    curvature, expected = float(moved @ change), float(moved @ image)
    if expected <= 0:
        return model
    if curvature < _DAMPED * expected:
        weight = (1.0 - _DAMPED) * expected / (expected - curvature)
        change = weight * change + (1.0 - weight) * image
        curvature = float(moved @ change)
    return model - np.outer(image, image) / expected + np.outer(change, change) / curvature


def _positive(matrix: FloatArray) -> FloatArray:
    """Nearest use of a symmetric matrix as a model of curvature: eigenvalues made positive.

    Judged after scaling to a unit diagonal, so that units do not matter.
    """
    matrix = np.where(np.isfinite(matrix), matrix, 0.0)
    scale = np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-8))
    curve, axes = np.linalg.eigh(matrix / np.outer(scale, scale))
    curve = np.maximum(np.abs(curve), 1e-3)
    return (axes * curve) @ axes.T * np.outer(scale, scale)
