"""Pairs of cohorts of a trial, and files that a trial names beside itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.comparison.lanes import can_be_judged
from pkpd.comparison.results import PairRow
from pkpd.comparison.uncertainty import paired_difference
from pkpd.trials import DLTRule, Trial

Floats = NDArray[np.float64]


def pair_rows(
    trial: Trial,
    pairs: Sequence[tuple[str, str]],
    rule: DLTRule,
    dlt: Mapping[str, Floats],
    running: list[str],
) -> list[PairRow]:
    """Paired differences of the risk of a rule between cohorts of a trial.

    Parameters
    ----------
    trial
        The trial.
    pairs
        Pairs of cohort ids; all pairs of `dlt` if there is none.
    rule
        The rule.
    dlt
        Cohort -> verdicts ``[draws, patients]``, NaN where there is none.
    running
        Cohorts in which treatment goes on when the rule looks.
    """
    wanted = [p for p in pairs if p[0] in dlt and p[1] in dlt]
    if not pairs:
        wanted = list(itertools.combinations(dlt, 2))
    found = []
    for first, second in wanted:
        both = ~np.isnan(dlt[first] - dlt[second]).all(axis=1)
        enough = can_be_judged(dlt[first]) and can_be_judged(dlt[second])
        if not (both.any() and enough):
            continue
        difference = paired_difference(dlt[first][both], dlt[second][both])
        found.append(
            PairRow(
                trial=trial.id,
                first=first,
                second=second,
                rule=rule.name + (", treatment running" if {first, second} & {*running} else ""),
                difference=difference.estimate,
                lower=difference.lower,
                upper=difference.upper,
                mc_error=difference.mc_error,
                p_first_safer=difference.probability_a_safer,
            )
        )
    return found


def beside_trial(name: str, trial: Trial) -> str:
    """Name of a shipped card, or the file that a trial file names beside itself."""
    return str(Path(trial.path).parent / name) if name.endswith(".toml") else name
