"""What of a program acts on a data set's observations, and of which compartment ``F`` is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.data.events import INSERTED
from pkpd.errors import DataError
from pkpd.nonmem.inspect_code import assigned, assignments
from pkpd.nonmem.program import Live, Program, live, used_names
from pkpd.nonmem.solving import dosing_parameters
from pkpd.nonmem.subscripts import refuse_subscripts


def predicted_compartments(program: Program, data: Dataset) -> np.ndarray:
    """Compartment that ``F`` is of at every record, int[B, N].

    CMT says it at observations, PCMT at other records (whose CMT is that of a dose or a switch);
    where it is 0 or there is none, it is the default observation compartment (NONMEM Help, PCMT).
    So it is at a compartment that there is not where nothing reads ``F``, as of effects that the
    code computes from amounts.
    """
    c, error = program.compartments, program.error.statements
    none = np.zeros(data.events.shape)
    observed = data.events.evid == 0
    cmt = np.where(observed, data.covariates.get("CMT", none), data.covariates.get("PCMT", none))
    there = cmt != 0
    if "F" not in used_names(error, assigned(error)):
        there &= np.abs(cmt) <= c.size
    return np.where(there, np.abs(cmt), c.observed).astype(int)


_OF_EVENTS = ("TIME", "EVID", "AMT", "RATE", "II", "ADDL", "SS", "CMT")
_NONE_AT_NEW = (*_OF_EVENTS[1:], "PCMT", "DV")


def with_items(program: Program, data: Dataset) -> Dataset:
    """Give a data set the data items of events that a stream's code may read.

    Data that the stream did not name itself have covariates alone. Records that were inserted to
    ask for predictions hold what stands in a record near them: they are observations at their own
    time, of the default compartment.
    """
    events, seen = data.events, data.observations
    found = dict(data.covariates)
    for name in _OF_EVENTS:
        if name in program.columns and name not in found:
            found[name] = getattr(events, name.lower()).astype(float)
    there = np.zeros(events.shape)
    there[seen.subject, seen.record] = 1.0
    if "MDV" in program.columns and "MDV" not in found:
        found["MDV"] = 1.0 - there
    new = events.row == INSERTED
    if new.any():
        nothing = dict.fromkeys(_NONE_AT_NEW, 0.0) | {"MDV": 0.0, "TIME": events.time}
        found |= {n: np.where(new, nothing[n], found[n]) for n in nothing.keys() & found.keys()}
    return replace(data, covariates=found)


def _refuse_absent(program: Program, acts: Live, data: Dataset) -> None:
    """Refuse data without an item that the code reads, which would be 0.

    Raises
    ------
    DataError
        Naming it.
    """
    read: set[str] = set()
    for block in (acts.pk, acts.des, acts.error):
        read |= used_names(block, {one.target for one, _ in assignments(block)})
    absent = sorted(read & set(program.columns) - data.covariates.keys())
    if absent:
        raise DataError(
            where=data.events.source,
            what=f"it has no {absent[0]}, which {program.source} reads",
            allowed=", ".join(data.covariates),
            remedy=f'read it with covariates=["{absent[0]}"]',
        )


def what_acts(program: Program, data: Dataset) -> Live:
    """Find what of a program acts on the observations of a data set.

    Raises
    ------
    PkpdError
        For a name that is read and never set, a TRANS that its ADVAN lacks, or no ``Y``.
    DataError
        For a dose into, or a prediction of, a compartment that there is not, and for data without
        an item that the code reads.
    """
    if "Y" not in assigned(program.error.statements):
        program.error.record.refuse("Y is never set")
    events, seen = data.events, data.observations
    cmt = predicted_compartments(program, data)
    _refuse_missing(program, data, cmt)
    dosing = dosing_parameters(program, events)
    mine = live(program, sorted(set(cmt[seen.subject, seen.record].tolist())), dosing)
    if set(mine.kept) - set(mine.from_data):
        # what is kept may be a prediction of any record
        mine = live(program, sorted(set(cmt[events.valid].tolist())), dosing)
    _refuse_absent(program, mine, data)
    refuse_subscripts(program, mine, data)
    return mine


def _refuse_missing(program: Program, data: Dataset, cmt: np.ndarray) -> None:
    c, events = program.compartments, data.events
    if not c.size:
        return
    for column, given, where in (
        ("cmt", events.cmt, events.is_dose),
        ("cmt", cmt, events.evid == 0),
        ("PCMT", cmt, events.evid != 0),
    ):
        for b, n in np.argwhere(events.valid & where & (given > c.size))[:1]:
            output = given[b, n] == c.size + 1
            raise DataError(
                where=events.place(b, n, column),
                what=f"compartment {given[b, n]} "
                + ("is the output compartment, which is not computed" if output else "is not there")
                + f": {program.source} has {c.size}",
                allowed=", ".join(f"{i} {name}" for i, name in enumerate(c.names, start=1)),
                remedy="correct it, or write a compartment that collects in $MODEL and $DES"
                if output
                else "correct it",
            )
