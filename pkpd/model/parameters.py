"""Values of the parameters: typical ones, and draws that stand for what is not known.

A parameter with an interval has a prior: median at its value, limits of the interval at the
matching quantiles, normal on each side of the median on the scale of the logarithm (``lognormal``),
of the number itself (``normal``) or of the log odds (``logit``).  Without an interval it is fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arrays import Floats
from pkpd.distributions import stratified_normals, stream
from pkpd.errors import DataError
from pkpd.subjects import Population
from pkpd.units import Parameter

if TYPE_CHECKING:
    from pkpd.model.joint import JointModel


#: Marrow settings of patients without leukaemia, used where no population gives any.
NEUTRAL = (
    Parameter("population.mtt_factor", 1.0, "1", source="none is given", status="assumed"),
    Parameter("population.sensitivity", 1.0, "1", source="none is given", status="assumed"),
    Parameter("population.relief", 0.0, "1", source="none is given", status="assumed"),
)


def used_parameters(model: JointModel, population: Population | None) -> tuple[Parameter, ...]:
    """List the parameters of the model and of the population, by namespaced name.

    The spread of a marrow setting between patients is listed as ``population.iiv.<setting>``.
    """
    settings = (population.parameters if population is not None else ()) or NEUTRAL
    spreads = () if population is None else population.variability
    return (
        *model.parameters,
        *settings,
        *(
            Parameter(
                name.replace("population.", "population.iiv.", 1),
                sd,
                "1",
                source=f"population card {population.name if population else ''}",
            )
            for name, sd in spreads
        ),
    )


def typical(model: JointModel, population: Population | None = None) -> dict[str, Floats]:
    """Give every parameter at its central value.

    Returns
    -------
    dict
        Namespaced name -> float[1], in internal units.

    Examples
    --------
    >>> from pkpd.model.joint import load_model
    >>> values = typical(load_model(drugs=["lenalidomide"]))
    >>> values["lenalidomide.CL"].shape
    (1,)
    """
    return {p.name: np.array([p.value]) for p in used_parameters(model, population)}


def draw_parameters(
    model: JointModel, population: Population | None, n_draws: int, seed: int
) -> dict[str, Floats]:
    """Draw every parameter from its prior.

    Draws are stratified: each n-th of a prior's probability holds one draw, in an order that
    differs from parameter to parameter.  Parameters of one prior group share their scores.

    Parameters
    ----------
    model, population
        What has parameters; without population the marrow settings are neutral.
    n_draws
        Number of draws, at least 1.
    seed
        Seed of the run; parameter ``x`` uses ``stream(seed, "prior:x")``.

    Returns
    -------
    dict
        Namespaced name -> float[n_draws], in internal units.

    Examples
    --------
    >>> from pkpd.model.joint import load_model
    >>> draws = draw_parameters(load_model(drugs=["lenalidomide"]), None, 4, seed=1)
    >>> draws["lenalidomide.effect.slope_neutrophils"].shape
    (4,)
    """
    if n_draws < 1:
        raise DataError(where="n_draws", what=f"{n_draws} draws", allowed="1 or more")
    draws: dict[str, Floats] = {}
    for parameter in used_parameters(model, population):
        if parameter.interval is None:
            draws[parameter.name] = np.full(n_draws, parameter.value)
            continue
        group = parameter.prior_group or parameter.name
        scores = stratified_normals(stream(seed, f"prior:{group}"), n_draws)
        draws[parameter.name] = quantile_at_score(parameter, scores)
    return draws


def _scale(parameter: Parameter, x: Any) -> Any:
    if parameter.distribution == "lognormal":
        return np.log(x)
    if parameter.distribution == "logit":
        return np.log(x) - np.log1p(-np.asarray(x))
    return np.asarray(x, dtype=np.float64)


def score_scale(parameter: Parameter) -> tuple[float, float, float]:
    """Give the centre, and the SD below and above it, on the prior's scale."""
    from scipy.special import ndtri

    assert parameter.interval is not None
    z = float(ndtri(0.5 + 0.5 * parameter.interval_prob))
    centre = float(_scale(parameter, parameter.value))
    low, high = (float(_scale(parameter, x)) for x in parameter.interval)
    return centre, (centre - low) / z, (high - centre) / z


def quantile_at_score(parameter: Parameter, score: Any) -> Floats:
    """Give the prior's quantile at a standard normal score.

    Score 0 is the value; the scores of the interval's probabilities are its limits.
    """
    score = np.asarray(score, dtype=np.float64)
    if parameter.interval is None:
        return np.full(score.shape, parameter.value)
    centre, below, above = score_scale(parameter)
    x = centre + score * np.where(score < 0, below, above)
    if parameter.distribution == "lognormal":
        return np.exp(x)
    if parameter.distribution == "logit":
        return 1.0 / (1.0 + np.exp(-x))
    return x
