"""Sampling importance resampling: what the likelihood says of estimates, without a search.

Parameters are drawn from a normal proposal on the scales of the search, at first that of the
standard errors, and each draw is weighted by its likelihood over the density of the proposal
(Rubin 1988; for population models Dosne et al. 2016, J Pharmacokinet Pharmacodyn 43:583-96). In
each further round the proposal has mean and covariance of the weighted draws of the round before
(Dosne et al. 2017, J Pharmacokinet Pharmacodyn 44:509-20). Weighted draws stand for the posterior
under a prior that is flat on the scales of the search: for a linear model with normal errors their
intervals are the exact ones of Student's t.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pkpd.arguments import NUMBER, SHARE, a, check_arguments, from_to
from pkpd.arrays import FloatArray
from pkpd.distributions import stream
from pkpd.errors import PkpdError
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.uncertainty.refit import Refit

if TYPE_CHECKING:
    import pandas as pd


_FEW = 100.0  # effective draws below which limits of 95 % are noise
_HEAVY = 0.05  # largest weight of a draw that is not told
_LOWER = 0.01  # fall of the objective below that of the fit which is told
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, eq=False)
class Resampled:
    """Draws of the parameters, weighted by the likelihood and drawn again.

    Attributes
    ----------
    fit
        The fit.
    samples : DataFrame
        Draws of the last round: the estimated parameters, ``difference`` of the objective from
        that of the fit, and ``weight``; draws outside of what a parameter can be, or without a
        likelihood, weigh nothing and have no difference.
    resamples : DataFrame
        Parameters and ``difference`` of draws taken from these with their weights.
    effective
        Draws of the last round that count, ``1 / sum(weight^2)``.
    rounds : DataFrame
        By round: ``draws``, those ``outside`` and ``failed``, ``effective``, the largest
        ``weight``, and ``degrees``.
    seconds
        What it took.
    messages
        Sentences on what deserves attention.
    """

    fit: MaximumLikelihood
    samples: pd.DataFrame
    resamples: pd.DataFrame
    effective: float
    rounds: pd.DataFrame
    seconds: float
    messages: tuple[str, ...]

    @property
    def degrees(self) -> float:
        """Weighted mean of the difference of the objective.

        The number of parameters, if the estimates are about normal on some scale.
        """
        return float(self.rounds["degrees"].iloc[-1])

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Percentile intervals beside the standard errors, one row for each estimated parameter.

        Parameters
        ----------
        level
            Of both intervals.

        Returns
        -------
        DataFrame
            ``estimate``, ``standard_error``, ``lower`` and ``upper`` of the fit (from its
            standard errors); ``median``, ``sir_error`` (standard deviation), ``sir_lower`` and
            ``sir_upper`` of the resamples.
        """
        check_arguments("Resampled.table", level=(level, SHARE))
        names = list(self.fit.names)
        own = self.fit.table(level).loc[names, ["estimate", "standard_error", "lower", "upper"]]
        own["median"] = self.resamples[names].median()
        own["sir_error"] = self.resamples[names].std(ddof=1)
        own["sir_lower"] = self.resamples[names].quantile(0.5 * (1.0 - level))
        own["sir_upper"] = self.resamples[names].quantile(0.5 * (1.0 + level))
        return own

    def differences(self) -> pd.DataFrame:
        """Quantiles of the difference of the objective beside those of chi-square.

        Columns: ``proposal``, the draws of the last round as they are; ``resampled``; and
        ``chi_square`` with as many degrees of freedom as there are parameters.
        """
        import pandas as pd
        from scipy.stats import chi2

        drawn, again = self.samples["difference"].dropna(), self.resamples["difference"]
        return pd.DataFrame(
            {
                "proposal": [drawn.quantile(q) for q in _QUANTILES],
                "resampled": [again.quantile(q) for q in _QUANTILES],
                "chi_square": chi2.ppf(_QUANTILES, len(self.fit.names)),
            },
            index=pd.Index(_QUANTILES, name="quantile"),
        )

    def summary(self) -> str:
        """Tell the intervals in text."""
        lines = [
            f"Sampling importance resampling: {len(self.samples)} draws in round "
            f"{len(self.rounds)}, {self.effective:.0f} count; {len(self.resamples)} drawn again; "
            f"{self.seconds:.0f} s",
            *self.table().to_string(float_format="{:.4g}".format).splitlines(),
            f"The objective lies {self.degrees:.2f} above that of the fit in the mean; chi-square "
            f"says {len(self.fit.names)}",
            *self.differences().to_string(float_format="{:.3g}".format).splitlines(),
        ]
        return "\n".join([*lines, *(f"- {text}" for text in self.messages)])

    __repr__ = summary


@dataclass(frozen=True, eq=False)
class _Round:
    """Draws of a round: ``x [M, P]``, differences ``[M]`` (NaN without one), weights ``[M]``."""

    x: FloatArray
    difference: FloatArray
    weight: FloatArray
    outside: int

    @property
    def effective(self) -> float:
        return float(1.0 / np.sum(self.weight**2))

    @property
    def degrees(self) -> float:
        mine = self.weight > 0
        return float(self.weight[mine] @ self.difference[mine])

    @property
    def failed(self) -> int:
        return int(np.isnan(self.difference).sum()) - self.outside


def resample(
    fit: MaximumLikelihood,
    samples: int = 1000,
    *,
    rounds: int = 3,
    resamples: int = 1000,
    inflation: float = 1.0,
    seed: int = 1,
) -> Resampled:
    """Weight draws from the standard errors of a fit by their likelihood, and draw from these.

    Parameters
    ----------
    fit
        Maximum-likelihood fit with standard errors.
    samples
        Draws in each round: evaluations of the objective, no searches.
    rounds
        Rounds; each after the first takes its proposal from the one before.
    resamples
        Draws from the weighted ones of the last round, with replacement.
    inflation
        Factor of the covariance of the first proposal; above 1 where the standard errors may be
        too small, since what the proposal leaves out has no draws to weigh.
    seed
        Seed.

    Returns
    -------
    Resampled

    Raises
    ------
    PkpdError
        If a parameter has no standard error, or hardly a draw counts.

    Examples
    --------
    >>> from pkpd.checks import resample
    >>> resample(fit, 500).table()  # doctest: +SKIP
    """
    check_arguments(
        "resample",
        fit=(fit, a(MaximumLikelihood)),
        samples=(samples, from_to(20)),
        rounds=(rounds, from_to(1)),
        resamples=(resamples, from_to(20)),
        inflation=(inflation, NUMBER),
        seed=(seed, from_to(0)),
    )
    if not 0 < inflation < np.inf:
        raise PkpdError(where="resample, inflation", what=f"{inflation:g}", allowed="above 0")
    covariance = np.asarray(fit.covariance_x, dtype=float)
    unknown = ~np.isfinite(np.diag(covariance))
    if unknown.any():
        named = ", ".join(n for n, gone in zip(fit.names, unknown, strict=True) if gone)
        raise PkpdError(
            where="resample",
            what=f"{named} has no standard error" if unknown.sum() == 1 else
            f"{named} have no standard errors",
            remedy="hold what the data do not tell, or use pkpd.checks.bootstrap",
        )  # fmt: skip
    began = time.perf_counter()
    refit = Refit.of(fit)
    if refit.marginal.free.at_edge(fit.x).any():
        at = refit.marginal.free.at_edge(fit.x)
        named = ", ".join(n for n, edge in zip(fit.names, at, strict=True) if edge)
        raise PkpdError(
            where="resample", what=f"the estimate of {named} lies at its bound, where no normal "
            "proposal stands for it", remedy="leave it out, or use profile_likelihood or bootstrap",
        )  # fmt: skip
    centre, spread = np.asarray(fit.x, dtype=float), inflation * covariance
    done: list[_Round] = []
    for k in range(rounds):
        one = _weighed(refit, fit.objective, centre, spread, samples, seed, k)
        done.append(one)
        if one.effective < len(fit.names) + 2:
            raise PkpdError(
                where="resample", what=f"{one.effective:.1f} of {samples} draws count in round "
                f"{k + 1}: the proposal is far from the likelihood",
                remedy="set inflation above 1, draw more samples, or use pkpd.checks.bootstrap",
            )  # fmt: skip
        centre = one.weight @ one.x
        apart = one.x - centre
        spread = (one.weight[:, None] * apart).T @ apart
    return _collected(fit, refit, done, resamples, seed, time.perf_counter() - began)


def _weighed(
    refit: Refit,
    objective: float,
    centre: FloatArray,
    spread: FloatArray,
    n: int,
    seed: int,
    k: int,
) -> _Round:
    """Draw from a normal proposal, and weigh by likelihood over density."""
    lower = np.linalg.cholesky(0.5 * (spread + spread.T))
    z = stream(seed, f"resample {k}").standard_normal((n, len(centre)))
    x = centre + z @ lower.T
    low, high = refit.marginal.free.bounds.T
    inside = np.all((x >= low) & (x <= high), axis=1)
    difference = np.full(n, np.nan)
    ones = np.ones(len(refit.random))
    for m in np.flatnonzero(inside):
        try:
            at = refit.marginal.evaluate(x[m], refit.begin)
        except PkpdError:  # no likelihood there
            continue
        value = refit.point(at, ones).value
        if np.isfinite(value):
            difference[m] = value - objective
    logs = np.where(np.isnan(difference), -np.inf, -0.5 * difference + 0.5 * np.sum(z**2, axis=1))
    if not np.isfinite(logs).any():
        what = "no draw of the standard errors has a likelihood"
        raise PkpdError(where="resample", what=what, remedy="use pkpd.checks.profile_likelihood")
    weight = np.exp(logs - logs.max())
    return _Round(x, difference, weight / weight.sum(), int((~inside).sum()))


def _collected(
    fit: MaximumLikelihood, refit: Refit, done: list[_Round], n: int, seed: int, seconds: float
) -> Resampled:
    import pandas as pd

    last = done[-1]
    free, names = refit.marginal.free, list(fit.names)
    values = [free.values(np.clip(row, *free.bounds.T)) for row in last.x]
    samples = pd.DataFrame([[one[name] for name in names] for one in values], columns=names)
    samples["difference"], samples["weight"] = last.difference, last.weight
    # systematic: a draw comes back as often as its weight says, to within one
    steps = (np.arange(n) + stream(seed, "resample again").random()) / n
    which = np.minimum(np.searchsorted(np.cumsum(last.weight), steps), len(samples) - 1)
    again = samples.loc[which, [*names, "difference"]].reset_index(drop=True)
    rounds = pd.DataFrame(
        {
            "draws": [len(one.x) for one in done],
            "outside": [one.outside for one in done],
            "failed": [one.failed for one in done],
            "effective": [one.effective for one in done],
            "weight": [float(one.weight.max()) for one in done],
            "degrees": [one.degrees for one in done],
        },
        index=pd.RangeIndex(1, len(done) + 1, name="round"),
    )
    messages = []
    if last.effective < _FEW:
        messages.append(
            f"Only {last.effective:.0f} draws count, too few for limits of 95 %: ask for more "
            "samples or rounds."
        )
    if last.weight.max() > _HEAVY:
        messages.append(
            f"One draw has {100 * last.weight.max():.0f} % of the weight: the proposal is too "
            "narrow for the likelihood; set inflation above 1."
        )
    if last.outside:
        messages.append(
            f"{last.outside} of {len(last.x)} draws lay outside of what the parameters can be and "
            "weigh nothing."
        )
    if last.failed:
        messages.append(f"{last.failed} of {len(last.x)} draws have no likelihood: they weigh 0.")
    lowest = float(np.nanmin(np.concatenate([one.difference for one in done])))
    if lowest < -_LOWER:
        messages.append(
            f"A draw has an objective {-lowest:.2f} below that of the fit, which is no minimum: "
            "start a fit from there."
        )
    return Resampled(fit, samples, again, last.effective, rounds, seconds, tuple(messages))
