"""Records under one ID that do not follow each other in time: out of order, or of two bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pkpd.errors import DataError

BODY = ("AGE", "BSA", "BW", "HEIGHT", "HT", "RACE", "SEX", "GENDER", "WEIGHT", "WGT", "WT")
"""Usual names of columns that describe a body."""
_ACTS = (1, 4)  # EVID of doses
_STARTS = (3, 4)  # EVID of records at which the clock may start again


def refuse_out_of_order(
    labels: np.ndarray,
    time: np.ndarray,
    evid: np.ndarray,
    described: Mapping[str, np.ndarray],
    place: Callable[[int, str], str],
    names: np.ndarray,
) -> None:
    """Refuse records that lie apart from their subject's, or earlier than the one before.

    A stretch of records ends where another subject's begin or the clock goes back. Where two
    stretches of a subject contradict each other in a column that is constant in both, or each holds
    a dose and the second begins no later than the first, sorting would mix two bodies or occasions.

    Parameters
    ----------
    labels, time, evid
        Of the records.
    described
        Other columns, as text: what they say of the body.
    place
        Words for a record and a column.
    names
        What the source calls its records.

    Raises
    ------
    DataError
        If there is such a record.
    """
    if len(labels) < 2:
        return
    apart = labels[1:] != labels[:-1]
    back = ~apart & (time[1:] < time[:-1]) & ~np.isin(evid[1:], _STARTS)
    edges = np.flatnonzero(apart | back) + 1
    last: dict[Any, slice] = {}
    for start, stop in zip([0, *edges], [*edges, len(labels)], strict=True):
        now, label = slice(int(start), int(stop)), labels[start]
        before = last.get(label)
        if before is None:
            last[label] = now
            continue
        together = before.stop == now.start
        what = "the subject's records are not together: other subjects lie between"
        allowed, remedy = None, "sort the rows by ID and time"
        if together:
            what = f"{time[start]:g} h is earlier than the record before ({time[start - 1]:g} h)"
            allowed = "times that do not decrease, except at a reset (EVID 3 or 4)"
            remedy = "sort the subject's rows by time"
        signs = _clashes(described, before, now)
        doses = all(np.isin(evid[one], _ACTS).any() for one in (before, now))
        if doses and time[start] <= time[before.start]:
            signs.append(f"the clock starts again at {time[start]:g} h")
        if signs:
            what += (
                f", and the rows from {names[before.start]} and from {names[start]} seem to be of "
                f"two bodies or two occasions under one ID ({', '.join(signs)})"
            )
            remedy = (
                "give two bodies IDs of their own, and the first record of another occasion EVID 4 "
                "(EVID 3 if it is no dose), as sorting would mix them; only if neither is so, "
                f"{remedy}"
            )
        raise DataError(
            where=place(int(start), "time" if together else "id"),
            what=what,
            allowed=allowed,
            remedy=remedy,
        )


def _clashes(described: Mapping[str, np.ndarray], one: slice, other: slice) -> list[str]:
    """Columns that say one thing in one stretch and another in the other."""
    out = []
    for name, column in described.items():
        said = [sorted({text for text in column[part].tolist() if text}) for part in (one, other)]
        if len(said[0]) == len(said[1]) == 1 and said[0] != said[1]:
            out.append(f"{name} is {said[0][0]} and {said[1][0]}")
    return out[:3]
