"""Where samples may lie: windows, hours to choose among, and the distance between samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.fitting.information.groups import SamplingGroup
from pkpd.fitting.model.specification import PopulationModel

Windows = Sequence[Any] | Mapping[str, Sequence[Any]]

_GRID = 48  # hours of a window that are tried, evenly spread and after each dose
_BEFORE = 1e-3  # hours before a dose, for a trough
_NEAR = 1e-6  # hours by which a distance may be missed


@dataclass(frozen=True, eq=False)
class Space:
    """What the times of one group can be.

    Attributes
    ----------
    group
        Who is sampled.
    low, high : float[S]
        Window of each sample, in hours.
    apart
        Least distance between samples of a line.
    lines
        What each sample measures.
    chosen : float[C] or None
        Hours among which to choose; any within the windows if none are named.
    """

    group: SamplingGroup
    low: FloatArray
    high: FloatArray
    apart: float
    lines: tuple[tuple[str, ...], ...]
    chosen: FloatArray | None

    @cached_property
    def rivals(self) -> NDArray[np.bool_]:
        """Pairs of samples that keep their distance, ``[S, S]``."""
        sets = [set(some) for some in self.lines]
        found = np.array([[bool(a & b) for b in sets] for a in sets])
        np.fill_diagonal(found, False)
        return found & (self.apart > 0)

    @cached_property
    def breaks(self) -> FloatArray:
        """Hours at which a dose begins or ends, or an occasion does."""
        found = list(self.group.occasions)
        for dose in self.group.doses:
            starts = dose.get("TIME", 0.0) + dose.get("II", 0.0) * np.arange(
                int(dose.get("ADDL", 0.0)) + 1
            )
            found += list(starts)
            if dose.get("RATE", 0.0) > 0:
                found += list(starts + dose.get("AMT", 0.0) / dose["RATE"])
        return np.unique(np.array(found, dtype=float))

    @cached_property
    def grid(self) -> FloatArray:
        """Hours that are tried, rising."""
        if self.chosen is not None:
            return self.chosen
        every: list[FloatArray] = []
        for low, high in sorted(set(zip(self.low.tolist(), self.high.tolist(), strict=True))):
            inner = self.breaks[(self.breaks > low) & (self.breaks < high)]
            edges = np.array([low, *inner, high])
            every += [edges, np.linspace(low, high, _GRID), inner - _BEFORE]
            for start, end in pairwise(edges.tolist()):
                number = max(4, _GRID // (2 * (len(edges) - 1)))
                every.append(start + (end - start) * np.geomspace(1e-3, 1.0, number))
        found = np.concatenate(every)
        return np.unique(found[found >= 0])

    def inside(self, hours: FloatArray) -> NDArray[np.bool_]:
        """Whether some sample can lie at each of several hours."""
        fine = (hours >= self.low[:, None] - _NEAR) & (hours <= self.high[:, None] + _NEAR)
        if self.chosen is not None:
            fine &= np.isin(hours, self.chosen)
        return np.any(fine, axis=0)

    def fits(self, times: FloatArray, sample: int, hours: FloatArray) -> NDArray[np.bool_]:
        """Whether a sample can be moved to each of several hours, the others as they are."""
        fine = (hours >= self.low[sample] - _NEAR) & (hours <= self.high[sample] + _NEAR)
        for other in np.flatnonzero(self.rivals[sample]):
            fine &= np.abs(hours - times[other]) >= self.apart - _NEAR
        if self.chosen is not None:
            fine &= np.isin(hours, self.chosen)
        return fine

    def allows(self, times: FloatArray) -> bool:
        """Whether all samples can lie at these hours."""
        return all(bool(self.fits(times, k, times[k : k + 1])[0]) for k in range(len(times)))

    def ordered(self, times: FloatArray) -> FloatArray:
        """Return times such that samples with one window and the same lines are in order."""
        found = times.copy()
        keys = list(zip(self.low.tolist(), self.high.tolist(), self.lines, strict=True))
        for key in set(keys):
            mine = [k for k, other in enumerate(keys) if other == key]
            ranks = np.argsort(np.argsort(np.array(self.group.times)[mine], kind="stable"))
            found[mine] = np.sort(times[mine])[ranks]
        return found

    def early(self, shift: FloatArray | None = None) -> FloatArray | None:
        """Place the samples one after the other, or give none if they do not fit.

        Parameters
        ----------
        shift : float[S]
            From 0 to 1: how far into its window each would begin.
        """
        start = self.low if shift is None else self.low + shift * (self.high - self.low)
        for order in (np.lexsort((self.high, start)), np.lexsort((start, self.high))):
            found = np.full(len(start), np.nan)
            for k in order:
                hours = np.concatenate([[start[k]], self.grid])
                if self.chosen is not None:
                    hours = self.grid
                else:
                    done = found[self.rivals[k] & np.isfinite(found)]
                    hours = np.concatenate([hours, done + self.apart])
                placed = np.where(np.isfinite(found), found, -np.inf)
                fine = hours[self.fits(placed, int(k), hours) & (hours >= start[k] - _NEAR)]
                if not fine.size:
                    break
                found[k] = np.clip(fine.min(), self.low[k], self.high[k])
            if np.all(np.isfinite(found)):
                return found
        return None


def spaces_of(
    model: PopulationModel,
    groups: Sequence[SamplingGroup],
    windows: Windows | None,
    candidates: Sequence[float] | None,
    apart: float,
) -> list[Space]:
    """Read windows and hours to choose among.

    Raises
    ------
    PkpdError
        If neither is given, one cannot be read, or the samples do not fit into them.
    """
    where = "optimal times"
    if windows is None and candidates is None:
        remedy = "give windows=(0, 120), hours between which to sample, or candidates=[1, 2, 4, 8]"
        raise PkpdError(where=where, what="no window is given", remedy=remedy)
    if not isinstance(apart, int | float | np.number) or not 0 <= apart < np.inf:
        raise PkpdError(where=f"{where}, apart", what=f"{apart!r}", allowed="hours from 0 on")
    chosen = None
    if candidates is not None:
        chosen = np.unique(np.atleast_1d(_numbers(candidates, f"{where}, candidates")))
        if not chosen.size or chosen.ndim != 1 or np.any(chosen < 0):
            raise PkpdError(
                where=f"{where}, candidates", what=f"{candidates!r}", allowed="hours from 0 on"
            )
    if windows is None:
        assert chosen is not None
        windows = (chosen[0], chosen[-1])
    if isinstance(windows, Mapping):
        names = tuple(one.name for one in groups)
        for name in windows:
            if name not in names:
                what = f"{name!r} is no group{nearest_of(name, names)}"
                raise PkpdError(where=f"{where}, windows", what=what, allowed=", ".join(names))
        for name in names:
            if name not in windows:
                what = f"group {name!r} has none"
                raise PkpdError(where=f"{where}, windows", what=what, remedy="name every group")
    spaces = []
    for one in groups:
        given = windows[one.name] if isinstance(windows, Mapping) else windows
        low, high = _window(given, len(one.times), f"{where}, windows of {one.name}")
        made = Space(one, low, high, float(apart), one.lines_of(model), chosen)
        if made.early() is None:
            what = f"{len(one.times)} samples"
            if apart:
                what += f" {apart:g} h apart"
            raise PkpdError(
                where=f"{where}, {one.name}", what=f"{what} do not fit into their windows",
                remedy="widen the windows, take fewer samples, or lower apart",
            )  # fmt: skip
        spaces.append(made)
    return spaces


def _numbers(given: Any, where: str) -> FloatArray:
    try:
        found = np.array(given, dtype=float)
    except (TypeError, ValueError):
        found = np.array([np.nan])
    if not np.all(np.isfinite(found)):
        raise PkpdError(where=where, what=f"{given!r}", allowed="numbers, in hours")
    return found


def _window(given: Any, samples: int, where: str) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest hour of each sample."""
    found = _numbers(given, where)
    if found.shape == (2,):
        found = np.tile(found, (samples, 1))
    if found.shape != (samples, 2):
        allowed = f"one pair of hours, or one for each of {samples} samples"
        raise PkpdError(where=where, what=f"{given!r}", allowed=allowed)
    for low, high in found:
        if not 0 <= low <= high:
            allowed = "hours from 0 on, the earlier first"
            raise PkpdError(where=where, what=f"({low:g}, {high:g})", allowed=allowed)
    return found[:, 0], found[:, 1]
