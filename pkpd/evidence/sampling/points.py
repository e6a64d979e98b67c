"""Sets of parameters that a run simulates: draws of the prior, then about draws of a posterior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from pkpd.arrays import Floats
from pkpd.evidence.sampling.chains import Sampled

WIDER = 1.4
"""How much wider than the posterior every other point of later rounds lies."""
POINTS = "points.npy"


def first_points(d: int, n: int, seed: int) -> Floats:
    """Quasi-random draws ``[n, d]`` of the prior's scores."""
    power = int(np.ceil(np.log2(max(n, 2))))
    uniform = qmc.Sobol(d, rng=np.random.default_rng(seed)).random_base2(power)[:n]
    return ndtri(np.clip(uniform, 1e-4, 1.0 - 1e-4))


def near(z: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Points about draws ``[chains, N, d]``: as they lie, and every other one farther out.

    In many dimensions points that all lie farther out surround the posterior and are not in it;
    those as they lie show the emulator where its chains believed it and it was wrong.
    """
    flat = z.reshape(-1, z.shape[-1])
    chosen = flat[rng.choice(len(flat), size=n, replace=n > len(flat))]
    middle = flat.mean(axis=0)
    wide = np.where(np.arange(n) % 2 == 0, WIDER, 1.0)[:, None]
    return middle + wide * (chosen - middle)


def within(points: Floats) -> Floats:
    """Those points of `near` that lie as the draws do."""
    return points[1::2]


def last_points(sampled: Sampled) -> Floats:
    """Draws of the second half of each chain, for chains that come after."""
    half = sampled.z.shape[1] // 2
    return sampled.z[:, half:].reshape(-1, sampled.z.shape[-1])


def points_kept(folder: Path | None, number: int, size: int) -> Floats | None:
    """Points of a round of an earlier run that was stopped, if there was one."""
    if folder is None or not (folder / POINTS).is_file():
        return None
    kept = np.load(folder / POINTS, allow_pickle=False)
    return kept if kept.shape == (number, size) else None
