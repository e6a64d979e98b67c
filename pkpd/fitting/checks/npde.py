"""Normalised prediction distribution errors: where each measurement lies among its replicates.

``npd`` compares a measurement with its own replicates. ``npde`` first takes out, subject by
subject, the mean and the correlation of replicates and measurements together, so that the errors
of a subject are independent (Brendel and others 2006, Pharm Res 23:2036-49; Comets, Brendel and
Mentre 2008, Comput Methods Programs Biomed 90:154-66; there of the replicates alone). Under the
true model both are standard normal.

Of ``K`` replicates, ``n`` below the measurement and ``e`` equal to it, the prediction discrepancy
is ``(n + v (e + 1)) / (K + 1)`` with ``v`` uniform: the rank among ``K + 1`` exchangeable values
with ties broken at random is then exactly uniform, and never 0 or 1.

A value below its limit takes, by the method ``"cdf"``, a discrepancy drawn between 0 and the share
of its replicates below the limit, and the value of a replicate at that place; replicates below the
limit are drawn anew among themselves in the same way, so that measurements and replicates stay
comparable after decorrelation (Nguyen, Comets and Mentre 2012, J Pharmacokinet Pharmacodyn
39:499-518). ``"omit"`` leaves such values out, which biases what remains where they are many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.distributions import stream
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import Simulations

Censoring = Literal["cdf", "omit"]
Root = Literal["cholesky", "symmetric"]


@dataclass(frozen=True, eq=False)
class PredictionErrors:
    """Normalised prediction errors of ``M`` observations.

    Attributes
    ----------
    npde, npd
        With and without decorrelation, ``[M]``; NaN where left out.
    simulations
        What they were compared with.
    notes
        Sentences on what was left out.
    """

    npde: np.ndarray
    npd: np.ndarray
    simulations: Simulations
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Tell how many of what."""
        return f"PredictionErrors({len(self.npde)} observations, {self.simulations!r})"

    def tests(self, line: str | None = None) -> dict[str, float]:
        """Compare the npde with a standard normal distribution.

        Returns
        -------
        dict
            ``n``, ``mean``, ``variance``, and p-values: ``p_mean`` (t-test), ``p_variance``
            (chi-squared), ``p_normal`` (Shapiro-Wilk), ``p_all`` (the smallest times three, at
            most 1); NaN for fewer than three values.

        Raises
        ------
        PkpdError
            If the data have no such line.
        """
        values = self.npde
        if line is not None:
            data = self.simulations.dataset
            if line not in data.lines:
                what, allowed = f"no line {line!r}", ", ".join(data.lines)
                raise PkpdError(where="tests of prediction errors", what=what, allowed=allowed)
            values = values[data.observations.line == data.lines.index(line)]
        values = values[np.isfinite(values)]
        return normal_tests(values)


def normal_tests(values: np.ndarray) -> dict[str, float]:
    """Test for mean 0, variance 1 and normality; see `PredictionErrors.tests`."""
    n = len(values)
    if n < 3:
        return {"n": n} | dict.fromkeys(
            ("mean", "variance", "p_mean", "p_variance", "p_normal", "p_all"), float("nan")
        )
    variance = float(np.var(values, ddof=1))
    statistic = (n - 1) * variance
    tail = stats.chi2.cdf(statistic, n - 1)
    few = values if n <= 5000 else values[:: n // 5000 + 1]
    p = {
        "p_mean": float(np.asarray(stats.ttest_1samp(values, 0.0))[1]),
        "p_variance": float(2 * min(tail, 1 - tail)),
        "p_normal": float(stats.shapiro(few).pvalue),
    }
    return {
        "n": n,
        "mean": float(values.mean()),
        "variance": variance,
        **p,
        "p_all": min(1.0, 3 * min(p.values())),
    }


def prediction_errors(
    simulations: Simulations,
    *,
    censored: Censoring = "cdf",
    root: Root = "cholesky",
    seed: int = 1,
) -> PredictionErrors:
    """Compute npde and npd of every observation.

    Parameters
    ----------
    simulations
        Replicates; 500 or more resolve the tails.
    censored
        What becomes of values below or above a limit; see the module.
    root
        Square root of the covariance: ``"cholesky"`` takes a subject's records in order,
        ``"symmetric"`` treats them alike.
    seed
        Of ties and censored values.

    Raises
    ------
    PkpdError
        If a subject has more observations than half the replicates, whose covariance then cannot
        be estimated.
    """
    for word, given, allowed in (
        ("censored", censored, ("cdf", "omit")),
        ("root", root, ("cholesky", "symmetric")),
    ):
        if given not in allowed:
            raise PkpdError(
                where="prediction_errors", what=f"{word}={given!r}", allowed=", ".join(allowed)
            )
    seen = simulations.dataset.observations
    rng = stream(seed, "prediction errors")
    npde, npd = np.full(len(seen), np.nan), np.full(len(seen), np.nan)
    lost = []
    for b in range(len(simulations.dataset.subjects)):
        take = seen.subject == b
        if censored == "omit":
            take = take & (seen.censored == NOT_CENSORED)
        mine = np.flatnonzero(take)
        if not mine.size:
            continue
        replicates = simulations.values[:, mine]
        replicates = replicates[np.all(np.isfinite(replicates), axis=1)]
        label = simulations.dataset.subjects[b]
        if len(replicates) < 20:
            lost.append(str(label))
            continue
        if 2 * mine.size > len(replicates):
            raise PkpdError(
                where=f"npde of subject {label}",
                what=f"{mine.size} observations and {len(replicates)} replicates",
                allowed="at least two replicates for each observation of a subject",
                remedy=f"simulate {max(500, 4 * mine.size)}",
            )
        observed = np.array(seen.value[mine], dtype=float)
        if censored == "cdf":
            observed, replicates = _imputed(simulations, mine, observed, replicates, rng)
        npd[mine] = _normal_score(observed, replicates, rng)
        npde[mine] = _normal_score(*_whitened(observed, replicates, root), rng)
    notes = () if not lost else (f"npde left out, not solved: subjects {', '.join(lost)}.",)
    return PredictionErrors(npde, npd, simulations, notes)


def _normal_score(
    observed: np.ndarray, replicates: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    below = np.sum(replicates < observed, axis=0)
    equal = np.sum(replicates == observed, axis=0)
    place = below + rng.uniform(size=len(observed)) * (equal + 1)
    return stats.norm.ppf(place / (len(replicates) + 1))


def _imputed(
    simulations: Simulations,
    mine: np.ndarray,
    observed: np.ndarray,
    replicates: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Values in place of censored ones, of measurements and replicates alike."""
    seen = simulations.dataset.observations
    replicates = replicates.copy()
    for j, m in enumerate(mine):
        column = replicates[:, j].copy()
        for limit, hidden in (
            (simulations.lower[m], column < simulations.lower[m]),
            (simulations.upper[m], column > simulations.upper[m]),
        ):
            if not np.isfinite(limit):
                continue
            pool = column[hidden]
            if pool.size:
                replicates[hidden, j] = rng.choice(pool, pool.size)
        if seen.censored[m] == NOT_CENSORED:
            continue
        if seen.censored[m] == BELOW:
            pool = column[(column < seen.value[m]) & (column >= seen.lower[m])]
        else:
            pool = column[column > seen.value[m]]
        # with no replicate beyond the limit the measurement is the most extreme value there is
        observed[j] = rng.choice(pool) if pool.size else seen.value[m]
    return observed, replicates


def _whitened(
    observed: np.ndarray, replicates: np.ndarray, root: Root
) -> tuple[np.ndarray, np.ndarray]:
    """Take out mean and correlation, those of replicates and measurements together.

    Those of the replicates alone would fit the replicates better than the measurements, whose npde
    would then vary too much: by a tenth where a subject has a tenth as many observations as there
    are replicates. Taken together they are exchangeable under the true model.
    """
    together = np.vstack([observed, replicates])
    mean = together.mean(axis=0)
    covariance = np.atleast_2d(np.cov(together, rowvar=False))
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = covariance / np.outer(scale, scale)
    away, each = (observed - mean) / scale, (replicates - mean) / scale
    variance, axes = np.linalg.eigh(correlation)
    if root == "symmetric" or variance[0] < 1e-10:
        # replicates that repeat each other span fewer directions than there are observations
        inverse = (axes / np.sqrt(np.maximum(variance, 1e-10))) @ axes.T
    else:
        lower = np.linalg.cholesky(correlation)
        inverse = np.linalg.solve(lower, np.eye(len(lower)))
    return inverse @ away, each @ inverse.T
