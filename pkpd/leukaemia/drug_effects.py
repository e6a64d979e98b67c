"""Doses of a regimen to what they do to the marrow: tables for the compiled course.

What a drug does is on its card (``[leukaemia]``): some act by their amounts, growth factors are
switched on, others have an intensity, their kill of early cells relative to a course of 7+3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pkpd.cards import card_names
from pkpd.cards.drug_cards import (
    BODY_SURFACE_M2,
    BODY_WEIGHT_KG,
    CONCENTRATION,
    GROWTH_FACTOR,
    INTENSITY,
    LONG_ACTING,
    TRIPHOSPHATE,
    DrugCard,
    LeukaemiaAction,
    drug_named,
    load_drug_card,
)
from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.equations import Calendar
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.schedule import DosingPlan, plan

Floats = NDArray[np.float64]

_CLO, _LEN, _FILGRASTIM, _PEG = 4, 5, 6, 7
_GROWTH_FACTORS = {GROWTH_FACTOR: _FILGRASTIM, LONG_ACTING: _PEG}


def known_drugs() -> tuple[str, ...]:
    """Names of shipped drugs that a schedule may contain, besides their other names."""
    return tuple(name for name in card_names("drugs") if load_drug_card(name).leukaemia)


def drug_name(text: str) -> str:
    """Name of a drug as the model knows it.

    Raises
    ------
    PkpdError
        If it is unknown; the message names the nearest known drug.
    """
    return drug_named(text)


def intensity(theta: Theta, drug: str, dose: float) -> float:
    """Kill of a course relative to 7+3, from its cumulative dose in mg/m^2."""
    half = theta.get(f"half_dose.{drug}")
    reference = theta[f"reference.{drug}"]
    relative = dose / reference
    if half is not None:
        relative *= (half + reference) / (half + dose)
    return theta[f"intensity.{drug}"] * relative


class Tables(NamedTuple):
    """A regimen for the compiled course. C courses, D cycle days, K drugs, V levels.

    ``effect`` is ``[C, D, K, 10]``: the first four rates of chemotherapy (``CHANNELS`` of the
    equations), clofarabine (mg/m^2), lenalidomide (mg), filgrastim (0 or 1), pegfilgrastim
    (doses), the other two rates of chemotherapy. ``given`` is ``[C, D, K]``, 1 on dosing days;
    ``least_blasts`` ``[C]`` in percent. The others are those of :class:`pkpd.schedule.DosingPlan`.
    """

    effect: np.ndarray
    given: np.ndarray
    cycle_days: np.ndarray
    cycles: np.ndarray
    start_day: np.ndarray
    gate_threshold: np.ndarray
    gate_any: np.ndarray
    gate_every: np.ndarray
    gate_wait: np.ndarray
    gate_stop: np.ndarray
    hold_below: np.ndarray
    resume_at: np.ndarray
    level: np.ndarray
    n_levels: np.ndarray
    reduce_on_resume: np.ndarray
    visit_every: np.ndarray
    least_blasts: np.ndarray


@dataclass(frozen=True)
class PreparedRegimen:
    """What of the tables of a schedule does not depend on global parameters.

    Attributes
    ----------
    made
        The dosing plan; ``None`` without drugs.
    tables
        Tables without the effects that depend on parameters.
    by_mouth
        Drug that acts by its triphosphate and is swallowed: index, parameter of what is absorbed,
        and dose ``[C, D]`` (mg/m^2).
    chemotherapy
        Course, drug, its name, cumulative dose (mg/m^2) and share of each day ``[D]``.
    together
        Course, drug and parameter that multiplies its doses where another drug is given too.
    own
        Parameters of a user's own drug cards, in place of those of the same name.
    """

    made: DosingPlan | None
    tables: Tables
    by_mouth: tuple[tuple[int, str, Floats], ...] = ()
    chemotherapy: tuple[tuple[int, int, str, float, Floats], ...] = ()
    together: tuple[tuple[int, int, str], ...] = ()
    own: tuple[tuple[str, float], ...] = ()

    def at(self, theta: Theta) -> Tables:
        """Tables under global parameters."""
        if not self.chemotherapy and not self.by_mouth:
            return self.tables
        if self.own:
            theta = {**theta, **dict(self.own)}
        effect = self.tables.effect.copy()
        for k, absorbed, dose in self.by_mouth:
            effect[:, :, k, _CLO] += dose * theta[absorbed]
        for c, k, factor in self.together:
            effect[c, :, k, _LEN] *= theta.get(factor, 1.0)
        for c, k, drug, total, share in self.chemotherapy:
            rate = intensity(theta, drug, total) * share
            here = effect[c, :, k]
            here[:, 0] = rate
            here[:, 1] = rate * theta.get(f"committed.{drug}", 1.0)
            here[:, 2] = rate * theta.get(f"blasts.{drug}", 1.0)
            here[:, 3] = rate * theta.get(f"injury.{drug}", 0.0)
            here[:, 8:] = here[:, :2] * theta.get(f"platelet.{drug}", 1.0)
        return self.tables._replace(effect=effect)


def prepare_regimen(schedule: ArmSchedule) -> PreparedRegimen:
    """Work out what of the tables of a schedule does not depend on parameters.

    Raises
    ------
    PkpdError
        If a drug is unknown.
    """
    if schedule.regimen is None:
        return PreparedRegimen(None, _nothing())
    made = plan(schedule.regimen, schedule.horizon_days)
    cards = [_card(drug, schedule) for drug in made.drugs]
    names = [card.name for card in cards]
    actions = [_action(card) for card in cards]
    courses, days, _ = made.amount.shape
    effect = np.zeros((courses, days, len(names), 10))
    given = np.zeros((courses, days, len(names)), dtype=np.int64)
    per_m2 = np.zeros((courses, days, len(names)))
    by_mouth = np.zeros_like(per_m2)
    for s, slot in enumerate(made.slots):
        size = {"mg/m^2": 1.0, "mg": 1.0 / BODY_SURFACE_M2}.get(
            slot.unit, BODY_WEIGHT_KG / BODY_SURFACE_M2
        )
        amount = np.minimum(made.amount[:, :, s] * size, slot.cap_mg / BODY_SURFACE_M2)
        oral = bool(actions[slot.drug_index].by_mouth) and slot.route == "oral"
        (by_mouth if oral else per_m2)[:, :, slot.drug_index] += amount
        given[:, :, slot.drug_index] |= made.amount[:, :, s] > 0.0
    chemotherapy = []
    for k, action in enumerate(actions):
        dose = per_m2[:, :, k]
        if action.acts_by == TRIPHOSPHATE:
            effect[:, :, k, _CLO] = dose
        elif action.acts_by == CONCENTRATION:
            effect[:, :, k, _LEN] = dose * BODY_SURFACE_M2
        elif action.acts_by in _GROWTH_FACTORS:
            effect[:, :, k, _GROWTH_FACTORS[action.acts_by]] = dose > 0.0
        elif action.acts_by == INTENSITY:
            for c in range(courses):
                total = dose[c].sum()
                if total > 0.0:
                    chemotherapy.append((c, k, names[k], float(total), dose[c] / total))
    least = np.array(schedule.only_if_blasts_from or [0.0] * courses, dtype=np.float64)
    tables = Tables(
        effect=effect,
        given=given,
        least_blasts=least,
        **{
            name: np.ascontiguousarray(getattr(made, name))
            for name in Tables._fields
            if name not in ("effect", "given", "least_blasts")
        },
    )
    swallowed = tuple(
        (k, action.by_mouth, by_mouth[:, :, k])
        for k, action in enumerate(actions)
        if by_mouth[:, :, k].any()
    )
    together = tuple(
        (c, k, factor)
        for c, _, drug, *_ in chemotherapy
        for k, action in enumerate(actions)
        for other, factor in action.together
        if other == drug
    )
    own = tuple(
        (f"{p.name}.{card.name}", p.value)
        for card in cards
        if card in schedule.drugs
        for p in _action(card).parameters
    )
    return PreparedRegimen(made, tables, swallowed, tuple(chemotherapy), together, own)


def _card(drug: str, schedule: ArmSchedule) -> DrugCard:
    """Card of a drug of a schedule: the user's own, or the shipped one."""
    own = [card for card in schedule.drugs if card.name == drug]
    return own[0] if own else load_drug_card(drug_name(drug))


def _action(card: DrugCard) -> LeukaemiaAction:
    if card.leukaemia is None:
        msg = sentence(
            where=f"drug card {card.name}",
            what="it does not say how the drug acts in the marrow with leukaemia",
            remedy="add a table [leukaemia], or use the marrow without leukaemia",
        )
        raise PkpdError(msg)
    return card.leukaemia


def regimen_tables(schedule: ArmSchedule, theta: Theta) -> tuple[Tables, DosingPlan | None]:
    """Tables of a schedule for the compiled course, and the plan they come from."""
    prepared = prepare_regimen(schedule)
    return prepared.at(theta), prepared.made


def calendar(schedule: ArmSchedule, theta: Theta) -> Calendar:
    """Effects by day of a schedule without gates, holds and conditions, for reference solutions.

    Raises
    ------
    PkpdError
        If doses depend on counts.
    """
    tables, made = regimen_tables(schedule, theta)
    days = schedule.horizon_days
    empty = Calendar.empty(days)
    if made is None:
        return empty
    if not made.is_static or tables.least_blasts.any() or schedule.growth_factor.below > 0.0:
        msg = sentence(
            where="calendar of an arm",
            what="its doses depend on counts",
            remedy="leave out gates, modifications and growth factor by need",
        )
        raise PkpdError(msg)
    effect = np.zeros((days, 10))
    for c, start in enumerate(made.planned_start):
        for cycle in range(int(made.cycles[c])):
            begin = int(start + cycle * made.cycle_days[c])
            stop = min(begin + int(made.cycle_days[c]), days)
            if begin < stop:
                effect[begin:stop] = tables.effect[c, : stop - begin].sum(axis=1)
    return Calendar(
        effect[:, [0, 1, 2, 3, 8, 9]],
        effect[:, _CLO],
        effect[:, _LEN],
        np.minimum(effect[:, _FILGRASTIM], 1.0),
        effect[:, _PEG],
    )


def _nothing() -> Tables:
    whole, wide = np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    return Tables(
        effect=np.zeros((0, 0, 0, 10)),
        given=np.zeros((0, 0, 0), dtype=np.int64),
        cycle_days=whole,
        cycles=whole,
        start_day=whole,
        gate_threshold=np.zeros((0, 2, 2)),
        gate_any=wide.astype(bool),
        gate_every=wide,
        gate_wait=wide,
        gate_stop=wide.astype(bool),
        hold_below=np.zeros((0, 0, 2)),
        resume_at=np.zeros((0, 0, 2)),
        level=np.zeros((0, 0, 1)),
        n_levels=np.zeros((0, 0), dtype=np.int64),
        reduce_on_resume=np.zeros((0, 0), dtype=bool),
        visit_every=np.zeros((0, 0), dtype=np.int64),
        least_blasts=np.zeros(0),
    )
