"""How good forecasts were: continuous ranked probability score, coverage, and differences.

Scores of counts are on the scale of the logarithm, where a count of half is as far off as one of
twice; those of days are in days.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.data.dataset import ABOVE, BELOW
from pkpd.errors import PkpdError

_KEY = ["ID", "ORIGIN", "TIME", "horizon", "counts"]  # the last tells two counts of a time apart


def scored(forecasts: pd.DataFrame, *, floor: float = 1e-3) -> pd.DataFrame:
    """Score forecasts whose outcome is known.

    Parameters
    ----------
    forecasts
        Table of `pkpd.forecasting.forecast_series` or of a naive forecast.
    floor
        Smallest count: lower ones, and lower quantiles, are taken as this.

    Returns
    -------
    DataFrame
        ``ID``, ``ORIGIN``, ``TIME``, ``horizon``, ``counts``; ``crps`` of the logarithm, from the
        quantiles; ``error``, the median's absolute error; ``inside50``, ``inside80``, ``inside90``:
        whether the count lies in the central interval; and ``logdens`` where the table has it.
        Of a count below or above a limit, quantiles beyond the limit are taken as the limit.

    Raises
    ------
    PkpdError
        If no outcome is known.
    """
    known: Any = forecasts
    if not known.empty:
        known = known[np.isfinite(known["observed"])].reset_index(drop=True)
    if known.empty:
        raise PkpdError(where="scores of forecasts", what="no outcome is known")
    columns = [c for c in known if c[0] == "q" and c[1:].replace(".", "", 1).isdigit()]
    levels = np.array([float(c[1:]) for c in columns])
    quantiles = np.log(np.maximum(known[columns].to_numpy(dtype=float), floor))
    seen = np.log(np.maximum(known["observed"].to_numpy(dtype=float), floor))
    codes = known["censored"].to_numpy() if "censored" in known else np.zeros(len(known))
    quantiles = np.where(codes[:, None] == BELOW, np.maximum(quantiles, seen[:, None]), quantiles)
    quantiles = np.where(codes[:, None] == ABOVE, np.minimum(quantiles, seen[:, None]), quantiles)
    out = known[_KEY].copy()
    out["crps"] = crps(levels, quantiles, seen)
    out["error"] = np.abs(seen - _at(levels, quantiles, 0.5))
    for share in (50, 80, 90):
        tail = 0.5 * (1.0 - share / 100)
        low, high = _at(levels, quantiles, tail), _at(levels, quantiles, 1.0 - tail)
        out[f"inside{share}"] = (seen >= low) & (seen <= high)
    if "logdens" in known:
        out["logdens"] = known["logdens"]
    return out


def crps(levels: Floats, quantiles: Floats, seen: Floats) -> Floats:
    """Twice the mean loss of the quantiles ``[n, L]``: the score for levels evenly spread, ``[n]``.

    Examples
    --------
    >>> levels = np.array([0.25, 0.75])
    >>> crps(levels, np.array([[-1.0, 1.0]]), np.array([0.0])).round(3)
    array([0.5])
    """
    over = seen[:, None] - quantiles
    return 2.0 * np.mean(np.where(over >= 0, levels * over, (levels - 1.0) * over), axis=1)


def crps_of_weights(weights: NDArray[np.floating[Any]], days: Floats, truth: Floats) -> Floats:
    """Continuous ranked probability score of weighted days, ``[p]``.

    ``E|X - y| - E|X - X'| / 2`` (Gneiting and Raftery 2007, J Am Stat Assoc 102:359-78).

    Parameters
    ----------
    weights : float[p, L]
        Sum to one in each row.
    days : float[L]
        Rising.
    truth : float[p]
        What came.

    Examples
    --------
    >>> crps_of_weights(np.array([[0.5, 0.5]]), np.array([1.0, 3.0]), np.array([1.0]))
    array([0.5])
    """
    off = np.einsum("pl,pl->p", weights, np.abs(days[None, :] - truth[:, None]))
    below = np.cumsum(weights, axis=1, dtype=np.float64)[:, :-1]
    return off - (below * (1.0 - below)) @ np.diff(days)


def entropy_of_weights(weights: NDArray[np.floating[Any]], days: Floats) -> Floats:
    """Entropy of weighted days, each taken as the whole day that it lies in, in bits, ``[p]``.

    Parameters
    ----------
    weights : float[p, L]
        Sum to one in each row.
    days : float[L]
        Rising.

    Examples
    --------
    >>> entropy_of_weights(np.full((1, 4), 0.25), np.array([1.0, 1.5, 2.0, 2.5]))
    array([1.])
    """
    firsts = np.unique(np.floor(days), return_index=True)[1]
    share = np.add.reduceat(np.asarray(weights, dtype=np.float64), firsts, axis=1)
    return -np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1)


def difference(
    one: pd.DataFrame, other: pd.DataFrame, column: str = "crps"
) -> dict[str, tuple[float, float]]:
    """Mean difference of a score between two forecasts, by horizon, with its standard error.

    Parameters
    ----------
    one, other
        From `scored`; forecasts that both have are compared.
    column
        Score. Rows that are told apart by nothing (two equal counts of a day) are taken in order.

    Returns
    -------
    dict
        Horizon to mean of ``one - other`` and standard error, clustered by patient; NaN for one
        patient.
    """
    first, second = (table.assign(again=table.groupby(_KEY).cumcount()) for table in (one, other))
    both: Any = first.merge(second, on=[*_KEY, "again"], suffixes=("", "_other"))
    out = {}
    for name, part in both.groupby("horizon", sort=False):
        apart = part[column] - part[f"{column}_other"]
        sums = (apart - apart.mean()).groupby(part["ID"]).sum()
        n = len(sums)
        error = np.sqrt((sums**2).sum() * n / (n - 1)) / len(part) if n > 1 else np.nan
        out[str(name)] = (float(apart.mean()), float(error))
    return out


def _at(levels: Floats, quantiles: Floats, level: float) -> Floats:
    return np.array([np.interp(level, levels, row) for row in quantiles])
