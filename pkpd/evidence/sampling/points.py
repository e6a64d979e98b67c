"""Sets of parameters that a run simulates: draws of the prior, then about draws of a posterior."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from pkpd.arrays import Floats
from pkpd.evidence.sampling.chains import Sampled
from pkpd.files import whole, write_text
from pkpd.sobol import sobol

WIDER = 1.4
"""How much wider than the posterior every other point of later rounds lies."""
POINTS = "points.npy"
_CHAINS, _RANDOM = "chains.npy", "random.json"


def first_points(d: int, n: int, seed: int) -> Floats:
    """Quasi-random draws ``[n, d]`` of the prior's scores."""
    power = int(np.ceil(np.log2(max(n, 2))))
    uniform = sobol(d, 2**power, np.random.default_rng(seed))[:n]
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


def keep_round(
    folder: Path, points: Floats, start: Floats | None, rng: np.random.Generator
) -> None:
    """Keep what a round begins with: points, where chains begin, and the state of random numbers.

    The points are written last: a round that has them has the others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if start is not None:
        _save(folder / _CHAINS, start)
    write_text(folder / _RANDOM, json.dumps(rng.bit_generator.state))
    _save(folder / POINTS, points)


def _save(file: Path, values: Floats) -> None:
    with whole(file) as part, part.open("wb") as out:
        np.save(out, values)


def kept_start(folder: Path, rng: np.random.Generator) -> Floats | None:
    """Where chains of a round begin that was kept; random numbers go on as they would have."""
    if (folder / _RANDOM).is_file():
        rng.bit_generator.state = json.loads((folder / _RANDOM).read_text(encoding="utf-8"))
    if (folder / _CHAINS).is_file():
        return np.load(folder / _CHAINS, allow_pickle=False)
    return None
