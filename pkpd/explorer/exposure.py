"""Concentrations of the schedules of a page: the first day and the first cycle of each drug.

The areas, peaks, troughs and ratios are those of `pkpd.compare`, of the same patients and draws.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pkpd.arrays import Floats
from pkpd.comparison.exposures import (
    FirstCycle,
    cohort_exposures,
    exposure_ratios,
    without_exposure,
)
from pkpd.explorer.simulation import explore, ready
from pkpd.explorer.state import State
from pkpd.explorer.words import table_of
from pkpd.exposure.exposures import BANDS
from pkpd.exposure.levels import edges_of, levels
from pkpd.report.comparison import exposure_words as words

FIRST_DAY_H = np.arange(0.0, 24.25, 0.25)
"""Hours after the first dose at which the first day is drawn."""
AFTER_LAST_H = 48.0
"""What is drawn of a cycle after its last dose."""


def exposure_content(state: State) -> dict[str, Any]:
    """Concentrations and exposures of the schedules of a state.

    Parameters
    ----------
    state
        What is simulated; its counts are simulated, too, if they are not kept.

    Returns
    -------
    dict
        ``sentence``, ``table``, ``ratios`` and ``sources`` in words; ``schedules`` with their
        labels; ``drugs``: name, and for each schedule (``None`` if it does not give the drug)
        ``first`` and ``cycle``: ``hours`` since the first dose, and ``bands``, the 5, 50 and 95 %
        of patients and draws in ``unit``.
    """
    item, result = ready(state), explore(state).result
    trial = item.trial
    found = {cohort.id: cohort_exposures(item, cohort) for cohort in trial.cohorts}
    told = replace(
        result,
        exposures=tuple(row for one in found.values() for row in one.rows),
        exposure_ratios=exposure_ratios(trial, (), found),
        without_exposure=without_exposure(found),
    )
    profiles = [{one.drug.name: _profile(one) for one in of.cycles} for of in found.values()]
    drugs = dict.fromkeys(name for one in profiles for name in one)
    label = {cohort.id: cohort.label for cohort in trial.cohorts}
    return {
        "sentence": words.text(told) or "No drug of these schedules has a concentration here.",
        "table": table_of(
            ("schedule", *words.HEADS[1:]), [(label[c], *row) for c, *row in words.cells(told)]
        ),
        "ratios": table_of(
            words.RATIO_HEADS,
            [(label[a], label[b], *row) for a, b, *row in words.ratio_cells(told)],
        ),
        "sources": words.sources(told.exposures),
        "unit": "ng/mL",
        "schedules": [{"label": cohort.label} for cohort in trial.cohorts],
        "drugs": [{"name": d, "schedules": [one.get(d) for one in profiles]} for d in drugs],
    }


def _profile(cycle: FirstCycle) -> dict[str, Any]:
    """Concentrations of a drug on its first day and in its first cycle."""
    doses = cycle.doses
    begin = doses[0].start
    end = min(24.0 * cycle.last, np.ceil(doses[-1].start + AFTER_LAST_H))
    near = begin + FIRST_DAY_H[begin + FIRST_DAY_H <= end]
    every = np.arange(begin, end + 1e-9)
    found = levels(cycle.drug, doses, edges_of(doses, np.concatenate([near, every]), end))
    return {
        "first": _bands(near - begin, cycle.factor * found.at(near)),
        "cycle": _bands(every - begin, cycle.factor * found.at(every)),
    }


def _bands(hours: Floats, values: Floats) -> dict[str, Any]:
    """Quantiles of concentrations ``[T, L]``."""
    bands = np.quantile(values, BANDS, axis=1)
    return {
        "hours": hours.round(2).tolist(),
        "bands": [[float(f"{v:.4g}") for v in row] for row in bands],
    }
