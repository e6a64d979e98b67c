"""Dose-transition pathways: every outcome of the next cohorts, and the doses that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import comb

from pkpd.arguments import NONE, a, check_arguments
from pkpd.designs.data import Action, TrialData, Trials, Why
from pkpd.designs.kinds import WHOLE, check_risks
from pkpd.designs.merging import merged
from pkpd.designs.protocol import Design
from pkpd.errors import PkpdError

_MOST = 1_000_000


@dataclass(frozen=True)
class Pathways:
    """Every outcome of the next cohorts.

    Attributes
    ----------
    levels
        Dose of each cohort and of the one that would follow, shape ``(paths, cohorts + 1)``; 0
        where the trial has stopped before. Where it stops, the dose that is selected is in `mtd`.
    dlts
        DLTs of each cohort, shape ``(paths, cohorts)``; -1 where the trial has stopped before.
    sizes
        Patients of each cohort, shape ``(paths, cohorts)``; 0 where it has stopped before.
    why
        Why each path stops, of `pkpd.designs.Why`, shape ``(paths,)``.
    mtd
        Dose selected where a path has stopped, shape ``(paths,)``; 0 for none.
    """

    levels: np.ndarray
    dlts: np.ndarray
    sizes: np.ndarray
    why: np.ndarray
    mtd: np.ndarray

    def probabilities(self, risks: np.ndarray) -> np.ndarray:
        """Probability of each path.

        Parameters
        ----------
        risks
            True risks, shape ``(draws, levels)`` or ``(levels,)``.

        Returns
        -------
        array
            Shape ``(draws, paths)``; rows sum to 1.
        """
        values = check_risks(risks, np.shape(risks)[-1])
        found = np.ones((len(values), len(self.levels)))
        for cohort in range(self.dlts.shape[1]):
            there = np.flatnonzero(self.dlts[:, cohort] >= 0)
            p = values[:, self.levels[there, cohort] - 1]
            dlts, size = self.dlts[there, cohort], self.sizes[there, cohort]
            found[:, there] *= comb(size, dlts) * p**dlts * (1 - p) ** (size - dlts)
        return found


def pathways(design: Design, cohorts: int, data: TrialData | None = None) -> Pathways:
    """Every outcome of the next cohorts, from now or from the start.

    Parameters
    ----------
    design
        The design.
    cohorts
        How many cohorts ahead.
    data
        What the trial has seen; nothing by default. The rest of an incomplete cohort is the first
        one ahead.

    Raises
    ------
    PkpdError
        If there are too many paths, or patients are pending.

    Examples
    --------
    >>> from pkpd.designs import ThreePlusThree
    >>> found = pathways(ThreePlusThree(levels=2), 1)
    >>> found.levels.tolist()
    [[1, 2], [1, 1], [1, 0], [1, 0]]
    """
    check_arguments(
        "pathways",
        design=(design, a(Design)),
        cohorts=(cohorts, WHOLE),
        data=(data, a(TrialData) | NONE),
    )
    if cohorts < 1:
        what, allowed = f"{cohorts} cohorts ahead", "1 or more"
        raise PkpdError(where="pathways", what=what, allowed=allowed)
    start = (data or TrialData((0,) * design.levels, (0,) * design.levels)).batch()
    if start.pending.any():
        what, remedy = "patients are pending", "wait until their assessment has ended"
        raise PkpdError(where="pathways", what=what, remedy=remedy)
    paths = _Paths(design, start)
    for _ in range(cohorts):
        paths.step()
    return paths.done()


class _Paths:
    """Paths that grow cohort by cohort."""

    def __init__(self, design: Design, start: Trials) -> None:
        self.design, self.now = design, start
        self.levels = np.zeros((1, 0), int)
        self.dlts = np.zeros((1, 0), int)
        self.sizes = np.zeros((1, 0), int)
        self.why, self.mtd = np.zeros(1, int), np.zeros(1, int)
        self._ask()

    def _ask(self) -> None:
        """Put the next level of every path that goes on; equal states are asked once."""
        goes = np.flatnonzero(self.why == Why.GOES_ON)
        level = np.zeros(len(self.why), int)
        if len(goes):
            data = self.now.take(goes)
            columns = (data.current, data.last_treated, data.last_dlts)
            keys = np.concatenate([data.treated, data.dlts, np.stack(columns, axis=1)], axis=1)
            first, back = merged(keys)
            some = data.take(first)
            found = self.design.decide(some)
            stops = found.action == Action.STOP
            self.why[goes] = np.where(stops, found.why, Why.GOES_ON)[back]
            if stops.any():
                rows = np.flatnonzero(stops)
                part = replace(
                    found, level=found.level[rows], action=found.action[rows], why=found.why[rows]
                )
                mtd = np.zeros(len(first), int)
                mtd[rows] = self.design.recommend(some.take(rows), part)
                self.mtd[goes] = mtd[back]
            level[goes] = np.where(stops, 0, found.level)[back]
        self.levels = np.concatenate([self.levels, level[:, None]], axis=1)

    def step(self) -> None:
        """Treat one more cohort in every path that goes on."""
        goes, level = self.why == Why.GOES_ON, self.levels[:, -1]
        fills = self.design.fills(self.now)
        size = self.design.size(self.now, np.maximum(level, 1))
        size = np.where(goes, np.where(fills, self.now.lacking, size), 0)
        last_treated, last_dlts = (
            np.where(fills, last, 0) for last in (self.now.last_treated, self.now.last_dlts)
        )
        copies = size + 1
        if copies.sum() > _MOST:
            what, remedy = f"there are more than {_MOST:,} paths", "look fewer cohorts ahead"
            raise PkpdError(where="pathways", what=what, remedy=remedy)
        row = np.repeat(np.arange(len(size)), copies)
        dlts = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
        now, goes, size, level = self.now.take(row), goes[row], size[row], level[row]
        treated, seen = now.treated.copy(), now.dlts.copy()
        place = (np.flatnonzero(goes), level[goes] - 1)
        treated[place] += size[goes]
        seen[place] += dlts[goes]
        self.now = Trials(
            treated=treated,
            dlts=seen,
            current=np.where(goes, level, now.current),
            last_treated=np.where(goes, last_treated[row] + size, now.last_treated),
            last_dlts=np.where(goes, last_dlts[row] + dlts, now.last_dlts),
            backfilled=now.backfilled,
            dropped=now.dropped,
        )
        self.levels, self.why, self.mtd = self.levels[row], self.why[row], self.mtd[row]
        outcome = np.where(goes, dlts, -1)
        self.dlts = np.concatenate([self.dlts[row], outcome[:, None]], axis=1)
        self.sizes = np.concatenate([self.sizes[row], size[:, None]], axis=1)
        self._ask()

    def done(self) -> Pathways:
        """Hand the paths over."""
        return Pathways(self.levels, self.dlts, self.sizes, self.why, self.mtd)
