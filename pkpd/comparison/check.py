"""Checking a file as a comparison would meet it: read, its marrow chosen, its patients treated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pkpd.cards.tables import read_toml
from pkpd.comparison.marrow_choice import choose_marrow
from pkpd.comparison.ready_trials import ready_trials
from pkpd.comparison.scenario import check_file, load_scenario
from pkpd.errors import PkpdError

_FEW = {"patients": 4, "draws": 2}


def check_as_compared(path: str | Path, marrow: str | None = None) -> list[str]:
    """Find the problems of a file: those of its text, and what `pkpd.compare` would refuse.

    Parameters
    ----------
    path
        A card, trial, scenario or design file. Trials and scenarios without a mistake in their text
        are made ready as for a comparison, with four patients; nothing is simulated.
    marrow
        Marrow of the comparison; the usual one if not given.

    Returns
    -------
    list of str
        One sentence for each problem; empty for a good file.
    """
    found = check_file(path)
    if found or read_toml(Path(path)).data.get("kind", "trial") not in ("trial", "scenario"):
        return found
    try:
        scenario = replace(load_scenario(Path(path)), **_FEW)
        for item in ready_trials(scenario, choose_marrow(marrow, scenario), with_questions=False):
            for cohort in item.trial.cohorts:
                item.treated(cohort)
    except PkpdError as error:
        return [f"{path}: {error}" if str(path) not in str(error) else str(error)]
    idle = (one for trial in scenario.trials for one in trial.unnamed)
    return [f"{path}: {one}; use it, or take it away." for one in idle]
