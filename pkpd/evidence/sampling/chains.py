"""Sample the posterior of the parameters by Hamiltonian Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

import pkpd.float64  # noqa: F401
from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.density import Spread
from pkpd.evidence.likelihood.offsets import spread_at
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.sampling.emulator import Emulator


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


class Density(Protocol):
    """Log likelihood of a table: `pkpd.evidence.likelihood.density.TableDensity`, or several.

    Tables of one ``shape`` that differ in their ``numbers`` share what is compiled.
    """

    numbers: Any

    @property
    def shape(self) -> bytes:
        """All but the numbers."""
        ...

    def with_numbers(self, numbers: Any) -> Density:
        """Take other numbers."""
        ...

    def marginal(self, logits: Any, days: Any, spread: Spread) -> Any:
        """Log likelihoods of the studies."""
        ...


@dataclass(frozen=True)
class _Keyed:
    """An object that stands for all others of its key."""

    key: Any
    of: Any = field(compare=False)


@dataclass(frozen=True)
class Programs:
    """Log densities of scores of the parameters, compiled; ``numbers`` are those of a table.

    Attributes
    ----------
    likelihood : (numbers, z[N, d]) -> [N]
        Log likelihood of the table.
    negative : (numbers, z) -> (value, gradient)
        Minus the log posterior.
    turned : (numbers, z, v) -> [d]
        Second derivative of minus the log posterior in a direction.
    moved : (numbers, centre, turn, y) -> (value, gradient)
        Log posterior at ``centre + turn y``, and its gradient by y.
    """

    likelihood: Callable[..., Any]
    negative: Callable[..., Any]
    turned: Callable[..., Any]
    moved: Callable[..., Any]


def programs(prior: Prior, density: Density, emulator: Emulator, power: float = 1.0) -> Programs:
    """Programs of a posterior, whose likelihood may have a power.

    They are compiled once for tables of one shape and networks of one shape.
    """
    keyed = (_Keyed(id(prior), prior), _Keyed(emulator.shape, emulator))
    made = _programs(*keyed, _Keyed(density.shape, density))
    weights = jax.device_put(dict(emulator.weights))
    return Programs(*(partial(one, (weights, power)) for one in made))


@lru_cache(maxsize=4)
def _programs(prior: _Keyed, emulator: _Keyed, density: _Keyed) -> tuple[Any, ...]:
    def told(weights: Any, numbers: Any, z: Any) -> Any:
        spread = spread_at(prior.of, z)
        logits, days = emulator.of.with_weights(weights)(z)
        return density.of.with_numbers(numbers).marginal(logits, days, spread).sum()

    def likelihood(how: Any, numbers: Any, z: Any) -> Any:
        return jax.vmap(told, (None, None, 0))(how[0], numbers, z)

    def negative(how: Any, numbers: Any, z: Any) -> Any:
        weights, power = how
        return 0.5 * (z @ z) - power * told(weights, numbers, z)

    def turned(how: Any, numbers: Any, z: Any, v: Any) -> Any:
        return jax.jvp(lambda x: jax.grad(negative, 2)(how, numbers, x), (z,), (v,))[1]

    def moved(how: Any, numbers: Any, centre: Any, turn: Any, y: Any) -> Any:
        return -negative(how, numbers, centre + turn @ y)

    return (
        jax.jit(likelihood),
        jax.jit(jax.value_and_grad(negative, 2)),
        jax.jit(turned),
        jax.jit(jax.value_and_grad(moved, 4)),
    )


def sample(
    prior: Prior,
    density: Density,
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
    compiled = programs(prior, density, emulator, how.power)
    numbers = jax.device_put(density.numbers)
    scale = scale_of(compiled, numbers, size, start, how.seed)
    centre, turn = jnp.asarray(scale.centre), jnp.asarray(scale.turn)
    compiled.moved(numbers, centre, turn, np.zeros(size))[0].block_until_ready()

    def at(y: Floats) -> tuple[float, Floats]:
        value, gradient = compiled.moved(numbers, centre, turn, y)
        return float(value), np.asarray(gradient, dtype=np.float64, order="C")

    def first(seed: int) -> Floats:
        return np.random.default_rng(int(seed) % 2**32).standard_normal(size)

    model = from_pyfunc(
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
            model,
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
            where="sampling the evidence", what=f"the sampler stopped ({error})"
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
    compiled: Programs, numbers: Any, size: int, start: Floats | None = None, seed: int = 1
) -> Scale:
    """Scale of a log density from its mode and its curvature at a few points.

    Curvatures are averaged because a density is not as curved everywhere as at its mode; a
    direction that is curved less than the prior is taken as curved as `FLATTEST`.

    Parameters
    ----------
    compiled, numbers
        Its programs, and the numbers of its table.
    size
        Its dimensions n.
    start : float[K, n]
        Draws of a density like it: where curvature is taken, and the search for the mode begins.
    seed
        Of the points where there are no draws.
    """

    def curvature(x: Floats) -> Floats:
        # one direction after the other: all at once takes a minute to compile
        return np.stack([np.asarray(compiled.turned(numbers, x, v)) for v in np.eye(size)])

    def told(x: Floats) -> tuple[float, Floats]:
        value, gradient = compiled.negative(numbers, x)
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
