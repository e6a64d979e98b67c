"""The steps from a bound model to posterior draws: where to start, how to centre, which sampler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import arviz as az
import numpy as np
import pymc as pm

from pkpd.errors import PkpdError, sentence
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.sample import SamplerSettings, sample
from pkpd.fitting.bayes.start import (
    StartingPoint,
    flat_spread,
    flat_start,
    named_start,
    patient_scale,
)
from pkpd.fitting.maximum.progress import ProgressLines
from pkpd.fitting.model.likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import held, start_values

if TYPE_CHECKING:
    from pkpd.fitting.maximum.estimate import MaximumLikelihood


def run(
    likelihood: PopulationLikelihood,
    method: str,
    settings: SamplerSettings,
    centring: Any,
    start: Any,
    checkpoint: Path | None,
) -> tuple[az.InferenceData, pm.Model, MaximumLikelihood | None, dict[str, Any]]:
    """Build the ``pm.Model``, find where to start, and sample.

    Returns
    -------
    tuple
        Draws, the model, the maximum the chains started from (or ``None``), and notes for the
        run record.
    """
    maximum, point, note = _starting_point(likelihood, start, method, settings.progress)
    weights = _centring(likelihood, centring, point)
    made = build_model(likelihood, weights)
    notes: dict[str, Any] = {"start": note, "centring": weights}
    named = named_start(likelihood, point, weights)
    if method == "map" and maximum is not None:
        return _normal(likelihood, maximum, settings), made, maximum, notes
    if method == "advi":
        return _advi(made, named, settings), made, maximum, notes
    flat = flat_start(made, named)
    spread = flat_spread(made, point)
    scale = patient_scale(made, likelihood, point, weights, maximum)
    idata = sample(made, named, flat, spread, settings, checkpoint, scale)
    return idata, made, maximum, notes


def _starting_point(
    likelihood: PopulationLikelihood, start: Any, method: str, progress: bool
) -> tuple[MaximumLikelihood | None, StartingPoint, str]:
    """Maximum of the penalised marginal likelihood, or the model's own values.

    Where all population parameters are held, the model's own values and the individual modes.
    """
    if start == "model" and method != "map":
        return None, StartingPoint({}), "values of the model"
    if start != "auto" and isinstance(start, str):
        raise PkpdError(
            sentence(where="fit", what=f"start {start!r}", allowed="auto, model, or a result")
        )
    maximum: Any = start
    if start == "auto" and not set(start_values(likelihood.model)) - held(likelihood.model):
        return None, _individual_point(likelihood), "individual modes"
    if start == "auto":
        from pkpd.fitting.maximum.estimate import maximum_likelihood

        maximum = maximum_likelihood(
            likelihood.model,
            likelihood.dataset,
            priors=True,
            covariance="observed",
            tolerance=1e-5 if method == "map" else 1e-2,
            progress=ProgressLines() if progress else None,
        )
    spread = _spread(maximum.random_covariance)
    # a standard deviation at the edge, 0, is no place to start from
    given = start_values(likelihood.model)
    values = {
        name: max(value, 0.2 * given[name]) if name.startswith("omega_") else value
        for name, value in maximum.estimates.items()
    }
    point = StartingPoint(values, maximum.random, None, spread, maximum.random_covariance)
    return maximum, point, "maximum of the penalised marginal likelihood"


def _individual_point(likelihood: PopulationLikelihood) -> StartingPoint:
    """Individual modes, population parameters being held; zero for a subject without one."""
    from pkpd.fitting.maximum.individual_estimates import individual

    found = individual(likelihood.model, likelihood.dataset)
    between = found.likelihood.random_effects.covariance(found.estimates, np)
    lost = ~found.converged.values
    random, covariance = found.random.copy(), found.random_covariance.copy()
    random[lost], covariance[lost] = 0.0, between
    return StartingPoint({}, random, None, _spread(covariance), covariance)


def _spread(covariance: np.ndarray) -> np.ndarray:
    """Return standard deviations ``[B, R]`` of covariances ``[B, R, R]``."""
    return np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))


def _centring(
    likelihood: PopulationLikelihood, centring: Any, point: StartingPoint
) -> dict[str, float]:
    names = likelihood.model.varying
    if centring == "centred":
        return dict.fromkeys(names, 1.0)
    if centring == "non-centred":
        return dict.fromkeys(names, 0.0)
    if centring == "auto":
        values = start_values(likelihood.model) | dict(point.population)
        omega = {name: values[f"omega_{name}"] for name in names}
        return {k: round(v, 2) for k, v in point.informed(omega, names).items()}
    if isinstance(centring, str):
        raise PkpdError(
            sentence(
                where="fit",
                what=f"centring {centring!r}",
                allowed="auto, centred, non-centred, or weights by parameter",
            )
        )
    unknown = sorted(set(centring) - set(names))
    if unknown:
        raise PkpdError(
            sentence(
                where="fit",
                what=f"centring of {unknown[0]!r}, which does not vary between patients",
                allowed=", ".join(names),
            )
        )
    return dict(centring)


def _normal(
    likelihood: PopulationLikelihood, maximum: MaximumLikelihood, settings: SamplerSettings
) -> az.InferenceData:
    """Draw from the normal approximation around the mode of the marginal posterior.

    Population parameters are normal on the scale of the search; random effects are normal around
    their modes at the mode of the population parameters.
    """
    from pkpd.fitting.maximum.scales import FreeParameters

    rng = np.random.default_rng(settings.seed)
    free, effects = FreeParameters(likelihood), likelihood.random_effects
    shape = (settings.chains, settings.draws)
    if not np.all(np.isfinite(maximum.covariance_x)):
        raise PkpdError(
            sentence(
                where="fit, method 'map'",
                what="the curvature at the mode has no inverse",
                remedy="give tighter priors, or use method='nuts'",
            )
        )
    x = rng.multivariate_normal(maximum.x, maximum.covariance_x, size=shape)
    named = [free.values(one) for one in x.reshape(-1, x.shape[-1])]
    variables: dict[str, Any] = {
        name: np.reshape([one[name] for one in named], shape) for name in maximum.names
    }
    lower = np.linalg.cholesky(maximum.random_covariance + 1e-14 * np.eye(effects.size))
    noise = rng.standard_normal((*shape, *maximum.random.shape))
    random = maximum.random + np.einsum("bij,cdbj->cdbi", lower, noise)
    eta, kappa = effects.split(random)
    coords: dict[str, Any] = {"subject": list(likelihood.dataset.subjects)}
    dims = {}
    if likelihood.model.varying:
        variables["eta"], dims["eta"] = eta, ["subject", "parameter"]
        coords["parameter"] = list(likelihood.model.varying)
    if effects.n_occasions:
        variables["kappa"] = kappa
        dims["kappa"] = ["subject", "occasion", "occasion_parameter"]
        coords["occasion"] = np.arange(1, effects.n_occasions + 1)
        coords["occasion_parameter"] = list(likelihood.model.occasional)
    return az.from_dict(posterior=variables, coords=coords, dims=dims)


def _advi(
    made: pm.Model, named: dict[str, np.ndarray], settings: SamplerSettings
) -> az.InferenceData:
    with made:
        approximation = pm.fit(
            n=20_000,
            method="advi",
            start={v.name: named[v.name] for v in made.free_RVs},
            random_seed=settings.seed,
            progressbar=settings.progress,
        )
        return approximation.sample(settings.draws * settings.chains, random_seed=settings.seed)
