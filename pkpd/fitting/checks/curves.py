"""Predictions between the observations, for figures of individual fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np

from pkpd.arguments import SHARE, check_arguments
from pkpd.data.dataset import Dataset, Observations
from pkpd.fitting.checks.replicates import draws_of
from pkpd.fitting.checks.residuals import Residuals, residuals
from pkpd.fitting.draws import Fitted
from pkpd.fitting.model.likelihood import bind
from pkpd.predict.structure import carries_forward


@dataclass(frozen=True, eq=False)
class Curves:
    """Dense predictions of every subject and line; ``L`` points in all.

    Attributes
    ----------
    found
        Residuals, with the data and the predictions at the observations.
    subject, line, time
        What each point belongs to, ``[L]``.
    period
        Number of resets before each point, ``[L]``: a curve ends at one.
    pred, ipred
        Predictions of the typical patient and of the individual, ``[L]``.
    lower, upper
        Interval of the individual prediction over posterior draws, ``[L]``; ``None`` for a single
        draw.
    level
        Of the interval.
    """

    found: Residuals
    subject: np.ndarray
    line: np.ndarray
    time: np.ndarray
    period: np.ndarray
    pred: np.ndarray
    ipred: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    level: float

    def __repr__(self) -> str:
        """Tell how many points."""
        return f"Curves({len(self.time)} points, {self.found!r})"


def individual_curves(
    fit: Fitted,
    found: Residuals | None = None,
    *,
    points: int = 120,
    n_draws: int = 60,
    level: float = 0.9,
) -> Curves:
    """Predict between the observations of every subject.

    The structural model is bound to the same events with more records, so that doses, resets and
    covariates count as they do in the fit.

    Parameters
    ----------
    fit
        A fit by any method, or its draws.
    found
        Its residuals, where they are at hand.
    points
        Times between the first and the last record of a subject, beside some after each dose.
    n_draws
        Draws for the interval of the individual prediction; 0 for none.
    level
        Of the interval.
    """
    check_arguments("individual_curves", level=(level, SHARE))
    draws = draws_of(fit)
    found = residuals(draws) if found is None else found
    likelihood = draws.likelihood
    forward = carries_forward(likelihood.model.structure)
    dense = bind(likelihood.model, dense_dataset(likelihood.dataset, points, forward))
    predict = jax.jit(dense.predictions)
    fixed = np.asarray(dense.fixed(found.values))
    pred, ipred = (
        np.asarray(predict(fixed, random)) for random in (np.zeros_like(found.random), found.random)
    )
    lower = upper = None
    if len(draws) > 1 and n_draws > 1:
        some = draws.thinned(n_draws)
        every = [np.asarray(predict(f, r)) for f, r in zip(some.fixed, some.random, strict=True)]
        tail = 0.5 * (1 - level)
        lower, upper = np.nanquantile(np.stack(every), [tail, 1 - tail], axis=0)
    seen = dense.dataset.observations
    period = dense.dataset.events.period[seen.subject, seen.record]
    return Curves(
        found, seen.subject, seen.line, seen.time, period, pred, ipred, lower, upper, level
    )


def _after(doses: np.ndarray, end: float) -> np.ndarray:
    """Return times close together after each of up to twenty doses, where much happens."""
    if not 0 < len(doses) <= 20:
        return np.zeros(0)
    stops = np.append(doses[1:], max(end, doses[-1]))
    part = np.linspace(0.0, 1.0, 14)[1:-1] ** 2
    return (doses[:, None] + (stops - doses)[:, None] * part).ravel()


def dense_dataset(dataset: Dataset, points: int, forward: bool = False) -> Dataset:
    """Return a data set with observations of every line at evenly spread times.

    Inserted records take covariates and occasion of the next record of their subject, as those of
    a record hold from the record before it on; ``forward``, where they hold up to the record after
    it, those of the record before. Every original record is observed too.
    """
    events, wanted = dataset.events, {}
    for b, label in enumerate(dataset.subjects):
        own = events.time[b, events.valid[b]]
        if np.all(np.diff(own) >= 0):  # else time starts again at a reset: keep to the records
            dosed = own[events.is_dose[b, events.valid[b]]]
            extra = [np.linspace(own.min(), own.max(), points), _after(dosed, own[-1])]
            wanted[label] = np.setdiff1d(np.concatenate(extra), own)
    dense = dataset.at_times(wanted, carry="forward" if forward else "backward")
    table = dense.events
    subject, record = np.nonzero(table.valid)
    n_lines = len(dataset.lines)
    subject, record = np.repeat(subject, n_lines), np.repeat(record, n_lines)
    size = len(subject)
    seen = Observations(
        subject=subject,
        record=record,
        time=table.time[subject, record],
        line=np.tile(np.arange(n_lines), size // max(n_lines, 1)),
        value=np.ones(size),
        censored=np.zeros(size, dtype=dataset.observations.censored.dtype),
        lower=np.full(size, -np.inf),
        row=table.row[subject, record],
    )
    return replace(dense, observations=seen)
