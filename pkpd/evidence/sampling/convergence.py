"""Did the sampler converge? Independent runs compared, and the states of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.evidence.sampling.smc_state import SMCRun

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What a sample must meet to be trusted.

    Attributes
    ----------
    runs
        Independent runs at least.
    rhat
        Largest rank-normalised R-hat of any parameter, over the runs.
    ess
        Smallest effective sample size of any mean, all runs together.
    shift
        Largest difference between the means of two runs, in posterior SDs.
    chance
        A larger one is let pass within so many of its own standard errors: among fifty
        parameters one of 3.5 comes up in one of forty pairs of perfect runs.
    accepted
        Smallest share of accepted moves at the last stage.
    evidence
        Largest difference between the log evidences of runs up to which models may be compared by
        them. It is of the way to the posterior, which chains at the posterior do not mend and do
        not need: :meth:`Convergence.table` tells it, and the draws are judged by the rest.
    """

    runs: int = 2
    rhat: float = 1.05
    ess: float = 200.0
    shift: float = 0.25
    chance: float = 3.5
    accepted: float = 0.05
    evidence: float = 3.0


@dataclass(frozen=True)
class Convergence:
    """Diagnostics of the runs.

    Attributes
    ----------
    rhat, ess, shift : float[d]
        For each parameter.
    accepted
        Smallest share of accepted moves at the last stage, over runs and kinds of move (the better
        kind of each run counts).
    log_evidence : float[runs]
        Of each run.
    unique_share
        Smallest share of different particles at the end.
    failed_share
        Share of evaluations without a finite likelihood.
    problems
        One sentence for each limit that is not met; empty if converged.
    remarks
        What else a reader should know.
    """

    names: tuple[str, ...]
    rhat: Floats
    ess: Floats
    shift: Floats
    accepted: float
    log_evidence: Floats
    unique_share: float
    failed_share: float
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether all limits are met."""
        return not self.problems

    def table(self) -> str:
        """R-hat, effective sample size and shift of every parameter, and the verdict."""
        lines = [f"{'parameter':32} {'R-hat':>7} {'ESS':>7} {'shift':>6}"]
        lines += [
            f"{name:32} {r:7.3f} {e:7.0f} {s:6.2f}"
            for name, r, e, s in zip(self.names, self.rhat, self.ess, self.shift, strict=True)
        ]
        evidence = ", ".join(f"{value:.2f}" for value in self.log_evidence)
        lines.append(
            f"log evidence {evidence}; accepted {self.accepted:.2f}; "
            f"different particles {self.unique_share:.2f}; failed {self.failed_share:.3f}"
        )
        lines += [*(self.problems or ["converged"]), *self.remarks]
        return "\n".join(lines)


def check_convergence(
    runs: Sequence[SMCRun], names: Sequence[str], chains: int, limits: Limits | None = None
) -> Convergence:
    """Compare independent runs with one another, and chains within each.

    Parameters
    ----------
    runs
        Finished runs with different seeds.
    names
        Names of the parameters.
    chains
        Chains of each run at its last stage, see `effective_size`.
    limits
        What must be met.
    """
    limits = limits or Limits()
    z = np.stack([run.z for run in runs])
    rhat = rank_rhat(z)
    variance = z.reshape(-1, z.shape[-1]).var(axis=0)
    ess, errors = np.zeros(z.shape[-1]), []
    for run in runs:
        size, error = effective_size(run.z.reshape(chains, -1, run.z.shape[-1]), variance)
        errors.append(error)
        ess += size
    ess = np.minimum(ess, z.shape[0] * z.shape[1])
    means = z.mean(axis=1)
    shift = (means.max(axis=0) - means.min(axis=0)) / np.sqrt(variance)
    accepted = min(max(run.stages[-1].accepted.values()) for run in runs)
    evidence = np.array([run.log_evidence for run in runs])
    problems = []

    def worst(values: Floats, bad: NDArray[np.bool_], what: str, limit: float) -> None:
        if bad.any():
            index = int(np.argmax(np.where(bad, np.abs(values), -np.inf)))
            count = int(bad.sum())
            problems.append(
                f"{what} of {names[index]} is {values[index]:.3g}, the limit is {limit:g} "
                f"({count} parameters beyond it)"
            )

    if len(runs) < limits.runs:
        problems.append(f"{len(runs)} run, {limits.runs} independent ones are needed")
    worst(rhat, rhat > limits.rhat, "R-hat", limits.rhat)
    low = ess < limits.ess
    if low.any():
        index = int(np.argmin(ess))
        problems.append(
            f"effective sample size of {names[index]} is {ess[index]:.0f}, "
            f"at least {limits.ess:g} are needed ({int(low.sum())} parameters below it)"
        )
    chance = limits.chance * np.sqrt(2.0 * np.mean(errors, axis=0) / variance)
    far = (shift > limits.shift) & (shift > chance)
    worst(shift, far, "difference between runs (in SDs)", limits.shift)
    if accepted < limits.accepted:
        problems.append(
            f"{accepted:.3f} of the moves were accepted, the limit is {limits.accepted}"
        )
    remarks = []
    if np.ptp(evidence) > limits.evidence:
        remarks.append(
            f"log evidences differ by {np.ptp(evidence):.1f}, the limit is {limits.evidence:g}: "
            "models cannot be compared by them"
        )
    if any(run.power < 1.0 for run in runs):
        problems.append("a run has not reached the posterior")
    evaluated = sum(run.evaluations for run in runs)
    return Convergence(
        names=tuple(names),
        rhat=rhat,
        ess=ess,
        shift=shift,
        accepted=float(accepted),
        log_evidence=evidence,
        unique_share=min(run.stages[-1].unique_share for run in runs),
        failed_share=sum(run.failed for run in runs) / max(evaluated, 1),
        problems=tuple(problems),
        remarks=tuple(remarks),
    )


def rank_rhat(draws: Floats) -> Floats:
    """Rank-normalised split R-hat over runs, of the values and of their distance from the median.

    Parameters
    ----------
    draws : float[runs, N, d]
        States of each run, chain after chain: the halves of a run that are compared hold different
        chains.

    Returns
    -------
    float[d]
        The larger of the two as ArviZ computes them (Vehtari et al., Bayesian Anal 2021;16:667); 1
        for a single run, infinite where a run has fewer than four states or nothing ever moved.
    """
    import arviz

    runs, _, d = draws.shape
    if runs < 2:
        return np.ones(d)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.array([float(arviz.rhat(draws[:, :, j])) for j in range(d)])  # pyright: ignore
    return np.where(np.isnan(found), np.inf, found)


def effective_size(by_chain: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Effective sample size of the means of a run, and the squared errors of those means.

    The chains' means are nearly independent, so that the variance of the mean of all states is that
    of the chains' means over their number. ArviZ's estimate, from autocorrelations within chains,
    asks for chains longer than those of a sequential sampler: of 64 chains of 4 states it makes
    more independent draws than there are states, of 64 of 20 up to half too many.

    Parameters
    ----------
    by_chain : float[chains, n, d]
        States.
    variance : float[d]
        Of a single state.

    Returns
    -------
    tuple of float[d]
        Effective sample size (not bounded by the number of states), squared error.
    """
    error = by_chain.mean(axis=1).var(axis=0, ddof=1) / len(by_chain)
    return variance / np.maximum(error, 1e-300), error
