"""Which parameters of the marrow model a calibration learns, and how studies deviate.

Values and limits are those of the cards in ``models/leukaemia``. What is not learned stays at its
card's value.
"""

from __future__ import annotations

from collections.abc import Iterable

from pkpd.errors import PkpdError, sentence
from pkpd.evidence.likelihood.prior import Entry, HalfNormal, Pooled, Prior
from pkpd.evidence.likelihood.random_effects import StudyEffect, StudyEffects
from pkpd.leukaemia.parameters import leukaemia_cards
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
DISCREPANCY = HalfNormal("discrepancy", 0.04, "a share of 0.5 reported as 0.5 +- 0.1 at most")


def marrow_effects(nodes: tuple[int, int, int] = (9, 5, 5)) -> StudyEffects:
    """Deviations of studies in regrowth, in kill of the marrow, and in kill of blasts.

    Parameters
    ----------
    nodes
        Grid points of each; 1 switches it off.
    """
    return StudyEffects(
        (
            StudyEffect("rho", ("rho.sd",), "study_ratio.rho", nodes[0]),
            StudyEffect("kill", ("ln_kill.sd",), "study_ratio.kill", nodes[1]),
            StudyEffect(
                "kill_blasts",
                ("kill_log10.sd", *_moved_with_the_kill()),
                "study_ratio.kill_blasts",
                nodes[2],
            ),
        )
    )


def _moved_with_the_kill() -> tuple[str, ...]:
    """Spreads between patients that go with their kill of blasts by chemotherapy."""
    return tuple(n for n in leukaemia_cards().parameters if n.startswith("max_blasts.sd."))


def marrow_prior(learned: Iterable[str] | None = None) -> Prior:
    """Prior of the parameters to learn.

    Parameters
    ----------
    learned
        Names of parameters of the marrow model whose cards have limits; those whose cards say
        ``learned`` if not given. The pooled resistances of the diseases that have one of their own,
        the spreads between studies, the hazard of fever and the discrepancy are always learned.

    Raises
    ------
    PkpdError
        If a name is unknown or its card has no limits.

    Examples
    --------
    >>> "rho" in marrow_prior().names
    True
    """
    known = leukaemia_cards()
    cards = known.parameters
    entries: list[Entry] = []
    for name in known.learned if learned is None else learned:
        if name not in cards or cards[name].interval is None:
            raise PkpdError(
                sentence(
                    where="prior of the marrow model",
                    what=f"{name} has no limits on a card",
                    allowed=", ".join(n for n, p in cards.items() if p.interval is not None),
                )
            )
        entries.append(cards[name])
    centre = Parameter(
        "resistance",
        0.6,
        "1",
        interval=(0.4, 0.95),
        distribution="lognormal",
        source="resistance of the diseases' cards, 0.5 to 0.75",
        status="assumed",
    )
    entries += [centre, HalfNormal("resistance.between", 0.6, "diseases differ by a factor of two")]
    entries += [
        Pooled(f"resistance.{disease}", "resistance", "resistance.between")
        for disease in known.populations
        if f"resistance.{disease}" in cards
    ]
    entries += [
        # spread between studies in units of the spread between patients
        HalfNormal("study_ratio.rho", 0.6, "medians of studies differ by less than patients do"),
        HalfNormal("study_ratio.kill", 1.5, "patients differ little in the kill of the marrow"),
        HalfNormal("study_ratio.kill_blasts", 0.8, "remission rates of one regimen differ"),
        FEVER,
        DISCREPANCY,
    ]
    return Prior(entries, fixed=dict(known.theta))
