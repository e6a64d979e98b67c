"""What predictions must beat: a logistic regression on cumulative dose per drug and disease.

The other baselines are the average of similar trials (`judging.averages`) and, of rows on counts,
the marrow without leukaemia from its cards (`judging.without_leukaemia`).

Every endpoint group (response, early death, delayed recovery, grade of each line, ...) has an
intercept, an offset for each disease and a slope for the log of the cumulative dose of each drug,
with normal priors: on the logit of SD 1.5 on the intercept and 0.7 on the rest, on the log of days
1.5 and 0.25. Counts are binomial on the logit, days are log-normal. Studies deviate by a normal
intercept, of SD 0.5 and of days 0.2. The posterior is taken as normal at its mode; what no row has
told keeps its prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from pkpd.arrays import Floats
from pkpd.cards.drug_cards import BODY_SURFACE_M2, BODY_WEIGHT_KG
from pkpd.evidence.likelihood.terms import Term
from pkpd.evidence.table.schedule import Schedule
from pkpd.evidence.table.table import EvidenceRow

INTERCEPT_SD = 1.5
SLOPE_SD, STUDY_SD = 0.7, 0.5  # on the logit
DAY_SLOPE_SD, DAY_STUDY_SD = 0.25, 0.2  # on the log of days
SPREAD_SD = 0.45  # of log days between patients, where no range is printed
DRAWS = 400
_PER_M2 = {
    **dict.fromkeys(("mg", "units"), 1.0 / BODY_SURFACE_M2),
    "mg/kg": BODY_WEIGHT_KG / BODY_SURFACE_M2,
}
_TYPICAL_DAY = 24.5
_TYPICAL_START = {"neutrophils": 1.5, "platelets": 50.0, "wbc": 5.0}  # 10^9/L


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
    """Cumulative dose per m2 of each drug, over all cycles, in an adult of 1.8 m2 and 75 kg."""
    doses: dict[str, float] = {}
    for entry in schedule.drugs:
        size = _PER_M2.get(entry.unit, 1.0)
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
        features = _features(row, self.scale)
        x = np.array([features.get(name, 0.0) for name in self.columns])
        score = rng.standard_normal((DRAWS, len(self.mode)))
        coefficients = self.mode + score @ self.factor.T
        found = coefficients @ x + _study_sd(row) * rng.standard_normal(DRAWS)
        for name in (name for name in features if name not in self.columns):
            drawn = _centre(row, name) + _prior_sd(row, name) * rng.standard_normal(DRAWS)
            found = found + features[name] * drawn
        return found


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
    is_count = np.array([row.endpoint.kind == "count" for row in rows])
    about = {name: row for row, each in zip(rows, features, strict=True) for name in each}
    precision = np.array([_prior_sd(about[name], name) for name in columns]) ** -2.0
    centre = np.array([_centre(about[name], name) for name in columns])
    k = np.array([row.numerator or 0 for row in rows], dtype=float)
    n = np.array([row.denominator or row.n or 1 for row in rows], dtype=float)
    y = np.array([np.log(max(row.value or 1.0, 0.1)) for row in rows])
    spread = SPREAD_SD
    # a row tells its study's level, which deviates from the typical one
    study = np.array([_study_sd(row) for row in rows])
    count_weight = 1.0 / (1.0 + study**2 * 0.2 * n)
    day_weight = 1.0 / (study**2 + 1.57 * spread**2 / n)

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


def _usable(term: Term) -> bool:
    return term.kind not in ("tolerated dose", "ratio", "difference")


def _is_day(row: EvidenceRow) -> bool:
    return row.endpoint.kind != "count" and not row.endpoint.at_start


def _study_sd(row: EvidenceRow) -> float:
    return DAY_STUDY_SD if _is_day(row) else STUDY_SD


def _prior_sd(row: EvidenceRow, name: str) -> float:
    slope = DAY_SLOPE_SD if _is_day(row) else SLOPE_SD
    return INTERCEPT_SD if name.endswith("|") else slope


def _centre(row: EvidenceRow, name: str) -> float:
    """Prior mean of a coefficient of a row's group."""
    if row.endpoint.kind == "count" or not name.endswith("|"):
        return 0.0
    line = row.endpoint.alternatives[0].observable.line
    return float(np.log(_TYPICAL_DAY if _is_day(row) else _TYPICAL_START[line]))


def _features(row: EvidenceRow, scale: Mapping[str, float]) -> dict[str, float]:
    group = group_of(row)
    features = {f"{group}|": 1.0, f"{group}|{row.population.disease}": 1.0}
    for drug, dose in cumulative_doses(row.simulated, row.cycles).items():
        features[f"{group}|{drug}"] = float(np.log1p(dose / scale.get(drug, dose)))
    return features
