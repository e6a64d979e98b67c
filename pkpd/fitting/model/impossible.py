"""Observations that a model gives no chance, as a concentration before the first dose."""

from __future__ import annotations

from typing import Any

import numpy as np

from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

_NO_WIDTH = 1e-11  # a standard deviation that stands for none
_REMEDY = (
    "leave out what was measured before the first dose, mark it as below the limit "
    "(CENS 1), or give the error an additive part (residual.combined)"
)


def refuse_impossible(likelihood: PopulationLikelihood, fixed: Any, predictions: Any) -> None:
    """Refuse measurements where 0 is predicted and its error has no width.

    One other than 0 is impossible, and the density of 0 has no bound: each such row would add a
    number that is of the width's making alone, to objectives and criteria.

    Parameters
    ----------
    likelihood
        Model bound to data.
    fixed : float[F]
        Fixed effects.
    predictions : float[M] or float[2 M]
        Predictions of all observations, and with them the logarithms of their standard deviations
        where residuals are correlated or scaled by subject.

    Raises
    ------
    PkpdError
        If there are such measurements; it names the rows.
    """
    if isinstance(likelihood, OwnErrorLikelihood):
        return
    seen = likelihood.dataset.observations
    predicted, *log_sd = np.asarray(predictions).reshape(-1, len(seen))
    if log_sd:  # logarithms of lognormal lines are predicted: none is of 0
        shut = np.exp(log_sd[0]) < _NO_WIDTH
    else:
        shut = likelihood.residual_sd(np.asarray(fixed), predicted) < _NO_WIDTH
    for _, error, mine in likelihood._lines:
        if error.logarithmic:
            shut[mine] = not log_sd
    rows = np.flatnonzero((predicted == 0) & shut & (seen.censored == NOT_CENSORED))
    if not len(rows):
        return
    impossible = rows[seen.value[rows] != 0]
    rows = impossible if len(impossible) else rows
    why = "no value but 0 is possible" if len(impossible) else "the density of 0 has no bound"
    dosed = bool(likelihood.dataset.events.is_dose.any())
    told = [observed_at(likelihood.dataset, int(m)) for m in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    raise PkpdError(
        where=f"{likelihood.dataset.events.source}, {'; '.join(told)}{more}",
        what="the model predicts 0, and a proportional or log-normal error has no width there: "
        + why,
        remedy=_REMEDY if dosed else "the data have no dose at all: give doses in rows with AMT",
    )


def observed_at(data: Dataset, m: int) -> str:
    """Words for an observation: its row, subject, value and time."""
    seen, events = data.observations, data.events
    place = events.place(int(seen.subject[m]), int(seen.record[m]))
    place = place.removeprefix(f"{events.source}, ")
    return f"{place}, {seen.value[m]:.4g} at {seen.time[m]:g} h"
