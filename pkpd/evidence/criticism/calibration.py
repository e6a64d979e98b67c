"""Simulation-based calibration of the whole scheme on synthetic evidence tables.

Parameters are drawn from the prior, a table is drawn from them, the posterior of that table is
sampled, and the rank of the true value among its draws is noted. If prior, simulator, likelihood
and sampler fit together, ranks are uniform (Talts et al., arXiv:1804.06788). One number is added to
the parameters: the log likelihood of the data, which is sensitive to errors that leave each
parameter's own ranks uniform (Modrak et al., Bayesian Anal 2023;20:461).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.replicate import replicate
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import target_of
from pkpd.evidence.sampling.smc import SMCSettings, run_smc, settled, with_seed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationRanks:
    """Ranks of the truth.

    Attributes
    ----------
    names
        Parameters, and ``log likelihood``.
    ranks : int[tables, names]
        Number of posterior draws below the truth, 0 to `draws`.
    draws
        Posterior draws compared with.
    truth : float[tables, d]
        Parameters the tables were drawn from.
    z_score : float[tables, d]
        (posterior mean - truth) / posterior SD, on the scores of the prior.
    contraction : float[tables, d]
        1 - posterior variance of the scores (the prior variance is 1).
    """

    names: tuple[str, ...]
    ranks: NDArray[np.int64]
    draws: int
    truth: Floats
    z_score: Floats
    contraction: Floats

    def p_values(self, bins: int = 5) -> dict[str, float]:
        """P value of uniformity of each parameter's ranks (chi-square)."""
        answer = {}
        for index, name in enumerate(self.names):
            share = (self.ranks[:, index] + 0.5) / (self.draws + 1)
            counts = np.histogram(share, bins=bins, range=(0, 1))[0]
            answer[name] = float(chisquare(counts).pvalue)
        return answer

    def table(self, bins: int = 5) -> str:
        """P values, mean z score and contraction of each parameter."""
        lines = [f"{'parameter':32} {'p uniform':>9} {'mean z':>7} {'SD z':>6} {'contraction':>11}"]
        for index, (name, p) in enumerate(self.p_values(bins).items()):
            line = f"{name:32} {p:9.3f}"
            if index < self.z_score.shape[1]:
                z, shrunk = self.z_score[:, index], self.contraction[:, index].mean()
                line += f" {z.mean():7.2f} {z.std():6.2f} {shrunk:11.2f}"
            lines.append(line)
        return "\n".join(lines)


@dataclass(frozen=True)
class TableRank:
    """Ranks of the truth of one synthetic table; see `CalibrationRanks`.

    Attributes
    ----------
    index
        Number of the table.
    ranks : int[d + 1]
        Of the parameters and of the log likelihood.
    truth, z_score, contraction : float[d]
        Of the parameters.
    """

    index: int
    ranks: NDArray[np.int64]
    truth: Floats
    z_score: Floats
    contraction: Floats


def rank_of_table(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    settings: SMCSettings,
    index: int,
    *,
    draws: int = 63,
    seed: int = 1,
) -> TableRank:
    """Draw a truth and a table from it, learn from the table, and rank the truth.

    Parameters as `simulation_based_calibration`; tables of different ``index`` are independent.
    """
    rng = np.random.default_rng([seed, index])
    z_true = prior.draw(1, rng)[0]
    theta = prior.theta(z_true)
    seen = likelihood.simulate(likelihood.effects.for_simulation(theta))
    drawn = replicate(likelihood, theta, seen, rng)
    own = with_rows(likelihood, drawn)
    run = run_smc(prior, target_of(own), with_seed(settings, settings.seed + 1000 + index))
    # one state of each chain, so that draws are nearly independent
    by_chain = run.z.reshape(settings.chains, -1, prior.size)[:, -1]
    ll = run.log_likelihood.reshape(settings.chains, -1)[:, -1]
    keep = rng.choice(settings.chains, size=min(draws, settings.chains), replace=False)
    below = np.sum(by_chain[keep] < z_true, axis=0)
    true_ll = own.evaluate(theta, seen).total
    z = settled(run, settings.chains).z
    spread = z.std(axis=0)
    return TableRank(
        index,
        np.array([*below, np.sum(ll[keep] < true_ll)], dtype=np.int64),
        prior.values(z_true),
        (z.mean(axis=0) - z_true) / spread,
        1.0 - spread**2,
    )


def gather_ranks(
    prior: Prior, settings: SMCSettings, tables: Sequence[TableRank], draws: int = 63
) -> CalibrationRanks:
    """Ranks of several tables of `rank_of_table`, ranked among so many draws."""
    return CalibrationRanks(
        names=(*prior.names, "log likelihood"),
        ranks=np.array([table.ranks for table in tables]),
        draws=min(draws, settings.chains),
        truth=np.array([table.truth for table in tables]),
        z_score=np.array([table.z_score for table in tables]),
        contraction=np.array([table.contraction for table in tables]),
    )


def simulation_based_calibration(
    prior: Prior,
    likelihood: EvidenceLikelihood,
    settings: SMCSettings,
    *,
    tables: int = 50,
    draws: int = 63,
    seed: int = 1,
    on_table: Callable[[int], None] | None = None,
) -> CalibrationRanks:
    """Rank the truth among posterior draws over many synthetic tables.

    Parameters
    ----------
    prior, likelihood
        As for the calibration; the table of the likelihood says which rows each synthetic table
        has, not their numbers.
    settings
        Of the sampler; each table has its own seed.
    tables
        Synthetic tables.
    draws
        Posterior draws that the truth is ranked among, taken from different chains.
    seed
        Of truths and tables.
    on_table
        Called after each table with its number.
    """
    done = []
    for index in range(tables):
        done.append(rank_of_table(prior, likelihood, settings, index, draws=draws, seed=seed))
        if on_table is not None:
            on_table(index)
    return gather_ranks(prior, settings, done, draws)


def with_rows(likelihood: EvidenceLikelihood, rows: dict) -> EvidenceLikelihood:
    """Likelihood of a table in which some rows are replaced, by id."""
    table = replace(likelihood.table, rows=tuple(rows.get(row.id, row) for row in likelihood.table))
    own = EvidenceLikelihood(table, effects=likelihood.effects, switches=likelihood.switches)
    return own.with_simulator(likelihood.simulate)
