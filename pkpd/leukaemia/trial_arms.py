"""Cohorts of trial cards as arms of the leukaemia model."""

from __future__ import annotations

from pkpd.errors import PkpdError, sentence
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.trials import Trial


def arms_of_trial(trial: Trial, disease: str | None = None) -> dict[str, Arm]:
    """Arms of the leukaemia model for the cohorts of a trial card.

    Parameters
    ----------
    trial
        As `pkpd.cards.load_trial` gives it.
    disease
        Population of ``models/leukaemia/populations.toml``; by the trial's population card if not
        given.

    Returns
    -------
    dict
        Cohort id -> arm, with the cohort's courses, gates, holds and reductions.

    Raises
    ------
    PkpdError
        If no disease of the leukaemia model stands for the trial's population.
    """
    cards = leukaemia_cards()
    if disease is None:
        disease = cards.population_cards.get(trial.population)
    if disease is None:
        msg = sentence(
            where=f"trial {trial.id}",
            what=f"no disease of the leukaemia model stands for population {trial.population!r}",
            allowed=", ".join(cards.populations),
            remedy="name one of these as the disease",
        )
        raise PkpdError(msg)
    cards.chain(disease)
    return {
        cohort.id: Arm(
            name=f"{trial.id} {cohort.id}",
            schedule=ArmSchedule(cohort.regimen, trial.horizon_days),
            disease=disease,
        )
        for cohort in trial.cohorts
    }
