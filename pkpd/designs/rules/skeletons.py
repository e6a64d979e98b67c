"""Skeletons: prior guesses of the risks, and how a CRM of them behaves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import expit, logit

from pkpd.arguments import NUMBER, TEXT, check_arguments
from pkpd.designs.kinds import WHOLE, check_target
from pkpd.errors import PkpdError


def skeleton(
    halfwidth: float,
    target: float,
    mtd: int,
    levels: int,
    *,
    model: str = "power",
    intercept: float = 3.0,
) -> np.ndarray:
    """Skeleton whose indifference intervals have one half-width (Lee and Cheung 2009).

    Parameters
    ----------
    halfwidth
        Of the interval around the target in which the true risk of the selected dose is to lie.
    target
        Risk aimed at.
    mtd
        Dose whose prior risk is the target, counted from 1.
    levels
        Number of doses.
    model
        ``"power"`` or ``"logistic"``.
    intercept
        Of the logistic model.

    Returns
    -------
    array
        Shape ``(levels,)``, rising.

    Raises
    ------
    PkpdError
        If the interval leaves 0 to 1, or the dose is not there.

    Examples
    --------
    >>> skeleton(0.05, 0.25, 3, 5).round(4).tolist()
    [0.084, 0.1567, 0.25, 0.3545, 0.4603]
    """
    check_arguments(
        "skeleton",
        halfwidth=(halfwidth, NUMBER),
        target=(target, NUMBER),
        mtd=(mtd, WHOLE),
        levels=(levels, WHOLE),
        model=(model, TEXT),
        intercept=(intercept, NUMBER),
    )
    check_target(target)
    if not 0 < halfwidth < min(target, 1 - target):
        what = f"{halfwidth:g} on both sides of {target:g}"
        raise PkpdError(where="halfwidth", what=what, allowed="within 0 to 1")
    if not 1 <= mtd <= levels:
        raise PkpdError(where="mtd", what=f"it is {mtd}", allowed=f"1 to {levels}")
    if model not in ("power", "logistic"):
        what, allowed = f"{model!r} is no model", "power, logistic"
        raise PkpdError(where="model", what=what, allowed=allowed)
    low, high = target - halfwidth, target + halfwidth
    powers = np.arange(levels) - (mtd - 1)
    if model == "power":
        return np.exp(np.log(target) * (np.log(high) / np.log(low)) ** powers)
    if not (logit(high) - intercept) * (logit(low) - intercept) > 0:
        what = f"{intercept:g} is within the logits of the risks from {low:g} to {high:g}"
        allowed = f"above {logit(high):.3g}, or below {logit(low):.3g}"
        raise PkpdError(where="intercept", what=what, allowed=allowed)
    ratio = (logit(high) - intercept) / (logit(low) - intercept)
    return expit(intercept + (logit(target) - intercept) * ratio**powers)


def check_skeleton(values: Sequence[float], levels: int, name: str) -> None:
    """Refuse a skeleton that does not rise within 0 to 1, or has not one risk for each dose."""
    where = f"{name}, skeleton"
    if len(values) != levels:
        what = f"{len(values)} risks for {levels} doses"
        raise PkpdError(where=where, what=what, remedy="give one for each dose")
    for value in values:
        if not 0 < value < 1:
            remedy = f"write {value:g} % as {value / 100:g}" if 1 < value < 100 else None
            what = f"{value:g} is no risk"
            raise PkpdError(where=where, what=what, allowed="between 0 and 1", remedy=remedy)
    for level, (low, high) in enumerate(pairwise(values), start=1):
        if high <= low:
            what = f"dose {level + 1} has {high:g} and dose {level} below it {low:g}"
            remedy = "order the doses by their risk"
            allowed = "risks that rise with the dose"
            raise PkpdError(where=where, what=what, allowed=allowed, remedy=remedy)
