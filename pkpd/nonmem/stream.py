"""Reading a control stream: a population model, its data, and a report on what was read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pkpd.arguments import NONE, PATH, check_arguments
from pkpd.data.dataset import Dataset, Observations
from pkpd.data.events import ACTING, EventTable
from pkpd.data.shared_ids import BODY
from pkpd.errors import DataError, PkpdError, PkpdWarning
from pkpd.fitting.model.specification import PopulationModel
from pkpd.nonmem.acting import what_acts
from pkpd.nonmem.advan import GENERAL, read_compartments
from pkpd.nonmem.code import parse_code, replace_names, tokens
from pkpd.nonmem.input_data import (
    Items,
    event_columns,
    find_file,
    individuals,
    read_data,
    read_input,
    read_items,
)
from pkpd.nonmem.inspect_code import assigned
from pkpd.nonmem.prior import read_starting_values, without_prior
from pkpd.nonmem.program import OBSERVED, Program
from pkpd.nonmem.records import (
    IGNORED,
    REFUSED,
    Line,
    Problem,
    Record,
    choose_problem,
    read_records,
    stream_text,
)
from pkpd.nonmem.slips import refuse_missing_equations, slips_of
from pkpd.nonmem.steps import Step, read_steps
from pkpd.nonmem.structure import LINE, StreamStructure
from pkpd.nonmem.subscripts import labelled
from pkpd.nonmem.tree import Binary, Code, If, Name, Number
from pkpd.nonmem.values import population_model, renewed
from pkpd.nonmem.verify import Verification, verify


@dataclass(frozen=True, eq=False)
class ControlStream:
    """A control stream as a population model with its data.

    Attributes
    ----------
    path
        The stream, or the listing that holds it.
    title
        Text of ``$PROBLEM``.
    model, data
        For `pkpd.fit` and everything that takes a population model.
    steps
        Estimation steps of the stream.
    labels
        Comments of the stream on its parameters, by name of the parameter.
    notes
        What was left out on purpose, and what was decided.
    """

    path: Path
    title: str
    model: PopulationModel
    data: Dataset
    steps: tuple[Step, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def structure(self) -> StreamStructure:
        """The stream as a structural model."""
        structure = self.model.structure
        assert isinstance(structure, StreamStructure)
        return structure

    def with_values(self, values: Mapping[str, float]) -> ControlStream:
        """Return the stream with other starting values, by name of parameter."""
        return renewed(self, values)

    def verify(self, beside: Sequence[str | Path] | None = None) -> Verification:
        """Compare with what NONMEM printed; see `pkpd.nonmem.verify.verify`."""
        return verify(self, beside)

    def summary(self) -> str:
        """Say in a few lines what was read."""
        events, seen = self.data.events, self.data.observations
        c = self.structure.program.compartments
        kind = f"ADVAN{c.advan}, {c.size} compartment{'s' * (c.size != 1)}" if c.size else "$PRED"
        thetas = [p for p in self.model.parameters if p.name.startswith("THETA")]
        text = [
            f"{self.path.name}: {self.title or 'without title'}",
            f"model: {kind}, {len(thetas)} fixed effects, {len(self.model.varying)} random effects",
            f"data: {events.source}, {len(self.data.subjects)} individuals, "
            f"{int(events.valid.sum())} records, {len(seen)} observations",
            *([] if self.model.joint is None else [f"prior: {self.model.joint!r}"]),
            *self.notes,
        ]
        return "\n".join(text)


def read_control_stream(
    path: str | Path,
    *,
    data: str | Path | None = None,
    problem: int | None = None,
) -> ControlStream:
    """Read a NONMEM control stream: population model and data set.

    Parameters
    ----------
    path
        Control stream, or a listing (``.lst``), which holds a copy of its stream.
    data
        Data file; default the one that ``$DATA`` names, or one of that name beside the stream.
    problem
        Number of the problem (from 1); where the stream has several, the first that has data and
        an estimation if left out.

    Returns
    -------
    ControlStream
        ``model`` and ``data`` for `pkpd.fit`; ``verify()`` compares with NONMEM's own output.

    Raises
    ------
    PkpdError
        For a record or line that is not supported; the message names both. Nothing is left out in
        silence: what does not act on the model is in ``notes``.
    """
    check_arguments("read_control_stream", path=(path, PATH), data=(data, PATH | NONE))
    path = Path(path)
    lines = stream_text(path)
    problems = read_records(lines, path.name)
    chosen = choose_problem(problems, problem, path.name)
    for record in chosen.records:
        if record.name in REFUSED:
            record.refuse(f"${record.name} ({REFUSED[record.name]}) is not supported")
    notes = _left_out(chosen)
    if problem is None and len(problems) > 1:
        number = next(i for i, one in enumerate(problems, start=1) if one is chosen)
        notes.append(
            f"problem {number} of {len(problems)} is read, the first with data and estimation; "
            "problem= chooses another"
        )
    named = _needed(chosen, "INPUT", path.name)
    columns = read_input(named)
    given = read_data(_needed(chosen, "DATA", path.name))
    steps = read_steps(chosen.all("ESTIMATION"))
    slips: list[str] = []
    program = _program(
        chosen, path.name, [n for c in columns if not c.dropped for n in c.names], steps, slips
    )
    program = replace(program, text=tuple(lines) if len(problems) == 1 else ())
    notes += _on_prior(program, chosen)
    if without_prior(chosen):
        program = replace(program, prior=None)
    for slip in slips:
        warnings.warn(f"{slip}.", PkpdWarning, stacklevel=2)
    notes += slips
    for code in (program.pk, program.des, program.error):
        notes += [f"left out: {note}" for note in (code.notes if code else ())]
    items = read_items(
        given, columns, find_file(given, path.parent, None if data is None else Path(data))
    )
    notes += list(items.notes)
    dataset = _dataset(items, program, notes, named)
    acting = what_acts(program, dataset)
    told = slips_of(program, steps, acting, items, given, dataset)
    for slip in told:
        warnings.warn(f"{slip}.", PkpdWarning, stacklevel=2)
    notes += told
    notes += _of_methods(program, steps, dataset)
    begins = program.pk and any(name.startswith("A_0(") for name in assigned(program.pk.statements))
    if program.compartments.size and not begins and not dataset.events.is_dose.any():
        warnings.warn(
            f"{path.name}: no record of {dataset.events.source} is a dose; look whether $INPUT "
            "names the columns in their order.",
            PkpdWarning,
            stacklevel=2,
        )
    labels = _labels(program)
    model = population_model(program)
    return ControlStream(path, chosen.title, model, dataset, steps, labels, tuple(notes))


def _of_methods(program: Program, steps: Sequence[Step], dataset: Dataset) -> Iterator[str]:
    """Say what of the estimation methods is not NONMEM's to the last digit."""
    for step in steps:
        if step.words in ("HYBRID", "STIELTJES"):
            yield f"$ESTIMATION asks for {step.words}, which is not done here"
    correlated = "L2" in dataset.covariates and any(block.size > 1 for block in program.sigmas)
    if correlated and any(step.method in ("foce", "focei") for step in steps):
        yield (
            "records of one L2 have correlated errors: where their variances depend on ETAs, the "
            "objective of FOCE changes in its second decimal with the order of such records, as "
            "each is taken given those before it; LAPLACIAN is free of that"
        )


def _needed(problem: Problem, name: str, source: str) -> Record:
    record = problem.one(name)
    if record is None:
        raise PkpdError(where=source, what=f"has no ${name} record")
    return record


def _left_out(problem: Problem) -> list[str]:
    found = dict.fromkeys(record.name for record in problem.records if record.name in IGNORED)
    return [f"left out: ${name} ({IGNORED[name]})" for name in found]


def _program(
    problem: Problem,
    source: str,
    columns: Sequence[str],
    steps: Sequence[Step],
    slips: list[str],
) -> Program:
    replaced = labelled(problem) | _abbreviations(problem)
    c = read_compartments(problem)
    blocks: dict[str, Code | None] = {}
    for name in ("PK", "DES", "ERROR", "PRED"):
        record = problem.one(name)
        blocks[name] = None if record is None else parse_code(_replaced(record, replaced))
    if not c.size:
        error = blocks["PRED"]
        if error is None:
            raise PkpdError(where=source, what="has neither $SUBROUTINES nor $PRED")
    else:
        error = blocks["ERROR"]
        for name in ("PK", "ERROR") + (("DES",) if c.advan in GENERAL else ()):
            if blocks[name] is None:
                raise PkpdError(where=source, what=f"has no ${name} record", remedy="add it")
        if blocks["PRED"] is not None:
            blocks["PRED"].record.refuse("$PRED together with $SUBROUTINES")
    assert error is not None
    _check_calls(blocks)
    if error.calls == 0:
        seen = Binary("==", Name(OBSERVED), Number(1.0))
        error = replace(error, statements=(If(((seen, error.statements),), 0),))
    likelihood = max((step.likelihood for step in steps), default=0)
    start = read_starting_values(problem, slips)
    program = Program(
        source,
        c,
        blocks["PK"] if c.size else None,
        blocks["DES"] if c.advan in GENERAL else None,
        error,
        start.thetas,
        start.omegas,
        start.sigmas,
        tuple(columns),
        likelihood,
        start.prior,
    )
    refuse_missing_equations(program)
    return program


def _on_prior(program: Program, problem: Problem) -> list[str]:
    prior = program.prior
    if prior is None:
        return []
    if without_prior(problem):
        return ["$PRIOR is left out, as the last estimation step says NOPRIOR=1"]
    out = []
    if any(block.same for block in program.omegas[: len(prior.omega.centre)]):
        out.append("the prior of a block that SAME repeats counts once")
    return out


def _check_calls(blocks: Mapping[str, Code | None]) -> None:
    """Refuse calling protocols that would change what is computed."""
    pk = blocks["PK"]
    if pk is not None and pk.calls not in (None, -1, -2):
        pk.record.refuse(
            f"CALLFL={pk.calls}: $PK is not called at every record", remedy="leave the protocol out"
        )
    error = blocks["ERROR"]
    if error is not None and error.calls not in (None, -1, 0):
        error.record.refuse(
            f"CALLFL={error.calls}: $ERROR is called once per individual", remedy="leave it out"
        )


def _abbreviations(problem: Problem) -> dict[str, str]:
    """Read ``$ABBR REPLACE THETA(CL)=THETA(1)``; other options act on derivatives."""
    out: dict[str, str] = {}
    for record in problem.all("ABBREVIATED"):
        other, *pairs = re.split(r"\bREPL[A-Z]*\s", record.text.upper())
        for pair in pairs:
            before, _, after = (
                part.strip().strip("'\"").replace(" ", "") for part in pair.partition("=")
            )
            if not before or not after or set(after) & set(",;=") or None in tokens(before):
                record.refuse("this replacement is not read", allowed="REPLACE THETA(CL)=THETA(1)")
            out[before] = after
        if found := re.match(r"\s*(COMRES|COMSAV|FUNCTION|VECTOR)", other):
            record.refuse(f"{found.group(1)} is not read")
    return out


def _replaced(record: Record, replaced: Mapping[str, str]) -> Record:
    """Record with names replaced as whole words, ``THETA(CL)`` by ``THETA(1)``."""
    if not replaced:
        return record
    lines = tuple(
        line
        if line.text.startswith('"')
        else Line(line.number, replace_names(line.text, replaced), line.comment)
        for line in record.lines
    )
    return Record(record.name, lines, record.source)


def _dataset(items: Items, program: Program, notes: list[str], named: Record) -> Dataset:
    subject = individuals(items, not program.compartments.size, named)
    columns = event_columns(items, subject, not program.compartments.size)
    identity = items.columns.get("ID", subject + 1.0)
    labels, counts = np.unique(
        identity[np.flatnonzero(np.diff(subject, prepend=-1))], return_counts=True
    )
    own_labels = subject + 1 if np.any(counts > 1) else identity
    if np.any(counts > 1):
        notes.append(
            f"ID {labels[counts > 1][0]:g} comes back after others: each stretch is an individual"
        )
    dose = np.isin(columns["EVID"], (1, 4))
    acting = np.isin(columns["EVID"], ACTING) if program.compartments.size else dose & False
    for i in np.flatnonzero((columns["MDV"] >= 100) & acting):
        raise DataError(
            where=f"{items.source}, line {items.numbers[i]}, column MDV",
            what=f"{columns['MDV'][i]:g} on a record with EVID {columns['EVID'][i]:g}, which "
            "NONMEM's estimation leaves out",
            remedy="write 1 where it counts, or leave the row out by IGNORE",
        )
    if program.compartments.size:
        given = {
            k.lower(): np.where(dose, columns[k], 0.0)
            for k in ("AMT", "RATE", "II", "ADDL", "SS", "CMT")
        }
        evid = columns["EVID"]
    else:
        zero = np.zeros(len(subject))
        given, evid = dict.fromkeys(("amt", "rate", "ii", "addl", "ss", "cmt"), zero), zero
        dose = np.zeros(len(subject), bool)
    # what PREDPP takes for no dose at all
    empty = dose & (given["amt"] == 0) & (given["ss"] == 0)
    if np.any(empty):
        notes.append(f"{int(empty.sum())} dose records without an amount are other events")
        evid = np.where(empty, np.where(evid == 4, 3.0, 2.0), evid)
        given = {k: np.where(empty, 0.0, v) for k, v in given.items()}
    time = columns["TIME"] if program.compartments.size else _increasing(columns["TIME"], subject)
    events = EventTable.from_columns(
        own_labels.astype(np.int64) if np.all(own_labels == np.round(own_labels)) else own_labels,
        time,
        source=items.source,
        numbers=items.numbers,
        evid=evid,
        described={name: items.columns[name] for name in BODY if name in items.columns},
        **given,
    )
    observed = events.from_rows((columns["EVID"] == 0) & (columns["MDV"] == 0)) & events.valid
    rows, places = np.nonzero(observed)
    if "DV" not in items.columns:
        named.refuse("has no DV", remedy="name the measured values DV")
    value = events.from_rows(items.columns["DV"])
    count = len(rows)
    seen = Observations(
        rows,
        places,
        events.time[rows, places],
        np.zeros(count, dtype=np.int64),
        value[rows, places],
        np.zeros(count, dtype=np.int64),
        np.full(count, -np.inf),
        events.row[rows, places],
    )
    kept: dict[str, np.ndarray] = {name: events.from_rows(v) for name, v in items.columns.items()}
    for name in ("EVID", "MDV", "AMT", "CMT"):
        kept.setdefault(name, events.from_rows(columns[name]))
    kept["TIME"] = events.from_rows(columns["TIME"])
    return Dataset(events, seen, (LINE,), kept, None, tuple(items.notes))


def _increasing(time: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """Return times that order the records of $PRED, which may come in any order."""
    steps = np.diff(time)
    if np.all((steps >= 0) | (np.diff(subject) != 0)):
        return time
    return np.arange(len(time), dtype=float)


def _labels(program: Program) -> dict[str, str]:
    out: dict[str, Any] = {f"THETA{i}": t.label for i, t in enumerate(program.thetas, start=1)}
    for word, blocks in (("omega_ETA", program.omegas), ("SIGMA", program.sigmas)):
        number = 1
        for block in blocks:
            for i, label in enumerate(block.labels or ("",) * block.size):
                out[f"{word}{number + i}"] = label
            number += block.size
    return {name: label for name, label in out.items() if label}
