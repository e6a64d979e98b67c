"""What is known in a trial, and what a design decides: for one trial, and for many at once.

Doses are counted from 1, the lowest, as the field does; level 0 means none. Arrays of many trials
have the shape ``(trials, levels)`` and column ``j`` belongs to level ``j + 1``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from pkpd.arguments import TEXT, Kind, a, check_arguments, from_to, several
from pkpd.designs.kinds import WHOLES, check_fields
from pkpd.errors import PkpdError

MOST_PATIENTS = 1000
"""Of a trial; tables of decisions grow with its square."""


class Action(IntEnum):
    """What happens next, as seen from the present dose."""

    START = 0
    ESCALATE = 1
    STAY = 2
    DEESCALATE = 3
    SUSPEND = 4
    STOP = 5

    @property
    def words(self) -> str:
        """As a report says it."""
        return ("start", "escalate", "stay", "de-escalate", "suspend accrual", "stop")[self]


class Why(IntEnum):
    """Why a trial stops."""

    GOES_ON = 0
    TOO_TOXIC = 1
    MTD_FOUND = 2
    ENOUGH = 3
    MAXIMUM = 4
    PRECISE = 5

    @property
    def words(self) -> str:
        """As a report says it."""
        return (
            "goes on",
            "too toxic",
            "MTD found",
            "enough patients at the dose",
            "maximum number of patients",
            "precise enough",
        )[self]


@dataclass(frozen=True)
class Pending:
    """A patient without a DLT whose assessment window has not ended.

    Attributes
    ----------
    level
        Dose, counted from 1.
    weight
        Share of the whole window's information that the follow-up so far carries, from 0 to 1, as
        one of the functions of `pkpd.designs.weights` gives it; below 0 where a forecast has risen
        above the risk (`weight_of_forecast`). At 1 `TrialData` takes the assessment as ended.
    fraction
        Probability of a DLT by the end of the window, given what was seen of the patient: he then
        counts as this part of a DLT among those whose assessment has ended, and has no weight.
        ``None``: the weight counts.
    """

    level: int
    weight: float = 0.0
    fraction: float | None = None

    def __post_init__(self) -> None:
        check_fields("Pending", self)
        if self.fraction is not None and not 0.0 <= self.fraction <= 1.0:
            what = f"the fraction of a pending patient is {self.fraction:g}"
            raise PkpdError(where="pending", what=what, allowed="0 to 1")
        if self.fraction is not None and self.weight != 0.0:
            what, remedy = "a pending patient has a weight and a fraction", "give one of them"
            raise PkpdError(where="pending", what=what, remedy=remedy)
        if not -np.inf < self.weight <= 1.0:
            what = f"the weight of a pending patient is {self.weight:g}"
            raise PkpdError(where="pending", what=what, allowed="at most 1")


@dataclass(frozen=True)
class TrialData:
    """What one trial has seen so far.

    Attributes
    ----------
    treated
        Patients at each dose, pending ones with them.
    dlts
        Patients with a dose-limiting toxicity at each dose.
    current
        Dose of the latest patients; 0 before the first.
    pending
        Patients whose assessment has not ended.
    last_cohort
        Patients of the latest cohort and how many of them had a DLT, among those of the present
        dose; for designs that ask.
    lacking
        Patients whom the latest cohort still lacks: they are treated at its dose before the next
        decision (`Design.fills`); 0 where it is full.
    backfilled
        Patients at each dose who were backfilled, among those treated; empty for none.
    responses
        Patients with a response at each dose, for backfilling; empty for none.
    dropped
        Lowest dose that was dropped before, out with all higher ones for good; 0 for none.

    Raises
    ------
    PkpdError
        If counts are negative, or contradict one another.
    """

    treated: tuple[int, ...]
    dlts: tuple[int, ...]
    current: int = 0
    pending: tuple[Pending, ...] = ()
    last_cohort: tuple[int, int] | None = None
    backfilled: tuple[int, ...] = ()
    responses: tuple[int, ...] = ()
    dropped: int = 0
    lacking: int = 0

    def __post_init__(self) -> None:
        each = several(a(Pending), "a list of Pending(level, weight)")
        check_fields("TrialData", self, pending=each)
        for name in ("treated", "dlts", "pending", "backfilled", "responses"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        levels = len(self.treated)
        pairs = (("dlts", self.dlts), ("backfilled", self.backfilled))
        for name, counts in (*pairs, ("responses", self.responses)):
            if (counts or name == "dlts") and len(counts) != levels:
                what = f"{len(counts)} counts where treated has {levels}"
                raise PkpdError(where=name, what=what, remedy="give one for each dose")
        for level, (n, y) in enumerate(zip(self.treated, self.dlts, strict=True), start=1):
            check_counts(f"level {level}", n, y)
        for name, counts in (*pairs[1:], ("responses", self.responses)):
            for level, (most, n) in enumerate(zip(self.treated, counts, strict=False), start=1):
                if not 0 <= n <= most:
                    what = f"{name} is {n}"
                    where, allowed = f"level {level}", f"from 0 to the {most} treated"
                    raise PkpdError(where=where, what=what, allowed=allowed)
        for name, level in (("current", self.current), ("dropped", self.dropped)):
            if not 0 <= level <= levels:
                what = f"the {'present' if name == 'current' else 'dropped'} dose is {level}"
                raise PkpdError(where=name, what=what, allowed=f"from 0 to {levels}")
        if self.lacking and (self.lacking < 0 or self.last_cohort is None):
            what = f"the latest cohort lacks {self.lacking}"
            allowed, remedy = "0 or more patients", "give last_cohort=(patients, DLTs), too"
            raise PkpdError(where="lacking", what=what, allowed=allowed, remedy=remedy)
        if self.current == 0 and any(self.treated):
            what, remedy = "patients were treated and no present dose is given", "name it"
            raise PkpdError(where="current", what=what, remedy=remedy)
        if self.last_cohort is not None:
            n, y = (c[self.current - 1] if self.current else 0 for c in (self.treated, self.dlts))
            _check_cohort(self.last_cohort, n, y)
        for one in self.pending:
            if not 1 <= one.level <= levels:
                what = f"a pending patient is at level {one.level}"
                raise PkpdError(where="pending", what=what, allowed=f"1 to {levels}")
        for level in range(1, levels + 1):
            waiting = sum(one.level == level for one in self.pending)
            if waiting > self.treated[level - 1] - self.dlts[level - 1]:
                what = f"{waiting} patients are pending of {self.treated[level - 1]} treated"
                if self.dlts[level - 1]:
                    what += f" with {self.dlts[level - 1]} DLTs"
                remedy = "a patient with a DLT is no longer pending"
                raise PkpdError(where=f"level {level}", what=what, remedy=remedy)
        waits = tuple(one for one in self.pending if one.weight < 1)
        object.__setattr__(self, "pending", waits)

    @classmethod
    def from_cohorts(cls, levels: int, cohorts: Iterable[tuple[int, int, int]]) -> TrialData:
        """Add up cohorts in their order: level, patients treated, patients with a DLT.

        Examples
        --------
        >>> TrialData.from_cohorts(3, [(1, 3, 0), (2, 3, 1)])
        TrialData(treated=(3, 3, 0), dlts=(0, 1, 0), current=2, pending=(), last_cohort=(3, 1), \
backfilled=(), responses=(), dropped=0, lacking=0)
        """
        each = "a list of (level, treated, dlts), such as [(1, 3, 0)]"
        cohorts = tuple(cohorts) if isinstance(cohorts, Iterable) else cohorts
        kind = several(_COHORT, each)
        check_arguments(
            "TrialData.from_cohorts", levels=(levels, from_to(1)), cohorts=(cohorts, kind)
        )
        treated, dlts, current, last = [0] * levels, [0] * levels, 0, None
        for level, n, y in cohorts:
            check_level(level, levels)
            check_counts(f"level {level}", n, y)
            treated[level - 1] += n
            dlts[level - 1] += y
            current, last = level, (n, y)
        return cls(tuple(treated), tuple(dlts), current, last_cohort=last)

    @classmethod
    def from_outcomes(cls, levels: int, text: str) -> TrialData:
        """Read outcomes as the field writes them: ``"1NNN 2NTT"``, N for none and T for a DLT.

        Raises
        ------
        PkpdError
            If a cohort is not a dose followed by letters N and T.

        Examples
        --------
        >>> TrialData.from_outcomes(3, "1NNN 2NTT").dlts
        (0, 2, 0)
        """
        example = Kind('text such as "1NNN 2NTT"', TEXT.holds)
        check_arguments("TrialData.from_outcomes", text=(text, example))
        cohorts = []
        for word in text.split():
            letters = word.lstrip("0123456789")
            if not letters or letters == word or set(letters) - {"N", "T"}:
                what = f"{word!r} is not a cohort"
                allowed = "a dose and one letter for each patient, N or T, such as 2NNT"
                raise PkpdError(where="outcomes", what=what, allowed=allowed)
            cohorts.append((int(word[: -len(letters)]), len(letters), letters.count("T")))
        return cls.from_cohorts(levels, cohorts)

    def batch(self) -> Trials:
        """Put the same as a batch of one trial."""
        levels = len(self.treated)
        waiting = np.zeros((1, levels), int)
        followed = np.zeros((1, levels))
        least = np.full((1, levels), np.inf)
        for one in self.pending:
            waiting[0, one.level - 1] += 1
            if one.fraction is None:
                followed[0, one.level - 1] += one.weight
                least[0, one.level - 1] = min(least[0, one.level - 1], one.weight)
        last_n, last_y = self.last_cohort or (0, 0)
        zeros = (0,) * levels
        return Trials(
            treated=np.array([self.treated]),
            dlts=np.array([self.dlts]),
            current=np.array([self.current]),
            pending=waiting,
            followed=followed,
            least_followed=least,
            pending_level=np.array([[one.level for one in self.pending]], int).reshape(1, -1),
            pending_weight=np.array([[one.weight for one in self.pending]]).reshape(1, -1),
            pending_fraction=np.array(
                [[np.nan if one.fraction is None else one.fraction for one in self.pending]]
            ).reshape(1, -1),
            last_treated=np.array([last_n]),
            last_dlts=np.array([last_y]),
            backfilled=np.array([self.backfilled or zeros]),
            responses=np.array([self.responses or zeros]),
            dropped=np.array([self.dropped]),
            lacking=np.array([self.lacking]),
        )


_COHORT = Kind("three whole numbers", lambda v: WHOLES.holds(v) and len(tuple(v)) == 3)


def _none(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, int)


@dataclass(frozen=True)
class Trials:
    """What many trials have seen so far.

    Attributes
    ----------
    treated, dlts
        Counts, shape ``(trials, levels)``.
    current
        Dose of the latest patients, shape ``(trials,)``; 0 before the first.
    pending
        Patients whose assessment has not ended, shape ``(trials, levels)``.
    followed, least_followed
        Sum and least of the weights of pending patients, shape ``(trials, levels)``; the least is
        infinite where nobody with a weight is pending.
    pending_level, pending_weight, pending_fraction
        Each pending patient, shape ``(trials, patients)``; level 0 fills rows up. The fraction is
        NaN where the weight counts.
    last_treated, last_dlts
        The latest cohort, shape ``(trials,)``.
    backfilled
        Backfilled patients among those treated, shape ``(trials, levels)``.
    responses
        Patients with a response, shape ``(trials, levels)``.
    cohort_pending
        Patients of the latest cohort who are pending, shape ``(trials,)``; by default all who are
        pending at the present dose.
    dropped
        Lowest dose that was dropped before, shape ``(trials,)``; 0 for none.
    lacking
        Patients whom the latest cohort still lacks, shape ``(trials,)``.
    """

    treated: np.ndarray
    dlts: np.ndarray
    current: np.ndarray
    pending: np.ndarray = field(default_factory=lambda: _none((0,)))
    followed: np.ndarray = field(default_factory=lambda: _none((0,)))
    least_followed: np.ndarray = field(default_factory=lambda: _none((0,)))
    pending_level: np.ndarray = field(default_factory=lambda: _none((0,)))
    pending_weight: np.ndarray = field(default_factory=lambda: _none((0,)))
    pending_fraction: np.ndarray = field(default_factory=lambda: _none((0,)))
    last_treated: np.ndarray = field(default_factory=lambda: _none((0,)))
    last_dlts: np.ndarray = field(default_factory=lambda: _none((0,)))
    backfilled: np.ndarray = field(default_factory=lambda: _none((0,)))
    responses: np.ndarray = field(default_factory=lambda: _none((0,)))
    cohort_pending: np.ndarray = field(default_factory=lambda: _none((0,)))
    dropped: np.ndarray = field(default_factory=lambda: _none((0,)))
    lacking: np.ndarray = field(default_factory=lambda: _none((0,)))

    def __post_init__(self) -> None:
        shape = self.treated.shape
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        for name, value, kind in (
            ("pending", 0, int),
            ("followed", 0.0, float),
            ("least_followed", np.inf, float),
            ("backfilled", 0, int),
            ("responses", 0, int),
        ):
            if getattr(self, name).shape != shape:
                put(name, np.full(shape, value, kind))
        if self.pending_level.shape[:1] != shape[:1] or self.pending_level.ndim != 2:
            put("pending_level", np.zeros((shape[0], 0), int))
            put("pending_weight", np.zeros((shape[0], 0)))
        if self.pending_fraction.shape != self.pending_level.shape:
            put("pending_fraction", np.full(self.pending_level.shape, np.nan))
        if self.last_dlts.shape != shape[:1]:
            put("last_treated", np.zeros(shape[0], int))
            put("last_dlts", np.zeros(shape[0], int))
        for name in ("dropped", "lacking"):
            if getattr(self, name).shape != shape[:1]:
                put(name, np.zeros(shape[0], int))
        if self.cohort_pending.shape != shape[:1]:
            put("cohort_pending", self.at(self.pending) * (self.current > 0))

    @property
    def completed(self) -> np.ndarray:
        """Patients with a DLT or with their whole window behind them."""
        return self.treated - self.pending

    @property
    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Sum of the fractions of pending patients, and how many have one, ``(trials, levels)``."""
        has = (self.pending_level > 0) & np.isfinite(self.pending_fraction)
        total, count = np.zeros(self.treated.shape), np.zeros(self.treated.shape, int)
        for j in range(self.levels if has.any() else 0):
            here = has & (self.pending_level == j + 1)
            total[:, j] = np.where(here, self.pending_fraction, 0.0).sum(axis=1)
            count[:, j] = here.sum(axis=1)
        return total, count

    @property
    def levels(self) -> int:
        """Number of doses."""
        return self.treated.shape[1]

    def at(self, counts: np.ndarray, level: np.ndarray | None = None) -> np.ndarray:
        """Pick the column of one level of each trial, by default the present dose."""
        column = np.clip((self.current if level is None else level) - 1, 0, self.levels - 1)
        return np.take_along_axis(counts, column[:, None], axis=1)[:, 0]

    def take(self, rows: np.ndarray) -> Trials:
        """Keep some of the trials."""
        return Trials(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def without_pending(self) -> Trials:
        """Only patients whose assessment has ended."""
        none = np.zeros(self.treated.shape, int)
        return replace(
            self,
            treated=self.completed,
            pending=none,
            followed=none.astype(float),
            least_followed=np.full(none.shape, np.inf),
            pending_level=np.zeros((len(none), 0), int),
            pending_weight=np.zeros((len(none), 0)),
            pending_fraction=np.zeros((len(none), 0)),
            cohort_pending=np.zeros(len(none), int),
        )


def batch_of(data: Trials | TrialData) -> Trials:
    """Trials as they are, and one trial as a batch of one.

    Raises
    ------
    PkpdError
        If it is neither.
    """
    if isinstance(data, Trials):
        return data
    check_arguments("design", data=(data, a(TrialData, Trials)))
    return data.batch()


@dataclass(frozen=True)
class Decisions:
    """What a design decides in many trials.

    Attributes
    ----------
    level
        Dose of the next patients, shape ``(trials,)``; where the trial stops, the dose it would
        have been, or 0 for none.
    action
        Of `Action`, shape ``(trials,)``.
    why
        Of `Why`, shape ``(trials,)``.
    """

    level: np.ndarray
    action: np.ndarray
    why: np.ndarray


@dataclass(frozen=True)
class Decision:
    """What a design decides now.

    Attributes
    ----------
    action
        What happens next.
    level
        Dose of the next patients, counted from 1; ``None`` where the trial stops.
    reason
        One sentence.
    why
        Why the trial stops.
    mtd
        Where the trial stops, the selected dose; ``None`` for none, and while it goes on.
    eliminated
        Doses that are out of the trial.
    backfill
        Dose of patients who come while accrual to escalation is suspended; ``None`` for none.
    """

    action: Action
    level: int | None
    reason: str
    why: Why = Why.GOES_ON
    mtd: int | None = None
    eliminated: tuple[int, ...] = ()
    backfill: int | None = None


def check_level(level: int, levels: int) -> None:
    """Refuse a level that is not one of the doses."""
    if not 1 <= level <= levels:
        what = f"level {level} is not a dose of this design"
        raise PkpdError(where="dose", what=what, allowed=f"1 to {levels}")


def _check_cohort(cohort: tuple[int, int], treated: int, dlts: int) -> None:
    """Refuse a latest cohort that is not among the patients of the present dose."""
    for part, whole, whom in (
        (cohort[1], dlts, "patients with a DLT"),
        (cohort[0] - cohort[1], treated - dlts, "patients without one"),
    ):
        if not 0 <= part <= whole:
            what = f"{cohort} has {part} {whom}"
            allowed = f"from 0 to the {whole} at the present dose"
            remedy = "give patients of the latest cohort, and how many of them had a DLT"
            raise PkpdError(where="last_cohort", what=what, allowed=allowed, remedy=remedy)


def check_counts(where: str, treated: int, dlts: int) -> None:
    """Refuse negative counts, and more patients with a DLT than were treated."""
    for name, count in (("treated", treated), ("dlts", dlts)):
        if count < 0:
            what = f"{name} is {count}"
            raise PkpdError(where=where, what=what, allowed="0 or more")
    if dlts > treated:
        what = f"{dlts} patients with a DLT of {treated} treated"
        remedy = "count patients, not toxicities: each at most once"
        raise PkpdError(where=where, what=what, remedy=remedy)
