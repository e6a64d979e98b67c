"""Scrambled Sobol points, kept between runs: SciPy's, whose statistics take a second to import."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from pathlib import Path

import numpy as np
import scipy

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.files import read_checked, write_checked
from pkpd.machine import cache_home

MOST_VALUES = 100_000
"""Points with more values together are not kept: their import is not what takes time."""
MOST_KEPT = 64
"""Files: those not asked for longest go. One process keeps no more than so many: what simulates for
hours would put all others out."""
_times_kept = itertools.count()


def sobol(d: int, n: int, rng: np.random.Generator, skip: int = 0) -> Floats:
    """Give points of a scrambled Sobol sequence, ``[n, d]`` in [0, 1).

    Parameters
    ----------
    d
        Dimensions.
    n
        Points; best a power of two.
    rng
        Scrambles the sequence; a fresh one, which is not used again.
    skip
        Points at its begin that are left out.

    Notes
    -----
    They are those of `scipy.stats.qmc.Sobol`, to the last bit, and lie in the folder of caches by
    all that they are made from. A folder that cannot be read or written is no reason to stop.
    """
    if n * d > MOST_VALUES:
        return _made(d, n, rng, skip)
    told = f"{scipy.__version__} {np.__version__} {d} {n} {skip} {rng.bit_generator.state}"
    name = hashlib.sha256(told.encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, RuntimeError):
        found = _read(cache_home() / "points" / name, n, d)
        if found is not None:
            return found
    made = _made(d, n, rng, skip)
    if next(_times_kept) >= MOST_KEPT:
        return made
    with contextlib.suppress(PkpdError, OSError, RuntimeError):
        _keep(cache_home() / "points" / name, made)
    return made


def _made(d: int, n: int, rng: np.random.Generator, skip: int) -> Floats:
    from scipy.stats import qmc

    sequence = qmc.Sobol(d, scramble=True, rng=rng)
    if skip:
        sequence.fast_forward(skip)
    return sequence.random(n)


def _read(file: Path, n: int, d: int) -> Floats | None:
    content = read_checked(file)
    if content is None or len(content) != 8 * n * d:
        return None
    with contextlib.suppress(OSError):  # a folder that is read alone
        file.touch()
    return np.frombuffer(content, dtype="<f8").reshape(n, d).copy()


def _keep(file: Path, points: Floats) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_checked(file, points.astype("<f8").tobytes())
    kept = sorted(file.parent.iterdir(), key=lambda one: one.stat().st_mtime_ns)
    for old in kept[:-MOST_KEPT]:
        old.unlink(missing_ok=True)
