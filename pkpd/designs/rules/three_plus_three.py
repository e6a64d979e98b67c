"""3+3 and rolling six: rules that count patients, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pkpd.designs.data import Action, Decisions, TrialData, Trials, Why, batch_of
from pkpd.designs.protocol import Design, patients


@dataclass(frozen=True, kw_only=True)
class _CountingDesign(Design):
    """What 3+3 and rolling six share: a dose is exceeded at a third of patients with a DLT.

    Where a dose is exceeded, all higher ones are out, and the trial goes to the dose below it.
    """

    most_patients: int | None = None

    @staticmethod
    def exceeded(data: Trials) -> np.ndarray:
        """Doses with 2 DLTs or more in a third of the patients or more, ``(trials, levels)``."""
        return (data.dlts >= 2) & (3 * data.dlts >= data.completed)

    def select(self, data: Trials | TrialData) -> np.ndarray:
        """Highest dose that is tolerated below every dose that is exceeded; 0 for none."""
        data = batch_of(data)
        out = np.logical_or.accumulate(self.exceeded(data), axis=1)
        few = (data.completed < 3) | ((data.dlts > 0) & ~self._confirmed(data))
        if self._six_below:
            above = np.zeros_like(out)
            above[:, :-1] = out[:, 1:]
            few |= above & ~self._confirmed(data)
        good = ~out & ~few
        return np.where(good.any(axis=1), data.levels - np.argmax(good[:, ::-1], axis=1), 0)

    def eliminated(self, data: Trials | TrialData) -> np.ndarray:
        """Doses at or above one that is exceeded."""
        return np.logical_or.accumulate(self.exceeded(batch_of(data)), axis=1)

    @property
    def _six_below(self) -> bool:
        return True

    @staticmethod
    def _confirmed(data: Trials) -> np.ndarray:
        return data.completed >= 6

    def explain(self, data: Trials, decision: Decisions) -> str:
        """Give the counts at the present dose, and what they mean."""
        level, action = int(data.current[0]), Action(int(decision.action[0]))
        counts, why = _counts(data, level), Why(int(decision.why[0]))
        lowest = int((~self.eliminated(data)[0]).sum()) + 1
        if lowest < level:  # whatever was seen at the present dose
            counts += f", and {_counts(data, lowest)}"
        if why == Why.TOO_TOXIC:
            return f"{counts}, and there is no lower dose"
        if why == Why.MTD_FOUND:
            mtd = int(decision.level[0])
            if mtd < level:
                return f"{counts}, and dose {mtd} below it is tolerated"
            if level == self.levels:
                return f"{counts}, and there is no higher dose"
            return f"{counts}, and the next higher dose is exceeded"
        if action == Action.ESCALATE:
            return f"{counts}: the dose is tolerated"
        if action == Action.DEESCALATE:
            return f"{counts}: {'the dose' if lowest == level else f'dose {lowest}'} is exceeded"
        if action == Action.SUSPEND:
            return f"{counts}: nobody is treated until more assessments have ended"
        return f"{counts}: more patients are needed at this dose"


@dataclass(frozen=True, kw_only=True)
class ThreePlusThree(_CountingDesign):
    """The 3+3 design.

    Three patients get a dose. Without a DLT the next dose follows; with one, three more get the
    same dose; with two the dose is exceeded. The maximum tolerated dose (MTD) is the highest one
    with fewer than a third of patients with a DLT.

    Attributes
    ----------
    de_escalate
        Whether the dose below an exceeded one is filled up to six patients before it is the MTD
        (Korn 1994); without it that dose is the MTD as it stands. A dose below the start that
        nobody has had is treated in any case.
    six_at_top
        Whether the highest dose needs six patients too.

    Examples
    --------
    >>> from pkpd.designs import TrialData
    >>> design = ThreePlusThree(levels=4, start=2)
    >>> print(design.next_dose(TrialData.from_outcomes(4, "2NNT 2NTN")).reason)
    2 of 6 patients at dose 2 had a DLT: the dose is exceeded.
    """

    name: ClassVar[str] = "3+3"

    de_escalate: bool = True
    six_at_top: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cohort_size != 3:
            remedy = 'remove it, or take "rolling six", whose patients come one by one'
            self._refuse("cohort_size", f"it is {self.cohort_size}", "3", remedy)

    @property
    def _six_below(self) -> bool:
        return self.de_escalate

    def rule(self, data: Trials) -> Decisions:
        """Escalate, expand, step down or stop."""
        now, n, y = data.current, data.at(data.completed), data.at(data.dlts)
        out = self.eliminated(data)
        here, below = data.at(out), (~out).sum(axis=1)
        n_below = data.at(data.treated, below)
        tolerated = ~here & (n >= 3) & ((y == 0) | (n >= 6))
        top = now == self.levels
        above = ~top & data.at(out, np.minimum(now + 1, self.levels))
        six = n >= 6
        found_here = (above & (six | (not self.de_escalate))) | (
            top & (six | (not self.six_at_top))
        )
        down_again = (n_below == 0) | ((n_below < 6) & self.de_escalate)
        cases = [
            (below == 0, 0, Action.STOP, Why.TOO_TOXIC),
            (here & down_again, below, Action.DEESCALATE, Why.GOES_ON),
            (here, below, Action.STOP, Why.MTD_FOUND),
            (tolerated & found_here, now, Action.STOP, Why.MTD_FOUND),
            (tolerated & ~above & ~top, now + 1, Action.ESCALATE, Why.GOES_ON),
        ]
        return _first(cases, now)

    def size(self, data: Trials, level: np.ndarray) -> np.ndarray:
        """Three patients, or as many as a dose lacks to three or six, or the trial to its most."""
        n = data.at(data.treated, np.maximum(level, 1))
        return np.minimum(3 - n % 3, super().size(data, level))


@dataclass(frozen=True, kw_only=True)
class RollingSix(_CountingDesign):
    """The rolling six design (Skolnik 2008): up to six patients at a dose before results are in.

    Patients come one by one. The dose escalates when all patients of three or more have been
    assessed without a DLT, five of six without a DLT, or six with one; two DLTs exceed it.
    Accrual is suspended when six are enrolled and that is not known.

    Attributes
    ----------
    enrolled_most
        Patients at a dose, at most. With fewer than six, as many with one DLT are tolerated: of
        three one, which passes a dose of a risk of 33 % with .67^3 + 3 .33 .67^2 = 75 %, where 3+3
        passes it with .67^3 + 3 .33 .67^5 = 43 %; it is not the published design then.

    Examples
    --------
    >>> from pkpd.designs import Pending, TrialData
    >>> seen = TrialData((6,), (0,), current=1, pending=(Pending(1, 0.2), Pending(1, 0.5)))
    >>> RollingSix(levels=1).next_dose(seen).action.name
    'SUSPEND'
    """

    name: ClassVar[str] = "rolling six"
    uses_pending: ClassVar[bool] = True

    cohort_size: int = 1
    enrolled_most: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.enrolled_most < 3:
            self._refuse("enrolled_most", f"it is {self.enrolled_most}", "3 or more")

    def _confirmed(self, data: Trials) -> np.ndarray:
        six, five = min(6, self.enrolled_most), min(5, self.enrolled_most)
        return (data.completed >= six) | ((data.completed >= five) & (data.dlts == 0))

    def rule(self, data: Trials) -> Decisions:
        """Escalate, enrol at the dose, suspend, step down or stop."""
        now = data.current
        enrolled, n, y = data.at(data.treated), data.at(data.completed), data.at(data.dlts)
        out, confirmed = self.eliminated(data), self._confirmed(data)
        here, below = data.at(out), (~out).sum(axis=1)
        all_seen = (n == enrolled) & (n >= 3) & (y == 0)
        sure = ~here & data.at(confirmed)
        top = now == self.levels
        above = ~top & data.at(out, np.minimum(now + 1, self.levels))
        last = top | above
        full = enrolled >= self.enrolled_most
        down_again = ~data.at(confirmed, below)
        hold = here & down_again & (data.at(data.treated, below) >= self.enrolled_most)
        cases = [
            (below == 0, 0, Action.STOP, Why.TOO_TOXIC),
            (hold, below, Action.SUSPEND, Why.GOES_ON),
            (here & down_again, below, Action.DEESCALATE, Why.GOES_ON),
            (here, below, Action.STOP, Why.MTD_FOUND),
            (last & sure, now, Action.STOP, Why.MTD_FOUND),
            (~last & (sure | (all_seen & ~here)), now + 1, Action.ESCALATE, Why.GOES_ON),
            (full, now, Action.SUSPEND, Why.GOES_ON),
        ]
        return _first(cases, now)


def _counts(data: Trials, level: int) -> str:
    """Say how many patients at a dose had a DLT, and how many are pending."""
    n, y, waiting = (
        int(column[0, level - 1]) for column in (data.completed, data.dlts, data.pending)
    )
    text = f"{y} of {patients(n)} at dose {level} had a DLT"
    return f"{text} and {waiting} {'is' if waiting == 1 else 'are'} pending" if waiting else text


def _first(cases: list[tuple], now: np.ndarray) -> Decisions:
    """Decisions of the first case that holds in each trial; else stay at the present dose."""
    masks = [mask for mask, *_ in cases]

    def pick(column: int, other: np.ndarray | int) -> np.ndarray:
        choices = [np.broadcast_to(np.asarray(case[column]), now.shape) for case in cases]
        return np.select(masks, choices, np.broadcast_to(np.asarray(other), now.shape))

    return Decisions(pick(1, now), pick(2, int(Action.STAY)), pick(3, int(Why.GOES_ON)))
