"""Covariates that change over time: carried, or interpolated on a refined table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pkpd.data.events import INSERTED, OTHER, EventTable
from pkpd.errors import DataError


def fill_missing(events: EventTable, name: str, values: np.ndarray, column: str) -> np.ndarray:
    """Fill missing values of a covariate within each subject.

    A missing value takes the subject's value before it, or, before the first value, the first.

    Parameters
    ----------
    events
        The records.
    name, column
        Covariate, and its column in the source, for the message.
    values
        [B, N], NaN where missing.

    Raises
    ------
    DataError
        If a subject has no value at all.
    """
    known = np.isfinite(values) & events.valid
    without = ~np.any(known, axis=1)
    if np.any(without):
        b = int(np.flatnonzero(without)[0])
        raise DataError(
            where=events.place(b, 0, column),
            what=f"covariate '{name}' is missing for the subject",
            remedy="give a value, or leave the subject out",
        )
    place = np.where(known, np.arange(values.shape[1]), -1)
    place = np.maximum.accumulate(place, axis=1)
    first = np.argmax(known, axis=1)[:, None]
    return np.take_along_axis(values, np.where(place < 0, first, place), axis=1)


def interpolate(
    events: EventTable, covariates: Mapping[str, np.ndarray], max_step_h: float
) -> tuple[EventTable, dict[str, np.ndarray], np.ndarray]:
    """Refine a table so that covariates change linearly between records.

    Records that do nothing (EVID 2) are inserted so that no interval within a segment is longer
    than ``max_step_h``; each carries the covariates of the middle of the interval that ends at it.
    With ``carry="backward"`` the error against a truly linear covariate falls with the square of
    the step.

    Parameters
    ----------
    events
        The records.
    covariates
        Values at the records, [B, N] each.
    max_step_h
        Longest interval (h).

    Returns
    -------
    refined, values, kept
        The refined table; covariates on it, [B, M]; place of the original records, [B, N].

    Notes
    -----
    A dose that enters at its record still sees the covariates of that record's interval; give
    dosing parameters (F, D, ALAG) from the uninterpolated values where they depend on covariates.
    """
    if not max_step_h > 0:
        raise DataError(where="interpolate", what=f"max_step_h is {max_step_h:g}", allowed="> 0 h")
    n_subjects, n_records = events.shape
    plans: list[list[tuple[int, float, float]]] = []
    for b in range(n_subjects):
        plan: list[tuple[int, float, float]] = []
        for n in np.flatnonzero(events.valid[b]).tolist():
            parts = 1
            if n > 0 and events.segment[b, n] == events.segment[b, n - 1]:
                gap = events.time[b, n] - events.time[b, n - 1]
                parts = max(1, int(np.ceil(gap / max_step_h - 1e-12)))
            elif n > 0:
                plan.append((n, 1.0, 1.0))
                continue
            plan.extend((n, (k + 1) / parts, (k + 0.5) / parts) for k in range(parts))
        plans.append(plan)
    width = max(len(plan) for plan in plans)
    source = np.zeros((n_subjects, width), dtype=np.int64)
    end = np.ones((n_subjects, width))
    middle = np.ones((n_subjects, width))
    present = np.zeros((n_subjects, width), dtype=bool)
    kept = np.zeros((n_subjects, n_records), dtype=np.int64)
    for b, plan in enumerate(plans):
        for m, (n, at, mid) in enumerate(plan):
            source[b, m], end[b, m], middle[b, m], present[b, m] = n, at, mid, True
            if at == 1.0:
                kept[b, n] = m
        source[b, len(plan) :] = plan[-1][0]
        kept[b, ~events.valid[b]] = len(plan) - 1
    before = np.maximum(source - 1, 0)
    original = end == 1.0

    def take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, index, axis=1)

    def between(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return take(values, before) * (1.0 - weight) + take(values, source) * weight

    first = source == 0
    columns = {
        name: np.where(original & present, take(getattr(events, name), source), 0)
        for name in ("amt", "rate", "ii", "addl", "ss", "cmt")
    }
    refined = replace(
        events,
        time=np.where(original, take(events.time, source), between(events.time, end)),
        evid=np.where(original, take(events.evid, source), OTHER),
        row=np.where(present, np.where(original, take(events.row, source), INSERTED), -1),
        **columns,
    )
    values = {
        name: np.where(first, take(np.asarray(v, float), source), between(v, middle))
        for name, v in covariates.items()
    }
    return refined, values, kept
