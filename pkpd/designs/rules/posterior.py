"""Posteriors of dose-toxicity curves by quadrature on a grid of parameters.

A model is a grid of parameter values with the risk of each dose at each of them. The posterior of
many trials at once is then two matrix products. One-parameter models have a line of values, models
with two parameters a rectangle; the sums converge as those of a smooth integrand that vanishes at
its ends do, so that a few hundred values in each direction give eight figures.

The grid lies around the prior. Where data contradict the prior, the posterior reaches beyond it:
such trials are summed on a grid of the same step that was moved to where the posterior is. Trials
are looked over on a rough grid first; what then does not vanish at an end moves on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.polynomial import Polynomial
from scipy.special import log_expit, logit, ndtr

from pkpd.designs.data import Trials
from pkpd.designs.merging import merged

_ONE = (401, 8.5, 0.025)  # points, standard deviations on each side, widest step
_TWO = ((6.5, 0.065), (6.5, 0.13))
_CELLS = 8_000_000  # values of the likelihood held at once
_MOVE = 2.0  # standard deviations of the prior by which a grid is moved at a time
_ROUGH = (16.0, 33)  # the grid that is looked over first: on each side, points
_NEAR = 2.5  # a highest point so near to the prior's mean does not move the grid by itself
_VANISHES = 13.0  # logarithms of the density below its highest at which an end may lie
_LEAST = -80.0  # logarithms below count as this: products with smaller numbers are slow
_MOVES, _WIDEST = 60, 2
_KEPT = 12  # grids elsewhere that are kept
_MOST_LOG = 600.0


@dataclass(frozen=True)
class Line:
    """Even values of one parameter.

    Attributes
    ----------
    mean, sd
        Of its normal prior.
    least, step
        At least so many values around the prior, and no more than a step apart.
    width
        Standard deviations on each side.
    """

    mean: float
    sd: float
    least: int
    width: float
    step: float

    def values(self, move: int = 0, doublings: int = 0) -> np.ndarray:
        """Values around the prior, or moved and widened; their distance is the same."""
        count = max(self.least, int(np.ceil(2 * self.width * self.sd / self.step)) + 1)
        if not (move or doublings):
            return self.mean + self.sd * np.linspace(-self.width, self.width, count)
        half = (self.width + 0.5 * _MOVE) * 2**doublings
        cells = int(np.ceil(half * (count - 1) / self.width))
        half = 0.5 * cells * 2 * self.width / (count - 1)
        return self.mean + self.sd * (_MOVE * move + np.linspace(-half, half, cells + 1))


@dataclass(frozen=True, kw_only=True)
class Curves(ABC):
    """Dose-toxicity curves on a grid of parameters.

    Attributes
    ----------
    lines
        Values of each parameter.
    correlation
        Of the two parameters in the prior, where there are two.
    place
        Moves of the grid along each parameter, and how often it was doubled; empty for where the
        prior is.
    rough
        Whether this is the grid that is looked over first.
    """

    lines: tuple[Line, ...]
    correlation: float = 0.0
    place: tuple[int, ...] = ()
    rough: bool = False

    @cached_property
    def axes(self) -> tuple[np.ndarray, ...]:
        """Values of each parameter, evenly spaced."""
        if self.rough:
            units = np.linspace(-_ROUGH[0], _ROUGH[0], _ROUGH[1])
            return tuple(line.mean + line.sd * units for line in self.lines)
        moves = self.place or (0,) * (len(self.lines) + 1)
        return tuple(
            line.values(move, moves[-1]) for line, move in zip(self.lines, moves, strict=False)
        )

    @cached_property
    def log_prior(self) -> np.ndarray:
        """Logarithm of the prior density, shape of the grid, flattened."""
        units = [(x - line.mean) / line.sd for x, line in zip(self.grid, self.lines, strict=True)]
        if len(units) == 1:
            return -0.5 * units[0] ** 2
        u, v, rho = *units, self.correlation
        return -0.5 * (u**2 - 2 * rho * u * v + v**2) / (1 - rho**2)

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

    def expect(self, data: Trials, values: Callable[[Curves], np.ndarray]) -> np.ndarray:
        """Posterior means.

        Parameters
        ----------
        data
            What the trials have seen. A pending patient of weight w at a dose of risk p adds the
            factor ``1 - w p`` to the likelihood, one with a fraction q ``p^q (1 - p)^(1 - q)``.
        values
            What to average on a grid, shape ``(quantities, points)``.

        Returns
        -------
        array
            Shape ``(trials, quantities)``.
        """
        waits = bool(data.pending_level.any())
        first, back = merged(np.concatenate([data.completed, data.dlts], axis=1))
        if waits:  # patients differ by their weights
            first = back = np.arange(len(data.current))
        found: np.ndarray | None = None
        place = self._first_places(data, first, waits)
        last, left = np.zeros_like(place), np.arange(len(first))
        for turn in range(_MOVES + 1):
            for one in np.unique(place[left], axis=0):
                at = left[(place[left] == one).all(axis=1)]
                curves = self.elsewhere(tuple(map(int, one)))
                averaged = values(curves)
                if found is None:
                    found = np.empty((len(first), len(averaged)))
                for some in curves.chunks(at):
                    log_w = curves.log_weights(data, first[some], waits)
                    last[some] = _next_step(curves.leaves(log_w), last[some], one)
                    found[some] = _shares_of(log_w) @ averaged.T
            left = left[last[left].any(axis=1)]
            if not left.size or turn == _MOVES:
                break
            place[left] += last[left]
        return np.empty((0, 0)) if found is None else found[back]

    def elsewhere(self, place: tuple[int, ...]) -> Curves:
        """Give the same curves on a grid that was moved; those of the latest places are kept."""
        if not any(place):
            return self
        made = self._elsewhere.get(place)
        if made is None:
            while len(self._elsewhere) >= _KEPT:
                self._elsewhere.pop(next(iter(self._elsewhere)), None)
            made = self._elsewhere[place] = replace(self, place=place)
        return made

    @cached_property
    def _elsewhere(self) -> dict[tuple[int, ...], Curves]:
        return {}

    @cached_property
    def kept(self) -> dict[object, np.ndarray]:
        """What was averaged on this grid before."""
        return {}

    @cached_property
    def _looked_over(self) -> Curves:
        return replace(self, rough=True)

    def chunks(self, rows: np.ndarray) -> list[np.ndarray]:
        """Trials whose likelihoods are held at once."""
        step = max(1, _CELLS // self.grid.shape[1])
        return [rows[start : start + step] for start in range(0, len(rows), step)]

    def _first_places(self, data: Trials, rows: np.ndarray, waits: bool) -> np.ndarray:
        """Place of each trial's grid by the highest point of a rough one."""
        rough, k = self._looked_over, len(self.lines)
        place = np.zeros((len(rows), k + 1), int)
        for some in rough.chunks(np.arange(len(rows))):
            top = rough.grid[:, np.argmax(rough.log_weights(data, rows[some], waits), axis=1)]
            for j, line in enumerate(self.lines):
                away = (top[j] - line.mean) / line.sd
                far = np.abs(away) > _NEAR
                place[some, j] = np.where(far, np.rint(away / _MOVE), 0)
        return place

    def leaves(self, log_w: np.ndarray) -> np.ndarray:
        """Find ends at which densities do not vanish, ``(trials, parameters, 2)``: lower, upper."""
        shape = [len(axis) for axis in self.axes]
        cube = log_w.reshape(len(log_w), *shape)
        floor = log_w.max(axis=1) - _VANISHES
        found = np.zeros((len(log_w), len(shape), 2), bool)
        for j in range(len(shape)):
            for k in (0, 1):
                end = np.take(cube, -k, axis=j + 1).reshape(len(log_w), -1)
                found[:, j, k] = end.max(axis=1) > floor
        return found

    def log_weights(self, data: Trials, rows: np.ndarray, waits: bool) -> np.ndarray:
        """Logarithm of the posterior density up to a constant, ``(trials, points)``."""
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
        return log_w

    def moments(self, data: Trials) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and variances of the parameters, ``(trials, parameters)`` each."""
        k = len(self.lines)
        found = self.expect(data, lambda curves: np.concatenate([curves.grid, curves.grid**2]))
        return found[:, :k], found[:, k:] - found[:, :k] ** 2

    def risks_at(self, parameters: np.ndarray) -> np.ndarray:
        """Risks at given parameters, ``(trials, parameters)`` to ``(trials, levels)``."""
        return np.exp(self.log_risks(parameters.T)[0]).T

    def exceeds(self, data: Trials, level: int, limit: float) -> np.ndarray:
        """Posterior probability that the risk at a dose exceeds a limit, shape ``(trials,)``."""
        found = self.expect(data, lambda curves: curves.share_above(level, limit)[None, :])[:, 0]
        return np.clip(found, 0.0, 1.0)


def _shares_of(log_w: np.ndarray) -> np.ndarray:
    """Weights of the points, of sum 1; written where their logarithms were."""
    log_w -= log_w.max(axis=1, keepdims=True)
    np.maximum(log_w, _LEAST, out=log_w)
    weights = np.exp(log_w, out=log_w)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _next_step(leaves: np.ndarray, last: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Where grids are moved to whose densities do not vanish at an end; 0 where they stay.

    Towards that end; wider where it is both ends, or where the grid has just come from there.
    """
    step = leaves[:, :, 1].astype(int) - leaves[:, :, 0]
    back = (step * last[:, :-1] < 0) | leaves.all(axis=2)
    wider = back.any(axis=1) & (place[-1] < _WIDEST)
    step[back.any(axis=1)] = 0
    return np.concatenate([step, wider[:, None].astype(int)], axis=1)


def _exp(values: np.ndarray) -> np.ndarray:
    """Exponential that stays finite on grids far from the prior."""
    return np.exp(np.minimum(values, _MOST_LOG))


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


@dataclass(frozen=True, kw_only=True)
class PowerCurves(Curves):
    """``skeleton ** exp(b)``, b normal with mean 0: the empiric model of the CRM."""

    skeleton: np.ndarray

    @classmethod
    def make(cls, skeleton: Sequence[float], scale: float) -> PowerCurves:
        """Take b within 8.5 standard deviations of the prior."""
        lines = (Line(0.0, scale, *_ONE),)
        return cls(lines=lines, skeleton=np.asarray(skeleton, float))

    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement."""
        yes = np.log(self.skeleton)[:, None] * _exp(parameters[0])
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


@dataclass(frozen=True, kw_only=True)
class LogisticCurves(Curves):
    """``expit(a + exp(b) x)`` with a fixed: the one-parameter logistic model of the CRM."""

    intercept: float
    x: np.ndarray

    @classmethod
    def make(cls, skeleton: Sequence[float], scale: float, intercept: float) -> LogisticCurves:
        """Take doses x from the skeleton, with ``b = 0`` giving it back."""
        x = logit(np.asarray(skeleton, float)) - intercept
        return cls(lines=(Line(0.0, scale, *_ONE),), intercept=intercept, x=x)

    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement."""
        odds = self.intercept + self.x[:, None] * _exp(parameters[0])
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


@dataclass(frozen=True, kw_only=True)
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
        lines = tuple(
            Line(m, s, least, *_TWO[j])
            for j, (m, s, least) in enumerate(zip(mean, sd, points, strict=True))
        )
        return cls(lines=lines, correlation=correlation, x=np.asarray(x, float))

    def log_risks(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the risk and of its complement."""
        odds = parameters[0] + self.x[:, None] * _exp(parameters[1])
        return log_expit(odds), log_expit(-odds)

    def share_above(self, level: int, limit: float) -> np.ndarray:
        """As `Curves` has it; the limit cuts through every line along a."""
        a, b = self.axes
        under = below(a, logit(limit) - _exp(b) * self.x[level - 1])
        return (1.0 - under).T.reshape(-1)
