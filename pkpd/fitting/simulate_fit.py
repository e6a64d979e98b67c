"""New patients of a fit, under doses of the user's own, with the fit's uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from pkpd.arguments import a, check_arguments, from_to
from pkpd.arrays import Floats
from pkpd.data.dataset import Dataset
from pkpd.distributions import stream
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.draws import Draws, Fitted
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.parameter_draws import parameter_draws
from pkpd.predict.structure import carries_forward

if TYPE_CHECKING:
    import xarray as xr

_WHERE = "simulate_fit"


def simulate_fit(
    fit: Fitted,
    design: Dataset,
    times_h: Sequence[float] | np.ndarray,
    *,
    draws: int = 200,
    uncertain: bool = True,
    patients: bool = True,
    residual: bool = False,
    seed: int = 1,
) -> xr.Dataset:
    """Simulate new patients of a fit under other doses, covariates and times.

    Parameters
    ----------
    fit
        Result of `pkpd.fit` by any method.
    design
        Doses and covariates of ``B`` subjects, in the units of the data that were fitted; what was
        measured there is not used.
    times_h : float[T]
        Hours at which all subjects are predicted; at the time of a dose, after it.
    draws
        Draws ``D``. Each has parameters and patients of its own.
    uncertain
        Draw parameters from the posterior, or around maximum likelihood estimates from their
        normal approximation; else all draws have the median of the posterior, or the estimates.
    patients
        Draw random effects of new patients; else each subject is the typical patient of its
        covariates.
    residual
        Add residual errors: values as they would be measured, without limits of quantification.
    seed
        Seed. Subjects of two designs have the same random effects where the designs have the same
        number of subjects and occasions: differences between them are those of doses.

    Returns
    -------
    xarray.Dataset
        A variable for each line of the fit, ``[draw, subject, time]`` in its unit, NaN where the
        model could not be solved; and a variable for each population parameter, ``[draw]``, whose
        name begins with ``population_``. ``attrs["parameters"]`` says where they come from,
        ``attrs["notes"]`` which of them stay at their estimates.

    Raises
    ------
    PkpdError
        If the design is in other units, has a word of a covariate that the fit has not seen, lacks
        a covariate or an occasion, or several draws are asked of estimates without standard errors.

    Examples
    --------
    >>> import pandas as pd
    >>> from pkpd.data import read_nonmem
    >>> from pkpd.models import simulate_fit
    >>> twice = pd.DataFrame({"ID": [1, 1], "TIME": [0, 12], "AMT": [200, 200], "DV": None})
    >>> new = simulate_fit(fit, read_nonmem(twice), [6, 24], draws=100)  # doctest: +SKIP
    >>> new["concentration"].quantile([0.05, 0.5, 0.95], ("draw", "subject"))  # doctest: +SKIP
    """
    import xarray as xr

    check_arguments(
        _WHERE,
        design=(design, a(Dataset)),
        draws=(draws, from_to(1)),
        uncertain=(uncertain, a(bool)),
        patients=(patients, a(bool)),
        residual=(residual, a(bool)),
        seed=(seed, from_to(0)),
    )
    times = np.unique(np.asarray(times_h, dtype=float))
    if not times.size:
        raise PkpdError(where=f"{_WHERE}, times_h", what="is empty", remedy="give hours")
    chosen = parameter_draws(fit, draws if uncertain else 1, seed)
    model, data = fit.likelihood.model, fit.likelihood.dataset
    _look_at_units(design, data)
    asked = design.numbered_as(data).at_times(
        times, data.lines, "forward" if carries_forward(model.structure) else "backward"
    )
    ones = np.ones(len(asked.observations))
    asked = replace(asked, observations=replace(asked.observations, value=ones))
    likelihood = bind(model, asked, estimated=False)
    shape = (draws, likelihood.n_subjects, likelihood.random_effects.size)
    values = {name: np.resize(v, draws) for name, v in chosen.values.items()}
    new = Draws(likelihood, values, np.zeros(shape))
    if patients:
        scores = stream(seed, "patients of a fit").standard_normal(shape)
        new = replace(new, random=scores @ new.cholesky.transpose(0, 2, 1))
    simulated = _simulated(new, residual, seed)
    # observations are ordered by subject, time and line
    by_line = simulated.reshape(draws, shape[1], len(times), len(data.lines))
    failed = int(np.isnan(by_line).any(axis=(2, 3)).sum())
    if failed:
        warnings.warn(
            f"{_WHERE}: {failed} of {draws * shape[1]} simulated patients could not be solved; "
            "they are NaN",
            PkpdWarning,
            stacklevel=2,
        )
    dims = ("draw", "subject", "time")
    found: dict[str, Any] = {
        line: (dims, by_line[..., k], {"unit": data.units.get(line, "")})
        for k, line in enumerate(data.lines)
    }
    found |= {f"population_{name}": ("draw", value) for name, value in values.items()}
    return xr.Dataset(
        found,
        {
            "draw": np.arange(draws),
            "subject": [str(one) for one in asked.subjects],
            "time": ("time", times, {"unit": "h"}),
        },
        {
            "parameters": chosen.words,
            "notes": list(chosen.notes),
            "patients": "new" if patients else "typical",
            "residual": "added" if residual else "none",
            "failed": failed,
        },
    )


def _simulated(draws: Draws, residual: bool, seed: int) -> Floats:
    """Predictions ``[D, M]``, with residual errors if asked; NaN where there is none."""
    rng, likelihood = stream(seed, "residuals of a fit"), draws.likelihood
    predict = jax.jit(likelihood.predictions)
    found = []
    for fixed, random in zip(draws.fixed, draws.random, strict=True):
        predicted = np.asarray(predict(fixed, random))
        with np.errstate(over="ignore", invalid="ignore"):
            one = likelihood.simulate(fixed, predicted, rng, random) if residual else predicted
        found.append(np.where(np.isfinite(one), one, np.nan))
    return np.stack(found)


def _look_at_units(design: Dataset, data: Dataset) -> None:
    """Refuse other units than those of the data that were fitted; warn where none is declared."""
    where, silent = f"{_WHERE}, {design.events.source}", []
    for name, unit in {**data.units, "TIME": data.time_unit or "h"}.items():
        own = (design.time_unit or "") if name == "TIME" else design.units.get(name, "")
        given = name in design.covariates or (name == "AMT" and bool(design.events.is_dose.any()))
        if own and own != unit and name != "TIME":
            raise PkpdError(
                where=where, what=f"{name} is in {own}, and the fit's data have it in {unit}",
                remedy="read both with the same units=",
            )  # fmt: skip
        if not own and (unit != "h" if name == "TIME" else given):
            silent.append(f"{name} ({unit})")
    if silent:
        warnings.warn(
            f"{where}: the fit's data declare units of {', '.join(silent)}, and the design none: "
            "it is taken as hours, mg and so on; read both with the same units=",
            PkpdWarning,
            stacklevel=3,
        )
