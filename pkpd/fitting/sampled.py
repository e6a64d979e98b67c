"""A posterior that was sampled: `Fit`, with its table, its words and its file."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pkpd.data.dataset import Dataset
from pkpd.files import write_groups
from pkpd.fitting.checks.diagnostics import SamplerDiagnostics, sampler_diagnostics
from pkpd.fitting.draws import Draws
from pkpd.fitting.judge.findings import Finding, finding_of, findings_table, in_order, told
from pkpd.fitting.maximum.description import description
from pkpd.fitting.maximum.predicted import predicted
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.specification import PopulationModel

if TYPE_CHECKING:
    import pymc as pm

_APPROXIMATE = (
    "Independent draws of an approximation to the posterior; no chains were sampled.",
    "Compare with NUTS before an interval is quoted.",
)


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

    @cached_property
    def diagnostics(self) -> SamplerDiagnostics | None:
        """What the sampler says of its draws; ``None`` where no chains were sampled."""
        if not self.by_chains:
            return None
        names = [n for n in start_values(self.model) if n in self.idata.posterior]
        return sampler_diagnostics(self.idata, names)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What deserves attention, the gravest first; each prints as a sentence.

        Of the sampler, and of the maximum from which draws or chains were begun: all that is
        doubtful there where draws are about it, what rests on its start where chains are.
        """
        at_zero = tuple(Finding("at zero", "doubtful", message) for message in self.messages)
        own = at_zero if self.diagnostics is None else self.diagnostics.findings
        return in_order((*own, *self._at_maximum))

    @property
    def _at_maximum(self) -> tuple[Finding, ...]:
        found = map(finding_of, self.record.get("at_maximum", ()))
        return tuple(
            one
            for one in found
            if one.severity != "note" and one.kind != "at zero"
            if not self.by_chains or one.kind == "rests on start"
        )

    @property
    def judged(self) -> pd.DataFrame:
        """The findings as a table, see `pkpd.fitting.judge.findings.findings_table`."""
        return findings_table(self.findings)

    @property
    def messages(self) -> tuple[str, ...]:
        """Sentences on what an approximation leaves out."""
        return tuple(
            f"The mode of {name} is at zero, where it has no curvature: it stays there in every "
            "draw. NUTS tells how large it may be."
            for name in self.record.get("at_zero", ())
        )

    def table(self, *, interval: float = 0.9) -> pd.DataFrame:
        """Summarise the population parameters: mean, median, interval, and sampler diagnostics.

        Without the latter where nothing was sampled by chains; without rows where all are held.
        """
        import arviz as az

        names = [n for n in start_values(self.model) if n in self.idata.posterior]
        if not names:
            return pd.DataFrame(index=pd.Index([], name="parameter"))
        kind: Any = "all" if self.by_chains else "stats"
        out: Any = az.summary(
            self.idata, var_names=names, hdi_prob=interval, round_to="none", kind=kind
        )
        low, high = (1 - interval) / 2, (1 + interval) / 2
        stacked = {n: self.idata.posterior[n].values.ravel() for n in names}
        out.insert(2, "median", [float(np.median(stacked[n])) for n in names])
        out.insert(3, f"q{100 * low:g}", [float(np.quantile(stacked[n], low)) for n in names])
        out.insert(4, f"q{100 * high:g}", [float(np.quantile(stacked[n], high)) for n in names])
        return out.drop(columns=[c for c in out.columns if c.startswith("hdi_")])

    def summary(self) -> str:
        """Tell the fit in text: what was run, the parameters, and what the sampler says."""
        table = self.table()
        kept = ["mean", "sd", "median", "q5", "q95", "ess_bulk", "r_hat"]
        shown = table[[c for c in kept if c in table]].map(lambda x: f"{x:.4g}")
        took = self.record.get("wall_s")
        head = f"{self!r}" + (f", {took:.0f} s" if isinstance(took, int | float) else "")
        names = [str(name) for name in table.index]
        words: tuple[str, ...] = (*self.messages, *_APPROXIMATE)
        if self.diagnostics is not None:
            words = self.diagnostics.sentences
        shown_table = shown.to_string() if names else "All population parameters are held."
        return "\n".join((head, "", shown_table, "", *told(self._at_maximum), *words))

    def save(self, path: str | Path) -> None:
        """Write draws and run record as netCDF; read them back with `pkpd.load_fit`.

        Raises
        ------
        PkpdError
            If the file cannot be written.
        """
        import arviz as az

        groups = {name: self.idata[name] for name in self.idata.groups()}
        about = description(FreeParameters(self.likelihood), priors=True)
        about["predicted"] = predicted(self.likelihood)
        groups["posterior"] = groups["posterior"].assign_attrs(about=json.dumps(about))
        write_groups(path, az.InferenceData(**groups))

    def _repr_html_(self) -> str:
        """Summary for notebooks."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def __repr__(self) -> str:
        """Tell what it is in a line."""
        sizes = self.idata.posterior.sizes
        return (
            f"Fit({self.record.get('method', 'nuts')}: {sizes['chain']} x {sizes['draw']} draws, "
            f"{self.likelihood.n_subjects} subjects)"
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
