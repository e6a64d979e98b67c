"""How far covariates move parameters: ratios at chosen values of a covariate, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arguments import NUMBERS, SHARE, a, check_arguments
from pkpd.errors import PkpdError
from pkpd.fitting.draws import Fitted
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.model.covariate_effects import CovariateEffect
from pkpd.fitting.model.specification import IndividualParameter
from pkpd.fitting.sampled import Fit

if TYPE_CHECKING:
    import pandas as pd


def covariate_effects(
    fit: Fitted, *, quantiles: Sequence[float] = (0.05, 0.95), level: float = 0.9
) -> pd.DataFrame:
    """Tell by what factor each covariate of a model moves a typical parameter.

    Parameters
    ----------
    fit
        Maximum-likelihood fit, whose intervals come from standard errors of the coefficients, or a
        posterior sample, whose intervals are those of its draws.
    quantiles
        Of the covariate in the subjects (at their first records), where an effect is told; an
        effect of a category is told for that.
    level
        Of the intervals.

    Returns
    -------
    DataFrame
        One row for each effect and value: ``parameter``, ``covariate``, ``form``, ``reference`` (of
        a category NaN: all that have no coefficient), ``value``, ``ratio`` of the typical parameter
        there to that at the reference, ``lower``, ``upper``, and ``held`` where the coefficient was
        not estimated.

    Raises
    ------
    PkpdError
        If the model has no covariate effects.

    Examples
    --------
    >>> from pkpd.checks import covariate_effects
    >>> covariate_effects(fit)  # doctest: +SKIP
    """
    check_arguments(
        "covariate_effects",
        fit=(fit, a(MaximumLikelihood, Fit)),
        quantiles=(quantiles, NUMBERS),
        level=(level, SHARE),
    )
    import pandas as pd

    assert isinstance(fit, MaximumLikelihood | Fit)
    if not all(0.0 <= q <= 1.0 for q in quantiles) or not len(quantiles):
        what = f"{list(quantiles)} is given"
        where = "covariate_effects, quantiles"
        raise PkpdError(where=where, what=what, allowed="numbers from 0 to 1")
    model, data = fit.likelihood.model, fit.likelihood.dataset
    rows = []
    for p in model.parameters:
        for effect in p.effects:
            values = data.covariates[effect.covariate][:, 0]
            category = effect.kind == "category"
            places = [effect.centre] if category else np.quantile(values, quantiles).tolist()
            for value in dict.fromkeys(places):
                low, middle, high = _ratios(fit, p, effect, value, level)
                rows.append(
                    {
                        "parameter": p.name,
                        "covariate": effect.covariate,
                        "form": effect.kind,
                        "reference": np.nan if category else effect.centre,
                        "value": value,
                        "ratio": middle,
                        "lower": low,
                        "upper": high,
                        "held": effect.coefficient.fixed,
                    }
                )
    if not rows:
        what, remedy = "the model has no covariate effects", "give a fit with effects=..."
        raise PkpdError(where="covariate_effects, fit", what=what, remedy=remedy)
    return pd.DataFrame(rows)


def _ratios(
    fit: MaximumLikelihood | Fit,
    p: IndividualParameter,
    effect: CovariateEffect,
    value: float,
    level: float,
) -> tuple[float, float, float]:
    """Lower limit, estimate and upper limit of the ratio."""
    name = effect.name(p.name)
    design = float(effect.design(np.array([value]))[0])

    def ratio(typical: Any, coefficient: Any) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            coefficient = np.asarray(coefficient, dtype=float)
            term = effect.term(coefficient, design, p.scale)
        # where the limit of a coefficient leaves a linear effect no factor above 0, it is 0
        term = np.where(np.isnan(term) & np.isfinite(coefficient), -np.inf, term)
        return _moved(p, np.asarray(typical, dtype=float), term)

    if isinstance(fit, MaximumLikelihood):
        typical, coefficient = fit.estimates[p.name], fit.estimates[name]
        error = 0.0 if effect.coefficient.fixed else fit.standard_errors.get(name, np.nan)
        reach = NormalDist().inv_cdf(0.5 * (1.0 + level)) * error
        ends = ratio(typical, coefficient + np.array([-reach, 0.0, reach]))
        low, high = min(ends[0], ends[2]), max(ends[0], ends[2])
        return float(low), float(ends[1]), float(high)
    draws = fit.draws.population
    found = ratio(draws[p.name], draws[name])
    tail = 0.5 * (1.0 - level)
    low, middle, high = np.quantile(found, [tail, 0.5, 1.0 - tail])
    return float(low), float(middle), float(high)


def _moved(p: IndividualParameter, typical: np.ndarray, term: np.ndarray) -> np.ndarray:
    """Ratio of a parameter that is moved by a term on its scale to its typical value."""
    if p.scale == "log":
        return np.exp(term)
    if p.scale == "identity":
        return (typical + term) / typical
    low, high = p.bounds
    odds = (typical - low) / (high - typical) * np.exp(term)
    return (low + (high - low) * odds / (1.0 + odds)) / typical
