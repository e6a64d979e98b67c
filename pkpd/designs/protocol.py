"""A design: a pure function from what a trial has seen to its next dose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pkpd.arguments import NUMBER, Kind, a, check_arguments, from_to, several
from pkpd.designs.data import (
    MOST_PATIENTS,
    Action,
    Decision,
    Decisions,
    TrialData,
    Trials,
    Why,
    batch_of,
)
from pkpd.designs.kinds import check_fields
from pkpd.designs.stopping import StoppingRule
from pkpd.errors import PkpdError

_AWAITED = (Why.ENOUGH, Why.PRECISE, Why.MAXIMUM)
"""Ends that wait for the outcomes of patients who are pending."""


@dataclass(frozen=True, kw_only=True)
class Design(ABC):
    """A phase I design.

    Attributes
    ----------
    levels
        Number of doses.
    start
        Dose of the first patients, counted from 1.
    cohort_size
        Patients who are treated together. In trials the next decision comes when the cohort is
        full; see :meth:`fills`.
    most_patients
        Patients after whom the trial ends; ``None`` where the design ends by itself.
    stops
        Rules by which the trial stops early, the first that holds first.
    """

    name: ClassVar[str] = ""
    uses_last_cohort: ClassVar[bool] = False
    """Whether a decision depends on the outcome of the latest cohort alone."""
    backfills: ClassVar[bool] = False
    """Whether patients can be treated below the present dose while it is assessed."""
    keeps_out: ClassVar[bool] = False
    """Whether a dose that was dropped once is out for good, whatever is seen there later."""
    uses_pending: ClassVar[bool] = False
    """Whether a decision can be taken while patients are pending."""

    levels: int
    start: int = 1
    cohort_size: int = 3
    most_patients: int | None = 30
    stops: tuple[StoppingRule, ...] = ()

    def __post_init__(self) -> None:
        self._check_kinds()
        whole = {"levels": self.levels, "cohort_size": self.cohort_size}
        if self.most_patients is not None:
            whole["most_patients"] = self.most_patients
        for name, value in whole.items():
            if not 1 <= value <= MOST_PATIENTS:
                self._refuse(name, f"it is {value}", f"1 to {MOST_PATIENTS}")
        if not 1 <= self.start <= self.levels:
            self._refuse("start", f"it is dose {self.start}", f"1 to {self.levels}")
        for rule in self.stops:
            rule.check(self)

    def _check_kinds(self) -> None:
        """Refuse settings that are not what their types say."""
        check_fields(self.name or type(self).__name__, self, **self._classes())

    def _classes(self) -> dict[str, Kind]:
        """Kinds of the settings that are objects of this package."""
        return {"stops": several(a(StoppingRule), "a list of stopping rules")}

    def _batch(self, data: Trials | TrialData, level: int = 1, limit: float = 0.5) -> Trials:
        """Trials as a batch; refuse what is none, no dose, or no limit of a risk."""
        check_arguments(self.name, level=(level, from_to(1, self.levels)), limit=(limit, NUMBER))
        return batch_of(data)

    def _refuse(self, key: str, what: str, allowed: str, remedy: str | None = None) -> None:
        where = f"{self.name}, {key}"
        raise PkpdError(where=where, what=what, allowed=allowed, remedy=remedy)

    # -- what a design answers -----------------------------------------------------------------

    @abstractmethod
    def rule(self, data: Trials) -> Decisions:
        """Apply the design's own rule, before stopping rules; every trial has treated somebody."""

    @abstractmethod
    def select(self, data: Trials | TrialData) -> np.ndarray:
        """Dose selected if the trials ended now, shape ``(trials,)``; 0 for none."""

    @abstractmethod
    def explain(self, data: Trials, decision: Decisions) -> str:
        """Why the first trial's decision is what it is: a clause without capital and full stop."""

    def eliminated(self, data: Trials | TrialData) -> np.ndarray:
        """Doses that are out of the trial, shape ``(trials, levels)``."""
        return np.zeros(batch_of(data).treated.shape, bool)

    def dropped(self, data: Trials) -> np.ndarray:
        """Doses out by the patients whom a decision of now goes by, ``(trials, levels)``."""
        return self.eliminated(self._assessed(data))

    def opening(self, data: Trials) -> str:
        """Say what there is to say of the first dose: the end of a clause."""
        del data
        return ""

    def check(self, data: TrialData) -> None:
        """Refuse data that lack what the design decides by."""
        del data

    def exceeds(self, data: Trials | TrialData, level: int, limit: float) -> np.ndarray:
        """Posterior probability that the risk at a dose exceeds a limit, shape ``(trials,)``."""
        del data, level, limit
        raise PkpdError(
            where=f"{self.name}, stops",
            what="this design has no posterior of the risk",
            remedy="use a stopping rule that counts patients",
        )

    def must_wait(self, data: Trials) -> np.ndarray:
        """Whether a decision waits for patients who are pending, shape ``(trials,)``."""
        return self._awaited(data) > 0

    def _awaited(self, data: Trials) -> np.ndarray:
        """Pending patients for whom a decision waits, shape ``(trials,)``."""
        return data.pending.sum(axis=1) * (not self.uses_pending)

    def fills(self, data: Trials) -> np.ndarray:
        """Whether the next patient belongs to the latest cohort, shape ``(trials,)``.

        A cohort that lacks patients is filled before the next decision, whoever is pending, unless
        after a DLT its dose is out or the trial stops as too toxic.
        """
        fills = data.lacking > 0
        for row in np.flatnonzero(fills & (data.last_treated + data.lacking > self.cohort_size)):
            there, lacks = int(data.last_treated[row]), int(data.lacking[row])
            what = f"the latest cohort has {patients(there)} and lacks {lacks}"
            self._refuse("lacking", what, f"at most {self.cohort_size} in all, the cohort size")
        rows = np.flatnonzero(fills & data.dlts.any(axis=1))
        if len(rows):
            known = self._assessed(data.take(rows))
            out = known.at(self.eliminated(known))
            fills[rows] = ~out & (self._decided(known).why != Why.TOO_TOXIC)
        return fills

    def _assessed(self, data: Trials) -> Trials:
        """Keep what the design goes by: of one that waits, patients whose assessment has ended."""
        return data if self.uses_pending else data.without_pending()

    def backfill(self, data: Trials) -> np.ndarray:
        """Dose of patients who come while escalation waits, shape ``(trials,)``; 0 for none."""
        return np.zeros(len(data.current), int)

    # -- for everybody -------------------------------------------------------------------------

    def size(self, data: Trials, level: np.ndarray) -> np.ndarray:
        """Patients of the next cohort, shape ``(trials,)``."""
        del level
        size = np.full(len(data.current), self.cohort_size)
        if self.most_patients is None:
            return size
        return np.minimum(size, self.most_patients - escalated(data))

    def decide(self, data: Trials) -> Decisions:
        """Next dose of many trials at once.

        Parameters
        ----------
        data
            What the trials have seen.

        Returns
        -------
        Decisions
            Level, action and the reason of a stop, each of shape ``(trials,)``.
        """
        data = batch_of(data)
        self._check_levels(data.levels)
        fresh = data.current == 0
        if fresh.all():
            count = len(fresh)
            return Decisions(
                np.full(count, self.start),
                np.full(count, Action.START),
                np.full(count, Why.GOES_ON),
            )
        if fresh.any():
            parts = [self.decide(data.take(np.flatnonzero(rows))) for rows in (fresh, ~fresh)]
            order = np.argsort(np.concatenate([np.flatnonzero(fresh), np.flatnonzero(~fresh)]))
            names = ("level", "action", "why")
            return Decisions(
                *(np.concatenate([getattr(p, name) for p in parts])[order] for name in names)
            )
        found = self._decided(data)
        fills = self.fills(data)
        return Decisions(
            np.where(fills, data.current, found.level),
            np.where(fills, Action.STAY, found.action),
            np.where(fills, Why.GOES_ON, found.why),
        )

    def _decided(self, data: Trials) -> Decisions:
        """Decide as of full cohorts; no trial ends while patients may change what is selected."""
        found = self._ended(data)
        action, why = found.action.copy(), found.why.copy()
        waits = np.isin(why, _AWAITED) & data.pending.any(axis=1) & self.uses_pending
        action[waits], why[waits] = Action.SUSPEND, Why.GOES_ON
        return Decisions(found.level, action, why)

    def _ended(self, data: Trials) -> Decisions:
        """Decide as of full cohorts, whoever is pending."""
        own = self.rule(data)
        action, why = own.action.copy(), own.why.copy()
        for stop in self.stops:
            hit = (why == Why.GOES_ON) & stop.met(self, data, own)
            action[hit], why[hit] = Action.STOP, stop.why
        if self.most_patients is not None:
            full = (why == Why.GOES_ON) & (escalated(data) >= self.most_patients)
            action[full], why[full] = Action.STOP, Why.MAXIMUM
        return Decisions(own.level, action, why)

    def recommend(self, data: Trials, decisions: Decisions) -> np.ndarray:
        """Dose selected by trials that have stopped, shape ``(trials,)``; 0 for none."""
        return np.where(decisions.why == Why.TOO_TOXIC, 0, self.select(data))

    def next_dose(self, data: TrialData) -> Decision:
        """Next dose of one trial, and why.

        Examples
        --------
        >>> from pkpd.designs import BOIN, TrialData
        >>> BOIN(levels=5, target=0.3).next_dose(TrialData.from_outcomes(5, "1NNN 2NNT")).level
        2
        """
        check_arguments(f"{self.name}, next_dose", data=(data, a(TrialData)))
        self.check(data)
        batch = data.batch()
        if self.fills(batch)[0]:
            return self._filling(data, batch)
        backfill = int(self.backfill(batch)[0]) or None
        if self.must_wait(batch)[0]:
            count = int(self._awaited(batch)[0])
            level, others = int(batch.current[0]), count < batch.pending.sum()
            at, there = (f" at dose {level}", " there") if others else ("", "")
            who = f"{patients(count)} {'is' if count == 1 else 'are'} pending{at}"
            reason = f"{who}, and {self.name} decides when all assessments{there} have ended"
            if backfill:
                reason += f"; patients who come meanwhile are backfilled at dose {backfill}"
            return Decision(Action.SUSPEND, level, _as_sentence(reason), backfill=backfill)
        found = self.decide(batch)
        action, why = Action(int(found.action[0])), Why(int(found.why[0]))
        reason = self._reason(batch, found, action, why)
        out = tuple(int(j) + 1 for j in np.flatnonzero(self.dropped(batch)[0]))
        if action != Action.STOP:
            level = int(found.level[0])
            if action == Action.START:  # whatever a prior says of it
                out = tuple(j for j in out if j > level)
            return Decision(action, level, reason, eliminated=out)
        mtd = int(self.recommend(batch, found)[0]) or None
        left = int(batch.pending.sum())
        if left and mtd and not self.uses_pending:
            verb = "is" if left == 1 else "are"
            reason = f"{reason[:-1]}; {patients(left)} {verb} pending, and the dose may change."
        return Decision(action, None, reason, why, mtd, out)

    def _filling(self, data: TrialData, batch: Trials) -> Decision:
        """Stay until the cohort is full."""
        assert data.last_cohort is not None
        there, level = data.last_cohort[0], data.current
        of = f"{there} of {there + data.lacking} patients of this cohort"
        reason = f"{of} {'is' if there == 1 else 'are'} enrolled"
        out = np.flatnonzero(self.dropped(batch)[0]) + 1
        above = tuple(int(j) for j in out if j > level)
        return Decision(Action.STAY, level, _as_sentence(reason), eliminated=above)

    def _reason(self, data: Trials, found: Decisions, action: Action, why: Why) -> str:
        if action == Action.START:
            return _as_sentence(f"no patient has been treated{self.opening(data)}")
        if action == Action.SUSPEND and (ends := self._ended(data)).why[0] in _AWAITED:
            left = int(data.pending.sum())
            told = self._reason(data, ends, Action.STOP, Why(int(ends.why[0])))
            return f"{told[:-1]}, and {left} {'is' if left == 1 else 'are'} pending."
        for stop in self.stops:
            if why == stop.why and bool(stop.met(self, data, found)[0]):
                return _as_sentence(stop.words(self, data, found))
        if why == Why.MAXIMUM:
            count = int(escalated(data)[0])
            who = f"{patients(count)} {'is' if count == 1 else 'are'}"
            return _as_sentence(f"{who} treated, of at most {self.most_patients}")
        return _as_sentence(self.explain(data, found))

    def _check_levels(self, levels: int) -> None:
        if levels != self.levels:
            what = f"the data have {levels} doses and the design {self.levels}"
            raise PkpdError(where=self.name, what=what, remedy="give counts of each dose")


def patients(count: int) -> str:
    """So many patients, in words.

    Examples
    --------
    >>> patients(1), patients(3)
    ('1 patient', '3 patients')
    """
    return "1 patient" if count == 1 else f"{count} patients"


def escalated(data: Trials) -> np.ndarray:
    """Patients treated in escalation, backfilled ones not counted, shape ``(trials,)``."""
    return data.treated.sum(axis=1) - data.backfilled.sum(axis=1)


def towards(data: Trials, level: np.ndarray) -> Decisions:
    """Decisions to treat at these doses next; level 0 stops the trial as too toxic."""
    action = np.select(
        [level == 0, level > data.current, level < data.current],
        [Action.STOP, Action.ESCALATE, Action.DEESCALATE],
        Action.STAY,
    )
    why = np.where(level == 0, Why.TOO_TOXIC, Why.GOES_ON)
    return Decisions(level, action, why)


def _as_sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
