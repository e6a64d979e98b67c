"""RxODE's event codes (101, 10101, ...) in NONMEM's terms.

A code of five digits or more, ``c f mm ss``, holds the compartment (``100 c + mm``), the kind of
event ``f`` and a steady-state flag ``ss`` (rxode2 documentation, "classic" event types). With
``f`` 0 the amount is a bolus. With ``f`` 1 or 2 the amount is an infusion *rate*: a record with the
amount turns it on, one with the negative amount turns it off; the dose is rate times time between.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pkpd.data.events import DOSE, OTHER
from pkpd.data.sheets import Sheet

_BOLUS, _INFUSION, _FIXED_DURATION = 0, 1, 2
_STEADY = {1: 0, 10: 1, 20: 2}
_MEANINGS = "101 bolus into compartment 1, 10101 infusion into it (AMT is the rate, -AMT ends it)"


def understood(evid: np.ndarray) -> bool:
    """Tell whether all codes but 0 to 3 are RxODE's, and there is one at least."""
    large = evid[evid > 3]
    if not len(large) or np.any(evid == DOSE):
        return False
    kind, _, flag = _parts(large)
    return bool(np.all((large > 99) & np.isin(kind, (0, 1, 2)) & np.isin(flag, list(_STEADY))))


def translate(
    table: Sheet, identity: np.ndarray, time: np.ndarray, columns: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], str]:
    """Write RxODE's codes as EVID, AMT, RATE, SS and CMT of NONMEM.

    Parameters
    ----------
    table
        The source, for messages.
    identity, time
        Subject and time of each row, [rows]; times in the unit rates are per.
    columns
        EVID, AMT, RATE, II, ADDL, SS, CMT, [rows].

    Returns
    -------
    columns, note
        New columns; rows that end an infusion become EVID 2. What was done, as a sentence.

    Raises
    ------
    DataError
        For a code that is not understood, or an infusion without start or end.
    """
    out = {name: values.copy() for name, values in columns.items()}
    evid = columns["EVID"]
    coded = evid > 3
    kind, compartment, flag = _parts(evid)
    for i in np.flatnonzero(coded):
        if evid[i] <= 99 or kind[i] not in (0, 1, 2) or flag[i] not in _STEADY:
            raise table.refused(
                i,
                "EVID",
                f"{evid[i]:g} is no event code of RxODE that is understood",
                allowed=_MEANINGS,
                remedy="write the record with NONMEM's codes 0 to 4",
            )
    rows = np.flatnonzero(coded)
    out["EVID"][rows] = DOSE
    out["CMT"][rows] = compartment[rows]
    out["SS"][rows] = [_STEADY[int(flag[i])] for i in rows]
    out["RATE"][rows] = 0.0
    infusions = 0
    open_: dict[tuple, list[int]] = {}
    for i in rows[kind[rows] != _BOLUS]:
        rate = columns["AMT"][i]
        key = (identity[i].item(), int(compartment[i]), round(abs(float(rate)), 9))
        if rate > 0:
            open_.setdefault(key, []).append(int(i))
            continue
        begun = open_.get(key)
        if not begun:
            raise table.refused(
                i,
                "AMT",
                f"{rate:g} ends an infusion that was not begun",
                remedy=f"put a row with {-rate:g} before it",
            )
        j = begun.pop(0)
        duration = float(time[i] - time[j])
        if duration <= 0:
            raise table.refused(
                i,
                "TIME",
                f"the infusion of row {table.lines[j]} ends when it begins",
                remedy="correct the time of its end",
            )
        out["RATE"][j], out["AMT"][j] = -rate, -rate * duration
        out["EVID"][i] = OTHER
        for name in ("AMT", "RATE", "II", "ADDL", "SS"):
            out[name][i] = 0.0
        infusions += 1
    for left in open_.values():
        for j in left:
            raise table.refused(
                j,
                "AMT",
                f"the infusion with rate {columns['AMT'][j]:g} has no end",
                remedy=f"put a row with AMT {-columns['AMT'][j]:g} where it ends",
            )
    boluses = int(np.sum(kind[rows] == _BOLUS))
    note = (
        f"EVID was read as RxODE's codes: {boluses} boluses, {infusions} infusions"
        + (" (AMT was a rate; rows with the negative rate end them)" if infusions else "")
        + "; RATE was not read"
    )
    if np.any(kind[rows] == _FIXED_DURATION):
        note += (
            "; codes of a fixed duration (2 before the last four digits) are rates here: a "
            "bioavailability in the model changes their duration, and in RxODE their rate"
        )
    return out, note


def _parts(evid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind of event, compartment, steady-state flag."""
    code = np.where(np.isfinite(evid), evid, 0).astype(np.int64)
    return code // 10_000 % 10, code // 100_000 * 100 + code // 100 % 100, code % 100
