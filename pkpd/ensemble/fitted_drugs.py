"""A regimen for the marrow of a fit: which of its drugs are given, and how they act there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from pkpd.cards.drug_cards import (
    GROWTH_FACTOR,
    INTENSITY,
    LONG_ACTING,
    DrugCard,
    drug_names,
    load_drug_card,
)
from pkpd.cards.drug_names import one_name_each
from pkpd.cards.files import nearest_of
from pkpd.cards.trial_drugs import ANY_DRUG
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.errors import PkpdError
from pkpd.leukaemia.drug_effects import (
    DEPOT,
    blocks_of_plan,
    doses_per_m2,
    intensity,
    one_dose,
    share_of_levels,
)
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import Arm
from pkpd.marrow.actions import Action, GrowthFactor, LineEffects
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.line_marrow import LineMarrow
from pkpd.model.kinetics import MOST_OCCASIONS
from pkpd.predict.marrow import MarrowDrug, MarrowStructure
from pkpd.predict.marrow_kinetics import linear_pk
from pkpd.schedule import LINES, DosingPlan, Regimen, Slot, plan
from pkpd.solve.compiled.decisions import Rules, plan_rules, shares_of
from pkpd.solve.compiled.run_days import Anatomy, CourseDrug
from pkpd.solve.grid.cells import dose_cells

FITTED_STEP_H = 4.0
"""Longest step of the marrow of a fit."""

_HOURS = 24.0
UNNAMED = "drug"
"""Name of a drug that a model does not name."""


@dataclass(frozen=True, eq=False)
class FittedRegimen:
    """A regimen made ready for the marrow of a fit.

    Attributes
    ----------
    plan, rules, anatomy, horizon_days
        For the driver.
    theta
        For each row of the marrow's parameters the individual parameter of the fit, or a number.
    kinetics
        The same for each kinetic row.
    scale
        A number that each kinetic row is multiplied by.
    days
        Dosing days with an occasion of their own, 1 or more.
    growth_below, growth_from
        Growth factor by need.
    amounts_are_doses
        Whether the amounts of the driver are in the units of the slots.
    """

    plan: DosingPlan
    rules: Rules
    anatomy: Anatomy
    horizon_days: int
    theta: tuple[str | float, ...]
    kinetics: tuple[str | float, ...]
    scale: tuple[float, ...]
    days: int
    growth_below: float = 0.0
    growth_from: int = 1
    amounts_are_doses: bool = True


def drugs_of_fit(fitted: object) -> tuple[str, ...]:
    """Names of drugs that a fit knows without a card; `ANY_DRUG` where it does not name its own.

    Parameters
    ----------
    fitted
        Result of `pkpd.fit`; anything else knows none.

    Examples
    --------
    >>> drugs_of_fit("posterior.nc")
    ()
    """
    likelihood = getattr(fitted, "likelihood", None)
    structure = getattr(getattr(likelihood, "model", None), "structure", None)
    if not isinstance(structure, MarrowStructure):
        return ()
    names = tuple(drug.name for drug in structure.drugs)
    return (ANY_DRUG,) if names == (UNNAMED,) else names


def prepare_fitted(
    structure: MarrowStructure,
    regimen: Regimen,
    days: int,
    *,
    transfusion: TransfusionPolicy | None,
    curve: bool,
    arm: Arm | None,
    occasional: Sequence[str],
    dose_unit: str = "mg",
) -> FittedRegimen:
    """Make a regimen ready for the marrow of a fit.

    Parameters
    ----------
    structure
        The structural model that was fitted.
    regimen, days
        What is given, and days to simulate.
    transfusion
        Platelet transfusion policy; ``None`` for none.
    curve
        Whether lines are followed between mornings.
    arm
        Supportive care, where the marrow has leukaemia.
    occasional
        Individual parameters that vary between occasions.
    dose_unit
        Of the amounts of the data that were fitted, ``"mg"`` or ``"umol"``.

    Raises
    ------
    PkpdError
        If the fit lacks a drug of the regimen, its route, or a line that a gate asks for.
    """
    made = plan(one_name_each(regimen), days)
    if structure.whole is None:
        ready = _of_lines(structure, made, transfusion, curve)
    else:
        ready = _of_leukaemia(structure, made, curve, arm)
    _check_occasions(structure, occasional)
    return replace(
        ready,
        horizon_days=days,
        scale=scales_of(
            ready.anatomy.kinetic_rows,
            {drug.name for drug in ready.anatomy.drugs if drug.pk is not None},
            dose_unit,
        ),
        days=dosing_days_of(made, occasional),
    )


def scales_of(
    rows: Sequence[tuple[str, str]], acting: Collection[str], dose_unit: str
) -> tuple[float, ...]:
    """Multiples of the kinetic rows: bioavailability also turns mg into the unit of the fit."""
    if dose_unit == "mg":
        return (1.0,) * len(rows)
    return tuple(
        1000.0 / _molar_mass(drug) if name == "F" and drug in acting else 1.0 for drug, name in rows
    )


def dosing_days_of(made: DosingPlan, occasional: Sequence[str]) -> int:
    """Dosing days with an occasion of their own, 1 where no parameter varies between occasions."""
    return min(max(1, *made.dosing_days.values()), MOST_OCCASIONS) if occasional else 1


def _molar_mass(name: str) -> float:
    """Molar mass of a drug in g/mol, of its card."""
    card = load_drug_card(name) if name.casefold() in drug_names() else None
    if card is None or card.molar_mass is None:
        return _refuse(
            f"amounts of the data are umol, and no card gives the molar mass of {name}",
            remedy="give the amounts of the data in mg and fit again",
        )
    return card.molar_mass.value


def _check_occasions(structure: MarrowStructure, occasional: Sequence[str]) -> None:
    kinetic = {name for drug in structure.drugs for name in drug.own.values()}
    for name in occasional:
        if name not in kinetic:
            _refuse(
                f"{name} varies between occasions",
                allowed=", ".join(sorted(kinetic)),
                remedy="fit it without iov: marrow parameters are constant in a patient",
            )


# -- lines ----------------------------------------------------------------------------------------


def _of_lines(
    structure: MarrowStructure,
    made: DosingPlan,
    transfusion: TransfusionPolicy | None,
    curve: bool,
) -> FittedRegimen:
    names = structure.names
    care = transfusion is not None and "platelets" in names
    lines = tuple(zip(names, structure.marrow, strict=True))
    marrow = LineMarrow(lines, care=care, combination=structure.combination)
    _check_gates(made, names)
    source: dict[str, str | float] = {
        f"{line}.{short}": full
        for i, line in enumerate(names)
        for short, full in structure.marrow_names(i).items()
    }
    if care and transfusion is not None:
        source["transfused_loss"] = _HOURS * transfusion.loss_per_hour
    drugs, kinetics = [], []
    for name in made.drugs:
        k = _place(structure, name, made.drugs)
        effects = tuple((line, structure.effects[i][k]) for i, line in enumerate(names))
        action = LineEffects(f"{name}.", effects, structure.combination)
        for i, line in enumerate(names):
            for short, full in structure.effect_names(i, k).items():
                source[f"{name}.{short}_{line}"] = full
        drug, rows = with_kinetics(structure.drugs[k], name, made, action)
        drugs.append(drug)
        kinetics += rows
    anatomy = _anatomy(marrow, drugs, made.slots, (), names if curve else ())
    return FittedRegimen(
        made, plan_rules(made), anatomy, 0, _rows(anatomy, source), tuple(kinetics), (), 1
    )


def _check_gates(made: DosingPlan, lines: Sequence[str]) -> None:
    """Refuse a gate, a hold or a resumption on a line that the fit does not have."""
    for i, line in enumerate(LINES):
        asked = (made.gate_threshold[:, :, i], made.hold_below[:, :, i], made.resume_at[:, :, i])
        if line not in lines and any(np.any(limit > 0) for limit in asked):
            _refuse(
                f"the schedule waits for {line}, which the fit does not have",
                ", ".join(lines),
                f"fit {line} as well, or leave them out of gates and holds",
            )


# -- the marrow with leukaemia --------------------------------------------------------------------


def _of_leukaemia(
    structure: MarrowStructure, made: DosingPlan, curve: bool, arm: Arm | None
) -> FittedRegimen:
    whole = structure.whole
    assert whole is not None
    assert isinstance(whole.marrow, LeukaemicMarrow)
    schedule = None if arm is None else arm.schedule
    drugs, kinetics, slots = [], [], list(made.slots)
    amount, rates = made.amount.copy(), np.zeros((*made.amount.shape[:2], len(made.drugs), 1))
    source: dict[str, str | float] = {name: name for name in whole.parameters}
    source |= dict(structure.held)
    per_m2, depot, in_mg = doses_per_m2(made), False, True
    acts = shares_of(made.level, rates).copy()
    for j, name in enumerate(made.drugs):
        mine = [s for s, slot in enumerate(made.slots) if slot.drug_index == j]
        card = _growth_factor(structure, name)
        if card is not None and card.leukaemia is not None:
            long = card.leukaemia.acts_by == LONG_ACTING
            drugs.append(CourseDrug(name, into=DEPOT if long else ""))
            kinetics.append(1.0)
            rates[:, :, j, 0] = 0.0 if long else per_m2[:, :, j] > 0.0
            depot |= long
            in_mg = False
            for s in mine:
                amount[:, :, s] = np.minimum(np.ceil(amount[:, :, s]), 1.0 if long else 0.0)
                slots[s] = one_dose(slots[s])
            continue
        k = _place(structure, name, made.drugs)
        drug, rows = with_kinetics(structure.drugs[k], name, made, whole.actions[k])
        if drug.pk is None:
            # its doses are intensities: those of the day, in one of its slots
            in_mg = False
            amount[:, :, mine] = 0.0
            amount[:, :, mine[0]], acts[:, :, j] = _intensities(name, made, j)
            slots[mine[0]] = replace(one_dose(slots[mine[0]]), unit="mg/m^2")
        drugs.append(drug)
        kinetics += rows
    marrow = replace(whole.marrow, care=True, pegfilgrastim=depot)
    anatomy = _anatomy(
        marrow, drugs, slots, (GrowthFactor(),), ("neutrophils", "platelets", "wbc") * curve
    )
    blasts = () if schedule is None else schedule.only_if_blasts_from
    rules = plan_rules(made)._replace(
        amount=np.ascontiguousarray(amount),
        rates=rates,
        share=acts,
        least_blasts=np.array(blasts or [0.0] * len(made.cycles)),
    )
    ready = FittedRegimen(
        made, rules, anatomy, 0, _rows(anatomy, source), tuple(kinetics), (), 1,
        amounts_are_doses=in_mg,
    )  # fmt: skip
    if schedule is None:
        return ready
    policy = schedule.growth_factor
    return replace(ready, growth_below=policy.below, growth_from=policy.from_day)


def _growth_factor(structure: MarrowStructure, name: str) -> DrugCard | None:
    """Card of a growth factor that the fit need not have: its action is one of the marrow's."""
    own = [drug.name for drug in structure.drugs]
    if name in own or name.casefold() not in drug_names():
        return None
    card = load_drug_card(name)
    action = card.leukaemia
    return card if action and action.acts_by in (GROWTH_FACTOR, LONG_ACTING) else None


def _intensities(name: str, made: DosingPlan, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Doses of a drug as intensities ``[C, D]``, by its card; what of them acts at each level."""
    known = name.casefold() in drug_names()
    card = load_drug_card(name) if known else None
    if card is None or card.leukaemia is None or card.leukaemia.acts_by != INTENSITY:
        _refuse(
            f"{name} acts by its intensity in the fit, and no card gives that of its doses",
            remedy="name a drug whose card has an intensity",
        )
    theta, out = default_theta(), np.zeros(made.amount.shape[:2])
    acts = np.ones((*out.shape, made.level.shape[2]))
    for c, totals, share in blocks_of_plan(made, j):
        out[c] += intensity(theta, card.name, float(totals[0])) * share
        acts[c, share > 0.0] = share_of_levels(theta, card.name, totals)
    return out, acts


# -- both -----------------------------------------------------------------------------------------


def _place(structure: MarrowStructure, name: str, given: Sequence[str]) -> int:
    """Place of a drug of the schedule among those of the fit."""
    own = [drug.name for drug in structure.drugs]
    if name in own:
        return own.index(name)
    if own == [UNNAMED] and len(given) == 1:
        return 0
    allowed, near = ", ".join(own), nearest_of(name, own)
    if own == [UNNAMED]:
        allowed, near = "one drug, the one that was fitted without a name", ""
    return _refuse(
        f"the schedule gives {name}, which the fit does not have{near}",
        allowed,
        "leave it out, or fit a model with it",
    )


def with_kinetics(
    drug: MarrowDrug, name: str, made: DosingPlan, action: Action | None
) -> tuple[CourseDrug, list[str | float]]:
    """Drug for the driver, and the individual parameter of each of its kinetic rows."""
    if drug.pk is None:
        return CourseDrug(name, action=action), [1.0]
    if not set(drug.pk.dosing) <= {"F1"}:
        others = ", ".join(sorted(set(drug.pk.dosing) - {"F1"}))
        _refuse(
            f"doses of {name} have {others} in the fit",
            "F1",
            "simulate data with pkpd.models.simulate_data, which has every feature of doses",
        )
    found = linear_pk(drug)
    if found is None:
        _refuse(
            f"the kinetics of {name} are not those of compartments()",
            "pkpd.models.compartments with 1 to 3 compartments",
            "simulate data with pkpd.models.simulate_data, which takes any kinetics",
        )
    pk, names = found
    for slot in made.slots:
        into_vein = slot.route == "iv"
        if slot.drug == name and into_vein != (pk.absorption is None):
            _refuse(
                f"the schedule gives {name} by route {slot.route!r}",
                "iv" if pk.absorption is None else "oral, sc: the fit has an absorption",
            )
    rows: list[str | float] = [
        drug.per_unit if row == "per_umol" else drug.own[names[row]] for row in pk.parameters
    ]
    return CourseDrug(name, pk, action), [*rows, drug.own.get("F1", 1.0)]


def _anatomy(
    marrow: LineMarrow | LeukaemicMarrow,
    drugs: Sequence[CourseDrug],
    slots: Sequence[Slot],
    further: tuple[Action, ...],
    curves: tuple[str, ...],
) -> Anatomy:
    kinetic = {drug.name for drug in drugs if drug.pk is not None or drug.into}
    acting = [drug.action for drug in drugs if drug.action is not None]
    names = dict.fromkeys(name for part in (marrow, *acting, *further) for name in part.parameters)
    return Anatomy(
        marrow=marrow,
        drugs=tuple(drugs),
        slots=tuple(slots),
        further=further,
        parameters=tuple(names),
        edges=dose_cells(slots, kinetic, FITTED_STEP_H),
        curves=curves,
        growth=0 if further else -1,
    )


def _rows(anatomy: Anatomy, source: dict[str, str | float]) -> tuple[str | float, ...]:
    """Where each row of the parameters comes from."""
    missing = [name for name in anatomy.parameters if name not in source]
    assert not missing, missing
    return tuple(source[name] for name in anatomy.parameters)


def _refuse(what: str, allowed: str | None = None, remedy: str | None = None) -> NoReturn:
    raise PkpdError(where="fit as a source", what=what, allowed=allowed, remedy=remedy)
