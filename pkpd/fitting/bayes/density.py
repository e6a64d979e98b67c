"""A plain ``pm.Model`` from a population model and data.

Variables: every population parameter under its own name and on its natural scale; ``x`` with the
random effects of each subject as they are sampled (`pkpd.fitting.bayes.centring`); ``eta`` (subject
by parameter) and ``kappa`` (subject by occasion by parameter). The likelihood is the potential
``log_likelihood``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor

from pkpd.fitting.bayes.centring import Centring, by_weights, standardisation
from pkpd.fitting.bayes.graph import LogLikelihood
from pkpd.fitting.bayes.walls import bend
from pkpd.fitting.model.default_priors import all_priors
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import (
    held,
    partial_correlations,
    start_values,
)
from pkpd.fitting.model.specification import PopulationModel

pt: Any = pytensor.tensor  # its operators are made at run time, out of a type checker's sight


def build_model(
    likelihood: PopulationLikelihood,
    centring: Centring | None = None,
    measured: Sequence[str] = (),
) -> pm.Model:
    """Build the ``pm.Model`` of a bound population model.

    Parameters
    ----------
    likelihood
        From `pkpd.fitting.model.likelihood.bind`.
    centring
        How random effects are sampled; by the weights of the model's parameters if left out.
    measured
        ``("value",)`` or ``("value", "censored")``: measurements that are mutable data of the
        model, ``observed_value`` and ``observed_censored``, in the place of constants, see
        `pkpd.fitting.bayes.graph.LogLikelihood`; the centring, which goes with them, is mutable
        data then too, see `centring_data`.

    Returns
    -------
    pm.Model
        With coordinates ``subject``; ``effect``, ``parameter``, and ``occasion``,
        ``occasion_parameter`` where there are random effects.
    """
    model, random = likelihood.model, likelihood.random_effects
    coords: dict[str, Any] = {"subject": list(likelihood.dataset.subjects)}
    if random.size:
        coords["effect"] = list(random.names)
    if model.varying:
        coords["parameter"] = list(model.varying)
    if random.n_occasions:
        coords["occasion"] = np.arange(1, random.n_occasions + 1)
        coords["occasion_parameter"] = list(model.occasional)
    with pm.Model(coords=coords) as made:
        values = _population_variables(model)
        effects: Any = pt.zeros((likelihood.n_subjects, 0))
        if random.size:
            effects = _random_effects(likelihood, values, centring, bool(measured))
        fixed = pt.stack([values[name] for name in likelihood.fixed_names])
        seen = likelihood.dataset.observations
        data = [pm.Data(f"observed_{name}", getattr(seen, name)) for name in measured]
        total: Any = LogLikelihood(likelihood)(fixed, effects, *data)
        pm.Potential("log_likelihood", total[0])
    return made


def centring_data(centring: Centring) -> dict[str, np.ndarray]:
    """Values of the mutable data of a model that hold its centring, by name."""
    return {
        f"centring_{f.name}": getattr(centring, f.name)
        for f in dataclasses.fields(centring)
        if f.name != "walls"
    }


def _random_effects(
    likelihood: PopulationLikelihood,
    values: Mapping[str, Any],
    centring: Centring | None,
    mutable: bool,
) -> Any:
    """Random effects ``[B, R]`` from what is sampled."""
    random = likelihood.random_effects
    centring = by_weights(likelihood, {}) if centring is None else centring
    dims = ("subject", "effect")
    bent = centring.walls is not None
    if not mutable and not (bent or np.any(centring.information) or np.any(centring.pull)):
        effects = pm.Normal("x", dims=dims) @ random.cholesky(values, pt).T
        return _named_effects(likelihood, effects)
    constants = Centring(
        *(
            pt.specify_shape(pm.Data(name, value), value.shape) if mutable else pt.constant(value)
            for name, value in centring_data(centring).items()
        )
    )
    lower, mean, factor = standardisation(
        likelihood,
        constants,
        values,
        pt,
        lambda a, b: pt.linalg.solve_triangular(a, b, lower=True, b_ndim=1),
    )
    x = pm.CustomDist(
        "x",
        mean,
        factor,
        logp=_density_of_sampled,
        random=_draw_of_sampled,
        signature="(b,r),(b,r,r)->(b,r)",
        dims=dims,
    )
    z = _standard_normal(x, mean, factor)
    effects = z @ lower.T
    if centring.walls is not None:
        effects, slope = bend(likelihood, centring.walls, values, effects, pt)
        normal = pt.linalg.solve_triangular(lower, effects.T, lower=True)
        pm.Potential("bent", 0.5 * ((z**2).sum() - (normal**2).sum()) + pt.sum(slope))
    return _named_effects(likelihood, effects)


def _standard_normal(x: Any, mean: Any, factor: Any) -> Any:
    """Solve ``x = mean + factor z`` for ``z [B, R]``."""
    return pt.linalg.solve_triangular(factor, x - mean, lower=True, b_ndim=1)


def _density_of_sampled(x: Any, mean: Any, factor: Any) -> Any:
    """Log density of ``x``; PyTensor merges its solution with the model's, not with MvNormal's."""
    z = _standard_normal(x, mean, factor)
    scale = pt.log(pt.diagonal(factor, axis1=1, axis2=2)).sum()
    return -0.5 * (z**2).sum() - scale - 0.5 * np.log(2 * np.pi) * z.size


def _draw_of_sampled(mean: Any, factor: Any, rng: Any = None, size: Any = None) -> Any:
    z = rng.standard_normal((*(size or ()), *np.shape(mean)))
    return mean + (factor @ z[..., None])[..., 0]


def _named_effects(likelihood: PopulationLikelihood, effects: Any) -> Any:
    """Give the random effects ``[B, R]`` their names in the model."""
    model, random = likelihood.model, likelihood.random_effects
    n = len(model.varying)
    if n:
        pm.Deterministic("eta", effects[:, :n], dims=("subject", "parameter"))
    if random.n_occasions:
        dims = ("subject", "occasion", "occasion_parameter")
        shape = (likelihood.n_subjects, random.n_occasions, len(model.occasional))
        pm.Deterministic("kappa", effects[:, n:].reshape(shape), dims=dims)
    return effects


def _population_variables(model: PopulationModel) -> dict[str, Any]:
    """Add population parameters as random variables; held ones are numbers."""
    start, priors = start_values(model), all_priors(model)
    out: dict[str, Any] = {name: pt.constant(start[name]) for name in held(model)}
    for name, prior in priors.items():
        out[name] = prior.variable(name)
    joint = set() if model.joint is None else set(model.joint.names)
    for name in sorted(joint - set(out)):
        if not name.startswith("partial_"):
            out[name] = _without_density(model, name)
    for block in model.correlated:
        for i in range(1, len(block)):
            for j in range(i):
                # canonical partial correlations of the LKJ distribution (Lewandowski 2009)
                name = f"partial_{block[j]}_{block[i]}"
                shape = 1.0 if name in joint else model.lkj + 0.5 * (len(block) - 2 - j)
                if name in out:
                    continue
                unit = pm.Beta(f"{name}_unit", shape, shape)
                out[name] = pm.Deterministic(name, 2.0 * unit - 1.0)
    assert set(partial_correlations(model)) <= set(out)
    if model.joint is not None:
        pm.Potential("joint_prior", model.joint.log_density(out, pt))
    return out


def _without_density(model: PopulationModel, name: str) -> Any:
    """Variable of a parameter whose density is that of the joint prior."""
    p = next((p for p in model.parameters if p.name == name), None)
    if p is not None and p.scale == "logit":
        return pm.Uniform(name, *(np.float64(bound) for bound in p.bounds))
    anywhere = p.scale == "identity" if p is not None else name.startswith("boxcox_")
    return pm.Flat(name) if anywhere or _of_effect(model, name) else pm.HalfFlat(name)


def _of_effect(model: PopulationModel, name: str) -> bool:
    """Whether a name is that of a covariate's coefficient."""
    return any(name == e.name(p.name) for p in model.parameters for e in p.effects)
