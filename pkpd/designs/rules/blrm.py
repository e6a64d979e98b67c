"""Bayesian logistic regression model (BLRM) with overdose control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from pkpd.arguments import NUMBER, NUMBERS, SHARE, check_arguments
from pkpd.designs.data import Decisions, TrialData, Trials
from pkpd.designs.kinds import TWO_NUMBERS, check_risks
from pkpd.designs.rules.model_based import ModelDesign, OverdoseControl
from pkpd.designs.rules.posterior import Curves, TwoParameterCurves
from pkpd.errors import PkpdError

NEXT = ("target", "highest")


class _OfInterval(float):
    """A number that follows from the interval or certainty of a design, and moves with another."""


@dataclass(frozen=True, kw_only=True)
class BLRM(ModelDesign):
    """Two-parameter logistic model of the risk with overdose control (Neuenschwander 2008).

    ``logit(risk) = log(alpha) + beta log(dose / reference)``, with log(alpha) and log(beta) jointly
    normal. Of the doses whose probability of an overdose is small enough, the next is the one whose
    risk most probably lies in the target interval, or the highest.

    Attributes
    ----------
    amounts
        Of the doses, rising.
    reference
        Dose at which the risk's odds are alpha.
    prior_mean, prior_sd, prior_correlation
        Of log(alpha) and log(beta).
    interval
        Target interval of the risk; `overdose` is by default above its upper end.
    certainty
        Probability of an overdose up to which a dose may be given.
    next_is
        ``"target"`` or ``"highest"``.
    most_increase
        A dose may be at most so many times the highest given so far; ``None`` for no limit.
    points
        Of the quadrature, for log(alpha) and log(beta).

    Examples
    --------
    >>> from pkpd.designs import TrialData
    >>> design = BLRM(levels=3, amounts=(10, 20, 40), reference=20, prior_mean=(-1.1, 0.0))
    >>> design.next_dose(TrialData.from_outcomes(3, "1NNN")).level
    2
    """

    name: ClassVar[str] = "BLRM"

    amounts: Sequence[float]
    reference: float
    prior_mean: tuple[float, float] = (-0.847, 0.0)
    prior_sd: tuple[float, float] = (2.0, 1.0)
    prior_correlation: float = 0.0
    interval: tuple[float, float] = (0.16, 0.33)
    certainty: float = 0.25
    next_is: str = "target"
    most_increase: float | None = None
    target: float = 0.0
    coherence: str = "none"
    points: tuple[int, int] = (401, 101)

    def __post_init__(self) -> None:
        self._check_kinds()
        low, high = self.interval
        if not 0 < low < high < 1:
            self._refuse("interval", f"{low:g} to {high:g}", "0 < low < high < 1")
        if not self.target or isinstance(self.target, _OfInterval):
            object.__setattr__(self, "target", _OfInterval((low + high) / 2))
        over = self.overdose
        if over is None:
            over = OverdoseControl(_OfInterval(high), _OfInterval(self.certainty))
        elif isinstance(over.certainty, _OfInterval):
            over = replace(over, certainty=_OfInterval(self.certainty))
        elif self.certainty not in (BLRM.certainty, over.certainty):
            what = f"it is {self.certainty:g}, and overdose has {over.certainty:g}"
            self._refuse("certainty", what, "one of them", "set overdose alone, or to None")
        if isinstance(over.limit, _OfInterval):
            over = replace(over, limit=_OfInterval(high))
        object.__setattr__(self, "overdose", over)
        super().__post_init__()
        object.__setattr__(self, "amounts", tuple(float(d) for d in self.amounts))
        if len(self.amounts) != self.levels:
            self._refuse("amounts", f"{len(self.amounts)} of {self.levels}", "one for each level")
        for a, b in zip((0.0, *self.amounts), self.amounts, strict=False):
            if b <= a:
                self._refuse("amounts", f"{b:g} after {a:g}", "above 0, rising")
        if not self.reference > 0:
            self._refuse("reference", f"it is {self.reference:g}", "above 0")
        if min(self.prior_sd) <= 0:
            self._refuse("prior_sd", f"it is {min(self.prior_sd):g}", "above 0")
        if not -1 < self.prior_correlation < 1:
            self._refuse("prior_correlation", f"{self.prior_correlation:g}", "between -1 and 1")
        if self.next_is not in NEXT:
            self._refuse("next_is", f"{self.next_is!r}", ", ".join(NEXT))
        if self.most_increase is not None and self.most_increase <= 1:
            self._refuse("most_increase", f"it is {self.most_increase:g}", "above 1")

    @cached_property
    def curves(self) -> Curves:  # type: ignore[override]
        """Grid of dose-toxicity curves."""
        x = np.log(np.asarray(self.amounts) / self.reference)
        mean, sd, rho = self.prior_mean, self.prior_sd, self.prior_correlation
        return TwoParameterCurves.make(x, mean, sd, rho, self.points)

    def risks(self, data: Trials | TrialData) -> np.ndarray:
        """Posterior means of the risks, shape ``(trials, levels)``; of one trial in the one row."""
        return self.posterior(data, "risks")

    def intervals(self, data: Trials | TrialData) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of the target interval and of an overdose, ``(trials, levels)`` each."""
        above = self.posterior(data, "above")
        k = self.levels
        return above[:, :k] - above[:, k:], above[:, k:]

    def _averaged(self, curves: Curves) -> dict[str, np.ndarray]:
        low, high = self.interval
        made = super()._averaged(curves)
        shares = [self._shares(curves, limit) for limit in (low, high)]
        return {**made, "above": np.concatenate(shares)}

    def wanted(self, data: Trials) -> np.ndarray:
        """Find the allowed dose that the rule asks for; 0 for none."""
        allowed = self.allowed(data)
        if self.most_increase is not None:
            tried = np.where(data.treated > 0, np.asarray(self.amounts), 0.0).max(axis=1)
            near = np.asarray(self.amounts) <= self.most_increase * tried[:, None] * (1 + 1e-12)
            allowed = allowed & near
        return self._best(data, allowed)

    def _best(self, data: Trials, allowed: np.ndarray) -> np.ndarray:
        """Find the one of these doses that the rule asks for; 0 for none."""
        if self.next_is == "highest":
            merit = np.broadcast_to(np.arange(self.levels, dtype=float), allowed.shape)
        else:
            merit = self.intervals(data)[0]
        return best_allowed(merit, allowed)

    def _compared(self, data: Trials, wanted: int) -> str:
        target, over = (part[0, wanted - 1] for part in self.intervals(data))
        low, high = self.interval
        return (
            f", in {low:g} to {high:g} with probability {target:.3f} and above it with {over:.3f}"
        )

    def explain(self, data: Trials, decision: Decisions) -> str:
        """Risk, interval probabilities and what held the design back."""
        text, best = super().explain(data, decision), int(self._best(data, self.allowed(data))[0])
        if self.most_increase is None or best <= int(self.wanted(data)[0]):
            return text
        most = f"{self.most_increase:g} times the highest given"
        return f"{text}; dose {best} is asked for, and is more than {most}"


def best_allowed(merit: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Find the allowed dose of the greatest merit in each row; 0 where none is allowed."""
    level = np.argmax(np.where(allowed, merit, -np.inf), axis=1) + 1
    return np.where(allowed.any(axis=1), level, 0)


def dose_by_draws(
    risks: np.ndarray,
    interval: tuple[float, float],
    *,
    certainty: float = 0.25,
    allowed: Sequence[bool] | np.ndarray | None = None,
) -> tuple[int, np.ndarray, np.ndarray]:
    """Next dose from draws of the risks, whatever model they come from (NCRM rule).

    Parameters
    ----------
    risks
        Draws of a posterior, shape ``(draws, levels)``.
    interval
        Target interval of the risk, its upper end with it; an overdose is above it.
    certainty
        Probability of an overdose up to which a dose may be given.
    allowed
        Doses that may be given, shape ``(levels,)``; all by default.

    Returns
    -------
    tuple
        The dose, 0 for none, and the probabilities of the target interval and of an overdose,
        shape ``(levels,)`` each.

    Examples
    --------
    >>> import numpy as np
    >>> dose_by_draws(np.array([[0.1, 0.3], [0.2, 0.4]]), (0.16, 0.33))[0]
    1
    """
    check_arguments(
        "dose_by_draws", interval=(interval, TWO_NUMBERS), certainty=(certainty, NUMBER)
    )
    risks = check_risks(risks, None)
    if allowed is not None and np.shape(allowed) != risks.shape[1:]:
        what = f"shape {np.shape(allowed)} for {risks.shape[1]} doses"
        raise PkpdError(where="allowed", what=what, remedy="give true or false for each dose")
    low, high = interval
    inside = ((risks >= low) & (risks <= high)).mean(axis=0)
    over = (risks > high).mean(axis=0)
    may = over <= certainty + 1e-12
    if allowed is not None:
        may &= np.asarray(allowed, bool)
    return int(best_allowed(inside[None, :], may[None, :])[0]), inside, over


def dose_by_mtd(
    mtds: np.ndarray,
    doses: Sequence[float],
    *,
    quantile: float = 0.25,
    most: float = np.inf,
) -> int:
    """Dose closest to a quantile of the posterior of the maximum tolerated dose.

    Parameters
    ----------
    mtds
        Draws of the dose whose risk is the target, shape ``(draws,)``.
    doses
        Amounts, rising.
    quantile
        Of the posterior. The closest dose may lie above it: the probability that it exceeds the
        maximum tolerated dose is then more than ``quantile``, and this is not EWOC's bound.
    most
        Highest amount that may be given.

    Returns
    -------
    int
        The dose, counted from 1; 0 where `most` is below all.
    """
    check_arguments(
        "dose_by_mtd",
        mtds=(mtds, NUMBERS),
        doses=(doses, NUMBERS),
        quantile=(quantile, SHARE),
        most=(most, NUMBER),
    )
    if not len(mtds):
        raise PkpdError(where="mtds", what="there is no draw", allowed="one or more")
    amounts = np.asarray(doses, float)
    usable = np.flatnonzero(amounts <= most)
    if not len(usable):
        return 0
    wanted = np.quantile(mtds, quantile)
    return int(usable[np.argmin(np.abs(amounts[usable] - wanted))]) + 1
