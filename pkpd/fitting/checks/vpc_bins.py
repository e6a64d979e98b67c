"""Bins of a visual predictive check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from pkpd.arguments import from_to
from pkpd.errors import PkpdError

_MOST = 400  # distinct places a partition is looked for among; more are first put together
MANY_TIMES = 12
"""Up to this many distinct values each is a bin of its own."""

Bins: TypeAlias = str | int | tuple[Literal["equal"], int] | Sequence[float] | np.ndarray
"""What says where bins are; see `bin_edges`."""


def bin_edges(x: np.ndarray, bins: Bins = "auto") -> np.ndarray:
    """Edges of bins over values, ``[n + 1]``; a value on an inner edge belongs to the upper bin.

    Parameters
    ----------
    x
        Values, at least one.
    bins
        ``"auto"``: a bin for each distinct value if they are few (12), else up to twelve natural
        breaks of value and rank together. A number ``n``: natural breaks (Fisher-Jenks: least
        squares within bins).
        ``("equal", n)``: equal counts. A sequence of numbers: the edges themselves, which must
        hold all values.

    Raises
    ------
    PkpdError
        If the edges do not rise or leave values outside.
    """
    x = np.asarray(x, dtype=float)
    distinct, weight = np.unique(x, return_counts=True)
    if isinstance(bins, str):
        if bins != "auto":
            raise _refused(bins)
        if len(distinct) <= MANY_TIMES:
            return _between(distinct)
        # time and rank together: visits are dense where much happens
        total = np.cumsum(weight) - 0.5 * weight
        both = distinct / np.ptp(distinct) + total / len(x)
        edges = natural_breaks(both, weight, _sensible(len(x)))
        inner = np.interp(edges[1:-1], both, distinct)
        return np.array([distinct[0], *inner, distinct[-1]])
    if isinstance(bins, int | np.integer):
        if bins < 1:
            raise _refused(bins)
        return natural_breaks(distinct, weight, int(bins))
    if isinstance(bins, Iterator) or not isinstance(bins, Iterable):
        raise _refused(bins)
    given: Sequence[Any] = tuple(bins)
    if len(given) == 2 and isinstance(given[0], str) and given[0] == "equal":
        return _equal_counts(distinct, weight, given[1])
    try:
        edges = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise _refused(bins) from None
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise _refused(bins)
    if x.min() < edges[0] or x.max() > edges[-1]:
        raise PkpdError(
            where="bins",
            what=f"values from {x.min():g} to {x.max():g} lie outside the edges "
            f"{edges[0]:g} to {edges[-1]:g}",
            remedy="give edges that hold all values",
        )
    return edges


def place(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of every value; the last edge belongs to the last bin."""
    return np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)


def natural_breaks(distinct: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Edges that make the sum of squares within bins as small as it can be.

    Exact, by dynamic programming over the sorted values (Fisher 1958, J Am Stat Assoc 53:789-98;
    known from maps as natural breaks of Jenks).

    Parameters
    ----------
    distinct, weight
        Sorted values and how often each occurs.
    n
        Bins; as many as there are values if those are fewer.
    """
    first, last = distinct[0], max(distinct[-1], np.nextafter(distinct[0], np.inf))
    if len(distinct) > _MOST:
        which = (np.arange(len(distinct)) * _MOST) // len(distinct)
        total = np.bincount(which, weight)
        distinct, weight = np.bincount(which, weight * distinct) / total, total
    n = min(n, len(distinct))
    # sums from the left give the sum of squares of any stretch in one step
    count = np.concatenate([[0.0], np.cumsum(weight)])
    total = np.concatenate([[0.0], np.cumsum(weight * distinct)])
    second = np.concatenate([[0.0], np.cumsum(weight * distinct**2)])
    size = len(distinct)
    start, stop = np.arange(size)[:, None], np.arange(1, size + 1)[None, :]
    w = count[stop] - count[start]
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = second[stop] - second[start] - (total[stop] - total[start]) ** 2 / w
    cost = np.where(stop > start, np.maximum(cost, 0.0), np.inf)
    best, back = cost[0].copy(), []
    for _ in range(1, n):
        # bin begins at i, after i values have been placed
        options = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        back.append(np.argmin(options, axis=0))
        best = np.min(options, axis=0)
    cuts, at = [], size - 1
    for choice in reversed(back):
        begin = int(choice[at])
        cuts.append(begin)
        at = begin - 1
    inner = [0.5 * (distinct[i - 1] + distinct[i]) for i in reversed(cuts)]
    return np.array([first, *inner, last])


def _between(distinct: np.ndarray) -> np.ndarray:
    """Edges half way between distinct values."""
    inner = 0.5 * (distinct[1:] + distinct[:-1])
    return np.array([distinct[0], *inner, max(distinct[-1], np.nextafter(distinct[0], np.inf))])


def _equal_counts(distinct: np.ndarray, weight: np.ndarray, n: Any) -> np.ndarray:
    if not from_to(1).holds(n):
        raise _refused(("equal", n))
    share = np.cumsum(weight) / np.sum(weight)
    cuts = np.unique([np.searchsorted(share, k / n - 1e-9) for k in range(1, n)]).astype(int)
    cuts = cuts[cuts < len(distinct) - 1]
    inner = [0.5 * (distinct[i] + distinct[i + 1]) for i in cuts]
    return np.array([distinct[0], *inner, max(distinct[-1], np.nextafter(distinct[0], np.inf))])


def _sensible(n: int) -> int:
    """Up to twelve bins with some 12 values each, never fewer than three."""
    return int(np.clip(n // 12, 3, 12))


def _refused(bins: Any) -> PkpdError:
    return PkpdError(
        where="bins",
        what=f"{bins!r}",
        allowed='"auto", a number of bins, ("equal", number), or rising edges',
    )
