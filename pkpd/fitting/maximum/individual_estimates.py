"""Individual estimates with the population's parameters held."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from pkpd.arrays import FloatArray
from pkpd.data.dataset import Dataset
from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.impossible import refuse_impossible
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import holding, start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.small_systems import inverse_each

if TYPE_CHECKING:
    import pandas as pd

IndividualMethod = Literal["focei", "foce", "laplace", "laplace-nointer"]

_ROUNDS = 3  # of searching modes anew; one finds what there is to find as a rule


@dataclass(frozen=True, eq=False)
class IndividualEstimates:
    """The most probable random effects of every subject given population parameters.

    Attributes
    ----------
    likelihood
        Model, all of its population parameters held, and data.
    method
        Approximation of ``by_subject``: ``"focei"``, ``"foce"``, ``"laplace"`` or
        ``"laplace-nointer"``.
    estimates
        The population parameters by name.
    random : float[B, R]
        Random effects at the modes, those of occasions last.
    random_covariance : float[B, R, R]
        Inverse curvature of minus the log posterior density at the mode; NaN where none was found.
    by_subject
        Contributions to minus twice the log-likelihood, the constant ``n log 2 pi`` of the
        measured values left out (NONMEM's OBJ), by ``subject``.
    converged
        Whether a mode was found, by ``subject``.
    constant
        ``n log 2 pi``.
    """

    likelihood: PopulationLikelihood
    method: IndividualMethod
    estimates: dict[str, float]
    random: FloatArray
    random_covariance: FloatArray
    by_subject: xr.DataArray
    converged: xr.DataArray
    constant: float

    @property
    def objective(self) -> float:
        """Minus twice the log-likelihood of all subjects without ``constant``: NONMEM's OFV."""
        return float(self.by_subject.sum(skipna=False))

    @property
    def messages(self) -> tuple[str, ...]:
        """Sentences on what deserves attention."""
        lost = [str(s) for s in self.by_subject["subject"].values[~self.converged.values]]
        if not lost:
            return ()
        return (f"No mode of the random effects was found for subjects {', '.join(lost)}.",)

    @cached_property
    def eta(self) -> xr.DataArray:
        """Random effects between patients at the modes, by ``subject`` and ``parameter``."""
        return self._split(self.random)[0]

    @cached_property
    def eta_se(self) -> xr.DataArray:
        """Standard errors of ``eta``."""
        return self._split(self._spread)[0]

    @cached_property
    def kappa(self) -> xr.DataArray:
        """Random effects by ``subject``, ``occasion`` and ``occasion_parameter``."""
        return self._split(self.random)[1]

    @cached_property
    def kappa_se(self) -> xr.DataArray:
        """Standard errors of ``kappa``."""
        return self._split(self._spread)[1]

    @cached_property
    def covariance(self) -> xr.DataArray:
        """Covariance of the random effects by ``subject``, ``effect`` and ``effect_other``."""
        names = list(self.likelihood.random_effects.names)
        return xr.DataArray(
            self.random_covariance,
            {"subject": self._subjects, "effect": names, "effect_other": names},
            ("subject", "effect", "effect_other"),
        )

    @cached_property
    def parameters(self) -> xr.Dataset:
        """Individual parameters in natural units by ``subject``.

        By ``record`` too where a parameter changes with the occasion or a covariate; ``time`` (h)
        says when a record is.
        """
        return self._arrays(self._values(self.random))

    @cached_property
    def parameters_se(self) -> xr.Dataset:
        """Standard errors of ``parameters`` by the delta method; 0 where nothing varies."""
        random, out = jnp.asarray(self.random), {}
        slopes = [
            jax.jvp(self._values, (random,), (jnp.zeros_like(random).at[:, r].set(1.0),))[1]
            for r in range(random.shape[1])
        ]
        for name, value in self._values(random).items():
            if not slopes:
                out[name] = np.zeros(np.shape(value))
                continue
            by_effect = np.stack([np.asarray(one[name]) for one in slopes])
            paths = ("rb,brs,sb->b", "rbn,brs,sbn->bn")
            variance = np.einsum(
                paths[by_effect.ndim - 2], by_effect, self.random_covariance, by_effect
            )
            out[name] = np.sqrt(np.maximum(variance, 0.0))
        return self._arrays(out)

    def table(self) -> pd.DataFrame:
        """One row for each subject.

        For each individual parameter ``CL`` and ``se_CL``; for each random effect ``eta_CL`` and
        ``se_eta_CL``, with occasions ``kappa_CL_1`` and ``se_kappa_CL_1``; then ``objective`` and
        ``converged``. Individual parameters that change within a subject are in ``parameters``.
        """
        import pandas as pd

        columns: dict[str, Any] = {}
        varying = {*self.likelihood.model.varying, *self.likelihood.model.occasional}
        for name, value in self.parameters.data_vars.items():
            if value.dims == ("subject",):
                columns[str(name)] = value.values
                if name in varying:
                    columns[f"se_{name}"] = self.parameters_se[name].values
        for name in self.likelihood.model.varying:
            columns[f"eta_{name}"] = self.eta.sel(parameter=name).values
            columns[f"se_eta_{name}"] = self.eta_se.sel(parameter=name).values
        for name in self.likelihood.model.occasional:
            for o in self.kappa["occasion"].values:
                at = {"occasion_parameter": name, "occasion": o}
                columns[f"kappa_{name}_{o}"] = self.kappa.sel(at).values
                columns[f"se_kappa_{name}_{o}"] = self.kappa_se.sel(at).values
        columns["objective"] = self.by_subject.values
        columns["converged"] = self.converged.values
        return pd.DataFrame(columns, index=pd.Index(self._subjects, name="subject"))

    def summary(self) -> str:
        """Tell the estimates in text."""
        shown = self.table().drop(columns="converged")
        head = (
            f"Individual estimates of {len(shown)} subjects, "
            f"{len(self.likelihood.dataset.observations)} observations, population parameters held"
        )
        total = f"-2 log L ({self.method}) {self.objective:.3f} without constants"
        text = shown.to_string(float_format=lambda v: f"{v:.4g}")
        return "\n".join([head, total, "", text, *(f"- {one}" for one in self.messages)])

    def __repr__(self) -> str:
        """Tell what it is in a line."""
        return f"IndividualEstimates({len(self._subjects)} subjects, {self.objective:.3f})"

    @property
    def _subjects(self) -> np.ndarray:
        return np.asarray(self.likelihood.dataset.subjects)

    @property
    def _spread(self) -> FloatArray:
        variance = np.diagonal(self.random_covariance, axis1=1, axis2=2)
        return np.sqrt(np.maximum(variance, 0.0))

    def _values(self, random: Any) -> dict[str, Any]:
        fixed = self.likelihood.fixed(self.estimates)
        return dict(self.likelihood.individual_parameters(fixed, jnp.asarray(random)))

    def _arrays(self, values: dict[str, Any]) -> xr.Dataset:
        events = self.likelihood.dataset.events
        changing, out = False, {}
        for name, value in values.items():
            value = np.asarray(value, dtype=float)
            if value.ndim == 2:
                changing = True
                out[name] = (("subject", "record"), np.where(events.valid, value, np.nan))
            else:
                out[name] = (("subject",), value)
        coords: dict[str, Any] = {"subject": self._subjects}
        if changing:
            time = np.where(events.valid, events.time, np.nan)
            coords["time"] = (("subject", "record"), time)
        return xr.Dataset(out, coords)

    def _split(self, values: FloatArray) -> tuple[xr.DataArray, xr.DataArray]:
        effects, model = self.likelihood.random_effects, self.likelihood.model
        eta, kappa = effects.split(values)
        subjects = self._subjects
        return (
            xr.DataArray(
                eta,
                {"subject": subjects, "parameter": list(model.varying)},
                ("subject", "parameter"),
            ),
            xr.DataArray(
                kappa,
                {
                    "subject": subjects,
                    "occasion": np.arange(1, effects.n_occasions + 1),
                    "occasion_parameter": list(model.occasional),
                },
                ("subject", "occasion", "occasion_parameter"),
            ),
        )


def individual_estimates(
    model: PopulationModel,
    data: Dataset,
    method: IndividualMethod = "focei",
    random: FloatArray | None = None,
) -> IndividualEstimates:
    """Estimate the random effects of every subject at the values of a population model.

    Parameters
    ----------
    model
        The population model; all of its parameters are held.
    data
        The subjects.
    method
        What the contributions to the objective are.
    random : float[B, R]
        Where the search begins; zero if left out.

    Raises
    ------
    DataError
        If the model cannot take the data.
    PkpdError
        If it predicts 0 where something was measured, and its error has no width there.
    """
    likelihood, nothing = bind(holding(model), data), np.zeros(0)
    marginal = MarginalLikelihood(likelihood, method)
    lower = np.asarray(marginal.free.cholesky(nothing, np))
    start = None if random is None else random @ inverse_each(lower).T
    at = marginal.evaluate(nothing, start=start, restarts=3)
    refuse_impossible(likelihood, marginal.free.fixed(nothing), at.predictions[0])
    for k in range(_ROUNDS):
        at, found = marginal.renewed(at, seed=k)
        if not found.any():
            break
    modes, size = at.modes, lower.shape[0]
    good = modes.converged & np.isfinite(at.by_subject)
    inverse = inverse_each(np.where(good[:, None, None], modes.hessian, np.eye(size)))
    good &= np.all(np.isfinite(inverse), axis=(1, 2))
    covariance = np.einsum("ij,bjk,lk->bil", lower, inverse, lower)
    covariance[~good] = np.nan
    labels = {"subject": np.asarray(likelihood.dataset.subjects)}
    return IndividualEstimates(
        likelihood,
        method,
        start_values(likelihood.model),
        modes.u @ lower.T,
        covariance,
        xr.DataArray(at.by_subject, labels, ("subject",)),
        xr.DataArray(good, labels, ("subject",)),
        marginal.constant,
    )
