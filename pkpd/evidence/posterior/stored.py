"""The posterior of a calibration: draws, what each study said, diagnostics, record of the run."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.sampling.convergence import Convergence, Limits, check_convergence
from pkpd.evidence.sampling.smc import SMCSettings, prolong, run_smc, settled, with_seed
from pkpd.evidence.sampling.smc_state import SMCRun, Stage
from pkpd.evidence.sampling.workers import Target

Floats = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True)
class EvidencePosterior:
    """Draws from the posterior, and where they come from.

    Attributes
    ----------
    names
        Parameters learned.
    values : float[R, N, d]
        Draws by run; equal weights unless `weights` says otherwise.
    z : float[R, N, d]
        Their scores under the prior.
    by_study : float[R, N, S]
        Log likelihood of each study.
    by_term : float[R, N, T]
        Log predictive probability of each term for a new study.
    studies, terms
        Their names; a term is named by the ids of its rows, joined by ``+``.
    fixed
        Parameters that were not learned.
    log_evidence : float[R]
        Of each run.
    problems
        Why the sampler did not converge; empty if it did.
    record
        Facts on the run: versions, hash of the evidence, settings, seeds, stages.
    weights : float[R, N]
        Sum to 1.
    """

    names: tuple[str, ...]
    values: Floats
    z: Floats
    by_study: Floats
    by_term: Floats
    studies: tuple[str, ...]
    terms: tuple[str, ...]
    fixed: Mapping[str, float]
    log_evidence: Floats
    problems: tuple[str, ...]
    record: Mapping[str, object] = field(default_factory=dict)
    weights: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if self.weights.size == 0:
            runs, n = self.values.shape[:2]
            object.__setattr__(self, "weights", np.full((runs, n), 1.0 / (runs * n)))

    @property
    def converged(self) -> bool:
        """Whether the diagnostics allow its use as a default."""
        return not self.problems

    def require_converged(self, use: str) -> None:
        """Refuse a use unless the sampler converged.

        Raises
        ------
        PkpdError
            Naming the first problem.
        """
        if self.problems:
            raise PkpdError(
                sentence(
                    where=use,
                    what=f"the sampler did not converge: {self.problems[0]}",
                    remedy="run it longer (more particles or final stages), and look at its table",
                )
            )

    def flat(self) -> Floats:
        """Draws of all runs, ``[R N, d]``."""
        return self.values.reshape(-1, len(self.names))

    def chosen(self, n: int, seed: int = 0) -> NDArray[np.int64]:
        """Choose n draws systematically by weight; their places in :meth:`flat`."""
        rng = np.random.default_rng(seed)
        weights = self.weights.ravel()
        order = rng.permutation(len(weights))
        edges = np.cumsum(weights[order])
        points = (rng.random() + np.arange(n)) / n * edges[-1]
        return order[np.minimum(np.searchsorted(edges, points), len(weights) - 1)]

    def draws(self, n: int, seed: int = 0) -> list[dict[str, float]]:
        """Draw n sets of parameters, the fixed ones too, systematically by weight."""
        values = self.flat()
        return [
            {**self.fixed, **dict(zip(self.names, map(float, values[i]), strict=True))}
            for i in self.chosen(n, seed)
        ]

    def thinned(self, n: int, seed: int = 0) -> EvidencePosterior:
        """Keep n draws, chosen systematically by weight, as one run of equal weights.

        Diagnostics and record stay those of the whole sample; the record says that it was thinned.
        """
        places = self.chosen(n, seed)

        def kept(x: Floats) -> Floats:
            return x.reshape(-1, *x.shape[2:])[places][None]

        return replace(
            self,
            values=kept(self.values),
            z=kept(self.z),
            by_study=kept(self.by_study),
            by_term=kept(self.by_term),
            weights=np.full((1, n), 1.0 / n),
            record={**self.record, "thinned": {"from": self.weights.size, "to": n}},
        )

    def mean(self) -> dict[str, float]:
        """Posterior means."""
        means = self.weights.ravel() @ self.flat()
        return dict(zip(self.names, map(float, means), strict=True))

    def quantiles(self, levels: Sequence[float] = (0.05, 0.5, 0.95)) -> dict[str, Floats]:
        """Weighted quantiles of each parameter."""
        values, weights = self.flat(), self.weights.ravel()
        answer = {}
        for index, name in enumerate(self.names):
            order = np.argsort(values[:, index])
            cumulative = np.cumsum(weights[order]) - 0.5 * weights[order]
            answer[name] = np.interp(levels, cumulative, values[order, index])
        return answer

    def save(self, path: str | Path, *, default: bool = False) -> None:
        """Write as netCDF.

        Parameters
        ----------
        path
            File.
        default
            Whether it is to be the posterior that predictions use by default; refused unless the
            sampler converged.
        """
        if default:
            self.require_converged(f"default posterior {path}")
        data = xr.Dataset(
            {
                "values": (("run", "draw", "parameter"), self.values),
                "z": (("run", "draw", "parameter"), self.z),
                "by_study": (("run", "draw", "study"), self.by_study.astype(np.float32)),
                "by_term": (("run", "draw", "term"), self.by_term.astype(np.float32)),
                "weights": (("run", "draw"), self.weights),
                "log_evidence": (("sampler_run",), self.log_evidence),
            },
            coords={
                "parameter": list(self.names),
                "study": list(self.studies),
                "term": list(self.terms),
            },
            attrs={
                "format": FORMAT,
                "fixed": json.dumps(dict(self.fixed)),
                "problems": json.dumps(list(self.problems)),
                "record": json.dumps(dict(self.record)),
                "default": int(default),
            },
        )
        packed = {name: {"zlib": True, "complevel": 5} for name in ("values", "z", "by_study")}
        packed["by_term"] = {"zlib": True, "complevel": 5}
        data.to_netcdf(path, engine="h5netcdf", encoding=packed)


def load_posterior(path: str | Path, *, default: bool = False) -> EvidencePosterior:
    """Read a posterior.

    Parameters
    ----------
    path
        File of :meth:`EvidencePosterior.save`.
    default
        Whether it is to be used as the default; refused unless it was saved as one and converged.
    """
    if not Path(path).is_file():
        raise PkpdError(
            sentence(where=str(path), what="there is no such file", remedy="check the path")
        )
    try:
        with xr.open_dataset(path, engine="h5netcdf") as data:
            data.load()
            posterior = EvidencePosterior(
                names=tuple(map(str, data["parameter"].values)),
                values=data["values"].to_numpy(),
                z=data["z"].to_numpy(),
                by_study=data["by_study"].to_numpy().astype(np.float64),
                by_term=data["by_term"].to_numpy().astype(np.float64),
                studies=tuple(map(str, data["study"].values)),
                terms=tuple(map(str, data["term"].values)),
                fixed=json.loads(data.attrs["fixed"]),
                log_evidence=data["log_evidence"].to_numpy(),
                problems=tuple(json.loads(data.attrs["problems"])),
                record=json.loads(data.attrs["record"]),
                weights=data["weights"].to_numpy(),
            )
            shipped = bool(data.attrs["default"])
    except (OSError, KeyError, ValueError) as error:
        raise PkpdError(
            sentence(
                where=str(path),
                what="it is no posterior of a calibration",
                remedy="name a file that fits/evidence/calibrate.py wrote",
            )
        ) from error
    if default:
        posterior.require_converged(f"default posterior {path}")
        if not shipped:
            raise PkpdError(
                sentence(
                    where=str(path),
                    what="the posterior was not saved as a default",
                    remedy="save it with default=True",
                )
            )
    return posterior


def target_of(likelihood: EvidenceLikelihood) -> Target:
    """Give the function that the sampler evaluates: total, and pieces by study and by term."""

    def target(theta: Mapping[str, float]) -> tuple[float, Floats]:
        answer = likelihood(theta)
        return answer.total, np.concatenate([answer.by_study, answer.by_term])

    return target


def calibrate(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    settings: SMCSettings,
    *,
    runs: int = 2,
    most_rounds: int = 0,
    folder: str | Path | None = None,
    limits: Limits | None = None,
    facts: Mapping[str, object] | None = None,
    on_stage: object = None,
) -> tuple[EvidencePosterior, Convergence]:
    """Sample the posterior of a table in independent runs.

    Parameters
    ----------
    prior
        Priors of the parameters to learn.
    likelihood
        Likelihood of the table.
    settings
        Settings of the first run; each further run has the next seed.
    runs
        Number of runs.
    most_rounds
        While the runs do not agree, their chains go on together for a stage, so many times at most
        (:func:`pkpd.evidence.sampling.smc.prolong`).
    folder
        Where checkpoints are kept; calibrating again with the same folder goes on from them.
    limits
        What the diagnostics must meet.
    facts
        Anything to keep in the record (model variant, patients per arm).
    on_stage
        ``on_stage(run, stage, evaluations)`` after each stage.
    """
    label = evidence_hash(likelihood)
    target = target_of(likelihood)
    finished: list[SMCRun] = []

    def arguments(run: int) -> dict[str, object]:
        def told(stage: Stage, evaluations: int) -> None:
            if callable(on_stage):
                on_stage(run, stage, evaluations)

        file = Path(folder) / f"run{run + 1}.npz" if folder is not None else None
        return {"checkpoint": file, "label": label, "on_stage": told}

    own = [with_seed(settings, settings.seed + run) for run in range(runs)]
    for run in range(runs):
        finished.append(run_smc(prior, target, own[run], **arguments(run)))  # pyright: ignore
    while due := due_to_go_on(finished, prior.names, settings, most_rounds, limits):
        finished = [
            prolong(one, prior, target, own[run], others_of(finished, run), **arguments(run))  # pyright: ignore
            if run in due
            else one
            for run, one in enumerate(finished)
        ]
    convergence = checked(finished, prior.names, settings, limits)
    return gather(prior, likelihood, finished, settings, convergence, facts), convergence


def others_of(runs: Sequence[SMCRun], index: int) -> list[SMCRun]:
    """All runs but one."""
    return [run for k, run in enumerate(runs) if k != index]


def due_to_go_on(
    runs: Sequence[SMCRun],
    names: Sequence[str],
    settings: SMCSettings,
    most_rounds: int,
    limits: Limits | None = None,
) -> tuple[int, ...]:
    """Which runs have to go on for a stage: all while they disagree, none at the end.

    Of runs that were interrupted within a round, those that are behind.
    """
    done = [run.final_done for run in runs]
    if len(set(done)) > 1:
        return tuple(k for k, stages in enumerate(done) if stages == min(done))
    over = done[0] >= settings.final_stages + most_rounds
    if over or checked(runs, names, settings, limits).converged:
        return ()
    return tuple(range(len(runs)))


def checked(
    runs: Sequence[SMCRun],
    names: Sequence[str],
    settings: SMCSettings,
    limits: Limits | None = None,
) -> Convergence:
    """Diagnostics of the settled part of the runs."""
    kept = [settled(run, settings.chains) for run in runs]
    return check_convergence(kept, names, settings.chains, limits)


def gather(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    runs: Sequence[SMCRun],
    settings: SMCSettings,
    convergence: Convergence,
    facts: Mapping[str, object] | None = None,
) -> EvidencePosterior:
    """Put the settled part of finished runs together."""
    runs = [settled(run, settings.chains) for run in runs]
    z = np.stack([run.z for run in runs])
    pieces = np.stack([run.pieces for run in runs])
    split = len(likelihood.studies)
    record = {
        "pkpd": metadata.version("pkpd"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "written": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "evidence": evidence_hash(likelihood),
        "rows": sum(len(term.rows) for term in likelihood.terms),
        "settings": asdict(settings),
        "switches": _plain(asdict(likelihood.switches)),
        "seeds": [settings.seed + index for index in range(len(runs))],
        "evaluations": [run.evaluations for run in runs],
        "failed": [run.failed for run in runs],
        "stages": [[asdict(stage) for stage in run.stages] for run in runs],
        "rhat": dict(zip(convergence.names, map(float, convergence.rhat), strict=True)),
        "ess": dict(zip(convergence.names, map(float, convergence.ess), strict=True)),
        **(facts or {}),
    }
    return EvidencePosterior(
        names=prior.names,
        values=prior.values(z),
        z=z,
        by_study=pieces[..., :split],
        by_term=pieces[..., split:],
        studies=likelihood.studies,
        terms=tuple("+".join(row.id for row in term.rows) for term in likelihood.terms),
        fixed=prior.fixed,
        log_evidence=np.array([run.log_evidence for run in runs]),
        problems=convergence.problems,
        record=record,
    )


def evidence_hash(likelihood: EvidenceLikelihood) -> str:
    """Hash of all that the likelihood takes from the table."""
    parts = [
        repr((term.kind, term.power, term.readings, [_told(row) for row in term.rows]))
        for term in likelihood.terms
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _told(row: object) -> tuple[object, ...]:
    names = ("id", "study", "arm", "other_arm", "n", "value", "lower", "upper", "limits")
    return tuple(getattr(row, name) for name in (*names, "numerator", "denominator"))


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {
        name: sorted(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str)
        else value
        for name, value in values.items()
    }  # fmt: skip
