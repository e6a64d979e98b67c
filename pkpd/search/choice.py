"""Which schedules are worth looking at: limits, the Pareto set, and a short list of it.

Everything here is a function of numbers ``[S, K]``: S schedules by K objectives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.arrays import Floats

Flags = NDArray[np.bool_]
_DIGITS = 12  # of shares of a range that are compared


def as_costs(values: ArrayLike, better: Sequence[str]) -> Floats:
    """Objectives as costs, all to be low; one that is not known is worse than any.

    Parameters
    ----------
    values : float[S, K]
        Objectives.
    better
        ``"low"`` or ``"high"`` for each of them.
    """
    sign = np.array([1.0 if b == "low" else -1.0 for b in better])
    costs = np.atleast_2d(np.asarray(values, dtype=float)) * sign
    return np.where(np.isnan(costs), np.inf, costs)


def pareto(values: ArrayLike, better: Sequence[str]) -> Flags:
    """Schedules that no other is as good as in everything and better than in something, ``[S]``.

    Parameters
    ----------
    values, better
        As of `as_costs`.

    Examples
    --------
    >>> pareto([[0.2, 0.5], [0.3, 0.6], [0.3, 0.5]], ["low", "high"]).tolist()
    [True, True, False]
    """
    costs = as_costs(values, better)
    as_good = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    somewhere = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    return np.asarray(~(as_good & somewhere).any(axis=0))


def scaled(costs: Floats) -> Floats:
    """Costs from 0, the best of these schedules, to 1, the worst; 0 where all are alike."""
    finite = np.where(np.isfinite(costs), costs, np.nan)
    with np.errstate(invalid="ignore"):
        low = np.nan_to_num(np.nanmin(np.where(np.isnan(finite), np.inf, finite), axis=0))
        high = np.nanmax(np.where(np.isnan(finite), -np.inf, finite), axis=0)
        part = (finite - low) / np.where(high > low, high - low, 1.0)
    return np.where(np.isnan(part), 1.0, part)


def short_list(
    values: ArrayLike,
    better: Sequence[str],
    margins: Sequence[float],
    allowed: ArrayLike | None = None,
    keep: int = 5,
    labels: Sequence[str] | None = None,
) -> list[int]:
    """Few schedules that stand for the Pareto set of those allowed.

    The first is the compromise: its largest shortfall from the best in any objective, as a share of
    the range of that objective, is least. Each further one differs most from those before it, by
    the same shares: its largest difference, in any objective, from the one nearest to it. Of
    equals the one whose shortfall or difference is less or more in all objectives together (their
    Euclidean length) is taken, then the first by its label, whatever the order they are given in.
    A schedule that is within the margins of one on the list in every objective adds nothing.

    Parameters
    ----------
    values, better
        As of `as_costs`.
    margins : K numbers
        Differences that matter.
    allowed : bool[S], optional
        Which may be on it; all by default.
    keep
        Most of them.
    labels
        Names, for ties; places by default.

    Returns
    -------
    list of int
        Places, the compromise first; empty if nothing is allowed, or nothing is compared.

    Examples
    --------
    >>> risks_and_remissions = [[0.05, 0.2], [0.15, 0.4], [0.16, 0.4], [0.3, 0.5]]
    >>> short_list(risks_and_remissions, ["low", "high"], [0.02, 0.02], keep=3)
    [1, 0, 3]
    """
    costs = as_costs(values, better)
    may = np.ones(len(costs), dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)
    places = np.flatnonzero(may)
    if not places.size or not costs.shape[1]:
        return []
    places = places[pareto(np.asarray(values, dtype=float)[places], better)]
    at = scaled(costs[places])
    mine = costs[places]
    turn = (
        places if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1][places]
    )
    chosen = [_first(*_lengths(at), turn)]
    while len(chosen) < keep:
        most, whole = (
            length.min(axis=1) for length in _lengths(at[:, None, :] - at[None, chosen, :])
        )
        near = _alike(mine, chosen, margins) | (most <= 0.0)
        if near.all():
            break
        chosen.append(_first(np.where(near, 0.0, -most), -whole, turn))
    return [int(places[i]) for i in chosen]


def _lengths(apart: Floats) -> tuple[Floats, Floats]:
    """Largest part of each difference, and its Euclidean length; equal where rounding differs."""
    most, whole = np.abs(apart).max(axis=-1), np.sqrt((apart**2).sum(axis=-1))
    return np.round(most, _DIGITS), np.round(whole, _DIGITS)


def _first(least: Floats, then: Floats, last: NDArray[np.int_]) -> int:
    """Place of the least, ties by the next numbers."""
    return int(np.lexsort((last, then, least))[0])


def _alike(costs: Floats, chosen: Sequence[int], margins: Sequence[float]) -> Flags:
    """Whether each schedule is within the margins of one of the chosen in every objective."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(costs[:, None, :] - costs[None, chosen, :])
    apart = np.where(np.isnan(apart), 0.0, apart)  # both not known
    near = np.asarray((apart <= np.asarray(margins, dtype=float)).all(axis=2))
    return np.asarray(near.any(axis=1))


def beyond_limit(
    by_draw: Floats, at_most: float | None, at_least: float | None, shift_error: float = 0.0
) -> tuple[float, float]:
    """Share of draws whose figure lies beyond a limit, and its Monte Carlo error.

    Parameters
    ----------
    by_draw : float[M]
        Figures, NaN for draws without one.
    at_most, at_least
        The limit.
    shift_error
        Standard error that all figures share, because all draws meet the same patients.

    Returns
    -------
    float, float
        NaN if no draw has a figure. The error is that of so many draws, the share taken as that of
        one more draw on each side, and that of a shift of all figures by their common error
        (Woodruff, J Am Stat Assoc 1952;47:635).

    Examples
    --------
    >>> share, error = beyond_limit(np.array([0.1, 0.2, 0.3, 0.4]), 0.25, None)
    >>> share, round(error, 3)
    (0.5, 0.25)
    """
    known = by_draw[~np.isnan(by_draw)]
    if not known.size:
        return float("nan"), float("nan")
    sign, level = (1.0, at_most) if at_most is not None else (-1.0, at_least)
    assert level is not None

    def share(shift: float) -> float:
        return float(np.mean(sign * known > sign * level + shift))

    count = (share(0.0) * known.size + 1.0) / (known.size + 2.0)
    of_draws = count * (1.0 - count) / known.size
    of_patients = 0.5 * (share(-shift_error) - share(shift_error))
    return share(0.0), float(np.sqrt(of_draws + of_patients**2))
