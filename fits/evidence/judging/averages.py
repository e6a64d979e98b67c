"""What predictions must beat first: the average of similar trials.

A row is predicted from the rows of the same endpoint in the same population, whatever was given:
counts of patients by a beta-binomial, days by a log-normal. The same endpoint has the same
threshold, day and cycles to be reached in: neutrophils of 0.5 are not pooled with those of 1, nor
deaths by day 30 with those by day 60. With fewer than three studies that have it in the population
these serve instead, the first of which there are three: the endpoint in the disease; its kind
(recovery of a line at any threshold, deaths by any day) in the population, and in the disease; the
endpoint in all diseases; its kind in all. The two parameters of each distribution are integrated
over a grid with weak priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, expit, gammaln, logit, ndtr

from judging.baselines import group_of
from pkpd.arrays import Floats
from pkpd.evidence.likelihood.terms import cell
from pkpd.evidence.table.table import EvidenceRow

FEWEST_STUDIES = 3
DRAWS = 2000
_MEDIAN_OF_NORMAL = 1.57  # variance of a median of n normal numbers, times n / variance
_BETWEEN_PATIENTS = 0.45  # SD of log days, where no range is printed


@dataclass(frozen=True)
class Average:
    """Prediction of one row.

    Attributes
    ----------
    values : float[DRAWS]
        Numbers that a trial of this size would print.
    log_score
        Log probability of the printed one.
    of
        What it is the average of.
    studies
        Studies it was made from.
    """

    values: Floats
    log_score: float
    of: str
    studies: int


def average_of_similar(
    row: EvidenceRow, others: Sequence[EvidenceRow], rng: np.random.Generator
) -> Average | None:
    """Predict a row.

    Parameters
    ----------
    row
        A count of patients, or a median or mean day.
    others
        Rows of other studies; those of its own are left out.
    rng
        Random numbers.

    Returns
    -------
    Average or None
        ``None`` where fewer than three studies have printed the kind of endpoint, and for ratios
        and differences of two arms.
    """
    if not _has_number(row):
        return None
    kind = [r for r in others if r.study != row.study and group_of(r) == group_of(row)]
    kind = [r for r in kind if _is_count(r) == _is_count(row) and _has_number(r)]
    same = [r for r in kind if _same(r, row)]
    exact, group = row.endpoint.name, group_of(row)
    name, disease = row.population.name, row.population.disease
    steps = (
        (exact, name, [r for r in same if r.population.name == name]),
        (exact, disease, [r for r in same if r.population.disease == disease]),
        (group, name, [r for r in kind if r.population.name == name]),
        (group, disease, [r for r in kind if r.population.disease == disease]),
        (exact, "all", same),
        (group, "all", kind),
    )
    for what, who, chosen in steps:
        studies = len({r.study for r in chosen})
        if studies >= FEWEST_STUDIES:
            made = _count(row, chosen, rng) if _is_count(row) else _day(row, chosen, rng)
            return Average(*made, f"{what}, {who}", studies)
    return None


def _same(one: EvidenceRow, other: EvidenceRow) -> bool:
    """Whether rows ask the same of a patient, by each reading where a definition is not stated."""
    first, second = (
        (row.endpoint.name == "cr_after_c1", [a.observable for a in row.endpoint.alternatives])
        for row in (one, other)
    )
    return first == second


def _is_count(row: EvidenceRow) -> bool:
    return row.endpoint.kind == "count"


def _has_number(row: EvidenceRow) -> bool:
    if row.endpoint.kind in ("ratio", "difference"):  # of two arms: no day
        return False
    if _is_count(row):
        return row.numerator is not None and bool(row.denominator)
    return row.value is not None and row.value > 0.0


def _weights(log_posterior: Floats) -> Floats:
    weights = np.exp(log_posterior - log_posterior.max())
    return weights / weights.sum()


def _count(
    row: EvidenceRow, others: Sequence[EvidenceRow], rng: np.random.Generator
) -> tuple[Floats, float]:
    k = np.array([r.numerator for r in others], dtype=float)
    n = np.array([r.denominator for r in others], dtype=float)
    mean, size = np.meshgrid(
        expit(np.linspace(logit(0.005), logit(0.995), 60)), np.exp(np.linspace(0.0, 6.0, 40))
    )
    mean, size = mean.ravel(), size.ravel()
    a, b = mean * size, (1.0 - mean) * size
    each = betaln(k[:, None] + a, (n - k)[:, None] + b) - betaln(a, b)
    # the grid is even in the logit and in the log; a weak pull towards a dozen patients
    prior = -0.5 * ((np.log(size) - 2.5) / 1.5) ** 2 - 0.5 * (logit(mean) / 2.0) ** 2
    weights = _weights(each.sum(axis=0) + prior)
    events, patients = float(row.numerator or 0), float(row.denominator or 1)
    ways = gammaln(patients + 1) - gammaln(events + 1) - gammaln(patients - events + 1)
    own = ways + betaln(events + a, patients - events + b) - betaln(a, b)
    score = float(np.logaddexp.reduce(np.log(weights + 1e-300) + own))
    chosen = rng.choice(weights.size, DRAWS, p=weights)
    share = rng.beta(a[chosen], b[chosen])
    return rng.binomial(int(patients), share) / patients, score


def _day(
    row: EvidenceRow, others: Sequence[EvidenceRow], rng: np.random.Generator
) -> tuple[Floats, float]:
    y = np.log([r.value or 1.0 for r in others])
    n = np.array([r.n or 10 for r in others], dtype=float)
    within = _MEDIAN_OF_NORMAL * _BETWEEN_PATIENTS**2 / n
    centre, spread = np.meshgrid(
        np.linspace(y.min() - 1.0, y.max() + 1.0, 80), np.exp(np.linspace(-4.0, 0.5, 40))
    )
    centre, spread = centre.ravel(), spread.ravel()
    variance = within[:, None] + spread**2
    each = -0.5 * np.log(variance) - 0.5 * (y[:, None] - centre) ** 2 / variance
    prior = -0.5 * ((np.log(spread) + 1.6) / 0.7) ** 2
    weights = _weights(each.sum(axis=0) + prior)
    sd = np.sqrt(spread**2 + _MEDIAN_OF_NORMAL * _BETWEEN_PATIENTS**2 / (row.n or 10))
    value = row.value or 1.0
    bottom, top = cell(value, row.endpoint.at_start)
    own = ndtr((top - centre) / sd) - ndtr((bottom - centre) / sd)
    score = float(np.log(max(weights @ own, 1e-300)))
    chosen = rng.choice(weights.size, DRAWS, p=weights)
    drawn = np.exp(centre[chosen] + sd[chosen] * rng.standard_normal(DRAWS))
    return drawn if row.endpoint.at_start else np.round(drawn), score
