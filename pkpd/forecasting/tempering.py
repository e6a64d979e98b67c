"""Patients like one who was seen, where hardly any of a bank is: tempered sequential Monte Carlo.

The counts come in little by little: between what the particles know already and all counts lie
densities ``prior x L(known) x (L(all) / L(known))^b``. Whenever the weights become uneven the
particles are resampled and moved by Markov chains that leave the density of that step as it is
(Del Moral et al., J R Stat Soc B 2006;68:411). The scores of a patient are standard normal a
priori, so that a preconditioned Crank-Nicolson step around a normal distribution that fits
particles suits them (Cotter et al., Stat Sci 2013;28:424); the draw of what is not known, which is
one of a finite set, is proposed anew from that set.

Around a distribution that is fitted to themselves particles would be drawn inwards, the more the
fewer they are and the more scores they have. They are divided anew at each step, and each half is
moved around what fits the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.distributions import stream
from pkpd.ensemble.lanes import Identities, Lanes, carried
from pkpd.forecasting.bank import counts_only, simulated
from pkpd.forecasting.measurement import Measurement
from pkpd.forecasting.seen import Seen
from pkpd.forecasting.today import without_more
from pkpd.forecasting.weighing import Weighed, log_likelihood

EVEN_ENOUGH = 0.5
"""Effective share of the particles from which weights count as even."""

_LEARNED = 0.65  # variance of a direction below which the counts have taught something
_STEPS = np.array(
    [0.15, 0.3, 0.5, 0.75, 1.0]
)  # of the proposals; with 1 nothing of a patient stays
_MOST_TEMPERATURES = 200
_PARTS = 2  # of the particles; each is moved around what fits the others
_REDRAWN = 0.3  # share of the proposals that have another draw
_ALIKE = 50.0  # particles of a draw that move its centre half way from that of all


@dataclass(frozen=True)
class Tempering:
    """How particles are tempered.

    Attributes
    ----------
    particles
        Number N.
    memory, last_memory
        Particles are moved at each temperature until this share of what they were is left (the
        square of a correlation, on average over the particles), and until less is left at the end.
    most_moves
        No more Markov steps than these at a temperature, and twice as many at the end.
    """

    particles: int = 1000
    memory: float = 0.5
    last_memory: float = 0.2
    most_moves: int = 15


@dataclass
class _State:
    """Particles: who they are, and the log-likelihood of what is known and of all."""

    who: Identities
    known: Floats
    full: Floats


def tempered(
    found: Weighed,
    measurement: Measurement,
    seed: int,
    settings: Tempering = Tempering(),
    threads: int | None = None,
) -> Weighed:
    """Make a bank of patients like the one who was seen.

    Parameters
    ----------
    found
        A bank with uneven weights.
    measurement
        How counts scatter.
    seed
        Of all random numbers.
    settings
        Particles and moves.
    threads
        At most so many.

    Returns
    -------
    Weighed
        Equally likely patients under the same schedule; `found` itself if none can have lived to
        the last count.
    """
    if not np.isfinite(found.log_likelihood).any():
        return found
    bank, rng = found.bank, stream(seed, f"tempering:{found.seen.label}")
    seen, aside = found.seen, found.aside
    days = min(int(np.floor(seen.time.max())) + 2, bank.days)
    given = without_more(bank.lanes, float(seen.time.max()))
    lanes = replace(given, days=days)
    full = log_likelihood(bank, seen, measurement, aside)
    lives = np.isfinite(full)
    known = np.full(len(bank), -np.inf)
    known[lives] = full[lives] - found.log_likelihood[lives]
    # what is planned after the last count moves nobody
    state, b = _State(carried(bank.who, bank.lanes, given, seed), known, full), 0.0
    move = _Moves(lanes, seen, found.known, measurement, aside, rng, threads)
    n = settings.particles
    for _ in range(_MOST_TEMPERATURES):
        step = _next_step(state, 1.0 - b, n)
        weights = _weights(step * _further(state))
        state = _taken(state, _resampled(weights, n, rng))
        b += step
        end = b >= 1.0
        move.begin(n)
        for _ in range(settings.most_moves * (2 if end else 1)):
            state = move(state, b)
            if move.memory <= (settings.last_memory if end else settings.memory):
                break
        if b >= 1.0:
            break
    who = carried(state.who, given, bank.lanes, seed)
    made = simulated(bank.lanes, who, bank.asked, threads)
    return replace(
        found,
        bank=made,
        known=seen,
        log_likelihood=np.zeros(len(made)),
        engine="smc",
        untold=found.untold,
    )


def _next_step(state: _State, rest: float, n: int) -> float:
    """How far the next density may lie: as far as weights stay worth half the particles."""
    more = _further(state)
    wanted = EVEN_ENOUGH * n

    def worth(step: float) -> float:
        weights = _weights(step * more)
        return float(1.0 / np.sum(weights**2))

    if worth(rest) >= wanted:
        return rest
    low, high = 0.0, rest
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if worth(middle) >= wanted else (low, middle)
    # a step of nothing would never end
    return max(low, 1e-4 * rest)


def _further(state: _State) -> Floats:
    """Log-likelihood of what is not yet known; -inf where all together are impossible."""
    lives = np.isfinite(state.full) & np.isfinite(state.known)
    out = np.full(lives.size, -np.inf)
    out[lives] = state.full[lives] - state.known[lives]
    return out


def _weights(logs: Floats) -> Floats:
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _resampled(weights: Floats, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of n particles, each as often as its weight says: systematic resampling."""
    at = (rng.random() + np.arange(n)) / n
    return np.minimum(np.searchsorted(np.cumsum(weights), at), weights.size - 1)


def _taken(state: _State, index: NDArray[np.int64]) -> _State:
    return _State(state.who[index], state.known[index], state.full[index])


class _Moves:
    """Markov steps that leave a tempered density as it is."""

    def __init__(
        self,
        lanes: Lanes,
        seen: Seen,
        known: Seen,
        measurement: Measurement,
        aside: frozenset[tuple[str, float, float]],
        rng: np.random.Generator,
        threads: int | None,
    ) -> None:
        self.lanes, self.seen, self.known, self.measurement = lanes, seen, known, measurement
        self.aside, self.rng, self.threads = aside, rng, threads
        self.same, self.other = _Steps(), _Steps()  # of proposals with the draw kept, or another
        self.left = np.ones(0)

    def begin(self, n: int) -> None:
        """Begin with particles that are what they are."""
        self.left = np.ones(n)

    @property
    def memory(self) -> float:
        """Share of what the particles were that is left, on average."""
        return float(self.left.mean())

    def __call__(self, state: _State, b: float) -> _State:
        """Propose other scores to every particle, and another draw with them to some."""
        who, n = state.who, len(state.who)
        redrawn = self.rng.random(n) < (_REDRAWN if self.lanes.draws > 1 else 0.0)
        kind = self.same.chosen(n, self.rng)
        kind[redrawn] = self.other.chosen(int(redrawn.sum()), self.rng)
        draw, scores, change = who.draw.copy(), who.scores.copy(), np.zeros(n)
        part = self.rng.permutation(n) % _PARTS
        for mine in (part == k for k in range(_PARTS)):
            old, centre = who[mine], _Normal(who[~mine], self.lanes.draws)
            other = centre.proposed(old, redrawn[mine], _STEPS[kind[mine]][:, None], self.rng)
            draw[mine], scores[mine] = other.draw, other.scores
            change[mine] = centre.log_ratio(other) - centre.log_ratio(old)
        allowed = self.lanes.eligible(scores)
        new = self._known(Identities(draw, who.body, scores))
        ratio = change + _at(new, b) - _at(state, b)
        accepted = allowed & (np.log(self.rng.random(n)) < ratio)
        gain = np.where(accepted, _STEPS[kind] ** 2, 0.0)
        self.left *= 1.0 - gain
        self.same.learn(kind[~redrawn], gain[~redrawn])
        changed = np.where(accepted & (draw != who.draw), 1.0, 0.0)
        self.other.learn(kind[redrawn], changed[redrawn])
        pick = accepted[:, None]
        return _State(
            Identities(
                np.where(accepted, draw, who.draw),
                who.body,
                np.where(pick, scores, who.scores),
            ),
            np.where(accepted, new.known, state.known),
            np.where(accepted, new.full, state.full),
        )

    def _known(self, who: Identities) -> _State:
        made = counts_only(self.lanes, who, self.threads)
        known = log_likelihood(made, self.known, self.measurement, self.aside)
        full = log_likelihood(made, self.seen, self.measurement, self.aside)
        return _State(who, np.where(np.isfinite(full), known, -np.inf), full)


def _at(state: _State, b: float) -> Floats:
    """Log of the tempered likelihood; -inf where it is nothing."""
    impossible = ~np.isfinite(state.full) | ~np.isfinite(state.known)
    with np.errstate(invalid="ignore"):
        value = (1.0 - b) * state.known + b * state.full
    return np.where(impossible, -np.inf, value)


class _Steps:
    """How long proposals are: the more often, the more they have renewed."""

    def __init__(self) -> None:
        self.renewed, self.made = 0.1 * _STEPS**2, np.ones(_STEPS.size)

    def chosen(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Places of n lengths."""
        worth = self.renewed / self.made
        return rng.choice(_STEPS.size, n, p=0.9 * worth / worth.sum() + 0.1 / _STEPS.size)

    def learn(self, kind: NDArray[np.int64], gain: Floats) -> None:
        """Take note of what proposals have renewed; lately counts more than long ago."""
        self.renewed = 0.8 * self.renewed + np.bincount(kind, gain, _STEPS.size)
        self.made = 0.8 * self.made + np.bincount(kind, minlength=_STEPS.size)


class _Normal:
    """Normal distributions that fit particles, narrow where the counts have taught something.

    Each draw has a centre of its own, as far as its particles say one, and is as frequent as its
    particles.
    """

    def __init__(self, who: Identities, draws: int) -> None:
        scores, n = who.scores, len(who)
        self.mean = scores.mean(axis=0)[None]
        self.often = np.ones(1)
        if draws > 1:
            number = np.bincount(who.draw, minlength=draws)
            total = np.zeros((draws, scores.shape[1]))
            np.add.at(total, who.draw, scores - self.mean)
            self.mean = self.mean + total / (number + _ALIKE)[:, None]
            self.often = 0.8 * number / n + 0.2 / draws
        centred = scores - self.mean[who.draw]
        variance, directions = np.linalg.eigh(centred.T @ centred / max(n - 1, 1))
        by_chance = (1.0 - min(np.sqrt(scores.shape[1] / n), 1.0)) ** 2
        learned = variance < min(_LEARNED, by_chance)
        self.along = directions[:, learned]
        self.sd = np.sqrt(np.maximum(variance[learned], 1e-4))

    def proposed(
        self, who: Identities, redrawn: NDArray[np.bool_], step: Floats, rng: np.random.Generator
    ) -> Identities:
        """Crank-Nicolson proposals, reversible with this distribution; ``step`` is ``[N, 1]``."""
        draw = np.where(redrawn, rng.choice(self.often.size, len(who), p=self.often), who.draw)
        noise = rng.standard_normal(who.scores.shape)
        noise += ((noise @ self.along) * (self.sd - 1.0)) @ self.along.T
        centred = who.scores - self.mean[who.draw]
        scores = self.mean[draw] + np.sqrt(1.0 - step**2) * centred + step * noise
        return Identities(draw, who.body, scores)

    def log_ratio(self, who: Identities) -> Floats:
        """Log density of the prior minus that of this distribution, up to a constant."""
        centred = who.scores - self.mean[who.draw]
        learned = centred @ self.along
        own = np.sum(centred**2, axis=1) + np.sum(learned**2 * (self.sd**-2 - 1.0), axis=1)
        return 0.5 * own - 0.5 * np.sum(who.scores**2, axis=1) - np.log(self.often[who.draw])
