"""Data sets and structures small enough to know what they give."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import EventTable


def dataset_of(
    rows,
    *,
    lines=("DV",),
    covariates=None,
    occasion=None,
    source="small data",
):
    """Make a data set of records.

    ``rows``: (subject, time, amount or None, value or None), with optional line, censored, lower;
    ``covariates`` and ``occasion``: one number for each row.
    """
    full = [tuple(row) + (0, 0, -np.inf)[len(row) - 4 :] for row in rows]
    subject = [row[0] for row in full]
    dose = np.array([row[2] is not None for row in full])
    events = EventTable.from_columns(
        subject,
        [row[1] for row in full],
        evid=np.where(dose, 1, np.where([row[3] is None for row in full], 2, 0)),
        amt=[row[2] or 0.0 for row in full],
        source=source,
    )
    place = {int(events.row[b, n]): (b, n) for b, n in np.argwhere(events.valid)}
    seen = [i for i, row in enumerate(full) if row[3] is not None]
    at = np.array([place[i] for i in seen], dtype=np.int64).reshape(-1, 2)
    observations = Observations(
        at[:, 0],
        at[:, 1],
        np.array([full[i][1] for i in seen], dtype=float),
        np.array([full[i][4] for i in seen], dtype=np.int64),
        np.array([full[i][3] for i in seen], dtype=float),
        np.array([full[i][5] for i in seen], dtype=np.int64),
        np.array([full[i][6] for i in seen], dtype=float),
        np.array(seen, dtype=np.int64),
    )
    return Dataset(
        events,
        observations,
        tuple(lines),
        {
            name: events.from_rows(np.asarray(values, dtype=float))
            for name, values in (covariates or {}).items()
        },
        None if occasion is None else events.from_rows(np.asarray(occasion, dtype=np.int64)),
    )


def oral_rows(n_subjects, times, *, dose=320.0, seed=1, lines=1):
    """One oral dose and measurements around a curve of absorption and elimination."""
    rng = np.random.default_rng(seed)
    rows = []
    for b in range(n_subjects):
        rows.append((b + 1, 0.0, dose, None))
        ka, cl, v = np.array([1.5, 2.7, 32.0]) * np.exp(rng.normal(0, (0.5, 0.25, 0.15)))
        for t in times:
            k = cl / v
            mean = dose / v * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
            for line in range(lines):
                rows.append((b + 1, t, None, abs(mean + rng.normal(0, 0.5)) + 0.05, line))
    return rows


@dataclass(frozen=True)
class Straight:
    """A line in time: ``level + slope t``; several lines predict multiples of it."""

    lines: tuple[str, ...] = ("height",)
    parameters: tuple[str, ...] = ("level", "slope")

    def bind(self, dataset):
        return StraightPredictor(self, dataset)


@dataclass(frozen=True, eq=False)
class StraightPredictor:
    structure: Straight
    dataset: Dataset

    @property
    def parameters(self):
        return self.structure.parameters

    def __call__(self, parameters):
        seen = self.dataset.observations
        shape = self.dataset.events.shape
        at = {}
        for name in self.parameters:
            value = jnp.asarray(parameters[name])
            value = value[:, None] if value.ndim == 1 else value
            at[name] = jnp.broadcast_to(value, shape)[seen.subject, seen.record]
        names = self.parameters
        return (at[names[0]] + at[names[1]] * seen.time) * (1.0 + seen.line)

    def problems(self, parameters):
        return {}
