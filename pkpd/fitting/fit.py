"""`fit`: from a population model and data to a posterior or to maximum-likelihood estimates."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
import pandas as pd

from pkpd.arguments import MAPPING, NONE, SHARE, TEXT, Kind, check_arguments, from_to, one_of
from pkpd.cards.files import nearest_of
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError, sentence, writing
from pkpd.fitting.draws import Draws
from pkpd.fitting.maximum.marginal import Method as MaximumMethod
from pkpd.fitting.maximum.progress import ProgressLines
from pkpd.fitting.maximum.standard_errors import Covariance
from pkpd.fitting.model.likelihood import PopulationLikelihood, bind
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.fitting.model.specification import PopulationModel

if TYPE_CHECKING:
    import pymc as pm

    from pkpd.fitting.maximum.estimate import MaximumLikelihood

PosteriorMethod = Literal["nuts", "map", "advi"]
Method = PosteriorMethod | MaximumMethod
METHODS: tuple[str, ...] = (*get_args(PosteriorMethod), *get_args(MaximumMethod))
Sampler = Literal["nutpie", "pymc", "numpyro"]
Centring = Literal["auto", "centred", "non-centred"] | Mapping[str, float | Sequence[float]]

_APPROXIMATE = (
    "Independent draws of an approximation to the posterior; no chains were sampled.",
    "Compare with NUTS before an interval is quoted.",
)
_LIBRARIES = ("pkpd", "jax", "numpy", "pymc", "pytensor", "nutpie", "arviz")


@dataclass(frozen=True, eq=False)
class Fit:
    """A posterior sample with all that made it.

    Attributes
    ----------
    likelihood
        Model bound to data.
    idata
        ``posterior`` (population parameters, ``eta``, ``kappa``), ``sample_stats``,
        ``observed_data``, and the run record in its attributes.
    pymc_model
        The ``pm.Model``; ``None`` after loading from a file.
    maximum
        Maximum of the penalised marginal likelihood the chains started from, if there was one.
    record
        What was run: method, settings, seeds, versions, wall time, failed solves.
    """

    likelihood: PopulationLikelihood
    idata: Any
    pymc_model: pm.Model | None = None
    maximum: MaximumLikelihood | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> PopulationModel:
        """The population model."""
        return self.likelihood.model

    @property
    def dataset(self) -> Dataset:
        """The data."""
        return self.likelihood.dataset

    @cached_property
    def draws(self) -> Draws:
        """Posterior draws, chains one after the other."""
        return posterior_draws(self.likelihood, self.idata)

    @property
    def by_chains(self) -> bool:
        """Whether chains were sampled, whose mixing can be judged."""
        return self.record.get("method", "nuts") == "nuts"

    def table(self, *, interval: float = 0.9) -> pd.DataFrame:
        """Summarise the population parameters: mean, median, interval, and sampler diagnostics.

        Without the latter where nothing was sampled by chains; without rows where all are held.
        """
        import arviz as az

        names = [n for n in start_values(self.model) if n in self.idata.posterior]
        if not names:
            return pd.DataFrame(index=pd.Index([], name="parameter"))
        out: Any = az.summary(
            self.idata, var_names=names, hdi_prob=interval, round_to="none", kind="all"
        )
        low, high = (1 - interval) / 2, (1 + interval) / 2
        stacked = {n: self.idata.posterior[n].values.ravel() for n in names}
        out.insert(2, "median", [float(np.median(stacked[n])) for n in names])
        out.insert(3, f"q{100 * low:g}", [float(np.quantile(stacked[n], low)) for n in names])
        out.insert(4, f"q{100 * high:g}", [float(np.quantile(stacked[n], high)) for n in names])
        unwanted = ("hdi_",) if self.by_chains else ("hdi_", "mcse", "ess", "r_hat")
        return out.drop(columns=[c for c in out.columns if c.startswith(unwanted)])

    def summary(self) -> str:
        """Tell the fit in text: what was run, the parameters, and what the sampler says."""
        from pkpd.fitting.checks.diagnostics import sampler_diagnostics

        table = self.table()
        kept = ["mean", "sd", "median", "q5", "q95", "ess_bulk", "r_hat"]
        shown = table[[c for c in kept if c in table]].map(lambda x: f"{x:.4g}")
        took = self.record.get("wall_s")
        head = f"{self!r}" + (f", {took:.0f} s" if isinstance(took, int | float) else "")
        names = [str(name) for name in table.index]
        words: tuple[str, ...] = _APPROXIMATE
        if self.by_chains:
            words = sampler_diagnostics(self.idata, names).sentences
        told = shown.to_string() if names else "All population parameters are held."
        return "\n".join((head, "", told, "", *words))

    def save(self, path: str | Path) -> None:
        """Write draws and run record as netCDF; read them back with `pkpd.load_fit`.

        Raises
        ------
        PkpdError
            If the file cannot be written.
        """
        with writing(path):
            self.idata.to_netcdf(str(path))

    def __repr__(self) -> str:
        """Tell what it is in a line."""
        sizes = self.idata.posterior.sizes
        return (
            f"Fit({self.record.get('method', 'nuts')}: {sizes['chain']} x {sizes['draw']} draws, "
            f"{self.likelihood.n_subjects} subjects)"
        )


class _Shared(TypedDict, total=False):
    seed: int
    progress: bool


class _Sampling(_Shared, total=False):
    draws: int
    tune: int
    chains: int
    cores: int
    sampler: Sampler
    target_accept: float
    low_rank: bool
    centring: Centring
    start: Literal["auto", "model"] | MaximumLikelihood
    checkpoint: str | Path | None


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
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    cores: int = 2,
    seed: int = 1,
    sampler: Sampler = "nutpie",
    target_accept: float = 0.8,
    low_rank: bool = False,
    centring: Centring = "auto",
    start: Literal["auto", "model"] | MaximumLikelihood = "auto",
    checkpoint: str | Path | None = None,
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
        approximation. ``"focei"``, ``"foce"``, ``"fo"``, ``"laplace"``: maximum likelihood, without
        priors; gives a `pkpd.results.MaximumLikelihood`.
    draws, tune, chains, cores, seed, sampler, target_accept, low_rank
        See `pkpd.fitting.bayes.sample.SamplerSettings`.
    centring
        ``"auto"``: each random effect of each subject is centred by as much of its variance as the
        subject's data explain at the starting point; ``"centred"``, ``"non-centred"``, or weights
        by parameter, one number or one for each subject.
    start
        ``"auto"``: chains start around the maximum of the penalised marginal likelihood;
        ``"model"``: around the values given with the model; or the result of an earlier maximum
        likelihood fit.
    checkpoint
        Folder: a run that was interrupted goes on from there when called again.
    progress
        Show progress: bars of a sampler, and lines on a maximum likelihood search that takes more
        than a few seconds, on the standard error stream.
    starts, iterations, covariance
        Of maximum likelihood alone: number of starts, the first from the model's values and the
        others moved from there at random (by ``seed``); most gradients of each search; kind of
        standard errors, ``"observed"``, ``"sandwich"``, ``"scores"`` or ``None``. See
        `pkpd.fitting.maximum.estimate.maximum_likelihood`.

    Returns
    -------
    Fit or MaximumLikelihood
        Posterior draws, or maximum-likelihood estimates.

    Raises
    ------
    DataError
        If data and model do not go together.
    PkpdError
        If the likelihood is not finite where the fit would start (the message names the subjects),
        if a setting has no meaning, or if all parameters are held and the method estimates them.
    """
    for name, given, kind, room in (
        ("model", model, PopulationModel, "models"),
        ("data", data, Dataset, "data"),
    ):
        if not isinstance(given, kind):
            raise PkpdError(
                sentence(
                    where=f"fit: {name}",
                    what=f"a {type(given).__name__} is no {name}",
                    allowed=f"pkpd.{room}.{kind.__name__}",
                )
            )
    check_arguments("fit", seed=(seed, from_to(0)))
    if method in ("focei", "foce", "fo", "laplace"):
        check_arguments(
            "fit",
            starts=(starts, from_to(1)),
            iterations=(iterations, from_to(0)),
            covariance=(covariance, one_of(*get_args(Covariance)) | NONE),
        )
        from pkpd.fitting.maximum.estimate import maximum_likelihood

        return maximum_likelihood(
            model,
            data,
            method=method,
            starts=starts,
            seed=seed,
            progress=ProgressLines() if progress else None,
            covariance=covariance,
            iterations=iterations,
        )
    if method not in ("nuts", "map", "advi"):
        raise PkpdError(
            sentence(
                where="fit",
                what=f"method {method!r}{nearest_of(str(method), METHODS)}",
                allowed=", ".join(METHODS),
            )
        )
    _check_free(model, method)
    check_arguments(
        "fit",
        draws=(draws, from_to(1)),
        tune=(tune, from_to(1)),
        chains=(chains, from_to(1)),
        cores=(cores, from_to(1)),
        target_accept=(target_accept, SHARE),
        centring=(centring, TEXT | MAPPING),
        start=(start, TEXT | Kind("a maximum likelihood fit", lambda s: hasattr(s, "estimates"))),
    )
    from pkpd.fitting.bayes import posterior
    from pkpd.fitting.bayes.sample import SamplerSettings

    settings = SamplerSettings(
        draws, tune, chains, cores, seed, sampler, target_accept, low_rank, progress
    )
    began = time.monotonic()
    likelihood = bind(model, data)
    _check_start(likelihood)
    idata, made, maximum, notes = posterior.run(
        likelihood,
        method,
        settings,
        centring,
        start,
        None if checkpoint is None else Path(checkpoint),
    )
    record = {
        "method": method,
        "settings": dataclasses.asdict(settings),
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
    }
    made_idata = _finished(idata, likelihood, record)
    return Fit(likelihood, made_idata, made, maximum, record)


def _check_free(model: PopulationModel, method: str) -> None:
    """Refuse a model that leaves the method nothing to estimate."""
    free = set(start_values(model)) - held(model)
    if free or (method != "map" and (model.varying or model.occasional)):
        return
    raise PkpdError(
        sentence(
            where=f"fit, method {method!r}",
            what="every population parameter of the model is held",
            remedy="use pkpd.individual(model, data) for the random effects of each subject, or "
            "leave fixed=True out of at least one parameter",
        )
    )


def posterior_draws(likelihood: PopulationLikelihood, idata: Any) -> Draws:
    """Collect the draws of an ``InferenceData``, chains one after the other."""
    posterior = idata.posterior
    n = posterior.sizes["chain"] * posterior.sizes["draw"]
    population = {}
    for name, value in start_values(likelihood.model).items():
        known = name in posterior
        population[name] = posterior[name].values.ravel() if known else np.full(n, value)
    parts = []
    for name in ("eta", "kappa"):
        if name in posterior:
            parts.append(posterior[name].values.reshape(n, likelihood.n_subjects, -1))
    random = np.concatenate(parts, axis=-1) if parts else np.zeros((n, likelihood.n_subjects, 0))
    return Draws(likelihood, population, random)


def _check_start(likelihood: PopulationLikelihood) -> None:
    """Refuse a model whose typical patient cannot be solved for some subject."""
    fixed = likelihood.fixed(start_values(likelihood.model))
    random: Any = np.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    failed = likelihood.failures(fixed, random)
    if not failed.size:
        return
    b = int(failed[0])
    values = {
        name: np.asarray(value)
        for name, value in likelihood.individual_parameters(fixed, random).items()
    }
    why = likelihood.predictor.problems(values).get(b, "its likelihood is not finite")
    raise PkpdError(
        sentence(
            where=f"{likelihood.dataset.events.source}, subject {likelihood.dataset.subjects[b]}"
            + (f" and {failed.size - 1} others" if failed.size > 1 else ""),
            what=f"the model cannot be evaluated at its starting values: {why}",
            remedy="give other starting values, or look at the records of this subject",
        )
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
