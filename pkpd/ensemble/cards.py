"""Patients of a population with parameters drawn from the priors of cards, without leukaemia."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os.path import abspath
from pathlib import Path

from pkpd.arrays import Floats, Indices
from pkpd.cards.drug_actions import FRIBERG
from pkpd.cards.drug_names import one_name_each
from pkpd.course.course import Course
from pkpd.course.simulate import Simulator, prepare
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.ensemble.ensemble import told
from pkpd.errors import CardError
from pkpd.model.joint import JointModel, load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.schedule import NEVER, DosingPlan, GrowthFactorPolicy, Regimen
from pkpd.subjects import PatientSample, Population

LANES_AT_ONCE = 2000

LONGEST_STEP_H = 8.0
"""Longest step of the marrow. Against steps of 2 h no verdict changes and median recovery days move
by less than 0.0002 days (docs/decisions/0002-day-cells.md)."""


@dataclass(frozen=True)
class CardsEnsemble:
    """Draws from the priors of a joint model's cards times patients.

    Attributes
    ----------
    model
        The joint model.
    sample
        The patients.
    values
        Namespaced parameter -> float[M].
    population
        Where the patients come from, if from a population.
    transfusion
        Platelet transfusion policy; ``None`` for none.
    combination
        How effects of several drugs combine.
    max_step_h
        Longest step of the marrow.
    curve
        Whether counts are kept between mornings too.
    growth_factor
        Growth factor by need.
    because
        Why these patients have this marrow, if nobody asked for it.
    seed
        Of the values, for those of drug cards of the user's own that a regimen names; ``None``
        where the model must have these cards.
    """

    model: JointModel
    sample: PatientSample
    values: Mapping[str, Floats]
    population: Population | None = None
    transfusion: TransfusionPolicy | None = TransfusionPolicy()  # noqa: RUF009 (frozen)
    combination: str = "additive"
    max_step_h: float = LONGEST_STEP_H
    curve: bool = False
    marrow: str = FRIBERG
    growth_factor: GrowthFactorPolicy = NEVER
    because: str = ""
    seed: int | None = None

    def __repr__(self) -> str:
        """Tell marrow and sizes in a line."""
        return told(self)

    @property
    def words(self) -> str:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return f"marrow without leukaemia ({FRIBERG}), joint card {self.model.name}"

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(next(iter(self.values.values())))

    @property
    def patients(self) -> int:
        """Number of patients."""
        return self.sample.n

    @property
    def lines(self) -> tuple[str, ...]:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return tuple(card.subject for card in self.model.marrow)

    def between_mornings(self) -> CardsEnsemble:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        return replace(self, curve=True)

    def with_cards_of(self, regimen: Regimen) -> CardsEnsemble:
        """Put the same patients in a model that has the drug cards of the user's own in a regimen.

        Raises
        ------
        CardError
            If the model was given, and has another card of the drug or none.
        """
        known = {drug.name: abspath(drug.card.path) for drug in self.model.drugs}
        factors = filter(self.model.is_growth_factor, regimen.drugs)
        own = {name: file for name, file in regimen.cards.items() if known.get(name) != file}
        for name in factors:
            own.pop(name, None)
        if not own:
            return self
        if self.seed is None:
            name, file = next(iter(own.items()))
            raise CardError(
                where=f"drug {name}",
                what=f"the regimen names the card {Path(file).name}, which the model does not have",
                remedy=f'give model=load_model(..., drug_cards={{"{name}": "{Path(file).name}"}})',
            )
        names = dict.fromkeys((*known, *own))
        model = load_model(self.model.name, drugs=list(names), drug_cards=own)
        values = (
            typical(model, self.population)
            if self.draws == 1
            else draw_parameters(model, self.population, self.draws, self.seed)
        )
        return replace(self, model=model, values=values)

    def treated(self, regimen: Regimen, days: int) -> TreatedByCards:
        """See `pkpd.ensemble.ensemble.Ensemble`."""
        regimen = one_name_each(regimen)
        if (made := self.with_cards_of(regimen)) is not self:
            return made.treated(regimen, days)
        # patients need covariates of the drugs that are given, not of all that are known
        model = self.model
        given = tuple(model.drug(n) for n in regimen.drugs if not model.is_growth_factor(n))
        simulator = prepare(
            replace(model, drugs=given),
            regimen,
            self.sample,
            days,
            max_step_h=self.max_step_h,
            transfusion=self.transfusion,
            combination=self.combination,
            growth_factor=self.growth_factor,
            curve=self.curve,
        )
        return TreatedByCards(simulator, self.values)


@dataclass(frozen=True)
class TreatedByCards:
    """Patients of a `CardsEnsemble` under a regimen."""

    simulator: Simulator
    values: Mapping[str, Floats]

    @property
    def plan(self) -> DosingPlan:
        """See `pkpd.ensemble.ensemble.Treated`."""
        return self.simulator.plan

    def chunks(self) -> Iterator[Indices]:
        """See `pkpd.ensemble.ensemble.Treated`."""
        return self.simulator.chunks(self.values, LANES_AT_ONCE)

    def course(self, draws: Indices) -> Course:
        """See `pkpd.ensemble.ensemble.Treated`."""
        return self.simulator.run(self.values, draws, threads=1)
