"""Sample the posterior of the parameters by Hamiltonian Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import pkpd.float64  # noqa: F401
from pkpd.errors import PkpdError, sentence
from pkpd.evidence.likelihood.density import TableDensity
from pkpd.evidence.likelihood.offsets import spread_at
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.sampling.emulator import Emulator

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChainSettings:
    """How long chains are.

    Attributes
    ----------
    draws, tune, chains, cores
        As everywhere.
    seed
        Seed.
    target_accept
        Mean acceptance that the step size aims at.
    depth
        A draw takes at most ``2^depth`` gradients.
    power
        Of the likelihood; below 1 the chains are between prior and posterior.
    """

    draws: int = 2000
    tune: int = 1000
    chains: int = 4
    cores: int = 2
    seed: int = 1
    target_accept: float = 0.85
    depth: int = 9
    power: float = 1.0


@dataclass(frozen=True)
class Sampled:
    """Draws of all chains.

    Attributes
    ----------
    z : float[chains, draws, d]
        Scores of the parameters.
    log_likelihood : float[chains, draws]
        Of the table.
    divergent
        Number of divergent transitions after tuning.
    steps
        Mean number of gradients of a draw.
    """

    z: Floats
    log_likelihood: Floats
    divergent: int
    steps: float


def log_posterior(
    prior: Prior, density: TableDensity, emulator: Emulator, power: float = 1.0
) -> Callable[[Any], Any]:
    """Log density of scores of the parameters, ``[d]``, in JAX; a power of the likelihood."""

    def log_density(z: Any) -> Any:
        logits, days = emulator(z)
        told = density.marginal(logits, days, spread_at(prior, z)).sum()
        return power * told - 0.5 * (z @ z)

    return log_density


def sample(
    prior: Prior,
    density: TableDensity,
    emulator: Emulator,
    settings: ChainSettings | None = None,
    start: Floats | None = None,
) -> Sampled:
    """Sample.

    Parameters
    ----------
    prior, density, emulator
        Of the posterior.
    settings
        Lengths.
    start : float[K, d]
        Draws of a posterior like it, if there are any.

    Raises
    ------
    PkpdError
        If the sampler stops.
    """
    import nutpie
    import pandas as pd
    from nutpie.compiled_pyfunc import from_pyfunc

    how = settings or ChainSettings()
    size = prior.size
    function = log_posterior(prior, density, emulator, how.power)
    scale = scale_of(function, size, start, how.seed)
    turn = jnp.asarray(scale.turn)

    @jax.jit
    def both(y: Any) -> Any:
        return jax.value_and_grad(lambda v: function(scale.centre + turn @ v))(y)

    both(jnp.zeros(size))[0].block_until_ready()

    def at(y: Floats) -> tuple[float, Floats]:
        value, gradient = both(y)
        return float(value), np.asarray(gradient, dtype=np.float64, order="C")

    def first(seed: int) -> Floats:
        return np.random.default_rng(int(seed) % 2**32).standard_normal(size)

    compiled = from_pyfunc(
        size,
        lambda: at,
        lambda *_: lambda y: {"x": scale.centre + scale.turn @ y},
        [np.dtype(np.float64)],
        [(size,)],
        ["x"],
        coords={"place": pd.RangeIndex(size)},
        dims={"x": ("place",)},
        make_initial_point_fn=first,
    )
    try:
        trace: Any = cast("Any", nutpie.sample)(
            compiled,
            draws=how.draws,
            tune=how.tune,
            chains=how.chains,
            cores=how.cores,
            seed=how.seed,
            target_accept=how.target_accept,
            maxdepth=how.depth,
            # what is left of correlations between directions, learned in tuning
            low_rank_modified_mass_matrix=True,
            progress_bar=False,
            save_warmup=False,
        )
    except RuntimeError as error:
        raise PkpdError(
            sentence(where="sampling the evidence", what=f"the sampler stopped ({error})")
        ) from error
    x = np.asarray(trace.posterior["x"])
    stats = trace.sample_stats
    log_density = np.asarray(stats["logp"])
    return Sampled(
        x,
        (log_density + 0.5 * np.sum(x**2, axis=-1)) / how.power,
        int(np.asarray(stats["diverging"]).sum()),
        float(np.asarray(stats["n_steps"]).mean()),
    )


@dataclass(frozen=True)
class Scale:
    """Where the chains move: ``x = centre + turn y``, with ``y`` nearly standard normal.

    Attributes
    ----------
    centre : float[n]
        The mode.
    turn : float[n, n]
        Inverse root of the curvature of minus the log density, averaged over points about the mode.
    """

    centre: Floats
    turn: Floats


def scale_of(
    function: Callable[[Any], Any], size: int, start: Floats | None = None, seed: int = 1
) -> Scale:
    """Scale of a log density from its mode and its curvature at a few points.

    Curvatures are averaged because a density is not as curved everywhere as at its mode; a
    direction that is curved less than the prior is taken as curved as `FLATTEST`.

    Parameters
    ----------
    function
        Log density, in JAX.
    size
        Its dimensions n.
    start : float[K, n]
        Draws of a density like it: where curvature is taken, and the search for the mode begins.
    seed
        Of the points where there are no draws.
    """
    negative = jax.jit(jax.value_and_grad(lambda x: -function(x)))
    turned = jax.jit(lambda x, v: jax.jvp(jax.grad(lambda y: -function(y)), (x,), (v,))[1])

    def curvature(x: Floats) -> Floats:
        # one direction after the other: all at once takes a minute to compile
        return np.stack([np.asarray(turned(x, v)) for v in np.eye(size)])

    def told(x: Floats) -> tuple[float, Floats]:
        value, gradient = negative(x)
        return float(value), np.asarray(gradient)

    begin = np.zeros(size) if start is None else start.mean(axis=0)
    found = minimize(told, begin, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    mode = np.asarray(found.x)
    rng = np.random.default_rng(seed)
    turn = _inverse_root([curvature(mode)])
    if start is None:
        points = mode + rng.standard_normal((POINTS, size)) @ turn.T
    else:
        points = start[rng.choice(len(start), POINTS)]
    return Scale(mode, _inverse_root([curvature(x) for x in points]))


POINTS = 12
"""Points at which curvature is taken."""
FLATTEST = 0.5
"""Least curvature, in units of that of the prior."""


def _inverse_root(curvatures: list[Floats]) -> Floats:
    """Inverse root of the mean of curvatures, each made positive."""
    mean = np.zeros_like(curvatures[0])
    for each in curvatures:
        values, vectors = np.linalg.eigh(0.5 * (each + each.T))
        mean += (vectors * np.maximum(values, FLATTEST)) @ vectors.T / len(curvatures)
    values, vectors = np.linalg.eigh(mean)
    return (vectors / np.sqrt(values)) @ vectors.T
