"""Pharmacokinetics that change within a lane: which version of the parameters holds in which cell.

Between two changes (a new occasion, a record with another value of a covariate) the parameters of
the drugs are constant: one *version* of them is in force. States are physical amounts, so nothing
happens to them at a change; the grid only cuts its cells there. Different schedules change at
different times, so the cells of a gap may have another version in every schedule. A *set* is what
the schedules have between them, one version each, and the compiled engine forms the coefficients
of a drug for every pair of a cell length and a set that occurs.

Rows of ``theta`` with ``V`` versions: those of `PopulationStructure.layout`, the drugs' rows being
version 0, then the drugs' rows once more for each of the versions 1 to ``V - 1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pkpd.arrays import Floats, Integers32
from pkpd.solve.grid.structure import PopulationStructure


@dataclass(frozen=True, eq=False)
class Versions:
    """When the kinetics of ``G`` schedules change; ``V`` versions at most.

    Attributes
    ----------
    begins_h : float[G, V - 1]
        Hours at which versions 1, 2, ... begin, ascending; infinite for those a schedule lacks.
    of_dose : int[G, N]
        Version whose bioavailability each dose of `pkpd.solve.grid.grid.Doses` takes. An
        infusion takes that in force while it runs. If several doses of one drug fall together they
        have to agree.
    """

    begins_h: Floats
    of_dose: Integers32

    @property
    def count(self) -> int:
        """Number of versions ``V``."""
        return self.begins_h.shape[1] + 1

    def in_gaps(self, edges: Floats) -> Integers32:
        """Version in force in each gap, ``[J, G]``; in a gap of no length that before it."""
        middle = 0.5 * (edges[1:] + edges[:-1])
        out = np.empty(middle.shape, dtype=np.int32)
        for g, begins in enumerate(self.begins_h):
            out[:, g] = np.searchsorted(begins, middle[:, g], side="right")
        empty = np.diff(edges, axis=0) <= 0
        for j in range(1, len(out)):
            out[j] = np.where(empty[j], out[j - 1], out[j])
        return out


@dataclass(frozen=True, eq=False)
class GridVersions:
    """Sets of versions of a grid of ``M`` lengths and ``J`` gaps for ``K`` drugs.

    Attributes
    ----------
    count : int
        Number of versions ``V``.
    sets : int[U, G]
        Version in each schedule; set 0 is version 0 in all.
    of_length : int[M]
        Set of each cell length, in blocks.
    of_dose : int[J, K]
        Set whose bioavailability the input of a gap has.
    """

    count: int
    sets: Integers32
    of_length: Integers32
    of_dose: Integers32


def grid_versions(count: int, of_length: Integers32, of_dose: Integers32) -> GridVersions:
    """Find the sets in versions by length ``[M, G]`` and by input ``[J, K, G]``."""
    n_lengths, groups = of_length.shape
    n_gaps, n_drugs = of_dose.shape[:2]
    rows = [np.zeros((1, groups), dtype=np.int32), of_length, of_dose.reshape(-1, groups)]
    sets, index = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    index = index.reshape(-1).astype(np.int32)
    by_dose = index[1 + n_lengths :].reshape(n_gaps, n_drugs)
    return GridVersions(count, sets, index[1 : 1 + n_lengths], by_dose)


def n_kinetic(structure: PopulationStructure) -> int:
    """Rows of the drugs at the beginning of ``theta``."""
    return sum(name[0] == "pk" for name in structure.layout)


def of_version(structure: PopulationStructure, theta: Any, version: int) -> Any:
    """Parameters of one version in the rows of `PopulationStructure.layout`, ``[P, L]``."""
    size, kinetic = len(structure.layout), n_kinetic(structure)
    if version == 0:
        return theta[:size]
    start = size + (version - 1) * kinetic
    return np.concatenate([theta[start : start + kinetic], theta[kinetic:size]])
