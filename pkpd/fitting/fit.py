"""`fit`: from a population model and data to a posterior or to maximum-likelihood estimates."""

from __future__ import annotations

import inspect
import json
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np

from pkpd.arguments import MAPPING, NONE, SHARE, TEXT, a, check_arguments, from_to, one_of
from pkpd.data.dataset import Dataset
from pkpd.errors import DataError, PkpdError, PkpdWarning
from pkpd.fitting.first_look.before_fit import TOO_FEW, Predict, before_fit
from pkpd.fitting.judge.standard_errors import Covariance
from pkpd.fitting.maximum.estimate import maximum_of
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.maximum.marginal import Method as MaximumMethod
from pkpd.fitting.maximum.progress import ProgressLines
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.model.impossible import refuse_impossible
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.sampled import Fit

PosteriorMethod = Literal["nuts", "map", "advi"]
Method = PosteriorMethod | MaximumMethod
METHODS: tuple[str, ...] = (*get_args(PosteriorMethod), *get_args(MaximumMethod))
Sampler = Literal["nutpie", "pymc", "numpyro"]
Centring = Literal["auto", "centred", "non-centred"] | Mapping[str, float | Sequence[float]]

_IDLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "has no chains": (
        "nuts",
        ("checkpoint", "cluster", "tune", "cores", "sampler", "target_accept", "low_rank"),
    ),
    "gives no draws": (", ".join(get_args(PosteriorMethod)), ("draws", "chains", "centring")),
    "is no maximum likelihood": (
        ", ".join(get_args(MaximumMethod)),
        ("starts", "iterations", "covariance"),
    ),
}
"""What a method lacks: which methods have it, and the options that it takes."""

_LIBRARIES = ("pkpd", "jax", "numpy", "pymc", "pytensor", "nutpie", "arviz")


class _Shared(TypedDict, total=False):
    seed: int
    progress: bool


class _Sampling(_Shared, total=False):
    draws: int | None
    tune: int
    chains: int
    cores: int
    sampler: Sampler
    target_accept: float | None
    low_rank: bool | None
    centring: Centring
    start: Literal["auto", "model"] | MaximumLikelihood
    checkpoint: str | Path | None
    cluster: str | None


class _Searching(_Shared, total=False):
    starts: int
    iterations: int
    covariance: Covariance | None


class _Options(_Sampling, _Searching, total=False):
    pass


@overload
def fit(
    model: PopulationModel,
    data: Dataset,
    *,
    method: PosteriorMethod = "nuts",
    **options: Unpack[_Sampling],
) -> Fit: ...


@overload
def fit(
    model: PopulationModel,
    data: Dataset,
    *,
    method: MaximumMethod,
    **options: Unpack[_Searching],
) -> MaximumLikelihood: ...


@overload
def fit(
    model: PopulationModel, data: Dataset, *, method: Method, **options: Unpack[_Options]
) -> Fit | MaximumLikelihood: ...


def fit(
    model: PopulationModel,
    data: Dataset,
    *,
    method: Method = "nuts",
    draws: int | None = None,
    tune: int = 1000,
    chains: int = 4,
    cores: int = 2,
    seed: int = 1,
    sampler: Sampler = "nutpie",
    target_accept: float | None = None,
    low_rank: bool | None = None,
    centring: Centring = "auto",
    start: Literal["auto", "model"] | MaximumLikelihood = "auto",
    checkpoint: str | Path | None = None,
    cluster: str | None = None,
    progress: bool = True,
    starts: int = 1,
    iterations: int = 200,
    covariance: Covariance | None = "observed",
) -> Fit | MaximumLikelihood:
    """Fit a population model to data.

    Parameters
    ----------
    model
        Structural model, individual parameters with their spread and priors, residual error.
    data
        From `pkpd.read_nonmem` or `pkpd.read_counts`.
    method
        ``"nuts"``: posterior sample. ``"map"``: mode of the marginal posterior and the normal
        approximation around it, for a quick look. ``"advi"``: mean-field variational
        approximation. ``"focei"``, ``"foce"``, ``"fo"``, ``"laplace"``, ``"laplace-nointer"``:
        maximum likelihood, without priors but a joint one; gives a
        `pkpd.results.MaximumLikelihood`.
    draws, tune, chains, cores, seed, sampler, target_accept, low_rank
        See `pkpd.fitting.bayes.sample.SamplerSettings`. Where a lag ends at a measurement
        (`pkpd.fitting.bayes.walls`) ``draws`` are 3,000, ``target_accept`` is 0.9 and ``low_rank``
        true unless given.
    centring
        ``"auto"``: each random effect of each subject is centred by as much of its variance as the
        subject's data explain at the starting point; ``"centred"``, ``"non-centred"``, or weights
        by parameter, one number or one for each subject.
    start
        ``"auto"``: chains start around the maximum of the penalised marginal likelihood;
        ``"model"``: around the values given with the model; or the result of an earlier maximum
        likelihood fit. ``"map"`` and maximum likelihood start at the model's values alone.
    checkpoint
        Folder: a run that was interrupted goes on from there when called again (NUTS alone).
    cluster
        Address of a Dask scheduler on whose workers chains run, one each (NUTS alone), or
        ``"local"`` for `cores` processes of this machine. Draws are the same for any number of
        workers, and are others than those of chains that run together.
    progress
        Show progress: bars of a sampler, and lines on a maximum likelihood search that takes more
        than a few seconds, on the standard error stream.
    starts, iterations, covariance
        Of maximum likelihood alone: number of starts, the first from the model's values and the
        others drawn widely around them (by ``seed``), 95 % within a factor of 7; most gradients of
        each search; kind of standard errors, ``"observed"``, ``"sandwich"``, ``"scores"`` or
        ``None``. See `pkpd.fitting.maximum.estimate.maximum_likelihood`.

    Returns
    -------
    Fit or MaximumLikelihood
        Posterior draws, or maximum-likelihood estimates.

    Warns
    -----
    PkpdWarning
        Of what is doubtful before the search: see `pkpd.checks.look_before_fit`.

    Raises
    ------
    DataError
        If data and model do not go together, or maximum likelihood has fewer observations than
        parameters.
    PkpdError
        If the likelihood is not finite where the fit would start (the message names the subjects),
        if a setting has no meaning or plays no part in the method, or if all parameters are held
        and the method estimates them.

    Examples
    --------
    >>> import pandas as pd
    >>> import pkpd
    >>> from pkpd.models import PopulationModel, compartments, parameter, residual
    >>> rows = [(n, 0.0, 100.0, 0.0) for n in range(1, 7)]
    >>> for n in range(1, 7):
    ...     for k, t in enumerate((1.0, 4.0, 12.0)):
    ...         rows.append((n, t, 0.0, (3.6 + 0.4 * n) * 0.9**t * (1 + 0.03 * ((n + k) % 3 - 1))))
    >>> table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV"])
    >>> data = pkpd.read_nonmem(table.sort_values(["ID", "TIME"]))
    >>> parameters = [parameter("CL", 2.0), parameter("V", 20.0, iiv=0.2)]
    >>> model = PopulationModel(compartments(1), parameters, residual.proportional(0.1))
    >>> found = pkpd.fit(model, data, method="focei", progress=False)
    >>> found.converged, round(found.estimates["CL"] / found.estimates["V"], 1)
    (True, 0.1)
    """
    for name, given, kind, room in (
        ("model", model, PopulationModel, "models"),
        ("data", data, Dataset, "data"),
    ):
        if not isinstance(given, kind):
            raise PkpdError(
                where=f"fit: {name}",
                what=f"a {type(given).__name__} is no {name}",
                allowed=f"pkpd.{room}.{kind.__name__}",
            )
    check_arguments(
        "fit",
        method=(method, one_of(*METHODS)),
        seed=(seed, from_to(0)),
        starts=(starts, from_to(1)),
        iterations=(iterations, from_to(0)),
        covariance=(covariance, one_of(*get_args(Covariance)) | NONE),
        draws=(draws, from_to(1) | NONE),
        tune=(tune, from_to(1)),
        chains=(chains, from_to(1)),
        cores=(cores, from_to(1)),
        target_accept=(target_accept, SHARE | NONE),
        centring=(centring, TEXT | MAPPING),
        start=(start, TEXT | a(MaximumLikelihood, words="a maximum likelihood fit")),
        cluster=(cluster, TEXT | NONE),
    )
    _refuse_idle(
        method,
        checkpoint=checkpoint, cluster=cluster, tune=tune, cores=cores, sampler=sampler,
        target_accept=target_accept, low_rank=low_rank, draws=draws, chains=chains,
        centring=centring, starts=starts, iterations=iterations, covariance=covariance,
    )  # fmt: skip
    if method in ("focei", "foce", "fo", "laplace", "laplace-nointer"):
        if start != "auto":
            what, remedy = f"method {method!r} starts at the values of the model", "give it others"
            raise PkpdError(where="fit, start", what=what, remedy=f"{remedy} by with_values(...)")
        marginal = MarginalLikelihood(bind(model, data), method)
        none, free = np.zeros(marginal.density.shape), marginal.free
        _look(
            marginal.likelihood,
            lambda values: marginal.density.predict(free.of(values), none),
            priors=model.joint is not None,
        )
        return maximum_of(
            marginal,
            starts=starts,
            seed=seed,
            progress=ProgressLines() if progress else None,
            covariance=covariance,
            iterations=iterations,
        )
    _check_free(model, method)
    # PyMC takes seconds to load, and maximum likelihood has no use for it
    from pkpd.fitting.bayes import posterior
    from pkpd.fitting.bayes.sample import SamplerSettings

    asked = {"draws": draws, "target_accept": target_accept, "low_rank": low_rank}
    own: dict[str, Any] = {name: at for name, at in asked.items() if at is not None}
    settings = SamplerSettings(
        tune=tune, chains=chains, cores=cores, seed=seed, sampler=sampler, progress=progress, **own
    )
    began = time.monotonic()
    likelihood = bind(model, data)
    none: Any = np.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    _look(
        likelihood,
        lambda values: np.asarray(likelihood.quantities(likelihood.fixed(values), none)),
        priors=True,
    )
    _check_start(likelihood)
    idata, made, maximum, notes = posterior.run(
        likelihood,
        method,
        settings,
        centring,
        start,
        None if checkpoint is None else Path(checkpoint),
        cluster,
        given=own,
    )
    record = {
        "method": method,
        **notes,
        "wall_s": round(time.monotonic() - began, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": _versions(),
        "data": {
            "source": data.events.source,
            "subjects": likelihood.n_subjects,
            "observations": len(data.observations),
            "lines": list(data.lines),
        },
        "structure": type(model.structure).__name__,
        "at_maximum": [] if maximum is None else [one.record() for one in maximum.findings],
    }
    made_idata = _finished(idata, likelihood, record)
    return Fit(likelihood, made_idata, made, maximum, record)


def _refuse_idle(method: str, **given: Any) -> None:
    """Refuse options that do nothing in the method, where they are not as usual."""
    usual = inspect.signature(fit).parameters
    for lacks, (methods, options) in _IDLE.items():
        for name in options if method not in methods.split(", ") else ():
            if given[name] != usual[name].default:
                what = f"method {method!r} {lacks}"
                raise PkpdError(where=f"fit, {name}", what=what, allowed=methods)


def _check_free(model: PopulationModel, method: str) -> None:
    """Refuse a model that leaves the method nothing to estimate."""
    free = set(start_values(model)) - held(model)
    if free or (method != "map" and (model.varying or model.occasional)):
        return
    raise PkpdError(
        where=f"fit, method {method!r}",
        what="every population parameter of the model is held",
        remedy="use pkpd.individual(model, data) for the random effects of each subject, or "
        "leave fixed=True out of at least one parameter",
    )


def _look(likelihood: PopulationLikelihood, predict: Predict, *, priors: bool) -> None:
    """Warn of what is doubtful before the search, and refuse what no search could answer."""
    for one in before_fit(likelihood, predict):
        if one.kind == TOO_FEW:
            if not priors:
                raise DataError(str(one))
            if likelihood.model.joint is None:  # who gives a joint prior knows
                warnings.warn(f"{one.what} Priors decide.", PkpdWarning, stacklevel=3)
        if one.severity == "doubtful":
            warnings.warn(str(one), PkpdWarning, stacklevel=3)


def _check_start(likelihood: PopulationLikelihood) -> None:
    """Refuse a model whose typical patient cannot be solved for some subject."""
    fixed = likelihood.fixed(start_values(likelihood.model))
    random: Any = np.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    failed = likelihood.failures(fixed, random)
    if not failed.size:
        return
    refuse_impossible(likelihood, fixed, likelihood.predictions(fixed, random))
    b = int(failed[0])
    values = {
        name: np.asarray(value)
        for name, value in likelihood.individual_parameters(fixed, random).items()
    }
    why = likelihood.predictor.problems(values).get(b, "its likelihood is not finite").rstrip(".")
    raise PkpdError(
        where=f"{likelihood.dataset.events.source}, subject {likelihood.dataset.subjects[b]}"
        + (f" and {failed.size - 1} others" if failed.size > 1 else ""),
        what=f"the model cannot be evaluated at its starting values: {why}",
        remedy="give other starting values, or look at the records of this subject",
    )


def _finished(idata: Any, likelihood: PopulationLikelihood, record: Mapping[str, Any]) -> Any:
    """Keep what is of use, name it, and add the observations and the record."""
    import arviz as az
    import xarray as xr

    wanted = [*start_values(likelihood.model), "eta", "kappa"]
    posterior = idata.posterior
    posterior = posterior[[name for name in wanted if name in posterior]]
    posterior.attrs["record"] = json.dumps(record)
    seen = likelihood.dataset.observations
    observed = xr.Dataset(
        {
            "value": ("observation", seen.value),
            "time_h": ("observation", seen.time),
            "censored": ("observation", seen.censored),
            "line": ("observation", np.array(likelihood.dataset.lines)[seen.line]),
            "observed_subject": (
                "observation",
                np.array([str(s) for s in likelihood.dataset.subjects])[seen.subject],
            ),
        }
    )
    groups = {"posterior": posterior, "observed_data": observed}
    if "sample_stats" in idata.groups():
        groups["sample_stats"] = idata.sample_stats
    return az.InferenceData(**groups)


def _versions() -> dict[str, str]:
    out = {}
    for name in _LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out
