"""Does the scheme find what made a table? Posterior simulation-based calibration.

A draw of the posterior is taken as the truth, its arms are simulated in new patients, every row of
the table is drawn from them, and the posterior of both tables, the published and the drawn one, is
sampled by the emulator, the likelihood and the chains of the run that is judged. If all of them fit
together, the truth ranks uniformly among the draws (Säilynoja et al., arXiv:2502.03279, after Talts
et al., arXiv:1804.06788). It is asked where the posterior lies, not all over the prior, where
an emulator is not trained to be good. The log likelihood of the drawn table is ranked with the
parameters: it is sensitive to errors that leave each parameter's own ranks uniform (Modrak et
al., Bayesian Anal 2023;20:461).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.evidence.criticism.row_predictions import predicted_logits
from pkpd.evidence.likelihood.cells import cells_of
from pkpd.evidence.likelihood.density import Spread, TableDensity
from pkpd.evidence.likelihood.drawn_rows import RowDrawer
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.terms import Term
from pkpd.evidence.likelihood.total import EvidenceLikelihood, Simulator
from pkpd.evidence.sampling.chains import ChainSettings, programs, sample
from pkpd.evidence.sampling.chains_checked import ChainLimits, check_chains
from pkpd.evidence.sampling.emulator import Emulator
from pkpd.evidence.table.table import EvidenceRow

DRAWS = 63
"""Draws that a truth is ranked among."""
FIRST_SEED = 1_000_000_000_000
"""Of the patients of truths: far beyond those that networks learn from, whose seeds begin at
1,000,003 times that of the run (`pkpd.evidence.posterior.learning`)."""


LIMITS = ChainLimits(rhat=1.05, ess=DRAWS, divergent=0.02, chains=2)
"""Of the chains of a table: shorter than those of the run that is judged, since only `DRAWS` of
their draws are taken."""


@dataclass(frozen=True)
class TableRank:
    """Ranks of the truth of one drawn table.

    Attributes
    ----------
    index
        Number of the table.
    ranks : int[d + 1]
        Number of draws below the truth, 0 to `DRAWS`, of the parameters and of the log likelihood.
    z_score : float[d]
        (mean - truth) / SD of the draws, on the scores of the prior.
    spread : float[d]
        SD of the draws, on the scores of the prior.
    left_out
        Rows that could not be drawn, since too few simulated patients had a day.
    problems
        Limits that the chains miss (`LIMITS`).
    """

    index: int
    ranks: NDArray[np.int64]
    z_score: Floats
    spread: Floats
    left_out: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationRanks:
    """Ranks of several tables.

    Attributes
    ----------
    names
        Parameters, and ``log likelihood``.
    ranks : int[tables, d + 1]
    z_score, spread : float[tables, d]
        As `TableRank`.
    """

    names: tuple[str, ...]
    ranks: NDArray[np.int64]
    z_score: Floats
    spread: Floats

    @property
    def rms(self) -> tuple[float, float]:
        """Root mean square of all z scores, and its standard error (jackknife over tables).

        1 if intervals are as wide as they should be; 1.18 if they are 15 % too narrow.
        """
        by_table = (self.z_score**2).mean(axis=1)
        n = by_table.size
        without = np.sqrt((by_table.sum() - by_table) / (n - 1))
        error = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
        return float(np.sqrt(by_table.mean())), float(error)

    def covered(self, level: float) -> float:
        """Share of truths in central intervals of a level, over all parameters."""
        share = (self.ranks[:, :-1] + 0.5) / (DRAWS + 1)
        return float(np.mean(np.abs(share - 0.5) <= 0.5 * level))


def gather_ranks(prior: Prior, tables: Sequence[TableRank]) -> CalibrationRanks:
    """Ranks of several tables of `rank_of_table`."""
    return CalibrationRanks(
        names=(*prior.names, "log likelihood"),
        ranks=np.array([table.ranks for table in tables]),
        z_score=np.array([table.z_score for table in tables]),
        spread=np.array([table.spread for table in tables]),
    )


class _Together:
    """Two tables whose factors are multiplied; `pkpd.evidence.sampling.chains` samples them."""

    def __init__(self, *densities: TableDensity) -> None:
        self.densities = densities

    @property
    def numbers(self) -> Any:
        """Those of each table."""
        return tuple(one.numbers for one in self.densities)

    @property
    def shape(self) -> bytes:
        """Those of the tables, one after the other."""
        return pickle.dumps([one.shape for one in self.densities])

    def with_numbers(self, numbers: Any) -> _Together:
        """Take numbers of tables of the same shapes."""
        each = zip(self.densities, numbers, strict=True)
        return _Together(*(one.with_numbers(own) for one, own in each))

    def marginal(self, logits: Any, days: Any, spread: Spread) -> Any:
        """Log likelihoods of the studies of all tables."""
        return jnp.concatenate([one.marginal(logits, days, spread) for one in self.densities])


def rank_of_table(
    emulator: Emulator,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    simulate: Callable[[int], Simulator],
    posterior: Floats,
    settings: ChainSettings,
    index: int,
    *,
    seed: int = 1,
) -> TableRank:
    """Take a draw as the truth, draw a table from it, learn from both tables, and rank the truth.

    Parameters
    ----------
    emulator, prior, likelihood
        Of the run that is judged.
    simulate
        From a seed to a simulator of all arms: the truth's patients are many, and not those of any
        other table.
    posterior : float[K, d]
        Scores of posterior draws.
    settings
        Of the chains.
    index
        Number of the table; tables of different numbers are independent.
    seed
        Of all tables.
    """
    rng = np.random.default_rng([seed, index])
    truth = posterior[rng.integers(len(posterior))]
    theta = prior.theta(truth)
    seen = simulate(FIRST_SEED * seed + index)(theta)
    ((logits, days),) = predicted_logits([likelihood.summaries(theta, seen)])
    drawn = RowDrawer(likelihood.terms, likelihood.cells)(logits, days, theta, rng)
    terms, missing = with_rows(likelihood.terms, drawn)
    own = TableDensity(cells_of(terms), without=missing)
    both = _Together(TableDensity(likelihood.cells), own)
    how = replace(settings, seed=settings.seed + index)
    sampled = sample(prior, both, emulator, how, posterior)
    flat = sampled.z.reshape(-1, prior.size)
    chosen = flat[np.linspace(0, len(flat) - 1, DRAWS).astype(int)]

    told = np.asarray(
        programs(prior, own, emulator).likelihood(own.numbers, np.vstack([truth, chosen]))
    )
    below = np.sum(told[1:] < told[0])
    sd = flat.std(axis=0)
    divergent = sampled.divergent / sampled.log_likelihood.size
    return TableRank(
        index,
        np.array([*np.sum(chosen < truth, axis=0), below], dtype=np.int64),
        (flat.mean(axis=0) - truth) / sd,
        sd,
        len(missing),
        check_chains(sampled.z, prior.names, divergent, LIMITS).problems,
    )


def with_rows(
    terms: Sequence[Term], rows: Mapping[str, EvidenceRow]
) -> tuple[tuple[Term, ...], tuple[str, ...]]:
    """Terms with the numbers of other rows, and terms that have no number, as studies of their own.

    Terms keep their places, so that they ask for the summaries that an emulator gives.
    """
    made, missing = [], []
    for place, term in enumerate(terms):
        own = tuple(rows.get(row.id, row) for row in term.rows)
        if all(_has_number(row) for row in own):
            made.append(replace(term, rows=own))
        else:
            name = f"{place} without a number"
            missing.append(name)
            made.append(replace(term, rows=tuple(replace(row, study=name) for row in term.rows)))
    return tuple(made), tuple(missing)


def _has_number(row: EvidenceRow) -> bool:
    if row.endpoint.kind == "count":
        return row.numerator is not None
    return row.value is not None and bool(np.isfinite(row.value))
