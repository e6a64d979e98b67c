"""What of a program acts on a data set's observations, and of which compartment ``F`` is."""

from __future__ import annotations

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import DataError
from pkpd.nonmem.inspect_code import assigned
from pkpd.nonmem.program import Live, Program, live, used_names
from pkpd.nonmem.solving import dosing_parameters


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


def what_acts(program: Program, data: Dataset) -> Live:
    """Find what of a program acts on the observations of a data set.

    Raises
    ------
    PkpdError
        For a name that is read and never set, a TRANS that its ADVAN lacks, or no ``Y``.
    DataError
        For a dose into, or a prediction of, a compartment that there is not.
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
