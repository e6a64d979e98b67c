"""Learn the posterior of a table: simulate, train an emulator, sample, and again where it matters.

The first simulations are at draws of the prior. Later ones are at draws of the posterior of the
emulator so far, spread a little more widely than they are, so that the emulator is good where the
posterior is. All simulations train the last emulator; chains run on it.
"""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.cells import cells_of
from pkpd.evidence.likelihood.density import TableDensity, logits_and_days
from pkpd.evidence.likelihood.offsets import simulated_names, spread_at
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood, Simulator
from pkpd.evidence.posterior.kept import place_of, refuse_other_cards
from pkpd.evidence.posterior.stored import EvidencePosterior, evidence_hash
from pkpd.evidence.sampling.chains import ChainSettings, Sampled, sample
from pkpd.evidence.sampling.chains_checked import ChainLimits, ChainsChecked, check_chains
from pkpd.evidence.sampling.emulator import Emulator, Training, Wiring, train
from pkpd.evidence.sampling.points import (
    first_points,
    keep_round,
    kept_start,
    last_points,
    near,
    points_kept,
)
from pkpd.evidence.sampling.simulations import (
    MarrowMaker,
    Simulations,
    Task,
    blocks_of,
    joined,
    kept_simulations,
    simulate_at,
)
from pkpd.evidence.sampling.wiring import PATIENTS, wiring
from pkpd.marrow.variants import FULL, VARIANTS, Variant

Say = Callable[[str], None]

AT_PRIOR = 0.3
"""What a simulation at the prior counts in training the last emulator, beside one near the
posterior."""
WIRING_SEED = 900_001
KEPT = 250
"""Draws of each chain that are kept, evenly along it."""


@dataclass(frozen=True)
class LearningPlan:
    """Sizes of a run.

    Attributes
    ----------
    name
        ``reduced`` or ``full``.
    rounds
        Sets of parameters simulated: at the prior, then at the posterior so far.
    patients
        Simulated patients of an arm at each.
    steps_per_day
        Of the simulations.
    powers
        Of the likelihood, of the chains before each round but the first: the emulator so far is
        not to be believed where it was not simulated.
    scout
        Chains between rounds.
    chains
        Chains of the posterior.
    training
        Of the emulator of the posterior.
    scout_networks
        Networks of the emulators between rounds, which say only where to simulate.
    seed
        Of everything.
    """

    name: str
    rounds: tuple[int, ...] = (2000, 2000, 2000)
    powers: tuple[float, ...] = (0.2, 1.0)
    patients: int = 64
    steps_per_day: int = 4
    scout: ChainSettings = field(
        default_factory=lambda: ChainSettings(draws=400, tune=500, chains=2, depth=7)
    )
    chains: ChainSettings = field(default_factory=ChainSettings)
    training: Training = field(default_factory=Training)
    scout_networks: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        if len(self.powers) != len(self.rounds) - 1:
            raise PkpdError(
                where=f"learning plan {self.name}",
                what=f"{len(self.powers)} powers for {len(self.rounds)} rounds",
                allowed=f"{len(self.rounds) - 1} powers, one before each round but the first",
            )


@dataclass(frozen=True)
class Learned:
    """What a run gives.

    Attributes
    ----------
    posterior
        Draws.
    checked
        Diagnostics of the chains.
    emulator
        On which they ran.
    simulations
        That trained it.
    halves
        Log likelihoods of the table at posterior draws under emulators trained on the two halves
        of the simulations, ``[2, K]``.
    """

    posterior: EvidencePosterior
    checked: ChainsChecked
    emulator: Emulator
    simulations: Simulations
    halves: Floats

    def __repr__(self) -> str:
        """Tell the posterior, and the simulations it was learned from."""
        return (
            f"Learned({self.posterior!r},\n  from {len(self.simulations)} simulations; "
            f"error of the emulator {self.noise:.2f} in log likelihood)"
        )

    @property
    def noise(self) -> float:
        """Standard deviation of the emulator's error in the table's log likelihood, estimated.

        Half that of the difference between the halves: each has an error ``sqrt(2)`` times that
        of the whole, and the difference ``sqrt(2)`` times that of a half.
        """
        return 0.5 * float(np.std(self.halves[0] - self.halves[1]))


def learn(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    plan: LearningPlan,
    *,
    folder: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    variant: Variant = FULL,
    make: Callable[[int], Simulator] | None = None,
    limits: ChainLimits | None = None,
    facts: Mapping[str, object] | None = None,
    say: Say = lambda _: None,
) -> Learned:
    """Learn.

    Parameters
    ----------
    prior
        Of all parameters (`pkpd.evidence.likelihood.parameters.marrow_prior`).
    likelihood
        Of the table; its terms and arms are used.
    plan
        Sizes.
    folder
        Where simulations are kept, so that a run that was stopped goes on.
    workers
        Processes that simulate.
    cluster
        Scheduler whose workers simulate in their place: as of
        `pkpd.evidence.sampling.simulations.simulate_at`. Chains run in this process.
    variant
        Mechanisms of the marrow.
    make
        From a seed to a simulator; that of the marrow if not given.
    limits
        Of the chains.
    facts
        Anything to keep in the record.
    say
        Called with a line for each step.
    """
    cells = likelihood.cells
    density = TableDensity(cells)
    inputs = [prior.names.index(name) for name in simulated_names(prior)]
    make = make or MarrowMaker(likelihood.arms, plan.patients, variant, plan.steps_per_day)
    task = Task(make, cells, prior)
    place = None
    if folder is not None:
        place = place_of(folder, prior, likelihood, variant, plan.patients, plan.steps_per_day)
        refuse_other_cards(place, likelihood)
    wired = _wired(make, likelihood, prior, inputs, plan, place)
    say(f"{wired.acts.sum(axis=1).mean():.0f} of {len(inputs)} parameters act on an arm")
    rng = np.random.default_rng(plan.seed)
    parts: list[Simulations] = []
    points = first_points(prior.size, plan.rounds[0], plan.seed)
    start: Floats | None = None
    emulator: Emulator | None = None
    for index, number in enumerate(plan.rounds):
        own = None if place is None else place / f"round{index}_{plan.seed}"
        kept = points_kept(own, number, prior.size)
        if own is not None and kept is not None:
            # a run that was stopped goes on from the points that it chose, as it would have
            points, start = kept, kept_start(own, rng)
        elif index > 0:
            assert emulator is not None
            scout = replace(plan.scout, power=plan.powers[index - 1])
            scouted = sample(prior, density, emulator, scout, start)
            start = last_points(scouted)
            points = near(scouted.z, number, rng)
            say(
                f"round {index}: {scouted.steps:.0f} gradients a draw, "
                f"{scouted.divergent} divergent"
            )
        if own is not None and kept is None:
            keep_round(own, points, start, rng)
        done = simulate_at(
            task, points, seed=plan.seed * 1_000_003 + 10_007 * index,
            folder=own, workers=workers, cluster=cluster,
            on_block=lambda a, b, i=index: say(f"round {i}: {a} of {b} simulated")
            if a % 200 == 0 or a == b else None,
        )  # fmt: skip
        parts.append(done)
        following = None if place is None else place / f"round{index + 1}_{plan.seed}"
        last = index == len(plan.rounds) - 1
        if not last and points_kept(following, plan.rounds[index + 1], prior.size) is not None:
            continue
        training = plan.training if last else replace(plan.training, networks=plan.scout_networks)
        emulator = train(
            joined(parts), inputs, training, wired=wired, weight=_weights(parts),
            block=blocks_of([len(part) for part in parts]), seed=_network_seed(plan, index),
        )  # fmt: skip
        say(f"round {index}: emulator of {sum(map(len, parts))} simulations")
    assert emulator is not None
    sampled = sample(prior, density, emulator, plan.chains, start)
    divergent = sampled.divergent / sampled.log_likelihood.size
    checked = check_chains(sampled.z, prior.names, divergent, limits)
    simulations = joined(parts)
    halves = halves_at(
        parts, inputs, wired, plan.training, prior, density,
        sampled.z.reshape(-1, prior.size)[:: max(1, sampled.z[..., 0].size // 24)][:24],
    )  # fmt: skip
    record = {
        **facts_of(likelihood, plan),
        "simulations": len(simulations),
        "variant": next((n for n, one in VARIANTS.items() if one == variant), "of one's own"),
        "rhat": dict(zip(checked.names, map(float, checked.rhat), strict=True)),
        "ess": dict(zip(checked.names, map(float, checked.bulk), strict=True)),
        "divergent": checked.divergent,
        "gradients": sampled.steps,
        **(facts or {}),
    }
    posterior = posterior_of(prior, likelihood, emulator, sampled, checked.problems, record)
    return Learned(posterior, checked, emulator, simulations, halves)


def sample_without(
    emulator: Emulator,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    studies: Iterable[str],
    settings: ChainSettings,
    start: Floats | None = None,
    limits: ChainLimits | None = None,
) -> EvidencePosterior:
    """Sample the posterior without some studies, on the emulator of all of them.

    Parameters
    ----------
    emulator, prior, likelihood
        Of the whole table.
    studies
        Left out.
    settings
        Of the chains.
    start : float[K, d]
        Scores of draws of the posterior of the whole table, if there are any.
    limits
        Of the chains.
    """
    out = tuple(studies)
    density = TableDensity(likelihood.cells, without=out)
    sampled = sample(prior, density, emulator, settings, start)
    divergent = sampled.divergent / sampled.log_likelihood.size
    checked = check_chains(sampled.z, prior.names, divergent, limits)
    return posterior_of(
        prior, likelihood, emulator, sampled, checked.problems, {"without": sorted(out)}
    )


def emulator_of(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    plan: LearningPlan,
    folder: str | Path,
    variant: Variant = FULL,
    *,
    another: int = 0,
) -> Emulator:
    """Train the last emulator of a run again, from the simulations that it kept.

    Parameters
    ----------
    prior, likelihood, plan, folder, variant
        Of the run.
    another
        0: that of the run. Else one with another seed that learns from blocks of the simulations
        drawn with replacement, as if the run had had other patients and sets of parameters.

    Raises
    ------
    PkpdError
        If the folder has not all of them, or they are of other cards of drugs.
    """
    place = place_of(folder, prior, likelihood, variant, plan.patients, plan.steps_per_day)
    parts = []
    for index in range(len(plan.rounds)):
        found = kept_simulations(place / f"round{index}_{plan.seed}", plan.rounds[index])
        if found is None:
            raise PkpdError(
                where=str(place),
                what=f"round {index} of the run {plan.name!r} is not complete",
                remedy="run fits/evidence/learn.py to its end with this folder first",
            )
        parts.append(found)
    refuse_other_cards(place, likelihood)
    inputs = [prior.names.index(name) for name in simulated_names(prior)]
    last = len(plan.rounds) - 1
    make = MarrowMaker(likelihood.arms, plan.patients, variant, plan.steps_per_day)
    wired = _wired(make, likelihood, prior, inputs, plan, place)
    simulations, weight, seed = joined(parts), _weights(parts), _network_seed(plan, last)
    block = blocks_of([len(part) for part in parts])
    if another:
        places = _blocks_again(block, another)
        simulations, weight, seed = simulations.taken(places), weight[places], 1000 + another
        block = block[places]
    return train(
        simulations, inputs, plan.training, wired=wired, weight=weight, block=block, seed=seed
    )


def _blocks_again(block: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Places of simulations, by blocks drawn with replacement."""
    number = int(block[-1]) + 1
    drawn = np.random.default_rng(seed).integers(number, size=number)
    return np.concatenate([np.flatnonzero(block == one) for one in drawn])


def _network_seed(plan: LearningPlan, index: int) -> int:
    return 100 * (plan.seed - 1) + index


def _wired(
    make: Callable[[int], Simulator],
    likelihood: EvidenceLikelihood,
    prior: Prior,
    inputs: list[int],
    plan: LearningPlan,
    place: Path | None,
) -> Wiring:
    few = replace(make, n=PATIENTS) if isinstance(make, MarrowMaker) else make
    folder = None if place is None else place / f"wiring_{plan.seed}"
    seed = WIRING_SEED + plan.seed
    return wiring(few, likelihood.cells, prior, inputs, seed=seed, folder=folder)


def posterior_of(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    emulator: Emulator,
    sampled: Sampled,
    problems: tuple[str, ...],
    record: Mapping[str, object],
) -> EvidencePosterior:
    """Keep some draws of each chain, with the log likelihood of each study and term."""
    draws = sampled.z.shape[1]
    kept = np.linspace(0, draws - 1, min(KEPT, draws)).astype(int)
    z = sampled.z[:, kept]
    together = TableDensity(likelihood.cells)
    alone = TableDensity(cells_of(likelihood.terms, alone=True))
    order = [together.studies.index(study) for study in likelihood.studies]
    terms = [alone.studies.index(f"{i}") for i in range(len(likelihood.terms))]

    @jax.jit
    def pieces(point: Floats):
        logits, days = emulator(point)
        spread = spread_at(prior, point)
        return (
            together.marginal(logits, days, spread),
            alone.marginal(logits, days, spread),
        )

    found = [[pieces(point) for point in chain] for chain in z]
    by_study = np.array([[np.asarray(f[0])[order] for f in chain] for chain in found])
    by_term = np.array([[np.asarray(f[1])[terms] for f in chain] for chain in found])
    return EvidencePosterior(
        names=prior.names,
        values=prior.values(z),
        z=z,
        by_study=by_study,
        by_term=by_term,
        studies=likelihood.studies,
        terms=tuple(term.name for term in likelihood.terms),
        fixed=prior.fixed,
        problems=problems,
        record=record,
    )


def facts_of(likelihood: EvidenceLikelihood, plan: LearningPlan) -> dict[str, object]:
    """Gather what the record of a run holds of its evidence and its settings."""
    return {
        "pkpd": metadata.version("pkpd"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "written": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "evidence": evidence_hash(likelihood),
        "rows": sum(len(term.rows) for term in likelihood.terms),
        "settings": asdict(plan),
        "switches": {**asdict(likelihood.switches), "drugs": sorted(likelihood.switches.drugs)},
    }


def halves_at(
    parts: list[Simulations],
    inputs: list[int],
    wired: Wiring,
    training: Training,
    prior: Prior,
    density: TableDensity,
    points: Floats,
) -> Floats:
    """Log likelihood at points ``[K, d]`` under single networks of two halves of the simulations.

    The mean of several networks errs less.
    """
    single, simulations, weight = replace(training, networks=1), joined(parts), _weights(parts)
    answers = []
    # blocks share patients: neighbours stay together
    block = blocks_of([len(part) for part in parts])
    for part in (0, 1):
        own = np.flatnonzero(block % 2 == part)
        emulator = train(
            simulations.taken(own),
            inputs,
            single,
            wired=wired,
            weight=weight[own],
            block=block[own],
            seed=100 + part,
        )
        answers.append(totals(emulator, prior, density, points))
    return np.array(answers)


def totals(emulator: Emulator, prior: Prior, density: TableDensity, points: Floats) -> Floats:
    """Log likelihood of the table at points ``[K, d]``, offsets integrated out."""

    @jax.jit
    def total(z: Floats):
        logits, days = emulator(z)
        return density.marginal(logits, days, spread_at(prior, z)).sum()

    return np.array([float(total(z)) for z in points])


def exact_totals(task: Task, density: TableDensity, points: Floats, seed: int) -> Floats:
    """Log likelihood at points ``[K, d]`` by simulation with the patients of a seed."""
    found = task.simulate(points, seed)
    total = jax.jit(lambda lo, da, z: density.marginal(lo, da, spread_at(task.prior, z)).sum())
    answers = []
    for index, z in enumerate(points):
        logits, days = logits_and_days(found.at(index))
        answers.append(float(total(logits, days, z)))
    return np.array(answers)


def _weights(parts: list[Simulations]) -> Floats:
    first = AT_PRIOR if len(parts) > 1 else 1.0
    return np.concatenate(
        [np.full(len(part), first if i == 0 else 1.0) for i, part in enumerate(parts)]
    )
