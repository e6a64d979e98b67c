"""What a likelihood needs to know of a simulated arm: a few shares and a few distributions of days.

A published row is compared with a summary of its arm, not with the single simulated patients: a
share of patients (among all, or among those with or without something else), or where days lie and
how far they spread. Summaries are smooth functions of the parameters, and can be learned by an
emulator from simulations of few patients (`pkpd.evidence.sampling.emulator`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import Floats
from pkpd.evidence.likelihood.terms import FEVER_HAZARD, LOG_COUNTS, LOG_DAYS
from pkpd.evidence.table.arms import ArmSeen
from pkpd.evidence.table.endpoints import Observable

FEWEST = 8.0
"""Effective patients with a day below whom its distribution is not told."""
LOGIT_90 = float(np.log(9.0))
"""Logit of 0.9: what a quantile of the logistic distribution is off its median, in scales."""
STATISTICS = ("median", "lower scale", "upper scale", "mean")


@dataclass(frozen=True)
class Share:
    """A share of an arm's patients.

    Attributes
    ----------
    arm
        Key of the arm.
    events
        What is counted: patients with any of these.
    given
        Only patients with any of these (`having`), or with none of them; empty: all.
    having
        See `given`.
    """

    arm: str
    events: tuple[Observable, ...]
    given: tuple[Observable, ...] = ()
    having: bool = True


@dataclass(frozen=True)
class Days:
    """Days, or counts at the start, of an arm's patients who have them."""

    arm: str
    what: Observable


@dataclass(frozen=True)
class Summaries:
    """Summaries of simulated arms at one set of parameters.

    Attributes
    ----------
    share, size : float[S]
        Shares, and the effective numbers of patients they are of.
    days : float[D, 4]
        Median of the log; scales of a logistic distribution of the log below and above the median
        that has the simulated 10 % and 90 % quantiles; log of the mean. NaN with too few patients.
    days_size : float[D]
        Effective numbers of patients with a day.
    """

    share: Floats
    size: Floats
    days: Floats
    days_size: Floats


def summarise(
    shares: Sequence[Share],
    days: Sequence[Days],
    seen: Mapping[str, ArmSeen],
    theta: Mapping[str, float],
) -> Summaries:
    """Summarise simulated arms.

    Parameters
    ----------
    shares, days
        What is asked.
    seen
        Simulated arms by key.
    theta
        Parameters; the hazard of fever turns days of neutropenia into a risk.
    """
    found = [_share(one, seen[one.arm], theta) for one in shares]
    lines = [_days(one, seen[one.arm]) for one in days]
    return Summaries(
        np.array([f[0] for f in found]),
        np.array([f[1] for f in found]),
        np.array([line[0] for line in lines]).reshape(len(lines), len(STATISTICS)),
        np.array([line[1] for line in lines]),
    )


def _event(arm: ArmSeen, what: Observable, theta: Mapping[str, float]) -> Floats:
    values = arm.observe(what)
    if what.kind == "fever":
        return -np.expm1(-theta[FEVER_HAZARD] * values)
    return values


def _any(arm: ArmSeen, events: Sequence[Observable], theta: Mapping[str, float]) -> Floats:
    none = np.ones(arm.weight.size)
    for what in events:
        none = none * (1.0 - _event(arm, what, theta))
    return 1.0 - none


def _share(ask: Share, arm: ArmSeen, theta: Mapping[str, float]) -> tuple[float, float]:
    event = _any(arm, ask.events, theta)
    weight = np.array(arm.weight, dtype=np.float64)
    if ask.given:
        among = _any(arm, ask.given, theta)
        weight = weight * (among if ask.having else 1.0 - among)
    counts = ~np.isnan(event) & ~np.isnan(weight)
    weight, event = weight[counts], event[counts]
    total = float(weight.sum())
    if total <= 0.0:
        return 0.5, 0.0
    return float(weight @ event) / total, total**2 / float(weight @ weight)


def _days(ask: Days, arm: ArmSeen) -> tuple[Floats, float]:
    values = arm.observe(ask.what)
    has_one = np.isfinite(values)
    weight = np.asarray(arm.weight, dtype=np.float64)[has_one]
    total = float(weight.sum())
    size = total**2 / float(weight @ weight) if total > 0.0 else 0.0
    if size < FEWEST:
        return np.full(len(STATISTICS), np.nan), size
    support = LOG_COUNTS if ask.what.kind.startswith("baseline") else LOG_DAYS
    x = np.clip(values[has_one], *np.exp(support))
    low, middle, high = np.log(weighted_quantiles(x, weight / total, (0.1, 0.5, 0.9)))
    least = 0.02  # of the log: half a day in a month
    below, above = max((middle - low) / LOGIT_90, least), max((high - middle) / LOGIT_90, least)
    mean = float(np.log(weight @ x / total))
    return np.array([middle, below, above, mean]), size


def weighted_quantiles(x: Floats, weight: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles of weighted values, linear between the middles of their weights."""
    order = np.argsort(x)
    w = weight[order]
    return np.interp(levels, np.cumsum(w) - 0.5 * w, x[order])
