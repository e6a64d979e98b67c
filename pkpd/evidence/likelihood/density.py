"""Likelihood of a table given summaries of its arms, in JAX.

With ``p`` the simulated share, ``b`` the offset of the study in this channel and ``d`` the
discrepancy of arms:

- counts: ``k ~ BetaBinomial(n, q / d, (1 - q) / d)`` with ``logit q = logit p + b``;
- medians: the logit of the distribution function at the median of n patients is normal with
  variance ``4 / n`` (that of a logit of Beta(n/2, n/2)). Days have a logistic distribution of the
  log, with scales of its own on both sides of the median, shifted by ``b``; arms differ by a normal
  deviation of the log with standard deviation ``e``;
- quartiles: the difference of the logits at the quartiles is normal about ``2 ln 3`` with variance
  ``64 / 9n`` (asymptotic covariance of quantiles);
- ranges: ``P(largest < x) = F(x)^n``;
- means: normal on the log scale;
- ratios and differences of two arms: normal; the offset of the study cancels from a ratio;
- tolerated doses: passing a 3 + 3 level has probability ``(1-q)^3 + 3 q (1-q)^5`` (Storer,
  Biometrics 1989;45:925).

Offsets are normal, one for each study and channel, with a standard deviation for each channel that
is learned; arms of a study share it, so that it leaves contrasts between arms alone.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pkpd.float64  # noqa: F401
from pkpd.arrays import Floats
from pkpd.evidence.likelihood.cells import CHANNELS, DOUBT, Cells
from pkpd.evidence.likelihood.summaries import Summaries

_LOGIT_GAP = 2.0 * float(np.log(3.0))
_QUARTILES = 64.0 / 9.0
_LOGISTIC_SD = float(np.pi / np.sqrt(3.0))
_MEDIAN_SE = 4.0  # variance of the logit of F at the median, times n
REACH = 4.0
"""Half width of the grid of a study's offset, in standard deviations."""
NODES = 25
"""Points of the grid; it misses likelihoods narrower than a third of the spread of studies."""


@dataclass(frozen=True)
class Spread:
    """How studies and arms deviate.

    Attributes
    ----------
    between : [channels]
        Standard deviation of the studies' offsets, by channel.
    arm
        Discrepancy of counts d.
    arm_days
        Discrepancy of days e.
    """

    between: Any
    arm: Any
    arm_days: Any


jax.tree_util.register_dataclass(Spread, ["between", "arm", "arm_days"], [])


def logits_and_days(summaries: Summaries) -> tuple[Floats, Floats]:
    """Transform summaries to the scale of the emulator: logits; median, log scales, log mean."""
    x, n = summaries.share, np.maximum(summaries.size, 1e-9)
    share = (x * n + 0.5) / (n + 1.0)
    days = summaries.days.copy()
    days[:, 1:3] = np.log(days[:, 1:3])
    return np.log(share) - np.log1p(-share), days


class TableDensity:
    """Log likelihood of cells.

    Parameters
    ----------
    cells
        Of a table.
    without
        Studies whose rows do not count.

    Attributes
    ----------
    numbers
        What was observed, and which cells count: JAX may trace it (`with_numbers`), so that tables
        that differ in nothing else share what is compiled.
    """

    def __init__(self, cells: Cells, without: Iterable[str] = ()) -> None:
        self.cells = cells
        out = frozenset(without)
        counts = np.array([c.study not in out for c in cells.cells], dtype=np.float64)
        observed: list[Any] = []
        self.groups = len(cells.groups)
        self.channel = np.array([CHANNELS.index(c) for _, c in cells.groups], dtype=np.int64)
        self._kinds: list[tuple[str, dict[str, Any]]] = []
        order: list[int] = []
        for kind in _KINDS:
            places = [i for i, c in enumerate(cells.cells) if c.kind == kind]
            if not places:
                continue
            own = [cells.cells[i] for i in places]
            self._kinds.append(
                (
                    kind,
                    {
                        "first": np.array([c.first for c in own]),
                        "second": np.array([c.second for c in own]),
                        "sign": np.array([c.sign for c in own])[:, None],
                        "doubt": np.array([float(c.doubtful) for c in own])[:, None],
                        "group": cells.group[places],
                    },
                )
            )
            observed.append(np.array([c.numbers for c in own]).T[..., None])
            order += places
        self.numbers: Any = (counts, tuple(observed))
        self._back = np.argsort(order)
        self._options = len(cells.log_prior)
        self._families = len(cells.group_of)
        studies = dict.fromkeys(study for study, _ in cells.groups)
        self.studies = tuple(studies)
        self._study = np.array([self.studies.index(s) for s, _ in cells.groups])

    def with_numbers(self, numbers: Any) -> TableDensity:
        """Take `numbers` of a table with the same `shape`."""
        other = copy.copy(self)
        other.numbers = numbers
        return other

    @property
    def shape(self) -> bytes:
        """All of a table but its `numbers`: equal for tables that are computed alike."""
        cells, rest = self.cells, (self._back, self.channel, self._study)
        groups = (cells.option, cells.log_prior, cells.family_of, cells.group_of)
        return pickle.dumps([self._kinds, *map(np.asarray, (*rest, *groups))])

    def cell_terms(self, logits: Any, days: Any, offsets: Any, spread: Spread) -> Any:
        """Log likelihood of each cell.

        Parameters
        ----------
        logits : [S]
            Of the shares.
        days : [D, 4]
            As `logits_and_days` gives them.
        offsets : [G, J]
            Of the groups, at J points.
        spread
            Discrepancies.

        Returns
        -------
        [C, J]
        """
        parts = []
        counts, observed = self.numbers
        for (kind, fixed), numbers in zip(self._kinds, observed, strict=True):
            own = {**fixed, "numbers": numbers}
            b = offsets[own["group"]] * own["sign"]
            parts.append(_KINDS[kind](logits, days, b, own, spread))
        return jnp.concatenate(parts)[self._back] * counts[:, None]

    def groups_at(self, logits: Any, days: Any, offsets: Any, spread: Spread) -> Any:
        """Log likelihood ``[G, J]`` of each group at offsets ``[G, J]``, readings summed over."""
        cells = self.cells
        each = self.cell_terms(logits, days, offsets, spread)
        option = jax.ops.segment_sum(each, cells.option, self._options)
        option = option + cells.log_prior[:, None]
        top = jax.ops.segment_max(option, cells.family_of, self._families)
        top = jax.lax.stop_gradient(top)
        total = jax.ops.segment_sum(
            jnp.exp(option - top[cells.family_of]), cells.family_of, self._families
        )
        family = top + jnp.log(total)
        return jax.ops.segment_sum(family, cells.group_of, self.groups)

    def marginal(self, logits: Any, days: Any, spread: Spread, nodes: int = NODES) -> Any:
        """Log likelihood by study ``[studies]``.

        Offsets are integrated out on a uniform grid (the trapezoidal rule): sampling them beside
        the spread between studies makes a funnel in which chains take hundreds of steps.
        """
        grid = np.linspace(-REACH, REACH, nodes)
        weight = -0.5 * grid**2
        weight = weight - np.logaddexp.reduce(weight)
        offsets = spread.between[self.channel][:, None] * grid
        groups = self.groups_at(logits, days, offsets, spread)
        by_group = jax.scipy.special.logsumexp(groups + weight, axis=1)
        return jax.ops.segment_sum(by_group, self._study, len(self.studies))


# -- kinds of cells: (logits, days, offsets [N, J], own numbers, spread) -> [N, J] -----------------


def _count(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    k, n = own["numbers"]
    q = jax.nn.sigmoid(logits[own["first"]][:, None] + b)
    size = 1.0 / (spread.arm + DOUBT[0] * own["doubt"] + 1e-5)
    q = jnp.clip(q, 1e-6, 1.0 - 1e-6)
    return beta_binomial(k, n, q, size)


def beta_binomial(k: Any, n: Any, q: Any, size: Any) -> Any:
    """Log probability of k of n under a beta distribution of the risk, by its mean and size.

    Many means may share a size: what depends on the size alone is found once.
    """
    ways = log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(n - k + 1.0)
    alpha, beta = q * size, (1.0 - q) * size
    return (
        (ways + log_gamma(size) - log_gamma(n + size))
        + log_gamma(k + alpha) - log_gamma(alpha)
        + log_gamma(n - k + beta) - log_gamma(beta)
    )  # fmt: skip


def log_gamma(x: Any) -> Any:
    """Log of the gamma function of positive numbers: Stirling's series from x + 8 on.

    Error below 1e-10; several times as fast as the general function, also backwards.
    """
    product = x
    for i in range(1, 8):
        product = product * (x + i)
    y = x + 8.0
    inverse = 1.0 / y
    square = inverse * inverse
    series = inverse * (
        1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))
    )
    return (y - 0.5) * jnp.log(y) - y + 0.9189385332046727 + series - jnp.log(product)


def _position(x: Any, days: Any, b: Any, own: Mapping[str, Any], extra: Any) -> tuple[Any, Any]:
    """Logit of the distribution function at x of the log, and its slope there.

    The scale goes smoothly from that below the median to that above it. If it jumped there the
    density would, at every day that is printed, and chains would take hundreds of steps.
    """
    found = days[own["first"]]
    off = x - found[:, 0][:, None] - b
    middle = 0.5 * (found[:, 1] + found[:, 2])[:, None]
    # one scale more than e^4 times the other would take the slope below zero
    half = jnp.clip(0.5 * (found[:, 2] - found[:, 1]), -2.0, 2.0)[:, None]
    side = jnp.tanh(off * jnp.exp(-middle))
    own_scale = jnp.exp(middle + half * side)
    own_slope = own_scale * half * (1.0 - side**2) * jnp.exp(-middle)
    scale = jnp.sqrt(own_scale**2 + extra**2 / _LOGISTIC_SD**2)
    return off / scale, (1.0 - off * own_scale * own_slope / scale**2) / scale


def _arm_days(own: Mapping[str, Any], spread: Spread) -> Any:
    return jnp.sqrt(spread.arm_days**2 + (DOUBT[1] * own["doubt"]) ** 2)


def _normal(x: Any, variance: Any) -> Any:
    return -0.5 * x**2 / variance - 0.5 * jnp.log(variance) - 0.9189385332046727


def _median(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    low, high, n = own["numbers"]
    z, slope = _position(0.5 * (low + high), days, b, own, 0.0)
    width = (high - low) * slope
    off = _arm_days(own, spread) * slope
    return _normal(z, _MEDIAN_SE / n + off**2 + width**2 / 12.0) + jnp.log(width)


def _quartiles(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    a, c, d, e, n = own["numbers"]
    low, slope_low = _position(0.5 * (a + c), days, b, own, 0.0)
    high, slope_high = _position(0.5 * (d + e), days, b, own, 0.0)
    widths = ((c - a) * slope_low) ** 2 + ((e - d) * slope_high) ** 2
    # arms differ in spread by as much as in their medians
    off = (_arm_days(own, spread) * jnp.minimum(slope_low, slope_high)) ** 2
    gap = high - low - _LOGIT_GAP
    return _normal(gap, _QUARTILES / n + off + widths / 12.0) + 0.5 * jnp.log(widths)


def _range(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    a, c, d, e, n = own["numbers"]
    extra = _arm_days(own, spread)
    at = [_position(x, days, b, own, extra)[0] for x in (a, c, d, e)]
    survive = [-jax.nn.softplus(z) for z in at[:2]]
    below = [-jax.nn.softplus(-z) for z in at[2:]]
    least = n * survive[0] + _log_one_minus(n * (survive[1] - survive[0]))
    most = n * below[1] + _log_one_minus(n * (below[0] - below[1]))
    return least + most


def _log_one_minus(x: Any) -> Any:
    """``log(1 - exp(x))`` for negative x."""
    return jnp.log(-jnp.expm1(jnp.minimum(x, -1e-12)))


def _mean(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    low, high, n = own["numbers"]
    found = days[own["first"]]
    scale = 0.5 * (jnp.exp(found[:, 1]) + jnp.exp(found[:, 2]))[:, None] * _LOGISTIC_SD
    off = 0.5 * (low + high) - found[:, 3][:, None] - b
    width = high - low
    variance = scale**2 / n + _arm_days(own, spread) ** 2 + width**2 / 12.0
    return _normal(off, variance) + jnp.log(width)


def _two(days: Any, own: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    first, second = days[own["first"]], days[own["second"]]

    def variance(found: Any) -> Any:
        return (0.5 * (jnp.exp(found[:, 1]) + jnp.exp(found[:, 2])) * 2.0)[:, None] ** 2

    return first[:, 0][:, None], second[:, 0][:, None], (variance(first), variance(second))


def _ratio(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    value, sd, n = own["numbers"]
    first, second, (va, vb) = _two(days, own)
    variance = jnp.where(sd > 0.0, sd**2, (va + vb) / n) + 2.0 * _arm_days(own, spread) ** 2
    return _normal(jnp.log(jnp.maximum(value, 1e-6)) - (first - second) + 0.0 * b, variance)


def _difference(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    value, sd, n = own["numbers"]
    first, second, (va, vb) = _two(days, own)
    one, other = jnp.exp(first), jnp.exp(second)
    arms = _arm_days(own, spread) ** 2
    own_variance = jnp.where(sd > 0.0, sd**2, (one**2 * va + other**2 * vb) / n)
    variance = own_variance + arms * (one**2 + other**2) + 1.0 / 6.0
    return _normal(value - (one - other) + 0.0 * b, variance)


def _tolerated(logits: Any, days: Any, b: Any, own: Mapping[str, Any], spread: Spread) -> Any:
    (declared,) = own["numbers"]
    passes = [
        passing(jax.nn.sigmoid(logits[own[side]][:, None] + b)) for side in ("first", "second")
    ]
    chance = jnp.clip(passes[0] * (1.0 - passes[1]), 1e-9, 1.0 - 1e-9)
    return jnp.where(declared > 0.0, jnp.log(chance), jnp.log1p(-chance))


def passing(q: Any) -> Any:
    """Probability that a 3 + 3 design passes a level of risk q."""
    return (1.0 - q) ** 3 + 3.0 * q * (1.0 - q) ** 5


_KINDS = {
    "count": _count,
    "median": _median,
    "quartiles": _quartiles,
    "mean": _mean,
    "range": _range,
    "tolerated": _tolerated,
    "ratio": _ratio,
    "difference": _difference,
}

__all__ = ["Spread", "TableDensity", "beta_binomial", "log_gamma", "logits_and_days"]
