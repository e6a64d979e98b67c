"""Continual reassessment method (CRM), with and without pending patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logit

from pkpd.arguments import a, check_arguments
from pkpd.designs.data import Action, Decisions, TrialData, Trials, Why, batch_of, check_level
from pkpd.designs.kinds import WHOLES
from pkpd.designs.merging import merged
from pkpd.designs.protocol import towards
from pkpd.designs.rules.model_based import ModelDesign
from pkpd.designs.rules.posterior import (
    Curves,
    LogisticCurves,
    PowerCurves,
    TwoParameterCurves,
)
from pkpd.designs.rules.skeletons import check_skeleton
from pkpd.errors import PkpdError

MODELS = ("power", "logistic", "two-parameter logistic")
ESTIMATES = ("plug-in", "mean", "maximum")
_Z90 = 1.6448536269514722


@dataclass(frozen=True, kw_only=True)
class CRM(ModelDesign):
    """Continual reassessment method (O'Quigley, Pepe and Fisher 1990).

    The next dose is the one whose estimated risk is closest to the target.

    Attributes
    ----------
    skeleton
        Prior guess of the risk at each dose.
    model
        ``"power"``: ``skeleton ** exp(b)``; ``"logistic"``: ``expit(intercept + exp(b) x)``;
        ``"two-parameter logistic"``: the same with a normal intercept.
    scale
        Standard deviation of b, which is normal with mean 0.
    intercept, intercept_sd
        Of the logistic models; the second of the two-parameter one alone.
    estimate
        ``"plug-in"``: risks at the posterior mean of the parameters, as dfcrm takes them;
        ``"mean"``: posterior means of the risks; ``"maximum"``: at maximum likelihood, which needs
        `initial`.
    initial
        Doses of the patients in turn until the first DLT (two-stage designs); empty for none. A
        cohort ends where the dose changes, and no dose of the list is passed over. With overdose
        control the highest allowed dose up to each.
    normal_limits
        Whether probabilities of exceeding a limit, those of overdose control too, take b as normal
        with its posterior mean and variance, as dtpcrm does.

    Examples
    --------
    >>> from pkpd.designs import TrialData
    >>> design = CRM(levels=5, target=0.25, skeleton=(0.05, 0.1, 0.25, 0.4, 0.6))
    >>> design.next_dose(TrialData.from_outcomes(5, "1NNN 2NTT")).level
    1
    """

    name: ClassVar[str] = "CRM"

    skeleton: Sequence[float]
    model: str = "power"
    scale: float = sqrt(1.34)
    intercept: float = 3.0
    intercept_sd: float = 1.0
    estimate: str = "plug-in"
    initial: tuple[int, ...] = ()
    normal_limits: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_skeleton(self.skeleton, self.levels, self.name)
        object.__setattr__(self, "skeleton", tuple(float(p) for p in self.skeleton))
        for key, value, allowed in (
            ("model", self.model, MODELS),
            ("estimate", self.estimate, ESTIMATES),
        ):
            if value not in allowed:
                self._refuse(key, f"{value!r}", ", ".join(allowed))
        for key, value in (("scale", self.scale), ("intercept_sd", self.intercept_sd)):
            if not value > 0:
                self._refuse(key, f"it is {value:g}", "above 0")
        for level in self.initial:
            if not 1 <= level <= self.levels:
                self._refuse("initial", f"dose {level}", f"1 to {self.levels}")
        if any(b < a for a, b in zip(self.initial, self.initial[1:], strict=False)):
            self._refuse("initial", "the doses fall", "doses that do not fall")
        if self.initial and self.initial[0] != self.start:
            self._refuse("initial", f"it begins with {self.initial[0]}", f"start, {self.start}")
        if self.estimate == "maximum":
            if not self.initial:
                self._refuse("initial", "maximum likelihood needs a DLT first", "doses in turn")
            if self.model == MODELS[2]:
                self._refuse("estimate", "maximum likelihood with two parameters", "plug-in, mean")
        if self.normal_limits and self.model == MODELS[2]:
            self._refuse("normal_limits", "two parameters", "the power and the logistic model")

    @cached_property
    def curves(self) -> Curves:  # type: ignore[override]
        """Grid of dose-toxicity curves."""
        if self.model == "power":
            return PowerCurves.make(self.skeleton, self.scale)
        if self.model == "logistic":
            return LogisticCurves.make(self.skeleton, self.scale, self.intercept)
        x = logit(np.asarray(self.skeleton)) - self.intercept
        return TwoParameterCurves.make(x, (self.intercept, 0.0), (self.intercept_sd, self.scale))

    def risks(self, data: Trials | TrialData) -> np.ndarray:
        """Estimated risks, shape ``(trials, levels)``; of one trial in the one row."""
        if self.estimate == "mean":
            return self.posterior(data, "risks")
        if self.estimate == "maximum":
            return self.curves.risks_at(self.parameters(data))
        return self.curves.risks_at(self.posterior(data, "parameters"))

    def parameters(self, data: Trials | TrialData) -> np.ndarray:
        """Posterior means of the parameters or their maximum, shape ``(trials, parameters)``.

        Raises
        ------
        PkpdError
            If there is no maximum, because nobody or everybody had a DLT.
        """
        data = batch_of(data)
        if self.estimate != "maximum":
            return self.posterior(data, "parameters")
        if data.pending_level.any():
            first = back = np.arange(len(data.current))
        else:
            first, back = merged(np.concatenate([data.treated, data.dlts], axis=1))
        return np.array([[self._maximum(data.take(np.array([row])))] for row in first])[back]

    def _maximum(self, data: Trials) -> float:
        y, n = data.dlts[0], data.completed[0]
        if not y.sum() or y.sum() == data.treated.sum():
            who = "everybody" if y.sum() else "nobody"
            what, remedy = f"{who} has had a DLT", "take the posterior (estimate plug-in)"
            raise PkpdError(where="maximum likelihood", what=what, remedy=remedy)

        def minus_log_likelihood(b: float) -> float:
            yes, no = (part[:, 0] for part in self.curves.log_risks(np.array([[b]])))
            at, part = data.pending_level[0] - 1, data.pending_fraction[0]
            waits = np.where(
                np.isnan(part),
                np.log1p(-data.pending_weight[0] * np.exp(yes[at])),
                np.nan_to_num(part) * yes[at] + (1.0 - np.nan_to_num(part)) * no[at],
            )
            return -float(y @ yes + (n - y) @ no + waits.sum())

        options = {"xatol": 1e-10}
        return minimize_scalar(
            minus_log_likelihood, bounds=(-10, 10), method="bounded", options=options
        ).x

    def limits(self, data: Trials | TrialData) -> tuple[np.ndarray, np.ndarray]:
        """90 % limits of the risks, with b normal around its posterior mean, ``(trials, levels)``.

        Raises
        ------
        PkpdError
            With two parameters.
        """
        if self.model == MODELS[2]:
            self._refuse("limits", "two parameters", "the power and the logistic model")
        mean, var = self.moments(data)
        half = _Z90 * np.sqrt(var)
        ends = [self.curves.risks_at(b) for b in (mean + half, mean - half)]
        return np.minimum(*ends), np.maximum(*ends)  # a logistic risk above expit(a) rises with b

    def exceeds(self, data: Trials | TrialData, level: int, limit: float) -> np.ndarray:
        """Posterior probability that the risk at a dose exceeds a limit."""
        if not self.normal_limits:
            return super().exceeds(data, level, limit)
        mean, var = self.moments(self._batch(data, level, limit))
        curves = self.curves
        assert isinstance(curves, PowerCurves | LogisticCurves)
        return curves.exceeds_if_normal(mean[:, 0], var[:, 0], level, limit)

    def overdoses(self, data: Trials) -> np.ndarray:
        """Probability that each dose is an overdose, shape ``(trials, levels)``."""
        if not self.normal_limits:
            return super().overdoses(data)
        assert self.overdose is not None
        limit, levels = self.overdose.limit, range(1, self.levels + 1)
        return np.stack([self.exceeds(data, level, limit) for level in levels], axis=1)

    def wanted(self, data: Trials) -> np.ndarray:
        """Find the allowed dose whose risk is closest to the target; 0 for none."""
        away = np.abs(self.risks(data) - self.target)
        allowed = self.allowed(data)
        level = np.argmin(np.where(allowed, away, np.inf), axis=1) + 1
        return np.where(allowed.any(axis=1), level, 0)

    # -- two-stage designs ---------------------------------------------------------------------

    def rule(self, data: Trials) -> Decisions:
        """Follow the initial doses up to the first DLT, then the model."""
        if not self.initial:
            return super().rule(data)
        level = self._by_model_or_initial(data)
        return towards(data, level)

    def _by_model_or_initial(self, data: Trials) -> np.ndarray:
        first_stage = data.dlts.sum(axis=1) == 0
        level = np.empty(len(first_stage), int)
        if first_stage.any():
            rows = np.flatnonzero(first_stage)
            level[rows] = self._initial(data.take(rows))
        if not first_stage.all():
            rows = np.flatnonzero(~first_stage)
            some = data.take(rows)
            if self.estimate == "maximum":
                every = _nobody_spared(some)
                level[rows[every]] = np.maximum(some.current[every] - 1, 1)
                rows, some = rows[~every], some.take(np.flatnonzero(~every))
            if len(rows):
                level[rows] = self.restricted(some, self.wanted(some))
        return self.capped(data, level)

    def _initial(self, data: Trials) -> np.ndarray:
        """Dose of the next patient while nobody has had a DLT.

        After the last of the initial doses one more each time, as soon as nobody at the present one
        is pending: patients of whom nothing is known yet are no reason to go up.
        """
        turn = np.minimum(data.treated.sum(axis=1), len(self.initial))
        listed = np.array([*self.initial, self.levels])
        following = listed[np.searchsorted(self.initial, data.current, side="right")]
        known = data.at(data.pending) == 0
        beyond = np.minimum(data.current + known, self.levels)
        planned = np.minimum(listed[turn], following)
        return np.where(turn < len(self.initial), planned, beyond)

    def size(self, data: Trials, level: np.ndarray) -> np.ndarray:
        """Patients of the next cohort: of the first stage, those whom the list gives one dose."""
        size = super().size(data, level)
        turn, listed = data.treated.sum(axis=1), np.array(self.initial)
        first_stage = (data.dlts.sum(axis=1) == 0) & (turn < len(listed))
        if not first_stage.any():
            return size
        turn = np.minimum(turn, len(listed) - 1)
        alike = np.searchsorted(listed, listed[turn], side="right") - turn
        return np.where(first_stage, np.minimum(size, alike), size)

    def select(self, data: Trials | TrialData) -> np.ndarray:
        """Dose that would be given next; 0 for none."""
        data = batch_of(data)
        if not self.initial:
            return super().select(data)
        return self._by_model_or_initial(data)

    def explain(self, data: Trials, decision: Decisions) -> str:
        """Say what the model, or the initial stage, asks for."""
        level = int(decision.level[0])
        if self.initial and data.dlts.sum() == 0 and level:
            patients = int(data.treated.sum())
            ended = patients >= len(self.initial)
            goes = "one dose higher once nobody is pending" if ended else "the initial doses go on"
            text = f"none of {patients} patients has had a DLT: {goes}"
            planned = int(self._initial(data)[0])
            if level < planned:
                text += f", but dose {level + 1} exceeds {self._over(data, level + 1)}"
            return text + self._what_waits(data, decision)
        if self.estimate == "maximum" and _nobody_spared(data)[0]:
            text = "everybody has had a DLT: without anybody spared there is no maximum likelihood"
            now = int(data.current[0])
            if not level:
                return f"{text}, and even the lowest dose exceeds {self._over(data, 1)}"
            lower = "the next lower dose follows" if now > 1 else "no dose is lower"
            if level < now - 1:
                lower = f"dose {level + 1} exceeds {self._over(data, level + 1)}"
            return f"{text}, and {lower}"
        return super().explain(data, decision)


@dataclass(frozen=True, kw_only=True)
class TiteCRM(CRM):
    """Time-to-event CRM (Cheung and Chappell 2000): pending patients count by their weight.

    Attributes
    ----------
    most_pending
        Suspend accrual while so many patients are pending; ``None`` for never.
    """

    name: ClassVar[str] = "TITE-CRM"
    uses_pending: ClassVar[bool] = True

    cohort_size: int = 1
    most_pending: int | None = None

    def rule(self, data: Trials) -> Decisions:
        """As the CRM, and suspend where too many are pending."""
        own = super().rule(data)
        if self.most_pending is None:
            return own
        waits = (data.pending.sum(axis=1) >= self.most_pending) & (own.why == Why.GOES_ON)
        return Decisions(own.level, np.where(waits, Action.SUSPEND, own.action), own.why)


def _nobody_spared(data: Trials) -> np.ndarray:
    """Trials in which everybody has had a DLT: likelihoods have no maximum, ``(trials,)``."""
    return data.dlts.sum(axis=1) == data.treated.sum(axis=1)


def incoherent_patient(design: CRM, initial: Sequence[int]) -> int | None:
    """First patient whose DLT, the first of the trial, makes a two-stage CRM escalate.

    Parameters
    ----------
    design
        The model of the second stage; its restrictions are left out.
    initial
        Doses of the patients in turn until the first DLT.

    Returns
    -------
    int or None
        The patient, counted from 1; ``None`` where the design is coherent (Cheung 2005).

    Examples
    --------
    >>> model = CRM(levels=3, target=0.2, skeleton=(0.05, 0.2, 0.4))
    >>> incoherent_patient(model, (1, 1, 1, 2, 2, 2)) is None
    True
    """
    kinds = {"design": (design, a(CRM)), "initial": (initial, WHOLES)}
    check_arguments("incoherent_patient", **kinds)
    initial = tuple(initial)
    for level in initial:
        check_level(level, design.levels)
    for patient in range(1, len(initial) + 1):
        seen = initial[:patient]
        treated = np.array([[seen.count(level) for level in range(1, design.levels + 1)]])
        dlts = np.zeros_like(treated)
        dlts[0, seen[-1] - 1] = 1
        data = Trials(treated=treated, dlts=dlts, current=np.array([seen[-1]]))
        if int(design.wanted(data)[0]) > seen[-1]:
            return patient
    return None
