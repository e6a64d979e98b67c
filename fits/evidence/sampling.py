"""What is calibrated in a reduced and in a full run, and the sampler's runs in two processes."""

# ruff: noqa: T201

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pkpd.evidence.likelihood.parameters import marrow_effects, marrow_prior
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.simulator import MarrowSimulator, patients_by_arm
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import (
    EvidencePosterior,
    checked,
    evidence_hash,
    gather,
    target_of,
)
from pkpd.evidence.sampling.convergence import Convergence
from pkpd.evidence.sampling.smc import SMCSettings, prolong, run_smc, with_seed
from pkpd.evidence.sampling.smc_state import SMCRun, Stage
from pkpd.evidence.table.table import load_evidence
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.marrow.variants import VARIANTS

#: Learned in a reduced run: those in whose directions the likelihood of the table bends most.
#: The resistances have the priors of their cards there, without pooling.
REDUCED_LEARNED = (
    "rho",
    "rho.sd",
    "rho_platelet_ratio",
    "gamma_platelet",
    "ln_kill",
    "kill_log10",
    "max_stem.clofarabine",
    "max_blasts.clofarabine",
    "ec50.lenalidomide",
    "platelet_ratio.lenalidomide",
    "sensitivity.lenalidomide.mds_del5q",
    "resistance.aml_relapsed",
    "study_ratio.kill",
    "fever_hazard",
    "discrepancy",
)


@dataclass(frozen=True)
class Plan:
    """How a calibration is run.

    Attributes
    ----------
    name
        ``reduced`` or ``full``.
    settings
        Of the sampler; each further run has the next seed.
    refit
        Of the sampler where a study is left out.
    runs, baseline_runs
        Independent runs of the marrow model, and of the plain Friberg marrow.
    most_rounds
        While the runs do not agree, their chains go on together for a stage, so many times at most.
    patients
        Most and fewest simulated patients of an arm, and how many times the published number.
    nodes
        Grid points of the three deviations of studies.
    steps
        Of a day, of the simulated patients.
    learned
        Parameters; ``None``: all of `marrow_prior`.
    draws
        Posterior draws that predictions are made from.
    patients_predicted
        Simulated patients of an arm in predictions.
    """

    name: str
    settings: SMCSettings
    refit: SMCSettings
    runs: int
    baseline_runs: int
    most_rounds: int
    patients: tuple[int, int, float]
    nodes: tuple[int, int, int]
    steps: int
    learned: tuple[str, ...] | None
    draws: int
    patients_predicted: int


PLANS = {
    "reduced": Plan(
        name="reduced",
        settings=SMCSettings(particles=128, chains=32, share=0.3, final_stages=2),
        refit=SMCSettings(particles=48, chains=12, share=0.3, final_stages=0),
        runs=2,
        baseline_runs=1,
        most_rounds=0,
        patients=(64, 32, 1.0),
        nodes=(5, 5, 5),
        steps=2,
        learned=REDUCED_LEARNED,
        draws=64,
        patients_predicted=256,
    ),
    "full": Plan(
        name="full",
        settings=SMCSettings(particles=640, chains=64, share=0.45, final_stages=3),
        refit=SMCSettings(particles=320, chains=32, share=0.45, final_stages=1),
        runs=2,
        baseline_runs=2,
        most_rounds=16,
        patients=(128, 64, 2.0),
        nodes=(5, 7, 7),
        steps=4,
        learned=None,
        draws=400,
        patients_predicted=512,
    ),
}


def processes(workers: int) -> Executor:
    """Worker processes, which share no interpreter lock."""
    # spawned, since a forked process inherits the locks of libraries that run threads
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def prior_of(plan: Plan) -> Prior:
    """Prior of a plan; what is not learned is held at its median."""
    whole = marrow_prior()
    if plan.learned is None:
        return whole
    cards = leukaemia_cards().parameters
    by_name = {entry.name: entry for entry in whole.entries}
    entries = [
        cards[name] if name.startswith("resistance.") else by_name[name] for name in plan.learned
    ]
    fixed = {
        **whole.theta(np.zeros(whole.size)),
        # a card's value is the median of its prior
        **{name: p.value for name, p in cards.items() if name.startswith("resistance.")},
    }
    return Prior(entries, fixed={k: v for k, v in fixed.items() if k not in plan.learned})


def likelihood_of(plan: Plan, variant: str = "full") -> EvidenceLikelihood:
    """Likelihood of the product's table under a variant of the marrow model."""
    bare = EvidenceLikelihood(load_evidence(), effects=marrow_effects(plan.nodes))
    patients = patients_by_arm(bare, *plan.patients)
    simulator = MarrowSimulator(
        bare.arms, patients, variant=VARIANTS[variant], steps_per_day=plan.steps
    )
    return bare.with_simulator(simulator)


def folder_of(out: Path, plan: Plan, variant: str) -> Path:
    """Where the checkpoints of a plan are."""
    return out / plan.name / variant


def label_of(plan: Plan, variant: str, prior: Prior, likelihood: EvidenceLikelihood) -> str:
    """Name what is sampled; a checkpoint of something else is refused."""
    held = hashlib.sha256(repr(sorted(prior.fixed.items())).encode()).hexdigest()[:12]
    return f"{evidence_hash(likelihood)} {variant} {plan.patients} {plan.nodes} {plan.steps} {held}"


@dataclass(frozen=True)
class Sampler:
    """What samples one run of a variant of the marrow model; it is read again if it is there."""

    plan: Plan
    out: Path
    variant: str
    run: int

    @cached_property
    def prior(self) -> Prior:
        """Prior of the plan."""
        return prior_of(self.plan)

    @cached_property
    def likelihood(self) -> EvidenceLikelihood:
        """Likelihood of the product's table."""
        return likelihood_of(self.plan, self.variant)

    @property
    def settings(self) -> SMCSettings:
        """Those of the plan, with the seed of this run."""
        return with_seed(self.plan.settings, self.plan.settings.seed + self.run)

    def sample(self) -> SMCRun:
        """Sample the run, or go on with it, or read it if it is finished."""
        target = target_of(self.likelihood)
        return run_smc(self.prior, target, self.settings, **self._kept())  # pyright: ignore

    def prolong(self, run: SMCRun, others: Sequence[SMCRun]) -> SMCRun:
        """Let the chains of the run go on for a stage."""
        target = target_of(self.likelihood)
        return prolong(run, self.prior, target, self.settings, others, **self._kept())  # pyright: ignore

    def _kept(self) -> dict[str, object]:
        began, name = time.process_time(), f"{self.variant} run {self.run + 1}"

        def told(stage: Stage, evaluations: int) -> None:
            moves = ", ".join(f"{kind} {share:.2f}" for kind, share in stage.accepted.items())
            print(
                f"{name}: power {stage.power:.4f}, accepted {moves}; {evaluations} evaluations, "
                f"{time.process_time() - began:.0f} CPU s in this process",
                flush=True,
            )

        return {
            "checkpoint": folder_of(self.out, self.plan, self.variant) / f"run{self.run + 1}.npz",
            "label": label_of(self.plan, self.variant, self.prior, self.likelihood),
            "on_stage": told,
        }


def runs_of(plan: Plan, variant: str) -> int:
    """Count the independent runs of a variant."""
    return plan.runs if variant == "full" else plan.baseline_runs


def finished(plan: Plan, out: Path, variant: str) -> tuple[EvidencePosterior, Convergence]:
    """Posterior of the runs of a variant, which are sampled if they are not there."""
    done = [Sampler(plan, out, variant, run).sample() for run in range(runs_of(plan, variant))]
    prior, likelihood = prior_of(plan), likelihood_of(plan, variant)
    convergence = checked(done, prior.names, plan.settings)
    facts: Mapping[str, object] = {
        "plan": asdict(plan),
        "variant": variant,
        "held": sorted(set(marrow_prior().names) - set(prior.names)),
    }
    return gather(prior, likelihood, done, plan.settings, convergence, facts), convergence
