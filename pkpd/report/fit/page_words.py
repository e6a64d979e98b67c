"""A population model and its estimates in words and equations, for the page of a fit."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd

from pkpd.data.dataset import ABOVE, BELOW, Dataset
from pkpd.fitting.model.correlations import partial_names
from pkpd.fitting.model.covariate_effects import CovariateEffect
from pkpd.fitting.model.default_priors import all_priors
from pkpd.fitting.model.population_parameters import deviations, held
from pkpd.fitting.model.residual import ResidualError
from pkpd.fitting.model.specification import IndividualParameter, PopulationModel

_ERRORS = {
    "additive": "y = f + ε,  ε ~ {d}(0, {a}²)",
    "proportional": "y = f (1 + ε),  ε ~ {d}(0, {a}²)",
    "combined": "y = f + ε,  ε ~ {d}(0, {a}² + {b}² f²)",
    "combined_linear": "y = f + ε,  ε ~ {d}(0, ({a} + {b} f)²)",
    "lognormal": "log y = log f + ε,  ε ~ {d}(0, {a}²)",
}


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits; an empty string for NaN."""
    if value is None or not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -4 <= size < 5:
        return f"{value:.{max(0, digits - 1 - size)}f}"
    return f"{value:.{digits - 1}e}"


def percent(value: float) -> str:
    """Write a fraction in percent; an empty string for NaN."""
    return "" if value is None or not math.isfinite(value) else f"{100 * value:.0f}"


def structure_words(model: PopulationModel) -> str:
    """Say what the structural model is."""
    structure: Any = model.structure
    name = str(getattr(getattr(structure, "system", None), "name", type(structure).__name__))
    found = re.search(r"absorption (\w+)", name)
    if found:
        name = name.replace(found[0], f"absorption: {found[1].replace('_', ' ')}")
    return f"{name}; predicts {', '.join(structure.lines)}"


def equations(model: PopulationModel) -> list[tuple[str, str]]:
    """Equation of every individual parameter, and of the residual error of every line."""
    rows = [(p.name, _individual(p)) for p in model.parameters]
    for block in model.correlated:
        if set(partial_names([block])) <= held(model):
            continue
        rows.append(("correlated", ", ".join(f"η_{name}" for name in block)))
    return rows + [(f"{line}, measured", _residual(line, e)) for line, e in model.residual.items()]


def _individual(p: IndividualParameter) -> str:
    if p.column is not None:
        return f"column {p.column} of the data"
    if p.function is not None:
        return f"{p.name} is derived from {', '.join(p.reads) or 'nothing'}"
    typical = number(p.typical.value) if p.typical.fixed else f"θ_{p.name}"
    random, spread = [], []
    if p.iiv is not None:
        eta = f"η_{p.name}"
        random.append(
            eta if p.boxcox is None else f"(exp(λ_{p.name} {eta}) \N{MINUS SIGN} 1) / λ_{p.name}"
        )
        spread.append(f"{eta} ~ N(0, ω_{p.name}²)")
    if p.iov is not None:
        random.append(f"κ_{p.name},occasion")
        spread.append(f"κ_{p.name} ~ N(0, ω_occasion_{p.name}²)")
    if p.scale == "log":
        parts = [typical, *(_factor(e, p.name) for e in p.effects)]
        text = " · ".join(parts) + (f" · exp({' + '.join(random)})" if random else "")
    else:
        sign = "logit" if p.scale == "logit" else ""
        first = f"{sign}({typical})" if sign else typical
        inner = " + ".join([first, *(_term(e, p.name) for e in p.effects), *random])
        text = f"logit⁻¹({inner})" if sign else inner
        if sign and p.bounds != (0.0, 1.0):
            text += f" between {p.bounds[0]:g} and {p.bounds[1]:g}"
    return f"{p.name} = {text}" + (f",  {', '.join(spread)}" if spread else "")


def _coefficient(effect: CovariateEffect, name: str) -> str:
    one = effect.coefficient
    return number(one.value) if one.fixed else f"β_{effect.name(name)}"


def _factor(effect: CovariateEffect, name: str) -> str:
    b, x, at = _coefficient(effect, name), effect.covariate, effect.level
    return {
        "power": f"({x} / {at})^{b}",
        "exponential": f"exp({b} ({x} \N{MINUS SIGN} {at}))",
        "linear": f"(1 + {b} ({x} \N{MINUS SIGN} {at}))",
        "category": f"exp({b} [{x} = {at}])",
    }[effect.kind]


def _term(effect: CovariateEffect, name: str) -> str:
    b, x, at = _coefficient(effect, name), effect.covariate, effect.level
    return {
        "power": f"{b} log({x} / {at})",
        "exponential": f"{b} ({x} \N{MINUS SIGN} {at})",
        "linear": f"{b} ({x} \N{MINUS SIGN} {at})",
        "category": f"{b} [{x} = {at}]",
    }[effect.kind]


def _residual(line: str, error: ResidualError) -> str:
    names = list(error.estimates(line))
    symbols = [name.replace("sigma_", "\N{GREEK SMALL LETTER SIGMA}_") for name in names]
    law = "N" if error.nu is None else "Student t"
    text = _ERRORS[error.form].format(d=law, a=symbols[0], b=symbols[min(1, len(symbols) - 1)])
    if error.nu is not None:
        text += f",  degrees of freedom \N{GREEK SMALL LETTER NU}_{line}"
    if error.processes:
        count = len(error.processes)
        text += f",  plus {count} Ornstein-Uhlenbeck process{'es' if count > 1 else ''}"
    return text + (f",  times {error.scale} of the patient" if error.scale is not None else "")


def prior_rows(model: PopulationModel) -> list[tuple[str, str]]:
    """Prior of every estimated parameter."""
    rows = []
    for name, prior in all_priors(model).items():
        text, given = repr(prior)[6:-1], dict(prior.arguments)
        if prior.distribution == "LogNormal" and "mu" in given:
            text += f" (median {number(math.exp(given['mu']))})"
        rows.append((name, text))
    joint = () if model.joint is None else model.joint.names
    rows += [] if model.joint is None else [(", ".join(joint), repr(model.joint))]
    for block in model.correlated:
        if set(partial_names([block])) <= held(model) | set(joint):
            continue
        rows.append((f"correlations of {', '.join(block)}", f"LKJ, concentration {model.lkj:g}"))
    return rows


def meaning(model: PopulationModel, name: str) -> str:
    """Say what a population parameter is."""
    if name.startswith("corr_"):
        return "correlation of random effects"
    if name in deviations(model):
        occasion = name.startswith("omega_occasion_")
        return f"sd between {'occasions' if occasion else 'patients'}"
    if name.startswith("boxcox_"):
        return "Box-Cox shape"
    residual = {n for line, e in model.residual.items() for n in e.estimates(line)}
    if name in residual:
        return "degrees of freedom" if name.startswith("nu_") else "residual error"
    return "typical value" if name in {p.name for p in model.parameters} else "covariate effect"


def estimate_rows(model: PopulationModel, table: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of the parameter table as text."""
    fixed = held(model)
    rows = []
    for name, row in table.to_dict(orient="index").items():
        rows.append(
            {
                "name": str(name),
                "meaning": meaning(model, str(name)),
                "estimate": number(row["estimate"]),
                "median": number(row["median"]),
                "interval": "held" if name in fixed else _span(row["lower"], row["upper"]),
                "sd": number(row["sd"]),
                "rse": percent(row["rse"]),
                "cv": percent(row["cv"]),
                "shrinkage": " / ".join(
                    percent(row[key])
                    for key in ("shrinkage_sd", "shrinkage_variance")
                    if math.isfinite(row[key])
                ),
                "contraction": percent(row["contraction"]),
            }
        )
    return rows


def _span(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}" if np.isfinite(low) and np.isfinite(high) else ""


def data_rows(dataset: Dataset) -> list[dict[str, str]]:
    """Rows of the table of observations by line."""
    seen, rows = dataset.observations, []
    for i, line in enumerate(dataset.lines):
        mine = seen.line == i
        measured = seen.value[mine & (seen.censored == 0)]
        n = int(mine.sum())
        rows.append(
            {
                "line": line,
                "subjects": str(len(np.unique(seen.subject[mine]))),
                "n": str(n),
                "below": _share(int(np.sum(seen.censored[mine] == BELOW)), n),
                "above": _share(int(np.sum(seen.censored[mine] == ABOVE)), n),
                "range": f"{measured.min():.3g} to {measured.max():.3g}" if len(measured) else "",
                "time": f"{seen.time[mine].min():g} to {seen.time[mine].max():g}" if n else "",
            }
        )
    return rows


def _share(count: int, n: int) -> str:
    return f"{count} ({100 * count / n:.0f} %)" if count else "0"
