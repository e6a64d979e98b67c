"""Individual modes: the most probable random effects of every subject given its data.

A mode minimises ``q(u)`` of `pkpd.fitting.maximum.conditional`; its curvature is that of a unit
matrix plus information of the data, so a variance that goes to zero does no harm. All subjects are
solved at once, each with its own damping and its own end.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.mode_steps import COARSE, approach_modes, capped, corrected, shortened
from pkpd.fitting.maximum.modes import Modes, better, chosen
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
    wanted: NDArray[np.bool_] | None = None,
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
    wanted : bool[B]
        Whose modes are searched, all if left out; the others stay at ``start``, not converged.
    """
    x = np.asarray(x, dtype=float)
    n, size = density.shape
    u = np.zeros((n, size)) if start is None else np.array(start, dtype=float)
    if size == 0:
        value = density.value(x, u, density.central(x))
        good = np.isfinite(value)
        return Modes(u, value, np.zeros((n, 0, 0)), np.zeros(n), good, 1)
    wanted = np.ones(n, bool) if wanted is None else wanted
    found = _nowhere(u)
    if hessian is not None:
        found = _polished(density, x, u, hessian, tolerance, wanted)
    left = wanted & ~found.converged
    if left.any():
        found = chosen(found, _search(density, x, u, tolerance, exact, left), left)
    rng = np.random.default_rng(seed)
    for k in range(restarts):
        left = wanted & ~found.converged
        if not left.any():
            break
        if k == 0 and start is None and hessian is None:
            continue  # that was the first search
        # one place for all: what becomes of a subject does not hang on the others of its batch
        fresh = np.tile(np.zeros(size) if k == 0 else rng.standard_normal(size), (n, 1))
        again = _search(density, x, fresh, tolerance, exact, left)
        found = chosen(found, better(found, again), left)
    return found


def _nowhere(u: FloatArray) -> Modes:
    """Return modes of which none is known."""
    n, size = u.shape
    lost, far = np.full(n, np.nan), np.full(n, np.inf)
    return Modes(u, lost, np.tile(np.eye(size), (n, 1, 1)), far, np.zeros(n, bool), 0)


def _polished(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    hessian: FloatArray,
    tolerance: float,
    wanted: NDArray[np.bool_],
) -> Modes:
    """Take steps with a given Hessian; a subject that does not come closer fast is left.

    What a step finds of the curvature corrects the Hessian (symmetric rank one).
    """
    n, size = u.shape
    central, calls = density.central(x), 0
    going = np.all(np.isfinite(hessian), axis=(1, 2))
    hessian = np.where(going[:, None, None], hessian, np.eye(size))
    going &= wanted
    done, before = np.zeros(n, bool), np.full(n, np.inf)
    value, fall = np.full(n, np.nan), np.full(n, np.inf)
    step = last = np.zeros_like(u)
    for k in range(10):
        at, gradient = density.slope(x, density.only_of(u, going), central)
        calls += 2
        gradient = np.where(going[:, None], gradient, 0.0)
        if k > 0:
            hessian = np.where(
                going[:, None, None], corrected(hessian, step, gradient - last), hessian
            )
        last = gradient
        step = -solve_each(hessian, gradient)
        decrement = -np.einsum("br,br->b", gradient, step)
        slow = (decrement > 0.3 * before) & (decrement > tolerance)
        going &= np.isfinite(at) & np.isfinite(decrement) & ~slow & ~(decrement < 0)
        ended = going & (decrement < tolerance)
        value, fall = np.where(going, at, value), np.where(going, decrement, fall)
        step = np.where(going[:, None], capped(step), 0.0)
        u, before = u + step, decrement
        done, going = done | ended, going & ~ended
        if not going.any():
            break
    return Modes(u, value, hessian, fall, done, calls, fresh=False)


def _search(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    tolerance: float,
    exact: bool,
    wanted: NDArray[np.bool_],
) -> Modes:
    """Search the modes of ``wanted [B]``; what is returned of the others has no meaning."""
    central = density.central(x)
    u, value, hessian, calls = approach_modes(density, x, u, central, wanted=wanted)
    if not exact:
        polished = _polished(density, x, u, hessian, tolerance, wanted & np.isfinite(value))
        wanted = wanted & ~polished.converged
        if not wanted.any():
            return replace(polished, evaluations=polished.evaluations + calls)
        searched = _newton(density, x, u, central, tolerance, wanted)
        both = chosen(polished, searched, wanted)
        return replace(both, evaluations=both.evaluations + calls)
    searched = _newton(density, x, u, central, tolerance, wanted)
    return replace(searched, evaluations=searched.evaluations + calls)


def _newton(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    central: FloatArray,
    tolerance: float,
    wanted: NDArray[np.bool_],
) -> Modes:
    """Take Newton steps with the exact Hessian."""
    (n, size), calls = u.shape, 0
    hessian, positive = np.broadcast_to(np.eye(size), (n, size, size)), np.zeros(n, bool)
    previous, decrement = np.full(n, np.inf), np.full(n, np.inf)
    converged, open_ = np.zeros(n, bool), wanted.copy()
    for _ in range(15):
        # a subject that has ended stays as it is, however long the others of its batch take
        value, gradient, now = density.exact(x, density.only_of(u, open_), central)
        calls += 2 * size + 1
        good = open_ & np.isfinite(value) & np.all(np.isfinite(now), axis=(1, 2))
        now = np.where(good[:, None, None], now, np.eye(size))
        curve, axes = np.linalg.eigh(now)
        positive = np.where(open_, good & (curve[:, 0] > 0), positive)
        # away from a minimum the step follows the axes downhill
        slope = np.where(good[:, None], gradient, 0.0)
        along = np.einsum("brs,br->bs", axes, slope) / np.maximum(np.abs(curve), 0.1)
        step = -np.einsum("brs,bs->br", axes, along)
        fall = np.where(good, -np.einsum("br,br->b", slope, step), np.inf)
        hessian = np.where(open_[:, None, None], now, hessian)
        decrement = np.where(open_, fall, decrement)
        done = open_ & positive & (decrement < tolerance)
        # rounding: a decrement that small and no longer falling is at its end
        stalled = open_ & positive & (decrement < COARSE) & (decrement > 0.5 * previous)
        step = np.where(good[:, None], capped(step), 0.0)
        step, tried = shortened(density, x, u, central, value, step, done | ~good)
        u, calls = u + step, calls + tried
        # no step lowers its value: it stays where it is, and so would its Hessian
        stuck = good & ~done & ~step.any(axis=1)
        stalled |= stuck & positive & (decrement < COARSE)
        converged |= done | stalled
        open_ = good & ~converged & ~stuck
        if not open_.any():
            break
        previous = decrement
    value = density.value(x, density.only_of(u, wanted), central)
    converged |= wanted & positive & (decrement < 1e3 * tolerance)
    converged &= np.isfinite(value)
    return Modes(u, value, hessian, decrement, converged, calls + 1)
