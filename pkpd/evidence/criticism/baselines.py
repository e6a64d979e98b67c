"""What predictions must beat: a logistic regression on cumulative dose per drug and disease.

The other baseline, a plain Friberg marrow without leukaemia, is the same calibration with another
variant of the simulator (``MarrowSimulator(..., variant=VARIANTS["friberg"])``).

Every endpoint group (response, early death, delayed recovery, grade of each line, ...) has an
intercept, an offset for each disease and a slope for the log of the cumulative dose of each drug,
with normal priors of SD 1.5 on the intercept and 0.7 on the rest. Counts are binomial on the
logit, days are log-normal. Studies deviate by a normal intercept. The posterior is taken as normal
at its mode. Rows left out are predicted through the same likelihoods as those of the marrow model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, ndtri

from pkpd.evidence.likelihood.counts import categories_log_likelihood, count_log_likelihood
from pkpd.evidence.likelihood.log_sums import log_sum
from pkpd.evidence.likelihood.order_statistics import (
    Sample,
    mean_log_likelihood,
    order_log_likelihood,
    quantiles_log_likelihood,
)
from pkpd.evidence.likelihood.terms import LEAST_BANDWIDTH, LOG_COUNTS, LOG_DAYS, Term, cell
from pkpd.evidence.table.schedule import Schedule
from pkpd.evidence.table.table import EvidenceRow

Floats = NDArray[np.float64]
INTERCEPT_SD, SLOPE_SD, STUDY_SD = 1.5, 0.7, 0.5
SPREAD_SD = 0.45  # of log days between patients, where no range is printed
DRAWS = 400
DAY_DRAWS = 60  # of those, for rows of days, whose likelihood is slower
EXACT = 1e6  # effective patients: a regression has no Monte Carlo error
QUANTILES = ndtri((np.arange(201) + 0.5) / 201)


def group_of(row: EvidenceRow) -> str:
    """Endpoint group whose rows share intercept and slopes."""
    what = row.endpoint.alternatives[0].observable
    if what.kind in ("recovery_day", "response_day", "baseline", "low_days"):
        return f"{what.kind} {what.line}"
    if what.kind == "grade":
        return f"grade {what.line} {what.thresholds[0]:g}"
    if what.kind == "response":
        return f"response {what.code}"
    return what.kind


def cumulative_doses(schedule: Schedule, cycles: int) -> dict[str, float]:
    """Cumulative dose per m2 (or in mg) of each drug, over all cycles."""
    doses: dict[str, float] = {}
    for entry in schedule.drugs:
        size = 1.0 / 1.8 if entry.unit == "mg" else 1.0
        dose = entry.amount * entry.times_a_day * len(entry.days) * size * cycles
        doses[entry.drug] = doses.get(entry.drug, 0.0) + dose
    return doses


@dataclass(frozen=True)
class DoseRegression:
    """A fitted regression.

    Attributes
    ----------
    columns
        Names of the coefficients: ``group``, ``group disease``, ``group drug``.
    mode : float[p]
    factor : float[p, p]
        Square root of the covariance.
    scale
        Drug -> median cumulative dose, the unit of its doses.
    spread
        SD of log days between patients.
    """

    columns: tuple[str, ...]
    mode: Floats
    factor: Floats
    scale: Mapping[str, float]
    spread: float

    def linear(self, row: EvidenceRow, rng: np.random.Generator) -> Floats:
        """Draw the linear predictor of a row for a new study, ``[DRAWS]``."""
        x = np.array([_features(row, self.scale).get(name, 0.0) for name in self.columns])
        score = rng.standard_normal((DRAWS, len(self.mode)))
        coefficients = self.mode + score @ self.factor.T
        return coefficients @ x + STUDY_SD * rng.standard_normal(DRAWS)


def fit_doses(terms: Sequence[Term]) -> DoseRegression:
    """Fit the regression to the rows of terms (those of two arms are left out)."""
    rows = [row for term in terms for row in term.rows if _usable(term)]
    doses: dict[str, list[float]] = {}
    for row in rows:
        for drug, dose in cumulative_doses(row.simulated, row.cycles).items():
            doses.setdefault(drug, []).append(dose)
    scale = {drug: float(np.median(values)) for drug, values in doses.items()}
    features = [_features(row, scale) for row in rows]
    columns = tuple(sorted({name for each in features for name in each}))
    x = np.array([[each.get(name, 0.0) for name in columns] for each in features])
    intercept = np.array([name.endswith("|") for name in columns])
    precision = np.where(intercept, INTERCEPT_SD, SLOPE_SD) ** -2.0
    is_count = np.array([row.endpoint.kind == "count" for row in rows])
    centre = np.zeros(len(columns))
    for j, name in enumerate(columns):
        if intercept[j] and not name.startswith(
            ("response ", "death", "grade", "delayed", "fever")
        ):
            centre[j] = 3.2 if "day" in name else 1.0
    k = np.array([row.numerator or 0 for row in rows], dtype=float)
    n = np.array([row.denominator or row.n or 1 for row in rows], dtype=float)
    y = np.array([np.log(max(row.value or 1.0, 0.1)) for row in rows])
    spread = SPREAD_SD
    # a row tells its study's level, which deviates from the typical one
    count_weight = 1.0 / (1.0 + STUDY_SD**2 * 0.2 * n)
    day_weight = 1.0 / (STUDY_SD**2 + 1.57 * spread**2 / n)

    def loss(beta: Floats) -> tuple[float, Floats]:
        eta = x @ beta
        p = expit(eta)
        ll = np.where(
            is_count,
            count_weight * (k * eta - n * np.logaddexp(0.0, eta)),
            -0.5 * day_weight * (y - eta) ** 2,
        )
        slope = np.where(is_count, count_weight * (k - n * p), day_weight * (y - eta))
        off = beta - centre
        value = -ll.sum() + 0.5 * np.sum(precision * off**2)
        return float(value), -(x.T @ slope) + precision * off

    found = minimize(loss, centre, jac=True, method="L-BFGS-B")
    p = expit(x @ found.x)
    curvature = np.where(is_count, count_weight * n * p * (1 - p), day_weight)
    hessian = (x * curvature[:, None]).T @ x + np.diag(precision)
    factor = np.asarray(np.linalg.inv(np.linalg.cholesky(hessian)).T, dtype=np.float64)
    return DoseRegression(columns, found.x, factor, scale, spread)


def log_score(model: DoseRegression, term: Term, seed: int = 1) -> float:
    """Log predictive probability of a term that the regression has not seen."""
    rng = np.random.default_rng(seed)
    eta = [model.linear(row, rng) for row in term.rows]
    exact = np.full(DRAWS, EXACT)
    if term.kind == "beta-binomial":
        row = term.rows[0]
        each = count_log_likelihood(row.numerator or 0, row.denominator or 1, expit(eta[0]), exact)
    elif term.kind == "Dirichlet-multinomial":
        each = _categories(term, eta, exact)
    else:
        each = _days(term, model, eta[0][:DAY_DRAWS], exact)
    return float(log_sum(each)) - float(np.log(each.size))


def left_out_scores(terms: Sequence[Term], folds: Sequence[Sequence[str]]) -> dict[str, float]:
    """Log score of every term under the regression fitted without its fold.

    Parameters
    ----------
    terms
        Of the table.
    folds
        Studies of each fold (`pkpd.evidence.criticism.refit.folds_of`).

    Returns
    -------
    dict
        Name of the term (ids of its rows joined by ``+``) -> log predictive probability.
    """
    scores = {}
    for fold in folds:
        model = fit_doses([term for term in terms if term.study not in fold])
        for term in terms:
            if term.study in fold and _usable(term):
                scores["+".join(row.id for row in term.rows)] = log_score(model, term)
    return scores


def score_table(
    ours: Mapping[str, float], others: Mapping[str, Mapping[str, float]], kinds: Mapping[str, str]
) -> str:
    """Print summed log scores by kind of likelihood, over the terms that all have.

    Parameters
    ----------
    ours
        Term -> log score of the model.
    others
        Name of a baseline -> the same of the baseline.
    kinds
        Term -> kind of likelihood.
    """
    shared = set(ours).intersection(*(set(other) for other in others.values()))
    names = ["model", *others]
    lines = [f"{'kind':22} {'terms':>5} " + " ".join(f"{name:>16}" for name in names)]
    by_kind = dict.fromkeys(kinds[term] for term in ours if term in shared)
    for kind in (*by_kind, "all"):
        mine = [term for term in shared if kind in ("all", kinds[term])]
        sums = [sum(ours[t] for t in mine)]
        sums += [sum(other[t] for t in mine) for other in others.values()]
        told = " ".join(f"{value:16.1f}" for value in sums)
        lines.append(f"{kind:22} {len(mine):5d} {told}")
    return "\n".join(lines)


def _usable(term: Term) -> bool:
    return term.kind not in ("tolerated dose", "ratio", "difference")


def _features(row: EvidenceRow, scale: Mapping[str, float]) -> dict[str, float]:
    group = group_of(row)
    features = {f"{group}|": 1.0, f"{group}|{row.population.disease}": 1.0}
    for drug, dose in cumulative_doses(row.simulated, row.cycles).items():
        if drug in scale:
            features[f"{group}|{drug}"] = float(np.log1p(dose / scale[drug]))
    return features


def _categories(term: Term, eta: Sequence[Floats], exact: Floats) -> Floats:
    shares, left = [], np.ones(DRAWS)
    for value in eta:
        share = np.minimum(expit(value), left - 1e-6)
        shares.append(np.maximum(share, 1e-9))
        left = np.maximum(left - share, 1e-6)
    columns = np.stack([*shares, left], axis=1)
    counts = [row.numerator or 0 for row in term.rows]
    total = term.rows[0].denominator or 1
    return categories_log_likelihood([*counts, total - sum(counts)], columns, exact)


def _days(term: Term, model: DoseRegression, eta: Floats, exact: Floats) -> Floats:
    row = term.rows[0]
    baseline = row.endpoint.at_start
    n, value = row.n or 1, row.value or 0.0
    spread = 1.2 if baseline else model.spread
    answer = np.empty(eta.size)
    weights = np.full((1, QUANTILES.size), 1.0 / QUANTILES.size)
    support = LOG_COUNTS if baseline else LOG_DAYS
    for index, level in enumerate(eta):
        x = level + spread * QUANTILES
        natural = np.exp(np.minimum(x, support[1]))
        sample = Sample(x, weights, exact[:1], LEAST_BANDWIDTH, support, natural)
        ends = None
        if row.lower is not None and row.upper is not None:
            ends = (cell(row.lower, baseline), cell(row.upper, baseline))
        if term.kind.startswith("mean"):
            answer[index] = mean_log_likelihood(sample, n, value, 0.5, ends)[0]
        elif term.kind == "quartiles" and ends is not None:
            cells = (ends[0], cell(value, baseline), ends[1])
            answer[index] = quantiles_log_likelihood(sample, n, cells, (0.25, 0.5, 0.75))[0]
        else:
            ranged = ends if term.kind == "median and range" else None
            answer[index] = order_log_likelihood(sample, n, cell(value, baseline), ranged)[0]
    return answer
