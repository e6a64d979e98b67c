"""Concentrations of linear kinetics and their areas, exact at every edge of a grid.

The area is one more state of the linear system, ``dA/dt = C`` (Van Loan, IEEE Trans. Automat.
Contr. 23 (1978) 395-404), so that areas have no error of integration. Between edges, at most an
hour apart and less after a dose, the concentration is the cubic with the exact values and slopes of
both ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.exposure.sources import DrugLanes
from pkpd.kinetics.exponential import step_matrices
from pkpd.kinetics.linear import LinearPK
from pkpd.schedule import Regimen, individual_dose_mg
from pkpd.solve.cache import keep_compilations

AFTER_DOSE_H = (*np.arange(1, 21) / 20.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0)
"""Edges after a dose and after the end of an infusion."""

SHARES = np.linspace(0.0, 1.0, 17)
"""Where a cubic is looked at to find how long it is above a level."""

_STEP = jax.jit(step_matrices)
WIDTH = 256
"""Lanes that are solved at once; fewer are filled up, so that one program does for all."""


@dataclass(frozen=True, eq=False)
class LevelDose:
    """One dose: when (h), for how long (h), how much (mg, ``[L]``) and on which dosing day."""

    start: float
    duration: float
    amount: Floats
    occasion: int

    @property
    def midnight(self) -> float:
        """Hour 0 of its day, from which on the kinetics are those of its occasion."""
        return 24.0 * (self.start // 24.0)


def doses_of(regimen: Regimen, drug: DrugLanes, days: int) -> list[LevelDose]:
    """Doses of a drug as planned: nothing delayed, held or reduced, every gate met at once."""
    given = []
    for course, start in zip(regimen.courses, regimen.start_days, strict=True):
        for rule in course.doses:
            if rule.drug != drug.name:
                continue
            amount = individual_dose_mg(rule, rule.amount, drug.surface, drug.weight)
            amount = np.broadcast_to(amount, drug.surface.shape)
            for cycle in range(course.cycles):
                for day in rule.days:
                    on = start + cycle * course.cycle_days + day - 2
                    if on < days:
                        given.append((24.0 * on + rule.hour, rule.duration_h, amount, on))
    order = {day: o for o, day in enumerate(sorted({day for *_, day in given}))}
    given.sort(key=lambda one: one[:2])
    return [LevelDose(t, duration, amount, order[day]) for t, duration, amount, day in given]


def edges_of(doses: Sequence[LevelDose], further: Floats, end: float) -> Floats:
    """Edges of the grid in hours, from 0 to ``end``."""
    turns = [t for d in doses for t in (d.start, d.start + d.duration)]
    near = np.add.outer(np.array(turns), np.array((0.0, *AFTER_DOSE_H))).ravel()
    every = np.concatenate([np.arange(0.0, end + 1.0), near, further, [end]])
    inside = every[(every >= 0.0) & (every <= end)]
    return np.unique(np.round(inside.astype(np.float64), 9))


@dataclass(frozen=True, eq=False)
class Levels:
    """Concentrations of a drug in L lanes over C cells.

    Attributes
    ----------
    edges
        Hours, ``[C + 1]``.
    left, right
        Concentration at the start of each cell, after a dose there, and at its end, ``[C, L]``.
    left_slope, right_slope
        Its slopes there, per hour.
    area
        From 0 to each edge, ``[C + 1, L]``.
    rest
        Area from the last edge to infinity if nothing more is given, ``[L]``.
    half_life
        Longest half-life of disposition of all occasions, h, ``[L]``.
    """

    edges: Floats
    left: Floats
    right: Floats
    left_slope: Floats
    right_slope: Floats
    area: Floats
    rest: Floats
    half_life: Floats

    @cached_property
    def _peak(self) -> tuple[Floats, Floats]:
        """Highest point of the cubic of each cell: time and value, ``[C, L]``."""
        h = np.diff(self.edges)[:, None]
        a, b, da, db = self.left, self.right, self.left_slope * h, self.right_slope * h
        second, third = 3.0 * (b - a) - 2.0 * da - db, 2.0 * (a - b) + da + db
        inside = (da > 0.0) & (db < 0.0)
        root = np.sqrt(np.maximum(second**2 - 3.0 * da * third, 0.0))
        below = np.where(inside, root - second, 1.0)
        share = np.where(inside, np.clip(da / np.where(below > 0.0, below, 1.0), 0, 1), b > a)
        value = a + share * (da + share * (second + share * third))
        return self.edges[:-1, None] + share * h, np.where(inside, value, np.maximum(a, b))

    def highest(self, begin: float, end: float) -> tuple[Floats, Floats]:
        """Peak of an interval whose ends are edges, and its time, ``[L]``."""
        cells = self._cells(begin, end)
        when, value = (part[cells] for part in self._peak)
        top = np.argmax(value, axis=0), np.arange(value.shape[1])
        return value[top], when[top]

    def above(self, level: float, begin: float, end: float) -> Floats:
        """Hours of an interval above a level, ``[L]``."""
        cells, total = self._cells(begin, end), np.zeros(self.left.shape[1])
        h = np.diff(self.edges)[cells][:, None]
        before = self.left[cells] - level
        for a, b in pairwise(SHARES):
            after = self._cubic(cells, float(b), h) - level
            up = np.maximum(before, 0.0) + np.maximum(after, 0.0)
            size = np.abs(before) + np.abs(after)
            total += np.sum((b - a) * h * up / np.where(size > 0.0, size, 1.0), axis=0)
            before = after
        return total

    def _cubic(self, cells: slice, u: float, h: Floats) -> Floats:
        a, b = self.left[cells], self.right[cells]
        da, db = self.left_slope[cells] * h, self.right_slope[cells] * h
        first = (1.0 + 2.0 * u) * (1.0 - u) ** 2
        return first * a + (1.0 - first) * b + u * (1.0 - u) * ((1.0 - u) * da - u * db)

    def _cells(self, begin: float, end: float) -> slice:
        return slice(*(int(np.searchsorted(self.edges, round(t, 9))) for t in (begin, end)))

    def at(self, times: Floats) -> Floats:
        """Concentration at edges, before a dose there, ``[T, L]``."""
        places = np.searchsorted(self.edges, np.round(times, 9))
        return np.concatenate([np.zeros((1, self.left.shape[1])), self.right])[places]

    def between(self, begin: float, end: float) -> Floats:
        """Area between two edges, ``[L]``."""
        cells = self._cells(begin, end)
        return self.area[cells.stop] - self.area[cells.start]


def levels(drug: DrugLanes, doses: Sequence[LevelDose], edges: Floats) -> Levels:
    """Concentrations of a drug in all lanes.

    Parameters
    ----------
    drug
        The drug.
    doses
        Its doses, in order.
    edges
        Hours, ascending from 0, with the start and end of every dose and hour 0 of its day
        (`edges_of`). A dosing day is an occasion, and its kinetics are those of all of that day, as
        in `pkpd.simulate`.
    """
    keep_compilations()
    lanes = drug.surface.size
    lengths, which = np.unique(np.round(np.diff(edges), 9), return_inverse=True)
    occasions = max((len(f) for f in drug.occasion.values()), default=1)
    occasions = min(occasions, 1 + max((d.occasion for d in doses), default=0))
    parts = [
        _march(drug, doses, edges, lengths, which, occasions, slice(first, first + WIDTH))
        for first in range(0, lanes, WIDTH)
    ]
    names = tuple(Levels.__dataclass_fields__)[1:]
    joined = {n: np.concatenate([getattr(p, n) for p in parts], axis=-1) for n in names}
    return Levels(edges, **joined)


def _march(
    drug: DrugLanes,
    doses: Sequence[LevelDose],
    edges: Floats,
    lengths: Floats,
    which: NDArray[np.int64],
    occasions: int,
    chosen: slice,
) -> Levels:
    """Carry some lanes from edge to edge."""
    pk, own = drug.pk, dict[str, Floats]()
    n = drug.surface[chosen].size
    for name in (*pk.parameters, "F"):
        factor = drug.occasion[name][:, chosen] if name in drug.occasion else np.ones((1, 1))
        last = np.minimum(np.arange(occasions), len(factor) - 1)
        value = np.broadcast_to(drug.parameters[name][chosen] * factor[last], (occasions, n))
        own[name] = np.pad(value, ((0, 0), (0, WIDTH - n)), mode="edge")
    made = [_systems(pk, {name: value[o] for name, value in own.items()}) for o in range(occasions)]
    found = [np.asarray(system) for system, _ in made]
    weights = [system[:n, -1, :-1] for system in found]
    changes = [
        np.einsum("li,lij->lj", w, a[:n, :-1, :-1]) for w, a in zip(weights, found, strict=True)
    ]
    unit = np.zeros((WIDTH, pk.n_states + 1))
    unit[:, 0] = 1.0
    moved, gained = [], []
    for system in found:
        steps = [_STEP(system, unit, np.full(WIDTH, h)) for h in lengths]
        moved.append([np.asarray(transition)[:n] for transition, _ in steps])
        gained.append([np.asarray(gain)[:n] for _, gain in steps])
    cells, s = edges.size - 1, pk.n_states
    left, right, left_slope, right_slope = (np.zeros((cells, n)) for _ in range(4))
    area = np.zeros((cells + 1, n))
    x, o = np.zeros((n, s + 1)), 0
    turns = {int(np.searchsorted(edges, d.midnight)): min(d.occasion, occasions - 1) for d in doses}
    boluses: dict[int, list[LevelDose]] = {}
    rates = np.zeros((cells, n))
    for dose in doses:
        start, stop = np.searchsorted(edges, np.round([dose.start, dose.start + dose.duration], 9))
        boluses.setdefault(int(start), []).append(dose)
        if dose.duration > 0.0:
            share = own["F"][min(dose.occasion, occasions - 1), :n] / dose.duration
            rates[start:stop] += dose.amount[chosen] * share
    for c in range(cells):
        o = turns.get(c, o)
        for dose in boluses.get(c, ()):
            if dose.duration == 0.0:
                x[:, 0] += dose.amount[chosen] * own["F"][o, :n]
        w, change, rate = weights[o], changes[o], rates[c]
        for values, slopes, move in ((left, left_slope, True), (right, right_slope, False)):
            values[c] = np.sum(w * x[:, :s], axis=1)
            slopes[c] = np.sum(change * x[:, :s], axis=1) + w[:, 0] * rate
            if move:
                k = which[c]
                x = (moved[o][k] @ x[:, :, None])[:, :, 0] + gained[o][k] * rate[:, None]
        area[c + 1] = x[:, s]
    left_over = np.linalg.solve(found[o][:n, :s, :s], x[:, :s, None])[..., 0]
    return Levels(
        *(edges, left, right, left_slope, right_slope, area),
        rest=-np.sum(weights[o] * left_over, axis=1),
        half_life=np.max([np.asarray(made[k][1])[:n] for k in range(o + 1)], axis=0),
    )


@partial(jax.jit, static_argnums=0)
def _systems(pk: LinearPK, own: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
    """Rate matrices whose last state is the area, ``[L, S + 1, S + 1]``, and half-lives ``[L]``."""
    states = np.eye(pk.n_states)[:, :, None]
    area = jnp.stack([pk.value(own, state) for state in states])
    systems = jnp.concatenate([pk.rate_matrix(own), area[None]])
    systems = jnp.pad(systems, ((0, 0), (0, 1), (0, 0)))
    return jnp.moveaxis(systems, -1, 0), pk.half_lives(own)[0]
