"""The marrow with leukaemia as a structural model to fit: drugs, blood counts and marrow blasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn, get_args

import numpy as np

from pkpd.arguments import MAPPING, NONE, check_arguments
from pkpd.cards.drug_cards import (
    GRAFT,
    GROWTH_FACTOR,
    INTENSITY,
    DrugCard,
    drug_names,
    load_drug_card,
)
from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.leukaemia.drug_effects import LevelDrug
from pkpd.leukaemia.parameters import LANDED, leukaemia_cards, value_of
from pkpd.leukaemia.patients import SCORES, Who, arm_patients, values_of
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.actions import Action, DoseKill, Graft, GrowthFactor, SaturableKill
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.variants import VARIANTS, Variant
from pkpd.predict.marrow import Driver, MarrowDrug, MarrowStructure, check_drugs, umol_per_mg
from pkpd.predict.pk import LinearStructure
from pkpd.solve.grid.grid import DEFAULT_STEP_H
from pkpd.solve.grid.structure import Whole
from pkpd.subjects import PatientSample, Population, covariates_at, median_age

OBSERVED = ("neutrophils", "platelets", "marrow_blasts")
FREE = ("rho", "stem_start", "stem_platelet_start", "blasts_start", "kill_blasts")
"""Parameters that a subject has of its own unless others are named, where there are such."""


def typical_patient(
    disease: str, drugs: Sequence[str] = (), structure: str = LANDED
) -> dict[str, float]:
    """Parameters of the typical patient of a disease, by the names of the marrow with leukaemia.

    Its age is the median of the disease's patients, and its scores are the middle ones.

    Parameters
    ----------
    disease
        A disease of ``models/leukaemia/populations.toml``.
    drugs
        Drugs whose actions by a concentration are wanted too, ``<drug>_<parameter>``.
    structure
        Variant of the marrow, with the numbers of its cards.

    Raises
    ------
    PkpdError
        If there is no such disease or drug.
    """
    arm = Arm(name="typical", disease=disease, schedule=ArmSchedule(None, 1))
    source = arm.who
    assert isinstance(source, Population)
    body, _ = covariates_at(source, np.zeros((1, len(source.covariates))))
    body["age"] = np.array([median_age(source)])
    middle = Who(np.full((1, len(SCORES)), 0.5), PatientSample("typical", 1, body, typical=True))
    theta, variant = leukaemia_cards(structure).theta, VARIANTS[structure]
    parameters = arm_patients(arm, theta, middle, variant).parameters
    of = values_of(theta, (disease,))
    none = np.zeros(1)
    for drug in drugs:
        level = _level(load_drug_card(drug))
        if level is not None:
            resistance = parameters["resistance"]
            parameters |= level.parameters(of, lambda _: none, none, resistance, variant)
    return {name: float(values[0]) for name, values in parameters.items()}


def _level(card: DrugCard) -> LevelDrug | None:
    """Drug that acts by a concentration, if it does by its card."""
    action = card.leukaemia
    return LevelDrug(0, card, action, LinearPK(), ()) if action and action.by_level else None


def leukaemia_model(
    pk: Mapping[str, LinearStructure | None],
    *,
    disease: str,
    structure: str = LANDED,
    observed: Sequence[str] = OBSERVED,
    free: Sequence[str] = FREE,
    values: Mapping[str, float] | None = None,
    actions: Mapping[str, Action] | None = None,
    driver: Mapping[str, Driver] | None = None,
    molar_mass: Mapping[str, float] | None = None,
    first_compartment: Mapping[str, int] | None = None,
    max_step_h: float = DEFAULT_STEP_H,
) -> MarrowStructure:
    """Drugs and the marrow with leukaemia, as a structural model to fit.

    Parameters
    ----------
    pk
        ``compartments(...)`` of every drug by name; ``None`` for a drug that acts by its doses, in
        units of intensity (1 is the kill of one course of 7+3) times its parameter
        ``<drug>_intensity``. A dose without a rate then acts over 24 h. A graft acts by its cells
        (10^6/kg) times ``<drug>_seeding``, a growth factor is on where its rate is 1 a day or more.
    disease
        Disease whose typical patient gives the parameters that are not free.
    structure
        Variant of the marrow (`pkpd.marrow.variants.VARIANTS`), with the numbers of its cards.
    observed
        Lines of the data: among ``neutrophils``, ``platelets``, ``wbc``, ``marrow_blasts``
        (percent), ``blood_blasts``, ``marrow_cells``.
    free
        Parameters of the marrow and of the drugs' actions that are individual parameters; by
        default those of `FREE` that there are.
    values
        Other values of parameters that are not free. Of a disease whose card gives ``relief``,
        capacities and crowding follow from the starts of each subject
        (`pkpd.marrow.leukaemic.room_of_start`) unless they are named here or in ``free``.
    actions
        How drugs act (`pkpd.marrow.actions`); by the drug card of that name if not given.
    driver, molar_mass, first_compartment, max_step_h
        As in `pkpd.models.marrow_model`, by drug. The driver follows from the action if not given,
        and the molar mass is that of the drug's card where the action is: amounts are mg then; for
        amounts in umol give a molar mass of 1000. A dose with CMT 0 is of the first drug with
        kinetics.

    Returns
    -------
    MarrowStructure
        Its individual parameters are those of the pharmacokinetics (L, h; with ``_drug`` at the end
        if there are several) and ``free``, whose rates are per day.

    Raises
    ------
    PkpdError
        If the disease, a drug without card and action, or a parameter is unknown.

    Examples
    --------
    >>> from pkpd.predict.pk import compartments
    >>> model = leukaemia_model({"clofarabine": compartments(2)}, disease="aml", free=["rho"])
    >>> model.parameters
    ('CL', 'V1', 'V2', 'Q', 'k_in', 'k_out', 'rho')
    >>> model.lines
    ('concentration', 'neutrophils', 'platelets', 'marrow_blasts')
    """
    if disease not in leukaemia_cards().populations:
        known = tuple(leukaemia_cards().populations)
        _refuse(f"disease {disease!r} is unknown{nearest_of(disease, known)}", known)
    if structure not in VARIANTS:
        what = f"structure {structure!r} is unknown{nearest_of(structure, VARIANTS)}"
        _refuse(what, tuple(VARIANTS))
    check_arguments(
        "leukaemia_model",
        pk=(pk, MAPPING),
        values=(values, MAPPING | NONE),
        actions=(actions, MAPPING | NONE),
        driver=(driver, MAPPING | NONE),
        molar_mass=(molar_mass, MAPPING | NONE),
        first_compartment=(first_compartment, MAPPING | NONE),
    )
    check_drugs("leukaemia_model", pk, actions, driver, molar_mass, first_compartment)
    for kind in (driver or {}).values():
        if kind not in get_args(Driver):
            _refuse(f"driver {kind!r} is unknown", get_args(Driver))
    given, variant = dict(actions or {}), VARIANTS[structure]
    # drugs with kinetics first: their concentrations are the first lines
    names = sorted(pk, key=lambda name: pk[name] is None)
    acting = {name: given.get(name) or _by_card(name, pk[name] is None, variant) for name in names}
    theta = leukaemia_cards(structure).theta
    own_room = {"capacity", "capacity_platelet", "crowding"} & {*free, *(values or {})}
    regrows = value_of(theta, "capacity", disease, 0.0) > 0.0
    marrow = LeukaemicMarrow(
        variant, injury=False, pegfilgrastim=False, care=False, tied=not (regrows or own_room)
    )
    whole = Whole(marrow, tuple(acting.values()), tuple(observed))
    by_card = [name for name in names if pk[name] is not None and name not in given]
    known = typical_patient(disease, by_card, structure) | {
        name: 1.0 for name in whole.parameters if name.endswith("_intensity")
    }
    if marrow.tied:
        known["relief"] = value_of(theta, "relief", disease)
    known |= {
        name: theta[f"seeding.{drug}"]
        for drug, action in acting.items()
        if isinstance(action, Graft) and f"seeding.{drug}" in theta
        for name in action.parameters
    }
    known |= dict(values or {})
    if free is FREE:  # of drugs that act by a concentration alone there is no `kill_blasts`
        free = [name for name in FREE if name in whole.parameters]
    for name in (*free, *(values or {})):
        if name not in whole.parameters:
            what = f"{name!r} is not a parameter of the marrow or of an action"
            _refuse(what + nearest_of(name, whole.parameters), whole.parameters)
    missing = [name for name in whole.parameters if name not in (*free, *known)]
    if missing:
        _refuse(f"no value for {missing[0]!r}", remedy="name it in free= or give it in values=")
    made, number = {}, 1
    # values of a card's action are of umol/L
    of_cards = ((name, load_drug_card(name).molar_mass) for name in by_card)
    masses = {name: one.value for name, one in of_cards if one is not None}
    masses |= dict(molar_mass or {})
    for name, kinetics in pk.items():
        usual: Driver = "plasma"
        if isinstance(acting[name], SaturableKill):
            usual = "triphosphate"
        made[name] = MarrowDrug(
            name,
            kinetics,
            (driver or {}).get(name, usual),
            umol_per_mg("leukaemia_model", masses.get(name)),
            (first_compartment or {}).get(name, number),
            f"_{name}" if len(names) > 1 else "",
        )
        number += made[name].size
    held = tuple((name, known[name]) for name in whole.parameters if name not in free)
    held = (*held, ("age", known["age"]))
    return MarrowStructure(
        drugs=tuple(made[name] for name in names),
        names=tuple(observed),
        marrow=(),
        effects=(),
        max_step_h=max_step_h,
        whole=whole,
        held=held,
    )


def _by_card(drug: str, by_doses: bool, variant: Variant) -> Action:
    """Find the action of a drug by its card."""
    if by_doses:
        action = load_drug_card(drug).leukaemia if drug.casefold() in drug_names() else None
        if action is not None and action.acts_by == GRAFT:
            return Graft(f"{drug}_")
        if action is not None and action.acts_by == GROWTH_FACTOR:
            return GrowthFactor()
        return DoseKill(f"{drug}_")
    card = load_drug_card(drug)
    level = _level(card)
    if level is not None:
        return level.acts(variant)
    what = f"the card of {drug} has no effect of a concentration in this marrow"
    remedy = "name its action in actions="
    if card.leukaemia is not None and card.leukaemia.acts_by == INTENSITY:
        remedy = f'give its doses as intensity with {{"{drug}": None}}'
    return _refuse(what, remedy=remedy)


def _refuse(what: str, allowed: Sequence[str] = (), remedy: str | None = None) -> NoReturn:
    raise PkpdError(
        where="leukaemia_model", what=what, allowed=", ".join(allowed) or None, remedy=remedy
    )
