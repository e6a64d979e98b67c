"""NUTS on a ``pm.Model`` with nutpie, PyMC or NumPyro; checkpoints, so that a killed run resumes.

A checkpoint is a folder with the draws of each chain so far and the settings of the run. A chain
that was not finished goes on from its own last draw and adapts step and mass matrix again first.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import arviz as az
import numpy as np
import pymc as pm
import xarray as xr
from threadpoolctl import threadpool_limits

from pkpd.errors import PkpdError, sentence, writing
from pkpd.files import netcdf_bytes, read_netcdf, write_bytes, write_text
from pkpd.fitting.bayes.program import PatientScale, Program, compile_density, pymc_jax
from pkpd.fitting.kept import read_table

Sampler = Literal["nutpie", "pymc", "numpyro"]

_PLACES, _APART = 3, 0.5  # points that tell models apart: how many, how far from the start
_SHORT_TUNE = 200  # of a chain that goes on from a checkpoint
_APART_SEEDS = 1_000_003  # of chains that run apart


@dataclass(frozen=True)
class SamplerSettings:
    """How to sample.

    Attributes
    ----------
    draws, tune, chains
        Draws kept and draws to adapt, for each chain; number of chains.
    cores
        Chains at a time.
    seed
        Seed.
    sampler
        ``"nutpie"``, ``"pymc"`` or ``"numpyro"``.
    target_accept
        Acceptance rate the step size is adapted to.
    low_rank
        Adapt a low-rank mass matrix as well (nutpie), which takes out strong correlations.
    progress
        Show progress with divergences and time left.
    every_s
        Seconds between checkpoints.
    depth
        Largest depth of a tree: a draw takes at most ``2 ** depth`` gradients (nutpie).
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int = 2
    seed: int = 1
    sampler: Sampler = "nutpie"
    target_accept: float = 0.8
    low_rank: bool = False
    progress: bool = True
    every_s: float = 30.0
    depth: int = 10

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        for name in ("draws", "tune", "chains", "cores"):
            if getattr(self, name) < 1:
                raise PkpdError(
                    sentence(where="fit", what=f"{name} = {getattr(self, name)}", allowed="1 up")
                )
        if self.sampler not in ("nutpie", "pymc", "numpyro"):
            raise PkpdError(
                sentence(
                    where="fit",
                    what=f"sampler {self.sampler!r}",
                    allowed="nutpie, pymc, numpyro",
                )
            )
        if self.low_rank and self.sampler != "nutpie":
            what = f"sampler {self.sampler!r} has no low-rank mass matrix"
            raise PkpdError(sentence(where="fit, low_rank", what=what, allowed="nutpie"))


def sample(
    made: pm.Model,
    named: Mapping[str, np.ndarray],
    flat: np.ndarray,
    spread: np.ndarray,
    settings: SamplerSettings,
    checkpoint: Path | None = None,
    scale: PatientScale | None = None,
    program: Program | None = None,
) -> az.InferenceData:
    """Sample the posterior.

    Parameters
    ----------
    made
        Model.
    named
        Starting values by variable name, natural scale.
    flat, spread
        The same point unconstrained, and how far from it chains start.
    settings
        See `SamplerSettings`.
    checkpoint
        Folder of checkpoints (nutpie only).
    scale
        Scale of the patients' variables that the sampler is to see (nutpie only).
    program
        The model as `pkpd.fitting.bayes.program.compile_density` made it, other data in it perhaps
        (nutpie only); compiled here if left out.

    Returns
    -------
    az.InferenceData
        Groups ``posterior`` and ``sample_stats``.
    """
    # matrices of random effects are small: threads of BLAS that wait for one another would take
    # longer than all the rest, most of all where chains share the cores
    with threadpool_limits(1, user_api="blas"):
        return _sample(made, named, flat, spread, settings, checkpoint, scale, program)


def _sample(
    made: pm.Model,
    named: Mapping[str, np.ndarray],
    flat: np.ndarray,
    spread: np.ndarray,
    settings: SamplerSettings,
    checkpoint: Path | None,
    scale: PatientScale | None,
    program: Program | None,
) -> az.InferenceData:
    if settings.sampler == "nutpie":
        return _nutpie(made, flat, spread, settings, checkpoint, scale, program)
    if checkpoint is not None:
        raise PkpdError(
            sentence(
                where=f"checkpoint {checkpoint}",
                what=f"sampler {settings.sampler!r} keeps none",
                allowed="nutpie",
            )
        )
    start: Any = {v.name: named[v.name] for v in made.free_RVs}
    with made:
        if settings.sampler == "pymc":
            # one process: forked workers and JAX's threads do not go together
            return pm.sample(
                draws=settings.draws,
                tune=settings.tune,
                chains=settings.chains,
                cores=1,
                initvals=start,
                random_seed=settings.seed,
                progressbar=settings.progress,
                target_accept=settings.target_accept,
                compute_convergence_checks=False,
            )
        return pymc_jax().sample_numpyro_nuts(
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            initvals=start,
            random_seed=settings.seed,
            progressbar=settings.progress,
            target_accept=settings.target_accept,
            chain_method="vectorized",
        )


def _nutpie(
    made: pm.Model,
    flat: np.ndarray,
    spread: np.ndarray,
    settings: SamplerSettings,
    checkpoint: Path | None,
    scale: PatientScale | None,
    program: Program | None,
) -> az.InferenceData:
    import nutpie

    program = compile_density(made) if program is None else program
    density = [] if checkpoint is None else _densities(program, flat)
    state = _Checkpoint(checkpoint, settings, density)
    missing = state.missing()
    if not missing:
        return state.result()
    begun, seed = state.last_points(), settings.seed + 1000 * state.resumed
    # chains that share a run cannot be told apart where they start
    parts = [[k] for k in missing] if begun else [list(missing)]

    def sampling(chains: list[int], *, bar: bool) -> Any:
        last = begun.get(chains[0])

        def first_point(seed: int) -> np.ndarray:
            if last is not None:
                return last
            point = flat + spread * np.random.default_rng(int(seed)).standard_normal(flat.size)
            return point if scale is None else scale.scaled(point)

        return nutpie.sample(
            program.for_nutpie(first_point, scale),
            draws=max(missing[k] for k in chains),
            tune=settings.tune if last is None else min(_SHORT_TUNE, settings.tune),
            chains=len(chains),
            cores=min(settings.cores, len(chains)),
            seed=seed + (_APART_SEEDS * chains[0] if begun else 0),
            target_accept=settings.target_accept,
            maxdepth=settings.depth,
            low_rank_modified_mass_matrix=settings.low_rank,
            progress_bar=settings.progress and bar,
            save_warmup=False,
            store_unconstrained=checkpoint is not None,
            blocking=False,
        )

    for at in range(0, len(parts), settings.cores):
        several = parts[at : at + settings.cores]
        handles = [sampling(chains, bar=not k) for k, chains in enumerate(several)]
        _waited(state, list(zip(several, handles, strict=True)))
    return state.result()


def _waited(state: _Checkpoint, runs: list[tuple[list[int], Any]]) -> None:
    """Wait for runs of chains, and keep their draws now and then."""
    kept = state.folder is not None
    try:
        while runs:
            chains, handle = runs[0]
            try:
                new = handle.wait(timeout=state.settings.every_s)
            except TimeoutError:
                for others, running in runs if kept else ():
                    state.keep(_so_far(running), others)
                continue
            state.keep(new, chains)
            del runs[0]
    except BaseException as error:
        for chains, handle in runs:
            if kept:
                state.keep(_so_far(handle), chains)
            handle.abort()
        if isinstance(error, RuntimeError):
            raise _stopped(error) from error
        raise


def _densities(program: Program, flat: np.ndarray) -> list[float]:
    """Log densities at the start and near it, which tell models and data apart.

    At the start alone random effects are zero: what only moves those leaves the density as it is.
    """
    apart = _APART * np.random.default_rng(0).standard_normal((_PLACES, flat.size))
    return [float(program.at(point)[0]) for point in (flat, *(flat + apart))]


def _stopped(error: RuntimeError) -> PkpdError:
    """Say in a sentence what the sampler says with the trace of its own language."""
    why = next(
        (line.strip() for line in str(error).splitlines() if line.strip()), "no reason given"
    )
    return PkpdError(
        sentence(
            where="fit",
            what=f"the sampler stopped ({why})",
            remedy='start from a maximum (method="laplace", then start=), or use narrower priors',
        )
    )


def _so_far(handle: Any) -> Any:
    """Draws of a run that goes on; there may be none yet, which is no reason for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return handle.inspect()


class _Checkpoint:
    """Draws of a run so far: of an earlier, interrupted call, and of this one."""

    def __init__(
        self, folder: Path | None, settings: SamplerSettings, density: Sequence[float] = ()
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.chains: dict[int, tuple[xr.Dataset, xr.Dataset]] = {}
        self.resumed = 0
        self._before: dict[int, tuple[xr.Dataset, xr.Dataset]] = {}
        if folder is None:
            return
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        record = folder / "settings.json"
        mine = {k: v for k, v in dataclasses.asdict(settings).items() if k in _SAME}
        if record.exists():
            theirs = read_table(record)
            before = theirs.get("densities", [])
            if len(before) != len(density) or not np.allclose(
                np.asarray(before, dtype=float), density, rtol=1e-5, equal_nan=True
            ):
                raise PkpdError(
                    sentence(
                        where=f"checkpoint {folder}",
                        what="was made with another model, other data or another start",
                        remedy="use the same, or another folder",
                    )
                )
            if {k: theirs.get(k) for k in _SAME} != mine:
                raise PkpdError(
                    sentence(
                        where=f"checkpoint {folder}",
                        what="was made with other settings",
                        allowed=json.dumps({k: theirs.get(k) for k in _SAME}),
                        remedy="use the same settings, or another folder",
                    )
                )
            self.resumed = int(theirs.get("resumed", 0)) + 1
        told = {"resumed": self.resumed, "densities": [*density]}
        write_text(record, json.dumps(mine | told))
        for k in range(settings.chains):
            path = folder / f"chain_{k}.nc"
            if path.exists():
                self._before[k] = (
                    read_netcdf(path, "posterior"),
                    read_netcdf(path, "sample_stats"),
                )
        self.chains = dict(self._before)

    def missing(self) -> dict[int, int]:
        """Draws still to make, by chain."""
        out = {}
        for k in range(self.settings.chains):
            have = self.chains[k][0].sizes["draw"] if k in self.chains else 0
            if have < self.settings.draws:
                out[k] = self.settings.draws - have
        return out

    def last_points(self) -> dict[int, np.ndarray]:
        """Unconstrained last draws of earlier chains ``[n]``, by chain."""
        return {
            k: stats["unconstrained_draw"].isel(draw=-1).values
            for k, (_, stats) in self._before.items()
            if "unconstrained_draw" in stats and stats.sizes["draw"]
        }

    def keep(self, trace: Any, chains: list[int]) -> None:
        """Join new draws to what there was, and write it."""
        if "posterior" not in trace.groups():
            return
        for place, k in enumerate(chains):
            if place >= trace.posterior.sizes["chain"]:
                continue
            new = tuple(
                group.isel(chain=place, drop=True)
                for group in (trace.posterior, trace.sample_stats)
            )
            # chains of a copy taken while they run are padded to one length
            valid = np.flatnonzero(np.isfinite(new[1]["logp"].values))
            new = tuple(group.isel(draw=valid) for group in new)
            if k in self._before:
                new = tuple(
                    xr.concat([old, one], dim="draw")
                    for old, one in zip(self._before[k], new, strict=True)
                )
            new = tuple(group.isel(draw=slice(0, self.settings.draws)) for group in new)
            new = tuple(group.assign_coords(draw=np.arange(group.sizes["draw"])) for group in new)
            self.chains[k] = (new[0], new[1])
            if self.folder is not None and new[0].sizes["draw"]:
                groups: dict[str | None, Any] = {"posterior": new[0], "sample_stats": new[1]}
                write_bytes(self.folder / f"chain_{k}.nc", netcdf_bytes(groups))

    def result(self) -> az.InferenceData:
        """All chains as one ``InferenceData``."""
        order = sorted(self.chains)
        chain = xr.DataArray(np.arange(len(order)), dims="chain", name="chain")
        groups = [xr.concat([self.chains[k][g] for k in order], dim=chain) for g in (0, 1)]
        stats = groups[1].drop_vars("unconstrained_draw", errors="ignore")
        return az.InferenceData(posterior=groups[0], sample_stats=stats)


_SAME = ("draws", "tune", "chains", "seed", "sampler", "target_accept", "low_rank")
