"""Forecasts of counts that know nothing of doses: what a model of the marrow has to beat.

`last_value`
    The logarithm of the last count, with the errors that it made in other patients.
`local_level`
    The logarithm of counts is a level that drifts like a random walk, seen with noise; the Kalman
    filter follows it. The robust one has Student t errors of each count given those before and a
    noise scale of each patient, which is integrated over.

Their numbers are fitted to patients by maximum likelihood, and their tables are those of
`pkpd.forecasting.series.forecast_series`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from pkpd.arrays import Floats, Indices
from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.errors import PkpdError
from pkpd.forecasting.series import LEVELS, Horizon, count_at, log_density, row_of, targets_of

_A_DAY = 24.0
_WIDE = 4.0  # variance of a level that nothing is known of
_NODES = 9


@dataclass(frozen=True, eq=False)
class _Logs:
    """Logarithms of the counts of patients in order of time, ``[T, B]``, NaN is padding."""

    label: tuple[Any, ...]
    time_h: tuple[Floats, ...]
    value: Floats
    censored: Indices
    since_d: Floats

    @classmethod
    def of(cls, data: Dataset) -> _Logs:
        """Take logarithms; a count below a limit is taken at it."""
        seen = data.observations
        rows = [np.flatnonzero(seen.subject == b) for b in range(len(data.subjects))]
        rows = [m[np.argsort(seen.time[m], kind="stable")] for m in rows]
        value = np.full((max(len(m) for m in rows), len(rows)), np.nan)
        censored, since = np.zeros(value.shape, int), np.zeros(value.shape)
        for b, m in enumerate(rows):
            value[: len(m), b] = np.log(seen.value[m])
            censored[: len(m), b] = seen.censored[m]
            since[1 : len(m), b] = np.diff(seen.time[m]) / _A_DAY
        times = tuple(seen.time[m] for m in rows)
        return cls(tuple(data.subjects), times, value, censored, since)

    def known(self, b: int, later: int | None) -> tuple[float, int]:
        """Logarithm of a later count and whether that is a limit; NaN if there is none."""
        if later is None:
            return np.nan, NOT_CENSORED
        return float(self.value[later, b]), int(self.censored[later, b])


@dataclass(frozen=True)
class LocalLevel:
    """A level that drifts, seen with noise; made by `local_level`.

    Attributes
    ----------
    drift
        Standard deviation of the level's change in a day.
    noise
        Standard deviation of a count around the level, on the log scale.
    degrees
        Of Student's t; infinite for the normal distribution.
    spread
        Standard deviation between patients of the logarithm of their scale, 0 for none.

    Examples
    --------
    >>> LocalLevel(drift=0.08, noise=0.35).scales
    (array([1.]), array([0.]))
    """

    drift: float
    noise: float
    degrees: float = np.inf
    spread: float = 0.0

    @property
    def scales(self) -> tuple[Floats, Floats]:
        """Scales of a patient and the logarithms of their probabilities."""
        if self.spread == 0:
            return np.ones(1), np.zeros(1)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        return np.exp(self.spread * nodes), np.log(weights / weights.sum())

    def filtered(self, logs: _Logs) -> tuple[Floats, Floats, Floats]:
        """Log densities ``[T, B, K]`` given the past, and level and variance after each count."""
        scale, _ = self.scales
        shape = (*logs.value.shape, scale.size)
        nu = self.degrees
        each, level, variance = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        # the first level is the median of all, and hardly known
        mean = np.full(shape[1:], np.nanmedian(logs.value))
        spread = np.full(shape[1:], _WIDE) * scale**2
        for t in range(shape[0]):
            spread = spread + (self.drift * scale) ** 2 * logs.since_d[t][:, None]
            total = spread + (self.noise * scale) ** 2
            given = np.isfinite(logs.value[t])[:, None]
            z = np.where(given, (logs.value[t][:, None] - mean) / np.sqrt(total), 0.0)
            each[t] = np.where(
                given,
                log_density(z, None if np.isinf(nu) else np.asarray(nu)) - 0.5 * np.log(total),
                0.0,
            )
            student = np.isfinite(nu) and t > 0  # the first count is taken as it is
            slope = (nu + 1) / (nu + z**2) * z if student else z
            information = (nu + 1) / (nu + 3) if student else 1.0
            gain = spread / np.sqrt(total)
            mean = mean + gain * slope * given
            spread = spread - gain**2 * information * given
            level[t], variance[t] = mean, spread
        return each, level, variance

    def log_likelihood(self, logs: _Logs) -> float:
        """Sum over patients, their scales integrated out."""
        total = self.filtered(logs)[0].sum(axis=0) + self.scales[1]
        return float(np.sum(np.asarray(logsumexp(total, axis=1))))

    def forecasts(
        self,
        data: Dataset,
        horizons: Sequence[Horizon],
        *,
        first: int = 5,
        levels: Sequence[float] = LEVELS,
    ) -> pd.DataFrame:
        """Forecast as `pkpd.forecasting.series.forecast_series` does."""
        logs = _Logs.of(data)
        each, level, variance = self.filtered(logs)
        scale, prior = self.scales
        posterior = prior + np.cumsum(each, axis=0)
        nu = None if np.isinf(self.degrees) else np.full(scale.size, self.degrees)
        rows = []
        for b, label in enumerate(logs.label):
            for k, horizon, target in targets_of(logs.time_h[b], horizons):
                if k + 1 < first:
                    continue
                days = (target - logs.time_h[b][k]) / _A_DAY
                total = variance[k, b] + ((self.drift * scale) ** 2) * days
                sd = np.sqrt(total + (self.noise * scale) ** 2)
                weights = np.exp(posterior[k, b] - logsumexp(posterior[k, b]))
                known, code = logs.known(b, count_at(logs.time_h[b], k, target))
                mixture = (weights, level[k, b], sd, nu)
                rows.append(
                    {
                        "ID": label,
                        "ORIGIN": logs.time_h[b][k] / _A_DAY,
                        "TIME": target / _A_DAY,
                        "horizon": horizon.name,
                        "counts": k + 1,
                        **row_of(*mixture, known, code, levels, logarithmic=True),
                    }
                )
        return pd.DataFrame(rows)


def local_level(data: Dataset, *, robust: bool = True) -> LocalLevel:
    """Fit a local level to patients by maximum likelihood.

    Parameters
    ----------
    data
        Patients with counts of one line.
    robust
        Student t errors and a noise scale of each patient.

    Examples
    --------
    >>> local_level(data).forecasts(others, [NEXT])  # doctest: +SKIP
    """
    logs = _Logs.of(data)

    def made(x: Floats) -> LocalLevel:
        drift, noise = np.exp(x[:2])
        if not robust:
            return LocalLevel(float(drift), float(noise))
        return LocalLevel(
            float(drift), float(noise), 1.0 + float(np.exp(x[2])), float(np.exp(x[3]))
        )

    start = np.log([0.08, 0.35, 4.0, 0.3] if robust else [0.1, 0.4])
    found = minimize(lambda x: -made(x).log_likelihood(logs), start, method="Nelder-Mead",
                     options={"xatol": 1e-3, "fatol": 1e-2})  # fmt: skip
    return made(found.x)


def last_value(
    train: Dataset,
    data: Dataset,
    horizons: Sequence[Horizon],
    *,
    first: int = 5,
    levels: Sequence[float] = LEVELS,
) -> pd.DataFrame:
    """Forecast the last count, with the errors that it made in other patients.

    Parameters
    ----------
    train
        Patients whose errors are taken.
    data
        Patients to forecast.
    horizons, first, levels
        As of `pkpd.forecasting.series.forecast_series`.
    """
    logs, others = _Logs.of(data), _Logs.of(train)
    rows = []
    for horizon in horizons:
        errors = np.array(
            [
                others.value[later, b] - others.value[k, b]
                for b, times in enumerate(others.time_h)
                for k, _, target in targets_of(times, [horizon])
                if k + 1 >= first and (later := count_at(times, k, target)) is not None
            ]
        )
        if not errors.size:
            what = f"no patient of train has {first} counts and a later one at {horizon.name!r}"
            remedy = "give a smaller first=, or a horizon with a window"
            raise PkpdError(where="last_value", what=what, remedy=remedy)
        found = np.quantile(errors, [*levels, 0.5])
        for b, label in enumerate(logs.label):
            times = logs.time_h[b]
            for k, _, target in targets_of(times, [horizon]):
                if k + 1 < first:
                    continue
                known, code = logs.known(b, count_at(times, k, target))
                value = np.exp(logs.value[k, b] + found)
                head = {"ID": label, "ORIGIN": times[k] / _A_DAY, "TIME": target / _A_DAY}
                head |= {"horizon": horizon.name, "counts": k + 1}
                quantiles = {f"q{p:g}": v for p, v in zip(levels, value, strict=False)}
                head |= {"observed": np.exp(known), "censored": code, "median": value[-1]}
                rows.append({**head, **quantiles})
    return pd.DataFrame(rows)
