"""What a maximum likelihood fit gives: estimates, their errors, random effects, and in words."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.files import write_netcdf
from pkpd.fitting.maximum.description import description
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import deviations
from pkpd.fitting.model.specification import PopulationModel

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FloatArray = NDArray[np.floating[Any]]

KIND = "maximum likelihood"
"""What the file of such a fit says that it holds."""

_ARRAYS = {
    "covariance": ("parameter", "parameter_other"),
    "x": ("parameter",),
    "covariance_x": ("parameter", "parameter_other"),
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
    objective
        ``-2 log L`` without the constant ``n log 2 pi`` of the measured values (NONMEM's
        convention), without priors.
    constant
        ``n log 2 pi``.
    penalty
        ``-2 log`` prior density; 0 without priors.
    by_subject : float[B]
        Contributions to ``objective``.
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
    messages
        Sentences on what deserves attention.
    """

    likelihood: PopulationLikelihood
    method: str
    estimates: dict[str, float]
    names: tuple[str, ...]
    standard_errors: dict[str, float]
    covariance: FloatArray
    x: FloatArray
    covariance_x: FloatArray
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
    messages: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Tell method, objective and estimates; `summary` has their errors."""
        told = ", ".join(f"{name}={value:.4g}" for name, value in self.estimates.items())
        end = "" if self.converged else ", not converged"
        return f"MaximumLikelihood({self.method}, objective {self.objective:.3f}{end}: {told})"

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood, all constants included."""
        return -0.5 * (self.objective + self.constant)

    @property
    def aic(self) -> float:
        """Akaike's criterion, from ``log_likelihood``."""
        return -2.0 * self.log_likelihood + 2.0 * len(self.names)

    @property
    def bic(self) -> float:
        """Schwarz's criterion with the number of observations."""
        n = len(self.likelihood.dataset.observations)
        return -2.0 * self.log_likelihood + float(np.log(n)) * len(self.names)

    @property
    def bic_subjects(self) -> float:
        """Schwarz's criterion with the number of subjects."""
        n = self.likelihood.n_subjects
        return -2.0 * self.log_likelihood + float(np.log(n)) * len(self.names)

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

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Estimates as a table, one row for each population parameter.

        Columns: ``estimate``, ``standard_error``, ``rse_percent``, ``lower`` and ``upper`` (of
        ``level``, symmetric on the scale of the search), ``held``, and ``shrinkage_percent`` of the
        random effect of a standard deviation.
        """
        import pandas as pd

        free = FreeParameters(self.likelihood)
        wide = NormalDist().inv_cdf(0.5 * (1.0 + level)) * np.sqrt(np.diag(self.covariance_x))
        low = free.values(self.x - np.nan_to_num(wide))
        high = free.values(self.x + np.nan_to_num(wide))
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
                    "standard_error": error,
                    "rse_percent": relative,
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

        others = [f.name for f in fields(self) if f.name not in ("likelihood", *_ARRAYS)]
        record = {name: getattr(self, name) for name in others}
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
                "about": json.dumps(self.about | {"label": label}),
            },
        )
        write_netcdf(path, made)

    def summary(self) -> str:
        """Tell the fit in text."""
        lines = [
            f"Maximum likelihood by {_METHODS[self.method]}: {self.likelihood.n_subjects} "
            f"subjects, {len(self.likelihood.dataset.observations)} observations, "
            f"{self.random.shape[1]} random effects",
            f"-2 log L {self.objective:.3f} without constants, "
            f"{self.objective + self.constant:.3f} with n log 2 pi",
            f"AIC {self.aic:.2f}, BIC {self.bic:.2f} by observations, {self.bic_subjects:.2f} by "
            "subjects",
            f"{'converged' if self.converged else 'NOT CONVERGED'} after {self.iterations} "
            f"gradients in {self.seconds:.1f} s; condition number {self.condition_number:.3g}",
            "",
            f"{'':24s}{'estimate':>12s}{'RSE %':>8s}{'95 % interval':>26s}{'shrinkage %':>13s}",
        ]
        for name, row in self.table().iterrows():
            interval = f"{row.lower:.4g} to {row.upper:.4g}" if np.isfinite(row.lower) else ""
            if row.held:
                interval = "held"
            elif not interval and not np.isnan(self.condition_number):
                interval = "not told"
            relative = f"{row.rse_percent:.1f}" if np.isfinite(row.rse_percent) else ""
            shrunk = f"{row.shrinkage_percent:.0f}" if np.isfinite(row.shrinkage_percent) else ""
            lines.append(
                f"{name:24s}{row.estimate:12.5g}{relative:>8s}{interval:>26s}{shrunk:>13s}"
            )
        for line, value in self.epsilon_shrinkage.items():
            lines.append(f"shrinkage of residuals, {line}: {100 * value:.0f} %")
        return "\n".join([*lines, *(f"- {text}" for text in self.messages)])


def result_of(saved: xr.Dataset, likelihood: PopulationLikelihood) -> MaximumLikelihood:
    """Make a fit of what its `MaximumLikelihood.save` wrote, and the model and data it was of."""
    record = json.loads(saved.attrs["record"])
    record |= {name: tuple(record[name]) for name in ("names", "messages")}
    arrays = {name: saved[name].values for name in _ARRAYS}
    return MaximumLikelihood(likelihood=likelihood, **arrays, **record)


def shrinkages(
    likelihood: PopulationLikelihood, estimates: dict[str, float], random: FloatArray
) -> tuple[dict[str, float], dict[str, float]]:
    """Shrinkage of random effects by parameter and of residuals by line.

    Standard deviations about zero are not used, as the means of modes need not vanish; effects of
    occasions count where a subject has observations on that occasion.
    """
    effects, model, seen = likelihood.random_effects, likelihood.model, likelihood.dataset
    eta, kappa = effects.split(random)
    by_effect = {}
    for i, name in enumerate(model.varying):
        by_effect[name] = _shrunk(eta[:, i], estimates[f"omega_{name}"])
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
    f = likelihood.predictions(fixed, jnp.asarray(random))
    scale, predicted = np.asarray(likelihood.residual_sd(fixed, f)), np.asarray(f)
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
