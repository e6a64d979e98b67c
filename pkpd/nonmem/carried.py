"""Variables that keep their value from record to record.

Those that follow from the data are computed once, row by row. Others are computed together with
the predictions by a scan over the records. ``NEWIND``, ``ICALL`` and their kin are given here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.nonmem.evaluate import Evaluator
from pkpd.nonmem.tree import Statement

CONSTANTS = {
    "ICALL": 2.0,
    "IREP": 1.0,
    "NPROB": 1.0,
    "IPROB": 1.0,
    "PI": float(np.pi),
    "COMACT": 0.0,
}


def given_variables(data: Dataset) -> dict[str, Any]:
    """Variables that NONMEM sets at every record, numbers or [B, N]."""
    events, level = data.events, data.covariates.get("L2")
    first = np.zeros(events.shape, bool)
    first[:, 0] = True
    newind = np.where(first, 1.0, 2.0)
    newind[0, 0] = 0.0
    begins = first | events.is_reset
    newl2: Any = 1.0  # without L2 each record is a group of its own
    if level is not None:
        newl2 = np.where(np.diff(level, axis=1, prepend=np.nan) != 0, 1.0, 2.0)
    return {**CONSTANTS, "NEWIND": newind, "A_0FLG": begins.astype(float), "NEWL2": newl2}


def from_data(
    names: Sequence[str],
    blocks: Sequence[Sequence[Statement]],
    data: Mapping[str, Any],
    valid: np.ndarray,
    begin: float,
) -> dict[str, np.ndarray]:
    """Values that variables have when a record begins, where the data alone decide, [B, N].

    Parameters
    ----------
    names
        Variables.
    blocks
        Statements that follow from the data, ``$PK`` before ``$ERROR``.
    data
        Data items and given variables, numbers, [B, 1] or [B, N].
    valid
        Records, [B, N].
    begin
        Value at the first record of an individual.
    """
    n_subjects, n_records = valid.shape
    kept: dict[str, Any] = {name: np.full(n_subjects, begin) for name in names}
    out = {name: np.zeros(valid.shape) for name in names}
    for n in range(n_records):
        values = {name: _column(value, n) for name, value in data.items()}
        for name in names:
            out[name][:, n] = kept[name]
            values[name] = kept[name]
        run = Evaluator(values, missing=lambda name: begin)
        for statements in blocks:
            run.run(statements)
        for name in names:
            new = np.broadcast_to(np.asarray(run.get(name), dtype=float), (n_subjects,))
            kept[name] = np.where(valid[:, n], new, kept[name])
    return out


def _column(value: Any, n: int) -> Any:
    if np.ndim(value) < 2:
        return value
    return value[:, n] if value.shape[1] > 1 else value[:, 0]


def by_scan(
    names: Sequence[str],
    step: Callable[[dict[str, Any]], Mapping[str, Any]],
    values: Mapping[str, Any],
    shape: tuple[int, int],
    begin: Mapping[str, Any],
) -> dict[str, Any]:
    """Values that variables have when a record begins, [B, N], from a scan over the records.

    Parameters
    ----------
    names
        Variables.
    step
        From the values of one record, [B] each, to those after it.
    values
        Everything that the step reads, numbers, [B, 1] or [B, N].
    shape
        Subjects and records.
    begin
        Values at the first record of an individual.
    """
    n_subjects, n_records = shape
    still = {k: _column(v, 0) for k, v in values.items() if np.ndim(v) < 2 or v.shape[1] == 1}
    moving = {k: jnp.asarray(v).T for k, v in values.items() if np.ndim(v) == 2 and v.shape[1] > 1}

    def one(kept: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        after = step({**still, **now, **kept})
        new = {
            name: jnp.broadcast_to(jnp.asarray(after[name], dtype=float), (n_subjects,))
            for name in names
        }
        return new, kept

    first = {name: jnp.full(n_subjects, begin[name]) for name in names}
    _, found = jax.lax.scan(one, first, moving, length=n_records)
    return {name: value.T for name, value in found.items()}
