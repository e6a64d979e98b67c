"""Visual predictive checks: percentiles of the data beside those of replicates.

Values below the limit of quantification count as below every measured value, in the data and in the
replicates alike: percentiles are taken over all values, and a percentile among those below the
limit is not drawn. Their share has a panel of its own (Bergstrand and Karlsson 2009, AAPS J
11:371-80).

In the prediction-corrected check values are multiplied by the median prediction of their bin over
their own, both of the typical patient (Bergstrand and others 2011, AAPS J 13:143-51), which takes
out what dose and covariates explain. Of logarithms the difference of both is added, as the paper
says: where it is asked for, and for lines with predictions below 0, which have no ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import (
    Simulations,
    chosen,
    finite_words,
    simulate_replicates,
    strata,
)
from pkpd.fitting.checks.vpc_bins import Bins, bin_edges, place
from pkpd.fitting.draws import Fitted


@dataclass(frozen=True, eq=False)
class VPCPanel:
    """One panel: a line of the data, or one of its strata. ``Q`` percentiles, ``J`` bins.

    Attributes
    ----------
    line, stratum
        What is in it.
    x, y
        The values drawn; -inf below the limit, inf above it.
    limit
        Limit of each value: the upper one of a value above it, else the lower one, -inf where
        there is none.
    edges, centre, count
        Edges ``[J + 1]``, median of ``x`` and number of values of each bin ``[J]``.
    observed
        Percentiles of the data, ``[Q, J]``: -inf below the limit, NaN without values.
    lower, middle, upper
        Interval and median over replicates of the same percentiles, ``[Q, J]``.
    below
        Share of values below the limit, ``[4, J]``: observed, lower, middle, upper; ``None``
        where no value has a limit.
    """

    line: str
    stratum: str
    x: np.ndarray
    y: np.ndarray
    limit: np.ndarray
    edges: np.ndarray
    centre: np.ndarray
    count: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    middle: np.ndarray
    upper: np.ndarray
    below: np.ndarray | None

    def __repr__(self) -> str:
        """Tell what is in it."""
        out, total = self.outside
        return (
            f"VPCPanel({self.title}: {len(self.count)} bins, {out} of {total} percentiles outside)"
        )

    @property
    def title(self) -> str:
        """Line and stratum."""
        return f"{self.line}, {self.stratum}" if self.stratum else self.line

    @property
    def outside(self) -> tuple[int, int]:
        """Percentiles of the data outside their interval, and how many were compared."""
        known = ~np.isnan(self.observed) & ~np.isnan(self.lower)
        out = (self.observed < self.lower) | (self.observed > self.upper)
        return int(np.sum(out & known)), int(np.sum(known))

    @property
    def below_outside(self) -> tuple[int, int]:
        """Bins whose share below the limit is outside its interval, and how many have a limit."""
        if self.below is None:
            return 0, 0
        share, lower, _, upper = self.below
        return int(np.sum((share < lower) | (share > upper))), int(np.sum(np.isfinite(share)))

    @property
    def far_below(self) -> tuple[float, ...]:
        """Centres of bins whose share below the limit is outside by more than its interval."""
        if self.below is None:
            return ()
        share, lower, _, upper = self.below
        width = upper - lower + 1 / np.maximum(self.count, 1)
        far = (share < lower - width) | (share > upper + width)
        return tuple(float(x) for x in self.centre[far])


@dataclass(frozen=True, eq=False)
class VPC:
    """A visual predictive check.

    Attributes
    ----------
    panels
        Line by line, stratum by stratum.
    quantiles
        The percentiles, as fractions.
    level
        Of the intervals.
    corrected
        Whether it is prediction-corrected.
    x_label
        Of the horizontal axis.
    notes
        Sentences on what was left out.
    units
        Units declared for the lines.
    """

    panels: tuple[VPCPanel, ...]
    quantiles: tuple[float, ...]
    level: float
    corrected: bool
    x_label: str
    notes: tuple[str, ...]
    units: Mapping[str, str]

    def __repr__(self) -> str:
        """Tell the panels."""
        return f"VPC({', '.join(map(repr, self.panels))})"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it shows, in words."""
        out, total = (sum(p.outside[k] for p in self.panels) for k in (0, 1))
        kind = "prediction-corrected check" if self.corrected else "visual predictive check"
        expected = (1 - self.level) * total
        words = (
            f"{kind}: {out} of {total} observed percentiles lie outside their "
            f"{100 * self.level:g} % intervals ({expected:.1f} expected)"
        )
        texts = [words[0].upper() + words[1:] + "."]
        out, total = (sum(p.below_outside[k] for p in self.panels) for k in (0, 1))
        if total:
            texts.append(
                f"Share below the limit: outside its interval in {out} of {total} bins "
                f"({(1 - self.level) * total:.1f} expected at most)."
            )
        return (*texts, *self.notes)


def vpc(
    simulations: Simulations | Fitted,
    *,
    x: str | ArrayLike = "time",
    bins: Bins | Mapping[str, Bins] = "auto",
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    level: float = 0.9,
    stratify: str | None = None,
    prediction_corrected: bool | Literal["ratio", "difference"] = False,
) -> VPC:
    """Compare percentiles of the data with those of replicates.

    Parameters
    ----------
    simulations
        Replicates from `pkpd.fitting.checks.replicates.simulate_replicates`; or a fit, of which
        500 are then simulated.
    x
        ``"time"``, ``"time_after_dose"``, or one number for each observation.
    bins
        See `pkpd.fitting.checks.vpc_bins.bin_edges`; a mapping gives them by line.
    quantiles
        Percentiles as fractions.
    level
        Of the intervals over replicates.
    stratify
        ``"occasion"`` or a covariate; lines are always apart.
    prediction_corrected
        See the module; ``"difference"`` for data that are logarithms, ``True`` for ratios wherever
        no prediction lies below 0. The share below the limit is not corrected.

    Raises
    ------
    PkpdError
        If a percentile, level, stratum or bin has no meaning.
    """
    wanted = tuple(float(q) for q in quantiles)
    if not wanted or not all(0 < q < 1 for q in wanted):
        raise PkpdError(where="vpc", what=f"quantiles {wanted}", allowed="numbers between 0 and 1")
    if not 0 < level < 1:
        raise PkpdError(where="vpc", what=f"level {level}", allowed="between 0 and 1")
    if prediction_corrected not in (False, True, "ratio", "difference"):
        allowed = '"ratio", "difference", True, False'
        what = f"prediction_corrected {prediction_corrected!r}"
        raise PkpdError(where="vpc", what=what, allowed=allowed)
    if not isinstance(simulations, Simulations):
        simulations = simulate_replicates(simulations)
    data, seen = simulations.dataset, simulations.dataset.observations
    for name in bins if isinstance(bins, Mapping) else ():
        if name not in data.lines:
            what, allowed = "the data have no such line", ", ".join(data.lines)
            raise PkpdError(where=f"vpc, bins of {name!r}", what=what, allowed=allowed)
    axis, label = chosen(data, x)
    if lost := np.flatnonzero(~np.isfinite(axis)).tolist():
        what = f"is {axis[lost[0]]} at observation {lost[0]} of {len(axis)}"
        raise PkpdError(where="vpc, x", what=what, allowed="finite numbers")
    group, names = strata(data, stratify)
    notes = [finite_words(simulations)]
    panels = []
    for i, line in enumerate(data.lines):
        for g, stratum in enumerate(names):
            mine = np.flatnonzero((seen.line == i) & (group == g))
            if not mine.size:
                continue
            given = bins.get(line, "auto") if isinstance(bins, Mapping) else bins
            edges = bin_edges(axis[mine], given)
            at = place(axis[mine], edges)
            factor, shift = np.ones(mine.size), np.zeros(mine.size)
            if prediction_corrected:
                factor, shift, told = _correction(simulations, mine, at, prediction_corrected, line)
                notes.append(told)
            panel = _panel(simulations, mine, axis[mine], at, (factor, shift), wanted, level)
            panels.append(replace(panel, line=line, stratum=stratum, edges=edges))
    return VPC(
        tuple(panels),
        wanted,
        float(level),
        bool(prediction_corrected),
        label,
        tuple(n for n in notes if n),
        data.units,
    )


def _correction(
    simulations: Simulations, mine: np.ndarray, at: np.ndarray, how: bool | str, line: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Factor and shift of every value, NaN where there is none, and what is said of it."""
    own, middle = simulations.typical[mine], np.empty(mine.size)
    for j in np.unique(at):
        solved = own[(at == j) & np.isfinite(own)]
        middle[at == j] = np.median(solved) if solved.size else np.nan
    negative = bool(np.any(own < 0))
    if how == "difference" or (how is True and negative):
        told = [
            f"{line} has predictions below 0, which have no ratios: they are taken off by their "
            "difference, as of logarithms."
        ] * (how is True)
        shift = middle - own
        if lost := int(np.sum(np.isnan(shift))):
            told.append(
                f"{lost} values of {line} are left out of the prediction-corrected check: the "
                "typical patient could not be solved there."
            )
        return np.ones(mine.size), shift, " ".join(told)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(own == middle, 1.0, middle / own)
    factor = np.where(np.isfinite(factor) & (factor > 0), factor, np.nan)
    dropped = int(np.sum(np.isnan(factor)))
    told = (
        f"{dropped} values of {line} are left out of the prediction-corrected "
        "check: the typical patient's prediction is 0 there, or could not be solved."
    )
    return factor, np.zeros(mine.size), told if dropped else ""


def _panel(
    simulations: Simulations,
    mine: np.ndarray,
    x: np.ndarray,
    at: np.ndarray,
    corrected: tuple[np.ndarray, np.ndarray],
    quantiles: tuple[float, ...],
    level: float,
) -> VPCPanel:
    factor, shift = corrected
    observed = simulations.observed[mine] * factor + shift
    replicates = simulations.censored[:, mine] * factor + shift
    limit = simulations.lower[mine]
    n_bins = int(at.max()) + 1
    shape = (len(quantiles), n_bins)
    out = {name: np.full(shape, np.nan) for name in ("observed", "lower", "middle", "upper")}
    below = np.full((4, n_bins), np.nan)
    tails = (0.5 * (1 - level), 0.5, 0.5 * (1 + level))
    centre, count = np.full(n_bins, np.nan), np.zeros(n_bins, dtype=int)
    for j in range(n_bins):
        here = at == j
        count[j] = here.sum()
        if not count[j]:
            continue
        centre[j] = np.median(x[here])
        each = np.stack([percentile(replicates[:, here], q) for q in quantiles])
        for name, tail in zip(("lower", "middle", "upper"), tails, strict=True):
            out[name][:, j] = percentile(each, tail)
        out["observed"][:, j] = [percentile(observed[here], q) for q in quantiles]
        if np.any(np.isfinite(limit[here])):
            drawn = simulations.censored[:, mine[here]]
            solved = np.where(np.isnan(drawn), np.nan, drawn == -np.inf)
            below[0, j] = np.mean(simulations.observed[mine[here]] == -np.inf)
            below[1:, j] = [percentile(mean_known(solved), tail) for tail in tails]
    shown = np.where(np.isposinf(observed), simulations.upper[mine], limit)
    return VPCPanel(
        line="",
        stratum="",
        x=x,
        y=observed,
        limit=np.where(np.isfinite(shown), shown * factor + shift, shown),
        edges=np.zeros(0),
        centre=centre,
        count=count,
        below=below if np.any(np.isfinite(below)) else None,
        **out,
    )


def mean_known(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis, NaN left out; NaN where there is nothing else."""
    count = np.sum(~np.isnan(values), axis=-1)
    return np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan)


def percentile(values: np.ndarray, q: float) -> np.ndarray:
    """Percentile along the last axis, NaN left out, where some values are -inf or inf.

    Linear between neighbours; between -inf and a number it is -inf, as it is among the values
    below the limit, and in the same way inf above it.
    """
    order = np.sort(np.asarray(values, dtype=float), axis=-1)  # NaN come last
    count = np.sum(~np.isnan(order), axis=-1)
    at = q * np.maximum(count - 1, 0)
    low = np.floor(at).astype(int)[..., None]
    high = np.ceil(at).astype(int)[..., None]
    first = np.take_along_axis(order, low, -1)[..., 0]
    last = np.take_along_axis(order, high, -1)[..., 0]
    part = at - low[..., 0]
    with np.errstate(invalid="ignore"):
        between = first + part * (last - first)
    out = np.where(np.isinf(first) | (part == 0), first, np.where(np.isinf(last), last, between))
    return np.where(count > 0, out, np.nan)
