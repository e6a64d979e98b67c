"""Rows of a data set that are doubtful: possible, and more often a slip of unit, row or subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.data.declared_units import COUNTED
from pkpd.fitting.checks.replicates import dose_times

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["row", "subject", "time_h", "what", "value", "why"]


def concentrations(data: Dataset) -> tuple[str, ...]:
    """Lines that are taken for concentrations: those that are no counts of cells."""
    counts = (*COUNTED, "haemoglobin")
    return tuple(name for name in data.lines if name not in counts)


def doubtful_rows(data: Dataset, lines: Sequence[str], jump: float) -> pd.DataFrame:
    """List doubtful rows, in the order of the source.

    Parameters
    ----------
    data
        The data.
    lines
        Lines that are concentrations: zero before the first dose, positive after it.
    jump
        Factor between neighbours that is doubtful.

    Returns
    -------
    DataFrame
        ``row`` as the source counts it, ``subject``, ``time_h``, ``what`` (a line, ``dose`` or a
        covariate), ``value`` and ``why``.
    """
    import pandas as pd

    found = [*_doses(data, jump), *_covariates(data, jump)]
    for b, (when, record) in enumerate(dose_times(data)):
        for k, name in enumerate(data.lines):
            found += _of_line(data, b, k, when, record, name in lines, jump)
    table = pd.DataFrame(found, columns=[*COLUMNS, "order"])
    return table.sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


def _row(data: Dataset, b: int, record: int, what: str, value: float, why: str) -> tuple[Any, ...]:
    place = int(data.events.row[b, record])
    number = data.events.numbers[place] if place >= 0 else place
    time = float(data.events.time[b, record])
    return int(number), data.subjects[b], time, what, float(value), why, place


def _of_line(
    data: Dataset,
    b: int,
    line: int,
    when: np.ndarray,
    record: np.ndarray,
    concentration: bool,
    jump: float,
) -> Iterator[tuple[Any, ...]]:
    """Doubtful observations of a line in one subject, whose doses are at ``when``."""
    seen, name, period = data.observations, data.lines[line], data.events.period[b]
    mine = np.flatnonzero((seen.subject == b) & (seen.line == line))
    moments = list(zip(period[seen.record[mine]].tolist(), seen.time[mine].tolist(), strict=True))
    often = Counter(moments)
    before: int | None = None
    for m, (part, time) in zip(mine.tolist(), moments, strict=True):
        value, at = float(seen.value[m]), int(seen.record[m])
        known = seen.censored[m] == NOT_CENSORED
        earlier = (period[record] == part) & (record < at)  # nothing is left of others
        given = int(np.sum(earlier & (when <= time)))
        if often[part, time] > 1:
            yield _row(data, b, at, name, value, "another value at the same time")
        if not known:
            continue
        if concentration and when.size and not given and value > 0:
            yield _row(data, b, at, name, value, "above zero before the first dose")
        if concentration and value < 0:
            yield _row(data, b, at, name, value, "below zero")
        if concentration and value == 0 and np.any(earlier & (when < time)):
            yield _row(data, b, at, name, value, "zero after a dose")
        if value <= 0:
            continue
        if before is not None and period[seen.record[before]] == part:
            old, start = float(seen.value[before]), float(seen.time[before])
            past = int(np.sum(earlier & (when <= start) & (record < seen.record[before])))
            ratio = value / old
            # a dose between them explains a rise
            if ratio <= 1.0 / jump or (ratio >= jump and given == past):
                much = ratio if ratio > 1 else 1.0 / ratio
                way = "above" if ratio > 1 else "below"
                why = f"{much:.3g} times {way} the value {time - start:.3g} h before"
                yield _row(data, b, at, name, value, why)
        before = m


def _doses(data: Dataset, jump: float) -> Iterator[tuple[Any, ...]]:
    events = data.events
    given = events.is_dose & (events.amt > 0)
    for cmt in np.unique(events.cmt[given]):
        mine = given & (events.cmt == cmt)
        middle = float(np.median(events.amt[mine]))
        ratio = np.where(mine, events.amt, middle) / middle
        for b, n in np.argwhere((ratio >= jump) | (ratio <= 1.0 / jump)).tolist():
            much = max(ratio[b, n], 1.0 / ratio[b, n])
            way = "above" if ratio[b, n] > 1 else "below"
            why = f"{much:.3g} times {way} the median dose"
            yield _row(data, b, n, "dose", events.amt[b, n], why)


def _covariates(data: Dataset, jump: float) -> Iterator[tuple[Any, ...]]:
    valid = data.events.valid
    for name, values in data.covariates.items():
        if np.any(values[valid] < 0) or not np.any(values[valid] > 0):
            continue
        middle = float(np.median(values[:, 0]))
        if middle <= 0:
            continue
        new = np.diff(values, axis=1, prepend=np.nan) != 0  # of a value, its first row
        far = (values >= jump * middle) | ((values <= middle / jump) & (values > 0))
        for b, n in np.argwhere(far & new & valid).tolist():
            ratio = values[b, n] / middle
            way = "above" if ratio > 1 else "below"
            why = f"{max(ratio, 1 / ratio):.3g} times {way} the median of the subjects"
            yield _row(data, b, n, name, values[b, n], why)
