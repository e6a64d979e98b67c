"""Dosing events of a population to one grid of cells that all lanes share in shape.

Every lane has its own dose times, yet a batch wants one shape. The grid therefore counts in
*gaps*: the stretch between two neighbouring events (dose, end of an infusion) of a lane. Gap
``j`` has the same number of cells in all schedules, each schedule has its own cell length in it,
and a schedule with fewer events has gaps of no length, which cost time but change nothing. All
cells of a gap are equally long, so a gap needs one set of propagators; gaps whose lengths agree in
all schedules share it, and under one schedule for everybody a handful of sets remains.

Cells are aligned to every dose and infusion edge by construction; observations fall inside cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pkpd.arrays import Floats, Integers32
from pkpd.errors import DataError
from pkpd.solve.grid.versions import GridVersions, Versions, grid_versions

SAME_TIME = 1e-9  # hours: events closer than this (4 microseconds) are one event
DEFAULT_STEP_H = 4.0
_DAY = 24.0
_PROPAGATOR_COST = 8  # a set of propagators costs about as much as this many cells

DoseCells = Literal["usual", "fine"]
"""Short cells after the edges of doses, in parts of the longest cell: see `population_grid`."""

_USUAL, _FINE = (0.5,), (0.125, 0.375)


@dataclass(frozen=True, eq=False)
class Doses:
    """Doses of ``G`` schedules, padded to ``N`` each.

    Attributes
    ----------
    time_h : float[G, N]
        Start in hours; padding has amount 0 and drug -1.
    amount : float[G, N]
        Amount in mg (for a direct kill: natural-log units or whatever its rate is per).
    duration_h : float[G, N]
        Length of the infusion in hours, 0 for a bolus or an oral dose.
    drug : int[G, N]
        Index of the drug, -1 in the padding.
    """

    time_h: Floats
    amount: Floats
    duration_h: Floats
    drug: Integers32

    @property
    def n_schedules(self) -> int:
        """Number of schedules."""
        return int(self.time_h.shape[0])

    @classmethod
    def of(cls, schedules: Sequence[Sequence[tuple[float, float, float, int]]]) -> Doses:
        """Doses from one list of ``(time_h, amount, duration_h, drug)`` per schedule.

        Raises
        ------
        DataError
            If a number is not finite, or an amount, a duration or a drug index is negative.

        Examples
        --------
        >>> Doses.of([[(0.0, 9.0, 1.0, 0), (24.0, 9.0, 1.0, 0)]]).amount
        array([[9., 9.]])
        """
        width = max((len(s) for s in schedules), default=0)
        table = np.zeros((len(schedules), max(width, 1), 4))
        table[:, :, 3] = -1
        for g, schedule in enumerate(schedules):
            for i, dose in enumerate(schedule):
                _check_dose(dose, g, i)
                table[g, i] = dose
        return cls(table[..., 0], table[..., 1], table[..., 2], table[..., 3].astype(np.int32))


def _check_dose(dose: tuple[float, float, float, int], g: int, i: int) -> None:
    for name, value, low in zip(
        ("time", "amount", "duration", "drug"), dose, (-np.inf, 0.0, 0.0, 0), strict=True
    ):
        if not np.isfinite(value) or value < low:
            raise DataError(
                where=f"schedule {g}, dose {i}, {name}",
                what=f"value {value!r}",
                allowed="a finite number" + ("" if name == "time" else ", at least 0"),
            )


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of ``G`` schedules: ``J`` gaps, ``C`` cells, ``M`` sets of propagators, ``K`` drugs.

    Attributes
    ----------
    cells : int[J]
        Number of cells in each gap, the same in all schedules.
    length_index : int[J]
        Row of ``length_h`` that holds the cell length of the gap.
    length_h : float[M, G]
        Distinct cell lengths in hours.
    start_h : float[J + 1, G]
        Start of each gap, and the end of the last one.
    bolus : float[J, K, G]
        Amount that enters at the start of the gap.
    rate : float[J, K, G]
        Infusion rate during the gap, amount per hour.
    obs_cell : int[G, T]
        Cell of each observation, -1 for padding.
    obs_at : float[G, T]
        Position in the cell as a fraction of its length, in [0, 1].
    end_cell : int[G]
        Number of cells up to the last observation of the schedule.
    versions
        Which parameters of the drugs hold where, if they change.
    """

    cells: Integers32
    length_index: Integers32
    length_h: Floats
    start_h: Floats
    bolus: Floats
    rate: Floats
    obs_cell: Integers32
    obs_at: Floats
    end_cell: Integers32
    versions: GridVersions | None = None

    @property
    def n_schedules(self) -> int:
        """Number of schedules ``G``."""
        return int(self.length_h.shape[1])

    @property
    def n_cells(self) -> int:
        """Number of cells ``C``."""
        return int(self.cells.sum())

    @property
    def n_drugs(self) -> int:
        """Number of drugs ``K``."""
        return int(self.bolus.shape[1])

    @property
    def gap_of_cell(self) -> Integers32:
        """Gap of every cell, ``[C]``."""
        return np.repeat(np.arange(self.cells.size, dtype=np.int32), self.cells)

    def node_times(self) -> Floats:
        """Return the times of the ``C + 1`` cell edges in hours, ``[C + 1, G]``."""
        gap = self.gap_of_cell
        first = np.concatenate([[0], np.cumsum(self.cells)[:-1]])
        within = np.arange(gap.size) - first[gap]
        edges = self.start_h[gap] + within[:, None] * self.length_h[self.length_index[gap]]
        return np.concatenate([edges, self.start_h[-1:]])


def _event_times(
    doses: Doses, horizon: float, step: float, dose_cells: DoseCells, versions: Versions | None
) -> list[Floats]:
    """Collect times of doses, infusion ends and changes, and of the short cells after doses.

    The peak of an absorbed dose is far from a straight line; a short first cell after it brings
    the error of twenty-eight daily oral doses down threefold for one more cell a day.
    """
    after = step * np.array(_FINE if dose_cells == "fine" else _USUAL)[:, None]
    out = []
    for g in range(doses.n_schedules):
        real = (doses.drug[g] >= 0) & (doses.amount[g] > 0)
        start, length = doses.time_h[g][real], doses.duration_h[g][real]
        at_once = length <= SAME_TIME
        edges = np.unique(np.concatenate([start, (start + length)[~at_once]]))
        peaks = edges if dose_cells == "fine" else start[at_once]
        times = np.concatenate([edges, (peaks + after).ravel()])
        if versions is not None:
            times = np.append(times, versions.begins_h[g])
        times = np.sort(times[(times > SAME_TIME) & (times < horizon - SAME_TIME)])
        keep = np.ones(times.size, dtype=bool)
        last = -np.inf
        for i, t in enumerate(times):
            keep[i] = t - last > SAME_TIME
            last = t if keep[i] else last
        out.append(times[keep])
    return out


def _edges(events: list[Floats], anchors: Floats) -> Floats:
    """Gap edges ``[J + 1, G]``: the anchors, and the events between them lined up by rank."""
    n_segments = anchors.size - 1
    segment, inner = [], []
    counts = np.zeros((len(events), n_segments), dtype=int)
    for g, times in enumerate(events):
        near = np.abs(anchors[np.abs(times[:, None] - anchors).argmin(axis=1)] - times)
        times = times[near > SAME_TIME]
        where = np.searchsorted(anchors, times, side="right") - 1
        counts[g] = np.bincount(where, minlength=n_segments)
        segment.append(where)
        inner.append(times)
    slots = counts.max(axis=0)
    offset = np.concatenate([[0], np.cumsum(slots + 1)])
    edges = np.empty((offset[-1] + 1, len(events)))
    edges[-1] = anchors[-1]
    for s in range(n_segments):
        edges[offset[s]] = anchors[s]
        edges[offset[s] + 1 : offset[s + 1]] = anchors[s + 1]
    for g, (where, times) in enumerate(zip(segment, inner, strict=True)):
        first = np.concatenate([[0], np.cumsum(counts[g])[:-1]])
        edges[offset[where] + 1 + np.arange(times.size) - first[where], g] = times
    return edges


def _lengths(
    edges: Floats, step: float, versions: Versions | None
) -> tuple[Integers32, Integers32, Floats, Integers32 | None]:
    """Cells and length index of each gap, and of each length hours and versions, ``[M, G]``."""
    gaps = np.diff(edges, axis=0)
    # the guard keeps 24 h / 4 h at 6 cells whatever the rounding
    cells = np.maximum(1, np.ceil(gaps.max(axis=1) / step - 1e-9)).astype(np.int32)
    lengths = gaps / cells[:, None]
    kinds, version = np.round(lengths, 10), None
    if versions is not None:
        version = versions.in_gaps(edges)
        kinds = np.concatenate([version, kinds], axis=1)  # lengths of one set side by side
    _, first, index = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
    index = index.reshape(-1).astype(np.int32)
    return cells, index, lengths[first], None if version is None else version[first]


def population_grid(
    doses: Doses,
    times_h: ArrayLike,
    *,
    n_drugs: int,
    max_step_h: float = DEFAULT_STEP_H,
    dose_cells: DoseCells = "usual",
    versions: Versions | None = None,
    where: str = "population",
) -> Grid:
    """Grid of cells for a population.

    Parameters
    ----------
    doses
        Doses of ``G`` schedules; infusion and bolus times may differ between them.
    times_h
        Observation times in hours from 0, ``[T]`` for all schedules or ``[G, T]``; NaN is padding.
    n_drugs
        Number of drugs ``K``.
    max_step_h
        Longest cell in hours.
    dose_cells
        ``"usual"``: one cell of half the length after a bolus. ``"fine"``: one of an eighth and one
        of a quarter after every dose and every end of an infusion, for drugs that are distributed
        within an hour and act strongly.
    versions
        Times at which the parameters of the drugs change; cells are cut there.
    where
        What a message calls the input.

    Returns
    -------
    Grid
        The cells reach to the last observation of any schedule; later doses are left out.

    Raises
    ------
    DataError
        If an observation time is negative or infinite, all are missing, the shapes do not agree,
        the step is not positive, or a dose names a drug that does not exist.
    """
    times = np.atleast_2d(np.asarray(times_h, dtype=np.float64))
    groups = doses.n_schedules
    if times.shape[0] not in (1, groups):
        raise DataError(
            where=where,
            what=f"observation times of {times.shape[0]} schedules, doses of {groups}",
            remedy="give one row of times, or one per schedule",
        )
    times = np.broadcast_to(times, (groups, times.shape[1]))
    _check_inputs(doses, times, n_drugs, max_step_h, where)
    last = np.where(np.isnan(times), 0.0, times).max(axis=1)
    horizon = float(last.max())
    if horizon <= 0:
        horizon = max_step_h
    events = _event_times(doses, horizon, max_step_h, dose_cells, versions)
    daily = np.append(np.arange(0.0, horizon - SAME_TIME, _DAY), horizon)
    candidates = [_edges(events, daily)]
    if groups > 1:
        candidates.append(_edges(events, np.array([0.0, horizon])))
    built = [(edges, *_lengths(edges, max_step_h, versions)) for edges in candidates]
    edges, cells, index, length, version = min(
        built, key=lambda b: b[1].sum() + _PROPAGATOR_COST * b[3].shape[0]
    )
    bolus, rate, of_dose = _inputs(doses, edges, n_drugs, versions)
    obs_cell, obs_at = _observations(times, edges, cells)
    end = np.where(obs_cell >= 0, obs_cell + 1, 0).max(axis=1).astype(np.int32)
    found = None
    if versions is not None and version is not None and of_dose is not None:
        found = grid_versions(versions.count, version, of_dose)
    return Grid(cells, index, length, edges, bolus, rate, obs_cell, obs_at, end, found)


def _check_inputs(doses: Doses, times: Floats, n_drugs: int, max_step_h: float, where: str) -> None:
    problem = None
    if not (np.isfinite(max_step_h) and max_step_h > 0):
        problem = ("longest step", f"{max_step_h!r} h", "a number above 0")
    elif np.isnan(times).all():
        problem = ("observation times", "none is given", "at least one time in hours")
    elif np.isinf(times).any() or (times < 0).any():
        g, i = np.argwhere(np.isinf(times) | (times < 0))[0]
        problem = (f"schedule {g}, observation {i}", f"time {times[g, i]!r} h", "0 h or later")
    elif doses.drug.size and doses.drug.max() >= n_drugs:
        g, i = np.argwhere(doses.drug >= n_drugs)[0]
        problem = (
            f"schedule {g}, dose {i}",
            f"drug number {doses.drug[g, i]}",
            f"0 to {n_drugs - 1}",
        )
    if problem:
        raise DataError(where=f"{where}, {problem[0]}", what=problem[1], allowed=problem[2])


def _inputs(
    doses: Doses, edges: Floats, n_drugs: int, versions: Versions | None
) -> tuple[Floats, Floats, Integers32 | None]:
    """Boluses and rates by gap, and the version of their bioavailability, ``[J, K, G]``."""
    n_gaps, groups = edges.shape[0] - 1, edges.shape[1]
    bolus = np.zeros((n_gaps, n_drugs, groups))
    rate = np.zeros((n_gaps, n_drugs, groups))
    version = None
    if versions is not None:
        version = np.repeat(versions.in_gaps(edges)[:, None], n_drugs, axis=1)
    for g in range(groups):
        column = edges[:, g]
        horizon = column[-1]
        real = (doses.drug[g] >= 0) & (doses.amount[g] > 0)
        start, amount = doses.time_h[g][real], doses.amount[g][real]
        length, drug = doses.duration_h[g][real], doses.drug[g][real]
        in_time = (start < horizon - SAME_TIME) & (start > -SAME_TIME)
        at_once = in_time & (length <= SAME_TIME)
        # of several edges at the same time the last one begins the gap that has a length
        gap = np.searchsorted(column[:-1], start + SAME_TIME, side="right") - 1
        np.add.at(bolus[:, :, g], (gap[at_once], drug[at_once]), amount[at_once])
        if versions is not None and version is not None:
            version[gap[at_once], drug[at_once], g] = versions.of_dose[g][real][at_once]
        for i in np.flatnonzero(
            (length > SAME_TIME) & (start + length > SAME_TIME) & (start < horizon)
        ):
            inside = (column[:-1] > start[i] - 2 * SAME_TIME) & (
                column[1:] < start[i] + length[i] + 2 * SAME_TIME
            )
            rate[inside, drug[i], g] += amount[i] / length[i]
    return bolus, rate, version


def _observations(times: Floats, edges: Floats, cells: Integers32) -> tuple[Integers32, Floats]:
    first = np.concatenate([[0], np.cumsum(cells)]).astype(np.int64)
    obs_cell = np.full(times.shape, -1, dtype=np.int32)
    obs_at = np.zeros(times.shape)
    for g in range(times.shape[0]):
        column = edges[:, g]
        t = np.where(np.isnan(times[g]), 0.0, times[g])
        gap = np.clip(np.searchsorted(column[:-1], t, side="right") - 1, 0, cells.size - 1)
        length = np.diff(column)[gap] / cells[gap]
        position = np.divide(t - column[gap], length, out=np.zeros_like(t), where=length > 0)
        # a time on an edge up to rounding is that edge: daily counts need no interpolation
        near = np.round(position)
        position = np.where(np.abs(position - near) < 1e-9, near, position)
        cell = np.minimum(np.floor(position), cells[gap] - 1).astype(np.int64)
        obs_cell[g] = np.where(np.isnan(times[g]), -1, first[gap] + cell)
        obs_at[g] = np.clip(position - cell, 0.0, 1.0)
    return obs_cell, obs_at


def refine(grid: Grid, factor: int = 2) -> Grid:
    """Divide every cell into ``factor`` equal ones."""
    at = grid.obs_at * factor
    part = np.minimum(np.floor(at), factor - 1)
    cell = np.where(grid.obs_cell >= 0, grid.obs_cell * factor + part, -1).astype(np.int32)
    return replace(
        grid,
        cells=grid.cells * np.int32(factor),
        length_h=grid.length_h / factor,
        obs_cell=cell,
        obs_at=np.where(grid.obs_cell >= 0, at - part, 0.0),
        end_cell=grid.end_cell * np.int32(factor),
    )


def bucket(size: int, *, smallest: int = 8) -> int:
    """Next size at or above ``size`` on a ladder of eighths of powers of two.

    Padding to it wastes at most an eighth, and data sets of similar size share a compilation.

    Examples
    --------
    >>> bucket(61), bucket(365), bucket(3)
    (64, 384, 8)
    """
    if size <= smallest:
        return smallest
    unit = max(smallest, 1 << max(0, (size - 1).bit_length() - 4))
    return -(-size // unit) * unit


@dataclass(frozen=True, eq=False)
class CellGrid:
    """A grid written out by cell and padded to bucket sizes, for engines compiled by shape.

    Attributes
    ----------
    length_index : int[C]
        Row of ``length_h`` of each cell; padding cells have length 0.
    length_h : float[M, G]
        Distinct cell lengths in hours.
    bolus, rate : float[C, K, G]
        Amount entering at the start of the cell, and infusion rate in it.
    obs_cell : int[G, T]
        Cell of each observation (0 in the padding).
    obs_at : float[G, T]
        Position in the cell.
    """

    length_index: Integers32
    length_h: Floats
    bolus: Floats
    rate: Floats
    obs_cell: Integers32
    obs_at: Floats


def by_cell(grid: Grid) -> CellGrid:
    """Write a grid out by cell, padded to bucket sizes."""
    gap = grid.gap_of_cell
    n_cells, n_lengths = gap.size, grid.length_h.shape[0]
    n_obs = grid.obs_cell.shape[1]
    to_cells = bucket(n_cells, smallest=32)
    to_lengths = bucket(n_lengths + 1, smallest=4)
    to_obs = bucket(n_obs)
    length_h = np.zeros((to_lengths, grid.n_schedules))
    length_h[:n_lengths] = grid.length_h
    index = np.full(to_cells, n_lengths, dtype=np.int32)
    index[:n_cells] = grid.length_index[gap]
    rate = np.zeros((to_cells, grid.n_drugs, grid.n_schedules))
    rate[:n_cells] = grid.rate[gap]
    bolus = np.zeros_like(rate)
    first = np.concatenate([[0], np.cumsum(grid.cells)[:-1]])
    bolus[first] = grid.bolus
    obs_cell = np.zeros((grid.n_schedules, to_obs), dtype=np.int32)
    obs_cell[:, :n_obs] = np.maximum(grid.obs_cell, 0)
    obs_at = np.zeros(obs_cell.shape)
    obs_at[:, :n_obs] = grid.obs_at
    return CellGrid(index, length_h, bolus, rate, obs_cell, obs_at)
