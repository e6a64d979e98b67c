"""Which of several models of the same data is better: likelihood ratios, AIC, BIC.

Twice the difference of the log-likelihoods of a model and of one that lies in it is chi-square
distributed with as many degrees of freedom as the larger one has further parameters (Wilks 1938,
Ann Math Stat 9:60-2). A variance that the smaller model puts at zero lies at the edge of what it
can be: with one such variance among ``q`` further parameters, covariances included, the
distribution is a mixture in equal parts of those with ``q`` and ``q - 1`` degrees (Self and Liang
1987, J Am Stat Assoc 82:605-10; Stram and Lee 1994, Biometrics 50:1171-7). With several, weights
depend on the design. Those of the even numbers of degrees sum to one half, as do those of the odd
ones, so that the same mixture is an upper bound of p.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arguments import PATH, check_arguments
from pkpd.errors import PkpdError
from pkpd.files import read_netcdf
from pkpd.fitting.maximum.description import at_edge, extra_parameters, other_covariates
from pkpd.fitting.maximum.result import KIND, MaximumLikelihood
from pkpd.fitting.uncertainty.refit import refuse_priors

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_ABOUT = {"data": str, "subjects": int, "observations": int, "structure": list} | dict.fromkeys(
    ("kinds", "held", "forms"), dict
)
_BELOW = 0.01  # a larger model cannot be worse; its search may have ended so much short


def ratio_p(fall: float, further: int, edges: int) -> float:
    """P value of a fall of the objective.

    Parameters
    ----------
    fall
        Of ``-2 log L``, from the smaller to the larger model.
    further
        Parameters of the larger model beyond those of the smaller.
    edges
        Variances among them that the smaller model puts at zero; with more than one the result is
        an upper bound.

    Examples
    --------
    >>> [round(ratio_p(*case), 4) for case in [(3.841, 1, 0), (2.706, 1, 1), (5.138, 2, 1)]]
    [0.05, 0.05, 0.05]
    """
    from scipy.stats import chi2

    if fall <= 0.0:
        return 1.0
    whole = float(chi2.sf(fall, further))
    if not edges:
        return whole
    return 0.5 * (whole + (float(chi2.sf(fall, further - 1)) if further > 1 else 0.0))


@dataclass(frozen=True)
class _Run:
    """What a comparison reads of a fit."""

    name: str
    about: Mapping[str, Any]
    method: str
    objective: float
    minus: float
    size: int
    penalised: bool = False

    @classmethod
    def of(cls, name: str, fit: MaximumLikelihood) -> _Run:
        minus = -2.0 * fit.log_likelihood
        return cls(name, fit.about, fit.method, fit.objective, minus, len(fit.counted))

    def bic(self, of: str) -> float:
        """Schwarz's criterion with the number of ``subjects`` or ``observations``."""
        return (
            self.minus + float(np.log(self.about[of])) * self.size if of in self.about else np.nan
        )

    def unlike(self, other: _Run) -> str:
        """Say in what two fits differ that a comparison does not allow."""
        if self.about.get("data") != other.about.get("data"):
            return "were made of different data"
        if self.method != other.method:
            return f"were made by different approximations ({self.method} and {other.method})"
        return ""


def _parent(run: _Run, others: Sequence[_Run]) -> _Run | None:
    """Return the largest model that lies in this one; of several the one with the best fit."""
    inside = [
        one
        for one in others
        if "data" in one.about
        and not (run.penalised or one.penalised)
        and not run.unlike(one)
        and extra_parameters(one.about, run.about) is not None
        and not other_covariates(one.about, run.about)
    ]
    return min(inside, key=lambda one: (-one.size, one.objective), default=None)


def _covariates_apart(made: Sequence[_Run]) -> list[str]:
    """Sentences on models that would lie in each other if they read the same covariates."""
    return [
        f"{one.name} and {run.name} read other values of {', '.join(names)}: neither lies in the "
        "other, and there is no p value between them."
        for one in made
        for run in made
        if extra_parameters(one.about, run.about) is not None
        and (names := other_covariates(one.about, run.about))
    ]


def _step(run: _Run, parent: _Run | None) -> tuple[dict[str, Any], list[str]]:
    """Give the difference of a fit from its parent, and sentences on it."""
    if parent is None:
        return {"parent": "", "difference": np.nan, "degrees": 0, "p": np.nan}, []
    extra = extra_parameters(parent.about, run.about) or {}
    edges = at_edge(parent.about, extra)
    fall, told = parent.objective - run.objective, []
    p = ratio_p(fall, len(extra), len(edges))
    if [name for name in extra if f"sigma_process{name.removeprefix('tau')}" in edges]:
        p = np.nan
        told.append(
            f"{run.name} has a process whose time scale {parent.name} leaves without a "
            "meaning: no p value."
        )
    elif len(edges) > 1:
        told.append(
            f"{run.name}: p is an upper bound, as {parent.name} puts {len(edges)} "
            f"parameters at the edge of what they can be ({', '.join(edges)})."
        )
    elif edges:
        told.append(
            f"{run.name}: p is of the 50:50 mixture of chi-squares, as {parent.name} puts "
            f"{edges[0]} at {'infinity' if edges[0].startswith('nu_') else 'zero'}."
        )
    if fall < -_BELOW:
        told.append(
            f"{run.name} ends {-fall:.2f} above {parent.name}, which lies in it: its "
            "search did not find the minimum; start it from the other's estimates."
        )
    return {"parent": parent.name, "difference": -fall, "degrees": len(extra), "p": p}, told


@dataclass(frozen=True, eq=False)
class FitComparison:
    """Fits of the same data beside each other.

    Attributes
    ----------
    table : DataFrame
        One row for each fit: ``parameters`` (those that count, `MaximumLikelihood.counted`),
        ``objective``, ``aic``, ``bic`` (observations), ``bic_subjects``; ``parent``, the largest of
        the models that lies in it, and against it ``difference`` of the objectives, ``degrees`` of
        freedom and ``p``.
    messages
        Sentences on what the figures are.
    """

    table: pd.DataFrame
    messages: tuple[str, ...]

    def summary(self) -> str:
        """Tell the comparison in text."""
        table = self.table.copy()
        table["p"] = [f"{p:.2g}" if np.isfinite(p) else "" for p in table["p"]]
        lines = table.round(2).to_string(na_rep="").splitlines()
        return "\n".join([*lines, *(f"- {text}" for text in self.messages)])

    __repr__ = summary


def compare_fits(*fits: MaximumLikelihood, names: Sequence[str] | None = None) -> FitComparison:
    """Compare maximum-likelihood fits of the same data.

    A model lies in another if it is that with parameters held, or left out at zero (a covariate, a
    standard deviation, a part of the residual error), on the same structure, with parameters from
    the same columns, with the same values, and functions. Functions of your own are the same if
    they predict the same at two points. Models that do not lie in each other have a difference of
    AIC and BIC and no p value.

    Parameters
    ----------
    *fits
        Two or more, of the same subjects, doses and measurements and by the same method.
    names
        What to call them; 1, 2, ... if left out.

    Returns
    -------
    FitComparison

    Raises
    ------
    PkpdError
        If there are fewer than two, or they are of different data or by different methods.
    """
    for fit in fits:
        if isinstance(fit, Mapping):
            what = "fits are given one by one, not in a mapping"
            remedy = "write compare_fits(*fits.values(), names=list(fits))"
            raise PkpdError(where="compare_fits", what=what, remedy=remedy)
        if not isinstance(fit, MaximumLikelihood):
            what = f"a {type(fit).__name__} has no maximum of the likelihood"
            remedy = (
                "compare posteriors with pkpd.checks.compare_models({'one': fit, 'two': other})"
            )
            raise PkpdError(where="compare_fits", what=what, remedy=remedy)
        refuse_priors(fit, "compare_fits")
    given = list(names) if names is not None else [f"fit {k}" for k in range(1, len(fits) + 1)]
    if len(fits) < 2 or len(given) != len(fits) or len(set(given)) < len(given):
        what = f"{len(fits)} fits and {len(set(given))} names"
        allowed = "two fits or more, each with a name of its own"
        raise PkpdError(where="compare_fits", what=what, allowed=allowed)
    made = [_Run.of(name, fit) for name, fit in zip(given, fits, strict=True)]
    for one in made[1:]:
        if unlike := made[0].unlike(one):
            raise PkpdError(
                where="compare_fits",
                what=f"{made[0].name} and {one.name} {unlike}",
                remedy="fit both models to the same data by the same method",
            )
    rows, told = [], _covariates_apart(made)
    for run, fit in zip(made, fits, strict=True):
        step, sentences = _step(run, _parent(run, made))
        told += sentences
        if not fit.converged:
            told.append(f"{run.name} did not converge.")
        if fit.criteria_note:
            told.append(f"{run.name}: {fit.criteria_note}")
        rows.append(_figures(run) | step)
    if not any(row["parent"] for row in rows):
        told.append("None of these models is known to lie in another: judge by AIC and BIC.")
    return FitComparison(_frame(rows, "fit"), tuple(told))


def _figures(run: _Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "parameters": run.size,
        "objective": run.objective,
        "aic": run.minus + 2.0 * run.size,
        "bic": run.bic("observations"),
        "bic_subjects": run.bic("subjects"),
    }


def _frame(rows: Sequence[Mapping[str, Any]], index: str) -> pd.DataFrame:
    import pandas as pd

    return (
        pd.DataFrame([dict(row) for row in rows]).rename(columns={"name": index}).set_index(index)
    )


def runs(folder: str | Path) -> pd.DataFrame:
    """Table of the maximum-likelihood fits that a folder holds, as a record of runs.

    Parameters
    ----------
    folder
        Where ``fit.save("run1.nc", label="one compartment")`` wrote; folders in it are not read.

    Returns
    -------
    DataFrame
        One row for each file, by name: ``label``, ``source`` of the data, ``method``,
        ``converged``, the columns of `FitComparison.table` (``parent`` is the largest model of the
        same data and method in the folder that is known to lie in it; none of the mode of a
        posterior), ``penalised`` (by priors: criteria are of a likelihood below its maximum),
        ``condition_number``, ``seconds``, and for
        each parameter its estimate and relative standard error in percent (``CL``, ``CL rse``).

    Raises
    ------
    PkpdError
        If there is no such folder, it holds no fit, or a file cannot be read.

    Examples
    --------
    >>> runs("fits")[["label", "parent", "difference", "p"]]  # doctest: +SKIP
    """
    check_arguments("runs", folder=(folder, PATH))
    saved = {path: read_netcdf(path) for path in sorted(Path(folder).glob("*.nc"))}
    found = [_read(path, one) for path, one in saved.items() if one.attrs.get("kind") == KIND]
    if not found:
        what, remedy = "holds no maximum-likelihood fit", 'write some with fit.save("run1.nc")'
        raise PkpdError(where=str(folder), what=what, remedy=remedy)
    every = [run for run, _ in found]
    rows = []
    for run, rest in found:
        words = {"label": run.about.get("label", ""), "source": run.about.get("source", "")}
        step, _ = _step(run, _parent(run, every) if run.about else None)
        words |= {"method": run.method, "penalised": run.penalised or "joint" in run.about}
        rows.append(_figures(run) | words | step | rest)
    return _frame(rows, "file")


def _read(path: Path, saved: xr.Dataset) -> tuple[_Run, dict[str, Any]]:
    """Read what a file tells of its fit, and further columns of the table."""
    try:
        record, about = (json.loads(saved.attrs.get(name, "{}")) for name in ("record", "about"))
        if not all(isinstance(about.get(name), kind) for name, kind in _ABOUT.items()):
            about = {}  # an older file
        # of parameters the kinds are of those that count
        objective, size = float(record["objective"]), len(about.get("kinds", record["names"]))
        # the objective has the penalty of a joint prior, criteria are of the likelihood
        minus = float(saved["by_subject"].sum(skipna=False)) + float(record["constant"])
        penalised = bool(record.get("penalty"))  # the mode of a posterior
        run = _Run(path.name, about, str(record["method"]), objective, minus, size, penalised)
        done = {name: record[name] for name in ("converged", "condition_number", "seconds")}
        return run, done | _parameters(record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what, remedy = f"is no saved fit ({error})", "name what fit.save(...) wrote"
        raise PkpdError(where=str(path), what=what, remedy=remedy) from error


def _parameters(record: Mapping[str, Any]) -> dict[str, float]:
    """Estimates and their relative standard errors in percent, by column."""
    out = {}
    for name, value in record["estimates"].items():
        error = record["standard_errors"].get(name, np.nan)
        out[name] = float(value)
        out[f"{name} rse"] = 100.0 * float(error) / abs(value) if value else np.nan
    return out
