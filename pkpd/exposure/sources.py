"""Kinetics of the drugs of a regimen in the patients of any source, without their counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pkpd.arrays import Floats, Indices
from pkpd.cards.drug_cards import drug_names, load_drug_card
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.ensemble.fitted_kinetics import FittedKinetics
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.leukaemia.simulate import chosen_of
from pkpd.model.individuals import individual_parameters
from pkpd.model.kinetics import kinetics_of, linear_kinetics, occasions_of, swallowed
from pkpd.schedule import Regimen, plan
from pkpd.solve.compiled.run_days import CourseDrug

_BODY = ("bsa", "weight", "crcl")


@dataclass(frozen=True, eq=False)
class DrugLanes:
    """A drug in L lanes, draws outside patients.

    Attributes
    ----------
    name
        Of the drug.
    pk
        Its kinetics, whose driver is the concentration in plasma in mg/L.
    parameters
        Parameters of the kinetics, and ``F``, ``[L]``.
    occasion
        Factors of them by dosing day, ``[O, L]``.
    surface, weight, crcl
        m^2, kg and creatinine clearance in mL/min, ``[L]``.
    in_umol
        Whether amounts and concentrations are umol.
    card
        File of the drug's own card; empty for the shipped one.
    """

    name: str
    pk: LinearPK
    parameters: Mapping[str, Floats]
    occasion: Mapping[str, Floats]
    surface: Floats
    weight: Floats
    crcl: Floats
    in_umol: bool = False
    card: str = ""

    def only(self, lanes: Indices) -> DrugLanes:
        """Take some of the lanes."""
        return replace(
            self,
            parameters={name: values[lanes] for name, values in self.parameters.items()},
            occasion={name: values[:, lanes] for name, values in self.occasion.items()},
            surface=self.surface[lanes],
            weight=self.weight[lanes],
            crcl=self.crcl[lanes],
        )


def drugs_of(
    ensemble: Ensemble | FittedKinetics,
    regimen: Regimen,
    days: int,
    draws: Sequence[int] | Indices | None = None,
    left_out: dict[str, str] | None = None,
) -> list[DrugLanes]:
    """Kinetics of each drug of a regimen that has any in the source.

    Parameters
    ----------
    ensemble, regimen, days
        Who gets what, and the last protocol day.
    draws
        Which draws; all of them if omitted.
    left_out
        Takes each drug whose kinetics cannot be used, and why, in place of the error.

    Raises
    ------
    PkpdError
        If a drug or a route is unknown to the source, its kinetics are not linear, or the source
        is none that `pkpd.source` gives.
    """
    which = np.arange(ensemble.draws) if draws is None else np.asarray(draws)
    found, own = _drugs_of(ensemble, regimen, days, which, left_out), regimen.cards
    return [replace(drug, card=own.get(drug.name, "")) for drug in found]


def _drugs_of(
    ensemble: Ensemble | FittedKinetics,
    regimen: Regimen,
    days: int,
    which: Indices,
    left_out: dict[str, str] | None,
) -> list[DrugLanes]:
    if isinstance(ensemble, CardsEnsemble):
        return _of_cards(ensemble, regimen, days, which, left_out)
    if isinstance(ensemble, LearnedEnsemble):
        return _of_posterior(ensemble, regimen, days, which)
    if isinstance(ensemble, FittedEnsemble):
        return _of_fit(ensemble, regimen, days, which)
    if isinstance(ensemble, FittedKinetics):
        drug, names, rows = ensemble.kinetics(regimen, days, which)
        pairs = [(drug.name, name) for name in names]
        return _of_rows([drug], pairs, rows, _bodies(ensemble, which), ensemble.dose_unit)
    raise PkpdError(
        where="exposures",
        what=f"{type(ensemble).__name__} does not say what kinetics its patients have",
        allowed="what pkpd.source gives",
    )


def molar_mass(name: str) -> float:
    """Molar mass of a drug in g/mol, of its card: the file, or the shipped one of a name.

    Raises
    ------
    PkpdError
        If no card gives it.
    """
    known = name.endswith(".toml") or name.casefold() in drug_names()
    card = load_drug_card(name) if known else None
    if card is None or card.molar_mass is None:
        raise PkpdError(
            where=f"exposures, {name}",
            what="no card gives its molar mass, which turns mg into umol",
            remedy="leave unit= out",
        )
    return card.molar_mass.value


def _plasma(pk: LinearPK) -> LinearPK:
    """Take the same kinetics, driven by the concentration in plasma in mg/L."""
    return replace(pk, effect_site=False, unit="mg/L")


def _of_cards(
    ensemble: CardsEnsemble,
    regimen: Regimen,
    days: int,
    draws: Indices,
    left_out: dict[str, str] | None,
) -> list[DrugLanes]:
    ensemble = ensemble.with_cards_of(regimen)
    made, sample = plan(regimen, days), ensemble.sample
    names = [name for name in made.drugs if not ensemble.model.is_growth_factor(name)]
    structures: dict[str, Any] = {}
    for name in names:
        try:
            drug = ensemble.model.drug(name)
            pk = linear_kinetics(drug, False, swallowed(drug, made.slots))
        except PkpdError as error:
            if left_out is None:
                raise
            left_out[name] = str(error)
            continue
        structures[name] = _plasma(pk)
    given = tuple(ensemble.model.drug(name) for name in structures)
    model = replace(ensemble.model, drugs=given, marrow=())  # patients need no counts
    found = individual_parameters(model, ensemble.values, sample, np)
    scores = occasions_of(model, structures, sample, made.dosing_days)
    kinetics = kinetics_of(model, structures, found, ensemble.values, scores)
    shape = (ensemble.draws, sample.n)

    def lanes(values: Any) -> Floats:
        return np.broadcast_to(values, shape)[draws].reshape(-1)

    return [
        DrugLanes(
            name=name,
            pk=pk,
            parameters={p: lanes(kinetics.values[name, p]) for p in (*pk.parameters, "F")},
            occasion={
                p: np.stack([lanes(factors[:, o]) for o in range(factors.shape[1])])
                for (drug, p), factors in kinetics.occasion.items()
                if drug == name
            },
            surface=lanes(sample["bsa"]),
            weight=lanes(sample["weight"]),
            crcl=lanes(sample["crcl"]),
        )
        for name, pk in structures.items()
    ]


def _of_posterior(
    ensemble: LearnedEnsemble, regimen: Regimen, days: int, draws: Indices
) -> list[DrugLanes]:
    ready = ensemble.treated(regimen, days).arm
    prepared, study = ready.prepared, ready.study
    anatomy = prepared.anatomy(study.variant, False)
    bodies, rows = [], []
    for draw in draws:
        theta = {**study.thetas[draw], **ready.own[draw]}
        patients = ready.candidates.patients(theta, study.variant, study.deviations[draw])
        which = chosen_of(patients)
        bodies.append(which)
        rows.append(prepared.kinetics_of(anatomy, prepared.regimen.with_own(theta), which))
    which = np.concatenate(bodies)
    joined: dict[str, Any] = dict(rows[0])
    for key, axis in (("kinetics", 1), ("occasion", 2)):
        if joined.get(key) is not None:
            joined[key] = np.concatenate([one[key] for one in rows], axis=axis)
    bodies = {name: prepared.sample[name][which] for name in _BODY}
    return _of_rows(anatomy.drugs, anatomy.kinetic_rows, joined, bodies)


def _of_fit(
    ensemble: FittedEnsemble, regimen: Regimen, days: int, draws: Indices
) -> list[DrugLanes]:
    treated = ensemble.treated(regimen, days)
    rows = treated.kinetics(draws)
    anatomy, bodies = treated.prepared.anatomy, _bodies(ensemble, draws)
    return _of_rows(anatomy.drugs, anatomy.kinetic_rows, rows, bodies, ensemble.dose_unit)


def _bodies(ensemble: FittedEnsemble | FittedKinetics, draws: Indices) -> dict[str, Floats]:
    """Sizes of the patients in all lanes."""
    return {name: np.tile(ensemble.sample[name], draws.size) for name in _BODY}


def _of_rows(
    drugs: Sequence[CourseDrug],
    names: Sequence[tuple[str, str]],
    rows: Mapping[str, Any],
    bodies: Mapping[str, Floats],
    dose_unit: str = "mg",
) -> list[DrugLanes]:
    """Drugs of the driver, and the kinetic rows of their ``names``, by name."""
    values, found = rows["kinetics"], []
    for drug in drugs:
        if not isinstance(drug.pk, LinearPK):
            continue
        mine = {p: i for i, (own, p) in enumerate(names) if own == drug.name}
        pk = _plasma(drug.pk)
        occasion = {
            names[row][1]: rows["occasion"][:, r]
            for r, row in enumerate(rows.get("occasion_rows", ()))
            if names[row][0] == drug.name and names[row][1] in (*pk.parameters, "F")
        }
        own = {p: values[mine[p]] for p in (*pk.parameters, "F")}
        surface, weight, crcl = (bodies[name] for name in _BODY)
        in_umol = dose_unit == "umol"
        found.append(DrugLanes(drug.name, pk, own, occasion, surface, weight, crcl, in_umol))
    return found
