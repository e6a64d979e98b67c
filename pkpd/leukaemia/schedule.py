"""An arm of a trial: who is treated, with what, for how long.

The schedule itself is a :class:`pkpd.schedule.Regimen`, so that gates, holds and dose levels mean
the same here as everywhere in the package (`pkpd.schedule.follow` is the reference).
"""

from __future__ import annotations

from dataclasses import dataclass

from pkpd.cards.population_cards import population_of_disease
from pkpd.course.transfusion import TRIGGER
from pkpd.errors import PkpdError
from pkpd.schedule import NEVER, GrowthFactorPolicy, Regimen
from pkpd.subjects import PatientSample, Population, patients_key, with_median_age


@dataclass(frozen=True)
class ArmSchedule:
    """What one arm is given.

    Attributes
    ----------
    regimen
        Courses of doses with gates and dose modifications; ``None``: no drug (placebo, baseline).
    horizon_days
        Protocol days to simulate, from day 1.
    growth_factor
        Growth factor by need.
    transfuse_below
        Platelets are transfused on mornings with a count below this, 10^9/L; 0: never.
    only_if_blasts_from
        For each course, the marrow blasts in percent from which it is given at all, on the day it
        is due, whether or not a gate makes it wait then; 0: always. A second induction for
        persisting leukaemia has 5.
    options, cards
        Options of kinetics and cards in place of the usual ones, as `pkpd.model.load_model` takes
        them: ``("clofarabine.renal_label", True)``, ``("lenalidomide.pk", "liang2024...")``.
    """

    regimen: Regimen | None
    horizon_days: int = 60
    growth_factor: GrowthFactorPolicy = NEVER
    transfuse_below: float = TRIGGER
    only_if_blasts_from: tuple[float, ...] = ()
    options: tuple[tuple[str, bool | str], ...] = ()
    cards: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        courses = 0 if self.regimen is None else len(self.regimen.courses)
        if self.horizon_days < 1:
            raise PkpdError(
                where="arm schedule",
                what=f"horizon_days = {self.horizon_days}",
                allowed="a whole number from 1",
            )
        if self.only_if_blasts_from and len(self.only_if_blasts_from) != courses:
            raise PkpdError(
                where="arm schedule",
                what=f"{len(self.only_if_blasts_from)} limits of blasts for {courses} courses",
                remedy="give one for each course, 0 where the course is always given",
            )


@dataclass(frozen=True)
class Arm:
    """One arm: its patients' disease, bodies and limits of entry, and its schedule.

    Attributes
    ----------
    name
        Name for messages and reports; it does not change any number.
    schedule
        What is given.
    disease
        A disease of ``models/leukaemia/populations.toml``.
    population
        Ages, bodies and kidneys: a population, or patients of one's own; ``None``: the shipped
        population of the disease.
    age
        Median age in years in place of the population's; patients of one's own have their ages.
    least_neutrophils, least_platelets
        Counts at entry that the protocol demands, 10^9/L.
    most_wbc
        Highest white count at entry, 10^9/L.
    """

    name: str
    schedule: ArmSchedule
    disease: str
    population: Population | PatientSample | None = None
    age: float | None = None
    least_neutrophils: float = 0.0
    least_platelets: float = 0.0
    most_wbc: float = float("inf")

    def __post_init__(self) -> None:
        """Refuse a median age beside patients who have their own."""
        if self.age is not None and isinstance(self.population, PatientSample):
            raise PkpdError(
                where=f"arm {self.name}",
                what=f"a median age of {self.age:g} years beside patients who have their own",
                remedy="leave the age out, or name a population",
            )

    @property
    def who(self) -> Population | PatientSample:
        """Ages, bodies and kidneys of its patients."""
        found = self.population or population_of_disease(self.disease)
        if isinstance(found, PatientSample) or self.age is None:
            return found
        return with_median_age(found, self.age)

    @property
    def patients_key(self) -> str:
        """Who its patients are, in a short text: arms with the same key meet the same patients."""
        limits = (self.least_neutrophils, self.least_platelets, self.most_wbc)
        return f"{self.disease} {patients_key(self.who)} {limits}"
