"""A data set as the CSV that control streams read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pkpd.data.dataset import ABOVE, BELOW, NOT_CENSORED, Dataset
from pkpd.errors import DataError
from pkpd.files import write_text

COLUMNS = ("ID", "TIME", "EVID", "CMT", "AMT", "RATE", "II", "ADDL", "SS", "DV", "MDV")
MORE = ("LINE", "CENS")
"""Number of the line from 1; 1 below a limit, -1 above, `BETWEEN` two."""
BETWEEN = 2


def between_limits(dataset: Dataset | None, logarithmic: tuple[str, ...]) -> np.ndarray:
    """Observations below a limit that are known to lie above another, bool[M].

    The logarithm of a limit of 0 is none.
    """
    if dataset is None:
        return np.zeros(0, dtype=bool)
    seen = dataset.observations
    log = np.isin(np.asarray(dataset.lines)[seen.line], logarithmic)
    return (seen.censored == BELOW) & np.isfinite(seen.lower) & ~(log & (seen.lower <= 0))


def data_columns(
    dataset: Dataset | None, covariates: tuple[str, ...], logarithmic: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Names of the columns that `write_data` writes."""
    occasion = ("OCC",) if dataset is not None and dataset.occasion is not None else ()
    limit = ("LIMIT",) if np.any(between_limits(dataset, logarithmic)) else ()
    return (*COLUMNS, *MORE, *limit, *occasion, *covariates)


def write_data(
    dataset: Dataset, path: Path, covariates: tuple[str, ...], logarithmic: tuple[str, ...] = ()
) -> None:
    """Write the records of a data set, one row each.

    Parameters
    ----------
    dataset
        The data.
    path
        Where to.
    covariates
        Covariates to write.
    logarithmic
        Lines whose values are written as logarithms.
    """
    import pandas as pd

    events, seen = dataset.events, dataset.observations
    shape = events.shape
    fields = {name: np.zeros(shape) for name in (*COLUMNS, *MORE)}
    identity = np.asarray(dataset.subjects)
    whole = identity.dtype.kind in "iuf"
    labels = identity if whole else np.arange(1, len(identity) + 1)
    fields["ID"][:] = labels[:, None]
    for name in ("TIME", "EVID", "CMT", "AMT", "RATE", "II", "ADDL", "SS"):
        fields[name][:] = getattr(events, name.lower())
    fields["CMT"][~events.is_dose] = 0.0  # LINE tells what is observed
    fields["MDV"][:] = 1.0
    place = (seen.subject, seen.record)
    if len(set(zip(*place, strict=True))) < len(seen):
        raise DataError(where=events.source, what="has several values at one record, not written")
    log = np.isin(np.asarray(dataset.lines)[seen.line], logarithmic)
    fields["DV"][place] = np.where(log, np.log(np.where(log, seen.value, 1.0)), seen.value)
    fields["MDV"][place], fields["LINE"][place] = 0.0, seen.line + 1
    cens = np.where(seen.censored == NOT_CENSORED, 0, np.where(seen.censored == ABOVE, -1, 1))
    between = between_limits(dataset, logarithmic)
    fields["CENS"][place] = np.where(between, BETWEEN, cens)
    lower = np.where(between, seen.lower, 0.0)
    fields["LIMIT"] = np.zeros(shape)
    fields["LIMIT"][place] = np.where(
        between & log, np.log(np.where(between & log, lower, 1.0)), lower
    )
    if dataset.occasion is not None:
        fields["OCC"] = np.asarray(dataset.occasion, dtype=float) + 1.0
    for name in covariates:
        fields[name] = np.asarray(dataset.covariates[name], dtype=float)
    table = pd.DataFrame({name: value[events.valid] for name, value in fields.items()})
    table = table[list(data_columns(dataset, covariates, logarithmic))]
    write_text(path, table.to_csv(index=False, float_format="%.15g", lineterminator="\n"))
