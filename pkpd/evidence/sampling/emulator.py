"""Networks that say what simulated arms would show, from simulations of few patients.

The summaries of an arm are smooth functions of the parameters that act on it plus the chance of few
patients. A network for each arm learns the functions: the chance, different in every block of
simulations, averages out. Its outputs are logits of shares, and medians, log scales and log means
of days. It sees the parameters that act on the arm alone (`pkpd.evidence.sampling.wiring`): most
act on few arms, and from the others it would learn chance. Learning is maximum likelihood: counts
of simulated patients are binomial, and statistics of days normal with the errors that their numbers
of patients give them.

The sets of parameters of a block meet the same patients. What is theirs shifts all summaries of the
block alike; each block therefore has a shift of its own of every output, drawn towards zero, as a
study has in a mixed model. Within a block patients cancel, and what the parameters do is seen
without half of the chance; where the outputs lie on average is then learned from all blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import pkpd.float64  # noqa: F401
from pkpd.arrays import Floats
from pkpd.evidence.sampling.simulations import Simulations

Weights = Mapping[str, Any]
_STATISTICS = 4
SHARED = 0.2
"""Variance that the patients of a block give an output of the block, in that of as many independent
patients: of 396 shares at eight draws of a posterior with 20 seeds, quasi-random patients gave .36
(median), of which .56 was the same at all draws. For days, where it was not measured, assumed."""
_NEWTON = 8  # steps to the level of a share: it converges in a few


@dataclass(frozen=True)
class Training:
    """How a network learns.

    Attributes
    ----------
    width
        Units of each of the two hidden layers of an arm.
    steps, batch
        Steps of Adam (Kingma and Ba 2015), and simulations in each.
    rate
        Largest step; it falls to a hundredth along a cosine.
    decay
        Pull of the weights towards zero, for each step, in units of the rate, of 1,000 simulations;
        it falls with their number. With too little of it a network learns the chance of few
        patients by heart, with too much of it it flattens what it learns. Of 6,000 simulations of
        the table of evidence 750 were held out, and single networks learned from two halves of the
        others: with 0.05, 0.15, 0.5, 0.8, 1.5 and 4.0 minus the log likelihood of a simulation held
        out is 4.0, 2.3, 0.0, 0.0, 2.2 and 14.6 above the least under the mean of both; by two runs
        with such errors posterior means would differ by 0.22, 0.19, 0.15, 0.13, 0.09 and 0.08
        standard deviations (first order, root mean square; 0.23 with 0.15 and no shift of blocks,
        and 7.4 above the least).
    straight
        The same for the straight part, in units of `decay`.
    networks
        Sets of networks with different random weights; their outputs are averaged.
    """

    width: int = 24
    steps: int = 5000
    batch: int = 128
    rate: float = 5e-3
    decay: float = 0.8
    straight: float = 0.05
    networks: int = 3


@dataclass(frozen=True)
class Wiring:
    """Which parameters act on which arm, and whose each output is.

    Attributes
    ----------
    acts : bool[G, I]
        By arm and input.
    arm : int[S + D]
        Of each share and of each distribution of days.
    """

    acts: NDArray[np.bool_]
    arm: NDArray[np.int64]

    def outputs(self, shares: int) -> NDArray[np.int64]:
        """Arm of each output of a network, of which a distribution of days has four."""
        return np.concatenate([self.arm[:shares], np.repeat(self.arm[shares:], _STATISTICS)])


def one_arm(inputs: int, outputs: int) -> Wiring:
    """Everything acts on one arm."""
    return Wiring(np.ones((1, inputs), bool), np.zeros(outputs, np.int64))


@dataclass(frozen=True)
class Emulator:
    """Trained networks.

    Attributes
    ----------
    inputs : int[I]
        Which scores the arms depend on.
    weights
        Of the networks, stacked.
    arm : int[O]
        Whose each output is.
    shares, days
        Numbers of outputs.
    """

    inputs: NDArray[np.int64]
    weights: Weights
    arm: NDArray[np.int64]
    shares: int
    days: int

    def __repr__(self) -> str:
        """Tell the sizes of the networks."""
        return f"Emulator({len(self.inputs)} scores to {self.shares} shares and {self.days} days)"

    @property
    def shape(self) -> bytes:
        """All but the numbers that it learned."""
        sizes = [(name, w.shape) for name, w in sorted(self.weights.items())]
        return (
            repr((self.shares, self.days, sizes)).encode()
            + self.inputs.tobytes()
            + self.arm.tobytes()
        )

    def with_weights(self, weights: Weights) -> Emulator:
        """Take the weights of other networks of this shape."""
        return replace(self, weights=weights)

    def __call__(self, z: Any) -> tuple[Any, Any]:
        """Logits ``[S]`` and days ``[D, 4]`` at scores ``[d]``, in JAX."""
        x = jnp.asarray(z)[self.inputs].astype(jnp.float32)
        out = jax.vmap(_forward, in_axes=(0, None, None))(dict(self.weights), x, self.arm)
        out = out.mean(axis=0).astype(jnp.float64)
        days = out[self.shares :].reshape(self.days, _STATISTICS)
        return out[: self.shares], days


def _forward(w: Weights, x: Any, arm: NDArray[np.int64]) -> Any:
    h = jax.nn.silu(jnp.einsum("i,gih->gh", x, w["w1"]) + w["b1"])
    h = jax.nn.silu(jnp.einsum("gh,ghk->gk", h, w["w2"]) + w["b2"])
    return ((h[arm] * w["w3"]).sum(axis=1) + w["skip"] @ x) * w["scale"] + w["b3"]


def _first(
    rng: np.random.Generator, wired: Wiring, arm: Any, width: int, centre: Floats, scale: Floats
) -> dict[str, Any]:
    arms, inputs = wired.acts.shape
    outputs = centre.size
    root = np.sqrt(np.maximum(wired.acts.sum(axis=1), 1.0))[:, None, None]

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape)

    made = {
        "w1": normal(arms, inputs, width) * wired.acts[:, :, None] / root,
        "b1": np.zeros((arms, width)),
        "w2": 1.4 * normal(arms, width, width) / np.sqrt(width),
        "b2": np.zeros((arms, width)),
        "w3": 0.3 * normal(outputs, width) / np.sqrt(width),
        "skip": np.zeros((outputs, inputs)),
        "b3": centre,
        "scale": scale,
    }
    return {name: value.astype(np.float32) for name, value in made.items()}


def train(
    simulations: Simulations,
    inputs: Sequence[int],
    training: Training | None = None,
    *,
    wired: Wiring | None = None,
    weight: Floats | None = None,
    block: NDArray[np.int64] | None = None,
    seed: int = 1,
) -> Emulator:
    """Train networks on simulations.

    Parameters
    ----------
    simulations
        At N sets of parameters.
    inputs
        Scores that the arms depend on.
    training
        How.
    wired
        Which input acts on which output; all on all if not given.
    weight : float[N]
        How much each simulation counts; equally if not given.
    block : int[N]
        Simulations with the same number met the same patients; none did if not given.
    seed
        Of first weights and batches.
    """
    how = training or Training()
    how = replace(how, decay=how.decay * 1000.0 / len(simulations))
    s, d = simulations.share.shape[1], simulations.days.shape[1]
    events = np.clip(simulations.share * simulations.size, 0.0, None)
    logit = np.log((events + 0.5) / (simulations.size - events + 0.5))
    days = simulations.days.copy()
    known: NDArray[np.bool_] = np.asarray(np.isfinite(days).all(axis=2))
    days[..., 1:3] = np.log(days[..., 1:3])
    days = np.where(known[..., None], days, 0.0)
    many = np.maximum(known.sum(axis=0), 1)[:, None]
    centre = days.sum(axis=0) / many
    around = np.where(known[..., None], days - centre, 0.0)
    spread = np.sqrt((around**2).sum(axis=0) / many) + 0.05
    error = _errors(days, simulations.days_size, known)
    data = {
        "x": simulations.z[:, np.asarray(inputs)],
        "events": events,
        "size": simulations.size,
        "days": days.reshape(len(days), -1),
        "precision": np.where(known[..., None], 1.0 / error**2, 0.0).reshape(len(days), -1),
        "weight": np.ones(len(days)) if weight is None else weight / weight.mean(),
    }
    # what a simulation tells of each output, on average: of a share near 0 or 1 little
    of_shares = (events * (1.0 - simulations.share)).mean(axis=0)
    information = np.concatenate([of_shares, data["precision"].mean(axis=0)])
    held = {name: jnp.asarray(value, dtype=jnp.float32) for name, value in data.items()}
    held["information"] = jnp.asarray(information, dtype=jnp.float32)
    blocks, of_block = np.unique([] if block is None else block, return_inverse=True)
    if block is not None:
        held["block"] = jnp.asarray(of_block)
    middle = np.concatenate([logit.mean(axis=0), centre.ravel()])
    scale = np.concatenate([logit.std(axis=0) + 0.05, spread.ravel()])
    rng = np.random.default_rng(seed)
    wired = one_arm(len(inputs), s + d) if wired is None else wired
    arm = wired.outputs(s)
    held |= _wires(wired, arm)
    made = []
    for _ in range(how.networks):
        first = _first(rng, wired, arm, how.width, middle, scale)
        if block is not None:
            first["shift"] = np.zeros((blocks.size, arm.size), dtype=np.float32)
        made.append(_fit(first, held, how, int(rng.integers(2**31))))
    stacked = {name: jnp.stack([w[name] for w in made]) for name in made[0]}
    return Emulator(np.asarray(inputs), stacked, arm, s, d)


def _errors(days: Floats, size: Floats, known: NDArray[np.bool_]) -> Floats:
    """Give the standard errors of the statistics of days, of a logistic distribution of the log."""
    scale = 0.5 * (np.exp(days[..., 1]) + np.exp(days[..., 2]))
    root = np.sqrt(np.maximum(size, 1.0))
    # of a logit of a quantile p: 1 / sqrt(n p (1 - p))
    side = np.sqrt(1.0 / 0.09 + 4.0) / np.log(9.0)
    each = np.stack(
        [2.0 * scale, np.full_like(scale, side), np.full_like(scale, side), 1.9 * scale], axis=-1
    )
    each = each / root[..., None]
    return np.where(known[..., None], np.maximum(each, 0.01), 1.0)


def _wires(wired: Wiring, arm: NDArray[np.int64]) -> dict[str, Any]:
    """Which input acts where, and where each output stands among those of its arm.

    ``own[arm, place]`` is an output, or their number where an arm has fewer; ``place`` is where
    an output stands in ``own``, laid flat.
    """
    order = np.argsort(arm, kind="stable")
    begin = np.searchsorted(arm[order], np.arange(len(wired.acts)))
    within = np.empty_like(arm)
    within[order] = np.arange(arm.size) - begin[arm[order]]
    own = np.full((len(wired.acts), int(within.max(initial=0)) + 1), arm.size)
    own[arm, within] = np.arange(arm.size)
    return {
        "acts": jnp.asarray(wired.acts, dtype=jnp.float32),
        "arm": jnp.asarray(arm),
        "own": jnp.asarray(own),
        "place": jnp.asarray(arm * own.shape[1] + within),
    }


def _forward_all(w: Weights, x: Any, wires: Mapping[str, Any]) -> Any:
    """Give outputs ``[O, B]`` at inputs ``[I, B]``: those of `_forward`, for training.

    Arms stand first and simulations last, so that each product is one of matrices by arm; to pick
    the units of each output's arm for every simulation costs more than all else.
    """
    h = jax.nn.silu(jnp.einsum("gih,ib->ghb", w["w1"], x) + w["b1"][:, :, None])
    h = jax.nn.silu(jnp.einsum("ghk,ghb->gkb", w["w2"], h) + w["b2"][:, :, None])
    none = jnp.zeros((1, w["w3"].shape[1]), w["w3"].dtype)
    last = jnp.concatenate([w["w3"], none])[wires["own"]]
    out = jnp.einsum("gmh,ghb->gmb", last, h).reshape(-1, x.shape[1])[wires["place"]]
    return (out + w["skip"] @ x) * w["scale"][:, None] + w["b3"][:, None]


def loss(weights: Weights, data: Mapping[str, Any], wires: Mapping[str, Any], s: int) -> Any:
    """Mean negative log likelihood of simulations, for each output."""
    out = _forward_all(weights, data["x"].T, wires).T
    if "shift" in weights:
        out = out + weights["shift"][data["block"]]
    logit, days = out[:, :s], out[:, s:]
    counts = data["size"] * jax.nn.softplus(logit) - data["events"] * logit
    off = 0.5 * data["precision"] * (days - data["days"]) ** 2
    each = counts.sum(axis=1) + off.sum(axis=1)
    return (each * data["weight"]).mean() / out.shape[1]


@partial(jax.jit, static_argnames=("how",))
def _adam(weights: Weights, data: Mapping[str, Any], how: Training, key: Any) -> Weights:
    n, s = data["x"].shape[0], data["events"].shape[1]
    wires = {name: data[name] for name in ("acts", "arm", "own", "place")}
    information = data["information"]
    data = {name: v for name, v in data.items() if name not in (*wires, "information")}
    learned = {name: w for name, w in weights.items() if name != "scale"}
    fixed = {"scale": weights["scale"]}

    def step(carry: Any, index: Any) -> tuple[Any, None]:
        w, first, second = carry
        places = jax.random.randint(jax.random.fold_in(key, index), (how.batch,), 0, n)
        batch = {name: value[places] for name, value in data.items()}
        gradient = jax.grad(lambda own: loss({**own, **fixed}, batch, wires, s))(w)
        if "shift" in w:
            # of its normal prior, for one of n simulations and one output, as of the loss
            prior = w["shift"] * information / (SHARED * n * information.size)
            gradient["shift"] = gradient["shift"] + prior
        gradient["w1"] = gradient["w1"] * wires["acts"][:, :, None]
        gradient["skip"] = gradient["skip"] * wires["acts"][wires["arm"]]
        # a network that goes astray is held: the size of the whole gradient is bounded
        size = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        gradient = jax.tree.map(lambda g: g / jnp.maximum(1.0, size), gradient)
        share = index / how.steps
        rate = how.rate * (0.01 + 0.99 * 0.5 * (1.0 + jnp.cos(jnp.pi * share)))
        rate = rate * jnp.minimum(1.0, (index + 1) / 100.0)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
        a, b = 1.0 - 0.9 ** (index + 1), 1.0 - 0.999 ** (index + 1)
        moved = jax.tree.map(
            lambda p, m, v: p - rate * (m / a / (jnp.sqrt(v / b) + 1e-8)), w, first, second
        )
        for name, pull in (("w1", 1.0), ("w2", 1.0), ("w3", 1.0), ("skip", how.straight)):
            moved[name] = moved[name] * (1.0 - rate * how.decay * pull)
        return (jax.tree.map(lambda new: new.astype(jnp.float32), moved), first, second), None

    zero = jax.tree.map(jnp.zeros_like, learned)
    (done, _, _), _ = jax.lax.scan(step, (learned, zero, zero), jnp.arange(how.steps))
    done = {**done, **fixed}
    if "shift" not in done:
        return done
    del done["shift"]
    return {**done, "b3": done["b3"] + _level(done, data, wires, s)}


def _level(weights: Weights, data: Mapping[str, Any], wires: Mapping[str, Any], s: int) -> Any:
    """Find what to add to outputs, once no block has a shift, so that they are right on average."""
    out = _forward_all(weights, data["x"].T, wires).T
    logit, counts = out[:, :s], data["weight"][:, None]

    def newton(_: int, more: Any) -> Any:
        p = jax.nn.sigmoid(logit + more)
        off = (counts * (data["events"] - data["size"] * p)).sum(axis=0)
        curve = (counts * data["size"] * p * (1.0 - p)).sum(axis=0)
        return more + jnp.clip(off / (curve + 1e-6), -1.0, 1.0)

    shares = jax.lax.fori_loop(0, _NEWTON, newton, jnp.zeros(s))
    weighed = counts * data["precision"]
    days = (weighed * (data["days"] - out[:, s:])).sum(axis=0) / (weighed.sum(axis=0) + 1e-6)
    return jnp.concatenate([shares, days]).astype(jnp.float32)


def _fit(weights: Weights, data: Mapping[str, Any], how: Training, seed: int) -> Weights:
    first = {name: jnp.asarray(w) for name, w in weights.items()}
    return jax.block_until_ready(_adam(first, data, how, jax.random.PRNGKey(seed)))
