"""The steps from a bound model to posterior draws: where to start, how to centre, which sampler."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import xarray as xr

from pkpd.arguments import NUMBER, NUMBERS
from pkpd.cluster import workers
from pkpd.errors import PkpdError, sentence
from pkpd.fitting.bayes.centring import Centring, by_information, by_weights
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.program import PatientScale, Program
from pkpd.fitting.bayes.sample import SamplerSettings, sample
from pkpd.fitting.bayes.start import (
    StartingPoint,
    bent,
    flat_spread,
    flat_start,
    named_start,
    patient_scale,
)
from pkpd.fitting.bayes.walls import find_walls
from pkpd.fitting.maximum.estimate import maximum_of
from pkpd.fitting.maximum.individual_estimates import individual_estimates
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.maximum.progress import ProgressLines
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.small_systems import root_each

# chosen: settings where lags have walls, unless they are given
_BEFORE_WALLS: dict[str, Any] = {"draws": 3000, "target_accept": 0.9, "low_rank": True}
# chosen: draws to adapt and to keep of each chain of a run before the run, and depth of its trees
_PILOT = (200, 150, 7)


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where the chains of a fit start, and in which coordinates they are sampled.

    Attributes
    ----------
    likelihood
        Model bound to data.
    maximum
        The maximum that chains start from, or ``None``.
    point
        Point estimates they start around.
    centring
        How random effects are sampled.
    notes
        For the run record.
    """

    likelihood: PopulationLikelihood
    maximum: MaximumLikelihood | None
    point: StartingPoint
    centring: Centring
    notes: dict[str, Any]

    def named(self) -> dict[str, np.ndarray]:
        """Return the starting values of the model's variables by name, natural scale."""
        return named_start(self.likelihood, self.point, self.centring)

    def chains(self, made: pm.Model) -> Chains:
        """Return what chains of the model need to start."""
        named = self.named()
        return Chains(
            made,
            named,
            flat_start(made, named),
            flat_spread(made, self.point),
            patient_scale(made, self.likelihood, self.point, self.centring, self.maximum),
        )


@dataclass(frozen=True, eq=False)
class Chains:
    """A model, where its chains start, and the scale they move on: see `sample.sample`."""

    made: pm.Model
    named: Mapping[str, np.ndarray]
    flat: np.ndarray
    spread: np.ndarray
    scale: PatientScale | None

    def draws(
        self,
        settings: SamplerSettings,
        checkpoint: Path | None = None,
        program: Program | None = None,
    ) -> az.InferenceData:
        """Sample; `program` is the model compiled before, perhaps with other data."""
        return sample(
            self.made,
            self.named,
            self.flat,
            self.spread,
            settings,
            checkpoint,
            self.scale,
            program,
        )


def begin(
    likelihood: PopulationLikelihood,
    method: str,
    centring: Any,
    start: Any,
    *,
    progress: bool = False,
    walls: bool = False,
) -> Beginning:
    """Find where to start and how to centre: for `pkpd.fit` and for its calibration alike.

    Parameters
    ----------
    likelihood
        Model bound to data.
    method, centring, start, progress
        See `pkpd.fitting.fit.fit`.
    walls
        Whether lags may be sampled in coordinates of their own (`pkpd.fitting.bayes.walls`), where
        centring is ``"auto"``.
    """
    maximum, point, note = _starting_point(likelihood, start, method, progress)
    informed = None
    if point.random is not None:
        values = start_values(likelihood.model) | dict(point.population)
        informed = by_information(likelihood, values, point.random)
        if maximum is not None and values != maximum.estimates:
            lower = np.asarray(likelihood.random_effects.cholesky(values, np))
            point = replace(point, random_covariance=informed.covariance(lower))
    chosen, told = _centring(likelihood, centring, point, informed)
    if walls and informed is not None and chosen is informed:
        values, random = start_values(likelihood.model) | dict(point.population), point.random
        found = None if random is None else find_walls(likelihood, values, random)
        if found is not None:
            chosen, point = bent(likelihood, informed, point, found)
    return Beginning(likelihood, maximum, point, chosen, {"start": note, "centring": told})


def run(
    likelihood: PopulationLikelihood,
    method: str,
    settings: SamplerSettings,
    centring: Any,
    start: Any,
    checkpoint: Path | None,
    cluster: str | None = None,
    *,
    given: Collection[str] = ("draws", "target_accept", "low_rank"),
) -> tuple[az.InferenceData, pm.Model, MaximumLikelihood | None, dict[str, Any]]:
    """Build the ``pm.Model``, find where to start, and sample; over a cluster chain by chain.

    Returns
    -------
    tuple
        Draws, the model, the maximum the chains started from (or ``None``), and notes for the
        run record.
    """
    begun = begin(
        likelihood, method, centring, start, progress=settings.progress, walls=method == "nuts"
    )
    if begun.centring.walls is not None and settings.sampler == "nutpie":
        settings = settings_before_walls(settings, given)
        begun = after_pilot(begun, settings)
    begun.notes["settings"] = asdict(settings)
    maximum, made = begun.maximum, build_model(likelihood, begun.centring)
    if method == "map" and maximum is not None:
        idata = _normal(likelihood, maximum, settings)
        begun.notes["at_zero"] = np.array(maximum.names)[held_at_mode(maximum)].tolist()
    elif method == "advi":
        idata = _advi(made, begun.named(), settings)
    elif cluster is not None:
        idata = _over(cluster, begun, settings, checkpoint)
    else:
        idata = begun.chains(made).draws(settings, checkpoint)
    return idata, made, maximum, begun.notes


def settings_before_walls(settings: SamplerSettings, given: Collection[str]) -> SamplerSettings:
    """Return the settings where lags have walls; those that are `given` stay as they are."""
    return replace(settings, **{k: v for k, v in _BEFORE_WALLS.items() if k not in given})


def after_pilot(begun: Beginning, settings: SamplerSettings) -> Beginning:
    """Centre subjects with walls anew around the medians of a short run, valleys evened out.

    The modes that FOCE-I linearises at may be narrow ones that hold little probability.
    """
    likelihood, walls = begun.likelihood, begun.centring.walls
    assert walls is not None
    tune, draws, depth = _PILOT
    short = replace(settings, draws=draws, tune=tune, depth=depth, chains=2, progress=False)
    run_before: Any = begun.chains(build_model(likelihood, begun.centring)).draws(short)
    found = run_before.posterior
    values = {
        name: float(found[name].median()) if name in found else value
        for name, value in start_values(likelihood.model).items()
    }
    point = replace(begun.point, population=values)
    centring, point = bent(likelihood, begun.centring, point, walls, even=True)
    return replace(begun, point=point, centring=centring)


def _over(
    address: str, begun: Beginning, settings: SamplerSettings, checkpoint: Path | None
) -> az.InferenceData:
    """Run each chain on a worker of a cluster; each compiles the model once."""

    def chain(number: int) -> bytes:
        import dask

        own = replace(
            settings, chains=1, cores=1, progress=False, seed=settings.seed + 1_000_003 * number
        )
        place = None if checkpoint is None else checkpoint / f"chain_{number}"
        made = build_model(begun.likelihood, begun.centring)
        # on a worker xarray would ask the scheduler for a lock on each file that it writes
        with dask.config.set(scheduler="synchronous"):
            return pickle.dumps(begun.chains(made).draws(own, place))

    with workers(address, settings.cores) as spread:
        assert spread is not None
        parts = [pickle.loads(one) for one in spread.in_turn(chain, range(settings.chains))]
    groups = {}
    for name in ("posterior", "sample_stats"):
        joined = xr.concat([part[name] for part in parts], dim="chain")
        groups[name] = joined.assign_coords(chain=np.arange(settings.chains))
    return az.InferenceData(**groups)


def _starting_point(
    likelihood: PopulationLikelihood, start: Any, method: str, progress: bool
) -> tuple[MaximumLikelihood | None, StartingPoint, str]:
    """Maximum of the penalised marginal likelihood, or the model's own values.

    Where all population parameters are held, the model's own values and the individual modes.
    """
    if method == "map" and start != "auto":
        what = "method 'map' searches the mode with the priors, from the values of the model"
        raise PkpdError(where="fit, start", what=what, allowed="auto")
    if start == "model":
        return None, StartingPoint({}), "values of the model"
    if start != "auto" and isinstance(start, str):
        raise PkpdError(
            sentence(where="fit", what=f"start {start!r}", allowed="auto, model, or a result")
        )
    maximum: Any = start
    shape = (likelihood.n_subjects, likelihood.random_effects.size)
    if start != "auto" and maximum.random.shape != shape:
        what = f"a fit with {' x '.join(map(str, maximum.random.shape))} random effects"
        allowed = f"one of the same subjects and random effects, {shape[0]} x {shape[1]}"
        raise PkpdError(where="fit, start", what=what, allowed=allowed)
    if start == "auto" and not set(start_values(likelihood.model)) - held(likelihood.model):
        return None, _individual_point(likelihood), "individual modes"
    if start == "auto":
        maximum = maximum_of(
            MarginalLikelihood(likelihood),
            priors=True,
            covariance="observed",
            tolerance=1e-5 if method == "map" else 1e-2,
            progress=ProgressLines() if progress else None,
        )
    # a standard deviation at the edge, 0, is no place to start from
    given = start_values(likelihood.model)
    values = {
        name: max(value, 0.2 * given[name]) if name.startswith("omega_") else value
        for name, value in maximum.estimates.items()
    }
    point = StartingPoint(values, maximum.random, None, maximum.random_covariance)
    return maximum, point, "maximum of the penalised marginal likelihood"


def _individual_point(likelihood: PopulationLikelihood) -> StartingPoint:
    """Individual modes, population parameters being held; zero for a subject without one."""
    found = individual_estimates(likelihood.model, likelihood.dataset)
    between = found.likelihood.random_effects.covariance(found.estimates, np)
    lost = ~found.converged.values
    random, covariance = found.random.copy(), found.random_covariance.copy()
    random[lost], covariance[lost] = 0.0, between
    return StartingPoint({}, random, None, covariance)


def _centring(
    likelihood: PopulationLikelihood,
    centring: Any,
    point: StartingPoint,
    informed: Centring | None,
) -> tuple[Centring, Any]:
    """How random effects are sampled, and what the record says of it."""
    names = likelihood.model.varying
    if centring == "auto" and informed is not None:
        values = start_values(likelihood.model) | dict(point.population)
        between = np.asarray(likelihood.random_effects.covariance(values, np))
        found = np.round(informed.weights(between), 2)
        return informed, {name: found[:, i].tolist() for i, name in enumerate(names)}
    if centring == "auto":
        return by_weights(likelihood, {}), "non-centred"
    words = {"centred": 1.0, "non-centred": 0.0}
    if isinstance(centring, str) and centring not in words:
        raise PkpdError(
            sentence(
                where="fit",
                what=f"centring {centring!r}",
                allowed="auto, centred, non-centred, or weights by parameter",
            )
        )
    if isinstance(centring, str):
        weights = dict.fromkeys(names, words[centring])
    else:
        weights = _checked(centring, names, likelihood.n_subjects)
    return by_weights(likelihood, weights, point.population), {
        name: np.asarray(weight).tolist() for name, weight in weights.items()
    }


def _checked(centring: Mapping[str, Any], names: Sequence[str], subjects: int) -> dict[str, Any]:
    """Refuse weights of unknown parameters, outside 0 to 1, or of another number of subjects."""
    for name, weight in centring.items():
        if name not in names:
            raise PkpdError(
                sentence(
                    where="fit",
                    what=f"centring of {name!r}, which does not vary between patients",
                    allowed=", ".join(names),
                )
            )
        given = np.asarray(weight if (NUMBER | NUMBERS).holds(weight) else np.nan, dtype=float)
        if given.shape not in ((), (subjects,)) or not np.all((given >= 0) & (given <= 1)):
            raise PkpdError(
                sentence(
                    where=f"fit, centring of {name!r}",
                    what=f"{weight}",
                    allowed=f"0 (non-centred) to 1 (centred), one number or {subjects}",
                )
            )
    return dict(centring)


def held_at_mode(maximum: MaximumLikelihood) -> np.ndarray:
    """Which estimates stay at their mode: standard deviations at zero, bool[P]."""
    free = FreeParameters(maximum.likelihood)
    return free.at_edge(maximum.x) & (np.array(free.kinds) == "deviation")


def _normal(
    likelihood: PopulationLikelihood, maximum: MaximumLikelihood, settings: SamplerSettings
) -> az.InferenceData:
    """Draw from the normal approximation around the mode of the marginal posterior.

    Population parameters are normal on the scale of the search; random effects are normal around
    their modes at the mode of the population parameters.
    """
    rng = np.random.default_rng(settings.seed)
    free, effects = FreeParameters(likelihood), likelihood.random_effects
    shape = (settings.chains, settings.draws)
    # a standard deviation whose mode is at zero has no curvature there: it stays
    known = ~held_at_mode(maximum)
    covariance = maximum.covariance_x[np.ix_(known, known)]
    if not np.all(np.isfinite(covariance)):
        lost = np.array(maximum.names)[known & ~np.isfinite(np.diag(maximum.covariance_x))]
        raise PkpdError(
            sentence(
                where="fit, method 'map'",
                what="the curvature at the mode has no inverse"
                + (f" along {', '.join(lost)}" if len(lost) else ""),
                remedy="give tighter priors, or use method='nuts'",
            )
        )
    x = np.tile(maximum.x, (*shape, 1))
    x[..., known] = rng.multivariate_normal(maximum.x[known], covariance, size=shape)
    # a standard deviation has no values below zero, where its effects would change their sign
    named = [free.values(np.clip(one, *free.bounds.T)) for one in x.reshape(-1, x.shape[-1])]
    variables: dict[str, Any] = {
        name: np.reshape([one[name] for one in named], shape) for name in maximum.names
    }
    lower = root_each(maximum.random_covariance + 1e-14 * np.eye(effects.size))
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
