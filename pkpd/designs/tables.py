"""Decision tables of designs that look at the counts of the present dose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pkpd.arguments import NONE, a, check_arguments, from_to
from pkpd.designs.data import Action, Trials
from pkpd.designs.protocol import Design
from pkpd.designs.rules.interval import IntervalDesign
from pkpd.designs.rules.three_plus_three import RollingSix, ThreePlusThree
from pkpd.designs.rules.tite_boin import TiteBOIN
from pkpd.errors import PkpdError

LETTERS = {
    Action.ESCALATE: "E",
    Action.STAY: "S",
    Action.DEESCALATE: "D",
    Action.SUSPEND: "W",
    Action.STOP: "X",
}
"""Letters of a decision table: escalate, stay, de-escalate, wait, drop the dose."""


@dataclass(frozen=True)
class DecisionTable:
    """Decision for each number of patients and of DLTs at a dose that has neighbours.

    Attributes
    ----------
    patients
        Numbers of patients, shape ``(columns,)``.
    letters
        Of `LETTERS`, shape ``(columns, DLTs + 1)``; empty where there are more DLTs than patients.
    lowest
        DLTs from which the lowest dose is dropped and the trial stops, shape ``(columns,)``; -1 for
        never. Of interval designs alone: with `lowest_offset` fewer than at other doses.
    """

    patients: np.ndarray
    letters: np.ndarray
    lowest: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


@dataclass(frozen=True)
class PendingRow:
    """Decision for one state of the present dose with pending patients.

    Attributes
    ----------
    patients, dlts, pending
        Counts at the present dose.
    letters
        Decisions in the order of a rising total weight of the pending patients.
    at_least
        Weight from which each decision but the first holds.
    """

    patients: int
    dlts: int
    pending: int
    letters: tuple[str, ...]
    at_least: tuple[float, ...] = ()


def has_decision_table(design: Design) -> bool:
    """Whether a design's decisions depend on the counts of the present dose alone."""
    return isinstance(design, IntervalDesign | ThreePlusThree | RollingSix)


def decision_table(design: Design, most: int | None = None) -> DecisionTable:
    """Decisions of a design with all assessments ended.

    Parameters
    ----------
    design
        3+3, rolling six, or an interval design.
    most
        Patients at a dose, at most; by default what a trial can have, up to 30.

    Raises
    ------
    PkpdError
        If decisions depend on more than the present dose.

    Examples
    --------
    >>> from pkpd.designs import BOIN
    >>> table = decision_table(BOIN(levels=5, target=0.3), 3)
    >>> ["".join(row) for row in table.letters]
    ['ED', 'EDD', 'ESDX']
    """
    check_arguments("decision_table", design=(design, a(Design)), most=(most, from_to(1) | NONE))
    if not has_decision_table(design):
        what = "its decisions depend on the counts of all doses"
        remedy = "look at its dose-transition pathways (pkpd.designs.pathways)"
        raise PkpdError(where=design.name, what=what, remedy=remedy)
    if isinstance(design, IntervalDesign):
        patients = np.arange(1, (most or min(30, design.most_patients or 30)) + 1)
    else:
        patients = np.array([3, 6] if isinstance(design, ThreePlusThree) else range(1, 7))
        patients = patients[patients <= (most or 6)]
    letters = np.full((len(patients), patients[-1] + 1), "", dtype="<U1")
    for i, n in enumerate(patients):
        letters[i, : n + 1] = _letters(design, int(n), np.arange(n + 1), np.zeros(n + 1, int))
    if not isinstance(design, IntervalDesign):
        return DecisionTable(patients, letters)
    return DecisionTable(patients, letters, design.lowest_boundary(int(patients[-1])))


def _letters(design: Design, n: int, dlts: np.ndarray, pending: np.ndarray) -> list[str]:
    """Decide at the middle of three doses, the lower one having been tolerated by three."""
    count = len(dlts)
    treated, seen, waits = (np.zeros((count, 3), int) for _ in range(3))
    treated[:, 0], treated[:, 1] = 3, n
    seen[:, 1], waits[:, 1] = dlts, pending
    data = Trials(treated=treated, dlts=seen, current=np.full(count, 2), pending=waits)
    alone = replace(_three_doses(design), stops=(), most_patients=None)
    found = alone.decide(data)
    out = alone.eliminated(data)[:, 1]
    drops = out if isinstance(design, IntervalDesign) else np.zeros(count, bool)
    return ["X" if x else LETTERS[Action(int(a))] for x, a in zip(drops, found.action, strict=True)]


def _three_doses(design: Design) -> Design:
    plain = {"enough_at_dose": None} if isinstance(design, IntervalDesign) else {}
    return replace(design, levels=3, start=1, **plain)


def pending_table(design: Design, most: int, every: int | None = None) -> tuple[PendingRow, ...]:
    """Decisions of a design that goes on with patients pending.

    Parameters
    ----------
    design
        TITE-BOIN, or rolling six.
    most
        Patients at a dose, at most.
    every
        Print the rows of so many patients, twice as many, ...; by default the cohort's.

    Raises
    ------
    PkpdError
        If the design waits for everybody, or its decisions depend on all doses.

    Examples
    --------
    >>> from pkpd.designs import TiteBOIN
    >>> rows = pending_table(TiteBOIN(levels=3, target=0.2), 9)
    >>> [row for row in rows if (row.patients, row.dlts, row.pending) == (9, 1, 3)][0].letters
    ('S', 'E')
    """
    check_arguments(
        "pending_table",
        design=(design, a(Design)),
        most=(most, from_to(1)),
        every=(every, from_to(1) | NONE),
    )
    if not isinstance(design, TiteBOIN | RollingSix):
        what, remedy = "it has no table of pending patients", "ask for decision_table or pathways"
        raise PkpdError(where=design.name, what=what, remedy=remedy)
    step = every or design.cohort_size
    known = decision_table(design, most).letters
    rows = []
    for n in range(step, most + 1, step):
        for y in range(n + 1):
            for c in range(n - y + 1):
                if isinstance(design, TiteBOIN):
                    rows.append(_tite_row(design, n, y, c, str(known[n - 1, y])))
                else:
                    letter = _letters(design, n, np.array([y]), np.array([c]))[0]
                    rows.append(PendingRow(n, y, c, (letter,)))
    return tuple(rows)


def _tite_row(design: TiteBOIN, n: int, y: int, c: int, known: str) -> PendingRow:
    if c == 0 or known == "X":
        return PendingRow(n, y, c, (known,))
    up, down = (float(part) for part in design.thresholds(*np.array([n, y, c])))
    cuts = [cut for cut in (down, up) if 0 < cut < c]
    probes = [(a + b) / 2 for a, b in zip([0.0, *cuts], [*cuts, float(c)], strict=True)]
    letters = []
    for total in probes:
        state = (np.array([part]) for part in (n, y, c, total, 1.0))
        turn, waits = design.turns(*state)
        letters.append("W" if waits[0] else "DSE"[int(turn[0]) + 1])
    kept = [0, *(i for i in range(1, len(letters)) if letters[i] != letters[i - 1])]
    at_least = tuple(cuts[i - 1] for i in kept[1:])
    return PendingRow(n, y, c, tuple(letters[i] for i in kept), at_least)
