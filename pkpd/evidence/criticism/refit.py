"""The posterior without some studies, from the posterior with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import EvidencePosterior, gather, target_of
from pkpd.evidence.sampling.convergence import Limits, check_convergence
from pkpd.evidence.sampling.smc import SMCSettings, run_smc
from pkpd.evidence.sampling.smc_state import SMCRun

Floats = NDArray[np.float64]


def refit_without(
    posterior: EvidencePosterior,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    settings: SMCSettings,
    studies: Iterable[str],
) -> EvidencePosterior:
    """Sample the posterior of a table without some studies.

    The sampler starts at the posterior of the whole table and takes the studies' factors away in
    stages; that is a small way compared with the one from the prior.

    Parameters
    ----------
    posterior
        Of the whole table, all draws of equal weight.
    prior, likelihood
        Of the whole table.
    settings
        Of the sampler.
    studies
        Studies to leave out.

    Returns
    -------
    EvidencePosterior
        Of one run; its pieces still have the studies left out.
    """
    places = [likelihood.studies.index(study) for study in studies]

    def path(total: Floats, pieces: Floats) -> tuple[Floats, Floats]:
        return total, -pieces[:, places].sum(axis=1)

    pieces = np.concatenate([posterior.by_study, posterior.by_term], axis=-1)
    flat = pieces.reshape(-1, pieces.shape[-1])
    start = SMCRun(
        z=posterior.z.reshape(-1, len(posterior.names)),
        log_likelihood=flat[:, : len(likelihood.studies)].sum(axis=1),
        pieces=flat,
    )
    run = run_smc(prior, target_of(likelihood), settings, start=start, path=path)
    found = check_convergence([run], prior.names, settings.chains, Limits(runs=1))
    return gather(prior, likelihood, [run], settings, found, {"without": sorted(studies)})


def refitter(
    posterior: EvidencePosterior,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    settings: SMCSettings,
) -> Callable[[str], EvidencePosterior]:
    """Make the function from a study to the posterior without it, for `leave_studies_out`."""
    return lambda study: refit_without(posterior, prior, likelihood, settings, (study,))


def folds_of(studies: Iterable[str], folds: int, seed: int = 1) -> tuple[tuple[str, ...], ...]:
    """Divide studies at random into folds of nearly equal size."""
    names = list(studies)
    order = np.random.default_rng(seed).permutation(len(names))
    return tuple(tuple(names[i] for i in order[k::folds]) for k in range(folds))


def cross_validate(
    posterior: EvidencePosterior,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    settings: SMCSettings,
    *,
    folds: int = 10,
    seed: int = 1,
    draws: int = 200,
) -> Mapping[str, tuple[EvidencePosterior, float]]:
    """Leave out folds of studies, sampling each time.

    Returns
    -------
    mapping
        Study -> posterior without its fold, and log predictive density of the study under it.
    """
    answer: dict[str, tuple[EvidencePosterior, float]] = {}
    for index, fold in enumerate(folds_of(likelihood.studies, folds, seed)):
        own = replace(settings, seed=settings.seed + 100 * (index + 1))
        without = refit_without(posterior, prior, likelihood, own, fold)
        chosen = without.chosen(draws, seed)
        for study in fold:
            values = without.by_study[..., likelihood.studies.index(study)].ravel()[chosen]
            top = values.max()
            answer[study] = (without, float(top + np.log(np.mean(np.exp(values - top)))))
    return answer
