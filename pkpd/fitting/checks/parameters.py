"""The parameter table of a fit: estimates, uncertainty, variability, shrinkage, contraction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pkpd.fitting.checks.priors import Contraction
from pkpd.fitting.checks.shrinkage import Shrinkage
from pkpd.fitting.draws import Draws
from pkpd.fitting.model.correlations import partial_names
from pkpd.fitting.model.population_parameters import correlation_cholesky, deviations, held
from pkpd.fitting.model.specification import PopulationModel

_STEP = 1e-5  # of differences, as a share of the way of a partial correlation to 1
LARGE_RSE = 0.5
"""Relative standard error above which an estimate is called poorly known."""


def parameter_table(
    draws: Draws,
    *,
    shrunk: Shrinkage | None = None,
    contracted: Mapping[str, Contraction] | None = None,
    standard_errors: Mapping[str, float] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    level: float = 0.9,
) -> pd.DataFrame:
    """Summarise the population parameters.

    Parameters
    ----------
    draws
        Posterior draws, or the single draw of maximum likelihood.
    shrunk
        Shrinkage of the random effects.
    contracted
        Prior against posterior.
    standard_errors, intervals
        Of maximum-likelihood estimates, by name on the natural scale. Without ``intervals`` they
        are taken as normal.
    level
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        By name of the parameter: ``estimate`` (posterior mean or maximum-likelihood estimate),
        ``median``, ``sd`` (or standard error), ``rse`` (``sd / |estimate|``), ``lower``,
        ``upper``, ``cv`` (for standard deviations on the log scale, ``sqrt(exp(w^2) - 1)``),
        ``shrinkage_sd``, ``shrinkage_variance``, ``contraction``, ``held``. Correlations of a
        block stand as ``corr_CL_V``.
    """
    model = draws.likelihood.model
    fixed, spread = held(model), deviations(model)
    tail = 0.5 * (1 - level)
    values = {n: v for n, v in draws.population.items() if not n.startswith("partial_")}
    values |= correlations(draws)
    rows = {}
    for name, value in values.items():
        value = np.asarray(value, dtype=float)
        row: dict[str, float | bool] = {"estimate": float(value.mean()), "held": name in fixed}
        if name not in fixed and len(value) > 1:
            low, high = np.quantile(value, [tail, 1 - tail])
            row |= {
                "median": float(np.median(value)),
                "sd": float(value.std(ddof=1)),
                "lower": float(low),
                "upper": float(high),
            }
        elif name not in fixed and standard_errors and name in standard_errors:
            from scipy.stats import norm

            error = float(standard_errors[name])
            reach = float(norm.ppf(1 - tail)) * error
            low, high = (intervals or {}).get(
                name, (row["estimate"] - reach, row["estimate"] + reach)
            )
            row |= {"sd": error, "lower": float(low), "upper": float(high)}
        if row["estimate"] and "sd" in row:
            row["rse"] = float(row["sd"]) / abs(float(row["estimate"]))
        if name in spread:
            row |= _variability(model, name, float(row["estimate"]), shrunk)
        if contracted and name in contracted:
            row["contraction"] = contracted[name].contraction
        rows[name] = row
    columns = [
        "estimate",
        "median",
        "sd",
        "rse",
        "lower",
        "upper",
        "cv",
        "shrinkage_sd",
        "shrinkage_variance",
        "contraction",
        "held",
    ]
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns)
    table.index.name = "parameter"
    return table


def correlations(draws: Draws) -> dict[str, np.ndarray]:
    """Correlations of random effects within blocks, by name ``corr_CL_V``, ``[D]`` each."""
    out, at = {}, 0
    for block in draws.likelihood.model.correlated:
        lower = draws.cholesky[:, at : at + len(block), at : at + len(block)]
        covariance = lower @ np.swapaxes(lower, 1, 2)
        sd = np.sqrt(np.einsum("dii->di", covariance))
        for i in range(1, len(block)):
            for j in range(i):
                out[f"corr_{block[j]}_{block[i]}"] = covariance[:, i, j] / (sd[:, i] * sd[:, j])
        at += len(block)
    return out


def correlation_errors(
    model: PopulationModel, values: Mapping[str, float], covariance: pd.DataFrame
) -> dict[str, float]:
    """Carry errors of partial correlations to those of ``corr_CL_V`` (delta method).

    Parameters
    ----------
    model
        With its blocks.
    values
        Partial correlations by name.
    covariance
        Of the estimates on the natural scale, rows and columns by name; what is not there is held.

    Returns
    -------
    dict
        By name; NaN where an estimate of the block has no standard error.
    """
    out = {}
    for block in model.correlated:
        names = partial_names([block])
        at = np.array([values[name] for name in names])
        free = [k for k, name in enumerate(names) if name in covariance.index]
        if not free:
            continue
        slopes = []
        for k in free:
            step = _STEP * (1.0 - abs(at[k])) * np.eye(len(at))[k]
            above, below = (_below_diagonal(at + way * step, len(block)) for way in (1.0, -1.0))
            slopes.append((above - below) / (2.0 * step[k]))
        mine = [names[k] for k in free]
        cov = covariance.loc[mine, mine].to_numpy()
        errors = np.sqrt(np.einsum("ki,kl,li->i", slopes, cov, slopes))
        out |= {
            name.replace("partial_", "corr_", 1): float(error)
            for name, error in zip(names, errors, strict=True)
        }
    return out


def _below_diagonal(partial: np.ndarray, size: int) -> np.ndarray:
    """Correlations of a block from its partial ones, row by row."""
    lower = correlation_cholesky(list(partial), size, np)
    return (lower @ lower.T)[np.tril_indices(size, -1)]


def _variability(
    model: PopulationModel, name: str, omega: float, shrunk: Shrinkage | None
) -> dict[str, float]:
    occasion = name.startswith("omega_occasion_")
    parameter = name.removeprefix("omega_occasion_" if occasion else "omega_")
    out = {}
    p = model[parameter]
    if p.scale == "log" and p.boxcox is None:
        out["cv"] = float(np.sqrt(np.expm1(omega**2)))
    if shrunk is not None:
        key = f"{parameter} occasion" if occasion else parameter
        if key in shrunk.sd:
            out |= {
                "shrinkage_sd": shrunk.sd[key],
                "shrinkage_variance": shrunk.variance[key],
            }
    return out


def table_sentences(model: PopulationModel, table: pd.DataFrame) -> tuple[str, ...]:
    """Say which estimates are poorly known, and which covariate effects may be none."""
    effects = [e.name(p.name) for p in model.parameters for e in p.effects]
    rse = dict(zip(map(str, table.index), table["rse"].to_numpy(float), strict=True))
    # relative to a correlation or a coefficient near zero an error says nothing
    wide = {
        name: value
        for name, value in rse.items()
        if value > LARGE_RSE and name not in effects and not name.startswith("corr_")
    }
    low, high = table["lower"].to_dict(), table["upper"].to_dict()
    open_ = [name for name in effects if low[name] < 0 < high[name]]
    out = []
    if open_:
        out.append(f"Covariate effects whose interval holds zero: {', '.join(open_)}.")
    if not wide:
        return tuple(out)
    names = ", ".join(f"{name} {100 * value:.0f} %" for name, value in wide.items())
    out.append(f"Poorly known (relative standard error above {100 * LARGE_RSE:.0f} %): {names}.")
    return tuple(out)
