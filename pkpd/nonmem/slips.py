"""Slips that a stream is read in spite of, each told once; and equations that are not all there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.nonmem.advan import GENERAL
from pkpd.nonmem.carried import given_variables
from pkpd.nonmem.evaluate import Evaluator, choose_element
from pkpd.nonmem.input_data import DataRecord, Items
from pkpd.nonmem.inspect_code import assigned, assignments, reads
from pkpd.nonmem.program import OBSERVED, Live, Program, data_statements
from pkpd.nonmem.steps import Step
from pkpd.nonmem.tree import Number

_ALWAYS = {"ID", "DV", "MDV", "EVID", "TIME", "L2"}
_OF_DOSES = {"AMT", "RATE", "II", "ADDL", "SS", "CMT"}


def refuse_missing_equations(program: Program) -> None:
    """Refuse ``$DES`` where the slope of a compartment is never set, or there is none of a slope.

    Raises
    ------
    PkpdError
        Naming the compartment.
    """
    c = program.compartments
    if program.des is None or c.advan not in GENERAL:
        return
    record, given = program.des.record, assigned(program.des.statements)
    for n, name in enumerate(c.names, start=1):
        if f"DADT({n})" not in given:
            record.refuse(
                f"DADT({n}) is never set, and $MODEL has {c.size} compartments ({n} is {name})",
                remedy=f"write its equation, or DADT({n}) = 0 where nothing changes it",
            )
    wanted = {f"DADT({n})" for n in range(1, c.size + 1)}
    for one, _ in assignments(program.des.statements):
        if one.target.startswith("DADT(") and one.target not in wanted:
            record.refuse(
                f"{one.target} is set, and $MODEL has {c.size} compartments",
                one.line,
                remedy="name the compartment in $MODEL",
            )


def slips_of(
    program: Program,
    steps: Sequence[Step],
    acting: Live,
    items: Items,
    given: DataRecord,
    data: Dataset,
) -> list[str]:
    """Sentences, without a full stop, on what is read otherwise than it may be meant.

    Parameters
    ----------
    program, steps
        What the stream says.
    acting
        What of the program acts on the observations.
    items, given
        Data items, and the record that names their file.
    data
        The data set that is made of them.
    """
    return [
        *_absent(program, acting, items, given),
        *_unmeasured(items, given, data),
        *_missing(acting, items, given, data),
        *_no_doses(program, items),
        *_at_bounds(program),
        *_not_laplacian(program, steps, acting, data),
    ]


def _absent(program: Program, acting: Live, items: Items, given: DataRecord) -> Iterator[str]:
    """Name the data items that something reads and the file has no column for."""
    used = _ALWAYS | (_OF_DOSES if program.compartments.size else set())
    used |= {one.column for one in given.conditions}
    used |= _read_by((*acting.pk, *acting.des, *acting.error))
    names = [name for name in items.absent if name in used]
    if names:
        yield (
            f"{items.source} has no column for {', '.join(names)}, which $INPUT names and the "
            f"model reads: the value is {given.null:g} in every record; look whether $INPUT names "
            "the columns in their order"
        )


def _unmeasured(items: Items, given: DataRecord, data: Dataset) -> Iterator[str]:
    """Count the observations without a value, and name the first."""
    rows = np.sort(data.observations.row)
    if "DV" not in items.blank or "DV" in items.absent:
        return
    rows = rows[items.blank["DV"][rows]]
    if rows.size:
        yield (
            f"{items.source}, line {items.numbers[rows[0]]}: {rows.size} "
            f"observation{'s have' if rows.size > 1 else ' has'} no DV, which NM-TRAN reads as "
            f"{given.null:g}; write MDV = 1 where nothing was measured"
        )


def _missing(acting: Live, items: Items, given: DataRecord, data: Dataset) -> Iterator[str]:
    """Count the empty cells of data items that the model reads, and name the first."""
    moving = {"ID", "TIME"} | _read_by((*acting.pk, *acting.des))
    at_values = _read_by(acting.error) - moving
    observed = np.isin(np.arange(len(items.numbers)), data.observations.row)
    for name, blank in items.blank.items():
        if name in items.absent or name in _OF_DOSES | {"DV", "MDV", "EVID"}:
            continue
        rows = np.flatnonzero(blank & ((name in moving) | ((name in at_values) & observed)))
        if rows.size:
            yield (
                f"{items.source}, line {items.numbers[rows[0]]}, column {name}: {rows.size} "
                f"record{'s have' if rows.size > 1 else ' has'} no {name}, which NM-TRAN reads as "
                f"{given.null:g}; write its value in every record"
            )


def _no_doses(program: Program, items: Items) -> Iterator[str]:
    """Name records at which PREDPP stops: doses within others, events that count as observed."""
    if not program.compartments.size or "EVID" not in items.columns:
        return
    evid = items.columns["EVID"]
    for name in ("AMT", "RATE", "SS", "II", "ADDL"):
        rows = np.flatnonzero((items.columns.get(name, 0.0) != 0) & np.isin(evid, (0, 2, 3)))
        if rows.size:
            yield _stops(items, rows, name, "it is passed over: write EVID 1, or 0 there")
            break
    rows = np.flatnonzero((items.columns.get("MDV", 1.0) == 0) & (evid != 0))
    if rows.size:
        yield _stops(items, rows, "MDV", "its DV is no observation: write MDV 1")


def _stops(items: Items, rows: np.ndarray, name: str, what: str) -> str:
    first = rows[0]
    return (
        f"{items.source}, line {items.numbers[first]}, column {name}: "
        f"{items.columns[name][first]:g} on a record with EVID {items.columns['EVID'][first]:g} "
        f"({rows.size} in all), where PREDPP stops; {what}"
    )


def _read_by(statements: Sequence[Any]) -> set[str]:
    """Names that assignments read, conditions included."""
    return set().union(
        *(
            reads(one.value).union(*map(reads, conditions))
            for one, conditions in assignments(statements)
        )
    )


def _at_bounds(program: Program) -> Iterator[str]:
    """Name the fixed effects that start at one of their bounds and are not held."""
    for number, theta in enumerate(program.thetas, start=1):
        bounds = (theta.low, theta.high)
        at = [b for b, there in zip(bounds, theta.bounded, strict=True) if there]
        if not theta.held and theta.value in at:
            yield (
                f"{program.source}, line {theta.line}, $THETA: THETA{number} starts at its bound "
                f"{theta.value:g} and is not FIX; NONMEM asks for a start between the bounds, and "
                "a fit here moves such a THETA without them"
            )


def _not_laplacian(
    program: Program, steps: Sequence[Step], acting: Live, data: Dataset
) -> Iterator[str]:
    """Say which objective is that of a likelihood for which LAPLACIAN was not asked."""
    flagged = _flagged(program, acting, data)
    step = steps[-1] if steps else None
    if step is not None and step.method in ("foce", "focei") and (flagged or step.likelihood):
        what = "F_FLAG" if flagged else "LIKELIHOOD" if step.likelihood == 1 else "-2LL"
        yield (
            f"{program.source}, line {step.line}, $ESTIMATION: {what} makes Y a likelihood, for "
            "which NONMEM asks for LAPLACIAN; the objective evaluated here is that of "
            f"{step.words}"
        )


def _flagged(program: Program, acting: Live, data: Dataset) -> bool:
    """Whether the code makes a likelihood of any observation by ``F_FLAG``."""
    every = [one for one, _ in assignments((*acting.pk, *acting.error)) if one.target == "F_FLAG"]
    if all(one.value == Number(0.0) for one in every):
        return False
    blocks = data_statements(acting, program)
    if not any("F_FLAG" in assigned(block) for block in blocks):
        return True  # decided by more than the data
    seen = data.observations
    values: dict[str, Any] = {
        name: value[seen.subject, seen.record] if np.ndim(value) == 2 else value
        for name, value in {**given_variables(data), **data.covariates}.items()
    }
    values[OBSERVED] = 1.0
    run = Evaluator(values, lambda name, number: choose_element(name, number, values))
    for block in blocks:
        run.run(block)
    return bool(np.any(np.asarray(values.get("F_FLAG", 0.0)) != 0))
