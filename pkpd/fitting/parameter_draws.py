"""Draws of the population parameters of a fit by any method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import Floats
from pkpd.distributions import stream
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import draws_of, spread
from pkpd.fitting.draws import Draws, Fitted
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_parameters import start_values

_WIDEST = 1.0
"""Largest standard error, on the scale of the search (mostly a logarithm), that is drawn from: at 1
a parameter is known to a factor of seven either way. What is in units of its own has no such limit.
"""


@dataclass(frozen=True, eq=False)
class ParameterDraws:
    """``M`` draws of all population parameters.

    Attributes
    ----------
    values
        Population parameter -> float[M]; held ones included.
    words
        Where they come from, in a phrase.
    notes
        What deserves attention, one sentence each.
    """

    values: dict[str, Floats]
    words: str
    notes: tuple[str, ...] = ()

    @property
    def digits(self) -> str:
        """Twelve hexadecimal digits of the values."""
        content = repr([(name, v.tobytes()) for name, v in sorted(self.values.items())])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def parameter_draws(fitted: Fitted, n: int, seed: int) -> ParameterDraws:
    """Draw the population parameters of a fit.

    Parameters
    ----------
    fitted
        Result of `pkpd.fit`. Of a posterior, draws evenly spread over its own are taken, repeated
        where more are asked for than it has. Estimates of maximum likelihood are drawn from their
        normal approximation on the scales of the search.
    n
        Number of draws; one is the median of a posterior, or the estimates.
    seed
        Seed of what is drawn.

    Raises
    ------
    PkpdError
        If several draws are asked of estimates without standard errors.
    """
    if isinstance(fitted, MaximumLikelihood):
        return _of_maximum(fitted, n, seed)
    draws = draws_of(fitted)
    own = len(draws)
    if own == 1:
        if n > 1:
            _refuse_several(n, "estimates without standard errors")
        return ParameterDraws(_all_of(draws), "estimates")
    if n == 1:
        middle = {name: np.array([np.median(v)]) for name, v in _all_of(draws).items()}
        return ParameterDraws(middle, "median of the posterior")
    notes = ()
    if n > own:
        notes = (f"The fit has {own} draws, which are repeated to make {n}.",)
    return ParameterDraws(_all_of(spread(draws, n)), f"{n} of {own} posterior draws", notes)


def _all_of(draws: Draws) -> dict[str, Floats]:
    """Every population parameter; those that are held have one value."""
    size = len(draws)
    known = {name: np.full(size, v) for name, v in start_values(draws.likelihood.model).items()}
    return known | {name: np.asarray(v, dtype=float) for name, v in draws.population.items()}


def _of_maximum(fitted: MaximumLikelihood, n: int, seed: int) -> ParameterDraws:
    if n == 1:
        single = {name: np.array([value]) for name, value in fitted.estimates.items()}
        return ParameterDraws(single, "maximum likelihood estimates")
    free, covariance = FreeParameters(fitted.likelihood), np.asarray(fitted.covariance_x)
    variance = np.diag(covariance)
    finite = np.isfinite(variance)
    known = finite & ((variance <= _WIDEST**2) | free.natural_units)
    if not known.any():
        _refuse_several(n, "maximum likelihood estimates without standard errors")
    inner = covariance[np.ix_(known, known)]
    size, directions = np.linalg.eigh(0.5 * (inner + inner.T))
    root = directions * np.sqrt(np.maximum(size, 0.0))
    x = np.repeat(np.asarray(fitted.x, dtype=float)[None], n, axis=0)
    x[:, known] += stream(seed, "fit").standard_normal((n, int(known.sum()))) @ root.T
    low, high = free.bounds.T
    drawn = [free.values(np.clip(row, low, high)) for row in x]
    values = {
        name: np.array([one.get(name, value) for one in drawn])
        for name, value in fitted.estimates.items()
    }
    for name, drawn_values in values.items():
        if not np.isfinite(drawn_values).all():
            error = fitted.standard_errors.get(name, np.nan)
            raise PkpdError(
                where="draws of a fit",
                what=f"{name} is {fitted.estimates[name]:.3g} with a standard error of "
                f"{error:.2g}, too large for a normal approximation",
                remedy="hold what the data do not tell, give priors, or sample the posterior",
            )
    notes = []
    for those, why in (
        (~finite, "Without a standard error these stay at their estimates"),
        (
            finite & ~known,
            "The data hardly tell these (their standard errors are too large for a normal "
            "approximation), so they stay at their estimates; sampling the posterior would tell "
            "more",
        ),
    ):
        if those.any():
            named = ", ".join(name for name, k in zip(free.names, those, strict=True) if k)
            notes.append(f"{why}: {named}.")
    words = "normal approximation around maximum likelihood estimates"
    return ParameterDraws(values, words, tuple(notes))


def _refuse_several(n: int, what: str) -> None:
    raise PkpdError(
        where="draws of a fit",
        what=f"{n} draws are asked of {what}",
        remedy='ask for draws=1, or fit again with covariance="sandwich" or "observed"',
    )
