"""How much a patient without a DLT tells before the window has ended.

A weight is a number from 0, nothing yet, to 1, as much as the whole window. A patient of weight w
at a dose of risk p has a DLT later with probability ``p (1 - w) / (1 - p w)``, and enters the
likelihood of time-to-event designs as ``1 - w p``. Any function of follow-up can serve; a forecast
of each patient's own probability becomes a weight by `weight_of_forecast`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence

import numpy as np

from pkpd.arguments import NUMBER, NUMBERS, check_arguments
from pkpd.errors import PkpdError

WeightFunction = Callable[[np.ndarray, float], np.ndarray]
"""From days of follow-up and the window to weights, of the same shape."""

_MOST = 1e6  # below 0: as good as a DLT


def linear_weight(followed: np.ndarray, window: float) -> np.ndarray:
    """Follow-up divided by the window: DLTs come evenly over it.

    Examples
    --------
    >>> linear_weight([42.0, 200.0], 180.0).round(4).tolist()
    [0.2333, 1.0]
    """
    days = _numbers("followed", followed)
    check_arguments("linear_weight", window=(window, NUMBER))
    return np.clip(days / window, 0.0, 1.0)


def piecewise_weight(shares: Sequence[float]) -> WeightFunction:
    """Weights where known shares of the DLTs come in equal parts of the window.

    Parameters
    ----------
    shares
        Of each part, such as ``(0.2, 0.3, 0.5)`` for thirds; they sum to 1.

    Returns
    -------
    function
        From days of follow-up and the window to weights.

    Raises
    ------
    PkpdError
        If a share is negative, or they do not sum to 1.
    """
    check_arguments("piecewise_weight", shares=(shares, NUMBERS))
    parts = np.asarray(shares, float)
    if not len(parts) or (parts < 0).any() or abs(parts.sum() - 1) > 1e-9:
        what = f"the shares {', '.join(f'{s:g}' for s in parts)} sum to {parts.sum():g}"
        raise PkpdError(where="piecewise weight", what=what, allowed="shares that sum to 1")
    ends = np.concatenate([[0.0], np.cumsum(parts)])

    def weight(followed: np.ndarray, window: float) -> np.ndarray:
        return np.interp(linear_weight(followed, window), np.linspace(0, 1, len(ends)), ends)

    return weight


def adaptive_weight(times: Sequence[float]) -> WeightFunction:
    """Weights from the times at which the DLTs so far came (Cheung and Chappell 2000).

    Parameters
    ----------
    times
        Days from a patient's start to the DLT, of all patients with one. Between two of them, and
        between the last and the end of the window, an equal share of DLTs is expected.

    Returns
    -------
    function
        From days of follow-up and the window to weights.

    Examples
    --------
    >>> adaptive_weight([168, 24])(102.0, 180.0).round(4).tolist()
    0.5139
    """
    check_arguments("adaptive_weight", times=(times, NUMBERS))
    seen = np.sort(np.asarray(times, float))

    def weight(followed: np.ndarray, window: float) -> np.ndarray:
        knots = np.concatenate([[0.0], np.minimum(seen, window), [window]])
        shares = np.linspace(0, 1, len(knots))
        return np.interp(np.asarray(followed, float), knots, shares)

    return weight


def weight_of_forecast(
    forecast: np.ndarray, risk: np.ndarray, *, signed: bool = True
) -> np.ndarray:
    """Weight of pending patients from a forecast of their own.

    Parameters
    ----------
    forecast
        Probability that the patient will have a DLT by the end of the window, given what was seen
        of him so far; any shape.
    risk
        Probability of it before treatment began, as the same forecaster gives it; same shape.
    signed
        Whether a forecast above the risk has a weight below 0: what was seen then speaks for a
        DLT as loudly as it would speak against one. Else its weight is 0, so that good news alone
        counts, which leads a trial upwards.

    Returns
    -------
    array
        The weight w at which ``risk (1 - w) / (1 - risk w)`` is the forecast: one minus the ratio
        of its odds to those of the risk, which is the likelihood ratio of what was seen, for a DLT
        against none. Its limit is minus infinity where the forecast is 1, or where it is above a
        risk of 0: -1e6 stands for it, which is as good as a DLT. A forecast that is the risk,
        0 and 1 with them, has the weight 0: nothing was learned.

    Notes
    -----
    ``1 - w p`` is proportional to the likelihood of what was seen at any risk p, so
    that `TiteCRM` learns from it what Bayes' rule says.

    Examples
    --------
    >>> float(weight_of_forecast(0.3, 0.3)), float(weight_of_forecast(0.0, 0.3))
    (0.0, 1.0)
    >>> round(float(weight_of_forecast(0.5, 0.2)), 9)
    -3.0
    >>> float(weight_of_forecast(0.5, 0.2, signed=False))
    0.0
    >>> float(weight_of_forecast(0.3, 0.0)), float(weight_of_forecast(0.0, 0.0))
    (-1000000.0, 0.0)
    """
    q, p = _numbers("forecast", forecast), _numbers("risk", risk)
    for name, values in (("forecast", q), ("risk", p)):
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            what = f"{values[wrong].flat[0]:g} is no probability"
            raise PkpdError(where=name, what=what, allowed="0 to 1")
    with np.errstate(divide="ignore", invalid="ignore"):
        w = (p - q) / (p * (1 - q))
    least = -_MOST if signed else 0.0
    without = np.where(q == p, 0.0, least)  # a risk of 0 or a forecast of 1: the limit
    return np.clip(np.where(np.isfinite(w), w, without), least, 1.0)


def forecast_of_weight(weight: np.ndarray, risk: np.ndarray) -> np.ndarray:
    """Probability of a DLT later of pending patients: the inverse of `weight_of_forecast`."""
    w, p = _numbers("weight", weight), _numbers("risk", risk)
    return p * (1 - w) / (1 - p * w)


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers as an array; anything else is refused."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError):
        what = f"{reprlib.repr(values)} is a {type(values).__name__}"
        raise PkpdError(where=name, what=what, allowed="numbers") from None
