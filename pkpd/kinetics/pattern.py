"""Which entries of a transition matrix there are: zero, equal to one another, or their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Pattern:
    """Which entries of the transition matrix are non-zero, and which are equal by structure."""

    n: int
    edges: tuple[tuple[int, int], ...]  # (from, to)
    slot: tuple[tuple[int, ...], ...]  # slot[i][j]: index of entry (i, j), or -1 where it is zero
    representative: tuple[tuple[int, int], ...]  # one (i, j) for each slot
    diagonal: tuple[int, ...]  # slots that start at one


@lru_cache(maxsize=64)
def pattern_of(n: int, edges: tuple[tuple[int, int], ...], chain: int) -> Pattern:
    """Reachability of states; the first ``chain`` states share one rate (a Toeplitz block)."""
    reach = np.eye(n, dtype=bool)
    for source, target in edges:
        reach[target, source] = True
    for _ in range(n):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    slot = -np.ones((n, n), dtype=int)
    representative: list[tuple[int, int]] = []
    for i in range(n):
        for j in range(n):
            if not reach[i, j]:
                continue
            if i < chain and j < chain and j > 0:
                slot[i, j] = slot[i - j, 0]
                continue
            slot[i, j] = len(representative)
            representative.append((i, j))
    diagonal = tuple(sorted({int(slot[i, i]) for i in range(n)}))
    return Pattern(
        n, edges, tuple(tuple(int(v) for v in row) for row in slot), tuple(representative), diagonal
    )
