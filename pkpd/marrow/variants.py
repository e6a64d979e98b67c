"""Variants of the joint model: which mechanisms are on, and which rule where papers differ."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pkpd.errors import PkpdError

_CHOICES = {
    "lineages": ("shared", "separate"),
    "platelet_loss": ("hanson_slichter", "constant"),
    "growth_factor": ("algebraic", "count", "off"),
    "proliferation": ("from_stem", "self_renewing"),
    "regrowth": ("own", "growth_factor"),
    "effect": ("emax", "linear"),
    "effect_above_one": ("capped", "kept", "off"),
}


_MOST_STAGES = 40


@dataclass(frozen=True)
class Variant:
    """Switches of the joint model; the default is the full model.

    Attributes
    ----------
    stem_memory
        The early pool regrows slowly after a kill, at ``rho`` (Henrich 2017 gave the Friberg chain
        a pool that can be exhausted). Off: it regrows at 3 per day, so that counts come back as
        fast as the chain allows.
    reserve
        Dormant stem cells that drugs spare refill the early pool at a constant rate.
    crowding
        Blasts take room of the early pool (niche competition; Stiehl 2015, Jost 2020).
    block
        Blasts slow the step from the early pool into the chains.
    late_injury
        Mitoxantrone-like drugs cause a loss of early cells that comes weeks later and lasts
        (secondary cytopenia after remission).
    lineages
        ``separate``: early neutrophil and platelet progenitors regrow at rates of their own;
        ``shared``: one rate for both.
    leukaemic_neutrophils
        Part of the leukaemic cells in blood is counted as neutrophils.
    committed_ec50
        Committed cells have an EC50 of their own for a drug that kills by its concentration; off:
        that of the early pool.
    platelet_loss
        ``hanson_slichter``: a fixed daily loss besides ageing (Hanson and Slichter 1985);
        ``constant``: one rate of loss, that at the normal count.
    growth_factor
        ``algebraic``: G-CSF in balance between production and clearance by neutrophils
        (Quartino 2014); ``count``: feedback ``(N0/N)^gamma`` of Friberg 2002; ``off``: none.
    proliferation
        ``from_stem``: the committed pool is fed by the early pool; ``self_renewing``: it renews
        itself, which with ``growth_factor="count"`` is Friberg's model.
    early_kill
        Drugs that block maturation kill early cells and slow their regrowth.
    synergy
        Drugs that block maturation change what chemotherapy kills of early cells on their days.
    transit_stages
        Stages of maturation between committed neutrophils and blood. With 3 their delay spreads as
        in Friberg 2002; counts of real recoveries are as steep as with 10.
    regrowth
        ``own``: early neutrophil cells regrow at a rate of their own; ``growth_factor``: at that
        rate times G-CSF relative to health to the power ``rho_growth``.
    effect
        Drugs that block maturation: ``emax`` or ``linear`` (``C / EC50``).
    effect_above_one
        What an effect above 1 does (only ``linear`` can reach it): ``capped`` at 1; ``kept``: the
        rest removes committed cells at a rate multiplied by the feedback; ``off``: the rest removes
        them without feedback (model M3 of Jost 2019).
    """

    stem_memory: bool = True
    reserve: bool = True
    crowding: bool = True
    block: bool = True
    late_injury: bool = True
    lineages: str = "separate"
    leukaemic_neutrophils: bool = True
    committed_ec50: bool = True
    platelet_loss: str = "hanson_slichter"
    growth_factor: str = "algebraic"
    proliferation: str = "from_stem"
    early_kill: bool = True
    synergy: bool = True
    transit_stages: int = 3
    regrowth: str = "own"
    effect: str = "emax"
    effect_above_one: str = "capped"

    def __post_init__(self) -> None:
        """Refuse words that are no choice."""
        for field in fields(self):
            value = getattr(self, field.name)
            allowed = _CHOICES.get(field.name)
            if allowed is not None and value not in allowed:
                raise PkpdError(
                    where="variant of the leukaemia model",
                    what=f"{field.name} = {value!r}",
                    allowed=", ".join(allowed),
                )
        if self.transit_stages not in range(1, _MOST_STAGES + 1):
            raise PkpdError(
                where="variant of the leukaemia model",
                what=f"transit_stages = {self.transit_stages!r}",
                allowed=f"whole numbers from 1 to {_MOST_STAGES}",
            )


#: The full model.
FULL = Variant()

#: Named variants for comparison. ``study`` is the model of the feasibility study this grew from.
VARIANTS: dict[str, Variant] = {
    "full": FULL,
    "study": Variant(
        late_injury=False,
        lineages="shared",
        leukaemic_neutrophils=False,
        committed_ec50=False,
    ),
    "no_stem_memory": Variant(stem_memory=False),
    "no_reserve": Variant(reserve=False),
    "no_crowding": Variant(crowding=False),
    "no_block": Variant(block=False),
    "no_late_injury": Variant(late_injury=False),
    "shared_lineages": Variant(lineages="shared"),
    "no_leukaemic_neutrophils": Variant(leukaemic_neutrophils=False),
    "one_clofarabine_ec50": Variant(committed_ec50=False),
    "constant_platelet_loss": Variant(platelet_loss="constant"),
    "feedback_by_count": Variant(growth_factor="count"),
    "no_early_kill": Variant(early_kill=False, synergy=False),
    "early_kill_alone": Variant(synergy=False),
    "synergy_alone": Variant(early_kill=False),
    "ten_stages": Variant(transit_stages=10),
    "ten_stages_driven": Variant(transit_stages=10, regrowth="growth_factor"),
    "linear_lenalidomide_capped": Variant(effect="linear"),
    "linear_lenalidomide_kept": Variant(effect="linear", effect_above_one="kept"),
    "linear_lenalidomide_off": Variant(effect="linear", effect_above_one="off"),
    "friberg": Variant(
        stem_memory=False,
        reserve=False,
        crowding=False,
        block=False,
        late_injury=False,
        lineages="shared",
        platelet_loss="constant",
        growth_factor="count",
        proliferation="self_renewing",
    ),
}
