"""From weighed virtual patients to numbers: recovery by day, curves, risks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.designs.weights import weight_of_forecast
from pkpd.endpoints.definitions import FROM_DAY_1, THRESHOLDS, recovery_definition
from pkpd.forecasting.bank import Bank
from pkpd.forecasting.today import after_last_count
from pkpd.forecasting.weighing import Weighed

if TYPE_CHECKING:
    import xarray as xr

Found = dict[str, tuple[tuple[str, ...], Any]]

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
GRADED = tuple(THRESHOLDS)


def summary(bank: Bank, weights: Floats, after_day: int) -> Found:
    """Summarise a bank under weights.

    Parameters
    ----------
    bank
        Virtual patients, perhaps under another continuation than they were weighed under.
    weights : float[L]
        Of the patients; they sum to 1.
    after_day
        Protocol day of the last count that was seen: what lies ahead begins on the next.

    Returns
    -------
    dict
        Name -> dimensions and values, as in `pkpd.results.Forecast`.
    """
    recovered, quantiles, low = _recovery(bank.recovery.values(), weights, bank.days)
    graded = [line for line in GRADED if line in bank.measured]
    found: Found = {
        "count": (("line", "day", "quantile"), _curves(bank, weights)),
        "recovered": (("criterion", "day"), recovered),
        "recovery_day": (("criterion", "quantile"), quantiles),
        "low": (("criterion",), low),
        "known_until": ((), known_until(bank)),
        "nadir": (("graded", "quantile"), _over(graded, lambda x: _lowest(bank, weights, x, 1))),
        "nadir_ahead": (
            ("graded", "quantile"),
            _over(graded, lambda x: _lowest(bank, weights, x, after_day + 1)),
        ),
        "grade_4": (("graded",), _over(graded, lambda x: weights @ bank.grade_4(x))),
        "grade_4_ahead": (
            ("graded",),
            _over(graded, lambda x: weights @ bank.grade_4(x, after_day + 1)),
        ),
    }
    if bank.mortal:
        found["death"] = ((), float(weights @ np.isfinite(bank.death_day)))
    if bank.dlt is not None:
        found["dlt"] = ((), _share(bank.dlt, weights))
        found["dlt_judged"] = ((), float(weights @ np.isfinite(bank.dlt)))
    if bank.response is not None:
        codes = np.arange(len(bank.response_codes))
        shares = (bank.response[None] == codes[:, None]) @ weights
        found["response"] = (("response_code",), shares)
    return found


def known_until(bank: Bank) -> int:
    """Last protocol day by whose end a recovery is seen: the mornings after it confirm one."""
    return max(1, bank.days - recovery_definition(bank.asked.rule).mornings)


def _recovery(every: Iterable[Floats], weights: Floats, last: int) -> tuple[Floats, Floats, Floats]:
    """Shares back by the end of each day, quantiles of the day, and shares that are low at all."""
    days = np.arange(1, last + 1, dtype=float)
    recovered, quantiles, low = [], [], []
    for when in every:
        order = np.argsort(when, kind="stable")
        total = np.cumsum(weights[order])
        # by the end of a protocol day
        reached = np.searchsorted(when[order], days, side="right")
        recovered.append(np.minimum(np.concatenate([[0.0], total])[reached], 1.0))
        quantiles.append(when[order][_places(total, QUANTILES)])
        low.append(min(float(weights @ (when > 0)), 1.0))  # weights sum to one, but for rounding
    return np.array(recovered), np.array(quantiles), np.array(low)


def of_patient(one: Weighed, seed: int, threads: int | None = None) -> Found:
    """Summarise one patient's forecast, with how far it is to be trusted.

    Parameters
    ----------
    one
        The forecast.
    seed, threads
        As of `pkpd.forecasting.today.after_last_count`.
    """
    found = summary(one.bank, one.weights, one.seen.last_day)
    after = after_last_count(one, seed, threads)
    every = [after.back[name] for name in one.bank.criteria]
    recovered, quantiles, low = _recovery(every, after.weights, one.bank.days)
    found["recovered_after"] = (("criterion", "day"), recovered)
    found["day_after"] = (("criterion", "quantile"), quantiles)
    found["low_after"] = (("criterion",), low)
    found["effective"] = ((), one.effective)
    found["pareto_k"] = ((), one.k)
    found["counts_seen"] = ((), one.counted)
    found["counts_used"] = ((), one.used)
    found["last_day_seen"] = ((), one.seen.last_day)
    found["engine"] = ((), one.engine)
    if "dlt" in found:
        before = risk(one.bank) if one.untold is None else one.untold
        found["dlt_before"] = ((), before)
        now = found["dlt"][1]
        known = np.isfinite(before) and np.isfinite(now)
        weight = weight_of_forecast(np.array(now), np.array(before)) if known else np.nan
        found["pending_weight"] = ((), float(weight))
    return found


def risk(bank: Bank) -> float:
    """Share with a dose-limiting toxicity among a bank's patients who can be judged."""
    assert bank.dlt is not None
    return _share(bank.dlt, np.full(len(bank), 1.0 / len(bank)))


def together(
    dimension: str, summaries: Mapping[Any, Found], bank: Bank, attrs: Mapping[str, str]
) -> xr.Dataset:
    """Put summaries together along a new dimension."""
    import xarray as xr

    names = list(summaries)
    some = summaries[names[0]]
    data = xr.Dataset(
        {
            name: (
                (dimension, *dims),
                np.stack([np.asarray(s[name][1]) for s in summaries.values()]),
            )
            for name, (dims, _) in some.items()
        },
        coords={
            dimension: names,
            "line": list(bank.lines),
            "graded": [line for line in GRADED if line in bank.measured],
            "day": np.arange(1, bank.days + 1),
            "quantile": list(QUANTILES),
            "criterion": list(bank.criteria),
            **({"response_code": list(bank.response_codes)} if bank.response_codes else {}),
        },
        attrs=dict(attrs),
    )
    for name in ("count", "nadir", "nadir_ahead"):
        data[name].attrs["units"] = "10^9/L; marrow_blasts: percent"
    for name in ("recovery_day", "day_after"):
        if name in data:
            data[name].attrs |= FROM_DAY_1
    data["day"].attrs["units"] = "protocol day"
    return data


def _curves(bank: Bank, weights: Floats) -> NDArray[np.float64]:
    """Quantiles of the counts, ``[lines, D, Q]``."""
    out = np.empty((len(bank.lines), bank.days, len(QUANTILES)))
    light = weights.astype(np.float32)
    for i, line in enumerate(bank.lines):
        order, logs = bank.order[line], bank.measured[line]
        total = np.cumsum(light[order], axis=1)
        for d in range(bank.days):
            places = _places(total[d], QUANTILES)
            out[i, d] = np.exp(logs[order[d, places], d].astype(np.float64))
    return out


def _places(total: NDArray[np.floating], quantiles: Sequence[float]) -> NDArray[np.int64]:
    """Where cumulative weights reach quantiles."""
    wanted = np.asarray(quantiles) * float(total[-1])
    return np.minimum(np.searchsorted(total, wanted, side="left"), total.size - 1)


def _lowest(bank: Bank, weights: Floats, line: str, from_day: int) -> Floats:
    """Quantiles of the lowest count of those who live to have one."""
    lowest = bank.lowest(line, from_day)
    known = np.isfinite(lowest) & (weights > 0)
    if not known.any():
        return np.full(len(QUANTILES), np.nan)
    order = np.flatnonzero(known)[np.argsort(lowest[known], kind="stable")]
    return lowest[order][_places(np.cumsum(weights[order]), QUANTILES)]


def _over(lines: Sequence[str], function: Callable[[str], Any]) -> NDArray[np.float64]:
    return np.array([function(line) for line in lines], dtype=float)


def start_shares(late: Floats, weights: Floats) -> dict[str, float]:
    """Shares of those alive on a planned day who start on it, later and never; days of the late.

    Parameters
    ----------
    late : float[L]
        Of `pkpd.endpoints.starts.Start`.
    weights : float[L]
        Of the patients; they sum to 1.
    """
    late_ones = np.isfinite(late) & (late > 0.0) & (weights > 0.0)
    order = np.flatnonzero(late_ones)[np.argsort(late[late_ones], kind="stable")]
    total = np.cumsum(weights[order])
    known = np.where(np.isnan(late), np.nan, 1.0)
    return {
        "alive": 1.0 - float(weights @ np.isnan(late)),
        "starts_on_time": _share(known * (late == 0.0), weights),
        "starts_late": _share(known * (np.isfinite(late) & (late > 0.0)), weights),
        "starts_never": _share(known * np.isinf(late), weights),
        "days_late": float(late[order[_places(total, [0.5])[0]]]) if order.size else float("nan"),
    }


def waiting_share(late: Floats, weights: Floats, days: float) -> float:
    """Share of those alive on a planned day who have not started so many days after it."""
    return _share(np.where(np.isnan(late), np.nan, late > days), weights)


def _share(event: Floats, weights: Floats) -> float:
    """Share with an event among those who can be judged; NaN if nobody can."""
    known = np.isfinite(event)
    total = float(weights[known].sum())
    return float(weights[known] @ event[known]) / total if total > 0 else float("nan")
