"""Backfilling: patients at lower doses that are safe and have shown a response (BF-BOIN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pkpd.designs.data import Action, Decisions, Trials
from pkpd.designs.protocol import patients
from pkpd.designs.rules.interval import BOIN

WHICH = ("highest", "lowest")


@dataclass(frozen=True, kw_only=True)
class BackfillBOIN(BOIN):
    """BOIN with backfilling (Zhao, Yuan, Korn and Freidlin 2024).

    Escalation goes on in cohorts, each assessed before the next. A patient who comes meanwhile is
    backfilled at a dose below the present one that has shown a response, there or lower, and is
    not too toxic. A dose closes while its own rate of DLTs, and the rate pooled with the next
    higher dose, both ask for de-escalation; the doses above it close with it. Where the data of a
    backfilled dose ask for a more cautious decision than those of the present one, both and
    the doses between them are pooled.

    Attributes
    ----------
    most_backfilled
        Patients at a dose, of escalation and backfilling, at which backfilling there ends.
    backfill_at
        Which open dose is backfilled, ``"highest"`` or ``"lowest"``.
    pool_from
        From which of several doses in conflict data are pooled.

    Examples
    --------
    >>> from pkpd.designs import Pending, TrialData
    >>> design = BackfillBOIN(levels=3, target=0.25)
    >>> waiting = tuple(Pending(2, 0.5) for _ in range(3))
    >>> seen = TrialData((3, 3, 0), (0, 0, 0), 2, waiting, responses=(1, 0, 0))
    >>> design.next_dose(seen).backfill
    1
    """

    name: ClassVar[str] = "BF-BOIN"
    backfills: ClassVar[bool] = True

    most_backfilled: int = 12
    backfill_at: str = "highest"
    pool_from: str = "highest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most_backfilled < 1:
            self._refuse("most_backfilled", f"it is {self.most_backfilled}", "1 or more")
        for key in ("backfill_at", "pool_from"):
            if getattr(self, key) not in WHICH:
                self._refuse(key, f"{getattr(self, key)!r}", ", ".join(WHICH))

    def _awaited(self, data: Trials) -> np.ndarray:
        """Those of the latest cohort, and not backfilled patients."""
        return data.cohort_pending

    def rule(self, data: Trials) -> Decisions:
        """As BOIN on the patients whose assessment has ended, reconciled with backfilled doses."""
        seen = data.without_pending()
        turn = self.category(seen.at(seen.dlts), seen.at(seen.treated))
        turn, level = self._reconciled(seen, turn)
        own = self.follow(seen, turn)
        out = self.eliminated(seen)
        usable = np.maximum((~out).sum(axis=1), 1)
        moved = (level > 0) & (own.action != Action.STOP) & ~seen.at(out)
        to = np.where(moved, np.minimum(level, usable), own.level)
        now = data.current
        action = np.where(moved, np.where(to < now, Action.DEESCALATE, Action.STAY), own.action)
        return Decisions(to, action, own.why)

    def _reconciled(self, seen: Trials, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ask the pooled data, and the dose they send to where it is not a neighbour (else 0)."""
        now, conflict = seen.current, self._conflict(seen, turn)
        rows = np.flatnonzero(conflict.any(axis=1))
        level = np.zeros(len(now), int)
        turn = turn.copy()
        if not len(rows):
            return turn, level
        found = conflict[rows]
        first = np.argmax(found, axis=1) + 1
        last = self.levels - np.argmax(found[:, ::-1], axis=1)
        anchor = last if self.pool_from == "highest" else first
        pooled = self._pooled(seen, rows, anchor, now[rows])
        turn[rows] = pooled
        down = pooled == -1
        to = np.maximum(anchor - 1, 1)
        for k in range(1, self.levels):
            inside = (k >= anchor) & (k < now[rows])
            fine = inside & (self._pooled(seen, rows, anchor, np.full(len(rows), k)) != -1)
            to = np.where(fine, k, to)  # the highest dose that the pooled data bear
        level[rows[down]] = to[down]
        return turn, level

    def _conflict(self, seen: Trials, turn: np.ndarray) -> np.ndarray:
        """Backfilled doses that ask for more caution than the present one, ``(trials, levels)``."""
        each = self.category(seen.dlts, seen.treated)
        below = np.arange(1, self.levels + 1) < seen.current[:, None]
        below &= (seen.backfilled > 0) & (seen.treated > 0)
        return below & ((each == -1) | ((each == 0) & (turn[:, None] == 1)))

    def explain(self, data: Trials, decision: Decisions) -> str:
        """As BOIN, and which data were pooled."""
        seen = data.without_pending()
        text = super().explain(seen, decision)
        found = np.flatnonzero(self._conflict(seen, self.turn(seen))[0])
        if not len(found) or decision.action[0] == Action.STOP or seen.at(self.eliminated(seen))[0]:
            return text
        first = int(found[-1 if self.pool_from == "highest" else 0])
        n, y = (int(c[0, first : data.current[0]].sum()) for c in (seen.treated, seen.dlts))
        pooled = f"{y} of {patients(n)} from dose {first + 1} on had one"
        return f"{text}; a backfilled dose asks for more caution: {pooled}, taken together"

    def _pooled(
        self, seen: Trials, rows: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        levels = np.arange(1, self.levels + 1)
        inside = (levels >= low[:, None]) & (levels <= high[:, None])
        dlts = (seen.dlts[rows] * inside).sum(axis=1)
        return self.category(dlts, (seen.treated[rows] * inside).sum(axis=1))

    def backfill(self, data: Trials) -> np.ndarray:
        """Dose for a patient who comes while escalation waits, shape ``(trials,)``; 0 for none."""
        seen = data.without_pending()
        now, levels = data.current, np.arange(1, self.levels + 1)
        own = self.category(seen.dlts, seen.treated) == -1
        next_dlts, next_treated = np.zeros_like(seen.dlts), np.zeros_like(seen.treated)
        next_dlts[:, :-1], next_treated[:, :-1] = seen.dlts[:, 1:], seen.treated[:, 1:]
        both = self.category(seen.dlts + next_dlts, seen.treated + next_treated) == -1
        below = levels < now[:, None]
        closed = np.logical_or.accumulate(own & both & below, axis=1)
        response = np.logical_or.accumulate(data.responses > 0, axis=1)
        full = data.treated >= self.most_backfilled
        open_ = below & response & ~closed & ~full & ~self.eliminated(seen)
        highest = self.levels - np.argmax(open_[:, ::-1], axis=1)
        lowest = np.argmax(open_, axis=1) + 1
        level = highest if self.backfill_at == "highest" else lowest
        return np.where(open_.any(axis=1), level, 0)
