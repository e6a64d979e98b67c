"""Prior and posterior predictive checks of nadir and recovery in blood counts.

For every subject the same numbers are taken from the measurements and from each replicate, at the
times of the measurements: the lowest count, when it was measured, and the first measurement after
it at or above a threshold. A coarse schedule of visits then affects both alike. A count below its
limit is lower than every measured one; among several the first is the nadir. A subject that is
never below the threshold has recovered at its nadir. A subject that is never seen at or above the
threshold again, up to a reset (EVID 3 or 4), has an infinite recovery time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import Simulations, simulate_replicates
from pkpd.fitting.checks.vpc import mean_known, percentile
from pkpd.fitting.draws import Fitted

THRESHOLDS = {"neutrophils": 0.5, "platelets": 20.0, "leukocytes": 1.0}
"""Counts (10^9/L) recovery is looked for where none are given."""
_NAMES = {
    "nadir": "nadir",
    "nadir_time": "time of the nadir (h)",
    "recovery_time": "time of recovery (h)",
}


@dataclass(frozen=True, eq=False)
class CountCheck:
    """Nadir and recovery of one line, observed and replicated; ``B'`` subjects have counts.

    Attributes
    ----------
    line
        Name of the line.
    threshold
        What recovery is to.
    subjects
        Labels, ``[B']``.
    observed
        ``nadir``, ``nadir_time``, ``recovery_time``: ``[B']`` each.
    replicated
        The same of the replicates, ``[K, B']``.
    prior
        Whether the replicates are of the prior.
    units
        Units declared for the lines.
    """

    line: str
    threshold: float
    subjects: np.ndarray
    observed: Mapping[str, np.ndarray]
    replicated: Mapping[str, np.ndarray]
    prior: bool
    units: Mapping[str, str]

    def __repr__(self) -> str:
        """Tell what of."""
        kind = "prior" if self.prior else "fit"
        return f"CountCheck({self.line}: {len(self.subjects)} subjects, replicates of the {kind})"

    def table(self, level: float = 0.9) -> pd.DataFrame:
        """Median over subjects, observed and replicated.

        Returns
        -------
        pandas.DataFrame
            By statistic (and ``never_recovered``, a share): ``observed``, ``middle``, ``lower``,
            ``upper`` over replicates, and ``p``, the share of replicates at or above the
            observed median (half of those equal to it).
        """
        tail = 0.5 * (1 - level)
        rows = {}
        for name in (*_NAMES, "never_recovered"):
            if name == "never_recovered":
                times = self.replicated["recovery_time"]
                seen = np.mean(np.isinf(self.observed["recovery_time"]))
                # a subject that could not be solved is not known to have recovered or not
                each = mean_known(np.where(np.isnan(times), np.nan, np.isinf(times)))
            else:
                seen = _median(self.observed[name])
                each = _median(self.replicated[name])
            known = each[~np.isnan(each)]  # a replicate in which nobody was solved has none
            above = np.mean(known > seen) + 0.5 * np.mean(known == seen) if known.size else np.nan
            low, middle, high = (_at(each, q) for q in (tail, 0.5, 1 - tail))
            rows[name] = {
                "observed": float(seen),
                "middle": middle,
                "lower": low,
                "upper": high,
                "p": float(above),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("statistic")

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it shows, in words."""
        table = self.table()
        what = "prior" if self.prior else "model"
        out = []
        low = table.loc["nadir", "observed"] < self.threshold
        for name, words in _NAMES.items():
            if name == "recovery_time" and not low:  # most were never low
                continue
            row = table.loc[name]
            inside = row["lower"] <= row["observed"] <= row["upper"]
            verdict = "agrees with" if inside else "disagrees with"
            label = f"{words} at or above {self.threshold:g}" if name == "recovery_time" else words
            out.append(
                f"{self.line}, median {label}: observed {_number(row['observed'])} {verdict} the "
                f"{what} ({_number(row['middle'])}, 90 % interval {_number(row['lower'])} to "
                f"{_number(row['upper'])})."
            )
        return tuple(out)


def count_checks(
    simulations: Simulations | Fitted,
    *,
    thresholds: Mapping[str, float] | None = None,
    prior: bool = False,
) -> tuple[CountCheck, ...]:
    """Compare nadir, its time, and recovery, of measured counts and replicates.

    Parameters
    ----------
    simulations
        Replicates of the posterior, or of the prior through
        `pkpd.fitting.checks.priors.prior_draws`; a fit is simulated.
    thresholds
        Count (unit of the line) recovery is to, by line. By default lines called neutrophils
        (0.5), platelets (20) and leukocytes (1) are checked, where the data have them.
    prior
        Whether the replicates are of the prior; only the words change.

    Raises
    ------
    PkpdError
        If the data have no such line.
    """
    if not isinstance(simulations, Simulations):
        simulations = simulate_replicates(simulations)
    data = simulations.dataset
    wanted = (
        {name: at for name, at in THRESHOLDS.items() if name in data.lines}
        if thresholds is None
        else dict(thresholds)
    )
    out = []
    for line, threshold in wanted.items():
        if line not in data.lines:
            raise PkpdError(
                where=f"count_checks, line {line!r}",
                what="is not in the data",
                allowed=", ".join(data.lines),
            )
        rows = data.observations
        mine = rows.line == data.lines.index(line)
        subjects = np.unique(rows.subject[mine])
        seen, drawn = _empty((len(subjects),)), _empty((len(simulations.values), len(subjects)))
        for i, b in enumerate(subjects):
            here = np.flatnonzero(mine & (rows.subject == b))
            period = data.events.period[b, rows.record[here]]
            order = np.lexsort((rows.time[here], period))
            here, period = here[order], period[order]
            more = threshold, simulations.lower[here], period
            for out_of, counts in (
                (seen, simulations.observed[here]),
                (drawn, simulations.censored[:, here]),
            ):
                for name, value in nadir_and_recovery(rows.time[here], counts, *more).items():
                    out_of[name][..., i] = value
        out.append(
            CountCheck(
                line, float(threshold), data.subjects[subjects], seen, drawn, prior, data.units
            )
        )
    return tuple(out)


def nadir_and_recovery(
    time: np.ndarray,
    counts: np.ndarray,
    threshold: float,
    limit: np.ndarray,
    period: np.ndarray | int = 0,
) -> dict[str, np.ndarray]:
    """Lowest count, its time, and the time of the first later count at or above a threshold.

    Parameters
    ----------
    time : float[T]
        Rising within a period.
    counts : float[..., T]
        Counts; -inf below the limit.
    threshold
        What recovery is to.
    limit : float[T]
        Limits: the nadir of a subject below its limit is told as the limit.
    period : int[T]
        Number of resets before each count, rising: recovery is looked for in that of the nadir.

    Returns
    -------
    dict
        ``nadir``, ``nadir_time``, ``recovery_time`` (inf if never), each ``[...]``; NaN where a
        count is NaN.
    """
    lost = np.any(np.isnan(counts), axis=-1)
    safe = np.where(np.isnan(counts), np.inf, counts)
    at = np.argmin(safe, axis=-1)
    lowest = np.take_along_axis(safe, at[..., None], -1)[..., 0]
    nadir = np.where(np.isneginf(lowest), limit[at], lowest)
    period = np.broadcast_to(period, time.shape)
    later = (np.arange(len(time)) >= at[..., None]) & (period == period[at][..., None])
    back = later & (safe >= threshold)
    first = np.argmax(back, axis=-1)
    recovery = np.where(np.any(back, axis=-1), time[first], np.inf)
    found = {"nadir": nadir, "nadir_time": time[at], "recovery_time": recovery}
    return {name: np.where(lost, np.nan, value) for name, value in found.items()}


def _empty(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: np.full(shape, np.nan) for name in _NAMES}


def _median(values: np.ndarray) -> np.ndarray:
    """Median over the last axis, NaN left out; inf where more than half are."""
    return percentile(values, 0.5)


def _at(values: np.ndarray, q: float) -> float:
    return float(percentile(values, q))


def _number(value: float) -> str:
    return "never" if np.isinf(value) else f"{value:.3g}"
