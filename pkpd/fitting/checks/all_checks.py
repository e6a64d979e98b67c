"""All checks of a fit in one call.

Everything is worked out when it is first asked for and then kept; `check` works out what the page
and the summary need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from pkpd.data.dataset import BELOW, Dataset
from pkpd.fitting.checks.counts import CountCheck, count_checks
from pkpd.fitting.checks.curves import Curves, individual_curves
from pkpd.fitting.checks.diagnostics import SamplerDiagnostics, sampler_diagnostics
from pkpd.fitting.checks.leave_one_out import FEWEST, LeaveOneOut, leave_one_out
from pkpd.fitting.checks.npde import PredictionErrors, prediction_errors
from pkpd.fitting.checks.parameters import (
    correlation_errors,
    correlations,
    parameter_table,
    table_sentences,
)
from pkpd.fitting.checks.priors import Contraction, contractions, prior_draws
from pkpd.fitting.checks.replicates import Simulations, draws_of, simulate_replicates
from pkpd.fitting.checks.residuals import Residuals, residuals
from pkpd.fitting.checks.shrinkage import Shrinkage, shrinkage
from pkpd.fitting.checks.vpc import VPC, vpc
from pkpd.fitting.draws import Draws, Fitted
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values

SMALL_P = 0.01
"""Probability of npde as odd as these under the model, below which the verdict says so."""


LEVEL = 0.95
"""Of the intervals of parameters, as in the table of a fit."""


@dataclass(frozen=True, eq=False)
class Checks:
    """Checks of one fit.

    Attributes
    ----------
    fit
        What was checked: `pkpd.results.Fit`, a maximum-likelihood result, or `Draws`.
    draws
        Its draws.
    idata
        Its ``InferenceData``; ``None`` for maximum likelihood.
    replicates
        Replicates simulated.
    seed
        Seed of everything random.
    lloq
        Limits of quantification the data do not name.
    quick
        Whether the verdict leaves out what needs many solutions of the model (leave-one-out).
    """

    fit: Fitted
    draws: Draws
    idata: Any
    replicates: int
    seed: int
    lloq: float | Mapping[str, float] | None
    quick: bool

    def __repr__(self) -> str:
        """Tell what was checked and how much was found wrong; `summary` has it all."""
        n = len(self.problems)
        found = f"{n} {'problem' if n == 1 else 'problems'}" if n else "no problems"
        return f"Checks({self.fit!r}: {found}, {len(self.remarks)} in order; see summary())"

    @property
    def likelihood(self) -> PopulationLikelihood:
        """Model and data."""
        return self.draws.likelihood

    @property
    def dataset(self) -> Dataset:
        """The data."""
        return self.likelihood.dataset

    @property
    def sampled(self) -> bool:
        """Whether the draws are of a posterior."""
        return len(self.draws) > 1

    @cached_property
    def record(self) -> dict[str, Any]:
        """The run record of the fit, and how it was checked."""
        kept = dict(getattr(self.fit, "record", None) or {})
        if not kept and hasattr(self.fit, "estimates"):
            known = ("method", "converged", "objective", "iterations", "evaluations", "seconds")
            kept = {name: getattr(self.fit, name) for name in known if hasattr(self.fit, name)}
        return kept | {"checks": {"replicates": self.replicates, "seed": self.seed}}

    @cached_property
    def sampler(self) -> SamplerDiagnostics | None:
        """Diagnostics of the sampler; ``None`` where nothing was sampled by chains."""
        if self.idata is None or self.record.get("method") in ("advi", "map", "laplace"):
            return None
        names = [n for n in start_values(self.likelihood.model) if n in self.idata.posterior]
        return sampler_diagnostics(self.idata, names, self.draws)

    @cached_property
    def residuals(self) -> Residuals:
        """Predictions, IWRES, WRES, CWRES at point estimates."""
        return residuals(self.draws)

    @cached_property
    def simulations(self) -> Simulations:
        """Replicates of the data."""
        return simulate_replicates(self.draws, self.replicates, seed=self.seed, lloq=self.lloq)

    @cached_property
    def errors(self) -> PredictionErrors:
        """Normalised prediction errors, npde and npd."""
        return prediction_errors(self.simulations, seed=self.seed)

    @cached_property
    def vpc(self) -> VPC:
        """Visual predictive check over time, one panel for each line."""
        return vpc(self.simulations)

    @cached_property
    def pcvpc(self) -> VPC:
        """Prediction-corrected check over time."""
        return vpc(self.simulations, prediction_corrected=True)

    def vpc_by(self, stratify: str | None = None, **options: Any) -> VPC:
        """Visual predictive check with other options, from the same replicates; see `vpc`."""
        return vpc(self.simulations, stratify=stratify, **options)

    @cached_property
    def shrinkage(self) -> Shrinkage:
        """Shrinkage of random effects and residuals."""
        return shrinkage(self.draws, self.residuals)

    @cached_property
    def contractions(self) -> dict[str, Contraction]:
        """Prior against posterior; empty for maximum likelihood."""
        return contractions(self.draws, seed=self.seed) if self.sampled else {}

    @cached_property
    def table(self) -> pd.DataFrame:
        """Parameter table; see `pkpd.fitting.checks.parameters.parameter_table`."""
        return parameter_table(
            self.draws,
            shrunk=self.shrinkage,
            contracted=self.contractions,
            level=LEVEL,
            **_uncertainty(self.fit, self.draws),
        )

    @cached_property
    def curves(self) -> Curves:
        """Predictions between observations."""
        return individual_curves(self.draws, self.residuals)

    @cached_property
    def leave_one_out(self) -> LeaveOneOut | None:
        """Leave-one-subject-out; ``None`` for fewer than 50 draws.

        Maximum likelihood, which has none, has `information`.
        """
        return leave_one_out(self.fit, seed=self.seed) if len(self.draws) >= FEWEST else None

    @cached_property
    def information(self) -> dict[str, float]:
        """Minus twice the log-likelihood, AIC and BIC of maximum likelihood; else empty.

        BIC stands with the penalty of the number of subjects and of observations. ``parameters``
        are those that the data measure: residual errors of lines without a measurement are not.
        """
        value = getattr(self.fit, "log_likelihood", None)
        if self.sampled or not hasattr(self.fit, "estimates") or value is None:
            return {}
        minus = -2.0 * float(value)
        n = len(FreeParameters(self.likelihood).counted)
        return {
            "-2 log-likelihood": minus,
            "parameters": n,
            "AIC": minus + 2 * n,
            "BIC by subjects": minus + n * np.log(self.likelihood.n_subjects),
            "BIC by observations": minus + n * np.log(len(self.dataset.observations)),
        }

    @cached_property
    def counts(self) -> tuple[CountCheck, ...]:
        """Nadir and recovery of blood counts, replicates of the fit; empty without counts."""
        return count_checks(self.simulations)

    @cached_property
    def prior_counts(self) -> tuple[CountCheck, ...]:
        """The same for replicates of the prior."""
        before = prior_draws(self.likelihood, self.replicates, seed=self.seed)
        made = simulate_replicates(before, self.replicates, seed=self.seed, lloq=self.lloq)
        return count_checks(made, prior=True)

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """What was found wrong, most serious first; empty if nothing."""
        out = list(self.sampler.problems) if self.sampler else []
        out += [str(text) for text in getattr(self.fit, "messages", ())]
        if self.sampled and self.record.get("method") in ("advi", "map"):
            out.append(
                f"The draws are an approximation ({self.record['method']}): good for a quick look; "
                'sample with method="nuts" before quoting intervals.'
            )
        if not self.residuals.converged.all():
            lost = self.dataset.subjects[~self.residuals.converged]
            out.append(f"No individual mode was found for subjects {', '.join(map(str, lost))}.")
        out += [c.sentence for c in self.contractions.values() if c.silent]
        out += table_sentences(self.likelihood.model, self.table)
        out += self._fit_problems()
        out += self.shrinkage.sentences
        if not self.quick and self.leave_one_out is not None:
            out += self.leave_one_out.sentences[1:]
        return tuple(out)

    def _fit_problems(self) -> list[str]:
        out = list(self.errors.notes)
        for line in self.dataset.lines:
            found = self.errors.tests(line)
            if not found["p_all"] < SMALL_P:
                continue
            which = min(("p_mean", "p_variance", "p_normal"), key=lambda name: found[name])
            why = {
                "p_mean": f"their mean is {found['mean']:.2f}, not 0: predictions of {line} are "
                f"too {'low' if found['mean'] > 0 else 'high'} on the whole",
                "p_variance": f"their variance is {found['variance']:.2f}, not 1: the model "
                f"scatters {line} too {'little' if found['variance'] > 1 else 'much'}",
                "p_normal": "they are not normal: look at the quantile plot for heavy tails or "
                "outliers, and at the form of the residual error",
            }[which]
            out.append(
                f"NPDE of {line} are not those of the model (p = {found['p_all']:.1g}): {why}."
            )
        for panel in self.vpc.panels:
            beyond, total = panel.outside
            # twice what is expected, and more than a stray bin or two
            if total and beyond > max(2, 2 * (1 - self.vpc.level) * total):
                out.append(
                    f"In the visual predictive check of {panel.title} {beyond} of {total} "
                    f"observed percentiles lie outside their {100 * self.vpc.level:.0f} % "
                    "intervals: look where."
                )
            beyond, total = panel.below_outside
            if total and beyond > max(1, 2 * (1 - self.vpc.level) * total):
                out.append(
                    f"The share of {panel.title} below the limit is outside its "
                    f"{100 * self.vpc.level:.0f} % interval in {beyond} of {total} bins: look when."
                )
            elif panel.far_below:
                when = ", ".join(f"{t:.3g}" for t in panel.far_below)
                out.append(
                    f"The share of {panel.title} below the limit is far from the model's around "
                    f"{when} h."
                )
        out += [s for c in self.counts for s in c.sentences if "disagrees" in s]
        return out

    @property
    def verdict(self) -> str:
        """One sentence on whether the fit can be used."""
        if self.sampler is not None and not self.sampler.good:
            return "Do not use these estimates before the sampler's problems are mended."
        if self.problems:
            return (
                f"The estimates can be read, with {len(self.problems)} "
                f"{'remark' if len(self.problems) == 1 else 'remarks'}."
            )
        return "No check found anything wrong."

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What was found in order."""
        out = list(self.sampler.remarks) if self.sampler else []
        out += self.vpc.sentences
        for line in self.dataset.lines:
            found = self.errors.tests(line)
            if np.isnan(found["p_all"]):
                out.append(f"NPDE of {line}: {found['n']:.0f} values, too few to test.")
                continue
            out.append(
                f"NPDE of {line}: mean {found['mean']:.2f}, variance {found['variance']:.2f} "
                f"(0 and 1 under the model), smallest p-value {found['p_all']:.2g} after "
                "correction for three tests."
            )
        out += [s for c in self.counts for s in c.sentences if "disagrees" not in s]
        if self.leave_one_out_known and self.leave_one_out is not None:
            out.append(self.leave_one_out.sentences[0])
        return tuple(out)

    @property
    def leave_one_out_known(self) -> bool:
        """Whether leave-one-out belongs to these checks, or was asked for."""
        return not self.quick or "leave_one_out" in self.__dict__

    @property
    def has_limits(self) -> bool:
        """Whether values lie below a limit."""
        return bool(np.any(self.dataset.observations.censored == BELOW))

    def summary(self) -> str:
        """Verdict, problems, what is in order, and the parameter table, as text."""
        lines = [self.verdict]
        lines += [f"! {text}" for text in self.problems]
        lines += [f"  {text}" for text in self.remarks]
        lines += [f"  {name}: {value:.6g}" for name, value in self.information.items()]
        shown = self.table.drop(columns="held").dropna(axis=1, how="all")
        lines += ["", f"lower, upper: {100 * LEVEL:g} % interval"]
        lines += [shown.to_string(float_format=lambda v: f"{v:.4g}", na_rep="")]
        return "\n".join(lines)


def check(
    fit: Fitted,
    *,
    replicates: int = 500,
    seed: int = 1,
    lloq: float | Mapping[str, float] | None = None,
    quick: bool = False,
) -> Checks:
    """Check a fit.

    Parameters
    ----------
    fit
        Result of `pkpd.fit` by any method, or `pkpd.fitting.draws.Draws`.
    replicates
        Data sets to simulate for predictive checks.
    seed
        Seed of everything random.
    lloq
        Limit of quantification, one or by line, where the data name none for measured values.
    quick
        Leave out leave-one-subject-out, which solves the model thousands of times; it is worked
        out when asked for.

    Returns
    -------
    Checks
        ``summary()`` says what was found; `pkpd.write_fit_page` writes the page.

    Raises
    ------
    PkpdError
        If ``fit`` is none of these.
    """
    draws, idata = draws_of(fit), getattr(fit, "idata", None)
    made = Checks(fit, draws, idata, replicates, seed, lloq, quick)
    made.problems  # noqa: B018  (works out what the summary says)
    return made


def _uncertainty(fit: Any, draws: Draws) -> dict[str, Any]:
    """Gather errors and intervals of maximum likelihood, of correlations on Fisher's z."""
    if not hasattr(fit, "covariance_x"):
        return {"standard_errors": getattr(fit, "standard_errors", None)}
    free, reach = FreeParameters(fit.likelihood), norm.ppf(0.5 + 0.5 * LEVEL)
    sd = np.sqrt(np.nan_to_num(np.diag(fit.covariance_x)))
    low, high = free.limits(fit.x, reach * sd)
    intervals = {n: (low[n], high[n]) for n, s in zip(fit.names, sd, strict=True) if s > 0}
    covariance = pd.DataFrame(fit.covariance, index=fit.names, columns=fit.names)
    told = correlation_errors(fit.likelihood.model, fit.estimates, covariance)
    errors = {name: error for name, error in told.items() if error != 0.0}
    for name, (middle,) in correlations(draws).items():
        if errors.get(name, 0.0) > 0.0:
            far = reach * errors[name] / (1.0 - middle**2)
            ends = np.tanh(np.arctanh(middle) + far * np.array([-1.0, 1.0]))
            intervals[name] = (float(ends[0]), float(ends[1]))
    return {"standard_errors": dict(fit.standard_errors) | errors, "intervals": intervals}
