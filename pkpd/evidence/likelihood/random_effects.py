"""Deviation of a study from the other studies, integrated out without simulating it again.

Every study has its own patients, laboratories and definitions. A patient's deviation from the
typical patient (of how fast the marrow regrows, of how much the drugs kill) is sigma x, and x is
normal with SD 1 about b, the deviation of the study; b is normal with SD r. The ratio r of the
spread between studies to that between patients is learned. Over all studies, x is normal with
variance 1 + r^2. Patients are simulated once, from that: with sigma multiplied by sqrt(1 + r^2).
The patients of a study with deviation b are the same patients with weights

    w = N(x; b, 1) / N(x; 0, 1 + r^2),

since nothing else depends on b. The likelihood of a study is integrated over b on a fixed grid with
these weights. Simulation is needed once per arm whatever the number of studies and grid points;
the price is a smaller effective number of patients, 1 / sum(w^2), which the likelihoods take in.
The grid is uniform (trapezoidal rule), which converges faster than any power of its spacing for
smooth integrands that vanish at the ends, and, other than Gauss-Hermite points, does not miss a
likelihood that is narrow compared with r.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.evidence.likelihood.log_sums import log_sum

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StudyEffect:
    """One score in which studies deviate.

    Attributes
    ----------
    score
        Name of the patients' standard normal score.
    within
        Names of the parameters sigma, the SDs of all that the score moves.
    ratio
        Name of the parameter r.
    nodes
        Grid points; 1: no deviation.
    """

    score: str
    within: tuple[str, ...]
    ratio: str
    nodes: int = 7

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.nodes % 2 == 0:
            raise PkpdError(
                sentence(
                    where=f"study effect {self.score}",
                    what=f"{self.nodes} nodes",
                    allowed="an odd number from 1",
                )
            )


@dataclass(frozen=True)
class StudyGrid:
    """Deviations of a study on the grid.

    Attributes
    ----------
    deviations : float[K, E]
        b of each grid point and effect.
    log_weight : float[K]
        Log of prior density times cell, normalised.
    """

    deviations: Floats
    log_weight: Floats


WIDTH = 2.6  # half width of the grid, in units of r: 1 % of the prior lies outside


class StudyEffects:
    """All study effects together.

    Parameters
    ----------
    effects
        None: studies are all alike.
    """

    def __init__(self, effects: tuple[StudyEffect, ...] = ()) -> None:
        self.effects = effects
        units = [
            np.linspace(-WIDTH, WIDTH, e.nodes) if e.nodes > 1 else np.zeros(1) for e in effects
        ]
        mesh = np.meshgrid(*units, indexing="ij") if units else []
        self._units = np.stack([m.ravel() for m in mesh], axis=1) if units else np.zeros((1, 0))
        log_weight = -0.5 * np.sum(self._units**2, axis=1)
        self._log_weight = log_weight - log_sum(log_weight)
        self._axes = units

    def for_simulation(self, theta: Mapping[str, float]) -> dict[str, float]:
        """Change sigma to the spread over the patients of all studies, for simulation."""
        changed = dict(theta)
        for effect in self.effects:
            if effect.nodes > 1:
                factor = float(np.hypot(1.0, theta[effect.ratio]))
                for name in effect.within:
                    changed[name] = theta[name] * factor
        return changed

    def grid(self, theta: Mapping[str, float]) -> StudyGrid:
        """Deviations of a study and their prior weights."""
        ratios = np.array([theta[effect.ratio] for effect in self.effects])
        return StudyGrid(self._units * ratios, self._log_weight)

    def weights(
        self, theta: Mapping[str, float], weight: Floats, scores: Mapping[str, Floats]
    ) -> tuple[Floats, Floats]:
        """Weights of an arm's patients at every grid point.

        Parameters
        ----------
        theta
            Parameters.
        weight : float[N]
            Weights the patients have anyway.
        scores
            Their standard normal scores.

        Returns
        -------
        weights : float[K, N]
            Each row sums to 1.
        size : float[K]
            Effective number of patients.
        """
        factors = np.asarray(weight, dtype=np.float64)[None, :]
        for effect, units in zip(self.effects, self._axes, strict=True):
            if effect.score not in scores:
                raise PkpdError(
                    sentence(
                        where=f"study effect {effect.score}",
                        what="the simulated patients have no such score",
                        allowed=", ".join(scores) or "none",
                    )
                )
            if effect.nodes == 1:
                continue
            ratio, score = theta[effect.ratio], scores[effect.score]
            x = score * np.sqrt(1.0 + ratio**2)
            exponent = -0.5 * (x[None, :] - units[:, None] * ratio) ** 2 + 0.5 * score**2
            factors = _products(factors, np.exp(exponent))
        return _normed(factors)

    def draw(self, theta: Mapping[str, float], rng: np.random.Generator) -> Floats:
        """Deviations b ``[E]`` of a new study."""
        ratios = np.array(
            [theta[effect.ratio] if effect.nodes > 1 else 0.0 for effect in self.effects]
        )
        return rng.standard_normal(len(self.effects)) * ratios

    def weights_at(
        self,
        theta: Mapping[str, float],
        weight: Floats,
        scores: Mapping[str, Floats],
        deviation: Floats,
    ) -> tuple[Floats, Floats]:
        """Give the weights ``[1, N]`` of patients at one deviation, and their number ``[1]``."""
        exponent = np.zeros(len(weight))
        for effect, b in zip(self.effects, deviation, strict=True):
            if effect.nodes == 1:
                continue
            score = scores[effect.score]
            x = score * np.sqrt(1.0 + theta[effect.ratio] ** 2)
            exponent += -0.5 * (x - b) ** 2 + 0.5 * score**2
        raw = np.asarray(weight) * np.exp(exponent - exponent.max())
        normed = raw / raw.sum()
        return normed[None, :], np.array([1.0 / np.sum(normed**2)])


@njit(nogil=True, error_model="numpy", cache=True)
def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Products of every row of the first with every row of the second, ``[I J, N]``."""
    rows, many = second.shape
    product = np.empty((first.shape[0] * rows, many))
    for i in range(first.shape[0]):
        for j in range(rows):
            for n in range(many):
                product[i * rows + j, n] = first[i, n] * second[j, n]
    return product


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}, cache=True)
def _normed(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows divided by their sums, in place, and their effective numbers of patients."""
    size = np.empty(weights.shape[0])
    for k in range(weights.shape[0]):
        row = weights[k]
        total = max(row.sum(), 1e-300)
        squares = 0.0
        for n in range(row.size):
            row[n] = row[n] / total
            squares += row[n] * row[n]
        size[k] = 1.0 / squares
    return weights, size
