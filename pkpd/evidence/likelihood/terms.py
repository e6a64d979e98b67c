"""Terms of the likelihood: one row, or the rows that count the same patients, each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkpd.evidence.likelihood.counts import (
    categories_log_likelihood,
    count_log_likelihood,
    tolerated_log_likelihood,
)
from pkpd.evidence.likelihood.order_statistics import (
    Sample,
    difference_log_likelihood,
    mean_log_likelihood,
    order_log_likelihood,
    quantiles_log_likelihood,
)
from pkpd.evidence.table.arms import ArmSeen
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.table import EvidenceRow

Floats = NDArray[np.float64]
LOG_DAYS = (float(np.log(0.3)), float(np.log(200.0)))  # support of days
LOG_COUNTS = (float(np.log(0.005)), float(np.log(1000.0)))  # support of counts, 10^9/L
LEAST_BANDWIDTH = 0.03  # of the log: one day in a month
# Chosen so small that the penalty does not pull on large trials.
HARDLY_ANY = 1e-4  # share of patients below which days of those who recover are improbable
FEVER_HAZARD = "fever_hazard"  # parameter, per day of neutrophils below 0.5
DISCREPANCY = "discrepancy"  # parameter, see Arm.sized


@dataclass(frozen=True)
class Arm:
    """A simulated arm under the weights of K grid points.

    Attributes
    ----------
    seen
        The simulated patients.
    weights : float[K, N]
        Rows sum to 1.
    size : float[K]
        Effective numbers of patients.
    theta
        Parameters.
    """

    seen: ArmSeen
    weights: Floats
    size: Floats
    theta: Mapping[str, float]

    def event(self, what: Observable) -> Floats:
        """Probability of the event in each patient; ``nan`` where the patient does not count."""
        values = self.seen.observe(what)
        if what.kind == "fever":
            return -np.expm1(-self.theta[FEVER_HAZARD] * values)
        return values

    def sized(self, size: Floats) -> Floats:
        """Effective number of patients that the likelihood may rely on.

        A trial reports something close to, but not the same as, what is simulated (adverse-event
        reports instead of counts, patients selected otherwise). The discrepancy d spreads the
        probability of an event as Beta with 1/d patients, on top of the Monte Carlo error.
        """
        return 1.0 / (1.0 / size + self.theta.get(DISCREPANCY, 0.0))

    def share(self, what: Observable) -> tuple[Floats, Floats]:
        """Share of patients with an event, and effective number of those who count."""
        values = self.event(what)
        counts = ~np.isnan(values)
        if counts.all():
            return self.weights @ values, self.sized(self.size)
        among = self.weights[:, counts]
        total = np.maximum(among.sum(axis=1), 1e-12)
        size = total**2 / np.maximum(np.einsum("kn,kn->k", among, among), 1e-300)
        return among @ values[counts] / total, self.sized(size)

    def sample(self, what: Observable) -> tuple[Sample, Floats]:
        """Values of the patients who have one, and their share of all."""
        values = self.seen.observe(what)
        has_one = np.isfinite(values)
        among = self.weights[:, has_one]
        share = among.sum(axis=1)
        safe = np.maximum(share, 1e-12)
        size = share**2 / np.maximum(np.einsum("kn,kn->k", among, among), 1e-300)
        x = values[has_one]
        support = LOG_COUNTS if what.kind == "baseline" else LOG_DAYS
        smooth, bandwidth = smoothed(np.log(np.clip(x, *np.exp(support))))
        sized = np.maximum(self.sized(np.maximum(size, 1e-3)), 1e-3)
        return Sample(smooth, among / safe[:, None], sized, bandwidth, support, x), share


@dataclass(frozen=True)
class Reading:
    """One reading of a term's rows: what is seen on patients, for each row."""

    log_probability: float
    name: str
    observables: tuple[Observable, ...]


@dataclass(frozen=True)
class Term:
    """Rows that are one factor of the likelihood.

    Attributes
    ----------
    kind
        ``beta-binomial``, ``Dirichlet-multinomial``, ``median``, ``median and range``,
        ``quartiles``, ``mean``, ``mean and range``, ``tolerated dose``, ``ratio``, ``difference``.
    rows
        One, or several of one arm for the Dirichlet-multinomial.
    power
        The log likelihood is multiplied by it: below 1 for doubtful sources.
    readings
        Readings of the rows, with their probabilities.
    """

    kind: str
    rows: tuple[EvidenceRow, ...]
    power: float
    readings: tuple[Reading, ...]

    @property
    def study(self) -> str:
        """Study of the rows."""
        return self.rows[0].study

    @cached_property
    def family(self) -> tuple[str, ...]:
        """Terms of a study with the same family share one unknown reading."""
        if len(self.readings) == 1:
            return ()
        return tuple(reading.name for reading in self.readings)

    @cached_property
    def log_priors(self) -> Floats:
        """Log probabilities of the readings."""
        return np.array([reading.log_probability for reading in self.readings])

    @cached_property
    def arm_keys(self) -> tuple[str, ...]:
        """Arms needed."""
        row = self.rows[0]
        other = row.other_arm if self.kind in TWO_ARMS else None
        return (row.arm,) if other is None else (row.arm, other)

    def log_likelihood(self, arms: Mapping[str, Arm], reading: Reading) -> Floats:
        """Log probability of the rows at every grid point, ``[K]``, before the power."""
        row = self.rows[0]
        arm = arms[self.arm_keys[0]]
        what = reading.observables[0]
        if self.kind == "beta-binomial":
            share, size = arm.share(what)
            return count_log_likelihood(_k(row), _n(row), share, size)
        if self.kind == "Dirichlet-multinomial":
            shares, size = category_shares(arm, reading.observables)
            counts = [_k(row) for row in self.rows]
            return categories_log_likelihood([*counts, _n(row) - sum(counts)], shares, size)
        if self.kind == "tolerated dose":
            other = arms[self.arm_keys[1]]
            # a published dose is one that was declared; a replicate has 0 where it was not
            declared = row.value != 0.0
            return tolerated_log_likelihood(*arm.share(what), *other.share(what), declared=declared)
        sample, share = arm.sample(what)
        if sample.values.size == 0:
            return np.full(arm.size.size, -1e3)
        n = row.n or 1
        # a publication on n patients who recovered is improbable where hardly any do
        guard = n * np.log(share / (share + HARDLY_ANY) + 1e-12)
        if self.kind in ("ratio", "difference"):
            second, second_share = arms[self.arm_keys[1]].sample(what)
            if second.values.size == 0:
                return np.full(arm.size.size, -1e3)
            guard = guard + n * np.log(second_share / (second_share + HARDLY_ANY) + 1e-12)
            value = _value(row)
            sd = standard_error(row)
            log = self.kind == "ratio"
            return guard + difference_log_likelihood(sample, second, (n, n), value, sd, log)
        return guard + _continuous(self.kind, row, what, sample, n)


def smoothed(x: Floats) -> tuple[Floats, float]:
    """Prepare values for a normal kernel that keeps their variance.

    On the log scale, so that the kernel is wide in the sparse upper tail, where the published
    maximum lies. Its width is the usual 0.9 SD n^(-1/5) (Silverman, Density Estimation, 1986); the
    values are drawn towards their mean by as much as the kernel spreads them.
    """
    if x.size < 2:
        return x, LEAST_BANDWIDTH
    sd = float(x.std())
    bandwidth = max(0.9 * sd * x.size**-0.2, LEAST_BANDWIDTH)
    shrink = np.sqrt(max(1.0 - (bandwidth / sd) ** 2, 0.0)) if sd > 0.0 else 1.0
    return x.mean() + shrink * (x - x.mean()), bandwidth


TWO_ARMS = ("tolerated dose", "ratio", "difference")


def category_shares(arm: Arm, observables: tuple[Observable, ...]) -> tuple[Floats, Floats]:
    """Shares of patients in exclusive categories, the last being none of them, ``[K, C + 1]``.

    Death is counted only in patients without response, as trials do.
    """
    responses = [arm.event(what) for what in observables if what.kind == "response"]
    any_response = np.sum(responses, axis=0) if responses else 0.0
    columns = []
    for what in observables:
        value = arm.event(what)
        columns.append(value if what.kind == "response" else value * (1.0 - any_response))
    shares = arm.weights @ np.stack(columns, axis=1)
    rest = np.maximum(1.0 - shares.sum(axis=1, keepdims=True), 0.0)
    return np.concatenate([shares, rest], axis=1), arm.sized(arm.size)


def _continuous(kind: str, row: EvidenceRow, what: Observable, sample: Sample, n: int) -> Floats:
    value = _value(row)
    baseline = what.kind == "baseline"
    if kind.startswith("mean"):
        extremes = None
        if kind == "mean and range" and row.lower is not None and row.upper is not None:
            extremes = (cell(row.lower, baseline), cell(row.upper, baseline))
        return mean_log_likelihood(sample, n, value, 0.5, extremes)
    middle = cell(value, baseline)
    if kind == "median" or row.lower is None or row.upper is None:
        return order_log_likelihood(sample, n, middle)
    low, high = cell(row.lower, baseline), cell(row.upper, baseline)
    if kind == "quartiles":
        return quantiles_log_likelihood(sample, n, (low, middle, high), (0.25, 0.5, 0.75))
    return order_log_likelihood(sample, n, middle, (low, high))


def cell(value: float, count: bool) -> tuple[float, float]:
    """Give the ends of the cell that a printed number stands for, on the log scale.

    Days are printed to half a day at best. Counts (10^9/L) are printed to about two figures, and
    a printed 0 is anything below 0.05.
    """
    if not count:
        lowest = float(np.exp(LOG_DAYS[0]))
        return (float(np.log(max(value - 0.5, lowest))), float(np.log(value + 0.5)))
    if value <= 0.0:
        return (LOG_COUNTS[0], float(np.log(0.05)))
    half = max(0.03 * value, 0.05 if value >= 1 else 0.005)
    return (float(np.log(max(value - half, 0.006))), float(np.log(value + half)))


def standard_error(row: EvidenceRow) -> float | None:
    """Derive the standard error of a ratio (of its log) or difference from its interval."""
    if row.lower is None or row.upper is None or row.limits == "iqr":
        return None
    width = {"ci90": 3.29, "ci95": 3.92, "range": 2.0}[row.limits]
    if row.endpoint.kind == "ratio":
        return float(np.log(row.upper / row.lower)) / width
    return (row.upper - row.lower) / width


def _k(row: EvidenceRow) -> int:
    return row.numerator or 0


def _n(row: EvidenceRow) -> int:
    return row.denominator or 0


def _value(row: EvidenceRow) -> float:
    return row.value if row.value is not None else float("nan")
