"""Nonparametric bootstrap of a maximum-likelihood fit: subjects drawn with replacement.

Percentile intervals are those of Efron (1981, Can J Stat 9:139-58). A sample is a vector of whole
weights on the subjects of the fit (`pkpd.fitting.uncertainty.refit`), its fit begins at the
estimates, and modes of random effects are followed from there: where subjects have several, a
sample stays with those of the fit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arguments import NONE, PATH, SHARE, TEXT, a, check_arguments, from_to
from pkpd.arrays import FloatArray
from pkpd.cards.files import nearest_of
from pkpd.cluster import workers
from pkpd.errors import PkpdError
from pkpd.fitting.kept import KeptFits
from pkpd.fitting.maximum.predicted import densities
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.uncertainty.refit import Refit
from pkpd.machine import cores

if TYPE_CHECKING:
    import pandas as pd

_FEWEST = 40  # fits, of which one is expected beyond each limit of 95 %


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates in samples of the subjects.

    Attributes
    ----------
    fit
        The fit of all subjects.
    samples : DataFrame
        Estimates, one row for each sample and one column for each estimated parameter, with
        ``objective``, ``iterations``, ``seconds`` and ``failed``; failed ones are kept.
    failed
        Sentence on each search that did not end at a minimum, by number of the sample.
    messages
        Sentences on what deserves attention.
    """

    fit: MaximumLikelihood
    samples: pd.DataFrame
    failed: Mapping[int, str]
    messages: tuple[str, ...]

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Percentile intervals beside the standard errors, one row for each estimated parameter.

        Parameters
        ----------
        level
            Of both intervals.

        Returns
        -------
        DataFrame
            ``estimate``, ``standard_error``, ``lower`` and ``upper`` of the fit (from its
            standard errors); ``median``, ``bootstrap_error`` (standard deviation),
            ``bootstrap_lower`` and ``bootstrap_upper`` of the samples whose search ended well; NaN
            where they are so few that not one is expected beyond each limit (40 for 95 %).
        """
        check_arguments("Bootstrap.table", level=(level, SHARE))
        names = list(self.fit.names)
        good: Any = self.samples.loc[~self.samples["failed"].to_numpy(dtype=bool), names]
        own = self.fit.table(level).loc[names, ["estimate", "standard_error", "lower", "upper"]]
        own["median"] = good.median()
        own["bootstrap_error"] = good.std(ddof=1)
        enough = round(len(good) * (1.0 - level), 9) >= 2.0
        for name, at in (("lower", 0.5 * (1.0 - level)), ("upper", 0.5 * (1.0 + level))):
            own[f"bootstrap_{name}"] = good.quantile(at) if enough else np.nan
        return own

    def summary(self) -> str:
        """Tell the intervals in text."""
        n, fine = len(self.samples), len(self.samples) - len(self.failed)
        seconds = np.sum(self.samples["seconds"].to_numpy())
        lines = [
            f"Bootstrap of {self.fit.likelihood.n_subjects} subjects: {fine} of {n} fits ended at "
            f"a minimum, {seconds:.0f} s of searches",
            *self.table().to_string(float_format="{:.4g}".format).splitlines(),
        ]
        return "\n".join([*lines, *(f"- {text}" for text in self.messages)])

    __repr__ = summary


@dataclass(frozen=True, eq=False)
class _Samples:
    """Fits of samples by number."""

    refit: Refit
    strata: np.ndarray
    seed: int

    def weights(self, index: int) -> FloatArray:
        """How often each subject is in a sample, ``[B]``."""
        rng, out = np.random.default_rng([self.seed, index]), np.zeros(len(self.strata))
        for one in np.unique(self.strata):
            mine = np.flatnonzero(self.strata == one)
            np.add.at(out, rng.choice(mine, len(mine)), 1.0)
        return out

    def __call__(self, index: int) -> dict[str, Any]:
        """Fit one sample."""
        began = time.perf_counter()
        free, failed, end = self.refit.marginal.free, None, None
        try:
            weights = self.weights(index)
            end = self.refit.search(weights)
            if gone := self.refit.vanished(end.point, weights):
                failed = f"{', '.join(gone)} ran to zero: this sample has no maximum"
            elif not end.converged:
                failed = f"the search ended with {end.expected_fall:.2g} of the objective left"
            elif not np.all(end.point.at.modes.converged[weights > 0]):
                failed = "a subject has no converged mode of random effects"
        except PkpdError as error:
            failed = str(error)
        values = free.values(self.refit.x) if end is None else free.values(end.point.x)
        zero = np.zeros(len(free.names), bool) if end is None else free.at_edge(end.point.x)
        return {
            "index": index,
            "failed": failed,
            "estimates": {n: values[n] if end is not None else None for n in free.names},
            "objective": None if end is None else end.point.value,
            "iterations": 0 if end is None else end.iterations,
            "edges": [name for name, at in zip(free.names, zero, strict=True) if at],
            "seconds": time.perf_counter() - began,
        }


def bootstrap(
    fit: MaximumLikelihood,
    n: int = 1000,
    *,
    by: str | None = None,
    folder: str | Path | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    seed: int = 1,
    progress: bool = False,
) -> Bootstrap:
    """Fit samples of the subjects of a fit, drawn with replacement.

    Parameters
    ----------
    fit
        Maximum-likelihood fit; its estimates are where each search begins.
    n
        Samples.
    by
        Covariate that is constant in each subject: a sample has as many subjects of each of its
        values as the data.
    folder
        Where finished fits are kept, one small file each; a run that was interrupted, or is asked
        for more samples, goes on. It is of one fit: samples that began at other estimates are
        refused.
    cluster, jobs
        As of `pkpd.checks.calibrate`: ``cluster="local"`` for ``jobs`` processes of this machine.
        Samples are the same.
    seed
        Seed. Sample ``i`` is the same whatever ``n``, ``cluster`` and ``jobs``.
    progress
        Print a line after every tenth of the samples.

    Returns
    -------
    Bootstrap

    Raises
    ------
    PkpdError
        If there are fewer subjects than parameters, the covariate is unknown or changes over time,
        or the folder holds another bootstrap.

    Examples
    --------
    >>> from pkpd.checks import bootstrap
    >>> found = bootstrap(fit, 200, by="SEX", folder="samples")  # doctest: +SKIP
    >>> found.table()  # doctest: +SKIP
    """
    jobs = cores() if jobs is None else jobs
    check_arguments(
        "bootstrap",
        fit=(fit, a(MaximumLikelihood)),
        n=(n, from_to(1)),
        by=(by, TEXT | NONE),
        folder=(folder, PATH | NONE),
        cluster=(cluster, TEXT | NONE),
        jobs=(jobs, from_to(1)),
        seed=(seed, from_to(0)),
    )
    subjects = fit.likelihood.n_subjects
    if subjects < len(fit.names):
        raise PkpdError(
            where="bootstrap",
            what=f"{subjects} subjects are fewer than the {len(fit.names)} parameters, and a "
            "sample has fewer still",
            remedy="hold parameters, or use pkpd.checks.profile_likelihood",
        )
    strata, told = _strata(fit, by)
    run = _Samples(Refit.of(fit), strata, seed)
    described = {
        **{key: fit.about[key] for key in ("data", "model", "by_subject")},
        "method": fit.method,
        # where searches begin: digits that the same fit has again
        "estimates": {name: f"{fit.estimates[name]:.5g}" for name in fit.names},
        "density": None if folder is None else densities(fit.likelihood),
        "by": by,
        "seed": seed,
    }
    kept = KeptFits(folder, "bootstrap", described)
    missing = kept.missing(n)
    with workers(cluster if missing else None, jobs) as spread:
        done = map(run, missing) if spread is None else spread.as_done(run, missing)
        for count, one in enumerate(done, 1):
            kept.keep(one)
            if progress and count % max(1, len(missing) // 10) == 0:
                print(f"bootstrap: {count} of {len(missing)} fits", flush=True)  # noqa: T201
    return _collected(fit, [kept.found[i] for i in range(n)], told)


def _strata(fit: MaximumLikelihood, by: str | None) -> tuple[np.ndarray, list[str]]:
    """Stratum of each subject ``[B]``, and sentences on those of one subject."""
    data = fit.likelihood.dataset
    if by is None:
        return np.zeros(len(data.subjects)), []
    what = ""
    if by not in data.covariates:
        what = f"{by!r} is no covariate of the data{nearest_of(by, tuple(data.covariates))}"
    elif not data.constant(by):
        what = f"{by} changes within subjects"
    if what:
        constant = [name for name in data.covariates if data.constant(name)]
        allowed = ", ".join(constant) or "none: the data have no constant covariate"
        raise PkpdError(where="bootstrap, by", what=what, allowed=allowed)
    values = data.covariates[by][:, 0]
    one = [v for v, count in zip(*np.unique(values, return_counts=True), strict=True) if count == 1]
    shown = ", ".join(f"{v:g}" for v in one[:5]) + (" ..." if len(one) > 5 else "")
    told = (
        f"{len(one)} strat{'a have' if len(one) > 1 else 'um has'} one subject ({by} {shown}), who "
        "is in every sample once: intervals are too narrow for what only they tell."
    )
    return values, [told] if one else []


def _collected(
    fit: MaximumLikelihood, found: Sequence[Mapping[str, Any]], told: list[str]
) -> Bootstrap:
    import pandas as pd

    figures = ("objective", "iterations", "seconds")
    rows = [
        one["estimates"] | {f: one[f] for f in figures} | {"failed": one["failed"] is not None}
        for one in found
    ]
    samples = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="sample"))
    floats = [*fit.names, "objective", "seconds"]
    samples[floats] = samples[floats].astype(float)
    failed = {one["index"]: one["failed"] for one in found if one["failed"] is not None}
    messages = list(told)
    if failed:
        first = min(failed)
        messages.append(
            f"{len(failed)} of {len(found)} fits failed (sample {first}: {failed[first]}); they "
            "are kept in `samples` and left out of the intervals."
        )
    fine = [one for one in found if one["failed"] is None]
    for name in fit.names:
        count = sum(name in one["edges"] for one in fine)
        if count:
            messages.append(f"{name} ran to its bound in {count} of {len(fine)} fits.")
    if len(fine) < _FEWEST:
        messages.append(
            f"{len(fine)} fits are too few for limits of 95 %, which need {_FEWEST}: ask for more."
        )
    if not fit.converged:
        messages.append("The fit itself did not converge.")
    return Bootstrap(fit, samples, failed, tuple(messages))
