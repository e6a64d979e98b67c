"""Forecasts along a long series of counts: what the next visits will show, visit by visit.

`forecast_series` takes a population model with its numbers and patients with many counts. From each
count on it forecasts later ones from those seen so far, with the residual error as it was fitted:
processes in time, Student's t, a noise of the patient's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import norm
from scipy.stats import t as student

from pkpd.arrays import Floats
from pkpd.data.dataset import BELOW, NOT_CENSORED, Dataset
from pkpd.distributions import stream
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.forecasting.series_bank import Known, Members, Patient, Visits
from pkpd.forecasting.weighing import FEWEST
from pkpd.predict.structure import carries_forward

if TYPE_CHECKING:
    from pkpd.fitting.maximum.result import MaximumLikelihood
    from pkpd.fitting.sampled import Fit

SeriesEngine = Literal["auto", "importance", "map"]

LEVELS = tuple(np.round((np.arange(100) + 0.5) / 100, 3).tolist())
"""Quantile levels of a forecast: the middles of a hundred parts."""

_A_DAY = 24.0
_DRAWS = 200  # of the parameters of the population from a posterior
_RENEWALS = 4  # of a bank at one count
_MIXED, _EACH = 400, 25  # members and quantiles of each that a forecast is mixed from


@dataclass(frozen=True)
class Horizon:
    """Which later count, or time, a forecast is for.

    Attributes
    ----------
    name
        What the table calls it.
    days
        Days ahead; ``None`` for the next count.
    window
        Fewest and most days ahead at which a count is taken; ``None``: no count is looked for, the
        forecast is for exactly ``days`` ahead.

    Examples
    --------
    >>> Horizon("4 weeks", 28, (24, 32)).target([0, 240, 648], 0)
    648.0
    """

    name: str
    days: float | None = None
    window: tuple[float, float] | None = (0.0, np.inf)

    def target(self, time_h: Floats | Sequence[float], origin: int) -> float | None:
        """Hours of the target of a forecast from a count; ``None`` if there is none."""
        time_h = np.asarray(time_h, dtype=np.float64)
        begin = float(time_h[origin])
        if self.window is None:
            assert self.days is not None
            return begin + self.days * _A_DAY
        later = time_h[origin + 1 :] if self.days is not None else time_h[origin + 1 : origin + 2]
        gap = (later - begin) / _A_DAY
        fits = (gap >= self.window[0]) & (gap <= self.window[1])
        if not fits.any():
            return None
        if self.days is None:
            return float(later[0])
        far = np.where(fits, np.abs(gap - self.days), np.inf)
        return float(later[int(np.argmin(far))])


NEXT = Horizon("next")
"""The next count, whenever it was taken."""


def forecast_series(
    source: Fit | MaximumLikelihood | PopulationModel,
    data: Dataset,
    horizons: Sequence[Horizon] = (NEXT,),
    *,
    first: int = 5,
    origins: Literal["all", "last"] = "all",
    engine: SeriesEngine = "auto",
    bank: int = 2000,
    levels: Sequence[float] = LEVELS,
    seed: int = 1,
) -> pd.DataFrame:
    """Forecast later counts of patients from each of their counts on.

    Parameters
    ----------
    source
        A fit (a posterior is thinned to 200 draws of the population's parameters), or a population
        model whose values are taken as known.
    data
        Patients with counts of one line. Doses are those of the data, also after a forecast is
        made: what is planned stands for what will be given.
    horizons
        What is forecast.
    first
        Counts that a patient must have before the first forecast.
    origins
        Forecasts from all counts on, or from each patient's last one alone.
    engine
        ``"auto"``: a bank weighed count by count and made anew where weights are uneven (Pareto k
        above 0.7, or fewer than a hundred members that count); ``"importance"``: never made anew;
        ``"map"``: the most probable member alone, to compare with.
    bank
        Members.
    levels
        Levels of the quantiles.
    seed
        Of all random numbers.

    Returns
    -------
    DataFrame
        A row for each forecast: ``ID``, ``ORIGIN`` and ``TIME`` in days, ``horizon``, ``counts``
        seen, ``observed`` (NaN if it is not known), ``censored`` (1: below it, -1: above it),
        ``logdens``: log density of the observed value on the scale of the residual error (of the
        logarithm for a log-normal one), of a censored one the log probability, ``pareto_k`` and
        ``effective`` of the weights, ``median``, and quantiles ``q0.05`` and so on in the unit of
        the data.

    Raises
    ------
    PkpdError
        If the data have several lines, no patient has enough counts, or an argument has no meaning.

    Examples
    --------
    >>> forecast_series(fit, data, [NEXT, Horizon("4 weeks", 28, (24, 32))])  # doctest: +SKIP
    """
    _check(data, horizons, first, engine, origins)
    model, known = _known(source)
    if not isinstance(source, PopulationModel):
        data = data.numbered_as(source.likelihood.dataset)
    seen = data.observations
    longest = int(np.bincount(seen.subject).max())
    size = -(-longest // 10) * 10
    rows: list[dict[str, Any]] = []
    for b, label in enumerate(data.subjects):
        mine = np.flatnonzero(seen.subject == b)
        mine = mine[np.argsort(seen.time[mine], kind="stable")]
        if len(mine) < first:
            continue
        rng = stream(seed, f"series:{label}")
        one = _Course(model, known, data, label, mine, horizons, size)
        rows += one.forecasts(first, origins, engine, bank, levels, rng)
    if not rows:
        raise PkpdError(
            where="forecast_series",
            what=f"no patient has {first} counts and a later one within a horizon",
            remedy="give a smaller first=, or other horizons",
        )
    return pd.DataFrame(rows)


def _check(
    data: Dataset, horizons: Sequence[Horizon], first: int, engine: str, origins: str
) -> None:
    problem = None
    if not isinstance(data, Dataset):
        problem = ("data", f"a {type(data).__name__}", "a pkpd.data.Dataset")
    elif len(np.unique(data.observations.line)) != 1:
        names = ", ".join(data.lines) or "none"
        problem = ("data", f"counts of {names}", "counts of one line")
    elif engine not in ("auto", "importance", "map"):
        problem = ("engine", repr(engine), "auto, importance, map")
    elif origins not in ("all", "last"):
        problem = ("origins", repr(origins), "all, last")
    elif first < 1:
        problem = ("first", repr(first), "1 or more")
    elif not horizons or any(h.days is None and h.window is None for h in horizons):
        problem = ("horizons", "a horizon without days and window", "days ahead, or a window")
    if problem:
        where, what, allowed = problem
        raise PkpdError(where=f"forecast_series, {where}", what=what, allowed=allowed)


def _known(source: Fit | MaximumLikelihood | PopulationModel) -> tuple[PopulationModel, _Numbers]:
    """Return the model and what is known of its parameters, by name ``[D]``."""
    if isinstance(source, PopulationModel):
        values = start_values(source)
        return source, {name: np.array([value]) for name, value in values.items()}
    fit: Any = source
    if hasattr(fit, "draws"):
        draws = fit.draws.thinned(_DRAWS)
        return fit.model, {name: np.asarray(v) for name, v in draws.population.items()}
    values = start_values(fit.model) | dict(fit.estimates)
    return fit.model, {name: np.array([value]) for name, value in values.items()}


_Numbers = Mapping[str, Floats]


class _Course:
    """A patient's counts, what is to be forecast, and banks along them."""

    def __init__(
        self,
        model: PopulationModel,
        numbers: _Numbers,
        data: Dataset,
        label: Any,
        mine: NDArray[np.int64],
        horizons: Sequence[Horizon],
        size: int,
    ) -> None:
        seen = data.observations
        self.label, self.horizons = label, horizons
        self.time_h = seen.time[mine]
        self.value, self.censored = seen.value[mine], seen.censored[mine]
        found = targets_of(self.time_h, horizons)
        self.targets = found
        every: Any = np.unique([*self.time_h, *(t for _, _, t in found)])
        child = data.subset([label])
        line = data.lines[int(seen.line[mine[0]])]
        carry = "forward" if carries_forward(model.structure) else "backward"
        asked = child.at_times({label: every}, [line], carry)
        self.likelihood = bind(model, asked, estimated=False)
        self.at = {float(t): i for i, t in enumerate(every)}
        cholesky = self.likelihood.random_effects.cholesky
        draws = len(next(iter(numbers.values())))
        each = [{name: v[d] for name, v in numbers.items()} for d in range(draws)]
        names = self.likelihood.fixed_names
        known = Known(
            np.stack([numbers[name] for name in names], axis=1),
            np.stack([np.asarray(cholesky(one, np)) for one in each]),
        )
        ((_, self.error, _),) = self.likelihood._lines
        lower = np.where(seen.lower[mine] > 0, seen.lower[mine], -np.inf)  # no count is below 0
        scaled = np.log(self.value) if self.error.logarithmic else self.value
        self.scaled = scaled
        visits = Visits(self.time_h, scaled, self.censored, lower, size)
        places = np.array([self.at[float(t)] for t in self.time_h])
        self.patient = Patient(self.likelihood, known, places, visits)

    def forecasts(
        self,
        first: int,
        origins: str,
        engine: SeriesEngine,
        size: int,
        levels: Sequence[float],
        rng: np.random.Generator,
    ) -> list[dict[str, Any]]:
        """Rows of the table."""
        members = self.patient.drawn(size, rng)
        rows = []
        begin = first - 1 if origins == "all" else len(self.time_h) - 1
        for k in range(begin, len(self.time_h)):
            wanted = [(horizon, target) for o, horizon, target in self.targets if o == k]
            if not wanted:
                continue
            members, weights, khat = self._weighed(members, k, engine, rng)
            effective = 1.0 / float(np.sum(weights**2))
            if engine == "map":
                weights = self._plugged(members, k)
            for horizon, target in wanted:
                row = self._row(members, weights, k, target, levels)
                head = {"ID": self.label, "ORIGIN": self.time_h[k] / _A_DAY}
                head |= {"TIME": target / _A_DAY, "horizon": horizon.name, "counts": k + 1}
                rows.append({**head, **row, "pareto_k": khat, "effective": effective})
        return rows

    def _weighed(
        self, members: Members, k: int, engine: str, rng: np.random.Generator
    ) -> tuple[Members, Floats, float]:
        """Members that explain the counts up to one, their weights, and Pareto k."""
        best = found = (members, *smoothed_weights(members.log_weights[k + 1]))
        if np.isnan(found[1]).any():
            raise PkpdError(
                where=f"forecast_series, patient {self.label}",
                what="no member of the bank has predictions at all of its times",
                remedy="take nearer horizons, or look at the model's predictions there",
            )
        for _ in range(0 if engine == "importance" else _RENEWALS):
            if _badness(found) <= (False, 1.0 / FEWEST) or np.isnan(found[1]).any():
                break
            members = self.patient.renewed(found[0], found[1], rng)
            found = (members, *smoothed_weights(members.log_weights[k + 1]))
            best = min(best, found, key=_badness)
        return best

    def _plugged(self, members: Members, k: int) -> Floats:
        """All weight on the most probable member."""
        likelihood = np.sum(members.log_density[: k + 1], axis=0)
        density = likelihood - 0.5 * np.sum(members.scores**2, axis=1)
        weights = np.zeros(len(density))
        weights[int(np.argmax(np.where(np.isfinite(members.offset), density, -np.inf)))] = 1.0
        return weights

    def _row(
        self, members: Members, weights: Floats, k: int, target: float, levels: Sequence[float]
    ) -> dict[str, Any]:
        """Forecast of the value at a time from the k-th count on."""
        hours = target - float(self.time_h[k])
        location, scale, nu = _predictive(members, k, self.at[target], hours)
        later = count_at(self.time_h, k, target)
        known = np.nan if later is None else float(self.scaled[later])
        code = NOT_CENSORED if later is None else int(self.censored[later])
        return row_of(weights, location, scale, nu, known, code, levels, self.error.logarithmic)


def _badness(found: tuple[Members, Floats, float]) -> tuple[bool, float]:
    """Order banks: those of a Pareto k within the limit first, then by members that count."""
    _, weights, khat = found
    return khat > LIMIT, float(np.sum(weights**2))


def targets_of(time_h: Floats, horizons: Sequence[Horizon]) -> list[tuple[int, Horizon, float]]:
    """Place of the last count seen, horizon and hours of every forecast of a patient."""
    return [
        (k, horizon, target)
        for k in range(len(time_h))
        for horizon in horizons
        if (target := horizon.target(time_h, k)) is not None
    ]


def count_at(time_h: Floats, k: int, target: float) -> int | None:
    """Place of the first count of a time after the k-th count, which may be of the same time."""
    later = np.flatnonzero(time_h[k + 1 :] == target)
    return k + 1 + int(later[0]) if later.size else None


def row_of(
    weights: Floats,
    location: Floats,
    scale: Floats,
    nu: Floats | None,
    known: float,
    censored: int,
    levels: Sequence[float],
    logarithmic: bool,
) -> dict[str, Any]:
    """Columns of a forecast that is a mixture of normal or Student t distributions.

    Parameters
    ----------
    weights, location, scale, nu : float[N]
        The mixture, on the scale of the residual error.
    known
        What was measured, on that scale; NaN if it is not known.
    censored
        Whether that is a limit, as in `pkpd.data.dataset.Observations`.
    levels
        Of the quantiles.
    logarithmic
        Whether the scale is that of the logarithm.
    """
    logdens = np.nan
    if np.isfinite(known):
        z = (known - location) / scale
        if censored == NOT_CENSORED:
            each = log_density(z, nu) - np.log(scale)
        else:  # both distributions are symmetrical
            z = z if censored == BELOW else -z
            each = norm.logcdf(z) if nu is None else student.logcdf(z, nu)
        with np.errstate(divide="ignore"):
            logdens = float(np.asarray(logsumexp(each + np.log(weights))))
    found = _mixed(weights, location, scale, nu, [*levels, 0.5])
    if logarithmic:
        found, known = np.exp(found), np.exp(known)
    row = {"observed": known, "censored": censored, "logdens": logdens, "median": found[-1]}
    return row | {f"q{level:g}": value for level, value in zip(levels, found, strict=False)}


def _predictive(
    members: Members, k: int, place: int, hours: float
) -> tuple[Floats, Floats, Floats | None]:
    """Location, scale and degrees of freedom of each member, on the scale of the error."""
    spread, n = members.spread, len(members.draw)
    white = np.broadcast_to(np.asarray(spread.white)[place], (n,))
    location, variance = members.centre[place].copy(), (spread.scale * white) ** 2
    mean, covariance = members.mean[k], members.covariance[k]
    left = [np.exp(-hours / tau) for tau in spread.tau_h]
    for i, (sd, keep) in enumerate(zip(spread.sd, left, strict=True)):
        location += keep * mean[:, i]
        variance = variance + (1.0 - keep**2) * (spread.scale * sd) ** 2
        for j, other in enumerate(left):
            variance = variance + keep * other * covariance[:, i, j]
    nu = None if spread.nu is None else np.broadcast_to(spread.nu, (n,))
    return location, np.sqrt(variance), nu


def log_density(z: Floats, nu: Floats | None) -> Floats:
    """Log density of standardised values: normal, or Student's t."""
    if nu is None:
        return -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    constant = gammaln(0.5 * (nu + 1)) - gammaln(0.5 * nu) - 0.5 * np.log(nu * np.pi)
    return constant - 0.5 * (nu + 1) * np.log1p(z**2 / nu)


@lru_cache(maxsize=64)
def _inner(nu: float | None) -> Floats:
    """Levels ``[400, 25]`` that together are even, and fill each row; or quantiles at them."""
    shift = np.random.default_rng(0).permutation(_MIXED)
    levels = (np.arange(_EACH) + (shift[:, None] + 0.5) / _MIXED) / _EACH
    if nu is None:
        return levels
    return norm.ppf(levels) if np.isinf(nu) else student.ppf(levels, nu)


def _mixed(
    weights: Floats, location: Floats, scale: Floats, nu: Floats | None, levels: Sequence[float]
) -> Floats:
    """Quantiles of the mixture over members: a few hundred of them, evenly by weight."""
    at = (np.arange(_MIXED) + 0.5) / _MIXED
    order = np.argsort(location, kind="stable")
    cumulative = np.cumsum(weights[order])
    pick = order[np.minimum(np.searchsorted(cumulative, at * cumulative[-1]), len(order) - 1)]
    if nu is None:
        z = _inner(np.inf)
    elif np.ptp(nu) == 0:
        z = _inner(float(nu[0]))
    else:
        z = student.ppf(_inner(None), nu[pick][:, None])
    points = np.sort((location[pick][:, None] + scale[pick][:, None] * z).ravel())
    middles = (np.arange(points.size) + 0.5) / points.size
    return np.interp(levels, middles, points)
