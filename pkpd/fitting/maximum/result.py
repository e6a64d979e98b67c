"""What a maximum likelihood fit gives: estimates, their errors, random effects, and in words."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, get_args

import jax.numpy as jnp
import numpy as np

from pkpd.arguments import SHARE, check_arguments
from pkpd.arrays import FloatArray
from pkpd.errors import PkpdError
from pkpd.files import write_netcdf
from pkpd.fitting.judge.findings import Finding, finding_of, findings_table, told
from pkpd.fitting.judge.standard_errors import Covariance, covariance_by
from pkpd.fitting.maximum.description import description
from pkpd.fitting.maximum.predicted import predicted
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import deviations
from pkpd.fitting.model.specification import PopulationModel

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


KIND = "maximum likelihood"
"""What the file of such a fit says that it holds."""

_ARRAYS = {
    "covariance": ("parameter", "parameter_other"),
    "x": ("parameter",),
    "covariance_x": ("parameter", "parameter_other"),
    "observed_x": ("parameter", "parameter_other"),
    "scores": ("subject", "parameter"),
    "shifts": ("subject", "parameter"),
    "chances": ("subject",),
    "by_subject": ("subject",),
    "gradient": ("parameter",),
    "random": ("subject", "effect"),
    "random_covariance": ("subject", "effect", "effect_other"),
}
_METHODS = {
    "fo": "first order (FO)",
    "foce": "first-order conditional estimation (FOCE)",
    "focei": "first-order conditional estimation with interaction (FOCE-I)",
    "laplace": "Laplace approximation",
    "laplace-nointer": "Laplace approximation without interaction",
}


@dataclass(frozen=True, eq=False)
class MaximumLikelihood:
    """Maximum likelihood estimates of a population model.

    Attributes
    ----------
    likelihood
        Model (as it was started) and data.
    method
        ``"fo"``, ``"foce"``, ``"focei"``, ``"laplace"`` or ``"laplace-nointer"``.
    estimates
        All population parameters by name on their natural scale; held ones included.
    names
        Names of the estimated ones: rows of ``covariance``.
    standard_errors
        By name, natural scale (delta method); NaN where there is none.
    covariance : float[P, P]
        Of the estimates on the natural scale.
    x, covariance_x
        Estimates and covariance on the scales without bounds on which they were searched.
    observed_x : float[P, P]
        Inverse information from the Hessian there, of whatever kind ``covariance_x`` is; NaN
        without standard errors.
    scores : float[B, P]
        Derivatives of each subject's contribution to ``objective`` by ``x``.
    shifts : float[B, P]
        By how many standard errors ``x`` would move without each subject: see ``influence``.
    chances : float[B]
        Chance that any subject of such a study moves any parameter so far, if the model is true.
    objective
        ``-2 log L`` without the constant ``n log 2 pi`` of the measured values (NONMEM's
        convention), with the penalty of the model's joint prior and without other priors.
    constant
        ``n log 2 pi``.
    penalty
        ``-2 log`` density of the other priors; 0 without them.
    by_subject : float[B]
        Contributions to ``objective``, which are all but for a joint prior.
    gradient : float[P]
        Of what was minimised, at the estimates.
    random : float[B, R]
        Modes of the random effects.
    random_covariance : float[B, R, R]
        Their covariance given the data and the estimates: inverse curvature at the mode.
    eta_shrinkage, epsilon_shrinkage
        ``1 - sd(modes) / omega`` by random effect, ``1 - sd`` of individual weighted residuals by
        line.
    converged
        Whether the search ended at a minimum and all subjects at modes.
    condition_number
        Of the correlation matrix of the estimates (on the scale of ``x``); infinite where the
        objective is flat along some combination of them.
    iterations, evaluations, seconds
        Gradients, calls of the predictor for all subjects, time.
    findings
        What deserves attention, the gravest first; each prints as a sentence.
    """

    likelihood: PopulationLikelihood
    method: str
    estimates: dict[str, float]
    names: tuple[str, ...]
    standard_errors: dict[str, float]
    covariance: FloatArray
    x: FloatArray
    covariance_x: FloatArray
    observed_x: FloatArray
    scores: FloatArray
    shifts: FloatArray
    chances: FloatArray
    objective: float
    constant: float
    penalty: float
    by_subject: FloatArray
    gradient: FloatArray
    random: FloatArray
    random_covariance: FloatArray
    eta_shrinkage: dict[str, float]
    epsilon_shrinkage: dict[str, float]
    converged: bool
    condition_number: float
    iterations: int
    evaluations: int
    seconds: float
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """Tell method, objective and estimates; `summary` has their errors."""
        told = ", ".join(f"{name}={value:.4g}" for name, value in self.estimates.items())
        end = "" if self.converged else ", not converged"
        return f"MaximumLikelihood({self.method}, objective {self.objective:.3f}{end}: {told})"

    def _repr_html_(self) -> str:
        """Summary for notebooks."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood, all constants included and no prior."""
        return -0.5 * (float(np.sum(self.by_subject)) + self.constant)

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Names of the parameters that AIC and BIC count: of ``names``, those the data measure.

        The residual error of a line without a measurement is none of them.
        """
        return FreeParameters(self.likelihood).counted

    @property
    def aic(self) -> float:
        """Akaike's criterion, from ``log_likelihood``, with the number of ``counted``."""
        return -2.0 * self.log_likelihood + 2.0 * len(self.counted)

    @property
    def bic(self) -> float:
        """Schwarz's criterion with the number of observations."""
        n = len(self.likelihood.dataset.observations)
        return -2.0 * self.log_likelihood + float(np.log(n)) * len(self.counted)

    @property
    def bic_subjects(self) -> float:
        """Schwarz's criterion with the number of subjects."""
        n = self.likelihood.n_subjects
        return -2.0 * self.log_likelihood + float(np.log(n)) * len(self.counted)

    @property
    def criteria_note(self) -> str:
        """Caveat of AIC and BIC at the mode of a posterior; empty without priors."""
        if not self.penalty and self.likelihood.model.joint is None:
            return ""
        return (
            "AIC and BIC are of the likelihood at the mode with the priors, which is below its "
            "maximum, and count in full what priors hold: choose no model by them."
        )

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the fit is of: see `pkpd.fitting.maximum.description.description`."""
        return description(FreeParameters(self.likelihood))

    @cached_property
    def correlation(self) -> FloatArray:
        """Correlation matrix of the estimates, ``[P, P]``."""
        sd = np.sqrt(np.diag(self.covariance))
        with np.errstate(invalid="ignore"):
            return self.covariance / np.outer(sd, sd)

    @cached_property
    def omega(self) -> FloatArray:
        """Covariance of the random effects, ``[R, R]``."""
        return np.asarray(self.likelihood.random_effects.covariance(self.estimates, np))

    @property
    def model(self) -> PopulationModel:
        """The model with the estimates as starting values."""
        return self.likelihood.model.with_values(self.estimates)

    @cached_property
    def individual_parameters(self) -> dict[str, Any]:
        """Individual parameters at the modes, ``[B]`` or ``[B, N]`` by name."""
        fixed = self.likelihood.fixed(self.estimates)
        found = self.likelihood.individual_parameters(fixed, jnp.asarray(self.random))
        return {name: np.asarray(v) for name, v in found.items()}

    @property
    def messages(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(str(one) for one in self.findings)

    @cached_property
    def judged(self) -> pd.DataFrame:
        """The findings as a table, see `pkpd.fitting.judge.findings.findings_table`."""
        return findings_table(self.findings)

    @cached_property
    def influence(self) -> pd.DataFrame:
        """What would move without each subject, by one Newton step; a row for each subject.

        Columns: each estimated parameter, its shift in standard errors on the scale of the search
        (NaN where there is none), and ``chance``, of any subject of such a study to move any
        parameter so far if the model is true. See `pkpd.fitting.judge.influence`.
        """
        import pandas as pd

        labels = pd.Index([str(s) for s in self.likelihood.dataset.subjects], name="subject")
        table = pd.DataFrame(self.shifts, index=labels, columns=pd.Index(self.names))
        return table.assign(chance=self.chances)

    def covariance_by(self, kind: Covariance) -> FloatArray:
        """Covariance of the estimates on the natural scale by another formula, ``[P, P]``.

        Parameters
        ----------
        kind
            ``"observed"``: inverse information from the Hessian. ``"sandwich"``:
            ``R^-1 S R^-1`` with the products ``S`` of subjects' scores, robust to a wrong
            distribution of residuals or random effects (White 1982, Econometrica 50:1-25).
            ``"scores"``: the inverse of ``S``.

        Raises
        ------
        PkpdError
            If the kind is none of these, or the fit has no standard errors.
        """
        if kind not in get_args(Covariance):
            allowed = ", ".join(get_args(Covariance))
            raise PkpdError(where="covariance_by", what=f"no kind {kind!r}", allowed=allowed)
        if np.isnan(self.condition_number):
            raise PkpdError(
                where="covariance_by",
                what="the fit was made without standard errors",
                remedy='fit with covariance="observed"',
            )
        told = np.isfinite(np.diag(self.covariance_x))
        slopes = FreeParameters(self.likelihood).slopes(self.x)
        found = covariance_by(kind, self.observed_x, self.scores, told)
        return found * np.outer(slopes, slopes)

    @cached_property
    def robust_errors(self) -> dict[str, float]:
        """Standard errors from the sandwich by name, natural scale; NaN where there is none."""
        if np.isnan(self.condition_number):
            return dict.fromkeys(self.names, np.nan)
        spread = np.sqrt(np.diag(self.covariance_by("sandwich")))
        return dict(zip(self.names, spread.tolist(), strict=True))

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Estimates as a table, one row for each population parameter.

        Columns: ``estimate``, ``rse_percent``, ``standard_error``, ``robust_error`` (from the
        sandwich, see `covariance_by`), ``lower`` and ``upper`` (of ``level``, symmetric on the
        scale of the search; of a standard deviation on a scale that is linear near 0, where the
        interval ends), ``held``, and ``shrinkage_percent`` of the random effect of a standard
        deviation.
        """
        import pandas as pd

        check_arguments("MaximumLikelihood.table", level=(level, SHARE))
        free = FreeParameters(self.likelihood)
        wide = NormalDist().inv_cdf(0.5 * (1.0 + level)) * np.sqrt(np.diag(self.covariance_x))
        low, high = free.limits(self.x, np.nan_to_num(wide))
        rows = []
        for name, value in self.estimates.items():
            error = self.standard_errors.get(name, np.nan)
            known = np.isfinite(error)
            relative = 100 * error / abs(value) if value and known else np.nan
            shrunk = self.eta_shrinkage.get(name.removeprefix("omega_"), np.nan)
            rows.append(
                {
                    "parameter": name,
                    "estimate": value,
                    "rse_percent": relative,
                    "standard_error": error,
                    "robust_error": self.robust_errors.get(name, np.nan),
                    "lower": low[name] if known else np.nan,
                    "upper": high[name] if known else np.nan,
                    "held": name not in self.names,
                    "shrinkage_percent": 100 * shrunk if name.startswith("omega_") else np.nan,
                }
            )
        return pd.DataFrame(rows).set_index("parameter")

    def save(self, path: str | Path, *, label: str = "") -> None:
        """Write the fit as netCDF; read it back with `pkpd.load_fit`.

        Parameters
        ----------
        path
            File.
        label
            A few words on the model, for `pkpd.checks.runs`.

        Raises
        ------
        PkpdError
            If the file cannot be written.
        """
        import xarray as xr

        apart = ("likelihood", "findings", *_ARRAYS)
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
        record["findings"] = [one.record() for one in self.findings]
        told_of = predicted(self.likelihood)
        made = xr.Dataset(
            {name: (dims, np.asarray(getattr(self, name))) for name, dims in _ARRAYS.items()},
            {
                "parameter": list(self.names),
                "subject": [str(s) for s in self.likelihood.dataset.subjects],
                "effect": list(self.likelihood.random_effects.names),
            },
            {
                "kind": KIND,
                "record": json.dumps(record, default=float),
                "about": json.dumps(self.about | {"label": label, "predicted": told_of}),
            },
        )
        write_netcdf(path, made)

    def _of_joint_prior(self) -> list[str]:
        """Lines on the joint prior."""
        if self.likelihood.model.joint is None:
            return []
        added = self.objective - float(np.sum(self.by_subject))
        return [
            f"objective {self.objective:.3f}, of which the prior is {added:.3f}: "
            f"{self.likelihood.model.joint!r}"
        ]

    def _count_told(self) -> str:
        """Say how many parameters AIC and BIC count, and which they do not."""
        count = len(self.counted)
        told = f"{count} parameter{'' if count == 1 else 's'}"
        if not (left := [name for name in self.names if name not in self.counted]):
            return told
        return f"{told}, without {', '.join(left)} of lines that the data do not measure"

    def summary(self) -> str:
        """Tell the fit in text."""
        table = self.table()
        wide = max(24, *(len(str(name)) for name in table.index))
        lines = [
            f"Maximum likelihood by {_METHODS[self.method]}: {self.likelihood.n_subjects} "
            f"subjects, {len(self.likelihood.dataset.observations)} observations, "
            f"{self.random.shape[1]} random effects",
            f"-2 log L {-2 * self.log_likelihood - self.constant:.3f} without constants, "
            f"{-2 * self.log_likelihood:.3f} with n log 2 pi",
            *self._of_joint_prior(),
            f"AIC {self.aic:.2f}, BIC {self.bic:.2f} by observations, {self.bic_subjects:.2f} by "
            f"subjects; {self._count_told()}",
            *filter(None, [self.criteria_note]),
            f"{'converged' if self.converged else 'NOT CONVERGED'} after {self.iterations} "
            f"gradients in {self.seconds:.1f} s; condition number {self.condition_number:.3g}",
            "",
            f"{'':{wide}s}{'estimate':>12s}{'RSE %':>8s}{'95 % interval':>26s}{'shrinkage %':>13s}",
        ]
        for name, row in table.iterrows():
            interval = f"{row.lower:.4g} to {row.upper:.4g}" if np.isfinite(row.lower) else ""
            if row.held:
                interval = "held"
            elif not interval and not np.isnan(self.condition_number):
                interval = "not told"
            relative = f"{row.rse_percent:.1f}" if np.isfinite(row.rse_percent) else ""
            shrunk = f"{row.shrinkage_percent:.0f}" if np.isfinite(row.shrinkage_percent) else ""
            lines.append(
                f"{name:{wide}s}{row.estimate:12.5g}{relative:>8s}{interval:>26s}{shrunk:>13s}"
            )
        for line, value in self.epsilon_shrinkage.items():
            lines.append(f"shrinkage of residuals, {line}: {100 * value:.0f} %")
        return "\n".join([*lines, *told(self.findings)])


def result_of(saved: xr.Dataset, likelihood: PopulationLikelihood) -> MaximumLikelihood:
    """Make a fit of what its `MaximumLikelihood.save` wrote, and the model and data it was of."""
    record = json.loads(saved.attrs["record"])
    record["names"] = tuple(record["names"])
    record["findings"] = tuple(finding_of(one) for one in record["findings"])
    arrays = {name: saved[name].values for name in _ARRAYS}
    return MaximumLikelihood(likelihood=likelihood, **arrays, **record)


def shrinkages(
    likelihood: PopulationLikelihood, estimates: dict[str, float], random: FloatArray
) -> tuple[dict[str, float], dict[str, float]]:
    """Shrinkage of random effects by parameter and of residuals by line.

    Standard deviations about zero are not used, as the means of modes need not vanish; effects
    count where a subject has observations, those of occasions where it has some on that occasion.
    """
    effects, model, seen = likelihood.random_effects, likelihood.model, likelihood.dataset
    eta, kappa = effects.split(random)
    by_effect = {}
    told = np.unique(seen.observations.subject)
    for i, name in enumerate(model.varying):
        by_effect[name] = _shrunk(eta[told, i], estimates[f"omega_{name}"])
    if effects.n_occasions and seen.occasion is not None:
        observations = seen.observations
        visited = np.zeros(kappa.shape[:2], bool)
        visited[observations.subject, seen.occasion[observations.subject, observations.record]] = (
            True
        )
        for k, name in enumerate(model.occasional):
            by_effect[f"occasion_{name}"] = _shrunk(
                kappa[..., k][visited], estimates[f"omega_occasion_{name}"]
            )
    assert {f"omega_{name}" for name in by_effect} <= set(deviations(model))
    fixed = likelihood.fixed(estimates)
    predicted = np.asarray(likelihood.predictions(fixed, jnp.asarray(random)))
    scale = likelihood.residual_deviation(estimates, random, predicted)
    by_line = {}
    for name, error, mine in likelihood._lines:
        rows = mine[seen.observations.censored[mine] == 0]
        value, centre = seen.observations.value[rows], predicted[rows]
        if error.logarithmic:
            value, centre = np.log(value), np.log(centre)
        if rows.size > 1:
            by_line[name] = _shrunk((value - centre) / scale[rows], 1.0)
    return by_effect, by_line


def _shrunk(values: FloatArray, sd: float) -> float:
    return 1.0 - float(np.std(values, ddof=1)) / sd if values.size > 1 else np.nan
