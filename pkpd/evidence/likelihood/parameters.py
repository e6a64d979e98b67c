"""Which parameters a posterior is learned of: of the marrow, and how studies and arms deviate.

Values and limits are those of the cards in ``models/leukaemia``. What is not learned stays at its
card's value.
"""

from __future__ import annotations

from collections.abc import Iterable

from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.prior import Entry, HalfNormal, Pooled, Prior
from pkpd.leukaemia.parameters import LANDED, LeukaemiaCards, leukaemia_cards
from pkpd.units import Parameter

FEVER = Parameter(
    "fever_hazard",
    0.05,
    "1/day",
    interval=(0.01, 0.2),
    distribution="lognormal",
    source="fever in half to all of patients with two to four weeks below 0.5",
    status="assumed",
)
BETWEEN = (
    HalfNormal("between.response", 1.0, "logits: shares of 0.5 differ by 0.12 to 0.25 in SD"),
    HalfNormal("between.death", 1.0, "logits"),
    HalfNormal("between.days", 0.3, "log: medians of studies of one regimen differ by a tenth"),
    HalfNormal("between.low", 1.0, "logits: reports of cytopenias are not counts"),
    HalfNormal("between.start", 0.6, "log: counts before treatment"),
)
"""Standard deviations of the studies' offsets, by channel."""
ARMS = (
    HalfNormal("discrepancy", 0.04, "a share of 0.5 reported as 0.5 +- 0.1 at most"),
    HalfNormal("discrepancy.days", 0.15, "arms of one study beyond chance"),
)
"""How arms of a study deviate besides."""


def _resistance(disease: str, known: LeukaemiaCards) -> Pooled:
    """Resistance of a disease, about the centre of all; of a state, about that of its disease."""
    name, disease_of = f"resistance.{disease}", known.states.get(disease)
    if disease_of is None:
        return Pooled(name, "resistance", "resistance.between")
    centre = f"resistance.{disease_of}"
    ratio = known.parameters[name].value / known.parameters[centre].value
    return Pooled(name, centre, "resistance.between", factor=ratio)


def marrow_prior(learned: Iterable[str] | None = None, variant: str = LANDED) -> Prior:
    """Prior of the parameters to learn: of the marrow, of studies and of arms.

    Parameters
    ----------
    learned
        Names of parameters of the marrow model whose cards have limits; those whose cards say
        ``learned`` if not given. The pooled resistances of the diseases that have one of their own,
        the spreads between studies and arms, and the hazard of fever are always learned.
    variant
        Name of a variant of the marrow, which may have numbers of its own.

    Raises
    ------
    PkpdError
        If a name is unknown or its card has no limits.

    Examples
    --------
    >>> "rho" in marrow_prior().names
    True
    """
    known = leukaemia_cards(variant)
    cards = known.parameters
    entries: list[Entry] = []
    for name in known.learned if learned is None else learned:
        if name not in cards or cards[name].interval is None:
            raise PkpdError(
                where="prior of the marrow model",
                what=f"{name} has no limits on a card",
                allowed=", ".join(n for n, p in cards.items() if p.interval is not None),
            )
        entries.append(cards[name])
    centre = Parameter(
        "resistance",
        0.45,
        "1",
        interval=(0.25, 0.85),
        distribution="lognormal",
        source="resistance of the diseases' cards, 0.2 to 0.75; at 0.6 more remissions of relapsed "
        "than of untreated leukaemia were expected",
        status="assumed",
    )
    entries += [centre, HalfNormal("resistance.between", 0.6, "diseases differ by a factor of two")]
    entries += [
        _resistance(disease, known)
        for disease in known.populations
        if f"resistance.{disease}" in cards
    ]
    entries += [FEVER, *BETWEEN, *ARMS]
    return Prior(entries, fixed=dict(known.theta))
