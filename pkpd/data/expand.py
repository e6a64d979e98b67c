"""Doses that follow from event records: additional doses and steady-state doses.

Everything here depends on the data alone (never on parameters), so it is worked out once with
numpy; lag times, bioavailability, durations and rates come in later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pkpd.data.events import EventTable


@dataclass(frozen=True, eq=False)
class DoseSchedule:
    """Doses of each subject, padded to ``[B, D]``, and its steady-state records, ``[B, Q]``.

    Attributes
    ----------
    record
        Record that ordered the dose.
    shift
        Time after that record (h): a multiple of II.
    amt, rate, cmt
        As on the record; ``cmt`` counts from 0, the default compartment filled in.
    valid
        False in the padding.
    first
        True for the dose of the record itself, False for an additional one.
    dose_of_record
        Column of the record's own dose, -1 where the record gives none, [B, N].
    infusions
        Columns that hold an infusion for some subject.
    ss_record, ss_ii, ss_amt, ss_rate, ss_cmt, ss_constant, ss_valid
        Steady-state records; ``ss_constant`` marks a constant infusion (AMT 0, II 0).
    """

    record: np.ndarray
    shift: np.ndarray
    amt: np.ndarray
    rate: np.ndarray
    cmt: np.ndarray
    valid: np.ndarray
    first: np.ndarray
    dose_of_record: np.ndarray
    infusions: np.ndarray
    ss_record: np.ndarray
    ss_ii: np.ndarray
    ss_amt: np.ndarray
    ss_rate: np.ndarray
    ss_cmt: np.ndarray
    ss_constant: np.ndarray
    ss_valid: np.ndarray


def expand(events: EventTable, default_compartment: int = 1) -> DoseSchedule:
    """Write out additional doses and collect steady-state records.

    An additional dose later than the last record of its segment cannot be seen by any record
    (a lag only delays it), so it is left out.

    Parameters
    ----------
    events
        The records.
    default_compartment
        Compartment (from 1) of a dose record whose CMT is 0.

    Returns
    -------
    DoseSchedule
        Doses and steady-state records.
    """
    n_subjects, n_records = events.shape
    doses: list[list[tuple]] = []
    steady: list[list[tuple]] = []
    own = np.full((n_subjects, n_records), -1, dtype=np.int64)
    for b in range(n_subjects):
        mine: list[tuple] = []
        mine_ss: list[tuple] = []
        for n in np.flatnonzero(events.is_dose[b]):
            cmt = int(events.cmt[b, n] or default_compartment) - 1
            amt, rate, ii = events.amt[b, n], events.rate[b, n], events.ii[b, n]
            constant = amt == 0
            if events.ss[b, n] > 0:
                mine_ss.append((n, ii, amt, rate, cmt, constant))
            if constant:
                # a constant infusion at steady state ends at its record: nothing follows
                continue
            own[b, n] = len(mine)
            last = events.segment_end[b, n] - events.time[b, n]
            count = 0 if ii == 0 else min(int(events.addl[b, n]), int(np.floor(last / ii + 1e-9)))
            mine.extend((n, k * ii, amt, rate, cmt, k == 0) for k in range(count + 1))
        doses.append(mine)
        steady.append(mine_ss)
    record, shift, amt, rate, cmt, first, valid = _padded(doses, 6)
    ss_record, ss_ii, ss_amt, ss_rate, ss_cmt, ss_constant, ss_valid = _padded(steady, 6)
    return DoseSchedule(
        record=record.astype(np.int64),
        shift=shift,
        amt=amt,
        rate=rate,
        cmt=cmt.astype(np.int64),
        valid=valid,
        first=first.astype(bool),
        dose_of_record=own,
        infusions=np.flatnonzero(np.any(rate != 0, axis=0)),
        ss_record=ss_record.astype(np.int64),
        ss_ii=ss_ii,
        ss_amt=ss_amt,
        ss_rate=ss_rate,
        ss_cmt=ss_cmt.astype(np.int64),
        ss_constant=ss_constant.astype(bool),
        ss_valid=ss_valid,
    )


def _padded(rows: list[list[tuple]], fields: int) -> list[np.ndarray]:
    """Turn lists of tuples into zero-padded arrays [B, width], and a mask."""
    width = max(len(row) for row in rows)
    arrays = [np.zeros((len(rows), width)) for _ in range(fields)]
    valid = np.zeros((len(rows), width), dtype=bool)
    for b, row in enumerate(rows):
        valid[b, : len(row)] = True
        for d, values in enumerate(row):
            for array, value in zip(arrays, values, strict=True):
                array[b, d] = value
    return [*arrays, valid]
