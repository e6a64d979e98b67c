"""Menus of schedules: their members, what is measured of each, limits and objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pkpd.cards.files import nearest_of
from pkpd.cards.rule_cards import load_rule
from pkpd.errors import PkpdError, sentence
from pkpd.schedule import NEVER, GrowthFactorPolicy, Regimen
from pkpd.trials import Arm, Cohort, Trial

MOST_MEMBERS = 400
"""Schedules of a menu; each is simulated, perhaps in three marrows."""

DOSE = "dose"
"""Objective that stands for the dose intensity of every drug of which members differ."""


@dataclass(frozen=True)
class Measure:
    """One figure by which schedules are compared.

    Attributes
    ----------
    name, words, unit
        Names for code and for readers; unit of the figure, ``"probability"`` for a risk.
    better
        ``"low"`` or ``"high"``.
    margin
        A difference that matters: points of a probability, days, or a share of the figure where
        `ratio`.
    ratio
        Whether two figures are compared by their ratio: the figure is then a geometric mean.
    """

    name: str
    words: str
    unit: str
    better: str = "low"
    margin: float = 0.02
    ratio: bool = False

    @property
    def least(self) -> float:
        """The margin as a difference of what is compared: of logs where `ratio`."""
        return math.log1p(self.margin) if self.ratio else self.margin


MEASURES: Mapping[str, Measure] = {
    one.name: one
    for one in (
        Measure("dlt", "risk of a DLT", "probability"),
        Measure("remission", "remission, with or without full counts", "probability", "high"),
        Measure("death", "death by the last day", "probability"),
        Measure(
            "days_low",
            "days with neutrophils < 0.5 or platelets < 20, those after death among them",
            "day",
            margin=1.0,
        ),
        Measure("nadir_neutrophils", "lowest neutrophils", "10^9/L", "high", 0.1, True),
        Measure("nadir_platelets", "lowest platelets", "10^9/L", "high", 0.1, True),
        Measure("grade_4_neutrophils", "grade 4 neutropenia", "probability"),
        Measure("grade_4_platelets", "grade 4 thrombocytopenia", "probability"),
        Measure("late_start", "next cycle not on its planned day", "probability"),
    )
}
"""Figures of every schedule; besides, the dose intensity of each drug (`dose_measure`)."""

OBJECTIVES = ("dlt", "nadir_neutrophils", "days_low", "remission", DOSE)
"""What makes one schedule better than another where a menu does not say."""


def dose_measure(drug: str, unit: str, most: float) -> Measure:
    """Dose intensity of a drug: the amount given in a week, over all simulated days.

    Parameters
    ----------
    drug, unit
        The drug, and the unit of its amounts.
    most
        Largest amount a week of the menu; a twentieth of it matters.
    """
    return Measure(f"{DOSE}_{drug}", f"{drug} given", f"{unit} a week", "high", most / 20.0)


@dataclass(frozen=True)
class Limit:
    """What a schedule must keep, with certainty: ``Pr(measure > at_most) <= probability``.

    Attributes
    ----------
    of
        Name of a measure.
    at_most, at_least
        One of them: the figure must not lie beyond it.
    probability
        Most probability, over draws of what is not known, that it does.
    """

    of: str = "dlt"
    at_most: float | None = None
    at_least: float | None = None
    probability: float = 0.25

    def __post_init__(self) -> None:
        where = f"limit of {self.of}"
        if self.of not in MEASURES:
            known = ", ".join(MEASURES)
            what = f"there is no such measure{nearest_of(self.of, MEASURES)}"
            raise PkpdError(where=where, what=what, allowed=known)
        if (self.at_most is None) == (self.at_least is None):
            raise PkpdError(where=where, what="it needs one of at_most and at_least")
        high = 1.0 if MEASURES[self.of].unit == "probability" else math.inf
        if not 0.0 < self.level < high:
            allowed = "above 0" + (", below 1" if high == 1.0 else "")
            raise PkpdError(where=where, what=f"{self.level:g}", allowed=allowed)
        if not 0.0 < self.probability < 1.0:
            what = f"a probability of {self.probability:g}"
            raise PkpdError(where=where, what=what, allowed="between 0 and 1")

    @property
    def level(self) -> float:
        """The number that the figure must not lie beyond."""
        found = self.at_least if self.at_most is None else self.at_most
        assert found is not None
        return found

    @property
    def words(self) -> str:
        """As a report says it."""
        sign = "<" if self.at_most is None else ">"
        name = MEASURES[self.of].words.partition(",")[0]
        name = f"({name})" if "<" in name or ">" in name else name
        return f"Pr({name} {sign} {self.level:g}) <= {self.probability:g}"


USUAL_LIMIT = Limit("dlt", at_most=0.25)


@dataclass(frozen=True)
class Menu:
    """Schedules to choose from, and how.

    Attributes
    ----------
    name, title
        Identity.
    trials
        One for each policy of growth factor; their cohorts are the members. All have the same
        patients and days.
    axes
        Of a grid: name of the axis -> value of each member in words.
    limits
        What an allowed member keeps.
    objectives
        What makes one member better than another: names of measures, ``"dose"`` for all drugs.
    keep
        Most members of the short list.
    patients, draws, seed
        Size of the simulation.
    marrow
        Of the first answer; the usual one if ``None``.
    notes
        What a reader should know.
    """

    name: str
    title: str
    trials: tuple[Trial, ...]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: tuple[Limit, ...] = (USUAL_LIMIT,)
    objectives: tuple[str, ...] = OBJECTIVES
    keep: int = 5
    patients: int = 200
    draws: int = 50
    seed: int = 1
    marrow: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_objectives(self.objectives)
        if len(self.members) > MOST_MEMBERS:
            raise PkpdError(too_many(self.name, len(self.members)))
        if len(self.members) < 2:
            what = f"{len(self.members)} schedule: there is nothing to choose from"
            remedy = "add a [[cohort]], or a [grid] of two values or more"
            raise PkpdError(where=f"menu {self.name}", what=what, remedy=remedy)

    @property
    def members(self) -> tuple[Cohort, ...]:
        """All schedules."""
        return tuple(cohort for trial in self.trials for cohort in trial.cohorts)

    @property
    def horizon_days(self) -> int:
        """Days to simulate."""
        return self.trials[0].horizon_days


def check_objectives(objectives: Sequence[str]) -> None:
    """Refuse objectives that are no measures.

    Raises
    ------
    PkpdError
        Naming the first of them.
    """
    known = (*MEASURES, DOSE)
    for name in objectives:
        if name not in known:
            what = f"{name!r} is no measure{nearest_of(name, known)}"
            raise PkpdError(where="objectives", what=what, allowed=", ".join(known))
    if not objectives:
        what = "none is named"
        raise PkpdError(where="objectives", what=what, allowed=", ".join(known))


def menu_of(
    members: Mapping[str, Regimen],
    population: str,
    rule: str,
    horizon_days: int,
    *,
    growth_factor: GrowthFactorPolicy = NEVER,
    name: str = "menu",
    **how: Any,
) -> Menu:
    """Make a menu of regimens.

    Parameters
    ----------
    members
        Regimens by name.
    population, rule
        Cards of the patients and of the count rule, by name or file.
    horizon_days
        Days to simulate.
    growth_factor
        Growth factor by need, of all members.
    name
        Of the menu.
    **how
        Further attributes of `Menu`.

    Raises
    ------
    PkpdError
        If a card does not exist, or there are too few or too many members.

    Examples
    --------
    >>> import pkpd
    >>> give = {"drug": "clofarabine", "route": "iv", "duration": "1 h", "amount": "5 mg/m^2"}
    >>> days = {f"{n} days": pkpd.daily(days=f"1-{n}", **give) for n in (3, 5)}
    >>> [one.id for one in menu_of(days, "rr_aml", "leukemia_d42_generic", 60).members]
    ['3 days', '5 days']
    """
    clocks = (load_rule(rule).clock,)
    cohorts = tuple(
        Cohort(id=str(key), label=str(key), regimen=regimen, rule=str(rule), clocks=clocks)
        for key, regimen in members.items()
    )
    trial = Trial(
        id=name,
        name=name,
        title=name,
        disease="",
        population=str(population),
        arms=(Arm("all", cohorts),),
        rule=str(rule),
        rule_is_protocols=False,
        horizon_days=horizon_days,
        visit_days=tuple(day for day in range(1, horizon_days + 1) if day % 7 in (1, 4)),
        growth_factor=growth_factor,
        drug_cards=tuple({k: v for r in members.values() for k, v in r.cards.items()}.items()),
    )
    return Menu(name=name, title=name, trials=(trial,), **how)


def too_many(where: str, count: int) -> str:
    """Say that a menu is too large."""
    return sentence(
        where=where,
        what=f"{count:,} schedules",
        allowed=f"2 to {MOST_MEMBERS}",
        remedy="leave out values, or name the schedules one by one as [[cohort]]",
    )
