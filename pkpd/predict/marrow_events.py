"""Doses of several drugs in one event table, told apart by compartment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pkpd.data.events import OTHER, RESET, RESET_AND_DOSE, EventTable
from pkpd.errors import DataError

if TYPE_CHECKING:
    from pkpd.predict.marrow import MarrowDrug, MarrowStructure


def drug_of_dose(structure: MarrowStructure, events: EventTable) -> np.ndarray:
    """Return the index of the drug of each record, -1 where it gives no dose, [B, N].

    Raises
    ------
    DataError
        If a dose goes to a compartment of no drug.
    """
    cmt = np.where(events.cmt > 0, events.cmt, structure.drugs[0].first_compartment)
    out = np.full(events.shape, -1, dtype=np.int64)
    for k, drug in enumerate(structure.drugs):
        within = cmt - drug.first_compartment
        out[events.is_dose & (within >= 0) & (within < drug.size)] = k
    lost = events.is_dose & (out < 0)
    if np.any(lost):
        b, n = np.argwhere(lost)[0]
        allowed = ", ".join(
            f"{drug.first_compartment + i} {name}" + (f" of {drug.name}" if drug.suffix else "")
            for drug in structure.drugs
            for i, name in enumerate(
                drug.pk.system.compartments if drug.pk is not None else ("doses",)
            )
        )
        raise DataError(
            where=events.place(b, n, "cmt"),
            what=f"a dose into compartment {events.cmt[b, n]}, which is of no drug",
            allowed=allowed,
            remedy="correct CMT, or give first_compartment= to marrow_model",
        )
    return out


def events_of(events: EventTable, drug: MarrowDrug, mine: np.ndarray) -> EventTable:
    """Event table of one drug: doses of others become other events, resets stay.

    A steady-state dose with SS = 1 resets the whole system, as in NONMEM: one of another drug
    leaves this one's compartments empty.

    Parameters
    ----------
    events
        The table of all drugs.
    drug
        The drug.
    mine
        True for records that dose it, [B, N].
    """
    foreign = events.is_dose & ~mine
    evid = np.where(foreign, OTHER, events.evid)
    empties = (events.evid == RESET_AND_DOSE) | (events.ss == 1)
    evid = np.where(foreign & empties, RESET, evid)
    # observations of a count stand in a compartment of the marrow, which the drug does not have
    cmt = np.where(mine & (events.cmt > 0), events.cmt - drug.first_compartment + 1, 0)
    cleared = {
        name: np.where(mine, getattr(events, name), 0)
        for name in ("amt", "rate", "ii", "addl", "ss")
    }
    return replace(events, evid=evid, cmt=cmt, **cleared)


def numbered_through(structure: MarrowStructure, events: EventTable) -> EventTable:
    """Table whose doses enter the compartments of all drugs, counted in the drugs' order."""
    owner, cmt, before = drug_of_dose(structure, events), np.zeros_like(events.cmt), 0
    for k, drug in enumerate(structure.drugs):
        own = np.where(events.cmt > 0, events.cmt - drug.first_compartment + 1, 0)
        own = np.where(own > 0, own, drug.kinetics.system.dose_compartment)
        cmt = np.where(owner == k, own + before, cmt)
        before += drug.size
    return replace(events, cmt=cmt)
