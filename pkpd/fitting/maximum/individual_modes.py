"""Individual modes: the most probable random effects of every subject given its data.

A mode minimises ``q(u)`` of `pkpd.fitting.maximum.conditional`; its curvature is that of a unit
matrix plus information of the data, so a variance that goes to zero does no harm. All subjects are
solved at once, each with its own damping and its own end.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.mode_steps import COARSE, approach_modes, capped, corrected, shortened
from pkpd.fitting.maximum.modes import Modes, better
from pkpd.small_systems import solve_each

FINE = 1e-10
"""Newton decrement ``g' H^-1 g`` at which a search ends."""


def find_modes(
    density: ConditionalDensity,
    x: FloatArray,
    start: FloatArray | None = None,
    *,
    tolerance: float = FINE,
    hessian: FloatArray | None = None,
    restarts: int = 0,
    seed: int = 0,
    exact: bool = True,
) -> Modes:
    """Find the modes of all subjects.

    Damped Gauss-Newton steps first, then Newton steps with the exact Hessian. With a Hessian from
    close by, its steps are tried before that: they need gradients alone.

    Parameters
    ----------
    density
        What to maximise.
    x : float[P]
        Parameters.
    start : float[B, R]
        Where to begin; zero if left out.
    tolerance
        Newton decrement at which a subject ends.
    hessian : float[B, R, R]
        Hessian of ``q`` at nearby parameters.
    restarts
        Further starts (zero, then random) for subjects that did not converge.
    seed
        Of random starts.
    exact
        Whether the exact Hessian at the modes is wanted. Without it, steps with that of
        Gauss-Newton, corrected as they go, are tried first.
    """
    x = np.asarray(x, dtype=float)
    n, size = density.shape
    u = np.zeros((n, size)) if start is None else np.array(start, dtype=float)
    if size == 0:
        value = density.value(x, u, density.central(x))
        good = np.isfinite(value)
        return Modes(u, value, np.zeros((n, 0, 0)), np.zeros(n), good, 1)
    polished, calls = None, 0
    if hessian is not None:
        polished, calls = _polished(density, x, u, hessian, tolerance)
    best = polished or _search(density, x, u, tolerance, exact)
    best = replace(best, evaluations=best.evaluations + calls)
    rng = np.random.default_rng(seed)
    for k in range(restarts):
        if np.all(best.converged):
            break
        # one place for all: what becomes of a subject does not hang on the others of its batch
        fresh = np.tile(np.zeros(size) if k == 0 else rng.standard_normal(size), (n, 1))
        begin = np.where(best.converged[:, None], best.u, fresh)
        again = _search(density, x, begin, tolerance, exact)
        best = better(best, again)
    return best


def _polished(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    hessian: FloatArray,
    tolerance: float,
) -> tuple[Modes | None, int]:
    """Take steps with a given Hessian; no modes if a subject does not come closer fast.

    What a step finds of the curvature corrects the Hessian (symmetric rank one).
    """
    central = density.central(x)
    before, calls = np.full(len(u), np.inf), 0
    step = last = np.zeros_like(u)
    for k in range(10):
        value, gradient = density.slope(x, u, central)
        calls += 2
        if k > 0:
            hessian = corrected(hessian, step, gradient - last)
        last = gradient
        step = -solve_each(hessian, gradient)
        decrement = -np.einsum("br,br->b", gradient, step)
        slow = (decrement > 0.3 * before) & (decrement > tolerance)
        finite = np.isfinite(value) & np.isfinite(decrement)
        if not np.all(finite) or np.any(slow | (decrement < 0)):
            return None, calls
        step = capped(step)
        if np.all(decrement < tolerance):
            u = u + step
            good = np.ones(len(u), bool)
            return Modes(u, value, hessian, decrement, good, 0, fresh=False), calls
        u, before = u + step, decrement
    return None, calls


def _search(
    density: ConditionalDensity, x: FloatArray, u: FloatArray, tolerance: float, exact: bool
) -> Modes:
    central = density.central(x)
    u, value, hessian, calls = approach_modes(density, x, u, central)
    n, size = u.shape
    if not exact and np.all(np.isfinite(value)):
        polished, more = _polished(density, x, u, hessian, tolerance)
        calls += more
        if polished is not None:
            return replace(polished, evaluations=calls)
    previous, decrement = np.full(n, np.inf), np.full(n, np.inf)
    converged = np.zeros(n, bool)
    for _ in range(15):
        # a subject that has ended stays as it is, however long the others of its batch take
        value, gradient, now = density.exact(x, u, central)
        calls += 2 * size + 1
        good = np.isfinite(value) & np.all(np.isfinite(now), axis=(1, 2))
        now = np.where(good[:, None, None], now, np.eye(size))
        curve, axes = np.linalg.eigh(now)
        positive = good & (curve[:, 0] > 0)
        # away from a minimum the step follows the axes downhill
        along = np.einsum("brs,br->bs", axes, gradient) / np.maximum(np.abs(curve), 0.1)
        step = -np.einsum("brs,bs->br", axes, along)
        fall = np.where(good, -np.einsum("br,br->b", gradient, step), np.inf)
        hessian = np.where(converged[:, None, None], hessian, now)
        decrement = np.where(converged, decrement, fall)
        done = positive & (decrement < tolerance)
        # rounding: a decrement that small and no longer falling is at its end
        stalled = positive & (decrement < COARSE) & (decrement > 0.5 * previous)
        still = converged | ~good
        step = np.where(still[:, None], 0.0, capped(step))
        step, tried = shortened(density, x, u, central, value, step, done | still)
        u, calls = u + step, calls + tried
        converged |= done | stalled
        if np.all(converged | ~good):
            break
        previous = decrement
    value = density.value(x, u, central)
    converged |= positive & (decrement < 1e3 * tolerance)
    converged &= np.isfinite(value)
    return Modes(u, value, hessian, decrement, converged, calls + 1)
