"""Draws from the prior, and how far the data moved the posterior away from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkpd.fitting.draws import Draws
from pkpd.fitting.model.default_priors import all_priors
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import (
    deviations,
    held,
    partial_correlations,
    start_values,
)
from pkpd.fitting.model.specification import PopulationModel

LITTLE = 0.15
"""Contraction below which, with an overlap above `ALIKE`, the data say nothing."""
ALIKE = 0.75
_BINS = 40


@dataclass(frozen=True)
class Contraction:
    """Prior against posterior of one parameter.

    Attributes
    ----------
    name
        Parameter.
    contraction
        One minus the ratio of interquartile ranges, posterior over prior; 0 if nothing was
        learned, 1 if everything, below 0 of a posterior that is wider than its prior.
    overlap
        Area both densities share, 0 to 1.
    """

    name: str
    contraction: float
    overlap: float

    @property
    def silent(self) -> bool:
        """Whether the data say nothing about it."""
        return self.contraction < LITTLE and self.overlap > ALIKE

    @property
    def sentence(self) -> str:
        """What it means."""
        if self.silent:
            return (
                f"The data say nothing about {self.name}: its posterior is its prior "
                f"(contraction {100 * self.contraction:.0f} %, overlap {100 * self.overlap:.0f} "
                "%); its estimate and interval are what was assumed."
            )
        share = round(100 * self.contraction)
        if not share:
            return f"The data moved {self.name} and left it as wide as its prior."
        return f"The data {'narrowed' if share > 0 else 'widened'} {self.name} by {abs(share)} %."


def prior_draws(likelihood: PopulationLikelihood, n: int = 500, *, seed: int = 1) -> Draws:
    """Draw population parameters from their priors.

    Random effects are zero: `Draws.replicates` draws them for new patients.

    Parameters
    ----------
    likelihood
        Model and data.
    n
        Draws.
    seed
        Seed.
    """
    import pymc as pm

    model = likelihood.model
    rng = np.random.default_rng(seed)
    values, fixed = {m: np.full(n, v) for m, v in start_values(model).items()}, held(model)
    with pm.Model():
        names, variables = [], []
        for name, prior in all_priors(model).items():
            names.append(name)
            variables.append(prior.variable(name))
        drawn = pm.draw(variables, draws=n, random_seed=int(rng.integers(2**31)))
    values |= {name: np.asarray(v, dtype=float) for name, v in zip(names, drawn, strict=True)}
    joint: dict[str, np.ndarray] = {}
    if model.joint is not None:
        joint = model.joint.draws(n, rng, _ends(model))
        values |= {name: drawn for name, drawn in joint.items() if name not in fixed}
    for block in model.correlated:
        for i in range(1, len(block)):
            for j in range(i):
                shape = model.lkj + 0.5 * (len(block) - 2 - j)
                drawn = 2 * rng.beta(shape, shape, n) - 1
                name = f"partial_{block[j]}_{block[i]}"
                values[name] = values[name] if name in fixed or name in joint else drawn
    size = likelihood.random_effects.size
    return Draws(likelihood, values, np.zeros((n, likelihood.n_subjects, size)))


def _ends(model: PopulationModel) -> dict[str, tuple[float, float]]:
    """Least and largest number that population parameters can be, by name; others may be any."""
    above = [name for line, error in model.residual.items() for name in error.estimates(line)]
    out = dict.fromkeys((*deviations(model), *above), (0.0, np.inf))
    out |= dict.fromkeys(partial_correlations(model), (-1.0, 1.0))
    return out | {p.name: p.ends for p in model.parameters}


def contractions(posterior: Draws, *, n: int = 4000, seed: int = 1) -> dict[str, Contraction]:
    """Compare prior and posterior of every estimated population parameter.

    Typical values on the log scale are compared there, standard deviations and others as they are.

    Parameters
    ----------
    posterior
        Posterior draws.
    n
        Draws of the prior.
    seed
        Seed.
    """
    prior = prior_draws(posterior.likelihood, n, seed=seed).population
    model = posterior.likelihood.model
    positive = {p.name for p in model.parameters if p.scale == "log"}
    out = {}
    for name, before in prior.items():
        if np.ptp(before) == 0:  # held
            continue
        after = np.asarray(posterior.population[name], dtype=float)
        if name in positive:
            before, after = np.log(before), np.log(after)
        out[name] = Contraction(name, 1 - _width(after) / _width(before), _overlap(before, after))
    return out


def _width(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Shared area of two histograms with equal counts in the first."""
    edges = np.quantile(one, np.linspace(0, 1, _BINS + 1)[1:-1])
    shares = [
        np.bincount(np.searchsorted(edges, v), minlength=_BINS) / len(v) for v in (one, other)
    ]
    return float(np.minimum(*shares).sum())
