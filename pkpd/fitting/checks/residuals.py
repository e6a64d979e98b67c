"""Residuals of a fit: individual, population and conditional weighted residuals.

With individual prediction ``f(eta)``, residual standard deviation ``s``, and the derivative ``F``
of the predictions of a subject by its random effects, whose covariance is ``O``:

``IWRES``
    ``(y - f(eta*)) / s(f(eta*))`` at the individual mode ``eta*``.
``WRES``
    ``V^-1/2 (y - f(0))`` with ``V = F O F' + diag s(f(0))^2`` and ``F`` at 0: first order.
``CWRES``
    ``V^-1/2 (y - f(eta*) + F eta*)`` with ``F`` and ``s`` at ``eta*``: first-order conditional,
    with interaction (Hooker, Staatz and Karlsson 2007, Pharm Res 24:2187-97).

The square root is the symmetric one. Rows with log-normal error are taken on the log scale.
Censored values have no residual (NaN); `pkpd.fitting.checks.npde` has a place for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.linalg import get_lapack_funcs

from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.fitting.checks.replicates import draws_of
from pkpd.fitting.draws import Fitted
from pkpd.fitting.maximum.densities import conditional_density
from pkpd.fitting.maximum.individual_modes import find_modes
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.small_systems import cholesky_each

if TYPE_CHECKING:
    import pandas as pd

_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Residuals:
    """Predictions and residuals of ``M`` observations at point estimates.

    Attributes
    ----------
    likelihood
        Model and data.
    values
        Population parameters by name: maximum-likelihood estimates, or posterior means.
    random
        Individual modes at these values, ``[B, R]``.
    converged
        Whether each subject's mode was found, ``[B]``.
    pred, ipred
        Predictions of the typical patient and of the individual, ``[M]``.
    iwres, wres, cwres
        See the module, ``[M]``; NaN for censored values.
    """

    likelihood: PopulationLikelihood
    values: dict[str, float]
    random: np.ndarray
    converged: np.ndarray
    pred: np.ndarray
    ipred: np.ndarray
    iwres: np.ndarray
    wres: np.ndarray
    cwres: np.ndarray

    def __repr__(self) -> str:
        """Tell how many there are."""
        n, subjects = len(self.pred), self.likelihood.n_subjects
        return f"Residuals({n} observations, {subjects} subjects)"

    @property
    def dataset(self) -> Dataset:
        """The data."""
        return self.likelihood.dataset

    @cached_property
    def measured(self) -> np.ndarray:
        """True where a value was measured, ``[M]``."""
        return self.dataset.observations.censored == NOT_CENSORED

    def table(self) -> pd.DataFrame:
        """One row for each observation, as NONMEM's tables have it.

        Returns
        -------
        DataFrame
            ``ID``, ``TIME`` (h), ``LINE``, ``DV`` (of a censored value its limit), ``CENS``,
            ``PRED``, ``IPRED``, ``IWRES``, ``WRES``, ``CWRES`` (NaN where the model is a control
            stream, whose error is its own); and covariates of the data under other names.
        """
        import pandas as pd

        data, seen = self.dataset, self.dataset.observations
        found = {
            "ID": np.asarray(data.subjects)[seen.subject],
            "TIME": seen.time,
            "LINE": np.asarray(data.lines)[seen.line],
            "DV": seen.value,
            "CENS": seen.censored,
            "PRED": self.pred,
            "IPRED": self.ipred,
            "IWRES": self.iwres,
            "WRES": self.wres,
            "CWRES": self.cwres,
        }
        place = (seen.subject, seen.record)
        more = {n: v[place] for n, v in data.covariates.items() if n not in found}
        return pd.DataFrame(found | more)


def residuals(fit: Fitted) -> Residuals:
    """Residuals at the posterior means, or at the estimates of maximum likelihood.

    Parameters
    ----------
    fit
        A fit by any method, or its draws: parameters are averaged and the individual modes found at
        their means. A single draw keeps its random effects, which are then the modes.
    """
    draws = draws_of(fit)
    likelihood = draws.likelihood
    values = {name: float(np.mean(value)) for name, value in draws.population.items()}
    lower = likelihood.random_effects.cholesky(values, np)
    fixed = np.asarray(likelihood.fixed(values))
    random, converged = draws.means[1], np.ones(likelihood.n_subjects, bool)
    u = _standardised(random, lower)
    if len(draws) > 1 and u.shape[1]:
        density = conditional_density(likelihood)
        modes = find_modes(density, density.free.of(values), u)
        u, converged = modes.u, modes.converged
        random = u @ lower.T
    predict = jax.jit(likelihood.predictions)
    none = np.zeros_like(u)
    effects = none @ lower.T, u @ lower.T
    pred, ipred = (np.asarray(predict(fixed, at)) for at in effects)
    measured = likelihood.dataset.observations.censored == NOT_CENSORED
    sd = [
        likelihood.residual_deviation(values, at, f)
        for at, f in zip(effects, (pred, ipred), strict=True)
    ]
    logarithmic = np.zeros(len(measured), bool)
    for _, error, mine in likelihood._lines:
        logarithmic[mine] = error.logarithmic
    target, typical, individual = (
        _on_scale(logarithmic, f) for f in (likelihood.dataset.observations.value, pred, ipred)
    )
    flat, steep = (
        slopes(predict, fixed, at, lower) / np.where(logarithmic & (f != 0), f, 1.0)[:, None]
        for at, f in ((none, pred), (u, ipred))
    )
    subject = likelihood.dataset.observations.subject
    alike = partial(likelihood.residual_correlation, values)
    shifted = individual - np.sum(steep * u[subject], axis=1)
    return Residuals(
        likelihood,
        values,
        np.asarray(random),
        np.asarray(converged),
        pred,
        ipred,
        np.where(measured, (target - individual) / sd[1], np.nan),
        _decorrelated(target - typical, flat, sd[0], subject, measured, alike),
        _decorrelated(target - shifted, steep, sd[1], subject, measured, alike),
    )


def slopes(predict: Any, fixed: np.ndarray, u: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Differentiate predictions by the standardised random effects of their subject, ``[M, R]``.

    A shift of one effect serves all subjects, as none touches another's predictions. Central
    differences, 1e-3 of a standard deviation wide, ask nothing of a predictor and are exact to some
    1e-7 of the prediction, far below what a residual is read to.
    """
    columns = []
    for r in range(u.shape[1]):
        move = _STEP * np.eye(u.shape[1])[r]
        up, down = (np.asarray(predict(fixed, (u + m) @ lower.T)) for m in (move, -move))
        columns.append((up - down) / (2 * _STEP))
    return np.stack(columns, axis=1) if columns else np.zeros((len(predict(fixed, u)), 0))


def _standardised(random: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """``u`` of ``eta = C u``; zero for an effect without variance."""
    if random.shape[1] == 0:
        return random
    safe = lower + np.diag(np.where(np.diag(lower) > 0, 0.0, 1.0))
    return np.linalg.solve(safe, random.T).T


def _on_scale(logarithmic: np.ndarray, value: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(logarithmic, np.log(np.where(logarithmic, value, 1.0)), value)


def _decorrelated(
    error: np.ndarray,
    slope: np.ndarray,
    sd: np.ndarray,
    subject: np.ndarray,
    take: np.ndarray,
    alike: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """``V^-1/2 error`` subject by subject, with ``V = slope slope' + sd C sd``.

    ``alike`` gives the correlation ``C`` of the residuals of a subject's observations.
    """
    out = np.full(len(error), np.nan)
    jacobi: Any = get_lapack_funcs("gejsv")
    for b in np.unique(subject):
        mine = np.flatnonzero((subject == b) & take)
        if not mine.size or not np.all(np.isfinite(error[mine])):
            continue
        covariance = slope[mine] @ slope[mine].T + np.outer(sd[mine], sd[mine]) * alike(mine)
        lower = cholesky_each(covariance)
        if np.all(np.isfinite(lower)):
            # Jacobi's method: each axis to its own digits, over any number of decades
            size, _, axes, by, *_ = jacobi(lower.T, joba=0)
            out[mine] = axes @ ((axes.T @ error[mine]) / (size * (by[0] / by[1])))
    return out
