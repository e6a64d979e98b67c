"""Random numbers by name, and distributions of covariates as maps from normal scores.

Random numbers come from ``stream(seed, name)``: one independent stream for every name, so adding a
drug or a covariate does not move the numbers of another one, and every regimen of a comparison
meets the same patients.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pkpd.arrays import Floats
from pkpd.kept_values import Kept

#: Distribution name -> the numbers it needs (`Distribution` says what they mean).
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "truncnormal": ("mean", "sd"),
        "normal": ("mean", "sd"),
        "lognormal": ("median", "sigma"),
        "bernoulli": ("probability",),
        "beta": ("median",),
        "zero_inflated": ("probability", "median", "sigma"),
        "constant": ("median",),
    }
)


def stream(seed: int, name: str) -> np.random.Generator:
    """Make the random generator of one named quantity.

    Parameters
    ----------
    seed, name
        Seed of the whole run, and what is drawn, for example ``"eta:lenalidomide.CL"``.
    """
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence([int(seed), *(int(w) for w in words)]))


def stratified_normals(generator: np.random.Generator, n: int) -> Floats:
    """Draw n standard normals, one in each n-th of the probability, in random order.

    Averages over them have a smaller error than over plain random numbers.
    """
    from scipy.special import ndtri

    u = (generator.permutation(n) + generator.random(n)) / n
    return ndtri(np.clip(u, 1e-12, 1 - 1e-12))


_NORMALS: Kept[Floats] = Kept(2_000_000, np.size)  # 16 MB


def named_normals(seed: int, name: str, n: int) -> Floats:
    """Draw `stratified_normals` of a named quantity; kept, read-only."""

    def drawn() -> Floats:
        scores = stratified_normals(stream(seed, name), n)
        scores.setflags(write=False)
        return scores

    return _NORMALS.of((int(seed), name, n), drawn)


@dataclass(frozen=True)
class Distribution:
    """Distribution of one covariate, as a map from a standard normal score.

    ``truncnormal`` and ``normal`` use ``mean`` and ``sd``, ``lognormal`` uses ``median`` and
    ``sigma`` (SD of the log), each cut at ``lower`` and ``upper`` if given (not clipped).
    ``bernoulli`` uses ``probability``.  ``beta`` is a beta distribution on
    ``lower``..``upper`` with the given ``median`` and ``concentration`` (the sum of its two shape
    numbers).  ``zero_inflated`` is 0 with ``probability``, else the lognormal.  ``constant`` is
    ``median``.
    """

    kind: str
    mean: float = math.nan
    sd: float = math.nan
    median: float = math.nan
    sigma: float = math.nan
    probability: float = math.nan
    concentration: float = 4.0
    lower: float | None = None
    upper: float | None = None

    def from_score(self, z: Any) -> Floats:
        """Value at standard normal score z; rising in z."""
        from scipy.special import betaincinv, ndtr

        z = np.asarray(z, dtype=np.float64)
        if self.kind == "constant":
            return np.full_like(z, self.median)
        u = ndtr(z)
        if self.kind == "bernoulli":
            return (u > 1.0 - self.probability).astype(np.float64)
        if self.kind == "beta":
            low, high = float(self.lower or 0.0), float(self.upper or 1.0)
            a, b = _beta_shapes((self.median - low) / (high - low), self.concentration)
            return low + (high - low) * betaincinv(a, b, u)
        if self.kind == "zero_inflated":
            positive = np.clip((u - self.probability) / (1.0 - self.probability), 1e-12, 1 - 1e-12)
            return np.where(u < self.probability, 0.0, self._continuous(positive))
        return self._continuous(u)

    def _continuous(self, u: Floats) -> Floats:
        from scipy.special import ndtr, ndtri

        log = self.kind in ("lognormal", "zero_inflated")
        centre, spread = (math.log(self.median), self.sigma) if log else (self.mean, self.sd)
        ends = [0.0, 1.0]
        for side, limit in enumerate((self.lower, self.upper)):
            if limit is not None and not (log and limit <= 0):
                ends[side] = float(ndtr(((math.log(limit) if log else limit) - centre) / spread))
        score = ndtri(np.clip(ends[0] + (ends[1] - ends[0]) * u, 1e-15, 1 - 1e-15))
        value = centre + spread * score
        return np.exp(value) if log else value


def _beta_shapes(median: float, concentration: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    low, high = 0.0, 1.0
    while low < (share := 0.5 * (low + high)) < high:  # scipy.optimize takes long to import
        a = share * concentration
        if betaincinv(a, concentration - a, 0.5) < median:
            low = share
        else:
            high = share
    return share * concentration, (1 - share) * concentration
