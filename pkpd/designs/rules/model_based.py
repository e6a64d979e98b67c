"""What designs with a dose-toxicity model share: the posterior, restrictions, overdose control."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pkpd.arguments import Kind
from pkpd.designs.data import Action, Decisions, TrialData, Trials, Why, batch_of
from pkpd.designs.kinds import check_fields, check_target, one_or_none
from pkpd.designs.merging import merged
from pkpd.designs.protocol import Design, patients, towards
from pkpd.designs.rules.posterior import Curves
from pkpd.errors import PkpdError

COHERENCE = ("none", "rate", "cohort")
_MOST_KNOWN = 200_000


@dataclass(frozen=True)
class OverdoseControl:
    """Escalation with overdose control (EWOC): which doses may be given.

    Attributes
    ----------
    limit
        Risk above which a dose is an overdose.
    certainty
        Posterior probability of an overdose up to which a dose may be given.
    """

    limit: float
    certainty: float = 0.25

    def __post_init__(self) -> None:
        check_fields("OverdoseControl", self)
        for name, value in (("limit", self.limit), ("certainty", self.certainty)):
            if not 0 < value < 1:
                what = f"{name} is {value:g}"
                raise PkpdError(where="overdose control", what=what, allowed="between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ModelDesign(Design):
    """A design that follows the posterior of a dose-toxicity curve.

    Attributes
    ----------
    target
        Risk of a DLT that is aimed at.
    skip_up, skip_down
        Whether doses may be skipped on the way up or down from the present one. On the way down
        those are skipped that overdose control forbids, whatever is set.
    coherence
        ``"rate"``: no escalation while the rate of DLTs at the present dose exceeds the target;
        ``"cohort"``: none after a cohort whose rate is the target or more; ``"none"``.
    overdose
        Which doses may be given at all; ``None`` for all. No other restriction leads to a dose that
        it forbids; the first patients alone are treated at `start` whatever the prior says.
    """

    target: float
    skip_up: bool = False
    skip_down: bool = True
    coherence: str = "cohort"
    overdose: OverdoseControl | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_target(self.target)
        if self.coherence not in COHERENCE:
            self._refuse("coherence", f"{self.coherence!r}", ", ".join(COHERENCE))

    def _classes(self) -> dict[str, Kind]:
        """Kinds of the settings that are objects of this package."""
        return {**super()._classes(), "overdose": one_or_none(OverdoseControl)}

    @property
    def uses_last_cohort(self) -> bool:  # type: ignore[override]
        """Whether the latest cohort's own outcome matters."""
        return self.coherence == "cohort"

    @property
    @abstractmethod
    def curves(self) -> Curves:
        """Grid of dose-toxicity curves."""

    @abstractmethod
    def risks(self, data: Trials | TrialData) -> np.ndarray:
        """Estimated risk at each dose, shape ``(trials, levels)``; of one trial in the one row."""

    @abstractmethod
    def wanted(self, data: Trials) -> np.ndarray:
        """Dose that the posterior asks for among those allowed, ``(trials,)``; 0 for none."""

    def check(self, data: TrialData) -> None:
        """Refuse counts without the latest cohort where a decision looks at it."""
        if self.uses_last_cohort and data.current and data.last_cohort is None:
            raise PkpdError(
                where=f"{self.name}, coherence",
                what="the dose may not rise after DLTs in the latest cohort, and it is not given",
                remedy="give last_cohort=(patients, DLTs), use TrialData.from_cohorts, or set "
                'coherence="rate"',
            )

    # -- the posterior -------------------------------------------------------------------------

    def _averaged(self, curves: Curves) -> dict[str, np.ndarray]:
        """Values to be averaged over the posterior, shape ``(quantities, points)`` each."""
        made = {"parameters": curves.grid, "squares": curves.grid**2, "risks": curves.risks}
        if self.overdose is not None:
            made["over"] = self._shares(curves, self.overdose.limit)
        return made

    def _shares(self, curves: Curves, limit: float) -> np.ndarray:
        return np.stack([curves.share_above(j, limit) for j in range(1, self.levels + 1)])

    def _values(self, curves: Curves) -> np.ndarray:
        if "averaged" not in curves.kept:
            curves.kept["averaged"] = np.concatenate(list(self._averaged(curves).values()))
        return curves.kept["averaged"]

    @cached_property
    def _columns(self) -> dict[str, slice]:
        """Where each kind of quantity is among those averaged."""
        ends = 0
        found = {}
        for name, values in self._averaged(self.curves).items():
            found[name] = slice(ends, ends + len(values))
            ends += len(values)
        return found

    @cached_property
    def _known(self) -> dict[bytes, np.ndarray]:
        """Posterior means of counts that were asked for before."""
        return {}

    def posterior(self, data: Trials | TrialData, name: str) -> np.ndarray:
        """Posterior means of one kind of quantity, shape ``(trials, quantities)``.

        Parameters
        ----------
        data
            What the trials, or one, have seen. Counts without pending patients are looked up once.
        name
            ``"parameters"``, ``"squares"`` of them, ``"risks"`` or ``"over"``, the probabilities of
            an overdose.
        """
        data = batch_of(data)
        columns = self._columns[name]
        if data.pending_level.any():
            return self.curves.expect(data, self._values)[:, columns]
        counts = np.concatenate([data.completed, data.dlts], axis=1).astype(np.int32)
        first, back = merged(counts)
        keys = [counts[row].tobytes() for row in first]
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            found = self.curves.expect(data.take(first[new]), self._values)
            self._known.update(zip([keys[i] for i in new], found, strict=True))
        return np.stack([self._known[key] for key in keys])[:, columns][back]

    def moments(self, data: Trials | TrialData) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and variances of the parameters, ``(trials, parameters)`` each."""
        mean = self.posterior(data, "parameters")
        return mean, self.posterior(data, "squares") - mean**2

    def exceeds(self, data: Trials | TrialData, level: int, limit: float) -> np.ndarray:
        """Posterior probability that the risk at a dose exceeds a limit."""
        data = self._batch(data, level, limit)
        if self.overdose is not None and limit == self.overdose.limit:
            return self.posterior(data, "over")[:, level - 1]
        return self.curves.exceeds(data, level, limit)

    # -- the design ----------------------------------------------------------------------------

    def allowed(self, data: Trials) -> np.ndarray:
        """Doses that overdose control leaves, shape ``(trials, levels)``."""
        if self.overdose is None:
            return np.ones(data.treated.shape, bool)
        return self.overdoses(data) <= self.overdose.certainty + 1e-12

    def overdoses(self, data: Trials) -> np.ndarray:
        """Probability that each dose is an overdose, shape ``(trials, levels)``."""
        return self.posterior(data, "over")

    def eliminated(self, data: Trials | TrialData) -> np.ndarray:
        """Doses that overdose control leaves out."""
        return ~self.allowed(batch_of(data))

    def rule(self, data: Trials) -> Decisions:
        """Go where the posterior asks for, within the restrictions."""
        return towards(data, self.restricted(data, self.wanted(data)))

    def restricted(self, data: Trials, wanted: np.ndarray) -> np.ndarray:
        """Hold back the dose asked for from skipping and from incoherent escalation.

        Of doses above the one asked for, on the way down, the highest that overdose control allows.
        """
        now, level = data.current, wanted
        if not self.skip_up:
            level = np.minimum(level, now + 1)
        if not self.skip_down:
            level = np.where(level > 0, np.maximum(level, now - 1), level)
        if self.coherence == "rate":
            n, y = data.at(data.completed), data.at(data.dlts)
            level = np.where(y > self.target * n, np.minimum(level, now), level)
        elif self.coherence == "cohort":
            bad = (data.last_treated > 0) & (data.last_dlts >= self.target * data.last_treated)
            level = np.where(bad, np.minimum(level, now), level)
        return self.capped(data, level)

    def capped(self, data: Trials, level: np.ndarray) -> np.ndarray:
        """Highest dose up to these that overdose control allows, ``(trials,)``; 0 for none."""
        if self.overdose is None:
            return level
        may = self.allowed(data) & (np.arange(1, self.levels + 1) <= level[:, None])
        highest = self.levels - np.argmax(may[:, ::-1], axis=1)
        return np.where(may.any(axis=1), highest, 0)

    def select(self, data: Trials | TrialData) -> np.ndarray:
        """Dose that would be given next; 0 for none."""
        data = batch_of(data)
        return self.restricted(data, self.wanted(data))

    def opening(self, data: Trials) -> str:
        """Say so where the prior alone would not allow the first dose."""
        if self.allowed(data)[0, self.start - 1]:
            return ""
        text = f"; by the prior dose {self.start} exceeds {self._over(data, self.start)}: overdose "
        return f"{text}control begins with the first outcomes"

    def _over(self, data: Trials, level: int) -> str:
        """Limit and probability of an overdose, as a part of a sentence."""
        assert self.overdose is not None
        over = float(self.overdoses(data)[0, level - 1])
        found = f"a risk of {self.overdose.limit:g} with probability {over:.3f}"
        return f"{found}, above {self.overdose.certainty:g}"

    def explain(self, data: Trials, decision: Decisions) -> str:
        """Estimated risks around the dose, and what held the design back."""
        wanted, level = int(self.wanted(data)[0]), int(decision.level[0])
        if Why(int(decision.why[0])) == Why.TOO_TOXIC and wanted == 0:
            return f"even the lowest dose exceeds {self._over(data, 1)}"
        risks = self.risks(data)[0]
        text = f"the risk at dose {wanted} is estimated as {risks[wanted - 1]:.3f}"
        text += self._compared(data, wanted)
        if level != wanted:
            now = int(data.current[0])
            held = "doses are not skipped" if abs(wanted - now) > 1 else ""
            if level <= now < wanted:
                n, y = int(data.at(data.completed)[0]), int(data.at(data.dlts)[0])
                if self.coherence == "cohort":
                    n, y = int(data.last_treated[0]), int(data.last_dlts[0])
                held = f"the dose does not rise after {y} of {patients(n)} had a DLT"
            if wanted < level < now - 1:
                held = f"{held}, and dose {level + 1} exceeds {self._over(data, level + 1)}"
            text += f", but {held}"
        return text + self._what_waits(data, decision)

    def _what_waits(self, data: Trials, decision: Decisions) -> str:
        """Say for whom accrual waits, if it does: the end of a clause."""
        if Action(int(decision.action[0])) != Action.SUSPEND:
            return ""
        waiting = int(data.pending.sum())
        return f"; accrual waits for {waiting} pending patient{'' if waiting == 1 else 's'}"

    def _compared(self, data: Trials, wanted: int) -> str:
        del data, wanted
        return f", closest to the target {self.target:g}"
