"""Better modes of random effects than those a search has followed.

A subject's density may have several modes. A search that begins where it ended at nearby parameters
follows one of them, and never asks whether another has become the better one. Here all subjects are
searched anew, from zero and from where their density is highest among other subjects' modes and
among random places. Modes are compared by ``2 q + log det H``, minus twice
the logarithm of the likelihood that lies around each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.conditional import ConditionalDensity
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.maximum.mode_steps import approach_modes
from pkpd.fitting.maximum.modes import Modes, chosen

LOWER = 0.01
"""Fall of a subject's ``2 q + log det H`` that counts; a coarse search ends 2e-4 above its mode."""
_NEIGHBOURS, _DRAWS = 8, 12  # places where the density is looked at, for each subject
_SPREAD = 2.0  # of random places: a wrong mode of one subject makes the others' spread too small


def better_modes(
    density: ConditionalDensity, x: FloatArray, at: Modes, *, wide: bool = True, seed: int = 0
) -> tuple[Modes, NDArray[np.bool_]]:
    """Search the modes of all subjects anew, and keep the better one of each.

    Parameters
    ----------
    density
        What is maximised.
    x : float[P]
        Parameters.
    at
        Modes at hand.
    wide
        Search from the best of other subjects' modes and of random places too, not from zero alone.
    seed
        Of random places.

    Returns
    -------
    tuple
        Modes, and whether a subject has a new one, ``[B]``. New ones come with an exact Hessian.
    """
    n, size = density.shape
    nobody = np.zeros(n, bool)
    if size == 0:
        return at, nobody
    central = density.central(x)
    value, _, hessian = density.approximate(x, at.u, central)
    now = _height(value, hessian)
    calls, best, u = 2 * size + 1, now, at.u
    starts: list[FloatArray] = [np.zeros((n, size))]
    if wide:
        for places in (_neighbours(at.u), _random_places(at.u, seed)):
            if len(places):
                starts.append(_highest(density, x, places, central))
                calls += len(places)
    for start in starts:
        end, value, hessian, more = approach_modes(density, x, start, central, at)
        height = _height(value, hessian)
        lower = (height < best - LOWER) & ~at.reached(end)
        best, u = np.where(lower, height, best), np.where(lower[:, None], end, u)
        calls += more
    found = best < now
    if not found.any():
        return _counted(at, calls), nobody
    new = find_modes(density, x, u)
    value, _, hessian = density.approximate(x, new.u, central)
    # the exact search may have gone on to somewhere else
    found &= new.converged & (_height(value, hessian) < now - 0.5 * LOWER)
    return _counted(chosen(at, new, found), calls + 2 * size + 1), found


def _neighbours(u: FloatArray) -> FloatArray:
    """Modes of other subjects, ``[K, B, R]``."""
    n = len(u)
    shifts = np.unique(np.linspace(1, n - 1, _NEIGHBOURS).round().astype(int)) if n > 1 else []
    return np.array([np.roll(u, k, axis=0) for k in shifts])


def _random_places(u: FloatArray, seed: int) -> FloatArray:
    """Random places, ``[K, B, R]``: half of them differ from the mode in one random effect only."""
    rng = np.random.default_rng(seed)
    n, size = u.shape
    out = _SPREAD * rng.standard_normal((_DRAWS, n, size))
    one = np.arange(size) == rng.integers(size, size=(_DRAWS // 2, n, 1))
    out[: _DRAWS // 2] = np.where(one, out[: _DRAWS // 2], u)
    return out


def _highest(
    density: ConditionalDensity, x: FloatArray, places: FloatArray, central: FloatArray
) -> FloatArray:
    """Of the places ``[K, B, R]``, that of each subject with the highest density, ``[B, R]``."""
    values = np.array([density.value(x, place, central) for place in places])
    pick = np.argmin(np.where(np.isfinite(values), values, np.inf), axis=0)
    return places[pick, np.arange(places.shape[1])]


def _height(value: FloatArray, hessian: FloatArray) -> FloatArray:
    """``2 q + log det H`` of each subject, ``[B]``; infinite where it is not finite."""
    good = np.isfinite(value) & np.all(np.isfinite(hessian), axis=(1, 2))
    safe = np.where(good[:, None, None], hessian, np.eye(hessian.shape[-1]))
    return np.where(good, 2 * np.where(good, value, 0.0) + np.linalg.slogdet(safe)[1], np.inf)


def _counted(modes: Modes, calls: int) -> Modes:
    return Modes(**{**vars(modes), "evaluations": modes.evaluations + calls})
