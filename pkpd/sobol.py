"""Quasi-random numbers of Sobol, scrambled, the same to the last bit as those of SciPy.

`scipy.stats` gives them too, but takes half a second to load, which is much of what a page waits
for. The direction numbers are those of Joe and Kuo (2008, new-joe-kuo-6.21201); scrambling is by
random lower triangular matrices and a shift (Matousek 1998), drawn as `scipy.stats.qmc.Sobol` draws
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pkpd.arrays import Floats

if TYPE_CHECKING:
    from scipy.stats import qmc

_BITS = 30
_NUMBERS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (1,)),
    (7, (1, 3)),
    (11, (1, 3, 1)),
    (13, (1, 1, 1)),
    (19, (1, 1, 3, 3)),
    (25, (1, 3, 5, 13)),
    (37, (1, 1, 5, 5, 17)),
    (41, (1, 1, 5, 5, 5)),
    (47, (1, 1, 7, 11, 19)),
    (55, (1, 1, 5, 1, 1)),
    (59, (1, 1, 1, 3, 11)),
    (61, (1, 3, 5, 5, 31)),
    (67, (1, 3, 3, 9, 7, 49)),
    (91, (1, 1, 1, 15, 21, 21)),
    (97, (1, 3, 1, 13, 27, 49)),
    (103, (1, 1, 1, 15, 7, 5)),
    (109, (1, 3, 1, 15, 13, 25)),
    (115, (1, 1, 5, 5, 19, 61)),
    (131, (1, 3, 7, 11, 23, 15, 103)),
)
"""Of each dimension but the first: bits of its primitive polynomial, and its first numbers."""

MOST_DIMENSIONS = len(_NUMBERS) + 1
"""Of more, `scipy.stats` gives the points."""


class ScrambledSobol:
    """Points in the unit cube, one after the other.

    Parameters
    ----------
    dimensions
        Of the cube, at most `MOST_DIMENSIONS`.
    rng
        A generator spawned from it draws the scrambling.

    Examples
    --------
    >>> points = ScrambledSobol(2, np.random.default_rng(1)).random(8)
    >>> np.sort(np.floor(8 * points[:, 1])).astype(int).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    def __init__(self, dimensions: int, rng: np.random.Generator) -> None:
        rng = rng.spawn(1)[0]
        powers = np.uint32(1) << np.arange(_BITS, dtype=np.uint32)
        self._shift = rng.integers(2, size=(dimensions, _BITS), dtype=np.uint32) @ powers
        size = (dimensions, _BITS, _BITS)
        lower = np.tril(rng.integers(2, size=size, dtype=np.uint32))
        self._columns = _scrambled(_directions(dimensions), lower)
        self._next = 0

    def random(self, n: int) -> Floats:
        """Give the next points, ``[n, dimensions]`` in [0, 1).

        Raises
        ------
        ValueError
            If there are no more.
        """
        last = self._next + n
        if last > 2**_BITS:
            msg = f"there are {2**_BITS} points, not {last}"
            raise ValueError(msg)
        index = np.arange(self._next, last, dtype=np.uint32)
        self._next = last
        gray = index ^ (index >> np.uint32(1))
        found = np.repeat(self._shift[None], n, axis=0)
        for bit in range((last - 1).bit_length() if last else 0):
            is_set = (gray >> np.uint32(bit)) & np.uint32(1)
            found ^= is_set[:, None] * self._columns[:, bit]
        return found.astype(np.float64) * (1.0 / 2**_BITS)


def sobol_points(dimensions: int, rng: np.random.Generator) -> ScrambledSobol | qmc.Sobol:
    """Give what draws the points, of as many dimensions as are asked for."""
    if dimensions <= MOST_DIMENSIONS:
        return ScrambledSobol(dimensions, rng)
    from scipy.stats import qmc

    return qmc.Sobol(dimensions, scramble=True, rng=rng)


def _directions(dimensions: int) -> np.ndarray:
    """Direction numbers ``[dimensions, bits]``, the first bit the most significant."""
    found = np.ones((dimensions, _BITS), dtype=np.int64)
    for row, (polynomial, begin) in zip(found[1:], _NUMBERS[: dimensions - 1], strict=True):
        degree = len(begin)
        row[:degree] = begin
        for j in range(degree, _BITS):
            new = row[j - degree]
            for k in range(1, degree + 1):
                if polynomial >> (degree - k) & 1:
                    new ^= row[j - k] << k
            row[j] = new
    return found << np.arange(_BITS - 1, -1, -1)


def _scrambled(directions: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Directions times a lower triangular matrix of each dimension, modulo 2."""
    places = np.arange(_BITS - 1, -1, -1)
    taken = (directions[:, :, None] >> places) & 1  # [dimension, direction, bit], first bit first
    lower = lower.astype(np.int64)
    lower[:, np.arange(_BITS), np.arange(_BITS)] = 1
    mixed = (taken[:, :, None, :] * lower[:, None, :, :]).sum(axis=3) & 1
    return (mixed << places).sum(axis=2).astype(np.uint32)
