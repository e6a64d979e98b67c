"""Scores of forecasts of a day: CRPS, what intervals hold, where outcomes lie in forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from forecasts import Forecasts
from numpy.typing import NDArray
from series import LATER, Awaited

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of F forecasts.

    Attributes
    ----------
    keys
        Patient and transplant of each.
    landmarks : int[F]
        Their days.
    crps : float[F]
        Of min(day, 46), days.
    below, at : float[F]
        Probability of days before the outcome, and of the outcome.
    stated : float[F, 2]
        Mass of the central intervals of 50 and 90 %, which are of whole days.
    held : bool[F, 2]
        Whether these hold the outcome.
    """

    keys: list[tuple[str, str]]
    landmarks: NDArray[np.int64]
    crps: Floats
    below: Floats
    at: Floats
    stated: Floats
    held: NDArray[np.bool_]

    def by_series(self) -> dict[tuple[str, str], float]:
        """Mean CRPS of the landmarks of each series."""
        own: dict[tuple[str, str], list[float]] = {}
        for key, value in zip(self.keys, self.crps, strict=True):
            own.setdefault(key, []).append(float(value))
        return {key: float(np.mean(values)) for key, values in own.items()}

    def mean(self) -> tuple[float, float]:
        """CRPS, mean over landmarks and then over series, and its standard error."""
        values = np.array(list(self.by_series().values()))
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))

    def split(self, rng: np.random.Generator) -> Floats:
        """Place outcomes in their forecasts, days split at random: uniform if these are true."""
        return self.below + self.at * rng.random(len(self.at))

    def split_coverage(self) -> Floats:
        """Share of outcomes inside 50 and 90 %, a day's mass counted by what of it is inside."""
        inside = []
        for share in (0.5, 0.9):
            low, high = 0.5 - share / 2.0, 0.5 + share / 2.0
            part = np.minimum(self.below + self.at, high) - np.maximum(self.below, low)
            inside.append(np.mean(np.maximum(part, 0.0) / np.maximum(self.at, 1e-12)))
        return np.array(inside)


def score(forecasts: Forecasts | Mapping, series: Sequence[Awaited]) -> Scored:
    """Score forecasts of series whose outcome is known."""
    keys, rows = [], []
    for one in series:
        for landmark in one.landmarks if one.outcome is not None else ():
            p = forecasts[(*one.key, landmark)]
            whole = np.cumsum(p)
            outcome = one.outcome
            crps = ((whole[:-1] - (np.arange(LATER) >= outcome)) ** 2).sum()
            stated, held = [], []
            for tail in (0.25, 0.05):
                low, high = np.searchsorted(whole, [tail, 1.0 - tail])
                stated.append(p[low : high + 1].sum())
                held.append(low <= outcome <= high)
            keys.append(one.key)
            at = p[outcome]
            rows.append((landmark, crps, whole[outcome] - at, at, *stated, *held))
    table = np.array(rows, dtype=float)
    return Scored(keys, table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3],
                  table[:, 4:6], table[:, 6:8].astype(bool))  # fmt: skip
