"""The posterior of a calibration: draws, what each study said, diagnostics, record of the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os.path import isfile  # also for a name longer than the system takes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.summaries import weighted_quantiles
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.table.rows import EvidenceRow
from pkpd.files import read_arrays, write_netcdf
from pkpd.leukaemia.parameters import LANDED
from pkpd.marrow.variants import VARIANTS, Variant

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
        Their names; a term is named by the ids of its rows, each with its
        study first, joined by ``+``.
    fixed
        Parameters that were not learned.
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
    problems: tuple[str, ...]
    record: Mapping[str, object] = field(default_factory=dict)
    weights: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if self.weights.size == 0:
            runs, n = self.values.shape[:2]
            object.__setattr__(self, "weights", np.full((runs, n), 1.0 / (runs * n)))

    def __repr__(self) -> str:
        """Tell structure, sizes and whether the sampler converged."""
        runs, each = self.values.shape[:2]
        effective = 1.0 / float(np.sum(self.weights**2)) if self.weights.size else 0.0
        weighed = "" if effective > 0.999 * runs * each else f", of which {effective:.0f} count"
        verdict = "converged" if self.converged else f"NOT CONVERGED ({self.problems[0]})"
        return (
            f"EvidencePosterior({self.structure}: {runs} runs of {each} draws{weighed}, "
            f"{len(self.names)} parameters, {len(self.studies)} studies, {len(self.terms)} terms, "
            f"{verdict})"
        )

    @property
    def converged(self) -> bool:
        """Whether the diagnostics allow its use as a default."""
        return not self.problems

    @property
    def structure(self) -> str:
        """Name of the structure of the marrow that it was learned with."""
        return str(self.record.get("variant", LANDED))

    @property
    def variant(self) -> Variant:
        """Mechanisms of that structure.

        Raises
        ------
        PkpdError
            If no structure has that name: its draws cannot be simulated by name.
        """
        if self.structure not in VARIANTS:
            raise PkpdError(
                where="posterior",
                what=f"it was learned with the structure {self.structure!r}, which no card names",
                allowed=", ".join(VARIANTS),
                remedy="learn it with a named structure (`variant`)",
            )
        return VARIANTS[self.structure]

    def require_converged(self, use: str) -> None:
        """Refuse a use unless the sampler converged.

        Raises
        ------
        PkpdError
            Naming the first problem.
        """
        if self.problems:
            raise PkpdError(
                where=use,
                what=f"the sampler did not converge: {self.problems[0]}",
                remedy="run it longer (more simulations or draws), and look at its table",
            )

    @cached_property
    def digits(self) -> str:
        """Hash of all that predictions take from it: the same from memory and from a file."""
        digest = hashlib.sha256()
        digest.update("\n".join((self.structure, *self.names)).encode())
        for part in (self.values, self.weights):
            digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
        digest.update(json.dumps(dict(sorted(self.fixed.items()))).encode())
        return digest.hexdigest()

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
        columns, weights = self.flat().T, self.weights.ravel()
        return {
            name: weighted_quantiles(column, weights, levels)
            for name, column in zip(self.names, columns, strict=True)
        }

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
        import xarray as xr

        if default:
            self.require_converged(f"default posterior {path}")
        data = xr.Dataset(
            {
                "values": (("run", "draw", "parameter"), self.values),
                "z": (("run", "draw", "parameter"), self.z),
                "by_study": (("run", "draw", "study"), self.by_study.astype(np.float32)),
                "by_term": (("run", "draw", "term"), self.by_term.astype(np.float32)),
                "weights": (("run", "draw"), self.weights),
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
        write_netcdf(path, data, encoding=packed)


def load_posterior(path: str | Path, *, default: bool = False) -> EvidencePosterior:
    """Read a posterior.

    Parameters
    ----------
    path
        File of :meth:`EvidencePosterior.save`.
    default
        Whether it is to be used as the default; refused unless it was saved as one and converged.
    """
    if not isfile(path):
        raise PkpdError(where=str(path), what="there is no such file", remedy="check the path")
    try:
        data, attrs = read_arrays(path)
        posterior = EvidencePosterior(
            names=tuple(map(str, data["parameter"])),
            values=data["values"],
            z=data["z"],
            by_study=data["by_study"].astype(np.float64),
            by_term=data["by_term"].astype(np.float64),
            studies=tuple(map(str, data["study"])),
            terms=tuple(map(str, data["term"])),
            fixed=json.loads(attrs["fixed"]),
            problems=tuple(json.loads(attrs["problems"])),
            record=json.loads(attrs["record"]),
            weights=data["weights"],
        )
        shipped = bool(attrs["default"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise PkpdError(
            where=str(path),
            what="it is no posterior of a calibration",
            remedy="name a file that fits/evidence/learn.py wrote; a fit needs its model and data: "
            "pkpd.compare(..., posterior=pkpd.load_fit(file, model, data))",
        ) from error
    if default:
        posterior.require_converged(f"default posterior {path}")
        if not shipped:
            raise PkpdError(
                where=str(path),
                what="the posterior was not saved as a default",
                remedy="save it with default=True",
            )
    return posterior


def evidence_hash(likelihood: EvidenceLikelihood) -> str:
    """Hash of all that the likelihood takes from the table."""
    parts = [
        repr((term.kind, term.power, term.readings, [_told(row) for row in term.rows]))
        for term in likelihood.terms
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _told(row: EvidenceRow) -> tuple[object, ...]:
    names = ("id", "study", "arm", "other_arm", "n", "value", "lower", "upper", "limits")
    told = tuple(getattr(row, name) for name in (*names, "numerator", "denominator"))
    return (*told, row.population.age)
