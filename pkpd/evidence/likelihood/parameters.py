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

#: Learned by default: the directions that recovery days, remissions, deaths and cytopenia rates
#: inform, with those that predictions for combinations hinge on.
LEARNED = (
    "rho",
    "rho.sd",
    "rho_platelet_ratio",
    "reserve",
    "mtt_neutrophil",
    "mtt_platelet",
    "gamma",
    "gamma_platelet",
    "ln_kill",
    "ln_kill.sd",
    "kill_log10",
    "kill_log10.sd",
    "stem_start.aml",
    "stem_start.aml_relapsed",
    "stem_start.mds_high_risk",
    "stem_start.mds_lower_risk",
    "stem_start.myeloma",
    "capacity.aml_unfit",
    "capacity.aml_relapsed",
    "capacity.all_relapsed",
    "capacity.sd.aml",
    "clo_max_stem",
    "clo_ec50_stem",
    "clo_ec50_committed",
    "clo_max_blasts",
    "intensity.mitoxantrone",
    "intensity.idarubicin",
    "intensity.etoposide",
    "intensity.fludarabine",
    "intensity.cyclophosphamide",
    "blasts.mitoxantrone",
    "len_ec50",
    "len_platelet_ratio",
    "len_with_dexamethasone",
    "len_kill_stem",
    "len_kill_blasts",
    "len_kill_blasts.mds_high_risk",
    "len_sensitivity.mds_del5q",
    "hazard_neutropenia",
    "hazard_age",
    "leukaemic_neutrophils",
)
#: Diseases whose resistance to the kill of blasts is pooled.
POOLED_RESISTANCE = (
    "aml_unfit",
    "aml_relapsed",
    "all_relapsed",
    "leukaemia_paediatric",
    "mds_high_risk",
    "mds_after_hma",
)

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
                ("kill_log10.sd", "clo_max_blasts.sd"),
                "study_ratio.kill_blasts",
                nodes[2],
            ),
        )
    )


def marrow_prior(learned: Iterable[str] = LEARNED) -> Prior:
    """Prior of the parameters to learn.

    Parameters
    ----------
    learned
        Names of parameters of the marrow model whose cards have limits. The pooled resistances,
        the spreads between studies, the hazard of fever and the discrepancy are always learned.

    Raises
    ------
    PkpdError
        If a name is unknown or its card has no limits.
    """
    cards = leukaemia_cards().parameters
    entries: list[Entry] = []
    for name in learned:
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
        for disease in POOLED_RESISTANCE
    ]
    entries += [
        # spread between studies in units of the spread between patients
        HalfNormal("study_ratio.rho", 0.6, "medians of studies differ by less than patients do"),
        HalfNormal("study_ratio.kill", 1.5, "patients differ little in the kill of the marrow"),
        HalfNormal("study_ratio.kill_blasts", 0.8, "remission rates of one regimen differ"),
        FEVER,
        DISCREPANCY,
    ]
    return Prior(entries, fixed=dict(leukaemia_cards().theta))
