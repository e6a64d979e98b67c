"""Tempered sequential Monte Carlo on the scores of the prior.

From the prior to the posterior in stages of increasing power of the likelihood (Neal, Stat Comput
2001;11:125; Del Moral, Doucet & Jasra, J R Stat Soc B 2006;68:411). The next power is the one at
which the conditional effective sample size falls to a set share (Zhou, Johansen & Aston, J Comput
Graph Stat 2016;25:701). Each stage is waste-free (Dau & Chopin, J R Stat Soc B 2022;84:114): few
particles are resampled, and all states of the Markov chains that start from them are the next
particles, so that no evaluation of the likelihood is thrown away.

The chains mix two moves, whose covariance is that of the particles and whose step is tuned from
stage to stage: a random walk, and an autoregressive step that leaves the particles' normal
distribution invariant and becomes an independent proposal as its step goes to 1. Where the
posterior is near normal the second one moves far in any number of dimensions.

PyMC's own sampler (``pymc.sample_smc``) was tried: it evaluates one particle after another within a
chain, keeps nothing until all chains are done, and throws away all but the last state of each
chain. A run here takes an hour, so it must use both cores and survive an interruption; hence this
module. Tests compare the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from pkpd.errors import PkpdError, sentence
from pkpd.evidence.likelihood.log_sums import log_sum
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.sampling.smc_state import SMCRun, Stage, load_checkpoint, save_checkpoint
from pkpd.evidence.sampling.workers import Evaluate, Target, evaluator

Floats = NDArray[np.float64]
Tempering = Callable[[Floats, Floats], tuple[Floats, Floats]]
TARGET_ACCEPTANCE = {"walk": 0.25, "autoregressive": 0.35}


@dataclass(frozen=True)
class SMCSettings:
    """Settings of a run.

    Attributes
    ----------
    particles
        Number of particles; a multiple of `chains`.
    chains
        Particles resampled at each stage, each the start of a Markov chain of
        ``particles / chains`` states.
    share
        Conditional effective sample size at each stage, as a share of the particles.
    final_stages
        Further stages at power 1, in which the chains go on from where they are; the states of all
        of them and of the stage that reached power 1 are the sample.
    seed
        Of all random numbers; the result does not depend on the number of workers.
    workers, how
        Parallel evaluations, and whether in ``threads`` (of a simulator that releases the global
        lock) or ``processes``.
    """

    particles: int = 1024
    chains: int = 128
    share: float = 0.5
    final_stages: int = 1
    seed: int = 1
    workers: int = 1
    how: str = "threads"

    def __post_init__(self) -> None:
        whole = self.chains > 0 and self.particles % self.chains == 0
        if not whole or self.particles < 2 * self.chains:
            raise PkpdError(
                sentence(
                    where="SMC settings",
                    what=f"{self.particles} particles of {self.chains} chains",
                    allowed="particles a multiple of chains, at least twice as many",
                )
            )
        if not 0.0 < self.share < 1.0:
            raise PkpdError(
                sentence(
                    where="SMC settings", what=f"share {self.share}", allowed="between 0 and 1"
                )
            )
        if self.how not in ("threads", "processes"):
            raise PkpdError(
                sentence(where="SMC settings", what=self.how, allowed="threads, processes")
            )


def run_smc(
    prior: Prior,
    target: Target | Callable[[], Target],
    settings: SMCSettings,
    *,
    start: SMCRun | None = None,
    path: Tempering | None = None,
    checkpoint: str | Path | None = None,
    label: str = "",
    on_stage: Callable[[Stage, int], None] | None = None,
) -> SMCRun:
    """Sample the posterior.

    Parameters
    ----------
    prior
        Prior of the parameters.
    target
        Function from parameters by name to (log likelihood, its pieces ``[Q]``). With
        ``how="processes"`` a function without arguments that makes it, which can be pickled.
    settings
        Settings.
    start
        Particles of the beginning of the path, if it is not the prior.
    path
        From log likelihoods ``[N]`` and pieces ``[N, Q]`` to what the target has in full and what
        it has to the power, ``[N]`` each: from the prior to the posterior, 0 and the likelihood.
        From a posterior to the one without a study, the likelihood and minus that study's piece.
    checkpoint
        File (``.npz``) that is written after each stage; a run that finds its own file there goes
        on from it, and ends as if it had not been interrupted.
    label
        Names what is sampled (such as a hash of the evidence); a checkpoint with another label is
        refused.
    on_stage
        Called after each stage, with the number of evaluations so far.

    Raises
    ------
    PkpdError
        If no likelihood is finite, or the checkpoint belongs to another run.
    """
    mark = _fingerprint(prior, settings, label)
    file = Path(checkpoint) if checkpoint is not None else None
    run = load_checkpoint(file, mark) if file is not None and file.exists() else None
    path = path or _from_prior
    with evaluator(target, settings.workers, settings.how) as evaluate:
        if run is None:
            run = _start(prior, evaluate, settings) if start is None else _restart(start, settings)
            save_checkpoint(run, file, mark)
        while run.power < 1.0 or run.final_done < settings.final_stages:
            run = _advance(run, prior, evaluate, settings, path)
            save_checkpoint(run, file, mark)
            if on_stage is not None:
                on_stage(run.stages[-1], run.evaluations)
    return run


def _from_prior(total: Floats, pieces: Floats) -> tuple[Floats, Floats]:
    return np.zeros_like(total), total


def _restart(start: SMCRun, settings: SMCSettings) -> SMCRun:
    """Take the wanted number of particles of another run, at power 0."""
    rng = np.random.default_rng([settings.seed, 0])
    n = len(start.z)
    if settings.particles <= n:
        chosen = rng.permutation(n)[: settings.particles]
    else:
        chosen = rng.integers(n, size=settings.particles)
    return SMCRun(
        start.z[chosen],
        start.log_likelihood[chosen],
        start.pieces[chosen],
        steps=_first_steps(start.z.shape[1]),
    )


def _first_steps(d: int) -> dict[str, float]:
    return {"walk": 2.38 / np.sqrt(d), "autoregressive": 0.6}


def next_power(log_likelihood: Floats, power: float, share: float) -> float:
    """Raise the power until the conditional effective sample size falls to a share.

    All particles have equal weights before; the weights after are ``exp(step log_likelihood)`` and
    their effective number is ``(sum w)^2 / sum w^2``.
    """
    finite = np.where(np.isfinite(log_likelihood), log_likelihood, -np.inf)

    def effective(step: float) -> float:
        log_w = step * finite if step > 0 else np.zeros_like(finite)
        log_w = np.where(np.isnan(log_w), -np.inf, log_w)
        return float(np.exp(2 * _lse(log_w) - _lse(2 * log_w)) / log_w.size)

    if effective(1.0 - power) >= share:
        return 1.0
    low, high = 0.0, 1.0 - power
    for _ in range(200):
        middle = 0.5 * (low + high)
        if effective(middle) >= share:
            low = middle
        else:
            high = middle
        if high - low < 1e-9 * max(high, 1e-6):
            break
    # particles without likelihood may leave less than the share at any power
    return power + (low if low > 0 else high)


def _start(prior: Prior, evaluate: Evaluate, settings: SMCSettings) -> SMCRun:
    engine = qmc.Sobol(prior.size, scramble=True, rng=np.random.default_rng([settings.seed, 0]))
    power_of_two = int(np.ceil(np.log2(settings.particles)))
    uniform = engine.random_base2(power_of_two)[: settings.particles]
    z = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    log_likelihood, pieces = _evaluated(prior, z, evaluate)
    if not np.any(np.isfinite(log_likelihood)):
        raise PkpdError(
            sentence(
                where="SMC",
                what="no draw from the prior has a finite likelihood",
                remedy="widen the prior, or look for a row that the simulator cannot produce",
            )
        )
    failed = int(np.sum(~np.isfinite(log_likelihood)))
    steps = _first_steps(prior.size)
    return SMCRun(z, log_likelihood, pieces, steps=steps, evaluations=len(z), failed=failed)


def prolong(
    run: SMCRun,
    prior: Prior,
    target: Target | Callable[[], Target],
    settings: SMCSettings,
    others: Sequence[SMCRun] = (),
    *,
    checkpoint: str | Path | None = None,
    label: str = "",
    on_stage: Callable[[Stage, int], None] | None = None,
) -> SMCRun:
    """Let the chains of a finished run go on for one stage.

    Parameters
    ----------
    run
        A run that has reached power 1.
    prior, target, settings
        As in :func:`run_smc`.
    others
        Independent runs of the same posterior. The moves take their centre and covariance from the
        states of all runs, so that runs that disagree are led to where the others are; which moves
        are accepted depends on the target alone, as ever.
    checkpoint, label, on_stage
        As in :func:`run_smc`, which reads the longer run from the checkpoint.

    Raises
    ------
    PkpdError
        If the run has not reached power 1.
    """
    if run.power < 1.0:
        raise PkpdError(
            sentence(
                where="SMC",
                what=f"a run at power {run.power:g} cannot go on",
                remedy="finish it with run_smc first",
            )
        )
    together = np.concatenate([settled(one, settings.chains).z for one in (run, *others)])
    with evaluator(target, settings.workers, settings.how) as evaluate:
        longer = _advance(run, prior, evaluate, settings, _from_prior, together)
    file = Path(checkpoint) if checkpoint is not None else None
    save_checkpoint(longer, file, _fingerprint(prior, settings, label))
    if on_stage is not None:
        on_stage(longer.stages[-1], longer.evaluations)
    return longer


def settled(run: SMCRun, chains: int) -> SMCRun:
    """Keep the second half of the states that each chain has had since it reached power 1."""

    def half(x: Floats) -> Floats:
        by_chain = x.reshape(chains, -1, *x.shape[1:])
        kept = by_chain[:, by_chain.shape[1] // 2 :] if run.final_done else by_chain
        return kept.reshape(-1, *x.shape[1:])

    return replace(
        run, z=half(run.z), log_likelihood=half(run.log_likelihood), pieces=half(run.pieces)
    )


def _advance(
    run: SMCRun,
    prior: Prior,
    evaluate: Evaluate,
    settings: SMCSettings,
    path: Tempering,
    together: Floats | None = None,
) -> SMCRun:
    """One stage: raise the power, resample, move; at power 1 the chains just go on."""
    rng = np.random.default_rng([settings.seed, 1 + len(run.stages)])
    tilt = path(run.log_likelihood, run.pieces)[1]
    power = next_power(tilt, run.power, settings.share)
    step = power - run.power
    log_w = step * tilt if step > 0 else np.zeros(len(run.z))
    log_w = np.where(np.isfinite(log_w), log_w, -np.inf)
    log_evidence = run.log_evidence + _lse(log_w) - np.log(len(log_w))
    weights = np.exp(log_w - _lse(log_w))
    length = settings.particles // settings.chains
    goes_on = run.power >= 1.0
    if goes_on:
        last = len(run.z) // settings.chains * np.arange(1, settings.chains + 1) - 1
    else:
        last = _systematic(weights, settings.chains, rng)
    begin = _States(run.z[last], run.log_likelihood[last], run.pieces[last])
    if together is None:
        moments = _moments(run.z, weights)
    else:
        moments = _moments(together, np.full(len(together), 1.0 / len(together)))
    moves = length if goes_on else length - 1
    moved = _moves(begin, moves, run.steps, moments, power, prior, evaluate, path, rng)
    states = moved.states if goes_on else [begin, *moved.states]
    new = [np.stack(part, axis=1) for part in zip(*states, strict=True)]
    if goes_on:
        old = (run.z, run.log_likelihood, run.pieces)
        by_chain = [x.reshape(settings.chains, -1, *x.shape[1:]) for x in old]
        new = [np.concatenate(pair, axis=1) for pair in zip(by_chain, new, strict=True)]
    z, log_likelihood, pieces = (x.reshape(-1, *x.shape[2:]) for x in new)
    stage = Stage(
        power=power,
        log_evidence=float(log_evidence),
        effective_share=float(1.0 / np.sum(weights**2) / len(weights)),
        accepted=moved.accepted,
        steps=dict(run.steps),
        unique_share=len(np.unique(z, axis=0)) / len(z),
        kept_correlation=_kept(begin.z, states[-1].z),
    )
    return SMCRun(
        z=z,
        log_likelihood=log_likelihood,
        pieces=pieces,
        stages=[*run.stages, stage],
        steps=_tuned(run.steps, moved.accepted),
        final_done=run.final_done + (1 if goes_on else 0),
        evaluations=run.evaluations + settings.chains * len(moved.states),
        failed=run.failed + moved.failed,
    )


class _States(NamedTuple):
    """One state of every chain: scores ``[C, d]``, log likelihoods ``[C]``, pieces ``[C, Q]``."""

    z: Floats
    log_likelihood: Floats
    pieces: Floats


class _Moved(NamedTuple):
    """States of the chains one after another, shares of accepted moves, failed evaluations."""

    states: list[_States]
    accepted: dict[str, float]
    failed: int


def _moves(
    begin: _States,
    moves: int,
    steps: Mapping[str, float],
    moments: tuple[Floats, Floats],
    power: float,
    prior: Prior,
    evaluate: Evaluate,
    path: Tempering,
    rng: np.random.Generator,
) -> _Moved:
    """Run the chains for a number of moves at one power."""
    centre, factor = moments
    z, ll, pieces = begin
    states: list[_States] = []
    tries = dict.fromkeys(TARGET_ACCEPTANCE, 0)
    hits = dict.fromkeys(TARGET_ACCEPTANCE, 0)
    failed = 0
    for _ in range(moves):
        walks = rng.random(len(z)) < 0.5
        proposal, log_ratio = _propose(z, walks, centre, factor, steps, rng)
        new_ll, new_pieces = _evaluated(prior, proposal, evaluate)
        failed += int(np.sum(~np.isfinite(new_ll)))
        log_prior = 0.5 * (np.sum(z**2, axis=1) - np.sum(proposal**2, axis=1))
        with np.errstate(invalid="ignore"):
            before, after = path(ll, pieces), path(new_ll, new_pieces)
            gain = after[0] - before[0] + power * (after[1] - before[1])
        gain = np.where(np.isfinite(new_ll), gain, -np.inf)
        accept = np.log(rng.random(len(z))) < gain + log_prior + log_ratio
        for kind, mine in (("walk", walks), ("autoregressive", ~walks)):
            tries[kind] += int(mine.sum())
            hits[kind] += int((mine & accept).sum())
        z = np.where(accept[:, None], proposal, z)
        ll = np.where(accept, new_ll, ll)
        pieces = np.where(accept[:, None], new_pieces, pieces)
        states.append(_States(z, ll, pieces))
    return _Moved(states, {kind: hits[kind] / max(tries[kind], 1) for kind in tries}, failed)


def _propose(
    z: Floats,
    walks: NDArray[np.bool_],
    centre: Floats,
    factor: Floats,
    steps: Mapping[str, float],
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Propose a state for each chain, and the log ratio that makes the move reversible."""
    noise = rng.standard_normal(z.shape) @ factor.T
    # a few small steps keep chains moving where the particles' covariance misleads
    small = np.where(rng.random(len(z)) < 0.25, 0.3, 1.0)
    walk = z + (steps["walk"] * small)[:, None] * noise
    step = np.minimum(steps["autoregressive"] * small, 1.0)
    towards = centre + np.sqrt(1.0 - step**2)[:, None] * (z - centre) + step[:, None] * noise
    proposal = np.where(walks[:, None], walk, towards)
    inverse = np.linalg.inv(factor)

    def log_normal(x: Floats) -> Floats:
        return -0.5 * np.sum(((x - centre) @ inverse.T) ** 2, axis=1)

    # the autoregressive step is reversible for the particles' normal, not for the target
    log_ratio = np.where(walks, 0.0, log_normal(z) - log_normal(proposal))
    return proposal, log_ratio


def _evaluated(prior: Prior, z: Floats, evaluate: Evaluate) -> tuple[Floats, Floats]:
    values = prior.values(z)
    thetas = [
        {**prior.fixed, **dict(zip(prior.names, map(float, row), strict=True))} for row in values
    ]
    answers = evaluate(thetas)
    total = np.array([answer[0] for answer in answers], dtype=np.float64)
    pieces = np.stack([np.asarray(answer[1], dtype=np.float64) for answer in answers])
    return np.where(np.isnan(total), -np.inf, total), pieces


def _moments(z: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean, and a Cholesky factor of the weighted covariance."""
    centre = weights @ z
    from_centre = z - centre
    covariance = (from_centre * weights[:, None]).T @ from_centre
    d = z.shape[1]
    # few particles leave small eigenvalues too small: shrink correlations a little
    shrink = min(0.5, d * float(np.sum(weights**2)))
    covariance = (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance))
    covariance += 1e-8 * np.eye(d)
    return centre, np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


def _systematic(weights: Floats, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    edges = np.cumsum(weights)
    points = (rng.random() + np.arange(n)) / n * edges[-1]
    return np.minimum(np.searchsorted(edges, points), len(weights) - 1)


def _tuned(steps: Mapping[str, float], accepted: Mapping[str, float]) -> dict[str, float]:
    limits = {"walk": (1e-3, 3.0), "autoregressive": (0.05, 1.0)}
    return {
        kind: float(
            np.clip(step * np.exp(1.5 * (accepted[kind] - TARGET_ACCEPTANCE[kind])), *limits[kind])
        )
        for kind, step in steps.items()
    }


def _kept(first: Floats, last: Floats) -> float:
    a, b = first - first.mean(axis=0), last - last.mean(axis=0)
    sds = np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0))
    return float(np.mean(np.sum(a * b, axis=0) / np.maximum(sds, 1e-300)))


def _lse(x: Floats) -> float:
    return float(log_sum(x))


def _fingerprint(prior: Prior, settings: SMCSettings, label: str) -> str:
    told = {k: v for k, v in asdict(settings).items() if k not in ("workers", "how")}
    priors = [str(entry) for entry in prior.entries]
    return json.dumps({"settings": told, "prior": priors, "label": label}, sort_keys=True)


def with_seed(settings: SMCSettings, seed: int) -> SMCSettings:
    """Change the seed."""
    return replace(settings, seed=seed)
