"""Rules of a protocol: doses on days, and blood counts for starting, holding and reducing.

Day 1 of a protocol is time 0: protocol day ``d`` covers the hours ``[24 (d - 1), 24 d)``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from pkpd.arguments import NONE, NUMBER, NUMBERS, TEXT, a, check_arguments, several
from pkpd.errors import PkpdError, UnitError
from pkpd.schedule.amounts import DOSE_UNITS, parse_days
from pkpd.schedule.checks import (
    check_one_of,
    check_positive,
    check_status,
    check_whole,
    is_multiple,
)

LINES = ("neutrophils", "platelets")
ROUTES = ("iv", "oral", "sc")

# Counts are in 10^9/L. Above these no protocol asks for recovery: the number is per microlitre.
_CAP = NUMBER | NONE
_FILE = ".toml"
HIGHEST_THRESHOLD = {"neutrophils": 20.0, "platelets": 1000.0}


@dataclass(frozen=True)
class Criterion:
    """A count that has to be reached: at least `at_least` (10^9/L) of one line.

    Raises
    ------
    PkpdError
        If the line is unknown.
    UnitError
        If the threshold is not positive, or so high that cells/uL were meant.
    """

    line: str
    at_least: float

    def __post_init__(self) -> None:
        if self.line not in LINES:
            raise PkpdError(
                where="count criterion",
                what=f"unknown blood count {self.line!r}",
                allowed=", ".join(LINES),
            )
        value = self.at_least
        check_arguments(f"{self.line} threshold", at_least=(value, NUMBER))
        if not math.isfinite(value) or value <= 0.0:
            raise UnitError(
                where=f"{self.line} threshold",
                what=f"{value:g} is not a count",
                allowed="a positive number of 10^9/L",
                remedy=f"leave out {self.line} if there is no threshold",
            )
        if value > HIGHEST_THRESHOLD[self.line]:
            raise UnitError(
                where=f"{self.line} threshold",
                what=f"{value:g} x 10^9/L cannot be meant, it looks like {value:g} cells/uL",
                allowed=f"up to {HIGHEST_THRESHOLD[self.line]:g} (10^9/L)",
                remedy=f"write {value / 1000.0:g}",
            )


@dataclass(frozen=True)
class DoseRule:
    """One amount of one drug on some days of a cycle.

    Attributes
    ----------
    drug
        Drug name, as its card is named, or the file of a drug card of your own (``"mine.toml"``),
        which gives the name.
    amount, unit
        Amount of one dose in ``mg``, ``mg/m^2`` or ``mg/kg``.
    days
        Days within the cycle, from 1.
    hour
        Hour of the day the dose starts, in [0, 24).
    route
        ``iv``, ``oral`` or ``sc``.
    duration_h
        Infusion time in h; 0 is a bolus (iv), an oral dose or an injection under the skin.
    cap_mg
        Largest dose in mg, after the body-size factor. In the marrow with leukaemia a drug that
        acts by its intensity has one dose for all patients: its cap, and a dose in mg or mg/kg, are
        those of a body of 1.8 m^2 and 75 kg.
    strengths_mg
        Available strengths; the dose is rounded to a multiple of the smallest (see
        :func:`pkpd.schedule.individual_dose_mg`); not that of a drug that acts by its intensity.
    source, status, note
        Where amount and days come from, and how well they are known (the weakest part counts).
        They do not take part in comparisons.
    unusual_dose
        Whether the amount is meant although it is far from the usual one of the drug's card
        (`pkpd.cards.usual_doses`). No part of comparisons either.
    card
        File of the drug card of one's own that acts; empty for the shipped card.
    """

    drug: str
    amount: float
    unit: str
    days: tuple[int, ...]
    hour: float = 0.0
    route: str = "iv"
    duration_h: float = 0.0
    cap_mg: float | None = None
    strengths_mg: tuple[float, ...] = ()
    source: str = field(default="", compare=False)
    status: str = field(default="assumed", compare=False)
    note: str = field(default="", compare=False)
    unusual_dose: bool = field(default=False, compare=False)
    card: str = ""

    def __post_init__(self) -> None:
        strengths = self.strengths_mg
        check_arguments("dose", drug=(self.drug, TEXT | NONE), hour=(self.hour, NUMBER))
        check_arguments("dose", strengths_mg=(strengths, NUMBERS), cap_mg=(self.cap_mg, _CAP))
        if self.drug and self.drug.endswith(_FILE):
            object.__setattr__(self, "card", os.path.abspath(self.drug))
            object.__setattr__(self, "drug", Path(self.drug).stem)
        if not self.drug or not self.drug.strip():
            raise PkpdError(where="dose", what="the drug has no name")
        where = f"dose of {self.drug}"
        if self.unit not in DOSE_UNITS:
            raise UnitError(
                where=where, what=f"unknown unit {self.unit!r}", allowed=", ".join(DOSE_UNITS)
            )
        check_positive(where, "the amount", self.amount, self.unit)
        object.__setattr__(self, "days", parse_days(self.days)[0])
        if not 0.0 <= self.hour < 24.0:
            raise PkpdError(
                where=where,
                what=f"hour {self.hour:g} is not an hour of the day",
                allowed="0 to below 24",
            )
        if self.route not in ROUTES:
            raise PkpdError(
                where=where, what=f"unknown route {self.route!r}", allowed=", ".join(ROUTES)
            )
        self._check_duration(where)
        self._check_strengths(where)
        check_status(where, self.status)

    @property
    def strength_mg(self) -> float:
        """Step in mg that doses are rounded to; 0 for none."""
        return self.strengths_mg[0] if self.strengths_mg else 0.0

    def _check_duration(self, where: str) -> None:
        if not math.isfinite(self.duration_h) or self.duration_h < 0.0:
            raise PkpdError(
                where=where, what=f"an infusion of {self.duration_h:g} h", allowed=">= 0"
            )
        if self.duration_h > 0.0 and self.route != "iv":
            raise PkpdError(
                where=where,
                what=f"a dose by route {self.route} has no infusion time",
                remedy="remove the duration, or give the dose iv",
            )
        if self.duration_h > 24.0 - self.hour + 1e-9:
            raise PkpdError(
                where=where,
                what=f"an infusion of {self.duration_h:g} h from hour {self.hour:g} runs into "
                "the next day",
                allowed=f"up to {24.0 - self.hour:g} h",
                remedy="give a continuous infusion as 24 h from hour 0 on each of its days",
            )

    def _check_strengths(self, where: str) -> None:
        for strength in self.strengths_mg:
            check_positive(where, "a capsule strength", strength, "mg")
        strengths = tuple(sorted(set(map(float, self.strengths_mg))))
        object.__setattr__(self, "strengths_mg", strengths)
        for strength in strengths:
            if not is_multiple(strength, strengths[0]):
                raise PkpdError(
                    where=where,
                    what=f"strength {strength:g} mg is not a multiple of the smallest, "
                    f"{strengths[0]:g} mg",
                    remedy="give only the step that doses are rounded to",
                )
        if self.cap_mg is not None:
            check_positive(where, "the largest dose", self.cap_mg, "mg")
            if strengths and not is_multiple(self.cap_mg, strengths[0]):
                raise PkpdError(
                    where=where,
                    what=f"the largest dose, {self.cap_mg:g} mg, is not a multiple of the "
                    f"smallest strength, {strengths[0]:g} mg",
                    remedy="change the cap or the strengths",
                )


@dataclass(frozen=True)
class Gate:
    """Counts that have to be reached before a course or a cycle starts.

    On the first possible day, and every `check_every_days` after it, the counts at the start of
    the day are looked at; treatment starts on the first day they are met. After `max_wait_days`
    without that, it starts anyway (``if_not_met="start"``) or all treatment stops (``"stop"``).
    """

    criteria: tuple[Criterion, ...]
    join: str = "all"
    check_every_days: int = 1
    max_wait_days: int = 28
    if_not_met: str = "start"
    source: str = field(default="", compare=False)
    status: str = field(default="assumed", compare=False)

    def __post_init__(self) -> None:
        criteria = several(a(Criterion), "a list of Criterion")
        check_arguments("gate", criteria=(self.criteria, criteria))
        object.__setattr__(self, "criteria", tuple(self.criteria))
        if not self.criteria:
            raise PkpdError(
                where="gate",
                what="no count is asked for",
                remedy="give neutrophils or platelets, or leave the gate out",
            )
        check_one_per_line("gate", self.criteria)
        check_one_of("gate", "join", self.join, ("all", "any"))
        check_one_of("gate", "if_not_met", self.if_not_met, ("start", "stop"))
        check_whole("gate", "check_every_days", self.check_every_days, 1)
        check_whole("gate", "max_wait_days", self.max_wait_days, 0)
        check_status("gate", self.status)


@dataclass(frozen=True)
class DoseModification:
    """Holding, resuming and reducing one drug by the counts seen on visits.

    On each visit (day 1 of each cycle, whenever it starts, and every `visit_every_days` after it,
    counts at the start of the day, before the day's dose) the drug is held if any count is below
    `hold_below`. A held drug resumes on the first visit at which all of `resume_at` are met, at the
    next lower level of `levels_mg` if `reduce_on_resume`. Held doses are skipped, not made up. The
    level is kept until the course ends.

    Attributes
    ----------
    levels_mg
        Lower amounts, decreasing, in the unit of the drug's dose rule.
    """

    drug: str
    hold_below: tuple[Criterion, ...]
    resume_at: tuple[Criterion, ...] = ()
    levels_mg: tuple[float, ...] = ()
    reduce_on_resume: bool = False
    visit_every_days: int = 7
    source: str = field(default="", compare=False)
    status: str = field(default="assumed", compare=False)

    def __post_init__(self) -> None:
        if self.drug.endswith(_FILE):
            object.__setattr__(self, "drug", Path(self.drug).stem)
        where = f"modification of {self.drug}"
        object.__setattr__(self, "hold_below", tuple(self.hold_below))
        object.__setattr__(self, "resume_at", tuple(self.resume_at))
        if not self.hold_below:
            raise PkpdError(
                where=where, what="hold_below is empty", remedy="give a count to hold at"
            )
        check_one_per_line(where, self.hold_below)
        check_one_per_line(where, self.resume_at)
        if not self.resume_at:
            object.__setattr__(self, "resume_at", self.hold_below)
        resume = {c.line: c.at_least for c in self.resume_at}
        for criterion in self.hold_below:
            line, hold = criterion.line, criterion.at_least
            if line not in resume:
                raise PkpdError(
                    where=where,
                    what=f"it holds for {line} but resume_at does not name them",
                    remedy=f"add {line} to resume_at",
                )
            if resume[line] < hold:
                raise PkpdError(
                    where=where,
                    what=f"it resumes at {line} {resume[line]:g} although it holds below {hold:g}",
                    allowed=f"resume_at of {hold:g} or more",
                )
        check_whole(where, "visit_every_days", self.visit_every_days, 1)
        object.__setattr__(self, "levels_mg", tuple(map(float, self.levels_mg)))
        for level in self.levels_mg:
            check_positive(where, "a level", level, "")
        for upper, lower in zip(self.levels_mg, self.levels_mg[1:], strict=False):
            if lower >= upper:
                raise PkpdError(
                    where=where,
                    what=f"level {lower:g} follows {upper:g}",
                    allowed="levels that decrease",
                )
        if bool(self.levels_mg) != self.reduce_on_resume:
            what = "no lower level is given" if self.reduce_on_resume else "levels are never used"
            raise PkpdError(
                where=where,
                what=f"reduce_on_resume is {str(self.reduce_on_resume).lower()} and {what}",
                remedy="give levels together with reduce_on_resume = true",
            )
        check_status(where, self.status)


def check_one_per_line(where: str, criteria: tuple[Criterion, ...]) -> None:
    """Refuse two thresholds for one line."""
    lines = [criterion.line for criterion in criteria]
    for line in LINES:
        if lines.count(line) > 1:
            raise PkpdError(
                where=where,
                what=f"two thresholds for {line} contradict each other",
                remedy="keep one",
            )
