"""Posteriors of dose-toxicity curves by quadrature on a grid of parameters.

A model is a grid of parameter values with the risk of each dose at each of them. The posterior of
many trials at once is then two matrix products. One-parameter models have a line of values, models
with two parameters a rectangle; the sums converge as those of a smooth integrand that vanishes at
its ends do, so that a few hundred values in each direction give eight figures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.polynomial import Polynomial
from scipy.special import log_expit, logit, ndtr

from pkpd.designs.data import Trials
from pkpd.designs.merging import merged

_ONE = (401, 8.5, 0.025)  # points, standard deviations on each side, widest step
_TWO = ((5.5, 0.06), (5.5, 0.12))
_CELLS = 8_000_000  # values of the likelihood held at once


@dataclass(frozen=True)
class Curves(ABC):
    """Dose-toxicity curves on a grid of parameters.

    Attributes
    ----------
    axes
        Values of each parameter, the first one's spacing being even.
    log_prior
        Logarithm of the prior density, shape of the grid, flattened.
    """

    axes: tuple[np.ndarray, ...]
    log_prior: np.ndarray

    @cached_property
    def grid(self) -> np.ndarray:
        """Parameters at each point, shape ``(parameters, points)``."""
        return np.stack([g.reshape(-1) for g in np.meshgrid(*self.axes, indexing="ij")])

    @abstractmethod
    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement at each dose.

        Parameters
        ----------
        parameters
            Shape ``(parameters, points)``.

        Returns
        -------
        tuple of arrays
            Shape ``(levels, points)`` each.
        """

    @abstractmethod
    def share_above(self, level: int, limit: float) -> np.ndarray:
        """Weight of each point where the risk at a dose exceeds a limit, ``(points,)``.

        1 and 0 away from where the limit is; near it those of `below`.
        """

    @cached_property
    def _logs(self) -> tuple[np.ndarray, np.ndarray]:
        return self.log_risks(self.grid)

    @cached_property
    def risks(self) -> np.ndarray:
        """Risk at each dose and point, shape ``(levels, points)``."""
        return np.exp(self._logs[0])

    def expect(self, data: Trials, values: np.ndarray) -> np.ndarray:
        """Posterior means.

        Parameters
        ----------
        data
            What the trials have seen. A pending patient of weight w at a dose of risk p adds the
            factor ``1 - w p`` to the likelihood, one with a fraction q ``p^q (1 - p)^(1 - q)``.
        values
            What to average, shape ``(quantities, points)``.

        Returns
        -------
        array
            Shape ``(trials, quantities)``.
        """
        waits = bool(data.pending_level.any())
        first, back = merged(np.concatenate([data.completed, data.dlts], axis=1))
        if waits:  # patients differ by their weights
            first = back = np.arange(len(data.current))
        step = max(1, _CELLS // self.grid.shape[1])
        found = np.empty((len(first), len(values)))
        for start in range(0, len(first), step):
            rows = first[start : start + step]
            weights = self._weights(data, rows, waits)
            found[start : start + step] = weights @ values.T
        return found[back]

    def _weights(self, data: Trials, rows: np.ndarray, waits: bool) -> np.ndarray:
        yes, no = self._logs
        dlts = data.dlts[rows].astype(float)
        log_w = dlts @ yes + (data.completed[rows] - dlts) @ no + self.log_prior
        if waits:
            for level, weight, part in zip(
                data.pending_level[rows].T,
                data.pending_weight[rows].T,
                data.pending_fraction[rows].T,
                strict=True,
            ):
                some = np.flatnonzero((level > 0) & np.isnan(part))
                risk = self.risks[level[some] - 1]
                log_w[some] += np.log1p(-weight[some, None] * risk)
                some = np.flatnonzero((level > 0) & ~np.isnan(part))
                if some.size:
                    at, q = level[some] - 1, part[some, None]
                    log_w[some] += q * yes[at] + (1.0 - q) * no[at]
        log_w -= log_w.max(axis=1, keepdims=True)
        weights = np.exp(log_w)
        weights /= weights.sum(axis=1, keepdims=True)
        return weights

    def moments(self, data: Trials) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and variances of the parameters, ``(trials, parameters)`` each."""
        k = len(self.axes)
        found = self.expect(data, np.concatenate([self.grid, self.grid**2]))
        return found[:, :k], found[:, k:] - found[:, :k] ** 2

    def risks_at(self, parameters: np.ndarray) -> np.ndarray:
        """Risks at given parameters, ``(trials, parameters)`` to ``(trials, levels)``."""
        return np.exp(self.log_risks(parameters.T)[0]).T

    def exceeds(self, data: Trials, level: int, limit: float) -> np.ndarray:
        """Posterior probability that the risk at a dose exceeds a limit, shape ``(trials,)``."""
        found = self.expect(data, self.share_above(level, limit)[None, :])[:, 0]
        return np.clip(found, 0.0, 1.0)


_NODES = np.arange(-3, 5)  # of the polynomial over a cell from 0 to 1


@cache
def _integrals() -> tuple[list[Polynomial], np.ndarray]:
    """Integrals from 0 of the Lagrange polynomials of `_NODES`, and over all cells from each on."""
    of = []
    for node in _NODES:
        others = _NODES[node != _NODES]
        basis = Polynomial.fromroots(others) / np.prod(node - others)
        of.append(basis.integ())
    whole = np.array([one(1.0) for one in of])
    return of, np.append(np.cumsum(whole[::-1])[::-1], 0.0)


def below(axis: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Weights of a smooth density on an even grid for its integral up to some ends, ``(E, n)``.

    In units of the spacing. The cell of the end, and cells before it, are integrated under the
    polynomial of degree seven through eight values around them.
    """
    of, tail = _integrals()
    at = np.clip((ends - axis[0]) / (axis[1] - axis[0]), 0.0, axis.size - 1.0)
    cell = np.minimum(at.astype(int), axis.size - 2)
    far = np.arange(axis.size) - cell[:, None]
    found = tail[np.clip(far - _NODES[0] + 1, 0, _NODES.size)]
    part = np.stack([one(at - cell) for one in of], axis=1)
    near = (far >= _NODES[0]) & (far <= _NODES[-1])
    within = np.take_along_axis(part, np.clip(far - _NODES[0], 0, _NODES.size - 1), axis=1)
    found = found + np.where(near, within, 0.0)
    found[ends <= axis[0]], found[ends >= axis[-1]] = 0.0, 1.0
    return found


def _line(mean: float, sd: float, least: int, width: float, step: float) -> np.ndarray:
    """Even values around the mean: at least so many, and no more than a step apart."""
    points = max(least, int(np.ceil(2 * width * sd / step)) + 1)
    return mean + sd * np.linspace(-width, width, points)


@dataclass(frozen=True)
class PowerCurves(Curves):
    """``skeleton ** exp(b)``, b normal with mean 0: the empiric model of the CRM."""

    skeleton: np.ndarray

    @classmethod
    def make(cls, skeleton: Sequence[float], scale: float) -> PowerCurves:
        """Take b within 8.5 standard deviations of the prior."""
        b = _line(0.0, scale, *_ONE)
        return cls((b,), -0.5 * (b / scale) ** 2, np.asarray(skeleton, float))

    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement."""
        yes = np.log(self.skeleton)[:, None] * np.exp(parameters[0])
        yes = np.minimum(yes, -1e-300)
        return yes, np.log(-np.expm1(yes))

    def turning_point(self, level: int, limit: float) -> float:
        """Value of b at which the risk of a dose is the limit; it falls with b."""
        return float(np.log(np.log(limit) / np.log(self.skeleton[level - 1])))

    def share_above(self, level: int, limit: float) -> np.ndarray:
        """As `Curves` has it."""
        return below(self.axes[0], np.array([self.turning_point(level, limit)]))[0]

    def exceeds_if_normal(self, mean: np.ndarray, var: np.ndarray, level: int, limit: float):
        """As `exceeds` with b taken as normal with its posterior mean and variance."""
        return ndtr((self.turning_point(level, limit) - mean) / np.sqrt(var))


@dataclass(frozen=True)
class LogisticCurves(Curves):
    """``expit(a + exp(b) x)`` with a fixed: the one-parameter logistic model of the CRM."""

    intercept: float
    x: np.ndarray

    @classmethod
    def make(cls, skeleton: Sequence[float], scale: float, intercept: float) -> LogisticCurves:
        """Take doses x from the skeleton, with ``b = 0`` giving it back."""
        b = _line(0.0, scale, *_ONE)
        x = logit(np.asarray(skeleton, float)) - intercept
        return cls((b,), -0.5 * (b / scale) ** 2, intercept, x)

    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement."""
        odds = self.intercept + self.x[:, None] * np.exp(parameters[0])
        return log_expit(odds), log_expit(-odds)

    def turning_point(self, level: int, limit: float) -> float:
        """Value of b at which the risk of a dose is the limit; infinite where it never is."""
        ratio = (logit(limit) - self.intercept) / self.x[level - 1]
        return float(np.log(ratio)) if ratio > 0 else -np.inf

    def share_above(self, level: int, limit: float) -> np.ndarray:
        """As `Curves` has it."""
        share = below(self.axes[0], np.array([self.turning_point(level, limit)]))[0]
        return share if self.x[level - 1] < 0 else 1 - share

    def exceeds_if_normal(self, mean: np.ndarray, var: np.ndarray, level: int, limit: float):
        """As `exceeds` with b taken as normal with its posterior mean and variance."""
        below = ndtr((self.turning_point(level, limit) - mean) / np.sqrt(var))
        return below if self.x[level - 1] < 0 else 1 - below


@dataclass(frozen=True)
class TwoParameterCurves(Curves):
    """``expit(a + exp(b) x)`` with a and b normal: the two-parameter CRM, and the BLRM."""

    x: np.ndarray

    @classmethod
    def make(
        cls,
        x: Sequence[float] | np.ndarray,
        mean: Sequence[float],
        sd: Sequence[float],
        correlation: float = 0.0,
        points: tuple[int, int] = (401, 101),
    ) -> TwoParameterCurves:
        """Take the rectangle of a within some standard deviations of the prior.

        Parameters
        ----------
        x
            Doses on the scale of the model, such as ``log(dose / reference)``.
        mean, sd, correlation
            Of a and b, jointly normal.
        points
            Of a, finely because limits of the risk cut through it, and of b; at least, since wide
            priors get more.
        """
        a = _line(mean[0], sd[0], points[0], *_TWO[0])
        b = _line(mean[1], sd[1], points[1], *_TWO[1])
        u, v = np.meshgrid((a - mean[0]) / sd[0], (b - mean[1]) / sd[1], indexing="ij")
        square = (u**2 - 2 * correlation * u * v + v**2) / (1 - correlation**2)
        return cls((a, b), -0.5 * square.reshape(-1), np.asarray(x, float))

    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement."""
        odds = parameters[0] + self.x[:, None] * np.exp(parameters[1])
        return log_expit(odds), log_expit(-odds)

    def share_above(self, level: int, limit: float) -> np.ndarray:
        """As `Curves` has it; the limit cuts through every line along a."""
        a, b = self.axes
        under = below(a, logit(limit) - np.exp(b) * self.x[level - 1])
        return (1.0 - under).T.reshape(-1)
