"""Designs that compare the observed rate of DLTs with an interval: BOIN, keyboard, mTPI-2."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import ClassVar

import numpy as np

from pkpd.arguments import check_arguments, from_to
from pkpd.designs.data import Action, Decisions, TrialData, Trials, Why, batch_of
from pkpd.designs.kinds import check_target
from pkpd.designs.protocol import Design, patients
from pkpd.designs.rules.isotonic import beta_exceeds, closest_doses, isotonic_risks

NEVER = -1
"""In a table of boundaries: no number of DLTs does that."""


@dataclass(frozen=True)
class Boundaries:
    """Numbers of DLTs at which an interval design acts, for 1, 2, ... patients at a dose.

    Attributes
    ----------
    escalate
        Escalate at so many or fewer; `NEVER` for none.
    de_escalate
        De-escalate at so many or more.
    eliminate
        Drop the dose and all higher ones at so many or more; `NEVER` for none.
    """

    escalate: np.ndarray
    de_escalate: np.ndarray
    eliminate: np.ndarray


@dataclass(frozen=True, kw_only=True)
class IntervalDesign(Design):
    """A design whose decision depends on the counts of the present dose alone.

    Attributes
    ----------
    target
        Risk of a DLT that is aimed at.
    elimination
        A dose and all higher ones are dropped when its risk exceeds the target with more than this
        posterior probability, under a uniform prior.
    eliminate_from
        Patients at a dose before it can be dropped.
    lowest_offset
        Lower the probability of elimination by this at the lowest dose, where it stops the trial
        (BOIN's extra safety); 0 for no difference.
    enough_at_dose
        Stop when so many were treated at a dose and the design would stay there; ``None`` for
        never.
    stay_at_1_of_3
        Stay, and do not step down, when 1 of 3 patients had a DLT, whoever of them is pending.
    bound_mtd
        Select only a dose whose estimated risk does not exceed the boundary of de-escalation.
    titrate
        Treat single patients at rising doses until the first DLT or the highest dose, and then
        fill that dose up to a cohort; backfilled patients do not end it. Elimination acts first: a
        dose that the one DLT drops (one patient is enough with ``eliminate_from=1``, as of the
        keyboard and mTPI-2) is not filled.
    """

    keeps_out: ClassVar[bool] = True

    target: float
    elimination: float = 0.95
    eliminate_from: int = 3
    lowest_offset: float = 0.0
    enough_at_dose: int | None = None
    stay_at_1_of_3: bool = False
    bound_mtd: bool = False
    titrate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_target(self.target)
        if not 0.5 < self.elimination < 1:
            self._refuse("elimination", f"it is {self.elimination:g}", "between 0.5 and 1")
        if not 0 <= self.lowest_offset < 0.5:
            self._refuse("lowest_offset", f"it is {self.lowest_offset:g}", "from 0 to below 0.5")
        if self.enough_at_dose is not None and self.enough_at_dose < 1:
            self._refuse("enough_at_dose", f"it is {self.enough_at_dose}", "1 or more")

    @abstractmethod
    def _limits(self, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Most DLTs to escalate and fewest to de-escalate, for each number of patients."""

    @property
    @abstractmethod
    def de_escalation_rate(self) -> float:
        """Rate of DLTs above which the dose de-escalates."""

    def boundaries(self, most: int) -> Boundaries:
        """Decision table for 1 to `most` patients at a dose, each shape ``(most,)``."""
        check_arguments(f"{self.name}, boundaries", most=(most, from_to(1)))
        n = np.arange(1, most + 1)
        escalate, down = self._limits(n)
        if self.stay_at_1_of_3 and most >= 3:
            down[2] = max(down[2], 2)
        out = self._fewest_to_drop(n, self.elimination)
        down = np.where(out == NEVER, down, np.minimum(down, out))
        return Boundaries(escalate, down, out)

    def lowest_boundary(self, most: int) -> np.ndarray:
        """Fewest DLTs at the lowest dose that stop the trial, shape ``(most,)``."""
        return self._fewest_to_drop(np.arange(1, most + 1), self.elimination - self.lowest_offset)

    def _fewest_to_drop(self, treated: np.ndarray, certainty: float) -> np.ndarray:
        dlts = np.arange(treated[-1] + 1)
        sure = beta_exceeds(dlts[None, :], treated[:, None], self.target) > certainty
        sure &= (dlts[None, :] <= treated[:, None]) & (treated[:, None] >= self.eliminate_from)
        return np.where(sure.any(axis=1), np.argmax(sure, axis=1), NEVER)

    @cached_property
    def _made(self) -> dict[int, tuple[Boundaries, np.ndarray]]:
        return {}

    def _tables(self, treated: np.ndarray) -> tuple[Boundaries, np.ndarray]:
        """Tables that reach to so many patients at a dose, made once for each length."""
        most = max(32, 1 << int(np.max(treated, initial=1) - 1).bit_length())
        if most not in self._made:
            self._made[most] = self.boundaries(most), self.lowest_boundary(most)
        return self._made[most]

    def category(self, dlts: np.ndarray, treated: np.ndarray) -> np.ndarray:
        """Escalate (1), stay (0) or de-escalate (-1) by counts alone; 0 where nobody is treated."""
        table = self._tables(treated)[0]
        row = np.maximum(treated, 1) - 1
        found = (dlts <= table.escalate[row]).astype(int) - (dlts >= table.de_escalate[row])
        return np.where(treated > 0, found, 0)

    # -- the design ----------------------------------------------------------------------------

    def eliminated(self, data: Trials | TrialData) -> np.ndarray:
        """Doses dropped for toxicity, ``(trials, levels)``: pending patients count as without.

        By the counts of now, and those that the data say were dropped before.
        """
        data = batch_of(data)
        before, levels = data.dropped[:, None], np.arange(1, self.levels + 1)
        return self._dropped_now(data) | ((before > 0) & (levels >= before))

    def _dropped_now(self, data: Trials) -> np.ndarray:
        """Doses dropped by the counts of now, and those above them."""
        out = (data.treated > 0) & (data.dlts >= self._fewest(data))
        return np.logical_or.accumulate(out, axis=1)

    def _fewest(self, data: Trials) -> np.ndarray:
        """DLTs at which each dose is dropped, ``(trials, levels)``; out of reach for never."""
        table, lowest = self._tables(data.treated)
        row = np.maximum(data.treated, 1) - 1
        fewest = table.eliminate[row]
        if self.lowest_offset:
            fewest[:, 0] = lowest[row[:, 0]]
        return np.where(fewest == NEVER, data.treated + 1, fewest)

    def rule(self, data: Trials) -> Decisions:
        """Compare the counts of the present dose with the table."""
        turn = self.turn(data)
        return self.follow(data, turn)

    def turn(self, data: Trials) -> np.ndarray:
        """Escalate (1), stay (0) or de-escalate (-1) at the present dose, shape ``(trials,)``."""
        return self.category(data.at(data.dlts), data.at(data.treated))

    def follow(self, data: Trials, turn: np.ndarray) -> Decisions:
        """Decisions from what the present dose's counts say, within the doses that are left."""
        now = data.current
        out = self.eliminated(data)
        usable = (~out).sum(axis=1)  # doses below the lowest one that is out
        level = np.clip(now + turn, 1, np.maximum(usable, 1))
        if self.titrate:
            alone = self._titrates(data)
            level = np.where(alone, np.minimum(now + 1, self.levels), level)
            level = np.where(self._fills(data), now, level)
        action = np.select(
            [usable == 0, level > now, level < now],
            [Action.STOP, Action.ESCALATE, Action.DEESCALATE],
            Action.STAY,
        )
        why = np.where(usable == 0, Why.TOO_TOXIC, Why.GOES_ON)
        if self.enough_at_dose is not None:
            stays = (level == now) & (usable > 0) & ~data.at(out)
            done = (data.at(data.treated) >= self.enough_at_dose) & stays
            action = np.where(done, Action.STOP, action)
            why = np.where(done, Why.ENOUGH, why)
        return Decisions(np.where(usable == 0, 0, level), action, why)

    def _titrates(self, data: Trials) -> np.ndarray:
        """Trials that still treat single patients."""
        return _single(data) & (data.dlts.sum(axis=1) == 0) & (data.current < self.levels)

    def _fills(self, data: Trials) -> np.ndarray:
        """Trials whose titration has just ended, and whose dose is filled up to a cohort."""
        left = ~data.at(self.eliminated(data))
        return _single(data) & left & ~self._titrates(data) & (self.cohort_size > 1)

    def size(self, data: Trials, level: np.ndarray) -> np.ndarray:
        """Take a cohort; a single patient while titrating, and the rest of a cohort after it."""
        size = super().size(data, level)
        if not self.titrate or self.cohort_size == 1:
            return size
        rest = self._fills(data) & (data.current > 0) & (level == data.current)
        size = np.where(rest, np.minimum(size, self.cohort_size - 1), size)
        return np.where(self._titrates(data) | (data.current == 0), 1, size)

    def select(self, data: Trials | TrialData) -> np.ndarray:
        """Dose left in the trial whose isotonic risk is closest to the target; 0 for none."""
        seen = batch_of(data).without_pending()
        out = self.eliminated(seen)
        treated = np.where(out, 0, seen.treated)
        found = closest_doses(np.where(out, 0, seen.dlts), treated, self.target)
        if not self.bound_mtd:
            return found
        return np.array(
            [self._bounded(y, n, f) for y, n, f in zip(seen.dlts, treated, found, strict=True)], int
        ).reshape(-1)

    def _bounded(self, dlts: np.ndarray, treated: np.ndarray, found: int) -> int:
        if not found:
            return 0
        tried = np.flatnonzero(treated > 0)
        risks = isotonic_risks(dlts[tried], treated[tried])
        allowed = tried[risks <= self.de_escalation_rate]
        allowed = allowed[allowed < found]
        return int(allowed[-1]) + 1 if len(allowed) else 0

    def exceeds(self, data: Trials | TrialData, level: int, limit: float) -> np.ndarray:
        """Posterior probability under a uniform prior of the dose's own risk.

        Of the patients by whom a dose is dropped. A design that decides while patients are pending
        counts them as without a DLT so far: a DLT is known at once, and DLTs alone would come in.
        One that waits for its cohorts leaves out who is pending, backfilled patients that is. Of a
        dose that nobody has had the prior alone tells nothing: 0.
        """
        data = self._assessed(self._batch(data, level, limit))
        dlts, treated = data.dlts[:, level - 1], data.treated[:, level - 1]
        return np.where(treated > 0, beta_exceeds(dlts, treated, limit), 0.0)

    def explain(self, data: Trials, decision: Decisions) -> str:
        """Rate at the present dose beside the boundaries."""
        level, why = int(data.current[0]), Why(int(decision.why[0]))
        n, y = int(data.at(data.treated)[0]), int(data.at(data.dlts)[0])
        table = self._tables(data.treated)[0]
        low, high = int(table.escalate[n - 1]), int(table.de_escalate[n - 1])
        counts = f"{y} of {patients(n)} at dose {level} had a DLT"
        if why == Why.TOO_TOXIC:
            return f"{counts}, and {self._what_dropped(data, level)}"
        if why == Why.ENOUGH:
            enough = patients(self.enough_at_dose or 0)
            return f"{counts} and the design stays there, with {enough} enough"
        up = f"escalate at {low} or fewer" if low >= 0 else "never escalate"
        rule = f"with {patients(n)} {up}, de-escalate at {high} or more"
        if data.at(self.eliminated(data))[0]:
            rule += f"; {self._what_dropped(data, level)}"
        elif decision.action[0] == Action.STAY:
            rule += self._what_holds(data, level)
        return f"{counts}; {rule}"

    def _what_holds(self, data: Trials, level: int) -> str:
        """Say why a trial stays where the counts may ask for another dose: the end of a clause."""
        turn = int(self.turn(data)[0])
        if self.titrate and self._fills(data)[0]:
            ended = "with the first DLT" if data.dlts[0].any() else "at the highest dose"
            whole = patients(self.cohort_size)
            return f"; titration ends {ended}, and the dose is filled to {whole}"
        if turn == 1 and level == self.levels:
            return "; there is no higher dose"
        if turn == 1 and self.eliminated(data)[0, level]:
            return "; the next is dropped"
        return "; there is no lower dose" if turn == -1 and level == 1 else ""

    def _what_dropped(self, data: Trials, level: int) -> str:
        """Say which is the lowest dose that is out, and why: a clause."""
        lowest = int(np.argmax(self.eliminated(data)[0])) + 1
        name = "the lowest dose" if lowest == 1 else f"dose {lowest}"
        higher = "" if lowest == self.levels else " with all higher ones"
        if not self._dropped_now(data)[0, lowest - 1]:
            return f"{name} was dropped before and stays out{higher}"
        n, y = int(data.treated[0, lowest - 1]), int(data.dlts[0, lowest - 1])
        fewest = int(self._fewest(data)[0, lowest - 1])
        there = "" if lowest == level else f", after {y} of {patients(n)} with a DLT there"
        return (
            f"{name} is dropped for toxicity{higher}{there}: of {patients(n)} at {fewest} or more"
        )


def _single(data: Trials) -> np.ndarray:
    """Trials whose escalation has treated nobody but single patients, ``(trials,)``."""
    return np.all(data.treated - data.backfilled <= 1, axis=1)


@dataclass(frozen=True, kw_only=True)
class BOIN(IntervalDesign):
    """Bayesian optimal interval design (Liu and Yuan 2015).

    Attributes
    ----------
    safe, toxic
        Highest risk that is too low, and lowest that is too high; by default 0.6 and 1.4 times the
        target.

    Examples
    --------
    >>> design = BOIN(levels=5, target=0.3)
    >>> [round(rate, 7) for rate in (design.escalation_rate, design.de_escalation_rate)]
    [0.2364907, 0.3585195]
    """

    name: ClassVar[str] = "BOIN"

    safe: float | None = None
    toxic: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self._risks
        if not 0 < low < self.target:
            self._refuse("safe", f"it is {low:g}", f"above 0 and below the target {self.target:g}")
        if not self.target < high < 1:
            self._refuse("toxic", f"it is {high:g}", f"above the target {self.target:g}, below 1")

    @property
    def _risks(self) -> tuple[float, float]:
        low = 0.6 * self.target if self.safe is None else self.safe
        high = 1.4 * self.target if self.toxic is None else self.toxic
        return low, high

    @property
    def escalation_rate(self) -> float:
        """Rate of DLTs at or below which the dose escalates."""
        low, mid = self._risks[0], self.target
        return log((1 - low) / (1 - mid)) / log(mid * (1 - low) / (low * (1 - mid)))

    @property
    def de_escalation_rate(self) -> float:
        """Rate of DLTs above which the dose de-escalates."""
        mid, high = self.target, self._risks[1]
        return log((1 - mid) / (1 - high)) / log(high * (1 - mid) / (mid * (1 - high)))

    def _limits(self, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        escalate = np.floor(self.escalation_rate * treated).astype(int)
        return escalate, np.floor(self.de_escalation_rate * treated).astype(int) + 1


@dataclass(frozen=True, kw_only=True)
class Keyboard(IntervalDesign):
    """Keyboard design (Yan, Mandrekar and Yuan 2017).

    The target key is the target with a margin on each side. Keys of its width are laid outward
    as long as they are whole; the dose follows the key that most probably holds its risk.

    Attributes
    ----------
    margin
        Half the width of the target key, or one for each side.
    """

    name: ClassVar[str] = "keyboard"

    eliminate_from: int = 1
    margin: float | tuple[float, float] = (0.05, 0.05)
    whole_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.margin, int | float):
            object.__setattr__(self, "margin", tuple(self.margin))
        low, high = self._ends
        if not (0 < low < self.target < high < 1):
            what = f"the target interval is {low:g} to {high:g}"
            self._refuse("margin", what, "within 0 to 1, around the target")

    @property
    def de_escalation_rate(self) -> float:
        """Upper end of the target key."""
        return self._ends[1]

    @property
    def _sides(self) -> tuple[float, float]:
        """Margin below and above the target."""
        return self.margin if isinstance(self.margin, tuple) else (self.margin, self.margin)

    @property
    def _ends(self) -> tuple[float, float]:
        below, above = self._sides
        return self.target - below, self.target + above

    @cached_property
    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the keys."""
        low, high = self._ends
        width = high - low
        tiny = 1e-12
        down = int(np.floor(low / width + tiny))
        up = int(np.floor((1 - high) / width + tiny))
        ends = low + width * np.arange(-down, up + 2)
        if not self.whole_keys:
            first, last = bool(ends[0] > tiny), bool(ends[-1] < 1 - tiny)
            ends = np.concatenate([[0.0] * first, ends, [1.0] * last])
        return np.clip(ends[:-1], 0, 1), np.clip(ends[1:], 0, 1)

    def _limits(self, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = self._keys
        target = int(np.argmin(np.abs((low + high) / 2 - (self.target + self._shift))))
        escalate, down = [], []
        for n in treated:
            y = np.arange(n + 1)[:, None]
            mass = beta_exceeds(y, n, low) - beta_exceeds(y, n, high)  # type: ignore[arg-type]
            if not self.whole_keys:
                mass = mass / (high - low)
            best = np.argmax(mass, axis=1)
            escalate.append(int((best < target).sum()) - 1)
            down.append(int((best <= target).sum()))
        return np.array(escalate), np.array(down)

    @property
    def _shift(self) -> float:
        below, above = self._sides
        return (above - below) / 2


@dataclass(frozen=True, kw_only=True)
class MTPI2(Keyboard):
    """Modified toxicity probability interval design 2 (Guo 2017).

    As the keyboard, but the keys at the ends are cut at 0 and 1 and kept, and the key with the
    largest probability for its width decides.
    """

    name: ClassVar[str] = "mTPI-2"

    whole_keys: ClassVar[bool] = False
