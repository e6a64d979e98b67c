"""What the drugs of a regimen do in the marrow with leukaemia: tables for the driver, and numbers.

What a drug does is on its card (``[leukaemia]``): some act by their concentration, with the
kinetics of their cards; growth factors are switched on; others have an intensity, their kill of
early cells relative to a course of 7+3, and act by their doses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pkpd.arrays import Floats
from pkpd.cards.drug_cards import (
    BODY_SURFACE_M2,
    BODY_WEIGHT_KG,
    EFFECT_SITE,
    GRAFT,
    GROWTH_FACTOR,
    INTENSITY,
    LONG_ACTING,
    SATURABLE_KILL,
    DrugCard,
    LeukaemiaAction,
    drug_named,
    load_drug_card,
    named,
)
from pkpd.cards.drug_names import one_name_each
from pkpd.distributions import stratified_normals, stream
from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.patients import Value, ValueOf
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.marrow.actions import CHANNELS, Action, MaturationBlock, SaturableKill
from pkpd.marrow.variants import FULL, Variant
from pkpd.model.joint import JointModel, load_model
from pkpd.model.kinetics import linear_kinetics, swallowed
from pkpd.model.parameters import quantile_at_score
from pkpd.schedule import DosingPlan, Slot, plan
from pkpd.schedule.amounts import CELLS
from pkpd.solve.compiled.decisions import Rules, no_rules, rules_of
from pkpd.units import Parameter

GROWTH = len(CHANNELS)
"""Column of the rates of a regimen that switches growth factor on, after those of chemotherapy."""

GRAFTED = GROWTH + 1
"""Column of the rates of a regimen with a graft: cells given, 10^6/kg."""

OWN = "own."
"""Prefix of a number of a user's own drug card among global parameters, drawn from its range."""

APART_DAYS = 14
"""Doses of chemotherapy so many days after the last are another course: assumed."""

DEPOT = "pegfilgrastim"
"""State of the marrow that a long-acting growth factor is given into, in doses."""


def intensity(theta: Theta, drug: str, dose: float) -> float:
    """Kill of a course relative to 7+3, from its cumulative dose in mg/m^2."""
    return theta[f"intensity.{drug}"] * _relative(theta, drug, dose)


def share_of_levels(theta: Theta, drug: str, doses: Floats) -> Floats:
    """Kill of a course at each cumulative dose, relative to the first of them."""
    each = [_relative(theta, drug, float(dose)) for dose in doses]
    return np.array([one / each[0] for one in each])


def _relative(theta: Theta, drug: str, dose: float) -> float:
    """Kill relative to that of the reference dose."""
    half = theta.get(f"half_dose.{drug}")
    reference = theta[f"reference.{drug}"]
    relative = dose / reference
    if half is not None:
        relative *= (half + reference) / (half + dose)
    return relative


@dataclass(frozen=True)
class LevelDrug:
    """A drug that acts by its concentration.

    Attributes
    ----------
    index
        Of the drug in the plan.
    card, action
        Its card, and what the card says of this marrow.
    pk
        Its kinetics.
    together
        Parameters that multiply its potency, of other drugs of the regimen.
    """

    index: int
    card: DrugCard
    action: LeukaemiaAction
    pk: LinearPK
    together: tuple[str, ...]

    def acts(self, variant: Variant) -> Action:
        """How it acts on the marrow."""
        prefix = f"{self.card.name}_"
        if self.action.acts_by == SATURABLE_KILL:
            return SaturableKill(prefix)
        return MaturationBlock(
            prefix,
            linear=variant.effect == "linear",
            excess=variant.effect_above_one != "capped",
            steep=self.action.number("hill") is not None,
            own_kill=any(self.action.number(n) for n in ("kill_potency", "kill_hill")),
        )

    def parameters(
        self,
        of: ValueOf,
        score: Callable[[str], Floats],
        kill_blasts: Floats,
        resistance: Floats,
        variant: Variant,
    ) -> dict[str, Floats]:
        """Parameters of its action in N patients.

        Parameters
        ----------
        of
            Look-up of global parameters for the patients' disease.
        score
            Standard normal score of the patients by name, ``[N]``.
        kill_blasts, resistance
            Scores of the sensitivity of blasts, and factors on their kill, ``[N]``.
        variant
            Mechanisms that are on.
        """
        name, n = self.card.name, resistance.size

        def number(short: str, default: float | None = None) -> Value:
            return of(f"{short}.{name}", default)

        def spread(short: str, scores: Floats, default: float | None = None) -> Floats:
            return number(short, default) * np.exp(number(f"{short}.sd", 0.0) * scores)

        potency: Value = 1.0
        for factor in self.together:
            potency = potency * of(factor)
        found: dict[str, Value] = {}
        if self.action.acts_by == SATURABLE_KILL:
            ec50 = number("ec50_stem")
            own = number("ec50_committed", -1.0)
            has_own = variant.committed_ec50 and np.all(np.asarray(own) > 0.0)
            ratio = number("platelet_ratio", 1.0)
            if not variant.committed_ec50:
                ratio = of("committed_platelet") / of("committed_neutrophil")
            found = {
                "max_stem": number("max_stem"),
                "ec50_stem": ec50 / potency,
                "max_committed": number("max_committed", 0.0),
                "ec50_committed": (own if has_own else ec50) / potency,
                "platelet_ratio": ratio,
                "max_blasts": spread("max_blasts", kill_blasts, 0.0) * resistance,
                "hill": number("hill", 1.0),
            }
        else:
            ec50 = spread("ec50", score(f"ec50.{name}"))
            ec50 = ec50 / (of(f"sensitivity.{name}", default=1.0) * potency)
            found = {
                "emax": number("emax"),
                "ec50_neutrophil": ec50,
                "ec50_platelet": ec50 / number("platelet_ratio", 1.0),
                "hill": number("hill", 1.0),
                "kill_stem": number("kill_stem", 0.0) if variant.early_kill else 0.0,
                "ec50_kill": ec50 / number("kill_potency", 1.0),
                "hill_kill": number("kill_hill", 1.0),
                "slow_stem": number("slow_stem", 0.0) if variant.early_kill else 0.0,
                "kill_blasts": spread("kill_blasts", score(f"kill_blasts.{name}"), 0.0),
            }
        return {f"{name}_{short}": np.full(n, value) for short, value in found.items()}

    def exposure(self, of: ValueOf, score: Callable[[str], Floats]) -> Floats | None:
        """Factor of each patient on the concentration that acts; ``None`` where there is none."""
        sd = of(f"exposure.sd.{self.card.name}", default=0.0)
        if not np.any(sd):
            return None
        return np.exp(sd * score(f"exposure.{self.card.name}"))


@dataclass(frozen=True, eq=False)
class PreparedRegimen:
    """What of a regimen does not depend on global parameters.

    Attributes
    ----------
    made
        The dosing plan; ``None`` without drugs.
    levels
        Drugs that act by a concentration.
    model
        Their cards.
    slots
        Dose slots of these drugs and of long-acting growth factors, in the order of
        ``rules.amount``.
    rules
        The regimen for the driver, without the rates of chemotherapy.
    chemotherapy
        Course, drug, its name, cumulative dose at each level (mg/m^2) and share of each day
        ``[D]``; several of a course whose doses are far apart (`blocks_of`).
    own
        Parameters of a user's own drug cards, in place of those of the same name.
    long_acting
        Places of long-acting growth factors in the plan.
    graft
        Card of the graft; empty for none.
    """

    made: DosingPlan | None
    levels: tuple[LevelDrug, ...]
    model: JointModel | None
    slots: tuple[Slot, ...]
    rules: Rules
    chemotherapy: tuple[tuple[int, int, str, Floats, Floats], ...] = ()
    own: tuple[Parameter, ...] = ()
    long_acting: tuple[int, ...] = ()
    graft: str = ""

    def with_own(self, theta: Theta) -> Theta:
        """Global parameters with those of a user's own cards, in place of all of shipped ones.

        Their numbers are those of `own_draws` where they are among the parameters, else the
        cards' values. What a disease says of a drug (``sensitivity.<drug>.<disease>``) stays.
        """
        if not self.own:
            return theta
        replaced = tuple(f".{drug}" for drug in {p.name.split(".")[-1] for p in self.own})
        kept = {
            name: v
            for name, v in theta.items()
            if name.startswith(OWN) or not name.endswith(replaced)
        }
        return {**kept, **{p.name: theta.get(f"{OWN}{p.name}", p.value) for p in self.own}}

    def own_draws(self, n: int, seed: int) -> tuple[dict[str, float], ...]:
        """Draw the numbers of a user's own cards from their ranges, n times.

        Draws are stratified, as those of `pkpd.model.parameters.draw_parameters`; a single one has
        the cards' values.
        """
        drawn: dict[str, Floats] = {}
        for p in self.own if n > 1 else ():
            if p.interval is not None:
                scores = stratified_normals(stream(seed, f"prior:{p.name}"), n)
                drawn[f"{OWN}{p.name}"] = quantile_at_score(p, scores)
        return tuple({name: float(v[draw]) for name, v in drawn.items()} for draw in range(n))

    def injures(self, theta: Theta) -> bool:
        """Whether a drug of the regimen causes late injury."""
        theta = self.with_own(theta)
        return any(theta.get(f"injury.{drug}", 0.0) > 0.0 for _, _, drug, *_ in self.chemotherapy)

    def at(self, theta: Theta, variant: Variant = FULL) -> Rules:
        """Regimen for the driver under global parameters."""
        if not self.chemotherapy:
            return self.rules
        theta = self.with_own(theta)
        rates, acts = self.rules.rates.copy(), self.rules.share.copy()
        beside = self._sensitising(theta if variant.synergy else {})
        pairs: dict[tuple[int, int], Floats] = {}
        early, platelets = CHANNELS.index("early"), CHANNELS.index("early_platelet")
        for c, k, drug, totals, share in self.chemotherapy:
            rate = intensity(theta, drug, float(totals[0])) * share
            acts[c, share > 0.0, k] = share_of_levels(theta, drug, totals)
            platelet = theta.get(f"platelet.{drug}", 1.0)
            committed = rate * theta.get(f"committed.{drug}", 1.0)
            of_channel = {
                "early": rate,
                "committed": committed,
                "blasts": rate * theta.get(f"blasts.{drug}", 1.0),
                "injury": rate * theta.get(f"injury.{drug}", 0.0),
                "early_platelet": rate * platelet,
                "committed_platelet": committed * platelet,
            }
            for column, channel in enumerate(CHANNELS):
                rates[c, :, k, column] += of_channel[channel]
            for index, own in beside.items():
                more = np.where(self.rules.given[c, :, index] > 0, rate * (own - 1.0), 0.0)
                of_pair = pairs.setdefault((k, index), np.zeros(rates.shape[:2] + rates.shape[3:]))
                of_pair[c, :, early] += more
                of_pair[c, :, platelets] += more * platelet
                rate = rate + more
        rules = self.rules._replace(rates=rates, share=acts)
        if not pairs:
            return rules
        together = np.ascontiguousarray(np.stack([*pairs.values()], axis=2))
        return rules._replace(pair=np.array([*pairs], dtype=np.int64), pair_rates=together)

    def _sensitising(self, theta: Theta) -> dict[int, float]:
        """Drugs with a level that change the kill of early cells by chemotherapy of the same day.

        Place in the plan -> factor (``with_chemotherapy``). It acts where both are given.
        """
        found = {
            level.index: theta.get(f"with_chemotherapy.{level.card.name}", 1.0)
            for level in self.levels
        }
        return {index: float(own) for index, own in found.items() if own != 1.0}


def prepare_regimen(schedule: ArmSchedule) -> PreparedRegimen:
    """Work out what of a schedule does not depend on parameters.

    Raises
    ------
    PkpdError
        If a drug is unknown, or has no model for the route of a dose.
    """
    if schedule.regimen is None:
        return PreparedRegimen(None, (), None, (), no_rules())
    made = plan(one_name_each(schedule.regimen), schedule.horizon_days)
    own_cards = schedule.regimen.cards
    cards = [load_drug_card(own_cards.get(drug) or drug_named(drug)) for drug in made.drugs]
    actions = [_action(card) for card in cards]
    per_m2 = doses_per_m2(made)
    grafts = [k for k, action in enumerate(actions) if action.acts_by == GRAFT]
    if len(grafts) > 1:
        first, second = (cards[k].name for k in grafts[:2])
        raise PkpdError(
            where=f"drug {second}",
            what=f"the schedule has another graft, {first}, and patients one seeding",
            remedy="give both doses of one of them",
        )
    rates = np.zeros((*per_m2.shape, (GRAFTED if grafts else GROWTH) + 1))
    for s, slot in enumerate(made.slots):
        if (slot.unit == CELLS) != (slot.drug_index in grafts):
            raise PkpdError(
                where=f"drug {slot.drug}",
                what=f"a dose in {slot.unit}",
                allowed=f"{CELLS} for a graft, and for nothing else",
            )
        if slot.drug_index in grafts:
            rates[:, :, slot.drug_index, GRAFTED] += made.amount[:, :, s]
    chemotherapy = []
    for k, (card, action) in enumerate(zip(cards, actions, strict=True)):
        dose = per_m2[:, :, k]
        if action.acts_by == GROWTH_FACTOR:
            rates[:, :, k, GROWTH] = dose > 0.0
        elif action.acts_by == INTENSITY:
            chemotherapy += [(c, k, card.name, *one) for c, *one in blocks_of_plan(made, k)]
    model, levels = _levels(schedule, made, cards, actions)
    long_acting = tuple(k for k, action in enumerate(actions) if action.acts_by == LONG_ACTING)
    followed = {level.index for level in levels} | {*long_acting}
    of_slot = np.array([slot.drug_index for slot in made.slots], dtype=np.int64)
    wanted = [s for s, k in enumerate(of_slot) if k in followed]
    amount = made.amount[:, :, wanted]
    by_dose = np.isin(of_slot[wanted], long_acting)
    amount = np.where(by_dose, np.minimum(np.ceil(amount), 1.0), amount)
    given = [(made.amount[:, :, of_slot == k] > 0.0).any(axis=2) for k in range(len(cards))]
    least = np.array(schedule.only_if_blasts_from or [0.0] * len(made.cycles), dtype=np.float64)
    own = tuple(
        named(p, card.name) for card in cards if not card.shipped for p in _action(card).numbers
    )
    return PreparedRegimen(
        made=made,
        levels=levels,
        model=model,
        slots=tuple(
            one_dose(made.slots[s]) if made.slots[s].drug_index in long_acting else made.slots[s]
            for s in wanted
        ),
        rules=rules_of(
            made,
            amount=np.ascontiguousarray(amount),
            rates=rates,
            given=np.stack(given, axis=2).astype(np.int64),
            slot_drug=of_slot[wanted],
            least_blasts=least,
        ),
        chemotherapy=tuple(chemotherapy),
        own=own,
        long_acting=long_acting,
        graft=cards[grafts[0]].name if grafts else "",
    )


def one_dose(slot: Slot) -> Slot:
    """Give a slot whose amount is a number of doses, in the morning."""
    return replace(slot, hour=0.0, duration_h=0.0, unit="mg", cap_mg=float("inf"), strength_mg=0.0)


def blocks_of_plan(made: DosingPlan, k: int) -> list[tuple[int, Floats, Floats]]:
    """Blocks (`blocks_of`) of a drug: course, sum (mg/m^2) at each level, share of each day."""
    doses = np.stack([doses_per_m2(made, v)[:, :, k] for v in range(made.level.shape[2])])
    return [
        (
            c,
            (totals := np.where(block > 0.0, doses[:, c], 0.0).sum(axis=1) * times),
            block / totals[0],
        )
        for c, of_course in enumerate(doses[0])
        for block, times in blocks_of(of_course, int(made.cycle_days[c]), int(made.cycles[c]))
    ]


def blocks_of(dose: Floats, cycle_days: int = 0, cycles: int = 1) -> list[tuple[Floats, int]]:
    """Doses ``[D]`` of a cycle as courses of their own: those two weeks or more after the last.

    A dose that saturates (`intensity`) does so within such a course: what is given five weeks later
    takes nothing from what was given before. Beside the doses is the number of times that they are
    given within it: of one, or of all cycles, where these follow each other more closely.
    """
    days = np.flatnonzero(dose > 0.0)
    ends = [*(np.flatnonzero(np.diff(days) >= APART_DAYS) + 1), days.size]
    found, first = [], 0
    for end in ends if days.size else []:
        block = np.zeros_like(dose)
        block[days[first:end]] = dose[days[first:end]]
        found.append(block)
        first = end
    if cycles == 1 or not found or cycle_days + days[0] - days[-1] >= APART_DAYS:
        return [(block, 1) for block in found]
    if len(found) == 1:
        return [(found[0], cycles)]
    joined = found[-1] + found[0]  # the last doses of a cycle, and the first of the next
    return [(block, 1) for block in (joined, *found[1:-1])]


def doses_per_m2(made: DosingPlan, level: int = 0) -> Floats:
    """Doses of each drug by course and day in mg/m^2 of the body doses are compared with."""
    courses, days, _ = made.amount.shape
    per_m2 = np.zeros((courses, days, len(made.drugs)))
    for s, slot in enumerate(made.slots):
        size = {"mg/m^2": 1.0, "mg": 1.0 / BODY_SURFACE_M2}.get(
            slot.unit, BODY_WEIGHT_KG / BODY_SURFACE_M2
        )
        cap = slot.cap_mg / BODY_SURFACE_M2
        amount = made.amount[:, :, s] * made.level[:, None, slot.drug_index, level]
        per_m2[:, :, slot.drug_index] += np.minimum(amount * size, cap)
    return per_m2


def _levels(
    schedule: ArmSchedule,
    made: DosingPlan,
    cards: list[DrugCard],
    actions: list[LeukaemiaAction],
) -> tuple[JointModel | None, tuple[LevelDrug, ...]]:
    """Drugs that act by a concentration, and their cards."""
    acting = [k for k, action in enumerate(actions) if action.by_level]
    if not acting:
        return None, ()
    names = [cards[k].name for k in acting]
    owners = tuple(f"{name}." for name in names)
    model = load_model(
        drugs=names,
        replace={key: card for key, card in schedule.cards if key.startswith(owners)},
        drug_cards={cards[k].name: cards[k].path for k in acting if not cards[k].shipped},
        lines=False,
        options=dict(schedule.options),
        other_options=True,
    )
    given = [card.name for card in cards]
    levels = []
    for k in acting:
        card, action = cards[k], actions[k]
        drug = model.drug(card.name)
        mine = [replace(s, drug=card.name) for s in made.slots if s.drug_index == k]
        pk = linear_kinetics(drug, action.driver == EFFECT_SITE, swallowed(drug, mine))
        together = tuple(f"{p.name}.{card.name}" for other, p in action.together if other in given)
        levels.append(LevelDrug(k, card, action, pk, together))
    return model, tuple(levels)


def _action(card: DrugCard) -> LeukaemiaAction:
    if card.leukaemia is None:
        raise PkpdError(
            where=f"drug card {card.name}",
            what="it does not say how the drug acts in the marrow with leukaemia",
            remedy="add a table [leukaemia], or use the marrow without leukaemia",
        )
    return card.leukaemia
