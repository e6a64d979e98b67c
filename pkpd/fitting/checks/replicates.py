"""Replicates of a data set, simulated from a fit, and what its measurements were compared with.

Predictive checks, prediction discrepancies and count checks look at the same replicates, so that
one simulation serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pkpd.arguments import NONE, NUMBER, Kind, check_arguments
from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED, Dataset
from pkpd.data.expand import expand
from pkpd.errors import PkpdError
from pkpd.fitting.draws import Draws, Fitted, single_draw

_ONE = NUMBER | NONE
_LIMITS = Kind(
    "a number, or numbers by line",
    lambda v: all(map(_ONE.holds, v.values() if isinstance(v, Mapping) else [v])),
)


@dataclass(frozen=True, eq=False)
class Simulations:
    """``K`` replicates of a data set with ``M`` observations.

    Attributes
    ----------
    draws
        What they were simulated from.
    values
        Replicates before any limit of quantification, ``[K, M]``; NaN where a model could not be
        solved.
    lower, upper
        Limits of quantification of every observation, ``[M]``: -inf and inf where there is none.
    """

    draws: Draws
    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def __repr__(self) -> str:
        """Tell how many of what."""
        k, m = self.values.shape
        return f"Simulations({k} replicates of {m} observations)"

    @property
    def dataset(self) -> Dataset:
        """The data."""
        return self.draws.likelihood.dataset

    @property
    def failed(self) -> int:
        """Replicates in which a subject could not be solved."""
        return int(np.sum(np.any(np.isnan(self.values), axis=1)))

    @cached_property
    def censored(self) -> np.ndarray:
        """Replicates with -inf below and inf above the limits, ``[K, M]``."""
        return limited(self.values, self.lower, self.upper)

    @cached_property
    def observed(self) -> np.ndarray:
        """The measurements, -inf where below and inf where above the limit, ``[M]``.

        A measured value below a limit that is given (``lloq``) counts as below it, too.
        """
        seen = self.dataset.observations
        known = seen.censored == NOT_CENSORED
        return np.select(
            [seen.censored == BELOW, seen.censored == ABOVE],
            [-np.inf, np.inf],
            np.where(known & (seen.value < self.lower), -np.inf, seen.value),
        )

    @cached_property
    def typical(self) -> np.ndarray:
        """Predictions of the typical patient at the mean fixed effects (PRED), ``[M]``."""
        fixed, random = self.draws.means
        predict: Any = self.draws.likelihood.predictions
        return np.asarray(predict(fixed, np.zeros_like(random)))


def limited(values: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Replace values below the lower limit by -inf, above the upper one by inf; NaN stays."""
    out = np.where(values < lower, -np.inf, values)
    return np.where(values > upper, np.inf, out)


def simulate_replicates(
    draws: Fitted,
    n: int = 500,
    *,
    seed: int = 1,
    lloq: float | Mapping[str, float] | None = None,
    new_patients: bool = True,
) -> Simulations:
    """Simulate a data set ``n`` times from a fit.

    Parameters
    ----------
    draws
        A fit, or its draws: those of a posterior are spread over the replicates (thinned or
        repeated), the one of maximum likelihood serves all.
    n
        Replicates.
    seed
        Seed.
    lloq
        Limit of quantification where the data name none for a measured value, one or by line; see
        `limits`.
    new_patients
        Draw new random effects, as checks of the population need, or keep those of the patients.

    Raises
    ------
    PkpdError
        If ``n`` is below 20.
    """
    if n < 20:
        raise PkpdError(where="simulate_replicates", what=f"{n} replicates", allowed="20 or more")
    draws = draws_of(draws)
    chosen = spread(draws, n)
    # draws of a wide prior may overflow; what is not finite is counted as not solved
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.stack(list(chosen.replicates(seed, new_patients=new_patients)))
    values[~np.isfinite(values)] = np.nan
    return Simulations(draws, values, *limits(draws.likelihood.dataset, lloq))


def draws_of(fit: Fitted) -> Draws:
    """Return the draws of a fit by any method; `Draws` as they are.

    Raises
    ------
    PkpdError
        If it is no fit.
    """
    own = fit if isinstance(fit, Draws) else getattr(fit, "draws", None)
    if isinstance(own, Draws):
        return own
    estimates, random = getattr(fit, "estimates", None), getattr(fit, "random", None)
    if estimates is not None and random is not None:
        return single_draw(fit.likelihood, estimates, random)
    raise PkpdError(
        where="checks of a fit",
        what=f"{type(fit).__name__} is no fit",
        allowed="the result of pkpd.fit, or Draws",
    )


def spread(draws: Draws, n: int) -> Draws:
    """Return exactly ``n`` draws: evenly thinned, or repeated as often as needed."""
    if n <= len(draws):
        return draws.thinned(n)
    take = np.arange(n) % len(draws)
    return Draws(
        draws.likelihood,
        {name: np.asarray(value)[take] for name, value in draws.population.items()},
        draws.random[take],
    )


def limits(
    dataset: Dataset, lloq: float | Mapping[str, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of quantification of every observation.

    A censored value carries its own limit. A measured one has none in the data: it gets ``lloq``,
    else, of the limits of the same line that do not exceed the measurement, that of the same
    subject's censored value nearest in time, else the largest of all subjects.

    Returns
    -------
    float[M], float[M]
        Lower limits (-inf where there is none) and upper limits (inf).
    """
    seen = dataset.observations
    check_arguments("limit of quantification", lloq=(lloq, _LIMITS))
    if isinstance(lloq, Mapping):
        for name in lloq:
            if name not in dataset.lines:
                raise PkpdError(
                    where=f"lloq of {name!r}",
                    what="the data have no such line",
                    allowed=", ".join(dataset.lines),
                )
    lower = np.full(len(seen), -np.inf)
    upper = np.full(len(seen), np.inf)
    for i, name in enumerate(dataset.lines):
        given = lloq.get(name) if isinstance(lloq, Mapping) else lloq
        mine = seen.line == i
        for out, code, sign in ((lower, BELOW, 1.0), (upper, ABOVE, -1.0)):
            known = mine & (seen.censored == code)
            out[known] = seen.value[known]
            if code == BELOW and given is not None:
                out[mine & ~known] = given
                continue
            for m in np.flatnonzero(mine & ~known):
                fits = known & (sign * seen.value <= sign * seen.value[m])
                own = np.flatnonzero(fits & (seen.subject == seen.subject[m]))
                if own.size:  # the largest would be chosen by what was measured
                    out[m] = seen.value[own[np.argmin(np.abs(seen.time[own] - seen.time[m]))]]
                elif fits.any():
                    out[m] = sign * np.max(sign * seen.value[fits])
    return lower, upper


def dose_times(dataset: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Hours of the doses of each subject, additional and steady-state ones included, and records.

    The record of a dose is that which ordered it.
    """
    events, out = dataset.events, []
    doses = expand(events)
    for b in range(len(dataset.subjects)):
        valid = doses.valid[b]
        record = doses.record[b][valid]
        when = events.time[b, record] + doses.shift[b][valid]
        steady = doses.ss_record[b][doses.ss_valid[b]]
        when = np.concatenate([when, events.time[b, steady]])
        out.append((when, np.concatenate([record, steady])))
    return out


def time_after_dose(dataset: Dataset) -> np.ndarray:
    """Hours since the last dose before each observation, additional doses included, ``[M]``.

    Only doses since the last reset count. Observations before the first of them get the (negative)
    time to it; those of a period without doses the time itself.
    """
    seen, period = dataset.observations, dataset.events.period
    out = np.array(seen.time, dtype=float)
    for b, (when, record) in enumerate(dose_times(dataset)):
        for m in np.flatnonzero(seen.subject == b):
            at = int(seen.record[m])
            mine = period[b, record] == period[b, at]
            past = mine & (when <= seen.time[m]) & (record < at)
            if mine.any():
                out[m] = seen.time[m] - (when[past].max() if past.any() else when[mine].min())
    return out


def strata(dataset: Dataset, by: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Group of every observation and the names of the groups.

    Parameters
    ----------
    dataset
        The data.
    by
        ``None``, ``"occasion"``, or a covariate: one with at most five values gives a group for
        each, named as in the source, and so does one in words; another is split at its median over
        subjects.
    """
    seen = dataset.observations
    if by is None:
        return np.zeros(len(seen), dtype=int), ("",)
    place = (seen.subject, seen.record)
    if by == "occasion":
        if dataset.occasion is None:
            raise PkpdError(
                where=f"{dataset.events.source}, stratify='occasion'",
                what="the data have no occasions",
                remedy="give a column OCC",
            )
        group = dataset.occasion[place].astype(int)
        levels, index = np.unique(group, return_inverse=True)
        return index, tuple(f"occasion {v + 1}" for v in levels)
    if by not in dataset.covariates:
        raise PkpdError(
            where=f"{dataset.events.source}, stratify={by!r}",
            what="is not a covariate of the data",
            allowed=", ".join(("occasion", *dataset.covariates)),
            remedy=f'read it with covariates=["{by}"]',
        )
    values = dataset.covariates[by][place]
    levels, index = np.unique(values, return_inverse=True)
    if len(levels) <= 5 or by in dataset.words:  # words have no order to be split by
        return index, tuple(f"{by} {dataset.word(by, v)}" for v in levels)
    middle = float(np.median(dataset.covariates[by][:, 0]))
    return (values > middle).astype(int), (f"{by} ≤ {middle:g}", f"{by} > {middle:g}")


def finite_words(simulations: Simulations) -> str | None:
    """Sentence on replicates that could not be solved; ``None`` if all were."""
    if not simulations.failed:
        return None
    return (
        f"{simulations.failed} of {len(simulations.values)} replicates had a subject that could "
        "not be solved; that subject is left out of those replicates."
    )


def chosen(dataset: Dataset, x: str | ArrayLike) -> tuple[np.ndarray, str]:
    """Horizontal axis of a check: values ``[M]`` and a label.

    Parameters
    ----------
    dataset
        The data.
    x
        ``"time"``, ``"time_after_dose"``, or one number for each observation.
    """
    seen = dataset.observations
    if isinstance(x, str):
        if x == "time":
            return np.asarray(seen.time, dtype=float), "time"
        if x == "time_after_dose":
            return time_after_dose(dataset), "time after dose"
        raise PkpdError(
            where=f"x={x!r}", what="is no axis", allowed="time, time_after_dose, values"
        )
    values = np.asarray(x, dtype=float)
    if values.shape != (len(seen),):
        raise PkpdError(
            where="x",
            what=f"has shape {values.shape} for {len(seen)} observations",
            remedy="give one number for each observation",
        )
    return values, ""
