"""The priors as a PyMC model, to be looked at with its tools.

The only module of this package that knows PyMC. The likelihood is not in the model: it is a
simulation, and its sampler is `pkpd.evidence.sampling.chains`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.evidence.likelihood.prior import HalfNormal, Pooled, Prior
from pkpd.units import Parameter

if TYPE_CHECKING:
    import pymc as pm

_QUANTILE = 1.959963984540054


def prior_model(prior: Prior) -> pm.Model:
    """Make a PyMC model of the priors, with the parameters' own names.

    A prior with limits that are alike on both sides is PyMC's ``LogNormal``, ``Normal`` or
    ``LogitNormal``; a lopsided one, and a pooled one, is a deterministic function of a standard
    normal score. Fixed parameters are not in the model.
    """
    import pymc as pm

    with pm.Model() as model:
        made: dict[str, Any] = {}
        for entry in prior.entries:
            if isinstance(entry, HalfNormal):
                made[entry.name] = pm.HalfNormal(entry.name, entry.upper / _QUANTILE)
            elif isinstance(entry, Pooled):
                score = pm.Normal(f"{entry.name} score", 0.0, 1.0)
                value: Any = pm.math.exp(made[entry.spread] * score)
                centre = made[entry.centre] if entry.centre else entry.value
                value = value * (entry.factor * centre)
                made[entry.name] = pm.Deterministic(entry.name, value)
            else:
                made[entry.name] = _variable(entry)
    return model


def _variable(parameter: Parameter):
    import pymc as pm

    assert parameter.interval is not None
    scale = {"lognormal": np.log, "logit": lambda x: np.log(x / (1 - x))}.get(
        parameter.distribution, lambda x: x
    )
    centre, low, high = (
        float(scale(x)) for x in (parameter.value, parameter.interval[0], parameter.interval[1])
    )
    z = _quantile_of(parameter.interval_prob)
    below, above = (centre - low) / z, (high - centre) / z
    if abs(below - above) <= 0.02 * (below + above):
        kind = {"lognormal": pm.LogNormal, "logit": pm.LogitNormal, "normal": pm.Normal}
        return kind[parameter.distribution](parameter.name, centre, 0.5 * (below + above))
    score = pm.Normal(f"{parameter.name} score", 0.0, 1.0)
    x = centre + score * pm.math.switch(score < 0, below, above)
    back = {"lognormal": pm.math.exp, "logit": pm.math.invlogit}.get(
        parameter.distribution, lambda y: y
    )
    return pm.Deterministic(parameter.name, back(x))


def _quantile_of(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + 0.5 * probability))
