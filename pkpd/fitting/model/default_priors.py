"""Priors of all population parameters: those given with the model, and defaults for the others."""

from __future__ import annotations

import numpy as np

from pkpd.fitting.model.priors import Estimate, Prior
from pkpd.fitting.model.specification import IndividualParameter, PopulationModel


def default_prior(p: IndividualParameter) -> Prior:
    """Return the prior of a typical value that has none of its own.

    Log scale: log-normal around the starting value with standard deviation 1 (a factor of 7 either
    way holds 95 %). Logit scale: uniform between the bounds. Identity: normal around the value
    with a standard deviation as large as the value, at least 1.
    """
    if p.scale == "log":
        return Prior("LogNormal", mu=float(np.log(p.typical.value)), sigma=1.0)
    if p.scale == "logit":
        return Prior("Uniform", lower=p.bounds[0], upper=p.bounds[1])
    return Prior("Normal", mu=p.typical.value, sigma=max(1.0, abs(p.typical.value)))


def all_priors(model: PopulationModel) -> dict[str, Prior]:
    """Prior of every estimated population parameter by name, defaults filled in.

    Parameters of the model's joint prior have theirs there, and are left out here.

    Covariate coefficients: normal around the starting value, standard deviation 1. Standard
    deviations of random effects: half-normal with twice the starting value. Residual coefficients:
    half-normal with twice the starting value; time scales of their processes: log-normal around
    the starting value, standard deviation 1. Degrees of freedom: gamma(2, 0.1). Box-Cox shapes:
    normal, standard deviation 1.
    """
    out: dict[str, Prior] = {}
    joint = () if model.joint is None else model.joint.names

    def add(name: str, one: Estimate, default: Prior) -> None:
        if not one.fixed and name not in joint:
            out[name] = one.prior or default

    for p in model.parameters:
        if p.has_typical:
            add(p.name, p.typical, default_prior(p))
    for p in model.parameters:
        for effect in p.effects:
            start = effect.coefficient
            add(effect.name(p.name), start, Prior("Normal", mu=start.value, sigma=1.0))
    for p in model.parameters:
        if p.boxcox is not None:
            add(f"boxcox_{p.name}", p.boxcox, Prior("Normal", mu=p.boxcox.value, sigma=1.0))
    for line, error in model.residual.items():
        for name, one in error.estimates(line).items():
            default = Prior("HalfNormal", sigma=2.0 * one.value)
            if name == f"nu_{line}":
                default = Prior("Gamma", alpha=2.0, beta=0.1)
            elif name.startswith("tau"):
                default = Prior("LogNormal", mu=float(np.log(one.value)), sigma=1.0)
            add(name, one, default)
    for names, prefix, attribute in (
        (model.varying, "omega_", "iiv"),
        (model.occasional, "omega_occasion_", "iov"),
    ):
        for name in names:
            one = getattr(model[name], attribute)
            add(f"{prefix}{name}", one, Prior("HalfNormal", sigma=2.0 * one.value))
    return out
