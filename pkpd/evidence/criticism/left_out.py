"""Rows of studies left out: the posterior without them is sampled anew, and predicts them.

Studies are left out in folds. The emulator knows what arms show at parameters, not what was
published, so that it serves every fold as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pkpd.cluster import workers
from pkpd.evidence.criticism.row_predictions import RowsPredicted, predict_table
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood, Simulator, only_studies
from pkpd.evidence.posterior.learning import sample_without
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.evidence.sampling.chains import ChainSettings
from pkpd.evidence.sampling.emulator import Emulator


@dataclass(frozen=True)
class Fold:
    """Studies left out together.

    Attributes
    ----------
    studies
        Their names.
    posterior
        Without them.
    rows
        Their rows, predicted.
    """

    studies: tuple[str, ...]
    posterior: EvidencePosterior
    rows: RowsPredicted


def folds_of(studies: Iterable[str], folds: int, seed: int = 1) -> tuple[tuple[str, ...], ...]:
    """Divide studies at random into folds of nearly equal size."""
    names = list(studies)
    order = np.random.default_rng(seed).permutation(len(names))
    return tuple(tuple(names[i] for i in order[k::folds]) for k in range(folds))


def predict_folds(
    emulator: Emulator,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    simulate: Callable[[EvidenceLikelihood], Callable[[int], Simulator]],
    settings: ChainSettings,
    *,
    folds: int = 5,
    draws: int = 200,
    repeats: int = 8,
    seed: int = 1,
    cluster: str | None = None,
    jobs: int = 1,
) -> Iterator[Fold]:
    """Leave out each fold of studies, sample, and predict the fold's rows.

    Parameters
    ----------
    emulator, prior, likelihood
        Of the whole table.
    simulate
        From the likelihood of a fold's rows to a function from a seed to a simulator of its arms.
    settings
        Of the chains.
    folds
        Into so many the studies are divided.
    draws
        Posterior draws that predict.
    repeats
        Replicates of each row and draw.
    seed
        Of folds, draws, patients and replicates.
    cluster, jobs
        Address of a Dask scheduler whose workers do a fold each, or ``"local"`` for so many
        processes of this machine. Folds are the same.
    """

    def fold(studies: tuple[str, ...]) -> Fold:
        posterior = sample_without(emulator, prior, likelihood, studies, settings)
        own = only_studies(likelihood, studies)
        rows = predict_table(
            own, simulate(own), posterior.draws(draws, seed), repeats=repeats, seed=seed
        )
        return Fold(studies, posterior, rows)

    every = folds_of(likelihood.studies, folds, seed)
    with workers(cluster, jobs) as spread:
        yield from map(fold, every) if spread is None else spread.in_turn(fold, every)
