"""Did the chains converge? Limits that are fixed before the run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import Floats


@dataclass(frozen=True)
class ChainLimits:
    """What a sample must meet to be trusted.

    Attributes
    ----------
    chains
        Chains at least, each from a point of its own.
    rhat
        Largest rank-normalised split R-hat of any parameter.
    ess
        Smallest effective sample size of any parameter, in the bulk and in the tails.
    divergent
        Largest share of divergent transitions.
    """

    chains: int = 4
    rhat: float = 1.02
    ess: float = 400.0
    divergent: float = 0.01


@dataclass(frozen=True)
class ChainsChecked:
    """Diagnostics of chains.

    Attributes
    ----------
    names
        Parameters.
    rhat, bulk, tail : float[d]
        For each.
    divergent
        Share of divergent transitions.
    problems
        One sentence for each limit that is not met; empty if converged.
    """

    names: tuple[str, ...]
    rhat: Floats
    bulk: Floats
    tail: Floats
    divergent: float
    problems: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether all limits are met."""
        return not self.problems

    def table(self) -> str:
        """R-hat and effective sample sizes of every parameter, and the verdict."""
        lines = [f"{'parameter':40} {'R-hat':>7} {'ESS':>7} {'tails':>7}"]
        lines += [
            f"{name:40} {r:7.3f} {b:7.0f} {t:7.0f}"
            for name, r, b, t in zip(self.names, self.rhat, self.bulk, self.tail, strict=True)
        ]
        lines.append(f"divergent {self.divergent:.4f} of the draws")
        lines += self.problems or ("converged",)
        return "\n".join(lines)


def check_chains(
    draws: Floats, names: Sequence[str], divergent: float, limits: ChainLimits | None = None
) -> ChainsChecked:
    """Compare chains with one another and with themselves.

    Parameters
    ----------
    draws : float[chains, N, d]
        Draws.
    names
        Of the parameters.
    divergent
        Share of divergent transitions.
    limits
        What must be met.
    """
    import arviz

    limits = limits or ChainLimits()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        columns = [draws[..., j] for j in range(draws.shape[-1])]
        rhat = np.array([float(arviz.rhat(c)) for c in columns])  # pyright: ignore
        bulk = np.array([float(arviz.ess(c, method="bulk")) for c in columns])  # pyright: ignore
        tail = np.array([float(arviz.ess(c, method="tail")) for c in columns])  # pyright: ignore
    rhat = np.where(np.isnan(rhat), np.inf, rhat)
    bulk, tail = np.nan_to_num(bulk), np.nan_to_num(tail)
    problems = []
    if draws.shape[0] < limits.chains:
        problems.append(f"{draws.shape[0]} chains, {limits.chains} are needed")
    for what, values, bad, limit, words in (
        ("R-hat", rhat, rhat > limits.rhat, limits.rhat, "the limit is"),
        ("effective sample size", bulk, bulk < limits.ess, limits.ess, "needed are"),
        ("effective sample size of the tails", tail, tail < limits.ess, limits.ess, "needed are"),
    ):
        if bad.any():
            worst = int(np.argmax(values)) if what == "R-hat" else int(np.argmin(values))
            problems.append(
                f"{what} of {names[worst]} is {values[worst]:.4g}, {words} {limit:g} "
                f"({int(bad.sum())} parameters beyond it)"
            )
    if divergent > limits.divergent:
        problems.append(
            f"{divergent:.3f} of the transitions diverged, the limit is {limits.divergent}"
        )
    return ChainsChecked(tuple(names), rhat, bulk, tail, divergent, tuple(problems))
