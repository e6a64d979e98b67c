"""A plain ``pm.Model`` from a population model and data.

Variables: every population parameter under its own name and on its natural scale; ``x`` with the
random effects as they are sampled; ``eta`` (subject by parameter) and ``kappa`` (subject by
occasion by parameter). The likelihood is the potential ``log_likelihood``.

Each random effect is sampled centred, non-centred, or in between: with weight ``w`` and typical
value ``m`` on the parameter's scale, ``x ~ N(w m, omega^w)`` and ``eta = omega^(1-w) (x - w m)``,
so that ``w = 0`` is a standard normal and ``w = 1`` the individual value itself (Papaspiliopoulos,
Roberts and Skoeld 2003; Gorinova, Moore and Hoffman 2020). In a block of correlated effects each
is centred or not: the centred ones have their own normal distribution, the others are what is left
of them given those, divided by its standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor

from pkpd.fitting.bayes.graph import LogLikelihood
from pkpd.fitting.model.individuals import to_scale
from pkpd.fitting.model.likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import correlation_cholesky, partial_correlations
from pkpd.fitting.model.priors import Estimate, Prior
from pkpd.fitting.model.specification import IndividualParameter, PopulationModel

pt: Any = pytensor.tensor  # its operators are made at run time, out of a type checker's sight


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

    Covariate coefficients: normal around the starting value, standard deviation 1. Standard
    deviations of random effects: half-normal with twice the starting value. Residual coefficients:
    half-normal with twice the starting value. Degrees of freedom: gamma(2, 0.1). Box-Cox
    shapes: normal, standard deviation 1.
    """
    out: dict[str, Prior] = {}

    def add(name: str, one: Estimate, default: Prior) -> None:
        if not one.fixed:
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
            degrees = name == f"nu_{line}"
            wide = Prior("Gamma", alpha=2.0, beta=0.1)
            add(name, one, wide if degrees else Prior("HalfNormal", sigma=2.0 * one.value))
    for names, prefix, attribute in (
        (model.varying, "omega_", "iiv"),
        (model.occasional, "omega_occasion_", "iov"),
    ):
        for name in names:
            one = getattr(model[name], attribute)
            add(f"{prefix}{name}", one, Prior("HalfNormal", sigma=2.0 * one.value))
    return out


def build_model(
    likelihood: PopulationLikelihood,
    centring: Mapping[str, float] | None = None,
    measured: Sequence[str] = (),
) -> pm.Model:
    """Build the ``pm.Model`` of a bound population model.

    Parameters
    ----------
    likelihood
        From `pkpd.fitting.model.likelihood.bind`.
    centring
        Weight ``w`` by parameter; those of the model's parameters come first, 0 where neither is
        given.
    measured
        ``("value",)`` or ``("value", "censored")``: measurements that are mutable data of the
        model, ``observed_value`` and ``observed_censored``, in the place of constants; see
        `pkpd.fitting.bayes.graph.LogLikelihood`.

    Returns
    -------
    pm.Model
        With coordinates ``subject``, ``parameter``, and ``occasion``, ``occasion_parameter`` where
        there are occasions.
    """
    model, random = likelihood.model, likelihood.random_effects
    coords: dict[str, Any] = {"subject": list(likelihood.dataset.subjects)}
    if model.varying:
        coords["parameter"] = list(model.varying)
    if random.n_occasions:
        coords["occasion"] = np.arange(1, random.n_occasions + 1)
        coords["occasion_parameter"] = list(model.occasional)
    with pm.Model(coords=coords) as made:
        values = _population_variables(model)
        parts = []
        if model.varying:
            weights = centring_weights(model, dict(centring or {}))
            eta = _patient_effects(model, values, weights)
            parts.append(pm.Deterministic("eta", eta, dims=("subject", "parameter")))
        if random.n_occasions:
            parts.append(_occasion_effects(model, values).reshape((likelihood.n_subjects, -1)))
        none = pt.zeros((likelihood.n_subjects, 0))
        effects = pt.concatenate(parts, axis=1) if parts else none
        fixed = pt.stack([values[name] for name in likelihood.fixed_names])
        seen = likelihood.dataset.observations
        data = [pm.Data(f"observed_{name}", getattr(seen, name)) for name in measured]
        total: Any = LogLikelihood(likelihood)(fixed, effects, *data)
        pm.Potential("log_likelihood", total[0])
    return made


def _population_variables(model: PopulationModel) -> dict[str, Any]:
    """Add population parameters as random variables; held ones are numbers."""
    from pkpd.fitting.model.population_parameters import held, start_values

    start, priors = start_values(model), all_priors(model)
    out: dict[str, Any] = {name: pt.constant(start[name]) for name in held(model)}
    for name, prior in priors.items():
        out[name] = prior.variable(name)
    for block in model.correlated:
        for i in range(1, len(block)):
            for j in range(i):
                # canonical partial correlations of the LKJ distribution (Lewandowski 2009)
                shape = model.lkj + 0.5 * (len(block) - 2 - j)
                name = f"partial_{block[j]}_{block[i]}"
                if name in out:
                    continue
                unit = pm.Beta(f"{name}_unit", shape, shape)
                out[name] = pm.Deterministic(name, 2.0 * unit - 1.0)
    assert set(partial_correlations(model)) <= set(out)
    return out


def centring_weights(model: PopulationModel, given: dict[str, float]) -> np.ndarray:
    """Centring weight of every varying parameter; 0 or 1 in a block."""
    weights = []
    for name in model.varying:
        own = model[name].centring
        # a Box-Cox effect is not the distance from the typical value: it stays non-centred
        free = model[name].boxcox is None
        weights.append((own if own is not None else given.get(name, 0.0)) if free else 0.0)
    out = np.array(weights, dtype=float)
    at = 0
    for block in model.correlated:
        mine = slice(at, at + len(block))
        out[mine] = out[mine] > 0.5
        at += len(block)
    return out


def block_order(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """Order in which the effects of a block are built, centred ones first, and how many those are.

    Parameters
    ----------
    weights
        Centring weights of the block, 0 or 1.
    """
    order = np.argsort(-weights, kind="stable")
    return order, int(np.sum(weights == 1.0))


def block_labels(model: PopulationModel, block: Sequence[str]) -> tuple[str, str]:
    """Names of the variables of a block: of its centred effects, and of the others."""
    label = f"x_{'_'.join(block)}" if len(model.correlated) > 1 else "x_block"
    return f"{label}_centred", label


def _patient_effects(model: PopulationModel, values: dict[str, Any], weights: np.ndarray) -> Any:
    """``eta [B, E]`` from what is sampled."""
    names = model.varying
    sd = pt.stack([values[f"omega_{name}"] for name in names])
    typical = pt.stack([to_scale(model[name], values[name], pt) for name in names])
    centre = weights * typical
    n_blocked = sum(len(block) for block in model.correlated)
    parts, at = [], 0
    for block in model.correlated:
        mine = slice(at, at + len(block))
        partial = [
            values[f"partial_{block[j]}_{block[i]}"] for i in range(1, len(block)) for j in range(i)
        ]
        lower = sd[mine][:, None] * correlation_cholesky(partial, len(block), pt)
        order, n = block_order(weights[mine])
        if np.any(order != np.arange(len(block))):
            rows = lower[order]
            lower = pt.linalg.cholesky(rows @ rows.T)
        centred, label = block_labels(model, block)
        scores, mean = [], typical[mine][order[:n]]
        if n:
            x = pm.MvNormal(centred, mu=mean, chol=lower[:n, :n], shape=_shape(n))
            scores.append(pt.linalg.solve_triangular(lower[:n, :n], (x - mean).T, lower=True).T)
        if n < len(block):
            scores.append(pm.Normal(label, shape=_shape(len(block) - n)))
        effects = pt.concatenate(scores, axis=1) @ lower.T
        parts.append(effects[:, np.argsort(order)])
        at += len(block)
    if n_blocked < len(names):
        w, s = weights[n_blocked:], sd[n_blocked:]
        x = pm.Normal(
            "x",
            mu=centre[n_blocked:],
            sigma=s**w,
            shape=_shape(len(names) - n_blocked),
        )
        parts.append(s ** (1.0 - w) * (x - centre[n_blocked:]))
    return pt.concatenate(parts, axis=1)


def _shape(size: int) -> tuple[int, int]:
    model = pm.modelcontext(None)
    return (len(model.coords["subject"] or ()), size)


def _occasion_effects(model: PopulationModel, values: dict[str, Any]) -> Any:
    """``kappa [B, O, K]``, non-centred: an occasion alone tells little about its effect."""
    sd = pt.stack([values[f"omega_occasion_{name}"] for name in model.occasional])
    dims = ("subject", "occasion", "occasion_parameter")
    x = pm.Normal("x_occasion", dims=dims)
    return pm.Deterministic("kappa", sd * x, dims=dims)
