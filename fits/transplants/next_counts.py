"""Score the density of each next count, structure by structure and beside a local linear trend.

    next_counts.py [--data FOLDER] [--out OUT.csv]

Three folds of the series. Scored is the density of log(count + 0.02) of every measured count from
day 1 to a week after recovery that follows two measured days, given all that was recorded before
it and that it was measured. The marrow weighs virtual patients by what was recorded; the trend is a
level with a slope, both of which wander, and a first slope that differs between series. Errors have
Student's t with 4 degrees of freedom everywhere; the scale of the error, and of the trend all that
it has, is learned from the other folds. Sums over counts, with standard errors over series.
"""

# ruff: noqa: T201

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from forecasts import Chain, fit_chains
from marrow_bank import STRUCTURES, MarrowBank
from numpy.typing import NDArray
from places import arguments, find_prefix, run
from population import AFTER_RECOVERY
from recording import CORRELATION, SCATTER, log_likelihood
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp
from scipy.stats import t as student
from series import LAST_DAY, MEASURED, Series, folds, read_series

Floats = NDArray[np.float64]

FLOOR = 0.02  # 10^9/L, added before the logarithm
FREEDOM = 4
_FURTHEST = 3.0 * SCATTER
TREND = "local linear trend"


def scored_days(series: Series) -> NDArray[np.int64]:
    """Days whose count is scored."""
    seen = series.recorded
    measured = set(seen.days[seen.kinds >= MEASURED].tolist())
    last = LAST_DAY if series.recovery is None else series.recovery + AFTER_RECOVERY
    return np.array(
        [d for d in sorted(measured) if 1 <= d <= last and {d - 1, d - 2} <= measured], np.int64
    )


def logs_of(series: Series) -> dict[int, float]:
    """Logarithm of each measured count by day."""
    seen = series.recorded
    kept = seen.kinds >= MEASURED
    values = np.log(seen.counts[kept] + FLOOR)
    return dict(zip(seen.days[kept].tolist(), values.tolist(), strict=True))


def marrow_errors(chain: Chain, series: Series) -> tuple[Floats, Floats]:
    """Errors of the next counts from each virtual patient, and log weights of these.

    Returns
    -------
    float[T, N], float[T, N]
        Of the log count, what it shares with the day before taken off; weights add up to 1.
    """
    bank, seen, days = chain.of(series.source), series.recorded, scored_days(series)
    logs, curves = logs_of(series), np.log(bank.curves + FLOOR)
    before = tuple(int(d) - 1 for d in days)
    told = log_likelihood(bank.curves, bank.chances, seen, before) + bank.log_prior
    measured = np.moveaxis(bank.chances[:, days][..., MEASURED], 1, 0)
    weights = logsumexp(told + measured, axis=2)
    weights -= logsumexp(weights, axis=1, keepdims=True)
    now, last = (
        np.array([logs[d] for d in days - back])[:, None] - curves[:, days - back].T
        for back in (0, 1)
    )
    return now - CORRELATION * np.clip(last, -_FURTHEST, _FURTHEST), weights


def marrow_density(errors: Floats, weights: Floats, scale: float) -> float:
    """Log density of all next counts of a series."""
    return float(logsumexp(weights + student.logpdf(errors, FREEDOM, scale=scale), axis=1).sum())


def of_marrow(structure: str) -> Callable[[Sequence[Series], Sequence[Series]], Floats]:
    """Log density of each held series under a structure learned from the given ones."""

    def scores(given: Sequence[Series], held: Sequence[Series]) -> Floats:
        (chain,) = fit_chains(MarrowBank(structure), given, chains=1)
        known = [marrow_errors(chain, one) for one in given]

        def badness(log_scale: float) -> float:
            return -sum(marrow_density(*one, np.exp(log_scale)) for one in known)

        scale = np.exp(minimize_scalar(badness, bounds=(-3.0, 0.5), method="bounded").x)
        print(f"{structure}: scale {scale:.3f}", flush=True)
        return np.array([marrow_density(*marrow_errors(chain, one), scale) for one in held])

    return scores


def trend_density(series: Series, values: Floats) -> float:
    """Log density of all next counts of a series by a local linear trend.

    Parameters
    ----------
    series
        The series.
    values : float[5]
        Logarithms of the scale of the error of a count, of what level and slope wander a day, and
        of the SD of the first slope; its mean.
    """
    error, level, slope, first = np.exp(2.0 * values[:4])
    known, days, total = logs_of(series), set(scored_days(series).tolist()), 0.0
    state, spread, last = np.array([0.0, values[4]]), np.diag([1e4, first]), None
    for day in sorted(known):
        for _ in range(0 if last is None else day - last):
            step = np.array([[1.0, 1.0], [0.0, 1.0]])
            state = step @ state
            spread = step @ spread @ step.T + np.diag([level, slope])
        last, gap, variance = day, known[day] - state[0], spread[0, 0] + error
        if day in days:
            total += student.logpdf(gap, FREEDOM, scale=np.sqrt(variance))
        gain, most = spread[:, 0] / variance, 3.0 * np.sqrt(variance)
        state = state + gain * np.clip(gap, -most, most)
        spread = spread - np.outer(gain, spread[0])
    return total


def of_trend(given: Sequence[Series], held: Sequence[Series]) -> Floats:
    """Log density of each held series by a trend learned from the given ones."""
    found = minimize(
        lambda values: -sum(trend_density(one, values) for one in given),
        [*np.log([0.3, 0.3, 0.1, 0.3]), 0.5],
        method="Nelder-Mead",
        options={"xatol": 0.02, "fatol": 0.1, "maxiter": 400},
    )
    scales, mean = np.exp(found.x[:4]).round(3), found.x[4]
    print(f"{TREND}: scales {scales}, first slope {mean:.2f} a day", flush=True)
    return np.array([trend_density(one, found.x) for one in held])


def main() -> None:
    """Score all in three folds, print and write."""
    options = arguments(__doc__, Path("build/fits/next_counts.csv"))
    series = read_series(find_prefix(options.data))
    methods = {name: of_marrow(name) for name in STRUCTURES} | {TREND: of_trend}
    rows: list[tuple[str, str, int, str, float]] = []
    by_method: dict[str, dict[tuple[str, str], float]] = {name: {} for name in methods}
    for given, held in folds(series):
        for name, method in methods.items():
            for one, value in zip(held, method(given, held), strict=True):
                by_method[name][one.key] = float(value)
                rows.append((*one.key, len(scored_days(one)), name, float(value)))
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "transplant", "counts", "method", "log_density"))
        writer.writerows(rows)
    keys = list(by_method[TREND])
    counts = sum(len(scored_days(one)) for one in series)
    print(f"{counts} next counts of {len(keys)} series: log density; that of ten stages less it")
    best = np.array([by_method["ten_stages"][key] for key in keys])
    for name, own in by_method.items():
        values = np.array([own[key] for key in keys])
        less = best - values
        error = less.std(ddof=1) * np.sqrt(len(keys))
        print(f"  {name:<20} {values.sum():9.1f}  {less.sum():8.1f} (SE {error:.1f})")


if __name__ == "__main__":
    run(main)
