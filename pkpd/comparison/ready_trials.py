"""Trials made ready for a run, in the marrow that was chosen.

Each marrow is imported where it is asked for: that of a fit comes with all of fitting, which takes
long to load.
"""

from __future__ import annotations

from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.comparison.marrow_choice import Choice
from pkpd.comparison.ready import Ready
from pkpd.comparison.scenario import Scenario


def ready_trials(scenario: Scenario, choice: Choice, with_questions: bool = False) -> list[Ready]:
    """Make trials under variants ready, each with its patients.

    Parameters
    ----------
    scenario
        What is run.
    choice
        Its marrow (`pkpd.comparison.marrow_choice.choose_marrow`).
    with_questions
        Whether trials' own questions are answered.

    Raises
    ------
    PkpdError
        If a card cannot be used.
    """
    each = [(v, t) for v in scenario.variants for t in scenario.trials]
    if choice.fitted is not None:
        from pkpd.comparison.fitted_trial import fitted_trial

        return [fitted_trial(scenario, variant, trial, choice.fitted) for variant, trial in each]
    if choice.marrow != LEUKAEMIA:
        from pkpd.comparison.friberg_trial import friberg_trial

        return [friberg_trial(scenario, variant, trial) for variant, trial in each]
    from pkpd.comparison.learned_trial import learned_trial

    posterior = choice.posterior
    assert posterior is not None
    draws = posterior.draws(scenario.draws, scenario.seed)
    return [
        learned_trial(scenario, variant, trial, posterior, draws, with_questions)
        for variant, trial in each
    ]
