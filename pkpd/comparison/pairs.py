"""Pairs of cohorts of a trial, and files that a trial names beside itself."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from pkpd.arrays import Floats
from pkpd.comparison.lanes import can_be_judged
from pkpd.comparison.results import PairRow
from pkpd.comparison.uncertainty import paired_difference
from pkpd.trials import Trial


def pair_rows(
    trial: Trial,
    pairs: Sequence[tuple[str, str]],
    rules: Mapping[str, str],
    outcomes: Mapping[str, Floats],
    running: Collection[str] = (),
) -> list[PairRow]:
    """Paired differences of a risk between cohorts of a trial.

    Parameters
    ----------
    trial
        The trial.
    pairs
        Pairs of cohort ids; all pairs of `outcomes` if there is none.
    rules
        Cohort -> name of its rule, or of what else is at risk.
    outcomes
        Cohort -> 1 or 0 ``[draws, patients]``, NaN where there is no verdict.
    running
        Cohorts in which treatment goes on when the rule looks.
    """
    wanted = [p for p in pairs if p[0] in outcomes and p[1] in outcomes]
    if not pairs:
        wanted = list(itertools.combinations(outcomes, 2))
    found = []
    for first, second in wanted:
        one, other = outcomes[first], outcomes[second]
        both = ~np.isnan(one - other).all(axis=1)
        enough = can_be_judged(one) and can_be_judged(other)
        if not (both.any() and enough):
            continue
        difference = paired_difference(one[both], other[both])
        rule = " and ".join(dict.fromkeys((rules[first], rules[second])))
        found.append(
            PairRow(
                trial=trial.id,
                first=first,
                second=second,
                rule=rule + (", treatment running" if {first, second} & {*running} else ""),
                difference=difference.estimate,
                lower=difference.lower,
                upper=difference.upper,
                mc_error=difference.mc_error,
                p_first_safer=difference.probability_a_safer,
            )
        )
    return found


def start_pairs(
    trial: Trial,
    pairs: Sequence[tuple[str, str]],
    late: Mapping[str, Mapping[str, Floats]],
) -> list[PairRow]:
    """Paired differences of the share that does not start a cycle or course on its planned day.

    Parameters
    ----------
    trial, pairs
        As of :func:`pair_rows`.
    late
        Cohort -> `pkpd.comparison.delivery.not_on_time`, ``[draws, patients]`` each.
    """
    names = dict.fromkeys(name for of_cohort in late.values() for name in of_cohort)
    return [
        row
        for name in names
        for row in pair_rows(
            trial,
            pairs,
            dict.fromkeys(late, f"{name} not on its planned day"),
            {cohort: found[name] for cohort, found in late.items() if name in found},
        )
    ]


def beside_trial(name: str, trial: Trial) -> str:
    """Name of a shipped card, or the file that a trial file names beside itself."""
    return str(Path(trial.path).parent / name) if name.endswith(".toml") else name
