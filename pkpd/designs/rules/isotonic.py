"""Selection of the dose by isotonic regression, as BOIN, keyboard and mTPI-2 do."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import betaincc, betaincinv

from pkpd.arguments import NUMBERS, check_arguments
from pkpd.errors import PkpdError


def beta_exceeds(dlts: np.ndarray, treated: np.ndarray, limit: float) -> np.ndarray:
    """Posterior probability that a risk exceeds `limit`, under a uniform prior; any shape."""
    return betaincc(dlts + 1.0, treated - dlts + 1.0, limit)


def _beta(dlts: np.ndarray, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters of the beta distribution of each dose's risk."""
    check_arguments("isotonic regression", dlts=(dlts, NUMBERS), treated=(treated, NUMBERS))
    y, n = np.asarray(dlts, float), np.asarray(treated, float)
    if y.shape != n.shape:
        what = f"{len(y)} counts of DLTs for {len(n)} doses"
        raise PkpdError(where="isotonic regression", what=what, remedy="give one for each dose")
    return y + 0.05, n - y + 0.05


def isotonic_risks(dlts: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Estimates of the risk that do not fall with the dose.

    The estimate of one dose is ``(dlts + 0.05) / (treated + 0.1)``, and its weight the inverse of
    the variance of Beta(dlts + 0.05, treated - dlts + 0.05).

    Parameters
    ----------
    dlts, treated
        Counts of the doses that were tried, lowest first; shape ``(doses,)``.

    Returns
    -------
    array
        Shape ``(doses,)``.
    """
    a, b = _beta(dlts, treated)
    weights = (a + b) ** 2 * (a + b + 1) / (a * b)
    return isotonic_regression(a / (a + b), weights=weights).x


def isotonic_limits(dlts: np.ndarray, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % limits of each dose's risk: isotonic regression of quantiles, ``(doses,)`` each."""
    a, b = _beta(dlts, treated)
    weights = (a + b) ** 2 * (a + b + 1) / (a * b)
    low, high = (
        isotonic_regression(betaincinv(a, b, q), weights=weights).x for q in (0.025, 0.975)
    )
    return low, high


def closest_dose(dlts: np.ndarray, treated: np.ndarray, target: float) -> tuple[int, float]:
    """Find the tried dose whose isotonic risk is closest to the target; (0, 0) for none.

    The risk comes with it. Of doses with the same risk, the highest is taken below the target and
    the lowest above it.

    Parameters
    ----------
    dlts, treated
        Counts; doses that may not be selected have none treated. Shape ``(levels,)``.
    target
        Risk aimed at.
    """
    tried = np.flatnonzero(treated > 0)
    if not len(tried):
        return 0, 0.0
    risks = isotonic_risks(dlts[tried], treated[tried])
    ranked = risks + 1e-10 * np.arange(1, len(tried) + 1)  # decides between equal risks
    best = int(np.argmin(np.abs(ranked - target)))
    return int(tried[best]) + 1, float(risks[best])


def closest_doses(dlts: np.ndarray, treated: np.ndarray, target: float) -> np.ndarray:
    """As `closest_dose` for many trials, shape ``(trials,)``; each distinct set of counts once."""
    both = np.concatenate([treated, dlts], axis=1)
    rows, back = np.unique(both, axis=0, return_inverse=True)
    levels = treated.shape[1]
    found = [closest_dose(row[levels:], row[:levels], target)[0] for row in rows]
    return np.array(found, int).reshape(-1)[back.reshape(-1)]
