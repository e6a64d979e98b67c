"""Search of sampling times: exchange over a grid, then gradients between its points.

Each sample in turn moves to the hour of the grid that raises the criterion most, the others as they
are (coordinate exchange), until none moves, from several starts. The best design is refined: in
a neighbourhood of each sample the quantities are interpolated at Chebyshev nodes, which makes the
criterion a smooth function of all times with a gradient in JAX, and sequential quadratic
programming raises it within windows and distances. Exchange over the grid is tried again from
there, with predictions at the found times themselves, until neither raises the criterion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.errors import PkpdError
from pkpd.fitting.information.candidates import (
    Belief,
    Told,
    between,
    choices,
    nodes,
    told_of,
)
from pkpd.fitting.information.expected import padded
from pkpd.fitting.information.groups import dataset_of
from pkpd.fitting.information.quantities import Linearised
from pkpd.fitting.information.windows import Space
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.specification import PopulationModel

Times = list[FloatArray]

_NODES = 9
_PASSES = 40
_ROUNDS = 8
_GAIN = 1e-7  # of the criterion, below which a move is none
_DECIMALS = 4  # of the hours that are found
_RIDGE = 1e-9  # of what all candidates tell: keeps order among designs that do not tell everything


@dataclass(frozen=True, eq=False)
class Found:
    """Times that were found.

    Attributes
    ----------
    times
        Hours of each group, in the order of its samples.
    value
        Criterion, the mean over the values of the parameters.
    matrices : float[D, P, P]
        Information at each of them.
    starts
        Criterion on the grid that each start came to.
    """

    times: Times
    value: float
    matrices: FloatArray
    starts: tuple[float, ...] = ()


@dataclass(eq=False)
class Scene:
    """Groups whose times are searched.

    Attributes
    ----------
    model, spaces
        What is measured, and where samples of each group can lie.
    belief
        Values of the parameters, and the criterion.
    rng
        Of random starts.
    ridge : float[D, P, P]
        What is added to the information in a search; made with the first grid.
    length
        Hours of a grid, the last one repeated.
    """

    model: PopulationModel
    spaces: Sequence[Space]
    belief: Belief
    rng: np.random.Generator
    ridge: FloatArray | None = None
    length: int = 0

    @property
    def subjects(self) -> list[float]:
        """Of each group."""
        return [one.group.subjects for one in self.spaces]

    def linearised(self, hours: Sequence[FloatArray]) -> tuple[Linearised, list[NDArray[np.int64]]]:
        """Predictions of every line at hours of each group, and where they are, ``[T, L]``."""
        data, places = dataset_of(
            self.model, [one.group for one in self.spaces], [list(h) for h in hours]
        )
        bent = self.belief.full or self.belief.points > 0
        return Linearised(bind(self.model, data), bent=bent), places

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines in the order of places."""
        return tuple(n for n in self.model.structure.lines if n in self.model.residual)

    def columns(self, g: int) -> list[list[int]]:
        """Lines of each sample of a group, by number."""
        return [[self.lines.index(n) for n in some] for some in self.spaces[g].lines]


@dataclass(eq=False)
class Grid:
    """A scene at a grid of hours, on which exchange goes on."""

    scene: Scene
    hours: Times
    told: Told
    places: list[NDArray[np.int64]]

    @classmethod
    def of(cls, scene: Scene, *more: Times) -> Grid:
        """Make one of the grids of all groups and further times."""
        hours = [
            np.unique(np.concatenate([one.grid, *(times[g] for times in more)]))
            for g, one in enumerate(scene.spaces)
        ]
        # one length for all grids of a scene, so that one program serves them
        scene.length = max(scene.length, *(len(h) for h in hours))
        hours = [np.pad(h, (0, scene.length - len(h)), mode="edge") for h in hours]
        linearised, places = scene.linearised(hours)
        told = told_of(linearised, scene.belief)
        made = cls(scene, hours, told, places)
        if scene.ridge is None:
            scene.ridge = made._ridge(linearised)
        return made

    def _ridge(self, linearised: Linearised) -> FloatArray:
        """Give a little of what all candidates together tell; refuse if they leave something."""
        total = np.zeros_like(self.told.slopes) + self.scene.belief.prior
        for g, rows in enumerate(self.places):
            flat = rows[self.scene.spaces[g].inside(self.hours[g])].reshape(1, -1)
            fine = np.ones(flat.shape, dtype=bool)
            none = np.zeros_like(total)
            total = total + choices(self.told, flat, fine, none, self.scene.subjects[g])[0][0]
        scale = np.sqrt(np.maximum(np.einsum("dpp->dp", total), 0.0))
        unit = total / np.maximum(scale[:, :, None] * scale[:, None, :], 1e-300)
        values, axes = np.linalg.eigh(unit)
        lost = np.max(np.sum(np.where(values[:, None, :] < 1e-10, axes, 0.0) ** 2, axis=2), axis=0)
        if np.any(lost > 1e-6):
            names = [n for n, gone in zip(linearised.free.names, lost, strict=True) if gone > 1e-6]
            raise PkpdError(
                where="optimal times",
                what=f"no times in these windows tell {', '.join(names[:10])}",
                remedy="give other doses or covariates, measure other lines, widen the windows, "
                "or hold parameters with fixed(...)",
            )
        return _RIDGE * total

    def rows(self, g: int, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Observations of a group whose samples lie at places of the grid, one after the other."""
        return np.concatenate(
            [self.places[g][k, cols] for k, cols in zip(at, self.scene.columns(g), strict=True)]
        )

    def matrix(self, g: int, at: NDArray[np.int64]) -> FloatArray:
        """Information of a group, ``[D, P, P]``."""
        rows, valid = self._padded(g, [self.rows(g, at)])
        none = np.zeros_like(self.told.slopes)
        return choices(self.told, rows, valid, none, self.scene.subjects[g])[0][0]

    def _padded(
        self, g: int, some: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Choices of one shape for all groups, so that one program serves them."""
        widest = max(sum(map(len, self.scene.columns(k))) for k in range(len(self.places)))
        most = 1 + max(len(hours) for hours in self.hours)  # a sample stays, or goes to any
        rows, valid = padded([*some, np.zeros(widest, dtype=int)])
        rows, valid = rows[:-1], valid[:-1]
        again = np.resize(np.arange(len(rows)), most)
        return rows[again], valid[again]

    def at(self, times: Times) -> list[NDArray[np.int64]]:
        """Places on the grid of times that are on it."""
        return [np.searchsorted(h, t) for h, t in zip(self.hours, times, strict=True)]

    def value(self, times: Times) -> Found:
        """Criterion and information of times that are on the grid, nothing added."""
        at = self.at(times)
        parts = [self.matrix(g, at[g]) for g in range(len(at))]
        rows, valid = self._padded(0, [self.rows(0, at[0])])
        others = np.sum(parts[1:], axis=0) + self.scene.belief.prior
        others = np.broadcast_to(others, self.told.slopes.shape)
        found = choices(self.told, rows, valid, others, self.scene.subjects[0])[1]
        return Found(times, float(found[0]), np.sum(parts, axis=0) + self.scene.belief.prior)

    def exchanged(self, times: Times) -> tuple[Times, float, int]:
        """Move samples one by one to the best hours; times, criterion and number of moves."""
        assert self.scene.ridge is not None
        at = self.at(times)
        parts = [self.matrix(g, at[g]) for g in range(len(at))]
        base = self.scene.belief.prior + self.scene.ridge
        best, moves = -np.inf, 0
        for _ in range(_PASSES):
            moved = False
            for g, space in enumerate(self.scene.spaces):
                others = base + sum(parts[k] for k in range(len(parts)) if k != g)
                others = np.broadcast_to(others, self.told.slopes.shape)
                for k in range(len(at[g])):
                    now = self.hours[g][at[g]]
                    fine = np.flatnonzero(space.fits(now, k, self.hours[g]))
                    fine = np.concatenate([[at[g][k]], fine])
                    tried = np.tile(at[g], (len(fine), 1))
                    tried[:, k] = fine
                    rows, valid = self._padded(g, [self.rows(g, one) for one in tried])
                    found, values = choices(self.told, rows, valid, others, space.group.subjects)
                    values = np.where(
                        np.isfinite(values[: len(fine)]), values[: len(fine)], -np.inf
                    )
                    top = int(np.argmax(values))
                    best = max(best, float(values[0]))
                    if values[top] > values[0] + _GAIN:
                        at[g][k], parts[g], best = fine[top], found[top], float(values[top])
                        moved, moves = True, moves + 1
            if not moved:
                break
        return [h[a] for h, a in zip(self.hours, at, strict=True)], best, moves


def polished(scene: Scene, times: Times, radius: float) -> Times:
    """Raise the criterion by its gradient, each sample within its neighbourhood on the grid.

    Parameters
    ----------
    scene, times
        What is searched, and where it begins.
    radius
        Part of the distance to the neighbours on the grid, at most 1.
    """
    from scipy.optimize import minimize

    edges = [_near(one, hours, radius) for one, hours in zip(scene.spaces, times, strict=True)]
    centre = np.concatenate([(low + high) / 2 for low, high in edges])
    half = np.concatenate([(high - low) / 2 for low, high in edges])
    if not np.any(half > 0):
        return times
    sizes = [len(hours) for hours in times]
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    unit = nodes(_NODES)
    hours = [(centre[a:b, None] + half[a:b, None] * unit).ravel() for a, b in pairwise(firsts)]
    linearised, places = scene.linearised(hours)
    told = told_of(linearised, scene.belief)
    rows, of = [], []
    for g in range(len(sizes)):
        by_node = places[g].reshape(sizes[g], _NODES, -1)
        columns = scene.columns(g)
        rows.append(np.stack([by_node[k, :, c] for k in range(sizes[g]) for c in columns[k]]))
        of.append(np.array([firsts[g] + k for k in range(sizes[g]) for _ in columns[k]]))
    assert scene.ridge is not None  # made with the grid
    others = np.broadcast_to(scene.belief.prior + scene.ridge, told.slopes.shape)
    function = between(told, rows, of, others, scene.subjects)
    flat = np.concatenate(times)
    u = np.divide(flat - centre, half, out=np.zeros_like(flat), where=half > 0)
    pairs = [
        (firsts[g] + a, firsts[g] + b)
        for g, one in enumerate(scene.spaces)
        for a, b in zip(*np.nonzero(one.rivals), strict=True)
        if (times[g][a], a) < (times[g][b], b)
    ]
    limits: Any = ()
    if pairs:
        slope = np.zeros((len(pairs), len(flat)))
        for row, (a, b) in enumerate(pairs):
            slope[row, a], slope[row, b] = -half[a], half[b]
        gap = np.array([centre[b] - centre[a] for a, b in pairs]) - scene.spaces[0].apart
        limits = ({"type": "ineq", "fun": lambda v: slope @ v + gap, "jac": lambda _: slope},)
    found = minimize(
        function, np.clip(u, -1, 1), jac=True, method="SLSQP", bounds=[(-1.0, 1.0)] * len(flat),
        constraints=limits, options={"maxiter": 200, "ftol": 1e-13},
    )  # fmt: skip
    moved = centre + half * np.clip(found.x, -1.0, 1.0)
    return [moved[a:b] for a, b in pairwise(firsts)]


def _near(space: Space, times: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """Neighbourhood of each sample: to the next hours of the grid, within window and dose."""
    low, high = np.empty_like(times), np.empty_like(times)
    for k, hour in enumerate(times):
        below = space.grid[space.grid < hour - 1e-9]
        above = space.grid[space.grid > hour + 1e-9]
        a = hour - radius * (hour - below[-1]) if below.size else hour
        b = hour + radius * (above[0] - hour) if above.size else hour
        passed = space.breaks[space.breaks <= hour + 1e-9]
        coming = space.breaks[space.breaks > hour + 1e-9]
        if passed.size:
            a = max(a, float(passed[-1]))
        if coming.size:
            b = min(b, max(hour, float(coming[0]) - 1e-3))
        low[k], high[k] = max(a, space.low[k]), min(b, space.high[k])
        low[k], high[k] = min(low[k], hour), max(high[k], hour)
    return low, high


def search(scene: Scene, given: Times, starts: int) -> tuple[Found, Found]:
    """Search the best times.

    Parameters
    ----------
    scene
        What is searched.
    given
        Times of the design as it is; one of the starts if they lie within the windows.
    starts
        Further ones.

    Returns
    -------
    given, found
        Both with the exact criterion.
    """
    begins = [given] if all(s.allows(t) for s, t in zip(scene.spaces, given, strict=True)) else []
    early = [one.early() for one in scene.spaces]
    begins.append([one for one in early if one is not None])
    wanted = len(begins) + starts
    for _ in range(200 * starts):
        if len(begins) == wanted:
            break
        some = [one.early(scene.rng.random(len(one.low))) for one in scene.spaces]
        if all(one is not None for one in some):
            begins.append([one for one in some if one is not None])
    grid = Grid.of(scene, given, *begins)
    ends = [grid.exchanged(one) for one in begins]
    before = grid.value(given)
    times, value, _ = max(ends, key=lambda end: end[1])
    reached = tuple(end[1] for end in ends)
    free = all(one.chosen is None for one in scene.spaces)
    radius, last = 1.0, grid
    for _ in range(_ROUNDS if free else 0):
        moved = polished(scene, times, radius)
        moved = [
            t if s.allows(t) else old for s, t, old in zip(scene.spaces, moved, times, strict=True)
        ]
        last = Grid.of(scene, moved, times)
        after, reached_now, moves = last.exchanged(moved)
        gain = reached_now - value
        if gain < -_GAIN:  # interpolation missed something: come nearer
            radius *= 0.25
            continue
        times, value = after, reached_now
        if gain < 1e-6 and not moves:
            break
    if free:
        # no clock tells a smaller part of an hour, and what two samples told by it were rounding
        near = [np.round(hours, _DECIMALS) for hours in times]
        allowed = [s.allows(t) for s, t in zip(scene.spaces, near, strict=True)]
        times = [t if ok else old for t, ok, old in zip(near, allowed, times, strict=True)]
        last = Grid.of(scene, times)
    found = last.value(times)
    return before, Found(found.times, found.value, found.matrices, reached)
