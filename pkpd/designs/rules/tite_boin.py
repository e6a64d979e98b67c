"""Time-to-event BOIN: the interval design with pending patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pkpd.designs.data import Action, Decisions, Trials, Why
from pkpd.designs.protocol import patients
from pkpd.designs.rules.interval import BOIN

ESTIMATORS = ("imputation", "effective sample size")


@dataclass(frozen=True, kw_only=True)
class TiteBOIN(BOIN):
    """Time-to-event BOIN (Yuan 2018; Lin and Yuan 2020).

    With nobody pending it is BOIN. With c of n patients pending, of total weight s, the rate of
    DLTs is estimated in one of two ways. ``"imputation"`` gives each pending patient his expected
    DLT: ``(y + odds (c - s)) / n`` with odds ``p / (1 - p)`` and
    ``p = (y + target / 2) / (n - c + 1)``; it escalates only while y / n is below the target and
    de-escalates only at or above it. ``"effective sample size"`` takes ``y / (n - c + s)``. Pending
    patients with a fraction (`Pending`) are added to y by it, and are no longer among the c of an
    estimate; what asks whose assessment has ended (`most_pending_share`, `completed_to_escalate`)
    counts them among the pending.

    Attributes
    ----------
    estimator
        One of the two.
    most_pending_share
        Suspend accrual while more than this share of the patients at the present dose is pending,
        unless the dose de-escalates whatever becomes of them; by default 0.5 with imputation and 1
        with the effective sample size.
    completed_to_escalate
        Patients at the present dose whose assessment must have ended before it escalates; by
        default 0 with imputation and 2 with the effective sample size.
    least_weight_to_escalate
        Weight that every pending patient at the present dose must have before it escalates.

    Examples
    --------
    >>> from pkpd.designs import Pending, TrialData
    >>> design = TiteBOIN(levels=3, target=0.2, start=1)
    >>> pending = (Pending(1, 0.2), Pending(1, 0.2), Pending(1, 0.3))
    >>> seen = TrialData((9, 0, 0), (1, 0, 0), current=1, pending=pending)
    >>> design.next_dose(seen).action.name
    'STAY'
    """

    name: ClassVar[str] = "TITE-BOIN"
    uses_pending: ClassVar[bool] = True

    estimator: str = "imputation"
    most_pending_share: float | None = None
    completed_to_escalate: int | None = None
    least_weight_to_escalate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimator not in ESTIMATORS:
            self._refuse("estimator", f"{self.estimator!r}", ", ".join(ESTIMATORS))
        if not 0 < self._share <= 1:
            self._refuse("most_pending_share", f"it is {self._share:g}", "above 0, at most 1")
        if self._completed < 0:
            self._refuse("completed_to_escalate", f"it is {self._completed}", "0 or more")
        if not 0 <= self.least_weight_to_escalate <= 1:
            weight = f"it is {self.least_weight_to_escalate:g}"
            self._refuse("least_weight_to_escalate", weight, "0 to 1")

    @property
    def _imputes(self) -> bool:
        return self.estimator == ESTIMATORS[0]

    @property
    def _share(self) -> float:
        usual = 0.5 if self._imputes else 1.0
        return usual if self.most_pending_share is None else self.most_pending_share

    @property
    def _completed(self) -> int:
        usual = 0 if self._imputes else 2
        return usual if self.completed_to_escalate is None else self.completed_to_escalate

    def thresholds(
        self,
        treated: np.ndarray,
        dlts: np.ndarray,
        pending: np.ndarray,
        fractions: np.ndarray | float = 0.0,
        fractional: np.ndarray | int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Total weight of pending patients at which the decision changes.

        Parameters
        ----------
        treated, dlts, pending
            Counts at the present dose; same shape.
        fractions, fractional
            Sum of the fractions of pending patients, and how many of them have one.

        Returns
        -------
        tuple of arrays
            Escalate at this weight or more, and de-escalate at this or less; infinite for never
            and for always.
        """
        n, c = np.asarray(treated, float), np.asarray(pending, float) - fractional
        y = np.asarray(dlts, float) + fractions
        low, high = self.escalation_rate, self.de_escalation_rate
        if self._imputes:
            with np.errstate(divide="ignore"):
                p = (y + self.target / 2) / (n - c + 1)
                odds_against = (1 - p) / p
            at_target = y >= self.target * n - 1e-12 * n
            up = np.where(at_target, np.inf, c - odds_against * (n * low - y))
            down = np.where(at_target, c - odds_against * (n * high - y), -np.inf)
        else:
            up, down = y / low - (n - c), np.where(y > 0, y / high - (n - c), -np.inf)
        stays = self.stay_at_1_of_3 & (n == 3) & (y < 2)
        return up, np.where(stays, -np.inf, down)

    def turns(
        self,
        treated: np.ndarray,
        dlts: np.ndarray,
        pending: np.ndarray,
        followed: np.ndarray,
        least: np.ndarray,
        fractions: np.ndarray | float = 0.0,
        fractional: np.ndarray | int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Escalate (1), stay (0) or de-escalate (-1), and whether accrual is suspended.

        Parameters
        ----------
        treated, dlts, pending
            Counts at the present dose; same shape.
        followed, least
            Sum and least of the weights of pending patients.
        fractions, fractional
            As of :meth:`thresholds`.
        """
        n, y, c = treated, dlts, pending
        up, down = self.thresholds(n, y, c, fractions, fractional)
        turn = np.where(followed >= up, 1, np.where(followed <= down, -1, 0))
        always_down = down >= c - fractional
        waits = self._too_many(n, c) | ((turn == 1) & self._blocked(n, c, least))
        waits &= ~always_down
        known = c == 0
        return np.where(known, self.category(y, n), turn), np.where(known, False, waits)

    def _too_many(self, treated: np.ndarray, pending: np.ndarray) -> np.ndarray:
        """Whether more patients are pending than accrual goes on with."""
        return pending > self._share * treated + 1e-12

    def _blocked(self, treated: np.ndarray, pending: np.ndarray, least: np.ndarray) -> np.ndarray:
        """Whether too little is known of the present dose for the next to follow."""
        few = treated - pending < self._completed
        return few | (least < self.least_weight_to_escalate)

    def _turns(self, data: Trials) -> tuple[np.ndarray, np.ndarray]:
        columns = (data.treated, data.dlts, data.pending, data.followed, data.least_followed)
        return self.turns(*(data.at(column) for column in (*columns, *data.fractions)))

    def turn(self, data: Trials) -> np.ndarray:
        """Escalate (1), stay (0) or de-escalate (-1) at the present dose."""
        return self._turns(data)[0]

    def rule(self, data: Trials) -> Decisions:
        """As BOIN with the estimate of the rate, and suspend while too little is known."""
        turn, waits = self._turns(data)
        own = self.follow(data, turn)
        out = data.at(self.eliminated(data))
        n, c, least = map(data.at, (data.treated, data.pending, data.least_followed))
        # what escalation needs holds back a dose that rises, and no other
        rises = (own.level > data.current) & (c > 0)
        waits = (waits & self._too_many(n, c)) | (rises & self._blocked(n, c, least))
        waits |= rises & (turn != 1)  # a single patient of whom the news is bad
        # at the lowest dose there is nowhere to go down to: wait for those who are pending
        lowest = (turn == -1) & (data.current == 1) & (c > 0)
        waits = (waits | lowest) & ~out & (own.why != Why.TOO_TOXIC)
        action = np.where(waits, Action.SUSPEND, own.action)
        return Decisions(
            np.where(waits, data.current, own.level),
            action,
            np.where(waits, Why.GOES_ON, own.why),
        )

    def explain(self, data: Trials, decision: Decisions) -> str:
        """Rate at the present dose, and what the pending patients add."""
        c = int(data.at(data.pending)[0])
        enough = decision.why[0] == Why.ENOUGH
        if not c or enough or data.at(self.eliminated(data))[0]:
            return super().explain(data, decision)
        level, s = int(data.current[0]), float(data.at(data.followed)[0])
        n, y = int(data.at(data.treated)[0]), int(data.at(data.dlts)[0])
        text = (
            f"{y} of {patients(n)} at dose {level} had a DLT and {c} "
            f"{'is' if c == 1 else 'are'} pending with a total weight of {s:.2f}"
        )
        part, many = (data.at(column)[0] for column in data.fractions)
        if many:
            text += f", {many} of them as {part:.2f} DLTs"
        action = Action(int(decision.action[0]))
        if action == Action.SUSPEND:
            if c > self._share * n:
                return f"{text}; more than {self._share:.0%} are pending"
            if n - c < self._completed:
                return f"{text}; escalation needs {self._completed} whose assessment has ended"
            turn = int(self.turn(data)[0])
            if self.titrate and self._titrates(data)[0] and turn != 1:
                return f"{text}; titration goes on once the assessment has ended"
            if level == 1 and turn == -1:
                return f"{text}; there is no lower dose"
            return f"{text}; escalation needs a weight of {self.least_weight_to_escalate:g} of each"
        holds = self._what_holds(data, level) if action == Action.STAY else ""
        treated, dlts, waiting = np.array([n, y, c])
        up, down = map(float, self.thresholds(treated, dlts, waiting, part, many))
        if many == c:
            rate = f"a rate of {(y + part) / n:.2f}"
            low, high = self.escalation_rate, self.de_escalation_rate
            return f"{text}: {rate} (boundaries {low:.2f} and {high:.2f}){holds}"
        bounds = []
        if np.isfinite(up):
            always = up <= 0 and s >= 0  # a forecast may weigh less than nothing
            bounds.append("escalate whatever it is" if always else f"escalate at {up:.2f} or more")
        if np.isfinite(down) and down > 0:
            always = down >= c - many
            bounds.append(
                "de-escalate whatever it is" if always else f"de-escalate at {down:.2f} or less"
            )
        stays = "stay whatever it is" if s >= 0 else "stay"
        return f"{text}; {', '.join(bounds) or stays}{holds}"
