"""Steps of a search for modes of random effects, all subjects at once and each with its own end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.modes import Modes
from pkpd.small_systems import solve_each

COARSE = 1e-4
"""Newton decrement ``g' H^-1 g`` at which Gauss-Newton steps end."""
LONGEST = 3.0
"""Longest step, in standard deviations."""
_STEPS, _FEWER = 60, 25  # at most; from zero about twelve are taken
_NEAR, _WATCHED = 0.1, 5  # decrement below which steps should halve it, within so many


def approach_modes(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    central: FloatArray,
    known: Modes | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """Take Gauss-Newton steps, damped subject by subject, until all are near their modes.

    Parameters
    ----------
    density
        What is maximised.
    x : float[P]
        Parameters.
    u : float[B, R]
        Where to begin.
    central : float[M]
        From `ConditionalDensity.central`.
    known
        Modes at hand: a subject that comes to its own ends there, and no search is long.
    wanted : bool[B]
        Who is searched; all if left out. What is returned of the others has no meaning.

    Returns
    -------
    tuple
        ``u [B, R]``, ``q [B]`` and its Gauss-Newton Hessian ``[B, R, R]`` there, and the number of
        calls of the predictor.
    """
    n, size = u.shape
    # types that a checker would infer anew for each turn of the loop, which takes it half a minute
    damping: FloatArray = np.zeros(n)
    step: FloatArray
    decrement: FloatArray
    active: NDArray[np.bool_]
    accept: NDArray[np.bool_]
    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    singular: NDArray[np.bool_]
    falls: list[FloatArray] = []
    calls = 2 * size + 1
    wanted = np.ones(n, bool) if wanted is None else wanted
    value, gradient, hessian = density.approximate(x, density.only_of(u, wanted), central)
    lost = wanted & ~np.isfinite(value)
    if lost.any():
        u = np.where(lost[:, None], 0.0, u)
        value, gradient, hessian = density.approximate(x, density.only_of(u, wanted), central)
        calls += 2 * size + 1
    for _ in range(_STEPS if known is None else _FEWER):
        good = np.all(np.isfinite(hessian), axis=(1, 2)) & np.all(np.isfinite(gradient), axis=1)
        safe = np.where(good[:, None, None], hessian, np.eye(size))
        slope = np.where(good[:, None], gradient, 0.0)
        diagonal = np.einsum("brr->br", safe)
        damped = safe + (damping[:, None] * diagonal)[:, :, None] * np.eye(size)
        step = -solve_each(damped, slope)
        # beside information that large the unit matrix is lost: more damping brings it back
        singular = ~np.all(np.isfinite(step), axis=1)
        step = capped(np.where(singular[:, None], 0.0, step))
        decrement = np.where(singular, np.inf, -np.einsum("br,br->b", slope, step))
        active = wanted & (decrement > COARSE) & (damping < 1e6)
        falls.append(decrement)
        if len(falls) > _WATCHED:
            # near a mode, and slow: the Hessian misses some of the curvature; Newton steps do not
            active &= (decrement >= _NEAR) | (decrement <= 0.5 * falls.pop(0))
        active &= known is None or ~known.reached(u)
        if not active.any():
            break
        trial = np.where(active[:, None], u + step, u)
        only = density.only_of(trial, active)
        new_value, new_gradient, new_hessian = density.approximate(x, only, central)
        calls += 2 * size + 1
        accept = active & (new_value <= value + 1e-12 * np.abs(value))
        accept |= active & ~np.isfinite(value) & np.isfinite(new_value)
        accept &= ~singular
        u = np.where(accept[:, None], trial, u)
        value = np.where(accept, new_value, value)
        gradient = np.where(accept[:, None], new_gradient, gradient)
        hessian = np.where(accept[:, None, None], new_hessian, hessian)
        eased = np.where(damping < 0.05, 0.0, damping / 5)
        damping = np.where(accept, eased, np.where(active, np.maximum(5 * damping, 0.3), damping))
    return u, value, hessian, calls


def shortened(
    density: ConditionalDensity,
    x: FloatArray,
    u: FloatArray,
    central: FloatArray,
    value: FloatArray,
    step: FloatArray,
    free: NDArray[np.bool_],
) -> tuple[FloatArray, int]:
    """Halve the steps of subjects whose value would rise; those that are ``free`` are not asked."""
    step = np.where(np.isfinite(step), step, 0.0)
    pending: NDArray[np.bool_] = ~free
    calls = 0
    for _ in range(12):
        if not pending.any():
            break
        new = density.value(x, density.only_of(u + step, pending), central)
        calls += 1
        # a rise below rounding is none
        pending &= ~(new <= value + 1e-10 * (1 + np.abs(value)))
        step = np.where(pending[:, None], 0.5 * step, step)
    return np.where(pending[:, None], 0.0, step), calls


def capped(step: FloatArray) -> FloatArray:
    """Shorten the steps of subjects to the longest."""
    longest = np.max(np.abs(step), axis=1, keepdims=True)
    return step * np.minimum(1.0, LONGEST / np.maximum(longest, 1e-300))


def corrected(model: FloatArray, v: FloatArray, product: FloatArray) -> FloatArray:
    """Correct Hessians by their product with ``v`` where they stay positive definite."""
    # far from the data gradients may overflow: no correction is made of those
    with np.errstate(over="ignore", invalid="ignore"):
        miss = product - np.einsum("brs,bs->br", model, v)
        along = np.einsum("br,br->b", miss, v)
        sizes = np.linalg.norm(miss, axis=1) * np.linalg.norm(v, axis=1)
        usable = np.isfinite(sizes) & (np.abs(along) > 1e-6 * np.maximum(sizes, 1e-300))
        scale = np.where(usable, along, 1.0)
        new = model + miss[:, :, None] * miss[:, None, :] / scale[:, None, None]
    usable &= np.linalg.eigvalsh(np.where(usable[:, None, None], new, model))[:, 0] > 0.1
    return np.where(usable[:, None, None], new, model)
